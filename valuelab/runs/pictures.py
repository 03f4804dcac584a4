"""The pictures of a finished run: curves, a maze with its value function and episodes, a film."""

import contextlib
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from valuelab.configuration import Population, RunConfig
from valuelab.evaluation import learning_curves, plots, rollout, sweep_plots, task_plots, video
from valuelab.runs import results
from valuelab.runs.results import RECORDED, Experiment
from valuelab.training import Run
from valuelab.training.logs import Row
from valuelab.types import Agent, Augmented, Environment, GoalConditioned

FILM = "video.mp4"


def pictures(
    experiment: Experiment,
    outcome: Run,
    rows: list[Row],
    episodes: rollout.Episodes | None,
    result: Mapping[str, Any],
) -> dict[str, Callable[[], Any]]:
    """The functions that draw the pictures of a run, by file name.

    Args:
        experiment: the run.
        outcome: the result of training.
        rows: metrics.jsonl.
        episodes: the last evaluation, if this session made it; if None, its recorded episodes are played
            again for maze.png and goals.png.
        result: the content of result.json.
    """
    config, environment, inference = experiment.config, experiment.environment, experiment.task_inference
    fields, path = tuple(experiment.members.settings(0)), experiment.workdir / "curves.png"
    levels = {check.metric: check.level for check in experiment.build({}).checks}
    drawings: dict[str, Callable[[], Any]] = {
        "curves.png": lambda: plots.curves(rows, member_fields=fields, levels=levels, path=path)
    }
    if "settings" in result:
        drawings["sweep.png"] = lambda: draw_sweep(experiment, result)
    if environment and config.data.num_frames == 1 and plots.is_maze(environment):

        @functools.cache
        def played() -> rollout.Episodes:
            """The episodes of the last evaluation, for both pictures."""
            return play_again(experiment, environment, outcome) if episodes is None else episodes

        drawings["maze.png"] = lambda: draw_maze(experiment, environment, outcome, played())
        if environment.goal_conditioned:
            drawings["goals.png"] = lambda: draw_goals(experiment, environment, outcome, played())
    if "pairs" in result:
        path_of_pairs = experiment.workdir / "pairs.png"
        drawings["pairs.png"] = lambda: task_plots.pairs(result["pairs"], config.agent_name, path_of_pairs)
    if inference:
        drawings["features.png"] = lambda: inference.draw(experiment, outcome.states)
    if environment and config.video:
        drawings[FILM] = lambda: film(experiment, environment, outcome)
    return drawings


def draw_sweep(experiment: Experiment, result: Mapping[str, Any]) -> None:
    """Draws sweep.png: the score of each setting, with its interval over seeds."""
    scores = results.swept_scores(experiment.members, result)
    sweep_plots.sweep(experiment.metric, scores, path=experiment.workdir / "sweep.png")


def draw_maze(
    experiment: Experiment, environment: Environment, outcome: Run, episodes: rollout.Episodes
) -> None:
    """Draws maze.png: the first member's value function for the first task, and its episodes there."""
    task = next(iter(environment.tasks))
    agent, state = first_member(experiment, outcome)
    goal = goal_of(environment, task) if environment.goal_conditioned else None

    @jax.jit
    def value(state: Any, observations: jax.Array) -> jax.Array:  # a constant state is slow to compile
        if agent.memory:
            command = next(iter(agent.memory.commands.values()))
            commands = jnp.repeat(command[None], len(observations), axis=0)
            memory = agent.memory.choose(state, observations, commands)
            return agent.value(state, Augmented(observations, memory))
        if goal is None:
            return agent.value(state, observations)
        goals = jnp.broadcast_to(goal, observations.shape)
        return agent.value(state, GoalConditioned(observations, goals))

    trajectories = episodes.trajectories
    shown = [index for index in sorted(trajectories) if index[:2] == (0, 0)]
    plots.maze(
        environment,
        task=task,
        value=functools.partial(value, state) if agent.value else None,
        trajectories=[trajectories[index] for index in shown],
        successes=[bool(episodes.successes[index]) for index in shown],
        title=maze_title(
            experiment.config, experiment.members, len(shown), task if len(environment.tasks) > 1 else ""
        ),
        value_label="V(s), discounted sum of rewards to come" if goal is None else "value V(s, goal)",
        path=experiment.workdir / "maze.png",
    )


