#!/usr/bin/env python3
"""A model against reality: eight processes change one repository at random, two of them killed at random moments.

    model.py OM [SECONDS]      20 seconds by default

The model knows only what commands reported: what must be there, what must not, what may be. Each command is held against
it, and in the end the repository: `om check` is clean, every image that must be there is whole; when everything is removed
and collected, an empty repository has the same files as a new one.

    SEED=N     of the choices; the order in which the processes come to their turns is the machine's

Exit status 77: cannot run here."""
import json
import os
import pathlib
import random
import stat
import subprocess
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
import made_images
from history import history
from running import Problem, mounts_below, need, om, scratch

PROGRAM = sys.argv[1]
SECONDS = float(sys.argv[2]) if len(sys.argv) > 2 else 20
SEED = int(os.environ.get("SEED", time.time_ns() % 1000000))
PROCESSES, KILLED = 8, 2
TAGS = [f"example.org/test/name:{number}" for number in range(10)]
IMPORTED_TAGS, ADDED_TAGS = TAGS[:6], TAGS[3:]
MOST_COMMITTED = 6  # images: the more there are, the longer takes each listing
TIMEOUT = 60


class world:
    """The repository and what is known of it, by all threads."""

    def __init__(self, place):
        self.om, self.place = om(PROGRAM, place / "repository", timeout=TIMEOUT), place
        self.lock, self.ended, self.history = threading.Lock(), threading.Event(), history()
        self.trace, self.problems, self.counts = [], [], {}
        self.images = made_images.family(6, files=12, size=12000)
        self.truths = {image.id: image.truth for image in self.images}
        for image in self.images:
            (place / f"{image.name}.layer").write_bytes(image.layers[-1])
        self.unknown_commits = 0  # that are running or were killed: they may have made an image nobody knows
        self.targets = place / "targets"
        self.targets.mkdir()
        self.archives = []
        groups = [[image] for image in self.images[:3]] + [self.images[3:]]
        for number, group in enumerate(groups):
            tags = {image.id: IMPORTED_TAGS[2 * i:2 * i + 2] for i, image in enumerate(group)} if len(group) > 1 else {}
            path = made_images.write_archive(place / f"archive{number}", group, lambda image, tags=tags: tags.get(image.id, []))
            values = {("image", image.id): True for image in group}
            values |= {("tag", name): image for image, names in tags.items() for name in names}
            self.archives.append((path, values))
        self.collects = self.om.knows("gc")
        self.looking = {}  # since when each thread relies on the history
        self.begun = 0

    def say(self, who, text):
        self.trace.append(f"{time.monotonic():.3f} {who}: {text}")

    def turn(self, who):
        """Before each action of a thread: what nobody needs to know is forgotten."""
        with self.lock:
            self.looking[who] = time.monotonic()
            self.begun += 1
            if self.begun % 200 == 0:
                self.history.forget(min(self.looking.values()))

    def known(self, kind):
        """Names of this kind that may be there."""
        now = time.monotonic()
        with self.lock:
            return sorted(key[1] for key in self.history.keys() if key[0] == kind and self.history.possible(key, now) != {None})


