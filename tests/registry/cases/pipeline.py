"""How pulls fit the pipeline: each blob once, few at a time, and what was finished is kept."""
import gzip
import json
import os
import shutil
import signal
import time

from made_images import base_layer, directory, file, noise, tar_of
from scripted_registry import made_image
from trial import ALWAYS, BLOBS, IMAGE, LARGE, MANY, Problem, answer, blob, case, each


def counts(server, image):
    return {digest: len([one for one in server.seen(path=f"/v2/app/blobs/{digest}") if one.status in (200, 206)]) for digest in image.blobs}


def no_blob_twice(t, server, image):
    t.check(all(n == 1 for n in counts(server, image).values()), f"GETs of blobs: {counts(server, image)}")


@case("each blob is fetched once")
def blobs_once(t):
    server = t.app(MANY)
    t.pulls(f"{server.host}/app:1", image=MANY)
    no_blob_twice(t, server, MANY)


@case("a layer that two images share, or that one has twice, is fetched once")
def shared_layer(t):
    base = base_layer(files=3)
    first, second = made_image([base]), made_image([base, base])
    server = t.registry().serve(first, "app", "1").serve(second, "app", "2")
    t.pulls(f"{server.host}/app:1", image=first)
    t.pulls(f"{server.host}/app:2", image=second)
    t.check(len(server.seen(path=blob(first, 0))) == 1, f"{len(server.seen(path=blob(first, 0)))} times")


@case("each blob is fetched once across processes")
def two_processes(t):
    server = t.app(MANY)
    server.expect("GET", blob(MANY, 0), server.changed(stall=(5000, 3)))
    children = [t.start("image", "pull", f"{server.host}/app:1") for _ in range(2)]
    for child in children:
        done = t.end(child)
        t.check(done.status == 0 and MANY.id in done.out, str(done))
    layers = {digest: n for digest, n in counts(server, MANY).items() if digest != MANY.id}
    t.check(all(n == 1 for n in layers.values()), f"GETs of layers: {layers}")


@case("one after the other, the second asks for no blob")
def again(t):
    server = t.app(MANY)
    for _ in range(2):
        t.pulls(f"{server.host}/app:1", image=MANY)
    no_blob_twice(t, server, MANY)


@case("an image that is up to date, but damaged here, is pulled again: what is lacking is fetched")
def again_but_lacking(t):
    server = t.app(MANY)
    t.pulls(f"{server.host}/app:1", image=MANY)
    lost = json.loads(MANY.config)["rootfs"]["diff_ids"][3]
    shutil.rmtree(t.repository / "diffs" / lost.replace(":", "/"))
    t.pulls(f"{server.host}/app:1", image=MANY)
    t.check([counts(server, MANY)[digest] for digest in MANY.layer_digests] == [2 if n == 3 else 1 for n in range(8)],
            f"GETs of layers: {counts(server, MANY)}")
    done = t.om("check")
    t.check(done.status == 0, str(done))


@case("at most 4 layers of a pull are under way, and 6 connections a host")
def permits(t):
    server = t.app(MANY)
    server.expect("GET", BLOBS, server.changed(stall=(100, 1)), times=ALWAYS)
    t.pulls(f"{server.host}/app:1", image=MANY)
    t.check(2 <= server.most_busy <= 4, f"{server.most_busy} blobs at a time")
    t.check(server.most_open <= 6, f"{server.most_open} connections at a time")


@case("a claim beats while a layer waits: another process does not take it over after 20 seconds", slow=True)
def claim_while_waiting(t):
    server = t.app(LARGE)
    server.expect("GET", blob(LARGE, 0), answer(429, b"", {"Retry-After": "28"}))
    first = t.start("image", "pull", f"{server.host}/app:1")
    t.check(server.wait_for(lambda s: s.seen(path=blob(LARGE, 0))), "the layer is not asked for")
    second = t.start("image", "pull", f"{server.host}/app:1")
    for child in (first, second):
        done = t.end(child, 120)
        t.check(done.status == 0, str(done))
    t.check(len(server.seen(path=blob(LARGE, 0))) == 2, f"{len(server.seen(path=blob(LARGE, 0)))} requests for the layer")


def small_and_huge():
    base, top = base_layer("shared", files=3), tar_of([directory("d"), file("d/top", noise("top", 200000))])
    return made_image([base]), made_image([base, top], compress=True)


@case("a small image that shares a base with a huge one need not wait for it")
def small_beside_huge(t):
    small, huge = small_and_huge()
    server = t.registry().serve(small, "app", "small").serve(huge, "app", "huge")
    server.expect("GET", blob(huge, 1), server.changed(stall=(1000, 25)))
    slow = t.start("image", "pull", f"{server.host}/app:huge")
    t.check(server.wait_for(lambda s: s.seen(path=blob(huge, 1)) and s.seen(path=blob(small, 0))), "the layers are not asked for")
    t.pulls(f"{server.host}/app:small", image=small, timeout=20)
    t.check(slow.poll() is None, "the huge one is finished already: the case shows nothing")
    done = t.end(slow)
    t.check(done.status == 0 and huge.id in done.out, str(done))
    t.check(len(server.seen(path=blob(small, 0))) == 1, "the base was fetched twice")


@case("a killed pull keeps what it had", slow=True)
def killed(t):
    small, huge = small_and_huge()
    server = t.registry().serve(huge, "app", "1")
    server.expect("GET", blob(huge, 1), server.changed(stall=(1000, 500)))
    child = t.start("image", "pull", f"{server.host}/app:1")
    t.check(server.wait_for(lambda s: [one for one in s.seen(path=blob(huge, 0)) if one.end] and s.seen(path=blob(huge, 1))), "no layers")
    time.sleep(15)  # what is finished is published every few seconds
    os.killpg(child.pid, signal.SIGKILL)
    child.communicate()
    t.pulls(f"{server.host}/app:1", image=huge)
    t.check(len(server.seen(path=blob(huge, 0))) == 1, "the finished layer was fetched again")


