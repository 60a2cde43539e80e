"""Measures pulling from a registry: Debian's docker-registry on loopback, plain and TLS, filled by skopeo. As in `compare`, each
round starts every tool once, one after the other.

    compare pull [--parts PART,...] [--images DIR] [--rounds N] [--only IMAGE,...] [--tools "TOOL;..."] [--out DIR] [--om FILE]

Parts, each with a table at its end:

    images    every tool pulls one image
    sixteen   sixteen images that share layers, at once or one after the other, and how many GETs of blobs the registry answered
    cpu       processor time of om, pulling over loopback against importing the same image from the disk
    link      through a link of 100 Mbit/s and 50 ms: until the root is mounted, against the bare download of the blobs

Writes pull.json and pull.md to --out. See README.md."""
import argparse
import contextlib
import json
import os
import pathlib
import re
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

from measuring import (HERE, Image, Run, Skip, Tool, build, choose, forget_blobs, markdown, medians, place_for, podman_command,
                       served, start_containerd, timed, versions)

sys.path.insert(0, str(HERE.parent / "tests/registry"))
from debian_registry import debian_registry  # noqa: E402
from fault_proxy import fault_proxy  # noqa: E402

CONNECTIONS = 6  # of curl, as many as om has for a host


def name_of(image, tag):
    return f"{image.name}-{image.how}:{tag}"


class Pull(Run):
    """A tool that pulls from run.registry. `host` is another address of it, such as a proxy's."""

    def __init__(self, options, image, scratch, registry, host=None):
        super().__init__(options, image, scratch)
        self.registry, self.host = registry, host or registry.host

    def names(self):
        return [f"{self.host}/{name_of(self.image, tag)}" for tag in self.image.tags]

    def trusts(self, *, plain=(), folder=None, file=None):
        """Words for a tool: `plain` for plain HTTP; `folder` and `file` go before where the authority is."""
        if not self.registry.tls:
            return list(plain)
        return [folder, self.registry.authority.folder] if folder else [file, self.registry.authority.certificate]


# --- The tools. Each is a function that pulls run.image; what it needs beforehand is done before the first `yield`. -------------

def om_command(run, durability=None):
    durability = durability or ("batch" if run.options.place == "disk" else "none")
    return [run.options.om, "--repo", run.path("repo"), "--durability", durability, "--quiet", "image"]


def om_pull(run, *names, durability=None):
    return [*om_command(run, durability), "pull", *run.trusts(folder="--cert-dir"), *names]


def overmount(run):
    yield
    run.wait(*[run.start(om_pull(run, name), stdout=subprocess.DEVNULL) for name in run.names()])


def overmount_together(run):
    yield
    run.do(*om_pull(run, *run.names()), stdout=subprocess.DEVNULL)


def again(run):
    """The image is up to date."""
    for _ in overmount(run):
        pass
    run.cpu = run.peak = run.written = 0
    yield
    run.wait(*[run.start(om_pull(run, name), stdout=subprocess.DEVNULL) for name in run.names()])


def skopeo_command(run, number, name):
    return ["skopeo", "copy", "-q", *run.trusts(plain=["--src-tls-verify=false"], folder="--src-cert-dir"), f"docker://{name}",
            f"containers-storage:[overlay@{run.path('root')}+{run.path('run')}]localhost/bench{number}:latest"]


def skopeo(run):
    forget_blobs()
    yield
    run.wait(*[run.start(skopeo_command(run, number, name)) for number, name in enumerate(run.names())])


def skopeo_in_turn(run):
    forget_blobs()
    yield
    for number, name in enumerate(run.names()):
        run.do(*skopeo_command(run, number, name))


def podman_pull(run, names):
    return [*podman_command(run), "pull", "-q", *run.trusts(plain=["--tls-verify=false"], folder="--cert-dir"), *names]


def podman(run):
    forget_blobs()
    yield
    run.wait(*[run.start(podman_pull(run, [name])) for name in run.names()])


def podman_in_turn(run):
    forget_blobs()
    yield
    run.do(*podman_pull(run, run.names()))


