"""Distributional dynamic programming: policy evaluation, value iteration, policy iteration.

A finite horizon is swept from its last stage to its first, and each stage may have a grid of its own. An
infinite one is a single program: one while loop, until successive laws are near. What a sweep does stands in
`bellman`.

Source: Pires et al. 2025 (arXiv:2501.13028), sections 3 and 4.
"""

import functools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from valuelab.distributional import bellman, checks
from valuelab.distributional.bellman import Backup, Moves, Setting, Trust
from valuelab.distributional.laws import Laws, Representation, merge
from valuelab.distributional.mdp import MDP
from valuelab.distributional.objectives import Objective
from valuelab.distributional.stocks import StockGrid
from valuelab.types import Array

_SETTLED = 0.01
"""How much of a bound, or of all mass, may be left to its geometric tail."""


class Solution(NamedTuple):
    """What a solver found; for the first stage where the horizon is finite.

    Attributes:
        laws: of the return G, one for each state and stock [S, C]; None without a representation.
        values: [S, C], K of the law of c + G. Where K is an expected utility they do not suffer from
            projection, and are nearer the truth than K read from `laws`.
        policy: int32 actions [S, C]; for a finite horizon H a tuple of H such, stage by stage.
        stocks: the grid of C stocks.
        sweeps: how many there were.
        distance: the greatest distance of laws (of values, without a representation) in the last one.
        errors: [S, C], a bound of |values - optimum|, or of |values - value of the given policy|; a policy is
            followed off the grid by drawing one of the neighbouring stocks, as `stocks.locate` splits them.
            Infinite where no bound is known.
        error_parts: the most that stopping early ("iteration") and splitting stocks ("stocks") add to errors;
            where K is read from laws the latter holds projection, too.
        off_grid_mass: [S, C], a bound of the probability under the policy that an episode leaves the grid or
            the support in a way that counts; leaving after t steps counts γᵗ in an infinite horizon.
        unsound: why the optimum may be missed; None where it cannot.
    """

    laws: Laws
    values: Array
    policy: Any
    stocks: StockGrid
    sweeps: Any
    distance: Any
    errors: Array
    error_parts: dict[str, Any]
    off_grid_mass: Array
    unsound: str | None

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
    representation: Representation | None,
    stocks: StockGrid | Sequence[StockGrid],
    tolerance: float = 1e-6,
    max_sweeps: int = 100_000,
    distance: str = "wasserstein",
    allow_unsound: bool = False,
) -> Solution:
    """The optimum over all policies, by greedy backups from the law of 0.

    Pure, and may be vmapped over the leaves of the MDP and the objective's parameters: checks of values are
    left out where these are traced.

    Args:
        mdp: the MDP.
        objective: what is maximised.
        discount: γ in (0, 1].
        horizon: number of steps H; None: infinite, or that of the longest episode if γ = 1.
        representation: of laws; None: values and policy alone, where K is an expected utility.
        stocks: the grid, or one for each of the stages 0 to H.
        tolerance: in an infinite horizon, the distance of successive laws at which to stop, but not below
            what rounding allows.
        max_sweeps: after which to stop in any case.
        distance: "wasserstein" or "cramer".
        allow_unsound: solve where the theory does not hold, and mark the solution.

    Returns:
        The solution.

    Raises:
        InputError: for an invalid MDP, discount, grid, tolerance or distance, an objective that dynamic
            programming cannot optimise here, an infinite horizon without end, or too few atoms.
    """
    reason, steps = checks.problem(mdp, objective, discount, horizon, allow_unsound)
    setting = Setting(representation, discount, steps is None, optimal=True)
    grids = checks.method(setting, mdp, objective, steps, stocks, tolerance, distance)
    if steps is None:
        solution, _ = _solve(setting, mdp, objective, grids[0], tolerance, max_sweeps, None, distance)
    else:
        solution, _ = _recede(setting, mdp, objective, grids, None)
    return _marked(solution, steps, horizon, reason)


def policy_evaluation(
    mdp: MDP,
    policy: Any,
    objective: Objective,
    *,
    discount: float,
    horizon: int | None = None,
    representation: Representation | None,
    stocks: StockGrid | Sequence[StockGrid],
    tolerance: float = 1e-6,
    max_sweeps: int = 100_000,
    distance: str = "wasserstein",
) -> Solution:
    """The laws and values of a given policy: (T_π η)(s, c) = law of r + γ G(s', (c + r) / γ).

    Args:
        mdp: the MDP.
        policy: int actions [S, C], or H such for a finite horizon.
        objective: any functional to measure it by.
        discount: γ, as of `value_iteration`, like all that follow.
        horizon: number of steps.
        representation: of laws.
        stocks: the grid or grids.
        tolerance: at which to stop.
        max_sweeps: after which to stop in any case.
        distance: of laws.

    Returns:
        The solution, with the given policy.

    Raises:
        InputError: as `value_iteration`, or for a policy of another shape or with actions out of range.
    """
    _, steps = checks.problem(mdp, objective, discount, horizon, allow_unsound=True)
    setting = Setting(representation, discount, steps is None, optimal=False)
    grids = checks.method(setting, mdp, objective, steps, stocks, tolerance, distance)
    given = checks.policies(policy, mdp, grids, horizon)
    if steps is None:
        solution, _ = _solve(setting, mdp, objective, grids[0], tolerance, max_sweeps, given[0], distance)
    else:
        solution, _ = _recede(setting, mdp, objective, grids, given)
    return _marked(solution, steps, horizon, None)


