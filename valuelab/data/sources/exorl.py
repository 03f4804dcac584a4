"""ExoRL: exploration of dm_control's domains, one NPZ file per episode.

`DOMAIN-EXPLORER`, such as walker-rnd, has the logged rewards, of a task that the explorer did not see.
`DOMAIN-EXPLORER-TASK` has the rewards of a task, computed from the simulator's states. Row t of a file holds
the action that led to observation t and the reward of that observation; the action of row 0 is a dummy.

With @PIXELS, such as walker-rnd@64, observations are images of the states, uint8. The first read renders
them, about fifty images a second on a CPU, and keeps them in pixelsN/ next to buffer/.
"""

import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from absl import logging

from valuelab import domains, files
from valuelab.arrays import cast, open_npz
from valuelab.data import storage
from valuelab.data.validation import check_finite, check_lengths, read_array, reading, validate
from valuelab.errors import InputError, unknown
from valuelab.types import Dataset

URL = "https://dl.fbaipublicfiles.com/exorl"
"""Where ExoRL publishes one archive for each domain and explorer."""

DEFAULT_EPISODES = 5_000
"""The largest number of episodes to read where the name gives none; half of the published ones, as usual."""

_LABELLED_EPISODES = 500
"""The largest number of episodes whose states are labelled, half a million states."""

_Episode = dict[str, np.ndarray]


def read(name: str, data_dir: Path, split: str, clip_actions: bool = False) -> Dataset:
    """Reads the first episodes of data_dir/exorl/DOMAIN/EXPLORER/buffer/.

    Nothing is downloaded, because the archives are large. A thousand episodes take 0.1 GB (walker) to 0.4 GB
    (quadruped) of memory, and nearly twice as much in full storage.

    Args:
        name: as above, such as "walker-rnd-run", or "walker-rnd-run:1000" for the first 1000 episodes.
        data_dir: the folder that holds exorl/.
        split: "train", the only split.
        clip_actions: whether to clip actions outside their bounds instead of refusing them.

    Returns:
        A dataset in compact storage. No state is terminal: masks are ExoRL's discounts, which are 1.

    Raises:
        InputError: when the name or split is unknown, the files are missing, or a check fails.
    """
    if split != "train":
        raise unknown("split", split, ("train",))
    domain, _, task, pixels, _ = domains.parse(name)
    files = find_files(name, data_dir)
    episodes = (
        _transitions(read_episode(file, domain, pixels, clip_actions), domain, task, file) for file in files
    )
    dataset = _joined(f"exorl/{name}", episodes, files[0].parent)
    return validate(dataset, files[0].parent, clip_actions) if clip_actions else dataset