class process(threading.Thread):
    """Runs one command after the other; with `killed`, not each to its end."""

    def __init__(self, number, of, killed):
        super().__init__(daemon=True)
        self.name, self.world, self.killed = f"process {number}", of, killed
        self.rng = random.Random(SEED * PROCESSES + number)
        self.number, self.mounts, self.made = number, [], 0

    def run(self):
        actions = [self.import_archive] * 4 + [self.remove_image] * 2 + [self.mount] * 2 + [self.unmount] * 2 + [
            self.add_tag] * 2 + [self.list_images] * 2 + [
            self.remove_tag, self.get_tag, self.list_tags, self.commit, self.check, self.create_layer]
        actions += [self.collect, self.collect] if self.world.collects else []
        actions += [self.remove_layer] if self.world.om.knows("layer", "remove") else []
        try:
            while not self.world.ended.is_set():
                self.world.turn(self.name)
                self.rng.choice(actions)()
        except Problem as problem:
            self.world.problems.append(f"{self.name}: {problem}")
            self.world.say(self.name, f"PROBLEM {problem}")
            self.world.ended.set()
        except BaseException as problem:
            self.world.problems.append(f"{self.name}: {type(problem).__name__} {problem}")
            self.world.ended.set()
            raise

    def do(self, words, values=None, needs=None, excused=lambda start, now: False):
        """Runs the command and holds what it says against the model. `needs` are values without which it fails. Returns
        its output if it succeeded, None if it failed or was killed."""
        world, text = self.world, " ".join(str(w) for w in words)
        with world.lock:
            start = time.monotonic()
            begun = world.history.begin(values or {}, start)
            world.say(self.name, text)
        child = world.om.start(*words)
        killed = False
        try:
            soon = self.killed and self.rng.random() < 0.4
            out, err = child.communicate(timeout=self.rng.random() * 0.1 if soon else TIMEOUT)
        except subprocess.TimeoutExpired:
            child.kill()
            out, err = child.communicate()
            killed = self.killed
            if not killed:
                raise Problem(f"{text}: does not end") from None
        killed = killed and child.returncode < 0
        with world.lock:
            now = time.monotonic()
            world.history.end(begun, "unknown" if killed else "done" if child.returncode == 0 else "failed", now)
            verb = "killed" if killed else "done" if child.returncode == 0 else "failed"
            name = " ".join([str(w) for w in words if str(w) != "--json"][:2]) + " " + verb
            world.counts[name] = world.counts.get(name, 0) + 1
            world.say(self.name, f"{verb}: {text}: {(out or err).strip()}")
            could = {key: world.history.possible(key, start, now) for key in needs or {}}
        if killed:
            return None
        missing = [key for key, values in could.items() if needs[key] not in values]
        lacking = [key for key, values in could.items() if values != {needs[key]}]
        if child.returncode == 0 and missing:
            raise Problem(f"{text}: succeeded, and there was no {missing}")
        if child.returncode not in (0, 1) or (child.returncode == 1 and not lacking and not excused(start, now)):
            raise Problem(f"{text}: status {child.returncode}, {(err or out).strip()}")
        return out.strip() if child.returncode == 0 else None

    def import_archive(self):
        path, values = self.rng.choice(self.world.archives[:-1] * 2 + self.world.archives[-1:])
        self.do(["image", "import", f"docker-archive:{path}"], values)

    def some_image(self):
        images = self.world.known("image")
        return self.rng.choice(images) if images else None

    def add_tag(self):
        name, image = self.rng.choice(ADDED_TAGS), self.some_image()
        if image:
            self.do(["tag", "add", name, image], {("tag", name): image}, {("image", image): True})

    def remove_tag(self):
        name = self.rng.choice(TAGS)
        tagged = self.may_be(("tag", name)) != {None}
        if tagged:
            self.do(["tag", "remove", name], {("tag", name): None}, excused=lambda start, now: None in self.between(
                ("tag", name), start, now))

    def may_be(self, key):
        now = time.monotonic()
        return self.between(key, now, now)

    def between(self, key, start, now):
        with self.world.lock:
            return self.world.history.possible(key, start, now)

    def get_tag(self):
        name, start = self.rng.choice(TAGS), time.monotonic()
        image = self.do(["tag", "get", name], excused=lambda start, now: None in self.between(("tag", name), start, now))
        may_be = self.between(("tag", name), start, time.monotonic())
        if image is not None and image not in may_be:
            raise Problem(f"tag {name} is {image}, not {may_be}")

    def mounted_between(self, image, start, now):
        with self.world.lock:
            return any(image in self.world.history.possible(key, start, now)
                       for key in self.world.history.keys() if key[0] == "mount")

    def remove_image(self):
        world, image = self.world, self.some_image()
        if image is None:
            return
        with world.lock:  # its tags go with it, whichever those are by then
            start = time.monotonic()
            tags = world.history.begin({("tag", name): None for name in TAGS}, start)
        done = self.do(["image", "remove", image], {("image", image): None}, {("image", image): True},
                       lambda start, now: self.mounted_between(image, start, now))
        with world.lock:
            now = time.monotonic()
            for one in tags:
                may_be = world.history.possible(one.key, start, now)
                went = done is not None and may_be <= {None, image}
                might = image in may_be and (done is not None or self.killed)
                world.history.end([one], "done" if went else "unknown" if might else "failed", now)

    def list_images(self):
        world, start = self.world, time.monotonic()
        with world.lock:
            unknown = world.unknown_commits
        out = self.do(["--json", "image", "list"])
        if out is None:
            return
        listed = {row["id"] for row in json.loads(out)}
        with world.lock:
            now = time.monotonic()
            for key in world.history.keys():
                if key[0] != "image":
                    continue
                may_be = world.history.possible(key, start, now)
                if (key[1] in listed or None) not in {v or None for v in may_be}:
                    raise Problem(f"image {key[1]} is {'' if key[1] in listed else 'not '}listed, and should be {may_be}")
            if listed - world.truths.keys() and not max(unknown, world.unknown_commits):
                raise Problem(f"nobody made {listed - world.truths.keys()}")

    def list_tags(self):
        start = time.monotonic()
        out = self.do(["--json", "tag", "list"])
        if out is not None:
            listed = {row["name"]: row["image"] for row in json.loads(out)}
            now = time.monotonic()
            for name in TAGS:
                may_be = self.between(("tag", name), start, now)
                if listed.get(name) not in may_be:
                    raise Problem(f"tag {name} is listed for {listed.get(name)}, and should be {may_be}")

    def mount(self):
        image = self.some_image()
        if image is None or self.mounts or image not in self.world.truths:
            return
        self.made += 1
        target = self.world.targets / f"{self.number}-{self.made}"
        target.mkdir()
        writable = self.rng.random() < 0.7
        out = self.do(["image", "mount", image, "--target", target, *(["--writable"] if writable else [])],
                      {("mount", str(target)): image}, {("image", image): True})
        if out is not None:
            if not os.path.ismount(target):
                raise Problem(f"{target} is no mount")
            self.mounts.append((target, image, writable))
            self.compare(image, target)

    def compare(self, image, target):
        try:
            different = made_images.differences(self.world.truths[image], made_images.listing(target))
        except OSError as problem:
            raise Problem(f"image {image} in {target}: {problem}") from None
        if different:
            raise Problem(f"image {image} in {target}: {len(different)} paths differ: {different[:3]}")

    def commit(self):
        world, writable = self.world, [m for m in self.mounts if m[2]]
        if not writable or len(world.known("image")) > len(world.images) + MOST_COMMITTED:
            return
        target, image, _ = self.rng.choice(writable)
        for number in range(self.rng.randrange(1, 4)):
            (target / f"etc/new{number}").write_bytes(self.rng.randbytes(self.rng.randrange(30000)))
        (target / "etc/kept").unlink(missing_ok=True)
        truth, start = made_images.listing(target), time.monotonic()
        with world.lock:
            world.unknown_commits += 1
        made = self.do(["image", "commit", target], needs={("image", image): True})
        with world.lock:
            if made is not None:
                world.truths[made] = truth
                world.history.end(world.history.begin({("image", made): True}, start), "done", time.monotonic())
            if made is not None or not self.killed:
                world.unknown_commits -= 1
        if made is not None and not self.killed:
            self.unmount_one((target, image, True))

    def unmount(self):
        if self.mounts:
            one = self.rng.choice(self.mounts)
            if not one[2]:
                self.compare(one[1], one[0])
            self.unmount_one(one)

    def unmount_one(self, one):
        self.mounts.remove(one)
        done = self.do(["image", "unmount", one[0]], {("mount", str(one[0])): None})
        if done is not None and os.path.ismount(one[0]):
            raise Problem(f"{one[0]} is a mount still")

    def check(self):
        if self.rng.random() < 0.2:
            self.do(["check"])

    def create_layer(self):
        """One that no image needs: it is there until the next collection."""
        image = self.rng.choice(self.world.images)
        path = self.world.place / f"{image.name}.layer"
        self.do(["layer", "create", path])

    def remove_layer(self):
        out = self.do(["--json", "layer", "list"])
        layers = [row["chain_id"] for row in json.loads(out or "[]")]
        if layers:  # it may be needed, or be gone by now
            self.do(["layer", "remove", self.rng.choice(layers)], excused=lambda start, now: True)

    def collect(self):
        self.do(["gc", *self.rng.choice([[], [], ["--dry-run"]])])


