"""D4RL's maze2d: the agent pushes a ball through a maze to its only goal, and keeps it there.

A step gives reward 1 within 0.5 of the goal and 0 elsewhere, or exp(-distance) in the dense tasks. Episodes
end only at the time limit. An episode starts in a random free cell, within 0.1 of its centre, with a random
velocity.

The ball is that of gymnasium_robotics, in D4RL's mazes and coordinates: the first coordinate counts rows, the
second columns. Cells have width 1, and the walls are shifted by -0.2 from the cells' coordinates. The mazes
of gymnasium_robotics have other coordinates, moving goals, and a reward radius of 0.45.
"""

import importlib.resources
import os
import tempfile
from typing import Any
from xml.etree import ElementTree

import numpy as np

from valuelab import errors
from valuelab.environments import creation

# Time limit and cells: "#" is a wall, "G" the goal.
_MAZES = {
    "open": (150, ["#######", "#     #", "#  G  #", "#     #", "#######"]),
    "umaze": (300, ["#####", "#G  #", "### #", "#   #", "#####"]),
    "medium": (
        600,
        [
            "########",
            "#  ##  #",
            "#  #   #",
            "##   ###",
            "#  #   #",
            "# #  # #",
            "#   # G#",
            "########",
        ],
    ),
    "large": (
        800,
        [
            "############",
            "#    #     #",
            "# ## # # # #",
            "#      #   #",
            "# #### ### #",
            "#  # #     #",
            "## # # # ###",
            "#  #   # G #",
            "############",
        ],
    ),
}
_BALL_ORIGIN = 1.2
"""The origin of the ball's coordinates, in coordinates where the centre of wall (0, 0) is at 1."""
_GOAL_RADIUS = 0.5


def create(task: str) -> Any:
    """A new maze.

    Args:
        task: "maze2d-" and "open", "umaze", "medium" or "large", with or without "-dense".
    """
    gymnasium = errors.require("gymnasium", "environments")
    point = creation.require_robotics("gymnasium_robotics.envs.maze.point")
    time_limit, rows = _MAZES[task.split("-")[1]]
    cells = np.array([list(row) for row in rows])
    walls = cells == "#"
    goal = np.argwhere(cells == "G")[0].astype(float)
    free = np.argwhere(~walls)

    class Maze2d(point.PointEnv):  # type: ignore[misc,name-defined]
        """The ball in D4RL's maze. `maze_map` is transposed, because plots put rows on the vertical axis."""

        maze_map = walls.T.astype(int)
        cur_goal_xy = goal
        _maze_unit = 1.0

        def __init__(self, **settings: Any):
            with tempfile.TemporaryDirectory() as folder:
                path = os.path.join(folder, "maze.xml")
                _model(walls).write(path)
                super().__init__(xml_file=path, **settings)

        def ij_to_xy(self, cell: tuple[int, int]) -> tuple[float, float]:
            """The ball's coordinates at the centre of a cell of `maze_map`."""
            return cell[1] + 1 - _BALL_ORIGIN, cell[0] + 1 - _BALL_ORIGIN

        def reset_model(self) -> np.ndarray:
            cell = free[self.np_random.choice(len(free))]
            velocity = 0.1 * self.np_random.standard_normal(2)
            self.set_state(cell + self.np_random.uniform(-0.1, 0.1, 2), velocity)
            return self._get_obs()[0]

        def step(self, action: Any) -> Any:
            observation, _, terminated, truncated, info = super().step(action)
            distance = np.linalg.norm(observation[:2] - goal)
            success = bool(distance <= _GOAL_RADIUS)
            reward = np.exp(-distance) if task.endswith("-dense") else float(success)
            return observation, reward, terminated, truncated, {**info, "success": success}

    spec = gymnasium.envs.registration.EnvSpec(f"{task}-v1", entry_point=Maze2d, max_episode_steps=time_limit)
    return creation.create(spec)


def _model(walls: np.ndarray) -> ElementTree.ElementTree:
    """MuJoCo's model of the ball and the walls of a maze, at D4RL's positions."""
    ball = importlib.resources.files("gymnasium_robotics") / "envs/assets/point/point.xml"
    root = ElementTree.fromstring(ball.read_text())
    world: Any = root.find("worldbody")
    world.find("body[@name='particle']").set("pos", f"{_BALL_ORIGIN} {_BALL_ORIGIN} 0")
    for row, column in np.argwhere(walls):
        position = f"{row + 1} {column + 1} 0"
        ElementTree.SubElement(world, "geom", type="box", pos=position, size="0.5 0.5 0.2")
    return ElementTree.ElementTree(root)