def draw_goals(
    experiment: Experiment, environment: Environment, outcome: Run, episodes: rollout.Episodes
) -> None:
    """Draws goals.png: the first member's values, policy and episodes for each goal, beside geodesics."""
    agent, state = first_member(experiment, outcome)
    opened = {task: plots.open_maze(environment, task) for task in environment.tasks}
    goals = {task: goal_of(environment, task) for task in opened}

    def by_task(function: Callable[[Any, GoalConditioned], jax.Array]) -> Callable[[str, Any], jax.Array]:
        compiled = jax.jit(function)

        def of_task(task: str, observations: Any) -> jax.Array:
            goal = jnp.broadcast_to(goals[task], observations.shape)
            return compiled(state, GoalConditioned(jnp.asarray(observations), goal))

        return of_task

    played: dict[str, Any] = {}
    for number, task in enumerate(opened):
        shown = [index for index in sorted(episodes.trajectories) if index[:2] == (0, number)]
        trajectories = [episodes.trajectories[index] for index in shown]
        played[task] = trajectories, [bool(episodes.successes[index]) for index in shown]
    acts_by_velocity = "pointmaze" in environment.name
    act = by_task(lambda state, given: agent.act(state, given, jax.random.key(0), 0.0))
    task_plots.tasks_in_maze(
        opened,
        value=by_task(agent.value) if agent.value else None,
        policy=act if acts_by_velocity else None,
        distances=task_plots.distances_to_goals(environment, opened),
        episodes=played,
        value_label="value V(s, goal)",
        title=maze_title(experiment.config, experiment.members, 0).replace("\n", ", "),
        path=experiment.workdir / "goals.png",
    )


def goal_of(environment: Environment, task: str) -> jax.Array:
    """The goal of a task at the first reset."""
    instance = environment.make()
    goal = instance.reset(seed=0, options=environment.tasks[task])[1]["goal"]
    instance.close()
    return jnp.asarray(goal, jnp.float32)


def first_member(experiment: Experiment, outcome: Run) -> tuple[Agent, Any]:
    """The agent of the first member, and its state."""
    hyperparameters = {name: values[0] for name, values in experiment.members.hyperparameters.items()}
    state = jax.tree.map(lambda leaf: leaf[0], experiment.evaluated_states(outcome.states))
    return experiment.evaluated_agent(hyperparameters), state


def maze_title(config: RunConfig, members: Population, episodes: int, task: str = "") -> str:
    """The title of maze.png: agent, updates, the drawn member and task if there are several, episodes."""
    lines = [f"{config.agent_name} after {config.steps:,} updates"]
    if members.size > 1:
        lines.append(learning_curves.settings_text(members.settings(0)))
    shown = [task] if task else []
    if episodes:
        shown.append(f"{episodes} episode{'s' if episodes > 1 else ''}")
    if shown:
        lines.append(", ".join(shown))
    return "\n".join(lines)


def play_again(experiment: Experiment, environment: Environment, outcome: Run) -> rollout.Episodes:
    """Plays the recorded episodes of the last evaluation again; they equal the recorded ones bit for bit.

    All members play, because the last bits of their actions may depend on the size of the batch.
    """
    config = experiment.config
    policy = rollout.member_policy(
        experiment.evaluated_agent, experiment.members.hyperparameters, config.temperature
    )
    evaluator = rollout.Evaluator(
        policy,
        environment,
        num_members=experiment.members.size,
        episodes=min(RECORDED, config.eval_episodes),
        seed=config.seed,
        record=RECORDED,
        max_steps=config.eval_max_steps,
    )
    with contextlib.closing(evaluator):
        return evaluator(jax.jit(experiment.evaluated_states)(outcome.states), config.steps)


def film(experiment: Experiment, environment: Environment, outcome: Run) -> None:
    """Films the first member's first episode of each task as video.mp4."""
    config = experiment.config
    states = experiment.evaluated_states(outcome.states)
    hyperparameters, state = jax.tree.map(lambda leaf: leaf[:1], (experiment.members.hyperparameters, states))
    policy = rollout.member_policy(experiment.evaluated_agent, hyperparameters, config.temperature)
    video.film(
        experiment.workdir / FILM,
        policy,
        state,
        environment,
        episodes=1,
        seed=config.seed,
        step=config.steps,
        max_steps=config.eval_max_steps,
    )
