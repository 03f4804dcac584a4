"""The stage of the claims: a maze seen in images, with continuous actions and exact values of every task.

An agent walks through 51 cells. It sees an image of 15 x 15 pixels: walls grey, the agent white. By default
the image enters as a vector of its 11 x 11 inner pixels minus their means, which needs no convolutions.
--convolutions shows the whole image. An action is (x, y) in [-1, 1]². In each step one of the two axes, drawn
at random, counts: the agent moves by a cell along it, in the direction of the sign, with the probability of
the absolute value, unless a wall is there. So the chances of a step are piecewise linear in the action, and
the values of every policy solve a linear system. The data are walks of 50 steps with uniformly random
actions, from uniformly random cells. γ = 0.95.

Each cell is the goal of a task, whose reward is 1 for being there. Rewards of labelled states specify the
tasks, as in `experiments.zero_shot`.

    maze = image_maze.make(config)
    trained = image_maze.train(config, maze, "td_jepa", "td_jepa:pixels_small", {"agent.policy.period": 2})
    trained.variant.scores  # update -> score [M] at each evaluation

The score of a policy for a task is linear in its value, averaged over all cells: 0 for uniformly random
actions, which are those of the data, and 1 for the optimal policy. The score of an agent is its mean over all
tasks.

`dissect` shows which part of an agent limits its score. `learn_task` trains an agent on the reward of one
task, from images or from the frozen encodings of a zero-shot agent.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.studies.flow_claims.claims import ClaimConfig
from experiments.studies.flow_claims.variants import TrainedVariant, train_variant
from valuelab.agents.zero_shot import CRITICS, state_encoder
from valuelab.configuration import make as make_part
from valuelab.configuration import setting
from valuelab.data import normalization as normalizations
from valuelab.data import sampling
from valuelab.ops.zero_shot import infer_tasks as least_squares
from valuelab.training.experience import Experience, offline
from valuelab.types import Array, Augmented, Dataset, Normalization, Spec

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
_NINE = np.array([(x, y) for x in (-1, 0, 1) for y in (-1, 0, 1)], np.float32)
"""Actions: in each direction, or not at all."""
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
    "agent.goal_share": 1.0,
    "agent.later_goals": 0.5,  # values differ most near the goal
    "agent.critic.discount": DISCOUNT,
    "agent.critic.learning_rate": 8e-3,
    "agent.critic.feature_learning_rate": 1e-3,
    "agent.critic.target_rate": 0.1,
    "agent.critic.ensemble_size": 1,
    "agent.critic.state_dim": 32,
    "agent.critic.task_dim": 32,
    "agent.critic.task_dims": (64,),
    "agent.critic.predictor_dims": (128,),
    "agent.critic.orthonormality": 1.0,
    "agent.critic.state_orthonormality": 1.0,
    "agent.critic.task_orthonormality": 1.0,
    "agent.policy.hidden_dims": (128, 128),
    "agent.policy.learning_rate": 3e-3,
    "agent.policy.bc_weight": 0.0,
    "data.normalize_observations": False,
    "data.num_frames": 1,
    "data.image_shift.pixels": 0,
}
"""The settings of all zero-shot agents in the maze; they keep their others of the preset pixels_small."""
TASK_SETTINGS: dict[str, Any] = {
    "dataset": "image_maze",
    "batch_size": 64,
    "agent.critic.discount": DISCOUNT,
    "agent.critic.hidden_dims": (128, 128),
    "agent.critic.ensemble_size": 1,
    "agent.critic.learning_rate": 3e-3,
    "agent.critic.target_rate": 0.05,
    "agent.policy.hidden_dims": (128, 128),
    "agent.policy.activation": "relu",
    "agent.policy.final_scale": 1.0,
    "agent.policy.learning_rate": 1e-3,
    "agent.policy.bc_weight": 0.0,
    "agent.policy.target_weight": 0.0,
    "agent.policy.target_noise": 0.2,
    "agent.policy.target_noise_max": 0.3,
    "agent.policy.target_rate": 1.0,
    "agent.policy.period": 1,
    "data.normalize_observations": False,
}
"""The settings of agents for a single task: as in SETTINGS where both have a setting."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImageMazeConfig(ClaimConfig):
    """The amount of data and training, and how the agent sees images."""

    task_steps: int = setting(1_600, "[2, inf)", "Updates of an agent that learns a single task.")
    convolutions: bool = setting(False, help="See images through DrQ's convolutions.")


