"""Diagnosis of the critics of a trained run: features, weights, values against returns, recovery of flows.

`valuelab.evaluation.diagnostics` defines the numbers.
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
from valuelab.evaluation import diagnostic_plots, diagnostics
from valuelab.evaluation.diagnostics import Diagnosis, Rows
from valuelab.files import local_path
from valuelab.ops.returns import monte_carlo_returns
from valuelab.runs import command_line, flags, outputs, own_rewards, saved, task_diagnosis
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
    seed: int = setting(0, "[0, 2147483647]", "Seed of the rows and of the noise of flow critics.")
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
            f"{config.dataset} has no rewards, because its goals are drawn in training: give a run on one of "
            "its single tasks"
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


def read_dataset(run: SavedRun) -> Dataset:
    """The dataset of a run, in full storage; InputError if it cannot be read or the run joined frames."""
    config = run.config
    if config.data.num_frames > 1:
        raise InputError(
            f"the run in {run.folder} has data.num_frames={config.data.num_frames}, but a diagnosis needs "
            "data.num_frames=1: give another run"
        )
    return data.load(config.dataset, config.data_dir, **data.reading_settings(config.data))


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
    diagnose_run = _of_tasks if saved_run.zero_shot else _of_critics
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
        print(f"everything is in {workdir}")
        call = ".infer(observations, rewards)" if saved_run.zero_shot else ".policy()"
        command_line.print_next(f'valuelab.load("{folder}"){call} in Python')
        return result | report | facts


Report = tuple[dict[str, Any], Callable[..., Any]]
"""Entries of diagnostics.json with the reports under "checkpoints"; (members, title, path) -> a picture."""


def _of_critics(run: SavedRun, config: DiagnoseConfig) -> Callable[[], Report]:
    """Reads a run with rewards; returns the function that diagnoses it."""
    diagnosed = open_run(run, config.trust_agent_file)

    def make_report() -> Report:
        diagnoses = diagnose(diagnosed, run.folder, config.rows, config.seed)
        reports, newest = report(diagnoses), list(diagnoses.values())[-1]
        entries = {
            "rows": newest.diagnosis.q.shape[1],
            "known_returns": newest.rows.known.sum(1),
            "checkpoints": reports,
        }

        def draw(members: list[int], **settings: Any) -> Any:
            parts = of_members((reports, newest.diagnosis.q, newest.rows), members)
            return diagnostic_plots.diagnosis(*parts, **settings)

        return entries, draw

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
