"""A Minari dataset and its environment give the same observations, for every space."""

import collections
import copy
import dataclasses
import json
import math

import gymnasium
import minari
import numpy as np
import pytest
from gymnasium import spaces
from helpers import ROOT, command, launch

from valuelab import data, environments
from valuelab.configuration import RunConfig
from valuelab.errors import InputError
from valuelab.observation_parts import pack
from valuelab.runs import inputs
from valuelab.runs.flags import DataConfig
from valuelab.training.experience import Interaction

pytestmark = pytest.mark.filterwarnings("ignore")  # Minari warns about missing authors and descriptions

NAME = "minari/test/sampled-v0"
STEPS = 3
NESTED = spaces.Dict(
    collections.OrderedDict(  # not in alphabetical order
        scene=spaces.Dict(
            {"photo": spaces.Box(0, 255, (2, 2), np.uint8), "door": spaces.Discrete(3, start=5)}
        ),
        arm=spaces.Tuple((spaces.MultiBinary(2), spaces.Box(-1, 1, (2, 2), np.float64))),
    )
)
SPACES = {
    "vector": spaces.Box(-1, 1, (3,), np.float64),
    "number": spaces.Box(-1, 1, ()),
    "matrix": spaces.Box(-1, 1, (2, 3)),
    "bytes": spaces.Box(0, 255, (2, 3), np.uint8),
    "image": spaces.Box(0, 255, (4, 5, 3), np.uint8),
    "one of four": spaces.Discrete(4),
    "from minus two": spaces.Discrete(3, start=-2),
    "several choices": spaces.MultiDiscrete([[2, 3], [4, 2]], start=[[0, 1], [-3, 0]]),
    "switches": spaces.MultiBinary([2, 2]),
    "pair": spaces.Tuple((spaces.Discrete(3), spaces.Box(-1, 1, (2,)))),
    "nested": NESTED,
    "parts": spaces.Dict({"photo": spaces.Box(0, 255, (2, 2, 3), np.uint8), "rest": NESTED}),
    "words": spaces.Dict({"place": spaces.Box(-1, 1, (2,)), "text": spaces.Tuple((spaces.Text(5),))}),
    "graph": spaces.Dict({"joints": spaces.Graph(spaces.Box(-1, 1, (2,)), None)}),
    "list": spaces.Sequence(spaces.Discrete(2)),
}


class Sampled(gymnasium.Env):
    """Observes samples of a space; it cannot render, and its constructor has no argument render_mode."""

    action_space = spaces.Box(-1, 1, (2,))

    def __init__(self, kind):
        self.observation_space = copy.deepcopy(SPACES[kind])

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.observation_space.seed(seed)
        return self.observation_space.sample(), {}

    def step(self, action):
        return self.observation_space.sample(), float(action[0]), False, False, {}


def spec_of(kind):
    entry_point = f"{__name__}:Sampled"
    return gymnasium.envs.registration.EnvSpec(
        "Sampled-v0", entry_point, kwargs={"kind": kind}, max_episode_steps=STEPS
    )


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    """Registers the environment of the data, as an installed package would."""
    monkeypatch.setitem(gymnasium.registry, "Sampled-v0", spec_of("vector"))


def change(folder, **changes):
    """Changes the metadata of the dataset."""
    path = folder / NAME / "data" / "metadata.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def record(folder, monkeypatch, kind="vector"):
    """One episode of seed 0, recorded by Minari."""
    with monkeypatch.context() as context:
        context.setenv("MINARI_DATASETS_PATH", str(folder / "minari"))
        collector = minari.DataCollector(gymnasium.make(spec_of(kind)))
        collector.reset(seed=0)
        for number in range(STEPS):
            collector.step(np.full(2, number / STEPS, np.float32))
        collector.create_dataset(NAME.removeprefix("minari/"))


