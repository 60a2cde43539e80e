#!/usr/bin/env python3
"""Lets system calls of om fail, one after the other, and looks at what is left.

    inject.py OM PART     archive layout stream: imports of a small image, each call that matters failing once
                          durable: the same of an import with `batch` of what an import with `none` brought
                          mount writable unmount: the same of the image's mount
                          again: of a writable mount that was stopped and is mounted again
                          remove: of the removals of an image and of a layer
                          gc: of a collection
                          repair: of a repair from a source
                          pull: of a pull from a registry
                          pull_again: of one that finds its image up to date
                          pull_login: over TLS, by name, with a credential helper and a token
                          pull_early: while one layer is published and another still comes
                          limits: few descriptors, a small disk, little memory

After each failure: exit status 1 and one line, or 0 and a correct result; the repository opens, and holds only what is
complete; what the dead command left staged, claimed or leased goes with the next collection, and nothing is mounted;
no descriptor is left open; the same command without a failure succeeds. A pull may do its work at another try.

Also `order`: no call fails; what is synced before what is shown, and before what goes.

    SEED=N     of the sample, where a call is made more often than LIMIT times
    LIMIT=N    places at which one call fails in one way (default: 40)
    OVERMOUNT_SECONDS=N  ends each part after so long; then the places come in random order
    ONLY=CALL  that call alone
    SAY=1      prints what om says to each failure

Exit status 77: cannot run here."""
import base64
import collections
import contextlib
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

for folder in ("support", "registry"):
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / folder))
from certificates import authority
from running import LIBC, Problem, need, own_mounts, skip
from scripted_registry import ALWAYS, MANIFEST, answer, challenge, document, scripted_registry

OM = str(pathlib.Path(sys.argv[1]).resolve())
SCRATCH = pathlib.Path(tempfile.mkdtemp(prefix="overmount-failure."))
REPO, TARGET, HOME = SCRATCH / "repository", SCRATCH / "target", SCRATCH / "home"
SERVERS = contextlib.ExitStack()
SEED = int(os.environ.get("SEED", time.time_ns() % 1000000))
LIMIT = int(os.environ.get("LIMIT", "40"))
SECONDS = int(os.environ.get("OVERMOUNT_SECONDS", "0"))
ONLY, SAY = os.environ.get("ONLY", ""), os.environ.get("SAY", "")
TIMEOUT = 20
OPEN_LOG = SCRATCH / "open"

# close(2) is not among them: it closes the descriptor also when it fails, which an injection cannot do, and locks would
# stay. Nor brk(2), which does not fail with an error number, and timerfd_settime(2), whose result Asio does not look at.
CALLS = {
    "openat": ("EMFILE", "ENOSPC"), "openat2": ("EMFILE", "EIO", "ENOSYS"), "read": ("EIO",), "pread64": ("EIO",),
    "write": ("ENOSPC", "EIO"), "pwrite64": ("ENOSPC", "EIO"), "ftruncate": ("ENOSPC",), "fallocate": ("ENOSPC",),
    "copy_file_range": ("EIO",), "mkdirat": ("ENOSPC",), "mkdir": ("ENOSPC",), "mknodat": ("ENOSPC",),
    "symlinkat": ("ENOSPC",), "linkat": ("EIO",), "renameat": ("EIO", "ENOSPC"), "renameat2": ("EIO", "ENOSPC"),
    "unlinkat": ("EIO",), "fchown": ("EIO",), "fchownat": ("EIO",), "fchmod": ("EIO",), "fchmodat": ("EIO",),
    "utimensat": ("EIO",), "setxattr": ("ENOSPC",), "fsetxattr": ("ENOSPC",), "lsetxattr": ("ENOSPC",),
    "fgetxattr": ("EIO",), "lgetxattr": ("EIO",), "flistxattr": ("EIO",), "llistxattr": ("EIO",),
    "fremovexattr": ("EIO",), "fsync": ("EIO",), "fdatasync": ("EIO",), "syncfs": ("EIO",), "sync_file_range": ("EIO",),
    "fcntl": ("ENOLCK", "EMFILE"), "flock": ("ENOLCK",), "newfstatat": ("EIO",), "fstat": ("EIO",), "statx": ("EIO",),
    "faccessat2": ("EIO",), "readlink": ("EIO",), "readlinkat": ("EIO",), "getdents64": ("EIO",), "lseek": ("EIO",),
    "chmod": ("EIO",), "ioctl": ("EIO", "EOPNOTSUPP"), "getrandom": ("EIO",),
    "memfd_create": ("EMFILE", "ENOMEM"), "mmap": ("ENOMEM",), "clone3": ("EAGAIN",), "unshare": ("EPERM",),
    "ustat": ("EIO", "ENOSYS"),
    "epoll_create1": ("EMFILE",), "eventfd2": ("EMFILE",), "timerfd_create": ("EMFILE",),
    "fsopen": ("EMFILE", "EPERM"), "fsconfig": ("ENOMEM", "EIO"), "fsmount": ("EMFILE",), "move_mount": ("ENOMEM",),
    "mount_setattr": ("ENOMEM",), "mount": ("ENOMEM",), "umount2": ("EIO", "EBUSY"),
}
# What a pull does besides. A call of the network that fails once may be made again.
NETWORK = {
    "socket": ("EMFILE", "ENOBUFS", "EAFNOSUPPORT"), "connect": ("ECONNREFUSED", "ENETUNREACH", "ETIMEDOUT", "EACCES"),
    "sendto": ("ECONNRESET", "EPIPE", "EINTR", "ENOBUFS"), "recvfrom": ("ECONNRESET", "ETIMEDOUT", "EINTR", "ENOMEM"),
    "sendmsg": ("ENOBUFS",), "sendmmsg": ("ENOBUFS",), "recvmsg": ("ENOBUFS",), "bind": ("EADDRINUSE",), "getsockname": ("ENOBUFS",),
    "getsockopt": ("ENOBUFS",), "setsockopt": ("ENOBUFS",), "poll": ("ENOMEM",), "epoll_ctl": ("ENOMEM", "ENOSPC"),
    "epoll_wait": ("EINTR",), "uname": ("EFAULT",), "access": ("EACCES",), "pipe2": ("EMFILE",), "pidfd_open": ("EMFILE",),
    "wait4": ("ECHILD", "EINTR"), "dup2": ("EBUSY",), "setpgid": ("EPERM",), "execve": ("ENOMEM",),
}
# What reads settings, certificates and /etc/hosts, and runs a helper.
SETTINGS = {call: CALLS[call] for call in (
    "openat", "read", "newfstatat", "fstat", "statx", "lseek", "faccessat2", "getdents64", "fcntl", "mmap", "getrandom", "clone3",
    "readlink", "eventfd2", "epoll_create1", "timerfd_create")}