def read_states(name: str, data_dir: Path, most_episodes: int = _LABELLED_EPISODES) -> dict[str, np.ndarray]:
    """The simulator's states of episodes spread evenly over those that `read` uses, in time order.

    Args:
        name: as for `read`.
        data_dir: the folder that holds exorl/.
        most_episodes: the largest number of episodes.

    Returns:
        "observations" [N, ...], "terminals" [N], True at the last row of each episode, positions "qpos"
        [N, nq] and velocities "qvel" [N, nv].

    Raises:
        InputError: as for `read`.
    """
    domain, _, _, pixels, _ = domains.parse(name)
    files = find_files(name, data_dir)
    chosen = files[:: -(-len(files) // most_episodes)]
    episodes = [read_episode(file, domain, pixels) for file in chosen]
    for episode in episodes:
        episode["terminals"] = np.arange(len(episode["observations"])) == len(episode["observations"]) - 1
    kept = ("observations", "terminals", "qpos", "qvel")
    return {key: np.concatenate([each[key] for each in episodes]) for key in kept}


def task_rewards(name: str, states: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The rewards of states in each task of the domain.

    Args:
        name: as for `read`.
        states: "qpos" [N, nq] and "qvel" [N, nv].

    Returns:
        The rewards of each task by its name, [N] in [0, 1].
    """
    return domains.rewards(domains.parse(name).domain, states["qpos"], states["qvel"])


def has_task(name: str) -> bool:
    """Whether a name contains a task, whose rewards the dataset then has."""
    return bool(domains.parse(name).task)


def folder_of(name: str, data_dir: Path) -> Path:
    """The folder of the episodes of a dataset."""
    domain, explorer, *_ = domains.parse(name)
    return data_dir / "exorl" / domain / explorer / "buffer"


def find_files(name: str, data_dir: Path) -> list[Path]:
    """The files of the episodes of a dataset, in their order.

    Args:
        name: as for `read`.
        data_dir: the folder that holds exorl/.

    Raises:
        InputError: when there are no files, or fewer than the name asks for.
    """
    domain, explorer, _, _, wanted = domains.parse(name)
    folder = folder_of(name, data_dir)
    files = sorted(folder.glob("episode_*.npz"))
    if not files and explorer not in domains.EXPLORERS:
        raise unknown("explorer", explorer, domains.EXPLORERS)
    if not files:
        archive = f"{URL}/{domain}/{explorer}.zip"
        raise InputError(
            f"{folder} has no episode_*.npz: download {archive} by hand and unzip it into {folder.parent}, "
            f"so that it holds buffer/episode_000000_1000.npz; or collect a small dataset with: python -m "
            f"experiments.collect --dataset=exorl/{domain}-noise --data_dir={data_dir} --episodes=20"
        )
    if wanted and wanted > len(files):
        raise InputError(
            f"dataset exorl/{name} needs {wanted} episodes, but {folder} holds {len(files)}: ask for fewer, "
            "or download or collect more"
        )
    if not wanted and len(files) > DEFAULT_EPISODES:
        logging.warning(
            "exorl/%s: reading the first %d of %d episodes; exorl/%s:%d reads all of them",
            *(name, DEFAULT_EPISODES, len(files), name, len(files)),
        )
    return files[: wanted or DEFAULT_EPISODES]


def read_episode(path: Path, domain: str, pixels: int = 0, any_actions: bool = False) -> _Episode:
    """Reads and checks one file.

    Args:
        path: the file.
        domain: its domain.
        pixels: height and width of image observations; 0 for vectors.
        any_actions: whether to accept actions outside their bounds, which the caller clips later.

    Returns:
        The rows of an episode of T steps: "observations" [T + 1, D] in float32 or
        [T + 1, pixels, pixels, 3] in uint8; "actions" [T + 1, A], "rewards" [T + 1] and "masks" [T + 1] in
        float32; "qpos" [T + 1, nq] and "qvel" [T + 1, nv] in their stored dtype.

    Raises:
        InputError: when the file is truncated or lacks an array; when an array differs in length, has the
            size of another domain, is not finite or is out of bounds; when images cannot be rendered here.
    """
    facts = domains.DOMAINS[domain]
    widths = {
        "observation": facts.observation_dim,
        "action": facts.action_dim,
        "reward": 1,
        "discount": 1,
        "physics": sum(facts.sizes),
    }
    with reading(path), open_npz(path) as file:
        arrays = {key: read_array(file, key, None if key == "physics" else "float32", path) for key in widths}
    check_lengths(arrays, path)
    for key, width in widths.items():
        check_finite(key, arrays[key], path)
        if arrays[key].shape[1:] != (width,):
            raise InputError(
                f"{path}: {key} has shape {arrays[key].shape}, but {domain} has [rows, {width}]: check that "
                "the file belongs to this domain and holds states, not images"
            )
    columns = {
        "observations": arrays["observation"],
        "actions": arrays["action"],
        "rewards": arrays["reward"][:, 0],
        "masks": arrays["discount"][:, 0],
    }
    if not any_actions:
        validate(_joined(path.name, [columns], path), path)
    positions, velocities, _ = np.split(arrays["physics"], np.cumsum(facts.sizes)[:2], axis=1)
    if pixels:
        columns["observations"] = _images(path, domain, pixels, positions, velocities)
    return columns | {"qpos": positions, "qvel": velocities}


def _images(
    path: Path, domain: str, pixels: int, positions: np.ndarray, velocities: np.ndarray
) -> np.ndarray:
    """The images [T + 1, pixels, pixels, 3] of an episode's states; renders them on the first call."""
    kept = path.parent.parent / f"pixels{pixels}" / path.name
    if not kept.exists():
        logging.log_first_n(logging.WARNING, "rendering episodes once into %s", 1, kept.parent)
        kept.parent.mkdir(exist_ok=True)
        images = domains.images(domain, positions, velocities, pixels)
        with files.replacing(kept) as file:
            np.savez_compressed(file, allow_pickle=False, images=images)
    with reading(kept), open_npz(kept) as file:
        images = read_array(file, "images", "uint8", kept)
    if images.shape != (len(positions), pixels, pixels, 3):
        raise InputError(
            f"{kept}: images has shape {images.shape} for the {len(positions)} rows of {path}: delete the "
            "file to render it again"
        )
    return images


def _transitions(episode: _Episode, domain: str, task: str, path: Path) -> _Episode:
    """The columns of an episode, with each action and reward in the row of the observation before it."""
    if task:
        labelled = domains.rewards(domain, episode["qpos"], episode["qvel"], (task,))[task]
        check_finite(f"the reward of {task} by physics", labelled, path)
        episode |= {"rewards": cast(f"the reward of {task} by physics", labelled, np.float32, path)}
    # Actions, rewards and masks move one row up; the dummy of row 0 moves to the last row, which only ends.
    shifted = {key: np.roll(episode[key], -1, axis=0) for key in ("actions", "rewards", "masks")}
    return {"observations": episode["observations"]} | shifted


def _joined(name: str, episodes: Iterable[_Episode], path: Path) -> Dataset:
    """Joins episodes whose actions lie in [-1, 1] into a dataset."""
    dataset = storage.from_episodes(name, episodes, path)
    bound = np.ones(dataset.actions.shape[1], np.float32)
    return dataclasses.replace(dataset, action_low=-bound, action_high=bound)
