"""The plain critic: each member regresses on, or classifies, the one-step target.

One update:

1. Targets y = r + γ · mask · (agg_i Q̄_i(s', a') - cost), with a' and its cost from the policy: SAC charges
   α log π(a' | s'), most policies nothing.
2. Critic step: E Σ_i (Q_i(s, a) - y)², or with `loss="categorical"` the cross entropy of a histogram over
   bins with the one of y (HL-Gauss), whose mean is Q_i.

`average_targets` then moves Q̄ towards the NEW Q.

Source: Lillicrap et al. 2016, arXiv:1509.02971; Fujimoto et al. 2018, arXiv:1802.09477 (the minimum);
Farebrother et al. 2024, arXiv:2403.03950 (classification).
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from valuelab.configuration import setting, widths
from valuelab.critics.values import Aggregation, CriticConfig, aggregate, offered, value_range
from valuelab.errors import InputError
from valuelab.networks import learning
from valuelab.networks.encoders import with_encoder
from valuelab.networks.mlp import LAYERS, ensemble, hidden_layers
from valuelab.networks.values import StateActionValue
from valuelab.ops.categorical import bin_edges, expected_value, hl_gauss
from valuelab.ops.returns import bootstrapped_target
from valuelab.types import (
    Array,
    Critic,
    Diagnostics,
    Estimates,
    Key,
    Layer,
    Metrics,
    NextActions,
    Params,
    PolicyView,
    Spec,
    TrainState,
    Transitions,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TemporalDifferenceConfig(CriticConfig):
    """Hyperparameters of the plain critic."""

    hidden_dims: tuple[int, ...] = widths(
        (512, 512, 512, 512), "Width of each hidden layer.", blocks="block_depth"
    )
    block_depth: int = setting(0, "[0, inf)", "Number of layers in a residual block; 0 for no blocks.")
    target_members: int = setting(
        0,
        "[0, inf)",
        "Number of networks of the ensemble, drawn anew at each update, that targets use; 0 for all.",
    )
    aggregation: Aggregation = setting(
        "mean", help='How targets combine the values of the ensemble, "mean" or "min".'
    )
    q_aggregation: Aggregation = setting(
        "mean",
        help='How the values that the policy climbs combine those of the ensemble, "mean" or "min".',
        before="mean",
    )
    loss: Literal["squared", "categorical"] = setting(
        "squared", help='Loss, "squared", or "categorical" for HL-Gauss.'
    )
    num_bins: int = setting(
        50, "[2, inf)", 'Number of bins of "categorical", over the values that the data\'s rewards allow.'
    )
    bin_width: float = setting(0.75, "(0, inf)", 'σ of "categorical", in bins.')

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.target_members > self.ensemble_size:
            raise InputError(
                f"target_members is {self.target_members}, but the ensemble has {self.ensemble_size} members"
            )


class QEnsemble(NamedTuple):
    """The networks of a plain critic.

    Attributes:
        network: (observations [B, ...], actions) -> outputs, [E, B] or logits [E, B, n].
        values: (outputs) -> values, [E, B].
        distance: (outputs, targets [B]) -> losses, [E, B].
        targets: (target params, batch, NextActions, key) -> one-step targets, [B]; the key chooses the
            networks that they use.
    """

    network: nn.Module
    values: Callable[[Array], Array]
    distance: Callable[[Array, Array], Array]
    targets: Callable[[Params, Transitions, NextActions, Key], Array]


def q_ensemble(config: TemporalDifferenceConfig, spec: Spec) -> QEnsemble:
    """The networks of a config for data of a spec.

    Raises:
        InputError: for the categorical loss, when the range of rewards is empty or infinite.
    """
    categorical = config.loss == "categorical"
    edges = bin_edges(*value_range(spec, config.discount), config.num_bins) if categorical else jnp.zeros(0)
    members = ensemble(StateActionValue, config.ensemble_size)(
        config.hidden_dims,
        config.layer_norm,
        spec.num_actions,
        config.activation,
        config.block_depth,
        config.num_bins if categorical else 0,
    )
    network = with_encoder(config.encoder, spec, members)

    def values(outputs: Array) -> Array:
        return expected_value(nn.softmax(outputs), edges) if categorical else outputs

    def distance(outputs: Array, targets: Array) -> Array:
        if categorical:
            return optax.softmax_cross_entropy(outputs, hl_gauss(targets, edges, config.bin_width)[None])
        return jnp.square(outputs - targets[None])

    def targets(params: Params, batch: Transitions, following: NextActions, key: Key) -> Array:
        outputs = network.apply(params, batch.next_observations, following.actions)
        if config.target_members:
            outputs = jax.random.choice(key, outputs, (config.target_members,), replace=False)
        next_values = aggregate(config.aggregation, values(outputs)) - following.costs
        return bootstrapped_target(batch.rewards, batch.masks, next_values, config.discount)

    return QEnsemble(network=network, values=values, distance=distance, targets=targets)


def temporal_difference_critic(config: TemporalDifferenceConfig, spec: Spec) -> Critic:
    """A critic that learns from one-step targets, with the policy's own actions.

    Args:
        config: hyperparameters; numeric ones may be traced.
        spec: of the data; for the categorical loss its least and greatest reward bound values.

    Returns:
        A critic that offers q, the mean or the minimum over the ensemble (its gradient too where actions are
        continuous).

    Raises:
        InputError: for the categorical loss, when the range of rewards is empty or infinite.
    """
    network, values, distance, targets_of = q_ensemble(config, spec)
    optimizer = optax.adam(config.learning_rate)

    def init(key: Key, example: Transitions) -> TrainState:
        network_key, update_key = jax.random.split(key)
        params = network.init(network_key, example.observations, example.actions)
        return learning.start(update_key, params, params, optimizer.init(params))

    def update(state: TrainState, batch: Transitions, policy: PolicyView) -> tuple[TrainState, Metrics]:
        action_key, member_key = jax.random.split(jax.random.fold_in(state.key, state.step))

        # 1. Targets.
        following = policy.look_ahead(batch, action_key)
        targets = targets_of(state.target_params, batch, following, member_key)

        def loss(params):
            outputs = network.apply(params, batch.observations, batch.actions)
            losses = jnp.sum(jnp.mean(distance(outputs, targets), axis=1))
            return losses, {"mean": jnp.mean(values(outputs)), "target_mean": jnp.mean(targets)}

        # 2. Critic step.
        state, metrics = learning.update(state, loss, optimizer)
        return state, {f"q_{name}": metric for name, metric in metrics.items()}

    def estimates(state: TrainState) -> Estimates:
        def q(observations: Array, actions: Array) -> Array:
            return aggregate(config.q_aggregation, values(network.apply(state.params, observations, actions)))

        return Estimates(q=q)

    def layers(state: TrainState, observations: Array, actions: Array, key: Key) -> dict[str, Layer]:
        del key
        return hidden_layers(network.apply(state.params, observations, actions, mutable=LAYERS)[1])

    return Critic(
        name="temporal_difference",
        offers=offered(spec, "q"),
        init=init,
        update=update,
        average_targets=functools.partial(learning.average_targets, rate=config.target_rate),
        estimates=estimates,
        diagnostics=Diagnostics(discount=config.discount, layers=layers),
    )
