#!/usr/bin/env python3
"""A disk that cannot be written for a while: what the kernel says once has to reach everyone whom it concerns.

    eio.py OM STREAM_IMPORTS

Whoever reports success afterwards has to have its image on the disk, whole. Exit status 77: cannot run here."""
import os
import pathlib
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
import made_images
from disks import failing_disk, hold_write_back
from running import Problem, need, om, scratch

PROGRAM, STREAM_IMPORTS = sys.argv[1], str(pathlib.Path(sys.argv[2]).resolve())
IMAGES = made_images.family(1, salt="a") + made_images.family(1, salt="b")
TIMEOUT = 60


def look(disk, there, images):
    """The images, whose imports reported success, as they are on the disk."""
    disk.again()
    for image in images:
        target = there("image", "mount", image.id)
        try:
            different = made_images.differences(image.truth, made_images.listing(target))
        except OSError as problem:
            raise Problem(f"{problem}") from None
        finally:
            there("image", "unmount", target)
        if different:
            raise Problem(f"success was reported, and {len(different)} paths are damaged: {different[:3]}")
    there("check")


def told_to_another(disk, place):
    """an import after the same with none, whose error a sync by somebody else was told"""
    there = om(PROGRAM, disk.place / "repository")
    there("image", "import", f"docker-archive:{place}/0", durability="none")
    disk.fill()
    if subprocess.run(["sync", "-f", disk.place], capture_output=True, check=False).returncode == 0:
        raise RuntimeError("the full disk takes what is written")
    disk.relieve()
    for attempt in range(1, 200):  # as people do: what a failed attempt was told, the next one is not
        done = there.run("image", "import", f"docker-archive:{place}/0")
        if done.returncode == 0:
            try:
                look(disk, there, IMAGES[:1])
            except Problem as problem:
                raise Problem(f"at attempt {attempt}: {problem}") from None
            return f"done at attempt {attempt}"
    raise Problem(f"the disk can be written again, and the import cannot be done: {done.stderr.strip()}")


def feed(pipe, data):
    """Returns when but for a pipe's buffer all of it was read."""
    while data:
        data = data[pipe.write(data):]


def two_at_once(disk, place):
    """two imports at once in one process, the first of which is told the error of both"""
    repository, pipes = disk.place / "repository", [place / f"pipe{number}" for number in range(2)]
    archives = [(place / str(number)).read_bytes() for number in range(2)]
    for pipe in pipes:
        os.mkfifo(pipe)
    child = subprocess.Popen([STREAM_IMPORTS, repository, *pipes], stdout=subprocess.PIPE, text=True)
    try:
        first, second = (open(pipe, "wb", buffering=0) for pipe in pipes)
        half = len(IMAGES[1].layers[0]) + (128 << 10)  # the first layer has gone through
        feed(second, archives[1][:half])
        disk.fill()
        feed(first, archives[0])
        first.close()
        said = [child.stdout.readline().strip()]
        disk.relieve()
        feed(second, archives[1][half:])
        second.close()
        said += child.communicate(timeout=TIMEOUT)[0].splitlines()
    finally:
        child.kill()
        child.wait()
        for pipe in pipes:
            pipe.unlink()
    look(disk, om(PROGRAM, repository), [i for i in IMAGES if any(i.id in line for line in said)])
    return "; ".join(line.partition(" ")[2] for line in said)


def main():
    need("mkfs.xfs", "xfs_db", "fallocate")
    place, failures = scratch("eio"), 0
    for number, image in enumerate(IMAGES):
        made_images.write_archive(place / str(number), [image])
    hold_write_back()
    for case in (told_to_another, two_at_once):
        disk = failing_disk(place)
        try:
            print(f"{case.__doc__}: {case(disk, place)}")
        except Problem as problem:
            print(f"FAILED: {case.__doc__}: {problem}")
            failures += 1
        finally:
            disk.remove()
    if failures:
        raise SystemExit(1)


main()
