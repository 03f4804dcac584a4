"""robomimic: HDF5 files with a group for each demonstration.

`data/demo_0` holds `actions`, `rewards`, `dones` and the groups `obs` and `next_obs`, with an array for each
observation key. The final observation of a demonstration is its last next observation. Without `next_obs` it
is missing, and a last step that is not done is dropped. Masks are 0 at `dones`, also before the last step.
The bounds of actions are [-1, 1], as robomimic requires.

The filter keys `mask/train` and `mask/valid` are the splits train and val. Without `mask/train`, all
demonstrations are read.
"""

from collections.abc import Mapping, Sequence, Set
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging

from valuelab.arrays import check_hdf5
from valuelab.data import images
from valuelab.data.from_arrays import dataset_from_episodes
from valuelab.data.validation import check_lengths, read_array, reading
from valuelab.errors import InputError, require, unknown
from valuelab.types import Dataset

_OPTIONAL = ("next_obs", "rewards", "dones")
_FILTERS = {"train": "train", "val": "valid"}
"""Split -> filter key."""


def read_file(
    path: Path,
    name: str,
    split: str,
    clip_actions: bool = False,
    observation_keys: Sequence[str] = (),
    image_size: Sequence[int] = (),
) -> Dataset:
    """Reads a file of robomimic.

    Args:
        path: the file.
        name: the name of the dataset.
        split: "train", or "val" where the file has the filter key valid.
        clip_actions: whether to clip actions outside their bounds instead of refusing them.
        observation_keys: the keys of `obs` to read, in this order; () for all, sorted by name. Vectors are
            joined into one vector; with an image among them all keys are kept as parts.
        image_size: as for `images.target_size`.

    Returns:
        A dataset in compact storage.

    Raises:
        InputError: when the split or a key is unknown, or a check fails.
    """
    h5py = require("h5py", "data")
    with reading(path, "repair it, or give another file"), h5py.File(path, "r") as file:
        check_hdf5(file, path)
        demonstrations = _demonstrations(file, split, path)
        first = f"data/{demonstrations[0]}"
        if not isinstance(file.get(f"{first}/obs"), h5py.Group):
            raise InputError(
                f"{path}: {first} has no obs: extract observations with robomimic's dataset_states_to_obs.py"
            )
        known = sorted(file[f"{first}/obs"])
        for key in observation_keys:
            if key not in known:
                raise unknown("observation key", key, known)
        # Arrays that one demonstration has must not be missing in another.
        groups = [file[f"data/{each}"] for each in demonstrations]
        present = {key for key in _OPTIONAL if any(key in group for group in groups)}
        if "rewards" not in present:
            logging.warning(
                "%s has no rewards: they are set to 0; give --reward=FILE.py:FUNCTION for your own", path
            )
        keys = list(observation_keys or known)
        episodes = (
            _episode(file, f"data/{demonstration}", keys, present, image_size, path)
            for demonstration in demonstrations
        )
        return dataset_from_episodes(episodes, clip_actions=clip_actions, compact=True, name=name)


def _demonstrations(file: Any, split: str, path: Path) -> list[str]:
    """The names of the demonstrations of a split, in the order of their numbers."""
    masks = file.get("mask", {})
    splits = [known for known, key in _FILTERS.items() if known == "train" or key in masks]
    if split not in splits:
        raise unknown("split", split, splits)
    names = list(file["data"])
    if _FILTERS[split] in masks:
        names = [each.decode() for each in masks[_FILTERS[split]][()]]
        if missing := sorted(set(names) - set(file["data"])):
            raise InputError(f"{path}: mask/{_FILTERS[split]} names {missing[0]}, but data has no such group")
    if not names:
        raise InputError(f"{path}: data has no demonstrations of the split {split}: give another file")
    return sorted(names, key=lambda each: (len(each), each))  # demo_2 comes before demo_10


def _episode(
    file: Any, group: str, keys: Sequence[str], present: Set[str], image_size: Sequence[int], path: Path
) -> dict[str, Any]:
    """A demonstration as `dataset_from_episodes` takes it; `present` are the optional arrays of the file."""

    def array(key: str, dtype: str | None = "float32") -> np.ndarray:
        return read_array(file, f"{group}/{key}", dtype, path)

    actions = array("actions")
    columns = {f"{group}/actions": actions}
    observations = {}
    for key in keys:
        rows = columns[f"{group}/obs/{key}"] = array(f"obs/{key}", None)
        if "next_obs" in present:
            following = columns[f"{group}/next_obs/{key}"] = array(f"next_obs/{key}", None)
            rows = np.concatenate([rows, following[-1:]])
        if rows.ndim == 4 and rows.dtype == np.uint8:
            size = images.target_size(rows.shape[1:3], image_size, f"{path}: {group}/obs/{key}")
            rows = images.resized(rows, size)
        elif rows.ndim != 2:  # numbers, or point clouds
            rows = rows.reshape(len(rows), -1)
        observations[key] = rows
    check_lengths(columns, path)
    rewards = array("rewards") if "rewards" in present else np.zeros(len(actions), np.float32)
    done = array("dones", "bool") if "dones" in present else np.zeros(len(actions), bool)
    return {
        "observations": alone(observations),
        "actions": actions,
        "rewards": rewards,
        "masks": 1 - done.astype(np.float32),
    }


def alone(observations: Mapping[str, np.ndarray]) -> Any:
    """The array of a single observation key; the dictionary of several."""
    return dict(observations) if len(observations) > 1 else next(iter(observations.values()))
