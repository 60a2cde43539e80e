#!/usr/bin/env python3
"""Runs every numbered example on images made here, and checks its exit status and what it prints.

    examples.py PROGRAM...

Exit status 77: cannot run here."""
import contextlib
import hashlib
import json
import os
import pathlib
import platform
import shutil
import signal
import socketserver
import subprocess
import sys
import tempfile
import threading
import time

sys.path[:0] = [str(pathlib.Path(__file__).resolve().parent.parent / folder) for folder in ("registry", "support")]
from debian_registry import debian_registry  # noqa: E402
from fault_proxy import fault, fault_proxy  # noqa: E402
from layouts import write_layout  # noqa: E402
from made_images import CHANGES, base_layer, directory, file, noise, symlink, tar_of  # noqa: E402
from running import mounts_below, own_mounts  # noqa: E402
from scripted_registry import made_image  # noqa: E402

PROGRAMS = {pathlib.Path(p).name: pathlib.Path(p).resolve() for p in sys.argv[1:]}


def ran(name, *words):
    return subprocess.run([PROGRAMS[name], *words], capture_output=True, text=True, timeout=200)


def run(name, *words, status=0):
    done = ran(name, *words)
    if done.returncode != status or (status == 0 and done.stderr):
        raise SystemExit(f"{name}: status {done.returncode}, {done.stdout!r}, {done.stderr!r}")
    print(name, *words, *done.stdout.splitlines(), sep="\n    ")
    return done.stdout if status == 0 else done.stderr


def expect(name, got, wanted):
    if got != wanted:
        raise SystemExit(f"{name}: printed {got!r}, not {wanted!r}")


def packed(*options):
    return subprocess.run(["tar", "--format=ustar", "--mtime=@1700000000", "--numeric-owner", "--sort=name", "-cf", "-",
                           *options], check=True,
                          stdout=subprocess.PIPE).stdout


def archive(scratch, name, *layers):
    """A docker archive as `docker save` wrote it; each layer is the files of a directory. Returns the archive, the
    image's ID, and diff ID and size of each layer."""
    folder = scratch / name
    members, diffs = [], []
    for number, files in enumerate(layers):
        tree = folder / f"tree{number}"
        for path, text in files.items():
            (tree / path).parent.mkdir(parents=True, exist_ok=True)
            (tree / path).write_text(text)
        tar = packed("-C", tree, ".")
        members.append(f"layer{number}.tar")
        (folder / members[-1]).write_bytes(tar)
        diffs.append(("sha256:" + hashlib.sha256(tar).hexdigest(), len(tar)))
    architecture = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    config = json.dumps({"architecture": architecture, "os": "linux", "config": {},
                         "rootfs": {"type": "layers", "diff_ids": [diff for diff, _ in diffs]}}).encode()
    identity = hashlib.sha256(config).hexdigest()
    (folder / f"{identity}.json").write_bytes(config)
    (folder / "manifest.json").write_text(json.dumps(
        [{"Config": f"{identity}.json", "RepoTags": [f"test/{name}:1"], "Layers": members}]))
    (scratch / f"{name}.tar").write_bytes(packed("-C", folder, f"{identity}.json", *members, "manifest.json"))
    return scratch / f"{name}.tar", "sha256:" + identity, diffs


