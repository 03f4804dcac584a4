"""The statistics and faults of a dataset as tables, JSON and a picture."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import rich.box
import rich.table
from absl import flags as absl_flags

from valuelab import configuration, data, domains, environments
from valuelab.configuration import DEFAULT_DATA_DIR, Settings, setting
from valuelab.data import coverage, faults, inspection, normalization
from valuelab.data.normalization import NormalizationConfig
from valuelab.domains.d4rl import original_name
from valuelab.domains.paths import is_path
from valuelab.errors import InputError
from valuelab.evaluation import inspection_plots, plots
from valuelab.evaluation.plots import Maze
from valuelab.runs import command_line, outputs
from valuelab.types import Dataset

_MOST_DIMENSIONS = 8
"""The largest number of action dimensions in the table; dataset.json has all of them."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class InspectConfig(Settings):
    """The dataset to inspect, and how."""

    dataset: str = setting(
        "", help="Its name, as for experiments.train; may be given as an argument without a flag."
    )
    data_dir: str = setting(DEFAULT_DATA_DIR, help="Folder that holds the datasets.")
    split: str = setting("train", help="Train, or val where the source has one.")
    data: NormalizationConfig = setting(NormalizationConfig(), help="How an agent sees the data.")
    workdir: str = setting("", help="Folder for dataset.json and dataset.png; empty to print only.")


def run(config: InspectConfig) -> dict[str, Any]:
    """Inspects a dataset.

    Args:
        config: the dataset, and how to inspect it.

    Returns:
        The contents of dataset.json.

    Raises:
        InputError: for a dataset that is missing or cannot be used, or a folder that cannot be made.
    """
    if not config.dataset:
        raise InputError("no dataset is given; write python -m experiments.inspect_dataset ogbench/NAME")
    folder = outputs.make_folder(config.workdir) if config.workdir else None
    dataset = data.load(
        config.dataset,
        config.data_dir,
        split=config.split,
        compact=True,
        **data.reading_settings(config.data),
    )
    report, maze = make_report(dataset, config.data, config.dataset)
    show(report)
    if folder:
        outputs.write_json(folder / "dataset.json", {"settings": configuration.to_json(config)} | report)
        path = folder / "dataset.png"
        outputs.draw({path.name: lambda: inspection_plots.inspection(report, maze, path=path)})
        print(f"all numbers are in {folder / 'dataset.json'}")
    else:
        print("--workdir=FOLDER writes all numbers and a picture")
    command_line.print_next(*next_steps(config.dataset, config.data_dir))
    return report


def next_steps(dataset: str, data_dir: str) -> list[str]:
    """The command that trains on a dataset, for `command_line.print_next`.

    It does not evaluate where the dataset has no environment.
    """
    original = original_name(dataset)
    without_task = dataset.startswith("exorl/") and not domains.parse(dataset.removeprefix("exorl/"))[2]
    program, agent = ("zero_shot", "td_jepa") if without_task else ("train", "iql")
    arguments = [f"--agent={agent}", f"--dataset={dataset}", f"--workdir=runs/{agent}"]
    if data_dir != DEFAULT_DATA_DIR:
        arguments.insert(2, f"--data_dir={data_dir}")
    if is_path(original) or original.startswith("lerobot/"):
        arguments.insert(2, "--eval_episodes=0")
    return [command_line.command(program, *arguments)]


def make_report(
    dataset: Dataset, how: NormalizationConfig, name: str = ""
) -> tuple[dict[str, Any], Maze | None]:
    """What a dataset holds, in numbers, and the maze that it was recorded in.

    Args:
        dataset: the dataset, in either storage.
        how: how an agent sees it.
        name: the name under which it was read; by default its own.

    Returns:
        What dataset.json holds, and the maze; None where there is none.

    Raises:
        InputError: for a reward rule that does not fit the dataset.
    """
    name = name or dataset.name
    fitted = normalization.fit(dataset, observations=how.normalize_observations, rewards=how.rewards)
    report = inspection.inspect(inspection.normalized(dataset, fitted))
    maze = find_maze(name, dataset)
    if maze:
        report["maze"] = coverage.of_maze(dataset, maze.walls, maze.extent)
    if score := find_score(name):
        report["normalized_scores"] = inspection.distribution(
            score(normalization.returns(dataset, until_masked=True))
        )
    report["problems"] = faults.find(report)  # the key is part of the format of dataset.json
    return report, maze


def find_maze(name: str, dataset: Dataset) -> Maze | None:
    """The maze that a dataset was recorded in; None where there is none, or OGBench is missing.

    Args:
        name: of the dataset.
        dataset: the dataset.
    """
    family, _, rest = original_name(name).partition("/")
    if family not in ("ogbench", "d4rl") or "maze" not in rest or dataset.observations.ndim != 2:
        return None
    try:
        return plots.open_maze(environments.make(name))._replace(start=None, goal=None)
    except InputError:
        return None


def find_score(name: str) -> Any:
    """A function from episode returns to D4RL's normalised scores; None for datasets without such scores."""
    if not original_name(name).startswith("d4rl/"):
        return None
    try:
        environment = environments.make(name)
    except InputError:  # a file of the user
        return None
    return lambda returns: environment.score(returns, False)


def show(report: Mapping[str, Any]) -> None:
    """Prints a report as tables, and its faults, one a line."""
    table = rich.table.Table(
        box=rich.box.SIMPLE_HEAD, pad_edge=False, show_header=False, title=report["name"]
    )
    table.add_column(no_wrap=True)
    table.add_column()
    for name, text in summary(report).items():
        table.add_row(name, text)
    outputs.show(table)
    if not report["actions"]["number"]:
        outputs.show(_action_table(report["actions"]))
    print("\n".join(["faults found:", *report["problems"]]) if report["problems"] else "faults found: none")


