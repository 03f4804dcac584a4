"""Intervals against closed forms and simulated coverage; the table at the end of a run."""

import io
import json
import math

import numpy as np
import pytest
import rich.console
import scipy.stats

from valuelab.errors import InputError
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
    # Every seed scores 0 on one task and 1 on the other: resampling changes nothing.
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
    scores[-1] += 1000  # the outer half does not matter
    interval = statistics.interquartile_mean_interval(scores)
    assert interval["interquartile_mean"] == 3.5
    assert interval["ci_low"] < 3.5 < interval["ci_high"]


def test_intervals_repeat_and_go_into_json():
    scores = np.random.default_rng(0).random((3, 10)).astype(np.float32)
    interval = statistics.mean_interval(scores)
    assert interval == statistics.mean_interval(scores)
    assert interval != statistics.mean_interval(scores, seed=1)
    assert json.loads(json.dumps(interval)) == interval


def test_aggregates_of_known_scores():
    # Of the sorted 0, 0, 0.5, 0.5, 1, 1, 2, 7 the middle half is 0.5, 0.5, 1, 1; tasks have means 0, 0.5, 1
    # and 4.5; the gaps to 1 are 1, 1, 0.5, 0.5 and 0, with mean 3 / 8.
    found = statistics.aggregates(np.array([[0.0, 0.5, 1.0, 2.0], [0.0, 0.5, 1.0, 7.0]]))
    values = {name: interval["value"] for name, interval in found.items()}
    assert values == {
        "mean": 1.5,
        "median": 0.75,
        "interquartile_mean": 0.75,
        "optimality_gap": 0.375,
    }
    assert json.loads(json.dumps(found)) == found


def test_interquartile_mean_is_the_trimmed_mean():
    rng = np.random.default_rng(0)
    for shape in ((1, 1), (3, 1), (5, 1), (4, 5), (7, 3)):
        scores = rng.normal(size=shape)
        found = statistics.aggregates(scores, resamples=2)["interquartile_mean"]["value"]
        assert found == pytest.approx(scipy.stats.trim_mean(scores, 0.25, axis=None), abs=1e-12)


def test_one_task_has_the_t_interval():
    # v of the one task cancels: f = M - 1, and draws of M - 1 have the standard error s / √M.
    scores = np.random.default_rng(1).normal(size=(6, 1))
    expected = scipy.stats.t.interval(0.95, 5, scores.mean(), scores.std(ddof=1) / np.sqrt(6))
    found = statistics.aggregates(scores, resamples=40_000)
    for name in ("mean", "median"):  # of one task the same
        ends = found[name]["ci_low"], found[name]["ci_high"]
        assert ends == pytest.approx(expected, abs=0.02)


def test_tasks_that_vary_differently_have_the_welch_interval():
    # Standard error √(Σ s²/M) / T; by Welch and Satterthwaite f = (Σ s²)² / Σ s⁴ / (M - 1).
    scores = np.random.default_rng(2).normal(size=(5, 3)) * [0.1, 1.0, 2.0] + [3.0, 0.0, 1.0]
    variances = scores.var(0, ddof=1)
    freedom = variances.sum() ** 2 / np.sum(variances**2 / 4)
    error = np.sqrt(variances.sum() / 5) / 3
    expected = scipy.stats.t.interval(0.95, freedom, scores.mean(), error)
    found = statistics.aggregates(scores, resamples=40_000)["mean"]
    assert (found["ci_low"], found["ci_high"]) == pytest.approx(expected, rel=0.02)


def test_many_seeds_have_the_normal_interval():
    scores = np.random.default_rng(3).normal(size=(200, 1))
    found = statistics.aggregates(scores)["mean"]
    width = 2 * scipy.stats.norm.ppf(0.975) * scores.std() / np.sqrt(200)
    assert found["ci_high"] - found["ci_low"] == pytest.approx(width, rel=0.06)


def test_scores_above_the_optimum_leave_no_gap():
    scores = 1.0 + np.random.default_rng(0).random((4, 3))
    gap = statistics.aggregates(scores)["optimality_gap"]
    assert gap == {"value": 0.0, "ci_low": 0.0, "ci_high": 0.0}
    assert statistics.aggregates(scores, optimal=3.0)["optimality_gap"]["value"] == pytest.approx(
        3.0 - scores.mean()
    )


