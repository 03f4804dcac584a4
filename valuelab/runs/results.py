"""What a run leaves behind when it is done: scores, pictures, a table."""

import contextlib
import pathlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import rich.progress

from valuelab import files
from valuelab.arrays import open_npz
from valuelab.configuration import Population, RunConfig
from valuelab.data import normalization as normalizations
from valuelab.errors import InputError, one_line
from valuelab.evaluation import plots, rollout, statistics, video
from valuelab.runs import outputs
from valuelab.training import Run, logs, progress
from valuelab.training.logs import Row
from valuelab.types import Agent, Augmented, Environment, GoalConditioned, Normalization

FILM = "video.mp4"
EPISODES = "episodes.npz"
RECORDED = 10
"""Episodes of each member and task whose trajectories are kept for the picture of a maze."""


class Question(NamedTuple):
    """What a zero-shot agent is asked, wherever a run is evaluated.

    Attributes:
        environment: where.
        ask: the agent that learns -> the agent that acts.
        prepare: (agent that learns, its state) -> the state of the agent that acts.
        draw: (the run, states of all members) -> None: leaves features.png, and more of what was learnt.
    """

    environment: Environment
    ask: Callable[[Agent], Agent]
    prepare: Callable[[Agent, Any], Any]
    draw: Callable[["Experiment", Any], None]


class Experiment(NamedTuple):
    """What is fixed about a run before it starts.

    Attributes:
        config: its settings.
        members: what trains side by side.
        build: swept values of one member -> its agent.
        environment: where it is evaluated; None where it is not.
        workdir: where everything goes.
        question: what its agents are asked in evaluations; None where they act as they are.
    """

    config: RunConfig
    members: Population
    build: Callable[[Mapping[str, Any]], Agent]
    environment: Environment | None
    workdir: pathlib.Path
    question: Question | None = None

    def acting(self, hyperparameters: Mapping[str, Any]) -> Agent:
        """The agent of a member as it is evaluated."""
        agent = self.build(hyperparameters)
        return self.question.ask(agent) if self.question else agent

    def prepared(self, states: Any) -> Any:
        """The states of all members as they are evaluated."""
        question = self.question
        if question is None:
            return states
        return jax.vmap(lambda hyperparameters, state: question.prepare(self.build(hyperparameters), state))(
            self.members.hyperparameters, states
        )

    @property
    def agents(self) -> list[Agent]:
        """The agents of the members that have a memory, and so are evaluated on commands; or none."""
        return list(rollout.member_policy(self.acting, self.members.hyperparameters).agents)

    @property
    def tasks(self) -> list[str]:
        """What is evaluated: tasks of the environment, commands of the agents; none without evaluation."""
        return rollout.task_names(self.environment, self.agents) if self.environment else []

    @property
    def metric(self) -> str:
        """The score's name: the environment's, or "objective" where agents' commands have scores."""
        return "objective" if self.scores_commands or not self.environment else self.environment.metric

    @property
    def scores_commands(self) -> bool:
        """Whether agents take commands that say themselves what is reached."""
        return any(agent.memory and agent.memory.score for agent in self.agents)


class Evaluation:
    """Plays episodes with every member and keeps their outcome in episodes.npz.

    Attributes:
        last: the latest evaluation's episodes; None before the first.
    """

    def __init__(self, experiment: Experiment, environment: Environment):
        """Makes the environments; close it in the end."""
        config, members = experiment.config, experiment.members
        self._agent, self._path = config.agent_name, experiment.workdir / EPISODES
        self._tasks, self._metric = experiment.tasks, experiment.metric
        self._bar = rich.progress.Progress(console=progress.console, transient=True)
        self._evaluator = rollout.Evaluator(
            rollout.member_policy(experiment.acting, members.hyperparameters, config.eval_temperature),
            environment,
            num_members=members.size,
            episodes=config.eval_episodes,
            seed=config.seed,
            record=RECORDED,
            max_steps=config.eval_max_steps,
            progress=self._bar,
        )
        self._prepare = jax.jit(experiment.prepared)
        self.last: rollout.Episodes | None = None
        self.close = self._evaluator.close

    def __call__(self, states: Any, step: int) -> dict[str, np.ndarray]:
        """Scores [M] by name: the metric over all tasks, and for each task where there are several."""
        try:
            with self._bar:
                self.last = episodes = self._evaluator(self._prepare(states), step)
        except InputError as error:
            raise InputError(f"{self._agent}, evaluated after update {step}: {error}") from error
        metric, tasks = self._metric, self._tasks
        rollout.save_episodes(self._path, episodes, step, tasks)
        averages = {"length": episodes.lengths, "return": episodes.returns, metric: episodes.scores}
        scores = {name: values.mean((1, 2)) for name, values in averages.items()}
        if len(tasks) > 1:
            by_task = episodes.scores.mean(2).T
            scores |= {f"{metric}/{task}": values for task, values in zip(tasks, by_task, strict=True)}
        return scores