def buildah(run):
    forget_blobs()
    yield
    run.do("buildah", "--root", run.path("root"), "--runroot", run.path("run"), "--storage-driver", "overlay", "pull", "-q",
           *run.trusts(plain=["--tls-verify=false"], folder="--cert-dir"), *run.names())


def ctr_pull(run, client, name):
    # Without --max-concurrent-downloads, all layers are fetched at the same time; it unpacks them one after the other.
    words = ["--plain-http"]
    if run.registry.tls:  # on loopback, it believes in TLS only if a file says so
        host = pathlib.Path(run.path("hosts")) / run.host
        host.mkdir(parents=True, exist_ok=True)
        (host / "hosts.toml").write_text(f'server = "https://{run.host}"\n[host."https://{run.host}"]\n'
                                         f'capabilities = ["pull", "resolve"]\nca = "{run.registry.authority.certificate}"\n')
        words = ["--hosts-dir", host.parent]
    return [*client, "images", "pull", *words, "--snapshotter", "overlayfs", name]


def ctr(run):
    daemon, client = start_containerd(run)
    yield from served(run, daemon, [*client, "version"],
                      lambda: run.wait(*[run.start(ctr_pull(run, client, name)) for name in run.names()]))


def ctr_in_turn(run):
    daemon, client = start_containerd(run)
    yield from served(run, daemon, [*client, "version"],
                      lambda: [run.do(*ctr_pull(run, client, name)) for name in run.names()])


def skopeo_dir(run):
    forget_blobs()
    yield
    for number, name in enumerate(run.names()):
        run.do("skopeo", "copy", "-q", *run.trusts(plain=["--src-tls-verify=false"], folder="--src-cert-dir"),
               f"docker://{name}", f"dir:{run.path(f'dir{number}')}")


def curl_command(run):
    """All blobs into files, each once."""
    scheme = "https" if run.registry.tls else "http"
    repository = name_of(run.image, "").removesuffix(":")
    lines = [f'url = "{scheme}://{run.host}/v2/{repository}/blobs/sha256:{blob.name}"\noutput = "{run.path(blob.name)}"\n'
             for blob in dict.fromkeys([*run.image.configs, *run.image.blobs])]
    pathlib.Path(run.path("curlrc")).write_text("".join(lines), encoding="ascii")
    return ["curl", "-sSf", "--http1.1", "--noproxy", "*", "-Z", "--parallel-immediate", "--parallel-max", CONNECTIONS,
            *run.trusts(file="--cacert"), "-K", run.path("curlrc")]


def download(run):
    command = curl_command(run)
    yield
    run.do(*command)


# What is mounted once it has been pulled, for the part `link`.

def overmount_mounted(run, durability, trace=()):
    yield
    run.do(*trace, *om_pull(run, run.names()[0], durability=durability), stdout=subprocess.DEVNULL)
    run.pulled = time.monotonic()
    run.do(*om_command(run, durability), "mount", run.names()[0], stdout=subprocess.DEVNULL)


def overmount_none_mounted(run):
    yield from overmount_mounted(run, "none")


def overmount_batch_mounted(run):
    yield from overmount_mounted(run, "batch")


def overmount_batch_traced(run):
    """With the times of its syncs."""
    calls = run.scratch.parent / "syncs"
    yield from overmount_mounted(run, "batch", ["strace", "-f", "-qq", "--seccomp-bpf", "-ttt", "-T", "-o", calls,
                                                "-e", "trace=fsync,fdatasync,syncfs,sync_file_range"])
    run.syncs = syncs_of(calls.read_text(encoding="ascii"))
    calls.unlink()


def podman_mounted(run):
    yield from podman(run)
    run.pulled = time.monotonic()
    run.do(*podman_command(run), "image", "mount", run.names()[0])


def ctr_mounted(run):
    daemon, client = start_containerd(run)
    os.mkdir(run.path("mounted"))

    def work():
        run.do(*ctr_pull(run, client, run.names()[0]))
        run.pulled = time.monotonic()
        run.do(*client, "images", "mount", "--snapshotter", "overlayfs", run.names()[0], run.path("mounted"))

    yield from served(run, daemon, [*client, "version"], work)


