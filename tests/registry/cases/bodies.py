"""Bodies of blobs and documents, and how they are resumed."""
import gzip
import itertools

from made_images import base_layer
from scripted_registry import MANIFEST, made_image
from trial import (ALWAYS, BLOBS, DIGEST, IMAGE, LARGE, MALFORMED, MANIFESTS, SIZE, TAG, TOO_LARGE, UNAVAILABLE, answer, blob, case,
                   each, endless)

PATH, DATA = blob(LARGE, 0), LARGE.layers[0]
HALF = len(DATA) // 2
FAILED = f"{MALFORMED}|{UNAVAILABLE}|stream ends too early|{SIZE}|reset|{DIGEST}"


@case("no Accept-Encoding")
def no_accept_encoding(t):
    server = t.app()
    t.pulls(f"{server.host}/app:1")
    t.check(all(one.get("accept-encoding") in (None, "identity") for one in server.requests), "Accept-Encoding was sent")


@each("a Content-Encoding that was not asked for is an error or decoded, never hashed as it is (quay#1310)", {
    "blob": BLOBS, "manifest": MANIFESTS, "layer": blob(IMAGE, 0)})
def content_encoding(t, path):
    server = t.app()

    def reply(one):
        usual = server.usual(one)
        return usual.with_(body=gzip.compress(usual.body), headers={"Content-Encoding": "gzip"})

    server.expect("GET", path, reply, times=ALWAYS)
    done = t.om("image", "pull", f"{server.host}/app:1")
    t.check(done.status != 0 or IMAGE.id in done.out, str(done))
    if done.status != 0:
        t.failed(done, "(?i)content.encoding")


@case("a Content-Encoding of a layer that says what the layer is anyway is an error, or decoded once")
def content_encoding_of_gzip_layer(t):
    server = t.app()
    server.expect("GET", blob(IMAGE, 0), server.changed(headers={"Content-Encoding": "gzip"}), times=ALWAYS)
    t.fails(f"{server.host}/app:1", words=f"(?i)content.encoding|{DIGEST}|{SIZE}")


@each("the length of a body comes in every form", {
    "missing": {"length": None}, "chunked": {"chunked": True}, "chunked_with_trailer_headers": {"chunked": True, "headers": {"Trailer": "X-End"}},
    "http_1_0": {"http": "HTTP/1.0"}, "http_1_0_without": {"http": "HTTP/1.0", "length": None},
})
def body_length(t, words):
    server = t.app()
    server.expect("GET", "/v2/app/.*", server.changed(**words), times=ALWAYS)
    t.pulls(f"{server.host}/app:1")


def longer(one_server, rest):
    def reply(one):
        usual = one_server.usual(one)
        return usual.with_(body=itertools.chain([usual.body], rest()), **({"length": len(usual.body) + 5} if rest is five else {"chunked": True}))
    return reply


def five():
    return [b"extra"]


@each("the descriptor's size is the bound: stop at the first byte beyond", {"longer": five, "endless": endless})
def body_beyond_size(t, rest):
    server = t.app()
    server.expect("GET", blob(IMAGE, 0), longer(server, rest), times=ALWAYS)
    t.fails(f"{server.host}/app:1", words=f"{SIZE}|{MALFORMED}|{TOO_LARGE}")
    t.check(all(one.sent < 32 << 20 for one in server.requests), "it was read for long")


@case("a Content-Length that is too small, of a server that knows ranges: ask on")
def body_length_too_small(t):
    server = t.app(LARGE)
    server.expect("GET", PATH, answer(200, DATA[:HALF]))
    server.expect("GET", PATH, None, {"Range": f"^bytes={HALF}-$"})
    t.pulls(f"{server.host}/app:1", image=LARGE)


@case("a body that is always too short is an error")
def body_too_short(t):
    server = t.app(LARGE).expect("GET", PATH, lambda one: answer(200, DATA[:-1]) if not one.get("range") else answer(416), times=ALWAYS)
    t.fails(f"{server.host}/app:1", words=FAILED)


def resumes(t, reply, first=None, times=1, **more):
    """A pull whose layer breaks off in the middle; then `reply` is what the request from there gets."""
    server = t.app(LARGE, **more)
    server.expect("GET", PATH, first or server.changed(cut=HALF), {"Range": None})
    server.expect("GET", PATH, reply, {"Range": f"^bytes={HALF}-$"}, times=times)
    return server


@each("resume by Range: bytes=N-", {"cut": "cut", "reset": "reset"})
def resume(t, how):
    server = t.app(LARGE)
    server.expect("GET", PATH, server.changed(**{how: HALF}), {"Range": None})
    server.expect("GET", PATH, None, {"Range": r"^bytes=\d+-$"})  # a reset may take with it what was on its way
    t.pulls(f"{server.host}/app:1", image=LARGE)
    t.check(how == "reset" or server.seen(path=PATH)[1].get("range") == f"bytes={HALF}-", f"asked: {server.seen(path=PATH)}")


