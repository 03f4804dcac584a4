"""The distributional Bellman operator on states and stocks.

A state and a stock (s, c) together are the states of a finite MDP once stocks are split among the points of a
grid. A sweep is one backup in this MDP. It carries along the distributions of the return G. Where K is an
expected utility, it also carries along what the future adds to it,

    W(s, c) = E f(c + G) - f(c) = Σ p [f(c + r) - f(c) + γᵈ W(s', (c + r) / γ)],

because differences of f(c + G) are γᵈ times those of f(c' + G') if f has the degree d (and for any f if
γ = 1). Greedy actions then need one number for each action and outcome, and only the distribution of the
chosen action is computed and projected. Projection does not change the values. A stock that leaves the grid
where f is linear does not change them either. Any other K is read from the look-ahead distributions of all
actions.

A sweep:
    1. scores every action: K of its look-ahead distribution, from W or from atoms;
    2. chooses the first action that is best within rounding, or the action of the given policy;
    3. takes the score and the projected distribution of this action.

A second recursion (`error_bounds`) bounds the errors of scores and the mass that leaves the grid or the
support.

Source: Pires et al. 2025 (arXiv:2501.13028), sections 3 and 4.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from valuelab.distributional.mdps import MDP
from valuelab.distributional.objectives import Objective
from valuelab.distributional.return_distributions import (
    DistributionRepresentation,
    ReturnDistributions,
    Successors,
    look_ahead,
    map_states,
)
from valuelab.distributional.stock_grids import StockGrid, locate
from valuelab.types import Array

ROUNDING = 64
"""Two numbers count as equal if they differ by no more than this number of units of relative rounding."""


class SolverSetting(NamedTuple):
    """The static arguments of a compiled solver.

    Attributes:
        representation: of return distributions; None: none are computed.
        discount: γ.
        infinite: whether the horizon is infinite.
        optimal: whether errors are measured from the optimum, not from the value of a given policy.
    """

    representation: DistributionRepresentation | None
    discount: float
    infinite: bool
    optimal: bool

    def unrolled(self, objective: Objective) -> bool:
        """Whether a discounted problem is solved as one without discount, whose reward at step t is γᵗ r.

        Its stock at step t is γᵗ c. So K compares distributions of whole returns, and needs neither a degree
        nor gamma-indifference. The reward depends on the step, so the horizon must be finite.
        """
        return not self.infinite and self.discount < 1 and objective.properties.degree is None

    def factor(self, objective: Objective) -> float | None:
        """γᵈ, the factor of W one step later; None where K has to be read from distributions."""
        if objective.utility is None:
            return None
        if self.discount == 1 or self.unrolled(objective):
            return 1.0
        degree = objective.properties.degree
        return None if degree is None else self.discount**degree

    def utility(self, objective: Objective, points: Array) -> Array:
        """The utility f at points [..., m]: [...]; 0 where K is read from distributions."""
        if objective.utility is None or self.factor(objective) is None:
            return jnp.zeros(points.shape[:-1], points.dtype)
        return objective.utility(objective.parameters, points)


class GridTransitions(NamedTuple):
    """Transitions on the grid, from C stocks to C' stocks, each split among J = 2^m neighbours.

    Attributes:
        indices: [S, A, K, J, C] int32, s' C' + j.
        weights: [S, A, K, J, C], the probability of the outcome times the share of the neighbour.
        gains: [S, A, C], E f(c + r) - f(c); 0 for functionals that are not expected utilities.
        max_above: [S, A, K, J, C], a bound of how far W at the next stock lies above W at the neighbour.
        max_below: [S, A, K, J, C], a bound of how far it lies below.
        leaving: [S, A, C], the probability of leaving the grid in a way that may change W.
        covered: [S], whether all returns lie within the support.
        backup_tables: what the backups of the representation need.
    """

    indices: Array
    weights: Array
    gains: Array
    max_above: Array
    max_below: Array
    leaving: Array
    covered: Array
    backup_tables: Any


class Backup(NamedTuple):
    """The result of a backup for every state and stock.

    Attributes:
        distributions: [S, C], of G; None without a representation.
        scores: [S, C], W; for functionals that are not expected utilities K of the distribution of c + G.
        clamped_mass: [S, C], the mass that the last projection clamped to the edge of the support.
    """

    distributions: ReturnDistributions
    scores: Array
    clamped_mass: Array


class ErrorBounds(NamedTuple):
    """Bounds of what is wrong with a backup.

    Attributes:
        errors: [S, C], bounds of the errors of scores.
        off_grid_mass: [S, C], a bound of the mass that leaves the grid or the support.
    """

    errors: Array
    off_grid_mass: Array


def extend_return_range(mdp: MDP, discount: float, low: Array, high: Array) -> tuple[Array, Array]:
    """Least and greatest returns [S, m] with one more step before the given ones."""
    possible = jnp.asarray(mdp.probabilities)[..., None] > 0
    least, greatest = (
        jnp.asarray(mdp.rewards) + discount * bound[jnp.asarray(mdp.next_states)] for bound in (low, high)
    )
    return (
        jnp.where(possible, least, jnp.inf).min((1, 2)),
        jnp.where(possible, greatest, -jnp.inf).max((1, 2)),
    )


def infinite_return_range(mdp: MDP, discount: float) -> tuple[Array, Array]:
    """Bounds [S, m] of the least and greatest discounted returns in an infinite horizon."""
    rewards = jnp.asarray(mdp.rewards)
    ends = jnp.asarray(mdp.terminal)[:, None]
    low, high = (
        jnp.where(ends, 0, bound[None] / (1 - discount))
        for bound in (rewards.min((0, 1, 2)), rewards.max((0, 1, 2)))
    )
    steps = min(10_000, math.ceil(math.log(1e-9) / math.log(discount)))
    return jax.lax.fori_loop(
        0, steps, lambda _, bounds: extend_return_range(mdp, discount, *bounds), (low, high)
    )


def terminal_backup(setting: SolverSetting, mdp: MDP, grid: StockGrid, dtype: Any) -> Backup:
    """The backup after the last step: every return is 0."""
    returns = jnp.zeros((mdp.num_states, grid.size, mdp.reward_dim), dtype)
    representation = setting.representation
    return Backup(
        distributions=None if representation is None else representation.deterministic(returns),
        scores=returns[..., 0],
        clamped_mass=returns[..., 0],
    )


def make_transitions(
    setting: SolverSetting,
    mdp: MDP,
    objective: Objective,
    here: StockGrid,
    after: StockGrid,
    low: Array,
    high: Array,
) -> GridTransitions:
    """The transitions between two grids of stocks.

    Args:
        setting: static arguments.
        mdp: the MDP.
        objective: what is maximised.
        here: the grid of C stocks.
        after: the grid of C' stocks that transitions lead to.
        low: [S, m], least returns from each state on, after the transition.
        high: [S, m], greatest returns.

    Returns:
        The transitions.
    """
    rewards, next_states = jnp.asarray(mdp.rewards), jnp.asarray(mdp.next_states)
    probabilities = jnp.asarray(mdp.probabilities, rewards.dtype)[..., None]
    held = here.stocks.astype(rewards.dtype)
    reached = held[None, None, None] + rewards[..., None, :]
    points = reached / setting.discount
    indices, shares, outside = locate(after, points)
    neighbours = jnp.asarray(after.stocks, rewards.dtype)[indices]
    distances = jnp.linalg.norm(points[..., None, :] - neighbours, axis=-1)
    # A stock within rounding of a grid point counts as that point.
    rounding = ROUNDING * jnp.finfo(rewards.dtype).eps * (1 + jnp.max(jnp.abs(points)))
    nearest = jax.nn.one_hot(jnp.argmin(distances, axis=-1), distances.shape[-1], dtype=rewards.dtype)
    shares = jnp.where(jnp.min(distances, axis=-1, keepdims=True) <= rounding, nearest, shares)
    ranges = (bound[next_states][:, :, :, None, None] for bound in (low, high))
    differences = _neighbour_differences(
        setting, objective, points[..., None, :], neighbours, distances, rounding, *ranges
    )
    max_above, max_below = (jnp.moveaxis(part, -1, 3) for part in differences)
    differs = jnp.any((max_above + max_below > 0) & (jnp.moveaxis(shares, -1, 3) > 0), axis=3)
    gains = jnp.sum(probabilities * setting.utility(objective, reached), axis=2)
    backup_tables, covered = None, jnp.ones(mdp.num_states, bool)
    if setting.representation is not None:
        backup_tables = setting.representation.prepare(rewards, setting.discount)
        for bound in extend_return_range(mdp, setting.discount, low, high):
            covered &= setting.representation.project(bound[:, None], jnp.ones_like(bound[:, :1]))[1] == 0
    return GridTransitions(
        indices=jnp.moveaxis(next_states[..., None, None] * after.size + indices, -1, 3),
        weights=jnp.moveaxis(probabilities[..., None] * shares, -1, 3),
        gains=gains - setting.utility(objective, held)[None, None],
        max_above=max_above,
        max_below=max_below,
        leaving=jnp.sum(probabilities * (outside & differs), axis=2),
        covered=covered,
        backup_tables=backup_tables,
    )


def _neighbour_differences(
    setting: SolverSetting,
    objective: Objective,
    points: Array,
    neighbours: Array,
    distances: Array,
    rounding: Array,
    low: Array,
    high: Array,
) -> tuple[Array, Array]:
    """Bounds of the difference between W at a stock and W at its neighbours.

    E f(c + G) changes by at most L times the distance of the stocks. For m = 1 and f of degree 1,
    it changes by the distance times a number between the two slopes of f. The change of f(c) itself is
    known. And W is never more than L times the greatest return. For m = 1 and f of degree 1
    or 0, f has a kink or a jump at 0 alone: there is no difference where c + G has one sign, whatever
    happens. Without a Lipschitz constant, or where K is not an expected utility, no bound is known for a
    stock that is not a point of the grid.

    Args:
        setting: static arguments.
        objective: what is maximised.
        points: [..., 1, m], stocks.
        neighbours: [..., J, m].
        distances: [..., J], between stocks and neighbours.
        rounding: distances up to this count as 0.
        low: [..., 1, m], least returns from there on.
        high: [..., 1, m], greatest returns.

    Returns:
        How far W at the stock lies above W at the neighbour at most, and how far below: two of [..., J].
    """
    reach = jnp.linalg.norm(jnp.maximum(jnp.abs(low), jnp.abs(high)), axis=-1)
    same = (distances <= rounding) | (reach == 0)
    known, degree = setting.factor(objective) is not None, objective.properties.degree
    steepest = objective.properties.lipschitz if known else math.inf
    most = steepest * jnp.where(same, 1, distances)
    least = -most
    if known and points.shape[-1] == 1 and degree in (0, 1):
        sides = setting.utility(objective, jnp.asarray([[1], [0], [-1]], points.dtype))
        above, at, below = sides - sides[1]  # without a constant
        if degree == 1:
            steps = (points - neighbours)[..., 0]
            most = jnp.maximum(above * steps, -below * steps)
            least = jnp.minimum(above * steps, -below * steps)
        # If f jumps at 0, then 0 belongs to the side above or to the side below; else it belongs to both.
        above, below = (jnp.where(at == side * (1 - degree), -rounding, rounding) for side in (above, below))
        same |= (jnp.minimum(points, neighbours) + low)[..., 0] > above
        same |= (jnp.maximum(points, neighbours) + high)[..., 0] < -below
    certain = setting.utility(objective, points) - setting.utility(objective, neighbours)
    furthest = 2 * steepest * jnp.where(same, 1, reach)
    max_above, max_below = (jnp.clip(part, 0, furthest) for part in (most - certain, certain - least))
    return jnp.where(same, 0, max_above), jnp.where(same, 0, max_below)


def sweep(
    setting: SolverSetting,
    mdp: MDP,
    objective: Objective,
    grid: StockGrid,
    transitions: GridTransitions,
    before: Backup,
    policy: Array | None,
) -> tuple[Backup, Array]:
    """One backup of every state and stock.

    Args:
        setting: static arguments.
        mdp: the MDP.
        objective: what is maximised.
        grid: of the C stocks.
        transitions: from these stocks.
        before: the backup of the stocks that the transitions lead to.
        policy: actions [S, C] to follow; None: the greedy actions.

    Returns:
        The new backup, and the greedy actions [S, C].
    """
    factor = setting.factor(objective)
    if factor is None:
        scores = _functional_scores(setting, mdp, objective, grid, transitions, before.distributions)
    else:
        expected = _expectation(transitions.weights, transitions.indices, before.scores)
        scores = transitions.gains + factor * expected
    # The first action that is best within rounding, so that noise does not choose between equal actions.
    best = jnp.max(scores, axis=1)
    rounding = ROUNDING * jnp.finfo(scores.dtype).eps * jnp.max(jnp.abs(scores))
    greedy = jnp.argmax(scores >= best[:, None] - rounding, axis=1).astype(jnp.int32)
    actions = greedy if policy is None else policy
    distributions, clamped_mass = None, jnp.zeros_like(best)
    if setting.representation is not None:
        distributions, clamped_mass = setting.representation.backup(
            flatten(before.distributions), transitions.backup_tables, _successors(transitions, actions)
        )
        # Projection spreads some mass beyond the reachable returns. Clamping this mass loses nothing.
        clamped_mass = jnp.where(transitions.covered[:, None], 0, clamped_mass)
    backup = Backup(
        distributions=distributions,
        scores=best if policy is None else _at_actions(scores, actions),
        clamped_mass=clamped_mass,
    )
    return backup, greedy


def error_bounds(
    setting: SolverSetting,
    mdp: MDP,
    objective: Objective,
    transitions: GridTransitions,
    before: Backup,
    after: Backup,
    actions: Array,
) -> Callable[[ErrorBounds], ErrorBounds]:
    """The bounds for the result of a sweep as a function of those of its input.

    All that does not depend on the bounds is computed here, once for all calls of the function.

    Args:
        setting: static arguments.
        mdp: the MDP.
        objective: what is maximised.
        transitions: of the sweep.
        before: the input of the sweep.
        after: the result of the sweep.
        actions: [S, C], that the sweep took.

    Returns:
        Bounds for `before` -> bounds for `after`.
    """
    chosen, factor = _successors(transitions, actions), setting.factor(objective)
    leaving = _at_actions(transitions.leaving, actions) + after.clamped_mass
    errors_of = (
        _optimum_errors(factor, transitions, before.scores, after.scores)
        if setting.optimal and factor is not None
        else _policy_errors(setting, mdp, factor, transitions, before, after, actions, chosen)
    )

    def bounds_after(bounds: ErrorBounds) -> ErrorBounds:
        off_grid = _expectation(chosen.weights, chosen.indices, bounds.off_grid_mass)
        return ErrorBounds(
            errors=errors_of(bounds.errors),
            off_grid_mass=leaving + (setting.discount if setting.infinite else 1.0) * off_grid,
        )

    return bounds_after


def _policy_errors(
    setting: SolverSetting,
    mdp: MDP,
    factor: float | None,
    transitions: GridTransitions,
    before: Backup,
    after: Backup,
    actions: Array,
    chosen: Successors,
) -> Callable[[Array], Array]:
    """The errors [S, C] of a policy's scores; arguments and result as in `error_bounds`.

    A policy draws one of the neighbours, so its value is the mean over the neighbours.
    """
    differences = jnp.maximum(transitions.max_above, transitions.max_below)
    projection: Array | float = 0.0
    if factor is None:
        projection = _projection_errors(setting, mdp, before.distributions, after.distributions, chosen)

    def errors_of(errors: Array) -> Array:
        apart = errors.ravel()[transitions.indices] + differences
        errors = jnp.sum(transitions.weights * apart, axis=(2, 3), where=transitions.weights > 0)
        errors *= factor or 1.0
        return projection + (jnp.max(errors, axis=1) if setting.optimal else _at_actions(errors, actions))

    return errors_of


def _optimum_errors(
    factor: float, transitions: GridTransitions, scores: Array, scores_after: Array
) -> Callable[[Array], Array]:
    """The errors [S, C] of the optimum's scores; result as in `error_bounds`.

    Each neighbour of a stock bounds W at this stock. An action that is certainly worse does not raise a
    bound.
    """
    chances = transitions.weights.sum(axis=3)
    known = scores.ravel()[transitions.indices]
    below, above = known - transitions.max_below, known + transitions.max_above

    def best(bound: Array) -> Array:
        following = jnp.sum(chances * bound, axis=2, where=chances > 0)
        return jnp.max(transitions.gains + factor * following, axis=1)

    def errors_of(errors: Array) -> Array:
        errors = errors.ravel()[transitions.indices]
        least, most = best(jnp.max(below - errors, axis=3)), best(jnp.min(above + errors, axis=3))
        return jnp.maximum(most - scores_after, scores_after - least)

    return errors_of


def _successors(transitions: GridTransitions, actions: Array) -> Successors:
    """The successors of the given actions [S, C]."""
    return Successors(
        indices=_at_actions(transitions.indices, actions),
        weights=_at_actions(transitions.weights, actions),
        actions=actions,
    )


def _expectation(weights: Array, indices: Array, values: Array) -> Array:
    """The weighted sums of values [S', C'] at indices, with weights [..., K, J, C]: [..., C]."""
    return jnp.sum(weights * values.ravel()[indices], axis=(-3, -2), where=weights > 0)


def _at_actions(array: Array, actions: Array) -> Array:
    """The entries of an array [S, A, ..., C] at actions [S, C]: [S, ..., C]."""
    index = jnp.expand_dims(actions, range(1, array.ndim - 1))
    return jnp.take_along_axis(array, index, axis=1)[:, 0]


def flatten(distributions: ReturnDistributions) -> ReturnDistributions:
    """Distributions [S, C] in one axis [S C]."""
    return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), distributions)


def _functional_scores(
    setting: SolverSetting,
    mdp: MDP,
    objective: Objective,
    grid: StockGrid,
    transitions: GridTransitions,
    distributions: ReturnDistributions,
) -> Array:
    """K of the distribution of c + r + γ G(s', c') for every action, [S, A, C]."""
    atoms = _representation(setting).flat_atoms(distributions)
    held = grid.stocks.astype(atoms.values.dtype)

    def of_state(state):
        rewards, indices, weights = state
        indices, weights = (jnp.moveaxis(array, -1, 1) for array in (indices, weights))
        values, probabilities = look_ahead(atoms, rewards[:, None], setting.discount, indices, weights)
        return objective.functional(objective.parameters, held[None, :, None] + values, probabilities)

    size = transitions.indices[0].size * atoms.values.shape[-2]
    return map_states(of_state, (jnp.asarray(mdp.rewards), transitions.indices, transitions.weights), size)


def _projection_errors(
    setting: SolverSetting,
    mdp: MDP,
    before: ReturnDistributions,
    after: ReturnDistributions,
    chosen: Successors,
) -> Array:
    """[S, C]: 0 where projection left the distribution unchanged, else infinity, for no bound of K is known.

    Splitting an atom raises the second moment, because the square is strictly convex.
    """

    def moments(distributions):
        values, probabilities = _representation(setting).atoms(distributions)
        squares = jnp.sum(values**2, axis=-1)
        return (probabilities[..., None] * values).sum(-2), (probabilities * squares).sum(-1)

    means, squares = moments(flatten(before))
    rows = jnp.arange(mdp.num_states)[:, None]
    rewards = jnp.moveaxis(jnp.asarray(mdp.rewards)[rows, chosen.actions], 2, 1)[:, :, None]
    ahead = rewards + setting.discount * means[chosen.indices]
    spread = squares - jnp.sum(means**2, axis=-1)
    expected = jnp.sum(ahead**2, axis=-1) + setting.discount**2 * spread[chosen.indices]
    expected = jnp.sum(chosen.weights * expected, axis=(1, 2))
    rounding = ROUNDING * jnp.finfo(squares.dtype).eps * (1 + jnp.max(expected))
    return jnp.where(jnp.abs(moments(after)[1] - expected) > rounding, jnp.inf, 0)


def _representation(setting: SolverSetting) -> DistributionRepresentation:
    """The representation that K is read from; `checks.check_method` refuses a setting without one."""
    assert setting.representation is not None
    return setting.representation
