"""Multi-layer perceptrons and ensembles of networks."""

import functools
from collections.abc import Callable
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from valuelab.types import Array, Layer

LAYERS = "intermediates"
"""The collection in which hidden layers are kept where `apply` is told that it is mutable."""

Activation = Literal["relu", "gelu"]

ACTIVATIONS: dict[Activation, Callable[[Array], Array]] = {"relu": nn.relu, "gelu": nn.gelu}


def scaled(scale: Any) -> nn.initializers.Initializer:
    """Draws a layer's weights uniformly; their variance is `scale` over the mean of its two widths."""
    return nn.initializers.variance_scaling(scale, "fan_avg", "uniform")


initializer = scaled(1.0)


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


class LayerNorm(nn.Module):
    """Numbers of mean 0 and variance 1 along the last axis, scaled and shifted.

        y = w (x - E x) / √(E x² - (E x)² + ε) + b

    It is flax's, with moments as products with vectors, in float32 whatever x is. For means XLA's CPU
    programs write out arrays of constants as large as x: integrating a flow critic takes a quarter longer.
    """

    @nn.compact
    def __call__(self, inputs: Array) -> Array:
        """Maps [..., D] to [..., D], of the same dtype."""
        width, leading = inputs.shape[-1], range(inputs.ndim - 1)
        scale = self.param("scale", nn.initializers.ones, (width,))
        bias = self.param("bias", nn.initializers.zeros, (width,))
        product = functools.partial(jnp.einsum, precision="highest", preferred_element_type=jnp.float32)
        mean = product("...i,i->...", inputs, jnp.ones(width, inputs.dtype))[..., None] / width
        square = product("...i,...i->...", inputs, inputs)[..., None] / width
        inverse = jax.lax.rsqrt(jnp.maximum(square - jnp.square(mean), 0) + 1e-6)
        outputs = (inputs - mean) * (inverse * jnp.expand_dims(scale, leading))
        return (outputs + jnp.expand_dims(bias, leading)).astype(inputs.dtype)


class MLP(nn.Module):
    """Dense layers, each followed by an activation, then layer norm and dropout where asked for.

    Attributes:
        hidden_dims: width of each hidden layer.
        layer_norm: whether each hidden layer is normalised after its activation.
        dropout_rate: in [0, 1).
        activation: of each hidden layer.
        block_depth: the first layer is followed by residual blocks of so many layers, to whose output their
            input is added; all widths are equal then. 0 for none.
        projected: whether inputs are what the first layer's weights give, so that it has none of its own:
            for inputs of several parts, of which some are projected once and used often.
    """

    hidden_dims: tuple[int, ...]
    layer_norm: bool = False
    dropout_rate: Any = 0.0
    activation: Activation = "relu"
    block_depth: int = 0
    projected: bool = False

    @nn.compact
    def __call__(self, inputs: Array) -> Array:
        """Maps [B, D] to [B, hidden_dims[-1]]."""
        hidden, skipped = inputs, None
        for index, width in enumerate(self.hidden_dims):
            if index > 0 or not self.projected:
                hidden = nn.Dense(width, kernel_init=initializer)(hidden)
            units = hidden = ACTIVATIONS[self.activation](hidden)
            if self.layer_norm:
                hidden = LayerNorm()(hidden)
            hidden = Dropout(self.dropout_rate)(hidden)
            if self.block_depth and index % self.block_depth == 0:
                hidden = skipped = hidden if skipped is None else hidden + skipped
            self.sow(LAYERS, f"layer_{index:03}", Layer(units, hidden))
        return hidden


def pairs(observations: Array, actions: Array, num_actions: int) -> Array:
    """Observations [B, D] beside actions [B, A]; num_actions discrete ones, [B], become one-hot."""
    if num_actions:
        actions = jax.nn.one_hot(actions, num_actions)
    return jnp.concatenate([observations, actions], axis=-1)


def ensemble(module: type[nn.Module], size: int) -> type[nn.Module]:
    """A module of `size` independent members that see the same inputs; outputs are stacked in front."""
    return nn.vmap(
        module,
        variable_axes={"params": 0, LAYERS: 0},
        split_rngs={"params": True},
        in_axes=None,
        out_axes=0,
        axis_size=size,
    )


def over_members(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function of each of E members, whose arguments and results are stacked in front.

    Accelerators compute all members together, under vmap. On a CPU they take turns, for the activations of
    one are nearer to what its caches hold: together, integrating a flow critic takes 1.2 times as long.
    """
    if jax.default_backend() == "cpu":
        return lambda *members: jax.lax.map(lambda member: function(*member), members)
    return jax.vmap(function)


def hidden_layers(variables: Any) -> dict[str, Layer]:
    """The hidden layers that E networks have gone through, in the order in which they stand in the network.

    Args:
        variables: what `apply(..., mutable=LAYERS)` gives beside the outputs; leaves [E, B, width], or
            [E, B, P, width] where each pair is seen in P places.

    Returns:
        "layer_1", "layer_2", ... to Layer.
    """
    found = jax.tree.leaves(variables, is_leaf=lambda node: isinstance(node, Layer))

    def by_place(leaf: Array) -> Array:
        return leaf if leaf.ndim == 4 else leaf[:, :, None]

    return {f"layer_{number}": jax.tree.map(by_place, layer) for number, layer in enumerate(found, 1)}
