"""Diagnosis of a zero-shot run: its values of the run's tasks against returns in the dataset."""

import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from valuelab import configuration
from valuelab.agents import zero_shot
from valuelab.data import storage
from valuelab.errors import InputError
from valuelab.evaluation import diagnostics
from valuelab.ops.features import effective_rank, norms
from valuelab.ops.returns import monte_carlo_returns
from valuelab.runs import flags, trained
from valuelab.runs.saved import SavedRun
from valuelab.runs.trained import TrainedRun
from valuelab.training import checkpoints
from valuelab.types import Agent, Array, Augmented, Dataset, TrainState

LARGEST = 200_000
"""The largest number of transitions whose features are computed; rows are drawn from their trajectories."""


class TaskValues(NamedTuple):
    """Values of M members at B observations for T tasks.

    Attributes:
        values: V(s, z), [M, T, B].
        returns: discounted returns of ψ(s')ᵀz in the data, [M, T, B].
        known: 1 where the return is known, else 0, [M, T, B].
    """

    values: np.ndarray
    returns: np.ndarray
    known: np.ndarray


class TaskDiagnosis(NamedTuple):
    """The diagnosis of all checkpoints of a zero-shot run.

    Attributes:
        reports: for each checkpoint "step" and numbers [M] by nested names, oldest first.
        last: the values at the last checkpoint.
        tasks: [T], names.
    """

    reports: list[dict[str, Any]]
    last: TaskValues
    tasks: list[str]


def diagnose(
    run: SavedRun, dataset: Dataset, num_rows: int, seed: int, trusted: bool = False
) -> TaskDiagnosis:
    """Compares values of the run's tasks with returns, at the same observations at all checkpoints.

    Rewards of a task are those that the agent predicts, ψ(s')ᵀz, because V is in their units. Returns are
    those of the policy in the data, not of the agent's policy for z.

    Args:
        run: a run of experiments.zero_shot.
        dataset: its dataset, in full storage.
        num_rows: the number of observations.
        seed: of the observations.
        trusted: whether a reward file that the run names may be executed.

    Raises:
        InputError: when a checkpoint cannot be read, there is none, the agent has no discount or no value, or
            the run names a reward file that is not trusted.
    """
    config = run.config
    if not flags.discount_field(config):
        raise InputError(
            f"agent {config.agent_name} has no setting discount, which returns need: give the run of another "
            "agent"
        )
    arrays, numbers = _rows(dataset, num_rows, np.random.default_rng(seed))
    reports = []
    for step in checkpoints.saved_steps(run.folder / "checkpoints"):
        read = trained.read(run, step, trusted)
        if read.agent().value is None:
            raise InputError(
                f"agent {config.agent_name} has no value function: give the run of another agent"
            )
        names = list(read.tasks())
        tasks = np.stack([list(read.tasks(member).values()) for member in range(read.members.size)])
        report, last = jax.device_get(_of_members(read, tasks, arrays, numbers))
        by_task = {
            name: {key: value[:, index] for key, value in report["tasks"].items()}
            for index, name in enumerate(names)
        }
        reports.append({"step": step} | report | {"tasks": by_task})
    return TaskDiagnosis(reports=reports, last=last, tasks=names)


def _rows(
    dataset: Dataset, num_rows: int, random: np.random.Generator
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Arrays of random trajectories with at most about LARGEST transitions, and random row numbers there."""
    ends = np.flatnonzero(storage.are_last(dataset)) + 1
    starts = np.concatenate([[0], ends[:-1]])
    order = random.permutation(len(ends))
    count = int(np.searchsorted(np.cumsum((ends - starts)[order]), LARGEST)) + 1
    rows = np.concatenate([np.arange(starts[each], ends[each]) for each in np.sort(order[:count])])
    arrays = {
        "observations": dataset.observations[rows],
        "next_observations": dataset.next_observations[rows],  # type: ignore[index] # full storage
        "masks": dataset.masks[rows],
        "ends": storage.are_last(dataset)[rows],
    }
    return arrays, random.choice(len(rows), min(num_rows, len(rows)), replace=False)


def _of_members(
    run: TrainedRun, tasks: np.ndarray, arrays: Mapping[str, np.ndarray], numbers: np.ndarray
) -> tuple[dict[str, Any], TaskValues]:
    """The report and the values of all members for tasks [M, T, d]."""
    discount_name = flags.discount_field(run.config).split(".")

    def of_member(member: Any, arrays: Any) -> tuple[dict[str, Any], TaskValues]:
        hyperparameters, state, tasks = member
        settings = configuration.replace(run.config, hyperparameters)
        discount = functools.reduce(getattr, discount_name, settings)
        return _of_member(run.build(hyperparameters), state, tasks, arrays, numbers, discount)

    over_members = jax.jit(
        lambda members, arrays: jax.lax.map(lambda member: of_member(member, arrays), members)
    )
    return over_members((run.members.hyperparameters, run.states, tasks), dict(arrays))


def _of_member(
    agent: Agent, state: Any, tasks: Array, arrays: Mapping[str, Array], numbers: np.ndarray, discount: Any
) -> tuple[dict[str, Any], TaskValues]:
    """The report and the values of one member for tasks [T, d]."""
    features = zero_shot.encode(agent, state, arrays["next_observations"])
    observations = arrays["observations"][numbers]

    def of_task(task: Array) -> tuple[Array, Array, Array]:
        returns, missing = monte_carlo_returns(features @ task, arrays["masks"], arrays["ends"], discount)
        repeated = jnp.repeat(task[None], len(numbers), axis=0)
        values = agent.value(state, Augmented(observations=observations, memory=repeated))
        known = (missing < diagnostics.MISSING).astype(jnp.float32)
        return values, returns[numbers], known[numbers]

    values_of_tasks = jax.lax.map(of_task, tasks)
    report: dict[str, Any] = {
        "tasks": {"mean": jnp.mean(values_of_tasks[0], axis=1)}
        | jax.vmap(diagnostics.value_error)(*values_of_tasks),
        "features": {"effective_rank": effective_rank(features[numbers])},
    }
    if critic := _critic(state):
        report["critic"] = {
            "weight_norms": norms(critic.params),
            "gradient_norms": norms(diagnostics.mean_gradients(critic.opt_state)),
        }
    return report, TaskValues(*values_of_tasks)


def _critic(state: Any) -> TrainState | None:
    """The learned part of a state whose name ends in critic; None if there is none."""
    leaves = jax.tree_util.tree_leaves_with_path(state, is_leaf=lambda part: isinstance(part, TrainState))
    named = ((checkpoints.leaf_name(path), part) for path, part in leaves if isinstance(part, TrainState))
    return next((part for name, part in named if name.endswith("critic")), None)
