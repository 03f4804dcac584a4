"""Laplacian features: they change as little as possible between successive states (graph drawing).

    L = E ‖φ(s) - φ(s')‖² + β Ω(φ)

Source: Wu, Tucker, Nachum 2019, "The Laplacian in RL", arXiv:1810.04586; for zero-shot RL Touati, Rapin,
Ollivier 2023, arXiv:2209.14935.
"""

import dataclasses

import jax.numpy as jnp

from valuelab.feature_learners.encoders import SpreadConfig, spread_loss
from valuelab.types import Array, FeatureLearner, Key, Metrics, Params, Spec, Transitions


@dataclasses.dataclass(frozen=True)
class LaplacianConfig(SpreadConfig):
    """Hyperparameters of Laplacian features."""


def laplacian(config: LaplacianConfig, spec: Spec) -> FeatureLearner:
    """Builds the feature learner.

    Args:
        config: hyperparameters; numeric ones may be traced.
        spec: of the data; not used.
    """
    del spec
    encode = config.encoder.apply

    def loss(params: Params, targets: Params, batch: Transitions, key: Key) -> tuple[Array, Metrics]:
        del targets, key
        features = encode(params, batch.observations)
        steps = jnp.sum(jnp.square(features - encode(params, batch.next_observations)), axis=-1)
        return spread_loss(config, "step_loss", jnp.mean(steps), features)

    return FeatureLearner(
        name="laplacian", dim=config.dim, init=config.init_encoder, loss=loss, encode=encode
    )
