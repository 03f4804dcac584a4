"""ExoRL's point-mass maze: dm_control's point mass in a box of 0.6 m with a cross of walls in its middle.

Two bars of 0.36 m by 0.04 m leave gaps of 0.12 m at the four sides, which connect the quarters. Episodes
start at rest, anywhere in the outer part of the top left quarter. Actions push the mass along x and y.
"""

from typing import Any

import numpy as np

from valuelab import errors

TIME_LIMIT = 20.0
"""Seconds; a step takes 0.02."""

_HALF, _REACH = 0.3, 0.29
"""Half the width of the box, and the largest coordinate of the mass's centre; metres."""
_START = ((-0.29, -0.15), (0.15, 0.29))
"""Ranges of the initial x and y; metres."""
_BAR_LENGTH, _BAR_WIDTH = 0.18, 0.02
"""Half the length and half the width of a bar of the cross; metres."""
_RADIUS = 0.01
"""The radius of the mass; metres."""

_WALLS = "".join(
    f'<geom name="wall_{name}" type="plane" pos="{_HALF * -x} {_HALF * -y} .02" zaxis="{x} {y} 0" '
    f'size="{_HALF} .02 .02" material="decoration"/>'
    for name, x, y in (("left", 1, 0), ("right", -1, 0), ("bottom", 0, 1), ("top", 0, -1))
)

_MODEL = f"""
<mujoco model="point mass in a maze">
  <include file="./common/skybox.xml"/>
  <include file="./common/visual.xml"/>
  <include file="./common/materials.xml"/>
  <option timestep="0.02"/>
  <default>
    <joint type="slide" limited="true" range="{-_REACH} {_REACH}" damping="1"/>
    <motor gear="0.1" ctrllimited="true" ctrlrange="-1 1"/>
  </default>
  <worldbody>
    <light pos="0 0 1"/>
    <camera name="above" pos="0 0 0.75"/>
    <geom name="ground" type="plane" size="{_HALF} {_HALF} 0.1" material="grid"/>
    {_WALLS}
    <geom name="bar_along_x" type="box" pos="0 0 0.02" size="{_BAR_LENGTH} {_BAR_WIDTH} 0.02"
      material="site"/>
    <geom name="bar_along_y" type="box" pos="0 0 0.02" size="{_BAR_WIDTH} {_BAR_LENGTH} 0.02"
      material="site"/>
    <body name="pointmass" pos="0 0 0.01">
      <joint name="x" axis="1 0 0"/>
      <joint name="y" axis="0 1 0"/>
      <geom name="pointmass" type="sphere" size="{_RADIUS}" mass="0.3" material="self"/>
    </body>
  </worldbody>
  <actuator>
    <motor name="push_x" joint="x"/>
    <motor name="push_y" joint="y"/>
  </actuator>
</mujoco>
"""


def anywhere(random: Any) -> np.ndarray:
    """A position [2] of the mass in metres, uniform outside the walls; `random` is dm_control's."""
    while True:
        position = random.uniform(-_REACH, _REACH, 2)
        along, across = np.max(np.abs(position)), np.min(np.abs(position))
        if along > _BAR_LENGTH + _RADIUS or across > _BAR_WIDTH + _RADIUS:
            return position


def start() -> Any:
    """A new dm_control Environment of the maze; its own reward is always 0."""
    mujoco = errors.require("dm_control.mujoco", "environments")
    control = errors.require("dm_control.rl.control", "environments")
    base = errors.require("dm_control.suite.base", "environments")
    assets = errors.require("dm_control.suite.common", "environments").ASSETS

    class Maze(base.Task):  # type: ignore[name-defined]
        """The initial states and the observations."""

        def initialize_episode(self, physics: Any) -> None:
            physics.data.qpos[:] = [self.random.uniform(*bounds) for bounds in _START]
            super().initialize_episode(physics)

        def get_observation(self, physics: Any) -> dict[str, Any]:
            return {"position": physics.position(), "velocity": physics.velocity()}

        def get_reward(self, physics: Any) -> float:
            return 0.0

    return control.Environment(mujoco.Physics.from_xml_string(_MODEL, assets), Maze(), time_limit=TIME_LIMIT)
