"""Plots of stock-augmented solutions: the policy at each stock, and the returns that follow from it."""

import math
import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from valuelab import errors
from valuelab.evaluation import figures

_HIDDEN_MASS = 5e-4
"""The probability at either end of a distribution that may lie beyond the axis."""
_LEAST_SPAN = 0.1
"""The smallest range of an axis, as a share of the largest number on it."""
_MAX_BARS = 60
"""Distributions with more atoms are drawn as histograms with this number of bins."""
_STYLES: tuple[dict[str, Any], ...] = (
    {"color": figures.VERMILLION, "linestyle": "-"},
    {"color": figures.BLACK, "linestyle": (0, (4, 2))},
    {"color": figures.PURPLE, "linestyle": (0, (1, 1.5))},
)
_ACTION_COLOURS = (
    *(figures.BLUE, figures.ORANGE, figures.GREEN, figures.PURPLE),
    *(figures.VERMILLION, figures.SKY, figures.YELLOW, figures.BLACK),
)


class ReturnDistribution(NamedTuple):
    """A return distribution, and what to mark in its panel.

    Attributes:
        label: above its panel.
        values: [n].
        probabilities: [n].
        marks: name to a return, drawn as a vertical line.
        tail: the interval of returns to shade; None for none.
    """

    label: str
    values: np.ndarray
    probabilities: np.ndarray
    marks: Mapping[str, float] = {}
    tail: tuple[float, float] | None = None


class Curve(NamedTuple):
    """One panel of a trade-off: a line through points of a solution, some of them marked.

    Attributes:
        x: [n].
        y: [n].
        x_label: with units.
        y_label: with units.
        marked: name to the index of a point, two at most.
        band: low [n] and high [n] of a shaded band around the line; None for none.
        band_label: of the band, for the legend.
        diagonal: label of the line y = x; empty for no line.
        logarithmic: whether the x axis is logarithmic.
    """

    x: np.ndarray
    y: np.ndarray
    x_label: str
    y_label: str
    marked: Mapping[str, int] = {}
    band: tuple[np.ndarray, np.ndarray] | None = None
    band_label: str = ""
    diagonal: str = ""
    logarithmic: bool = False


def distributions(
    panels: Sequence[ReturnDistribution],
    *,
    x_label: str = "discounted return G",
    title: str = "",
    path: str | os.PathLike[str] | None = None,
) -> Any:
    """Return distributions below each other, on a common axis of returns.

    Args:
        panels: from top to bottom.
        x_label: of the axis of returns.
        title: above the figure.
        path: where to save the figure.

    Returns:
        The matplotlib Figure.
    """
    figure = figures.new(7.2, 1.0 + 1.75 * len(panels))
    axes = figure.subplots(len(panels), sharex=True, squeeze=False).ravel()
    ends = np.array([_ends(distribution) for distribution in panels])
    low, high = ends[:, 0].min(), ends[:, 1].max()
    low, high = _wide(low, high)
    margin = 0.05 * (high - low) or 0.5
    for panel, distribution in zip(axes, panels, strict=True):
        _draw_distribution(panel, distribution, low - margin, high + margin)
    axes[-1].set_xlabel(x_label)
    figure.supylabel("probability", fontsize=10)
    figure.suptitle(title, fontsize=11)
    return figures.saved(figure, path)


def tradeoff(curves: Sequence[Curve], *, title: str = "", path: str | os.PathLike[str] | None = None) -> Any:
    """Trade-off curves side by side.

    Args:
        curves: from left to right.
        title: above the figure.
        path: where to save the figure.

    Returns:
        The matplotlib Figure.
    """
    figure = figures.new(4.8 * len(curves), 3.8)
    for panel, curve in zip(figure.subplots(1, len(curves), squeeze=False).ravel(), curves, strict=True):
        _draw_curve(panel, curve)
    figure.suptitle(title, fontsize=11)
    return figures.saved(figure, path)


