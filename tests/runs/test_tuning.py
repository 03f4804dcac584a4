"""experiments.examples.tune: a study of Optuna over runs, continued in another session."""

import dataclasses
import json
import types

import pytest
from helpers import MAZE, Field

from experiments.examples import tune
from valuelab.errors import InputError
from valuelab.runs import inputs
from valuelab.types import Environment

CONFIG = tune.TuneConfig(agent="iql", dataset=MAZE, steps=4, num_seeds=1, eval_episodes=1, trials=2)


def test_a_study_is_continued(tmp_path, monkeypatch, capsys):
    runs = []

    def train(agent, dataset, **settings):
        runs.append({"agent": agent, "dataset": dataset} | settings)
        score = -abs(settings["agent.expectile"] - 0.8)
        return types.SimpleNamespace(result={"eval": {"success": {"mean": score}}})

    monkeypatch.setattr(tune.vl, "train", train)
    config = dataclasses.replace(CONFIG, workdir=str(tmp_path / "study"))
    tune.run(config, batch_size=8)
    assert len(runs) == 2
    study = tune.run(dataclasses.replace(config, trials=3), batch_size=8)
    assert len(runs) == 3
    assert [run["workdir"] for run in runs] == [tmp_path / f"study/trial_{number}" for number in range(3)]
    assert len({run["agent.learning_rate"] for run in runs}) == 3
    assert {"agent": "iql", "dataset": MAZE, "steps": 4, "eval_episodes": 1, "batch_size": 8}.items() <= runs[
        2
    ].items()
    capsys.readouterr()
    tune.run(config)
    assert len(runs) == 3
    best = f"best of 3 trials: trial {study.best_trial.number} with agent.learning_rate "
    assert capsys.readouterr().out.startswith(best)
    with pytest.raises(InputError, match=r"^no workdir is given: write --workdir=FOLDER"):
        tune.run(CONFIG)


@pytest.mark.slow
def test_trials_are_runs(data_dir, tmp_path, monkeypatch):
    field = {"name": "field", "make": Field, "tasks": {"only": None}, "metric": "return"}
    environment = Environment(**field, score=lambda total, success: total)
    monkeypatch.setattr(inputs.environments, "make", lambda *_: environment)
    config = dataclasses.replace(CONFIG, data_dir=str(data_dir), workdir=str(tmp_path))
    study = tune.run(config, **{"agent.hidden_dims": (8,), "batch_size": 8, "mesh": (1, 1), "log_every": 4})
    for trial in study.trials:
        workdir = tmp_path / f"trial_{trial.number}"
        result = json.loads((workdir / "result.json").read_text())
        assert result["eval"]["return"]["mean"] == trial.value
        settings = json.loads((workdir / "config.json").read_text())["settings"]
        assert settings["agent"]["critic"]["expectile"] == trial.params["agent.expectile"]
