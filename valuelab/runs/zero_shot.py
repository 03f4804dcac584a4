"""A zero-shot run: it trains without rewards and is evaluated on tasks that labelled states specify."""

import dataclasses
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags as absl_flags

from valuelab import environments
from valuelab.agents import zero_shot
from valuelab.data import sampling, storage
from valuelab.data.sources import exorl, ogbench
from valuelab.environments import frames
from valuelab.environments.rewarded import Reward, rewarded, rewards_of
from valuelab.errors import InputError
from valuelab.evaluation import plots, task_plots
from valuelab.files import local_path
from valuelab.ops import factorizations
from valuelab.ops.features import effective_rank
from valuelab.runs import flags, inputs, outputs, own_rewards, results, train
from valuelab.runs.zero_shot_settings import HORIZON, ZeroShotRunConfig
from valuelab.training.experience import offline
from valuelab.types import Agent, Array, Augmented, Environment, MakeAgent

SOURCES = {"exorl": exorl, "ogbench": ogbench}
"""Sources whose states can be labelled: modules with `has_task`, `read_states` and `task_rewards`."""


def run(config: ZeroShotRunConfig, make_agent: MakeAgent) -> dict[str, Any]:
    """Runs from the beginning, or from the last checkpoint in the workdir.

    Args:
        config: the settings.
        make_agent: builds a zero-shot agent.

    Returns:
        The content of result.json.

    Raises:
        InputError: for settings, data or a reward that cannot be used.
    """
    source_name, _, name = config.dataset.partition("/")
    if source_name not in SOURCES or SOURCES[source_name].has_task(name):
        raise InputError(
            f"dataset is {config.dataset!r}: give a goal-conditioned dataset of OGBench, such as "
            "ogbench/pointmaze-medium-navigate-v0, or a dataset of ExoRL without a task, such as "
            "exorl/walker-rnd, whose positions give the rewards of the tasks"
        )
    reward = own_rewards.find(config)

    def find(resolved: Any) -> inputs.RunInputs:
        return find_inputs(resolved, make_agent, reward)

    return train.run(config, make_agent, find)


def find_inputs(config: ZeroShotRunConfig, make_agent: MakeAgent, reward: Reward | None) -> inputs.RunInputs:
    """The dataset of a run, and the tasks on which the agent is evaluated.

    Args:
        config: the settings of the run.
        make_agent: builds a zero-shot agent.
        reward: the user's reward function; None for the tasks of the dataset's environment.

    Raises:
        InputError: for an agent that is not zero-shot, or data or a reward that cannot be used.
    """
    if config.data.future_discount is not None:
        raise InputError(
            f"data.future_discount is {config.data.future_discount:g}, but zero-shot runs draw later "
            "observations with data.goals.discount: leave data.future_discount out"
        )
    discount = inputs.goal_discount(config)
    chosen = inputs.select(config, inputs.read_dataset(config))
    dataset = dataclasses.replace(chosen.dataset, goal_conditioned=False)  # tasks take the place of goals
    # The futures and segments of a batch that an agent does not use are not gathered.
    sampler = sampling.transitions(
        dataset, config.batch_size, discount, HORIZON, config.data.num_frames, chosen.weights
    )
    run_inputs = inputs.inputs_of_dataset(config, dataset, offline(sampler, config.data.stream))
    run_inputs = run_inputs._replace(selection=chosen.facts, notes=chosen.notes)
    agent = make_agent(config.agent, run_inputs.spec)
    if agent.features is None:
        raise InputError(f"{config.agent_name} is not a zero-shot agent: train it by experiments.train")
    if not config.eval_episodes:
        return run_inputs
    example = sampling.example(sampler)
    state = jax.eval_shape(agent.init, jax.random.key(0), example)
    dim = jax.eval_shape(agent.features, state, example.observations).shape[1]
    inference = infer_from_labels(config, reward, dim)
    return run_inputs._replace(
        task_inference=inference._replace(of_goals=renewed_of(inference)) if agent.renews_tasks else inference
    )


def infer_from_labels(config: ZeroShotRunConfig, reward: Reward | None, dim: int) -> results.TaskInference:
    """Inference of tasks from labelled states of the dataset.

    Args:
        config: the settings of the run.
        reward: the user's reward function; None for the tasks of the environment.
        dim: d, the dimension of a task z.

    Raises:
        InputError: when states cannot be labelled, or their rewards do not specify a task.
    """
    source_name, _, name = config.dataset.partition("/")
    source = SOURCES[source_name]
    environment = environments.with_rewards(
        config.dataset, config.data_dir, inputs.environment_kwargs(config)
    )
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
    zero_shot.check_labels(rewards, tasks, dim)  # before training takes time

    def draw(experiment: results.Experiment, states: Any) -> None:
        drawn = tasks[:1] if config.smoke else tasks
        draw_features(experiment, states, observations, drawn)

    def inference(names: Sequence[str], rewards: np.ndarray) -> results.TaskInference:
        def infer(agent: Agent, state: Any) -> zero_shot.InferredTasks:
            vectors = zero_shot.infer(agent, state, jnp.asarray(observations), jnp.asarray(rewards))
            return zero_shot.InferredTasks(state, vectors)

        return results.TaskInference(
            environment=frames.joined(environment, config.data.num_frames),
            with_tasks=lambda agent: zero_shot.with_named_tasks(agent, names),
            infer=infer,
            draw=draw,
        )

    def of_goals(names: Sequence[str], goals: np.ndarray, radius: float) -> results.TaskInference:
        labels, unlabelled = goal_labels(states["qpos"][:, :2], goals[:, :2], radius)
        return inference(names, labels)._replace(unlabelled=unlabelled)

    return inference(tasks, rewards)._replace(of_goals=of_goals)


