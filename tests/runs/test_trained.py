"""Trained runs that are loaded again: members, checkpoints, commands, tasks, values and evaluations."""

import dataclasses
import json
import subprocess
import sys

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import onnxruntime
import pytest
from absl import flags as absl_flags
from helpers import Field, assert_same_bits, make_dataset, write_maze_data
from scipy import stats

import valuelab as vl
from valuelab.data.sources import ogbench
from valuelab.evaluation import rollout
from valuelab.runs import flags, outputs, zero_shot

SMALL = {"steps": 8, "log_every": 4, "batch_size": 8, "mesh": (1, 1)}
ACTING = {
    "interaction.num_environments": 2,
    "interaction.capacity": 40,
    "interaction.warmup_steps": 8,
    "eval_max_steps": 20,
}
PLANE = vl.Environment(
    name="plane", make=Field, tasks={"only": None}, metric="return", score=lambda total, success: total
)


def last_evaluation(run, step):
    """The scores and returns that a run has saved, [M, T, E]."""
    with np.load(run.workdir / "episodes.npz") as table:
        rows = table["step"] == step
        shape = run.members.size, len(np.unique(table["task"])), -1
        return [table[name][rows].reshape(shape) for name in ("score", "return", "length")]


def assert_evaluated_alike(episodes, run, step):
    for ours, theirs in zip(
        (episodes.scores, episodes.returns, episodes.lengths), last_evaluation(run, step), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)


# Members and checkpoints.


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """A sweep with two seeds and three kept checkpoints, evaluated at two of them."""
    dataset = dataclasses.replace(make_dataset(), observations=make_dataset().observations[:, :2])
    dataset = dataclasses.replace(dataset, next_observations=dataset.observations)
    return vl.train(
        "bc",
        dataset,
        environment=PLANE,
        workdir=tmp_path_factory.mktemp("swept"),
        num_seeds=2,
        sweep=("agent.learning_rate=0.01,0.1",),
        eval_every=4,
        eval_episodes=2,
        checkpoint_every=4,
        **SMALL,
        **{"agent.hidden_dims": (8,)},
    )


def test_evaluations_are_repeated_to_the_last_bit_at_each_kept_checkpoint(swept):
    for step in (4, 8):
        run = vl.load(swept.workdir, step=step)
        assert run.step == step
        assert_evaluated_alike(run.evaluate(PLANE), run, step)
    other = run.evaluate(PLANE, episodes=1, seed=7)
    assert other.scores.shape == (4, 1, 1)
    with pytest.raises(vl.InputError, match=r"^step is 5, but the checkpoints under .* are of steps 4, 8:"):
        vl.load(swept.workdir, step=5)


def test_a_member_is_found_by_its_settings(swept):
    run = swept.member(**{"agent.learning_rate": 0.1}, seed=1)
    assert run.members.settings(0) == swept.members.settings(3)
    assert_same_bits(run.state(), swept.state(3))
    assert_same_bits(vl.load(swept.workdir, member=3).states, run.states)
    assert {row["seed"] for row in run.rows} == {1}
    assert len(run.rows) == len(swept.rows) // 4
    place = np.ones(2)
    np.testing.assert_allclose(run.policy()(place), swept.policy(3)(place), rtol=1e-6)
    for given, message in (
        ({"seed": 1}, r"^2 members have seed=1: give one of agent.learning_rate=0.01 seed=1; agent"),
        ({"seed": 5}, r"^0 members have seed=5: give one of agent.learning_rate=0.01 seed=0; agent"),
        ({"agent.learning_rat": 1}, r"^unknown swept setting 'agent.learning_rat': did you mean"),
    ):
        with pytest.raises(vl.InputError, match=message):
            swept.member(**given)
    iql = flags.load_agent("iql")[0]
    values = swept.members.hyperparameters["agent.learning_rate"]
    for name in ("agent.expectile", "agent.critic.expectile"):  # a short name and its full one
        members = dataclasses.replace(swept.members, hyperparameters={name: values})
        run = dataclasses.replace(swept, config=iql, members=members)
        for given in ("agent.expectile", "agent.critic.expectile"):
            found = run.member(**{given: 0.1}, seed=1).members.settings(0)
            assert list(found.values()) == list(swept.members.settings(3).values())
    with pytest.raises(vl.InputError, match=r"^member is 4; members of this run go from 0 to 3"):
        swept.member(4)


