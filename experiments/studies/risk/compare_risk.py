r"""Which method reaches the highest CVaR: stocks, levels (Chow et al. 2015), or no memory?

    python -m experiments.studies.risk.compare_risk --agent=eta_network:risk_averse --num_seeds=3 \
      --workdir=runs/compare_risk

solves the methods of `methods` exactly in a counter-example, in random MDPs and in the gridworld of the
agent's preset. It also trains networks in the gridworld with the settings of the agent, and measures them in
simulated episodes:

    D-eta-N            by acting
    D-eta-N, offline   from a log of uniformly random actions
    QR-DQN             by acting, for the mean
    greedy in CVaR     by acting, without a stock, one network for each level

OUT of --workdir=OUT gets compare_risk.json and compare_risk.png. The same command continues after an
interruption.

Measured with this command (benchmarks/compare_risk.json), in 25 minutes on a CPU core: QR-DQN loses 3.5 of
CVaR at level 0.05, 2.0 at 0.1 and 1.4 at 0.25. One D-eta-N for all levels loses 0.18 at 0.05 and 0.01 at 0.1.
Offline it loses 0.40 at 0.05 and at 0.1.
"""

import dataclasses
import pathlib
import sys
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags as absl_flags

from experiments.studies.risk import episodes, methods, networks, plots
from experiments.studies.risk.methods import GREEDY
from valuelab import configuration, environments
from valuelab.configuration import RunConfig, setting
from valuelab.data import recording, sampling
from valuelab.distributional import gridworlds, objectives
from valuelab.distributional.oracle import DistributionSet
from valuelab.errors import InputError
from valuelab.evaluation.statistics import mean_interval
from valuelab.runs import flags, outputs
from valuelab.runs.inputs import digests, find_inputs
from valuelab.training.experience import Experience
from valuelab.types import Agent, Array, Key, MakeAgent, Sampler

RANDOM_TAU, DIAL_TAU = 0.25, 0.05
"""The level of CVaR in random MDPs, and the level that is mixed with the mean."""
LOG_ENVIRONMENTS, LOG_STEPS = 100, 1000
"""The log of random actions has this number of steps in each of this number of environments."""
EPISODES = 20_000
"""The number of simulated episodes of each network at each level."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class CompareRiskConfig(RunConfig):
    """The settings of the networks' runs, and the amount of exact solving."""

    random_problems: int = setting(
        100, "[1, inf)", "Number of random MDPs in which exact methods are compared."
    )
    weights: int = setting(
        11,
        "[2, inf)",
        "Number of mixtures of the mean and CVaR that are solved; the weights of the mean are spread evenly "
        "over [0, 1].",
    )


def variants(config: RunConfig) -> dict[str, RunConfig]:
    """Name of a network -> settings; GREEDY has one network for each level."""
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
    """Trains the networks of one method, or finishes their training.

    Args:
        config: its settings. With `dataset` set, it learns from a log of uniformly random actions.
        make_agent: builds the agent.
        folder: folder for checkpoints.

    Returns:
        The agent, and its state for each seed.
    """
    if config.dataset:
        environment = environments.vector(config.environment, LOG_ENVIRONMENTS)
        spec = dataclasses.replace(environment.spec, num_updates=config.steps)

        def random_actions(observations: Array, key: Key) -> Array:
            return jax.random.randint(key, observations.shape[:1], 0, spec.num_actions)

        log = recording.record(environment, random_actions, LOG_STEPS, jax.random.key(config.seed))
        experience: Sampler | Experience = sampling.transitions(log, config.batch_size)
    else:
        experience, spec, *_ = find_inputs(config)
    agent = make_agent(config.agent, spec)
    facts = {"versions": outputs.versions(), "data": {"digests": digests(experience.arrays)}}
    run = networks.train_networks(config, agent, experience, folder, facts)
    return agent, [run.member(index) for index in range(config.num_seeds)]


