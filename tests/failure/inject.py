#!/usr/bin/env python3
"""Lets system calls of om fail, one after the other, and looks at what is left.

    inject.py OM PART     archive layout stream: imports of a small image, each call that matters failing once
                          mount writable unmount: the same of the image's mount
                          limits: few descriptors, a small disk, little memory

After each failure: exit status 1 and one line, or 0 and a correct result; the repository opens, and holds only what is
complete; nothing is staged, claimed, leased or mounted; the same command without a failure succeeds.

Also `order`: no call fails; what is synced before what is shown.

    SEED=N     of the sample, where a call is made more often than LIMIT times
    LIMIT=N    places at which one call fails in one way (default: 40)

Exit status 77: cannot run here."""
import collections
import hashlib
import io
import json
import os
import pathlib
import random
import re
import resource
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tarfile
import tempfile
import time

OM = str(pathlib.Path(sys.argv[1]).resolve())
SCRATCH = pathlib.Path(tempfile.mkdtemp(prefix="overmount-failure."))
REPO, TARGET = SCRATCH / "repository", SCRATCH / "target"
SEED = int(os.environ.get("SEED", time.time_ns() % 1000000))
LIMIT = int(os.environ.get("LIMIT", "40"))
TIMEOUT = 15

# close(2) is not among them: it closes the descriptor also when it fails, which an injection cannot do, and locks would
# stay. Nor brk(2), which does not fail with an error number, and epoll_ctl(2), whose result Asio does not look at.
CALLS = {
    "openat": ("EMFILE", "ENOSPC"), "openat2": ("EMFILE", "EIO", "ENOSYS"), "read": ("EIO",), "pread64": ("EIO",),
    "write": ("ENOSPC", "EIO"), "pwrite64": ("ENOSPC", "EIO"), "ftruncate": ("ENOSPC",), "fallocate": ("ENOSPC",),
    "copy_file_range": ("EIO",), "mkdirat": ("ENOSPC",), "mkdir": ("ENOSPC",), "mknodat": ("ENOSPC",),
    "symlinkat": ("ENOSPC",), "linkat": ("EIO",), "renameat": ("EIO", "ENOSPC"), "renameat2": ("EIO", "ENOSPC"),
    "unlinkat": ("EIO",), "fchown": ("EIO",), "fchownat": ("EIO",), "fchmod": ("EIO",), "fchmodat": ("EIO",),
    "utimensat": ("EIO",), "setxattr": ("ENOSPC",), "fsetxattr": ("ENOSPC",), "lsetxattr": ("ENOSPC",),
    "fgetxattr": ("EIO",), "lgetxattr": ("EIO",), "flistxattr": ("EIO",), "fremovexattr": ("EIO",), "fsync": ("EIO",), "syncfs": ("EIO",), "fcntl": ("ENOLCK", "EMFILE"),
    "newfstatat": ("EIO",), "fstat": ("EIO",), "statx": ("EIO",), "getdents64": ("EIO",), "getrandom": ("EIO",),
    "memfd_create": ("EMFILE", "ENOMEM"), "mmap": ("ENOMEM",), "clone3": ("EAGAIN",),
    "epoll_create1": ("EMFILE",), "eventfd2": ("EMFILE",), "timerfd_create": ("EMFILE",),
    "fsopen": ("EMFILE", "EPERM"), "fsconfig": ("ENOMEM", "EIO"), "fsmount": ("EMFILE",), "move_mount": ("ENOMEM",),
    "mount_setattr": ("ENOMEM",), "mount": ("ENOMEM",), "umount2": ("EIO", "EBUSY"),
}
# What must not be overlooked.
NEVER_TOLERATED = {"fsync", "syncfs"}
# With this Asio wakes its thread; it cannot fail, and without it nobody is woken.
WAKING = re.compile(r'write\(\d+, "\\1\\0\\0\\0\\0\\0\\0\\0", 8\)')

