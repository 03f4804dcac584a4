"""Laplacian features: they change as little as possible between successive states (graph drawing).

    L = E ‖φ(s) - φ(s')‖² / d + 2 c Ω(φ)

Source: Wu, Tucker, Nachum 2019, "The Laplacian in RL", arXiv:1810.04586; for zero-shot RL Touati, Rapin,
Ollivier 2023, arXiv:2209.14935. The scales are those of the code of TD-JEPA's study.
"""

import dataclasses

import jax.numpy as jnp

from valuelab.feature_learners.encoders import SpreadConfig
from valuelab.ops.zero_shot import orthonormality_loss
from valuelab.types import Array, FeatureLearner, Key, Metrics, Params, Spec, Transitions


@dataclasses.dataclass(frozen=True)
class LaplacianConfig(SpreadConfig):
    """Hyperparameters of Laplacian features; `orthonormality` is c."""


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
        steps = jnp.mean(jnp.square(features - encode(params, batch.next_observations)))
        spread = orthonormality_loss(features)
        metrics = {"step_loss": steps, "orthonormality_loss": spread}
        return steps + 2 * config.orthonormality * spread, metrics

    return FeatureLearner(
        name="laplacian", dim=config.dim, init=config.init_encoder, loss=loss, encode=encode
    )
