"""The stage of the claims: a grid maze whose Q* and whose values of policies are known exactly.

An agent walks through 73 cells to the goal. It sees its coordinates in [-1, 1] at a random place inside its
cell. With probability 0.1 a random action replaces its own. Every step gives reward -1; the step that reaches
the goal gives 0 and ends the episode. γ = 0.98, so Q* lies between -34 and 0, in a range of values of 50.
The data are transitions from uniformly random cells and actions. The policy is greedy in the critic's own q,
so only the critic learns.

    maze = grid_maze.make(config)
    variant = grid_maze.train(config, maze, "flow", "floq", {"agent.critic.num_steps": 8})
    variant.q               # update -> q of all seeds [M, J, S, A], at each evaluation
    variant.errors          # update -> root mean square errors of q to Q*, [M]
    variant.trained.scores  # update -> values of the greedy policies, [M]: 0 random policy, 1 optimal policy
    variant.blind_ratios    # update -> field losses over those of a field that ignores z, [M]; {} if no flow
    variant.trained.states()  # update -> the states of the agents

`variants.score` and `variants.compare` take `variant.trained`. S states are the cells, the goal among them;
A = 4; J fixed places in each cell. `maze.q_of(estimates)` gives q [J, S, A] of any other estimates, such as
those of a partly stale critic, and `maze.error(q)` and `maze.score(q)` judge it.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.studies.flow_claims import pictures
from experiments.studies.flow_claims.claims import ClaimConfig
from experiments.studies.flow_claims.variants import TrainedVariant, score, train_variant
from valuelab.agents.actor_critic import actor_critic
from valuelab.agents.composed import critic_of
from valuelab.configuration import RunConfig
from valuelab.data import normalization as normalizations
from valuelab.data import sampling
from valuelab.distributional import gridworlds
from valuelab.distributional.gridworlds import CellOutcome
from valuelab.distributional.mdps import MDP
from valuelab.evaluation import statistics
from valuelab.training import logs
from valuelab.training.experience import Experience, offline
from valuelab.types import (
    Agent,
    Array,
    Critic,
    Dataset,
    Estimates,
    Key,
    MakeAgent,
    Metrics,
    Normalization,
    Policy,
    Spec,
    TrainState,
    Transitions,
)

MAP = (
    "#############",
    "#S....#.....#",
    "#.###.#.###.#",
    "#.....#.....#",
    "#.#####.###.#",
    "#...#...#...#",
    "###.#####.#.#",
    "#.#.#.....#.#",
    "#.#.#.#####.#",
    "#...#.#.....#",
    "#.###.#.#####",
    "#.....#....G#",
    "#############",
)
"""A spanning tree of 6 x 6 rooms with two more openings; "S" is the cell farthest from the goal "G"."""
ACTIONS = ("up", "right", "down", "left")
SLIP, DISCOUNT = 0.1, 0.98
_PLACES = 4
"""J, the number of fixed places in each cell where critics are evaluated."""
SETTINGS: dict[str, Any] = {
    "dataset": "grid_maze",
    "environment": "",
    "batch_size": 64,
    "agent.critic.hidden_dims": (64, 64, 64),
    "agent.critic.block_depth": 0,
    "agent.critic.ensemble_size": 1,
    "agent.critic.num_draws": 4,
    "agent.critic.num_steps": 4,
    "agent.critic.next_actions": "shared",  # the greedy policy is deterministic
    "agent.critic.time_embedding": "fourier",
    "agent.critic.time_scale": 1.0,
    "agent.critic.time_fastest": 2.0,
    "agent.critic.discount": DISCOUNT,
    "agent.critic.learning_rate": 1e-3,
    "agent.critic.target_rate": 0.05,
}
"""The settings of all critics in the maze. An agent without one of these fields keeps its other settings."""
CLAIMED: dict[str, dict[str, Any]] = {"flow": {"agent.critic.bin_width": 16.0}, "plain": {}}
"""Further settings of the two kinds of critics in the claims: floq has its published σ."""


class GridMaze(NamedTuple):
    """The maze, the data, and the exact solution.

    Attributes:
        mdp: the MDP.
        cells: [S, 2], row and column of each state.
        optimal_q: Q*, [S, A].
        start_values: [2], the mean values over all cells of the random and of the optimal policy.
        places: [J, S, 2], observations at the fixed places of each cell.
        dataset: the transitions.
        normalization: the identity.
        spec: of the data, with the number of updates of the test.
    """

    mdp: MDP
    cells: np.ndarray
    optimal_q: np.ndarray
    start_values: np.ndarray
    places: np.ndarray
    dataset: Dataset
    normalization: Normalization
    spec: Spec

    def offline(self, batch_size: int) -> Experience:
        """Batches from the transitions."""
        return offline(sampling.transitions(self.dataset, batch_size))

    def q_of(self, estimates: Estimates) -> Array:
        """Estimates of Q at the fixed places, [J, S, A]; to be called inside jit."""
        shape = (*self.places.shape[:2], len(ACTIONS))
        observations = np.broadcast_to(self.places[:, :, None], (*shape, 2)).reshape(-1, 2)
        actions = np.broadcast_to(np.arange(len(ACTIONS), dtype=np.int32), shape).reshape(-1)
        return estimates.q(jnp.asarray(observations), jnp.asarray(actions)).reshape(shape)

    def error(self, q: np.ndarray) -> np.ndarray:
        """Root mean square errors [...] of q [..., J, S, A] to Q*, over places, cells and actions."""
        squares = np.square(np.asarray(q, np.float64) - self.optimal_q)[..., ~self.mdp.terminal, :]
        return np.sqrt(squares.mean((-3, -2, -1)))

    def score(self, q: np.ndarray) -> np.ndarray:
        """Scores [...] of the greedy policies of q [..., J, S, A]: 0 random policy, 1 optimal policy.

        The agent arrives at a random place of a cell. So its policy in a cell takes each action in the share
        of places where it is the greedy one. The value of the policy is the exact solution of Bellman's
        equation, averaged over all cells but the goal. The score is linear in it.
        """
        policies = np.eye(len(ACTIONS))[np.argmax(q, axis=-1)].mean(-3)
        values = policy_values(self.mdp, policies)[..., ~self.mdp.terminal].mean(-1)
        random, optimal = self.start_values
        return (values - random) / (optimal - random)


def backup(mdp: MDP, values: np.ndarray) -> np.ndarray:
    """The expected return [S, A] of an action, with the values [S] after it."""
    outcomes = mdp.rewards[..., 0] + DISCOUNT * values[mdp.next_states]
    return (mdp.probabilities * outcomes).sum(-1)


def policy_values(mdp: MDP, policies: np.ndarray) -> np.ndarray:
    """The exact values [..., S] of policies [..., S, A], the solution of V = r_π + γ P_π V."""
    states, actions = np.indices(mdp.next_states.shape)[:2]
    dense = np.zeros((mdp.num_states, mdp.num_actions, mdp.num_states))
    np.add.at(dense, (states, actions, mdp.next_states), mdp.probabilities)
    rewards = np.einsum("...sa,sa->...s", policies, backup(mdp, np.zeros(mdp.num_states)))
    moves = np.einsum("...sa,sat->...st", policies, dense)
    return np.linalg.solve(np.eye(mdp.num_states) - DISCOUNT * moves, rewards[..., None])[..., 0]


def solve(mdp: MDP) -> np.ndarray:
    """Q* [S, A] by value iteration, until a sweep changes nothing in float64 beyond rounding."""
    q = np.zeros((mdp.num_states, mdp.num_actions))
    while np.max(np.abs((improved := backup(mdp, q.max(-1))) - q)) > 1e-12:
        q = improved
    return improved


def make(config: ClaimConfig) -> GridMaze:
    """The maze, its solution, and `config.log_steps` transitions; equal settings give the same data."""
    arrival = {"G": [CellOutcome(probability=1.0, reward=(1,), ends=True)]}
    mdp, _, layout = gridworlds.from_map(MAP, arrival, actions=ACTIONS, step=(-1,), slip=SLIP)
    optimal_q = solve(mdp)
    uniform = np.full(optimal_q.shape, 1 / len(ACTIONS))
    starts = ~mdp.terminal
    start_values = [policy_values(mdp, uniform)[starts].mean(), optimal_q[starts].max(-1).mean()]

    def look(states: np.ndarray, random: np.random.Generator) -> np.ndarray:
        """Observations at random places of the cells of states."""
        inside = random.uniform(size=(*states.shape, 2))
        return (2 * (layout.places[states] + inside) / len(MAP) - 1).astype(np.float32)

    random = np.random.default_rng(config.seed)
    states = random.choice(np.flatnonzero(starts), config.log_steps)
    actions = random.integers(len(ACTIONS), size=config.log_steps)
    chances = np.cumsum(mdp.probabilities[states, actions], axis=-1)
    outcomes = np.argmax(random.uniform(size=(config.log_steps, 1)) < chances, axis=-1)
    successors = mdp.next_states[states, actions, outcomes]
    dataset = Dataset(
        name=SETTINGS["dataset"],
        observations=look(states, random),
        actions=actions.astype(np.int32),
        rewards=mdp.rewards[states, actions, outcomes, 0].astype(np.float32),
        masks=1 - mdp.terminal[successors].astype(np.float32),
        terminals=np.ones(config.log_steps, bool),  # each transition stands alone
        next_observations=look(successors, random),
        num_actions=len(ACTIONS),
    )
    fixed = np.random.default_rng(0)
    return GridMaze(
        mdp=mdp,
        cells=layout.places,
        optimal_q=optimal_q,
        start_values=np.array(start_values),
        places=np.stack([look(np.arange(mdp.num_states), fixed) for _ in range(_PLACES)]),
        dataset=dataset,
        normalization=Normalization(),
        spec=normalizations.make_spec(dataset, Normalization(), config.steps),
    )


def greedy(num_actions: int) -> Policy:
    """The policy that takes the action with the greatest q of the critic; it has no parameters."""

    def init(key: Key, example: Transitions) -> TrainState:
        return TrainState({}, {}, (), jnp.zeros((), jnp.int32), key)

    def update(state: TrainState, batch: Transitions, estimates: Estimates) -> tuple[TrainState, Metrics]:
        return state._replace(step=state.step + 1), {}

    def sample(state: Any, observations: Array, key: Key, temperature: Any, estimates: Estimates) -> Array:
        def q(action: Array) -> Array:
            return estimates.q(observations, jnp.full(len(observations), action))

        values = jax.vmap(q)(jnp.arange(num_actions))
        return jnp.argmax(values, axis=0)

    return Policy(name="greedy", needs=frozenset({"q"}), init=init, update=update, sample=sample)


def greedy_agent(config: Any, spec: Spec) -> Agent:
    """The critic of an agent's config with the greedy policy in place of the config's policy."""
    return actor_critic(critic_of(config, spec), greedy(spec.num_actions))


class MazeVariant(NamedTuple):
    """A critic after training in the maze, with M seeds.

    Attributes:
        trained: the run; its scores are those of `GridMaze.score`.
        q: update -> q at the fixed places, [M, J, S, A], at each evaluation.
        errors: update -> `GridMaze.error` of it, [M].
        blind_ratios: update -> field losses over those of a field that ignores z, [M], means over the updates
            since the evaluation before; empty if the critic is not a flow critic.
    """

    trained: TrainedVariant
    q: dict[int, np.ndarray]
    errors: dict[int, np.ndarray]
    blind_ratios: dict[int, np.ndarray]


def train(
    config: ClaimConfig,
    maze: GridMaze,
    name: str,
    agent: str,
    changes: Mapping[str, Any] | None = None,
    *,
    make_agent: MakeAgent = greedy_agent,
    experience: Callable[[RunConfig], Experience] | None = None,
) -> MazeVariant:
    """Trains one critic, or finishes its training, with an evaluation at each checkpoint.

    Args:
        config: the amount of training.
        maze: the maze.
        name: name of the variant and of its folder in the workdir.
        agent: agent file whose critic is trained.
        changes: settings that differ from SETTINGS, such as {"agent.critic.num_steps": 8}.
        make_agent: builds the agent.
        experience: settings -> source of the batches; the transitions of the maze if None.
    """
    settings = SETTINGS | dict(changes or {})
    trained = train_variant(config, maze, name, agent, settings, make_agent=make_agent, experience=experience)
    critic = trained.run.critic({})
    q = {step: maze_q(maze, critic, states.critic) for step, states in trained.states().items()}
    scores = {step: maze.score(values) for step, values in q.items()}
    return MazeVariant(
        trained=trained._replace(scores=scores),
        q=q,
        errors={step: maze.error(values) for step, values in q.items()},
        blind_ratios=_logged(trained, "critic/field_blind_ratio"),
    )


def maze_q(maze: GridMaze, critic: Critic, states: Any) -> np.ndarray:
    """Estimates of Q [M, J, S, A] at the fixed places, of the states [M, ...] of a critic."""
    return np.asarray(jax.jit(jax.vmap(lambda state: maze.q_of(critic.estimates(state))))(states))


def _logged(trained: TrainedVariant, name: str) -> dict[int, np.ndarray]:
    """Update -> a metric of the log, [M]; empty if the log does not have it."""
    metrics: dict[int, list[float]] = {}
    for row in logs.read_rows(trained.folder / "metrics.jsonl"):
        if name in row:
            metrics.setdefault(row["step"], []).append(row[name])
    return {step: np.array(values) for step, values in metrics.items()}


def compare(better: MazeVariant, worse: MazeVariant) -> dict[str, Any]:
    """Differences after the last update, positive where the first variant is better.

    Returns:
        policy: of the values of the greedy policies, first minus second; error: of the errors to Q*, second
        minus first.
    """
    errors = [list(variant.errors.values())[-1] for variant in (worse, better)]
    return {
        "policy": statistics.difference(better.trained.last_scores, worse.trained.last_scores),
        "error": statistics.difference(*errors),
    }


def evidence(variants: Mapping[str, MazeVariant]) -> dict[str, Any]:
    """The scores, the last errors and the last blind ratios of variants by name, ready for JSON."""

    def last(curve: Mapping[int, np.ndarray]) -> dict[str, Any]:
        return statistics.mean_interval(list(curve.values())[-1][:, None])

    return {
        "scores": {name: score(variant.trained) for name, variant in variants.items()},
        "errors": {name: last(variant.errors) for name, variant in variants.items()},
        "blind_ratios": {
            name: last(variant.blind_ratios) for name, variant in variants.items() if variant.blind_ratios
        },
    }


def draw(panels: Sequence[Any], variants: Mapping[str, MazeVariant]) -> None:
    """Draws the values of the greedy policies of variants in one panel, and their errors in another."""
    values, errors = panels
    scores = {name: variant.trained.scores for name, variant in variants.items()}
    pictures.over_updates(values, scores, "score of the greedy policy")
    pictures.over_updates(errors, {name: variant.errors for name, variant in variants.items()}, "error to Q*")
