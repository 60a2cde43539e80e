#!/usr/bin/env python3
"""Cuts the power: copies the file system at a moment, and looks under another boot ID at what is left.

    powercut.py OM small            the cases below with `batch` on ext4, each with its control
    powercut.py OM long SECONDS     all cases on ext4, xfs and btrfs, then copies at random moments of random commands

After a cut, what was reported done is there and equal to its truth, the rest absent or whole; `om check` is clean or names
only what an import without syncing lost; and then every image can be imported, and pulled from a registry. In the control of a case, the sync calls
of its last command do nothing: it has to fail, or the case shows nothing.

    SEED=N      of the random part
    ONLY=REGEX  the cases whose functions are named so

Exit status 77: cannot run here."""
import gzip
import hashlib
import json
import os
import pathlib
import random
import re
import shutil
import sys
import threading
import time

for folder in ("support", "registry"):
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / folder))
import made_images
from disks import FILE_SYSTEMS, disk, hold_write_back, make_carrier, usable, without_sync
from history import history
from running import Problem, need, om, scratch
from scripted_registry import ALWAYS, MANIFEST, OCI, digest_of, document, scripted_registry

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
        self.pulls = []  # that are under way
        self.pulled = False
        self.disk.format()
        self.disk.mount()
        (self.disk.place / "there").mkdir()
        self.disk.sync()  # what is above is made by om
        self.om = om(PROGRAM, self.disk.place / "there/not/yet")

    def remove(self):
        self.kill_pulls()
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

    def values_of_pull(self, image, name=None):
        self.pulled = True
        return {("image", image.id): True, ("tag", name or self.stock.name(image)): image.id}

    def parts_of_pull(self, image):
        return self.parts[image.id] | {self.stock.manifests[image.id]}

    def pull(self, image, name=None, **how):
        """`name`: another one that the registry has for it."""
        return self.do(["image", "pull", name or self.stock.name(image)], self.values_of_pull(image, name), self.parts_of_pull(image), **how)

    def start_pull(self, image, durability="batch", synced=True):
        """A pull that is under way. Of what it will have done nothing is known before it has ended."""
        started, values = time.monotonic(), self.values_of_pull(image)
        child = self.om.start("image", "pull", self.stock.name(image), durability=durability,
                              preexec_fn=None if synced else without_sync)
        self.pulls.append((child, self.history.begin(values, started)))
        if durability == "none":
            files = {hashlib.sha256(self.stock.name(image).encode()).hexdigest() + ".json"}
            self.unsynced.append((started, self.parts_of_pull(image) | files))

    def await_early(self, image):
        """Until all but the last layer of a pull that stalls there are published."""
        places = [self.om.repository / "diffs" / diff.replace(":", "/") for diff in image.diffs[:-1]]
        until = time.monotonic() + 60
        while not all(place.exists() for place in places):
            if time.monotonic() > until:
                raise Problem("a pull publishes nothing early")
            time.sleep(0.05)

    def kill_pulls(self):
        while self.pulls:
            child, begun = self.pulls.pop()
            child.kill()
            child.communicate()
            self.history.end(begun, "unknown", time.monotonic())

    def end_pulls(self, durability="batch"):
        while self.pulls:
            child, begun = self.pulls.pop()
            problem = child.communicate()[1]
            self.history.end(begun, "done" if durability != "none" else "unknown", time.monotonic())
            if child.returncode != 0:
                raise Problem(f"a pull: {problem.strip()}")

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
        self.registry, self.manifests, self.stalls = scripted_registry(), {}, {}
        self.registry.expect("GET", "/v2/.*/blobs/.*", self.late, times=ALWAYS)
        self.registry.__enter__()
        for image in self.images:
            self.serve(image)

    def serve(self, image):
        layers = [gzip.compress(tar, 1, mtime=0) for tar in image.layers]
        manifest = {"schemaVersion": 2, "mediaType": MANIFEST,
                    "config": {"mediaType": OCI + "config.v1+json", "digest": image.id, "size": len(image.config)},
                    "layers": [{"mediaType": OCI + "layer.v1.tar+gzip", "digest": digest_of(layer), "size": len(layer)} for layer in layers]}
        served = document(json.dumps(manifest).encode(), MANIFEST, {image.id: image.config, **{digest_of(layer): layer for layer in layers}})
        self.manifests[image.id] = served.digest
        self.registry.serve(served, image.name, "1")
        self.registry.serve(served, "moving")

    def move(self, image):
        """A name that from now on is that of the image."""
        content = self.registry.content
        content["/v2/moving/manifests/1"] = content[f"/v2/moving/manifests/{self.manifests[image.id]}"]
        return f"{self.registry.host}/moving:1"

    def name(self, image):
        return f"{self.registry.host}/{image.name}:1"

    def stall(self, image, number, seconds):
        """The layer comes so late, the next time that somebody asks for it."""
        self.stalls[digest_of(gzip.compress(image.layers[number], 1, mtime=0))] = seconds

    def late(self, one):
        seconds = self.stalls.pop(one.path.rpartition("/")[2], None)
        return self.registry.usual(one).with_(stall=(10, seconds)) if seconds else None

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
        if key[0] == "tag" and any(key[1] == of.stock.name(i) and may_be == {i.id} for i in of.stock.images):
            sure.add(next(of.stock.manifests[i.id] for i in of.stock.images if key[1] == of.stock.name(i)))
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

    imported = set().union(*(of.parts[i.id] for i in of.stock.images))
    of.stock.stalls.clear()
    for image in of.stock.images if of.pulled else []:
        there("image", "pull", of.stock.name(image))
        wrong = mount_and_compare(there, moment, image.id, image.truth)
        need_that(wrong is None, f"image {image.id}, pulled again: {wrong}")
        imported.add(of.stock.manifests[image.id])
    for image in of.stock.images:
        there("image", "import", of.stock.source(image))
        wrong = mount_and_compare(there, moment, image.id, image.truth)
        need_that(wrong is None, f"image {image.id}, imported again: {wrong}")
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


