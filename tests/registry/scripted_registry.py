"""An HTTP/1.1 server that gives the answers of a script, and records each request that the script does not expect.

    image = made_image([tar])
    with scripted_registry([expect("GET", "/v2/app/manifests/1", answer(503), times=2)]) as registry:
        registry.serve(image, "app", "1")      # what the script leaves over is answered as a good registry does
        ... docker://{registry.host}/app:1 ...
        problems = registry.verify()"""
import gzip
import hashlib
import json
import re
import socket
import ssl
import struct
import threading
import time

OCI, DOCKER = "application/vnd.oci.image.", "application/vnd.docker.distribution.manifest."
MANIFEST, INDEX = OCI + "manifest.v1+json", OCI + "index.v1+json"
DOCKER_MANIFEST, DOCKER_LIST = DOCKER + "v2+json", DOCKER + "list.v2+json"
UNEXPECTED = 599
REASONS = {200: "OK", 206: "Partial Content", 307: "Temporary Redirect", 401: "Unauthorized", 404: "Not Found"}


# --- images

def digest_of(data, algorithm="sha256"):
    return f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"


class document:
    """A manifest or index: its bytes and media type, and what it refers to: `blobs` by digest, `children`."""

    def __init__(self, data, media_type, blobs=None, children=(), algorithm="sha256"):
        self.data, self.media_type, self.blobs, self.children = data, media_type, dict(blobs or {}), list(children)
        self.digest = digest_of(data, algorithm)

    def descriptor(self, **more):
        return {"mediaType": self.media_type, "digest": self.digest, "size": len(self.data), **more}


def made_image(layers, docker=False, compress=True, algorithm="sha256", platform=("linux", "amd64"), edit=lambda manifest: None,
               runs=None, packed=None):
    """A manifest of tars. `edit` may change the JSON of the manifest before it is hashed; `runs` is how the config says to run
    the image: `Cmd`, `Env` and so on; `packed`: what gzip made of the tars, if it has been run already. Beside the document's
    members: `id`, `config`, `layers` (blobs) and `layer_digests`."""
    blobs = packed or ([gzip.compress(tar, mtime=0) for tar in layers] if compress else list(layers))
    config = json.dumps({"os": platform[0], "architecture": platform[1], "config": runs or {},
                         "rootfs": {"type": "layers", "diff_ids": [digest_of(tar) for tar in layers]}}).encode()
    kind = "application/vnd.docker.image.rootfs.diff.tar" if docker else OCI + "layer.v1.tar"
    tail = ((".gzip" if docker else "+gzip") if compress else "")
    manifest = {"schemaVersion": 2, "mediaType": DOCKER_MANIFEST if docker else MANIFEST,
                "config": {"mediaType": "application/vnd.docker.container.image.v1+json" if docker else OCI + "config.v1+json",
                           "digest": digest_of(config), "size": len(config)},
                "layers": [{"mediaType": kind + tail, "digest": digest_of(b, algorithm), "size": len(b)} for b in blobs]}
    edit(manifest)
    made = document(json.dumps(manifest).encode(), manifest.get("mediaType", MANIFEST),
                    {digest_of(config): config, **{digest_of(b, algorithm): b for b in blobs}}, algorithm=algorithm)
    made.id, made.config, made.layers, made.layer_digests = digest_of(config), config, blobs, [digest_of(b, algorithm) for b in blobs]
    made.platform = platform
    return made


def made_index(children, docker=False, descriptors=None):
    """An index of documents; an image's platform is noted. `descriptors` replaces those that follow from the children."""
    if descriptors is None:
        descriptors = [c.descriptor(**({"platform": {"os": c.platform[0], "architecture": c.platform[1]}}
                                       if hasattr(c, "platform") else {})) for c in children]
    kind = DOCKER_LIST if docker else INDEX
    return document(json.dumps({"schemaVersion": 2, "mediaType": kind, "manifests": descriptors}).encode(), kind,
                    children=children)


# --- requests and answers

