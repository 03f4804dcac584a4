"""Parts of the figures of all claims."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from valuelab.evaluation import figures, statistics

COLOURS = (
    figures.BLUE,
    figures.VERMILLION,
    figures.GREEN,
    figures.ORANGE,
    figures.PURPLE,
    figures.SKY,
    figures.BLACK,
    figures.YELLOW,
)


def panels(count: int, title: str) -> tuple[Any, list[Any]]:
    """A figure with panels side by side."""
    figure = figures.new(4.6 * count, 3.8)
    axes = list(np.atleast_1d(figure.subplots(1, count)))
    for axis in axes:
        figures.plain(axis)
    figure.suptitle(title)
    return figure, axes


def grid(rows: int, columns: int, title: str) -> tuple[Any, np.ndarray]:
    """A figure with rows and columns of panels, and the panels [rows, columns]."""
    figure = figures.new(4.6 * columns, 2.8 * rows)
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis in axes.flat:
        figures.plain(axis)
    figure.suptitle(title)
    return figure, axes


def over_updates(axis: Any, curves: Mapping[str, Mapping[int, np.ndarray]], ylabel: str) -> None:
    """Draws a line for each name, from update -> [M]."""
    for (name, curve), colour in zip(curves.items(), COLOURS, strict=False):
        by_seed(axis, list(curve), {name: np.stack(list(curve.values()), axis=1)}, "updates", ylabel, colour)


def by_seed(
    axis: Any,
    x: Sequence[float] | np.ndarray,
    lines: Mapping[str, np.ndarray],
    xlabel: str,
    ylabel: str,
    colour: str = "",
) -> None:
    """Draws a line for each name: the mean over seeds of [M, len(x)], and a band of its 95 % interval."""
    for (name, values), own in zip(lines.items(), COLOURS, strict=False):
        points = [statistics.mean_interval(column[:, None]) for column in values.T]
        mean, low, high = ([point[end] for point in points] for end in ("mean", "ci_low", "ci_high"))
        axis.plot(x, mean, color=colour or own, label=name, marker=".")
        axis.fill_between(x, low, high, color=colour or own, alpha=0.2, lw=0)
    axis.set(xlabel=xlabel, ylabel=ylabel)
    axis.legend(fontsize="small")
