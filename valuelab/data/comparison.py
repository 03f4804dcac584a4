"""Whether two datasets in OGBench's layout differ by more than sampling error.

The steps of an episode are correlated, so the test resamples whole episodes. It compares the distance between
the two datasets with the distances of many random divisions of all their episodes into two sets of the same
sizes. The p-value of all features together takes the greatest standardised distance, so comparing more
features does not find more differences.
"""

import dataclasses
from typing import Any

import numpy as np

DIVISIONS = 1000
"""The number of random divisions."""
SIGNIFICANCE = 0.01
"""Two datasets differ where the p-value of all features together is below this level."""
OCCUPANCY_BINS = 40
"""The number of bins along each axis of the occupancy."""
QUANTILE_BINS = 200
"""The number of bins of a scalar feature."""
MAZE_UNIT, MAZE_OFFSET = 4.0, 4.0
"""Width of a maze's cells and offset of their centres, metres."""


@dataclasses.dataclass(frozen=True)
class FeatureComparison:
    """The distance between two datasets in one feature.

    Attributes:
        distance: total variation for the occupancy, Kolmogorov-Smirnov distance for all others, in [0, 1].
        expected: mean distance of the random divisions, which is due to sampling error alone.
        limit: the 95 % quantile of the distances of the random divisions.
        p: the share of the divisions whose distance is at least as great, the actual one included.
        moments: mean and standard deviation in both datasets; empty for the occupancy.
    """

    distance: float
    expected: float
    limit: float
    p: float
    moments: dict[str, float]


