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
class WeightedConfig(ParametricConfig):
    """Hyperparameters of policies with weights of advantages."""

    weight_max: float = setting(100.0, "(0, inf)", "Largest weight w_max of an action, positive.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class AWRConfig(WeightedConfig):
    """Hyperparameters of advantage-weighted regression."""

    inverse_temperature: float = setting(3.0, "[0, inf)", "Inverse temperature β, at least 0.")


def weighted_cloning(
    distribution: Distribution,
    targets: Array,
    advantages: Array,
    inverse_temperature: Array | float,
    weight_max: Array | float,
) -> tuple[Array, Metrics]:
    """The loss of advantage-weighted regression, and its metrics.

    Args:
        distribution: over targets, at B observations.
        targets: [B, A] or [B], of the data.
        advantages: A of the targets, [B]; constants to the loss.
        inverse_temperature: β.
        weight_max: w_max.
    """
    advantages = jax.lax.stop_gradient(advantages)
    weights = advantage_weights(advantages, inverse_temperature, weight_max)
    log_probs = distribution.log_prob(targets)
    return -jnp.mean(weights * log_probs), {
        "advantage": jnp.mean(advantages),
        "weight": jnp.mean(weights),
        "log_prob": jnp.mean(log_probs),
    }


def awr(config: AWRConfig, spec: Spec) -> Policy:
    """A policy extracted by advantage-weighted regression; needs advantages alone.

    Args:
        config: hyperparameters; numeric ones may be traced.
        spec: of the data.

    Returns:
        The policy.
    """

    def loss(distribution: Distribution, batch: Transitions, estimates: Estimates) -> tuple[Array, Metrics]:
        advantages = estimates.advantage(batch)
        return weighted_cloning(
            distribution, batch.actions, advantages, config.inverse_temperature, config.weight_max
        )

    return parametric_policy("awr", frozenset({"advantage"}), config, spec, loss)
