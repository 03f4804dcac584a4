"""D4RL: HDF5 files of flat arrays, in the conventions of its versions v0 to v2.

Read are observations, actions, rewards, terminals and, where a file has them, timeouts and
next_observations; infos/... and metadata/... are left alone. An episode ends

- at a terminal, where masks are zero;
- at a timeout, where they are not. Files of v0 without timeouts count them as D4RL does: an episode is cut
  when it reaches the step limit of its environment (D4RL's own counter starts at one instead of zero
  after a terminal; here every episode counts alike);
- where a stored next observation is not the observation of the next row;
- at the end of the file.

The final observation of an episode is its last stored next observation. A file without those lacks it: a
transition into a terminal state is kept, with its own observation standing in for the successor that its
mask hides; a transition into a timeout is dropped, as D4RL does, since its value would need the successor.
"""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from valuelab.data import download
from valuelab.data.validation import check_finite, check_lengths, read_array, reading, validate
from valuelab.errors import InputError, require, unknown
from valuelab.types import Dataset

URL = "http://rail.eecs.berkeley.edu/datasets/offline_rl"
"""Where D4RL publishes its files."""

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


def read(name: str, data_dir: Path, split: str) -> Dataset:
    """Reads data_dir/d4rl/NAME.hdf5, after downloading it where it is missing, or any HDF5 file.

    D4RL files state no bounds: their actions lie in [-1, 1].

    Args:
        name: the name as D4RL has it, such as "hopper-medium-v2", or a path that ends in .hdf5.
        data_dir: the folder that holds d4rl/.
        split: "train", the only one there is.

    Returns:
        A dataset in compact storage.

    Raises:
        InputError: when the name or split is unknown, or the file cannot be had or is at fault.
    """
    if split != "train":
        raise unknown("split", split, ("train",))
    own_file = name.endswith(".hdf5")
    path = Path(name).expanduser() if own_file else data_dir / "d4rl" / f"{name}.hdf5"
    h5py = require("h5py", "data")
    if own_file and not path.exists():
        raise InputError(f"no file {path}: give the path of a D4RL HDF5 file, or a name such as d4rl/NAME")
    if not path.exists():
        _download(name, path)

    with reading(path), h5py.File(path, "r") as file:
        arrays = {"observations": read_array(file, "observations", "float32", path)}
        for key, dtype in (("actions", "float32"), ("rewards", "float32"), ("terminals", "bool")):
            arrays[key] = read_array(file, key, dtype, path)
        if "timeouts" in file:
            arrays["timeouts"] = read_array(file, "timeouts", "bool", path)
        check_lengths(arrays, path)
        terminated = arrays["terminals"].reshape(-1)  # early files have columns
        ends = _episode_ends(terminated, arrays.get("timeouts"), path)
        if "next_observations" in file:
            following = file["next_observations"]
            check_lengths({"observations": arrays["observations"], "next_observations": following}, path)
            finals = _final_observations(following, arrays["observations"], ends, path)
            has_final = ends
        else:
            finals, has_final = arrays["observations"][terminated], terminated
    bound = np.ones(arrays["actions"].shape[-1], np.float32)
    dataset = Dataset(
        name=name if own_file else f"d4rl/{name}",
        observations=arrays["observations"],
        actions=arrays["actions"],
        rewards=arrays["rewards"].reshape(-1),
        masks=1 - terminated.astype(np.float32),
        terminals=ends,
        action_low=-bound,
        action_high=bound,
    )
    return _with_final_rows(validate(dataset, path), has_final, finals)


