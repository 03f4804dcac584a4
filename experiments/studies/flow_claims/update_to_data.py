"""Claim: with many updates per environment step, a flow critic learns more than a plain one.

    python -m experiments.studies.flow_claims.update_to_data --workdir=runs/claims/update_to_data

trains floq and a plain critic of the same size while they act in the point maze. One half of each batch comes
from a small dataset and one half from acting, as in RLPD. The number of updates per environment step is 1 or
12 (--ratios). All runs make the same number of updates, --steps. So they can be compared after equal numbers
of updates, and after equal numbers of environment steps: those that the highest ratio makes in all.

OUT of --workdir=OUT gets result.json, claim.png, and a folder for each critic and ratio. The same command
continues after an interruption.

Measured with this command (benchmarks/flow_claims_update_to_data.json): the opposite. With 12 updates per
step, 0.17 (0.09 to 0.25) of the episodes reach the goal with the flow critic, and 0.52 (0.35 to 0.67) with
the plain critic. The difference is -0.35 (-0.52 to -0.17). With 1 update per step it is 0.42 and 0.86.

Source: Agrawalla, Nauman, Kumar 2026, arXiv:2603.04333; Ball et al. 2023, arXiv:2302.02948.
"""

import dataclasses
from typing import Any

import numpy as np

from experiments.studies.flow_claims import claims, pictures, point_maze
from experiments.studies.flow_claims.claims import Claim, ClaimConfig, ClaimResult
from experiments.studies.flow_claims.variants import KINDS, TrainedVariant, score
from valuelab.configuration import setting
from valuelab.errors import InputError
from valuelab.evaluation import statistics

CLAIM = Claim(
    "With many updates per environment step, a flow critic succeeds more often than a plain critic",
    {
        "success": "share of episodes that reach the goal at the highest ratio, after the last update, "
        "flow - plain",
        "equal_steps": "rise of this share from the lowest to the highest ratio, after equal environment "
        "steps, flow - plain",
        "equal_updates": "rise of this share from the lowest to the highest ratio, after equal updates, "
        "flow - plain",
    },
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class UpdateToDataConfig(ClaimConfig):
    """The settings of this claim."""

    ratios: tuple[int, ...] = setting(
        (1, 12), "[1, inf)", "Numbers of updates per environment step, from the lowest to the highest."
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        every = self.steps // self.evaluations
        if self.steps * self.ratios[0] % (self.ratios[-1] * every):
            raise InputError(
                f"ratios {self.ratios} have no evaluation after equal environment steps: make evaluations, "
                f"{self.evaluations}, a multiple of the last ratio over the first"
            )

    @property
    def early(self) -> int:
        """The update at which the lowest ratio has made as many environment steps as the highest in all."""
        return self.steps * self.ratios[0] // self.ratios[-1]


def examine(config: UpdateToDataConfig) -> ClaimResult:
    """Trains both critics with each ratio and compares them."""
    ratios = config.ratios
    maze = point_maze.make(config)

    def train(kind: str, ratio: int) -> TrainedVariant:
        experience = maze.online(ratio, -(-config.steps // ratio))
        name, changes = f"{kind}_{ratio}", point_maze.CLAIMED[kind]
        return point_maze.train(config, maze, name, KINDS[kind], changes, experience=experience)

    variants = {kind: {ratio: train(kind, ratio) for ratio in ratios} for kind in KINDS}

    def rise(kind: str, update: int) -> np.ndarray:
        """Last success of the highest ratio minus that of the lowest ratio at an update, [M]."""
        return variants[kind][ratios[-1]].last_scores - variants[kind][ratios[0]].scores[update]

    quantities = {
        "success": lambda kind: variants[kind][ratios[-1]].last_scores,
        "equal_steps": lambda kind: rise(kind, config.early),
        "equal_updates": lambda kind: rise(kind, config.steps),
    }
    named = {f"{kind}, {ratio}": variants[kind][ratio] for ratio in ratios for kind in KINDS}

    def draw() -> Any:
        title = "Flow critic and plain critic with several numbers of updates per environment step"
        figure, (left, right) = pictures.panels(2, title)
        label = "share of episodes that reach the goal"
        pictures.over_updates(left, {name: variant.scores for name, variant in named.items()}, label)
        for colour, (name, variant) in zip(pictures.COLOURS, named.items(), strict=False):
            steps = np.array(list(variant.scores)) / int(name.split(", ")[1])
            curve = {name: np.stack(list(variant.scores.values()), axis=1)}
            pictures.by_seed(right, steps, curve, "environment steps", label, colour)
        right.set_xscale("log")
        return figure

    evidence = {
        "scores": {name: score(variant) for name, variant in named.items()},
        "environment_steps": {ratio: config.steps / ratio for ratio in ratios},
        "by_critic": {
            name: {kind: statistics.mean_interval(quantity(kind)[:, None]) for kind in KINDS}
            for name, quantity in quantities.items()
        },
    }
    differences = {
        name: statistics.difference(quantity("flow"), quantity("plain"))
        for name, quantity in quantities.items()
    }
    return ClaimResult(differences, evidence, draw)


if __name__ == "__main__":
    claims.launch(CLAIM, examine, UpdateToDataConfig(log_steps=2_000, steps=1_200, num_seeds=10))
