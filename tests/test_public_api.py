"""import valuelab as vl: its names, how light it is, and that they do what the command line does."""

import ast
import dataclasses
import doctest
import importlib
import inspect
import json
import pathlib
import subprocess
import sys
import types

import gymnasium
import h5py
import jax
import numpy as np
import pytest
from helpers import (
    CLONING,
    MAZE_GOALS,
    ROOT,
    Field,
    assert_same_bits,
    command,
    launch,
    saved_state,
    without_speed,
)

import valuelab as vl
from experiments import convert_to_rlds
from valuelab import configuration
from valuelab.data import storage
from valuelab.observation_parts import unpack
from valuelab.runs import results, saved
from valuelab.runs import train as launcher
from valuelab.training import logs

ROWS, LENGTH = 45, 9
SMALL = {"steps": 8, "log_every": 4, "batch_size": 8, "mesh": (1, 1), "agent.hidden_dims": (8,)}
CLONING = str(ROOT / CLONING)


def arrays() -> dict[str, np.ndarray]:
    """Five episodes of nine steps, each cut by a time limit."""
    random = np.random.default_rng(0)
    return {
        "observations": random.normal(size=(ROWS, 2)),
        "actions": random.uniform(-2, 2, (ROWS, 2)),
        "rewards": random.normal(size=ROWS),
        "terminations": np.zeros(ROWS),
        "truncations": np.arange(ROWS) % LENGTH == LENGTH - 1,
    }


def make(**changes):
    given = {"name": "robot", "action_bounds": (-2, 2)} | arrays() | changes
    return vl.dataset_from_arrays(**{key: value for key, value in given.items() if value is not None})


def episodes(final=True, **changes):
    """The same five episodes, with or without the observation after the last action, the first terminated."""
    given = arrays() | {"actions": arrays()["actions"]}
    logs = []
    for number in range(ROWS // LENGTH):
        rows = slice(number * LENGTH, (number + 1) * LENGTH)
        stop = rows.stop - 1 if final else rows.stop
        logs.append(
            {
                "observations": given["observations"][rows],
                "actions": given["actions"][rows.start : stop],
                "rewards": given["rewards"][rows.start : stop],
                "terminated": number == 0,
            }
        )
    for key, value in changes.items():
        logs[2] = {name: each for name, each in (logs[2] | {key: value}).items() if each is not None}
    return logs


def from_episodes(logs, **settings):
    return vl.dataset_from_episodes(logs, **{"name": "robot", "action_bounds": (-2, 2)} | settings)


class Plane(Field):
    """The same with a wider range of actions."""

    action_space = gymnasium.spaces.Box(-2.0, 2.0, (2,))


PLANE = vl.Environment(
    name="plane", make=Plane, tasks={"only": None}, metric="return", score=lambda total, success: total
)


# The names.


def test_all_is_what_dir_gives_and_every_name_resolves():
    assert dir(vl) == sorted(vl.__all__)
    assert len(set(vl.__all__)) == len(vl.__all__)
    assert {"__version__", *vl._PLACES} == set(vl.__all__)
    for name in vl.__all__:
        value = getattr(vl, name)
        assert isinstance(value, str) or value.__doc__, name


def test_a_type_checker_sees_the_same_names():
    tree = ast.parse((ROOT / "valuelab" / "__init__.py").read_text())
    branch = next(node for node in tree.body if isinstance(node, ast.If))
    assert ast.unparse(branch.test) == "TYPE_CHECKING"
    seen = {}
    for node in branch.body:
        for alias in node.names:
            module = node.module.removeprefix("valuelab").removeprefix(".")
            whole = f"{module}:{alias.name}"
            seen[alias.asname or alias.name] = whole
    seen["plots"] = seen["plots"].replace(":", ".") + ":"
    assert seen == vl._PLACES


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match=r"^module 'valuelab' has no attribute 'trian'$"):
        vl.trian  # noqa: B018


def test_the_import_is_light():
    program = "import sys, valuelab; print(sorted({name.split('.')[0] for name in sys.modules}))"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert not {"jax", "numpy", "flax", "orbax", "absl", "rich"} & set(ast.literal_eval(done.stdout))


# Datasets.


def test_a_cut_episode_loses_its_last_step_and_one_that_ended_keeps_it():
    given = arrays()
    given["terminations"][LENGTH - 1], given["truncations"][LENGTH - 1] = 1, 0
    dataset = make(**given)
    kept = np.setdiff1d(np.arange(ROWS), np.arange(2 * LENGTH - 1, ROWS, LENGTH))
    assert len(dataset.rewards) == len(kept)
    np.testing.assert_array_equal(dataset.observations, given["observations"][kept].astype(np.float32))
    following = given["observations"][np.minimum(kept + 1, ROWS - 1)].astype(np.float32)
    following[LENGTH - 1] = dataset.observations[LENGTH - 1]  # hidden by the mask
    np.testing.assert_array_equal(dataset.next_observations, following)
    assert np.flatnonzero(dataset.masks == 0).tolist() == [LENGTH - 1]
    assert np.count_nonzero(dataset.terminals) == ROWS // LENGTH


