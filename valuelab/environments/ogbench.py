"""OGBench: one task with rewards for singletask names, the five-goal protocol for the others.

In singletask environments, a reward is minus the number of the task's parts that are not done: -1 in mazes
and cube-single, down to -n with n cubes, buttons or other objects. Episodes end at success, with reward 0 and
`info["success"]` True.
"""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from valuelab import errors, types
from valuelab.environments import creation

_GOALS = {f"task{number}": {"task_id": number} for number in range(1, 6)}
"""The tasks of each environment: name -> options of `reset`."""


def make(name: str, environment_kwargs: Mapping[str, Any] = creation.NO_KWARGS) -> types.Environment:
    """The environment of an OGBench dataset.

    Args:
        name: the dataset, such as "cube-single-play-singletask-task2-v0" or "antmaze-large-stitch-v0".
        environment_kwargs: keyword arguments of gymnasium.make.

    Returns:
        The environment with metric "success".

    Raises:
        InputError: when OGBench has no such environment.
    """
    errors.require("ogbench", "environments")
    environment_id = _environment_id(name)
    registry = errors.require("gymnasium", "environments").registry
    if name in registry and environment_id not in registry:
        raise errors.InputError(
            f"ogbench/{name} names an environment of OGBench: give one of its datasets instead, "
            "such as ogbench/pointmaze-medium-navigate-singletask-v0"
        )
    creation.check_registered("OGBench environment", environment_id, origin="ogbench.")
    goal_conditioned = "singletask" not in name
    return types.Environment(
        name=environment_id,
        make=functools.partial(create, environment_id, environment_kwargs),
        tasks=dict(_GOALS) if goal_conditioned else {"default": None},
        metric="success",
        score=lambda episode_return, success: float(success),
        goal_conditioned=goal_conditioned,
    )


def with_rewards(name: str, environment_kwargs: Mapping[str, Any] = creation.NO_KWARGS) -> types.Environment:
    """All single tasks of a goal-conditioned dataset, in one environment.

    The dataset's own environment does not suit agents that know a task by its rewards. It gives goals, moves
    them by up to one metre in mazes, and exchanges blocks.

    Args:
        name: the dataset, such as "cube-single-play-v0".
        environment_kwargs: keyword arguments of gymnasium.make.

    Returns:
        The environment, with rewards and success as in single tasks.

    Raises:
        InputError: when OGBench has no such environment.
    """
    stem, _, version = name.rpartition("-")
    single = make(f"{stem}-singletask-{version}", environment_kwargs)
    return dataclasses.replace(
        single,
        make=functools.partial(_create_choosing, single.name, environment_kwargs),
        tasks=dict(_GOALS),
    )


def between(
    environment: types.Environment, pairs: Mapping[str, tuple[np.ndarray, np.ndarray]]
) -> types.Environment:
    """A maze whose tasks are to walk from given starts to given goals.

    Args:
        environment: a maze of OGBench.
        pairs: name of a task -> its start [2] and its goal [2], in metres.
    """
    return dataclasses.replace(
        environment,
        make=functools.partial(_create_between, environment.make, next(iter(environment.tasks.values()))),
        tasks={name: {"start": start, "goal": goal} for name, (start, goal) in pairs.items()},
    )


def _create_between(make: Callable[[], Any], task: dict[str, Any] | None) -> Any:
    """A maze; the options of a reset give its start and its goal. It is first reset for another task."""
    gymnasium = errors.require("gymnasium", "environments")

    class Between(gymnasium.Wrapper):  # type: ignore[name-defined]
        """Moves the start and the goal after each reset."""

        def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
            options = options or {}
            _, info = self.env.reset(seed=seed, options=task)
            scene = self.unwrapped
            scene.set_goal(goal_xy=options["goal"])
            scene.set_xy(options["goal"])
            info["goal"] = scene.get_ob()
            scene.set_xy(options["start"])
            return scene.get_ob(), info

    return Between(make())


def _create_choosing(environment_id: str, environment_kwargs: Mapping[str, Any]) -> Any:
    """A single-task environment; the options of a reset choose its task."""
    gymnasium = errors.require("gymnasium", "environments")

    class Choosing(gymnasium.Wrapper):  # type: ignore[name-defined]
        """Sets the task before each episode."""

        def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
            if options:
                self.unwrapped._reward_task_id = options["task_id"]
            return self.env.reset(seed=seed, options=options)

    return Choosing(create(environment_id, environment_kwargs))


def create(environment_id: str, environment_kwargs: Mapping[str, Any] = creation.NO_KWARGS) -> Any:
    """A new OGBench gymnasium.Env whose episodes depend only on the seed of reset().

    Args:
        environment_id: its registered name, such as "pointmaze-medium-singletask-v0".
        environment_kwargs: keyword arguments of gymnasium.make.
    """
    errors.require("ogbench", "environments")  # registers its environments, also in another process
    noisy_steps = "teleport" in environment_id or "powderworld" in environment_id
    return reproducible(creation.create(environment_id, environment_kwargs), noisy_steps)


def reproducible(environment: Any, noisy_steps: bool = False) -> Any:
    """Gives an OGBench environment its own random numbers, derived from the seed of reset().

    OGBench draws the noise of starts and goals from numpy's global generator, and takes unseeded random
    actions in a reset.

    Args:
        environment: a gymnasium.Env of OGBench.
        noisy_steps: whether step() uses numpy's global generator too.

    Returns:
        The wrapped environment; it leaves the state of the global generator unchanged.
    """
    gymnasium = errors.require("gymnasium", "environments")

    class Reproducible(gymnasium.Wrapper):  # type: ignore[name-defined]
        """Replaces the state of numpy's global generator while OGBench uses it."""

        def __init__(self, environment: Any):
            super().__init__(environment)
            self._generator = np.random.RandomState()  # the type of numpy's global generator

        def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
            if seed is not None:
                self._generator = np.random.RandomState(seed)
                self.env.unwrapped.action_space.seed(seed)
            with _replacing_global(self._generator):
                return self.env.reset(seed=seed, options=options)

        def step(self, action: Any) -> Any:
            if not noisy_steps:
                return self.env.step(action)
            with _replacing_global(self._generator):
                return self.env.step(action)

    return Reproducible(environment)


@contextlib.contextmanager
def _replacing_global(generator: Any) -> Iterator[None]:
    """Runs with the state of `generator` in numpy's global generator, and returns the new state to it."""
    outside = np.random.get_state()  # noqa: NPY002
    np.random.set_state(generator.get_state())  # noqa: NPY002
    try:
        yield
    finally:
        generator.set_state(np.random.get_state())  # noqa: NPY002
        np.random.set_state(outside)  # noqa: NPY002


def _environment_id(dataset_name: str) -> str:
    """The dataset's name without the kind and size of its data: a-play-100m-v0 becomes a-v0."""
    words = [word for word in dataset_name.split("-") if word != "100m"]
    end = words.index("singletask") if "singletask" in words else len(words) - 1
    return "-".join(words[: end - 1] + words[end:])
