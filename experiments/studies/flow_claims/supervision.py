"""Claim: flow critics are good because their velocities are supervised.

    python -m experiments.studies.flow_claims.supervision --workdir=runs/claims/supervision

trains three critics of the same size: floq, floq whose field predicts the TD target itself at each
interpolant, and a plain critic. It compares their returns.

OUT of --workdir=OUT gets result.json, claim.png, and a folder for each critic. The same command continues
after an interruption.

Measured with this command (benchmarks/flow_claims_supervision.json): undecided. The last return is -167
(-180 to -159) with supervised velocities, -238 (-347 to -168) with supervised values, and -224 (-273 to -177)
with the plain critic.

Source: Agrawalla, Nauman, Kumar 2026, arXiv:2603.04333.
"""

from typing import Any

from experiments.studies.flow_claims import claims, pendulum, pictures
from experiments.studies.flow_claims.claims import ClaimConfig, ClaimResult
from experiments.studies.flow_claims.variants import FLOW, MONOLITHIC, compare, score, train_variant

CLAIM = "Supervision of the velocity gives better returns than supervision by the value"


def examine(config: ClaimConfig) -> ClaimResult:
    """Trains the three critics and compares the first two."""
    data = pendulum.record(config)
    variants = {
        "velocity": train_variant(config, data, "velocity", FLOW),
        "value": train_variant(config, data, "value", FLOW, {"agent.critic.supervision": "value"}),
        "monolithic": train_variant(config, data, "monolithic", MONOLITHIC),
    }
    scores = {name: score(variant) for name, variant in variants.items()}
    differences = {
        "velocity - value": compare(variants["velocity"], variants["value"]),
        "value - monolithic": compare(variants["value"], variants["monolithic"]),
    }

    def draw() -> Any:
        figure, (axis,) = pictures.panels(1, "Supervising a flow critic's velocity, or its value")
        pictures.scores(axis, scores)
        return figure

    verdict = claims.verdict(differences["velocity - value"]["final"]["sign"])
    return ClaimResult(CLAIM, verdict, {"scores": scores, "differences": differences}, draw)


if __name__ == "__main__":
    claims.launch(examine)
