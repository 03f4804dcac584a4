"""Plots of agents of many tasks: features of zero-shot agents; tasks and goals in mazes."""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from valuelab import types
from valuelab.evaluation import figures, mazes, plots
from valuelab.evaluation.plots import Maze

OfTask = Callable[[str, np.ndarray], Any]
"""(task, observations [N, D]) -> numbers [N], or velocities [N, 2]."""

_POINTS = 3000
"""The largest number of states in a scatter plot."""


def features(
    features: np.ndarray,
    rewards: Mapping[str, np.ndarray],
    spectra: np.ndarray,
    path: str | os.PathLike[str] | None = None,
) -> Any:
    """The spread of the features of labelled states, and ψ(s)ᵀz of each inferred task in feature space.

    Args:
        features: ψ of N states, [N, d].
        rewards: task to ψ(s)ᵀz [N] of these states.
        spectra: eigenvalues of E ψψᵀ, greatest first, of M members, [M, d].
        path: where to save the plot.

    Returns:
        The matplotlib Figure: eigenvalues, and for each task the features in the plane of their first two
        principal components, coloured by ψ(s)ᵀz.
    """
    figure = figures.new(3.4 * (1 + len(rewards)), 3.4)
    spectrum, *panels = figure.subplots(1, 1 + len(rewards))
    for member, eigenvalues in enumerate(spectra):
        label = "one member" if member == 0 and len(spectra) > 1 else None
        numbers = np.arange(1, len(eigenvalues) + 1)
        spectrum.semilogy(numbers, np.maximum(eigenvalues, 1e-12), color=figures.BLUE, alpha=0.6, label=label)
    spectrum.axhline(1, color=figures.BLACK, linewidth=0.8, linestyle=":", label="orthonormal")
    spectrum.set(
        title="moment of the features ψ",
        xlabel="number of the eigenvalue",
        ylabel="eigenvalue of E ψψᵀ",
        ylim=(1e-4, None),
    )
    spectrum.legend(frameon=False)
    figures.plain(spectrum)
    plane = principal_plane(features)
    shown = np.random.default_rng(0).permutation(len(plane))[:_POINTS]
    for panel, (task, values) in zip(panels, rewards.items(), strict=True):
        order = shown[np.argsort(values[shown])]  # the highest rewards are drawn last, on top
        points = panel.scatter(*plane[order].T, c=values[order], s=4, cmap="viridis", linewidths=0)
        figure.colorbar(points, ax=panel, label="ψᵀz of the inferred z", shrink=0.85, pad=0.02)
        panel.set(title=f"ψ, {task}", xlabel="first principal component", ylabel="second principal component")
        figures.plain(panel)
    return figures.saved(figure, path)


def principal_plane(features: np.ndarray) -> np.ndarray:
    """The first two principal components [N, 2] of features [N, d], d > 1."""
    centred = features - features.mean(0)
    _, directions = np.linalg.eigh(centred.T @ centred)
    return centred @ directions[:, :-3:-1]


def distances_to_goals(
    environment: types.Environment, opened: Mapping[str, Maze]
) -> dict[str, np.ndarray] | None:
    """Task to the lengths of the geodesics to its goal at `plots.places_in_maze`, in metres, [K].

    Args:
        environment: an OGBench maze.
        opened: task to its maze.

    Returns:
        The lengths, NaN where there are none; None for mazes with teleports or tasks without goals.
    """
    if "teleport" in environment.name or any(maze.goal is None for maze in opened.values()):
        return None
    first, *_ = opened.values()
    goals = np.array([maze.goal for maze in opened.values()])
    found = mazes.geodesics(mazes.free_space(first), goals)
    return dict(zip(opened, found.at(plots.places_in_maze(first)), strict=True))


