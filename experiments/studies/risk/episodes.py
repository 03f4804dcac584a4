"""Greedy episodes of a network that carries stocks, in many copies of a gridworld at once, on the device."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from valuelab.distributional.gridworlds import Gridworld
from valuelab.environments import tabular
from valuelab.types import Agent, Array, Augmented, Key, Memory, VectorEnvironment


def follow_commands(
    gridworld: Gridworld, agent: Agent, episodes: int
) -> Callable[[Any, Array, Key], tuple[Array, Array]]:
    """Makes a function that plays greedy episodes of an agent under a command.

    Args:
        gridworld: the gridworld.
        agent: an agent whose memory carries stocks.
        episodes: number of episodes E.

    Returns:
        (state, command [k], key) -> the first stock that the agent chooses, [1, m], and the discounted
        returns of the episodes, [E, m]; for use inside jit.
    """
    environment, memory = tabular.simulate(gridworld, episodes), agent.memory
    assert memory is not None
    start = first_observation(gridworld)

    def follow(state: Any, command: Array, key: Key) -> tuple[Array, Array]:
        def greedy(observations: Array, stocks: Array) -> Array:
            return agent.act(state, Augmented(observations, stocks), key, 0.0)

        first_stock = memory.choose(state, start, command[None])
        return first_stock, play(environment, greedy, memory, first_stock, key)

    return follow


def first_observation(gridworld: Gridworld) -> Array:
    """The first observation of every episode, [1, S]."""
    return jnp.eye(gridworld.mdp.num_states)[gridworld.start_state][None]


def play(
    environment: VectorEnvironment,
    act: Callable[[Array, Array], Array],
    memory: Memory,
    first_stock: Array,
    key: Key,
) -> Array:
    """Plays one episode in each of E environments at once.

    Args:
        environment: E environments.
        act: (observations [E, ...], stocks [E, m]) -> actions [E].
        memory: the agent's memory, which carries stocks.
        first_stock: [1, m].
        key: random key.

    Returns:
        The discounted returns, [E, m].
    """
    stocks = jnp.tile(first_stock, (environment.num_environments, 1))

    def is_running(carry: _Episodes) -> Array:
        return ~jnp.all(carry.ended)

    def step(carry: _Episodes) -> _Episodes:
        simulation, outcomes = environment.step(carry.simulation, act(carry.observations, carry.stocks))
        rewards = jnp.where(carry.ended[:, None], 0, outcomes.rewards.reshape(stocks.shape))
        return _Episodes(
            simulation=simulation,
            observations=outcomes.observations,
            stocks=memory.update(carry.stocks, rewards),
            returns=carry.returns + carry.weight * rewards,
            weight=carry.weight * memory.discount,
            ended=carry.ended | outcomes.terminated | outcomes.truncated,
        )

    simulation, observations = environment.reset(key)
    first = _Episodes(
        simulation=simulation,
        observations=observations,
        stocks=stocks,
        returns=jnp.zeros_like(stocks),
        weight=jnp.ones(()),
        ended=jnp.zeros(len(stocks), bool),
    )
    return jax.lax.while_loop(is_running, step, first).returns


class _Episodes(NamedTuple):
    """E running episodes; `weight` is γᵗ."""

    simulation: Any
    observations: Array
    stocks: Array
    returns: Array
    weight: Array
    ended: Array
