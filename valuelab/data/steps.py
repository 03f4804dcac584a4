"""Distances that observations move in a step: unusual distances show missing or false ends of episodes."""

import math
from collections.abc import Iterator

import numpy as np

from valuelab.data import storage
from valuelab.types import Dataset

MARGIN = 2.0
"""A jump moves a coordinate at least this many times as far as expected."""

_SAMPLE_ROWS, _SAMPLE_NUMBERS = 100_000, 6_000_000
"""The largest numbers of rows and of values in a sample from which quantiles are computed."""


def jumps(dataset: Dataset, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The transitions that move much farther than the others, as where an end of an episode is not marked.

    Where the tail of the moves follows a power law, the expected longest move of coordinate d in N steps is

    m[d] = q99[d] · (q99[d] / q90[d])^log10(N / 100)

    with the quantiles q90 and q99 of its moves |s'[d] - s[d]|; one jump in two hundred steps hardly changes
    these. A transition is a jump where a coordinate moves farther than MARGIN times m[d], and farther than
    MARGIN times its moves in the steps before and after, because a falling body moves far in several steps.
    Coordinates that do not move in most steps are ignored.

    Args:
        dataset: N rows in either storage.
        rows: [M], the row of each transition.

    Returns:
        For each jump, [J]: its transition number, ascending; the coordinate that jumps farthest; the distance
        that it moves. Images have no jumps, because all their pixels may change at once.
    """
    none = np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32)
    if dataset.observations.dtype == np.uint8 or len(rows) < 3:
        return none
    q90, q99 = np.quantile(_moves(dataset, _sample(rows, dataset.observations)), (0.9, 0.99), axis=0)
    growth = np.divide(q99, q90, out=np.ones_like(q90), where=q90 > 0)
    expected = np.where(q90 > 0, q99 * growth ** max(0.0, math.log10(len(rows) / 100)), np.inf)
    far = [(moves > MARGIN * expected).any(axis=1) for moves in _pieces(dataset, rows)]
    numbers, last = np.flatnonzero(np.concatenate(far)), len(rows) - 1
    if not len(numbers):
        return none
    neighbours = (
        np.abs(numbers - 1),
        last - np.abs(last - numbers - 1),
    )  # the first and the last step have one neighbour, which is taken twice
    moves, before, after = (_moves(dataset, rows[each]) for each in (numbers, *neighbours))
    excess = moves / np.maximum(expected, np.maximum(before, after))
    jump = excess.max(axis=1) > MARGIN
    farthest = excess[jump].argmax(axis=1)
    return numbers[jump], farthest, moves[jump, farthest]


def goes_on(observations: np.ndarray, marked: np.ndarray, others: np.ndarray) -> bool:
    """Whether trajectories go on after marked rows, as after rows near a goal, or end there.

    The size of a step is its largest move over coordinates, each in units of the 0.99-quantile of its moves
    in the other steps. Trajectories go on where the median marked step is at most as long as the 0.9-quantile
    of the other steps. Where the median step between unrelated rows is that short too, the data cannot decide
    the question, and the result is False.

    Args:
        observations: [N, ...], in time order.
        marked: [K] rows, without the last row.
        others: [M] rows whose trajectories are known to go on, without the last row.
    """
    if not len(marked) or not len(others):
        return False
    marked, others = _sample(marked, observations), _sample(others, observations)

    def moves(rows: np.ndarray, successors: np.ndarray) -> np.ndarray:
        before, after = (observations[each].reshape(len(rows), -1) for each in (rows, successors))
        return np.abs(after.astype(np.float32) - before)

    ordinary = moves(others, others + 1)
    units = np.quantile(ordinary, 0.99, axis=0)
    units[units == 0] = np.inf
    longest = np.quantile((ordinary / units).max(axis=1), 0.9)
    unrelated = moves(others, np.roll(others, len(others) // 2))
    typical = [np.median((each / units).max(axis=1)) for each in (moves(marked, marked + 1), unrelated)]
    return bool(typical[0] <= longest < typical[1])


def _sample(rows: np.ndarray, observations: np.ndarray) -> np.ndarray:
    """A sample of the rows [M], evenly spread."""
    size = max(2, min(_SAMPLE_ROWS, _SAMPLE_NUMBERS // observations[0].size))
    return rows[:: -(-len(rows) // size)]


def _moves(dataset: Dataset, rows: np.ndarray) -> np.ndarray:
    """|s' - s| of transitions at rows [M], [M, D]."""
    return np.concatenate(list(_pieces(dataset, rows)))


def _pieces(dataset: Dataset, rows: np.ndarray) -> Iterator[np.ndarray]:
    """The same in pieces of some megabytes, [P, D] each."""
    if dataset.valid is None:
        successors = storage.pieces(dataset, rows, "next_observations")
    else:
        successors = storage.pieces(dataset, rows + 1)
    for before, after in zip(storage.pieces(dataset, rows), successors, strict=True):
        yield np.abs(after - before)
