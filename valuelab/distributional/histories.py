"""The exact return distribution of a given policy, whatever memory it has, by following every history.

Policies of different kinds are compared on equal terms this way: only their actions count, not what they
predict about their returns.
"""

from collections.abc import Callable

import numpy as np

from valuelab.distributional.mdps import MDP
from valuelab.distributional.oracle import DistributionSet
from valuelab.errors import InputError

Policy = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]
"""(states [n], memories [n, d]) -> (actions [n], memories [n, K, d] after each of the K outcomes)."""

_DECIMALS = 9
"""Histories count as one if their states, memories and returns agree to this number of decimals."""


def return_distribution(
    mdp: MDP,
    discount: float,
    start: int,
    memory: np.ndarray,
    policy: Policy,
    max_steps: int,
    max_histories: int = 65_536,
) -> DistributionSet:
    """The return distribution of a deterministic policy.

    Args:
        mdp: host arrays.
        discount: γ.
        start: the state in which episodes begin.
        memory: [d], the policy's memory at the start; d = 0 for a policy of states alone.
        policy: called with n rounded up to a power of two, so that it may be jitted.
        max_steps: episodes are cut after this number of steps.
        max_histories: the largest number of histories that are followed at a time.

    Returns:
        A set that holds this one distribution, so that `oracle.best` can measure it.

    Raises:
        InputError: when there are more histories.
    """
    probabilities, next_states, rewards, terminal = (np.asarray(leaf) for leaf in mdp)
    states, chances = np.array([start]), np.ones(1)
    memories, returns = np.asarray(memory, float)[None], np.zeros((1, mdp.reward_dim))
    ended = []
    for step in range(max_steps):
        over = terminal[states]
        ended.append((returns[over], chances[over]))
        states, chances, memories, returns = (array[~over] for array in (states, chances, memories, returns))
        if not states.size:
            break
        if states.size > max_histories:
            raise InputError(
                f"{states.size} histories after {step} steps, but max_histories is {max_histories}: "
                "simulate episodes instead"
            )
        padding = [(0, (1 << (states.size - 1).bit_length()) - states.size)]
        actions, after = policy(np.pad(states, padding, "edge"), np.pad(memories, [*padding, (0, 0)], "edge"))
        pairs = states, np.asarray(actions)[: states.size]
        chances = chances[:, None] * probabilities[pairs]
        returns = returns[:, None] + discount**step * rewards[pairs]
        possible = chances > 0
        states, chances, memories, returns = _merge(
            next_states[pairs][possible],
            chances[possible],
            np.asarray(after, float)[: len(possible)][possible],
            returns[possible],
        )
    ended.append((returns, chances))
    support, weights = (np.concatenate(parts) for parts in zip(*ended, strict=True))
    _, weights, _, support = _merge(np.zeros(len(support), int), weights, support[:, :0], support)
    return DistributionSet(support=support, probabilities=weights[None])


def _merge(
    states: np.ndarray, chances: np.ndarray, memories: np.ndarray, returns: np.ndarray
) -> tuple[np.ndarray, ...]:
    """The distinct histories, with the probabilities of equal ones added."""
    rows = np.column_stack([states, memories, returns]).round(_DECIMALS)
    _, firsts, groups = np.unique(rows, axis=0, return_index=True, return_inverse=True)
    chances = np.bincount(groups.ravel(), chances, minlength=len(firsts))
    return states[firsts], chances, memories[firsts], returns[firsts]
