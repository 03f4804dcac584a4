"""The exact optimum in small MDPs, by enumerating the return distributions of all deterministic policies.

This module uses no stocks, grids or projections. Policies may depend on the whole history, so they choose
separately after each outcome: the achievable distributions from a state are all mixtures, over the outcomes
of an action, of achievable distributions from the next states.
"""

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.optimize

from valuelab.distributional.mdps import MDP
from valuelab.distributional.objectives import FixedStart, Objective
from valuelab.errors import InputError
from valuelab.types import Array

MAX_HORIZON, MAX_COUNT = 5, 50_000
"""The longest horizon, and the largest number of distributions from a state or of Markov policies."""

_DECIMALS = 10
"""Returns, and probabilities, count as equal if they agree to this number of decimals."""


class DistributionSet(NamedTuple):
    """Distinct return distributions from one state, on a common support.

    Attributes:
        support: [n, m].
        probabilities: [N, n], one distribution in each row.
    """

    support: np.ndarray
    probabilities: np.ndarray


def history_distributions(
    mdp: MDP, discount: float, horizon: int, max_count: int = MAX_COUNT
) -> list[DistributionSet]:
    """The return distributions of all deterministic policies that depend on the whole history.

        D_h(s) = ∪_a { Σ_k p_k · distribution of r_k + γ G_k : G_k ∈ D_{h-1}(s'_k) },   D_0 = { 0 }

    Args:
        mdp: host arrays.
        discount: γ in (0, 1].
        horizon: number of steps, at most 5.
        max_count: the largest number of distributions from a state.

    Returns:
        The distributions from each state as a start.

    Raises:
        InputError: for a longer horizon or for more distributions; the message names their number.
    """
    if not 0 <= horizon <= MAX_HORIZON:
        raise InputError(f"horizon is {horizon}; give 0 to {MAX_HORIZON} steps to enumerate policies")
    achievable = [_zero_return(mdp)] * mdp.num_states
    for _ in range(horizon):
        following, achievable = achievable, list(achievable)
        for state in _nonterminal_states(mdp):
            ahead = [
                _look_ahead(mdp, state, action, following, discount, max_count)
                for action in range(mdp.num_actions)
            ]
            achievable[state] = _union(ahead)
    return achievable


def markov_distributions(
    mdp: MDP, discount: float, horizon: int, max_count: int = MAX_COUNT
) -> list[DistributionSet]:
    """The return distributions of all deterministic policies that depend on state and step alone.

    As `history_distributions`, but for any horizon.
    """
    states = _nonterminal_states(mdp)
    count = mdp.num_actions ** (len(states) * horizon)
    if count > max_count:
        raise InputError(
            f"there are {count} Markov policies, but max_count is {max_count}; give a smaller MDP or horizon"
        )
    found: list[list[DistributionSet]] = [[] for _ in range(mdp.num_states)]
    for actions in itertools.product(range(mdp.num_actions), repeat=len(states) * horizon):
        of_policy = [_zero_return(mdp)] * mdp.num_states
        for choices in np.reshape(actions, (horizon, len(states))):
            following, of_policy = of_policy, list(of_policy)
            for state, action in zip(states, choices, strict=True):
                of_policy[state] = _look_ahead(mdp, state, action, following, discount, max_count)
        for of_state, distribution in zip(found, of_policy, strict=True):
            of_state.append(distribution)
    return [_union(distributions) for distributions in found]


def best(objective: Objective, distributions: DistributionSet) -> float:
    """The greatest value of an objective over return distributions, and over draws between them.

    Draws matter where the measure is concave in mixtures, as upper CVaR is. There the optimum is that of the
    linear program

        max Σᵢ qᵢ xᵢ   over   τ q ≤ w·P,  Σ q = 1,  Σ w = 1,  q, w ≥ 0

    which chooses the draw w, and the part q of the distribution w·P on the support x that is its best
    fraction τ.

    Args:
        objective: any.
        distributions: from one state.

    Returns:
        The optimum.
    """
    start = objective.start
    if not isinstance(start, FixedStart) and start.minimized:
        return _best_draw(distributions, float(objective.parameters["tau"]))
    support, probabilities = distributions
    # Sizes are rounded up to powers of two, so that many MDPs share compiled programs.
    count, size = (1 << (length - 1).bit_length() for length in probabilities.shape)
    support = np.pad(support, [(0, size - len(support)), (0, 0)])
    probabilities = np.pad(probabilities, [(0, 0), (0, size - probabilities.shape[1])])
    probabilities = np.pad(probabilities, [(0, count - len(probabilities)), (0, 0)], mode="edge")
    with jax.enable_x64(True):
        return float(_greatest(objective, support, probabilities))


