"""Zero-shot agents: training without rewards, inference of tasks, runs and error messages."""

import functools
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl import flags as absl_flags
from helpers import EPISODES, LENGTH, assert_same_bits, saved_state, write_maze_data

from experiments.studies import adapt as adapting
from valuelab import configuration, data, platforms
from valuelab.agents import zero_shot
from valuelab.agents.composed import ComposedConfig, composed
from valuelab.agents.normalized import normalized
from valuelab.agents.shifted import ImageShift, shifted
from valuelab.agents.zero_shot import ZeroShotConfig
from valuelab.critics.flow import FlowCriticConfig
from valuelab.critics.forward_backward import ForwardBackwardConfig
from valuelab.critics.successor_features import SuccessorFeaturesConfig, successor_features_critic
from valuelab.critics.task_conditioned import apply_networks
from valuelab.critics.td_jepa import TDJEPAConfig
from valuelab.data import sampling
from valuelab.data.collection import exploration
from valuelab.data.sources import ogbench
from valuelab.environments.rewarded import rewards_of
from valuelab.errors import InputError
from valuelab.evaluation import mazes, task_plots
from valuelab.feature_learners.hilp import HILPConfig
from valuelab.feature_learners.observed import ObservedConfig, observed
from valuelab.feature_learners.rldp import RLDPConfig
from valuelab.networks.encodings import Encoder
from valuelab.ops import zero_shot as ops
from valuelab.policies.noisy import NoisyConfig
from valuelab.policies.one_step_flow import OneStepFlowConfig
from valuelab.runs import diagnosis, inputs, maze_pairs, results, train
from valuelab.runs import zero_shot as launcher
from valuelab.types import (
    Augmented,
    Environment,
    GoalConditioned,
    NextActions,
    Normalization,
    PolicyView,
    Spec,
    Transitions,
)

CHAIN = Spec((5,), "float32", 1, 0, 0.0, 0.0)


def chain_batch(random: np.random.Generator, size: int = 128) -> Transitions:
    """Random moves to the left and right among five states between two walls."""
    states = random.integers(0, 5, size)
    actions = random.uniform(-1, 1, (size, 1)).astype(np.float32)
    successors = np.clip(states + np.where(actions[:, 0] > 0, 1, -1), 0, 4)
    one_hot, zeros = np.eye(5, dtype=np.float32), np.zeros(size, np.float32)
    return Transitions(one_hot[states], actions, zeros, zeros + 1, one_hot[successors])


@pytest.mark.slow
@pytest.mark.parametrize(
    "critic",
    [
        TDJEPAConfig(state_dims=(32,), task_dims=(32,), state_dim=5, task_dim=5),
        ForwardBackwardConfig(state_dim=0, task_dims=(32,), task_dim=5),
        SuccessorFeaturesConfig(state_dim=0, feature_learner=ObservedConfig(constant=False)),
    ],
    ids=["td_jepa", "forward_backward", "successor_features"],
)
def test_every_state_of_a_chain_is_reached_as_a_task(critic):
    fast = {
        "critic.predictor_dims": (32,),
        "critic.discount": 0.8,
        "critic.learning_rate": 1e-3,
        "critic.feature_learning_rate": 1e-3,
        "critic.target_rate": 0.05,
    }
    policy = OneStepFlowConfig(
        hidden_dims=(32, 32), num_steps=4, bc_weight=0.02, normalize_q=True, learning_rate=1e-3
    )
    agent = zero_shot.zero_shot(
        configuration.replace(ZeroShotConfig(critic=critic, policy=policy), fast), CHAIN
    )
    random = np.random.default_rng(0)
    batches = [chain_batch(random) for _ in range(100)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *batches)

    @jax.jit
    def learn(key):
        def body(step, state):
            return agent.update(state, jax.tree.map(lambda leaf: leaf[step % 100], stacked))[0]

        state = jax.lax.fori_loop(0, 2500, body, agent.init(key, batches[0]))
        states = jnp.eye(5)
        by_reward = zero_shot.infer(agent, state, states, jnp.eye(5))
        by_goal = zero_shot.of_goals(agent, state, states)

        def act(task):
            given = Augmented(states, jnp.repeat(task[None], 5, axis=0))
            return agent.act(state, given, jax.random.key(0), 0.0)[:, 0]

        return jax.vmap(act)(by_reward), jax.vmap(act)(by_goal)

    for actions in learn(jax.random.key(0)):
        for goal in range(5):
            assert (actions[goal, :goal] > 0).all(), (goal, actions[goal])
            assert (actions[goal, goal + 1 :] < 0).all(), (goal, actions[goal])


