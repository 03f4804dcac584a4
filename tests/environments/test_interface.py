"""Data and environments with different interfaces are refused before training."""

import dataclasses

import gymnasium
import numpy as np
import pytest
from helpers import MAZE, ROOT, command, launch

from valuelab import environments, types
from valuelab.environments import interface
from valuelab.errors import InputError

SPEC = types.Spec((3,), "float32", action_dim=2, num_actions=0, reward_min=-1.0, reward_max=0.0)
BOUNDS = types.Normalization(action_low=np.float32([-1, -2]), action_high=np.float32([1, 2]))


def world(observations=(3,), dtype=np.float64, actions=None, **facts):
    """An environment with the interface of the data above, except for the given changes."""
    actions = gymnasium.spaces.Box(np.float32([-1, -2]), np.float32([1, 2])) if actions is None else actions
    instance = gymnasium.Env()
    instance.observation_space = gymnasium.spaces.Box(0, 255, observations, dtype)
    instance.action_space = actions
    environment = types.Environment("world", None, {}, "return", None, **facts)
    return interface.of_environment(environment, instance)


def boxed(low, high):
    return gymnasium.spaces.Box(np.float32(low), np.float32(high))


@pytest.mark.parametrize(
    ("spec", "theirs", "message"),
    [
        (
            {},
            {"observations": (4,)},
            r"^observations of data are float32\[3\], but float32\[4\] in world: do it",
        ),
        ({}, {"dtype": np.uint8}, r"^observations of data are float32\[3\], but uint8\[3\] in world"),
        ({}, {"actions": boxed([-1], [1])}, r"^actions of data are float32\[2\], but float32\[1\] in world"),
        (
            {},
            {"actions": gymnasium.spaces.Discrete(5)},
            r"^actions of data are float32\[2\], but 5 choices in",
        ),
        (
            {"action_dim": 0, "num_actions": 4},
            {"actions": gymnasium.spaces.Discrete(5)},
            "^actions of data are 4 choices, but 5 choices in world",
        ),
        (
            {},
            {"actions": gymnasium.spaces.Discrete(2, start=1)},
            r"^the action space of world is Discrete\(2, start=1\)",
        ),
        ({}, {"actions": gymnasium.spaces.MultiBinary(2)}, r"^the action space of world is MultiBinary\(2\)"),
        (
            {},
            {"actions": boxed([-1, -1], [1, 2])},
            "^the lower bound of action 1 is -2 in data, but -1 in world",
        ),
        (
            {},
            {"actions": boxed([-1, -2], [0.5, 2])},
            "^the upper bound of action 0 is 1 in data, but 0.5 in world",
        ),
        ({}, {"goal_conditioned": True}, r"^goals of data are none, but float32\[3\] in world"),
        ({"goal_conditioned": True}, {}, r"^goals of data are float32\[3\], but none in world"),
        ({}, {"reward_dim": 2}, r"^rewards of data are numbers, but float32\[2\] in world"),
    ],
)
def test_differences_are_named_with_both_values(spec, theirs, message):
    bounds = types.Normalization() if "num_actions" in spec else BOUNDS
    data = interface.of_data("data", dataclasses.replace(SPEC, **spec), bounds)
    with pytest.raises(InputError, match=message):
        interface.check_alike(data, world(**theirs), "do it")


@pytest.mark.parametrize(
    "actions", [None, boxed([-1, -2 - 1e-6], [1, 2]), boxed([-np.inf] * 2, [np.inf] * 2)]
)
def test_what_fits(actions):
    interface.check_alike(interface.of_data("data", SPEC, BOUNDS), world(actions=actions), "")
    maze = environments.make(MAZE)
    unit = dataclasses.replace(SPEC, observation_shape=(2,))
    learnt = interface.of_data("data", unit, types.Normalization())
    interface.check_alike(learnt, interface.of_environment(maze, maze.make()), "")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"environment": "gymnasium/MountainCarContinuous-v0"},
            r"^actions of ogbench/.* are float32\[2\], but float32\[1\] in MountainCarContinuous-v0: give "
            "another --environment; or train without evaluating: --eval_episodes=0",
        ),
        (
            {"environment": "gymnasium/CartPole-v1", "data__num_frames": 2},
            r"are float32\[4\], but float32\[8\] in CartPole-v1: give another --data.num_frames \(now 2\) or",
        ),
        (
            {"environment": "gymnasium/MountainCarContinuous-v0", "online_steps": 20},
            "leave out --online_steps",
        ),
    ],
)
def test_a_run_does_not_begin(data_dir, tmp_path, monkeypatch, settings, message):
    monkeypatch.chdir(ROOT)
    with pytest.raises(InputError, match=message) as refused:
        launch(command(data_dir, tmp_path, eval_episodes=1, **settings))
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "metrics.jsonl").exists()