def test_a_policy_compiles_once_and_shares_it(swept):
    run = vl.load(swept.workdir)
    policies = [run.policy(member) for member in range(4)]
    for policy in policies * 2:
        policy(np.ones(2))
    assert policies[0]._act_compiled._cache_size() == 1
    policies[0](np.ones((3, 2)))
    assert policies[3]._act_compiled._cache_size() == 2  # one for each size of a batch


def test_what_an_agent_lacks_is_refused_by_name(swept):
    for call, message in (
        (lambda: swept.value(np.ones(2)), r"^bc has no state values: use a run of another agent"),
        (lambda: swept.command(0.1), r"^bc takes no commands: use run\.policy\(\)"),
        (lambda: swept.policy(task="task1"), r"^task is given, but bc is not a zero-shot agent"),
        (lambda: swept.infer(np.ones((3, 2)), np.ones(3)), r"^bc is not a zero-shot agent"),
        (lambda: swept.tasks(), r"^bc is not a zero-shot agent"),
    ):
        with pytest.raises(vl.InputError, match=message) as caught:
            call()
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"environment": "gymnasium/stranger:Walk-v0"},
            "which would execute stranger: if you trust it",
        ),
        (
            {"environment": "folder/odd.py:Walk"},
            "which would execute folder/odd.py: if you trust it",
        ),
        (
            {"environment": "gymnasium/Ant-v5", "environment_kwargs": '{"xml_file": "/odd.xml"}'},
            "names '/odd.xml' in environment_kwargs, which could be a file or code: if you trust it",
        ),
    ],
)
def test_code_and_files_that_a_saved_run_names_need_trust(swept, settings, message):
    run = vl.load(swept.workdir)
    named = dataclasses.replace(run, config=dataclasses.replace(swept.config, **settings))
    with pytest.raises(vl.InputError, match=message):
        named.evaluate()


# Files of policies. tests/agents compares the actions of every agent.

READER = """
import json, sys
import jax.export
import numpy as np
policy = jax.export.deserialize(open(sys.argv[1], "rb").read())
given = {name: np.asarray(values, dtype) for name, values, dtype in json.loads(sys.argv[2])}
outputs = policy.call(**given)
assert not [name for name in sys.modules if name.startswith(("valuelab", "flax", "onnx"))]
print(json.dumps({name: np.asarray(output).tolist() for name, output in outputs.items()}))
"""
"""A program that acts with a .jax file, without valuelab."""


def call_elsewhere(path, **given):
    """The outputs of a .jax file in another process."""
    inputs = json.dumps([[name, array.tolist(), str(array.dtype)] for name, array in given.items()])
    line = [sys.executable, "-c", READER, str(path), inputs]
    done = subprocess.run(line, capture_output=True, text=True, cwd=path.parent, check=True)
    return {name: np.asarray(output, np.float32) for name, output in json.loads(done.stdout).items()}


def test_a_jax_file_acts_without_valuelab(swept, tmp_path):
    run, places = vl.load(swept.workdir), np.random.default_rng(0).normal(size=(3, 2)).astype(np.float32)
    path = tmp_path / "new" / "policy.jax"
    description = run.policy(3, temperature=1.0).export(path)
    assert json.loads(path.with_name("policy.jax.json").read_text()) == description
    assert description["settings"] == {"agent.learning_rate": 0.1, "seed": 1}
    assert description["step"] == 8
    assert [(port["name"], port["shape"]) for port in description["inputs"]] == [
        ("observation", ["batch", 2]),
        ("seed", [2]),
    ]
    assert description["outputs"][0]["low"] == [-1, -1]
    seed = np.asarray(jax.random.key_data(jax.random.fold_in(jax.random.key(0), 0)))
    actions = call_elsewhere(path, observation=places, seed=seed)["action"]
    np.testing.assert_allclose(actions, run.policy(3, temperature=1.0)(places), atol=1e-5)


