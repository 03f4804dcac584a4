"""A plot of a dataset, from the report of `data.inspection`."""

import functools
import os
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from valuelab import errors
from valuelab.evaluation import figures, plots
from valuelab.evaluation.plots import Maze

_MOST_TICKS = 12
_WIDE_SCALES = 100.0
"""The ratio of the largest to the median standard deviation above which the axis is logarithmic."""


def inspection(
    report: Mapping[str, Any],
    maze: Maze | None = None,
    *,
    path: str | os.PathLike[str] | None = None,
) -> Any:
    """Coverage, episode lengths, returns and rewards (if there are any), actions and observations.

    Args:
        report: the result of `data.inspection.inspect`; for a maze with "maze" from `data.coverage.of_maze`.
        maze: the maze of the dataset, in which coverage is drawn; None to draw it in a plane.
        path: where to save the plot; its suffix decides the format.

    Returns:
        The matplotlib Figure.
    """
    length = functools.partial(
        _draw_distribution, found=report["episodes"]["length"], title="episode lengths", label="steps"
    )
    actions = functools.partial(_draw_actions, actions=report["actions"])
    observations = functools.partial(_draw_observations, observations=report["observations"])
    rows: list[list[Callable[[Any], None]]] = [[length, observations], [actions]]
    if report["rewards"]:
        returns = functools.partial(
            _draw_distribution, found=report["returns"], title="returns of episodes", label="sum of rewards"
        )
        rewards = functools.partial(_draw_rewards, rewards=report["rewards"])
        rows = [[length, returns, rewards], [actions, observations]]
    if maze is None and not report["coverage"]["plane"]:
        figure = rest = figures.new(8.5, 5.6)
    else:
        figure = figures.new(12.0, 5.6)
        place, rest = figure.subfigures(1, 2, width_ratios=(0.6, 1))
        _draw_coverage(place.subplots(), report, maze)
    for band, draws in zip(rest.subfigures(2, 1), rows, strict=True):
        for panel, draw in zip(np.ravel(band.subplots(1, len(draws))), draws, strict=True):
            draw(panel)
    episodes, transitions = report["episodes"]["count"], report["transitions"]
    figure.suptitle(f"{report['name']}: {transitions:,} transitions in {episodes:,} episodes", fontsize=11)
    return figures.saved(figure, path)


def _titled(panel: Any, title: str, **labels: Any) -> None:
    panel.set_title(title, fontsize=10)
    panel.set(**labels)
    panel.tick_params(labelsize=9)


def _draw_distribution(panel: Any, found: Mapping[str, Any], title: str, label: str) -> None:
    """Draws a histogram with the median, or one bar if all numbers are equal."""
    histogram = found["histogram"]
    if found["min"] == found["max"]:
        panel.bar([f"{found['min']:,.6g}"], histogram["counts"].sum(), 0.4, color=figures.BLUE, alpha=0.75)
        panel.set_xlim(-1, 1)
    else:
        panel.stairs(histogram["counts"], histogram["edges"], fill=True, color=figures.BLUE, alpha=0.75)
        panel.axvline(found["median"], color=figures.VERMILLION, linewidth=1.4)
        panel.locator_params(axis="x", nbins=5)
        title = f"{title}, median {found['median']:,.4g}"
    _titled(panel, title, xlabel=label, ylabel="episodes")
    figures.plain(panel)


def _draw_rewards(panel: Any, rewards: Mapping[str, Any]) -> None:
    """Draws the share of each reward, or a histogram with logarithmic shares if there are many rewards."""
    if rewards["values"]:
        names = [f"{entry['value']:.4g}" for entry in rewards["values"]]
        _draw_bars(panel, names, [entry["share"] for entry in rewards["values"]])
    else:
        histogram = rewards["histogram"]
        shares = histogram["counts"] / histogram["counts"].sum()
        panel.stairs(
            shares, histogram["edges"], baseline=shares[shares > 0].min() / 2, fill=True, color=figures.BLUE
        )
        panel.locator_params(axis="x", nbins=5)
        panel.set_yscale("log")
    _titled(panel, "rewards", xlabel="reward", ylabel="share of transitions")
    figures.plain(panel)


def _draw_bars(panel: Any, names: list[str], shares: Any) -> None:
    """Draws one bar for each name, with its share on top if there are few."""
    bars = panel.bar(names, shares, color=figures.BLUE, alpha=0.75)
    if len(names) <= _MOST_TICKS:
        panel.bar_label(bars, [f"{share:.3g} %" for share in 100 * np.asarray(shares)], fontsize=9, padding=2)
    panel.margins(y=0.15)
    panel.yaxis.set_major_formatter(errors.require("matplotlib.ticker", "plots").PercentFormatter(1.0))


