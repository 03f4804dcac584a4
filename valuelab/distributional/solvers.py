"""Distributional dynamic programming: policy evaluation, value iteration, policy iteration.

A finite horizon is swept from its last stage to its first, and each stage may have its own stock grid. An
infinite horizon is one compiled while loop, which stops when successive distributions are close. `bellman`
defines a sweep.

Source: Pires et al. 2025 (arXiv:2501.13028), sections 3 and 4.
"""

import functools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from valuelab.distributional import bellman, checks, exact, mdps, stock_grids
from valuelab.distributional.bellman import Backup, ErrorBounds, SolverSetting
from valuelab.distributional.mdps import MDP
from valuelab.distributional.objectives import Objective
from valuelab.distributional.return_distributions import (
    DistributionRepresentation,
    ReturnDistributions,
    merge_equal_atoms,
)
from valuelab.distributional.stock_grids import StockGrid
from valuelab.types import Array

_MAX_TAIL = 0.01
"""Iterating a bound may stop when its geometric tail is at most this fraction of it, or of all mass."""


class Solution(NamedTuple):
    """The result of a solver, for the first stage if the horizon is finite; on the device or on the host.

    Attributes:
        distributions: of the return G, one for each state and stock [S, C]; None without a representation.
        values: [S, C], K of the distribution of c + G. Where K is an expected utility, projection does not
            change them, and they are more accurate than K of `distributions`.
        policy: int32 actions [S, C]; for a finite horizon H a tuple of H such arrays, one for each stage.
        stocks: the grid of C stocks.
        sweeps: the number of sweeps.
        distance: the greatest distance between distributions before and after the last sweep (between
            values, without a representation).
        errors: [S, C], a bound of |values - optimum|, or of |values - value of the given policy|. Off the
            grid, a policy is followed by drawing one of the neighbouring stocks with the weights of
            `stock_grids.locate`. Infinite where no bound is known.
        error_parts: the most that stopping early ("iteration") and splitting stocks ("stocks") add to errors.
            Where K is read from distributions, "stocks" includes projection.
        off_grid_mass: [S, C], a bound of the probability under the policy that an episode leaves the grid or
            the support in a way that may change the result. In an infinite horizon, leaving after t steps
            counts γᵗ.
        unsound: the reason why the optimum may be missed; None where it cannot be missed.
        low: [S, m], least returns. With `high` they say which first stocks may be best, see `starts.choose`.
        high: [S, m], greatest returns.
        later: in a finite horizon the grids of the stages 1 to H - 1; each stage of the policy has its grid.
    """

    distributions: ReturnDistributions
    values: Any
    policy: Any
    stocks: StockGrid
    sweeps: Any
    distance: Any
    errors: Any
    error_parts: dict[str, Any]
    off_grid_mass: Any
    unsound: str | None
    low: Any
    high: Any
    later: tuple[StockGrid, ...] = ()

    def stage(self, step: int) -> tuple[StockGrid, Array]:
        """The grid of C stocks at a step, and the actions [S, C] there."""
        if not isinstance(self.policy, tuple):
            return self.stocks, self.policy
        return (self.stocks, *self.later)[step], self.policy[step]

    @property
    def error_bound(self) -> Array:
        """The greatest of `errors`."""
        return jnp.max(self.errors)


