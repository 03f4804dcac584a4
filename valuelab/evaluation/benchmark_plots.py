"""Plots of benchmarks: scores of methods with confidence intervals.

Every plot takes the names of all methods of the benchmark. Their order decides colours, so that a method has
the same colour in every plot, even if other methods are missing there.
"""

import itertools
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from valuelab import errors
from valuelab.evaluation import figures, metrics

_COLOURS = (
    figures.BLUE,
    figures.VERMILLION,
    figures.GREEN,
    figures.PURPLE,
    figures.ORANGE,
    figures.SKY,
    figures.BLACK,
)
_DASHES: tuple[Any, ...] = ("solid", (0, (5, 2)), (0, (1, 1.5)))
_MINUTES = 2
"""Training of at least this number of minutes is shown in minutes, otherwise in seconds."""
_LEAST_SPAN = 0.1
"""The smallest range of scores that an axis of aggregates shows."""
_SHADE = 0.15
"""The opacity of bands."""
_STATISTICS = ("mean", "interquartile_mean", "median", "optimality_gap")

_SHORT = 16
"""Characters of a name for which the sizes of figures are made; longer names make them larger."""
_CHARACTER = 0.085
"""The width of a character in inches."""

Interval = Mapping[str, Any]
"""A "value" with the ends "ci_low" and "ci_high" of its interval; the ends are None if unknown."""
Curve = Mapping[str, Sequence[float]]
"""Name to list: coordinates, values, and the ends "ci_low" and "ci_high" of their intervals."""


def aggregates(
    methods: Mapping[str, Mapping[str, Interval]],
    names: Sequence[str],
    *,
    path: str | os.PathLike[str] | None = None,
) -> Any:
    """Aggregate scores of methods with intervals, one panel for each statistic; the first method is on top.

    Args:
        methods: name to the result of `statistics.aggregates`.
        names: the names of all methods.
        path: where to save the plot; its suffix decides the format.

    Returns:
        The matplotlib Figure.
    """
    styles = _styles(names)
    figure = figures.new(9.6 + _excess(methods), 1.3 + 0.3 * len(methods))
    panels = figure.subplots(1, len(_STATISTICS), sharey=True)
    for panel, statistic in zip(panels, _STATISTICS, strict=True):
        for row, (name, intervals) in enumerate(methods.items()):
            interval, colour = intervals[statistic], styles[name]["color"]
            if interval["ci_low"] is not None:
                width = interval["ci_high"] - interval["ci_low"]
                panel.barh(row, width, left=interval["ci_low"], height=0.56, color=colour, alpha=0.35)
            panel.vlines(interval["value"], row - 0.36, row + 0.36, color=figures.BLACK, linewidth=1.6)
        panel.set_title(statistic.replace("_", " "), fontsize=10)
        figures.plain(panel)
        _in_percent(panel.xaxis)
        panel.use_sticky_edges = False  # else there is no margin where bars begin
        panel.margins(x=0.08)
        panel.set_xlim(_span(*panel.get_xlim()))
        panel.locator_params(axis="x", nbins=4)
        panel.grid(visible=False, axis="y")
        panel.tick_params(axis="y", length=0)
    panels[0].set_yticks(range(len(methods)), list(methods))
    panels[0].set_ylim(len(methods) - 0.4, -0.6)
    for panel in panels[:-1]:
        panel.set_xlabel("score")
    panels[-1].set_xlabel("lower is better")
    figure.supxlabel("line: estimate; bar: 95 % interval", fontsize=9)
    return figures.saved(figure, path)


