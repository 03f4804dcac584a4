"""Return distributions as N equally likely atoms: how far a predicted one is from sampled targets.

Atoms of scalar returns are learnt as quantiles. Vectors have no quantiles: their atoms are particles,
learnt by the energy distance, a proper score in any dimension (its expectation over sampled targets is
least at the law of the targets).
"""

from typing import Any

import chex
import jax
import jax.numpy as jnp

from valuelab.types import Array


def midpoints(num_quantiles: int) -> Array:
    """The levels whose quantiles approximate a law best in W₁: τ_i = (2i + 1) / 2N, shape [N].

    Source: Dabney, Rowland, Bellemare, Munos 2018 (arXiv:1710.10044), lemma 2.
    """
    return (jnp.arange(num_quantiles) + 0.5) / num_quantiles


def quantile_huber_loss(
    predictions: Array, targets: Array, kappa: Array | float, levels: Array | None = None
) -> Array:
    """Quantile regression of N quantiles towards N' sampled targets, smoothed around 0.

        Σ_i mean_j |τ_i - 1(u_ij < 0)| L_κ(u_ij) / κ,   u_ij = target_j - prediction_i
        L_κ(u) / κ = u² / 2κ where |u| ≤ κ, else |u| - κ / 2

    At κ = 0 this is the plain quantile loss, whose minimiser is the τ_i-quantile; κ > 0 draws the quantiles
    together by up to about κ. The pairs are reduced as they are formed, and the gradient beside the loss: no
    [B, N, N'] array is kept.

    Args:
        predictions: [B, N], the quantiles of the levels.
        targets: [B, N'], taken as constants (their gradient is stopped).
        kappa: κ ≥ 0, a scalar, in units of returns.
        levels: τ in (0, 1), [B, N], constants; None for `midpoints(N)`.

    Returns:
        [B].

    Source: Dabney et al. 2018 (arXiv:1710.10044), equations 9 and 10.
    """
    chex.assert_rank([predictions, targets], 2)
    chex.assert_equal_shape_prefix([predictions, targets], 1)
    chex.assert_type([predictions, targets], float)
    if levels is None:
        levels = jnp.broadcast_to(midpoints(predictions.shape[1])[None], predictions.shape)
    chex.assert_equal_shape([predictions, levels])
    return _pair_loss(predictions, jax.lax.stop_gradient(targets), jnp.asarray(kappa), levels)


@jax.custom_vjp
def _pair_loss(predictions: Array, targets: Array, kappa: Array, levels: Array) -> Array:
    return _loss_and_slopes(predictions, targets, kappa, levels)[0]


def _loss_and_slopes(predictions: Array, targets: Array, kappa: Array, levels: Array) -> tuple[Array, Array]:
    """The loss [B] and its derivative in the predictions [B, N]."""
    # Where kernels are launched one by one a loop is slow; on CPUs all pairs at once are, for want of cache.
    losses, slopes = jax.lax.platform_dependent(
        predictions, targets, kappa, levels, cpu=_target_by_target, default=_all_at_once
    )
    return jnp.sum(losses, axis=1) / targets.shape[1], slopes / targets.shape[1]


def _target_by_target(predictions: Array, targets: Array, kappa: Array, levels: Array) -> tuple[Array, Array]:
    def add(index: Array, sums: tuple[Array, Array]) -> tuple[Array, Array]:
        target = jax.lax.dynamic_index_in_dim(targets, index, axis=1)
        return jax.tree.map(jnp.add, sums, _towards(target, predictions, kappa, levels))

    return jax.lax.fori_loop(0, targets.shape[1], add, (jnp.zeros_like(predictions),) * 2)


def _all_at_once(predictions: Array, targets: Array, kappa: Array, levels: Array) -> tuple[Array, Array]:
    pairs = jax.vmap(_towards, (1, None, None, None))(targets[..., None], predictions, kappa, levels)
    return jax.tree.map(lambda terms: jnp.sum(terms, axis=0), pairs)


def _towards(target: Array, predictions: Array, kappa: Array, levels: Array) -> tuple[Array, Array]:
    """The loss of predictions [B, N] towards a target [B, 1] each, and its derivative in them, [B, N]."""
    errors = target - predictions
    sizes = jnp.abs(errors)
    inner = jnp.minimum(sizes, kappa)
    # Outside, inner = κ gives |u| - κ/2; inside, inner = |u| gives u²/2κ; and κ = 0 divides by no zero.
    divisor = jnp.maximum(kappa, jnp.finfo(errors.dtype).tiny)
    weights = jnp.where(errors < 0, 1 - levels, levels)
    huber = sizes - inner + jnp.square(inner) / (2 * divisor)
    return weights * huber, -weights * jnp.clip(errors / divisor, -1, 1)


def _forward(predictions: Array, targets: Array, kappa: Array, levels: Array) -> tuple[Array, Any]:
    loss, slopes = _loss_and_slopes(predictions, targets, kappa, levels)
    return loss, (slopes, targets, kappa, levels)


def _backward(residuals: Any, cotangents: Array) -> tuple[Array, ...]:
    slopes, *constants = residuals
    return cotangents[:, None] * slopes, *map(jnp.zeros_like, constants)


_pair_loss.defvjp(_forward, _backward)


def energy_loss(predictions: Array, targets: Array) -> Array:
    """The energy distance between two sets of particles, less the part without predictions.

        2 mean_ij ‖x_i - y_j‖ - mean_ii' ‖x_i - x_i'‖

    Args:
        predictions: [B, N, m], the x_i.
        targets: [B, N', m], the y_j, taken as constants (their gradient is stopped).

    Returns:
        [B]; the energy distance is this minus mean_jj' ‖y_j - y_j'‖, at least 0, and 0 only between equals.

    Source: Székely, Rizzo 2013, "Energy statistics: a class of statistics based on distances".
    """
    chex.assert_rank([predictions, targets], 3)
    chex.assert_equal_shape_prefix([predictions, targets], 1)
    chex.assert_equal_shape_suffix([predictions, targets], 1)
    chex.assert_type([predictions, targets], float)
    across = _mean_distance(predictions, jax.lax.stop_gradient(targets))
    return 2 * across - _mean_distance(predictions, predictions)


def _mean_distance(ones: Array, others: Array) -> Array:
    """Mean over pairs of ‖x_i - y_j‖, with gradient 0 where the two coincide, [B]."""
    squares = jnp.sum(jnp.square(ones[:, :, None] - others[:, None]), axis=-1)
    apart = squares > 0
    return jnp.mean(jnp.where(apart, jnp.sqrt(jnp.where(apart, squares, 1)), 0), axis=(1, 2))