def cvar_reached(
    gridworld: gridworlds.Gridworld, agent: Agent, states: Sequence[Any], taus: Sequence[float]
) -> list[dict[str, Any]]:
    """CVaR of the learnt policies in simulated episodes, at each level, with intervals over seeds."""
    follow = jax.jit(episodes.follow_commands(gridworld, agent, EPISODES))
    equal = np.full((1, EPISODES), 1 / EPISODES)

    def measure(seed: int, state: Any, tau: float) -> float:
        _, returns = follow(state, jnp.array([tau]), jax.random.key(seed))
        return methods.cvar(DistributionSet(np.asarray(returns), equal), tau)

    return [
        mean_interval(np.array([[measure(seed, state, tau)] for seed, state in enumerate(states)]))
        for tau in taus
    ]


def compare_networks(
    gridworld: gridworlds.Gridworld, config: RunConfig, make_agent: MakeAgent, folder: pathlib.Path
) -> dict[str, list[dict[str, Any]]]:
    """Method -> CVaR of its networks at each level that the agent is commanded."""
    by_method: dict[str, list[dict[str, Any]]] = {}
    for name, settings in variants(config).items():
        print(f"{name}:", file=sys.stderr)
        agent, states = learn(settings, make_agent, folder / name.replace(" ", "_"))
        taus = settings.agent.commands
        method = name.partition(", tau=")[0]
        by_method.setdefault(method, []).extend(cvar_reached(gridworld, agent, states, taus))
    return by_method


def compare_exactly(config: CompareRiskConfig, gridworld: gridworlds.Gridworld) -> dict[str, Any]:
    """The exact methods in the counter-example, in random MDPs and in the gridworld, and the dial."""
    levels = [float(level) for level in np.arange(1, 65) / 64]
    rng = np.random.default_rng(config.seed)
    random = [
        methods.compare(methods.random_problem(rng), [RANDOM_TAU]) for _ in range(config.random_problems)
    ]
    weights = np.linspace(0, 1, config.weights)
    problem = methods.gridworld_problem(gridworld, spacing=0.025)
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
            "cvar": methods.compare(problem, config.agent.commands),
        },
        "dial": {
            "tau": DIAL_TAU,
            "mean_cvar": methods.dial(
                problem, DIAL_TAU, weights, lambda weight: objectives.mean_cvar(DIAL_TAU, weight)
            ),
            "spectral": methods.dial(
                methods.gridworld_problem(gridworld, spacing=0.2, copies=2),
                DIAL_TAU,
                weights,
                lambda weight: objectives.spectral([DIAL_TAU, 1.0], [1 - weight, weight]),
            ),
        },
    }


def run(config: CompareRiskConfig, make_agent: MakeAgent) -> dict[str, Any]:
    """Makes the comparison, or finishes an interrupted one.

    Args:
        config: the settings.
        make_agent: builds the networks' agent.

    Returns:
        The content of compare_risk.json.

    Raises:
        InputError: for settings or a folder that cannot be used.
    """
    family, _, name = config.environment.partition("/")
    if family != "gridworld" or config.agent_name != "eta_network" or config.agent.objective != "cvar":
        raise InputError(
            "compare_risk needs the agent eta_network, the objective cvar and a gridworld: "
            "write --agent=eta_network:risk_averse"
        )
    if config.sweep:
        raise InputError(
            "compare_risk compares methods at one setting: leave out --sweep, or use --num_seeds"
        )
    with outputs.prepare_folder(config) as workdir:
        facts = {
            "command": " ".join(["python -m experiments.studies.risk.compare_risk", *sys.argv[1:]]),
            "settings": configuration.to_json(config),
            **outputs.provenance(),
        }
        outputs.write_json(workdir / "config.json", facts)
        gridworld = gridworlds.make(name)
        result = facts | compare_exactly(config, gridworld)
        result["networks"] = compare_networks(gridworld, config, make_agent, workdir / "checkpoints")
        outputs.write_json(workdir / "compare_risk.json", result)
        path = workdir / "compare_risk.png"
        outputs.draw({path.name: lambda: plots.draw(result, path)})
        return result


def parse(
    argv: list[str], values: absl_flags.FlagValues = absl_flags.FLAGS
) -> tuple[CompareRiskConfig, MakeAgent]:
    """The settings that the command line describes; see `flags.parse_run`."""
    return flags.parse_run(argv, values, CompareRiskConfig(**flags.default_fields()))  # type: ignore[return-value]


def main(parsed: tuple[CompareRiskConfig, MakeAgent]) -> None:
    """Makes the comparison that the command line describes."""
    run(*parsed)


if __name__ == "__main__":
    flags.run(main, parse)
