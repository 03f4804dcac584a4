"""TD-JEPA: two encoders, each predicting the sum of the other's encodings to come.

φ(s) encodes states and ψ(s) tasks; T_φ(φ(s), a, z) predicts in the space of ψ, T_ψ(ψ(s), a, z) in that of φ.
One update, with a' from π_z and bars for target averages, which carry no gradient:

1. y_φ = ψ̄(s') + γ · mask · T̄_φ(φ̄(s'), a', z),   y_ψ = φ̄(s') + γ · mask · T̄_ψ(ψ̄(s'), a', z)
2. L = E ‖T_φ(φ(s), a, z) - y_φ‖² + E ‖T_ψ(ψ(s), a, z) - y_ψ‖² + β_φ Ω(φ) + β_ψ Ω(ψ)

with Ω the orthonormality loss over the batch. Gradients reach φ and T_φ, ψ and T_ψ. The symmetric variant has
one encoder for both roles, and the first predictor alone. What acts is Q(s, a, z) = T_φ(φ(s), a, z)ᵀz.

Two ablations beside it: one encoder, and targets without bootstrap, y_φ = ψ̄(s⁺) / (1 - γ), where s⁺ is drawn
from the trajectory's own future: in expectation the same sum, of the data's policy instead of π_z.

Source: Bagatella et al. 2025, "TD-JEPA", arXiv:2510.00739.
"""

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp

from valuelab.configuration import setting
from valuelab.critics.latents import (
    LatentConfig,
    Losses,
    latent_critic,
    successor_target,
    tasks_of,
    together,
)
from valuelab.networks.latents import Encoder, Predictor
from valuelab.networks.mlp import ensemble
from valuelab.ops.latent import orthonormality_loss, squared_distance
from valuelab.representations.goals import futures_of
from valuelab.types import Array, Critic, Key, Metrics, Params, Spec, Transitions


@dataclasses.dataclass(frozen=True, kw_only=True)
class TDJEPAConfig(LatentConfig):
    """Hyperparameters of TD-JEPA."""

    state_dims: tuple[int, ...] = (512, 512, 512, 512)
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
        InputError: for data that `latent_critic` refuses.
    """
    task_encoder = Encoder(config.task_dims, config.task_dim)
    task_predictor = ensemble(Predictor, config.ensemble_size)(config.predictor_dims, config.task_dim)
    state_encoder = config.state_encoder
    state_predictor = ensemble(Predictor, config.ensemble_size)(config.predictor_dims, config.state_dim)

    def init(key: Key, example: Transitions) -> Params:
        keys = jax.random.split(key, 4)
        observations, inputs = example.observations, (example.actions, tasks_of(example))
        task_params = task_encoder.init(keys[0], observations)
        tasks = task_encoder.apply(task_params, observations)
        if config.symmetric:
            return {
                "task_encoder": task_params,
                "task_predictor": task_predictor.init(keys[1], tasks, *inputs),
            }
        state_params = state_encoder.init(keys[2], observations)
        states = state_encoder.apply(state_params, observations)
        return {
            "task_encoder": task_params,
            "task_predictor": task_predictor.init(keys[1], states, *inputs),
            "state_encoder": state_params,
            "state_predictor": state_predictor.init(keys[3], tasks, *inputs),
        }

    def encode_both(params: Params, observations: Array) -> tuple[Array, Array]:
        """φ and ψ."""
        if config.symmetric:
            tasks = task_encoder.apply(params["task_encoder"], observations)
            return tasks, tasks
        states, tasks = together(
            [
                (state_encoder, (params["state_encoder"], observations)),
                (task_encoder, (params["task_encoder"], observations)),
            ]
        )
        return states, tasks

    def predict_both(params: Params, states: Array, tasks: Array, *inputs: Array) -> list[Array]:
        """T_φ and T_ψ, the first alone where there is no other."""
        calls = [(task_predictor, (params["task_predictor"], states, *inputs))]
        if not config.symmetric:
            calls.append((state_predictor, (params["state_predictor"], tasks, *inputs)))
        return together(calls)

    def loss(
        params: Params, targets: Params, batch: Transitions, next_actions: Array, key: Key
    ) -> tuple[Array, Metrics]:
        del key
        latents = tasks_of(batch)
        # 1. Targets.
        if config.target == "monte_carlo":
            ahead = encode_both(targets, futures_of(batch, "td_jepa"))
            aims = [features / (1 - config.discount) for features in reversed(ahead)]
        else:
            next_states, next_tasks = encode_both(targets, batch.next_observations)
            following = predict_both(targets, next_states, next_tasks, next_actions, latents)
            # Only what is in the space of tasks has a value, along which to be pessimistic.
            parts = zip((next_tasks, next_states), following, (latents, None), strict=False)
            aims = [
                successor_target(config, features, after, batch.masks, along)
                for features, after, along in parts
            ]
        # 2. Predictions of the other's encodings; both encoders kept from collapse.
        states, tasks = encode_both(params, batch.observations)
        predictions = predict_both(params, states, tasks, batch.actions, latents)
        metrics = {
            f"{name}_prediction_loss": squared_distance(predicted, aim)
            for name, predicted, aim in zip(("task", "state"), predictions, aims, strict=False)
        }
        total = jnp.sum(jnp.stack(list(metrics.values())))
        kept = [("task", config.task_orthonormality, tasks)]
        if not config.symmetric:
            kept.append(("state", config.state_orthonormality, states))
        for name, weight, encodings in kept:
            metrics[f"{name}_orthonormality_loss"] = orthonormality_loss(encodings)
            total += weight * metrics[f"{name}_orthonormality_loss"]
        return total, metrics

    def encode_states(params: Params, observations: Array) -> Array:
        if config.symmetric:
            return encode(params, observations)
        return state_encoder.apply(params["state_encoder"], observations)

    def predict(params: Params, states: Array, actions: Array, latents: Array) -> Array:
        return task_predictor.apply(params["task_predictor"], states, actions, latents)

    def encode(params: Params, observations: Array) -> Array:
        return task_encoder.apply(params["task_encoder"], observations)

    losses = Losses(
        dim=config.task_dim,
        init=init,
        loss=loss,
        encode_states=encode_states,
        predict=predict,
        encode=encode,
    )
    return latent_critic("td_jepa", config, spec, losses)
