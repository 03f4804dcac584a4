"""Elements of gymnasium's spaces as the arrays that agents see, alike for datasets and environments.

An image, which is a Box of bytes with three axes, stays an image. All other observations become the vectors
of gymnasium.spaces.flatten: the entries of a Dict or a Tuple are joined in the order of the space, and a
choice of n becomes a one-hot vector of n numbers.
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
        space: the space of observations.
        name: the dataset or the environment, for messages.

    Returns:
        A gymnasium Box of vectors or images; the same space where it is such a Box already.

    Raises:
        InputError: naming an entry without a fixed length, such as a Text.
    """
    spaces = require("gymnasium.spaces", "environments")
    _check(space, name)
    return space if _is_flat(space) else spaces.flatten_space(space)


def flatten(space: Any, observations: Any, name: str) -> np.ndarray:
    """Observations as agents see them.

    Args:
        space: the space of observations; `flat` must accept it.
        observations: one element of the space, or T elements in the tree of the space, where every array has
            T as its first axis.
        name: the dataset or the environment, for messages.

    Returns:
        An array with the shape and dtype of `flat`, and T as the first axis where the input had it; vectors
        and images are returned unchanged.

    Raises:
        InputError: when a choice is not in its space.
    """
    return observations if _is_flat(space) else _vector(space, observations, name)


def check_stated(metadata: Path) -> None:
    """Refuses a Minari dataset that does not state its spaces, for which Minari would run its environment.

    Args:
        metadata: its metadata.json; a missing file passes, and fails when the dataset is opened.

    Raises:
        InputError: when a space is missing, or the file cannot be read.
    """
    if not metadata.exists():
        return
    stated = read_json(metadata, "metadata of Minari", "delete its folder and load again to download it")
    for key in ("observation_space", "action_space"):
        if key not in stated:
            raise InputError(
                f"{metadata}: key {key!r} is missing: add it in the format of "
                "minari.serialization.serialize_space, or download the dataset again"
            )


def _is_flat(space: Any) -> bool:
    """Whether the observations of a space are vectors or images already."""
    spaces = require("gymnasium.spaces", "environments")
    if not isinstance(space, spaces.Box):
        return False
    return len(space.shape) == 1 or (len(space.shape) == 3 and space.dtype == np.uint8)


def _check(space: Any, name: str, entry: str = "") -> None:
    """Raises with the first entry that cannot become a vector."""
    spaces = require("gymnasium.spaces", "environments")
    if isinstance(space, spaces.Dict | spaces.Tuple | spaces.OneOf):
        for _, part, inner in _parts(space, entry):
            _check(part, name, inner)
    elif not isinstance(space, spaces.Box | spaces.Discrete | spaces.MultiDiscrete | spaces.MultiBinary):
        raise InputError(
            f"{name}: {_described(entry)} are of kind {type(space).__name__}, which has no fixed length, but "
            "agents need vectors: remove that entry, for example by a wrapper of the environment"
        )


def _parts(space: Any, entry: str) -> list[tuple[Any, Any, str]]:
    """The key, the space and the name, such as "hand/joints", of each entry of a composite space."""
    spaces = require("gymnasium.spaces", "environments")
    parts = space.spaces.items() if isinstance(space, spaces.Dict) else enumerate(space.spaces)
    return [(key, part, f"{entry}/{key}" if entry else str(key)) for key, part in parts]


def _described(entry: str) -> str:
    """An entry as messages name it; an empty name stands for the observations themselves."""
    return f"entries {entry!r} of observations" if entry else "observations"


def _vector(space: Any, value: Any, name: str, entry: str = "") -> np.ndarray:
    """One observation, or T observations, as vectors."""
    spaces = require("gymnasium.spaces", "environments")
    if isinstance(space, spaces.OneOf):  # no source stores these: always one observation
        return spaces.flatten(space, value)
    if isinstance(space, spaces.Dict | spaces.Tuple):
        return np.concatenate(
            [_vector(part, value[key], name, inner) for key, part, inner in _parts(space, entry)], axis=-1
        )
    if isinstance(space, spaces.Discrete | spaces.MultiDiscrete):
        return _one_hot(space, np.asarray(value), f"{name}: {_described(entry)}")
    array = np.asarray(value)
    if array.ndim > len(space.shape):  # read from a file
        array = cast(_described(entry), array, space.dtype, name)
    array = array.astype(space.dtype, copy=False)
    return array.reshape(*array.shape[: array.ndim - len(space.shape)], -1)


def _one_hot(space: Any, values: np.ndarray, where: str) -> np.ndarray:
    """Choices [...] or [T, ...] as one-hot vectors."""
    counts = np.ravel(space.n if space.shape == () else space.nvec)
    chosen = values - space.start
    chosen = chosen.reshape(*chosen.shape[: chosen.ndim - len(space.shape)], -1)
    outside = (chosen < 0) | (chosen >= counts)
    if outside.any():
        wrong = (chosen + np.ravel(space.start))[outside][0]
        raise InputError(f"{where} contain {wrong}, which is not in {space}: repair that value")
    columns = [chosen[..., [index]] == np.arange(count) for index, count in enumerate(counts)]
    return np.concatenate(columns, axis=-1).astype(space.dtype)
