"""Claim: a flow critic forgets early errors of its integration, and needs no up-to-date field there.

    python -m experiments.studies.flow_claims.recovery --workdir=runs/claims/recovery

trains floq and a plain critic of the same depth. It then follows what is left of an offset of z, measures the
c of the cone -c / (1 - t) that the slopes of the field lie on, and operates on both: the first part of floq's
integration is made by its field of half of training, the first layers of the plain critic are those of half
of training. What is then left of Q is told by the return of the best of some cloned actions. With
--workdir=OUT, OUT gets result.json and claim.png, and a folder of each kind of critic. The same command again
goes on where it was stopped.

Source: Agrawalla, Nauman, Kumar 2026, arXiv:2603.04333.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.studies.flow_claims import pictures, trials
from experiments.studies.flow_claims.trials import FLOW, MONOLITHIC, ClaimConfig, Found, Trial
from valuelab import environments
from valuelab.agents.actor_critic import ActorCriticState
from valuelab.agents.normalized import normalized
from valuelab.evaluation import rollout, statistics
from valuelab.ops.recovery import integrate_two_fields
from valuelab.policies.best_of_flow import BestOfFlowConfig, best_of_flow
from valuelab.types import Array, Critic, Estimates, Key, TrainState

CLAIM = "A flow critic stands a stale first half better than a plain critic does"
SHARES = (0.0, 0.25, 0.5, 1.0)
"""Of the critic that is stale, from its beginning; 1 is the old critic."""
_CANDIDATES, _ROWS = 16, 1024


class Operated(NamedTuple):
    """What an operated critic is made of.

    Attributes:
        stale: an agent's state, early in training.
        fresh: its last state, whose policy proposes actions.
    """

    stale: ActorCriticState
    fresh: ActorCriticState


def stale_layers(stale: TrainState, fresh: TrainState, count: int) -> TrainState:
    """The fresh state of a plain critic, with the stale one's first hidden layers and their norms."""
    early = {f"{kind}_{index}" for kind in ("Dense", "LayerNorm") for index in range(count)}

    def choose(path: Any, old: Array, new: Array) -> Array:
        names = [part.key for part in path]
        return old if "MLP_0" in names and early & set(names) else new

    return fresh._replace(params=jax.tree_util.tree_map_with_path(choose, stale.params, fresh.params))


def operated_q(critic: Critic, states: Operated, share: float, depth: int, key: Key) -> Estimates:
    """Q of a critic of which a share is stale.

    Args:
        critic: a flow critic, or a plain one.
        states: its states.
        share: of the K steps, or of the hidden layers, from the first.
        depth: hidden layers of a plain critic.
        key: of the noise of a flow critic.
    """
    stale, fresh = states.stale.critic, states.fresh.critic
    if critic.flow is None:
        return critic.estimates(stale if share == 1 else stale_layers(stale, fresh, round(share * depth)))
    flow = critic.flow

    def q(observations: Array, actions: Array) -> Array:
        early, late = (flow.velocity(state, observations, actions) for state in (stale, fresh))
        start = flow.start(key, len(actions))
        ends = integrate_two_fields(
            early, late, start, flow.num_steps, round(share * flow.num_steps), flow.solver
        )
        return jnp.mean(ends, axis=(0, 2))

    return Estimates(q)


def operate(trial: Trial, states: Operated, share: float, episodes: int) -> tuple[np.ndarray, np.ndarray]:
    """What a stale share does to the trained critics of all seeds.

    Args:
        trial: a flow critic or a plain one, with FQL's policy.
        states: of all its seeds, leaves [M, ...].
        share: of it that is stale.
        episodes: that each seed plays.

    Returns:
        Returns [M] of the best of some cloned actions, and [M] the root mean square change of Q in units of
        its standard deviation, over rows of the log.
    """
    config = trial.run.config.agent
    critic, depth = trial.run.critic({}), len(config.critic.hidden_dims)
    cloning = BestOfFlowConfig(
        hidden_dims=config.policy.hidden_dims,
        activation=config.policy.activation,
        num_steps=config.policy.num_steps,
        num_candidates=_CANDIDATES,
    )
    best = best_of_flow(cloning, trial.run.spec)
    batch = trial.run.batch(trial.run.draw(_ROWS, seed=0))

    def act(states: Operated, observations: Array, key: Key, temperature: Array | float) -> Array:
        clone = states.fresh.policy._replace(params=states.fresh.policy.params["field"])
        estimates = operated_q(critic, states, share, depth, key)
        return best.sample(clone, observations, key, temperature, estimates)

    def change(states: Operated) -> Array:
        whole, operated = (
            operated_q(critic, states, part, depth, jax.random.key(0)).q(batch.observations, batch.actions)
            for part in (0.0, share)
        )
        return jnp.sqrt(jnp.mean(jnp.square(operated - whole))) / jnp.std(whole)

    agent = normalized(trial.run.build({})._replace(act=act), trial.run.normalization)
    played = rollout.evaluate(
        agent, states, environments.make(trials.ENVIRONMENT), episodes=episodes, temperature=1.0
    )
    changes = jax.jit(lambda states: jax.lax.map(change, states))(states)
    return played.returns.mean((1, 2)), np.asarray(changes)


