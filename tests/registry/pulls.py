#!/usr/bin/env python3
"""Whole pulls from Debian's registry: what is mounted, what was fetched, how much memory it took, and what is left of a failure.

    pulls.py OM [PART...] [--quick] [--seed N]

    images   every image of $OVERMOUNT_IMAGES, over plain HTTP and TLS, without a login, with a password and with a token:
             mounted, it equals its .truth listing, and no pull takes 64 MiB of memory
    sixteen  sixteen images that share layers, pulled at once in one process and in sixteen: each blob is fetched once, and the
             one process takes less than 128 MiB
    cuts     a proxy that cuts the connection every 1 to 8 MiB: each request begins at the first byte that did not arrive
    flip     one wrong byte: the layer is named, and no image, tag, staging directory, claim or lease is left
    kill     pulls that are killed: layers that were finished ten seconds before are not fetched again

All parts by default; `--quick` takes small images and fewer servers. `--seed` repeats what was random. Exit status 77: cannot run
here. Pulls that are cancelled: tests/unit/registry/pull_cancellation.cpp."""
import argparse
import collections
import contextlib
import gzip
import os
import pathlib
import random
import signal
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
import running  # noqa: E402
from debian_registry import debian_registry  # noqa: E402
from fault_proxy import asked_again, blob_of, fault, fault_proxy, random_faults  # noqa: E402
from layouts import write_layout  # noqa: E402
from listing import compare, image_id_of, listing, truth_of  # noqa: E402
from made_images import directory, file, noise, tar_of  # noqa: E402
from running import Problem  # noqa: E402
from scripted_registry import made_image  # noqa: E402
from token_server import token_server  # noqa: E402

ALL_IMAGES = ("small", "manylayers", "odd", "bigfile", "manyfiles", "big")
USERS = {"alice": "correct horse"}
CREDENTIALS = ["--creds", "alice:correct horse"]
MIB = 1 << 20


def check(true, text):
    if not true:
        raise Problem(text)


class test:
    """What the parts share."""

    def __init__(self, given):
        self.program = given.om
        self.quick, self.random = given.quick, random.Random(given.seed)
        self.place, self._count = running.scratch("pulls"), 0
        home = self.place / "home"
        home.mkdir()
        # Without the user's logins, settings and proxies.
        self.environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": str(home), "LC_ALL": "C.UTF-8",
                            "XDG_RUNTIME_DIR": str(home), "TMPDIR": str(self.place)}

    def repository(self):
        """om with a new repository. The peak of its memory is in `peak`, in KiB, after each command."""
        self._count += 1
        place = self.place / f"repository-{self._count}"
        peak = place.with_suffix(".peak")
        # By time, which is small: the peak of a child counts what it was before it became another program.
        made = running.om(self.program, place, ["time", "-f", "%M", "-o", str(peak)], timeout=1200)
        made.peak = lambda: int(peak.read_text().split()[-1])
        return made

    def pull(self, om, *words):
        return om("image", "pull", *words, env=self.environment)

    def drop(self, om):
        subprocess.run(["rm", "-rf", om.repository], check=True)


def left_in(om):
    """What operations that have ended may not leave."""
    return [str(path) for part in ("tmp", "claims", "leases") for path in (om.repository / part).iterdir()]


def check_whole(om, images):
    """The repository has these images, by ID, and every layer is as it was when it was imported."""
    found = om("image", "list")
    check(all(one in found or one.removeprefix("sha256:")[:12] in found for one in images), f"images: {found}")
    om("check")
    check(not left_in(om), f"left behind: {left_in(om)}")


# --- images

