"""Encoders of images and of several parts, and networks that take their features in place of observations."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from valuelab import platforms
from valuelab.errors import InputError, unknown
from valuelab.networks.mlp import LayerNorm, initializer
from valuelab.ops.factorizations import orthogonal
from valuelab.types import Array, ObservationPart, Params, Spec

EncoderName = Literal["impala_small", "drq", "dqn"]

DQN = ((32, 8, 4), (64, 4, 2), (64, 3, 1))
"""Layers of Mnih et al. 2015, "Human-level control through deep reinforcement learning", methods."""

DRQ = ((32, 3, 2), (32, 3, 1), (32, 3, 1), (32, 3, 1))
"""Layers of Yarats et al. 2021, "Image augmentation is all you need", arXiv:2004.13649, appendix B."""


class Convolutions(nn.Module):
    """Convolutional layers without padding, each followed by relu.

    Each is computed as a matrix product with patches: inside a loop on CPUs, as in training, XLA's own
    convolutions and their gradients take ten times as long.

    Attributes:
        layers: width, size of the square window and stride of each layer.
    """

    layers: tuple[tuple[int, int, int], ...] = DQN

    @nn.compact
    def __call__(self, images: Array) -> Array:
        """Maps images [B, H, W, channels], uint8, to features [B, F]; DQN gives F = 3136 for 84 x 84."""
        hidden = images
        for width, size, stride in self.layers:
            inputs = in_unit_range(patches(hidden, size, stride))  # in this order: bytes are faster to copy
            hidden = nn.relu(nn.Dense(width, kernel_init=initializer)(inputs))
        return hidden.reshape(hidden.shape[0], -1)

    @property
    def least_side(self) -> int:
        """The least height and width of images, in pixels."""
        side = 1
        for _, size, stride in reversed(self.layers):
            side = (side - 1) * stride + size
        return side


class DrQ(nn.Module):
    """DrQ's convolutions and trunk: a linear layer, layer norm and tanh.

    Attributes:
        dim: F.
    """

    dim: int = 50
    least_side = Convolutions(DRQ).least_side

    @nn.compact
    def __call__(self, images: Array) -> Array:
        """Maps images [B, H, W, channels] to features [B, F]."""
        return first_layer(Convolutions(DRQ)(images), self.dim)


class Impala(nn.Module):
    """IMPALA's residual network: stacks of a convolution, a pooling and residual blocks, then a layer.

    The defaults are OGBench's impala_small.

    Attributes:
        widths: number of channels of each stack.
        num_blocks: number of residual blocks of each stack.
        dim: F.

    Source: Espeholt et al. 2018, arXiv:1802.01561, figure 3 (right); Park et al. 2025, arXiv:2410.20092.
    """

    widths: tuple[int, ...] = (16, 32, 32)
    num_blocks: int = 1
    dim: int = 512
    least_side = 1

    @nn.compact
    def __call__(self, images: Array) -> Array:
        """Maps images [B, H, W, channels] to features [B, F]."""
        hidden = images
        for width in self.widths:
            hidden = max_pool(PaddedConvolution(width)(hidden))
            for _ in range(self.num_blocks):
                residual = PaddedConvolution(width)(nn.relu(hidden))
                hidden += PaddedConvolution(width)(nn.relu(residual))
        features = nn.relu(hidden).reshape(hidden.shape[0], -1)
        return nn.gelu(nn.Dense(self.dim, kernel_init=initializer)(features))


class PaddedConvolution(nn.Module):
    """A 3 x 3 convolution padded with zeros, which keeps the size of the image.

    On CPUs it is a matrix product with patches, see `Convolutions`. On accelerators it is XLA's convolution,
    because patches need nine times the image's memory.

    Attributes:
        width: number of output channels.
    """

    width: int

    @nn.compact
    def __call__(self, images: Array) -> Array:
        """Maps images [B, H, W, channels] to [B, H, W, width]."""
        channels = images.shape[-1]
        kernel = self.param("kernel", initializer, (3, 3, channels, self.width))
        bias = self.param("bias", nn.initializers.zeros, (self.width,))
        if platforms.on_cpu():
            padded = jnp.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)))
            outputs = in_unit_range(patches(padded, 3, 1)) @ kernel.reshape(-1, self.width)
        else:
            outputs = jax.lax.conv_general_dilated(
                in_unit_range(images), kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
            )
        return outputs + bias[None, None, None]


ENCODERS: dict[str, type[nn.Module]] = {"impala_small": Impala, "drq": DrQ, "dqn": Convolutions}
"""Name to encoder."""


class PartsEncoder(nn.Module):
    """The features of observations of several parts: those of each image, then all vectors, concatenated.

    Every image has an encoder with its own parameters. Vectors enter as they are.

    Attributes:
        encoder: () -> an encoder of images.
    """

    encoder: Callable[[], nn.Module]

    @nn.compact
    def __call__(self, observations: Mapping[str, Array]) -> Array:
        """Maps images [B, H, W, channels] and vectors [B, k], by name, to features [B, F]."""
        parts = [observations[name] for name in sorted(observations)]
        images = [self.encoder()(part) for part in parts if part.ndim == 4]
        return jnp.concatenate([*images, *(part for part in parts if part.ndim != 4)], axis=-1)


def batch_size(observations: Any) -> int:
    """B of observations, which are an array [B, ...] or a dictionary of such arrays."""
    return jax.tree.leaves(observations)[0].shape[0]


class WithEncoder(nn.Module):
    """A network that takes the features of an encoder in place of images or of several parts.

    Attributes:
        encoder: the encoder, shared by all ensemble members.
        network: the network, whose first input is a batch of vectors [B, F].
    """

    encoder: nn.Module
    network: nn.Module

    def __call__(self, observations: Any, *others: Any) -> Any:
        """Applies the network to encoded observations and its other inputs."""
        return self.network(self.encode(observations), *others)

    def encode(self, observations: Any) -> Array:
        """Maps images [B, H, W, channels], or several parts, to vectors [B, F].

        Vectors are returned unchanged, because they are encoded already.
        """
        encoded = not isinstance(observations, Mapping) and observations.ndim != 4
        return observations if encoded else self.encoder(observations)


class UnneededEncoderError(InputError):
    """An encoder of images is set, but observations are vectors; the message begins with the field's name."""


