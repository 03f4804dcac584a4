"""Numbers as soft histograms (probabilities of bins), for inputs and for values learnt by classification.

Source: Imani, White 2018, arXiv:1806.04613 (HL-Gauss); Farebrother et al. 2024, arXiv:2403.03950, for values.
"""

import math

import chex
import jax
import jax.numpy as jnp
import numpy as np

from valuelab.types import Array


def bin_edges(low: Array | float, high: Array | float, num_bins: int) -> Array:
    """The edges of num_bins equal bins on [low, high], [num_bins + 1]."""
    return jnp.asarray(low + (high - low) * np.linspace(0, 1, num_bins + 1, dtype=jnp.result_type(float)))


def hl_gauss(values: Array, edges: Array, width: Array | float) -> Array:
    """The histogram of a Gaussian around each value.

        p_i ∝ Φ((e_{i+1} - x) / σ) - Φ((e_i - x) / σ),   Σ_i p_i = 1

    The histogram is normalised, so mass outside the edges is distributed in proportion. Values outside the
    edges are clipped.

    Args:
        values: x, [...].
        edges: e, evenly spaced, [n + 1].
        width: σ > 0, in units of the bin width.

    Returns:
        p, [..., n].
    """
    chex.assert_rank(edges, 1)
    clipped = jnp.clip(values, edges[0], edges[-1])[..., None]
    unit = math.sqrt(2) * width * (edges[1] - edges[0])
    scaled = (jnp.expand_dims(edges, range(values.ndim)) - clipped) / unit
    mass = jnp.diff(jax.lax.erf(scaled), axis=-1)  # 2 Φ(√2 x) = 1 + erf(x)
    return mass / jnp.sum(mass, axis=-1, keepdims=True)


def expected_value(probabilities: Array, edges: Array) -> Array:
    """The mean Σ_i p_i (e_i + e_{i+1}) / 2 of histograms [..., n], [...]."""
    centers = (edges[:-1] + edges[1:]) / 2
    return jnp.sum(probabilities * jnp.expand_dims(centers, range(probabilities.ndim - 1)), axis=-1)
