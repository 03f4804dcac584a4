"""What an objective must be like for distributional dynamic programming to find its optimum."""

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
    """What is known of a functional K of return distributions; K = E f for expected utilities.

    Attributes:
        mixture_indifferent: mixing each of two distributions with a third never turns their order round.
        gamma_indifferent: scaling two distributions by one factor in (0, 1] never turns their order round.
        lipschitz: |K(ν) - K(ν')| ≤ lipschitz · W₁(ν, ν'), W₁ for the Euclidean metric; infinite if none.
        degree: d where f(λx) = λᵈ f(x) for every λ > 0, else None.
        reward_dim: the number m of reward components that K takes; None if any.

    Source: Pires et al. 2025 (arXiv:2501.13028), section 4.
    """

    mixture_indifferent: bool = True
    gamma_indifferent: bool = True
    lipschitz: float = math.inf
    degree: float | None = None
    reward_dim: int | None = 1


_SAMPLES, _ATOMS = 20_000, 3
"""Laws drawn for each test, and the atoms of each."""

_FACTORS = (0.9, 0.5, 0.1)
"""By which laws and points are scaled."""

_ROUNDING = 1e-9
"""Relative differences up to this are none."""


def of_utility(
    utility: Utility, parameters: Mapping[str, Any] | None = None, reward_dim: int = 1, seed: int = 0
) -> Properties:
    """Tests a utility by samples.

    Mixture-indifference holds for every expected utility. For the rest a counter-example that is found
    settles it; one that exists may be missed, where f departs from what it is elsewhere in a small place.

    Args:
        utility: f.
        parameters: of f.
        reward_dim: m.
        seed: of the samples.

    Returns:
        What no sample speaks against; the Lipschitz constant is the steepest slope met.
    """
    parameters = parameters or {}
    found = of_functional(functionals.expectation_of(utility), parameters, reward_dim, seed)
    with jax.enable_x64(True):
        points = jnp.asarray(np.random.default_rng(seed).normal(size=(_SAMPLES, reward_dim)))
        values = utility(parameters, points)
        scaled = [utility(parameters, factor * points) for factor in _FACTORS]
        size = jnp.abs(scaled[-1]).sum() / jnp.abs(values).sum()
        degree = abs(round(math.log(size, _FACTORS[-1]), 6)) if size > 0 else None
        homogeneous = degree is not None and all(
            _same(each, factor**degree * values) for each, factor in zip(scaled, _FACTORS, strict=True)
        )
    return dataclasses.replace(found, mixture_indifferent=True, degree=degree if homogeneous else None)


def of_functional(
    functional: Functional, parameters: Mapping[str, Any] | None = None, reward_dim: int = 1, seed: int = 0
) -> Properties:
    """Tests a functional by samples; as `of_utility`."""
    parameters, rng = parameters or {}, np.random.default_rng(seed)

    def laws(scale: np.ndarray | float) -> tuple[Array, Array]:
        values = scale * rng.uniform(-1, 1, size=(_SAMPLES, _ATOMS, reward_dim))
        return jnp.asarray(values), jnp.asarray(rng.dirichlet(np.ones(_ATOMS), size=_SAMPLES))

    def score(values: Array, probabilities: Array) -> Array:
        return functional(parameters, values, probabilities)

    def mixed(first: tuple[Array, Array], second: tuple[Array, Array]) -> Array:
        pairs = zip(first, second, strict=True)
        values, probabilities = (jnp.concatenate(pair, axis=1) for pair in pairs)
        return score(values, probabilities / 2)

    def slope(spread: float, step: float) -> float:
        """The steepest change of K met, over steps so long from laws so wide."""
        values, probabilities = laws(spread)
        steps = step * jnp.asarray(rng.uniform(-1, 1, size=values.shape))
        change = jnp.abs(score(values + steps, probabilities) - score(values, probabilities))
        distance = jnp.sum(probabilities * jnp.linalg.norm(steps, axis=-1), axis=-1)
        return float(jnp.max(change / distance))

    with jax.enable_x64(True):
        widths = 10 ** rng.uniform(-1, 1, size=(_SAMPLES, 1, 1))
        one, two, third = laws(widths), laws(widths), laws(widths)
        order = score(*one), score(*two)
        mixture_indifferent = _keeps(order, (mixed(one, third), mixed(two, third)))
        gamma_indifferent = all(
            _keeps(order, (score(factor * one[0], one[1]), score(factor * two[0], two[1])))
            for factor in _FACTORS
        )
        # A law without a bound on its slope shows by steeper ones for shorter steps, about 0 or elsewhere, or
        # farther out.
        pairs = [((1e-4, 1e-4), (1e-6, 1e-6)), ((10.0, 1e-2), (10.0, 1e-3)), ((100.0, 1.0), (1000.0, 1.0))]
        slopes = [(slope(*near), slope(*far)) for near, far in pairs]
    bounded = all(far <= 2 * near for near, far in slopes)
    lipschitz = max(max(pair) for pair in slopes) if bounded else math.inf
    return Properties(mixture_indifferent, gamma_indifferent, lipschitz, None, reward_dim)


def _same(first: Array, second: Array) -> bool:
    return bool(jnp.allclose(first, second, rtol=_ROUNDING, atol=_ROUNDING * float(jnp.abs(second).max())))


def _keeps(before: tuple[Array, Array], after: tuple[Array, Array]) -> bool:
    """Whether no pair's order is turned round."""
    rounding = _ROUNDING * (jnp.abs(after[0]) + jnp.abs(after[1]))
    turned = (before[0] >= before[1]) & (after[0] < after[1] - rounding)
    return not bool(turned.any())
