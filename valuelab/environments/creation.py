"""New gymnasium environments: rendered to arrays where that is possible, and observed as agents see them."""

import contextlib
import functools
import importlib
import inspect
import io
import os
import re
import sys
import types
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from valuelab import errors, spaces

LATE_PACKAGES = ("ale_py", "gymnasium_robotics", "minigrid")
"""Packages that register their environments only when they are imported."""

NO_KWARGS: Mapping[str, Any] = types.MappingProxyType({})

_EXPECTED_WARNINGS = (
    # Spaces of many packages state bounds as float64.
    r".*Box (low|high)'s precision lowered",
    # Datasets were recorded in old versions of environments.
    r".*The environment .* is out of date",
    # `create_with` asks for arrays where an environment does not say that it can render them.
    r".*The environment is being initialised with render_mode=",
    # There is no display. Nothing needs one but films, which have an error of their own.
    r".*DISPLAY environment variable is missing",
    r".*The GLFW library is not initialized",
)
"""The beginnings of warnings that describe nothing that the user could or should change."""


def quieten() -> None:
    """Filters the warnings of gymnasium and its packages that do not help; others are shown.

    Where there is no display, pygame is told not to look for one.
    """
    for beginning in _EXPECTED_WARNINGS:
        warnings.filterwarnings("ignore", message=f"(?s){beginning}")
    if not {"DISPLAY", "WAYLAND_DISPLAY"} & os.environ.keys():
        os.environ.setdefault("SDL_VIDEODRIVER", "dummy")


@contextlib.contextmanager
def without_expected_warnings() -> Iterator[None]:
    """Runs a block with the filters of `quieten`."""
    with warnings.catch_warnings():
        quieten()
        yield


def import_late_package(package: str) -> None:
    """Imports one of LATE_PACKAGES, which registers its environments; does nothing for any other package.

    A package that is not installed, or cannot be imported, leaves its environments unregistered.
    """
    if package not in LATE_PACKAGES:
        return
    notices = io.StringIO()  # gymnasium_robotics prints notices about old versions of some environments
    with contextlib.suppress(Exception), contextlib.redirect_stderr(notices):
        importlib.import_module(package)
        if package == "gymnasium_robotics":
            _repair_joint_types()


def require_robotics(module: str = "gymnasium_robotics") -> Any:
    """Imports a module of gymnasium_robotics without its notices; errors as of `errors.require`."""
    import_late_package("gymnasium_robotics")
    return errors.require(module, "environments")


def _repair_joint_types() -> None:
    """Makes gymnasium_robotics work with MuJoCo 4, where a number is not `in` a tuple of joint types."""
    mujoco: Any = errors.require("mujoco", "environments")
    utils: Any = errors.require("gymnasium_robotics.utils.mujoco_utils", "environments")
    joint_types = {name: int(kind) for name, kind in mujoco.mjtJoint.__members__.items()}
    utils.mujoco = types.SimpleNamespace(**{**vars(mujoco), "mjtJoint": types.SimpleNamespace(**joint_types)})


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
    if environment_id not in registry and not origin:
        for package in LATE_PACKAGES:
            import_late_package(package)
    known = [name for name, spec in registry.items() if str(spec.entry_point).startswith(origin)]
    if environment_id not in known:
        raise errors.unknown(kind, environment_id, known)


def create(environment_id: Any, environment_kwargs: Mapping[str, Any] = NO_KWARGS, name: str = "") -> Any:
    """A new gymnasium.Env by its name; see `create_with`.

    Args:
        environment_id: its registered name, or a gymnasium.EnvSpec.
        environment_kwargs: keyword arguments of gymnasium.make.
        name: the name for messages; empty for the id.

    Raises:
        InputError: when it cannot be made, for example because a package is not installed.
    """
    gymnasium = errors.require("gymnasium", "environments")
    name = name or getattr(environment_id, "id", environment_id)
    package = re.split("[.:]", str(getattr(environment_id, "entry_point", "")))[0]
    for late_package in {package, *sys.modules} & set(LATE_PACKAGES):
        import_late_package(late_package)
    return create_with(name, functools.partial(gymnasium.make, environment_id), environment_kwargs)


def create_with(
    name: str, make: Callable[..., Any], environment_kwargs: Mapping[str, Any] = NO_KWARGS
) -> Any:
    """A new gymnasium.Env, which renders to arrays where possible and observes vectors or images.

    Args:
        name: the name, for messages.
        make: (keyword arguments of gymnasium.make) -> a gymnasium.Env.
        environment_kwargs: the user's keyword arguments, given to `make`.

    Raises:
        InputError: when it cannot be made, or `spaces.flat` refuses its observations.
        MissingExtraError: when it reports that a package is not installed.
    """
    gymnasium = errors.require("gymnasium", "environments")
    settings = {"disable_env_checker": True, **environment_kwargs}
    renders = "render_mode" not in settings
    if settings.get("render_mode", "") is None:  # the same as no argument, which all environments accept
        del settings["render_mode"]
    with without_expected_warnings():
        try:
            try:
                environment = make(**({"render_mode": "rgb_array"} if renders else {}), **settings)
            except Exception:  # for example, the constructor has no argument render_mode
                if not renders:
                    raise
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
            unexpected = re.search(r"unexpected keyword argument '(\w+)'", str(error))
            if unexpected and unexpected[1] in environment_kwargs:
                raise _unknown_argument(name, unexpected[1], make) from error
            raise errors.InputError(
                f"{name} cannot be made ({errors.located(error)}): install the packages "
                "that it needs, or correct its id and arguments"
            ) from error


def _unknown_argument(name: str, argument: str, make: Callable[..., Any]) -> errors.InputError:
    """The error for an argument that an environment does not take; it lists those that it takes."""
    known = ["max_episode_steps"]
    with contextlib.suppress(Exception):  # without the list, the message still names the argument
        registration: Any = errors.require("gymnasium.envs.registration", "environments")
        (given,) = make.args  # type: ignore[attr-defined]
        entry = (registration.spec(given) if isinstance(given, str) else given).entry_point
        creator = registration.load_env_creator(entry) if isinstance(entry, str) else entry
        parameters = inspect.signature(creator).parameters.values()
        known += [
            each.name for each in parameters if each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY)
        ]
    return errors.unknown(f"argument of {name} in environment_kwargs", argument, known)
