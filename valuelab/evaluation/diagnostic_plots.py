"""Plots of the diagnostics of a critic; see `evaluation.diagnostics`."""

import functools
import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from valuelab.evaluation import figures, metrics
from valuelab.evaluation.diagnostics import READ_OUTS, Rows

_COLOURS = (figures.BLUE, figures.VERMILLION, figures.GREEN, figures.ORANGE, figures.PURPLE, figures.SKY)
_LABELS = {
    "effective_rank": "effective rank (dimensions)",
    "dormant_fraction": "share of dormant units",
    "feature_norm": "mean length of the features",
}
"""Name of a number of a layer -> its words."""
_COLUMNS = 3  # puts the norms, whose labels are long, into the first column
_MOST_PARTS = 14


def diagnosis(
    found: Sequence[dict[str, Any]],
    q: np.ndarray,
    rows: Rows,
    correlations: np.ndarray | None = None,
    *,
    title: str = "",
    path: str | os.PathLike[str] | None = None,
) -> Any:
    """All diagnostics in one figure: dots and lines are means over M seeds, bars and bands their range.

    Args:
        found: reports of the checkpoints of a run, oldest first, each with "step"; numbers are arrays with
            leading axis M.
        q: [M, B], values of the last checkpoint.
        rows: the rows of the diagnosis, arrays [M, B, ...].
        correlations: [M, K], the value-order correlations of trajectories; None for no panel.
        title: the title of the plot.
        path: where to save the plot.

    Returns:
        The matplotlib Figure.
    """
    last = found[-1]
    draws = [functools.partial(_draw_values, q=q, rows=rows)]
    draw_norms = functools.partial(_draw_norms, last=last)
    if "layers" in last:
        over_updates = functools.partial(_draw_updates, found=found)

        def draw_layers(name: str) -> Any:
            lines = {layer: [entry["layers"][layer][name] for entry in found] for layer in last["layers"]}
            return functools.partial(over_updates, lines=lines, title="hidden layers", label=_LABELS[name])

        names = ("feature_drift", "refit_error", "later_refit_error")
        changes = {name: [entry[name] for entry in found] for name in names}
        draws += [draw_layers("effective_rank"), draw_layers("dormant_fraction")]
        draws += [draw_norms, draw_layers("feature_norm")]
        label = "drift and errors (0: none)"
        draws += [functools.partial(over_updates, lines=changes, title="features", label=label)]
    else:
        draws.append(draw_norms)
    if "flow" in last:
        flow = last["flow"]
        draws += [
            functools.partial(_draw_recovery, curves=flow["recovery"]),
            functools.partial(_draw_read_outs, read_out=flow["read_out"]),
            functools.partial(_draw_slopes, slope=flow["slope"]),
        ]
    if correlations is not None:
        draws.append(functools.partial(_draw_order, correlations=correlations))
    return _in_panels(draws, title, len(q), path)


def orders(
    found: Sequence[dict[str, Any]],
    correlations: np.ndarray,
    *,
    title: str = "",
    path: str | os.PathLike[str] | None = None,
) -> Any:
    """The order of values alone: of each trajectory, and over updates; the rest as in `diagnosis`."""
    lines = {name: [entry["order"][name] for entry in found] for name in ("mean", "pooled")}
    draws = [
        functools.partial(_draw_order, correlations=correlations),
        functools.partial(
            _draw_updates,
            found=found,
            lines=lines,
            title="order of values over updates",
            label="rank correlation of values with time",
        ),
    ]
    return _in_panels(draws, title, len(correlations), path)


