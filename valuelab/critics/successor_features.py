"""Universal successor features on a representation that is learnt beside them, or was before.

One update, with a' from π_z and bars for target averages, which carry no gradient:

1. y = φ̄(s') + γ · mask · F̄(s', a', z)
2. L = E ‖F(s, a, z) - y‖² + the representation's own loss, whose parameters F's does not reach.

Source: Borsa et al. 2019, arXiv:1812.07626; for zero-shot RL Touati, Rapin, Ollivier 2023, arXiv:2209.14935.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax

from valuelab.critics.latents import LatentConfig, Losses, latent_critic, successor_target
from valuelab.networks.latents import Predictor
from valuelab.networks.mlp import ensemble
from valuelab.ops.latent import squared_distance
from valuelab.representations.byol import BYOLConfig, byol
from valuelab.representations.hilp import HILPConfig, hilp
from valuelab.representations.icvf import ICVFConfig, icvf
from valuelab.representations.laplacian import LaplacianConfig, laplacian
from valuelab.representations.observed import ObservedConfig, observed
from valuelab.types import Array, Critic, Key, Metrics, Params, Representation, Spec, Transitions

REPRESENTATIONS: dict[type, Callable[[Any, Spec], Representation]] = {
    BYOLConfig: byol,
    HILPConfig: hilp,
    ICVFConfig: icvf,
    LaplacianConfig: laplacian,
    ObservedConfig: observed,
}
"""The representation that each config makes."""


@dataclasses.dataclass(frozen=True)
class SuccessorFeaturesConfig(LatentConfig):
    """Hyperparameters of successor features.

    Attributes:
        representation: config of a representation, a key of REPRESENTATIONS.
    """

    representation: Any = dataclasses.field(default_factory=LaplacianConfig)


def successor_features_critic(config: SuccessorFeaturesConfig, spec: Spec) -> Critic:
    """Builds the critic.

    Args:
        config: hyperparameters; numeric ones may be traced.
        spec: of the data.

    Returns:
        A critic of all tasks; its features are the representation's.

    Raises:
        InputError: for data without vectors or continuous actions.
    """
    representation = REPRESENTATIONS[type(config.representation)](config.representation, spec)
    predictor = ensemble(Predictor, config.ensemble_size)(config.predictor_dims, representation.dim)

    def init(key: Key, example: Transitions, latents: Array) -> Params:
        features_key, predictor_key = jax.random.split(key)
        inputs = example.observations, example.actions, latents
        return {
            "features": representation.init(features_key, example),
            "predictor": predictor.init(predictor_key, *inputs),
        }

    def loss(
        params: Params, targets: Params, batch: Transitions, latents: Array, next_actions: Array, key: Key
    ) -> tuple[Array, Metrics]:
        # 1. Targets.
        following = predict(targets, batch.next_observations, next_actions, latents)
        features = encode(targets, batch.next_observations)
        target = successor_target(config, features, following, batch.masks, latents)
        # 2. Both losses.
        predictions = predict(params, batch.observations, batch.actions, latents)
        prediction_loss = squared_distance(predictions, target)
        own_loss, metrics = representation.loss(params["features"], targets["features"], batch, key)
        return prediction_loss + own_loss, {"successor_loss": prediction_loss} | metrics

    def predict(params: Params, observations: Array, actions: Array, latents: Array) -> Array:
        return predictor.apply(params["predictor"], observations, actions, latents)

    def encode(params: Params, observations: Array) -> Array:
        return representation.encode(params["features"], observations)

    return latent_critic(
        f"successor_features on {representation.name}",
        config,
        spec,
        Losses(representation.dim, init, loss, predict, encode),
    )
