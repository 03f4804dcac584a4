"""D4RL: HDF5 files of flat arrays, in the conventions of its versions v0 to v2.

Read are observations, actions, rewards, terminals and, where a file has them, timeouts and
next_observations; infos/... and metadata/... are left alone. Masks are zero at terminals. An episode ends

- at a terminal, unless trajectories go on after terminals. In AntMaze they do: its terminals mark the rows
  near the goal. A trajectory goes on where the stored next observation is the observation of the next row.
  Where none are stored, or all rows have that of the next, trajectories go on after terminals if the steps
  from most of them are no longer than ordinary steps (`steps.goes_on`);
- at a timeout. Files of v0 without timeouts count them as D4RL does: an episode is cut when it reaches the
  step limit of its environment (D4RL's own counter starts at one instead of zero after a terminal; here every
  episode counts alike);
- where a stored next observation is not the observation of the next row;
- at the end of the file. A file that marks no end at all is one episode.

The final observation of an episode is its last stored next observation. A file without those lacks it: a
transition that a terminal ends is kept, with its own observation standing in for the successor that its mask
hides; any other last transition is dropped, as D4RL does, since its value would need the successor.

Observations of uint8 are images and stay so; all others become float32.
"""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging

from valuelab.arrays import cast, check_hdf5, check_written
from valuelab.data import download, steps
from valuelab.data.validation import (
    check_finite,
    check_lengths,
    check_successors,
    check_transitions,
    read_array,
    reading,
    validate,
)
from valuelab.domains.d4rl import FILES, SUFFIXES
from valuelab.errors import InputError, require, unknown
from valuelab.files import local_path
from valuelab.types import Dataset

URL = "https://rail.eecs.berkeley.edu/datasets/offline_rl"
"""Where D4RL publishes its files."""

DIGESTS = Path(__file__).with_name("d4rl.sha256")
"""Their SHA-256 where TensorFlow Datasets publishes it, in its checksums.tsv: digest, and path under URL."""

_STEP_LIMITS = {
    **dict.fromkeys(("halfcheetah", "hopper", "walker2d", "ant"), 1000),
    **{"antmaze-umaze": 700, "antmaze-medium": 1000, "antmaze-large": 1000},
    **{"maze2d-open": 150, "maze2d-umaze": 300, "maze2d-medium": 600, "maze2d-large": 800},
    **{"pen": 100, "hammer": 200, "door": 200, "relocate": 200, "kitchen": 280},
}
"""The step limits of D4RL's environments, by the longest prefix of a name up to a dash."""

_CHUNK = 1 << 16
_SAME_OBSERVATION = 1e-6
"""How far two observations may lie apart and be one; IQL's code splits episodes by the same number."""


def read(name: str, data_dir: Path, split: str, clip_actions: bool = False) -> Dataset:
    """Reads data_dir/d4rl/NAME.hdf5, after downloading it where it is missing, or any HDF5 file.

    D4RL files state no bounds: their actions lie in [-1, 1].

    Args:
        name: the name as D4RL has it, such as "hopper-medium-v2", or a path that ends in .hdf5 or .h5.
        data_dir: the folder that holds d4rl/.
        split: "train", the only one there is.
        clip_actions: whether actions out of bounds are clipped instead of refused.

    Returns:
        A dataset in compact storage.

    Raises:
        InputError: when the name or split is unknown, or the file cannot be had or is at fault.
    """
    if split != "train":
        raise unknown("split", split, ("train",))
    own_file = name.endswith(SUFFIXES)
    path = local_path("dataset", name) if own_file else data_dir / "d4rl" / f"{name}.hdf5"
    h5py = require("h5py", "data")
    if own_file and not path.exists():
        raise InputError(f"no file {path}: give the path of a D4RL HDF5 file, or a name such as d4rl/NAME")
    if not path.exists():
        _download(name, path)

    remedy = {"remedy": "mend it, or give another file"} if own_file else {}
    with reading(path, **remedy), h5py.File(path, "r") as file:
        check_hdf5(file, path)
        pixels = getattr(file.get("observations"), "dtype", None) == np.uint8
        arrays = {"observations": read_array(file, "observations", "uint8" if pixels else "float32", path)}
        for key, dtype in (("actions", "float32"), ("rewards", "float32"), ("terminals", "bool")):
            arrays[key] = read_array(file, key, dtype, path)
        if "timeouts" in file:
            arrays["timeouts"] = read_array(file, "timeouts", "bool", path)
        check_lengths(arrays, path)
        observations = arrays["observations"]
        check_finite("observations", observations, path)
        for key in arrays.keys() & {"rewards", "terminals", "timeouts"}:
            if arrays[key].shape[1:] == (1,):  # early files have columns
                arrays[key] = arrays[key][:, 0]
            if arrays[key].ndim > 1:
                raise InputError(f"{path}: {key} has shape {arrays[key].shape} where [rows] is expected")
        terminated, timeouts = arrays["terminals"], arrays.get("timeouts")
        if "next_observations" in file:
            following = file["next_observations"]
            check_lengths({"observations": observations, "next_observations": following}, path)
            check_successors(observations, following, path)
            check_written(path, "next_observations", following.id)
            jumps, stored = _jumps(following, observations, path)
            ends = _episode_ends(observations, terminated, timeouts, jumps, path)
            has_final, finals = ends, observations.take(np.flatnonzero(ends) + 1, axis=0, mode="clip")
            finals[jumps[ends]] = stored
        else:
            jumps = np.arange(len(observations)) == len(observations) - 1
            ends = _episode_ends(observations, terminated, timeouts, jumps, path)
            has_final = ends & terminated
            finals = observations[has_final]
    bound = np.ones(arrays["actions"].shape[-1], np.float32)
    dataset = Dataset(
        name=name if own_file else f"d4rl/{name}",
        observations=observations,
        actions=arrays["actions"],
        rewards=arrays["rewards"],
        masks=1 - terminated.astype(np.float32),
        terminals=ends,
        action_low=-bound,
        action_high=bound,
    )
    dataset = _with_final_rows(validate(dataset, path, clip_actions), has_final, finals)
    check_transitions(dataset, path)
    return dataset


