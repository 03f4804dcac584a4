"""What gymnasium's spaces hold, as the arrays that agents see: the same for datasets and environments.

An image, a single Box of bytes with three axes, stays one. All other observations become vectors, number for
number those of gymnasium.spaces.flatten: the entries of a Dict or a Tuple follow each other in the order of
the space, and one of n choices is n numbers, of which one is 1.
"""

from pathlib import Path
from typing import Any

import numpy as np

from valuelab.arrays import cast
from valuelab.errors import InputError, require
from valuelab.files import read_json


def flat(space: Any, name: str) -> Any:
    """The space of what `flatten` returns.

    Args:
        space: of observations.
        name: of the dataset or the environment, for messages.

    Returns:
        A gymnasium Box of vectors or of images; the same space where it is one already.

    Raises:
        InputError: when an entry has no fixed number of numbers, such as a Text; the message names it.
    """
    spaces = require("gymnasium.spaces", "environments")
    _check(space, name)
    return space if _stays(space) else spaces.flatten_space(space)


def flatten(space: Any, observations: Any, name: str) -> np.ndarray:
    """Observations as agents see them.

    Args:
        space: of observations; `flat` takes it.
        observations: one of the space; or T of them, in the tree of the space, with T as the first axis of
            every array.
        name: of the dataset or the environment, for messages.

    Returns:
        An array of the shape and dtype of `flat`, with T as the first axis where it was; the same array where
        nothing is to be done.

    Raises:
        InputError: when a choice is none of its space.
    """
    return observations if _stays(space) else _vector(space, observations, name)


def check_stated(metadata: Path) -> None:
    """Refuses a Minari dataset that does not state its spaces: Minari would run its environment to see them.

    Args:
        metadata: its metadata.json; one that is missing is left to who opens the dataset.

    Raises:
        InputError: when it states one of them not, or cannot be read.
    """
    if not metadata.exists():
        return
    stated = read_json(metadata, "metadata of Minari", "delete its folder and load again to fetch it anew")
    for key in ("observation_space", "action_space"):
        if key not in stated:
            raise InputError(
                f"{metadata}: no key {key!r}: write it in, as minari.serialization.serialize_space has it, "
                "or fetch the dataset anew"
            )


def _stays(space: Any) -> bool:
    """Whether observations are vectors already, or images."""
    spaces = require("gymnasium.spaces", "environments")
    if not isinstance(space, spaces.Box):
        return False
    return len(space.shape) == 1 or (len(space.shape) == 3 and space.dtype == np.uint8)


def _check(space: Any, name: str, entry: str = "") -> None:
    """Raises with the first entry that is no vector."""
    spaces = require("gymnasium.spaces", "environments")
    if isinstance(space, spaces.Dict | spaces.Tuple | spaces.OneOf):
        for _, part, inner in _parts(space, entry):
            _check(part, name, inner)
    elif not isinstance(space, spaces.Box | spaces.Discrete | spaces.MultiDiscrete | spaces.MultiBinary):
        raise InputError(
            f"{name}: {_called(entry)} are of kind {type(space).__name__}, which has no fixed number of "
            "numbers; agents need vectors: leave that entry out, such as by a wrapper of the environment"
        )


def _parts(space: Any, entry: str) -> list[tuple[Any, Any, str]]:
    """The key, the space and the name, such as "hand/joints", of each entry of an entry."""
    spaces = require("gymnasium.spaces", "environments")
    parts = space.spaces.items() if isinstance(space, spaces.Dict) else enumerate(space.spaces)
    return [(key, part, f"{entry}/{key}" if entry else str(key)) for key, part in parts]


def _called(entry: str) -> str:
    """An entry in words; the observations themselves have no name."""
    return f"entries {entry!r} of observations" if entry else "observations"


def _vector(space: Any, value: Any, name: str, entry: str = "") -> np.ndarray:
    """One observation, or T of them, as vectors."""
    spaces = require("gymnasium.spaces", "environments")
    if isinstance(space, spaces.OneOf):  # stored by no source: always one observation
        return spaces.flatten(space, value)
    if isinstance(space, spaces.Dict | spaces.Tuple):
        return np.concatenate(
            [_vector(part, value[key], name, inner) for key, part, inner in _parts(space, entry)], axis=-1
        )
    if isinstance(space, spaces.Discrete | spaces.MultiDiscrete):
        return _one_hot(space, np.asarray(value), f"{name}: {_called(entry)}")
    array = np.asarray(value)
    if array.ndim > len(space.shape):  # out of a file
        array = cast(_called(entry), array, space.dtype, name)
    array = array.astype(space.dtype, copy=False)
    return array.reshape(*array.shape[: array.ndim - len(space.shape)], -1)


def _one_hot(space: Any, values: np.ndarray, where: str) -> np.ndarray:
    """Values [...] or [T, ...] of choices, each as so many numbers as its choice has alternatives."""
    counts = np.ravel(space.n if space.shape == () else space.nvec)
    chosen = values - space.start
    chosen = chosen.reshape(*chosen.shape[: chosen.ndim - len(space.shape)], -1)
    outside = (chosen < 0) | (chosen >= counts)
    if outside.any():
        wrong = (chosen + np.ravel(space.start))[outside][0]
        raise InputError(f"{where} are {wrong} in one place, which is not in {space}: repair it")
    columns = [chosen[..., [index]] == np.arange(count) for index, count in enumerate(counts)]
    return np.concatenate(columns, axis=-1).astype(space.dtype)
