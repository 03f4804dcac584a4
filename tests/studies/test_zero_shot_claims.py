"""The image maze: exact values against rollouts and against closed forms, and a short training."""

import numpy as np
import pytest

from experiments.studies.zero_shot_claims import ablations, image_maze
from experiments.studies.zero_shot_claims.image_maze import DISCOUNT, Answers, ImageMazeConfig


@pytest.fixture(scope="module")
def maze():
    return image_maze.make(ImageMazeConfig(log_steps=20_000))


def best_actions(maze):
    """The actions [T, S, 2] of the optimal policies."""
    values = image_maze.optimal_values(maze.next_states, maze.task_rewards)
    return image_maze.greedy_actions(maze.next_states, maze.task_rewards, values)


def test_scores_of_optimal_and_of_aimless_policies(maze):
    count = len(maze.next_states)
    assert maze.images.shape == (count, 121)
    np.testing.assert_allclose(maze.score(best_actions(maze)), 1)
    # Moves have an inverse of equal chance. So aimless agents are everywhere equally often.
    np.testing.assert_allclose(maze.random_values, 1 / (1 - DISCOUNT) / count)
    np.testing.assert_allclose(maze.score(np.zeros((count, count, 2))), 0, atol=1e-12)


def test_dissection_names_what_is_wrong(maze):
    best = best_actions(maze)[None]
    values = image_maze.optimal_values(maze.next_states, maze.task_rewards)[None]
    perfect = Answers(rewards=maze.task_rewards[None], actions=best, greedy=best, values=values)
    assert all(np.isclose(part, 1) for part in image_maze.dissect(maze, perfect).values())
    idle = image_maze.dissect(maze, perfect._replace(actions=0 * best))
    assert np.isclose(idle["policy"], 0)
    assert np.isclose(idle["features"], 1)
    # A policy that stands still has exact values of 0 except at the goal, so one step cannot improve it much.
    assert 0 < idle["improved"] < 0.3
    wrong = image_maze.dissect(maze, perfect._replace(rewards=np.roll(perfect.rewards, 1, axis=-1)))
    assert wrong["features"] < 0.5


def test_values_are_the_mean_returns_of_walks(maze):
    random, count, task, walks = np.random.default_rng(0), len(maze.next_states), 7, 4_000
    actions = random.uniform(-1, 1, (count, count, 2))
    values = image_maze.policy_values(maze.next_states, image_maze.chances(actions), maze.task_rewards)
    states, returns = np.full(walks, 8), np.zeros(walks)
    for step in range(150):
        thresholds = np.cumsum(image_maze.chances(actions[task, states]), axis=-1)
        moves = (random.uniform(size=(walks, 1)) >= thresholds[:, :4]).sum(-1)
        states = maze.next_states[states, moves]
        returns += DISCOUNT**step * (states == task)
    error = returns.std() / np.sqrt(walks)
    assert abs(returns.mean() - values[task, 8]) < 4 * error + 20 * DISCOUNT**150


def test_data_are_walks_of_the_maze(maze):
    before, after = maze.cells
    np.testing.assert_array_equal(maze.dataset.observations, maze.images[before])
    np.testing.assert_array_equal(maze.dataset.next_observations, maze.images[after])
    assert len(np.unique(maze.images, axis=0)) == len(maze.images)
    assert (maze.next_states[before] == after[:, None]).any(1).all()
    inside = ~maze.dataset.terminals[:-1]
    np.testing.assert_array_equal(after[:-1][inside], before[1:][inside])
    moved = after != before
    shares = image_maze.chances(maze.dataset.actions)
    possible = maze.next_states[before] != before[:, None]
    assert abs(moved.mean() - (shares * possible).sum(-1).mean()) < 0.02
    assert image_maze.make(ImageMazeConfig(log_steps=1_000, convolutions=True)).images.shape[1:] == (
        15,
        15,
        1,
    )


@pytest.mark.slow
def test_agents_of_the_claim_learn_in_the_maze(tmp_path):
    config = ImageMazeConfig(
        log_steps=5_000, steps=400, task_steps=400, num_seeds=2, evaluations=2, workdir=str(tmp_path)
    )
    maze = image_maze.make(config)
    contender = ablations.CONTENDERS[ablations.FORWARD_BACKWARD]
    trained = image_maze.train(config, maze, "forward_backward", *contender)
    assert list(trained.by_task) == list(trained.variant.scores) == [200, 400]
    assert (trained.variant.last_scores > 0.02).all()
    seen = image_maze.encodings(trained.variant, maze)
    learnt = image_maze.learn_task(config, maze, "task", 7, seen)
    assert (learnt.scores[400] > 0.02).all()
    figure = ablations.draw(maze, {ablations.TWO: trained, ablations.FORWARD_BACKWARD: trained}, {})
    assert len(figure.axes) == 5
