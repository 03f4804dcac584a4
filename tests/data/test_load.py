import dataclasses

import numpy as np
import pytest

from valuelab import data
from valuelab.data import storage
from valuelab.errors import InputError
from valuelab.types import Dataset


def compact_dataset() -> Dataset:
    # Two episodes of three and two transitions. The last row of each holds only the final observation.
    terminals = np.array([0, 0, 0, 1, 0, 0, 1], bool)
    return Dataset(
        name="made up",
        observations=np.arange(14, dtype=np.float32).reshape(7, 2),
        actions=np.linspace(-1, 1, 7, dtype=np.float32)[:, None],
        rewards=np.arange(7, dtype=np.float32),
        masks=np.array([1, 1, 0, 1, 1, 1, 1], np.float32),
        terminals=terminals,
        valid=~terminals,
        action_low=-np.ones(1, np.float32),
        action_high=np.ones(1, np.float32),
    )


def test_full_storage_holds_the_transitions_of_compact_storage():
    compact = compact_dataset()
    full = storage.full(compact)

    # Rows 0, 1, 2 and 4, 5 are transitions; each successor is the row below.
    np.testing.assert_array_equal(full.observations[:, 0], [0, 2, 4, 8, 10])
    np.testing.assert_array_equal(full.next_observations[:, 0], [2, 4, 6, 10, 12])
    np.testing.assert_array_equal(full.rewards, [0, 1, 2, 4, 5])
    np.testing.assert_array_equal(full.masks, [1, 1, 0, 1, 1])
    np.testing.assert_array_equal(full.terminals, [0, 0, 1, 0, 1])
    assert full.valid is None
    assert storage.full(full) is full


def test_transitions_are_numbered_alike_in_both_storages():
    compact = compact_dataset()
    np.testing.assert_array_equal(storage.transition_rows(compact), [0, 1, 2, 4, 5])
    for dataset in (compact, storage.full(compact)):
        np.testing.assert_array_equal(storage.trajectory_ends(dataset), [2, 2, 2, 4, 4])


def test_an_episode_without_transitions_counts_for_nothing():
    terminals = np.array([0, 1, 1, 0, 1], bool)
    dataset = dataclasses.replace(
        compact_dataset(),
        **{
            key: getattr(compact_dataset(), key)[:5]
            for key in ("observations", "actions", "rewards", "masks")
        },
        terminals=terminals,
        valid=~terminals,
    )
    np.testing.assert_array_equal(storage.trajectory_ends(dataset), [0, 1])
    np.testing.assert_array_equal(storage.full(dataset).terminals, [1, 1])


def test_nested_observations_become_one_vector():
    tree = {
        "observation": np.zeros((2, 1)),
        "goal": {"place": np.ones((2, 2)), "state": np.full((2, 1, 1), 2)},
    }
    np.testing.assert_array_equal(storage.flatten(tree), [[0, 1, 1, 2], [0, 1, 1, 2]])
    array = np.zeros((2, 3, 3))
    assert storage.flatten(array) is array


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        (
            "pointmaze-medium-navigate-singletask-v0",
            "did you mean 'ogbench/pointmaze-medium-navigate-singletask-v0'",
        ),
        ("hoper-medium-v2", "did you mean 'd4rl/hopper-medium-v2'"),
        ("walker-rnd-run", "did you mean 'exorl/walker-rnd-run'"),
        ("D4RL/door/human-v2", "did you mean 'minari/D4RL/door/human-v2'"),
        ("nothing", "write SOURCE/NAME, such as ogbench/pointmaze-medium-navigate-singletask-v0, d4rl/"),
    ],
)
def test_a_name_without_its_source(tmp_path, name, advice):
    (tmp_path / "minari" / "D4RL" / "door" / "human-v2").mkdir(parents=True)
    with pytest.raises(InputError, match=f"dataset '{name}' does not begin with a known source: {advice}"):
        data.load(name, tmp_path)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("ogbench/pointmaze-medium-navigate-v0", True),
        ("ogbench/cube-double-play-100m-v0", True),
        ("ogbench/pointmaze-medium-navigate-singletask-task2-v0", False),
        ("rlds/ogbench/scene-play-v0", True),
        ("d4rl/antmaze-umaze-v2", False),
        ("rlds/d4rl_mujoco_hopper/v2-medium", False),
        ("ogbench/own.hdf5", False),
        ("ogbench/own.npz", None),
        ("exorl/walker-rnd", False),
        ("minari/D4RL/pointmaze/umaze-v2", False),
        ("rlds/own", None),
        ("walks/own", None),
    ],
)
def test_names_say_whether_tasks_are_goals(name, expected):
    assert data.goal_conditioned(name) is expected


def test_unknown_source():
    with pytest.raises(InputError, match="unknown data source 'ogbrench': did you mean 'ogbench'"):
        data.load("ogbrench/pointmaze-medium-navigate-v0")
    with pytest.raises(
        InputError, match=r"'nope.H5' is not a file that can be read: give .* ends in .hdf5, .h5 or .npz"
    ):
        data.load("nope.H5")
