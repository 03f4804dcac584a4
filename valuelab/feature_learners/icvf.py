"""ICVF: features from a value function of all intents, V(s, g, z) = Σ_i φ_i(s) T_i(z) ψ_i(g).

    L = E |τ - 1(A < 0)| (r_g + γ · mask_g · V̄(s', g, z) - V(s, g, z))²
    A = r_z + γ · mask_z · V̄(s', z, z) - V̄(s, z, z)

r_g is 0 at the goal g and -1 elsewhere. r_z is 0 at the intent z and -1 elsewhere. Bars are target averages,
without gradient. The features are φ.

Source: Ghosh, Bhateja, Levine 2023, "Reinforcement Learning from Passive Data via Latent Intentions",
arXiv:2304.04782.
"""

import dataclasses

import jax
import jax.numpy as jnp

from valuelab.feature_learners.goals import GoalValueConfig, draw_goals
from valuelab.ops.returns import bootstrapped_target
from valuelab.types import Array, FeatureLearner, Key, Metrics, Params, Spec, Transitions


@dataclasses.dataclass(frozen=True)
class ICVFConfig(GoalValueConfig):
    """Hyperparameters of ICVF's features."""


def icvf(config: ICVFConfig, spec: Spec) -> FeatureLearner:
    """Builds the feature learner.

    Args:
        config: hyperparameters; numeric ones may be traced.
        spec: of the data; not used.
    """
    del spec
    encoder = config.encoder
    free = dataclasses.replace(config, normalize=False).encoder

    def init(key: Key, example: Transitions) -> Params:
        keys = jax.random.split(key, 3)
        parts = zip(("state", "goal", "intent"), (encoder, free, free), keys, strict=True)
        return {name: network.init(own, example.observations) for name, network, own in parts}

    def value(params: Params, observations: Array, goals: Array, intents: Array) -> Array:
        products = encode(params, observations) * free.apply(params["intent"], intents)
        return jnp.sum(products * free.apply(params["goal"], goals), axis=-1)

    def loss(params: Params, targets: Params, batch: Transitions, key: Key) -> tuple[Array, Metrics]:
        goal_key, intent_key = jax.random.split(key)
        goals, at_goal = draw_goals(goal_key, batch, "icvf")
        intents, at_intent = draw_goals(intent_key, batch, "icvf")

        def target(goals: Array, reached: Array) -> Array:
            rewards = reached.astype(jnp.float32) - 1
            next_values = value(targets, batch.next_observations, goals, intents)
            return bootstrapped_target(rewards, -rewards, next_values, config.discount)

        advantages = target(intents, at_intent) - value(targets, batch.observations, intents, intents)
        weights = jnp.where(advantages < 0, 1 - config.expectile, config.expectile)
        weights, aims = jax.lax.stop_gradient((weights, target(goals, at_goal)))
        errors = aims - value(params, batch.observations, goals, intents)
        squares = jnp.mean(weights * jnp.square(errors))
        return squares, {"intent_loss": squares}

    def encode(params: Params, observations: Array) -> Array:
        return encoder.apply(params["state"], observations)

    return FeatureLearner(name="icvf", dim=config.dim, init=init, loss=loss, encode=encode)
