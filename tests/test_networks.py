"""Laws of the distributions that policies give."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from valuelab.networks.encoders import patches
from valuelab.networks.policies import (
    Categorical,
    ClippedDeterministic,
    ClippedGaussian,
    Deterministic,
    Gaussian,
)


@pytest.mark.parametrize(
    "distribution",
    [
        Gaussian(jnp.array([[0.5, -0.9]]), jnp.array([0.1, -2.0])),
        Deterministic(jnp.array([[0.5, -0.9]])),
        ClippedGaussian(jnp.array([[1.5, -0.9]]), jnp.array([0.1, -2.0])),
        ClippedDeterministic(jnp.array([[0.5, -3.0]])),
        Categorical(jnp.array([[0.1, 3.0, -1.0], [2.0, 0.0, 1.0]])),
    ],
    ids=lambda distribution: type(distribution).__name__,
)
def test_the_mode_is_what_temperature_0_gives_and_nothing_is_likelier(distribution):
    mode = distribution.mode()
    np.testing.assert_array_equal(distribution.sample(jax.random.key(0), 0.0), mode)
    for seed in range(5):
        other = distribution.sample(jax.random.key(seed), 1.0)
        assert (distribution.log_prob(other) <= distribution.log_prob(mode)).all()


@pytest.mark.parametrize(("size", "stride"), [(8, 4), (4, 2), (3, 1), (3, 2)])
def test_a_matrix_product_with_patches_is_a_convolution(size, stride):
    random = np.random.default_rng(0)
    images = random.normal(size=(2, 12, 15, 3)).astype(np.float32)  # 15: what no window reaches is left out
    kernel = random.normal(size=(size, size, 3, 5)).astype(np.float32)
    expected = jax.lax.conv_general_dilated(
        images, kernel, (stride, stride), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    if size % stride == 0:
        # Patches run over blocks of stride x stride pixels first, then over the pixels of a block.
        kernel = kernel.reshape(size // stride, stride, size // stride, stride, 3, 5).swapaxes(1, 2)
    product = patches(jnp.asarray(images), size, stride) @ kernel.reshape(-1, 5)
    np.testing.assert_allclose(product, expected, rtol=1e-4, atol=1e-4)
