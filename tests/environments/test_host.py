"""Host environments inside jit: pure steps, exact resume, and the results of gymnasium for the same seeds."""

import dataclasses
import functools
import gc
import multiprocessing
import os
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from valuelab import configuration, environments, errors
from valuelab.agents.iql import IQLConfig, iql
from valuelab.environments import creation, host
from valuelab.training import make_mesh, train
from valuelab.training.experience import Interaction, online

gymnasium = pytest.importorskip("gymnasium")

LANES, STEPS = 3, 60


def rollout(environment, simulation, keys):
    """The simulation after some random actions, the actions [T, N] and the outcomes, stacked [T, N, ...]."""
    spec = environment.spec

    def step(simulation, key):
        shape = (environment.num_environments, *([spec.action_dim] if spec.action_dim else []))
        if spec.discrete:
            actions = jax.random.randint(key, shape, 0, spec.num_actions)
        else:
            low, high = environment.action_low[None], environment.action_high[None]
            actions = jax.random.uniform(key, shape, minval=low, maxval=high)
        simulation, outcomes = environment.step(simulation, actions)
        return simulation, (actions, outcomes)

    simulation, (actions, outcomes) = jax.lax.scan(step, simulation, keys)
    return simulation, actions, outcomes


class Play:
    """A vector environment with its jitted functions."""

    def __init__(self, name, lanes=LANES, **settings):
        self.environment = environments.vector(name, lanes, **settings)
        self.reset = jax.jit(self.environment.reset)
        self.run = jax.jit(functools.partial(rollout, self.environment))
        self.step = jax.jit(self.environment.step)


def keys(seed, steps=STEPS):
    return jax.random.split(jax.random.key(seed), steps)


def assert_equal(one, other):
    jax.tree.map(np.testing.assert_array_equal, one, other)


@pytest.fixture(scope="module")
def cartpole():
    return Play("gymnasium/CartPole-v1")


def plain_rollout(environment_id, first_seed, actions, limit, seeds):
    """A reference lane: one episode after another, with a new seed after T steps."""
    lane = creation.create(environment_id)
    observation, _ = lane.reset(seed=first_seed)
    age, ended, rows = 0, False, [(observation, 0.0, False, False)]
    for action in actions:
        age += 1
        if ended:
            age, seed = (0, next(seeds)) if age > limit else (age, None)
            row = (lane.reset(seed=seed)[0], 0.0, False, False)
        else:
            row = lane.step(action)[:4]
        ended = row[2] or row[3]
        rows.append(row)
    observations, rewards, terminated, truncated = map(np.array, zip(*rows, strict=True))
    return observations.astype(np.float32), rewards.astype(np.float32), terminated, truncated


def test_cartpole_equals_gymnasiums(cartpole):
    simulation, first = cartpole.reset(jax.random.key(3))
    _, actions, outcomes = cartpole.run(simulation, keys(0))
    assert np.sum(outcomes.terminated) >= 4  # random play fails after some 20 steps
    for lane in range(LANES):
        seed = host.lane_seed(np.asarray(simulation.token), lane, 0)
        expected = plain_rollout("CartPole-v1", seed, np.asarray(actions[:, lane]), 500, iter(()))
        assert_equal(first[lane], expected[0][0])
        assert_equal([leaf[:, lane] for leaf in outcomes], [leaf[1:] for leaf in expected])


def test_a_new_seed_once_a_lane_has_taken_as_many_steps_as_the_longest_episode():
    gymnasium.register(
        "valuelab-short-v0", gymnasium.spec("CartPole-v1").entry_point, max_episode_steps=STEPS // 6
    )
    short = Play("gymnasium/valuelab-short-v0")
    simulation, _ = short.reset(jax.random.key(3))
    after, actions, outcomes = short.run(simulation, keys(0))
    assert np.sum(outcomes.truncated) > 0
    assert np.min(after.seedings) >= 2
    for lane in range(LANES):
        seeds = (host.lane_seed(np.asarray(simulation.token), lane, count) for count in range(9))
        expected = plain_rollout(
            "valuelab-short-v0", next(seeds), np.asarray(actions[:, lane]), STEPS // 6, seeds
        )
        assert_equal([leaf[:, lane] for leaf in outcomes], [leaf[1:] for leaf in expected])
    # Then back to an earlier simulation, where lanes have different ages.
    middle, _, _ = short.run(simulation, keys(0))
    assert_equal(Play("gymnasium/valuelab-short-v0").run(middle, keys(1)), short.run(after, keys(1)))


