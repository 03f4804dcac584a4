"""Auxiliary losses: what a critic's networks learn in addition to values.

The contrastive auxiliary predicts later observations of the trajectory from the last hidden layer h of Q:

    f(s, a, g) = φᵀ ψ(g) / √d,   φ = W h(s, a) + b

Here h holds the features of all ensemble members, one after the other, and g is an observation that comes
later by a geometric number of steps. The loss is that of contrastive RL (`valuelab.ops.contrastive`), so f
learns log p_γ(g | s, a) - log p(g) up to a constant. One update:

1. All steps of the critic itself.
2. One step of Adam on the contrastive loss. W, b and ψ move at `learning_rate`, and the critic's parameters
   at `weight` times this rate. A weight of the loss would have no effect, because Adam does not depend on the
   scale of a loss. With weight 0 the critic learns as without the auxiliary, and f shows what h knows.

Targets, estimates and all else are those of the critic. Without goals, g is one of the batch's `futures`, and
γ is data.future_discount. With goals, g is the goal that the critic learns from. Then h is taken with s as
the goal: if h saw g, it could copy g.

Source: Nath et al. 2024, "Learning Goal-Conditioned Representations for Language Reward Models",
arXiv:2407.13887, where the critic is a reward model and g a later part of the text; Eysenbach et al. 2022,
arXiv:2206.07568.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from valuelab.configuration import Choice, NoConfig, setting, widths
from valuelab.critics.contrastive import ContrastConfig, contrast, scores
from valuelab.errors import InputError
from valuelab.networks import learning
from valuelab.networks.encoders import with_encoder
from valuelab.networks.mlp import initializer
from valuelab.networks.values import Factor
from valuelab.ops.goals import join, split
from valuelab.types import (
    Array,
    Critic,
    Flow,
    GoalConditioned,
    Key,
    Metrics,
    Params,
    PolicyView,
    Spec,
    TrainState,
    Transitions,
)

_STREAM = 0xA0C1
"""Differs from the steps with which critics fold their keys."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ContrastiveAuxiliaryConfig(ContrastConfig):
    """Hyperparameters of the contrastive auxiliary."""

    hidden_dims: tuple[int, ...] = widths((256, 256), "Width of each hidden layer of ψ.")
    latent_dim: int = 64
    loss: Literal["binary", "symmetric"] = "symmetric"
    weight: float = setting(
        0.1,
        "[0, inf)",
        "Learning rate of the critic's networks in the step of the auxiliary, as a multiple of "
        "learning_rate; 0 leaves the critic alone.",
    )


