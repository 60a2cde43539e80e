"""Names, hosts and schemes."""
from certificates import authority, openssl
from trial import IMAGE, TAG, answer, bearer, case, each

HUB = ("registry-1.docker.io", "auth.docker.io", "index.docker.io", "docker.io")


def hub(t, name):
    """Docker's hub: one server that is its registry and its token server."""
    server = t.public(*HUB).serve(IMAGE, name, "1")
    values = [f'Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:{name}:pull"']
    return bearer(server, t.secret("hub-token-of-the-test"), values, f"/v2/{name}/.*")


@case("docker.io is registry-1.docker.io, with library/ where there is no slash", alone=True)
def docker_io_library(t):
    server = hub(t, "library/app")
    t.pulls("app:1")
    t.check({one.get("host") for one in server.seen(path="/v2/.*")} == {"registry-1.docker.io"}, f"hosts: {server.requests}")


@case("docker.io/user/app is not in library/", alone=True)
def docker_io_user(t):
    hub(t, "user/app")
    t.pulls("docker.io/user/app:1")


@case("the credentials of docker.io stand under https://index.docker.io/v1/", alone=True)
def docker_io_credentials(t):
    server = hub(t, "user/app")
    name, header = t.login()
    t.pulls("user/app:1", "--authfile", t.auths({"https://index.docker.io/v1/": name}))
    t.check([one.get("authorization") for one in server.seen(path="/token.*")] == [header], "the token server got other credentials")


@case("names with a port parse")
def name_with_port(t):
    server = t.app()
    t.pulls(f"localhost:{server.port}/app:1")


@case("names with an IPv6 literal parse")
def name_with_ipv6(t):
    server = t.registry(address="::1").serve(IMAGE, "app", "1")
    t.pulls(f"[::1]:{server.port}/app:1")
    t.check(server.seen(path=TAG)[0].get("host") == server.host, f"Host: {server.seen(path=TAG)[0].get('host')}")


@case("of name:tag@digest the digest wins")
def digest_wins(t):
    server = t.app()  # has another image with that tag
    server.content[TAG] = answer(500)
    t.pulls(f"{server.host}/app:1@{IMAGE.digest}")
    t.check(not server.seen("HEAD|GET", TAG), "the tag was asked for")


@case("a name without a tag means latest")
def default_tag(t):
    server = t.registry().serve(IMAGE, "app", "latest")
    t.pulls(f"{server.host}/app")


@case("plain HTTP on loopback is spoken without asking")
def plain_http_on_loopback(t):
    t.pulls(f"{t.app().host}/app:1")


@case("plain HTTP elsewhere only if asked for")
def plain_http_elsewhere(t):
    server = t.public("plain.test", tls=False, port=5000).serve(IMAGE, "app", "1")
    t.fails(f"{server.host}/app:1", words="plain.test")
    t.check(not server.requests, f"plain HTTP was spoken: {server.requests}")


@case("plain HTTP elsewhere works if asked for")
def plain_http_asked_for(t):
    server = t.public("asked.test", tls=False, port=5000).serve(IMAGE, "app", "1")
    t.pulls(f"{server.host}/app:1", "--tls-verify=false")


@case("a failure of https never falls back to http: nothing listens at 443, and 80 has the image")
def no_fall_back_to_port_80(t):
    server = t.public("fallback.test", tls=False).serve(IMAGE, "app", "1")
    t.fails("fallback.test/app:1", words="fallback.test")
    t.check(not server.requests, f"plain HTTP was spoken: {server.requests}")


def other_authority(t):
    return authority(t.place / "other")


@each("a failure of https never falls back to http, and a certificate that is not trusted is a failure", {
    "untrusted": lambda t: other_authority(t).issue(),
    "of_another_name": lambda t: t.world.certificate(("other.test",)),
})
def certificate(t, made):
    server = t.app(tls=made(t))
    t.fails(f"localhost:{server.port}/app:1", words="certificate")
    t.check(not server.requests, f"requests: {server.requests}")


@case("--tls-verify=false accepts an untrusted certificate, over TLS")
def certificate_not_verified(t):
    server = t.app(tls=other_authority(t).issue())
    t.pulls(f"{server.host}/app:1", "--tls-verify=false")


@case("--cert-dir has authorities to trust")
def certificate_directory(t):
    other = other_authority(t)
    server = t.app(tls=other.issue())
    t.pulls(f"{server.host}/app:1", "--cert-dir", other.folder)


@case("the authorities of the system are trusted")
def system_authorities(t):
    t.pulls(f"{t.public('trusted.test').serve(IMAGE, 'app', '1').host}/app:1")


@each("the authorities of the system are in a file, or by their hashes in a directory", {"file": True, "directory": False})
def system_authorities_by(t, in_file):
    other, folder = other_authority(t), t.place / "hashed"
    folder.mkdir()
    if not in_file:
        name = openssl("x509", "-hash", "-noout", "-in", other.certificate).decode().strip() + ".0"
        (folder / name).symlink_to(other.certificate)
    t.environment |= {"SSL_CERT_FILE": str(other.certificate if in_file else t.place / "none"), "SSL_CERT_DIR": str(folder)}
    server = t.app(tls=other.issue())
    t.pulls(f"{server.host}/app:1")
    stranger = t.app(tls=authority(t.place / "stranger").issue())
    t.fails(f"{stranger.host}/app:1", words="certificate")


@case("a reference that is not valid is refused before anything is asked")
def invalid_reference(t):
    server = t.app()
    for name in ("app/../../etc:1", "App:1", "app:1@sha256:12", "app:1 x"):
        t.fails(f"{server.host}/{name}", words="not a valid image reference")
    t.check(not server.requests and not server.connections, f"asked: {server.requests}")


