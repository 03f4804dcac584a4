"""HILP: features whose distances are numbers of steps between states.

    V(s, g) = -‖φ(s) - φ(g)‖,   L = E L_τ(r + γ · mask · V̄(s', g) - V(s, g)),   r = -1, and 0 at the goal

It is expectile regression over goals g, without actions. Bars are target averages, without gradient. There is
one φ; the authors use two and take the minimum of the values.

Source: Park, Kreiman, Levine 2024, "Foundation Policies with Hilbert Representations", arXiv:2402.15567.
"""

import dataclasses

import jax
import jax.numpy as jnp

from valuelab.configuration import setting
from valuelab.feature_learners.goals import GoalValueConfig, draw_goals
from valuelab.ops.expectile import expectile_loss
from valuelab.ops.returns import bootstrapped_target
from valuelab.types import Array, FeatureLearner, Key, Metrics, Params, Spec, Transitions


@dataclasses.dataclass(frozen=True, kw_only=True)
class HILPConfig(GoalValueConfig):
    """Hyperparameters of HILP's features."""

    normalize: bool = setting(
        False, help="Put encodings on the sphere of radius √d. HILP does not: its distances have any size."
    )
    expectile: float = 0.95


def hilp(config: HILPConfig, spec: Spec) -> FeatureLearner:
    """Builds the feature learner.

    Args:
        config: hyperparameters; numeric ones may be traced.
        spec: of the data; not used.
    """
    del spec
    encode = config.encoder.apply

    def value(params: Params, observations: Array, goals: Array) -> Array:
        gaps = encode(params, observations) - encode(params, goals)
        # The root of at least a little: at 0 its gradient would be infinite.
        return -jnp.sqrt(jnp.maximum(jnp.sum(jnp.square(gaps), axis=-1), 1e-6))

    def loss(params: Params, targets: Params, batch: Transitions, key: Key) -> tuple[Array, Metrics]:
        goals, reached = draw_goals(key, batch, "hilp")
        rewards = reached.astype(jnp.float32) - 1
        next_values = jax.lax.stop_gradient(value(targets, batch.next_observations, goals))
        errors = bootstrapped_target(rewards, -rewards, next_values, config.discount)
        errors -= value(params, batch.observations, goals)
        expectile = jnp.mean(expectile_loss(errors, config.expectile))
        return expectile, {"distance_loss": expectile}

    return FeatureLearner(name="hilp", dim=config.dim, init=config.init_encoder, loss=loss, encode=encode)