def learn_features(config: SuccessorFeaturesConfig, batch: Transitions, updates: int):
    """The critic, its state after updates on one batch with a policy of zero actions, and metrics."""
    spec = Spec(batch.observations.shape[1:], "float32", 1, 0, 0.0, 0.0)
    critic = successor_features_critic(config, spec)
    state = jax.jit(critic.init)(jax.random.key(0), batch)
    still = NextActions(jnp.zeros_like(batch.actions), jnp.zeros_like(batch.rewards))

    @jax.jit
    def update(state):
        state, metrics = critic.update(state, batch, PolicyView(look_ahead=lambda batch, key: still))
        return critic.average_targets(state), metrics

    for _ in range(updates):
        state, metrics = update(state)
    return critic, state, metrics


def test_in_one_dimension_losses_of_features_and_of_values_are_the_same():
    # Tasks are 1 or -1 there, and (zF - zy)² = (F - y)².
    observations, actions, successors = np.random.default_rng(0).uniform(-1, 1, (3, 32, 1)).astype(np.float32)
    zeros = np.zeros(32, np.float32)
    tasks = np.sign(observations)
    batch = Transitions(observations, actions, zeros, zeros + 1, successors, goals=tasks)
    metrics = {}
    for loss in ("features", "values"):
        config = SuccessorFeaturesConfig(
            predictor_dims=(8,), state_dim=0, feature_learner=ObservedConfig(constant=False), loss=loss
        )
        *_, metrics[loss] = learn_features(config, batch, updates=2)
    for name in ("successor_loss", "gradient_norm"):
        np.testing.assert_allclose(metrics["features"][name], metrics["values"][name], rtol=1e-5)


def test_sums_of_differences_have_the_difference_of_features_as_reward():
    # With discount 0 the target is ψ(s') - ψ(s), and ψ(s) = s here.
    random = np.random.default_rng(0)
    observations, successors, tasks = random.uniform(-1, 1, (3, 32, 2)).astype(np.float32)
    zeros = np.zeros(32, np.float32)
    batch = Transitions(observations, zeros[:, None], zeros, zeros + 1, successors, goals=tasks)
    shifted = batch._replace(next_observations=successors - observations)
    config = SuccessorFeaturesConfig(
        predictor_dims=(8,), state_dim=0, discount=0.0, feature_learner=ObservedConfig(constant=False)
    )
    *_, found = learn_features(configuration.replace(config, {"differences": True}), batch, updates=2)
    *_, expected = learn_features(config, shifted, updates=2)
    for name in ("successor_loss", "gradient_norm"):
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-5)
    with pytest.raises(InputError, match="differences is true, but loss 'measures' has densities of states"):
        SuccessorFeaturesConfig(loss="measures", differences=True)


@pytest.mark.parametrize(
    ("shape", "columns", "message"),
    [((8, 8, 3), (), "given features need vectors"), ((3,), (0, 3), "observations have columns 0 to 2")],
)
def test_missing_features_are_refused(shape, columns, message):
    with pytest.raises(InputError, match=message):
        observed(ObservedConfig(columns=columns), Spec(shape, "float32", 1, 0, 0.0, 0.0))


def test_a_running_mean_is_subtracted_from_centred_features():
    # The mean m is constant; after n updates with rate τ, (1 - τ)^n m is left.
    successors = np.random.default_rng(0).uniform(1, 2, (32, 2)).astype(np.float32)
    zeros = np.zeros(32, np.float32)
    batch = Transitions(successors, zeros[:, None], zeros, zeros + 1, successors, goals=successors)
    config = SuccessorFeaturesConfig(
        predictor_dims=(8,),
        state_dim=0,
        target_rate=0.2,
        feature_learner=ObservedConfig(constant=False),
        center=True,
    )
    critic, state, _ = learn_features(config, batch, updates=3)
    expected = successors - (1 - 0.8**3) * successors.mean(axis=0)
    np.testing.assert_allclose(jax.jit(critic.zero_shot.features)(state, successors), expected, rtol=1e-5)