def _in_panels(
    draws: Sequence[Callable[[Any], None]], title: str, seeds: int, path: str | os.PathLike[str] | None
) -> Any:
    """A figure with a panel for each function that draws one, and the number of seeds in its title."""
    width = min(_COLUMNS, len(draws))
    height = -(-len(draws) // width)
    figure = figures.new(4.0 * width, 3.1 * height + 0.5)
    panels = figure.subplots(height, width, squeeze=False).ravel()
    for panel, draw in zip(panels, draws, strict=False):
        draw(panel)
        figures.plain(panel)
    for panel in panels[len(draws) :]:
        panel.remove()
    if seeds > 1:
        title = f"{title}\nlines and dots: means over {seeds} seeds; bars and bands: their range"
    figure.suptitle(title, fontsize=11)
    return figures.saved(figure, path)


def tasks(
    found: Sequence[dict[str, Any]],
    names: Sequence[str],
    values: np.ndarray,
    returns: np.ndarray,
    known: np.ndarray,
    *,
    title: str = "",
    path: str | os.PathLike[str] | None = None,
) -> Any:
    """The diagnosis of a zero-shot run: values against returns of each task, features and norms.

    Args:
        found: reports of the checkpoints of a run, oldest first, each with "step"; numbers are arrays with
            leading axis M.
        names: [T], of the tasks.
        values: V(s, z) at the last checkpoint, [M, T, B].
        returns: discounted returns of the predicted rewards, [M, T, B].
        known: 1 where the return is known, [M, T, B].
        title: the title of the plot.
        path: where to save the plot.

    Returns:
        The matplotlib Figure.
    """
    draws = [
        functools.partial(
            _draw_scatter,
            values=values[:, index],
            returns=returns[:, index],
            known=known[:, index],
            title=name,
            label="V(s, z)",
        )
        for index, name in enumerate(names)
        if np.any(known[:, index])
    ]
    rank = {"": [entry["features"]["effective_rank"] for entry in found]}
    label = _LABELS["effective_rank"]
    draws.append(functools.partial(_draw_updates, found=found, lines=rank, title="features ψ", label=label))
    if "critic" in found[-1]:
        draws.append(functools.partial(_draw_norms, last=found[-1]["critic"]))
    return _in_panels(draws, title, len(values), path)


def _draw_values(panel: Any, q: np.ndarray, rows: Rows) -> None:
    """Draws Q against known returns; where no return is known, the distribution of Q."""
    if not np.any(rows.known):
        panel.hist(np.asarray(q).ravel(), bins=40, color=figures.BLUE)
        panel.set(
            title="Q (no return in the data is known)", xlabel="Q(s, a)", ylabel="number of pairs (s, a)"
        )
        return
    title = "Q against returns in the data"
    _draw_scatter(panel, q, np.asarray(rows.returns), np.asarray(rows.known), title, "Q(s, a)")


def _draw_scatter(
    panel: Any, values: np.ndarray, returns: np.ndarray, known: np.ndarray, title: str, label: str
) -> None:
    """Draws values against known returns, with the line where they are equal."""
    known, q = np.asarray(known, bool), values
    panel.scatter(returns[known], q[known], s=8, alpha=0.25, linewidths=0, color=figures.BLUE)
    if known.any():
        ends = [min(returns[known].min(), q[known].min()), max(returns[known].max(), q[known].max())]
        line = {"color": figures.WALL, "linewidth": 1.0, "linestyle": (0, (4, 2)), "label": "value = return"}
        panel.plot(ends, ends, **line)
        panel.legend(frameon=False, fontsize=9)
    panel.set(title=title, xlabel="discounted return", ylabel=label)


def _draw_updates(
    panel: Any, found: Sequence[dict[str, Any]], lines: dict[str, Any], title: str, label: str
) -> None:
    """Draws lines over updates; each value is an array over seeds."""
    steps = [entry["step"] for entry in found]
    for colour, (name, values) in zip(_cycle(len(lines)), lines.items(), strict=True):
        members = np.asarray(values)
        mean = members.mean(1)
        spans = np.stack([mean - members.min(1), members.max(1) - mean])
        panel.errorbar(
            steps,
            mean,
            spans,
            marker="o",
            markersize=4,
            capsize=3,
            color=colour,
            label=name.replace("_", " "),
        )
    panel.set(title=title, xlabel=metrics.UPDATES, ylabel=label)
    figures.count_ticks(panel.xaxis)
    if any(lines):
        panel.legend(frameon=False, fontsize=9)


def _draw_norms(panel: Any, last: dict[str, Any]) -> None:
    """Draws the norms of weights, and of gradients if known, of the layers with the largest weights."""
    weights = {name: np.mean(norm) for name, norm in last["weight_norms"].items()}
    names = sorted(weights, key=weights.__getitem__)[-_MOST_PARTS:]
    panel.barh(names, [weights[name] for name in names], color=figures.SKY, label="weights")
    gradients = [np.mean(last["gradient_norms"].get(name, np.nan)) for name in names]
    panel.scatter(gradients, names, s=14, color=figures.VERMILLION, zorder=3, label="mean gradient")
    panel.set_xscale("log")
    panel.tick_params("y", labelsize=8)
    panel.set(title="weights and gradients by layer", xlabel="Euclidean norm")
    panel.legend(frameon=False, fontsize=9, loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2)


def _draw_order(panel: Any, correlations: np.ndarray) -> None:
    """Draws the distribution of value-order correlations [M, K], of all members together."""
    known = correlations[np.isfinite(correlations)]
    panel.hist(known, bins=np.linspace(-1, 1, 41), color=figures.BLUE)
    if known.size:
        line = {"color": figures.VERMILLION, "linestyle": (0, (4, 2)), "label": f"mean {known.mean():.2f}"}
        panel.axvline(known.mean(), **line)
        panel.legend(frameon=False, fontsize=9)
    panel.set(
        title="order of values",
        xlabel="rank correlation of values with time",
        ylabel="number of trajectories",
    )
    panel.set_xticks(np.linspace(-1, 1, 5))


def _draw_recovery(panel: Any, curves: np.ndarray) -> None:
    curves = np.asarray(curves)
    _draw_shaded(panel, np.arange(curves.shape[1]), curves, figures.BLUE, "")
    panel.axhline(1, color=figures.WALL, linewidth=1.0, linestyle=(0, (4, 2)))
    panel.set(title="recovery", xlabel="offset added before step", ylabel="share of the offset left")
    panel.set_ylim(bottom=0)


def _draw_read_outs(panel: Any, read_out: dict[str, np.ndarray]) -> None:
    _draw_shaded(
        panel, READ_OUTS, np.asarray(read_out["change"]), figures.BLUE, f"to Q of {READ_OUTS[-1]} steps"
    )
    if np.isfinite(read_out["rmse"]).all():
        _draw_shaded(panel, READ_OUTS, np.asarray(read_out["rmse"]), figures.VERMILLION, "to returns")
    panel.set_xscale("log", base=2)
    panel.set(title="read-out", xlabel="steps of integration", ylabel="root mean square difference of Q")
    panel.legend(frameon=False, fontsize=9)


def _draw_slopes(panel: Any, slope: dict[str, np.ndarray]) -> None:
    times, rate = np.asarray(slope["times"])[0], np.mean(slope["conic_rate"])
    _draw_shaded(panel, times, np.asarray(slope["mean"]), figures.BLUE, "mean")
    cone = {"color": figures.VERMILLION, "linestyle": (0, (4, 2)), "label": f"−c / (1 − t), c = {rate:.2f}"}
    panel.plot(times, -rate / (1 - times), **cone)
    panel.set(title="slope of the velocity in z", xlabel="flow time t", ylabel="slope ∂v/∂z")
    panel.legend(frameon=False, fontsize=9)


def _draw_shaded(panel: Any, x: Any, members: np.ndarray, colour: str, label: str) -> None:
    """Draws the mean over seeds with their range as a shaded band."""
    panel.plot(x, members.mean(0), marker=".", color=colour, label=label)
    panel.fill_between(x, members.min(0), members.max(0), color=colour, alpha=0.2, linewidth=0)


def _cycle(count: int) -> list[str]:
    return [_COLOURS[index % len(_COLOURS)] for index in range(count)]
