"""Diagnosis of the critics of a trained run: features, weights, values against returns, recovery of flows.

The values' order along trajectories is reported, too. Where goals are drawn in training, it is all that is
reported, with the last observation of each trajectory as its goal. `valuelab.evaluation.diagnostics` defines
the numbers.
"""

import dataclasses
import functools
import pathlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import rich.table
from absl import flags as absl_flags

from valuelab import configuration, data
from valuelab.agents.normalized import normalize
from valuelab.configuration import Population, RunConfig, Settings, setting
from valuelab.data import storage
from valuelab.errors import InputError, one_line
from valuelab.evaluation import diagnostic_plots, diagnostics, statistics
from valuelab.evaluation.diagnostics import Diagnosis, OrderDiagnosis, Rows
from valuelab.files import local_path
from valuelab.ops.returns import monte_carlo_returns
from valuelab.runs import (
    command_line,
    flags,
    inputs,
    outputs,
    own_rewards,
    saved,
    task_diagnosis,
    value_order,
)
from valuelab.runs.saved import SavedRun
from valuelab.training import checkpoints, replay
from valuelab.types import Agent, Critic, Dataset, MakeAgent, Normalization, Spec, Transitions


@dataclasses.dataclass(frozen=True, kw_only=True)
class DiagnoseConfig(Settings):
    """The settings of a diagnosis."""

    checkpoint: str = setting("", help="Workdir of a trained run.")
    trust_agent_file: bool = setting(
        False,
        help="Execute the agent file, the objective's file and the reward file that this run names.",
        compare=False,
    )
    data_dir: str = setting(
        "", help="Folder of the run's dataset; empty for the folder that the run used.", compare=False
    )
    rows: int = setting(
        2048,
        "[4, inf)",
        "Number of pairs of observation and action at which critics are examined. They are drawn from the "
        "dataset; of a run that learned by acting alone, from the replay buffer.",
    )
    order_dataset: str = setting(
        "",
        help="Dataset along whose episodes the order of values is reported, such as episodes of an expert; "
        "val for the validation episodes of the run's dataset, and empty for its training episodes.",
    )
    order_episodes: int = setting(
        200, "[0, inf)", "Number of random episodes along which the order of values is reported; 0 for none."
    )
    seed: int = setting(
        0, "[0, 2147483647]", "Seed of the rows, of the episodes and of the noise of flow critics."
    )
    workdir: str = setting("", help="Folder for the results.", compare=False)


class DiagnosedRun(NamedTuple):
    """A saved run.

    Attributes:
        config: the settings.
        members: the members that trained in one program.
        build: swept values of one member -> its agent, which takes normalised data.
        spec: the facts about the data that the agent may use.
        normalization: of the data.
        dataset: the dataset, or the transitions of a replay buffer, in full storage.
    """

    config: RunConfig
    members: Population
    build: Callable[[Mapping[str, Any]], Agent]
    spec: Spec
    normalization: Normalization
    dataset: Dataset

    def draw(self, count: int, seed: int) -> np.ndarray:
        """Random row numbers of the dataset, without repetition: `count` of them, or all if it has fewer."""
        size = len(self.dataset.rewards)
        return np.random.default_rng(seed).choice(size, min(count, size), replace=False)

    def batch(self, numbers: np.ndarray) -> Transitions:
        """Rows of the dataset, normalised as the agents see them."""
        columns = (getattr(self.dataset, name)[numbers] for name in Transitions._fields[:5])
        return normalize(Transitions(*columns), self.normalization, self.spec.observation_parts)

    def saved_states(self, folder: pathlib.Path) -> Iterator[tuple[int, Any]]:
        """Reads all checkpoints in the run's workdir, oldest first: step, and states [M, ...].

        Raises:
            InputError: when a checkpoint cannot be read, or there is none.
        """
        like = saved.state_shapes(self.build, self.members, self.batch(np.arange(1)))
        return checkpoints.read_states(folder / "checkpoints", like)

    def critic(self, hyperparameters: Mapping[str, Any]) -> Critic:
        """The critic of the agent with these swept values.

        Raises:
            InputError: when the agent has none, or its critic has no Q.
        """
        critic = self.build(hyperparameters).critic
        if critic is None:
            raise InputError(
                f"agent {self.config.agent_name!r} has no critic to diagnose: give the run of another agent"
            )
        if "q" not in critic.offers:
            raise InputError(
                f"agent {self.config.agent_name!r} has no Q to diagnose, because critic {critic.name!r} "
                f"offers only {', '.join(sorted(critic.offers))}: give the run of another agent"
            )
        return critic