def test_the_step_after_an_episode_begins_the_next(cartpole):
    simulation, _ = cartpole.reset(jax.random.key(1))
    _, _, outcomes = cartpole.run(simulation, keys(0))
    ended = np.asarray(outcomes.terminated | outcomes.truncated)
    follows = np.roll(ended, 1, axis=0) & (np.arange(STEPS) > 0)[:, None]
    assert follows.any()
    assert not (ended & follows).any()
    np.testing.assert_array_equal(outcomes.rewards, np.where(follows, 0.0, 1.0))
    assert np.all(np.abs(outcomes.observations[follows]) <= 0.05)  # CartPole's initial states


def test_steps_are_pure(cartpole):
    start, first = cartpole.reset(jax.random.key(0))
    middle, _, _ = once = cartpole.run(start, keys(0))
    later = cartpole.run(middle, keys(1))
    # Again, in another order, with other actions from the same simulation in between.
    assert_equal(cartpole.run(middle, keys(1)), later)
    cartpole.run(middle, keys(2))
    assert_equal(cartpole.run(start, keys(0)), once)
    assert_equal(cartpole.reset(jax.random.key(0)), (start, first))
    assert_equal(cartpole.run(middle, keys(1)), later)


def test_other_actions_lead_to_other_states(cartpole):
    simulation, _ = cartpole.reset(jax.random.key(0))
    left, right = (cartpole.step(simulation, jnp.full(LANES, action))[0] for action in (0, 1))
    actions = jnp.zeros(LANES, jnp.int32)
    after_left, after_right = (cartpole.step(chosen, actions)[1] for chosen in (left, right))
    assert np.all(after_left.observations[:, 1] < after_right.observations[:, 1])  # the cart's velocity


def test_a_fresh_process_goes_on_with_the_same_bits(cartpole, tmp_path):
    simulation, _ = cartpole.reset(jax.random.key(0))
    middle, _, _ = cartpole.run(simulation, keys(0))
    actions = jnp.arange(LANES) % 2
    expected = cartpole.step(middle, actions)
    np.savez(tmp_path / "middle.npz", *middle)
    program = f"""
import jax, numpy as np
from valuelab import environments
from valuelab.environments import host
middle = host.Simulation(*np.load("middle.npz", allow_pickle=False).values())
step = environments.vector("gymnasium/CartPole-v1", {LANES}).step
np.savez("after.npz", *jax.tree.leaves(jax.jit(step)(middle, np.arange({LANES}) % 2)))
"""
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True)
    with np.load(tmp_path / "after.npz", allow_pickle=False) as after:
        assert_equal(list(after.values()), jax.tree.leaves(expected))


def test_lanes_do_not_depend_on_how_many_there_are(cartpole):
    _, many = cartpole.reset(jax.random.key(0))
    _, one = environments.vector("gymnasium/CartPole-v1", 1).reset(jax.random.key(0))
    np.testing.assert_array_equal(one, many[:1])
    assert len(np.unique(many[:, 0])) == LANES


def test_members_take_turns_or_step_together(cartpole):
    both = jax.random.split(jax.random.key(7), 2)
    starts = [cartpole.reset(key)[0] for key in both]
    alone = [cartpole.run(start, keys(0)) for start in starts]
    expected = jax.tree.map(lambda *leaves: np.stack(leaves), *alone)

    def play(key):
        return rollout(cartpole.environment, cartpole.environment.reset(key)[0], keys(0))

    assert_equal(jax.jit(lambda both: jax.lax.map(play, both))(both), expected)
    assert_equal(jax.jit(jax.vmap(play))(both), expected)
    # Together, where one simulator is in the state of its simulation and the other is not.
    mixed = [alone[0][0], starts[1]]
    simulations = jax.tree.map(lambda *leaves: np.stack(leaves), *mixed)
    actions = jnp.zeros(LANES, jnp.int32)
    together = jax.jit(jax.vmap(cartpole.environment.step, in_axes=(0, None)))(simulations, actions)
    apart = [cartpole.step(simulation, actions) for simulation in mixed]
    assert_equal(together, jax.tree.map(lambda *leaves: np.stack(leaves), *apart))


class Faulty(gymnasium.Env):
    """Fails after a number of steps."""

    FAULTS = ("raises", "exits", "misshapes", "blinds", "spoils")
    observation_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)
    action_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)

    def __init__(self, fault, after):
        self.fault, self.left = fault, after

    def reset(self, *, seed=None, options=None):
        return np.zeros(2, np.float32), {}

    def step(self, action):
        self.left -= 1
        fault = self.fault if self.left <= 0 else ""
        if fault == "raises":
            raise RuntimeError("the motor\nbroke")
        if fault == "exits":
            raise SystemExit(3)
        observation = np.full(
            3 if fault == "misshapes" else 2, np.nan if fault == "blinds" else 0, np.float32
        )
        return observation, np.inf if fault == "spoils" else 0.0, False, False, {}


