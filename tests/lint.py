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
    "sys/mount.h": r"overmount/mount/(impl/)?overlay_mount\.(hpp|ipp)",
    "archive.h": r"overmount/tar/(impl/)?\w+\.(hpp|ipp)",
    "archive_entry.h": r"overmount/tar/(impl/)?\w+\.(hpp|ipp)",
}
FENCE_FILES = {"archive.h": 1, "archive_entry.h": 1}  # and no more of them than this

# A folder is a floor: a file may include its own floor and lower ones. Files directly in overmount/ are the public face.
FLOORS = {
    "core": 0, "runtime": 1, "posix": 2, "io": 3, "codec": 3, "tar": 3, "oci": 3, "storage": 4, "mount": 4, "unpack": 5,
    "storage/on_disk": 5, "importer": 6, "exporter": 6, "registry": 7, "registry/settings": 7, "repository/records": 7, "options": 7, "repository": 8,
    "repository/operations": 8, "repository.hpp": 9, "overmount.hpp": 10,
}
# Files that stand on another floor than their folder's.
MOVED = {
    "overmount/task_group.hpp": "runtime", "overmount/options.hpp": "options", "overmount/change.hpp": "tar", "overmount/check.hpp": "repository/records",
    "overmount/collect.hpp": "repository/records", "overmount/lease.hpp": "repository",
    "overmount/asset.hpp": "repository", "overmount/image.hpp": "repository", "overmount/layer.hpp": "repository", "overmount/repository.hpp": "repository",
}
MAX_LINES = 350
# Where bodies may be templates in a header-only program: folders, and files of other folders. See core/config.hpp.
LAZY = {"runtime", "io", "oci", "oci/detail", "importer", "exporter", "repository", "repository/operations"}
LAZY_FILES = re.compile(r"repository/records/(impl/)?(store|mount_table)\.[hi]pp$")
# Public headers name no type of `detail`, but for these, which are private members, or what such are made of.
INTERNAL = r"overmount/(runtime|posix|repository/operations|repository/records|\w+/detail)/.*|overmount/repository/instances\.hpp"
PRIVATE_TYPES = {
    "repository_state": {"asset", "image", "layer", "repository", "repository/integrity", "repository/space"},
    "diff_directory": {"storage/on_disk/on_disk_storage", "storage/virtual_storage"},
    "unfinished_files": {"storage/on_disk/on_disk_storage"}, "hasher": {"tar/index"},
}
PUBLIC_OF_POSIX = {"overmount/posix/unique_fd.hpp", "overmount/posix/file_range.hpp"}

problems = []


def complain(path, text, line=None):
    where = str(path.relative_to(ROOT)) if isinstance(path, pathlib.Path) else path
    problems.append(f"{where}:{line}: {text}" if line else f"{where}: {text}")


def floor(name):
    """The floor of `overmount/tar/entry.hpp`; a body stands on that of its folder."""
    if name in MOVED:
        return MOVED[name]
    folder = name.removeprefix("overmount/").rpartition("/")[0].removesuffix("/impl").removesuffix("/detail")
    return folder or "overmount.hpp"


def includes_of(text):
    return re.findall(r'^[ \t]*#[ \t]*include[ \t]*[<"]([^>"]+)[>"]', text, re.M)


def strip_comments(text):
    return re.sub(r"//[^\n]*|/\*.*?\*/", lambda m: re.sub(r"[^\n]", " ", m[0]), text, flags=re.S)


files = {str(p.relative_to(INCLUDE)): p for p in sorted(INCLUDE.rglob("*")) if p.suffix in (".hpp", ".ipp")}
texts = {name: path.read_text() for name, path in files.items()}
includes = {name: includes_of(text) for name, text in texts.items()}
bodies = {}
for name, found in includes.items():
    if name.endswith(".hpp") and name not in ("overmount/own_policies.hpp", "overmount/src.hpp", "overmount/src_registry.hpp"):
        bodies.update({i: name for i in found if i.endswith(".ipp")})


def check_headers():
    fenced = {}
    for name, path in files.items():
        text = texts[name]
        guard = re.sub(r"\W", "_", name).upper()
        if f"#ifndef {guard}\n#define {guard}\n" not in text:
            complain(path, f"the include guard should be {guard}")
        own = floor(name)
        if own not in FLOORS:
            complain(path, f"folder {own}/ has no place in the table of floors")
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
            elif FLOORS.get(floor(included), 0) > FLOORS[own]:
                complain(path, f"{own} must not include <{included}> ({floor(included)}): the arrow goes one way")
        for number, line in enumerate(strip_comments(text).split("\n"), 1):
            if "OVERMOUNT_LAZY" in line and own not in LAZY and not LAZY_FILES.search(name) and \
                    name != "overmount/core/config.hpp":
                complain(path, "its functions are no templates: see core/config.hpp", number)
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