class CheckpointDiagnosis(NamedTuple):
    """The diagnosis of all M members at one checkpoint; the leading axis of each array is M.

    Attributes:
        diagnosis: the diagnosis of the critics.
        rows: the rows of the dataset on which they were evaluated.
    """

    diagnosis: Diagnosis
    rows: Rows


def as_trained(
    config: RunConfig, make_agent: MakeAgent, spec: Spec, normalization: Normalization, dataset: Dataset
) -> DiagnosedRun:
    """A trained run from its parts."""

    def build(hyperparameters: Mapping[str, Any]) -> Agent:
        return make_agent(configuration.replace(config, hyperparameters).agent, spec)

    return DiagnosedRun(config, configuration.population(config), build, spec, normalization, dataset)


class RunOrder(NamedTuple):
    """The order of a run's values along K episodes.

    Attributes:
        dataset: the name of the dataset of these episodes.
        by_step: step of a checkpoint -> diagnosis, oldest first.
    """

    dataset: str
    by_step: Mapping[int, OrderDiagnosis]

    @property
    def last(self) -> OrderDiagnosis:
        """The diagnosis of the newest checkpoint."""
        return list(self.by_step.values())[-1]

    def to_json(self, members: Population) -> dict[str, Any]:
        """The entry "order" of diagnostics.json: the newest checkpoint, with intervals for each setting."""
        return {
            "dataset": self.dataset,
            "episodes": self.last.correlations.shape[1],
            "by_setting": [
                {"settings": swept} | diagnostics.order_intervals(of_members(self.last.moments, chosen))
                for swept, chosen in members.by_setting()
            ],
            "per_episode": self.last.correlations,
        }


def open_run(run: SavedRun, trusted: bool = False) -> DiagnosedRun:
    """Reads the data of a run, on which its critics are diagnosed.

    Args:
        run: the saved run.
        trusted: whether a reward file that the run names may be executed.

    Raises:
        InputError: when its agent or data are missing, its reward file is not trusted, its agent has no
            critic, its data have no rewards, or frames were joined.
    """
    config = run.config
    dataset = read_dataset(run) if config.dataset else read_replay(run)
    if config.dataset and config.reward:
        reward = own_rewards.find_saved(config, trusted, "give --trust_agent_file")
        dataset = own_rewards.labelled(config, dataset, reward)
    if dataset.goal_conditioned:
        raise InputError(
            f"{config.dataset} has no rewards, because its goals are drawn in training, but the run learned "
            "from rewards: give the run's own dataset"
        )
    spec = run.known_spec()
    if dataset.observations.shape[1:] != spec.observation_shape:
        raise InputError(
            f"the run in {run.folder} stacks frames, and its replay buffer keeps single ones: give a run "
            "without stacks, or on a dataset"
        )
    diagnosed = as_trained(config, run.make_agent, spec, run.normalization, dataset)
    diagnosed.critic({})  # raises before anything else is read
    return diagnosed


def read_dataset(run: SavedRun, name: str = "", split: str = "train") -> Dataset:
    """The dataset of a run, or another one, in full storage.

    Raises:
        InputError: when it cannot be read, or the run joined frames.
    """
    config = run.config
    if config.data.num_frames > 1:
        raise InputError(
            f"the run in {run.folder} has data.num_frames={config.data.num_frames}, but a diagnosis needs "
            "data.num_frames=1: give another run"
        )
    settings = data.reading_settings(config.data)
    return data.load(name or config.dataset, config.data_dir, split=split, **settings)


def read_replay(run: SavedRun) -> Dataset:
    """The transitions in the replay buffers of all members at the newest checkpoint, in full storage.

    All critics are diagnosed on the same transitions, which the members have met together.

    Args:
        run: a run that learned by acting alone.

    Raises:
        InputError: when there is no checkpoint, or the buffers are empty or cannot be read.
    """
    folder = run.folder
    step = checkpoints.saved_steps(folder / "checkpoints")[-1]
    carry = checkpoints.read_arrays(folder / "checkpoints", step, "experience")
    with one_line(f"{folder} has a replay buffer that cannot be read", "give another run"):
        rows = {name: carry[f"1.rows.{name}"] for name in replay.Row._fields}
        episodes = [
            episode
            for member, written in enumerate(carry["1.written"].tolist())
            for episode in replay.episodes({name: array[member] for name, array in rows.items()}, written)
        ]
    if not episodes:
        raise InputError(
            f"the replay buffer in {folder} is empty after {step} updates: let the run act first"
        )
    return storage.full(storage.from_episodes(run.config.environment, episodes, folder))


