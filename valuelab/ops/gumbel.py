"""Gumbel regression: a loss whose minimiser is a log-sum-exp, a soft maximum."""

import chex
import jax
import jax.numpy as jnp

from valuelab.types import Array


def gumbel_loss(errors: Array, temperature: Array | float, exponent_max: Array | float) -> Array:
    """Loss of a value v of which `errors` are q - v.

        z = min((q - v) / β, z_max),   L = e^-m (e^z - z - 1),   m = stop_grad(max(-1, max_B z))

    Without the bound z_max, the v with the least mean loss is β log E exp(q / β): for a large β the mean of
    q, for a small one its maximum. The factor e^-m, the same for the whole batch, keeps exponentials small;
    it does not move the minimum. Errors above β z_max have no gradient.

    Args:
        errors: q - v, [B].
        temperature: β > 0, in units of returns.
        exponent_max: z_max > 0.

    Returns:
        Losses, [B].

    Source: Garg, Hejna, Geist, Ermon 2023, arXiv:2301.02328; bound and factor as in the authors'
    github.com/Div99/XQL, offline/critic.py (gumbel_rescale_loss).
    """
    chex.assert_rank(errors, 1)
    chex.assert_type(errors, float)
    exponents = jnp.minimum(errors / temperature, exponent_max)
    largest = jax.lax.stop_gradient(jnp.maximum(jnp.max(exponents), -1.0))
    return jnp.exp(exponents - largest) - (exponents + 1) * jnp.exp(-largest)
