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
from valuelab.distributional.solvers import Solution
from valuelab.distributional.stocks import StockGrid
from valuelab.types import Array


class Start(NamedTuple):
    """The beginning of episodes from every state.

    Attributes:
        values: [S], the objective's optimum, as near as the solution has it.
        errors: [S], a bound of |values - optimum|, by the solution's errors and the stocks between the points
            of the grid.
        stocks: [S, m], the first stocks.
        others: [S, m], stocks to begin with instead, by chance.
        chances: [S], the probability of `others`; 0 but for upper CVaR.
        alone: [S], what beginning with `stocks` and no chance attains; `values` but for upper CVaR.
        pivots: [S, m], where over all c the dual has its optimum; `stocks` but for upper CVaR, where it lies
            between `stocks` and `others`, and solving for it as a stock, too, makes errors smaller.
    """

    values: Array
    errors: Array
    stocks: Array
    others: Array
    chances: Array
    alone: Array
    pivots: Array


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


def choose(
    solution: Solution, objective: Objective, laws: Atoms | None = None, aligned: bool = False
) -> Start:
    """Chooses the first stock by the objective's rule, and says what it is worth.

        given   K at c₀, interpolated as the solver does where c₀ is no point of the grid
        search  the optimum over the grid of the dual: c₀* = argmax_c { -c + E[f(c + G)] / τ } for CVaR

    The dual at c is no more than the CVaR of the law found there, and reaches it at the best c. For upper
    CVaR, where the dual is minimised, the best may be a draw between two stocks: see `_draw`.

    Args:
        solution: its grid must hold the `window`.
        objective: as solved for; other parameters of the start, such as another τ, may be given.
        laws: of G, values [S, C, n, m] and probabilities [S, C, n], as they are and not projected; only upper
            CVaR takes them, which without them knows its value but not the draw that attains it.
        aligned: whether -g is a stock of the grid for every return g that can occur: then the best stock is,
            too (the pivot of upper CVaR apart).

    Returns:
        The start.

    Source: Pires et al. 2025 (arXiv:2501.13028), section 5.
    """
    scores, errors = solution.values, solution.errors
    if isinstance(objective.start, At):
        return _given(objective, objective.start, solution.stocks, scores, errors)
    return _search(objective, objective.start, solution.stocks, scores, errors, laws, aligned)


@functools.partial(jax.jit, static_argnames="start")
def _given(objective: Objective, start: At, grid: StockGrid, scores: Array, errors: Array) -> Start:
    """What the future adds to K is interpolated, K(law of c + G) - K(c), and not the kinks of K itself."""
    first = start.stock(objective.parameters).astype(scores.dtype)
    indices, weights, _ = stocks.locate(grid, first)
    neighbours = grid.stocks.astype(scores.dtype)[indices]

    def of_certain(points: Array) -> Array:
        return objective.functional(objective.parameters, points[:, None], jnp.ones_like(points[:, :1]))

    added = (scores[:, indices] - of_certain(neighbours)[None]) @ weights
    values = of_certain(first[None]) + added
    distances = jnp.linalg.norm(neighbours - first[None], axis=-1)
    # |K(law of c₀ + G) - K(law of c + G)| ≤ L |c₀ - c|, and the same for G = 0.
    rounding = 16 * jnp.finfo(scores.dtype).eps * (1 + jnp.linalg.norm(first))
    apart = weights * distances
    moved = jnp.where(apart > rounding, 2 * objective.properties.lipschitz * apart, 0)
    bound = errors[:, indices] @ weights + moved.sum()
    return _certain(values, bound, jnp.broadcast_to(first, (len(scores), first.size)))


def _certain(values: Array, errors: Array, first: Array) -> Start:
    """A start without a draw."""
    return Start(values, errors, first, first, jnp.zeros_like(values), values, first)


@functools.partial(jax.jit, static_argnames=("start", "aligned"))
def _search(
    objective: Objective,
    start: Search,
    grid: StockGrid,
    scores: Array,
    errors: Array,
    laws: Atoms | None,
    aligned: bool,
) -> Start:
    points = grid.stocks.astype(scores.dtype)

    def duals(at: Array, of: Array) -> Array:
        """The dual at stocks [X, m] of scores [S, X]."""
        return start.dual(objective.parameters, jnp.broadcast_to(at, (*of.shape, at.shape[-1])), of)

    # K rises in c, and where it does not the dual falls. So between the points of the grid no dual is above
    # that of a cell's lowest c with the K of its highest, nor below that of its highest c with its lowest K.
    lowest, highest = (corner.T for corner in _corners(grid, points.T))
    found = duals(points, scores)
    if start.mixed:
        values = jnp.min(found, axis=-1)
        least = jnp.min(duals(highest, _corners(grid, scores - errors)[0]), axis=-1)
        most = jnp.min(duals(points, scores + errors), axis=-1)
    else:
        values = jnp.max(found, axis=-1)
        least = jnp.max(duals(points, scores - errors), axis=-1)
        between = _corners(grid, scores + errors)[1]
        most = jnp.max(duals(points, scores + errors) if aligned else duals(lowest, between), axis=-1)
    if laws is not None and start.mixed:
        return _draw(objective, start, points, most, laws)
    rounding = 16 * jnp.finfo(scores.dtype).eps * (1 + jnp.abs(values))
    index = jnp.argmax(jnp.abs(found - values[:, None]) <= rounding[:, None], axis=-1)
    chosen = _certain(values, jnp.maximum(most - values, values - least), points[index])
    return chosen._replace(alone=jnp.full_like(values, jnp.nan)) if start.mixed else chosen


