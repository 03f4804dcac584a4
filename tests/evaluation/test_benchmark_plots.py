"""Tests of benchmark plots: they show the given numbers, and methods keep their colours."""

import numpy as np
import pytest

from valuelab.evaluation import benchmark_plots as plots
from valuelab.evaluation import figures

pytest.importorskip("matplotlib")
NAMES = [f"method{number}" for number in range(9)]


def interval(value, width=0.1):
    return {"value": value, "ci_low": value - width, "ci_high": value + width}


def colour(line):
    return line.get_color(), line.get_linestyle()


def test_aggregates_are_bars_over_their_intervals(tmp_path):
    statistics = ("mean", "interquartile_mean", "median", "optimality_gap")
    methods = {
        name: {statistic: interval(0.5 + place / 10) for statistic in statistics}
        for place, name in enumerate(NAMES[1:3])
    }
    methods[NAMES[4]] = {
        statistic: {"value": 0.9, "ci_low": None, "ci_high": None} for statistic in statistics
    }
    figure = plots.aggregates(methods, NAMES, path=tmp_path / "aggregates.png")
    assert [panel.get_title() for panel in figure.axes] == [name.replace("_", " ") for name in statistics]
    for panel in figure.axes:
        assert [bar.get_width() for bar in panel.patches] == pytest.approx([0.2, 0.2])
        values = [lines.get_segments()[0][0, 0] for lines in panel.collections]
        assert values == pytest.approx([0.5, 0.6, 0.9])
    bottom, top = figure.axes[0].get_ylim()
    assert bottom > top  # the first method is on top
    assert (tmp_path / "aggregates.png").read_bytes().startswith(b"\x89PNG")


def test_vector_graphics_embed_fonts_and_have_the_same_bytes(tmp_path):
    probabilities = {"a": {"b": interval(0.8)}, "b": {"a": interval(0.2)}}
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        with figures.also_saved_as(("pdf", "svg", "png")):
            plots.improvement(probabilities, path=tmp_path / folder / "matrix.png")
    files = sorted((tmp_path / "one").iterdir())
    assert [path.name for path in files] == ["matrix.pdf", "matrix.png", "matrix.svg"]
    for path in files:
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()
    assert b"/Type0" in files[0].read_bytes()  # TrueType, which journals ask for
    assert b"/Type3" not in files[0].read_bytes()
    plots.improvement(probabilities, path=tmp_path / "alone.png")
    assert [path.name for path in tmp_path.glob("alone*")] == ["alone.png"]


def test_methods_keep_their_colours_where_others_lack():
    thresholds = [0.0, 0.5, 1.0]
    profile = {"share": [1.0, 0.5, 0.0], "ci_low": [0.9, 0.4, 0.0], "ci_high": [1.0, 0.6, 0.1]}
    every = plots.performance_profiles(thresholds, dict.fromkeys(NAMES, profile), NAMES)
    some = plots.performance_profiles(thresholds, {NAMES[8]: profile}, NAMES)
    shown = {line.get_label(): colour(line) for panel in every.axes for line in panel.lines}
    styles = [shown[name] for name in NAMES]
    assert len(set(styles)) == 9
    assert [len(panel.collections) for panel in every.axes] == [3, 3, 3]  # bands; other lines are grey
    assert [len(panel.lines) for panel in every.axes] == [9, 9, 9]
    (line,) = some.axes[0].lines
    assert colour(line) == styles[8]
    np.testing.assert_array_equal(line.get_xydata(), np.stack([thresholds, profile["share"]], 1))
    shade = some.axes[0].collections[0].get_paths()[0].vertices
    assert {(0.5, 0.4), (0.5, 0.6)} <= set(map(tuple, shade))


def test_improvements_stand_in_their_places_and_certain_ones_are_bold():
    probabilities = {"a": {"b": interval(0.8), "c": interval(0.55)}}
    probabilities |= {"b": {"a": interval(0.2), "c": interval(0.5)}}
    probabilities |= {"c": {"a": interval(0.45), "b": interval(0.5)}}
    panel = plots.improvement(probabilities).axes[0]
    texts = {
        text.get_position(): (text.get_text(), text.get_fontweight())
        for text in panel.texts
        if "to" not in text.get_text()
    }
    assert texts[1, 0] == ("0.80", "bold")  # column b of row a
    assert texts[0, 1] == ("0.20", "bold")
    assert texts[2, 0] == ("0.55", "normal")
    assert len(texts) == 6
    intervals = [text.get_text().strip() for text in panel.texts if "to" in text.get_text()]
    assert intervals[:2] == ["0.70 to 0.90", "0.45 to 0.65"]
    assert panel.images[0].get_array()[0, 1] == 0.8


def test_curves_run_over_updates_and_over_minutes():
    curve = {"updates": [1000, 2000], "seconds": [60.0, 180.0], "mean": [0.2, 0.4]}
    curve |= {"ci_low": [0.1, None], "ci_high": [0.3, None]}
    figure = plots.curves({"maze": {"a": curve, "b": curve}, "cube": {"b": curve}}, ["a", "b"])
    over_updates, over_time, _, last = figure.axes
    np.testing.assert_array_equal(over_updates.lines[0].get_xydata(), [[1000, 0.2], [2000, 0.4]])
    np.testing.assert_array_equal(over_time.lines[0].get_xydata(), [[1, 0.2], [3, 0.4]])
    assert over_updates.get_title(loc="left") == "maze"
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["a", "b", "95 % interval"]
    assert colour(last.lines[0]) == colour(over_time.lines[1])
    assert (over_updates.get_xlabel(), over_time.get_xlabel()) == (
        "number of updates",
        "minutes of training (all seeds)",
    )


@pytest.mark.parametrize(("high", "texts"), [(1.0, ["0%", "50%"]), (0.01, ["0.00%", "0.50%"])])
def test_percentages_have_decimals_where_labels_would_be_equal(high, texts):
    panel = plots.figures.new(4, 3).subplots()
    panel.set_xlim(0, high)
    plots._in_percent(panel.xaxis)
    assert panel.xaxis.get_major_formatter().format_ticks([0, high / 2]) == texts
