"""Means of the tails of finite distributions."""

import jax.numpy as jnp

from valuelab.types import Array


def lower_tail(values: Array, probabilities: Array, tau: Array | float) -> Array:
    """The mean of the worst fraction τ of a distribution, exactly.

        CVaR_τ(X) = max_b { b + E[min(X - b, 0)] / τ }

    Args:
        values: [..., n].
        probabilities: [..., n], sum 1.
        tau: level in (0, 1], a scalar.

    Returns:
        [...].

    Source: Pires et al. 2025 (arXiv:2501.13028), section 5.
    """
    order = jnp.argsort(values, axis=-1)
    values = jnp.take_along_axis(values, order, axis=-1)
    probabilities = jnp.take_along_axis(probabilities, order, axis=-1)
    below = jnp.cumsum(probabilities, axis=-1) - probabilities
    return jnp.sum(values * jnp.clip(tau - below, 0, probabilities), axis=-1) / tau


def upper_tail(values: Array, probabilities: Array, tau: Array | float) -> Array:
    """The mean of the best fraction τ of a distribution, min_b { b + E[max(X - b, 0)] / τ }: see `lower_tail`."""
    return -lower_tail(-values, probabilities, tau)
