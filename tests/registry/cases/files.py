"""Settings that people have: credential files and helpers, registries.conf, hosts.toml, certs.d."""
import base64
import pathlib

from certificates import authority
from cases.mirrors import toml
from trial import ALWAYS, BLOCKED, HELPER, IMAGE, NOT_THERE, SETTINGS, TAG, answer, basic, bearer, case, challenge, each, queries

BEARER = 'Bearer realm="/token",service="s",scope="repository:app:pull"'
ONLY_404 = (("GET|HEAD", "/v2/.*", answer(404)), {"times": ALWAYS})


def guarded(t):
    """A registry that wants a password, and NAME:PASSWORD."""
    server = t.app()
    login, header = t.login()
    return basic(server, header), login


def entry(login):
    return {"auth": base64.b64encode(login.encode()).decode()}


# --- credential files

FILES = {  # how the environment leads there, and where it is
    "registry_auth_file": ({"REGISTRY_AUTH_FILE": "{place}/named.json"}, "{place}/named.json"),
    "xdg_runtime_dir": ({}, "{place}/run/containers/auth.json"),
    "xdg_config_home": ({"XDG_CONFIG_HOME": "{place}/settings"}, "{place}/settings/containers/auth.json"),
    "home_config": ({}, "{home}/.config/containers/auth.json"),
    "docker_config": ({"DOCKER_CONFIG": "{place}/docker"}, "{place}/docker/config.json"),
    "home_docker": ({}, "{home}/.docker/config.json"),
    "dockercfg": ({}, "{home}/.dockercfg"),
}


def put(t, name, login, server):
    variables, path = FILES[name]
    t.environment.update({key: value.format(place=t.place) for key, value in variables.items()})
    auths = {server.host: entry(login)}
    t.file(path.format(place=t.place, home=t.home), auths if name == "dockercfg" else {"auths": auths})


@each("credentials are found in each of the files", {name: name for name in FILES})
def auth_file(t, name):
    server, login = guarded(t)
    put(t, name, login, server)
    t.pulls(f"{server.host}/app:1")


ORDER = ["registry_auth_file", "xdg_runtime_dir", "home_config", "home_docker", "dockercfg"]


@each("the earlier file counts", {f"{a}_before_{b}": (a, b) for a, b in zip(ORDER, ORDER[1:])})
def auth_order(t, names):
    server, login = guarded(t)
    put(t, names[0], login, server)
    put(t, names[1], "alice:of the later file", server)
    t.pulls(f"{server.host}/app:1")


@case("--authfile counts before all others, and --creds before that")
def auth_options(t):
    server, login = guarded(t)
    wrong = "alice:wrong password"
    put(t, "registry_auth_file", wrong, server)
    t.pulls(f"{server.host}/app:1", "--authfile", t.auths({server.host: login}))
    server, login = guarded(t)
    t.pulls(f"{server.host}/app:1", "--authfile", t.auths({server.host: wrong}), "--creds", login)


KEYS = {"host": "{host}", "namespace": "{host}/team", "repository": "{host}/team/app",
        "url": "http://{host}", "url_with_path": "https://{host}/v1/",
        "url_v2": "https://{host}/v2/"}


@each("keys may be hosts, paths below them, and URLs", KEYS)
def auth_key(t, key):
    server = t.registry().serve(IMAGE, "team/app", "1")
    login, header = t.login()
    basic(server, header)
    t.pulls(f"{server.host}/team/app:1", "--authfile", t.auths({key.format(host=server.host): login}))


@case("the longest whole-path key counts, and half of a component is none")
def auth_longest_key(t):
    server = t.registry().serve(IMAGE, "team/app", "1")
    login, header = t.login()
    basic(server, header)
    wrong = "alice:of another key"
    t.pulls(f"{server.host}/team/app:1", "--authfile", t.auths({
        server.host: wrong, f"{server.host}/te": wrong, f"{server.host}/team": login, f"{server.host}/team/ap": wrong,
        f"{server.host}/team/app2": wrong, "127.0.0.1": wrong, f"x{server.host}": wrong}))


