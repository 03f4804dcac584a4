"""Claim: flow critics are not distributional RL; expected targets do better than distributional ones.

    python -m experiments.studies.flow_claims.targets --workdir=runs/claims/targets

trains floq, and floq whose noise draws each bootstrap from their own end, and compares their returns; and it
tells how far the ends of a flow lie apart, against how far returns from the same state and action do. With
--workdir=OUT, OUT gets result.json and claim.png, and a folder of each kind of critic. The same command again
goes on where it was stopped.

Source: Agrawalla, Nauman, Kumar 2026, arXiv:2603.04333.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.studies.flow_claims import pictures, trials
from experiments.studies.flow_claims.trials import FLOW, ClaimConfig, Found, Trial
from valuelab.evaluation import statistics
from valuelab.ops.flow import integrate

CLAIM = "A flow critic with expected targets gives better returns than one with distributional targets"
_ROWS = 1024


def spread(trial: Trial) -> np.ndarray:
    """Standard deviation of the ends z(1) of the draws of a pair, a mean over pairs, for each seed [M]."""
    batch = trial.run.batch(trial.run.draw(_ROWS, seed=0))
    critic = trial.run.critic({})
    assert critic.flow is not None
    flow = critic.flow

    def of_member(state: Any) -> jax.Array:
        start = flow.start(jax.random.key(0), len(batch.actions))
        velocity = flow.velocity(state.critic, batch.observations, batch.actions)
        ends = integrate(velocity, start, flow.num_steps, flow.solver)
        return jnp.mean(jnp.std(ends, axis=2))

    *_, states = trial.states().values()
    return np.asarray(jax.jit(lambda states: jax.lax.map(of_member, states))(states))


def examine(config: ClaimConfig) -> Found:
    """Trains both and compares them; `trials.Found`."""
    task = trials.task(config)
    kinds = {
        "expected": trials.learn(config, task, "expected", FLOW),
        "distributional": trials.learn(config, task, "distributional", "floq_distributional"),
    }
    scores = {name: trials.score(trial) for name, trial in kinds.items()}
    spreads = {name: statistics.mean_interval(spread(trial)[:, None]) for name, trial in kinds.items()}
    difference = trials.compare(*kinds.values())

    def draw():
        figure, (axis, beside) = pictures.panels(2, "What the draws of a flow critic bootstrap from")
        pictures.scores(axis, scores)
        means = [spreads[name]["mean"] for name in kinds]
        beside.bar(list(kinds), means, color=pictures.COLOURS[:2])
        beside.set(ylabel="standard deviation of the ends of a flow")
        return figure

    evidence = {"scores": scores, "expected - distributional": difference, "spread_of_ends": spreads}
    return Found(CLAIM, trials.verdict(difference["final"]["sign"]), evidence, draw)


if __name__ == "__main__":
    trials.launch(examine)
