"""A replay buffer on the device: a ring of rows, one block of N lanes a vector step.

Rows are stored as `Dataset` stores them compactly: each observation once, its successor in the next row of
its lane, and a row that only holds the final observation after the last transition of an episode. Of
observations that are stacks of frames, each row keeps the newest frame alone, and batches stack them again.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from valuelab.types import Array, Key, Transitions

_CANDIDATES = 4
"""Rows drawn for each of the batch, of which the first valid one is taken."""


class Replay(NamedTuple):
    """T rows of N lanes.

    Attributes:
        observations: [T, N, ...]; of stacks the newest frame, [T, N, ..., 1].
        actions: [T, N, ...].
        rewards: [T, N] or [T, N, m].
        masks: [T, N], 1 - terminated.
        valid: [T, N] bool, whether the row is a transition; where not, it ends an episode.
        written: int32 scalar, rows written since the start; row i lies at i mod T.
    """

    observations: Array
    actions: Array
    rewards: Array
    masks: Array
    valid: Array
    written: Array


class Row(NamedTuple):
    """What one vector step adds; see `Replay`, without the leading T."""

    observations: Array
    actions: Array
    rewards: Array
    masks: Array
    valid: Array


def empty(row: Row, num_rows: int, frames: int) -> Replay:
    """A buffer without rows.

    Args:
        row: arrays or shapes of what will be inserted.
        num_rows: T.
        frames: how many frames observations stack on their last axis; 1 where they are no stacks.
    """
    row = row._replace(observations=jax.eval_shape(lambda array: _newest(array, frames), row.observations))
    zeros = jax.tree.map(lambda leaf: jnp.zeros((num_rows, *leaf.shape), leaf.dtype), row)
    return Replay(*zeros, written=jnp.zeros((), jnp.int32))


def insert(replay: Replay, row: Row, frames: int) -> Replay:
    """Writes a row over the oldest one."""
    row = row._replace(observations=_newest(row.observations, frames))
    position = replay.written % replay.valid.shape[0]
    *columns, written = replay
    columns = [
        jax.lax.dynamic_update_index_in_dim(column, new.astype(column.dtype), position, 0)
        for column, new in zip(columns, row, strict=True)
    ]
    return Replay(*columns, written=written + 1)


def sample(replay: Replay, key: Key, batch_size: int, frames: int) -> Transitions:
    """Draws transitions uniformly, with replacement, among those whose successor is written.

    A row that only ends an episode is drawn again, up to three times; the transition before it stands in
    should all four be such rows.

    Args:
        replay: with at least `frames` + 1 rows, the last one after a transition.
        key: random.
        batch_size: B.
        frames: how many frames observations stack; before an episode's first frame the stack holds zeros.

    Returns:
        Transitions [B].
    """
    num_rows, num_lanes = replay.valid.shape
    row_key, lane_key = jax.random.split(key)
    oldest = jnp.maximum(replay.written - num_rows, 0) + frames - 1
    rows = jax.random.randint(row_key, (_CANDIDATES, batch_size), oldest, replay.written - 1)
    lanes = jax.random.randint(lane_key, (_CANDIDATES, batch_size), 0, num_lanes)
    valid = replay.valid[rows % num_rows, lanes]
    choice = jnp.argmax(valid, axis=0)[None]
    row, lane = (jnp.take_along_axis(drawn, choice, axis=0)[0] for drawn in (rows, lanes))
    row = jnp.maximum(row - ~jnp.any(valid, axis=0), oldest)
    position = row % num_rows
    return Transitions(
        observations=_stack(replay, row, lane, frames),
        actions=replay.actions[position, lane],
        rewards=replay.rewards[position, lane],
        masks=replay.masks[position, lane],
        next_observations=_stack(replay, row + 1, lane, frames),
    )


def _newest(observations: Array, frames: int) -> Array:
    return observations if frames == 1 else observations[..., -1:]


def _stack(replay: Replay, row: Array, lane: Array, frames: int) -> Array:
    """The observations [B, ...] of rows, their stacks put together from single frames."""
    num_rows = replay.valid.shape[0]
    if frames == 1:
        return replay.observations[row % num_rows, lane]
    age = jnp.arange(frames - 1, -1, -1)
    rows = (row[:, None] - age[None]) % num_rows  # [B, frames], oldest first
    images = replay.observations[rows, lane[:, None]][..., 0]
    # A frame is of the same episode if no row from it up to the one before `row` ends an episode.
    ends = ~replay.valid[rows, lane[:, None]] & (age > 0)[None]
    later_ends = jnp.cumsum(ends[:, ::-1], axis=1)[:, ::-1]
    same = (later_ends == 0).reshape(*later_ends.shape, *[1] * (images.ndim - 2))
    return jnp.moveaxis(jnp.where(same, images, jnp.zeros((), images.dtype)), 1, -1)