class request:
    def __init__(self, method, path, headers, body, connection):
        self.method, self.path, self.headers, self.body, self.connection = method, path, headers, body, connection
        self.time, self.end, self.status, self.sent = time.monotonic(), None, None, 0

    def get(self, name):
        """The values of a header in one text, or None."""
        found = [value for key, value in self.headers if key.lower() == name.lower()]
        return ", ".join(found) if found else None

    @property
    def closes(self):
        """Whether the client wants no other answer on this connection."""
        return "close" in (self.get("connection") or "").lower()

    def __repr__(self):
        return f"{self.method} {self.path}" + (f" ({self.get('range')})" if self.get("range") else "")


class answer:
    """What is sent. `headers`: a dict, or a list of pairs; Content-Length is added unless `length` says another value, or None
    for a body that ends with the connection. `body` may be an iterator of pieces, without an end if need be.

    `first`: bytes before the answer (a 103). `raw`: bytes instead of all. `cut`, `reset`: FIN or RST after so many body bytes.
    `stall`: (body bytes, seconds) of silence there. `then`: "close" closes the connection after the answer without having said
    so, "hang up" drops the next request of the connection. `rude`: TLS ends without close_notify."""

    def __init__(self, status=200, body=b"", headers=(), media_type=None, length="body", chunked=False, http="HTTP/1.1",
                 first=b"", raw=None, cut=None, reset=None, stall=None, then=None, rude=False):
        self.status, self.body, self.media_type, self.length, self.chunked = status, body, media_type, length, chunked
        self.headers = list(headers.items()) if isinstance(headers, dict) else list(headers)
        self.http, self.first, self.raw, self.cut, self.reset, self.stall = http, first, raw, cut, reset, stall
        self.then, self.rude = then, rude

    def with_(self, **changes):
        """A copy with other members; `headers` are added."""
        copy = object.__new__(answer)
        vars(copy).update(vars(self), **{k: v for k, v in changes.items() if k != "headers"})
        copy.headers = self.headers + list(dict(changes.get("headers", {})).items())
        return copy

    def head(self, closes=False):
        closes = closes or (self.length is None and not self.chunked)
        lines = [f"{self.http} {self.status} {REASONS.get(self.status, 'Status')}"]
        lines += [f"{key}: {value}" for key, value in self.headers]
        if self.media_type:
            lines.append(f"Content-Type: {self.media_type}")
        if self.chunked:
            lines.append("Transfer-Encoding: chunked")
        elif self.length is not None and self.status not in (204, 304):
            lines.append(f"Content-Length: {len(self.body) if self.length == 'body' else self.length}")
        if closes and self.http != "HTTP/1.0":
            lines.append("Connection: close")
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")

    @property
    def closes(self):
        return self.http == "HTTP/1.0" or (self.length is None and not self.chunked) or self.then == "close"


def redirect(location, status=307, **more):
    return answer(status, headers={"Location": location}, **more)


def challenge(*values, status=401, **more):
    return answer(status, b'{"errors":[{"code":"UNAUTHORIZED"}]}', [("WWW-Authenticate", value) for value in values], **more)


class expect:
    """A request that is to come: `path` is a regex for the whole path with its query if it has a ?, else for what is before the
    query; `headers` are regexes, or None for a header that must be absent. `reply`: an answer, or a function of the request that
    returns one, or None to leave it to the content. `times`: how often it must come; (low, high) for a range."""

    def __init__(self, method, path, reply, headers=None, times=1):
        self.methods, self.path, self.reply, self.headers = method.split("|"), re.compile(path), reply, dict(headers or {})
        self.low, self.high = times if isinstance(times, tuple) else (times, times)
        self.seen = 0

    def matches(self, one):
        path = one.path if "?" in self.path.pattern else one.path.partition("?")[0]
        return self.seen < self.high and one.method in self.methods and bool(self.path.fullmatch(path)) and all(
            (one.get(name) is None) if wanted is None else re.search(wanted, one.get(name) or "")
            for name, wanted in self.headers.items())

    def __repr__(self):
        return f"{'|'.join(self.methods)} {self.path.pattern}"


ALWAYS = (0, 1 << 30)


class NotHttp(Exception):
    pass


