"""The programs that test claims about flow critics: their parts, and each program at a small size."""

import dataclasses
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.studies.flow_claims import (
    ablations,
    claims,
    comparison,
    embedding,
    grid_maze,
    plasticity,
    point_maze,
    recovery,
    supervision,
    targets,
    update_to_data,
)
from experiments.studies.flow_claims.claims import Claim, ClaimConfig
from valuelab import configuration
from valuelab.agents import composed
from valuelab.data import recording
from valuelab.errors import InputError
from valuelab.evaluation import statistics
from valuelab.runs import flags
from valuelab.types import Estimates, NextActions, Outcomes, PolicyView, Spec, Transitions, VectorEnvironment

SPEC = Spec((3,), "float32", action_dim=1, num_actions=0, reward_min=-1.0, reward_max=0.0, num_updates=4)
NARROW = {
    "agent.critic.hidden_dims": (4, 4),
    "agent.policy.hidden_dims": (4,),
    "agent.critic.num_draws": 1,
    "agent.critic.num_steps": 2,
    "agent.policy.num_steps": 1,
    "batch_size": 8,
}
PROGRAMS = {
    "plasticity": plasticity,
    "recovery": recovery,
    "supervision": supervision,
    "targets": targets,
    "update_to_data": update_to_data,
}


def batch(size: int) -> Transitions:
    random = np.random.default_rng(0)
    columns = (random.normal(size=shape).astype(np.float32) for shape in ((size, 3), (size, 1)))
    observations, actions = columns
    return Transitions(
        observations,
        np.tanh(actions),
        -np.ones(size, np.float32),
        np.ones(size, np.float32),
        observations[::-1],
        next_actions=np.tanh(actions)[::-1],
    )


def critic_of(agent: str):
    config = configuration.replace(flags.load_agent(agent)[0].agent, {"critic.hidden_dims": (4, 4)})
    return composed.critic_of(config, SPEC)


def test_differences_have_intervals_and_signs():
    above = statistics.difference(np.array([3.0, 4.0, 5.0]), np.array([1.0, 0.0, 2.0]))
    assert above["mean"] == pytest.approx(3)  # 4 - 1
    assert 0 < above["ci_low"] < 3 < above["ci_high"]
    assert above["sign"] == 1
    assert statistics.difference(np.array([1.0, 0.0]), np.array([4.0, 5.0]))["sign"] == -1
    assert statistics.difference(np.array([0.0, 4.0]), np.array([1.0, 3.0]))["sign"] == 0
    assert statistics.difference(np.array([0.0]), np.array([9.0]))["sign"] == 0  # one seed tells nothing
    assert [claims.verdict(sign) for sign in (1, 0, -1)] == ["shown", "not shown", "opposite"]


def test_a_cone_forgets_as_its_rate_says():
    # c = 1 heads straight for the end: the last step, of 1 / (1 - t) = K / 1 over 1 / K, forgets everything.
    np.testing.assert_allclose(recovery.cone(1.0, 4), [0, 0, 0, 0])
    np.testing.assert_allclose(recovery.cone(0.0, 3), [1, 1, 1])
    # c = 1/2 and K = 2: factors 3/4 and 1/2.
    np.testing.assert_allclose(recovery.cone(0.5, 2), [3 / 8, 1 / 2])


def test_early_layers_are_made_stale():
    critic = critic_of("fql")
    init = jax.jit(critic.init)
    stale, fresh = (init(jax.random.key(seed), batch(1)) for seed in (0, 1))
    operated = recovery.stale_layers(stale, fresh, 1)
    network = [state.params["params"]["StateValue_0"] for state in (stale, operated, fresh)]
    kernels = {
        layer: [part["MLP_0"][layer]["kernel"] for part in network] for layer in ("Dense_0", "Dense_1")
    } | {"output": [part["Dense_0"]["kernel"] for part in network]}
    np.testing.assert_array_equal(kernels["Dense_0"][1], kernels["Dense_0"][0])
    np.testing.assert_array_equal(kernels["Dense_1"][1], kernels["Dense_1"][2])
    np.testing.assert_array_equal(kernels["output"][1], kernels["output"][2])
    same = recovery.stale_layers(stale, fresh, 0)
    jax.tree.map(np.testing.assert_array_equal, same.params, fresh.params)


