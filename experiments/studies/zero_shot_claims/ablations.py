"""Claim: separate encoders of states and tasks, and bootstrapped targets, make TD-JEPA better.

    python -m experiments.studies.zero_shot_claims.ablations --workdir=runs/claims/zero_shot

trains TD-JEPA in the image maze with separate encoders of states and tasks, with one encoder for both, and
with Monte Carlo targets; and forward-backward. Everything else is the same. The score of an agent is the
exact value of its policies for all 51 tasks: 0 for random actions, which are those of the data, and 1 for
optimal ones.

Further agents learn from the reward of a single task, for TASKS. They see the images, or the frozen encodings
φ(s) of TD-JEPA with two encoders (first seed). Those that see images are also a reference for zero-shot
agents: they know the reward while they learn.

OUT of --workdir=OUT gets result.json, claim.png, and a folder for each agent. The same command continues
after an interruption.

Measured with this command (benchmarks/zero_shot_claims_ablations.json; five seeds, about 7 minutes of one CPU
core): not shown. The score with two encoders is 0.63; minus that with one it is 0.02 (-0.03 to 0.07). With
bootstrapped targets it is 0.53 higher (0.50 to 0.57) than with Monte Carlo targets. Forward-backward has
0.65. From frozen encodings a task is learnt faster than from images: the average score is 0.15 higher (0.09
to 0.22). Scores still rise after 4,000 updates.

Source: Bagatella et al. 2025, arXiv:2510.00739, who find two encoders better than one, and leave Monte Carlo
targets open.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from experiments.studies.flow_claims import claims, pictures
from experiments.studies.flow_claims.claims import Claim, ClaimResult
from experiments.studies.flow_claims.variants import score
from experiments.studies.zero_shot_claims import image_maze
from experiments.studies.zero_shot_claims.image_maze import CONFIG, ImageMaze, ImageMazeConfig, MazeAgent
from valuelab.evaluation import statistics


class Contender(NamedTuple):
    """An agent, and its settings that differ from those of the maze."""

    agent: str
    changes: dict[str, Any]


def td_jepa(**changes: Any) -> Contender:
    """TD-JEPA with changes of its critic."""
    return Contender("td_jepa:pixels_small", {f"agent.critic.{key}": value for key, value in changes.items()})


TWO, ONE, MONTE_CARLO = "two encoders", "one encoder", "Monte Carlo targets"
FORWARD_BACKWARD = "forward-backward"
CONTENDERS = {
    TWO: td_jepa(),
    ONE: td_jepa(symmetric=True),
    MONTE_CARLO: td_jepa(target="monte_carlo"),
    FORWARD_BACKWARD: Contender("forward_backward:pixels_small", {}),
}
"""The zero-shot agents; those that name no critic are TD-JEPA."""
IMAGES, ENCODINGS = "images", "frozen encodings"
TASKS = (0, 22, 50)
"""Tasks that further agents learn from rewards: the first cell, one in the middle, and the last one."""

CLAIM = Claim(
    "TD-JEPA with separate encoders of states and tasks has a higher score than with one encoder",
    {
        "encoders": "score after the last update, two encoders - one encoder",
        "targets": "score after the last update, bootstrapped - Monte Carlo targets",
        "level": "score after the last update, two encoders - forward-backward",
        "stable": "score after the last update - score after half of the updates, two encoders",
        "frozen": "average score while a task is learnt, from frozen encodings - from images",
        "reward": "score of these tasks after the last update, two encoders without - with their rewards",
    },
)


def examine(config: ImageMazeConfig) -> ClaimResult:
    """Trains all agents and compares them."""
    maze = image_maze.make(config)
    trained = {
        name: image_maze.train(config, maze, name.replace(" ", "_"), *contender)
        for name, contender in CONTENDERS.items()
    }
    seen = {IMAGES: maze.images, ENCODINGS: image_maze.encodings(trained[TWO].variant, maze)}
    single = {name: learn_tasks(config, maze, name, vectors) for name, vectors in seen.items()}

    last = {name: agent.variant.last_scores for name, agent in trained.items()}
    curve = list(trained[TWO].variant.scores.values())
    average = {name: np.mean(list(scores.values()), axis=0) for name, scores in single.items()}
    differences = {
        "encoders": statistics.difference(last[TWO], last[ONE]),
        "targets": statistics.difference(last[TWO], last[MONTE_CARLO]),
        "level": statistics.difference(last[TWO], last[FORWARD_BACKWARD]),
        "stable": statistics.difference(curve[-1], curve[len(curve) // 2 - 1]),
        "frozen": statistics.difference(average[ENCODINGS], average[IMAGES]),
        "reward": statistics.difference(
            trained[TWO].last_by_task[:, TASKS].mean(-1), list(single[IMAGES].values())[-1]
        ),
    }
    evidence = {
        "references": {"random actions": 0.0, "the data": 0.0, "optimal": 1.0},
        "scores": {name: score(agent.variant) for name, agent in trained.items()},
        "over_tasks": {name: over_tasks(maze, agent) for name, agent in trained.items()},
        "single_tasks": {
            name: {str(step): interval(scores) for step, scores in by_update.items()}
            for name, by_update in single.items()
        },
    }
    return ClaimResult(differences, evidence, lambda: draw(maze, trained, single))


def learn_tasks(
    config: ImageMazeConfig, maze: ImageMaze, name: str, seen: np.ndarray
) -> dict[int, np.ndarray]:
    """The mean scores over TASKS of agents that each learn one from its reward: update -> [M]."""
    folder = name.replace(" ", "_")
    agents = [image_maze.learn_task(config, maze, f"task_{task}_{folder}", task, seen) for task in TASKS]
    return {step: np.mean([agent.scores[step] for agent in agents], axis=0) for step in agents[0].scores}


def over_tasks(maze: ImageMaze, agent: MazeAgent) -> dict[str, Any]:
    """The share of tasks above the data, the least score, and `image_maze.dissect`, ready for JSON."""
    by_task = agent.last_by_task
    measured = {"share_above_data": (by_task > 0).mean(-1), "least": by_task.min(-1)}
    return {
        name: interval(values) for name, values in (measured | image_maze.dissect(maze, agent.last)).items()
    }


def interval(values: np.ndarray) -> dict[str, Any]:
    """The mean of values [M] over seeds, with its interval."""
    return statistics.mean_interval(values[:, None])


def draw(
    maze: ImageMaze, trained: Mapping[str, MazeAgent], single: Mapping[str, Mapping[int, np.ndarray]]
) -> Any:
    """Curves of all agents, and the values of two for one task next to the optimal values."""
    figure, [curves, learning, optimal, one, two] = pictures.panels(5, "Agents in the image maze")
    pictures.over_updates(
        curves, {name: agent.variant.scores for name, agent in trained.items()}, "mean score of 51 tasks"
    )
    pictures.over_updates(learning, single, f"mean score of {len(TASKS)} single tasks")
    task = TASKS[1]
    best = image_maze.optimal_values(maze.next_states, maze.task_rewards)[task]
    image_maze.draw_values(optimal, "optimal values", best, task)
    for panel, name in ((one, TWO), (two, FORWARD_BACKWARD)):
        image_maze.draw_values(panel, f"values: {name}", trained[name].last.values[0, task], task)
    return figure


if __name__ == "__main__":
    claims.launch(CLAIM, examine, CONFIG)