def test_next_observations_keep_every_step():
    following = np.ones((ROWS, 2))
    dataset = make(next_observations=following)
    assert len(dataset.rewards) == ROWS
    np.testing.assert_array_equal(dataset.next_observations, following)


def test_masks_and_episode_ends_are_another_way_to_say_it():
    given = arrays()
    other = make(masks=1 - given["terminations"], episode_ends=given["truncations"], terminations=None)
    assert_same_bits(vars(make()), vars(other))


def test_it_is_what_the_reader_of_d4rl_makes_of_the_same_arrays(tmp_path):
    given = arrays()
    given["terminations"][LENGTH - 1], given["truncations"][LENGTH - 1] = 1, 0
    given["actions"] /= 2
    path = tmp_path / "own.hdf5"
    with h5py.File(path, "w") as file:
        for name, key in (("terminals", "terminations"), ("timeouts", "truncations")):
            file[name] = given[key].astype(bool)
        for key in ("observations", "actions", "rewards"):
            file[key] = given[key].astype(np.float32)
    ours = make(**given, name=str(path), action_bounds=(-1, 1))
    assert_same_bits(vars(vl.load_dataset(str(path))), vars(ours))


def test_discrete_actions_images_and_goals():
    given = arrays()
    pixels = np.zeros((ROWS, 4, 4, 3), np.uint8)
    dataset = make(observations=pixels, actions=np.arange(ROWS) % 3, num_actions=3)
    assert (dataset.observations.dtype, dataset.actions.dtype, dataset.num_actions) == ("uint8", "int32", 3)
    assert dataset.action_low.shape == (0,)
    goals = make(rewards=None, terminations=None, goal_conditioned=True)
    assert goals.goal_conditioned
    assert np.all(goals.masks == 1)
    assert np.count_nonzero(goals.terminals) == np.count_nonzero(given["truncations"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rewards": None}, r"^dataset 'robot': rewards is missing"),
        ({"terminations": None}, r"^dataset 'robot': neither of terminations and masks is given"),
        ({"masks": np.ones(ROWS)}, r"^dataset 'robot': both of terminations and masks is given"),
        ({"terminations": None, "masks": np.ones(ROWS)}, r"^dataset 'robot': masks do not say where"),
        ({"truncations": np.zeros(ROWS)}, r"^dataset 'robot': its last row 44 ends no episode; mark it"),
        ({"truncations": np.ones(ROWS)}, r"^dataset 'robot': its 45 rows hold no transition"),
        ({"rewards": np.ones(ROWS - 1)}, r"^dataset 'robot': rewards has 44 rows"),
        ({"rewards": np.full(ROWS, np.nan)}, r"^dataset 'robot': rewards is nan at row 0, but"),
        (
            {"actions": np.full((ROWS, 2), 3.0)},
            r"^dataset 'robot': actions is 3 at row 0, outside the bounds",
        ),
        ({"actions": np.zeros(ROWS, int)}, r"^dataset 'robot': actions has shape \(45,\); give num_actions"),
        (
            {"action_bounds": (np.zeros(3), 1)},
            r"^dataset 'robot': action_bounds has a bound of shape \(3,\);",
        ),
        (
            {"action_bounds": (1, -1)},
            r"^dataset 'robot': action_bounds is \(1, -1\), but no action lies between",
        ),
        (
            {"action_bounds": (-2j, 2)},
            r"^dataset 'robot': action_bounds has a bound of complex128; give real",
        ),
        ({"action_bounds": 2}, r"^dataset 'robot': action_bounds is 2; give a pair, such as \(-1, 1\)"),
        ({"actions": [[0.0], [0.0, 1.0]]}, r"^dataset 'robot': actions is ragged"),
        (
            {"terminations": np.full(ROWS, 0.5)},
            r"^dataset 'robot': terminations is 0.5 at row 0, but",
        ),
        ({"observations": 3.0}, r"^dataset 'robot': observations is a single value: give an array"),
        ({"observations": np.ones(ROWS)}, r"^dataset 'robot': observations is float32 of shape \(45,\)"),
        ({"name": ""}, r"^name is empty"),
    ],
)
def test_arrays_at_fault_are_one_line(changes, message):
    with pytest.raises(vl.InputError, match=message) as caught:
        make(**changes)
    assert "\n" not in str(caught.value)


def assert_same_datasets(one, other):
    assert one.observation_parts == other.observation_parts
    assert_same_bits(*(vars(each) | {"observation_parts": ()} for each in (one, other)))


