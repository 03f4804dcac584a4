"""Logged data of one's own: what a policy meets in environments on the device, as a dataset."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from valuelab.data.validation import validate
from valuelab.types import Array, Dataset, Key, VectorEnvironment


def record(
    environment: VectorEnvironment, act: Callable[[Array, Key], Array], num_steps: int, key: Key
) -> Dataset:
    """Lets a policy act, and keeps what comes of it.

    Args:
        environment: N environments with scalar rewards.
        act: (observations [N, ...], key) -> actions [N] or [N, A], within bounds: the behaviour policy.
        num_steps: T of each environment; those that begin an episode are no transitions.
        key: of everything random.

    Returns:
        A dataset in full storage of at most N T transitions, one environment after the other; at the end of
        each an episode is left unfinished.

    Raises:
        InputError: when what the environment gives is no dataset, such as vector rewards.
    """
    reset_key, act_key = jax.random.split(key)

    def step(carry: tuple[Any, Array, Array], time: Array) -> tuple[tuple[Any, Array, Array], Any]:
        simulation, observations, begins = carry
        actions = act(observations, jax.random.fold_in(act_key, time))
        simulation, after = environment.step(simulation, actions)
        ends = after.terminated | after.truncated
        return (simulation, after.observations, ends), (observations, actions, after, begins, ends)

    @jax.jit
    def simulate(key: Key) -> Any:
        simulation, observations = environment.reset(key)
        nothing = jnp.zeros(environment.num_environments, bool)
        return jax.lax.scan(step, (simulation, observations, nothing), jnp.arange(num_steps))[1]

    steps = jax.tree.map(lambda leaf: np.swapaxes(np.asarray(leaf), 0, 1), simulate(reset_key))
    observations, actions, after, begins, ends = steps
    ends = ends.copy()
    ends[:, -1] = True
    kept = ~begins
    # Where the last step of an environment begins an episode, the one before it has ended anyway.
    dataset = Dataset(
        name=environment.name,
        observations=observations[kept],
        actions=actions[kept].astype(np.int32 if environment.spec.discrete else np.float32),
        rewards=after.rewards[kept].astype(np.float32),
        masks=1 - after.terminated[kept].astype(np.float32),
        terminals=ends[kept],
        next_observations=after.observations[kept],
        action_low=environment.action_low,
        action_high=environment.action_high,
        num_actions=environment.spec.num_actions,
    )
    return validate(dataset, f"recorded in {environment.name}")
