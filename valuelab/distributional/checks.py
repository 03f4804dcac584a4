"""The checks of the solvers' arguments. Messages name the bad value, its place and what to give instead."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from valuelab.distributional import mdps, objectives, stock_grids
from valuelab.distributional.bellman import SolverSetting
from valuelab.distributional.mdps import MDP
from valuelab.distributional.objectives import FixedStart, Objective
from valuelab.distributional.return_distributions import DistributionRepresentation
from valuelab.distributional.stock_grids import StockGrid
from valuelab.errors import InputError, unknown
from valuelab.types import Array

DISTANCES = ("wasserstein", "cramer")

_SOME_ATOMS = 7
"""The number of atoms of the distribution by which the shapes of parameters are checked."""


def is_traced(tree: Any) -> bool:
    """Whether some values are traced, inside jit or vmap."""
    return any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(tree))


def check_problem(
    mdp: MDP, objective: Objective, discount: float, horizon: int | None, allow_unsound: bool
) -> tuple[str | None, int | None]:
    """Refuses problems that no solver can solve.

    Args:
        mdp: the MDP; its values are not checked if they are traced.
        objective: what is maximised.
        discount: γ.
        horizon: number of steps, or None.
        allow_unsound: whether to accept an objective that dynamic programming may not optimise.

    Returns:
        The reason why the optimum may be missed, or None; and the number of steps, None if it is infinite.

    Raises:
        InputError: as `solvers.value_iteration`.
    """
    check_objective(objective, mdp.reward_dim)
    if not is_traced(mdp):
        mdps.validate(mdp, discount)
    if horizon is not None and not (is_whole(horizon) and horizon >= 1):
        raise InputError(
            f"horizon is {horizon!r}; give a whole number of at least one step, or None for an infinite one"
        )
    steps = horizon
    if horizon is None and discount == 1:
        steps = None if is_traced(mdp) else mdps.episode_bound(mdp)
        if steps is None:
            why = "which cannot be checked for a traced MDP" if is_traced(mdp) else f"but {_cycle(mdp)}"
            raise InputError(f"discount 1 without a horizon needs episodes that end, {why}; give a horizon")
        if steps == 0:
            raise InputError(
                f"terminal is True for all of the {mdp.num_states} states, so every return is 0; give an MDP "
                "with a state that is not terminal"
            )
    reason = objectives.unsound_reason(objective, discount, steps, mdp.reward_dim)
    if reason and not allow_unsound:
        objectives.check(objective, discount, steps, mdp.reward_dim)
    return reason, steps


def _cycle(mdp: MDP) -> str:
    """Names a state that an episode may visit again and again."""
    possible = np.asarray(mdp.probabilities) > 0
    successors = [set(mdp.next_states[state][possible[state]].tolist()) for state in range(mdp.num_states)]
    alive = set(np.flatnonzero(~np.asarray(mdp.terminal)).tolist())
    # Removes the states whose successors all end. From every state that is left some path never ends.
    while ending := {state for state in alive if not successors[state] & alive}:
        alive -= ending
    path: list[int] = []
    state = min(alive)
    while state not in path:
        path.append(state)
        state = min(successors[state] & alive)
    return f"an episode can visit state {state} again and again"


def is_whole(number: Any) -> bool:
    """Whether a number is an integer by its type."""
    return isinstance(number, int | np.integer) and not isinstance(number, bool)


def check_objective(objective: Any, reward_dim: int) -> None:
    """Refuses what is not one objective, such as a name or an objective with several levels.

    Args:
        objective: with parameters that may be traced.
        reward_dim: m of the MDP.

    Raises:
        InputError: for something else than an objective, or for parameters with more axes than one
            objective has.
    """
    if not isinstance(objective, Objective):
        raise InputError(
            f"objective is {objective!r}; give one of valuelab.distributional.objectives, such as "
            "objectives.make('cvar', tau=0.1)"
        )
    axes = {
        name: np.ndim(value)
        for name, value in objective.parameters.items()
        if not isinstance(value, Mapping)  # of a part of a sum
    }
    if not any(axes.values()):
        return
    values = jax.ShapeDtypeStruct((_SOME_ATOMS, objective.properties.reward_dim or reward_dim), float)
    probabilities = jax.ShapeDtypeStruct((_SOME_ATOMS,), float)
    shapes: list[tuple[tuple[int, ...], Any, tuple[Any, ...]]] = [
        ((), objective.functional, (values, probabilities))
    ]
    if isinstance(objective.start, FixedStart):
        shapes.append((values.shape[1:], objective.start.stock, ()))
    else:
        shapes.append(((), objective.start.measure, (values, probabilities)))
    try:
        fits = all(
            jax.eval_shape(function, objective.parameters, *arguments).shape == expected
            for expected, function, arguments in shapes
        )
    except (TypeError, ValueError):
        fits = False
    if not fits:
        name = max(axes, key=lambda name: axes[name])
        raise InputError(
            f"{name} of objective {objective.name} is {np.asarray(objective.parameters[name]).tolist()}; "
            "a solver takes one value at a time: give one, and use at(...) of the result for the others"
        )


def check_degree(
    objective: Objective,
    discount: float,
    grids: StockGrid | Sequence[StockGrid],
    low: np.ndarray,
    high: np.ndarray,
) -> None:
    """Refuses a utility whose degree is wrong at the stocks that a solver uses.

    The recursion needs f(γ c) - f(0) = γᵈ (f(c) - f(0)) at every stock c, and the same for γᵗ at stage t.

    Args:
        objective: what is maximised.
        discount: γ.
        grids: one grid for all stages, or one for each.
        low: [m], the least c₀ + G.
        high: [m], the greatest c₀ + G. Stocks beyond these, scaled by γ⁻ᵗ, do not occur.

    Raises:
        InputError: with the stock and the values.
    """
    degree = objective.properties.degree
    if objective.utility is None or degree is None or discount == 1:
        return
    stocks, factors = [], []
    for stage, grid in enumerate([grids] if isinstance(grids, StockGrid) else grids):
        growth = discount ** -float(max(stage, 1))
        points = np.stack([axis.ravel() for axis in np.meshgrid(*grid.points, indexing="ij")], axis=-1)
        points = points[((points >= growth * low) & (points <= growth * high)).all(-1)]
        for factor in {discount, 1 / growth}:
            stocks.append(points)
            factors.append(np.full((len(points), 1), factor))
    points, factor = np.concatenate(stocks), np.concatenate(factors)
    # Where f jumps at 0, stocks that are 0 but for rounding may lie on either side.
    points = np.where(np.abs(points) > 1e-8 * np.abs(points).max(initial=1.0), points, 0.0)
    size = len(points)
    together = np.zeros((stock_grids.standard_size(2 * size + 1), points.shape[1]))
    together[:size], together[size : 2 * size] = points, factor * points
    values = np.asarray(objective.utility(objective.parameters, jnp.asarray(together)))
    here, scaled, at_zero = values[:size], values[size : 2 * size], values[-1]
    power = factor[:, 0] ** degree
    expected = at_zero + power * (here - at_zero)
    scale = np.abs(scaled) + power * np.abs(here) + (1 + power) * np.abs(at_zero)
    wrong = np.flatnonzero(np.abs(scaled - expected) > 1e-6 * scale)
    if wrong.size:
        first = wrong[0]
        at = ", ".join(f"{part:g}" for part in points[first])
        raise InputError(
            f"the properties of objective {objective.name} say degree {degree:g}, but from stock {at} to "
            f"{factor[first, 0]:.4g} times this stock it goes to {scaled[first]:.6g} instead of "
            f"{expected[first]:.6g}: give the properties that properties.of_utility finds at this magnitude"
        )


def check_method(
    setting: SolverSetting,
    mdp: MDP,
    objective: Objective,
    steps: int | None,
    grids: StockGrid | Sequence[StockGrid],
    tolerance: float,
    distance: str,
) -> list[StockGrid]:
    """Refuses solver settings that do not fit the problem.

    Args:
        setting: of the solver.
        mdp: the MDP.
        objective: what is maximised.
        steps: number of steps; None: infinite.
        grids: one stock grid, or one for each stage.
        tolerance: the distance at which to stop.
        distance: "wasserstein" or "cramer".

    Returns:
        The grids of the stages 0 to H; a single grid if the horizon is infinite.

    Raises:
        InputError: as `solvers.value_iteration`.
    """
    if distance not in DISTANCES:
        raise unknown("distance", distance, DISTANCES)
    if not tolerance > 0:
        raise InputError(f"tolerance is {tolerance}; give a positive distance at which to stop")
    representation = setting.representation
    if representation is None and setting.factor(objective) is None:
        raise InputError(
            f"objective {objective.name} is read from return distributions here, but representation is None; "
            "give a representation"
        )
    if representation is not None:
        if representation.size is None and steps is None:
            raise InputError("exact distributions grow forever in an infinite horizon; give a horizon")
        if representation.reward_dim not in (None, mdp.reward_dim):
            raise InputError(
                f"the {representation.name} representation has {representation.reward_dim} component(s), but "
                f"rewards have {mdp.reward_dim}: give one support for each component of the rewards"
            )
        if representation.name == "categorical" and not is_traced(mdp):
            _check_support(representation, mdp)
    needed = 1 if steps is None else steps + 1
    of_stage = [grids] * needed if isinstance(grids, StockGrid) else list(grids)
    if len(of_stage) != needed:
        raise InputError(f"{len(of_stage)} stock grids for {needed} stages; give one for all, or {needed}")
    for grid in of_stage:
        if len(grid.points) != mdp.reward_dim:
            raise InputError(
                f"the stock grid has {len(grid.points)} dimension(s), but rewards have {mdp.reward_dim} "
                "component(s): give one dimension for each component"
            )
    return of_stage


def _check_support(representation: DistributionRepresentation, mdp: MDP) -> None:
    """Refuses supports whose atoms lie further apart than the greatest reward."""
    rewards = np.abs(np.asarray(mdp.rewards)).max((0, 1, 2))
    zero = representation.deterministic(jnp.zeros(mdp.reward_dim))
    support = np.asarray(representation.atoms(zero).values)
    for component, reward in enumerate(rewards):
        points = np.unique(support[:, component])
        if reward > 0 and np.diff(points).max() > reward * (1 + 1e-6):
            needed = math.ceil((points[-1] - points[0]) / reward) + 1
            raise InputError(
                f"support, dimension {component}: {points.size} atoms from {points[0]:g} to {points[-1]:g} "
                f"lie further apart than the greatest reward {reward:g}; give at least {needed} atoms"
            )


def check_policies(policy: Any, mdp: MDP, grids: Sequence[StockGrid], horizon: int | None) -> list[Array]:
    """Refuses policies that do not fit the MDP, the grids or the horizon.

    Args:
        policy: actions [S, C], or H such arrays.
        mdp: the MDP.
        grids: of the stages.
        horizon: number of stages H of the policy; None: the policy is stationary.

    Returns:
        Actions [S, C] of every stage.

    Raises:
        InputError: for a wrong number of stages, a wrong shape or dtype, or an action out of range.
    """
    stages = max(1, len(grids) - 1)
    of_stage = [policy] * stages if horizon is None else list(policy)
    if len(of_stage) != stages:
        raise InputError(
            f"policy has {len(of_stage)} stages, but the horizon is {stages}: give one array for each stage"
        )
    names = ["policy" if horizon is None else f"policy[{stage}]" for stage in range(stages)]
    return [_checked(*one, mdp) for one in zip(names, of_stage, grids[:stages], strict=True)]


def _checked(name: str, policy: Any, grid: StockGrid, mdp: MDP) -> Array:
    """The actions of one stage, checked unless they are traced."""
    if is_traced(policy):
        return policy
    actions, expected = np.asarray(policy), (mdp.num_states, grid.size)
    if actions.shape != expected or actions.dtype.kind not in "iu":
        raise InputError(
            f"{name} has dtype {actions.dtype} and shape {actions.shape}; give integers of shape {expected}"
        )
    wrong = np.argwhere((actions < 0) | (actions >= mdp.num_actions))
    if wrong.size:
        index = tuple(int(part) for part in wrong[0])
        raise InputError(
            f"{name}{list(index)} is {actions[index]}; actions go from 0 to {mdp.num_actions - 1}"
        )
    return jnp.asarray(actions, jnp.int32)
