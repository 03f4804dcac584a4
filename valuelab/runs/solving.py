"""Solves a finite MDP for an objective of its return distribution, and writes the files of the run."""

import dataclasses
import hashlib
import math
import pathlib
import time
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import rich.console
import rich.table
from absl import flags as absl_flags

from valuelab import configuration
from valuelab.configuration import Settings, setting
from valuelab.distributional import defaults, gridworlds, mdps, objectives
from valuelab.distributional.objectives import Objective
from valuelab.errors import InputError
from valuelab.evaluation import figures, solutions
from valuelab.evaluation.solutions import Task
from valuelab.runs import command_line, flags, listing, outputs

REPORTED_MASS = 1e-6
"""Probability of leaving the stock grid above which a warning is printed."""
TOLERATED = 0.05
"""The relative difference between the start value and its value on the saved grid that gives no warning."""
SHOWN_STATES = 12
"""The largest number of states in the table."""
PARAMETERS = ("tau", "weight", "target", "risk", "norm", "power", "weights", "taus")
"""The settings that are parameters of an objective."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class SolveConfig(Settings):
    """The MDP, the objective, and the settings of the solver."""

    problem: str = setting("", help="Name of a gridworld; instead of --mdp.")
    mdp: str = setting(
        "",
        help="File with an MDP, as arrays of transitions or of outcomes; instead of --problem.",
        compare=False,
    )
    mdp_sha256: str = setting("", help="SHA-256 of the file's content.")
    discount: float | None = setting(None, "(0, 1]", "Discount γ in (0, 1]; the default is the gridworld's.")
    horizon: int | None = setting(
        None, "[1, inf)", "Number of steps; none is infinite. The default is the gridworld's."
    )
    start_state: int | None = setting(
        None,
        "[0, inf)",
        "State in which episodes begin; only the states that they can visit are solved. None: all states.",
    )
    objective: str = setting(
        "",
        help="Objective that is maximised: a name, or FILE.py:FUNCTION for the mean of a function of the "
        "return; the default is the gridworld's.",
    )
    tau: float | None = setting(
        None,
        "[0, 1]",
        "Level τ in (0, 1] of cvar, upper_cvar and mean_cvar, in [0, 1) of var, in (0, 1) of evar.",
    )
    weight: float | None = setting(
        None, help="Weight of the mean in mean_cvar, of the variance in mean_variance."
    )
    target: tuple[float, ...] = setting(
        (), help="Return to hit or to reach (target, satisficing), or set points such as 3,5 (homeostatic)."
    )
    risk: float | None = setting(None, help="Risk parameter of entropic, not 0; negative is risk-averse.")
    norm: Literal["1", "2", "inf"] | None = setting(None, help="Norm of homeostatic.")
    power: float | None = setting(None, help="Power of homeostatic.")
    weights: tuple[float, ...] = setting(
        (), help="Weights, one for each component (homeostatic) or each level (spectral)."
    )
    taus: tuple[float, ...] = setting((), "(0, 1]", "Levels of spectral.")
    representation: Literal["exact", "categorical", "quantile"] | None = setting(
        None, help="Distribution representation; none for an automatic choice."
    )
    atoms: int | None = setting(
        None, "[2, inf)", "Number of atoms of a distribution; none for an automatic choice."
    )
    stocks: int | None = setting(
        None,
        "[1, inf)",
        "Number of points of the stock grid along each component; none for an automatic choice.",
    )
    stock_low: tuple[float, ...] = setting(
        (), help="Smallest stock of each component; empty for an automatic choice."
    )
    stock_high: tuple[float, ...] = setting(
        (), help="Largest stock of each component; empty for an automatic choice."
    )
    allow_unsound: bool = setting(
        False, help="Solve also where the theory does not hold; the result says so."
    )
    workdir: str = setting("", help="Folder for the results.", compare=False)
    plots: bool = setting(True, help="Draw pictures.", compare=False)
    formats: tuple[str, ...] = setting(
        (), help="Further formats of pictures, such as pdf,svg; PNG is always written.", compare=False
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.stock_low or self.stock_high) and not self.stocks:
            raise InputError("stock_low and stock_high need the size of the stock grid: give --stocks=401")


def resolve(config: SolveConfig) -> tuple[SolveConfig, Task]:
    """Reads the MDP and makes the objective.

    Args:
        config: the settings as given.

    Returns:
        The settings with the defaults of the gridworld, and the task to solve.

    Raises:
        InputError: for a gridworld, file or objective that cannot be used, or a setting that is missing.
    """
    if bool(config.problem) == bool(config.mdp):
        names = ", ".join(gridworlds.GRIDWORLDS)
        raise InputError(f"give either --problem=NAME, one of {names}, or --mdp=FILE.npz")
    if not config.workdir:
        raise InputError(outputs.NO_WORKDIR)
    if config.problem:
        gridworld = gridworlds.make(config.problem)
        config = _with_defaults(config, gridworld)
        mdp, start_state = gridworld.mdp, gridworld.start_state
    else:
        mdp, gridworld = mdps.load(config.mdp), None
        digest = hashlib.sha256(pathlib.Path(config.mdp).read_bytes()).hexdigest()
        config = dataclasses.replace(config, mdp_sha256=digest)
        start_state = int(np.argmin(mdp.terminal))
    if config.start_state is not None:
        mdps.reachable_states(mdp, config.start_state)
        start_state = config.start_state
    if config.discount is None:
        raise InputError("discount is missing: write --discount=0.95, or --discount=1 for sums of rewards")
    if not config.objective:
        raise InputError(f"objective is missing: give --objective, one of {', '.join(objectives.REGISTRY)}")
    objective = make_objective(config, mdp)
    mdp = with_rewards_of(mdp, objective)
    name = config.problem or pathlib.Path(config.mdp).stem
    return config, Task(name, mdp, objective, config.discount, config.horizon, start_state, gridworld)


def with_rewards_of(mdp: mdps.MDP, objective: Objective) -> mdps.MDP:
    """The MDP for an objective: a spectral objective needs one copy of the reward for each level."""
    if objective.name == "spectral":
        return objectives.repeat_rewards(mdp, len(objective.parameters["taus"]))
    return mdp


def _with_defaults(config: SolveConfig, gridworld: gridworlds.Gridworld) -> SolveConfig:
    """The settings with the discount, horizon and objective of a gridworld if they are not given."""
    own: dict[str, Any] = {"discount": gridworld.discount, "horizon": gridworld.horizon}
    if not config.objective:
        own["objective"] = gridworld.objective.name
        for name, value in gridworld.objective.parameters.items():
            own[name] = tuple(np.atleast_1d(value).tolist()) if np.ndim(value) or name == "target" else value
    return dataclasses.replace(
        config, **{name: value for name, value in own.items() if getattr(config, name) in (None, "", ())}
    )


def make_objective(config: SolveConfig, mdp: mdps.MDP) -> Objective:
    """The objective of the settings.

    Raises:
        InputError: when the objective is unknown, its parameters are missing, unknown or out of range, or the
            file or the function of a user's objective cannot be used.
    """
    given: dict[str, Any] = {name: getattr(config, name) for name in PARAMETERS}
    given = {name: value for name, value in given.items() if value not in (None, ())}
    if configuration.function_file(config.objective):
        if given:
            raise InputError(f"{', '.join(given)} is not a setting of {config.objective}: leave it out")
        function = command_line.load_function(config.objective, "objective")
        return objectives.of_function(function, mdp, config.discount or 1.0, config.horizon)
    if len(config.target) == 1:
        given["target"] = config.target[0]
    if config.norm:
        given["norm"] = float(config.norm)
    return objectives.make(config.objective, **given)


def run(config: SolveConfig) -> dict[str, Any]:
    """Solves the MDP, or says that the run is finished.

    Args:
        config: the settings.

    Returns:
        The content of result.json.

    Raises:
        InputError: for settings, an MDP or a folder that cannot be used.
    """
    config, task = resolve(config)
    user_files = outputs.user_files({"objective": configuration.function_file(config.objective)})
    formats = figures.formats(config.formats)
    with outputs.prepare_folder(config, user_files) as workdir:
        if result := outputs.finished(workdir, "solve", formats=formats):
            return result
        size = f"{task.mdp.num_states} states, {task.mdp.num_actions} actions"
        print(f"solving {solutions.describe(task)}: {size}")
        started = time.perf_counter()
        with rich.console.Console(stderr=True).status("solving"):
            solved = defaults.solve(
                task.mdp,
                task.objective,
                discount=task.discount,
                horizon=task.horizon,
                start_state=config.start_state,
                representation=config.representation,
                atoms=config.atoms,
                stocks=config.stocks,
                stock_low=config.stock_low or None,
                stock_high=config.stock_high or None,
                allow_unsound=config.allow_unsound,
            )
        seconds = time.perf_counter() - started
        facts = outputs.provenance()
        files = {name: file.sha256 for name, file in user_files.items()}
        settings = {"settings": configuration.to_json(config)} | ({"files": files} if files else {})
        outputs.write_config(workdir, settings | facts)
        solutions.save(workdir / "arrays.npz", solved)
        names = {"problem": config.problem or None, "mdp": config.mdp or None}
        result = names | solutions.summarize(task, solved) | {"seconds": seconds} | facts
        on_grid, best = solutions.grid_value(task, solved), float(solved.start.values[task.start_state])
        if on_grid is not None and abs(on_grid - best) > TOLERATED * max(1.0, abs(best)):
            print(
                "warning: arrays.npz and the pictures are from a smaller stock grid, where the value of the "
                f"start state is {on_grid:.4g} instead of {best:.4g}: give a grid by --stocks=401 "
                "--stock_low=LOW --stock_high=HIGH"
            )
        pictures = {"pictures": lambda: solutions.draw(task, solved, workdir)} if config.plots else {}
        outputs.finish(workdir, result, pictures, formats)
        show(task, result)
        print(f"solved in {seconds:.1f} s; everything is in {workdir}")
        command_line.print_next(*next_steps(task, workdir))
        return result


def next_steps(task: Task, workdir: pathlib.Path) -> list[str]:
    """What can be done with a solution, for `command_line.print_next`."""
    arrays = workdir / "arrays.npz"
    steps = [f'numpy.load("{arrays}") in Python: values, policy, return distributions']
    if task.problem and task.problem.objective.name == task.objective.name:
        arguments = f"--agent=eta_network:{task.problem.name}", f"--workdir={workdir}-learnt"
        steps.append(command_line.command("train", *arguments))
    return steps


def show(task: Task, result: Mapping[str, Any]) -> None:
    """Prints the table of start values, the error bound and warnings."""
    values, first = result["start_values"], result["start_stocks"]
    table = rich.table.Table("state", "start value", "first stock")
    solved = [state for state, value in enumerate(values) if not math.isnan(value)]
    shown = [task.start_state] if task.problem else solved[:SHOWN_STATES]
    for state in shown:
        table.add_row(str(state), solutions.in_words(values[state]), solutions.in_words(first[state]))
    if not task.problem and len(solved) > SHOWN_STATES:
        table.add_row("...", "...", "...")
    outputs.show(table)
    if result["off_grid_mass"] > REPORTED_MASS:
        print(
            f"warning: episodes leave the stock grid with probability {result['off_grid_mass']:.2g}, which "
            "makes the error large: give a wider grid by --stock_low and --stock_high, or leave out --stocks"
        )
    if result["distribution_off_grid_mass"] > max(REPORTED_MASS, result["off_grid_mass"]):
        print(
            "warning: the return distributions are wrong by a probability of up to "
            f"{result['distribution_off_grid_mass']:.2g}, which leaves their stocks or atoms; start values "
            "do not depend on it: give a wider and finer grid by --atoms, --stocks, --stock_low and "
            "--stock_high"
        )
    if result["unsound"]:
        print(f"warning: the solution may not be optimal: {result['unsound']}")
    else:
        print(f"error at most {result['error_bound']:.2g}, after {result['sweeps']} sweeps")


def parse(argv: list[str], values: absl_flags.FlagValues = absl_flags.FLAGS) -> SolveConfig:
    """Parses a command line; arguments and errors as in `flags.parse_config`."""
    if command_line.asks_for_help(argv):
        for title, known in (("Objectives", objectives.REGISTRY), ("Gridworlds", gridworlds.GRIDWORLDS)):
            command_line.add_to_help(f"{title}:\n{command_line.columns(listing.in_a_line(known))}")
    return flags.parse_config(SolveConfig(), argv, values)


def main(config: SolveConfig) -> None:
    """Solves the MDP of a command line."""
    run(config)
