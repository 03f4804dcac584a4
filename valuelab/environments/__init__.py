"""Environments by name, for evaluation and for online learning."""

import contextlib
import os
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from valuelab import errors, types
from valuelab.configuration import DEFAULT_DATA_DIR
from valuelab.domains.d4rl import original_name
from valuelab.domains.paths import is_path
from valuelab.environments import (
    atari,
    creation,
    d4rl,
    dmc,
    exorl,
    gymnasium,
    minari,
    ogbench,
    own,
    pong,
    tabular,
)
from valuelab.files import local_path

_FAMILIES = {
    "atari": atari,
    "d4rl": d4rl,
    "dmc": dmc,
    "exorl": exorl,
    "gridworld": tabular,
    "gymnasium": gymnasium,
    "minari": minari,
    "ogbench": ogbench,
    "pong": pong,
}
"""The module of each family. It has `make`; `vector`, where it has its own vector environments;
`with_rewards`, where the tasks of its environments are goals; and `known_names`, where it lists its names."""

_TAKE_KWARGS = (gymnasium, minari, ogbench)
"""The families whose environments take keyword arguments."""

_EXAMPLES = (
    "gymnasium/CartPole-v1",
    "ogbench/pointmaze-medium-navigate-singletask-v0",
    "d4rl/hopper-medium-v2",
    "exorl/walker-rnd-run",
    "dmc/walker_run",
    "atari/pong",
    "gridworld/target",
    "pong/first_to_3",
    "minari/D4RL/pointmaze/umaze-v2",
    "your_environment.py:NAME",
)
_SUGGESTED = ("ogbench", "d4rl", "exorl", "dmc", "gridworld", "pong", "atari", "gymnasium")
"""The families that are searched, in this order, for a name without a family."""
_MIN_SIMILARITY = 0.75
"""The smallest similarity (difflib's ratio) to one of the hundreds of known names that are suggested."""

DataDir = str | os.PathLike[str] | None
"""The folder of datasets; None for ~/.cache/valuelab."""


def make(
    dataset_name: str,
    data_dir: DataDir = None,
    trust_environment: bool = False,
    environment_kwargs: Mapping[str, Any] = creation.NO_KWARGS,
) -> types.Environment:
    """The environment of a dataset, with the tasks and the score of its benchmark.

    Args:
        dataset_name: "ogbench/NAME", "d4rl/NAME", "exorl/NAME", "minari/ID", or "rlds/" and one of these for
            a converted dataset; or an environment without a dataset, "gymnasium/ID", "dmc/DOMAIN_TASK",
            "atari/GAME", "gridworld/NAME" or "pong/NAME"; or your own, "MODULE:NAME" or "FILE.py:NAME", see
            `gymnasium.make`.
        data_dir: as for `data.load`; the files of a Minari dataset name its environment.
        trust_environment: whether a Minari dataset may run any code, not only environments that installed
            packages register.
        environment_kwargs: keyword arguments of gymnasium.make, such as {"max_episode_steps": 200}.

    Returns:
        The environment; its `make` creates the simulators.

    Raises:
        InputError: when the family or the name in it is unknown (the message suggests the nearest name), or
            the family takes no keyword arguments.

    Example:
        >>> import valuelab as vl
        >>> vl.make_environment("gymnasium/CartPole-v1").metric
        'return'
    """
    family, name = _family(dataset_name)
    return _make(family, name, data_dir, trust_environment, environment_kwargs)


def with_rewards(
    dataset_name: str,
    data_dir: DataDir = None,
    environment_kwargs: Mapping[str, Any] = creation.NO_KWARGS,
) -> types.Environment:
    """The environment of a dataset with all tasks that its rewards define, without goals.

    Args:
        dataset_name: as for `make`, without a task in the name.
        data_dir: as for `make`.
        environment_kwargs: as for `make`.

    Returns:
        The environment.

    Raises:
        InputError: as for `make`.
    """
    family, name = _family(dataset_name)
    if hasattr(family, "with_rewards"):
        return family.with_rewards(name, environment_kwargs)
    return _make(family, name, data_dir, False, environment_kwargs)


