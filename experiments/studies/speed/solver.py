r"""How fast does distributional value iteration sweep, relative to copying memory on the same machine?

    python -m experiments.studies.speed.solver --states=100 --actions=4 --stocks=201 --atoms=201

prints cells per second (a cell is a state, action, stock and atom), bytes per second, their share of what
copying reaches in the same process, how much longer a sweep takes when one of the sizes doubles, and the time
to convergence. With --out=FILE, FILE gets all numbers as JSON. There are two ways to choose actions:

    by numbers        for expected utilities: one number scores each action, and only the return distribution
                      of the best action is computed
    by distributions  for any other functional: it reads the return distributions of all actions

Bytes count the return distributions of a sweep in float32. A look-ahead over K outcomes reads each
distribution at two neighbouring stocks, and each computed distribution is written once. Indices, weights and
tables are not counted, and caches may serve the reads. By numbers, only the best action needs distributions,
but all actions count as cells, because all are solved.

Copying reads and writes an array in a loop like that of the sweeps. One array has 256 MB; shares are relative
to it. The other is as large as the return distributions, so caches may serve it. numpy.copyto copies 256 MB
with one thread, as a check. The data are random, because the speed only depends on shapes.

Convergence is measured in two ways, in turn: with the return distributions of all states and stocks in every
sweep, and with values alone, followed by simulated episodes of the policy.

Measured with this command on two CPU cores (benchmarks/solver_cpu.json): by numbers a sweep takes 11 ms, 1.5
billion cells per second and 21 % of copying; by distributions it reaches 3 % of copying. Convergence
is 7.2 times as fast with values first.
"""

import dataclasses
import functools
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import rich.table
from absl import flags as absl_flags

from experiments.studies.speed import reports
from valuelab.configuration import check_ranges
from valuelab.distributional import (
    bellman,
    distribution_representations,
    episodes,
    objectives,
    solvers,
    stock_grids,
)
from valuelab.distributional.bellman import SolverSetting
from valuelab.distributional.mdps import MDP
from valuelab.distributional.objectives import Objective
from valuelab.distributional.return_distributions import Atoms, DistributionRepresentation
from valuelab.runs import flags, outputs

NEIGHBOURS = 2
"""The number of grid points among which a stock on a line is split."""

LARGE_ARRAY = 1 << 26
"""The size of an array that does not fit in any cache."""

SIZES = ("states", "actions", "stocks", "atoms")


@dataclasses.dataclass(frozen=True)
class SolverSpeedConfig:
    """The size of the random MDP, and the settings of the measurement.

    Attributes:
        states: number of states.
        actions: number of actions.
        outcomes: number of outcomes of a state and action.
        stocks: points of the stock grid.
        atoms: atoms of a return distribution.
        discount: γ.
        rounds: number of rounds in which all programs are timed in turn; the fastest round counts.
        out: JSON file to write; empty for none.
    """

    states: int = 100
    actions: int = 4
    outcomes: int = 2
    stocks: int = 201
    atoms: int = 201
    discount: float = 0.95
    rounds: int = 5
    out: str = ""

    def __post_init__(self) -> None:
        at_least_one = dict.fromkeys(("states", "actions", "outcomes", "rounds"), "[1, inf)")
        check_ranges(self, **at_least_one, stocks="[2, inf)", atoms="[2, inf)", discount="[0.01, 0.999]")

    @property
    def shape(self) -> dict[str, int]:
        """The sizes of the MDP, its grid of stocks and its return distributions, by name."""
        return {name: getattr(self, name) for name in ("states", "actions", "outcomes", "stocks", "atoms")}

    @property
    def cells(self) -> int:
        """The number of combinations of a state, action, stock and atom."""
        return self.states * self.actions * self.stocks * self.atoms

    @property
    def numbers(self) -> int:
        """The number of probabilities of the return distributions of all states and stocks."""
        return self.states * self.stocks * self.atoms

    def bytes_moved(self, by_distributions: bool) -> int:
        """Bytes of return distributions read and written in one sweep, as defined at the top of this file."""
        reads = NEIGHBOURS * self.outcomes * (1 + (self.actions if by_distributions else 0))
        return 4 * self.numbers * (reads + 1)


class RandomProblem(NamedTuple):
    """A random MDP, with a distribution representation and a grid of stocks that hold all its returns."""

    mdp: MDP
    representation: DistributionRepresentation
    grid: stock_grids.StockGrid


def make_problem(size: SolverSpeedConfig) -> RandomProblem:
    """Makes a random problem with rewards in [-1, 1]."""
    random = np.random.default_rng(0)
    pairs = size.states, size.actions, size.outcomes
    mdp = MDP(
        random.dirichlet(np.ones(size.outcomes), pairs[:2]).astype(np.float32),
        random.integers(0, size.states, pairs).astype(np.int32),
        random.uniform(-1, 1, (*pairs, 1)).astype(np.float32),
        np.zeros(size.states, bool),
    )
    reach = 1 / (1 - size.discount)
    support = distribution_representations.categorical(np.linspace(-reach, reach, size.atoms))
    return RandomProblem(mdp, support, stock_grids.uniform([-reach], [reach], [size.stocks]))


