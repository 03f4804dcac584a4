"""The results of a run: its evaluations, result.json, and reading them again."""

import dataclasses
import json
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
import rich.progress

from valuelab import files, observation_parts
from valuelab.arrays import open_npz
from valuelab.configuration import Population, RunConfig
from valuelab.data import normalization
from valuelab.errors import InputError, one_line
from valuelab.evaluation import metric_checks, rollout, statistics
from valuelab.runs import command_line, flags, outputs
from valuelab.training import Run, logs, progress
from valuelab.training.logs import Row
from valuelab.types import Agent, Environment, Normalization, Spec

EPISODES = "episodes.npz"
RECORDED = 10
"""The number of episodes of each member and task whose trajectories are kept for the picture of a maze."""


class TaskInference(NamedTuple):
    """How a zero-shot agent is given tasks when a run is evaluated.

    Attributes:
        environment: the environment of the tasks.
        with_tasks: zero-shot agent -> an agent that acts for the tasks by name.
        infer: (zero-shot agent, its state) -> the state of the agent with tasks, which holds the inferred z.
        draw: (run, states of all members) -> None; writes features.png and other pictures of the features.
        of_goals: (names of P tasks, observations [P, D] at their goals in a maze, the radius of goals) -> the
            inference of these tasks; None where there are no labelled positions.
        unlabelled: the number of goals without a labelled state within their radius.
    """

    environment: Environment
    with_tasks: Callable[[Agent], Agent]
    infer: Callable[[Agent, Any], Any]
    draw: Callable[["Experiment", Any], None]
    of_goals: Callable[[Sequence[str], np.ndarray, float], "TaskInference"] | None = None
    unlabelled: int = 0


class Experiment(NamedTuple):
    """The parts of a run that are fixed before it starts.

    Attributes:
        config: the settings.
        members: the members that train in one program.
        build: swept values of one member -> its agent.
        environment: the environment of evaluations; None without evaluation.
        workdir: the folder of the run.
        task_inference: how zero-shot agents are given tasks in evaluations; None for other agents.
    """

    config: RunConfig
    members: Population
    build: Callable[[Mapping[str, Any]], Agent]
    environment: Environment | None
    workdir: pathlib.Path
    task_inference: TaskInference | None = None

    def evaluated_agent(self, hyperparameters: Mapping[str, Any]) -> Agent:
        """The agent of a member that is evaluated: the one that learns, given tasks if it is zero-shot."""
        agent = self.build(hyperparameters)
        return self.task_inference.with_tasks(agent) if self.task_inference else agent

    def evaluated_states(self, states: Any) -> Any:
        """The states of all members for `evaluated_agent`, from their states in training."""
        inference = self.task_inference
        if inference is None:
            return states
        return jax.vmap(lambda hyperparameters, state: inference.infer(self.build(hyperparameters), state))(
            self.members.hyperparameters, states
        )

    @property
    def agents(self) -> list[Agent]:
        """The agents of the members if they have a memory, and so are evaluated on commands; else none."""
        return list(rollout.member_policy(self.evaluated_agent, self.members.hyperparameters).agents)

    @property
    def tasks(self) -> list[str]:
        """The names of the evaluated tasks, with the commands of the agents; none without evaluation."""
        return rollout.task_names(self.environment, self.agents) if self.environment else []

    @property
    def metric(self) -> str:
        """The name of the score: the environment's metric, or "objective" where commands have scores."""
        return "objective" if self.scores_commands or not self.environment else self.environment.metric

    @property
    def scores_commands(self) -> bool:
        """Whether the score of an episode comes from the command of the agent, not from the environment."""
        return any(agent.memory and agent.memory.score for agent in self.agents)