def test_episodes_with_their_final_observation_are_the_arrays_of_their_steps():
    logs = episodes()
    dataset = from_episodes(logs)
    steps = {key: np.concatenate([log[key] for log in logs]) for key in ("actions", "rewards")}
    last = np.arange(len(steps["rewards"])) % (LENGTH - 1) == LENGTH - 2
    expected = make(
        observations=np.concatenate([log["observations"][:-1] for log in logs]),
        next_observations=np.concatenate([log["observations"][1:] for log in logs]),
        **steps,
        terminations=last & (np.arange(len(last)) < LENGTH),
        truncations=last,
    )
    assert_same_bits(vars(dataset), vars(expected))
    compact = from_episodes(logs, compact=True)
    assert compact.next_observations is None
    assert_same_bits(vars(storage.full(compact)), vars(expected))
    assert_same_bits(vars(storage.full(storage.compact(expected))), vars(expected))
    objects = [types.SimpleNamespace(**log) for log in logs]
    assert_same_bits(vars(from_episodes(iter(objects))), vars(expected))


def test_episodes_of_several_parts():
    def parts(log):
        return {"image": np.zeros((LENGTH, 2, 2, 3), np.uint8), "state": log["observations"]}

    logs = episodes()
    dataset = from_episodes([log | {"observations": parts(log)} for log in logs])
    assert [part.name for part in dataset.observation_parts] == ["image", "state"]
    seen = unpack(dataset.observations, dataset.observation_parts)["state"]
    np.testing.assert_array_equal(seen, from_episodes(logs).observations)
    alone = {"state": logs[1]["observations"]}
    for other, message in (
        (logs[1], "observations of one episode are a dictionary, but of another an array: give the same"),
        (
            logs[1] | {"observations": alone},
            "observations has the entries state, but others have image, state",
        ),
    ):
        with pytest.raises(vl.InputError, match=f"episode 1: {message}"):
            from_episodes([logs[0] | {"observations": parts(logs[0])}, other])


def test_entries_in_another_order_are_the_same_entries():
    def entries(log, names):
        columns = dict(zip(("x", "y"), log["observations"].T, strict=True))
        return {"position": {name: columns[name] for name in names}}

    logs = episodes()
    given = [log | {"observations": entries(log, "xy" if n == 0 else "yx")} for n, log in enumerate(logs)]
    dataset = from_episodes(given)
    assert dataset.observation_entries == ("position/x", "position/y")
    assert_same_bits(vars(dataset) | {"observation_entries": ()}, vars(from_episodes(logs)))
    following = {"next_observations": entries(arrays(), "yx"), "observations": entries(arrays(), "xy")}
    expected = make(next_observations=arrays()["observations"])
    assert_same_bits(vars(make(**following)) | {"observation_entries": ()}, vars(expected))
    other = {"position": {"x": np.zeros(LENGTH), "z": np.zeros(LENGTH)}}
    for observations, message in (
        (other, "episode 1: observations has the entries position/x, position/z, but others have position/x"),
        (logs[1]["observations"], "episode 1: observations of one episode are a dictionary, but of another"),
    ):
        with pytest.raises(vl.InputError, match=message):
            from_episodes([given[0], logs[1] | {"observations": observations}])


@pytest.mark.parametrize(
    ("images", "warnings"),
    [
        (np.zeros((ROWS, 3, 8, 8), np.uint8), ["which are read as height, width, channels"]),
        (np.full((ROWS, 8, 8, 3), 200), ["numbers up to 200, and only images of uint8"]),
        (np.zeros((ROWS, 8, 8, 3), np.float32), []),
    ],
)
def test_images_that_networks_would_misread_give_a_warning(images, warnings, caplog):
    for observations, named in (images, "observations has"), ({"top": images}, r"observations['top'] has"):
        caplog.clear()
        make(observations=observations)
        assert len(caplog.messages) == len(warnings)
        for message, expected in zip(caplog.messages, warnings, strict=True):
            assert named in message
            assert expected in message


def test_episodes_without_their_final_observation_are_handled_as_arrays():
    given = arrays()
    given["terminations"][LENGTH - 1], given["truncations"][LENGTH - 1] = 1, 0
    assert_same_bits(vars(from_episodes(episodes(final=False))), vars(make(**given)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rewards": None}, "rewards is missing"),
        ({"terminated": None}, "terminated is missing: give True if the last step truly ended"),
        ({"terminated": [0, 1]}, r"terminated is \[0, 1\]: give True or False, or terminations of 8 rows"),
        (
            {"terminated": None, "terminations": np.eye(8)[3]},
            "terminations is 1 at row 3, but the episode has 8",
        ),
        (
            {"observations": None},
            "observations is missing; the episode is actions, rewards, terminated: give",
        ),
        (
            {"observations": np.ones((7, 2))},
            "observations has 7 rows, but actions has 8: give 9 observations",
        ),
        ({"observations": np.ones((9, 3))}, r"observations is float32 of shape \(9, 3\), but the first"),
        (
            {"rewards": np.ones(7)},
            "rewards has 7 rows, but actions has 8; row 7 is missing in .*: give one row",
        ),
        ({"observations": {"a": [np.zeros(2), np.zeros(3)]}}, r"observations\['a'\] is ragged"),
        (
            {key: np.zeros((1, 2)) for key in ("observations", "actions")} | {"rewards": [0]},
            "its only step was cut, and the observation after it is missing",
        ),
        ({"rewards": np.full(8, np.inf)}, "rewards is inf at row 0"),
        ({"actions": np.full((8, 2), 3.0)}, "actions is 3 at row 0, outside the bounds -2 to 2"),
        ({"actions": np.zeros((0, 2))}, "actions has no rows: leave out the episode"),
    ],
)
def test_episodes_at_fault_are_named(changes, message):
    with pytest.raises(vl.InputError, match=f"^dataset 'robot': episode 2: {message}") as caught:
        from_episodes(episodes(**changes))
    assert "\n" not in str(caught.value)


