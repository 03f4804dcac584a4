"""Intervals against closed forms and simulated coverage; the table at the end of a run."""

import io
import json

import numpy as np
import pytest
import rich.console
import scipy.stats

from valuelab.evaluation import statistics


def test_one_seed_resamples_its_episodes():
    # 30 successes in 50 episodes: a resample's number of successes is Binomial(50, 0.6), exactly.
    scores = np.arange(50)[None] < 30
    interval = statistics.mean_interval(scores, resamples=20_000)
    low, high = scipy.stats.binom.ppf([0.025, 0.975], 50, 0.6) / 50
    assert interval["per_seed"] == [interval["mean"]] == [0.6]
    assert interval["ci_low"] == pytest.approx(low, abs=0.011)
    assert interval["ci_high"] == pytest.approx(high, abs=0.011)


def test_seeds_without_noise_resample_seeds():
    # Of two seeds scoring 0 and 1, a resample has mean 0, 1/2 or 1 with probability 1/4, 1/2 and 1/4.
    interval = statistics.mean_interval(np.array([[0.0] * 9, [1.0] * 9]))
    assert interval == {"mean": 0.5, "ci_low": 0.0, "ci_high": 1.0, "per_seed": [0.0, 1.0]}


def test_both_levels_add_up():
    # Var* = v/M + w/(M E), v the variance of the M seeds' means (about their mean, divided by M) and w
    # the mean over seeds of the variance of their episodes (divided by E). With enough draws the resampled
    # mean is nearly normal, and the interval 2 * 1.96 standard deviations wide.
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(60, 1)) + 3 * rng.normal(size=(60, 30))
    variance = scores.mean(1).var() / 60 + scores.var(axis=1).mean() / (60 * 30)
    interval = statistics.mean_interval(scores, resamples=8000)
    width = interval["ci_high"] - interval["ci_low"]
    assert width == pytest.approx(2 * 1.96 * np.sqrt(variance), rel=0.04)


def test_tasks_are_never_resampled():
    # Every seed scores 0 on one task and 1 on the other: nothing is left to chance.
    scores = np.broadcast_to(np.array([0.0, 1.0])[:, None], (3, 2, 8))
    interval = statistics.mean_interval(scores)
    assert interval == {"mean": 0.5, "ci_low": 0.5, "ci_high": 0.5, "per_seed": [0.5] * 3}


@pytest.mark.slow
def test_coverage_where_the_assumptions_hold():
    # Many seeds that differ far more than the episodes of one.
    rng = np.random.default_rng(0)
    covered = 0
    for trial in range(500):
        scores = rng.normal(size=(100, 1)) + 0.1 * rng.normal(size=(100, 5))
        interval = statistics.mean_interval(scores, resamples=300, seed=trial)
        covered += interval["ci_low"] <= 0 <= interval["ci_high"]
    assert 0.93 <= covered / 500 <= 0.97


def test_interquartile_mean_is_of_the_middle_half():
    # Means of the eight runs are 0, 1, ..., 7; the middle half is 2, 3, 4, 5.
    scores = np.arange(8.0).reshape(4, 2, 1).repeat(5, axis=2)
    scores[-1] += 1000  # and the outer half does not matter
    interval = statistics.interquartile_mean_interval(scores)
    assert interval["interquartile_mean"] == 3.5
    assert interval["ci_low"] < 3.5 < interval["ci_high"]


def test_intervals_repeat_and_go_into_json():
    scores = np.random.default_rng(0).random((3, 10)).astype(np.float32)
    interval = statistics.mean_interval(scores)
    assert interval == statistics.mean_interval(scores)
    assert interval != statistics.mean_interval(scores, seed=1)
    assert json.loads(json.dumps(interval)) == interval


def rows(table):
    """The printed cells of a table, line by line."""
    console = rich.console.Console(width=120, file=io.StringIO())
    console.print(table)
    lines = [line.replace("┃", "│").strip("│").split("│") for line in console.file.getvalue().splitlines()]
    return [[cell.strip() for cell in line] for line in lines if len(line) > 1]


def interval(mean):
    return {"mean": mean, "ci_low": mean - 0.1, "ci_high": mean + 0.1, "per_seed": [mean]}


def test_seeds_keep_their_order():
    members = [({"seed": seed}, interval(mean)) for seed, mean in enumerate([0.5, 0.75])]
    assert rows(statistics.table("success", members, interval(0.625))) == [
        ["seed", "success (95 % interval)"],
        ["0", "0.500 (0.400 to 0.600)"],
        ["1", "0.750 (0.650 to 0.850)"],
        ["all", "0.625 (0.525 to 0.725)"],
    ]


def test_a_sweep_is_ranked():
    scores = {0.7: 0.5, 0.8: 0.25, 0.9: 0.75}
    members = [({"agent.expectile": value, "seed": 0}, interval(mean)) for value, mean in scores.items()]
    shown = rows(statistics.table("success", members, interval(0.5)))
    assert [row[0] for row in shown] == ["agent.expectile", "0.9", "0.7", "0.8", "all"]
