#!/usr/bin/env python3
"""Cuts the power: copies the file system at a moment, and looks under another boot ID at what is left.

    powercut.py OM small            the cases below with `batch` on ext4, each with its control
    powercut.py OM long SECONDS     all cases on ext4, xfs and btrfs, then copies at random moments of random commands

After a cut, what was reported done is there and equal to its truth, the rest absent or whole; `om check` is clean or names
only what an import without syncing lost; and then every image can be imported. In the control of a case, the sync calls
of its last command do nothing: it has to fail, or the case shows nothing.

    SEED=N     of the random part

Exit status 77: cannot run here."""
import hashlib
import json
import os
import pathlib
import random
import shutil
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
import made_images
from disks import FILE_SYSTEMS, disk, hold_write_back, make_carrier, usable, without_sync
from history import history
from running import Problem, need, om, scratch

PROGRAM = sys.argv[1]
SEED = int(os.environ.get("SEED", time.time_ns() % 1000000))
TAGS = [f"example.org/test/{word}:1" for word in ("one", "two")]
COPIES = 10  # of a walk, at random moments


class machine:
    """A repository on a disk, the commands given to it, and what they reported."""

    def __init__(self, carrier, kind, stock):
        self.disk, self.stock, self.history = disk(carrier, kind, "machine"), stock, history()
        self.truths = {image.id: image.truth for image in stock.images}
        self.parts = {image.id: {image.id, *image.diffs, *image.chains} for image in stock.images}
        self.unsynced = []  # (since when, what may be lost)
        self.mounts = []  # (since when, ID) of writable mounts
        self.disk.format()
        self.disk.mount()
        (self.disk.place / "there").mkdir()
        self.disk.sync()  # what is above is made by om
        self.om = om(PROGRAM, self.disk.place / "there/not/yet")

    def remove(self):
        self.disk.remove()

    def settle(self):
        self.disk.sync()

    def do(self, words, values, parts=(), durability="batch", synced=True, promised=True):
        started = time.monotonic()
        begun = self.history.begin(values, started)
        if durability == "none":
            # Of a tag that cannot be read only its file is known.
            files = {hashlib.sha256(name.encode()).hexdigest() + ".json" for kind, name in values if kind == "tag"}
            self.unsynced.append((started, set(parts) | {k[1] for k in values} | files))
        try:
            return self.om(*words, durability=durability, preexec_fn=None if synced else without_sync)
        finally:
            self.history.end(begun, "done" if promised and durability != "none" else "unknown", time.monotonic())

    def import_image(self, image, options=(), **how):
        return self.do(["image", "import", *options, self.stock.source(image)], {("image", image.id): True},
                       self.parts[image.id], **how)

    def import_together(self, images, durability="batch", synced=True):
        started = time.monotonic()
        running = [(i, self.om.start("image", "import", self.stock.source(i), durability=durability,
                                     preexec_fn=None if synced else without_sync)) for i in images]
        for image, child in running:
            begun = self.history.begin({("image", image.id): True}, started)
            problem = child.communicate()[1]
            self.history.end(begun, "done" if durability != "none" else "unknown", time.monotonic())
            if durability == "none":
                self.unsynced.append((started, self.parts[image.id]))
            if child.returncode != 0:
                raise Problem(f"an import beside another one: {problem.strip()}")

    def tag(self, name, image, **how):
        # The tag is durable with all that is reached from it, whoever made that.
        self.do(["tag", "add", name, image], {("tag", name): image, ("image", image): True}, self.parts[image], **how)

    def remove_tag(self, name, **how):
        self.do(["tag", "remove", name], {("tag", name): None}, promised=False, **how)

    def remove_image(self, image, **how):
        # That a removal lasts is not promised: an image may come back, but not without its layers.
        names = {key: None for key in self.history.keys() if key[0] == "tag" and image in self.possible(key)}
        self.do(["image", "remove", image], {("image", image): None, **names}, promised=False, **how)

    def mount(self, image, words=("--writable",), **how):
        target = self.do(["image", "mount", image, *words], {}, **how)
        self.mounts.append((time.monotonic(), pathlib.Path(target).parent.name))
        return pathlib.Path(target)

    def unmount(self, target):
        self.mounts = [m for m in self.mounts if m[1] != target.parent.name]
        self.om("image", "unmount", target)

    def commit(self, target, below, durability="batch", synced=True):
        truth, started = made_images.listing(target), time.monotonic()
        try:
            made = self.om("image", "commit", target, durability=durability, preexec_fn=None if synced else without_sync)
        finally:
            ended = time.monotonic()
        layers = json.loads(self.om("--json", "image", "list-layers", made))
        self.truths[made] = truth
        self.parts[made] = {made, *(row[k] for row in layers for k in ("chain_id", "diff_id"))}
        self.history.end(self.history.begin({("image", made): True}, started),
                         "done" if durability != "none" else "unknown", ended)
        if durability == "none":
            self.unsynced.append((started, self.parts[made] - self.parts[below] | {made}))
        return made

    def create_layer(self, image, **how):
        return self.do(["layer", "create", self.stock.layer(image)], {("layer", image.chains[0]): True},
                       {image.chains[0], image.diffs[0]}, **how)

    def possible(self, key):
        return self.history.possible(key, time.monotonic())