def contrastive_auxiliary(config: ContrastiveAuxiliaryConfig, spec: Spec) -> Callable[[Critic], Critic]:
    """Builds the contrastive auxiliary.

    Args:
        config: hyperparameters; numeric ones may be traced.
        spec: of the data.

    Returns:
        critic -> a critic that also learns by the auxiliary loss, and gives goal_scores. Its parameters are
        {"critic": those of the critic, "auxiliary": those of W, b and ψ}. It raises InputError for a critic
        that shows no hidden layers. The update raises it for batches without later observations or with one
        transition.
    """
    projection = nn.Dense(config.latent_dim, kernel_init=initializer)
    goal_network = with_encoder(
        config.encoder,
        spec,
        Factor(config.latent_dim, config.hidden_dims, config.layer_norm, activation=config.activation),
    )
    optimizer = learning.adam_by_part(
        lambda params: {"critic": config.weight * config.learning_rate, "auxiliary": config.learning_rate}
    )

    def wrap(critic: Critic) -> Critic:
        shown = critic.diagnostics
        if shown is None or shown.layers is None:
            raise InputError(
                f"auxiliary contrastive learns with the hidden layers of Q, but critic {critic.name!r} shows "
                "none: choose another critic, such as expectile, or leave the auxiliary out"
            )
        layers = shown.layers

        def own(state: TrainState) -> TrainState:
            """The state of the critic itself."""
            return state._replace(params=state.params["critic"], opt_state=state.opt_state["critic"])

        def features(state: TrainState, observations: Any, actions: Array, key: Key) -> Array:
            """The features h of the critic's own state, [B, E * width]; a mean over the places of a Layer."""
            if spec.goal_conditioned:
                observations = join(GoalConditioned(observations, observations))
            last = list(layers(state, observations, actions, key).values())[-1]
            members = jnp.mean(last.features, axis=2)
            return jnp.moveaxis(members, 0, 1).reshape(members.shape[1], -1)

        def pairs(batch: Transitions) -> tuple[Any, Any]:
            """Observations without goals, and observations that come later."""
            if spec.goal_conditioned:
                seen = split(batch.observations)
                return seen.observations, seen.goals
            if batch.futures is None:
                raise InputError(
                    "auxiliary contrastive learns from later observations, but these batches have none: "
                    "train on a dataset with --data.future_discount=0.99; in Python, give the sampler a "
                    "future_discount"
                )
            return batch.observations, batch.futures

        def init(key: Key, example: Transitions) -> TrainState:
            state = critic.init(key, example)
            projection_key, goal_key = jax.random.split(jax.random.fold_in(key, _STREAM))
            # Every observation is like a later one.
            observations = split(example.observations)[0] if spec.goal_conditioned else example.observations
            hidden = features(state, observations, example.actions, key)
            params = {
                "critic": state.params,
                "auxiliary": {
                    "projection": projection.init(projection_key, hidden),
                    "goal": goal_network.init(goal_key, observations),
                },
            }
            opt_state = {"critic": state.opt_state, "auxiliary": optimizer.init(params)}
            return state._replace(params=params, opt_state=opt_state)

        def factors(
            params: Params, state: TrainState, observations: Any, actions: Array, goals: Any, key: Key
        ) -> tuple[Array, Array]:
            """φ and ψ, [B, d] each."""
            hidden = features(own(state)._replace(params=params["critic"]), observations, actions, key)
            phi = projection.apply(params["auxiliary"]["projection"], hidden)
            psi = goal_network.apply(params["auxiliary"]["goal"], goals)
            return phi, psi  # type: ignore[return-value]

        def update(state: TrainState, batch: Transitions, policy: PolicyView) -> tuple[TrainState, Metrics]:
            observations, goals = pairs(batch)
            key = jax.random.fold_in(jax.random.fold_in(state.key, _STREAM), state.step)
            # 1. The critic.
            updated, metrics = critic.update(own(state), batch, policy)

            def loss(params: Params) -> tuple[Array, Metrics]:
                return contrast(config, *factors(params, state, observations, batch.actions, goals, key))

            # 2. The auxiliary.
            params, opt_state, found = learning.gradient_step(
                loss, optimizer, state.params | {"critic": updated.params}, state.opt_state["auxiliary"]
            )
            opt_state = {"critic": updated.opt_state, "auxiliary": opt_state}
            metrics |= {f"auxiliary_{name}": metric for name, metric in found.items()}
            return updated._replace(params=params, opt_state=opt_state), metrics

        def average_targets(state: TrainState) -> TrainState:
            return state._replace(target_params=critic.average_targets(own(state)).target_params)

        def goal_scores(state: TrainState, observations: Any, actions: Array, goals: Any) -> Array:
            return scores(*factors(state.params, state, observations, actions, goals, jax.random.key(0)))

        diagnostics = shown._replace(
            layers=lambda state, *inputs: layers(own(state), *inputs),
            flow=shown.flow and _of_own(shown.flow, own),
        )
        return critic._replace(
            init=init,
            update=update,
            average_targets=average_targets,
            estimates=lambda state: critic.estimates(own(state)),
            diagnostics=diagnostics,
            goal_scores=goal_scores,
        )

    return wrap


def _of_own(flow: Flow, own: Callable[[TrainState], TrainState]) -> Flow:
    """The flow of a critic, from the state of the critic with the auxiliary."""
    return flow._replace(velocity=lambda state, *inputs: flow.velocity(own(state), *inputs))


AUXILIARIES: dict[str, Choice[Callable[[Critic], Critic]]] = {
    "none": Choice(config=NoConfig, make=lambda config, spec: lambda critic: critic),
    "contrastive": Choice(config=ContrastiveAuxiliaryConfig, make=contrastive_auxiliary),
}
"""Auxiliary losses by name."""