def sweeper(problem: RandomProblem, objective: Objective, discount: float) -> Callable[[int], Any]:
    """(number of sweeps) -> return distributions after them; one program for all numbers."""
    mdp, representation, grid = problem
    setting = SolverSetting(representation=representation, discount=discount, infinite=True, optimal=True)

    @jax.jit
    def sweeps(mdp, objective, count):
        low, high = bellman.infinite_return_range(mdp, discount)
        transitions = bellman.make_transitions(setting, mdp, objective, grid, grid, low, high)
        step = functools.partial(bellman.sweep, setting, mdp, objective, grid, transitions, policy=None)
        start = bellman.terminal_backup(setting, mdp, grid, low.dtype)
        return jax.lax.fori_loop(0, count, lambda _, before: step(before)[0], start)

    return functools.partial(sweeps, mdp, objective)


def copier(size: int) -> Callable[[int], Any]:
    """(number of copies) -> `size` float32 numbers, after reading and writing them as many times."""

    @jax.jit
    def copies(count):
        return jax.lax.fori_loop(0, count, lambda _, array: array * 0.5, jnp.ones(size))

    return copies


def numpy_copier(size: int) -> Callable[[int], Any]:
    """(number of copies) -> None, after numpy has copied `size` float32 numbers as many times."""
    source, target = np.ones(size, np.float32), np.zeros(size, np.float32)

    def copies(count):
        for _ in range(count):
            np.copyto(target, source)

    return copies


class Loop(NamedTuple):
    """A program whose argument is its number of iterations, and the two numbers with which it is timed."""

    program: Callable[[int], Any]
    few: int
    many: int


def seconds_per_iteration(loops: Mapping[str, Loop], rounds: int) -> dict[str, float]:
    """Times loops in turn, so that changes in the speed of the machine affect all of them alike.

    Args:
        loops: name -> loop.
        rounds: number of rounds; in each, every loop runs once with few and once with many iterations.

    Returns:
        Name -> seconds per iteration: the difference of the fastest run with many iterations and the fastest
        with few, over the difference of the numbers of iterations.
    """

    def seconds(loop: Loop, count: int) -> float:
        start = time.perf_counter()
        jax.block_until_ready(loop.program(count))
        return time.perf_counter() - start

    for loop in loops.values():
        seconds(loop, loop.few)  # compiles
    timings = [
        {name: (seconds(loop, loop.few), seconds(loop, loop.many)) for name, loop in loops.items()}
        for _ in range(rounds)
    ]

    def per_iteration(name: str, loop: Loop) -> float:
        few, many = (min(timing[name][index] for timing in timings) for index in (0, 1))
        return (many - few) / (loop.many - loop.few)

    return {name: per_iteration(name, loop) for name, loop in loops.items()}


def objective_of(by_distributions: bool) -> Objective:
    """CVaR with its utility, or as a functional without a known utility."""
    objective = objectives.lower_cvar(0.1)
    return dataclasses.replace(objective, utility=None) if by_distributions else objective


