"""Grids of stocks. A stock follows c' = (c + r) / γ, so that c + G = γ^t (c_t + G_t) at every step t."""

import itertools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from valuelab.distributional.mdps import MDP
from valuelab.errors import InputError
from valuelab.types import Array

_SAME = 1e-12
"""Reachable stocks count as equal if their relative difference is at most this."""


class StockGrid(NamedTuple):
    """The product of m one-dimensional grids, C points in all, in lexicographic order.

    Attributes:
        points: m strictly rising arrays, evenly spaced or not.
    """

    points: tuple[Any, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """The number of points in each dimension."""
        return tuple(len(points) for points in self.points)

    @property
    def size(self) -> int:
        """C."""
        return math.prod(self.shape)

    @property
    def stocks(self) -> Array:
        """[C, m], all points of the grid."""
        xp = np if all(isinstance(axis, np.ndarray) for axis in self.points) else jnp
        return xp.stack([axis.ravel() for axis in xp.meshgrid(*self.points, indexing="ij")], axis=-1)


def from_points(*points: Sequence[float] | np.ndarray, name: str = "stock grid") -> StockGrid:
    """A grid of chosen points.

    Args:
        *points: the strictly rising points of each of the m dimensions.
        name: of the grid, for messages.

    Returns:
        The grid.

    Raises:
        InputError: when points are missing, not finite or do not rise; it names the dimension and the index.
    """
    arrays = tuple(np.asarray(axis, float) for axis in points)
    for dimension, axis in enumerate(arrays):
        if axis.ndim != 1 or not axis.size:
            raise InputError(f"{name}, dimension {dimension}: shape is {axis.shape}; give one or more points")
        wrong = ~np.isfinite(axis)
        wrong[1:] |= np.diff(axis) <= 0
        if wrong.any():
            index = int(wrong.argmax())
            raise InputError(
                f"{name}, dimension {dimension}: point {index} is {axis[index]}; "
                "points must be finite and rise"
            )
    return StockGrid(points=arrays)


def uniform(low: Sequence[float], high: Sequence[float], sizes: Sequence[int]) -> StockGrid:
    """A grid with evenly spaced points.

    Args:
        low: [m], the first points.
        high: [m], the last points.
        sizes: [m], the numbers of points, at least 1; a single point is `low`.

    Returns:
        The grid.

    Raises:
        InputError: when a size is less than 1, or high is not above low.
    """
    for dimension, size in enumerate(sizes):
        if size < 1:
            raise InputError(f"stock grid, dimension {dimension}: size is {size}; give at least 1")
    return from_points(*(np.linspace(*axis) for axis in zip(low, high, sizes, strict=True)))


def scaled(grid: StockGrid, factor: Any) -> StockGrid:
    """The grid of the stocks times a positive factor."""
    return StockGrid(points=tuple(factor * points for points in grid.points))


def standard_size(size: int) -> int:
    """The next of a few sizes, at most an eighth larger. Arrays of these sizes share compiled programs."""
    return size + -size % (1 << max(0, size.bit_length() - 4))


def padded(grid: StockGrid, array: Any | None) -> tuple[StockGrid, Any]:
    """A grid of a standard size. `nearest` and `locate` give points with the same stocks and weights.

    Args:
        grid: host arrays; grids of more dimensions stay as they are.
        array: [..., C], at the points of the grid; or None.

    Returns:
        The grid and the array, with their last points repeated.
    """
    extra = standard_size(grid.size) - grid.size
    if not extra or len(grid.points) > 1:
        return grid, array

    def longer(array: Any) -> np.ndarray:
        array = np.asarray(array)
        return np.pad(array, [(0, 0)] * (array.ndim - 1) + [(0, extra)], mode="edge")

    return StockGrid(points=(longer(grid.points[0]),)), None if array is None else longer(array)


def nearest(grid: StockGrid, stocks: Any) -> Any:
    """The indices [...] in `grid.stocks` of the points nearest to stocks [..., m], on the stocks' device."""
    index: Any = 0
    for dimension, points in enumerate(grid.points):
        between = (points[1:] + points[:-1]) / 2
        search = np.searchsorted if isinstance(stocks, np.ndarray) else jnp.searchsorted
        index = index * len(points) + search(between, stocks[..., dimension])
    return index


def locate(grid: StockGrid, stocks: Array) -> tuple[Array, Array, Array]:
    """Splits stocks among the neighbouring points of the grid, linearly in every dimension.

    Args:
        grid: the grid.
        stocks: [..., m].

    Returns:
        Indices [..., 2^m] int32 of the neighbours in `grid.stocks`; their weights [..., 2^m], which sum to
        one and keep the mean; and whether the stock lies outside the grid [...] and is clamped to it.
    """
    indices, weights, outside = neighbours(grid, stocks)
    return jnp.stack(indices, -1), jnp.stack(weights, -1), outside


def neighbours(grid: StockGrid, stocks: Array) -> tuple[list[Array], list[Array], Array]:
    """As `locate`, but with lists of 2^m indices [...] and weights [...]."""
    below, above, outside = [], [], jnp.zeros(stocks.shape[:-1], bool)
    for dimension, points in enumerate(grid.points):
        lower, upper, fraction, beyond = _split(points, stocks[..., dimension])
        below.append((lower, 1 - fraction))
        above.append((upper, fraction))
        outside |= beyond
    indices, weights = [], []
    for corner in itertools.product(*zip(below, above, strict=True)):
        index, weight = corner[0]
        for (place, share), size in zip(corner[1:], grid.shape[1:], strict=True):
            index, weight = index * size + place, weight * share
        indices.append(index)
        weights.append(weight)
    return indices, weights, outside


def _split(points: Array | np.ndarray, values: Array) -> tuple[Array, Array, Array, Array]:
    """The two points around each value, and its position between them.

    Args:
        points: [n], rising, only the last one repeated; evenly spaced points on the host are located faster.
        values: [...].

    Returns:
        The int32 indices of the lower and of the upper point [...], the position in [0, 1] from the lower to
        the upper point [...], and whether the value lies outside all points by more than rounding [...].
    """
    last = len(points) - 1
    spacing = _spacing(points)
    points = jnp.asarray(points, values.dtype)
    rounding = 8 * jnp.finfo(values.dtype).eps * jnp.maximum(jnp.abs(points[0]), jnp.abs(points[-1]))
    outside = (values < points[0] - rounding) | (values > points[-1] + rounding)
    if last == 0:
        only = jnp.zeros(values.shape, jnp.int32)
        return only, only, jnp.zeros_like(values), outside
    values = jnp.clip(values, points[0], points[-1])
    if spacing is not None:
        position = (values - points[0]) / spacing
        lower = jnp.minimum(position.astype(jnp.int32), last - 1)
        return lower, lower + 1, jnp.minimum(position - lower, 1), outside
    lower = jnp.searchsorted(points[1:-1], values, side="right").astype(jnp.int32)
    lower = jnp.minimum(
        lower, jnp.searchsorted(points, points[-1]).astype(jnp.int32) - 1
    )  # if it is repeated
    return lower, lower + 1, (values - points[lower]) / (points[lower + 1] - points[lower]), outside


def _spacing(points: Array | np.ndarray) -> float | None:
    """The distance between neighbouring points if it is the same for all, else None."""
    if not isinstance(points, np.ndarray) or len(points) < 2:
        return None
    spacing = (points[-1] - points[0]) / (len(points) - 1)
    even = points[0] + spacing * np.arange(len(points))
    return spacing if np.allclose(points, even, rtol=0.0, atol=1e-9 * spacing) else None


def reachable(
    mdp: MDP,
    start_stocks: Sequence[float] | np.ndarray,
    discount: float,
    horizon: int,
    limit: int = 100_000,
) -> list[StockGrid]:
    """All stocks that can occur at each stage. On these grids finite-horizon solutions are exact.

    Stocks are followed from every state as a start. They are not followed after the end of an episode: the
    return from there on is 0 for every stock. All states share a grid, so the next stock of a state and a
    stock that no episode reaches together may be missing.

    Args:
        mdp: host arrays, m = 1.
        start_stocks: the stocks of stage 0.
        discount: γ in (0, 1].
        horizon: number of steps.
        limit: the largest number of points of a grid.

    Returns:
        horizon + 1 grids.

    Raises:
        InputError: when rewards are vectors, or there are more points than the limit.
    """
    if mdp.reward_dim != 1:
        raise InputError(
            f"rewards have {mdp.reward_dim} components, but reachable stocks need 1; give a stock grid"
        )
    probabilities, next_states, rewards, terminal = (np.asarray(leaf) for leaf in mdp)
    start = distinct(np.asarray(start_stocks, float).ravel())
    of_state, grids = [start] * mdp.num_states, [StockGrid(points=(start,))]
    for stage in range(1, horizon + 1):
        arriving: list[list[np.ndarray]] = [[np.zeros(0)] for _ in range(mdp.num_states)]
        for state, action, outcome in np.argwhere((probabilities > 0) & ~terminal[:, None, None]):
            reward = rewards[state, action, outcome, 0]
            arriving[next_states[state, action, outcome]].append((of_state[state] + reward) / discount)
        of_state = [distinct(np.concatenate(stocks)) for stocks in arriving]
        # The last grid is kept once all episodes have ended.
        points = distinct(np.concatenate(of_state))
        grids.append(StockGrid(points=(points,)) if points.size else grids[-1])
        if points.size > limit:
            raise InputError(
                f"{points.size} stocks can be reached at stage {stage}, but the limit is {limit}; "
                "give a stock grid"
            )
    return grids


def distinct(points: np.ndarray, apart: float | None = None) -> np.ndarray:
    """The points [n] in rising order, without those that lie at most `apart` above the one before.

    By default `apart` is what rounding explains.
    """
    # A stable sort merges rising runs.
    points = np.sort(points, kind="stable")
    if apart is None:
        return points[np.diff(points, prepend=-np.inf) > _SAME * np.maximum(1.0, np.abs(points))]
    return points[np.diff(points, prepend=-np.inf) > apart]
