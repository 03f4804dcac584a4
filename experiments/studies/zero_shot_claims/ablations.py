"""Claim: separate encoders of states and tasks, and bootstrapped targets, make TD-JEPA better.

    python -m experiments.studies.zero_shot_claims.ablations --workdir=runs/claims/zero_shot

trains TD-JEPA in the image maze with separate encoders of states and tasks, with one encoder for both, and
with Monte Carlo targets, and with ten times the weight of the orthonormality losses; and forward-backward.
Everything else is the same. The score of an agent is the exact value of its policies for all 51 tasks: 0 for
random actions, 1 for optimal ones.

OUT of --workdir=OUT gets result.json, claim.png, and a folder for each agent. The same command continues
after an interruption.

Measured with this command (benchmarks/zero_shot_claims_ablations.json; half a CPU core, 7 minutes): not
shown. The score with two encoders minus that with one is -0.01 (-0.03 to 0.01). With bootstrapped targets it
is 0.13 higher (0.10 to 0.16) than with Monte Carlo targets. All agents are far from converged: the best has
0.19 after 2,000 updates, and scores still rise.

Source: Bagatella et al. 2025, arXiv:2510.00739, who find two encoders better than one, and leave Monte Carlo
targets open.
"""

from typing import Any, NamedTuple

import numpy as np

from experiments.studies.flow_claims import claims, pictures
from experiments.studies.flow_claims.claims import Claim, ClaimResult
from experiments.studies.flow_claims.variants import score
from experiments.studies.zero_shot_claims import image_maze
from experiments.studies.zero_shot_claims.image_maze import CONFIG, ImageMazeConfig
from valuelab.evaluation import statistics


class Contender(NamedTuple):
    """An agent, and its settings that differ from those of the maze."""

    agent: str
    changes: dict[str, Any]


def td_jepa(weight: float = 1.0, **changes: Any) -> Contender:
    """TD-JEPA with a weight of both orthonormality losses."""
    weights = {f"agent.critic.{role}_orthonormality": weight for role in ("state", "task")}
    return Contender(
        "td_jepa:pixels_small", weights | {f"agent.critic.{key}": value for key, value in changes.items()}
    )


TWO, ONE, MONTE_CARLO = "two encoders", "one encoder", "Monte Carlo targets"
HEAVY, FORWARD_BACKWARD = "two encoders, weight 10", "forward-backward"
CONTENDERS = {
    TWO: td_jepa(),
    ONE: td_jepa(symmetric=True),
    MONTE_CARLO: td_jepa(target="monte_carlo"),
    FORWARD_BACKWARD: Contender("forward_backward:pixels_small", {"agent.critic.orthonormality": 1.0}),
    HEAVY: td_jepa(10.0),
}
"""The agents, with weight 1 where none is named."""

CLAIM = Claim(
    "TD-JEPA with separate encoders of states and tasks has a higher score than with one encoder",
    {
        "encoders": "score after the last update, two encoders - one encoder",
        "targets": "score after the last update, bootstrapped - Monte Carlo targets",
        "level": "score after the last update, two encoders - forward-backward",
        "weight": "score after the last update, weight 1 - weight 10",
        "stable": "score after the last update - score after half of the updates, two encoders",
    },
)


def examine(config: ImageMazeConfig) -> ClaimResult:
    """Trains all agents and compares them."""
    maze = image_maze.make(config)
    trained = {
        name: image_maze.train(config, maze, name.replace(" ", "_"), *contender)
        for name, contender in CONTENDERS.items()
    }
    last = {name: variant.last_scores for name, variant in trained.items()}

    curve = list(trained[TWO].scores.values())
    differences = {
        "encoders": statistics.difference(last[TWO], last[ONE]),
        "targets": statistics.difference(last[TWO], last[MONTE_CARLO]),
        "level": statistics.difference(last[TWO], last[FORWARD_BACKWARD]),
        "weight": statistics.difference(last[TWO], last[HEAVY]),
        "stable": statistics.difference(curve[-1], curve[len(curve) // 2 - 1]),
    }

    def draw() -> Any:
        figure, [axis] = pictures.panels(1, "Zero-shot agents in the image maze")
        scores = {name: variant.scores for name, variant in trained.items()}
        pictures.over_updates(axis, scores, "mean score of 51 tasks")
        return figure

    by_seed = {name: np.round(scores, 4).tolist() for name, scores in last.items()}
    evidence = {"scores": {name: score(variant) for name, variant in trained.items()}, "by_seed": by_seed}
    return ClaimResult(differences, evidence, draw)


if __name__ == "__main__":
    claims.launch(CLAIM, examine, CONFIG)
