r"""How fast does an agent learn on this machine, relative to the machine's peak?

    python -m experiments.studies.speed.agent --agent=iql --observation_dim=17 --action_dim=6

prints updates per second, floating-point operations per update and per second, and their share of the peak.
The peak is that of float32 matrix products in the same process. The data are random, because the speed only
depends on shapes. With --environment=NAME the agent acts and learns there, as in experiments.train, and
environment steps per second are measured too. With --out=FILE, FILE gets all numbers as JSON.

Measured on two CPU cores (benchmarks/throughput_cpu_iql_1.json): 65 % of the peak.
"""

import dataclasses

import rich.table
from absl import flags as absl_flags

from experiments.studies.speed import reports
from valuelab import configuration
from valuelab.configuration import check_ranges
from valuelab.errors import InputError
from valuelab.runs import flags, inputs, outputs
from valuelab.runs.ahead_of_time import ShapesConfig
from valuelab.training import throughput
from valuelab.training.experience import Experience, offline
from valuelab.training.throughput import Measurement
from valuelab.types import Agent, MakeAgent, Spec


@dataclasses.dataclass(frozen=True)
class AgentSpeedConfig(ShapesConfig):
    """The settings of a run, and the shapes of its data.

    Attributes:
        rounds: number of rounds in which updates and matrix products are timed in turn.
        out: JSON file to write; empty for none.
    """

    rounds: int = 7
    out: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_ranges(self, rounds="[1, inf)")


def prepare(config: AgentSpeedConfig, make_agent: MakeAgent) -> tuple[Agent, Experience, Spec]:
    """The agent, the source of its batches, and the facts about them that it may use."""
    if config.environment:
        experience, spec, *_ = inputs.find_inputs(config)
    else:
        spec = config.spec
        experience = offline(throughput.synthetic_sampler(spec, config.batch_size))
    return make_agent(config.agent, spec), experience, spec


def run(config: AgentSpeedConfig, make_agent: MakeAgent) -> Measurement:
    """Measures an agent, and writes the file if there is one.

    Args:
        config: the settings.
        make_agent: builds the agent.

    Raises:
        InputError: for settings that cannot be used.
    """
    if config.sweep:
        raise InputError("speed.agent measures one setting: leave out --sweep, or use --num_seeds")
    out = outputs.prepare_file("out", config.out)
    agent, experience, spec = prepare(config, make_agent)
    measured = throughput.measure(agent, experience, num_seeds=config.num_seeds, rounds=config.rounds)
    settings = {
        "agent": config.agent_source,
        "settings": configuration.to_json(config.agent),
        "spec": dataclasses.asdict(spec),
        "environment": config.environment,
        "interaction": configuration.to_json(config.interaction),
        "batch_size": config.batch_size,
        "num_seeds": config.num_seeds,
    }
    reports.write(out, settings, measured._asdict())
    return measured


def show(config: AgentSpeedConfig, measured: Measurement) -> None:
    """Prints a table of the measurements."""
    table = rich.table.Table("measure", "value", title=f"{config.agent_source}, {config.num_seeds} seed(s)")
    table.add_row("updates/s, all seeds", f"{measured.updates_per_second:,.1f}")
    if measured.environment_steps_per_second:
        table.add_row("environment steps/s, all seeds", f"{measured.environment_steps_per_second:,.0f}")
    table.add_row("FLOP per update", f"{measured.flop_per_update:,.4g}")
    table.add_row("achieved GFLOP/s", f"{measured.flop_per_second / 1e9:,.1f}")
    table.add_row("float32 matmul peak, GFLOP/s", f"{measured.matmul_peak / 1e9:,.1f}")
    table.add_row("share of the peak", f"{measured.share_of_peak:.1%}")
    table.add_row("compile seconds", f"{measured.compile_seconds:.1f}")
    outputs.show(table)


def parse(
    argv: list[str], values: absl_flags.FlagValues = absl_flags.FLAGS
) -> tuple[AgentSpeedConfig, MakeAgent]:
    """The settings that the command line describes; see `flags.parse_run`."""
    return flags.parse_run(argv, values, AgentSpeedConfig(**flags.default_fields()))  # type: ignore[return-value]


def main(parsed: tuple[AgentSpeedConfig, MakeAgent]) -> None:
    """Measures the agent that the command line describes."""
    show(parsed[0], run(*parsed))


if __name__ == "__main__":
    flags.run(main, parse)