def test_futures_are_of_the_same_trajectory_and_change_nothing_else(data_dir):
    dataset = data.load("ogbench/pointmaze-medium-navigate-v0", data_dir)
    plain, ahead = sampling.transitions(dataset, 512), sampling.transitions(dataset, 512, 0.5)
    batch = ahead.sample(ahead.arrays, jax.random.key(0))
    for one, other in zip(plain.sample(plain.arrays, jax.random.key(0)), batch[:-1], strict=False):
        if one is not None:
            np.testing.assert_array_equal(one, other)
    rows = {tuple(row): number for number, row in enumerate(dataset.next_observations.tolist())}
    own, later = (
        [rows[tuple(row)] for row in np.asarray(seen).tolist()] for seen in (batch[4], batch.futures)
    )
    steps = np.subtract(later, own)
    assert (steps >= 0).all()
    assert (np.array(own) // (LENGTH - 1) == np.array(later) // (LENGTH - 1)).all()
    assert 0.4 < (steps == 0).mean() < 0.6  # 1 - γ, apart from ends of trajectories
    with pytest.raises(InputError, match=r"future_discount is 1.0, but must lie in \[0, 1\)"):
        sampling.transitions(dataset, 4, 1.0)


def test_segments_are_the_following_steps(data_dir):
    dataset = data.load("ogbench/pointmaze-medium-navigate-v0", data_dir)
    sampler = sampling.transitions(dataset, 256, horizon=4)
    batch = sampler.sample(sampler.arrays, jax.random.key(0))
    segments = batch.segments
    np.testing.assert_array_equal(segments.actions[:, 0], batch.actions)
    np.testing.assert_array_equal(segments.observations[:, 0], batch.next_observations)
    rows = {tuple(row): number for number, row in enumerate(dataset.next_observations.tolist())}
    numbers = np.array([[rows[tuple(row)] for row in lane] for lane in segments.observations.tolist()])
    last = numbers[:, :1] // (LENGTH - 1) * (LENGTH - 1) + LENGTH - 2
    np.testing.assert_array_equal(numbers, np.minimum(numbers[:, :1] + np.arange(4), last))
    np.testing.assert_array_equal(segments.masks, numbers[:, :1] + np.arange(4) <= last)
    assert segments.masks.min() == 0
    with pytest.raises(InputError, match="horizon is -1, but must be at least 0: give 0 for no segments"):
        sampling.transitions(dataset, 1, horizon=-1)


def test_labels_of_tasks_equal_those_of_ogbench(shared_data):
    states = ogbench.read_states("pointmaze-medium-navigate-v0", shared_data)
    some = {key: array[::500] for key, array in states.items()}
    found = ogbench.task_rewards("pointmaze-medium-navigate-v0", some)
    single = data.load("ogbench/pointmaze-medium-navigate-singletask-task3-v0", shared_data, compact=True)
    np.testing.assert_array_equal(found["task3"], single.rewards[::500] + 1)
    assert set(found) == {f"task{number}" for number in range(1, 6)}
    assert set(np.unique(found["task1"])) == {0, 1}


def test_labels_that_do_not_specify_a_task_are_refused():
    rewards = np.random.default_rng(0).normal(size=(2, 9))
    zero_shot.check_labels(rewards, ["a", "b"], 9)
    with pytest.raises(InputError, match="9 labelled states are too few for a task of 10 numbers"):
        zero_shot.check_labels(rewards, ["a", "b"], 10)
    with pytest.raises(InputError, match="rewards of b are 1 at all 9 labelled states"):
        zero_shot.check_labels(np.stack([rewards[0], np.ones(9)]), ["a", "b"], 3)
    rewards[1, 4] = np.nan
    with pytest.raises(InputError, match="rewards of b are not finite at labelled state 4"):
        zero_shot.check_labels(rewards, ["a", "b"], 3)


@pytest.mark.parametrize(
    ("reward", "message"),
    [
        (lambda states: 1.0, r"reward mine returns shape \(\) for 3 rows"),
        (lambda states: [0, np.inf, 0], "reward mine is inf at row 1"),
        (lambda states: states["height"], r"reward mine failed \(KeyError: 'height'\)"),
    ],
)
def test_rewards_that_cannot_be_used_are_refused(reward, message):
    with pytest.raises(InputError, match=message):
        rewards_of(reward, {"observations": np.zeros((3, 2))}, "mine")


def test_every_critic_infers_tasks_in_its_way():
    ways = [
        (ForwardBackwardConfig(), ops.mean_tasks),
        (TDJEPAConfig(), ops.infer_tasks),
        (SuccessorFeaturesConfig(), ops.infer_tasks),
        (SuccessorFeaturesConfig(feature_learner=RLDPConfig(), loss="measures"), ops.mean_tasks),
    ]
    for critic, way in ways:
        agent = zero_shot.zero_shot(ZeroShotConfig(critic=critic, policy=small().policy), CHAIN)
        assert normalized(agent, Normalization()).infer_tasks is way


def test_the_task_of_an_expert_is_its_mean_encoding():
    agent = zero_shot.zero_shot(small(), CHAIN)
    states = jnp.eye(5)[:3]
    state = jax.jit(agent.init)(jax.random.key(0), chain_batch(np.random.default_rng(0), 1))
    expected = jax.jit(agent.features)(state, states).mean(0)
    found = zero_shot.of_expert(agent, state, states)
    np.testing.assert_allclose(found, 2 * expected / np.linalg.norm(expected), rtol=1e-5)


def test_the_task_of_a_goal_is_renewed_from_the_current_state_where_it_depends_on_it():
    learner = HILPConfig(hidden_dims=(8,), dim=3, goal_tasks="differences")
    critic = SuccessorFeaturesConfig(predictor_dims=(8,), feature_learner=learner)
    policy = OneStepFlowConfig(hidden_dims=(8,), num_steps=2)
    config = ZeroShotConfig(critic=critic, policy=policy, whiten_goals=True)
    agent = zero_shot.zero_shot(config, CHAIN)
    state = jax.jit(agent.init)(jax.random.key(0), chain_batch(np.random.default_rng(0), 1))
    moment = np.diag([1.0, 4.0, 9.0])
    state = state._replace(moment=jnp.asarray(moment, jnp.float32))
    states = jnp.eye(5)
    goals = states[::-1]
    encodings = np.asarray(jax.jit(agent.features)(state, states))
    expected = (encodings[::-1] - encodings) @ np.linalg.inv(moment)
    expected *= np.sqrt(3) / np.maximum(np.linalg.norm(expected, axis=1, keepdims=True), 1e-9)
    tasks = jax.jit(functools.partial(zero_shot.of_goals, agent))(state, goals, states)
    np.testing.assert_allclose(tasks, expected, rtol=1e-3, atol=1e-5)
    key = jax.random.key(1)
    aware = jax.jit(zero_shot.with_goals(agent).act)(state, GoalConditioned(states, goals), key, 0.0)
    np.testing.assert_array_equal(aware, jax.jit(agent.act)(state, Augmented(states, tasks), key, 0.0))
    assert agent.renews_tasks
    # The pairs of a maze are played by this agent.
    inference = launcher.renewed_of(results.TaskInference(None, *3 * [lambda *given: None]))
    named = inference(["a", "b", "c", "d", "e"], np.asarray(goals), 1.0)
    knows = named.with_tasks(agent)
    given = named.infer(agent, state)
    chosen = knows.memory.choose(given, states, jnp.arange(5.0)[:, None])
    np.testing.assert_array_equal(jax.jit(knows.act)(given, Augmented(states, chosen), key, 0.0), aware)
    with pytest.raises(InputError, match="the task of a goal depends on the current state"):
        zero_shot.of_goals(agent, state, goals)


@pytest.mark.slow
def test_both_targets_of_td_jepa_are_the_next_encoding_where_nothing_later_counts():
    batch = chain_batch(np.random.default_rng(0))
    batch = batch._replace(futures=batch.next_observations)
    losses = {}
    for target in ("temporal_difference", "monte_carlo"):
        config = configuration.replace(small(), {"critic.discount": 0.0, "critic.target": target})
        agent = zero_shot.zero_shot(config, CHAIN)
        state = jax.jit(agent.init)(jax.random.key(0), batch)
        losses[target] = jax.jit(agent.update)(state, batch)[1]["critic/loss"]
    np.testing.assert_allclose(*losses.values(), rtol=1e-5)
    with pytest.raises(InputError, match="td_jepa learns from later observations"):
        agent.update(jax.jit(agent.init)(jax.random.key(0), batch), batch._replace(futures=None))


def test_goals_outside_the_observation_space_are_refused():
    agent = zero_shot.zero_shot(small(), CHAIN)
    with pytest.raises(
        InputError, match=r"observations have shape \(4,\), but the agent was trained on shape \(5,\)"
    ):
        zero_shot.of_goals(agent, None, jnp.zeros((1, 4)))


def test_networks_of_one_shape_give_the_same_as_one_product():
    """One batched product, as on accelerators, against one product after the other."""
    network, keys = Encoder((4,), 3), jax.random.split(jax.random.key(0), 2)
    inputs = jax.random.normal(keys[0], (6, 5))
    calls = [(network, (network.init(key, inputs), inputs)) for key in keys]
    apart = apply_networks(calls)
    other = Encoder((4,), 2)
    with platforms.tracing_for("gpu"):
        np.testing.assert_allclose(apply_networks(calls), apart, rtol=1e-5)
        mixed = apply_networks([*calls, (other, (other.init(keys[0], inputs), inputs))])
    assert [encodings.shape for encodings in mixed] == [(6, 3), (6, 3), (6, 2)]


def test_both_predictors_of_td_jepa_are_one_product_on_accelerators():
    batch = chain_batch(np.random.default_rng(0))
    agent = zero_shot.zero_shot(small(), CHAIN)
    products = {}
    for platform in ("cpu", "gpu"):
        with platforms.tracing_for(platform):
            state = jax.eval_shape(agent.init, jax.random.key(0), batch)
            products[platform] = str(jax.make_jaxpr(agent.update)(state, batch)).count("dot_general[")
    assert products["gpu"] < 0.8 * products["cpu"]


def small() -> ZeroShotConfig:
    critic = TDJEPAConfig(predictor_dims=(8,), state_dims=(8,), task_dims=(8,), state_dim=4, task_dim=4)
    return ZeroShotConfig(critic=critic, policy=OneStepFlowConfig(hidden_dims=(8,), num_steps=2))


# Runs.

NARROW = {
    "agent.critic.predictor_dims": 8,
    "agent.critic.state_dims": 8,
    "agent.critic.task_dims": 8,
    "agent.critic.state_dim": 3,
    "agent.critic.task_dim": 3,
    "agent.policy.hidden_dims": 8,
    "dataset": "ogbench/pointmaze-medium-navigate-v0",
    "batch_size": 8,
    "steps": 4,
    "mesh": "1,1",
}


def launch(data_dir: pathlib.Path, workdir: pathlib.Path, **settings) -> dict:
    given = NARROW | {"agent": "td_jepa", "data_dir": data_dir, "workdir": workdir} | settings
    arguments = [f"--{name}={value}" for name, value in given.items()]
    config, make_agent = launcher.parse(["zero_shot", *arguments], absl_flags.FlagValues())
    return launcher.run(config, make_agent)


@pytest.fixture(scope="module")
def visited(tmp_path_factory):
    """Small data whose positions include every goal."""
    folder = tmp_path_factory.mktemp("visited")
    random = np.random.default_rng(0)
    places = random.uniform(-1, 21, (EPISODES * LENGTH, 2)).astype(np.float32)
    goals = np.float32([[20, 20], [20, 0], [0, 20], [0, 0], [4, 12], [12, 4], [8, 8], [12, 12], [16, 16]])
    places[: len(goals) * 2] = np.repeat(goals, 2, axis=0)
    write_maze_data(folder, qpos=places, observations=places)
    return folder


@pytest.mark.slow
def test_all_tasks_of_an_environment_are_played_and_drawn(visited, tmp_path, monkeypatch):
    monkeypatch.setattr(ogbench, "task_rewards", some_tasks)
    settings = {"num_seeds": 2, "eval_episodes": 1, "pairs": 3, "eval_max_steps": 200}
    result = launch(visited, tmp_path / "run", **settings)
    with monkeypatch.context() as unread:  # a finished run reads no data
        unread.setattr(inputs, "read_dataset", None)
        assert launch(visited, tmp_path / "run", **settings) == result
    assert list(result["references"]["straight"].values()) == [1, 1, 0, 0, 0]
    assert list(result["references"]["free way"].values()) == [1, 1, 1, 1, 1]
    for scores, seeds in ((result["pairs"]["success"], 2), (result["pairs"]["references"]["free way"], 1)):
        assert [scores[name]["pairs"] for name in mazes.BINS] == [1, 1, 1]
        assert all(len(scores[name]["per_seed"]) == seeds for name in mazes.BINS)
    correlation = result["pairs"]["rank_correlation"]
    assert np.shape(correlation["by_task"]) == (5, 2)
    assert all(0.8 < each < 0.99 for each in correlation["straight_by_task"])
    assert set(result["tasks"]) == {f"task{number}" for number in range(1, 6)}
    assert len(result["eval"]["success"]["per_seed"]) == 2
    for name in ("maze", "features", "tasks", "pairs"):
        assert (tmp_path / "run" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    report = json.loads((tmp_path / "run" / "latents.json").read_text())
    assert np.shape(report["eigenvalues"]) == (2, 3)
    np.testing.assert_allclose(np.sum(report["eigenvalues"], axis=1), [3, 3], rtol=1e-4)  # ‖ψ‖² = d
    assert all(1 <= rank <= 3 for rank in report["effective_rank"])
    assert json.loads((tmp_path / "run" / "result.json").read_text()) == result
    (tmp_path / "run" / "result.json").unlink()
    with monkeypatch.context() as unplayed:  # a run that is killed while it draws does not play pairs again
        unplayed.setattr(maze_pairs, "_episodes", None)
        assert launch(visited, tmp_path / "run", **settings)["pairs"] == result["pairs"]
    launch(visited, tmp_path / "later", num_seeds=2, eval_episodes=0, init_from=tmp_path / "run")
    assert saved_state(tmp_path / "later", 4)["states"]["learner"]["critic"]["step"].tolist() == [8, 8]
    given = [f"--checkpoint={tmp_path}/run", f"--workdir={tmp_path}/diagnosis", "--rows=30"]
    found = diagnosis.run(diagnosis.parse(["diagnose", *given], absl_flags.FlagValues()))
    (last,) = found["checkpoints"]
    assert set(last["tasks"]) == set(result["tasks"])
    assert np.shape(last["tasks"]["task1"]["mean"]) == (2,)
    assert last["critic"]["weight_norms"].keys() == last["critic"]["gradient_norms"].keys()
    assert (tmp_path / "diagnosis" / "diagnostics.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_an_agent_learns_a_task_from_frozen_encodings(visited, tmp_path, monkeypatch):
    monkeypatch.setattr(ogbench, "task_rewards", some_tasks)
    never = np.ones(EPISODES * LENGTH, np.float32)
    monkeypatch.setattr(ogbench, "_relabel", lambda name, states: (-never, never))
    launch(visited, tmp_path / "encoder", eval_episodes=0)
    given = {
        "encoder": tmp_path / "encoder",
        "agent": "iql",
        "agent.hidden_dims": 8,
        "dataset": "ogbench/pointmaze-medium-navigate-singletask-v0",
        "data_dir": visited,
        "workdir": tmp_path / "adapted",
        "batch_size": 8,
        "steps": 4,
        "eval_every": 2,
        "eval_episodes": 1,
        "mesh": "1,1",
    }

    def adapt(**changes):
        arguments = [f"--{name}={value}" for name, value in (given | changes).items()]
        return adapting.run(*adapting.parse(["adapt", *arguments], absl_flags.FlagValues()))

    result = adapt()
    assert result["scores"]["encodings"]["updates"] == [2, 4]
    assert (tmp_path / "adapted" / "adaptation.png").read_bytes().startswith(b"\x89PNG")
    saved = saved_state(tmp_path / "adapted" / "encodings", 4)["states"]
    encoder = saved_state(tmp_path / "encoder", 4)["states"]
    assert_same_bits(saved["encoder"], jax.tree.map(lambda leaf: leaf[:1], encoder))
    assert adapt() == result
    with pytest.raises(InputError, match="has observation_mean None, but here it is"):
        adapt(workdir=tmp_path / "other", **{"data.normalize_observations": True})
    with pytest.raises(
        InputError, match=r"has data.num_frames 1, but here it is 2: give --data.num_frames=1$"
    ):
        adapt(workdir=tmp_path / "joined", **{"data.num_frames": 2})
    with pytest.raises(InputError, match=r"does not look like the workdir of a run"):
        adapt(workdir=tmp_path / "another", encoder=tmp_path)


def test_agents_on_encodings_have_no_image_encoder():
    agent = ComposedConfig(critic=FlowCriticConfig(encoder="drq"), policy=OneStepFlowConfig(encoder="dqn"))
    for part in ("critic", "policy"):
        unneeded = configuration.replace(agent, {f"{part}.encoder": None})
        other = {"critic": "policy", "policy": "critic"}[part]
        with pytest.raises(InputError, match=rf"^{other}\.encoder is d.., but observations are vectors"):
            composed(unneeded, Spec((5,), "float32", 1, 0, 0.0, 1.0))
    assert adapting.without_image_encoders(agent) == ComposedConfig(
        critic=FlowCriticConfig(), policy=OneStepFlowConfig()
    )


@pytest.mark.parametrize("policy", [NoisyConfig, OneStepFlowConfig])
def test_an_embedding_of_tasks_needs_tasks(policy):
    config = ComposedConfig(policy=policy(task_embedding=True))
    with pytest.raises(InputError, match="but only zero-shot agents have tasks: leave it out"):
        composed(config, CHAIN)


def some_tasks(name, states):
    return {f"task{number}": (states["qpos"][:, 0] > 4 * number - 3) * 1.0 for number in range(1, 6)}


@pytest.mark.slow
def test_a_reward_function_of_the_user_is_evaluated(visited, tmp_path):
    (tmp_path / "mine.py").write_text(
        "def right(states):\n    return states['observations'][:, 0] + 0 * states['qvel'][:, 0]\n"
    )
    result = launch(visited, tmp_path / "run", reward=f"{tmp_path}/mine.py:right", eval_episodes=1)
    # Bounds on the sum of x over 1000 steps; episodes start at x between -1 and 1.
    assert -2000 < result["eval"]["return"]["mean"] < 25_000
    assert result["eval"]["return"]["mean"] != 0


@pytest.mark.slow
def test_all_tasks_of_an_explored_domain_are_played(tmp_path):
    exploration.collect("walker-noise", tmp_path, exploration.noise("walker"), episodes=1, seed=0)
    settings = {"agent": "td_jepa:walker_small", "dataset": "exorl/walker-noise", "eval_episodes": 1}
    result = launch(tmp_path, tmp_path / "run", labels=200, **settings)
    assert set(result["tasks"]) == {"stand", "walk", "run", "flip"}
    assert 0 < result["eval"]["return"]["mean"] < 1000
    with pytest.raises(InputError, match="a dataset of ExoRL without a task, such as exorl/walker-rnd"):
        launch(tmp_path, tmp_path / "other", **settings | {"dataset": "exorl/walker-noise-run"})


def test_invalid_datasets_and_rewards_are_refused(data_dir, tmp_path):
    with pytest.raises(InputError, match="give a goal-conditioned dataset of OGBench"):
        launch(data_dir, tmp_path / "a", dataset="d4rl/hopper-medium-v2")
    with pytest.raises(InputError, match=r"write FILE.py:FUNCTION"):
        launch(data_dir, tmp_path / "b", reward="mine")
    (tmp_path / "mine.py").write_text("def right(states):\n    return 0\n")
    with pytest.raises(InputError, match=r"function in .* 'rihgt'.*right"):
        launch(data_dir, tmp_path / "c", reward=f"{tmp_path}/mine.py:rihgt")


def test_places_within_the_radius_of_a_goal_have_its_reward():
    places, goals = np.array([[0.0, 0.0], [0.5, 0.0], [3.0, 0.0]]), np.array([[0.0, 0.6], [5.0, 0.0]])
    labels, unlabelled = launcher.goal_labels(places, goals, 1.0)
    np.testing.assert_array_equal(labels, [[1, 1, 0], [0, 0, 1]])
    assert unlabelled == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"dataset": "ogbench/cube-single-play-v0"},
            r"^pairs is 3, but ogbench/cube-single-play-v0 is not a",
        ),
        ({"dataset": "ogbench/pointmaze-teleport-navigate-v0"}, "without teleports: leave pairs out$"),
    ],
)
def test_pairs_need_a_maze_with_geodesics(changes, message):
    config = launcher.ZeroShotRunConfig(pairs=3, data=launcher.flags.DataConfig(), **changes)
    environment = Environment("name", lambda: None, {}, "success", score=lambda total, success: 0.0)
    inference = results.TaskInference(environment, *3 * [lambda *given: None])
    with pytest.raises(InputError, match=message):
        maze_pairs.find(config, environment, inference)


