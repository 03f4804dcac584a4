"""Weights of advantage-weighted regression."""

import chex
import jax.numpy as jnp

from valuelab.types import Array


def advantage_weights(
    advantages: Array, inverse_temperature: Array | float, weight_max: Array | float
) -> Array:
    """Exponentiated advantages, bounded above.

        w = min(exp(β A), w_max)

    The bound is applied to the exponent, so that the exponential cannot overflow.

    Args:
        advantages: [B].
        inverse_temperature: β ≥ 0, a scalar; 0 gives behaviour cloning.
        weight_max: w_max > 0, a scalar.

    Returns:
        [B], in (0, w_max].

    Source: Kostrikov et al. 2021 (arXiv:2110.06169), equation 7, with the bound in the authors' code.
    """
    chex.assert_rank(advantages, 1)
    chex.assert_type(advantages, float)
    return jnp.exp(jnp.minimum(inverse_temperature * advantages, jnp.log(weight_max)))