SHIM = r"""
#include <stdlib.h>
#include <unistd.h>
__attribute__((constructor)) static void wait_for_the_tracer(void)
{
    const char* fd = getenv("FAILURE_WAIT");
    char byte;
    if (fd != NULL && write(atoi(fd), "r", 1) == 1 && read(atoi(fd), &byte, 1) >= 0)
        close(atoi(fd));
}
"""


def skip(why):
    print("SKIPPED:", why)
    raise SystemExit(77)


def tar_of(*entries):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, kind, content in entries:
            info = tarfile.TarInfo(name)
            info.type, info.mtime, info.mode = kind, 1700000000, 0o755 if kind == tarfile.DIRTYPE else 0o644
            if kind == tarfile.REGTYPE:
                info.size = len(content)
                info.pax_headers = {"SCHILY.xattr.user.note": name}
                tar.addfile(info, io.BytesIO(content))
                continue
            info.linkname, info.devmajor, info.devminor = content or "", 1, 3
            tar.addfile(info)
    return out.getvalue()


LAYERS = [
    tar_of(("d", tarfile.DIRTYPE, None), ("d/file", tarfile.REGTYPE, b"text"), ("d/link", tarfile.SYMTYPE, "file"),
           ("d/hard", tarfile.LNKTYPE, "d/file"), ("null", tarfile.CHRTYPE, None), ("fifo", tarfile.FIFOTYPE, None),
           ("gone", tarfile.REGTYPE, b"gone"), ("d/file", tarfile.REGTYPE, b"another"), ("e", tarfile.DIRTYPE, None)),
    tar_of((".wh.gone", tarfile.REGTYPE, b""), ("d/new", tarfile.REGTYPE, bytes(300000)),
           ("e/.wh..wh..opq", tarfile.REGTYPE, b"")),
]
CONFIG = json.dumps({"architecture": "amd64", "os": "linux", "rootfs": {
    "type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(tar).hexdigest() for tar in LAYERS]}}).encode()
IDENTITY = "sha256:" + hashlib.sha256(CONFIG).hexdigest()


def make_archive(path):
    config = IDENTITY[7:] + ".json"
    manifest = [{"Config": config, "RepoTags": ["test:1"], "Layers": [f"{i}/layer.tar" for i in range(len(LAYERS))]}]
    members = [(f"{i}/layer.tar", tar) for i, tar in enumerate(LAYERS)]
    members += [(config, CONFIG), ("manifest.json", json.dumps(manifest).encode())]
    with tarfile.open(path, "w") as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))


def make_layout(path):
    def blob(content, kind):
        digest = hashlib.sha256(content).hexdigest()
        (path / "blobs/sha256" / digest).write_bytes(content)
        return {"mediaType": f"application/vnd.oci.image.{kind}", "digest": "sha256:" + digest, "size": len(content)}

    (path / "blobs/sha256").mkdir(parents=True)
    (path / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    packed = [subprocess.run(["gzip", "-n"], input=tar, check=True, stdout=subprocess.PIPE).stdout for tar in LAYERS]
    manifest = json.dumps({"schemaVersion": 2, "config": blob(CONFIG, "config.v1+json"),
                           "layers": [blob(layer, "layer.v1.tar+gzip") for layer in packed]}).encode()
    (path / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [
        {**blob(manifest, "manifest.v1+json"), "annotations": {"org.opencontainers.image.ref.name": "test:1"}}]}))


def snapshot():
    """What the repository holds, without what differs from one import to the next."""
    out = {}
    for folder, folders, files in os.walk(REPO):
        for name in folders + files:
            path = os.path.join(folder, name)
            key, s = os.path.relpath(path, REPO), os.lstat(path)
            content = ""
            if stat.S_ISLNK(s.st_mode):
                content = os.readlink(path)
            elif stat.S_ISREG(s.st_mode) and not key.startswith("tags/"):
                content = hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest()
            inside = "/rootfs/" in key
            kept = sorted((x, os.getxattr(path, x, follow_symlinks=False))
                          for x in os.listxattr(path, follow_symlinks=False)) if inside else []
            timed = inside and not (stat.S_ISCHR(s.st_mode) and s.st_rdev == 0)  # nobody sees when a whiteout was made
            out[key] = (s.st_mode, s.st_rdev, content, kept, s.st_uid, s.st_gid, s.st_mtime_ns if timed else 0)
    out.pop("repository.lock", None)
    out.pop("replace.lock", None)
    return out