def test_the_file_of_a_reward_is_part_of_a_run(tmp_path):
    mine = tmp_path / "mine.py"
    mine.write_text("def right(states):\n    return 0\n")
    config = launcher.ZeroShotRunConfig(agent_source="td_jepa:pointmaze", reward=f"{mine}:right")
    ((name, file),) = inputs.user_files(config).items()
    assert (name, file.path) == ("reward", str(mine))
    mine.write_text("def right(states):\n    return 1\n")
    assert inputs.user_files(config)["reward"].sha256 != file.sha256
    assert inputs.user_files(launcher.ZeroShotRunConfig(agent_source="valuelab/presets/iql.py")) == {}


def test_experiments_train_names_experiments_zero_shot(data_dir, tmp_path):
    given = {"agent": "td_jepa", "data_dir": data_dir, "workdir": tmp_path / "run"} | NARROW
    arguments = [f"--{name}={value}" for name, value in given.items()]
    config, make_agent = launcher.flags.parse_run(["train", *arguments], absl_flags.FlagValues())
    with pytest.raises(InputError, match=r"python -m experiments.zero_shot"):
        train.run(config, make_agent)


def test_the_principal_plane_has_the_largest_variance():
    random = np.random.default_rng(0)
    wide = random.normal(size=(500, 2)) * [3.0, 1.0]
    turned = np.linalg.qr(random.normal(size=(4, 4)))[0][:2]
    plane = task_plots.principal_plane(wide @ turned + 7.0)
    np.testing.assert_allclose(np.abs(np.corrcoef(plane.T, wide.T)[:2, 2:]), np.eye(2), atol=0.1)
    np.testing.assert_allclose(plane.std(0), wide.std(0), rtol=0.02)


