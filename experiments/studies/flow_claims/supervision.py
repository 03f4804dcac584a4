"""Claim: what makes flow critics good is that velocities are supervised.

    python -m experiments.studies.flow_claims.supervision --workdir=runs/claims/supervision

trains floq, the same field trained to give the TD target itself at each interpolant, and a plain critic of
the same size, and compares their returns. With --workdir=OUT, OUT gets result.json and claim.png, and a
folder of each kind of critic. The same command again goes on where it was stopped.

Source: Agrawalla, Nauman, Kumar 2026, arXiv:2603.04333.
"""

from experiments.studies.flow_claims import pictures, trials
from experiments.studies.flow_claims.trials import FLOW, MONOLITHIC, ClaimConfig, Found

CLAIM = "Supervision of the velocity gives better returns than supervision by the value"


def examine(config: ClaimConfig) -> Found:
    """Trains the three and compares the first two; `trials.Found`."""
    task = trials.task(config)
    kinds = {
        "velocity": trials.learn(config, task, "velocity", FLOW),
        "value": trials.learn(config, task, "value", FLOW, {"agent.critic.supervision": "value"}),
        "monolithic": trials.learn(config, task, "monolithic", MONOLITHIC),
    }
    scores = {name: trials.score(trial) for name, trial in kinds.items()}
    differences = {
        "velocity - value": trials.compare(kinds["velocity"], kinds["value"]),
        "value - monolithic": trials.compare(kinds["value"], kinds["monolithic"]),
    }

    def draw():
        figure, (axis,) = pictures.panels(1, "What the field is trained to give")
        pictures.scores(axis, scores)
        return figure

    verdict = trials.verdict(differences["velocity - value"]["final"]["sign"])
    return Found(CLAIM, verdict, {"scores": scores, "differences": differences}, draw)


if __name__ == "__main__":
    trials.launch(examine)
