"""Plots of a run's curves, and of value functions, policies and trajectories in OGBench's mazes."""

import os
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from valuelab import errors, types
from valuelab.evaluation import figures, learning_curves, metrics
from valuelab.evaluation.learning_curves import Points, Ranked, Series

_LIGHT: dict[str, Any] = {"alpha": 0.35, "linewidth": 1.0, "zorder": 1.5}  # below all means
_BOLD: dict[str, Any] = {"linewidth": 2.2}
_LEVEL: dict[str, Any] = {"color": figures.WALL, "linewidth": 1.0, "linestyle": (0, (1, 2)), "zorder": 1}
_BAND: dict[str, Any] = {"alpha": 0.18, "linewidth": 0}
_COLOURS = (figures.BLUE, figures.VERMILLION, figures.GREEN, figures.PURPLE)
_DASHES = ((0, (6, 2)), (0, (3, 3)), (0, (1, 3)))
"""Dashes of the settings after the first, which is solid: lines that coincide show through the gaps."""
_FEW = 2
"""Curves with at most this number of points get markers."""
_POINTS_PER_CELL = 16
_MOST_PANELS = 9
"""The number of panels of a run without many settings; evaluations leave at least _LEAST_OTHERS to others."""
_LEAST_OTHERS = 3
_LEGEND_WIDTH, _LABEL_WIDTH = 44, 24
"""The number of letters in a line of a legend and of the label of a y axis."""
_MOST_COLUMNS, _MOST_ROWS = 4, 5
"""The size of the figure of a sweep of many settings."""


def curves(
    rows: Sequence[Mapping[str, float]],
    *,
    member_fields: Sequence[str] = ("seed",),
    levels: Mapping[str, float] | None = None,
    path: str | os.PathLike[str] | None = None,
) -> Any:
    """The curves of a run: evaluation scores first, then metrics with a level, losses, other metrics.

    Each member is a light line; the mean over the seeds of a setting is a bold line in the setting's colour
    and dashes. The band around the mean of an evaluation score is its 95 % bootstrap interval over seeds. The
    settings of a sweep are ranked by their final mean score. More than four of them are drawn in several
    columns, the best in the first; there the means of all other settings are grey.

    Args:
        rows: lines of metrics.jsonl: {"step": int, "seed": int if there are several, name: number, ...};
            names of scores start with "eval/". If a member has two rows of one step, the later one counts.
        member_fields: the fields that identify a member; all but "seed" identify its setting.
        levels: metric -> a value that is drawn as a line; these metrics come directly after the evaluation.
        path: where to save the plot; its suffix decides the format.

    Returns:
        The matplotlib Figure.

    Raises:
        InputError: when rows hold no metric.
    """
    found = learning_curves.series(rows, member_fields)
    if not found:
        raise errors.InputError("metrics.jsonl holds no number to plot except the step: train for longer")
    ranked = learning_curves.rank(found)
    columns = figures.small_multiples(ranked)[:_MOST_COLUMNS]
    levels = levels or {}
    names = sorted(found, key=lambda name: _importance(name, name in levels))
    if len(columns) == 1:
        figure = _draw_few(found, ranked, _chosen(names), levels)
    else:
        figure = _draw_columns(found, ranked, columns, names[:_MOST_ROWS], levels)
    return figures.saved(figure, path)


