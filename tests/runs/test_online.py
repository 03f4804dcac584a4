"""Training on a dataset and an environment: mixed batches, normalisation, and exact resume."""

import contextlib
import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import (
    CLONING,
    MAZE,
    ROOT,
    assert_close,
    assert_same_bits,
    command,
    launch,
    left_behind,
    linear_agent,
    make_dataset,
    saved_state,
    without_speed,
)

from valuelab import data, environments
from valuelab.agents.normalized import normalized
from valuelab.configuration import RunConfig
from valuelab.data import normalization, sampling
from valuelab.errors import InputError
from valuelab.runs import diagnosis, flags, inputs, saved
from valuelab.runs import train as launcher
from valuelab.training import Checkpoints, loop, make_mesh
from valuelab.training.experience import Interaction, blank, mixed, online
from valuelab.types import Agent, Outcomes, Spec, VectorEnvironment

LENGTH = 4
LOGGED = -100.0
"""The reward of each transition of the dataset; no transition of the environment has it."""
BOUND = np.full(2, 2, np.float32)
BATCH = 10_000
"""One size for all tests, because most of their time is compilation."""
HALF = BATCH // 2


def walkers():
    """Two points in the plane that actions in [-2, 2] move for 4 steps; they observe position and time."""

    def show(places, time):
        return jnp.concatenate([places, jnp.full((2, 1), time, jnp.float32)], axis=1)

    def reset(key):
        simulation = jax.random.uniform(key, (2, 2)), jnp.int32(0)
        return simulation, show(*simulation)

    def step(simulation, actions):
        places, time = simulation
        begins = time == LENGTH
        places = jnp.where(begins, 0.0, 0.5 * places + actions)
        time = jnp.where(begins, 0, time + 1)
        over = jnp.full(2, time == LENGTH)
        return (places, time), Outcomes(show(places, time), jnp.sum(places, axis=1), over & False, over)

    spec = Spec((3,), "float32", action_dim=2, num_actions=0, reward_min=-np.inf, reward_max=np.inf)
    return VectorEnvironment("walkers", spec, 2, LENGTH, reset, step, action_low=-BOUND, action_high=BOUND)


def logged():
    """A dataset of forty transitions of the same form."""
    rewards = np.full(40, LOGGED, np.float32)
    return dataclasses.replace(make_dataset(), rewards=rewards, action_low=-BOUND, action_high=BOUND)


def acting_agent():
    """Fits rewards linearly, and acts by the fit plus noise."""

    def act(state, observations, key, temperature):
        noise = temperature * jax.random.normal(key, (len(observations), 2))
        return observations[:, :2] * state.params["w"][None, :2] + noise

    return linear_agent(0.01)._replace(act=act)


def make_mixed(share=None, update_to_data=1.0):
    """An experience of dataset and environment; its replay buffer holds 60 steps in two lanes."""
    interaction = Interaction(
        num_environments=2,
        capacity=60,
        warmup_steps=20,
        update_to_data=update_to_data,
        dataset_share=share,
    )
    return mixed(sampling.transitions(logged(), BATCH), walkers(), interaction, offline_steps=6)


def collecting(agent, experience):
    """The initial carry, and a function that acts before an update."""
    state = jax.jit(agent.init)(jax.random.key(0), blank(walkers().spec, 1))

    def collect(carry, update):
        return experience.collect(carry, agent, state, update, jax.random.key(2))[0]

    return experience.init(experience.arrays, agent, state, jax.random.key(1)), jax.jit(collect)


@pytest.fixture(scope="module")
def carries():
    """The carry before updates 0, 5 and 6; update 6 is the first to act."""
    carry, collect = collecting(acting_agent(), make_mixed())
    return {update: (carry := collect(carry, update)) for update in (0, 5, 6)}


# Mixed batches.


