"""Expectile regression: the asymmetric square whose minimiser is an expectile."""

import chex
import jax.numpy as jnp

from valuelab.types import Array


def expectile_loss(errors: Array, expectile: Array | float) -> Array:
    """The asymmetric square, element by element.

        L_τ(u) = |τ - 1(u < 0)| u²

    At τ = 0.5 it is half the square; as τ -> 1 its minimiser tends to the largest target.

    Args:
        errors: u, target minus prediction, of any shape.
        expectile: τ in (0, 1), a scalar.

    Returns:
        Losses, of the shape of errors.

    Source: Kostrikov et al. 2021 (arXiv:2110.06169), equation 4.
    """
    return expectile_weights(errors, expectile) * jnp.square(errors)


def expectile_weights(errors: Array, expectile: Array | float) -> Array:
    """|τ - 1(u < 0)| of each error u; arguments as of `expectile_loss`."""
    chex.assert_type(errors, float)
    chex.assert_rank(expectile, 0)
    return jnp.where(errors < 0, 1 - expectile, expectile)