class stock:
    """The images and the archives they come from."""

    def __init__(self, place, count, files, size):
        place.mkdir()
        self.place, self.images = place, made_images.family(count, files=files, size=size)
        for image in self.images:
            made_images.write_archive(place / image.name, [image])
            (place / f"{image.name}.layer").write_bytes(image.layers[0])

    def source(self, image):
        return f"docker-archive:{self.place / image.name}"

    def layer(self, image):
        return self.place / f"{image.name}.layer"


# --- after the cut


def need_that(holds, what):
    if not holds:
        raise Problem(what)


def mount_and_compare(there, moment, image, truth):
    """What is wrong with the mounted image, or nothing."""
    done = there.run("image", "mount", image)
    if done.returncode != 0:
        return done.stderr.strip()
    target = done.stdout.strip()
    try:
        different = made_images.differences(truth, made_images.listing(moment.root + target))
        return f"{len(different)} paths differ: {different[:3]}" if different else None
    except OSError as problem:
        return str(problem)
    finally:
        there("image", "unmount", target)


def check(there):
    done = there.run("--json", "check")
    try:
        return json.loads(done.stdout)["findings"]
    except ValueError:
        raise Problem(f"om check: status {done.returncode}, {done.stderr.strip()}") from None


def look(of, moment, earliest, latest):
    """Everything that has to hold in a copy that was made between the two times."""
    there = om(PROGRAM, of.om.repository, moment.prefix)
    images = {row["id"] for row in json.loads(there("--json", "image", "list"))}
    tags = {row["name"]: row["image"] for row in json.loads(there("--json", "tag", "list"))}
    layers = {row["chain_id"] for row in json.loads(there("--json", "layer", "list"))}
    found = {("tag", name): image for name, image in tags.items()}
    found |= {("image", image): True for image in images} | {("layer", chain): True for chain in layers}
    sure = set()
    for key in of.history.keys():
        may_be = of.history.possible(key, earliest, latest)
        need_that(found.get(key) in may_be, f"{key[0]} {key[1]}: {found.get(key) or 'not there'}, not {may_be}")
        if key[0] == "image" and may_be == {True}:
            sure |= of.parts[key[1]]
        if key[0] == "layer" and may_be == {True}:
            sure |= next({i.chains[0], i.diffs[0]} for i in of.stock.images if i.chains[0] == key[1])
    need_that(images <= of.truths.keys(), f"nobody made {images - of.truths.keys()}")

    may_be_lost = set().union(*(parts for since, parts in of.unsynced if since <= latest)) - sure
    findings = check(there)
    strange = [f for f in findings if f["object"] not in may_be_lost]
    need_that(not strange, f"om check finds {strange[:3]}")
    named = {f["object"] for f in findings}
    for image in sorted(images):
        wrong = mount_and_compare(there, moment, image, of.truths[image])
        need_that(wrong is None or of.parts[image] & may_be_lost, f"image {image}: {wrong}")
        need_that(wrong is None or of.parts[image] & named, f"image {image}: {wrong}, and om check does not name it")
    if of.om.knows("image", "mounts"):
        listed = there("--json", "image", "mounts")
        for since, mount in of.mounts:
            need_that(since >= earliest or mount in listed, f"mount {mount} is not listed")

    for image in of.stock.images:
        there("image", "import", of.stock.source(image))
        wrong = mount_and_compare(there, moment, image.id, image.truth)
        need_that(wrong is None, f"image {image.id}, imported again: {wrong}")
    imported = set().union(*(of.parts[i.id] for i in of.stock.images))
    left = [f for f in check(there) if f["object"] in imported or f["object"] not in may_be_lost]
    need_that(not left, f"after importing again om check finds {left[:3]}")