def measure(config: SolverSpeedConfig) -> dict[str, Any]:
    """Cells and bytes per second of both ways, copying, and the cost of doubling each size."""
    report: dict[str, Any] = {}
    small = dataclasses.replace(config, states=max(1, config.states // 4))
    doubled = {name: dataclasses.replace(small, **{name: 2 * getattr(small, name)}) for name in SIZES}
    for way, by_distributions in (("by numbers", False), ("by distributions", True)):
        few, many = (1, 3) if by_distributions else (5, 25)
        objective = objective_of(by_distributions)
        sizes = {"sweep": config, "base": small} | doubled
        loops = {
            name: Loop(sweeper(make_problem(size), objective, size.discount), few, many)
            for name, size in sizes.items()
        } | {
            "memory": Loop(copier(LARGE_ARRAY), 2, 12),
            "cache": Loop(copier(config.numbers), 10, 110),
            "numpy": Loop(numpy_copier(LARGE_ARRAY), 2, 12),
        }
        seconds = seconds_per_iteration(loops, config.rounds)
        moved = config.bytes_moved(by_distributions) / seconds["sweep"]
        copied = 8 * LARGE_ARRAY / seconds["memory"]
        report[way] = {
            "seconds_per_sweep": seconds["sweep"],
            "cells_per_second": config.cells / seconds["sweep"],
            "bytes_per_second": moved,
            "copy_bytes_per_second": copied,
            "copy_bytes_per_second_in_cache": 8 * config.numbers / seconds["cache"],
            "copy_bytes_per_second_by_numpy": 8 * LARGE_ARRAY / seconds["numpy"],
            "share_of_copy": moved / copied,
            "growth_when_doubled": {name: seconds[name] / seconds["base"] for name in SIZES},
        }
    return report


def converge(config: SolverSpeedConfig) -> dict[str, Any]:
    """Times value iteration until a sweep changes results by at most 1e-4 / (1 - γ), in two ways.

    One way computes the return distributions of all states and stocks in every sweep. The other computes
    values alone, and then simulates episodes of the policy from one state and stock.
    """
    mdp, representation, grid = make_problem(config)
    solve = functools.partial(
        solvers.value_iteration,
        mdp,
        objective_of(by_distributions=False),
        discount=config.discount,
        stocks=grid,
        tolerance=1e-4 / (1 - config.discount),
    )
    state, place = 0, grid.size // 2

    def values_first():
        solution = solve(representation=None)
        stock = np.asarray(grid.stocks)[place : place + 1]
        simulate = functools.partial(episodes.distributions, mdp, solution.policy, grid)
        return solution, simulate(np.array([state]), stock, discount=config.discount)

    ways = {"every sweep": lambda: solve(representation=representation), "values first": values_first}
    results, compiling = {}, {}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(config.rounds + 1):
        for name, way in ways.items():
            start = time.perf_counter()
            results[name] = jax.block_until_ready(way())
            elapsed = time.perf_counter() - start
            if turn:
                seconds[name].append(elapsed)
            else:
                compiling[name] = elapsed
    every, (first, simulated) = results["every sweep"], results["values first"]
    held = jax.tree.map(lambda leaf: leaf[state, place], representation.atoms(every.distributions))
    ratios = np.divide(seconds["every sweep"], seconds["values first"])
    return {
        "sweeps": {"every sweep": int(every.sweeps), "values first": int(first.sweeps)},
        "seconds": {name: float(np.median(of_way)) for name, of_way in seconds.items()},
        "first_run_seconds": compiling,
        "times_as_fast": {
            name: float(np.quantile(ratios, level))
            for name, level in (("median", 0.5), ("least", 0), ("greatest", 1))
        },
        "standard_deviation": {
            "every sweep": _deviation(held),
            "values first": _deviation(jax.tree.map(lambda leaf: leaf[0], simulated)),
        },
    }


def _deviation(atoms: Atoms) -> float:
    """The standard deviation of a distribution of scalars."""
    points, probabilities = atoms.values[:, 0], atoms.probabilities
    return float(jnp.sqrt(probabilities @ (points - probabilities @ points) ** 2))


def show(config: SolverSpeedConfig, report: Mapping[str, Any]) -> None:
    """Prints a table of the measurements."""
    title = ", ".join(f"{size} {name}" for name, size in config.shape.items())
    table = rich.table.Table("measure", "by numbers", "by distributions", title=title)
    rows = {
        "ms per sweep": ("seconds_per_sweep", 1e3),
        "million cells/s": ("cells_per_second", 1e-6),
        "GB/s of return distributions": ("bytes_per_second", 1e-9),
        "GB/s copied in memory": ("copy_bytes_per_second", 1e-9),
        "GB/s copied in caches": ("copy_bytes_per_second_in_cache", 1e-9),
        "GB/s copied by numpy": ("copy_bytes_per_second_by_numpy", 1e-9),
        "share of copying in memory, %": ("share_of_copy", 100),
    }
    ways = [report["by numbers"], report["by distributions"]]
    for label, (name, unit) in rows.items():
        table.add_row(label, *(f"{way[name] * unit:,.1f}" for way in ways))
    for name in SIZES:
        factors = (f"x {way['growth_when_doubled'][name]:.2f}" for way in ways)
        table.add_row(f"time when the number of {name} doubles", *factors)
    convergence = report["convergence"]
    for name, seconds in convergence["seconds"].items():
        row = f"to convergence, {name}", f"{seconds:.2f} s, {convergence['sweeps'][name]} sweeps", ""
        table.add_row(*row)
    ratio = convergence["times_as_fast"]
    spread = f"{ratio['median']:.1f} ({ratio['least']:.1f} to {ratio['greatest']:.1f}) times as fast"
    table.add_row("values first", spread, "")
    outputs.show(table)


def parse(argv: list[str], values: absl_flags.FlagValues = absl_flags.FLAGS) -> SolverSpeedConfig:
    """The settings that the command line describes."""
    return flags.parse_config(SolverSpeedConfig(), argv, values)


def main(config: SolverSpeedConfig) -> None:
    """Measures, prints and writes as the command line describes."""
    out = outputs.prepare_file("out", config.out)
    report = measure(config)
    report["convergence"] = converge(config)
    show(config, report)
    reports.write(out, {"shape": config.shape, "discount": config.discount}, report)


if __name__ == "__main__":
    flags.run(main, parse)