def performance_profiles(
    thresholds: Sequence[float],
    methods: Mapping[str, Curve],
    names: Sequence[str],
    *,
    path: str | os.PathLike[str] | None = None,
) -> Any:
    """The share of runs (seeds on tasks) that score above each threshold, with pointwise intervals.

    Args:
        thresholds: [K].
        methods: name to the result of `statistics.performance_profile`.
        names: the names of all methods.
        path: where to save the plot.

    Returns:
        The matplotlib Figure.
    """
    groups = figures.small_multiples(list(methods))
    figure = figures.new(2.5 + 3.7 * len(groups) + _excess(names), 3.6)
    panels = figure.subplots(1, len(groups), squeeze=False, sharey=True)[0]
    styles = _styles(names)
    for panel, group in zip(panels, groups, strict=True):
        lines = {name: (thresholds, profile["share"], profile) for name, profile in methods.items()}
        _draw_group(panel, lines, group, styles)
        panel.set(xlabel="score τ", ylim=(-0.03, 1.03))
        figures.plain(panel)
        for axis in (panel.xaxis, panel.yaxis):
            _in_percent(axis)
    panels[0].set_ylabel("share of runs with score > τ")
    handles = [line for panel in panels for line in panel.get_legend_handles_labels()[0]]
    figure.legend(handles=[*handles, _band_handle()], loc="outside right upper", frameon=False)
    return figures.saved(figure, path)


def improvement(
    probabilities: Mapping[str, Mapping[str, Interval]], *, path: str | os.PathLike[str] | None = None
) -> Any:
    """A matrix of P(X > Y): the probability that method X (row) scores more than method Y (column).

    The ends of the intervals stand below. Probabilities whose interval excludes one half are bold.

    Args:
        probabilities: name of X to name of Y to P(X > Y) with its interval.
        path: where to save the plot.

    Returns:
        The matplotlib Figure.
    """
    names = list(probabilities)
    size = 1.9 + 0.86 * len(names) + _excess(names)
    figure = figures.new(size + 0.8, size)
    panel = figure.subplots()
    values = np.array(
        [
            [probabilities[row][column]["value"] if row != column else np.nan for column in names]
            for row in names
        ]
    )
    image = panel.imshow(values, cmap="RdBu", vmin=0.0, vmax=1.0)
    for (row, column), value in np.ndenumerate(values):
        if row != column:
            interval = probabilities[names[row]][names[column]]
            low, high = interval["ci_low"], interval["ci_high"]
            certain = low is not None and not low <= 0.5 <= high
            style = {"ha": "center", "color": "white" if abs(value - 0.5) > 0.28 else figures.BLACK}
            weight = "bold" if certain else "normal"
            panel.text(column, row, f"{value:.2f}", va="bottom", fontsize=10, fontweight=weight, **style)
            if low is not None:
                panel.text(column, row, f"\n{low:.2f} to {high:.2f}", va="center", fontsize=7.5, **style)
    panel.set_xticks(range(len(names)), names, rotation=90)
    panel.set_yticks(range(len(names)), names)
    panel.tick_params(length=0)
    panel.spines[:].set_visible(False)
    panel.set(xlabel="method Y", ylabel="method X")
    figure.colorbar(image, ax=panel, label="P(X > Y), with its 95 % interval", shrink=0.8)
    return figures.saved(figure, path)


