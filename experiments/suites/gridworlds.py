"""Distributional dynamic programming with a network: D-eta-N in the gridworlds, and its baselines.

    python -m experiments.benchmark --suite=gridworlds --workdir=runs/gridworlds

hardware: two CPU cores, 3 GB of memory
expected: 1.5 hours; estimated from the header of valuelab/presets/eta_network.py
run: not run

Each command is scored by its own objective. So the scores of qr_dqn (the mean) and of greedy_cvar (one level
of CVaR) cannot be compared with those of eta_network: experiments.studies.risk.compare_risk scores all three
by one objective.
"""

from valuelab.benchmark import Job, Suite


def job(label: str, preset: str, world: str) -> Job:
    """A job in one of the gridworlds."""
    settings = {"environment": f"gridworld/{world}", "num_seeds": 5}
    return Job(label, f"eta_network:{preset}", settings=settings)


WORLDS = ("risk_averse", "risk_seeking", "target", "homeostasis", "satisficing")
SUITE = Suite(
    (
        *(job("eta_network", world, world) for world in WORLDS),
        *(job(baseline, baseline, "risk_averse") for baseline in ("qr_dqn", "greedy_cvar")),
    ),
    program="experiments.train",
)