@pytest.fixture(scope="module")
def odd_pendulums():
    """Registers an environment without a step limit, one with unbounded actions, and faulty ones."""

    def unbounded(**settings):
        return gymnasium.wrappers.ClipAction(gymnasium.make("Pendulum-v1", **settings))

    gymnasium.register("valuelab-endless-v0", gymnasium.spec("Pendulum-v1").entry_point)
    gymnasium.register("valuelab-unbounded-v0", unbounded, max_episode_steps=9)
    ending = {"fault": "", "after": 30}
    gymnasium.register("valuelab-ends30-v0", Ending, max_episode_steps=9, kwargs=ending)
    for after in (1, 30):
        for fault in Faulty.FAULTS:
            settings = {"fault": fault, "after": after}
            gymnasium.register(f"valuelab-{fault}{after}-v0", Faulty, max_episode_steps=9, kwargs=settings)


def test_continuous_actions():
    pendulum = Play("gymnasium/Pendulum-v1", 1)
    spec = pendulum.environment.spec
    assert (spec.action_dim, spec.num_actions, spec.observation_dtype) == (1, 0, "float32")
    assert pendulum.environment.max_episode_steps == 200
    assert_equal((pendulum.environment.action_low, pendulum.environment.action_high), ([-2], [2]))
    simulation, _ = pendulum.reset(jax.random.key(0))
    after, actions, outcomes = pendulum.run(simulation, keys(0))
    seed = host.lane_seed(np.asarray(simulation.token), 0, 0)
    expected = plain_rollout("Pendulum-v1", seed, np.asarray(actions[:, 0]), 200, iter(()))
    assert_equal([leaf[:, 0] for leaf in outcomes], [leaf[1:] for leaf in expected])
    assert after.actions.shape == (1, 400, 1)
    np.testing.assert_array_equal(after.actions[:, :STEPS], np.moveaxis(actions, 0, 1))


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    ["ogbench/pointmaze-medium-navigate-singletask-v0", "d4rl/antmaze-umaze-v2", "d4rl/hopper-medium-v2"],
)
def test_the_environments_of_datasets_can_be_acted_in(name):
    """New simulators reach the same bits, even after the hopper has fallen and restarted without a seed."""
    ours, fresh = Play(name, 2), Play(name, 2)
    start, _ = ours.reset(jax.random.key(0))
    middle, _, outcomes = ours.run(start, keys(0))
    assert np.any(outcomes.terminated) == ("hopper" in name)
    assert np.max(middle.seedings) == 0
    assert_equal(fresh.run(middle, keys(1)), ours.run(middle, keys(1)))


@pytest.mark.slow
def test_episodes_of_d4rls_mazes_follow_from_the_last_seed():
    maze = environments.make("d4rl/antmaze-medium-play-v2").make()

    def goals(seed):
        return [maze.reset(seed=given) and tuple(maze.unwrapped.cur_goal_xy) for given in (seed, None, None)]

    once = goals(0)
    assert goals(0) == once
    assert len(set(once)) == 3
    maze.close()


# In processes.


class Ending(Faulty):
    """Ends its process."""

    def step(self, action):
        self.left -= 1
        if self.left <= 0:
            os._exit(7)
        return super().step(action)


def test_processes_give_the_same_bits(cartpole, odd_pendulums):
    """Also after an earlier simulation is restored; and processes end with their environments."""
    parallel = Play("gymnasium/CartPole-v1", in_processes=True)
    start, first = cartpole.reset(jax.random.key(3))
    assert_equal(parallel.reset(jax.random.key(3)), (start, first))
    middle, _, _ = once = cartpole.run(start, keys(0))
    assert_equal(parallel.run(start, keys(0)), once)
    assert_equal(parallel.run(start, keys(0)), once)
    assert_equal(
        Play("gymnasium/CartPole-v1", in_processes=True).run(middle, keys(1)), cartpole.run(middle, keys(1))
    )
    assert len(multiprocessing.active_children()) >= LANES
    # A fault in a process, and the end of one, is one line.
    for fault, message in (
        (
            "raises",
            r"^gymnasium/valuelab-raises30-v0 failed at .* \(RuntimeError: the motor broke, .*line \d+\)",
        ),
        (
            "ends",
            r"^gymnasium/valuelab-ends30-v0: the process of one of its environments ended with status 7",
        ),
    ):
        faulty = Play(f"gymnasium/valuelab-{fault}30-v0", 2, in_processes=True)
        with pytest.raises((ValueError, jax.errors.JaxRuntimeError)):
            jax.block_until_ready(faulty.run(faulty.reset(jax.random.key(0))[0], keys(0)))
        assert re.match(message, str(faulty.environment.failure()))
    del parallel
    gc.collect()
    assert not multiprocessing.active_children()


