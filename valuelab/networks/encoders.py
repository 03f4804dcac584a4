"""What turns observations into vectors."""

import flax.linen as nn
import jax.numpy as jnp

from valuelab.networks.mlp import initializer
from valuelab.types import Array


class Convolutions(nn.Module):
    """DQN's three convolutional layers: 32 of 8x8 with stride 4, 64 of 4x4 with stride 2, 64 of 3x3.

    Source: Mnih et al. 2015, "Human-level control through deep reinforcement learning", methods.
    """

    @nn.compact
    def __call__(self, images: Array) -> Array:
        """Maps images [B, H, W, channels], uint8, to features [B, F]; F is 3136 for 84 x 84."""
        hidden = images.astype(jnp.float32) / 255
        for width, size, stride in ((32, 8, 4), (64, 4, 2), (64, 3, 1)):
            convolution = nn.Conv(width, (size, size), stride, "VALID", kernel_init=initializer)
            hidden = nn.relu(convolution(hidden))
        return hidden.reshape(len(hidden), -1)
