"""Claim: several steps of integration are what makes a flow critic good; and all other ablations, in a table.

    python -m experiments.studies.flow_claims.ablations --workdir=runs/claims/ablations

trains flow critics in the grid maze. Each differs from the first one in one setting: the number K of
integration steps, the number m of noise draws, the coverage of the noise, how the field sees z, expected or
distributional targets, supervision of the velocity or of the value, and a flow of one step that is trained at
t = 0 only. Two plain critics are references, one with the squared loss and one that classifies (HL-Gauss).
All have the same number of updates. An update costs about K m.

OUT of --workdir=OUT gets result.json, claim.png, and a folder for each critic. The same command continues
after an interruption.

Measured with --num_seeds=5 (benchmarks/flow_claims_ablations.json): shown. The error of Q, as a mean over
training, is 5.31 with four steps and 6.60 with one. The difference is 1.29 (0.60 to 2.00).

Source: the ablations of Agrawalla et al. 2025, arXiv:2509.06863, and 2026, arXiv:2603.04333.
"""

from typing import Any

from experiments.studies.flow_claims import claims, comparison
from experiments.studies.flow_claims.claims import Claim, ClaimConfig, ClaimResult
from experiments.studies.flow_claims.comparison import Contender

DEFAULT = "K 4, m 4, coverage 0.1, σ 2"


def changed(**changes: Any) -> Contender:
    """A flow critic that differs from the first one in these settings."""
    return Contender(changes={"bin_width": 2.0} | changes)


CONTENDERS = {
    DEFAULT: changed(),
    "plain critic": Contender("fql"),
    "plain critic that classifies": Contender("fql_hl_gauss"),
    "K 1": changed(num_steps=1),
    "K 8": changed(num_steps=8),
    "coverage 0.25": changed(coverage=0.25),
    "coverage 0.05": changed(coverage=0.05),
    "coverage 0.5": changed(coverage=0.5),
    "σ 16": changed(bin_width=16.0),
    "scalar z": changed(value_embedding="scalar"),
    "distributional targets": changed(target="distributional"),
    "value supervised": changed(supervision="value"),
    "one step, trained at t = 0": changed(times="zero", num_steps=1),
    "m 1": changed(num_draws=1),
    "K 2": changed(num_steps=2),
    "m 8": changed(num_draws=8),
    "σ 4": changed(bin_width=4.0),
    "K 16": changed(num_steps=16),
}
"""The most important ones come first."""

PANELS = {
    "steps and draws": ["K 1", "K 2", DEFAULT, "K 8", "K 16", "m 1", "m 8", "plain critic"],
    "noise and embedding of z": [
        "coverage 0.05",
        DEFAULT,
        "coverage 0.25",
        "coverage 0.5",
        "σ 4",
        "σ 16",
        "scalar z",
        "plain critic",
    ],
    "targets and losses": [
        DEFAULT,
        "distributional targets",
        "value supervised",
        "one step, trained at t = 0",
        "plain critic",
        "plain critic that classifies",
    ],
}

QUESTIONS = {
    "four steps have a smaller error than one": ("K 1", DEFAULT),
    "eight steps have a smaller error than four": (DEFAULT, "K 8"),
    "eight steps have a smaller error than sixteen": ("K 16", "K 8"),
    "coverage 0.1 has a smaller error than 0.05": ("coverage 0.05", DEFAULT),
    "coverage 0.25 has a smaller error than 0.1": (DEFAULT, "coverage 0.25"),
    "σ of two bins has a smaller error than of sixteen": ("σ 16", DEFAULT),
    "a histogram of z has a smaller error than a scalar": ("scalar z", DEFAULT),
    "expected targets have a smaller error than distributional ones": ("distributional targets", DEFAULT),
    "a supervised velocity has a smaller error than a supervised value": ("value supervised", DEFAULT),
    "a flow has a smaller error than one step trained at t = 0": ("one step, trained at t = 0", DEFAULT),
    "a flow critic has a smaller error than a plain critic": ("plain critic", DEFAULT),
}
"""Statement -> the critic whose error it calls larger, and the one whose error it calls smaller."""

CLAIM = Claim(
    "A flow critic of four steps has a smaller error of Q than one of a single step",
    {
        question: f"root mean square error to Q*, averaged over training, of {larger} - of {smaller}"
        for question, (larger, smaller) in QUESTIONS.items()
    },
)


def examine(config: ClaimConfig) -> ClaimResult:
    """Trains all critics and compares them."""
    variants = comparison.train(config, CONTENDERS)
    summaries = comparison.summarize(variants, reference=DEFAULT)
    differences = {
        question: comparison.difference(variants[larger], variants[smaller])
        for question, (larger, smaller) in QUESTIONS.items()
    }
    comparison.show(summaries)

    def draw() -> Any:
        return comparison.draw_curves(summaries, PANELS, "One setting of a flow critic changed at a time")

    return ClaimResult(differences, {"reference": DEFAULT, "critics": summaries}, draw)


if __name__ == "__main__":
    claims.launch(CLAIM, examine, comparison.CONFIG)
