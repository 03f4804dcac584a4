"""RLDP: encodings that predict the encodings of the next H steps, with an orthonormality loss.

    z_0 = φ(s),  z_h = g(z_{h-1}, a_{h-1})
    L = E Σ_h mask_h ‖z_h - φ̄(s_h)‖² / H + β Ω(φ),   h = 1 ... H, mask_h = 0 beyond the trajectory

φ̄ is the target average of the encoder, without gradient. g(z, a) = z + Δ(z, a), scaled to the sphere if
encodings are.

Source: Jajoo, Sikchi et al. 2026, "Regularized Latent Dynamics Prediction is a Strong Baseline for
Behavioral Foundation Models", arXiv:2603.15857: prediction in latent space, and orthogonality. The form of g
and the mean over H are ours.
"""

import dataclasses

import jax
import jax.numpy as jnp

from valuelab.configuration import setting, widths
from valuelab.errors import InputError
from valuelab.feature_learners.encoders import SpreadConfig, init_with, spread_loss
from valuelab.feature_learners.goals import UNSAMPLED
from valuelab.networks.encodings import StepPredictor
from valuelab.ops.zero_shot import on_sphere
from valuelab.types import Array, FeatureLearner, Key, Metrics, Params, Segments, Spec, Transitions


@dataclasses.dataclass(frozen=True, kw_only=True)
class RLDPConfig(SpreadConfig):
    """Hyperparameters of RLDP's features."""

    dynamics_dims: tuple[int, ...] = widths((512, 512), "Width of each hidden layer of Δ.")
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
    encoder, change = config.encoder, StepPredictor(config.dynamics_dims, config.dim)

    def init(key: Key, example: Transitions) -> Params:
        return init_with(config, "change", change, key, example)

    def loss(params: Params, targets: Params, batch: Transitions, key: Key) -> tuple[Array, Metrics]:
        del key
        segments = _segments_of(batch, config.horizon)
        in_time = jax.tree.map(lambda leaf: jnp.moveaxis(leaf, 1, 0), segments)
        aims = jax.lax.stop_gradient(jax.vmap(encode, (None, 0))(targets, in_time.observations))
        features = encode(params, batch.observations)

        def step(encodings: Array, one: tuple[Segments, Array]) -> tuple[Array, Array]:
            segment, aim = one
            encodings += change.apply(params["change"], encodings, segment.actions)
            encodings = on_sphere(encodings) if config.normalize else encodings
            distances = jnp.sum(jnp.square(encodings - aim), axis=-1)
            return encodings, jnp.mean(segment.masks * distances)

        prediction_loss = jnp.mean(jax.lax.scan(step, features, (in_time, aims))[1])
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
