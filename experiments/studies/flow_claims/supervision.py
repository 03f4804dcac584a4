"""Claim: flow critics are good because their velocities are supervised.

    python -m experiments.studies.flow_claims.supervision --workdir=runs/claims/supervision

trains three critics of the same size in the grid maze: floq, floq whose field predicts the TD target itself
at each interpolant, and a plain critic. It compares the values of their greedy policies and their errors to
Q*.

OUT of --workdir=OUT gets result.json, claim.png, and a folder for each critic. The same command continues
after an interruption.

Measured with this command (benchmarks/flow_claims_supervision.json): not shown. The value of the greedy
policy is 0.32 (0.29 to 0.36) with supervised velocities, 0.34 (0.27 to 0.40) with supervised values, and 0.50
(0.42 to 0.56) with the plain critic. The difference of the first two is -0.02 (-0.09 to 0.06).

Source: Agrawalla, Nauman, Kumar 2026, arXiv:2603.04333.
"""

from typing import Any

from experiments.studies.flow_claims import claims, grid_maze, pictures
from experiments.studies.flow_claims.claims import Claim, ClaimConfig, ClaimResult
from experiments.studies.flow_claims.variants import FLOW, PLAIN

CLAIM = Claim(
    "A flow critic that learns velocities gives a better policy than one that learns values",
    {
        "policy": "value of the greedy policy after the last update, velocity - value",
        "error": "root mean square error to Q* after the last update, value - velocity",
    },
)


def examine(config: ClaimConfig) -> ClaimResult:
    """Trains the three critics and compares the first two."""
    maze, flow = grid_maze.make(config), grid_maze.CLAIMED["flow"]
    variants = {
        "velocity": grid_maze.train(config, maze, "flow", FLOW, flow),
        "value": grid_maze.train(config, maze, "value", FLOW, flow | {"agent.critic.supervision": "value"}),
        "plain": grid_maze.train(config, maze, "plain", PLAIN),
    }

    def draw() -> Any:
        figure, axes = pictures.panels(2, "Supervising a flow critic's velocity, or its value")
        grid_maze.draw(axes, variants)
        return figure

    evidence = grid_maze.evidence(variants) | {
        "velocity - plain": grid_maze.compare(variants["velocity"], variants["plain"])
    }
    return ClaimResult(grid_maze.compare(variants["velocity"], variants["value"]), evidence, draw)


if __name__ == "__main__":
    claims.launch(CLAIM, examine)