@pytest.mark.parametrize(("share", "expected"), [(0.5, 5_000), (1 / 3, 3_333), (0.0, 0), (1.0, BATCH)])
def test_a_fixed_share_is_exact(carries, share, expected):
    experience = make_mixed(share=share)
    batch = experience.sample(experience.arrays, carries[6], jax.random.key(0))
    np.testing.assert_array_equal(batch.rewards == LOGGED, np.arange(BATCH) < expected)


def test_without_a_share_all_transitions_are_equally_likely(carries):
    experience = make_mixed()
    batch = experience.sample(experience.arrays, carries[6], jax.random.key(3))
    # The warmup makes 10 steps in each of two lanes, and 4 of 5 rows are transitions: 16 transitions, and 40
    # of the dataset. Four standard deviations of a share of 5/7 of 10,000 are 0.018.
    np.testing.assert_allclose(np.mean(batch.rewards == LOGGED), 40 / 56, atol=0.018)
    # No row mixes the two: transitions of the environment follow its dynamics.
    met = np.asarray(batch.rewards != LOGGED)
    np.testing.assert_allclose(
        batch.rewards[met], np.sum(batch.next_observations[met, :2], axis=1), rtol=1e-6
    )
    np.testing.assert_array_equal(batch.next_observations[met, 2], batch.observations[met, 2] + 1)


@pytest.mark.parametrize("share", [None, 0.5])
def test_batches_of_offline_steps_come_from_the_dataset(carries, share):
    experience, sampler = make_mixed(share=share), sampling.transitions(logged(), BATCH)
    for update in (0, 5):
        assert int(carries[update][1].written) == 0
        batch = experience.sample(experience.arrays, carries[update], jax.random.key(3))
        assert_same_bits(batch, sampler.sample(sampler.arrays, jax.random.key(3)))
    assert int(carries[6][1].written) == 10
    assert experience.environment_steps(6) == 0


@pytest.mark.parametrize(("update_to_data", "expected"), [(1, 64), (4, 16), (64, 0), (0.5, 128)])
def test_update_to_data(update_to_data, expected):
    """The environment steps of the 64 updates after the offline updates and the warmup of 20 steps."""
    experience = make_mixed(update_to_data=update_to_data)
    assert experience.environment_steps(6 + 64) == 20 + expected
    assert experience.environment_steps(6 + 640) == 20 + (640 / update_to_data) // 2 * 2


# Normalisation.


def test_transitions_of_the_environment_are_normalised_like_the_data():
    """In IQL's published fine-tuning code, rewards of the dataset are shifted and online rewards are not."""
    dataset = logged()
    fitted = normalization.fit(dataset, observations=True, rewards="d4rl_antmaze")
    seen = []
    spy = Agent(
        init=lambda key, example: None,
        update=lambda state, batch: (seen.append(batch), {}),
        act=lambda state, observations, key, temperature: jnp.full((2, 2), 0.5),
    )
    agent = normalized(spy, fitted)
    experience = make_mixed(share=0.5)
    carry, collect = collecting(agent, experience)
    carry = collect(carry, 6)
    batch = experience.sample(experience.arrays, carry, jax.random.key(0))
    agent.update(None, batch)
    (inner,) = seen
    np.testing.assert_array_equal(carry[1].rows.actions[:4], np.ones((4, 2, 2)))  # 0.5 of [-2, 2]
    np.testing.assert_array_equal(inner.actions[HALF:], np.full((HALF, 2), 0.5))
    # The dataset's mean and standard deviation, and rewards minus 1, for the rows of both.
    np.testing.assert_array_equal(inner.rewards[:HALF], np.full(HALF, LOGGED - 1))
    np.testing.assert_array_equal(inner.rewards, batch.rewards - 1)
    mean, std = dataset.observations.mean(axis=0), dataset.observations.std(axis=0)
    for ours, raw in (
        (inner.observations, batch.observations),
        (inner.next_observations, batch.next_observations),
    ):
        np.testing.assert_allclose(ours, (np.asarray(raw) - mean) / std, rtol=1e-4, atol=1e-5)
    # In the units of the environment a reward is the sum of the new position.
    places = batch.next_observations[HALF:, :2]
    np.testing.assert_allclose(batch.rewards[HALF:], np.sum(places, axis=1), rtol=1e-6)


