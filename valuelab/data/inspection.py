"""What a dataset holds, in numbers; `data.problems` tells from them what is wrong with it.

`inspect` makes one report of nested dictionaries, whose leaves are numbers, texts, lists and arrays: what
`experiments.inspect_dataset` writes, prints and draws. Everything is numpy's, and looks at large arrays in
pieces, so that nothing large stands beside the dataset. What is taken from a part of the rows alone says
from how many.
"""

import dataclasses
from typing import Any

import numpy as np

from valuelab.data import coverage, duplicates, normalization, steps, storage
from valuelab.data.coverage import BINS
from valuelab.data.validation import BOUND_TOLERANCE
from valuelab.types import Dataset, Normalization

MOST_VALUES = 8
"""Rewards of no more distinct values are counted one by one."""

_SAMPLE_NUMBERS = 6_000_000
_SAMPLE_ROWS = 100_000
"""A sample of rows has at most so many numbers and rows: no more for 500 images of 64 by 64 by 3."""


def inspect(dataset: Dataset) -> dict[str, Any]:
    """Everything that can be told of a dataset by its own arrays.

    Args:
        dataset: N rows in either storage, M of them transitions; both storages give the same, but for "rows".

    Returns:
        name, rows N, transitions M, goal_conditioned, and what the functions below return: episodes, returns,
        rewards, masks, actions, observations, jumps, copies, coverage, memory. returns and rewards are None
        where rewards are made in training, for goals.
    """
    rows = storage.transition_rows(dataset)
    lengths = np.diff(np.unique(storage.trajectory_ends(dataset)), prepend=-1)
    ends = np.cumsum(lengths) - 1
    own_rewards = not dataset.goal_conditioned
    sample = _sample(dataset, rows)
    return {
        "name": dataset.name,
        "rows": len(dataset.terminals),
        "transitions": len(rows),
        "goal_conditioned": dataset.goal_conditioned,
        "episodes": episodes(lengths, dataset.masks[rows][ends]),
        "returns": distribution(normalization.returns(dataset)) if own_rewards else None,
        "rewards": rewards(dataset.rewards[rows], ends) if own_rewards else None,
        "masks": masks(dataset.masks[rows], ends),
        "actions": actions(dataset, rows),
        "observations": observations(dataset, rows, sample),
        "jumps": jumps(dataset, rows),
        "copies": duplicates.copies(dataset, rows, lengths),
        "coverage": coverage.of_plane(sample, standardized=dataset.observations.dtype != np.uint8),
        "memory": memory(dataset, len(rows)),
    }


def as_seen(dataset: Dataset, seen: Normalization) -> Dataset:
    """A dataset as an agent sees vectors and rewards; actions and images stay in their own units."""
    changes: dict[str, Any] = {"rewards": seen.reward_scale * dataset.rewards + seen.reward_shift}
    if seen.observation_mean is not None:
        for name in ("observations", "next_observations"):
            array = getattr(dataset, name)
            if array is not None and array.dtype != np.uint8:
                changes[name] = (array - seen.observation_mean) / seen.observation_std
    return dataclasses.replace(dataset, **changes)


def distribution(values: np.ndarray) -> dict[str, Any]:
    """Mean, standard deviation, quantiles and histogram of numbers [K], K > 0.

    Returns:
        mean, std, min, q05, q25, median, q75, q95, max, and histogram: edges [BINS + 1] and counts [BINS].
    """
    values = np.asarray(values, np.float64)
    names = ("min", "q05", "q25", "median", "q75", "q95", "max")
    quantiles = np.quantile(values, (0, 0.05, 0.25, 0.5, 0.75, 0.95, 1))
    low, high = quantiles[0], quantiles[-1]
    margin = 0.5 * (high - low <= 1e-9 * max(abs(low), abs(high)))  # of numbers that differ by rounding alone
    counts, edges = np.histogram(values, BINS, (low - margin, high + margin))
    return {
        "mean": values.mean(),
        "std": values.std(),
        **dict(zip(names, quantiles, strict=True)),
        "histogram": {"edges": edges, "counts": counts},
    }


def episodes(lengths: np.ndarray, last_masks: np.ndarray) -> dict[str, Any]:
    """How many episodes there are, how long, and how they end.

    Args:
        lengths: [E] transitions of each.
        last_masks: [E] mask of the last transition of each.

    Returns:
        count E, terminated (the last mask is 0), cut (the others: time limits, ends of the file), one_step,
        and length, a distribution.
    """
    terminated = np.count_nonzero(last_masks == 0)
    return {
        "count": len(lengths),
        "terminated": terminated,
        "cut": len(lengths) - terminated,
        "one_step": np.count_nonzero(lengths == 1),
        "length": distribution(lengths),
    }


def rewards(values: np.ndarray, ends: np.ndarray) -> dict[str, Any]:
    """Which rewards there are and how often.

    Args:
        values: [M].
        ends: [E] number of the last transition of each episode.

    Returns:
        distribution of the values, and nonzero, the share of those that are not 0; distinct, how many
        different ones there are; values, for at most MOST_VALUES of these each "value" with its "share";
        and of the greatest reward, "best": its count and share, how many episodes have it, and at_ends, how
        often it is the last of an episode.
    """
    values = values.astype(np.float64)
    distinct, counts = np.unique(values, return_counts=True)
    best = values == distinct[-1]
    listed = zip(distinct, counts / len(values), strict=True) if len(distinct) <= MOST_VALUES else ()
    return distribution(values) | {
        "nonzero": np.count_nonzero(values) / len(values),
        "distinct": len(distinct),
        "values": [{"value": value, "share": share} for value, share in listed],
        "best": {
            "count": np.count_nonzero(best),
            "share": best.mean(),
            "episodes": np.count_nonzero(np.diff(np.cumsum(best)[ends], prepend=0)),
            "at_ends": np.count_nonzero(best[ends]),
        },
    }