def test_actions_of_all_episodes_are_clipped_with_one_warning(caplog):
    dataset = from_episodes(episodes(actions=np.full((8, 2), 3.0)), clip_actions=True)
    assert dataset.actions.max() == 2
    assert caplog.text.count("clipped") == 1


# Files.


IMAGES = (np.arange(ROWS * 12) % 251).astype(np.uint8).reshape(ROWS, 2, 2, 3)


@pytest.mark.parametrize("kind", ["chained", "jumping", "discrete", "goals", "pixels", "parts"])
def test_a_saved_dataset_is_read_to_the_bit(tmp_path, kind):
    path = str(tmp_path / "new" / "own.npz")
    changes = {
        "chained": {},
        "jumping": {"next_observations": np.ones((ROWS, 2))},
        "discrete": {"actions": np.arange(ROWS) % 3, "num_actions": 3},
        "goals": {"rewards": None, "terminations": None, "goal_conditioned": True},
        "pixels": {"observations": IMAGES},
        "parts": {"observations": {"image": IMAGES, "state": arrays()["observations"]}},
    }[kind]
    dataset = make(name=path, **changes)
    vl.save_dataset(dataset, path)
    assert_same_datasets(vl.load_dataset(path), dataset)
    compact = vl.load_dataset(path, compact=True)
    assert (compact.next_observations is None) == (kind != "jumping")
    vl.save_dataset(compact, path)
    assert_same_datasets(vl.load_dataset(path, compact=True), compact)


def test_keys_decide_how_a_file_is_read(tmp_path, data_dir, caplog):
    path = str(tmp_path / "own.npz")
    np.savez(path, **arrays(), action_bounds=(-2, 2))
    assert_same_bits(vars(vl.load_dataset(path)), vars(make(name=path)))
    assert "read as in OGBench" not in caplog.text
    published = str(data_dir / f"{MAZE_GOALS}.npz")
    ours, theirs = (vl.load_dataset(name, data_dir) for name in (published, MAZE_GOALS))
    assert_same_bits(vars(ours), vars(theirs) | {"name": published})
    assert (
        "terminals is read as in OGBench: it marks the last row of each episode, which holds" in caplog.text
    )


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"reward": "rewards"}, "rewards is missing"),
        (
            {"obs": "observations"},
            r"key 'observations' is missing; the file has action_bounds, actions, obs, .*: rename",
        ),
        (
            {"terminals": "terminations", "timeouts": "truncations"},
            "terminals and timeouts are those of D4RL",
        ),
        ({"terminals": "truncations", "falls": "terminations"}, "masks is missing; terminals says where"),
        ({"terminals": "terminations"}, "terminals marks the ends of episodes, so truncations"),
    ],
)
def test_files_with_other_keys_are_one_line(tmp_path, keys, message):
    given = arrays() | {"action_bounds": (-2, 2)}
    for new, old in keys.items():
        given[new] = given.pop(old)
    np.savez(tmp_path / "own.npz", **given)
    with pytest.raises(vl.InputError, match=message) as caught:
        vl.load_dataset(str(tmp_path / "own.npz"))
    assert "\n" not in str(caught.value)
    assert str(tmp_path / "own.npz") in str(caught.value)


def test_files_that_would_run_code_or_do_not_exist_are_refused(tmp_path):
    path = str(tmp_path / "own.npz")
    with pytest.raises(vl.InputError, match=r"own\.npz does not exist: give the path of an NPZ file"):
        vl.load_dataset(path)
    np.savez(path, **arrays() | {"rewards": np.array([{}] * ROWS)})
    with pytest.raises(vl.InputError, match=r"own.npz cannot be read \(ValueError: Object arrays cannot be"):
        vl.load_dataset(path)
    with pytest.raises(vl.InputError, match="unknown split 'val'"):
        vl.load_dataset(path, split="val")
    with pytest.raises(vl.InputError, match=r"path is own: give one that ends in \.npz"):
        vl.save_dataset(make(), "own")


def test_a_file_has_no_environment_and_all_programs_read_it(tmp_path):
    path = str(tmp_path / "own.npz")
    vl.save_dataset(make(), path)
    with pytest.raises(
        vl.InputError, match=r"own.npz does not name an environment: give one, such as .*--eval_episodes=0"
    ):
        vl.train(CLONING, path, **SMALL)
    assert vl.train(CLONING, path, eval_episodes=0, **SMALL).step == SMALL["steps"]
    assert vl.describe(path, show=False)["transitions"] == ROWS - ROWS // LENGTH
    folder = convert_to_rlds.convert(path, tmp_path, ["train"])
    assert folder == tmp_path / "rlds" / "own"
    ours, theirs = vl.load_dataset("rlds/own", tmp_path), make(name="rlds/own")
    assert_same_bits(vars(ours), vars(theirs))