def test_actions_out_of_bounds_are_stored_clipped():
    fitted = normalization.of_actions(-BOUND, BOUND)
    bold = acting_agent()._replace(act=lambda *_: jnp.array([[1.5, -1.5], [0.25, 0.0]]))
    experience = online(
        walkers(), 8, Interaction(num_environments=2, capacity=60, warmup_steps=20, update_to_data=1.0)
    )
    carry, collect = collecting(normalized(bold, fitted), experience)
    carry = collect(carry, 0)
    np.testing.assert_array_equal(carry[1].rows.actions[0], [[2, -2], [0.5, 0]])
    # The second episode starts at the origin, so its first step, in row 5, leads to the actions.
    np.testing.assert_array_equal(carry[1].rows.observations[6], [[2, -2, 1], [0.5, 0, 1]])


def test_normalised_or_discrete_actions_stay():
    unit, none = np.ones(2, np.float32), np.zeros(0, np.float32)
    assert normalization.of_actions(-unit, unit) == normalization.IDENTITY
    assert normalization.of_actions(none, none) == normalization.IDENTITY


# The loop.


def train(**settings):
    given = {"agent": acting_agent(), "experience": make_mixed(share=0.5), "steps": 12, "log_every": 3}
    return loop.train(**(given | {"mesh": make_mesh(1, BATCH, (1, 1)), "show_progress": False} | settings))


@pytest.mark.slow
def test_a_run_stopped_in_both_phases_ends_with_the_same_bits(tmp_path):
    def stop(states, step):
        raise KeyboardInterrupt

    straight = train()
    with contextlib.closing(Checkpoints(tmp_path / "checkpoints", {})) as checkpoints:
        for stopped_at in (4, 8):
            with pytest.raises(KeyboardInterrupt):
                train(checkpoints=checkpoints, checkpoint_every=3, evaluate=stop, eval_every=stopped_at)
            assert checkpoints.latest_step() == stopped_at
        resumed = train(checkpoints=checkpoints, checkpoint_every=3)
    assert_same_bits(resumed.states, straight.states)
    assert without_speed(resumed.rows) == without_speed(straight.rows)[-len(resumed.rows) :]
    assert [row.get("environment_steps") for row in straight.rows] == [None, None, 20 + 2, 20 + 6]


@pytest.mark.slow
def test_seeds_and_devices_do_not_change_a_member():
    one = train()
    many = train(seeds=[0, 1], mesh=make_mesh(2, BATCH, (2, 2)))
    assert_close(many.member(0), one.member(0))


# Error messages.


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"steps": 20, "offline_steps": 4, "online_steps": 5},
            "^steps is 20; it must be the sum 9 of offline_steps 4 and online_steps 5: leave it out",
        ),
        ({"online_steps": -1}, r"^online_steps is -1; it must lie in \[0, inf\)"),
        ({"interaction__dataset_share": 1.5}, r"^interaction.dataset_share is 1.5; it must lie in \[0, 1\]"),
        ({"interaction__update_to_data": 0}, r"^interaction.update_to_data is 0.0; it must lie in \[0.0001"),
        (
            {"interaction__capacity": 100},
            "^interaction.warmup_steps is 1000, but .* at most the capacity 100",
        ),
        (
            {"dataset": "", "environment": "gridworld/target", "offline_steps": 20},
            "^offline_steps and interaction.dataset_share need a dataset: give --dataset",
        ),
        (
            {"dataset": "", "environment": "gridworld/target", "interaction__dataset_share": 0.5},
            "^offline_steps and interaction.dataset_share need a dataset: give --dataset",
        ),
        (
            {"dataset": "", "environment": "gridworld/target", "data__goals__subgoal_steps": 5},
            "^agent behaviour_cloning or a flag sets data.goals.*, but the run has no dataset: give --data",
        ),
        (
            {"online_steps": 20, "environment": "gridworld/target"},
            r"^observations of ogbench/.* are float32\[2\], but float32\[.*\] in gridworld/target: give",
        ),
    ],
)
def test_invalid_settings_are_refused(data_dir, tmp_path, monkeypatch, settings, message):
    monkeypatch.chdir(ROOT)
    with pytest.raises(InputError, match=message) as caught:
        launch(command(data_dir, tmp_path, **settings))
    assert "\n" not in str(caught.value)