def cut_now(of):
    now = time.monotonic()
    moment = of.disk.copy()
    try:
        with moment:
            look(of, moment, now, now)
    finally:
        moment.remove()


# --- the cases: the last command of each is that which is promised, and whose sync calls do nothing in the control


def an_import(m, last):
    """an import into a new repository"""
    m.import_image(m.stock.images[0], **last)


def an_import_beside(m, last):
    """an import of an image that shares layers with one that is there"""
    m.import_image(m.stock.images[0])
    m.settle()
    m.import_image(m.stock.images[2], **last)


def an_import_after_none(m, last):
    """an import after the same with none"""
    m.import_image(m.stock.images[0], durability="none")
    m.import_image(m.stock.images[0], **last)


def an_import_after_parts_with_none(m, last):
    """an import whose first layers are there from an import with none"""
    m.import_image(m.stock.images[0], durability="none")
    m.import_image(m.stock.images[2], **last)


def a_layer_after_none(m, last):
    """an import whose first layer is there from a layer made with none"""
    m.create_layer(m.stock.images[0], durability="none")
    m.import_image(m.stock.images[1], **last)


def two_imports(m, last):
    """two imports at once that share layers"""
    m.import_together(m.stock.images[:2], **last)


def kept_blobs(m, last):
    """an import that keeps its blobs"""
    m.import_image(m.stock.images[0], ["--keep-blobs"], **last)


def a_layer(m, last):
    """a layer made of a tar"""
    m.create_layer(m.stock.images[0], **last)


def a_tag(m, last):
    """a tag"""
    m.import_image(m.stock.images[0])
    m.settle()
    m.tag(TAGS[0], m.stock.images[0].id, **last)


def a_tag_after_none(m, last):
    """a tag of an image imported with none"""
    m.import_image(m.stock.images[0], durability="none")
    m.tag(TAGS[0], m.stock.images[0].id, **last)


def a_tag_moved(m, last):
    """a tag moved to another image"""
    for image in m.stock.images[:2]:
        m.import_image(image)
    m.tag(TAGS[0], m.stock.images[0].id)
    m.settle()
    m.tag(TAGS[0], m.stock.images[1].id, **last)


def a_commit(m, last):
    """a commit"""
    m.import_image(m.stock.images[0])
    target = m.mount(m.stock.images[0].id)
    m.settle()
    (target / "etc/written").write_bytes(made_images.noise("written", 30000))
    (target / "etc/kept").unlink()
    m.commit(target, m.stock.images[0].id, **last)


def a_commit_after_none(m, last):
    """a commit on an image imported with none"""
    m.import_image(m.stock.images[0], durability="none")
    target = m.mount(m.stock.images[0].id)
    (target / "etc/written").write_bytes(made_images.noise("written", 30000))
    m.commit(target, m.stock.images[0].id, **last)


def a_mount(m, last):
    """a writable mount"""
    m.import_image(m.stock.images[0])
    m.settle()
    m.mount(m.stock.images[0].id, **last)


