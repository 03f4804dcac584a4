"""Advantage-weighted regression: clone the data's actions, the better the more.

    L = -E[min(exp(β A(s, a)), w_max) · log π(a | s)]

Advantages are constants to this loss. Source: Kostrikov et al. 2021 (arXiv:2110.06169), equation 7.
"""

import dataclasses

import jax
import jax.numpy as jnp

from valuelab.configuration import setting
from valuelab.networks.policies import Distribution
from valuelab.ops.advantage import advantage_weights
from valuelab.policies.parametric import ParametricConfig, parametric_policy
from valuelab.types import Array, Estimates, Metrics, Policy, Spec, Transitions


@dataclasses.dataclass(frozen=True, kw_only=True)
class AWRConfig(ParametricConfig):
    """Hyperparameters of advantage-weighted regression."""

    inverse_temperature: float = setting(3.0, "[0, inf)", "Inverse temperature β, at least 0.")
    weight_max: float = setting(100.0, "(0, inf)", "Largest weight w_max of an action, positive.")


def awr(config: AWRConfig, spec: Spec) -> Policy:
    """A policy extracted by advantage-weighted regression; needs advantages alone.

    Args:
        config: hyperparameters; numeric ones may be traced.
        spec: of the data.

    Returns:
        The policy.
    """

    def loss(distribution: Distribution, batch: Transitions, estimates: Estimates) -> tuple[Array, Metrics]:
        advantages = jax.lax.stop_gradient(estimates.advantage(batch))
        weights = advantage_weights(advantages, config.inverse_temperature, config.weight_max)
        log_probs = distribution.log_prob(batch.actions)
        return -jnp.mean(weights * log_probs), {
            "advantage": jnp.mean(advantages),
            "weight": jnp.mean(weights),
            "log_prob": jnp.mean(log_probs),
        }

    return parametric_policy("awr", frozenset({"advantage"}), config, spec, loss)
