"""The implicit quantile critic: the return distribution as a function of the quantile's level.

One update:

1. Targets y_j = r + γ · mask · (agg_i Q̄_i(s', a'; τ'_j) - cost) at N' levels τ' ~ U[0, 1], with a' and its
   cost from the policy.
2. Critic step: quantile Huber regression of Q_i(s, a; τ) at N levels τ ~ U[0, 1] towards the y_j.

`average_targets` then moves Q̄ towards the NEW Q. Q(s, a) is the mean over evenly spaced levels.

Source: Dabney, Ostrovski, Silver, Munos 2018, arXiv:1806.06923.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import optax

from valuelab.configuration import setting
from valuelab.critics.values import Aggregation, CriticConfig, aggregate, offered
from valuelab.networks import learning
from valuelab.networks.encoders import with_encoder
from valuelab.networks.mlp import LAYERS, ensemble, hidden_layers
from valuelab.networks.quantiles import ImplicitQuantiles
from valuelab.ops.quantile import midpoints, quantile_huber_loss
from valuelab.ops.returns import bootstrapped_targets
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
class ImplicitQuantileConfig(CriticConfig):
    """Hyperparameters of the implicit quantile critic."""

    aggregation: Aggregation = setting(
        "mean", help='How targets combine the values of the ensemble at a level, "mean" or "min".'
    )
    num_levels: int = setting(8, "[1, inf)", "N, number of levels at which each transition is trained.")
    num_target_levels: int = setting(8, "[1, inf)", "N', number of levels that its targets are drawn at.")
    num_read_levels: int = setting(8, "[1, inf)", "Number of evenly spaced levels whose mean is Q.")
    num_waves: int = setting(64, "[1, inf)", "Number of components of the embedding of levels.")
    huber: float = setting(1.0, "[0, inf)", "κ of the quantile Huber loss, in units of returns.")


def implicit_quantile_critic(config: ImplicitQuantileConfig, spec: Spec) -> Critic:
    """A critic that learns the return distribution.

    Args:
        config: hyperparameters; numeric ones may be traced.
        spec: of the data.

    Returns:
        A critic that offers q, the mean over levels and members (its gradient too where actions are
        continuous).
    """
    members = ensemble(ImplicitQuantiles, config.ensemble_size)(
        config.hidden_dims, config.layer_norm, config.num_waves, spec.num_actions, config.activation
    )
    network = with_encoder(config.encoder, spec, members)
    optimizer = optax.adam(config.learning_rate)

    def quantiles(params: Params, observations: Array, actions: Array, levels: Array) -> Array:
        """[E, B, N]."""
        return network.apply(params, observations, actions, levels)

    def init(key: Key, example: Transitions) -> TrainState:
        network_key, update_key = jax.random.split(key)
        levels = jnp.zeros((len(example.rewards), 1))
        params = network.init(network_key, example.observations, example.actions, levels)
        return learning.start(update_key, params, params, optimizer.init(params))

    def update(state: TrainState, batch: Transitions, policy: PolicyView) -> tuple[TrainState, Metrics]:
        action_key, target_key, level_key = jax.random.split(jax.random.fold_in(state.key, state.step), 3)
        size = len(batch.rewards)

        # 1. Targets [B, N'].
        following = policy.look_ahead(batch, action_key)
        target_levels = jax.random.uniform(target_key, (size, config.num_target_levels))
        predicted = quantiles(state.target_params, batch.next_observations, following.actions, target_levels)
        next_values = aggregate(config.aggregation, predicted) - following.costs[:, None]
        targets = bootstrapped_targets(batch.rewards, batch.masks, next_values, config.discount)
        levels = jax.random.uniform(level_key, (size, config.num_levels))

        def loss(params):
            predicted = quantiles(params, batch.observations, batch.actions, levels)
            losses = jax.vmap(quantile_huber_loss, (0, None, None, None))(
                predicted, targets, config.huber, levels
            )
            return jnp.sum(jnp.mean(losses, axis=1)), {
                "mean": jnp.mean(predicted),
                "target_mean": jnp.mean(targets),
            }

        # 2. Critic step.
        state, metrics = learning.update(state, loss, optimizer)
        return state, {f"q_{name}": metric for name, metric in metrics.items()}

    # Those whose mean is Q: embedded once for all rows.
    read_levels = midpoints(config.num_read_levels)[None]

    def estimates(state: TrainState) -> Estimates:
        def q(observations: Array, actions: Array) -> Array:
            predicted = quantiles(state.params, observations, actions, read_levels)
            return jnp.mean(predicted, axis=(0, 2))

        return Estimates(q=q)

    def layers(state: TrainState, observations: Array, actions: Array, key: Key) -> dict[str, Layer]:
        del key
        return hidden_layers(
            network.apply(state.params, observations, actions, read_levels, mutable=LAYERS)[1]
        )

    return Critic(
        name="implicit_quantile",
        offers=offered(spec, "q"),
        init=init,
        update=update,
        average_targets=functools.partial(learning.average_targets, rate=config.target_rate),
        estimates=estimates,
        diagnostics=Diagnostics(discount=config.discount, layers=layers),
    )
