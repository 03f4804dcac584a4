"""Fuzzes every reader: python -m tests.fuzz --inputs=1000 --seed=0"""

import argparse
import collections
import pathlib
import sys
import tempfile

from tests.fuzz import fuzzer


def main() -> None:
    """Counts the outcomes of damaged inputs; exits with status 1 where an outcome is wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        cases = list(fuzzer.fuzz(pathlib.Path(folder), arguments.seed, range(arguments.inputs)))
    counts = collections.Counter((case.reader, case.outcome) for case in cases)
    for (reader, outcome), count in sorted(counts.items()):
        print(f"{reader:8} {outcome:10} {count}")
    wrong = [case for case in cases if case.outcome in fuzzer.WRONG]
    for case in wrong:
        print(f"input {case.number}: {case.reader}, {case.damage}: {case.outcome}: {case.message}")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
