"""Tests of rollouts: what determines an episode, its results, and the table of a run."""

import re

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import rich.progress

from valuelab import environments, errors, types
from valuelab.evaluation import rollout
from valuelab.training import Interrupted

MAZE = "ogbench/pointmaze-medium-navigate-singletask-v0"


class Walk:
    """A walk on the line with the interface of gymnasium: start in (-1, 1), reward x, solved above 2."""

    class action_space:
        shape, low, high = (1,), -1.0, 1.0

    def reset(self, *, seed, options):
        self.rng = np.random.default_rng(seed)
        self.x, self.time = self.rng.uniform(-1, 1), 0
        goal = (options or {}).get("goal", 2.0)
        return np.array([self.x]), {"goal": np.array([goal])}

    def step(self, action):
        assert abs(action[0]) <= 1
        self.x += 0.5 * action[0] + 0.1 * self.rng.normal()
        self.time += 1
        solved = self.x > 2
        return np.array([self.x]), self.x, solved, self.time == 20, {"success": solved}

    def close(self):
        self.closed = True


def walk(**fields):
    settings = {"name": "walk", "make": Walk, "tasks": {"only": None}, "metric": "return"}
    settings["score"] = lambda episode_return, success: 2 * episode_return
    return types.Environment(**(settings | fields))


def noisy(drift):
    """An agent that walks up by its state, with noise; `drift` is a hyperparameter added to it."""

    def act(state, observations, key, temperature):
        return state + drift + 0.3 * jax.random.normal(key, (observations.shape[0], 1))

    return types.Agent(init=None, update=None, act=act)


def evaluate(states, environment, width, step=10, seed=0, episodes=6, record=6, build=noisy, drift=None):
    drift = jnp.zeros(len(states)) if drift is None else drift
    evaluator = rollout.Evaluator(
        rollout.member_policy(build, drift),
        environment,
        num_members=len(states),
        episodes=episodes,
        seed=seed,
        width=width,
        record=record,
    )
    episodes = evaluator(jnp.asarray(states), step)
    evaluator.close()
    return episodes


