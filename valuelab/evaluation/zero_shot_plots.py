"""Plots of a zero-shot agent: its features, and its inferred tasks in mazes."""

import os
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from valuelab.evaluation import figures, plots
from valuelab.evaluation.mazes import rank_correlation
from valuelab.evaluation.plots import Maze

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
        label = "members" if member == 0 and len(spectra) > 1 else None
        numbers = np.arange(1, len(eigenvalues) + 1)
        spectrum.semilogy(numbers, np.maximum(eigenvalues, 1e-12), color=figures.BLUE, alpha=0.6, label=label)
    spectrum.axhline(1, color=figures.BLACK, linewidth=0.8, linestyle=":", label="orthonormal")
    spectrum.set(title="eigenvalues of E ψψᵀ", xlabel="number of the eigenvalue", ylim=(1e-4, None))
    spectrum.legend(frameon=False)
    figures.plain(spectrum)
    plane = principal_plane(features)
    shown = np.random.default_rng(0).permutation(len(plane))[:_POINTS]
    for panel, (task, values) in zip(panels, rewards.items(), strict=True):
        order = shown[np.argsort(values[shown])]  # the highest rewards are drawn last, on top
        points = panel.scatter(*plane[order].T, c=values[order], s=4, cmap="viridis", linewidths=0)
        figure.colorbar(points, ax=panel, label="ψᵀz of the inferred z", shrink=0.85, pad=0.02)
        panel.set(title=f"ψ, {task}", xlabel="first principal component", ylabel="second component")
        figures.plain(panel)
    return figures.saved(figure, path)


def principal_plane(features: np.ndarray) -> np.ndarray:
    """The first two principal components [N, 2] of features [N, d], d > 1."""
    centred = features - features.mean(0)
    _, directions = np.linalg.eigh(centred.T @ centred)
    return centred @ directions[:, :-3:-1]


def tasks_in_maze(
    mazes: Mapping[str, Maze],
    reward: Callable[[str, np.ndarray], Any],
    value: Callable[[str, np.ndarray], Any],
    policy: Callable[[str, np.ndarray], Any] | None = None,
    distances: Mapping[str, np.ndarray] | None = None,
    path: str | os.PathLike[str] | None = None,
) -> Any:
    """ψ(s)ᵀz for each inferred task of a maze, and the agent's values and policy there.

    ψ(s)ᵀz is the inferred reward, up to a factor. For forward-backward representations it is the reward
    smoothed by the kernel B(s)ᵀB(s').

    Args:
        mazes: task to its maze.
        reward: (task, observations [N, D]) -> ψ(s)ᵀz of the inferred z, [N].
        value: (task, observations [N, D]) -> values [N].
        policy: (task, observations [N, D]) -> velocities [N, 2]; None if actions are not velocities.
        distances: task to the lengths of the geodesics to its goal at `plots.places_in_maze`, [K]; NaN where
            there are none. None to leave them out.
        path: where to save the plot.

    Returns:
        The matplotlib Figure: ψ(s)ᵀz, then values and the policy's arrows, then minus the geodesics with
        level lines every 5 metres. Titles have the rank correlation of the values with minus the geodesics.
    """
    rows, columns = next(iter(mazes.values())).walls.shape
    count = 2 if distances is None else 3
    figure = figures.new((1.2 + 0.42 * columns) * len(mazes), count * (0.6 + 0.42 * rows))
    panels = figure.subplots(count, len(mazes), squeeze=False)

    def fixed(values: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
        """A function that has been computed over the maze."""
        return lambda observations: values.ravel()

    for (above, below, *last), (task, maze) in zip(panels.T, mazes.items(), strict=True):

        def of_task(
            function: Callable[[str, np.ndarray], Any], task: str = task
        ) -> Callable[[np.ndarray], Any]:
            return lambda observations: function(task, observations)

        plots.draw_maze(above, maze, of_task(reward), value_label="ψ(s)ᵀz of the inferred z")
        above.set_title(f"{task}: ψ(s)ᵀz")
        values = plots.over_maze(maze, of_task(value))
        arrows = policy and of_task(policy)
        plots.draw_maze(below, maze, fixed(values), arrows, value_label="value V(s, z)")
        title = f"{task}: value and policy" if policy else f"{task}: value"
        if distances is not None:
            lengths = distances[task]
            correlation = rank_correlation(values.reshape(1, -1), lengths[None])[0]
            title += f"\nrank correlation with geodesics {correlation:.2f}"
            heat = -lengths.reshape(values.shape)
            plots.draw_maze(last[0], maze, fixed(heat), value_label="−geodesic (m)")
            levels = np.arange(5 * np.floor(np.nanmin(heat) / 5), 0, 5)
            lines: dict[str, Any] = {"colors": "white", "linewidths": 0.8, "linestyles": "solid"}
            last[0].contour(heat, levels, origin="lower", extent=maze.extent, **lines)
            last[0].set_title(f"{task}: geodesics to the goal")
        below.set_title(title)
    figure.draw_without_rendering()  # a second layout: the first one may cut off the labels of the y axes
    return figures.saved(figure, path)


def pairs(pairs: Mapping[str, Any], name: str, path: str | os.PathLike[str] | None = None) -> Any:
    """Success in pairs of a start and a goal by detour: the agent and references, with 95 % intervals.

    Args:
        pairs: the entry "pairs" of result.json.
        name: the agent's.
        path: where to save the plot.

    Returns:
        The matplotlib Figure. Points are the seeds of the agent.
    """
    figure = figures.new(5.6, 3.4)
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
        panel.errorbar(x, mean, [mean - low, high - mean], fmt="none", ecolor=figures.BLACK, elinewidth=1.2)
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
    figures.legend_below(figure, panel.get_legend_handles_labels()[0])
    return figures.saved(figure, path)
