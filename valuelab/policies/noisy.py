"""A deterministic policy that climbs Q, with clipped noise in targets and in its own loss.

    a = clip(μ(s) + clip(σ ε, -c, c), -1, 1),   L = -E Q(s, a) / |Q| + β E ‖a - a_data‖² / A

ε is standard normal. The outer clip has the gradient of the identity. |Q| = stop_grad(E |Q(s, a)|), or 1
without `normalize_q`. Targets follow actions a of the newest policy.

Source: Yarats et al. 2022 (DrQ-v2), arXiv:2107.09645, for the noise; for zero-shot agents Touati, Rapin,
Ollivier 2023, arXiv:2209.14935.
"""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from valuelab.configuration import setting
from valuelab.networks import learning
from valuelab.networks.encoders import with_encoder
from valuelab.networks.policies import DeterministicPolicy, TaskPolicy
from valuelab.policies.continuous import ActorConfig, TaskPolicyConfig, check_continuous, check_tasks
from valuelab.types import Array, Estimates, Key, Metrics, Params, Policy, Spec, TrainState, Transitions


@dataclasses.dataclass(frozen=True, kw_only=True)
class NoisyConfig(TaskPolicyConfig, ActorConfig):
    """Hyperparameters of a deterministic policy with clipped noise."""

    noise: float = setting(0.2, "[0, inf)", "σ of the noise on actions, at least 0.")
    noise_max: float = setting(0.3, "[0, inf)", "c at which the noise is clipped, at least 0.")
    bc_weight: float = setting(0.0, "[0, inf)", "Weight β of the squared distance from the data's actions.")
    normalize_q: bool = setting(False, help="Divide Q by the mean of its absolute value.")


def noisy(config: NoisyConfig, spec: Spec) -> Policy:
    """Builds the policy.

    Args:
        config: hyperparameters; numeric ones may be traced.
        spec: of the data.

    Returns:
        The policy; temperature scales the noise.

    Raises:
        InputError: for discrete actions, and for an embedding of tasks if there are none.
    """
    check_continuous("noisy", spec)
    check_tasks("noisy", config, spec)
    network: nn.Module
    if config.task_embedding:
        network = TaskPolicy(spec.action_dim, config.hidden_dims, spec.task_dim)
    else:
        network = DeterministicPolicy(
            spec.action_dim, config.hidden_dims, activation=config.activation, final_scale=config.final_scale
        )
    network = with_encoder(config.encoder, spec, network)
    optimizer = optax.adam(config.learning_rate)

    def mean(params: Params, observations: Array) -> Array:
        given = network.apply(params, observations)
        return given if config.task_embedding else given.mode()

    def draw(params: Params, observations: Array, key: Key, temperature: Array | float) -> Array:
        center = mean(params, observations)
        noise = config.noise * jax.random.normal(key, center.shape)
        moved = center + temperature * jnp.clip(noise, -config.noise_max, config.noise_max)
        return moved + jax.lax.stop_gradient(jnp.clip(moved, -1, 1) - moved)

    def init(key: Key, example: Transitions) -> TrainState:
        network_key, update_key = jax.random.split(key)
        params = network.init(network_key, example.observations)
        return learning.start(update_key, params, {}, optimizer.init(params))

    def update(state: TrainState, batch: Transitions, estimates: Estimates) -> tuple[TrainState, Metrics]:
        key = jax.random.fold_in(state.key, state.step)

        def loss(params: Params) -> tuple[Array, Metrics]:
            actions = draw(params, batch.observations, key, 1.0)
            q_values = estimates.q(batch.observations, actions)
            scale = jax.lax.stop_gradient(jnp.mean(jnp.abs(q_values))) if config.normalize_q else 1.0
            bc_loss = config.bc_weight * jnp.mean(jnp.square(actions - batch.actions))
            return bc_loss - jnp.mean(q_values) / scale, {"q": jnp.mean(q_values), "bc_loss": bc_loss}

        return learning.update(state, loss, optimizer)

    def sample(
        state: TrainState, observations: Array, key: Key, temperature: Array | float, estimates: Estimates
    ) -> Array:
        del estimates
        return draw(state.params, observations, key, temperature)

    return Policy(name="noisy", needs=frozenset({"q", "q_gradient"}), init=init, update=update, sample=sample)
