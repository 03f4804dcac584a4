"""Observations joined with goals: what networks see in goal-conditioned tasks."""

from typing import Any

import jax
import jax.numpy as jnp

from valuelab.types import Array, GoalConditioned, Transitions


def join(observations: Any) -> Any:
    """Observations joined with goals on the last axis, part by part: [B, D] and [B, D] give [B, 2 D]."""
    if not isinstance(observations, GoalConditioned):
        return observations
    return jax.tree.map(lambda *both: jnp.concatenate(both, axis=-1), *observations)


def split(joined: Any) -> GoalConditioned:
    """The inverse of `join`: [B, 2 D] gives observations [B, D] and goals [B, D]."""
    half = jax.tree.map(lambda part: part.shape[-1] // 2, joined)
    return GoalConditioned(
        observations=jax.tree.map(lambda part, width: part[..., :width], joined, half),
        goals=jax.tree.map(lambda part, width: part[..., width:], joined, half),
    )


def with_goals(batch: Transitions, goals: Array | None) -> Transitions:
    """The batch with goals joined to its observations, or as it is where there are none."""
    if goals is None:
        return batch
    return batch._replace(
        observations=join(GoalConditioned(batch.observations, goals)),
        next_observations=join(GoalConditioned(batch.next_observations, goals)),
        goals=None,
        policy_goals=None,
    )