# What publishes a layer.
PUBLISHING = {call: CALLS[call] for call in (
    "openat", "openat2", "read", "write", "pwrite64", "ftruncate", "mkdirat", "linkat", "renameat", "renameat2", "unlinkat",
    "fchmod", "utimensat", "fsync", "fcntl", "newfstatat", "getdents64", "lseek", "mmap", "ioctl", "getrandom")}
# Calls by number, whose names strace does not know: the shim lets them fail.
NUMBERED = {"statmount": (457, {"EPERM": 1, "ENOMEM": 12, "ENOSYS": 38})}
# What must not be overlooked.
NEVER_TOLERATED = {"fsync", "fdatasync", "syncfs", "sync_file_range"}
MNT_DETACH = 2
RENAMES = "?renameat,?renameat2"
STDERR = re.compile(r"write\(2[<,]")
# With these Asio wakes its thread, and waits for what it has registered; they cannot fail, and without them nobody is woken.
UNFAILING = re.compile(r'write\(\d+(<[^>]*>)?, "\\1\\0\\0\\0\\0\\0\\0\\0", 8\)|epoll_ctl\([^,]*, EPOLL_CTL_(MOD|ADD, \d+<anon_inode:\[(eventfd|timerfd)\]>)')

# Holds om back until the tracer is there. Counts calls that are made by number, and lets one of them fail. Says at the end which
# descriptors are open, a line each, and `end`.
SHIM = r"""
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
static long failing, failure, place = -1;
static int calls, report = -1, open_report = -1;
__attribute__((constructor)) static void wait_for_the_tracer(void)
{
    const char* fd = getenv("FAILURE_WAIT");
    const char* open_fd = getenv("FAILURE_OPEN");
    const char* number = getenv("FAILURE_NUMBER");
    char byte;
    if (number != NULL)
        sscanf(number, "%ld:%ld:%ld:%d", &failing, &failure, &place, &report);
    if (fd != NULL && write(atoi(fd), "r", 1) == 1) {
        while (read(atoi(fd), &byte, 1) > 0)
            continue;
        close(atoi(fd));
    }
    open_report = open_fd != NULL ? atoi(open_fd) : -1;
    unsetenv("LD_PRELOAD"); /* not for what it runs */
}
__attribute__((destructor)) static void say_what_is_open(void)
{
    char path[64], target[512];
    const struct dirent* one;
    DIR* const all = open_report >= 0 ? opendir("/proc/self/fd") : NULL;
    if (all == NULL)
        return;
    while ((one = readdir(all)) != NULL) {
        const int fd = atoi(one->d_name);
        if (fd < 3 || fd == dirfd(all) || fd == report || fd == open_report)
            continue;
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        const ssize_t size = readlink(path, target, sizeof target);
        if (size >= 0) /* else it is the call that fails */
            dprintf(open_report, "%.*s\n", (int)size, target);
    }
    dprintf(open_report, "end\n");
}
long syscall(long number, ...)
{
    static long (*real)(long, ...);
    long a[6];
    va_list all;
    va_start(all, number);
    for (int i = 0; i < 6; ++i)
        a[i] = va_arg(all, long);
    va_end(all);
    if (real == NULL)
        real = (long (*)(long, ...))dlsym(RTLD_NEXT, "syscall");
    if (report >= 0 && number == failing) {
        const int fails = __atomic_add_fetch(&calls, 1, __ATOMIC_SEQ_CST) == place;
        if (write(report, fails ? "F" : "c", 1) == 1 && fails) {
            errno = (int)failure;
            return -1;
        }
    }
    return real(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}
"""


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
# Of another image on the first layer, which goes; and a layer of no image.
GOING = [LAYERS[0], tar_of(("going", tarfile.REGTYPE, b"going"), ("dir", tarfile.DIRTYPE, None),
                           ("dir/below", tarfile.REGTYPE, bytes(5000)))]
SINGLE = tar_of(("single", tarfile.REGTYPE, b"single"))


def digest(content):
    return "sha256:" + hashlib.sha256(content).hexdigest()


def config_of(layers):
    return json.dumps({"architecture": "amd64", "os": "linux", "rootfs": {
        "type": "layers", "diff_ids": [digest(tar) for tar in layers]}}).encode()


def chain_of(layers):
    chain = ""
    for tar in layers:
        chain = digest(f"{chain} {digest(tar)}".encode()) if chain else digest(tar)
    return chain


IDENTITY = digest(config_of(LAYERS))


def make_archive(path):
    config = IDENTITY[7:] + ".json"
    manifest = [{"Config": config, "RepoTags": ["test:1"], "Layers": [f"{i}/layer.tar" for i in range(len(LAYERS))]}]
    members = [(f"{i}/layer.tar", tar) for i, tar in enumerate(LAYERS)]
    members += [(config, config_of(LAYERS)), ("manifest.json", json.dumps(manifest).encode())]
    with tarfile.open(path, "w") as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))


def make_layout(path, layers, tag):
    def blob(content, kind):
        (path / "blobs/sha256" / digest(content)[7:]).write_bytes(content)
        return {"mediaType": f"application/vnd.oci.image.{kind}", "digest": digest(content), "size": len(content)}

    (path / "blobs/sha256").mkdir(parents=True)
    (path / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    packed = [subprocess.run(["gzip", "-n"], input=tar, check=True, stdout=subprocess.PIPE).stdout for tar in layers]
    manifest = json.dumps({"schemaVersion": 2, "config": blob(config_of(layers), "config.v1+json"),
                           "layers": [blob(layer, "layer.v1.tar+gzip") for layer in packed]}).encode()
    (path / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [
        {**blob(manifest, "manifest.v1+json"), "annotations": {"org.opencontainers.image.ref.name": tag}}]}))


# What an owner has in hand, and is swept when it is dead.
STAGED = ("tmp/", "claims/", "leases/", "imports/")


def key_of(path):
    """Its path in the repository, without what is named by chance or after the boot."""
    key = os.path.relpath(path, REPO)
    key = re.sub(r"^mounts/[^/]+", "mounts/ID", key)
    key = re.sub(r"^imports/[0-9a-f]+\.json", "imports/ID.json", key)
    key = re.sub(r"^(diffs/\w+/[0-9a-f]+)\.\d+", r"\1.N", key)
    return re.sub(r"^(layers/\w+/\w+/correction-)[0-9a-f-]{36}(\.\d+)?", r"\1BOOT", key)


