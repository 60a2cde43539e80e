"""Redirects, and where credentials go."""
import itertools

from scripted_registry import made_image, redirect
from trial import (ALWAYS, BLOBS, ELSEWHERE, IMAGE, LARGE, MALFORMED, NOT_THERE, UNAVAILABLE, answer, base_layer, basic, bearer, blob,
                   case, challenge, each)

GIVEN_UP = f"{NOT_THERE}|{UNAVAILABLE}|{MALFORMED}|{ELSEWHERE}"


def cdn_for(t, image=IMAGE, **more):
    """Another host that has the blobs at /cdn/DIGEST."""
    server = t.registry(**more)
    for digest, data in image.blobs.items():
        server.content[f"/cdn/blobs/{digest}"] = answer(200, data)
    return server


def to(server, query=""):
    return lambda one: redirect(f"{server.url}/cdn/blobs/{one.path.rpartition('/')[2]}{query}")


@each("redirects of each kind are followed", {str(n): n for n in (301, 302, 303, 307, 308)})
def redirect_status(t, status):
    cdn, server = cdn_for(t), t.app()
    server.expect("GET", BLOBS, lambda one: to(cdn)(one).with_(status=status), times=ALWAYS)
    t.pulls(f"{server.host}/app:1")
    t.check(len(cdn.seen()) == len(IMAGE.blobs), f"the other host was asked for {cdn.seen()}")


@each("manifests and configs may be redirected, too", {"manifest": "/v2/app/manifests/1", "config": f"/v2/app/blobs/{IMAGE.id}"})
def redirect_of(t, path):
    server = t.app()
    server.expect("GET", path, redirect("/elsewhere")).expect("GET", "/elsewhere", server.content[path])
    t.pulls(f"{server.host}/app:1")


@each("a Location may be relative", {"path": "/x/y", "same_folder": "next", "host": None, "parents": "../../../x/y"})
def location_relative(t, location):
    server = t.app()
    location = location or f"//{server.host}/x/y"
    where = "/v2/app/manifests/next" if location == "next" else "/x/y"
    server.expect("GET", "/v2/app/manifests/1", redirect(location)).expect("GET", where, server.content["/v2/app/manifests/1"])
    t.pulls(f"{server.host}/app:1")


def chain(server, length):
    server.expect("GET", "/v2/app/manifests/1", redirect("/hop/1"), times=(1, 9))
    for n in range(1, length):
        server.expect("GET", f"/hop/{n}", redirect(f"/hop/{n + 1}"), times=(1, 9))
    server.expect("GET", f"/hop/{length}", server.content["/v2/app/manifests/1"], times=(0, 9))


@case("ten redirects are followed")
def redirects_ten(t):
    server = t.app()
    chain(server, 10)
    t.pulls(f"{server.host}/app:1")


@case("eleven redirects are refused")
def redirects_eleven(t):
    server = t.app()
    chain(server, 11)
    t.fails(f"{server.host}/app:1", words=ELSEWHERE)


@case("redirects in a circle end")
def redirects_circle(t):
    server = t.app()
    server.expect("GET", "/v2/app/manifests/1", redirect("/circle"), times=ALWAYS).expect("GET", "/circle", redirect("/circle"), times=ALWAYS)
    t.fails(f"{server.host}/app:1", words=ELSEWHERE)
    t.check(len(server.requests) < 20, f"{len(server.requests)} requests")


@each("credentials go only to the same scheme, host and port", {"bearer": True, "basic": False})
def credentials_stay(t, with_token):
    cdn, server = cdn_for(t), t.app()
    name, header = t.login()
    server.expect("GET", BLOBS, lambda one: to(cdn)(one) if one.get("authorization") else challenge('Basic realm="r"'), times=ALWAYS)
    if with_token:
        bearer(server, t.secret("token-of-the-registry"), ['Bearer realm="/token",service="s"'], "/v2/app/manifests/.*")
    else:
        basic(server, header, "/v2/app/manifests/.*")
    t.pulls(f"{server.host}/app:1", "--creds", name)
    t.check(cdn.seen() and not [one for one in cdn.seen() if one.get("authorization") or one.get("cookie")], "the other host got credentials")


