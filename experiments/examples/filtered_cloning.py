r"""Filtered cloning: an agent in ten lines, of IQL's critic and a policy loss of its own.

    python -m experiments.train --agent=experiments/examples/filtered_cloning.py --agent.expectile=0.9 \
      --dataset=ogbench/pointmaze-medium-navigate-singletask-v0 --workdir=runs/filtered

The policy clones the actions that are better than average:

    L = -E[1(A(s, a) > 0) · log π(a | s)]
"""

import jax.numpy as jnp

from valuelab.agents.actor_critic import actor_critic
from valuelab.critics.expectile import ExpectileConfig as Config
from valuelab.critics.expectile import expectile_critic
from valuelab.policies.parametric import ParametricConfig, parametric_policy


def make_agent(config: Config, spec):
    """Builds the agent; numeric fields of the config may be traced."""

    def loss(distribution, batch, estimates):
        better = estimates.advantage(batch) > 0
        return -jnp.mean(better * distribution.log_prob(batch.actions)), {"better": jnp.mean(better)}

    policy = parametric_policy("filtered", frozenset({"advantage"}), ParametricConfig(), spec, loss)
    return actor_critic(expectile_critic(config, spec), policy)
