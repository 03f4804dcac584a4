r"""Compares ways to optimise CVaR: stocks, levels (Chow et al. 2015), no memory at all; exact and learnt.

    python -m experiments.studies.risk.compare_risk --agent=eta_network:risk_averse --num_seeds=3 \
      --workdir=runs/compare_risk

writes compare_risk.json and compare_risk.png. Exact methods are those of `risk_methods`. Networks, of the
agent given and measured in simulated episodes: D-eta-N by acting, the same on a log of uniformly random
actions, QR-DQN, and the same network greedy in CVaR without a stock, one for each level. Killed, the same
command goes on.
"""

import contextlib
import dataclasses
import pathlib
import sys
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags as absl_flags

from experiments.studies.risk import methods, optimality, plots
from experiments.studies.risk.methods import GREEDY
from valuelab import configuration, environments
from valuelab.configuration import RunConfig, check_ranges
from valuelab.data import recording, sampling
from valuelab.distributional import gridworlds, objectives
from valuelab.distributional.oracle import DistributionSet
from valuelab.errors import InputError
from valuelab.evaluation.statistics import mean_interval
from valuelab.runs import flags, outputs
from valuelab.runs.sources import digests, find_source
from valuelab.training import Checkpoints, train
from valuelab.training.experience import Experience
from valuelab.types import Agent, Array, Key, MakeAgent, Sampler

RANDOM_TAU, DIAL_TAU = 0.25, 0.05
LOG_ENVIRONMENTS, LOG_STEPS = 100, 1000
EPISODES = 20_000


@dataclasses.dataclass(frozen=True)
class CompareRiskConfig(RunConfig):
    """The settings of the networks' runs, and how much is solved exactly beside them.

    Attributes:
        random_problems: random MDPs that exact methods are compared in.
        weights: of the mean against CVaR, evenly spread over [0, 1], whose optima the dial shows.
    """

    random_problems: int = 100
    weights: int = 11

    def __post_init__(self) -> None:
        super().__post_init__()
        check_ranges(self, random_problems="[1, inf)", weights="[2, inf)")


def variants(config: RunConfig) -> dict[str, RunConfig]:
    """Settings by method; those of GREEDY serve one level each."""
    plain = dataclasses.replace(config.agent, augmented=False, stock_edits=1)
    return {
        "D-eta-N": config,
        "D-eta-N, offline": dataclasses.replace(config, dataset=config.environment),
        "QR-DQN": dataclasses.replace(config, agent=dataclasses.replace(plain, objective="expectation")),
    } | {
        f"{GREEDY}, tau={tau:g}": dataclasses.replace(
            config, agent=dataclasses.replace(plain, commands=(tau,))
        )
        for tau in config.agent.commands
    }


def learn(config: RunConfig, make_agent: MakeAgent, folder: pathlib.Path) -> tuple[Agent, list[Any]]:
    """Trains one method, or goes on with it.

    Args:
        config: its settings; where `dataset` is set it learns from a log of uniformly random actions.
        make_agent: builds the agent.
        folder: for checkpoints.

    Returns:
        The agent and its state of each seed.
    """
    if config.dataset:
        environment = environments.vector(config.environment, LOG_ENVIRONMENTS)
        spec = dataclasses.replace(environment.spec, num_updates=config.steps)

        def anything(observations: Array, key: Key) -> Array:
            return jax.random.randint(key, observations.shape[:1], 0, spec.num_actions)

        log = recording.record(environment, anything, LOG_STEPS, jax.random.key(config.seed))
        experience: Sampler | Experience = sampling.transitions(log, config.batch_size)
    else:
        experience, spec, *_ = find_source(config)
    agent = make_agent(config.agent, spec)
    facts = {"versions": outputs.versions(), "data": {"digests": digests(experience.arrays)}}
    with contextlib.closing(Checkpoints(folder, facts, config=config)) as checkpoints:
        run = train(
            agent,
            experience,
            steps=config.steps,
            seeds=range(config.seed, config.seed + config.num_seeds),
            log_every=config.log_every,
            checkpoint_every=config.checkpoint_every,
            checkpoints=checkpoints,
        )
    return agent, [run.member(index) for index in range(config.num_seeds)]


