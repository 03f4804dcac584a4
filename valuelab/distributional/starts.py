"""How episodes begin: an objective's first stock and its value, once the MDP is solved for all stocks."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from valuelab.distributional import stock_grids
from valuelab.distributional.objectives import FixedStart, Objective, SearchedStart
from valuelab.distributional.return_distributions import Atoms
from valuelab.distributional.solvers import Solution
from valuelab.distributional.stock_grids import StockGrid
from valuelab.errors import InputError
from valuelab.types import Array


class Start(NamedTuple):
    """The beginning of episodes from every state.

    Attributes:
        values: [S], the objective's optimum, as accurate as the solution.
        errors: [S], a bound of |values - optimum|, from the solution's errors and from the stocks between the
            points of the grid.
        stocks: [S, m], the first stocks.
        other_stocks: [S, m], first stocks that are drawn instead with probability `chances`.
        chances: [S], the probability of `other_stocks`; 0 except for upper CVaR.
        alone: [S], the value of `stocks` without a draw; equal to `values` except for upper CVaR.
        pivots: [S, m], the stocks where the dual has its optimum over all c; equal to `stocks` except for
            upper CVaR. There a pivot lies between `stocks` and `other_stocks`, and solving for it as well
            makes errors smaller.
    """

    values: Array
    errors: Array
    stocks: Array
    other_stocks: Array
    chances: Array
    alone: Array
    pivots: Array


def first_stock_range(
    objective: Objective, low: np.ndarray, high: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The corners of a box that contains every first stock that may be best.

    Args:
        objective: with a fixed or a searched start.
        low: [S, m], least returns of the states in which episodes begin.
        high: [S, m], greatest returns.

    Returns:
        The corners [m]: c₀ twice where it is fixed; for a search [-max high, -min low], because beyond these
        c + G has one sign and the dual moves away from its optimum.
    """
    if isinstance(objective.start, FixedStart):
        first = np.asarray(objective.start.stock(objective.parameters))
        return first, first
    return -np.max(high, axis=0), -np.min(low, axis=0)


def choose(
    solution: Solution, objective: Objective, distributions: Atoms | None = None, aligned: bool = False
) -> Start:
    """Chooses the first stock by the objective's rule, with its value.

        fixed     K at c₀, interpolated as the solver does where c₀ is not a point of the grid
        searched  the optimum of the dual over the grid: c₀* = argmax_c { -c + E[f(c + G)] / τ } for CVaR

    The dual at c is at most the CVaR of the return distribution of this c, and equals it at the best c. For
    upper CVaR, where the dual is minimised, a draw between two stocks may be best: see `_draw`.

    Args:
        solution: of the MDP. Its grid must contain every first stock that may be best.
        objective: the objective that was solved for; parameters of the start may differ, such as τ.
        distributions: of G, not projected: values [S, C, n, m] and probabilities [S, C, n]. Only upper CVaR
            uses them: without them its value is known, but not the draw that attains it. The value of the
            draw is attained on any grid, and the error holds there.
        aligned: whether -g is a stock of the grid for every possible return g. Then the best stock is a point
            of the grid (except for the pivot of upper CVaR).

    Returns:
        The start.

    Raises:
        InputError: when the given first stock lies outside the grid, or a better first stock may lie there.
            Values that are traced are not checked, but the errors hold for stocks outside the grid, too.

    Source: Pires et al. 2025 (arXiv:2501.13028), section 5.
    """
    start = objective.start
    # Only values, errors and the range of returns matter, whatever else the solution contains.
    used = {name: getattr(solution, name) for name in ("values", "errors", "stocks", "low", "high")}
    unused: dict[str, Any] = dict.fromkeys(Solution._fields)
    known = Solution(**unused | used)
    if isinstance(start, FixedStart):
        found, outside = _fixed(objective, start, known)
    else:
        found, outside = _search(objective, start, known, distributions, aligned)
    if not isinstance(outside, jax.core.Tracer) and (missing := np.flatnonzero(outside)).size:
        _refuse(objective, solution, int(missing[0]))
    return found


def _refuse(objective: Objective, solution: Solution, state: int) -> None:
    """Raises the error for a grid without the first stocks that may be best in a state."""
    here = slice(state, state + 1)
    low, high = (np.asarray(bound)[here] for bound in (solution.low, solution.high))
    needed = _interval(*first_stock_range(objective, low, high))
    ends = [np.asarray(points)[[0, -1]] for points in solution.stocks.points]
    raise InputError(
        f"the stock grid goes {_interval(*np.transpose(ends))}, but in state {state} the first stock of "
        f"{objective.name} may go {needed}: solve on a wider grid, or use at(...) of the result of solve"
    )


def _interval(low: np.ndarray, high: np.ndarray) -> str:
    """The ends of a box in words."""
    ends = (", ".join(f"{part + 0.0:.6g}" for part in end) for end in (low, high))
    return " to ".join(f"({end})" if len(low) > 1 else end for end in ends).join(("from ", ""))


