r"""Shows what a dataset holds, and what is wrong with it.

    python -m experiments.inspect_dataset ogbench/pointmaze-medium-navigate-singletask-v0

takes any name that --dataset of experiments.train takes, and prints episodes, lengths, returns, rewards,
actions, observations, coverage, memory and the problems that were found. --workdir=FOLDER also leaves all
numbers in FOLDER/dataset.json and, with matplotlib, a picture in FOLDER/dataset.png. With the settings
--data.rewards, --data.normalize_observations and --data.clip_actions of a run, rewards, observations and
actions are those that its agent sees.

Problems are for you to judge, and leave the exit status 0. A dataset that nothing can be learnt from, because
of numbers that are not finite, say, is refused as by every program, in one line, with status 2.
"""

from valuelab.runs import command_line, dataset_inspection

if __name__ == "__main__":
    command_line.run(dataset_inspection.main, dataset_inspection.parse)
