#!/usr/bin/env python3
"""overmount.hpp declares the same public names with separate compilation and without it: those in namespace overmount and
the namespaces inside, but for `detail`. Clang lists them.

    names.py CLANG [--include DIR]
"""
import re
import subprocess
import sys
import tempfile

CLANG = sys.argv[1]
INCLUDES = ["-I" + sys.argv[i + 1] for i in range(2, len(sys.argv), 2) if sys.argv[i] == "--include"]


def declared(space, *options):
    """The names that are declared in a namespace, with the kind of each: those that the compiler finds when it looks one up."""
    with tempfile.NamedTemporaryFile("w", suffix=".cpp") as program:
        program.write("#include <overmount/overmount.hpp>\n")
        program.flush()
        listing = subprocess.run(
            [CLANG, "-std=c++20", "-fsyntax-only", *options, *INCLUDES, "-Xclang", "-ast-dump-lookups", "-Xclang",
             "-ast-dump-filter=" + space, program.name], stdout=subprocess.PIPE, text=True, check=True).stdout
    names, inside, name = {}, False, None
    for line in listing.splitlines():
        if line.startswith("StoredDeclsMap "):
            inside = re.match(rf"StoredDeclsMap Namespace \S+ '{space.rpartition('::')[2]}'", line)
        elif inside and (found := re.match(r"[|`]-DeclarationName '(.*)'", line)):
            name = found[1]
        elif inside and (found := re.match(r"[|` ]+-(\w+) ", line)):
            names[name] = found[1]
    return names


def public_names(*options):
    names, spaces = set(), ["overmount"]
    while spaces:
        space = spaces.pop()
        found = declared(space, *options)
        if not found:
            sys.exit(f"nothing is declared in namespace {space}: {CLANG} lists it in another way")
        for name, kind in found.items():
            if kind == "Namespace" and re.fullmatch(r"detail|v\d+\w*", name):
                continue  # ours, or what holds the names of an ABI: those are seen in overmount itself
            names.add(f"{space}::{name}")
            if kind == "Namespace":
                spaces.append(f"{space}::{name}")
    return names


both = public_names(), public_names("-DOVERMOUNT_SEPARATE_COMPILATION")
for name in sorted(both[0] - both[1]):
    print(f"not with separate compilation: {name}")
for name in sorted(both[1] - both[0]):
    print(f"only with separate compilation: {name}")
print(f"{len(both[0] & both[1])} public names in both ways of compiling")
sys.exit(both[0] != both[1])
