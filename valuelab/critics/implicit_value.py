"""Critics of a value function of the data: V learns from Q, and Q from V.

One update, in this order:

1. Value step: V follows the target critics' minimum by a loss of its own, E[L(min_i Q̄_i(s, a) - V(s))].
2. Critic step: each Q_i follows the one-step target with the NEW value,
   E[Σ_i ℓ(r + γ · mask · V(s') - Q_i(s, a))].

`average_targets` then moves Q̄ towards the NEW Q. Advantages are min_i Q̄_i(s, a) - V(s). No step evaluates an
action outside the data. Critics differ in L alone, an upper statistic of Q over the data's actions.

Source: Kostrikov, Nair, Levine, arXiv:2110.06169, algorithm 1.
"""

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from valuelab.critics.values import CriticConfig, offered
from valuelab.networks import learning
from valuelab.networks.encoders import with_encoder
from valuelab.networks.mlp import LAYERS, Activation, ensemble, hidden_layers
from valuelab.networks.values import StateActionValue, StateValue
from valuelab.ops.returns import bootstrapped_target
from valuelab.types import (
    Array,
    Critic,
    Diagnostics,
    Estimates,
    Key,
    Layer,
    Metrics,
    PolicyView,
    Spec,
    TrainState,
    Transitions,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImplicitValueConfig(CriticConfig):
    """Hyperparameters of every critic with an implicit value; the minimum over the ensemble is Q."""

    hidden_dims: tuple[int, ...] = (256, 256)
    activation: Activation = "relu"
    layer_norm: bool = False


def implicit_value_critic(
    name: str,
    config: ImplicitValueConfig,
    spec: Spec,
    loss: Callable[[Array], Array],
    *,
    q_loss: Callable[[Array], Array] = jnp.square,
    value_layer_norm: bool = False,
) -> Critic:
    """A critic that never asks for the value of an action outside the data.

    Args:
        name: its name in messages.
        config: hyperparameters; numeric ones may be traced.
        spec: of the data.
        loss: L of errors min_i Q̄_i(s, a) - V(s), [B] -> [B].
        q_loss: ℓ of errors of Q, of any shape.
        value_layer_norm: normalise the hidden layers of V even where config.layer_norm is off.

    Returns:
        A critic that offers q (the minimum over the ensemble; its gradient too where actions are
        continuous), value, and advantage (with the target critics, as weights of data actions).
    """
    value_network = StateValue(config.hidden_dims, config.layer_norm or value_layer_norm, config.activation)
    q_network = ensemble(StateActionValue, config.ensemble_size)(
        config.hidden_dims, config.layer_norm, spec.num_actions, config.activation
    )
    value_network, q_network = (
        with_encoder(config.encoder, spec, network) for network in (value_network, q_network)
    )
    optimizer = optax.adam(config.learning_rate)

    def init(key: Key, example: Transitions) -> TrainState:
        value_key, q_key, update_key = jax.random.split(key, 3)
        params = {
            "value": value_network.init(value_key, example.observations),
            "q": q_network.init(q_key, example.observations, example.actions),
        }
        opt_state = {name: optimizer.init(part) for name, part in params.items()}
        return learning.start(update_key, params, {"q": params["q"]}, opt_state)

    def least_q(q_params, observations: Array, actions: Array) -> Array:
        return jnp.min(q_network.apply(q_params, observations, actions), axis=0)

    def update(state: TrainState, batch: Transitions, policy: PolicyView) -> tuple[TrainState, Metrics]:
        del policy  # the value function stands in for the policy's actions
        target_q = least_q(state.target_params["q"], batch.observations, batch.actions)

        def value_loss(params):
            values = value_network.apply(params, batch.observations)
            return jnp.mean(loss(target_q - values)), {"mean": jnp.mean(values)}

        # 1. Value step.
        state, value_metrics = learning.update_part(state, "value", value_loss, optimizer)

        next_values = value_network.apply(state.params["value"], batch.next_observations)
        targets = bootstrapped_target(batch.rewards, batch.masks, next_values, config.discount)

        def critic_loss(params):
            q_values = q_network.apply(params, batch.observations, batch.actions)
            losses = jnp.mean(q_loss(targets[None] - q_values), axis=1)
            return jnp.sum(losses), {"mean": jnp.mean(q_values), "max": jnp.max(q_values)}

        # 2. Critic step.
        state, q_metrics = learning.update_part(state, "q", critic_loss, optimizer)

        metrics = {f"value_{name}": metric for name, metric in value_metrics.items()}
        metrics |= {f"q_{name}": metric for name, metric in q_metrics.items()}
        return state._replace(step=state.step + 1), metrics

    def estimates(state: TrainState) -> Estimates:
        def value(observations: Array) -> Array:
            return value_network.apply(state.params["value"], observations)

        def advantage(batch: Transitions) -> Array:
            target_q = least_q(state.target_params["q"], batch.observations, batch.actions)
            return target_q - value(batch.observations)

        def q(observations: Array, actions: Array) -> Array:
            return least_q(state.params["q"], observations, actions)

        return Estimates(q=q, value=value, advantage=advantage)

    def layers(state: TrainState, observations: Array, actions: Array, key: Key) -> dict[str, Layer]:
        del key
        return hidden_layers(q_network.apply(state.params["q"], observations, actions, mutable=LAYERS)[1])

    return Critic(
        name=name,
        offers=offered(spec, "q", "value", "advantage"),
        init=init,
        update=update,
        average_targets=functools.partial(learning.average_targets, rate=config.target_rate),
        estimates=estimates,
        diagnostics=Diagnostics(discount=config.discount, layers=layers),
    )
