#!/usr/bin/env python3
"""The images of one import appear together, with their tags, or none does.

    atomic.py OM [IMPORTS]     12 imports by default

A reader lists in a loop beside imports of archives with three images with three tags each, the importer held up at its
renames or the reader at what it reads. Then the importer is killed at each of its renames in turn, in a repository where
the tags are there for another image.

Exit status 77: cannot run here."""
import json
import os
import pathlib
import shutil
import subprocess
import sys
import threading

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
import made_images
from running import Problem, need, om, scratch

PROGRAM = sys.argv[1]
IMPORTS = int(sys.argv[2]) if len(sys.argv) > 2 else 12

# Counts the renames of all threads, which strace does thread by thread.
SHIM = r"""
#define _GNU_SOURCE
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>
static atomic_int renames;
static long value(const char* name)
{
    const char* text = getenv(name);
    return text ? atol(text) : 0;
}
static void at_a_rename(void)
{
    if (++renames == value("KILL_AT_RENAME"))
        kill(getpid(), SIGKILL);
    if (value("HOLD_RENAMES"))
        usleep(value("HOLD_RENAMES"));
}
int renameat(int from, const char* old, int to, const char* name)
{
    at_a_rename();
    return syscall(SYS_renameat2, from, old, to, name, 0);
}
int renameat2(int from, const char* old, int to, const char* name, unsigned flags)
{
    at_a_rename();
    return syscall(SYS_renameat2, from, old, to, name, flags);
}
int rename(const char* old, const char* name)
{
    return renameat(-100, old, -100, name);
}
int openat(int directory, const char* name, int flags, ...)
{
    va_list more;
    va_start(more, flags);
    const int mode = va_arg(more, int);
    va_end(more);
    if (value("HOLD_OPENS"))
        usleep(value("HOLD_OPENS"));
    return syscall(SYS_openat, directory, name, flags, mode);
}
int openat64(int directory, const char* name, int flags, ...) __attribute__((alias("openat")));
"""


class group:
    """Three images and their archive; nine tags."""

    def __init__(self, place, number, tags):
        self.images = made_images.family(3, salt=f"g{number}", files=2, size=3000)
        names = [[f"example.org/{tags}/image{i}:{n}" for n in range(3)] for i in range(3)]
        self.tags = {name: image.id for image, mine in zip(self.images, names) for name in mine}
        self.archive = made_images.write_archive(
            place / f"archive{number}", self.images, lambda image: [n for n, i in self.tags.items() if i == image.id])

    @property
    def ids(self):
        return {image.id for image in self.images}


def seen(there, **more):
    """The images that are listed, and the tags with what they stand for."""
    rows = json.loads(there("--json", "image", "list", **more))
    return {row["id"] for row in rows}, {tag: row["id"] for row in rows for tag in row["tags"]}


def need_all_or_none(of, images, tags, before):
    """`before`: the tags as they were."""
    mine = {name: tags.get(name) for name in of.tags}
    there = images & of.ids
    if not (there == of.ids and mine == of.tags) and not (not there and mine == before):
        new = sum(mine[name] == of.tags[name] for name in mine)
        raise Problem(f"{len(there)} of 3 images and {new} of 9 tags are there")


class reader(threading.Thread):
    """Lists until it is told to end."""

    def __init__(self, there, groups, environment):
        super().__init__(daemon=True)
        self.there, self.groups, self.environment = there, groups, environment
        self.ended, self.times, self.problems = threading.Event(), 0, []

    def run(self):
        try:
            while not self.ended.is_set():
                self.look()
                self.times += 1
        except (Problem, OSError) as problem:
            self.problems.append(str(problem))

    def look(self):
        # `om image list` reads the tags before the images: what came between has its images only.
        images, shown = seen(self.there, env=self.environment)
        tags = {row["name"] for row in json.loads(self.there("--json", "tag", "list", env=self.environment))}
        for one in self.groups:
            counts = len(images & one.ids), len(shown.keys() & one.tags.keys()), len(tags & one.tags.keys())
            if counts not in ((0, 0, 0), (0, 0, 9), (3, 0, 9), (3, 9, 9)):
                raise Problem("{} of 3 images are listed, with {} of 9 tags, and then {}".format(*counts))