def _corners(grid: StockGrid, array: Array) -> tuple[Array, Array]:
    """Of numbers [X, C] on the grid those at the lowest and at the highest corner of each of its cells."""
    shaped = array.reshape(-1, *grid.shape)
    single = [size == 1 for size in grid.shape]  # a dimension of one point is its own cell
    ends = (
        [slice(None, None if one else -1) for one in single],
        [slice(0 if one else 1, None) for one in single],
    )
    lowest, highest = (shaped[(slice(None), *end)].reshape(len(shaped), -1) for end in ends)
    return lowest, highest


def _draw(objective: Objective, start: Search, points: Array, most: Array, laws: Atoms) -> Start:
    """The best draw between the laws of two stocks, where the measure is concave in mixtures.

    By minimax the best mixture of the laws is worth min_c max_j dual(c, K(c + G_j)), the minimum of a convex
    function; just below and just above its place c* (the pivot) two laws are greatest, and the best mixture
    is of these. It is attained, and `most`, the least dual of the grid, is no less than the optimum.
    """

    def duals_at(pivots: Array) -> Array:
        shifted = pivots[:, None, None, None] + laws.values
        scores = objective.functional(objective.parameters, shifted, laws.probabilities)
        at = jnp.broadcast_to(pivots[:, None, None], (*scores.shape, 1))
        return start.dual(objective.parameters, at, scores)

    ends = -jnp.max(laws.values, axis=(1, 2, 3)), -jnp.min(laws.values, axis=(1, 2, 3))
    below, above = _least(lambda pivots: jnp.max(duals_at(pivots), axis=-1), *ends)
    pair = [jnp.argmax(duals_at(pivots), axis=-1) for pivots in (below, above)]
    measures = start.measure(objective.parameters, *laws)
    # The one that is better alone comes first.
    swap = _at(measures, pair[0]) < _at(measures, pair[1])
    first, other = jnp.where(swap, pair[1], pair[0]), jnp.where(swap, pair[0], pair[1])
    values = jnp.concatenate([_at(laws.values, index) for index in (first, other)], axis=1)
    probabilities = [_at(laws.probabilities, index) for index in (first, other)]

    def worth(chances: Array) -> Array:
        shares = (1 - chances)[:, None] * probabilities[0], chances[:, None] * probabilities[1]
        return start.measure(objective.parameters, values, jnp.concatenate(shares, axis=1))

    alone = _at(measures, first)
    low, high = _least(lambda chances: -worth(chances), jnp.zeros_like(alone), jnp.ones_like(alone))
    chances = (low + high) / 2
    drawn = worth(chances) > alone + jnp.finfo(alone.dtype).eps ** (2 / 3) * (1 + jnp.abs(alone))
    attained = jnp.where(drawn, worth(chances), alone)
    return Start(
        values=attained,
        errors=jnp.maximum(most - attained, 0),
        stocks=points[first],
        others=points[jnp.where(drawn, other, first)],
        chances=jnp.where(drawn, chances, 0),
        alone=alone,
        pivots=((below + above) / 2)[:, None],
    )


def _at(array: Array, index: Array) -> Array:
    """array[s, index[s]] for every state s."""
    return jax.vmap(lambda row, place: row[place])(array, index)


def _least(function: Callable[[Array], Array], low: Array, high: Array) -> tuple[Array, Array]:
    """Golden-section search: the ends of an interval, ε^⅔ as long as the given one, that holds a minimum.

    Args:
        function: convex, element by element, [S] to [S].
        low: [S].
        high: [S].
    """
    ratio = (np.sqrt(5) - 1) / 2
    count = int(np.ceil(np.log(np.finfo(low.dtype).eps ** (2 / 3)) / np.log(ratio)))

    def narrow(_: int, ends: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = ends
        left, right = high - ratio * (high - low), low + ratio * (high - low)
        in_left = function(left) <= function(right)
        return jnp.where(in_left, low, left), jnp.where(in_left, right, high)

    return jax.lax.fori_loop(0, count, narrow, (low, high))
