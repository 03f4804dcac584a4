"""Domains in dm_control: one simulator serves all tasks of a domain.

Observations are dm_control's, concatenated in their order, as ExoRL stores them. Actions in [-1, 1] are
mapped to the ranges of the actuators. A step is a step of dm_control, so an episode has `EPISODE_STEPS`
steps.
"""

import contextlib
import functools
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from valuelab import errors
from valuelab.domains import maze
from valuelab.domains.tasks import TASKS, Reward

EPISODE_STEPS = 1000
"""The number of steps of an episode, in every domain."""


class Domain(NamedTuple):
    """The properties of a domain.

    Attributes:
        tasks: name -> reward.
        start: () -> a new dm_control Environment.
        quantities: dm_control Physics -> the quantities that rewards depend on.
        observation_dim: D.
        action_dim: A.
        sizes: the numbers of positions, velocities and activations, in their order in ExoRL's "physics".
        camera: the number of the camera that renders images.
        anywhere: random numbers of dm_control -> random positions "qpos" in the whole domain; None where the
            domain's own episodes start in random poses.
    """

    tasks: Mapping[str, Reward]
    start: Callable[[], Any]
    quantities: Callable[[Any], dict[str, Any]]
    observation_dim: int
    action_dim: int
    sizes: tuple[int, int, int]
    camera: int = 0
    anywhere: Callable[[Any], np.ndarray] | None = None


def _of_suite(domain: str, task: str) -> Callable[[], Any]:
    """Returns a function that starts a domain of dm_control's suite; its tasks share their initial states."""
    return lambda: getattr(errors.require(f"dm_control.suite.{domain}", "environments"), task)()


def _spin(physics: Any) -> Any:
    """Angular momentum of the whole body about the lateral axis, kg m² / s."""
    return physics.named.data.subtree_angmom["torso"][1]


def _walker(physics: Any) -> dict[str, Any]:
    return {
        "height": physics.torso_height(),
        "upright": physics.torso_upright(),
        "speed": physics.horizontal_velocity(),
        "spin": _spin(physics),
    }


def _cheetah(physics: Any) -> dict[str, Any]:
    return {"speed": physics.speed(), "spin": _spin(physics)}


def _quadruped(physics: Any) -> dict[str, Any]:
    return {
        "height": physics.named.data.sensordata["center_of_mass"][2],
        "upright": physics.torso_upright(),
        "speed": physics.torso_velocity()[0],
    }


def _point_mass_maze(physics: Any) -> dict[str, Any]:
    return {"position": physics.position(), "control": physics.control()}


DOMAINS: dict[str, Domain] = {
    "walker": Domain(TASKS["walker"], _of_suite("walker", "walk"), _walker, 24, 6, (9, 9, 0)),
    "cheetah": Domain(TASKS["cheetah"], _of_suite("cheetah", "run"), _cheetah, 17, 6, (9, 9, 0)),
    "quadruped": Domain(
        TASKS["quadruped"], _of_suite("quadruped", "walk"), _quadruped, 78, 12, (23, 22, 12), 2
    ),
    "point_mass_maze": Domain(
        TASKS["point_mass_maze"], maze.start, _point_mass_maze, 4, 2, (2, 2, 0), anywhere=maze.anywhere
    ),
}
"""The domains, by ExoRL's names."""


