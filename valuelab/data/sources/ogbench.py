"""OGBench: NPZ files of flat arrays, with goals, or with rewards of single tasks by OGBench's own code.

`TASK-KIND-v0`, such as pointmaze-medium-navigate-v0, is goal-conditioned. `TASK-KIND-singletask-v0` and
`TASK-KIND-singletask-task3-v0` read the same file and use the rewards of the default or the third task.

`TASK-KIND-100m-v0`, such as cube-double-play-100m-v0, is a folder of many files, as OGBench publishes them:
TASK-KIND-v0-000.npz, TASK-KIND-v0-000-val.npz and so on. The reader reads all files in the folder, and
downloads none.
"""

import re
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from valuelab.arrays import cast, open_npz
from valuelab.data import download
from valuelab.data.validation import check_finite, check_lengths, read_array, reading, validate
from valuelab.errors import InputError, one_line, require, unknown
from valuelab.types import Dataset

_KINDS = {
    "pointmaze": ("navigate", "stitch"),
    "antmaze": ("navigate", "stitch", "explore"),
    "humanoidmaze": ("navigate", "stitch"),
    "antsoccer": ("navigate", "stitch"),
    "cube": ("play", "noisy"),
    "scene": ("play", "noisy"),
    "puzzle": ("play", "noisy"),
    "powderworld": ("play",),
}
"""The kinds of data published for each family of environments."""

_COLLECTABLE = ("pointmaze-", "cube-", "scene-", "puzzle-", "powderworld-")
_LARGE = {
    "humanoidmaze-giant": ("navigate",),
    "cube-double": ("play",),
    "cube-triple": ("play",),
    "cube-quadruple": ("play", "noisy"),
    "cube-octuple": ("play",),
    "scene": ("play",),
    **{f"puzzle-{size}": ("play",) for size in ("3x3", "4x4", "4x5", "4x6")},
}
"""The environments and kinds of data for which 100 million transitions are published."""

_NUM_TASKS = 5
_POWDERWORLD_ACTIONS = 8
"""A discrete action is an element (of 2, 5 or 8), a column or a row (of 8); OGBench takes the maximum."""
_TAIL = re.compile(r"(-singletask(-task\d+)?)?-v\d+$")
_SINGLETASK = re.compile(r"-singletask(-task\d+)?(?=-v\d+$)")


def read(name: str, data_dir: Path, split: str, clip_actions: bool = False) -> Dataset:
    """Reads data_dir/ogbench/NAME.npz, or NAME-val.npz. Downloads a missing file first.

    In goal-conditioned datasets, rewards are 0 and masks 1: sampling relabels both. OGBench does not state
    the bounds of continuous actions: they are [-1, 1].

    Args:
        name: OGBench's name, such as "cube-single-play-singletask-task2-v0".
        data_dir: the folder that holds ogbench/.
        split: "train" or "val".
        clip_actions: whether to clip actions outside their bounds instead of refusing them.

    Returns:
        A dataset in compact storage.

    Raises:
        InputError: when the name or split is unknown, the file is missing, or a check fails.
    """
    return _joined(list(read_parts(name, data_dir, split, clip_actions)))


def read_parts(name: str, data_dir: Path, split: str, clip_actions: bool = False) -> Iterator[Dataset]:
    """Reads the same dataset file by file, for data that are larger than memory.

    Arguments and errors are those of `read`.

    Yields:
        Datasets in compact storage, in order.
    """
    files = find_files(name, data_dir, split)
    file_name = _SINGLETASK.sub("", name)
    if file_name != name or not files:
        names = known_names()
        if name not in names:
            raise unknown("OGBench dataset", name, names)
    if not files and "-100m-" not in name:
        _download(file_name, _file(file_name, data_dir, split), data_dir)
    for file in files or _expected_files(name, data_dir, split):
        yield _read_file(name, file, clip_actions)


