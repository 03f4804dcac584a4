"""The properties that distributional dynamic programming needs of an objective to find its optimum."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from valuelab.distributional import functionals
from valuelab.distributional.functionals import Functional, Utility
from valuelab.types import Array


@dataclasses.dataclass(frozen=True)
class Properties:
    """The known properties of a functional K of return distributions; K = E f for expected utilities.

    Attributes:
        mixture_indifferent: mixing each of two distributions with a third never reverses their order.
        gamma_indifferent: scaling two distributions by one factor in (0, 1] never reverses their order.
        lipschitz: L with |K(ν) - K(ν')| ≤ L · W₁(ν, ν'), W₁ for the Euclidean metric; infinite if there is
            none.
        degree: d where f(λx) = λᵈ f(x) for every λ > 0, else None.
        reward_dim: the number m of reward components that K takes; None for any number.

    Source: Pires et al. 2025 (arXiv:2501.13028), section 4.
    """

    mixture_indifferent: bool = True
    gamma_indifferent: bool = True
    lipschitz: float = math.inf
    degree: float | None = None
    reward_dim: int | None = 1


_SAMPLES, _ATOMS = 20_000, 3
"""The number of distributions drawn for each test, and the number of atoms of each."""

_MAGNITUDES = (-3.0, 1.0)
"""The range of the decimal logarithm of samples, relative to the scale."""

_FACTORS = (0.9, 0.5, 0.1)
"""The factors by which distributions and points are scaled."""

_ROUNDING = 1e-9
"""Numbers count as equal if their relative difference is at most this."""


def of_utility(
    utility: Utility,
    parameters: Mapping[str, Any] | None = None,
    reward_dim: int = 1,
    seed: int = 0,
    scale: float = 1.0,
) -> Properties:
    """Tests the properties of a utility by samples.

    Mixture-indifference holds for every expected utility. For the other properties, a counterexample among
    the samples is proof. The samples may miss a counterexample if f behaves differently only in a small
    region.

    Args:
        utility: f.
        parameters: of f.
        reward_dim: m.
        seed: of the samples.
        scale: the largest |x| that matters, such as the greatest |return| of an MDP. The samples have all
            magnitudes from a thousandth of it to ten times it.

    Returns:
        The properties that no sample contradicts. The Lipschitz constant is the steepest slope of the
        samples.
    """
    parameters = parameters or {}
    found = of_functional(functionals.expectation_of(utility), parameters, reward_dim, seed, scale)
    with jax.enable_x64(True):
        rng = np.random.default_rng(seed)
        widths = scale * 10 ** rng.uniform(*_MAGNITUDES, size=(_SAMPLES, 1))
        points = jnp.asarray(widths * rng.normal(size=(_SAMPLES, reward_dim)))
        values = utility(parameters, points)
        scaled = [utility(parameters, factor * points) for factor in _FACTORS]
        size = jnp.abs(scaled[-1]).sum() / jnp.abs(values).sum()
        degree = abs(round(math.log(size, _FACTORS[-1]), 6)) if size > 0 else None
        homogeneous = degree is not None and all(
            _same(each, factor**degree * values) for each, factor in zip(scaled, _FACTORS, strict=True)
        )
    # A homogeneous f keeps every order under scaling; the samples would have shown a reversal.
    homogeneous = homogeneous and found.gamma_indifferent
    return dataclasses.replace(found, mixture_indifferent=True, degree=degree if homogeneous else None)


def of_functional(
    functional: Functional,
    parameters: Mapping[str, Any] | None = None,
    reward_dim: int = 1,
    seed: int = 0,
    scale: float = 1.0,
) -> Properties:
    """Tests the properties of a functional by samples; as `of_utility`."""
    parameters, rng = parameters or {}, np.random.default_rng(seed)

    def draw(scale: np.ndarray | float) -> tuple[Array, Array]:
        values = scale * rng.uniform(-1, 1, size=(_SAMPLES, _ATOMS, reward_dim))
        return jnp.asarray(values), jnp.asarray(rng.dirichlet(np.ones(_ATOMS), size=_SAMPLES))

    def score(values: Array, probabilities: Array) -> Array:
        return functional(parameters, values, probabilities)

    def mixed(first: tuple[Array, Array], second: tuple[Array, Array]) -> Array:
        pairs = zip(first, second, strict=True)
        values, probabilities = (jnp.concatenate(pair, axis=1) for pair in pairs)
        return score(values, probabilities / 2)

    def slope(spread: float, step: float) -> float:
        """The steepest change of K when atoms of distributions of the given spread move by up to `step`."""
        values, probabilities = draw(spread)
        steps = step * jnp.asarray(rng.uniform(-1, 1, size=values.shape))
        change = jnp.abs(score(values + steps, probabilities) - score(values, probabilities))
        distance = jnp.sum(probabilities * jnp.linalg.norm(steps, axis=-1), axis=-1)
        steepest = jnp.max(change / distance)
        return float(jnp.where(jnp.isnan(change).any(), jnp.inf, steepest))  # inf - inf: f has overflowed

    with jax.enable_x64(True):
        widths = scale * 10 ** rng.uniform(*_MAGNITUDES, size=(_SAMPLES, 1, 1))
        one, two, third = draw(widths), draw(widths), draw(widths)
        order = score(*one), score(*two)
        mixture_indifferent = _keeps_order(order, (mixed(one, third), mixed(two, third)))
        gamma_indifferent = all(
            _keeps_order(order, (score(factor * one[0], one[1]), score(factor * two[0], two[1])))
            for factor in _FACTORS
        )
        # If K is not Lipschitz continuous, slopes increase for shorter steps, near 0 or elsewhere, or for
        # wider distributions.
        pairs = [((1e-4, 1e-4), (1e-10, 1e-10)), ((10.0, 1e-2), (10.0, 1e-5)), ((100.0, 1.0), (1e8, 1e6))]
        slopes = [
            (slope(scale * near[0], scale * near[1]), slope(scale * far[0], scale * far[1]))
            for near, far in pairs
        ]
    bounded = all(math.isfinite(far) and far <= 2 * near for near, far in slopes)
    lipschitz = max(max(pair) for pair in slopes) if bounded else math.inf
    return Properties(
        mixture_indifferent=mixture_indifferent,
        gamma_indifferent=gamma_indifferent,
        lipschitz=lipschitz,
        degree=None,
        reward_dim=reward_dim,
    )


def _same(first: Array, second: Array) -> bool:
    return bool(jnp.allclose(first, second, rtol=_ROUNDING, atol=_ROUNDING * float(jnp.abs(second).max())))


def _keeps_order(before: tuple[Array, Array], after: tuple[Array, Array]) -> bool:
    """Whether no pair reverses its order."""
    rounding = _ROUNDING * (jnp.abs(after[0]) + jnp.abs(after[1]))
    reversed_order = (before[0] >= before[1]) & (after[0] < after[1] - rounding)
    return not bool(reversed_order.any())