@contextlib.contextmanager
def servers(place):
    """Debian's registry in four forms, all with the same images: its name, itself, and the options of om for it. The first one
    takes pushes."""
    with contextlib.ExitStack() as stack:
        tokens = stack.enter_context(token_server(place / "tokens", users=USERS, tls=True))
        trust = ["--cert-dir", str(tokens.authority.folder)]
        plain = stack.enter_context(debian_registry())
        other = {"data": plain.data, "cert": tokens.authority}
        yield [("HTTP", plain, []),
               ("HTTP, password", stack.enter_context(debian_registry(users=USERS, **other)), CREDENTIALS),
               ("TLS", stack.enter_context(debian_registry(tls=True, **other)), trust),
               ("TLS, token", stack.enter_context(debian_registry(tls=True, tokens=tokens, **other)), [*trust, *CREDENTIALS])]


def images(t):
    folder = os.environ.get("OVERMOUNT_IMAGES")
    if not folder:
        print("PARTIAL: OVERMOUNT_IMAGES is not set: no images of mkimages.sh")
        return
    names = ("small",) if t.quick else ALL_IMAGES
    count, most = 0, 0
    with servers(t.place) as forms:
        for name in names:
            base = pathlib.Path(folder, name)
            if not base.with_suffix(".truth").exists():
                print(f"PARTIAL: there is no image {name} in {folder}", flush=True)
                continue
            wanted = truth_of(base.with_suffix(".truth"))
            for ending in ("", ".zstd"):
                layout = base.with_name(name + ending)
                if not (layout / "index.json").exists() or (ending and t.quick):
                    continue
                tag = f"{name}:{ending[1:] or 'gzip'}"
                forms[0][1].push(f"oci:{layout}:latest", tag)
                for form, registry, options in forms if not t.quick else (forms[0], forms[3]):
                    om, what = t.repository(), f"{tag} over {form}"
                    identity = t.pull(om, *options, f"{registry.host}/{tag}")
                    peak = om.peak()
                    check(identity == image_id_of(layout), f"{what}: the image ID is {identity}")
                    target = om("image", "mount", identity)
                    compare(what, wanted, listing(target, False))
                    om("image", "unmount", identity)
                    check(not left_in(om), f"{what}: left behind: {left_in(om)}")
                    print(f"{what}: {peak / 1024:.1f} MiB of memory", flush=True)
                    check(peak < 64 * 1024, f"{what}: {peak / 1024:.1f} MiB of memory")
                    t.drop(om)
                    count, most = count + 1, max(most, peak)
    check(count > 0, "no image was found")
    print(f"{count} pulls, at most {most / 1024:.1f} MiB")


# --- sixteen images

