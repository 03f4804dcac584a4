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


class Row(NamedTuple):
    """What one vector step adds.

    Attributes:
        observations: [N, ...]; in the buffer, of stacks the newest frame, [N, ..., 1].
        actions: [N, ...].
        rewards: [N] or [N, m].
        masks: [N], 1 - terminated.
        valid: [N] bool, whether the row is a transition; where not, it ends an episode.
    """

    observations: Array
    actions: Array
    rewards: Array
    masks: Array
    valid: Array


class Replay(NamedTuple):
    """A ring of T rows.

    Attributes:
        rows: every leaf [T, N, ...].
        written: int32 scalar, rows written since the start; row i lies at i mod T.
    """

    rows: Row
    written: Array


def empty(row: Row, num_rows: int, frames: int) -> Replay:
    """A buffer without rows.

    Args:
        row: of the shapes and dtypes that will be inserted.
        num_rows: T.
        frames: how many frames observations stack on their last axis; 1 where they are no stacks.
    """
    rows = jax.tree.map(
        lambda leaf: jnp.zeros((num_rows, *leaf.shape), leaf.dtype), _with_newest_frame(row, frames)
    )
    return Replay(rows, jnp.zeros((), jnp.int32))


def insert(replay: Replay, row: Row, frames: int) -> Replay:
    """Writes a row over the oldest one."""
    position = replay.written % replay.rows.valid.shape[0]
    rows = jax.tree.map(
        lambda column, new: jax.lax.dynamic_update_index_in_dim(column, new, position, 0),
        replay.rows,
        _with_newest_frame(row, frames),
    )
    return Replay(rows, replay.written + 1)


def num_transitions(replay: Replay) -> Array:
    """The number of transitions in the buffer, an int32 scalar; the newest of each lane among them."""
    return jnp.sum(replay.rows.valid, dtype=jnp.int32)


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
    stored = replay.rows
    num_rows, num_lanes = stored.valid.shape
    row_key, lane_key = jax.random.split(key)
    oldest = jnp.maximum(replay.written - num_rows, 0) + frames - 1
    rows = jax.random.randint(row_key, (_CANDIDATES, batch_size), oldest, replay.written - 1)
    lanes = jax.random.randint(lane_key, (_CANDIDATES, batch_size), 0, num_lanes)
    valid = stored.valid[rows % num_rows, lanes]
    choice = jnp.argmax(valid, axis=0)[None]
    row, lane = (jnp.take_along_axis(drawn, choice, axis=0)[0] for drawn in (rows, lanes))
    row = jnp.maximum(row - ~jnp.any(valid, axis=0), oldest)
    position = row % num_rows
    return Transitions(
        observations=_stack(stored, row, lane, frames),
        actions=stored.actions[position, lane],
        rewards=stored.rewards[position, lane],
        masks=stored.masks[position, lane],
        next_observations=_stack(stored, row + 1, lane, frames),
        next_actions=stored.actions[(row + 1) % num_rows, lane],
    )


def _with_newest_frame(row: Row, frames: int) -> Row:
    return row if frames == 1 else row._replace(observations=row.observations[..., -1:])


def _stack(stored: Row, row: Array, lane: Array, frames: int) -> Array:
    """The observations [B, ...] of rows [B], their stacks put together from single frames."""
    num_rows = stored.valid.shape[0]
    if frames == 1:
        return stored.observations[row % num_rows, lane]
    age = jnp.arange(frames - 1, -1, -1)
    rows = (row[:, None] - age[None]) % num_rows  # [B, frames], oldest first
    images = stored.observations[rows, lane[:, None]][..., 0]
    # A frame is of the same episode if no row from it up to the one before `row` ends an episode.
    ends = ~stored.valid[rows, lane[:, None]] & (age > 0)[None]
    same = jnp.cumsum(ends[:, ::-1], axis=1)[:, ::-1] == 0
    same = same.reshape(*same.shape, *[1] * (images.ndim - 2))
    return jnp.moveaxis(jnp.where(same, images, jnp.zeros((), images.dtype)), 1, -1)
