"""Minari: folders of episodes, which distinguish terminations from truncations.

Observations become vectors, images or packed parts by `spaces.flatten`, as in environments.
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
from valuelab.data import download, storage
from valuelab.data.validation import check_lengths, reading, validate
from valuelab.errors import InputError, describe, require, unknown
from valuelab.files import read_json
from valuelab.types import Dataset


def read(name: str, data_dir: Path, split: str, clip_actions: bool = False) -> Dataset:
    """Reads data_dir/minari/ID. Downloads a missing dataset first.

    The action space decides whether actions are discrete, and gives their bounds.

    Args:
        name: Minari's id, such as "D4RL/pointmaze/umaze-v2".
        data_dir: the folder that holds minari/, which Minari calls MINARI_DATASETS_PATH.
        split: "train", the only split.
        clip_actions: whether to clip actions outside their bounds instead of refusing them.

    Returns:
        A dataset in compact storage.

    Raises:
        InputError: when the id or split is unknown, the data are missing, or a check fails.
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
            stored = minari.MinariDataset(path)
            metadata = read_json(path / "metadata.json", "metadata of Minari", "correct it")
            stated_space = metadata.get("observation_space", "null")
            space = _as_stated(stored.observation_space, json.loads(stated_space))
        except Exception as error:  # missing metadata raise many kinds of exceptions
            raise InputError(
                f"{path} cannot be opened ({describe(error)}): correct metadata.json, or "
                "delete the folder and load the dataset again to download it"
            ) from error
        facts = _action_facts(stored.action_space, path)
        flat = spaces.flat(space, str(path))  # fails before the slow reading of episodes
        episodes = _episodes(stored, space, flat, "num_actions" in facts, path)
        dataset = storage.from_episodes(f"minari/{name}", episodes, path)
    dataset = dataclasses.replace(dataset, observation_parts=spaces.parts_of(flat), **facts)
    return validate(dataset, path, clip_actions)


def _as_stated(space: Any, stated: Any) -> Any:
    """The same space, with Dict entries in the order of metadata.json; Minari sorts them by name."""
    gym_spaces = require("gymnasium.spaces", "data")
    if stated and isinstance(space, gym_spaces.Dict):
        parts = {key: _as_stated(space[key], part) for key, part in stated["subspaces"].items()}
        return gym_spaces.Dict(
            collections.OrderedDict(parts)
        )  # gymnasium sorts the entries of any other mapping
    if stated and isinstance(space, gym_spaces.Tuple):
        return gym_spaces.Tuple(map(_as_stated, space.spaces, stated["subspaces"]))
    return space


def _action_facts(space: Any, path: Path) -> dict[str, Any]:
    """The fields of Dataset that an action space determines."""
    gym_spaces = require("gymnasium.spaces", "data")
    if isinstance(space, gym_spaces.Discrete) and space.start == 0:
        return {"num_actions": int(space.n)}
    if isinstance(space, gym_spaces.Box) and len(space.shape) == 1:
        if not space.is_bounded():
            raise InputError(
                f"{path}: the action space {space} is unbounded: give it bounds in metadata.json"
            )
        return {"action_low": space.low.astype(np.float32), "action_high": space.high.astype(np.float32)}
    raise InputError(
        f"{path}: the action space is {space}, but must be a one-dimensional Box or a Discrete from 0: use "
        "another dataset"
    )


def _episodes(
    stored: Any, space: Any, flat: Any, discrete: bool, path: Path
) -> Iterator[dict[str, np.ndarray]]:
    """The arrays of each episode of T transitions, T + 1 rows each, for `storage.from_episodes`."""
    if (file := path / "main_data.hdf5").exists():  # Minari would follow links to other files
        with require("h5py", "data").File(file) as opened:
            for name, dataset in check_hdf5(opened, file).items():
                check_written(file, name, dataset)
    episodes = iter(stored.iterate_episodes())
    for number in range(stored.total_episodes):
        try:
            episode = next(episodes)
        except (KeyError, StopIteration) as error:
            raise InputError(
                f"{path}: metadata.json states {stored.total_episodes} episodes, but episode {number} is not "
                f"complete ({' '.join(str(error).split())}): delete the folder and load the dataset again to "
                "download it"
            ) from error
        where = f"{path}: episode {number}"
        observations = spaces.flatten(space, episode.observations, where)
        if observations.shape[1:] != flat.shape:
            raise InputError(
                f"{where}: observations has shape {observations.shape}, but metadata.json states "
                f"{flat.shape} per row: repair the episode, or correct metadata.json"
            )
        columns = {
            "actions": cast("actions", episode.actions, np.int32 if discrete else np.float32, where),
            "rewards": cast("rewards", episode.rewards, np.float32, where),
            "masks": 1 - cast("terminations", episode.terminations, bool, where).astype(np.float32),
        }
        check_lengths({"observations after the first": observations[1:], **columns}, where)
        # No action follows the final observation, so its row repeats the last action.
        columns = {key: np.concatenate([array, array[-1:]]) for key, array in columns.items()}
        pixels = flat.dtype == np.uint8
        observations = cast("observations", observations, np.uint8 if pixels else np.float32, where)
        yield {"observations": observations, **columns}


def _download(name: str, root: Path) -> None:
    """Downloads a dataset through Minari, which takes its folder from an environment variable."""
    minari = require("minari", "data")
    try:
        if os.environ.get("MINARI_REMOTE", "hf:").startswith("hf:"):
            download.check_reachable(require("huggingface_hub.constants", "data").ENDPOINT)
        root.mkdir(parents=True, exist_ok=True)
        # Into a temporary folder; the complete dataset is then moved in one step.
        with tempfile.TemporaryDirectory(dir=root, prefix=".download-") as temporary:
            with mock.patch.dict(os.environ, MINARI_DATASETS_PATH=temporary):
                minari.download_dataset(name)
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(FileExistsError):  # another process was faster
                _move(Path(temporary) / name, root / name)
    except Exception as error:  # from a missing client library to a full disk
        folders = sorted(file.parents[1] for file in root.glob("**/data/metadata.json"))
        names = ", ".join(str(folder.relative_to(root)) for folder in folders)
        local = f" (local datasets: {names})" if names else ""
        raise InputError(
            f"Minari dataset {root / name} does not exist{local} and cannot be downloaded "
            f"({' '.join(str(error).split())}): check the id, or copy its folder there by hand"
        ) from error


def _move(folder: Path, target: Path) -> None:
    """Moves a folder.

    Raises:
        FileExistsError: when the target exists.
    """
    try:
        folder.replace(target)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        raise FileExistsError(*error.args) from error