def published() -> dict[str, str]:
    """Names of the datasets that D4RL publishes, and their URLs."""
    return {name: f"{URL}/{file}.hdf5" for name, file in FILES.items()}


def _download(name: str, path: Path) -> None:
    """Fetches one published file."""
    urls = published()
    if name not in urls:
        raise unknown("D4RL dataset", name, urls)
    open_file = require("h5py", "data").File
    known = (line.split() for line in DIGESTS.read_text().splitlines())
    download.fetch(
        urls[name],
        path,
        lambda part: open_file(part, "r").close(),
        f"put {urls[name]} there by hand",
        [digest for digest, file in known if f"{URL}/{file}" == urls[name]],
    )


def _episode_ends(
    observations: np.ndarray,
    terminated: np.ndarray,
    timeouts: np.ndarray | None,
    jumps: np.ndarray,
    path: Path,
) -> np.ndarray:
    """[N] bool, True at the last row of each episode, by the rule of this module.

    `jumps` are the rows whose successor is known not to be the next row, the last row at least.
    """
    ends = jumps if timeouts is None else jumps | timeouts
    if not jumps[:-1].any():  # where a stored next observation ever tells, it tells at terminals too
        marked, others = np.flatnonzero(terminated & ~ends), np.flatnonzero(~terminated & ~ends)
        if not steps.goes_on(observations, marked, others):
            ends = ends | terminated
    if timeouts is None:
        ends = ends | _steps_out(ends, path)
    if ends.sum() == 1 and not terminated[-1] and not (timeouts is not None and timeouts[-1]):
        logging.warning(
            "%s: neither terminals nor timeouts has an episode end, so its %d rows are read as one episode; "
            "if there are several, mark the last row of each in timeouts",
            *(path, len(ends)),
        )
    return ends


def _steps_out(ends: np.ndarray, path: Path) -> np.ndarray:
    """[N] bool, True where an episode reaches the step limit of the environment the file is named for."""
    steps_out = np.zeros_like(ends)
    limits = [limit for task, limit in _STEP_LIMITS.items() if path.stem.startswith(f"{task}-")]
    if limits:
        stops = np.flatnonzero(ends) + 1
        for start, stop in zip(np.concatenate([[0], stops[:-1]]), stops, strict=True):
            steps_out[start + limits[0] - 1 : stop : limits[0]] = True
    return steps_out


def _jumps(following: Any, observations: np.ndarray, path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Where the stored next observation is not that of a next row, [N] bool, and these [J, ...].

    Reads piece by piece.
    """
    jumps, kept = np.ones(len(observations), bool), []
    for start in range(0, len(observations), _CHUNK):
        stored = following[start : start + _CHUNK]
        stored = cast("next_observations", stored, observations.dtype, path, start)
        check_finite("next_observations", stored, path, first_row=start)
        rows = slice(start, start + len(stored))
        seen = observations[start + 1 : start + 1 + len(stored)]
        moves = (stored[: len(seen)].astype(np.float32) - seen).reshape(len(seen), -1)
        jumps[rows][: len(seen)] = np.linalg.norm(moves, axis=-1) > _SAME_OBSERVATION
        kept.append(stored[jumps[rows]])
    return jumps, np.concatenate(kept)


def _with_final_rows(dataset: Dataset, has_final: np.ndarray, finals: np.ndarray) -> Dataset:
    """Compact storage: puts a row with its final observation after each row that `has_final`."""
    copies = 1 + has_final
    rows = np.repeat(np.arange(len(copies)), copies)
    last = np.cumsum(copies) - 1  # where the last copy of each row stands
    observations = dataset.observations[rows]
    observations[last[has_final]] = finals
    terminals = np.zeros(len(rows), bool)
    terminals[last[dataset.terminals]] = True
    return dataclasses.replace(
        dataset,
        observations=observations,
        actions=dataset.actions[rows],
        rewards=dataset.rewards[rows],
        masks=dataset.masks[rows],
        terminals=terminals,
        valid=~terminals,
    )
