"""Forward-backward representations: the density of future states is a product of two networks.

    M(s, a, z; s') = F(φ(s), a, z)ᵀB(s'),   ψ = B, and φ(s) = s without an encoder of states

One update, with a' from π_z; bars are target averages, without gradient:

1. M̄_ij = F̄(φ̄(s'_i), a'_i, z_i)ᵀB̄(s'_j), for all pairs of a batch.
2. L = Σ_e successor_measure_loss(M_e, M̄, γ · mask) + β Ω(B), with the orthonormality loss Ω.

Tasks are inferred by z = E[r B], because Q = E[M r] = Fᵀ E[r B] for every B.

Source: Touati, Ollivier 2021, arXiv:2103.07945, algorithm 1; Touati, Rapin, Ollivier 2023, arXiv:2209.14935.
"""

import dataclasses

import jax

from valuelab.configuration import setting
from valuelab.critics.task_conditioned import (
    Losses,
    TaskConditionedConfig,
    measure_loss,
    parts_named,
    task_conditioned_critic,
    tasks_of,
)
from valuelab.networks.encodings import Encoder, Predictor
from valuelab.networks.mlp import ensemble
from valuelab.ops.zero_shot import mean_tasks, orthonormality_loss
from valuelab.types import Array, Critic, Key, Metrics, Params, Spec, Transitions


@dataclasses.dataclass(frozen=True, kw_only=True)
class ForwardBackwardConfig(TaskConditionedConfig):
    """Hyperparameters of forward-backward representations."""

    task_dims: tuple[int, ...] = setting(
        (512, 512, 512, 512), "[1, inf)", "Width of each hidden layer of B; none for a linear one."
    )
    task_dim: int = setting(50, "[1, inf)", "Size of an encoding B, and of a task.")
    orthonormality: float = setting(1.0, "[0, inf)", "Weight β of the orthonormality loss, at least 0.")


def forward_backward_critic(config: ForwardBackwardConfig, spec: Spec) -> Critic:
    """Builds the critic.

    Args:
        config: hyperparameters; numeric ones may be traced.
        spec: of the data.

    Returns:
        A critic of all tasks; its features are B.

    Raises:
        InputError: for data that `task_conditioned_critic` refuses.
    """
    state_encoder = config.state_encoder
    backward = Encoder(config.task_dims, config.task_dim)
    forward = ensemble(Predictor, config.ensemble_size)(config.predictor_dims, config.task_dim)

    def init(key: Key, example: Transitions) -> Params:
        forward_key, backward_key, state_key = jax.random.split(key, 3)
        observations = example.observations
        state_params = state_encoder.init(state_key, observations)
        states = state_encoder.apply(state_params, observations)
        return {
            "state_encoder": state_params,
            "forward": forward.init(forward_key, states, example.actions, tasks_of(example)),
            "backward": backward.init(backward_key, observations),
        }

    def loss(
        params: Params, targets: Params, batch: Transitions, next_actions: Array, key: Key
    ) -> tuple[Array, Metrics]:
        del key
        tasks = tasks_of(batch)
        # 1. Both factors of densities from the next states.
        next_states = encode_states(targets, batch.next_observations)
        following = predict(targets, next_states, next_actions, tasks)
        target_features = encode(targets, batch.next_observations)
        # 2. Those of densities from the current states.
        features = encode(params, batch.next_observations)
        states = encode_states(params, batch.observations)
        predictions = predict(params, states, batch.actions, tasks)
        metrics = {
            "measure_loss": measure_loss(
                config, predictions, features, following, target_features, batch.masks
            ),
            "orthonormality_loss": orthonormality_loss(features),
        }
        return metrics["measure_loss"] + config.orthonormality * metrics["orthonormality_loss"], metrics

    def encode_states(params: Params, observations: Array) -> Array:
        return state_encoder.apply(params["state_encoder"], observations)

    def predict(params: Params, states: Array, actions: Array, tasks: Array) -> Array:
        return forward.apply(params["forward"], states, actions, tasks)

    def encode(params: Params, observations: Array) -> Array:
        return backward.apply(params["backward"], observations)

    losses = Losses(
        dim=config.task_dim,
        init=init,
        loss=loss,
        encode_states=encode_states,
        predict=predict,
        encode=encode,
        of_features=parts_named("backward"),
        infer_tasks=mean_tasks,
    )
    return task_conditioned_critic("forward_backward", config, spec, losses)
