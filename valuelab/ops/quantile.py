"""Losses of return distributions with N equally likely atoms against sampled targets.

Atoms of scalar returns are learnt as quantiles. Vectors have no quantiles: their atoms are particles, learnt
with the energy distance. It is a proper score in any dimension: its expectation over sampled targets is
least at the distribution of the targets.
"""

import functools
from collections.abc import Callable
from typing import Any

import chex
import jax
import jax.numpy as jnp

from valuelab.types import Array


def midpoints(num_quantiles: int) -> Array:
    """The levels whose quantiles approximate a distribution best in W₁: τ_i = (2i + 1) / 2N, shape [N].

    Source: Dabney, Rowland, Bellemare, Munos 2018 (arXiv:1710.10044), lemma 2.
    """
    return (jnp.arange(num_quantiles) + 0.5) / num_quantiles


def quantile_huber_loss(
    predictions: Array, targets: Array, kappa: Array | float, levels: Array | None = None
) -> Array:
    """The quantile regression loss of N quantiles against N' sampled targets, smoothed around 0.

        Σ_i mean_j |τ_i - 1(u_ij < 0)| L_κ(u_ij) / κ,   u_ij = target_j - prediction_i
        L_κ(u) / κ = u² / 2κ where |u| ≤ κ, else |u| - κ / 2

    At κ = 0 this is the plain quantile loss, whose minimiser is the τ_i-quantile; κ > 0 moves the quantiles
    closer together by up to about κ. Loss and gradient are summed over targets as the pairs are formed, so no
    array [B, N, N'] is stored.

    Args:
        predictions: [B, N], the quantiles at the levels.
        targets: [B, N'], stop-gradiented.
        kappa: κ ≥ 0, a scalar, in units of returns.
        levels: τ in (0, 1), [B, N], stop-gradiented; None for `midpoints(N)`.

    Returns:
        [B].

    Source: Dabney et al. 2018 (arXiv:1710.10044), equations 9 and 10.
    """
    chex.assert_rank([predictions, targets], 2)
    chex.assert_equal_shape_prefix([predictions, targets], 1)
    chex.assert_type([predictions, targets], float)
    levels = midpoints(predictions.shape[1])[None] if levels is None else levels
    chex.assert_equal_rank([predictions, levels])
    losses = _sum_over_targets(_quantile_term, predictions, targets, (jnp.asarray(kappa), levels))
    return jnp.sum(losses, axis=1) / targets.shape[1]


def _quantile_term(target: Array, predictions: Array, constants: tuple[Array, Array]) -> tuple[Array, Array]:
    kappa, levels = constants
    errors = target[:, None] - predictions
    sizes = jnp.abs(errors)
    inner = jnp.minimum(sizes, kappa)
    # For |u| > κ, inner = κ gives |u| - κ/2; else inner = |u| gives u²/2κ. The divisor is never 0.
    divisor = jnp.maximum(kappa, jnp.finfo(errors.dtype).tiny)
    weights = jnp.where(errors < 0, 1 - levels, levels)
    huber = sizes - inner + jnp.square(inner) / (2 * divisor)
    return weights * huber, -weights * jnp.clip(errors / divisor, -1, 1)


def energy_loss(predictions: Array, targets: Array) -> Array:
    """The energy distance between two sets of particles, without its term that has no predictions.

        2 mean_ij ‖x_i - y_j‖ - mean_ii' ‖x_i - x_i'‖

    Args:
        predictions: [B, N, m], the x_i.
        targets: [B, N', m], the y_j, stop-gradiented.

    Returns:
        [B]. The energy distance is this minus mean_jj' ‖y_j - y_j'‖; it is at least 0, and 0 only if both
        distributions are equal.

    Source: Székely, Rizzo 2013, "Energy statistics: a class of statistics based on distances".
    """
    chex.assert_rank([predictions, targets], 3)
    chex.assert_equal_shape_prefix([predictions, targets], 1)
    chex.assert_equal_shape_suffix([predictions, targets], 1)
    chex.assert_type([predictions, targets], float)
    pairs = predictions.shape[1] * targets.shape[1]
    across = jnp.sum(_sum_over_targets(_distance_term, predictions, targets, ()), axis=1) / pairs
    # Each prediction occurs on both sides of a pair, but targets have no gradient: so it is doubled.
    within = _sum_over_targets(_distance_term, predictions, predictions, ())
    within = jnp.sum(2 * within - jax.lax.stop_gradient(within), axis=1) / predictions.shape[1] ** 2
    return 2 * across - within


def _distance_term(target: Array, predictions: Array, constants: tuple[()]) -> tuple[Array, Array]:
    """‖x_i - y‖ and its derivative, which is 0 where the two coincide."""
    differences = predictions - target[:, None]
    squares = jnp.sum(jnp.square(differences), axis=-1)
    apart = squares > 0
    distances = jnp.sqrt(squares)
    return distances, differences * jnp.where(apart, 1 / jnp.where(apart, distances, 1), 0)[..., None]


# Sums over targets, computed together with their gradients.

Term = Callable[[Array, Array, Any], tuple[Array, Array]]


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _sum_over_targets(term: Term, predictions: Array, targets: Array, constants: Any) -> Array:
    """Σ_j term(target_j, predictions), [B, N]; targets and constants have no gradient.

    Args:
        term: (target [B, ...], predictions [B, N, ...], constants) -> losses [B, N] and their derivatives in
            the predictions, of the predictions' shape.
        predictions: [B, N, ...].
        targets: [B, N', ...].
        constants: further arrays that the term takes.
    """
    return _sums(term, predictions, targets, constants)[0]


def _sums(term: Term, predictions: Array, targets: Array, constants: Any) -> tuple[Array, Array]:
    # A loop is slow on accelerators, which launch a kernel for each target. All pairs at once are slow on
    # CPUs, whose caches are too small.
    one_by_one, all_at_once = (functools.partial(way, term) for way in (_one_by_one, _all_at_once))
    return jax.lax.platform_dependent(predictions, targets, constants, cpu=one_by_one, default=all_at_once)


def _one_by_one(term: Term, predictions: Array, targets: Array, constants: Any) -> tuple[Array, Array]:
    def add(index: Array, sums: tuple[Array, Array]) -> tuple[Array, Array]:
        target = jax.lax.dynamic_index_in_dim(targets, index, axis=1, keepdims=False)
        return jax.tree.map(jnp.add, sums, term(target, predictions, constants))

    losses = jnp.zeros(predictions.shape[:2], predictions.dtype)
    return jax.lax.fori_loop(0, targets.shape[1], add, (losses, jnp.zeros_like(predictions)))


def _all_at_once(term: Term, predictions: Array, targets: Array, constants: Any) -> tuple[Array, Array]:
    terms = jax.vmap(term, (1, None, None))(targets, predictions, constants)
    return jax.tree.map(lambda pairs: jnp.sum(pairs, axis=0), terms)


def _forward(term: Term, predictions: Array, targets: Array, constants: Any) -> tuple[Array, Any]:
    losses, slopes = _sums(term, predictions, targets, constants)
    return losses, (slopes, targets, constants)


def _backward(term: Term, residuals: Any, cotangents: Array) -> tuple[Any, ...]:
    del term
    slopes, *constants = residuals
    spread = jnp.expand_dims(cotangents, range(cotangents.ndim, slopes.ndim))
    return spread * slopes, *jax.tree.map(jnp.zeros_like, constants)


_sum_over_targets.defvjp(_forward, _backward)
