#!/usr/bin/env python3
"""Runs the tests that meson knows and counts them: Catch2 programs case by case, any other program as one test.

    count.py BUILD

OVERMOUNT_TEST_FILTER=unit|lint runs the suites whose name matches only; without it all but `failure`, which takes
minutes. As many programs run side by side as there are processors, or OVERMOUNT_TEST_JOBS; those that meson knows as
not parallel run alone, at the end. A case that cannot run here prints a line
`SKIPPED: why` and returns; a program exits with 77. What a program that passes leaves out, it says in lines `PARTIAL: what`.
"""
import json
import os
import pathlib
import queue
import re
import signal
import subprocess
import sys
import threading
import time
import xml.etree.ElementTree as xml

SKIPPED = re.compile(r"^\s*(SKIPPED: .*)$", re.M)
PARTIAL = re.compile(r"^PARTIAL: (.*)$", re.M)

# Each program mounts in a namespace of its own: a namespace that another one makes meanwhile would copy and hold its mounts.
OWN_MOUNTS = ["unshare", "--mount", "--propagation", "private", "--"]
if subprocess.run([*OWN_MOUNTS, "true"], stderr=subprocess.DEVNULL, check=False).returncode != 0:
    OWN_MOUNTS = []  # not root


class tally:
    def __init__(self):
        self.passed, self.failed, self.skipped, self.partial = 0, [], [], []


def run(test, command, log):
    """Runs one program; returns its exit status (negative: a signal, None: out of time).
    As with `meson test`, it starts in the build directory: that is what relative arguments mean."""
    environment = {**os.environ, **(test["env"] if isinstance(test["env"], dict) else {})}
    timeout = (test["timeout"] or 3600) * float(os.environ.get("OVERMOUNT_TIMEOUT_MULTIPLIER", "1"))
    with open(log, "wb") as out:
        if not os.access(command[0], os.X_OK):
            out.write(f"{command[0]} is not built\n".encode())
            return 127
        child = subprocess.Popen([*OWN_MOUNTS, *command], stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT,
                                 cwd=test["workdir"] or log.parent.parent, env=environment, start_new_session=True)
        try:
            return child.wait(timeout)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
            return None


def describe(status):
    if status is None:
        return "ran out of time"
    if status < 0:
        return f"died of {signal.Signals(-status).name}"
    return f"exit status {status}"


def case_failures(case):
    for expression in case.iter("Expression"):
        if expression.get("success") == "false":
            text = (expression.findtext("Expanded") or "").strip()
            thrown = expression.findtext("Exception")
            yield f"{expression.get('filename')}:{expression.get('line')}: {text}" + (
                f" threw: {thrown.strip()}" if thrown else "")
    for kind in ("Failure", "Exception", "FatalErrorCondition"):
        for element in case.iter(kind):
            if element.get("filename"):
                yield f"{element.get('filename')}:{element.get('line')}: {(element.text or '').strip()}"


def read_cases(report, result, name):
    """Adds the cases of a Catch2 XML report, also of one that a crash has cut; returns how many failed
    and whether the report is whole."""
    failed, whole = 0, True
    try:
        # Each case as soon as it is complete: what ran before a crash counts.
        for _, case in xml.iterparse(report, events=("end",)):
            if case.tag != "TestCase":
                continue
            overall = case.find("OverallResult")
            printed = "".join(e.text or "" for e in case.iter() if e.tag in ("StdOut", "StdErr", "Warning", "Info", "Skip"))
            skip = SKIPPED.search(printed)
            title = case.get("name")
            if overall is not None and overall.get("success") == "true":
                if skip or int(overall.get("skips", "0")) > 0:
                    why = skip[1][len("SKIPPED: "):] if skip else " ".join(printed.split())
                    why = why.removeprefix(f"{title}: ")
                    result.skipped.append(f"SKIPPED: {name}: {title}: {why}")
                else:
                    result.passed += 1
            else:
                failed += 1
                result.failed.append("\n    ".join([f"{name}: {title}", *case_failures(case)]))
    except (xml.ParseError, FileNotFoundError):
        whole = False
    return failed, whole


