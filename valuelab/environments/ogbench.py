"""OGBench: one task with rewards for singletask names, the five-goal protocol for the others.

In singletask environments a reward is minus the number of the task's parts that are not done: -1 in mazes and
cube-single, down to -n with n cubes, buttons or other things. It is 0 at the last step: all episodes end at
success, which `info["success"]` says at that step.
"""

import contextlib
import dataclasses
import functools
from collections.abc import Iterator
from typing import Any

import numpy as np

from valuelab import errors, types
from valuelab.environments import gymnasium as plain

_GOALS = {f"task{number}": {"task_id": number} for number in range(1, 6)}
"""Names of the tasks that each environment has, and how `reset` is told of them."""


def make(name: str) -> types.Environment:
    """The environment of an OGBench dataset.

    Args:
        name: of the dataset, such as "cube-single-play-singletask-task2-v0" or "antmaze-large-stitch-v0".

    Returns:
        The environment with metric "success".

    Raises:
        InputError: when OGBench has no such environment.
    """
    errors.require("ogbench", "environments")
    environment_id = _environment_id(name)
    plain.check_registered("OGBench environment", environment_id, origin="ogbench.")
    goal_conditioned = "singletask" not in name
    return types.Environment(
        name=environment_id,
        make=functools.partial(create, environment_id),
        tasks=dict(_GOALS) if goal_conditioned else {"default": None},
        metric="success",
        score=lambda episode_return, success: float(success),
        goal_conditioned=goal_conditioned,
    )


def with_rewards(name: str) -> types.Environment:
    """All single tasks of a goal-conditioned dataset, in one environment.

    The dataset's own environment would not do for agents that know a task by its rewards: it tells goals,
    moves them by up to a metre in mazes, and has blocks change places.

    Args:
        name: of the dataset, such as "cube-single-play-v0".

    Returns:
        The environment, with rewards and success as in single tasks.

    Raises:
        InputError: when OGBench has no such environment.
    """
    stem, _, version = name.rpartition("-")
    single = make(f"{stem}-singletask-{version}")
    return dataclasses.replace(
        single, make=functools.partial(_create_choosing, single.name), tasks=dict(_GOALS)
    )


def _create_choosing(environment_id: str) -> Any:
    """A single-task environment that takes the number of its task when it is reset."""
    gymnasium = errors.require("gymnasium", "environments")

    class Choosing(gymnasium.Wrapper):  # type: ignore[name-defined]
        """Sets the task before each episode."""

        def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
            if options:
                self.unwrapped._reward_task_id = options["task_id"]
            return self.env.reset(seed=seed, options=options)

    return Choosing(create(environment_id))


def create(environment_id: str) -> Any:
    """A new OGBench gymnasium.Env whose episodes depend on nothing but the seed given to reset().

    Args:
        environment_id: its registered name, such as "pointmaze-medium-singletask-v0".
    """
    noisy_steps = "teleport" in environment_id or "powderworld" in environment_id
    return reproducible(plain.create(environment_id), noisy_steps)


def reproducible(environment: Any, noisy_steps: bool = False) -> Any:
    """Gives an OGBench environment its own random numbers, all derived from the seed given to reset().

    By itself OGBench draws start and goal noise from numpy's global generator, and steps with unseeded
    random actions while it resets.

    Args:
        environment: a gymnasium.Env of OGBench.
        noisy_steps: whether step() draws from numpy's global generator too.

    Returns:
        The wrapped environment; the global generator is left as it was found.
    """
    gymnasium = errors.require("gymnasium", "environments")

    class Reproducible(gymnasium.Wrapper):  # type: ignore[name-defined]
        """Lends numpy's global generator this environment's own state while OGBench draws from it."""

        def __init__(self, environment: Any):
            super().__init__(environment)
            self._generator = np.random.RandomState()  # the kind that numpy's global generator is of

        def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
            if seed is not None:
                self._generator = np.random.RandomState(seed)
                self.env.unwrapped.action_space.seed(seed)
            with _lent(self._generator):
                return self.env.reset(seed=seed, options=options)

        def step(self, action: Any) -> Any:
            if not noisy_steps:
                return self.env.step(action)
            with _lent(self._generator):
                return self.env.step(action)

    return Reproducible(environment)


@contextlib.contextmanager
def _lent(generator: Any) -> Iterator[None]:
    """Runs with numpy's global generator in the state of `generator`, which moves on in its place."""
    outside = np.random.get_state()  # noqa: NPY002
    np.random.set_state(generator.get_state())  # noqa: NPY002
    try:
        yield
    finally:
        generator.set_state(np.random.get_state())  # noqa: NPY002
        np.random.set_state(outside)  # noqa: NPY002


def _environment_id(dataset_name: str) -> str:
    """The dataset's name without the words for how and how much was collected: a-play-100m-v0 to a-v0."""
    words = [word for word in dataset_name.split("-") if word != "100m"]
    end = words.index("singletask") if "singletask" in words else len(words) - 1
    return "-".join(words[: end - 1] + words[end:])
