"""Goals for feature learners: the current state, a later state, or any other state of the data."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from valuelab.configuration import setting
from valuelab.errors import InputError
from valuelab.feature_learners.encoders import EncoderConfig
from valuelab.types import Array, Key, Transitions

_P_CURRENT, _P_FUTURE = 0.2, 0.5
"""Probabilities that a goal is the current state, and a later state; otherwise it is any state."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class GoalValueConfig(EncoderConfig):
    """Hyperparameters of feature learners whose features are goal-conditioned values."""

    expectile: float = setting(0.9, "(0, 1)", "Level τ of the expectile, in (0, 1).")
    discount: float = setting(0.99, "[0, 1)", "Discount γ in [0, 1) of the steps to goals.")


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


def draw_goals(key: Key, batch: Transitions, name: str) -> tuple[Any, Array]:
    """Goals for the transitions of a batch: OGBench's shares of current, later and other states.

    Args:
        key: random.
        batch: with futures.
        name: the feature learner's name, for the message.

    Returns:
        Goals [B, ...]; and whether the state is the goal, [B] bool.

    Raises:
        InputError: when the batch has no futures.
    """
    kind_key, order_key = jax.random.split(key)
    kind = jax.random.uniform(kind_key, (len(batch.actions),))

    def choose(later: Array, current: Array, following: Array) -> Array:
        others = jax.random.permutation(order_key, following)
        kinds = kind.reshape(-1, *[1] * (others.ndim - 1))
        goals = jnp.where(kinds < _P_CURRENT + _P_FUTURE, later, others)
        return jnp.where(kinds < _P_CURRENT, current, goals)

    goals = jax.tree.map(choose, futures_of(batch, name), batch.observations, batch.next_observations)
    same = jax.tree.map(
        lambda goal, current: jnp.all(goal == current, axis=tuple(range(1, goal.ndim))),
        goals,
        batch.observations,
    )
    return goals, jnp.all(jnp.stack(jax.tree.leaves(same)), axis=0)
