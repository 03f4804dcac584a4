"""Compares two OGBench files: layout, and whether their distributions differ beyond sampling error.

    python -m experiments.compare_datasets --reference=FILE --candidate=FILE --out=DIR

prints a table and writes DIR/comparison.json and DIR/comparison.png. Like diff, it exits with 0 where the
files agree and 1 where they differ.

The table shows the distance between the two datasets in each feature, and the distance that sampling error
alone makes: see `valuelab.data.comparison`.
"""

from absl import flags

from valuelab.errors import InputError
from valuelab.runs import command_line, dataset_comparison

REFERENCE = flags.DEFINE_string("reference", None, "The reference .npz.", required=True)
CANDIDATE = flags.DEFINE_string("candidate", None, "The .npz to compare with the reference.", required=True)
OUT = flags.DEFINE_string("out", None, "Folder for comparison.json and comparison.png.", required=True)
PLANE = flags.DEFINE_list("plane", ["0", "1"], "The two observation dimensions whose occupancy is compared.")


def main(arguments: list[str]) -> int:
    """Compares the two files of the command line."""
    del arguments
    if len(PLANE.value) != 2 or not all(dimension.isdecimal() for dimension in PLANE.value):
        raise InputError(f"plane={','.join(PLANE.value)}: give two observation dimensions, such as 0,1")
    plane = int(PLANE.value[0]), int(PLANE.value[1])
    return 0 if dataset_comparison.run(REFERENCE.value, CANDIDATE.value, OUT.value, plane) else 1


if __name__ == "__main__":
    command_line.run(main, command_line.parse_flags)
