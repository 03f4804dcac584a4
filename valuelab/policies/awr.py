"""Advantage-weighted regression: clone the data's actions, the better the more.

    L = -E[min(exp(β A(s, a)), w_max) · log π(a | s)]

Advantages are constants to this loss. Source: Kostrikov et al. 2021 (arXiv:2110.06169), equation 7.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from valuelab.networks.policies import Distribution
from valuelab.ops.advantage import advantage_weights
from valuelab.policies.parametric import parametric_policy
from valuelab.types import Array, Estimates, Metrics, Policy, Transitions


def awr(
    network: nn.Module,
    optimizer: optax.GradientTransformation,
    *,
    inverse_temperature: Array | float,
    weight_max: Array | float,
) -> Policy:
    """A policy extracted by advantage-weighted regression; needs advantages alone.

    Args:
        network: maps observations to a Distribution.
        optimizer: of the network's parameters.
        inverse_temperature: β ≥ 0.
        weight_max: w_max > 0.

    Returns:
        The policy.
    """

    def loss(distribution: Distribution, batch: Transitions, estimates: Estimates) -> tuple[Array, Metrics]:
        advantages = jax.lax.stop_gradient(estimates.advantage(batch.observations, batch.actions))
        weights = advantage_weights(advantages, inverse_temperature, weight_max)
        log_probs = distribution.log_prob(batch.actions)
        return -jnp.mean(weights * log_probs), {
            "advantage": jnp.mean(advantages),
            "weight": jnp.mean(weights),
            "log_prob": jnp.mean(log_probs),
        }

    return parametric_policy("awr", frozenset({"advantage"}), network, optimizer, loss)
