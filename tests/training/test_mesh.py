"""Tests of meshes: the placement of arrays affects only speed."""

import functools

import jax
import numpy as np
import pytest
from helpers import assert_close, linear_agent, make_dataset, make_sampler

from valuelab.data import sampling
from valuelab.errors import InputError
from valuelab.training import make_mesh, mesh, train

SEEDS = tuple(range(8))


@pytest.mark.parametrize(
    ("members", "batch", "shape", "expected"),
    [
        (1, 8, None, (1, 8)),
        (4, 2, None, (4, 2)),
        (8, 1, None, (8, 1)),
        (6, 4, None, (2, 4)),
        (16, 1, None, (8, 1)),
        (3, 5, (1, 1), (1, 1)),
        (2, 6, (2, 3), (2, 3)),
    ],
)
def test_layout(members, batch, shape, expected):
    layout = make_mesh(members, batch, shape)
    assert layout.axis_names == ("seed", "data")
    assert layout.devices.shape == expected
    assert layout.devices.ravel().tolist() == jax.devices()[: layout.size]


@pytest.mark.parametrize(
    ("members", "batch", "shape", "message"),
    [
        (
            1,
            20,
            None,
            "batch_size 20 is not divisible by the data axis of 8 device.*: give a multiple",
        ),
        (2, 6, (1, 4), "batch_size 6 is not divisible by the data axis of 4"),
        (
            3,
            8,
            (2, 4),
            r"the 3 member\(s\) are not divisible by the seed axis of 2: choose num_seeds",
        ),
        (4, 8, (4, 4), r"mesh 4,4 does not fit 8 device\(s\): give --mesh=SEED,DATA"),
        (4, 8, (0, 8), "mesh 0,8 does not fit"),
    ],
)
def test_layouts_that_do_not_fit_are_refused(members, batch, shape, message):
    with pytest.raises(InputError, match=message) as caught:
        make_mesh(members, batch, shape)
    assert "\n" not in str(caught.value)


def test_rows_are_spread_evenly_and_padded_at_the_end():
    rows = np.arange(37 * 2, dtype=np.float32).reshape(37, 2)
    placed = mesh.place_rows({"rows": rows}, make_mesh(2, 8, (2, 4)))["rows"]
    assert {shard.data.shape for shard in placed.addressable_shards} == {(10, 2)}
    np.testing.assert_array_equal(placed[:37], rows)
    np.testing.assert_array_equal(placed[37:], rows[[36, 36, 36]])


def test_members_are_spread_and_fetched_whole():
    layout = make_mesh(8, 8, (4, 2))
    values = {"a": np.arange(24, dtype=np.float32).reshape(8, 3)}
    placed = mesh.place_members(values, layout)
    assert {shard.data.shape for shard in placed["a"].addressable_shards} == {(2, 3)}
    fetched = mesh.fetch(placed, layout)
    assert fetched["a"].sharding.device_set == {jax.devices()[0]}
    np.testing.assert_array_equal(fetched["a"], values["a"])


@functools.cache
def on_one_device():
    return train(
        linear_agent(),
        make_sampler(),
        steps=12,
        seeds=SEEDS,
        mesh=make_mesh(8, 8, (1, 1)),
        show_progress=False,
    )


@pytest.mark.parametrize(
    "shape",
    [pytest.param((1, 8), marks=pytest.mark.slow), (2, 4), pytest.param((8, 1), marks=pytest.mark.slow)],
)
def test_devices_change_a_run_by_rounding_alone(shape):
    """Forty rows over a data axis of 8 or 4, and random noise in the loss, of the shape of the batch."""
    spread = train(
        linear_agent(),
        make_sampler(),
        steps=12,
        seeds=SEEDS,
        mesh=make_mesh(8, 8, shape),
        show_progress=False,
    )
    assert_close(on_one_device().states, spread.states)
    for one, other in zip(on_one_device().rows, spread.rows, strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-4)


@pytest.mark.slow
def test_goals_and_compact_storage_are_the_same_on_eight_devices_as_on_one():
    """Compact storage has 45 rows, which a data axis of 4 does not divide."""
    dataset = make_dataset(compact=True, goal_conditioned=True)
    assert len(dataset.observations) % 4
    sampler = sampling.goals(dataset, 8, sampling.GoalRelabelling())
    plain = linear_agent()

    def update(state, batch):
        seen = batch.observations - batch.goals + 2 * batch.policy_goals + 3 * batch.next_observations
        return plain.update(state, batch._replace(observations=seen))

    agent = plain._replace(update=update)
    one, eight = (
        train(agent, sampler, steps=12, seeds=[0, 1], mesh=make_mesh(2, 8, shape), show_progress=False)
        for shape in [(1, 1), (2, 4)]
    )
    assert_close(one.states, eight.states)
