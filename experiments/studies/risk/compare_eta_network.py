r"""Compares D-eta-N with the exact optimum of gridworlds, at every setting and at a grid of first stocks.

    python -m experiments.studies.risk.compare_eta_network --problem=risk_averse --num_seeds=5 --workdir=OUT

trains the preset of that name of valuelab/presets/eta_network.py, one network a seed for all settings, and
leaves OUT/result.json, comparison.png and calibration.png. Without --problem it does all gridworlds, each in
a folder of its own, and OUT/result.json and comparison.png tell of all of them. The same command again goes
on where it was stopped, or says that it is done. How gaps are defined: see experiments/optimality.py.
"""

import contextlib
import dataclasses
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import rich.table

from experiments.studies.risk import optimality
from experiments.studies.risk.optimality import WITHIN, AtSettings, AtStocks, Networks
from valuelab import configuration, training
from valuelab.configuration import check_ranges
from valuelab.distributional import gridworlds
from valuelab.errors import InputError
from valuelab.evaluation import comparison_plots, statistics
from valuelab.evaluation.comparison_plots import PolicyValues, PredictedReturns
from valuelab.runs import flags, outputs, sources

_TOLERANCE = 0.02
"""Of the range of returns: how near to a quantile a return counts as equal to it."""


@dataclasses.dataclass(frozen=True)
class CompareConfig:
    """What is compared.

    Attributes:
        problem: name of a gridworld; empty for all of them.
        agent: D-eta-N's file and preset; empty for the preset named as the problem.
        seed: first random seed.
        num_seeds: networks trained in each gridworld, of the seeds seed, seed + 1, ...
        steps: updates of each; none for the preset's.
        episodes: that each network plays for each setting.
        workdir: folder for everything that the run leaves.
        plots: draw pictures.
    """

    problem: str = ""
    agent: str = ""
    seed: int = 0
    num_seeds: int = 5
    steps: int | None = None
    episodes: int = 20_000
    workdir: str = dataclasses.field(default="", compare=False)
    plots: bool = dataclasses.field(default=True, compare=False)

    def __post_init__(self) -> None:
        check_ranges(self, seed="[0, 2147483647]", num_seeds="[1, inf)", steps="[1, inf)")
        if self.episodes < 1 or self.episodes % optimality.BATCHES:
            raise InputError(f"episodes is {self.episodes}; give a positive multiple of {optimality.BATCHES}")


def run(config: CompareConfig) -> dict[str, Any]:
    """Does a comparison, or what is left of it.

    Args:
        config: its settings.

    Returns:
        What result.json holds.

    Raises:
        InputError: for settings or a folder that cannot be used.
    """
    if config.problem:
        gridworlds.make(config.problem)  # refuses what is unknown
    with outputs.prepare_folder(config) as workdir:
        if done := outputs.finished(workdir, "compare"):
            return done
        facts = {"versions": outputs.versions(), "device": outputs.device()}
        outputs.write_json(workdir / "config.json", {"settings": configuration.to_json(config)} | facts)
        pictures: dict[str, Callable[[], None]] = {}
        if config.problem:
            result, pictures["calibration.png"] = compare(config, workdir)
        else:
            parts = [
                run(dataclasses.replace(config, problem=name, workdir=str(workdir / name)))
                for name in gridworlds.GRIDWORLDS
            ]
            result = {"problems": {part["problem"]: part for part in parts}}
        found = result.get("problems", {config.problem: result})
        pictures["comparison.png"] = lambda: draw_comparison(found, workdir / "comparison.png")
        result = (
            {"within": WITHIN, "reached": all(part["reached"] for part in found.values())} | result | facts
        )
        outputs.finish(workdir, result, pictures if config.plots else {})
        show(found)
        return result


def compare(config: CompareConfig, workdir: pathlib.Path) -> tuple[dict[str, Any], Callable[[], None]]:
    """What result.json says of one problem, learnt, solved and played; and what draws its picture."""
    problem = gridworlds.make(config.problem)
    networks, training_facts = learn(config, workdir / "checkpoints")
    table = optimality.solve(problem, networks.config.stock_low, networks.config.stock_high)
    settings = optimality.at_settings(table, networks, config.episodes)
    stocks = optimality.at_stocks(table, networks)
    result = summarize(problem, settings, stocks) | training_facts
    return result, lambda: draw_calibration(problem, settings, workdir / "calibration.png")


def learn(config: CompareConfig, folder: pathlib.Path) -> tuple[Networks, dict[str, Any]]:
    """Trains the preset, or what is left of it.

    Args:
        config: settings, of one problem.
        folder: for checkpoints.

    Returns:
        The networks, and what result.json says of their training.
    """
    preset, make_agent = flags.load_agent(config.agent or f"eta_network:{config.problem}")
    changes = {
        "environment": f"gridworld/{config.problem}",
        "seed": config.seed,
        "num_seeds": config.num_seeds,
        "steps": config.steps or preset.steps,
    }
    preset = configuration.replace(preset, changes)
    source = sources.find_source(preset)
    agent = make_agent(preset.agent, source.spec)
    versions = {"versions": outputs.versions()}
    with contextlib.closing(training.Checkpoints(folder, versions, config=preset)) as checkpoints:
        trained = training.train(
            agent,
            source.experience,
            steps=preset.steps,
            seeds=configuration.population(preset).seeds.tolist(),
            log_every=preset.log_every,
            checkpoint_every=preset.checkpoint_every,
            checkpoints=checkpoints,
        )
    states = [trained.member(index) for index in range(config.num_seeds)]
    facts = {
        "num_seeds": config.num_seeds,
        "updates": preset.steps,
        "environment_steps": source.experience.environment_steps(preset.steps),
        "throughput": trained.throughput._asdict(),
    }
    return Networks(preset.agent, source.spec, agent, states), facts


