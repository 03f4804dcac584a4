"""Recipes of collected datasets, and the random numbers of one episode."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

Step = dict[str, Any]
"""One row of a dataset: published key -> its value at one step."""
Player = Callable[[np.random.Generator, int, int], list[Step]]
"""(rng, environment seed, length) -> the `length` steps of one episode, in an environment of the player."""

SPLITS = ("train", "val")
MUJOCO_DTYPES = {
    "observations": np.float32,
    "actions": np.float32,
    "terminals": np.bool_,
    "qpos": np.float32,
    "qvel": np.float32,
}
"""The published keys and dtypes of datasets made in MuJoCo."""


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How one of OGBench's datasets is collected.

    Attributes:
        episodes: number of training episodes in the published dataset; its validation split has a tenth.
        episode_length: rows of every episode: 201, 1001 or 2001. The last row only holds the final
            observation.
        dtypes: published key -> dtype, in the published order.
        make_player: () -> a Player with a new environment.
    """

    episodes: int
    episode_length: int
    dtypes: Mapping[str, type]
    make_player: Callable[[], Player]


def play_episode(
    recipe: Recipe, player: Player, seed: int, split: str, episode: int
) -> dict[str, np.ndarray]:
    """Plays one episode, a pure function of (seed, split, episode) that ignores earlier episodes.

    Args:
        recipe: the recipe of the dataset.
        player: made by the recipe; may have played other episodes.
        seed: the collection's seed, at least 0.
        split: "train" or "val".
        episode: number of the episode in its split.

    Returns:
        Published key -> array of `recipe.episode_length` rows.
    """
    sequence = np.random.SeedSequence(seed, spawn_key=(SPLITS.index(split), episode))
    behaviour, environment, shared = sequence.spawn(3)
    # OGBench's mazes, plan oracles and powder worlds draw from numpy's global state; it must be seeded.
    # This runs in the collector's worker processes, so no other code is affected.
    np.random.seed(shared.generate_state(8))  # noqa: NPY002
    environment_seed = int(environment.generate_state(1)[0])
    steps = player(np.random.default_rng(behaviour), environment_seed, recipe.episode_length)
    for index, step in enumerate(steps):
        step["terminals"] = index == len(steps) - 1
    return {key: np.array([step[key] for step in steps], dtype) for key, dtype in recipe.dtypes.items()}
