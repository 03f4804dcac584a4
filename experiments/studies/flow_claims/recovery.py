"""Claim: a flow critic forgets early errors of its integration, so its early velocities may be out of date.

    python -m experiments.studies.flow_claims.recovery --workdir=runs/claims/recovery

trains floq and a plain critic of the same size in the grid maze. It measures how much of an offset of z is
left at the end of the integration, and the rate c of the cone -c / (1 - t) that fits the slopes of the field.
It then replaces the first half of each trained critic by the state from a quarter of training: the first
integration steps of floq, and the first layers of the plain critic. It measures the exact value of the policy
that is greedy in the Q that results, and how much this Q differs.

OUT of --workdir=OUT gets result.json, claim.png, and a folder for each critic. The same command continues
after an interruption.

Measured with this command (benchmarks/flow_claims_recovery.json): shown, but the plain critic has more to
lose. With the first half stale, the value of the greedy policy falls from 0.33 to 0.13 in the flow critic and
from 0.50 to 0.14 in the plain critic. The plain critic loses 0.16 more (0.05 to 0.26). Q changes by about the
same share of what the old critic changes: 0.52 (0.51 to 0.55) and 0.55 (0.50 to 0.61). c is 0.28 (0.24 to
0.32).

Source: Agrawalla, Nauman, Kumar 2026, arXiv:2603.04333.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.studies.flow_claims import claims, grid_maze, pictures
from experiments.studies.flow_claims.claims import Claim, ClaimConfig, ClaimResult
from experiments.studies.flow_claims.grid_maze import GridMaze, MazeVariant
from experiments.studies.flow_claims.variants import KINDS
from valuelab.evaluation import statistics
from valuelab.ops.recovery import integrate_two_fields
from valuelab.types import Array, Critic, Estimates, Key, TrainState

CLAIM = Claim(
    "A flow critic loses less than a plain critic when its first half is stale",
    {
        "policy": "value of the greedy policy that is lost when the first half is stale, plain - flow",
        "q": "change of Q when the first half is stale, as a share of the change when all is, plain - flow",
    },
)
SHARES = (0.0, 0.5, 1.0)
"""Stale shares of a critic, counted from its first step or layer; 1 is the old critic."""


class StateMix(NamedTuple):
    """The two states of a critic that a partly stale critic is made of.

    Attributes:
        stale: the state from a quarter of training.
        fresh: the last state.
    """

    stale: TrainState
    fresh: TrainState


def stale_layers(stale: TrainState, fresh: TrainState, count: int) -> TrainState:
    """The fresh state of a plain critic with the first `count` hidden layers and norms of the stale state."""
    early = {f"{kind}_{index}" for kind in ("Dense", "LayerNorm") for index in range(count)}

    def choose(path: Any, old: Array, new: Array) -> Array:
        names = [part.key for part in path]
        return old if "MLP_0" in names and early & set(names) else new

    return fresh._replace(params=jax.tree_util.tree_map_with_path(choose, stale.params, fresh.params))


def partly_stale_q(critic: Critic, states: StateMix, share: float, depth: int, key: Key) -> Estimates:
    """Q of a critic whose first part is stale; of a flow critic the end of its flow, which is not distilled.

    Args:
        critic: a flow critic or a plain critic.
        states: its states.
        share: stale share of the K integration steps or of the layers, from the first, in [0, 1].
        depth: number of layers of a plain critic, the output layer among them.
        key: random key for the noise of a flow critic.
    """
    stale, fresh = states
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


def stale_q(maze: GridMaze, variant: MazeVariant, share: float) -> np.ndarray:
    """Q [M, J, S, A] of all seeds of a variant, with a stale share."""
    run = variant.trained.run
    critic, depth = run.critic({}), len(run.config.agent.critic.hidden_dims) + 1
    saved = [states.critic for states in variant.trained.states().values()]
    states = StateMix(stale=saved[max(len(saved) // 4, 1) - 1], fresh=saved[-1])

    def of_seed(states: StateMix) -> Array:
        return maze.q_of(partly_stale_q(critic, states, share, depth, jax.random.key(0)))

    return np.asarray(jax.jit(lambda states: jax.lax.map(of_seed, states))(states))


def examine(config: ClaimConfig) -> ClaimResult:
    """Trains both critics, makes a part of each stale, and compares the effects."""
    maze = grid_maze.make(config)
    variants = {
        kind: grid_maze.train(config, maze, kind, agent, grid_maze.CLAIMED[kind])
        for kind, agent in KINDS.items()
    }
    q = {
        kind: {share: stale_q(maze, variant, share) for share in SHARES} for kind, variant in variants.items()
    }

    def over_shares(kind: str, measure: Any) -> np.ndarray:
        return np.stack([measure(q[kind][share]) for share in SHARES], axis=1)

    def change(kind: str, share: float) -> np.ndarray:
        """Root mean square change of Q, [M]."""
        squares = np.square(q[kind][share] - q[kind][0.0])[..., ~maze.mdp.terminal, :]
        return np.sqrt(squares.mean((1, 2, 3)))

    values = {kind: over_shares(kind, maze.score) for kind in KINDS}
    errors = {kind: over_shares(kind, maze.error) for kind in KINDS}
    half = SHARES.index(0.5)
    lost = {kind: values[kind][:, 0] - values[kind][:, half] for kind in KINDS}
    changed = {kind: change(kind, 0.5) / change(kind, 1.0) for kind in KINDS}
    report = variants["flow"].trained.diagnose()[-1]["flow"]
    curve, rate = np.asarray(report["recovery"]), np.asarray(report["slope"]["conic_rate"])

    def draw() -> Any:
        figure, (left, middle, right) = pictures.panels(3, "Effect of early errors and of stale early parts")
        steps = np.arange(curve.shape[1])
        predicted = np.stack([cone(c, len(steps)) for c in rate])
        lines = {"measured offset of z": curve, "predicted by a cone with this c": predicted}
        pictures.by_seed(left, steps, lines, "step that the offset precedes", "share left at the end")
        left.set_title(f"c = {rate.mean():.2f}")
        percent = 100 * np.array(SHARES)
        pictures.by_seed(middle, percent, errors, "stale share, %", "error to Q*")
        pictures.by_seed(right, percent, values, "stale share, %", "value of the greedy policy")
        return figure

    def intervals(values: np.ndarray) -> list[dict[str, Any]]:
        """Means over seeds with intervals, of each column of [M, n]."""
        return [statistics.mean_interval(column[:, None]) for column in values.T]

    evidence = grid_maze.evidence(variants) | {
        "stale_shares": SHARES,
        "values": {kind: intervals(values[kind]) for kind in KINDS},
        "errors_to_optimal_q": {kind: intervals(errors[kind]) for kind in KINDS},
        "lost_value": {kind: statistics.mean_interval(lost[kind][:, None]) for kind in KINDS},
        "share_of_the_change": {kind: statistics.mean_interval(changed[kind][:, None]) for kind in KINDS},
        "recovery": intervals(curve),
        "conic_rate": statistics.mean_interval(rate[:, None]),
    }
    differences = {
        "policy": statistics.difference(lost["plain"], lost["flow"]),
        "q": statistics.difference(changed["plain"], changed["flow"]),
    }
    return ClaimResult(differences, evidence, draw)


def cone(rate: float, num_steps: int) -> np.ndarray:
    """Share left at the end, of an offset before Euler step k on the cone, [K]: |Π_{j≥k} (1 - c/(K-j))|."""
    factors = 1 - rate / (num_steps - np.arange(num_steps))
    return np.abs(np.cumprod(factors[::-1])[::-1])


if __name__ == "__main__":
    claims.launch(CLAIM, examine)
