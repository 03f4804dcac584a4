"""Checks of datasets: every fault is one line that names the file, the key and the row.

Readers take arrays out of files with `read_array`, inside `reading`, and pass their dataset to `validate`. So
each check exists once, for all sources.
"""

import contextlib
import dataclasses
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging

from valuelab.arrays import cast, check_written
from valuelab.errors import InputError, one_line
from valuelab.files import check_regular
from valuelab.observation_parts import packed_size, unpack
from valuelab.types import Dataset

BOUND_TOLERANCE = 1e-5
"""The largest distance of an action outside its bounds, the error of rounding a bound to float32."""

_PIECE_BYTES = 1 << 24

_KINDS = {"float32": "fiub", "int32": "iu", "uint8": "u", "bool": "biuf", None: "fiub"}
"""The wanted dtype -> the numpy kinds that may be converted to it."""


@contextlib.contextmanager
def reading(
    path: Path, remedy: str = "delete it and load the dataset again to download it"
) -> Iterator[None]:
    """Turns exceptions of the reader of a broken file into one line that names the file.

    Args:
        path: the file, or the folder of files, that the `with` block reads.
        remedy: what the user can do about a broken file.

    Raises:
        InputError: when the file is truncated, corrupt, of another format, too large or not a regular file.
    """
    advice = f"it is truncated, corrupt or of another format; {remedy}"
    with one_line(f"{path} cannot be read", advice):
        for file in path.iterdir() if path.is_dir() else [path]:
            check_regular(file)
        yield


