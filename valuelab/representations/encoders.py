"""What representations share: an encoder, and the loss that keeps it from collapse."""

import dataclasses

from valuelab.configuration import check_ranges
from valuelab.networks.latents import Encoder
from valuelab.ops.latent import orthonormality_loss
from valuelab.types import Array, Metrics


@dataclasses.dataclass(frozen=True)
class EncoderConfig:
    """Hyperparameters of every representation.

    Attributes:
        hidden_dims: width of each hidden layer of the encoder; none for a linear one.
        dim: d, numbers of an encoding, and of tasks.
        normalize: whether encodings are put on the sphere of radius √d.
    """

    hidden_dims: tuple[int, ...] = (512, 512, 512, 512)
    dim: int = 50
    normalize: bool = True

    def __post_init__(self) -> None:
        check_ranges(self, hidden_dims="[1, inf)", dim="[1, inf)")

    @property
    def encoder(self) -> Encoder:
        """φ."""
        return Encoder(self.hidden_dims, self.dim, self.normalize)


@dataclasses.dataclass(frozen=True)
class SpreadConfig(EncoderConfig):
    """Hyperparameters of representations whose encodings are kept orthonormal.

    Attributes:
        orthonormality: β of Ω, at least 0.
    """

    orthonormality: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_ranges(self, orthonormality="[0, inf)")


def spread_loss(config: SpreadConfig, name: str, own_loss: Array, features: Array) -> tuple[Array, Metrics]:
    """A representation's own loss + β Ω(φ), a scalar, and both terms, the first by its name.

    Args:
        config: β.
        name: of the own loss among the metrics.
        own_loss: a scalar.
        features: φ of a batch, [B, d].
    """
    metrics = {name: own_loss, "orthonormality_loss": orthonormality_loss(features)}
    return own_loss + config.orthonormality * metrics["orthonormality_loss"], metrics
