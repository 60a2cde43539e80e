"""Manifests and indexes."""
import json

from made_images import CHANGES, base_layer
from scripted_registry import DOCKER_LIST, DOCKER_MANIFEST, INDEX, MANIFEST, digest_of, document, made_image, made_index, redirect
from trial import ALWAYS, BLOBS, DIGEST, IMAGE, MANIFESTS, NOT_THERE, SIZE, TAG, TOO_LARGE, UNSUPPORTED, answer, case, each, endless

ARM = made_image([CHANGES], platform=("linux", "arm64"))
MOST = 4 << 20


def accepts(one):
    return {part.split(";")[0].strip() for part in (one.get("accept") or "").split(",")}


@case("Accept lists both manifests and both indexes, also when asking by digest")
def accept(t):
    server = t.registry().serve(made_index([IMAGE, ARM]), "app", "1")
    t.pulls(f"{server.host}/app:1")
    asked = server.seen(path=MANIFESTS)
    t.check(len(asked) >= 2, "the index and the manifest are not both asked for")
    for one in asked:
        t.check(accepts(one) >= {MANIFEST, INDEX, DOCKER_MANIFEST, DOCKER_LIST}, f"{one}: Accept: {one.get('accept')}")


@each("images of each format and compression", {
    "docker": {"docker": True}, "oci": {}, "uncompressed": {"compress": False}, "docker_uncompressed": {"docker": True, "compress": False},
})
def form(t, words):
    image = made_image([base_layer(files=3), CHANGES], **words)
    t.pulls(f"{t.app(image).host}/app:1", image=image)


@each("--platform chooses from an index of either format", {"oci": False, "docker": True})
def platform(t, docker):
    server = t.registry().serve(made_index([IMAGE, ARM], docker), "app", "1")
    t.pulls(f"{server.host}/app:1", "--platform", "linux/arm64", image=ARM)


@case("a platform that the index lacks is an error that names those it has")
def platform_missing(t):
    server = t.registry().serve(made_index([IMAGE, ARM]), "app", "1")
    t.fails(f"{server.host}/app:1", "--platform", "linux/s390x", words="linux/arm64")


@case("a tag of which another platform's image is here is not up to date")
def platform_then_default(t):
    server = t.registry().serve(made_index([IMAGE, ARM]), "app", "1")
    t.pulls(f"{server.host}/app:1", "--platform", "linux/arm64", image=ARM)
    t.pulls(f"{server.host}/app:1", image=IMAGE)
    t.check(server.seen(path=BLOBS), "the image of this platform was not fetched")


@each("parameters of Content-Type are ignored", {"charset": "; charset=utf-8", "quoted": ';charset="utf-8" ; a=b'})
def content_type_parameters(t, parameters):
    server = t.app()
    server.expect("GET", TAG, server.changed(media_type=MANIFEST + parameters), times=ALWAYS)
    t.pulls(f"{server.host}/app:1")


@each("without a Content-Type, the mediaType of the JSON counts", {"manifest": IMAGE, "index": made_index([IMAGE, ARM])})
def content_type_missing(t, what):
    server = t.registry().serve(what, "app", "1")
    server.expect("GET", MANIFESTS, server.changed(media_type=None), times=ALWAYS)
    t.pulls(f"{server.host}/app:1")


@each("schema 1 is refused by name", {"signed": "v1+prettyjws", "plain": "v1+json"})
def schema_1(t, kind):
    old = json.dumps({"schemaVersion": 1, "name": "app", "tag": "1", "fsLayers": [], "history": []}).encode()
    server = t.registry().serve(document(old, "application/vnd.docker.distribution.manifest." + kind), "app", "1")
    t.fails(f"{server.host}/app:1", words=r"(?i)schema(\s*version)?\s*1")


@each("Docker-Content-Digest is never believed: it may be absent or wrong", {
    "absent": [], "wrong": [("Docker-Content-Digest", digest_of(b"other"))], "nonsense": [("Docker-Content-Digest", "sha256:x/../y")],
})
def content_digest(t, headers):
    server = t.app()
    server.expect("GET|HEAD", MANIFESTS, lambda one: answer(200, IMAGE.data, headers, MANIFEST), times=ALWAYS)
    t.pulls(f"{server.host}/app:1")
    t.pulls(f"{server.host}/app:1")  # now it may begin with HEAD


@case("a manifest asked for by digest must have it, whatever Docker-Content-Digest says")
def digest_of_manifest(t):
    server = t.app()
    server.expect("GET", MANIFESTS, answer(200, ARM.data, {"Docker-Content-Digest": IMAGE.digest}, MANIFEST), times=ALWAYS)
    t.fails(f"{server.host}/app@{IMAGE.digest}", words=DIGEST)