def diagnose(
    run: DiagnosedRun, folder: pathlib.Path, num_rows: int, seed: int
) -> dict[int, CheckpointDiagnosis]:
    """Diagnoses the critics of all members at all checkpoints, on the same rows with the same noise.

    Args:
        run: the run.
        folder: the workdir of the run.
        num_rows: number of rows to draw; all if the dataset has fewer.
        seed: random seed of rows and noise.

    Returns:
        Step -> diagnosis, oldest first.

    Raises:
        InputError: when a checkpoint cannot be read, or there is none.
    """
    dataset, normalization = run.dataset, run.normalization
    numbers = run.draw(num_rows, seed)
    batch = run.batch(numbers)
    rewards = normalization.reward_scale * dataset.rewards + normalization.reward_shift
    ends = storage.are_last(dataset)
    trajectories = (rewards, dataset.masks, ends)

    def diagnose_member(
        critic: Critic, state: Any, batch: Transitions, trajectories: Any
    ) -> CheckpointDiagnosis:
        if critic.diagnostics is None:
            returns, missing = jnp.zeros(len(numbers)), jnp.ones(len(numbers))
        else:
            rewards, masks, ends = trajectories
            whole = monte_carlo_returns(rewards, masks, ends, critic.diagnostics.discount)
            returns, missing = (part[numbers] for part in whole)
        rows = Rows(batch.observations, batch.actions, returns, missing)
        diagnosis = diagnostics.diagnose(critic, state.critic, rows, jax.random.key(seed))
        return CheckpointDiagnosis(diagnosis, rows)

    @jax.jit
    def diagnose_members(states: Any, batch: Transitions, trajectories: Any) -> CheckpointDiagnosis:
        return jax.lax.map(
            lambda member: diagnose_member(run.critic(member[0]), member[1], batch, trajectories),
            (run.members.hyperparameters, states),
        )

    return {
        step: jax.tree.map(np.asarray, diagnose_members(states, batch, trajectories))
        for step, states in run.saved_states(folder)
    }


def report(diagnoses: Mapping[int, CheckpointDiagnosis]) -> list[dict[str, Any]]:
    """For each checkpoint its step, its report, and how its features compare with those of the last one."""
    last = list(diagnoses.values())[-1].diagnosis
    compare = jax.jit(jax.vmap(diagnostics.compare))
    return [
        {"step": step, **each.diagnosis.report, **compare(each.diagnosis, last)}
        for step, each in diagnoses.items()
    ]


def successes(dataset: Dataset, chosen: np.ndarray) -> np.ndarray | None:
    """Whether episodes succeed, as far as rewards and terminations tell.

    If rewards have two values, an episode with the larger one succeeds. If all rewards are one negative
    number, an episode that terminates succeeds.

    Args:
        dataset: a dataset in full storage.
        chosen: [K], the numbers of the episodes.

    Returns:
        [K] bool; None for other rewards, and for goals that are drawn in training.
    """
    levels = np.unique(dataset.rewards)
    if dataset.goal_conditioned or dataset.rewards.ndim > 1 or len(levels) > 2:
        return None
    if len(levels) == 2:
        reached = dataset.rewards == levels[1]
    elif levels[0] < 0:
        reached = dataset.masks == 0
    else:
        return None
    ends = np.flatnonzero(storage.are_last(dataset))
    starts = np.append(0, ends[:-1] + 1)
    return np.logical_or.reduceat(reached, starts)[chosen]


