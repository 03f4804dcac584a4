r"""An environment of your own: a point that must reach the origin.

    python -m experiments.train --agent=sac:pendulum --workdir=runs/own \
      --environment=experiments/examples/point_robot.py:PointRobot \
      --environment_kwargs='{"max_episode_steps": 50}'

docs/extend/environment.md explains what an environment needs.
"""

from typing import Any

import gymnasium
import numpy as np


class PointRobot(gymnasium.Env):
    """A point in the plane that observes its place, and moves by at most `speed` per step."""

    observation_space = gymnasium.spaces.Box(-2.0, 2.0, (2,), np.float32)
    action_space = gymnasium.spaces.Box(-1.0, 1.0, (2,), np.float32)

    def __init__(self, speed: float = 0.1):
        self.speed = speed

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        """Starts an episode; all random numbers come from the seed."""
        super().reset(seed=seed)
        self.place = self.np_random.uniform(-1.0, 1.0, 2)
        return self.place.astype(np.float32), {}

    def step(self, action: Any) -> Any:
        """Moves the point; the reward is minus its distance from the origin."""
        self.place = np.clip(self.place + self.speed * np.asarray(action), -2.0, 2.0)
        reward = -float(np.linalg.norm(self.place))
        return self.place.astype(np.float32), reward, False, False, {}
