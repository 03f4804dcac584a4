"""The properties that distributional dynamic programming needs of an objective to find its optimum."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from valuelab.distributional.functionals import Functional, Utility
from valuelab.errors import InputError
from valuelab.types import Array


@dataclasses.dataclass(frozen=True)
class Properties:
    """The known properties of a functional K of return distributions; K = E f for expected utilities.

    Attributes:
        mixture_indifferent: mixing each of two distributions with a third never reverses their order.
        gamma_indifferent: scaling two distributions by one factor in (0, 1] never reverses their order.
        lipschitz: L with |K(ν) - K(ν')| ≤ L · W₁(ν, ν'), W₁ for the Euclidean metric; infinite if there is
            none.
        degree: d where f(λx) - f(λy) = λᵈ (f(x) - f(y)) for every λ > 0, else None. So f is homogeneous of
            degree d, but for a constant. Scaling by λ then never reverses an order.
        reward_dim: the number m of reward components that K takes; None for any number.

    Raises:
        InputError: for a degree without gamma-indifference.

    Source: Pires et al. 2025 (arXiv:2501.13028), section 4.
    """

    mixture_indifferent: bool = True
    gamma_indifferent: bool = True
    lipschitz: float = math.inf
    degree: float | None = None
    reward_dim: int | None = 1

    def __post_init__(self) -> None:
        if self.degree is not None and not self.gamma_indifferent:
            raise InputError(
                f"degree is {self.degree:g}, but gamma_indifferent is False; a function with a degree is "
                "gamma-indifferent: give degree=None or gamma_indifferent=True"
            )


MAGNITUDES = (1e-6, 1e6)
"""The least and the greatest |x| at which properties are tested, unless others are given."""

_SAMPLES, _ATOMS = 20_000, 3
"""The number of distributions drawn for each test, and the number of atoms of each."""

_LINES, _POINTS = 64, 1500
"""The number of lines in R^m along which utilities are tested, m > 1, and of points on either side of 0."""

_FACTORS = (0.9, 0.5, 0.1)
"""The factors by which distributions and points are scaled."""

_ROUNDING = 1e-9
"""Numbers count as equal if their relative difference is at most this."""

_ZOOMS, _ZOOM = 4, 100
"""The number of times that the search for the steepest slope divides a cell, and the number of its parts."""

_GROWTH = 1.3
"""Slopes that grow by this factor again and again have no bound."""


def of_utility(
    utility: Utility,
    parameters: Mapping[str, Any] | None = None,
    reward_dim: int = 1,
    seed: int = 0,
    magnitudes: tuple[float, float] = MAGNITUDES,
) -> Properties:
    """Tests the properties of a utility at points of all magnitudes.

    Mixture-indifference holds for every expected utility. E f is gamma-indifferent if and only if f(λ·) is
    an increasing affine function of f for every λ (von Neumann and Morgenstern). For an f that is finite
    everywhere this means that it has a degree, see `Properties`. The points may miss a counterexample if f
    behaves differently only in a small region, or beyond the given magnitudes.

    Args:
        utility: f.
        parameters: of f.
        reward_dim: m.
        seed: of the lines in R^m along which f is tested, m > 1.
        magnitudes: the least and the greatest |x| that matter.

    Returns:
        The properties that no point contradicts. The Lipschitz constant is the steepest slope between points.
    """
    parameters = parameters or {}
    rng = np.random.default_rng(seed)
    with jax.enable_x64(True):

        def value(points: np.ndarray) -> np.ndarray:
            return np.asarray(utility(parameters, jnp.asarray(points)))

        directions = np.ones((1, 1)) if reward_dim == 1 else rng.normal(size=(_LINES, reward_dim))
        directions /= np.linalg.norm(directions, axis=-1, keepdims=True)
        positions = np.geomspace(*magnitudes, _POINTS)
        positions = np.concatenate([-positions[::-1], [0.0], positions])
        through = np.zeros_like(directions)
        degree = _degree(value, positions[:, None] * directions[:, None])
        if reward_dim > 1:  # lines that do not pass through 0 meet kinks elsewhere
            through = np.concatenate([through, rng.permuted(directions, axis=0)])
            through[_LINES:] *= np.geomspace(*magnitudes, _LINES)[:, None]
            directions = np.concatenate([directions, directions])
        lipschitz = math.inf
        if degree in (1, None):
            lipschitz = _steepest_slope(value, through, directions, positions)
    return Properties(
        gamma_indifferent=degree is not None, lipschitz=lipschitz, degree=degree, reward_dim=reward_dim
    )


def _degree(value: Callable[[np.ndarray], np.ndarray], points: np.ndarray) -> float | None:
    """The degree of f, see `Properties`, or None where points [L, n, m] show that it has none."""
    at_zero, values = value(np.zeros_like(points[:1, :1])), value(points)
    scaled = {factor: value(factor * points) for factor in _FACTORS}
    if not all(np.isfinite(each).all() for each in (at_zero, values, *scaled.values())):
        return None
    size, smaller = np.abs(values - at_zero).sum(), np.abs(scaled[_FACTORS[-1]] - at_zero).sum()
    if size == 0:
        return 1.0  # f is constant
    if smaller == 0:
        return None
    exact = abs(math.log(smaller / size, _FACTORS[-1]))

    def fits(degree: float) -> bool:
        for factor, each in scaled.items():
            power = factor**degree
            scale = np.abs(each) + power * np.abs(values) + (1 + power) * np.abs(at_zero)
            if (np.abs(each - at_zero - power * (values - at_zero)) > _ROUNDING * scale).any():
                return False
        return True

    return next((degree for degree in (round(exact, 6), exact) if fits(degree)), None)


def _steepest_slope(
    value: Callable[[np.ndarray], np.ndarray],
    through: np.ndarray,
    directions: np.ndarray,
    positions: np.ndarray,
) -> float:
    """The steepest slope of f along lines, infinite where slopes grow without bound.

    Near a point where f is not Lipschitz continuous, slopes grow as steps become shorter: the search divides
    the steepest cells of each line again and again. Far away, slopes may grow with the distance.

    Args:
        value: f.
        through: [L, m], a point of each line.
        directions: [L, m], unit vectors.
        positions: [n], rising, of the points on all lines, relative to `through`.

    Returns:
        The slope.
    """

    def slopes(positions: np.ndarray) -> np.ndarray:
        """The slopes [L, n - 1] between neighbouring positions [L, n], less the part due to rounding."""
        values = value(through[:, None] + positions[..., None] * directions[:, None])
        rounding = 8 * np.finfo(values.dtype).eps * (np.abs(values[:, 1:]) + np.abs(values[:, :-1]))
        with np.errstate(invalid="ignore"):
            found = np.maximum(np.abs(np.diff(values)) - rounding, 0) / np.diff(positions)
        return np.where(np.isfinite(found), found, np.inf)

    cells = np.tile(positions, (len(directions), 1))
    coarse = found = slopes(cells)
    for _ in range(_ZOOMS):
        # The point where f is steepest may lie in a neighbouring cell.
        steepest, last = found.argmax(1)[:, None], cells.shape[1] - 1
        low = np.take_along_axis(cells, np.maximum(steepest - 1, 0), 1)
        high = np.take_along_axis(cells, np.minimum(steepest + 2, last), 1)
        cells = low + (high - low) * np.linspace(0, 1, _ZOOM + 1)
        found = slopes(cells)
    far = positions[-1] * np.array([1.0, 1.1, 100.0, 110.0, 1e4, 1.1e4])
    grows = False
    for side in (far, -far[::-1]):
        outside = slopes(np.tile(side, (len(directions), 1)))[:, ::2].max(0)
        near, middle, furthest = outside if side is far else outside[::-1]
        grows |= bool(furthest > _GROWTH * middle > _GROWTH**2 * near or np.isinf(furthest))
    least, most = coarse.max(), max(coarse.max(), found.max())
    return math.inf if grows or most > 1.5 * least else float(most * (1 + _ROUNDING))


def of_functional(
    functional: Functional,
    parameters: Mapping[str, Any] | None = None,
    reward_dim: int = 1,
    seed: int = 0,
    magnitudes: tuple[float, float] = MAGNITUDES,
) -> Properties:
    """Tests the properties of a functional by samples of distributions.

    A counterexample among the samples is proof. The samples may miss a counterexample if K behaves
    differently only for a few distributions.

    Args:
        functional: K.
        parameters: of K.
        reward_dim: m.
        seed: of the samples.
        magnitudes: the least and the greatest |x| that matter.

    Returns:
        The properties that no sample contradicts. The Lipschitz constant is the steepest slope of the
        samples.
    """
    parameters, rng = parameters or {}, np.random.default_rng(seed)
    least, greatest = magnitudes

    def draw(scale: np.ndarray | float) -> tuple[Array, Array]:
        values = scale * rng.uniform(-1, 1, size=(_SAMPLES, _ATOMS, reward_dim))
        return jnp.asarray(values), jnp.asarray(rng.dirichlet(np.ones(_ATOMS), size=_SAMPLES))

    def draw_near(widths: np.ndarray) -> tuple[Array, Array]:
        return draw(widths * 10 ** rng.uniform(-1, 1, size=widths.shape))

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
        widths = np.exp(rng.uniform(np.log(least), np.log(greatest), size=(_SAMPLES, 1, 1)))
        one, two, third = draw_near(widths), draw_near(widths), draw_near(widths)
        order = score(*one), score(*two)
        mixture_indifferent = _keeps_order(order, (mixed(one, third), mixed(two, third)))
        gamma_indifferent = all(
            _keeps_order(order, (score(factor * one[0], one[1]), score(factor * two[0], two[1])))
            for factor in _FACTORS
        )
        # If K is not Lipschitz continuous, slopes increase for shorter steps, near 0 or elsewhere, or for
        # wider distributions.
        middle = 10 * math.sqrt(least * greatest)
        pairs = [
            ((1e2 * least, 1e2 * least), (1e-4 * least, 1e-4 * least)),
            ((middle, 1e-3 * middle), (middle, 1e-6 * middle)),
            ((1e-4 * greatest, 1e-6 * greatest), (1e2 * greatest, greatest)),
        ]
        slopes = [(slope(*near), slope(*far)) for near, far in pairs]
    bounded = all(math.isfinite(far) and far <= 2 * near for near, far in slopes)
    lipschitz = max(max(pair) for pair in slopes) if bounded else math.inf
    return Properties(
        mixture_indifferent=mixture_indifferent,
        gamma_indifferent=gamma_indifferent,
        lipschitz=lipschitz,
        degree=None,
        reward_dim=reward_dim,
    )


def _keeps_order(before: tuple[Array, Array], after: tuple[Array, Array]) -> bool:
    """Whether no pair reverses its order."""
    rounding = _ROUNDING * (jnp.abs(after[0]) + jnp.abs(after[1]))
    reversed_order = (before[0] >= before[1]) & (after[0] < after[1] - rounding)
    return not bool(reversed_order.any())