BOTH = ("gzip", "zstd")
TOOLS = {
    "overmount": Tool(overmount, None, BOTH, True, "checks blobs and diff IDs; syncs nothing on tmpfs, all on the disk (batch)"),
    "skopeo": Tool(skopeo, "skopeo", BOTH, True, "checks blobs and diff IDs; syncs its data base only"),
    "podman pull": Tool(podman, "podman", BOTH, True, "the same"),
    "buildah pull": Tool(buildah, "buildah", BOTH, True, "the same"),
    "ctr images pull": Tool(ctr, "containerd", BOTH, True, "checks blobs and diff IDs; syncs blobs and its data base"),
    "skopeo, dir": Tool(skopeo_dir, "skopeo", BOTH, False, "a download; checks blobs; unpacks and syncs nothing"),
    "curl": Tool(download, "curl", BOTH, False, f"the bare download of the blobs, {CONNECTIONS} at a time; checks and syncs nothing"),
    "again": Tool(again, None, BOTH, False, "overmount, where the image is up to date: one HEAD"),
}
MANY = {
    "overmount": Tool(overmount, None, BOTH, True, "sixteen processes at once"),
    "overmount, together": Tool(overmount_together, None, BOTH, True, "one process that gets sixteen names"),
    "skopeo, at once": Tool(skopeo, "skopeo", BOTH, True, "sixteen processes into one storage"),
    "skopeo, in turn": Tool(skopeo_in_turn, "skopeo", BOTH, True, "one after the other"),
    "podman pull, at once": Tool(podman, "podman", BOTH, True, "sixteen processes into one storage"),
    "podman pull, in turn": Tool(podman_in_turn, "podman", BOTH, True, "one process that gets sixteen names"),
    "ctr images pull, at once": Tool(ctr, "containerd", BOTH, True, "sixteen clients of one containerd"),
    "ctr images pull, in turn": Tool(ctr_in_turn, "containerd", BOTH, True, "one client after the other"),
    "curl": Tool(download, "curl", BOTH, False, "the bare download of the blobs, each once"),
}
MOUNTED = {
    "curl": Tool(download, "curl", BOTH, False, "the bare download of the blobs"),
    "overmount, none": Tool(overmount_none_mounted, None, BOTH, True, ""),
    "overmount, batch": Tool(overmount_batch_mounted, None, BOTH, True, ""),
    "overmount, batch, traced": Tool(overmount_batch_traced, "strace", BOTH, True, "by strace, to time its syncs"),
    "podman pull": Tool(podman_mounted, "podman", BOTH, True, ""),
    "ctr images pull": Tool(ctr_mounted, "containerd", BOTH, True, ""),
}


# --- The parts. -------------------------------------------------------------------------------------------------------------------

def wanted(options, tools):
    names = [name.strip() for name in options.tools.split(";")] if options.tools else list(tools)
    for name in names:
        if name not in {**TOOLS, **MANY, **MOUNTED}:
            raise SystemExit(f"unknown tool {name}; there are: {', '.join({**TOOLS, **MANY, **MOUNTED})}")
    return choose(tools, ";".join(name for name in names if name in tools)) if set(names) & set(tools) else []


def rounds(options, tools, measure, title):
    """What `measure` tells of each tool in each round; a tool that fails is left out from then on."""
    runs, left = {}, list(tools)
    for _ in range(options.rounds):
        for tool in list(left):
            try:
                runs.setdefault(tool, []).append(measure(tool))
            except Skip as why:
                print(f"SKIPPED: {tool} on {title}: {why}", flush=True)
                left.remove(tool)
                runs.pop(tool, None)
    return runs


def table(title, columns, rows):
    return "\n".join([f"{title}:\n", "| | " + " | ".join(columns) + " |", "|---|" + "---|" * len(columns),
                      *(f"| {name} | " + " | ".join(cells) + " |" for name, cells in rows), ""])