def summarize(experiment: Experiment, outcome: Run, rows: list[Row]) -> dict[str, Any]:
    """What result.json holds.

    Args:
        experiment: the run.
        outcome: what its last session left.
        rows: metrics.jsonl, of all its sessions.

    Returns:
        A dict of what `outputs.write_json` takes; see docs/training.md.
    """
    config, members = experiment.config, experiment.members
    result: dict[str, Any] = {
        "agent": config.agent_name,
        "dataset": config.dataset,
        "rewards": config.data.rewards,
        "environment": experiment.environment.name if experiment.environment else config.environment,
        "steps": config.steps,
        "num_seeds": config.num_seeds,
    }
    if experiment.tasks:
        scores, returns = (
            _final(experiment.workdir, config.steps, members, column) for column in ("score", "return")
        )
        if config.sweep:
            result["settings"] = [
                swept | _evaluated(experiment, scores[chosen], returns[chosen])
                for swept, chosen in members.by_setting()
            ]
        else:
            result |= _evaluated(experiment, scores, returns)
        places = np.argwhere(~(np.isfinite(scores) & np.isfinite(returns))).tolist()
        if places:
            result["without_score"] = [
                members.settings(member) | {"task": experiment.tasks[task], "episode": episode}
                for member, task, episode in places
            ]
    last, train_seconds = list(training_seconds(rows, members.size).items())[-1]
    result["throughput"] = outcome.throughput._asdict() | {
        "updates_per_second": last * members.size / train_seconds,
        "train_seconds": train_seconds,
    }
    return result | {"device": outputs.device(), "versions": outputs.versions()}


def _evaluated(experiment: Experiment, scores: np.ndarray, returns: np.ndarray) -> dict[str, Any]:
    """What result.json says of the seeds of one setting: scores and returns [M, T, E]."""
    tasks, metric = experiment.tasks, experiment.metric
    found: dict[str, Any] = {"eval": {metric: statistics.mean_interval(scores)}}
    if len(tasks) > 1 or experiment.scores_commands:
        found["interquartile_mean"] = statistics.interquartile_mean_interval(scores)
        found["tasks"] = {
            task: {metric: statistics.mean_interval(scores[:, index])} for index, task in enumerate(tasks)
        }
    if experiment.scores_commands:  # their score is of a command; what they collected is told beside it
        found["eval"]["return"] = statistics.mean_interval(returns)
        for index, task in enumerate(tasks):
            found["tasks"][task]["return"] = statistics.mean_interval(returns[:, index])
    return found


def training_seconds(rows: list[Row], members: int) -> dict[int, float]:
    """Update to the seconds of training until then, without compilation and evaluation.

    Updates over updates per second, event by event: the log holds all sessions of an interrupted run.

    Args:
        rows: metrics.jsonl.
        members: how many train side by side; their updates are counted together.
    """
    speeds = {row["step"]: row["updates_per_second"] for row in rows}
    seconds = np.diff([0, *speeds]) * members / np.array(list(speeds.values()))
    return dict(zip(speeds, np.cumsum(seconds).tolist(), strict=True))


def _final(workdir: pathlib.Path, steps: int, members: Population, column: str) -> np.ndarray:
    """A column of episodes.npz, of the evaluation after the last update: [M, T, E]."""
    with open_npz(workdir / EPISODES) as table:
        last = table["step"] == steps
        return table[column][last].reshape(members.size, len(np.unique(table["task"][last])), -1)


