"""Plain gymnasium environments, scored by their return: to evaluate in, and to act in while learning."""

import functools
import importlib
import warnings
from collections.abc import Callable
from typing import Any

from valuelab import errors, spaces, types
from valuelab.environments import host


def make(environment_id: str) -> types.Environment:
    """A registered gymnasium environment.

    Args:
        environment_id: such as "Pendulum-v1", or "ale_py:ALE/Pong-v5" for one that a package registers when
            it is imported.

    Returns:
        The environment with its one task and metric "return"; observations are those of `spaces.flatten`.

    Raises:
        InputError: when gymnasium does not know the name, or the package cannot be imported.
    """
    package, _, name = environment_id.rpartition(":")
    if package:
        _import(package, environment_id)
    try:
        check_registered("gymnasium environment", name)
    except errors.InputError as error:
        hint = "" if package else " Name the package of others, as in gymnasium/ale_py:ALE/Pong-v5."
        raise errors.InputError(f"{error}{hint}") from error
    return types.Environment(
        name=environment_id,
        make=functools.partial(create, name),
        tasks={"default": None},
        metric="return",
        score=lambda episode_return, success: episode_return,
    )


def side_by_side(name: str, environment: types.Environment, num_environments: int) -> types.VectorEnvironment:
    """An environment to evaluate in, several of which step together inside jit to be learnt in.

    Args:
        name: in messages.
        environment: any, whose tasks are no goals.
        num_environments: N.

    Returns:
        The vector environment, see `host.vector`.

    Raises:
        InputError: when its tasks are goals, or `host.vector` refuses it.
    """
    gymnasium = errors.require("gymnasium", "environments")
    if environment.goal_conditioned:
        raise errors.InputError(
            f"agents cannot learn in {name}, whose tasks are goals, only be evaluated; learn in one with "
            "rewards, such as ogbench/NAME-singletask-v0 or gymnasium/ID"
        )

    def lanes(count: int) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # bounds are cast to float32
            return gymnasium.vector.SyncVectorEnv([environment.make] * count)

    return host.vector(name, lanes, num_environments)


def check_registered(kind: str, environment_id: str, origin: str = "") -> None:
    """Refuses names that gymnasium does not know.

    Args:
        kind: what the name stands for in the message.
        environment_id: the name.
        origin: start of the entry points among which the name must be; "" for all.

    Raises:
        InputError: naming the nearest of them.
    """
    registry = errors.require("gymnasium", "environments").registry
    known = [name for name, spec in registry.items() if str(spec.entry_point).startswith(origin)]
    if environment_id not in known:
        raise errors.unknown(kind, environment_id, known)


def create(environment_id: Any, **settings: Any) -> Any:
    """A new gymnasium.Env, as of `created`.

    Args:
        environment_id: its registered name, or a gymnasium.EnvSpec where it is not registered.
        **settings: keyword arguments of gymnasium.make.

    Raises:
        InputError: when it cannot be made, as where it needs a package that is not installed.
    """
    gymnasium = errors.require("gymnasium", "environments")
    name = getattr(environment_id, "id", environment_id)
    return created(name, functools.partial(gymnasium.make, environment_id, **settings))


def created(name: str, make: Callable[..., Any]) -> Any:
    """A new gymnasium.Env, rendered to arrays where it can be, and observed as agents see it.

    Args:
        name: in messages.
        make: (keyword arguments of gymnasium.make) -> a gymnasium.Env.

    Raises:
        InputError: when it cannot be made, or observes what `spaces.flat` does not take.
        MissingExtraError: when it says that it needs a package that is not installed.
    """
    gymnasium = errors.require("gymnasium", "environments")
    settings = {"disable_env_checker": True}
    with warnings.catch_warnings():
        # Of no use to who evaluates: versions that D4RL's data were made in are out of date, bounds are cast
        # to float32, there is no screen.
        warnings.simplefilter("ignore")
        try:
            try:
                environment = make(render_mode="rgb_array", **settings)
            except Exception:  # such as a constructor without render_mode, or one that checks it
                environment = make(**settings)  # fails again where that was not the reason
            space = environment.observation_space
            seen = spaces.flat(space, name)
            if seen is space:
                return environment
            return gymnasium.wrappers.TransformObservation(
                environment, functools.partial(spaces.flatten, space, name=name), seen
            )
        except errors.InputError:
            raise
        except gymnasium.error.DependencyNotInstalled as error:
            raise errors.MissingExtraError(
                f"{name} needs a package that is not installed: pip install "
                f"'valuelab[environments]' ({error})"
            ) from error
        except Exception as error:  # each simulator fails in its own way
            raise errors.InputError(
                f"{name} cannot be made ({errors.told(error)}): install what it needs, or correct its id and "
                "arguments"
            ) from error


def _import(package: str, environment_id: str) -> None:
    """Imports the package that registers an environment."""
    try:
        importlib.import_module(package)
    except Exception as error:  # of the package's code, and of names such as ".."
        raise errors.InputError(
            f"gymnasium environment {environment_id!r}: its package {package} cannot be imported "
            f"({errors.told(error)}); install it, or mend its name"
        ) from error