@case("credentials go along with a redirect on the same host")
def credentials_go_along(t):
    server = t.app()
    name, header = t.login()
    server.expect("GET", "/moved", server.content["/v2/app/manifests/1"], {"Authorization": "^" + header.replace("+", r"\+")})
    server.expect("GET", "/v2/app/manifests/1", lambda one: redirect("/moved") if one.get("authorization") else challenge('Basic realm="r"'),
                  times=ALWAYS)
    t.pulls(f"{server.host}/app:1", "--creds", name)


@each("a link with a signature in its query is a secret: no error shows it", {
    "busy": answer(500), "missing": answer(404), "refused": answer(403), "cut": answer(raw=b""), "nonsense": answer(raw=b"nonsense\r\n\r\n"),
    "encoded": answer(200, b"x", {"Content-Encoding": "br"}), "onward": redirect("ftp://127.0.0.1/?sig=X-Amz-Signature-0123456789"),
})
def signature_is_secret(t, reply):
    cdn, server = cdn_for(t), t.app()
    signature = t.secret("X-Amz-Signature-0123456789")
    cdn.expect("GET", "/cdn/blobs/.*", reply, times=ALWAYS)
    server.expect("GET", BLOBS, to(cdn, f"?sig={signature}"), times=ALWAYS)
    t.fails(f"{server.host}/app:1", words=".")


def with_urls(urls, foreign):
    def edit(manifest):
        manifest["layers"][0]["urls"] = urls
        if foreign:
            manifest["layers"][0]["mediaType"] = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"
    return made_image([base_layer(files=3)], edit=edit)


@each("credentials never go to a descriptor's urls (CVE-2020-15157)", {"layer": False, "foreign_layer": True})
def descriptor_urls(t, foreign):
    other = t.registry()
    other.expect("GET|POST|HEAD", "/.*", challenge(f'Bearer realm="{other.url}/token",service="s",scope="repository:app:pull"'), times=ALWAYS)
    image = with_urls([f"{other.url}/layer"], foreign)
    server = t.app(image)
    name, header = t.login()
    server.expect("GET|HEAD", blob(image, 0), answer(404), times=ALWAYS)
    basic(server, header)
    t.fails(f"{server.host}/app:1", "--creds", name, words=f"{NOT_THERE}|{ELSEWHERE}|{UNAVAILABLE}|nondistributable")
    t.check(not [one for one in other.requests if one.get("authorization") or b"horse" in one.body], "it got credentials")


@case("a layer that has urls comes from the registry if it is there")
def descriptor_urls_not_needed(t):
    other = t.registry()
    image = with_urls([f"{other.url}/layer"], False)
    t.pulls(f"{t.app(image).host}/app:1", image=image)
    t.check(not other.requests, f"urls were asked: {other.requests}")


TARGETS = {"escapes": "/a%2Fb%2f/%7e~x?sig=a%2Bb%2fc%3D", "empty": "/q?empty=&&novalue&=&x=1", "plus": "/a+b/c?d=e+f+%20g&t=~",
           "characters": "/p;v=1,2/(x)!*'$@:?a/b?c=@:!$'()*,;", "dots": "/a/%2e%2e/b//c/?d", "bare_question": "/bare?"}


@each("path and query of a link are sent byte for byte", TARGETS)
def target_as_is(t, target):
    cdn, server = t.registry(), t.app()
    path = f"/v2/app/blobs/{IMAGE.layer_digests[0]}"
    cdn.expect("GET", r"/.*\??.*", lambda one: server.content[path] if one.path == target else answer(400), times=ALWAYS)
    server.expect("GET", path, redirect(cdn.url + target), times=ALWAYS)
    t.pulls(f"{server.host}/app:1")


@each("only http and https are followed", {"ftp": "ftp://127.0.0.1/x", "file": "file:///etc/passwd", "gopher": "gopher://127.0.0.1:70/_x",
                                          "javascript": "javascript:x"})
def redirect_scheme(t, location):
    server = t.app().expect("GET", BLOBS, redirect(location), times=ALWAYS)
    t.fails(f"{server.host}/app:1", words=f"{ELSEWHERE}|{MALFORMED}")


@each("a Location that is none is an error", {"missing": [], "empty": [("Location", "")], "nonsense": [("Location", "http://[::/")]})
def location_bad(t, headers):
    server = t.app().expect("GET", BLOBS, answer(307, b"", headers), times=ALWAYS)
    t.fails(f"{server.host}/app:1", words=f"{MALFORMED}|{ELSEWHERE}")