def test_files_that_cannot_be_written_are_one_line(swept, tmp_path, monkeypatch):
    (tmp_path / "folder.onnx").mkdir()
    (tmp_path / "file").touch()
    for path, settings, message in (
        (
            "policy.pt",
            {"member": 0},
            r"^path is .*policy\.pt, but must end in \.jax or \.onnx: give such a name",
        ),
        (
            "folder.onnx",
            {"member": 0},
            r"^path is .*folder\.onnx, which is a folder: give the name of a file",
        ),
        (
            "file/policy.onnx",
            {"member": 0},
            r"^.*file/policy\.onnx cannot be written \(.*\): give another path",
        ),
        ("policy.onnx", {"member": 0, "command": 1}, r"^bc takes no commands"),
        (
            "policy.onnx",
            {"member": 0, "task": np.ones(2)},
            r"^task is given, but bc is not a zero-shot agent",
        ),
        (
            "policy.onnx",
            {},
            r"^member is missing: the run has 4 members, so give member=, a number from 0 to 3",
        ),
        ("policy.onnx", {"member": 4}, r"^member is 4; members of this run go from 0 to 3"),
    ):
        with pytest.raises(vl.InputError, match=message) as caught:
            swept.export(tmp_path / path, **settings)
        assert "\n" not in str(caught.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder.onnx"]
    for suffix, package in ((".jax", "flatbuffers"), (".onnx", "onnx")):
        monkeypatch.setitem(sys.modules, package, None)
        with pytest.raises(vl.InputError, match=rf"^{package} is not installed: .*valuelab\[export\]"):
            swept.export(tmp_path / f"policy{suffix}", 0)


@pytest.mark.parametrize("suffix", [".jax", ".onnx"])
def test_an_agent_that_needs_the_size_of_its_batch_acts_on_one_row_at_a_time(swept, tmp_path, suffix):
    own = swept.agent()

    def act(state, observations, key, temperature):
        noise = temperature * jax.random.uniform(key, (len(observations), 2))
        return own.act(state, observations, key, 0.0) + noise

    run = dataclasses.replace(swept, build=lambda hyperparameters: own._replace(act=act))
    path, places = tmp_path / f"policy{suffix}", np.zeros((3, 2), np.float32)
    run.export(path, 0, temperature=0.1)
    given = {"observation": places, "seed": np.asarray(jax.random.key_data(jax.random.key(5)))}
    if suffix == ".jax":
        actions = np.asarray(jax.export.deserialize(path.read_bytes()).call(**given)["action"])
    else:
        (actions,) = onnxruntime.InferenceSession(path).run(None, given)
    alone = act(run.state(), places[:1], jax.random.key(5), 0.1)
    np.testing.assert_allclose(actions[:1], np.clip(alone, -1, 1), atol=1e-5)
    assert len(np.unique(actions, axis=0)) == 3


def test_what_onnx_lacks_is_named(swept, tmp_path):
    def act(state, observations, key, temperature):
        return jnp.linalg.cholesky(jnp.eye(2)[None] + observations[:, :, None] ** 2)[:, 0]

    agent = swept.agent()._replace(act=act)
    run = dataclasses.replace(swept, build=lambda hyperparameters: agent)
    with pytest.raises(vl.InputError, match=r"^the policy uses the primitive cholesky, .* a \.jax file$"):
        run.export(tmp_path / "policy.onnx", 0)
    run.export(tmp_path / "policy.jax", 0)

    def call_back(state, observations, key, temperature):
        shape = jax.ShapeDtypeStruct(observations.shape, jnp.float32)
        return jax.pure_callback(np.sin, shape, observations)

    own = dataclasses.replace(swept, build=lambda hyperparameters: agent._replace(act=call_back))
    with pytest.raises(vl.InputError, match=r"^the policy cannot be exported \(.*JAX functions alone$"):
        own.export(tmp_path / "policy.jax", 0)


# Commands.


@pytest.fixture(scope="module")
def stocks(tmp_path_factory):
    """D-eta-N in a gridworld."""
    return vl.train(
        "eta_network:target",
        environment="gridworld/target",
        workdir=tmp_path_factory.mktemp("stocks"),
        eval_episodes=1,
        **SMALL,
        **ACTING,
        **{"agent.hidden_dims": (8,)},
    )


def test_a_command_is_followed_through_an_episode(stocks):
    run = vl.load(stocks.workdir)
    episodes = run.evaluate()
    assert_evaluated_alike(episodes, run, 8)
    environment = vl.make_environment("gridworld/target").make()
    for number, name in enumerate(run.agent().memory.commands):
        policy = run.command(name)
        observation, _ = environment.reset(seed=rollout.episode_seed(0, 8, 0, 0))
        policy.reset(observation)
        target = float(name.partition("=")[2])
        assert policy.stock == -target
        total, length, over = 0.0, 0, False
        while not over and length < ACTING["eval_max_steps"]:
            stock = policy.stock
            value = policy.value(observation)
            observation, reward, terminated, truncated, _ = environment.step(policy(observation))
            policy.observe(reward)
            over = terminated or truncated
            assert (value.shape, value.dtype) == ((), np.float32)
            np.testing.assert_allclose(
                policy.stock, (stock + reward) / run.config.agent.discount, rtol=1e-5, atol=1e-6
            )
            total, length = total + reward, length + 1
        assert (total, length) == (episodes.returns[0, number, 0], episodes.lengths[0, number, 0])
    alone = vl.evaluate(run.command(2.5), "gridworld/target", episodes=1, max_steps=20)
    assert alone.scores.shape == (1, 1, 1)


@pytest.mark.parametrize("suffix", [".jax", ".onnx"])
def test_an_exported_policy_follows_its_command(stocks, tmp_path, suffix):
    """The stock is kept by the caller, by the equation in the description."""
    path, policy = tmp_path / f"policy{suffix}", stocks.command("target=4")
    description = policy.export(path)
    assert description["command"] == "target=4"
    assert [port["name"] for port in description["inputs"]] == ["observation", "stock"]
    if suffix == ".jax":
        exported = jax.export.deserialize(path.read_bytes())

        def act(**given):
            outputs = exported.call(**given)
            return outputs["action"], np.asarray(outputs["first_stock"])
    else:
        session = onnxruntime.InferenceSession(path)

        def act(**given):
            return session.run(["action", "first_stock"], given)

    places = np.random.default_rng(0).normal(size=(4, 1, *stocks.spec.observation_shape)).astype(np.float32)
    _, stock = act(observation=places[0], stock=np.zeros((1, 1), np.float32))
    policy.reset(places[0, 0])
    for place, reward in zip(places, (1.0, -2.0, 0.5, 3.0), strict=True):
        np.testing.assert_allclose(stock[0], policy.stock, rtol=1e-6)
        action, _ = act(observation=place, stock=stock)
        assert action[0] == policy(place[0])
        policy.observe(reward)
        stock = (stock + np.float32(reward)) / np.float32(description["discount"])


def test_commands_that_cannot_be_followed_are_one_line(stocks):
    policy, place = stocks.command("target=-4"), np.zeros(stocks.spec.observation_shape)
    began = stocks.command(4)
    assert (policy.name, began.name, stocks.command(2.5).name) == ("target=-4", "target=4", "target=2.5")
    for command in (stocks.command, lambda: stocks.export("policy.jax")):
        with pytest.raises(vl.InputError, match=r"^command is missing: give one of target=-4, target=0, "):
            command()
    assert repr(began) == "CommandPolicy(eta_network, member 0, target=4)"
    began.reset(place)
    began(place)
    for call, message in (
        (lambda: policy(place), r"^no episode has begun: call policy\.reset\(observation\) first"),
        (lambda: policy.reset(np.stack([place, place])), r"^observation is a batch, but this policy carries"),
        (lambda: began(place), r"^the reward of the last action is missing"),
        (lambda: began.observe([1.0, 2.0]), r"^reward is \[1\.0, 2\.0\]; give finite numbers of shape \(\)"),
        (lambda: policy.observe(1.0), r"^no action was asked for since the last reward"),
        (lambda: stocks.command("target=3"), r"^unknown command 'target=3'"),
        (lambda: stocks.command([1, 2]), r"^command has shape \(2,\); give a command of shape \(1,\)"),
        (lambda: stocks.policy(), r"^eta_network acts for a command: use run\.command"),
        (lambda: stocks.value(place), r"^values of eta_network depend on a command"),
    ):
        with pytest.raises(vl.InputError, match=message) as caught:
            call()
        assert "\n" not in str(caught.value)


CAPPED = """
import jax.numpy as jnp

from valuelab.agents import eta_network
from valuelab.agents.eta_network import EtaNetworkConfig as Config

CAP = jnp.asarray(1.0)


def capped(returns):
    return jnp.minimum(returns, CAP)


def make_agent(config, spec):
    return eta_network.eta_network(config, spec, utility=capped)
"""


def test_a_utility_in_a_file_needs_trust_and_gives_the_bits_of_one_in_python(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (file := tmp_path / "utility.py").write_text(CAPPED)
    settings = SMALL | ACTING | {"environment": "gridworld/target", "eval_episodes": 0}
    settings |= {"agent.discount": 1.0, "agent.hidden_dims": (8,), "sweep": ("agent.learning_rate=0.1,0.01",)}

    def train(agent, objective, steps):
        steps = {"steps": steps, "agent.learning_rate_schedule": "constant"}
        return vl.train(agent, workdir=objective, **settings | steps | {"agent.objective": objective})

    train("eta_network", "utility.py:capped", 4)
    run, other = train("eta_network", "utility.py:capped", 8), train("utility.py", "utility", 8)
    assert_same_bits(run.states, other.states)
    with pytest.raises(vl.InputError) as refused:
        vl.load("utility.py:capped")
    assert str(refused.value) == (
        "utility.py:capped/config.json names the agent.objective file 'utility.py', whose code would be "
        "executed: read it, then give --trust_agent_file, in Python trust_agent_file=True"
    )
    loaded = vl.load("utility.py:capped", trust_agent_file=True)
    loaded.export("policy.onnx", 1, command="capped")
    session = onnxruntime.InferenceSession("policy.onnx")
    place, policy = np.ones((1, *run.spec.observation_shape), np.float32), loaded.command("capped", 1)
    policy.reset(place[0])
    action, stock = session.run(["action", "first_stock"], {"observation": place, "stock": [[0.0]]})
    assert (action[0], stock[0]) == (policy(place[0]), policy.stock)

    for text, name, message in (
        (CAPPED + "1 / 0\n", "capped", "agent.objective file utility.py, line 16: ZeroDivisionError"),
        (CAPPED, "caped", "unknown function in utility.py 'caped': did you mean 'capped'"),
        ("def capped(returns): return returns.no", "capped", "utility.py:capped: objective capped failed at"),
    ):
        file.write_text(text)
        with pytest.raises(vl.InputError, match=message) as refused:
            vl.train("eta_network", workdir="new", **settings | {"agent.objective": f"utility.py:{name}"})
        assert "\n" not in str(refused.value)
    file.write_text("raise RuntimeError('executed')")
    for trust, message in ((False, "whose code would be executed"), (True, "utility.py has changed since")):
        with pytest.raises(vl.InputError, match=message):
            vl.load("utility.py:capped", trust_agent_file=trust)
    with pytest.raises(vl.InputError, match=r"^unknown value of agent.objective 'cvr': did .* FILE.py:FUN"):
        vl.train("eta_network", workdir="new", **settings | {"agent.objective": "cvr"})


# Learning by acting.


def test_sac_is_loaded_and_evaluated_again(tmp_path):
    narrow = {"agent.critic.hidden_dims": (8,), "agent.policy.hidden_dims": (8,)}
    settings = SMALL | ACTING | narrow | {"eval_episodes": 1, "eval_max_steps": 3}
    vl.train("sac", environment="gymnasium/Pendulum-v1", workdir=tmp_path, **settings)
    run = vl.load(tmp_path)
    assert_evaluated_alike(run.evaluate(), run, 8)
    assert run.member(0).rows == run.rows != []
    actions = run.policy(temperature=1.0)(np.zeros((50, 3)))
    assert np.all(np.abs(actions) <= 2)
    assert np.any(np.abs(actions) > 1)


# Tasks.


def some_tasks(name, states):
    """Two tasks that few states specify."""
    places = states["qpos"]
    return {f"task{number + 1}": -np.abs(places[:, number % 2] - number) for number in range(5)}


def train_zero_shot(tmp_path, episodes):
    write_maze_data(tmp_path)
    given = {
        "agent": "td_jepa",
        "agent.critic.predictor_dims": 8,
        "agent.critic.state_dims": 8,
        "agent.critic.task_dims": 8,
        "agent.critic.state_dim": 3,
        "agent.critic.task_dim": 3,
        "agent.policy.hidden_dims": 8,
        "dataset": "ogbench/pointmaze-medium-navigate-v0",
        "data_dir": tmp_path,
        "workdir": tmp_path / "run",
        "batch_size": 8,
        "steps": 4,
        "mesh": "1,1",
        "eval_episodes": episodes,
        "eval_max_steps": 20,
    }
    arguments = [f"--{name}={value}" for name, value in given.items()]
    return zero_shot.run(*zero_shot.parse(["zero_shot", *arguments], absl_flags.FlagValues()))


def test_a_zero_shot_run_acts_for_inferred_tasks(tmp_path, capsys):
    train_zero_shot(tmp_path, 0)
    run = vl.load(tmp_path / "run")
    places = np.random.default_rng(0).uniform(0, 20, (30, 2))
    rewards = np.stack([-places[:, 0], places[:, 1]])
    tasks = run.infer(places, rewards)
    assert tasks.shape == (2, 3)
    np.testing.assert_allclose(np.linalg.norm(tasks, axis=1), 3**0.5, rtol=1e-4)
    np.testing.assert_allclose(run.infer(places, rewards[1]), tasks[1], rtol=1e-3, atol=1e-3)
    policy = run.policy(task=tasks[0], temperature=0.0)
    assert policy(places).shape == (30, 2)
    np.testing.assert_allclose(policy(places[4]), policy(places)[4], rtol=1e-4, atol=1e-5)
    assert np.any(policy(places) != run.policy(task=tasks[1], temperature=0.0)(places))
    given = {"observation": places.astype(np.float32), "task": np.repeat(tasks[:1], 30, axis=0)}
    for task, names in ((None, ["observation", "task"]), (tasks[0], ["observation"])):
        description = run.export(tmp_path / "policy.onnx", task=task, temperature=0.0)
        assert [port["name"] for port in description["inputs"]] == names
        session = onnxruntime.InferenceSession(tmp_path / "policy.onnx")
        (actions,) = session.run(None, {name: given[name] for name in names})
        np.testing.assert_allclose(actions, run.policy(task=tasks[0], temperature=0.0)(places), atol=1e-5)
    assert run.value(places, task=tasks[0]).shape == (30,)
    assert run.value(places[0], task=tasks[0]).shape == ()
    for call, message in (
        (lambda: run.policy(), r"^td_jepa acts for a task: use run\.policy\(task=z\)"),
        (lambda: run.policy(task=np.ones(2)), r"^task has shape \(2,\); give a vector z of shape \(3,\)"),
        (lambda: run.infer(places, rewards[:, :5]), r"^rewards have shape \(2, 5\); give \[30\] or \[T, 30"),
        (lambda: run.infer(places[:2], rewards[0, :2]), r"^2 labelled states are too few"),
        (lambda: run.infer(places, np.ones(30)), r"^rewards of task 0 are 1 at all 30 labelled states"),
    ):
        with pytest.raises(vl.InputError, match=message):
            call()
    own = dataclasses.replace(run, config=dataclasses.replace(run.config, reward="/stranger.py:reward"))
    with pytest.raises(vl.InputError, match=r"names the reward file '/stranger.py:reward', whose code would"):
        own.tasks()


@pytest.mark.slow
def test_a_zero_shot_run_is_evaluated_again_on_its_tasks(tmp_path, monkeypatch):
    monkeypatch.setattr(ogbench, "task_rewards", some_tasks)
    train_zero_shot(tmp_path, 1)
    run = vl.load(tmp_path / "run")
    assert_evaluated_alike(run.evaluate(), run, 4)
    tasks = run.tasks()
    assert list(tasks) == [f"task{number}" for number in range(1, 6)]
    place = np.ones(2)
    np.testing.assert_array_equal(run.policy(task="task2")(place), run.policy(task=tasks["task2"])(place))
    assert run.policy(task="task2").evaluate(episodes=1).scores.shape == (1, 1, 1)


# The commit of the code.


def test_the_commit_is_kept_with_a_dirty_mark(tmp_path, monkeypatch):
    assert outputs.commit(tmp_path) == ""
    identity = ["-c", "user.name=a", "-c", "user.email=a@b"]

    def git(*words):
        line = ["git", "-C", str(tmp_path), *identity, *words]
        return subprocess.run(line, check=True, capture_output=True, text=True).stdout.strip()

    git("init", "-q")
    assert outputs.commit(tmp_path) == ""  # nothing is committed
    (tmp_path / "code.py").write_text("1")
    git("add", ".")
    git("commit", "-q", "-m", "one")
    head = git("rev-parse", "HEAD")
    assert outputs.commit(tmp_path) == head
    (tmp_path / "code.py").write_text("2")
    assert outputs.commit(tmp_path) == f"{head}-dirty"
    monkeypatch.setenv("PATH", "")
    assert outputs.commit(tmp_path) == ""  # git is missing


# Scores of goals as rewards.


def walks():
    """Random walks on [0, 10]."""
    random = np.random.default_rng(0)
    episodes = []
    for _ in range(40):
        actions = random.uniform(-1, 1, (60, 1)).astype(np.float32)
        places = [random.uniform(0, 10)]
        for action in actions[:, 0]:
            places.append(np.clip(places[-1] + action, 0, 10))
        observations = np.array(places, np.float32)[:, None]
        episode = {"observations": observations, "actions": actions, "rewards": np.zeros(60)}
        episodes.append(episode | {"terminated": False})
    return vl.dataset_from_episodes(episodes, name="walks")


AUXILIARY = {"agent.auxiliary": "contrastive", "data.future_discount": 0.8}


def test_a_goal_reward_orders_states_by_their_distance_to_the_goal():
    dataset = walks()
    run = vl.train(
        "iql",
        dataset,
        steps=400,
        batch_size=128,
        mesh=(1, 1),
        **AUXILIARY,
        **{"agent.hidden_dims": (32,), "agent.activation": "gelu", "data.normalize_observations": True},
        **{"agent.auxiliary.learning_rate": 3e-3, "agent.auxiliary.weight": 1.0},
        **{"agent.auxiliary.hidden_dims": (32,)},
    )
    reward, places = run.goal_reward(np.float32([7])), np.linspace(0, 10, 41, dtype=np.float32)
    scores = reward({"observations": places[:, None], "actions": np.zeros((41, 1), np.float32)})
    assert stats.spearmanr(scores, -np.abs(places - 7)).statistic > 0.95
    learnt = vl.train("iql", dataset, reward=reward, **SMALL, **{"agent.hidden_dims": (8,)})
    assert learnt.spec.reward_max > learnt.spec.reward_min
    assert learnt.config.reward == "goal_reward"
    with pytest.raises(vl.InputError, match=r"^iql learns no scores of goals: train crl, or another agent"):
        learnt.goal_reward(np.float32([7]))
    with pytest.raises(vl.InputError, match=r"^goal has shape \(2, 1\): give one observation"):
        run.goal_reward(np.zeros((2, 1), np.float32))


@pytest.mark.parametrize(
    ("goal_conditioned", "settings", "message"),
    [
        (
            False,
            {"agent.auxiliary": "contrastive"},
            "these batches have none: train on a dataset with --data.fut",
        ),
        (True, AUXILIARY, r"^data.future_discount is 0.8, but the goals of made up already are later"),
    ],
)
def test_an_auxiliary_needs_later_observations(goal_conditioned, settings, message):
    with pytest.raises(vl.InputError, match=message):
        vl.train("iql", make_dataset(goal_conditioned=goal_conditioned), **SMALL, **settings)