def snapshot():
    """What the repository holds, without what differs from one time to the next."""
    out = {}
    for folder, folders, files in os.walk(REPO):
        for name in folders + files:
            path = os.path.join(folder, name)
            key, s = key_of(path), os.lstat(path)
            # Locks; the file that each import replaces; directories that stay when they are empty.
            if re.fullmatch(r"\w+\.lock|imports/last|\w+/sha(256|512)", key):
                continue
            content = ""
            if stat.S_ISLNK(s.st_mode):
                content = os.readlink(path)
            elif stat.S_ISREG(s.st_mode) and not re.match(r"tags/|imports/|mounts/ID/record\.json", key):
                content = hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest()
            inside = "/rootfs/" in key
            kept = sorted((x, os.getxattr(path, x, follow_symlinks=False))
                          for x in os.listxattr(path, follow_symlinks=False)) if inside else []
            timed = inside and not (stat.S_ISCHR(s.st_mode) and s.st_rdev == 0)  # nobody sees when a whiteout was made
            out[key] = (s.st_mode, s.st_rdev, content, kept, s.st_uid, s.st_gid, s.st_mtime_ns if timed else 0)
    return out


def difference(found, wanted):
    keys = sorted(k for k in found.keys() | wanted.keys() if found.get(k) != wanted.get(k))
    return ", ".join(("no " if k not in found else "" if k not in wanted else "another ") + k for k in keys[:5])


def copy_tree(source, target):
    shutil.rmtree(target, ignore_errors=True)
    subprocess.run(["cp", "-a", source, target], check=True)


def mounted():
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as table:
        return [line.split()[4] for line in table if str(SCRATCH) in line]


def om(*words, **more):
    return subprocess.run([OM, "--repo", REPO, *words], capture_output=True, text=True, timeout=TIMEOUT, **more)


def om_done(*words, **more):
    done = om(*words, **more)
    if done.returncode != 0:
        raise Problem(f"om {' '.join(map(str, words))} without a failure: {(done.stderr or done.stdout).strip()}")
    return done.stdout.strip()


def shown_images():
    """IDs with tags, as a listing has them; to open the repository puts what was committed into its place."""
    return {image["id"]: image["tags"] for image in json.loads(om_done("--json", "image", "list") or "[]")}


def traced(words, expression, stdin=None, numbered=None):
    """Runs om under strace, of which it sees nothing before main(): status, output, error lines, the trace.

    `numbered`: number, error and place of a call that the shim lets fail; the last line of the trace has an `F` for it, and
    a `c` for each other."""
    log, shim_log = SCRATCH / "trace", SCRATCH / "shim.log"
    report, open_report = (os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600) for path in (shim_log, OPEN_LOG))
    log.unlink(missing_ok=True)
    ours, theirs = socket.socketpair()
    child = subprocess.Popen(
        [OM, "--repo", REPO, *words], stdin=stdin or subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, pass_fds=[theirs.fileno(), report, open_report],
        preexec_fn=lambda: os.sched_setaffinity(0, [min(os.sched_getaffinity(0))]),
        env={**os.environ, "LD_PRELOAD": str(SCRATCH / "shim.so"), "FAILURE_WAIT": str(theirs.fileno()),
             "FAILURE_OPEN": str(open_report), **({"FAILURE_NUMBER": ":".join(map(str, (*numbered, report)))} if numbered else {})})
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
        os.close(report)
        os.close(open_report)
        with open(log, "a", encoding="utf-8") as text:
            made = shim_log.read_text()
            text.write(f"shim: {made}{' INJECTED' if 'F' in made else ''}\n")
    return child.returncode, out, problems.splitlines(), log.read_text(errors="replace")


def left_open():
    """What the last command had open at its end, without what differs from one time to the next."""
    lines = OPEN_LOG.read_text(errors="replace").splitlines()
    return sorted(re.sub(r"\d+", "N", line) for line in lines[:-1]) if lines[-1:] == ["end"] else []


def injected_calls():
    log = SCRATCH / "trace"
    return "\n".join(line for line in log.read_text(errors="replace").splitlines() if "INJECTED" in line)


def made_up_for(log):
    """Whether what could not be synced was then written anew, synced and put in its place."""
    lines = log.splitlines()
    failed = next(i for i, line in enumerate(lines) if "INJECTED" in line)
    path = re.search(r"\(\d+<([^>]*)>", lines[failed])[1]
    synced = set()
    for line in lines[failed + 1:]:
        if found := re.search(r"(?:fsync|syncfs)\(\d+<([^>]*)>.* = 0", line):
            synced.add(found[1])
        elif found := re.search(r'renameat2?\(\d+<([^>]*)>, "([^"]*)", \d+<([^>]*)>, "([^"]*)".* = 0', line):
            if os.path.join(found[3], found[4]) == path and os.path.join(found[1], found[2]) in synced:
                return True
    return False


def places_of(log):
    """(call, how many of these its thread has made, time) of each that can fail, of a log with times. strace counts each thread by itself."""
    counts = collections.Counter()
    for line, pid, when, call in re.findall(r"^((\d+) +([\d.]+) (\w+)\(.*)", log, re.M):
        counts[pid, call] += 1
        if not UNFAILING.search(line):
            yield call, counts[pid, call], float(when)


class Part:
    """A command whose calls fail. `prepare` before each, `check` says whether its work is done, or none of it."""

    def __init__(self, words, stdin=None):
        self.words, self.stdin = words, stdin
        self.reference = None
        self.committed = False  # whether the last run left a record of an import, which others apply
        self.calls = CALLS

    def open_stdin(self):
        if self.stdin is None:
            return None
        return subprocess.Popen(["cat", self.stdin], stdout=subprocess.PIPE)

    def run(self, expression, numbered=None):
        source = self.open_stdin()
        try:
            return traced(self.words, expression, source.stdout if source else None, numbered)
        finally:
            self.committed = any((REPO / "imports").glob("*.json"))
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

    def places(self, log):
        """At which of the calls, counted in its thread, each is made to fail. `log`: of a run without a failure."""
        out = collections.defaultdict(set)
        for call, place, _ in places_of(log):
            out[call].add(place)
        return {call: sorted(of) for call, of in out.items()}

    def judge(self, status, out, problems, injected):
        """Exit status 1 and one line, or 0."""
        if status not in (0, 1) or (status == 1) != (len(problems) == 1) or (status == 0 and problems):
            # With standard error itself there is nothing to say.
            if not (status == 1 and STDERR.search(injected)):
                raise Problem(f"status {status}, it says {problems}")
        if status == 1 and problems and not problems[0].startswith("om: "):
            raise Problem(f"it says {problems}")

    def need_reference(self, what):
        found = snapshot()
        if found != self.reference:
            raise Problem(f"{what}: {difference(found, self.reference)}")


class Template(Part):
    """Of a repository that is made once, and copied each time."""

    def __init__(self, words):
        super().__init__(words)
        self.template = SCRATCH / "template"

    def first(self):
        if not self.template.exists():
            shutil.rmtree(REPO, ignore_errors=True)
            self.make()
            REPO.rename(self.template)
        self.prepare()
        self.before = snapshot()
        self.plain()
        self.after_plain()
        self.reference = snapshot()

    def after_plain(self):
        pass

    def prepare(self):
        copy_tree(self.template, REPO)


