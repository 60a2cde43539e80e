#!/usr/bin/env python3
"""Cases for what om pulls from registries that behave as real ones do: one for each fact of the notes about registries.

    quirks.py OM [--json] [--list] [--jobs N] [NAME...]     NAME: a case, or a regex of cases

One line a case, with the fact; exit status 1 if one fails, 77 if none can run here. `--json` has om print JSON. A case passes if
om's outcome is the expected one, the servers were asked for what they expected and nothing else, and no output has a secret.

Facts without a case, and why:
- A token is renewed a few seconds before it ends: the shortest life is a minute (`token_answer::expires`, in the unit tests).
- The stall timer does not run while a full ring keeps us from reading: needs a slow disk at the right moment (unit tests of
  `exchange`); a server that hangs up on such a reader is the case `resume_*`.
- Beast as a parser, cost of compilation, CPU and memory: measured by bench/.
- No `||`, closures in co_await and the like: compile-time rules, in lint.py.
- Referrers and the fallback tag: om has no command that asks for them.
- Push: not built. The pushing half of hosts.toml (capabilities) and "mirrors are for reading only" belong to it.
- A public name that resolves to a private address: the client judges names, not addresses (`require_safe_destination`).
- HEAD of the Hub that counts: shown as the number of GETs (`head_when_known`). `$XDG_RUNTIME_DIR` unset: /run/containers is real.
- short-name-mode asks on a terminal: the cases have none."""
import argparse
import concurrent.futures
import pathlib
import re
import sys
import time
import traceback

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import trial  # noqa: E402
from cases import (authentication, bodies, busy, debian, discovery, files, manifests, mirrors, names, pipeline,  # noqa: E402, F401
                   proxies, redirects)
from trial import CASES, Problem  # noqa: E402


def run(shared, name, given):
    """None if the case passes, else why not."""
    one, began = None, time.monotonic()
    try:
        one = trial.trial(shared, name, given.om, given.json)
        CASES[name].run(one)
        one.finish()
        problem = None
    except Problem as failure:
        problem = str(failure)
    except Exception:  # the case itself is wrong
        problem = traceback.format_exc()
    finally:
        if one:
            one.close()
    print(f"{'passed' if problem is None else 'FAILED'} {name} ({time.monotonic() - began:.1f} s): {CASES[name].fact}" +
          (f"\n    {problem}" if problem else ""), flush=True)
    return problem


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("om")
    options.add_argument("names", nargs="*")
    options.add_argument("--json", action="store_true")
    options.add_argument("--list", action="store_true", help="print the cases, and run none")
    options.add_argument("--jobs", type=int, default=4)
    given = options.parse_intermixed_args()
    chosen = [name for name in CASES if not given.names or any(re.fullmatch(n, name) for n in given.names)]
    if given.list:
        print("\n".join(f"{name}: {CASES[name].fact}" for name in chosen))
        return
    if not chosen:
        sys.exit("no such case")
    given.om = str(pathlib.Path(given.om).resolve())
    shared = trial.world()
    together = sorted((n for n in chosen if not CASES[n].alone), key=lambda n: not CASES[n].slow)  # the slow ones first
    with concurrent.futures.ThreadPoolExecutor(given.jobs) as pool:
        problems = list(pool.map(lambda name: run(shared, name, given), together))
    problems += [run(shared, name, given) for name in chosen if CASES[name].alone]
    failed = [p for p in problems if p is not None]
    print(f"{len(problems) - len(failed)} passed, {len(failed)} failed")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