def assert_same(one, other):
    for name in ("lengths", "successes"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    for name in ("returns", "scores"):
        np.testing.assert_allclose(getattr(one, name), getattr(other, name), rtol=1e-5)
    assert one.trajectories.keys() == other.trajectories.keys()
    for index, trajectory in one.trajectories.items():
        np.testing.assert_allclose(trajectory, other.trajectories[index], atol=1e-5)


@pytest.mark.parametrize("width", [3, 8, 100])
def test_lanes_change_nothing(width):
    assert_same(evaluate([0.2, 0.5], walk(), 1), evaluate([0.2, 0.5], walk(), width))


def test_other_members_change_nothing():
    both, alone = evaluate([0.2, 0.5], walk(), 2), evaluate([0.5], walk(), 2)
    np.testing.assert_array_equal(both.lengths[1], alone.lengths[0])
    np.testing.assert_allclose(both.returns[1], alone.returns[0], rtol=1e-5)


def test_members_meet_the_same_initial_states_and_noise():
    episodes = evaluate([0.2, 0.2, 0.5], walk(), 2)
    starts = np.array([[episodes.trajectories[m, 0, e][0, 0] for e in range(6)] for m in range(3)])
    np.testing.assert_array_equal(starts, starts[:1].repeat(3, axis=0))
    assert len(np.unique(starts)) == 6
    np.testing.assert_array_equal(episodes.returns[0], episodes.returns[1])
    assert (episodes.returns[0] != episodes.returns[2]).all()


def test_seed_and_step_decide_the_episodes():
    first = evaluate([0.3], walk(), 4)
    assert_same(first, evaluate([0.3], walk(), 4))
    for other in (evaluate([0.3], walk(), 4, step=11), evaluate([0.3], walk(), 4, seed=1)):
        assert (other.returns != first.returns).all()


def test_hyperparameters_reach_their_members():
    # State and drift are added, so these two members are equal.
    episodes = evaluate([0.2, 0.5], walk(), 2, drift=jnp.array([0.3, 0.0]))
    np.testing.assert_allclose(episodes.returns[0], episodes.returns[1], rtol=1e-5)


def test_what_is_kept_of_an_episode():
    episodes = evaluate([1.0, -1.0], walk(), 2, record=2)
    assert set(episodes.trajectories) == {(m, 0, e) for m in range(2) for e in range(2)}
    for (member, task, episode), trajectory in episodes.trajectories.items():
        index = member, task, episode
        assert trajectory.shape == (episodes.lengths[index] + 1, 1)
        assert trajectory.dtype == np.float32
        np.testing.assert_allclose(trajectory[1:].sum(), episodes.returns[index], rtol=1e-5)
        assert (trajectory[-1, 0] > 2) == episodes.successes[index]
    np.testing.assert_array_equal(episodes.scores, 2 * episodes.returns)
    assert episodes.successes[0].all()
    assert not episodes.successes[1].any()
    np.testing.assert_array_equal(episodes.lengths[1], 20)


def test_tasks_and_goals_reach_the_policy():
    tasks = {"up": {"goal": 1.0}, "down": {"goal": -1.0}}

    def build(drift):
        def act(state, observations, key, temperature):
            return jnp.sign(observations.goals - observations.observations) + 0 * drift

        return types.Agent(init=None, update=None, act=act)

    episodes = evaluate([0.0], walk(tasks=tasks, goal_conditioned=True), 3, build=build)
    ends = {index: trajectory[-1, 0] for index, trajectory in episodes.trajectories.items()}
    assert all(abs(end - (1.0, -1.0)[task]) < 1 for (_, task, _), end in ends.items())
    assert len(ends) == 12


def test_new_parameters_do_not_recompile():
    traces = []

    def act(states, observations, keys, inputs):
        traces.append(0)
        return jnp.broadcast_to(states[:, None, None], (*observations.shape[:2], 1)), inputs

    with rich.progress.Progress(disable=True) as progress:
        evaluator = rollout.Evaluator(
            rollout.MemberPolicy(act), walk(), num_members=2, episodes=3, seed=0, progress=progress
        )
        for step in range(3):
            evaluator(jnp.array([0.1, 0.2]) * step, step)
        assert progress.task_ids == []
    assert len(traces) == 1


def test_one_number_does_not_stand_for_two():
    class Plane(Walk):
        class action_space:
            shape, low, high = (2,), -1.0, 1.0

    with pytest.raises(
        errors.InputError, match=r"actions have shape \(1,\), but those of the environment have \(2,\)"
    ):
        evaluate(jnp.zeros(1), walk(make=Plane), 1)


def test_actions_that_are_no_numbers_are_refused():
    def build(drift):
        return noisy(jnp.where(drift > 0, jnp.nan, 0))

    told = r"action is \[nan\] at step 0 of episode 0 of task only \(member 1\), where finite numbers are"
    with pytest.raises(errors.InputError, match=told):
        evaluate([0.2, 0.5], walk(), 2, build=build, drift=jnp.array([0.0, 1.0]))


class Breaking(Walk):
    """Its third step fails, and its reset fails for one task."""

    def reset(self, *, seed, options):
        if options:
            raise KeyError("qpos")
        return super().reset(seed=seed, options=options)

    def step(self, action):
        if self.time == 2:
            raise RuntimeError("unstable\nsimulation")
        return super().step(action)


@pytest.mark.parametrize(
    ("tasks", "place"),
    [
        ({"first": None}, "step 2 of episode 0 of task first (member 0) (RuntimeError: unstable simulation"),
        ({"a": None, "b": {"goal": 1}}, "step 0 of episode 0 of task b (member 0) (KeyError: 'qpos'"),
    ],
)
def test_a_simulator_that_fails_is_one_line_with_its_place(tasks, place):
    line = rf"{re.escape(__file__)}, line \d+"
    message = rf"^walk failed at {re.escape(place)}, {line}\): fix the environment$"
    with pytest.raises(errors.InputError, match=message) as caught:
        evaluate([0.2, 0.5], walk(make=Breaking, tasks=tasks), 2)
    assert caught.value.__cause__ is not None


def test_a_request_to_stop_passes_through_a_simulator():
    class Stopped(Walk):
        def step(self, action):
            raise Interrupted

    with pytest.raises(Interrupted):
        evaluate([0.2], walk(make=Stopped), 1)


@pytest.mark.parametrize("choice", [2, 0.5, jnp.nan])
def test_choices_that_there_are_not_are_refused(choice):
    class Choice(Walk):
        action_space = gymnasium.spaces.Discrete(2)

    agent = types.Agent(None, None, lambda state, observations, key, _: jnp.full(len(observations), choice))
    told = rf"action is {choice} at step 0 of episode 0 of task only, where whole numbers from 0 to 1 are"
    with pytest.raises(errors.InputError, match=told):
        evaluate([0.2], walk(make=Choice), 1, build=lambda _: agent)


def test_discrete_actions():
    def act(states, observations, keys, inputs):
        return (observations[..., 2] > 0).astype(jnp.int32), inputs  # push towards where the pole falls

    evaluator = rollout.Evaluator(
        rollout.MemberPolicy(act),
        environments.make("gymnasium/CartPole-v1"),
        num_members=1,
        episodes=4,
        seed=0,
    )
    episodes = evaluator((), 0)
    assert (episodes.returns == episodes.lengths).all()
    assert episodes.returns.mean() > 25  # random pushes last about 22 steps


def straight(_):
    """Walks from the start of pointmaze-medium's first task straight on, until a wall."""

    def act(state, observations, key, temperature):
        return jnp.tanh(observations @ state) + 0.5 * jax.random.normal(key, (1, 2))

    return types.Agent(init=None, update=None, act=act)


def test_lanes_change_nothing_in_mujoco():
    states = np.random.default_rng(0).normal(size=(2, 2, 2)).astype(np.float32)
    environment = environments.make(MAZE)
    one = evaluate(states, environment, 1, episodes=2, build=straight)
    other = evaluate(states, environment, 2, episodes=2, build=straight)
    assert_same(one, other)
    assert one.lengths.shape == (2, 1, 2)


def commanded(drift):
    """Its actions depend on its memory: command + start, plus the sum of rewards so far."""

    def act(state, observations, key, temperature):
        assert isinstance(observations, types.Augmented)
        return 0.1 * observations.memory[:, None] + state

    memory = types.Memory(
        commands={"rest": np.array([0.0]), "go": np.array([9.0])},
        draw=None,
        choose=lambda state, observations, commands: commands[:, 0] + observations[:, 0] + drift,
        update=lambda memory, rewards: memory + rewards,
        discount=0.9,
        score=lambda commands, first, returns: 1000 * commands[:, 0] + 100 * first + returns,
    )
    return types.Agent(init=None, update=None, act=act, memory=memory)


def test_a_command_may_have_no_numbers():
    # Without a score of its own, the agent only carries its memory.
    def build(drift):
        memory = commanded(drift).memory._replace(
            commands={"expectation": np.zeros(0, np.float32)},
            choose=lambda state, observations, commands: observations[:, 0] + commands.shape[1],
            score=lambda commands, first, returns: returns,
        )
        return commanded(drift)._replace(memory=memory)

    states, drift = np.array([0.0, 0.3], np.float32), np.array([0.0, 0.5], np.float32)
    episodes = evaluate(states, walk(), 2, episodes=2, build=build, drift=drift)
    assert episodes.returns.shape == (2, 1, 2)


@pytest.mark.parametrize("width", [1, 3])
def test_an_agent_with_a_memory_is_asked_each_command(width):
    """The episodes, played again by hand."""
    states, drift = np.array([0.0, 0.3], np.float32), np.array([0.0, 0.5], np.float32)
    tasks = {"near": {"goal": 1.0}, "far": None}
    episodes = evaluate(states, walk(tasks=tasks), width, episodes=2, build=commanded, drift=drift)
    assert episodes.returns.shape == (2, 4, 2)
    assert rollout.task_names(walk(tasks=tasks), [commanded(0)]) == [
        *("near/rest", "near/go", "far/rest", "far/go")
    ]
    assert rollout.task_names(walk(), [commanded(0)]) == ["rest", "go"]
    assert rollout.task_names(walk(tasks=tasks), []) == ["near", "far"]
    for member, task, episode in np.ndindex(episodes.returns.shape):
        scene = Walk()
        seed = rollout.episode_seed(
            0, 10, task // 2, episode
        )  # all commands of a task have the same episodes
        x = scene.reset(seed=seed, options=None)[0][0]
        command = [0.0, 9.0][task % 2]
        memory = first = command + x + drift[member]
        rewards, over = [], False
        while not over:
            action = np.clip(0.1 * memory + states[member], -1, 1)
            _, reward, solved, late, _ = scene.step([action])
            rewards.append(reward)
            memory, over = memory + reward, solved or late
        index = member, task, episode
        assert episodes.lengths[index] == len(rewards)
        np.testing.assert_allclose(episodes.returns[index], sum(rewards), rtol=1e-4)
        discounted = sum(reward * 0.9**t for t, reward in enumerate(rewards))
        np.testing.assert_allclose(
            episodes.scores[index], 1000 * command + 100 * first + discounted, rtol=1e-4
        )


@pytest.mark.parametrize("name", ["num_members", "episodes", "width"])
def test_numbers_must_be_positive(name):
    settings = {"num_members": 1, "episodes": 1, "width": 1, "seed": 0} | {name: 0}
    with pytest.raises(errors.InputError, match=f"{name} is 0"):
        rollout.Evaluator(rollout.MemberPolicy(lambda *_: None), walk(), **settings)


def table(path):
    with np.load(path, allow_pickle=False) as file:
        return dict(file)


def test_episodes_are_saved_by_step(tmp_path):
    path = tmp_path / "episodes.npz"
    episodes = evaluate([1.0, -1.0], walk(), 2, episodes=3)
    for step in (10, 20, 30):
        rollout.save_episodes(path, episodes, step, ["only"])
    assert {name: len(column) for name, column in table(path).items()} == dict.fromkeys(
        ["step", "member", "task", "episode", "return", "length", "success", "score"], 18
    )
    # A run resumed after step 10 reaches step 20 again: later rows of the killed run are dropped.
    rollout.save_episodes(path, episodes._replace(returns=episodes.returns + 1), 20, ["only"])
    saved = table(path)
    np.testing.assert_array_equal(saved["step"], [10] * 6 + [20] * 6)
    np.testing.assert_array_equal(saved["member"], [0, 0, 0, 1, 1, 1] * 2)
    np.testing.assert_array_equal(saved["episode"], [0, 1, 2] * 4)
    np.testing.assert_array_equal(saved["return"][6:], episodes.returns.ravel() + 1)
    assert set(saved["task"]) == {"only"}
    assert [file.name for file in tmp_path.iterdir()] == ["episodes.npz"]


def test_another_file_in_the_place_of_the_table(tmp_path):
    path = tmp_path / "episodes.npz"
    path.write_text("not a table")
    with pytest.raises(errors.InputError, match=r"episodes.npz is not a table of episodes .*move it away"):
        rollout.save_episodes(path, evaluate([1.0], walk(), 1, episodes=1), 10, ["only"])
    assert path.read_text() == "not a table"


def test_evaluating_once_is_what_an_evaluator_does():
    states, drift = jnp.zeros(2), jnp.array([0.1, 0.3])
    settings = {"episodes": 3, "hyperparameters": drift, "seed": 4, "step": 10, "record": 3}
    once = rollout.evaluate(noisy, states, walk(), **settings)
    again = evaluate(states, walk(), width=2, seed=4, episodes=3, record=3, drift=drift)
    np.testing.assert_array_equal(once.lengths, again.lengths)
    np.testing.assert_allclose(once.returns, again.returns, rtol=1e-5)
    alone = rollout.evaluate(noisy(0.1), states[:1], walk(), episodes=3, step=10)
    assert alone.scores.shape == (1, 1, 3)
