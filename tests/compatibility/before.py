#!/usr/bin/env python3
"""A repository of the version before: opened, mounted and written by this one, and then refused by that one.

    before.py OLD-OM NEW-OM

Needs root and overlayfs. OLD-OM is om of the commit in `.ci/nightly`.
"""
import hashlib
import io
import json
import os
import pathlib
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile

OLD, NEW = (os.path.abspath(path) for path in sys.argv[1:3])
failures = 0


def check(what, good):
    global failures
    print(f"{'ok' if good else 'FAILED'}: {what}", flush=True)
    failures += not good


def om(program, *arguments, fails=False):
    result = subprocess.run([program, "--repo", repository, *arguments], capture_output=True, text=True, check=False)
    if (result.returncode != 0) != fails:
        check(f"{pathlib.Path(program).name} {' '.join(arguments)}: {result.stderr.strip()}", False)
    return (result.stderr if fails else result.stdout).strip()


def add(archive, name, content):
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))


def make_archive(file):
    """A docker archive of one layer with one file."""
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as archive:
        add(archive, "file", b"text\n")
    diff = "sha256:" + hashlib.sha256(layer.getvalue()).hexdigest()
    config = json.dumps({"architecture": platform.machine().replace("x86_64", "amd64").replace("aarch64", "arm64"), "os": "linux",
                         "config": {}, "rootfs": {"type": "layers", "diff_ids": [diff]}}).encode()
    name = hashlib.sha256(config).hexdigest() + ".json"
    with tarfile.open(file, mode="w") as archive:
        add(archive, "layer.tar", layer.getvalue())
        add(archive, name, config)
        add(archive, "manifest.json", json.dumps([{"Config": name, "RepoTags": None, "Layers": ["layer.tar"]}]).encode())


def features():
    return json.loads((pathlib.Path(repository) / "repository.json").read_text())["features"]["read_only_compatible"]


scratch = pathlib.Path(tempfile.mkdtemp(prefix="overmount-before"))
repository = str(scratch / "repository")
try:
    make_archive(scratch / "image.tar")
    image = om(OLD, "image", "import", f"docker-archive:{scratch / 'image.tar'}", "--tag", "before")
    stays = om(OLD, "image", "mount", "before", "--writable")
    (pathlib.Path(stays) / "written").write_text("kept\n")

    check("its images are listed", image.removeprefix("sha256:")[:12] in om(NEW, "image", "list"))
    check("nothing was noted by looking", features() == [])
    check("its running mount is recognised", stays in om(NEW, "image", "mounts"))
    shown = om(NEW, "image", "mount", "before")
    check("its images mount", (pathlib.Path(shown) / "file").read_text() == "text\n")
    om(NEW, "image", "unmount", shown)
    check("the first write notes the feature", features() != [])

    # An administrator's umount: what was written stays, and the version before does not sweep it.
    subprocess.run(["umount", stays], check=True)
    upper = pathlib.Path(stays).parent / "upper/written"
    check("the version before refuses to write", "feature" in om(OLD, "tag", "add", "other", "before", fails=True))
    check("the version before still reads", image.removeprefix("sha256:")[:12] in om(OLD, "image", "list"))
    check("the version before does not delete what was written", upper.read_text() == "kept\n")
    om(NEW, "image", "list")
    check("nor does this one", upper.read_text() == "kept\n")
    made = om(NEW, "image", "commit", stays, "--tag", "after")
    check("what was written becomes an image", made.startswith("sha256:"))
    check("a check finds nothing", "whole" in om(NEW, "check"))
finally:
    for line in reversed(pathlib.Path("/proc/self/mountinfo").read_text().splitlines()):
        target = line.split(" ")[4]
        if target.startswith(str(scratch)):
            subprocess.run(["umount", "-l", target], check=False)
    shutil.rmtree(scratch)
sys.exit(1 if failures else 0)
