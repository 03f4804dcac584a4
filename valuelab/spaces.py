"""Elements of gymnasium's spaces as the arrays that agents see, alike for datasets and environments.

An image, which is a Box of bytes with three axes, stays an image. A Dict or a Tuple with an image among its
entries keeps its entries: `observation_parts` packs them. All other observations become the vectors of
gymnasium.spaces.flatten: the entries of a Dict or a Tuple are joined in the order of the space, and a choice
of n becomes a one-hot vector of n numbers.
"""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from valuelab.arrays import cast
from valuelab.errors import InputError, require
from valuelab.files import read_json
from valuelab.observation_parts import Parts, pack, packed_size, say_joined
from valuelab.types import ObservationPart


def flat(space: Any, name: str) -> Any:
    """The space of what `flatten` returns.

    Args:
        space: the space of observations.
        name: the dataset or the environment, for messages.

    Returns:
        A gymnasium Box of vectors, images or packed observations, see `packed`; the same space where it is
        such a Box already.

    Raises:
        InputError: naming an entry without a fixed length, such as a Text.
    """
    spaces = require("gymnasium.spaces", "environments")
    _check(space, name)
    if _is_flat(space):
        return space
    leaves = _leaves(space)
    if parts := _packed_parts(leaves):
        return packed(parts)
    if len(leaves) > 1:
        entries = tuple(f"{leaf.name} {spaces.flatdim(leaf.space)}" for leaf in leaves)
        say_joined(name, spaces.flatdim(space), entries)
    joined = spaces.flatten_space(space)
    joined.observation_entries = tuple(leaf.name for leaf in leaves) if len(leaves) > 1 else ()
    return joined


def packed(parts: Parts, num_frames: int = 1) -> Any:
    """The space of packed observations: a Box of bytes that carries their parts.

    Args:
        parts: the parts, sorted by name.
        num_frames: the number of observations that are joined along the last axis.
    """
    spaces = require("gymnasium.spaces", "environments")
    space = spaces.Box(0, 255, (num_frames * packed_size(parts),), np.uint8)
    space.observation_parts = parts
    return space


def parts_of(space: Any) -> Parts:
    """The parts of a space that `packed` returned; empty for other spaces."""
    return getattr(space, "observation_parts", ())


def entries_of(space: Any) -> tuple[str, ...]:
    """The names of the entries that `flat` joined into vectors, in this order; empty for other spaces."""
    return getattr(space, "observation_entries", ())


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
        InputError: when a choice is not in its space, or an entry of packed observations has another shape.
    """
    if _is_flat(space):
        return observations
    leaves = _leaves(space)
    parts = _packed_parts(leaves)
    if not parts:
        return _vector(space, observations, name)
    values = {}
    for leaf in leaves:
        value = functools.reduce(lambda tree, key: tree[key], leaf.keys, observations)
        if not _is_image(leaf.space):
            value = _vector(leaf.space, value, name, leaf.name).astype(np.float32, copy=False)
        values[leaf.name] = value
    return pack(values, parts, f"{name}: observations")


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
    return isinstance(space, spaces.Box) and (len(space.shape) == 1 or _is_image(space))


def _is_image(space: Any) -> bool:
    """Whether a space is a Box of bytes with three axes."""
    spaces = require("gymnasium.spaces", "environments")
    return isinstance(space, spaces.Box) and len(space.shape) == 3 and space.dtype == np.uint8


class _Leaf(NamedTuple):
    """An entry of a space that is neither a Dict nor a Tuple.

    Attributes:
        name: its name, such as "hand/joints".
        keys: the keys that lead to it.
        space: its space.
    """

    name: str
    keys: tuple[Any, ...]
    space: Any


def _leaves(space: Any, name: str = "", keys: tuple[Any, ...] = ()) -> list[_Leaf]:
    """All leaves of a space, in the order of the space."""
    spaces = require("gymnasium.spaces", "environments")
    if not isinstance(space, spaces.Dict | spaces.Tuple):
        return [_Leaf(name, keys, space)]
    inner = _parts(space, name)
    return [leaf for key, part, entry in inner for leaf in _leaves(part, entry, (*keys, key))]


def _packed_parts(leaves: Sequence[_Leaf]) -> Parts:
    """The parts of packed observations, sorted by name; empty where no leaf of several is an image."""
    spaces = require("gymnasium.spaces", "environments")
    if not any(_is_image(leaf.space) for leaf in leaves):
        return ()
    return tuple(
        ObservationPart(name=leaf.name, shape=leaf.space.shape, dtype="uint8")
        if _is_image(leaf.space)
        else ObservationPart(name=leaf.name, shape=(spaces.flatdim(leaf.space),), dtype="float32")
        for leaf in sorted(leaves, key=lambda leaf: leaf.name)
    )


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
