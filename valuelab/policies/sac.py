"""SAC's policy: climb Q and stay as random as a target entropy asks for.

    L = E[α log π(a | s) - Q(s, a)],   a ~ π(. | s)
    L_α = log α · (E[-log π(a | s)] - H)                    α grows while the entropy lies below H

Critics' targets are charged α log π(a' | s'), unless `charges_entropy` is off (as RLPD has it for sparse
rewards). The policy is a Gaussian squashed by tanh.

Source: Haarnoja et al. 2018, arXiv:1812.05905, equations 7 and 18; Ball et al. 2023, arXiv:2302.02948 (RLPD).
"""

import dataclasses

import jax
import jax.numpy as jnp
import optax

from valuelab.configuration import check_ranges, check_widths
from valuelab.networks import learning
from valuelab.networks.encoders import EncoderName, with_encoder
from valuelab.networks.mlp import Activation
from valuelab.networks.policies import SquashedGaussianPolicy
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
class SACConfig:
    """Hyperparameters of SAC's policy.

    Attributes:
        hidden_dims: width of each hidden layer.
        activation: of each hidden layer, "relu" or "gelu".
        final_scale: variance of the last layer's first weights, times the mean of its two widths.
        target_entropy: H in nats for each action dimension.
        initial_alpha: α at the first update, positive.
        charges_entropy: whether critics' targets are charged α log π.
        learning_rate: of Adam, of the policy and of log α.
        encoder: of images, "impala_small", "drq" or "dqn"; none for vectors, and for impala_small.
    """

    hidden_dims: tuple[int, ...] = (256, 256)
    activation: Activation = "relu"
    final_scale: float = 1.0
    target_entropy: float = -0.5
    initial_alpha: float = 1.0
    charges_entropy: bool = True
    learning_rate: float = 3e-4
    encoder: EncoderName | None = None

    def __post_init__(self) -> None:
        check_widths(self, "hidden_dims")
        check_ranges(
            self,
            final_scale="(0, inf)",
            initial_alpha="(0, inf)",
            learning_rate="(0, inf)",
        )


def sac(config: SACConfig, spec: Spec) -> Policy:
    """A policy of greatest entropy.

    Args:
        config: hyperparameters; numeric ones may be traced.
        spec: of the data.

    Returns:
        The policy.

    Raises:
        InputError: for discrete actions.
    """
    check_continuous("sac", spec)
    network = SquashedGaussianPolicy(
        spec.action_dim, config.hidden_dims, config.activation, config.final_scale
    )
    network = with_encoder(config.encoder, spec, network)
    optimizer = optax.adam(config.learning_rate)
    target_entropy = config.target_entropy * spec.action_dim

    def init(key: Key, example: Transitions) -> TrainState:
        network_key, update_key = jax.random.split(key)
        params = {
            "policy": network.init(network_key, example.observations),
            "log_alpha": jnp.log(jnp.asarray(config.initial_alpha, jnp.float32)),
        }
        return learning.start(update_key, params, {}, optimizer.init(params))

    def update(state: TrainState, batch: Transitions, estimates: Estimates) -> tuple[TrainState, Metrics]:
        key = jax.random.fold_in(state.key, state.step)

        def loss(params):
            distribution = network.apply(params["policy"], batch.observations)
            actions, log_probs = distribution.sample_with_log_prob(key)
            q_values = estimates.q(batch.observations, actions)
            alpha = jnp.exp(params["log_alpha"])
            entropy = -jnp.mean(log_probs)
            policy_loss = jnp.mean(jax.lax.stop_gradient(alpha) * log_probs - q_values)
            alpha_loss = params["log_alpha"] * jax.lax.stop_gradient(entropy - target_entropy)
            return policy_loss + alpha_loss, {"q": jnp.mean(q_values), "entropy": entropy, "alpha": alpha}

        params, opt_state, metrics = learning.gradient_step(loss, optimizer, state.params, state.opt_state)
        return state._replace(params=params, opt_state=opt_state, step=state.step + 1), metrics

    def sample(
        state: TrainState, observations: Array, key: Key, temperature: Array | float, estimates: Estimates
    ) -> Array:
        del estimates
        return network.apply(state.params["policy"], observations).sample(key, temperature)

    def look_ahead(state: TrainState, batch: Transitions, key: Key, estimates: Estimates) -> NextActions:
        del estimates
        distribution = network.apply(state.params["policy"], batch.next_observations)
        actions, log_probs = distribution.sample_with_log_prob(key)
        charged = jnp.exp(state.params["log_alpha"]) if config.charges_entropy else 0.0
        return NextActions(actions, charged * log_probs)

    return Policy("sac", frozenset({"q", "q_gradient"}), init, update, sample, look_ahead)