@pytest.mark.parametrize("kind", [kind for kind in SPACES if kind not in ("words", "graph", "list")])
def test_data_and_environment_show_what_gymnasium_flattens(kind, tmp_path, monkeypatch):
    record(tmp_path, monkeypatch, kind)
    dataset = data.load(NAME, tmp_path, compact=True)
    environment = environments.make(NAME, tmp_path).make()
    played = [environment.reset(seed=0)[0], *(environment.step(action)[0] for action in dataset.actions[:-1])]
    raw = gymnasium.make(spec_of(kind))
    shown = [raw.reset(seed=0)[0], *(raw.step(action)[0] for action in dataset.actions[:-1])]
    if kind == "parts":  # the photo and the leaves of the rest, as bytes
        inner = {
            "rest/arm/0": lambda one: one["rest"]["arm"][0],
            "rest/arm/1": lambda one: one["rest"]["arm"][1].reshape(-1),
            "rest/scene/door": lambda one: np.arange(5, 8) == one["rest"]["scene"]["door"],
            "rest/scene/photo": lambda one: one["rest"]["scene"]["photo"].reshape(-1),
        }
        assert [part.name for part in dataset.observation_parts] == ["photo", *inner]
        values = [
            {"photo": one["photo"]} | {name: np.float32(leaf(one)) for name, leaf in inner.items()}
            for one in shown
        ]
        shown = [pack(one, dataset.observation_parts, kind) for one in values]
    elif kind != "image":
        shown = [spaces.flatten(SPACES[kind], one) for one in shown]
    assert all(one in environment.observation_space for one in played)
    dtype = np.uint8 if kind in ("image", "bytes", "parts") else np.float32
    for ours in (dataset.observations, played):
        np.testing.assert_array_equal(np.asarray(ours, dtype), np.asarray(shown, dtype))
    assert (dataset.observations.dtype, len(shown)) == (dtype, STEPS + 1)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("words", "entries 'text/0' of observations are of kind Text, which has no fixed length"),
        ("graph", "entries 'joints' of observations are of kind Graph"),
        ("list", "Refused-v0: observations are of kind Sequence"),
    ],
)
def test_observations_that_are_not_vectors_are_refused_by_name(kind, message, tmp_path, monkeypatch):
    monkeypatch.setitem(gymnasium.registry, "Refused-v0", spec_of(kind))
    with pytest.raises(InputError, match=message) as refused:
        environments.make("gymnasium/Refused-v0").make()
    assert "\n" not in str(refused.value)
    if kind == "words":  # Minari cannot store the others
        record(tmp_path, monkeypatch, kind)
        with pytest.raises(InputError, match=f"^{tmp_path}/{NAME}/data: {message}"):
            data.load(NAME, tmp_path)


def test_a_constructor_need_not_know_render_modes(monkeypatch):
    monkeypatch.setitem(gymnasium.registry, "Blind-v0", spec_of("vector"))
    assert environments.make("gymnasium/Blind-v0").make().render_mode is None


def test_a_choice_outside_its_space_is_refused(tmp_path, monkeypatch):
    record(tmp_path, monkeypatch, "from minus two")
    stated = {"type": "Discrete", "dtype": "int64", "start": 7, "n": 2}
    change(tmp_path, observation_space=json.dumps(stated))
    with pytest.raises(
        InputError, match=r"/data: episode 0: observations contain -?\d.* not in Discrete\(2, start=7\)"
    ):
        data.load(NAME, tmp_path)


def test_reference_scores(tmp_path, monkeypatch):
    record(tmp_path, monkeypatch)
    assert environments.make(NAME, tmp_path).metric == "return"
    change(tmp_path, ref_min_score=10.0, ref_max_score=210.0)
    environment = environments.make(NAME, tmp_path)
    assert (environment.metric, environment.score(60.0, False)) == ("normalized_score", 25)


