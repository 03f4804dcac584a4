"""The conservative critic (CQL): values of actions that the data do not have are pushed down.

One update:

1. Targets y as of the plain critic.
2. N actions each from U[-1, 1], π(. | s) and π(. | s'), with their likelihoods p(a).
3. Critic step, for each Q_i of the ensemble:

       E (Q_i(s, a) - y)² + α gap_i,   gap_i = E [T log Σ_a' exp((Q_i(s, a') - log p(a')) / T) - Q_i(s, a)]

With `lagrange` the second term is β (α gap_i - τ), and log β climbs Σ_i β (α gap_i - τ) / 2: β grows while
gaps are large, and vanishes while they are small.

`average_targets` then moves Q̄ towards the NEW Q. Sampled actions and their likelihoods carry no gradient.

Source: Kumar, Zhou, Tucker, Levine 2020, "Conservative Q-Learning for Offline Reinforcement Learning",
arXiv:2006.04779, equation 4 (CQL(H)), by importance sampling as in the authors' code,
github.com/aviralkumar2907/CQL, d4rl/rlkit/torch/sac/cql.py (min_q_version 3).
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import optax

from valuelab.configuration import setting
from valuelab.critics.temporal_difference import TemporalDifferenceConfig, q_ensemble
from valuelab.critics.values import Aggregation, aggregate, offered
from valuelab.errors import InputError
from valuelab.networks import learning
from valuelab.networks.mlp import LAYERS, Activation, hidden_layers
from valuelab.ops.conservative import conservative_gap
from valuelab.types import (
    Array,
    Critic,
    Diagnostics,
    Estimates,
    Key,
    Layer,
    Metrics,
    Params,
    PolicyView,
    Spec,
    TrainState,
    Transitions,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConservativeConfig(TemporalDifferenceConfig):
    """Hyperparameters of the conservative critic."""

    hidden_dims: tuple[int, ...] = (256, 256, 256)
    activation: Activation = "relu"
    layer_norm: bool = False
    aggregation: Aggregation = "min"
    q_aggregation: Aggregation = setting("min", before="min")
    conservative_weight: float = setting(5.0, "[0, inf)", "Weight α of the gap, at least 0.")
    num_sampled: int = setting(10, "[1, inf)", "N, number of actions from each of three sources.")
    temperature: float = setting(1.0, "(0, inf)", "Temperature T of the log-sum-exp, in units of returns.")
    lagrange: bool = setting(False, help="Learn the multiplier β of α gap - τ; otherwise the term is α gap.")
    target_gap: float = setting(5.0, "[0, inf)", "τ of lagrange, in units of returns.")


def conservative_critic(config: ConservativeConfig, spec: Spec) -> Critic:
    """A plain critic that keeps the values of actions outside the data below those of the data.

    Args:
        config: hyperparameters; numeric ones may be traced.
        spec: of the data.

    Returns:
        A critic that offers q and its gradient; it needs a policy with likelihoods.

    Raises:
        InputError: for discrete actions; where `q_ensemble` refuses the data.
    """
    if spec.discrete:
        raise InputError(
            "critic conservative needs continuous actions, but the data have discrete ones: "
            "choose another critic"
        )
    network, values, distance, targets_of = q_ensemble(config, spec)
    optimizer = optax.adam(config.learning_rate)

    def init(key: Key, example: Transitions) -> TrainState:
        network_key, update_key = jax.random.split(key)
        params = {"q": network.init(network_key, example.observations, example.actions)}
        if config.lagrange:
            params["log_multiplier"] = jnp.zeros(())
        return learning.start(update_key, params, {"q": params["q"]}, optimizer.init(params))

    def sampled(batch: Transitions, policy: PolicyView, key: Key) -> tuple[Array, Array]:
        """Actions [B, 3 N, A] and their log-likelihoods [B, 3 N]."""
        uniform_key, *policy_keys = jax.random.split(key, 3)
        size, count = len(batch.rewards), config.num_sampled
        uniform = jax.random.uniform(uniform_key, (size, count, spec.action_dim), minval=-1.0, maxval=1.0)
        actions, log_probs = [uniform], [jnp.full((size, count), -spec.action_dim * jnp.log(2.0))]
        for source_key, seen in zip(policy_keys, (batch.observations, batch.next_observations), strict=True):
            draw = functools.partial(policy.sample, seen)
            drawn = jax.vmap(draw, out_axes=1)(jax.random.split(source_key, count))
            actions.append(drawn[0])
            log_probs.append(drawn[1])
        return jnp.concatenate(actions, axis=1), jnp.concatenate(log_probs, axis=1)

    def update(state: TrainState, batch: Transitions, policy: PolicyView) -> tuple[TrainState, Metrics]:
        action_key, member_key, sample_key = jax.random.split(jax.random.fold_in(state.key, state.step), 3)

        # 1. Targets.
        following = policy.look_ahead(batch, action_key)
        targets = targets_of(state.target_params["q"], batch, following, member_key)
        # 2. Actions to compare with those of the data.
        actions, log_probs = sampled(batch, policy, sample_key)

        def loss(params: Params) -> tuple[Array, Metrics]:
            outputs = network.apply(params["q"], batch.observations, batch.actions)
            q_values = values(outputs)
            others = jax.vmap(
                lambda actions: values(network.apply(params["q"], batch.observations, actions)), 1, 2
            )(actions)
            gaps = conservative_gap(q_values, others, log_probs, config.temperature)
            penalties = config.conservative_weight * jnp.mean(gaps, axis=1)
            metrics = {
                "mean": jnp.mean(q_values),
                "target_mean": jnp.mean(targets),
                "gap": jnp.mean(gaps),
            }
            total = jnp.sum(jnp.mean(distance(outputs, targets), axis=1))
            if not config.lagrange:
                return total + jnp.sum(penalties), metrics
            multiplier = jnp.clip(jnp.exp(params["log_multiplier"]), 0.0, 1e6)
            excess = penalties - config.target_gap
            total += jnp.sum(jax.lax.stop_gradient(multiplier) * excess)
            total -= jnp.sum(multiplier * jax.lax.stop_gradient(excess)) / 2
            return total, metrics | {"multiplier": multiplier}

        # 3. Critic step.
        state, metrics = learning.update(state, loss, optimizer)
        return state, {f"q_{name}": metric for name, metric in metrics.items()}

    def estimates(state: TrainState) -> Estimates:
        def q(observations: Array, actions: Array) -> Array:
            outputs = network.apply(state.params["q"], observations, actions)
            return aggregate(config.q_aggregation, values(outputs))

        return Estimates(q=q)

    def layers(state: TrainState, observations: Array, actions: Array, key: Key) -> dict[str, Layer]:
        del key
        return hidden_layers(network.apply(state.params["q"], observations, actions, mutable=LAYERS)[1])

    return Critic(
        name="conservative",
        offers=offered(spec, "q"),
        init=init,
        update=update,
        average_targets=functools.partial(learning.average_targets, rate=config.target_rate),
        estimates=estimates,
        diagnostics=Diagnostics(discount=config.discount, layers=layers),
        needs=frozenset({"log_probs"}),
    )
