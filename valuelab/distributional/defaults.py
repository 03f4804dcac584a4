"""One call that solves an MDP for an objective: exactly where that is feasible, else as finely as is quick.

    1. Values. In a finite horizon with scalar rewards, on all stocks that can be reached from the first ones,
       which is exact; for integers summed without discount, on the integers; else on a uniform grid, finer
       than one for laws could be, since values need no atoms. In an infinite horizon returns are worst where
       nobody would go, and a second, finer grid spans those that the optimum can meet.
    2. First stocks, by the objective's rule.
    3. Laws and the policy, on a grid that holds these first stocks.

Where K is no expected utility the values come from the laws, in one pass.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from valuelab.distributional import checks, representations, solvers, starts
from valuelab.distributional import mdp as mdps
from valuelab.distributional import stocks as grids_of
from valuelab.distributional.bellman import Setting
from valuelab.distributional.laws import Atoms, Representation
from valuelab.distributional.mdp import MDP
from valuelab.distributional.objectives import Objective, Search
from valuelab.distributional.solvers import Solution
from valuelab.distributional.starts import Start
from valuelab.distributional.stocks import StockGrid
from valuelab.errors import InputError, unknown

_WORK = 20_000_000
"""Numbers that a sweep may go through: successors of state, action and stock, or atoms of laws."""

_ALL_WORK = 1_000_000_000
"""Of these, what all sweeps of an infinite horizon may go through."""

_MOST_STOCKS, _MOST_ATOMS = 20_001, 801
"""Beyond these, finer grids do not change what is read from figures and results."""

_WIDE_STOCKS = 1001
"""Of the first grid in an infinite horizon, which spans all returns."""

_MOST_RETURNS = 20_000
"""Of how many distinct returns exact laws may consist."""

_MOST_STEPS = 100_000
"""Of outcomes and stages together that are followed one by one."""

_PRECISION, _PRECISION_OF_LAWS = 1e-9, 1e-6
"""At which changes sweeps for values and for laws stop, relative to the greatest return."""

_MOST_ROUNDS = 20
"""Of solving for further stocks, to find where upper CVaR's dual is least."""

Grids = StockGrid | list[StockGrid]


class Solved(NamedTuple):
    """What is known of an MDP under an objective, in float64 on the host.

    Attributes:
        start: the objective's optimum from every state, a bound of its error, and the first stocks.
        solution: laws, values and policy, on a grid that holds the first stocks.
        atoms: the laws [S, C] as atoms.
        off_grid_mass: [S], of the episodes from the first stocks, on the grid that `start` was computed on.
        sweeps: for the values.
        exact: whether nothing but rounding separates `start` from the optimum.
    """

    start: Start
    solution: Solution
    atoms: Atoms
    off_grid_mass: np.ndarray
    sweeps: int
    exact: bool


class _Problem(NamedTuple):
    """What is to be solved; `steps` is the horizon, or that of the longest episode; None if infinite."""

    mdp: MDP
    objective: Objective
    discount: float
    horizon: int | None
    steps: int | None
    allow_unsound: bool
    low: np.ndarray
    high: np.ndarray

    @property
    def successors(self) -> int:
        """How many there are of one stock."""
        return self.mdp.probabilities.size * 2**self.mdp.reward_dim

    def iterate(self, grids: Grids, representation: Representation | None) -> Solution:
        precision = _PRECISION if representation is None else _PRECISION_OF_LAWS
        scale = float(np.maximum(np.abs(self.low), np.abs(self.high)).max())
        return solvers.value_iteration(
            self.mdp,
            self.objective,
            discount=self.discount,
            horizon=self.steps,
            representation=representation,
            stocks=grids,
            tolerance=precision * max(scale, 1e-6),
            allow_unsound=self.allow_unsound,
        )