def renewed_of(
    inference: results.TaskInference,
) -> Callable[[Sequence[str], np.ndarray, float], results.TaskInference]:
    """`of_goals` of an agent whose task of a goal depends on the state: it is renewed at each step.

    Args:
        inference: the inference of the tasks of the environment.
    """

    def of_goals(names: Sequence[str], goals: np.ndarray, radius: float) -> results.TaskInference:
        del radius
        return inference._replace(
            with_tasks=lambda agent: zero_shot.with_named_goals(agent, names),
            infer=lambda agent, state: zero_shot.InferredTasks(state, jnp.asarray(goals)),
            of_goals=None,
        )

    return of_goals


def goal_labels(places: np.ndarray, goals: np.ndarray, radius: float) -> tuple[np.ndarray, int]:
    """Rewards of labelled places [N, 2] for goals [P, 2]: 1 within the radius of the goal, else 0.

    If no labelled place is within the radius of a goal, the nearest one has the reward 1.

    Returns:
        The rewards [P, N], and the number of goals without a labelled place within their radius.
    """
    distances = np.linalg.norm(goals[:, None] - places, axis=-1)
    nearest = distances.min(axis=1, keepdims=True)
    labels = distances <= np.maximum(radius, nearest)
    return labels.astype(np.float32), int(np.count_nonzero(nearest > radius))


def draw_features(
    experiment: results.Experiment, states: Any, observations: np.ndarray, tasks: Sequence[str]
) -> None:
    """Writes latents.json for all members, and features.png and, in mazes, tasks.png for the first member.

    Args:
        experiment: the run.
        states: the states of all members.
        observations: the observations of the labelled states, [N, ...].
        tasks: the names of the tasks that are drawn, the first ones of the run.

    Raises:
        InputError: without matplotlib, or for a maze that cannot be drawn.
    """
    hyperparameters, workdir = experiment.members.hyperparameters, experiment.workdir

    @jax.jit
    def analyze(states: Any, observations: Array) -> tuple[Array, Array, Array]:
        def analyze_member(hyperparameters: Any, state: Any) -> tuple[Array, Array, Array]:
            encodings = zero_shot.encode(experiment.build(hyperparameters), state, observations)
            eigenvalues = factorizations.eigenvalues(encodings.T @ encodings / len(encodings))
            return encodings, eigenvalues, effective_rank(encodings)

        return jax.vmap(analyze_member)(hyperparameters, states)

    encodings, eigenvalues, ranks = jax.device_get(analyze(states, jnp.asarray(observations)))
    report = {"eigenvalues": eigenvalues.tolist(), "effective_rank": ranks.tolist()}
    outputs.write_json(workdir / "latents.json", report)

    agent = experiment.build({name: values[0] for name, values in hyperparameters.items()})
    evaluated = jax.tree.map(lambda leaf: leaf[0], jax.jit(experiment.evaluated_states)(states))
    vectors = dict(zip(tasks, np.asarray(evaluated.tasks), strict=False))
    rewards = {task: encodings[0] @ vector for task, vector in vectors.items()}
    task_plots.features(encodings[0], rewards, eigenvalues, workdir / "features.png")
    environment = experiment.environment
    if environment and "maze" in environment.name and experiment.config.data.num_frames == 1:
        draw_tasks(agent, evaluated.state, environment, vectors, workdir / "tasks.png")


def draw_tasks(
    agent: Agent, state: Any, environment: Environment, vectors: Mapping[str, np.ndarray], path: pathlib.Path
) -> None:
    """Draws ψ(s)ᵀz for the tasks of a maze, an agent's values and its policy, and geodesics to the goals.

    Args:
        agent: a zero-shot agent.
        state: its state.
        environment: an OGBench maze.
        vectors: name of a task -> its z, [d].
        path: the path of the picture.

    Raises:
        InputError: without matplotlib, or for a maze that cannot be drawn.
    """

    def by_task(function: Callable[[Augmented], Array]) -> Callable[[str, np.ndarray], Array]:
        compiled = jax.jit(function)

        def of_task(task: str, observations: np.ndarray) -> Array:
            repeated = jnp.repeat(vectors[task][None], len(observations), axis=0)
            return compiled(Augmented(jnp.asarray(observations), repeated))

        return of_task

    def reward(augmented: Augmented) -> Array:
        features = agent.features(state, augmented.observations)  # type: ignore[misc]
        return jnp.sum(features * augmented.memory, axis=-1)

    opened = {task: plots.open_maze(environment, task) for task in vectors}
    policy = by_task(lambda augmented: agent.act(state, augmented, jax.random.key(0), 0.0))
    acts_by_velocity = "pointmaze" in environment.name
    task_plots.tasks_in_maze(
        opened,
        reward=by_task(reward),
        value=by_task(lambda augmented: agent.value(state, augmented)),
        policy=policy if acts_by_velocity else None,
        distances=task_plots.distances_to_goals(environment, opened),
        path=path,
    )


def parse(
    argv: list[str], values: absl_flags.FlagValues = absl_flags.FLAGS
) -> tuple[ZeroShotRunConfig, MakeAgent]:
    """Parses a command line; arguments and errors as in `flags.parse_run`."""
    return flags.parse_run(argv, values, ZeroShotRunConfig(**flags.default_fields()))  # type: ignore[return-value]


def main(parsed: tuple[ZeroShotRunConfig, MakeAgent]) -> None:
    """Does the run of a command line."""
    train.main(parsed, run)
