"""The stage of the claims: a maze seen in images, with continuous actions and exact values of every task.

An agent walks through 51 cells. It sees an image of 15 x 15 pixels: walls grey, the agent white. By default
the image enters as a vector of its 11 x 11 inner pixels, which needs no convolutions. --convolutions shows
the whole image. An action is (x, y) in [-1, 1]². In each step one of the two axes, drawn at random, counts:
the agent moves by a cell along it, in the direction of the sign, with the probability of the absolute value,
unless a wall is there. So the chances of a step are piecewise linear in the action, and the values of every
policy solve a linear system. The data are walks of 50 steps with uniformly random actions, from uniformly
random cells. γ = 0.95.

Each cell is the goal of a task, whose reward is 1 for being there. Rewards of labelled states specify the
tasks, as in `experiments.zero_shot`.

    maze = image_maze.make(config)
    trained = image_maze.train(config, maze, "td_jepa", "td_jepa:pixels_small", {"agent.policy.period": 2})
    trained.scores  # update -> score [M] at each evaluation

The score of a policy for a task is linear in its value, averaged over all cells: 0 for uniformly random
actions, 1 for the optimal policy. The score of an agent is its mean over all tasks.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.studies.flow_claims.claims import ClaimConfig
from experiments.studies.flow_claims.variants import TrainedVariant, train_variant
from valuelab.configuration import setting
from valuelab.data import normalization as normalizations
from valuelab.data import sampling
from valuelab.training.experience import Experience, offline
from valuelab.types import Agent, Array, Augmented, Dataset, Normalization, Spec

MAP = (
    "###############",
    "###############",
    "###############",
    "###...#.....###",
    "###.#.#.###.###",
    "###.#...#...###",
    "###.#####.#####",
    "###.....#...###",
    "#####.#.###.###",
    "###...#.....###",
    "###.#####.#.###",
    "###.......#.###",
    "###############",
    "###############",
    "###############",
)
"""5 x 5 rooms and the openings between them. DrQ's convolutions need 15 x 15 pixels, hence the border."""
MOVES = np.array([(0, 1), (0, -1), (1, 0), (-1, 0), (0, 0)])
"""Rows and columns by which a step moves: along +x, -x, +y, -y, or not at all."""
DISCOUNT = 0.95
_WALK = 50
"""Steps of a walk of the data."""
_LABELS = 2_000
"""The number of states of the data whose rewards specify the tasks."""
_BORDER = 2
"""The width in pixels of the border of walls that the vector leaves out."""
_WALL, _AGENT = 100, 255
"""Brightness of pixels."""

