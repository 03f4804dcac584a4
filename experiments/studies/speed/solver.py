r"""Measures how fast distributional value iteration sweeps here, against copying memory on the same machine.

    python -m experiments.studies.speed.solver --states=100 --actions=4 --stocks=201 --atoms=201

prints cells per second (a cell is a state, action, stock and atom), bytes per second, their share of what
copying reaches in the same process, how much longer a sweep takes when one of the factors doubles, and the
time to convergence; with --out=FILE it writes them as JSON. Two ways are measured:

    by numbers        expected utilities: one number scores each action, and only the distribution of the best
                      action is computed
    by distributions  any other functional: the look-ahead distributions of all actions are read

Bytes are those of the distributions that a sweep reads and writes, in float32: one read of each distribution
in a look-ahead, with K outcomes and two neighbouring stocks, and one write of each new distribution. Indices,
weights and tables are not counted, and caches may serve the reads. By numbers, only the look-ahead of the
best action needs distributions; cells count all actions, because all of them are solved. Copying is measured
as reading and writing an array in a loop like that of the sweeps: one array of 256 MB, and one as large as
the distributions, which caches may serve. Shares are relative to the first one. numpy.copyto of 256 MB, with
one thread, is measured as a check. Data are random: speed depends on shapes alone.
"""

import dataclasses
import functools
import os
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import rich.table
from absl import flags as absl_flags

from valuelab.distributional import bellman, distribution_representations, objectives, solvers, stock_grids
from valuelab.distributional.bellman import SolverSetting
from valuelab.distributional.mdps import MDP
from valuelab.distributional.objectives import Objective
from valuelab.distributional.return_distributions import DistributionRepresentation
from valuelab.runs import flags, outputs

_STATES = absl_flags.DEFINE_integer("states", 100, "Number of states.", 1)
_ACTIONS = absl_flags.DEFINE_integer("actions", 4, "Number of actions.", 1)
_OUTCOMES = absl_flags.DEFINE_integer("outcomes", 2, "Outcomes of a state and action.", 1)
_STOCKS = absl_flags.DEFINE_integer("stocks", 201, "Points of the stock grid.", 2)
_ATOMS = absl_flags.DEFINE_integer("atoms", 201, "Atoms of a distribution.", 2)
_DISCOUNT = absl_flags.DEFINE_float("discount", 0.95, "γ.", 0.01, 0.999)
_ROUNDS = absl_flags.DEFINE_integer("rounds", 5, "How often all is timed in turn; the fastest counts.", 1)
_OUT = absl_flags.DEFINE_string("out", "", "JSON file to write.")

NEIGHBOURS = 2
"""Stocks that a stock is split among, on a line."""

MEMORY = 1 << 26
"""Numbers of an array that no cache holds."""

FACTORS = ("states", "actions", "stocks", "atoms")


class Shape(NamedTuple):
    """The size of a problem."""

    states: int
    actions: int
    outcomes: int
    stocks: int
    atoms: int

    @property
    def cells(self) -> int:
        """Of states, actions, stocks and atoms."""
        return self.states * self.actions * self.stocks * self.atoms

    def bytes_moved(self, by_distributions: bool) -> int:
        """Of distributions, in one sweep: see the top of this file."""
        reads = NEIGHBOURS * self.outcomes * (1 + (self.actions if by_distributions else 0))
        return 4 * self.states * self.stocks * self.atoms * (reads + 1)


class Problem(NamedTuple):
    """What is solved: random, and with grids that hold all its returns."""

    mdp: MDP
    representation: DistributionRepresentation
    grid: stock_grids.StockGrid


def make_problem(shape: Shape, discount: float) -> Problem:
    """A random problem of a size; rewards lie in [-1, 1]."""
    random = np.random.default_rng(0)
    pairs = shape.states, shape.actions, shape.outcomes
    mdp = MDP(
        random.dirichlet(np.ones(shape.outcomes), pairs[:2]).astype(np.float32),
        random.integers(0, shape.states, pairs).astype(np.int32),
        random.uniform(-1, 1, (*pairs, 1)).astype(np.float32),
        np.zeros(shape.states, bool),
    )
    reach = 1 / (1 - discount)
    support = distribution_representations.categorical(np.linspace(-reach, reach, shape.atoms))
    return Problem(mdp, support, stock_grids.uniform([-reach], [reach], [shape.stocks]))


def sweeper(problem: Problem, objective: Objective, discount: float) -> Callable[[int], Any]:
    """(number of sweeps) -> what they lead to: one program, timed for different numbers."""
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
    """(number of copies) -> so many float32 numbers, after as many times reading and writing them."""

    @jax.jit
    def copies(count):
        return jax.lax.fori_loop(0, count, lambda _, array: array * 0.5, jnp.ones(size))

    return copies


def numpy_copier(size: int) -> Callable[[int], Any]:
    """(number of copies) -> as many by numpy, from one array to another."""
    source, target = np.ones(size, np.float32), np.zeros(size, np.float32)

    def copies(count):
        for _ in range(count):
            np.copyto(target, source)

    return copies


class Loop(NamedTuple):
    """A program whose argument says how often it goes round, and two such numbers to time it at."""

    program: Callable[[int], Any]
    few: int
    many: int


