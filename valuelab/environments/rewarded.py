"""An environment with rewards of the user's own, which are functions of the state of the world."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from valuelab import errors, types
from valuelab.errors import InputError

Reward = Callable[[Mapping[str, np.ndarray]], Any]
"""What is known of N states, each array [N, ...], such as "observations" and "qpos" -> their rewards [N]."""


def rewards_of(reward: Reward, states: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    """The rewards [N] of states, checked.

    Args:
        reward: the function.
        states: arrays [N, ...] by name.
        name: of the function, for messages.

    Raises:
        InputError: when it fails, or returns another shape or numbers that are not finite.
    """
    count = len(states["observations"])
    try:
        rewards = np.asarray(reward(states), np.float64)
    except (Exception, SystemExit) as error:
        raise InputError(f"reward {name} failed: {errors.told(error)}") from error
    if rewards.shape != (count,):
        raise InputError(
            f"reward {name} returns shape {rewards.shape} for {count} states; it must return one number each"
        )
    if not np.isfinite(rewards).all():
        state = int(np.flatnonzero(~np.isfinite(rewards))[0])
        raise InputError(f"reward {name} is {rewards[state]} at state {state}; it must be finite")
    return rewards


def rewarded(environment: types.Environment, reward: Reward, name: str) -> types.Environment:
    """An environment whose one task is to collect such rewards until its episodes' time is over.

    Args:
        environment: of MuJoCo, for positions; its first task says where episodes start.
        reward: the function.
        name: of the task.

    Returns:
        The environment with metric "return"; a task's own end does not end episodes.
    """
    gymnasium = errors.require("gymnasium", "environments")

    class Rewarded(gymnasium.Wrapper):  # type: ignore[name-defined]
        """Says what the function says of the state that a step leads to."""

        def step(self, action: Any) -> Any:
            observation, _, _, truncated, info = self.env.step(action)
            states = {"observations": np.asarray(observation)[None]}
            data = getattr(self.env.unwrapped, "data", None) or getattr(self.env.unwrapped, "_data", None)
            if data is not None:
                states |= {"qpos": data.qpos[None].copy(), "qvel": data.qvel[None].copy()}
            return observation, float(rewards_of(reward, states, name)[0]), False, truncated, info

    first = next(iter(environment.tasks.values()))
    return dataclasses.replace(
        environment,
        make=lambda: Rewarded(environment.make()),
        tasks={name: first},
        metric="return",
        score=lambda episode_return, success: episode_return,
        goal_conditioned=False,
    )
