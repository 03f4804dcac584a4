"""Claim: with many updates per environment step, a flow critic learns more than a plain one, in fewer steps.

    python -m experiments.studies.flow_claims.update_to_data --steps=1000 --workdir=runs/claims/update_to_data

trains floq and a plain critic of the same size while they act. One half of each batch comes from a small log
and one half from acting, as in RLPD. The number of updates per environment step is 1, 4, 16 or 64 (--ratios).
It compares the last returns, and the number of steps until a given return. --steps counts environment steps.

OUT of --workdir=OUT gets result.json, claim.png, and a folder for each critic and ratio. The same command
continues after an interruption.

Measured with this command (benchmarks/flow_claims_update_to_data.json): undecided in the end, and the flow
critic is slower on the way. Last returns, flow and plain, with 1 update per step: -1200 and -1069. With 4:
-703 and -151. With 16: -141 and -130. With 64: -195 and -184.

Source: Agrawalla, Nauman, Kumar 2026, arXiv:2603.04333; Ball et al. 2023, arXiv:2302.02948.
"""

import dataclasses
from typing import Any

import numpy as np

from experiments.studies.flow_claims import claims, pendulum, pictures
from experiments.studies.flow_claims.claims import ClaimConfig, ClaimResult
from experiments.studies.flow_claims.variants import KINDS, TrainedVariant, compare, score, train_variant
from valuelab.configuration import setting
from valuelab.evaluation import statistics

THRESHOLD = -250.0
"""With this return the policy swings the pendulum up and holds it, from most starts."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class UpdateToDataConfig(ClaimConfig):
    """The settings of this claim."""

    ratios: tuple[int, ...] = setting(
        (1, 4, 16, 64), "[1, inf)", "Numbers of updates per environment step; the claim is about the last."
    )


def steps_to_threshold(variant: TrainedVariant, ratio: int) -> np.ndarray:
    """Environment steps until the return is at least THRESHOLD, [M]; infinite if it never is."""
    steps = np.array(list(variant.scores)) / ratio
    reached = np.stack(list(variant.scores.values())) >= THRESHOLD
    return np.where(reached.any(0), steps[reached.argmax(0)], np.inf)


def examine(config: UpdateToDataConfig) -> ClaimResult:
    """Trains both critics with each ratio and compares them at the last ratio."""
    ratios = config.ratios
    data = pendulum.record(config)
    variants = {
        ratio: {
            kind: train_variant(
                config,
                data,
                f"{kind}_{ratio}",
                agent,
                {"steps": config.steps * ratio},
                experience=data.online(ratio, config.steps),
            )
            for kind, agent in KINDS.items()
        }
        for ratio in ratios
    }
    scores = {
        f"{kind}, {ratio}": score(variant)
        for ratio, kinds in variants.items()
        for kind, variant in kinds.items()
    }
    differences = {ratio: compare(kinds["flow"], kinds["monolithic"]) for ratio, kinds in variants.items()}
    reached = {
        kind: {ratio: steps_to_threshold(variants[ratio][kind], ratio) for ratio in ratios} for kind in KINDS
    }

    def draw() -> Any:
        title = "Flow critic and plain critic with several numbers of updates per environment step"
        figure, axes = pictures.panels(1 + len(ratios), title)
        last = {
            kind: np.stack([variants[ratio][kind].last_returns for ratio in ratios], axis=1) for kind in KINDS
        }
        pictures.by_seed(axes[0], ratios, last, "updates per environment step", "last return")
        axes[0].set_xscale("log")
        for axis, (ratio, kinds) in zip(axes[1:], variants.items(), strict=True):
            curves = {
                kind: np.stack(list(variant.scores.values()), axis=1) for kind, variant in kinds.items()
            }
            steps = np.array(list(kinds["flow"].scores)) / ratio
            pictures.by_seed(axis, steps, curves, "environment steps", "return")
            axis.set_title(f"{ratio} updates per step")
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
    return ClaimResult(claim, claims.verdict(differences[ratios[-1]]["final"]["sign"]), evidence, draw)


if __name__ == "__main__":
    claims.launch(examine, UpdateToDataConfig(log_steps=4_000, steps=1_500))
