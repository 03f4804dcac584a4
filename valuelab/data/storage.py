"""The two storages of a dataset: compact, as every source is read, and full.

In compact storage each observation stands once and row i + 1 is the successor of row i where valid[i]; in
full storage every row is a transition with its own `next_observations`. `transition_rows` numbers the
transitions of either, so that what is written in terms of transition numbers holds for both.
"""

import dataclasses
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from valuelab.arrays import available_memory
from valuelab.data.validation import check_lengths
from valuelab.errors import InputError
from valuelab.types import Dataset

_PIECE_BYTES = 1 << 24


def transition_rows(dataset: Dataset) -> np.ndarray:
    """Where the transitions of a dataset stand.

    Args:
        dataset: N rows in either storage.

    Returns:
        [M] int32, the row of each of its M transitions, in time order; M = N in full storage.
    """
    if dataset.valid is None:
        return np.arange(len(dataset.terminals), dtype=np.int32)
    return np.flatnonzero(dataset.valid).astype(np.int32)


def trajectory_ends(dataset: Dataset) -> np.ndarray:
    """The number of the last transition of the trajectory that each transition belongs to.

    Args:
        dataset: a dataset of M transitions in either storage.

    Returns:
        [M] int32 transition numbers (not rows); the same for both storages.
    """
    episode = np.cumsum(dataset.terminals) - dataset.terminals
    episode = episode[transition_rows(dataset)]
    return (np.searchsorted(episode, episode, side="right") - 1).astype(np.int32)


def first_rows(terminals: np.ndarray) -> np.ndarray:
    """The row where the trajectory of each row begins, [N] int32.

    Args:
        terminals: [N], True at the last row of each trajectory, whatever its storage.
    """
    episode = np.cumsum(terminals) - terminals
    return np.searchsorted(episode, episode, side="left").astype(np.int32)


def are_last(dataset: Dataset) -> np.ndarray:
    """Whether each transition is the last of its trajectory, [M] bool."""
    ends = trajectory_ends(dataset)
    return ends == np.arange(len(ends))


def full(dataset: Dataset) -> Dataset:
    """The same transitions in full storage.

    Args:
        dataset: a dataset in either storage; one in full storage is returned as it is.

    Returns:
        The dataset with `next_observations` and without `valid`.
    """
    if dataset.valid is None:
        return dataset
    rows = transition_rows(dataset)
    return dataclasses.replace(
        dataset,
        observations=dataset.observations[rows],
        actions=dataset.actions[rows],
        rewards=dataset.rewards[rows],
        masks=dataset.masks[rows],
        terminals=are_last(dataset),
        next_observations=dataset.observations[rows + 1],
        valid=None,
    )


def pieces(dataset: Dataset, rows: np.ndarray, name: str = "observations") -> Iterator[np.ndarray]:
    """An array of a dataset, some megabytes at a time.

    Args:
        dataset: a dataset in either storage.
        rows: [M] which of its rows.
        name: the field of `Dataset`.

    Yields:
        The rows in order, [P, D] each, all axes but the first made one; P is the same for all fields.
    """
    size = max(1, _PIECE_BYTES // (dataset.observations.nbytes // len(dataset.observations)))
    array = getattr(dataset, name)
    for start in range(0, len(rows), size):
        piece = array[rows[start : start + size]]
        yield piece.reshape(len(piece), -1)


def from_episodes(name: str, episodes: Iterable[Mapping[str, np.ndarray]], path: Path) -> Dataset:
    """Joins episodes into a dataset in compact storage, which knows nothing of its actions yet.

    Args:
        name: the dataset's name.
        episodes: for each episode of T transitions, "observations", "actions", "rewards" and "masks" of
            T + 1 rows; the last row holds the final observation.
        path: where they came from, for messages.

    Returns:
        The dataset.

    Raises:
        InputError: when there is no episode, they take more memory than there is, or one is ragged or of
            another shape or dtype than the first.
    """
    columns: dict[str, list[np.ndarray]] = defaultdict(list)
    taken, room = 0, available_memory()
    first: Mapping[str, np.ndarray] = {}
    for number, episode in enumerate(episodes, 1):
        first = first or episode
        where = f"{path}: episode {number - 1}"
        check_lengths(episode, where)
        for key, array in episode.items():
            if (array.shape[1:], array.dtype) != (first[key].shape[1:], first[key].dtype):
                raise InputError(
                    f"{where}: {key} is {array.dtype} of shape {array.shape} where the first episode has "
                    f"{first[key].dtype} of shape {first[key].shape}: repair it, or fetch or make it again"
                )
        taken += sum(array.nbytes for array in episode.values())
        if taken > room:
            raise InputError(
                f"{path}: its first {number} episodes take {taken:,} bytes and {room:,} bytes of memory are "
                "free: free some, or use a machine with more"
            )
        for key, array in episode.items():
            columns[key].append(array)
        terminals = np.zeros(len(episode["observations"]), bool)
        terminals[-1:] = True
        columns["terminals"].append(terminals)
    if not columns:
        raise InputError(f"{path}: observations has no rows: the dataset is empty; fetch or collect it again")
    # Key by key, so that no more than one array stands beside its pieces.
    arrays: dict[str, Any] = {key: np.concatenate(columns.pop(key)) for key in list(columns)}
    return Dataset(name=name, valid=~arrays["terminals"], **arrays)


def flatten(tree: np.ndarray | Mapping[str, Any]) -> np.ndarray:
    """Joins nested arrays into one vector a row, for sources that do not say what space they are of.

    Args:
        tree: an array [T, ...], returned as it is, or (nested) dictionaries of them, whose entries follow
            each other in the order of their dictionary.

    Returns:
        [T, ...], or [T, D] where entries were joined.
    """
    if not isinstance(tree, Mapping):
        return tree
    leaves = [flatten(entry) for entry in tree.values()]
    return np.concatenate([leaf.reshape(len(leaf), -1) for leaf in leaves], axis=1)
