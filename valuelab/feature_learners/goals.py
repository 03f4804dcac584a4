"""Goals for feature learners: a later state of the trajectory, or any state of the data."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from valuelab.configuration import setting
from valuelab.errors import InputError
from valuelab.feature_learners.encoders import EncoderConfig
from valuelab.types import Array, Key, Transitions


@dataclasses.dataclass(frozen=True, kw_only=True)
class GoalValueConfig(EncoderConfig):
    """Hyperparameters of feature learners whose features are goal-conditioned values."""

    expectile: float = setting(0.9, "(0, 1)", "Level τ of the expectile, in (0, 1).")
    discount: float = setting(0.99, "[0, 1)", "Discount γ in [0, 1) of the steps to goals.")
    random_goals: float = setting(
        0.375,
        "[0, 1]",
        "Share in [0, 1] of goals that are any states of the data; others are later states.",
    )


UNSAMPLED = (
    "train it with python -m experiments.zero_shot on a dataset without singletask in its name; in Python, "
    "give the sampler a future_discount and a horizon"
)
"""The advice when batches lack fields that only zero-shot agents use."""


def futures_of(batch: Transitions, name: str) -> Any:
    """The later observations of a batch.

    Args:
        batch: from a sampler with a future_discount.
        name: the learner's name, for the message.

    Raises:
        InputError: when the batch has no futures.
    """
    if batch.futures is None:
        raise InputError(f"{name} learns from later observations, but these batches have none: {UNSAMPLED}")
    return batch.futures


def draw_goals(key: Key, batch: Transitions, share: Array | float, name: str) -> Any:
    """Goals [B, ...] for the transitions of a batch.

    Args:
        key: random.
        batch: with futures.
        share: probability that a goal is the next state of another transition; otherwise it is a later state
            of the trajectory.
        name: the feature learner's name, for the message.

    Raises:
        InputError: when the batch has no futures.
    """
    kind_key, order_key = jax.random.split(key)
    others = jax.tree.map(lambda leaf: jax.random.permutation(order_key, leaf), batch.next_observations)
    drawn = jax.random.uniform(kind_key, (len(batch.actions),)) < share
    return choose(drawn, others, futures_of(batch, name))


def choose(chosen: Array, first: Any, second: Any) -> Any:
    """Row by row, the first observations [B, ...] where `chosen` [B] is true, and otherwise the second."""
    return jax.tree.map(
        lambda one, other: jnp.where(chosen.reshape(-1, *[1] * (one.ndim - 1)), one, other), first, second
    )


def equal_rows(first: Any, second: Any) -> Array:
    """Whether observations [B, ...] are equal, row by row, [B] bool."""
    same = jax.tree.map(
        lambda one, other: jnp.all(one == other, axis=tuple(range(1, one.ndim))), first, second
    )
    return jnp.all(jnp.stack(jax.tree.leaves(same)), axis=0)