@each("a malformed credential file is an error that names it and shows nothing of it", {
    "text": "{{ secret-in-file", "list": '["secret-in-file"]',
    "auth": '{"auths": {"HOST": {"auth": "secret-in-file"}}}', "nul": '{"auths": "secret-in-file"}'})
def auth_malformed(t, text):
    server, _ = guarded(t)
    t.secret("secret-in-file")
    t.fails(f"{server.host}/app:1", "--authfile", t.file("bad.json", text.replace("HOST", server.host)), words="bad.json|" + SETTINGS)


# --- credential helpers

def config(t, server, name="fine", where="credHelpers", **more):
    return t.file(".docker/config.json", {where: {server.host: name} if where == "credHelpers" else name, **more})


def says(login):
    user, _, password = login.partition(":")
    return f"""cat >/dev/null; echo '{{"ServerURL":"x","Username":"{user}","Secret":"{password}"}}'\n"""


@each("credHelpers and credsStore name helpers", {"credHelpers": "credHelpers", "credsStore": "credsStore"})
def helper(t, where):
    server, login = guarded(t)
    config(t, server, where=where)
    t.helper("fine", says(login))
    t.pulls(f"{server.host}/app:1")


@case("credHelpers before credsStore")
def helper_order(t):
    server, login = guarded(t)
    config(t, server, credsStore="other")
    t.helper("fine", says(login))
    t.helper("other", says("alice:of the store"))
    t.pulls(f"{server.host}/app:1")


@case("a helper gets `get`, and the host on standard input, without more")
def helper_input(t):
    server, login = guarded(t)
    config(t, server)
    t.helper("fine", f'[ "$1" = get ] && [ $# = 1 ] && cat >{t.place}/asked && echo -n | {says(login)}')
    t.pulls(f"{server.host}/app:1")
    t.check((t.place / "asked").read_text().strip() == server.host, f"asked for {(t.place / 'asked').read_text()!r}")


@case("the user <token> means an identity token")
def helper_identity(t):
    server, token = t.app(), t.secret("token-for-identity")
    refresh = t.secret("identity-of-helper")
    bearer(server, token, [BEARER])
    server.expect("POST", "/token", lambda one: answer(200, b'{"access_token":"%s"}' % token.encode()) if
                  refresh.encode() in one.body else answer(401))
    config(t, server)
    t.helper("fine", says(f"<token>:{refresh}"))
    t.pulls(f"{server.host}/app:1")


@case("`credentials not found` on standard output means anonymous")
def helper_has_none(t):
    server = t.app()
    server.expect("GET", TAG, lambda one: challenge(BEARER) if not one.get("authorization") else None, times=ALWAYS)
    server.expect("GET", "/token", answer(200, b'{"token":"anonymous"}'), {"Authorization": None})
    config(t, server)
    t.helper("fine", "echo 'credentials not found in native keychain'; exit 1\n")
    t.pulls(f"{server.host}/app:1")


FAILING = {
    "fails": "echo 'secret-of-helper'; echo 'secret-of-helper' >&2; exit 1\n", "says_nonsense": "echo 'secret-of-helper'\n",
    "says_too_much": "yes '{\"Username\": \"secret-of-helper\"}'\n", "is_killed": "echo secret-of-helper; kill -9 $$\n",
}


@each("a helper that fails is an error, and its output is never shown", FAILING)
def helper_that(t, script):
    server, _ = guarded(t)
    t.secret("secret-of-helper")
    config(t, server)
    t.helper("fine", script)
    t.fails(f"{server.host}/app:1", words=HELPER)


@each("a helper that is missing, or has no name, is an error", {"missing": "missing", "path": "../../bin/sh", "option": "a b;true"})
def helper_name(t, name):
    server, _ = guarded(t)
    config(t, server, name)
    t.fails(f"{server.host}/app:1", words=HELPER)


@case("a helper that hangs is ended", slow=True)
def helper_hangs(t):
    server, _ = guarded(t)
    config(t, server)
    t.helper("fine", "sleep 1000\n")
    t.fails(f"{server.host}/app:1", words=HELPER, timeout=120)


# --- registries.conf

