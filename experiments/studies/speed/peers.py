r"""How fast is our training program, relative to single-file code of the same mathematics in one process?

    python -m experiments.studies.speed.peers --cases=iql,fql --out=FILE

Each case is timed in two forms: the program that experiments.train runs, and the straightforward form of the
same update (`straightforward`). Both do the same number of updates in each round, in turn. The order
changes from round to round. A ratio is the time of the straightforward form over the time of ours, so ours is
faster where it is above 1. The table shows the median over rounds and the quartiles, for elapsed time and for
CPU time of the process. The data are random, because the speed only depends on shapes. With --out=FILE, FILE
gets the ratios of all rounds as JSON.
"""

import dataclasses
import functools
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import rich.table
from absl import flags as absl_flags

from experiments.studies.speed import agent as speed_of_agent
from experiments.studies.speed import reports, straightforward
from experiments.studies.speed.agent import AgentSpeedConfig
from experiments.studies.speed.straightforward import Form
from valuelab import configuration, errors
from valuelab.configuration import Settings, setting
from valuelab.runs import flags, outputs
from valuelab.training import throughput
from valuelab.training.experience import offline
from valuelab.types import Spec


class Case(NamedTuple):
    """An agent whose two forms are compared.

    Attributes:
        flags: the flags with which experiments.studies.speed.agent measures our form.
        make: (agent's config, spec) -> the straightforward form.
    """

    flags: tuple[str, ...]
    make: Callable[[Any, Spec], Form]


CUBE = ("--observation_dim=28", "--action_dim=5")
"""The shapes of OGBench's cubes."""

WITH_FQLS_POLICY = (
    *("--agent.whiten_goals=False", "--agent.policy.task_embedding=False"),
    *("--agent.policy.hidden_dims=512,512,512,512", "--agent.policy.field_hidden_dims="),
    *("--agent.policy.field_learning_rate=1e-4", "--agent.policy.normalize_q=False"),
)
"""TD-JEPA's straightforward form has the policy of FQL."""

CASES: dict[str, Case] = {
    "iql": Case(flags=("--agent=iql",), make=straightforward.make_iql),
    "iql_4_seeds": Case(flags=("--agent=iql", "--num_seeds=4"), make=straightforward.make_iql),
    "iql_4x512": Case(flags=("--agent=iql:cube", *CUBE), make=straightforward.make_iql),
    "fql": Case(flags=("--agent=fql", *CUBE), make=straightforward.make_fql),
    "floq": Case(flags=("--agent=floq", *CUBE), make=straightforward.make_floq),
    "floq_small": Case(
        flags=(
            *("--agent=floq", *CUBE, "--agent.critic.num_draws=4"),
            *(f"--agent.{part}.hidden_dims=128,128,128,128" for part in ("critic", "policy")),
        ),
        make=straightforward.make_floq,
    ),
    "td_jepa": Case(flags=("--agent=td_jepa", *CUBE, *WITH_FQLS_POLICY), make=straightforward.make_td_jepa),
    "td_jepa_small": Case(
        flags=("--agent=td_jepa:pointmaze", "--agent.later_goals=0", *CUBE), make=straightforward.make_td_jepa
    ),
}
"""Cases by name."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class PeersConfig(Settings):
    """The settings of the measurement."""

    cases: tuple[str, ...] = setting(tuple(CASES), help=f"Cases to measure, of {', '.join(CASES)}.")
    rounds: int = setting(9, "[2, inf)", "Number of rounds in which both forms of a case are timed in turn.")
    seconds: float = setting(0.5, "(0, inf)", "Approximate duration of one timing.")
    out: str = setting("", help="JSON file to write; empty for none.")

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in self.names:
            if name not in CASES:
                raise errors.unknown("case", name, CASES)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the cases; on the command line they may be separated by commas."""
        return configuration.split_names("cases", self.cases)


class Timing(NamedTuple):
    """One timing of a form.

    Attributes:
        elapsed: seconds.
        cpu: seconds of CPU time of the process, summed over its threads.
    """

    elapsed: float
    cpu: float


def timed(run: Callable[[], None]) -> Timing:
    """Times a call that returns when its work is done."""
    started = time.perf_counter(), time.process_time()
    run()
    return Timing(elapsed=time.perf_counter() - started[0], cpu=time.process_time() - started[1])


