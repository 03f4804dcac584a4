"""A plot of the final scores of a sweep, with their intervals over seeds."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from valuelab.evaluation import figures, learning_curves, metrics, statistics

_MOST_ROWS = 40
"""The largest number of settings in the list; the best are shown."""
Scored = tuple[Mapping[str, float], Mapping[str, Any]]
"""The swept fields of a setting, and the `mean_interval` of its score over seeds."""


def sweep(metric: str, settings: Sequence[Scored], *, path: str | os.PathLike[str] | None = None) -> Any:
    """The mean score of each setting with its 95 % interval: a heat map for two swept fields, else a list.

    Args:
        metric: the name of the score, such as "success".
        settings: the settings of the sweep.
        path: where to save the plot.

    Returns:
        The matplotlib Figure.
    """
    name = metrics.EVALUATED + metric
    label = f"{metrics.in_words(name)}, mean over {_seeds(settings)}"
    settings = [(swept, _scaled(interval, metrics.scale(name))) for swept, interval in settings]
    if len(settings[0][0]) == 2:
        digits = ".3g" if metrics.scale(name) == 100 else ".4g"
        return figures.saved(_draw_heat_map(settings, label, digits), path)
    return figures.saved(_draw_list(settings, label), path)


def grid(
    settings: Sequence[Scored], digits: str = ".4g"
) -> tuple[list[list[float]], np.ndarray, list[list[str]]]:
    """The cells of the heat map of two swept fields.

    Args:
        settings: the settings of the sweep.
        digits: the format of numbers in the texts.

    Returns:
        The rising values of the first field [R] and of the second [C]; mean scores [R, C], NaN if missing;
        the texts of the cells [R, C], with the mean and, on a second line, its interval.
    """
    axes = [sorted({list(swept.values())[axis] for swept, _ in settings}) for axis in (0, 1)]
    means = np.full([len(axis) for axis in axes], np.nan)
    texts = [["no score"] * len(axes[1]) for _ in axes[0]]
    for swept, interval in settings:
        row, column = (axis.index(value) for axis, value in zip(axes, swept.values(), strict=True))
        if interval["mean"] is not None and np.isfinite(interval["mean"]):
            means[row, column] = interval["mean"]
            texts[row][column] = statistics.interval_text(interval, digits).replace(" (", "\n(")
    return axes, means, texts


def _draw_heat_map(settings: Sequence[Scored], label: str, digits: str) -> Any:
    axes, means, texts = grid(settings, digits)
    figure = figures.new(2.6 + 1.3 * len(axes[1]), 1.6 + 0.7 * len(axes[0]))
    panel = figure.subplots()
    low, high = (np.nanmin(means), np.nanmax(means)) if np.isfinite(means).any() else (0.0, 1.0)
    if low == high:  # matplotlib would widen the scale to scores that do not exist, such as -0.1 %
        low, high = (low, 0.0) if low < 0 else (0.0, high or 1.0)
    image = panel.imshow(means, cmap="viridis", aspect="auto", vmin=low, vmax=high)
    for (row, column), mean in np.ndenumerate(means):
        bright = np.isfinite(mean) and high > low and (mean - low) / (high - low) > 0.6
        dark = figures.BLACK if bright or not np.isfinite(mean) else "white"
        panel.text(column, row, texts[row][column], ha="center", va="center", color=dark)
    first, second = (name.removeprefix("agent.").replace("_", " ") for name in settings[0][0])
    panel.set_yticks(range(len(axes[0])), [f"{value:g}" for value in axes[0]])
    panel.set_xticks(range(len(axes[1])), [f"{value:g}" for value in axes[1]])
    panel.set(xlabel=second, ylabel=first)
    figure.colorbar(image, ax=panel, label=label.replace(", ", ",\n"))
    figure.suptitle(f"mean (95 % interval over {_seeds(settings)})", fontsize=10)
    return figure


def _draw_list(settings: Sequence[Scored], label: str) -> Any:
    ranked = sorted(settings, key=lambda setting: statistics.rank_key(setting[1]["mean"]))
    shown = ranked[:_MOST_ROWS]
    figure = figures.new(6.4, 1.2 + 0.3 * len(shown))
    panel = figure.subplots()
    for row, (_, interval) in enumerate(shown):
        if interval["mean"] is None or not np.isfinite(interval["mean"]):
            continue
        panel.plot(interval["mean"], row, "o", color=figures.BLUE)
        if np.isfinite(interval["ci_low"]):
            panel.hlines(row, interval["ci_low"], interval["ci_high"], color=figures.BLUE, linewidth=2)
    panel.set_yticks(range(len(shown)), [learning_curves.settings_text(swept) for swept, _ in shown])
    panel.set_ylim(len(shown) - 0.4, -0.6)
    figures.plain(panel)
    panel.set_xlabel(f"{label}; line: 95 % interval")
    if len(shown) < len(ranked):
        panel.set_title(f"the best {len(shown)} of {len(ranked)} settings", fontsize=10)
    return figure


def _seeds(settings: Sequence[Scored]) -> str:
    count = len(settings[0][1]["per_seed"])
    return "the episodes of one seed" if count == 1 else f"{count} seeds"


def _scaled(interval: Mapping[str, Any], scale: float) -> dict[str, Any]:
    """An interval in the unit of the plot."""
    ends = ("mean", "ci_low", "ci_high")
    return {end: None if interval[end] is None else scale * interval[end] for end in ends} | {
        "per_seed": interval["per_seed"]
    }