def read_run(folder: pathlib.Path, program: str, flag: str) -> tuple[dict[str, Any], Normalization]:
    """The settings of a run, as JSON has them, and how it saw its data.

    Args:
        folder: its workdir.
        program: whose run it should be, such as "train", for the message.
        flag: that named the folder, for the message.

    Raises:
        InputError: when it is no such folder.
    """
    what, advice = f"workdir of a run of experiments.{program}", f"give --{flag}=WORKDIR"
    outputs.check_folder(folder, advice)
    path = folder / "config.json"
    with one_line(f"{folder} is no {what}", advice):
        if not path.exists():
            raise FileNotFoundError(f"there is no {path}")
        saved = files.read_json(path, f"config of a {what}", advice, settings=dict, normalization=dict)
        return saved["settings"], normalizations.from_json(saved["normalization"])


class Evaluations(NamedTuple):
    """The scores of a run of M members at S evaluations on T tasks, means over episodes.

    Attributes:
        steps: [S] updates before each.
        tasks: [T] names.
        scores: [S, M, T].
    """

    steps: np.ndarray
    tasks: list[str]
    scores: np.ndarray


def read_evaluations(folder: pathlib.Path) -> Evaluations:
    """All evaluations that the run in a workdir has kept.

    Raises:
        InputError: when its table of episodes is missing or cut off.
    """
    path = folder / EPISODES
    with one_line(f"{path} is no table of episodes", "run its command again"):
        files.check_regular(path)
        with open_npz(path) as table:  # as rollout.save_episodes orders it
            steps, members = np.unique(table["step"]), np.unique(table["member"])
            tasks = list(dict.fromkeys(table["task"].tolist()))
            scores = table["score"].reshape(len(steps), len(members), len(tasks), -1).mean(-1)
    return Evaluations(steps, tasks, scores)


def read_scores(folder: pathlib.Path, metric: str) -> dict[int, np.ndarray]:
    """Update to the scores [M] of all members, at each evaluation of the run in a workdir; NaN for none."""
    scores: dict[int, list[float]] = {}
    for row in logs.read_rows(folder / "metrics.jsonl"):
        if f"eval/{metric}" in row:
            scores.setdefault(int(row["step"]), []).append(row[f"eval/{metric}"])
    return {step: np.array(members, float) for step, members in scores.items()}


def pictures(
    experiment: Experiment, outcome: Run, rows: list[Row], episodes: rollout.Episodes | None
) -> dict[str, Callable[[], Any]]:
    """What draws the pictures of a run, by name: its curves, a maze, what a question adds, a film.

    Args:
        experiment: the run.
        outcome: what it left.
        rows: metrics.jsonl.
        episodes: of the last evaluation, if it was in this session; else those of a maze are played again.
    """
    config, environment, question = experiment.config, experiment.environment, experiment.question
    fields, path = tuple(experiment.members.settings(0)), experiment.workdir / "curves.png"
    found: dict[str, Callable[[], Any]] = {
        "curves.png": lambda: plots.curves(rows, member_fields=fields, path=path)
    }
    if environment and config.data.num_frames == 1 and plots.is_maze(environment):
        found["maze.png"] = lambda: draw_maze(experiment, environment, outcome, episodes)
    if question:
        found["features.png"] = lambda: question.draw(experiment, outcome.states)
    if environment and config.video:
        found[FILM] = lambda: film(experiment, environment, outcome)
    return found


