"""Claim: a flow critic learns faster if the embedding of the time does not drown that of z.

    python -m experiments.studies.flow_claims.embedding --workdir=runs/claims/embedding

trains flow critics in the grid maze that differ in how their field sees t and z: cos(t), or a Fourier vector
with several norms and highest frequencies; z as a histogram of several widths. A plain critic is the
reference. It compares the errors of Q, the greedy policies, and whether the fields use z: a blind ratio of 1
or more says that the field does not.

OUT of --workdir=OUT gets result.json, claim.png, and a folder for each critic. The same command continues
after an interruption.

Measured with this command and --num_seeds=3 (benchmarks/flow_claims_embedding.json): seen. The norm of the
Fourier vector matters most. With σ = 16 the error of Q, averaged over training, is 4.74 (4.47 to 5.00) with
norm 0.25, 5.10 (4.33 to 6.07) with norm 1, 6.08 (5.76 to 6.28) with norm 4, and 6.27 (5.64 to 6.99) with norm
5.66 and 64 periods. The plain critic has 4.47 (4.37 to 4.56).

Source: Agrawalla et al. 2025, arXiv:2509.06863, and its released code, which has cos(t).
"""

from typing import Any

from experiments.studies.flow_claims import claims, comparison
from experiments.studies.flow_claims.claims import Claim, ClaimConfig, ClaimResult
from experiments.studies.flow_claims.comparison import Contender

CLAIM = Claim(
    "A Fourier vector of norm 1 gives a smaller error of Q than one of norm 5.66 with 64 periods",
    {"error": "root mean square error to Q*, averaged over training, of norm 5.66 - of norm 1"},
)


def fourier(norm: float, fastest: float, bin_width: float) -> Contender:
    """A flow critic with a Fourier vector of the time."""
    return Contender(
        changes={
            "time_embedding": "fourier",
            "time_scale": norm,
            "time_fastest": fastest,
            "bin_width": bin_width,
        }
    )


def cosine(bin_width: float) -> Contender:
    """A flow critic that sees cos(t); with σ = 16 bins it is the field of the released code."""
    return Contender(changes={"time_embedding": "cosine", "bin_width": bin_width})


OLD, BEST, PLAIN = "norm 5.66, fastest 64, σ 16", "norm 1, fastest 2, σ 16", "plain critic"


def name(norm: float, fastest: float, bin_width: float) -> str:
    """The name of a flow critic with a Fourier vector of the time."""
    return f"norm {norm:g}, fastest {fastest:g}, σ {bin_width:g}"


CONTENDERS = (
    {name(norm, 2.0, 1.0): fourier(norm, 2.0, 1.0) for norm in (3.0, 1.0, 0.25)}
    | {name(1.0, 2.0, width): fourier(1.0, 2.0, width) for width in (2.0, 4.0)}
    | {f"cosine, σ {width:g}": cosine(width) for width in (2.0, 4.0, 16.0)}
    | {name(norm, 2.0, 16.0): fourier(norm, 2.0, 16.0) for norm in (0.25, 1.0, 4.0)}
    | {name(1.0, fastest, 16.0): fourier(1.0, fastest, 16.0) for fastest in (8.0, 64.0)}
    | {OLD: fourier(5.66, 64.0, 16.0), PLAIN: Contender("fql")}
)
PANELS = {
    "σ = 16 bins": [key for key in CONTENDERS if key.endswith("σ 16")] + [PLAIN],
    "σ of 1, 2 and 4 bins": [key for key in CONTENDERS if key[-3:] in ("σ 1", "σ 2", "σ 4")],
}


def examine(config: ClaimConfig) -> ClaimResult:
    """Trains all critics and compares them."""
    variants = comparison.train(config, CONTENDERS)
    summaries = comparison.summarize(variants, reference=OLD)
    comparison.show(summaries)

    def draw() -> Any:
        return comparison.draw_curves(summaries, PANELS, "How the field of a flow critic sees t and z")

    differences = {"error": comparison.difference(variants[OLD], variants[BEST])}
    return ClaimResult(differences, {"reference": OLD, "critics": summaries}, draw)


if __name__ == "__main__":
    claims.launch(CLAIM, examine, comparison.CONFIG)
