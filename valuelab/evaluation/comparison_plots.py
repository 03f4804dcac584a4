"""Plots of learnt policies against the optimum, and of predicted against observed returns."""

import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from valuelab.evaluation import figures

_COMPONENT_COLOURS = (figures.BLUE, figures.ORANGE, figures.GREEN, figures.PURPLE)
_LEVELS = np.linspace(0.05, 0.95, 19)
_MOST_SHOWN = 2.0
"""The largest gap on the colour scale, in units of the tolerated gap."""


class PolicyValues(NamedTuple):
    """Objectives of the policies of M seeds, of the optimum and of random actions.

    Attributes:
        x: [C], settings as text; or [C, m], stocks with m = 1 or 2.
        x_label: the label of x.
        optimum: [C].
        random: [C].
        learnt: [M, C].
        interval: low [C] and high [C], ends of the interval of the mean of `learnt`.
        gaps: [M, C], 0 for the optimum and 1 for random actions.
    """

    x: np.ndarray
    x_label: str
    optimum: np.ndarray
    random: np.ndarray
    learnt: np.ndarray
    interval: tuple[np.ndarray, np.ndarray]
    gaps: np.ndarray


class PredictedReturns(NamedTuple):
    """The return distributions that M seeds predict, and the returns of E episodes of each seed.

    Attributes:
        predicted: [M, N, m], equally likely atoms.
        returns: [M, E, m].
    """

    predicted: np.ndarray
    returns: np.ndarray


def comparison(
    problems: Mapping[str, tuple[PolicyValues, PolicyValues]],
    *,
    tolerated: float,
    title: str = "",
    path: str | os.PathLike[str] | None = None,
) -> Any:
    """For each problem the objective at its settings, E f(c + G) at initial stocks, and the gaps there.

    Args:
        problems: name to values at settings and at initial stocks; one row of panels for each.
        tolerated: the largest gap that counts as optimal; drawn as a line.
        title: the title of the plot.
        path: where to save the plot.

    Returns:
        The matplotlib Figure.
    """
    figure = figures.new(13.0, 0.5 + 3.1 * len(problems))
    rows = figure.subplots(len(problems), 3, squeeze=False)
    for (name, (settings, stocks)), panels in zip(problems.items(), rows, strict=True):
        _draw_settings(panels[0], settings)
        panels[0].set_title(name, fontsize=10, loc="left", weight="bold")
        if stocks.x.shape[1] == 1:
            _draw_stocks(panels[1], stocks)
            _draw_gaps(panels[2], stocks, tolerated)
        else:
            _draw_map(panels[1], stocks, stocks.optimum, "optimum", "viridis", None)
            gaps = stocks.gaps.mean(0)
            _draw_map(panels[2], stocks, 100 * gaps, "gap in %", "magma_r", 100 * _MOST_SHOWN * tolerated)
    explained = [rows[0, 0]]
    by_stock = [index for index, (_, stocks) in enumerate(problems.values()) if stocks.x.shape[1] == 1]
    if by_stock:
        explained += [rows[by_stock[0], 1], rows[by_stock[0], 2]]
    for panel in explained:
        panel.legend(frameon=False, fontsize=9)
    figure.suptitle(title, fontsize=11)
    return figures.saved(figure, path)


def calibration(
    settings: Mapping[str, PredictedReturns],
    *,
    tolerance: float,
    components: Sequence[str] = ("",),
    title: str = "",
    path: str | os.PathLike[str] | None = None,
) -> Any:
    """Calibration of predicted returns, one column of two panels for each setting.

    Above: quantiles of the observed returns against predicted quantiles, one line for each seed. Below: the
    share of returns below each predicted quantile against the level of this quantile. The distribution of
    discrete returns has jumps, so a return within `tolerance` of a quantile counts half as below it.

    Args:
        settings: name to predictions and returns.
        tolerance: in units of returns.
        components: names of the reward's components.
        title: the title of the plot.
        path: where to save the plot.

    Returns:
        The matplotlib Figure.
    """
    figure = figures.new(2.7 * len(settings) + 0.6, 5.8)
    rows = figure.subplots(2, len(settings), squeeze=False)
    for (name, distributions), above, below in zip(settings.items(), *rows, strict=True):
        above.set_title(name, fontsize=10)
        for index, component in enumerate(components):
            colour = _COMPONENT_COLOURS[index % len(_COMPONENT_COLOURS)]
            for seed, (predicted, returns) in enumerate(zip(*distributions, strict=True)):
                style = {"color": colour, "alpha": 0.7, "linewidth": 1.2, "marker": ".", "markersize": 4}
                style["label"] = component if not seed else None
                atoms, observed = np.sort(predicted[:, index]), returns[:, index]
                levels = (np.arange(len(atoms)) + 0.5) / len(atoms)
                above.plot(atoms, np.quantile(observed, levels, method="inverted_cdf"), **style)
                below.plot(_LEVELS, shares_below(observed, np.quantile(atoms, _LEVELS), tolerance), **style)
        for panel, ends in ((above, above.get_xlim()), (below, (0, 1))):
            panel.plot(ends, ends, color=figures.WALL, linewidth=1.0, linestyle=(0, (4, 2)), zorder=1)
            figures.plain(panel)
        above.set_xlabel("predicted quantile")
        below.set_xlabel("level")
    rows[0, 0].set_ylabel("observed quantile")
    rows[1, 0].set_ylabel("share of returns below")
    if len(components) > 1:
        rows[0, 0].legend(frameon=False, fontsize=9)
    figure.suptitle(title, fontsize=11)
    return figures.saved(figure, path)