def draw_maze(
    experiment: Experiment, environment: Environment, outcome: Run, episodes: rollout.Episodes | None
) -> None:
    """Draws maze.png: the first member's value function for the first task, and its episodes there."""
    task = next(iter(environment.tasks))
    hyperparameters = {name: values[0] for name, values in experiment.members.hyperparameters.items()}
    agent = experiment.acting(hyperparameters)
    state = jax.tree.map(lambda leaf: leaf[0], experiment.prepared(outcome.states))
    goal = None
    if environment.goal_conditioned:
        scene = environment.make()
        goal = jnp.asarray(scene.reset(seed=0, options=environment.tasks[task])[1]["goal"], jnp.float32)
        scene.close()

    @jax.jit
    def value(observations: jax.Array) -> jax.Array:
        if agent.memory:
            command = next(iter(agent.memory.commands.values()))
            commands = jnp.repeat(command[None], len(observations), axis=0)
            memory = agent.memory.choose(state, observations, commands)
            return agent.value(state, Augmented(observations, memory))
        if goal is None:
            return agent.value(state, observations)
        goals = jnp.broadcast_to(goal, observations.shape)
        return agent.value(state, GoalConditioned(observations, goals))

    if episodes is None:
        episodes = _played_again(experiment, environment, outcome)
    recorded = episodes.trajectories
    shown = [index for index in sorted(recorded) if index[:2] == (0, 0)]
    plots.maze(
        environment,
        task=task,
        value=value if agent.value else None,
        trajectories=[recorded[index] for index in shown],
        successes=[bool(episodes.successes[index]) for index in shown],
        title=maze_title(experiment.config, experiment.members, len(shown)),
        value_label="V(s), discounted sum of rewards to come",
        path=experiment.workdir / "maze.png",
    )


def maze_title(config: RunConfig, members: Population, episodes: int) -> str:
    """What stands over maze.png: after how many updates; of several members the one drawn; its episodes."""
    lines = [f"{config.agent_name} after {config.steps:,} updates"]
    if members.size > 1:
        lines.append(plots.settings_text(members.settings(0)))
    if episodes:
        lines.append(f"{episodes} episode{'s' if episodes > 1 else ''}")
    return "\n".join(lines)


def _first_member(experiment: Experiment, outcome: Run) -> tuple[rollout.MemberPolicy, Any]:
    """The first member's policy as it is evaluated, and its state, [1, ...]."""
    states = experiment.prepared(outcome.states)
    first = jax.tree.map(lambda leaf: leaf[:1], (experiment.members.hyperparameters, states))
    policy = rollout.member_policy(experiment.acting, first[0], experiment.config.eval_temperature)
    return policy, first[1]


def _played_again(experiment: Experiment, environment: Environment, outcome: Run) -> rollout.Episodes:
    """The first member's recorded episodes of the last evaluation, which go as they went then."""
    policy, state = _first_member(experiment, outcome)
    config = experiment.config
    evaluator = rollout.Evaluator(
        policy,
        environment,
        num_members=1,
        episodes=min(RECORDED, config.eval_episodes),
        seed=config.seed,
        record=RECORDED,
        max_steps=config.eval_max_steps,
    )
    with contextlib.closing(evaluator):
        return evaluator(state, config.steps)


def film(experiment: Experiment, environment: Environment, outcome: Run) -> None:
    """Films the first member's first episode of each task as video.mp4."""
    act, state = _first_member(experiment, outcome)
    path = experiment.workdir / FILM
    seed, step = experiment.config.seed, experiment.config.steps
    bound = experiment.config.eval_max_steps
    video.film(path, act, state, environment, episodes=1, seed=seed, step=step, max_steps=bound)


def show(config: RunConfig, members: Population, workdir: pathlib.Path, result: Mapping[str, Any]) -> None:
    """Prints the table of a run that is done, and where everything lies.

    Args:
        config: settings of the run.
        members: what trained side by side.
        workdir: of the run.
        result: what its result.json holds.
    """
    if "settings" in result:
        metric = next(iter(result["settings"][0]["eval"]))
        found = [setting["eval"][metric] for setting in result["settings"]]
        swept = [setting for setting, _ in members.by_setting()]
        outputs.show(statistics.table(metric, list(zip(swept, found, strict=True))))
    elif "eval" in result and (workdir / EPISODES).exists():
        metric, total = next(iter(result["eval"].items()))
        scores = _final(workdir, config.steps, members, "score")
        rows = [
            (members.settings(index), statistics.mean_interval(scores[index, None]))
            for index in range(members.size)
        ]
        outputs.show(statistics.table(metric, rows, total))
    speed = result["throughput"]["updates_per_second"]
    print(f"mean {speed:,.0f} updates/s on {result['device']}; everything is in {workdir}")
