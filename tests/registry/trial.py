"""What each case of quirks.py is given: servers, a fresh home and repository, om, and what must be true of its outcome.

The cases run in a network and a mount namespace of their own: addresses of 8.8.0.0/16 (public) and 10.0.0.0/8 (private) are local,
/etc is a copy, and the system trusts an authority of the test. So docker.io, port 443 and /etc/containers are at hand."""
import base64
import collections
import contextlib
import ctypes
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.parse

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
from certificates import LOOPBACK, authority, openssl  # noqa: E402
from made_images import CHANGES, base_layer, directory, file, noise, tar_of  # noqa: E402
from running import LIBC, Problem, scratch, skip  # noqa: E402
from scripted_registry import ALWAYS, answer, challenge, made_image, scripted_registry  # noqa: E402

IMAGE = made_image([base_layer(files=4, size=3000), CHANGES])
# Layers of which a part may be lost, and of which several are under way at a time.
LARGE = made_image([tar_of([directory("d"), file("d/noise", noise("large", 3 << 20))])], compress=False)
MANY = made_image([tar_of([directory("d"), file(f"d/{n}", noise(f"many{n}", 20000 + n))]) for n in range(8)])
TAG, MANIFESTS, BLOBS = "/v2/app/manifests/1", "/v2/app/manifests/.*", "/v2/app/blobs/.*"

# The words of om's errors.
NOT_THERE, REFUSED = "does not have it, or does not show it", "refused the credentials"
MALFORMED, UNAVAILABLE, ELSEWHERE = "malformed answer", "registry is not available", "does not follow to that place"
BLOCKED, SETTINGS, HELPER = "the settings forbid it", "malformed settings", "credential helper failed"
DIGEST, SIZE, UNSUPPORTED, TOO_LARGE = "does not match its digest", "announced size", "unsupported media type", "exceeds the limits"

CASES = {}
quirk = collections.namedtuple("quirk", "fact run alone slow")


def case(fact, alone=False, slow=False):
    """Registers a function of a trial under its name. `fact`: the one of registry.md that it stands for. `alone`: it changes
    what others see (settings of the system, docker.io). `slow`: it waits for a time limit of half a minute."""
    def register(function):
        assert function.__name__ not in CASES, function.__name__
        CASES[function.__name__] = quirk(fact, function, alone, slow)
        return function
    return register


def each(fact, rows, **more):
    """One case for each row: a dict of what its name ends with, and the second argument."""
    def register(function):
        for name, value in rows.items():
            def one(t, value=value):
                return function(t, value)
            one.__name__ = f"{function.__name__}_{name}"
            case(fact, **more)(one)
        return function
    return register


class world:
    """The namespaces, and what all trials share."""

    def __init__(self):
        if os.geteuid() != 0:
            skip("namespaces need root")
        for program in ("ip", "openssl"):
            if shutil.which(program) is None:
                skip(f"{program} is not installed")
        self.place = scratch("quirks")
        if LIBC.unshare(0x40000000) != 0:  # CLONE_NEWNET
            skip("no network namespace: " + os.strerror(ctypes.get_errno()))
        for words in ("link set lo up", "route add local 8.8.0.0/16 dev lo", "route add local 10.0.0.0/8 dev lo"):
            subprocess.run(["ip", *words.split()], check=True)
        for name in ("etc", "work"):
            (self.place / name).mkdir()
        done = subprocess.run(["mount", "-t", "overlay", "overlay", "-o",
                               f"lowerdir=/etc,upperdir={self.place}/etc,workdir={self.place}/work", "/etc"], check=False)
        if done.returncode != 0:
            skip("no copy of /etc by an overlay")
        for folder in ("/etc/containers", "/etc/containerd", "/etc/docker"):
            shutil.rmtree(folder, ignore_errors=True)
        self.authority, self._lock, self._issued, self._addresses = authority(self.place / "authority"), threading.Lock(), {}, 0
        self.trust(self.authority.certificate)

    def trust(self, certificate):
        shutil.copy(certificate, "/etc/ssl/certs/" + openssl("x509", "-hash", "-noout", "-in", certificate).decode().strip() + ".0")
        bundle = pathlib.Path("/etc/ssl/certs/ca-certificates.crt")
        bundle.write_text((bundle.read_text() if bundle.exists() else "") + certificate.read_text())

    def certificate(self, names):
        with self._lock:
            if names not in self._issued:
                self._issued[names] = self.authority.issue(names)
            return self._issued[names]

    def address(self, *names):
        """A public address that nobody else has, with names."""
        with self._lock:
            self._addresses += 1
            address = f"8.8.{self._addresses // 250}.{self._addresses % 250 + 1}"
            with open("/etc/hosts", "a", encoding="ascii") as hosts:
                hosts.write(f"{address} {' '.join(names)}\n")
            return address


