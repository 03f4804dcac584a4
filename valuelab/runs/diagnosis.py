"""The critics of a trained run: their features, weights, values against returns, and how flows recover.

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
from valuelab.data import normalization as normalizations
from valuelab.data import storage
from valuelab.errors import InputError
from valuelab.evaluation import diagnostic_plots, diagnostics
from valuelab.evaluation.diagnostics import Diagnosis, Rows
from valuelab.files import local_path
from valuelab.ops.returns import monte_carlo_returns
from valuelab.runs import flags, outputs, results
from valuelab.runs.trained import state_shapes
from valuelab.training import checkpoints
from valuelab.types import Agent, Critic, Dataset, MakeAgent, Normalization, Spec, Transitions


@dataclasses.dataclass(frozen=True, kw_only=True)
class DiagnoseConfig(Settings):
    """What is looked at."""

    checkpoint: str = setting("", help="Workdir of a trained run.")
    trust_agent_file: bool = setting(
        False, help="Run the agent file that this run names, wherever it lies.", compare=False
    )
    data_dir: str = setting(
        "", help="Folder that holds the run's dataset; empty for where the run found it.", compare=False
    )
    rows: int = setting(
        2048,
        "[4, inf)",
        "Number of pairs of observation and action, drawn from the dataset, at which critics are examined.",
    )
    seed: int = setting(0, "[0, 2147483647]", "Seed of the rows and of the noise of flow critics.")
    workdir: str = setting("", help="Folder for everything that the diagnosis leaves.", compare=False)


class Trained(NamedTuple):
    """A run as it was saved.

    Attributes:
        config: its settings.
        members: what trained side by side.
        build: swept values of one member -> its agent, which takes normalised data.
        spec: what the agent knows of them.
        normalization: of its data.
        dataset: that it learnt from, in full storage.
    """

    config: RunConfig
    members: Population
    build: Callable[[Mapping[str, Any]], Agent]
    spec: Spec
    normalization: Normalization
    dataset: Dataset

    def draw(self, count: int, seed: int) -> np.ndarray:
        """Numbers of so many rows of the dataset at random, or of all where it has fewer."""
        size = len(self.dataset.rewards)
        return np.random.default_rng(seed).choice(size, min(count, size), replace=False)

    def batch(self, numbers: np.ndarray) -> Transitions:
        """Rows of the dataset, as its agents see them."""
        columns = (getattr(self.dataset, name)[numbers] for name in Transitions._fields[:5])
        return normalize(Transitions(*columns), self.normalization)

    def saved_states(self, folder: pathlib.Path) -> Iterator[tuple[int, Any]]:
        """Every checkpoint that the run's workdir keeps, oldest first: step, and states [M, ...].

        Raises:
            InputError: when a checkpoint cannot be read, or there is none.
        """
        like = state_shapes(self.build, self.members, self.batch(np.arange(1)))
        return checkpoints.read_states(folder / "checkpoints", like)

    def critic(self, hyperparameters: Mapping[str, Any]) -> Critic:
        """The critic of the agent with these swept values.

        Raises:
            InputError: when the agent has none.
        """
        critic = self.build(hyperparameters).critic
        if critic is None:
            raise InputError(
                f"agent {self.config.agent_name!r} has no critic to diagnose: give the run of another"
            )
        return critic


class View(NamedTuple):
    """What was seen of all M members after some updates; every array has M as leading axis.

    Attributes:
        diagnosis: of their critics.
        rows: where they were looked at.
    """

    diagnosis: Diagnosis
    rows: Rows


def as_trained(
    config: RunConfig, make_agent: MakeAgent, spec: Spec, normalization: Normalization, dataset: Dataset
) -> Trained:
    """A run from what it was made of."""

    def build(hyperparameters: Mapping[str, Any]) -> Agent:
        return make_agent(configuration.replace(config, hyperparameters).agent, spec)

    return Trained(config, configuration.population(config), build, spec, normalization, dataset)


def open_run(folder: pathlib.Path, data_dir: str, trust_agent_file: bool = False) -> Trained:
    """Reads the settings and the data of a run.

    Args:
        folder: its workdir.
        data_dir: where its dataset lies; empty for where it found it.
        trust_agent_file: as for `flags.load_saved_agent`.

    Raises:
        InputError: when there is no run, its agent file is not trusted, its agent or data are gone, or it has
            no critic or no rewards of its own.
    """
    settings, normalization = results.read_run(folder, "train", "checkpoint")
    config, make_agent = flags.load_saved_agent(folder, settings, flags.DEFAULTS, trust_agent_file)
    if not config.dataset:
        raise InputError(f"the run in {folder} has no dataset: only runs on datasets can be diagnosed")
    if config.data.num_frames > 1:
        raise InputError(
            f"the run in {folder} sees {config.data.num_frames} observations at once, and rows hold one: "
            "diagnose a run with data.num_frames 1"
        )
    dataset = data.load(config.dataset, data_dir or config.data_dir, clip_actions=config.data.clip_actions)
    if dataset.goal_conditioned:
        raise InputError(
            f"{config.dataset} has no rewards of its own, its goals are drawn in training: "
            "diagnose a run on one of its single tasks"
        )
    spec = normalizations.make_spec(dataset, normalization, config.steps)

    trained = as_trained(config, make_agent, spec, normalization, dataset)
    trained.critic({})  # before anything is read or made
    return trained


def look(run: Trained, folder: pathlib.Path, num_rows: int, seed: int) -> dict[int, View]:
    """Looks at the critics of all members in every checkpoint, in the same rows with the same noise.

    Args:
        run: the run.
        folder: its workdir.
        num_rows: rows to draw, at most; all where the dataset has fewer.
        seed: of rows and noise.

    Returns:
        Step to view, oldest first.

    Raises:
        InputError: when a checkpoint cannot be read, or there is none.
    """
    dataset, normalization = run.dataset, run.normalization
    numbers = run.draw(num_rows, seed)
    batch = run.batch(numbers)
    rewards = normalization.reward_scale * dataset.rewards + normalization.reward_shift
    ends = storage.are_last(dataset)
    trajectories = (rewards, dataset.masks, ends)

    def look_at_member(critic: Critic, state: Any, batch: Transitions, trajectories: Any) -> View:
        if critic.diagnostics is None:
            returns, missing = jnp.zeros(len(numbers)), jnp.ones(len(numbers))
        else:
            rewards, masks, ends = trajectories
            whole = monte_carlo_returns(rewards, masks, ends, critic.diagnostics.discount)
            returns, missing = (part[numbers] for part in whole)
        rows = Rows(batch.observations, batch.actions, returns, missing)
        return View(diagnostics.diagnose(critic, state.critic, rows, jax.random.key(seed)), rows)

    @jax.jit
    def look_at_all(states: Any, batch: Transitions, trajectories: Any) -> View:
        return jax.lax.map(
            lambda member: look_at_member(run.critic(member[0]), member[1], batch, trajectories),
            (run.members.hyperparameters, states),
        )

    return {
        step: jax.tree.map(np.asarray, look_at_all(states, batch, trajectories))
        for step, states in run.saved_states(folder)
    }


def report(views: Mapping[int, View]) -> list[dict[str, Any]]:
    """For each checkpoint its step and report, with what became of its features until the last."""
    last = list(views.values())[-1].diagnosis
    compare = jax.jit(jax.vmap(diagnostics.compare))
    diagnoses = {step: view.diagnosis for step, view in views.items()}
    return [{"step": step, **each.report, **compare(each, last)} for step, each in diagnoses.items()]


def of_members(found: Any, members: list[int]) -> Any:
    """What was found of some members alone; numbers that are of no member stay as they are."""
    return jax.tree.map(lambda leaf: np.asarray(leaf)[members] if np.ndim(leaf) else leaf, found)


def show(found: list[dict[str, Any]], title: str) -> None:
    """Prints a table of scalars, means over seeds: a row each, a column a checkpoint.

    Norms of weights and gradients, of which there are many, are left to the picture.
    """
    table = rich.table.Table("mean over seeds", *[f"{entry['step']:,}" for entry in found], title=title)
    flat = [configuration.flatten(entry) for entry in found]
    for name, values in flat[0].items():
        if np.ndim(values) == 1 and "_norms." not in name:
            table.add_row(name, *[f"{np.mean(entry[name]):.4g}" for entry in flat])
    outputs.show(table)


def run(config: DiagnoseConfig) -> dict[str, Any]:
    """Does a whole diagnosis.

    Args:
        config: its settings.

    Returns:
        What diagnostics.json holds.

    Raises:
        InputError: for a run or a folder that cannot be used.
    """
    if not config.checkpoint:
        raise InputError("no run is given; write --checkpoint=WORKDIR of a run of experiments.train")
    folder = local_path("checkpoint", config.checkpoint)
    if config.workdir and local_path("workdir", config.workdir).resolve() == folder.resolve():
        raise InputError(f"workdir {config.workdir} is that of the run itself: give another --workdir")
    trained = open_run(folder, config.data_dir, config.trust_agent_file)
    with outputs.prepare_folder(config) as workdir:
        views = look(trained, folder, config.rows, config.seed)
        found = report(views)
        newest = list(views.values())[-1]
        facts = {"versions": outputs.versions(), "device": outputs.device()}
        outputs.write_json(workdir / "config.json", {"settings": configuration.to_json(config)} | facts)
        members = [trained.members.settings(index) for index in range(trained.members.size)]
        result = {
            "agent": trained.config.agent_name,
            "dataset": trained.config.dataset,
            "members": members,
            "rows": newest.diagnosis.q.shape[1],
            "known_returns": newest.rows.known.sum(1),
            "checkpoints": found,
        } | facts
        outputs.write_json(workdir / "diagnostics.json", result)
        title = f"{trained.config.agent_name} on {trained.config.dataset}"
        for number, (swept, chosen) in enumerate(trained.members.by_setting()):
            told, q, rows = of_members((found, newest.diagnosis.q, newest.rows), chosen)
            about = ", ".join([title, *(f"{name}={value}" for name, value in swept.items())])
            path = workdir / (f"diagnostics_{number}.png" if swept else "diagnostics.png")
            draw = functools.partial(diagnostic_plots.diagnosis, told, q, rows, title=about, path=path)
            outputs.draw({path.name: draw})
            show(told, about)
        print(f"everything is in {workdir}")
        return result


def parse(argv: list[str], values: absl_flags.FlagValues = absl_flags.FLAGS) -> DiagnoseConfig:
    """The settings of a command line; arguments and errors as of `flags.parse_config`."""
    return flags.parse_config(DiagnoseConfig(), argv, values)


def main(config: DiagnoseConfig) -> None:
    """Diagnoses what a command line asks for."""
    run(config)