@pytest.mark.slow
@pytest.mark.parametrize("agent", ["fql", "floq"])
def test_frozen_features_stay(agent):
    critic = plasticity.frozen(critic_of(agent), after=1)
    state = jax.jit(critic.init)(jax.random.key(0), batch(1))
    costs = jnp.zeros(8)
    policy = PolicyView(look_ahead=lambda rows, key: NextActions(actions=rows.next_actions, costs=costs))
    update = jax.jit(lambda state: critic.update(state, batch(8), policy)[0])
    states = [state, update(state), update(update(state))]

    def changed(before, after):
        leaves = jax.tree_util.tree_leaves_with_path(
            jax.tree.map(lambda old, new: bool(jnp.any(old != new)), before.params, after.params)
        )
        return {jax.tree_util.keystr(path): moved for path, moved in leaves}

    first, second = changed(states[0], states[1]), changed(states[1], states[2])
    assert all(first[name] for name in first if "kernel" in name)
    moved = {name for name in second if second[name]}
    outputs = {name for name in second if "output_layer" in name or "['StateValue_0']['Dense_0']" in name}
    assert moved == outputs
    assert len(outputs) == {"fql": 2, "floq": 4}[agent]  # weights and biases, also of the distilled critic


@pytest.fixture(scope="module")
def maze():
    return grid_maze.make(ClaimConfig(log_steps=2000))


def at_places(maze, q):
    return np.broadcast_to(q, (len(maze.places), *q.shape))


def test_the_maze_is_solved_exactly(maze):
    mdp, q = maze.mdp, maze.optimal_q
    assert mdp.num_states == len(maze.cells) == 73
    np.testing.assert_allclose(grid_maze.backup(mdp, q.max(-1)), q, atol=1e-10)
    greedy = np.eye(4)[q.argmax(-1)]
    np.testing.assert_allclose(grid_maze.policy_values(mdp, greedy), q.max(-1), atol=1e-9)
    assert np.all(q[mdp.terminal] == 0)
    assert -50 < q.min() < -30
    # Next to the goal, right arrives with probability 0.9 + 0.1 / 4.
    (beside,) = np.flatnonzero((maze.cells == (11, 10)).all(-1))
    stays, other = q[beside].max(), q[(maze.cells == (11, 9)).all(-1)].max()
    expected = 0.05 * (-1 + 0.98 * stays) + 0.025 * (-1 + 0.98 * other)  # against two walls, and back
    assert q[beside, grid_maze.ACTIONS.index("right")] == pytest.approx(expected)


def test_policies_in_the_maze_are_scored(maze):
    assert maze.score(at_places(maze, maze.optimal_q)) == pytest.approx(1)
    assert maze.error(at_places(maze, maze.optimal_q) + 3) == pytest.approx(3)
    # Greedy actions that differ by place are a random policy: here each action at one place of each cell.
    q = np.broadcast_to(np.eye(4)[:, None], (4, 73, 4))
    np.testing.assert_allclose(maze.score(np.stack([q, at_places(maze, maze.optimal_q)])), [0, 1], atol=1e-9)


def test_transitions_of_the_maze_follow_the_mdp(maze):
    data = maze.dataset

    def states(observations):
        cells = np.floor((observations + 1) / 2 * 13).astype(int)
        return np.argmax((cells[:, None] == maze.cells).all(-1), axis=1)

    before, after = states(data.observations), states(data.next_observations)
    possible = (maze.mdp.next_states[before, data.actions] == after[:, None]) & (
        maze.mdp.probabilities[before, data.actions] > 0
    )
    assert possible.any(-1).all()
    np.testing.assert_array_equal(data.rewards == 0, maze.mdp.terminal[after])
    np.testing.assert_array_equal(data.masks, 1 - maze.mdp.terminal[after])
    assert np.bincount(before, minlength=73)[~maze.mdp.terminal].min() > 5
    assert np.abs(data.observations).max() <= 11 / 13
    assert (maze.spec.reward_min, maze.spec.reward_max) == (-1, 0)


def test_the_greedy_policy_follows_q(maze):
    q = jnp.asarray(maze.optimal_q, jnp.float32)

    def exact(observations, actions):
        cells = jnp.floor((observations + 1) / 2 * 13).astype(int)
        return q[jnp.argmax((cells[:, None] == maze.cells[None]).all(-1), axis=1), actions]

    estimates = Estimates(q=exact)
    np.testing.assert_array_equal(maze.q_of(estimates), at_places(maze, q))
    actions = grid_maze.greedy(4).sample(None, maze.places[0], None, 1.0, estimates)
    np.testing.assert_array_equal(actions, np.asarray(q).argmax(-1))


