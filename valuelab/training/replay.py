"""A replay buffer on the device: a ring of rows, each with the transitions of N environments (lanes).

Rows are stored like a compact `Dataset`: each observation once, its successor in the next row of its lane,
and a row with only the final observation after the last transition of an episode. If observations are stacks
of frames, each row keeps only the newest frame, and `sample` stacks the frames again.
"""

from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from valuelab.types import Array, Key, Transitions

_CANDIDATES = 4
"""Number of rows drawn for each transition of a batch; the first valid one is used."""


class Row(NamedTuple):
    """The result of one step in N environments.

    Attributes:
        observations: [N, ...]; for stacks of frames the buffer keeps the newest frame, [N, ..., 1].
        actions: [N, ...].
        rewards: [N] or [N, m].
        masks: [N], 1 - terminated.
        valid: [N] bool, whether the row is a transition; if not, it holds the last observation of an episode.
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
        written: int32 scalar, number of rows written since the start; row i is stored at i mod T.
    """

    rows: Row
    written: Array


def empty(row: Row, num_rows: int, frames: int) -> Replay:
    """A buffer without rows.

    Args:
        row: an example with the shapes and dtypes of all rows.
        num_rows: T.
        frames: number of frames that observations stack on their last axis; 1 if they are not stacks.
    """
    rows = jax.tree.map(
        lambda leaf: jnp.zeros((num_rows, *leaf.shape), leaf.dtype), _with_newest_frame(row, frames)
    )
    return Replay(rows, jnp.zeros((), jnp.int32))


def insert(replay: Replay, row: Row, frames: int) -> Replay:
    """Adds a row; in a full buffer it replaces the oldest one."""
    position = replay.written % replay.rows.valid.shape[0]
    rows = jax.tree.map(
        lambda column, new: jax.lax.dynamic_update_index_in_dim(column, new, position, 0),
        replay.rows,
        _with_newest_frame(row, frames),
    )
    return Replay(rows, replay.written + 1)


def episodes(rows: Mapping[str, np.ndarray], written: int) -> list[dict[str, np.ndarray]]:
    """The episodes in a buffer that was read from a checkpoint, lane after lane, oldest first.

    The first episode of a lane may lack its beginning. The last one may lack its end.

    Args:
        rows: the fields of `Row`, [T, N, ...].
        written: the number of rows written since the start.

    Returns:
        For each episode the fields of `Row` but valid, [L + 1, ...]: L >= 1 transitions and the final
        observation.
    """
    valid = rows["valid"]
    size, count = valid.shape
    kept = min(written, size)
    order = (written - kept + np.arange(kept)) % size
    found = []
    for lane in range(count):
        ends = np.flatnonzero(~valid[order, lane]) + 1
        # The newest row has no successor yet: its observation is the last one.
        for start, stop in zip([0, *ends], [*ends, kept], strict=True):
            if stop - start > 1:
                names = (name for name in rows if name != "valid")
                found.append({name: rows[name][order[start:stop], lane] for name in names})
    return found


def num_transitions(replay: Replay) -> Array:
    """The number of transitions in the buffer, an int32 scalar; includes the newest of each lane."""
    return jnp.sum(replay.rows.valid, dtype=jnp.int32)


def sample(replay: Replay, key: Key, batch_size: int, frames: int) -> Transitions:
    """Draws transitions uniformly, with replacement, among those whose successor is in the buffer.

    If a drawn row is not a transition, another one is drawn, up to three times. If all four are not
    transitions, the transition before the first row is used.

    Args:
        replay: has at least `frames` + 1 rows, of which the row before the last is a transition.
        key: random key.
        batch_size: B.
        frames: number of frames that observations stack; before an episode's first frame a stack has zeros.

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
    """The observations [B, ...] of rows [B]; stacks are built from single frames."""
    num_rows = stored.valid.shape[0]
    if frames == 1:
        return stored.observations[row % num_rows, lane]
    age = jnp.arange(frames - 1, -1, -1)
    rows = (row[:, None] - age[None]) % num_rows  # [B, frames], oldest first
    images = stored.observations[rows, lane[:, None]][..., 0]
    # A frame belongs to the same episode if no row from it up to the row before `row` ends an episode.
    ends = ~stored.valid[rows, lane[:, None]] & (age > 0)[None]
    same = jnp.cumsum(ends[:, ::-1], axis=1)[:, ::-1] == 0
    same = same.reshape(*same.shape, *[1] * (images.ndim - 2))
    return jnp.moveaxis(jnp.where(same, images, jnp.zeros((), images.dtype)), 1, -1)
