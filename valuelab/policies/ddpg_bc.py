"""DDPG+BC: climb Q with the policy's own action while staying near the data's.

    L = -E[Q(s, μ(s))] / |Q| - α · E[log π(a | s)],   |Q| = stop_grad(E[|Q(s, μ(s))|])

μ(s) is the distribution's most likely action; the critic is constant, its gradient in the action is not.
The division makes α mean the same whatever the scale of the rewards.

Source: Fujimoto, Gu 2021 (arXiv:2106.06860), equations 3 and 5, with the behaviour-cloning term as a
likelihood; Park et al. 2024 (arXiv:2406.09329) for its use on IQL's critics.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from valuelab.networks.policies import Distribution
from valuelab.policies.parametric import parametric_policy
from valuelab.types import Array, Estimates, Metrics, Policy, Transitions


def ddpg_bc(
    network: nn.Module, optimizer: optax.GradientTransformation, *, bc_weight: Array | float
) -> Policy:
    """A policy extracted by the gradient of Q in its action, so only for continuous actions.

    Args:
        network: maps observations to a Distribution over continuous actions.
        optimizer: of the network's parameters.
        bc_weight: α ≥ 0.

    Returns:
        The policy.
    """

    def loss(distribution: Distribution, batch: Transitions, estimates: Estimates) -> tuple[Array, Metrics]:
        q_values = estimates.q(batch.observations, distribution.mode())
        q_scale = jax.lax.stop_gradient(jnp.mean(jnp.abs(q_values)))
        log_probs = distribution.log_prob(batch.actions)
        q_loss = -jnp.mean(q_values) / (q_scale + 1e-6)
        bc_loss = -bc_weight * jnp.mean(log_probs)
        return q_loss + bc_loss, {
            "q": jnp.mean(q_values),
            "bc_loss": bc_loss,
            "log_prob": jnp.mean(log_probs),
        }

    return parametric_policy("ddpg_bc", frozenset({"q", "q_gradient"}), network, optimizer, loss)