@pytest.mark.slow
@pytest.mark.parametrize("agent", ["fql", "floq"])
def test_critics_learn_in_the_maze(agent, maze, tmp_path):
    config = ClaimConfig(log_steps=2000, steps=60, num_seeds=2, evaluations=2, workdir=str(tmp_path))
    maze = maze._replace(spec=dataclasses.replace(maze.spec, num_updates=60))
    small = {
        "agent.critic.hidden_dims": (16,),
        "agent.critic.learning_rate": 0.01,
        "agent.critic.target_rate": 0.2,
    }
    variant = grid_maze.train(config, maze, agent, agent, small)
    assert variant.q[60].shape == (2, 4, 73, 4)
    assert np.all(variant.errors[60] < variant.errors[30])
    assert variant.trained.last_scores.shape == (2,)
    ratios = {"fql": [], "floq": [30, 60]}
    assert list(variant.blind_ratios) == ratios[agent]


@pytest.mark.parametrize("program", [ablations, embedding])
def test_critics_that_are_compared_exist(program):
    panels = [name for names in program.PANELS.values() for name in names]
    assert set(panels) == set(program.CONTENDERS)
    for contender in program.CONTENDERS.values():
        changes = {f"agent.critic.{name}": value for name, value in contender.changes.items()}
        configuration.replace(flags.load_agent(contender.agent)[0], changes)
    folders = [comparison.folder_name(contender) for contender in program.CONTENDERS.values()]
    assert len(set(folders)) == len(folders)
    if program is ablations:
        assert {name for pair in ablations.QUESTIONS.values() for name in pair} <= set(panels)


@pytest.mark.parametrize("program", [ablations, embedding])
def test_the_page_has_the_measured_table(program):
    root = pathlib.Path(__file__).parents[2]
    name = f"flow_claims_{program.__name__.rpartition('.')[2]}.json"
    saved = json.loads((root / "benchmarks" / name).read_text())
    assert list(saved["critics"]) == list(program.CONTENDERS)
    assert comparison.markdown(saved["critics"]) in (root / "docs" / "results" / "flow_claims.md").read_text()


@pytest.mark.slow
def test_critics_are_compared_in_small(tmp_path):
    config = ClaimConfig(log_steps=1000, steps=4, num_seeds=2, evaluations=2, workdir=str(tmp_path))
    narrow = {"hidden_dims": (4,)}
    contenders = {
        "flow": comparison.Contender(changes=narrow | {"num_draws": 1, "num_steps": 2}),
        "plain": comparison.Contender("fql", narrow),
    }
    summaries = comparison.summarize(comparison.train(config, contenders), reference="plain")
    assert summaries["plain"]["beyond_reference"]["error"]["mean"] == 0
    assert len(summaries["flow"]["error"]["final"]["per_seed"]) == 2
    header, _, flow, plain = comparison.markdown(summaries).splitlines()
    assert header.count("|") == flow.count("|") == plain.count("|")
    assert plain.endswith("|  |")  # a plain critic has no blind ratio
    assert len(comparison.draw_curves(summaries, {"all": ["flow", "plain"]}, "title").axes) == 3
    json.dumps(summaries)


def test_fixed_targets_are_the_optimal_values(maze):
    data = plasticity.with_optimal_q(maze).dataset
    right = (maze.dataset.rewards == 0) & (data.actions == grid_maze.ACTIONS.index("right"))
    (beside,) = np.flatnonzero((maze.cells == (11, 10)).all(-1))
    np.testing.assert_allclose(
        data.rewards[right], maze.optimal_q[beside, grid_maze.ACTIONS.index("right")], rtol=1e-6
    )
    assert right.any()
    assert not data.masks.any()


