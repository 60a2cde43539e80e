"""Debian's docker-registry on a free port of loopback, for as long as a `with` lasts.

    with debian_registry(tls=True, users={"alice": "secret"}) as registry:
        registry.push("oci:DIR:TAG", "app:1")
        ... docker://{registry.host}/app:1, trusting registry.authority.folder ...
        registry.blob_gets()  # {digest: number of GETs with status 200 or 206}"""
import collections
import ctypes
import json
import pathlib
import re
import shutil
import signal
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
from certificates import authority  # noqa: E402
from running import skip  # noqa: E402

access = collections.namedtuple("access", "method path status bytes")
ACCESS_LINE = re.compile(r'"([A-Z]+) (\S+) HTTP/[\d.]+" (\d+) (\d+|-)')
LIBC = ctypes.CDLL(None)


def need_programs(*programs):
    """Skips the test if one is missing; does not ask for root, as running.need does."""
    for program in programs:
        if shutil.which(program) is None:
            skip(f"{program} is not installed")


def end_with_parent():
    """For preexec_fn: the kernel ends the child when the thread that started it ends, even by a kill."""
    LIBC.prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG


class debian_registry:
    """`users`: names and passwords for Basic. `tokens`: a token_server, which decides instead; start it first. `cert`: an
    authority of the caller, else TLS makes one. `data`: a directory for the blobs, which then stays; two may have the
    same one. The thread that enters must outlive the `with`."""

    def __init__(self, tls=False, users=None, tokens=None, cert=None, data=None):
        need_programs("docker-registry", "skopeo", *(["openssl"] if tls else []), *(["htpasswd"] if users else []))
        self.tls, self.users, self.tokens, self.authority, self.data = tls, dict(users or {}), tokens, cert, data
        self.port = self.host = self.url = self._process = self._scratch = None
        self._marks = 0

    def __enter__(self):
        self._scratch = tempfile.TemporaryDirectory(prefix="overmount-registry.")
        try:
            self._start(pathlib.Path(self._scratch.name))
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None
        self._scratch.cleanup()

    def _config(self, place):
        http = {"addr": "127.0.0.1:0", "secret": "of the test"}
        auth = {}
        if self.tls:
            self.authority = self.authority or authority(place / "authority")
            certificate, key = self.authority.issue()
            http["tls"] = {"certificate": str(certificate), "key": str(key)}
        if self.users:
            lines = [subprocess.run(["htpasswd", "-Binb", name, password], capture_output=True, check=True).stdout.strip()
                     for name, password in self.users.items()]
            (place / "htpasswd").write_bytes(b"\n".join(lines) + b"\n")
            auth = {"auth": {"htpasswd": {"realm": "of the test", "path": str(place / "htpasswd")}}}
        if self.tokens is not None:
            auth = {"auth": {"token": {"realm": self.tokens.realm, "service": self.tokens.service,
                                       "issuer": self.tokens.issuer, "rootcertbundle": str(self.tokens.bundle)}}}
        return {"version": "0.1", "log": {"level": "info"}, "http": http, **auth,
                "storage": {"filesystem": {"rootdirectory": str(self.data)}, "delete": {"enabled": True}}}

    def _start(self, place):
        self.data = self.data or place / "data"
        (place / "config.yml").write_text(json.dumps(self._config(place)))  # JSON is YAML
        self._accesses, self._messages = place / "accesses", place / "messages"
        with open(self._accesses, "wb") as out, open(self._messages, "wb") as err:
            self._process = subprocess.Popen(["docker-registry", "serve", place / "config.yml"], stdin=subprocess.DEVNULL,
                                             stdout=out, stderr=err, cwd=place, preexec_fn=end_with_parent)
        until = time.monotonic() + 20
        while not (found := re.search(r"listening on 127\.0\.0\.1:(\d+)", self.messages())):
            if self._process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"docker-registry does not start: {self.messages().strip()[-2000:]}")
            time.sleep(0.01)
        self.port = int(found[1])
        self.host = f"127.0.0.1:{self.port}"
        self.url = f"{'https' if self.tls else 'http'}://{self.host}"
        self._ping()

    def messages(self):
        return self._messages.read_text(errors="replace")

    def _ping(self, query=""):
        trust = ssl.create_default_context(cafile=self.authority.certificate) if self.tls else None
        try:
            with urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=trust)).open(
                    f"{self.url}/v2/{query}", timeout=10):
                pass
        except urllib.error.HTTPError as refused:
            refused.close()
            if refused.code != 401:
                raise

    def accesses(self):
        """The access log so far. Lines are written after an answer; a last request of our own sees to it that all are there."""
        self._marks += 1
        mark = f"?mark={self._marks}"
        self._ping(mark)
        until = time.monotonic() + 10
        while mark not in (text := self._accesses.read_text(errors="replace")):
            if time.monotonic() > until:
                raise RuntimeError("the access log of docker-registry does not grow")
            time.sleep(0.01)
        found = [access(m, p, int(s), 0 if b == "-" else int(b)) for m, p, s, b in ACCESS_LINE.findall(text)]
        return [one for one in found if "?mark=" not in one.path][1:]  # without the ping of the start

    def blob_gets(self):
        """How many GETs of each blob got content, by digest."""
        return collections.Counter(one.path.rpartition("/blobs/")[2].partition("?")[0] for one in self.accesses()
                                   if one.method == "GET" and one.status in (200, 206) and "/blobs/sha" in one.path)

    def push(self, source, name, credentials=None):
        """`source` in the words of skopeo (`oci:DIR:TAG`, `docker-archive:FILE`); `name` with a tag, without a host."""
        trust = ["--dest-cert-dir", self.authority.folder] if self.tls else ["--dest-tls-verify=false"]
        if credentials is None and (self.users or self.tokens is not None):
            credentials = next(iter((self.users or self.tokens.users).items()))
        login = ["--dest-creds", ":".join(credentials)] if credentials else []
        done = subprocess.run(["skopeo", "--insecure-policy", "copy", "--quiet", "--all", "--preserve-digests", *trust, *login,
                               source, f"docker://{self.host}/{name}"],
                              stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"skopeo copy {source} {name}: {done.stderr.strip()}")
