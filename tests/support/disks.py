"""File systems in image files, of which a copy is one moment, as a power cut would leave it.

The image files lie on a file system with reflinks (the carrier): a clone takes no time and cannot lie between two writes.
What a loop device cannot show is the cache of a drive: here, what was written to the device lasts, flushed or not."""
import ctypes
import errno
import fcntl
import os
import platform
import signal
import struct
import subprocess
import uuid

from running import LIBC, Problem, skip

FICLONE = 0x40049409
FILE_SYSTEMS = {
    # How it is made, how the living one and how a copy is mounted. A long commit interval and no flush at a rename: the
    # file system's own write-back would hide that om does not sync.
    "ext4": (["mkfs.ext4", "-q", "-E", "lazy_itable_init=0,lazy_journal_init=0"], "commit=300,noauto_da_alloc",
             "noauto_da_alloc"),
    "xfs": (["mkfs.xfs", "-q"], "nouuid", "nouuid"),
    "btrfs": (["mkfs.btrfs", "-q"], "commit=300", "noatime"),
}
TIMERS = {"/proc/sys/vm/dirty_writeback_centisecs": "0", "/proc/sys/vm/dirty_expire_centisecs": "360000",
          "/proc/sys/fs/xfs/xfssyncd_centisecs": "720000"}


def run(*words):
    done = subprocess.run([str(w) for w in words], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(map(str, words))}: {done.stderr.strip()}")
    return done.stdout


def hold_write_back():
    """Nothing dirty is written unasked until this process ends. A child waits for that, however it comes, and puts back what
    was set before; only one process at a time may do so."""
    lock = open("/proc/sys/vm/dirty_writeback_centisecs", encoding="ascii")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print("waiting for another test that holds the write-back timers", flush=True)
        fcntl.flock(lock, fcntl.LOCK_EX)
    read_end, write_end = os.pipe()
    before = {}
    for path in TIMERS:
        if os.path.exists(path):
            with open(path, encoding="ascii") as file:
                before[path] = file.read()
    if os.fork() == 0:
        os.setsid()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        os.close(write_end)
        for stream in (0, 1, 2):  # who waits for the end of our output does not wait for this process
            os.close(stream)
        os.read(read_end, 1)
        set_timers(before)
        os._exit(0)
    lock.close()  # the child has it
    os.close(read_end)
    set_timers({path: TIMERS[path] for path in before})


def set_timers(values):
    for path, value in values.items():
        with open(path, "w", encoding="ascii") as file:
            file.write(value)


def make_carrier(place, size=4 << 30):
    """Returns a directory on a file system that has reflinks, in an image file itself; whatever there is tools for."""
    place.mkdir()
    image = place.with_suffix(".carrier")
    for options in (["mkfs.xfs", "-q", "-m", "reflink=1"], ["mkfs.btrfs", "-q"]):
        with open(image, "wb") as file:
            file.truncate(size)
        try:
            run(*options, image)
            run("mount", "-o", "loop", image, place)
            return place
        except (RuntimeError, FileNotFoundError):
            image.unlink()
    skip("neither xfs nor btrfs can be made and mounted here")


def usable(kind, carrier):
    """Why there can be no such file system here, or nothing."""
    test = disk(carrier, kind, "usable")
    try:
        test.format()
        test.mount()
        test.copy().remove()
        test.unmount()
    except (RuntimeError, FileNotFoundError, OSError) as problem:
        return str(problem)
    finally:
        test.remove()
    return None


class disk:
    def __init__(self, carrier, kind, name):
        self.carrier, self.kind, self.count = carrier, kind, 0
        self.image, self.place = carrier / f"{name}.img", carrier / f"{name}.mounted"
        self.place.mkdir(exist_ok=True)

    def format(self, size=512 << 20):
        with open(self.image, "wb") as file:
            file.truncate(size)
        run(*FILE_SYSTEMS[self.kind][0], self.image)

    def mount(self):
        run("mount", "-o", "loop," + FILE_SYSTEMS[self.kind][1], self.image, self.place)

    def unmount(self):
        run("umount", "-R", self.place)

    def sync(self):
        run("sync", "-f", self.place)

    def copy(self):
        self.count += 1
        copy = moment(self, self.image.with_suffix(f".{self.count}"))
        with open(self.image, "rb") as source, open(copy.image, "wb") as target:
            fcntl.ioctl(target, FICLONE, source.fileno())
        return copy

    def remove(self):
        if os.path.ismount(self.place):
            run("umount", "-R", "-l", self.place)
        self.image.unlink(missing_ok=True)
        self.place.rmdir()


