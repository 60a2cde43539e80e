"""How pulls fit the pipeline: each blob once, few at a time, and what was finished is kept."""
import os
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