def test_goals_are_refused():
    sampler = sampling.goals(make_dataset(goal_conditioned=True), 8, sampling.GoalRelabelling())
    with pytest.raises(InputError, match=r"^goals of the dataset are float32\[3\], but none in walkers"):
        mixed(sampler, walkers(), Interaction(num_environments=2, capacity=60, warmup_steps=20), 0)
    with pytest.raises(InputError, match="are goals, so agents cannot learn in it"):
        inputs.make_vector_environment(
            RunConfig(dataset="ogbench/pointmaze-medium-navigate-v0", interaction=Interaction())
        )


def test_a_dataset_without_an_environment_needs_one():
    with pytest.raises(InputError, match=r"^my.hdf5 does not name an environment.*; or give another"):
        inputs.make_vector_environment(RunConfig(dataset="my.hdf5", interaction=Interaction()))


# From the command line, in simulators.

IN_THE_MAZE = {
    "agent": CLONING,
    "interaction__num_environments": 2,
    "interaction__warmup_steps": 8,
    "interaction__update_to_data": 1,
    "log_every": 4,
    "num_seeds": 2,
    "offline_steps": 6,
    "online_steps": 6,
    "steps": 12,
    "data__normalize_observations": True,
}


@pytest.mark.slow
def test_an_offline_run_is_fine_tuned_online_and_made_longer(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(inputs.environments, "vector", lambda *_: walkers())
    bounds = {"action_low": -BOUND, "action_high": BOUND}
    walks = dataclasses.replace(make_dataset(compact=True), **bounds)
    monkeypatch.setitem(data.SOURCES, "made_up", lambda name, data_dir, split: walks)
    offline = tmp_path / "offline"
    given = {"dataset": "made_up/walks", "mesh": "1,1"}
    launch(command(tmp_path, offline, **given, data__normalize_observations=True))
    given |= {"init_from": offline, "environment": "walkers"}
    given |= {f"interaction.{name}": 8 for name in ("warmup_steps", "update_to_data")}
    given |= {"interaction.num_environments": 2}
    mean = json.loads((offline / "config.json").read_text())["normalization"]["observation_mean"]
    alone, straight, grown = (tmp_path / name for name in ("alone", "straight", "grown"))
    for workdir, settings in (
        (alone, {"dataset": "", "steps": 12}),
        (straight, {"online_steps": 12, "interaction.dataset_share": 0.5}),
        (grown, {"online_steps": 7, "interaction.dataset_share": 0.5}),
        (grown, {"online_steps": 12, "interaction.dataset_share": 0.5}),
    ):
        arguments = command(tmp_path, workdir, **given | settings, log_every=4)
        launch([each for each in arguments if "steps" in settings or not each.startswith("--steps")])
        assert json.loads((workdir / "config.json").read_text())["normalization"]["observation_mean"] == mean
    now, then = saved_state(grown, 12), saved_state(straight, 12)
    assert_same_bits(now, then)  # also the replay buffer
    assert now["states"]["step"].tolist() == [32]  # 20 offline updates before
    assert left_behind(straight) == left_behind(grown)
    run = saved.open_run(alone, "checkpoint", trust_agent_file=True)
    met = diagnosis.read_replay(run)  # four rows in each of two lanes; the newest one has no successor
    assert met.observations.shape == met.next_observations.shape == (6, 3)
    np.testing.assert_array_equal(met.next_observations[:, 2], met.observations[:, 2] + 1)
    np.testing.assert_array_equal(met.terminals, [False, False, True] * 2)
    with pytest.raises(InputError, match="agent 'behaviour_cloning' has no critic to diagnose"):
        diagnosis.open_run(run)


@pytest.mark.slow
def test_a_critic_that_learned_by_acting_is_diagnosed(tmp_path, monkeypatch):
    monkeypatch.setattr(inputs.environments, "vector", lambda *_: walkers())
    given = {"agent": "sac", "dataset": "", "environment": "walkers", "steps": 20, "num_seeds": 2}
    given |= {"agent__critic__hidden_dims": 8, "agent__policy__hidden_dims": 8}
    given |= {"interaction__num_environments": 2, "interaction__warmup_steps": 8}
    arguments = command(tmp_path, tmp_path / "run", **given)
    launch([each for each in arguments if "agent.hidden_dims" not in each])
    config = diagnosis.DiagnoseConfig(
        checkpoint=str(tmp_path / "run"), workdir=str(tmp_path / "diagnosis"), rows=30
    )
    found = diagnosis.run(config)
    assert (found["dataset"], found["environment"], found["rows"]) == ("", "walkers", 30)
    assert np.isfinite(found["checkpoints"][-1]["q"]["mean"]).all()


@pytest.mark.slow
def test_offline_to_online_in_the_datasets_own_environment(data_dir, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    launch(command(data_dir, whole, **IN_THE_MAZE, eval_episodes=1))
    rows = [json.loads(line) for line in (whole / "metrics.jsonl").read_text().splitlines()]
    assert [row.get("environment_steps") for row in rows[::2]] == [None, 8 + 2, 8 + 6]

    def stop(self, states, step):
        raise KeyboardInterrupt

    again = command(data_dir, stopped, **IN_THE_MAZE, eval_episodes=1, eval_every=9, checkpoint_every=1)
    with monkeypatch.context() as patch:
        patch.setattr(launcher.results.Evaluation, "__call__", stop)
        with pytest.raises(SystemExit):
            launch(again)
    launch(again)
    saved = [saved_state(folder, 12) for folder in (whole, stopped)]
    for part in ("states", "experience"):
        assert_same_bits(*(state[part] for state in saved))


@pytest.mark.slow
def test_ogbench_environments_give_the_rewards_of_the_datasets(shared_data):
    """Both compute the reward from the state before the step; episode and mask end with the reward 0."""
    dataset = data.load(MAZE, shared_data, compact=True)
    path = shared_data / "ogbench" / "pointmaze-medium-navigate-v0.npz"
    with np.load(path, allow_pickle=False) as arrays:
        places, velocities = arrays["qpos"], arrays["qvel"]
    environment = environments.make(MAZE).make()
    reached = np.flatnonzero((dataset.rewards == 0) & dataset.valid)
    for row in [0, *(reached[:3] - 1), *reached[:3]]:
        environment.reset(seed=0)
        environment.unwrapped.set_state(places[row], velocities[row])
        _, reward, terminated, _, _ = environment.step(dataset.actions[row])
        assert (reward, terminated) == (dataset.rewards[row], dataset.masks[row] == 0)
    environment.close()


@pytest.mark.parametrize("source", ["sac", "sac:pendulum", "sac:rlpd", "iql:pointmaze_online"])
def test_the_presets_make_agents(source):
    config, make_agent = flags.load_agent(source)
    agent = make_agent(config.agent, dataclasses.replace(walkers().spec, num_updates=config.steps))
    batch = blank(walkers().spec, 8)
    state = jax.eval_shape(agent.init, jax.random.key(0), batch)
    updated, _ = jax.eval_shape(agent.update, state, batch)
    assert jax.tree.structure(updated) == jax.tree.structure(state)
