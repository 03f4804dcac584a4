"""Collects datasets with OGBench's scripted oracles or by exploration, as `experiments.collect` does."""

import pathlib

import numpy as np

from valuelab import domains, errors
from valuelab.arrays import open_npz
from valuelab.configuration import DEFAULT_DATA_DIR
from valuelab.data import collection
from valuelab.data.collection import exploration
from valuelab.data.sources import exorl
from valuelab.errors import InputError
from valuelab.files import local_path
from valuelab.runs import command_line, dataset_inspection, random_network_distillation

EXPLORED_EPISODES = 100
"""The default number of episodes of an exploration."""


def play_oracles(
    name: str, data_dir: str, episodes: int | None, val_episodes: int | None, seed: int, processes: int | None
) -> str:
    """Collects an OGBench dataset; returns a line with the result. Arguments as in `collection.collect`."""
    finished = all(collection.target(name, data_dir, split).exists() for split in collection.SPLITS)
    path = collection.collect(
        name, data_dir, episodes=episodes, val_episodes=val_episodes, seed=seed, processes=processes
    )
    with open_npz(path) as arrays:
        count = int(np.count_nonzero(arrays["terminals"]))
    if finished:
        return f"nothing to do: {path} exists with {count} episodes; delete it to collect it again"
    return f"{path}: {count} episodes"


def explore(dataset: str, data_dir: str, episodes: int | None, seed: int, steps: int, anywhere: bool) -> str:
    """Explores a domain of ExoRL; returns a line with the result.

    Args:
        dataset: exorl/DOMAIN-EXPLORER.
        data_dir: the folder of datasets.
        episodes: the number of episodes; None for EXPLORED_EPISODES.
        seed: random seed of the episodes and of what is learnt.
        steps: the number of steps of an episode.
        anywhere: whether episodes start anywhere in the domain.

    Raises:
        InputError: for a name with a task, images or a number of episodes, or an unknown explorer.
    """
    name = dataset.removeprefix("exorl/")
    domain, by, task, pixels, named_episodes = domains.parse(name)
    if task or pixels or named_episodes:
        raise InputError(
            f"dataset is exorl/{name}, but a collection serves all tasks, and loading it renders its images: "
            f"write exorl/{domain}-{by}, and give the number of episodes with --episodes"
        )
    explorers = {
        "noise": lambda: exploration.noise(domain),
        "rnd": lambda: random_network_distillation.explorer(domain, seed, max(steps // 2, 1)),
    }
    if by not in explorers:
        raise errors.unknown("explorer to collect with", by, explorers)
    count = EXPLORED_EPISODES if episodes is None else episodes
    folder = exploration.collect(name, data_dir, explorers[by](), count, seed, steps, anywhere)
    return f"{folder}: {len(list(folder.glob('*.npz')))} episodes"


def next_steps(dataset: str, data_dir: str) -> list[str]:
    """The commands that inspect a collected dataset and train on it, for `command_line.print_next`."""
    folder = [] if data_dir == DEFAULT_DATA_DIR else [f"--data_dir={data_dir}"]
    return [
        command_line.command("inspect_dataset", dataset, *folder),
        *dataset_inspection.next_steps(dataset, data_dir),
    ]


def kept_folder(dataset: str, data_dir: str) -> pathlib.Path:
    """The folder that keeps the finished episodes of a collection that was interrupted."""
    if dataset.startswith("exorl/"):
        return exorl.folder_of(dataset.removeprefix("exorl/"), local_path("data_dir", data_dir))
    return collection.parts_folder(dataset, data_dir)
