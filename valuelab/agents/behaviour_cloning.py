"""Behaviour cloning: the data's actions by maximum likelihood, without a critic. Rewards play no part.

    L = -E[log π(a | s)]

With batches that carry goals the policy sees the goal beside the observation.
"""

from typing import Any

import jax.numpy as jnp

from valuelab.networks.policies import Distribution
from valuelab.ops.goals import join, with_goals
from valuelab.policies.parametric import ParametricConfig, parametric_policy
from valuelab.types import Agent, Array, Estimates, Key, Metrics, Spec, TrainState, Transitions


def behaviour_cloning(config: ParametricConfig, spec: Spec) -> Agent:
    """Builds the agent, which has no values.

    Args:
        config: hyperparameters; numeric ones may be traced.
        spec: of the data; its num_updates is the length of a cosine schedule.

    Returns:
        The agent.

    Raises:
        InputError: for a cosine schedule of unknown length.
    """

    def loss(distribution: Distribution, batch: Transitions, estimates: Estimates) -> tuple[Array, Metrics]:
        del estimates
        log_prob = jnp.mean(distribution.log_prob(batch.actions))
        return -log_prob, {"log_prob": log_prob}

    policy = parametric_policy("behaviour_cloning", frozenset(), config, spec, loss)

    def init(key: Key, example: Transitions) -> TrainState:
        return policy.init(key, with_goals(example, example.policy_goals))

    def update(state: TrainState, batch: Transitions) -> tuple[TrainState, Metrics]:
        return policy.update(state, with_goals(batch, batch.policy_goals), Estimates())

    def act(state: TrainState, observations: Any, key: Key, temperature: Array | float) -> Array:
        return policy.sample(state, join(observations), key, temperature, Estimates())

    return Agent(init=init, update=update, act=act)
