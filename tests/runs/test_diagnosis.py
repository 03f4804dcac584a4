"""experiments.diagnose: the diagnosis of a tiny run, and error messages."""

import dataclasses
import json

import numpy as np
import pytest
import scipy.stats
from absl import flags as absl_flags
from helpers import CLONING, ROOT, command, launch, make_dataset

import valuelab
from experiments.studies import frozen_encoder
from valuelab import data
from valuelab.data import normalization, storage
from valuelab.errors import InputError
from valuelab.runs import diagnosis, saved
from valuelab.training import replay


@pytest.fixture(autouse=True)
def made_up(monkeypatch):
    """A dataset with rewards, whose trajectories can end anywhere."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setitem(data.SOURCES, "made_up", lambda name, data_dir, split: make_dataset(compact=True))


def train(tmp_path, agent, **settings):
    """Trains an agent for twenty updates."""
    workdir = tmp_path / "run"
    arguments = command(tmp_path, workdir, agent=agent, dataset="made_up/walks", **settings)
    launch([argument for argument in arguments if agent == CLONING or "agent.hidden_dims" not in argument])
    return workdir


def diagnosed(run, workdir, **settings):
    given = {"checkpoint": run, "workdir": workdir, "rows": 30} | settings
    arguments = [f"--{name}={value}" for name, value in given.items()]
    return diagnosis.run(diagnosis.parse(["diagnose", *arguments], absl_flags.FlagValues()))


@pytest.mark.slow
def test_a_trained_run_is_diagnosed(tmp_path, capsys):
    narrow = {"agent__critic__hidden_dims": "8,8", "agent__policy__hidden_dims": "8,8"}
    run = train(tmp_path, "fql", num_seeds=2, **narrow)
    before = sorted(path for path in run.rglob("*"))
    diagnosed(run, tmp_path / "out")
    assert sorted(path for path in run.rglob("*")) == before  # the run does not change
    assert "effective_rank" in capsys.readouterr().out
    assert (tmp_path / "out" / "diagnostics.png").read_bytes().startswith(b"\x89PNG")
    saved = json.loads((tmp_path / "out" / "diagnostics.json").read_text())
    assert saved["members"] == [{"seed": 0}, {"seed": 1}]
    assert [entry["step"] for entry in saved["checkpoints"]] == [10, 15, 20]  # the three that are kept
    last = saved["checkpoints"][-1]
    assert last["feature_drift"] == pytest.approx([0, 0], abs=1e-5)
    for layer in last["layers"].values():
        assert all(1 <= rank <= 8 for rank in layer["effective_rank"])
        assert all(0 <= share <= 1 for share in layer["dormant_fraction"])
    assert last["layers"].keys() == {"layer_1", "layer_2"}
    assert last["weight_norms"].keys() == last["gradient_norms"].keys()
    first_seed, second_seed = last["q"]["mean"]
    assert first_seed != second_seed
    assert "flow" not in last  # test_documents diagnoses a critic with a flow
    assert saved["order"]["episodes"] == 5
    assert np.shape(saved["order"]["per_episode"]) == (2, 5)
    assert last["order"]["mean"] == pytest.approx(np.mean(saved["order"]["per_episode"], axis=1))
    interval = saved["order"]["by_setting"][0]["mean"]
    assert -1 <= interval["ci_low"] <= interval["mean"] <= interval["ci_high"] <= 1
    again = diagnosed(run, tmp_path / "again", rows=1000, order_episodes=0)
    assert again["rows"] == 40  # fewer than asked for
    assert "order" not in again


@pytest.mark.slow
def test_a_goal_conditioned_run_is_diagnosed_by_its_order(tmp_path, monkeypatch, capsys):
    goals = make_dataset(compact=True, goal_conditioned=True)
    monkeypatch.setitem(data.SOURCES, "made_up", lambda name, data_dir, split: goals)
    run = train(tmp_path, "iql", **{"agent__hidden_dims": "8,8"})
    report = diagnosed(run, tmp_path / "out", order_episodes=4)
    assert "order of values along 4 episodes of made up, with 95 % intervals" in capsys.readouterr().out
    trained = valuelab.load(run)
    full = storage.full(goals)
    chosen = sorted(np.random.default_rng(0).permutation(5)[:4])
    for found, episode in zip(report["order"]["per_episode"][0], chosen, strict=True):
        rows = slice(8 * episode, 8 * episode + 8)
        along = np.concatenate([full.observations[rows], full.next_observations[rows][-1:]])
        values = trained.value(along, along[-1])  # the goal is the last observation
        assert found == pytest.approx(scipy.stats.spearmanr(values, np.arange(9)).statistic)
    with pytest.raises(InputError, match="order_episodes is 0, but made_up/walks has no rewards"):
        diagnosed(run, tmp_path / "none", order_episodes=0)
    monkeypatch.setitem(data.SOURCES, "made_up", lambda name, data_dir, split: make_dataset(compact=True))
    other = dataclasses.replace(goals, observations=goals.observations[:, :2])
    monkeypatch.setitem(data.SOURCES, "other", lambda name, data_dir, split: other)
    with pytest.raises(
        InputError,
        match=r"order_dataset is other/walks: the run learned from observations float32\[3\], but those of "
        r"made up are float32\[2\]",
    ):
        diagnosed(run, tmp_path / "none", order_dataset="other/walks")


def test_successes_are_told_by_rewards_or_terminations():
    dataset = make_dataset()
    chosen = np.array([0, 2, 4])
    assert diagnosis.successes(dataset, chosen) is None  # rewards have many values
    sparse = np.where(np.arange(40) == 17, 0.0, -1.0)
    found = diagnosis.successes(dataclasses.replace(dataset, rewards=sparse), chosen)
    np.testing.assert_array_equal(found, [False, True, False])
    costs = dataclasses.replace(dataset, rewards=-np.ones(40), masks=(np.arange(40) != 39) * 1.0)
    np.testing.assert_array_equal(diagnosis.successes(costs, chosen), [False, False, True])
    alive = dataclasses.replace(costs, rewards=np.ones(40))
    assert diagnosis.successes(alive, chosen) is None


def test_invalid_runs_and_settings_are_refused(tmp_path):
    with pytest.raises(InputError, match="no run is given: write --checkpoint=WORKDIR"):
        diagnosis.run(diagnosis.DiagnoseConfig())
    with pytest.raises(InputError, match=r"folder .*nowhere does not exist: give --checkpoint=WORKDIR"):
        diagnosed(tmp_path / "nowhere", tmp_path / "out")
    with pytest.raises(
        InputError, match=r"^checkpoint is gs://run, but must be on this machine: give the path"
    ):
        diagnosed("gs://run", tmp_path / "out")
    with pytest.raises(InputError, match="is the workdir of the run: give another --workdir"):
        diagnosed(tmp_path, tmp_path)
    with pytest.raises(InputError, match=r"rows is 1; it must lie in \[4, inf\)"):
        diagnosed(tmp_path, tmp_path / "out", rows=1)
    assert not (tmp_path / "out").exists()


def test_the_newest_transitions_of_a_buffer_are_episodes():
    # Two lanes of five rows; seven rows were written, so rows 0 and 1 were replaced. False ends an episode.
    valid = np.array([[True, False, True, True, False], [True, True, False, False, True]]).T
    order = np.array([2, 3, 4, 0, 1])
    time = np.empty((5, 2), np.float32)
    time[order] = np.arange(5)[:, None]
    stored = np.empty((5, 2), bool)
    stored[order] = valid
    rows = {"rewards": time, "valid": stored}
    found = [episode["rewards"].tolist() for episode in replay.episodes(rows, 7)]
    assert found == [[0, 1], [2, 3, 4], [0, 1, 2]]
    assert replay.episodes(rows, 1) == []


@pytest.mark.slow
def test_runs_without_a_critic_or_without_rewards_are_refused(tmp_path, monkeypatch):
    run = train(tmp_path, "bc")
    with pytest.raises(InputError, match="agent 'bc' has no critic to diagnose"):
        diagnosed(run, tmp_path / "out")
    goals = dataclasses.replace(make_dataset(compact=True), goal_conditioned=True)
    monkeypatch.setitem(data.SOURCES, "made_up", lambda name, data_dir, split: goals)
    with pytest.raises(InputError, match="made_up/walks has no rewards, because its goals are drawn"):
        diagnosed(run, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_agent_file_of_a_saved_run_needs_trust(tmp_path):
    (run := tmp_path / "run").mkdir()
    (tmp_path / ".py").write_text("raise RuntimeError('run')\n")
    seen = normalization.to_json(normalization.fit(make_dataset(), observations=False, rewards="none"))
    for source in (f"{tmp_path}/.py:preset", f"{ROOT}/valuelab/presets/../../x/.py", f"{tmp_path}/.py"):
        config = {"settings": {"agent_source": source}, "normalization": seen}
        (run / "config.json").write_text(json.dumps(config))
        name = source.partition(":")[0]
        for read in (
            lambda folder: saved.open_run(folder, "checkpoint", False),
            lambda folder: frozen_encoder.read_run(folder, False),
        ):
            with pytest.raises(InputError, match="names the agent file") as refused:
                read(run)
            message = f"{run}/config.json names the agent file {name!r}, whose code would be executed: "
            advice = "read it, then give --trust_agent_file, in Python trust_agent_file=True"
            assert str(refused.value) == message + advice
    with pytest.raises(InputError, match=r"agent file .*\.py, line 1: RuntimeError: run"):
        diagnosed(run, tmp_path / "out", trust_agent_file=True)
    with pytest.raises(InputError, match=r"agent file .*\.py, line 1: RuntimeError: run"):
        frozen_encoder.read_run(run, True)
    config["settings"]["agent_source"] = str(tmp_path / "mine")  # not mine.py
    (tmp_path / "mine.py").write_text("raise RuntimeError('run')\n")
    (run / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match="unknown agent"):
        diagnosed(run, tmp_path / "out", trust_agent_file=True)