def read_array(arrays: Mapping[str, Any], key: str, dtype: str | None, path: Path) -> np.ndarray:
    """Reads one array of a file and converts it.

    Args:
        arrays: the open file, such as an Npz or h5py.File.
        key: the array's key.
        dtype: "float32", "int32", "uint8" or "bool"; None to keep the stored dtype.
        path: the file, for messages.

    Returns:
        The array, rows leading.

    Raises:
        InputError: when the key is missing, when its array has another kind of values, when the conversion
            would change values, or when the file states more values than were written.
    """
    if key not in arrays:
        raise InputError(
            f"{path}: key {key!r} is missing; the file has {', '.join(sorted(arrays)) or 'no keys'}: "
            "get the file again"
        )
    value = arrays[key]
    stored, shape = getattr(value, "dtype", None), getattr(value, "shape", ())
    if stored is None or not shape or stored.kind not in _KINDS[dtype]:
        kind = f"{stored} of shape {shape}" if stored is not None else f"a {type(value).__name__}"
        raise InputError(
            f"{path}: {key} is {kind}, but rows of {dtype or 'numbers'} are expected: "
            "check that the file belongs to this source"
        )
    if not isinstance(value, np.ndarray):
        check_written(path, key, value.id)
    if stored == (dtype or stored):
        return value[()]
    # In pieces, which saves a second copy. HDF5's own conversion would clip values that do not fit.
    array = np.empty(shape, dtype)
    rows = max(1, _PIECE_BYTES // max(1, stored.itemsize * math.prod(shape[1:])))
    for start in range(0, len(array), rows):
        array[start : start + rows] = cast(key, value[start : start + rows], dtype, path, start)
    return array


def check_lengths(arrays: Mapping[str, Any], path: Path | str, remedy: str = "get the dataset again") -> None:
    """Checks that arrays are not empty and have equal lengths.

    Args:
        arrays: arrays by key, rows leading; the first array sets the number of rows.
        path: the file, for messages.
        remedy: what the user should do about different numbers of rows.

    Raises:
        InputError: when there are no rows, or the numbers of rows differ.
    """
    (first, reference), *others = arrays.items()
    if len(reference) == 0:
        raise InputError(f"{path}: {first} has no rows: the dataset is empty; get it again")
    for key, array in others:
        if len(array) != len(reference):
            raise InputError(
                f"{path}: {key} has {len(array)} rows, but {first} has {len(reference)}; row "
                f"{min(len(array), len(reference))} is missing in one of them: {remedy}"
            )


def check_finite(key: str, array: np.ndarray, path: Path | str, first_row: int = 0) -> None:
    """Checks that all values of an array are finite.

    Args:
        key: the array's key.
        array: any array, rows leading.
        path: the file, for messages.
        first_row: the row of the file where the array begins.

    Raises:
        InputError: naming the first row with NaN or infinity.
    """
    if array.dtype.kind != "f":
        return
    rows = max(1, _PIECE_BYTES // max(1, array.itemsize * math.prod(array.shape[1:])))
    for start in range(0, len(array), rows):
        piece = array[start : start + rows]
        finite = np.isfinite(piece)
        if not finite.all():
            row, *place = np.unravel_index(np.argmin(finite), piece.shape)
            raise InputError(
                f"{path}: {key} is {piece[row, *place]} at row {first_row + start + row}, but must be "
                "finite: repair that episode"
            )


def validate(dataset: Dataset, path: Path | str, clip_actions: bool = False) -> Dataset:
    """Checks all properties that training relies on, in one pass over each array.

    Args:
        dataset: the dataset, in either storage.
        path: its file, for messages.
        clip_actions: whether to clip continuous actions outside their bounds, with a warning that states
            their number and the largest distance, instead of refusing them.

    Returns:
        The same dataset, with actions within their bounds.

    Raises:
        InputError: for an empty dataset, unequal lengths, a wrong dtype or layout, NaN or infinite values,
            masks outside [0, 1], actions outside their bounds, a missing end of the last episode, or a
            dataset without transitions.
    """
    arrays = {
        "observations": dataset.observations,
        "actions": dataset.actions,
        "rewards": dataset.rewards,
        "masks": dataset.masks,
        "terminals": dataset.terminals,
        "next_observations": dataset.next_observations,
        "valid": dataset.valid,
    }
    present = {key: array for key, array in arrays.items() if array is not None}
    _check_layout(dataset, present, path)
    for key, array in present.items():
        if key in ("observations", "next_observations") and dataset.observation_parts:
            for name, part in unpack(array, dataset.observation_parts).items():
                check_finite(f"{key}[{name!r}]", part, path)
        else:
            check_finite(key, array, path)
    check_masks("masks", dataset.masks, path)
    dataset = _within_bounds(dataset, path, clip_actions)
    if not dataset.terminals[-1]:
        ends = np.flatnonzero(dataset.terminals)
        last = f"the last end is row {ends[-1]}" if len(ends) else "no row is an end"
        raise InputError(
            f"{path}: terminals has no episode end at its last row {len(dataset.terminals) - 1} ({last}); "
            "the file is cut off or has another layout: get it again"
        )
    check_transitions(dataset, path)
    return dataset


def check_masks(key: str, masks: np.ndarray, path: Path | str) -> None:
    """Checks that masks, or discounts, lie in [0, 1].

    Args:
        key: the array's key.
        masks: [N], finite.
        path: the file, for messages.

    Raises:
        InputError: naming the first row outside [0, 1].
    """
    inside = (masks >= 0) & (masks <= 1)
    if not inside.all():
        row = np.argmin(inside)
        raise InputError(f"{path}: {key} is {masks[row]} at row {row}, outside 0 to 1: repair that episode")


def check_transitions(dataset: Dataset, path: Path | str) -> None:
    """Checks that a dataset has at least one transition.

    Args:
        dataset: the dataset, in either storage.
        path: the file, for messages.

    Raises:
        InputError: when no row is followed by another row of its episode.
    """
    if dataset.valid is not None and not dataset.valid.any():
        raise InputError(
            f"{path}: its {len(dataset.valid)} rows hold no transition: each is the last of an episode; "
            "get the dataset again"
        )


def _check_layout(dataset: Dataset, arrays: Mapping[str, np.ndarray], path: Path | str) -> None:
    """Raises unless the arrays have equal lengths and the dtypes and axes of `Dataset`."""
    check_lengths(arrays, path)
    action = ("int32", 1) if dataset.num_actions else ("float32", 2)
    wanted = {"actions": action, "rewards": ("float32", 1), "masks": ("float32", 1), "terminals": ("bool", 1)}
    wanted["valid"] = ("bool", 1)
    for key, (dtype, dimensions) in wanted.items():
        if key not in arrays:
            continue
        array = arrays[key]
        if array.dtype != dtype or array.ndim != dimensions:
            raise InputError(
                f"{path}: {key} is {array.dtype} of shape {array.shape}, but {dtype} with {dimensions} axes "
                "is expected: check that the file belongs to this source"
            )
    observations = arrays["observations"]
    if observations.dtype not in (np.float32, np.uint8) or observations.ndim < 2:
        raise InputError(
            f"{path}: observations is {observations.dtype} of shape {observations.shape}, but float32 or "
            "uint8 of shape [rows, ...] is expected: check that the file belongs to this source"
        )
    if parts := dataset.observation_parts:
        size = packed_size(parts)
        if observations.dtype != np.uint8 or observations.shape[1:] != (size,):
            raise InputError(
                f"{path}: observations is {observations.dtype} of shape {observations.shape}, but its "
                f"{len(parts)} parts are packed into uint8 of shape [rows, {size}]: "
                "use observation_parts.join"
            )
    if "next_observations" in arrays:
        check_successors(observations, arrays["next_observations"], path)
    for key in ("observations", "actions"):
        if 0 in arrays[key].shape:
            raise InputError(
                f"{path}: {key} has shape {arrays[key].shape}, so its rows are empty: get the dataset again"
            )


def check_successors(observations: np.ndarray, following: Any, path: Path | str) -> None:
    """Checks that next observations have the shape and kind of observations.

    Args:
        observations: [N, ...].
        following: next_observations, an array or an h5py dataset.
        path: the file, for messages.

    Raises:
        InputError: when their shapes or kinds differ.
    """
    kinds = [array.dtype == np.uint8 for array in (observations, following)]
    if following.shape != observations.shape or kinds[0] != kinds[1]:
        raise InputError(
            f"{path}: next_observations is {following.dtype} of shape {following.shape}, but observations "
            f"is {observations.dtype} of shape {observations.shape}: get the file again"
        )


def _within_bounds(dataset: Dataset, path: Path | str, clip: bool) -> Dataset:
    """Raises with the first action outside its bounds, or clips all actions."""
    actions = dataset.actions
    if dataset.num_actions:
        low, high = np.array(0), np.array(dataset.num_actions - 1)
        inside = (actions >= low) & (actions <= high)
        advice = "check the number of actions"
    else:
        low, high = dataset.action_low, dataset.action_high
        if low.shape != actions.shape[1:] or high.shape != low.shape:
            raise InputError(
                f"{path}: actions has {actions.shape[1]} dimensions, but its bounds have {len(low)}: correct "
                "the bounds"
            )
        if not (np.isfinite(low).all() and np.isfinite(high).all()):
            raise InputError(
                f"{path}: the bounds of actions are {low} and {high}, but must be finite: correct them"
            )
        inside = (actions >= low - BOUND_TOLERANCE) & (actions <= high + BOUND_TOLERANCE)
        advice = "clip them with --data.clip_actions (in Python clip_actions=True), or rescale them"
    if inside.all():
        return dataset
    if clip and not dataset.num_actions:
        clipped = np.clip(actions, low, high)
        logging.warning(
            "%s: clipped %d of %d action values to their bounds, by %.3g at most",
            *(path, np.count_nonzero(~inside), actions.size, np.abs(clipped - actions).max()),
        )
        return dataclasses.replace(dataset, actions=clipped)
    row, *place = np.unravel_index(np.argmin(inside), actions.shape)
    raise InputError(
        f"{path}: actions is {actions[row, *place]:g} at row {row}, outside the bounds {low[*place]:g} to "
        f"{high[*place]:g}; {advice}"
    )
