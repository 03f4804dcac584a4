"""Universal successor features: discounted sums of features that are learnt at the same time, or are given.

One update, with a' from π_z; bars are target averages, without gradient:

1. y = ψ(s') + γ · mask · F̄(φ̄(s'), a', z), where ψ has no gradient
2. L = E ‖F(φ(s), a, z) - y‖² + the loss of the feature learner. With loss="values" the first term is
   E (zᵀF(φ(s), a, z) - zᵀy)².

With loss="measures", Fᵀψ(s') is the density of future states instead. F then learns by forward-backward's
loss, in which ψ has no gradient, and tasks are z = E[r ψ], as in RLDP. The other two have tasks by least
squares.

φ(s) = s without an encoder of states. If features vary much more in some directions than in others, tasks
from least squares lie in the others. These have a small weight in the first loss; the second weighs
directions as tasks do.

HILP learns only differences of features. Their mean carries no information, but its sum over all future steps
would dominate F. With `center`, ψ is the encoding minus its running mean, which is updated at the rate of the
target average. With `differences`, F sums ψ(s') - ψ(s), the reward of HILP. It is (1 - γ) ψ(s') plus the
potential-based shaping γ ψ(s') - ψ(s). So optimal policies are the same if episodes do not end, but F has the
size of a difference of features, and not of a hundred of them.

Source: Borsa et al. 2019, arXiv:1812.07626; for zero-shot RL Touati, Rapin, Ollivier 2023, arXiv:2209.14935;
centred and with the loss of values by Park, Kreiman, Levine 2024, arXiv:2402.15567; with measures by Jajoo,
Sikchi et al. 2026, arXiv:2603.15857.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import optax

from valuelab.configuration import Choice, make, part, setting
from valuelab.critics.task_conditioned import (
    Losses,
    TaskConditionedConfig,
    measure_loss,
    parts_named,
    successor_target,
    task_conditioned_critic,
    tasks_of,
)
from valuelab.errors import InputError
from valuelab.feature_learners.byol import BYOLConfig, byol
from valuelab.feature_learners.hilp import HILPConfig, hilp
from valuelab.feature_learners.icvf import ICVFConfig, icvf
from valuelab.feature_learners.laplacian import LaplacianConfig, laplacian
from valuelab.feature_learners.observed import ObservedConfig, observed
from valuelab.feature_learners.rldp import RLDPConfig, rldp
from valuelab.networks.encodings import Predictor
from valuelab.networks.mlp import ensemble
from valuelab.ops.zero_shot import infer_tasks, mean_tasks, squared_distance
from valuelab.types import Array, Critic, FeatureLearner, Key, Metrics, Params, Spec, Transitions

FEATURE_LEARNERS: dict[str, Choice[FeatureLearner]] = {
    "byol": Choice(config=BYOLConfig, make=byol),
    "hilp": Choice(config=HILPConfig, make=hilp),
    "icvf": Choice(config=ICVFConfig, make=icvf),
    "laplacian": Choice(config=LaplacianConfig, make=laplacian),
    "observed": Choice(config=ObservedConfig, make=observed),
    "rldp": Choice(config=RLDPConfig, make=rldp),
}
"""Feature learners by name."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class SuccessorFeaturesConfig(TaskConditionedConfig):
    """Hyperparameters of successor features."""

    ALIASES: ClassVar[Mapping[str, tuple[str, ...]]] = {"representation": ("feature_learner",)}

    feature_learner: Any = part(LaplacianConfig(), FEATURE_LEARNERS, "What learns the features.")
    loss: Literal["features", "values", "measures"] = setting(
        "features",
        help='The loss compares the "features" F, the "values" zᵀF, or the "measures" Fᵀψ of future states.',
    )
    center: bool = setting(False, help="Subtract the running mean from the features.")
    differences: bool = setting(
        False,
        help="Sum the differences ψ(s') - ψ(s) instead of ψ(s'). Optimal policies are the same. Not for the "
        'loss of "measures".',
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.differences and self.loss == "measures":
            raise InputError(
                "differences is true, but loss 'measures' has densities of states: give differences=False"
            )


def successor_features_critic(config: SuccessorFeaturesConfig, spec: Spec) -> Critic:
    """Builds the critic.

    Args:
        config: hyperparameters; numeric ones may be traced.
        spec: of the data.

    Returns:
        A critic of all tasks; its features are those of the feature learner.

    Raises:
        InputError: for data that `task_conditioned_critic` refuses.
    """
    feature_learner = make(FEATURE_LEARNERS, config.feature_learner, spec)
    state_encoder = config.state_encoder
    predictor = ensemble(Predictor, config.ensemble_size)(config.predictor_dims, feature_learner.dim)

    def init(key: Key, example: Transitions) -> Params:
        features_key, predictor_key, state_key = jax.random.split(key, 3)
        state_params = state_encoder.init(state_key, example.observations)
        states = state_encoder.apply(state_params, example.observations)
        params = {
            "features": feature_learner.init(features_key, example),
            "state_encoder": state_params,
            "predictor": predictor.init(predictor_key, states, example.actions, tasks_of(example)),
        }
        return params | {"mean": jnp.zeros(feature_learner.dim)} if config.center else params

    def loss(
        params: Params, targets: Params, batch: Transitions, next_actions: Array, key: Key
    ) -> tuple[Array, Metrics]:
        tasks = tasks_of(batch)
        # 1. What targets are made of.
        next_states = encode_states(targets, batch.next_observations)
        following = predict(targets, next_states, next_actions, tasks)
        features = jax.lax.stop_gradient(encode(params, batch.next_observations))
        if config.differences:
            features = features - jax.lax.stop_gradient(encode(params, batch.observations))
        # 2. Both losses.
        states = encode_states(params, batch.observations)
        predictions = predict(params, states, batch.actions, tasks)
        if config.loss == "measures":
            target_features = encode(targets, batch.next_observations)
            prediction_loss = measure_loss(
                config, predictions, features, following, target_features, batch.masks
            )
        else:
            target = successor_target(config, features, following, batch.masks, tasks)
            if config.loss == "values":
                predictions = jnp.sum(predictions * tasks[None], axis=-1, keepdims=True)
                target = jnp.sum(target * tasks, axis=-1, keepdims=True)
            prediction_loss = squared_distance(predictions, target)
        own_loss, metrics = feature_learner.loss(params["features"], targets["features"], batch, key)
        return prediction_loss + own_loss, {"successor_loss": prediction_loss} | metrics

    def encode_states(params: Params, observations: Array) -> Array:
        return state_encoder.apply(params["state_encoder"], observations)

    def predict(params: Params, states: Array, actions: Array, tasks: Array) -> Array:
        return predictor.apply(params["predictor"], states, actions, tasks)

    def encode(params: Params, observations: Array) -> Array:
        features = feature_learner.encode(params["features"], observations)
        return features - params["mean"][None] if config.center else features

    def of_features(params: Params) -> Any:
        own = {name: name not in feature_learner.predictors for name in params["features"]}
        return parts_named()(params) | {"features": own}

    def follow(params: Params, batch: Transitions) -> Params:
        if not config.center:
            return params
        mean = jnp.mean(feature_learner.encode(params["features"], batch.next_observations), axis=0)
        return params | {"mean": optax.incremental_update(mean, params["mean"], config.target_rate)}

    losses = Losses(
        dim=feature_learner.dim,
        init=init,
        loss=loss,
        encode_states=encode_states,
        predict=predict,
        encode=encode,
        of_features=of_features,
        infer_tasks=mean_tasks if config.loss == "measures" else infer_tasks,
        follow=follow,
        goal_tasks=feature_learner.goal_tasks,
    )
    return task_conditioned_critic(f"successor_features on {feature_learner.name}", config, spec, losses)