def refuse(line):
    """As servers for plain HTTP do with those who speak TLS; reads what is left, since closing would reset the connection."""
    try:
        line.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        line.shutdown(socket.SHUT_WR)
        line.settimeout(1)
        while line.recv(1 << 16):
            pass
    except OSError:
        pass


class scripted_registry:
    """Serves as long as a `with` lasts. `ordered`: the requests must come in the order of the script. `tls`: (certificate,
    key). `client_authority`: clients need a certificate of that authority. `content`: paths and their answers; `requests`: what
    came, in order."""

    def __init__(self, script=(), ordered=False, tls=None, client_authority=None, address="127.0.0.1", port=0):
        self.script, self.ordered, self.address, self._port, self.content = list(script), ordered, address, port, {}
        self.requests, self.unexpected, self.garbage, self.handshakes_failed, self.connections = [], [], 0, 0, 0
        self.open = self.most_open = self.busy = self.most_busy = 0
        self._tls, self._lock, self._stopped, self._sockets = None, threading.RLock(), threading.Event(), set()
        if tls:
            self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._tls.load_cert_chain(*tls)
            if client_authority:
                self._tls.load_verify_locations(client_authority)
                self._tls.verify_mode = ssl.CERT_REQUIRED

    def __enter__(self):
        family = socket.AF_INET6 if ":" in self.address else socket.AF_INET
        self._listener = socket.create_server((self.address, self._port), family=family, backlog=128)
        self.port = self._listener.getsockname()[1]
        self.host = f"{f'[{self.address}]' if ':' in self.address else self.address}:{self.port}"
        self.url = f"{'https' if self._tls else 'http'}://{self.host}"
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_):
        self._stopped.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            for one in self._sockets:
                try:
                    one.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass

    def expect(self, *words, **more):
        self.script.append(expect(*words, **more))
        return self

    def serve(self, what, name="app", *tags):
        """Answers for a document and all that it refers to, by digest and by tags."""
        for key in (*tags, what.digest):
            self.content[f"/v2/{name}/manifests/{key}"] = answer(200, what.data, {"Docker-Content-Digest": what.digest}, what.media_type)
        for digest, data in what.blobs.items():
            self.content[f"/v2/{name}/blobs/{digest}"] = answer(200, data, media_type="application/octet-stream")
        for child in what.children:
            self.serve(child, name)
        self.content.setdefault("/v2/", answer(200, b"{}"))
        return self

    def usual(self, one):
        """The answer of the content to a request, or None."""
        said = self.content.get(one.path.partition("?")[0])
        if said is None or one.method not in ("GET", "HEAD"):
            return None
        return ranged(said, one) if "/blobs/" in one.path and one.method == "GET" else said

    def changed(self, **changes):
        """A reply: what the content has, with other members of the answer."""
        return lambda one: self.usual(one).with_(**changes)

    def verify(self):
        """What was expected and did not come, and what came unexpected; one text each."""
        with self._lock:
            return [f"expected and did not come ({one.seen} of {one.low}): {one}" for one in self.script if one.seen < one.low] + \
                [f"came unexpected: {one}" for one in self.unexpected]

    def seen(self, method="GET", path=".*"):
        """The requests that came, by regexes of the whole method and path."""
        with self._lock:
            return [one for one in self.requests if re.fullmatch(method, one.method) and re.fullmatch(path, one.path)]

    def wait_for(self, condition, seconds=60):
        """Until `condition(self)`; whether it came."""
        until = time.monotonic() + seconds
        while not condition(self):
            if time.monotonic() > until:
                return False
            time.sleep(0.01)
        return True

    def sleep(self, seconds):
        """For replies: waits, but not beyond the end of the server."""
        self._stopped.wait(seconds)

    # --- inside

    def _accept(self):
        while not self._stopped.is_set():
            try:
                plain, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                self.connections += 1
                self._sockets.add(plain)
                number = self.connections
            threading.Thread(target=self._serve, args=(number, plain), daemon=True).start()

    def _serve(self, number, line):
        rude = True
        with self._lock:
            self.open += 1
            self.most_open = max(self.most_open, self.open)
        try:
            line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._tls:
                line = self._secured(line)
            with line.makefile("rb") as reader:
                hang_up = False
                while (one := self._read(reader, number)) is not None and not hang_up:
                    said = self._reply(one)
                    self._send(line, one, said)
                    rude, hang_up = said.rude, said.then == "hang up"
                    if said.closes or one.closes:
                        break
            if self._tls and not rude:
                line.settimeout(1)
                line.unwrap()  # sends close_notify
        except NotHttp:
            refuse(line)
        except (OSError, ValueError):
            pass
        finally:
            with self._lock:
                self.open -= 1
                self._sockets.discard(line)
            line.close()

    def _secured(self, plain):
        with self._lock:
            self._sockets.discard(plain)
        try:
            line = self._tls.wrap_socket(plain, server_side=True)
        except OSError:
            self.handshakes_failed += 1
            plain.close()
            raise
        with self._lock:
            self._sockets.add(line)
        return line

    def _read(self, reader, number):
        start = reader.readline(1 << 16)
        if not start:
            return None
        words = start.decode("latin-1").split()
        if len(words) != 3 or not words[2].startswith("HTTP/1."):  # somebody who speaks TLS, most likely
            with self._lock:
                self.garbage += 1
            raise NotHttp
        headers = []
        while (text := reader.readline(1 << 16).decode("latin-1").rstrip("\r\n")):
            key, _, value = text.partition(":")
            headers.append((key.strip(), value.strip()))
        one = request(words[0], words[1], headers, b"", number)
        one.body = reader.read(int(one.get("content-length") or 0))
        return one

    def _reply(self, one):
        with self._lock:
            self.requests.append(one)
            left = [e for e in self.script if e.seen < e.high]
            found = next((e for e in (left[:1] if self.ordered else left) if e.matches(one)), None)
            if found:
                found.seen += 1
            said = found.reply if found else None
        said = said(one) if callable(said) else said
        if said is None:
            said = self.usual(one)
        if said is None:
            with self._lock:
                self.unexpected.append(one)
            said = answer(UNEXPECTED, b"unexpected")
        one.status = said.status
        return said

    def _send(self, line, one, said):
        with self._lock:
            self.busy += 1
            self.most_busy = max(self.most_busy, self.busy)
        try:
            if said.raw is not None:
                line.sendall(said.raw)
                raise ConnectionAbortedError
            line.sendall(said.first + said.head(one.closes))
            if one.method != "HEAD":
                self._send_body(line, one, said)
        finally:
            one.end = time.monotonic()
            with self._lock:
                self.busy -= 1

    def _send_body(self, line, one, said):
        stops = sorted([(at, what) for at, what in ((said.cut, "cut"), (said.reset, "reset"), (said.stall and said.stall[0], "stall"))
                        if at is not None])
        pieces = iter([said.body]) if isinstance(said.body, bytes) else iter(said.body)
        for piece in map(memoryview, pieces):
            while piece or (stops and stops[0][0] <= one.sent):
                if stops and stops[0][0] <= one.sent:
                    self._stop(line, said, stops.pop(0)[1])
                    continue
                part = piece[:min(1 << 16, stops[0][0] - one.sent if stops else 1 << 16)]
                line.sendall(b"%x\r\n%b\r\n" % (len(part), part) if said.chunked else part)
                one.sent, piece = one.sent + len(part), piece[len(part):]
        for _, what in stops:
            self._stop(line, said, what)
        if said.chunked:
            line.sendall(b"0\r\n\r\n")

    def _stop(self, line, said, what):
        if what == "stall":
            self._stopped.wait(said.stall[1])
            return
        if what == "reset":
            line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        raise ConnectionAbortedError


def ranged(said, one):
    """The answer of a server that knows ranges, to a request that may have one."""
    asked = re.fullmatch(r"bytes=(\d+)-(\d*)", one.get("range") or "")
    if not asked:
        return said
    size, begin = len(said.body), int(asked[1])
    if begin >= size:
        return answer(416, b"", {"Content-Range": f"bytes */{size}"})
    end = min(size, int(asked[2]) + 1 if asked[2] else size)
    return said.with_(status=206, body=said.body[begin:end], headers={"Content-Range": f"bytes {begin}-{end - 1}/{size}"})