CONFIG = ImageMazeConfig(steps=4_000, num_seeds=5, evaluations=4)
"""The defaults of the claims."""


class ImageMaze(NamedTuple):
    """The maze, the data, and the exact solutions.

    Attributes:
        images: of all cells, [S, 15, 15, 1] uint8; or their inner pixels minus the means over all cells,
            [S, 121] float32.
        next_states: [S, 5], the cell after each of MOVES.
        random_values: [T], the mean values over all cells of uniformly random actions, for each task; T = S.
        best_values: [T], those of the optimal policies.
        labels: [N], cells of the labelled states.
        cells: the cells before and after each transition, [2, N].
        dataset: the transitions.
        normalization: the identity.
        spec: of the data, with the number of updates of the test.
    """

    images: np.ndarray
    next_states: np.ndarray
    random_values: np.ndarray
    best_values: np.ndarray
    labels: np.ndarray
    cells: np.ndarray
    dataset: Dataset
    normalization: Normalization
    spec: Spec

    def offline(self, batch_size: int) -> Experience:
        """Batches from the transitions, with futures of them."""
        return offline(sampling.transitions(self.dataset, batch_size, DISCOUNT))

    @property
    def task_rewards(self) -> np.ndarray:
        """The rewards [T, S] of being in a cell, for each task."""
        return np.eye(len(self.images))

    def score(self, actions: np.ndarray) -> np.ndarray:
        """The scores [..., T] of policies that take actions [..., T, S, 2]."""
        values = policy_values(self.next_states, chances(actions), self.task_rewards).mean(-1)
        return (values - self.random_values) / (self.best_values - self.random_values)


def draw_values(axis: Any, title: str, values: np.ndarray, task: int) -> None:
    """Draws the values [S] of all cells for a task, whose goal is a cross. Walls stay empty."""
    free = np.array([list(row) for row in MAP]) != "#"
    image = np.full(free.shape, np.nan)
    image[free] = values / np.max(np.abs(values))
    axis.imshow(image[_BORDER:-_BORDER, _BORDER:-_BORDER])
    row, column = np.argwhere(free)[task] - _BORDER
    axis.plot(column, row, "x", color="red")
    axis.set(title=title, xticks=[], yticks=[])
    axis.grid(False)


def chances(actions: np.ndarray) -> np.ndarray:
    """The probabilities [..., 5] of MOVES for actions [..., 2]."""
    parts = np.stack([actions, -actions], axis=-1).clip(0, 1).reshape(*actions.shape[:-1], 4) / 2
    return np.concatenate([parts, 1 - parts.sum(-1, keepdims=True)], axis=-1)


def policy_values(next_states: np.ndarray, probabilities: np.ndarray, rewards: np.ndarray) -> np.ndarray:
    """The exact values of policies, one for each task.

    V = P (r + γ V)

    Args:
        next_states: [S, 5].
        probabilities: [..., T, S, 5], of MOVES.
        rewards: [T, S], of the cell after a step.

    Returns:
        [..., T, S].
    """
    count = len(next_states)
    moves = np.einsum("...sk,skt->...st", probabilities, np.eye(count)[next_states])
    return np.linalg.solve(np.eye(count) - DISCOUNT * moves, moves @ rewards[..., None])[..., 0]


def optimal_values(next_states: np.ndarray, rewards: np.ndarray) -> np.ndarray:
    """The values [T, S] of the optimal policies for rewards [T, S], by value iteration.

    Each axis has its own share of the chances, so the best action is the best one along each axis. The
    iteration ends at a relative precision of 1e-12.
    """
    values = np.zeros_like(rewards)
    while True:
        after = (rewards + DISCOUNT * values)[:, next_states]  # [T, S, 5]
        improved = (after[..., [0, 1, 4]].max(-1) + after[..., [2, 3, 4]].max(-1)) / 2
        if np.max(np.abs(improved - values)) < 1e-12 * np.max(np.abs(rewards)):
            return improved
        values = improved


