"""What compare and its part pull share: a tool that runs in a directory of its own, how long, and with how much memory."""
import contextlib
import json
import os
import pathlib
import platform
import shutil
import statistics
import subprocess
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent


class Skip(Exception):
    pass


class Run:
    """One tool on one image, in a directory of its own."""

    def __init__(self, options, image, scratch):
        self.options, self.image, self.scratch = options, image, scratch
        self.cpu = self.peak = self.written = 0
        self.logs = scratch.parent / (scratch.name + ".log")
        scratch.mkdir()

    def path(self, name):
        return str(self.scratch / name)

    def start(self, command, daemon=False, **more):
        # By way of time(1): a process that python starts has python's peak of memory as well.
        peak = [] if daemon else ["/usr/bin/time", "-q", "-f", "%M", "-o", f"{self.logs}.{time.monotonic_ns()}"]
        with open(self.logs, "ab") as log:
            started = subprocess.Popen([str(word) for word in [*peak, *command]], stderr=log,
                                       stdout=more.pop("stdout", log), **more)
        started.peak_file = None if daemon else pathlib.Path(peak[-1])
        return started

    def wait(self, *processes):
        """Their processor time, and the peak of each together with the others'."""
        peak, failure = 0, None
        for process in processes:
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            self.cpu += usage.ru_utime + usage.ru_stime
            self.written += usage.ru_oublock * 512
            text = process.peak_file.read_text(encoding="ascii").split()
            process.peak_file.unlink()
            peak += int(text[-1]) * 1024 if text else 0
            if process.returncode != 0:
                failure = Skip(f"exit status {process.returncode}: {self.logs.read_text(errors='replace').strip()[-200:]}")
        self.peak = max(self.peak, peak)
        if failure:  # once all have ended
            raise failure

    def do(self, *command, **more):
        self.wait(self.start(command, **more))


class Tool:
    """`program` is what has to be installed, and tells its version. `checks`: the digests; the fastest one with them is the
    peer to be faster than."""

    def __init__(self, run, program, compressions, checks, says):
        self.run, self.program, self.compressions, self.checks, self.says = run, program, compressions, checks, says


def forget_blobs():
    # The one thing that these tools remember outside of a store: which blob has which tar.
    pathlib.Path("/var/lib/containers/cache/blob-info-cache-v1.boltdb").unlink(missing_ok=True)


def podman_command(run):
    return ["podman", "--root", run.path("root"), "--runroot", run.path("run"), "--tmpdir", run.path("tmp"),
            "--storage-driver", "overlay", "--cgroup-manager", "cgroupfs", "--events-backend", "none"]


def waited(run, daemon, *question):
    for _ in range(200):
        if subprocess.run(question, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0:
            return
        if daemon.poll() is not None:
            break
        time.sleep(0.05)
    raise Skip(f"the daemon does not answer: {run.logs.read_text(errors='replace').strip()[-200:]}")


def served(run, daemon, question, work):
    """A daemon started before the clock; its processor time and memory count."""
    try:
        waited(run, daemon, *question)
        yield
        work()
        with open(f"/proc/{daemon.pid}/status", encoding="ascii") as status:
            run.peak += next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))
        with open(f"/proc/{daemon.pid}/io", encoding="ascii") as numbers:
            run.written += next(int(line.split()[1]) for line in numbers if line.startswith("write_bytes"))
        with open(f"/proc/{daemon.pid}/stat", encoding="ascii") as numbers:
            fields = numbers.read().rpartition(")")[2].split()
            run.cpu += sum(int(field) for field in fields[11:15]) / os.sysconf("SC_CLK_TCK")
    finally:
        daemon.terminate()
        daemon.wait()


def start_containerd(run):
    """The daemon, and the client's words to speak to it."""
    socket = run.path("c.sock")
    off = ["cri", "internal.v1.opt", "internal.v1.tracing", "tracing.processor.v1.otlp"]
    names = [name if name.startswith(("internal", "tracing")) else "grpc.v1." + name for name in off] + [
        "snapshotter.v1." + name for name in ("aufs", "btrfs", "devmapper", "zfs", "native")]
    config = "version = 2\nroot = '{}'\nstate = '{}'\ndisabled_plugins = {}\n[grpc]\naddress = '{}'\n[ttrpc]\naddress = '{}'\n"
    pathlib.Path(run.path("config")).write_text(config.format(
        run.path("root"), run.path("state"), json.dumps(["io.containerd." + name for name in names]), socket,
        run.path("ttrpc")))
    return run.start(["containerd", "-c", run.path("config")], daemon=True), ["ctr", "-a", socket]


class Image:
    def __init__(self, folder, name, how):
        self.name, self.how = name, how
        self.layout = folder / (name + (".zstd" if how == "zstd" else ""))
        self.archive = folder / f"{name}.docker.tar"
        self.tags, self.blobs, self.configs = [], [], []
        for found in json.loads((self.layout / "index.json").read_text())["manifests"]:
            self.tags.append(found["annotations"]["org.opencontainers.image.ref.name"])
            manifest = json.loads(self.blob(found).read_text())
            self.configs.append(self.blob(manifest["config"]))
            self.blobs += [self.blob(layer) for layer in manifest["layers"]]

    def blob(self, descriptor):
        return self.layout / "blobs/sha256" / descriptor["digest"].removeprefix("sha256:")


