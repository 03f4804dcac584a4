"""HILP: features whose distances are numbers of steps between states.

    V_i(s, g) = -‖φ_i(s) - φ_i(g)‖,   r = -1 and mask = 1, but r = mask = 0 where s is the goal
    y_i = r + γ · mask · V̄_i(s', g),   A = r + γ · mask · min_i V̄_i(s', g) - mean_i V̄_i(s, g)
    L = Σ_i E |τ - 1(A < 0)| (y_i - V_i(s, g))²

It is expectile regression over goals g, without actions. Bars are target averages, without gradient. The
features are φ_1. With `goal_tasks="differences"` the task of reaching g from s is φ(g) - φ(s): its reward is
largest for steps towards g.

Source: Park, Kreiman, Levine 2024, "Foundation Policies with Hilbert Representations", arXiv:2402.15567.
"""

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp

from valuelab.configuration import setting
from valuelab.feature_learners.goals import GoalValueConfig, draw_goals, equal_rows
from valuelab.ops.expectile import expectile_weights
from valuelab.types import Array, FeatureLearner, Key, Metrics, Params, Spec, Transitions


@dataclasses.dataclass(frozen=True, kw_only=True)
class HILPConfig(GoalValueConfig):
    """Hyperparameters of HILP's features."""

    normalize: bool = setting(
        False, help="Put encodings on the sphere of radius √d. HILP does not: its distances have any size."
    )
    expectile: float = 0.5
    num_values: int = setting(2, "[1, inf)", "Number of value functions V_i, each with a φ_i.")
    goal_tasks: Literal["encodings", "differences"] = setting(
        "encodings",
        help='Task of reaching g from s, "encodings" φ(g) or "differences" φ(g) - φ(s).',
    )


def hilp(config: HILPConfig, spec: Spec) -> FeatureLearner:
    """Builds the feature learner.

    Args:
        config: hyperparameters; numeric ones may be traced.
        spec: of the data; not used.
    """
    del spec
    encoder = config.encoder

    def init(key: Key, example: Transitions) -> Params:
        keys = jax.random.split(key, config.num_values)
        return {f"value_{number}": encoder.init(one, example.observations) for number, one in enumerate(keys)}

    def values(params: Params, observations: Array, goals: Array) -> Array:
        def value(own: Params) -> Array:
            gaps = encoder.apply(own, observations) - encoder.apply(own, goals)
            # The root of at least a little: at 0 its gradient would be infinite.
            return -jnp.sqrt(jnp.maximum(jnp.sum(jnp.square(gaps), axis=-1), 1e-6))

        return jnp.stack([value(own) for own in params.values()])

    def loss(params: Params, targets: Params, batch: Transitions, key: Key) -> tuple[Array, Metrics]:
        goals = draw_goals(key, batch, config.random_goals, "hilp")
        masks = 1.0 - equal_rows(batch.observations, goals)
        next_values = values(targets, batch.next_observations, goals)
        backups = (config.discount * next_values - 1) * masks[None]
        before = jnp.mean(values(targets, batch.observations, goals), axis=0)
        # γ · min is the minimum of the backups, because r and mask are the same for all.
        weights = expectile_weights(jnp.min(backups, axis=0) - before, config.expectile)
        weights, backups = jax.lax.stop_gradient((weights, backups))
        errors = backups - values(params, batch.observations, goals)
        distance_loss = jnp.sum(jnp.mean(weights[None] * jnp.square(errors), axis=1))
        return distance_loss, {"distance_loss": distance_loss}

    def encode(params: Params, observations: Array) -> Array:
        return encoder.apply(params["value_0"], observations)

    return FeatureLearner(
        name="hilp",
        dim=config.dim,
        init=init,
        loss=loss,
        encode=encode,
        goal_tasks=_difference if config.goal_tasks == "differences" else None,
    )


def _difference(features: Array, goal_features: Array) -> Array:
    """φ(g) - φ(s), [B, d]."""
    return goal_features - features