def half_noise(seed, size):
    """A tar of files; half of what is in it is text."""
    text = b"".join(b"line %d of %d\n" % (n, seed) for n in range(size // 40))
    entries = [directory("d"), directory(f"d/{seed}")]
    for n in range(4):
        part = noise(f"{seed}-{n}", size // 8) + text[n * len(text) // 4:(n + 1) * len(text) // 4]
        entries.append(file(f"d/{seed}/{n}", part))
    return tar_of(entries)


def push_sixteen(t, registry):
    """app0:1 to app15:1: one large layer of all, one of each four, two of each. Their IDs and digests."""
    scale = MIB // 8 if t.quick else MIB
    numbers = iter(range(1000))

    def layer(size):
        tar = half_noise(next(numbers), size * scale)
        return tar, gzip.compress(tar, 1, mtime=0)

    base, fours = layer(64), [layer(12) for _ in range(4)]
    identities, blobs = [], set()
    for n in range(16):
        stack = [base, fours[n % 4], layer(8 + n // 2), layer(16 - n // 2)]
        image = made_image([tar for tar, _ in stack], packed=[packed for _, packed in stack])
        layout = write_layout(t.place / "sixteen", image, "1")
        registry.push(f"oci:{layout}:1", f"app{n}:1")
        identities.append(image.id)
        blobs |= set(image.blobs)
        subprocess.run(["rm", "-rf", layout], check=True)
    check(len(blobs) == 1 + 4 + 32 + 16, f"{len(blobs)} blobs")  # with the configs
    return identities, blobs


def check_once(registry, before, blobs):
    counts = registry.blob_gets()
    counts.subtract(before)
    wrong = {blob: counts[blob] for blob in blobs if counts[blob] != 1}
    check(not wrong, f"{len(wrong)} of {len(blobs)} blobs were not fetched once: {wrong}")


def sixteen(t):
    with debian_registry() as registry:
        identities, blobs = push_sixteen(t, registry)
        names = [f"{registry.host}/app{n}:1" for n in range(16)]
        before, om = registry.blob_gets(), t.repository()
        done = t.pull(om, *names)
        check(sorted(done.split()) == sorted(identities), f"one process: {done}")
        peak = om.peak()
        check_once(registry, before, blobs)
        check_whole(om, identities)
        t.drop(om)
        print(f"16 pulls in one process: {len(blobs)} blobs, each once; {peak / 1024:.1f} MiB of memory", flush=True)
        check(peak < 128 * 1024, f"16 pulls in one process: {peak / 1024:.1f} MiB of memory")

        before, om = registry.blob_gets(), t.repository()
        om.prefix = []
        children = [om.start("image", "pull", name, env=t.environment) for name in names]
        for name, child, identity in zip(names, children, identities):
            out, err = child.communicate(timeout=600)
            check(child.returncode == 0 and out.strip() == identity, f"{name}: status {child.returncode}, {out} {err}")
        check_once(registry, before, blobs)
        check_whole(om, identities)
        t.drop(om)
        print(f"16 processes: {len(blobs)} blobs, each once", flush=True)


# --- faults

def noisy_image(sizes, salt):
    return made_image([tar_of([directory("d"), file(f"d/{n}", noise(f"{salt}{n}", size))]) for n, size in enumerate(sizes)],
                      compress=False)


def check_continued(log):
    """Each request for a blob begins at the first byte that the ones before it did not bring."""
    arrived = collections.Counter()
    for entry in log:
        if entry.method != "GET" or not blob_of(entry.path) or entry.status not in (200, 206):
            continue
        begin = int(entry.range[6:].split("-")[0]) if entry.range else 0
        blob = blob_of(entry.path)
        check(begin == arrived[blob] == entry.first, f"{arrived[blob]} bytes had arrived, and it asks from {begin}: {entry}")
        arrived[blob] += entry.sent
    return arrived


def pull_cut(t, registry, name, identity, size):
    proxy = fault_proxy(registry.port, at_random=random_faults(MIB, 8 * MIB, t.random.randrange(1 << 32)))
    with proxy:
        om = t.repository()
        got = t.pull(om, f"127.0.0.1:{proxy.port}/{name}")
        check(got == identity, f"{name}: the image ID is {got}")
        faults = [entry for entry in proxy.log if entry.fault]
        check(len(faults) >= size // (8 * MIB), f"{len(faults)} cuts in {size} bytes")
        check(asked_again(proxy.log) == [], f"asked again for {asked_again(proxy.log)}")
        arrived = check_continued(proxy.log)
        check_whole(om, [identity])
        t.drop(om)
        print(f"{name}: {sum(arrived.values()) / MIB:.0f} MiB with {len(faults)} cuts; no byte twice", flush=True)


def cuts(t):
    with debian_registry() as registry:
        sizes = [(6 + n) * MIB for n in range(4)] if t.quick else [(5 + 9 * n) * MIB for n in range(6)]
        image = noisy_image(sizes, "cuts")
        registry.push(f"oci:{write_layout(t.place / 'cuts', image, '1')}:1", "app:1")
        for _ in range(1 if t.quick else 4):
            pull_cut(t, registry, "app:1", image.id, sum(sizes))
        big = pathlib.Path(os.environ.get("OVERMOUNT_IMAGES", "/nowhere"), "big")
        if not t.quick and (big / "index.json").exists():
            registry.push(f"oci:{big}:latest", "big:1")
            size = sum(path.stat().st_size for path in (big / "blobs/sha256").iterdir())
            pull_cut(t, registry, "big:1", image_id_of(big), size)


def flip(t):
    image = noisy_image([3 * MIB, 2 * MIB, MIB, 5 * MIB], "flip")
    with debian_registry() as registry:
        registry.push(f"oci:{write_layout(t.place / 'flip', image, '1')}:1", "app:1")
        for _ in range(2 if t.quick else 12):
            n = t.random.randrange(4)
            at, digest = t.random.randrange(len(image.layers[n])), image.layer_digests[n]
            with fault_proxy(registry.port, [fault("flip", at, match=digest)]) as proxy:
                om = t.repository()
                done = om.run("image", "pull", f"127.0.0.1:{proxy.port}/app:1", env=t.environment)
                what = f"byte {at} of layer {n}: status {done.returncode}, {done.stderr.strip()!r}"
                check(any(entry.fault for entry in proxy.log), f"no byte was flipped; {what}")
                check(done.returncode == 1 and len(done.stderr.splitlines()) == 1, what)
                check(digest in done.stderr, f"the layer is not named; {what}")  # it is its diff ID as well
                check(om("image", "list") == "" == om("tag", "list"), f"an image or tag is left; {what}")
                check(not left_in(om), f"left behind: {left_in(om)}; {what}")
                t.drop(om)
        print("one wrong byte: the layer is named, and nothing is left", flush=True)


def pull_until_killed(t, om, port, sizes):
    """Pulls over a slow line, and kills om while it waits for layers. When which layers had arrived, and when it was killed."""
    arrived, child = {}, None
    with fault_proxy(port, rate=MIB) as proxy:
        child = om.start("image", "pull", f"127.0.0.1:{proxy.port}/app:1", env=t.environment, start_new_session=True)
        patience = 11 + t.random.random() * 4
        while child.poll() is None and not (arrived and time.monotonic() > min(arrived.values()) + patience):
            time.sleep(0.05)
            now = time.monotonic()
            for entry in list(proxy.log):
                if entry.sent == sizes.get(blob_of(entry.path)):
                    arrived.setdefault(blob_of(entry.path), now)
        check(child.poll() is None, "the pull ended before it could be killed")
        os.killpg(child.pid, signal.SIGKILL)
        killed = time.monotonic()
        child.communicate()
    return arrived, killed


def kill(t):
    image = noisy_image([MIB + 10000 * n for n in range(24)], "kill")
    sizes = {digest: len(layer) for digest, layer in zip(image.layer_digests, image.layers)}
    with debian_registry() as registry:
        registry.push(f"oci:{write_layout(t.place / 'kill', image, '1')}:1", "app:1")
        for _ in range(1 if t.quick else 3):
            om = t.repository()
            om.prefix = []
            arrived, killed = pull_until_killed(t, om, registry.port, sizes)
            kept = {blob for blob, when in arrived.items() if when < killed - 10}
            check(0 < len(kept) < len(sizes), f"{len(kept)} layers were finished ten seconds before")
            with fault_proxy(registry.port) as proxy:
                got = t.pull(om, f"127.0.0.1:{proxy.port}/app:1")
                check(got == image.id, f"the image ID is {got}")
                again = kept & {blob_of(entry.path) for entry in proxy.log}
            check(not again, f"{len(again)} of {len(kept)} layers that were finished ten seconds before were fetched again")
            check_whole(om, [image.id])
            t.drop(om)
            print(f"killed when {len(arrived)} of 24 layers had arrived, {len(kept)} of them ten seconds before: those were kept",
                  flush=True)


PARTS = {part.__name__: part for part in (images, sixteen, cuts, flip, kill)}


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("om")
    options.add_argument("parts", nargs="*", metavar="PART", choices=[[], *PARTS])
    options.add_argument("--quick", action="store_true")
    options.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    given = options.parse_intermixed_args()
    running.need("time", "openssl", "htpasswd", "skopeo", "docker-registry")
    print(f"--seed {given.seed}", flush=True)
    shared = test(given)
    for name in given.parts or PARTS:
        began = time.monotonic()
        PARTS[name](shared)
        print(f"passed {name} ({time.monotonic() - began:.1f} s)", flush=True)


if __name__ == "__main__":
    try:
        main()
    except Problem as problem:
        sys.exit(f"FAILED: {problem}")