class Import(Part):
    name = "docker.io/library/test:1"

    def first(self):
        self.prepare()
        if self.plain() != IDENTITY:
            raise SystemExit("the image has another ID")
        self.reference = snapshot()
        # What belongs together: a record or a diff is there as a whole or not at all.
        self.units = {key for key in self.reference if re.fullmatch(r"(diffs|layers|images)/\w+/\w+", key)}
        om_done("image", "remove", IDENTITY)
        om_done("gc")
        self.empty = snapshot()
        if any(self.empty.keys() & self.units):
            raise SystemExit("a collection leaves what nothing needs")

    def prepare(self):
        shutil.rmtree(REPO, ignore_errors=True)

    def check(self, status):
        shown = shown_images()
        if shown not in ({}, {IDENTITY: [self.name]}) or (status == 0 and not shown):
            raise Problem(f"with status {status} there is {shown}")
        found = {key: value for key, value in snapshot().items() if not key.startswith(STAGED)}
        if status == 0 and found != self.reference:
            raise Problem(f"it says that it is done: {difference(found, self.reference)}")
        for key, value in found.items():
            if self.reference.get(key) != value and not self.may_be_left(key):
                raise Problem(f"it left {key}")
        for unit in self.units & found.keys():
            inside = {key for key in self.reference if key.startswith(unit + "/")}
            if unit.startswith("layers/"):
                inside -= {key for key in inside if "/correction" in key}
            if not inside <= found.keys():
                raise Problem(f"{unit} is not complete: {sorted(inside - found.keys())}")
        if mounted():
            raise Problem(f"it left mounts: {mounted()}")
        self.check_collected(bool(shown))
        if self.plain() != IDENTITY:
            raise Problem("the image has another ID")
        self.sweep()
        self.need_reference("the import afterwards")

    def may_be_left(self, key):
        return False

    def sweep(self):
        """An import removes what dead ones left."""

    def check_collected(self, shown):
        """A collection instead of another import."""
        aside = SCRATCH / "aside"
        shutil.rmtree(aside, ignore_errors=True)
        REPO.rename(aside)
        copy_tree(aside, REPO)
        om_done("gc")
        found, wanted = snapshot(), self.reference if shown else self.empty
        # A correction is a cache: the first mount makes it.
        missing = {key for key in wanted.keys() - found.keys() if "/correction" not in key}
        if missing or any(found[key] != wanted.get(key) for key in found):
            raise Problem(f"after a collection: {difference(found, wanted)}")
        shutil.rmtree(REPO)
        aside.rename(REPO)


class Durable(Import):
    """What an import with `none` brought, imported with `batch`."""

    def first(self):
        shutil.rmtree(REPO, ignore_errors=True)
        om_done("--durability", "none", "image", "import", *self.words[2:])
        copy_tree(REPO, SCRATCH / "template")
        self.old = snapshot()
        super().first()

    def prepare(self):
        copy_tree(SCRATCH / "template", REPO)

    def check(self, status):
        if shown_images() != {IDENTITY: ["docker.io/library/test:1"]}:
            raise Problem(f"with status {status} there is {shown_images()}")
        for key, value in snapshot().items():
            if key.startswith(STAGED) or value == self.reference.get(key):
                continue
            if status == 0 or value != self.old.get(key):
                # A diff that the disk has lost is not believed from then on.
                if status == 0 or not key.endswith("/diff.json"):
                    raise Problem(f"with status {status} there is another {key}")
        if self.plain() != IDENTITY:
            raise Problem("the image has another ID")
        om_done("gc")  # of a diff that was lost the tree is there, until then
        self.need_reference("the import afterwards")
        om_done("check")


class Pull(Import):
    """From a registry that is served here."""

    def __init__(self, tls=False):
        super().__init__([])
        self.calls, self.tls, self.server, self.options = {**CALLS, **NETWORK}, tls, None, []

    def first(self):
        if self.server is None:
            self.serve()
        super().first()

    def serve(self):
        blobs = {"sha256:" + path.name: path.read_bytes() for path in (SCRATCH / "layout/blobs/sha256").iterdir()}
        manifest = json.loads((SCRATCH / "layout/index.json").read_text())["manifests"][0]["digest"]
        self.server = SERVERS.enter_context(scripted_registry(tls=self.tls or None))
        self.server.serve(document(blobs[manifest], MANIFEST, blobs), "app", "1")
        self.name = f"{'localhost' if self.tls else '127.0.0.1'}:{self.server.port}/app:1"
        self.words = ["image", "pull", self.name, *self.options]

    def sweep(self):
        om_done("gc")  # a pull that finds its image up to date removes nothing

    def judge(self, status, out, problems, injected):
        super().judge(status, out, problems, injected)
        # Of a call of the network it says to whom it was.
        if status == 1 and re.match(r"\d+ +(connect|sendto|recvfrom)\(", injected) and "TCP" in injected and str(self.server.port) not in problems[0]:
            raise Problem(f"it does not say what failed: {problems}")
        if "no such layer" in "".join(problems):
            raise Problem(f"it says that something is missing, which is there: {problems}")


class PullAgain(Pull):
    """An image that is up to date."""

    def first(self):
        if self.server is None:
            self.serve()
        self.plain()
        copy_tree(REPO, SCRATCH / "pulled")
        super().first()

    def prepare(self):
        copy_tree(SCRATCH / "pulled", REPO)

    def check(self, status):
        found = {key: value for key, value in snapshot().items() if not key.startswith(STAGED)}
        if found != self.reference:
            raise Problem(f"with status {status}: {difference(found, self.reference)}")
        if self.plain() != IDENTITY:
            raise Problem("the image has another ID")
        self.sweep()
        self.need_reference("the pull afterwards")


class PullLogin(Pull):
    """By a name, over TLS, with a token that wants a password, which a helper has."""

    def __init__(self):
        trust = authority(SCRATCH / "authority")
        super().__init__(tls=trust.issue())
        self.calls = {**NETWORK, **SETTINGS}
        self.options = ["--cert-dir", trust.folder]

    def serve(self):
        super().serve()
        place = f"localhost:{self.server.port}"
        settings = HOME / ".config/containers"
        settings.mkdir(parents=True)
        (settings / "auth.json").write_text(json.dumps({"credHelpers": {place: "fine"}}))
        (settings / "registries.conf").write_text(f'[[registry]]\nprefix = "{place}"\nlocation = "{place}"\n')
        helper = HOME / "bin/docker-credential-fine"
        helper.write_text("#!/bin/sh\nread -r server\necho '{\"Username\": \"alice\", \"Secret\": \"correct horse\"}'\n")
        helper.chmod(0o755)
        password = "Basic " + base64.b64encode(b"alice:correct horse").decode()
        self.server.expect("GET|HEAD", "/v2/app/.*", lambda one: None if one.get("authorization") == "Bearer token" else
                           challenge(f'Bearer realm="{self.server.url.replace("127.0.0.1", "localhost")}/token",service="s"'), times=ALWAYS)
        self.server.expect("GET", "/token", lambda one: answer(200, b'{"token": "token"}') if one.get("authorization") == password else
                           challenge('Basic realm="r"'), times=ALWAYS)

    def judge(self, status, out, problems, injected):
        super().judge(status, out, problems, injected)
        if "correct horse" in out + "".join(problems):
            raise Problem(f"it says the password: {problems}")


