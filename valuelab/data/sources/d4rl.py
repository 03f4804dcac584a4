"""D4RL: HDF5 files of flat arrays, in the conventions of its versions v0 to v2.

The reader uses observations, actions, rewards and terminals and, where a file has them, timeouts and
next_observations; it ignores infos/... and metadata/.... Masks are 0 at terminals. An episode ends

- at a terminal, unless trajectories go on after terminals. In AntMaze they do: its terminals mark the rows
  near the goal. A trajectory goes on where the stored next observation equals the observation of the next
  row. Where the file stores no next observations, or all of them equal the next row, trajectories go on after
  terminals if most steps from terminals are as short as ordinary steps (`steps.goes_on`);
- at a timeout. For files of v0 without timeouts, an episode is cut at the step limit of its environment, as
  in D4RL. (D4RL's own counter starts at 1 instead of 0 after a terminal; here it always starts at 0.)
- where a stored next observation is not the observation of the next row;
- at the end of the file. A file without any mark of an end is one episode.

The final observation of an episode is its last stored next observation. Files without next observations lack
it. A last transition at a terminal is then kept: its own observation takes the place of the successor, which
the mask of 0 hides. Any other last transition is dropped, as in D4RL, since its value needs the successor.

Observations of uint8 are images and keep their dtype; all others become float32.
"""

from pathlib import Path
from typing import Any

import numpy as np
from absl import logging

from valuelab.arrays import cast, check_hdf5, check_written
from valuelab.data import download, steps, storage
from valuelab.data.validation import (
    check_finite,
    check_lengths,
    check_successors,
    check_transitions,
    read_array,
    reading,
    validate,
)
from valuelab.domains.d4rl import FILES
from valuelab.errors import InputError, require, unknown
from valuelab.types import Dataset

URL = "https://rail.eecs.berkeley.edu/datasets/offline_rl"
"""Where D4RL publishes its files."""

DIGESTS = Path(__file__).with_name("d4rl.sha256")
"""SHA-256 digests from the checksums.tsv of TensorFlow Datasets: lines of digest and path under URL."""

_STEP_LIMITS = {
    **dict.fromkeys(("halfcheetah", "hopper", "walker2d", "ant"), 1000),
    **{"antmaze-umaze": 700, "antmaze-medium": 1000, "antmaze-large": 1000},
    **{"maze2d-open": 150, "maze2d-umaze": 300, "maze2d-medium": 600, "maze2d-large": 800},
    **{"pen": 100, "hammer": 200, "door": 200, "relocate": 200, "kitchen": 280},
}
"""The step limits of D4RL's environments, by the longest prefix of a name up to a dash."""

_CHUNK = 1 << 16
_SAME_OBSERVATION = 1e-6
"""The largest distance of two observations that count as equal; IQL's code uses the same number."""


def read(name: str, data_dir: Path, split: str, clip_actions: bool = False) -> Dataset:
    """Reads data_dir/d4rl/NAME.hdf5. Downloads a missing file first.

    D4RL files do not state the bounds of actions: they are [-1, 1].

    Args:
        name: D4RL's name, such as "hopper-medium-v2".
        data_dir: the folder that holds d4rl/.
        split: "train", the only split.
        clip_actions: whether to clip actions outside their bounds instead of refusing them.

    Returns:
        A dataset in compact storage.

    Raises:
        InputError: when the name or split is unknown, the file is missing, or a check fails.
    """
    if split != "train":
        raise unknown("split", split, ("train",))
    path = data_dir / "d4rl" / f"{name}.hdf5"
    require("h5py", "data")
    if not path.exists():
        _download(name, path)
    return read_file(path, f"d4rl/{name}", clip_actions)


