"""Recording a dataset: the transitions of a policy in environments on the device."""

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
    """Records the transitions of a policy.

    Args:
        environment: N environments with scalar rewards.
        act: the behaviour policy, (observations [N, ...], key) -> actions [N] or [N, A], within bounds.
        num_steps: T, the steps of each environment; steps that begin an episode are not recorded.
        key: random key.

    Returns:
        A dataset in full storage of at most N T transitions, one environment after the other; the last
        episode of each environment is cut.

    Raises:
        InputError: when the transitions fail a check, as where rewards are vectors.
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
        none = jnp.zeros(environment.num_environments, bool)
        return jax.lax.scan(step, (simulation, observations, none), jnp.arange(num_steps))[1]

    steps = jax.tree.map(lambda leaf: np.swapaxes(np.asarray(leaf), 0, 1), simulate(reset_key))
    observations, actions, after, begins, ends = steps
    ends = ends.copy()
    ends[:, -1] = True
    kept = ~begins
    # Where the last step of an environment begins an episode, the step before it has ended the previous one.
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
        observation_parts=environment.spec.observation_parts,
    )
    return validate(dataset, f"recorded in {environment.name}")
