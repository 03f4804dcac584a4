"""Networks of the velocity fields of flows."""

from typing import Any, Literal

import flax.linen as nn
import jax.numpy as jnp

from valuelab.networks.mlp import MLP, Activation, initializer, pairs
from valuelab.ops.categorical import bin_edges, hl_gauss
from valuelab.ops.flow import fourier_embedding
from valuelab.types import Array

TimeEmbedding = Literal["fourier", "cosine"]
ValueEmbedding = Literal["categorical", "scalar"]


class ValueVelocity(nn.Module):
    """v(z, t | s, a) of a critic: z is a number on its path from noise to Q(s, a).

    The first layer is the sum of projections of (s, a), of z and of t. The first one is constant while z is
    integrated: `encode` computes it once for all steps, and once for all noise draws that share their action.
    `velocity` takes it.

    Attributes:
        hidden_dims: width of each hidden layer.
        layer_norm: whether hidden layers are normalised, after their activation.
        block_depth: number of layers of a residual block, see `MLP`; 0 for none.
        value_low: lower end of the range of z that its embedding distinguishes.
        value_high: upper end of this range.
        value_embedding: "categorical" for z as a soft histogram (HL-Gauss), or "scalar" for z in units of its
            range.
        num_bins: number of bins of the histogram.
        bin_width: σ of its Gaussian, in units of the bin width.
        time_embedding: "fourier", or "cosine" for the single number cos(t), as in the released floq code.
        time_size: number of components of the Fourier embedding.
        time_scale: Euclidean norm of the Fourier embedding.
        time_fastest: highest frequency of the Fourier embedding, in periods over the unit interval.
        num_actions: number of discrete actions, 0 where actions are continuous.
        activation: of each hidden layer.
    """

    hidden_dims: tuple[int, ...]
    layer_norm: bool
    block_depth: int
    value_low: Any
    value_high: Any
    value_embedding: ValueEmbedding
    num_bins: int
    bin_width: Any
    time_embedding: TimeEmbedding
    time_size: int
    time_scale: Any
    time_fastest: Any
    num_actions: int = 0
    activation: Activation = "gelu"

    def setup(self) -> None:
        """Makes the layers, which the methods share."""
        width = self.hidden_dims[0]
        self.state_layer = nn.Dense(width, kernel_init=initializer)
        self.value_layer = nn.Dense(width, use_bias=False, kernel_init=initializer)
        self.time_layer = nn.Dense(width, use_bias=False, kernel_init=initializer)
        self.hidden_layers = MLP(
            self.hidden_dims,
            self.layer_norm,
            activation=self.activation,
            block_depth=self.block_depth,
            projected=True,
        )
        self.output_layer = nn.Dense(1, kernel_init=initializer)

    def __call__(self, observations: Array, actions: Array, values: Array, times: Array) -> Array:
        """Maps observations [B, D], actions [B, A] or [B], z [B, m] and t [B, m] or scalar to v, [B, m]."""
        return self.velocity(self.encode(observations, actions[:, None]), values, times)

    def encode(self, observations: Array, actions: Array) -> Array:
        """Projects observations [B, D] and actions [B, n, A] or [B, n] to the first layer, [B, n, width].

        n is m for one action for each noise draw, and 1 for one action for all draws.
        """
        observations = jnp.broadcast_to(observations[:, None], (*actions.shape[:2], observations.shape[-1]))
        return self.state_layer(pairs(observations, actions, self.num_actions))

    def velocity(self, encoded: Array, values: Array, times: Array) -> Array:
        """Maps encoded pairs [B, n, width], z [B, m] and t [B, m] or scalar to velocities [B, m].

        Layers compute in the dtype of `encoded`, which must be that of the parameters. Velocities have the
        dtype of z.
        """
        hidden = encoded + self.value_layer(self._embed_values(values).astype(encoded.dtype))
        embedded_times = self.time_layer(self._embed_times(times).astype(encoded.dtype))
        hidden = hidden + jnp.expand_dims(embedded_times, range(hidden.ndim - embedded_times.ndim))
        # As rows [B m, width], whose layers XLA fuses best.
        outputs = self.output_layer(self.hidden_layers(hidden.reshape(-1, hidden.shape[-1])))
        return outputs.reshape(values.shape).astype(values.dtype)

    def _embed_values(self, values: Array) -> Array:
        if self.value_embedding == "scalar":
            return ((values - self.value_low) / (self.value_high - self.value_low))[..., None]
        return hl_gauss(values, bin_edges(self.value_low, self.value_high, self.num_bins), self.bin_width)

    def _embed_times(self, times: Array) -> Array:
        times = jnp.asarray(times)
        if self.time_embedding == "cosine":
            return jnp.cos(times)[..., None]
        return fourier_embedding(times, self.time_size, self.time_fastest, self.time_scale)


class ActionVelocity(nn.Module):
    """v(x, t | s) of a policy: x is a vector on its path from noise to an action.

    Attributes:
        action_dim: A.
        hidden_dims: width of each hidden layer.
        activation: of each hidden layer.
    """

    action_dim: int
    hidden_dims: tuple[int, ...]
    activation: Activation = "gelu"

    @nn.compact
    def __call__(self, observations: Array, points: Array, times: Array) -> Array:
        """Maps observations [B, D], x [B, A] and t [B, 1] to velocities [B, A]."""
        inputs = jnp.concatenate([observations, points, times], axis=-1)
        hidden = MLP(self.hidden_dims, activation=self.activation)(inputs)
        return nn.Dense(self.action_dim, kernel_init=initializer)(hidden)