def summarize(problem: gridworlds.Gridworld, settings: AtSettings, stocks: AtStocks) -> dict[str, Any]:
    """What result.json says of settings and stocks; gaps are in percent.

    Args:
        problem: the gridworld.
        settings: what is reached at them.
        stocks: likewise.

    Returns:
        A JSON-safe dict. "reached": whether at every setting and stock the mean gap over seeds is WITHIN.
    """
    setting_gaps = optimality.gaps(settings.optimum, settings.reached, settings.random)
    stock_gaps = optimality.gaps(stocks.optimum, stocks.reached, stocks.random)
    told = {}
    for index, name in enumerate(settings.names):
        reached = settings.reached[:, index, None]
        told[name] = {
            "optimum": float(settings.optimum[index]),
            "error_bound": float(settings.errors[index]),
            "random_actions": float(settings.random[index]),
            "network": statistics.mean_interval(reached),
            "standard_error": float(settings.standard_errors[:, index].mean()),
            "gap": statistics.mean_interval(100 * setting_gaps[:, index, None]),
            "gap_of_absolute_value": _of_value(settings.optimum[index], reached.mean()),
            "first_stocks": settings.stocks[:, index].tolist(),
        }
    worst = int(stock_gaps.mean(0).argmax())
    return {
        "problem": problem.name,
        "objective": problem.objective.name,
        "reached": bool(max(setting_gaps.mean(0).max(), stock_gaps.mean(0).max()) <= WITHIN),
        "settings": told,
        "worst_stock": {
            "stock": stocks.stocks[worst].tolist(),
            "gap": statistics.mean_interval(100 * stock_gaps[:, worst, None]),
        },
        "worst_gap_of_any_seed": float(100 * max(setting_gaps.max(), stock_gaps.max())),
        "mean_gap_of_stocks": float(100 * stock_gaps.mean()),
        "stocks": {name: array.tolist() for name, array in stocks._asdict().items()},
    }


def _of_value(optimum: float, reached: float) -> float | None:
    """The gap in percent of |optimum|; none where that is 0."""
    return float(100 * (optimum - reached) / abs(optimum)) if abs(optimum) > 1e-9 else None


# Pictures and tables, from what result.json holds.


def draw_comparison(found: Mapping[str, Mapping[str, Any]], path: pathlib.Path) -> None:
    """Draws what is reached in each problem."""
    rows = {}
    for name, part in found.items():
        told, held = part["settings"], {key: np.array(rows) for key, rows in part["stocks"].items()}
        networks = [told[setting]["network"] for setting in told]
        at_settings = PolicyValues(
            x=np.array([setting.partition("=")[2] for setting in told]),
            x_label=next(iter(told)).partition("=")[0],
            optimum=np.array([told[setting]["optimum"] for setting in told]),
            random=np.array([told[setting]["random_actions"] for setting in told]),
            learnt=np.array([network["per_seed"] for network in networks]).T,
            gaps=np.array([told[setting]["gap"]["per_seed"] for setting in told]).T / 100,
            interval=(
                np.array([network["ci_low"] for network in networks]),
                np.array([network["ci_high"] for network in networks]),
            ),
        )
        at_stocks = PolicyValues(
            x=held["stocks"],
            x_label="first stock",
            optimum=held["optimum"],
            random=held["random"],
            learnt=held["reached"],
            gaps=optimality.gaps(held["optimum"], held["reached"], held["random"]),
            interval=(held["reached"].min(0), held["reached"].max(0)),
        )
        rows[f"{name} ({part['objective']})"] = (at_settings, at_stocks)
    title = f"D-eta-N, one network for all settings and stocks, {part['num_seeds']} seeds"
    comparison_plots.comparison(rows, tolerated=WITHIN, title=title, path=path)


def draw_calibration(problem: gridworlds.Gridworld, settings: AtSettings, path: pathlib.Path) -> None:
    """Draws predicted returns against those of the episodes."""
    dim = problem.mdp.reward_dim
    shown = {
        name: PredictedReturns(predicted=settings.predicted[:, index], returns=settings.returns[:, index])
        for index, name in enumerate(settings.names)
    }
    comparison_plots.calibration(
        shown,
        tolerance=_TOLERANCE * float(np.ptp(settings.returns)),
        components=[f"component {index}" for index in range(dim)] if dim > 1 else [""],
        title=f"{problem.name}: returns from the start, as predicted and as they came",
        path=path,
    )


def show(found: Mapping[str, Mapping[str, Any]]) -> None:
    """Prints a table of all settings."""
    table = rich.table.Table("problem", "setting", "optimum", "D-eta-N (95 % interval)", "gap in %")
    for name, part in found.items():
        for setting, told in part["settings"].items():
            reached = statistics.interval_text(told["network"], ".4g")
            table.add_row(name, setting, f"{told['optimum']:.4g}", reached, f"{told['gap']['mean']:.2f}")
        worst = part["worst_stock"]
        stock = ", ".join(f"{number:g}" for number in worst["stock"])
        table.add_row(name, f"worst stock, {stock}", "", "", f"{worst['gap']['mean']:.2f}", end_section=True)
    outputs.show(table)


def parse(argv: list[str]) -> CompareConfig:
    """The settings of a command line."""
    return flags.parse_config(CompareConfig(), argv)


def main(config: CompareConfig) -> None:
    """Does the comparison of a command line."""
    run(config)


if __name__ == "__main__":
    flags.run(main, parse)
