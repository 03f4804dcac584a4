"""DDPG+BC: climb Q with the policy's own action while staying near the data's.

    L = -E[Q(s, μ(s))] / |Q| - α · E[log π(a | s)],   |Q| = stop_grad(E[|Q(s, μ(s))|])

μ(s) is the distribution's most likely action; the critic is constant, its gradient in the action is not.
The division makes α mean the same whatever the scale of the rewards.

Source: Fujimoto, Gu 2021 (arXiv:2106.06860), equations 3 and 5, with the behaviour-cloning term as a
likelihood; Park et al. 2024 (arXiv:2406.09329) for its use on IQL's critics.
"""

import dataclasses

import jax
import jax.numpy as jnp

from valuelab.configuration import setting
from valuelab.networks.policies import Distribution
from valuelab.policies.parametric import ParametricConfig, parametric_policy
from valuelab.types import Array, Estimates, Metrics, Policy, Spec, Transitions


@dataclasses.dataclass(frozen=True, kw_only=True)
class DDPGBCConfig(ParametricConfig):
    """Hyperparameters of DDPG+BC."""

    bc_weight: float = setting(1.0, "[0, inf)", "Weight α of behaviour cloning, at least 0.")


def ddpg_bc(config: DDPGBCConfig, spec: Spec) -> Policy:
    """A policy extracted by the gradient of Q in its action, so only for continuous actions.

    Args:
        config: hyperparameters; numeric ones may be traced.
        spec: of the data.

    Returns:
        The policy.
    """

    def loss(distribution: Distribution, batch: Transitions, estimates: Estimates) -> tuple[Array, Metrics]:
        q_values = estimates.q(batch.observations, distribution.mode())
        q_scale = jax.lax.stop_gradient(jnp.mean(jnp.abs(q_values)))
        log_probs = distribution.log_prob(batch.actions)
        q_loss = -jnp.mean(q_values) / jnp.maximum(q_scale, 1e-6)
        bc_loss = -config.bc_weight * jnp.mean(log_probs)
        return q_loss + bc_loss, {
            "q": jnp.mean(q_values),
            "bc_loss": bc_loss,
            "log_prob": jnp.mean(log_probs),
        }

    return parametric_policy("ddpg_bc", frozenset({"q", "q_gradient"}), config, spec, loss)