def find_files(name: str, data_dir: Path, split: str) -> list[Path]:
    """The existing files of a dataset, in their order; arguments as for `read`.

    Raises:
        InputError: when the split is unknown.
    """
    if split not in ("train", "val"):
        raise unknown("split", split, ("train", "val"))
    file_name = _SINGLETASK.sub("", name)
    if "-100m-" not in name:
        return [file for file in [_file(file_name, data_dir, split)] if file.exists()]
    folder = data_dir / "ogbench" / file_name
    ending = "-val" if split == "val" else ""
    return sorted(folder.glob(f"{_stem(folder)}-[0-9][0-9][0-9]{ending}.npz"))


def _expected_files(name: str, data_dir: Path, split: str) -> list[Path]:
    """The files of a dataset, the existing ones of a large one; raises if a large one has none."""
    files = find_files(name, data_dir, split)
    file_name = _SINGLETASK.sub("", name)
    if files or "-100m-" not in name:
        return files or [_file(file_name, data_dir, split)]
    folder = data_dir / "ogbench" / file_name
    url = f"{require('ogbench.utils', 'environments').DATASET_URL}/{folder.name}"
    raise InputError(
        f"{folder} has no {_stem(folder)}-000.npz or other file of split {split!r}: download as many files "
        f"of {url} by hand as you need, and put them there"
    )


def _file(file_name: str, data_dir: Path, split: str) -> Path:
    return data_dir / "ogbench" / f"{file_name}{'-val' if split == 'val' else ''}.npz"


def _stem(folder: Path) -> str:
    """The beginning of the names of the files of a large dataset."""
    return folder.name.replace("-100m-", "-")


def _read_file(name: str, path: Path, clip_actions: bool) -> Dataset:
    """Reads one file; arguments and errors as for `read`."""
    # The name determines the dtypes: OGBench reads files so, whatever dtypes they hold.
    discrete = name.startswith("powderworld")
    pixels = discrete or name.startswith("visual")
    singletask = has_task(name)
    with reading(path), open_npz(path) as arrays:
        terminals = read_array(arrays, "terminals", "bool", path)
        rewards = np.zeros(len(terminals), np.float32)
        masks = np.ones(len(terminals), np.float32)
        if singletask:  # first, so that memory does not hold positions and observations at once
            keys = ("qpos", *(key for key in ("button_states",) if key in arrays))
            states = {key: read_array(arrays, key, None, path) for key in keys}
            _check_states({"terminals": terminals} | states, path)
            rewards, masks = _relabel(name, states)
            del states
        actions = read_array(arrays, "actions", "int32" if discrete else "float32", path)
        observations = read_array(arrays, "observations", "uint8" if pixels else "float32", path)
    bound = np.ones(0 if discrete else actions.shape[-1], np.float32)
    dataset = Dataset(
        name=f"ogbench/{name}",
        observations=observations,
        actions=actions,
        rewards=rewards,
        masks=masks,
        terminals=terminals,
        valid=~terminals,
        action_low=-bound,
        action_high=bound,
        num_actions=_POWDERWORLD_ACTIONS if discrete else 0,
        goal_conditioned=not singletask,
    )
    return validate(dataset, path, clip_actions)


def _joined(parts: list[Dataset]) -> Dataset:
    """Joins the datasets of several files, and empties their list."""
    if len(parts) == 1:
        return parts[0]
    columns: list[dict[str, Any]] = [dict(vars(part)) for part in parts]
    parts.clear()
    # One key at a time, so that memory holds at most one array twice.
    keys = ("observations", "actions", "rewards", "masks", "terminals", "valid")
    arrays = {key: np.concatenate([column.pop(key) for column in columns]) for key in keys}
    return Dataset(**(columns[0] | arrays))


def read_states(name: str, data_dir: Path) -> dict[str, np.ndarray]:
    """The observations and simulator states of all rows of a dataset, in time order.

    Args:
        name: the name of a goal-conditioned dataset in data_dir/ogbench/.
        data_dir: the folder that holds ogbench/.

    Returns:
        "observations" [N, ...], "terminals" [N], the simulator's positions "qpos" and, where the file has
        them, "qvel" and "button_states", each [N, ...].

    Raises:
        InputError: when the file is missing, a check fails, or it lacks the simulator's positions.
    """
    parts = []
    for path in _expected_files(name, data_dir, "train"):
        with reading(path), open_npz(path) as arrays:
            kept = (
                "observations",
                "terminals",
                "qpos",
                *(key for key in ("qvel", "button_states") if key in arrays),
            )
            parts.append({key: read_array(arrays, key, None, path) for key in kept})
            parts[-1]["terminals"] = cast("terminals", parts[-1]["terminals"], bool, path)
            _check_states(parts[-1], path)
    if len(parts) == 1:
        return parts[0]
    return {key: np.concatenate([part.pop(key) for part in parts]) for key in list(parts[0])}


