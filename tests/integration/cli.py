#!/usr/bin/env python3
"""Uses om as people do, and compares what it mounts with what others make of the same images.

    cli.py OM images     every image of $OVERMOUNT_IMAGES, in each of its file forms, against its .truth listing
    cli.py OM umoci      a layout made here with GNU tar, and images of $OVERMOUNT_IMAGES, unpacked by umoci and
                         mounted by om
    cli.py OM forms      an image in each form that skopeo writes, read in place and from a pipe
    cli.py OM export     images exported in each form and compression, given to skopeo, umoci, podman and om itself
    cli.py OM kill       om image import killed at random moments, twenty times, then done
    cli.py OM bad        bad input: one line, exit status 1, nothing left
    cli.py OM crun       a container of crun on a mounted root
    cli.py OM layer      om layer create from files, pipes and standard input
    cli.py OM virtual    layers kept as tars: listed, read and exported without unpacking, against GNU tar and tarfile
    cli.py OM virtual-all  the same of each layer of each image of $OVERMOUNT_IMAGES
    cli.py OM round-trips  each image of $OVERMOUNT_IMAGES in, and out again by every form, as other tools see it
    cli.py OM streams    each image of $OVERMOUNT_IMAGES from a pipe, in each form and compressed as a whole: the same image
                         as from its file, in less than 64 MiB of memory
    cli.py OM check      om check of a whole and of a damaged repository, on either storage
    cli.py OM repair     layers damaged in every way, found, refused and mended; also below a mount, and killed at it
    cli.py OM keep       images imported with their blobs kept go out as they came, as skopeo sees them
    cli.py OM create     images made of configs and layers; edited configs
    cli.py OM gc         om gc, usage, layer remove and image remove --unused: alone, beside imports, and killed
    cli.py OM gc-speed   om gc of many layers against rm -r, and how long imports beside it wait for the lock
    cli.py OM files      files of an image listed and read without mounting it, against its mount and its flattened tar
    cli.py OM merged     changes, flattened tars and squashed images against mounts of the same images
    cli.py OM mounts     mounts that others take away, hold and hide: administrators, processes, mount namespaces; on a
                         kernel with unique mount IDs, and on one that refuses them
    cli.py OM limits     images of 1,200 layers with 256 descriptors, 500 mounted with 64; archives made to take memory or time
    cli.py OM owner      a repository of another user
    cli.py OM two        several processes in one repository; opening one of 10,000 layers

Exit status 77: cannot run here."""
import ctypes
import datetime
import errno
import fcntl
import functools
import gzip
import hashlib
import io
import json
import os
import pathlib
import random
import re
import resource
import secrets
import shlex
import shutil
import signal
import socket
import stat
import struct
import subprocess
import sys
import tarfile
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
from listing import compare, image_id_of, listing, truth_of  # noqa: E402

OM = str(pathlib.Path(sys.argv[1]).resolve())
# A path that is a reference as well, since podman makes one of it: `_`, which mkdtemp likes, is not allowed everywhere.
SCRATCH = pathlib.Path(tempfile.gettempdir(), f"overmount-cli-{secrets.token_hex(8)}")
SCRATCH.mkdir(mode=0o700)
REPO = SCRATCH / "repository"


def skip(why):
    print("SKIPPED:", why)
    raise SystemExit(77)


def need(*programs):
    for program in programs:
        if shutil.which(program) is None:
            skip(f"{program} is not installed")


def om(*words, check=True):
    done = subprocess.run([OM, "--repo", REPO, *words], capture_output=True, text=True)
    if check and done.returncode != 0:
        raise SystemExit(f"om {' '.join(map(str, words))}: {done.stderr}")
    return done if not check else done.stdout.strip()


def left_behind():
    found = [str(p) for part in ("tmp", "claims", "leases") for p in (REPO / part).iterdir()] if REPO.exists() else []
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as mounts:
        found += [line for line in mounts if str(REPO) in line]
    return found


def images():
    folder = os.environ.get("OVERMOUNT_IMAGES")
    if not folder:
        skip("OVERMOUNT_IMAGES is not set")
    count = 0
    for truth in sorted(pathlib.Path(folder).glob("*.truth")):
        base = str(truth)[: -len(".truth")]
        wanted = truth_of(truth)
        config = image_id_of(base)
        for source in (f"docker-archive:{base}.docker.tar", f"oci-archive:{base}.oci.tar", f"oci:{base}",
                       f"oci:{base}.zstd"):
            if not os.path.exists(source.split(":", 1)[1]):
                continue
            shutil.rmtree(REPO, ignore_errors=True)
            identity = om("image", "import", source)
            if identity != config:
                raise SystemExit(f"{source}: the image ID is {identity}, the config's digest {config}")
            target = om("image", "mount", identity)
            try:
                compare(source, wanted, listing(target, False))
            finally:
                om("image", "unmount", identity)
            if left_behind():
                raise SystemExit(f"{source}: left behind: {left_behind()}")
            count += 1
    if count == 0:
        raise SystemExit("no image was found")


def blob(layout, data):
    name = hashlib.sha256(data).hexdigest()
    (layout / "blobs/sha256" / name).write_bytes(data)
    return {"digest": f"sha256:{name}", "size": len(data)}


def make_layout(layout, layers):
    """`layers`: (tar, compressed bytes, ending of the media type)."""
    (layout / "blobs/sha256").mkdir(parents=True)
    (layout / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    config = json.dumps({"architecture": "amd64", "os": "linux", "config": {"Cmd": ["/bin/sh"]}, "rootfs": {
        "type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(tar).hexdigest() for tar, _, _ in layers]}}).encode()
    manifest = json.dumps({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", **blob(layout, config)},
        "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar" + ending, **blob(layout, packed)}
                   for _, packed, ending in layers]}).encode()
    (layout / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [{
        "mediaType": "application/vnd.oci.image.manifest.v1+json", **blob(layout, manifest),
        "annotations": {"org.opencontainers.image.ref.name": "latest"}}]}))


def packed(tree, *options):
    tar = subprocess.run(["tar", "-C", tree, "--sort=name", "--numeric-owner", *options, "-cf", "-", "."],
                         check=True, stdout=subprocess.PIPE).stdout
    return tar, subprocess.run(["gzip", "-n"], input=tar, check=True, stdout=subprocess.PIPE).stdout, "+gzip"


def make_tree():
    """Three layers in GNU tar's formats: a base, a change with deletions, and a file with attributes."""
    first, second, third = (SCRATCH / f"layer{i}" for i in (1, 2, 3))
    for folder in ("bin", "etc", "opt/old", "srv/data", "tmp"):
        (first / folder).mkdir(parents=True)
    for name, text in (("etc/kept", "kept"), ("etc/gone", "gone"), ("opt/old/file", "old"), ("srv/data/one", "1")):
        (first / name).write_text(text)
    busybox = shutil.which("busybox")
    shutil.copy(busybox, first / "bin/busybox")
    os.chmod(first / "bin/busybox", 0o4755)
    for name in ("sh", "cat", "id", "ls", "true"):
        os.symlink("busybox", first / "bin" / name)
    os.link(first / "etc/kept", first / "srv/hard")
    os.chmod(first / "tmp", 0o1777)
    for folder in ("etc", "opt/old", "srv"):
        (second / folder).mkdir(parents=True)
    (second / "etc/.wh.gone").write_text("")
    (second / "opt/old/.wh..wh..opq").write_text("")
    (second / "opt/old/new").write_text("new")
    (third / "srv").mkdir(parents=True)
    (third / "srv/owned").write_text("x" * 100000)
    os.chown(third / "srv/owned", 1234, 5678)
    os.utime(third / "srv/owned", ns=(-1500000000, -1500000000))
    os.setxattr(third / "srv/owned", "user.note", b"a\0b")
    return [packed(first, "--format=gnu"), packed(second, "--format=ustar"),
            packed(third, "--format=posix", "--xattrs", "--xattrs-include=*")]


def umoci():
    need("umoci", "busybox", "gzip")
    layout = SCRATCH / "layout"
    make_layout(layout, make_tree())
    folder = os.environ.get("OVERMOUNT_IMAGES", "")
    others = [pathlib.Path(folder, name) for name in ("small", "manylayers")] if folder else []
    for number, image in enumerate([layout, *others]):
        if not image.exists():
            raise SystemExit(f"there is no {image}")
        bundle = SCRATCH / f"bundle{number}"
        subprocess.run(["umoci", "unpack", "--image", f"{image}:latest", bundle], check=True, capture_output=True)
        identity = om("image", "import", f"oci:{image}:latest", "--tag", "test/umoci")
        target = om("image", "mount", "test/umoci")
        os.sync()  # what is not written yet has no blocks
        try:
            compare(f"umoci unpack of {image.name}", listing(bundle / "rootfs", True), listing(target, True))
        finally:
            om("image", "unmount", identity)


def forms():
    """One image in each form that skopeo writes, read in place and as a stream: the same tree, skopeo's config digest."""
    need("skopeo", "bsdtar", "busybox", "gzip", "zstd")
    layers, extra = make_tree(), SCRATCH / "extra"
    extra.mkdir()
    (extra / "by-bsdtar").write_text("b")
    tar = subprocess.run(["bsdtar", "-C", extra, "--format=pax", "-cf", "-", "."], check=True,
                         stdout=subprocess.PIPE).stdout
    layers.append((tar, subprocess.run(["gzip", "-n"], input=tar, check=True, stdout=subprocess.PIPE).stdout, "+gzip"))
    layout, wanted = SCRATCH / "layout", None
    make_layout(layout, layers)
    for number, (form, *options) in enumerate((("docker-archive:{}:test/forms:1",), ("oci-archive:{}:1",), ("oci:{}:1",),
                                               ("oci:{}:1", "--dest-compress-format", "zstd"))):
        path = SCRATCH / f"form{number}"
        copy = form.format(path)
        subprocess.run(["skopeo", "copy", "-q", *options, f"oci:{layout}:latest", copy], check=True)
        config = subprocess.run(["skopeo", "inspect", "--config", "--raw", copy], check=True,
                                stdout=subprocess.PIPE).stdout
        ways = [("in place", lambda: om("image", "import", copy))]
        if path.is_file():
            for name, filter in (("as a stream", "cat"), ("as a gzip stream", "gzip -c"), ("as a zstd stream", "zstd -qc")):
                ways.append((name, lambda filter=filter: subprocess.run(
                    f"{filter} < '{path}' | '{OM}' --repo '{REPO}' image import -", shell=True, check=True,
                    capture_output=True, text=True).stdout.strip()))
        for way, run in ways:
            shutil.rmtree(REPO, ignore_errors=True)
            identity = run()
            if identity != "sha256:" + hashlib.sha256(config).hexdigest():
                raise SystemExit(f"{copy} {way}: the image ID is {identity}, skopeo's config has another digest")
            target = om("image", "mount", identity)
            try:
                tree = listing(target, True)
            finally:
                om("image", "unmount", identity)
            wanted = wanted or tree
            compare(f"{form.split(':')[0]} {' '.join(options)} {way}", wanted, tree)
            if left_behind():
                raise SystemExit(f"{copy} {way}: left behind: {left_behind()}")


def check_export(target, config, diffs, tree):
    """What others make of an exported image: the same config, the same diffs, the same tree."""
    digest = "sha256:" + hashlib.sha256(config).hexdigest()
    seen = subprocess.run(["skopeo", "inspect", "--config", "--raw", target], check=True, stdout=subprocess.PIPE).stdout
    if seen != config:
        raise SystemExit(f"{target}: skopeo sees another config")
    copied = SCRATCH / "copied"
    shutil.rmtree(copied, ignore_errors=True)
    # Into docker's own form of directory: skopeo reads each blob and holds it against its digest and diff ID.
    subprocess.run(["skopeo", "copy", "-q", "--dest-decompress", target, f"dir:{copied}"], check=True)
    manifest = json.loads((copied / "manifest.json").read_text())
    if manifest["config"]["digest"] != digest or [layer["digest"] for layer in manifest["layers"]] != diffs:
        raise SystemExit(f"{target}: skopeo copied {manifest}")
    shutil.rmtree(copied)
    again = SCRATCH / "again"
    shutil.rmtree(again, ignore_errors=True)
    program = [OM, "--repo", again, "image"]
    identity = subprocess.run([*program, "import", target], check=True, capture_output=True, text=True).stdout.strip()
    if identity != digest:
        raise SystemExit(f"{target}: it comes back as {identity}, not {digest}")
    mounted = subprocess.run([*program, "mount", identity], check=True, capture_output=True, text=True).stdout.strip()
    try:
        compare(target.replace(str(SCRATCH), ""), tree, listing(mounted, True))
    finally:
        subprocess.run([*program, "unmount", identity], check=True)


def export():
    need("skopeo", "busybox", "gzip")
    layers = make_tree()
    layout = SCRATCH / "layout"
    make_layout(layout, [*layers, layers[1]])  # one layer twice
    diffs = ["sha256:" + hashlib.sha256(tar).hexdigest() for tar, _, _ in [*layers, layers[1]]]
    identity = om("image", "import", f"oci:{layout}", "--tag", "test/export:1")
    config = (layout / "blobs" / identity.replace(":", "/")).read_bytes()
    mounted = om("image", "mount", identity)
    tree = listing(mounted, True)
    om("image", "unmount", identity)
    out = SCRATCH / "out"
    out.mkdir()
    for compress in ("none", "gzip", "gzip:1", "zstd", "zstd:19"):
        for form in ("docker-archive:{}:test/other:2", "docker-archive:{}", "oci-archive:{}:latest", "oci:{}:latest"):
            target = form.format(out / "it")
            om("image", "export", identity, target, "--compress", compress)
            check_export(target, config, diffs, tree)
            if shutil.which("umoci") and form.startswith("oci:") and not compress.startswith("zstd"):
                bundle = SCRATCH / "bundle"
                shutil.rmtree(bundle, ignore_errors=True)
                subprocess.run(["umoci", "unpack", "--image", f"{out / 'it'}:latest", bundle], check=True,
                               capture_output=True)
                compare(f"umoci, {compress}", listing(bundle / "rootfs", True), tree)
            if compress in ("none", "gzip", "zstd"):
                podman_loads(out / "it", identity, ["docker.io/test/other:2"] if ":test" in form else
                             ["docker.io/test/export:1"] if form == "docker-archive:{}" else [])
            if [p.name for p in out.iterdir()] != ["it"] or left_behind():
                raise SystemExit(f"{target}: left behind: {list(out.iterdir())}, {left_behind()}")
            shutil.rmtree(out / "it") if (out / "it").is_dir() else (out / "it").unlink()

    # Two images in one archive, by podman and by om; a pipe, a redirected file and a named one are the same bytes.
    make_layout(SCRATCH / "more", [layers[0]])
    more = om("image", "import", f"oci:{SCRATCH}/more", "--tag", "test/more")
    om("image", "export", "test/export:1", "test/more", f"docker-archive:{out}/two")
    podman_loads(out / "two", identity, ["docker.io/test/export:1"])
    podman_loads(out / "two", more, ["docker.io/test/more:latest"])
    whole = (out / "two").read_bytes()
    if whole.count(layers[0][0]) != 1:
        raise SystemExit("a shared layer is not there exactly once")
    words = [OM, "--repo", REPO, "image", "export", "test/export:1", "test/more", "-"]
    piped = subprocess.run(words, check=True, stdout=subprocess.PIPE).stdout
    with open(out / "redirected", "wb") as file:
        subprocess.run(words, check=True, stdout=file)
    if piped != whole or (out / "redirected").read_bytes() != whole:
        raise SystemExit("standard output gets other bytes than a file")
    again = subprocess.run(f"'{OM}' --repo '{REPO}' image export {more} - --format oci-archive --compress gzip |"
                           f" '{OM}' --repo '{SCRATCH}/piped' image import -", shell=True, check=True,
                           stdout=subprocess.PIPE, text=True).stdout.strip()
    if again != more:
        raise SystemExit(f"from a pipe comes {again}")
    export_fails(out, words, identity)


def without_holes(lines):
    """Sparse files are committed as plain data, and a copy has its own holes anyway."""
    return {path: " ".join(line.split()[:-1]) + " -" if line.split()[1] == "f" else line for path, line in lines.items()}


