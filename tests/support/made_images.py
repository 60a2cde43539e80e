"""Small images that the tests make themselves, the same bytes each time, and what their trees look like.

The truth of an image comes from applying its layers here, by the rules of the image specification, not from om."""
import base64
import hashlib
import io
import json
import os
import random
import stat
import tarfile

TIME = 1700000000


def directory(name, mode=0o755):
    return name, tarfile.DIRTYPE, b"", mode


def file(name, content, mode=0o644):
    return name, tarfile.REGTYPE, content, mode


def symlink(name, target):
    return name, tarfile.SYMTYPE, target.encode(), 0o777


def hard_link(name, target):
    return name, tarfile.LNKTYPE, target.encode(), 0o644


def fifo(name):
    return name, tarfile.FIFOTYPE, b"", 0o600


def whiteout(name):
    folder, _, base = name.rpartition("/")
    return file((folder + "/" if folder else "") + ".wh." + base, b"")


def opaque(name):
    return file(name + "/.wh..wh..opq", b"")


def noise(seed, size):
    return random.Random(seed).randbytes(size)


def tar_of(entries):
    """A file named *.noted has an extended attribute; owners and times follow from the names."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, kind, content, mode in entries:
            info = tarfile.TarInfo(name)
            info.type, info.mode = kind, mode
            info.mtime = TIME + len(name)
            info.uid = info.gid = len(name) if kind == tarfile.REGTYPE else 0
            if kind == tarfile.REGTYPE:
                info.size = len(content)
                if name.endswith(".noted"):
                    info.pax_headers = {"SCHILY.xattr.user.note": "of " + name}
                tar.addfile(info, io.BytesIO(content))
            else:
                info.linkname = content.decode()
                tar.addfile(info)
    return out.getvalue()


def base_layer(salt="", files=24, size=20000):
    entries = [directory("etc"), directory("opt"), directory("opt/old"), directory("srv"), directory("srv/data"),
               directory("tmp", 0o1777), file("etc/kept", b"kept"), file("etc/gone", b"gone"),
               file("opt/old/file", b"old"), file("etc/some.noted", b"noted"), hard_link("srv/hard", "etc/kept"),
               symlink("srv/link", "../etc/kept"), fifo("srv/fifo"), file("srv/set", b"#!", 0o4755)]
    entries += [file(f"srv/data/{i:03}", noise(f"{salt}{i}", size + 37 * i)) for i in range(files)]
    return tar_of(entries)


CHANGES = tar_of([directory("etc"), whiteout("etc/gone"), directory("opt/old"), opaque("opt/old"),
                  file("opt/old/new", b"new"), file("etc/more.noted", b"more"), file("no/parent/entry", b"implied")])
RETYPED = tar_of([directory("srv"), whiteout("srv/hard"), file("srv/link", b"a file now"), directory("srv/fifo"),
                  file("srv/fifo/inside", noise("inside", 5000))])


class image:
    def __init__(self, name, layers):
        self.name, self.layers = name, layers
        self.diffs = ["sha256:" + hashlib.sha256(tar).hexdigest() for tar in layers]
        self.config = json.dumps({"architecture": "amd64", "os": "linux", "config": {"Labels": {"name": name}},
                                  "rootfs": {"type": "layers", "diff_ids": self.diffs}}).encode()
        self.id = "sha256:" + hashlib.sha256(self.config).hexdigest()
        self.chains = self.diffs[:1]
        for diff in self.diffs[1:]:
            self.chains.append("sha256:" + hashlib.sha256(f"{self.chains[-1]} {diff}".encode()).hexdigest())
        self._truth = None

    @property
    def truth(self):
        if self._truth is None:
            self._truth = apply(self.layers)
        return self._truth


def family(count, salt="", files=24, size=20000):
    """Images that share their first layers and differ in the last; three layers each."""
    base = base_layer(salt, files, size)
    out = []
    for number in range(count):
        top = tar_of([directory("own"), file("own/name", f"{salt}{number}".encode()),
                      file("own/data", noise(f"top{salt}{number}", size))])
        out.append(image(f"made{salt}{number}", [base, CHANGES if number % 2 == 0 else RETYPED, top]))
    return out


def write_archive(path, images, tags=lambda image: []):
    """A docker archive; a layer that several images have is in it once."""
    members = {}
    for one in images:
        for diff, tar in zip(one.diffs, one.layers):
            members[diff[7:] + "/layer.tar"] = tar
        members[one.id[7:] + ".json"] = one.config
    members["manifest.json"] = json.dumps([
        {"Config": one.id[7:] + ".json", "RepoTags": tags(one), "Layers": [d[7:] + "/layer.tar" for d in one.diffs]}
        for one in images]).encode()
    with tarfile.open(path, "w") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


# --- trees: path -> (type, mode, uid, gid, size, mtime, content, attributes, first name of the links)


def summary(content):
    return hashlib.sha256(content).hexdigest()[:16]


def apply(layers):
    tree, inodes = {}, {}

    def remove(path):
        for below in [p for p in tree if p == path or p.startswith(path + "/")]:
            del tree[below], inodes[below]

    def parents(path):
        folder = path.rpartition("/")[0]
        if folder and folder not in tree:
            parents(folder)
            tree[folder], inodes[folder] = ("d", 0o755, 0, 0, 0, None, "", ()), object()

    for data in layers:
        own = set()
        with tarfile.open(fileobj=io.BytesIO(data)) as tar:
            for info in tar:
                path, (folder, _, base) = info.name, info.name.rpartition("/")
                if base == ".wh..wh..opq":
                    for below in [p for p in tree if p.startswith(folder + "/") and p not in own]:
                        remove(below)
                    continue
                if base.startswith(".wh."):
                    remove(folder + "/" + base[4:] if folder else base[4:])
                    continue
                parents(path)
                if path in tree and not (tree[path][0] == "d" and info.isdir()):
                    remove(path)
                own.add(path)
                attributes = tuple((k[len("SCHILY.xattr."):], base64.b64encode(v.encode()).decode())
                                   for k, v in sorted(info.pax_headers.items()) if k.startswith("SCHILY.xattr."))
                inodes[path] = object()
                if info.islnk():
                    tree[path], inodes[path] = tree[info.linkname], inodes[info.linkname]
                elif info.issym():
                    tree[path] = ("l", 0o777, info.uid, info.gid, 0, info.mtime, info.linkname, ())
                elif info.isfile():
                    content = tar.extractfile(info).read()
                    tree[path] = ("f", info.mode, info.uid, info.gid, len(content), info.mtime, summary(content),
                                  attributes)
                else:
                    tree[path] = ("d" if info.isdir() else "p", info.mode, info.uid, info.gid, 0, info.mtime, "", ())
    return with_links(tree, inodes)


def with_links(tree, inodes):
    names = {}
    for path in sorted(tree):
        names.setdefault(inodes[path], path)
    return {path: (*row, names[inodes[path]]) for path, row in tree.items()}


def listing(root):
    """The same of a real directory."""
    root, tree, inodes = str(root), {}, {}
    kinds = {stat.S_IFDIR: "d", stat.S_IFLNK: "l", stat.S_IFIFO: "p", stat.S_IFREG: "f"}
    for folder, folders, files in os.walk(root, onerror=raise_it):
        for name in folders + files:
            path = os.path.join(folder, name)
            key, s = os.path.relpath(path, root), os.lstat(path)
            kind, mode, size, content, attributes = kinds.get(stat.S_IFMT(s.st_mode), "?"), stat.S_IMODE(s.st_mode), 0, "", ()
            if kind == "l":
                mode, content = 0o777, os.readlink(path)
            elif kind == "f":
                with open(path, "rb") as opened:
                    size, content = s.st_size, summary(opened.read())
                attributes = tuple((x, base64.b64encode(os.getxattr(path, x)).decode())
                                   for x in sorted(os.listxattr(path)) if x.startswith("user."))
            tree[key] = (kind, mode, s.st_uid, s.st_gid, size, s.st_mtime_ns // 10**9, content, attributes)
            inodes[key] = (s.st_dev, s.st_ino)
    return with_links(tree, inodes)


def raise_it(problem):
    raise problem


def differences(wanted, got):
    """Paths whose lines differ; a directory that no layer names has no time of its own."""
    def same(one, other):
        return one is not None and other is not None and all(
            a == b or a is None for a, b in zip(one, other, strict=True))

    return [path for path in sorted(wanted.keys() | got.keys()) if not same(wanted.get(path), got.get(path))]