@case("resume over TLS that ends without close_notify")
def resume_tls(t):
    server = resumes(t, None, tls=True)
    t.pulls(f"{server.host}/app:1", image=LARGE)


@case("resume of a chunked body")
def resume_chunked(t):
    server = t.app(LARGE)
    server.expect("GET", PATH, server.changed(cut=HALF, chunked=True), {"Range": None})
    server.expect("GET", PATH, None, {"Range": r"^bytes=\d+-$"})
    t.pulls(f"{server.host}/app:1", image=LARGE)


def part(begin, end, total=len(DATA), status=206, **more):
    return answer(status, DATA[begin:end], {"Content-Range": f"bytes {begin}-{end - 1}/{total}"}, **more)


@case("the total of a Content-Range may be *")
def resume_total_unknown(t):
    t.pulls(f"{resumes(t, part(HALF, len(DATA), '*')).host}/app:1", image=LARGE)


@case("a shorter range: ask on")
def resume_shorter_range(t):
    server = resumes(t, part(HALF, HALF + 1000))
    server.expect("GET", PATH, None, {"Range": f"^bytes={HALF + 1000}-$"})
    t.pulls(f"{server.host}/app:1", image=LARGE)


@case("a 200 instead of a range: skip what is there (distribution#4667)")
def resume_by_200(t):
    t.pulls(f"{resumes(t, answer(200, DATA)).host}/app:1", image=LARGE)


@case("a 200 is skipped once a layer; a server that always begins anew is an error")
def resume_by_200_again(t):
    server = t.app(LARGE)
    cuts = itertools.count(1)
    server.expect("GET", PATH, lambda one: answer(200, DATA, cut=HALF + 1000 * next(cuts)), times=ALWAYS)
    t.fails(f"{server.host}/app:1", words=FAILED)
    t.check(len(server.seen(path=PATH)) <= 4, f"{len(server.seen(path=PATH))} times {HALF} bytes")


@each("what does not continue the blob is never joined", {
    "416": answer(416, b"", {"Content-Range": f"bytes */{HALF}"}), "206_without_range": answer(206, DATA[HALF:]),
    "206_from_the_start": part(0, len(DATA)), "206_earlier": part(HALF - 1, len(DATA)), "206_later": part(HALF + 1, len(DATA)),
    "206_of_another_size": part(HALF, len(DATA), len(DATA) + 9),
    "206_multipart": answer(206, b"--x\r\n\r\n", media_type="multipart/byteranges; boundary=x"),
    "206_nonsense": answer(206, DATA[HALF:], {"Content-Range": "bytes half-end/all"}), "206_of_other_units": answer(
        206, DATA[HALF:], {"Content-Range": f"lines {HALF}-{len(DATA) - 1}/{len(DATA)}"}),
})
def resume_refused(t, reply):
    server = resumes(t, reply, times=(1, 9))
    t.fails(f"{server.host}/app:1", words=f"{MALFORMED}|{UNAVAILABLE}")  # not the digest: it was not joined


@case("a 206 to a request without Range, of the whole, is not wrong")
def whole_as_206(t):
    server = t.app(LARGE).expect("GET", PATH, part(0, len(DATA)), times=(1, 2))
    done = t.om("image", "pull", f"{server.host}/app:1")
    t.check(LARGE.id in done.out if done.status == 0 else MALFORMED in done.err, str(done))


@case("the count of tries starts anew after progress")
def resume_often(t):
    server, step = t.app(LARGE), len(DATA) // 12

    def reply(one):
        begin = int((one.get("range") or "bytes=0-")[6:-1])
        return (part(begin, len(DATA)) if begin else answer(200, DATA)).with_(cut=step)

    server.expect("GET", PATH, reply, times=(12, 14))
    t.pulls(f"{server.host}/app:1", image=LARGE, timeout=120)
    offsets = [int((one.get("range") or "bytes=0-")[6:-1]) for one in server.seen(path=PATH)]
    t.check(offsets == sorted(set(offsets)), f"bytes were asked for twice: {offsets}")


@each("five tries without a byte end it", {"cut": {"cut": 0}, "reset": {"reset": 0}, "status": {"status": 503, "body": b""}})
def five_tries(t, words):
    server = t.app()
    server.expect("GET", blob(IMAGE, 0), lambda one: answer(200, IMAGE.layers[0]).with_(**words), times=ALWAYS)
    t.fails(f"{server.host}/app:1", words=FAILED, timeout=120)
    t.check(len(server.seen(path=blob(IMAGE, 0))) == 5, f"{len(server.seen(path=blob(IMAGE, 0)))} tries")


@case("a wrong byte is found by the digest, and not fetched again and again")
def flipped_byte(t):
    server = t.app(LARGE)
    server.expect("GET", PATH, answer(200, DATA[:HALF] + bytes([DATA[HALF] ^ 1]) + DATA[HALF + 1:]), times=ALWAYS)
    t.fails(f"{server.host}/app:1", words=f"{DIGEST}|diff ID")
    t.check(len(server.seen(path=PATH)) == 1, f"{len(server.seen(path=PATH))} times")


