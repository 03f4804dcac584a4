"""Pictures: a run's curves, and value functions, policies and trajectories in OGBench's mazes."""

import itertools
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from valuelab import errors, types
from valuelab.evaluation import figures, statistics

_LIGHT = {"alpha": 0.35, "linewidth": 1.0, "zorder": 1.5}  # under all means
_BOLD = {"linewidth": 2.2}
_COLOURS = (figures.BLUE, figures.VERMILLION, figures.GREEN, figures.PURPLE, figures.ORANGE, figures.SKY)
_DASHES = ((0, (6, 2)), (0, (3, 3)), (0, (1, 3)), (0, (6, 3, 1, 3)), (0, (1, 6)))
"""Of settings after the first, whose line is whole: each has gaps where those that it lies on are seen."""
_FEW = 2
"""Points of a curve that needs markers to be seen."""
_POINTS_PER_CELL = 16
_MOST_PANELS = 9


def curves(
    rows: Sequence[Mapping[str, float]],
    *,
    member_fields: Sequence[str] = ("seed",),
    path: str | os.PathLike[str] | None = None,
) -> Any:
    """The curves of a run: evaluation scores first, then losses, then what else was measured.

    Each member is a light line, the mean over the seeds of a setting a bold one in the setting's colour and
    dashes; settings whose means coincide show through the gaps of each other. Around the mean of an
    evaluation score stands its 95 % bootstrap interval over these seeds.

    Args:
        rows: lines of metrics.jsonl: {"step": int, "seed": int where there are several, name: number, ...};
            names of scores start with "eval/". Of two rows of one step and member the later counts.
        member_fields: which fields tell members apart; those other than "seed" tell settings apart.
        path: where to save the picture; its suffix decides the format.

    Returns:
        The matplotlib Figure.

    Raises:
        InputError: when there is nothing to draw.
    """
    series = _series(rows, member_fields)
    names = sorted(series, key=_importance)[:_MOST_PANELS]
    if not names:
        raise errors.InputError("metrics hold no number to draw besides the step: train for longer")
    columns = min(3, len(names))
    height = -(-len(names) // columns)
    figure = figures.new(4.2 * columns, 2.9 * height)
    panels = figure.subplots(height, columns, squeeze=False).ravel()
    settings = list(dict.fromkeys(setting for name in names for setting in series[name]))
    colours, dashes = _colours(len(settings)), itertools.chain(["solid"], itertools.cycle(_DASHES))
    styles = {setting: _Style(*style) for setting, *style in zip(settings, colours, dashes, strict=False)}
    for panel, name in zip(panels, names, strict=False):
        for setting, members in series[name].items():
            _draw_curve(panel, name, members, styles[setting])
    for panel in panels[len(names) :]:
        panel.remove()
    if len(settings) > 1:
        lines = errors.require("matplotlib.lines", "plots")
        handles = [lines.Line2D([], [], label=setting, **styles[setting].bold) for setting in settings]
        figures.legend_below(figure, handles)
    return figures.saved(figure, path)


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
    """A maze of OGBench from above, with what was learnt about it and what happened in it.

    The first two numbers of an observation are the place; where there are more (an ant's joints), those of
    the task's initial state are used everywhere.

    Args:
        environment: an OGBench maze.
        task: one of its tasks, whose start and goal are marked; the first if None.
        value: (observations [N, D]) -> [N]; drawn as a heat map over the free cells, left out where NaN.
        policy: (observations [N, D]) -> [N, 2], velocities; drawn as arrows.
        trajectories: observations [length, D] each, drawn as lines.
        successes: whether each trajectory reached the goal.
        title: over the picture.
        value_label: beside the colour bar; say in it what the value is the expectation of.
        path: where to save the picture.

    Returns:
        The matplotlib Figure.

    Raises:
        InputError: when the environment is no maze, or the policy's actions are no velocities.
    """
    scene = open_maze(environment, task)
    rows, columns = scene.walls.shape
    figure = figures.new(0.9 + 0.62 * columns + 1.2 * (value is not None), 1.2 + 0.62 * rows)
    axes = figure.subplots()
    draw_maze(axes, scene, value, policy, value_label)
    axes.set_title(title)
    _draw_trajectories(axes, trajectories, successes)
    figures.legend_below(figure, axes.get_legend_handles_labels()[0])
    return figures.saved(figure, path)


class Maze(NamedTuple):
    """A maze of OGBench as it lies there for a task.

    Attributes:
        walls: [rows, columns] bool.
        extent: left, right, bottom and top, metres.
        unit: width of a cell, metres.
        initial: [D], an observation at the start.
        goal: [2], metres; None where no task is meant, so that neither start nor goal is drawn.
    """

    walls: np.ndarray
    extent: tuple[float, float, float, float]
    unit: float
    initial: np.ndarray
    goal: np.ndarray | None


def is_maze(environment: types.Environment) -> bool:
    """Whether an environment is a maze of OGBench, seen as numbers: only such can be drawn."""
    if "maze" not in environment.name:  # others take seconds to make
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
        task: one of its tasks; the first if None.

    Raises:
        InputError: when the environment is no maze, or has no such task.
    """
    gym = environment.make()
    scene = gym.unwrapped
    task = next(iter(environment.tasks)) if task is None else task
    if task not in environment.tasks:
        raise errors.unknown(f"task of {environment.name}", task, environment.tasks)
    initial, _ = gym.reset(seed=0, options=environment.tasks[task])
    if not hasattr(scene, "maze_map") or np.ndim(initial) != 1:
        raise errors.InputError(f"{environment.name} is no maze seen as numbers: only such can be drawn")
    walls, unit = scene.maze_map == 1, float(scene._maze_unit)
    left, bottom = np.array(scene.ij_to_xy((0, 0))) - unit / 2
    extent = (left, left + unit * walls.shape[1], bottom, bottom + unit * walls.shape[0])
    goal = np.array(scene.cur_goal_xy)
    gym.close()
    return Maze(walls, extent, unit, np.asarray(initial), goal)


def draw_maze(
    axes: Any,
    scene: Maze,
    value: Callable[[np.ndarray], Any] | None = None,
    policy: Callable[[np.ndarray], Any] | None = None,
    value_label: str = "",
) -> None:
    """Draws a maze, with its start and goal where it has one, into axes.

    Args:
        axes: matplotlib's.
        scene: the maze.
        value: as for `maze`.
        policy: likewise.
        value_label: beside the colour bar.
    """
    colors = errors.require("matplotlib.colors", "plots")
    walls, extent = scene.walls, scene.extent
    axes.set(facecolor=figures.FREE, aspect="equal", xlabel="x (m)", ylabel="y (m)")
    placed = {"origin": "lower", "extent": extent}
    if value is not None:
        heat = _over_maze(walls, extent, _POINTS_PER_CELL, scene.initial, value)
        free = heat[~walls.repeat(_POINTS_PER_CELL, 0).repeat(_POINTS_PER_CELL, 1)]
        image = axes.imshow(heat, cmap="viridis", vmin=np.nanmin(free), vmax=np.nanmax(free), **placed)
        axes.figure.colorbar(image, ax=axes, label=value_label, shrink=0.85, pad=0.02)
    axes.imshow(
        np.ma.masked_where(~walls, walls), cmap=colors.ListedColormap([figures.WALL]), zorder=2, **placed
    )
    if policy is not None:
        _draw_arrows(axes, walls, extent, scene.initial, policy)
    if scene.goal is not None:
        marks = {"edgecolors": figures.BLACK, "linewidths": 1.2, "zorder": 5}
        axes.scatter(*scene.initial[:2], s=110, c="white", marker="o", label="start", **marks)
        axes.scatter(*scene.goal, s=260, c=figures.PURPLE, marker="*", label="goal", **marks)
    # Half of the outer wall is enough.
    edge = (scene.unit / 2, -scene.unit / 2)
    axes.set(xlim=np.add(extent[:2], edge), ylim=np.add(extent[2:], edge))


def in_words(settings: Mapping[str, Any]) -> str:
    """What a member was trained with, for pictures: its fields, without the common "agent."."""
    return ", ".join(f"{name.removeprefix('agent.')}={value}" for name, value in settings.items())


class _Style(NamedTuple):
    """How a setting is drawn."""

    colour: Any
    dashes: Any

    @property
    def bold(self) -> dict[str, Any]:
        """Of its mean."""
        return {"color": self.colour, "linestyle": self.dashes, **_BOLD}


def _colours(count: int) -> list[Any]:
    """Colours that can be told apart; of many settings, whose order then matters, from dark to light."""
    if count <= len(_COLOURS):
        return list(_COLOURS[:count])
    return list(errors.require("matplotlib", "plots").colormaps["viridis"](np.linspace(0.0, 0.95, count)))


def _draw_curve(panel: Any, name: str, members: Sequence[Mapping[float, float]], style: _Style) -> None:
    """One metric of all members of a setting against updates."""
    for points in members:
        weight = {"color": style.colour, **_LIGHT} if len(members) > 1 else style.bold
        panel.plot(*zip(*sorted(points.items()), strict=True), **weight, **_marked(len(points)))
    if len(members) > 1:
        # Where a member lacks a step (a run that is still going on), the mean waits for it.
        steps = sorted(set.intersection(*(set(points) for points in members)))
        scores = np.array([[points[step] for step in steps] for points in members])
        panel.plot(steps, scores.mean(0), **style.bold, **_marked(len(steps)))
        if name.startswith("eval/"):
            intervals = [statistics.mean_interval(column[:, None]) for column in scores.T]
            ends = [[interval[end] for interval in intervals] for end in ("ci_low", "ci_high")]
            panel.fill_between(steps, *ends, alpha=0.18, linewidth=0, color=style.colour)
    panel.set_title(name, fontsize=10)
    panel.set_xlabel("updates")
    figures.plain(panel)
    if name == "eval/success":
        panel.set_ylim(-0.03, 1.03)


def _marked(points: int) -> dict[str, Any]:
    """A curve of so few points that no line shows it gets markers."""
    return {"marker": "o", "markersize": 5} if points <= _FEW else {}


def _draw_arrows(axes: Any, walls: np.ndarray, extent: tuple, initial: np.ndarray, policy: Callable) -> None:
    """A policy's velocities on a coarse grid over the free cells."""
    places = _places(walls.shape, extent, 3)
    actions = np.asarray(policy(_observations(places, initial)))
    if actions.shape[1:] != (2,):
        raise errors.InputError(
            f"policy returns actions of shape {actions.shape[1:]}: arrows need pointmaze's two velocities"
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
        scale=1.2 / gap,  # full speed is nearly as long as the arrows are apart
        width=0.006,
        pivot="mid",
        zorder=3,
    )


def _draw_trajectories(axes: Any, trajectories: Sequence[np.ndarray], successes: Sequence[bool]) -> None:
    """Ways through the maze: white where the goal was reached, vermillion and dashed where not."""
    effects = errors.require("matplotlib.patheffects", "plots")
    outline = [effects.Stroke(linewidth=2.6, foreground=figures.BLACK, alpha=0.7), effects.Normal()]
    styles: dict[bool, dict[str, Any]] = {
        True: {"color": "white", "label": "goal reached"},
        False: {"color": figures.VERMILLION, "linestyle": (0, (4, 1.5)), "label": "not reached"},
    }
    for trajectory, success in zip(trajectories, successes, strict=True):
        style = styles[bool(success)]
        axes.plot(*trajectory[:, :2].T, linewidth=1.4, path_effects=outline, zorder=4, **style)
        style.pop("label", None)  # once in the legend is enough


def _over_maze(
    walls: np.ndarray, extent: tuple, points: int, initial: np.ndarray, function: Callable
) -> np.ndarray:
    """A function's values [rows * points, columns * points] on a regular grid, walls included."""
    places = _places(walls.shape, extent, points)
    values = np.asarray(function(_observations(places, initial)), np.float64)
    return values.reshape(walls.shape[0] * points, walls.shape[1] * points)


def _places(cells: tuple[int, ...], extent: tuple, points: int) -> np.ndarray:
    """Places [N, 2], row by row: the centres of `points` x `points` squares in each of the cells."""
    left, right, bottom, top = extent
    x = left + (right - left) * (np.arange(cells[1] * points) + 0.5) / (cells[1] * points)
    y = bottom + (top - bottom) * (np.arange(cells[0] * points) + 0.5) / (cells[0] * points)
    return np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)