def curves(
    datasets: Mapping[str, Mapping[str, Curve]],
    names: Sequence[str],
    *,
    y_label: str = "score",
    shares: bool = True,
    path: str | os.PathLike[str] | None = None,
) -> Any:
    """Scores over updates and over training time, one row of panels for each dataset.

    More than four methods have several panels over updates; there the lines of all other methods are grey.
    The panel over time shows all methods, with intervals if there are at most four.

    Args:
        datasets: name to method to "updates", "seconds", "mean", "ci_low" and "ci_high", lists [S].
        names: the names of all methods.
        y_label: the label of scores.
        shares: whether scores are shares, which are shown in %.
        path: where to save the plot.

    Returns:
        The matplotlib Figure.
    """
    groups = figures.small_multiples(
        [name for name in names if any(name in each for each in datasets.values())]
    )
    figure = figures.new(2.2 + 3.7 * (1 + len(groups)) + _excess(names), 0.4 + 2.8 * len(datasets))
    rows = figure.subplots(len(datasets), 1 + len(groups), squeeze=False, sharey="row")
    styles = {name: style | {"marker": ".", "markersize": 5} for name, style in _styles(names).items()}
    for (*over_updates, over_time), (dataset, methods) in zip(rows, datasets.items(), strict=True):
        seconds = max(max(curve["seconds"]) for curve in methods.values())
        unit, length = ("minutes", 60) if seconds >= _MINUTES * 60 else ("seconds", 1)
        lines = {name: (curve["updates"], curve["mean"], curve) for name, curve in methods.items()}
        for panel, group in zip(over_updates, groups, strict=True):
            _draw_group(panel, lines, group, styles)
            panel.set_xlabel(metrics.UPDATES)
        for name, curve in methods.items():
            times = np.array(curve["seconds"]) / length
            _draw(over_time, times, curve["mean"], curve if len(groups) == 1 else None, styles[name])
        over_time.set_xlabel(f"{unit} of training (all seeds)")
        over_updates[0].set_ylabel(y_label)
        over_updates[0].set_title(dataset, fontsize=10, loc="left")
        for panel in (*over_updates, over_time):
            panel.set_xlim(left=0)
            figures.plain(panel)
            if shares:
                _in_percent(panel.yaxis)
        for panel in over_updates:
            figures.count_ticks(panel.xaxis)
        over_time.locator_params(axis="x", nbins=5)
        if shares:
            low, high = over_time.get_ylim()
            over_time.set_ylim(min(low, -0.03), max(high, 1.03))
    entries = {
        label: line
        for panel in rows[:, :-1].ravel()
        for line, label in zip(*panel.get_legend_handles_labels(), strict=True)
    }
    shown = [entries[name] for name in names if name in entries]
    figure.legend(handles=[*shown, _band_handle()], loc="outside right upper", frameon=False)
    return figures.saved(figure, path)


def _excess(names: Iterable[str]) -> float:
    """The inches that the longest name needs beyond a short one."""
    return _CHARACTER * max(0, max(map(len, names), default=0) - _SHORT)


def _styles(names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The style of each method: one colour each, and other dashes when the colours repeat."""
    pairs = itertools.cycle(itertools.product(_DASHES, _COLOURS))
    return {
        name: {"label": name, "linestyle": dashes, "color": colour, "linewidth": 1.8}
        for name, (dashes, colour) in zip(names, pairs, strict=False)
    }


def _span(low: float, high: float) -> tuple[float, float]:
    """The ends of an axis of shares that are at least _LEAST_SPAN apart, near [0, 1] if they lie in it."""
    middle, half = (low + high) / 2, max(high - low, _LEAST_SPAN) / 2
    if low > -_LEAST_SPAN and high < 1 + _LEAST_SPAN:
        middle = min(max(middle, half - 0.01), max(1.01 - half, half - 0.01))
    return middle - half, middle + half


def _in_percent(axis: Any) -> None:
    """Labels shares as percentages, with as many decimals as keep neighbouring labels apart."""
    axis.set_major_formatter(
        errors.require("matplotlib.ticker", "plots").PercentFormatter(1.0, decimals=None)
    )


def _band_handle() -> Any:
    """The legend entry of shaded bands."""
    patches = errors.require("matplotlib.patches", "plots")
    return patches.Patch(color=figures.WALL, alpha=_SHADE, linewidth=0, label="95 % interval")


def _draw_group(
    panel: Any,
    lines: Mapping[str, tuple[Any, Any, Curve]],
    group: Sequence[str],
    styles: Mapping[str, Mapping[str, Any]],
) -> None:
    """Draws the lines (x, y, interval) of a group of methods with their intervals, and all others in grey."""
    for name, (x, y, interval) in lines.items():
        if name in group:
            _draw(panel, x, y, interval, styles[name])
        else:
            panel.plot(x, y, **figures.OTHERS)


def _draw(panel: Any, x: Any, y: Any, interval: Curve | None, style: Mapping[str, Any]) -> None:
    """Draws a line, with its interval as a shaded band if it is given."""
    panel.plot(x, y, **style)
    if interval:
        shade = {"color": style["color"], "alpha": _SHADE, "linewidth": 0}
        low, high = (np.array(interval[end], float) for end in ("ci_low", "ci_high"))  # NaN for None
        panel.fill_between(x, low, high, **shade)
