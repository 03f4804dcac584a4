"""Batches read from the disk, for datasets that are too large for the device.

Each epoch reads the episodes in a new random order, and shuffles their transitions within a window that is
much longer than an episode. The batches depend only on the seed.
"""

import os
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import numpy as np

from valuelab.data.sources import rlds
from valuelab.errors import InputError, require
from valuelab.files import local_path
from valuelab.types import Transitions


class Stream(Iterator[Transitions], Protocol):
    """An endless iterator of batches of numpy arrays, with a state that can be saved and restored."""

    def get_state(self) -> dict[str, Any]:
        """The position in the stream, as JSON can hold it."""

    def set_state(self, state: dict[str, Any]) -> None:
        """Moves to a position that `get_state` returned; the next batch has the same bits."""


def stream(
    name: str,
    data_dir: str | os.PathLike[str],
    *,
    batch_size: int,
    seed: int,
    split: str = "train",
    window: int = 100_000,
) -> Stream:
    """Streams transitions from an RLDS dataset in array_record.

    Args:
        name: "rlds/NAME", such as `experiments.convert_to_rlds` writes.
        data_dir: the folder that holds rlds/.
        batch_size: B.
        seed: seed of the order.
        split: a split of the dataset.
        window: the number of transitions that are shuffled together and held in memory; at most the size of
            the dataset.

    Returns:
        An iterator over batches; threads prefetch episodes.

    Raises:
        InputError: when the dataset does not exist, or is goal-conditioned: goals need the whole dataset.
    """
    grain = require("grain", "data")
    source, _, rest = name.partition("/")
    if source != "rlds":
        raise InputError(
            f"dataset {name!r} cannot be streamed: convert it to RLDS with python -m "
            f"experiments.convert_to_rlds --dataset={name} --data_dir={data_dir}, and stream rlds/{name}"
        )
    if batch_size <= 0:
        raise InputError(f"batch_size is {batch_size}: give a positive number")
    episodes = rlds.open_episodes(rest, local_path("data_dir", data_dir), split)
    if episodes.facts.get("goal_conditioned"):
        raise InputError(
            f"dataset {name!r} cannot be streamed: hindsight goals need the whole dataset; load it"
        )

    class Unroll(grain.experimental.FlatMapTransform):  # type: ignore[name-defined] # required by name
        """Splits one episode into its transitions."""

        max_fan_out = window

        def flat_map(self, element: Mapping[str, np.ndarray]) -> list[dict[str, np.ndarray]]:
            return _unroll(element)

    order = grain.MapDataset.source(episodes).seed(seed).shuffle().repeat()
    ahead = order.to_iter_dataset(grain.ReadOptions(num_threads=4, prefetch_buffer_size=16))
    transitions = grain.experimental.FlatMapIterDataset(ahead, Unroll())
    shuffled = grain.experimental.WindowShuffleIterDataset(transitions, window_size=window, seed=seed)
    return iter(shuffled.batch(batch_size).map(lambda columns: Transitions(**columns)))


def _unroll(episode: Mapping[str, np.ndarray]) -> list[dict[str, np.ndarray]]:
    """The transitions of an episode of T + 1 rows, as views of its arrays."""
    columns = {key: array[:-1] for key, array in episode.items()}
    columns["next_observations"] = episode["observations"][1:]
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
