"""Plain gymnasium environments, scored by their return."""

import difflib
import functools
import warnings
from typing import Any

from valuelab import errors, types


def make(environment_id: str) -> types.Environment:
    """A registered gymnasium environment.

    Args:
        environment_id: such as "Pendulum-v1".

    Returns:
        The environment with its one task and metric "return".

    Raises:
        InputError: when gymnasium does not know the name.
    """
    check_registered("gymnasium environment", environment_id)
    return types.Environment(
        name=environment_id,
        make=functools.partial(create, environment_id),
        tasks={"default": None},
        metric="return",
        score=lambda episode_return, success: episode_return,
    )


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
        # Hundreds are registered: only those that may have been meant are worth reading.
        raise errors.unknown(kind, environment_id, difflib.get_close_matches(environment_id, known, 8, 0.0))


def create(environment_id: str, **settings: Any) -> Any:
    """A new gymnasium.Env that can be rendered to arrays.

    Args:
        environment_id: its registered name.
        **settings: keyword arguments of gymnasium.make.
    """
    gymnasium = errors.require("gymnasium", "environments")
    with warnings.catch_warnings():
        # Of no use to who evaluates: versions that D4RL's data were made in are out of date, bounds are cast
        # to float32, there is no screen.
        warnings.simplefilter("ignore")
        return gymnasium.make(environment_id, render_mode="rgb_array", disable_env_checker=True, **settings)