def greedy_actions(next_states: np.ndarray, rewards: np.ndarray, values: np.ndarray) -> np.ndarray:
    """The actions [..., T, S, 2] that are best if rewards [T, S] and then values [..., T, S] follow."""
    after = (rewards + DISCOUNT * values)[..., next_states]
    forward, backward, stay = after[..., [0, 2]], after[..., [1, 3]], after[..., [4, 4]]
    return np.where(forward >= backward, 1.0, -1.0) * (np.maximum(forward, backward) > stay)


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
        images -= images.mean(0)

    random = np.random.default_rng(config.seed)
    walks = config.log_steps // _WALK
    actions = random.uniform(-1, 1, (_WALK, walks, 2)).astype(np.float32)
    thresholds = np.cumsum(chances(actions.astype(np.float64)), axis=-1)
    moves = (random.uniform(size=(_WALK, walks, 1)) >= thresholds[..., :4]).sum(-1)
    states = [random.integers(len(cells), size=walks)]
    for move in moves:
        states.append(next_states[states[-1], move])
    before, after = visited = np.stack([np.stack(part, axis=1).ravel() for part in (states[:-1], states[1:])])
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
        random_values=policy_values(next_states, aimless, np.eye(len(cells))).mean(-1),
        best_values=optimal_values(next_states, np.eye(len(cells))).mean(-1),
        labels=random.choice(before, min(_LABELS, len(before))),
        cells=visited,
        dataset=dataset,
        normalization=Normalization(),
        spec=normalizations.make_spec(dataset, Normalization(), config.steps),
    )


class Answers(NamedTuple):
    """What zero-shot agents infer from labelled states, for each of T tasks in all S cells.

    Attributes:
        rewards: [M, T, S], the rewards that the critic's values are of: the least-squares projections of the
            tasks' rewards on the features.
        actions: [M, T, S, 2], of the policy.
        greedy: [M, T, S, 2], the best by Q of nine actions: -1, 0, 1 along each axis.
        values: [M, T, S], of the policy as the critic estimates them, up to a positive factor.
    """

    rewards: np.ndarray
    actions: np.ndarray
    greedy: np.ndarray
    values: np.ndarray


class MazeAgent(NamedTuple):
    """A zero-shot agent after training, with M seeds.

    Attributes:
        variant: with its scores.
        by_task: update -> the scores [M, T] for each task.
        last: what the agents infer after the last update.
    """

    variant: TrainedVariant
    by_task: dict[int, np.ndarray]
    last: Answers

    @property
    def last_by_task(self) -> np.ndarray:
        """The scores [M, T] after the last update."""
        return list(self.by_task.values())[-1]


def train(
    config: ImageMazeConfig, maze: ImageMaze, name: str, agent: str, changes: Mapping[str, Any] | None = None
) -> MazeAgent:
    """Trains one agent, or finishes its training, with an evaluation at each checkpoint.

    Args:
        config: the amount of training.
        maze: the maze.
        name: name of the variant and of its folder in the workdir.
        agent: agent file and preset of a zero-shot agent.
        changes: settings that differ from SETTINGS, such as {"agent.critic.symmetric": True}.
    """
    trained = train_variant(config, maze, name, agent, SETTINGS | dict(changes or {}))
    answer = answers(trained, maze)
    agents = {step: answer(states) for step, states in trained.states().items()}
    by_task = {step: maze.score(given.actions) for step, given in agents.items()}
    return MazeAgent(
        variant=trained._replace(scores={step: scores.mean(-1) for step, scores in by_task.items()}),
        by_task=by_task,
        last=list(agents.values())[-1],
    )


def answers(trained: TrainedVariant, maze: ImageMaze) -> Callable[[Any], Answers]:
    """A function of states [M, ...] that gives what these agents infer."""
    agent, config = trained.run.build({}), trained.run.config.agent
    assert agent.features is not None
    assert agent.infer_tasks is not None
    features, infer_tasks = agent.features, agent.infer_tasks
    critic = make_part(CRITICS, config.critic, maze.spec)
    assert critic.zero_shot is not None
    perceive = critic.zero_shot.perceive
    images, cells = jnp.asarray(maze.images), jnp.asarray(maze.labels)
    labels = (jnp.arange(len(images))[:, None] == cells[None]).astype(jnp.float32)

    def of_one(state: Any) -> tuple[Array, Array, Array, Array]:
        of_cells = features(state, images)
        tasks = infer_tasks(of_cells[cells], labels)
        projected = least_squares(of_cells[cells], labels) @ of_cells.T
        learnt = state.learner.critic
        estimates = critic.estimates(learnt)

        def for_task(task: Array) -> tuple[Array, Array, Array]:
            along = jnp.broadcast_to(task, (len(images), len(task)))
            augmented = Augmented(images, along)
            joined = jnp.concatenate([perceive(learnt, images), along], axis=-1)
            values = jax.lax.map(
                lambda action: estimates.q(joined, jnp.broadcast_to(action, (len(images), 2))), _NINE
            )
            greedy = jnp.asarray(_NINE)[jnp.argmax(values, axis=0)]
            actions = agent.act(state, augmented, jax.random.key(0), 0.0)
            return actions, greedy, agent.value(state, augmented)

        return projected, *jax.lax.map(for_task, tasks)

    of_all = jax.jit(lambda states: jax.lax.map(of_one, states))
    return lambda states: Answers(*(np.asarray(part, np.float64) for part in of_all(states)))