class PullEarly(Pull):
    """One layer comes at once, and the other one only when that has been published."""
    STALL = 4.5

    def __init__(self):
        super().__init__()
        self.calls, self.stalls, self.window = PUBLISHING, False, (0, 0)

    def serve(self):
        super().serve()
        layer = max((one for one in self.server.content if "/blobs/" in one), key=lambda one: len(self.server.content[one].body))

        def late(one):
            if not self.stalls:
                return None
            self.window = (time.time(), time.time() + self.STALL)
            return self.server.usual(one).with_(stall=(100, self.STALL))

        self.server.expect("GET", layer, late, times=ALWAYS)

    def run(self, expression, numbered=None):
        self.stalls = True
        try:
            return super().run(expression, numbered)
        finally:
            self.stalls = False

    def may_be_left(self, key):
        return re.fullmatch(r"diffs/\w+/\w+/(early|diff\.json)", key)  # what is not durable yet

    def places(self, log):
        """Those meanwhile."""
        out = collections.defaultdict(set)
        for call, place, when in places_of(log):
            if self.window[0] + 1 < when < self.window[1]:
                out[call].add(place)
        if not out["renameat2"] | out["renameat"]:
            raise SystemExit("nothing is published early")
        return {call: sorted(of) for call, of in out.items()}


@contextlib.contextmanager
def high_device_numbers(count):
    """A superblock that is made meanwhile has a device number that is not used again soon. The kernel gives the lowest
    that is free, and a mount whose number another superblock has counts as alive: other tests mount as well."""
    top = SCRATCH / "taken"
    top.mkdir(exist_ok=True)
    try:
        for place in (top, *[top / "each"] * count):
            if LIBC.mount(b"none", str(place).encode(), b"tmpfs", 0, None) != 0:
                raise SystemExit("a tmpfs cannot be mounted")
            (top / "each").mkdir(exist_ok=True)
        yield
    finally:
        LIBC.umount2(str(top).encode(), MNT_DETACH)


class Mount(Part):
    def run(self, expression, numbered=None):
        with high_device_numbers(32):
            return super().run(expression, numbered)

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
        om_done("gc")
        if len(mounted()) != (1 if status == 0 else 0):
            raise Problem(f"with status {status} {len(mounted())} mounts are there")
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
        left = self.wait_for(lambda: [om_done("gc"), om_done("image", "mounts")][1], "")
        if mounted() or left:
            raise Problem(f"it left {mounted()}, {left}")
        self.need_reference("after it")

    @staticmethod
    def wait_for(look, wanted):
        """What `look` gives in the end: another superblock may have the device number for a moment."""
        end = time.monotonic() + TIMEOUT / 2
        while (found := look()) != wanted and time.monotonic() < end:
            time.sleep(0.1)
        return found


class Unmount(Mount):
    def __init__(self):
        super().__init__(["image", "unmount", TARGET])

    def prepare(self):
        with high_device_numbers(128):  # a few less are taken in the run
            om_done("image", "mount", IDENTITY, "--target", TARGET, "--writable")

    def check(self, status):
        if status == 0 and mounted():
            raise Problem("it is mounted still")
        if mounted():
            self.look()
        # A mount that is gone, with a record that could not be removed, is stopped: it can be tried again.
        if om_done("image", "mounts"):
            self.plain()
        self.check_clean()


class Again(Mount):
    """A volatile mount that somebody took down, with what was written in it."""

    def __init__(self):
        super().__init__(["image", "mount", "--again", TARGET])

    def prepare(self):
        with high_device_numbers(128):  # a few less are taken in the run
            om_done("--durability", "none", "image", "mount", IDENTITY, "--target", TARGET, "--writable")
            (TARGET / "written").write_text("written")
            subprocess.run(["umount", TARGET], check=True)
        self.need_state("stopped", "after umount")

    def need_state(self, wanted, when):
        found = self.wait_for(lambda: [one["state"] for one in json.loads(om_done("--json", "image", "mounts"))], [wanted])
        if found != [wanted] or len(mounted()) != (1 if wanted == "alive" else 0):
            raise Problem(f"{when} there are {mounted()}, {found}")

    def check(self, status):
        om_done("gc")  # nothing but an unmount deletes an upper
        self.need_state("alive" if status == 0 else "stopped", f"with status {status}")
        if status != 0:
            self.wait_for(lambda: "the mount is alive" in om(*self.words).stderr, False)
            self.need_state("alive", "mounted again")
        self.look()
        om_done("image", "unmount", TARGET)
        self.check_clean()

    def look(self):
        super().look()
        if (TARGET / "written").read_text() != "written":
            raise Problem("what was written is gone")


class RemoveImage(Template):
    """The image has two tags; another one stays, with a mount that is stopped."""

    def __init__(self):
        super().__init__(["image", "remove", IDENTITY])

    def make(self):
        om_done("image", "import", f"oci:{SCRATCH}/layout", "--tag", "other:2")
        om_done("image", "import", f"oci:{SCRATCH}/going", "--keep-blobs")
        om_done("image", "mount", digest(config_of(GOING)), "--target", TARGET, "--writable")
        subprocess.run(["umount", TARGET], check=True)

    def check(self, status):
        shown = shown_images()
        if digest(config_of(GOING)) not in shown or (status == 0 and IDENTITY in shown):
            raise Problem(f"with status {status} there is {shown}")
        om_done("check")
        if IDENTITY in shown:
            self.plain()
        found = {key: value for key, value in snapshot().items() if not key.startswith(STAGED)}
        if found != {key: value for key, value in self.reference.items() if not key.startswith(STAGED)}:
            raise Problem(f"the image is removed: {difference(found, self.reference)}")
        om_done("gc")
        om_done("check")
        kept = {key.split("/")[2] for key in snapshot() if re.fullmatch(r"diffs/\w+/\w+", key)}
        if kept != {digest(tar)[7:] for tar in GOING}:
            raise Problem(f"after a collection there are {kept}")


