"""The two storages of a dataset: compact, which all readers return, and full.

Compact storage holds each observation once: row i + 1 is the successor of row i where valid[i]. In full
storage every row is a transition with its own `next_observations`. Both storages number their transitions
alike; `transition_rows` gives the row of each transition number.
"""

import dataclasses
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from valuelab.arrays import available_memory
from valuelab.data.validation import check_lengths
from valuelab.errors import InputError
from valuelab.types import Dataset

_PIECE_BYTES = 1 << 24


def transition_rows(dataset: Dataset) -> np.ndarray:
    """The rows of the transitions of a dataset.

    Args:
        dataset: N rows in either storage.

    Returns:
        [M] int32, the row of each of its M transitions, in time order; M = N in full storage.
    """
    if dataset.valid is None:
        return np.arange(len(dataset.terminals), dtype=np.int32)
    return np.flatnonzero(dataset.valid).astype(np.int32)


def trajectory_ends(dataset: Dataset) -> np.ndarray:
    """The number of the last transition in the trajectory of each transition.

    Args:
        dataset: a dataset of M transitions in either storage.

    Returns:
        [M] int32 transition numbers (not rows), equal for both storages.
    """
    episode = np.cumsum(dataset.terminals) - dataset.terminals
    episode = episode[transition_rows(dataset)]
    return (np.searchsorted(episode, episode, side="right") - 1).astype(np.int32)


def first_rows(terminals: np.ndarray) -> np.ndarray:
    """The first row in the trajectory of each row, [N] int32.

    Args:
        terminals: [N], True at the last row of each trajectory, in either storage.
    """
    episode = np.cumsum(terminals) - terminals
    return np.searchsorted(episode, episode, side="left").astype(np.int32)


def are_last(dataset: Dataset) -> np.ndarray:
    """Whether each transition is the last one of its trajectory, [M] bool."""
    ends = trajectory_ends(dataset)
    return ends == np.arange(len(ends))


class Trajectories(NamedTuple):
    """The places of all observations of some trajectories, their final ones included.

    Attributes:
        rows: [N], in either storage.
        are_final: [N] bool, whether the observation is the next observation of the row, at the trajectory's
            end; elsewhere it is the observation of the row.
        lengths: [K], the number of observations of each trajectory, one more than its transitions.
    """

    rows: np.ndarray
    are_final: np.ndarray
    lengths: np.ndarray

    @property
    def lasts(self) -> np.ndarray:
        """For each place the place of its trajectory's final observation, [N]."""
        return np.repeat(np.cumsum(self.lengths) - 1, self.lengths)


def trajectories(dataset: Dataset, chosen: np.ndarray | None = None) -> Trajectories:
    """The observations of some trajectories.

    Args:
        dataset: a dataset in either storage.
        chosen: numbers of trajectories with a transition, in time order; None for all.
    """
    ends = np.flatnonzero(are_last(dataset))
    starts = np.append(0, ends[:-1] + 1)
    if chosen is not None:
        starts, ends = starts[chosen], ends[chosen]
    lengths = ends - starts + 2
    lasts = np.repeat(np.cumsum(lengths) - 1, lengths)
    are_final = np.arange(len(lasts)) == lasts
    from_end = lasts - np.arange(len(lasts)) - 1 + are_final
    numbers = np.repeat(ends, lengths) - from_end
    return Trajectories(transition_rows(dataset)[numbers], are_final, lengths)


def observations_at(dataset: Dataset, places: Trajectories, numbers: np.ndarray) -> np.ndarray:
    """The observations at some of these places, [B, ...], by their numbers [B]."""
    rows, are_final = places.rows[numbers], places.are_final[numbers]
    if dataset.next_observations is None:
        return np.asarray(dataset.observations[rows + are_final])
    observations = dataset.observations[rows]
    observations[are_final] = dataset.next_observations[rows[are_final]]
    return observations


def with_trajectories(dataset: Dataset, kept: np.ndarray) -> Dataset:
    """The dataset with some of its trajectories, in the same storage.

    Args:
        dataset: a dataset in either storage.
        kept: [K] bool, for each trajectory with a transition.
    """
    rows = np.zeros(len(dataset.terminals), bool)
    episode = np.cumsum(dataset.terminals) - dataset.terminals
    having = np.unique(episode[transition_rows(dataset)])
    rows[np.isin(episode, having[kept])] = True
    names = ("observations", "actions", "rewards", "masks", "terminals", "next_observations", "valid")
    arrays = {name: getattr(dataset, name) for name in names}
    parts: dict[str, Any] = {name: array[rows] for name, array in arrays.items() if array is not None}
    return dataclasses.replace(dataset, **parts)


