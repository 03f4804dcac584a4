"""Multi-layer perceptrons and ensembles of networks."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from valuelab.types import Array

initializer = nn.initializers.variance_scaling(1.0, "fan_avg", "uniform")


class Dropout(nn.Module):
    """Dropout whose rate may be a traced array; active where a "dropout" key is given.

    Attributes:
        rate: share of units set to 0, in [0, 1); the static number 0 costs nothing.
    """

    rate: Any

    @nn.compact
    def __call__(self, inputs: Array) -> Array:
        """Drops units and scales up the rest; the identity without a "dropout" key."""
        is_off = isinstance(self.rate, int | float) and self.rate == 0
        if is_off or not self.has_rng("dropout"):
            return inputs
        keep = jax.random.bernoulli(self.make_rng("dropout"), 1 - self.rate, inputs.shape)
        return jnp.where(keep, inputs / (1 - self.rate), 0)


class MLP(nn.Module):
    """Dense layers, each followed by relu, then layer norm and dropout where asked for.

    Attributes:
        hidden_dims: width of each hidden layer.
        layer_norm: whether each hidden layer is normalised after its activation.
        dropout_rate: in [0, 1).
    """

    hidden_dims: tuple[int, ...]
    layer_norm: bool = False
    dropout_rate: Any = 0.0

    @nn.compact
    def __call__(self, inputs: Array) -> Array:
        """Maps [B, D] to [B, hidden_dims[-1]]."""
        hidden = inputs
        for width in self.hidden_dims:
            hidden = nn.relu(nn.Dense(width, kernel_init=initializer)(hidden))
            if self.layer_norm:
                hidden = nn.LayerNorm()(hidden)
            hidden = Dropout(self.dropout_rate)(hidden)
        return hidden


def ensemble(module: type[nn.Module], size: int) -> type[nn.Module]:
    """A module of `size` independent members that see the same inputs; outputs are stacked in front."""
    return nn.vmap(
        module,
        variable_axes={"params": 0},
        split_rngs={"params": True},
        in_axes=None,
        out_axes=0,
        axis_size=size,
    )