def choose(
    name: EncoderName | None, spec: Spec, default: EncoderName = "impala_small"
) -> Callable[[], nn.Module] | None:
    """What makes the encoder of a name.

    Args:
        name: None for the default.
        spec: the spec of the data.
        default: the name of the default encoder of images.

    Returns:
        () -> the encoder, a `PartsEncoder` for observations of several parts; None if observations are
        vectors.

    Raises:
        InputError: when the name is unknown, a name is given but observations are vectors, observations are
            neither vectors nor images, or images are too small.
    """
    shape, parts = spec.observation_shape, spec.observation_parts
    if len(shape) == 1 and not parts:
        if name is not None:
            raise UnneededEncoderError(
                f"encoder is {name}, but observations are vectors of {shape[0]} numbers, which need none: "
                "leave it out"
            )
        return None
    name = name or default
    if name not in ENCODERS:
        raise unknown("encoder", name, ENCODERS)
    check_images(spec, f"encoder {name}", ENCODERS[name]().least_side, ", or choose impala_small")
    return functools.partial(PartsEncoder, ENCODERS[name]) if parts else ENCODERS[name]


def check_images(spec: Spec, name: str, least_side: int, otherwise: str = "") -> None:
    """Raises unless observations, or those parts that are no vectors, are images large enough for an encoder.

    Args:
        spec: the spec of the data.
        name: the name of the encoder, for the message.
        least_side: the least height and width of images, in pixels.
        otherwise: other advice than larger images, for the message.

    Raises:
        InputError: when observations are not images, or images are too small.
    """
    whole = ObservationPart(name="", shape=spec.observation_shape, dtype=spec.observation_dtype)
    for part in spec.observation_parts or (whole,):
        what, shape = f"observations{part.name and f'[{part.name!r}]'}", part.shape
        if part.name and len(shape) == 1:
            continue
        if len(shape) != 3:
            raise InputError(
                f"{what} have shape {shape}, but agents take vectors, or images of shape (height, width, "
                "channels): flatten them, or wrap the environment"
            )
        if min(shape[:2]) < least_side:
            raise InputError(
                f"{what} are images of {shape[0]} x {shape[1]} pixels, but {name} needs at least "
                f"{least_side} x {least_side}: give larger images{otherwise}"
            )