def seconds_and_more(tools, runs):
    out = {tool: medians(found) for tool, found in runs.items()}
    for one in out.values():
        one["overmount"] = one["seconds"] / out["overmount"]["seconds"] if "overmount" in out else None
    peers = [(one["seconds"], tool) for tool, one in out.items() if tools[tool].checks and not tool.startswith("overmount")]
    if peers and "overmount" in out:
        print(f"  {min(peers)[1]}, the fastest peer that checks digests, takes {min(peers)[0] / out['overmount']['seconds']:.2f} "
              "times overmount's time", flush=True)
    return out


def progress(title, runs):
    print(f"\n{title}")
    for tool, found in sorted(runs.items(), key=lambda item: medians(item[1])["seconds"]):
        one = medians(found)
        print(f"  {tool:26}{one['seconds']:9.3f} s, CPU {one['cpu']:6.2f}, peak {one['peak'] / 1e6:7.1f} MB", flush=True)


def same_image(options, registry, image, inside):
    """A pull gives what an import gives: an ID stands for all digests."""
    ids = set()
    for kind in ("pull", "import"):
        run = Pull(options, image, inside / "same", registry)
        what = om_pull(run, run.names()[0]) if kind == "pull" else [*om_command(run), "import", f"oci:{image.layout}"]
        ids.add(subprocess.run(what, check=True, stdout=subprocess.PIPE).stdout)
        shutil.rmtree(run.scratch)
    if len(ids) != 1:
        raise SystemExit(f"{image.name}: what overmount pulls is not what it imports: {ids}")


def images_part(options, results):
    chosen = wanted(options, TOOLS)
    for kind, registry, how, inside in circumstances(options):
        for tool in chosen:  # so that each program is in memory
            with contextlib.suppress(Skip):
                run = Pull(options, Image(options.images, "small", how), inside / "run", registry)
                timed(run, TOOLS[tool].run(run))
        for name in options.only.split(","):
            image = Image(options.images, name, how)
            same_image(options, registry, image, inside)
            title = f"{name}, {how}, {kind}, {options.place}"

            def measure(tool, image=image, registry=registry, inside=inside):
                run = Pull(options, image, inside / "run", registry)
                return timed(run, TOOLS[tool].run(run))

            runs = rounds(options, chosen, measure, title)
            progress(title, runs)
            results["images"][title] = seconds_and_more(TOOLS, runs)
            save(options, results)


def images_text(found):
    return "\n".join(markdown(TOOLS, found))


def sixteen_part(options, results):
    chosen = wanted(options, MANY)
    for kind, registry, how, inside in circumstances(options):
        image = Image(options.images, "shared", how)
        blobs = len({*image.blobs, *image.configs})
        title = f"sixteen images that share layers, {blobs} blobs, {how}, {kind}, {options.place}"

        def measure(tool, image=image, registry=registry, inside=inside):
            before = registry.blob_gets()
            run = Pull(options, image, inside / "run", registry)
            out = timed(run, MANY[tool].run(run))
            gets = registry.blob_gets() - before
            return {**out, "gets": sum(gets.values()), "most": max(gets.values())}

        runs = rounds(options, chosen, measure, title)
        progress(title, runs)
        results["sixteen"][title] = seconds_and_more(MANY, runs)
        save(options, results)


def sixteen_text(found):
    columns = ["seconds", "CPU s", "peak MB", "times overmount", "GETs of blobs", "most of one blob"]
    return "\n".join(table(title, columns, [
        (tool, [f"{one['seconds']:.3f}", f"{one['cpu']:.2f}", f"{one['peak'] / 1e6:.1f}", f"{one['overmount'] or 0:.2f}",
                f"{one['gets']:.0f}", f"{one['most']:.0f}"]) for tool, one in tools.items()]) for title, tools in found.items())


