"""Chosen and reached scores of Pong: the summary and picture of given games, and runs that are refused."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

import valuelab as vl
from experiments.studies.risk import pong_scores
from experiments.studies.risk.pong_scores import ScoresConfig
from valuelab.errors import InputError


def finished_run(returns, environment="pong/first_to_1", objective="target", commands=(-1.0, 1.0)):
    """A run of M members with the targets -1 and 1, whose games have these returns [M, T, E]."""
    memory = SimpleNamespace(commands={"target=-1": np.float32([-1]), "target=1": np.float32([1])})
    return SimpleNamespace(
        config=SimpleNamespace(
            environment=environment,
            dataset="",
            agent=SimpleNamespace(objective=objective, commands=commands),
        ),
        members=SimpleNamespace(size=len(returns)),
        step=10,
        rows=[{"environment_steps": 40}],
        result={"throughput": {"updates_per_second": 5.0}},
        agent=lambda member: SimpleNamespace(memory=memory),
        evaluate=lambda episodes: SimpleNamespace(returns=np.array(returns)),
    )


RUNS = {
    "chosen": finished_run([[[-1.0, -1.0], [1.0, -1.0]]]),
    "again": finished_run([[[-1.0, -1.0], [1.0, 1.0]]]),
    "others": finished_run([], commands=(1.0,)),
    "mean": finished_run([[[1.0, 1.0]], [[1.0, -1.0]]], objective="expectation"),
    "other": finished_run([], environment="gridworld/target"),
}


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """Finished runs by the names of their folders; scripts as references play quickly."""
    monkeypatch.setattr(vl, "load", lambda path: RUNS[path.name])
    scripted = SimpleNamespace(returns=np.array([[[-1.0, -1.0, 1.0, -1.0]]]))
    monkeypatch.setattr(vl, "evaluate", lambda script, name, episodes: scripted)
    return tmp_path


def test_scores_of_commands_and_references(runs):
    config = ScoresConfig(
        run=(str(runs / "chosen"), str(runs / "again")),
        maximiser=str(runs / "mean"),
        episodes=2,
        workdir=str(runs / "out"),
    )
    result = pong_scores.run(config)
    low, high = result["commands"].values()
    assert (low["target"], low["score"]["mean"], low["exact"]["mean"]) == (-1.0, -1.0, 1.0)
    # Games end with 1, -1, 1 and 1: one of four is 2 away.
    assert (high["score"]["mean"], high["distance"]["mean"], high["exact"]["mean"]) == (0.5, 0.5, 0.75)
    assert high["score"]["per_seed"] == [0.0, 1.0]
    assert {name: interval["mean"] for name, interval in result["references"].items()} == {
        "random actions": -0.5,
        "always up": -0.5,
        "follows the ball": -0.5,
        "maximises the mean": 0.5,
    }
    facts = {"updates": 10, "environment_steps": 40, "throughput": {"updates_per_second": 5.0}}
    assert result["training"] == [{"num_seeds": 1, **facts}] * 2
    assert result["training_of_maximiser"] == {"num_seeds": 2, **facts}
    assert json.loads((runs / "out" / "result.json").read_text())["commands"] == result["commands"]
    assert (runs / "out" / "scores.png").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "run is missing: give --run=WORKDIR"),
        (
            {"run": ("other",)},
            "a run in gridworld/target with agent.objective=target: give a run in pong/NAME",
        ),
        (
            {"run": ("mean",)},
            "a run in pong/first_to_1 with agent.objective=expectation: give a run in pong/",
        ),
        (
            {"run": ("chosen", "others")},
            r"others with .* \(1.0,\)\), but the first run has .*: give runs that",
        ),
        ({"run": ("chosen",), "maximiser": "other"}, "gridworld/target: give a run in pong/first_to_1"),
    ],
)
def test_refusals(runs, settings, message):
    with pytest.raises(InputError, match=message):
        pong_scores.run(ScoresConfig(**settings, workdir=str(runs / "out")))
