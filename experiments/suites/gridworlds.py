"""Distributional dynamic programming by a network: D-eta-N in the gridworlds, and its baselines.

    python -m experiments.benchmark --suite=gridworlds --workdir=runs/gridworlds

hardware: two CPU cores, 3 GB of memory
expected: 1.5 hours; estimated from the header of valuelab/presets/eta_network.py
run: not run

Scores are of each command by its own objective, so those of qr_dqn (the mean) and greedy_cvar (one level of
CVaR) are not a ranking against eta_network's: experiments.studies.risk.compare_risk measures all three by
one objective.
"""

from valuelab.benchmark import Member, Suite


def member(label: str, preset: str, world: str) -> Member:
    """A member in one of the worlds."""
    settings = {"environment": f"gridworld/{world}", "num_seeds": 5}
    return Member(label, f"eta_network:{preset}", program="experiments.train", settings=settings)


WORLDS = ("risk_averse", "risk_seeking", "target", "homeostasis", "satisficing")
SUITE = Suite(
    (
        *(member("eta_network", world, world) for world in WORLDS),
        *(member(baseline, baseline, "risk_averse") for baseline in ("qr_dqn", "greedy_cvar")),
    )
)
