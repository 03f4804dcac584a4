"""The settings that networks of critics and policies share."""

import dataclasses

from valuelab.configuration import Settings, setting, widths
from valuelab.networks.encoders import EncoderName
from valuelab.networks.mlp import Activation


@dataclasses.dataclass(frozen=True, kw_only=True)
class LearningConfig(Settings):
    """Hyperparameters of what gradient steps learn."""

    learning_rate: float = setting(3e-4, "(0, inf)", "Learning rate of Adam.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class NetworkConfig(LearningConfig):
    """Hyperparameters of networks with hidden layers, of vectors or images."""

    hidden_dims: tuple[int, ...] = widths((512, 512, 512, 512), "Width of each hidden layer.")
    activation: Activation = setting("gelu", help='Activation of the hidden layers, "relu" or "gelu".')
    encoder: EncoderName | None = setting(
        None,
        help='Encoder of images, "impala_small", "drq" or "dqn". None stands for no encoder of vectors, and '
        'for "impala_small" of images.',
    )
