"""Atari games inside jit and in evaluation: observations, scores, and exact resume."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from valuelab import environments, errors
from valuelab.environments import atari, host

pytest.importorskip("ale_py")

LANES, STEPS = 2, 60


def play(name):
    """A game's vector environment, jitted `reset`, and `run` with actions [T, N]."""
    environment = environments.vector(f"atari/{name}", LANES)
    return (
        environment,
        jax.jit(environment.reset),
        jax.jit(lambda simulation, actions: jax.lax.scan(environment.step, simulation, actions)),
    )


@pytest.fixture(scope="module")
def breakout():
    return play("breakout-sticky-one_life")


@pytest.fixture(scope="module")
def actions():
    return np.random.default_rng(0).integers(1, 4, (STEPS, LANES))


def assert_equal(one, other):
    jax.tree.map(np.testing.assert_array_equal, one, other)


def test_the_spec_of_a_game(breakout):
    environment, _, _ = breakout
    spec = environment.spec
    assert (spec.observation_shape, spec.observation_dtype, spec.num_actions) == ((84, 84, 4), "uint8", 4)
    assert (environment.max_episode_steps, environment.frames) == (27_000, 4)
    assert (environment.name, environment.num_environments) == ("atari/breakout-sticky-one_life", LANES)


def test_stacks_begin_with_zeros_and_the_newest_image_is_last(breakout, actions):
    _, reset, run = breakout
    simulation, first = reset(jax.random.key(0))
    assert not np.any(first[..., :3])
    assert np.all(np.any(first[..., 3], axis=(1, 2)))
    _, outcomes = run(simulation, actions)
    ended = np.asarray(outcomes.terminated | outcomes.truncated)
    assert ended.any()  # one life, which is lost
    images = np.concatenate([first[None], outcomes.observations])
    for time, lane in np.argwhere(~ended):
        before, after = images[time, lane], images[time + 1, lane]
        if time and ended[time - 1, lane]:
            assert not np.any(after[..., :3])
            assert outcomes.rewards[time, lane] == 0
        else:
            np.testing.assert_array_equal(after[..., :3], before[..., 1:])


def test_resumed_games_go_on_with_the_same_bits(breakout, actions):
    _, reset, run = breakout
    simulation, _ = reset(jax.random.key(0))
    middle, _ = run(simulation, actions)
    later = run(middle, actions[::-1])
    assert_equal(run(middle, actions[::-1]), later)  # an earlier simulation
    _, _, fresh = play("breakout-sticky-one_life")
    assert_equal(fresh(middle, actions[::-1]), later)


@pytest.mark.slow
def test_long_games_are_cut_and_lanes_seeded_again(monkeypatch, actions):
    monkeypatch.setattr(atari, "MAX_FRAMES", 120)  # 30 steps at most, idle frames included
    environment, reset, run = play("pong")
    simulation, _ = reset(jax.random.key(0))
    after, outcomes = run(simulation, actions)
    assert not np.any(outcomes.terminated)
    lengths = np.diff(np.flatnonzero(outcomes.truncated[:, 0]))
    assert np.all((lengths > 120 // 4 - 10) & (lengths <= environment.max_episode_steps + 1))
    assert np.all((after.seedings >= 1) & (after.ages <= 2 * environment.max_episode_steps))
    _, _, fresh = play("pong")
    assert_equal(fresh(after, actions), run(after, actions))


def test_evaluation_sees_what_learning_saw(actions):
    environment, reset, run = play("breakout")
    simulation, first = reset(jax.random.key(0))
    _, outcomes = run(simulation, actions)
    evaluated = environments.make("atari/breakout")
    assert (evaluated.name, evaluated.metric, evaluated.score(3.0, False)) == ("breakout", "return", 3.0)
    game = evaluated.make()
    assert game.observation_space.shape == environment.spec.observation_shape
    seed = host.lane_seed(np.asarray(simulation.token), 1, 0)
    np.testing.assert_array_equal(game.reset(seed=seed)[0], first[1])
    assert game.render().shape == (84, 84, 3)
    for time, action in enumerate(actions[:, 1]):
        observation, reward, terminated, truncated, _ = game.step(action)
        expected = [leaf[time, 1] for leaf in outcomes]
        assert_equal([observation, reward, terminated, truncated], expected)


def test_rewards_are_clipped_on_request_and_never_in_evaluation():
    learning = environments.vector("atari/alien-clipped", 1)
    simulation, _ = learning.reset(jax.random.key(0))
    actions = jnp.full((20, 1), 3)  # to the right, where a dot gives 10 points
    _, outcomes = jax.jit(lambda *both: jax.lax.scan(learning.step, *both))(simulation, actions)
    assert np.unique(outcomes.rewards).tolist() == [0.0, 1.0]
    game = environments.make("atari/alien-clipped").make()
    game.reset(seed=host.lane_seed(np.asarray(simulation.token), 0, 0))
    assert [game.step(action)[1] for action in actions[:, 0]] == (10 * outcomes.rewards[:, 0]).tolist()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("pnog", "unknown Atari game 'pnog': did you mean 'pong'"),
        ("pong-stiky", "unknown word in atari/pong-stiky 'stiky': did you mean 'sticky'"),
    ],
)
def test_unknown_games_are_refused(name, message):
    for make in (environments.make, lambda name: environments.vector(name, 1)):
        with pytest.raises(errors.InputError, match=message):
            make(f"atari/{name}")