SETTINGS: dict[str, Any] = {
    "dataset": "image_maze",
    "batch_size": 64,
    "agent.critic.discount": DISCOUNT,
    "agent.critic.learning_rate": 1e-3,
    "agent.critic.feature_learning_rate": 1e-3,
    "agent.critic.target_rate": 0.05,
    "agent.critic.state_dim": 32,
    "agent.critic.task_dim": 32,
    "agent.critic.task_dims": (64,),
    "agent.critic.predictor_dims": (64,),
    "agent.policy.hidden_dims": (64, 64),
    "agent.policy.learning_rate": 1e-3,
    "agent.policy.bc_weight": 0.0,
    "data.normalize_observations": False,
    "data.num_frames": 1,
    "data.image_shift.pixels": 0,
}
"""The settings of all agents in the maze, with those of the preset pixels_small."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImageMazeConfig(ClaimConfig):
    """The amount of data and training, and how the agent sees images."""

    convolutions: bool = setting(False, help="See images through DrQ's convolutions.")


CONFIG = ImageMazeConfig(steps=2_000, num_seeds=4, evaluations=4)
"""The defaults of the claims."""


class ImageMaze(NamedTuple):
    """The maze, the data, and the exact solutions.

    Attributes:
        images: of all cells, [S, 15, 15, 1] uint8; or their inner pixels in [0, 1], [S, 121] float32.
        next_states: [S, 5], the cell after each of MOVES.
        random_values: [T], the mean values over all cells of uniformly random actions, for each task; T = S.
        best_values: [T], those of the optimal policies.
        labels: [N], cells of the labelled states.
        dataset: the transitions.
        normalization: the identity.
        spec: of the data, with the number of updates of the test.
    """

    images: np.ndarray
    next_states: np.ndarray
    random_values: np.ndarray
    best_values: np.ndarray
    labels: np.ndarray
    dataset: Dataset
    normalization: Normalization
    spec: Spec

    def offline(self, batch_size: int) -> Experience:
        """Batches from the transitions, with futures of them."""
        return offline(sampling.transitions(self.dataset, batch_size, DISCOUNT))

    def score(self, actions: np.ndarray) -> np.ndarray:
        """The scores [..., T] of policies that take actions [..., T, S, 2]."""
        values = policy_values(self.next_states, chances(actions)).mean(-1)
        return (values - self.random_values) / (self.best_values - self.random_values)


def chances(actions: np.ndarray) -> np.ndarray:
    """The probabilities [..., 5] of MOVES for actions [..., 2]."""
    parts = np.stack([actions, -actions], axis=-1).clip(0, 1).reshape(*actions.shape[:-1], 4) / 2
    return np.concatenate([parts, 1 - parts.sum(-1, keepdims=True)], axis=-1)


def policy_values(next_states: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """The exact values of policies, one for each task, for the reward of being in the cell of the task.

    V = P (r + γ V)

    Args:
        next_states: [S, 5].
        probabilities: [..., T, S, 5], of MOVES.

    Returns:
        [..., T, S].
    """
    count = len(next_states)
    moves = np.einsum("...sk,skt->...st", probabilities, np.eye(count)[next_states])
    rewards = np.swapaxes(np.diagonal(np.swapaxes(moves, -3, -2), axis1=-2, axis2=-1), -2, -1)
    return np.linalg.solve(np.eye(count) - DISCOUNT * moves, rewards[..., None])[..., 0]


def optimal_values(next_states: np.ndarray) -> np.ndarray:
    """The values [T, S] of the optimal policies, by value iteration to the precision of float64.

    Each axis has its own share of the chances, so the best action is the best one along each axis.
    """
    rewards = np.eye(len(next_states))
    values = np.zeros_like(rewards)
    while True:
        after = (rewards + DISCOUNT * values)[:, next_states]  # [T, S, 5]
        improved = (after[..., [0, 1, 4]].max(-1) + after[..., [2, 3, 4]].max(-1)) / 2
        if np.max(np.abs(improved - values)) < 1e-12:
            return improved
        values = improved


def make(config: ImageMazeConfig) -> ImageMaze:
    """The maze, its solutions, and `config.log_steps` transitions; equal settings give the same data."""
    free = np.array([list(row) for row in MAP]) != "#"
    cells = np.argwhere(free)
    numbers = np.full(free.shape, -1)
    numbers[free] = np.arange(len(cells))
    arrivals = numbers[tuple((cells[:, None] + MOVES).transpose(2, 0, 1))]
    next_states = np.where(arrivals < 0, np.arange(len(cells))[:, None], arrivals)
    pixels = np.where(free, 0, _WALL)[None].repeat(len(cells), axis=0).astype(np.uint8)
    pixels[np.arange(len(cells)), cells[:, 0], cells[:, 1]] = _AGENT
    if config.convolutions:
        images: np.ndarray = pixels[..., None]
    else:
        inside = pixels[:, _BORDER:-_BORDER, _BORDER:-_BORDER]
        images = inside.reshape(len(cells), -1).astype(np.float32) / _AGENT

    random = np.random.default_rng(config.seed)
    walks = config.log_steps // _WALK
    actions = random.uniform(-1, 1, (_WALK, walks, 2)).astype(np.float32)
    thresholds = np.cumsum(chances(actions.astype(np.float64)), axis=-1)
    moves = (random.uniform(size=(_WALK, walks, 1)) >= thresholds[..., :4]).sum(-1)
    states = [random.integers(len(cells), size=walks)]
    for move in moves:
        states.append(next_states[states[-1], move])
    before, after = (np.stack(part, axis=1).ravel() for part in (states[:-1], states[1:]))
    dataset = Dataset(
        name=SETTINGS["dataset"],
        observations=images[before],
        actions=actions.swapaxes(0, 1).reshape(-1, 2),
        rewards=np.zeros(len(before), np.float32),
        masks=np.ones(len(before), np.float32),
        terminals=np.arange(len(before)) % _WALK == _WALK - 1,
        next_observations=images[after],
        action_low=-np.ones(2, np.float32),
        action_high=np.ones(2, np.float32),
    )
    # Uniformly random actions: each axis counts in half of the steps, each direction in half of these, and
    # half of those move.
    aimless = np.broadcast_to([1 / 8] * 4 + [1 / 2], (len(cells), len(cells), 5))
    return ImageMaze(
        images=images,
        next_states=next_states,
        random_values=policy_values(next_states, aimless).mean(-1),
        best_values=optimal_values(next_states).mean(-1),
        labels=random.choice(before, min(_LABELS, len(before))),
        dataset=dataset,
        normalization=Normalization(),
        spec=normalizations.make_spec(dataset, Normalization(), config.steps),
    )


def train(
    config: ImageMazeConfig, maze: ImageMaze, name: str, agent: str, changes: Mapping[str, Any] | None = None
) -> TrainedVariant:
    """Trains one agent, or finishes its training, with an evaluation at each checkpoint.

    Args:
        config: the amount of training.
        maze: the maze.
        name: name of the variant and of its folder in the workdir.
        agent: agent file and preset of a zero-shot agent.
        changes: settings that differ from SETTINGS, such as {"agent.critic.symmetric": True}.
    """
    trained = train_variant(config, maze, name, agent, SETTINGS | dict(changes or {}))
    built = trained.run.build({})
    act = jax.jit(jax.vmap(lambda state: actions_for_all(built, state, maze)))
    scores = {
        step: maze.score(np.asarray(act(states), np.float64)).mean(-1)
        for step, states in trained.states().items()
    }
    return trained._replace(scores=scores)


def actions_for_all(agent: Agent, state: Any, maze: ImageMaze) -> Array:
    """The actions [T, S, 2] of a zero-shot agent in all cells, for the tasks that it infers from labels."""
    assert agent.features is not None
    assert agent.infer_tasks is not None
    images, cells = jnp.asarray(maze.images), jnp.asarray(maze.labels)
    rewards = jnp.arange(len(images))[:, None] == cells[None]
    tasks = agent.infer_tasks(agent.features(state, images)[cells], rewards.astype(jnp.float32))

    def act(task: Array) -> Array:
        augmented = Augmented(images, jnp.broadcast_to(task, (len(images), len(task))))
        return agent.act(state, augmented, jax.random.key(0), 0.0)

    return jax.lax.map(act, tasks)
