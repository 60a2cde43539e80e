"""Listings of trees, one line a path, and how two of them differ: what is mounted against what it should be."""
import base64
import errno
import hashlib
import json
import os
import pathlib
import stat


def escaped(text):
    data = os.fsencode(text) if isinstance(text, str) else text
    return "".join(chr(c) if 0x21 <= c < 0x7F and c != 0x5C else f"\\x{c:02x}" for c in data)


def bytes_held(descriptor, status):
    """Without the holes, and a + where far more is allocated. Not the blocks themselves, of which a file in many pieces has
    more than one in few."""
    held = at = 0
    while at < status.st_size:
        try:
            start = os.lseek(descriptor, at, os.SEEK_DATA)
        except OSError as problem:
            if problem.errno != errno.ENXIO:
                raise
            break
        at = os.lseek(descriptor, start, os.SEEK_HOLE)
        held += at - start
    return f"{held}{'+' if status.st_blocks * 512 > held + held // 256 + (64 << 10) else ''}"


def listing(root, exact):
    """One line a path, without the root: path type mode uid gid size mtime rdev link-group content xattrs.
    `exact` adds nanoseconds, link counts, the bytes that are no hole, ACLs and the root directory."""
    root = os.fsencode(str(root))
    found, groups = [], {}

    def visit(path, name):
        s = os.lstat(path)
        mode, content, size, device, held = stat.S_IMODE(s.st_mode), "-", 0, "-", "-"
        kind = {stat.S_IFDIR: "d", stat.S_IFLNK: "l", stat.S_IFCHR: "c", stat.S_IFBLK: "b", stat.S_IFIFO: "p"}.get(
            stat.S_IFMT(s.st_mode), "f")
        if kind == "f":
            size = s.st_size
            with open(path, "rb") as file:
                content = hashlib.file_digest(file, "sha256").hexdigest()[:16]
                held = bytes_held(file.fileno(), s) if exact else "-"
        elif kind == "l":
            mode, content = 0o777, escaped(os.readlink(path))
        elif kind in "cb":
            device = f"{os.major(s.st_rdev)}:{os.minor(s.st_rdev)}"
        kept = {}
        for x in os.listxattr(path, follow_symlinks=False):
            if x == "security.capability" or x.startswith("user.") or (exact and x.startswith("system.posix_acl")):
                kept[x] = base64.b64encode(os.getxattr(path, x, follow_symlinks=False)).decode()
        if kind != "d" and s.st_nlink > 1:
            groups.setdefault(s.st_ino, []).append(name)
        row = [escaped(name), kind, f"{mode:04o}", str(s.st_uid), str(s.st_gid), str(size),
               str(s.st_mtime_ns // 10**9), device, s.st_ino, content,
               ",".join(f"{escaped(k)}={v}" for k, v in sorted(kept.items())) or "-"]
        if exact:
            row += [str(s.st_mtime_ns % 10**9), *([str(s.st_nlink), held] if kind != "d" else [])]
        found.append(row)
        if kind == "d":
            for child in sorted(os.listdir(path)):
                visit(path + b"/" + child, name + b"/" + child if name else child)

    visit(root, b"")
    lines = {}
    for row in found:
        group = groups.get(row[8], [])
        row[8] = escaped(min(group)) if len(group) > 1 else "-"
        if row[0] or exact:
            lines[row[0]] = " ".join(row)
    return lines


def truth_of(path):
    """The listing that mkimages.sh wrote."""
    with open(path, encoding="utf-8") as lines:
        return {line.split(" ", 1)[0]: line.rstrip("\n") for line in lines}


def image_id_of(layout):
    """The digest of the config of an OCI layout's first image."""
    layout = pathlib.Path(layout)
    digest = json.loads((layout / "index.json").read_text())["manifests"][0]["digest"]
    return json.loads((layout / "blobs" / digest.replace(":", "/")).read_text())["config"]["digest"]


def only_hidden_links(wanted, got):
    """Whether the lines differ only in the link count: overlayfs counts names that a whiteout hides as well."""
    wanted, got = wanted.split(), got.split()
    return len(wanted) == len(got) == 14 and int(got[12]) > int(wanted[12]) and (
        wanted[:12] + wanted[13:] == got[:12] + got[13:])


def compare(what, wanted, got):
    differ = [path for path in sorted(wanted.keys() | got.keys()) if wanted.get(path) != got.get(path)]
    # A parent that no layer has an entry for has no time of its own: -1 in a truth listing.
    differ = [p for p in differ if not (p in wanted and p in got and wanted[p].split()[6] == "-1" and
                                        wanted[p].split()[:6] == got[p].split()[:6])]
    differ = [p for p in differ if not (p in wanted and p in got and only_hidden_links(wanted[p], got[p]))]
    for path in differ[:10]:
        print(f"{what}: {path}\n  wanted {wanted.get(path)}\n  got    {got.get(path)}")
    if differ or not wanted:
        raise SystemExit(f"{what}: {len(differ)} of {len(wanted)} paths differ")
    print(f"{what}: {len(wanted)} paths are equal")
