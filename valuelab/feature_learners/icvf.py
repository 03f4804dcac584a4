"""ICVF: features from a value function of all intents, V(s, g, z) = T(φ(s), ψ(z))ᵀψ(g).

    T(φ, ψ) = t(ψ) * (B A (t(ψ) * φ)),   * multiplies component by component
    L = E |τ - 1(A < 0)| mean_i (r_g + γ · mask_g · V̄_i(s', g, z) - V_i(s, g, z))²
    A = r_z + γ · mask_z · min_i V̄_i(s', z, z) - mean_i V_i(s, z, z)

r_g and mask_g are 0 where s' is the goal g, and -1 and 1 elsewhere. r_z and mask_z are the same for the
intent z. There is an ensemble of T_i, with matrices A and B. Bars are target averages; they and A have no
gradient. The features are ψ.

Source: Ghosh, Bhateja, Levine 2023, "Reinforcement Learning from Passive Data via Latent Intentions",
arXiv:2304.04782. The form of T and the ensemble are those of the code of TD-JEPA's study.
"""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp

from valuelab.configuration import setting
from valuelab.feature_learners.goals import GoalValueConfig, choose, draw_goals, equal_rows
from valuelab.networks.encodings import Encoder
from valuelab.networks.mlp import ensemble
from valuelab.ops.expectile import expectile_weights
from valuelab.ops.factorizations import orthogonal
from valuelab.types import Array, FeatureLearner, Key, Metrics, Params, Spec, Transitions


@dataclasses.dataclass(frozen=True)
class ICVFConfig(GoalValueConfig):
    """Hyperparameters of ICVF's features ψ."""

    state_dims: tuple[int, ...] = setting(
        (512, 512, 512, 512), "[1, inf)", "Width of each hidden layer of φ; none for a linear one."
    )
    intent_dims: tuple[int, ...] = setting(
        (512, 512, 512, 512), "[1, inf)", "Width of each hidden layer of t; none for a linear one."
    )
    num_values: int = setting(2, "[1, inf)", "Number of T_i in the ensemble.")
    same_goals: float = setting(0.5, "[0, 1]", "Share in [0, 1] of goals that are the intent.")


class IntentMap(nn.Module):
    """T(φ, ψ), in which an intent ψ selects and weights the components of φ.

    Attributes:
        hidden_dims: width of each hidden layer of t.
        dim: d.
        normalize: whether t is scaled to the sphere of radius √d.
    """

    hidden_dims: tuple[int, ...]
    dim: int
    normalize: bool

    @nn.compact
    def __call__(self, states: Array, intents: Array) -> Array:
        """Maps φ [B, d] and ψ [B, d] to [B, d]."""
        weights = Encoder(self.hidden_dims, self.dim, self.normalize)(intents)
        mixed = states * weights
        for name in ("first", "second"):
            mixed = nn.Dense(self.dim, use_bias=False, kernel_init=orthogonal, name=name)(mixed)
        return mixed * weights


def icvf(config: ICVFConfig, spec: Spec) -> FeatureLearner:
    """Builds the feature learner.

    Args:
        config: hyperparameters; numeric ones may be traced.
        spec: of the data; not used.
    """
    del spec
    encoder = config.encoder
    state_encoder = Encoder(config.state_dims, config.dim, config.normalize)
    intent_map = ensemble(IntentMap, config.num_values)(config.intent_dims, config.dim, config.normalize)

    def init(key: Key, example: Transitions) -> Params:
        feature_key, state_key, intent_key = jax.random.split(key, 3)
        encodings = jnp.zeros((len(example.actions), config.dim))
        return {
            "features": encoder.init(feature_key, example.observations),
            "state": state_encoder.init(state_key, example.observations),
            "intent": intent_map.init(intent_key, encodings, encodings),
        }

    def values(params: Params, observations: Array, goals: Array, intents: Array) -> Array:
        states = state_encoder.apply(params["state"], observations)
        mapped = intent_map.apply(params["intent"], states, encode(params, intents))
        return jnp.sum(mapped * encode(params, goals)[None], axis=-1)

    def loss(params: Params, targets: Params, batch: Transitions, key: Key) -> tuple[Array, Metrics]:
        goal_key, intent_key, same_key, order_key = jax.random.split(key, 4)
        goals = draw_goals(goal_key, batch, config.random_goals, "icvf")
        others = jax.tree.map(lambda leaf: jax.random.permutation(order_key, leaf), batch.futures)
        intents = draw_goals(intent_key, batch._replace(futures=others), config.random_goals, "icvf")
        same = jax.random.uniform(same_key, (len(batch.actions),)) < config.same_goals
        goals = choose(same, intents, goals)

        def backups(goals: Array) -> Array:
            masks = 1.0 - equal_rows(batch.next_observations, goals)
            next_values = values(targets, batch.next_observations, goals, intents)
            return (config.discount * next_values - 1) * masks[None]

        before = jnp.mean(values(params, batch.observations, intents, intents), axis=0)
        weights = expectile_weights(jnp.min(backups(intents), axis=0) - before, config.expectile)
        weights, aims = jax.lax.stop_gradient((weights, backups(goals)))
        errors = aims - values(params, batch.observations, goals, intents)
        intent_loss = jnp.mean(weights[None] * jnp.square(errors))
        return intent_loss, {"intent_loss": intent_loss}

    def encode(params: Params, observations: Array) -> Array:
        return encoder.apply(params["features"], observations)

    return FeatureLearner(name="icvf", dim=config.dim, init=init, loss=loss, encode=encode)
