"""Powderworld: fills, lines and squares of elements in a falling-sand world; half the strokes are random.

A stroke (element, x, y) takes three steps with one discrete action each.
"""

import functools

import numpy as np

from valuelab.data.collection.recipe import Player, Recipe, Step
from valuelab.errors import require

RANDOM_STROKES = 0.5
BEHAVIOURS = {"FillBehavior": 1 / 7, "LineBehavior": 3 / 7, "SquareBehavior": 3 / 7}
EPISODES = {"easy": 1000, "medium": 3000, "hard": 5000}
# The published files store terminals as integers.
DTYPES = {"observations": np.uint8, "actions": np.int32, "terminals": np.int32}


def make_player(environment: str) -> Player:
    """Makes a player for a powder world.

    Args:
        environment: OGBench's name, such as "powderworld-easy-v0".

    Returns:
        A Player.
    """
    require("ogbench", "environments")
    gymnasium = require("gymnasium", "environments")
    behaviors = require("ogbench.powderworld.behaviors", "environments")
    world = gymnasium.make(environment, mode="data_collection", disable_env_checker=True).unwrapped
    choices = [getattr(behaviors, name)(env=world) for name in BEHAVIOURS]
    probabilities = list(BEHAVIOURS.values())

    def play(rng: np.random.Generator, environment_seed: int, length: int) -> list[Step]:
        observation, info = world.reset(seed=environment_seed)
        behaviour = choices[rng.choice(len(choices), p=probabilities)]
        behaviour.reset(observation, info)
        steps: list[Step] = []
        for step in range(length):
            if step % 3 == 0:
                if rng.random() < RANDOM_STROKES:
                    stroke = world.sample_semantic_action()
                else:
                    stroke = behaviour.select_action(observation, info)
            action = world.semantic_action_to_action(*stroke)
            steps.append({"observations": observation, "actions": action})
            observation, _, _, _, info = world.step(action)
            if behaviour.done:
                behaviour = choices[rng.choice(len(choices), p=probabilities)]
                behaviour.reset(observation, info)
        return steps

    return play


def recipes() -> dict[str, Recipe]:
    """The powder worlds that can be collected, by name."""
    return {
        f"powderworld-{level}-play-v0": Recipe(
            episodes, 1001, DTYPES, functools.partial(make_player, f"powderworld-{level}-v0")
        )
        for level, episodes in EPISODES.items()
    }
