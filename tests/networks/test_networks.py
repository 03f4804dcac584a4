"""Tests of encoders and of the distributions that policies return."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from valuelab import platforms
from valuelab.errors import InputError
from valuelab.networks import encoders
from valuelab.networks.encoders import Impala, patches
from valuelab.networks.mlp import LayerNorm
from valuelab.networks.policies import (
    Categorical,
    ClippedDeterministic,
    ClippedGaussian,
    Deterministic,
    Gaussian,
)
from valuelab.types import Spec


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
    images = random.normal(size=(2, 12, 15, 3)).astype(
        np.float32
    )  # 15: pixels that no window reaches are ignored
    kernel = random.normal(size=(size, size, 3, 5)).astype(np.float32)
    expected = jax.lax.conv_general_dilated(
        images, kernel, (stride, stride), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    if size % stride == 0:
        # Patches run over blocks of stride x stride pixels first, then over the pixels of a block.
        kernel = kernel.reshape(size // stride, stride, size // stride, stride, 3, 5).swapaxes(1, 2)
    product = patches(jnp.asarray(images), size, stride) @ kernel.reshape(-1, 5)
    np.testing.assert_allclose(product, expected, rtol=1e-4, atol=1e-4)


def convolved(images, layer):
    numbers = ("NHWC", "HWIO", "NHWC")
    products = jax.lax.conv_general_dilated(
        images, layer["kernel"], (1, 1), "SAME", dimension_numbers=numbers
    )
    return np.asarray(products) + layer["bias"]


@pytest.mark.parametrize("platform", ["cpu", "gpu"])
def test_impala_is_that_of_its_equations(platform):
    """Stack: h = pool(conv(x)), h + conv(relu(conv(relu(h)))). Then gelu(W relu(h) + b)."""
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (2, 12, 15, 3)).astype(np.uint8)  # 12, 6, 3 and 15, 8, 4: even and odd
    network = Impala()
    params = jax.eval_shape(network.init, jax.random.key(0), images)
    params = jax.tree.map(lambda leaf: random.normal(0, 0.2, leaf.shape).astype(np.float32), params)
    layers = params["params"]
    hidden, number = images.astype(np.float32) / 255, iter(range(9))

    def next_convolution(inputs):
        return convolved(inputs, layers[f"PaddedConvolution_{next(number)}"])

    for width in (16, 32, 32):
        hidden = next_convolution(hidden)
        assert hidden.shape[-1] == width
        window = ((1, 3, 3, 1), (1, 2, 2, 1))
        hidden = jax.lax.reduce_window(jnp.asarray(hidden), -jnp.inf, jax.lax.max, *window, "SAME")
        hidden += next_convolution(nn.relu(next_convolution(nn.relu(hidden))))
    last = layers["Dense_0"]
    expected = nn.gelu(np.asarray(nn.relu(hidden)).reshape(2, -1) @ last["kernel"] + last["bias"])
    with platforms.tracing_for(platform):
        features = jax.jit(network.apply)(params, images)
    np.testing.assert_allclose(features, expected, rtol=1e-4, atol=1e-4)
    assert expected.shape == (2, 512)


@pytest.mark.parametrize("platform", ["cpu", "gpu"])
def test_the_layer_norm_of_each_platform_is_that_of_flax(platform):
    inputs = 3 + jax.random.normal(jax.random.key(0), (4, 5, 16))
    variables = {"params": {"scale": jnp.linspace(-1, 2, 16), "bias": jnp.linspace(1, 0, 16)}}
    with platforms.tracing_for(platform):
        outputs = LayerNorm().apply(variables, inputs)
    np.testing.assert_allclose(outputs, nn.LayerNorm().apply(variables, inputs), rtol=1e-4, atol=1e-5)


def test_images_are_encoded_by_impala_unless_another_is_named():
    images, vectors = (Spec(shape, "uint8", 1, 0, 0.0, 1.0) for shape in ((16, 16, 3), (4,)))
    assert encoders.choose(None, images) is Impala
    assert encoders.choose(None, images, default="drq") is encoders.choose("drq", images) is encoders.DrQ
    assert encoders.choose(None, vectors) is None


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("drq", (4,), "encoder is drq, but observations are vectors of 4 numbers, which need none"),
        ("resnet", (16, 16, 3), "unknown encoder 'resnet'"),
        ("dqn", (36, 35, 3), "images of 36 x 35 pixels, but encoder dqn needs at least 36 x 36"),
        ("drq", (14, 15, 3), "images of 14 x 15 pixels, but encoder drq needs at least 15 x 15"),
        (None, (3, 4), r"observations have shape \(3, 4\), but agents take vectors, or images"),
    ],
)
def test_observations_that_an_encoder_does_not_take_are_refused(name, shape, message):
    spec = Spec(shape, "uint8", 1, 0, 0.0, 1.0)
    with pytest.raises(InputError, match=message):
        encoders.choose(name, spec)