def value_iteration(
    mdp: MDP,
    objective: Objective,
    *,
    discount: float,
    horizon: int | None = None,
    representation: DistributionRepresentation | None,
    stocks: StockGrid | Sequence[StockGrid],
    tolerance: float = 1e-6,
    max_sweeps: int = 100_000,
    distance: str = "wasserstein",
    allow_unsound: bool = False,
    final: Any | None = None,
    bounds: bool = True,
) -> Solution:
    """The optimum over all policies, by greedy backups that start from the return 0.

    The function is pure and may be vmapped over the leaves of the MDP and the objective's parameters. It
    does not check values that are traced.

    Args:
        mdp: the MDP.
        objective: what is maximised.
        discount: γ in (0, 1].
        horizon: number of steps H; None: infinite, or the length of the longest episode if γ = 1.
        representation: of return distributions; None: values and policy alone, for an expected utility K.
        stocks: the grid, or one for each of the stages 0 to H.
        tolerance: in an infinite horizon, iteration stops at this distance of successive distributions, or
            at the distance that rounding allows, if that is greater.
        max_sweeps: the largest number of sweeps in an infinite horizon.
        distance: "wasserstein" or "cramer".
        allow_unsound: whether to solve where the theory does not hold, and mark the solution.
        final: [S], added to an expected utility after the last step of a finite horizon, see
            `shortest_paths`; 0 in terminal states. None: nothing.
        bounds: whether errors are bounded, which takes most of the time. Otherwise, in an infinite horizon,
            errors are infinite and the off-grid mass is 1.

    Returns:
        The solution.

    Raises:
        InputError: for an invalid MDP, discount, grid, tolerance or distance, an objective that dynamic
            programming cannot optimise here, γ = 1 without a horizon in an MDP whose episodes may not end, or
            too few atoms.
    """
    reason, steps = checks.check_problem(mdp, objective, discount, horizon, allow_unsound)
    setting = SolverSetting(
        representation=representation, discount=discount, infinite=steps is None, optimal=True
    )
    grids = checks.check_method(setting, mdp, objective, steps, stocks, tolerance, distance)
    solution, _ = _solve(setting, mdp, objective, grids, None, tolerance, max_sweeps, distance, final, bounds)
    return _finish(solution, steps, horizon, reason)


def policy_evaluation(
    mdp: MDP,
    policy: Any,
    objective: Objective,
    *,
    discount: float,
    horizon: int | None = None,
    representation: DistributionRepresentation | None,
    stocks: StockGrid | Sequence[StockGrid],
    tolerance: float = 1e-6,
    max_sweeps: int = 100_000,
    distance: str = "wasserstein",
) -> Solution:
    """The return distributions and values of a given policy.

        (T_π η)(s, c) = distribution of r + γ G(s', (c + r) / γ)

    Args:
        mdp: the MDP.
        policy: int actions [S, C]; for a finite horizon H such arrays.
        objective: any functional to measure the policy by.
        discount: γ; this and all other arguments are those of `value_iteration`.
        horizon: number of steps.
        representation: of return distributions.
        stocks: the grid or grids.
        tolerance: the distance at which to stop.
        max_sweeps: the largest number of sweeps in an infinite horizon.
        distance: "wasserstein" or "cramer".

    Returns:
        The solution, with the given policy.

    Raises:
        InputError: as `value_iteration`, or for a policy of another shape or with actions out of range.
    """
    _, steps = checks.check_problem(mdp, objective, discount, horizon, allow_unsound=True)
    setting = SolverSetting(
        representation=representation, discount=discount, infinite=steps is None, optimal=False
    )
    grids = checks.check_method(setting, mdp, objective, steps, stocks, tolerance, distance)
    given = checks.check_policies(policy, mdp, grids, horizon)
    solution, _ = _solve(setting, mdp, objective, grids, given, tolerance, max_sweeps, distance)
    return _finish(solution, steps, horizon, None)


def policy_iteration(
    mdp: MDP,
    objective: Objective,
    *,
    discount: float,
    horizon: int | None = None,
    representation: DistributionRepresentation | None,
    stocks: StockGrid | Sequence[StockGrid],
    tolerance: float = 1e-6,
    max_sweeps: int = 100_000,
    distance: str = "wasserstein",
    allow_unsound: bool = False,
) -> Solution:
    """The optimum over all policies, by evaluating a policy and improving it until it stays the same.

    Args:
        mdp: the MDP; this and all other arguments are those of `value_iteration`.
        objective: what is maximised.
        discount: γ.
        horizon: number of steps.
        representation: of return distributions.
        stocks: the grid or grids.
        tolerance: the distance at which an evaluation stops.
        max_sweeps: the largest number of sweeps of all evaluations together.
        distance: "wasserstein" or "cramer".
        allow_unsound: whether to solve where the theory does not hold.

    Returns:
        The solution.

    Raises:
        InputError: as `value_iteration`.
    """
    reason, steps = checks.check_problem(mdp, objective, discount, horizon, allow_unsound)
    setting = SolverSetting(
        representation=representation, discount=discount, infinite=steps is None, optimal=True
    )
    grids = checks.check_method(setting, mdp, objective, steps, stocks, tolerance, distance)
    improved: Sequence[Array] = [
        jnp.zeros((mdp.num_states, grid.size), jnp.int32) for grid in grids[: steps or 1]
    ]
    sweeps, stable = 0, False
    while not stable and sweeps < max_sweeps:
        policy = improved
        left = max_sweeps - sweeps
        solution, improved = _solve(setting, mdp, objective, grids, policy, tolerance, left, distance)
        sweeps += int(solution.sweeps)
        stable = all(map(np.array_equal, improved, policy))
    return _finish(solution._replace(sweeps=sweeps), steps, horizon, reason)


