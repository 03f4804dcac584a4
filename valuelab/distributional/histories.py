"""The exact law of the return of a given policy, whatever it carries along, by following every history.

This is how policies of different kinds are compared on equal terms: each is asked what it does, and nothing
of what it believes about its return enters.
"""

from collections.abc import Callable

import numpy as np

from valuelab.distributional.mdp import MDP
from valuelab.distributional.oracle import Laws
from valuelab.errors import InputError

Policy = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]
"""(states [n], memories [n, d]) -> (actions [n], memories [n, K, d] after each of the K outcomes)."""

_DECIMALS = 9
"""Histories that agree in state, memory and return to so many decimals are one."""


def law(
    mdp: MDP,
    discount: float,
    start: int,
    memory: np.ndarray,
    policy: Policy,
    max_steps: int,
    most: int = 65_536,
) -> Laws:
    """The law of the return of a deterministic policy.

    Args:
        mdp: host arrays.
        discount: γ.
        start: the state that episodes begin in.
        memory: [d], what the policy carries at the start; d = 0 where it looks at states alone.
        policy: called with n rounded up to powers of two, so that it may be jitted.
        max_steps: when episodes are cut.
        most: of histories followed at a time.

    Returns:
        The law, as the one of its set: `oracle.best` measures it.

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
        if states.size > most:
            raise InputError(
                f"{states.size} histories after {step} steps, more than {most}: simulate instead"
            )
        padding = [(0, (1 << (states.size - 1).bit_length()) - states.size)]
        actions, after = policy(np.pad(states, padding, "edge"), np.pad(memories, [*padding, (0, 0)], "edge"))
        pairs = states, np.asarray(actions)[: states.size]
        chances = chances[:, None] * probabilities[pairs]
        returns = returns[:, None] + discount**step * rewards[pairs]
        happens = chances > 0
        states, chances, memories, returns = _merged(
            next_states[pairs][happens],
            chances[happens],
            np.asarray(after, float)[: len(happens)][happens],
            returns[happens],
        )
    ended.append((returns, chances))
    support, weights = (np.concatenate(parts) for parts in zip(*ended, strict=True))
    _, weights, _, support = _merged(np.zeros(len(support), int), weights, support[:, :0], support)
    return Laws(support, weights[None])


def _merged(
    states: np.ndarray, chances: np.ndarray, memories: np.ndarray, returns: np.ndarray
) -> tuple[np.ndarray, ...]:
    """Histories without repetitions."""
    rows = np.column_stack([states, memories, returns]).round(_DECIMALS)
    _, firsts, places = np.unique(rows, axis=0, return_index=True, return_inverse=True)
    chances = np.bincount(places.ravel(), chances, minlength=len(firsts))
    return states[firsts], chances, memories[firsts], returns[firsts]
