"""Kills programs at random, starts them again and compares: python -m tests.kills --kills=100 --seed=0"""

import argparse
import collections
import os
import pathlib
import sys
import tempfile

os.environ.setdefault("JAX_PLATFORMS", "cpu")  # before JAX is imported here and in programs

from tests.kills import killer


def main() -> None:
    """Prints and counts the outcomes of cases; exits with 1 if a killed program left other files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    known = list(killer.programs(pathlib.Path()))
    parser.add_argument("--programs", nargs="+", choices=known, default=known)
    given = parser.parse_args()
    counts: collections.Counter[tuple[str, str]] = collections.Counter()
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as compiled:
        os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", compiled)
        os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
        os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"
        for case in killer.kill(pathlib.Path(folder), given.seed, given.kills, given.programs):
            counts[case.program, case.outcome] += 1
            moments = " and ".join(f"{moment:.2f} s" for moment in case.kills) or "never"
            outcome = f"{case.outcome}: {case.details}" if case.details else case.outcome
            print(f"case {case.number}: {case.program}, killed at {moments}: {outcome}", flush=True)
    for (program, outcome), count in sorted(counts.items()):
        print(f"{program:10} {outcome:12} {count}")
    sys.exit(any(outcome.startswith(killer.WRONG) for _, outcome in counts))


if __name__ == "__main__":
    main()
