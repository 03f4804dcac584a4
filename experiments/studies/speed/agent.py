r"""Measures how fast an agent learns here, against the matrix products of the same machine.

    python -m experiments.studies.speed.agent --agent=iql --observation_dim=17 --action_dim=6

prints updates per second, operations per update, operations per second, and their share of the peak that
float32 matrix products reach in the same process, and writes them as JSON with --out=FILE. Data are random:
speed depends on shapes alone. With --environment=NAME the agent acts and learns there, as in
experiments.train, and environment steps per second are measured too.
"""

import dataclasses

import rich.table
from absl import flags as absl_flags

from valuelab import configuration
from valuelab.configuration import RunConfig
from valuelab.errors import InputError
from valuelab.runs import flags, outputs, sources
from valuelab.training import throughput
from valuelab.training.experience import offline
from valuelab.types import MakeAgent, Spec

_OBSERVATION_DIM = absl_flags.DEFINE_integer("observation_dim", 17, "Numbers in an observation.", 1)
_ACTION_DIM = absl_flags.DEFINE_integer("action_dim", 6, "Numbers in an action.", 1)
_NUM_ACTIONS = absl_flags.DEFINE_integer("num_actions", 0, "Discrete actions; 0: continuous ones.", 0)
_ROUNDS = absl_flags.DEFINE_integer("rounds", 7, "How often updates and products are timed in turn.", 1)
_OUT = absl_flags.DEFINE_string("out", "", "JSON file to write.")


def main(parsed: tuple[RunConfig, MakeAgent]) -> None:
    """Measures the agent of a command line."""
    config, make_agent = parsed
    if config.sweep:
        raise InputError("throughput measures one setting: leave --sweep out, or use --num_seeds")
    out = outputs.prepare_file("out", _OUT.value)
    if config.environment:
        experience, spec, *_ = sources.find_source(config)
    else:
        spec = _spec(config)
        experience = offline(throughput.synthetic_sampler(spec, config.batch_size))
    agent = make_agent(config.agent, spec)
    measured = throughput.measure(agent, experience, num_seeds=config.num_seeds, rounds=_ROUNDS.value)

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
    if out:
        facts = {
            "agent": config.agent_source,
            "settings": configuration.to_json(config.agent),
            "spec": dataclasses.asdict(spec),
            "environment": config.environment,
            "interaction": configuration.to_json(config.interaction),
            "batch_size": config.batch_size,
            "num_seeds": config.num_seeds,
            "device": outputs.device(),
            "versions": outputs.versions(),
        }
        outputs.write_json(out, facts | measured._asdict())


def _spec(config: RunConfig) -> Spec:
    """The shapes that the command line asks for."""
    return Spec(
        observation_shape=(_OBSERVATION_DIM.value,),
        observation_dtype="float32",
        action_dim=0 if _NUM_ACTIONS.value else _ACTION_DIM.value,
        num_actions=_NUM_ACTIONS.value,
        reward_min=-1.0,
        reward_max=0.0,
        num_updates=config.steps,
    )


if __name__ == "__main__":
    flags.run(main, flags.parse_run)
