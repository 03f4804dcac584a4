"""Quasimetrics: distances d(x, y) ≥ 0 of vectors that need not be symmetric.

They have d(x, x) = 0 and d(x, z) ≤ d(x, y) + d(y, z), as the lengths of shortest paths have.
"""

from typing import Literal

import flax.linen as nn
import jax.numpy as jnp

from valuelab.errors import InputError
from valuelab.networks.mlp import MLP, Activation, initializer
from valuelab.types import Array

QuasimetricName = Literal["iqe", "mrn"]

_LEAST_SQUARE = 1e-12
"""The root of smaller squares would have an infinite gradient."""


def check_width(name: QuasimetricName, width: int, group_size: int) -> None:
    """Refuses latents that a quasimetric cannot divide into its parts.

    Args:
        name: of the quasimetric.
        width: d, of the latents.
        group_size: number of intervals in each group of "iqe".

    Raises:
        InputError: when d is odd ("mrn"), or not a multiple of the group size ("iqe"). The message begins
            with the name latent_dim.
    """
    if name == "mrn" and width % 2:
        raise InputError(f"latent_dim is {width}, but quasimetric mrn needs an even number: change it")
    if name == "iqe" and width % group_size:
        raise InputError(
            f"latent_dim is {width}, but quasimetric iqe needs a multiple of group_size, {group_size}: "
            "change one of them"
        )


def interval_lengths(x: Array, y: Array, group_size: int) -> Array:
    """The length of the union of the intervals [x_i, max(x_i, y_i)], for each group of k coordinates.

    It is the sum of the ends minus the sum of the starts that no other interval covers. To find these, all
    pairs of a group are compared, which is faster than sorting. So a derivative is 1, -1 or 0. It is 0 in
    coordinates whose interval is empty.

    Args:
        x: [..., d].
        y: [..., d].
        group_size: k.

    Returns:
        [..., d / k], up to rounding at least 0.

    Source: Wang, Isola 2022, "Improved Representation of Asymmetrical Distances with Interval Quasimetric
    Embeddings", arXiv:2211.15120.
    """
    starts, ends = (part.reshape(*part.shape[:-1], -1, group_size) for part in (x, y))
    # Pairs of an interval i and another one j, [..., j, i].
    start, end = starts[..., None, :], ends[..., None, :]
    other_start, other_end = starts[..., :, None], ends[..., :, None]
    exists = other_start < other_end
    # Of equal starts the first one counts, of equal ends the last one.
    comes_first = jnp.triu(jnp.ones((group_size, group_size), bool), 1)
    comes_first = jnp.expand_dims(comes_first, range(starts.ndim - 1))
    starts_before = (other_start < start) | ((other_start == start) & comes_first)
    ends_after = (other_end > end) | ((other_end == end) & jnp.swapaxes(comes_first, -2, -1))
    start_is_covered = jnp.any(exists & starts_before & (start <= other_end), axis=-2)
    end_is_covered = jnp.any(exists & ends_after & (other_start <= end), axis=-2)
    is_empty = starts >= ends
    added = jnp.where(is_empty | end_is_covered, 0, ends)
    return jnp.sum(added - jnp.where(is_empty | start_is_covered, 0, starts), axis=-1)


def mrn(x: Array, y: Array) -> Array:
    """The metric residual network's distance of latents [..., d], d even: [...].

        ‖x₁ - y₁‖₂ + max(0, max_i (x₂ - y₂)_i),   x = (x₁, x₂)

    A norm below 1e-6 is 1e-6, with derivative 0.

    Source: Liu, Feng, Liu, Stone 2023, "Metric Residual Networks for Sample Efficient Goal-Conditioned
    Reinforcement Learning", arXiv:2208.08133, in the form of Park et al. 2024, arXiv:2410.20092.
    """
    half = x.shape[-1] // 2
    differences = x - y
    square = jnp.sum(jnp.square(differences[..., :half]), axis=-1)
    norm = jnp.sqrt(jnp.maximum(square, _LEAST_SQUARE))
    return norm + nn.relu(jnp.max(differences[..., half:], axis=-1))


class Quasimetric(nn.Module):
    """d(x, y) of latents: "mrn", or "iqe", interval lengths m_g of groups with learnt weights.

        d = σ(α) mean_g m_g + (1 - σ(α)) max_g m_g,   α = 0 at first

    Attributes:
        kind: "iqe" or "mrn".
        group_size: number of intervals in each group of "iqe".

    Source: arXiv:2211.15120 (the reduction maxmean).
    """

    kind: QuasimetricName
    group_size: int

    @nn.compact
    def __call__(self, x: Array, y: Array) -> Array:
        """Maps latents [B, d] and [B, d] to distances [B]."""
        if self.kind == "mrn":
            return mrn(x, y)
        lengths = interval_lengths(x, y, self.group_size)
        share = nn.sigmoid(self.param("alpha", nn.initializers.zeros, ()))
        return share * jnp.mean(lengths, axis=-1) + (1 - share) * jnp.max(lengths, axis=-1)


class LatentNetwork(nn.Module):
    """Hidden layers and a linear layer.

    Attributes:
        hidden_dims: width of each hidden layer.
        dim: d.
        layer_norm: whether hidden layers are normalised.
        activation: of each hidden layer.
    """

    hidden_dims: tuple[int, ...]
    dim: int
    layer_norm: bool = False
    activation: Activation = "relu"

    @nn.compact
    def __call__(self, inputs: Array) -> Array:
        """Maps vectors [B, D] to latents [B, d]."""
        hidden = MLP(self.hidden_dims, self.layer_norm, activation=self.activation)(inputs)
        return nn.Dense(self.dim, kernel_init=initializer)(hidden)
