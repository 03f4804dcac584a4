"""Multi-layer perceptrons and ensembles of networks."""

import functools
from collections.abc import Callable
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from valuelab import platforms
from valuelab.types import Array, Layer

LAYERS = "intermediates"
"""The collection that holds hidden layers if `apply` is called with mutable=LAYERS."""

Activation = Literal["relu", "gelu"]

ACTIVATIONS: dict[Activation, Callable[[Array], Array]] = {"relu": nn.relu, "gelu": nn.gelu}


def scaled(scale: Any) -> nn.initializers.Initializer:
    """Initial weights from a uniform distribution with variance scale / mean(fan in, fan out)."""
    return nn.initializers.variance_scaling(scale, "fan_avg", "uniform")


initializer = scaled(1.0)


class Dropout(nn.Module):
    """Dropout whose rate may be a traced array; active only if a "dropout" key is given.

    Attributes:
        rate: probability that a unit is set to 0, in [0, 1); the Python number 0 adds no computation.
    """

    rate: Any

    @nn.compact
    def __call__(self, inputs: Array) -> Array:
        """Drops units and rescales the others; the identity without a "dropout" key."""
        is_off = isinstance(self.rate, int | float) and self.rate == 0
        if is_off or not self.has_rng("dropout"):
            return inputs
        keep = jax.random.bernoulli(self.make_rng("dropout"), 1 - self.rate, inputs.shape)
        return jnp.where(keep, inputs / (1 - self.rate), 0)


class LayerNorm(nn.Module):
    """Layer normalisation over the last axis.

        y = w (x - E x) / √(Var x + ε) + b

    It equals flax's LayerNorm, but always computes moments in float32 or better, in the fastest way. On CPUs
    they are products with vectors, and Var x = E x² - (E x)²: for jnp.mean XLA's CPU programs write arrays of
    constants as large as x, and integrating a flow critic takes a quarter longer. On accelerators
    Var x = E (x - E x)²: XLA then makes one kernel of an activation and its norm instead of three.
    """

    @nn.compact
    def __call__(self, inputs: Array) -> Array:
        """Maps [..., D] to [..., D], of the same dtype."""
        width, leading = inputs.shape[-1], range(inputs.ndim - 1)
        scale = self.param("scale", nn.initializers.ones, (width,))
        bias = self.param("bias", nn.initializers.zeros, (width,))
        precise = jnp.promote_types(inputs.dtype, jnp.float32)
        if platforms.on_cpu():
            product = functools.partial(jnp.einsum, precision="highest", preferred_element_type=precise)
            mean = product("...i,i->...", inputs, jnp.ones(width, inputs.dtype))[..., None] / width
            square = product("...i,...i->...", inputs, inputs)[..., None] / width
            variance = jnp.maximum(square - jnp.square(mean), 0)
        else:
            mean = jnp.mean(inputs, axis=-1, keepdims=True, dtype=precise)
            variance = jnp.mean(jnp.square(inputs - mean), axis=-1, keepdims=True)
        # Multiplied from the left: XLA fuses the norm on GPUs only if the centred inputs are scaled first.
        outputs = (inputs - mean) * jax.lax.rsqrt(variance + 1e-6) * jnp.expand_dims(scale, leading)
        return (outputs + jnp.expand_dims(bias, leading)).astype(inputs.dtype)


class MLP(nn.Module):
    """Dense layers, each followed by an activation, and optionally by layer norm and dropout.

    Attributes:
        hidden_dims: width of each hidden layer.
        layer_norm: whether each hidden layer is normalised after its activation.
        dropout_rate: in [0, 1).
        activation: of each hidden layer.
        block_depth: number of layers of each residual block after the first layer; all widths must be equal.
            0 for no residual blocks.
        projected: whether inputs are already multiplied by the first layer's weights. Then the first layer
            has no weights here, and parts of the inputs can be projected once and used often.
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
            self.sow(LAYERS, f"layer_{index:03}", Layer(units=units, features=hidden))
        return hidden


def pairs(observations: Array, actions: Array, num_actions: int) -> Array:
    """Concatenates observations [B, D] and actions [B, A], or one-hot vectors of discrete actions [B]."""
    if num_actions:
        actions = jax.nn.one_hot(actions, num_actions)
    return jnp.concatenate([observations, actions], axis=-1)


class Joined(nn.Module):
    """A network of one input, as a network of several inputs that are joined.

    Attributes:
        network: takes [B, ΣD_i].
    """

    network: nn.Module

    def __call__(self, *inputs: Array) -> Any:
        """Applies the network to the inputs [B, D_i], joined on the last axis."""
        return self.network(jnp.concatenate(inputs, axis=-1))


def ensemble(module: type[nn.Module], size: int) -> type[nn.Module]:
    """A module of `size` independent ensemble members with the same inputs; outputs get a leading axis."""
    return nn.vmap(
        module,
        variable_axes={"params": 0, LAYERS: 0},
        split_rngs={"params": True},
        in_axes=None,
        out_axes=0,
        axis_size=size,
    )


def over_ensemble(function: Callable[..., Any]) -> Callable[..., Any]:
    """Maps a function over E ensemble members, the leading axis of its arguments and results.

    Accelerators use vmap. On a CPU ensemble members take turns, because the activations of one fit better
    into its caches: with vmap, integrating a flow critic takes 1.2 times as long.
    """
    if platforms.on_cpu():
        return lambda *arguments: jax.lax.map(lambda argument: function(*argument), arguments)
    return jax.vmap(function)


def hidden_layers(variables: Any) -> dict[str, Layer]:
    """The hidden layers of E networks, in the order of the network.

    Args:
        variables: the second result of `apply(..., mutable=LAYERS)`; leaves [E, B, width], or
            [E, B, P, width] if the network evaluates each pair at P places.

    Returns:
        "layer_1", "layer_2", ... to Layer.
    """
    layers = jax.tree.leaves(variables, is_leaf=lambda node: isinstance(node, Layer))

    def by_place(leaf: Array) -> Array:
        return leaf if leaf.ndim == 4 else leaf[:, :, None]

    return {f"layer_{number}": jax.tree.map(by_place, layer) for number, layer in enumerate(layers, 1)}
