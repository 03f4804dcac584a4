"""RLDP: encodings that predict the encodings of the next H steps, with an orthonormality loss.

    x_0 = φ(s),   x_h = P(x_{h-1}, a_{h-1})
    L = E (1/H) Σ_h mask_h ‖x_h - φ̄(s_h)‖² + β Ω(φ),   h = 1 ... H, mask_h = 0 beyond the trajectory

φ̄ is the target average of the encoder, without gradient. The first term is a mean over the predictors P, each
of which follows its own predictions.

Source: Jajoo, Sikchi et al. 2026, "Regularized Latent Dynamics Prediction is a Strong Baseline for
Behavioral Foundation Models", arXiv:2603.15857; P and the means as in TD-JEPA's study, Bagatella et al. 2025,
arXiv:2510.00739. The study draws segments that lie within a trajectory, so it needs no masks.
"""

import dataclasses

import jax
import jax.numpy as jnp

from valuelab.configuration import setting, widths
from valuelab.errors import InputError
from valuelab.feature_learners.encoders import SpreadConfig, init_with, spread_loss
from valuelab.feature_learners.goals import UNSAMPLED
from valuelab.networks.encodings import StepPredictor
from valuelab.networks.mlp import ensemble
from valuelab.types import Array, FeatureLearner, Key, Metrics, Params, Segments, Spec, Transitions


@dataclasses.dataclass(frozen=True, kw_only=True)
class RLDPConfig(SpreadConfig):
    """Hyperparameters of RLDP's features."""

    dynamics_dims: tuple[int, ...] = widths((512, 512), "Width of each hidden layer of P.")
    num_predictors: int = setting(2, "[1, inf)", "Number of predictors P.")
    horizon: int = setting(
        5, "[1, inf)", "H, the number of steps. The segments of batches must have at least this length."
    )


def rldp(config: RLDPConfig, spec: Spec) -> FeatureLearner:
    """Builds the feature learner.

    Args:
        config: hyperparameters; numeric ones may be traced.
        spec: of the data; not used.
    """
    del spec
    encoder = config.encoder
    of_predictor = StepPredictor(config.dynamics_dims, config.dim)
    predictor = ensemble(StepPredictor, config.num_predictors)(config.dynamics_dims, config.dim)

    def init(key: Key, example: Transitions) -> Params:
        return init_with(config, "predictor", predictor, key, example)

    def loss(params: Params, targets: Params, batch: Transitions, key: Key) -> tuple[Array, Metrics]:
        del key
        segments = _segments_of(batch, config.horizon)
        in_time = jax.tree.map(lambda leaf: jnp.moveaxis(leaf, 1, 0), segments)
        aims = jax.lax.stop_gradient(jax.vmap(encode, (None, 0))(targets, in_time.observations))
        features = encode(params, batch.observations)
        advance = jax.vmap(of_predictor.apply, (0, 0, None))

        def step(encodings: Array, one: tuple[Segments, Array]) -> tuple[Array, Array]:
            segment, aim = one
            encodings = advance(params["predictor"], encodings, segment.actions)
            distances = jnp.sum(jnp.square(encodings - aim[None]), axis=-1)
            return encodings, jnp.mean(segment.masks[None] * distances)

        starts = jnp.broadcast_to(features[None], (config.num_predictors, *features.shape))
        prediction_loss = jnp.mean(jax.lax.scan(step, starts, (in_time, aims))[1])
        return spread_loss(config, "prediction_loss", prediction_loss, features)

    def encode(params: Params, observations: Array) -> Array:
        return encoder.apply(params["encoder"], observations)

    return FeatureLearner(name="rldp", dim=config.dim, init=init, loss=loss, encode=encode)


def _segments_of(batch: Transitions, horizon: int) -> Segments:
    """The first steps of the batch's segments."""
    if batch.segments is None:
        raise InputError(f"rldp learns from segments, but these batches have none: {UNSAMPLED}")
    if (length := batch.segments.masks.shape[1]) < horizon:
        raise InputError(
            f"horizon is {horizon}, but the segments of these batches have {length} steps: "
            f"give at most {length}"
        )
    return jax.tree.map(lambda leaf: leaf[:, :horizon], batch.segments)
