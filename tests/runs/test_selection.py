"""data.filter and data.weights: what the values of a saved run keep of a dataset of known order."""

import dataclasses
import json
import re
import shutil

import numpy as np
import pytest
from absl import flags as absl_flags
from helpers import command, launch, make_dataset

from valuelab import data
from valuelab.errors import InputError
from valuelab.ops import order
from valuelab.runs import flags, inputs, zero_shot
from valuelab.runs.zero_shot_settings import ZeroShotRunConfig

AGENT = """
import dataclasses
import jax.numpy as jnp
from valuelab.types import Agent

@dataclasses.dataclass(frozen=True)
class Config:
    hidden_dims: int = 8

def make_agent(config, spec):
    return Agent(
        init=lambda key, example: {"scale": jnp.ones(2)},
        update=lambda state, batch: (state, {"loss": jnp.mean(batch.rewards)}),
        act=lambda state, observations, key, temperature: jnp.zeros((len(observations), 2)),
        value=lambda state, observations: state["scale"][0] * observations[:, 0],
    )
"""


def ordered_dataset():
    """Five episodes whose first coordinate has the orders 1, -1, 2 / 3, none and 1."""
    dataset, places = make_dataset(compact=True), np.arange(9.0)
    firsts = [places, -places, np.array([0, 1, 2, 3, 8, 7, 6, 5, 4]), 0 * places, places**3]
    observations = dataset.observations.copy()
    observations[:, 0] = np.concatenate(firsts)
    return dataclasses.replace(dataset, observations=observations)


@pytest.fixture(scope="module")
def values(tmp_path_factory):
    """A folder with the saved run "values" of an agent whose values are the first coordinate."""
    folder = tmp_path_factory.mktemp("selection")
    (folder / "agent.py").write_text(AGENT)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(data.SOURCES, "made_up", lambda name, data_dir, split: ordered_dataset())
        launch(command(folder, folder / "values", agent=folder / "agent.py", dataset="made_up/ordered"))
    return folder


@pytest.fixture
def settings(values, tmp_path, monkeypatch):
    """Flags of a run of this agent that uses the values of a copy of the saved run."""
    monkeypatch.setitem(data.SOURCES, "made_up", lambda name, data_dir, split: ordered_dataset())
    shutil.copytree(values / "values", tmp_path / "values")
    given = {"agent": values / "agent.py", "dataset": "made_up/ordered", "trust_agent_file": True}

    def make(workdir="filtered", value_run="values", **more):
        if value_run:
            more = {"data__value_run": tmp_path / value_run} | more
        return command(tmp_path, tmp_path / workdir, **(given | more))

    return make


def found(arguments):
    return inputs.find_inputs(flags.parse_run(["train", *arguments], absl_flags.FlagValues())[0])


def test_episodes_are_kept_by_their_order(settings, tmp_path):
    for compact in (False, True):
        run_inputs = found(settings(data__filter="value_order:0.5", data__compact=compact))
        assert run_inputs.amounts == {"episodes": 3, "transitions": 24}
        (note,) = run_inputs.notes
        assert note == (
            f"data.filter=value_order:0.5 keeps 3 of 5 episodes by the values of {tmp_path}/values after 20 "
            "updates; episodes without an order: 1"
        )
    assert found(settings(data__filter="value_order:-1")).amounts["episodes"] == 4
    assert found(settings(data__filter="value_order:1")).amounts["episodes"] == 2


def test_goals_that_no_batch_has_are_noted(settings):
    arguments = settings(value_run="", data__goals__value__p_current=0.5)
    config, _ = flags.parse_run(["train", *arguments], absl_flags.FlagValues())
    (note,) = inputs.notes(config, inputs.find_inputs(config), 1)
    assert note == "data.goals.* have no effect: made_up/ordered has rewards, and no goals are drawn"


def test_transitions_are_weighted_by_their_progress(settings, capsys):
    run_inputs = found(settings(data__weights="progress:2", data__filter="value_order:1"))
    steps = np.concatenate([np.ones(8), np.diff(np.arange(9.0) ** 3)])
    weights = order.progress_weights(steps, 2)
    drawn = np.diff(run_inputs.experience.arrays["cumulative"] / 2**32, prepend=0)
    np.testing.assert_allclose(drawn, weights / weights.sum(), atol=1e-6)
    assert "the effective number of transitions is" in run_inputs.notes[1]


