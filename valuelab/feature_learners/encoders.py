"""What feature learners share: an encoder, and the loss that prevents its collapse."""

import dataclasses

from valuelab.configuration import Settings, setting
from valuelab.networks.encodings import Encoder
from valuelab.ops.zero_shot import orthonormality_loss
from valuelab.types import Array, Metrics


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


@dataclasses.dataclass(frozen=True, kw_only=True)
class SpreadConfig(EncoderConfig):
    """Hyperparameters of feature learners with an orthonormality loss."""

    orthonormality: float = setting(1.0, "[0, inf)", "Weight β of Ω, at least 0.")


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
