"""dm_control: the tasks of ExoRL's domains, scored by their return, which is at most 1000."""

import functools
from collections.abc import Mapping
from typing import Any

import numpy as np

from valuelab import domains, errors, types
from valuelab.errors import unknown

_FILM_PIXELS = 256
"""Height and width of a film, pixels."""


def make(name: str) -> types.Environment:
    """A task of a domain.

    Args:
        name: DOMAIN_TASK, such as "walker_run" or "point_mass_maze_reach_top_left".

    Returns:
        The environment with metric "return".

    Raises:
        InputError: when the task is unknown.
    """
    known = _known()
    if name not in known:
        raise unknown("dm_control task", name, known)
    domain, task = known[name]
    return environment(name, domain, {"default": task})


def known_names() -> list[str]:
    """All DOMAIN_TASK."""
    return sorted(_known())


def _known() -> dict[str, tuple[str, str]]:
    """DOMAIN_TASK -> its parts."""
    return {f"{domain}_{task}": (domain, task) for domain in domains.DOMAINS for task in tasks_of(domain)}


def environment(name: str, domain: str, tasks: Mapping[str, str], pixels: int = 0) -> types.Environment:
    """The environment of a domain with some of its tasks.

    Args:
        name: the name of the environment.
        domain: a key of `domains.DOMAINS`.
        tasks: name in the results -> task of the domain; the first is the default task.
        pixels: height and width of image observations; 0 for vectors.

    Returns:
        The environment with metric "return".
    """
    return types.Environment(
        name=name,
        make=functools.partial(create, domain, next(iter(tasks.values())), pixels),
        tasks={shown: {"task": task} for shown, task in tasks.items()},
        metric="return",
        score=lambda episode_return, success: episode_return,
    )


def tasks_of(domain: str) -> tuple[str, ...]:
    """The tasks of a domain."""
    return tuple(domains.DOMAINS[domain].tasks)


def create(domain: str, task: str, pixels: int = 0) -> Any:
    """A new gymnasium.Env of a domain, whose episodes depend only on the seed of reset().

    Args:
        domain: a key of `domains.DOMAINS`.
        task: the task whose rewards are given, unless the options of reset() name another "task".
        pixels: as for `environment`.

    Raises:
        MissingExtraError: without gymnasium or dm_control.
    """
    gymnasium = errors.require("gymnasium", "environments")
    base: Any = gymnasium.Env
    facts = domains.DOMAINS[domain]

    class Control(base):
        """A domain of dm_control."""

        metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 50}  # noqa: RUF012
        render_mode = "rgb_array"
        spec = gymnasium.envs.registration.EnvSpec(
            f"dm_control/{domain}-v0", max_episode_steps=domains.EPISODE_STEPS
        )
        observation_space = (
            gymnasium.spaces.Box(0, 255, (pixels, pixels, 3), np.uint8)
            if pixels
            else gymnasium.spaces.Box(-np.inf, np.inf, (facts.observation_dim,), np.float32)
        )
        action_space = gymnasium.spaces.Box(-1, 1, (facts.action_dim,), np.float32)

        def __init__(self) -> None:
            self._simulator = domains.Simulator(domain)

        @property
        def data(self) -> Any:
            """The simulator's positions "qpos" and velocities "qvel"."""
            return self._simulator.physics.data

        def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
            super().reset(seed=seed)
            self._task = (options or {}).get("task", task)
            return self._observe(self._simulator.reset(seed)), {}

        def step(self, action: Any) -> Any:
            observation, last = self._simulator.step(np.asarray(action))
            return self._observe(observation), self._simulator.reward(self._task), False, last, {}

        def render(self) -> np.ndarray:
            return self._simulator.image(_FILM_PIXELS)

        def _observe(self, observation: np.ndarray) -> np.ndarray:
            return self._simulator.image(pixels) if pixels else observation

    return Control()
