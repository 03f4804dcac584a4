"""Runs that begin from the states of an earlier run."""

import dataclasses
import json
import shutil

import jax
import numpy as np
import pytest
from helpers import CLONING, ROOT, assert_same_bits, command, launch, left_behind, make_dataset, saved_state

import valuelab
from valuelab import data
from valuelab.errors import InputError
from valuelab.runs import train as launcher


@pytest.fixture(autouse=True)
def made_up(monkeypatch):
    """Two datasets of the same form with other observations and rewards, and one with other actions."""
    monkeypatch.chdir(ROOT)
    first = make_dataset(compact=True)
    second = dataclasses.replace(first, observations=first.observations + 5, rewards=first.rewards - 1)
    wide = np.full(2, 2, np.float32)
    known = {"first": first, "second": second}
    known["wide"] = dataclasses.replace(first, action_low=-wide, action_high=wide)
    monkeypatch.setitem(data.SOURCES, "made_up", lambda name, data_dir, split: known[name])


def arguments(workdir, dataset="first", **settings):
    return command(workdir, workdir, dataset=f"made_up/{dataset}", **settings)


@pytest.fixture(scope="module")
def earlier(tmp_path_factory):
    """A run of two seeds that normalised its observations."""
    workdir = tmp_path_factory.mktemp("earlier")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        patch.setitem(data.SOURCES, "made_up", lambda name, data_dir, split: make_dataset(compact=True))
        launch(arguments(workdir, num_seeds=2, data__normalize_observations=True))
    return workdir


STILL = {"agent__learning_rate": 1e-30, "steps": 1}
"""Settings of a run that changes no parameter."""


def test_the_whole_state_is_taken_and_observations_are_seen_as_before(earlier, tmp_path, capsys):
    launch(arguments(tmp_path, "second", init_from=earlier, num_seeds=2, seed=7, **STILL))
    assert f"initial states from {earlier} after 20 updates: taken: 17 arrays; new: 0; unused: 0\n" in (
        capsys.readouterr().out
    )
    then, now = saved_state(earlier, 20)["states"], saved_state(tmp_path, 1)["states"]
    assert_same_bits(now["params"], then["params"])
    assert now["step"].tolist() == now["opt_state"][0]["count"].tolist() == [21, 21]
    assert (now["key"] != then["key"]).all()  # random keys follow from the seeds
    saved = json.loads((tmp_path / "config.json").read_text())
    assert saved["normalization"] == json.loads((earlier / "config.json").read_text())["normalization"]
    assert saved["init_from"] == {"workdir": str(earlier), "step": 20, "sha256": saved["init_from"]["sha256"]}
    observations = np.ones((4, 3), np.float32)
    both = [valuelab.load(folder, trust_agent_file=True).policy(1) for folder in (earlier, tmp_path)]
    np.testing.assert_array_equal(both[0](observations), both[1](observations))


def test_members_and_steps_are_chosen(earlier, tmp_path):
    of_step = {"init_from": f"{earlier}:15", "init_member": 1, "num_seeds": 3}
    launch(arguments(tmp_path / "one", **of_step, **STILL))
    launch(arguments(tmp_path / "all", init_from=tmp_path / "one", init_member=2, **STILL))
    launch(arguments(tmp_path / "again", init_from=tmp_path / "all", num_seeds=2, **STILL))
    then = saved_state(earlier, 15)["states"]["params"]
    for name, count in (("one", 3), ("again", 2)):
        now = saved_state(tmp_path / name, 1)["states"]["params"]
        assert_same_bits(now, jax.tree.map(lambda leaf, count=count: np.repeat(leaf[1:2], count, 0), then))


def test_arrays_that_only_one_run_has_are_named_and_schedules_begin_anew(earlier, tmp_path, capsys):
    mine = tmp_path / "mine.py"
    text = (ROOT / CLONING).read_text()
    started = "learning.start(update_key, params, {}, optimizer.init(params))"
    rate, schedule = "config.learning_rate)", "optax.cosine_decay_schedule(config.learning_rate, 20))"
    assert started in text
    assert rate in text
    text = text.replace(started, started.replace("{}", '{"slow": params}')).replace(rate, schedule)
    mine.write_text(text)
    launch(arguments(tmp_path / "first", agent=mine, init_from=earlier, num_seeds=2))
    assert "taken: 17 arrays; new: 5 (target_params.slow.params." in capsys.readouterr().out
    counts = [part["count"].tolist() for part in saved_state(tmp_path / "first", 20)["states"]["opt_state"]]
    assert counts == [[40, 40], [20, 20]]  # of Adam, and of the schedule
    # The earlier run names a file of its user, which is not executed.
    mine.unlink()
    launch(arguments(tmp_path / "second", init_from=tmp_path / "first", num_seeds=2))
    out = capsys.readouterr().out
    assert "new: 0; unused: 6 (opt_state.1.count, target_params.slow.params." in out


