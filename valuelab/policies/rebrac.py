"""ReBRAC's policy: climb Q near the data's actions, and charge targets for leaving them.

    L = -E[Q(s, μ(s))] / |Q| + β₁ E‖μ(s) - a‖²,   |Q| = stop_grad(E|Q(s, μ(s))|)
    targets follow a' = clip(μ̄(s') + clip(σ ε, -c, c), -1, 1) at the cost β₂ ‖a' - a'_data‖²

μ̄ is a slow average of μ. The policy takes a step in every second update, and only then all averages move.

Source: Tarasov et al. 2023, arXiv:2305.09836, equations 3 and 4; noise in targets and the delay of Fujimoto
et al. 2018 (arXiv:1802.09477).
"""

import dataclasses

import jax
import jax.numpy as jnp
import optax

from valuelab.configuration import setting
from valuelab.errors import InputError
from valuelab.networks import learning
from valuelab.networks.encoders import with_encoder
from valuelab.networks.policies import DeterministicPolicy
from valuelab.policies.continuous import ActorConfig, check_continuous
from valuelab.types import (
    Array,
    Estimates,
    Key,
    Metrics,
    NextActions,
    Policy,
    Spec,
    TrainState,
    Transitions,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReBRACConfig(ActorConfig):
    """Hyperparameters of ReBRAC's policy."""

    hidden_dims: tuple[int, ...] = (512, 512, 512, 512)
    bc_weight: float = setting(
        0.1, "[0, inf)", "β₁, at least 0, weight of the policy's distance from the data's actions."
    )
    target_weight: float = setting(
        0.01, "[0, inf)", "β₂, at least 0, weight of that distance as a cost in targets."
    )
    target_noise: float = setting(0.2, "[0, inf)", "σ of the noise on the actions of targets, at least 0.")
    target_noise_max: float = setting(0.5, "[0, inf)", "c at which that noise is clipped, at least 0.")
    target_rate: float = setting(0.005, "(0, 1]", "Share of the new policy in its average, in (0, 1].")
    period: int = setting(
        2,
        "[1, inf)",
        "Updates of the critic for each step of the policy, and for each move of all averages.",
        before=1,
    )


def rebrac(config: ReBRACConfig, spec: Spec) -> Policy:
    """A deterministic policy kept near the data twice.

    Args:
        config: hyperparameters; numeric ones may be traced.
        spec: of the data.

    Returns:
        The policy; it takes batches that know the data's next actions.

    Raises:
        InputError: for discrete actions and for goals.
    """
    check_continuous("rebrac", spec)
    if spec.goal_conditioned:
        raise InputError(
            "policy rebrac needs the data's next actions, but goal-conditioned batches have none: use agent "
            "iql or fql, or data with rewards, such as ogbench/NAME-singletask-v0"
        )
    network = DeterministicPolicy(
        spec.action_dim, config.hidden_dims, activation=config.activation, final_scale=config.final_scale
    )
    network = with_encoder(config.encoder, spec, network)
    optimizer = optax.adam(config.learning_rate)

    def init(key: Key, example: Transitions) -> TrainState:
        network_key, update_key = jax.random.split(key)
        params = network.init(network_key, example.observations)
        return learning.start(update_key, params, params, optimizer.init(params))

    def update(state: TrainState, batch: Transitions, estimates: Estimates) -> tuple[TrainState, Metrics]:
        def loss(params):
            actions = network.apply(params, batch.observations).mode()
            q_values = estimates.q(batch.observations, actions)
            scale = jax.lax.stop_gradient(jnp.mean(jnp.abs(q_values)))
            distances = jnp.sum(jnp.square(actions - batch.actions), axis=-1)
            bc_loss = config.bc_weight * jnp.mean(distances)
            return bc_loss - jnp.mean(q_values) / jnp.maximum(scale, 1e-6), {
                "q": jnp.mean(q_values),
                "bc_loss": bc_loss,
            }

        state, metrics = learning.update(state, loss, optimizer)
        averaged = optax.incremental_update(state.params, state.target_params, config.target_rate)
        return state._replace(target_params=averaged), metrics

    def sample(
        state: TrainState, observations: Array, key: Key, temperature: Array | float, estimates: Estimates
    ) -> Array:
        del key, temperature, estimates
        return network.apply(state.params, observations).mode()

    def look_ahead(state: TrainState, batch: Transitions, key: Key, estimates: Estimates) -> NextActions:
        del estimates
        actions = network.apply(state.target_params, batch.next_observations).mode()
        noise = config.target_noise * jax.random.normal(key, actions.shape)
        noise = jnp.clip(noise, -config.target_noise_max, config.target_noise_max)
        actions = jnp.clip(actions + noise, -1, 1)
        if batch.next_actions is None:
            raise InputError("policy rebrac needs the data's next actions, but these batches have none")
        distances = jnp.sum(jnp.square(actions - batch.next_actions), axis=-1)
        return NextActions(actions=actions, costs=config.target_weight * distances)

    return Policy(
        name="rebrac",
        needs=frozenset({"q", "q_gradient"}),
        init=init,
        update=update,
        sample=sample,
        look_ahead=look_ahead,
        period=config.period,
        slows_targets=True,
    )
