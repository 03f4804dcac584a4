"""Statistics of a dataset; `data.faults` finds its faults in them.

`inspect` makes one report of nested dictionaries, whose leaves are numbers, texts, lists and arrays.
`experiments.inspect_dataset` writes, prints and draws it. All functions use numpy and read large arrays in
pieces, so that the memory they need is small. A statistic of a sample comes with the size of the sample.
"""

import dataclasses
from typing import Any

import jax
import numpy as np

from valuelab.data import coverage, duplicates, normalization, steps, storage
from valuelab.data.coverage import BINS
from valuelab.data.validation import BOUND_TOLERANCE
from valuelab.observation_parts import is_image, pack, unpack
from valuelab.types import Dataset, Normalization

MAX_VALUES = 8
"""The largest number of distinct rewards whose shares are listed."""

_SAMPLE_ROWS = 100_000
"""The largest number of rows of a sample."""
_SAMPLE_NUMBERS = 6_000_000
"""The largest number of values of a sample: some 500 images of 64 x 64 x 3."""


def inspect(dataset: Dataset) -> dict[str, Any]:
    """Computes all statistics of a dataset.

    Args:
        dataset: N rows in either storage, M of them transitions; only "rows" depends on the storage.

    Returns:
        name, rows N, transitions M, goal_conditioned, and the results of the functions below: episodes,
        returns, rewards, masks, actions, observations, jumps, copies, coverage, memory. returns and rewards
        are None for goal-conditioned datasets, whose rewards are computed in training.
    """
    rows = storage.transition_rows(dataset)
    lengths = np.diff(np.unique(storage.trajectory_ends(dataset)), prepend=-1)
    ends = np.cumsum(lengths) - 1
    own_rewards = not dataset.goal_conditioned
    numbers = _numbers(dataset)
    sample = _sample(numbers, rows)
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
        "observations": observations(dataset, rows),
        "jumps": jumps(numbers, rows),
        "copies": duplicates.copies(dataset, rows, lengths),
        "coverage": coverage.of_plane(sample, standardized=numbers.observations.dtype != np.uint8),
        "memory": memory(dataset, len(rows)),
    }


def normalized(dataset: Dataset, fitted: Normalization) -> Dataset:
    """A dataset with normalised vectors and rewards; actions and images keep their own units."""
    changes: dict[str, Any] = {"rewards": fitted.reward_scale * dataset.rewards + fitted.reward_shift}
    if fitted.observation_mean is not None:
        for name in ("observations", "next_observations"):
            array = getattr(dataset, name)
            if array is not None and dataset.observation_parts:
                parts = unpack(array, dataset.observation_parts)
                moments = (fitted.observation_mean, fitted.observation_std)
                changes[name] = pack(
                    jax.tree.map(_normalized, parts, *moments), dataset.observation_parts, name
                )
            elif array is not None:
                changes[name] = _normalized(array, fitted.observation_mean, fitted.observation_std)
    return dataclasses.replace(dataset, **changes)


def _normalized(array: np.ndarray, mean: Any, std: Any) -> np.ndarray:
    return array if array.dtype == np.uint8 else (array - mean) / std


def distribution(values: np.ndarray) -> dict[str, Any]:
    """Mean, standard deviation, quantiles and histogram of values [K], K > 0.

    Returns:
        mean, std, min, q05, q25, median, q75, q95, max, and histogram: edges [BINS + 1] and counts [BINS].
    """
    values = np.asarray(values, np.float64)
    names = ("min", "q05", "q25", "median", "q75", "q95", "max")
    quantiles = np.quantile(values, (0, 0.05, 0.25, 0.5, 0.75, 0.95, 1))
    low, high = quantiles[0], quantiles[-1]
    margin = 0.5 * (high - low <= 1e-9 * max(abs(low), abs(high)))  # where values differ only by rounding
    counts, edges = np.histogram(values, BINS, (low - margin, high + margin))
    return {
        "mean": values.mean(),
        "std": values.std(),
        **dict(zip(names, quantiles, strict=True)),
        "histogram": {"edges": edges, "counts": counts},
    }


