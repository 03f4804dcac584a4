"""Minari: folders of episodes, with terminations told from truncations.

Observations become vectors, unless they are images, as `spaces.flatten` has it for environments too.
"""

import collections
import contextlib
import dataclasses
import errno
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from valuelab import spaces
from valuelab.arrays import cast, check_hdf5, check_written
from valuelab.data import storage
from valuelab.data.validation import check_lengths, reading, validate
from valuelab.errors import InputError, require, told, unknown
from valuelab.files import read_json
from valuelab.types import Dataset


def read(name: str, data_dir: Path, split: str, clip_actions: bool = False) -> Dataset:
    """Reads data_dir/minari/ID, after downloading it where it is missing.

    Bounds are those of the action space; actions are discrete where it is.

    Args:
        name: the id as Minari has it, such as "D4RL/pointmaze/umaze-v2".
        data_dir: the folder that holds minari/, what Minari calls MINARI_DATASETS_PATH.
        split: "train", the only one there is.
        clip_actions: whether actions out of bounds are clipped instead of refused.

    Returns:
        A dataset in compact storage.

    Raises:
        InputError: when the id or split is unknown, or the data cannot be had or is at fault.
    """
    if split != "train":
        raise unknown("split", split, ("train",))
    minari = require("minari", "data")
    root = data_dir / "minari"
    path = root / name / "data"
    if not path.is_dir():
        _download(name, root)
    spaces.check_stated(path / "metadata.json")
    with reading(path):
        try:
            source = minari.MinariDataset(path)
            metadata = read_json(path / "metadata.json", "metadata of Minari", "correct it")
            stated = metadata.get("observation_space", "null")
            space = _as_stated(source.observation_space, json.loads(stated))
        except Exception as error:  # what is missing in metadata fails in many ways
            raise InputError(
                f"{path} cannot be opened ({told(error)}): correct metadata.json, or "
                "delete the folder and load again to fetch it anew"
            ) from error
        facts = _action_facts(source.action_space, path)
        flat = spaces.flat(space, str(path))  # before a long time is spent on reading
        episodes = _episodes(source, space, flat, "num_actions" in facts, path)
        dataset = storage.from_episodes(f"minari/{name}", episodes, path)
    return validate(dataclasses.replace(dataset, **facts), path, clip_actions)


def _as_stated(space: Any, stated: Any) -> Any:
    """The same space with the entries of each Dict in the order of metadata.json; Minari sorts them."""
    gym_spaces = require("gymnasium.spaces", "data")
    if stated and isinstance(space, gym_spaces.Dict):
        parts = {key: _as_stated(space[key], part) for key, part in stated["subspaces"].items()}
        return gym_spaces.Dict(collections.OrderedDict(parts))  # in any other mapping they are sorted
    if stated and isinstance(space, gym_spaces.Tuple):
        return gym_spaces.Tuple(map(_as_stated, space.spaces, stated["subspaces"]))
    return space


def _action_facts(space: Any, path: Path) -> dict[str, Any]:
    """What an action space says about actions, as fields of Dataset."""
    gym_spaces = require("gymnasium.spaces", "data")
    if isinstance(space, gym_spaces.Discrete) and space.start == 0:
        return {"num_actions": int(space.n)}
    if isinstance(space, gym_spaces.Box) and len(space.shape) == 1:
        if not space.is_bounded():
            raise InputError(
                f"{path}: the action space {space} is unbounded; give it bounds in metadata.json"
            )
        return {"action_low": space.low.astype(np.float32), "action_high": space.high.astype(np.float32)}
    raise InputError(
        f"{path}: the action space is {space}; only one-dimensional Box and Discrete can be used"
    )


def _episodes(
    source: Any, space: Any, flat: Any, discrete: bool, path: Path
) -> Iterator[dict[str, np.ndarray]]:
    """The arrays of each episode of T transitions, T + 1 rows each, for `storage.from_episodes`."""
    if (file := path / "main_data.hdf5").exists():  # Minari itself would follow where it leads
        with require("h5py", "data").File(file) as opened:
            for name, dataset in check_hdf5(opened, file).items():
                check_written(file, name, dataset)
    stored = iter(source.iterate_episodes())
    for number in range(source.total_episodes):
        try:
            episode = next(stored)
        except (KeyError, StopIteration) as error:
            raise InputError(
                f"{path}: metadata.json states {source.total_episodes} episodes, and the data have no whole "
                f"episode {number} ({' '.join(str(error).split())}); delete the folder and load again to "
                "fetch it anew"
            ) from error
        where = f"{path}: episode {number}"
        observations = spaces.flatten(space, episode.observations, where)
        if observations.shape[1:] != flat.shape:
            raise InputError(
                f"{where}: observations has shape {observations.shape} where metadata.json states "
                f"{flat.shape} a row: repair the episode, or correct metadata.json"
            )
        columns = {
            "actions": cast("actions", episode.actions, np.int32 if discrete else np.float32, where),
            "rewards": cast("rewards", episode.rewards, np.float32, where),
            "masks": 1 - cast("terminations", episode.terminations, bool, where).astype(np.float32),
        }
        check_lengths({"observations after the first": observations[1:], **columns}, where)
        # No action follows the final observation: its row repeats the last one.
        columns = {key: np.concatenate([array, array[-1:]]) for key, array in columns.items()}
        pixels = flat.dtype == np.uint8
        observations = cast("observations", observations, np.uint8 if pixels else np.float32, where)
        yield {"observations": observations, **columns}


def _download(name: str, root: Path) -> None:
    """Fetches a dataset through Minari, which looks for its folder in an environment variable."""
    minari = require("minari", "data")
    try:
        root.mkdir(parents=True, exist_ok=True)
        # Apart from all that is there, and moved in one step once it is whole.
        with tempfile.TemporaryDirectory(dir=root, prefix=".download-") as apart:
            with mock.patch.dict(os.environ, MINARI_DATASETS_PATH=apart):
                minari.download_dataset(name)
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(FileExistsError):  # another process was faster
                _move(Path(apart) / name, root / name)
    except Exception as error:  # anything from a missing client library to a full disk
        found = sorted(file.parents[1] for file in root.glob("**/data/metadata.json"))
        near = (
            f" (there are: {', '.join(str(folder.relative_to(root)) for folder in found)})" if found else ""
        )
        raise InputError(
            f"no Minari dataset {root / name}{near}, and it cannot be downloaded "
            f"({' '.join(str(error).split())}): check the id, or copy its folder there by hand"
        ) from error


def _move(folder: Path, target: Path) -> None:
    """Moves a folder.

    Raises:
        FileExistsError: when something is there.
    """
    try:
        folder.replace(target)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        raise FileExistsError(*error.args) from error
