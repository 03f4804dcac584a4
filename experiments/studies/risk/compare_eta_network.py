r"""How near does D-eta-N come to the exact optimum of gridworlds, under every command and from every stock?

    python -m experiments.studies.risk.compare_eta_network --problem=risk_averse --num_seeds=5 --workdir=OUT

trains the preset of that name in valuelab/presets/eta_network.py: one network per seed, for all commands. It
solves the gridworld and compares; `optimality.gaps` defines the gap.

OUT gets result.json, comparison.png, calibration.png and checkpoints. Without --problem, each gridworld gets
its own folder in OUT, and OUT/result.json and OUT/comparison.png hold all of them. The same command continues
after an interruption.

Measured without --problem (benchmarks/eta_network_gridworlds.json): in all gridworlds the mean gap of five
seeds is below 5 % under every command and from every first stock.
"""

import dataclasses
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import rich.table

from experiments.studies.risk import networks, optimality
from experiments.studies.risk.networks import TrainedNetworks
from experiments.studies.risk.optimality import WITHIN, CommandResults, StockResults
from valuelab import configuration
from valuelab.configuration import Settings, setting
from valuelab.distributional import gridworlds
from valuelab.errors import InputError
from valuelab.evaluation import comparison_plots, statistics
from valuelab.evaluation.comparison_plots import PolicyValues, PredictedReturns
from valuelab.runs import flags, inputs, outputs

