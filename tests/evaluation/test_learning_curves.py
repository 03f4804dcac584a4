"""Tests of the numbers behind curves: means over seeds of each setting, and the ranking of settings."""

import math

import numpy as np
import pytest

from valuelab.evaluation import figures, learning_curves, metrics, sweep_plots
from valuelab.evaluation.learning_curves import Ranked

FIELDS = ("agent.expectile", "seed")


def rows(scores):
    """Rows of two evaluations: setting to the final scores of its seeds, half of which come first."""
    return [
        {"step": step, "agent.expectile": setting, "seed": seed, "eval/success": share * score, "loss": 1.0}
        for step, share in ((1, 0.5), (2, 1.0))
        for setting, finals in scores.items()
        for seed, score in enumerate(finals)
    ]


def test_settings_are_ranked_by_their_mean_over_seeds_and_never_pooled():
    scores = {0.5: (0.25, 0.5), 0.7: (0.75, 0.5), 0.9: (1.0, math.nan), 0.8: (0.375, 0.375)}
    found = learning_curves.series(rows(scores), FIELDS)
    ranked = learning_curves.rank(found)
    assert [(each.setting, each.rank) for each in ranked] == [
        ("expectile=0.7", 1),
        ("expectile=0.5", 2),
        ("expectile=0.8", 2),  # an equal mean
        ("expectile=0.9", 4),  # a seed without a final score
    ]
    np.testing.assert_allclose([each.score for each in ranked], [0.625, 0.375, 0.375, math.nan])


def test_without_evaluation_settings_keep_their_order():
    found = learning_curves.series(
        [{"step": 1, "agent.expectile": e, "loss": 1 - e} for e in (0.9, 0.7)], FIELDS
    )
    assert learning_curves.rank(found) == [
        Ranked("expectile=0.9", 0, pytest.approx(math.nan, nan_ok=True)),
        Ranked("expectile=0.7", 0, pytest.approx(math.nan, nan_ok=True)),
    ]


def test_the_mean_of_a_setting_lies_where_all_its_seeds_have_numbers():
    curve = learning_curves.mean_curve([{1: 0.0, 2: 0.0, 3: 5.0}, {1: 1.0, 2: 0.5}])
    assert curve.steps.tolist() == [1, 2]
    assert curve.mean.tolist() == [0.5, 0.25]
    assert curve.low.tolist() == [0.0, 0.0]  # percentiles of means of two draws from two seeds
    assert curve.high.tolist() == [1.0, 0.5]
    alone = learning_curves.mean_curve([{1: 1.0}])
    assert np.isnan([alone.low, alone.high]).all()  # one seed has no interval over seeds


@pytest.mark.parametrize(
    ("count", "sizes"), [(1, [1]), (4, [4]), (5, [2, 3]), (9, [3, 3, 3]), (10, [3, 4, 3])]
)
def test_a_panel_has_at_most_four_bands(count, sizes):
    shown = figures.small_multiples(range(count))
    assert [len(group) for group in shown] == sizes
    assert [each for group in shown for each in group] == list(range(count))


def test_metrics_in_words():
    assert metrics.in_words("eval/success") == "success rate (%)"
    assert metrics.in_words("critic/mine_loss") == "critic: mine loss"
    assert metrics.score_and_task("eval/success/task1") == ("eval/success", "task1")
    assert metrics.score_of({"eval/return", "eval/success", "loss"}) == "eval/success"
    assert metrics.score_text("eval/success", 0.8449) == "84.5 %"
    assert metrics.score_text("eval/return", -150.0) == "-150"
    assert metrics.score_text("eval/return", math.nan) == "no score"


def test_the_cells_of_a_heat_map_hold_means_and_intervals():
    names = ("agent.expectile", "agent.inverse_temperature")
    scored = {"mean": 0.5, "ci_low": 0.25, "ci_high": 0.75, "per_seed": [0.25, 0.75]}
    failed = {"mean": None, "ci_low": None, "ci_high": None, "per_seed": [None, None]}
    settings = [
        (dict(zip(names, place, strict=True)), scored if place != (0.7, 10.0) else failed)
        for place in ((0.9, 1.0), (0.9, 10.0), (0.7, 1.0), (0.7, 10.0))
    ]
    axes, means, texts = sweep_plots.grid(settings)
    assert axes == [[0.7, 0.9], [1.0, 10.0]]
    np.testing.assert_array_equal(means, [[0.5, np.nan], [0.5, 0.5]])
    assert texts == [["0.5\n(0.25 to 0.75)", "no score"], ["0.5\n(0.25 to 0.75)"] * 2]
    panel = sweep_plots.sweep("success", settings).axes[0]
    assert {text.get_text() for text in panel.texts} == {"50\n(25 to 75)", "no score"}
    assert (panel.get_xlabel(), panel.get_ylabel()) == ("inverse temperature", "expectile")


def test_one_swept_field_has_a_list_with_the_best_on_top():
    settings = [
        (
            {"agent.expectile": value},
            {"mean": value, "ci_low": value - 0.1, "ci_high": value, "per_seed": [0, 0]},
        )
        for value in (0.7, 0.9, 0.8)
    ]
    panel = sweep_plots.sweep("return", settings).axes[0]
    assert [label.get_text() for label in panel.get_yticklabels()] == [
        "expectile=0.9",
        "expectile=0.8",
        "expectile=0.7",
    ]
    assert panel.get_xlabel() == "return (sum of rewards), mean over 2 seeds; line: 95 % interval"
