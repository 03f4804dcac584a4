"""An environment with a reward function of the user."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from valuelab import errors, spaces, types
from valuelab.errors import InputError
from valuelab.observation_parts import unpack

Reward = Callable[[Mapping[str, Any]], Any]
"""Arrays of N states by name, each [N, ...], such as "observations" and "qpos" -> their rewards [N].

In experiments.train it is a function of N transitions: it also gets "actions", and the arrays of the next
states by names such as "next_observations" and "next_qpos".
"""


def rewards_of(reward: Reward, states: Mapping[str, Any], name: str) -> np.ndarray:
    """The checked rewards of states, [N] float64.

    Args:
        reward: the function.
        states: arrays [N, ...] by name, of states or of transitions; observations may be dictionaries.
        name: the name of the function, for messages.

    Raises:
        InputError: when the function fails, or returns another shape or values that are not finite.
    """
    observations = states["observations"]
    parts = observations.values() if isinstance(observations, Mapping) else [observations]
    count = len(next(iter(parts)))
    try:
        returned = np.asarray(reward(_read_only(states)))
        if np.iscomplexobj(returned):
            raise TypeError("it returns complex numbers")
        rewards = returned.astype(np.float64)
    except (Exception, SystemExit) as error:
        given = [
            f"{key} (a dictionary of {', '.join(value)})" if isinstance(value, Mapping) else key
            for key, value in states.items()
        ]
        raise InputError(
            f"reward {name} failed ({errors.describe(error)}): correct the function, which gets the arrays "
            f"{', '.join(given)}"
        ) from error
    if rewards.shape != (count,):
        raise InputError(
            f"reward {name} returns shape {rewards.shape} for {count} rows: return one number for each row"
        )
    is_usable = np.abs(rewards) <= np.finfo(np.float32).max  # False for NaN, too
    if not is_usable.all():
        row = int(np.flatnonzero(~is_usable)[0])
        raise InputError(f"reward {name} is {rewards[row]} at row {row}: return finite float32 numbers")
    return rewards


def _read_only(states: Any) -> Any:
    """Views of the arrays, in nested dictionaries, which a function cannot change in place."""
    if isinstance(states, Mapping):
        return {name: _read_only(part) for name, part in states.items()}
    view = np.asarray(states).view()
    view.flags.writeable = False
    return view


def rewarded(
    environment: types.Environment,
    reward: Reward,
    name: str,
    *,
    of_transitions: bool = False,
    terminates: bool = False,
) -> types.Environment:
    """An environment with a single task, the sum of a user's rewards up to the time limit.

    Args:
        environment: the environment; states have positions where it uses MuJoCo. Episodes start as in its
            first task.
        reward: the function.
        name: the name of the task.
        of_transitions: whether the function gets transitions; otherwise it gets the next states.
        terminates: whether terminations of the original task end episodes.

    Returns:
        The environment with metric "return".
    """
    gymnasium = errors.require("gymnasium", "environments")

    class Rewarded(gymnasium.Wrapper):  # type: ignore[name-defined]
        """Replaces rewards by those of the function."""

        def reset(self, **settings: Any) -> Any:
            observation, info = self.env.reset(**settings)
            self._states = self._read_states(observation)
            return observation, info

        def step(self, action: Any) -> Any:
            observation, _, terminated, truncated, info = self.env.step(action)
            before, states = self._states, self._read_states(observation)
            self._states = states
            if of_transitions:
                following = {f"next_{key}": array for key, array in states.items()}
                states = before | {"actions": np.asarray(action)[None]} | following
            value = float(rewards_of(reward, states, name)[0])
            return observation, value, terminated and terminates, truncated, info

        def _read_states(self, observation: Any) -> dict[str, Any]:
            """The observation and, where the simulator is MuJoCo, positions and velocities, [1, ...] each."""
            states: dict[str, Any] = {"observations": np.array(observation)[None]}
            if parts := spaces.parts_of(self.env.observation_space):
                states["observations"] = unpack(states["observations"], parts)
            data = getattr(self.env.unwrapped, "data", None) or getattr(self.env.unwrapped, "_data", None)
            if data is not None:
                states |= {"qpos": data.qpos[None].copy(), "qvel": data.qvel[None].copy()}
            return states

    first = next(iter(environment.tasks.values()))
    return dataclasses.replace(
        environment,
        make=lambda: Rewarded(environment.make()),
        tasks={name: first},
        metric="return",
        score=lambda episode_return, success: episode_return,
        goal_conditioned=False,
    )
