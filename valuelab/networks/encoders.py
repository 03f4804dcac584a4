"""What turns observations into vectors."""

import flax.linen as nn
import jax.numpy as jnp

from valuelab.networks.mlp import initializer
from valuelab.types import Array


class Convolutions(nn.Module):
    """DQN's three convolutional layers: 32 of 8x8 with stride 4, 64 of 4x4 with stride 2, 64 of 3x3.

    Each is a matrix product with patches: inside a loop on CPUs, as in training, XLA's own convolutions and
    their gradients take ten times as long.

    Source: Mnih et al. 2015, "Human-level control through deep reinforcement learning", methods.
    """

    @nn.compact
    def __call__(self, images: Array) -> Array:
        """Maps images [B, H, W, channels], uint8, to features [B, F]; F is 3136 for 84 x 84."""
        hidden = images
        for width, size, stride in ((32, 8, 4), (64, 4, 2), (64, 3, 1)):
            seen = patches(hidden, size, stride)
            if seen.dtype == jnp.uint8:  # only now: bytes are quicker to move about
                seen = seen.astype(jnp.float32) / 255
            hidden = nn.relu(nn.Dense(width, kernel_init=initializer)(seen))
        return hidden.reshape(len(hidden), -1)


def patches(images: Array, size: int, stride: int) -> Array:
    """What a convolution without padding sees at each of its places.

    Blocks of stride x stride pixels become channels, and the convolution one of stride 1 over blocks.

    Args:
        images: [B, H, W, C].
        size: of the square window, a multiple of the stride.
        stride: between places.

    Returns:
        [B, H', W', size² C], H' = (H - size) // stride + 1, W' likewise.
    """
    count, *lengths, channels = images.shape
    height, width = (length // stride for length in lengths)
    blocks = images[:, : height * stride, : width * stride].reshape(
        count, height, stride, width, stride, channels
    )
    blocks = jnp.moveaxis(blocks, 2, 3).reshape(count, height, width, stride * stride * channels)
    beyond = size // stride - 1
    return jnp.concatenate(
        [
            blocks[:, row : height - beyond + row, column : width - beyond + column]
            for row in range(beyond + 1)
            for column in range(beyond + 1)
        ],
        axis=-1,
    )