def _solve(
    setting: SolverSetting,
    mdp: MDP,
    objective: Objective,
    grids: Sequence[StockGrid],
    policies: Sequence[Array] | None,
    tolerance: float,
    max_sweeps: int,
    distance: str,
    final: Any | None = None,
    bounds: bool = True,
) -> tuple[Solution, Sequence[Any]]:
    """The solution for a finite or infinite horizon, and the greedy policies: one, or one for each step."""
    if not setting.infinite:
        later, found = tuple(grids[1:-1]), exact.solve(setting, mdp, objective, grids, policies, final)
        if found is None:
            solution, greedy = _solve_finite(setting, mdp, objective, grids, policies, final)
            return solution._replace(later=later), greedy
        low, high = mdps.return_bounds(mdp, setting.discount, len(grids) - 1)
        return _exact_solution(found, grids[0], policies, low, high)._replace(later=later), found.greedy
    policy = None if policies is None else policies[0]
    solution, only = _solve_infinite(
        setting, mdp, objective, grids[0], tolerance, max_sweeps, policy, distance, bounds
    )
    return solution, [only]


def _finish(solution: Solution, steps: int | None, horizon: int | None, reason: str | None) -> Solution:
    """The solution that solvers return.

    Where every episode ends without a horizon, the policy of the first stage is optimal at every time: the
    steps that it plans for are always enough.
    """
    if steps is not None and horizon is None:
        solution = solution._replace(policy=solution.policy[0], later=())
    errors = jnp.full_like(solution.errors, jnp.inf) if reason else solution.errors
    return solution._replace(errors=errors, unsound=reason)


def _solve_infinite(
    setting: SolverSetting,
    mdp: MDP,
    objective: Objective,
    grid: StockGrid,
    tolerance: float,
    max_sweeps: int,
    policy: Any | None,
    distance: str,
    bounded: bool,
) -> tuple[Solution, Array]:
    """Sweeps until successive distributions are close; also returns the greedy policy."""
    given = grid
    if not checks.is_traced((grid, policy, mdp, objective.parameters)):
        grid, policy = stock_grids.padded(grid, policy)
    found = _fixed_point(setting, mdp, objective, grid, tolerance, max_sweeps, policy, distance)
    solution, greedy = found.solution, found.greedy
    if bounded:
        solution = solution._replace(**_infinite_bounds(setting, mdp, objective, grid, found, max_sweeps))
    if grid.size > given.size:
        of_grid = {
            name: jax.tree.map(lambda leaf: np.asarray(leaf)[:, : given.size], getattr(solution, name))
            for name in ("distributions", "values", "policy", "errors", "off_grid_mass")
        }
        solution, greedy = solution._replace(**of_grid), np.asarray(greedy)[:, : given.size]
    return solution._replace(stocks=given), greedy


class _FixedPoint(NamedTuple):
    """The end of the sweeps of an infinite horizon.

    Attributes:
        solution: without error bounds.
        greedy: the greedy actions [S, C].
        backup: of the solution.
        last: the backup of one more sweep.
        enough: the distance at which the sweeps stopped.
    """

    solution: Solution
    greedy: Array
    backup: Backup
    last: Backup
    enough: Array


