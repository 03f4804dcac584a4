"""How episodes begin: the first stock and the value that an objective names, once all stocks are solved."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from valuelab.distributional import stocks
from valuelab.distributional.objectives import At, Objective, Search
from valuelab.distributional.representations import Atoms
from valuelab.distributional.stocks import StockGrid
from valuelab.types import Array


class Start(NamedTuple):
    """The beginning of episodes from every state.

    Attributes:
        values: [S], the objective's value of what follows; attained by the laws of the solution.
        stocks: [S, m], the first stocks.
        alone: [S], what the policy from `stocks` reaches without a draw; `values` but for upper CVaR.
        others: [S, m], stocks to begin with instead, by chance: `stocks` again but for upper CVaR.
        chances: [S], the probability of `others`, 0 but for upper CVaR.
        pivots: [S, m], where over all c the dual has its optimum: `stocks` but for upper CVaR, whose pivot
            lies anywhere between `stocks` and `others`.
        gaps: [S], by how much more, at most, stocks between the points of the grid could reach.
    """

    values: Array
    stocks: Array
    alone: Array
    others: Array
    chances: Array
    pivots: Array
    gaps: Array


def window(objective: Objective, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The box that holds every first stock that may be best.

    Args:
        objective: its start decides.
        low: [S, m], least returns of the states that episodes begin in.
        high: [S, m], greatest returns.

    Returns:
        The box's corners [m]: c₀ twice where it is given; for a search [-max high, -min low], for beyond
        these c + G has one sign and the dual moves away from its optimum.
    """
    if isinstance(objective.start, At):
        first = np.asarray(objective.start.stock(objective.parameters))
        return first, first
    return -np.max(high, axis=0), -np.min(low, axis=0)


@functools.partial(jax.jit, static_argnames="aligned")
def choose(objective: Objective, grid: StockGrid, scores: Array, laws: Atoms, aligned: bool = False) -> Start:
    """Chooses the first stock by the objective's rule.

    A given c₀ that is no point of the grid begins as the mixture of its neighbours, in which the grid splits
    it. A search takes the law with the best measure and, among equals, the best dual: so it keeps to the
    rule c₀* = argmax_c { -c + E[f(c + G)] / τ }, and reports exactly what the law found there is worth. For
    upper CVaR see `_draw`.

    Args:
        objective: as solved for, though other parameters of the start, such as another τ, may be given.
        grid: of C stocks.
        scores: [S, C], K(law of c + G).
        laws: of G, values [S, C, n, m] and probabilities [S, C, n].
        aligned: whether -g is a stock of the grid for every return g that can occur: then the best stock is,
            too, and there is no gap (upper CVaR apart).

    Returns:
        The start.

    Source: Pires et al. 2025 (arXiv:2501.13028), section 5.
    """
    if isinstance(objective.start, At):
        return _given(objective, objective.start, grid, laws)
    points = jnp.broadcast_to(grid.stocks.astype(scores.dtype), (*scores.shape, len(grid.points)))
    duals = objective.start.dual(objective.parameters, points, scores)
    measures = objective.start.measure(objective.parameters, *laws)
    if objective.start.mixed:
        return _draw(objective, objective.start, points, duals, measures, laws)
    best = jnp.max(measures, axis=-1, keepdims=True)
    rounding = 16 * jnp.finfo(scores.dtype).eps * (1 + jnp.abs(best))
    index = jnp.argmax(jnp.where(measures >= best - rounding, duals, -jnp.inf), axis=-1)
    gaps = jnp.zeros_like(best[:, 0])
    if not aligned and grid.size > 1:
        gaps = jnp.maximum(_greatest_dual(objective, objective.start, grid, scores) - best[:, 0], 0)
    return _certain(_at(measures, index), _at(points, index), gaps)


def _certain(values: Array, first: Array, gaps: Array) -> Start:
    """A start without a draw."""
    return Start(values, first, values, first, jnp.zeros_like(values), first, gaps)


def _at(array: Array, index: Array) -> Array:
    """array[s, index[s]] for every state s."""
    return jax.vmap(lambda row, place: row[place])(array, index)


def _given(objective: Objective, start: At, grid: StockGrid, laws: Atoms) -> Start:
    first = start.stock(objective.parameters).astype(laws.values.dtype)
    indices, weights, _ = stocks.locate(grid, first)
    num_states, _, _, dim = laws.values.shape
    values = laws.values[:, indices].reshape(num_states, -1, dim)
    probabilities = laws.probabilities[:, indices] * weights[None, :, None]
    scores = objective.functional(
        objective.parameters, first[None, None] + values, probabilities.reshape(num_states, -1)
    )
    return _certain(scores, jnp.broadcast_to(first, (num_states, dim)), jnp.zeros_like(scores))