def two(t):
    """A registry that must not be asked, and one that has the image."""
    return t.registry(), t.app()


@case("registries.conf: the longest prefix counts, by whole components")
def conf_longest_prefix(t):
    wrong, right = t.registry(), t.registry().serve(IMAGE, "moved/app", "1")
    t.registries_conf("".join(f'[[registry]]\nprefix = "{p}"\nlocation = "{where}"\ninsecure = true\n' for p, where in (
        (wrong.host, wrong.host), (f"{wrong.host}/team", f"{right.host}/moved"), (f"{wrong.host}/te", wrong.host),
        (f"{wrong.host}/team/app2", wrong.host))))
    t.pulls(f"{wrong.host}/team/app:1")
    t.check(not wrong.requests, f"asked: {wrong.requests}")


@case("registries.conf: `*.` in front stands for subdomains")
def conf_wildcard(t):
    server = t.app()
    t.registries_conf(f'[[registry]]\nprefix = "*.wild.test"\nlocation = "{server.host}"\ninsecure = true\n')
    t.pulls("deep.below.wild.test/app:1")


@case("registries.conf: `*.` does not stand for the domain itself")
def conf_wildcard_itself(t):
    server = t.app()
    t.registries_conf(f'[[registry]]\nprefix = "*.wild2.test"\nlocation = "{server.host}"\ninsecure = true\n')
    t.fails("wild2.test/app:1", words="wild2.test", timeout=120)
    t.check(not server.requests, "the location was asked")


@case("registries.conf: insecure allows an untrusted certificate")
def conf_insecure(t):
    server = t.app(tls=authority(t.place / "other").issue())
    t.registries_conf(f'[[registry]]\nlocation = "{server.host}"\ninsecure = true\n')
    t.pulls(f"{server.host}/app:1")


@case("registries.conf: insecure of another registry does not count")
def conf_insecure_of_another(t):
    server = t.app(tls=authority(t.place / "other").issue())
    t.registries_conf(f'[[registry]]\nlocation = "{server.host}/other"\ninsecure = true\n')
    t.fails(f"{server.host}/app:1", words="certificate")


@case("registries.conf: blocked")
def conf_blocked(t):
    server = t.app()
    t.registries_conf(f'[[registry]]\nlocation = "{server.host}"\nblocked = true\n')
    t.fails(f"{server.host}/app:1", words=BLOCKED)
    t.check(not server.requests, "it was asked")


PULLS = {  # lines of the registry, lines of the mirror, whether the mirror is asked by tag and by digest
    "by_digest_only": ("mirror-by-digest-only = true", "", False, True), "digest_only": ("", 'pull-from-mirror = "digest-only"', False, True),
    "tag_only": ("", 'pull-from-mirror = "tag-only"', True, False), "all": ("", 'pull-from-mirror = "all"', True, True),
}


@each("registries.conf: mirror-by-digest-only, pull-from-mirror", PULLS)
def conf_pull(t, row):
    registry, mirror, by_tag, by_digest = row
    for reference, asked in ((":1", by_tag), (f"@{IMAGE.digest}", by_digest)):
        origin, other = t.app(), t.registry()
        other.expect("GET|HEAD", "/v2/.*", answer(404), times=ALWAYS)
        t.registries_conf(toml(origin.host, other.host, registry=registry, mirror=mirror))
        t.pulls(f"{origin.host}/app{reference}")
        t.check(bool(other.requests) == asked, f"{reference}: the mirror was asked for {other.requests}")


@case("registries.conf: aliases of short names")
def conf_alias(t):
    server = t.app()
    t.registries_conf(f'[aliases]\n"short" = "{server.host}/app"\n')
    t.pulls("short:1")


@each("registries.conf: short-name-mode and the search registries", {
    "disabled": "disabled", "permissive": "permissive", "enforcing": "enforcing"})
def conf_short_name(t, mode):
    first, second = t.registry(), t.app()
    first.expect("GET|HEAD", "/v2/.*", answer(404), times=ALWAYS)
    t.registries_conf(f'unqualified-search-registries = ["{first.host}", "{second.host}"]\nshort-name-mode = "{mode}"\n')
    if mode == "enforcing":
        t.fails("app:1", words="short|ambiguous|search")
        t.check(not second.requests, "one of several registries was chosen")
    else:
        t.pulls("app:1")