def test_intervals_stay_within_bounds():
    scores = np.array([[1.0], [1.0], [0.6]])
    free, held = statistics.aggregates(scores), statistics.aggregates(scores, bounds=(0.0, 1.0))
    assert free["mean"]["ci_high"] > 1.0 == held["mean"]["ci_high"]
    assert held["mean"]["ci_low"] == free["mean"]["ci_low"]
    assert free["optimality_gap"]["ci_low"] == held["optimality_gap"]["ci_low"] == 0.0  # by itself


def test_one_seed_has_no_interval():
    found = statistics.aggregates(np.array([[0.2, 0.4]]))["mean"]
    assert found["value"] == pytest.approx(0.3)
    assert np.isnan([found["ci_low"], found["ci_high"]]).all()
    assert statistics.interval_text(found) == statistics.interval_text(found | {"ci_low": None}) == "0.300"


def test_profile_of_a_known_distribution():
    # Of 0, 1/100, ..., 99/100, k hundredths are above 1 - k/100 - 1/200.
    scores = np.arange(100.0).reshape(20, 5) / 100
    profile = statistics.performance_profile(scores, np.array([-1.0, 0.195, 0.5, 0.995]))
    assert profile["share"] == pytest.approx([1.0, 0.8, 0.49, 0.0])
    assert profile["ci_low"][0] == profile["ci_high"][0] == 1.0
    low, share, high = (profile[name][1] for name in ("ci_low", "share", "ci_high"))
    assert 0.0 < low < share < high < 1.0


def test_probability_of_improvement_of_known_samples():
    low, high = np.random.default_rng(0).random((2, 5, 3)) + np.array([0.0, 1.0])[:, None, None]
    improves = statistics.probability_of_improvement
    assert improves(high, low) == {"mean": 1.0, "ci_low": 1.0, "ci_high": 1.0}
    assert improves(low, high)["mean"] == 0.0
    assert improves(low, low)["mean"] == 0.5
    assert improves(low, low)["ci_low"] < 0.5 < improves(low, low)["ci_high"]
    # Always better on one task, never on the other.
    assert improves(np.array([[1.0, 0.0]] * 4), np.array([[0.0, 1.0]] * 2))["mean"] == 0.5


def test_probability_of_improvement_is_mann_whitneys():
    rng = np.random.default_rng(4)
    first, second = rng.integers(6, size=(7, 2)), rng.integers(6, size=(9, 2))  # with ties
    expected = scipy.stats.mannwhitneyu(first, second, axis=0).statistic / (7 * 9)
    found = statistics.probability_of_improvement(first, second)["mean"]
    assert found == pytest.approx(expected.mean())


def test_curve_is_the_mean_of_each_evaluation():
    scores = np.random.default_rng(5).random((6, 4, 3))
    found = statistics.curve(scores)
    for index, evaluation in enumerate(scores):
        single = statistics.aggregates(evaluation)["mean"]
        point = [found[name][index] for name in ("mean", "ci_low", "ci_high")]
        assert point == pytest.approx([single["value"], single["ci_low"], single["ci_high"]])


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        (np.zeros(3), r"scores has shape \[3\], but must be \[M, T\]"),
        (np.zeros((0, 3)), r"scores has shape \[0, 3\]"),
        (np.array([[0.0, np.nan]]), r"scores is nan at \[0, 1\]: leave out"),
    ],
)
def test_unusable_scores(scores, message):
    with pytest.raises(InputError, match=message):
        statistics.aggregates(scores)


def test_samples_on_different_tasks():
    with pytest.raises(InputError, match="first has scores on 2 tasks, but second on 3"):
        statistics.probability_of_improvement(np.zeros((4, 2)), np.zeros((4, 3)))


def coverage(draw, truth, trials=1000):
    """The share of simulated benchmarks whose intervals hold the true values, by name of the statistic."""
    rng, held = np.random.default_rng(0), dict.fromkeys(truth, 0)
    for trial in range(trials):
        found = statistics.aggregates(draw(rng), optimal=0.7, resamples=200, seed=trial)
        for name, value in truth.items():
            held[name] += found[name]["ci_low"] <= value <= found[name]["ci_high"]
    return {name: count / trials for name, count in held.items()}


@pytest.mark.slow
@pytest.mark.parametrize(("seeds", "tasks"), [(4, 1), (4, 10), (5, 5), (10, 1), (10, 10)])
def test_coverage(seeds, tasks):
    # Normal scores, tasks' means from 0.2 to 0.8, deviation 0.1: mean and interquartile mean are 0.5 by
    # symmetry, the gap to 0.7 is the mean of E max(d, 0) = d Φ(d/σ) + σ φ(d/σ), d = 0.7 - μ.
    means = np.linspace(0.2, 0.8, tasks) if tasks > 1 else np.array([0.5])
    short = 0.7 - means
    gap = short * scipy.stats.norm.cdf(short / 0.1) + 0.1 * scipy.stats.norm.pdf(short / 0.1)
    truth = {"mean": 0.5, "interquartile_mean": 0.5, "optimality_gap": gap.mean()}
    found = coverage(lambda rng: means + 0.1 * rng.normal(size=(seeds, tasks)), truth)
    assert all(0.93 <= share <= 0.97 for share in found.values()), found