@case("https to http is refused")
def https_to_http(t):
    cdn, server = cdn_for(t), t.app(tls=True)
    server.expect("GET", BLOBS, to(cdn), times=ALWAYS)
    t.fails(f"{server.host}/app:1", words=ELSEWHERE)
    t.check(not cdn.requests, "http was spoken")


@case("http to https is followed")
def http_to_https(t):
    cdn, server = cdn_for(t, tls=True), t.app()
    server.expect("GET", BLOBS, to(cdn), times=ALWAYS)
    t.pulls(f"{server.host}/app:1")


PRIVATE = {"loopback": "127.0.0.1", "ten": "10.1.2.3", "link_local": "169.254.169.254", "ipv6": "[::1]", "mapped": "[::ffff:10.1.2.3]"}


@each("a redirect of a public registry to a private address is refused", PRIVATE)
def redirect_to_private(t, address):
    server = t.public(f"public-{t.name.replace('_', '-')}.test").serve(IMAGE, "app", "1")
    inner = [t.registry(address=a, tls=True, names=(a,)) for a in {"127.0.0.1", "10.1.2.3"} if a in address]
    port = inner[0].port if inner else 443
    server.expect("GET", BLOBS, redirect(f"https://{address}:{port}/secret"), times=ALWAYS)
    t.fails(f"{server.host}/app:1", words=ELSEWHERE)
    t.check(not [one for one in inner if one.connections], "it connected to the private address")


@case("a redirect to another public host is followed")
def redirect_to_public(t):
    cdn = t.public("cdn-public.test")
    server = t.public("with-cdn.test").serve(IMAGE, "app", "1")
    for digest, data in IMAGE.blobs.items():
        cdn.content[f"/cdn/blobs/{digest}"] = answer(200, data)
    server.expect("GET", BLOBS, to(cdn), times=ALWAYS)
    t.pulls(f"{server.host}/app:1")


@each("400, 401 or 403 of the other host: the registry is asked once more for a fresh link", {str(n): n for n in (400, 401, 403)})
def fresh_link(t, status):
    cdn, server, number = cdn_for(t), t.app(), itertools.count(1)
    path = blob(IMAGE, 0)
    cdn.expect("GET", r"/cdn/blobs/.*\?n=1", answer(status, b"expired"))
    server.expect("GET", path, lambda one: to(cdn, f"?n={next(number)}")(one), times=2)
    t.pulls(f"{server.host}/app:1")


@each("a link that is refused again is an error", {str(n): n for n in (400, 401, 403)})
def fresh_link_refused(t, status):
    cdn, server = cdn_for(t), t.app()
    cdn.expect("GET", "/cdn/blobs/.*", answer(status, b"no"), times=ALWAYS)
    server.expect("GET", blob(IMAGE, 0), to(cdn), times=ALWAYS)
    t.fails(f"{server.host}/app:1", words=GIVEN_UP)
    t.check(len(server.seen(path=blob(IMAGE, 0))) <= 2, "the registry was asked more than twice")


@case("a challenge of the other host is not answered")
def challenge_of_other_host(t):
    cdn, server = cdn_for(t), t.app()
    name, header = t.login()
    basic(server, header, "/v2/app/manifests/.*")
    cdn.expect("GET", "/cdn/blobs/.*", challenge('Basic realm="mine"'), times=ALWAYS)
    server.expect("GET", BLOBS, to(cdn), times=ALWAYS)
    t.fails(f"{server.host}/app:1", "--creds", name, words=".")
    t.check(not [one for one in cdn.requests if one.get("authorization")], "the other host got credentials")


@case("resuming starts at the registry's URL, for a link of that moment")
def resume_by_fresh_link(t):
    cdn, server, number = cdn_for(t, LARGE), t.app(LARGE), itertools.count(1)
    path, half = blob(LARGE, 0), len(LARGE.layers[0]) // 2
    cdn.expect("GET", r"/cdn/.*\?n=1", cdn.changed(cut=half))
    cdn.expect("GET", r"/cdn/.*\?n=1", answer(403), times=(0, 9))
    cdn.expect("GET", r"/cdn/.*\?n=2", None, {"Range": f"^bytes={half}-$"})
    server.expect("GET", path, lambda one: to(cdn, f"?n={next(number)}")(one), times=2)
    t.pulls(f"{server.host}/app:1", image=LARGE)
