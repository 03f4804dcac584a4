"""Claim: expected targets give a flow critic a better policy than distributional targets.

    python -m experiments.studies.flow_claims.targets --workdir=runs/claims/targets

trains floq in the grid maze, whose targets are means over the draws of noise, and `floq_distributional`, in
which each draw bootstraps from the end of its own flow. It compares the values of their greedy policies and
their errors to Q*, and sets the spread of the ends of their flows beside the spread of returns.

OUT of --workdir=OUT gets result.json, claim.png, and a folder for each critic. The same command continues
after an interruption.

Measured with this command (benchmarks/flow_claims_targets.json): shown. The value of the greedy policy is
0.32 (0.29 to 0.36) with expected targets and 0.24 (0.18 to 0.31) with distributional ones. The difference is
0.08 (0.01 to 0.15). The errors to Q* are 3.6 and 5.8.

Source: Agrawalla, Nauman, Kumar 2026, arXiv:2603.04333.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.studies.flow_claims import claims, grid_maze, pictures
from experiments.studies.flow_claims.claims import Claim, ClaimConfig, ClaimResult
from experiments.studies.flow_claims.grid_maze import GridMaze
from experiments.studies.flow_claims.variants import FLOW, TrainedVariant
from valuelab.evaluation import statistics
from valuelab.ops.flow import integrate

CLAIM = Claim(
    "A flow critic with expected targets gives a better policy than one with distributional targets",
    {
        "policy": "value of the greedy policy after the last update, expected - distributional",
        "error": "root mean square error to Q* after the last update, distributional - expected",
    },
)
_ROWS = 1024


def spread(variant: TrainedVariant) -> np.ndarray:
    """Standard deviation over draws of the ends z(1), averaged over rows of the data, for each seed [M]."""
    batch = variant.run.batch(variant.run.draw(_ROWS, seed=0))
    critic = variant.run.critic({})
    assert critic.diagnostics is not None
    flow = critic.diagnostics.flow
    assert flow is not None

    def of_seed(state: Any) -> jax.Array:
        start = flow.start(jax.random.key(0), len(batch.actions))
        velocity = flow.velocity(state.critic, batch.observations, batch.actions)
        ends = integrate(velocity, start, flow.num_steps, flow.solver)
        return jnp.mean(jnp.std(ends, axis=2))

    *_, states = variant.states().values()
    return np.asarray(jax.jit(lambda states: jax.lax.map(of_seed, states))(states))


def spread_of_returns(maze: GridMaze) -> float:
    """Standard deviation of the optimal policy's returns, averaged over cells and actions.

        M(s, a) = E [r² + 2 γ r V*(s') + γ² M(s', a*(s'))],   variance = M - Q*²

    M is the second moment of returns.
    """
    mdp, rewards = maze.mdp, maze.mdp.rewards[..., 0]
    best = maze.optimal_q.argmax(-1)
    values = maze.optimal_q.max(-1)
    moments = np.square(maze.optimal_q)
    for _ in range(2_000):  # γ^4000 of the first guess is left
        later = np.take_along_axis(moments, best[:, None], axis=1)[:, 0][mdp.next_states]
        outcomes = np.square(rewards) + 2 * grid_maze.DISCOUNT * rewards * values[mdp.next_states]
        moments = (mdp.probabilities * (outcomes + grid_maze.DISCOUNT**2 * later)).sum(-1)
    variances = np.maximum(moments - np.square(maze.optimal_q), 0)
    return float(np.sqrt(variances)[~mdp.terminal].mean())


def examine(config: ClaimConfig) -> ClaimResult:
    """Trains both critics and compares them."""
    maze, flow = grid_maze.make(config), grid_maze.CLAIMED["flow"]
    variants = {
        "expected": grid_maze.train(config, maze, "flow", FLOW, flow),
        "distributional": grid_maze.train(
            config, maze, "distributional", "floq_distributional", flow | config.few_seeds
        ),
    }
    spreads = {
        name: statistics.mean_interval(spread(variant.trained)[:, None]) for name, variant in variants.items()
    }
    returns = spread_of_returns(maze)

    def draw() -> Any:
        figure, (*axes, last) = pictures.panels(3, "Expected and distributional targets of a flow critic")
        grid_maze.draw(axes, variants)
        names = [*variants, "returns of the\noptimal policy"]
        means = [spreads[name]["mean"] for name in variants] + [returns]
        last.bar(names, means, color=pictures.COLOURS[:3])
        last.set(ylabel="standard deviation of the ends of a flow")
        return figure

    evidence = grid_maze.evidence(variants) | {"spread_of_ends": spreads, "spread_of_returns": returns}
    return ClaimResult(grid_maze.compare(*variants.values()), evidence, draw)


if __name__ == "__main__":
    claims.launch(CLAIM, examine)