def reached(
    problem: gridworlds.Gridworld, agent: Agent, states: Sequence[Any], taus: Sequence[float]
) -> list[dict[str, Any]]:
    """CVaR of the learnt policies at each level, in simulated episodes, with intervals over seeds."""
    follow = jax.jit(optimality.follow_commands(problem, agent, EPISODES))
    equal = np.full((1, EPISODES), 1 / EPISODES)

    def measure(seed: int, state: Any, tau: float) -> float:
        _, returns = follow(state, jnp.array([tau]), jax.random.key(seed))
        return methods.tail(DistributionSet(np.asarray(returns), equal), tau)

    return [
        mean_interval(np.array([[measure(seed, state, tau)] for seed, state in enumerate(states)]))
        for tau in taus
    ]


def compare_networks(
    problem: gridworlds.Gridworld, config: RunConfig, make_agent: MakeAgent, folder: pathlib.Path
) -> dict[str, list[dict[str, Any]]]:
    """CVaR by learnt method, at each level that the agent is commanded."""
    found: dict[str, list[dict[str, Any]]] = {}
    for name, settings in variants(config).items():
        print(f"{name}:", file=sys.stderr)
        agent, states = learn(settings, make_agent, folder / name.replace(" ", "_"))
        taus = settings.agent.commands
        found.setdefault(name.partition(", tau=")[0], []).extend(reached(problem, agent, states, taus))
    return found


def parse(
    argv: list[str], values: absl_flags.FlagValues = absl_flags.FLAGS
) -> tuple[CompareRiskConfig, MakeAgent]:
    """The settings of a command line, as `flags.parse_run` reads them."""
    return flags.parse_run(argv, values, CompareRiskConfig(**flags.default_fields()))  # type: ignore[return-value]


def main(parsed: tuple[CompareRiskConfig, MakeAgent]) -> None:
    """Compares as a command line says."""
    config, make_agent = parsed
    family, _, name = config.environment.partition("/")
    if family != "gridworld" or config.agent_name != "eta_network" or config.agent.objective != "cvar":
        raise InputError(
            "methods are compared with the agent eta_network on CVaR in a gridworld: "
            "write --agent=eta_network:risk_averse"
        )
    if config.sweep:
        raise InputError("methods are compared in one setting: leave --sweep out, or use --num_seeds")
    with outputs.prepare_folder(config) as workdir:
        facts = {
            "command": " ".join(["python -m experiments.studies.risk.compare_risk", *sys.argv[1:]]),
            "settings": configuration.to_json(config),
            "versions": outputs.versions(),
            "device": outputs.device(),
        }
        outputs.write_json(workdir / "config.json", facts)
        problem = gridworlds.make(name)
        result = facts | compare_exactly(config, problem)
        result["networks"] = compare_networks(problem, config, make_agent, workdir / "checkpoints")
        outputs.write_json(workdir / "compare_risk.json", result)
        path = workdir / "compare_risk.png"
        outputs.draw({path.name: lambda: plots.draw(result, path)})


def compare_exactly(config: CompareRiskConfig, problem: gridworlds.Gridworld) -> dict[str, Any]:
    """The exact methods in the counter-example, in random MDPs and in the gridworld, and the dial."""
    levels = [float(level) for level in np.arange(1, 65) / 64]
    rng = np.random.default_rng(config.seed)
    random = [methods.compare(methods.random_task(rng), [RANDOM_TAU]) for _ in range(config.random_problems)]
    weights = np.linspace(0, 1, config.weights)
    task = methods.gridworld(problem, spacing=0.025)
    return {
        "counterexample": {
            "taus": levels,
            "cvar": methods.compare(methods.counterexample(), levels),
        },
        "random": {
            "tau": RANDOM_TAU,
            "cvar": {method: [each[method][0] for each in random] for method in random[0]},
        },
        "gridworld": {
            "taus": config.agent.commands,
            "cvar": methods.compare(task, config.agent.commands),
        },
        "dial": {
            "tau": DIAL_TAU,
            "mean_cvar": methods.dial(
                task, DIAL_TAU, weights, lambda weight: objectives.mean_cvar(DIAL_TAU, weight)
            ),
            "spectral": methods.dial(
                methods.gridworld(problem, spacing=0.2, copies=2),
                DIAL_TAU,
                weights,
                lambda weight: objectives.spectral([DIAL_TAU, 1.0], [1 - weight, weight]),
            ),
        },
    }


if __name__ == "__main__":
    flags.run(main, parse)