def episodes(lengths: np.ndarray, last_masks: np.ndarray) -> dict[str, Any]:
    """The number of episodes, their lengths, and how they end.

    Args:
        lengths: [E], the number of transitions of each episode.
        last_masks: [E], the mask of the last transition of each episode.

    Returns:
        count: E.
        terminated: the number of episodes whose last mask is 0.
        cut: the number of the others, which end by a time limit or at the end of the file.
        one_step: the number of episodes of one transition.
        length: the distribution of lengths.
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
    """The distribution of rewards.

    Args:
        values: [M], the rewards.
        ends: [E], the index of the last transition of each episode.

    Returns:
        The entries of `distribution`, and these:

        - nonzero: the share of rewards that are not 0.
        - distinct: the number of distinct values.
        - values: each distinct "value" with its "share"; empty for more than MAX_VALUES values.
        - best: of the greatest reward, its count and share, the number of episodes that reach it, and
          at_ends, the number of episodes that end with it.
    """
    values = values.astype(np.float64)
    distinct, counts = np.unique(values, return_counts=True)
    best = values == distinct[-1]
    listed = zip(distinct, counts / len(values), strict=True) if len(distinct) <= MAX_VALUES else ()
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
    """The number of masks [M] that are 0, and of those that are not at the `ends` [E] of episodes."""
    zeros, zeros_at_ends = int(np.sum(values == 0)), int(np.sum(values[ends] == 0))
    return {"zeros": zeros, "zeros_inside": zeros - zeros_at_ends}


def actions(dataset: Dataset, rows: np.ndarray) -> dict[str, Any]:
    """The distribution of actions.

    Args:
        dataset: the dataset.
        rows: [M], the row of each transition.

    Returns:
        For discrete actions: their number n, and the shares [n].
        For continuous actions: number 0, and, each [A], the bounds low and high; min, max, mean, std; at_low
        and at_high, the shares of actions at a bound; and histogram, counts [A, BINS] between the bounds.
    """
    taken, number = dataset.actions[rows], dataset.num_actions
    if number:
        return {"number": number, "shares": np.bincount(taken, minlength=number) / len(taken)}
    low, high = dataset.action_low, dataset.action_high
    fractions = (taken - low) / np.maximum(high - low, BOUND_TOLERANCE)
    bins = np.clip((fractions * BINS).astype(np.int64), 0, BINS - 1) + BINS * np.arange(len(low))
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


def observations(dataset: Dataset, rows: np.ndarray) -> dict[str, Any]:
    """The distribution of observations: by dimension, or over all pixels of a sample of images.

    Args:
        dataset: the dataset.
        rows: [M], the row of each transition.

    Returns:
        shape, dtype, images (whether observations are images), and constant, the dimensions (pixels) that
        never change. For vectors: min, max, mean, std, each [D]. For images: min, max, mean, std and
        histogram of the intensities in a sample of S images, and sampled, S. For observations of several
        parts: shape, dtype, and parts, these facts of each part by name.
    """
    facts = {"shape": dataset.observations.shape[1:], "dtype": str(dataset.observations.dtype)}
    if dataset.observation_parts:
        parts = unpack(dataset.observations, dataset.observation_parts)
        return facts | {
            "parts": {
                name: observations(_with_observations(dataset, part), rows) for name, part in parts.items()
            }
        }
    if dataset.observations.dtype == np.uint8:
        sample = _sample(dataset, rows)
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
    std[constant] = 0  # rounding of the mean may make it positive
    return facts | {
        "images": False,
        "constant": constant,
        "min": least,
        "max": most,
        "mean": mean,
        "std": std,
    }


def jumps(dataset: Dataset, rows: np.ndarray) -> dict[str, np.ndarray]:
    """The steps that are far longer than the rest.

    Args:
        dataset: the dataset.
        rows: [M], the row of each transition.

    Returns:
        Each [J]: rows, the row where the step starts, in compact storage; dimensions, the dimension that
        moves farthest; moves, the distance that it moves.
    """
    numbers, dimensions, moves = steps.jumps(dataset, rows)
    earlier = (
        np.cumsum(dataset.terminals) - dataset.terminals if dataset.valid is None else np.zeros_like(rows)
    )
    return {"rows": rows[numbers] + earlier[numbers], "dimensions": dimensions, "moves": moves}


def memory(dataset: Dataset, num_transitions: int) -> dict[str, int]:
    """Bytes of the dataset's arrays in full and in compact storage; host and device need this much each."""
    observation, action = (array.nbytes // len(array) for array in (dataset.observations, dataset.actions))
    scalars = dataset.rewards.itemsize + dataset.masks.itemsize + dataset.terminals.itemsize
    num_rows = len(dataset.terminals)
    if dataset.valid is None:  # compact storage has one more row per episode, for its final observation
        num_rows += int(dataset.terminals.sum())
    return {
        "full": num_transitions * (2 * observation + action + scalars),
        "compact": num_rows * (observation + action + scalars + 1),
    }


def _with_observations(dataset: Dataset, array: np.ndarray, following: np.ndarray | None = None) -> Dataset:
    """The dataset with other observations, of one part."""
    return dataclasses.replace(dataset, observations=array, next_observations=following, observation_parts=())


def _numbers(dataset: Dataset) -> Dataset:
    """The dataset with the vectors among several parts joined as its observations; its images without any."""
    if not dataset.observation_parts:
        return dataset
    vectors = [part.name for part in dataset.observation_parts if not is_image(part)]
    names = vectors or [part.name for part in dataset.observation_parts]

    def joined(packed: np.ndarray) -> np.ndarray:
        parts = unpack(packed, dataset.observation_parts)
        return np.concatenate([parts[name].reshape(len(packed), -1) for name in names], axis=1)

    following = dataset.next_observations
    return _with_observations(
        dataset, joined(dataset.observations), following if following is None else joined(following)
    )


def _sample(dataset: Dataset, rows: np.ndarray) -> np.ndarray:
    """A sample of the observations at rows [M], evenly spread, as [S, D]."""
    width = max(1, dataset.observations[0].size)
    step = -(-len(rows) // max(2, min(_SAMPLE_ROWS, _SAMPLE_NUMBERS // width)))
    chosen = dataset.observations[rows[::step]]
    return chosen.reshape(len(chosen), -1)
