"""New gymnasium environments: rendered to arrays where that is possible, and observed as agents see them."""

import functools
import warnings
from collections.abc import Callable
from typing import Any

from valuelab import errors, spaces


def check_registered(kind: str, environment_id: str, origin: str = "") -> None:
    """Refuses names that are not registered in gymnasium.

    Args:
        kind: the kind of name, for the message.
        environment_id: the name.
        origin: the required start of the name's entry point; "" for any.

    Raises:
        InputError: suggesting the nearest name.
    """
    registry = errors.require("gymnasium", "environments").registry
    known = [name for name, spec in registry.items() if str(spec.entry_point).startswith(origin)]
    if environment_id not in known:
        raise errors.unknown(kind, environment_id, known)


def create(environment_id: Any, **settings: Any) -> Any:
    """A new gymnasium.Env by its name; see `create_with`.

    Args:
        environment_id: its registered name, or a gymnasium.EnvSpec.
        **settings: keyword arguments of gymnasium.make.

    Raises:
        InputError: when it cannot be made, for example because a package is not installed.
    """
    gymnasium = errors.require("gymnasium", "environments")
    name = getattr(environment_id, "id", environment_id)
    return create_with(name, functools.partial(gymnasium.make, environment_id, **settings))


def create_with(name: str, make: Callable[..., Any]) -> Any:
    """A new gymnasium.Env, which renders to arrays where possible and observes vectors or images.

    Args:
        name: the name, for messages.
        make: (keyword arguments of gymnasium.make) -> a gymnasium.Env.

    Raises:
        InputError: when it cannot be made, or `spaces.flat` refuses its observations.
        MissingExtraError: when it reports that a package is not installed.
    """
    gymnasium = errors.require("gymnasium", "environments")
    settings = {"disable_env_checker": True}
    with warnings.catch_warnings():
        # These warnings do not help: D4RL's environments are old versions, bounds are cast to float32, and
        # there is no display.
        warnings.simplefilter("ignore")
        try:
            try:
                environment = make(render_mode="rgb_array", **settings)
            except Exception:  # for example, the constructor has no argument render_mode
                environment = make(**settings)  # raises again if the reason was another
            space = environment.observation_space
            flat_space = spaces.flat(space, name)
            if flat_space is space:
                return environment
            return gymnasium.wrappers.TransformObservation(
                environment, functools.partial(spaces.flatten, space, name=name), flat_space
            )
        except errors.InputError:
            raise
        except gymnasium.error.DependencyNotInstalled as error:
            raise errors.MissingExtraError(
                f"{name} needs a package that is not installed: pip install "
                f"'valuelab[environments]' ({error})"
            ) from error
        except Exception as error:  # simulators raise many kinds of exceptions
            raise errors.InputError(
                f"{name} cannot be made ({errors.describe(error)}): install the packages that it needs, or "
                "correct its id and arguments"
            ) from error