@functools.partial(jax.jit, static_argnames=("setting", "distance"))
def _fixed_point(
    setting: SolverSetting,
    mdp: MDP,
    objective: Objective,
    grid: StockGrid,
    tolerance: float,
    max_sweeps: int,
    policy: Array | None,
    distance: str,
) -> _FixedPoint:
    """Sweeps until successive distributions are close. Grids of different solutions share the program."""
    low, high = bellman.infinite_return_range(mdp, setting.discount)
    transitions = bellman.make_transitions(setting, mdp, objective, grid, grid, low, high)
    # Smaller distances are rounding and do not shrink any more.
    rounding = 16 * jnp.finfo(low.dtype).eps * jnp.max(jnp.maximum(jnp.abs(low), jnp.abs(high)))
    enough = jnp.maximum(tolerance, rounding)

    def sweep(before: Backup, policy: Array | None) -> tuple[Backup, Array]:
        return bellman.sweep(setting, mdp, objective, grid, transitions, before, policy)

    def go_on(carry):
        _, sweeps, apart = carry
        return (apart > enough) & (sweeps < max_sweeps)

    def step(carry):
        before, sweeps, _ = carry
        after, _ = sweep(before, policy)
        return after, sweeps + 1, _distance(setting, distance, before, after)

    start = (
        bellman.terminal_backup(setting, mdp, grid, low.dtype),
        jnp.int32(0),
        jnp.asarray(jnp.inf, low.dtype),
    )
    backup, sweeps, apart = jax.lax.while_loop(go_on, step, start)
    # One more sweep shows how far scores are from their fixed point.
    last, greedy = sweep(backup, None if setting.optimal else policy)
    actions = greedy if policy is None else policy
    change = jnp.max(jnp.abs(last.scores - backup.scores))
    iteration = _tail_factor(setting, objective) * (change + rounding)

    unknown = jnp.full_like(last.scores, jnp.inf)
    bounds = ErrorBounds(errors=unknown, off_grid_mass=unknown)
    solution = _solution(setting, objective, grid, backup, bounds, low, high)._replace(
        policy=actions,
        sweeps=sweeps,
        distance=apart,
        error_parts={"iteration": iteration, "stocks": jnp.asarray(jnp.inf, low.dtype)},
    )
    return _FixedPoint(solution=solution, greedy=greedy, backup=backup, last=last, enough=enough)


def _tail_factor(setting: SolverSetting, objective: Objective) -> float:
    """The sum of the geometric series γᵈᵗ; infinite where scores do not shrink from step to step."""
    factor = setting.factor(objective)
    return math.inf if factor is None or factor >= 1 else 1 / (1 - factor)


@functools.partial(jax.jit, static_argnames="setting")
def _infinite_bounds(
    setting: SolverSetting,
    mdp: MDP,
    objective: Objective,
    grid: StockGrid,
    found: _FixedPoint,
    max_steps: int,
) -> dict[str, Any]:
    """The errors and the off-grid mass of a fixed point, as fields of its solution.

    They are iterated from 0 upwards, plus a bound of the geometric tail.
    """
    solution, rest = found.solution, _tail_factor(setting, objective)
    transitions = bellman.make_transitions(setting, mdp, objective, grid, grid, solution.low, solution.high)
    bounds_after = bellman.error_bounds(
        setting, mdp, objective, transitions, found.backup, found.last, solution.policy
    )
    zeros = jnp.zeros_like(found.backup.scores)

    def finite(errors: Array) -> Array:
        return jnp.where(jnp.isfinite(errors), errors, 0)

    def go_on(carry):
        bounds, tail, count = carry
        errors = jnp.maximum(found.enough, _MAX_TAIL * jnp.max(finite(bounds.errors)))
        return ((tail.errors > errors) | (tail.off_grid_mass > _MAX_TAIL)) & (count < max_steps)

    def step(carry):
        before, _, count = carry
        after = bounds_after(before)
        change = jnp.max(finite(after.errors) - finite(before.errors))
        tail = ErrorBounds(
            errors=(rest if math.isfinite(rest) else 0.0) * change,
            off_grid_mass=jnp.max(after.off_grid_mass - before.off_grid_mass) / (1 - setting.discount),
        )
        return after, tail, count + 1

    infinite = jnp.full_like(found.enough, jnp.inf)
    start = (
        ErrorBounds(errors=zeros, off_grid_mass=zeros),
        ErrorBounds(errors=infinite, off_grid_mass=infinite),
        jnp.int32(0),
    )
    bounds, tail, _ = jax.lax.while_loop(go_on, step, start)
    errors = bounds.errors + tail.errors
    iteration = solution.error_parts["iteration"]
    return {
        "errors": errors + iteration,
        "error_parts": {"iteration": iteration, "stocks": jnp.max(errors)},
        "off_grid_mass": jnp.minimum(bounds.off_grid_mass + tail.off_grid_mass, 1),
    }