def an_unsynced_import(m, last):
    """an import with none"""
    m.import_image(m.stock.images[0], **{**last, "durability": "none"})


def an_unsynced_import_beside(m, last):
    """an import with none beside one that is durable"""
    m.import_image(m.stock.images[0])
    m.import_image(m.stock.images[2], **{**last, "durability": "none"})


def a_removal(m, last):
    """an image removed"""
    for image in m.stock.images[:2]:
        m.import_image(image)
    m.settle()
    m.remove_image(m.stock.images[0].id, **last)


def a_removal_and_an_import(m, last):
    """an image removed and imported again"""
    m.import_image(m.stock.images[0])
    m.remove_image(m.stock.images[0].id)
    m.settle()
    m.import_image(m.stock.images[0], **last)


def a_collection(m, last):
    """an image removed and its layers collected"""
    for image in m.stock.images[:2]:
        m.import_image(image)
    m.settle()
    m.remove_image(m.stock.images[0].id)
    m.do(["gc"], {}, **last)


PROMISED = [an_import, an_import_beside, an_import_after_none, an_import_after_parts_with_none, a_layer_after_none, two_imports,
            kept_blobs, a_layer, a_tag, a_tag_after_none, a_tag_moved, a_commit, a_commit_after_none, a_removal_and_an_import]
# What of these would be lost without syncing is promised by nobody: they have no control.
HARMLESS = [an_unsynced_import, an_unsynced_import_beside, a_removal]


class tally:
    def __init__(self):
        self.passed, self.failures = 0, []

    def count(self, name, problem):
        if problem is None:
            self.passed += 1
        else:
            self.failures.append(name)
            print(f"FAILED: {name}: {problem}", flush=True)


def outcome(case, carrier, kind, goods, last):
    """What goes wrong in the case, or nothing."""
    m = machine(carrier, kind, goods)
    try:
        case(m, last)
        cut_now(m)
        return None
    except Problem as problem:
        return problem
    finally:
        m.remove()


def fixed(kind, durabilities, carrier, goods, result):
    started, with_control, without = time.monotonic(), list(PROMISED), list(HARMLESS)
    probe = om(PROGRAM, carrier / "unused")
    (with_control if probe.knows("image", "mounts") else without).append(a_mount)
    if probe.knows("gc"):
        without.append(a_collection)
    for durability in durabilities:
        for case in with_control + without:
            name = f"{kind}, {durability}, {case.__doc__}"
            last = {"durability": durability, "synced": True}
            result.count(name, outcome(case, carrier, kind, goods, last))
            if case in with_control:
                fails = outcome(case, carrier, kind, goods, {**last, "synced": False})
                result.count(name + ", control", None if fails else "it holds also when no sync call does anything")
    print(f"{kind}: {len(with_control) + len(without)} cases with {' and '.join(durabilities)}, "
          f"{time.monotonic() - started:.0f} s", flush=True)


# --- random moments


class copier(threading.Thread):
    """Copies the disk at random moments until it is told to end."""

    def __init__(self, of, rng, most):
        super().__init__(daemon=True)
        self.of, self.rng, self.most, self.ended, self.copies, self.problem = of, rng, most, threading.Event(), [], None

    def run(self):
        try:
            while len(self.copies) < self.most and not self.ended.wait(self.rng.random() * 0.3):
                earliest = time.monotonic()
                self.copies.append((earliest, self.of.disk.copy(), time.monotonic()))
        except OSError as problem:
            self.problem = problem

    def end(self):
        self.ended.set()
        self.join()
        if self.problem:
            raise self.problem