def round_trips():
    """Each image of $OVERMOUNT_IMAGES in and out again: in each form that it is there in, out in three, as skopeo, umoci
    and podman see it; each layer's tar by cmp; and with blobs kept, each blob and manifest as it was."""
    need("skopeo", "umoci", "podman", "gzip", "zstd", "cmp")
    for layout in layouts_of(ALL_IMAGES):
        truth = layout.with_name(layout.name.removesuffix(".zstd") + ".truth")
        wanted = truth_of(truth)

        def blob_of(digest, layout=layout):
            return layout / "blobs" / digest.replace(":", "/")

        raw = blob_of(json.loads((layout / "index.json").read_text())["manifests"][0]["digest"]).read_bytes()
        manifest = json.loads(raw)
        identity = manifest["config"]["digest"]
        config = blob_of(identity).read_bytes()
        diffs = json.loads(config)["rootfs"]["diff_ids"]
        sources = [f"{kind}-archive:{layout}.{kind}.tar" for kind in ("docker", "oci")
                   if pathlib.Path(f"{layout}.{kind}.tar").exists()]
        for source in [*sources, f"oci:{layout}"]:
            shutil.rmtree(REPO, ignore_errors=True)
            if om("image", "import", "--keep-blobs", source) != identity:
                raise SystemExit(f"{source}: another image")

        # Blobs are kept: all goes out as it came.
        out = SCRATCH / "out"
        for form in ("oci:{}:latest", "oci-archive:{}:latest"):
            target = form.format(out)
            om("image", "export", identity, target)
            if subprocess.run(["skopeo", "inspect", "--raw", target], check=True, stdout=subprocess.PIPE).stdout != raw:
                raise SystemExit(f"{layout.name}: {form} has another manifest")
            copied = SCRATCH / "copied"
            subprocess.run(["skopeo", "copy", "-q", "--preserve-digests", target, f"dir:{copied}"], check=True)
            for blob in [manifest["config"], *manifest["layers"]]:
                subprocess.run(["cmp", blob_of(blob["digest"]), copied / blob["digest"].removeprefix("sha256:")], check=True)
            shutil.rmtree(copied)
            shutil.rmtree(out) if out.is_dir() else out.unlink()

        # Made anew from the trees.
        mounted = om("image", "mount", identity)
        tree = listing(mounted, True)
        om("image", "unmount", mounted)
        for form, compress in (("docker-archive:{}:test/out:1", "none"), ("oci-archive:{}:latest", "zstd"),
                               ("oci:{}:latest", "gzip")):
            target = form.format(out)
            om("image", "export", identity, target, "--compress", compress)
            check_export(target, config, diffs, tree)
            if form.startswith("docker") or "manyfiles" not in layout.name:  # podman takes minutes for each
                podman_loads(out, identity, [], wanted)
            if form.startswith("oci:"):
                bundle = SCRATCH / "bundle"
                subprocess.run(["umoci", "unpack", "--image", f"{out}:latest", bundle], check=True, capture_output=True)
                compare(f"{layout.name}: umoci", wanted, listing(bundle / "rootfs", False))
                shutil.rmtree(bundle)
            shutil.rmtree(out) if out.is_dir() else out.unlink()

        tools = {"gzip": "gzip -dc", "zstd": "zstd -dcq", "tar": "cat"}
        rows = json.loads(om("--json", "image", "list-layers", identity))
        for row, blob in zip(reversed(rows), manifest["layers"], strict=True):
            tool = tools[blob["mediaType"].rsplit("+")[-1].rsplit(".")[-1]]
            subprocess.run(["bash", "-c", f"set -o pipefail; {tool} {shlex.quote(str(blob_of(blob['digest'])))} | cmp - <("
                            f"{shlex.quote(OM)} --repo {shlex.quote(str(REPO))} layer export {row['chain_id']} -)"],
                           check=True)
        print(f"{layout.name}: {len(sources) + 1} forms in, 5 out; {len(rows)} tars are equal", flush=True)
        if left_behind():
            raise SystemExit(f"{layout.name}: left behind: {left_behind()}")


def umoci_agrees(what, layout, tree):
    """Whether `umoci unpack` of the layout makes the tree."""
    bundle = SCRATCH / "bundle"
    shutil.rmtree(bundle, ignore_errors=True)
    subprocess.run(["umoci", "unpack", "--image", f"{layout}:latest", bundle], check=True, capture_output=True)
    compare(f"umoci, {what}", without_holes(listing(bundle / "rootfs", True)), tree)
    shutil.rmtree(bundle)


def check_commit(what, mounted, base):
    """Commits a mount, and holds its tree of before against what the new image shows: mounted, after an export, and
    unpacked by umoci. Returns the image's ID; the mount is gone."""
    tree = without_holes(listing(mounted, True))
    identity = om("image", "commit", mounted, "--tag", "test/made", "--message", what)
    if without_holes(listing(mounted, True)) != tree:
        raise SystemExit(f"{what}: committing changed the tree")
    om("image", "unmount", mounted)
    again = om("image", "mount", identity)
    compare(what, tree, without_holes(listing(again, True)))
    om("image", "unmount", again)
    chains = [[row["chain_id"] for row in json.loads(om("--json", "image", "list-layers", name))]
              for name in (identity, base)]
    if chains[0][1:] != chains[1]:
        raise SystemExit(f"{what}: {chains[0]} does not go on {chains[1]}")
    step = json.loads(om("image", "inspect", "test/made"))["history"][-1]
    if step.get("comment") != what or step.get("empty_layer"):
        raise SystemExit(f"{what}: the history says {step}")
    out = SCRATCH / "committed"
    om("image", "export", identity, f"oci:{out}:latest", "--compress", "gzip")
    if shutil.which("skopeo"):
        copied = SCRATCH / "copied"
        subprocess.run(["skopeo", "copy", "-q", f"oci:{out}:latest", f"dir:{copied}"], check=True)
        shutil.rmtree(copied)
    if shutil.which("umoci"):
        umoci_agrees(what, out, tree)
    podman_loads(out, identity, [])
    shutil.rmtree(out)
    if left_behind():
        raise SystemExit(f"{what}: left behind: {left_behind()}")
    return identity


def commit():
    need("busybox", "gzip", "setcap", "setfacl")
    make_layout(SCRATCH / "layout", make_tree())
    base = om("image", "import", f"oci:{SCRATCH}/layout", "--tag", "test/base")

    def changed(change):
        mounted = om("image", "mount", "test/base", "--writable")
        change(pathlib.Path(mounted))
        return mounted

    def by_programs(top):
        def run(*words):
            subprocess.run(words, check=True, cwd=top)
        run("chroot", top, "/bin/sh", "-c", """
            set -e
            PATH=/bin
            busybox rm -r /opt/old /srv/data && busybox mkdir /opt/old && echo new >/opt/old/other
            busybox mv /etc /moved && busybox mkdir -p /etc/deep/er && echo x >/etc/deep/er/file
            busybox ln /srv/owned /srv/second && echo more >>/srv/owned
            busybox rm /tmp -r && echo file >/tmp
            busybox mkdir /two && busybox ln -s nowhere /two/link && busybox mkfifo /two/fifo
            busybox mknod /two/null c 1 3
            busybox chmod 700 /bin && busybox chown 5:6 /srv
            busybox touch -d '1969-12-31 23:59:58' /two/link /moved/kept
        """)
        run("setcap", "cap_net_raw=ep", "bin/busybox")
        run("setfacl", "-m", "u:7:rwx,d:g:8:r", "opt/old")
        os.setxattr(top / "two", "user.note", b"a\0b")
        with open(top / "sparse", "wb") as file:
            file.truncate(1 << 20)

    by_hand = check_commit("by programs", changed(by_programs), base)
    files = {row["path"]: row for row in json.loads(om("--json", "layer", "files", json.loads(
        om("--json", "image", "list-layers", by_hand))[0]["chain_id"]))}
    for name in (".wh.tmp", "etc/.wh..wh..opq", "opt/old/.wh..wh..opq", "srv/.wh.data", "./"):
        if (name in files) == (name == ".wh.tmp"):  # /tmp is a file now, which needs no whiteout
            raise SystemExit(f"{name}: {sorted(files)}")

    # Nothing is written: no layer, and the history says so.
    mounted = changed(lambda top: list(top.rglob("*")))
    same = om("image", "commit", mounted, "--tag", "test/same")
    config = json.loads(om("image", "inspect", same))
    if len(config["rootfs"]["diff_ids"]) != 3 or not config["history"][-1]["empty_layer"]:
        raise SystemExit(f"committing nothing gives {config}")
    om("image", "unmount", mounted)

    # The same changes with the same time are the same image.
    os.environ["SOURCE_DATE_EPOCH"] = "1000000000"
    made = set()
    for _ in range(2):
        mounted = changed(lambda top: [(top / name).write_text(name) for name in ("b", "a")])
        made.add(om("image", "commit", mounted))
        om("image", "unmount", mounted)
    os.environ["SOURCE_DATE_EPOCH"] = "yesterday"
    mounted = changed(lambda top: None)
    refused = om("image", "commit", mounted, check=False)
    del os.environ["SOURCE_DATE_EPOCH"]
    if len(made) != 1 or refused.returncode != 1 or "SOURCE_DATE_EPOCH" not in refused.stderr:
        raise SystemExit(f"SOURCE_DATE_EPOCH: {made}, {refused}")
    om("image", "unmount", mounted)

    # A mount that cannot be told of is none.
    with open("/dev/full", "w", encoding="ascii") as full:
        refused = subprocess.run([OM, "--repo", REPO, "image", "mount", "test/base"], stdout=full, stderr=subprocess.PIPE)
    if refused.returncode != 1 or not refused.stderr or left_behind() or list((REPO / "mounts").iterdir()):
        raise SystemExit(f"a mount to a full standard output: {refused}, {left_behind()}")

    mounted = om("image", "mount", "test/base")
    refused = om("image", "commit", mounted, check=False)
    if refused.returncode != 1 or "read-only" not in refused.stderr or len(refused.stderr.splitlines()) != 1:
        raise SystemExit(f"a read-only mount: {refused}")
    om("image", "unmount", mounted)
    refused = om("image", "commit", SCRATCH, check=False)
    if refused.returncode != 1 or left_behind():
        raise SystemExit(f"no mount: {refused}, {left_behind()}")


def dpkg():
    """Real packages, installed by the image's own dpkg."""
    image = pathlib.Path(os.environ.get("OVERMOUNT_IMAGES", "/nowhere"), "big")
    if not image.exists():
        skip("OVERMOUNT_IMAGES names no folder with the image big")
    need("apt-get", "chroot")
    fetched = SCRATCH / "fetched"
    fetched.mkdir(parents=True)
    # A program, a daemon with users and conffiles, one that diverts and links, documents.
    subprocess.run(["apt-get", "download", "-q", "hello", "dash", "tree", "cowsay", "bzip2"], check=True, cwd=fetched,
                   stdout=subprocess.DEVNULL)
    base = om("image", "import", f"oci:{image}", "--tag", "test/big")
    mounted = om("image", "mount", "test/big", "--writable")
    top = pathlib.Path(mounted)
    shutil.copytree(fetched, top / "fetched")
    subprocess.run(["chroot", top, "/bin/sh", "-e", "-c", """
        export PATH=/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive LC_ALL=C
        dpkg -i --force-depends --force-confnew /fetched/*.deb
        rm -r /fetched /usr/share/doc
        mkdir /usr/share/doc && echo all >/usr/share/doc/all
        dpkg -L hello >/installed
        dpkg --purge --force-depends --force-remove-essential bzip2
        mv /etc/apt /etc/apt-moved
    """], check=True, stdout=subprocess.DEVNULL)
    identity = check_commit("dpkg -i", mounted, base)
    mounted = om("image", "mount", identity)
    said = subprocess.run(["chroot", mounted, "/usr/bin/hello"], check=True, capture_output=True, text=True).stdout
    om("image", "unmount", mounted)
    if said != "Hello, world!\n":
        raise SystemExit(f"hello says {said!r}")


def podman_loads(path, identity, names, truth=None):
    if shutil.which("podman") is None:
        return
    store = SCRATCH / "podman"
    base = ["podman", "--root", store / "root", "--runroot", store / "run", "--storage-driver", "vfs"]
    try:
        done = subprocess.run([*base, "load", "-q", "-i", path], capture_output=True, text=True)
        if done.returncode != 0:
            raise SystemExit(f"podman load: {done.stderr}")
        loaded = {}
        for row in json.loads(subprocess.run([*base, "images", "--format", "json", "--no-trunc"], check=True,
                                             capture_output=True).stdout):
            loaded[row["Id"].removeprefix("sha256:")] = row.get("Names") or []
        hex_digits = identity.removeprefix("sha256:")
        if hex_digits not in loaded or not set(names) <= set(loaded[hex_digits]):
            raise SystemExit(f"podman load: {done.stdout.strip()}: {loaded}, wanted {hex_digits} {names}")
        if truth:
            mounted = subprocess.run([*base, "image", "mount", hex_digits], check=True, capture_output=True,
                                     text=True).stdout.strip()
            # podman gives files from before 1970 the time 0. A truth's -1 says that the time is nobody's.
            fields = {path: line.split(" ") for path, line in truth.items()}
            seen = {path: " ".join([*row[:6], "0" if int(row[6]) < -1 else row[6], *row[7:]])
                    for path, row in fields.items()}
            compare("podman", seen, listing(mounted, False))
            subprocess.run([*base, "image", "umount", hex_digits], check=True, stdout=subprocess.DEVNULL)
    finally:
        shutil.rmtree(store, ignore_errors=True)


def export_fails(out, to_stdout, identity):
    """One line, exit status 1, and nothing left: a closed pipe, a full disk, a terminal, bad words."""
    before = sorted(out.iterdir())

    def refused(name, done, word):
        problems = done.stderr if isinstance(done.stderr, str) else done.stderr.decode()
        if done.returncode != 1 or len(problems.splitlines()) != 1 or word not in problems:
            raise SystemExit(f"{name}: status {done.returncode}, {problems!r}")
        if sorted(out.iterdir()) != before or left_behind():
            raise SystemExit(f"{name}: left behind: {list(out.iterdir())}, {left_behind()}")
        print(f"{name}: {problems.strip()}")

    reading, writing = os.pipe()
    child = subprocess.Popen(to_stdout, stdout=writing, stderr=subprocess.PIPE, restore_signals=True)
    os.close(writing)
    os.read(reading, 1000)
    os.close(reading)
    child.stderr_text = child.communicate()[1]
    refused("a closed pipe", subprocess.CompletedProcess([], child.returncode, b"", child.stderr_text), "Broken pipe")
    master, slave = os.openpty()
    refused("a terminal", subprocess.run(to_stdout, stdout=slave, stderr=subprocess.PIPE), "terminal")
    os.close(master)
    os.close(slave)
    for name, words, word in (
            ("a directory that is not there", (identity, f"docker-archive:{out}/no/where"), "No such file"),
            ("a transport that is none", (identity, f"tar:{out}/x"), "destination"),
            ("a level that is none", (identity, f"oci:{out}/x", "--compress", "gzip:10"), "level"),
            ("an encoding that is none", (identity, f"oci:{out}/x", "--compress", "lzma"), "gzip"),
            ("a name that is none", (identity, f"docker-archive:{out}/x:UPPER"), "reference"),
            ("an image that is not there", ("nothing", f"oci:{out}/x"), "no such image")):
        refused(name, om("image", "export", *words, check=False), word)
    full = SCRATCH / "full"
    full.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", full], capture_output=True).returncode != 0:
        skip("this process may not mount")
    try:
        for compress in ("none", "gzip:1"):
            for form in ("docker-archive", "oci-archive", "oci"):
                done = om("image", "export", identity, f"{form}:{full}/it", "--compress", compress, check=False)
                refused(f"a full disk, {form}, {compress}", done, f"target: write: {full}/it: No space left")
                if list(full.iterdir()):
                    raise SystemExit(f"a full disk: left {list(full.iterdir())}")
    finally:
        subprocess.run(["umount", full], check=True)
    # A damaged file of a layer is named, with its path.
    victim = next(p for p in (REPO / "diffs").rglob("rootfs/bin/busybox"))
    with open(victim, "r+b") as file:
        file.seek(5000)
        file.write(b"spoilt")
    for form in ("docker-archive", "oci-archive", "oci"):
        refused(f"a damaged layer, {form}", om("image", "export", identity, f"{form}:{out}/it", check=False),
                "entry bin/busybox")


