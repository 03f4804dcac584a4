"""An environment with a user's reward function of the simulator state."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from valuelab import errors, types
from valuelab.errors import InputError

Reward = Callable[[Mapping[str, np.ndarray]], Any]
"""Arrays of N states by name, each [N, ...], such as "observations" and "qpos" -> their rewards [N]."""


def rewards_of(reward: Reward, states: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    """The checked rewards of states, [N] float64.

    Args:
        reward: the function.
        states: arrays [N, ...] by name.
        name: the name of the function, for messages.

    Raises:
        InputError: when the function fails, or returns another shape or values that are not finite.
    """
    count = len(states["observations"])
    try:
        rewards = np.asarray(reward(states), np.float64)
    except (Exception, SystemExit) as error:
        raise InputError(f"reward {name} failed ({errors.describe(error)}): correct the function") from error
    if rewards.shape != (count,):
        raise InputError(
            f"reward {name} returns shape {rewards.shape} for {count} states: return one number per state"
        )
    if not np.isfinite(rewards).all():
        state = int(np.flatnonzero(~np.isfinite(rewards))[0])
        raise InputError(f"reward {name} is {rewards[state]} at state {state}: return finite numbers")
    return rewards


def rewarded(environment: types.Environment, reward: Reward, name: str) -> types.Environment:
    """An environment with a single task, the sum of a user's rewards up to the time limit.

    Args:
        environment: the environment; states have positions where it uses MuJoCo. Episodes start as in its
            first task.
        reward: the function.
        name: the name of the task.

    Returns:
        The environment with metric "return"; terminations of the original task do not end episodes.
    """
    gymnasium = errors.require("gymnasium", "environments")

    class Rewarded(gymnasium.Wrapper):  # type: ignore[name-defined]
        """Replaces rewards by those of the function for the next state."""

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
