"""Atari games of the Arcade Learning Environment, with the preprocessing of DQN.

One step takes 4 frames of the game. The last two are merged by their maximum, converted to grey and resized
to 84 x 84. Observations stack the last 4 of these images, with zeros before the first image of an episode. An
episode begins with up to 30 idle frames and, in games that need it, a press of the fire button. It is
truncated after 108,000 frames.

The name contains the variant of a game, so that a run's configuration records it. In "pong", rewards are the
game's scores, episodes are whole games, and actions are not sticky. Words after the game change this:
"breakout-sticky-clipped-one_life".
"""

import functools
from typing import Any

import numpy as np

from valuelab import errors, types
from valuelab.environments import host

FRAMES = 4
"""The number of images in an observation."""
FRAMES_PER_STEP = 4
MAX_FRAMES = 108_000
"""The time limit of an episode: half an hour of play."""
WORDS: dict[str, dict[str, Any]] = {
    "sticky": {"repeat_action_probability": 0.25},
    "clipped": {"reward_clipping": True},
    "one_life": {"episodic_life": True},
}
"""Sticky: each frame repeats the last action with probability 0.25. Clipped: rewards lie in [-1, 1]. One
life: an episode ends with the first life lost. The last two are only for learning, not for evaluation."""


def make(name: str) -> types.Environment:
    """A game for evaluation: whole games, with the game's scores as rewards.

    Args:
        name: the game, such as "pong" or "ms_pacman", with words after it.

    Returns:
        The environment with its only task and metric "return". Films show the agent's images.

    Raises:
        InputError: when the game or a word is unknown.
    """
    game, words = _parse(name)
    return types.Environment(
        name=name,
        make=functools.partial(_single, game, words & {"sticky"}),
        tasks={"default": None},
        metric="return",
        score=lambda episode_return, success: episode_return,
    )


def known_names() -> list[str]:
    """The games, without the words that may follow."""
    return sorted(errors.require("ale_py.roms", "atari").get_all_rom_ids())


def vector(name: str, num_environments: int) -> types.VectorEnvironment:
    """Parallel games that step inside jit, for online learning.

    Args:
        name: the game, such as "pong" or "ms_pacman", with words after it.
        num_environments: N.

    Returns:
        The vector environment, see `host.vector`. Observations are [N, 84, 84, 4] uint8.

    Raises:
        InputError: when the game or a word is unknown.
    """
    game, words = _parse(name)
    return host.vector(
        f"atari/{name}",
        functools.partial(_lanes, game, words),
        num_environments,
        MAX_FRAMES // FRAMES_PER_STEP,
        frames=FRAMES,
    )


def _parse(name: str) -> tuple[str, frozenset[str]]:
    """The game and the words of a name."""
    game, *words = name.split("-")
    games = errors.require("ale_py.roms", "atari").get_all_rom_ids()
    if game not in games:
        raise errors.unknown("Atari game", game, games)
    for word in words:
        if word not in WORDS:
            raise errors.unknown(f"word in atari/{name}", word, WORDS)
    return game, frozenset(words)


def _lanes(game: str, words: frozenset[str], count: int) -> Any:
    """A new gymnasium.vector.VectorEnv of a game, with the stacked images on the last axis."""
    ale_py = errors.require("ale_py", "atari")
    base = errors.require("ale_py.vector_env", "atari").AtariVectorEnv
    spaces = errors.require("gymnasium.spaces", "environments")

    class Lanes(base):  # type: ignore[misc,valid-type]
        """Moves the stacked images to the last axis, and takes one seed per lane in every reset."""

        def reset(self, *, seed: Any = None, options: Any = None) -> Any:
            chosen = options["reset_mask"]
            observations, info = super().reset(seed=np.asarray(seed)[chosen], options=options)
            return np.moveaxis(observations, 1, -1), info

        def step(self, actions: np.ndarray) -> Any:
            observations, *rest = super().step(actions)
            return np.moveaxis(observations, 1, -1), *rest

    ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)  # else it prints a banner for every seed
    settings: dict[str, Any] = {"reward_clipping": False}
    for word in words:
        settings |= WORDS[word]
    lanes = Lanes(
        game,
        count,
        frameskip=FRAMES_PER_STEP,
        stack_num=FRAMES,
        max_num_frames_per_episode=MAX_FRAMES,
        **settings,
    )
    lanes.single_observation_space = spaces.Box(0, 255, (84, 84, FRAMES), np.uint8)
    return lanes


def _single(game: str, words: frozenset[str]) -> Any:
    """A new gymnasium.Env of a game: a single lane with the same images."""
    gymnasium = errors.require("gymnasium", "environments")
    lanes = _lanes(game, words, 1)

    class Game(gymnasium.Env):  # type: ignore[name-defined]
        """A game in a single lane."""

        metadata = {"render_modes": ["rgb_array"], "render_fps": 60 // FRAMES_PER_STEP}  # noqa: RUF012
        render_mode = "rgb_array"
        observation_space = lanes.single_observation_space
        action_space = lanes.single_action_space

        def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
            super().reset(seed=seed)
            seed = int(self.np_random.integers(2**31)) if seed is None else seed
            observations, _ = lanes.reset(seed=[seed], options={"reset_mask": np.ones(1, bool)})
            self._image = observations[0, ..., -1:]
            return observations[0], {}

        def step(self, action: Any) -> Any:
            observations, rewards, terminated, truncated, _ = lanes.step(np.array([action], np.int32))
            self._image = observations[0, ..., -1:]
            return observations[0], float(rewards[0]), bool(terminated[0]), bool(truncated[0]), {}

        def render(self) -> np.ndarray:
            return np.repeat(self._image, 3, -1)

    return Game()
