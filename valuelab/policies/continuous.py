"""What policies over continuous actions share."""

import dataclasses
from typing import ClassVar

from valuelab.configuration import Settings, setting
from valuelab.errors import InputError
from valuelab.networks.mlp import Activation
from valuelab.networks.settings import NetworkConfig
from valuelab.types import Spec


@dataclasses.dataclass(frozen=True, kw_only=True)
class ActorConfig(NetworkConfig):
    """Hyperparameters of a policy whose network gives actions, or a distribution over them, directly."""

    hidden_dims: tuple[int, ...] = (256, 256)
    activation: Activation = "relu"
    final_scale: float = setting(
        1.0,
        "(0, inf)",
        "Scale of the last layer's first weights: their variance times the mean of the layer's two widths.",
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class TaskPolicyConfig(Settings):
    """Hyperparameters of a policy that may embed tasks."""

    task_embedding: bool = setting(
        False,
        help="Embed the observation with the task, and the observation alone, by separate layers. Only for "
        "zero-shot agents.",
        before=False,
    )


def check_tasks(name: str, config: TaskPolicyConfig, spec: Spec) -> None:
    """Refuses an embedding of tasks where there are none.

    Args:
        name: of the policy, for the message.
        config: of the policy.
        spec: of the data.

    Raises:
        InputError: with `task_embedding`, if observations have no task.
    """
    if config.task_embedding and not spec.task_dim:
        raise InputError(
            f"task_embedding of policy {name} is True, but only zero-shot agents have tasks: leave it out"
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class FlowPolicyConfig(NetworkConfig):
    """Hyperparameters of a policy with a velocity field over actions.

    Attributes:
        EVAL_TEMPERATURE: the default temperature of evaluations. They use the policy's noise, as training
            does: without noise the policy may stand still.
    """

    EVAL_TEMPERATURE: ClassVar[float] = 1.0
    num_steps: int = setting(10, "[1, inf)", "K, number of steps of the field's integration.")


def check_continuous(name: str, spec: Spec) -> None:
    """Refuses data with discrete actions.

    Args:
        name: of the policy, for the message.
        spec: of the data.

    Raises:
        InputError: for discrete actions.
    """
    if spec.discrete:
        raise InputError(
            f"policy {name} needs continuous actions, but these are discrete: choose an agent for discrete "
            "actions, such as iql for data, or eta_network to learn by acting"
        )
