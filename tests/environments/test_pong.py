"""Pong: the ball, the points and the ends of games; the host plays the games that the device plays."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from valuelab import environments
from valuelab.environments import pong
from valuelab.environments.pong import COLUMNS, DOWN, ROWS, STAY, UP
from valuelab.errors import InputError

LANES, STEPS = 64, 400
MIDDLE = {"column": 3, "row": 5, "right": 1, "down": 0, "player": 5, "opponent": 5, "won": 0, "lost": 0}
LAST_POINT = {"column": 0, "row": 1, "right": -1, "opponent": 8, "won": 2}
"""The opponent misses the last ball of a game."""


@pytest.fixture(scope="module")
def played():
    """Games under random actions: the states before and after each step, [T, N], and the outcomes."""
    environment = environments.vector("pong/first_to_3", LANES)

    def step(games, key):
        after, outcomes = environment.step(games, jax.random.randint(key, (LANES,), 0, 3))
        return after, (games._replace(key=()), after._replace(key=()), outcomes)

    @jax.jit
    def run(key):
        games, _ = environment.reset(key)
        return jax.lax.scan(step, games, jax.random.split(key, STEPS))[1]

    return jax.tree.map(np.asarray, run(jax.random.key(0)))


@pytest.fixture(scope="module")
def step():
    return jax.jit(pong.vector("first_to_3", 1).step)


def after_a_step(step, action=STAY, lengths=0, **changes):
    """The game and the outcome after one step from a given position of one game."""
    position = {name: jnp.array([number], jnp.int32) for name, number in {**MIDDLE, **changes}.items()}
    games = pong.Games(
        key=jax.random.key(0),
        time=jnp.int32(0),
        ended=jnp.array([False]),
        lengths=jnp.array([lengths], jnp.int32),
        **position,
    )
    games, outcomes = step(games, jnp.array([action], jnp.int32))
    return games, jax.tree.map(lambda leaf: np.asarray(leaf)[0], outcomes)


@pytest.mark.parametrize(
    ("row", "down", "expected"),
    [(5, 1, (6, 1)), (5, 0, (5, 0)), (0, -1, (1, 1)), (ROWS - 1, 1, (ROWS - 2, -1)), (1, -1, (0, -1))],
)
def test_walls_reflect_the_ball(step, row, down, expected):
    games, outcomes = after_a_step(step, row=row, down=down)
    assert (int(games.row[0]), int(games.down[0])) == expected
    assert (int(games.column[0]), float(outcomes.rewards)) == (4, 0.0)


@pytest.mark.parametrize(("player", "down"), [(6, -1), (5, 0), (4, 1)])
def test_the_part_of_the_paddle_decides_the_direction(step, player, down):
    games, outcomes = after_a_step(step, column=COLUMNS - 1, player=player)
    assert (int(games.right[0]), int(games.down[0]), int(games.column[0])) == (-1, down, COLUMNS - 1)
    assert outcomes.rewards == 0


@pytest.mark.parametrize(
    ("position", "reward", "terminated"),
    [
        ({"column": COLUMNS - 1, "row": 1, "player": 4}, -1, False),
        ({"column": COLUMNS - 1, "row": 1, "player": 4, "lost": 2}, -1, True),
        (LAST_POINT, 1, True),
        ({**LAST_POINT, "won": 0}, 1, False),
    ],
)
def test_a_ball_that_leaves_the_board_is_a_point(step, position, reward, terminated):
    games, outcomes = after_a_step(step, **position)
    assert (outcomes.rewards, outcomes.terminated, outcomes.truncated) == (reward, terminated, False)
    won, lost = position.get("won", 0) + (reward > 0), position.get("lost", 0) + (reward < 0)
    assert (int(games.won[0]), int(games.lost[0])) == (won, lost)
    served = (games.column, games.right, games.player, games.opponent)
    assert [int(number[0]) for number in served] == [COLUMNS // 2, 1, ROWS // 2, ROWS // 2]


def test_paddles_move_by_one_row_and_games_have_a_limit(step):
    assert [int(after_a_step(step, action)[0].player[0]) for action in (STAY, UP, DOWN)] == [5, 4, 6]
    assert int(after_a_step(step, UP, player=1)[0].player[0]) == 1
    assert not after_a_step(step, lengths=298)[1].truncated
    cut, won = after_a_step(step, lengths=299)[1], after_a_step(step, lengths=299, **LAST_POINT)[1]
    assert (cut.truncated, cut.terminated, won.truncated, won.terminated) == (True, False, False, True)


def test_points_are_counted_and_the_step_after_a_game_begins_the_next(played):
    before, after, outcomes = played
    ended = outcomes.terminated | outcomes.truncated
    assert ended.sum() > 100
    counted = np.where(before.ended, 0, before.won - before.lost) + outcomes.rewards
    np.testing.assert_array_equal(after.won - after.lost, counted)
    np.testing.assert_array_equal(np.maximum(after.won, after.lost) == 3, outcomes.terminated)
    np.testing.assert_array_equal(after.lengths, np.where(before.ended, 0, before.lengths + 1))
    for begun in (outcomes.rewards, after.won, after.lost, ended):
        np.testing.assert_array_equal(begun[before.ended], 0)
    assert set(np.unique(outcomes.rewards)) == {-1.0, 0.0, 1.0}
    # Every part of an observation is one-hot; the last entry is the ball's horizontal direction.
    np.testing.assert_array_equal(outcomes.observations[..., :-1][~ended].sum(-1), 7)
    np.testing.assert_array_equal(outcomes.observations[..., -1], after.right)


def test_lanes_are_independent_games(played):
    _, after, _ = played
    assert len(np.unique(after.row[:100], axis=1).T) == LANES


def test_the_host_plays_the_same_games_as_the_device():
    environment, alone = pong.vector("first_to_1", 1), environments.make("pong/first_to_1").make()
    actions = jax.random.randint(jax.random.key(1), (60,), 0, 3)

    @jax.jit
    def run(key):
        games, first = environment.reset(key)
        step = jax.lax.scan(lambda games, action: environment.step(games, action[None]), games, actions)
        return first, step[1]

    for seed in (4, 4, 5):
        first, outcomes = jax.tree.map(np.asarray, run(jax.random.key(seed)))
        np.testing.assert_array_equal(alone.reset(seed=seed)[0], first[0])
        for index, action in enumerate(np.asarray(actions)):
            observation, reward, terminated, truncated, _ = alone.step(action)
            np.testing.assert_array_equal(observation, outcomes.observations[index, 0])
            expected = outcomes.rewards[index, 0], outcomes.terminated[index, 0], outcomes.truncated[index, 0]
            assert (reward, terminated, truncated) == expected
            if terminated:
                break
        assert terminated


def test_who_follows_the_ball_never_loses_a_point():
    game, rewards = environments.make("pong/first_to_1").make(), []
    for seed in range(20):
        observation, ended = game.reset(seed=seed)[0], False
        while not ended:
            observation, reward, terminated, truncated, _ = game.step(pong.follow(observation))
            ended = terminated or truncated
        rewards.append(reward)
    assert rewards == [1.0] * 20


def test_unknown_names_name_the_nearest():
    for use in (environments.make, lambda name: environments.vector(name, 2)):
        with pytest.raises(InputError, match="unknown game of Pong 'first_to_4': did you mean 'first_to_"):
            use("pong/first_to_4")
