"""ReBRAC's policy: climb Q near the data's actions, and charge targets for leaving them.

    L = -E[Q(s, μ(s))] / |Q| + β₁ E‖μ(s) - a‖²,   |Q| = stop_grad(E|Q(s, μ(s))|)
    targets follow a' = clip(μ̄(s') + clip(σ ε, -c, c), -1, 1) at the cost β₂ ‖a' - a'_data‖²

μ̄ is a slow average of μ. Source: Tarasov et al. 2023, arXiv:2305.09836, equations 3 and 4; noise in targets
of Fujimoto et al. 2018 (arXiv:1802.09477).
"""

import dataclasses

import jax
import jax.numpy as jnp
import optax

from valuelab.configuration import check_ranges, check_widths
from valuelab.errors import InputError
from valuelab.networks import learning
from valuelab.networks.encoders import EncoderName, with_encoder
from valuelab.networks.mlp import Activation
from valuelab.networks.policies import DeterministicPolicy
from valuelab.policies.continuous import check_continuous
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


@dataclasses.dataclass(frozen=True)
class ReBRACConfig:
    """Hyperparameters of ReBRAC's policy.

    Attributes:
        hidden_dims: width of each hidden layer.
        activation: of each hidden layer, "relu" or "gelu".
        final_scale: variance of the last layer's first weights, times the mean of its two widths.
        bc_weight: β₁, at least 0, of the policy's distance from the data's actions.
        target_weight: β₂, at least 0, that targets are charged for theirs.
        target_noise: σ of the noise in targets, at least 0.
        target_noise_max: c at which it is clipped, at least 0.
        target_rate: share of the new policy in its average, in (0, 1].
        learning_rate: of Adam.
        encoder: of images, "impala_small", "drq" or "dqn"; none for vectors, and for impala_small.
    """

    hidden_dims: tuple[int, ...] = (512, 512, 512, 512)
    activation: Activation = "relu"
    final_scale: float = 1.0
    bc_weight: float = 0.1
    target_weight: float = 0.01
    target_noise: float = 0.2
    target_noise_max: float = 0.5
    target_rate: float = 0.005
    learning_rate: float = 3e-4
    encoder: EncoderName | None = None

    def __post_init__(self) -> None:
        check_widths(self, "hidden_dims")
        check_ranges(
            self,
            final_scale="(0, inf)",
            bc_weight="[0, inf)",
            target_weight="[0, inf)",
            target_noise="[0, inf)",
            target_noise_max="[0, inf)",
            target_rate="(0, 1]",
            learning_rate="(0, inf)",
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
            "policy rebrac asks for the data's next actions, which goal-conditioned batches lack: take agent "
            "iql_ddpg_bc or fql, or data with rewards, such as ogbench/NAME-singletask-v0"
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
            return bc_loss - jnp.mean(q_values) / (scale + 1e-6), {
                "q": jnp.mean(q_values),
                "bc_loss": bc_loss,
            }

        params, opt_state, metrics = learning.gradient_step(loss, optimizer, state.params, state.opt_state)
        averaged = optax.incremental_update(params, state.target_params, config.target_rate)
        return state._replace(
            params=params, target_params=averaged, opt_state=opt_state, step=state.step + 1
        ), metrics

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
            raise InputError("policy rebrac asks for the data's next actions, which these batches lack")
        distances = jnp.sum(jnp.square(actions - batch.next_actions), axis=-1)
        return NextActions(actions, config.target_weight * distances)

    return Policy("rebrac", frozenset({"q", "q_gradient"}), init, update, sample, look_ahead)