def test_describe_prints_what_the_program_prints(capsys):
    report = vl.describe(make())
    assert report["episodes"]["count"] == ROWS // LENGTH
    assert "robot" in capsys.readouterr().out


# Runs.


@pytest.fixture(scope="module")
def dataset():
    return make()


@pytest.fixture(scope="module")
def run(dataset, tmp_path_factory):
    """A run of two seeds, kept in a workdir and evaluated in an environment that is no name."""
    workdir = tmp_path_factory.mktemp("run")
    settings = SMALL | {"num_seeds": 2, "eval_episodes": 1, "data.normalize_observations": True}
    return vl.train(CLONING, dataset, environment=PLANE, workdir=workdir, **settings)


def test_a_run_on_arrays_returns_its_states_rows_result_and_policy(run, dataset):
    assert (run.step, run.members.size) == (8, 2)
    assert [row["step"] for row in run.rows] == [4, 4, 8, 8]
    assert run.result == json.loads((run.workdir / "result.json").read_text())
    assert run.result["eval"].keys() == {"return"}
    assert repr(run) == "TrainedRun(behaviour_cloning on robot, 2 members, step 8 of 8)"
    observations = dataset.observations[:3]
    for member in range(2):
        key = jax.random.fold_in(jax.random.key(0), 0)
        expected = run.agent(member).act(run.state(member), observations, key, 0.0)
        np.testing.assert_allclose(run.policy(member)(observations), expected, rtol=1e-5)
    figure = vl.plots.curves(run.rows)
    assert figure.axes


def test_a_loaded_run_acts_as_the_trained_one_to_the_last_bit(run, dataset, monkeypatch):
    monkeypatch.setattr(saved.inputs, "read_dataset", None)  # the data are not needed
    loaded = vl.load(run.workdir, trust_agent_file=True)
    assert loaded.spec == run.spec
    assert configuration.difference(configuration.to_json(loaded.config), run.config) == []
    assert_same_bits(loaded.states, run.states)
    assert (loaded.rows, loaded.result) == (run.rows, run.result)
    for settings in ({}, {"member": 1, "temperature": 1.0, "seed": 3}):
        ours, theirs = run.policy(**settings), loaded.policy(**settings)
        for seen in (dataset.observations[0], dataset.observations, dataset.observations):
            action = ours(seen)
            assert (action.shape, type(action)) == (seen.shape, np.ndarray)
            assert np.all(np.abs(action) <= 2)
            assert action.tobytes() == theirs(seen).tobytes()
    policy = run.policy(temperature=1.0)
    assert np.any(policy(dataset.observations) != policy(dataset.observations))


def test_the_same_call_on_a_done_workdir_loads_it_and_other_data_are_refused(run, dataset, capsys):
    settings = {name: value for name, value in SMALL.items() if name != "mesh"}
    settings |= {"num_seeds": 2, "eval_episodes": 1, "data.normalize_observations": True}
    again = vl.train(CLONING, dataset, environment=PLANE, workdir=run.workdir, **settings)
    assert "is done already" in capsys.readouterr().out
    assert_same_bits(again.states, run.states)
    with pytest.raises(
        vl.InputError, match=r"is of a run on other data \(rewards differ\): give another workdir"
    ):
        vl.train(CLONING, make(rewards=np.ones(ROWS)), workdir=run.workdir, environment=PLANE, **settings)
    with pytest.raises(vl.InputError, match=r"belongs to another run \(batch_size was 8, is 9"):
        vl.train(CLONING, dataset, workdir=run.workdir, environment=PLANE, **settings | {"batch_size": 9})


def test_another_reward_function_of_the_same_name_is_refused(dataset, tmp_path):
    vl.save_dataset(dataset, tmp_path / "own.npz")
    given = {"dataset": str(tmp_path / "own.npz"), "workdir": tmp_path / "run", "eval_episodes": 0} | SMALL
    run = vl.train(CLONING, reward=lambda arrays: arrays["actions"][:, 0], **given)
    again = vl.train(CLONING, reward=lambda arrays: arrays["actions"][:, 0], **given)
    assert_same_bits(again.states, run.states)
    with pytest.raises(vl.InputError, match=r"is of a run on other data \(rewards differ\)"):
        vl.train(CLONING, reward=lambda arrays: arrays["actions"][:, 1], **given)