class RemoveLayer(Template):
    """A layer of no image, on top of an image's."""

    def __init__(self):
        self.chain = chain_of([*LAYERS, SINGLE])
        self.key = "layers/sha256/" + self.chain[7:]
        super().__init__(["layer", "remove", self.chain])

    def make(self):
        om_done("image", "import", f"oci:{SCRATCH}/layout")
        if om_done("layer", "create", "--parent", chain_of(LAYERS), SCRATCH / "single.tar") != self.chain:
            raise SystemExit("the layer has another ID")

    def check(self, status):
        om_done("check")
        found = {key: value for key, value in snapshot().items() if not key.startswith(STAGED)}
        if (status == 0 and self.key in found) or found not in (self.before, self.reference):
            raise Problem(f"with status {status}: {difference(found, self.reference)}")
        if self.key in found:
            self.plain()
        self.need_reference("the removal afterwards")


class Collect(Template):
    """Of everything that a collection takes there is something, beside an image that stays."""

    def __init__(self):
        super().__init__(["gc"])

    def make(self):
        om_done("image", "import", f"docker-archive:{SCRATCH}/archive")
        om_done("image", "import", f"oci:{SCRATCH}/going", "--keep-blobs")
        om_done("layer", "create", "--parent", chain_of(LAYERS), SCRATCH / "single.tar")
        om_done("image", "remove", digest(config_of(GOING)))
        shutil.rmtree(REPO / "tmp", ignore_errors=True)
        for folder in (f"work-{'1' * 32}/layer-0/rootfs", f"trash-{'2' * 32}/rootfs/d"):
            (REPO / "tmp" / folder).mkdir(parents=True)
            (REPO / "tmp" / folder / "file").write_bytes(b"left")
        (REPO / "claims" / digest(SINGLE).replace(":", "-")).touch()
        (REPO / "leases" / ("3" * 32)).write_text(f"diff {digest(GOING[1])}\n")
        over = {"name": "over", "boot_id": "00000000-0000-4000-8000-000000000000",
                "content": f"diff {digest(SINGLE)}\n", "end": 1, "end_since_boot": 1}
        (REPO / "leases" / f"timed-{hashlib.sha256(b'over').hexdigest()}.json").write_text(json.dumps(over))
        kept = REPO / "diffs/sha256" / digest(LAYERS[0])[7:]
        copy_tree(kept, kept.with_name(kept.name + ".1"))

    def after_plain(self):
        found = snapshot()
        if any(key.startswith(STAGED) or ".N" in key or digest(SINGLE)[7:] in key for key in found):
            raise SystemExit(f"a collection leaves {sorted(found)}")

    def judge(self, status, out, problems, injected):
        """What it could not remove it says, a line each."""
        wrong = status not in (0, 1) or (status == 1) != bool(problems)
        if wrong and not (status == 1 and STDERR.search(injected)) or any(not line.startswith("om: ") for line in problems):
            raise Problem(f"status {status}, it says {problems}")

    def check(self, status):
        if shown_images() != {IDENTITY: ["docker.io/library/test:1"]}:
            raise Problem(f"there is {shown_images()}")
        found = snapshot()
        if lost := [key for key in self.reference if found.get(key) != self.reference[key]]:
            raise Problem(f"it took {lost[:3]}")
        # Its own directory and lease, where they could not be removed, are the next sweep's.
        own = re.compile(r"tmp/work-(?!1{32})\w+(/lock)?|leases/(?!3{32})[0-9a-f]{32}")
        left = {key: value for key, value in found.items() if not own.fullmatch(key)}
        if status == 0 and left != self.reference:
            raise Problem(f"it says that it is done: {difference(left, self.reference)}")
        om_done("check")
        self.plain()
        self.need_reference("the collection afterwards")


class Repair(Template):
    """A file of a diff, a layer's record, a config and a manifest are damaged, and a mount is on the diff."""

    def __init__(self):
        super().__init__(["check", "--repair", f"oci:{SCRATCH}/layout"])
        self.diff = f"diffs/sha256/{digest(LAYERS[1])[7:]}"

    def make(self):
        om_done("image", "import", f"oci:{SCRATCH}/layout")
        self.whole = self.lasting()

    def prepare(self):
        for target in mounted():
            subprocess.run(["umount", "-l", target], check=True)
        super().prepare()
        om_done("image", "mount", IDENTITY, "--target", TARGET)
        file = REPO / self.diff / "rootfs/d/new"
        times = file.stat()
        with open(file, "r+b") as opened:
            opened.write(b"damage")
        os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
        (REPO / "layers/sha256" / chain_of(LAYERS)[7:] / "layer.json").write_text("{")
        (REPO / "images/sha256" / IDENTITY[7:] / "config.json").write_text("{}")
        next((REPO / "manifests").iterdir()).write_text("")

    @staticmethod
    def lasting():
        """Without mounts, corrections, which are caches, and the trees that gave way."""
        return {key: value for key, value in snapshot().items()
                if "/correction" not in key and not key.startswith("mounts/") and ".N" not in key}

    def look(self, target, content):
        if sorted(os.listdir(target / "d")) != ["file", "hard", "link", "new"] or (target / "gone").exists():
            raise Problem(f"the mounted tree has {os.listdir(target)}, {os.listdir(target / 'd')}")
        if (target / "d/new").read_bytes() != content + bytes(300000 - len(content)):
            raise Problem("the mounted file is another")

    def after_plain(self):
        self.mended("a repair")

    def mended(self, after):
        """The mount goes on reading the old tree, also after a collection, and others read the new one."""
        om_done("check")
        om_done("gc")
        found = self.lasting()
        if found != self.whole:
            raise Problem(f"after {after}: {difference(found, self.whole)}")
        self.look(TARGET, b"damage")
        other = SCRATCH / "other"
        other.mkdir(exist_ok=True)
        om_done("image", "mount", IDENTITY, "--target", other)
        self.look(other, b"")
        for target in (TARGET, other):
            om_done("image", "unmount", target)
        om_done("gc")
        if any(".N" in key for key in snapshot()):
            raise Problem("the old tree stays")

    def judge(self, status, out, problems, injected):
        """With status 1 it says one line, or what is damaged still."""
        if status == 1 and not problems and "not repaired: " in out:
            return
        super().judge(status, out, problems, injected)

    def check(self, status):
        found = self.lasting()
        for key in self.whole:
            if key not in found:
                raise Problem(f"there is no {key}")
            if found[key] not in (self.whole[key], self.before[key]):
                raise Problem(f"{key} is neither the old nor the new")
        if extra := {key for key in found.keys() - self.whole.keys() if not key.startswith(STAGED) and "/damaged" not in key}:
            raise Problem(f"it left {extra}")
        if status == 0:
            om_done("check")
        self.look(TARGET, b"damage")
        self.plain()
        self.mended("the repair afterwards")


def verdict(part, status, out, problems, injected):
    part.judge(status, out, problems, injected)
    part.check(status)