def shimmed(place, **settings):
    return {**os.environ, "LD_PRELOAD": str(place / "shim.so"), **{key: str(value) for key, value in settings.items()}}


def listed(place, name, imports, importer, reading):
    there = om(PROGRAM, place / "repository")
    groups = [group(place, number, f"group{number}") for number in range(imports)]
    there("image", "list")
    beside = reader(there, groups, reading)
    beside.start()
    try:
        for one in groups:
            if beside.is_alive():
                there("image", "import", f"docker-archive:{one.archive}", env=importer)
    finally:
        beside.ended.set()
        beside.join()
    images, tags = seen(there)
    if not beside.problems:
        for one in groups:
            if not one.ids <= images or not one.tags.items() <= tags.items():
                raise Problem("an import that was reported is not there")
    shutil.rmtree(there.repository)
    if beside.problems:
        raise Problem(f"{name}, after {beside.times} listings: {beside.problems[0]}")
    print(f"{name}: listed {beside.times} times beside {imports} imports", flush=True)


def killed(place, name, words, stdin=None):
    """At each rename in turn; also where the tags are those of another image."""
    there, template = om(PROGRAM, place / "repository"), place / "template"
    old, new = group(place, "old", "killed"), group(place, "new", "killed")
    om(PROGRAM, template)("image", "import", f"docker-archive:{old.archive}")
    wrong, at = [], 0
    while True:
        at += 1
        shutil.rmtree(there.repository, ignore_errors=True)
        subprocess.run(["cp", "-a", template, there.repository], check=True)
        source = open(new.archive, "rb") if stdin else subprocess.DEVNULL
        done = subprocess.run(there.line([*words, *([] if stdin else [f"docker-archive:{new.archive}"])]), stdin=source,
                              capture_output=True, text=True, timeout=60, check=False, env=shimmed(place, KILL_AT_RENAME=at))
        if done.returncode == 0:
            break
        try:
            if done.returncode != -9:
                raise Problem(f"status {done.returncode}, {done.stderr.strip()}")
            images, tags = seen(there)
            need_all_or_none(new, images, tags, old.tags)
            there("check")
            there("image", "import", f"docker-archive:{new.archive}")
            images, tags = seen(there)
            if not new.ids <= images or not new.tags.items() <= tags.items():
                raise Problem("an import after that is not there")
            there("check")
        except Problem as problem:
            wrong.append(f"at rename {at}: {problem}")
    if at < 5:
        raise Problem(f"{name}: {at - 1} renames were seen, not those of an import")
    if wrong:
        raise Problem(f"{name}, wrong at {len(wrong)} of {at - 1} renames: " + "; ".join(wrong))
    print(f"{name}: killed at each of {at - 1} renames", flush=True)


def main():
    need("cc", "cp")
    place, failures = scratch("atomic"), 0
    (place / "shim.c").write_text(SHIM)
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", place / "shim.so", place / "shim.c"], check=True)
    few = max(2, IMPORTS // 4)
    for part in (lambda: listed(place, "a reader beside imports", IMPORTS, None, None),
                 lambda: listed(place, "a reader beside slow imports", few, shimmed(place, HOLD_RENAMES=10000), None),
                 lambda: listed(place, "a slow reader beside imports", IMPORTS, None, shimmed(place, HOLD_OPENS=300)),
                 lambda: killed(place, "an archive", ["image", "import"]),
                 lambda: killed(place, "a stream", ["image", "import", "-"], stdin=True)):
        try:
            part()
        except Problem as problem:
            print(f"FAILED: {problem}", flush=True)
            failures += 1
    if failures:
        raise SystemExit(1)


main()
