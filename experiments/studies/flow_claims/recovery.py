"""Claim: a flow critic forgets early errors of its integration, so its early velocities may be out of date.

    python -m experiments.studies.flow_claims.recovery --workdir=runs/claims/recovery

trains floq and a plain critic of the same depth. It measures how much of an offset of z is left at the end of
the integration, and the rate c of the cone -c / (1 - t) that fits the slopes of the field. It then replaces
the first part of each trained critic by the state from the middle of training: the first integration steps
of floq, and the first layers of the plain critic. It measures how much Q changes, and the return of choosing
the best of some cloned actions by that Q.

OUT of --workdir=OUT gets result.json, claim.png, and a folder for each critic. The same command continues
after an interruption.

Measured with this command (benchmarks/flow_claims_recovery.json): seen for Q, undecided for returns. c is
0.77 (0.76 to 0.78). Replacing all of a critic by its old state changes Q by 100 %. Then replacing the first
half changes Q by 14 % (13 to 16) in the flow critic, and by 99 % (80 to 120) in the plain critic.

Source: Agrawalla, Nauman, Kumar 2026, arXiv:2603.04333.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.studies.flow_claims import claims, pendulum, pictures
from experiments.studies.flow_claims.claims import ClaimConfig, ClaimResult
from experiments.studies.flow_claims.variants import (
    FLOW,
    MONOLITHIC,
    TrainedVariant,
    score,
    train_variant,
)
from valuelab import environments
from valuelab.agents.actor_critic import ActorCriticState
from valuelab.agents.normalized import normalized
from valuelab.evaluation import rollout, statistics
from valuelab.ops.recovery import integrate_two_fields
from valuelab.policies.best_of_flow import BestOfFlowConfig, best_of_flow
from valuelab.types import Array, Critic, Estimates, Key, TrainState

CLAIM = "A flow critic loses less return than a plain critic when its first half is stale"
SHARES = (0.0, 0.25, 0.5, 1.0)
"""Stale shares of a critic, counted from its first step or layer; 1 is the old critic."""
_CANDIDATES, _ROWS = 16, 1024


class StateMix(NamedTuple):
    """The two states of an agent that a partly stale critic is made of.

    Attributes:
        stale: the state from the middle of training.
        fresh: the last state, whose policy proposes actions.
    """

    stale: ActorCriticState
    fresh: ActorCriticState


def stale_layers(stale: TrainState, fresh: TrainState, count: int) -> TrainState:
    """The fresh state of a plain critic with the first `count` hidden layers and norms of the stale state."""
    early = {f"{kind}_{index}" for kind in ("Dense", "LayerNorm") for index in range(count)}

    def choose(path: Any, old: Array, new: Array) -> Array:
        names = [part.key for part in path]
        return old if "MLP_0" in names and early & set(names) else new

    return fresh._replace(params=jax.tree_util.tree_map_with_path(choose, stale.params, fresh.params))


def partly_stale_q(critic: Critic, states: StateMix, share: float, depth: int, key: Key) -> Estimates:
    """Q of a critic whose first part is stale.

    Args:
        critic: a flow critic or a plain critic.
        states: the states of its agent.
        share: stale share of the K integration steps or of the hidden layers, from the first, in [0, 1].
        depth: number of hidden layers of a plain critic.
        key: random key for the noise of a flow critic.
    """
    stale, fresh = states.stale.critic, states.fresh.critic
    flow = critic.diagnostics and critic.diagnostics.flow
    if flow is None:
        return critic.estimates(stale if share == 1 else stale_layers(stale, fresh, round(share * depth)))

    def q(observations: Array, actions: Array) -> Array:
        early, late = (flow.velocity(state, observations, actions) for state in (stale, fresh))
        start = flow.start(key, len(actions))
        ends = integrate_two_fields(
            early, late, start, flow.num_steps, round(share * flow.num_steps), flow.solver
        )
        return jnp.mean(ends, axis=(0, 2))

    return Estimates(q=q)


def effect_of_stale_share(
    variant: TrainedVariant, states: StateMix, share: float
) -> tuple[np.ndarray, np.ndarray]:
    """Measures how a stale share changes the returns and the Q of all M seeds.

    Args:
        variant: a flow critic or a plain critic, with FQL's policy.
        states: of all seeds, leaves [M, ...].
        share: stale share of the critic, in [0, 1].

    Returns:
        The return of choosing the best of some cloned actions, [M]; and the root mean square change of Q over
        rows of the log, in units of the standard deviation of Q, [M].
    """
    config = variant.run.config.agent
    episodes = variant.run.config.eval_episodes
    critic, depth = variant.run.critic({}), len(config.critic.hidden_dims)
    cloning = BestOfFlowConfig(
        hidden_dims=config.policy.hidden_dims,
        activation=config.policy.activation,
        num_steps=config.policy.num_steps,
        num_candidates=_CANDIDATES,
    )
    best = best_of_flow(cloning, variant.run.spec)
    batch = variant.run.batch(variant.run.draw(_ROWS, seed=0))

    def act(states: StateMix, observations: Array, key: Key, temperature: Array | float) -> Array:
        clone = states.fresh.policy._replace(params=states.fresh.policy.params["field"])
        estimates = partly_stale_q(critic, states, share, depth, key)
        return best.sample(clone, observations, key, temperature, estimates)

    def change(states: StateMix) -> Array:
        fresh_q, mixed_q = (
            partly_stale_q(critic, states, part, depth, jax.random.key(0)).q(
                batch.observations, batch.actions
            )
            for part in (0.0, share)
        )
        return jnp.sqrt(jnp.mean(jnp.square(mixed_q - fresh_q))) / jnp.std(fresh_q)

    agent = normalized(variant.run.build({})._replace(act=act), variant.run.normalization)
    played = rollout.evaluate(
        agent, states, environments.make(pendulum.ENVIRONMENT), episodes=episodes, temperature=1.0
    )
    changes = jax.jit(lambda states: jax.lax.map(change, states))(states)
    return played.returns.mean((1, 2)), np.asarray(changes)


def examine(config: ClaimConfig) -> ClaimResult:
    """Trains both critics, makes a part of each stale, and compares the effects."""
    data = pendulum.record(config)
    variants = {
        "flow": train_variant(config, data, "flow", FLOW),
        "monolithic": train_variant(config, data, "monolithic", MONOLITHIC),
    }
    effects = {}
    for name, variant in variants.items():
        saved = list(variant.states().values())
        states = StateMix(stale=saved[len(saved) // 2 - 1], fresh=saved[-1])
        effects[name] = [effect_of_stale_share(variant, states, share) for share in SHARES]
    returns = {name: np.stack([part[0] for part in parts], axis=1) for name, parts in effects.items()}
    changes = {name: np.stack([part[1] for part in parts], axis=1) for name, parts in effects.items()}
    lost = {name: values[:, :1] - values for name, values in returns.items()}
    more_lost = {
        f"{SHARES[index]:g}": statistics.difference(lost["monolithic"][:, index], lost["flow"][:, index])
        for index in (1, 2)
    }
    half = SHARES.index(0.5)
    share_of_change = {name: values[:, half] / values[:, -1] for name, values in changes.items()}
    more_change = statistics.difference(share_of_change["monolithic"], share_of_change["flow"])
    report = variants["flow"].diagnose()[-1]["flow"]
    curve, rate = np.asarray(report["recovery"]), np.asarray(report["slope"]["conic_rate"])
    steps = np.arange(curve.shape[1])

    def draw() -> Any:
        figure, (left, middle, right) = pictures.panels(3, "Effect of early errors and of stale early parts")
        predicted = np.stack([cone(c, len(steps)) for c in rate])
        lines = {"measured offset of z": curve, "predicted by a cone with this c": predicted}
        pictures.by_seed(left, steps, lines, "step that the offset precedes", "share left at the end")
        left.set_title(f"c = {rate.mean():.2f}")
        percent = 100 * np.array(SHARES)
        pictures.by_seed(middle, percent, changes, "stale share, %", "change of Q / standard deviation of Q")
        pictures.by_seed(right, percent, returns, "stale share, %", "return of the best cloned action")
        return figure

    def intervals(values: np.ndarray) -> list[dict[str, Any]]:
        """Means over seeds with intervals, of each column of [M, n]."""
        return [statistics.mean_interval(column[:, None]) for column in values.T]

    verdict = claims.verdict(more_lost["0.5"]["sign"])
    evidence = {
        "scores": {name: score(variant) for name, variant in variants.items()},
        "stale_shares": SHARES,
        "returns": {name: intervals(values) for name, values in returns.items()},
        "changes_of_q": {name: intervals(values) for name, values in changes.items()},
        "lost_by_monolithic_beyond_flow": more_lost,
        "share_of_the_old_critic_s_change_at_0.5": {
            name: statistics.mean_interval(shares[:, None]) for name, shares in share_of_change.items()
        },
        "share_for_monolithic_beyond_flow": more_change,
        "verdicts": {
            "half of it stale, the plain critic loses more return": verdict,
            "half of it stale, more of the plain critic's Q is stale": claims.verdict(more_change["sign"]),
        },
        "recovery": intervals(curve),
        "conic_rate": statistics.mean_interval(rate[:, None]),
    }
    return ClaimResult(CLAIM, verdict, evidence, draw)


def cone(rate: float, num_steps: int) -> np.ndarray:
    """Share left at the end, of an offset before Euler step k on the cone, [K]: |Π_{j≥k} (1 - c/(K-j))|."""
    factors = 1 - rate / (num_steps - np.arange(num_steps))
    return np.abs(np.cumprod(factors[::-1])[::-1])


if __name__ == "__main__":
    claims.launch(examine)
