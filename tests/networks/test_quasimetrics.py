"""Quasimetrics: interval lengths against unions written out, their laws, and widths that are refused."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from valuelab.critics.quasimetric import QuasimetricConfig
from valuelab.errors import InputError
from valuelab.networks.quasimetrics import Quasimetric, interval_lengths, mrn


def union_length(x, y) -> float:
    """The length of the union of the intervals [x_i, max(x_i, y_i)], from piece to piece of the line."""
    pieces = itertools.pairwise(sorted({*x, *y}))
    return sum(b - a for a, b in pieces if any(x[i] <= a and b <= y[i] for i in range(len(x))))


def points(*shape: int) -> np.ndarray:
    """Random points, a third of them on a grid, where starts and ends often coincide."""
    random = np.random.default_rng(0)
    drawn = random.normal(size=shape)
    return np.where(random.random(shape) < 1 / 3, np.round(drawn), drawn).astype(np.float32)


def test_interval_lengths_are_those_of_the_unions():
    x, y = points(2, 300, 6)
    lengths = jax.jit(interval_lengths, static_argnums=2)(x, y, 3)
    assert lengths.shape == (300, 2)
    for row in range(300):
        for group in range(2):
            part = np.s_[row, 3 * group : 3 * group + 3]
            np.testing.assert_allclose(lengths[row, group], union_length(x[part], y[part]), atol=1e-5)


@pytest.mark.parametrize("kind", ["iqe", "mrn"])
def test_derivatives_are_those_of_differences(kind):
    with jax.enable_x64(True):
        random = np.random.default_rng(1)
        x, y, direction = random.normal(size=(3, 20, 8))
        params = {"params": {"alpha": jnp.float64(0.3)}} if kind == "iqe" else {}

        def distances(step):
            moved = x + step * direction, y - step * direction[:, ::-1]
            return Quasimetric(kind, 4).apply(params, *moved)

        slopes = jax.jvp(distances, (jnp.float64(0),), (jnp.float64(1),))[1]
        np.testing.assert_allclose(slopes, (distances(1e-6) - distances(-1e-6)) / 2e-6, atol=1e-7)
        # They are 0 from a point to itself, where roots and maxima have none.
        for gradient in jax.grad(lambda x, y: Quasimetric(kind, 4).apply(params, x, y).sum(), (0, 1))(x, x):
            np.testing.assert_array_equal(gradient, 0)


@pytest.mark.parametrize("kind", ["iqe", "mrn"])
@pytest.mark.parametrize("alpha", [-2.0, 0.0, 3.0])
def test_they_are_quasimetrics(kind, alpha):
    distance = Quasimetric(kind, 4)
    params = {"params": {"alpha": jnp.float32(alpha)}} if kind == "iqe" else {}
    x, y, z = points(3, 500, 8)
    between = jax.jit(lambda x, y: distance.apply(params, x, y))
    assert between(x, x).max() <= 1e-6
    assert between(x, y).min() >= -1e-5
    assert (between(x, z) <= between(x, y) + between(y, z) + 1e-4).all()
    assert (jnp.abs(between(x, y) - between(y, x)) > 0.1).mean() > 0.5


def test_the_reduction_begins_with_equal_weights_of_mean_and_maximum():
    distance, (x, y) = Quasimetric("iqe", 4), points(2, 5, 8)
    lengths = interval_lengths(x, y, 4)
    found, params = distance.init_with_output(jax.random.key(0), x, y)
    assert params == {"params": {"alpha": 0}}
    np.testing.assert_allclose(found, (lengths.mean(1) + lengths.max(1)) / 2, rtol=1e-6)
    assert Quasimetric("mrn", 4).init(jax.random.key(0), x, y) == {}


def test_mrn_is_that_of_its_equation():
    x, y = points(2, 5, 8)
    first, second = (x - y)[:, :4], (x - y)[:, 4:]
    expected = np.linalg.norm(first, axis=1) + np.maximum(second.max(1), 0)
    np.testing.assert_allclose(mrn(x, y), expected, rtol=1e-5, atol=1e-6)


def test_widths_that_cannot_be_divided_are_refused():
    with pytest.raises(InputError, match=r"^latent_dim is 7, but quasimetric mrn needs an even number"):
        QuasimetricConfig(quasimetric="mrn", latent_dim=7)
    with pytest.raises(
        InputError, match=r"^latent_dim is 12, but quasimetric iqe needs a multiple of group_size, 8"
    ):
        QuasimetricConfig(latent_dim=12)
    assert QuasimetricConfig(quasimetric="mrn", latent_dim=12).latent_dim == 12
