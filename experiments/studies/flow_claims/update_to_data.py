"""Claim: with many updates a step, a flow critic learns more than a plain one, from fewer steps.

    python -m experiments.studies.flow_claims.update_to_data --workdir=runs/claims/update_to_data

lets floq and a plain critic of the same size act from the first, half of each batch from a small log and half
of what is met (RLPD's setting), with 1, 4, 16 and 64 updates a step (--ratios), and compares the last return
and the steps to a return. --steps counts environment steps. With --workdir=OUT, OUT gets result.json and
claim.png, and a folder of each kind of critic. The same command again goes on where it was stopped.

Source: Agrawalla, Nauman, Kumar 2026, arXiv:2603.04333; Ball et al. 2023, arXiv:2302.02948.
"""

import dataclasses
from typing import Any

import numpy as np

from experiments.studies.flow_claims import pictures, trials
from experiments.studies.flow_claims.trials import KINDS, ClaimConfig, Found, Trial, online
from valuelab.configuration import check_ranges
from valuelab.evaluation import statistics

THRESHOLD = -250.0
"""A return at which the pendulum is swung up and held from most starts."""


@dataclasses.dataclass(frozen=True)
class UpdateToDataConfig(ClaimConfig):
    """How the claim is examined.

    Attributes:
        ratios: updates a step; the last is the one that the claim is about.
    """

    ratios: tuple[int, ...] = (1, 4, 16, 64)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_ranges(self, ratios="[1, inf)")


def steps_to(trial: Trial, ratio: int) -> np.ndarray:
    """Environment steps until the return is at THRESHOLD, [M]; infinite where it never is."""
    steps = np.array(list(trial.scores)) / ratio
    reached = np.stack(list(trial.scores.values())) >= THRESHOLD
    return np.where(reached.any(0), steps[reached.argmax(0)], np.inf)


def examine(config: UpdateToDataConfig) -> Found:
    """Trains both with each ratio and compares them at the last; `trials.Found`."""
    ratios = config.ratios
    task = trials.task(config)
    found = {
        ratio: {
            kind: trials.learn(
                config,
                task,
                f"{kind}_{ratio}",
                agent,
                {"steps": config.steps * ratio},
                experience=online(task, ratio, config.steps),
            )
            for kind, agent in KINDS.items()
        }
        for ratio in ratios
    }
    scores = {
        f"{kind}, {ratio}": trials.score(trial)
        for ratio, kinds in found.items()
        for kind, trial in kinds.items()
    }
    differences = {
        ratio: trials.compare(kinds["flow"], kinds["monolithic"]) for ratio, kinds in found.items()
    }

    reached = {kind: {ratio: steps_to(found[ratio][kind], ratio) for ratio in ratios} for kind in KINDS}

    def draw() -> Any:
        figure, axes = pictures.panels(1 + len(ratios), "Updates a step, flow critic against plain critic")
        last = {kind: np.stack([found[ratio][kind].last for ratio in ratios], axis=1) for kind in KINDS}
        pictures.by_seed(axes[0], ratios, last, "updates a step", "last return")
        axes[0].set_xscale("log")
        for axis, (ratio, kinds) in zip(axes[1:], found.items(), strict=True):
            curves = {kind: np.stack(list(trial.scores.values()), axis=1) for kind, trial in kinds.items()}
            steps = np.array(list(kinds["flow"].scores)) / ratio
            pictures.by_seed(axis, steps, curves, "environment steps", "return")
            axis.set_title(f"{ratio} updates a step")
        return figure

    evidence = {
        "scores": scores,
        "threshold": THRESHOLD,
        "steps_to_threshold": reached,
        "share_at_threshold": {
            kind: {
                ratio: statistics.mean_interval(np.isfinite(steps)[:, None].astype(float))
                for ratio, steps in by_ratio.items()
            }
            for kind, by_ratio in reached.items()
        },
        "flow - monolithic": differences,
    }
    claim = f"With {ratios[-1]} updates a step, a flow critic's returns are above those of a plain critic"
    return Found(claim, trials.verdict(differences[ratios[-1]]["final"]["sign"]), evidence, draw)


if __name__ == "__main__":
    trials.launch(examine, UpdateToDataConfig(log_steps=4_000, steps=1_500))
