"""HILP: features whose distances are the steps from state to state.

    V(s, g) = -‖φ(s) - φ(g)‖,   L = E L_τ(r + γ · mask · V̄(s', g) - V(s, g)),   r = -1, and 0 at the goal

by expectile regression over goals g, without actions; bars are target averages, without gradient. One φ
where the authors keep two and take the lesser value.

Source: Park, Kreiman, Levine 2024, "Foundation Policies with Hilbert Representations", arXiv:2402.15567.
"""

import dataclasses

import jax
import jax.numpy as jnp

from valuelab.configuration import setting
from valuelab.ops.expectile import expectile_loss
from valuelab.ops.returns import bootstrapped_target
from valuelab.representations.goals import GoalValueConfig, draw_goals
from valuelab.types import Array, Key, Metrics, Params, Representation, Spec, Transitions


@dataclasses.dataclass(frozen=True, kw_only=True)
class HILPConfig(GoalValueConfig):
    """Hyperparameters of HILP's features."""

    normalize: bool = setting(
        False, help="Put encodings on the sphere of radius √d. HILP does not: its distances have any size."
    )
    expectile: float = 0.95


def hilp(config: HILPConfig, spec: Spec) -> Representation:
    """Builds the representation.

    Args:
        config: hyperparameters; numeric ones may be traced.
        spec: of the data; not used.
    """
    del spec
    encode = config.encoder.apply

    def init(key: Key, example: Transitions) -> Params:
        return config.encoder.init(key, example.observations)

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

    return Representation(name="hilp", dim=config.dim, init=init, loss=loss, encode=encode)
