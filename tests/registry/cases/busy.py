"""Busy and failing servers."""
import email.utils
import time

from scripted_registry import redirect
from trial import ALWAYS, IMAGE, LARGE, MANY, TAG, UNAVAILABLE, answer, bearer, blob, case, each

STATUSES = {str(n): n for n in (408, 429, 500, 502, 503, 504)}


@each("408, 429, 500, 502, 503 and 504 are retried", STATUSES)
def busy_manifest(t, status):
    server = t.app().expect("GET", TAG, answer(status, b"later"), times=2)
    t.pulls(f"{server.host}/app:1")


@each("408, 429, 500, 502, 503 and 504 are retried", STATUSES)
def busy_layer(t, status):
    server = t.app().expect("GET", blob(IMAGE, 0), answer(status, b"later"), times=2)
    t.pulls(f"{server.host}/app:1")


@each("resets, and connections that end before an answer, are retried", {
    "cut": answer(raw=b""), "reset_in_body": answer(200, IMAGE.data, reset=5), "cut_in_head": answer(raw=b"HTTP/1.1 200 O"),
    "cut_in_body": answer(200, IMAGE.data, media_type=IMAGE.media_type, cut=50)})
def busy_connection(t, reply):
    server = t.app().expect("GET", TAG, reply, times=2)
    t.pulls(f"{server.host}/app:1")


@case("a token server may be busy, too")
def busy_token_server(t):
    server = t.app().expect("GET", "/token", answer(503), times=2)
    bearer(server, t.secret("token-of-busy"), ['Bearer realm="/token",service="s",scope="repository:app:pull"'])
    t.pulls(f"{server.host}/app:1")


@case("a host to which a link leads may be busy, too")
def busy_other_host(t):
    cdn, server, path = t.registry(), t.app(), blob(IMAGE, 0)
    cdn.expect("GET", "/cdn", answer(503), times=2).expect("GET", "/cdn", server.content[path])
    server.expect("GET", path, redirect(f"{cdn.url}/cdn"), times=(1, 3))
    t.pulls(f"{server.host}/app:1")


@each("what will not change is not retried", {str(n): n for n in (400, 405, 410, 451, 501)})
def not_retried(t, status):
    server = t.app().expect("GET", TAG, answer(status, b"no"), times=ALWAYS)
    t.fails(f"{server.host}/app:1", words=str(status))
    t.check(len(server.seen(path=TAG)) == 1, f"{len(server.seen(path=TAG))} times")


@case("retries end, and the error names the status")
def busy_for_ever(t):
    server = t.app().expect("GET", TAG, answer(503), times=ALWAYS)
    t.fails(f"{server.host}/app:1", words=f"{UNAVAILABLE}.*503|503.*{UNAVAILABLE}")
    t.check(len(server.seen(path=TAG)) == 5, f"{len(server.seen(path=TAG))} tries")


@case("retries wait longer each time, with jitter")
def busy_intervals(t):
    intervals = []
    for image in (IMAGE, LARGE):
        server = t.app(image).expect("GET", TAG, answer(503), times=3)
        t.pulls(f"{server.host}/app:1", image=image)
        times = [one.time for one in server.seen(path=TAG)]
        intervals.append([b - a for a, b in zip(times, times[1:])])
        t.check(intervals[-1][0] > 0.1 and intervals[-1][2] > intervals[-1][0] * 1.2, f"intervals: {intervals}")
    t.check(abs(intervals[0][1] - intervals[1][1]) > 0.001, f"no jitter: {intervals}")


def in_seconds(n):
    return email.utils.formatdate(time.time() + n, usegmt=True)


@each("Retry-After is heeded, in seconds or as a date", {"seconds": lambda: "3", "date": lambda: in_seconds(4),
                                                         "asctime": lambda: time.asctime(time.gmtime(time.time() + 4))})
def retry_after(t, value):
    server = t.app().expect("GET", TAG, lambda one: answer(429, b"", {"Retry-After": value()}))
    t.pulls(f"{server.host}/app:1")
    first, second = server.seen(path=TAG)
    t.check(2.9 < second.time - first.time < 12, f"asked again after {second.time - first.time:.2f} s")


@each("a Retry-After in the past, or one that is nonsense, does not stop it", {
    "past": "Mon, 01 Jan 2001 00:00:00 GMT", "zero": "0", "negative": "-5", "nonsense": "soon"})
def retry_after_ignored(t, value):
    server = t.app().expect("GET", TAG, answer(503, b"", {"Retry-After": value}))
    t.pulls(f"{server.host}/app:1")


@each("a Retry-After of more than a minute is an error that says it", {"seconds": lambda: "3600", "date": lambda: in_seconds(3600)})
def retry_after_too_long(t, value):
    server = t.app().expect("GET", TAG, lambda one: answer(429, b"", {"Retry-After": value()}), times=ALWAYS)
    done = t.fails(f"{server.host}/app:1", words=r"(?i)\b(3[56]\d\d|1 ?h|60 ?min|59 ?min)")
    t.check(done.seconds < 20 and len(server.seen(path=TAG)) == 1, f"{done.seconds:.0f} s, {len(server.seen(path=TAG))} requests")


LAYERS_OF_MANY = "|".join(blob(MANY, n) for n in range(len(MANY.layers)))


@case("one gate a host: while one request has to wait, no other goes there")
def gate(t):
    server = t.app(MANY)
    server.expect("GET", LAYERS_OF_MANY, answer(429, b"", {"Retry-After": "4"}))
    server.expect("GET", LAYERS_OF_MANY, server.changed(stall=(100, 1)), times=ALWAYS)  # so that more would be asked for meanwhile
    t.pulls(f"{server.host}/app:1", image=MANY)
    refused = next(one for one in server.requests if one.status == 429)
    early = [one for one in server.requests if refused.end + 0.5 < one.time < refused.end + 3.9]
    t.check(not early, f"{early} did not wait")
    t.check(len([one for one in server.requests if one.time > refused.end + 3.9]) > 0, "nothing came after the wait")