def _draw_few(
    found: Series, ranked: Sequence[Ranked], names: Sequence[str], levels: Mapping[str, float]
) -> Any:
    """Draws a figure with one panel for each named metric, and one legend."""
    columns = min(3, len(names))
    height = -(-len(names) // columns)
    figure = figures.new(3.7 * columns, 2.6 * height)
    panels = figure.subplots(height, columns, squeeze=False).ravel()
    for panel, name in zip(panels, names, strict=False):
        for setting, style in _styles(ranked).items():
            _draw_curve(panel, name, found[name].get(setting, []), style)
        _finish_panel(panel, name, found, levels)
    for panel in panels[len(names) :]:
        panel.remove()
    handles = _setting_handles(found, ranked) if len(ranked) > 1 else []
    if handles := handles + _seed_handles(found):
        figures.legend_below(figure, handles)
    return figure


def _draw_columns(
    found: Series,
    ranked: Sequence[Ranked],
    columns: Sequence[Sequence[Ranked]],
    names: Sequence[str],
    levels: Mapping[str, float],
) -> Any:
    """Draws a figure with a row for each named metric, and a column with a legend for each group."""
    figure = figures.new(4.0 * len(columns), 2.5 * len(names) + 1.2)
    rows = figure.subplots(len(names), len(columns), squeeze=False, sharey="row", sharex=True)
    for row, name in zip(rows, names, strict=True):
        for panel, group in zip(row, columns, strict=True):
            styles = _styles(group)
            for each in ranked:
                if each.setting not in styles and (members := found[name].get(each.setting)):
                    curve = learning_curves.mean_curve(members, intervals=False)
                    panel.plot(curve.steps, metrics.scale(name) * curve.mean, **figures.OTHERS)
            for setting, style in styles.items():
                _draw_curve(panel, name, found[name].get(setting, []), style)
            _finish_panel(panel, name, found, levels)
            panel.label_outer()
    for panel, group in zip(rows[0], columns, strict=True):
        panel.legend(
            handles=_setting_handles(found, group),
            loc="lower left",
            bbox_to_anchor=(0.0, 1.0),
            frameon=False,
            fontsize=9,
        )
    shown = sum(map(len, columns))
    lines = errors.require("matplotlib.lines", "plots")
    label = (
        "other settings" if shown == len(ranked) else f"others; the best {shown} of {len(ranked)} in colour"
    )
    handles = [*_seed_handles(found), lines.Line2D([], [], **figures.OTHERS, label=label)]
    figures.legend_below(figure, handles)
    return figure


def _chosen(names: Sequence[str]) -> list[str]:
    """The metrics that are drawn, of all in their order: evaluations, and at least _LEAST_OTHERS others."""
    evaluated = [name for name in names if name.startswith(metrics.EVALUATED)][:_MOST_PANELS]
    others = [name for name in names if not name.startswith(metrics.EVALUATED)]
    return evaluated + others[: max(_LEAST_OTHERS, _MOST_PANELS - len(evaluated))]


def maze(
    environment: types.Environment,
    *,
    task: str | None = None,
    value: Callable[[np.ndarray], Any] | None = None,
    policy: Callable[[np.ndarray], Any] | None = None,
    trajectories: Sequence[np.ndarray] = (),
    successes: Sequence[bool] = (),
    title: str = "",
    value_label: str = "state value V(s)",
    path: str | os.PathLike[str] | None = None,
) -> Any:
    """A maze of OGBench from above, with a value function, a policy and trajectories.

    The first two numbers of an observation are the position. All other numbers (an ant's joints) are those of
    the task's initial state.

    Args:
        environment: an OGBench maze.
        task: the task whose start and goal are marked; None for the first task. With a reward of the user the
            goal is not marked, and trajectories have one style.
        value: (observations [N, D]) -> [N]; drawn as a heat map over the free cells, blank where NaN.
        policy: (observations [N, D]) -> [N, 2], velocities; drawn as arrows.
        trajectories: observations [length, D] each, drawn as lines.
        successes: whether each trajectory reached the goal.
        title: the title of the plot.
        value_label: the label of the colour bar; it should say which return the value is the expectation of.
        path: where to save the plot.

    Returns:
        The matplotlib Figure.

    Raises:
        InputError: when the environment is not a maze, or the policy's actions are not velocities.
    """
    scene = open_maze(environment, task)
    rows, columns = scene.walls.shape
    figure = figures.new(0.9 + 0.62 * columns + 1.2 * (value is not None), 1.2 + 0.62 * rows)
    axes = figure.subplots()
    draw_maze(axes, scene, value, policy, value_label)
    axes.set_title(title)
    draw_trajectories(axes, trajectories, None if scene.goal is None else successes)
    figures.legend_below(figure, axes.get_legend_handles_labels()[0])
    return figures.saved(figure, path)


class Maze(NamedTuple):
    """A maze of OGBench with a task.

    Attributes:
        walls: [rows, columns] bool.
        extent: left, right, bottom and top, in metres.
        unit: width of a cell, in metres.
        initial: [D], an observation at the start.
        start: [2], in metres; None for a maze without a task, where no start is drawn.
        goal: [2], in metres; None without a goal: for a maze without a task, or with a reward of the user.
        radius: of the agent's body, or of an ant's torso, in metres; 0 in D4RL's mazes.
        goal_radius: the distance from the goal at which it is reached, in metres; 0 in D4RL's mazes.
    """

    walls: np.ndarray
    extent: tuple[float, float, float, float]
    unit: float
    initial: np.ndarray
    start: np.ndarray | None
    goal: np.ndarray | None
    radius: float = 0.0
    goal_radius: float = 0.0


def is_maze(environment: types.Environment) -> bool:
    """Whether an environment is a maze of OGBench with vector observations, which `draw_maze` can draw."""
    if "maze" not in environment.name:  # other environments take seconds to make
        return False
    gym = environment.make()
    try:
        return hasattr(gym.unwrapped, "maze_map") and len(gym.observation_space.shape) == 1
    finally:
        gym.close()


def open_maze(environment: types.Environment, task: str | None = None) -> Maze:
    """The maze of an environment.

    Args:
        environment: an OGBench maze.
        task: one of its tasks; None for the first.

    Raises:
        InputError: when the environment is not a maze, or has no such task.
    """
    gym = environment.make()
    scene = gym.unwrapped
    task = next(iter(environment.tasks)) if task is None else task
    if task not in environment.tasks:
        raise errors.unknown(f"task of {environment.name}", task, environment.tasks)
    initial, _ = gym.reset(seed=0, options=environment.tasks[task])
    if not hasattr(scene, "maze_map") or np.ndim(initial) != 1:
        raise errors.InputError(
            f"{environment.name} is not a maze with vector observations: choose one, such as "
            "ogbench/pointmaze-medium-navigate-v0"
        )
    walls = scene.maze_map == 1
    corner, neighbour = (np.array(scene.ij_to_xy((0, column))) for column in (0, 1))
    unit = float(neighbour[0] - corner[0])
    left, bottom = corner - unit / 2
    extent = (left, left + unit * walls.shape[1], bottom, bottom + unit * walls.shape[0])
    # A reward of the user (environments.rewarded), whose metric is the return, takes the place of the goal.
    goal = None if environment.metric == "return" else np.array(scene.cur_goal_xy)
    gym.close()
    initial = np.asarray(initial)
    sizes = {}
    if hasattr(scene, "_goal_tol"):  # OGBench's; D4RL's maze2d has another body
        torso = scene.model.body("torso").geomadr[0]
        sizes = {"radius": float(scene.model.geom_size[torso, 0]), "goal_radius": float(scene._goal_tol)}
    return Maze(
        walls=walls,
        extent=extent,
        unit=unit,
        initial=initial,
        start=initial[:2],
        goal=goal,
        **sizes,
    )


def draw_maze(
    axes: Any,
    scene: Maze,
    value: Callable[[np.ndarray], Any] | None = None,
    policy: Callable[[np.ndarray], Any] | None = None,
    value_label: str = "",
) -> None:
    """Draws a maze into axes, with its start and its goal if it has them.

    Args:
        axes: matplotlib axes.
        scene: the maze.
        value: see `maze`.
        policy: see `maze`.
        value_label: the label of the colour bar.
    """
    colors = errors.require("matplotlib.colors", "plots")
    walls, extent = scene.walls, scene.extent
    axes.set(facecolor=figures.FREE, aspect="equal", xlabel="x (m)", ylabel="y (m)")
    placed = {"origin": "lower", "extent": extent}
    if value is not None:
        heat = over_maze(scene, value)
        free = heat[~walls.repeat(_POINTS_PER_CELL, 0).repeat(_POINTS_PER_CELL, 1)]
        image = axes.imshow(heat, cmap="viridis", vmin=np.nanmin(free), vmax=np.nanmax(free), **placed)
        axes.figure.colorbar(image, ax=axes, label=value_label, shrink=0.85, pad=0.02)
    axes.imshow(
        np.ma.masked_where(~walls, walls), cmap=colors.ListedColormap([figures.WALL]), zorder=2, **placed
    )
    if policy is not None:
        _draw_arrows(axes, walls, extent, scene.initial, policy)
    marks = {"edgecolors": figures.BLACK, "linewidths": 1.2, "zorder": 5}
    if scene.start is not None:
        axes.scatter(*scene.start, s=110, c="white", marker="o", label="start", **marks)
    if scene.goal is not None:
        axes.scatter(*scene.goal, s=260, c=figures.PURPLE, marker="*", label="goal", **marks)
    # Only half of the outer wall is shown.
    edge = (scene.unit / 2, -scene.unit / 2)
    axes.set(xlim=np.add(extent[:2], edge), ylim=np.add(extent[2:], edge))


class _Style(NamedTuple):
    """The colour and dashes of a setting."""

    colour: Any
    dashes: Any

    @property
    def bold(self) -> dict[str, Any]:
        """The style of the setting's mean."""
        return {"color": self.colour, "linestyle": self.dashes, **_BOLD}


def _styles(ranked: Sequence[Ranked]) -> dict[str, _Style]:
    """The styles of at most MOST_BANDS settings, the best first."""
    dashes = ("solid", *_DASHES)
    return {each.setting: _Style(*style) for each, *style in zip(ranked, _COLOURS, dashes, strict=False)}


def _setting_handles(found: Series, ranked: Sequence[Ranked]) -> list[Any]:
    """Legend entries of settings, with their ranks and final scores if the run was evaluated."""
    lines = errors.require("matplotlib.lines", "plots")
    score = metrics.score_of(found)
    handles = []
    for each in ranked:
        label = each.setting
        if each.rank:
            label = f"{each.rank}. {metrics.score_text(score, each.score)}: {each.setting}"
        label = "\n".join(textwrap.wrap(label, _LEGEND_WIDTH, break_long_words=False))
        handles.append(lines.Line2D([], [], label=label, **_styles(ranked)[each.setting].bold))
    return handles


def _seed_handles(found: Series) -> list[Any]:
    """Legend entries of light lines, bold lines and bands; none if each setting has one seed."""
    seeds = max(len(members) for settings in found.values() for members in settings.values())
    if seeds == 1:
        return []
    lines, patches = (errors.require(f"matplotlib.{name}", "plots") for name in ("lines", "patches"))
    handles = [
        lines.Line2D([], [], color=figures.WALL, **_LIGHT, label="one seed"),
        lines.Line2D([], [], color=figures.WALL, **_BOLD, label=f"mean over {seeds} seeds"),
    ]
    if metrics.score_of(found):
        handles.append(patches.Patch(color=figures.WALL, **_BAND, label=f"95 % interval over {seeds} seeds"))
    return handles


def _draw_curve(panel: Any, name: str, members: Sequence[Points], style: _Style) -> None:
    """Draws one metric of all members of a setting over updates."""
    scale = metrics.scale(name)
    if len(members) > 1:
        for points in filter(None, members):
            steps, numbers = zip(*sorted(points.items()), strict=True)
            light = {"color": style.colour, **_LIGHT, **_marked(len(steps))}
            panel.plot(steps, scale * np.array(numbers), **light)
    if not members:
        return
    curve = learning_curves.mean_curve(members, intervals=name.startswith(metrics.EVALUATED))
    panel.plot(curve.steps, scale * curve.mean, **style.bold, **_marked(len(curve.steps)))
    if np.isnan(curve.low).all():
        return
    if len(curve.steps) > _FEW:
        panel.fill_between(curve.steps, scale * curve.low, scale * curve.high, color=style.colour, **_BAND)
    else:  # a band between so few points is too thin to be seen
        panel.vlines(curve.steps, scale * curve.low, scale * curve.high, color=style.colour, linewidth=1.6)


def _finish_panel(panel: Any, name: str, found: Series, levels: Mapping[str, float]) -> None:
    """Sets the labels, limits and ticks of the panel of a metric, and draws its level."""
    if name in levels:
        panel.axhline(levels[name], **_LEVEL)
    score, task = metrics.score_and_task(name)
    if not task and any(other.startswith(f"{name}/") for other in found):
        task = "mean over commands" if name == "eval/objective" else "mean over tasks"
    panel.set_title(task, fontsize=10)
    panel.set_ylabel(textwrap.fill(metrics.in_words(score), _LABEL_WIDTH))
    panel.set_xlabel(metrics.UPDATES)
    figures.plain(panel)
    figures.count_ticks(panel.xaxis)
    panel.set_xlim(left=0)
    if metrics.scale(name) != 1:
        panel.set_ylim(-3, 103)
    elif "loss" in name and learning_curves.spans_decades(found[name]):
        panel.set_yscale("log")
    else:
        panel.ticklabel_format(axis="y", useOffset=False)


def _marked(points: int) -> dict[str, Any]:
    """The style of markers for a curve with too few points for a line; empty for other curves."""
    return {"marker": "o", "markersize": 5} if points <= _FEW else {}


def _draw_arrows(axes: Any, walls: np.ndarray, extent: tuple, initial: np.ndarray, policy: Callable) -> None:
    """Draws a policy's velocities on a coarse grid over the free cells."""
    places = _places(walls.shape, extent, 3)
    actions = np.asarray(policy(observations(places, initial)))
    if actions.shape[1:] != (2,):
        raise errors.InputError(
            f"policy returns actions of shape {actions.shape[1:]}, but arrows need two velocities: "
            "leave out policy, or give an agent of pointmaze"
        )
    free = ~walls.repeat(3, 0).repeat(3, 1).ravel()
    gap = (extent[1] - extent[0]) / walls.shape[1] / 3
    axes.quiver(
        *places[free].T,
        *actions[free].T,
        color="white",
        edgecolor=figures.BLACK,
        linewidth=0.5,
        angles="xy",
        scale_units="xy",
        scale=1.2 / gap,  # an arrow of full speed is nearly as long as the distance between arrows
        width=0.006,
        pivot="mid",
        zorder=3,
    )


def draw_trajectories(
    axes: Any, trajectories: Sequence[np.ndarray], successes: Sequence[bool] | None
) -> None:
    """Draws trajectories: white, or vermillion and dashed if they did not reach the goal."""
    effects = errors.require("matplotlib.patheffects", "plots")
    outline = [effects.Stroke(linewidth=2.6, foreground=figures.BLACK, alpha=0.7), effects.Normal()]
    styles: dict[bool, dict[str, Any]] = {
        True: {"color": "white", "label": "goal reached" if successes is not None else "episode"},
        False: {"color": figures.VERMILLION, "linestyle": (0, (4, 1.5)), "label": "not reached"},
    }
    if successes is None:
        successes = [True] * len(trajectories)
    for trajectory, success in zip(trajectories, successes, strict=True):
        style = styles[bool(success)]
        axes.plot(*trajectory[:, :2].T, linewidth=1.4, path_effects=outline, zorder=4, **style)
        style.pop("label", None)  # one legend entry for each style


def places_in_maze(scene: Maze) -> np.ndarray:
    """The places [K, 2] of `over_maze`, row by row."""
    return _places(scene.walls.shape, scene.extent, _POINTS_PER_CELL)


def over_maze(scene: Maze, function: Callable[[np.ndarray], Any]) -> np.ndarray:
    """A function of observations on a regular grid of 16 x 16 points in each cell, walls included.

    Args:
        scene: the maze.
        function: (observations [N, D]) -> [N].

    Returns:
        [16 rows, 16 columns].
    """
    values = np.asarray(function(observations(places_in_maze(scene), scene.initial)), np.float64)
    return values.reshape(size_in_points(scene))


def size_in_points(scene: Maze) -> tuple[int, int]:
    """The numbers of rows and columns of `over_maze`."""
    rows, columns = scene.walls.shape
    return rows * _POINTS_PER_CELL, columns * _POINTS_PER_CELL


def _places(cells: tuple[int, ...], extent: tuple, points: int) -> np.ndarray:
    """Places [N, 2], row by row: the centres of `points` x `points` squares in each of the cells."""
    left, right, bottom, top = extent
    x = left + (right - left) * (np.arange(cells[1] * points) + 0.5) / (cells[1] * points)
    y = bottom + (top - bottom) * (np.arange(cells[0] * points) + 0.5) / (cells[0] * points)
    return np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)


def observations(places: np.ndarray, initial: np.ndarray) -> np.ndarray:
    """Observations [N, D] at places [N, 2] of a maze; all other numbers are those of the initial one [D]."""
    rest = np.broadcast_to(initial[2:], (len(places), len(initial) - 2))
    return np.concatenate([places, rest], axis=1).astype(np.float32)


def _importance(name: str, has_level: bool) -> tuple[int, bool, bool, bool, bool, str]:
    """A key that sorts metrics: scores, other evaluations, those with levels, losses, values, others."""
    scores = [metrics.EVALUATED + score for score in metrics.SCORES]
    place = scores.index(name) if name in scores else len(scores)
    evaluated = name.startswith(metrics.EVALUATED)
    return place, not evaluated, not has_level, "loss" not in name, "value" not in name, name
