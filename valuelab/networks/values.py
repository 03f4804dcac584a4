"""Value functions, whose output is a number, the logits of a histogram, or a factor of an inner product."""

import flax.linen as nn

from valuelab.networks.mlp import MLP, Activation, initializer, pairs
from valuelab.types import Array


class StateValue(nn.Module):
    """V(s).

    Attributes:
        hidden_dims: width of each hidden layer.
        layer_norm: whether hidden layers are normalised.
        activation: of each hidden layer.
        block_depth: number of layers of a residual block, see `MLP`; 0 for none.
        num_bins: number of bins of a histogram of values; 0 for the values themselves.
    """

    hidden_dims: tuple[int, ...]
    layer_norm: bool = False
    activation: Activation = "relu"
    block_depth: int = 0
    num_bins: int = 0

    @nn.compact
    def __call__(self, observations: Array) -> Array:
        """Maps observations [B, D] to values [B], or to logits [B, num_bins]."""
        layers = MLP(
            self.hidden_dims, self.layer_norm, activation=self.activation, block_depth=self.block_depth
        )
        outputs = nn.Dense(self.num_bins or 1, kernel_init=initializer)(layers(observations))
        return outputs if self.num_bins else outputs[:, 0]


class StateActionValue(nn.Module):
    """Q(s, a), for continuous actions or for discrete ones as one-hot vectors.

    Attributes:
        hidden_dims: width of each hidden layer.
        layer_norm: whether hidden layers are normalised.
        num_actions: number of discrete actions, 0 where actions are continuous.
        activation: see StateValue.
        block_depth: see StateValue.
        num_bins: see StateValue.
    """

    hidden_dims: tuple[int, ...]
    layer_norm: bool = False
    num_actions: int = 0
    activation: Activation = "relu"
    block_depth: int = 0
    num_bins: int = 0

    @nn.compact
    def __call__(self, observations: Array, actions: Array) -> Array:
        """Maps observations [B, D] and actions [B, A] or [B] to values [B], or to logits [B, num_bins]."""
        inputs = pairs(observations, actions, self.num_actions)
        return StateValue(
            self.hidden_dims, self.layer_norm, self.activation, self.block_depth, self.num_bins
        )(inputs)


class Factor(nn.Module):
    """φ(s), or φ(s, a) if actions are given: a vector whose inner product with another one is a value.

    Attributes:
        dim: d.
        hidden_dims: width of each hidden layer.
        layer_norm: whether hidden layers are normalised.
        num_actions: number of discrete actions, 0 where actions are continuous.
        activation: see StateValue.
    """

    dim: int
    hidden_dims: tuple[int, ...]
    layer_norm: bool = False
    num_actions: int = 0
    activation: Activation = "relu"

    @nn.compact
    def __call__(self, observations: Array, actions: Array | None = None) -> Array:
        """Maps observations [B, D], and actions [B, A] or [B] if given, to vectors [B, dim]."""
        inputs = observations if actions is None else pairs(observations, actions, self.num_actions)
        hidden = MLP(self.hidden_dims, self.layer_norm, activation=self.activation)(inputs)
        return nn.Dense(self.dim, kernel_init=initializer)(hidden)