@case("registries.conf.d: drop-ins, in the order of their names")
def conf_drop_ins(t):
    wrong, right = two(t)
    t.registries_conf(f'[[registry]]\nprefix = "{wrong.host}"\nlocation = "{wrong.host}"\n')
    for name, location in (("20-b.conf", right.host), ("10-a.conf", wrong.host), ("30-c.txt", wrong.host)):
        t.file(f".config/containers/registries.conf.d/{name}",
               f'[[registry]]\nprefix = "{wrong.host}"\nlocation = "{location}"\ninsecure = true\n')
    t.pulls(f"{wrong.host}/app:1")


@case("registries.conf: the user's file replaces the system's", alone=True)
def conf_of_user(t):
    server = t.app()
    system = t.file(pathlib.Path("/etc/containers/registries.conf"), f'[[registry]]\nlocation = "{server.host}"\nblocked = true\n', 0o644)
    try:
        t.fails(f"{server.host}/app:1", words=BLOCKED)
        t.registries_conf("")
        t.pulls(f"{server.host}/app:1")
    finally:
        system.unlink()


@case("$CONTAINERS_REGISTRIES_CONF replaces them all")
def conf_by_variable(t):
    server = t.app()
    t.registries_conf(f'[[registry]]\nlocation = "{server.host}"\nblocked = true\n')
    t.environment["CONTAINERS_REGISTRIES_CONF"] = str(t.file("mine.conf", ""))
    t.pulls(f"{server.host}/app:1")


@each("a malformed registries.conf is an error that names it", {
    "text": "[[registry\n", "type": "[[registry]]\nlocation = 5\n",
    "version_1": "[registries.search]\nregistries = ['a.test']\n"})
def conf_malformed(t, text):
    server = t.app()
    t.registries_conf(text)
    t.fails(f"{server.host}/app:1", words="registries.conf")
    t.check(not server.requests, "it was ignored")


# --- hosts.toml

def hosts(t, server, text, name=None):
    """containerd's settings for a registry on loopback, whose port nobody else has."""
    return t.file(pathlib.Path(f"/etc/containerd/certs.d/{name or server.host.replace(':', '_') + '_'}/hosts.toml"), text, 0o644)


@each("hosts.toml: directories host_port_ and host:port", {"underscores": None, "colon": True})
def hosts_directory(t, colon):
    origin, mirror = two(t)
    hosts(t, origin, f'server = "{origin.url}"\n[host."{mirror.url}"]\n', origin.host if colon else None)
    t.pulls(f"{origin.host}/app:1")
    t.check(not origin.requests, "the origin was asked")


@case("hosts.toml: _default", alone=True)
def hosts_default(t):
    origin, mirror = two(t)
    file = hosts(t, origin, f'[host."{mirror.url}"]\n', "_default")
    try:
        t.pulls(f"{origin.host}/app:1")
        t.check(not origin.requests, "the origin was asked")
    finally:
        file.unlink()


@case("hosts.toml: hosts in their order, then the server; `ns=` says which registry is meant")
def hosts_order(t):
    origin, first, second = t.app(), t.registry(), t.registry()
    asked = []
    for server in (first, second):
        server.expect("GET|HEAD", "/v2/.*", lambda one, server=server: asked.append(server) or answer(404), times=ALWAYS)
    hosts(t, origin, f'server = "{origin.url}"\n[host."{first.url}"]\n[host."{second.url}"]\n')
    t.pulls(f"{origin.host}/app:1")
    t.check(asked[:2] == [first, second], "not in order")
    t.check([one for one in first.requests if queries(one).get("ns") == [origin.host]], f"no ns=: {first.requests}")
    t.check(not [one for one in origin.requests if "ns=" in one.path], f"ns= for the origin: {origin.requests}")