def declarations(text):
    """(who sees it, line, text) of each declaration of a header, without the bodies of functions; who: public, private, detail."""
    text = re.sub(r"^[ \t]*#(?:[^\n]*\\\n)*[^\n]*", lambda m: re.sub(r"[^\n]", " ", m[0]), strip_comments(text), flags=re.M)
    text = re.sub(r'"(?:\\.|[^"\\\n])*"', lambda m: '"' + " " * (len(m[0]) - 2) + '"', text)
    scopes, begin, at, brackets = [], 0, 0, 0

    def found(end):
        seen_by = "detail" if "detail" in scopes else "private" if "private" in scopes else "public"
        return seen_by, text.count("\n", 0, len(text[:end]) - len(text[begin:end].lstrip())) + 1, text[begin:end]

    while at < len(text):
        char, head = text[at], text[begin:at]
        brackets += (char in "([") - (char in ")]")
        if brackets == 0 and char == ":" and scopes and (access := re.search(r"\b(public|private|protected)\s*$", head)):
            scopes[-1] = "public" if access[1] == "public" else "private"
            begin = at + 1
        elif brackets == 0 and char == ";":
            yield found(at)
            begin = at + 1
        elif brackets == 0 and char == "}":
            scopes[-1:] = []
            begin = at + 1
        elif brackets == 0 and char == "{":
            kind = re.match(r"\s*(?:template\s*<[^{]*>\s*)?(?:requires\s*\([^{]*\)\s*)?(namespace|class|struct)\b(?! *\()", head)
            yield found(at)
            if kind:
                scopes.append("detail" if re.search(r"namespace\b.*\bdetail\s*$", head) else "private" if kind[1] == "class" else "public")
            else:  # a function, an initialiser, an enumeration: to its end
                depth = 1
                while depth:
                    at += 1
                    depth += (text[at] == "{") - (text[at] == "}")
            begin = at + 1
        at += 1


def check_detail():
    all_declared = {name: list(declarations(text)) for name, text in texts.items()}
    types = set()
    for declared in all_declared.values():
        for seen_by, _, text in declared:
            if seen_by == "detail" and (named := re.match(r"\s*(?:template\s*<[^{]*>\s*)?(?:class|struct|enum(?: class)?|using)\s+(\w+)", text)):
                types.add(named[1])
    for name, declared in all_declared.items():
        if name.startswith("overmount/posix/") and name.endswith(".hpp") and name not in PUBLIC_OF_POSIX:
            for seen_by, line, text in declared:
                if seen_by == "public" and text.strip() and not text.lstrip().startswith("namespace"):
                    complain(files[name], "of posix/, only unique_fd and file_range are public", line)
                    break
        if not name.endswith(".hpp") or re.fullmatch(INTERNAL, name):
            continue
        short = name.removeprefix("overmount/").removesuffix(".hpp")
        for seen_by, line, text in declared:
            for used in re.findall(r"\bdetail::(\w+)", text):
                if seen_by == "public" and used in types:
                    complain(files[name], f"public, and names detail::{used}", line)
                if seen_by == "private" and used in types and short not in PRIVATE_TYPES.get(used, ()):
                    complain(files[name], f"names detail::{used}: see PRIVATE_TYPES", line)


def check_lists():
    listed = re.findall(r"'(overmount/[^']+)'", (INCLUDE / "meson.build").read_text())
    for name in sorted(set(files) - set(listed)):
        complain("include/meson.build", f"{name} is missing")
    for name in sorted(set(listed) - set(files)):
        complain("include/meson.build", f"{name} does not exist")
    for source, of_registry in (("overmount/src.hpp", False), ("overmount/src_registry.hpp", True)):
        for name in sorted(set(bodies) - set(includes.get(source, bodies))):
            if name.startswith("overmount/registry/") == of_registry:
                complain(f"include/{source}", f"does not include {name}")
    compiled = [name for path in (ROOT / "tests/bodies").glob("*.cpp") for name in includes_of(path.read_text())]
    for name in sorted(set(bodies)):
        if compiled.count(name) != 1 and not name.startswith("overmount/repository/impl/"):  # those are templates
            complain("tests/bodies", f"{compiled.count(name)} files include {name}; one compiles it")
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
        most = 80 if int(path.stem[:2]) < 9 else 150  # the last ones are whole programs
        if path.read_text().count("\n") >= most:
            complain(path, f"an example stays under {most} lines")


def check_readme():
    """Each C++ fence of the README stands, line by line, in one of the examples."""
    examples = [p.read_text() for p in sorted((ROOT / "examples").glob("*.cpp"))]
    text = (ROOT / "README.md").read_text()
    for match in re.finditer(r"^```cpp\n(.*?)^```", text, re.M | re.S):
        if examples and not any(match[1] in example for example in examples):
            complain("README.md", "this C++ is in no example", text[: match.start()].count("\n") + 1)


def check_closures():
    """GCC 12 destroys a closure that captures twice where it stands inside of a co_await expression, and awaits what stands to
    the right of `&&` and `||` whatever the left side is."""
    for folder in ("include", "examples", "tests"):
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix not in (".hpp", ".ipp", ".cpp") or path.name == "closures.cpp":
                continue
            text = strip_comments(path.read_text(errors="replace"))
            for match in re.finditer(r"\bco_await\b[^;{}]*?[(,=?:]\s*\[[^\]\[]+\]\s*[({]", text):
                complain(path, "a closure inside of a co_await expression: give it a name", text[: match.start()].count("\n") + 1)
            for match in re.finditer(r"(?:&&|\|\|)(?=[^;{},)]*\bco_await\b)", text):
                complain(path, "co_await after `&&` or `||`: write an if statement", text[: match.start()].count("\n") + 1)
            for match in re.finditer(r"\b(?:CHECK|REQUIRE)\w*\s*\([^;]*\bco_await\b", text):
                complain(path, "co_await in an assertion: give the result a name", text[: match.start()].count("\n") + 1)


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
check_detail()
check_lists()
check_readme()
check_closures()
check_leftovers()
print("\n".join(problems) if problems else f"lint: {len(files)} headers and bodies, nothing to report")
sys.exit(1 if problems else 0)