def kill():
    need("busybox", "gzip")
    rng = random.Random(seed := int(os.environ.get("SEED", time.time_ns() % 1000000)))
    print(f"SEED={seed}")
    big = SCRATCH / "many"
    for i in range(40):
        (big / f"d{i}").mkdir(parents=True)
        for k in range(50):
            (big / f"d{i}/f{k}").write_bytes(rng.randbytes(rng.randrange(20000)))
    layout = SCRATCH / "layout"
    make_layout(layout, [*make_tree(), packed(big)])
    started = time.monotonic()
    om("image", "import", f"oci:{layout}")
    whole = time.monotonic() - started
    tries = killed = 0
    while killed < 10 and tries < 60:
        tries += 1
        shutil.rmtree(REPO, ignore_errors=True)
        started = time.monotonic()
        child = subprocess.Popen([OM, "--repo", REPO, "image", "import", "--keep-blobs", f"oci:{layout}"],
                                 stdout=subprocess.DEVNULL)
        try:
            child.wait(rng.uniform(0, whole))
            whole = min(whole, time.monotonic() - started)  # the first one may have waited for the machine
        except subprocess.TimeoutExpired:
            child.send_signal(signal.SIGKILL)
            child.wait()
            killed += 1
        for identity in json.loads(om("--json", "image", "list")):
            om("image", "inspect", identity["id"])
        om("check")  # no layer and no blob is there by half
        identity = om("image", "import", "--keep-blobs", f"oci:{layout}")
        if left_behind() or len(list((REPO / "blobs/sha256").iterdir())) != 6:
            raise SystemExit(f"left behind: {left_behind()}")
    target = om("image", "mount", identity)
    try:
        if (pathlib.Path(target) / "etc/kept").read_text() != "kept":
            raise SystemExit("the mounted tree is not the image's")
    finally:
        om("image", "unmount", identity)
    print(f"{killed} of {tries} imports were killed before their end")
    if killed < 10:
        raise SystemExit(1)