def _greatest_dual(objective: Objective, start: Search, grid: StockGrid, scores: Array) -> Array:
    """No stock within the grid has a greater dual, [S].

    K rises in c, and the dual falls in c where K does not: so in every cell of the grid it is at most the
    one with K from the cell's highest corner and c from its lowest.
    """
    dim = len(grid.points)
    lower, upper = (slice(None, -1),) * dim, (slice(1, None),) * dim
    corners = grid.stocks.reshape(*grid.shape, dim)[lower].reshape(-1, dim).astype(scores.dtype)
    highest = scores.reshape(-1, *grid.shape)[(slice(None), *upper)].reshape(len(scores), -1)
    duals = start.dual(objective.parameters, jnp.broadcast_to(corners, (*highest.shape, dim)), highest)
    return jnp.max(duals, axis=-1)


def _draw(
    objective: Objective, start: Search, points: Array, duals: Array, measures: Array, laws: Atoms
) -> Start:
    """The best draw between the laws of two stocks, where the measure is concave in mixtures.

    By minimax the best mixture of the stored laws is worth min_c max_j dual(c, K(c + G_j)), the minimum of a
    convex function; just below and just above its place c* (the pivot) two laws are greatest, and the best
    mixture is of these. That is attained, and the least dual of the grid is no less than the optimum over all
    policies: `gaps` is their distance. Where it is not 0, solving for the pivots as stocks too closes it.
    """

    def duals_at(pivots: Array) -> Array:
        shifted = pivots[:, None, None, None] + laws.values
        scores = objective.functional(objective.parameters, shifted, laws.probabilities)
        at = jnp.broadcast_to(pivots[:, None, None], (*scores.shape, 1))
        return start.dual(objective.parameters, at, scores)

    ends = -jnp.max(laws.values, axis=(1, 2, 3)), -jnp.min(laws.values, axis=(1, 2, 3))
    below, above = _least(lambda pivots: jnp.max(duals_at(pivots), axis=-1), *ends)
    pair = jnp.stack([jnp.argmax(duals_at(pivots), axis=-1) for pivots in (below, above)], axis=-1)
    # The one that is better alone comes first.
    swap = _at(measures, pair[:, 0]) < _at(measures, pair[:, 1])
    first, other = (jnp.where(swap, pair[:, 1 - place], pair[:, place]) for place in (0, 1))
    alone = _at(measures, first)

    def mixed(chances: Array) -> Array:
        values = jnp.concatenate([_at(laws.values, first), _at(laws.values, other)], axis=1)
        shares = [(1 - chances)[:, None], chances[:, None]]
        probabilities = [_at(laws.probabilities, index) for index in (first, other)]
        together = [share * each for share, each in zip(shares, probabilities, strict=True)]
        return start.measure(objective.parameters, values, jnp.concatenate(together, axis=1))

    none = jnp.zeros_like(alone)
    low, high = _least(lambda chances: -mixed(chances), none, none + 1)
    chances = (low + high) / 2
    worth = mixed(chances)
    drawn = worth > alone + jnp.finfo(alone.dtype).eps ** (2 / 3) * (1 + jnp.abs(alone))
    values = jnp.where(drawn, worth, alone)
    return Start(
        values=values,
        stocks=_at(points, first),
        alone=alone,
        others=_at(points, jnp.where(drawn, other, first)),
        chances=jnp.where(drawn, chances, 0),
        pivots=((below + above) / 2)[:, None],
        gaps=jnp.maximum(jnp.min(duals, axis=-1) - values, 0),
    )


def _least(function: Callable[[Array], Array], low: Array, high: Array) -> tuple[Array, Array]:
    """Golden-section search: ends of an interval, ε^⅔ of the given one, that hold a minimum.

    Args:
        function: convex, element by element, [S] to [S].
        low: [S].
        high: [S].
    """
    ratio = (np.sqrt(5) - 1) / 2
    count = int(np.ceil(np.log(np.finfo(low.dtype).eps ** (2 / 3)) / np.log(ratio)))

    def narrow(_, ends):
        low, high = ends
        left, right = high - ratio * (high - low), low + ratio * (high - low)
        keep_left = function(left) <= function(right)
        return jnp.where(keep_left, low, left), jnp.where(keep_left, right, high)

    return jax.lax.fori_loop(0, count, narrow, (low, high))
