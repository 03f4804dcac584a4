"""Collects an OGBench dataset with OGBench's own environments and scripted oracles.

    python -m experiments.collect --dataset=ogbench/pointmaze-medium-navigate-v0 --data_dir=DIR

writes DIR/ogbench/pointmaze-medium-navigate-v0.npz and -val.npz in the published layout. Killed or
interrupted, the same command goes on where it stopped.
"""

import sys

import numpy as np
from absl import app, flags

from valuelab.data import collection
from valuelab.errors import InputError

DATASET = flags.DEFINE_string("dataset", None, "ogbench/NAME-v0.", required=True)
DATA_DIR = flags.DEFINE_string("data_dir", "~/.cache/valuelab", "The folder that holds ogbench/NAME-v0.npz.")
EPISODES = flags.DEFINE_integer("episodes", None, "Training episodes; as published if not given.")
VAL_EPISODES = flags.DEFINE_integer("val_episodes", None, "Validation episodes; a tenth if not given.")
SEED = flags.DEFINE_integer("seed", 0, "The same seed gives the same arrays.")
PROCESSES = flags.DEFINE_integer("processes", None, "Parallel processes; one a core if not given.")


def main(arguments: list[str]) -> int:
    """Collects, and says in one line what came of it."""
    del arguments
    name, data_dir = DATASET.value, DATA_DIR.value
    finished = all(collection.target(name, data_dir, split).exists() for split in collection.SPLITS)
    try:
        path = collection.collect(
            name,
            data_dir,
            episodes=EPISODES.value,
            val_episodes=VAL_EPISODES.value,
            seed=SEED.value,
            processes=PROCESSES.value,
        )
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        parts = collection.parts_folder(name, data_dir)
        print(
            f"stopped; finished episodes are kept in {parts}: run the same command to go on", file=sys.stderr
        )
        return 130
    with np.load(path, allow_pickle=False) as arrays:
        episodes = int(np.count_nonzero(arrays["terminals"]))
    if finished:
        print(f"nothing to do: {path} is there, with {episodes} episodes; delete it to collect it anew")
    else:
        print(f"{path}: {episodes} episodes")
    return 0


if __name__ == "__main__":
    app.run(main)
