"""What critics share: settings, offers, the range of values, and how an ensemble gives one value."""

import dataclasses
from typing import Literal

import jax.numpy as jnp
import numpy as np

from valuelab.configuration import setting
from valuelab.errors import InputError
from valuelab.networks.settings import LearningConfig, NetworkConfig
from valuelab.types import Array, Spec

Aggregation = Literal["mean", "min"]

_PADDING = 0.01
"""Of rewards, so that values at the end of their range are still told apart."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReturnsConfig(LearningConfig):
    """Hyperparameters of every critic."""

    ensemble_size: int = setting(2, "[1, inf)", "E, number of networks in the ensemble.")
    discount: float = setting(0.99, "[0, 1)", "Discount γ in [0, 1).")
    target_rate: float = setting(
        0.005, "(0, 1]", "Share of the new parameters in their target average, in (0, 1]."
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class CriticConfig(ReturnsConfig, NetworkConfig):
    """Hyperparameters of a critic that gives one value for each state and action."""

    layer_norm: bool = setting(True, help="Normalise the hidden layers, after their activation.")


def offered(spec: Spec, *estimates: str) -> frozenset[str]:
    """What a critic with q among its estimates offers: its gradient too where actions are continuous."""
    return frozenset(estimates) | (frozenset() if spec.discrete else {"q_gradient"})


def aggregate(aggregation: Aggregation, values: Array) -> Array:
    """The mean or the least of the members' values [E, ...], [...]."""
    return jnp.min(values, axis=0) if aggregation == "min" else jnp.mean(values, axis=0)


def value_range(
    spec: Spec, discount: Array | float, share: Array | float = 1.0, padding: float = _PADDING
) -> tuple[Array | float, Array | float]:
    """The least and the greatest value that the data's rewards allow, or a share of them.

        c (r_min - p) / (1 - γ),   c (r_max + p) / (1 - γ)

    Args:
        spec: of the data.
        discount: γ in [0, 1).
        share: c in (0, 1].
        padding: p, in units of rewards.

    Raises:
        InputError: when the range of rewards is empty or infinite.
    """
    low, high = spec.reward_min, spec.reward_max
    if not (np.isfinite([low, high]).all() and low < high):
        raise InputError(
            f"rewards lie in [{low:g}, {high:g}]: this critic needs their range, which must be finite and "
            "not empty; check the rewards of the dataset, and data.rewards"
        )
    return share * (low - padding) / (1 - discount), share * (high + padding) / (1 - discount)
