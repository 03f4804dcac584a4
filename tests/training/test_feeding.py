"""Tests of streamed training: the batches are those of data on the device."""

import jax
import numpy as np
import pytest
from helpers import assert_close, assert_same_bits, linear_agent, make_dataset, make_sampler

from valuelab.data import sampling
from valuelab.training import Checkpoints, Interrupted, feeding, loop, make_mesh, train
from valuelab.training.experience import offline

SEEDS = np.arange(2, dtype=np.uint32) + 5


def goals(dataset):
    return sampling.goals(dataset, 8, sampling.GoalRelabelling())


@pytest.fixture(autouse=True)
def short_chunks(monkeypatch):
    monkeypatch.setattr(feeding, "MOST_UPDATES", 4)


def feeder_of(sampler, mesh=None, needed=None):
    leaves = jax.tree.leaves(jax.eval_shape(sampler.draw, sampler.arrays, jax.random.key(0)))
    needed = needed or (True,) * len(leaves)
    mesh = mesh or make_mesh(2, 8, (1, 1))
    return feeding.Feeder(sampler, needed, SEEDS, loop.batch_key, mesh, 9, lambda most: most // 2)


@pytest.mark.parametrize(
    "sampler",
    [
        sampling.transitions(make_dataset(), 8),
        sampling.transitions(make_dataset(compact=True), 8, 0.9, horizon=3, num_frames=2),
        goals(make_dataset(compact=True, goal_conditioned=True)),
    ],
)
def test_batches_are_those_of_data_on_the_device(sampler):
    feeder = feeder_of(sampler)
    part = feeder.part(1, slice(1, 2), slice(2, 6))  # updates 4 to 7 of the second member, four rows of 8
    sample = jax.jit(lambda arrays, step: sampler.sample(arrays, loop.batch_key(SEEDS[1], step)))
    batches = [sample(sampler.arrays, step) for step in range(4, 8)]
    whole = jax.tree.map(lambda *leaves: np.stack(leaves)[None, :, 2:6], *batches)
    assert_same_bits(part, whole)
    feeder.close()


@pytest.mark.parametrize("shape", [(1, 1), (2, 4)])
def test_each_device_gets_its_members_and_its_share_of_each_batch(shape):
    feeder = feeder_of(make_sampler(), make_mesh(2, 8, shape))
    chunk = feeder.chunk(6)
    assert (feeder.updates, feeder.block, feeder.end(6)) == (4, 2, 8)
    assert_same_bits(jax.device_get(chunk), feeder.part(1, slice(None), slice(None)))
    assert {shard.data.shape for shard in chunk.rewards.addressable_shards} == {
        (2 // shape[0], 4, 8 // shape[1])
    }
    feeder.close()


def test_what_an_agent_does_not_use_is_not_gathered():
    sampler = sampling.transitions(make_dataset(compact=True), 8, 0.9, horizon=3)
    needed = feeding.needed_leaves(linear_agent(), sampler)
    chunk = feeder_of(sampler, needed=needed).chunk(0)
    assert chunk.next_observations is chunk.next_actions is chunk.futures is chunk.segments is None
    assert chunk.observations.shape == (2, 4, 8, 3)


@pytest.mark.parametrize("shape", [(1, 1), (2, 4)])
def test_a_streamed_run_equals_that_on_the_device_also_when_it_resumes(shape, tmp_path):
    settings = {"steps": 22, "seeds": (5, 6), "mesh": make_mesh(2, 8, shape), "log_every": 5}
    settings |= {"show_progress": False}
    on_device = train(linear_agent(), make_sampler(), **settings)
    checkpoints = Checkpoints(tmp_path, {})
    settings |= {"checkpoints": checkpoints, "checkpoint_every": 3, "eval_every": 6}
    with pytest.raises(Interrupted):  # after update 6, in the middle of a chunk
        train(linear_agent(), offline(make_sampler(), on_host=True), evaluate=stop, **settings)
    assert checkpoints.latest_step() == 6
    streamed = train(linear_agent(), offline(make_sampler(), on_host=True), **settings)
    checkpoints.close()
    same = assert_same_bits if shape == (1, 1) else assert_close
    same(streamed.states, on_device.states)


def stop(states, step):
    raise Interrupted
