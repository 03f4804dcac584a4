"""Observations of several parts, such as an image and joint angles, packed into one vector of bytes.

Outside agents an observation is one array, so that storage, sampling, replay buffers and goals handle all
observations alike. The parts stand one after the other, sorted by name, each with the bytes of its values:

    packed [P] = bytes(part 1), bytes(part 2), ...      P = the sum of all bytes

Agents see a dictionary: `agents/normalized.py` unpacks it, exactly to the bit. A part with three axes is an
image, and a part with one axis is a vector.
"""

import functools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from valuelab.arrays import cast
from valuelab.errors import InputError
from valuelab.types import ObservationPart

Parts = tuple[ObservationPart, ...]


def is_image(part: ObservationPart) -> bool:
    """Whether a part is an image [H, W, C]; otherwise it is a vector [k]."""
    return len(part.shape) == 3


def num_bytes(part: ObservationPart) -> int:
    """The number of bytes of one part."""
    return math.prod(part.shape) * np.dtype(part.dtype).itemsize


def packed_size(parts: Sequence[ObservationPart]) -> int:
    """P, the number of bytes of a packed observation."""
    return sum(map(num_bytes, parts))


def described(part: ObservationPart) -> str:
    """The type of a part as messages name it, such as "uint8[64, 64, 3]"."""
    return f"{part.dtype}{list(part.shape)}"


def from_json(fields: Iterable[Mapping[str, Any]]) -> Parts:
    """The parts from the dictionaries that `dataclasses.asdict` makes of them, after JSON."""
    return tuple(
        ObservationPart(
            name=str(part["name"]), shape=tuple(map(int, part["shape"])), dtype=str(part["dtype"])
        )
        for part in fields
    )


def names_of(observations: Any, outer: str = "") -> tuple[str, ...]:
    """The names of the entries of nested dictionaries, such as "OUTER/INNER"; empty for an array."""
    if not isinstance(observations, Mapping):
        return (outer,) if outer else ()
    inner = ((f"{outer}/{key}" if outer else str(key), value) for key, value in observations.items())
    return tuple(each for name, value in inner for each in names_of(value, name))


def join(arrays: Mapping[str, Any], where: str, order: Sequence[str] = ()) -> tuple[np.ndarray, Parts]:
    """N observations, given as a dictionary of arrays, as one array.

    Args:
        arrays: part name -> [N, H, W, C] for images, [N, k] or [N] for vectors; nested dictionaries have
            the part names "OUTER/INNER".
        where: the dataset, for messages.
        order: the names that the dictionary must have, in the order in which vectors are joined; empty for
            the names of the dictionary in its own order.

    Returns:
        Packed observations [N, P] and their parts, sorted by name: images of bytes as uint8, all else as
        float32. Where no array is an image: vectors [N, D] float32, joined in the given order, and no
        parts.

    Raises:
        InputError: naming an array that holds neither images nor vectors, or not numbers, or other rows; or
            when the names are not those of `order`.
    """
    entries = list(_flat(arrays, where))
    named = dict(entries)
    if len(named) < len(entries):
        raise InputError(f"{where}: two entries of observations have the same name: rename one")
    if not named:
        raise InputError(f"{where}: observations is an empty dictionary: give at least one array")
    if order:
        if set(named) != set(order):
            raise InputError(
                f"{where}: observations has the entries {', '.join(named)}, but others have "
                f"{', '.join(order)}: give the same in all"
            )
        named = {name: named[name] for name in order}
    lengths = {name: len(array) for name, array in named.items()}
    if len(set(lengths.values())) > 1:
        counts = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise InputError(f"{where}: observations has different numbers of rows ({counts}): repair it")
    parts = tuple(
        ObservationPart(name=name, shape=named[name].shape[1:], dtype=str(named[name].dtype))
        for name in sorted(named)
    )
    if any(map(is_image, parts)):
        return pack(named, parts, f"{where}: observations"), parts
    return np.concatenate(list(named.values()), axis=-1), ()