@functools.partial(jax.jit, static_argnames="start")
def _fixed(objective: Objective, start: FixedStart, solution: Solution) -> tuple[Start, Array]:
    """The start from a given stock, and whether this stock lies outside the grid, [S].

    It interpolates what the future adds, K(distribution of c + G) - K(c), since K itself may have kinks.
    """
    grid, scores = solution.stocks, solution.values
    first = start.stock(objective.parameters).astype(scores.dtype)
    indices, weights, outside = stock_grids.locate(grid, first)
    neighbours = grid.stocks.astype(scores.dtype)[indices]

    def of_certain(points: Array) -> Array:
        return objective.functional(objective.parameters, points[:, None], jnp.ones_like(points[:, :1]))

    added = (scores[:, indices] - of_certain(neighbours)[None]) @ weights
    values = of_certain(first[None]) + added
    distances = jnp.linalg.norm(neighbours - first[None], axis=-1)
    # |K(distribution of c₀ + G) - K(distribution of c + G)| ≤ L |c₀ - c|, and the same for G = 0.
    rounding = 16 * jnp.finfo(scores.dtype).eps * (1 + jnp.linalg.norm(first))
    apart = weights * distances
    moved = jnp.where(apart > rounding, 2 * objective.properties.lipschitz * apart, 0)
    # Errors may be infinite, also at neighbours without weight.
    weighted = solution.errors[:, indices] * weights[None]
    bound = jnp.sum(weighted, axis=1, where=weights[None] > 0) + moved.sum()
    found = _without_draw(values, bound, jnp.broadcast_to(first, (len(scores), first.size)))
    return found, jnp.broadcast_to(outside, values.shape)


def _without_draw(values: Array, errors: Array, first: Array) -> Start:
    """A start without a draw."""
    return Start(
        values=values,
        errors=errors,
        stocks=first,
        other_stocks=first,
        chances=jnp.zeros_like(values),
        alone=values,
        pivots=first,
    )


@functools.partial(jax.jit, static_argnames=("start", "aligned"))
def _search(
    objective: Objective,
    start: SearchedStart,
    solution: Solution,
    distributions: Atoms | None,
    aligned: bool,
) -> tuple[Start, Array]:
    """The optimum of the dual over the grid, and whether a stock outside the grid may be better, [S]."""
    grid, scores, errors = solution.stocks, solution.values, solution.errors
    points = grid.stocks.astype(scores.dtype)

    def duals(at: Array, of: Array) -> Array:
        """The dual at stocks [X, m] with scores [S, X]."""
        return start.dual(objective.parameters, jnp.broadcast_to(at, (*of.shape, at.shape[-1])), of)

    # K increases with c, and where it does not, the dual decreases. So inside a cell of the grid the dual is
    # at most that of the cell's lowest c with the K of its highest c, and at least that of its highest c with
    # the K of its lowest c.
    lowest, highest = (corner.T for corner in _corners(grid, points.T))
    found = duals(points, scores)
    if start.minimized:
        values = jnp.min(found, axis=-1)
        least = jnp.min(duals(highest, _corners(grid, scores - errors)[0]), axis=-1)
        most = jnp.min(duals(points, scores + errors), axis=-1)
    else:
        values = jnp.max(found, axis=-1)
        least = jnp.max(duals(points, scores - errors), axis=-1)
        between = _corners(grid, scores + errors)[1]
        most = jnp.max(duals(points, scores + errors) if aligned else duals(lowest, between), axis=-1)
    rounding = 16 * jnp.finfo(scores.dtype).eps * (1 + jnp.abs(values))
    if distributions is not None and start.minimized:
        return _draw(objective, start, points, most, distributions), jnp.zeros(values.shape, bool)
    beyond = _best_outside(objective, start, solution, points)
    if start.minimized:
        outside, least = beyond < values - rounding, jnp.minimum(least, beyond)
    else:
        outside, most = beyond > values + rounding, jnp.maximum(most, beyond)
    index = jnp.argmax(jnp.abs(found - values[:, None]) <= rounding[:, None], axis=-1)
    chosen = _without_draw(values, jnp.maximum(most - values, values - least), points[index])
    if start.minimized:
        chosen = chosen._replace(alone=jnp.full_like(values, jnp.nan))
    return chosen, outside


def _best_outside(objective: Objective, start: SearchedStart, solution: Solution, points: Array) -> Array:
    """A bound [S] of the dual at first stocks that may be best but lie outside the grid.

    For m = 1 these are two more cells, one at either end of the grid, bounded as the cells of the grid are.
    The K at their far ends is bounded by the K of the greatest and of the least return. For m > 1 no bound is
    known.

    Returns:
        For a minimum the least possible dual, else the greatest; infinite where no stock is missing.
    """
    worst = jnp.inf if start.minimized else -jnp.inf
    low, high = (bound.astype(points.dtype) for bound in (solution.low, solution.high))
    rounding = 1e-9 * (1 + jnp.abs(low) + jnp.abs(high))
    below, above = -high < points.min(0)[None] - rounding, -low > points.max(0)[None] + rounding
    if points.shape[-1] > 1:
        return jnp.where(jnp.any(below | above, axis=-1), -worst, worst)

    def certain(returns: Array) -> Array:
        return objective.functional(objective.parameters, returns[..., None, :], jnp.ones_like(returns))

    def duals(at: Array, of: Array) -> Array:
        return start.dual(objective.parameters, jnp.broadcast_to(at, (len(of), 1)), of)

    scores, errors = solution.values, solution.errors
    if start.minimized:
        left, right = duals(points[:1], certain(low - high)), duals(-low, scores[:, -1] - errors[:, -1])
    else:
        left, right = duals(-high, scores[:, 0] + errors[:, 0]), duals(points[-1:], certain(high - low))
    sides = jnp.where(below[:, 0], left, worst), jnp.where(above[:, 0], right, worst)
    return jnp.minimum(*sides) if start.minimized else jnp.maximum(*sides)