def with_encoder(name: EncoderName | None, spec: Spec, network: nn.Module) -> nn.Module:
    """A network of vectors, with an encoder in front if observations are images or have several parts.

    Args:
        name: the name of the encoder of images; None for impala_small if there are images.
        spec: the spec of the data.
        network: the network, whose first input is a batch of vectors [B, D].

    Returns:
        The network itself if observations are vectors; else a `WithEncoder`.

    Raises:
        InputError: see `choose`.
    """
    encoder = choose(name, spec)
    return WithEncoder(encoder(), network) if encoder else network


def encode(network: nn.Module, params: Params, observations: Any) -> Array:
    """Observations encoded once, to be given to a network of `with_encoder` in their place, often."""
    if isinstance(network, WithEncoder):
        return network.apply(params, observations, method="encode")  # type: ignore[return-value]
    return observations


def first_layer(inputs: Array, width: int, kernel_init: Callable[..., Array] = orthogonal) -> Array:
    """A dense layer, layer norm and tanh: units do not saturate at the start, whatever the inputs' scale."""
    return nn.tanh(LayerNorm()(nn.Dense(width, kernel_init=kernel_init)(inputs)))


def embedded(
    inputs: Sequence[Array], hidden_dims: Sequence[int], kernel_init: Callable[..., Array] = orthogonal
) -> Array:
    """The last hidden layer of a network that embeds each of its inputs separately; for use inside a module.

    An embedding is a `first_layer` of the first width and a relu layer of half of it. Relu layers of all
    widths follow the joined embeddings.

    Args:
        inputs: [B, D_i] each.
        hidden_dims: width of each hidden layer.
        kernel_init: the initial weights.

    Returns:
        [B, hidden_dims[-1]].
    """
    embeddings = []
    for given in inputs:
        hidden = first_layer(given, hidden_dims[0], kernel_init)
        embeddings.append(nn.relu(nn.Dense(max(hidden_dims[0] // 2, 1), kernel_init=kernel_init)(hidden)))
    hidden = jnp.concatenate(embeddings, axis=-1)
    for width in hidden_dims:
        hidden = nn.relu(nn.Dense(width, kernel_init=kernel_init)(hidden))
    return hidden


def in_unit_range(pixels: Array) -> Array:
    """Maps uint8 to float32 in [0, 1]; returns other dtypes unchanged."""
    return pixels.astype(jnp.float32) / 255 if pixels.dtype == jnp.uint8 else pixels


def max_pool(images: Array) -> Array:
    """Max pooling of 3 x 3 windows with stride 2, padded with -∞.

    Args:
        images: [B, H, W, C].

    Returns:
        [B, ⌈H / 2⌉, ⌈W / 2⌉, C].
    """
    for axis in (1, 2):
        length = images.shape[axis]
        places = -(-length // 2)
        around = [(0, 0, 0)] * 4
        around[axis] = (length % 2, 1, 0)  # as TensorFlow's padding "SAME"
        padded = jax.lax.pad(images, -jnp.inf, around)
        first, second, third = (
            jax.lax.slice_in_dim(padded, start, start + 2 * places - 1, 2, axis) for start in range(3)
        )
        images = jnp.maximum(jnp.maximum(first, second), third)
    return images


def patches(images: Array, size: int, stride: int) -> Array:
    """The windows of a convolution without padding.

    If size is a multiple of stride, blocks of stride x stride pixels first become channels: the windows then
    have stride 1 over blocks.

    Args:
        images: [B, H, W, C].
        size: width of the square window, in pixels.
        stride: distance between windows, in pixels.

    Returns:
        [B, H', W', size² C], H' = (H - size) // stride + 1, W' likewise.
    """
    count, rows, columns, channels = images.shape
    height, width = ((length - size) // stride + 1 for length in (rows, columns))
    if size % stride:
        # With a batch of symbolic size, as in exported files, indexing would make gathers.
        windows = [
            jax.lax.slice(
                images,
                (0, row, column, 0),
                (count, min(row + stride * height, rows), min(column + stride * width, columns), channels),
                (1, stride, stride, 1),
            )
            for row in range(size)
            for column in range(size)
        ]
        return jnp.concatenate(windows, axis=-1)
    rows, columns = rows // stride, columns // stride
    blocks = images[:, : rows * stride, : columns * stride].reshape(
        count, rows, stride, columns, stride, channels
    )
    blocks = jnp.moveaxis(blocks, 2, 3).reshape(count, rows, columns, stride * stride * channels)
    return jnp.concatenate(
        [
            blocks[:, row : row + height, column : column + width]
            for row in range(size // stride)
            for column in range(size // stride)
        ],
        axis=-1,
    )
