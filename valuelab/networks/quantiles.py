"""Networks whose outputs are return distributions."""

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from valuelab.networks.mlp import ACTIVATIONS, MLP, Activation, initializer, pairs
from valuelab.types import Array


class ReturnAtoms(nn.Module):
    """The return distribution from (s, c) for each action, as N equally likely atoms.

    Images go through an encoder first. Each observation comes with E stocks. The first hidden layer adds
    observations and stocks, and the part of the observations is computed once for all E stocks.

    Stocks are clipped to [stock_low, stock_high]: if the range covers minus the future returns, f is linear
    on each side of it, and the greedy action no longer depends on the stock. As in exact solvers, stocks are
    represented at the points of a uniform grid, between which actions and return distributions may change.
    Between grid points the last hidden features, and so the atoms, are interpolated linearly. Interpolation
    of the network's inputs would be wrong: training visits only grid points, and the output for a mean of two
    inputs is not the mean of the two outputs.

    Atoms are predicted in units of the range of -stocks.

    Attributes:
        num_actions: number of actions.
        num_atoms: N.
        reward_dim: m.
        hidden_dims: width of each hidden layer.
        layer_norm: whether hidden layers after the first are normalised.
        stock_low: least stock, for each component.
        stock_high: greatest stock, for each component.
        stock_points: number of grid points, for each component; 0 makes the network ignore stocks.
        encoder: () -> the encoder of images or of several parts; None if observations are vectors.
        stock_dim: number of components of a stock; None for reward_dim.
    """

    num_actions: int
    num_atoms: int
    reward_dim: int
    hidden_dims: tuple[int, ...]
    layer_norm: bool
    stock_low: Any
    stock_high: Any
    stock_points: int
    encoder: Callable[[], nn.Module] | None = None
    stock_dim: int | None = None

    @nn.compact
    def __call__(self, observations: Any, stocks: Array) -> Array:
        """Maps observations [B, ...] and stocks [B, E, stock_dim] to atoms [B, E, num_actions, N, m]."""
        features = self.encoder()(observations) if self.encoder else observations
        first_width, *widths = self.hidden_dims
        projected = nn.Dense(first_width, kernel_init=initializer)(features)[:, None]
        layers = MLP(tuple(widths), self.layer_norm)
        half_range = (self.stock_high - self.stock_low) / 2
        if self.stock_points:
            rows_of_table = (self.stock_dim or self.reward_dim) * self.stock_points
            table = self.param("stocks", initializer, (rows_of_table, first_width))
            hidden = jnp.zeros(())
            for rows, shares in self._corners(stocks):
                stock_part = jnp.sum(jnp.take(table, rows, axis=0), axis=-2)
                hidden += shares[..., None] * layers(nn.relu(projected + stock_part))
        else:
            hidden = layers(nn.relu(jnp.broadcast_to(projected, (*stocks.shape[:2], first_width))))
        atoms = nn.Dense(self.num_actions * self.num_atoms * self.reward_dim, kernel_init=initializer)(hidden)
        atoms = atoms.reshape(*stocks.shape[:2], self.num_actions, self.num_atoms, self.reward_dim)
        return half_range * atoms - (self.stock_low + half_range)

    def _corners(self, stocks: Array) -> Iterator[tuple[Array, Array]]:
        """The 2^m grid points around stocks [B, E, m]: rows of the table [B, E, m] and weights [B, E]."""
        last = self.stock_points - 1
        reach = jnp.clip(stocks, self.stock_low, self.stock_high) - self.stock_low
        places = reach / (self.stock_high - self.stock_low) * last
        below = jnp.clip(jnp.floor(places), 0, last - 1)
        beyond = places - below
        dim = stocks.shape[-1]
        first_rows = below.astype(jnp.int32) + self.stock_points * jnp.arange(dim)[None, None]
        for corner in itertools.product((0, 1), repeat=dim):
            above = jnp.array(corner)[None, None]
            yield first_rows + above, jnp.prod(jnp.where(above == 1, beyond, 1 - beyond), axis=-1)


class ImplicitQuantiles(nn.Module):
    """The quantiles of the return distribution from (s, a) at any levels.

        Z(s, a; τ) = g(ψ(s, a) ⊙ φ(τ)),   φ(τ) = σ(W [cos(π i τ)]_i),   i = 0 .. num_waves - 1

    Attributes:
        hidden_dims: width of each hidden layer; ψ is the first layer, and g the others.
        layer_norm: whether hidden layers are normalised, after their activation.
        num_waves: number of cosines in the embedding of levels.
        num_actions: number of discrete actions, 0 where actions are continuous.
        activation: σ of each hidden layer, and of φ.
    """

    hidden_dims: tuple[int, ...]
    layer_norm: bool
    num_waves: int
    num_actions: int = 0
    activation: Activation = "gelu"

    @nn.compact
    def __call__(self, observations: Array, actions: Array, levels: Array) -> Array:
        """Maps observations [B, D], actions [B, A] or [B] and levels to quantiles [B, N].

        Levels are [B, N], or [1, N] for all pairs.
        """
        inputs = pairs(observations, actions, self.num_actions)
        features = MLP(self.hidden_dims[:1], self.layer_norm, activation=self.activation)(inputs)
        waves = jnp.cos(jnp.pi * levels[..., None] * jnp.arange(self.num_waves)[None, None])
        embedded = nn.Dense(self.hidden_dims[0], kernel_init=initializer)(waves)
        joined = features[:, None] * ACTIVATIONS[self.activation](embedded)
        hidden = MLP(self.hidden_dims[1:], self.layer_norm, activation=self.activation)(joined)
        return nn.Dense(1, kernel_init=initializer)(hidden)[..., 0]
