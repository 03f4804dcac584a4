"""Claim: a flow critic learns faster if the embedding of the time does not drown that of z.

    python -m experiments.studies.flow_claims.embedding --workdir=runs/claims/embedding

trains flow critics in the grid maze that differ in how their field sees t and z: cos(t), or a Fourier vector
with several norms and highest frequencies; z as a histogram of several widths. A plain critic is the
reference. It compares the errors of Q, the greedy policies, and whether the fields use z: a blind ratio of 1
or more says that the field does not.

OUT of --workdir=OUT gets result.json, claim.png, and a folder for each critic. The same command continues
after an interruption.

Source: Agrawalla et al. 2025, arXiv:2509.06863, and its released code, which has cos(t).
"""

from typing import Any

from experiments.studies.flow_claims import claims, comparison
from experiments.studies.flow_claims.claims import ClaimConfig, ClaimResult
from experiments.studies.flow_claims.comparison import Contender

CLAIM = "A Fourier vector of norm 1 gives a smaller error of Q than one of norm 5.66 with 64 periods"


def fourier(norm: float, fastest: float, bin_width: float = 16.0) -> Contender:
    """A flow critic with a Fourier vector of the time."""
    return Contender(
        changes={
            "time_embedding": "fourier",
            "time_scale": norm,
            "time_fastest": fastest,
            "bin_width": bin_width,
        }
    )


def cosine(bin_width: float = 16.0) -> Contender:
    """A flow critic that sees cos(t), as in the released code with σ = 16 bins."""
    return Contender(changes={"time_embedding": "cosine", "bin_width": bin_width})


OLD, SCALED = "Fourier, norm 5.66, fastest 64", "Fourier, norm 1, fastest 2"
CONTENDERS = {
    "cosine": cosine(),
    OLD: fourier(5.66, 64.0),
    SCALED: fourier(1.0, 2.0),
    "Fourier 1, 2, σ 4": fourier(1.0, 2.0, 4.0),
    "cosine, σ 4": cosine(4.0),
    "plain critic": Contender("fql"),
    "Fourier 1, 2, σ 2": fourier(1.0, 2.0, 2.0),
    "cosine, σ 2": cosine(2.0),
    "Fourier, norm 1, fastest 8": fourier(1.0, 8.0),
    "Fourier, norm 1, fastest 64": fourier(1.0, 64.0),
    "Fourier, norm 0.25, fastest 2": fourier(0.25, 2.0),
    "Fourier, norm 4, fastest 2": fourier(4.0, 2.0),
}
PANELS = {
    "embedding of t": [
        "cosine",
        OLD,
        "Fourier, norm 1, fastest 64",
        "Fourier, norm 1, fastest 8",
        SCALED,
        "Fourier, norm 0.25, fastest 2",
        "Fourier, norm 4, fastest 2",
        "plain critic",
    ],
    "embedding of z": [
        "cosine",
        SCALED,
        "Fourier 1, 2, σ 4",
        "Fourier 1, 2, σ 2",
        "cosine, σ 4",
        "cosine, σ 2",
        "plain critic",
    ],
}


def examine(config: ClaimConfig) -> ClaimResult:
    """Trains all critics and compares them."""
    summaries = comparison.summarize(comparison.train(config, CONTENDERS), reference=OLD)
    comparison.show(summaries)

    def draw() -> Any:
        return comparison.draw_curves(summaries, PANELS, "How the field of a flow critic sees t and z")

    verdict = claims.verdict(-summaries[SCALED]["beyond_reference"]["error"]["sign"])
    return ClaimResult(CLAIM, verdict, {"reference": OLD, "critics": summaries}, draw)


if __name__ == "__main__":
    claims.launch(examine, comparison.CONFIG)