class outcome:
    def __init__(self, words, status, out, err, seconds):
        self.words, self.status, self.out, self.err, self.seconds = words, status, out, err, seconds

    def __repr__(self):
        return f"`{' '.join(self.words)}`: status {self.status}, {(self.err or self.out).strip()[-500:]!r}"


class trial:
    def __init__(self, shared, name, om, as_json=False):
        self.world, self.name, self._om, self._json = shared, name, om, as_json
        self.place = shared.place / name
        self.home, self.repository = self.place / "home", self.place / "repository"
        for folder in (self.home, self.place / "run", self.place / "bin"):
            folder.mkdir(parents=True)
        self.environment = {"PATH": f"{self.place}/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": str(self.home), "LC_ALL": "C.UTF-8",
                            "XDG_RUNTIME_DIR": str(self.place / "run"), "TMPDIR": str(self.place)}
        self.secrets, self._servers, self._children = [], [], []
        self._stack = contextlib.ExitStack()

    # --- servers

    def registry(self, script=(), tls=False, names=LOOPBACK, **more):
        """On loopback. `tls`: True, or (certificate, key)."""
        if tls is True:
            tls = self.world.certificate(tuple(names))
        server = self._stack.enter_context(scripted_registry(script, tls=tls or None, **more))
        self._servers.append(server)
        return server

    def app(self, image=IMAGE, **more):
        """A registry that serves an image as app:1."""
        return self.registry(**more).serve(image, "app", "1")

    def public(self, *names, tls=True, port=None, script=(), **more):
        """A registry at a public address. `host` is its first name, with the port if it is not the usual one."""
        port = port or (443 if tls else 80)
        server = self.registry(script, tls, names, address=self.world.address(*names), port=port, **more)
        server.host = names[0] if port in (443, 80) else f"{names[0]}:{port}"
        server.url = f"{'https' if tls else 'http'}://{server.host}"
        return server

    def enter(self, context):
        return self._stack.enter_context(context)

    # --- secrets and settings

    def secret(self, text):
        """Returns the text; no output may have it, as it is or encoded, from now on."""
        self.secrets += [text, urllib.parse.quote(text, safe="")]
        return text

    def login(self, user="alice", password="correct horse"):
        """NAME:PASSWORD, a secret, and the value of Authorization for it."""
        encoded = base64.b64encode(f"{user}:{password}".encode()).decode()
        self.secret(password)
        self.secret(encoded)
        return f"{user}:{password}", f"Basic {encoded}"

    def file(self, path, text, mode=0o600):
        """A file, relative to the home directory unless the path is absolute."""
        path = self.home / path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text if isinstance(text, str) else json.dumps(text))
        path.chmod(mode)
        return path

    def auths(self, logins, path="auth.json"):
        """A credential file: a dict of keys and NAME:PASSWORD."""
        for login in logins.values():
            self.login(*login.split(":", 1))
        return self.file(path, {"auths": {key: {"auth": base64.b64encode(login.encode()).decode()} for key, login in logins.items()}})

    def helper(self, name, script):
        """A credential helper in shell; `$1` is the verb."""
        self.file(self.place / "bin" / f"docker-credential-{name}", "#!/bin/sh\n" + script, 0o755)

    def registries_conf(self, text):
        return self.file(".config/containers/registries.conf", text)

    # --- om

    def line(self, *words):
        return [self._om, *(["--json"] if self._json else []), "--repo", str(self.repository), "--durability", "none", *map(str, words)]

    def start(self, *words):
        child = subprocess.Popen(self.line(*words), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                 text=True, env=self.environment, cwd=self.home, start_new_session=True)
        self._children.append(child)
        child.began, child.words = time.monotonic(), words
        return child

    def end(self, child, timeout=60):
        """Waits, and looks for secrets in what it printed."""
        try:
            out, err = child.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            child.communicate()
            raise Problem(f"om {' '.join(map(str, child.words))} does not end in {timeout} s") from None
        done = outcome([str(w) for w in child.words], child.returncode, out, err, time.monotonic() - child.began)
        for secret in self.secrets:
            self.check(secret not in out and secret not in err, f"the secret {secret!r} is printed: {done}")
        return done

    def om(self, *words, timeout=60):
        return self.end(self.start(*words), timeout)

    def pulls(self, reference, *options, image=IMAGE, timeout=60):
        """The pull succeeds and prints the image's ID."""
        done = self.om("image", "pull", *options, reference, timeout=timeout)
        self.check(done.status == 0 and image.id in done.out, f"expected {image.id}: {done}")
        return done

    def fails(self, reference, *options, words, timeout=60):
        """The pull fails in one line with these words (a regex), and leaves no image."""
        before = self._images()
        done = self.om("image", "pull", *options, reference, timeout=timeout)
        self.failed(done, words)
        self.check(self._images() == before, f"an image is left: {self._images()}")
        return done

    def _images(self):
        return self.om("image", "list").out if self.repository.exists() else ""

    def failed(self, done, words):
        self.check(done.status == 1, f"expected status 1: {done}")
        self.check(re.search(words, done.err + done.out, re.S), f"expected {words!r}: {done}")
        self.check(self._json or len(done.err.strip().split("\n")) == 1, f"more than one line: {done}")

    def inspect(self, reference, *options):
        return self.om("image", "inspect", *options, f"docker://{reference}")

    def tags(self, name, *options):
        """The tags that it prints, one a line."""
        done = self.om("image", "tags", *options, f"docker://{name}")
        self.check(done.status == 0, str(done))
        return json.loads(done.out) if self._json else done.out.split()

    # --- outcome

    def check(self, true, text):
        if not true:
            raise Problem(text)

    def finish(self):
        """What the servers have to say, if the case itself found nothing."""
        for server in self._servers:
            for problem in server.verify():
                raise Problem(f"{server.url} {problem}")

    def close(self):
        for child in self._children:
            if child.poll() is None:
                os.killpg(child.pid, signal.SIGKILL)
                child.communicate()
        self._stack.close()
        shutil.rmtree(self.place, ignore_errors=True)


# --- parts of scripts

def bearer(server, token, values, paths="/v2/app/.*", token_path="/token", reply=None):
    """Guards paths of a server by a token. `values`: the WWW-Authenticate headers. `token_path` gives the token; `reply` replaces
    its answer."""
    server.expect("GET|HEAD", paths, lambda one: None if one.get("authorization") == f"Bearer {token}" else challenge(*values),
                  times=ALWAYS)
    server.expect("GET", token_path, reply or answer(200, json.dumps({"token": token}).encode()), times=ALWAYS)
    return server


def basic(server, header, paths="/v2/.*"):
    """Guards paths by a password; `header` is the value of Authorization."""
    return server.expect("GET|HEAD", paths, lambda one: None if one.get("authorization") == header else challenge('Basic realm="r"'),
                         times=ALWAYS)


def queries(one):
    """The query of a request as a dict of lists."""
    return urllib.parse.parse_qs(urllib.parse.urlsplit(one.path).query, keep_blank_values=True)


def blob(image, number):
    return f"/v2/app/blobs/{image.layer_digests[number]}"


def endless(piece=b" " * 65536):
    while True:
        yield piece