def full(dataset: Dataset) -> Dataset:
    """The same transitions in full storage.

    Args:
        dataset: a dataset in either storage; a dataset in full storage is returned unchanged.

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


def compact(dataset: Dataset) -> Dataset:
    """The same transitions in compact storage; `full` is the inverse.

    Args:
        dataset: a dataset in either storage; a dataset in compact storage is returned unchanged.

    Returns:
        The dataset without `next_observations` and with `valid`. It stays in full storage if the successor
        of a row is not the next row of its episode, because compact storage cannot hold such a successor.
    """
    following, ends = dataset.next_observations, dataset.terminals
    if following is None:
        return dataset
    inside = np.flatnonzero(~ends)
    size = max(1, _PIECE_BYTES // (following.nbytes // len(following)))
    for start in range(0, len(inside), size):
        rows = inside[start : start + size]
        if not np.array_equal(following[rows], dataset.observations[rows + 1]):
            return dataset
    with_final = with_final_rows(dataset, ends, following[ends])
    return dataclasses.replace(with_final, next_observations=None)


def pieces(dataset: Dataset, rows: np.ndarray, name: str = "observations") -> Iterator[np.ndarray]:
    """Rows of an array of a dataset, in pieces of some megabytes.

    Args:
        dataset: a dataset in either storage.
        rows: [M], the rows to read.
        name: the field of `Dataset`.

    Yields:
        The rows in order, [P, D] each, with all axes after the first flattened; P is equal for all fields.
    """
    size = max(1, _PIECE_BYTES // (dataset.observations.nbytes // len(dataset.observations)))
    array = getattr(dataset, name)
    for start in range(0, len(rows), size):
        piece = array[rows[start : start + size]]
        yield piece.reshape(len(piece), -1)


def from_episodes(
    name: str, episodes: Iterable[Mapping[str, np.ndarray]], path: Path | str, first_number: int = 0
) -> Dataset:
    """Joins episodes into a dataset in compact storage. The caller sets the bounds or number of actions.

    Args:
        name: the dataset's name.
        episodes: for each episode of T transitions, "observations", "actions", "rewards" and "masks" of
            T + 1 rows; the last row holds the final observation.
        path: the file or folder of the episodes, or another name of them, for messages.
        first_number: the number of the first of these episodes there.

    Returns:
        The dataset.

    Raises:
        InputError: when there is no episode, when they need more memory than is free, when the arrays of an
            episode differ in length, or when an episode differs from the first in shape or dtype.
    """
    columns: dict[str, list[np.ndarray]] = defaultdict(list)
    taken, room = 0, available_memory()
    first: Mapping[str, np.ndarray] = {}
    for number, episode in enumerate(episodes, 1):
        first = first or episode
        where = f"{path}: episode {first_number + number - 1}"
        check_lengths(episode, where)
        for key, array in episode.items():
            if (array.shape[1:], array.dtype) != (first[key].shape[1:], first[key].dtype):
                raise InputError(
                    f"{where}: {key} is {array.dtype} of shape {array.shape}, but the first episode has "
                    f"{first[key].dtype} of shape {first[key].shape}: repair it, or get the files again"
                )
        taken += sum(array.nbytes for array in episode.values())
        if taken > room:
            raise InputError(
                f"{path}: its first {number} episodes take {taken:,} bytes, but {room:,} bytes of memory are "
                "free: free some memory, or use a machine with more"
            )
        for key, array in episode.items():
            columns[key].append(array)
        terminals = np.zeros(len(episode["observations"]), bool)
        terminals[-1:] = True
        columns["terminals"].append(terminals)
    if not columns:
        raise InputError(f"{path}: observations has no rows: the dataset is empty; get it again")
    # One key at a time, so that memory holds at most one array twice.
    arrays: dict[str, Any] = {key: np.concatenate(columns.pop(key)) for key in list(columns)}
    return Dataset(name=name, valid=~arrays["terminals"], **arrays)


def with_final_rows(dataset: Dataset, has_final: np.ndarray, finals: np.ndarray) -> Dataset:
    """Compact storage of N rows that each hold an observation and what was done there.

    Args:
        dataset: N rows, of which `next_observations` and `valid` are not used.
        has_final: [N] bool, the last rows of those episodes whose final observation is known. The last row of
            any other episode becomes the final observation itself.
        finals: [F, ...], the final observations of these episodes, each of which becomes a row.

    Returns:
        The dataset in compact storage.
    """
    copies = 1 + has_final
    rows = np.repeat(np.arange(len(copies)), copies)
    last = np.cumsum(copies) - 1  # the index of the last copy of each row
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


def flatten(tree: np.ndarray | Mapping[str, Any]) -> np.ndarray:
    """Joins nested arrays into one vector per row, for sources that do not state their spaces.

    Args:
        tree: an array [T, ...], which is returned unchanged, or (nested) dictionaries of arrays, which are
            joined in the order of their entries.

    Returns:
        [T, ...], or [T, D] where entries were joined.
    """
    if not isinstance(tree, Mapping):
        return tree
    leaves = [flatten(entry) for entry in tree.values()]
    return np.concatenate([leaf.reshape(len(leaf), -1) for leaf in leaves], axis=1)