def run_catch2(test, result, log):
    report = log.with_suffix(".xml")
    report.unlink(missing_ok=True)
    status = run(test, test["cmd"] + ["-r", "xml", "-o", str(report), "-d", "yes"], log)
    failed, whole = read_cases(report, result, test["name"])
    # A case that calls exit() cuts the report and may still leave status 0.
    if status is None or status < 0 or not whole or (status != 0 and failed == 0):
        cut = "" if whole else ", in the middle of a case"
        result.failed.append(f"{test['name']}: {describe(status)}{cut}, see {log}\n" + tail(log))
    # What a case writes past Catch2 (by printf, from a child process) lies in the log.
    for line in SKIPPED.findall(log.read_text(errors="replace")):
        result.passed -= 1
        result.skipped.append(f"SKIPPED: {test['name']}: {line[len('SKIPPED: '):]}")


def run_script(test, result, log):
    status = run(test, test["cmd"], log)
    if status == 77:
        why = SKIPPED.search(log.read_text(errors="replace"))
        result.skipped.append(f"SKIPPED: {test['name']}: {why[1][len('SKIPPED: '):] if why else 'no reason given'}")
    elif status == 0:
        result.passed += 1
        result.partial += [f"PARTIAL: {test['name']}: {line}" for line in PARTIAL.findall(log.read_text(errors="replace"))]
    else:
        result.failed.append(f"{test['name']}: {describe(status)}, see {log}\n" + tail(log))


def tail(log):
    lines = log.read_text(errors="replace").rstrip().split("\n")[-40:]
    return "\n".join("    " + line for line in lines)


def run_one(test, is_catch2, total, lock, logs):
    here = tally()
    started = time.monotonic()
    (run_catch2 if is_catch2 else run_script)(test, here, logs / (test["name"] + ".log"))
    with lock:
        print(f"{'FAILED' if here.failed else 'ok':7}{test['name']:32}{here.passed:5} passed {len(here.failed):3} failed "
              f"{len(here.skipped):3} skipped {time.monotonic() - started:7.1f} s", flush=True)
        total.passed += here.passed
        total.failed += here.failed
        total.skipped += here.skipped
        total.partial += here.partial


def run_all(tests, jobs, total, logs):
    """Runs them in their order, `jobs` at a time, and adds what became of them."""
    left, lock = queue.SimpleQueue(), threading.Lock()
    for one in tests:
        left.put(one)

    def work():
        while True:
            try:
                test, is_catch2 = left.get_nowait()
            except queue.Empty:
                return
            try:
                run_one(test, is_catch2, total, lock, logs)
            except Exception as failure:  # else a thread that ends is a test that nobody misses
                with lock:
                    total.failed.append(f"{test['name']}: {failure!r}")

    threads = [threading.Thread(target=work) for _ in range(jobs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def main():
    build = pathlib.Path(sys.argv[1]).resolve()
    logs = build / "test-logs"
    logs.mkdir(exist_ok=True)
    chosen = os.environ.get("OVERMOUNT_TEST_FILTER", "")
    wanted = re.compile(chosen)
    tests = json.loads(subprocess.run(["meson", "introspect", "--tests", str(build)], check=True,
                                      stdout=subprocess.PIPE).stdout)
    chosen_tests = []
    for test in tests:
        suites = [s.split(":")[-1] for s in test["suite"]]
        if any(wanted.search(s) for s in suites) and ("failure" not in suites or chosen):
            chosen_tests.append((test, "catch2" in suites))
    total = tally()
    jobs = int(os.environ.get("OVERMOUNT_TEST_JOBS", "0")) or os.cpu_count() or 1
    run_all([one for one in chosen_tests if one[0]["is_parallel"]], jobs, total, logs)
    run_all([one for one in chosen_tests if not one[0]["is_parallel"]], 1, total, logs)
    for text in total.failed:
        print(f"FAILED: {text}")
    for text in total.skipped + total.partial:
        print(text)
    nothing = not (total.passed or total.failed or total.skipped)
    if nothing:
        print("no test ran")
    print(f"{total.passed} passed, {len(total.failed)} failed, {len(total.skipped)} skipped", flush=True)
    return 1 if total.failed or nothing else 0


sys.exit(main())