def pack(
    values: Mapping[str, Any], parts: Sequence[ObservationPart], where: str, num_frames: int = 1
) -> np.ndarray:
    """Observations as bytes; `unpack` is the inverse.

    Args:
        values: part name -> [..., *part.shape], with the same leading axes for all parts.
        parts: the parts.
        where: what `values` are, for messages, such as "observation".
        num_frames: k, the number of observations that are joined along the last axis of each part.

    Returns:
        [..., k P] uint8.

    Raises:
        InputError: naming a part that is missing, unknown, of another shape, or not of its dtype.
    """
    names = [part.name for part in parts]
    if set(values) != set(names):
        missing = sorted(set(names) - set(values))
        other = sorted(str(name) for name in set(values) - set(names))
        fault = f"has no part {missing[0]!r}" if missing else f"has the unknown part {other[0]!r}"
        raise InputError(f"{where} {fault}: give {', '.join(names)}")
    if num_frames > 1:
        split = {name: np.array_split(np.asarray(values[name]), num_frames, axis=-1) for name in names}
        frames = [{name: each[index] for name, each in split.items()} for index in range(num_frames)]
        return np.concatenate([pack(frame, parts, where) for frame in frames], axis=-1)
    columns: list[np.ndarray] = []
    for part in parts:
        array = np.asarray(values[part.name])
        name = f"{where}[{part.name!r}]"
        lead = array.shape[: array.ndim - len(part.shape)]
        if array.ndim < len(part.shape) or array.shape[len(lead) :] != part.shape:
            raise InputError(
                f"{name} has shape {array.shape}, but this part has {part.shape}: give this shape, or a "
                "batch of it"
            )
        if columns and columns[0].shape[:-1] != lead:
            raise InputError(
                f"{name} has shape {array.shape}, but {where}[{parts[0].name!r}] has the leading axes "
                f"{columns[0].shape[:-1]}: give all parts for the same observations"
            )
        bytes_differ = is_image(part) and (part.dtype == "uint8") != (array.dtype == np.uint8)
        if array.dtype.kind not in "fiub" or bytes_differ:
            raise InputError(f"{name} is {array.dtype}, but this part is {part.dtype}: convert it")
        array = np.ascontiguousarray(array.astype(_stored(part), copy=False))
        columns.append(array.reshape(*lead, -1).view(np.uint8))
    return np.concatenate(columns, axis=-1)


def unpack(packed: Any, parts: Sequence[ObservationPart]) -> dict[str, Any]:
    """The parts of packed observations: views of numpy arrays, and JAX arrays inside jit.

    Args:
        packed: [..., P], or [..., k P] where k observations are joined along the last axis.
        parts: the parts.

    Returns:
        Part name -> [..., *part.shape]; k observations are joined along the last axis of each part.

    Raises:
        InputError: when the last axis does not hold whole observations.
    """
    size = packed_size(parts)
    frames, rest = divmod(packed.shape[-1], size)
    if rest or not frames or packed.dtype != np.uint8:
        raise InputError(
            f"observations are {packed.dtype}{list(packed.shape)}, but packed observations are uint8 of "
            f"{size} bytes each: pack them with observation_parts.pack"
        )
    lead = packed.shape[:-1]
    rows = packed.reshape(*lead, frames, size)
    unpacked, start = {}, 0
    for part in parts:
        stop = start + num_bytes(part)
        values = _with_dtype(rows[..., start:stop], part)
        if frames == 1:
            unpacked[part.name] = values.reshape(*lead, *part.shape)
        else:
            *lengths, last = part.shape
            each = values.reshape(*lead, frames, *lengths, last)
            order = [*range(len(lead)), *range(len(lead) + 1, each.ndim - 1), len(lead), each.ndim - 1]
            unpacked[part.name] = each.transpose(order).reshape(*lead, *lengths, frames * last)
        start = stop
    return unpacked


@functools.cache
def say_joined(name: str, size: int, entries: tuple[str, ...]) -> None:
    """Prints once that the entries of observations are joined into one vector."""
    print(f"observations of {name} are joined into one vector of {size} numbers: {', '.join(entries)}")


def _stored(part: ObservationPart) -> np.dtype[Any]:
    """The dtype of a part's values in packed observations, little-endian as the devices of JAX are."""
    return np.dtype(part.dtype).newbyteorder("<")


def _with_dtype(values: Any, part: ObservationPart) -> Any:
    """Bytes [..., n itemsize] as values [..., n]."""
    if part.dtype == "uint8":
        return values
    if isinstance(values, np.ndarray):
        return values.view(_stored(part))
    size = np.dtype(part.dtype).itemsize
    grouped = values.reshape(*values.shape[:-1], values.shape[-1] // size, size)
    return jax.lax.bitcast_convert_type(grouped, part.dtype)


def _flat(arrays: Mapping[str, Any], where: str, outer: str = "") -> Iterator[tuple[str, np.ndarray]]:
    """Name and array of each entry of nested dictionaries, in the dtype of parts."""
    for key, value in arrays.items():
        if not isinstance(key, str) or not key:
            raise InputError(f"{where}: observations has the key {key!r}: give texts as names of parts")
        name = f"{outer}/{key}" if outer else key
        if isinstance(value, Mapping):
            yield from _flat(value, where, name)
            continue
        try:
            array = np.asarray(value)
        except ValueError as error:
            raise InputError(
                f"{where}: observations[{name!r}] is ragged ({error}): give rows of equal shapes"
            ) from error
        if array.ndim == 1:
            array = array[:, None]
        if array.ndim not in (2, 4) or 0 in array.shape:
            raise InputError(
                f"{where}: observations[{name!r}] has shape {array.shape}, but images need [N, height, "
                "width, channels] and vectors [N, k]: reshape it"
            )
        pixels = array.dtype == np.uint8 and array.ndim == 4
        yield name, cast(f"observations[{name!r}]", array, np.dtype("uint8" if pixels else "float32"), where)