def examine(config: ClaimConfig) -> Found:
    """Trains both and operates on them; `trials.Found`."""
    task = trials.task(config)
    kinds = {
        "flow": trials.learn(config, task, "flow", FLOW),
        "monolithic": trials.learn(config, task, "monolithic", MONOLITHIC),
    }
    operated = {}
    for name, trial in kinds.items():
        saved = list(trial.states().values())
        states = Operated(saved[len(saved) // 2 - 1], saved[-1])
        operated[name] = [operate(trial, states, share, trials.SIZE["eval_episodes"]) for share in SHARES]
    returns = {name: np.stack([part[0] for part in parts], axis=1) for name, parts in operated.items()}
    changes = {name: np.stack([part[1] for part in parts], axis=1) for name, parts in operated.items()}
    lost = {name: values[:, :1] - values for name, values in returns.items()}
    more = [
        statistics.difference(*(lost[name][:, index] for name in ("monolithic", "flow"))) for index in (1, 2)
    ]
    half = SHARES.index(0.5)
    kept = {name: values[:, half] / values[:, -1] for name, values in changes.items()}
    stays = statistics.difference(kept["monolithic"], kept["flow"])
    flow = kinds["flow"].look()[-1]["flow"]
    curve, rate = np.asarray(flow["recovery"]), np.asarray(flow["slope"]["conic_rate"])
    steps = np.arange(curve.shape[1])

    def draw():
        figure, (left, middle, right) = pictures.panels(3, "What a critic makes of early errors")
        foretold = np.stack([cone(c, len(steps)) for c in rate])
        lines = {"an offset of z": curve, "as the cone of this c foretells": foretold}
        pictures.by_seed(left, steps, lines, "before step", "share left at the end")
        left.set_title(f"c = {rate.mean():.2f}")
        percent = 100 * np.array(SHARES)
        pictures.by_seed(middle, percent, changes, "stale share, %", "change of Q / its deviation")
        pictures.by_seed(right, percent, returns, "stale share, %", "return of the best cloned action")
        return figure

    def told(values: np.ndarray) -> list[dict[str, Any]]:
        return [statistics.mean_interval(column[:, None]) for column in values.T]

    evidence = {
        "scores": {name: trials.score(trial) for name, trial in kinds.items()},
        "stale_shares": SHARES,
        "returns": {name: told(values) for name, values in returns.items()},
        "changes_of_q": {name: told(values) for name, values in changes.items()},
        "lost_by_monolithic_beyond_flow": dict(zip(("0.25", "0.5"), more, strict=True)),
        "share_of_the_old_critic_s_change_at_0.5": {
            name: statistics.mean_interval(shares[:, None]) for name, shares in kept.items()
        },
        "share_for_monolithic_beyond_flow": stays,
        "verdicts": {
            "half of it stale, the plain critic loses more return": trials.verdict(more[1]["sign"]),
            "half of it stale, more of the plain critic's Q is stale": trials.verdict(stays["sign"]),
        },
        "recovery": told(curve),
        "conic_rate": statistics.mean_interval(rate[:, None]),
    }
    return Found(CLAIM, trials.verdict(more[1]["sign"]), evidence, draw)


def cone(rate: float, num_steps: int) -> np.ndarray:
    """What Euler steps on the cone leave of an offset before step k, [K]: |Π_{j ≥ k} (1 - c / (K - j))|."""
    factors = 1 - rate / (num_steps - np.arange(num_steps))
    return np.abs(np.cumprod(factors[::-1])[::-1])


if __name__ == "__main__":
    trials.launch(examine)