def inject(part):
    rng, outcomes, failures = random.Random(SEED), collections.Counter(), []
    part.first()
    part.prepare()
    status, _, problems, log = part.run(["-y", "-ttt", "-e", "trace=" + ",".join("?" + call for call in part.calls)])
    if status != 0:
        raise SystemExit(f"without a failure: status {status}, {problems}")
    usually_open, all_places = left_open(), part.places(log)
    part.check(status)
    numbered = NUMBERED if part.calls is CALLS else {}
    for call, (number, _) in numbered.items():
        part.prepare()
        status, _, _, log = part.run(["-e", "trace=none"], (number, 0, -1))
        part.check(status)
        all_places[call] = range(1, len(re.search(r"^shim: (c*)$", log, re.M)[1]) + 1)
    print("calls of one thread:", ", ".join(f"{call} {len(of)}" for call, of in sorted(all_places.items()) if of), flush=True)

    def attempt(call, name, place):
        """Whether the call was made."""
        part.prepare()
        if call in NUMBERED:
            number, errors = NUMBERED[call]
            status, out, problems, log = part.run(["-e", "trace=none"], (number, errors[name], place))
        else:
            also = "," + RENAMES if call in NEVER_TOLERATED else ""
            status, out, problems, log = part.run(
                ["-y", "-e", f"trace={call}{also}", "-e", f"inject={call}:error={name}:when={place}"])
        injected = injected_calls()
        if not injected:
            part.check(status)
            return False
        outcomes["injected"] += 1
        if SAY:
            print(f"{call} {name} {place}: status {status}, {problems}", flush=True)
        outcomes["tolerated" if status == 0 else "refused"] += 1
        if status == 0 and call in NEVER_TOLERATED and not part.committed and not made_up_for(log):
            raise Problem("it is overlooked")
        if extra := collections.Counter(left_open()) - collections.Counter(usually_open):
            raise Problem(f"it left open: {sorted(extra)}")
        verdict(part, status, out, problems, injected)
        return True

    errors_of_numbered = {call: tuple(errors) for call, (_, errors) in numbered.items()}
    ways = [(call, name) for call, names in {**part.calls, **errors_of_numbered}.items() for name in names]
    trials, past = [], set()  # and the ways of which no later place is reached
    for call, name in [way for way in ways if ONLY in ("", way[0])]:
        places = list(all_places.get(call, ()))
        trials += [(call, name, place) for place in (places if len(places) <= LIMIT else sorted(rng.sample(places, LIMIT)))]
    if SECONDS:
        rng.shuffle(trials)
    began = time.monotonic()
    for number, (call, name, place) in enumerate(trials):
        if SECONDS and time.monotonic() - began > SECONDS:
            print(f"PARTIAL: {number} of {len(trials)} calls in {SECONDS} s")
            break
        try:
            if (call, name) not in past and not attempt(call, name, place) and not SECONDS:
                past.add((call, name))
        except (Problem, subprocess.TimeoutExpired) as problem:
            injected = injected_calls()
            if not UNFAILING.search(injected):
                failures.append(f"{call} {name} {place}: {problem}\n    {injected[:300]}")
                print("FAILED:", failures[-1], flush=True)
            recover(part)
    print(f"{outcomes['injected']} calls failed: {outcomes['refused']} times om did, {outcomes['tolerated']} times it "
          f"did its work; {len(failures)} times wrongly; {time.monotonic() - began:.0f} s")
    if failures:
        raise SystemExit(1)


def recover(part):
    for target in mounted():
        subprocess.run(["umount", "-l", target], check=False)
    part.first()


