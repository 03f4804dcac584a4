"""NPZ files of the user: flat arrays by name, read without running any code of the file.

The keys decide between two layouts.

- Without `terminals`, the keys are the arguments of `dataset_from_arrays`, and mean the same.
- `terminals` marks the last row of each episode, as in OGBench. The last row holds only the final
  observation: its action, reward and mask are not used. So an episode of T steps has T + 1 rows. Where
  there are neither rewards nor masks, the dataset is goal-conditioned. With `next_observations`, every row
  is a step, and `terminals` is another name of `episode_ends`.

Observations of several parts have a key for each part, such as `observations/image`.

`save` writes the second layout. It holds each observation once, if the successor of every row is the next row
of its episode. Other keys, such as OGBench's `qpos`, are not read.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging

from valuelab import files
from valuelab.arrays import open_npz
from valuelab.data import from_arrays, storage
from valuelab.data.validation import check_lengths, read_array, reading, validate
from valuelab.errors import InputError, unknown
from valuelab.files import local_path
from valuelab.observation_parts import unpack
from valuelab.types import Dataset

_ARRAYS = (
    *("observations", "actions", "rewards", "terminations", "truncations", "masks"),
    *("episode_ends", "next_observations", "terminals"),
)
_FACTS = ("num_actions", "action_bounds", "goal_conditioned")
_REMEDY = "write it again with np.savez, or give another file"


def read(name: str, data_dir: Path, split: str, clip_actions: bool = False, mapped: bool = False) -> Dataset:
    """Reads an NPZ file.

    Args:
        name: a path that ends in .npz.
        data_dir: not used.
        split: "train", the only split.
        clip_actions: whether to clip actions outside their bounds instead of refusing them.
        mapped: whether arrays that need no conversion are memory-mapped if the file is not compressed.

    Returns:
        A dataset in compact storage. It is in full storage if the file has next_observations that are not
        the next rows.

    Raises:
        InputError: when the split is unknown, the file is missing, its keys belong to neither layout, or a
            check fails.
    """
    del data_dir
    if split != "train":
        raise unknown("split", split, ("train",))
    path = local_path("dataset", name)
    if not path.exists():
        raise InputError(f"{path} does not exist: give the path of an NPZ file, such as save_dataset writes")
    with reading(path, _REMEDY), open_npz(path, mapped) as opened:
        found = set(opened)
        given: dict[str, Any] = {
            key: read_array(opened, key, None, path) for key in _ARRAYS if key in found
        } | {key: opened[key] for key in _FACTS if key in found}
        for key in ("observations", "next_observations"):
            names = sorted(name for name in found if name.startswith(f"{key}/"))
            if names and key not in found:
                given[key] = {name[len(key) + 1 :]: read_array(opened, name, None, path) for name in names}
    for key in ("observations", "actions"):
        if key not in given:
            raise InputError(
                f"{path}: key {key!r} is missing; the file has {', '.join(sorted(found)) or 'no keys'}: "
                "rename its keys to the arguments of valuelab.dataset_from_arrays"
            )
    if "timeouts" in found:
        raise InputError(
            f"{path}: its keys terminals and timeouts are those of D4RL: rename them to terminations and "
            "truncations"
        )
    if "num_actions" in given:
        given["num_actions"] = _single("num_actions", given["num_actions"], path)
    if "goal_conditioned" in given:
        given["goal_conditioned"] = bool(_single("goal_conditioned", given["goal_conditioned"], path))
    if "terminals" not in given:
        dataset = from_arrays.dataset_from_arrays(**given, clip_actions=clip_actions, name=name)
        return storage.compact(dataset)
    if not found & set(_FACTS):  # `save` did not write the file
        logging.warning(
            "%s: terminals is read as in OGBench: it marks the last row of each episode%s",
            *(path, "" if "next_observations" in given else ", which holds the final observation"),
        )
    if "next_observations" in given:
        given["episode_ends"] = given.pop("terminals")
        dataset = from_arrays.dataset_from_arrays(**given, clip_actions=clip_actions, name=name)
        return storage.compact(dataset)
    return _with_final_rows(given, name, clip_actions)


def _single(key: str, value: np.ndarray, path: Path) -> int:
    """A whole number, or a truth value, that the file holds as an array without axes."""
    if value.shape or value.dtype.kind not in "iub" or value < 0:
        raise InputError(f"{path}: {key} is {value.dtype} of shape {value.shape}: give one whole number")
    return int(value)


def _with_final_rows(given: Mapping[str, Any], name: str, clip_actions: bool) -> Dataset:
    """The dataset of a file whose episodes end with a row for the final observation."""
    if given.keys() & {"truncations", "episode_ends"}:
        raise InputError(
            f"{name}: terminals marks the ends of episodes, so truncations and episode_ends are not needed: "
            "keep terminals, or rename it to terminations"
        )
    marked = given.keys() & {"rewards", "masks", "terminations"}
    goal_conditioned = given.get("goal_conditioned", not marked)
    if not goal_conditioned and not given.keys() & {"masks", "terminations"}:
        raise InputError(
            f"{name}: masks is missing; terminals says where episodes end, but not whether they were cut: "
            "add masks, 0 where an episode truly ended; or rename D4RL's terminals to terminations"
        )
    num_actions = given.get("num_actions", 0)
    names = {key: given.get(key) for key in _ARRAYS if key != "terminals"}
    arrays, parts = from_arrays.converted(names | {"episode_ends": given["terminals"]}, num_actions, name)
    check_lengths(arrays, name)
    arrays = from_arrays.with_masks(arrays, goal_conditioned, name)
    bounds = given.get("action_bounds", (-1, 1))
    terminals = arrays["episode_ends"]
    dataset = Dataset(
        name=name,
        observations=arrays["observations"],
        actions=arrays["actions"],
        rewards=arrays["rewards"],
        masks=arrays["masks"],
        terminals=terminals,
        valid=~terminals,
        goal_conditioned=goal_conditioned,
        observation_parts=parts,
        **from_arrays.action_facts(arrays["actions"], num_actions, bounds, name),
    )
    return validate(dataset, name, clip_actions)


def save(dataset: Dataset, path: str | os.PathLike[str]) -> None:
    """Writes a dataset as an NPZ file, which `load_dataset(path)` reads to the bit.

    The name of the dataset that is read is its path.

    Args:
        dataset: the dataset, in either storage.
        path: a path that ends in .npz; an existing file is replaced.

    Raises:
        InputError: for a path with another ending, or one that cannot be written.

    Example:
        >>> import valuelab as vl
        >>> vl.save_dataset(dataset, workdir / "own.npz")
        >>> vl.load_dataset(str(workdir / "own.npz")).rewards.shape
        (40,)
    """
    place = local_path("path", path)
    if place.suffix != ".npz":
        raise InputError(f"path is {path}: give one that ends in .npz")
    dataset = storage.compact(dataset)
    arrays: dict[str, Any] = {
        "actions": dataset.actions,
        "rewards": dataset.rewards,
        "masks": dataset.masks,
        "terminals": dataset.terminals,
        "goal_conditioned": dataset.goal_conditioned,
    }
    for key in ("observations", "next_observations"):
        array = getattr(dataset, key)
        if array is not None and dataset.observation_parts:
            parts = unpack(array, dataset.observation_parts)
            arrays |= {f"{key}/{name}": part for name, part in parts.items()}
        elif array is not None:
            arrays[key] = array
    if dataset.num_actions:
        arrays["num_actions"] = dataset.num_actions
    else:
        arrays["action_bounds"] = np.stack([dataset.action_low, dataset.action_high])
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with files.replacing(place) as file:
            np.savez(file, allow_pickle=False, **arrays)
    except OSError as error:
        raise InputError(f"{place} cannot be written ({error}): give another path") from error
