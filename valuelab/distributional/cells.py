"""Backups of categorical distributions for scalar returns, at a few operations per number.

The distributions are held as cumulative probabilities F(z_i). In this form the projection that splits an atom
among its neighbours is the mean of the distribution function over each cell,

    F(z_i) = mean of P(X ≤ z) over z in [z_i, z_{i+1}].

The distribution function of r + γ G' at z is that of G' at (z - r) / γ. G' lies on the support, so its
distribution function is constant on cells. Every number of the projected distribution is therefore a mean of
a few neighbouring F'(z_j), with weights that depend on the reward alone. The last cell extends to infinity,
before and after the backup: mass beyond the support is clamped to the edge of the support.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from valuelab.distributional.return_distributions import Successors
from valuelab.types import Array


class Cells(NamedTuple):
    """For every cell of the distribution of r + γ G': the cells of the distribution of G' that it averages.

    Attributes:
        first: [K, S, A, n] int32, the first of T cells.
        shares: T arrays [K, S, A, n], the share of each.
        ends: [K, S, A, 2] int32, the last cell of the returns G' that fall below the support, and the last
            cell of those that do not rise above it; -1 where there is none.
    """

    first: Array
    shares: tuple[Array, ...]
    ends: Array


def make_cells(points: np.ndarray, rewards: Array, discount: float) -> Cells:
    """The tables that backups need for given rewards.

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
    for step in range(_max_cells(points, discount)):
        cell = jnp.minimum(first + step, len(points) - 1)
        overlap = jnp.minimum(upper, ends[cell]) - jnp.maximum(lower, support[cell])
        share = jnp.where(first + step < len(points), jnp.maximum(overlap, 0) / (upper - lower), 0)
        shares.append(_append(share, float(step == 0)))
    rounding = 8 * jnp.finfo(support.dtype).eps * jnp.max(jnp.abs(support))
    beyond = jnp.stack([sources[..., 0] - rounding, sources[..., -1] + rounding], axis=-1)
    return Cells(
        first=_append(first, len(points) - 1),
        shares=tuple(shares),
        ends=cell_of(beyond).astype(jnp.int32) - 1,
    )


def _max_cells(points: np.ndarray, discount: float) -> int:
    """The largest number of cells that one cell, stretched by 1 / γ, can touch."""
    length = np.diff(points).max() / discount * (1 + 1e-6)
    return int((np.searchsorted(points, points + length) - np.arange(len(points))).max()) + 1


def _append(array: Array, last: float) -> Array:
    """The array with one more number in its last axis."""
    return jnp.concatenate([array, jnp.full_like(array[..., :1], last)], axis=-1)


def backup(distributions: Array, cells: Cells, successors: Successors) -> tuple[Array, Array]:
    """The projected distributions of r + γ G'.

    Args:
        distributions: [N, n], cumulative probabilities.
        cells: of the rewards.
        successors: of the chosen actions.

    Returns:
        Distributions [S, C, n], and the mass beyond the support [S, C].
    """
    num_states, _, _, num_stocks = successors.indices.shape
    rows, size = jnp.arange(num_states)[:, None], distributions.shape[-1]

    def read(indices: Array, weights: Array, cell: Array) -> Array:
        """F' [S, C, ...] of the mixture of J neighbours at the given cells."""
        neighbours = zip(jnp.moveaxis(indices, 1, 0), jnp.moveaxis(weights, 1, 0), strict=True)
        return sum(
            weight[..., None] * distributions.at[index[..., None], cell].get(mode="promise_in_bounds")
            for index, weight in neighbours
        )

    def outcome(total, one):
        moved, outside = total
        indices, weights, cells = one
        first, ends = cells.first[rows, successors.actions], cells.ends[rows, successors.actions]
        for step, shares in enumerate(cells.shares):
            cell = jnp.minimum(first + step, size - 1)
            moved += shares[rows, successors.actions] * read(indices, weights, cell)
        below = jnp.where(ends >= 0, read(indices, weights, jnp.maximum(ends, 0)), 0)
        return (moved, outside + below[..., 0] + weights.sum(1) - below[..., 1]), None

    zeros = jnp.zeros((num_states, num_stocks, size), distributions.dtype)
    outcomes = jnp.moveaxis(successors.indices, 1, 0), jnp.moveaxis(successors.weights, 1, 0), cells
    return jax.lax.scan(outcome, (zeros, zeros[..., 0]), outcomes)[0]
