"""A zero-shot run: it trains without rewards, and evaluates on tasks specified by labelled states."""

import dataclasses
import pathlib
import runpy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags as absl_flags

from valuelab import environments
from valuelab.agents import zero_shot
from valuelab.configuration import RunConfig, setting
from valuelab.data import sampling, storage
from valuelab.data.sources import exorl, ogbench
from valuelab.environments import frames
from valuelab.environments.rewarded import Reward, rewarded, rewards_of
from valuelab.errors import InputError, unknown
from valuelab.evaluation import latent_plots, plots
from valuelab.files import local_path
from valuelab.ops import factorizations
from valuelab.ops.features import effective_rank
from valuelab.runs import flags, outputs, results, sources, train
from valuelab.runs.command_line import told_of
from valuelab.training.experience import offline
from valuelab.types import Agent, Array, Augmented, Environment, MakeAgent

HORIZON = 10
"""Steps in the segments of batches, for agents that learn from them."""

SOURCES = {"exorl": exorl, "ogbench": ogbench}
"""Sources whose states can be labelled: modules with `has_task`, `read_states` and `task_rewards`."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ZeroShotRunConfig(RunConfig):
    """The settings of a run that is evaluated on tasks it has not learnt."""

    labels: int = setting(10_000, "[1, inf)", "Number of states of the dataset whose rewards specify a task.")
    reward: str = setting(
        "", help="Your own reward, FILE.py:FUNCTION; empty for the tasks of the dataset's environment."
    )


def run(config: ZeroShotRunConfig, make_agent: MakeAgent) -> dict[str, Any]:
    """Does a whole run, or what is left of it.

    Args:
        config: its settings.
        make_agent: builds a zero-shot agent.

    Returns:
        What result.json holds.

    Raises:
        InputError: for settings, data or a reward that cannot be used.
    """
    source_name, _, name = config.dataset.partition("/")
    if source_name not in SOURCES or SOURCES[source_name].has_task(name):
        raise InputError(
            f"dataset is {config.dataset!r}; name one of OGBench's goal-conditioned sets, such as "
            "ogbench/pointmaze-medium-navigate-v0, or one of ExoRL's without a task, such as "
            "exorl/walker-rnd: tasks are labelled from the positions it holds"
        )
    reward = load_reward(config.reward) if config.reward else None

    def source(resolved: Any) -> sources.Source:
        return find_source(resolved, make_agent, reward)

    return train.run(config, make_agent, source)


def find_source(config: ZeroShotRunConfig, make_agent: MakeAgent, reward: Reward | None) -> sources.Source:
    """The dataset of a run, and what the agent is asked.

    Args:
        config: the settings of the run.
        make_agent: builds a zero-shot agent.
        reward: the user's own; None for the tasks of the dataset's world.

    Raises:
        InputError: for another agent, or data or a reward that cannot be used.
    """
    discount = sources.goal_discount(config)
    dataset = sources.read_dataset(config)
    dataset = dataclasses.replace(dataset, goal_conditioned=False)  # it is the task that says what to do
    # What an agent does not look at of futures and segments is never drawn.
    sampler = sampling.transitions(dataset, config.batch_size, discount, HORIZON, config.data.num_frames)
    source = sources.as_seen(config, dataset, offline(sampler))
    agent = make_agent(config.agent, source.spec)
    if agent.features is None:
        raise InputError(f"{config.agent_name} is no zero-shot agent: train it by experiments.train")
    if not config.eval_episodes:
        return source
    example = sampling.example(sampler)
    state = jax.eval_shape(agent.init, jax.random.key(0), example)
    dim = jax.eval_shape(agent.features, state, example.observations).shape[1]
    return source._replace(question=ask(config, reward, dim))


def ask(config: ZeroShotRunConfig, reward: Reward | None, dim: int) -> results.Question:
    """What the agent is asked: the tasks, each inferred from labelled states.

    Args:
        config: the settings of the run.
        reward: the user's own; None for the tasks of the environment.
        dim: d, numbers of a task.

    Raises:
        InputError: when states cannot be labelled, or their rewards are no task.
    """
    source_name, _, name = config.dataset.partition("/")
    source = SOURCES[source_name]
    environment = environments.with_rewards(config.dataset, config.data_dir)
    states = source.read_states(name, local_path("data_dir", config.data_dir))
    count = len(states["observations"])
    rows = np.sort(np.random.default_rng(config.seed).permutation(count)[: config.labels])
    observations = np.asarray(
        sampling.joined_frames(
            states["observations"], storage.first_rows(states["terminals"]), rows, config.data.num_frames
        )
    )
    states = {key: array[rows] for key, array in states.items()}
    if reward:
        task = config.reward.rpartition(":")[2]
        labelled = {task: rewards_of(reward, states, config.reward)}
        environment = rewarded(environment, reward, task)
    else:
        labelled = source.task_rewards(name, states)
    tasks = list(labelled)
    rewards = np.stack([labelled[task] for task in tasks]).astype(np.float32)
    zero_shot.check_labels(rewards, tasks, dim)  # before any time is lost on training

    def prepare(agent: Agent, state: Any) -> zero_shot.Asked:
        latents = zero_shot.infer(agent, state, jnp.asarray(observations), jnp.asarray(rewards))
        return zero_shot.Asked(state, latents)

    def draw(experiment: results.Experiment, states: Any) -> None:
        draw_latents(experiment, states, observations, tasks)

    environment = frames.joined(environment, config.data.num_frames)
    return results.Question(environment, lambda agent: zero_shot.asked(agent, tasks), prepare, draw)


def draw_latents(
    experiment: results.Experiment, states: Any, observations: np.ndarray, tasks: Sequence[str]
) -> None:
    """Leaves latents.json of all members, and of the first features.png and, for mazes, tasks.png.

    Args:
        experiment: the run.
        states: of all members.
        observations: of labelled states, [N, ...].
        tasks: names of what is asked.

    Raises:
        InputError: without matplotlib, or for a maze that cannot be drawn.
    """
    hyperparameters, workdir = experiment.members.hyperparameters, experiment.workdir

    @jax.jit
    def look(states: Any, seen: Array) -> tuple[Array, Array, Array]:
        def at(hyperparameters: Any, state: Any) -> tuple[Array, Array, Array]:
            encodings = zero_shot.encode(experiment.build(hyperparameters), state, seen)
            eigenvalues = factorizations.eigenvalues(encodings.T @ encodings / len(encodings))
            return encodings, eigenvalues, effective_rank(encodings)

        return jax.vmap(at)(hyperparameters, states)

    encodings, eigenvalues, ranks = jax.device_get(look(states, jnp.asarray(observations)))
    report = {"eigenvalues": eigenvalues.tolist(), "effective_rank": ranks.tolist()}
    outputs.write_json(workdir / "latents.json", report)

    agent = experiment.build({name: values[0] for name, values in hyperparameters.items()})
    asked = jax.tree.map(lambda leaf: leaf[0], jax.jit(experiment.prepared)(states))
    latents = dict(zip(tasks, np.asarray(asked.latents), strict=True))
    rewards = {task: encodings[0] @ latent for task, latent in latents.items()}
    latent_plots.features(encodings[0], rewards, eigenvalues, workdir / "features.png")
    environment = experiment.environment
    if environment and "maze" in environment.name and experiment.config.data.num_frames == 1:
        draw_tasks(agent, asked.state, environment, latents, workdir / "tasks.png")


def draw_tasks(
    agent: Agent, state: Any, environment: Environment, latents: Mapping[str, np.ndarray], path: pathlib.Path
) -> None:
    """Draws what an agent takes the tasks of a maze to be, and what it would do.

    Args:
        agent: a zero-shot agent.
        state: its state.
        environment: an OGBench maze.
        latents: task to its z, [d].
        path: of the picture.

    Raises:
        InputError: without matplotlib, or for a maze that cannot be drawn.
    """

    def function(of: Callable[[Augmented], Array]) -> Callable[[str, np.ndarray], Array]:
        compiled = jax.jit(of)

        def at(task: str, seen: np.ndarray) -> Array:
            return compiled(Augmented(jnp.asarray(seen), jnp.repeat(latents[task][None], len(seen), axis=0)))

        return at

    def reward(given: Augmented) -> Array:
        features = agent.features(state, given.observations)  # type: ignore[misc]
        return jnp.sum(features * given.memory, axis=-1)

    policy = function(lambda given: agent.act(state, given, jax.random.key(0), 0.0))
    moves_freely = "pointmaze" in environment.name  # whose actions are velocities
    latent_plots.tasks_in_maze(
        {task: plots.open_maze(environment, task) for task in latents},
        reward=function(reward),
        value=function(lambda given: agent.value(state, given)),
        policy=policy if moves_freely else None,
        path=path,
    )


def load_reward(source: str) -> Reward:
    """The function that FILE.py:FUNCTION names.

    Raises:
        InputError: when there is none.
    """
    path, _, name = source.rpartition(":")
    if not path.endswith(".py") or not pathlib.Path(path).is_file():
        raise InputError(f"reward is {source!r}; write FILE.py:FUNCTION, and give a path from here")
    with told_of(pathlib.Path(path), "reward file"):
        found = runpy.run_path(path)
    functions = {key: value for key, value in found.items() if callable(value) and not key.startswith("_")}
    if name not in functions:
        raise unknown(f"function in {path}", name, functions)
    return functions[name]


def parse(
    argv: list[str], values: absl_flags.FlagValues = absl_flags.FLAGS
) -> tuple[ZeroShotRunConfig, MakeAgent]:
    """The settings of a command line, as `flags.parse_run` reads them."""
    return flags.parse_run(argv, values, ZeroShotRunConfig(**flags.default_fields()))  # type: ignore[return-value]


def main(parsed: tuple[ZeroShotRunConfig, MakeAgent]) -> None:
    """Does the run of a command line."""
    train.main(parsed, run)