def cpu_part(options, results):
    """Import, plain and TLS in turn; the ratios are of one round each."""
    options.place = "tmpfs"
    with place_for(options) as inside:
        for how in options.compressions.split(","):
            for name in options.heavy.split(","):
                image = Image(options.images, name, how)

                def measure(tool, image=image, inside=inside):
                    run = Pull(options, image, inside / "run", options.registries["plain" if tool == "import" else tool])

                    def imports():
                        yield
                        run.do(*om_command(run), "import", f"oci:{image.layout}", stdout=subprocess.DEVNULL)

                    return timed(run, imports() if tool == "import" else overmount(run))

                for tool in ("import", *options.registries):
                    measure(tool)
                runs = rounds(options, ["import", *options.registries], measure, f"{name}, {how}")
                out = {}
                for tool, all_of_it in runs.items():
                    ratios = sorted(one["cpu"] / base["cpu"] for one, base in zip(all_of_it, runs["import"]))
                    out[tool] = {**medians(all_of_it), "ratio": statistics.median(ratios), "least": ratios[0], "most": ratios[-1]}
                results["cpu"][f"{name}, {how}, tmpfs, none"] = out
                save(options, results)


def cpu_text(found):
    columns = ["seconds", "CPU s", "CPU to the import's, median", "least", "most", "bound", "peak MB"]
    names = {"import": "import from oci:", "plain": "pull, plain", "TLS": "pull, TLS"}
    bounds = {"plain": "1.12", "TLS": "1.25"}  # for big
    return "\n".join(table(title, columns, [
        (names[tool], [f"{one['seconds']:.3f}", f"{one['cpu']:.3f}", f"{one['ratio']:.3f}", f"{one['least']:.3f}",
                       f"{one['most']:.3f}", bounds.get(tool, "") if title.startswith("big,") else "",
                       f"{one['peak'] / 1e6:.1f}"]) for tool, one in tools.items()])
        for title, tools in found.items())


def syncs_of(text):
    """[(begin, end)] of calls in the output of strace -ttt -T, by time.monotonic()."""
    offset, found = time.time() - time.monotonic(), []
    for line in text.split("\n"):
        if seen := re.match(r"\d+\s+(\d+\.\d+) (<\.\.\. )?\w+.*<(\d+\.\d+)>$", line):
            at, took = float(seen[1]) - offset, float(seen[3])
            found.append((at - took, at) if seen[2] else (at, at + took))
    return found


def covered(spans, begin):
    """How long after `begin` at least one of the spans lasts."""
    out = 0.0
    for low, high in sorted(spans):
        out += max(0.0, high - max(low, begin))
        begin = max(begin, high)
    return out


def link_part(options, results):
    chosen = list(dict.fromkeys(["curl", *wanted(options, MOUNTED)]))
    registry = options.registries["plain"]
    with place_for(options) as inside:
        for how in options.compressions.split(","):
            for name in options.slowed.split(","):
                image = Image(options.images, name, how)

                def measure(tool, image=image, inside=inside):
                    with fault_proxy(registry.port, rate=options.rate / 8, latency=options.latency) as proxy:
                        run = Pull(options, image, inside / "run", registry, f"127.0.0.1:{proxy.port}")
                        run.syncs, run.pulled, before = [], None, resource.getrusage(resource.RUSAGE_SELF)

                        def steps():
                            yield from MOUNTED[tool].run(run)
                            run.end = time.monotonic()

                        out = timed(run, steps())
                        after, last = resource.getrusage(resource.RUSAGE_SELF), proxy.line.last_byte
                        sent = sum(one.sent for one in proxy.log)
                        out["proxy"] = (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) / out["seconds"]
                        return {**out, "rate": sent * 8 / out["seconds"], "after": run.end - last,
                                "mounting": run.end - (run.pulled or run.end), "syncing": covered(run.syncs, last)}

                title = f"{name}, {how}, {options.rate / 1e6:.0f} Mbit/s, {options.latency * 1e3:.0f} ms, {options.place}"
                runs = rounds(options, chosen, measure, title)
                progress(title, runs)
                out = {}
                for tool, all_of_it in runs.items():
                    more = [one["seconds"] - base["seconds"] for one, base in zip(all_of_it, runs["curl"])]
                    out[tool] = {**medians(all_of_it), "more": statistics.median(more)}
                results["link"][title] = out
                save(options, results)