def tasks_in_maze(
    opened: Mapping[str, Maze],
    *,
    value: OfTask | None = None,
    policy: OfTask | None = None,
    reward: OfTask | None = None,
    distances: Mapping[str, np.ndarray] | None = None,
    episodes: Mapping[str, tuple[Sequence[np.ndarray], Sequence[bool]]] | None = None,
    value_label: str = "value V(s, z)",
    title: str = "",
    path: str | os.PathLike[str] | None = None,
) -> Any:
    """An agent's values, policy and episodes for each task of a maze.

    Args:
        opened: task to its maze.
        value: of observations in a task; None if the agent has none.
        policy: velocities in a task; None if actions are not velocities.
        reward: ψ(s)ᵀz of the inferred z, the inferred reward up to a factor; None to leave it out. For
            forward-backward representations it is the reward smoothed by the kernel B(s)ᵀB(s').
        distances: of `distances_to_goals`; None to leave them out.
        episodes: task to trajectories [L, D] of observations, and whether each reached the goal; None to
            leave them out.
        value_label: the label of values.
        title: the title of the figure; empty for none.
        path: where to save the plot.

    Returns:
        The matplotlib Figure: rewards, then values with the policy's arrows and episodes, then minus the
        geodesics with level lines every 5 metres. Titles have the rank correlation of the values with minus
        the geodesics.
    """
    rows, columns = next(iter(opened.values())).walls.shape
    count = 1 + (reward is not None) + (distances is not None)
    figure = figures.new((0.9 + 0.32 * columns) * len(opened), 0.5 + count * (0.6 + 0.32 * rows))
    panels = figure.subplots(count, len(opened), squeeze=False)
    handles: dict[str, Any] = {}
    for number, (column, (task, maze)) in enumerate(zip(panels.T, opened.items(), strict=True), 1):
        remaining, is_last = list(column), number == len(opened)  # the last colour bar is labelled
        if reward is not None:
            panel = remaining.pop(0)
            label = "ψ(s)ᵀz of the inferred z" if is_last else ""
            plots.draw_maze(panel, maze, _of(reward, task), value_label=label)
            panel.set_title(f"{task}: ψ(s)ᵀz", fontsize=10)
        panel = remaining.pop(0)
        values = None if value is None else plots.over_maze(maze, _of(value, task))
        plots.draw_maze(
            panel,
            maze,
            _fixed(values),
            None if policy is None else _of(policy, task),
            value_label if is_last else "",
        )
        shown = {"value": value, "policy": policy, "episodes": episodes}
        heading = f"{task}: {', '.join(name for name, drawn in shown.items() if drawn is not None)}"
        if episodes is not None:
            plots.draw_trajectories(panel, *episodes[task])
            shown_handles, labels = panel.get_legend_handles_labels()
            handles |= dict(zip(labels, shown_handles, strict=True))
        if distances is not None:
            lengths = distances[task]
            if values is not None:
                correlation = mazes.rank_correlation(values.reshape(1, -1), lengths[None])[0]
                heading += f"\nrank correlation with geodesics {correlation:.2f}"
            _draw_geodesics(remaining.pop(0), maze, task, lengths, "−geodesic (m)" if is_last else "")
        panel.set_title(heading, fontsize=10)
    for panel in panels.ravel():
        panel.label_outer()
    if title:
        figure.suptitle(title)
    if handles:
        figures.legend_below(figure, list(handles.values()))
    figure.draw_without_rendering()  # a second layout: the first one may cut off the labels of the y axes
    return figures.saved(figure, path)


def _of(function: OfTask, task: str) -> Callable[[np.ndarray], Any]:
    return lambda observations: function(task, observations)


def _fixed(values: np.ndarray | None) -> Callable[[np.ndarray], np.ndarray] | None:
    """A function that has been computed over the maze."""
    return None if values is None else lambda observations: values.ravel()


def _draw_geodesics(panel: Any, maze: Maze, task: str, lengths: np.ndarray, label: str) -> None:
    """Minus the lengths [K] of the geodesics to the goal of a task, with level lines every 5 metres."""
    heat = -lengths.reshape(plots.size_in_points(maze))
    plots.draw_maze(panel, maze, _fixed(heat), value_label=label)
    levels = np.arange(5 * np.floor(np.nanmin(heat) / 5), 0, 5)
    lines: dict[str, Any] = {"colors": "white", "linewidths": 0.8, "linestyles": "solid"}
    panel.contour(heat, levels, origin="lower", extent=maze.extent, **lines)
    panel.set_title(f"{task}: geodesics to the goal", fontsize=10)


def pairs(pairs: Mapping[str, Any], name: str, path: str | os.PathLike[str] | None = None) -> Any:
    """Success in pairs of a start and a goal by detour: the agent and references, with 95 % intervals.

    Args:
        pairs: the entry "pairs" of result.json.
        name: the agent's.
        path: where to save the plot.

    Returns:
        The matplotlib Figure. Points are the seeds of the agent.
    """
    figure = figures.new(6.0, 3.6)
    panel = figure.subplots()
    agents = {name: pairs["success"]} | pairs["references"]
    colours = (figures.BLUE, figures.ORANGE, figures.GREEN)
    bins = list(pairs["success"])
    width = 0.8 / len(agents)
    for number, (agent, intervals) in enumerate(agents.items()):
        x = np.arange(len(bins)) + (number - (len(agents) - 1) / 2) * width
        mean, low, high = (
            100 * np.array([intervals[each][end] for each in bins]) for end in ("mean", "ci_low", "ci_high")
        )
        panel.bar(x, mean, 0.92 * width, color=colours[number], alpha=0.75, label=agent)
        bars: dict[str, Any] = {"fmt": "none", "ecolor": figures.BLACK, "elinewidth": 1.2}
        if number == 0:
            bars["label"] = "95 % interval"
        panel.errorbar(x, mean, [mean - low, high - mean], **bars)
        if number == 0:
            for place, each in zip(x, bins, strict=True):
                seeds = 100 * np.array(intervals[each]["per_seed"])
                label = "one seed" if each == bins[0] else None
                dots: dict[str, Any] = {"color": figures.BLACK, "ms": 3, "alpha": 0.6, "clip_on": False}
                panel.plot(np.full(len(seeds), place), seeds, "o", label=label, **dots)
    labels = [f"{each}\n{pairs['success'][each]['pairs']} pairs" for each in bins]
    panel.set_xticks(np.arange(len(bins)), labels)
    panel.set(xlabel="detour: geodesic / straight distance", ylabel="success rate (%)", ylim=(0, 103))
    figures.plain(panel)
    handles = dict(zip(*reversed(panel.get_legend_handles_labels()), strict=True))
    figures.legend_below(figure, [handles[label] for label in (*agents, "one seed", "95 % interval")])
    return figures.saved(figure, path)
