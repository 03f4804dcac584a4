"""The distributional Bellman operator on states and stocks.

State and stock (s, c) together are a finite MDP once stocks are split among the points of a grid, and a sweep
is a backup in it. Carried along are the law of the return G and, where K is an expected utility, what the
future adds to it,

    W(s, c) = E f(c + G) - f(c) = Σ p [f(c + r) - f(c) + γᵈ W(s', (c + r) / γ)],

for f(c + G) = γᵈ f(c' + G') where f is homogeneous of degree d (and at γ = 1, whatever f). So greedy actions
need one number for each action and outcome, and only the law of the chosen action is made and projected.
Neither projection nor a stock that leaves the grid where f is linear touches the values. Any other K
reads the look-ahead laws of all actions.

A sweep:
    1. scores every action: K of its look-ahead law, by W or from atoms;
    2. chooses the first best one within rounding, or the given policy's;
    3. takes its score and its projected law.

How far to trust what a sweep found is a recursion of its own: a bound of the errors of scores, and the mass
that leaves grid or support.

Source: Pires et al. 2025 (arXiv:2501.13028), sections 3 and 4.
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from valuelab.distributional.laws import Chosen, Laws, Representation, look_ahead
from valuelab.distributional.mdp import MDP
from valuelab.distributional.objectives import Objective
from valuelab.distributional.stocks import StockGrid, locate
from valuelab.types import Array

_ROUNDING = 64
"""Of how many units of relative rounding two numbers may differ and count as equal."""


class Setting(NamedTuple):
    """What a program is compiled for.

    Attributes:
        representation: of laws; None: none are made.
        discount: γ.
        endless: whether the horizon is infinite.
        optimal: whether errors are those from the optimum, not from the value of a given policy.
    """

    representation: Representation | None
    discount: float
    endless: bool
    optimal: bool

    def factor(self, objective: Objective) -> float | None:
        """γᵈ, by which W counts less a step later; None where K has to be read from laws."""
        if objective.utility is None:
            return None
        if self.discount == 1:
            return 1.0
        degree = objective.properties.degree
        return None if degree is None else self.discount**degree

    def utility(self, objective: Objective, points: Array) -> Array:
        """The utility f at points [..., m]: [...]; 0 where K is read from laws."""
        if objective.utility is None or self.factor(objective) is None:
            return jnp.zeros(points.shape[:-1], points.dtype)
        return objective.utility(objective.parameters, points)


class Moves(NamedTuple):
    """Where actions lead on the grid and what they add; C stocks here, C' after, J = 2^m neighbours.

    Attributes:
        places: [S, A, K, J, C] int32, s' C' + j.
        weights: [S, A, K, J, C], the probability of the outcome times the share of the neighbour.
        gains: [S, A, C], E f(c + r) - f(c); 0 for functionals that are no expected utilities.
        rises: [S, A, K, J, C], how much more than at the neighbour what the future adds may be, at most.
        falls: [S, A, K, J, C], how much less.
        leaves: [S, A, C], the probability of leaving the grid where that counts.
        covered: [S], whether all returns lie within the support.
        plan: of the representation's backups.
    """

    places: Array
    weights: Array
    gains: Array
    rises: Array
    falls: Array
    leaves: Array
    covered: Array
    plan: Any


class Backup(NamedTuple):
    """What is known of every state and stock.

    Attributes:
        laws: [S, C], of G; None without a representation.
        scores: [S, C], W, or K of the law of c + G for functionals that are no expected utilities.
        beyond: [S, C], the mass that the last projection had to clamp to the support.
    """

    laws: Laws
    scores: Array
    beyond: Array


class Trust(NamedTuple):
    """How far a backup is to be trusted.

    Attributes:
        errors: [S, C], of scores.
        off: [S, C], the mass that leaves.
    """

    errors: Array
    off: Array


def extend_range(mdp: MDP, discount: float, low: Array, high: Array) -> tuple[Array, Array]:
    """Least and greatest returns [S, m], one step further from the end."""
    possible = jnp.asarray(mdp.probabilities)[..., None] > 0
    least, greatest = (
        jnp.asarray(mdp.rewards) + discount * bound[jnp.asarray(mdp.next_states)] for bound in (low, high)
    )
    return (
        jnp.where(possible, least, jnp.inf).min((1, 2)),
        jnp.where(possible, greatest, -jnp.inf).max((1, 2)),
    )


def endless_range(mdp: MDP, discount: float) -> tuple[Array, Array]:
    """Least and greatest discounted returns [S, m]: bounds, after any number of steps."""
    rewards = jnp.asarray(mdp.rewards)
    ends = jnp.asarray(mdp.terminal)[:, None]
    low, high = (
        jnp.where(ends, 0, bound[None] / (1 - discount))
        for bound in (rewards.min((0, 1, 2)), rewards.max((0, 1, 2)))
    )
    steps = min(10_000, math.ceil(math.log(1e-9) / math.log(discount)))
    return jax.lax.fori_loop(0, steps, lambda _, bounds: extend_range(mdp, discount, *bounds), (low, high))


def ended(setting: Setting, mdp: MDP, grid: StockGrid, dtype: Any) -> Backup:
    """What is known where nothing follows."""
    shape = (mdp.num_states, grid.size)
    nothing = jnp.zeros((*shape, mdp.reward_dim), dtype)
    laws = None if setting.representation is None else setting.representation.law_of(nothing)
    return Backup(laws, nothing[..., 0], nothing[..., 0])


def make_moves(
    setting: Setting,
    mdp: MDP,
    objective: Objective,
    here: StockGrid,
    after: StockGrid,
    low: Array,
    high: Array,
) -> Moves:
    """Where actions lead.

    Args:
        setting: of the program.
        mdp: the MDP.
        objective: what is maximised.
        here: the grid of C stocks.
        after: the grid of C' stocks that moves lead to.
        low: [S, m], least returns of what follows.
        high: [S, m], greatest.

    Returns:
        The moves.
    """
    rewards, next_states = jnp.asarray(mdp.rewards), jnp.asarray(mdp.next_states)
    probabilities = jnp.asarray(mdp.probabilities, rewards.dtype)[..., None]
    held = here.stocks.astype(rewards.dtype)
    reached = held[None, None, None] + rewards[..., None, :]
    points = reached / setting.discount
    indices, shares, outside = locate(after, points)
    neighbours = after.stocks.astype(rewards.dtype)[indices]
    distances = jnp.linalg.norm(points[..., None, :] - neighbours, axis=-1)
    # A stock within rounding of a point is that point.
    rounding = _ROUNDING * jnp.finfo(rewards.dtype).eps * (1 + jnp.max(jnp.abs(points)))
    nearest = jax.nn.one_hot(jnp.argmin(distances, axis=-1), distances.shape[-1], dtype=rewards.dtype)
    shares = jnp.where(jnp.min(distances, axis=-1, keepdims=True) <= rounding, nearest, shares)
    ranges = (bound[next_states][:, :, :, None, None] for bound in (low, high))
    slack = _slack(setting, objective, points[..., None, :], neighbours, distances, rounding, *ranges)
    rises, falls = (jnp.moveaxis(part, -1, 3) for part in slack)
    differs = jnp.any((rises + falls > 0) & (jnp.moveaxis(shares, -1, 3) > 0), axis=3)
    gains = jnp.sum(probabilities * setting.utility(objective, reached), axis=2)
    plan, covered = None, jnp.ones(mdp.num_states, bool)
    if setting.representation is not None:
        plan = setting.representation.plan(rewards, setting.discount)
        for bound in extend_range(mdp, setting.discount, low, high):
            covered &= setting.representation.project(bound[:, None], jnp.ones_like(bound[:, :1]))[1] == 0
    return Moves(
        places=jnp.moveaxis(next_states[..., None, None] * after.size + indices, -1, 3),
        weights=jnp.moveaxis(probabilities[..., None] * shares, -1, 3),
        gains=gains - setting.utility(objective, held)[None, None],
        rises=rises,
        falls=falls,
        leaves=jnp.sum(probabilities * (outside & differs), axis=2),
        covered=covered,
        plan=plan,
    )


def _slack(
    setting: Setting,
    objective: Objective,
    points: Array,
    neighbours: Array,
    distances: Array,
    rounding: Array,
    low: Array,
    high: Array,
) -> tuple[Array, Array]:
    """How much more, and how much less, the future may add at a stock than at its neighbour.

    E f(c + G) changes by at most L times their distance, or, for m = 1 and f homogeneous of degree 1, by
    something between f's two slopes times it; f(c) changes as it does; and what the future adds is never more
    than L times the greatest return. For m = 1 and f homogeneous of degree 1 or 0, f has a kink or a jump at
    0 alone: nothing differs where c + G has one sign whatever happens. Without a Lipschitz constant, or where
    K is no expected utility, nothing is known of a stock that is no point of the grid.

    Args:
        setting: of the program.
        objective: what is maximised.
        points: [..., 1, m], stocks.
        neighbours: [..., J, m].
        distances: [..., J], between them.
        rounding: what counts as no distance.
        low: [..., 1, m], least returns from there.
        high: [..., 1, m], greatest.

    Returns:
        Two of [..., J].
    """
    reach = jnp.linalg.norm(jnp.maximum(jnp.abs(low), jnp.abs(high)), axis=-1)
    same = (distances <= rounding) | (reach == 0)
    known, degree = setting.factor(objective) is not None, objective.properties.degree
    steepest = objective.properties.lipschitz if known else math.inf
    most = steepest * jnp.where(same, 1, distances)
    least = -most
    if known and points.shape[-1] == 1 and degree in (0, 1):
        above, at, below = setting.utility(objective, jnp.asarray([[1], [0], [-1]], points.dtype))
        if degree == 1:
            steps = (points - neighbours)[..., 0]
            most = jnp.maximum(above * steps, -below * steps)
            least = jnp.minimum(above * steps, -below * steps)
        # Whether 0 itself counts with the side above, or with the side below; with both if f does not jump.
        above, below = (jnp.where(at == side * (1 - degree), -rounding, rounding) for side in (above, below))
        same |= (jnp.minimum(points, neighbours) + low)[..., 0] > above
        same |= (jnp.maximum(points, neighbours) + high)[..., 0] < -below
    certain = setting.utility(objective, points) - setting.utility(objective, neighbours)
    furthest = 2 * steepest * jnp.where(same, 1, reach)
    rises, falls = (jnp.clip(part, 0, furthest) for part in (most - certain, certain - least))
    return jnp.where(same, 0, rises), jnp.where(same, 0, falls)


def sweep(
    setting: Setting,
    mdp: MDP,
    objective: Objective,
    grid: StockGrid,
    moves: Moves,
    before: Backup,
    policy: Array | None,
) -> tuple[Backup, Array]:
    """One backup of every state and stock.

    Args:
        setting: of the program.
        mdp: the MDP.
        objective: what is maximised.
        grid: of the stocks here.
        moves: from here.
        before: what is known of where they lead.
        policy: actions [S, C] to follow; None: the greedy ones.

    Returns:
        What is known now, and the greedy actions [S, C].
    """
    factor = setting.factor(objective)
    if factor is None:
        scores = _functionals(setting, mdp, objective, grid, moves, before.laws)
    else:
        scores = moves.gains + factor * _expected(moves.weights, moves.places, before.scores)
    # The first best within rounding, so that noise does not decide between equals.
    best = jnp.max(scores, axis=1)
    rounding = _ROUNDING * jnp.finfo(scores.dtype).eps * jnp.max(jnp.abs(scores))
    greedy = jnp.argmax(scores >= best[:, None] - rounding, axis=1).astype(jnp.int32)
    actions = greedy if policy is None else policy
    laws, beyond = None, jnp.zeros_like(best)
    if setting.representation is not None:
        laws, beyond = setting.representation.backup(
            flat(before.laws), moves.plan, _successors(moves, actions)
        )
        # Projection spreads some mass further than returns reach; beyond the support it is no loss.
        beyond = jnp.where(moves.covered[:, None], 0, beyond)
    return Backup(laws, best if policy is None else _chosen(scores, actions), beyond), greedy


def trust(
    setting: Setting,
    mdp: MDP,
    objective: Objective,
    moves: Moves,
    before: Backup,
    trusted: Trust,
    after: Backup,
    actions: Array,
) -> Trust:
    """How far to trust what a sweep found.

    Args:
        setting: of the program.
        mdp: the MDP.
        objective: what is maximised.
        moves: from here.
        before: what the sweep began with.
        trusted: how far that is to be trusted.
        after: what it found.
        actions: [S, C], taken in it.

    Returns:
        Bounds for `after`.
    """
    chosen = _successors(moves, actions)
    off = _expected(chosen.weights, chosen.places, trusted.off)
    off = _chosen(moves.leaves, actions) + after.beyond + (setting.discount if setting.endless else 1.0) * off
    factor = setting.factor(objective)
    if setting.optimal and factor is not None:
        least, most = _optimum(factor, moves, before.scores, trusted.errors)
        return Trust(jnp.maximum(most - after.scores, after.scores - least), off)
    # A policy draws one of the neighbours, and has the mean of what follows from each.
    errors = trusted.errors.ravel()[moves.places] + jnp.maximum(moves.rises, moves.falls)
    errors = jnp.sum(moves.weights * errors, axis=(2, 3), where=moves.weights > 0) * (factor or 1.0)
    errors = jnp.max(errors, axis=1) if setting.optimal else _chosen(errors, actions)
    if factor is None:
        errors += _lost(setting, mdp, before.laws, after.laws, chosen)
    return Trust(errors, off)


def _optimum(factor: float, moves: Moves, scores: Array, errors: Array) -> tuple[Array, Array]:
    """Between what the optimum lies, [S, C] each.

    What the future adds to a stock is bounded by each of its neighbours, and an action that is worse for
    certain raises no bound.
    """
    known, errors = scores.ravel()[moves.places], errors.ravel()[moves.places]
    chances = moves.weights.sum(axis=3)
    least, most = (
        jnp.max(moves.gains + factor * jnp.sum(chances * bound, axis=2, where=chances > 0), axis=1)
        for bound in (
            jnp.max(known - errors - moves.falls, axis=3),
            jnp.min(known + errors + moves.rises, axis=3),
        )
    )
    return least, most


def _successors(moves: Moves, actions: Array) -> Chosen:
    return Chosen(_chosen(moves.places, actions), _chosen(moves.weights, actions), actions)


def _expected(weights: Array, places: Array, values: Array) -> Array:
    """Means of values [S', C'] by weights [..., K, J, C] at places: [..., C]."""
    return jnp.sum(weights * values.ravel()[places], axis=(-3, -2), where=weights > 0)


def _chosen(array: Array, actions: Array) -> Array:
    """An array [S, A, ..., C] at actions [S, C]: [S, ..., C]."""
    index = jnp.expand_dims(actions, range(1, array.ndim - 1))
    return jnp.take_along_axis(array, index, axis=1)[:, 0]


def flat(laws: Laws) -> Laws:
    """Laws [S, C] in one axis [S C]."""
    return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), laws)


def _functionals(
    setting: Setting, mdp: MDP, objective: Objective, grid: StockGrid, moves: Moves, laws: Laws
) -> Array:
    """K of the law of c + r + γ G(s', c') for every action, [S, A, C]; one state after the other."""
    atoms = _representation(setting).known(laws)
    held = grid.stocks.astype(atoms.values.dtype)

    def of_state(state):
        rewards, places, weights = state
        places, weights = (jnp.moveaxis(array, -1, 1) for array in (places, weights))
        values, probabilities = look_ahead(atoms, rewards[:, None], setting.discount, places, weights)
        return objective.functional(objective.parameters, held[None, :, None] + values, probabilities)

    return jax.lax.map(of_state, (jnp.asarray(mdp.rewards), moves.places, moves.weights))


def _lost(setting: Setting, mdp: MDP, before: Laws, after: Laws, chosen: Chosen) -> Array:
    """0 where projection left the law as it was, else infinity, for nothing is known of K then, [S, C].

    A law that is split has a greater second moment, for the square is strictly convex.
    """

    def moments(laws):
        values, probabilities = _representation(setting).atoms(laws)
        squares = jnp.sum(values**2, axis=-1)
        return (probabilities[..., None] * values).sum(-2), (probabilities * squares).sum(-1)

    means, squares = moments(flat(before))
    rows = jnp.arange(mdp.num_states)[:, None]
    rewards = jnp.moveaxis(jnp.asarray(mdp.rewards)[rows, chosen.actions], 2, 1)[:, :, None]
    ahead = rewards + setting.discount * means[chosen.places]
    spread = squares - jnp.sum(means**2, axis=-1)
    expected = jnp.sum(ahead**2, axis=-1) + setting.discount**2 * spread[chosen.places]
    expected = jnp.sum(chosen.weights * expected, axis=(1, 2))
    rounding = _ROUNDING * jnp.finfo(squares.dtype).eps * (1 + jnp.max(expected))
    return jnp.where(jnp.abs(moments(after)[1] - expected) > rounding, jnp.inf, 0)


def _representation(setting: Setting) -> Representation:
    """The representation, where K is read from laws; solvers refuse to go without it."""
    assert setting.representation is not None
    return setting.representation