@each("an entry of an index must match its digest and size", {
    "digest": (lambda d: d.update(digest=digest_of(b"other")), DIGEST), "size": (lambda d: d.update(size=d["size"] + 1), SIZE),
    "smaller_size": (lambda d: d.update(size=d["size"] - 1), SIZE),
})
def index_entry(t, row):
    change, words = row
    descriptor = IMAGE.descriptor(platform={"os": "linux", "architecture": "amd64"})
    change(descriptor)
    server = t.registry().serve(made_index([IMAGE], descriptors=[descriptor]), "app", "1")
    server.content[f"/v2/app/manifests/{descriptor['digest']}"] = answer(200, IMAGE.data, media_type=MANIFEST)
    t.fails(f"{server.host}/app:1", words=words)


@each("a blob must match its digest", {"config": 0, "layer": 1})
def digest_of_blob(t, number):
    server = t.app()
    digest = list(IMAGE.blobs)[number]
    data = bytearray(IMAGE.blobs[digest])
    data[len(data) // 2] ^= 1
    server.content[f"/v2/app/blobs/{digest}"] = answer(200, bytes(data))
    t.fails(f"{server.host}/app:1", words=DIGEST + "|compressed stream is damaged|malformed JSON|invalid image config")


@case("HEAD first only when the tag is here already; then GET is not needed")
def head_when_known(t):
    server = t.app()
    t.pulls(f"{server.host}/app:1")
    t.check(not server.seen("HEAD", MANIFESTS), "the first pull asks with HEAD, which costs a request")
    t.check(len(server.seen("GET", MANIFESTS)) == 1, "the first pull asks for the manifest more than once")
    t.pulls(f"{server.host}/app:1")
    t.check(server.seen("HEAD", MANIFESTS), "the second pull does not ask with HEAD")
    t.check(len(server.seen("GET", MANIFESTS)) == 1, "the second pull counts against the limit of the Hub")


@case("a tag that moved is pulled again")
def head_and_moved_tag(t):
    server = t.app()
    t.pulls(f"{server.host}/app:1")
    other = made_image([CHANGES])
    server.serve(other, "app", "1")
    t.pulls(f"{server.host}/app:1", image=other)


@each("HEAD may be refused, or lack length or digest, or follow a redirect to a link that is signed for GET: then GET", {
    "405": lambda server: answer(405), "403": lambda server: answer(403),
    "without_length": lambda server: server.changed(length=None), "without_digest": lambda server: answer(200, IMAGE.data, media_type=MANIFEST),
    "redirected": lambda server: redirect("/signed-for-get"),
})
def head(t, reply):
    server = t.app()
    server.expect("HEAD", MANIFESTS, reply(server), times=ALWAYS).expect("HEAD", "/signed-for-get", answer(403), times=ALWAYS)
    for _ in range(2):
        t.pulls(f"{server.host}/app:1")


def padded(size):
    data = IMAGE.data + b" " * (size - len(IMAGE.data))
    padded_image = document(data, MANIFEST, IMAGE.blobs)
    padded_image.id = IMAGE.id
    return padded_image


@case("a manifest may have 4 MiB")
def manifest_of_4_mib(t):
    t.pulls(f"{t.app(padded(MOST)).host}/app:1")


@case("a manifest of more than 4 MiB is refused")
def manifest_too_large(t):
    t.fails(f"{t.app(padded(MOST + 1)).host}/app:1", words=TOO_LARGE)


@each("a manifest without an end is not read for long", {"chunked": {"chunked": True}, "until_close": {"length": None}})
def manifest_endless(t, words):
    server = t.app()
    server.expect("GET", TAG, lambda one: answer(200, endless(), media_type=MANIFEST, **words), times=ALWAYS)
    t.fails(f"{server.host}/app:1", words=TOO_LARGE)
    t.check(all(one.sent < 64 << 20 for one in server.seen(path=TAG)), f"sent: {[one.sent for one in server.seen(path=TAG)]}")


@case("a config of more than 4 MiB is refused")
def config_too_large(t):
    config = IMAGE.config + b" " * (MOST + 1 - len(IMAGE.config))

    def edit(manifest):
        manifest["config"].update(digest=digest_of(config), size=len(config))

    image = made_image([CHANGES], edit=edit)
    image.blobs[digest_of(config)] = config
    t.fails(f"{t.app(image).host}/app:1", words=TOO_LARGE)


@case("the body of an error is read up to a bound")
def error_body_endless(t):
    server = t.app()
    server.expect("GET", TAG, lambda one: answer(404, endless(), chunked=True), times=ALWAYS)
    t.fails(f"{server.host}/app:1", words=NOT_THERE)
    t.check(all(one.sent < 32 << 20 for one in server.seen(path=TAG)), "it was read")


@case("nested indexes are followed")
def nested_index(t):
    inner = made_index([IMAGE])
    server = t.registry().serve(made_index([made_index([inner])]), "app", "1")
    t.pulls(f"{server.host}/app:1")


@case("indexes that are nested too deeply are refused")
def nested_too_deeply(t):
    what = IMAGE
    for _ in range(12):
        what = made_index([what])
    t.fails(f"{t.registry().serve(what, 'app', '1').host}/app:1", words="invalid index|exceeds the limits")


@case("the documents of one image are bounded in number")
def nested_too_many(t):
    leaves = [made_index([], descriptors=[ARM.descriptor(platform={"os": "linux", "architecture": "arm64"}, annotations={"n": str(n)})])
              for n in range(200)]
    server = t.registry().serve(made_index(leaves), "app", "1")
    t.fails(f"{server.host}/app:1", words="invalid index|exceeds the limits|no image for the wanted platform")
    t.check(len(server.seen(path=MANIFESTS)) <= 70, f"{len(server.seen(path=MANIFESTS))} documents were fetched")


@case("unknown/unknown entries are attestations: not images, and not fetched")
def attestation(t):
    note = made_image([CHANGES], platform=("unknown", "unknown"), edit=lambda m: m["layers"][0].update(
        mediaType="application/vnd.in-toto+json"))
    server = t.registry().serve(made_index([note, IMAGE]), "app", "1")
    t.pulls(f"{server.host}/app:1")
    t.check(not server.seen(path=f"/v2/app/manifests/{note.digest}"), "the attestation was fetched")


ARTIFACTS = {
    "config_type": ("application/vnd.cncf.helm.config.v1\\+json",
                    lambda m: m["config"].update(mediaType="application/vnd.cncf.helm.config.v1+json")),
    "artifact_type": ("application/vnd.example.sbom", lambda m: (m.update(artifactType="application/vnd.example.sbom"), m["config"].update(
        mediaType="application/vnd.oci.empty.v1+json"))),
}


@each("an artifact is refused by name", ARTIFACTS)
def artifact(t, row):
    words, edit = row
    server = t.app(made_image([CHANGES], edit=edit))
    t.fails(f"{server.host}/app:1", words=words)
    t.check(not server.seen(path=BLOBS), "blobs of the artifact were fetched")


@case("sha512 is valid")
def sha512(t):
    image = made_image([base_layer(files=3), CHANGES], algorithm="sha512")
    server = t.app(image)
    t.pulls(f"{server.host}/app:1", image=image)
    t.check(server.seen(path=f"/v2/app/blobs/{image.layer_digests[0]}"), "no blob by sha512")


@case("sha512 is valid in a reference")
def sha512_reference(t):
    image = made_image([CHANGES], algorithm="sha512")
    t.pulls(f"{t.app(image).host}/app@{image.digest}", image=image)


@each("a digest is validated before it becomes a path or URL", {
    "path": "sha256:../../../../etc/passwd", "short": "sha256:1234", "query": "sha256:" + "a" * 60 + "?x=1", "upper": "sha256:" + "A" * 64,
    "unknown": "md5:" + "0" * 32,
})
def invalid_digest(t, digest):
    server = t.app(made_image([CHANGES], edit=lambda m: m["layers"][0].update(digest=digest)))
    t.fails(f"{server.host}/app:1", words="digest|invalid manifest")
    t.check(not [one for one in server.requests if digest[7:] in one.path], f"asked for: {server.requests}")


@each("a media type that is no image is refused", {"json": "application/json", "html": "text/html"})
def other_media_type(t, kind):
    server = t.app()
    server.expect("GET", TAG, answer(200, b"<html>log in to the hotel</html>", media_type=kind), times=ALWAYS)
    t.fails(f"{server.host}/app:1", words=f"{UNSUPPORTED}|malformed JSON|malformed answer")


@each("`image inspect` fetches documents only", {"image": IMAGE, "index": made_index([IMAGE, ARM])})
def inspect(t, what):
    server = t.registry().serve(what, "app", "1")
    done = t.inspect(f"{server.host}/app:1")
    t.check(done.status == 0 and "rootfs" in done.out, str(done))
    t.check(not [one for one in server.requests if any(d in one.path for d in IMAGE.layer_digests)], "layers were fetched")


@case("`image inspect` of what is not there is an error")
def inspect_missing(t):
    server = t.app().expect("GET", "/v2/app/manifests/2", answer(404), times=ALWAYS)
    t.failed(t.inspect(f"{server.host}/app:2"), NOT_THERE)