class Evaluation:
    """Plays episodes with every member and saves their returns and scores in episodes.npz.

    Attributes:
        last: the episodes of the latest evaluation; None before the first.
    """

    def __init__(self, experiment: Experiment, environment: Environment):
        """Makes the environments; call `close` at the end."""
        config, members = experiment.config, experiment.members
        self._agent, self._path = config.agent_name, experiment.workdir / EPISODES
        self._tasks, self._metric = experiment.tasks, experiment.metric
        self._bar = rich.progress.Progress(console=progress.console, transient=True)
        self._evaluator = rollout.Evaluator(
            rollout.member_policy(experiment.evaluated_agent, members.hyperparameters, config.temperature),
            environment,
            num_members=members.size,
            episodes=config.eval_episodes,
            seed=config.seed,
            record=RECORDED,
            max_steps=config.eval_max_steps,
            progress=self._bar,
        )
        self._evaluated_states = jax.jit(experiment.evaluated_states)
        self.last: rollout.Episodes | None = None
        self.close = self._evaluator.close

    def __call__(self, states: Any, step: int) -> dict[str, np.ndarray]:
        """Mean scores [M] by name: the metric over all tasks, and of each task if there are several."""
        try:
            with self._bar:
                self.last = episodes = self._evaluator(self._evaluated_states(states), step)
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
    """The content of result.json.

    Args:
        experiment: the run.
        outcome: the result of training in the last session.
        rows: metrics.jsonl, of all sessions.

    Returns:
        A dict for `outputs.write_json`; see docs/start/run_folder.md.
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
    settings = [members.settings(index) for index in range(members.size)]
    if config.smoke:
        result["smoke"] = True
    elif warnings := metric_checks.warnings(experiment.build({}).checks, rows, settings):
        result["warnings"] = warnings
    if experiment.tasks:
        scores, returns = (
            _final(experiment.workdir, config.steps, members, column) for column in ("score", "return")
        )
        if config.sweep:
            result["settings"] = [
                swept | _evaluated(experiment, scores[chosen], returns[chosen])
                for swept, chosen in members.by_setting()
            ]
            best, _ = statistics.best(swept_scores(members, result))
            result["best_setting"] = best[0][0] if len(best) == 1 else None
        else:
            result |= _evaluated(experiment, scores, returns)
        not_finite = np.argwhere(~(np.isfinite(scores) & np.isfinite(returns))).tolist()
        if not_finite:
            result["without_score"] = [
                settings[member] | {"task": experiment.tasks[task], "episode": episode}
                for member, task, episode in not_finite
            ]
    last, train_seconds = list(training_seconds(rows, members.size).items())[-1]
    result["throughput"] = outcome.throughput._asdict() | {
        "updates_per_second": last * members.size / train_seconds,
        "train_seconds": train_seconds,
    }
    return result | {"device": outputs.device(), "versions": outputs.versions()}


def _evaluated(experiment: Experiment, scores: np.ndarray, returns: np.ndarray) -> dict[str, Any]:
    """The entries of result.json for the seeds of one setting, from scores and returns [M, T, E]."""
    tasks, metric = experiment.tasks, experiment.metric
    entries: dict[str, Any] = {"eval": {metric: statistics.mean_interval(scores)}}
    if len(tasks) > 1 or experiment.scores_commands:
        entries["interquartile_mean"] = statistics.interquartile_mean_interval(scores)
        entries["tasks"] = {
            task: {metric: statistics.mean_interval(scores[:, index])} for index, task in enumerate(tasks)
        }
    if experiment.scores_commands:  # the score depends on the command: report the return, too
        entries["eval"]["return"] = statistics.mean_interval(returns)
        for index, task in enumerate(tasks):
            entries["tasks"][task]["return"] = statistics.mean_interval(returns[:, index])
    return entries


def training_seconds(rows: list[Row], members: int) -> dict[int, float]:
    """The seconds of training until each logged update, without compilation and evaluation, by update.

    The sum over rows of updates / (updates per second), so that it covers all sessions of a run.

    Args:
        rows: metrics.jsonl.
        members: M; updates per second count the updates of all members.
    """
    speeds = {row["step"]: row["updates_per_second"] for row in rows}
    seconds = np.diff([0, *speeds]) * members / np.array(list(speeds.values()))
    return dict(zip(speeds, np.cumsum(seconds).tolist(), strict=True))


def _final(workdir: pathlib.Path, steps: int, members: Population, column: str) -> np.ndarray:
    """A column of episodes.npz for the evaluation after the last update, [M, T, E]."""
    with open_npz(workdir / EPISODES) as table:
        last = table["step"] == steps
        return table[column][last].reshape(members.size, len(np.unique(table["task"][last])), -1)


def read_run(folder: pathlib.Path, flag: str) -> tuple[dict[str, Any], Normalization]:
    """The content of config.json of a run, and the normalization of its data.

    Args:
        folder: the workdir of the run.
        flag: the flag that named the folder, for the message.

    Raises:
        InputError: when the folder does not look like the workdir of such a run.
    """
    what = "workdir of a run of experiments.train or experiments.zero_shot"
    advice = f"give --{flag}=WORKDIR"
    outputs.check_folder(folder, advice)
    path = folder / "config.json"
    with one_line(f"{folder} does not look like the {what}", advice):
        if not path.exists():
            raise FileNotFoundError("config.json is missing")
        saved = files.read_json(path, f"config of a {what}", advice, settings=dict, normalization=dict)
        return saved, normalization.from_json(saved["normalization"])


def saved_spec(folder: pathlib.Path, saved: Mapping[str, Any]) -> Spec | None:
    """The spec in the config.json of a run; None where it is older than specs in it.

    Args:
        folder: the workdir of the run, for the message.
        saved: the content of config.json.

    Raises:
        InputError: when it cannot be read.
    """
    if "spec" not in saved:
        return None
    with one_line(f"{folder / 'config.json'} has a spec that cannot be read", "give --workdir=WORKDIR"):
        return spec_from_json(saved["spec"])


def spec_to_json(spec: Spec) -> dict[str, Any]:
    """A spec as what JSON holds, which `spec_from_json` turns back; null for a bound that is infinite."""
    fields = dataclasses.asdict(spec)
    return {name: None if value in (np.inf, -np.inf) else value for name, value in fields.items()}


def spec_from_json(fields: Mapping[str, Any]) -> Spec:
    """The spec that `spec_to_json` wrote."""
    given: dict[str, Any] = dict(fields)
    for name, unbounded in (("reward_min", -np.inf), ("reward_max", np.inf)):
        given[name] = unbounded if given[name] is None else float(given[name])
    given["observation_shape"] = tuple(map(int, given["observation_shape"]))
    given["observation_parts"] = observation_parts.from_json(given.get("observation_parts", ()))
    given["observation_entries"] = tuple(map(str, given.get("observation_entries", ())))
    return Spec(**given)


class Evaluations(NamedTuple):
    """The scores of a run of M members at S evaluations on T tasks.

    Attributes:
        steps: [S], the number of updates before each evaluation.
        tasks: [T], names.
        scores: [S, M, T], means over episodes.
    """

    steps: np.ndarray
    tasks: list[str]
    scores: np.ndarray


def read_evaluations(folder: pathlib.Path) -> Evaluations:
    """Reads all evaluations of the run in a workdir.

    Raises:
        InputError: when episodes.npz is missing or truncated.
    """
    path = folder / EPISODES
    with one_line(f"{path} is not a table of episodes", "run the command of the run again"):
        files.check_regular(path)
        with open_npz(path) as table:  # in the order of rollout.save_episodes
            steps, members = np.unique(table["step"]), np.unique(table["member"])
            tasks = list(dict.fromkeys(table["task"].tolist()))
            scores = table["score"].reshape(len(steps), len(members), len(tasks), -1).mean(-1)
    return Evaluations(steps, tasks, scores)


def read_scores(folder: pathlib.Path, metric: str) -> dict[int, np.ndarray]:
    """The scores [M] at each evaluation of the run in a workdir, by update; NaN for a missing score."""
    scores: dict[int, list[float]] = {}
    for row in logs.read_rows(folder / "metrics.jsonl"):
        if f"eval/{metric}" in row:
            scores.setdefault(int(row["step"]), []).append(row[f"eval/{metric}"])
    return {step: np.array(members, float) for step, members in scores.items()}


def print_warnings(result: Mapping[str, Any]) -> None:
    """Prints the warnings in the content of result.json."""
    for warning in result.get("warnings", ()):
        print(f"warning: {warning['text']}")


def show(config: RunConfig, members: Population, workdir: pathlib.Path, result: Mapping[str, Any]) -> None:
    """Prints the table of a finished run, its speed and its folder.

    Args:
        config: the settings of the run.
        members: its members.
        workdir: its folder.
        result: the content of its result.json.
    """
    if "settings" in result:
        _show_sweep(members, result)
    elif "eval" in result and (workdir / EPISODES).exists():
        metric, total = next(iter(result["eval"].items()))
        if metric != "objective" and (members.size > 1 or "tasks" not in result):
            scores = _final(workdir, config.steps, members, "score")
            rows = [
                (members.settings(index), statistics.mean_interval(scores[index, None]))
                for index in range(members.size)
            ]
            outputs.show(statistics.table(metric, rows, total))
        if "tasks" in result:  # the objectives of different commands have no common mean
            total = None if metric == "objective" else result["eval"]
            rows = _task_rows(metric, {}, result["tasks"])
            outputs.show(statistics.tasks_table(rows, total, _references(result)))
        if "pairs" in result:
            outputs.show(_pairs_table(result["pairs"]))
    speed = result["throughput"]["updates_per_second"]
    print(f"mean {speed:,.0f} updates/s on {result['device']}; everything is in {workdir}")
    print_warnings(result)
    if config.smoke:
        print(f"this was a smoke run of {config.steps} updates: its scores mean nothing")
    command_line.print_next(*next_steps(config, workdir, result.get("best_setting")))


def _references(result: Mapping[str, Any]) -> dict[str, list[float]]:
    """Name of a reference in a maze -> its success rate in each task."""
    return {name: list(rates.values()) for name, rates in result.get("references", {}).items()}


def _pairs_table(pairs: Mapping[str, Any]) -> Any:
    """The table of the success rates in pairs of a start and a goal: one row for each bin of detours."""
    rows = [({"detour": name}, {"success": interval}) for name, interval in pairs["success"].items()]
    references = {
        name: [interval["mean"] for interval in bins.values()] for name, bins in pairs["references"].items()
    }
    return statistics.tasks_table(rows, None, references)


def next_steps(
    config: RunConfig, workdir: pathlib.Path, best: Mapping[str, float] | None = None
) -> list[str]:
    """What can be done with a finished run, for `command_line.print_next`.

    Args:
        config: the settings of the run.
        workdir: its folder.
        best: of a sweep, the swept values of the best setting; the first of its seeds is shown.
    """
    if config.smoke:
        return ["the same command without --smoke, and with another --workdir"]
    path = workdir / "config.json"
    saved = files.read_json(path, "config of valuelab", "run the command again", settings=dict)
    zero_shot, goals = "labels" in saved["settings"], saved.get("spec", {}).get("goal_conditioned", False)
    rows = logs.read_rows(workdir / "metrics.jsonl")
    has_critic = any(name.startswith("critic/") for name in rows[-1]) if rows else False
    trust = ", trust_agent_file=True" if flags.agent_files(config) else ""
    member = f".member(**{json.dumps(best)}, seed={config.seed})" if best else ""
    commands = [name for name in (rows[-1] if rows else ()) if name.startswith("eval/objective/")]
    call = ".infer(observations, rewards)" if zero_shot else ".policy()"
    if hasattr(config.agent, "commands"):
        call = ".command(" + "".join(f'"{name.split("/", 2)[2]}"' for name in commands[:1]) + ")"
    steps = [f'valuelab.load("{workdir}"{trust}){member}{call} in Python']
    if config.dataset and has_critic and not goals and config.data.num_frames == 1:
        arguments = f"--checkpoint={workdir}", f"--workdir={workdir}-diagnosed"
        steps.append(command_line.command("diagnose", *arguments))
    return steps


def swept_scores(members: Population, result: Mapping[str, Any]) -> list[statistics.Row]:
    """The settings of a sweep, and the `mean_interval` of the score of each.

    Args:
        members: the members of the run.
        result: the content of its result.json.
    """
    metric = next(iter(result["settings"][0]["eval"]))
    intervals = [setting["eval"][metric] for setting in result["settings"]]
    swept = [setting for setting, _ in members.by_setting()]
    return list(zip(swept, intervals, strict=True))


def _show_sweep(members: Population, result: Mapping[str, Any]) -> None:
    """Prints the settings of a sweep, the best first, and a line that names the best."""
    metric = next(iter(result["settings"][0]["eval"]))
    scores = swept_scores(members, result)
    if metric == "objective":
        order = sorted(range(len(scores)), key=lambda index: statistics.rank_key(scores[index][1]["mean"]))
        rows = [
            row
            for index in order
            for row in _task_rows(metric, scores[index][0], result["settings"][index]["tasks"])
        ]
        outputs.show(statistics.tasks_table(rows))
    else:
        outputs.show(statistics.table(metric, scores))
    print(best_setting(metric, scores))


def best_setting(metric: str, scores: Sequence[statistics.Row]) -> str:
    """A line that names the best setting of a sweep, and says how certain this is.

    Args:
        metric: the name of the score.
        scores: the settings, and their `mean_interval`.
    """
    best, overlapping = statistics.best(scores)
    if not best:
        return "best setting: none, because no setting has a finite score"
    interval = f"{metric} {statistics.interval_text(best[0][1])}"
    if len(best) > 1:
        return f"best setting: none, because {len(best)} settings share the highest {interval}"
    setting = " ".join(f"{name}={value}" for name, value in best[0][0].items())
    certain = "the interval of no other setting overlaps"
    if len(best[0][1]["per_seed"]) == 1:
        certain = "but there is only one seed: give --num_seeds=4 or more"
    elif overlapping:
        certain = f"but the intervals of {overlapping} other setting{'s' * (overlapping > 1)} overlap"
    return f"best setting: {setting}, {interval}; {certain}"


def _task_rows(metric: str, setting: Mapping[str, Any], tasks: Mapping[str, Any]) -> list[Any]:
    """The rows of tasks or commands, with the setting if there are several."""
    kind = "command" if metric == "objective" else "task"
    return [({**setting, kind: task}, intervals) for task, intervals in tasks.items()]