def test_without_a_workdir_it_is_the_same_run_and_nothing_is_left(
    run, dataset, tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    ended, learn = [], launcher.learn
    monkeypatch.setattr(launcher, "learn", lambda *given: ended.append(learn(*given)) or ended[0])
    alone = vl.train(CLONING, dataset, **SMALL, **{"data.normalize_observations": True})
    assert alone.workdir is None
    assert_same_bits(alone.states, ended[0].states)
    assert (list(tmp_path.iterdir()), capsys.readouterr().out) == ([], "")
    np.testing.assert_allclose(alone.policy()(np.ones(2)), run.policy()(np.ones(2)), rtol=1e-4)
    assert "eval" not in alone.result  # arrays have no environment


REWARD = """
def middle(arrays):
    return -abs(arrays["next_observations"]).sum(1) - abs(arrays["actions"]).sum(1)


def of_simulator(arrays):
    return -abs(arrays["next_qpos"]).sum(1) + arrays["observations"][:, 0]
"""


class GymnasiumPlane(Plane, gymnasium.Env):
    """The same as a gymnasium.Env, which wrappers need."""


def test_a_reward_of_the_user_labels_the_data_and_scores_the_episodes(dataset, tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(REWARD)
    world = dataclasses.replace(PLANE, make=GymnasiumPlane)
    workdir = tmp_path / "run"
    given = SMALL | {"eval_episodes": 1, "eval_every": 0}
    run = vl.train(CLONING, dataset, environment=world, reward=f"{file}:middle", workdir=workdir, **given)
    expected = -np.abs(dataset.next_observations).sum(1) - np.abs(dataset.actions).sum(1)
    assert (run.spec.reward_min, run.spec.reward_max) == (expected.min(), expected.max())
    episode = run.evaluate(world, record=1)
    visited = episode.trajectories[0, 0, 0]
    moves = np.clip(np.diff(visited, axis=0), -2, 2)
    score = -np.abs(visited[1:]).sum() - np.abs(moves).sum()
    np.testing.assert_allclose(run.result["eval"]["return"]["mean"], score, rtol=1e-5)
    config = json.loads((workdir / "config.json").read_text())
    assert config["files"].keys() == {"agent_source", "reward"}

    def middle(arrays):
        return expected

    with pytest.raises(vl.InputError, match=r"belongs to another run \(reward was"):
        vl.train(CLONING, dataset, environment=world, reward=middle, workdir=workdir, **given)
    with pytest.raises(vl.InputError, match="reward middle returns shape"):
        vl.train(CLONING, dataset, environment=world, reward=middle, **given)
    with pytest.raises(vl.InputError, match=r"reward <lambda> is 1e\+39 at row 0: return finite float32"):
        vl.train(CLONING, dataset, reward=lambda arrays: np.full(len(expected), 1e39), **SMALL)

    def careless(arrays):
        arrays["next_observations"] += 1
        return expected

    with pytest.raises(vl.InputError, match=r"reward careless failed \(ValueError: .*read-only"):
        vl.train(CLONING, dataset, reward=careless, **SMALL)
    same = vl.train(CLONING, dataset, reward=middle, **SMALL)
    assert same.spec == run.spec
    assert_same_bits(same.states, run.states)
    with pytest.raises(vl.InputError, match="'middle' of the run was a function in memory"):
        same.evaluate()

    file.write_text(REWARD + "\n")
    with pytest.raises(vl.InputError, match=r"mine.py has changed since the run"):
        vl.load(workdir, trust_agent_file=True)


def test_a_reward_takes_the_place_of_goals_and_sees_the_simulator(data_dir, tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(REWARD)
    given = {"reward": f"{file}:of_simulator", "dataset": MAZE_GOALS, "agent": "bc"}
    launch(command(data_dir, tmp_path / "run", **given))
    loaded = vl.load(tmp_path / "run")
    assert not loaded.spec.goal_conditioned
    dataset = vl.load_dataset(MAZE_GOALS, data_dir)
    expected = -np.abs(dataset.next_observations).sum(1) + dataset.observations[:, 0]
    np.testing.assert_allclose(loaded.spec.reward_min, expected.min(), rtol=1e-6)
    with pytest.raises(vl.InputError, match=r"names the reward file .*mine.py:of_simulator', whose code"):
        loaded.evaluate(episodes=1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"reward": "mine"}, "write FILE.py:FUNCTION"),
        ({"data__rewards": "d4rl_antmaze"}, "data.rewards is 'd4rl_antmaze', a rule for the rewards of the"),
        ({"online_steps": 20}, "give --dataset, and leave out --online_steps"),
        (
            {"dataset": "", "environment": "gymnasium/Pendulum-v1"},
            "a reward labels a dataset before training",
        ),
    ],
)
def test_settings_that_do_not_go_with_a_reward_are_refused(data_dir, tmp_path, changes, message):
    (tmp_path / "mine.py").write_text(REWARD)
    given = {"reward": f"{tmp_path}/mine.py:middle", "dataset": MAZE_GOALS} | changes
    with pytest.raises(vl.InputError, match=message):
        launch(command(data_dir, tmp_path / "run", **given))


