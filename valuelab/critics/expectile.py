"""The expectile critic of implicit Q-learning: values of the best actions in the data, and no others.

One update, in this order:

1. Value step: V follows an upper expectile of the target critics' minimum,
   E[L_τ(min_i Q̄_i(s, a) - V(s))].
2. Critic step: each Q_i follows the one-step target with the NEW value,
   E[Σ_i (r + γ · mask · V(s') - Q_i(s, a))²].

`average_targets` then moves Q̄ towards the NEW Q. Advantages are min_i Q̄_i(s, a) - V(s).

Source: Kostrikov, Nair, Levine, "Offline Reinforcement Learning with Implicit Q-Learning",
arXiv:2110.06169, equations 5 and 6 and algorithm 1.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import optax

from valuelab.configuration import check_ranges, check_widths
from valuelab.critics.values import offered
from valuelab.networks import learning
from valuelab.networks.encoders import EncoderName, with_encoder
from valuelab.networks.mlp import LAYERS, Activation, ensemble, hidden_layers
from valuelab.networks.values import StateActionValue, StateValue
from valuelab.ops.expectile import expectile_loss
from valuelab.ops.returns import bootstrapped_target
from valuelab.types import Array, Critic, Estimates, Key, Layer, Metrics, Spec, TrainState, Transitions


@dataclasses.dataclass(frozen=True)
class ExpectileConfig:
    """Hyperparameters of the expectile critic.

    Attributes:
        hidden_dims: width of each hidden layer of V and Q.
        activation: of each hidden layer, "relu" or "gelu".
        layer_norm: normalise hidden layers, after their activation.
        ensemble_size: number of Q functions whose minimum is taken.
        expectile: τ in (0, 1); 0.5 is the mean, towards 1 the best action in the data.
        discount: γ in [0, 1).
        learning_rate: of Adam.
        target_rate: share of the new Q in its target average, in (0, 1].
        encoder: of images, "impala_small", "drq" or "dqn"; none for vectors, and for impala_small.
    """

    hidden_dims: tuple[int, ...] = (256, 256)
    activation: Activation = "relu"
    layer_norm: bool = False
    ensemble_size: int = 2
    expectile: float = 0.7
    discount: float = 0.99
    learning_rate: float = 3e-4
    target_rate: float = 0.005
    encoder: EncoderName | None = None

    def __post_init__(self) -> None:
        check_widths(self, "hidden_dims")
        check_ranges(
            self,
            ensemble_size="[1, inf)",
            expectile="(0, 1)",
            discount="[0, 1)",
            learning_rate="(0, inf)",
            target_rate="(0, 1]",
        )


def expectile_critic(config: ExpectileConfig, spec: Spec) -> Critic:
    """A critic that never asks for the value of an action outside the data.

    Args:
        config: hyperparameters; numeric ones may be traced.
        spec: of the data.

    Returns:
        A critic that offers q (the minimum over the ensemble; its gradient too where actions are
        continuous), value, and advantage (with the target critics, as weights of data actions).
    """
    value_network = StateValue(config.hidden_dims, config.layer_norm, config.activation)
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

    def update(state: TrainState, batch: Transitions, look_ahead) -> tuple[TrainState, Metrics]:
        del look_ahead  # the value function stands in for the policy's actions
        target_q = least_q(state.target_params["q"], batch.observations, batch.actions)

        def value_loss(params):
            values = value_network.apply(params, batch.observations)
            return jnp.mean(expectile_loss(target_q - values, config.expectile)), {"mean": jnp.mean(values)}

        # 1. Value step.
        value_params, value_opt_state, value_metrics = learning.gradient_step(
            value_loss, optimizer, state.params["value"], state.opt_state["value"]
        )

        next_values = value_network.apply(value_params, batch.next_observations)
        targets = bootstrapped_target(batch.rewards, batch.masks, next_values, config.discount)

        def q_loss(params):
            q_values = q_network.apply(params, batch.observations, batch.actions)
            losses = jnp.mean(jnp.square(targets[None] - q_values), axis=1)
            return jnp.sum(losses), {"mean": jnp.mean(q_values), "max": jnp.max(q_values)}

        # 2. Critic step.
        q_params, q_opt_state, q_metrics = learning.gradient_step(
            q_loss, optimizer, state.params["q"], state.opt_state["q"]
        )

        metrics = {f"value_{name}": metric for name, metric in value_metrics.items()}
        metrics |= {f"q_{name}": metric for name, metric in q_metrics.items()}
        return state._replace(
            params={"value": value_params, "q": q_params},
            opt_state={"value": value_opt_state, "q": q_opt_state},
            step=state.step + 1,
        ), metrics

    def estimates(state: TrainState) -> Estimates:
        def value(observations: Array) -> Array:
            return value_network.apply(state.params["value"], observations)

        def advantage(observations: Array, actions: Array) -> Array:
            return least_q(state.target_params["q"], observations, actions) - value(observations)

        def q(observations: Array, actions: Array) -> Array:
            return least_q(state.params["q"], observations, actions)

        return Estimates(q, value, advantage)

    def layers(state: TrainState, observations: Array, actions: Array, key: Key) -> dict[str, Layer]:
        del key
        return hidden_layers(q_network.apply(state.params["q"], observations, actions, mutable=LAYERS)[1])

    average_targets = functools.partial(learning.average_targets, rate=config.target_rate)
    offers = offered(spec, "q", "value", "advantage")
    return Critic("expectile", offers, init, update, average_targets, estimates, config.discount, layers)
