"""The hierarchical policy of HIQL: a high level chooses where to go next, a low level chooses actions.

    L_h = -E[min(exp(β_h (V(w, g) - V(s, g))), w_max) · log π_h(φ(s, w) | s, g)]    w = policy_subgoals
    L_l = -E[min(exp(β_l A(s, a, w)), w_max) · log π_l(a | s, φ(s, w))]             w = subgoals

A is the critic's advantage with w as the goal, V(s', w) - V(s, w) with implicit V-learning. V, A and φ are
constants to both losses. The policy acts by drawing a representation from π_h, scaling it to the sphere of
radius √d, and drawing an action from π_l.

Source: Park et al. 2023, "HIQL: Offline Goal-Conditioned RL with Latent States as Actions", arXiv:2307.11949,
equations 6 and 7, with the settings of OGBench (github.com/seohongpark/ogbench, impls/agents/hiql.py).
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from valuelab.configuration import setting
from valuelab.errors import InputError
from valuelab.networks import learning
from valuelab.networks.encoders import with_encoder
from valuelab.networks.mlp import Joined
from valuelab.networks.policies import GaussianPolicy
from valuelab.ops.goals import join, split, with_goals
from valuelab.ops.zero_shot import on_sphere
from valuelab.policies.awr import WeightedConfig, weighted_cloning
from valuelab.policies.parametric import action_network
from valuelab.types import (
    Array,
    Estimates,
    GoalConditioned,
    Key,
    Metrics,
    Params,
    Policy,
    Spec,
    TrainState,
    Transitions,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class HierarchicalConfig(WeightedConfig):
    """Hyperparameters of the hierarchical policy; both levels share the sizes of their networks."""

    low_inverse_temperature: float = setting(
        3.0, "[0, inf)", "Inverse temperature β_l of the low level, which chooses actions, at least 0."
    )
    high_inverse_temperature: float = setting(
        3.0, "[0, inf)", "Inverse temperature β_h of the high level, which chooses subgoals, at least 0."
    )


def hierarchical(config: HierarchicalConfig, spec: Spec) -> Policy:
    """A policy of two levels, for critics that offer representations of goals.

    Args:
        config: hyperparameters; numeric ones may be traced.
        spec: of the data.

    Returns:
        The policy; it takes batches with subgoals.

    Raises:
        InputError: for data without goals, for a critic without representations, and for a cosine schedule
            of unknown length.
    """
    if not spec.goal_conditioned:
        raise InputError(
            "policy hierarchical needs goals, but the data have none: use data with goals, such as "
            "ogbench/pointmaze-medium-navigate-v0, or another policy"
        )
    if not spec.representation_dim:
        raise InputError(
            "policy hierarchical needs representations of goals, but the critic has none: use critic "
            "implicit_state_value, and give critic.representation_dim, such as 10"
        )
    high_network = with_encoder(
        config.encoder,
        spec,
        GaussianPolicy(
            spec.representation_dim,
            config.hidden_dims,
            config.dropout_rate,
            config.activation,
            config.final_scale,
            mean="unbounded",
            learn_std=config.learn_std,
        ),
    )
    low_network = with_encoder(config.encoder, spec, Joined(action_network(config, spec)))
    optimizer = optax.adam(learning.scheduled(config.learning_rate, config.learning_rate_schedule, spec))

    def init(key: Key, example: Transitions) -> TrainState:
        high_key, low_key, update_key = jax.random.split(key, 3)
        representations = jnp.zeros((len(example.actions), spec.representation_dim))
        params = {
            "high": high_network.init(high_key, example.observations),
            "low": low_network.init(low_key, split(example.observations).observations, representations),
        }
        return learning.start(update_key, params, {}, optimizer.init(params))

    def high_loss(
        params: Params, batch: Transitions, estimates: Estimates, key: Key
    ) -> tuple[Array, Metrics]:
        states, goals = split(batch.observations)
        subgoals = _needed(batch.policy_subgoals)
        advantages = estimates.value(join(GoalConditioned(subgoals, goals)))
        advantages -= estimates.value(batch.observations)
        distribution = high_network.apply(params, batch.observations, rngs={"dropout": key})
        targets = estimates.goal_representation(join(GoalConditioned(states, subgoals)))
        return weighted_cloning(
            distribution, targets, advantages, config.high_inverse_temperature, config.weight_max
        )

    def low_loss(
        params: Params,
        batch: Transitions,
        estimates: Estimates,
        represent: Callable[[Array], Array],
        key: Key | None = None,
    ) -> tuple[Array, Metrics]:
        states, next_states = (
            split(part).observations for part in (batch.observations, batch.next_observations)
        )
        batch = batch._replace(observations=states, next_observations=next_states)
        towards = with_goals(batch, _needed(batch.subgoals))
        distribution = low_network.apply(
            params, states, represent(towards.observations), rngs={} if key is None else {"dropout": key}
        )
        advantages = estimates.advantage(towards)
        return weighted_cloning(
            distribution, batch.actions, advantages, config.low_inverse_temperature, config.weight_max
        )

    def update(state: TrainState, batch: Transitions, estimates: Estimates) -> tuple[TrainState, Metrics]:
        high_key, low_key = jax.random.split(jax.random.fold_in(state.key, state.step))

        def loss(params):
            levels = {
                "low": low_loss(params["low"], batch, estimates, estimates.goal_representation, low_key),
                "high": high_loss(params["high"], batch, estimates, high_key),
            }
            metrics = {
                f"{level}_{name}": metric
                for level, (loss, metrics) in levels.items()
                for name, metric in ({"loss": loss} | metrics).items()
            }
            return levels["low"][0] + levels["high"][0], metrics

        return learning.update(state, loss, optimizer)

    def sample(
        state: TrainState, observations: Array, key: Key, temperature: Array | float, estimates: Estimates
    ) -> Array:
        del estimates
        high_key, low_key = jax.random.split(key)
        drawn = high_network.apply(state.params["high"], observations).sample(high_key, temperature)
        states, representations = split(observations).observations, on_sphere(drawn)
        return low_network.apply(state.params["low"], states, representations).sample(low_key, temperature)

    def representation_loss(
        state: TrainState, batch: Transitions, estimates: Estimates, represent: Callable[[Array], Array]
    ) -> Array:
        return low_loss(state.params["low"], batch, estimates, represent)[0]

    return Policy(
        name="hierarchical",
        needs=frozenset({"value", "advantage", "goal_representation"}),
        init=init,
        update=update,
        sample=sample,
        representation_loss=representation_loss,
    )


def _needed(subgoals: Array | None) -> Array:
    """The subgoals of a batch; raises where it has none."""
    if subgoals is None:
        raise InputError(
            "policy hierarchical needs subgoals, but these batches have none: give data.goals.subgoal_steps, "
            "such as 25"
        )
    return subgoals