class moment:
    """A disk as it was. Inside of `with`, it lies where the disk lies, in a mount namespace of its own with another boot
    ID: `prefix` is what a command there begins with, `root` where one sees its files from here."""

    def __init__(self, of, image):
        self.of, self.image, self.holder, self.prefix, self.root = of, image, None, [], None

    def __enter__(self):
        boot = self.image.with_suffix(self.image.suffix + "-boot")
        boot.write_text(f"{uuid.uuid4()}\n")
        options = "loop," + FILE_SYSTEMS[self.of.kind][2]
        script = ('if mountpoint -q "$2"; then umount -R -l "$2"; fi && mount -o "$4" "$1" "$2" && '
                  'mount --bind "$3" /proc/sys/kernel/random/boot_id && echo there && exec cat')
        self.holder = subprocess.Popen(
            ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh", self.image, self.of.place, boot,
             options], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        if self.holder.stdout.readline() != "there\n":
            problem = self.holder.communicate()[1].strip()
            self.holder = None
            raise Problem(f"the file system of the copy does not mount: {problem}")
        self.prefix = ["nsenter", f"--mount=/proc/{self.holder.pid}/ns/mnt", "--"]
        self.root = f"/proc/{self.holder.pid}/root"
        return self

    def __exit__(self, *_):
        if self.holder is not None:
            subprocess.run([*self.prefix, "umount", "-R", self.of.place], capture_output=True, check=False)
            self.holder.communicate()  # its input ends
            self.holder = None

    def remove(self):
        self.image.unlink()
        self.image.with_suffix(self.image.suffix + "-boot").unlink(missing_ok=True)


class failing_disk:
    """xfs in a file on a tmpfs of its own. After `fill`, files cannot be written back, until `relieve`; xfs tries its own
    blocks again till they can be. What failed is in memory still, and clean: only after `again` does one see what is lost."""

    def __init__(self, place, size=320 << 20):
        self.tmpfs, self.place = place / "memory", place / "failing"
        self.image, self.filler = self.tmpfs / "image", self.tmpfs / "filler"
        for folder in (self.tmpfs, self.place):
            folder.mkdir()
        run("mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", self.tmpfs)
        self.image.touch()
        os.truncate(self.image, size)
        run("mkfs.xfs", "-q", "-K", self.image)
        fields = run("xfs_db", "-r", "-c", "sb 0", "-c", "print blocksize logstart logblocks agblocks agblklog", self.image)
        known = {key: int(value) for key, value in (line.split(" = ") for line in fields.splitlines())}
        group, block = divmod(known["logstart"], 1 << known["agblklog"])
        start = (group * known["agblocks"] + block) * known["blocksize"]
        run("fallocate", "-o", start, "-l", known["logblocks"] * known["blocksize"], self.image)  # the log has its memory
        self.mount()

    def mount(self):
        run("mount", "-o", "loop", self.image, self.place)

    def fill(self):
        with open(self.filler, "wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(1 << 16))
            except OSError as problem:
                if problem.errno != errno.ENOSPC:
                    raise

    def relieve(self):
        self.filler.unlink()

    def again(self):
        run("umount", self.place)
        self.mount()

    def remove(self):
        for place in (self.place, self.tmpfs):
            if os.path.ismount(place):
                run("umount", "-R", "-l", place)
            place.rmdir()


# --- no sync does anything

SYNC_CALLS = {"x86_64": (0xC000003E, (74, 75, 162, 306, 277, 26)), "aarch64": (0xC00000B7, (82, 83, 81, 267, 84, 227))}


def without_sync():
    """For preexec_fn: fsync, fdatasync, sync, syncfs, sync_file_range and msync succeed and do nothing."""
    if platform.machine() not in SYNC_CALLS:
        raise NotImplementedError("the numbers of the sync calls are not known for this machine")
    arch, numbers = SYNC_CALLS[platform.machine()]
    load, equal, back = 0x20, 0x15, 0x06
    allow, pretend = 0x7FFF0000, 0x00050000  # SECCOMP_RET_ALLOW, SECCOMP_RET_ERRNO with no error
    code = [(load, 0, 0, 4), (equal, 0, len(numbers) + 1, arch), (load, 0, 0, 0)]
    code += [(equal, len(numbers) - i, 0, number) for i, number in enumerate(numbers)]
    code += [(back, 0, 0, allow), (back, 0, 0, pretend)]
    program = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *one) for one in code))
    header = ctypes.create_string_buffer(struct.pack("@HP", len(code), ctypes.addressof(program)))
    no_new_privileges, set_seccomp, filter_mode = 38, 22, 2
    if LIBC.prctl(no_new_privileges, 1, 0, 0, 0) != 0 or LIBC.prctl(set_seccomp, filter_mode, header, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "seccomp")
