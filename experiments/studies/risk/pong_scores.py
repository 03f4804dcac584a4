r"""Does one network reach every final score of Pong that it is asked for?

    python -m experiments.train --agent=eta_network:pong_first_to_3 --num_seeds=3 --workdir=runs/pong
    python -m experiments.train --agent=eta_network:pong_first_to_3 --steps=20000 --workdir=runs/pong_mean \
      --agent.objective=expectation --agent.augmented=false --agent.stock_edits=1
    python -m experiments.studies.risk.pong_scores --run=runs/pong --maximiser=runs/pong_mean \
      --workdir=OUT

plays games under each command of a finished run, or of several (--run=A,B), and compares their scores with
those of random actions, of a paddle that always moves up, of a paddle that follows the ball, which never
loses a point, and, with --maximiser, of networks that maximise the mean score. A policy that follows the ball
to win a point and steps aside to lose it can reach every score exactly.

OUT gets result.json and scores.png. The same command continues after an interruption.

Measured (benchmarks/eta_network_pong_first_to_3.json): with three seeds the mean distance from the score
asked for is 0.11 points. A policy that ignores the command misses by at least 2 points on average.
"""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import rich.table

import valuelab as vl
from valuelab import configuration
from valuelab.configuration import Settings, setting
from valuelab.environments import pong
from valuelab.errors import InputError
from valuelab.evaluation import figures, statistics
from valuelab.files import local_path
from valuelab.runs import flags, outputs