def summary(report: Mapping[str, Any]) -> dict[str, str]:
    """The rows of the table: the name of each quantity, and its numbers as text."""
    episodes, memory, copies, masks = (report[name] for name in ("episodes", "memory", "copies", "masks"))
    length = episodes["length"]
    lines = {
        "transitions": f"{report['transitions']:,} in {report['rows']:,} rows",
        "episodes": f"{episodes['count']:,}; {episodes['terminated']:,} end in a terminal state, "
        f"{episodes['cut']:,} are cut",
        "lengths": "min {min:,.0f}, median {median:,.0f}, max {max:,.0f}".format(**length),
    }
    lines |= _reward_lines(report)
    lines["masks of 0"] = f"{masks['zeros']:,}; {masks['zeros_inside']:,} of them inside episodes"
    lines["actions"] = _actions_line(report["actions"])
    observations = report["observations"]
    for name, part in observations.get("parts", {"": observations}).items():
        lines[f"observations {name}".strip()] = _observations_line(part)
    lines["effective dimension"] = "{effective_dimension:.1f}, from {sampled:,} observations".format(
        **report["coverage"]
    )
    if maze := report.get("maze"):
        share = maze["visited_cells"] / maze["free_cells"]
        lines["maze"] = (
            f"{maze['visited_cells']} of {maze['free_cells']} free cells visited ({_percent(share)})"
        )
    lines["copies"] = (
        f"{copies['episodes']:,} episodes, {copies['transitions']:,} transitions in other episodes"
    )
    full, compact = (f"{memory[storage] / 1e6:,.1f} MB" for storage in ("full", "compact"))
    lines["memory"] = f"{full} on host and device, {compact} with --data.compact"
    return lines


def _reward_lines(report: Mapping[str, Any]) -> dict[str, str]:
    """The lines on returns and rewards."""
    rewards = report["rewards"]
    if not rewards:
        return {"rewards": "made in training, for goals"}
    spread = (
        "mean {mean:.4g} ± {std:.4g}; {min:.4g} to {max:.4g}, quartiles {q25:.4g}, {median:.4g}, {q75:.4g}"
    )
    lines = {"returns": spread.format(**report["returns"])}
    if "normalized_scores" in report:
        lines["normalised scores"] = spread.format(**report["normalized_scores"])
    if rewards["values"]:
        lines["rewards"] = ", ".join(
            f"{entry['value']:g} in {_percent(entry['share'])}" for entry in rewards["values"]
        )
    else:
        text = "mean {mean:.4g} ± {std:.4g}, {min:.4g} to {max:.4g}, {distinct:,} different".format(**rewards)
        lines["rewards"] = f"{text}, not 0 in {_percent(rewards['nonzero'])}"
    best = rewards["best"]
    lines["greatest reward"] = (
        f"{rewards['max']:.4g}, in {_percent(best['share'])} of transitions and {best['episodes']:,} episodes"
    )
    return lines


def _actions_line(actions: Mapping[str, Any]) -> str:
    if actions["number"]:
        shares = ", ".join(_percent(share) for share in actions["shares"])
        return f"{actions['number']} discrete: {shares}"
    return f"{len(actions['low'])} dimensions"


def _observations_line(observations: Mapping[str, Any]) -> str:
    shape = " x ".join(map(str, observations["shape"]))
    if observations["images"]:
        return (
            f"images {shape}, {observations['dtype']}; {observations['min']} to {observations['max']}, mean "
            f"{observations['mean']:.4g} ± {observations['std']:.4g}, from {observations['sampled']:,}"
        )
    std = np.delete(observations["std"], observations["constant"])
    spread = f", std {std.min():.2g} to {std.max():.2g}" if len(std) else ""
    return (
        f"{shape} dimensions, {observations['dtype']}; {observations['min'].min():.4g} to "
        f"{observations['max'].max():.4g}{spread}; {len(observations['constant'])} constant"
    )


def _action_table(actions: Mapping[str, Any]) -> rich.table.Table:
    """One row for each of the first dimensions of continuous actions."""
    table = rich.table.Table(box=rich.box.SIMPLE_HEAD, pad_edge=False)
    headings = ("action", "bounds", "min", "max", "mean", "std", "at a bound")
    for heading in headings:
        table.add_column(heading, no_wrap=True, justify="right")
    for number in range(len(actions["low"]))[:_MOST_DIMENSIONS]:
        numbers = (f"{actions[name][number]:.3g}" for name in ("min", "max", "mean", "std"))
        bounds = f"{actions['low'][number]:g} to {actions['high'][number]:g}"
        share = _percent(actions["at_low"][number] + actions["at_high"][number])
        table.add_row(str(number), bounds, *numbers, share)
    if len(actions["low"]) > _MOST_DIMENSIONS:
        table.add_row(f"and {len(actions['low']) - _MOST_DIMENSIONS} more")
    return table


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def parse(argv: list[str], values: absl_flags.FlagValues = absl_flags.FLAGS) -> InspectConfig:
    """The settings of a command line; arguments and errors as of `command_line.parse_config`."""
    return command_line.parse_config(InspectConfig(), argv, values, positional="dataset")


def main(config: InspectConfig) -> None:
    """Inspects the dataset of a command line."""
    run(config)
