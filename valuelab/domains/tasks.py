"""The tasks of each domain: rewards in [0, 1], functions of named quantities of N states at once.

Two functions measure the distance of a quantity x from its goal:

    ramp(x) = clip(1 - (1 - v) (goal - x) / margin, 0, 1)      1 where x >= goal, v at one margin below it
    bell(d) = 0.1 ^ (max(d, 0) / margin)²                      1 at distance 0, 0.1 at one margin

They are dm_control's "linear" and "gaussian" tolerances. Speeds are in metres per second, heights in metres.

References: walker stand, walk and run, cheetah run, quadruped walk and run are dm_control's (Tassa et al.
2018, arXiv:1801.00690); the others are ExoRL's (Yarats et al. 2022, arXiv:2201.13425).
"""

from collections.abc import Callable, Mapping

import numpy as np

Quantities = Mapping[str, np.ndarray]
"""Name -> [N] or [N, k]."""
Reward = Callable[[Quantities], np.ndarray]
"""Quantities of N states -> rewards [N]."""

MAZE_TARGETS = {
    "reach_top_left": (-0.15, 0.15),
    "reach_top_right": (0.15, 0.15),
    "reach_bottom_left": (-0.15, -0.15),
    "reach_bottom_right": (0.15, -0.15),
}
"""The goal positions of the point mass, (x, y) in metres."""

TARGET_RADIUS = 0.015
"""The distance to a target that counts as reached, metres."""


def ramp(x: np.ndarray, goal: float, margin: float, at_margin: float = 0.0) -> np.ndarray:
    """A linear reward: 1 where x reaches a goal, decreasing with the distance below it, at least 0.

    Args:
        x: [N].
        goal: the smallest x that counts as reached.
        margin: positive.
        at_margin: the value v at goal - margin, in [0, 1).

    Returns:
        [N] in [0, 1].
    """
    return np.clip(1 - (1 - at_margin) * (goal - x) / margin, 0, 1)


def bell(distance: np.ndarray, margin: float) -> np.ndarray:
    """A Gaussian reward: 1 where a distance is 0 or less, 0.1 where it equals the margin.

    Args:
        distance: [N].
        margin: positive.

    Returns:
        [N] in [0, 1].
    """
    return 0.1 ** np.square(np.maximum(distance, 0) / margin)


def _walker_standing(quantities: Quantities) -> np.ndarray:
    """Standing: three quarters of the reward are for height, one quarter for orientation."""
    upright = (1 + quantities["upright"]) / 2
    return (3 * bell(1.2 - quantities["height"], 0.6) + upright) / 4


def _walker_moving(quantity: str, goal: float, margin: float, at_margin: float) -> Reward:
    """Standing times a factor, of which five sixths are for a quantity that reaches its goal."""

    def reward(quantities: Quantities) -> np.ndarray:
        moving = ramp(quantities[quantity], goal, margin, at_margin)
        return _walker_standing(quantities) * (5 * moving + 1) / 6

    return reward


def _cheetah(quantity: str, direction: int, goal: float) -> Reward:
    """A quantity in a direction, 1 or -1; the other direction gives 0."""
    return lambda quantities: ramp(direction * quantities[quantity], goal, goal)


def _quadruped_upright(quantities: Quantities) -> np.ndarray:
    """Orientation: 0 upside down, 1 upright."""
    return ramp(quantities["upright"], 1, 2)


def _quadruped(quantity: str, goal: float) -> Reward:
    """Orientation times a quantity; a quantity of 0 gives the factor 0.5."""
    return lambda quantities: _quadruped_upright(quantities) * ramp(quantities[quantity], goal, goal, 0.5)


def _reach(target: tuple[float, float]) -> Reward:
    """Distance to a target; a fifth of the reward is for small controls."""

    def reward(quantities: Quantities) -> np.ndarray:
        distance = np.linalg.norm(quantities["position"] - np.array(target), axis=-1)
        small_controls = np.mean(np.clip(1 - np.square(quantities["control"]), 0, 1), axis=-1)
        return bell(distance - TARGET_RADIUS, TARGET_RADIUS) * (4 + small_controls) / 5

    return reward


TASKS: dict[str, dict[str, Reward]] = {
    "walker": {
        "stand": _walker_standing,
        "walk": _walker_moving("speed", 1, 0.5, 0.5),
        "run": _walker_moving("speed", 8, 4, 0.5),
        "flip": _walker_moving("spin", 5, 5, 0.0),
    },
    "cheetah": {
        "run": _cheetah("speed", 1, 10),
        "run_backward": _cheetah("speed", -1, 10),
        "flip": _cheetah("spin", 1, 5),
        "flip_backward": _cheetah("spin", -1, 5),
    },
    "quadruped": {
        "stand": _quadruped_upright,
        "walk": _quadruped("speed", 0.5),
        "run": _quadruped("speed", 5),
        "jump": _quadruped("height", 1),
    },
    "point_mass_maze": {task: _reach(target) for task, target in MAZE_TARGETS.items()},
}
"""Domain -> task -> reward. Exploration logs the rewards of the first task of a domain."""