def fastest(loops: dict[str, Loop], rounds: int) -> dict[str, float]:
    """Seconds of going round once, by the difference of the fastest long run and the fastest short one.

    All are timed in turn, so that what else the machine does falls on all alike.
    """

    def seconds(loop: Loop, count: int) -> float:
        start = time.perf_counter()
        jax.block_until_ready(loop.program(count))
        return time.perf_counter() - start

    for loop in loops.values():
        seconds(loop, loop.few)  # compiles
    short, long = (
        {
            name: min(seconds(loop, getattr(loop, which)) for _ in range(rounds))
            for name, loop in loops.items()
        }
        for which in ("few", "many")
    )
    return {name: (long[name] - short[name]) / (loop.many - loop.few) for name, loop in loops.items()}


def objective_of(by_distributions: bool) -> Objective:
    """CVaR as it is, or as a functional of which no utility is known."""
    objective = objectives.lower_cvar(0.1)
    return dataclasses.replace(objective, utility=None) if by_distributions else objective


def measure(shape: Shape, discount: float, rounds: int) -> dict[str, Any]:
    """Cells and bytes per second of both ways, copying, and what doubling a factor costs."""
    report: dict[str, Any] = {}
    small = shape._replace(states=max(1, shape.states // 4))
    doubled = {name: small._replace(**{name: 2 * getattr(small, name)}) for name in FACTORS}
    for way, by_distributions in (("by numbers", False), ("by distributions", True)):
        few, many = (1, 3) if by_distributions else (5, 25)

        def timed(
            size: Shape, by_distributions: bool = by_distributions, few: int = few, many: int = many
        ) -> Loop:
            return Loop(
                sweeper(make_problem(size, discount), objective_of(by_distributions), discount), few, many
            )

        distributions = shape.states * shape.stocks * shape.atoms
        loops = {"sweep": timed(shape)}
        loops |= {"memory": Loop(copier(MEMORY), 2, 12), "cache": Loop(copier(distributions), 10, 110)}
        loops |= {"numpy": Loop(numpy_copier(MEMORY), 2, 12)}
        loops |= {"base": timed(small)} | {name: timed(size) for name, size in doubled.items()}
        seconds = fastest(loops, rounds)
        moved = shape.bytes_moved(by_distributions) / seconds["sweep"]
        copied = 8 * MEMORY / seconds["memory"]
        report[way] = {
            "seconds_per_sweep": seconds["sweep"],
            "cells_per_second": shape.cells / seconds["sweep"],
            "bytes_per_second": moved,
            "copy_bytes_per_second": copied,
            "copy_bytes_per_second_in_cache": 8 * distributions / seconds["cache"],
            "copy_bytes_per_second_by_numpy": 8 * MEMORY / seconds["numpy"],
            "share_of_copy": moved / copied,
            "growth_when_doubled": {name: seconds[name] / seconds["base"] for name in FACTORS},
        }
    return report


def converge(shape: Shape, discount: float) -> dict[str, Any]:
    """The sweeps and seconds until a sweep changes distributions by less than 1e-4 of the greatest return."""
    mdp, representation, grid = make_problem(shape, discount)
    solve = functools.partial(
        solvers.value_iteration,
        discount=discount,
        representation=representation,
        stocks=grid,
        tolerance=1e-4 / (1 - discount),
    )
    elapsed = []
    for _ in range(2):  # the first one compiles
        start = time.perf_counter()
        solution = jax.block_until_ready(solve(mdp, objective_of(by_distributions=False)))
        elapsed.append(time.perf_counter() - start)
    return {"sweeps": int(solution.sweeps), "seconds": elapsed[1], "compile_seconds": elapsed[0] - elapsed[1]}


def main(_: list[str]) -> None:
    """Measures what a command line asks for."""
    out = outputs.prepare_file("out", _OUT.value)
    shape = Shape(_STATES.value, _ACTIONS.value, _OUTCOMES.value, _STOCKS.value, _ATOMS.value)
    report = measure(shape, _DISCOUNT.value, _ROUNDS.value)
    report["convergence"] = converge(shape, _DISCOUNT.value)

    title = ", ".join(f"{size} {name}" for name, size in shape._asdict().items())
    table = rich.table.Table("measure", "by numbers", "by distributions", title=title)
    rows = {
        "ms per sweep": ("seconds_per_sweep", 1e3),
        "million cells/s": ("cells_per_second", 1e-6),
        "GB/s of distributions": ("bytes_per_second", 1e-9),
        "GB/s copied in memory": ("copy_bytes_per_second", 1e-9),
        "GB/s copied in caches": ("copy_bytes_per_second_in_cache", 1e-9),
        "GB/s copied by numpy": ("copy_bytes_per_second_by_numpy", 1e-9),
        "share of copying in memory, %": ("share_of_copy", 100),
    }
    ways = [report["by numbers"], report["by distributions"]]
    for label, (name, unit) in rows.items():
        table.add_row(label, *(f"{way[name] * unit:,.1f}" for way in ways))
    for name in FACTORS:
        table.add_row(
            f"time when {name} double", *(f"x {way['growth_when_doubled'][name]:.2f}" for way in ways)
        )
    reached = report["convergence"]
    table.add_row("to convergence", f"{reached['seconds']:.1f} s, {reached['sweeps']} sweeps", "")
    outputs.show(table)
    if out:
        facts = {"shape": shape._asdict(), "discount": _DISCOUNT.value}
        facts |= {
            "device": outputs.device(),
            "versions": outputs.versions(),
            "load_average": os.getloadavg()[0],
        }
        outputs.write_json(out, facts | report)


if __name__ == "__main__":
    flags.run(main, flags.parse_flags)