def mounted():
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as table:
        return [line.split()[4] for line in table if str(SCRATCH) in line]


def om(*words, **more):
    return subprocess.run([OM, "--repo", REPO, *words], capture_output=True, text=True, timeout=TIMEOUT, **more)


def om_done(*words, **more):
    done = om(*words, **more)
    if done.returncode != 0:
        raise Problem(f"om {' '.join(map(str, words))} without a failure: {done.stderr.strip()}")
    return done.stdout.strip()


class Problem(Exception):
    pass


def traced(words, expression, stdin=None):
    """Runs om under strace, of which it sees nothing before main(): status, output, error lines, the trace."""
    log = SCRATCH / "trace"
    log.unlink(missing_ok=True)
    ours, theirs = socket.socketpair()
    child = subprocess.Popen(
        [OM, "--repo", REPO, *words], stdin=stdin or subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, pass_fds=[theirs.fileno()], preexec_fn=lambda: os.sched_setaffinity(0, [min(os.sched_getaffinity(0))]),
        env={**os.environ, "LD_PRELOAD": str(SCRATCH / "shim.so"), "FAILURE_WAIT": str(theirs.fileno())})
    theirs.close()
    ours.recv(1)
    tracer = subprocess.Popen(["strace", "-f", "-o", log, "-p", str(child.pid), *expression],
                              stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        first = tracer.stderr.readline().decode()  # it says so when it is there
        if " attached" not in first:
            skip("strace cannot attach: " + first.strip())
        ours.close()
        out, problems = child.communicate(timeout=TIMEOUT)
    except subprocess.TimeoutExpired:
        raise Problem("it hangs") from None
    finally:
        if child.poll() is None:
            child.kill()
            child.communicate()
        tracer.wait()
        tracer.stderr.close()
    return child.returncode, out, problems.splitlines(), log.read_text(errors="replace")


def injected_calls():
    log = SCRATCH / "trace"
    return "\n".join(line for line in log.read_text(errors="replace").splitlines() if "INJECTED" in line)


class Part:
    """A command whose calls fail. `prepare` before each, `complete` says whether its work is done."""

    def __init__(self, words, stdin=None):
        self.words, self.stdin = words, stdin
        self.reference = None

    def open_stdin(self):
        if self.stdin is None:
            return None
        return subprocess.Popen(["cat", self.stdin], stdout=subprocess.PIPE)

    def run(self, expression):
        source = self.open_stdin()
        try:
            return traced(self.words, expression, source.stdout if source else None)
        finally:
            if source:
                source.stdout.close()
                source.kill()
                source.wait()

    def plain(self):
        source = self.open_stdin()
        try:
            return om_done(*self.words, **({"stdin": source.stdout} if source else {}))
        finally:
            if source:
                source.stdout.close()
                source.wait()


class Import(Part):
    def first(self):
        self.prepare()
        if self.plain() != IDENTITY:
            raise SystemExit("the image has another ID")
        self.reference = snapshot()
        # What belongs together: a record or a diff is there as a whole or not at all.
        self.units = {key for key in self.reference if re.fullmatch(r"(diffs|layers|images)/\w+/\w+", key)}

    def prepare(self):
        shutil.rmtree(REPO, ignore_errors=True)

    def check(self, status):
        om_done("image", "list")  # opens, and sweeps
        found = snapshot()
        if status == 0 and found != self.reference:
            raise Problem(f"it says that it is done: {self.difference(found)}")
        for key, value in found.items():
            if self.reference.get(key) != value and not self.growing(key, value):
                raise Problem(f"it left {key}")
        for unit in self.units & found.keys():
            inside = {key for key in self.reference if key.startswith(unit + "/")}
            if unit.startswith("layers/"):
                inside -= {key for key in inside if "/correction" in key}
            if not inside <= found.keys():
                raise Problem(f"{unit} is not complete: {sorted(inside - found.keys())}")
        if mounted():
            raise Problem(f"it left mounts: {mounted()}")
        if self.plain() != IDENTITY:
            raise Problem("the image has another ID")
        om_done("image", "list")
        if snapshot() != self.reference:
            raise Problem(f"the import afterwards: {self.difference(snapshot())}")

    def growing(self, key, value):
        """A directory that is there before what is in it."""
        return key in self.reference and stat.S_ISDIR(value[0]) and self.reference[key][0] == value[0]

    def difference(self, found):
        keys = sorted(k for k in found.keys() | self.reference.keys() if found.get(k) != self.reference.get(k))
        return ", ".join(f"{'no ' if k not in found else ''}{k}" for k in keys[:5])


class Mount(Part):
    def first(self):
        shutil.rmtree(REPO, ignore_errors=True)
        om_done("image", "import", f"docker-archive:{SCRATCH}/archive")
        TARGET.mkdir(exist_ok=True)
        om_done("image", "mount", IDENTITY, "--target", TARGET)
        om_done("image", "unmount", TARGET)
        self.reference = snapshot()

    def prepare(self):
        pass

    def check(self, status):
        om_done("image", "list")
        there = mounted()
        if len(there) != (1 if status == 0 else 0):
            raise Problem(f"with status {status} {len(there)} mounts are there")
        if status == 0:
            self.look()
            om_done("image", "unmount", TARGET)
        self.check_clean()
        self.plain()
        self.look()
        om_done("image", "unmount", TARGET)
        self.check_clean()

    def look(self):
        if (TARGET / "d/file").read_bytes() != b"another" or (TARGET / "gone").exists():
            raise Problem("the mounted tree is another")

    def check_clean(self):
        om_done("image", "list")
        if mounted() or snapshot() != self.reference:
            raise Problem(f"it left {mounted()}, {sorted(snapshot().keys() - self.reference.keys())[:3]}")


class Unmount(Mount):
    def __init__(self):
        super().__init__(["image", "unmount", TARGET])

    def prepare(self):
        om_done("image", "mount", IDENTITY, "--target", TARGET, "--writable")

    def check(self, status):
        if status == 0 and mounted():
            raise Problem("it is mounted still")
        om_done("image", "list")
        if mounted():
            self.look()
        # A mount that is gone, with a record that could not be removed, is stopped: it can be tried again.
        if list((REPO / "mounts").iterdir()):
            self.plain()
        self.check_clean()


def verdict(part, status, out, problems, injected):
    if status not in (0, 1) or (status == 1) != (len(problems) == 1) or (status == 0 and problems):
        # With standard error itself there is nothing to say.
        if not (status == 1 and "write(2" in injected):
            raise Problem(f"status {status}, it says {problems}")
    if status == 1 and problems and not problems[0].startswith("om: "):
        raise Problem(f"it says {problems}")
    part.check(status)


def inject(part):
    rng, outcomes, failures = random.Random(SEED), collections.Counter(), []
    part.first()
    part.prepare()
    status, _, problems, log = part.run(["-e", "trace=" + ",".join("?" + call for call in CALLS)])
    if status != 0:
        raise SystemExit(f"without a failure: status {status}, {problems}")
    part.check(status)
    counts = collections.Counter()
    for (_, call), count in collections.Counter(re.findall(r"^(\d+) +(\w+)\(", log, re.M)).items():
        counts[call] = max(counts[call], count)  # strace counts each thread by itself
    print("calls of one thread:", ", ".join(f"{call} {count}" for call, count in sorted(counts.items())), flush=True)
    for call, errors in CALLS.items():
        for name in errors:
            places = list(range(1, counts[call] + 1))
            if len(places) > LIMIT:
                places = sorted(rng.sample(places, LIMIT))
            for place in places:
                try:
                    part.prepare()
                    status, out, problems, log = part.run(
                        ["-e", f"trace={call}", "-e", f"inject={call}:error={name}:when={place}"])
                    injected = injected_calls()
                    if not injected:
                        part.check(status)
                        break
                    outcomes["injected"] += 1
                    outcomes["tolerated" if status == 0 else "refused"] += 1
                    if status == 0 and call in NEVER_TOLERATED:
                        raise Problem("it is overlooked")
                    verdict(part, status, out, problems, injected)
                except (Problem, subprocess.TimeoutExpired) as problem:
                    injected = injected_calls()
                    if WAKING.search(injected):
                        recover(part)
                        continue
                    failures.append(f"{call} {name} {place}: {problem}\n    {injected[:300]}")
                    print("FAILED:", failures[-1], flush=True)
                    recover(part)
    print(f"{outcomes['injected']} calls failed: {outcomes['refused']} times om did, {outcomes['tolerated']} times it "
          f"did its work; {len(failures)} times wrongly")
    if failures:
        raise SystemExit(1)


def recover(part):
    for target in mounted():
        subprocess.run(["umount", "-l", target], check=False)
    part.first()


def order():
    """With `batch`: what is renamed is synced before, and the directory it went to before anything that relies on it."""
    places = ["diffs/sha256", "layers/sha256", "images/sha256", "tags"]
    words = ["--durability", "batch", "image", "import", f"oci:{SCRATCH}/layout"]

    def calls():
        status, _, problems, trace = traced(words, ["-y", "-e", "trace=syncfs,fsync,renameat2,renameat"])
        if status != 0:
            raise SystemExit(f"status {status}, it says {problems}")
        out = []
        for line in trace.splitlines():
            if found := re.search(r'renameat2?\(\d+<[^>]*>, "[^"]*", \d+<([^>]*)>, "([^"]*)"', line):
                out.append(("rename", os.path.relpath(os.path.dirname(os.path.join(found[1], found[2])), REPO)))
            elif found := re.search(r"(syncfs|fsync)\(\d+<([^>]*)>", line):
                out.append((found[1], os.path.relpath(found[2], REPO)))
        return out

    def need(holds, what):
        if not holds:
            raise SystemExit(f"{what}: {made}")

    made = calls()
    renames = {place: [i for i, call in enumerate(made) if call == ("rename", place)] for place in places}
    before = 0
    for place in places:
        need(renames[place], f"nothing is shown in {place}")
        first, last = renames[place][0], renames[place][-1]
        need(any(call in ("fsync", "syncfs") for call, _ in made[before:first]), f"what goes to {place} is not synced")
        after = min([i for later in places[places.index(place) + 1:] for i in renames[later]], default=len(made))
        need(last < after and ("fsync", place) in made[last:after], f"{place} is not synced before what relies on it")
        before = last
    need(sum(call == "fsync" and place == "diffs/sha256" for call, place in made) == 1, "diffs are synced one by one")
    # What is there already may be of a process that has not come to that.
    made = calls()
    need(not any(call == ("rename", "diffs/sha256") for call in made), "it was there")
    need(("fsync", "diffs/sha256") in made and ("fsync", "layers/sha256") in made, "what others showed is not synced")
    print(f"{len(made)} syncs and renames of what was there")


def limits():
    failures, outcomes = [], collections.Counter()

    def attempt(name, part, **more):
        try:
            part.prepare()
            done = subprocess.run([OM, "--repo", REPO, *part.words], capture_output=True, text=True, timeout=TIMEOUT, **more)
            if "error while loading shared libraries" in done.stderr:
                return
            outcomes["done" if done.returncode == 0 else "refused"] += 1
            verdict(part, done.returncode, done.stdout, done.stderr.splitlines(), "")
        except (Problem, subprocess.TimeoutExpired) as problem:
            failures.append(f"{name}: {problem}")
            print("FAILED:", failures[-1], flush=True)

    sources = [Import(["image", "import", f"docker-archive:{SCRATCH}/archive"]),
               Import(["image", "import", f"oci:{SCRATCH}/layout"]),
               Import(["image", "import", "-"])]
    for part in sources[:2]:
        part.first()
        for count in range(4, 60):
            attempt(f"{count} descriptors", part,
                    preexec_fn=lambda count=count: resource.setrlimit(resource.RLIMIT_NOFILE, (count, count)))
        for megabytes in range(20, 400, 6):
            size = megabytes << 20
            attempt(f"{megabytes} MB of memory", part,
                    preexec_fn=lambda size=size: resource.setrlimit(resource.RLIMIT_AS, (size, size)))
    REPO.mkdir(exist_ok=True)
    for part in sources[:2]:
        for kilobytes in range(16, 900, 12):
            small(part, kilobytes, failures, outcomes)
    print(f"{outcomes['refused']} times too little, {outcomes['done']} times enough; {len(failures)} times wrongly")
    if failures or not outcomes["refused"] or not outcomes["done"]:
        raise SystemExit(1)


def small(part, kilobytes, failures, outcomes):
    """On a disk that is full at some place, and then is not."""
    shutil.rmtree(REPO, ignore_errors=True)
    REPO.mkdir(mode=0o700)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k,mode=700", "tmpfs", REPO], check=True)
    try:
        done = om(*part.words)
        problems = done.stderr.splitlines()
        outcomes["done" if done.returncode == 0 else "refused"] += 1
        if done.returncode == 1 and (len(problems) != 1 or "No space left" not in problems[0]):
            raise Problem(f"it says {problems}")
        if done.returncode not in (0, 1):
            raise Problem(f"status {done.returncode}, it says {problems}")
        left = [str(p) for folder in ("tmp", "claims", "leases") if (REPO / folder).exists()
                for p in (REPO / folder).iterdir()]
        if left:
            raise Problem(f"it left {left}")
        subprocess.run(["mount", "-o", "remount,size=4m", REPO], check=True)
        if om_done(*part.words) != IDENTITY or snapshot() != part.reference:
            raise Problem(f"the import afterwards: {part.difference(snapshot())}")
    except Problem as problem:
        failures.append(f"{kilobytes} kB of disk: {problem}")
        print("FAILED:", failures[-1], flush=True)
    finally:
        subprocess.run(["umount", REPO], check=True)


def main():
    for program in ("strace", "cc", "gzip"):
        if shutil.which(program) is None:
            skip(f"{program} is not installed")
    if os.geteuid() != 0:
        skip("mounting needs root")
    print(f"SEED={SEED}")
    (SCRATCH / "shim.c").write_text(SHIM)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", SCRATCH / "shim.so", SCRATCH / "shim.c"], check=True)
    make_archive(SCRATCH / "archive")
    make_layout(SCRATCH / "layout")
    parts = {
        "archive": lambda: inject(Import(["image", "import", f"docker-archive:{SCRATCH}/archive"])),
        "layout": lambda: inject(Import(["image", "import", f"oci:{SCRATCH}/layout"])),
        "stream": lambda: inject(Import(["image", "import", "-"], SCRATCH / "archive")),
        "mount": lambda: inject(Mount(["image", "mount", IDENTITY, "--target", TARGET])),
        "writable": lambda: inject(Mount(["image", "mount", IDENTITY, "--target", TARGET, "--writable"])),
        "unmount": lambda: inject(Unmount()),
        "order": order,
        "limits": limits,
    }
    parts[sys.argv[2]]()


signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # mounts go
try:
    main()
finally:
    for place in reversed(mounted()):
        subprocess.run(["umount", "-l", place], check=False)
    shutil.rmtree(SCRATCH, ignore_errors=True)