def _observations(places: np.ndarray, initial: np.ndarray) -> np.ndarray:
    """Observations [N, D] at places [N, 2], in all else as at the start."""
    rest = np.broadcast_to(initial[2:], (len(places), len(initial) - 2))
    return np.concatenate([places, rest], axis=1).astype(np.float32)


def _series(
    rows: Sequence[Mapping[str, float]], member_fields: Sequence[str]
) -> dict[str, dict[str, list[dict[float, float]]]]:
    """Numbers by metric, setting in words, member and step."""
    series: dict[str, dict[str, dict[Any, dict[float, float]]]] = {}
    for row in rows:
        setting = in_words({field: row.get(field) for field in member_fields if field != "seed"})
        for name in row.keys() - {"step", "seed", *member_fields}:
            if isinstance(row[name], int | float):
                members = series.setdefault(name, {}).setdefault(setting, {})
                members.setdefault(row.get("seed"), {})[row["step"]] = row[name]
    return {
        name: {setting: list(members.values()) for setting, members in settings.items()}
        for name, settings in series.items()
    }


def _importance(name: str) -> tuple[bool, bool, bool, bool, str]:
    """Sorts metrics: scores, then what else evaluation tells, then losses, then values, then the rest."""
    score = name.removeprefix("eval/") in ("success", "return", "normalized_score")
    return not score, not name.startswith("eval/"), "loss" not in name, "value" not in name, name
