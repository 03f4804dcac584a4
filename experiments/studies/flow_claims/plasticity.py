"""Claim: flow critics follow moving TD targets by reweighting their features; plain critics overwrite them.

    python -m experiments.studies.flow_claims.plasticity --workdir=runs/claims/plasticity

trains floq and a plain critic of the same size in the grid maze in three regimes:

    td        as usual
    frozen    as usual, but all layers except the last stop learning after half of the updates
    fixed     by regression on the exact Q*, which does not move

It compares how much the norm of the last features grows, before layer norm, which would make it constant. It
also compares what freezing costs, and how badly the last Q can be fitted to the features from the middle of
training.

OUT of --workdir=OUT gets result.json, claim.png, and a folder for each critic and regime. The same command
continues after an interruption.

Measured with this command (benchmarks/flow_claims_plasticity.json): shown for the norm, but TD does not make
the gap. Under TD the log of the norm grows by 0.31 in the plain critic and by 0.06 in the flow critic. The
difference is 0.25 (0.19 to 0.32). It is as large with fixed targets (-0.00, -0.12 to 0.11, more under TD).
Freezing adds a larger error to the flow critic than to the plain critic (-1.3, -2.5 to -0.3: the opposite).

Source: Agrawalla, Nauman, Kumar 2026, arXiv:2603.04333.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.studies.flow_claims import claims, grid_maze, pictures
from experiments.studies.flow_claims.claims import Claim, ClaimConfig, ClaimResult
from experiments.studies.flow_claims.grid_maze import GridMaze, MazeVariant
from experiments.studies.flow_claims.variants import KINDS
from valuelab.agents.actor_critic import actor_critic
from valuelab.agents.composed import critic_of
from valuelab.evaluation import statistics
from valuelab.types import Agent, Critic, Metrics, PolicyView, Spec, TrainState, Transitions

CLAIM = Claim(
    "Under TD, the features of a plain critic grow and lose their use more than those of a flow critic",
    {
        "growth": "log of the last over the first norm of the last features under TD, plain - flow",
        "growth_by_td": "the same, minus the same difference under regression on fixed targets",
        "freezing": "value of the greedy policy that freezing costs, plain - flow",
        "freezing_error": "root mean square error to Q* that freezing adds, plain - flow",
        "refit": "error of a linear fit of the last Q to the features at half of training, plain - flow",
    },
)
REGIMES = ("td", "frozen", "fixed")


def frozen(critic: Critic, after: int) -> Critic:
    """The same critic, but after `after` updates only the last layers of its networks learn.

    The networks are the Q network of a plain critic, and the field and the distilled critic of a flow critic.
    """

    def learns(path: Any) -> bool:
        names = [part.key for part in path]
        return "output_layer" in names or names[-3:-1] == ["StateValue_0", "Dense_0"]

    def update(state: TrainState, batch: Transitions, policy: PolicyView) -> tuple[TrainState, Metrics]:
        after_update, metrics = critic.update(state, batch, policy)
        moves = state.step < after
        params = jax.tree_util.tree_map_with_path(
            lambda path, new, old: new if learns(path) else jnp.where(moves, new, old),
            after_update.params,
            state.params,
        )
        return after_update._replace(params=params), metrics

    return critic._replace(update=update)


def with_optimal_q(maze: GridMaze) -> GridMaze:
    """The maze with data that make TD a regression on Q*: each reward is Q*(s, a), and no state follows.

    The range of values that critics distinguish stays that of the maze.
    """
    cells = np.floor((maze.dataset.observations + 1) / 2 * len(grid_maze.MAP)).astype(int)
    states = np.full((len(grid_maze.MAP),) * 2, -1)
    states[tuple(maze.cells.T)] = np.arange(len(maze.cells))
    targets = maze.optimal_q[states[tuple(cells.T)], maze.dataset.actions].astype(np.float32)
    return maze._replace(
        dataset=dataclasses.replace(maze.dataset, rewards=targets, masks=np.zeros_like(targets))
    )


def train_regimes(config: ClaimConfig, maze: GridMaze, kind: str) -> dict[str, MazeVariant]:
    """Trains one kind of critic in every regime, or finishes its training; regime -> variant."""
    half = config.steps // 2

    def half_frozen(config: Any, spec: Spec) -> Agent:
        critic = frozen(critic_of(config, spec), half)
        return actor_critic(critic, grid_maze.greedy(spec.num_actions))

    agent, changes = KINDS[kind], grid_maze.CLAIMED[kind]
    few = changes | config.few_seeds
    return {
        "td": grid_maze.train(config, maze, kind, agent, changes),
        "frozen": grid_maze.train(config, maze, f"{kind}_frozen", agent, few, make_agent=half_frozen),
        "fixed": grid_maze.train(config, with_optimal_q(maze), f"{kind}_fixed", agent, few),
    }


def examine(config: ClaimConfig) -> ClaimResult:
    """Trains both critics in every regime and compares their features."""
    maze = grid_maze.make(config)
    variants = {kind: train_regimes(config, maze, kind) for kind in KINDS}
    diagnoses = {
        kind: {regime: variant.trained.diagnose() for regime, variant in regimes.items()}
        for kind, regimes in variants.items()
    }
    last = f"layer_{len(diagnoses['flow']['td'][0]['layers'])}"

    def over_time(kind: str, regime: str, *path: str) -> np.ndarray:
        """The number at a path in the reports, [M, evaluations]."""
        reports: list[Any] = diagnoses[kind][regime]
        for name in path:
            reports = [report[name] for report in reports]
        return np.stack(reports, axis=1)

    def norms(kind: str, regime: str) -> np.ndarray:
        return over_time(kind, regime, "layers", last, "feature_norm")

    def growth(kind: str, regime: str) -> np.ndarray:
        """Log of the last norm of the last features over the first, [M]."""
        return np.log(norms(kind, regime)[:, -1] / norms(kind, regime)[:, 0])

    def by_td(kind: str) -> np.ndarray:
        fixed = growth(kind, "fixed")
        return growth(kind, "td")[: len(fixed)] - fixed

    def refit(kind: str) -> np.ndarray:
        return over_time(kind, "td", "later_refit_error")[:, config.evaluations // 2 - 1]

    def cost(kind: str) -> np.ndarray:
        """Last score without freezing minus last score with freezing, of the seeds of both, [M]."""
        frozen = variants[kind]["frozen"].trained.last_scores
        return variants[kind]["td"].trained.last_scores[: len(frozen)] - frozen

    def added_error(kind: str) -> np.ndarray:
        td, frozen = (list(variants[kind][regime].errors.values())[-1] for regime in ("td", "frozen"))
        return frozen - td[: len(frozen)]

    quantities = {
        "growth": lambda kind: growth(kind, "td"),
        "growth_by_td": by_td,
        "freezing": cost,
        "freezing_error": added_error,
        "refit": refit,
    }
    by_name = {
        f"{kind}, {regime}": variant
        for kind, regimes in variants.items()
        for regime, variant in regimes.items()
    }

    def draw() -> Any:
        figure, axes = pictures.panels(4, "Features under moving targets")
        updates = [report["step"] for report in diagnoses["flow"]["td"]]
        pairs = [(kind, regime) for regime in ("td", "fixed") for kind in KINDS]
        for axis, measure in zip(axes, ("feature_norm", "effective_rank"), strict=False):
            lines = {
                f"{kind}, {regime}": over_time(kind, regime, "layers", last, measure)
                for kind, regime in pairs
            }
            label = f"{measure.replace('_', ' ')} of the last layer"
            pictures.by_seed(axis, updates, lines, "updates", label)
        shown = {
            f"{kind}, {regime}": by_name[f"{kind}, {regime}"] for regime in ("td", "frozen") for kind in KINDS
        }
        grid_maze.draw(axes[2:], shown)
        return figure

    evidence = grid_maze.evidence(by_name) | {
        "by_critic": {
            name: {kind: statistics.mean_interval(quantity(kind)[:, None]) for kind in KINDS}
            for name, quantity in quantities.items()
        },
        "log_growth_of_feature_norm": {
            kind: {regime: statistics.mean_interval(growth(kind, regime)[:, None]) for regime in REGIMES}
            for kind in KINDS
        },
        "last_reports": {
            kind: {regime: diagnoses[kind][regime][-1]["layers"] for regime in REGIMES} for kind in KINDS
        },
    }
    differences = {
        name: statistics.difference(quantity("plain"), quantity("flow"))
        for name, quantity in quantities.items()
    }
    return ClaimResult(differences, evidence, draw)


if __name__ == "__main__":
    claims.launch(CLAIM, examine)
