"""Value functions with one number as output."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from valuelab.networks.mlp import MLP, initializer
from valuelab.types import Array


class StateValue(nn.Module):
    """V(s).

    Attributes:
        hidden_dims: width of each hidden layer.
        layer_norm: whether hidden layers are normalised.
    """

    hidden_dims: tuple[int, ...]
    layer_norm: bool = False

    @nn.compact
    def __call__(self, observations: Array) -> Array:
        """Maps observations [B, D] to values [B]."""
        hidden = MLP(self.hidden_dims, self.layer_norm)(observations)
        return nn.Dense(1, kernel_init=initializer)(hidden)[:, 0]


class StateActionValue(nn.Module):
    """Q(s, a), for continuous actions or for discrete ones as one-hot vectors.

    Attributes:
        hidden_dims: width of each hidden layer.
        layer_norm: whether hidden layers are normalised.
        num_actions: number of discrete actions, 0 where actions are continuous.
    """

    hidden_dims: tuple[int, ...]
    layer_norm: bool = False
    num_actions: int = 0

    @nn.compact
    def __call__(self, observations: Array, actions: Array) -> Array:
        """Maps observations [B, D] and actions [B, A] or [B] to values [B]."""
        if self.num_actions:
            actions = jax.nn.one_hot(actions, self.num_actions)
        inputs = jnp.concatenate([observations, actions], axis=-1)
        return StateValue(self.hidden_dims, self.layer_norm)(inputs)