def link_text(found):
    columns = ["seconds until mounted", "more than curl", "after the last byte", "of it mounting", "of it syncing", "Mbit/s",
               "CPU s", "the proxy's CPU"]
    return "\n".join(table(title, columns, [
        (tool, [f"{one['seconds']:.3f}", f"{one['more']:.3f}", f"{one['after']:.3f}", f"{one['mounting']:.3f}",
                f"{one['syncing']:.3f}" if "traced" in tool else "", f"{one['rate'] / 1e6:.1f}", f"{one['cpu']:.2f}",
                f"{100 * one['proxy']:.0f} %"]) for tool, one in tools.items()]) for title, tools in found.items())


PARTS = {"images": (images_part, images_text), "sixteen": (sixteen_part, sixteen_text), "cpu": (cpu_part, cpu_text),
         "link": (link_part, link_text)}


def circumstances(options):
    for place in options.places.split(","):
        options.place = place
        with place_for(options) as inside:
            for how in options.compressions.split(","):
                for kind, registry in options.registries.items():
                    yield kind, registry, how, inside


def save(options, results):
    """After each scenario: a run of hours may be cut."""
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "pull.json").write_text(json.dumps({"versions": options.versions, **results}, indent=1) + "\n", encoding="utf-8")
    (options.out / "pull.md").write_text("\n".join(PARTS[part][1](found) for part, found in results.items() if found),
                                         encoding="utf-8")


@contextlib.contextmanager
def filled_registries(options, names):
    """A plain one and one with TLS, with the same blobs in memory."""
    with tempfile.TemporaryDirectory(prefix="overmount-bench-registry.", dir=options.tmpfs) as data, \
            debian_registry(data=data) as plain, debian_registry(tls=True, data=data) as tls:
        for how in options.compressions.split(","):
            for name in names:
                image = Image(options.images, name, how)
                for tag in image.tags:
                    plain.push(f"oci:{image.layout}:{tag}", name_of(image, tag))
        yield {"plain": plain, "TLS": tls}


def main(words):
    parser = argparse.ArgumentParser(prog="compare pull", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--images", type=pathlib.Path, default=pathlib.Path("/var/tmp/overmount-bench-images"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="small,manylayers,manyfiles,bigfile,big", help="of the part images")
    parser.add_argument("--heavy", default="big", help="the images of the part cpu")
    parser.add_argument("--slowed", default="small,manylayers,big", help="the images of the part link")
    parser.add_argument("--rate", type=float, default=100e6, help="of the link, bits a second")
    parser.add_argument("--latency", type=float, default=0.05, help="of the link, seconds a round trip")
    parser.add_argument("--compressions", default="gzip,zstd")
    parser.add_argument("--places", default="tmpfs,disk", help="the part cpu is on tmpfs, link on the last of these")
    parser.add_argument("--tmpfs", default="/dev/shm")
    parser.add_argument("--disk", default="/var/tmp")
    parser.add_argument("--tools", help="separated by ;: those of " + "; ".join({**TOOLS, **MANY, **MOUNTED}) + " that a part has")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("bench-results"))
    parser.add_argument("--om", type=pathlib.Path)
    options = parser.parse_args(words)
    if os.geteuid() != 0:
        raise SystemExit("compare needs root: owners are set and overlays are mounted")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that servers and mounts go
    build(options, "om")
    parts = [part for part in PARTS if part in options.parts.split(",")]
    needed = {"images": ["small", *options.only.split(",")], "sixteen": ["shared"], "cpu": options.heavy.split(","),
              "link": options.slowed.split(",")}
    names = list(dict.fromkeys(name for part in parts for name in needed[part]))
    subprocess.run([HERE / "images", options.images, *names], check=True)
    options.versions = versions(TOOLS, choose(TOOLS, ";".join(TOOLS)), options.om)
    results = {part: {} for part in parts}
    with filled_registries(options, names) as options.registries:
        for part in parts:
            options.place = options.places.split(",")[-1]
            PARTS[part][0](options, results)
            print("\n" + PARTS[part][1](results[part]), flush=True)
    return 0
