"""TD-JEPA: two encoders; each predicts the discounted sum of the other's future encodings.

φ(s) encodes states and ψ(s) encodes tasks. T_φ(φ(s), a, z) predicts in the space of ψ, and T_ψ(ψ(s), a, z) in
the space of φ. One update, with a' from π_z; bars are target averages, without gradient:

1. y_φ = ψ̄(s') + γ · mask · T̄_φ(φ̄(s'), a', z),   y_ψ = φ̄(s') + γ · mask · T̄_ψ(ψ̄(s'), a', z)
2. L = E ‖T_φ(φ(s), a, z) - y_φ‖² + E ‖T_ψ(ψ(s), a, z) - y_ψ‖² + β_φ Ω(φ) + β_ψ Ω(ψ)

Ω is the orthonormality loss over the batch. Gradients reach φ, T_φ, ψ and T_ψ. The symmetric variant has one
encoder for both roles and only the first predictor. The policy maximises Q(s, a, z) = T_φ(φ(s), a, z)ᵀz.

There are two ablations: one encoder, and targets without bootstrapping, y_φ = ψ̄(s⁺) / (1 - γ). There s⁺ is
drawn from the future of the trajectory, so in expectation the target is the same sum for the data's policy,
not π_z.

Source: Bagatella et al. 2025, "TD-JEPA", arXiv:2510.00739.
"""

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp

from valuelab.configuration import setting
from valuelab.critics.task_conditioned import (
    Losses,
    TaskConditionedConfig,
    apply_networks,
    map_each,
    parts_named,
    successor_target,
    task_conditioned_critic,
    tasks_of,
)
from valuelab.feature_learners.goals import futures_of
from valuelab.networks.encodings import Encoder, Predictor
from valuelab.networks.mlp import ensemble
from valuelab.ops.zero_shot import orthonormality_loss, squared_distance
from valuelab.types import Array, Critic, Key, Metrics, Params, Spec, Transitions


@dataclasses.dataclass(frozen=True, kw_only=True)
class TDJEPAConfig(TaskConditionedConfig):
    """Hyperparameters of TD-JEPA."""

    state_dim: int = setting(50, "[1, inf)", "Size of an encoding φ(s), at least 1.")
    task_dims: tuple[int, ...] = setting(
        (512, 512, 512, 512), "[1, inf)", "Width of each hidden layer of ψ; none for a linear one."
    )
    task_dim: int = setting(50, "[1, inf)", "Size of an encoding ψ, and of a task.")
    state_orthonormality: float = setting(1.0, "[0, inf)", "β_φ, at least 0.")
    task_orthonormality: float = setting(1.0, "[0, inf)", "β_ψ, at least 0.")
    symmetric: bool = setting(False, help="Use one encoder, with the settings of ψ, for states and tasks.")
    target: Literal["temporal_difference", "monte_carlo"] = setting(
        "temporal_difference",
        help='Targets, "temporal_difference" or "monte_carlo". The latter learn from the batch\'s `futures`, '
        "drawn with this γ (data.goals.discount).",
    )

    def seen_dim(self, spec: Spec) -> int:
        """k, size of an encoding ψ in the symmetric variant."""
        return self.task_dim if self.symmetric and self.policy_sees == "encodings" else super().seen_dim(spec)