def test_a_run_that_is_killed_begins_again_from_the_same_bits(earlier, tmp_path, monkeypatch):
    def die(*_):
        raise KeyboardInterrupt

    source, workdir, straight = tmp_path / "source", tmp_path / "run", tmp_path / "straight"
    shutil.copytree(earlier, source)
    given = {"init_from": source, "num_seeds": 2}
    launch(arguments(straight, **given))
    with monkeypatch.context() as patch:
        patch.setattr(launcher, "learn", die)
        with pytest.raises(SystemExit):
            launch(arguments(workdir, **given))
    shutil.copytree(source / "checkpoints" / "20", source / "checkpoints" / "25")  # another newest step
    shutil.move(source, tmp_path / "elsewhere")
    with pytest.raises(InputError, match=rf"^folder {source} does not exist: give --init_from=WORKDIR"):
        launch(arguments(workdir, **given))
    shutil.copytree(tmp_path / "elsewhere", source)
    launch(arguments(workdir, **given))
    assert left_behind(workdir) == left_behind(straight)
    assert_same_bits(*(saved_state(folder, 20)["states"] for folder in (workdir, straight)))
    # With a checkpoint itself, the run does not need the earlier one.
    shutil.rmtree(source)
    launch(arguments(workdir, **given, steps=30))
    assert json.loads((workdir / "config.json").read_text())["init_from"]["step"] == 20


def test_a_checkpoint_that_has_changed_is_refused(earlier, tmp_path, monkeypatch):
    def die(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(launcher, "learn", die)
        with pytest.raises(SystemExit):
            launch(arguments(tmp_path, init_from=earlier, num_seeds=2))
    path = tmp_path / "config.json"
    saved = json.loads(path.read_text())
    saved["init_from"]["sha256"] = "0" * 64
    path.write_text(json.dumps(saved))
    message = r"has changed since this run began from its checkpoint of step 20: give another --workdir, or"
    with pytest.raises(InputError, match=message):
        launch(arguments(tmp_path, init_from=earlier, num_seeds=2))
    (tmp_path / "metrics.jsonl").touch()  # without any results the folder would be free
    with pytest.raises(
        InputError, match=r"belongs to another run \(init_from was '.*', is ''\): give another"
    ):
        launch(arguments(tmp_path, num_seeds=2))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"init_from": "EARLIER:7"},
            r"step 7 is not one of the checkpoints of .* \(10, 15, 20\): give one of",
        ),
        ({"init_from": "nowhere"}, "^folder nowhere does not exist: give --init_from=WORKDIR"),
        (
            {"init_from": "NEW"},
            "the workdir of this run: give another --workdir, or leave out --init_from to",
        ),
        ({}, "has 2 members and this run has 1: give as many seeds or swept values, or choose one member"),
        ({"init_member": 2}, "^init_member is 2, but .* has 2 members: give a number from 0 to 1$"),
        (
            {"init_member": 0, "init_from": ""},
            "^init_member is 0, but no run is given to begin from: give init",
        ),
        (
            {"init_member": 0, "agent__hidden_dims": 16},
            r"is float32\[8, 2\] in .*, but float32\[16, 2\] here: give the",
        ),
        (
            {"num_seeds": 2, "dataset": "wide"},
            "^the lower bound of action 0 is -1 in .*, but -2 in this run: ",
        ),
        (
            {"num_seeds": 2, "data__num_frames": 2},
            r"^observations of .* are float32\[3\], but float32\[6\] in this run: give data like those of",
        ),
        (
            {"num_seeds": 2, "agent": "iql"},
            "^the states in .* have nothing in common with those of iql: their",
        ),
    ],
)
def test_runs_that_do_not_fit_are_refused(earlier, tmp_path, settings, message):
    given = {"init_from": "EARLIER"} | settings
    given["init_from"] = given["init_from"].replace("EARLIER", str(earlier)).replace("NEW", str(tmp_path))
    flags = arguments(tmp_path, **given)
    if "agent" in settings:
        flags = [flag for flag in flags if "hidden_dims" not in flag]
    with pytest.raises(InputError, match=message) as caught:
        launch(flags)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "config.json").exists()
