"""Returns: bootstrapped after one step, or summed to the end of a trajectory."""

import chex
import jax
import jax.numpy as jnp

from valuelab.types import Array


def bootstrapped_target(rewards: Array, masks: Array, next_values: Array, discount: Array | float) -> Array:
    """The one-step temporal-difference target.

        y = r + γ · mask · V(s')

    Args:
        rewards: [B].
        masks: [B], 0 where the episode terminated at s', else 1.
        next_values: [B], V(s').
        discount: γ in [0, 1], a scalar.

    Returns:
        [B].
    """
    chex.assert_rank([rewards, masks, next_values], 1)
    chex.assert_equal_shape([rewards, masks, next_values])
    return rewards + discount * masks * next_values


def bootstrapped_targets(rewards: Array, masks: Array, next_values: Array, discount: Array | float) -> Array:
    """`bootstrapped_target` for N values of each successor, [B, N] -> [B, N]."""
    chex.assert_rank(next_values, 2)
    return jax.vmap(bootstrapped_target, (None, None, 1, None), 1)(rewards, masks, next_values, discount)


def monte_carlo_returns(
    rewards: Array, masks: Array, ends: Array, discount: Array | float
) -> tuple[Array, Array]:
    """The discounted return of every transition, without bootstrapping.

        G_i = r_i + γ · mask_i · G_{i+1},   w_i = γ · mask_i · w_{i+1}

    within a trajectory; after its end G = 0 and w = 1. If a trajectory was cut instead of terminated, G_i
    lacks w_i times the value of the last successor: G_i is known if w_i is small.

    Args:
        rewards: r, [N], trajectory after trajectory in time order.
        masks: [N], 0 where the episode terminated.
        ends: [N] bool, whether a transition is the last of its trajectory.
        discount: γ in [0, 1], a scalar.

    Returns:
        G, [N], and w in [0, 1], [N], which is 0 if the trajectory terminates.
    """
    chex.assert_rank([rewards, masks, ends], 1)
    chex.assert_equal_shape([rewards, masks, ends])
    factors = discount * masks
    within = jnp.where(ends, 0.0, factors)
    # Both recursions are x_i = added_i + within_i · x_{i+1}: affine maps, whose composition is associative.
    added = jnp.stack([rewards, factors - within])

    def compose(later: tuple[Array, Array], earlier: tuple[Array, Array]) -> tuple[Array, Array]:
        return earlier[0] * later[0], earlier[1] + earlier[0] * later[1]

    returns, missing = jax.lax.associative_scan(
        compose, (jnp.stack([within, within]), added), reverse=True, axis=1
    )[1]
    return returns, missing