def policy_iteration(
    mdp: MDP,
    objective: Objective,
    *,
    discount: float,
    horizon: int | None = None,
    representation: Representation | None,
    stocks: StockGrid | Sequence[StockGrid],
    tolerance: float = 1e-6,
    max_sweeps: int = 100_000,
    distance: str = "wasserstein",
    allow_unsound: bool = False,
) -> Solution:
    """The optimum over all policies, by evaluating a policy fully and improving it until it stays the same.

    Args:
        mdp: the MDP, as of `value_iteration`, like all that follow.
        objective: what is maximised.
        discount: γ.
        horizon: number of steps.
        representation: of laws.
        stocks: the grid or grids.
        tolerance: at which evaluations stop.
        max_sweeps: of all evaluations together.
        distance: of laws.
        allow_unsound: solve where the theory does not hold.

    Returns:
        The solution.

    Raises:
        InputError: as `value_iteration`.
    """
    reason, steps = checks.problem(mdp, objective, discount, horizon, allow_unsound)
    setting = Setting(representation, discount, steps is None, optimal=True)
    grids = checks.method(setting, mdp, objective, steps, stocks, tolerance, distance)
    better = [jnp.zeros((mdp.num_states, grid.size), jnp.int32) for grid in grids[: steps or 1]]
    sweeps, stays = 0, False
    while not stays and sweeps < max_sweeps:
        policy = better
        if steps is None:
            left = max_sweeps - sweeps
            solution, greedy = _solve(setting, mdp, objective, grids[0], tolerance, left, policy[0], distance)
            better = [greedy]
        else:
            solution, better = _recede(setting, mdp, objective, grids, policy)
        sweeps += int(solution.sweeps)
        stays = all(map(np.array_equal, better, policy))
    return _marked(solution._replace(sweeps=sweeps), steps, horizon, reason)


def _marked(solution: Solution, steps: int | None, horizon: int | None, reason: str | None) -> Solution:
    """A solution as it is handed out.

    Where every episode ends by itself, the policy of the first stage is good at every time, for what is left
    of the horizon is always enough.
    """
    if steps is not None and horizon is None:
        solution = solution._replace(policy=solution.policy[0])
    errors = jnp.full_like(solution.errors, jnp.inf) if reason else solution.errors
    return solution._replace(errors=errors, unsound=reason)


@functools.partial(jax.jit, static_argnames=("setting", "distance"))
def _solve(
    setting: Setting,
    mdp: MDP,
    objective: Objective,
    grid: StockGrid,
    tolerance: float,
    max_sweeps: int,
    policy: Array | None,
    distance: str,
) -> tuple[Solution, Array]:
    """Sweeps until successive laws are near; also returns the greedy policy."""
    low, high = bellman.endless_range(mdp, setting.discount)
    moves = bellman.make_moves(setting, mdp, objective, grid, grid, low, high)
    # Distances below this do not shrink any more: they are made of rounding.
    rounding = 16 * jnp.finfo(low.dtype).eps * jnp.max(jnp.maximum(jnp.abs(low), jnp.abs(high)))
    enough = jnp.maximum(tolerance, rounding)

    def sweep(before: Backup, policy: Array | None) -> tuple[Backup, Array]:
        return bellman.sweep(setting, mdp, objective, grid, moves, before, policy)

    def go_on(carry):
        _, sweeps, apart = carry
        return (apart > enough) & (sweeps < max_sweeps)

    def step(carry):
        before, sweeps, _ = carry
        after, _ = sweep(before, policy)
        return after, sweeps + 1, _distance(setting, distance, before, after)

    start = bellman.ended(setting, mdp, grid, low.dtype), jnp.int32(0), jnp.asarray(jnp.inf, low.dtype)
    backup, sweeps, apart = jax.lax.while_loop(go_on, step, start)
    # One sweep more tells how far scores are from their fixed point.
    last, greedy = sweep(backup, None if setting.optimal else policy)
    actions = greedy if policy is None else policy
    factor = setting.factor(objective)
    rest = math.inf if factor is None or factor >= 1 else 1 / (1 - factor)
    change = jnp.max(jnp.abs(last.scores - backup.scores))
    iteration = rest * (change + rounding)

    trusted = _trust(setting, mdp, objective, moves, backup, last, actions, rest, enough, max_sweeps)
    solution = _solution(setting, objective, grid, backup, trusted)._replace(
        policy=actions,
        sweeps=sweeps,
        distance=apart,
        errors=trusted.errors + iteration,
        error_parts={"iteration": iteration, "stocks": jnp.max(trusted.errors)},
    )
    return solution, greedy


