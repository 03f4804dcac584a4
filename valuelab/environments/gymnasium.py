"""Gymnasium environments, scored by their return, for evaluation and for online learning."""

import functools
import importlib
import warnings
from typing import Any

from valuelab import errors, types
from valuelab.environments import creation, host


def make(environment_id: str) -> types.Environment:
    """A registered gymnasium environment.

    Args:
        environment_id: its id, such as "Pendulum-v1", or "ale_py:ALE/Pong-v5" for an environment that the
            package ale_py registers.

    Returns:
        The environment with its only task and metric "return"; `spaces.flatten` makes its observations.

    Raises:
        InputError: when gymnasium does not know the name, or the package cannot be imported.
    """
    package, _, name = environment_id.rpartition(":")
    if package:
        _import(package, environment_id)
    try:
        creation.check_registered("gymnasium environment", name)
    except errors.InputError as error:
        hint = "" if package else " For others, name the package too, as in gymnasium/ale_py:ALE/Pong-v5."
        raise errors.InputError(f"{error}{hint}") from error
    return types.Environment(
        name=environment_id,
        make=functools.partial(creation.create, name),
        tasks={"default": None},
        metric="return",
        score=lambda episode_return, success: episode_return,
    )


def known_names() -> list[str]:
    """The ids that are registered."""
    return sorted(errors.require("gymnasium", "environments").registry)


def parallel(name: str, environment: types.Environment, num_environments: int) -> types.VectorEnvironment:
    """Parallel copies of an environment that step inside jit, for online learning.

    Args:
        name: the name, for messages.
        environment: an environment whose tasks are not goals.
        num_environments: N.

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
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # gymnasium warns that bounds are cast to float32
            return gymnasium.vector.SyncVectorEnv([environment.make] * count)

    return host.vector(name, lanes, num_environments)


def _import(package: str, environment_id: str) -> None:
    """Imports the package that registers an environment."""
    try:
        importlib.import_module(package)
    except Exception as error:  # by the package's code, or for names such as ".."
        raise errors.InputError(
            f"gymnasium environment {environment_id!r}: its package {package} cannot be imported "
            f"({errors.describe(error)}): install it, or correct its name"
        ) from error