def solve(
    mdp: MDP,
    objective: Objective,
    *,
    discount: float,
    horizon: int | None = None,
    representation: str | None = None,
    atoms: int | None = None,
    stocks: int | None = None,
    stock_low: Sequence[float] | None = None,
    stock_high: Sequence[float] | None = None,
    allow_unsound: bool = False,
) -> Solved:
    """Solves an MDP, with grids and representation of its own choice where none are given.

    Args:
        mdp: host arrays.
        objective: what is maximised.
        discount: γ in (0, 1].
        horizon: number of steps; None: infinite, or that of the longest episode if γ = 1.
        representation: "exact", "categorical" or "quantile" laws; None: exact where they are small enough.
        atoms: of a law, along each component.
        stocks: points of a uniform grid along each component, on which all is solved then.
        stock_low: [m], its least stock.
        stock_high: [m], its greatest.
        allow_unsound: solve where the theory does not hold, and mark the solution.

    Returns:
        What is known.

    Raises:
        InputError: as `solvers.value_iteration`.
    """
    if representation not in (None, "exact", "categorical", "quantile"):
        raise unknown("representation", representation, ("exact", "categorical", "quantile"))
    with jax.enable_x64(True):
        mdps.validate(mdp, discount)
        if horizon is None and discount < 1:
            # Where every episode ends by itself, it is as if the horizon were that of the longest.
            horizon = mdps.episode_bound(mdp) or None
        _, steps = checks.problem(mdp, objective, discount, horizon, allow_unsound)
        low, high = _ranges(mdp, discount, steps)
        problem = _Problem(mdp, objective, discount, horizon, steps, allow_unsound, low, high)
        fixed = _given_grid(problem, stocks, stock_low, stock_high)
        return _on_host(_solve(problem, fixed, representation, atoms))