def dissect(maze: ImageMaze, given: Answers) -> dict[str, np.ndarray]:
    """Where agents lose their score. Each score [M] uses one learnt part less than the one before.

    Returns:
        policy: the score of the agent.
        greedy: the score of the best of nine actions by the critic's Q.
        improved: the score of the best actions by the exact values of the policy: of an exact critic.
        features: the score of the optimal policy for the inferred rewards.
        value_correlation: of the critic's values with the exact values of the policy, over cells; the mean
            over tasks, in which constant values count as 0.
        optimal_correlation: of the critic's values with the optimal values.
    """
    step = maze.next_states
    exact = np.stack(
        [policy_values(step, chances(a), r) for a, r in zip(given.actions, given.rewards, strict=True)]
    )
    best = np.stack([optimal_values(step, rewards) for rewards in given.rewards])
    of_tasks = optimal_values(step, maze.task_rewards)

    def correlation(values: np.ndarray) -> np.ndarray:
        one, two = (part - part.mean(-1, keepdims=True) for part in (values, given.values))
        sizes = np.linalg.norm(one, axis=-1) * np.linalg.norm(two, axis=-1)
        return ((one * two).sum(-1) / np.maximum(sizes, 1e-12)).mean(-1)

    actions = {
        "policy": given.actions,
        "greedy": given.greedy,
        "improved": np.stack([greedy_actions(step, r, v) for r, v in zip(given.rewards, exact, strict=True)]),
        "features": np.stack([greedy_actions(step, r, v) for r, v in zip(given.rewards, best, strict=True)]),
    }
    return {name: maze.score(taken).mean(-1) for name, taken in actions.items()} | {
        "value_correlation": correlation(exact),
        "optimal_correlation": correlation(of_tasks),
    }


def encodings(trained: TrainedVariant, maze: ImageMaze) -> np.ndarray:
    """The encodings φ [S, k] of all cells by the first seed after the last update."""
    config = trained.run.config.agent
    state = jax.tree.map(lambda leaf: leaf[0], list(trained.states().values())[-1])
    return np.asarray(state_encoder(config, maze.spec)(state, jnp.asarray(maze.images)))


def learn_task(
    config: ImageMazeConfig, maze: ImageMaze, name: str, task: int, seen: np.ndarray
) -> TrainedVariant:
    """Trains an agent on the reward of one task, or finishes its training. Its scores are those of the task.

    Args:
        config: the amount of training; its steps are task_steps.
        maze: the maze.
        name: name of the variant and of its folder in the workdir.
        task: number of the task.
        seen: [S, k], the vectors that the agent sees in the cells.
    """
    before, after = maze.cells
    dataset = dataclasses.replace(
        maze.dataset,
        observations=seen[before],
        next_observations=seen[after],
        rewards=(after == task).astype(np.float32),
    )
    spec = normalizations.make_spec(dataset, Normalization(), config.task_steps)
    config = dataclasses.replace(config, steps=config.task_steps)
    stage = maze._replace(dataset=dataset, spec=spec)
    trained = train_variant(config, stage, name, "rebrac", TASK_SETTINGS)
    agent = trained.run.build({})

    def act(state: Any) -> Array:
        return agent.act(state, jnp.asarray(seen), jax.random.key(0), 0.0)

    of_all = jax.jit(lambda states: jax.lax.map(act, states))
    scores = {}
    for step, states in trained.states().items():
        actions = np.asarray(of_all(states), np.float64)[:, None]  # the same for each of the T tasks
        scores[step] = maze.score(actions.repeat(len(seen), axis=1))[:, task]
    return trained._replace(scores=scores)