def masks(values: np.ndarray, ends: np.ndarray) -> dict[str, int]:
    """How many of the masks [M] are 0, and how many of these stand inside episodes, not at `ends` [E]."""
    zeros, zeros_at_ends = int(np.sum(values == 0)), int(np.sum(values[ends] == 0))
    return {"zeros": zeros, "zeros_inside": zeros - zeros_at_ends}


def actions(dataset: Dataset, rows: np.ndarray) -> dict[str, Any]:
    """How actions are spread.

    Args:
        dataset: the dataset.
        rows: [M] where its transitions stand.

    Returns:
        Of discrete actions, number n and shares [n] of each. Of continuous ones, number 0, and each [A]: low
        and high, their bounds; min, max, mean, std; at_low and at_high, the shares that are at a bound;
        histogram: counts [A, BINS] between the bounds.
    """
    taken, number = dataset.actions[rows], dataset.num_actions
    if number:
        return {"number": number, "shares": np.bincount(taken, minlength=number) / len(taken)}
    low, high = dataset.action_low, dataset.action_high
    places = (taken - low) / np.maximum(high - low, BOUND_TOLERANCE)
    bins = np.clip((places * BINS).astype(np.int64), 0, BINS - 1) + BINS * np.arange(len(low))
    return {
        "number": 0,
        "low": low,
        "high": high,
        "min": taken.min(0),
        "max": taken.max(0),
        "mean": taken.mean(0, dtype=np.float64),
        "std": taken.std(0, dtype=np.float64),
        "at_low": np.mean(taken <= low + BOUND_TOLERANCE, axis=0),
        "at_high": np.mean(taken >= high - BOUND_TOLERANCE, axis=0),
        "histogram": np.bincount(bins.ravel(), minlength=BINS * len(low)).reshape(len(low), BINS),
    }


def observations(dataset: Dataset, rows: np.ndarray, sample: np.ndarray) -> dict[str, Any]:
    """How observations are spread: by dimension, or over all pixels of a sample of images.

    Args:
        dataset: the dataset.
        rows: [M] where its transitions stand.
        sample: [S, D], some of its observations.

    Returns:
        shape, dtype, images (whether they are), and constant, the dimensions (pixels) that never change. Of
        vectors, each [D]: min, max, mean, std. Of images, min, max, mean, std and histogram of the
        intensities in the sample, and sampled, S.
    """
    facts = {"shape": dataset.observations.shape[1:], "dtype": str(dataset.observations.dtype)}
    if dataset.observations.dtype == np.uint8:
        constant = np.flatnonzero(sample.min(0) == sample.max(0))
        counts = np.bincount(sample.ravel(), minlength=256)
        intensities = np.arange(256)
        mean = counts @ intensities / sample.size
        return facts | {
            "images": True,
            "constant": constant,
            "min": sample.min(),
            "max": sample.max(),
            "mean": mean,
            "std": np.sqrt(counts @ np.square(intensities - mean) / sample.size),
            "histogram": {"edges": np.arange(0, 257, 8), "counts": counts.reshape(-1, 8).sum(1)},
            "sampled": len(sample),
        }
    pieces = [(each.min(0), each.max(0), each.sum(0, np.float64)) for each in storage.pieces(dataset, rows)]
    least, most, totals = (np.stack(column) for column in zip(*pieces, strict=True))
    least, most, mean = least.min(0), most.max(0), totals.sum(0) / len(rows)
    squares = [np.square(each - mean).sum(0) for each in storage.pieces(dataset, rows)]
    std = np.sqrt(np.sum(squares, axis=0) / len(rows))
    constant = np.flatnonzero(least == most)
    std[constant] = 0  # which rounding of the mean may have hidden
    return facts | {
        "images": False,
        "constant": constant,
        "min": least,
        "max": most,
        "mean": mean,
        "std": std,
    }


def jumps(dataset: Dataset, rows: np.ndarray) -> dict[str, np.ndarray]:
    """Which steps are far longer than the rest.

    Args:
        dataset: the dataset.
        rows: [M] where its transitions stand.

    Returns:
        Each [J]: rows, where they start, numbered as in compact storage; dimensions, the one that moves
        farthest; moves, how far.
    """
    numbers, dimensions, moves = steps.jumps(dataset, rows)
    earlier = (
        np.cumsum(dataset.terminals) - dataset.terminals if dataset.valid is None else np.zeros_like(rows)
    )
    return {"rows": rows[numbers] + earlier[numbers], "dimensions": dimensions, "moves": moves}


def memory(dataset: Dataset, num_transitions: int) -> dict[str, int]:
    """Bytes of the dataset's arrays, on the host and again on the device: in full storage and in compact."""
    observation, action = (array.nbytes // len(array) for array in (dataset.observations, dataset.actions))
    scalars = dataset.rewards.itemsize + dataset.masks.itemsize + dataset.terminals.itemsize
    num_rows = len(dataset.terminals)
    if dataset.valid is None:  # one row more an episode, for its final observation
        num_rows += int(dataset.terminals.sum())
    return {
        "full": num_transitions * (2 * observation + action + scalars),
        "compact": num_rows * (observation + action + scalars + 1),
    }


def _sample(dataset: Dataset, rows: np.ndarray) -> np.ndarray:
    """Some of the dataset's observations at rows [M], evenly spread, as [S, D]."""
    width = max(1, dataset.observations[0].size)
    step = -(-len(rows) // max(2, min(_SAMPLE_ROWS, _SAMPLE_NUMBERS // width)))
    chosen = dataset.observations[rows[::step]]
    return chosen.reshape(len(chosen), -1)