def _distance(setting: SolverSetting, name: str, before: Backup, after: Backup) -> Array:
    """The greatest distance over states and stocks."""
    if setting.representation is None:
        return jnp.max(jnp.abs(after.scores - before.scores))
    return jnp.max(getattr(setting.representation, name)(before.distributions, after.distributions))


def _solve_finite(
    setting: SolverSetting,
    mdp: MDP,
    objective: Objective,
    grids: Sequence[StockGrid],
    policy: Sequence[Array] | None,
    final: Any | None,
) -> tuple[Solution, list[Array]]:
    """Sweeps from the last stage to the first; also returns the greedy policies."""
    scales = [1.0] * len(grids)
    if setting.unrolled(objective):
        scales = [setting.discount**stage for stage in range(len(grids))]
        setting = setting._replace(discount=1.0)
        grids = list(map(stock_grids.scaled, grids, scales))
    low = high = jnp.zeros((mdp.num_states, mdp.reward_dim), jnp.asarray(mdp.rewards).dtype)
    backup = bellman.terminal_backup(setting, mdp, grids[-1], low.dtype)
    if final is not None:
        backup = backup._replace(scores=backup.scores + final[:, None])
    bounds = ErrorBounds(errors=jnp.zeros_like(backup.scores), off_grid_mass=jnp.zeros_like(backup.scores))
    grows = setting.representation is not None and setting.representation.size is None
    greedy: list[Array] = []
    for stage in reversed(range(len(grids) - 1)):
        given = None if policy is None else policy[stage]
        here, after = grids[stage], grids[stage + 1]
        of_stage = mdp._replace(rewards=scales[stage] * mdp.rewards)
        backup, bounds, actions, low, high = _stage(
            setting, of_stage, objective, here, after, low, high, backup, bounds, given
        )
        if grows and not checks.is_traced(backup):
            backup = backup._replace(distributions=merge_equal_atoms(backup.distributions))
        greedy.insert(0, actions)
    solution = _solution(setting, objective, grids[0], backup, bounds, low, high)._replace(
        policy=tuple(greedy if policy is None else policy), sweeps=len(greedy)
    )
    return solution, greedy


def _exact_solution(
    found: exact.ExactSolution,
    grid: StockGrid,
    policies: Sequence[Array] | None,
    low: Any,
    high: Any,
) -> Solution:
    """The solution of a finite horizon without any error."""
    none: Any = np.zeros_like(found.values)
    return Solution(
        distributions=found.distributions,
        values=found.values,
        policy=tuple(found.greedy if policies is None else policies),
        stocks=grid,
        sweeps=len(found.greedy),
        distance=0.0,
        errors=none,
        error_parts={"iteration": 0.0, "stocks": 0.0},
        off_grid_mass=none,
        unsound=None,
        low=low,
        high=high,
    )


@functools.partial(jax.jit, static_argnames="setting")
def _stage(setting, mdp, objective, here, after, low, high, before, bounds, policy):
    """One stage of a finite horizon; its stock grid may differ from that of the next stage."""
    transitions = bellman.make_transitions(setting, mdp, objective, here, after, low, high)
    backup, greedy = bellman.sweep(setting, mdp, objective, here, transitions, before, policy)
    actions = greedy if policy is None else policy
    bounds = bellman.error_bounds(setting, mdp, objective, transitions, before, backup, actions)(bounds)
    return backup, bounds, greedy, *bellman.extend_return_range(mdp, setting.discount, low, high)


def _solution(
    setting: SolverSetting,
    objective: Objective,
    grid: StockGrid,
    backup: Backup,
    bounds: ErrorBounds,
    low: Array,
    high: Array,
) -> Solution:
    """The solution of a backup, without the fields that the backup does not contain."""
    stocks = grid.stocks.astype(backup.scores.dtype)
    return Solution(
        distributions=backup.distributions,
        values=backup.scores + setting.utility(objective, stocks)[None],
        policy=None,
        stocks=grid,
        sweeps=0,
        distance=0.0,
        errors=bounds.errors,
        error_parts={"iteration": 0.0, "stocks": jnp.max(bounds.errors)},
        off_grid_mass=jnp.minimum(bounds.off_grid_mass, 1),
        unsound=None,
        low=low,
        high=high,
    )
