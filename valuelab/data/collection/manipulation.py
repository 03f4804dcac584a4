"""Manipulation (cube, scene, puzzle): scripted oracles move a robot arm through a sequence of random tasks.

"play" follows open-loop plans with temporally correlated noise; "noisy" follows a closed-loop oracle,

    action = clip(oracle + ε, -1, 1),   ε ~ N(0, (ξ, ξ, ξ, 3 ξ, 10 ξ)²),   ξ ~ U(0, 0.1) for each episode

(position, yaw, gripper), and acts uniformly at random with probability 0.1, or 0.2 in puzzles.
"""

import copy
import functools
from typing import Any

import numpy as np

from valuelab.data.collection.recipe import MUJOCO_DTYPES, Player, Recipe, Step
from valuelab.errors import require

NOISE = 0.1
NOISE_SHAPE = np.array([1.0, 1.0, 1.0, 3.0, 10.0])
TASKS = {"cube": ("cube",), "scene": ("cube", "button", "drawer", "window"), "puzzle": ("button",)}
RANDOM_ACTIONS = {"cube": 0.1, "scene": 0.1, "puzzle": 0.2}
STACKING = {"single": (0.0, 0.0), "double": (0.0, 0.25), "triple": (0.05, 0.35), "quadruple": (0.1, 0.5)}
"""Number of cubes -> range of an episode's probability of stacking a cube on another."""
EPISODES = {
    "cube-single": 1000,
    "cube-double": 1000,
    "cube-triple": 3000,
    "cube-quadruple": 5000,
    "scene": 1000,
    "puzzle-3x3": 1000,
    "puzzle-4x4": 1000,
    "puzzle-4x5": 3000,
    "puzzle-4x6": 5000,
}


def make_player(name: str, kind: str) -> Player:
    """Makes a player for a manipulation environment, with its oracles.

    Args:
        name: the environment without its version, such as "cube-single".
        kind: "play" or "noisy".

    Returns:
        A Player.
    """
    require("ogbench", "environments")
    gymnasium = require("gymnasium", "environments")
    # Unwrapped: episodes have a fixed number of steps, and actions are clipped here.
    environment = gymnasium.make(
        f"{name}-v0", terminate_at_goal=False, mode="data_collection", disable_env_checker=True
    ).unwrapped
    environment.reset(seed=0)
    # A reset keeps targets and their marks, and the closed-loop oracles observe them. They are restored
    # before each episode, so that the episode depends only on its seed.
    targets = copy.deepcopy(
        {field: value for field, value in vars(environment).items() if field.startswith("_target_")}
    )
    marks = environment.model.site_pos.copy()
    family, _, size = name.partition("-")
    oracles = _make_oracles(environment, family, kind)
    noisy = kind == "noisy"

    def attempt(
        rng: np.random.Generator, length: int, observation: np.ndarray, info: dict[str, Any]
    ) -> list[Step]:
        stacking = rng.uniform(*STACKING.get(size, (0.5, 0.5)))
        scale = rng.uniform(0.0, NOISE) * NOISE_SHAPE
        oracle = oracles[info["privileged/target_task"]]
        oracle.reset(observation, info)
        steps: list[Step] = []
        for _ in range(length):
            if noisy and rng.random() < RANDOM_ACTIONS[family]:
                action = rng.uniform(-1.0, 1.0, NOISE_SHAPE.shape)
            else:
                action = oracle.select_action(observation, info)
                if noisy:
                    action = np.clip(action + rng.normal(0.0, scale), -1.0, 1.0)
            next_observation, _, _, _, info = environment.step(action)
            if oracle.done:
                # The oracle gets its new target here, but acts once more on the `info` of the previous step,
                # with the old target. The published datasets do so too.
                target = environment.set_new_target(p_stack=stacking)
                oracle = oracles[target[1]["privileged/target_task"]]
                oracle.reset(*target)
            steps.append(
                {
                    "observations": observation,
                    "actions": action,
                    "qpos": info["prev_qpos"],
                    "qvel": info["prev_qvel"],
                    "button_states": info.get("prev_button_states"),
                }
            )
            observation = next_observation
        return steps

    def play(rng: np.random.Generator, environment_seed: int, length: int) -> list[Step]:
        vars(environment).update(copy.deepcopy(targets))
        environment.model.site_pos[:] = marks
        steps = attempt(rng, length, *environment.reset(seed=environment_seed))
        while family == "scene" and not cube_stays_reachable(np.array([step["qpos"] for step in steps])):
            steps = attempt(rng, length, *environment.reset())
        return steps

    return play


def cube_stays_reachable(qpos: np.ndarray) -> bool:
    """Whether the cube of a scene stays on the table or in the drawer throughout an episode.

    Other episodes are played again, because their goal images would be ambiguous.

    Args:
        qpos: [T, 21 or more] joint positions; entries 14 to 16 are the cube's position in metres.

    Returns:
        False where the cube goes too far right, or too far left at a height other than the drawer's.
    """
    sideways, height = qpos[:, 15], qpos[:, 16]
    in_drawer = (height >= 0.06) & (height <= 0.08)
    return not np.any((sideways >= 0.29) | ((sideways <= -0.3) & ~in_drawer))


def recipes() -> dict[str, Recipe]:
    """The manipulation datasets that can be collected, by name."""
    return {
        f"{name}-{kind}-v0": Recipe(
            episodes,
            1001,
            MUJOCO_DTYPES if name.startswith("cube") else MUJOCO_DTYPES | {"button_states": np.int64},
            functools.partial(make_player, name, kind),
        )
        for name, episodes in EPISODES.items()
        for kind in ("play", "noisy")
    }


def _make_oracles(environment: Any, family: str, kind: str) -> dict[str, Any]:
    """OGBench's oracle for each task of an environment."""
    style, settings = {
        "play": ("plan", {"noise": NOISE, "noise_smoothing": 0.5}),
        "noisy": ("markov", {"min_norm": 0.4}),
    }[kind]
    if family == "puzzle":
        settings = settings | {"gripper_always_closed": True}
    oracles = {}
    for task in TASKS[family]:
        module = require(f"ogbench.manipspace.oracles.{style}.{task}_{style}", "environments")
        oracle = getattr(module, f"{task.capitalize()}{style.capitalize()}Oracle")
        oracles[task] = oracle(env=environment, **settings)
    return oracles
