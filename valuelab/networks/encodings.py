"""Encoders of observations, and predictors of future encodings."""

import functools
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from valuelab.networks.encoders import DRQ, Convolutions, PartsEncoder, embedded, first_layer
from valuelab.networks.mlp import MLP, Activation, initializer
from valuelab.ops.factorizations import orthogonal, relu_orthogonal
from valuelab.ops.zero_shot import on_sphere
from valuelab.types import Array


class Encoder(nn.Module):
    """φ(s): a `first_layer`, relu layers, and a linear layer; only the linear layer if hidden_dims is ().

    Images, also those among several parts, first go through DrQ's convolutions.

    Attributes:
        hidden_dims: width of each hidden layer.
        dim: d.
        normalize: whether encodings are scaled to the sphere of radius √d.
    """

    hidden_dims: tuple[int, ...]
    dim: int
    normalize: bool = True

    @nn.compact
    def __call__(self, observations: Any) -> Array:
        """Maps observations [B, D], images [B, H, W, channels], or several parts, to encodings [B, d]."""
        hidden = observations
        if isinstance(observations, Mapping):
            hidden = PartsEncoder(functools.partial(Convolutions, DRQ))(observations)
        elif observations.ndim == 4:
            hidden = Convolutions(DRQ)(observations)
        for index, width in enumerate(self.hidden_dims):
            hidden = (
                nn.relu(nn.Dense(width, kernel_init=orthogonal)(hidden))
                if index
                else first_layer(hidden, width)
            )
        encodings = nn.Dense(self.dim, kernel_init=orthogonal)(hidden)
        return on_sphere(encodings) if self.normalize else encodings


class GoalEncoder(nn.Module):
    """φ(s, g) on the sphere of radius √d: hidden layers, a linear layer, and a scaling of its output.

    Attributes:
        hidden_dims: width of each hidden layer.
        dim: d.
        layer_norm: whether hidden layers are normalised.
        activation: of each hidden layer.

    Source: Park et al. 2023, "HIQL", arXiv:2307.11949, section 5.3.
    """

    hidden_dims: tuple[int, ...]
    dim: int
    layer_norm: bool = True
    activation: Activation = "gelu"

    @nn.compact
    def __call__(self, observations: Array) -> Array:
        """Maps observations joined with goals [B, D] to representations [B, d]."""
        hidden = MLP(self.hidden_dims, self.layer_norm, activation=self.activation)(observations)
        return on_sphere(nn.Dense(self.dim, kernel_init=initializer)(hidden))


class Predictor(nn.Module):
    """T(x, a, z): embeddings of (x, z) and (x, a), relu layers and a linear layer.

    Attributes:
        hidden_dims: width of each hidden layer, see `embedded`.
        dim: dimension of the prediction.
    """

    hidden_dims: tuple[int, ...]
    dim: int

    @nn.compact
    def __call__(self, inputs: Array, actions: Array, tasks: Array) -> Array:
        """Maps x [B, k], actions [B, A] and tasks [B, d] to [B, dim]."""
        pairs = [jnp.concatenate([inputs, others], axis=-1) for others in (tasks, actions)]
        hidden = embedded(pairs, self.hidden_dims, relu_orthogonal)
        return nn.Dense(self.dim, kernel_init=relu_orthogonal)(hidden)


class StepPredictor(nn.Module):
    """P(x, a), an encoding after an action: embeddings of (x, a) and x, relu layers and a linear layer.

    Attributes:
        hidden_dims: width of each hidden layer, see `embedded`.
        dim: dimension of the prediction.
    """

    hidden_dims: tuple[int, ...]
    dim: int

    @nn.compact
    def __call__(self, encodings: Array, actions: Array) -> Array:
        """Maps x [B, k] and actions [B, A] to [B, dim]."""
        pair = jnp.concatenate([encodings, actions], axis=-1)
        hidden = embedded([pair, encodings], self.hidden_dims, relu_orthogonal)
        return nn.Dense(self.dim, kernel_init=relu_orthogonal)(hidden)
