r"""Runs a suite: agents on datasets, each with all its seeds as a run of its own, in one folder.

    python -m experiments.benchmark --suite=cpu_small --workdir=runs/cpu_small

    python -m experiments.benchmark --suite=ogbench_default --workdir=runs/ogbench --only=fql,floq \
      --add=my_agent.py:cube --cluster=slurm --slurm=partition=gpu --slurm=gpus_per_node=1

`--suite` takes a file, or the name of one in `experiments/suites`. Members that are done are skipped and
others go on where they were, so the same command goes on after anything, and tries again what failed. Ctrl-C
has all members save and stop. The exit status is 1 when a member failed, and 130 when the suite was stopped.
"""

import functools
import pathlib

from valuelab.benchmark import runner
from valuelab.runs import command_line

SUITES = pathlib.Path(__file__).parent / "suites"

if __name__ == "__main__":
    command_line.run(functools.partial(runner.main, suites_folder=SUITES), runner.parse)