def in_turn(runs: Sequence[Callable[[], None]], rounds: int) -> list[list[Timing]]:
    """Times several functions in turn; every second round has the reverse order.

    Args:
        runs: functions that return when their work is done.
        rounds: number of rounds.

    Returns:
        For each round, the timings in the order of `runs`.
    """
    timings = []
    for index in range(rounds):
        order = list(range(len(runs)))[:: -1 if index % 2 else 1]
        by_run = {which: timed(runs[which]) for which in order}
        timings.append([by_run[which] for which in range(len(runs))])
    return timings


class Forms(NamedTuple):
    """Both forms of a case, compiled and ready to be timed.

    Attributes:
        config: our settings.
        updates: number of updates of each seed in one timing.
        ours: () -> None; does these updates in our program and returns when they are done.
        straightforward: the same in the straightforward form.
    """

    config: AgentSpeedConfig
    updates: int
    ours: Callable[[], None]
    straightforward: Callable[[], None]


def prepare(case: Case, seconds: float) -> Forms:
    """Compiles both forms of a case, for timings of about so many seconds."""
    config, make_agent = speed_of_agent.parse(["agent", *case.flags], absl_flags.FlagValues())
    sampler = throughput.synthetic_sampler(config.spec, config.batch_size)
    loop = throughput.make_loop(make_agent(config.agent, config.spec), offline(sampler), config.num_seeds)
    updates = max(2, throughput.choose_blocks(loop, seconds) * loop.length)  # XLA removes a loop of one round
    blocks = -(-updates // loop.length)

    form = case.make(config.agent, config.spec)
    data = jax.device_put(sampler.arrays)
    example = jax.tree.map(lambda column: column[:1], data)
    keys = jax.vmap(jax.random.key)(jnp.arange(config.num_seeds))
    init = form.init
    if config.num_seeds == 1:
        keys = keys[0]
    else:
        init = jax.vmap(init, (0, None))
    state = jax.jit(init)(keys, example)
    program = straightforward.make_run(form, config.batch_size, blocks * loop.length, config.num_seeds)

    def run() -> None:
        nonlocal state, keys
        state, keys, losses = program(state, keys, data)
        jax.block_until_ready((state, losses))

    run()  # compiles
    return Forms(
        config=config,
        updates=blocks * loop.length,
        ours=functools.partial(loop.run, blocks),
        straightforward=run,
    )


def measure(case: Case, config: PeersConfig) -> dict[str, Any]:
    """Times both forms of a case.

    Args:
        case: what is compared.
        config: rounds and duration.

    Returns:
        "flags" and "updates" of the case, and "ratio" and "cpu_ratio": time of the straightforward form over
        time of ours, by `spread`.
    """
    forms = prepare(case, config.seconds)
    timings = in_turn([forms.ours, forms.straightforward], config.rounds)
    return {
        "flags": case.flags,
        "settings": configuration.to_json(forms.config.agent),
        "updates": forms.updates,
        "ratio": spread([other.elapsed / ours.elapsed for ours, other in timings]),
        "cpu_ratio": spread([other.cpu / ours.cpu for ours, other in timings]),
    }


def spread(ratios: Sequence[float]) -> dict[str, Any]:
    """The median, the quartiles and all values of the rounds."""
    low, median, high = statistics.quantiles(ratios, n=4, method="inclusive")
    return {"median": median, "quartiles": [low, high], "rounds": list(ratios)}


def show(report: Mapping[str, Any]) -> None:
    """Prints the ratios."""
    columns = ("case", "speedup (quartiles)", "least to largest", "by CPU time (quartiles)")
    table = rich.table.Table(*columns, title="time of the straightforward form / time of ours")
    for name, case in report.items():
        elapsed, cpu = (
            f"x {ratio['median']:.2f} ({ratio['quartiles'][0]:.2f} to {ratio['quartiles'][1]:.2f})"
            for ratio in (case["ratio"], case["cpu_ratio"])
        )
        rounds = case["ratio"]["rounds"]
        table.add_row(name, elapsed, f"{min(rounds):.2f} to {max(rounds):.2f}", cpu)
    outputs.show(table)


def main(config: PeersConfig) -> None:
    """Measures, prints and writes as the command line describes."""
    out = outputs.prepare_file("out", config.out)
    report = {name: measure(CASES[name], config) for name in config.names}
    show(report)
    reports.write(out, {"rounds": config.rounds, "seconds": config.seconds}, {"cases": report})


if __name__ == "__main__":
    flags.run(main, functools.partial(flags.parse_config, PeersConfig()))