def test_zero_shot_runs_learn_from_the_same_selection(settings, tmp_path):
    argv = [
        *(
            "zero_shot",
            "--agent=laplacian",
            "--dataset=made_up/ordered",
            "--batch_size=8",
            "--eval_episodes=0",
        ),
        *("--data.filter=value_order:0.5", "--data.weights=progress:1", "--trust_agent_file"),
        f"--data.value_run={tmp_path / 'values'}",
    ]
    defaults = ZeroShotRunConfig(**flags.default_fields())
    config, make_agent = flags.parse_run(argv, absl_flags.FlagValues(), defaults)
    run_inputs = zero_shot.find_inputs(config, make_agent, None)
    assert run_inputs.amounts["episodes"] == run_inputs.selection["episodes"] == 3
    assert "cumulative" in run_inputs.experience.arrays
    assert len(run_inputs.notes) == 2


def test_a_run_resumes_with_the_same_selection(settings, tmp_path, capsys):
    arguments = settings(data__filter="value_order:0.5")
    launch(arguments)
    assert "note: data.filter=value_order:0.5 keeps 3 of 5 episodes" in capsys.readouterr().out
    config = json.loads((tmp_path / "filtered" / "config.json").read_text())
    assert config["selection"]["step"] == 20
    assert config["data"]["episodes"] == 3
    # The run of the values becomes longer, but the filtered run keeps to its checkpoint.
    launch(settings("values", value_run="", steps=25))
    longer = settings(data__filter="value_order:0.5", steps=30)
    launch(longer)
    config = json.loads((tmp_path / "filtered" / "config.json").read_text())
    assert (config["settings"]["steps"], config["selection"]["step"]) == (30, 20)
    with pytest.raises(InputError, match=r"data\.filter was 'value_order:0\.5', is 'value_order:0\.6'"):
        launch(settings(data__filter="value_order:0.6", steps=30))
    config["selection"]["kept"] = "0"
    (tmp_path / "filtered" / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match="whose values chose other episodes or weights when the run in"):
        found(longer)
    shutil.rmtree(tmp_path / "values" / "checkpoints" / "20")  # as when that run goes on for longer
    with pytest.raises(InputError, match=r"after 20 updates, but its checkpoints are of steps 15, 25: rest"):
        found(longer)


FILTER, WEIGHTS = {"data__filter": "value_order:0"}, {"data__weights": "progress:1"}
REFUSED = {
    "data.filter is value_order:0, but no run gives the values": FILTER | {"value_run": ""},
    "data.weights is progress:1, but no run gives the values": WEIGHTS | {"value_run": ""},
    "values, but nothing uses its values: give --data.filter=value_order:0.5": {},
    "data.filter is 'value_order:1.5'; write value_order:X with a number X from -1 to 1": {
        "data__filter": "value_order:1.5"
    },
    "data.filter is 'order:0.5'; write value_order:X": {"data__filter": "order:0.5"},
    "data.weights is 'progress:-1'; write progress:X with a number X from 0": {
        "data__weights": "progress:-1"
    },
    "works only for data in memory: leave out --data.stream": FILTER | {"data__stream": True},
    "data.weights works only without online_steps": WEIGHTS | {"online_steps": 20},
    "nowhere does not exist: give --data.value_run": FILTER | {"value_run": "nowhere"},
    "step is 7, but the checkpoints under": FILTER | {"value_run": "values:7"},
    "whose code would be executed: read it, then give --trust_agent_file": FILTER
    | {"trust_agent_file": False},
}
"""Part of a message -> the flags that are refused with it."""


@pytest.mark.parametrize("message", REFUSED)
def test_settings_that_cannot_be_used_are_refused(settings, message):
    with pytest.raises(InputError, match=re.escape(message)):
        found(settings(**REFUSED[message]))


def test_datasets_that_do_not_fit_are_refused(settings, monkeypatch):
    ordered = ordered_dataset()
    narrow = dataclasses.replace(ordered, observations=ordered.observations[:, :2])
    monkeypatch.setitem(data.SOURCES, "made_up", lambda name, data_dir, split: narrow)
    message = r"^data\.value_run is .*values: the run learned from observations float32\[3\], but those of"
    with pytest.raises(InputError, match=message):
        found(settings(**FILTER))
    falling = dataclasses.replace(ordered, observations=-np.arange(135, dtype=np.float32).reshape(45, 3))
    monkeypatch.setitem(data.SOURCES, "made_up", lambda name, data_dir, split: falling)
    message = r"keeps none of the 5 episodes of .*; the largest order of an episode is -1\.000: give a lower"
    with pytest.raises(InputError, match=message):
        found(settings(**FILTER))


def test_values_that_are_not_finite_choose_nothing(settings):
    observations = ordered_dataset().observations.copy()
    observations[12, 0] = np.nan  # and so is the value
    dataset = dataclasses.replace(ordered_dataset(), observations=observations)
    for given in (FILTER, WEIGHTS):
        config, _ = flags.parse_run(["train", *settings(**given)], absl_flags.FlagValues())
        with pytest.raises(InputError, match=r"after 20 updates its values are NaN or infinite at 1 of 45"):
            inputs.find_inputs(config, dataset)
