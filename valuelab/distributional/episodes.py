"""Simulated episodes of a policy on states and stocks: its return distribution from chosen starts.

Distributions on a support and a grid are widened by every projection and by every stock that is split between
grid points. Simulated returns are not: an episode keeps its own stock, and the policy acts as at the nearest
grid point. So values are solved on the grid, and distributions are simulated from the few first stocks that
matter.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from valuelab.distributional import stock_grids
from valuelab.distributional.mdps import MDP
from valuelab.distributional.return_distributions import Atoms
from valuelab.distributional.stock_grids import StockGrid
from valuelab.types import Array


def num_steps(discount: float, horizon: int | None, precision: float = 1e-4) -> int:
    """The number of steps after which discounting leaves `precision` of the start, or the horizon."""
    return horizon or math.ceil(math.log(precision) / math.log(discount))


def _bounds(probabilities: Any) -> Any:
    """[..., K - 1], the draws in [0, 1) at which the next of K outcomes begins; NumPy's or JAX's arrays.

    No draw lies above the last possible outcome, whatever rounding left of the sum.
    """
    later = probabilities[..., ::-1].cumsum(-1)[..., -2::-1] > 0
    return later * probabilities.cumsum(-1)[..., :-1] + ~later


@functools.partial(jax.jit, static_argnames=("discount", "steps"))
def simulate(
    mdp: MDP,
    policy: Array,
    grid: StockGrid,
    states: Array,
    stocks: Array,
    key: Array,
    *,
    discount: float,
    steps: int,
) -> Array:
    """The returns of one episode from each start.

    Args:
        mdp: the MDP.
        policy: actions [S, C]; of a finite horizon [H, S, C].
        grid: of the C stocks.
        states: [N] int, in which episodes begin.
        stocks: [N, m], their first stocks.
        key: of the outcomes.
        discount: γ.
        steps: the largest number of steps of an episode.

    Returns:
        [N, m], Σ γᵗ r_t.
    """
    rewards = jnp.asarray(mdp.rewards)
    dtype, (num_actions, num_outcomes) = rewards.dtype, mdp.probabilities.shape[1:]
    chances = jnp.asarray(mdp.probabilities, dtype).reshape(-1, num_outcomes)
    bounds = _bounds(chances)
    rewards = rewards.reshape(-1, mdp.reward_dim)
    next_states = jnp.asarray(mdp.next_states, jnp.int32).ravel()
    ends = jnp.asarray(mdp.terminal)

    def go_on(carry):
        time, states, _, _ = carry
        return (time < steps) & ~jnp.all(ends[states])

    def step(carry):
        time, states, stocks, returns = carry
        places = stock_grids.nearest(grid, stocks)
        actions = policy[states, places] if policy.ndim == 2 else policy[time, states, places]
        rows = states * num_actions + actions
        draws = jax.random.uniform(jax.random.fold_in(key, time), states.shape, jnp.float32)
        outcomes = rows * num_outcomes + jnp.sum(draws[:, None] >= bounds[rows], axis=-1)
        received = rewards[outcomes]
        returns += jnp.asarray(discount, dtype) ** time * received
        return time + 1, next_states[outcomes], (stocks + received) / discount, returns

    stocks = jnp.asarray(stocks, dtype)
    start = jnp.int32(0), jnp.asarray(states, jnp.int32), stocks, jnp.zeros_like(stocks)
    return jax.lax.while_loop(go_on, step, start)[-1]


class Episodes(NamedTuple):
    """E simulated episodes of T steps, on the host.

    Attributes:
        states: [E, T + 1].
        stocks: [E, T + 1, m]; c₀ + G = γᵗ c_t after the last reward.
        actions: [E, T].
        rewards: [E, T, m]; 0 after the end of an episode.
        returns: [E, m], Σ γᵗ r_t.
    """

    states: np.ndarray
    stocks: np.ndarray
    actions: np.ndarray
    rewards: np.ndarray
    returns: np.ndarray


def follow(
    mdp: MDP,
    act: Callable[[np.ndarray, np.ndarray, int], np.ndarray],
    states: np.ndarray,
    stocks: np.ndarray,
    rng: np.random.Generator,
    *,
    discount: float,
    steps: int,
) -> Episodes:
    """Simulates episodes, and keeps their steps.

    Args:
        mdp: host arrays.
        act: (states [E], stocks [E, m], step) -> actions [E].
        states: [E], in which episodes begin.
        stocks: [E, m], their first stocks.
        rng: of the outcomes.
        discount: γ.
        steps: T.

    Returns:
        The episodes.
    """
    bounds = _bounds(mdp.probabilities)
    visited, held, actions, rewards = [np.asarray(states)], [np.asarray(stocks, float)], [], []
    for step in range(steps):
        here = visited[-1]
        actions.append(act(here, held[-1], step))
        draws = rng.uniform(size=(len(here), 1))
        outcome = here, actions[-1], (draws >= bounds[here, actions[-1]]).sum(-1)
        rewards.append(mdp.rewards[outcome])
        visited.append(mdp.next_states[outcome])
        held.append((held[-1] + rewards[-1]) / discount)
    received = np.stack(rewards, axis=1)
    return Episodes(
        states=np.stack(visited, axis=1),
        stocks=np.stack(held, axis=1),
        actions=np.stack(actions, axis=1),
        rewards=received,
        returns=np.einsum("etm,t->em", received, discount ** np.arange(steps)),
    )


def distributions(
    mdp: MDP,
    policy: Array,
    grid: StockGrid,
    states: np.ndarray,
    stocks: np.ndarray,
    *,
    discount: float,
    horizon: int | None = None,
    episodes: int = 10_000,
    seed: int = 0,
) -> Atoms:
    """The return distributions of a policy from each of N starts, as `episodes` equally likely atoms.

    Args:
        mdp: the MDP.
        policy: actions [S, C]; of a finite horizon [H, S, C].
        grid: of the C stocks.
        states: [N].
        stocks: [N, m].
        discount: γ.
        horizon: number of steps; None: infinite.
        episodes: number of episodes of each start. The error of a probability p is √(p (1 - p) / episodes).
        seed: of the outcomes.

    Returns:
        Values [N, episodes, m], and probabilities [N, episodes].
    """
    returns = simulate(
        mdp,
        policy,
        grid,
        np.repeat(states, episodes),
        np.repeat(stocks, episodes, axis=0),
        jax.random.key(seed),
        discount=discount,
        steps=num_steps(discount, horizon),
    )
    values = returns.reshape(len(states), episodes, -1)
    return Atoms(values=values, probabilities=jnp.full(values.shape[:2], 1 / episodes, values.dtype))