def step(m, rng):
    """One random command."""
    how = {"durability": rng.choice(["none", "batch", "batch", "full"])}
    there = [i.id for i in m.stock.images if i.id in m.there]
    kind = rng.choice(["import", "import", "together"] + (["tag", "remove", "commit", "untag"] if there else []) +
                      (["gc"] if m.om.knows("gc") else []))
    m.trace.append(f"{kind} {how['durability']}")
    if kind == "import":
        image = rng.choice(m.stock.images)
        m.trace[-1] += f" {image.id}"
        m.import_image(image, ["--keep-blobs"] if rng.random() < 0.2 else [], **how)
        m.there.add(image.id)
    elif kind == "together":
        images = rng.sample(m.stock.images, 2)
        m.trace[-1] += f" {images[0].id} {images[1].id}"
        m.import_together(images, **how)
        m.there |= {i.id for i in images}
    elif kind == "tag":
        name, image = rng.choice(TAGS), rng.choice(there)
        m.trace[-1] += f" {name} {image}"
        m.tag(name, image, **how)
    elif kind == "untag":
        for tag in json.loads(m.om("--json", "tag", "list"))[:1]:
            m.trace[-1] += f" {tag['name']}"
            m.remove_tag(tag["name"], **how)
    elif kind == "remove":
        image = rng.choice(there)
        m.trace[-1] += f" {image}"
        m.remove_image(image, **how)
        m.there.discard(image)
    elif kind == "commit":
        image = rng.choice(there)
        target = m.mount(image)
        for number in range(rng.randrange(1, 8)):
            (target / f"etc/written{number}").write_bytes(rng.randbytes(rng.randrange(1, 200000)))
        m.trace[-1] += f" on {image}: {m.commit(target, image, **how)}"
        m.unmount(target)
    elif kind == "gc":
        m.do(["gc"], {}, **how)


def walk(kind, seed, carrier, goods, result):
    """Random commands, copies after each and meanwhile; then each copy is looked at."""
    rng, m, name, copies = random.Random(seed), machine(carrier, kind, goods), f"{kind}, walk {seed}", []
    m.there, m.trace = set(), []
    meanwhile = copier(m, random.Random(seed + 1), COPIES)
    try:
        meanwhile.start()
        for _ in range(rng.randrange(4, 16)):
            step(m, rng)
            now = time.monotonic()
            copies.append((now, m.disk.copy(), now, len(m.trace)))
        meanwhile.end()
        copies += [(earliest, copy, latest, "meanwhile") for earliest, copy, latest in meanwhile.copies]
        for earliest, copy, latest, when in copies:
            with copy:
                look(m, copy, earliest, latest)
            result.count(name, None)
    except Problem as problem:
        when = f", copy {when}" if not meanwhile.is_alive() and copies else ""
        result.count(name + when, problem)
        print("".join(f"    {number}. {line}\n" for number, line in enumerate(m.trace, 1)), end="", flush=True)
    finally:
        meanwhile.end()
        m.remove()
        for copy in carrier.glob("machine.*"):
            if copy.is_file():
                copy.unlink()


def main():
    need("unshare", "nsenter", "mountpoint", "mkfs.ext4")
    mode, seconds = sys.argv[2], float(sys.argv[3]) if len(sys.argv) > 3 else 0
    started = time.monotonic()
    print(f"SEED={SEED}", flush=True)
    place = scratch("powercut")
    carrier = make_carrier(place / "carrier")
    goods, result = stock(place / "stock", 3, 24, 20000), tally()
    kinds = []
    for kind in ["ext4"] if mode == "small" else FILE_SYSTEMS:
        why = usable(kind, carrier)
        if why is None:
            kinds.append(kind)
        else:
            print(f"PARTIAL: no {kind}: {why}")
    hold_write_back()
    for kind in kinds:
        fixed(kind, ["batch"] if mode == "small" else ["batch", "full"], carrier, goods, result)
    seed = SEED
    shutil.rmtree(place / "stock")
    goods = stock(place / "stock", 4, 60, 60000)
    while kinds and mode == "long" and time.monotonic() - started < seconds:
        walk(kinds[seed % len(kinds)], seed, carrier, goods, result)
        seed += 1
    print(f"{result.passed} times right, {len(result.failures)} times wrong, {time.monotonic() - started:.0f} s")
    if result.failures or not result.passed:
        raise SystemExit(1)


main()
