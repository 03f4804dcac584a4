"""Encoders of observations, and predictors of what is to come in their space."""

import flax.linen as nn
import jax.numpy as jnp

from valuelab.networks.encoders import DRQ, Convolutions, first_layer
from valuelab.networks.mlp import MLP
from valuelab.ops.factorizations import orthogonal
from valuelab.ops.latent import on_sphere
from valuelab.types import Array


class Encoder(nn.Module):
    """φ(s): a `first_layer`, then relu layers, and a linear one; linear alone without hidden layers.

    Of images it sees the features that DrQ's convolutions make.

    Attributes:
        hidden_dims: width of each hidden layer.
        dim: d.
        normalize: whether encodings are put on the sphere of radius √d.
    """

    hidden_dims: tuple[int, ...]
    dim: int
    normalize: bool = True

    @nn.compact
    def __call__(self, observations: Array) -> Array:
        """Maps observations [B, D], or images [B, H, W, channels], to encodings [B, d]."""
        hidden = Convolutions(DRQ)(observations) if observations.ndim == 4 else observations
        for index, width in enumerate(self.hidden_dims):
            hidden = (
                nn.relu(nn.Dense(width, kernel_init=orthogonal)(hidden))
                if index
                else first_layer(hidden, width)
            )
        encodings = nn.Dense(self.dim, kernel_init=orthogonal)(hidden)
        return on_sphere(encodings) if self.normalize else encodings


class Predictor(nn.Module):
    """T(x, a, z): embeddings of (x, z) and of (x, a) side by side, then relu layers and a linear one.

    Attributes:
        hidden_dims: width of each hidden layer, and of the first layer of both embeddings; their second
            ones have half of it.
        dim: of the prediction.
    """

    hidden_dims: tuple[int, ...]
    dim: int

    @nn.compact
    def __call__(self, inputs: Array, actions: Array, latents: Array) -> Array:
        """Maps x [B, k], actions [B, A] and tasks [B, d] to [B, dim]."""
        width = self.hidden_dims[0]
        embeddings = []
        for others in (latents, actions):
            hidden = first_layer(jnp.concatenate([inputs, others], axis=-1), width)
            embeddings.append(nn.relu(nn.Dense(width // 2, kernel_init=orthogonal)(hidden)))
        hidden = jnp.concatenate(embeddings, axis=-1)
        for width in self.hidden_dims:
            hidden = nn.relu(nn.Dense(width, kernel_init=orthogonal)(hidden))
        return nn.Dense(self.dim, kernel_init=orthogonal)(hidden)


class StepPredictor(nn.Module):
    """P(x, a): what an action makes of an encoding.

    Attributes:
        hidden_dims: width of each hidden layer.
        dim: of the prediction.
    """

    hidden_dims: tuple[int, ...]
    dim: int

    @nn.compact
    def __call__(self, encodings: Array, actions: Array) -> Array:
        """Maps x [B, k] and actions [B, A] to [B, dim]."""
        hidden = MLP(self.hidden_dims)(jnp.concatenate([encodings, actions], axis=-1))
        return nn.Dense(self.dim, kernel_init=orthogonal)(hidden)