def _check_states(states: Mapping[str, np.ndarray], path: Path) -> None:
    """Raises unless the states that determine rewards have equal lengths and are finite."""
    check_lengths(states, path)
    for key, array in states.items():
        check_finite(key, array, path)


def task_rewards(name: str, states: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The rewards of states in each of the five tasks of the environment, by OGBench's own code.

    Args:
        name: the name of a goal-conditioned dataset, such as "cube-single-play-v0".
        states: "qpos" [N, ...], and "button_states" where the environment has buttons.

    Returns:
        "task1" to "task5", each [N]: 1 minus the number of parts of the task that are not done.
    """
    stem, _, version = name.rpartition("-")
    simulator_states = {key: states[key] for key in ("qpos", "button_states") if key in states}
    return {
        f"task{number}": _relabel(f"{stem}-singletask-task{number}-{version}", dict(simulator_states))[0] + 1
        for number in range(1, _NUM_TASKS + 1)
    }


def has_task(name: str) -> bool:
    """Whether a name contains a single task, whose rewards the dataset then has."""
    return _SINGLETASK.search(name) is not None


def known_names() -> list[str]:
    """The names of all datasets of the environments in the installed ogbench."""
    require("ogbench", "environments")
    registry = require("gymnasium", "environments").registry
    names = []
    for environment, spec in registry.items():
        if not str(spec.entry_point).startswith("ogbench."):
            continue
        family = environment.removeprefix("visual-").split("-")[0]
        for kind in _KINDS.get(family, ()):
            large = kind in _LARGE.get(_TAIL.sub("", environment), ())
            names += [
                _TAIL.sub(rf"-{word}\g<0>", environment) for word in (kind, f"{kind}-100m")[: 1 + large]
            ]
    return names


def _relabel(name: str, states: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Rewards [N] and masks [N] of a single task, from the simulator's states, by OGBench's own code.

    The environment with states serves images too, because environments with images need a renderer.
    """
    relabel_dataset = require("ogbench.relabel_utils", "environments").relabel_dataset
    name = name.removeprefix("visual-").replace("-100m-", "-")
    with (
        warnings.catch_warnings(),
        one_line(
            f"the environment of ogbench/{name}, which computes rewards, cannot be made",
            "install the missing packages; if a renderer fails, try another MUJOCO_GL, such as egl or osmesa",
        ),
    ):
        warnings.simplefilter("ignore")  # gymnasium warns that bounds are cast to float32
        environment = require("ogbench", "environments").make_env_and_datasets(name, env_only=True)
    relabel_dataset(name, environment, states)
    environment.close()
    return states["rewards"], states["masks"]


def _download(file_name: str, path: Path, data_dir: Path) -> None:
    """Downloads one published file; the error says how to get it in another way."""
    url = f"{require('ogbench.utils', 'environments').DATASET_URL}/{path.name}"
    if file_name.startswith(_COLLECTABLE):
        otherwise = (
            f"collect it with: python -m experiments.collect --dataset=ogbench/{file_name} "
            f"--data_dir={data_dir}"
        )
    else:
        otherwise = f"download {url} by hand and put it there"
    download.fetch(url, path, check, otherwise)


def check(path: Path) -> None:
    """Raises unless a file is a complete NPZ archive.

    Args:
        path: the file.

    Raises:
        InputError: when one of its members is damaged.
        zipfile.BadZipFile: when the file is not an archive.
    """
    with zipfile.ZipFile(path) as archive:
        damaged = archive.testzip()
    if damaged is not None:
        raise InputError(f"{damaged} is damaged: download the file again")