def vector(
    name: str,
    num_environments: int,
    data_dir: DataDir = None,
    trust_environment: bool = False,
    environment_kwargs: Mapping[str, Any] = creation.NO_KWARGS,
    in_processes: bool = False,
) -> types.VectorEnvironment:
    """Parallel environments that step inside jit, for online learning.

    Args:
        name: as for `make`.
        num_environments: N.
        data_dir: as for `make`.
        trust_environment: as for `make`.
        environment_kwargs: as for `make`.
        in_processes: whether each environment steps in its own process, with the same result.

    Returns:
        The vector environment; see `host.vector` for environments on the host.

    Raises:
        InputError: as for `make`, or when the family does not support online learning or processes.
    """
    family, name_in_family = _family(name)
    if hasattr(family, "vector"):
        _check_kwargs(family, name, environment_kwargs)
        if in_processes:
            raise errors.InputError(
                f"interaction.processes is true, but the environments of {name} step in parallel without "
                "processes: leave it out"
            )
        return family.vector(name_in_family, num_environments)
    environment = _make(family, name_in_family, data_dir, trust_environment, environment_kwargs)
    return gymnasium.parallel(name, environment, num_environments, in_processes)


def _make(
    family: ModuleType,
    name: str,
    data_dir: DataDir,
    trust_environment: bool,
    environment_kwargs: Mapping[str, Any],
) -> types.Environment:
    """An environment of a family; only Minari reads files of the dataset."""
    _check_kwargs(family, name, environment_kwargs)
    if family is minari:
        folder = local_path("data_dir", data_dir or DEFAULT_DATA_DIR)
        return minari.make(name, folder, trust_environment, environment_kwargs)
    return family.make(name, environment_kwargs) if environment_kwargs else family.make(name)


def _check_kwargs(family: ModuleType, name: str, environment_kwargs: Mapping[str, Any]) -> None:
    """Refuses keyword arguments for a family that takes none."""
    if environment_kwargs and family not in _TAKE_KWARGS:
        raise errors.InputError(
            f"environment_kwargs is {dict(environment_kwargs)}, but {name} takes no keyword arguments, only "
            "environments of gymnasium, ogbench and minari do: leave it out"
        )


def _family(environment: str) -> tuple[ModuleType, str]:
    """The module of an environment's family, and the name in that family."""
    original = original_name(environment)
    family, _, name = original.partition("/")
    if family not in _FAMILIES and own.source_of(environment):
        return gymnasium, environment
    if environment.endswith(".py"):
        raise errors.InputError(
            f"environment is {environment}, which is a file: add the name of a class in it, a function or a "
            f"registered id, as in {environment}:NAME"
        )
    is_converted = environment.startswith("rlds/") and family not in _FAMILIES
    if is_path(original) or original.startswith(("/", ".", "~")) or family == "lerobot" or is_converted:
        raise errors.InputError(
            f"{environment} does not name an environment: give one, such as --environment=gymnasium/ID"
        )
    if family not in _FAMILIES and not name:
        raise errors.no_source("environment", environment, _meant(family), _EXAMPLES)
    if family not in _FAMILIES or not name:
        known = {family: f"{family}/{name or 'NAME'}" for family in _FAMILIES}
        meant = [known[near] for near in errors.nearest(family, known)]
        raise errors.unknown("environment", environment, known.values(), meant[:1])
    return _FAMILIES[family], name


def known_names() -> dict[str, list[str]]:
    """The names of each family that lists them and whose package is installed."""
    names: dict[str, list[str]] = {}
    for family in _SUGGESTED:
        with contextlib.suppress(errors.InputError):
            if hasattr(_FAMILIES[family], "known_names"):
                names[family] = _FAMILIES[family].known_names()
    return names


def _meant(name: str) -> str:
    """FAMILY/NAME for the first family that knows a name, else for the most similar name; or empty."""
    for family in _SUGGESTED:
        with contextlib.suppress(errors.InputError):
            _FAMILIES[family].make(name)
            return f"{family}/{name}"
    names = sorted((known, family) for family, listed in known_names().items() for known in listed)
    newest = {known.rpartition("-v")[0] or known: f"{family}/{known}" for known, family in names}
    near = errors.nearest(name.rpartition("-v")[0] or name, newest, _MIN_SIMILARITY)
    return "".join(newest[stem] for stem in near[:1])


__all__ = ["DataDir", "known_names", "make", "vector", "with_rewards"]