@jax.jit
def _greatest(objective: Objective, support: Array, probabilities: Array) -> Array:
    """The greatest value of the distributions [N, n] on a support [n, m]."""
    start, first, score = objective.start, jnp.zeros(support.shape[-1]), objective.functional
    if isinstance(start, FixedStart):
        first = start.stock(objective.parameters)
    else:
        score = start.measure
    values = jnp.broadcast_to(first[None] + support, (*probabilities.shape, len(first)))
    return score(objective.parameters, values, probabilities).max()


def _best_draw(distributions: DistributionSet, tau: float) -> float:
    """The greatest upper CVaR of all draws, by the linear program of `best`."""
    count, size = distributions.probabilities.shape
    gain = np.concatenate([distributions.support[:, 0], np.zeros(count)])
    within = np.concatenate([tau * np.eye(size), -distributions.probabilities.T], axis=1)
    whole = np.repeat(np.eye(2), [size, count], axis=1)
    solution = scipy.optimize.linprog(-gain, within, np.zeros(size), whole, np.ones(2))
    return float(-solution.fun)


def _nonterminal_states(mdp: MDP) -> list[int]:
    return np.flatnonzero(~np.asarray(mdp.terminal)).tolist()


def _zero_return(mdp: MDP) -> DistributionSet:
    """The deterministic return 0."""
    return DistributionSet(support=np.zeros((1, mdp.reward_dim)), probabilities=np.ones((1, 1)))


def _look_ahead(
    mdp: MDP,
    state: int,
    action: int,
    following: Sequence[DistributionSet],
    discount: float,
    max_count: int,
) -> DistributionSet:
    """All mixtures over the outcomes of one action."""
    outcomes: dict[tuple[int, bytes], float] = {}
    chances, next_states, rewards = (np.asarray(leaf)[state, action] for leaf in mdp[:3])
    for chance, next_state, reward in zip(chances, next_states, rewards, strict=True):
        if chance > 0:  # equal outcomes count as one history
            outcome = int(next_state), np.asarray(reward, float).tobytes()
            outcomes[outcome] = outcomes.get(outcome, 0.0) + float(chance)
    count = math.prod(len(following[next_state].probabilities) for next_state, _ in outcomes)
    if count > max_count:
        raise InputError(
            f"action {action} in state {state} leads to {count} return distributions, but max_count is "
            f"{max_count}; give a smaller MDP or horizon"
        )
    parts = _on_one_support(
        [
            DistributionSet(
                support=np.frombuffer(reward) + discount * support, probabilities=chance * probabilities
            )
            for (next_state, reward), chance in outcomes.items()
            for support, probabilities in [following[next_state]]
        ]
    )
    mixtures = np.zeros((1, parts[0].support.shape[0]))
    for part in parts:
        mixtures = (mixtures[:, None] + part.probabilities).reshape(-1, mixtures.shape[-1])
    return DistributionSet(support=parts[0].support, probabilities=mixtures)


def _union(sets: Sequence[DistributionSet]) -> DistributionSet:
    """The union of several sets."""
    parts = _on_one_support(sets)
    rows = np.concatenate([part.probabilities for part in parts])
    _, firsts = np.unique(rows.round(_DECIMALS), axis=0, return_index=True)
    return DistributionSet(support=parts[0].support, probabilities=rows[firsts])


def _on_one_support(sets: Sequence[DistributionSet]) -> list[DistributionSet]:
    """The same distributions, all on the union of the supports."""
    points = np.concatenate([each.support for each in sets])
    _, firsts, indices = np.unique(points.round(_DECIMALS), axis=0, return_index=True, return_inverse=True)
    ends = np.cumsum([len(each.support) for each in sets])[:-1]
    moved = []
    for each, columns in zip(sets, np.split(indices.ravel(), ends), strict=True):
        probabilities = np.zeros((len(each.probabilities), len(firsts)))
        np.add.at(probabilities.T, columns, each.probabilities.T)
        moved.append(DistributionSet(support=points[firsts], probabilities=probabilities))
    return moved