def _draw_actions(panel: Any, actions: Mapping[str, Any]) -> None:
    """Draws frequencies of discrete actions, or a histogram of each dimension of continuous ones."""
    if actions["number"]:
        _draw_bars(panel, [str(number) for number in range(actions["number"])], actions["shares"])
        _sparse_ticks(panel.set_xticks, [str(number) for number in range(actions["number"])])
        _titled(panel, "actions", xlabel="action", ylabel="share of transitions")
        figures.plain(panel)
        return
    low, high, counts = actions["low"], actions["high"], actions["histogram"]
    alike = bool(np.all(low == low[0]) and np.all(high == high[0]))
    ends = (float(low[0]), float(high[0])) if alike else (0.0, 1.0)
    shares = 100 * counts / counts.sum(1, keepdims=True)
    image = panel.imshow(
        shares,
        aspect="auto",
        cmap="viridis",
        norm=errors.require("matplotlib.colors", "plots").PowerNorm(
            0.5, vmin=0
        ),  # many actions are at bounds
        extent=(*ends, len(low) - 0.5, -0.5),
        interpolation="nearest",
    )
    panel.figure.colorbar(image, ax=panel, label="% of transitions", pad=0.02)
    panel.locator_params(axis="x", nbins=5)
    saturated = 100 * (actions["at_low"] + actions["at_high"])
    _sparse_ticks(panel.set_yticks, [f"{number} ({share:.0f} %)" for number, share in enumerate(saturated)])
    label = "action" if alike else "action, from lower to upper bound"
    _titled(panel, "actions", xlabel=label, ylabel="dimension (at a bound)")


def _draw_observations(panel: Any, observations: Mapping[str, Any]) -> None:
    """Draws range and spread of each dimension, with constant ones marked; or the intensities of images.

    Of several parts it draws the first vector, else the first image.
    """
    if "parts" in observations:
        parts = observations["parts"]
        name = min(parts, key=lambda name: parts[name]["images"])
        _draw_observations(panel, parts[name])
        panel.set_title(f"{panel.get_title()}: {name}", fontsize=10)
        return
    if observations["images"]:
        histogram = observations["histogram"]
        shares = histogram["counts"] / histogram["counts"].sum()
        panel.stairs(shares, histogram["edges"], fill=True, color=figures.BLUE, alpha=0.75)
        _titled(panel, "intensities of pixels", xlabel="intensity", ylabel="share of pixels")
        figures.plain(panel)
        return
    mean, std, constant = observations["mean"], observations["std"], np.asarray(observations["constant"])
    numbers = np.arange(len(mean))
    width = float(np.clip(60 / len(mean), 1.0, 6.0))
    panel.hlines(numbers, observations["min"], observations["max"], color=figures.SKY, linewidth=width / 2)
    panel.hlines(numbers, mean - std, mean + std, color=figures.BLUE, linewidth=width)
    panel.plot(mean[constant], constant, "x", color=figures.VERMILLION, markersize=4)
    scales = std[std > 0]
    if len(scales) and scales.max() > _WIDE_SCALES * np.median(scales):
        panel.set_xscale("symlog", linthresh=1.0)
    panel.set_ylim(len(mean) - 0.4, -0.6)
    _sparse_ticks(panel.set_yticks, [str(number) for number in numbers])
    _titled(panel, "observations", xlabel="range and mean ± std", ylabel="dimension")
    figures.plain(panel)


def _draw_coverage(panel: Any, report: Mapping[str, Any], maze: Maze | None) -> None:
    """Draws how often each cell of a maze was visited, or each bin of a plane of two components."""
    coverage = report["coverage"]
    if maze is not None:
        cells = report["maze"]
        plots.draw_maze(
            panel,
            maze,
            _cell_lookup(cells["counts"], maze.extent),
            value_label="observations in a bin (white: none)",
        )
        _titled(panel, f"{cells['visited_cells']} of {cells['free_cells']} free cells visited")
        return
    plane = coverage["plane"]
    counts = np.ma.masked_equal(plane["counts"].T, 0)
    norm = errors.require("matplotlib.colors", "plots").LogNorm()
    image = panel.pcolormesh(*plane["edges"], counts, cmap="viridis", norm=norm)
    panel.figure.colorbar(image, ax=panel, label=f"number of {coverage['sampled']:,} observations", pad=0.02)
    panel.set_facecolor(figures.FREE)
    title = f"coverage, effective dimension {coverage['effective_dimension']:.1f}"
    _titled(panel, title, xlabel=plane["axes"][0], ylabel=plane["axes"][1])


def _cell_lookup(counts: np.ndarray, extent: tuple[float, ...]) -> Callable[[np.ndarray], np.ndarray]:
    """A function from places [N, 2] in the extent to the counts [N] of their cells; NaN for a count of 0."""
    left, right, bottom, top = extent
    ends, shape = np.array([(left, right), (bottom, top)]), np.array(counts.shape)[::-1]

    def look_up(observations: np.ndarray) -> np.ndarray:
        shares = (observations[:, :2] - ends[:, 0]) / (ends[:, 1] - ends[:, 0])
        columns, rows = (shares * shape).astype(int).T
        at_places = counts[rows, columns].astype(float)
        return np.where(at_places > 0, at_places, np.nan)

    return look_up


def _sparse_ticks(set_ticks: Callable[..., Any], labels: list[str]) -> None:
    """Sets labelled ticks at 0, 1, 2, ..., and skips some if there are too many to read."""
    step = -(-len(labels) // _MOST_TICKS)
    set_ticks(range(0, len(labels), step), labels[::step])