@case("hosts.toml: a host that may pull and not resolve is not asked for a tag, but for the rest")
def hosts_capabilities(t):
    origin, mirror = t.app(), t.app()
    hosts(t, origin, f'server = "{origin.url}"\n[host."{mirror.url}"]\n  capabilities = ["pull"]\n')
    t.pulls(f"{origin.host}/app:1")
    t.check(origin.seen("GET|HEAD", TAG) and not mirror.seen("GET|HEAD", TAG), "the tag: not of the origin alone")
    t.check(mirror.seen(path="/v2/app/blobs/.*") and not origin.seen(path="/v2/app/blobs/.*"), "the blobs: not of the mirror alone")


@case("hosts.toml: override_path")
def hosts_override_path(t):
    origin, mirror = t.registry(), t.registry()
    mirror.content.update({f"/cache/v9{path[3:]}": said for path, said in t.app().content.items()})
    hosts(t, origin, f'server = "{origin.url}"\n[host."{mirror.url}/cache/v9"]\n  override_path = true\n')
    t.pulls(f"{origin.host}/app:1")


@case("hosts.toml: never the origin (containerd#9206): its server is another host")
def hosts_never_the_origin(t):
    origin, mirror = t.app(), t.registry().expect(*ONLY_404[0], **ONLY_404[1])
    hosts(t, origin, f'server = "{mirror.url}"\n')
    t.fails(f"{origin.host}/app:1", words=NOT_THERE)
    t.check(not origin.requests and mirror.requests, "the origin was asked")


@case("hosts.toml: ca, client and skip_verify")
def hosts_certificates(t):
    other = authority(t.place / "other")
    certificate, key = other.issue(("client",))
    for lines, more in ((f'ca = "{other.certificate}"', {}), ("skip_verify = true", {}),
                        (f'ca = "{other.certificate}"\nclient = [["{certificate}", "{key}"]]', {"client_authority": other.certificate})):
        origin, mirror = t.registry(), t.app(tls=other.issue(), **more)
        hosts(t, origin, f'[host."{mirror.url}"]\n{lines}\n')
        t.pulls(f"{origin.host}/app:1")


@case("hosts.toml: headers go to their host, and are secrets")
def hosts_headers(t):
    origin, mirror = t.app(), t.registry().expect("GET|HEAD", "/v2/.*", answer(404), {"X-Key": "^key-of-the-mirror$"}, times=(1, 99))
    t.secret("key-of-the-mirror")
    hosts(t, origin, f'server = "{origin.url}"\n[host."{mirror.url}"]\n  [host."{mirror.url}".header]\n    x-key = "key-of-the-mirror"\n')
    t.pulls(f"{origin.host}/app:1")
    t.check(not [one for one in origin.requests if one.get("x-key")], "the origin got it")


@case("a malformed hosts.toml is an error that names it")
def hosts_malformed(t):
    origin = t.app()
    hosts(t, origin, "server = 5\n")
    t.fails(f"{origin.host}/app:1", words="hosts.toml")


# --- certs.d

@each("certs.d: *.crt of each directory", {
    "user": "{home}/.config/containers/certs.d", "containers": "/etc/containers/certs.d", "docker": "/etc/docker/certs.d"})
def certs_authority(t, folder):
    other = authority(t.place / "other")
    server = t.app(tls=other.issue())
    t.file(pathlib.Path(folder.format(home=t.home)) / server.host / "any.crt", other.certificate.read_text())
    t.pulls(f"{server.host}/app:1")


@case("certs.d: *.cert with *.key")
def certs_client(t):
    server = t.app(tls=True, client_authority=t.world.authority.certificate)
    t.fails(f"{server.host}/app:1", words=".", timeout=120)
    certificate, key = t.world.certificate(("client.test",))
    for name, source in (("client.cert", certificate), ("client.key", key)):
        t.file(f".config/containers/certs.d/{server.host}/{name}", source.read_text())
    t.pulls(f"{server.host}/app:1")


@case("certs.d: a certificate without its key is an error that names it")
def certs_without_key(t):
    server = t.app(tls=True)
    t.file(f".config/containers/certs.d/{server.host}/alone.cert", "x")
    t.fails(f"{server.host}/app:1", words="alone.cert")