@each("a pull that is interrupted ends at once, without another request", {"in_a_body": {"stall": (1000, 500)}, "while_waiting": {
    "status": 503, "body": b"", "headers": {"Retry-After": "50"}}})
def interrupted(t, words):
    server = t.app(LARGE)
    server.expect("GET", blob(LARGE, 0), lambda one: server.usual(one).with_(**words), times=ALWAYS)
    child = t.start("image", "pull", f"{server.host}/app:1")
    t.check(server.wait_for(lambda s: [one for one in s.seen(path=blob(LARGE, 0)) if one.status]), "the layer is not asked for")
    time.sleep(0.5)
    before, began = len(server.requests), time.monotonic()
    child.send_signal(signal.SIGINT)
    try:
        done = t.end(child, 20)
    except Problem:
        raise Problem("the pull goes on after SIGINT") from None
    t.check(done.status != 0 and time.monotonic() - began < 10, str(done))
    t.check(len(server.requests) == before, "it was resumed after the interruption")
    t.check(IMAGE.id not in t.om("image", "list").out, "an image is left")


@case("a connection whose body was not read is not used again")
def unread_body(t):
    server = t.app()
    server.expect("GET", "/v2/app/manifests/1", answer(503, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}" * 2000))
    t.pulls(f"{server.host}/app:1")


@case("connections are used again")
def connections_reused(t):
    server = t.app(MANY)
    t.pulls(f"{server.host}/app:1", image=MANY)
    used = {one.connection for one in server.requests}
    t.check(len(used) <= 6 < len(server.requests), f"{len(used)} connections for {len(server.requests)} requests")




def layers_asked_for(server, image):
    """The numbers of the layers, in the order of the requests."""
    asked = [one.path.rsplit("/", 1)[-1] for one in server.seen(path=BLOBS)]
    return [image.layer_digests.index(digest) for digest in asked if digest in image.layer_digests]


@case("the largest layers come first")
def largest_first(t):
    image = made_image([tar_of([directory("d"), file(f"d/{n}", noise(f"first{n}", 30000 * (n + 1)))]) for n in range(8)], compress=False)
    server = t.app(image)
    server.expect("GET", BLOBS, server.changed(stall=(100, 1)), times=ALWAYS)
    t.pulls(f"{server.host}/app:1", image=image)
    order = layers_asked_for(server, image)
    t.check(sorted(order[:4]) == [4, 5, 6, 7], f"the order is {order}")


@case("several names are pulled at the same time, share what they have in common, and fail alone")
def several_names(t):
    base = base_layer("common", files=3)
    images = [made_image([base, tar_of([file(f"own{n}", noise(f"own{n}", 30000))])]) for n in range(4)]
    server = t.registry()
    for n, image in enumerate(images):
        server.serve(image, "app", str(n))
    server.expect("GET", "/v2/app/blobs/" + images[0].layer_digests[1], server.changed(stall=(100, 5)))
    server.expect("GET|HEAD", "/v2/app/manifests/none", answer(404), times=ALWAYS)
    names = [f"{server.host}/app:{tag}" for tag in ("0", "none", "1", "2", "3")]
    done = t.om("image", "pull", *names)
    t.check(done.status == 1 and len(done.err.strip().split("\n")) == 1 and "app" in done.err, f"expected one error: {done}")
    t.check(all(image.id in done.out for image in images), str(done))
    t.check(images[0].id in done.out.strip().split("\n")[-1], f"the others waited for the slow one: {done}")
    t.check(len(server.seen(path=blob(images[0], 0))) == 1, "the common layer was fetched again")
    again = t.om("image", "pull", *names[2:])
    t.check(again.status == 0 and len(again.out.split()) == 3, str(again))


@case("a pull beside large ones in the same process waits for a few layers only")
def small_beside_large(t):
    large = [made_image([tar_of([directory("d"), file(f"d/{n}", noise(f"large{n}{k}", 40000))]) for n in range(12)], compress=False) for k in "ab"]
    small = made_image([tar_of([file("small", noise("small", 5000))])])
    server = t.registry().serve(large[0], "app", "a").serve(large[1], "app", "b").serve(small, "app", "small")
    server.expect("GET", BLOBS, lambda one: None if one.path == blob(small, 0) else server.changed(stall=(100, 0.5))(one), times=ALWAYS)
    done = t.om("image", "pull", f"{server.host}/app:a", f"{server.host}/app:b", f"{server.host}/app:small")
    t.check(done.status == 0, str(done))
    t.check(small.id in done.out.split("\n")[0], f"the small one was not the first: {done}")
    before = [one.path for one in server.seen(path=BLOBS)].index(blob(small, 0))
    t.check(before < 20, f"{before} blobs were asked for before it")


@case("--json says what was fetched of each layer")
def fetched_layers(t):
    server = t.app(MANY)
    for up_to_date in (False, True):
        done = t.om("--json", "image", "pull", f"{server.host}/app:1")
        t.check(done.status == 0, str(done))
        told = json.loads(done.out)
        t.check(told["id"] == MANY.id and told["up_to_date"] == up_to_date, str(done))
        layers = told["layers"]
        t.check(len(layers) == (0 if up_to_date else len(MANY.layer_digests)), str(done))
        for one, compressed in zip(layers, MANY.layers):
            sizes = len(compressed), len(gzip.decompress(compressed))
            t.check((one["fetched"], one["unpacked"]) == sizes and one["rate"] > 0, f"{one}, expected {sizes}")
