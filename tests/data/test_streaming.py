import dataclasses
import itertools
import json

import jax
import numpy as np
import pytest

from valuelab.data.sources import rlds
from valuelab.data.streaming import stream
from valuelab.errors import InputError
from valuelab.types import Dataset


@pytest.fixture
def folder(tmp_path):
    """A dataset of four episodes of five transitions; row i has reward i and observation (i, i)."""
    rows = np.arange(24)
    terminals = rows % 6 == 5
    dataset = Dataset(
        name="made-up",
        observations=np.stack([rows, rows], axis=1).astype(np.float32),
        actions=(rows / 24).astype(np.float32)[:, None],
        rewards=rows.astype(np.float32),
        masks=(rows % 2).astype(np.float32),
        terminals=terminals,
        valid=~terminals,
        action_low=-np.ones(1, np.float32),
        action_high=np.ones(1, np.float32),
    )
    rlds.write({"train": dataset}, tmp_path / "rlds" / "made-up")
    rlds.write({"train": dataclasses.replace(dataset, goal_conditioned=True)}, tmp_path / "rlds" / "goals")
    return tmp_path


def test_an_epoch_holds_every_transition_once(folder):
    batches = list(itertools.islice(stream("rlds/made-up", folder, batch_size=4, seed=0, window=10), 10))
    rewards = np.concatenate([batch.rewards for batch in batches])
    transitions = [row for row in range(24) if row % 6 != 5]
    for epoch in (rewards[:20], rewards[20:]):
        assert sorted(epoch) == transitions
    assert rewards[:20].tolist() != rewards[20:].tolist()
    for batch in batches:
        np.testing.assert_array_equal(batch.observations[:, 0], batch.rewards)
        np.testing.assert_array_equal(batch.next_observations, batch.observations + 1)
        np.testing.assert_array_equal(batch.masks, batch.rewards % 2)
        assert batch.actions.shape == (4, 1)
        assert batch.actions.dtype == np.float32


def test_resumes_with_the_same_bits(folder):
    def start():
        return stream("rlds/made-up", folder, batch_size=3, seed=1, window=7)

    left = start()
    for _ in range(9):
        next(left)
    state = json.loads(json.dumps(left.get_state()))
    taken_up = start()
    taken_up.set_state(state)
    for _ in range(9):
        jax.tree.map(np.testing.assert_array_equal, next(left), next(taken_up))


def test_the_seed_sets_the_order(folder):
    def order(seed):
        return next(stream("rlds/made-up", folder, batch_size=20, seed=seed, window=20)).rewards.tolist()

    assert order(0) == order(0)
    assert order(0) != order(1)


def test_what_cannot_be_streamed(folder):
    with pytest.raises(
        InputError, match="dataset 'ogbench/a' cannot be streamed: convert it to RLDS with python -m"
    ):
        stream("ogbench/a", folder, batch_size=1, seed=0)
    with pytest.raises(
        InputError, match="dataset 'rlds/goals' cannot be streamed: hindsight goals need the whole"
    ):
        stream("rlds/goals", folder, batch_size=1, seed=0)
    with pytest.raises(InputError, match="batch_size is 0: give a positive number"):
        stream("rlds/made-up", folder, batch_size=0, seed=0)
