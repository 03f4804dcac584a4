"""Critics in the grid maze side by side: training them, their table, and their figure."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import rich.table

from experiments.studies.flow_claims import grid_maze, pictures
from experiments.studies.flow_claims.claims import ClaimConfig
from experiments.studies.flow_claims.grid_maze import MazeVariant
from valuelab.benchmark import processes
from valuelab.evaluation import figures, statistics
from valuelab.runs import outputs

CONFIG = ClaimConfig(log_steps=50_000, steps=3_000, num_seeds=5, evaluations=10)
"""The amount of training of comparisons in the maze."""


class Contender(NamedTuple):
    """A critic to compare.

    Attributes:
        agent: its agent file.
        changes: settings that differ from `grid_maze.SETTINGS`, without the prefix "agent.critic.".
    """

    agent: str = "floq"
    changes: Mapping[str, Any] = {}


def train(config: ClaimConfig, contenders: Mapping[str, Contender]) -> dict[str, MazeVariant]:
    """Trains all critics on the same data, or finishes their training; equal ones are trained once."""
    maze = grid_maze.make(config)
    return {
        name: grid_maze.train(
            config,
            maze,
            folder_name(contender),
            contender.agent,
            {f"agent.critic.{key}": value for key, value in contender.changes.items()},
        )
        for name, contender in contenders.items()
    }


def folder_name(contender: Contender) -> str:
    """The name of the folder of a critic: its agent and its changes."""
    changes = (f"{key}={value}" for key, value in contender.changes.items())
    return ",".join([contender.agent, *changes])


def summarize(variants: Mapping[str, MazeVariant], reference: str) -> dict[str, dict[str, Any]]:
    """The measurements of each critic, ready for JSON.

    Args:
        variants: critics by name.
        reference: name of the critic with which the others are compared.

    Returns:
        Name -> updates: of the evaluations. error, score, blind_ratio: the mean over seeds at each
        evaluation, and its interval over seeds at the end and of the average over all evaluations.
        beyond_reference: differences of error and score, averaged over training, from the reference.
        updates_per_second: of all seeds.
    """

    def measure(values: Mapping[int, np.ndarray]) -> dict[str, Any]:
        by_seed = _by_seed(values)
        return {
            "curve": by_seed.mean(0).tolist(),
            "final": statistics.mean_interval(by_seed[:, -1:]),
            "average": statistics.mean_interval(by_seed.mean(1, keepdims=True)),
        }

    def measure_all(variant: MazeVariant) -> dict[str, Any]:
        measured = {"error": measure(variant.errors), "score": measure(variant.trained.scores)}
        if variant.blind_ratios:
            measured["blind_ratio"] = measure(variant.blind_ratios)
        result = processes.read_result(variant.trained.folder) or {}
        base = variants[reference]
        return {
            "updates": list(variant.errors),
            **measured,
            "beyond_reference": {
                "error": _difference(variant.errors, base.errors),
                "score": _difference(variant.trained.scores, base.trained.scores),
            },
            "updates_per_second": result["throughput"]["updates_per_second"],
        }

    return {name: measure_all(variant) for name, variant in variants.items()}


def difference(first: MazeVariant, second: MazeVariant) -> dict[str, Any]:
    """The difference of the errors of two critics, averaged over training, with its interval over seeds."""
    return _difference(first.errors, second.errors)


def _by_seed(values: Mapping[int, np.ndarray]) -> np.ndarray:
    """Measurements at each evaluation, [M, evaluations]."""
    return np.stack(list(values.values()), axis=1)


def _difference(first: Mapping[int, np.ndarray], second: Mapping[int, np.ndarray]) -> dict[str, Any]:
    return statistics.difference(_by_seed(first).mean(1), _by_seed(second).mean(1))


def table(summaries: Mapping[str, Mapping[str, Any]]) -> list[list[str]]:
    """The rows of the table of all critics, the header first."""
    header = ["critic", "error at the end", "error, mean", "score at the end", "score, mean", "blind ratio"]
    rows = [header]
    for name, summary in summaries.items():
        cells = [
            statistics.interval_text(summary[measure][part], ".2f")
            for measure in ("error", "score")
            for part in ("final", "average")
        ]
        ratio = summary.get("blind_ratio")
        rows.append([name, *cells, f"{ratio['final']['mean']:.2f}" if ratio else ""])
    return rows


def markdown(summaries: Mapping[str, Mapping[str, Any]]) -> str:
    """The table of all critics as Markdown."""
    header, *rows = table(summaries)
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def show(summaries: Mapping[str, Mapping[str, Any]]) -> None:
    """Prints the table of all critics."""
    header, *rows = table(summaries)
    printed = rich.table.Table(*header)
    for row in rows:
        printed.add_row(*row)
    outputs.show(printed)


def draw_curves(
    summaries: Mapping[str, Mapping[str, Any]], panels: Mapping[str, Sequence[str]], title: str
) -> Any:
    """A figure with a column of panels for each group of critics: error, score and blind ratio over updates.

    Args:
        summaries: by name.
        panels: title of a column -> names of the critics in it.
        title: of the figure.
    """
    labels = {"error": "RMSE of Q to Q*", "score": "score of the greedy policy", "blind_ratio": "blind ratio"}
    figure, axes = pictures.grid(len(labels), len(panels), title)
    for column, (heading, names) in zip(axes.T, panels.items(), strict=True):
        column[0].set_title(heading)
        for axis, (measure, label) in zip(column, labels.items(), strict=True):
            for name, colour in zip(names, pictures.COLOURS, strict=False):
                if measure in summaries[name]:
                    curve = summaries[name][measure]["curve"]
                    axis.plot(summaries[name]["updates"], curve, color=colour, label=name)
            axis.set(ylabel=label)
        column[-1].axhline(1, color=figures.BLACK, lw=0.8, ls=":")
        column[-1].set_xlabel("updates")
        column[0].legend(fontsize="x-small", loc="upper right")
    return figure
