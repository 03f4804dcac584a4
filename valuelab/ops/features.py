"""Statistics of a network's features: their rank, dormant units, norms, drift, and errors of linear fits.

Features are matrices [N, width], with one row for each input and one column for each unit.
"""

from collections import defaultdict
from typing import Any

import chex
import jax
import jax.numpy as jnp

from valuelab.ops.factorizations import singular_values, singular_vectors
from valuelab.types import Array


def effective_rank(features: Array, threshold: float = 0.99) -> Array:
    """The number of largest singular values that make up a given share of the sum of all.

        min {k : Σ_{i ≤ k} σ_i ≥ threshold · Σ_i σ_i}

    Args:
        features: [N, width].
        threshold: in (0, 1).

    Returns:
        int32 scalar, 0 if all features are 0.

    Source: Kumar et al. 2021, "Implicit Under-Parameterization Inhibits Data-Efficient Deep Reinforcement
    Learning", arXiv:2010.14498, section 3.
    """
    chex.assert_rank(features, 2)
    masses = jnp.cumsum(singular_values(features))
    return jnp.where(masses[-1] > 0, jnp.sum(masses < threshold * masses[-1]) + 1, 0)


def dormant_fraction(units: Array, threshold: float = 0.025) -> Array:
    """The share of units whose mean activity is small compared with the mean of their layer.

        E|h_i| ≤ threshold · mean_k E|h_k|

    Args:
        units: h, [N, width], after the activation and before any normalisation, which would hide inactive
            units.
        threshold: at least 0.

    Returns:
        Scalar in [0, 1].

    Source: Sokar et al. 2023, "The Dormant Neuron Phenomenon in Deep Reinforcement Learning",
    arXiv:2302.12902, definition 3.1.
    """
    chex.assert_rank(units, 2)
    activities = jnp.mean(jnp.abs(units), axis=0)
    return jnp.mean(activities <= threshold * jnp.mean(activities))


def feature_norm(features: Array) -> Array:
    """The mean length E ‖φ‖₂ of features [..., width]."""
    return jnp.mean(jnp.linalg.norm(features, axis=-1))


def norms(tree: Any) -> dict[str, Array]:
    """The Euclidean norm of all arrays of each layer.

    Args:
        tree: nested dictionaries of arrays: parameters, or gradients in the same structure.

    Returns:
        The layer's path, such as "field/state_layer", to a scalar.
    """
    squares: dict[str, Array] = defaultdict(lambda: jnp.zeros(()))
    for path, leaf in jax.tree.leaves_with_path(tree):
        place = [key for key in path[:-1] if key != jax.tree_util.DictKey("params")]
        squares[jax.tree_util.keystr(tuple(place), simple=True, separator="/")] += jnp.sum(jnp.square(leaf))
    return {place: jnp.sqrt(square) for place, square in squares.items()}


def feature_drift(earlier: Array, later: Array) -> Array:
    """The change of the similarities between inputs: 1 - CKA with a linear kernel.

        1 - ‖XᵀY‖² / (‖XᵀX‖ ‖YᵀY‖),   columns of X and Y centred

    It is invariant to rotations and to a common scale of the features, which the next layer can undo.

    Args:
        earlier: X, [N, width].
        later: Y for the same inputs, [N, width'].

    Returns:
        Scalar in [0, 1]; 0 for no change.

    Source: Kornblith et al. 2019, "Similarity of Neural Network Representations Revisited",
    arXiv:1905.00414, equation 3.
    """
    chex.assert_rank([earlier, later], 2)
    chex.assert_equal_shape_prefix([earlier, later], 1)
    x, y = (features - jnp.mean(features, axis=0)[None] for features in (earlier, later))
    scale = jnp.linalg.norm(x.T @ x) * jnp.linalg.norm(y.T @ y)
    return 1 - jnp.sum(jnp.square(x.T @ y)) / scale


def refit_error(features: Array, targets: Array, weights: Array | None = None, ridge: float = 1e-6) -> Array:
    """The error of a linear fit of targets to constant features, on inputs that were not fitted.

        w, b = argmin Σ_fit (y - w·φ - b)² + ridge · σ²_max ‖w‖²
        Σ_rest (y - w·φ - b)² / Σ_rest (y - mean of y)²

    Args:
        features: φ, [N, width], rows in random order: the first half is fitted, the rest is tested.
        targets: y, [N].
        weights: [N], 0 for rows to ignore, else 1; None to use all rows.
        ridge: in units of the largest squared singular value of the fitted rows.

    Returns:
        Scalar, at least 0; 1 is the error of predicting the mean. NaN if no row is left to test.

    Source: Lyle et al. 2022, "Understanding and Preventing Capacity Loss in Reinforcement Learning",
    arXiv:2204.09560, for the idea of fitting new targets from learnt features.
    """
    chex.assert_rank([features, targets], [2, 1])
    chex.assert_equal_shape_prefix([features, targets], 1)
    weights = jnp.ones_like(targets) if weights is None else weights
    half = len(targets) // 2
    (x, y, w), (x_rest, y_rest, w_rest) = (
        (features[part], targets[part], weights[part]) for part in (slice(None, half), slice(half, None))
    )
    total = jnp.maximum(jnp.sum(w), 1)
    x_mean, y_mean = w @ x / total, w @ y / total
    left, sizes, right = singular_vectors((x - x_mean[None]) * w[:, None])
    shrunk = sizes / jnp.maximum(
        jnp.square(sizes) + ridge * jnp.square(sizes[0]), jnp.finfo(sizes.dtype).tiny
    )
    slope = right.T @ (shrunk * (left.T @ ((y - y_mean) * w)))
    errors = y_rest - y_mean - (x_rest - x_mean[None]) @ slope
    spread = y_rest - w_rest @ y_rest / jnp.maximum(jnp.sum(w_rest), 1)
    return jnp.sum(w_rest * jnp.square(errors)) / jnp.sum(w_rest * jnp.square(spread))
