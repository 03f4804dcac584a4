"""D4RL: locomotion, AntMaze, Adroit, maze2d and kitchen, scored by 100 (return - random) / (expert - random).

D4RL itself needs mujoco-py. Other packages provide the same tasks:

- Locomotion is in gymnasium: v4 keeps the physics and rewards of v2.
- Adroit is in gymnasium_robotics, with D4RL's models and two differences, which this module corrects. First,
  its v1 rewards the palm's distance from its target, but D4RL and v2 have a cost. Second, in both versions
  the episode continues after the pen has fallen, but D4RL ends it.
- maze2d and kitchen use models of gymnasium_robotics, see `d4rl_maze2d` and `d4rl_kitchen`.
- AntMaze uses OGBench's ant, which has D4RL's actuators (torque 30), time step (0.02 s, five per step),
  coordinates and 29 observations. The ant of gymnasium_robotics has five times the torque at twice the
  frequency, so policies trained on D4RL's data fail there.

The reference returns are D4RL's, so that scores are comparable with published ones. D4RL measured the random
references in 100 episodes of uniformly random actions, which score 0 here too, with these exceptions:

- ant: uniform actions score 7. The reference, -325.6, is their return over 1000 steps where the episode
  continues after the ant has fallen. Here, as in D4RL's environment, the episode ends there.
- hopper: uniform actions score 1. Their return is 18, here and in D4RL's own hopper-random data. The origin
  of D4RL's reference of -20.3 is unknown.
- maze2d-open: uniform actions score 45, and 180 in the dense task, with a large variance. The references
  belong to an earlier version, with episodes of 50 steps instead of 150 and without starts in the goal's
  cell.
- kitchen: the reference 0 was not measured. Uniform actions complete a subtask in few episodes.
"""

import functools
from typing import Any, NamedTuple

import numpy as np

from valuelab import errors, types
from valuelab.domains.d4rl import FILES
from valuelab.environments import creation, d4rl_kitchen, d4rl_maze2d, ogbench


class _Reference(NamedTuple):
    """Mean returns of a random and of an expert policy."""

    random: float
    expert: float


# From d4rl/infos.py of Farama-Foundation/D4RL (REF_MIN_SCORE and REF_MAX_SCORE). They are equal in all
# versions, except for maze2d: these are those of v1, and of v0 for the open maze, its only version.
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
    "maze2d-open": _Reference(0.01, 20.66),
    "maze2d-umaze": _Reference(23.85, 161.86),
    "maze2d-medium": _Reference(13.13, 277.39),
    "maze2d-large": _Reference(6.7, 273.99),
    "maze2d-open-dense": _Reference(11.17817, 27.166538620695782),
    "maze2d-umaze-dense": _Reference(68.537689, 193.66285642381482),
    "maze2d-medium-dense": _Reference(44.264742, 297.4552547777125),
    "maze2d-large-dense": _Reference(30.569041, 303.4857382709002),
    "kitchen-complete": _Reference(0.0, 4.0),
    "kitchen-partial": _Reference(0.0, 4.0),
    "kitchen-mixed": _Reference(0.0, 4.0),
}

_LOCOMOTION = {
    "halfcheetah": "HalfCheetah-v4",
    "hopper": "Hopper-v4",
    "walker2d": "Walker2d-v4",
    "ant": "Ant-v4",
}
_ADROIT_STEPS = {"pen": 100, "hammer": 200, "door": 200, "relocate": 200}
_PEN_DROPPED = 0.075
"""The pen has fallen from the hand below this height, metres."""
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


def known_names() -> list[str]:
    """The names of D4RL's datasets."""
    return sorted(FILES)


def make(name: str) -> types.Environment:
    """The environment of a D4RL dataset; all datasets of one task share it.

    Args:
        name: the dataset, such as "hopper-medium-replay-v2" or "antmaze-large-diverse-v2".

    Returns:
        The environment with metric "normalized_score".

    Raises:
        InputError: when D4RL does not publish the dataset.
    """
    if name not in FILES:
        raise errors.unknown("D4RL dataset", name, FILES)
    task = max((task for task in REFERENCE_RETURNS if name.startswith(f"{task}-")), key=len)
    reference = REFERENCE_RETURNS[task]
    return types.Environment(
        name=task,
        make=functools.partial(_FAMILIES[task.partition("-")[0]], task),
        tasks={"default": None},
        metric="normalized_score",
        score=lambda episode_return, success: (
            100 * (episode_return - reference.random) / (reference.expert - reference.random)
        ),
    )