def files_of(repository):
    """What a repository consists of, but for the directories of the digest algorithms, which stay."""
    out = {}
    for folder, folders, files in os.walk(repository):
        for name in folders + files:
            s = os.lstat(os.path.join(folder, name))
            if name != "sha256" or not stat.S_ISDIR(s.st_mode):
                out[os.path.relpath(os.path.join(folder, name), repository)] = s.st_mode
    return out


def need_that(holds, what):
    if not holds:
        raise Problem(what)


def finish(of):
    """What holds when all processes have ended."""
    run = of.om
    run(*(["gc"] if of.collects else ["image", "list"]))  # what dead processes left is swept
    for target in mounts_below(of.place):
        if target != str(of.place):
            run("image", "unmount", target)
    if run.knows("image", "mounts"):
        for row in json.loads(run("--json", "image", "mounts")):
            run("image", "unmount", row.get("id", row.get("target")))
    run("check")
    now = time.monotonic()
    images = {row["id"] for row in json.loads(run("--json", "image", "list"))}
    tags = {row["name"]: row["image"] for row in json.loads(run("--json", "tag", "list"))}
    for key in of.history.keys():
        found = (key[1] in images or None) if key[0] == "image" else tags.get(key[1]) if key[0] == "tag" else None
        may_be = of.history.possible(key, now)
        need_that(key[0] == "mount" or found in may_be, f"{key[0]} {key[1]} is {found}, not one of {may_be}")
    need_that(images <= of.truths.keys() or of.unknown_commits, f"nobody made {images - of.truths.keys()}")
    need_that(set(tags.values()) <= images, f"tags of images that are not there: {set(tags.values()) - images}")
    last = process(PROCESSES, of, killed=False)
    for image in sorted(images):
        target = run("image", "mount", image)
        try:
            if image in of.truths:
                last.compare(image, target)
        finally:
            run("image", "unmount", target)
    for image in sorted(images):
        run("image", "remove", image)
    if not of.collects:
        print("PARTIAL: om has no gc: that nothing is left in an empty repository is seen in some folders only")
        left = [key for key in files_of(run.repository) if key.split("/")[0] in ("tmp", "claims", "leases", "tags", "mounts")
                and "/" in key]
        need_that(not left, f"left: {left[:5]}")
        return
    run("gc")
    fresh = om(PROGRAM, of.place / "fresh")
    fresh("gc")
    left, wanted = files_of(run.repository), files_of(fresh.repository)
    different = sorted(key for key in left.keys() | wanted.keys() if left.get(key) != wanted.get(key))
    need_that(not different, f"an emptied repository differs from a new one: {different[:5]}")


def main():
    need("mount")
    print(f"SEED={SEED}", flush=True)
    of = world(scratch("model"))
    processes = [process(number, of, number < KILLED) for number in range(PROCESSES)]
    try:
        for one in processes:
            one.start()
        of.ended.wait(SECONDS)
    finally:  # nobody goes on where everything is taken away
        of.ended.set()
        for one in processes:
            one.join()
    if not of.problems:
        try:
            finish(of)
        except Problem as problem:
            of.problems.append(str(problem))
    print(", ".join(f"{name} {count}" for name, count in sorted(of.counts.items())))
    if of.problems:
        print("\n".join(of.trace))
        print("\n".join(f"FAILED: {problem}" for problem in of.problems))
        raise SystemExit(1)


main()