def layout(arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    """The properties that must be equal: dtype and row shape of each key, and the set of episode lengths."""
    lengths = np.diff(np.flatnonzero(arrays["terminals"]), prepend=-1)
    return {
        "keys": {key: [str(array.dtype), *array.shape[1:]] for key, array in arrays.items()},
        "episode_lengths": sorted({int(length) for length in lengths}),
    }


def episode_numbers(arrays: dict[str, np.ndarray]) -> np.ndarray:
    """The number of the episode that each row belongs to, [N]."""
    ends = arrays["terminals"].astype(bool)
    return np.cumsum(ends) - ends


def hindsight_noise(observations: np.ndarray, actions: np.ndarray, episodes: np.ndarray) -> np.ndarray:
    """Estimates the noise on the actions of a maze oracle from the positions that follow.

        action - (c - x) / |c - x|,   c the centre of the next cell that the episode enters

    The estimate is wrong where the oracle did not head for that cell, because noise pushed it over a corner
    or its goal changed. Such errors occur in both datasets alike.

    Args:
        observations: [N, 2] positions.
        actions: [N, 2].
        episodes: [N] episode numbers.

    Returns:
        [N, 2]; NaN where the episode enters no other neighbouring cell, and where an action is clipped.
    """
    cells = np.floor((observations + MAZE_OFFSET) / MAZE_UNIT + 0.5)
    rows = np.arange(len(cells))
    leaves = np.append(np.any(cells[1:] != cells[:-1], axis=1) | (episodes[1:] != episodes[:-1]), True)
    last = np.minimum.accumulate(np.where(leaves, rows, len(cells))[::-1])[::-1]
    entered = np.minimum(last + 1, len(cells) - 1)
    way = cells[entered] * MAZE_UNIT - MAZE_OFFSET - observations
    noise = actions - way / (np.linalg.norm(way, axis=1, keepdims=True) + 1e-6)
    known = (np.abs(cells[entered] - cells).sum(axis=1) == 1) & (episodes[entered] == episodes)
    return np.where(known[:, None] & (np.abs(actions) < 1.0), noise, np.nan)


def features(arrays: dict[str, np.ndarray], maze: bool) -> dict[str, np.ndarray]:
    """The scalar features [N] whose distributions are compared, by name; NaN where undefined."""
    episodes = episode_numbers(arrays)
    observations = arrays["observations"].astype(np.float64)
    actions = arrays["actions"].astype(np.float64).reshape(len(episodes), -1)
    changes = np.full_like(actions, np.nan)
    within = episodes[1:] == episodes[:-1]
    changes[:-1][within] = np.diff(actions, axis=0)[within]
    columns = {"observation": observations, "action": actions, "action change": changes}
    if maze:
        columns["action noise"] = hindsight_noise(observations, actions, episodes)
    named = {f"{name} {i}": array[:, i] for name, array in columns.items() for i in range(array.shape[1])}
    return named | {"action norm": np.linalg.norm(actions, axis=1)}


def count_by_episode(bins: np.ndarray, episodes: np.ndarray, size: int) -> np.ndarray:
    """Counts the rows of each episode in each bin, [E, size] float32; rows with bin -1 are left out."""
    kept = bins >= 0
    flat = episodes[kept] * size + bins[kept]
    counts = np.bincount(flat, minlength=(episodes[-1] + 1) * size)
    return counts.reshape(-1, size).astype(np.float32)


def scalar_bins(reference: np.ndarray, candidate: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
    """The quantile bin of each value, in bins common to both datasets, -1 for NaN; and the number of bins."""
    pooled = np.concatenate([reference, candidate])
    edges = np.unique(np.nanquantile(pooled, np.linspace(0.0, 1.0, QUANTILE_BINS + 1)[1:-1]))
    numbered = np.where(np.isnan(pooled), -1, np.searchsorted(edges, pooled, side="right"))
    return numbered[: len(reference)], numbered[len(reference) :], len(edges) + 1


def plane_edges(reference: np.ndarray, candidate: np.ndarray) -> list[np.ndarray]:
    """The edges of the occupancy's bins along each axis, from the points [N, 2] of both datasets."""
    low = np.minimum(reference.min(axis=0), candidate.min(axis=0))
    high = np.maximum(reference.max(axis=0), candidate.max(axis=0))
    return [np.linspace(low[axis], high[axis], OCCUPANCY_BINS + 1) for axis in range(2)]


def plane_bins(points: np.ndarray, edges: list[np.ndarray]) -> np.ndarray:
    """The bin of the occupancy that each of the points [N, 2] falls into, [N]."""
    along = [np.searchsorted(edges[axis][1:-1], points[:, axis], side="right") for axis in range(2)]
    return along[0] * OCCUPANCY_BINS + along[1]


def divide(sizes: tuple[int, int], seed: int = 0) -> np.ndarray:
    """Divisions of E episodes, [1 + DIVISIONS, E]: 1 for the first set; the actual one, then random ones."""
    actual = np.repeat(np.array([1.0, 0.0], np.float32), sizes)
    shuffled = np.random.default_rng(seed).permuted(np.tile(actual, (DIVISIONS, 1)), axis=1)
    return np.concatenate([actual[None], shuffled])


def distances(counts: np.ndarray, divisions: np.ndarray, cumulative: bool) -> np.ndarray:
    """The distance between the two sets of each division.

        total variation ½ Σ |p - q|;   Kolmogorov-Smirnov max |P - Q| on cumulative shares

    Args:
        counts: [E, bins], the rows of each episode in each bin.
        divisions: [D, E], 1 for the episodes of the first set and 0 for the others.
        cumulative: whether to return the Kolmogorov-Smirnov distance instead of total variation.

    Returns:
        [D] in [0, 1].
    """
    first = (divisions @ counts).astype(np.float64)
    second = counts.sum(axis=0, dtype=np.float64) - first
    gap = first / first.sum(axis=1, keepdims=True) - second / second.sum(axis=1, keepdims=True)
    if cumulative:
        return np.abs(np.cumsum(gap, axis=1)).max(axis=1)
    return 0.5 * np.abs(gap).sum(axis=1)


def compare(
    reference: dict[str, np.ndarray], candidate: dict[str, np.ndarray], plane: tuple[int, int], maze: bool
) -> tuple[dict[str, FeatureComparison], float]:
    """Compares two datasets of equal layout in all features.

    Args:
        reference: the arrays of one file.
        candidate: the arrays of the other file.
        plane: the two observation dimensions of the occupancy.
        maze: whether the datasets come from a point maze, where the action noise can be estimated.

    Returns:
        The comparison of each feature, and the p-value of all features together.
    """
    sets = (reference, candidate)
    episodes = [episode_numbers(arrays) for arrays in sets]
    divisions = divide((int(episodes[0][-1]) + 1, int(episodes[1][-1]) + 1))
    points = [arrays["observations"][:, plane] for arrays in sets]
    edges = plane_edges(*points)
    counts = [
        count_by_episode(plane_bins(array, edges), numbers, OCCUPANCY_BINS**2)
        for array, numbers in zip(points, episodes, strict=True)
    ]
    apart = {"occupancy": distances(np.concatenate(counts), divisions, cumulative=False)}
    moments: dict[str, dict[str, float]] = {"occupancy": {}}
    scalars = [features(arrays, maze) for arrays in sets]
    for name in scalars[0]:
        *bins, size = scalar_bins(scalars[0][name], scalars[1][name])
        counts = [count_by_episode(b, numbers, size) for b, numbers in zip(bins, episodes, strict=True)]
        apart[name] = distances(np.concatenate(counts), divisions, cumulative=True)
        moments[name] = {
            f"{which}_{moment}": float(function(values[name]))
            for which, values in zip(("reference", "candidate"), scalars, strict=True)
            for moment, function in (("mean", np.nanmean), ("std", np.nanstd))
        }
    results = {
        name: FeatureComparison(
            float(d[0]), float(d[1:].mean()), float(np.quantile(d[1:], 0.95)), _share(d), moments[name]
        )
        for name, d in apart.items()
    }
    table = np.stack(list(apart.values()))
    spread = table[:, 1:].std(axis=1, keepdims=True) + 1e-12
    greatest = ((table - table[:, 1:].mean(axis=1, keepdims=True)) / spread).max(axis=0)
    return results, _share(greatest)


def _share(statistics: np.ndarray) -> float:
    """The permutation p-value of the first statistic among all of them."""
    return float(np.mean(statistics >= statistics[0] - 1e-12))