class layout_server(socketserver.ThreadingTCPServer):
    """`OFFSET PATH\\n` gives a file of a layout from there on. The first connection for each layer breaks in the middle."""
    allow_reuse_address = daemon_threads = True

    def __init__(self, layout, stalls=0):
        self.layout, self.asked, self.lock, self.stalls = layout, [], threading.Lock(), stalls
        super().__init__(("127.0.0.1", 0), self.answer)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    class answer(socketserver.StreamRequestHandler):
        def handle(self):
            offset, path = self.rfile.readline().decode().split()
            content = (self.server.layout / path).read_bytes()[int(offset):]
            with self.server.lock:
                first = path.startswith("blobs/") and content[:1] != b"{" and path not in dict(self.server.asked)
                self.server.asked.append((path, int(offset)))
            self.wfile.write(content[:len(content) // 2])
            if first and self.server.stalls:
                time.sleep(self.server.stalls)
            if not first or self.server.stalls:
                self.wfile.write(content[len(content) // 2:])


def missing(*programs):
    lacking = [program for program in programs if shutil.which(program) is None]
    return f"{', '.join(lacking)} not installed" if lacking else None


def wait_for(name, condition):
    until = time.monotonic() + 60
    while not condition():
        if time.monotonic() > until:
            raise SystemExit(f"{name}: what the test waits for does not happen")
        time.sleep(0.02)


def show(name, done):
    print(name, f"status {done.returncode}", *done.stdout.splitlines(), *done.stderr.splitlines(), sep="\n    ")


def table(name, done, status):
    """{image: (bytes, seconds, result)} of 09_pull_service's table."""
    show(name, done)
    expect(name, (done.returncode, done.stderr), (status, ""))
    lines = done.stdout.splitlines()
    expect(name, lines[0].split(), ["IMAGE", "BYTES", "SECONDS", "MB/S", "RESULT"])
    rows = [line.split(None, 4) for line in lines[1:]]
    return {image: (int(count), float(seconds), result) for image, count, seconds, _, result in rows}


def main(scratch):
    if os.geteuid() == 0:
        with contextlib.suppress(SystemExit):  # then others may hold a mount of ours, or we may not mount at all
            own_mounts()
    base = {"etc/name": "base\n", "etc/kept": "kept\n"}
    one, first, diffs = archive(scratch, "one", base, {"etc/name": "one\n"})
    two, second, _ = archive(scratch, "two", base, {"etc/name": "two\n"})
    repository = scratch / "repository"

    def import_and_list():
        name = "01_import_and_list"
        expect(name, run(name, repository, one), f"imported {first}\ndocker.io/test/one:1 is {first}\n")
        expect(name, run(name, repository, two).splitlines()[0], f"imported {second}")

    def mount_and_read():
        name = "02_mount_and_read"
        try:
            expect(name, run(name, repository, "test/one:1", "etc/name"), "one\n")
        except SystemExit as refused:
            if "not permitted" in str(refused):
                return "this process may not mount"
            raise
        expect(name, run(name, repository, second, "etc/kept"), "kept\n")
        expect(name, "has no etc/gone" in run(name, repository, "test/one:1", "etc/gone", status=1), True)
        expect(name, list((repository / "mounts").iterdir()), [])
        return None

    def two_imports():
        name = "03_two_imports"
        lines = sorted(run(name, scratch / "both", one, two).splitlines())
        expect(name, [line for line in lines if "has read" not in line], [f"{one}: 1 image", f"{two}: 1 image"])
        expect(name, sum("has read" in line for line in lines), 3)
        expect(name, len(list((scratch / "both/diffs/sha256").iterdir())), 3)

    def own_storage():
        name = "04_own_storage"
        # ./ and etc/ beside the files
        wanted = [f"{diff}: {entries} entries, {size} bytes\n" for (diff, size), entries in zip(diffs, (4, 3))]
        expect(name, run(name, scratch / "own", one), "".join(reversed(wanted)))
        for number, (diff, _) in enumerate(diffs):
            kept = (scratch / "own/diffs" / diff / "layer.tar").read_bytes()
            expect(name, kept == (scratch / f"one/layer{number}.tar").read_bytes(), True)

    def read_without_unpacking():
        name = "05_read_without_unpacking"
        printed = run(name, scratch / "tars", one, "etc/name").splitlines()
        expect(name, [line.split()[-1] for line in printed], ["one", ".", "etc", "etc/kept", "etc/name"])
        upper, lower = printed[1].split()[0], printed[3].split()[0]
        expect(name, [line.split()[0] for line in printed[1:]] + [lower == upper], [upper, upper, lower, upper, False])
        expect(name, run(name, scratch / "tars", two, "./etc/kept").splitlines()[0], "kept")
        expect(name, "no such entry" in run(name, scratch / "tars", one, "etc/gone", status=1), True)
        expect(name, "not a regular file" in run(name, scratch / "tars", one, "etc", status=1), True)
        kept = sorted(p.name for p in (scratch / "tars/diffs").glob("*/*/*"))
        expect(name, kept, 3 * ["diff.json"] + 3 * ["index"] + 3 * ["layer.tar"])

    def build_an_image():
        name = "06_build_an_image"
        try:
            printed = run(name, repository, "test/one:1", "test/made:1", scratch / "made")
        except SystemExit as refused:
            if "not permitted" in str(refused):
                return "this process may not mount"
            raise
        identity = printed.split(": ")[0]
        expect(name, printed, f"{identity}: 3 layers\n")
        expect(name, run("02_mount_and_read", repository, "test/made:1", "srv/www/index.html"), "<p>Hello.</p>\n")
        config = json.loads((scratch / "made/blobs" / identity.replace(":", "/")).read_text())
        expect(name, config["config"]["WorkingDir"], "/srv/www")
        expect(name, config["history"][-1]["comment"], "a page to serve")
        return None

    def own_importer():
        name = "07_own_importer"
        layout = scratch / "layout"
        subprocess.run(["skopeo", "copy", "-q", f"docker-archive:{one}", f"oci:{layout}:latest"], check=True)
        with layout_server(layout) as server:
            # Another ID: the config is skopeo's. Its layers are the same.
            printed = run(name, scratch / "served", str(server.server_address[1]))
            server.shutdown()
        expect(name, printed.startswith("imported sha256:") and len(printed.splitlines()) == 1, True)
        kept = sorted(p.name for p in (scratch / "served/diffs/sha256").iterdir())
        expect(name, kept, sorted(diff.removeprefix("sha256:") for diff, _ in diffs))
        resumed = [offset for _, offset in server.asked if offset]
        expect(name, len(resumed), len(diffs))
        # A source that stalls for longer than others wait for one that stands still loses neither claim nor layer.
        with layout_server(layout, stalls=float(os.environ.get("OVERMOUNT_STALL", "22"))) as server:
            words = [PROGRAMS[name], scratch / "stalled", str(server.server_address[1])]
            both = [subprocess.Popen(words, stdout=subprocess.PIPE, text=True) for _ in range(2)]
            expect(name, [one.communicate()[0] for one in both], [printed, printed])
            server.shutdown()
        layers = [path for path, _ in server.asked if (layout / path).read_bytes()[:1] != b"{"]
        expect(name, sorted(layers), sorted(set(layers)))
        expect(name, run("02_mount_and_read", scratch / "served", printed.split()[1], "etc/name"), "one\n")

    def tokens():
        name = "08_tokens"
        lines = run(name, scratch / "tokens", one, two).splitlines()
        expect(name, lines, [f"imported {first} and {second}", "3 layers, 0 findings"])

    def pull_service():
        name = "09_pull_service"
        if lacking := missing("docker-registry", "skopeo"):
            return lacking
        small = made_image([base_layer(files=4, size=3000), CHANGES])
        large, slow, stalled = (made_image([tar_of([file("noise", noise(word, 2 << 20))])], compress=False)
                                for word in ("large", "slow", "stalled"))
        images = {"small:1": small, "large:1": large, "slow:1": slow, "stalled:1": stalled}
        with debian_registry() as registry, fault_proxy(registry.port, rate=500000) as slowing, \
                fault_proxy(registry.port, [fault("stall", at=300000, times=sys.maxsize)]) as stalling:
            for at, image in images.items():
                registry.push(f"oci:{write_layout(scratch / 'pushed' / at[:-2], image, '1')}:1", at)
            behind = f"127.0.0.1:{stalling.port}/stalled:1"
            late = f"127.0.0.1:{slowing.port}/slow:1"
            here = {f"{registry.host}/{at}": images[at] for at in ("small:1", "large:1")}
            words = [*here, late, f"{registry.host}/gone:1"]
            rows = table(name, ran(name, "--plain-http", scratch / "pulled", *words, "--limit", "2", behind), 1)
            expect(name, list(rows), [*words, behind])
            for at, image in (*here.items(), (late, slow)):
                expect(name, (at, rows[at][0], rows[at][2]), (at, sum(map(len, image.layers)), image.id))
            expect(name, (rows[words[3]][0], "the registry does not have it" in rows[words[3]][2]), (0, True))
            expect(name, "(the time limit of 2 s was reached)" in rows[behind][2], True)
            # Its line takes four seconds: it was under way when the time limit of the other one passed.
            expect(name, rows[late][1] > 2, True)

            # Layers that are there are not fetched again.
            layers = [digest for image in here.values() for digest in image.layer_digests]
            rows = table(name, ran(name, "--plain-http", scratch / "pulled", *here), 0)
            expect(name, [(count, result) for count, _, result in rows.values()], [(0, image.id) for image in here.values()])
            expect(name, [registry.blob_gets()[digest] for digest in layers], [1] * len(layers))

            # An option holds for the images after it.
            for proxy in (slowing, stalling):
                proxy.log.clear()
            table(name, ran(name, scratch / "pulled", f"127.0.0.1:{slowing.port}/small:1", "--plain-http",
                            f"127.0.0.1:{stalling.port}/small:1"), 0)
            expect(name, [any(entry.method == "TLS" for entry in proxy.log) for proxy in (slowing, stalling)], [True, False])

            stalling.log.clear()
            before = sorted((scratch / "pulled").rglob("*"))
            with subprocess.Popen([PROGRAMS[name], "--plain-http", scratch / "pulled", f"{registry.host}/small:1", behind],
                                  stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as service:
                wait_for(name, lambda: any(entry.fault and entry.fault.startswith("stall after") for entry in stalling.log))
                service.send_signal(signal.SIGTERM)
                out, err = service.communicate(timeout=60)
            rows = table(name, subprocess.CompletedProcess([], service.returncode, out, err), 1)
            expect(name, rows[behind][2].endswith("Operation canceled"), True)
            expect(name, sorted((scratch / "pulled").rglob("*")), before)
        return None

    def run_from_registry():
        name = "10_run_from_registry"
        if lacking := missing("docker-registry", "skopeo", "busybox"):
            return lacking
        shell = tar_of([directory("bin"), directory("srv"), file("bin/busybox", pathlib.Path(shutil.which("busybox")).read_bytes(), 0o755),
                        *(symlink(f"bin/{word}", "busybox") for word in ("cat", "echo", "ls", "sh", "sleep"))])
        speaks = made_image([shell], runs={"Entrypoint": ["echo", "spoken", "by"], "Cmd": ["the", "image"],
                                           "Env": ["PATH=/bin", "WORD=given"], "WorkingDir": "/srv"})
        temporary, into = scratch / "temporary", scratch / "run"
        temporary.mkdir()
        with debian_registry() as registry:
            registry.push(f"oci:{write_layout(scratch / 'pushed/speaks', speaks, '1')}:1", "speaks:1")
            registry.push(f"oci:{write_layout(scratch / 'pushed/silent', made_image([CHANGES]), '1')}:1", "silent:1")
            image = f"{registry.host}/speaks:1"

            def outcome(*words):
                os.environ["TMPDIR"] = str(temporary)
                done = ran(name, "--plain-http", into, *words)
                del os.environ["TMPDIR"]
                show(name, done)
                if "not permitted" in done.stderr:
                    raise PermissionError
                left = [*temporary.iterdir(), *(into / "mounts").iterdir(), *mounts_below(scratch)]
                expect(f"{name} leaves", left, [])
                return done.returncode, done.stdout, done.stderr

            try:
                expect(name, outcome(image), (0, "spoken by the image\n", ""))
            except PermissionError:
                return "this process may not mount"
            script = "echo $WORD; pwd; echo new >/new; cat /new; exit 3"
            expect(name, outcome(image, "sh", "-c", script), (3, "given\n/srv\nnew\n", ""))
            expect(name, outcome(image, "ls", "/"), (0, "bin\nsrv\n", ""))
            expect(name, outcome(image, "sh", "-c", "kill -9 $$"), (128 + signal.SIGKILL, "", ""))
            expect(name, outcome(image, "absent"), (127, "", "absent: No such file or directory\n"))
            expect(name, outcome(f"{registry.host}/silent:1"), (1, "", "the image has no command of its own: name one\n"))
            status, _, problem = outcome(f"{registry.host}/gone:1")
            expect(name, (status, "the registry does not have it" in problem), (1, True))
            expect(name, sum(registry.blob_gets()[digest] for digest in speaks.layer_digests), 1)

            # SIGTERM ends the command, and what is mounted is unmounted all the same.
            with subprocess.Popen([PROGRAMS[name], "--plain-http", into, image, "sh", "-c", "echo begun; exec sleep 100"],
                                  stdout=subprocess.PIPE, text=True) as running:
                expect(name, running.stdout.readline(), "begun\n")
                running.send_signal(signal.SIGTERM)
                expect(name, running.wait(60), 128 + signal.SIGTERM)
            expect(name, list((into / "mounts").iterdir()), [])
        return None

    tests = {"01_import_and_list": import_and_list, "02_mount_and_read": mount_and_read,
             "03_two_imports": two_imports, "04_own_storage": own_storage,
             "05_read_without_unpacking": read_without_unpacking, "06_build_an_image": build_an_image,
             "07_own_importer": own_importer, "08_tokens": tokens, "09_pull_service": pull_service,
             "10_run_from_registry": run_from_registry}
    if tests.keys() != PROGRAMS.keys():
        raise SystemExit(f"examples without a test, or the other way round: {tests.keys() ^ PROGRAMS.keys()}")
    skipped = []
    for name, test in tests.items():
        nothing = [scratch / "nothing"] * (run(name, status=2).count(" ") - 1)  # as many words as it wants
        run(name, *nothing, status=1)
        skipped += filter(None, [test()])
    if skipped:
        print("SKIPPED:", *skipped)
        return 77
    return 0


with tempfile.TemporaryDirectory(prefix="overmount-examples.") as name:
    sys.exit(main(pathlib.Path(name)))
