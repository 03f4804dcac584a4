"""Parts of the figures of all claims."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from valuelab.evaluation import figures

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


def scores(axis: Any, scores_by_variant: Mapping[str, Mapping[str, Any]]) -> None:
    """Draws the returns of each variant over updates, with intervals over seeds."""
    for (name, score), colour in zip(scores_by_variant.items(), COLOURS, strict=False):
        curve = score["curve"]
        axis.plot(curve["updates"], curve["mean"], color=colour, label=name)
        axis.fill_between(curve["updates"], curve["ci_low"], curve["ci_high"], color=colour, alpha=0.2, lw=0)
    axis.set(xlabel="updates", ylabel="return")
    axis.legend(fontsize="small")


def by_seed(
    axis: Any, x: Sequence[float] | np.ndarray, lines: Mapping[str, np.ndarray], xlabel: str, ylabel: str
) -> None:
    """Draws a line for each name: the mean over seeds of [M, len(x)], and a band from least to greatest."""
    for (name, values), colour in zip(lines.items(), COLOURS, strict=False):
        axis.plot(x, np.mean(values, axis=0), color=colour, label=name, marker=".")
        axis.fill_between(x, np.min(values, axis=0), np.max(values, axis=0), color=colour, alpha=0.2, lw=0)
    axis.set(xlabel=xlabel, ylabel=ylabel)
    axis.legend(fontsize="small")
