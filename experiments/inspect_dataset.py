r"""Shows what a dataset holds, and its faults.

    python -m experiments.inspect_dataset ogbench/pointmaze-medium-navigate-singletask-v0

takes any name that --dataset of experiments.train takes. It prints episodes, lengths, returns, rewards,
actions, observations, coverage, memory and the faults that were found. --workdir=FOLDER also writes all
numbers to FOLDER/dataset.json and, with matplotlib, a picture to FOLDER/dataset.png. With the settings
--data.rewards, --data.normalize_observations and --data.clip_actions of a run, the program shows rewards,
observations and actions as the agent of that run sees them.

You judge the faults: they do not change the exit status 0. A dataset that cannot be used, for example
because of numbers that are not finite, is refused in one line with status 2, as in every program.
"""

from valuelab.runs import command_line, dataset_inspection

parse = dataset_inspection.parse

if __name__ == "__main__":
    command_line.run(dataset_inspection.main, parse)
