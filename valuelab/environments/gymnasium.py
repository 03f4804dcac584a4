"""Gymnasium environments, scored by their return, for evaluation and for online learning."""

import functools
from collections.abc import Mapping
from typing import Any

from valuelab import errors, types
from valuelab.environments import creation, host, own, processes


def make(
    environment_id: str, environment_kwargs: Mapping[str, Any] = creation.NO_KWARGS
) -> types.Environment:
    """A gymnasium environment.

    Args:
        environment_id: its registered id, such as "Pendulum-v1" or "FetchReach-v4"; or SOURCE:NAME, where the
            module or file SOURCE registers the id NAME, or defines NAME, which makes a gymnasium.Env.
        environment_kwargs: keyword arguments of gymnasium.make.

    Returns:
        The environment with its only task and metric "return"; `spaces.flatten` makes its observations.

    Raises:
        InputError: when gymnasium does not know the name, or the source cannot be imported.
    """
    source, _, name = environment_id.rpartition(":")
    if source:
        own.find(source, name)
        create = functools.partial(own.create, own.absolute(source), name, environment_kwargs)
    else:
        try:
            creation.check_registered("gymnasium environment", name)
        except errors.InputError as error:
            raise errors.InputError(
                f"{error} For your own, name its module or file too, as in my_package:NAME or FILE.py:NAME."
            ) from error
        # The spec, unlike the id, is known in other processes too.
        spec = errors.require("gymnasium", "environments").registry[name]
        create = functools.partial(creation.create, spec, environment_kwargs, name)
    return types.Environment(
        name=environment_id,
        make=create,
        tasks={"default": None},
        metric="return",
        score=lambda episode_return, success: episode_return,
    )


def known_names() -> list[str]:
    """The ids that are registered."""
    return sorted(errors.require("gymnasium", "environments").registry)


def parallel(
    name: str, environment: types.Environment, num_environments: int, in_processes: bool = False
) -> types.VectorEnvironment:
    """Parallel copies of an environment that step inside jit, for online learning.

    Args:
        name: the name, for messages.
        environment: an environment whose tasks are not goals.
        num_environments: N.
        in_processes: whether each copy steps in its own process, with the same result.

    Returns:
        The vector environment, see `host.vector`.

    Raises:
        InputError: when its tasks are goals, or `host.vector` refuses the environment.
    """
    gymnasium = errors.require("gymnasium", "environments")
    if environment.goal_conditioned:
        raise errors.InputError(
            f"the tasks of {name} are goals, so agents cannot learn in it: give an environment with rewards, "
            "such as ogbench/NAME-singletask-v0 or gymnasium/ID"
        )

    def lanes(count: int) -> Any:
        with creation.without_expected_warnings():
            return gymnasium.vector.SyncVectorEnv([environment.make] * count)

    return host.vector(
        name,
        lanes,
        num_environments,
        make_member=functools.partial(processes.vector, name, environment.make, num_environments)
        if in_processes
        else None,
    )