def test_it_is_the_run_of_the_command_line(data_dir, tmp_path):
    launch(command(data_dir, tmp_path / "flags", agent="bc", dataset=MAZE_GOALS))
    settings = {"batch_size": 8, "log_every": 5, "checkpoint_every": 5, "eval_episodes": 0, "mesh": (1, 1)}
    workdir = tmp_path / "python"
    run = vl.train(
        "bc",
        MAZE_GOALS,
        data_dir=str(data_dir),
        workdir=workdir,
        steps=20,
        **settings,
        **{"agent.hidden_dims": (8,)},
    )
    theirs, ours = (tmp_path / name for name in ("flags", "python"))
    assert_same_bits(saved_state(theirs, 20), saved_state(ours, 20))
    assert without_speed(logs.read_rows(theirs / "metrics.jsonl")) == without_speed(run.rows)
    configs = [json.loads((folder / "config.json").read_text()) for folder in (theirs, ours)]
    assert len({json.dumps(config["spec"]) for config in configs}) == 1

    # Goals are part of what the policy sees, and one goal serves a batch.
    policy, places = vl.load(ours).policy(), np.zeros((3, 2))
    assert policy(places, np.ones(2)).tobytes() == policy(places, np.ones((3, 2))).tobytes()
    assert policy(places[0], np.ones(2)).shape == (2,)
    for given, message in (
        ((), "goal is missing"),
        ((np.ones((2, 2)),), "goal has 2 rows where observation has 3"),
    ):
        with pytest.raises(vl.InputError, match=f"^{message}"):
            policy(places, *given)

    # A folder from before specs were kept is read with its dataset.
    del configs[1]["spec"]
    (ours / "config.json").write_text(json.dumps(configs[1]))
    assert vl.load(ours).spec == run.spec
    assert vl.load(ours, data_dir=data_dir).spec == run.spec


def test_a_run_that_learns_by_acting_is_loaded_too(tmp_path):
    interaction = {"num_environments": 2, "capacity": 40, "warmup_steps": 8}
    settings = {f"interaction.{name}": value for name, value in interaction.items()}
    run = vl.train(
        CLONING,
        environment="gymnasium/Pendulum-v1",
        workdir=tmp_path,
        eval_episodes=0,
        **SMALL,
        **settings,
    )
    assert run.spec.reward_max == np.inf
    loaded = vl.load(tmp_path, trust_agent_file=True)
    assert loaded.spec == run.spec
    action = loaded.policy()(np.zeros(3))
    assert action.tobytes() == run.policy()(np.zeros(3)).tobytes()
    assert np.all(np.abs(action) <= 2)
    np.testing.assert_allclose(loaded.normalization.action_high, 2)


def test_specs_are_kept_whole(run):
    spec = vl.Spec(
        (4, 4, 3), "uint8", 0, 5, -np.inf, np.inf, reward_dim=2, goal_conditioned=True, num_updates=7
    )
    for each in (spec, run.spec):
        assert results.spec_from_json(json.loads(json.dumps(results.spec_to_json(each)))) == each


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ((np.zeros(3),), r"^observation has shape \(3,\); give \(2,\), or a batch of such"),
        ((np.zeros((2, 3, 2)),), r"^observation has shape \(2, 3, 2\)"),
        ((np.zeros(2, np.uint8),), r"^observation is uint8; give float32, as in the data"),
        ((np.full(2, np.nan),), r"^observation holds a number that is not finite"),
        ((np.zeros(2), np.zeros(2)), r"^goal is given, and this agent takes none"),
    ],
)
def test_what_a_policy_cannot_take_is_one_line(run, given, message):
    with pytest.raises(vl.InputError, match=message):
        run.policy()(*given)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda run: vl.load(run.workdir), r"whose code would be executed: read it"),
        (
            lambda run: vl.load(run.workdir / "nothing"),
            r"^folder .*nothing does not exist: give --workdir=WORKDIR",
        ),
        (
            lambda run: vl.load(run.workdir / "checkpoints"),
            r"checkpoints does not look like the workdir of a run",
        ),
        (lambda run: run.policy(2), r"^member is 2; members of this run go from 0 to 1"),
        (lambda run: run.policy(temperature=-1), r"^temperature is -1; it must be at least 0"),
        (lambda run: vl.train("iqll", make()), r"^unknown agent 'iqll': did you mean 'iql'\?"),
        (lambda run: vl.train("iql", make(), batch=3), r"^unknown field 'batch': did you mean"),
        (lambda run: vl.train("iql"), r"^no dataset is given"),
        (
            lambda run: vl.train("iql", environment=PLANE),
            r"^environment is the Environment 'plane': to learn by",
        ),
        (
            lambda run: vl.train(CLONING, make(), eval_episodes=1),
            r"'robot' does not begin with a known source.*--eval_episodes=0",
        ),
        (
            lambda run: vl.evaluate(run, "gymnasium/CartPole-v1"),
            r"^observations of robot are float32\[2\], but",
        ),
        (lambda run: vl.evaluate(run), r"^environment 'robot' does not begin with a known source"),
        (lambda run: vl.evaluate(lambda observation: 0), r"^environment is missing"),
        (lambda run: vl.make_agent("iql", run.spec, steps=0), r"^steps is 0; it must lie in \[1, inf\)"),
    ],
)
def test_what_cannot_be_done_is_one_line(run, call, message, tmp_path):
    with pytest.raises(vl.InputError, match=message) as caught:
        call(run)
    assert "\n" not in str(caught.value)


