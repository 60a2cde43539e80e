"""Mirrors: who is asked next, with whose credentials."""
from scripted_registry import expect
from trial import (ALWAYS, BLOBS, IMAGE, LARGE, NOT_THERE, TAG, answer, basic, bearer, blob, case, challenge, each, scripted_registry)


def toml(origin, *mirrors, registry="", mirror=""):
    """A registries.conf: hosts of an origin and its mirrors, and more lines for each."""
    text = f'[[registry]]\nprefix = "{origin}"\nlocation = "{origin}"\ninsecure = true\n{registry}\n'
    return text + "".join(f'[[registry.mirror]]\nlocation = "{one}"\ninsecure = true\n{mirror}\n' for one in mirrors)


def mirrored(t, image=IMAGE, mirrors=1, **more):
    """An origin that has the image, and mirrors that have nothing yet."""
    origin, others = t.app(image), [t.registry() for _ in range(mirrors)]
    t.registries_conf(toml(origin.host, *[m.host for m in others], **more))
    return origin, *others


def port_of_nobody():
    with scripted_registry() as server:
        return server.port


@case("a mirror that has the image is enough")
def mirror_first(t):
    origin, mirror = mirrored(t)
    mirror.serve(IMAGE, "app", "1")
    t.pulls(f"{origin.host}/app:1")
    t.check(not origin.requests, f"the origin was asked for {origin.requests}")


@case("mirrors are tried in order")
def mirror_order(t):
    origin, first, second = mirrored(t, mirrors=2)
    first.expect("GET|HEAD", "/v2/app/.*", answer(404), times=ALWAYS)
    second.serve(IMAGE, "app", "1")
    t.pulls(f"{origin.host}/app:1")
    t.check(first.requests and not origin.requests, "not the first, then the second")


@each("the next host on 404, 403 and 5xx", {str(n): n for n in (404, 403, 500, 502, 503)})
def mirror_status(t, status):
    origin, mirror = mirrored(t)
    mirror.expect("GET|HEAD", "/.*", answer(status, b"no"), times=ALWAYS)
    t.pulls(f"{origin.host}/app:1")
    t.check(mirror.requests, "the mirror was not asked")


@case("the next host on a failed connection")
def mirror_refuses_connection(t):
    origin = t.app()
    t.registries_conf(toml(origin.host, f"127.0.0.1:{port_of_nobody()}"))
    t.pulls(f"{origin.host}/app:1")


@case("the next host if a mirror's name is not known")
def mirror_without_address(t):
    origin = t.app()
    t.registries_conf(toml(origin.host, "nowhere.invalid:5000"))
    t.pulls(f"{origin.host}/app:1")


@each("the next host on a failed token (containerd#4531, #7321)", {"401": 401, "404": 404, "500": 500})
def mirror_token(t, status):
    origin, mirror = mirrored(t)
    bearer(mirror, "t", ['Bearer realm="/token",service="s"'], "/v2/.*", reply=answer(status))
    t.pulls(f"{origin.host}/app:1")


@case("the next host on a 401 that cannot be answered")
def mirror_basic(t):
    origin, mirror = mirrored(t)
    mirror.expect("GET|HEAD", "/v2/.*", challenge('Basic realm="r"'), times=ALWAYS)
    t.pulls(f"{origin.host}/app:1")


@each("the next host for a layer, when the mirror has the manifest only", {str(n): n for n in (404, 403, 500)})
def mirror_of_manifests(t, status):
    origin, mirror = mirrored(t)
    mirror.serve(IMAGE, "app", "1").script.append(expect("GET|HEAD", BLOBS, answer(status), times=ALWAYS))
    t.pulls(f"{origin.host}/app:1")
    t.check(origin.seen(path=BLOBS), "the origin was not asked for blobs")