@each("a server that stalls is left, and the body resumed (skopeo#2878)", {"middle": HALF, "start": 0}, slow=True)
def stall(t, at):
    server = t.app(LARGE)
    server.expect("GET", PATH, server.changed(stall=(at, 500)), {"Range": None})
    server.expect("GET", PATH, None)
    t.pulls(f"{server.host}/app:1", image=LARGE, timeout=240)
    t.check(server.seen(path=PATH)[1].get("range") in ([f"bytes={at}-"] if at else [None, "bytes=0-"]), f"asked: {server.seen(path=PATH)}")


@case("a server that does not answer at all is left", slow=True)
def stall_before_head(t):
    server = t.app()
    server.expect("GET", TAG, lambda one: server.sleep(200) or answer(503))
    t.pulls(f"{server.host}/app:1", timeout=240)


@case("a slow server is no stalled one")
def slow_server(t):
    def trickle():
        for n in range(12):
            server.sleep(0.5)
            yield DATA[n * len(DATA) // 12:(n + 1) * len(DATA) // 12]

    server = t.app(LARGE).expect("GET", PATH, lambda one: answer(200, trickle(), length=len(DATA)))
    t.pulls(f"{server.host}/app:1", image=LARGE)


@each("the server may close idle connections without a word: retry on a fresh one", {
    "closed": ("close", False), "hangs_up": ("hang up", False), "closed_tls": ("close", True), "hangs_up_tls": ("hang up", True)})
def idle_connection(t, row):
    then, tls = row
    server = t.app(tls=tls)
    server.expect("GET", "/v2/app/.*", server.changed(then=then, rude=True), times=ALWAYS)
    t.pulls(f"{server.host}/app:1")
    t.check(len(server.seen(path=TAG)) == 1 and len(server.seen(path=BLOBS)) == len(IMAGE.blobs), "something was asked for twice")


EARLY = b"HTTP/1.1 103 Early Hints\r\nLink: </style>; rel=preload\r\n\r\n"


@each("answers of every shape", {
    "http_1_0": {"http": "HTTP/1.0"}, "103": {"first": EARLY}, "103_twice": {"first": EARLY * 2},
    "100": {"first": b"HTTP/1.1 100 Continue\r\n\r\n"},
    "20_kib_of_headers": {"headers": {f"X-Padding-{n}": "y" * 1000 for n in range(20)}}, "one_header_of_20_kib": {"headers": {"X": "y" * 20000}},
    "folded_case": {"headers": {"cOnNeCtIoN": "Keep-Alive"}}, "connection_close": {"headers": {"Connection": "close"}, "then": "close"},
})
def answer_shape(t, words):
    server = t.app()
    server.expect("GET", "/v2/app/.*", server.changed(**words), times=ALWAYS)
    t.pulls(f"{server.host}/app:1")


@case("headers of more than 64 KiB are refused")
def headers_too_large(t):
    server = t.app()
    server.expect("GET", TAG, server.changed(headers={f"X-Padding-{n}": "y" * 1000 for n in range(300)}), times=ALWAYS)
    t.fails(f"{server.host}/app:1", words=f"{MALFORMED}|{TOO_LARGE}")


@each("what is no HTTP is an error", {
    "nonsense": b"nonsense\r\n\r\n", "status": b"HTTP/1.1 abc\r\n\r\n", "http2": b"\0\0\x12\4\0\0\0\0\0\0\3\0\0\0\x80",
    "two_lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 7\r\n\r\nabcdefg"})
def not_http(t, raw):
    server = t.app().expect("GET", TAG, answer(raw=raw), times=ALWAYS)
    t.fails(f"{server.host}/app:1", words=f"{MALFORMED}|stream ends too early|{UNAVAILABLE}", timeout=120)


@case("TLS may end without close_notify after a body with a length")
def no_close_notify(t):
    server = t.app(tls=True)
    server.expect("GET", "/v2/app/.*", server.changed(then="close", rude=True), times=ALWAYS)
    t.pulls(f"{server.host}/app:1")


@case("TLS without close_notify is an error for a body without a length")
def no_close_notify_without_length(t):
    server = t.app(tls=True)
    server.expect("GET", TAG, answer(200, IMAGE.data, media_type=MANIFEST, length=None, rude=True), times=ALWAYS)
    t.fails(f"{server.host}/app:1", words=FAILED, timeout=120)


@case("with close_notify, a body without a length is whole")
def close_notify_without_length(t):
    server = t.app(tls=True)
    server.expect("GET", TAG, answer(200, IMAGE.data, media_type=MANIFEST, length=None), times=(1, 2))
    t.pulls(f"{server.host}/app:1")


@case("an empty layer, and one of a few bytes")
def small_layers(t):
    image = made_image([bytes(1024), base_layer(files=0)])
    t.pulls(f"{t.app(image).host}/app:1", image=image)