def order():
    """With `batch`: what is renamed is synced before, and the directory it went to before anything that relies on it."""
    drafts = {}  # what was renamed, by its place in the calls

    def calls(*words):
        """(call, path): `rename` has what it is called then, and `take` what it was called where it goes to tmp/."""
        status, _, problems, trace = traced(["--durability", "batch", *words],
                                            ["-y", "-e", "trace=syncfs,fsync,sync_file_range,renameat,renameat2,unlinkat"])
        if status != 0:
            raise SystemExit(f"status {status}, it says {problems}")
        out = []
        drafts.clear()
        for line in trace.splitlines():
            if found := re.search(r'renameat2?\(\d+<([^>]*)>, "([^"]*)", \d+<([^>]*)>, "([^"]*)".* = 0', line):
                source, target = (key_of(os.path.join(*pair)) for pair in (found.group(1, 2), found.group(3, 4)))
                if not target.startswith("tmp/"):
                    drafts[len(out)] = os.path.relpath(os.path.join(*found.group(1, 2)), REPO)
                    out.append(("rename", target))
                elif not source.startswith("tmp/"):
                    out.append(("take", source))
            elif found := re.search(r"(syncfs|fsync|sync_file_range)\(\d+<([^>]*)>.* = 0", line):
                out.append((found[1], os.path.relpath(found[2], REPO)))
            elif found := re.search(r'unlinkat\(\d+<([^>]*)>, "([^"]*)".* = 0', line):
                out.append(("unlink", key_of(os.path.join(found[1], found[2]))))
        return out

    def need_that(holds, what):
        if not holds:
            raise SystemExit(f"{what}:\n" + "\n".join(map(str, made)))

    def all_of(call, pattern):
        return [i for i, (made_call, place) in enumerate(made) if made_call == call and re.fullmatch(pattern, place)]

    def is_between(call, place, first, last):
        return (call, place) in made[first + 1:last]

    commit = r"imports/ID\.json"
    # An import: the data, what is shown of them before the commit point, the commit point, what is shown after it.
    made = calls("image", "import", f"oci:{SCRATCH}/layout")
    points = all_of("rename", commit)
    need_that(len(points) == 1, "not one commit point")
    point = points[0]
    steps = [("diffs/sha256", r"diffs/sha256/\w+", point), ("layers/sha256", r"layers/sha256/\w+", point),
             ("manifests", r"manifests/.*", point), ("imports", commit, len(made)),
             ("images/sha256", r"images/sha256/\w+", len(made)), ("tags", r"tags/.*", len(made))]
    places = {place: all_of("rename", pattern) for place, pattern, _ in steps}
    synced = [i for i, (call, place) in enumerate(made) if call == "syncfs" and place.startswith("tmp/")]
    need_that(len(synced) == 1, "not one sync of the data")
    for place, _, _ in steps:
        need_that(places[place] and synced[0] < places[place][0], f"what goes to {place} is not synced, or nothing does")
    for place, _, end in steps[:3]:
        need_that(places[place][-1] < end and is_between("fsync", place, places[place][-1], end),
                  f"{place} is not synced before the commit point")
    for place, end in (("diffs", point), ("layers", point), ("images", len(made))):
        need_that(is_between("fsync", place, places[place + "/sha256"][0], end), f"{place} is not synced")
    need_that(is_between("fsync", "diffs/sha256", places["diffs/sha256"][-1], places["layers/sha256"][0]),
              "diffs are not synced before layers")
    applied = [i for place in ("images/sha256", "tags") for i in places[place]]
    need_that(point < min(applied) and is_between("fsync", "imports", point, min(applied)),
              "the commit point is not synced before it is applied")
    need_that(is_between("rename", "imports/last", point, min(applied)), "readers are not told")
    removed = all_of("unlink", commit)
    lasts = all(is_between("fsync", place, places[place][-1], removed[0]) for place in ("images/sha256", "tags"))
    need_that(len(removed) == 1 and lasts, "the record goes before what it brings is synced")
    need_that(sum(call == "fsync" and place == "diffs/sha256" for call, place in made) == 1, "diffs are synced one by one")
    count = len(made)
    # What lasts is not synced again.
    made = calls("image", "import", f"oci:{SCRATCH}/layout")
    need_that(not all_of("syncfs", ".*") and not all_of("sync_file_range", ".*") and not all_of("rename", "diffs/.*"),
              "it lasts, and is synced again")
    # What goes: a tag before its image, a layer before its parent and its diff, each removal being synced before the next.
    made = calls("image", "remove", IDENTITY)
    tags, images = all_of("take", "tags/.*"), all_of("take", "images/.*")
    need_that(len(tags) == 1 and len(images) == 1 and is_between("fsync", "tags", tags[0], images[0]) and
              is_between("fsync", "imports", -1, tags[0]) and
              is_between("fsync", "images/sha256", images[0], len(made)), "the removal of an image")
    made = calls("gc")
    upper, lower = (all_of("take", "layers/sha256/" + chain_of(LAYERS[:n])[7:]) for n in (2, 1))
    need_that(len(upper) == len(lower) == 1 and is_between("fsync", "layers/sha256", upper[0], lower[0]), "a parent goes first")
    for layer, tar in ((upper, LAYERS[1]), (lower, LAYERS[0])):
        diff = all_of("take", "diffs/sha256/" + digest(tar)[7:])
        need_that(len(diff) == 1 and is_between("fsync", "layers/sha256", layer[0], diff[0]) and
                  is_between("fsync", "diffs/sha256", diff[0], len(made)), "a diff goes before its layer, or is not synced")
    # What somebody brought with `none` is synced file by file, and then its mark written, before anything relies on it.
    om_done("--durability", "none", "image", "import", f"oci:{SCRATCH}/layout")
    made = calls("image", "import", f"oci:{SCRATCH}/layout")
    points = all_of("rename", commit)
    need_that(len(points) == 1, "not one commit point")
    for tar in LAYERS:
        diff = "diffs/sha256/" + digest(tar)[7:]
        marks = all_of("rename", diff + "/diff.json")
        need_that(len(marks) == 1 and marks[0] < points[0], "the diff's mark")
        for path in [REPO / diff, *(REPO / diff).rglob("*")]:
            if not path.is_symlink() and (path.is_file() or path.is_dir()):
                need_that(is_between("fsync", os.path.relpath(path, REPO), -1, marks[0]),
                          f"{path} is not synced before its mark")
        need_that(is_between("fsync", diff, marks[0], points[0]), "the mark is not synced")
    for i, draft in drafts.items():
        if not re.fullmatch(r"imports/last|.*/correction.*", made[i][1]):  # these are made again
            need_that(is_between("fsync", draft, -1, i), f"{draft} is not synced before it is {made[i][1]}")
    records = [os.path.relpath(path, REPO) for path in (*REPO.glob("layers/*/*/layer.json"), *REPO.glob("manifests/*"))]
    for place in ("diffs", "diffs/sha256", "layers", "layers/sha256", "manifests", *records):
        need_that(is_between("fsync", place, -1, points[0]), f"{place} is not synced before the commit point")
    for place in ("imports", "images", "images/sha256", "tags"):
        need_that(is_between("fsync", place, points[0], all_of("unlink", commit)[0]),
                  f"{place} is not synced before the record goes")
    print(f"{count} syncs and renames of an import, {len(made)} of what was there")


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
        if om_done(*part.words) != IDENTITY:
            raise Problem("the image has another ID")
        part.need_reference("the import afterwards")
    except Problem as problem:
        failures.append(f"{kilobytes} kB of disk: {problem}")
        print("FAILED:", failures[-1], flush=True)
    finally:
        subprocess.run(["umount", REPO], check=True)


def main():
    need("strace", "cc", "gzip", "cp", "openssl")
    own_mounts()
    # No settings of whoever runs this.
    (HOME / "bin").mkdir(parents=True)
    for name in ("REGISTRY_AUTH_FILE", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "DOCKER_CONFIG"):
        os.environ.pop(name, None)
    os.environ.update(HOME=str(HOME), PATH=f"{HOME}/bin:{os.environ['PATH']}")
    print(f"SEED={SEED}")
    (SCRATCH / "shim.c").write_text(SHIM)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", SCRATCH / "shim.so", SCRATCH / "shim.c", "-ldl"], check=True)
    make_archive(SCRATCH / "archive")
    make_layout(SCRATCH / "layout", LAYERS, "test:1")
    make_layout(SCRATCH / "going", GOING, "going:1")
    (SCRATCH / "single.tar").write_bytes(SINGLE)
    TARGET.mkdir()
    parts = {
        "archive": [Import(["image", "import", f"docker-archive:{SCRATCH}/archive"])],
        "layout": [Import(["image", "import", f"oci:{SCRATCH}/layout"])],
        "stream": [Import(["image", "import", "-"], SCRATCH / "archive")],
        "durable": [Durable(["image", "import", f"docker-archive:{SCRATCH}/archive"])],
        "mount": [Mount(["image", "mount", IDENTITY, "--target", TARGET])],
        "writable": [Mount(["image", "mount", IDENTITY, "--target", TARGET, "--writable"])],
        "unmount": [Unmount()],
        "again": [Again()],
        "remove": [RemoveImage(), RemoveLayer()],
        "gc": [Collect()],
        "repair": [Repair()],
        "pull": [Pull()],
        "pull_again": [PullAgain()],
        "pull_early": [PullEarly()],
    }
    if sys.argv[2] == "pull_login":
        parts["pull_login"] = [PullLogin()]
    name = sys.argv[2]
    if name in ("order", "limits"):
        return order() if name == "order" else limits()
    for part in parts[name]:
        inject(part)
        shutil.rmtree(SCRATCH / "template", ignore_errors=True)


signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # mounts go
try:
    main()
finally:
    SERVERS.close()
    for place in reversed(mounted()):
        subprocess.run(["umount", "-l", place], check=False)
    shutil.rmtree(SCRATCH, ignore_errors=True)
