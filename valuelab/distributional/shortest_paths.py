"""Stochastic shortest paths: sums of rewards without discount or horizon, where no length bounds episodes.

A policy is proper if its episodes end with probability 1 from every state. The optimum is that over all
policies whose episodes end. For an f with Lipschitz constant L it lies between the optima of two problems of
N steps. They differ in what an episode gets that has not ended after N steps:

    f(c) - L · loss(s)    less than a proper policy gets from there on; loss = its E Σ |r|
    f(c) + L · gain(s)    more than any policy gets from there on; gain = max E Σ max(r, 0)

If f also falls somewhere, gain is the maximum of E Σ |r|. The optimum is bounded if gain is finite. The two
problems approach each other if policies that are nearly best for many steps end their episodes.

Source: Bertsekas and Tsitsiklis 1991, "An analysis of stochastic shortest path problems" (Mathematics of
Operations Research 16), for f(x) = x.
"""

import numpy as np
import scipy.optimize
import scipy.sparse
import scipy.sparse.linalg

from valuelab.distributional.mdps import MDP
from valuelab.errors import InputError

_MARGIN = 1e-6
"""The relative amount added to bounds, more than the tolerance of the linear program."""


def check_proper(mdp: MDP) -> None:
    """Refuses an MDP without a proper policy.

    A proper policy exists if and only if every state can reach a terminal state: then episodes of the policy
    that takes all actions with equal probabilities end.

    Raises:
        InputError: with a state that cannot reach a terminal state.
    """
    possible, ends = np.asarray(mdp.probabilities) > 0, np.asarray(mdp.terminal)
    for _ in range(mdp.num_states):
        ends = ends | (possible & ends[mdp.next_states]).any((1, 2))
    if not ends.all():
        raise InputError(
            "discount 1 without a horizon needs a policy that ends episodes, but from state "
            f"{int(np.argmin(ends))} no terminal state can be reached; give a horizon"
        )


def proper_policy(mdp: MDP) -> np.ndarray:
    """The actions [S] that end episodes in the fewest steps on average, by policy iteration.

    Args:
        mdp: with a proper policy, see `check_proper`. Policy iteration begins with equal probabilities of
            all actions. Each step makes the mean number of steps smaller, so every policy is proper.
    """
    one_step = np.ones(mdp.probabilities.shape[:2])
    policy = np.full_like(one_step, 1 / mdp.num_actions)
    while True:
        steps = expected_sums(mdp, policy, one_step)
        ahead = (mdp.probabilities * steps[mdp.next_states]).sum(2)
        # The first action that is best within rounding.
        best = np.argmax(ahead <= ahead.min(1, keepdims=True) + 1e-9 * (1 + steps[:, None]), axis=1)
        improved = np.eye(mdp.num_actions)[best]
        if np.array_equal(improved, policy):
            return best
        policy = improved


def expected_sums(mdp: MDP, policy: np.ndarray, amounts: np.ndarray) -> np.ndarray:
    """The expected sums [S] of amounts over the episodes of a proper policy.

    Args:
        mdp: the MDP.
        policy: [S, A], probabilities of the actions.
        amounts: [S, A], of each step.
    """
    alive = np.flatnonzero(~mdp.terminal)
    transitions = scipy.sparse.kron(scipy.sparse.eye(len(mdp.terminal)), np.ones((1, mdp.num_actions)))
    transitions = transitions @ scipy.sparse.diags(policy.ravel()) @ _transitions(mdp)
    left = scipy.sparse.eye(len(alive)) - transitions.tocsr()[alive][:, alive]
    sums = np.zeros(mdp.num_states)
    sums[alive] = scipy.sparse.linalg.spsolve(left.tocsc(), (policy * amounts).sum(1)[alive])
    return sums


def greatest_sums(mdp: MDP, amounts: np.ndarray) -> np.ndarray | None:
    """The greatest expected sums [S] of amounts that are not negative, over all policies.

    They are the least solution of u(s) ≥ amount(s, a) + Σ p u(s'), u ≥ 0, a linear program. None where there
    is none, because a policy collects amounts forever.
    """
    if not amounts.any():
        return np.zeros(mdp.num_states)
    alive = np.repeat(~mdp.terminal, mdp.num_actions)
    rows = scipy.sparse.kron(scipy.sparse.eye(mdp.num_states), np.ones((mdp.num_actions, 1)))
    within = (_transitions(mdp) - rows).tocsr()[alive]
    bounds = [(0, 0 if ends else None) for ends in mdp.terminal]
    found = scipy.optimize.linprog(np.ones(mdp.num_states), within, -amounts.ravel()[alive], bounds=bounds)
    return found.x * (1 + _MARGIN) if found.status == 0 else None


def _transitions(mdp: MDP) -> scipy.sparse.csr_matrix:
    """Probabilities of next states, [S A, S]."""
    pairs, outcomes = mdp.num_states * mdp.num_actions, mdp.probabilities.shape[2]
    starts = np.arange(0, pairs * outcomes + 1, outcomes)
    entries = np.asarray(mdp.probabilities).ravel(), np.asarray(mdp.next_states).ravel(), starts
    return scipy.sparse.csr_matrix(entries, shape=(pairs, mdp.num_states))


def remainders(mdp: MDP, rising: bool) -> tuple[np.ndarray, np.ndarray]:
    """What an episode that has not ended can still lose with a proper policy, and gain with any policy.

    Args:
        mdp: host arrays.
        rising: whether f never falls as its scalar argument rises.

    Returns:
        loss [S] and gain [S] of the module docstring.

    Raises:
        InputError: when no proper policy exists, or the gain has no bound.
    """
    check_proper(mdp)
    sizes = np.linalg.norm(mdp.rewards, axis=-1)
    gains = np.maximum(mdp.rewards[..., 0], 0) if rising else sizes
    losses, gains = ((mdp.probabilities * amounts).sum(2) for amounts in (sizes, gains))
    gain = greatest_sums(mdp, gains)
    if gain is None:
        what = "positive rewards" if rising else "rewards, which this objective may prefer to the end"
        raise InputError(
            f"discount 1 without a horizon needs bounded returns, but episodes can collect {what} again and "
            "again; give a horizon or a discount below 1"
        )
    loss = expected_sums(mdp, np.eye(mdp.num_actions)[proper_policy(mdp)], losses)
    return loss * (1 + _MARGIN), gain
