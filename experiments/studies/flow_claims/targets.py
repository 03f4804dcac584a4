"""Claim: expected targets give a flow critic better returns than distributional targets.

    python -m experiments.studies.flow_claims.targets --workdir=runs/claims/targets

trains floq, whose targets are means over the draws of noise, and `floq_distributional`, in which each draw
bootstraps from the end of its own flow. It compares their returns, and the spread of the ends of their flows.

OUT of --workdir=OUT gets result.json, claim.png, and a folder for each critic. The same command continues
after an interruption.

Measured with this command (benchmarks/flow_claims_targets.json): undecided. The last return is -167
(-180 to -159) with expected targets and -166 (-173 to -161) with distributional ones.

Source: Agrawalla, Nauman, Kumar 2026, arXiv:2603.04333.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.studies.flow_claims import claims, pendulum, pictures
from experiments.studies.flow_claims.claims import ClaimConfig, ClaimResult
from experiments.studies.flow_claims.variants import FLOW, TrainedVariant, compare, score, train_variant
from valuelab.evaluation import statistics
from valuelab.ops.flow import integrate

CLAIM = "A flow critic with expected targets gives better returns than one with distributional targets"
_ROWS = 1024


def spread(variant: TrainedVariant) -> np.ndarray:
    """Standard deviation over draws of the ends z(1), averaged over rows of the log, for each seed [M]."""
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


def examine(config: ClaimConfig) -> ClaimResult:
    """Trains both critics and compares them."""
    data = pendulum.record(config)
    variants = {
        "expected": train_variant(config, data, "expected", FLOW),
        "distributional": train_variant(config, data, "distributional", "floq_distributional"),
    }
    scores = {name: score(variant) for name, variant in variants.items()}
    spreads = {name: statistics.mean_interval(spread(variant)[:, None]) for name, variant in variants.items()}
    difference = compare(variants["expected"], variants["distributional"])

    def draw() -> Any:
        figure, (left, right) = pictures.panels(2, "Expected and distributional targets of a flow critic")
        pictures.scores(left, scores)
        means = [spreads[name]["mean"] for name in variants]
        right.bar(list(variants), means, color=pictures.COLOURS[:2])
        right.set(ylabel="standard deviation of the ends of a flow")
        return figure

    evidence = {"scores": scores, "expected - distributional": difference, "spread_of_ends": spreads}
    return ClaimResult(CLAIM, claims.verdict(difference["final"]["sign"]), evidence, draw)


if __name__ == "__main__":
    claims.launch(examine)
