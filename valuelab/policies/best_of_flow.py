"""IFQL's policy: of several actions that a cloning flow draws, the one that the critic likes best.

    π(s) = argmax_{a_1 .. a_N} Q(s, a_i),   a_i = x(1 | s, e_i),   e_i ~ N(0, 1)

The flow learns from the data's actions alone; the critic enters when acting.

Source: Park, Li, Levine 2025, arXiv:2502.02538, appendix (IFQL), after Hansen-Estruch et al. 2023,
arXiv:2304.10573 (IDQL).
"""

import dataclasses

import jax
import jax.numpy as jnp
import optax

from valuelab.configuration import setting
from valuelab.networks import learning
from valuelab.networks.encoders import encode, with_encoder
from valuelab.networks.velocities import ActionVelocity
from valuelab.policies.continuous import FlowPolicyConfig, check_continuous
from valuelab.policies.one_step_flow import clone_actions, draw_actions
from valuelab.types import Array, Estimates, Key, Metrics, Policy, Spec, TrainState, Transitions


@dataclasses.dataclass(frozen=True, kw_only=True)
class BestOfFlowConfig(FlowPolicyConfig):
    """Hyperparameters of IFQL's policy."""

    num_candidates: int = setting(32, "[1, inf)", "N, number of actions that are compared.")


def best_of_flow(config: BestOfFlowConfig, spec: Spec) -> Policy:
    """A policy that chooses among cloned actions; needs q, of which it takes no gradient.

    Args:
        config: hyperparameters; numeric ones may be traced.
        spec: of the data.

    Returns:
        The policy; temperature scales the noise that candidates come from.

    Raises:
        InputError: for discrete actions.
    """
    check_continuous("best_of_flow", spec)
    field = ActionVelocity(spec.action_dim, config.hidden_dims, config.activation)
    field = with_encoder(config.encoder, spec, field)
    optimizer = optax.adam(config.learning_rate)

    def init(key: Key, example: Transitions) -> TrainState:
        field_key, update_key = jax.random.split(key)
        times = jnp.zeros((len(example.actions), 1))
        params = field.init(field_key, example.observations, example.actions, times)
        return learning.start(update_key, params, {}, optimizer.init(params))

    def update(state: TrainState, batch: Transitions, estimates: Estimates) -> tuple[TrainState, Metrics]:
        del estimates
        noise_key, time_key = jax.random.split(jax.random.fold_in(state.key, state.step))
        noise = jax.random.normal(noise_key, batch.actions.shape)
        times = jax.random.uniform(time_key, (len(batch.actions), 1))

        def loss(params):
            return clone_actions(field, params, batch.observations, batch.actions, noise, times), {}

        return learning.update(state, loss, optimizer)

    def sample(
        state: TrainState, observations: Array, key: Key, temperature: Array | float, estimates: Estimates
    ) -> Array:
        repeated = jnp.repeat(encode(field, state.params, observations), config.num_candidates, axis=0)
        noise = temperature * jax.random.normal(key, (repeated.shape[0], spec.action_dim))
        actions = draw_actions(field, state.params, repeated, noise, config.num_steps)
        candidates = actions.reshape(-1, config.num_candidates, spec.action_dim)
        # Images are encoded once for all candidates.
        q_values = jax.vmap(estimates.q, (None, 1), 1)(observations, candidates)
        best = jnp.argmax(q_values, axis=1)[:, None, None]
        return jnp.take_along_axis(candidates, best, axis=1)[:, 0]

    return Policy(
        name="best_of_flow",
        needs=frozenset({"q"}),
        init=init,
        update=update,
        sample=sample,
    )
