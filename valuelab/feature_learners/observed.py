"""Given features: entries of the observation. Nothing is learnt."""

import dataclasses

import jax.numpy as jnp
import numpy as np

from valuelab.configuration import Settings, setting
from valuelab.errors import InputError
from valuelab.types import Array, FeatureLearner, Key, Metrics, Params, Spec, Transitions


@dataclasses.dataclass(frozen=True, kw_only=True)
class ObservedConfig(Settings):
    """The entries of the observation that are features."""

    columns: tuple[int, ...] = setting((), help="Columns of the observation; none for all of them.")
    constant: bool = setting(
        True, help="Add a feature that is always 1. Rewards with a non-zero mean need it."
    )


def observed(config: ObservedConfig, spec: Spec) -> FeatureLearner:
    """Builds the feature learner.

    Args:
        config: the entries that are features.
        spec: of the data: vectors.

    Raises:
        InputError: for images, and for columns that observations do not have.
    """
    if len(spec.observation_shape) != 1 or spec.observation_parts:
        kind = "several parts" if spec.observation_parts else f"shape {spec.observation_shape}"
        raise InputError(
            f"observations have {kind}, but given features need vectors: choose another feature_learner"
        )
    size = spec.observation_shape[0]
    columns = np.array(config.columns or range(size))
    if any(not 0 <= column < size for column in config.columns):
        raise InputError(f"columns are {config.columns}; observations have columns 0 to {size - 1}")

    def init(key: Key, example: Transitions) -> Params:
        del key, example
        return {}

    def loss(params: Params, targets: Params, batch: Transitions, key: Key) -> tuple[Array, Metrics]:
        del params, targets, batch, key
        return jnp.zeros(()), {}

    def encode(params: Params, observations: Array) -> Array:
        del params
        features = observations[:, columns]
        return jnp.pad(features, ((0, 0), (0, int(config.constant))), constant_values=1.0)

    return FeatureLearner(
        name="observed", dim=len(columns) + config.constant, init=init, loss=loss, encode=encode
    )