class Simulator:
    """A simulator of a domain.

    Attributes:
        domain: the properties of the domain.
        physics: dm_control's Physics.
    """

    def __init__(self, domain: str):
        """Starts a simulator.

        Args:
            domain: a key of DOMAINS.

        Raises:
            MissingExtraError: without dm_control.
        """
        _prepare_dm_control()
        self.domain = DOMAINS[domain]
        with _quietly():
            self._environment = self.domain.start()
        self.physics = self._environment.physics
        bounds = self._environment.action_spec()
        self._middle, self._scale = (
            (bounds.maximum + bounds.minimum) / 2,
            (bounds.maximum - bounds.minimum) / 2,
        )

    def reset(self, seed: int | None = None, anywhere: bool = False) -> np.ndarray:
        """Begins an episode.

        Args:
            seed: seed of the initial state; None continues the random numbers of the previous episode.
            anywhere: whether it starts at rest anywhere in the domain, which must have `anywhere`.

        Returns:
            [D] float32, the first observation.
        """
        if seed is not None:
            self._environment.task.random.seed(seed)
        observation = self._environment.reset().observation
        if anywhere:
            assert self.domain.anywhere
            positions = self.domain.anywhere(self._environment.task.random)
            self.place(positions, np.zeros_like(self.physics.data.qvel))
            observation = self._environment.task.get_observation(self.physics)
        return self._flat(observation)

    def step(self, action: np.ndarray) -> tuple[np.ndarray, bool]:
        """Takes a step.

        Args:
            action: [A], clipped to [-1, 1].

        Returns:
            The observation [D] float32, and whether the time limit is reached.
        """
        after = self._environment.step(self._middle + self._scale * np.clip(action, -1, 1))
        return self._flat(after.observation), after.last()

    def quantities(self) -> dict[str, np.ndarray]:
        """The quantities of the current state."""
        return {name: np.array(value) for name, value in self.domain.quantities(self.physics).items()}

    def reward(self, task: str) -> float:
        """The reward of a task, for the current state and the action that led to it."""
        return float(self.domain.tasks[task](self.quantities()))

    def state(self) -> np.ndarray:
        """[P] float64, positions, velocities and activations: ExoRL's "physics"."""
        return np.concatenate([self.physics.data.qpos, self.physics.data.qvel, self.physics.data.act])

    def place(self, positions: np.ndarray, velocities: np.ndarray) -> None:
        """Sets the state, with controls of 0.

        Args:
            positions: "qpos", [nq].
            velocities: "qvel", [nv].
        """
        data = self.physics.data
        data.qpos[:], data.qvel[:], data.ctrl[:] = positions, velocities, 0
        # This step computes positions and velocities, which quantities depend on, but no forces.
        errors.require("mujoco", "environments").mj_step1(self.physics.model.ptr, data.ptr)

    def image(self, pixels: int) -> np.ndarray:
        """An image by the domain's camera, [pixels, pixels, 3] uint8.

        Raises:
            InputError: when rendering fails.
        """
        try:
            return self.physics.render(pixels, pixels, camera_id=self.domain.camera)
        except Exception as error:  # renderers raise many kinds of exceptions
            raise errors.InputError(
                f"dm_control cannot render here ({error}): set MUJOCO_GL to egl where there is a GPU or a "
                "software driver for EGL, or to osmesa where that library is installed"
            ) from error

    @staticmethod
    def _flat(observation: Mapping[str, Any]) -> np.ndarray:
        return np.concatenate([np.ravel(entry) for entry in observation.values()]).astype(np.float32)


def rewards(
    domain: str, positions: np.ndarray, velocities: np.ndarray, tasks: tuple[str, ...] = ()
) -> dict[str, np.ndarray]:
    """The rewards of states in tasks, in one pass of the simulator.

    States do not hold controls, so these count as 0, as in ExoRL's own labels. Ten thousand states take 0.5
    to 1 second.

    Args:
        domain: a key of DOMAINS.
        positions: "qpos", [N, nq].
        velocities: "qvel", [N, nv].
        tasks: tasks of the domain; empty for all tasks.

    Returns:
        The rewards of each task by its name, [N] float64 in [0, 1].
    """
    simulator = _labeller(domain)
    measured = []
    for state in zip(positions, velocities, strict=True):
        simulator.place(*state)
        measured.append(simulator.quantities())
    quantities = {name: np.stack([each[name] for each in measured]) for name in measured[0]}
    return {task: simulator.domain.tasks[task](quantities) for task in tasks or simulator.domain.tasks}


def images(domain: str, positions: np.ndarray, velocities: np.ndarray, pixels: int) -> np.ndarray:
    """Renders states with the domain's camera.

    Args:
        domain: a key of DOMAINS.
        positions: "qpos", [N, nq].
        velocities: "qvel", [N, nv].
        pixels: height and width.

    Returns:
        [N, pixels, pixels, 3] uint8.

    Raises:
        InputError: when rendering fails.
    """
    simulator = _labeller(domain)

    def at(position: np.ndarray, velocity: np.ndarray) -> np.ndarray:
        simulator.place(position, velocity)
        return simulator.image(pixels)

    return np.stack([at(*state) for state in zip(positions, velocities, strict=True)])


@functools.cache
def _labeller(domain: str) -> Simulator:
    """A cached simulator for labels: starting a new one takes longer than labelling the states of a file."""
    return Simulator(domain)


def _prepare_dm_control() -> None:
    """Imports dm_control without warnings, and makes it work with newer versions of MuJoCo.

    dm_control indexes all fields of MuJoCo's structs by a table. MuJoCo 4 has removed some of these fields;
    they concern deformable bodies, which are not used here. This function removes them from the table.
    """
    with _quietly():
        errors.require("dm_control.suite", "environments")
    mujoco = errors.require("mujoco", "environments")
    sizes = errors.require("dm_control.mujoco.wrapper.mjbindings.sizes", "environments").array_sizes
    for table, struct in ((sizes["mjmodel"], mujoco.MjModel), (sizes["mjdata"], mujoco.MjData)):
        for field in [field for field in table if not hasattr(struct, field)]:
            del table[field]


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Suppresses dm_control's warnings about displays, versions and old models."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