def td_jepa_critic(config: TDJEPAConfig, spec: Spec) -> Critic:
    """Builds the critic.

    Args:
        config: hyperparameters; numeric ones may be traced.
        spec: of the data.

    Returns:
        A critic of all tasks; its features are ψ.

    Raises:
        InputError: for data that `task_conditioned_critic` refuses.
    """
    task_encoder = Encoder(config.task_dims, config.task_dim)
    state_encoder = config.state_encoder
    predictors = ensemble(Predictor, config.ensemble_size)
    task_predictor, state_predictor = (
        predictors(config.predictor_dims, dim) for dim in (config.task_dim, config.state_dim)
    )

    def init(key: Key, example: Transitions) -> Params:
        keys = jax.random.split(key, 4)
        observations, inputs = example.observations, (example.actions, tasks_of(example))
        task_params = task_encoder.init(keys[0], observations)
        task_encodings = task_encoder.apply(task_params, observations)
        if config.symmetric:
            return {
                "task_encoder": task_params,
                "task_predictor": task_predictor.init(keys[1], task_encodings, *inputs),
            }
        state_params = state_encoder.init(keys[2], observations)
        state_encodings = state_encoder.apply(state_params, observations)
        return {
            "task_encoder": task_params,
            "task_predictor": task_predictor.init(keys[1], state_encodings, *inputs),
            "state_encoder": state_params,
            "state_predictor": state_predictor.init(keys[3], task_encodings, *inputs),
        }

    def encode_both(params: Params, observations: Array) -> tuple[Array, Array]:
        """φ and ψ of observations."""
        if config.symmetric:
            task_encodings = task_encoder.apply(params["task_encoder"], observations)
            return task_encodings, task_encodings
        state_encodings, task_encodings = apply_networks(
            [
                (state_encoder, (params["state_encoder"], observations)),
                (task_encoder, (params["task_encoder"], observations)),
            ]
        )
        return state_encodings, task_encodings

    def predict_both(
        params: Params, state_encodings: Array, task_encodings: Array, *inputs: Array
    ) -> list[Array]:
        """T_φ and T_ψ; only T_φ in the symmetric variant."""
        calls = [(task_predictor, (params["task_predictor"], state_encodings, *inputs))]
        if not config.symmetric:
            calls.append((state_predictor, (params["state_predictor"], task_encodings, *inputs)))
        return apply_networks(calls)

    def loss(
        params: Params, targets: Params, batch: Transitions, next_actions: Array, key: Key
    ) -> tuple[Array, Metrics]:
        del key
        tasks = tasks_of(batch)
        # 1. Targets.
        if config.target == "monte_carlo":
            ahead = encode_both(targets, futures_of(batch, "td_jepa"))
            aims = [features / (1 - config.discount) for features in reversed(ahead)]
        else:
            next_state_encodings, next_task_encodings = encode_both(targets, batch.next_observations)
            following = predict_both(targets, next_state_encodings, next_task_encodings, next_actions, tasks)
            # Only predictions in the space of tasks have a product with z, and so a value to be pessimistic
            # about.
            parts = zip((next_task_encodings, next_state_encodings), following, (tasks, None), strict=False)
            aims = [
                successor_target(config, features, after, batch.masks, along)
                for features, after, along in parts
            ]
        # 2. Predictions of the other encoder's encodings, and the orthonormality losses.
        state_encodings, task_encodings = encode_both(params, batch.observations)
        predictions = predict_both(params, state_encodings, task_encodings, batch.actions, tasks)
        count = len(predictions)  # 1 in the symmetric variant
        prediction_losses = map_each(squared_distance, list(zip(predictions, aims, strict=False)))
        spreads = map_each(orthonormality_loss, [(task_encodings,), (state_encodings,)][:count])
        weights = (config.task_orthonormality, config.state_orthonormality)
        total: Array = jnp.zeros(())
        metrics: Metrics = {}
        terms = zip(("task", "state"), prediction_losses, weights, spreads, strict=False)
        for name, prediction_loss, weight, spread in terms:
            total += prediction_loss + weight * spread
            metrics |= {f"{name}_prediction_loss": prediction_loss, f"{name}_orthonormality_loss": spread}
        return total, metrics

    def encode_states(params: Params, observations: Array) -> Array:
        if config.symmetric:
            return encode(params, observations)
        return state_encoder.apply(params["state_encoder"], observations)

    def predict(params: Params, state_encodings: Array, actions: Array, tasks: Array) -> Array:
        return task_predictor.apply(params["task_predictor"], state_encodings, actions, tasks)

    def encode(params: Params, observations: Array) -> Array:
        return task_encoder.apply(params["task_encoder"], observations)

    losses = Losses(
        dim=config.task_dim,
        init=init,
        loss=loss,
        encode_states=encode_states,
        predict=predict,
        encode=encode,
        of_features=parts_named("task_encoder"),
    )
    return task_conditioned_critic("td_jepa", config, spec, losses)
