"""Universal successor features on a representation that is learnt beside them, or was before.

One update, with a' from π_z and bars for target averages, which carry no gradient:

1. y = ψ̄(s') + γ · mask · F̄(φ̄(s'), a', z)
2. L = E ‖F(φ(s), a, z) - y‖² + the loss of the representation ψ alone; or E (zᵀF(φ(s), a, z) - zᵀy)² in place
   of the first term.

φ(s) = s where there is no encoder of states. Where features vary far more in some directions than in others,
tasks of least squares lie in the others, which the first loss hardly sees; the second weighs all as tasks do.

Features of which only differences are learnt, as HILP's, have a mean that says nothing, and the sum of it
over all steps to come would be most of F. So with `center` ψ is the representation less its running mean,
which follows the batches at the targets' rate.

Source: Borsa et al. 2019, arXiv:1812.07626; for zero-shot RL Touati, Rapin, Ollivier 2023, arXiv:2209.14935;
centred and with the loss of values by Park, Kreiman, Levine 2024, arXiv:2402.15567.
"""

import dataclasses
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax

from valuelab.configuration import Choice, make, part, setting
from valuelab.critics.latents import LatentConfig, Losses, latent_critic, successor_target, tasks_of
from valuelab.networks.latents import Predictor
from valuelab.networks.mlp import ensemble
from valuelab.ops.latent import squared_distance
from valuelab.representations.byol import BYOLConfig, byol
from valuelab.representations.hilp import HILPConfig, hilp
from valuelab.representations.icvf import ICVFConfig, icvf
from valuelab.representations.laplacian import LaplacianConfig, laplacian
from valuelab.representations.observed import ObservedConfig, observed
from valuelab.representations.rldp import RLDPConfig, rldp
from valuelab.types import Array, Critic, Key, Metrics, Params, Representation, Spec, Transitions

REPRESENTATIONS: dict[str, Choice[Representation]] = {
    "byol": Choice(config=BYOLConfig, make=byol),
    "hilp": Choice(config=HILPConfig, make=hilp),
    "icvf": Choice(config=ICVFConfig, make=icvf),
    "laplacian": Choice(config=LaplacianConfig, make=laplacian),
    "observed": Choice(config=ObservedConfig, make=observed),
    "rldp": Choice(config=RLDPConfig, make=rldp),
}
"""Representations by name."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class SuccessorFeaturesConfig(LatentConfig):
    """Hyperparameters of successor features."""

    representation: Any = part(LaplacianConfig(), REPRESENTATIONS, "What learns the features.")
    loss: Literal["features", "values"] = setting(
        "features", help='The loss compares the "features" F, or the "values" zᵀF.'
    )
    center: bool = setting(False, help="Subtract the running mean of the representation from it.")


def successor_features_critic(config: SuccessorFeaturesConfig, spec: Spec) -> Critic:
    """Builds the critic.

    Args:
        config: hyperparameters; numeric ones may be traced.
        spec: of the data.

    Returns:
        A critic of all tasks; its features are the representation's.

    Raises:
        InputError: for data that `latent_critic` refuses.
    """
    representation = make(REPRESENTATIONS, config.representation, spec)
    state_encoder = config.state_encoder
    predictor = ensemble(Predictor, config.ensemble_size)(config.predictor_dims, representation.dim)

    def init(key: Key, example: Transitions) -> Params:
        features_key, predictor_key, state_key = jax.random.split(key, 3)
        state_params = state_encoder.init(state_key, example.observations)
        states = state_encoder.apply(state_params, example.observations)
        params = {
            "features": representation.init(features_key, example),
            "state_encoder": state_params,
            "predictor": predictor.init(predictor_key, states, example.actions, tasks_of(example)),
        }
        return params | {"mean": jnp.zeros(representation.dim)} if config.center else params

    def loss(
        params: Params, targets: Params, batch: Transitions, next_actions: Array, key: Key
    ) -> tuple[Array, Metrics]:
        latents = tasks_of(batch)
        # 1. Targets.
        next_states = encode_states(targets, batch.next_observations)
        following = predict(targets, next_states, next_actions, latents)
        features = encode(targets, batch.next_observations)
        target = successor_target(config, features, following, batch.masks, latents)
        # 2. Both losses.
        states = encode_states(params, batch.observations)
        predictions = predict(params, states, batch.actions, latents)
        if config.loss == "values":
            predictions = jnp.sum(predictions * latents[None], axis=-1, keepdims=True)
            target = jnp.sum(target * latents, axis=-1, keepdims=True)
        prediction_loss = squared_distance(predictions, target)
        own_loss, metrics = representation.loss(params["features"], targets["features"], batch, key)
        return prediction_loss + own_loss, {"successor_loss": prediction_loss} | metrics

    def encode_states(params: Params, observations: Array) -> Array:
        return state_encoder.apply(params["state_encoder"], observations)

    def predict(params: Params, states: Array, actions: Array, latents: Array) -> Array:
        return predictor.apply(params["predictor"], states, actions, latents)

    def encode(params: Params, observations: Array) -> Array:
        features = representation.encode(params["features"], observations)
        return features - params["mean"][None] if config.center else features

    def follow(params: Params, batch: Transitions) -> Params:
        if not config.center:
            return params
        mean = jnp.mean(representation.encode(params["features"], batch.next_observations), axis=0)
        return params | {"mean": optax.incremental_update(mean, params["mean"], config.target_rate)}

    losses = Losses(
        dim=representation.dim,
        init=init,
        loss=loss,
        encode_states=encode_states,
        predict=predict,
        encode=encode,
        follow=follow,
    )
    return latent_critic(f"successor_features on {representation.name}", config, spec, losses)