def policy_map(
    policy: np.ndarray,
    stocks: np.ndarray,
    *,
    terminal: np.ndarray | None = None,
    action_names: Sequence[str] = (),
    start_stocks: np.ndarray | None = None,
    title: str = "",
    path: str | os.PathLike[str] | None = None,
) -> Any:
    """A map of the action in every state at every stock.

    Args:
        policy: [S, C] integers.
        stocks: [C], rising.
        terminal: [S] bool; terminal states are omitted.
        action_names: [A]; numbers if empty.
        start_stocks: [S], marked in the rows of their states.
        title: above the figure.
        path: where to save the figure.

    Returns:
        The matplotlib Figure.
    """
    states = np.arange(len(policy)) if terminal is None else np.flatnonzero(~np.asarray(terminal))
    num_actions = max(len(action_names), int(policy.max()) + 1)
    names = list(action_names) or [f"action {number}" for number in range(num_actions)]
    figure = figures.new(7.6, min(9.0, 1.5 + 0.32 * len(states)))
    axes = figure.subplots()
    colors = errors.require("matplotlib.colors", "plots")
    cycle = [_ACTION_COLOURS[number % len(_ACTION_COLOURS)] for number in range(num_actions)]
    axes.pcolormesh(
        _edges(stocks),
        np.arange(len(states) + 1) - 0.5,
        policy[states],
        cmap=colors.ListedColormap(cycle),
        vmin=-0.5,
        vmax=num_actions - 0.5,
        rasterized=True,
    )
    patches = errors.require("matplotlib.patches", "plots")
    shown = [patches.Patch(color=cycle[number], label=names[number]) for number in np.unique(policy[states])]
    if start_stocks is not None:
        marks = {"s": 34, "c": "white", "edgecolors": figures.BLACK, "label": "first stock c₀", "zorder": 3}
        shown.append(axes.scatter(start_stocks[states], np.arange(len(states)), **marks))
    every = -(-len(states) // 24)  # omits labels that would touch
    axes.set_yticks(np.arange(len(states))[::every], states[::every])
    axes.set(xlabel="stock c", ylabel="state", title=title)
    axes.set_ylim(len(states) - 0.5, -0.5)
    figures.legend_below(figure, shown)
    return figures.saved(figure, path)


def policy_arrows(
    walls: np.ndarray,
    places: np.ndarray,
    moves: np.ndarray,
    policies: Mapping[str, np.ndarray],
    *,
    values: Mapping[str, np.ndarray] | None = None,
    value_label: str = "",
    note: str = "",
    cell_labels: Mapping[tuple[int, int], str] | None = None,
    terminal: np.ndarray | None = None,
    title: str = "",
    path: str | os.PathLike[str] | None = None,
) -> Any:
    """Policies of a gridworld as arrows, a panel for each stock.

    Args:
        walls: [rows, columns] bool.
        places: [S, 2], row and column of each state.
        moves: [A, 2], the rows and columns that each action moves by; drawn as a dot if both are 0.
        policies: title of a panel, such as "c = -2", to the actions [S].
        values: the same titles to values [S], drawn as colours on a common scale; None for none.
        value_label: of the colour bar.
        note: below the figure.
        cell_labels: (row, column) to a short text, such as "S" for the start or "+1" for a reward.
        terminal: [S] bool; terminal states have no arrow.
        title: above the figure.
        path: where to save the figure.

    Returns:
        The matplotlib Figure.
    """
    rows, columns = walls.shape
    wide = min(len(policies), 3)
    high = -(-len(policies) // wide)
    cell = min(0.5, 4.2 / columns)
    figure = figures.new(wide * (0.3 + cell * columns) + 1.0, high * (0.45 + cell * rows) + 0.6)
    panels = figure.subplots(high, wide, squeeze=False).ravel()
    acting = np.ones(len(places), bool) if terminal is None else ~np.asarray(terminal)
    span = _span(np.stack([values[name][acting] for name in policies])) if values else (0.0, 1.0)
    image = None
    for panel, (name, actions) in zip(panels, policies.items(), strict=False):
        image = _draw_cells(panel, walls, places[acting], values[name][acting] if values else None, span)
        _draw_moves(panel, places[acting], moves[actions[acting]])
        _draw_labels(panel, cell_labels or {}, 72 * cell)
        panel.set_title(name, fontsize=10)
        panel.set(xticks=[], yticks=[], xlim=(-0.5, columns - 0.5), ylim=(rows - 0.5, -0.5))
    for panel in panels[len(policies) :]:
        panel.remove()
    if values:
        figure.colorbar(image, ax=panels[: len(policies)].tolist(), label=value_label, shrink=0.85, pad=0.02)
    figure.supxlabel(note, fontsize=9)
    figure.suptitle(title, fontsize=11)
    return figures.saved(figure, path)


def _span(values: np.ndarray) -> tuple[float, float]:
    """The least and the greatest value, with an interval around them if they are equal."""
    low, high = float(values.min()), float(values.max())
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _draw_cells(
    panel: Any, walls: np.ndarray, places: np.ndarray, values: np.ndarray | None, span: tuple[float, float]
) -> Any:
    """Draws walls, and the values of the states at the given places, as an image."""
    colors = errors.require("matplotlib.colors", "plots")
    panel.set_facecolor(figures.FREE)
    heat = np.full(walls.shape, np.nan)
    if values is not None:
        heat[tuple(places.T)] = values
    image = panel.imshow(heat, cmap="viridis", vmin=span[0], vmax=span[1])
    panel.imshow(np.ma.masked_where(~walls, walls), cmap=colors.ListedColormap([figures.WALL]), zorder=2)
    panel.set_aspect("equal")
    return image


def _draw_moves(panel: Any, places: np.ndarray, moves: np.ndarray) -> None:
    """Draws an arrow for each move, all of one length, and a dot where there is no move; labels fit above."""
    rows, columns = places.T + np.array([[0.12], [0]])
    still = ~moves.any(1)
    moves = moves / np.maximum(np.linalg.norm(moves, axis=1, keepdims=True), 1)
    panel.quiver(
        columns[~still],
        rows[~still],
        moves[~still, 1],
        moves[~still, 0],
        color="white",
        edgecolor=figures.BLACK,
        linewidth=0.6,
        angles="xy",
        scale_units="xy",
        scale=1.7,
        units="xy",
        width=0.13,
        headwidth=3.2,
        headlength=3.2,
        headaxislength=3.0,
        pivot="mid",
        zorder=3,
    )
    marks = {"s": 18, "c": "white", "edgecolors": figures.BLACK, "linewidths": 0.6, "zorder": 3}
    panel.scatter(columns[still], rows[still], **marks)


def _draw_labels(panel: Any, labels: Mapping[tuple[int, int], str], width: float) -> None:
    """Draws texts at the top of cells, small enough for the width of a cell in points."""
    effects = errors.require("matplotlib.patheffects", "plots")
    outline = [effects.Stroke(linewidth=1.4, foreground=figures.BLACK), effects.Normal()]
    for (row, column), text in labels.items():
        size = min(8.0, 1.6 * width / len(text))  # letters are 0.6 times as wide as high
        place = {"xy": (column, row - 0.45), "ha": "center", "va": "top", "zorder": 5}
        panel.annotate(text, **place, fontsize=size, color="white", path_effects=outline)


def _edges(stocks: np.ndarray) -> np.ndarray:
    """The bounds [C + 1] of the intervals around each stock, half-way to its neighbours."""
    gaps = np.diff(stocks) if len(stocks) > 1 else np.ones(1)
    middles = (stocks[1:] + stocks[:-1]) / 2
    return np.concatenate([stocks[:1] - gaps[0] / 2, middles, stocks[-1:] + gaps[-1] / 2])


def _ends(distribution: ReturnDistribution) -> tuple[float, float]:
    """The ends of a distribution, including its marks."""
    order = np.argsort(distribution.values)
    below = np.cumsum(distribution.probabilities[order])
    first, last = np.searchsorted(below, (_HIDDEN_MASS, below[-1] - _HIDDEN_MASS))
    places = [
        distribution.values[order[first]],
        distribution.values[order[last]],
        *distribution.marks.values(),
    ]
    return min(places), max(places)


def _wide(low: float, high: float) -> tuple[float, float]:
    """The ends of an axis; differences that are small for the size of the numbers should look small."""
    half, middle = max(high - low, _LEAST_SPAN * max(abs(low), abs(high))) / 2, (low + high) / 2
    return (low, high) if high - low >= 2 * half else (middle - half, middle + half)


def _draw_distribution(panel: Any, distribution: ReturnDistribution, low: float, high: float) -> None:
    """Draws a distribution with bars if it has few atoms, and else as a histogram."""
    inside = (distribution.values >= low) & (distribution.values <= high)
    values, order = np.unique(distribution.values[inside].round(9), return_inverse=True)
    mass = np.bincount(order, distribution.probabilities[inside])
    values, mass = values[mass > 0], mass[mass > 0]
    if len(values) > _MAX_BARS:
        mass, edges = np.histogram(values, _MAX_BARS, (low, high), weights=mass)
        values, width = (edges[1:] + edges[:-1]) / 2, (high - low) / _MAX_BARS
    else:
        gap = np.diff(values).min() if len(values) > 1 else math.inf
        width = max(min(0.8 * gap, (high - low) / 40), (high - low) / 250)
    panel.bar(values, mass, width, color=figures.BLUE, alpha=0.75, linewidth=0, zorder=2)
    if distribution.tail is not None:
        panel.axvspan(
            *np.clip(distribution.tail, low, high),
            color=figures.VERMILLION,
            alpha=0.12,
            linewidth=0,
            zorder=1,
        )
    for style, (name, value) in zip(_STYLES, distribution.marks.items(), strict=False):
        panel.axvline(value, label=f"{name} {value:.4g}", linewidth=1.8, zorder=3, **style)
    panel.set_title(distribution.label, fontsize=10, loc="left")
    panel.set(xlim=(low, high), ylim=(0, 1.15 * mass.max()))
    figures.plain(panel)
    if distribution.marks:
        panel.legend(frameon=False, fontsize=9, loc="center left", bbox_to_anchor=(1.0, 0.5))


def _draw_curve(panel: Any, curve: Curve) -> None:
    if curve.band is not None:
        shade = {"color": figures.SKY, "alpha": 0.3, "linewidth": 0, "label": curve.band_label}
        panel.fill_between(curve.x, *curve.band, **shade)
    if curve.diagonal:
        dashed = {"color": figures.WALL, "linewidth": 1.2, "linestyle": (0, (4, 2)), "label": curve.diagonal}
        panel.plot(curve.x, curve.x, **dashed)
    panel.plot(curve.x, curve.y, color=figures.BLUE, linewidth=2.2, marker="o", markersize=2.5)
    if len(curve.x) > 1 and all(np.allclose(part, part[0]) for part in (curve.x, curve.y)):
        ring = {"s": 320, "color": "none", "edgecolors": figures.BLUE, "linewidths": 2.0}
        panel.scatter(curve.x[0], curve.y[0], label=f"all {len(curve.x)} points of the curve", **ring)
    sizes = (70, 190)  # the second mark is a ring around the first if both are at one place
    for order, (name, index) in enumerate(curve.marked.items()):
        style = {"s": sizes[order], "color": (figures.VERMILLION, "white")[order], "zorder": 5 - order}
        panel.scatter(curve.x[index], curve.y[index], edgecolors=figures.BLACK, label=name, **style)
    if curve.logarithmic:
        panel.set_xscale("log")
    panel.set(xlabel=curve.x_label, ylabel=curve.y_label)
    panel.set_ylim(_wide(*panel.get_ylim()))
    if not curve.logarithmic:
        panel.set_xlim(_wide(*panel.get_xlim()))
        panel.locator_params(axis="x", nbins=6)  # numbers such as -12.00 would touch
    figures.plain(panel)
    if panel.get_legend_handles_labels()[0]:
        panel.legend(frameon=False, fontsize=9, labelspacing=0.9)
