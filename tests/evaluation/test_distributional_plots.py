"""Plots of solutions: they draw the given data in the right place."""

import numpy as np
import pytest

from valuelab.evaluation import distributional_plots as plots

pytest.importorskip("matplotlib")


def is_picture(path):
    return path.read_bytes().startswith(b"\x89PNG")


def test_distributions_are_bars_on_one_axis_with_their_marks_and_tails(tmp_path):
    few = plots.ReturnDistribution(
        "few",
        np.array([3.0, -1.0, 3.0, 50.0]),
        np.array([0.25, 0.5, 0.25, 0.0]),
        {"CVaR": -2.0},
        (-9.0, -1.0),
    )
    many = plots.ReturnDistribution("many", np.linspace(0, 10, 500), np.full(500, 1 / 500))
    figure = plots.distributions([few, many], title="returns", path=tmp_path / "distributions.png")
    upper, lower = figure.axes
    bars = [
        (bar.get_x() + bar.get_width() / 2, bar.get_height()) for bar in upper.patches if bar.get_height() < 1
    ]
    # Equal atoms share a bar; atoms without mass are not drawn and do not stretch the axis.
    np.testing.assert_allclose(bars, [(-1, 0.5), (3, 0.5)])
    (mark,) = upper.lines
    shade = upper.patches[-1]
    assert shade.get_x() + shade.get_width() == pytest.approx(-1.0)
    assert mark.get_xdata() == [-2.0, -2.0]
    assert [text.get_text() for text in upper.get_legend().get_texts()] == ["CVaR -2"]
    # The axis goes from -2, a mark, to 10.
    left, right = upper.get_xlim()
    assert (left, right) == lower.get_xlim()
    assert -3 < left < -2
    assert 10 < right < 11
    heights = [bar.get_height() for bar in lower.patches]
    assert len(heights) == 60
    assert sum(heights) == pytest.approx(1.0)
    assert lower.get_xlabel() == "discounted return G"
    assert is_picture(tmp_path / "distributions.png")


def test_a_certain_return_is_drawn_too():
    (panel,) = plots.distributions(
        [plots.ReturnDistribution("certain", np.array([2.0]), np.array([1.0]))]
    ).axes
    (bar,) = panel.patches
    assert bar.get_height() == 1.0
    left, right = panel.get_xlim()
    assert left < 2 < right


def test_tradeoffs_mark_points_and_bands(tmp_path):
    x = np.array([0.1, 0.5, 1.0])
    value = plots.Curve(x, x**2, "level τ", "CVaR", {"asked": 1}, logarithmic=True)
    target = plots.Curve(x, x + 1, "target", "return", band=(x, x + 2), band_label="10-90 %", diagonal="hit")
    left, right = plots.tradeoff([value, target], path=tmp_path / "tradeoff.png").axes
    assert (left.get_xscale(), right.get_xscale()) == ("log", "linear")
    assert (left.get_xlabel(), left.get_ylabel()) == ("level τ", "CVaR")
    np.testing.assert_array_equal(left.lines[0].get_xydata(), np.stack([x, x**2], 1))
    np.testing.assert_array_equal(left.collections[0].get_offsets(), [(0.5, 0.25)])
    assert [text.get_text() for text in right.get_legend().get_texts()] == ["10-90 %", "hit"]
    np.testing.assert_array_equal(right.lines[0].get_ydata(), x)
    assert is_picture(tmp_path / "tradeoff.png")


def test_a_curve_of_one_point_has_a_ring_around_its_marks():
    one = plots.Curve(np.full(3, 4.0), np.full(3, 4.0), "CVaR", "mean", {"asked": 0, "risk-neutral": 2})
    (panel,) = plots.tradeoff([one]).axes
    ring, *marks = panel.collections
    assert ring.get_sizes() > max(mark.get_sizes() for mark in marks)
    assert [text.get_text() for text in panel.get_legend().get_texts()] == [
        "all 3 points of the curve",
        "asked",
        "risk-neutral",
    ]


def test_arrows_stand_in_their_cells_and_terminal_states_have_none(tmp_path):
    walls = np.array([[False, False, True], [False, False, True]])
    places = np.argwhere(~walls)  # (0, 0), (0, 1), (1, 0), (1, 1)
    transitions = np.array([[0, 1], [1, 0], [0, 0]])
    terminal = np.array([False, False, False, True])
    figure = plots.policy_arrows(
        walls,
        places,
        transitions,
        {"c = -1": np.array([0, 1, 2, 0]), "c = 2": np.array([1, 1, 0, 0])},
        values={"c = -1": np.array([0.0, 1.0, 2.0, 99.0]), "c = 2": np.array([3.0, 4.0, 5.0, 99.0])},
        value_label="value",
        cell_labels={(1, 1): "+1"},
        terminal=terminal,
        path=tmp_path / "policy.png",
    )
    first, second, colour_bar = figure.axes
    assert (first.get_title(), second.get_title()) == ("c = -1", "c = 2")
    arrows, dots = first.collections
    np.testing.assert_array_equal(arrows.get_offsets().round(), [(0, 0), (1, 0)])  # x: column, y: row
    np.testing.assert_array_equal((arrows.U, arrows.V), [(1, 0), (0, 1)])
    np.testing.assert_array_equal(dots.get_offsets().round(), [(0, 1)])
    heat = first.images[0]
    np.testing.assert_array_equal(heat.get_array().filled(np.nan), [[0, 1, np.nan], [2, np.nan, np.nan]])
    # All panels share a scale, which terminal states do not stretch.
    assert heat.get_clim() == second.images[0].get_clim() == (0, 5)
    assert [text.get_text() for text in first.texts] == ["+1"]
    assert first.get_ylim() == (1.5, -0.5)  # the first row is on top
    assert colour_bar.get_ylabel() == "value"
    assert is_picture(tmp_path / "policy.png")


def test_a_policy_map_has_a_row_a_state_and_a_colour_an_action(tmp_path):
    policy = np.array([[0, 0, 2], [2, 2, 2], [0, 0, 0]])
    figure = plots.policy_map(
        policy,
        np.array([-1.0, 0.0, 2.0]),
        terminal=np.array([False, False, True]),
        action_names=("left", "stay", "right"),
        start_stocks=np.array([0.5, 2.0, 0.0]),
        path=tmp_path / "policy.png",
    )
    (axes,) = figure.axes
    mesh, starts = axes.collections
    np.testing.assert_array_equal(mesh.get_array(), policy[:2])
    # Cells end half way between stocks.
    np.testing.assert_array_equal(mesh.get_coordinates()[0, :, 0], [-1.5, -0.5, 1.0, 3.0])
    np.testing.assert_array_equal(starts.get_offsets(), [(0.5, 0), (2.0, 1)])
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["left", "right", "first stock c₀"]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("stock c", "state")
    assert is_picture(tmp_path / "policy.png")


def test_a_map_of_one_stock_is_drawn():
    (axes,) = plots.policy_map(np.array([[1], [0]]), np.array([3.0])).axes
    np.testing.assert_array_equal(axes.collections[0].get_coordinates()[0, :, 0], [2.5, 3.5])
