"""SAC's policy: climb Q and stay as random as a target entropy asks for.

    L = E[α log π(a | s) - Q(s, a)],   a ~ π(. | s)
    L_α = log α · (E[-log π(a | s)] - H)                    α grows while the entropy lies below H

Critics' targets are charged α log π(a' | s'), unless `charges_entropy` is off (RLPD's choice for sparse
rewards). The policy is a Gaussian squashed by tanh.

Source: Haarnoja et al. 2018, arXiv:1812.05905, equations 7 and 18; Ball et al. 2023, arXiv:2302.02948 (RLPD).
"""

import dataclasses

import jax
import jax.numpy as jnp
import optax

from valuelab.configuration import setting
from valuelab.networks import learning
from valuelab.networks.encoders import with_encoder
from valuelab.networks.policies import LOG_STD_MIN, SquashedGaussianPolicy
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
class SACConfig(ActorConfig):
    """Hyperparameters of SAC's policy. The learning rate is that of the policy and of log α."""

    target_entropy: float = setting(-0.5, help="Target entropy H, in nats for each action dimension.")
    initial_alpha: float = setting(1.0, "(0, inf)", "α at the first update, positive.")
    charges_entropy: bool = setting(True, help="Charge the targets of critics α log π.")
    log_std_min: float = setting(
        LOG_STD_MIN,
        "(-inf, 2)",
        "Least log σ of the Gaussian before tanh; the greatest is 2.",
        before=LOG_STD_MIN,
    )
    period: int = setting(
        1, "[1, inf)", "Updates of the critic for each step of the policy and of α.", before=1
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
        spec.action_dim, config.hidden_dims, config.activation, config.final_scale, config.log_std_min
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

        return learning.update(state, loss, optimizer)

    def sample(
        state: TrainState, observations: Array, key: Key, temperature: Array | float, estimates: Estimates
    ) -> Array:
        del estimates
        return network.apply(state.params["policy"], observations).sample(key, temperature)

    def sample_with_log_probs(state: TrainState, observations: Array, key: Key) -> tuple[Array, Array]:
        return network.apply(state.params["policy"], observations).sample_with_log_prob(key)

    def look_ahead(state: TrainState, batch: Transitions, key: Key, estimates: Estimates) -> NextActions:
        del estimates
        actions, log_probs = sample_with_log_probs(state, batch.next_observations, key)
        charged = jnp.exp(state.params["log_alpha"]) if config.charges_entropy else 0.0
        return NextActions(actions=actions, costs=charged * log_probs)

    return Policy(
        name="sac",
        needs=frozenset({"q", "q_gradient"}),
        init=init,
        update=update,
        sample=sample,
        look_ahead=look_ahead,
        sample_with_log_probs=sample_with_log_probs,
        period=config.period,
    )