@pytest.mark.parametrize(
    ("side", "policy_sees", "message"),
    [
        (14, "encodings", "14 x 14 pixels, but critic td_jepa needs at least 15 x 15: give larger images$"),
        (15, "observations", "policies need vectors: give --agent.critic.policy_sees=encodings$"),
    ],
)
def test_unsuitable_images_are_refused(side, policy_sees, message):
    config = ZeroShotConfig(critic=TDJEPAConfig(policy_sees=policy_sees))
    with pytest.raises(InputError, match=message):
        zero_shot.zero_shot(config, Spec((side, side, 1), "uint8", 1, 0, 0.0, 0.0))


def test_the_message_names_the_setting_for_policies_on_images():
    config = ZeroShotConfig(critic=ForwardBackwardConfig(state_dim=0))
    message = "give --agent.critic.state_dim=50 and --agent.critic.policy_sees=encodings$"
    with pytest.raises(InputError, match=message):
        zero_shot.zero_shot(config, Spec((15, 15, 1), "uint8", 1, 0, 0.0, 0.0))


@pytest.mark.slow
def test_images_are_encoded_in_parts():
    images = Spec((15, 15, 1), "uint8", 1, 0, 0.0, 0.0)
    critic = ForwardBackwardConfig(
        predictor_dims=(4,), state_dims=(), state_dim=2, policy_sees="encodings", task_dims=(), task_dim=3
    )
    agent = zero_shot.zero_shot(
        ZeroShotConfig(critic=critic, policy=OneStepFlowConfig(hidden_dims=(4,))), images
    )
    seen = np.random.default_rng(0).integers(0, 256, (300, 15, 15, 1)).astype(np.uint8)
    zeros = np.zeros(300, np.float32)
    state = jax.jit(agent.init)(jax.random.key(0), Transitions(seen, zeros[:, None], zeros, zeros, seen))
    whole = agent.features(state, seen)
    np.testing.assert_allclose(zero_shot.encode(agent, state, jnp.asarray(seen)), whole, rtol=1e-5, atol=1e-6)