_LINES: dict[str, dict[str, Any]] = {
    "random actions": {"color": figures.WALL, "linestyle": ":"},
    "always up": {"color": figures.VERMILLION, "linestyle": "-."},
    "follows the ball": {"color": figures.GREEN, "linestyle": "--"},
    "maximises the mean": {"color": figures.PURPLE, "linestyle": (0, (3, 1, 1, 1))},
}
"""The style of each reference."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScoresConfig(Settings):
    """The settings of a comparison."""

    run: tuple[str, ...] = setting(
        (),
        help="Workdir of a finished run of D-eta-N in Pong whose commands are targets; or workdirs A,B of "
        "several runs with the same commands and other seeds.",
    )
    maximiser: str = setting(
        "", help="Workdir of a finished run in the same game that maximises the mean score; empty for none."
    )
    episodes: int = setting(100, "[1, inf)", "Number of games of each member under each command.")
    workdir: str = setting("", help="Folder for all files of the comparison.", compare=False)
    plots: bool = setting(True, help="Draw pictures.", compare=False)


def run(config: ScoresConfig) -> dict[str, Any]:
    """Plays the games of a comparison.

    Args:
        config: the settings.

    Returns:
        The content of result.json.

    Raises:
        InputError: for settings, a run or a folder that cannot be used.
    """
    if not config.run:
        raise InputError("run is missing: give --run=WORKDIR of a run of experiments.train in Pong")
    with outputs.prepare_folder(config) as workdir:
        if done := outputs.finished(workdir, "compare"):
            return done
        folders = configuration.split_names("run", config.run)
        trained = [vl.load(local_path("run", folder)) for folder in folders]
        for folder, each in zip(folders, trained, strict=True):
            check(folder, each, trained[0])
        name = trained[0].config.environment
        maximiser = vl.load(local_path("maximiser", config.maximiser)) if config.maximiser else None
        if maximiser and maximiser.config.environment != name:
            raise InputError(
                f"maximiser is {config.maximiser}, a run in {maximiser.config.environment}: give a run in "
                f"{name}"
            )
        facts = outputs.provenance()
        outputs.write_config(workdir, {"settings": configuration.to_json(config)} | facts)
        result = {
            "environment": name,
            "episodes": config.episodes,
            "commands": commands(trained, config.episodes),
            "references": references(name, maximiser, config.episodes),
            "training": [training_facts(each) for each in trained],
            "training_of_maximiser": training_facts(maximiser) if maximiser else None,
        } | facts
        path = workdir / "scores.png"
        outputs.finish(workdir, result, {path.name: lambda: draw(result, path)} if config.plots else {})
        show(result)
        return result


def check(folder: str, trained: vl.TrainedRun, first: vl.TrainedRun) -> None:
    """Refuses a run without targets in Pong, or in another game or with other commands than the first run."""
    name, objective = trained.config.environment, getattr(trained.config.agent, "objective", "none")
    if not name.startswith("pong/") or objective != "target":
        raise InputError(
            f"run is {folder}, a run in {name or trained.config.dataset} with agent.objective={objective}: "
            "give a run in pong/NAME with agent.objective=target"
        )
    theirs, ours = ((each.config.environment, each.config.agent.commands) for each in (trained, first))
    if theirs != ours:
        raise InputError(
            f"run is {folder} with environment and commands {theirs}, but the first run has {ours}: give "
            "runs that differ in their seeds"
        )


def commands(trained: Sequence[vl.TrainedRun], episodes: int) -> dict[str, Any]:
    """The scores under each command, ready for JSON.

    Args:
        trained: runs with M members in total.
        episodes: E, of each member under each command.

    Returns:
        Command -> its target, and with intervals over seeds the final score, its distance from the target and
        the share of games that end with exactly the target.
    """
    memory = trained[0].agent(0).memory
    assert memory is not None
    returns = np.concatenate([each.evaluate(episodes=episodes).returns for each in trained])
    results = {}
    for index, (name, command) in enumerate(memory.commands.items()):
        target, scores = float(command[0]), returns[:, index]
        results[name] = {
            "target": target,
            "score": statistics.mean_interval(scores),
            "distance": statistics.mean_interval(np.abs(scores - target)),
            "exact": statistics.mean_interval((scores == target).astype(float)),
        }
    return results


def references(name: str, maximiser: vl.TrainedRun | None, episodes: int) -> dict[str, Any]:
    """The mean final score of each reference, with intervals.

    Args:
        name: the environment.
        maximiser: a run that maximises the mean score; None for none.
        episodes: number of games of each.
    """
    rng = np.random.default_rng(0)
    scripts = {
        "random actions": lambda observation: rng.integers(3),
        "always up": lambda observation: pong.UP,
        "follows the ball": pong.follow,
    }
    returns = {key: vl.evaluate(script, name, episodes=episodes).returns for key, script in scripts.items()}
    if maximiser:
        returns["maximises the mean"] = maximiser.evaluate(episodes=episodes).returns
    return {key: statistics.mean_interval(scores[:, 0]) for key, scores in returns.items()}


def training_facts(trained: vl.TrainedRun) -> dict[str, Any]:
    """The size of a run, ready for JSON."""
    return {
        "num_seeds": trained.members.size,
        "updates": trained.step,
        "environment_steps": trained.rows[-1]["environment_steps"],
        "throughput": (trained.result or {}).get("throughput"),
    }


def draw(result: Mapping[str, Any], path: pathlib.Path | None = None) -> Any:
    """Draws the score of each command against its target, between lines of the references.

    Args:
        result: the content of result.json.
        path: where to save the plot.

    Returns:
        The matplotlib Figure.
    """
    figure = figures.new(6.4, 4.8)
    axes = figure.subplots()
    figures.plain(axes)
    rows = result["commands"].values()
    targets = np.array([row["target"] for row in rows])
    mean, low, high, seeds = (
        np.array([row["score"][part] for row in rows]) for part in ("mean", "ci_low", "ci_high", "per_seed")
    )
    axes.plot(targets, targets, color=figures.BLACK, linewidth=1.0, label="score = target")
    for name, interval in result["references"].items():
        axes.axhline(interval["mean"], linewidth=1.4, label=name, **_LINES[name])
    axes.plot(
        np.repeat(targets, seeds.shape[1]), seeds.ravel(), "o", color=figures.BLUE, alpha=0.3, markersize=4
    )
    axes.errorbar(
        targets,
        mean,
        np.maximum([mean - low, high - mean], 0),
        fmt="o",
        color=figures.BLUE,
        capsize=4,
        label=f"D-eta-N, mean of {seeds.shape[1]} seeds with 95 % interval",
    )
    axes.set(
        xlabel="final score that is asked for",
        ylabel="mean final score",
        title=f"{result['environment']}: one network for all final scores",
    )
    figures.legend_below(figure, axes.get_legend_handles_labels()[0])
    return figures.saved(figure, path)


def show(result: Mapping[str, Any]) -> None:
    """Prints a table of commands, and of references."""
    table = rich.table.Table("policy", "score (95 % interval)", "distance from the target", "share exact")
    for name, row in result["commands"].items():
        table.add_row(name, *(statistics.interval_text(row[part]) for part in ("score", "distance", "exact")))
    for name, interval in result["references"].items():
        table.add_row(name, statistics.interval_text(interval), "", "")
    outputs.show(table)


def parse(argv: list[str]) -> ScoresConfig:
    """The settings that the command line describes."""
    return flags.parse_config(ScoresConfig(), argv)


def main(config: ScoresConfig) -> None:
    """Makes the comparison that the command line describes."""
    run(config)


if __name__ == "__main__":
    flags.run(main, parse)