@pytest.mark.slow
def test_where_coverage_is_not_reached():
    # Five runs that succeed or fail, 0.8 succeeding: all are alike in 0.8⁵ + 0.2⁵ = 0.328 of the benchmarks,
    # whose interval is a point.
    failed = coverage(lambda rng: rng.random((5, 1)) < 0.8, {"mean": 0.8}, trials=500)
    assert 0.55 < failed["mean"] < 1 - 0.328 + 0.03
    # Very skewed scores, exp of normal ones with mean exp(1/2): few samples are in the long tail.
    skewed = coverage(lambda rng: rng.lognormal(size=(5, 1)), {"mean": np.exp(0.5)}, trials=500)
    assert 0.75 < skewed["mean"] < 0.90


def rows(table):
    """The printed cells of a table, by line."""
    console = rich.console.Console(width=120, file=io.StringIO())
    console.print(table)
    lines = [line.replace("┃", "│").strip("│").split("│") for line in console.file.getvalue().splitlines()]
    return [[cell.strip() for cell in line] for line in lines if len(line) > 1]


def interval(mean):
    return {"mean": mean, "ci_low": mean - 0.1, "ci_high": mean + 0.1, "per_seed": [mean]}


def test_seeds_keep_their_order():
    members = [({"seed": seed}, interval(mean)) for seed, mean in enumerate([0.5, 0.75])]
    total = interval(0.625) | {"per_seed": [0.5, 0.75]}
    assert rows(statistics.table("success", members, total)) == [
        ["seed", "success (95 % interval over episodes; all: over seeds)"],
        ["0", "0.500 (0.400 to 0.600)"],
        ["1", "0.750 (0.650 to 0.850)"],
        ["all", "0.625 (0.525 to 0.725)"],
    ]


def test_the_interval_of_a_single_seed_is_over_its_episodes():
    shown = rows(statistics.table("success", [({"seed": 0}, interval(0.5))], interval(0.5)))
    assert shown[0] == ["seed", "success (95 % interval over episodes of one seed)"]


def test_a_sweep_is_ranked_by_settings_and_pools_none_of_them():
    scores = {0.7: 0.5, 0.75: math.nan, 0.8: 0.25, 0.9: 0.75}
    settings = [
        ({"agent.expectile": value}, interval(mean) | {"per_seed": [mean] * 3})
        for value, mean in scores.items()
    ]
    shown = rows(statistics.table("success", settings))
    assert shown[:2] == [
        ["agent.expectile", "success (95 % interval over 3 seeds)"],
        ["0.9", "0.750 (0.650 to 0.850)"],
    ]
    assert [row[0] for row in shown[2:]] == ["0.7", "0.8", "0.75"]


def test_commands_have_a_row_each_and_no_mean():
    commands = [
        ({"command": f"tau={tau}"}, {"objective": interval(tau), "return": interval(3.0)}) for tau in (0.1, 1)
    ]
    assert rows(statistics.tasks_table(commands))[1:] == [
        ["tau=0.1", "0.100 (0.000 to 0.200)", "3.000 (2.900 to 3.100)"],
        ["tau=1", "1.000 (0.900 to 1.100)", "3.000 (2.900 to 3.100)"],
    ]
    tasks = [({"task": "task1"}, {"success": interval(0.5)}), ({"task": "task2"}, {"success": interval(0.7)})]
    shown = rows(statistics.tasks_table(tasks, {"success": interval(0.6)}))
    assert shown[0] == ["task", "success (95 % interval over episodes of one seed)"]
    assert shown[-1] == ["all", "0.600 (0.500 to 0.700)"]


def test_the_best_setting_and_the_settings_that_may_be_as_good():
    named = [({"agent.expectile": value}, interval(value)) for value in (0.2, math.nan, 0.9, 0.75)]
    first, overlapping = statistics.best(named)
    assert first == [named[2]]
    assert overlapping == 1
    assert statistics.best([named[0], named[0]]) == ([named[0], named[0]], 0)
    assert statistics.best([named[1]]) == ([], 0)
