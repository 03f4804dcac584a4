"""What feature learners share: an encoder, and the loss that prevents its collapse."""

import dataclasses

import flax.linen as nn
import jax

from valuelab.configuration import Settings, setting
from valuelab.networks.encodings import Encoder
from valuelab.ops.zero_shot import orthonormality_loss
from valuelab.types import Array, Key, Metrics, Params, Transitions


@dataclasses.dataclass(frozen=True, kw_only=True)
class EncoderConfig(Settings):
    """Hyperparameters of every feature learner."""

    hidden_dims: tuple[int, ...] = setting(
        (512, 512, 512, 512),
        "[1, inf)",
        "Width of each hidden layer of the encoder; none for a linear one.",
    )
    dim: int = setting(50, "[1, inf)", "d, size of an encoding, and of a task.")
    normalize: bool = setting(True, help="Put encodings on the sphere of radius √d.")

    @property
    def encoder(self) -> Encoder:
        """φ."""
        return Encoder(self.hidden_dims, self.dim, self.normalize)

    def init_encoder(self, key: Key, example: Transitions) -> Params:
        """Parameters of φ for the observations of a batch."""
        return self.encoder.init(key, example.observations)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SpreadConfig(EncoderConfig):
    """Hyperparameters of feature learners with an orthonormality loss."""

    orthonormality: float = setting(1.0, "[0, inf)", "Weight β of Ω, at least 0.")


def init_with(
    config: EncoderConfig, name: str, predictor: nn.Module, key: Key, example: Transitions
) -> Params:
    """Parameters of the encoder, and of a network that takes encodings and actions.

    Args:
        config: of the encoder.
        name: of the network among the parameters.
        predictor: the network.
        key: random.
        example: a batch.
    """
    encoder_key, predictor_key = jax.random.split(key)
    params = config.encoder.init(encoder_key, example.observations)
    encodings = config.encoder.apply(params, example.observations)
    return {"encoder": params, name: predictor.init(predictor_key, encodings, example.actions)}


def spread_loss(config: SpreadConfig, name: str, own_loss: Array, features: Array) -> tuple[Array, Metrics]:
    """A feature learner's own loss + β Ω(φ), a scalar, and a metric for each of the two terms.

    Args:
        config: β.
        name: of the own loss among the metrics.
        own_loss: a scalar.
        features: φ of a batch, [B, d].
    """
    metrics = {name: own_loss, "orthonormality_loss": orthonormality_loss(features)}
    return own_loss + config.orthonormality * metrics["orthonormality_loss"], metrics
