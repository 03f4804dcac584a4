"""A continuous task for the claims that need acting: a point in a small maze.

Actions a in [-1, 1]² move the point by SPEED · a cells. A wall stops the part of a move that would enter it.
Each step gives reward -1; the step that enters the goal's cell gives 0 and ends the episode. Episodes start
anywhere outside the goal. The data hold uniformly random actions. The policy is FQL's.

The score is the share of episodes that reach the goal within 60 steps; the longest way takes 32.

    maze = point_maze.make(config)
    variant = point_maze.train(config, maze, "flow", "floq", experience=maze.online(4.0, 1_000))
    variant.scores  # update -> shares of episodes that reach the goal, [M]
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.studies.flow_claims import grid_maze
from experiments.studies.flow_claims.claims import ClaimConfig
from experiments.studies.flow_claims.variants import TrainedVariant, train_variant
from valuelab.agents.normalized import normalized
from valuelab.configuration import RunConfig
from valuelab.data import normalization as normalizations
from valuelab.data import recording, sampling
from valuelab.training.experience import Experience, Interaction, mixed, offline
from valuelab.types import Agent, Array, Dataset, Key, Normalization, Outcomes, Spec, VectorEnvironment

MAP = (
    "#######",
    "#.....#",
    "#.###.#",
    "#.#...#",
    "#.#.###",
    "#.#..G#",
    "#######",
)
"""Free cells and the goal "G"; rows and columns are the two coordinates."""
SPEED = 0.5
"""The largest distance of one step along each axis, in cells; below 1, so that no wall is passed."""
_MAX_STEPS = 60
_RECORDED_STEPS = 25
"""The length of the episodes of the data; short ones make more of them start near the goal."""
_NUM_WALKERS = 20
"""Environments that record the data together."""
_EPISODES = 50
"""Episodes of each evaluation; all seeds start from the same places."""
WARMUP = 100
"""Environment steps before the first update of a run that acts."""
SETTINGS = grid_maze.SETTINGS | {
    "dataset": "point_maze",
    "agent.policy.hidden_dims": (64, 64),
    "agent.policy.num_steps": 5,
    "agent.policy.normalize_q": True,
    "agent.policy.bc_weight": 0.03,  # small: to clone random actions gains little
    "agent.policy.learning_rate": 1e-3,
}
"""The settings of all agents. An agent without one of these fields keeps its other settings."""
CLAIMED: dict[str, dict[str, Any]] = {
    "flow": {"agent.critic.bin_width": 1.0, "agent.critic.time_scale": 3.0},
    "plain": {},
}
"""Further settings of the two kinds of critics in the claims: with these the field uses z early."""


class PointMaze(NamedTuple):
    """The data, and what agents may know of them.

    Attributes:
        dataset: the transitions.
        normalization: fitted to them.
        spec: of the task, with the number of updates of the test.
    """

    dataset: Dataset
    normalization: Normalization
    spec: Spec

    def offline(self, batch_size: int) -> Experience:
        """Batches from the data."""
        return offline(sampling.transitions(self.dataset, batch_size))

    def online(self, update_to_data: float, steps: int) -> Callable[[RunConfig], Experience]:
        """Batches of which one half comes from the data and one half from acting.

        Args:
            update_to_data: updates per environment step.
            steps: environment steps of the whole run, after WARMUP steps.

        Returns:
            Settings of a run -> its experience.
        """
        interaction = Interaction(
            num_environments=1,
            capacity=steps + WARMUP,
            warmup_steps=WARMUP,
            update_to_data=update_to_data,
            dataset_share=0.5,
        )

        def experience(run: RunConfig) -> Experience:
            sampler = sampling.transitions(self.dataset, run.batch_size)
            return mixed(sampler, environment(1), interaction, offline_steps=0)

        return experience


class Simulation(NamedTuple):
    """The state of N points.

    Attributes:
        key: the random starts follow from the key and the time.
        time: number of steps taken so far.
        positions: [N, 2], in cells.
        lengths: [N] int32, number of steps of each episode.
        ended: [N] bool, whether the next step begins a new episode.
    """

    key: Key
    time: Array
    positions: Array
    lengths: Array
    ended: Array


def environment(num_environments: int, max_steps: int = _MAX_STEPS) -> VectorEnvironment:
    """N points in the maze; observations are their positions [N, 2], in cells."""
    grid = np.array([list(row) for row in MAP])
    free = jnp.asarray(grid != "#")
    (goal,) = np.argwhere(grid == "G")
    cells = jnp.asarray(np.argwhere((grid != "#") & (grid != "G")))

    def is_free(positions: Array) -> Array:
        rows, columns = positions.astype(jnp.int32).T
        return free[rows, columns]

    def starts(key: Key) -> Array:
        cell_key, place_key = jax.random.split(key)
        chosen = cells[jax.random.randint(cell_key, (num_environments,), 0, len(cells))]
        return chosen + jax.random.uniform(place_key, (num_environments, 2))

    def move(positions: Array, actions: Array) -> Array:
        for axis in (0, 1):
            moved = positions.at[:, axis].add(SPEED * jnp.clip(actions[:, axis], -1, 1))
            positions = jnp.where(is_free(moved)[:, None], moved, positions)
        return positions

    def reset(key: Key) -> tuple[Simulation, Array]:
        start_key, step_key = jax.random.split(key)
        positions = starts(start_key)
        none = jnp.zeros(num_environments, bool)
        simulation = Simulation(
            key=step_key, time=jnp.int32(0), positions=positions, lengths=none.astype(jnp.int32), ended=none
        )
        return simulation, positions

    def step(simulation: Simulation, actions: Array) -> tuple[Simulation, Outcomes]:
        begins = simulation.ended
        fresh = starts(jax.random.fold_in(simulation.key, simulation.time))
        positions = jnp.where(begins[:, None], fresh, move(simulation.positions, actions))
        lengths = jnp.where(begins, 0, simulation.lengths + 1)
        terminated = ~begins & jnp.all(positions.astype(jnp.int32) == goal[None], axis=1)
        truncated = ~terminated & (lengths >= max_steps)
        outcomes = Outcomes(
            observations=positions,
            rewards=jnp.where(begins | terminated, 0.0, -1.0),
            terminated=terminated,
            truncated=truncated,
        )
        after = Simulation(
            key=simulation.key,
            time=simulation.time + 1,
            positions=positions,
            lengths=lengths,
            ended=terminated | truncated,
        )
        return after, outcomes

    return VectorEnvironment(
        name="point_maze",
        spec=Spec((2,), "float32", action_dim=2, num_actions=0, reward_min=-1.0, reward_max=0.0),
        num_environments=num_environments,
        max_episode_steps=max_steps,
        reset=reset,
        step=step,
        action_low=-np.ones(2, np.float32),
        action_high=np.ones(2, np.float32),
    )


def make(config: ClaimConfig) -> PointMaze:
    """About `config.log_steps` transitions of uniformly random actions; equal settings give the same data."""

    def act(observations: Array, key: Key) -> Array:
        return jax.random.uniform(key, observations.shape, minval=-1.0)

    walkers = environment(_NUM_WALKERS, _RECORDED_STEPS)
    dataset = recording.record(
        walkers, act, -(-config.log_steps // _NUM_WALKERS), jax.random.key(config.seed)
    )
    normalization = normalizations.fit(dataset, observations=True, rewards="none")
    # Of the task, because a small dataset may never reach the goal.
    spec = dataclasses.replace(walkers.spec, num_updates=config.steps)
    return PointMaze(dataset, normalization, spec)


def train(
    config: ClaimConfig,
    maze: PointMaze,
    name: str,
    agent: str,
    changes: Mapping[str, Any] | None = None,
    *,
    experience: Callable[[RunConfig], Experience] | None = None,
) -> TrainedVariant:
    """Trains one agent, or finishes its training; arguments as for `train_variant`."""
    settings = SETTINGS | dict(changes or {})
    trained = train_variant(config, maze, name, agent, settings, experience=experience)
    acting = normalized(trained.run.build({}), maze.normalization)
    return trained._replace(
        scores={step: success(acting, states, _EPISODES) for step, states in trained.states().items()}
    )


def success(agent: Agent, states: Any, episodes: int, seed: int = 0) -> np.ndarray:
    """The share of episodes in which each of M agents reaches the goal, [M].

    Args:
        agent: an agent that takes positions in cells.
        states: its states, leaves [M, ...].
        episodes: number of episodes of each agent; all agents start from the same places.
        seed: seed of the starts and of the policies' noise.
    """
    maze = environment(episodes)
    reset_key, act_key = jax.random.split(jax.random.key(seed))

    def play(state: Any) -> Array:
        def step(carry: Any, time: Array) -> tuple[Any, None]:
            simulation, observations, reached, over = carry
            actions = agent.act(state, observations, jax.random.fold_in(act_key, time), 1.0)
            simulation, after = maze.step(simulation, actions)
            reached |= after.terminated & ~over
            return (simulation, after.observations, reached, over | after.terminated | after.truncated), None

        none = jnp.zeros(episodes, bool)
        start = (*maze.reset(reset_key), none, none)
        return jnp.mean(jax.lax.scan(step, start, jnp.arange(_MAX_STEPS))[0][2].astype(jnp.float32))

    return np.asarray(jax.jit(lambda states: jax.lax.map(play, states))(states))