def test_a_simulator_that_failed_is_built_again(cartpole):
    simulation, _ = cartpole.reset(jax.random.key(0))
    expected = cartpole.step(simulation, jnp.zeros(LANES, jnp.int32))
    with pytest.raises((ValueError, jax.errors.JaxRuntimeError), match=r"int32\(7\)"):
        jax.block_until_ready(cartpole.step(expected[0], jnp.full(LANES, 7)))
    assert re.match(
        r"gymnasium/CartPole-v1 failed at .* \(AssertionError: .*", str(cartpole.environment.failure())
    )
    assert_equal(cartpole.step(simulation, jnp.zeros(LANES, jnp.int32)), expected)


@pytest.mark.parametrize(
    ("name", "lanes", "message"),
    [
        ("gymnasium/CartPol-v1", 1, "did you mean 'CartPole-v1'"),
        ("gymnasium/valuelab-endless-v0", 1, "has no max_episode_steps"),
        ("gymnasium/CartPole-v1", 0, "num_environments is 0: give a positive number"),
        (
            "ogbench/pointmaze-medium-navigate-v0",
            1,
            "the tasks of ogbench/.* are goals, so agents cannot learn in it",
        ),
        (
            "gymnasium/valuelab-unbounded-v0",
            1,
            r"the action space of .* is Box\(-inf, inf, .* must be bounded",
        ),
        ("gym/CartPole-v1", 1, "unknown environment 'gym/CartPole-v1': did you mean 'gymnasium/CartPole-v1'"),
        ("gymnasium/", 1, "unknown environment 'gymnasium/'"),
        (
            "gymnasium/valuelab-raises1-v0",
            1,
            r"-v0 failed at .* \(RuntimeError: the motor broke, .*test_host.py, line \d+\): correct",
        ),
        ("gymnasium/valuelab-exits1-v0", 1, r"-v0 failed at .* \(SystemExit: 3, .*\): correct the env"),
        ("gymnasium/valuelab-misshapes1-v0", 1, r"-v0 failed at .* \(ValueError: .*\): correct the env"),
        ("gymnasium/valuelab-blinds1-v0", 1, r"-v0 gave an observation that is not finite \(nan\): correct"),
        (
            "gymnasium/valuelab-spoils1-v0",
            1,
            r"-v0 gave a reward that is not finite \(inf\): correct the env",
        ),
    ],
)
def test_unsuitable_environments_are_refused(odd_pendulums, name, lanes, message):
    with pytest.raises(errors.InputError, match=message) as refused:
        environments.vector(name, lanes)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (
            "raises",
            r"v0 failed at a reset or a step \(RuntimeError: the motor broke, .*\): correct the environment$",
        ),
        ("spoils", r"v0 gave a reward that is not finite \(inf\): correct the environment$"),
    ],
)
def test_a_fault_while_an_agent_learns_is_one_line(odd_pendulums, fault, message, capfd):
    environment = environments.vector(f"gymnasium/valuelab-{fault}30-v0", 2)
    agent = iql(
        configuration.override(IQLConfig(), {"hidden_dims": (4,)}),
        dataclasses.replace(environment.spec, num_updates=99),
    )
    interaction = Interaction(num_environments=2, capacity=100, warmup_steps=20, update_to_data=1.0)
    mesh = make_mesh(1, 2, (1, 1))
    with pytest.raises(errors.InputError, match=message):
        train(agent, online(environment, 2, interaction), steps=99, mesh=mesh, show_progress=False)
    assert "Traceback" not in capfd.readouterr().err


def test_a_place_on_the_ice_is_one_of_sixteen():
    lake = environments.vector("gymnasium/FrozenLake-v1", 2)
    assert (lake.spec.observation_shape, lake.spec.observation_dtype) == ((16,), "float32")
    np.testing.assert_array_equal(lake.reset(jax.random.key(0))[1], np.eye(2, 16)[[0, 0]])


def test_a_missing_simulator_is_one_clear_sentence(monkeypatch):
    def missing(*arguments, **settings):
        raise gymnasium.error.DependencyNotInstalled("Box2D is not installed")

    monkeypatch.setattr(gymnasium, "make", missing)
    with pytest.raises(errors.MissingExtraError, match=r"LunarLander-v3 needs .* pip install 'valuelab\["):
        environments.vector("gymnasium/LunarLander-v3", 1)