def test_the_spread_of_returns_is_that_of_episodes(maze):
    random, mdp = np.random.default_rng(0), maze.mdp
    states, actions = np.nonzero(~mdp.terminal)[0].repeat(4), np.tile(np.arange(4), 72)
    samples = []
    for _ in range(200):
        state, action = states, actions
        total, discount = np.zeros(len(states)), np.ones(len(states))
        for _ in range(150):
            chances = mdp.probabilities[state, action].cumsum(-1)
            outcome = np.argmax(random.uniform(size=(len(state), 1)) < chances, axis=-1)
            total += discount * mdp.rewards[state, action, outcome, 0]
            state = mdp.next_states[state, action, outcome]
            discount = np.where(mdp.terminal[state], 0, discount * grid_maze.DISCOUNT)
            action = maze.optimal_q[state].argmax(-1)
        samples.append(total)
    assert targets.spread_of_returns(maze) == pytest.approx(np.std(samples, axis=0).mean(), rel=0.03)


def test_points_stop_at_walls_and_at_the_goal():
    environment = point_maze.environment(3, max_steps=2)
    simulation, _ = environment.reset(jax.random.key(0))
    places = jnp.array([[1.2, 1.8], [5.5, 4.9], [1.2, 1.8]])
    simulation = simulation._replace(positions=places)
    simulation, after = environment.step(simulation, jnp.array([[-1.0, 0.4], [0.0, 1.0], [0.0, 3.0]]))
    np.testing.assert_allclose(after.observations, [[1.2, 2.0], [5.5, 5.4], [1.2, 2.3]], rtol=1e-6)
    np.testing.assert_array_equal(after.rewards, [-1, 0, -1])
    np.testing.assert_array_equal(after.terminated, [False, True, False])
    simulation, after = environment.step(simulation, jnp.zeros((3, 2)))
    np.testing.assert_array_equal(after.rewards, [-1, 0, -1])  # the second point begins an episode
    np.testing.assert_array_equal(after.truncated, [True, False, True])


def test_sizes_that_do_not_fit_are_refused():
    with pytest.raises(InputError, match="steps is 10; it must be a multiple of evaluations, 4"):
        ClaimConfig(steps=10, evaluations=4)
    with pytest.raises(InputError, match="no evaluation after equal environment steps"):
        update_to_data.UpdateToDataConfig(steps=12, evaluations=4, ratios=(2, 3))
    with pytest.raises(InputError, match="no workdir is given"):
        claims.run(Claim("Water is wet", {}), supervision.examine, ClaimConfig())


def test_continuous_actions_are_recorded():
    def step(simulation, actions):
        ends = jnp.zeros(2, bool)
        return simulation, Outcomes(simulation, -jnp.abs(actions[:, 0]), ends, ends)

    environment = VectorEnvironment(
        name="still",
        spec=SPEC,
        num_environments=2,
        max_episode_steps=9,
        reset=lambda key: (jnp.zeros((2, 3)), jnp.zeros((2, 3))),
        step=step,
        action_low=np.float32([-2]),
        action_high=np.float32([2]),
    )
    log = recording.record(environment, lambda seen, key: jnp.full((2, 1), 1.5), 3, jax.random.key(0))
    assert log.actions.dtype == np.float32
    np.testing.assert_array_equal(log.actions, np.full((6, 1), 1.5))
    np.testing.assert_array_equal(log.rewards, np.full(6, -1.5))
    assert (log.action_low, log.action_high) == (-2, 2)


@pytest.mark.slow
@pytest.mark.parametrize("name", PROGRAMS)
def test_programs_run_and_are_done_once(name, tmp_path, monkeypatch, capsys):
    for stage in (grid_maze, point_maze):
        monkeypatch.setattr(stage, "SETTINGS", stage.SETTINGS | NARROW)
    program = PROGRAMS[name]
    make_config = update_to_data.UpdateToDataConfig if program is update_to_data else ClaimConfig
    ratios = {"ratios": (1, 2)} if program is update_to_data else {}
    workdir = str(tmp_path / "out")
    config = make_config(log_steps=1000, steps=4, num_seeds=2, evaluations=2, workdir=workdir, **ratios)
    result = claims.run(program.CLAIM, program.examine, config)
    assert {part["verdict"] for part in result["decided"].values()} <= {"shown", "not shown", "opposite"}
    assert result["verdict"] == next(iter(result["decided"].values()))["verdict"]
    assert (tmp_path / "out" / "claim.png").read_bytes().startswith(b"\x89PNG")
    saved = json.loads((tmp_path / "out" / "result.json").read_text())
    for score in saved["scores"].values():
        assert score["curve"]["updates"] == [2, 4]
        assert len(score["final"]["per_seed"]) == 2
    assert claims.run(program.CLAIM, program.examine, config) == saved
    assert "is done already" in capsys.readouterr().out