def find_order(run: SavedRun, own: Dataset, config: DiagnoseConfig) -> Callable[[], RunOrder] | None:
    """Reads the episodes of `order_dataset`; returns the function that computes the order of values there.

    Args:
        run: the run.
        own: its dataset, in full storage.
        config: the settings of the diagnosis.

    Returns:
        The function; None if no order is asked for.

    Raises:
        InputError: when the dataset cannot be read, or its observations differ from those of the run.
    """
    if not config.order_episodes:
        return None
    name = config.order_dataset
    if not name:
        dataset = own
    elif not run.config.dataset and name == "val":
        raise InputError("order_dataset is val, but the run has no dataset: give the name of a dataset")
    else:
        dataset = read_dataset(run, **({"split": "val"} if name == "val" else {"name": name}))
    spec = run.known_spec()
    value_order.check_observations(spec, dataset, f"order_dataset is {name or run.config.dataset}")
    count = int(storage.are_last(dataset).sum())
    chosen = np.random.default_rng(config.seed).permutation(count)[: config.order_episodes]
    chosen.sort()
    places = storage.trajectories(dataset, chosen)
    # A reward of the user labels the run's own dataset only.
    succeed = None if run.config.reward and dataset is not own else successes(dataset, chosen)

    def compute() -> RunOrder:
        build = inputs.make_builder(run.config, run.make_agent, spec, run.normalization)
        values = value_order.along_trajectories(build, configuration.population(run.config), spec)
        by_step = {}
        for step in checkpoints.saved_steps(run.folder / "checkpoints"):
            _, states = saved.read_states(run, build, spec, step)
            along = values(states, dataset, places)
            by_step[step] = diagnostics.diagnose_order(along, places.lengths, succeed, config.seed)
        return RunOrder(f"{dataset.name} (val)" if name == "val" else dataset.name, by_step)

    return compute


def of_members(tree: Any, members: list[int]) -> Any:
    """The part of a tree of arrays [M, ...] that belongs to some members; scalars stay as they are."""
    return jax.tree.map(lambda leaf: np.asarray(leaf)[members] if np.ndim(leaf) else leaf, tree)


def show(reports: list[dict[str, Any]], title: str) -> None:
    """Prints a table of means over seeds, with a row for each scalar and a column for each checkpoint.

    The many norms of weights and gradients are shown in the picture only.
    """
    table = rich.table.Table("mean over seeds", *[f"{entry['step']:,}" for entry in reports], title=title)
    flat = [configuration.flatten(entry) for entry in reports]
    for name, values in flat[0].items():
        if np.ndim(values) == 1 and "_norms." not in name:
            table.add_row(name, *[f"{np.mean(entry[name]):.4g}" for entry in flat])
    outputs.show(table)


def show_order(order: Mapping[str, Any], number: int) -> None:
    """Prints a line with the order of values and its intervals, for the setting of a number."""
    of_setting = order["by_setting"][number]
    where = f"order of values along {order['episodes']} episodes of {order['dataset']}"
    if "mean" not in of_setting:
        print(f"{where}: none, because the episodes are too short or have equal values")
        return
    mean, pooled = (statistics.interval_text(of_setting[name]) for name in ("mean", "pooled"))
    print(f"{where}, with 95 % intervals: mean {mean}; pooled {pooled}")


def run(config: DiagnoseConfig) -> dict[str, Any]:
    """Diagnoses a run and writes the results.

    Args:
        config: the settings.

    Returns:
        The content of diagnostics.json.

    Raises:
        InputError: for a run or a folder that cannot be used.
    """
    if not config.checkpoint:
        raise InputError("no run is given: write --checkpoint=WORKDIR")
    folder = local_path("checkpoint", config.checkpoint)
    if config.workdir and local_path("workdir", config.workdir).resolve() == folder.resolve():
        raise InputError(f"workdir {config.workdir} is the workdir of the run: give another --workdir")
    saved_run = saved.open_run(folder, "checkpoint", config.trust_agent_file)
    if config.data_dir:
        settings = configuration.replace(saved_run.config, {"data_dir": config.data_dir})
        saved_run = saved_run._replace(config=settings)
    if saved_run.zero_shot:
        diagnose_run = _of_tasks
    else:
        diagnose_run = _of_goals if saved_run.known_spec().goal_conditioned else _of_critics
    make_report = diagnose_run(saved_run, config)
    with outputs.prepare_folder(config) as workdir:
        report, draw = make_report()
        settings, facts = saved_run.config, outputs.provenance()
        outputs.write_json(workdir / "config.json", {"settings": configuration.to_json(config)} | facts)
        members = configuration.population(settings)
        result = {
            "agent": settings.agent_name,
            "dataset": settings.dataset,
            "environment": settings.environment,
            "members": [members.settings(index) for index in range(members.size)],
        }
        outputs.write_json(workdir / "diagnostics.json", result | report | facts)
        title = f"{settings.agent_name} on {settings.dataset or settings.environment}"
        for number, (swept, chosen) in enumerate(members.by_setting()):
            setting = ", ".join([title, *(f"{name}={value}" for name, value in swept.items())])
            path = workdir / (f"diagnostics_{number}.png" if swept else "diagnostics.png")
            outputs.draw({path.name: functools.partial(draw, chosen, title=setting, path=path)})
            show(of_members(report["checkpoints"], chosen), setting)
            if "order" in report:
                show_order(report["order"], number)
        print(f"everything is in {workdir}")
        call = ".infer(observations, rewards)" if saved_run.zero_shot else ".policy()"
        command_line.print_next(f'valuelab.load("{folder}"){call} in Python')
        return result | report | facts


