"""Compiles the training program of a run for devices that are only described, and reports on it."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import rich.table
from absl import flags as absl_flags

from valuelab import configuration, files
from valuelab.configuration import RunConfig, check_ranges
from valuelab.data.normalization import IDENTITY
from valuelab.errors import InputError
from valuelab.runs import flags, inputs, outputs
from valuelab.training import ahead_of_time, make_mesh, throughput, topologies
from valuelab.training.ahead_of_time import Lowered
from valuelab.training.experience import Experience, mixed, offline, online
from valuelab.training.topologies import Topology
from valuelab.types import MakeAgent, Sampler, Spec

ADVICE = "give a file that experiments.ahead_of_time wrote with --out"


@dataclasses.dataclass(frozen=True)
class ShapesConfig(RunConfig):
    """The settings of a run on random data, whose shapes they give.

    Attributes:
        observation_dim: numbers in an observation.
        action_dim: numbers in an action.
        num_actions: number of discrete actions; 0 for continuous actions.
    """

    observation_dim: int = 17
    action_dim: int = 6
    num_actions: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least_one = dict.fromkeys(("observation_dim", "action_dim"), "[1, inf)")
        check_ranges(self, **at_least_one, num_actions="[0, inf)")

    @property
    def spec(self) -> Spec:
        """The shapes of random data."""
        return Spec(
            observation_shape=(self.observation_dim,),
            observation_dtype="float32",
            action_dim=0 if self.num_actions else self.action_dim,
            num_actions=self.num_actions,
            reward_min=-1.0,
            reward_max=0.0,
            num_updates=self.steps,
        )


@dataclasses.dataclass(frozen=True)
class AheadOfTimeConfig(ShapesConfig):
    """The settings of a run, and the devices for which its program is compiled.

    Attributes:
        topology: devices, such as v5e:2x4 or h200:8; `valuelab list topologies` names the usual ones.
        microseconds_per_kernel: time that a GPU takes from one kernel to the next.
        out: JSON file for all numbers; empty for none.
        compare: file that an earlier command wrote with --out; the table shows what has changed since. Empty
            for none.
        text: file for the text of the compiled program; empty for none.
    """

    observation_dim: int = 28
    action_dim: int = 5
    topology: str = ""
    microseconds_per_kernel: float = ahead_of_time.MICROSECONDS_PER_KERNEL
    out: str = ""
    compare: str = ""
    text: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_ranges(self, microseconds_per_kernel="[0, inf)")


def find(config: ShapesConfig) -> inputs.RunInputs:
    """The inputs of the run: its dataset and environment, or random data if it has neither."""
    if not (config.dataset or config.environment):
        sampler = throughput.synthetic_sampler(config.spec, config.batch_size, shapes_only=True)
        return inputs.RunInputs(offline(sampler), config.spec, IDENTITY)
    found = inputs.find_inputs(config)
    return found._replace(experience=_on_device(config, found))


def _on_device(config: RunConfig, found: inputs.RunInputs) -> Experience:
    """The source of batches without a simulator on the host, see `ahead_of_time.on_device`."""
    experience = found.experience
    if experience.environment is None:
        return experience
    environment = ahead_of_time.on_device(experience.environment)
    if environment is experience.environment:
        return experience
    if not config.dataset:
        return online(environment, config.batch_size, config.interaction)
    sampler = Sampler(
        arrays=experience.arrays,
        draw=lambda arrays, key: key,
        gather=experience.example,  # draws and gathers
        batch_size=experience.batch_size,
        num_transitions=found.amounts["transitions"],
    )
    return mixed(sampler, environment, config.interaction, config.offline_steps)


def lower(config: AheadOfTimeConfig, make_agent: MakeAgent, topology: Topology) -> Lowered:
    """The training program of a run for a topology.

    Raises:
        InputError: for settings that cannot be used, or a mesh that does not fit.
    """
    members = configuration.population(config)
    if members.size == 1 and config.mesh:  # one member cannot be shared out: one for each place of the axis
        config = dataclasses.replace(config, num_seeds=config.mesh[0])
        members = configuration.population(config)
    mesh = make_mesh(members.size, config.batch_size, config.mesh or None, topology.devices)
    found = find(config)
    build = inputs.make_builder(config, make_agent, found.spec, found.normalization)
    intervals = (config.log_every, config.eval_every, config.checkpoint_every)
    return ahead_of_time.lower_training(
        build, found.experience, mesh, members.size, members.hyperparameters, intervals
    )


def run(config: AheadOfTimeConfig, make_agent: MakeAgent) -> dict[str, Any]:
    """Compiles the program of a run, prints the report, and writes the files.

    Returns:
        The settings and the report, as written.

    Raises:
        InputError: for settings that cannot be used, and when the program does not fit the device.
    """
    if not config.topology:
        raise InputError(
            f"no topology is given: write --topology=NAME, with one of {', '.join(topologies.names())}"
        )
    out = outputs.prepare_file("out", config.out)
    text_file = outputs.prepare_file("text", config.text)
    before = _read(config.compare) if config.compare else {}
    with topologies.quiet():
        topology = topologies.describe(config.topology)
        program = lower(config, make_agent, topology)
        report, text = ahead_of_time.compile_and_report(
            program, topology.accelerator, config.microseconds_per_kernel
        )
    facts = {
        "agent": config.agent_source,
        "topology": config.topology,
        "mesh": list(config.mesh),
        "num_devices": program.num_devices,
        "num_members": program.num_members,
        "batch_size": config.batch_size,
        "dataset": config.dataset,
        "environment": config.environment,
        "settings": configuration.to_json(config.agent),
        **outputs.code(),
        **report.to_json(),
    }
    if out:
        outputs.write_json(out, facts)
    if text_file:
        files.replace_file(text_file, text)
    show(facts, before)
    ahead_of_time.check_fits(program, topology.accelerator, report.memory)
    return facts


def _read(path: str) -> dict[str, Any]:
    """The content of a file that an earlier command wrote."""
    kinds: dict[str, type] = dict.fromkeys(("memory", "kernels", "collectives", "seconds"), dict)
    kinds |= dict.fromkeys(("agent", "topology"), str) | dict.fromkeys(("num_members", "num_devices"), int)
    return files.read_json(
        outputs.local_path("compare", path), "a report on a compiled program", ADVICE, **kinds
    )


def show(facts: Mapping[str, Any], before: Mapping[str, Any]) -> None:
    """Prints the report as a table, with a column for an earlier one if there is one."""
    now, then = _rows(facts), _rows(before) if before else {}
    title = _program(facts)
    headings = ["on each device, in one update of all members", "value"]
    table = rich.table.Table(*headings, *(["before", "change"] if then else []), title=title)
    for name in dict.fromkeys([*now, *then]):
        new, old = now.get(name, 0), then.get(name, 0)
        change = (
            f"{new / old - 1:+.1%}"
            if all(isinstance(each, int | float) and each for each in (new, old))
            else ""
        )
        table.add_row(name, _written(new), *([_written(old), change if new != old else ""] if then else []))
    outputs.show(table)
    if before and _program(before) != title:
        print(f"note: the column 'before' is another program: {_program(before)}")
    memory = facts["memory"]
    if memory["fits"]:
        share = _written(100 * memory["total"] / memory["capacity"])
        print(f"fits: the program uses {share} % of the {memory['capacity'] / 1e9:.1f} GB of a device")


def _program(facts: Mapping[str, Any]) -> str:
    """The agent, the number of members and the devices of a report, for a title."""
    mesh = ",".join(map(str, facts.get("mesh", ())))
    return (
        f"{facts['agent']}, {facts['num_members']} member(s) on {facts['num_devices']} device(s) of "
        f"{facts['topology']}{mesh and f', mesh {mesh}'}"
    )


def _rows(facts: Mapping[str, Any]) -> dict[str, Any]:
    """The rows of the table: name -> number or text."""
    memory, kernels = facts["memory"], facts["kernels"]
    rows: dict[str, Any] = {
        f"memory of {name}, MB": memory[name] / 1e6
        for name in ("arguments", "temporaries", "outputs", "program")
    }
    rows |= {"FLOP of products": facts["flop"], "bytes moved in its memory": facts["bytes"]}
    rows |= {f"kernels: {kind}": kernels[kind] for kind in kernels if kind != "with_collectives"}
    for kind, each in facts["collectives"].items():
        rows |= {f"{kind}": each["number"], f"{kind}, bytes": each["bytes"]}
    rows["kernels and collectives"] = kernels["with_collectives"]
    rows["updates in the loop"] = facts["trip_count"] or "unknown to XLA"
    rows |= {f"microseconds for {name}": 1e6 * value for name, value in facts["seconds"].items()}
    rows["updates/s of all members, at most"] = facts["updates_per_second"]
    rows["bound by"] = facts["bound_by"]
    rows["seconds to compile"] = facts["compile_seconds"]
    return rows


def _written(value: Any) -> str:
    """A number with the digits that matter."""
    if isinstance(value, str):
        return value
    return f"{value:,.0f}" if isinstance(value, int) or abs(value) >= 100 else f"{value:,.3g}"


def parse(
    argv: list[str], values: absl_flags.FlagValues = absl_flags.FLAGS
) -> tuple[AheadOfTimeConfig, MakeAgent]:
    """The settings that the command line describes; see `flags.parse_run`."""
    return flags.parse_run(argv, values, AheadOfTimeConfig(**flags.default_fields()))  # type: ignore[return-value]


def main(parsed: tuple[AheadOfTimeConfig, MakeAgent]) -> None:
    """Does what the command line describes."""
    run(*parsed)
