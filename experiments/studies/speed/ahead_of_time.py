r"""What does the program of every agent need on TPUs and GPUs, and what bounds it?

    python -m experiments.studies.speed.ahead_of_time --out=benchmarks/ahead_of_time.json

compiles all programs for all topologies, see experiments.ahead_of_time, and writes the reports. The same
command again compiles only what has changed: a report holds the checksum of its program, and the versions of
JAX and of the compilers. So the command can be stopped at any time. --programs=iql --programs=fql
--topologies=h200 chooses a part.

Agents have their full sizes, 28 observations, 5 actions and batches of 256. v5e:2x4 and h200:8 train two
seeds with four shards of each batch, v5p:4x4x4 eight seeds with eight shards, h200 one seed. Programs without
seeds, the solvers, use one device.
"""

import dataclasses
import functools
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
import rich.console
from absl import flags as absl_flags

from experiments.studies.speed import solver
from experiments.studies.speed.solver import SolverSpeedConfig
from valuelab import errors, files
from valuelab.errors import InputError
from valuelab.runs import ahead_of_time, flags, outputs
from valuelab.training import topologies
from valuelab.training.ahead_of_time import Lowered, compile_and_report, described, lower
from valuelab.training.topologies import Topology

MESHES = {"v5e:2x4": "2,4", "v5p:4x4x4": "8,8", "h200": "1,1", "h200:8": "2,4"}
"""Topology -> the mesh for which training programs are compiled."""
VERSIONS = ("jax", "jaxlib", "flax", "optax")
SIMULATOR = "--environment=gymnasium/Pendulum-v1"  # its step is replaced: only the shapes count
OTHER_DATA = ("eta_network", "qrl")
"""Agents that need other data: discrete actions, or goals."""
ONLINE = {
    "sac online": ("--agent=sac:pendulum", SIMULATOR),
    "iql online": ("--agent=iql", SIMULATOR),
    "eta_network in a gridworld": ("--agent=eta_network:target", "--environment=gridworld/target"),
}
"""Programs that act while they learn -> their flags."""


def programs() -> dict[str, Callable[[Topology], Lowered]]:
    """Name -> (topology) -> the program."""
    offline = [name for name in flags.known_agents() if name not in OTHER_DATA]
    training = {name: (f"--agent={name}",) for name in offline} | ONLINE
    made: dict[str, Callable[[Topology], Lowered]] = {
        name: functools.partial(lower_training, words) for name, words in training.items()
    }
    for way, by_distributions in (("by numbers", False), ("by distributions", True)):
        made[f"solver {way}"] = functools.partial(lower_solver, by_distributions)
    return made


def lower_training(words: tuple[str, ...], topology: Topology) -> Lowered:
    """The training program of flags."""
    line = ["ahead_of_time", *words, f"--topology={topology.name}", f"--mesh={MESHES[topology.name]}"]
    config, make_agent = ahead_of_time.parse(line, absl_flags.FlagValues())
    return ahead_of_time.lower(config, make_agent, topology)


def lower_solver(by_distributions: bool, topology: Topology) -> Lowered:
    """The sweeps of value iteration on the problem of speed.solver, on one device."""
    size = SolverSpeedConfig(stocks=51, atoms=51)  # larger ones take minutes to compile for a TPU
    problem, objective = solver.make_problem(size), solver.objective_of(by_distributions)
    sweeps: Any = solver.sweeper(problem, objective, size.discount)
    sharding: Any = jax.sharding.SingleDeviceSharding(topology.devices[0])
    mdp, count = described(problem.mdp, sharding), jax.ShapeDtypeStruct((), np.int32)
    return lower(sweeps.func.trace(mdp, objective, count), data=mdp)


@dataclasses.dataclass(frozen=True)
class TableConfig:
    """The part of the table that is made.

    Attributes:
        programs: names of programs; empty for all.
        topologies: names of topologies; empty for all.
        out: the JSON file.
    """

    programs: tuple[str, ...] = ()
    topologies: tuple[str, ...] = ()
    out: str = ""


def run(config: TableConfig) -> None:
    """Compiles what has changed, and writes the file after each program.

    Raises:
        InputError: for a name that is not known, or a file that cannot be used.
    """
    known = programs()
    for kind, given, names in (
        ("program", config.programs, known),
        ("topology", config.topologies, MESHES),
    ):
        for name in given:
            if name not in names:
                raise errors.unknown(kind, name, names)
    out = outputs.prepare_file("out", config.out)
    if out is None:
        raise InputError("no file is given: write --out=benchmarks/ahead_of_time.json")
    table = _read(out)
    console = rich.console.Console(markup=False)
    for topology_name in config.topologies or MESHES:
        with topologies.quiet():
            topology = topologies.describe(topology_name)
        versions = topologies.versions(topology) | {
            name: version for name, version in outputs.versions().items() if name in VERSIONS
        }
        for name in config.programs or known:
            rows = table.setdefault(name, {})
            row, line = _row(known[name], topology, versions, rows.get(topology_name))
            rows[topology_name] = row
            console.print(f"{name}, {topology_name}: {line}")
            order = {each: table[each] for each in sorted(table)}
            outputs.write_json(out, {"programs": order})
            jax.clear_caches()


def _row(
    make: Callable[[Topology], Lowered],
    topology: Topology,
    versions: Mapping[str, str],
    before: Mapping[str, Any] | None,
) -> tuple[dict[str, Any], str]:
    """The report on a program, and a line about it; the earlier report if the program is the same."""
    with topologies.quiet():
        program = make(topology)
        key = {"program": program.digest, "versions": dict(versions)}
        if before and {name: before.get(name) for name in key} == key:
            return dict(before), "unchanged"
        try:
            report, _ = compile_and_report(program, topology.accelerator)
        except InputError as error:  # it does not fit
            return {**key, "error": str(error)}, str(error)
    sizes = {"num_devices": program.num_devices, "num_members": program.num_members}
    row = {**sizes, **report.to_json(), **key}
    then = before["kernels"]["with_collectives"] if before and "kernels" in before else "none"
    now = row["kernels"]["with_collectives"]
    return row, f"{now} kernels (before: {then}), compiled in {report.compile_seconds:.0f} s"


def _read(path: pathlib.Path) -> dict[str, dict[str, Any]]:
    """The table of an earlier command; empty if there is none."""
    if not path.exists():
        return {}
    what = "table of compiled programs"
    return files.read_json(path, what, "give another --out", programs=dict)["programs"]


def parse(argv: list[str], values: absl_flags.FlagValues = absl_flags.FLAGS) -> TableConfig:
    """The settings that the command line describes."""
    return flags.parse_config(TableConfig(), argv, values)


if __name__ == "__main__":
    flags.run(run, parse)
