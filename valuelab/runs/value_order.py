"""The values of a run along the trajectories of a dataset.

`valuelab.ops.order` defines the numbers that follow from them.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from valuelab.configuration import Population
from valuelab.data import storage
from valuelab.data.storage import Trajectories
from valuelab.errors import InputError
from valuelab.types import Agent, Dataset, GoalConditioned, Spec

_PIECE_BYTES, _LARGEST_PIECE = 1 << 24, 4096


def check_values(agent: Agent, name: str, folder: Any) -> None:
    """Refuses an agent whose values need more than an observation and a goal.

    Raises:
        InputError: naming the agent and the run.
    """
    kinds = {
        "no state values": agent.value is None,
        "values that depend on a command": agent.memory is not None,
        "values that depend on a task": agent.features is not None,
    }
    for kind, holds in kinds.items():
        if holds:
            raise InputError(
                f"the run in {folder} trained {name}, which has {kind}: give the run of another agent"
            )


def check_observations(spec: Spec, dataset: Dataset, what: str) -> None:
    """Refuses a dataset whose observations differ from those that an agent has learnt from.

    Args:
        spec: of the agent's data.
        dataset: the dataset.
        what: the setting that names the run or the dataset, and its value.

    Raises:
        InputError: beginning with `what`.
    """
    theirs = f"{spec.observation_dtype}{list(spec.observation_shape)}"
    ours = f"{dataset.observations.dtype}{list(dataset.observations.shape[1:])}"
    if theirs != ours or spec.observation_parts != dataset.observation_parts:
        parts = " in other parts" if theirs == ours else ""
        raise InputError(
            f"{what}: the run learned from observations {theirs}, but those of {dataset.name} are "
            f"{ours}{parts}: give a run and a dataset with the same observations"
        )


def along_trajectories(
    build: Callable[[Mapping[str, Any]], Agent], members: Population, spec: Spec
) -> Callable[[Any, Dataset, Trajectories], np.ndarray]:
    """A function that computes values along trajectories, compiled once for all checkpoints of a run.

    The goal of a goal-conditioned agent is the final observation of each trajectory.

    Args:
        build: swept values of one member -> its agent, in the units of the data.
        members: the M members.
        spec: of the agents' data.

    Returns:
        (states of all members, a dataset, trajectories of N observations) -> V, [M, N].
    """

    @jax.jit
    def of_members(hyperparameters: Any, states: Any, seen: Any) -> Any:
        return jax.lax.map(lambda member: build(member[0]).value(member[1], seen), (hyperparameters, states))

    def values(states: Any, dataset: Dataset, places: Trajectories) -> np.ndarray:
        count, lasts = len(places.rows), places.lasts
        size = max(1, _PIECE_BYTES // dataset.observations[:1].nbytes)
        size = min(count, size, _LARGEST_PIECE)
        pieces = []
        for start in range(0, count, size):
            numbers = np.minimum(np.arange(start, start + size), count - 1)  # pieces of the same size
            seen: Any = storage.observations_at(dataset, places, numbers)
            if spec.goal_conditioned:
                goals: Any = storage.observations_at(dataset, places, lasts[numbers])
                seen = GoalConditioned(seen, goals)
            pieces.append(np.asarray(of_members(members.hyperparameters, states, seen)))
        return np.concatenate(pieces, axis=1)[:, :count]

    return values
