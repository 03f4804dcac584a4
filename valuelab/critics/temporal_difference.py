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
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from valuelab.configuration import check_ranges, check_widths
from valuelab.critics.values import Aggregation, aggregate, offered, value_range
from valuelab.errors import InputError
from valuelab.networks import learning
from valuelab.networks.encoders import EncoderName, with_encoder
from valuelab.networks.mlp import LAYERS, Activation, ensemble, hidden_layers
from valuelab.networks.values import StateActionValue
from valuelab.ops.categorical import bin_edges, expected_value, hl_gauss
from valuelab.ops.returns import bootstrapped_target
from valuelab.types import Array, Critic, Estimates, Key, Layer, Metrics, Spec, TrainState, Transitions


@dataclasses.dataclass(frozen=True)
class TemporalDifferenceConfig:
    """Hyperparameters of the plain critic.

    Attributes:
        hidden_dims: width of each hidden layer.
        activation: of each hidden layer, "relu" or "gelu".
        layer_norm: normalise hidden layers, after their activation.
        block_depth: layers of a residual block; 0 for none.
        ensemble_size: number of members.
        target_members: number of them, drawn anew at each update, that targets are made of; 0 for all.
        aggregation: of the members' values in targets, "mean" or "min".
        loss: "squared", or "categorical" for HL-Gauss.
        num_bins: of "categorical", over the range that the data's rewards allow.
        bin_width: σ of "categorical", in bins.
        discount: γ in [0, 1).
        learning_rate: of Adam.
        target_rate: share of the new critic in its target average, in (0, 1].
        encoder: of images, "impala_small", "drq" or "dqn"; none for vectors, and for impala_small.
    """

    hidden_dims: tuple[int, ...] = (512, 512, 512, 512)
    activation: Activation = "gelu"
    layer_norm: bool = True
    block_depth: int = 0
    ensemble_size: int = 2
    target_members: int = 0
    aggregation: Aggregation = "mean"
    loss: Literal["squared", "categorical"] = "squared"
    num_bins: int = 50
    bin_width: float = 0.75
    discount: float = 0.99
    learning_rate: float = 3e-4
    target_rate: float = 0.005
    encoder: EncoderName | None = None

    def __post_init__(self) -> None:
        check_widths(self, "hidden_dims", block_depth=self.block_depth)
        check_ranges(
            self,
            block_depth="[0, inf)",
            ensemble_size="[1, inf)",
            target_members="[0, inf)",
            num_bins="[2, inf)",
            bin_width="(0, inf)",
            discount="[0, 1)",
            learning_rate="(0, inf)",
            target_rate="(0, 1]",
        )
        if self.target_members > self.ensemble_size:
            raise InputError(
                f"target_members is {self.target_members}; the ensemble has {self.ensemble_size} members"
            )


def temporal_difference_critic(config: TemporalDifferenceConfig, spec: Spec) -> Critic:
    """A critic that learns from one-step targets, with the policy's own actions.

    Args:
        config: hyperparameters; numeric ones may be traced.
        spec: of the data; for the categorical loss its least and greatest reward bound values.

    Returns:
        A critic that offers q, the mean over the ensemble (its gradient too where actions are continuous).

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
    optimizer = optax.adam(config.learning_rate)

    def values(outputs: Array) -> Array:
        """Outputs [E, B] or logits [E, B, n] as values [E, B]."""
        return expected_value(nn.softmax(outputs), edges) if categorical else outputs

    def distance(outputs: Array, targets: Array) -> Array:
        """The loss [E, B] of outputs towards targets [B]."""
        if categorical:
            return optax.softmax_cross_entropy(outputs, hl_gauss(targets, edges, config.bin_width)[None])
        return jnp.square(outputs - targets[None])

    def init(key: Key, example: Transitions) -> TrainState:
        network_key, update_key = jax.random.split(key)
        params = network.init(network_key, example.observations, example.actions)
        return learning.start(update_key, params, params, optimizer.init(params))

    def update(state: TrainState, batch: Transitions, look_ahead) -> tuple[TrainState, Metrics]:
        action_key, member_key = jax.random.split(jax.random.fold_in(state.key, state.step))

        # 1. Targets.
        following = look_ahead(batch, action_key)
        outputs = network.apply(state.target_params, batch.next_observations, following.actions)
        if config.target_members:
            outputs = jax.random.choice(member_key, outputs, (config.target_members,), replace=False)
        next_values = aggregate(config.aggregation, values(outputs)) - following.costs
        targets = bootstrapped_target(batch.rewards, batch.masks, next_values, config.discount)

        def loss(params):
            outputs = network.apply(params, batch.observations, batch.actions)
            losses = jnp.sum(jnp.mean(distance(outputs, targets), axis=1))
            return losses, {"mean": jnp.mean(values(outputs)), "target_mean": jnp.mean(targets)}

        # 2. Critic step.
        params, opt_state, metrics = learning.gradient_step(loss, optimizer, state.params, state.opt_state)
        state = state._replace(params=params, opt_state=opt_state, step=state.step + 1)
        return state, {f"q_{name}": metric for name, metric in metrics.items()}

    def estimates(state: TrainState) -> Estimates:
        def q(observations: Array, actions: Array) -> Array:
            return jnp.mean(values(network.apply(state.params, observations, actions)), axis=0)

        return Estimates(q)

    def layers(state: TrainState, observations: Array, actions: Array, key: Key) -> dict[str, Layer]:
        del key
        return hidden_layers(network.apply(state.params, observations, actions, mutable=LAYERS)[1])

    average_targets = functools.partial(learning.average_targets, rate=config.target_rate)
    offers = offered(spec, "q")
    return Critic(
        "temporal_difference", offers, init, update, average_targets, estimates, config.discount, layers
    )