@case("a mirror that fails in the middle of a layer: the next goes on where it ended")
def mirror_breaks_off(t):
    origin, mirror = mirrored(t, LARGE)
    half, path = len(LARGE.layers[0]) // 2, blob(LARGE, 0)
    mirror.serve(LARGE, "app", "1").expect("GET", path, mirror.changed(cut=half)).expect("GET", path, answer(404), times=ALWAYS)
    origin.expect("GET", path, None, {"Range": f"^bytes={half}-$"})
    t.pulls(f"{origin.host}/app:1", image=LARGE)


@case("a mirror with a wrong manifest for a digest is not believed")
def mirror_lies(t):
    origin, mirror = mirrored(t)
    mirror.expect("GET|HEAD", "/v2/app/manifests/.*", answer(200, LARGE.data, media_type=LARGE.media_type), times=ALWAYS)
    mirror.expect("GET|HEAD", BLOBS, answer(404), times=ALWAYS)
    done = t.om("image", "pull", f"{origin.host}/app@{IMAGE.digest}")
    t.check(LARGE.id not in done.out and (done.status == 1 or IMAGE.id in done.out), str(done))


@case("credentials are those of the mirror's own host")
def mirror_credentials(t):
    origin, mirror = mirrored(t)
    (login, header), (own_login, own_header) = t.login("alice", "of the origin"), t.login("bob", "of the mirror")
    basic(mirror.serve(IMAGE, "app"), own_header)  # without the tag
    mirror.script.insert(0, expect("GET|HEAD", TAG, lambda one: answer(404) if one.get("authorization") else challenge('Basic realm="r"'),
                                   times=ALWAYS))
    basic(origin, header)
    t.pulls(f"{origin.host}/app:1", "--authfile", t.auths({origin.host: login, mirror.host: own_login}))
    t.check({one.get("authorization") for one in mirror.requests} == {None, own_header}, "the mirror got others")
    t.check({one.get("authorization") for one in origin.requests} <= {None, header}, "the origin got others")


@case("a mirror without a login of its own gets none")
def mirror_without_credentials(t):
    origin, mirror = mirrored(t)
    login, header = t.login()
    mirror.expect("GET|HEAD", "/v2/.*", challenge('Basic realm="r"'), times=ALWAYS)
    basic(origin, header)
    t.pulls(f"{origin.host}/app:1", "--authfile", t.auths({origin.host: login}))
    t.check(not [one for one in mirror.requests if one.get("authorization")], "the mirror got the origin's password")


@case("an error names every host that was tried")
def mirror_error(t):
    origin, first, second = mirrored(t, mirrors=2)
    for server, status in ((origin, 404), (first, 404), (second, 403)):
        server.expect("GET|HEAD", TAG, answer(status), times=ALWAYS)
    done = t.om("image", "pull", f"{origin.host}/app:1")
    t.failed(done, NOT_THERE)
    for server in (origin, first, second):
        t.check(server.host in done.err + done.out, f"{server.host} is not named: {done}")


@case("never the origin (containerd#9206): its location is another host")
def mirror_instead_of_origin(t):
    origin, other = t.app(), t.registry()
    other.expect("GET|HEAD", "/v2/.*", answer(404), times=ALWAYS)
    t.registries_conf(f'[[registry]]\nprefix = "{origin.host}"\nlocation = "{other.host}"\ninsecure = true\n')
    t.fails(f"{origin.host}/app:1", words=NOT_THERE)
    t.check(not origin.requests and other.requests, "the origin was asked")


@case("a mirror that lacks an image answers 404 quickly: this costs one request")
def mirror_lacks_quickly(t):
    origin, mirror = mirrored(t)
    mirror.expect("GET|HEAD", "/v2/.*", answer(404), times=ALWAYS)
    t.pulls(f"{origin.host}/app:1")
    t.check(len(mirror.seen("GET|HEAD", TAG)) == 1, f"asked for {mirror.requests}")


@case("a mirror that breaks off before the first byte of a layer is left for the next host")
def mirror_of_empty_layers(t):
    origin, mirror = mirrored(t)
    mirror.serve(IMAGE, "app", "1")
    mirror.expect("GET", blob(IMAGE, 0), mirror.changed(cut=0), times=ALWAYS)
    t.pulls(f"{origin.host}/app:1")
