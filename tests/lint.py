#!/usr/bin/env python3
"""Rules about the tree that no compiler checks. Plain Python, no build needed: tests/lint.py [ROOT]"""
import pathlib
import re
import sys

ROOT = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else __file__).resolve()
ROOT = ROOT if ROOT.is_dir() else ROOT.parent.parent
INCLUDE = ROOT / "include"
TOP = INCLUDE / "overmount"

# A system header that only these files may include.
FENCES = {
    "sys/mount.h": r"overmount/(impl/|mount/)+overlay_mount\.(hpp|ipp)",
    "archive.h": r"overmount/(impl/|tar/)+\w+\.(hpp|ipp)",
    "archive_entry.h": r"overmount/(impl/|tar/)+\w+\.(hpp|ipp)",
}
FENCE_FILES = {"archive.h": 1, "archive_entry.h": 1}  # and no more of them than this

# The arrow of includes: a file may include its own layer and lower ones. Files directly in overmount/ are values unless
# they are named here.
LAYERS = {
    "detail": 0, "values": 0, "concepts": 1, "tar": 2, "storage": 2, "mount": 2, "unpack": 3,
    "importer": 4, "exporter": 4, "repository": 5, "registry": 6, "all": 7,
}
# Files whose place is lower than their folder's: values that a concept speaks of, and the system calls of unpacking,
# which storage is written with.
LOWER = {
    "overmount/mount/mount_spec.hpp": "values",
    "overmount/storage/diff_record.hpp": "values",
    "overmount/tar/entry.hpp": "values",
    "overmount/unpack/descriptor_turn.hpp": "detail",
    "overmount/unpack/extractor.hpp": "tar",
    "overmount/unpack/unfinished_files.hpp": "tar",
}
REPOSITORY_FILES = {"repository", "image", "asset", "options"}
MAX_LINES = 400

problems = []


def complain(path, text, line=None):
    where = str(path.relative_to(ROOT)) if isinstance(path, pathlib.Path) else path
    problems.append(f"{where}:{line}: {text}" if line else f"{where}: {text}")


def layer(name):
    """The layer of `overmount/tar/entry.hpp`; a body belongs to the header that includes it."""
    name = bodies.get(name, name)
    if name in LOWER:
        return LOWER[name]
    parts = name.split("/")[1:]
    if len(parts) > 1:
        return parts[0]
    stem = parts[0].rsplit(".", 1)[0]
    if stem in ("overmount", "own_policies", "src"):
        return "all"
    return "repository" if stem in REPOSITORY_FILES else "values"


def includes_of(text):
    return re.findall(r'^[ \t]*#[ \t]*include[ \t]*[<"]([^>"]+)[>"]', text, re.M)


def strip_comments(text):
    return re.sub(r"//[^\n]*|/\*.*?\*/", lambda m: re.sub(r"[^\n]", " ", m[0]), text, flags=re.S)


files = {str(p.relative_to(INCLUDE)): p for p in sorted(INCLUDE.rglob("*")) if p.suffix in (".hpp", ".ipp")}
texts = {name: path.read_text() for name, path in files.items()}
includes = {name: includes_of(text) for name, text in texts.items()}
bodies = {}
for name, found in includes.items():
    if name.endswith(".hpp") and name not in ("overmount/own_policies.hpp", "overmount/src.hpp"):
        bodies.update({i: name for i in found if i.endswith(".ipp")})


def check_headers():
    fenced = {}
    for name, path in files.items():
        text = texts[name]
        guard = re.sub(r"\W", "_", name).upper()
        if f"#ifndef {guard}\n#define {guard}\n" not in text:
            complain(path, f"the include guard should be {guard}")
        own = layer(name)
        if own not in LAYERS:
            complain(path, f"folder {own}/ has no place in the table of layers")
            continue
        for included in includes[name]:
            if included in FENCES:
                fenced.setdefault(included, set()).add(name)
                if not re.fullmatch(FENCES[included], name):
                    complain(path, f"<{included}> does not belong here")
            if not included.startswith("overmount/"):
                continue
            if included not in files:
                complain(path, f"<{included}> does not exist")
            elif LAYERS.get(layer(included), 0) > LAYERS[own]:
                complain(path, f"{own} must not include <{included}> ({layer(included)}): the arrow goes one way")
        for number, line in enumerate(strip_comments(text).split("\n"), 1):
            if re.match(r"\s*using\s+namespace\b", line):
                complain(path, "`using namespace` in a header", number)
        lines = text.count("\n")
        if lines > MAX_LINES and name.endswith(".hpp"):
            complain(path, f"{lines} lines; more than {MAX_LINES} is more than one idea")
        if name.endswith(".ipp") and name not in bodies:
            complain(path, "no header includes these bodies")
    for header, most in FENCE_FILES.items():
        if len(fenced.get(header, ())) > most:
            complain("include", f"<{header}> is included by {', '.join(sorted(fenced[header]))}: one file only")


def check_lists():
    listed = re.findall(r"'(overmount/[^']+)'", (INCLUDE / "meson.build").read_text())
    for name in sorted(set(files) - set(listed)):
        complain("include/meson.build", f"{name} is missing")
    for name in sorted(set(listed) - set(files)):
        complain("include/meson.build", f"{name} does not exist")
    if "overmount/src.hpp" in files:
        for name in sorted(set(bodies) - set(includes["overmount/src.hpp"])):
            complain("include/overmount/src.hpp", f"does not include {name}")
    for suite in ("unit", "conformance", "hostile", "integration"):
        folder = ROOT / "tests" / suite
        listing = (folder / "meson.build").read_text() if (folder / "meson.build").exists() else ""
        for path in sorted(folder.rglob("*.cpp")):
            if f"'{path.relative_to(folder)}'" not in listing:
                complain(path, f"not listed in tests/{suite}/meson.build")
    listing = (ROOT / "examples/meson.build").read_text()
    for path in sorted((ROOT / "examples").glob("[0-9]*.cpp")):
        if f"'{path.stem}'" not in listing:
            complain(path, "not listed in examples/meson.build")
        if path.read_text().count("\n") >= 80:
            complain(path, "an example stays under 80 lines")


def check_readme():
    """Each C++ fence of the README stands, line by line, in one of the examples."""
    examples = [p.read_text() for p in sorted((ROOT / "examples").glob("*.cpp"))]
    text = (ROOT / "README.md").read_text()
    for match in re.finditer(r"^```cpp\n(.*?)^```", text, re.M | re.S):
        if examples and not any(match[1] in example for example in examples):
            complain("README.md", "this C++ is in no example", text[: match.start()].count("\n") + 1)


def check_leftovers():
    for folder in ("include", "examples", "tests", "bench"):
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix not in (".hpp", ".ipp", ".cpp", ".sh") or not path.is_file():
                continue
            text = path.read_text(errors="replace")
            for number, line in enumerate(text.split("\n"), 1):
                if re.search(r"\b(TODO|FIXME|XXX|HACK)\b", line):
                    complain(path, "left for later: do it or open an issue", number)
                if re.search(r"\b(sleep_for|sleep_until|usleep)\s*\(", line) and folder == "tests":
                    complain(path, "a test does not sleep", number)


check_headers()
check_lists()
check_readme()
check_leftovers()
print("\n".join(problems) if problems else f"lint: {len(files)} headers and bodies, nothing to report")
sys.exit(1 if problems else 0)
