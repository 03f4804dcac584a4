"""Backups of categorical laws on a line, at a few operations a number.

Held as cumulative probabilities F(z_i), the projection that splits atoms among their neighbours is the mean
of the distribution function over each cell,

    F(z_i) = mean of P(X ≤ z) over z in [z_i, z_{i+1}].

The law of r + γ G' at z is that of G' at (z - r) / γ, where G' lies on the support and its distribution
function is constant on cells; so every number of the projected law is a mean of few neighbouring F'(z_j),
with weights that depend on the reward alone. The last cell, here and there, reaches to infinity: what lies
beyond the support is clamped to its edge.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from valuelab.distributional.laws import Chosen
from valuelab.types import Array


class Cells(NamedTuple):
    """Of which cells of the law of G' every cell of the law of r + γ G' is the mean.

    Attributes:
        first: [K, S, A, n] int32, the first of T cells.
        shares: T arrays [K, S, A, n], the share of each.
        ends: [K, S, A, 2] int32, the last cell of the returns G' that fall below the support, and the last of
            those that do not rise above it; -1 where there is none.
    """

    first: Array
    shares: tuple[Array, ...]
    ends: Array


def plan(points: np.ndarray, rewards: Array, discount: float) -> Cells:
    """What backups need to know of rewards.

    Args:
        points: [n], the support.
        rewards: [S, A, K, 1].
        discount: γ.

    Returns:
        The cells.
    """
    rewards = jnp.moveaxis(rewards[..., 0], -1, 0)[..., None]
    support = jnp.asarray(points, rewards.dtype)
    sources = (support[None, None, None] - rewards) / discount
    lower, upper = sources[..., :-1], sources[..., 1:]
    cell_of = functools.partial(jnp.searchsorted, support, side="right")
    first = jnp.maximum(cell_of(lower) - 1, 0).astype(jnp.int32)
    ends = jnp.append(support[1:], jnp.inf)
    shares = []
    for step in range(_most_cells(points, discount)):
        cell = jnp.minimum(first + step, len(points) - 1)
        overlap = jnp.minimum(upper, ends[cell]) - jnp.maximum(lower, support[cell])
        share = jnp.where(first + step < len(points), jnp.maximum(overlap, 0) / (upper - lower), 0)
        shares.append(_append(share, float(step == 0)))
    rounding = 8 * jnp.finfo(support.dtype).eps * jnp.max(jnp.abs(support))
    beyond = jnp.stack([sources[..., 0] - rounding, sources[..., -1] + rounding], axis=-1)
    return Cells(_append(first, len(points) - 1), tuple(shares), cell_of(beyond).astype(jnp.int32) - 1)


def _most_cells(points: np.ndarray, discount: float) -> int:
    """How many cells the longest cell, stretched by 1 / γ, can touch."""
    length = np.diff(points).max() / discount * (1 + 1e-6)
    return int((np.searchsorted(points, points + length) - np.arange(len(points))).max()) + 1


def _append(array: Array, last: float) -> Array:
    """An array with one number more in its last axis."""
    return jnp.concatenate([array, jnp.full_like(array[..., :1], last)], axis=-1)


def backup(laws: Array, cells: Cells, chosen: Chosen) -> tuple[Array, Array]:
    """The projected laws of r + γ G'.

    Args:
        laws: [N, n], cumulative probabilities.
        cells: of the rewards.
        chosen: the successors.

    Returns:
        Laws [S, C, n], and the mass beyond the support [S, C].
    """
    num_states, _, _, num_stocks = chosen.places.shape
    rows, size = jnp.arange(num_states)[:, None], laws.shape[-1]

    def read(places: Array, weights: Array, cell: Array) -> Array:
        """F' [S, C, ...] of the mixture of J neighbours in some cells."""
        neighbours = zip(jnp.moveaxis(places, 1, 0), jnp.moveaxis(weights, 1, 0), strict=True)
        return sum(
            weight[..., None] * laws.at[place[..., None], cell].get(mode="promise_in_bounds")
            for place, weight in neighbours
        )

    def outcome(total, one):
        moved, outside = total
        places, weights, cells = one
        first, ends = cells.first[rows, chosen.actions], cells.ends[rows, chosen.actions]
        for step, shares in enumerate(cells.shares):
            moved += shares[rows, chosen.actions] * read(places, weights, jnp.minimum(first + step, size - 1))
        below = jnp.where(ends >= 0, read(places, weights, jnp.maximum(ends, 0)), 0)
        return (moved, outside + below[..., 0] + weights.sum(1) - below[..., 1]), None

    nothing = jnp.zeros((num_states, num_stocks, size), laws.dtype)
    outcomes = jnp.moveaxis(chosen.places, 1, 0), jnp.moveaxis(chosen.weights, 1, 0), cells
    return jax.lax.scan(outcome, (nothing, nothing[..., 0]), outcomes)[0]
