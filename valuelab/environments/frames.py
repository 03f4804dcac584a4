"""Environments that join an observation with those before it, as `sampling.transitions` does."""

import collections
import dataclasses
from typing import Any

import numpy as np

from valuelab import errors, spaces, types


def joined(environment: types.Environment, num_frames: int) -> types.Environment:
    """An environment whose observations are joined with those before them along the last axis.

    Args:
        environment: the environment with single observations.
        num_frames: k. Before the first observation of an episode, the first one is repeated. A goal is one
            observation, repeated k times.

    Returns:
        The environment; the same one where k is 1.
    """
    if num_frames == 1:
        return environment
    gymnasium = errors.require("gymnasium", "environments")

    class Joined(gymnasium.Wrapper):  # type: ignore[name-defined]
        """Keeps and joins the last observations."""

        def __init__(self, single: Any) -> None:
            super().__init__(single)
            self._frames: collections.deque[np.ndarray] = collections.deque(maxlen=num_frames)
            space = single.observation_space
            if parts := spaces.parts_of(space):
                self.observation_space = spaces.packed(parts, num_frames)
                return
            low, high = (np.concatenate([bound] * num_frames, axis=-1) for bound in (space.low, space.high))
            self.observation_space = gymnasium.spaces.Box(low, high, dtype=space.dtype)

        def reset(self, **settings: Any) -> Any:
            observation, info = self.env.reset(**settings)
            self._frames.extend([observation] * num_frames)
            if "goal" in info:
                info = info | {"goal": np.concatenate([info["goal"]] * num_frames, axis=-1)}
            return self._joined(), info

        def step(self, action: Any) -> Any:
            observation, *outcome = self.env.step(action)
            self._frames.append(observation)
            return (self._joined(), *outcome)

        def _joined(self) -> np.ndarray:
            return np.concatenate(list(self._frames), axis=-1)

    return dataclasses.replace(environment, make=lambda: Joined(environment.make()))
