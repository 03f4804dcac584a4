"""Laplacian features: those that change least from step to step, by graph drawing.

    L = E ‖φ(s) - φ(s')‖² + β Ω(φ)

Source: Wu, Tucker, Nachum 2019, "The Laplacian in RL", arXiv:1810.04586; for zero-shot RL Touati, Rapin,
Ollivier 2023, arXiv:2209.14935.
"""

import dataclasses

import jax.numpy as jnp

from valuelab.representations.encoders import SpreadConfig, spread_loss
from valuelab.types import Array, Key, Metrics, Params, Representation, Spec, Transitions


@dataclasses.dataclass(frozen=True)
class LaplacianConfig(SpreadConfig):
    """Hyperparameters of Laplacian features: those of the encoder, and of what keeps it orthonormal."""


def laplacian(config: LaplacianConfig, spec: Spec) -> Representation:
    """Builds the representation.

    Args:
        config: hyperparameters; numeric ones may be traced.
        spec: of the data; not used.
    """
    del spec
    encode = config.encoder.apply

    def init(key: Key, example: Transitions) -> Params:
        return config.encoder.init(key, example.observations)

    def loss(params: Params, targets: Params, batch: Transitions, key: Key) -> tuple[Array, Metrics]:
        del targets, key
        features = encode(params, batch.observations)
        steps = jnp.sum(jnp.square(features - encode(params, batch.next_observations)), axis=-1)
        return spread_loss(config, "step_loss", jnp.mean(steps), features)

    return Representation(name="laplacian", dim=config.dim, init=init, loss=loss, encode=encode)