EARLY = 5  # seconds: what has come by then is published while the rest still comes


def a_pull(m, last):
    """a pull into a new repository"""
    m.pull(m.stock.images[0], **last)


def a_pull_beside(m, last):
    """a pull of an image that shares layers with one that is there"""
    m.pull(m.stock.images[0])
    m.settle()
    m.pull(m.stock.images[2], **last)


def a_pull_after_none(m, last):
    """a pull after the same with none"""
    m.pull(m.stock.images[0], durability="none")
    m.pull(m.stock.images[0], **last)


def a_pull_of_a_tag_with_none(m, last):
    """a pull after the same with none, which found the image imported"""
    m.import_image(m.stock.images[0])
    m.settle()
    m.pull(m.stock.images[0], durability="none")
    m.pull(m.stock.images[0], **last)


def a_pull_after_one_moved_with_none(m, last):
    """a pull of a name that means another image now, after the same with none"""
    for image in m.stock.images[:2]:
        m.import_image(image)
    m.settle()
    m.pull(m.stock.images[0], m.stock.move(m.stock.images[0]))
    m.pull(m.stock.images[1], m.stock.move(m.stock.images[1]), durability="none")
    m.pull(m.stock.images[1], m.stock.move(m.stock.images[1]), **last)


def a_pull_in_parts(m, last):
    """a pull that publishes its first layers early"""
    m.stock.stall(m.stock.images[0], 2, EARLY)
    m.pull(m.stock.images[0], **last)


def an_import_of_early_layers(m, last):
    """an import whose first layers a pull has published early"""
    m.stock.stall(m.stock.images[0], 2, 60)
    m.start_pull(m.stock.images[0])
    m.await_early(m.stock.images[0])
    m.import_image(m.stock.images[2], **last)


def a_pull_of_early_layers(m, last):
    """a pull whose first layers another pull has published early"""
    m.stock.stall(m.stock.images[0], 2, 60)
    m.start_pull(m.stock.images[0])
    m.await_early(m.stock.images[0])
    m.pull(m.stock.images[2], **last)


def a_pull_cut(m, last):
    """a pull that has published its first layers early, and goes on"""
    m.stock.stall(m.stock.images[0], 2, 60)
    m.start_pull(m.stock.images[0], **last)
    m.await_early(m.stock.images[0])


def a_pull_killed(m, last):
    """a pull that finds what a killed one has published early"""
    a_pull_cut(m, last)
    m.kill_pulls()
    m.pull(m.stock.images[0], **last)


def an_unsynced_pull(m, last):
    """a pull with none"""
    m.pull(m.stock.images[0], **{**last, "durability": "none"})


def an_unsynced_pull_written(m, last):
    """a pull with none whose files the system has written by itself, to be pulled again after the cut"""
    m.pull(m.stock.images[0], **{**last, "durability": "none"})
    m.settle()


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
            kept_blobs, a_pull, a_pull_beside, a_pull_after_none, a_pull_of_a_tag_with_none,
            a_pull_after_one_moved_with_none, a_pull_in_parts,
            an_import_of_early_layers, a_pull_of_early_layers, a_pull_killed, a_layer, a_tag, a_tag_after_none, a_tag_moved, a_commit, a_commit_after_none, a_removal_and_an_import]
# What of these would be lost without syncing is promised by nobody: they have no control.
HARMLESS = [an_unsynced_import, an_unsynced_import_beside, an_unsynced_pull, an_unsynced_pull_written,
            a_pull_cut, a_removal]


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
    if not os.environ.get("ONLY"):
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
    kind = rng.choice(["import", "pull", "pull", "together"] + (["tag", "remove", "commit", "untag"] if there else []) +
                      (["gc"] if m.om.knows("gc") else []))
    m.trace.append(f"{kind} {how['durability']}")
    if kind == "import":
        image = rng.choice(m.stock.images)
        m.trace[-1] += f" {image.id}"
        m.import_image(image, ["--keep-blobs"] if rng.random() < 0.2 else [], **how)
        m.there.add(image.id)
    elif kind == "pull":
        image = rng.choice(m.stock.images)
        if rng.random() < 0.3:
            m.stock.stall(image, rng.choice([1, 2]), EARLY)
        beside = rng.choice(m.stock.images) if rng.random() < 0.3 else None
        m.trace[-1] += f" {image.id}" + (f" beside an import of {beside.id}" if beside else "")
        m.start_pull(image, **how)
        if beside:
            m.import_image(beside)
            m.there.add(beside.id)
        m.end_pulls(**how)
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
    only = os.environ.get("ONLY", "")
    for cases in (PROMISED, HARMLESS):
        cases[:] = [case for case in cases if not only or re.fullmatch(only, case.__name__)]
    mode, seconds = sys.argv[2], float(sys.argv[3]) if len(sys.argv) > 3 else 0
    started = time.monotonic()
    print(f"SEED={SEED}", flush=True)
    place = scratch("powercut")
    os.environ["HOME"] = str(place)  # no settings for registries
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
