"""Utilities and functionals of return distributions: the maths of the objectives.

A utility f maps parameters and points [..., m] of stock plus return to [...]. A functional maps parameters,
values [..., n, m] and probabilities [..., n] of a finite distribution to [...]. They are named module-level
functions, or cached functions, so that equal objectives share their compiled programs.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from valuelab.types import Array

Parameters = Mapping[str, Any]
Utility = Callable[[Parameters, Array], Array]
Functional = Callable[[Parameters, Array, Array], Array]


@functools.cache
def expectation_of(utility: Utility) -> Functional:
    """The functional E f(X)."""

    def functional(parameters: Parameters, values: Array, probabilities: Array) -> Array:
        return jnp.sum(probabilities * utility(parameters, values), axis=-1)

    return functional


# Tails of finite distributions of scalars.


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
    """The mean of the best fraction τ, min_b { b + E[max(X - b, 0)] / τ }; arguments as in `lower_tail`."""
    return -lower_tail(-values, probabilities, tau)


# Utilities.


def identity(parameters: Parameters, points: Array) -> Array:
    """f(x) = x."""
    return points[..., 0]


def shortfall(parameters: Parameters, points: Array) -> Array:
    """f(x) = min(x, 0)."""
    return jnp.minimum(points[..., 0], 0)


def excess(parameters: Parameters, points: Array) -> Array:
    """f(x) = max(x, 0)."""
    return jnp.maximum(points[..., 0], 0)


def mean_and_shortfall(parameters: Parameters, points: Array) -> Array:
    """f(x) = w τ x + (1 - w) min(x, 0)."""
    weight, tau = parameters["weight"], parameters["tau"]
    return weight * tau * points[..., 0] + (1 - weight) * jnp.minimum(points[..., 0], 0)


def weighted_shortfalls(parameters: Parameters, points: Array) -> Array:
    """f(x) = Σᵢ wᵢ t/τᵢ min(xᵢ, 0), with t the least of the levels τ."""
    taus, weights = jnp.asarray(parameters["taus"], float), jnp.asarray(parameters["weights"], float)
    return jnp.minimum(points, 0) @ (weights * jnp.min(taus) / taus)


def minus_absolute(parameters: Parameters, points: Array) -> Array:
    """f(x) = -|x|."""
    return -jnp.abs(points[..., 0])


@functools.cache
def minus_distance(norm: float, weights: tuple[float, ...], power: float) -> Utility:
    """f(x) = -‖w ⊙ x‖ᵖ."""

    def utility(parameters: Parameters, points: Array) -> Array:
        deviations = jnp.einsum("...i,i->...i", points, jnp.asarray(weights, points.dtype))
        distances = jnp.linalg.norm(deviations, ord=norm, axis=-1)
        return -(distances**power)

    return utility


def reached(parameters: Parameters, points: Array) -> Array:
    """f(x) = 1(x ≥ 0). For rounding's sake, points above -ε^⅔ count as 0; ε is the machine epsilon."""
    return jnp.where(points[..., 0] >= -(jnp.finfo(points.dtype).eps ** (2 / 3)), 1.0, 0.0)


@functools.cache
def sum_of(first: Utility, second: Utility) -> Utility:
    """f(x) = (1 - w) f₁(x) + w f₂(x), each with its own parameters."""

    def utility(parameters: Parameters, points: Array) -> Array:
        weight = parameters["weight"]
        one, two = first(parameters["first"], points), second(parameters["second"], points)
        return (1 - weight) * one + weight * two

    return utility


# Functionals that are not the mean of a utility.


def entropic(parameters: Parameters, values: Array, probabilities: Array) -> Array:
    """(1/β) log E exp(β X)."""
    risk = parameters["risk"]
    return jax.nn.logsumexp(risk * values[..., 0], b=probabilities, axis=-1) / risk


def entropic_value_at_risk(parameters: Parameters, values: Array, probabilities: Array) -> Array:
    """EVaR_τ(X) = max over x ≥ 0 of -x log E exp(-X / x) + x log τ, which is concave in x."""
    penalty, possible = jnp.log(parameters["tau"]), probabilities > 0
    least = jnp.min(jnp.where(possible, values[..., 0], jnp.inf), axis=-1)
    above = jnp.where(possible, values[..., 0] - least[..., None], 0)

    def added(scale: Array) -> Array:
        scale = jnp.maximum(scale, jnp.finfo(above.dtype).tiny)
        shrunk = jnp.sum(probabilities * -jnp.expm1(-above / scale[..., None]), axis=-1)
        return scale * (penalty - jnp.log1p(-shrunk))

    last = jnp.sum(probabilities * above, axis=-1) / -penalty
    return least + jnp.maximum(added(greatest(added, jnp.zeros_like(last), last)), 0)


def greatest(function: Callable[[Array], Array], low: Array, high: Array) -> Array:
    """Where concave functions [...] are greatest between low and high [...], by golden-section search."""
    ratio = (5**0.5 - 1) / 2

    def narrow(_: int, ends: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = ends
        left, right = high - ratio * (high - low), low + ratio * (high - low)
        in_left = function(left) >= function(right)
        return jnp.where(in_left, low, left), jnp.where(in_left, right, high)

    low, high = jax.lax.fori_loop(0, 80, narrow, (low, high))
    return (low + high) / 2


def mean_variance(parameters: Parameters, values: Array, probabilities: Array) -> Array:
    """E X - w Var X."""
    points = values[..., 0]
    mean = jnp.sum(probabilities * points, axis=-1)
    squares = jnp.sum(probabilities * points**2, axis=-1)
    return mean - parameters["weight"] * (squares - mean**2)


def lower_cvar(parameters: Parameters, values: Array, probabilities: Array) -> Array:
    """CVaR_τ(X)."""
    return lower_tail(values[..., 0], probabilities, parameters["tau"])


def upper_cvar(parameters: Parameters, values: Array, probabilities: Array) -> Array:
    """-CVaR_τ(-X)."""
    return upper_tail(values[..., 0], probabilities, parameters["tau"])


def value_at_risk(parameters: Parameters, values: Array, probabilities: Array) -> Array:
    """VaR_τ(X), the greatest x with P(X ≥ x) ≥ 1 - τ."""
    points, tau = values[..., 0], parameters["tau"]
    order = jnp.argsort(points, axis=-1)
    points, chances = (jnp.take_along_axis(array, order, axis=-1) for array in (points, probabilities))
    reached = jnp.cumsum(chances[..., ::-1], axis=-1)[..., ::-1]
    return jnp.max(jnp.where(is_likely(reached, tau), points, -jnp.inf), axis=-1)


def is_likely(probabilities: Array, tau: Array | float) -> Array:
    """Whether probabilities are at least 1 - τ, within the rounding of sums."""
    return probabilities >= 1 - tau - jnp.finfo(probabilities.dtype).eps ** (2 / 3)


def mean_cvar(parameters: Parameters, values: Array, probabilities: Array) -> Array:
    """The weighted sum w E X + (1 - w) CVaR_τ(X)."""
    mean = jnp.sum(values[..., 0] * probabilities, axis=-1)
    tail = lower_tail(values[..., 0], probabilities, parameters["tau"])
    return parameters["weight"] * mean + (1 - parameters["weight"]) * tail


def spectral(parameters: Parameters, values: Array, probabilities: Array) -> Array:
    """Σᵢ wᵢ CVaR_τᵢ(Xᵢ)."""
    tails = jax.vmap(lower_tail, (-1, None, 0), -1)(
        values, probabilities, jnp.asarray(parameters["taus"], float)
    )
    return tails @ jnp.asarray(parameters["weights"], float)