def described(**changes):
    """The environment of the dataset after changes of its metadata."""
    return {"env_spec": json.dumps(json.loads(spec_of("vector").to_json()) | changes)}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"env_spec": None},
            r"/metadata.json does not name an environment \(env_spec\): give --environment=gymnasium/ID",
        ),
        (
            described(entry_point="absent_maze:Maze") | {"requirements": ["absent-maze>=2", "a\nb"]},
            r"/metadata.json: env_spec names the entry point 'absent_maze:Maze' "
            r"\(which needs 'absent-maze>=2', 'a\\nb'\), but no installed .* give --trust_environment",
        ),
        (
            described(kwargs={"colour": 1}),
            "cannot be made .*TypeError: .* unexpected keyword argument 'colour'",
        ),
        (
            {"ref_min_score": 5.0, "ref_max_score": 5.0},
            "metadata.json: ref_min_score is 5.0 and ref_max_score is 5.0",
        ),
        ({"ref_min_score": "0", "ref_max_score": 1.0}, "ref_min_score is '0' and .* finite numbers"),
        (
            {"ref_min_score": -math.inf, "ref_max_score": 1.0},
            "ref_min_score is -inf and .* finite numbers",
        ),
        ({"ref_max_score": [1.0]}, r"ref_min_score is None and ref_max_score is \[1.0\], .* finite numbers"),
        ({"minari_version": "9"}, "/data cannot be opened .*does not support"),
        (
            {"total_episodes": 4},
            "/data: metadata.json states 4 episodes, but episode 1 is not complete",
        ),
    ],
)
def test_what_cannot_be_used_is_one_line(changes, message, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    record(tmp_path, monkeypatch)
    change(tmp_path, **changes)
    with pytest.raises(InputError, match=message) as refused:
        launch(command(tmp_path, tmp_path / "run", dataset=NAME, eval_episodes=1))
    assert "\n" not in str(refused.value)
    of_data = "total_episodes" in changes or "minari_version" in changes
    assert of_data or str(refused.value).endswith("; or train without evaluating: --eval_episodes=0")
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


def test_a_run_is_evaluated_where_its_data_say(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    record(tmp_path, monkeypatch, "nested")
    assert environments.vector(NAME, 1, tmp_path).spec.observation_shape == (13,)  # 4 + 2 + 4 + 3
    given = {"dataset": NAME, "eval_episodes": 1, "steps": 5}
    with pytest.raises(InputError, match=r"^test/sampled-v0 cannot be filmed because .*: leave out --video"):
        launch(command(tmp_path, tmp_path / "filmed", **given, video=True))
    launch(command(tmp_path, tmp_path / "run", **given))
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert list(result["eval"]) == ["return"]


def wrapped(entry_point, **kwargs):
    return {"name": "Wrapper", "entry_point": entry_point, "kwargs": kwargs}


RUN_BY_METADATA = {
    "the entry point 'os:system'": {"entry_point": "os:system", "kwargs": {"command": "PATH"}},
    "the entry point 'builtins:open'": {
        "entry_point": "builtins:open",
        "kwargs": {"file": "PATH", "mode": "w"},
    },
    "the entry point 'os', 'system'": {"entry_point": ["os", "system"]},
    "the wrapper 'os:system'": {"additional_wrappers": [wrapped("os:system", command="PATH")]},
    "the wrapper 'gymnasium.wrappers.common:os.system'": {
        "additional_wrappers": [wrapped("gymnasium.wrappers.common:os.system")]
    },
    "the wrapper 'gymnasium.wrappers.rendering:RecordVideo'": {
        "additional_wrappers": [wrapped("gymnasium.wrappers.rendering:RecordVideo", video_folder="PATH")]
    },
    "the argument 'os:system'": {"kwargs": {"kind": "vector", "hook": ["os:system"]}},
    "the argument 'PATH'": {"kwargs": {"kind": "vector", "model": "PATH"}},
}


def test_what_no_package_registers_is_not_run(tmp_path, monkeypatch):
    (precious := tmp_path / "precious").write_text("kept")
    record(tmp_path, monkeypatch)
    usual = json.loads(spec_of("vector").to_json())
    for number, (code, changes) in enumerate(RUN_BY_METADATA.items()):
        key = ("env_spec", "eval_env_spec")[number % 2]
        spec = json.dumps(usual | changes).replace("PATH", str(precious))
        change(tmp_path, **({"env_spec": json.dumps(usual), "eval_env_spec": None} | {key: spec}))
        with pytest.raises(InputError) as refused:
            environments.make(NAME, tmp_path)
        message = str(refused.value)
        assert f"/metadata.json: {key} names {code.replace('PATH', str(precious))}, but no inst" in message
        assert message.endswith("give --trust_environment")
    assert precious.read_text() == "kept"


def test_metadata_must_state_spaces(tmp_path, monkeypatch):
    record(tmp_path, monkeypatch)
    path = tmp_path / NAME / "data" / "metadata.json"
    stated = json.loads(path.read_text())
    stated.pop("observation_space")
    path.write_text(json.dumps(stated | described(entry_point="os:abort", kwargs={})))
    for read in (data.load, environments.make):
        with pytest.raises(InputError, match=f"^{path}: key 'observation_space' is missing"):
            read(NAME, tmp_path)


class Unknown(Sampled):
    """An environment that no package registers."""


def test_an_environment_that_is_trusted_is_made(tmp_path, monkeypatch):
    record(tmp_path, monkeypatch)
    change(tmp_path, **described(entry_point=f"{__name__}:Unknown"))
    for make in (environments.make, lambda name, folder: environments.vector(name, 1, folder)):
        with pytest.raises(InputError, match=":Unknown', but no installed package"):
            make(NAME, tmp_path)
    assert environments.vector(NAME, 1, tmp_path, trust_environment=True).spec.observation_shape == (3,)
    config = RunConfig(data=DataConfig(), dataset=NAME, data_dir=str(tmp_path))
    for find in (inputs.find_environment, inputs.make_vector_environment):
        with pytest.raises(InputError, match="give --trust_environment"):
            find(dataclasses.replace(config, interaction=Interaction()))
    trusting = dataclasses.replace(config, interaction=Interaction(), trust_environment=True)
    assert isinstance(inputs.find_environment(trusting).make().unwrapped, Unknown)
    assert inputs.make_vector_environment(trusting)


def test_wrappers_of_gymnasium_and_packages_that_register_late(tmp_path, monkeypatch):
    record(tmp_path, monkeypatch)
    limit = wrapped("gymnasium.wrappers.common:TimeLimit", max_episode_steps=2)
    change(tmp_path, **described(additional_wrappers=[limit]))
    environments.make(NAME, tmp_path).make()
    maze = gymnasium.envs.registration.EnvSpec(
        "PointMaze_Mine-v3",
        "gymnasium_robotics.envs.maze.point_maze:PointMazeEnv",
        kwargs={"maze_map": [[1, 1, 1], [1, "r", 1], [1, "g", 1], [1, 1, 1]], "reward_type": "sparse"},
    )
    change(tmp_path, env_spec=maze.to_json())
    environments.make(NAME, tmp_path)