def bad():
    need("busybox", "gzip")
    layers = make_tree()

    def attempt(name, spoil, word):
        layout = SCRATCH / name
        make_layout(layout, layers)
        spoil(layout)
        done = om("image", "import", f"oci:{layout}", check=False)
        lines = done.stderr.splitlines()
        if done.returncode != 1 or done.stdout or len(lines) != 1 or word not in lines[0]:
            raise SystemExit(f"{name}: status {done.returncode}, {done.stdout!r}, {done.stderr!r}")
        if om("image", "list") or om("layer", "list") or om("tag", "list") or left_behind():
            raise SystemExit(f"{name}: something is left: {left_behind()}")
        print(f"{name}: {lines[0]}")

    def largest(layout):
        return max((layout / "blobs/sha256").iterdir(), key=lambda p: p.stat().st_size)

    def cut(layout):
        file = largest(layout)
        os.truncate(file, file.stat().st_size // 2)

    def flip(layout):
        data = bytearray(largest(layout).read_bytes())
        data[len(data) // 2] ^= 0x55
        largest(layout).write_bytes(data)

    attempt("a truncated layer", cut, "size")
    attempt("a damaged layer", flip, "layer sha256:")
    attempt("a missing layer", lambda layout: largest(layout).unlink(), "does not contain")
    attempt("a broken index", lambda layout: (layout / "index.json").write_text("{"), "JSON")
    full = SCRATCH / "full"
    full.mkdir()
    layout = SCRATCH / "whole"
    make_layout(layout, layers)
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", full], capture_output=True).returncode != 0:
        skip("this process may not mount")
    try:
        done = subprocess.run([OM, "--repo", full / "r", "image", "import", f"oci:{layout}"], capture_output=True, text=True)
        if done.returncode != 1 or "No space left" not in done.stderr or len(done.stderr.splitlines()) != 1:
            raise SystemExit(f"a full disk: status {done.returncode}, {done.stderr!r}")
        if any((full / "r/tmp").iterdir()):
            raise SystemExit(f"a full disk: left {list((full / 'r/tmp').iterdir())}")
        print("a full disk:", done.stderr.strip())
    finally:
        subprocess.run(["umount", full], check=True)


def crun():
    need("crun", "busybox", "gzip")
    layout = SCRATCH / "layout"
    make_layout(layout, make_tree())
    identity = om("image", "import", f"oci:{layout}")
    bundle = SCRATCH / "bundle"
    (bundle / "rootfs").mkdir(parents=True)
    om("image", "mount", identity, "--writable", "--target", bundle / "rootfs")
    try:
        subprocess.run(["crun", "spec"], cwd=bundle, check=True, capture_output=True)
        config = json.loads((bundle / "config.json").read_text())
        config["process"].update({"terminal": False, "args": ["/bin/cat", "/etc/kept", "/opt/old/new"]})
        config["mounts"] = [m for m in config["mounts"] if m["destination"] != "/sys/fs/cgroup"]
        (bundle / "config.json").write_text(json.dumps(config))
        done = subprocess.run(["unshare", "-m", "sh", "-c", "umount -l /sys/fs/cgroup/unified 2>/dev/null; exec crun "
                               f"--cgroup-manager=disabled --root {SCRATCH}/crun run -b {bundle} overmount-{os.getpid()}"],
                              capture_output=True, text=True)
        if done.returncode != 0 and "cgroup" in done.stderr:
            skip(f"crun cannot run here: {done.stderr.strip()}")
        if done.stdout != "keptnew":
            raise SystemExit(f"crun: status {done.returncode}, {done.stdout!r}, {done.stderr!r}")
        print("crun ran a container on the mounted root")
    finally:
        om("image", "unmount", bundle / "rootfs")


def layer():
    need("busybox", "gzip", "zstd")
    tars = [tar for tar, _, _ in make_tree()]
    layout = SCRATCH / "layout"
    make_layout(layout, [(tar, tar, "") for tar in tars])
    identity = om("image", "import", f"oci:{layout}")
    wanted = [row["chain_id"] for row in reversed(json.loads(om("--json", "image", "list-layers", identity)))]
    target = om("image", "mount", identity)
    tree = listing(target, True)
    om("image", "unmount", identity)

    def create(how, tar, parent):
        """From a file, from standard input that is a file, and from a pipe in pieces."""
        words = [OM, "--repo", REPO, "layer", "create", *(["--parent", parent] if parent else [])]
        file = SCRATCH / "layer.tar"
        file.write_bytes(tar)
        if how == "file":
            done = subprocess.run([*words, file], capture_output=True)
        elif how == "redirected":
            done = subprocess.run([*words, "-"], stdin=file.open("rb"), capture_output=True)
        elif how == "fifo":
            done = subprocess.run(["bash", "-c", '"${@:2}" <(cat "$1")', "bash", file, *words], capture_output=True)
        else:
            done = subprocess.run([*words, "-"], input=tar, capture_output=True)
        if left_behind():
            raise SystemExit(f"layer create: left behind: {left_behind()}")
        return done

    pack = {"plain": lambda tar: tar,
            "gzip": lambda tar: subprocess.run(["gzip"], input=tar, check=True, stdout=subprocess.PIPE).stdout,
            "zstd": lambda tar: subprocess.run(["zstd", "-q"], input=tar, check=True, stdout=subprocess.PIPE).stdout}
    for how, form in (("file", "gzip"), ("redirected", "plain"), ("fifo", "plain"), ("pipe", "zstd"), ("pipe", "plain")):
        shutil.rmtree(REPO)
        parent = None
        for number, tar in enumerate(tars):
            done = create(how, pack[form](tar), parent)
            parent = done.stdout.decode().strip()
            if done.returncode != 0 or parent != wanted[number]:
                raise SystemExit(f"{how}, {form}: {done}, wanted {wanted[number]}")
        if sorted(wanted) != [row["chain_id"] for row in json.loads(om("--json", "layer", "list"))]:
            raise SystemExit(f"{how}, {form}: {om('layer', 'list')}")
        print(f"{how}, {form}: {parent}")
    # The image of the same layers finds them there, and is the same.
    before = sorted(p.stat().st_ino for p in (REPO / "diffs/sha256").iterdir())
    om("image", "import", f"oci:{layout}")
    if before != sorted(p.stat().st_ino for p in (REPO / "diffs/sha256").iterdir()):
        raise SystemExit("the import unpacked a layer again")
    target = om("image", "mount", identity)
    compare("the image of the created layers", tree, listing(target, True))
    om("image", "unmount", identity)

    once = create("file", tars[0], wanted[2])
    again = create("file", tars[0], wanted[2])
    if once.returncode or once.stdout != again.stdout or once.stdout.decode().strip() in wanted:
        raise SystemExit(f"the same diff on another parent: {once}, {again}")
    before = om("layer", "list")
    stranger = "sha256:" + "0" * 64
    for name, how, tar, parent, word in (("a cut tar", "pipe", tars[0][:5000], None, b"ends too early"),
                                         ("a cut gzip", "file", pack["gzip"](tars[0])[:-9], None, b"ends too early"),
                                         ("nothing", "pipe", b"", None, b"ends too early"),
                                         ("no tar", "pipe", b"x" * 5000, None, b"tar header"),
                                         ("an unknown parent", "pipe", tars[0], stranger, stranger.encode()),
                                         ("no parent's name", "file", tars[0], "top", b"digest")):
        done = create(how, tar, parent)
        if done.returncode != 1 or done.stdout or len(done.stderr.splitlines()) != 1 or word not in done.stderr:
            raise SystemExit(f"{name}: {done}")
        if om("layer", "list") != before:
            raise SystemExit(f"{name}: a layer was made")
        print(f"{name}: {done.stderr.decode().strip()}")
    missing = om("layer", "create", SCRATCH / "missing", check=False)
    if missing.returncode != 1 or "No such file" not in missing.stderr:
        raise SystemExit(f"a missing file: {missing}")
    # Interrupted while it waits for more: nothing is left by the next one.
    child = subprocess.Popen([OM, "--repo", REPO, "layer", "create", "-"], stdin=subprocess.PIPE)
    child.stdin.write(tars[0][:len(tars[0]) // 2])
    child.stdin.flush()
    child.kill()
    child.wait()
    (SCRATCH / "again.tar").write_bytes(tars[0])
    om("layer", "create", SCRATCH / "again.tar")  # it is there: what the dead one left is removed by who writes next
    if om("layer", "list") != before or left_behind():
        raise SystemExit(f"a killed one: left behind: {left_behind()}")


def lines_by_tar(tar):
    """What `tar tv` prints of each entry, in parts: mode, owner, size, time and name, links included."""
    done = subprocess.run(["tar", "--quoting-style=escape", "--numeric-owner", "--full-time", "-tvPf", tar],
                          capture_output=True, env={**os.environ, "LC_ALL": "C", "TZ": "UTC"})
    if done.returncode != 0:
        raise SystemExit(f"tar: {done.stderr!r}")
    out, width = [], 0
    for line in done.stdout.splitlines():
        mode, owner, size, moment, name = re.match(rb"(\S+) (\S+) +(\S+) (\S+ \S+) (.*)$", line).groups()
        width = max(width, len(moment))  # times are as wide as the widest so far
        name = name[width - len(moment):]
        seconds, nanoseconds = instant(moment.decode())
        # Before 1970 tar counts the fraction back from the second that it prints.
        if seconds < 0 and nanoseconds:
            seconds, nanoseconds = seconds - 1, 10**9 - nanoseconds
        out.append((mode.decode(), owner.decode(), size.decode(), (seconds, nanoseconds), unescaped(name)))
    return out


def lines_by_om(name, of="layer"):
    out = []
    for line in subprocess.run([OM, "--repo", REPO, of, "files", name], check=True, stdout=subprocess.PIPE).stdout.splitlines():
        mode, owner, size, moment, name = re.match(rb"(\S+) (\S+) +(\S+) (\S+)Z (.*)$", line).groups()
        out.append((mode.decode(), owner.decode(), size.decode(), instant(moment.decode()), unescaped(name)))
    return out


def instant(text):
    """Seconds and nanoseconds of a time in UTC."""
    whole, _, fraction = text.partition(".")
    moment = datetime.datetime.fromisoformat(whole).replace(tzinfo=datetime.timezone.utc)
    return (moment - datetime.datetime.fromtimestamp(0, datetime.timezone.utc)) // datetime.timedelta(seconds=1), int(
        fraction.ljust(9, "0"))


def unescaped(text):
    return text.decode("unicode_escape").encode("latin-1")


def digest_of(stream, size=None):
    """The digest and the length of what is left in a stream, or of `size` bytes of it."""
    state, length = hashlib.sha256(), 0
    while part := stream.read(1 << 20 if size is None else min(1 << 20, size - length)):
        state.update(part)
        length += len(part)
    return state.hexdigest(), length


def contents_by_tar(tar, members):
    """The digests of the contents of members, which come once each in the archive, as `tar x` reads them."""
    listed = SCRATCH / "names"
    listed.write_bytes(b"".join(os.fsencode(member.name) + b"\0" for member in members))
    with subprocess.Popen(["tar", "-xPOf", tar, "--no-wildcards", "--no-unquote", "--null", "-T", listed],
                          stdout=subprocess.PIPE) as child:
        out = {member.name: digest_of(child.stdout, member.size) for member in members}
        rest = digest_of(child.stdout)[1]
    if child.returncode != 0 or rest != 0:
        raise SystemExit(f"tar x: status {child.returncode}, {rest} bytes more")
    return out


def check_tar(chain, file, most):
    """A layer that om keeps, against its tar as GNU tar and tarfile read it. Of more than `most` files, that many are read."""
    om("layer", "export", chain, SCRATCH / "exported")
    if subprocess.run(["cmp", file, SCRATCH / "exported"]).returncode:
        raise SystemExit(f"{chain}: the exported tar is another one")
    with subprocess.Popen([OM, "--repo", REPO, "layer", "export", chain[:20], "-"], stdout=subprocess.PIPE) as child:
        if subprocess.run(["cmp", file, "-"], stdin=child.stdout).returncode or child.wait() != 0:
            raise SystemExit(f"{chain}: the tar on standard output is another one")
    wanted, got = lines_by_tar(file), lines_by_om(chain)
    for one, other in zip(wanted, got):
        if one != other:
            raise SystemExit(f"{chain}: tar tv: {one}\n  om layer files: {other}")
    rows = json.loads(om("--json", "layer", "files", chain))
    if not len(wanted) == len(got) == len(rows):
        raise SystemExit(f"{chain}: tar lists {len(wanted)} entries, om {len(got)} and {len(rows)}")

    def raw(row, key):
        return bytes.fromhex(row[key + "_hex"]) if key + "_hex" in row else row[key].encode()

    kinds = {tarfile.REGTYPE: "f", tarfile.AREGTYPE: "f", tarfile.GNUTYPE_SPARSE: "f", tarfile.CONTTYPE: "f",
             tarfile.LNKTYPE: "h", tarfile.SYMTYPE: "l", tarfile.CHRTYPE: "c", tarfile.BLKTYPE: "b",
             tarfile.DIRTYPE: "d", tarfile.FIFOTYPE: "p"}
    last, seen, files = {}, {}, 0
    with tarfile.open(file, errors="surrogateescape") as members:
        for row, member in zip(rows, members, strict=True):
            name = os.fsencode(member.name)
            wanted = (name.rstrip(b"/"), kinds[member.type], member.mode & 0o7777, member.uid, member.gid,
                      int(member.mtime // 1), os.fsencode(member.linkname) if member.type in (b"1", b"2") else None)
            moment = datetime.datetime.fromisoformat(row["mtime"][:19] + "+00:00")
            got = (raw(row, "path").rstrip(b"/"), row["type"], row["mode"], row["uid"], row["gid"],
                   int(moment.timestamp()), raw(row, "link_target") if "link_target" in row else None)
            if got != wanted or (row["type"] == "f" and row["size"] != member.size):
                raise SystemExit(f"{chain}: {got}, wanted {wanted}")
            kept = {key: value for key, value in member.pax_headers.items() if key.startswith("SCHILY.xattr.")}
            if {k: bytes.fromhex(v) for k, v in row.get("xattrs_hex", {}).items()} != {
                    k[len("SCHILY.xattr."):]: os.fsencode(v) for k, v in kept.items()}:
                raise SystemExit(f"{chain}: {name}: {row.get('xattrs_hex')}, wanted {kept}")
            last[name.strip(b"/")] = member
            seen[member.name] = seen.get(member.name, 0) + 1
        # Of each content: by the path as tar has it, the last entry of that name, links followed within the layer.
        chosen = [item for item in sorted(last.items()) if item[1].isreg() or item[1].islnk()]
        if len(chosen) > most:
            print(f"  of {chain[:20]}, {most} of {len(chosen)} files are read: random.Random(1).sample()", flush=True)
            chosen = random.Random(1).sample(chosen, most)
        by_tar = contents_by_tar(file, sorted(
            (member for _, member in chosen if member.isreg() and seen[member.name] == 1), key=lambda m: m.offset))
        for name, member in chosen:
            if b".wh." in name:
                refused = subprocess.run([OM, "--repo", REPO, "layer", "cat", chain, name], capture_output=True)
                if refused.returncode != 1 or b"no such entry" not in refused.stderr:
                    raise SystemExit(f"{chain}: {name}: {refused}")
                continue
            with subprocess.Popen([OM, "--repo", REPO, "layer", "cat", chain, name], stdout=subprocess.PIPE) as child:
                got = digest_of(child.stdout)
            wanted = digest_of(members.extractfile(member))
            if child.returncode or got != wanted:
                raise SystemExit(f"{chain}: {name}: status {child.returncode}, {got}, wanted {wanted}")
            if by_tar.get(member.name, got) != got:
                raise SystemExit(f"{chain}: {name}: tar reads it otherwise: {by_tar[member.name]}, not {got}")
            files += 1
    return len(rows), files


def check_tars(layout, most_layers, most_files, done):
    """An image in a virtual repository, each layer against its tar; those of `done` need only give their tar back."""
    shutil.rmtree(REPO, ignore_errors=True)
    identity = om("image", "import", f"oci:{layout}", "--tag", "test/virtual")
    manifest = json.loads((layout / "index.json").read_text())["manifests"][0]["digest"].replace(":", "/")
    blobs = json.loads((layout / "blobs" / manifest).read_text())["layers"]
    rows = json.loads(om("--json", "image", "list-layers", identity))
    pairs = list(zip(reversed(rows), blobs, strict=True))  # the topmost layer is listed first
    taken = pairs if len(pairs) <= most_layers else pairs[::-(-len(pairs) // most_layers)]
    original, entries, files, again = SCRATCH / "original.tar", 0, 0, 0
    for row, one in taken:
        packed_layer = layout / "blobs" / one["digest"].replace(":", "/")
        with packed_layer.open("rb", buffering=0) as packed_bytes, original.open("wb") as out:
            tool = {b"\x1f\x8b": ["gzip", "-dc"], b"\x28\xb5": ["zstd", "-dc"]}.get(packed_bytes.read(2), ["cat"])
            packed_bytes.seek(0)
            subprocess.run(tool, stdin=packed_bytes, check=True, stdout=out)
        with original.open("rb") as tar:
            if row["diff_id"] != "sha256:" + digest_of(tar)[0]:
                raise SystemExit(f"{layout}: the tar of {row['chain_id']} has another digest")
        if row["diff_id"] in done:
            om("layer", "export", row["chain_id"], SCRATCH / "exported")
            if subprocess.run(["cmp", original, SCRATCH / "exported"]).returncode:
                raise SystemExit(f"{row['chain_id']}: the exported tar is another one")
            again += 1
            continue
        done.add(row["diff_id"])
        more = check_tar(row["chain_id"], original, most_files)
        entries, files = entries + more[0], files + more[1]
    if list(REPO.glob("diffs/*/*/rootfs")) or left_behind():
        raise SystemExit(f"{layout}: unpacked, or left behind: {left_behind()}")
    print(f"{layout.name}: {len(taken)} of {len(rows)} layers, {entries} entries, {files} files are equal" + (
        f"; {again} layers that are the same as before give their tars back" if again else ""), flush=True)
    return len(taken) == len(rows)


ALL_IMAGES = ("small", "manylayers", "odd", "bigfile", "manyfiles", "big")


def layouts_of(names):
    """The layouts of images that mkimages.sh made. What it would make and has not is said."""
    folder = os.environ.get("OVERMOUNT_IMAGES", "")
    if not folder:
        skip("OVERMOUNT_IMAGES is not set")
    found = []
    for name in names:
        # Not zstd:chunked: skopeo 1.9 drops the padding of the tar there, so that it has not its diff ID, and om says so.
        there = [pathlib.Path(folder, name + ending) for ending in ("", ".zstd")]
        there = [layout for layout in there if (layout / "index.json").exists()]
        if not there:
            print(f"PARTIAL: there is no image {name} in {folder}", flush=True)
        found += there
    if not found:
        raise SystemExit(f"no image was found in {folder}")
    return found


def tars_of_all():
    """Every layer of every image, in minutes: as_tars() takes a part of them."""
    need("gzip", "zstd", "cmp")
    os.environ["OVERMOUNT_STORAGE"] = "virtual"
    done = set()
    for layout in layouts_of(ALL_IMAGES):
        check_tars(layout, 10**6, 200, done)
    print(f"{len(done)} different layers")


def import_measured(source, producer=None):
    """Imports into a new repository, from the standard output of a shell's command where there is one: the image ID, the
    chain IDs from the lowest layer on, and the peak of om's memory in KiB."""
    shutil.rmtree(REPO, ignore_errors=True)
    peak = SCRATCH / "peak"
    command = ["time", "-f", "%M", "-o", str(peak), OM, "--repo", str(REPO), "image", "import", source]
    if producer:
        command = ["bash", "-c", f"set -o pipefail; {producer} | {shlex.join(command)}"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{producer or source}: status {done.returncode}: {done.stderr}")
    identity = done.stdout.strip()
    rows = json.loads(om("--json", "image", "list-layers", identity))
    if left_behind():
        raise SystemExit(f"{producer or source}: left behind: {left_behind()}")
    return identity, [row["chain_id"] for row in reversed(rows)], int(peak.read_text().split()[-1])


def streams():
    """Each image from a pipe, as each archive and compressed as a whole: what its file gives, in little memory."""
    need("time", "gzip", "zstd", "xz", "bzip2")
    # In memory: a disk takes longer to remove a repository of 100,000 files than to make it.
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", SCRATCH], check=True)
    most_kib, count, peaks = 64 << 10, 0, {}
    for layout in layouts_of(ALL_IMAGES):
        def blob_of(digest, layout=layout):
            return json.loads((layout / "blobs" / digest.replace(":", "/")).read_text())

        manifest = blob_of(json.loads((layout / "index.json").read_text())["manifests"][0]["digest"])
        config = manifest["config"]["digest"]
        chains = []
        for diff in blob_of(config)["rootfs"]["diff_ids"]:
            both = " ".join([*chains[-1:], diff])
            chains.append("sha256:" + hashlib.sha256(both.encode()).hexdigest() if chains else diff)
        big = sum(layer["size"] for layer in manifest["layers"]) > 16 << 20
        # What is read in place, what gives the same as a stream, and whether more than the plain stream is tried.
        tar = f"tar -C {shlex.quote(str(layout))} -cf -"
        forms = [(f"oci:{layout}", tar + " --sort=name .", not big), ("", tar + " index.json oci-layout blobs", False)]
        for kind in ("docker", "oci"):
            file = layout.with_name(f"{layout.name}.{kind}.tar")
            if file.exists():
                forms.append((f"{kind}-archive:{file}", f"cat {shlex.quote(str(file))}", kind == "docker" or not big))
        for in_place, producer, more in forms:
            ways = ([(in_place, None)] if in_place else []) + [("-", producer)]
            if more:
                ways += [("-", f"{producer} | {packer}") for packer in (
                    ("gzip -1", "zstd -q1") if big else ("gzip", "zstd -q", "xz -1", "bzip2"))]
            for source, stream in ways:
                got_identity, got_chains, kib = import_measured(source, stream)
                what = (stream or source).replace(str(layout.parent) + "/", "")
                if (got_identity, got_chains) != (config, chains):
                    raise SystemExit(f"{what}: {got_identity} of {got_chains}, wanted {config} of {chains}")
                print(f"{layout.name}: {what}: {len(chains)} layers, {kib} KiB", flush=True)
                count += 1
                if stream:  # in place, layers are decoded side by side: more with more processors
                    peaks[layout.name] = max(peaks.get(layout.name, 0), kib)
                    if kib >= most_kib:
                        raise SystemExit(f"{what}: {kib} KiB are too many")
    print(f"{count} imports give the IDs that the layouts say; peaks of streams in KiB: {peaks}")


def as_tars():
    need("busybox", "gzip", "zstd", "cmp")
    # The layout that is made here, and those that there are.
    sources = [SCRATCH / "layout"]
    make_layout(SCRATCH / "layout", make_tree())
    folder = os.environ.get("OVERMOUNT_IMAGES", "")
    for name in ("small", "manylayers", "odd"):
        sources += [base for base in [pathlib.Path(folder, name), pathlib.Path(folder, name + ".zstd")]
                    if folder and (base / "index.json").exists()]
    os.environ["OVERMOUNT_STORAGE"] = "virtual"
    if not all([check_tars(layout, 20, 60, set()) for layout in sources]):
        print("PARTIAL: not all layers were compared; the part `large` of .ci/nightly takes them all")

    # What is refused, in one line.
    shutil.rmtree(REPO)
    om("image", "import", f"oci:{SCRATCH}/layout", "--tag", "test/virtual")
    chain = json.loads(om("--json", "image", "list-layers", "test/virtual"))[0]["chain_id"]
    for word, *command in (("virtual repository", "image", "mount", "test/virtual"),
                           ("virtual repository", "image", "unmount", "test/virtual"),
                           ("no such entry", "layer", "cat", chain, "nothing"),
                           ("not a regular file", "layer", "cat", chain, "srv"),
                           ("inside the layer", "layer", "cat", chain, "../x"),
                           ("no such layer", "layer", "files", "sha256:0000"),
                           ("no such layer", "layer", "files", "sha256:"),
                           ("No such file", "layer", "export", chain, SCRATCH / "missing/tar"),
                           ("another storage: tar", "--storage", "on-disk", "layer", "list")):
        done = om(*command, check=False)
        if done.returncode != 1 or done.stdout or len(done.stderr.splitlines()) != 1 or word not in done.stderr:
            raise SystemExit(f"{command}: {done}")
        print(done.stderr.strip())
    if om("--storage", "both", "layer", "list", check=False).returncode != 2:
        raise SystemExit("a storage that there is not")
    if list(SCRATCH.glob("*partial*")):
        raise SystemExit("a draft was left")
    # A reader that goes away; a disk that is full; a terminal.
    for command in (["layer", "export", chain, "-"], ["layer", "cat", chain, "srv/owned"], ["layer", "files", chain],
                    ["image", "inspect", "test/virtual"]):
        read, write = os.pipe()
        os.close(read)
        done = subprocess.run([OM, "--repo", REPO, *command], stdout=write, stderr=subprocess.PIPE, text=True)
        os.close(write)
        if done.returncode != 1 or len(done.stderr.splitlines()) != 1 or "Broken pipe" not in done.stderr:
            raise SystemExit(f"{command} into a closed pipe: {done}")
    with open("/dev/full", "wb") as full:
        done = subprocess.run([OM, "--repo", REPO, "layer", "export", chain, "-"], stdout=full, stderr=subprocess.PIPE, text=True)
    if done.returncode != 1 or "No space left" not in done.stderr:
        raise SystemExit(f"a full disk: {done}")
    ours, theirs = os.openpty()
    done = subprocess.run([OM, "--repo", REPO, "layer", "export", chain, "-"], stdout=theirs, stderr=subprocess.PIPE, text=True)
    if done.returncode != 1 or "is a terminal" not in done.stderr:
        raise SystemExit(f"a terminal: {done}")
    # A repository that is there says itself what it keeps; `--virtual` makes one.
    del os.environ["OVERMOUNT_STORAGE"]
    if om("image", "list") == "" or om("layer", "cat", chain, "srv/owned") != "x" * 100000:
        raise SystemExit("the form of a repository that is there was not seen")
    shutil.rmtree(REPO)
    om("--virtual", "image", "import", f"oci:{SCRATCH}/layout")
    if not list(REPO.glob("diffs/*/*/layer.tar")):
        raise SystemExit("--virtual made no virtual repository")
    shutil.rmtree(REPO)
    om("image", "import", f"oci:{SCRATCH}/layout")
    done = om("--virtual", "image", "list", check=False)
    if done.returncode != 1 or "another storage: directory" not in done.stderr:
        raise SystemExit(f"--virtual on a repository of directories: {done}")


def check():
    """One line a damage and exit status 1; one line of what was checked otherwise."""
    layout = SCRATCH / "layout"
    layers = make_tree()
    make_layout(layout, layers)
    identity = om("image", "import", f"oci:{layout}", "--tag", "odd")
    for words, said in (((), "no damage: images 1, layers 3, diffs 3, tags 1, manifests "),
                        (("--records",), "diffs and blobs were not read")):
        line = om("check", *words)
        if said not in line or len(line.splitlines()) != 1:
            raise SystemExit(f"om check {words}: {line}")
    if json.loads(om("--json", "check")) != {"ok": True, "findings": []}:
        raise SystemExit(om("--json", "check"))
    diff = REPO / "diffs/sha256" / hashlib.sha256(layers[0][0]).hexdigest()
    odd = os.fsencode(diff / "rootfs") + b"/new \xff\n"
    with open(odd, "wb"):
        pass
    om("tag", "add", "other", identity)
    om("image", "remove", identity)
    tag = REPO / "tags" / (hashlib.sha256(b"docker.io/library/odd:latest").hexdigest() + ".json")
    tag.write_text(json.dumps({"name": "docker.io/library/odd:latest", "image": identity, "manifest": None, "index": None,
                               "source": "", "time": ""}))
    done = om("check", check=False)
    lines = done.stdout.splitlines()
    if done.returncode != 1 or done.stderr or len(lines) != 3:
        raise SystemExit(f"{done.returncode}, {done.stdout}, {done.stderr}")
    for line, said in zip(lines, (f"image_missing docker.io/library/odd:latest: its image {identity} is missing",
                                  f"diff_changed sha256:{diff.name}: its modification time differs",
                                  f"diff_changed sha256:{diff.name} new \\xff\\n: the layer has no such entry")):
        if line != said:
            raise SystemExit(f"wanted {said}\ngot    {line}")
    done = om("--json", "check", check=False)
    report = json.loads(done.stdout)
    if done.returncode != 1 or report["ok"] or report["findings"][2] != {
            "kind": "diff_changed", "object": f"sha256:{diff.name}", "path": "new \\xff\\n",
            "detail": "the layer has no such entry"}:
        raise SystemExit(done.stdout)
    tars = [OM, "--virtual", "--repo", SCRATCH / "tars"]
    subprocess.run([*tars, "image", "import", f"oci:{layout}"], check=True, stdout=subprocess.DEVNULL)
    subprocess.run([*tars, "check"], check=True, stdout=subprocess.DEVNULL)
    with open(SCRATCH / "tars/diffs/sha256" / diff.name / "layer.tar", "r+b") as file:
        file.seek(600)
        file.write(b"?")
    done = subprocess.run([*tars, "check"], capture_output=True, text=True)
    if done.returncode != 1 or f"diff_changed sha256:{diff.name}: its tar has the digest sha256:" not in done.stdout:
        raise SystemExit(done.stdout)
    # A list leaves out what is damaged, and says so.
    subprocess.run([*tars, "tag", "add", "cut", identity], check=True)
    cut = {"image": f"images/{identity.replace(':', '/')}/config.json",
           "tag": f"tags/{hashlib.sha256(b'docker.io/library/cut:latest').hexdigest()}.json"}
    for what, path in cut.items():
        (SCRATCH / "tars" / path).write_text("{")
        done = subprocess.run([*tars, what, "list"], capture_output=True, text=True)
        if done.returncode != 0 or "cut" in done.stdout or path not in done.stderr:
            raise SystemExit(f"om {what} list: {done}")
    if left_behind():
        raise SystemExit(f"left behind: {left_behind()}")
    print("one line a damage, and a report in JSON")


def flip(path, at=0):
    """Changes a byte, and nothing else that `stat` shows but the change time."""
    status = os.stat(path)
    with open(path, "r+b") as file:
        file.seek(at)
        byte = file.read(1)[0] ^ 0x55
        file.seek(at)
        file.write(bytes([byte]))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def refused(*words, said):
    done = om(*words, check=False)
    if done.returncode != 1 or said not in done.stderr or len(done.stderr.splitlines()) != 1:
        raise SystemExit(f"om {' '.join(map(str, words))}: status {done.returncode}, {done.stdout!r}, {done.stderr!r}")


def repair():
    need("busybox", "gzip")
    implied = io.BytesIO()  # `etc` has the attributes of the layers below: by a correction
    with tarfile.open(fileobj=implied, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("etc/new"))
    layers = [*make_tree(), (implied.getvalue(), implied.getvalue(), "")]
    layout = SCRATCH / "layout"
    make_layout(layout, layers)
    archive = SCRATCH / "archive.tar"
    om("image", "import", f"oci:{layout}")
    identity = json.loads(om("--json", "image", "list"))[0]["id"]
    om("image", "export", identity, f"docker-archive:{archive}")
    wanted = mounted_listing(identity)

    def diff(number):
        return REPO / "diffs/sha256" / hashlib.sha256(layers[number][0]).hexdigest()

    def remove_quietly(path):
        status = os.stat(path.parent)
        path.unlink()
        os.utime(path.parent, ns=(status.st_atime_ns, status.st_mtime_ns))

    def leave_out_recipe():
        (diff(1) / "recipe").unlink()

    damages = {
        "a byte of a file": ("diff_changed", lambda: flip(diff(0) / "rootfs/etc/kept")),
        "a mode": ("diff_changed", lambda: os.chmod(diff(0) / "rootfs/etc", 0o700)),
        "a file that is gone": ("diff_changed", lambda: remove_quietly(diff(2) / "rootfs/srv/owned")),
        "a recipe": ("diff_unreadable", lambda: flip(diff(0) / "recipe", (diff(0) / "recipe").stat().st_size // 2)),
        "no recipe": ("diff_unreadable", leave_out_recipe),
        "a record": ("record_unreadable", lambda: (diff(0) / "diff.json").write_text("{")),
    }
    for name, (kind, damage) in damages.items():
        for source in (f"docker-archive:{archive}", f"oci:{layout}", None):
            shutil.rmtree(REPO)
            om("image", "import", f"oci:{layout}", *([] if source else ["--keep-blobs"]))
            damage()
            done = om("check", check=False)
            if done.returncode != 1 or not done.stdout.startswith(f"{kind} sha256:"):
                raise SystemExit(f"{name}: {done.stdout}")
            refused("image", "mount", identity, said="found damaged")
            refused("image", "export", identity, f"oci:{SCRATCH}/out", said="found damaged")
            if source is not None:
                done = om("check", "--repair", check=False)
                if done.returncode != 1 or "; not repaired: neither a kept blob nor the source has it" not in done.stdout:
                    raise SystemExit(f"{name}: {done.stdout}")
            lines = om("check", "--repair", *([source] if source else [])).splitlines()
            if not lines[0].startswith("mended: ") or not lines[-1].startswith("no damage: "):
                raise SystemExit(f"{name}: {lines}")
            om("check")
            compare(f"{name}, from {source or 'kept blobs'}", wanted, mounted_listing(identity))
            if left_behind():
                raise SystemExit(f"{name}: left behind: {left_behind()}")

    # As it is, where somebody asks for that.
    flip(diff(0) / "rootfs/etc/kept")
    om("check", check=False)
    target = om("image", "mount", "--accept-damaged", identity)
    try:
        if (pathlib.Path(target) / "etc/kept").read_bytes() == b"kept":
            raise SystemExit("the damaged layer is not as it is")
        # A mount that runs reads what it was given, while the layer is mended and after it.
        with open(f"{target}/bin/busybox", "rb") as held:
            before = listing(target, False)
            om("check", "--repair", f"oci:{layout}")
            compare("a mount of the old layer", before, listing(target, False))
            if held.read() != (diff(0) / "rootfs/bin/busybox").read_bytes():
                raise SystemExit("a file of the old layer")
            compare("another mount", wanted, mounted_listing(identity, SCRATCH / "other"))
            om("gc")
            compare("the mount of the old layer after a collection", before, listing(target, False))
        if not pathlib.Path(str(diff(0)) + ".1").is_dir():
            raise SystemExit("the old layer is not beside the new one")
    finally:
        om("image", "unmount", target)
    om("gc")
    if left := [p.name for p in (REPO / "diffs/sha256").iterdir() if "." in p.name]:
        raise SystemExit(f"om gc leaves {left}")

    # A correction that was made of the damage goes as well.
    note = next((REPO / "layers/sha256").glob("*/correction-*"), None)
    if note is None:
        raise SystemExit("the image needs no correction")
    os.chmod(diff(0) / "rootfs/etc", 0o700)
    os.chmod(diff(1) / "rootfs/etc", 0o700)
    (note.parent / "correction.json").unlink()
    if mounted_listing(identity)["etc"] == wanted["etc"]:
        raise SystemExit("the correction was not made again")
    om("check", check=False)
    om("check", "--repair", f"oci:{layout}")
    compare("with its correction", wanted, mounted_listing(identity))

    # Imported again, it is unpacked again.
    flip(diff(0) / "rootfs/etc/kept")
    om("check", check=False)
    om("image", "remove", identity)
    om("image", "import", f"oci:{layout}")
    compare("imported again", wanted, mounted_listing(identity))
    om("check")

    # Its own parent.
    record = next(p for p in (REPO / "layers/sha256").glob("*/layer.json") if json.loads(p.read_text())["parent"])
    text = record.read_text()
    record.write_text(json.dumps({**json.loads(text), "parent": f"sha256:{record.parent.name}"}))
    done = subprocess.run([OM, "--repo", REPO, "check"], capture_output=True, text=True, timeout=60)
    if done.returncode != 1 or f"chain_id_mismatch sha256:{record.parent.name}" not in done.stdout:
        raise SystemExit(f"{done.returncode} {done.stdout} {done.stderr}")
    om("check", "--repair")
    if record.read_text() != text:
        raise SystemExit(record.read_text())
    refused("check", "--repair", "nonsense", said="a source is docker-archive:FILE")
    repair_by_import(archive, identity, wanted, diff(0) / "rootfs/etc/kept")
    repair_shares()
    repair_killed()


def repair_by_import(archive, identity, wanted, damaged):
    """What a repair does not read in place is refused by a line that says what to do, and that helps."""
    with open(archive, "rb") as plain, gzip.open(f"{archive}.gz", "wb", compresslevel=1) as packed:
        shutil.copyfileobj(plain, packed)
    source = f"docker-archive:{archive}.gz"
    for words, said in ((source, "decompress it first, or import it"), ("-", "name a file, or import it")):
        flip(damaged)
        if om("check", check=False).returncode != 1:
            raise SystemExit("the damage is not found")
        refused("check", "--repair", words, said=said)
        refused("image", "mount", identity, said="found damaged")
        with open(f"{archive}.gz", "rb") as stream:
            subprocess.run([OM, "--repo", REPO, "image", "import", words], stdin=stream, stdout=subprocess.DEVNULL, check=True)
        om("check")
        compare(f"imported again from {words}", wanted, mounted_listing(identity))


def repair_shares():
    """What is right in a damaged layer takes its space once while the old tree and the new one are there."""
    if not shutil.which("mkfs.xfs"):
        print("PARTIAL: no mkfs.xfs: that a mended layer shares extents with the old one was not looked at")
        return
    disk, where = SCRATCH / "reflinks.disk", SCRATCH / "reflinks"
    with open(disk, "wb") as file:
        file.truncate(400 << 20)
    subprocess.run(["mkfs.xfs", "-q", "-m", "reflink=1", disk], check=True)
    where.mkdir()
    if subprocess.run(["mount", "-o", "loop", disk, where], capture_output=True).returncode:
        print("PARTIAL: no loop device: that a mended layer shares extents with the old one was not looked at")
        return
    try:
        content = random.Random(1).randbytes(20 << 20)
        tar = io.BytesIO()
        with tarfile.open(fileobj=tar, mode="w") as out:
            for name, data in (("dir/large", content), ("dir/other", content[:50001]), ("small", b"right")):
                info = tarfile.TarInfo(name)
                info.size = len(data)
                out.addfile(info, io.BytesIO(data))
        layout = SCRATCH / "shares"
        make_layout(layout, [(tar.getvalue(), tar.getvalue(), "")])
        diff = where / "repository/diffs/sha256" / hashlib.sha256(tar.getvalue()).hexdigest()

        def used():
            subprocess.run(["sync", "-f", where], check=True)
            status = os.statvfs(where)
            return (status.f_blocks - status.f_bfree) * status.f_frsize

        for form, kept in (((), "rootfs/dir/large"), (("--virtual",), "layer.tar")):
            program = [OM, *form, "--repo", where / "repository"]
            subprocess.run([*program, "image", "import", f"oci:{layout}"], check=True, stdout=subprocess.DEVNULL)
            flip(diff / kept, 12 << 20)
            if subprocess.run([*program, "check"], stdout=subprocess.DEVNULL).returncode != 1:
                raise SystemExit("the damage was not found")
            before = used()
            subprocess.run([*program, "check", "--repair", f"oci:{layout}"], check=True, stdout=subprocess.DEVNULL)
            more = used() - before
            if not (diff.parent / f"{diff.name}.1").is_dir():
                raise SystemExit("the old layer is not beside the new one")
            if more > 3 << 20:  # the mebibyte with the wrong byte, and what the file system takes for itself
                raise SystemExit(f"{form}: a mended layer of 20 MiB took {more >> 10} KiB more")
            subprocess.run([*program, "check"], check=True, stdout=subprocess.DEVNULL)
            shutil.rmtree(where / "repository")
    finally:
        subprocess.run(["umount", where], check=True)


def mounted_listing(identity, target=None):
    if target is not None:
        target.mkdir(exist_ok=True)
    where = om("image", "mount", identity, *(["--target", target] if target else []))
    try:
        return listing(where, True)
    finally:
        om("image", "unmount", where)


def repair_killed():
    """At its renames and syncs, and at random moments: the layer is the old one or the new."""
    rng = random.Random(seed := int(os.environ.get("SEED", time.time_ns() % 1000000)))
    print(f"SEED={seed}")
    big = SCRATCH / "many"
    for i in range(2):
        (big / f"d{i}").mkdir(parents=True)
        for k in range(20):
            (big / f"d{i}/f{k}").write_bytes(rng.randbytes(rng.randrange(1, 20000)))
    layer = packed(big)
    layout = SCRATCH / "big"
    make_layout(layout, [layer])
    rootfs = REPO / "diffs/sha256" / hashlib.sha256(layer[0]).hexdigest() / "rootfs"
    shutil.rmtree(REPO)
    om("image", "import", f"oci:{layout}")
    whole = listing(rootfs, True)
    command = [OM, "--repo", REPO, "check", "--repair", f"oci:{layout}"]
    outcomes = {"old": 0, "new": 0}

    def killed(run):
        """Whether it was."""
        for old in (REPO / "diffs/sha256").glob("*.*"):  # the collection's: each of them is one more rename that fails
            shutil.rmtree(old)
        flip(rootfs / "d0/f0")
        old = listing(rootfs, True)
        status = run()
        now = listing(rootfs, True)
        if now != old:
            compare("the layer after a repair that was killed", whole, now)
        if status == 0:
            if now == old:
                raise SystemExit("a repair that was not killed has not mended the layer")
            return False
        outcomes["old" if now == old else "new"] += 1
        om("check", "--repair", f"oci:{layout}")
        if listing(rootfs, True) != whole:
            raise SystemExit("a repair after one that was killed has not mended the layer")
        return True

    def at_call(call, number):
        return subprocess.run(["strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={call}", "-e",
                               f"inject={call}:signal=KILL:when={number}", *command],
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode

    def at_random(longest):
        child = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        try:
            child.wait(rng.uniform(0, longest))
        except subprocess.TimeoutExpired:
            child.send_signal(signal.SIGKILL)
        return child.wait()

    if shutil.which("strace"):
        for call in ("renameat2", "renameat", "fsync"):
            number = 1  # in each thread
            while killed(lambda: at_call(call, number)):
                number += 1
        if not outcomes["old"]:
            raise SystemExit("no repair was killed")
    started = time.monotonic()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    longest = 2 * (time.monotonic() - started)
    for _ in range(6):
        killed(lambda: at_random(longest))
    om("check", "--repair", f"oci:{layout}")
    om("check")
    if left_behind():
        raise SystemExit(f"left behind: {left_behind()}")
    print(f"killed: {outcomes['old']} times the old layer, {outcomes['new']} times the new one")


def keep():
    """Manifests by skopeo inspect --raw, and every blob, before and after."""
    need("skopeo", "busybox", "gzip", "zstd")
    sources = []
    layers = make_tree()
    make_layout(SCRATCH / "gzip", layers)
    make_layout(SCRATCH / "zstd", [(tar, subprocess.run(["zstd", "-q"], input=tar, check=True, stdout=subprocess.PIPE).stdout,
                                    "+zstd") for tar, _, _ in layers])
    sources += [f"oci:{SCRATCH}/gzip", f"oci:{SCRATCH}/zstd"]
    subprocess.run(["skopeo", "copy", "-q", sources[0], f"oci-archive:{SCRATCH}/archive.tar:latest"], check=True)
    sources.append(f"oci-archive:{SCRATCH}/archive.tar")
    folder = os.environ.get("OVERMOUNT_IMAGES")
    for name in ("small", "small.zstd", "odd", "odd.zstd"):
        if folder and (pathlib.Path(folder) / name).is_dir():
            sources.append(f"oci:{folder}/{name}")

    def raw(source):
        return subprocess.run(["skopeo", "inspect", "--raw", source], check=True, stdout=subprocess.PIPE).stdout

    for source in sources:
        for virtual in ((), ("--virtual",)):
            repository = SCRATCH / "keeps"
            base = [OM, *virtual, "--repo", repository]
            identity = subprocess.run([*base, "image", "import", "--keep-blobs", source], check=True, text=True,
                                      stdout=subprocess.PIPE).stdout.strip()
            wanted = raw(source)
            for target in (f"oci:{SCRATCH}/out:name", f"oci-archive:{SCRATCH}/out:name"):
                subprocess.run([*base, "image", "export", identity, target], check=True)
                if raw(target) != wanted:
                    raise SystemExit(f"{source} to {target}: another manifest: {raw(target)}")
                copied = SCRATCH / "copied"
                subprocess.run(["skopeo", "copy", "-q", "--preserve-digests", target, f"dir:{copied}"], check=True)
                manifest = json.loads(wanted)
                for blob in [manifest["config"], *manifest["layers"]]:
                    data = (copied / blob["digest"].removeprefix("sha256:")).read_bytes()
                    if hashlib.sha256(data).hexdigest() != blob["digest"].removeprefix("sha256:"):
                        raise SystemExit(f"{source} to {target}: {blob}")
                shutil.rmtree(copied)
                out = SCRATCH / "out"
                shutil.rmtree(out) if out.is_dir() else out.unlink()
            subprocess.run([*base, "image", "export", identity, f"oci:{SCRATCH}/out:name", "--compress", "none"], check=True)
            if any(layer["mediaType"].endswith(("gzip", "zstd")) for layer in json.loads(raw(f"oci:{SCRATCH}/out"))["layers"]):
                raise SystemExit(f"{source}: --compress none keeps the blobs")
            shutil.rmtree(SCRATCH / "out")
            subprocess.run([*base, "check"], check=True, stdout=subprocess.DEVNULL)
            shutil.rmtree(repository)
        print(f"{source}: {len(manifest['layers'])} layers and the manifest are as they came")


def small_layers(count, rng, files=4, size=2000, at=0):
    """Layers of a few files each, none like another."""
    out = []
    for i in range(at, at + count):
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as tar:
            for k in range(files):
                info = tarfile.TarInfo(f"layer{i}/file{k}")
                info.size = size
                tar.addfile(info, io.BytesIO(rng.randbytes(size)))
        out.append((buffer.getvalue(), buffer.getvalue(), ""))
    return out


def files_below(top):
    return sorted(str(path.relative_to(top)) for path in top.rglob("*") if not path.is_dir())


def allocated(*tops):
    """Bytes of the blocks below, a file with several names once."""
    seen = {}
    for top in tops:
        for path in [top, *top.rglob("*")]:
            status = path.lstat()
            seen[status.st_dev, status.st_ino] = status.st_blocks * 512
    return sum(seen.values())


def collected(*words):
    return json.loads(om("--json", "gc", *words))


def counts(report):
    return {name: report[name] for name in ("layers", "diffs", "manifests", "blobs")}


def whole():
    om("check")
    if left_behind():
        raise SystemExit(f"left behind: {left_behind()}")


def gc():
    need("busybox", "gzip", "strace")
    rng = random.Random(1)
    tree = make_tree()
    make_layout(SCRATCH / "a", tree)
    make_layout(SCRATCH / "b", [tree[0], *small_layers(2, rng)])
    fresh = SCRATCH / "fresh"
    subprocess.run([OM, "--repo", fresh, "gc"], check=True, stdout=subprocess.DEVNULL)

    # What goes, by counts and bytes, with what a dry run says before.
    a = om("image", "import", "--keep-blobs", f"oci:{SCRATCH}/a", "--tag", "a")
    b = om("image", "import", "--keep-blobs", f"oci:{SCRATCH}/b")
    nothing = collected()
    if any(nothing[name] for name in nothing):
        raise SystemExit(f"of a repository in which all is needed: {nothing}")
    usage = json.loads(om("--json", "usage"))
    of = {image["id"]: image for image in usage["images"]}
    if any(one["bytes"] != one["shared"] + one["own"] or one["shared"] < 1_000_000 for one in of.values()) or usage["unneeded"]:
        raise SystemExit(f"usage: {usage}")
    if usage["diffs"] != allocated(*(REPO / "diffs/sha256").iterdir()):
        raise SystemExit(f"usage: {usage['diffs']} bytes of diffs")
    if om("image", "remove", "--unused") != b or om("image", "remove", "--unused"):
        raise SystemExit("image remove --unused removes the image without a tag, once")
    if json.loads(om("--json", "usage"))["unneeded"] < of[b]["own"]:
        raise SystemExit("usage does not say what would come back")
    before, bytes_before = files_below(REPO), allocated(REPO)
    dry = collected("--dry-run")
    if files_below(REPO) != before:
        raise SystemExit("a dry run changes something")
    if collected("--least-age", "1h") != {**nothing, "leases": 0} or files_below(REPO) != before:
        raise SystemExit("what is younger than an hour goes")
    done = collected()
    wanted = {"layers": 2, "diffs": 2, "manifests": 1, "blobs": 4}
    if counts(done) != wanted or done != dry or done["left"]:
        raise SystemExit(f"dry {dry}, done {done}")
    if not done["bytes"] or abs(bytes_before - allocated(REPO) - done["bytes"]) > 65536:
        raise SystemExit(f"{done['bytes']} bytes are said to have come back, {bytes_before - allocated(REPO)} have")
    whole()
    print(f"removed {counts(done)}, {done['bytes']} bytes")

    # What a mount needs stays, and its upper.
    target = om("image", "mount", a, "--writable")
    pathlib.Path(target, "new").write_text("new")
    if om("image", "remove", "a", check=False).returncode != 1 or any(counts(collected()).values()):
        raise SystemExit("something of a mounted image goes")
    if pathlib.Path(target, "new").read_text() + pathlib.Path(target, "etc/kept").read_text() != "newkept":
        raise SystemExit("the mount shows something else")
    om("image", "unmount", target)

    # Layers by themselves.
    tar = SCRATCH / "layer.tar"
    tar.write_bytes(small_layers(1, rng)[0][0])
    low = om("layer", "create", tar)
    tar.write_bytes(small_layers(1, rng)[0][0])
    high = om("layer", "create", tar, "--parent", low)
    for chain, word in ((low, high), (json.loads(om("--json", "image", "list-layers", "a"))[0]["chain_id"], a)):
        refused = om("layer", "remove", chain, check=False)
        if refused.returncode != 1 or word not in refused.stderr or len(refused.stderr.splitlines()) != 1:
            raise SystemExit(f"layer remove {chain}: {refused}")
    om("layer", "remove", high)
    om("layer", "remove", low)
    refused = om("layer", "remove", low, check=False)
    if refused.returncode != 1 or "no such layer" not in refused.stderr:
        raise SystemExit(f"layer remove of none: {refused}")
    if counts(collected()) != {"layers": 0, "diffs": 2, "manifests": 0, "blobs": 0}:
        raise SystemExit("the diffs of removed layers stay")

    # Damaged records: roots stop a collection, others are kept with all that they may need.
    config = REPO / "images/sha256" / a.removeprefix("sha256:") / "config.json"
    text = config.read_bytes()
    tag = next((REPO / "tags").iterdir())
    for path, content in ((config, text[:-1]), (config, b""), (tag, b"{")):
        kept = path.read_bytes()
        path.write_bytes(content)
        before = files_below(REPO)
        for words in (("gc",), ("gc", "--dry-run")):
            refused = om(*words, check=False)
            if refused.returncode != 1 or str(path.relative_to(REPO)) not in refused.stderr or len(refused.stderr.splitlines()) != 1:
                raise SystemExit(f"gc with a damaged {path}: {refused}")
        if files_below(REPO) != before:
            raise SystemExit(f"gc with a damaged {path} removes something")
        path.write_bytes(kept)
    tar.write_bytes(small_layers(1, rng)[0][0])
    odd = om("layer", "create", tar)
    record = REPO / "layers/sha256" / odd.removeprefix("sha256:") / "layer.json"
    record.write_text(json.dumps({"diff_id": json.loads(record.read_text())["diff_id"], "parent": odd}))
    refused = om("--json", "gc", check=False)
    left = json.loads(refused.stdout)["left"]
    if refused.returncode != 1 or [one["path"] for one in left] != [str(record.parent.relative_to(REPO))] or not record.exists():
        raise SystemExit(f"gc with a damaged layer: {refused}")
    om("layer", "remove", odd)
    if counts(collected()) != {"layers": 0, "diffs": 1, "manifests": 0, "blobs": 0}:
        raise SystemExit("what a damaged layer may have needed stays")
    whole()

    # A repository that can only be read.
    for child in (REPO, fresh):
        subprocess.run(["mount", "--bind", child, child], check=True)
        subprocess.run(["mount", "-o", "remount,ro,bind", child], check=True)
        refused = subprocess.run([OM, "--repo", child, "gc"], capture_output=True, text=True)
        if refused.returncode != 1 or len(refused.stderr.splitlines()) != 1:
            raise SystemExit(f"gc of a repository that can only be read: {refused}")
        subprocess.run([OM, "--repo", child, "gc", "--dry-run"], check=True, stdout=subprocess.DEVNULL)
        subprocess.run(["umount", child], check=True)

    # Beside imports, each of which is whole in the end.
    layouts = []
    shared = small_layers(3, rng, 20)
    for i in range(4):
        layouts.append(SCRATCH / f"beside{i}")
        make_layout(layouts[-1], [*shared, *small_layers(3, rng, 20, at=10 * i)])
    rounds = 0
    for _ in range(3):
        imports = [subprocess.Popen([OM, "--repo", REPO, "image", "import", "--keep-blobs", f"oci:{layout}"], text=True,
                                    stdout=subprocess.PIPE, stderr=subprocess.PIPE) for layout in layouts]
        while rounds == 0 or any(child.poll() is None for child in imports):
            collected()
            rounds += 1
        made = []
        for child in imports:
            out, problems = child.communicate()
            if child.returncode != 0:
                raise SystemExit(f"an import beside a collection: {problems}")
            made.append(out.strip())
        whole()
        for identity in made:
            om("image", "export", identity, f"oci:{SCRATCH}/out", "--compress", "none")
            shutil.rmtree(SCRATCH / "out")
        om("image", "remove", made[0])
        om("image", "remove", made[1])
    print(f"{rounds} collections beside 12 imports")

    # Killed at any rename, sync or removal. What is left opens, is whole, and is collected by the next.
    om("image", "remove", "--unused")
    copy, log = SCRATCH / "copy", SCRATCH / "log"
    base = [OM, "--repo", copy, "gc"]
    trace = ["strace", "-f", "-qq", "-o", log, "-e", "trace=renameat,renameat2,fsync,unlinkat"]
    quiet = {**os.environ, "LSAN_OPTIONS": "detect_leaks=0"}  # it cannot work under strace
    subprocess.run(["cp", "-a", REPO, copy], check=True)
    subprocess.run([*trace, *base], check=True, stdout=subprocess.DEVNULL, env=quiet)
    calls = {name: log.read_text().count(f"{name}(") for name in ("renameat", "fsync", "unlinkat")}
    survivor = files_below(copy)
    killed = 0
    for name, count in calls.items():
        for k in sorted({1, count} | {rng.randrange(1, count + 1) for _ in range(8)}):
            shutil.rmtree(copy)
            subprocess.run(["cp", "-a", REPO, copy], check=True)
            # strace counts the calls of each thread by itself.
            done = subprocess.run([*trace, "-e", f"inject={name}:signal=KILL:when={k}", *base], check=False, env=quiet,
                                  stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            killed += done.returncode != 0
            subprocess.run([OM, "--repo", copy, "check"], check=True, stdout=subprocess.DEVNULL)
            subprocess.run(base, check=True, stdout=subprocess.DEVNULL)
            if files_below(copy) != survivor:
                raise SystemExit(f"killed at {name} {k}: {set(files_below(copy)) ^ set(survivor)}")
    if killed < 8:
        raise SystemExit(f"only {killed} collections were killed")
    print(f"{killed} collections were killed, of {sum(calls.values())} calls each")

    # Nothing is left of anything.
    om("image", "remove", "a")
    collected()
    if files_below(REPO) != files_below(fresh):
        raise SystemExit(f"an empty repository is not as a new one: {set(files_below(REPO)) ^ set(files_below(fresh))}")
    base = [OM, "--virtual", "--repo", SCRATCH / "tars"]
    subprocess.run([*base, "image", "import", f"oci:{SCRATCH}/a", "--tag", "a"], check=True, stdout=subprocess.DEVNULL)
    subprocess.run([*base, "image", "remove", "a"], check=True)
    subprocess.run([*base, "gc"], check=True, stdout=subprocess.DEVNULL)
    if files_below(SCRATCH / "tars") != files_below(fresh):
        raise SystemExit("an empty repository of tars is not as a new one")


def create():
    om("tag", "list")  # makes the repository
    chains = []
    for name in ("low", "top"):
        tree = SCRATCH / name
        tree.mkdir()
        (tree / name).write_text(name)
        (SCRATCH / "tar").write_bytes(packed(tree)[0])
        chains.append(om("layer", "create", SCRATCH / "tar", *(["--parent", chains[-1]] if chains else [])))
    diffs = {row["chain_id"]: row["diff_id"] for row in json.loads(om("--json", "layer", "list"))}
    wanted = [diffs[chain] for chain in chains]

    def config_of(image):
        return json.loads(om("image", "inspect", image))

    file = SCRATCH / "config.json"
    file.write_text('{"os":"linux","architecture":"amd64","x":[1],"config":{"Cmd":["/low"]},'
                    '"rootfs":{"type":"layers","diff_ids":[]}}')
    identity = om("image", "create", "--config", file, chains[1], "--tag", "made")
    config = config_of("made")
    if config["rootfs"]["diff_ids"] != wanted or config["x"] != [1] or om("tag", "get", "made") != identity:
        raise SystemExit(f"create: {identity}, {config}")
    words = ["--env", "A=b=c", "--env", "D=", "--label", "l=1", "--expose", "80/tcp", "--cmd", "/x", "--cmd", "-y",
             "--entrypoint", "/e", "--workdir", "/w", "--user", "u:g"]
    edited = config_of(om("image", "create", "--from", "made", *words))
    config["config"] = {"Cmd": ["/x", "-y"], "Env": ["A=b=c", "D="], "Labels": {"l": "1"}, "ExposedPorts": {"80/tcp": {}},
                        "Entrypoint": ["/e"], "WorkingDir": "/w", "User": "u:g"}
    if edited != config:
        raise SystemExit(f"create --from: {edited}, wanted {config}")
    new = config_of(om("image", "create", "--platform", "linux/arm64/v8", chains[0], "--cmd", "/low"))
    if new != {"os": "linux", "architecture": "arm64", "variant": "v8", "config": {"Cmd": ["/low"]},
               "rootfs": {"type": "layers", "diff_ids": wanted[:1]}}:
        raise SystemExit(f"create of nothing: {new}")
    before = om("--json", "image", "list")
    for words, word in ((["--from", "made", chains[0]], "different layers"), (["--config", SCRATCH / "none"], "No such file"),
                        (["0" * 64], "0" * 64), (["--env", "x"], "NAME=VALUE")):
        failed = om("image", "create", *words, check=False)
        if failed.returncode != 1 or failed.stdout or len(failed.stderr.splitlines()) != 1 or word not in failed.stderr:
            raise SystemExit(f"create {words}: {failed}")
        print(failed.stderr.strip())
    if om("--json", "image", "list") != before or left_behind():
        raise SystemExit(f"create: left behind {left_behind()}")


def merged():
    layout, tars = SCRATCH / "layout", make_tree()
    make_layout(layout, tars[:1])
    below = om("image", "import", f"oci:{layout}")
    shutil.rmtree(layout)
    make_layout(layout, tars)
    above = om("image", "import", f"oci:{layout}")
    old, now = (listing(om("image", "mount", image), True) for image in (below, above))
    for image in (below, above):
        om("image", "unmount", image)

    wanted = {(("A" if p not in old else "D" if p not in now else "C"), "/" + p) for p in old.keys() | now.keys()
              if old.get(p) != now.get(p)}
    rows = json.loads(om("--json", "image", "diff", below, above))
    got = {({"added": "A", "changed": "C", "removed": "D"}[row["kind"]], row["path"]) for row in rows}
    lines = om("image", "diff", below, above).splitlines()
    if got != wanted or {tuple(line.split(" ", 1)) for line in lines} != wanted or not wanted:
        raise SystemExit(f"diff: {lines}, wanted {sorted(wanted)}")
    print(f"diff: {lines}")
    turned = om("image", "diff", above, below).splitlines()
    if turned != [{"A": "D", "D": "A", "C": "C"}[line[0]] + line[1:] for line in lines]:
        raise SystemExit(f"diff the other way: {turned}")
    chain = json.loads(om("--json", "image", "list-layers", above))[0]["chain_id"]
    if om("image", "diff", above, chain) or om("image", "diff", above, above):
        raise SystemExit("an image differs from itself")

    def dense(lines):  # without allocated blocks: a flattened tar has no holes
        return {path: line.rsplit(" ", 1)[0] if line.split()[1] == "f" else line for path, line in lines.items()}

    om("image", "flatten", above, SCRATCH / "flat.tar")
    flat = (SCRATCH / "flat.tar").read_bytes()
    piped = subprocess.run([OM, "--repo", REPO, "image", "flatten", chain, "-"], check=True, stdout=subprocess.PIPE).stdout
    if piped != flat:
        raise SystemExit("flatten to standard output: other bytes")
    out = SCRATCH / "flat"
    out.mkdir()
    subprocess.run(["tar", "--xattrs", "--xattrs-include=*", "--numeric-owner", "-xpf", SCRATCH / "flat.tar", "-C", out],
                   check=True)
    compare("flattened, by GNU tar", dense(now), dense(listing(out, True)))
    squashed = om("image", "squash", above, "--tag", "small")
    compare("squashed", dense(now), dense(listing(om("image", "mount", "small"), True)))
    om("image", "unmount", "small")
    if om("image", "diff", above, "small") or om("image", "squash", above) != squashed or left_behind():
        raise SystemExit(f"squash: {squashed}, {left_behind()}")
    for words in (["diff", "none", above], ["flatten", "none", SCRATCH / "x"], ["squash", "none"]):
        failed = om("image", *words, check=False)
        if failed.returncode != 1 or failed.stdout or "none" not in failed.stderr or (SCRATCH / "x").exists():
            raise SystemExit(f"{words}: {failed}")


def files():
    """What `om image files` and `cat` say of an image, against its mount and its flattened tar, on both storages."""
    links = SCRATCH / "layer4"
    (links / "srv").mkdir(parents=True)
    for name, target in (("absolute", "/etc/kept"), ("srv/out", "../../../../etc/kept"), ("etc-link", "/etc"), ("loop", "loop"),
                         ("to-gone", "etc/gone"), ("to-old", "opt/old/file")):
        os.symlink(target, links / name)
    (links / ".wh.tmp").write_text("")
    (links / "bin").write_text("no directory any more")
    layout, tars = SCRATCH / "layout", [*make_tree(), packed(links, "--format=gnu")]
    make_layout(layout, tars)
    identity = om("image", "import", f"oci:{layout}", "--tag", "test/files")
    target = pathlib.Path(om("image", "mount", identity))
    tree = {str(path.relative_to(target)): path.lstat() for path in [target, *target.rglob("*")]}
    content = {name: (target / name).read_bytes() for name, status in tree.items() if stat.S_ISREG(status.st_mode)}
    om("image", "unmount", identity)
    printed = {}
    for storage in ("on-disk", "virtual"):
        if storage == "virtual":
            shutil.rmtree(REPO)
            os.environ["OVERMOUNT_STORAGE"] = "virtual"
            om("image", "import", f"oci:{layout}", "--tag", "test/files")
        got = [(mode, who, size, when, name.rstrip(b"/")) for mode, who, size, when, name in lines_by_om("test/files", "image")]
        om("image", "flatten", identity, SCRATCH / "flat.tar")
        wanted = [(*rest, name.rstrip(b"/")) for *rest, name in lines_by_tar(SCRATCH / "flat.tar")]
        for one, other in zip(got, wanted):
            if one != other:
                raise SystemExit(f"{storage}: image files: {one}, tar tv: {other}")
        rows = json.loads(om("--json", "image", "files", "test/files"))
        if len(got) != len(wanted) or [row["path"] for row in rows] != sorted(tree, key=lambda name: b"" if name == "." else name.encode()):
            raise SystemExit(f"{storage}: {len(got)} lines, {len(wanted)} of tar, {rows}, wanted {sorted(tree)}")
        chains = [row["chain_id"] for row in reversed(json.loads(om("--json", "image", "list-layers", identity)))]
        whose = {row["path"]: chains.index(row["layer"]) for row in rows}
        for path, layer in (("etc/kept", 0), ("opt/old/new", 1), ("srv/owned", 2), ("bin", 3), ("absolute", 3), ("srv/hard", 0)):
            if whose[path] != layer:
                raise SystemExit(f"{storage}: {path} comes from layer {whose[path]}, not {layer}")

        def cat(path):
            return subprocess.run([OM, "--repo", REPO, "image", "cat", "test/files", path], capture_output=True)

        for name, data in content.items():
            if cat(name).stdout != data or cat("/" + name).stdout != data:
                raise SystemExit(f"{storage}: image cat {name}: {cat(name)}")
        for name in ("absolute", "srv/out", "etc-link/kept", "srv/../etc-link/../absolute"):
            if cat(name).stdout != b"kept":
                raise SystemExit(f"{storage}: image cat {name}: {cat(name)}")
        for name, word in (("etc/gone", b"no such entry"), ("to-gone", b"no such entry"), ("to-old", b"no such entry"), ("tmp", b"no such entry"),
                           ("bin/busybox", b"Not a directory"), ("loop", b"Too many levels"), ("etc", b"not a regular file"),
                           ("srv/.wh.x", b"no such entry")):
            done = cat(name)
            if done.returncode != 1 or done.stdout or word not in done.stderr or len(done.stderr.splitlines()) != 1:
                raise SystemExit(f"{storage}: image cat {name}: {done}")
        for words in (("files", "none"), ("cat", "none", "etc/kept")):
            done = om("image", *words, check=False)
            if done.returncode != 1 or done.stdout or "none" not in done.stderr:
                raise SystemExit(f"{storage}: {words}: {done}")
        if left_behind():
            raise SystemExit(f"{storage}: left behind: {left_behind()}")
        printed[storage] = om("image", "files", "test/files"), json.dumps(rows)
        print(f"{storage}: {len(rows)} paths, {len(content)} files")
    if printed["on-disk"] != printed["virtual"]:
        raise SystemExit(f"the two storages differ: {printed}")


def member(name, data=b"", kind=tarfile.REGTYPE, link=""):
    """One member of an archive, with its padding."""
    info = tarfile.TarInfo(name)
    info.size, info.type, info.linkname = len(data), kind, link
    return info.tobuf(tarfile.PAX_FORMAT) + data + bytes(-len(data) % 512)


def tiny_layers(count):
    """As `make_layout` takes them: each holds one file."""
    return [(tar, gzip.compress(tar, mtime=0), "+gzip") for tar in (
        member("./", kind=tarfile.DIRTYPE) + member(f"f{i}", b"%d" % i) + bytes(1024) for i in range(count))]


def with_descriptors(count, *words, source=None):
    """om in a process that may open so many files."""
    done = subprocess.run([OM, "--repo", REPO, *words], stdin=source, capture_output=True, text=True,
                          preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (count, count)))
    if done.returncode != 0:
        raise SystemExit(f"{count} descriptors: om {' '.join(map(str, words))}: {done.stderr}")
    return done.stdout.strip()


def limits():
    need("tar", "time")
    many, most, few, fewest = 1200, 500, 256, 64
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", SCRATCH], check=True)
    layers = tiny_layers(many)
    layout, docker = SCRATCH / "layout", SCRATCH / "docker"
    make_layout(layout, layers)
    docker.mkdir()
    config = json.dumps({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [
        "sha256:" + hashlib.sha256(tar).hexdigest() for tar, _, _ in layers]}})
    (docker / "config.json").write_text(config)
    for i, (tar, _, _) in enumerate(layers):
        (docker / f"{i}.tar").write_bytes(tar)
    (docker / "manifest.json").write_text(json.dumps([{
        "Config": "config.json", "RepoTags": ["many:1"], "Layers": [f"{i}.tar" for i in range(many)]}]))
    for name in ("layout", "docker"):
        subprocess.run(["tar", "-C", SCRATCH / name, "-cf", SCRATCH / f"{name}.tar", "."], check=True)
        subprocess.run(["tar", "-C", SCRATCH / name, "-czf", SCRATCH / f"{name}.tgz", "."], check=True)

    for words in ([f"oci:{layout}"], [f"oci:{layout}", "--keep-blobs"], [f"oci-archive:{layout}.tar"],
                  [f"docker-archive:{docker}.tar"], [f"docker-archive:{docker}.tgz"], [f"oci-archive:{layout}.tgz"],
                  ["-", "--keep-blobs"], ["-"]):
        shutil.rmtree(REPO, ignore_errors=True)
        with open(f"{layout}.tar", "rb") as file, subprocess.Popen(["cat"], stdin=file, stdout=subprocess.PIPE) as pipe:
            identity = with_descriptors(few, "image", "import", *words, source=pipe.stdout)
            pipe.stdout.read()
        count = len(list((REPO / "layers/sha256").iterdir()))
        if count != many or left_behind():
            raise SystemExit(f"{words}: {count} layers, {left_behind()}")
        print(f"{' '.join(words)}: {many} layers with {few} descriptors", flush=True)

    # What else goes through all layers.
    chains = [row["chain_id"] for row in json.loads(with_descriptors(few, "--json", "image", "list-layers", identity))]
    for to, *words in (["docker-archive"], ["oci-archive"], ["oci"], ["oci-archive", "--compress", "gzip"],
                       ["oci", "--compress", "zstd"], ["docker-archive", "--compress", "gzip"]):
        with_descriptors(few, "image", "export", identity, f"{to}:{SCRATCH}/{to}", *words)
        subprocess.run(["rm", "-r", SCRATCH / to], check=True)
    with_descriptors(few, "check")
    with_descriptors(few, "image", "flatten", identity, SCRATCH / "flat.tar")
    if len(tarfile.open(SCRATCH / "flat.tar").getmembers()) != many + 1:
        raise SystemExit("flattened: other members")
    with_descriptors(few, "image", "create", "--from", identity, "--env", "A=b")
    if len(with_descriptors(few, "image", "diff", chains[many // 2], identity).splitlines()) < many // 2 - 1:
        raise SystemExit("diff: too few lines")
    (SCRATCH / "one.tar").write_bytes(layers[0][0])
    with_descriptors(few, "layer", "create", SCRATCH / "one.tar", "--parent", chains[0])

    # Mounts.
    failed = om("image", "mount", identity, check=False)
    if failed.returncode != 1 or "500 layers" not in failed.stderr or len(failed.stderr.splitlines()) != 1:
        raise SystemExit(f"mount of {many} layers: {failed}")
    if list((REPO / "mounts").iterdir()) or left_behind():
        raise SystemExit("mount of too many layers: something is left")
    shutil.rmtree(layout)
    make_layout(layout, layers[:most])
    for check_first in (False, True):
        shutil.rmtree(REPO)
        identity = with_descriptors(fewest, "image", "import", f"oci:{layout}")
        if check_first:
            with_descriptors(fewest, "check")
        for words in ([], ["--writable"]):
            target = with_descriptors(fewest, "image", "mount", identity, *words)
            if len(os.listdir(target)) != most:
                raise SystemExit(f"mounted: {len(os.listdir(target))} files")
            with_descriptors(fewest, "image", "unmount", target)
    print(f"{most} layers are mounted with {fewest} descriptors", flush=True)

    refused_archives()


def refused_archives():
    """Small archives that take much memory, or time."""
    most_kib = 128 << 10
    # Names that share nothing, as in an archive of 7.7 MB; what they become is far longer.
    rng = random.Random(1)

    def links():
        for i in range(100_000):
            path = "/".join(rng.choice("abcdefgh") * 200 for _ in range(19))
            yield member(f"{path}/{i}", kind=tarfile.SYMTYPE, link=path)

    # Each is a tar with a file of its own.
    def candidates():
        for i in range(20_000):
            yield member(f"{i}.tar", member("f", b"%d" % i) + bytes(1024))

    for name, members, word in (("links", links, "too many members"), ("candidates", candidates, "candidate layers")):
        file = SCRATCH / f"{name}.tgz"
        with gzip.open(file, "wb", compresslevel=1) as out:
            for data in members():
                out.write(data)
            out.write(member("manifest.json", b"[]") + bytes(1024))
        with gzip.open(file) as packed_file, open(SCRATCH / f"{name}.tar", "wb") as out:
            shutil.copyfileobj(packed_file, out, 1 << 20)
        sources = [f"oci-archive:{file}", "-"]
        sources += [f"{kind}-archive:{SCRATCH}/{name}.tar" for kind in ("docker", "oci") if name == "links"]
        for source in sources:
            shutil.rmtree(REPO, ignore_errors=True)
            started = time.monotonic()
            with open(file, "rb") as stream:
                done = subprocess.run(["time", "-f", "%M", OM, "--repo", REPO, "image", "import", source], stdin=stream,
                                      capture_output=True, text=True)
            lines = done.stderr.splitlines()
            kib = int(lines[-1])
            lines = [line for line in lines[:-1] if not line.startswith("Command exited")]
            if done.returncode != 1 or len(lines) != 1 or word not in lines[0] or kib > most_kib or left_behind():
                raise SystemExit(f"{name}: {source}: {done}, {left_behind()}")
            print(f"{name}: {file.stat().st_size} bytes, {kib} KiB, {time.monotonic() - started:.1f} s: {lines[0]}", flush=True)


def owner():
    make_layout(SCRATCH / "layout", tiny_layers(1))
    om("image", "import", f"oci:{SCRATCH}/layout")
    os.chown(REPO, 1000, 1000)
    for words in (["image", "list"], ["check"], ["image", "import", f"oci:{SCRATCH}/layout"]):
        failed = om(*words, check=False)
        if failed.returncode != 1 or len(failed.stderr.splitlines()) != 1 or not all(
                word in failed.stderr for word in (str(REPO), "user 1000", "--repo-owner")):
            raise SystemExit(f"{words}: {failed}")
    print(failed.stderr.strip())
    if len(om("--repo-owner", "1000", "image", "list").splitlines()) != 1:
        raise SystemExit("with its owner named, the repository does not open")
    if om("--repo-owner", "1001", "image", "list", check=False).returncode != 1:
        raise SystemExit("it opens with another owner named")
    named = subprocess.run([OM, "--repo", REPO, "image", "list"], capture_output=True, text=True, check=True,
                           env={**os.environ, "OVERMOUNT_REPO_OWNER": "1000"}).stdout
    if len(named.splitlines()) != 1:
        raise SystemExit("$OVERMOUNT_REPO_OWNER does not count")


def two():
    need("busybox", "gzip", "strace")
    tree = make_tree()
    rng = random.Random(1)
    big = SCRATCH / "big"
    for i in range(20):
        (big / f"d{i}").mkdir(parents=True)
        for k in range(20):
            (big / f"d{i}/f{k}").write_bytes(rng.randbytes(rng.randrange(30000)))
    fat = packed(big)
    # Three images that share layers, and one that only comes and goes.
    layouts = {"a": [*tree, fat], "b": [tree[0], fat, tree[2]], "c": [fat, *tree], "beside": [tree[0], tree[1]]}
    wanted = {}
    for name, layers in layouts.items():
        make_layout(SCRATCH / name, layers)
        identity = om("image", "import", f"oci:{SCRATCH}/{name}")
        target = om("image", "mount", identity)
        wanted[identity] = name, listing(target, True)
        om("image", "unmount", identity)
    shutil.rmtree(REPO)

    beside = om("image", "import", f"oci:{SCRATCH}/beside", "--tag", "beside")
    imports = [subprocess.Popen([OM, "--repo", REPO, "image", "import", f"oci:{SCRATCH}/{name}", "--tag", f"{name}:{i}"],
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
               for i in range(3) for name in ("a", "b", "c")]
    rounds = 0
    while rounds == 0 or any(child.poll() is None for child in imports):
        om("image", "list")
        om("layer", "list")
        target = om("image", "mount", beside, "--writable")
        pathlib.Path(target, "new").write_text("new")
        om("image", "unmount", target)
        om("tag", "list")
        om("image", "remove", "beside")
        if om("image", "import", f"oci:{SCRATCH}/beside", "--tag", "beside") != beside:
            raise SystemExit("the image beside has another ID")
        rounds += 1
    for number, child in enumerate(imports):
        out, problems = child.communicate()
        if child.returncode != 0 or wanted[out.strip()][0] != "abc"[number % 3]:
            raise SystemExit(f"import {number}: status {child.returncode}, {out!r}, {problems!r}")
    if {row["id"]: len(row["tags"]) for row in json.loads(om("--json", "image", "list"))} != {
            identity: 1 if name == "beside" else 3 for identity, (name, _) in wanted.items()}:
        raise SystemExit(om("image", "list"))
    if len(list((REPO / "diffs/sha256").iterdir())) != 4 or left_behind() or list((REPO / "mounts").iterdir()):
        raise SystemExit(f"left behind: {left_behind()}")
    for identity, (name, tree) in wanted.items():
        target = om("image", "mount", identity)
        compare(f"image {name} of {len(imports)} imports", tree, listing(target, True))
        om("image", "unmount", identity)
    print(f"{rounds} rounds of the other commands beside")

    # In memory: 10,000 directories take a disk long to make and to remove.
    memory = SCRATCH / "memory"
    memory.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", memory], check=True)

    def calls():
        """How many calls on files `om tag list` makes, the sweep included."""
        log = SCRATCH / "calls"
        subprocess.run(["strace", "-f", "-c", "-U", "calls,name", "-o", log, "-e", "trace=%file,getdents64,read,fcntl",
                        OM, "--repo", memory / "r", "tag", "list"], check=True, stdout=subprocess.DEVNULL,
                       env={**os.environ, "LSAN_OPTIONS": "detect_leaks=0"})  # it cannot work under strace
        return sum(int(line.split()[0]) for line in log.read_text().splitlines()
                   if line.split()[0].isdigit() and line.split()[1] != "total")

    subprocess.run([OM, "--repo", memory / "r", "image", "import", f"oci:{SCRATCH}/a"], check=True, stdout=subprocess.DEVNULL)
    few = calls()
    for i in range(10000):
        diff = f"{i:064x}"
        folder = memory / "r/layers/sha256" / diff  # a lowest layer's chain ID is its diff ID
        folder.mkdir()
        (folder / "layer.json").write_text(json.dumps({"diff_id": f"sha256:{diff}", "parent": None}))
    many = calls()
    listed = subprocess.run([OM, "--repo", memory / "r", "layer", "list"], check=True, stdout=subprocess.PIPE).stdout
    if len(listed.splitlines()) < 10000 or many > few or few < 20:
        raise SystemExit(f"{few} calls with few layers, {many} with 10,000 more")
    print(f"opening takes {few} calls with few layers, {many} with 10,000 more")


def system_call(number, *arguments):
    result = LIBC.syscall(ctypes.c_long(number), *arguments)
    if result < 0:
        raise OSError(ctypes.get_errno(), f"system call {number}")
    return result


BANDS = []


@functools.cache
def own_band():
    """As tests/support/device_numbers.hpp: a number that no other test process has while this one lives."""
    for band in range(8):
        name = socket.socket(socket.AF_UNIX)
        try:
            name.bind(f"\0overmount-test-band-{band}")
        except OSError:
            name.close()
            continue
        BANDS.append(name)
        return band
    return 8


class LowDeviceNumbers:
    """Holds the lowest device numbers until the end of a with statement: others who mount meanwhile get those that are
    free by then, and not the number of a mount that has gone. See tests/support/device_numbers.hpp."""

    def __enter__(self):
        self.held = [os.open("/tmp", os.O_RDONLY)]
        fcntl.flock(self.held[0], fcntl.LOCK_EX)
        for _ in range(64 + 32 * own_band()):
            context = system_call(430, b"tmpfs", 1)  # fsopen
            system_call(431, context, 6, None, None, 0)  # fsconfig: create
            self.held.append(context)

    def __exit__(self, *_):
        for context in reversed(self.held):
            os.close(context)


def refuse_unique_mount_ids():
    """As tests/support/refuse_calls.hpp: for this process, and those that it starts from now on."""
    statx = {"x86_64": 332}.get(os.uname().machine, 291)
    steps = [(0x20, 0, 0, 0), (0x15, 5, 0, 457), (0x15, 4, 0, 458), (0x15, 0, 2, statx), (0x20, 0, 0, 16 + 3 * 8),
             (0x45, 1, 0, 0x4000), (0x06, 0, 0, 0x7FFF0000), (0x06, 0, 0, 0x00050000 | errno.ENOSYS)]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
    program = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(steps), ctypes.addressof(code)))
    if LIBC.prctl(22, 2, program, 0, 0) != 0:  # PR_SET_SECCOMP, SECCOMP_MODE_FILTER
        raise OSError(ctypes.get_errno(), "prctl")


def mounts():
    need("unshare", "nsenter")
    # A namespace's file can be bound only in an older namespace, and since Linux 6.18 "older" is the lesser ID, of which
    # every processor gives out its own range: on one processor, what is made later is newer.
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    if LIBC.unshare(0x20000) != 0 or LIBC.mount(b"none", b"/", None, 0x44000, None) != 0:  # CLONE_NEWNS; MS_REC | MS_PRIVATE
        raise OSError(ctypes.get_errno(), "unshare")
    for old in (False, True):
        if old:
            refuse_unique_mount_ids()
        print("without unique mount IDs" if old else "with them, where the kernel has any")
        shutil.rmtree(REPO, ignore_errors=True)
        lose_and_find(SCRATCH / ("old" if old else "new"), old)


def lose_and_find(place, old):
    place.mkdir()
    below = io.BytesIO()
    with tarfile.open(fileobj=below, mode="w") as made:
        made.addfile(tarfile.TarInfo("below"))
    make_layout(place / "layout", [(below.getvalue(), below.getvalue(), "")])
    image = om("image", "import", f"oci:{place}/layout", "--tag", "test/mounts")
    target = place / "target"
    target.mkdir()
    # Below a shared mount nothing is moved, and no namespace is bound.
    subprocess.run(["mount", "--bind", place, place], check=True)
    subprocess.run(["mount", "--make-private", place], check=True)

    def states():
        return {row["id"]: row["state"] for row in json.loads(om("--json", "image", "mounts"))}

    def expect(mount, state, what):
        if states().get(mount) != state:
            raise SystemExit(f"{what}: {om('image', 'mounts')}")
        if state and not (REPO / "mounts" / mount / "upper" / "new").exists():
            raise SystemExit(f"{what}: what was written is gone")

    def refused(what, words, *command, inside=()):
        done = subprocess.run([*inside, OM, "--repo", REPO, *command], capture_output=True, text=True)
        if done.returncode != 1 or words not in done.stderr or done.stderr.count("\n") != 1:
            raise SystemExit(f"{what}: {done}")

    def mounted(inside=()):
        """A writable mount with a file, perhaps in the namespace of another process; returns its ID."""
        before = set(states())
        with LowDeviceNumbers():
            subprocess.run([*inside, OM, "--repo", REPO, "image", "mount", "test/mounts", "--writable", "--target", target],
                           check=True, stdout=subprocess.DEVNULL)
        subprocess.run([*inside, "sh", "-c", 'echo "$0" >"$1/new"', "written", target], check=True)
        (made,) = set(states()) - before
        known = json.loads((REPO / "mounts" / made / "record.json").read_text())
        if (old and known["mount_id"]) or not known["device"]:
            raise SystemExit(f"the record has {known}")
        return made

    def remount_and_remove(mount):
        expect(mount, "stopped", "a mount that nobody has")
        om("image", "mount", "--again", mount)
        if (target / "new").read_text() != "written\n":
            raise SystemExit("mounted again, it has not what was written")
        expect(mount, "alive", "a mount that was mounted again")
        om("image", "unmount", target)
        expect(mount, None, "a mount that was unmounted")

    # An administrator.
    mount = mounted()
    refused("a second mount", "mounted already", "image", "mount", "test/mounts", "--target", f"{target}/../target/")
    subprocess.run(["umount", target], check=True)
    expect(mount, "stopped", "a mount that was unmounted by hand")
    refused("to remove an image whose changes are kept", "in use", "image", "remove", "test/mounts")
    refused("to unmount what is stopped by its image", mount, "image", "unmount", "test/mounts")
    made = om("image", "commit", mount, "--tag", "test/kept")
    if made == image:
        raise SystemExit("the commit of a stopped mount is the image itself")
    remount_and_remove(mount)

    mount = mounted()
    subprocess.run(["umount", target], check=True)
    om("image", "unmount", mount[:12])
    expect(mount, None, "a stopped mount that was removed")

    # A process that is inside, after umount -l.
    mount = mounted()
    inside = subprocess.Popen(["cat"], cwd=target, stdin=subprocess.PIPE)
    subprocess.run(["umount", "-l", target], check=True)
    expect(mount, "alive", "a mount with a process inside")
    refused("to unmount what a process holds", "not visible", "image", "unmount", mount)
    refused("to mount it again", "alive", "image", "mount", "--again", mount)
    inside.communicate()
    remount_and_remove(mount)

    # A mount namespace: held by a process, by a bind mount of its file, by nothing.
    handle = place / "namespace"
    handle.touch()
    for bound in (False, True):
        holder = subprocess.Popen(["unshare", "-m", "--propagation", "private", "sh", "-c", "echo; exec cat"],
                                  stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        holder.stdout.readline()
        mount = mounted(["nsenter", f"--mount=/proc/{holder.pid}/ns/mnt"])
        if (target / "new").exists():
            raise SystemExit("the mount of another namespace shows here")
        expect(mount, "alive", "a mount of another namespace")
        refused("to unmount it from here", "not visible", "image", "unmount", mount)
        refused("to mount it again", "alive", "image", "mount", "--again", mount)
        refused("to remove its image", "in use", "image", "remove", "test/mounts")
        if bound:
            subprocess.run(["mount", "--bind", f"/proc/{holder.pid}/ns/mnt", handle], check=True)
        holder.communicate()
        if bound:
            expect(mount, "alive", "a mount of a namespace that only a file holds")
            subprocess.run(["umount", handle], check=True)
        remount_and_remove(mount)

    # A container, with a copy of the mount in its namespace: it is another mount there.
    mount = mounted()
    container = ["unshare", "-m", "--propagation", "private"]
    there = subprocess.run([*container, OM, "--repo", REPO, "--json", "image", "mounts"], check=True, capture_output=True)
    if [row["state"] for row in json.loads(there.stdout)] != ["alive"]:
        raise SystemExit(f"seen from a container: {there}")
    for command in (["image", "unmount", mount], ["image", "mount", "--again", mount]):
        refused("from a container", "alive" if "--again" in command else "not visible", *command, inside=container)
    refused("at its place in a container", "mounted already", "image", "mount", "test/mounts", "--target", target, inside=container)
    expect(mount, "alive", "a mount that a container could not unmount")
    # As long as a namespace has the copy, its upper is in use.
    holder = subprocess.Popen([*container, "sh", "-c", "echo; exec cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    holder.stdout.readline()
    refused("to unmount what another namespace has a copy of", "still holds it", "image", "unmount", mount)
    expect(mount, "alive", "a mount of which only a copy is left")
    holder.communicate()
    remount_and_remove(mount)

    # Something else on top.
    mount = mounted()
    subprocess.run(["mount", "-t", "tmpfs", "strange", target], check=True)
    refused("to unmount what is covered", "strange", "image", "unmount", mount)
    subprocess.run(["umount", target], check=True)
    om("image", "unmount", target)
    expect(mount, None, "a mount that was uncovered and unmounted")
    for name in ("test/kept", "test/mounts"):
        om("image", "remove", name)
    subprocess.run(["umount", place], check=True)
    if left_behind() or list((REPO / "mounts").iterdir()):
        raise SystemExit(f"left behind: {left_behind()}")


LIBC = ctypes.CDLL(None, use_errno=True)


def gc_speed():
    """On tmpfs. Copies are compared, so that both remove the same."""
    need("strace")
    rng = random.Random(1)
    memory = SCRATCH / "memory"
    memory.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", memory], check=True)
    repo = memory / "r"
    files = int(os.environ.get("FILES", 100))
    for i in range(100):
        layout = SCRATCH / "layout"
        make_layout(layout, small_layers(10, rng, files, 3000, 10 * i))
        subprocess.run([OM, "--repo", repo, "image", "import", f"oci:{layout}", *(["--tag", f"t{i}"] if i % 2 else [])],
                       check=True, stdout=subprocess.DEVNULL)
        shutil.rmtree(layout)
    subprocess.run([OM, "--repo", repo, "image", "remove", "--unused"], check=True, stdout=subprocess.DEVNULL)
    dry = json.loads(subprocess.run([OM, "--repo", repo, "--json", "gc", "--dry-run"], check=True, stdout=subprocess.PIPE).stdout)
    if counts(dry) != {"layers": 500, "diffs": 500, "manifests": 50, "blobs": 0}:
        raise SystemExit(f"{dry}")

    def timed(*command):
        started = time.monotonic()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        return time.monotonic() - started

    kept = {path.name for tag in (repo / "tags").iterdir()
            for path in [repo / "images/sha256" / json.loads(tag.read_text())["image"].removeprefix("sha256:")]}
    diffs = {diff.removeprefix("sha256:") for name in kept
             for diff in json.loads((repo / "images/sha256" / name / "config.json").read_text())["rootfs"]["diff_ids"]}
    ratios = []
    for _ in range(3):
        copy = memory / "copy"
        subprocess.run(["cp", "-a", repo, copy], check=True)
        ours = timed(OM, "--repo", copy, "gc")
        left = sum(1 for _ in (copy / "diffs/sha256").iterdir())
        shutil.rmtree(copy)
        subprocess.run(["cp", "-a", repo, copy], check=True)
        theirs = timed("rm", "-r", *(path for path in (copy / "diffs/sha256").iterdir() if path.name not in diffs))
        if left != 500 or sum(1 for _ in (copy / "diffs/sha256").iterdir()) != 500:
            raise SystemExit("they do not remove the same")
        shutil.rmtree(copy)
        ratios.append(ours / theirs)
        print(f"om gc {ours:.3f} s, rm -r {theirs:.3f} s: {ratios[-1]:.2f}", flush=True)
    shutil.rmtree(repo)

    # How long the lock is held, with 10,000 layers that go, in chains of ten: between a lock that was had and what gives it up.
    subprocess.run([OM, "--repo", repo, "gc"], check=True, stdout=subprocess.DEVNULL)
    (repo / "layers/sha256").mkdir(mode=0o700)
    (repo / "diffs/sha256").mkdir(mode=0o700)
    for i in range(1000):
        chain = None
        for k in range(10):
            diff = "sha256:" + hashlib.sha256(f"{i} {k}".encode()).hexdigest()
            parent, chain = chain, diff if chain is None else "sha256:" + hashlib.sha256(f"{chain} {diff}".encode()).hexdigest()
            folder = repo / "layers/sha256" / chain.removeprefix("sha256:")
            folder.mkdir()
            (folder / "layer.json").write_text(json.dumps({"diff_id": diff, "parent": parent}))
            (repo / "diffs/sha256" / diff.removeprefix("sha256:")).mkdir()
    waits = []
    child = subprocess.Popen([OM, "--repo", repo, "--json", "gc"], stdout=subprocess.PIPE, text=True)
    lock = os.open(repo / "repository.lock", os.O_RDWR)
    while child.poll() is None:  # as those who import: through the turnstile, and again after a millisecond, two, up to twenty
        started, pause = time.monotonic(), 0.001
        while not shared_lock(lock):
            lock_bytes(lock, fcntl.F_RDLCK, 3, 1)
            time.sleep(pause)
            pause = min(0.02, 2 * pause)
        waits.append(time.monotonic() - started)
        lock_bytes(lock, fcntl.F_UNLCK, 0, 0)
    report = json.loads(child.communicate()[0])
    if counts(report) != {"layers": 10000, "diffs": 10000, "manifests": 0, "blobs": 0}:
        raise SystemExit(f"{report}")
    print(f"with 10,000 layers: {len(waits)} shared locks beside, the longest wait {1000 * max(waits):.1f} ms", flush=True)
    if min(ratios) > 1.2 or max(waits) > 0.05:
        raise SystemExit("too slow")


def lock_bytes(fd, kind, first, count):
    """As fcntl(2) with an open-file-description lock: 64-bit Linux has the struct so."""
    request = struct.pack("hhqqi4x", kind, os.SEEK_SET, first, count, 0)
    try:
        fcntl.fcntl(fd, 37, request)  # F_OFD_SETLK
        return True
    except BlockingIOError:
        return False


def shared_lock(fd):
    if not lock_bytes(fd, fcntl.F_RDLCK, 1, 1):
        return False
    have = lock_bytes(fd, fcntl.F_RDLCK, 0, 1)
    lock_bytes(fd, fcntl.F_UNLCK, 1, 1)
    return have


PARTS = {
    "bad": bad,
    "check": check,
    "commit": commit,
    "create": create,
    "crun": crun,
    "dpkg": dpkg,
    "export": export,
    "files": files,
    "forms": forms,
    "gc": gc,
    "gc-speed": gc_speed,
    "images": images,
    "keep": keep,
    "kill": kill,
    "layer": layer,
    "limits": limits,
    "merged": merged,
    "mounts": mounts,
    "owner": owner,
    "repair": repair,
    "round-trips": round_trips,
    "streams": streams,
    "two": two,
    "umoci": umoci,
    "virtual": as_tars,
    "virtual-all": tars_of_all,
}
if os.geteuid() != 0:
    skip("mounting needs root")
try:
    PARTS[sys.argv[2]]()
finally:
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as mounts:
        for line in reversed(mounts.readlines()):
            if str(SCRATCH) in line.split()[4]:
                subprocess.run(["umount", "-l", line.split()[4]], check=False)
    shutil.rmtree(SCRATCH, ignore_errors=True)
