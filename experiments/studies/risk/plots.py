"""The figure of `compare_risk`."""

import pathlib
from typing import Any

import numpy as np

from experiments.studies.risk.methods import GREEDY, LEVEL_CLAIMED, LEVEL_REACHED, MEAN, STOCK
from valuelab.evaluation import figures

_LINES: dict[str, dict[str, Any]] = {
    STOCK: {"color": figures.BLACK, "linewidth": 4, "alpha": 0.35},
    LEVEL_CLAIMED: {"color": figures.VERMILLION, "linestyle": "--"},
    LEVEL_REACHED: {"color": figures.VERMILLION},
    GREEDY: {"color": figures.BLUE, "linestyle": "-."},
    MEAN: {"color": figures.GREEN, "linestyle": ":"},
}
_MARKS: dict[str, dict[str, Any]] = {
    "D-eta-N": {"color": figures.BLACK, "marker": "o"},
    "D-eta-N, offline": {"color": figures.ORANGE, "marker": "s"},
    GREEDY: {"color": figures.BLUE, "marker": "^"},
    "QR-DQN": {"color": figures.GREEN, "marker": "v"},
}


def draw(result: dict[str, Any], path: pathlib.Path | None = None) -> Any:
    """Draws the counter-example, random MDPs, the gridworld and the dial.

    Args:
        result: the content of compare_risk.json.
        path: file for the figure; none if None.

    Returns:
        The figure.

    Raises:
        MissingExtraError: without matplotlib.
    """
    figure = figures.new(13, 9)
    panels = figure.subplots(2, 2)
    for panel in panels.ravel():
        figures.plain(panel)
    _plot_counterexample(panels[0, 0], **result["counterexample"])
    _plot_random(panels[0, 1], **result["random"])
    _plot_gridworld(panels[1, 0], result["networks"], **result["gridworld"])
    _plot_dial(panels[1, 1], **result["dial"])
    return figures.saved(figure, path)


def _plot_counterexample(panel: Any, taus: list[float], cvar: dict[str, list[float]]) -> None:
    for name, values in cvar.items():
        panel.plot(taus, values, label=name, **_LINES[name])
    panel.set(
        title="Counter-example: CVaR that levels claim and reach",
        xlabel="level τ",
        ylabel="CVaR of the return",
    )
    panel.legend(frameon=False, loc="lower right")


def _plot_random(panel: Any, tau: float, cvar: dict[str, list[float]]) -> None:
    for name, values in cvar.items():
        if name != STOCK:
            apart = np.sort(np.abs(np.subtract(values, cvar[STOCK])))[::-1]
            share = np.arange(1, len(apart) + 1) / len(apart)
            panel.plot(apart, share, drawstyle="steps-post", label=name, **_LINES[name])
    panel.set(
        title=f"{len(cvar[STOCK])} random MDPs, τ = {tau:g}",
        xlabel="distance x of CVaR from the optimum (claims lie above, policies below)",
        ylabel="share of MDPs with distance at least x",
        ylim=(0, 0.4),
    )
    panel.legend(frameon=False, loc="upper right")


def _plot_gridworld(
    panel: Any, networks: dict[str, list[dict[str, Any]]], taus: list[float], cvar: dict[str, list[float]]
) -> None:
    places = np.arange(len(taus))
    for name, values in cvar.items():
        panel.plot(places, np.subtract(cvar[STOCK], values), **_LINES[name])
    for number, (name, row) in enumerate(networks.items()):
        loss, *ends = (
            np.subtract(cvar[STOCK], [each[key] for each in row]) for key in ("mean", "ci_high", "ci_low")
        )
        panel.errorbar(
            places + 0.12 * (number - 1.5),
            loss,
            np.abs(np.array(ends) - loss),
            linestyle="",
            capsize=3,
            markersize=5,
            label=name,
            **_MARKS[name],
        )
    panel.set_yscale("symlog", linthresh=0.1)
    panel.set(
        title="Gridworld risk_averse: networks (95 % intervals) and exact methods (lines as above)",
        xlabel="level τ",
        ylabel="optimal CVaR - CVaR reached",
        xticks=places,
        xticklabels=[f"{tau:g}" for tau in taus],
    )
    panel.legend(frameon=False, loc="upper right")


def _plot_dial(
    panel: Any, tau: float, mean_cvar: list[dict[str, float]], spectral: list[dict[str, float]]
) -> None:
    for measure, name, color in (
        ("mean", "mean", figures.GREEN),
        ("cvar", f"CVaR, τ = {tau:g}", figures.VERMILLION),
    ):
        panel.plot(
            [row["weight"] for row in mean_cvar],
            [row[measure] for row in mean_cvar],
            color=color,
            drawstyle="steps-mid",
            label=f"{name}: mean-CVaR, one stock",
        )
        panel.plot(
            [row["weight"] for row in spectral],
            [row[measure] for row in spectral],
            color=color,
            linestyle="",
            marker="x",
            markersize=8,
            label=f"{name}: spectral, a stock for each level",
        )
    panel.set(
        title="Gridworld risk_averse: from CVaR to the mean",
        xlabel="weight of the mean",
        ylabel="return",
    )
    panel.legend(frameon=False, fontsize="small", loc="lower left")