def test_runs_policies_and_scripts_are_evaluated(run):
    whole = vl.evaluate(run, PLANE, episodes=3, record=1)
    assert whole.returns.shape == (2, 1, 3)
    second = vl.evaluate(run.policy(1), PLANE, episodes=3)
    np.testing.assert_allclose(second.returns, whole.returns[1:], rtol=1e-4)

    def left(observation):
        assert observation.shape == (2,)
        return [-1.0, 0.0]

    scripted = vl.evaluate(left, PLANE, episodes=3, record=3)
    assert np.all(scripted.lengths == 5)
    np.testing.assert_allclose(np.diff(scripted.trajectories[0, 0, 2], axis=0), [[-1, 0]] * 5, atol=1e-6)
    starts = [episodes.trajectories[0, 0, 0][0] for episodes in (whole, scripted)]
    np.testing.assert_array_equal(*starts)


def test_make_agent_is_the_agent_of_the_run(dataset):
    settings = {"agent.hidden_dims": (8,), "agent.expectile": 0.8, "data.normalize_observations": True}
    agent = vl.make_agent("iql", dataset, steps=8, **settings)
    example = vl.Transitions(
        *(
            getattr(dataset, name)[:1]
            for name in ("observations", "actions", "rewards", "masks", "next_observations")
        )
    )
    state = jax.eval_shape(agent.init, jax.random.key(0), example)
    actions = jax.eval_shape(agent.act, state, example.observations, jax.random.key(0), 0.0)
    assert actions.shape == (1, 2)


def test_a_gamble_is_solved_for_its_cvar():
    mdp = vl.make_mdp(
        np.array([[[0, 0.5, 0.5], [0, 0, 1]], [[0, 1, 0]] * 2, [[0, 0, 1]] * 2]),
        np.array([[[0, -2.0, 4], [0, 0, 0.5]], [[0, 0, 0]] * 2, [[0, 0, 0]] * 2]),
    )
    assert isinstance(mdp, vl.MDP)
    assert vl.solve(mdp, "cvar", tau=0.5, discount=1.0).start.values[0] == pytest.approx(0.5)
    with pytest.raises(vl.InputError, match=r"^unknown parameter of objective cvar 'target'"):
        vl.solve(mdp, "cvar", target=0.5, discount=1.0)


# The documents.


def examples() -> list[doctest.DocTest]:
    """The examples in all docstrings of valuelab and experiments."""
    found = []
    for package in ("valuelab", "experiments"):
        for path in sorted((ROOT / package).rglob("*.py")):
            if ">>>" in path.read_text():
                words = path.relative_to(ROOT).with_suffix("").parts
                module = importlib.import_module(".".join(words).removesuffix(".__init__"))
                found += doctest.DocTestFinder(exclude_empty=True).find(module)
    return [example for example in found if example.examples]


EXAMPLES = examples()


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """The workdir of a run that is loaded without trust in a file."""
    workdir = tmp_path_factory.mktemp("kept")
    vl.train("bc", make(), workdir=workdir, **SMALL)
    return workdir


def test_every_public_function_has_an_example():
    names = {example.name for example in EXAMPLES}
    for value in (getattr(vl, name) for name in vl.__all__):
        if inspect.isfunction(value) or value is vl.TrainedRun:
            assert f"{value.__module__}.{value.__qualname__}" in names


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_examples_in_docstrings_run(example, kept, data_dir):
    example.globs = {"np": np, "dataset": make(), "workdir": kept, "data_dir": data_dir}
    said: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    runner.run(example, out=said.append)
    assert runner.failures == 0, "".join(said)


GLOSSARY = ROOT / "docs" / "reference" / "glossary.md"


def test_names_in_the_glossary_exist():
    """The third column holds names of the code: modules of valuelab, and names or fields in them."""
    lines = [line for line in GLOSSARY.read_text().splitlines() if line.startswith("| ")]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[1:]]
    terms = [row[0] for row in rows]
    assert len(terms) > 30
    assert terms == sorted(set(terms), key=str.lower)
    for term, meaning, places in rows:
        assert meaning.endswith("."), term
        for place in places.split(", "):
            assert exists(place.removeprefix("`").removesuffix("`")), f"{term}: {place}"


def exists(place: str) -> bool:
    """Whether `module.Name.field`, from valuelab on, or a file of the repository is there."""
    if "/" in place:
        return (ROOT / place).exists()
    words = place.split(".")
    for count in range(len(words), 0, -1):
        path = pathlib.Path(ROOT, "valuelab", *words[:count])
        if path.with_suffix(".py").exists() or path.is_dir():
            break
    else:
        return False
    value = importlib.import_module(".".join(["valuelab", *words[:count]]))
    for word in words[count:]:
        fields = getattr(value, "__annotations__", {}) | getattr(value, "__dataclass_fields__", {})
        if word in fields:
            return True
        if not hasattr(value, word):
            return False
        value = getattr(value, word)
    return True