def _create_locomotion(task: str) -> Any:
    """A new locomotion environment with D4RL's observations."""
    gymnasium = errors.require("gymnasium", "environments")
    environment = creation.create(_LOCOMOTION[task])
    if task != "ant":
        return environment
    # D4RL's 111 numbers end with 84 contact forces, which its simulator left at 0.
    space = gymnasium.spaces.Box(-np.inf, np.inf, (111,), np.float64)
    return gymnasium.wrappers.TransformObservation(
        environment, lambda observation: np.pad(observation, (0, 84)), space
    )


def _create_adroit(task: str) -> Any:
    """A new Adroit hand with D4RL's rewards and episode ends."""
    gymnasium = errors.require("gymnasium", "environments")
    creation.require_robotics()
    corrected = f"AdroitHand{task.title()}-v2"  # with a cost on the palm's distance, as in D4RL
    rewards_distance = corrected not in gymnasium.registry and task != "pen"

    class D4RLHand(gymnasium.Wrapper):  # type: ignore[name-defined]
        """Corrects the reward for the palm's distance, and ends the episode when the pen has fallen."""

        def step(self, action: Any) -> Any:
            observation, reward, terminated, truncated, info = self.env.step(action)
            data = self.unwrapped.data
            if task == "pen":
                terminated = bool(data.body("Object").xpos[2] < _PEN_DROPPED)
            if rewards_distance:
                reached = data.site("S_handle") if task == "door" else data.body("Object")
                reward -= 2 * 0.1 * np.linalg.norm(data.site("S_grasp").xpos - reached.xpos)
            return observation, reward, terminated, truncated, info

    name = corrected if corrected in gymnasium.registry else f"AdroitHand{task.title()}-v1"
    return D4RLHand(creation.create(name, {"max_episode_steps": _ADROIT_STEPS[task]}))


def _create_antmaze(task: str) -> Any:
    """A new AntMaze: the ant starts at (0, 0); the goal is up to 1.5 from its cell's centre on each axis."""
    gymnasium = errors.require("gymnasium", "environments")
    errors.require("ogbench", "environments")
    time_limit, (row, column) = _ANTMAZE[task]

    class D4RLTask(gymnasium.Wrapper):  # type: ignore[name-defined]
        """Replaces OGBench's tasks, which have random starts and goals, by D4RL's."""

        def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
            if seed is not None:  # without a seed, the next episode continues the random numbers
                self._generator = np.random.default_rng(seed)
            # D4RL adds to each coordinate a uniform number in [0, 1) and another in [0, 0.5).
            self.env.unwrapped._noise = 0
            noise = self._generator.uniform(0, [[1.0, 1.0], [0.5, 0.5]]).sum(0)
            goal_cell = np.array([row, column]) + noise / self.env.unwrapped._maze_unit
            task_info = {"init_ij": (1, 1), "goal_ij": tuple(goal_cell)}
            return self.env.reset(seed=seed, options={"task_info": task_info})

    base = f"{task}-v0"
    if task == "antmaze-umaze":
        base = gymnasium.envs.registration.EnvSpec(base, entry_point=_umaze)
    return D4RLTask(ogbench.reproducible(creation.create(base, {"max_episode_steps": time_limit})))


def _umaze(**settings: Any) -> Any:
    """OGBench's ant in the maze of D4RL that OGBench lacks."""
    make_maze_env = errors.require("ogbench.locomaze.maze", "environments").make_maze_env
    # OGBench's factory defines the class, so only an instance gives access to it.
    arena = make_maze_env("ant", "maze", maze_type="arena")

    class UMaze(type(arena)):  # type: ignore[misc]
        """The arena with the walls of the U-maze."""

        def update_tree(self, tree: Any) -> None:
            self.maze_map = _UMAZE.copy()
            super().update_tree(tree)

    return UMaze(maze_type="arena", **settings)


_FAMILIES = {
    **dict.fromkeys(_LOCOMOTION, _create_locomotion),
    **dict.fromkeys(_ADROIT_STEPS, _create_adroit),
    "antmaze": _create_antmaze,
    "maze2d": d4rl_maze2d.create,
    "kitchen": d4rl_kitchen.create,
}
"""The first word of a task's name -> the function that makes it."""
