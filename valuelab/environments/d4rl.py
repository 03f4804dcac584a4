"""D4RL: locomotion, AntMaze and Adroit, scored by 100 (return - random) / (expert - random).

D4RL itself needs mujoco-py. The same tasks live on elsewhere: locomotion in gymnasium (v4 keeps the physics
and rewards of v2), Adroit in gymnasium_robotics. AntMaze runs on OGBench's ant, which has D4RL's actuators
(torque 30), time step (0.02 s, five a step), coordinates and 29 observations; the ant of gymnasium_robotics
has five times the torque at twice the frequency, and policies learnt from D4RL's data mean nothing to it.
"""

import functools
from typing import Any, NamedTuple

import numpy as np

from valuelab import errors, types
from valuelab.environments import gymnasium as plain
from valuelab.environments import ogbench


class _Reference(NamedTuple):
    """Mean returns of a random and of an expert policy."""

    random: float
    expert: float


# From d4rl/infos.py of Farama-Foundation/D4RL (REF_MIN_SCORE and REF_MAX_SCORE), the same in all versions.
REFERENCE_RETURNS = {
    "halfcheetah": _Reference(-280.178953, 12135.0),
    "hopper": _Reference(-20.272305, 3234.3),
    "walker2d": _Reference(1.629008, 4592.3),
    "ant": _Reference(-325.6, 3879.7),
    "antmaze-umaze": _Reference(0.0, 1.0),
    "antmaze-medium": _Reference(0.0, 1.0),
    "antmaze-large": _Reference(0.0, 1.0),
    "pen": _Reference(96.262799, 3076.8331017826877),
    "hammer": _Reference(-274.856578, 12794.134825156867),
    "door": _Reference(-56.512833, 2880.5693087298737),
    "relocate": _Reference(-6.425911, 4233.877797728884),
}

_LOCOMOTION = {
    "halfcheetah": "HalfCheetah-v4",
    "hopper": "Hopper-v4",
    "walker2d": "Walker2d-v4",
    "ant": "Ant-v4",
}
_ADROIT = {
    "pen": ("AdroitHandPen-v1", 100),
    "hammer": ("AdroitHandHammer-v1", 200),
    "door": ("AdroitHandDoor-v1", 200),
    "relocate": ("AdroitHandRelocate-v1", 200),
}
# Time limit and goal cell (row, column) of each maze; the ant starts in cell (1, 1).
_ANTMAZE = {
    "antmaze-umaze": (700, (3, 1)),
    "antmaze-medium": (1000, (6, 6)),
    "antmaze-large": (1000, (7, 9)),
}
_UMAZE = np.array(
    [
        [1, 1, 1, 1, 1],
        [1, 0, 0, 0, 1],
        [1, 1, 1, 0, 1],
        [1, 0, 0, 0, 1],
        [1, 1, 1, 1, 1],
    ]
)


def make(name: str) -> types.Environment:
    """The environment of a D4RL dataset; all datasets of one task share it.

    Args:
        name: of the dataset, such as "hopper-medium-replay-v2" or "antmaze-large-diverse-v2".

    Returns:
        The environment with metric "normalized_score".

    Raises:
        InputError: when there is no environment for the name.
    """
    task = next((task for task in REFERENCE_RETURNS if name.startswith(f"{task}-")), None)
    if task is None:
        raise errors.unknown("D4RL task", name.partition("-")[0], REFERENCE_RETURNS)
    reference = REFERENCE_RETURNS[task]
    create = (
        _create_antmaze if task in _ANTMAZE else _create_adroit if task in _ADROIT else _create_locomotion
    )
    return types.Environment(
        name=task,
        make=functools.partial(create, task),
        tasks={"default": None},
        metric="normalized_score",
        score=lambda episode_return, success: (
            100 * (episode_return - reference.random) / (reference.expert - reference.random)
        ),
    )


def _create_locomotion(task: str) -> Any:
    """A new locomotion environment with the observations of D4RL."""
    gymnasium = errors.require("gymnasium", "environments")
    environment = plain.create(_LOCOMOTION[task])
    if task != "ant":
        return environment
    # D4RL's 111 numbers end in 84 contact forces that the simulator of its time left at zero.
    space = gymnasium.spaces.Box(-np.inf, np.inf, (111,), np.float64)
    return gymnasium.wrappers.TransformObservation(
        environment, lambda observation: np.pad(observation, (0, 84)), space
    )


def _create_adroit(task: str) -> Any:
    """A new Adroit hand; gymnasium_robotics keeps D4RL's observations and dense rewards."""
    robotics = errors.require("gymnasium_robotics", "environments")
    errors.require("gymnasium", "environments").register_envs(robotics)
    environment_id, time_limit = _ADROIT[task]
    return plain.create(environment_id, max_episode_steps=time_limit)


def _create_antmaze(task: str) -> Any:
    """A new AntMaze: the ant starts at (0, 0), the goal lies up to 1.5 beyond the centre of its cell."""
    gymnasium = errors.require("gymnasium", "environments")
    errors.require("ogbench", "environments")
    time_limit, (row, column) = _ANTMAZE[task]

    class D4RLTask(gymnasium.Wrapper):  # type: ignore[name-defined]
        """Replaces OGBench's tasks, which are noisy at both ends, by D4RL's."""

        def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
            if seed is not None:  # an episode that follows another goes on with its numbers
                self._generator = np.random.default_rng(seed)
            # D4RL adds to each coordinate one uniform number below 1 and another below 0.5.
            self.env.unwrapped._noise = 0
            noise = self._generator.uniform(0, [[1.0, 1.0], [0.5, 0.5]]).sum(0)
            goal_cell = np.array([row, column]) + noise / self.env.unwrapped._maze_unit
            task_info = {"init_ij": (1, 1), "goal_ij": tuple(goal_cell)}
            return self.env.reset(seed=seed, options={"task_info": task_info})

    base = f"{task}-v0"
    if task == "antmaze-umaze":
        base = gymnasium.envs.registration.EnvSpec(base, entry_point=_umaze)
    return D4RLTask(ogbench.reproducible(plain.create(base, max_episode_steps=time_limit)))


def _umaze(**settings: Any) -> Any:
    """OGBench's ant in the one maze of D4RL that OGBench lacks."""
    make_maze_env = errors.require("ogbench.locomaze.maze", "environments").make_maze_env
    # The class is made inside OGBench's factory and can only be had from one of its instances.
    arena = make_maze_env("ant", "maze", maze_type="arena")

    class UMaze(type(arena)):  # type: ignore[misc]
        """The arena with other walls."""

        def update_tree(self, tree: Any) -> None:
            self.maze_map = _UMAZE.copy()
            super().update_tree(tree)

    return UMaze(maze_type="arena", **settings)