def _ranges(mdp: MDP, discount: float, steps: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Least and greatest sums [S, m] of rewards over any number of steps up to the horizon."""
    low, high = mdps.return_bounds(mdp, discount, steps)
    for some in range(steps or 0):
        fewer = mdps.return_bounds(mdp, discount, some)
        low, high = np.minimum(low, fewer[0]), np.maximum(high, fewer[1])
    return np.minimum(low, 0), np.maximum(high, 0)


def _on_host(tree: Any) -> Any:
    return jax.tree.map(lambda leaf: np.asarray(leaf) if isinstance(leaf, jax.Array) else leaf, tree)


def _solve(problem: _Problem, fixed: StockGrid | None, name: str | None, size: int | None) -> Solved:
    objective = problem.objective
    if Setting(None, problem.discount, False, True).factor(objective) is None:
        first = np.stack(starts.window(objective, problem.low, problem.high))
        grids, held, exact = _for_laws(problem, fixed, first, name, size)
        solution = problem.iterate(grids, held)
        start = starts.choose(solution, objective, aligned=True)
        return _solved(start, solution, solution, held, exact and _nothing(problem, solution.errors))
    returns = _returns(problem) if isinstance(objective.start, Search) and fixed is None else None
    grids, exact = _for_values(problem, fixed, returns)
    found = problem.iterate(grids, None)
    aligned = exact and returns is not None
    start = starts.choose(found, objective, aligned=aligned)
    if problem.steps is None and problem.mdp.reward_dim == 1 and fixed is None:
        problem = _narrowed(problem, found, np.asarray(start.pivots))
        fine = _uniform(problem, min(_MOST_STOCKS, _work(problem) / problem.successors))
        found = problem.iterate(_union(found.stocks, fine), None)
        start = starts.choose(found, objective)
    mixed = isinstance(objective.start, Search) and objective.start.mixed
    if mixed and aligned:
        start = _lowest(problem, found, start)
    first = np.asarray(start.pivots)
    if mixed:
        # The draw is between the laws of stocks on both sides.
        points = np.asarray(found.stocks.points[0])
        sides = np.searchsorted(points, first[:, :1]) + np.arange(-1, 2)
        first = np.append(first, points[np.clip(sides, 0, len(points) - 1)].reshape(-1, 1), axis=0)
    grids, held, _ = _for_laws(problem, fixed, first, name, size)
    solution = problem.iterate(grids, held)
    if mixed:
        drawn = starts.choose(solution, objective, laws=held.atoms(solution.laws), aligned=aligned)
        start = drawn._replace(values=start.values, errors=start.errors, pivots=start.pivots)
    return _solved(start, found, solution, held, exact and _nothing(problem, start.errors))


def _lowest(problem: _Problem, found: Solution, start: Start) -> Start:
    """Where a dual that is minimised is least, between the stocks that returns name.

    It is convex and piecewise linear, for it is the greatest of such. So around its least point two lines,
    through the two points on either side, bound it from below; where they meet is the next stock to solve
    for, and once the dual comes down to the lines there, it is least there.
    """
    search = problem.objective.start
    assert isinstance(search, Search)

    def duals(solution: Solution) -> np.ndarray:
        points = jnp.broadcast_to(solution.stocks.stocks, (*solution.values.shape, 1))
        return np.asarray(search.dual(problem.objective.parameters, points, solution.values))

    num_states = problem.mdp.num_states
    points = np.tile(np.asarray(found.stocks.points[0]), (num_states, 1))
    values = duals(found)
    pivots, least, bounds = np.zeros(num_states), values.min(1), np.zeros(num_states)
    for _ in range(_MOST_ROUNDS):
        meets = np.array([_meetings(*curve) for curve in zip(points, values, strict=True)])
        pivots, bounds = points[np.arange(num_states), values.argmin(1)], meets[:, :, 1].min(1)
        least = values.min(1)
        if _nothing(problem, least - bounds):
            break
        followed = _followed(problem, meets[:, :, 0].ravel(), _WORK // problem.successors, fill=0)
        if followed is None:
            break
        more = problem.iterate(followed, None)
        at = np.searchsorted(np.asarray(more.stocks.points[0]) + 1e-12, meets[:, :, 0])
        at = np.minimum(at, more.stocks.size - 1)
        points = np.concatenate([points, np.asarray(more.stocks.points[0])[at]], axis=1)
        values = np.concatenate([values, np.take_along_axis(duals(more), at, 1)], axis=1)
        order = np.argsort(points, axis=1)
        points, values = np.take_along_axis(points, order, 1), np.take_along_axis(values, order, 1)
    gaps = np.maximum(least - bounds, 0)
    return start._replace(
        values=jnp.asarray(least), errors=jnp.asarray(gaps), pivots=jnp.asarray(pivots)[:, None]
    )


def _meetings(points: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Where lines that bound a convex curve from below meet on either side of its least point, [2, 2]."""
    points, index = np.unique(points, return_index=True)
    values, place = values[index], int(np.argmin(values[index]))
    meets = []
    for left in (place - 1, place):
        # The lines through the points left - 1 and left, and left + 1 and left + 2; level beyond the ends.
        ends = []
        for near, far in ((left, left - 1), (left + 1, left + 2)):
            inside = 0 <= near < len(points) and 0 <= far < len(points)
            slope = (values[near] - values[far]) / (points[near] - points[far]) if inside else 0.0
            near = min(max(near, 0), len(points) - 1)
            ends.append((points[near], values[near], slope))
        (x, y, rise), (u, v, fall) = ends
        apart = rise - fall
        at = x if apart == 0 else np.clip((v - y + rise * x - fall * u) / apart, x, u)
        meets.append((at, max(y + rise * (at - x), v + fall * (at - u)) if apart else min(y, v)))
    return np.array(meets)


def _nothing(problem: _Problem, errors: Any) -> bool:
    """Whether errors are mere rounding."""
    return bool(np.max(errors) <= _PRECISION * max(np.abs(problem.low).max(), np.abs(problem.high).max()))


def _solved(start: Start, found: Solution, solution: Solution, held: Representation, exact: bool) -> Solved:
    """All together; the mass that leaves is that of the nearest stocks of the grid."""
    first = start.pivots.astype(found.values.dtype)
    indices, weights, _ = grids_of.locate(found.stocks, first)
    nearest = np.take_along_axis(np.asarray(indices), np.asarray(weights).argmax(-1)[:, None], -1)[:, 0]
    off = np.asarray(found.off_grid_mass)[np.arange(len(nearest)), nearest]
    return Solved(start, solution, held.atoms(solution.laws), off, int(found.sweeps), exact)


# Grids.


def _given_grid(
    problem: _Problem, size: int | None, low: Sequence[float] | None, high: Sequence[float] | None
) -> StockGrid | None:
    """The uniform grid that a user asks for, with its ends where they are given."""
    if size is None:
        return None
    box = _box(problem)
    dim = problem.mdp.reward_dim
    ends = [np.asarray(given or default, float) for given, default in zip((low, high), box, strict=True)]
    if any(len(end) != dim for end in ends):
        raise InputError(f"stock_low and stock_high are {low} and {high}; give {dim} number(s) each")
    return grids_of.uniform(ends[0].tolist(), ends[1].tolist(), [size] * dim)


def _box(problem: _Problem) -> tuple[np.ndarray, np.ndarray]:
    """The stocks [m] that matter.

    For m = 1 and f homogeneous of degree 0 or 1 these are where c + G may have either sign. Else all that
    can be reached matter, and in an infinite horizon, where stocks grow without end, the nearer ones.
    """
    first = starts.window(problem.objective, problem.low, problem.high)
    low, high = -problem.high.max(0), -problem.low.min(0)
    if problem.mdp.reward_dim > 1 or problem.objective.properties.degree not in (0, 1):
        furthest = 2.0 if problem.steps is None else problem.discount ** -float(problem.steps)
        low, high = (furthest * np.asarray(ends) for ends in (first[0] - high, first[1] - low))
    return np.minimum(low, first[0]), np.maximum(high, first[1])


def _for_values(problem: _Problem, fixed: StockGrid | None, returns: np.ndarray | None) -> tuple[Grids, bool]:
    """Grids for values alone, and whether they are exact."""
    if fixed is not None:
        return fixed, False
    start = problem.objective.start
    first = -returns if returns is not None else None
    if not isinstance(start, Search):
        first = np.asarray(start.stock(problem.objective.parameters))
    most = _WORK // problem.successors
    followed = None if first is None else _followed(problem, first, most)
    if (exact := followed or _integers(problem, most)) is not None:
        return exact, True
    dim = problem.mdp.reward_dim
    most = _WIDE_STOCKS if problem.steps is None and dim == 1 else _MOST_STOCKS
    return _uniform(problem, min(most, (_work(problem) / problem.successors) ** (1 / dim))), False


def _work(problem: _Problem, precision: float = _PRECISION) -> int:
    """How many numbers a sweep may go through."""
    return _WORK if problem.steps is not None else min(_WORK, _ALL_WORK // _sweeps(problem, precision))


def _sweeps(problem: _Problem, precision: float) -> int:
    """After how many sweeps of an infinite horizon nothing is left of what was before."""
    return math.ceil(math.log(precision) / math.log(problem.discount))


def _narrowed(problem: _Problem, found: Solution, first: np.ndarray) -> _Problem:
    """The problem with the returns that the optimum's episodes from the first stocks can have, nearly."""
    mdp, points = problem.mdp, np.asarray(found.stocks.points[0])
    rows, policy = np.arange(mdp.num_states)[:, None], np.asarray(found.policy)
    between = (points[1:] + points[:-1]) / 2
    rewards, next_states = mdp.rewards[rows, policy, :, 0], mdp.next_states[rows, policy]
    nearest = np.searchsorted(between, (points[:, None] + rewards) / problem.discount)
    possible, at = mdp.probabilities[rows, policy] > 0, np.searchsorted(between, first)
    low, high = np.zeros((2, *policy.shape))
    for _ in range(_sweeps(problem, _PRECISION_OF_LAWS)):
        least, most = (rewards + problem.discount * bound[next_states, nearest] for bound in (low, high))
        low, high = np.where(possible, least, np.inf).min(2), np.where(possible, most, -np.inf).max(2)
    # One cell more on either side: so far out nothing is best even on the wide grid.
    cell = np.diff(points).max()
    return problem._replace(
        low=np.minimum(np.take_along_axis(low, at, 1), 0) - cell,
        high=np.maximum(np.take_along_axis(high, at, 1), 0) + cell,
    )


def _union(wide: StockGrid, fine: StockGrid) -> StockGrid:
    """The points of a fine grid, and those of a wide one around it."""
    (points,), (inside,) = wide.points, fine.points
    around = points[(points < inside[0]) | (points > inside[-1])]
    return grids_of.from_points(np.sort(np.append(around, inside)))


def _for_laws(
    problem: _Problem, fixed: StockGrid | None, first: np.ndarray, name: str | None, size: int | None
) -> tuple[Grids, Representation, bool]:
    """Grids that hold the first stocks, a representation for the laws, and whether both are exact."""
    dim, pairs = problem.mdp.reward_dim, problem.mdp.num_states * problem.mdp.num_actions
    if name in (None, "exact") and size is None and fixed is None:
        returns = _returns(problem)
        atoms = 1 if returns is None else len(returns)
        if name == "exact" or returns is not None:
            followed = _followed(problem, first, _WORK // (atoms * problem.successors))
            if followed is not None:
                return followed, representations.exact(), True
    if name == "exact":
        grid = fixed or _integers(problem, _WORK // pairs) or _uniform(problem, 101, first)
        return grid, representations.exact(), False
    work = _work(problem, _PRECISION_OF_LAWS)
    share = (work / pairs) ** (0.5 / dim)
    needed = max(3, *(_resolution(problem, component) for component in range(dim)))
    atoms = size or int(min(_MOST_ATOMS, max(share, needed)))
    held: Representation
    integers = _integers(problem, _WORK // (pairs * max(1, atoms**dim)))
    if name == "quantile":
        held = representations.quantile(atoms)
    elif integers is not None and size is None:
        held = representations.categorical(
            *(
                np.arange(low, high + 1)
                for low, high in zip(problem.low.min(0), problem.high.max(0), strict=True)
            )
        )
        return fixed or integers, held, fixed is None
    else:
        held = representations.categorical(
            *(
                _multiples(low, high, atoms)
                for low, high in zip(problem.low.min(0), problem.high.max(0), strict=True)
            )
        )
    stocks = min(_MOST_ATOMS, (work / pairs) ** (1 / dim) / atoms)
    return fixed or _uniform(problem, max(11, stocks), first), held, False


def _resolution(problem: _Problem, component: int) -> int:
    """How many atoms lie no further apart than the greatest reward."""
    span = problem.high[:, component].max() - problem.low[:, component].min()
    reward = np.abs(problem.mdp.rewards[..., component]).max()
    return 3 if reward == 0 else math.ceil(span / reward) + 3


def _multiples(low: float, high: float, size: float) -> np.ndarray:
    """About so many multiples of one number, 0 among them, from low or below to high or above."""
    step = (high - low) / (size - 1) or 1.0
    return step * np.arange(math.floor(low / step - 1e-9), math.ceil(high / step + 1e-9) + 1)


def _uniform(problem: _Problem, size: float, first: np.ndarray | None = None) -> StockGrid:
    """A grid over what matters, with 0 and the first stocks among its points."""
    axes = []
    for component, (low, high) in enumerate(zip(*_box(problem), strict=True)):
        points = _multiples(low, high, max(3, int(size)))
        chosen = (
            starts.window(problem.objective, problem.low, problem.high)[0][None] if first is None else first
        )
        axes.append(_distinct(np.append(points, chosen[:, component]), (points[1] - points[0]) * 1e-6))
    return grids_of.from_points(*axes)


def _distinct(points: np.ndarray, apart: float) -> np.ndarray:
    points = np.unique(points)
    return points[np.diff(points, prepend=-np.inf) > apart]


def _integers(problem: _Problem, most: int) -> StockGrid | None:
    """All integers between the ends of what matters, where stocks never leave these."""
    box = np.stack(_box(problem))
    whole = problem.discount == 1 and np.isfinite(box).all() and problem.steps is not None
    first = np.stack(starts.window(problem.objective, problem.low, problem.high))
    if not whole or not all(np.array_equal(part, np.round(part)) for part in (problem.mdp.rewards, first)):
        return None
    sizes = box[1] - box[0] + 1
    if np.prod(sizes) > most:
        return None
    return grids_of.uniform(box[0].tolist(), box[1].tolist(), sizes.astype(int).tolist())


def _followed(problem: _Problem, first: np.ndarray, most: int, fill: int = 1) -> list[StockGrid] | None:
    """All stocks that can be reached from the first ones, where there are not too many.

    Stages of one size share one program: those from `fill` on are filled up with stocks that are never met.
    """
    mdp, steps = problem.mdp, problem.steps
    if steps is None or mdp.reward_dim != 1 or mdp.probabilities.size * steps > _MOST_STEPS:
        return None
    try:
        grids = grids_of.reachable(mdp, first, problem.discount, steps, limit=most)
    except InputError:
        return None
    if sum(grid.size for grid in grids) > most:
        return None
    size = 2 ** math.ceil(math.log2(max(grid.size for grid in grids[1:])))
    return grids[:fill] + [_filled(grid, size) for grid in grids[fill:]]


def _filled(grid: StockGrid, size: int) -> StockGrid:
    """A grid with further points above its own."""
    (points,) = grid.points
    return StockGrid((np.append(points, points[-1] + 1.0 + np.arange(size - len(points))),))


def _returns(problem: _Problem) -> np.ndarray | None:
    """All returns that can occur from any state, where there are not too many."""
    mdp, steps = problem.mdp, problem.steps
    if steps is None or mdp.reward_dim != 1 or mdp.probabilities.size * steps > _MOST_STEPS:
        return None
    returns = [np.zeros(1)] * mdp.num_states
    outcomes = np.argwhere((mdp.probabilities > 0) & ~mdp.terminal[:, None, None])
    for _ in range(steps):
        before, found = returns, [[np.zeros(1)] if ends else [] for ends in mdp.terminal]
        for state, action, outcome in outcomes:
            after = before[mdp.next_states[state, action, outcome]]
            found[state].append(mdp.rewards[state, action, outcome, 0] + problem.discount * after)
        if sum(part.size for parts in found for part in parts) > 50 * _MOST_RETURNS:
            return None
        returns = [
            _distinct(points := np.concatenate(parts), 1e-12 * max(1.0, np.abs(points).max()))
            for parts in found
        ]
        if max(map(len, returns)) > _MOST_RETURNS:
            return None
    points = np.concatenate(returns)
    return _distinct(points, 1e-12 * max(1.0, np.abs(points).max()))
