"""Finite MDPs as environments: many at once on the device, or one at a time as a gymnasium.Env."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from valuelab import errors, types
from valuelab.distributional import gridworlds
from valuelab.types import Array, Key


class Simulation(NamedTuple):
    """The state of N simulated episodes.

    Attributes:
        key: the random numbers follow from the key and the time.
        time: number of steps taken so far.
        states: [N] int32; S where an episode has ended and the next step begins a new one.
        lengths: [N] int32, number of steps of each episode.
    """

    key: Key
    time: Array
    states: Array
    lengths: Array


def vector(name: str, num_environments: int) -> types.VectorEnvironment:
    """N parallel episodes of a gridworld: see `simulate`.

    Args:
        name: a key of `gridworlds.GRIDWORLDS`.
        num_environments: N.

    Raises:
        InputError: for an unknown name.
    """
    return simulate(gridworlds.make(name), num_environments)


def simulate(
    gridworld: gridworlds.Gridworld, num_environments: int, starts: np.ndarray | None = None
) -> types.VectorEnvironment:
    """N parallel episodes of a finite MDP, on the device; observations are one-hot vectors [S] of the state.

    Args:
        gridworld: the MDP, its start state and the length of its episodes.
        num_environments: N.
        starts: [S], the probability of starting in each state, for exploration; None: always in the start
            state.

    Returns:
        The vector environment; rewards are [N] where m = 1, else [N, m].
    """
    num_states, num_actions, _, reward_dim = gridworld.mdp.rewards.shape
    if starts is None:
        starts = np.eye(num_states)[gridworld.start_state]
    bounds, next_states, rewards = (jnp.asarray(table) for table in _tables(gridworld, starts))
    terminal = jnp.asarray(gridworld.mdp.terminal)

    def reset(key: Key) -> tuple[Simulation, Array]:
        between = jnp.full(num_environments, num_states, jnp.int32)
        simulation = Simulation(key=key, time=jnp.int32(0), states=between, lengths=jnp.zeros_like(between))
        simulation, outcomes = step(simulation, jnp.zeros_like(between))
        return simulation, outcomes.observations

    def step(simulation: Simulation, actions: Array) -> tuple[Simulation, types.Outcomes]:
        key, time, states, lengths = simulation
        uniform = jax.random.uniform(jax.random.fold_in(key, time), (num_environments, 1))
        pairs = states * num_actions + actions.astype(jnp.int32)
        places = pairs * next_states.shape[-1] + (uniform >= bounds[pairs]).sum(-1, dtype=jnp.int32)
        lengths = jnp.where(states == num_states, 0, lengths + 1)
        states, gained = next_states.ravel()[places], rewards[places]
        terminated = terminal[states]
        truncated = ~terminated & (lengths >= gridworld.max_episode_steps)
        outcomes = types.Outcomes(
            observations=jax.nn.one_hot(states, num_states, dtype=jnp.float32),
            rewards=gained[:, 0] if reward_dim == 1 else gained,
            terminated=terminated,
            truncated=truncated,
        )
        states = jnp.where(terminated | truncated, num_states, states)
        return Simulation(key=key, time=time + 1, states=states, lengths=lengths), outcomes

    return types.VectorEnvironment(
        name=f"gridworld/{gridworld.name}",
        spec=types.Spec(
            observation_shape=(num_states,),
            observation_dtype="float32",
            action_dim=0,
            num_actions=num_actions,
            reward_min=float(gridworld.mdp.rewards.min()),
            reward_max=float(gridworld.mdp.rewards.max()),
            reward_dim=reward_dim,
        ),
        num_environments=num_environments,
        max_episode_steps=gridworld.max_episode_steps,
        reset=reset,
        step=step,
    )


def _tables(gridworld: gridworlds.Gridworld, starts: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Lookup tables of the outcomes of each state and action; state S means "between two episodes".

    Args:
        gridworld: with an MDP of S states, A actions and K outcomes.
        starts: [S], n of them positive.

    Returns:
        For W = max(K, n) outcomes: the cumulative probabilities [(S + 1) A, W - 1] float32 that separate
        them, their next states [(S + 1) A, W] int32 and rewards [(S + 1) A W, m] float32.
    """
    first = np.flatnonzero(starts)
    states, actions, outcomes, dim = gridworld.mdp.rewards.shape
    shape = (states + 1, actions, max(outcomes, first.size))
    probabilities, next_states = np.zeros(shape), np.zeros(shape, np.int32)
    rewards = np.zeros((*shape, dim), np.float32)
    probabilities[:-1, :, :outcomes] = gridworld.mdp.probabilities
    next_states[:-1, :, :outcomes] = gridworld.mdp.next_states
    rewards[:-1, :, :outcomes] = gridworld.mdp.rewards
    probabilities[-1, :, : first.size] = starts[first]
    next_states[-1, :, : first.size] = first
    # Rounding must never select an outcome after the last possible one: its bound is above every variate.
    bounds = np.cumsum(probabilities, axis=-1)
    bounds = np.where(bounds > 1 - 1e-6, 2.0, bounds)[..., :-1].astype(np.float32)
    pairs = (states + 1) * actions
    return bounds.reshape(pairs, -1), next_states.reshape(pairs, -1), rewards.reshape(-1, dim)


def make(name: str) -> types.Environment:
    """A gridworld for evaluation, one episode at a time.

    Args:
        name: a key of `gridworlds.GRIDWORLDS`.

    Returns:
        The environment, with the metric "return".

    Raises:
        InputError: for an unknown name.
    """
    gridworld = gridworlds.make(name)
    return types.Environment(
        name=f"gridworld/{name}",
        make=functools.partial(_create, gridworld),
        tasks={"default": None},
        metric="return",
        score=lambda episode_return, success: episode_return,
        reward_dim=gridworld.mdp.reward_dim,
    )


def known_names() -> list[str]:
    """The names of the gridworlds."""
    return sorted(gridworlds.GRIDWORLDS)


def _create(gridworld: gridworlds.Gridworld) -> Any:
    """A new gymnasium.Env. Its rewards are floats if m = 1, else arrays [m]."""
    gymnasium = errors.require("gymnasium", "environments")
    base: Any = gymnasium.Env
    num_states, num_actions, _, reward_dim = gridworld.mdp.rewards.shape
    bounds, next_states, rewards = _tables(gridworld, np.eye(num_states)[gridworld.start_state])

    class Tabular(base):
        observation_space = gymnasium.spaces.Box(0.0, 1.0, (num_states,), np.float32)
        action_space = gymnasium.spaces.Discrete(num_actions)

        def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
            super().reset(seed=seed)
            self.state, self.length = gridworld.start_state, 0
            return self._observation(), {}

        def step(self, action: Any) -> Any:
            pair = self.state * num_actions + int(action)
            outcome = int((self.np_random.random() >= bounds[pair]).sum())
            reward = rewards[pair * next_states.shape[1] + outcome]
            self.state, self.length = int(next_states[pair, outcome]), self.length + 1
            terminated = bool(gridworld.mdp.terminal[self.state])
            truncated = not terminated and self.length >= gridworld.max_episode_steps
            gained = float(reward[0]) if reward_dim == 1 else reward
            return self._observation(), gained, terminated, truncated, {}

        def _observation(self) -> np.ndarray:
            return np.eye(1, num_states, self.state, dtype=np.float32)[0]

    return Tabular()
