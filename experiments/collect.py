"""Collects a dataset in the layout in which its source publishes it.

    python -m experiments.collect --dataset=ogbench/pointmaze-medium-navigate-v0 --data_dir=DIR

writes DIR/ogbench/pointmaze-medium-navigate-v0.npz and -val.npz with OGBench's own environments and scripted
oracles;

    python -m experiments.collect --dataset=exorl/walker-rnd --data_dir=DIR --episodes=20

writes DIR/exorl/walker/rnd/buffer/episode_000000_1000.npz and so on: dm_control's walker, cheetah, quadruped
or point_mass_maze, explored by random network distillation or, as exorl/walker-noise, by noise. After an
interruption, the same command continues where it stopped.
"""

import pathlib
import sys

import numpy as np
from absl import flags

from valuelab import domains, errors
from valuelab.arrays import open_npz
from valuelab.data import collection
from valuelab.data.collection import exploration
from valuelab.data.sources import exorl
from valuelab.errors import InputError
from valuelab.files import local_path
from valuelab.runs import command_line, random_network_distillation

DATASET = flags.DEFINE_string("dataset", None, "ogbench/NAME-v0 or exorl/DOMAIN-EXPLORER.", required=True)
DATA_DIR = flags.DEFINE_string("data_dir", "~/.cache/valuelab", "The folder that holds ogbench/ and exorl/.")
EPISODES = flags.DEFINE_integer(
    "episodes", None, "Training episodes; if not given, as published (ogbench) or 100 (exorl)."
)
VAL_EPISODES = flags.DEFINE_integer(
    "val_episodes", None, "Validation episodes (ogbench); a tenth if not given."
)
SEED = flags.DEFINE_integer("seed", 0, "The same seed gives the same arrays.")
PROCESSES = flags.DEFINE_integer("processes", None, "Parallel processes (ogbench); by default one per core.")

_EXPLORED_EPISODES = 100
"""The default number of episodes of an exploration."""


def main(arguments: list[str]) -> int:
    """Collects a dataset, and prints the result in one line."""
    del arguments
    explored = DATASET.value.startswith("exorl/")
    try:
        print(explore() if explored else play_oracles())
    except KeyboardInterrupt:
        kept = explored_folder() if explored else collection.parts_folder(DATASET.value, DATA_DIR.value)
        print(
            f"stopped; finished episodes are kept in {kept}: run the command again",
            file=sys.stderr,
        )
        return 130
    return 0


def play_oracles() -> str:
    """Collects an OGBench dataset; returns a line with the result."""
    name, data_dir = DATASET.value, DATA_DIR.value
    finished = all(collection.target(name, data_dir, split).exists() for split in collection.SPLITS)
    path = collection.collect(
        name,
        data_dir,
        episodes=EPISODES.value,
        val_episodes=VAL_EPISODES.value,
        seed=SEED.value,
        processes=PROCESSES.value,
    )
    with open_npz(path) as arrays:
        episodes = int(np.count_nonzero(arrays["terminals"]))
    if finished:
        return f"nothing to do: {path} exists with {episodes} episodes; delete it to collect it again"
    return f"{path}: {episodes} episodes"


def explore() -> str:
    """Explores a domain of ExoRL; returns a line with the result.

    Raises:
        InputError: for a name with a task, images or a number of episodes, or an unknown explorer.
    """
    name = DATASET.value.removeprefix("exorl/")
    domain, by, task, pixels, episodes = domains.parse(name)
    if task or pixels or episodes:
        raise InputError(
            f"dataset is exorl/{name}, but a collection serves all tasks, and loading it renders its images: "
            f"write exorl/{domain}-{by}, and give the number of episodes with --episodes"
        )
    explorers = {
        "noise": lambda: exploration.noise(domain),
        "rnd": lambda: random_network_distillation.explorer(domain, SEED.value),
    }
    if by not in explorers:
        raise errors.unknown("explorer to collect with", by, explorers)
    count = _EXPLORED_EPISODES if EPISODES.value is None else EPISODES.value
    folder = exploration.collect(name, DATA_DIR.value, explorers[by](), count, SEED.value)
    return f"{folder}: {len(list(folder.glob('*.npz')))} episodes"


def explored_folder() -> pathlib.Path:
    """The folder of the explored episodes."""
    return exorl.folder_of(DATASET.value.removeprefix("exorl/"), local_path("data_dir", DATA_DIR.value))


if __name__ == "__main__":
    command_line.run(main, command_line.parse_flags)
