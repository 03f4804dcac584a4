"""The implicit quantile critic: the return distribution as a function of the quantile's level.

One update:

1. Targets y_j = r + γ · mask · (mean_i Q̄_i(s', a'; τ'_j) - cost) at N' levels τ' ~ U[0, 1], with a' and its
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

from valuelab.configuration import check_ranges, check_widths
from valuelab.critics.values import offered
from valuelab.networks import learning
from valuelab.networks.encoders import EncoderName, with_encoder
from valuelab.networks.mlp import LAYERS, Activation, ensemble, hidden_layers
from valuelab.networks.quantiles import ImplicitQuantiles
from valuelab.ops.quantile import midpoints, quantile_huber_loss
from valuelab.ops.returns import bootstrapped_targets
from valuelab.types import (
    Array,
    Critic,
    Estimates,
    Key,
    Layer,
    Metrics,
    Params,
    Spec,
    TrainState,
    Transitions,
)


@dataclasses.dataclass(frozen=True)
class ImplicitQuantileConfig:
    """Hyperparameters of the implicit quantile critic.

    Attributes:
        hidden_dims: width of each hidden layer.
        activation: of each hidden layer, "relu" or "gelu".
        layer_norm: normalise hidden layers, after their activation.
        ensemble_size: number of members.
        num_levels: N, levels at which each transition is trained.
        num_target_levels: N', levels of which its targets are drawn.
        num_read_levels: evenly spaced levels whose mean is Q.
        num_waves: components of the embedding of levels.
        huber: κ of the quantile Huber loss, at least 0, in units of returns.
        discount: γ in [0, 1).
        learning_rate: of Adam.
        target_rate: share of the new critic in its target average, in (0, 1].
        encoder: of images, "impala_small", "drq" or "dqn"; none for vectors, and for impala_small.
    """

    hidden_dims: tuple[int, ...] = (512, 512, 512, 512)
    activation: Activation = "gelu"
    layer_norm: bool = True
    ensemble_size: int = 2
    num_levels: int = 8
    num_target_levels: int = 8
    num_read_levels: int = 8
    num_waves: int = 64
    huber: float = 1.0
    discount: float = 0.99
    learning_rate: float = 3e-4
    target_rate: float = 0.005
    encoder: EncoderName | None = None

    def __post_init__(self) -> None:
        check_widths(self, "hidden_dims")
        check_ranges(
            self,
            ensemble_size="[1, inf)",
            num_levels="[1, inf)",
            num_target_levels="[1, inf)",
            num_read_levels="[1, inf)",
            num_waves="[1, inf)",
            huber="[0, inf)",
            discount="[0, 1)",
            learning_rate="(0, inf)",
            target_rate="(0, 1]",
        )


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

    def update(state: TrainState, batch: Transitions, look_ahead) -> tuple[TrainState, Metrics]:
        action_key, target_key, level_key = jax.random.split(jax.random.fold_in(state.key, state.step), 3)
        size = len(batch.rewards)

        # 1. Targets [B, N'].
        following = look_ahead(batch, action_key)
        target_levels = jax.random.uniform(target_key, (size, config.num_target_levels))
        predicted = quantiles(state.target_params, batch.next_observations, following.actions, target_levels)
        next_values = jnp.mean(predicted, axis=0) - following.costs[:, None]
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
        params, opt_state, metrics = learning.gradient_step(loss, optimizer, state.params, state.opt_state)
        state = state._replace(params=params, opt_state=opt_state, step=state.step + 1)
        return state, {f"q_{name}": metric for name, metric in metrics.items()}

    # Those whose mean is Q: embedded once for all rows.
    read_levels = midpoints(config.num_read_levels)[None]

    def estimates(state: TrainState) -> Estimates:
        def q(observations: Array, actions: Array) -> Array:
            predicted = quantiles(state.params, observations, actions, read_levels)
            return jnp.mean(predicted, axis=(0, 2))

        return Estimates(q)

    def layers(state: TrainState, observations: Array, actions: Array, key: Key) -> dict[str, Layer]:
        del key
        return hidden_layers(
            network.apply(state.params, observations, actions, read_levels, mutable=LAYERS)[1]
        )

    average_targets = functools.partial(learning.average_targets, rate=config.target_rate)
    offers = offered(spec, "q")
    return Critic(
        "implicit_quantile", offers, init, update, average_targets, estimates, config.discount, layers
    )