def dots(
    random: np.random.Generator, background: np.ndarray, size: int = 32
) -> tuple[Transitions, np.ndarray]:
    """A bright pixel that moves by one step on a background, and its position, [B, 2]."""
    places = random.integers(2, 13, (size, 2))
    actions = random.uniform(-1, 1, (size, 2)).astype(np.float32)

    def images(places: np.ndarray) -> np.ndarray:
        drawn = np.repeat(background[None], size, axis=0)
        drawn[np.arange(size), places[:, 0], places[:, 1]] = 255
        return drawn

    zeros = np.zeros(size, np.float32)
    successors = np.clip(places + np.sign(actions).astype(int), 2, 12)
    return Transitions(images(places), actions, zeros, zeros + 1, images(successors)), places


@pytest.mark.slow
def test_a_background_hides_what_moves_unless_it_is_subtracted():
    """Orthonormal features of randomly shifted images represent the shift, which varies most."""
    random = np.random.default_rng(0)
    background = random.integers(0, 256, (15, 15, 1)).astype(np.uint8)
    batches, places = zip(*[dots(random, background) for _ in range(50)], strict=True)
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *batches)
    images, places = np.concatenate([batch.observations for batch in batches]), np.concatenate(places)
    wanted = (places[:, 1] < 7).astype(np.float32)
    fast = {
        "critic.predictor_dims": (32,),
        "critic.learning_rate": 5e-4,
        "critic.feature_learning_rate": 5e-4,
        "critic.policy_sees": "encodings",
    }
    critic = ForwardBackwardConfig(state_dims=(), task_dims=(64,), state_dim=16, task_dim=16)
    config = ZeroShotConfig(critic=critic, policy=OneStepFlowConfig(hidden_dims=(32,)))
    spec = Spec((15, 15, 1), "uint8", 2, 0, 0.0, 0.0)
    agent = zero_shot.zero_shot(configuration.replace(config, fast), spec)
    plain = shifted(agent, ImageShift(pixels=2, together=False), spec)
    seen = Normalization(images.mean(0, np.float32), images.std(0).mean((0, 1), keepdims=True))

    def explained(agent):
        """The share of the variance of a reward for the left half that the features explain."""

        @jax.jit
        def encodings(key):
            def body(step, state):
                return agent.update(state, jax.tree.map(lambda leaf: leaf[step % 50], stacked))[0]

            state = jax.lax.fori_loop(0, 200, body, agent.init(key, batches[0]))
            return zero_shot.encode(agent, state, images[:1000])

        features = np.asarray(encodings(jax.random.key(0)))
        weights, *_ = np.linalg.lstsq(features, wanted[:1000], rcond=None)
        return 1 - np.var(wanted[:1000] - features @ weights) / np.var(wanted[:1000])

    as_they_are, without_background = explained(plain), explained(normalized(plain, seen))
    assert without_background > 2 * as_they_are, (without_background, as_they_are)