Report = tuple[dict[str, Any], Callable[..., Any]]
"""Entries of diagnostics.json with the reports under "checkpoints"; (members, title, path) -> a picture."""


def _of_critics(run: SavedRun, config: DiagnoseConfig) -> Callable[[], Report]:
    """Reads a run with rewards; returns the function that diagnoses it."""
    diagnosed = open_run(run, config.trust_agent_file)
    find = find_order(run, diagnosed.dataset, config)

    def make_report() -> Report:
        diagnoses = diagnose(diagnosed, run.folder, config.rows, config.seed)
        reports, newest = report(diagnoses), list(diagnoses.values())[-1]
        entries = {
            "rows": newest.diagnosis.q.shape[1],
            "known_returns": newest.rows.known.sum(1),
        }
        correlations = None
        if find:
            found = find()
            reports = [entry | {"order": found.by_step[entry["step"]].report} for entry in reports]
            entries["order"] = found.to_json(diagnosed.members)
            correlations = found.last.correlations
        entries["checkpoints"] = reports

        def draw(members: list[int], **settings: Any) -> Any:
            parts = of_members((reports, newest.diagnosis.q, newest.rows, correlations), members)
            return diagnostic_plots.diagnosis(*parts, **settings)

        return entries, draw

    return make_report


def _of_goals(run: SavedRun, config: DiagnoseConfig) -> Callable[[], Report]:
    """Reads a run whose goals are drawn in training; returns the function that diagnoses its order."""
    dataset = read_dataset(run)
    find = find_order(run, dataset, config)
    if find is None:
        raise InputError(
            f"order_episodes is 0, but {run.config.dataset} has no rewards, because its goals are drawn in "
            "training, so only the order of values can be reported: give a positive number"
        )
    agent = run.make_agent(run.config.agent, run.known_spec())
    value_order.check_values(agent, run.config.agent_name, run.folder)

    def make_report() -> Report:
        found = find()
        reports = [{"step": step, "order": each.report} for step, each in found.by_step.items()]
        order = found.to_json(configuration.population(run.config))

        def draw(members: list[int], **settings: Any) -> Any:
            parts = of_members((reports, found.last.correlations), members)
            return diagnostic_plots.orders(*parts, **settings)

        return {"order": order, "checkpoints": reports}, draw

    return make_report


def _of_tasks(run: SavedRun, config: DiagnoseConfig) -> Callable[[], Report]:
    """Reads a zero-shot run; returns the function that diagnoses it."""
    dataset = read_dataset(run)

    def make_report() -> Report:
        diagnosed = task_diagnosis.diagnose(run, dataset, config.rows, config.seed, config.trust_agent_file)
        entries = {
            "rows": diagnosed.last.values.shape[2],
            "known_returns": diagnosed.last.known[:, 0].sum(1),
            "checkpoints": diagnosed.reports,
        }

        def draw(members: list[int], **settings: Any) -> Any:
            reports, last = of_members((diagnosed.reports, diagnosed.last), members)
            return diagnostic_plots.tasks(reports, diagnosed.tasks, *last, **settings)

        return entries, draw

    return make_report


def parse(argv: list[str], values: absl_flags.FlagValues = absl_flags.FLAGS) -> DiagnoseConfig:
    """Parses a command line; arguments and errors as in `flags.parse_config`."""
    return flags.parse_config(DiagnoseConfig(), argv, values)


def main(config: DiagnoseConfig) -> None:
    """Runs the diagnosis of a command line."""
    run(config)