def _corners(grid: StockGrid, array: Array) -> tuple[Array, Array]:
    """The entries of an array [X, C] on the grid at the lowest and at the highest corner of each cell."""
    shaped = array.reshape(-1, *grid.shape)
    single = [size == 1 for size in grid.shape]  # a dimension with one point has one cell
    ends = (
        [slice(None, None if one else -1) for one in single],
        [slice(0 if one else 1, None) for one in single],
    )
    lowest, highest = (shaped[(slice(None), *end)].reshape(len(shaped), -1) for end in ends)
    return lowest, highest


def _draw(
    objective: Objective, start: SearchedStart, points: Array, most: Array, distributions: Atoms
) -> Start:
    """The best draw between the distributions of two stocks, where the measure is concave in mixtures.

    By minimax the value of the best mixture is min_c max_j dual(c, K(c + G_j)), the minimum of a convex
    function at c* (the pivot). One distribution attains the maximum just below c*, another just above it, and
    the best mixture is a mixture of these two. It is attained, and `most`, the least dual of the grid, is not
    less than the optimum.
    """

    def duals_at(pivots: Array) -> Array:
        shifted = pivots[:, None, None, None] + distributions.values
        scores = objective.functional(objective.parameters, shifted, distributions.probabilities)
        at = jnp.broadcast_to(pivots[:, None, None], (*scores.shape, 1))
        return start.dual(objective.parameters, at, scores)

    ends = -jnp.max(distributions.values, axis=(1, 2, 3)), -jnp.min(distributions.values, axis=(1, 2, 3))
    below, above = _minimize(lambda pivots: jnp.max(duals_at(pivots), axis=-1), *ends)
    pair = [jnp.argmax(duals_at(pivots), axis=-1) for pivots in (below, above)]
    measures = start.measure(objective.parameters, *distributions)
    # The stock that is better without a draw comes first.
    swap = _at(measures, pair[0]) < _at(measures, pair[1])
    first, other = jnp.where(swap, pair[1], pair[0]), jnp.where(swap, pair[0], pair[1])
    values = jnp.concatenate([_at(distributions.values, index) for index in (first, other)], axis=1)
    probabilities = [_at(distributions.probabilities, index) for index in (first, other)]

    def value_of_draw(chances: Array) -> Array:
        """The measure [S] of the draw with probabilities [S] of the other stock."""
        shares = (1 - chances)[:, None] * probabilities[0], chances[:, None] * probabilities[1]
        return start.measure(objective.parameters, values, jnp.concatenate(shares, axis=1))

    alone = _at(measures, first)
    low, high = _minimize(
        lambda chances: -value_of_draw(chances), jnp.zeros_like(alone), jnp.ones_like(alone)
    )
    chances = (low + high) / 2
    drawn = value_of_draw(chances) > alone + jnp.finfo(alone.dtype).eps ** (2 / 3) * (1 + jnp.abs(alone))
    attained = jnp.where(drawn, value_of_draw(chances), alone)
    return Start(
        values=attained,
        errors=jnp.maximum(most - attained, 0),
        stocks=points[first],
        other_stocks=points[jnp.where(drawn, other, first)],
        chances=jnp.where(drawn, chances, 0),
        alone=alone,
        pivots=((below + above) / 2)[:, None],
    )


def _at(array: Array, index: Array) -> Array:
    """array[s, index[s]] for every state s."""
    return jax.vmap(lambda row, place: row[place])(array, index)


def _minimize(function: Callable[[Array], Array], low: Array, high: Array) -> tuple[Array, Array]:
    """Golden-section search for a minimum.

    Args:
        function: convex, element by element, [S] to [S].
        low: [S].
        high: [S].

    Returns:
        The ends of an interval that contains a minimum, ε^⅔ times as long as the given one.
    """
    ratio = (np.sqrt(5) - 1) / 2
    count = int(np.ceil(np.log(np.finfo(low.dtype).eps ** (2 / 3)) / np.log(ratio)))

    def narrow(_: int, ends: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = ends
        left, right = high - ratio * (high - low), low + ratio * (high - low)
        in_left = function(left) <= function(right)
        return jnp.where(in_left, low, left), jnp.where(in_left, right, high)

    return jax.lax.fori_loop(0, count, narrow, (low, high))
