"""Point mazes: a point follows the shortest path through a maze, with noise on every action.

    action = clip(direction + ε, -1, 1),   ε ~ N(0, 0.5²)

where direction is the unit vector to the centre of the next cell on the shortest path to the goal.
"navigate" draws a new goal after each goal; "stitch" goes to one goal four cells away and stays there.
"""

import functools

import numpy as np

from valuelab.data.collection.recipe import MUJOCO_DTYPES, Player, Recipe, Step
from valuelab.errors import require

Cell = tuple[int, int]

NEIGHBOURS = ((-1, 0), (0, -1), (1, 0), (0, 1))
STITCH_DISTANCE = 4


def free_cells(maze: np.ndarray) -> list[Cell]:
    """The free cells (row, column) of a maze [rows, columns], where 1 is a wall and 0 is free."""
    return [(int(row), int(column)) for row, column in np.argwhere(maze == 0)]


def junctions(maze: np.ndarray) -> list[Cell]:
    """The free cells that do not lie inside a straight corridor: ends, corners and crossings."""

    def straight(row: int, column: int) -> bool:
        vertical = maze[row - 1, column], maze[row + 1, column]
        horizontal = maze[row, column - 1], maze[row, column + 1]
        return (vertical, horizontal) in (((0, 0), (1, 1)), ((1, 1), (0, 0)))

    return [cell for cell in free_cells(maze) if not straight(*cell)]


def cells_at_distance(maze: np.ndarray, start: Cell, distance: int) -> list[Cell]:
    """The cells whose shortest path from `start` has `distance` moves."""
    reached, frontier = {start}, [start]
    for _ in range(distance):
        moves = [(row + down, column + right) for row, column in frontier for down, right in NEIGHBOURS]
        frontier = [cell for cell in dict.fromkeys(moves) if maze[cell] == 0 and cell not in reached]
        reached.update(frontier)
    return frontier


def make_player(environment: str, kind: str, noise: float = 0.5, goal_cell: Cell | None = None) -> Player:
    """Makes a player for a maze.

    Args:
        environment: OGBench's name, such as "pointmaze-medium-v0".
        kind: "navigate" or "stitch".
        noise: standard deviation of the noise on both action dimensions.
        goal_cell: the first goal of all episodes; None for the random goals of the kind.

    Returns:
        A Player.
    """
    require("ogbench", "environments")
    gymnasium = require("gymnasium", "environments")
    # Unwrapped: episodes have a fixed number of steps, and actions are clipped here.
    maze = gymnasium.make(environment, terminate_at_goal=False, disable_env_checker=True).unwrapped
    cells, goals = free_cells(maze.maze_map), junctions(maze.maze_map)

    @functools.cache
    def next_centre(position: Cell, goal: Cell) -> np.ndarray:
        # OGBench searches the whole maze at every step, but the result depends only on the cells.
        return maze.get_oracle_subgoal(maze.ij_to_xy(position), maze.ij_to_xy(goal))[0]

    def play(rng: np.random.Generator, environment_seed: int, length: int) -> list[Step]:
        start = cells[rng.integers(len(cells))]
        candidates = goals if kind == "navigate" else cells_at_distance(maze.maze_map, start, STITCH_DISTANCE)
        if goal_cell:
            candidates = [goal_cell]
        goal = candidates[rng.integers(len(candidates))] if candidates else start
        observation, _ = maze.reset(
            seed=environment_seed, options={"task_info": {"init_ij": start, "goal_ij": goal}}
        )
        noises = rng.normal(0.0, noise, (length, 2))
        steps: list[Step] = []
        for step in range(length):
            position = maze.get_xy()
            way = next_centre(maze.xy_to_ij(position), maze.xy_to_ij(maze.cur_goal_xy)) - position
            action = np.clip(way / (np.linalg.norm(way) + 1e-6) + noises[step], -1.0, 1.0)
            next_observation, _, _, _, info = maze.step(action)
            steps.append(
                {
                    "observations": observation,
                    "actions": action,
                    "qpos": info["prev_qpos"],
                    "qvel": info["prev_qvel"],
                }
            )
            if info["success"] and kind == "navigate":
                maze.set_goal(goal_xy=maze.add_noise(maze.ij_to_xy(goals[rng.integers(len(goals))])))
            observation = next_observation
        return steps

    return play


def recipes() -> dict[str, Recipe]:
    """The point mazes that can be collected, by name."""
    return {
        f"pointmaze-{maze}-{kind}-v0": Recipe(
            *_size(maze, kind), MUJOCO_DTYPES, functools.partial(make_player, f"pointmaze-{maze}-v0", kind)
        )
        for maze in ("medium", "large", "giant", "teleport")
        for kind in ("navigate", "stitch")
    }


def _size(maze: str, kind: str) -> tuple[int, int]:
    """Episodes and their length: a million steps in all."""
    if kind == "stitch":
        return 5000, 201
    return (500, 2001) if maze == "giant" else (1000, 1001)