def shares_below(returns: np.ndarray, thresholds: np.ndarray, tolerance: float) -> np.ndarray:
    """Shares [K] of returns [E] below thresholds [K]; returns within the tolerance count half."""
    ordered = np.sort(returns)
    ends = [np.searchsorted(ordered, thresholds + side * tolerance) for side in (-1, 1)]
    return (ends[0] + ends[1]) / (2 * len(ordered))


def _draw_settings(panel: Any, settings: PolicyValues) -> None:
    places = np.arange(len(settings.x))
    panel.scatter(places, settings.random, marker="x", color=figures.WALL, label="random actions")
    wide = {"marker": "_", "s": 500, "color": figures.BLACK, "label": "optimum"}
    panel.scatter(places, settings.optimum, **wide)
    for values in settings.learnt:
        panel.scatter(places, values, s=9, color=figures.BLUE, alpha=0.5)
    mean = settings.learnt.mean(0)
    sizes = np.abs(np.stack(settings.interval) - mean)
    bars = {"fmt": "o", "markersize": 5, "capsize": 4, "color": figures.BLUE}
    panel.errorbar(places, mean, sizes, label="D-eta-N, mean and 95 % interval", **bars)
    panel.set_xticks(places, settings.x)
    panel.set(xlabel=settings.x_label, ylabel="objective")
    figures.plain(panel)


def _draw_stocks(panel: Any, stocks: PolicyValues) -> None:
    first = stocks.x[:, 0]
    dotted = {"color": figures.WALL, "linewidth": 1.2, "linestyle": (0, (1, 1.5))}
    panel.plot(first, stocks.random, label="random actions", **dotted)
    panel.plot(first, stocks.optimum, color=figures.BLACK, linewidth=3.5, alpha=0.35, label="optimum")
    panel.plot(first, stocks.learnt.mean(0), color=figures.BLUE, linewidth=1.4, label="D-eta-N, mean")
    shade = {"color": figures.SKY, "alpha": 0.4, "linewidth": 0, "label": "D-eta-N, all seeds"}
    panel.fill_between(first, stocks.learnt.min(0), stocks.learnt.max(0), **shade)
    panel.set(xlabel=stocks.x_label, ylabel="E f(c + G)")
    figures.plain(panel)


def _draw_gaps(panel: Any, stocks: PolicyValues, tolerated: float) -> None:
    first = stocks.x[:, 0]
    for seed, gaps in enumerate(stocks.gaps):
        thin = {"color": figures.BLUE, "alpha": 0.35, "linewidth": 1.0}
        panel.plot(first, 100 * gaps, label=None if seed else "one seed", **thin)
    panel.plot(first, 100 * stocks.gaps.mean(0), color=figures.BLUE, linewidth=2.2, label="mean of seeds")
    dashed = {"color": figures.VERMILLION, "linewidth": 1.2, "linestyle": (0, (4, 2))}
    panel.axhline(100 * tolerated, label="largest gap that counts as optimal", **dashed)
    panel.set(xlabel=stocks.x_label, ylabel="gap in %")
    figures.plain(panel)


def _draw_map(
    panel: Any, stocks: PolicyValues, values: np.ndarray, label: str, colours: str, most: float | None
) -> None:
    """Draws values at stocks of two components as an image; it is blank at stocks without a value."""
    axes = [np.unique(column) for column in stocks.x.T]
    image = np.full([len(axis) for axis in axes], np.nan)
    image[tuple(np.searchsorted(axis, column) for axis, column in zip(axes, stocks.x.T, strict=True))] = (
        values
    )
    limits = {} if most is None else {"vmin": 0.0, "vmax": most}
    drawn = panel.pcolormesh(axes[0], axes[1], image.T, cmap=colours, rasterized=True, **limits)
    panel.figure.colorbar(drawn, ax=panel, label=label)
    panel.set(xlabel=f"{stocks.x_label}, first component", ylabel="second component")
