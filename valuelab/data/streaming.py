"""Batches straight from the disk, for sets that are too large for the device.

Episodes are read in a new random order each epoch, their transitions shuffled within a window that is much
longer than an episode. What is drawn depends on the seed alone.
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
    """An endless iterator of batches of numpy arrays that can be left and taken up again."""

    def get_state(self) -> dict[str, Any]:
        """Where the stream stands, as JSON holds it."""

    def set_state(self, state: dict[str, Any]) -> None:
        """Goes to where `get_state` said, so that the next batch has the same bits."""


def stream(
    name: str,
    data_dir: str | os.PathLike[str],
    *,
    batch_size: int,
    seed: int,
    split: str = "train",
    window: int = 100_000,
) -> Stream:
    """Streams transitions from an RLDS set in array_record.

    Args:
        name: "rlds/NAME", as `experiments.convert_to_rlds` writes them.
        data_dir: the folder that holds rlds/.
        batch_size: B.
        seed: of the order.
        split: a split of the set.
        window: number of transitions shuffled together, which are held in memory; give no more than the
            set has.

    Returns:
        An iterator over batches; threads read episodes ahead of it.

    Raises:
        InputError: when there is no such set, or it is goal-conditioned: goals need the whole set.
    """
    grain = require("grain", "data")
    source, _, rest = name.partition("/")
    if source != "rlds":
        raise InputError(
            f"dataset {name!r} cannot be streamed: write it as RLDS with python -m "
            f"experiments.convert_to_rlds --dataset={name} --data_dir={data_dir}, and stream rlds/{name}"
        )
    if batch_size <= 0:
        raise InputError(f"batch_size is {batch_size}: give a positive number")
    episodes = rlds.open_episodes(rest, local_path("data_dir", data_dir), split)
    if episodes.facts.get("goal_conditioned"):
        raise InputError(f"dataset {name!r} cannot be streamed: hindsight goals need the whole set; load it")

    class Unroll(grain.experimental.FlatMapTransform):  # type: ignore[name-defined] # required by name
        """One episode to its transitions."""

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
