"""Rewards of the user: a function in a Python file labels a dataset, and scores episodes."""

import dataclasses
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np

from valuelab.configuration import RunConfig
from valuelab.data import storage
from valuelab.data.sources import exorl, ogbench
from valuelab.environments.rewarded import Reward, rewarded, rewards_of
from valuelab.errors import InputError
from valuelab.files import local_path
from valuelab.observation_parts import unpack
from valuelab.runs import command_line
from valuelab.types import Dataset, Environment


def find(config: RunConfig) -> Reward | None:
    """The function that the settings name; None without one. Executes the file."""
    return command_line.load_function(config.reward, "reward") if config.reward else None


def find_saved(config: RunConfig, trusted: bool, advice: str) -> Reward:
    """The function that a saved run names.

    Args:
        config: the settings of the run.
        trusted: whether the file may be executed.
        advice: how the user can trust it, for messages.

    Raises:
        InputError: for a file that is not trusted or missing, or a function that was in memory.
    """
    if ":" not in config.reward:
        raise InputError(
            f"the reward {config.reward!r} of the run was a function in memory, which is not saved: give an "
            "environment, or train with reward='FILE.py:FUNCTION'"
        )
    if not trusted:
        raise InputError(
            f"the run names the reward file {config.reward!r}, whose code would be executed: read it, then "
            f"{advice}"
        )
    return command_line.load_function(config.reward, "reward")


def check(config: RunConfig) -> None:
    """Refuses settings that do not go with a reward function.

    Raises:
        InputError: naming the setting.
    """
    if not config.dataset or config.online_steps:
        raise InputError(
            f"reward is {config.reward!r}, but a reward labels a dataset before training: give --dataset, "
            "and leave out --online_steps"
        )
    if config.data.rewards != "none":
        raise InputError(
            f"data.rewards is {config.data.rewards!r}, a rule for the rewards of the dataset, but your "
            "reward replaces these: give --data.rewards=none"
        )


def labelled(config: RunConfig, dataset: Dataset, reward: Reward) -> Dataset:
    """A dataset with the rewards of a function instead of its own, or instead of goals.

    The function gets the arrays of all M transitions: "observations", "actions" and "next_observations",
    each [M, ...]; observations of several parts are dictionaries. For ogbench/ and exorl/ without a task in
    the name it also gets the simulator's states where the action is taken and where it leads, such as "qpos"
    and "next_qpos". Masks stay as they are.

    Args:
        config: the settings of the run.
        dataset: the dataset, in either storage.
        reward: the function.

    Raises:
        InputError: when the function fails, or returns another shape or values that are not finite.
    """
    rows = storage.transition_rows(dataset)
    following = dataset.next_observations
    transitions: dict[str, Any] = {
        "observations": dataset.observations[rows],
        "actions": dataset.actions[rows],
        "next_observations": dataset.observations[rows + 1] if following is None else following,
    }
    transitions |= _simulator_states(config, transitions["observations"])
    if parts := dataset.observation_parts:
        for key in ("observations", "next_observations"):
            transitions[key] = unpack(transitions[key], parts)
    rewards = np.zeros(len(dataset.rewards), np.float32)
    rewards[rows] = rewards_of(reward, transitions, config.reward)
    return dataclasses.replace(dataset, rewards=rewards, goal_conditioned=False)


def _simulator_states(config: RunConfig, observations: np.ndarray) -> Mapping[str, np.ndarray]:
    """The simulator's states of all transitions, by name; empty where the source does not have them."""
    source_name, _, name = config.dataset.partition("/")
    folder = local_path("data_dir", config.data_dir)
    if source_name == "ogbench" and not ogbench.has_task(name):
        states = ogbench.read_states(name, folder)
    elif source_name == "exorl" and not exorl.has_task(name):
        states = exorl.read_states(name, folder, most_episodes=sys.maxsize)
    else:
        return {}
    before = np.flatnonzero(~states.pop("terminals"))
    if not np.array_equal(states.pop("observations")[before], observations):
        return {}  # a dataset in memory that is only a part of the files
    current = {key: array[before] for key, array in states.items()}
    return current | {f"next_{key}": array[before + 1] for key, array in states.items()}


def scored(config: RunConfig, environment: Environment, reward: Reward) -> Environment:
    """An environment whose episodes are scored by the function that labelled the dataset.

    The original task still ends episodes, unless its tasks are goals. The function is tried on one step.

    Args:
        config: the settings of the run.
        environment: the environment of evaluations.
        reward: the function.

    Raises:
        InputError: when the function cannot score a step, for example because the environment lacks an array.
    """
    name = config.reward.rpartition(":")[2]
    ends = not environment.goal_conditioned
    made = rewarded(environment, reward, name, of_transitions=True, terminates=ends)
    instance: Any = made.make()
    try:
        instance.reset(seed=0, options=next(iter(made.tasks.values())))
        instance.action_space.seed(0)
        instance.step(instance.action_space.sample())
    except InputError as error:
        raise InputError(
            f"{error}; in {environment.name} it cannot score episodes: use other arrays, or train without "
            "evaluating: --eval_episodes=0"
        ) from error
    finally:
        instance.close()
    return made
