r"""Runs a suite: one job for each agent and dataset, with all seeds of the agent in one process.

    python -m experiments.benchmark --suite=cpu_small --workdir=runs/cpu_small

    python -m experiments.benchmark --suite=ogbench_default --workdir=runs/ogbench --only=fql,floq \
      --add=my_agent.py:cube --cluster=slurm --slurm=partition=gpu --slurm=gpus_per_node=1

`--suite` takes a file, or the name of one in `experiments/suites`. Run the same command again to continue
after a stop or a crash: it skips the jobs that are done, continues the others from their last checkpoints,
and retries the jobs that failed. On Ctrl-C all jobs save and stop. The exit status is 1 when a job failed,
and 130 when the user stopped the suite.
"""

import functools
import pathlib

from valuelab.benchmark import runner
from valuelab.runs import command_line

SUITES = pathlib.Path(__file__).parent / "suites"

parse = runner.parse

if __name__ == "__main__":
    command_line.run(functools.partial(runner.main, suites_folder=SUITES), parse)
