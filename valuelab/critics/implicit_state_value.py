r"""The critic of implicit V-learning (IVL): a value function of states alone, without Q.

    y_i = r + γ · mask · V̄_i(s')
    u = min_i y_i - mean_i V̄_i(s)
    L = Σ_i E[|τ - 1(u < 0)| (y_i - V_i(s))²]

Each ensemble member follows its own target; targets and weights are constants. `average_targets` then moves V̄
towards the NEW V. In stochastic environments the values are optimistic, because y takes the noise of a
transition for a choice.

With goals, s stands for the pair (s, g). With `representation_dim` the value is V(s, φ(s, g)), where φ is on
the sphere of radius √d. φ has no average: V̄ uses φ as it is before the update. With `cloning_gradient` φ also
descends the loss of a hierarchical policy's low level, whose parameters and weights are constants to it.

Source: Park et al. 2025, "OGBench", arXiv:2410.20092, appendix (GCIVL), and the authors' code
(github.com/seohongpark/ogbench, impls/agents/gcivl.py and hiql.py); Park et al. 2023, "HIQL",
arXiv:2307.11949, equations 4 and 5.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import optax

from valuelab.configuration import setting
from valuelab.critics.values import CriticConfig
from valuelab.errors import InputError
from valuelab.networks import learning
from valuelab.networks.encoders import with_encoder
from valuelab.networks.encodings import GoalEncoder
from valuelab.networks.mlp import Joined, ensemble
from valuelab.networks.values import StateValue
from valuelab.ops.expectile import expectile_weights
from valuelab.ops.goals import split
from valuelab.ops.returns import bootstrapped_target
from valuelab.types import (
    Array,
    Critic,
    Estimates,
    Key,
    Metrics,
    Params,
    PolicyView,
    Spec,
    TrainState,
    Transitions,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImplicitStateValueConfig(CriticConfig):
    """Hyperparameters of implicit V-learning."""

    hidden_dims: tuple[int, ...] = (512, 512, 512)
    expectile: float = setting(
        0.9,
        "(0, 1)",
        "Level τ of the expectile, in (0, 1): 0.5 is the mean; values near 1 follow the best transitions.",
    )
    representation_dim: int = setting(
        0,
        "[0, inf)",
        "d, size of the representations φ(s, g) through which V sees goals; 0 for the goals themselves.",
    )
    cloning_gradient: bool = setting(
        False,
        help="Representations also learn from the loss of the low-level policy, as OGBench's do from images.",
    )


def implicit_state_value_critic(config: ImplicitStateValueConfig, spec: Spec) -> Critic:
    """A critic of states, or of states and goals.

    Args:
        config: hyperparameters; numeric ones may be traced.
        spec: of the data.

    Returns:
        A critic that offers value (the mean of the ensemble), advantage, and with a representation_dim
        goal_representation. Without goals the advantage is r + γ · mask · V(s') - V(s). With goals it is
        V(s', g) - V(s, g) for the goals of the given batch, because the rewards of a batch refer to the goals
        of the value and not to those of the policy.

    Raises:
        InputError: for representations of goals where the data have none, and for cloning_gradient without
            representations.
    """
    if config.representation_dim and not spec.goal_conditioned:
        raise InputError(
            f"critic.representation_dim is {config.representation_dim}, but the data have no goals: set it "
            "to 0, or use data with goals, such as ogbench/pointmaze-medium-navigate-v0"
        )
    if config.cloning_gradient and not config.representation_dim:
        raise InputError(
            "critic.cloning_gradient is True, but critic.representation_dim is 0: give "
            "critic.representation_dim, such as 10"
        )
    members = ensemble(StateValue, config.ensemble_size)(
        config.hidden_dims, config.layer_norm, config.activation
    )
    network = with_encoder(config.encoder, spec, Joined(members) if config.representation_dim else members)
    goal_network = with_encoder(
        config.encoder,
        spec,
        GoalEncoder(config.hidden_dims, config.representation_dim, config.layer_norm, config.activation),
    )
    optimizer = optax.adam(config.learning_rate)

    def represent(params: Params, observations: Array) -> Array:
        return goal_network.apply(params["goal_encoder"], observations)  # type: ignore[return-value]

    def values(params: Params, observations: Array) -> Array:
        """[E, B]."""
        if not config.representation_dim:
            return network.apply(params["value"], observations)  # type: ignore[return-value]
        states, representations = split(observations).observations, represent(params, observations)
        return network.apply(params["value"], states, representations)  # type: ignore[return-value]

    def init(key: Key, example: Transitions) -> TrainState:
        value_key, goal_key, update_key = jax.random.split(key, 3)
        if config.representation_dim:
            goal_params = goal_network.init(goal_key, example.observations)
            representations = goal_network.apply(goal_params, example.observations)
            states = split(example.observations).observations
            value_params = network.init(value_key, states, representations)
            params = {"goal_encoder": goal_params, "value": value_params}
        else:
            params = {"value": network.init(value_key, example.observations)}
        return learning.start(update_key, params, {"value": params["value"]}, optimizer.init(params))

    def update(state: TrainState, batch: Transitions, policy: PolicyView) -> tuple[TrainState, Metrics]:
        averaged = state.params | state.target_params
        targets = jax.vmap(bootstrapped_target, (None, None, 0, None))(
            batch.rewards, batch.masks, values(averaged, batch.next_observations), config.discount
        )
        errors = jnp.min(targets, axis=0) - jnp.mean(values(averaged, batch.observations), axis=0)
        weights = expectile_weights(errors, config.expectile)

        def loss(params):
            predicted = values(params, batch.observations)
            losses = jnp.mean(weights[None] * jnp.square(targets - predicted), axis=1)
            metrics = {"mean": jnp.mean(predicted), "target_mean": jnp.mean(targets)}
            if not config.cloning_gradient:
                return jnp.sum(losses), metrics
            cloning = policy.representation_loss(batch, functools.partial(represent, params))
            return jnp.sum(losses) + cloning, metrics | {"cloning_loss": cloning}

        state, metrics = learning.update(state, loss, optimizer)
        return state, {f"value_{name}": metric for name, metric in metrics.items()}

    def estimates(state: TrainState) -> Estimates:
        def value(observations: Array) -> Array:
            return jnp.mean(values(state.params, observations), axis=0)

        def advantage(batch: Transitions) -> Array:
            before, after = value(batch.observations), value(batch.next_observations)
            if spec.goal_conditioned:
                return after - before
            return bootstrapped_target(batch.rewards, batch.masks, after, config.discount) - before

        offered = Estimates(value=value, advantage=advantage)
        if not config.representation_dim:
            return offered
        return offered._replace(goal_representation=functools.partial(represent, state.params))

    offers = {"value", "advantage"} | ({"goal_representation"} if config.representation_dim else set())
    return Critic(
        name="implicit_state_value",
        offers=frozenset(offers),
        init=init,
        update=update,
        average_targets=functools.partial(learning.average_targets, rate=config.target_rate),
        estimates=estimates,
        representation_dim=config.representation_dim,
        needs=frozenset({"representation_loss"} if config.cloning_gradient else ()),
    )