def published() -> dict[str, str]:
    """Names of the datasets that D4RL publishes, and their URLs."""
    files = {}
    for agent in ("halfcheetah", "hopper", "walker2d", "ant"):
        for kind in ("random", "medium", "expert", "medium-replay", "medium-expert"):
            old = f"{agent}_{kind}".replace("medium-replay", "mixed").replace("-", "_")
            files[f"{agent}-{kind}-v0"] = f"gym_mujoco/{old.replace('walker2d_mixed', 'walker_mixed')}"
        for kind in ("random", "medium", "expert", "medium-replay", "full-replay", "medium-expert"):
            for version in ("v1", "v2"):
                stem = f"{agent}_{kind.replace('-', '_')}-{version}"
                files[f"{agent}-{kind}-{version}"] = f"gym_mujoco_{version}/{stem}"
    for maze, layout, many_starts, many_goals in (
        ("umaze", "u-maze", False, False),
        ("umaze-diverse", "u-maze", True, True),
        ("medium-play", "big-maze", True, False),
        ("medium-diverse", "big-maze", True, True),
        ("large-play", "hardest-maze", True, False),
        ("large-diverse", "hardest-maze", True, True),
    ):
        stem = f"Ant_maze_{layout}_noisy_multistart_{many_starts}_multigoal_{many_goals}_sparse"
        files[f"antmaze-{maze}-v0"] = f"ant_maze_new/{stem}"
        files[f"antmaze-{maze}-v2"] = f"ant_maze_v2/{stem}_fixed"
    files["maze2d-open-v0"] = "maze2d/maze2d-open-sparse"
    files["maze2d-open-dense-v0"] = "maze2d/maze2d-open-dense"
    for maze in ("umaze", "medium", "large"):
        files[f"maze2d-{maze}-v1"] = f"maze2d/maze2d-{maze}-sparse-v1"
        files[f"maze2d-{maze}-dense-v1"] = f"maze2d/maze2d-{maze}-dense-v1"
    for task in ("pen", "hammer", "door", "relocate"):
        files[f"{task}-human-v0"] = f"hand_dapg/{task}-v0_demos_clipped"
        files[f"{task}-cloned-v0"] = f"hand_dapg/{task}-demos-v0-bc-combined"
        files[f"{task}-expert-v0"] = f"hand_dapg/{task}-v0_expert_clipped"
        for kind in ("human", "cloned", "expert"):
            files[f"{task}-{kind}-v1"] = f"hand_dapg_v1/{task}-{kind}-v1"
    files["kitchen-complete-v0"] = "kitchen/mini_kitchen_microwave_kettle_light_slider-v0"
    files["kitchen-partial-v0"] = "kitchen/kitchen_microwave_kettle_light_slider-v0"
    files["kitchen-mixed-v0"] = "kitchen/kitchen_microwave_kettle_bottomburner_light-v0"
    return {name: f"{URL}/{file}.hdf5" for name, file in files.items()}


def _download(name: str, path: Path) -> None:
    """Fetches one published file."""
    urls = published()
    if name not in urls:
        raise unknown("D4RL dataset", name, urls)
    open_file = require("h5py", "data").File
    download.fetch(
        urls[name], path, lambda part: open_file(part, "r").close(), f"put {urls[name]} there by hand"
    )


def _episode_ends(terminated: np.ndarray, timeouts: np.ndarray | None, path: Path) -> np.ndarray:
    """[N] bool, True at the last row of each episode, from terminals and timeouts or the step limit."""
    if timeouts is None:
        ends = terminated | _steps_out(terminated, path)
    else:
        ends = terminated | timeouts.reshape(-1)
    if not ends.any():
        raise InputError(
            f"{path}: neither terminals nor timeouts has an episode end; store timeouts in the file"
        )
    ends[-1] = True
    return ends


def _steps_out(terminated: np.ndarray, path: Path) -> np.ndarray:
    """[N] bool, True where an episode reaches the step limit of the environment the file is named for."""
    steps_out = np.zeros_like(terminated)
    limits = [limit for task, limit in _STEP_LIMITS.items() if path.stem.startswith(f"{task}-")]
    if limits:
        ends = np.flatnonzero(terminated)
        starts = np.concatenate([[0], ends + 1])
        for start, stop in zip(starts, [*ends, len(terminated)], strict=True):
            steps_out[start + limits[0] - 1 : stop : limits[0]] = True
    return steps_out


def _final_observations(following: Any, observations: np.ndarray, ends: np.ndarray, path: Path) -> np.ndarray:
    """Final observations [E, ...] out of the stored next observations, read piece by piece.

    Marks in `ends` the rows whose next observation is not the observation of the next row.
    """
    finals = []
    for start in range(0, len(observations), _CHUNK):
        stored = following[start : start + _CHUNK].astype(np.float32)
        check_finite("next_observations", stored, path, first_row=start)
        rows = slice(start, start + len(stored))
        seen = observations[start + 1 : start + 1 + len(stored)]
        jumps = np.linalg.norm(stored[: len(seen)] - seen, axis=-1) > _SAME_OBSERVATION
        ends[start : start + len(seen)] |= jumps
        finals.append(stored[ends[rows]])
    return np.concatenate(finals)


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
