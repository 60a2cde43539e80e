#!/usr/bin/env python3
"""Compiles each tests/compile/*.cpp twice: as it is it must compile, with -DREJECT it must not, and the compiler must
say what the line `// expect: REGEX` wants. A line `// reject: ARGUMENTS` has other arguments than -DREJECT.
`// expect-gcc:`, `// expect-clang:`, `// reject-gcc:` and `// reject-clang:` are for one compiler only.

    run.py [--include DIR]... -- COMPILER [ARGUMENT]...
"""
import concurrent.futures
import os
import pathlib
import re
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent


def main():
    split = sys.argv.index("--")
    options, compiler = sys.argv[1:split], sys.argv[split + 1:]
    includes = ["-I" + options[i + 1] for i in range(0, len(options), 2) if options[i] == "--include"]
    # Without the bodies, which take time and decide nothing here.
    base = compiler + ["-std=c++20", "-fsyntax-only", "-fdiagnostics-color=never", "-DOVERMOUNT_SEPARATE_COMPILATION"]
    base += includes
    version = subprocess.run(compiler + ["--version"], capture_output=True, text=True).stdout
    family = "clang" if "clang" in version else "gcc"

    def compile(path, *more):
        done = subprocess.run(base + list(more) + [str(path)], capture_output=True, text=True,
                              env={**os.environ, "LC_ALL": "C"})
        return done.returncode, done.stderr

    def check(path):
        text = path.read_text()

        def line(key):
            found = re.search(rf"^// {key}-{family}: (.+)$", text, re.M) or re.search(rf"^// {key}: (.+)$", text, re.M)
            return found and found[1].strip()

        expected, rejected = line("expect"), line("reject") or ("REJECT" in text and "-DREJECT")
        if not rejected or not expected:
            return ["needs `#ifdef REJECT` or a line `// reject: ARGUMENTS`, and a line `// expect: REGEX`"]
        problems = []
        code, output = compile(path)
        if code != 0:
            problems.append("the accept branch does not compile:\n" + output[:3000])
        code, output = compile(path, *rejected.split())
        if code == 0:
            problems.append("the reject branch compiles")
        elif not re.search(expected, output):
            problems.append(f"the reject branch fails, but without /{expected}/:\n" + output[:3000])
        return problems

    files = sorted(HERE.glob("*.cpp"))
    failed = 0
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for path, problems in zip(files, pool.map(check, files)):
            failed += bool(problems)
            print(f"{'FAILED' if problems else 'ok':7}{path.name}")
            for problem in problems:
                print("       " + problem)
    print(f"{len(files) - failed} of {len(files)} pairs hold ({family})")
    return 1 if failed or not files else 0


sys.exit(main())