def kept(path):
    """Bytes that a directory takes."""
    done = subprocess.run(["du", "-s", "-B1", path], capture_output=True, text=True, check=False)
    return int(done.stdout.split()[0]) if done.stdout else 0


def timed(run, steps):
    """What the steps after the first `yield` took."""
    try:
        next(steps)
        os.sync()
        started = time.perf_counter()
        for _ in steps:
            pass
        elapsed = time.perf_counter() - started
        return {"seconds": elapsed, "cpu": run.cpu, "peak": run.peak, "written": run.written, "kept": kept(run.scratch)}
    finally:
        run.logs.unlink(missing_ok=True)
        # A store may hold mounts, the topmost last.
        with open("/proc/self/mounts", encoding="utf-8") as mounts:
            for target in reversed([line.split()[1] for line in mounts]):
                if target.startswith(str(run.scratch) + "/"):
                    subprocess.run(["umount", "-l", target], check=False)
        subprocess.run(["rm", "-rf", run.scratch], check=True)


def medians(runs):
    return {key: statistics.median(one[key] for one in runs) for key in runs[0]}


def disk(options):
    """A fresh ext4 in a file where that can be had; else a directory of the disk."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="overmount-bench.", dir=options.disk))
    image = folder / "image"
    with open(image, "wb") as file:
        file.truncate(12 << 30)
    (folder / "mnt").mkdir()
    made = subprocess.run(["mkfs.ext4", "-q", "-E", "lazy_itable_init=0,nodiscard", image], check=False, stderr=subprocess.DEVNULL)
    if made.returncode == 0 and subprocess.run(["mount", "-o", "loop,nodiscard", image, folder / "mnt"], check=False).returncode == 0:
        return folder, folder / "mnt"
    image.unlink()
    print("no loop device: a directory of the disk is used as it is", flush=True)
    return folder, folder / "mnt"


@contextlib.contextmanager
def place_for(options):
    """A directory on options.place. Everything that a tool puts into a temporary directory is there as well."""
    if options.place == "disk":
        folder, inside = disk(options)
    else:
        folder = inside = pathlib.Path(tempfile.mkdtemp(prefix="overmount-bench.", dir=options.tmpfs))
    temporary = inside / "tmp"
    temporary.mkdir()
    os.environ["TMPDIR"] = str(temporary)
    try:
        yield inside
    finally:
        if folder != inside:
            subprocess.run(["umount", "-l", inside], check=False, stderr=subprocess.DEVNULL)
        shutil.rmtree(folder, ignore_errors=True)


def build(options, *wanted):
    """om and, if wanted, floor, where the options do not name them."""
    folder = HERE.parent / "build-bench"
    if any(getattr(options, name) is None for name in wanted):
        subprocess.run(["meson", "setup", folder, "--buildtype=release", "-Dtests=false", "-Dbench=true"],
                       check=not folder.exists(), stdout=subprocess.DEVNULL, cwd=HERE.parent)
        programs = {"om": "examples/om/om", "floor": "bench/floor"}
        subprocess.run(["ninja", "-C", folder, *(programs[name] for name in wanted)], check=True, stdout=subprocess.DEVNULL)
        for name in wanted:
            setattr(options, name, getattr(options, name) or folder / programs[name])


def choose(tools, wanted):
    """Those of `wanted` (separated by ;) that are installed."""
    chosen = []
    for tool in wanted.split(";"):
        if tool.strip() not in tools:
            raise SystemExit(f"unknown tool {tool}; there are: {', '.join(tools)}")
        program = tools[tool.strip()].program
        if program and not shutil.which(program):
            print(f"SKIPPED: {tool} is not installed")
        else:
            chosen.append(tool.strip())
    return chosen


def versions(tools, chosen, om):
    print(f"{platform.release()}, {os.cpu_count()} processors")
    found = {}
    for tool in chosen:
        program = tools[tool].program
        found[tool] = tools[tool].says
        if program or tool == "overmount":
            done = subprocess.run([program or om, "--version"], capture_output=True, text=True, check=False)
            found[tool] = (done.stdout + done.stderr).strip().splitlines()[0] + ": " + found[tool]
        print(f"  {tool}: {found[tool]}")
    return found


def markdown(tools, results):
    """Tables for a page. A title is an image, and under what circumstances: each of these has a table, each image a column."""
    for under in dict.fromkeys(title.partition(", ")[2] for title in results):
        images = {title.partition(", ")[0]: table for title, table in results.items() if title.partition(", ")[2] == under}
        yield f"{under}:\n\n| tool | " + " | ".join(images) + " |\n|---|" + "---|" * len(images)
        for tool in tools:
            cells = []
            for table in images.values():
                one = table.get(tool)
                cells.append(f"{one['seconds']:.3f} s, CPU {one['cpu']:.2f}, {one['peak'] / 1e6:.1f} MB" +
                             (f", ×{one['overmount']:.2f}" if one["overmount"] else "") if one else "")
            if any(cells):
                yield f"| {tool.replace(' | ', ' and ')} | " + " | ".join(cells) + " |"
        yield ""
