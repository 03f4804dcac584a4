"""D4RL's kitchen: a Franka arm does four subtasks with objects; each gives reward 1 once.

An episode ends after 280 steps, or when all four subtasks are done. An observation holds the positions of the
nine joints and 21 positions of the objects, both with noise, and then the 30 numbers of the goal. An action
in [-1, 1] sets the velocity of a joint, up to 2 per second, from its last observed position.

The model comes with gymnasium_robotics. It differs from D4RL's in one body: the robot's column is solid, but
D4RL only draws it; this module removes its contacts. FrankaKitchen of gymnasium_robotics observes velocities
and no goal, has less noise, and computes rewards from positions without noise.
"""

import importlib.resources
from typing import Any

import numpy as np

from valuelab import errors
from valuelab.environments import creation

_SLIDER = ("microwave", "kettle", "light switch", "slide cabinet")
_BURNER = ("microwave", "kettle", "bottom burner", "light switch")
_PARTS = {"kitchen-complete": _SLIDER, "kitchen-partial": _SLIDER, "kitchen-mixed": _BURNER}
_TARGETS = {
    "bottom burner": (slice(11, 13), (-0.88, -0.01)),
    "light switch": (slice(17, 19), (-0.69, -0.05)),
    "slide cabinet": (slice(19, 20), (0.37,)),
    "microwave": (slice(22, 23), (-0.75,)),
    "kettle": (slice(23, 30), (-0.23, 0.75, 1.62, 0.99, 0.0, 0.0, -0.06)),
}
"""The entries of the observation that hold each object, and their goal."""
_GOAL_DISTANCE = 0.3

_MODEL = "envs/assets/kitchen_franka/kitchen_assets/kitchen_env_model.xml"
_TIME_LIMIT = 280
_FRAME_SKIP = 40
_JOINTS = 9
_MAX_VELOCITY = 2.0
_JOINT_LOW = np.array([-2.9, -1.8, -2.9, -3.1, -2.9, 0.0, -2.9, 0.0, 0.0])
_JOINT_HIGH = np.array([2.9, 1.8, 2.9, 0.0, 2.9, 3.8, 2.9, 0.04, 0.04])
# A tenth of the noise of the sensors: joints, knobs, burners and lights, cabinets, microwave, kettle.
_NOISE = 0.1 * np.repeat([0.1, 0.005, 0.0005, 0.005, 0.1, 0.005, 0.1, 0.005], [9, 2, 6, 3, 3, 3, 3, 1])
_START = np.array(
    [
        *(1.48388023e-01, -1.76848573e00, 1.84390296e00, -2.47685760e00, 2.60252026e-01, 7.12533105e-01),
        *(1.59515394e00, 4.79267505e-02, 3.71350919e-02, -2.66279850e-04, -5.18043486e-05, 3.12877220e-05),
        *(-4.51199853e-05, -3.90842156e-06, -4.22629655e-05, 6.28065475e-05, 4.04984708e-05, 4.62730939e-04),
        *(-2.26906415e-04, -4.65501369e-04, -6.44129196e-03, -1.77048263e-03, 1.08009684e-03),
        *(-2.69397440e-01, 3.50383255e-01, 1.61944683e00, 1.00618764e00, 4.06395120e-03, -6.62095997e-03),
        -2.68278933e-04,
    ]
)
_CAMERA = {"distance": 2.2, "azimuth": 70.0, "elevation": -35.0, "lookat": np.array([-0.2, 0.5, 2.0])}


def create(task: str) -> Any:
    """A new kitchen.

    Args:
        task: "kitchen-complete", "kitchen-partial" or "kitchen-mixed".
    """
    gymnasium = errors.require("gymnasium", "environments")
    mujoco_env = errors.require("gymnasium.envs.mujoco", "environments").MujocoEnv
    creation.require_robotics()
    path = str(importlib.resources.files("gymnasium_robotics") / _MODEL)
    goal = np.zeros(len(_START))
    for part in _PARTS[task]:
        where, target = _TARGETS[part]
        goal[where] = target

    class Kitchen(mujoco_env):  # type: ignore[misc,valid-type]
        """The kitchen with the arm."""

        metadata: dict[str, Any] = {  # noqa: RUF012
            "render_modes": ["human", "rgb_array", "depth_array", "rgbd_tuple"],
            "render_fps": 12,
        }

        def __init__(self, **settings: Any):
            space = gymnasium.spaces.Box(-np.inf, np.inf, (2 * len(_START),), np.float64)
            super().__init__(path, _FRAME_SKIP, space, default_camera_config=_CAMERA, **settings)
            self.action_space = gymnasium.spaces.Box(-1, 1, (_JOINTS,), np.float32)
            column = self.model.body_geomadr[self.model.body("panda0_link0").parentid]
            self.model.geom_contype[column] = self.model.geom_conaffinity[column] = 0

        def reset_model(self) -> np.ndarray:
            self._left = list(_PARTS[task])
            self.set_state(_START, np.zeros(self.model.nv))
            return self._observe()

        def step(self, action: Any) -> Any:
            wanted = self._measured[:_JOINTS] + _MAX_VELOCITY * np.clip(action, -1, 1) * self.dt
            self.do_simulation(np.clip(wanted, _JOINT_LOW, _JOINT_HIGH), self.frame_skip)
            observation, open_parts = self._observe(), self._left
            self._left = [part for part in open_parts if not self._done(_TARGETS[part][0])]
            success = not self._left
            return observation, float(len(open_parts) - len(self._left)), success, False, {"success": success}

        def _observe(self) -> np.ndarray:
            self._measured = self.data.qpos + _NOISE * self.np_random.uniform(-1, 1, len(_NOISE))
            return np.concatenate([self._measured, goal])

        def _done(self, where: slice) -> bool:
            return bool(np.linalg.norm(self._measured[where] - goal[where]) < _GOAL_DISTANCE)

    spec = gymnasium.envs.registration.EnvSpec(
        f"{task}-v0", entry_point=Kitchen, max_episode_steps=_TIME_LIMIT
    )
    return creation.create(spec)