def read_file(path: Path, name: str, clip_actions: bool = False, **remedy: str) -> Dataset:
    """Reads an HDF5 file with D4RL's keys.

    Args:
        path: the file.
        name: the name of the dataset.
        clip_actions: as for `read`.
        remedy: what the user can do about a broken file, as for `reading`.

    Returns:
        A dataset in compact storage.

    Raises:
        InputError: when a check fails.
    """
    h5py = require("h5py", "data")
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
            if arrays[key].shape[1:] == (1,):  # early files store columns
                arrays[key] = arrays[key][:, 0]
            if arrays[key].ndim > 1:
                raise InputError(
                    f"{path}: {key} has shape {arrays[key].shape}, but [rows] is expected: correct the file"
                )
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
        name=name,
        observations=observations,
        actions=arrays["actions"],
        rewards=arrays["rewards"],
        masks=1 - terminated.astype(np.float32),
        terminals=ends,
        action_low=-bound,
        action_high=bound,
    )
    dataset = storage.with_final_rows(validate(dataset, path, clip_actions), has_final, finals)
    check_transitions(dataset, path)
    return dataset


def published() -> dict[str, str]:
    """The datasets that D4RL publishes: name -> URL."""
    return {name: f"{URL}/{file}.hdf5" for name, file in FILES.items()}


def _download(name: str, path: Path) -> None:
    """Downloads one published file."""
    urls = published()
    if name not in urls:
        raise unknown("D4RL dataset", name, urls)
    open_file = require("h5py", "data").File
    known = (line.split() for line in DIGESTS.read_text().splitlines())
    download.fetch(
        urls[name],
        path,
        lambda part: open_file(part, "r").close(),
        f"download {urls[name]} by hand and put it there",
        [digest for digest, file in known if f"{URL}/{file}" == urls[name]],
    )


def _episode_ends(
    observations: np.ndarray,
    terminated: np.ndarray,
    timeouts: np.ndarray | None,
    jumps: np.ndarray,
    path: Path,
) -> np.ndarray:
    """Marks the last row of each episode by the rules of this module, [N] bool.

    `jumps` [N] marks the rows whose successor is known not to be the next row, at least the last row.
    """
    ends = jumps if timeouts is None else jumps | timeouts
    if not jumps[:-1].any():  # else the stored next observations show the ends at terminals too
        marked, others = np.flatnonzero(terminated & ~ends), np.flatnonzero(~terminated & ~ends)
        if not steps.goes_on(observations, marked, others):
            ends = ends | terminated
    if timeouts is None:
        ends = ends | _steps_out(ends, path)
    if ends.sum() == 1 and not terminated[-1] and not (timeouts is not None and timeouts[-1]):
        logging.warning(
            "%s: neither terminals nor timeouts marks an end, so its %d rows are read as one episode; "
            "if there are several episodes, mark the last row of each in timeouts",
            *(path, len(ends)),
        )
    return ends


def _steps_out(ends: np.ndarray, path: Path) -> np.ndarray:
    """Marks where an episode reaches the step limit of the environment in the file's name, [N] bool."""
    steps_out = np.zeros_like(ends)
    limits = [limit for task, limit in _STEP_LIMITS.items() if path.stem.startswith(f"{task}-")]
    if limits:
        stops = np.flatnonzero(ends) + 1
        for start, stop in zip(np.concatenate([[0], stops[:-1]]), stops, strict=True):
            steps_out[start + limits[0] - 1 : stop : limits[0]] = True
    return steps_out


def _jumps(following: Any, observations: np.ndarray, path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Marks rows whose stored next observation is not the next row, [N] bool; returns these too, [J, ...].

    Reads the file in pieces.
    """
    jumps, kept = np.ones(len(observations), bool), []
    for start in range(0, len(observations), _CHUNK):
        stored = following[start : start + _CHUNK]
        stored = cast("next_observations", stored, observations.dtype, path, start)
        check_finite("next_observations", stored, path, first_row=start)
        rows = slice(start, start + len(stored))
        next_rows = observations[start + 1 : start + 1 + len(stored)]
        moves = (stored[: len(next_rows)].astype(np.float32) - next_rows).reshape(len(next_rows), -1)
        jumps[rows][: len(next_rows)] = np.linalg.norm(moves, axis=-1) > _SAME_OBSERVATION
        kept.append(stored[jumps[rows]])
    return jumps, np.concatenate(kept)