_TOLERANCE = 0.02
"""Fraction of the range of returns within which a return counts as equal to a quantile."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class CompareConfig(Settings):
    """The settings of a comparison."""

    problem: str = setting("", help="Name of a gridworld; empty for all gridworlds.")
    agent: str = setting(
        "", help="D-eta-N's file and preset; empty for the preset with the gridworld's name."
    )
    seed: int = setting(0, "[0, 2147483647]", "First random seed.")
    num_seeds: int = setting(
        5, "[1, inf)", "Number of networks in each gridworld, with the seeds seed, seed + 1, ..."
    )
    steps: int | None = setting(
        None, "[1, inf)", "Updates of each network; none for the number in the preset."
    )
    episodes: int = setting(20_000, help="Number of episodes of each network under each command.")
    workdir: str = setting("", help="Folder for all files of the comparison.", compare=False)
    plots: bool = setting(True, help="Draw pictures.", compare=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.episodes < 1 or self.episodes % optimality.BATCHES:
            raise InputError(f"episodes is {self.episodes}; give a positive multiple of {optimality.BATCHES}")


def run(config: CompareConfig) -> dict[str, Any]:
    """Makes a comparison, or finishes an interrupted one.

    Args:
        config: the settings.

    Returns:
        The content of result.json.

    Raises:
        InputError: for settings or a folder that cannot be used.
    """
    if config.problem:
        gridworlds.make(config.problem)  # refuses an unknown name
    with outputs.prepare_folder(config) as workdir:
        if done := outputs.finished(workdir, "compare"):
            return done
        facts = outputs.provenance()
        outputs.write_config(workdir, {"settings": configuration.to_json(config)} | facts)
        pictures: dict[str, Callable[[], None]] = {}
        if config.problem:
            result, pictures["calibration.png"] = compare(config, workdir)
            by_gridworld = {config.problem: result}
        else:
            by_gridworld = {
                name: run(dataclasses.replace(config, problem=name, workdir=str(workdir / name)))
                for name in gridworlds.GRIDWORLDS
            }
            result = {"problems": by_gridworld}
        pictures["comparison.png"] = lambda: draw_comparison(by_gridworld, workdir / "comparison.png")
        reached = all(part["reached"] for part in by_gridworld.values())
        result = {"within": WITHIN, "reached": reached} | result | facts
        outputs.finish(workdir, result, pictures if config.plots else {})
        show(by_gridworld)
        return result


def compare(config: CompareConfig, workdir: pathlib.Path) -> tuple[dict[str, Any], Callable[[], None]]:
    """Trains, solves and evaluates in one gridworld.

    Args:
        config: the settings, with a gridworld.
        workdir: the folder.

    Returns:
        Its part of result.json, and a function that draws calibration.png.
    """
    gridworld = gridworlds.make(config.problem)
    trained, training_facts = learn(config, workdir / "checkpoints")
    solved = optimality.solve(gridworld, trained.config.stock_low, trained.config.stock_high)
    commands = optimality.evaluate_commands(solved, trained, config.episodes)
    stocks = optimality.evaluate_stocks(solved, trained)
    result = summarize(gridworld, commands, stocks) | training_facts
    return result, lambda: draw_calibration(gridworld, commands, workdir / "calibration.png")


def learn(config: CompareConfig, folder: pathlib.Path) -> tuple[TrainedNetworks, dict[str, Any]]:
    """Trains the preset, or finishes its training.

    Args:
        config: the settings, with a gridworld.
        folder: folder for checkpoints.

    Returns:
        The networks, and the facts about their training for result.json.
    """
    preset, make_agent = flags.load_agent(config.agent or f"eta_network:{config.problem}")
    changes = {
        "environment": f"gridworld/{config.problem}",
        "seed": config.seed,
        "num_seeds": config.num_seeds,
        "steps": config.steps or preset.steps,
    }
    preset = configuration.replace(preset, changes)
    run_inputs = inputs.find_inputs(preset)
    agent = make_agent(preset.agent, run_inputs.spec)
    trained = networks.train_networks(
        preset, agent, run_inputs.experience, folder, {"versions": outputs.versions()}
    )
    states = [trained.member(index) for index in range(config.num_seeds)]
    facts = {
        "num_seeds": config.num_seeds,
        "updates": preset.steps,
        "environment_steps": run_inputs.experience.environment_steps(preset.steps),
        "throughput": trained.throughput._asdict(),
    }
    return TrainedNetworks(preset.agent, run_inputs.spec, agent, states), facts


def summarize(
    gridworld: gridworlds.Gridworld, commands: CommandResults, stocks: StockResults
) -> dict[str, Any]:
    """The part of result.json about one gridworld; gaps are in percent.

    Args:
        gridworld: the gridworld.
        commands: the results under its commands.
        stocks: the results from its first stocks.

    Returns:
        A JSON-safe dict. "settings" holds the commands. "reached" says whether the mean gap over seeds is at
        most WITHIN under every command and from every stock.
    """
    command_gaps = optimality.gaps(commands.optimum, commands.reached, commands.random)
    stock_gaps = optimality.gaps(stocks.optimum, stocks.reached, stocks.random)
    by_command = {}
    for index, name in enumerate(commands.names):
        reached = commands.reached[:, index, None]
        by_command[name] = {
            "optimum": float(commands.optimum[index]),
            "error_bound": float(commands.errors[index]),
            "random_actions": float(commands.random[index]),
            "network": statistics.mean_interval(reached),
            "standard_error": float(commands.standard_errors[:, index].mean()),
            "gap": statistics.mean_interval(100 * command_gaps[:, index, None]),
            "gap_of_absolute_value": _percent_of_optimum(commands.optimum[index], reached.mean()),
            "first_stocks": commands.stocks[:, index].tolist(),
        }
    worst = int(stock_gaps.mean(0).argmax())
    return {
        "problem": gridworld.name,
        "objective": gridworld.objective.name,
        "reached": bool(max(command_gaps.mean(0).max(), stock_gaps.mean(0).max()) <= WITHIN),
        "settings": by_command,
        "worst_stock": {
            "stock": stocks.stocks[worst].tolist(),
            "gap": statistics.mean_interval(100 * stock_gaps[:, worst, None]),
        },
        "worst_gap_of_any_seed": float(100 * max(command_gaps.max(), stock_gaps.max())),
        "mean_gap_of_stocks": float(100 * stock_gaps.mean()),
        "stocks": {name: array.tolist() for name, array in stocks._asdict().items()},
    }


def _percent_of_optimum(optimum: float, reached: float) -> float | None:
    """Optimum - reached, in percent of |optimum|; None if the optimum is 0."""
    return float(100 * (optimum - reached) / abs(optimum)) if abs(optimum) > 1e-9 else None


# Pictures and tables, from the content of result.json.


def draw_comparison(by_gridworld: Mapping[str, Mapping[str, Any]], path: pathlib.Path) -> None:
    """Draws the optimum and the networks in each gridworld."""
    rows = {}
    for name, part in by_gridworld.items():
        commands = part["settings"]
        stocks = {key: np.array(values) for key, values in part["stocks"].items()}
        networks_reached = [command["network"] for command in commands.values()]
        at_commands = PolicyValues(
            x=np.array([command.partition("=")[2] for command in commands]),
            x_label=next(iter(commands)).partition("=")[0],
            optimum=np.array([command["optimum"] for command in commands.values()]),
            random=np.array([command["random_actions"] for command in commands.values()]),
            learnt=np.array([reached["per_seed"] for reached in networks_reached]).T,
            gaps=np.array([command["gap"]["per_seed"] for command in commands.values()]).T / 100,
            interval=(
                np.array([reached["ci_low"] for reached in networks_reached]),
                np.array([reached["ci_high"] for reached in networks_reached]),
            ),
        )
        at_stocks = PolicyValues(
            x=stocks["stocks"],
            x_label="first stock",
            optimum=stocks["optimum"],
            random=stocks["random"],
            learnt=stocks["reached"],
            gaps=optimality.gaps(stocks["optimum"], stocks["reached"], stocks["random"]),
            interval=(stocks["reached"].min(0), stocks["reached"].max(0)),
        )
        rows[f"{name} ({part['objective']})"] = (at_commands, at_stocks)
    title = f"D-eta-N, one network for all commands and stocks, {part['num_seeds']} seeds"
    comparison_plots.comparison(rows, tolerated=WITHIN, title=title, path=path)


def draw_calibration(gridworld: gridworlds.Gridworld, commands: CommandResults, path: pathlib.Path) -> None:
    """Draws the predicted return distributions against the returns of the episodes."""
    dim = gridworld.mdp.reward_dim
    shown = {
        name: PredictedReturns(predicted=commands.predicted[:, index], returns=commands.returns[:, index])
        for index, name in enumerate(commands.names)
    }
    comparison_plots.calibration(
        shown,
        tolerance=_TOLERANCE * float(np.ptp(commands.returns)),
        components=[f"component {index}" for index in range(dim)] if dim > 1 else [""],
        title=f"{gridworld.name}: predicted returns and returns of episodes, from the start state",
        path=path,
    )


def show(by_gridworld: Mapping[str, Mapping[str, Any]]) -> None:
    """Prints a table of all commands, and of the worst first stock."""
    table = rich.table.Table("gridworld", "command", "optimum", "D-eta-N (95 % interval)", "gap in %")
    for name, part in by_gridworld.items():
        for command, summary in part["settings"].items():
            reached = statistics.interval_text(summary["network"], ".4g")
            table.add_row(
                name, command, f"{summary['optimum']:.4g}", reached, f"{summary['gap']['mean']:.2f}"
            )
        worst = part["worst_stock"]
        stock = ", ".join(f"{number:g}" for number in worst["stock"])
        table.add_row(name, f"worst stock, {stock}", "", "", f"{worst['gap']['mean']:.2f}", end_section=True)
    outputs.show(table)


def parse(argv: list[str]) -> CompareConfig:
    """The settings that the command line describes."""
    return flags.parse_config(CompareConfig(), argv)


def main(config: CompareConfig) -> None:
    """Makes the comparison that the command line describes."""
    run(config)


if __name__ == "__main__":
    flags.run(main, parse)