def _trust(
    setting: Setting,
    mdp: MDP,
    objective: Objective,
    moves: Moves,
    backup: Backup,
    last: Backup,
    actions: Array,
    rest: float,
    enough: Array,
    most: int,
) -> Trust:
    """How far a fixed point, nearly reached, is to be trusted: from no doubt at all upwards, to the tail."""
    nothing = Trust(jnp.zeros_like(backup.scores), jnp.zeros_like(backup.scores))

    def known(errors: Array) -> Array:
        return jnp.where(jnp.isfinite(errors), errors, 0)

    def go_on(carry):
        trusted, left, count = carry
        errors = jnp.maximum(enough, _SETTLED * jnp.max(known(trusted.errors)))
        return ((left.errors > errors) | (left.off > _SETTLED)) & (count < most)

    def step(carry):
        before, _, count = carry
        after = bellman.trust(setting, mdp, objective, moves, backup, before, last, actions)
        left = Trust(
            (rest if math.isfinite(rest) else 0.0) * jnp.max(known(after.errors) - known(before.errors)),
            jnp.max(after.off - before.off) / (1 - setting.discount),
        )
        return after, left, count + 1

    endless = jnp.full_like(enough, jnp.inf)
    trusted, left, _ = jax.lax.while_loop(go_on, step, (nothing, Trust(endless, endless), jnp.int32(0)))
    return Trust(trusted.errors + left.errors, trusted.off + left.off)


def _distance(setting: Setting, name: str, before: Backup, after: Backup) -> Array:
    """The greatest distance over states and stocks."""
    if setting.representation is None:
        return jnp.max(jnp.abs(after.scores - before.scores))
    return jnp.max(getattr(setting.representation, name)(before.laws, after.laws))


def _recede(
    setting: Setting,
    mdp: MDP,
    objective: Objective,
    grids: Sequence[StockGrid],
    policy: Sequence[Array] | None,
) -> tuple[Solution, list[Array]]:
    """Sweeps from the last stage to the first; also returns the greedy policies."""
    low = high = jnp.zeros((mdp.num_states, mdp.reward_dim), jnp.asarray(mdp.rewards).dtype)
    backup = bellman.ended(setting, mdp, grids[-1], low.dtype)
    trusted = Trust(jnp.zeros_like(backup.scores), jnp.zeros_like(backup.scores))
    grows = setting.representation is not None and setting.representation.size is None
    greedy: list[Array] = []
    for stage in reversed(range(len(grids) - 1)):
        given = None if policy is None else policy[stage]
        here, after = grids[stage], grids[stage + 1]
        backup, trusted, actions, low, high = _stage(
            setting, mdp, objective, here, after, low, high, backup, trusted, given
        )
        if grows and not checks.traced(backup):
            backup = backup._replace(laws=merge(backup.laws))
        greedy.insert(0, actions)
    solution = _solution(setting, objective, grids[0], backup, trusted)._replace(
        policy=tuple(greedy if policy is None else policy), sweeps=len(greedy)
    )
    return solution, greedy


@functools.partial(jax.jit, static_argnames="setting")
def _stage(setting, mdp, objective, here, after, low, high, before, trusted, policy):
    """One stage of a finite horizon, whose stocks and those after it may lie on different grids."""
    moves = bellman.make_moves(setting, mdp, objective, here, after, low, high)
    backup, greedy = bellman.sweep(setting, mdp, objective, here, moves, before, policy)
    actions = greedy if policy is None else policy
    trusted = bellman.trust(setting, mdp, objective, moves, before, trusted, backup, actions)
    return backup, trusted, greedy, *bellman.extend_range(mdp, setting.discount, low, high)


def _solution(
    setting: Setting, objective: Objective, grid: StockGrid, backup: Backup, trusted: Trust
) -> Solution:
    """What a backup tells, where nothing is missing from it."""
    stocks = grid.stocks.astype(backup.scores.dtype)
    return Solution(
        laws=backup.laws,
        values=backup.scores + setting.utility(objective, stocks)[None],
        policy=None,
        stocks=grid,
        sweeps=0,
        distance=0.0,
        errors=trusted.errors,
        error_parts={"iteration": 0.0, "stocks": jnp.max(trusted.errors)},
        off_grid_mass=jnp.minimum(trusted.off, 1),
        unsound=None,
    )
