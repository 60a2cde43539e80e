"""What the tests in Python share: a scratch directory, om, and mounts that go when the test ends."""
import atexit
import ctypes
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile

LIBC = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNS, MS_REC, MS_PRIVATE = 0x20000, 0x4000, 0x40000


class Problem(Exception):
    """The thing under test did not do what it should."""


def skip(why):
    print("SKIPPED:", why)
    raise SystemExit(77)


def need(*programs):
    if os.geteuid() != 0:
        skip("mounting needs root")
    for program in programs:
        if shutil.which(program) is None:
            skip(f"{program} is not installed")


def own_mounts():
    """From here on, what this process and its children mount is seen by them alone, and goes with the last of them,
    loop devices included: nothing stays after a crash or a kill either."""
    if LIBC.unshare(CLONE_NEWNS) != 0 or LIBC.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None) != 0:
        skip("no mount namespace: " + os.strerror(ctypes.get_errno()))


def scratch(name):
    """A directory in memory that goes at the end, whatever is mounted in it."""
    own_mounts()
    place = pathlib.Path(tempfile.mkdtemp(prefix=f"overmount-{name}."))
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=700", "tmpfs", place], check=True)

    def clean(owner=os.getpid()):
        if os.getpid() == owner:
            for mounted in reversed(mounts_below(place)):
                subprocess.run(["umount", "-l", mounted], stderr=subprocess.DEVNULL, check=False)
            if not mounts_below(place):
                shutil.rmtree(place)

    atexit.register(clean)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    return place


def mounts_below(place):
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as table:
        targets = [line.split()[4] for line in table]
    return [t for t in targets if t == str(place) or t.startswith(f"{place}/")]


class om:
    """om on one repository; `prefix` is put before each command line."""

    def __init__(self, program, repository, prefix=(), timeout=60):
        self.program, self.repository = str(pathlib.Path(program).resolve()), pathlib.Path(repository)
        self.prefix, self.timeout = list(prefix), timeout

    def line(self, words, durability=None):
        options = ["--durability", durability] if durability else []
        return [*self.prefix, self.program, "--repo", str(self.repository), *options, *map(str, words)]

    def start(self, *words, durability=None, **more):
        return subprocess.Popen(self.line(words, durability), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, text=True, **more)

    def run(self, *words, durability=None, **more):
        try:
            return subprocess.run(self.line(words, durability), stdin=subprocess.DEVNULL, capture_output=True, text=True,
                                  timeout=self.timeout, **more)
        except subprocess.TimeoutExpired:
            raise Problem(f"om {' '.join(map(str, words))} does not end") from None

    def __call__(self, *words, durability=None, **more):
        """What it prints; it has to succeed."""
        done = self.run(*words, durability=durability, **more)
        if done.returncode != 0:
            raise Problem(f"om {' '.join(map(str, words))}: status {done.returncode}, {(done.stderr or done.stdout).strip()}")
        return done.stdout.strip()

    def knows(self, *words):
        """Whether there is such a command: not each version has all of them."""
        *groups, last = words
        text = subprocess.run([self.program, *groups, "--help"], capture_output=True, text=True, check=False).stdout
        return any(line.split()[:1] == [last] for line in text.splitlines())
