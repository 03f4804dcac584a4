"""What a file must hold before anything learns from it: every fault is one line naming file, key and row.

Readers take arrays out of files through `read_array`, inside `reading`, and hand what they made to
`validate`; so each check stands once, whatever the source.
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
from valuelab.types import Dataset

BOUND_TOLERANCE = 1e-5
"""How far an action may lie outside its bounds: what rounding to float32 can do to a bound."""

_PIECE_BYTES = 1 << 24

_KINDS = {"float32": "fiub", "int32": "iu", "uint8": "u", "bool": "biuf", None: "fiub"}
"""dtype wanted -> the numpy kinds that may be converted to it."""


@contextlib.contextmanager
def reading(path: Path, remedy: str = "delete it and load again to fetch it anew") -> Iterator[None]:
    """Turns what a broken file makes its reader raise into one line that names the file.

    Args:
        path: the file, or the folder of files, read inside the `with` block.
        remedy: what to do about a broken one.

    Raises:
        InputError: when the file is truncated, corrupt, of another format, too large or no file at all.
    """
    advice = f"it is truncated, corrupt or of another format; {remedy}"
    with one_line(f"{path} cannot be read", advice):
        for file in path.iterdir() if path.is_dir() else [path]:
            check_regular(file)
        yield


def read_array(arrays: Mapping[str, Any], key: str, dtype: str | None, path: Path) -> np.ndarray:
    """Takes one array out of a file, converted once.

    Args:
        arrays: what the file's reader offers, such as an open Npz or h5py.File.
        key: the array's key.
        dtype: "float32", "int32", "uint8" or "bool"; None for numbers as they are stored.
        path: the file, for messages.

    Returns:
        The array, rows leading.

    Raises:
        InputError: when the key is missing, or holds something that is not of that kind, or numbers that
            become others in it, or states more numbers than were written.
    """
    if key not in arrays:
        raise InputError(f"{path}: no key {key!r}, only {', '.join(sorted(arrays)) or 'none at all'}")
    value = arrays[key]
    found, shape = getattr(value, "dtype", None), getattr(value, "shape", ())
    if found is None or not shape or found.kind not in _KINDS[dtype]:
        what = f"{found} of shape {shape}" if found is not None else f"a {type(value).__name__}"
        raise InputError(
            f"{path}: {key} is {what} where rows of {dtype or 'numbers'} are expected; "
            "is it a file of this source?"
        )
    if not isinstance(value, np.ndarray):
        check_written(path, key, value.id)
    if found == (dtype or found):
        return value[()]
    # Piece by piece: no second copy, and HDF5 itself would clip what does not fit.
    array = np.empty(shape, dtype)
    rows = max(1, _PIECE_BYTES // max(1, found.itemsize * math.prod(shape[1:])))
    for start in range(0, len(array), rows):
        array[start : start + rows] = cast(key, value[start : start + rows], dtype, path, start)
    return array


def check_lengths(arrays: Mapping[str, Any], path: Path | str) -> None:
    """Checks that a file is not empty and that each of its rows is whole.

    Args:
        arrays: arrays by key, rows leading; the first one sets the number of rows.
        path: the file, for messages.

    Raises:
        InputError: when there are no rows, or the arrays differ in number.
    """
    (first, reference), *others = arrays.items()
    if len(reference) == 0:
        raise InputError(f"{path}: {first} has no rows: the dataset is empty; fetch or collect it again")
    for key, array in others:
        if len(array) != len(reference):
            raise InputError(
                f"{path}: {key} has {len(array)} rows where {first} has {len(reference)}; row "
                f"{min(len(array), len(reference))} is the first without a partner: fetch or collect it again"
            )


def check_finite(key: str, array: np.ndarray, path: Path | str, first_row: int = 0) -> None:
    """Checks that an array holds neither NaN nor infinity.

    Args:
        key: the array's key.
        array: any array, rows leading.
        path: the file, for messages.
        first_row: the row of the file that the array begins with.

    Raises:
        InputError: with the first row at fault.
    """
    if array.dtype.kind != "f":
        return
    finite = np.isfinite(array)
    if not finite.all():
        row, *place = np.unravel_index(np.argmin(finite), array.shape)
        raise InputError(
            f"{path}: {key} is {array[row, *place]} at row {first_row + row}, not finite; repair that episode"
        )


def validate(dataset: Dataset, path: Path | str, clip_actions: bool = False) -> Dataset:
    """Checks all that training relies on, in one pass over each array.

    Args:
        dataset: what a reader made, in either storage.
        path: the file it came from, for messages.
        clip_actions: whether continuous actions out of bounds are clipped, with a warning that says how many
            and by how much, instead of refused.

    Returns:
        The same dataset, with actions within their bounds.

    Raises:
        InputError: for an empty dataset, ragged lengths, a wrong dtype or layout, NaN or infinite values,
            masks outside [0, 1], actions outside their bounds, an episode without an end, or no transition.
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
        check_finite(key, array, path)
    check_masks("masks", dataset.masks, path)
    dataset = _within_bounds(dataset, path, clip_actions)
    if not dataset.terminals[-1]:
        ends = np.flatnonzero(dataset.terminals)
        last = f"the last one is row {ends[-1]}" if len(ends) else "there is none"
        raise InputError(
            f"{path}: terminals has no episode end at its last row {len(dataset.terminals) - 1} ({last}); "
            "the file is cut off or its layout is another: fetch or collect it again"
        )
    check_transitions(dataset, path)
    return dataset


def check_masks(key: str, masks: np.ndarray, path: Path | str) -> None:
    """Checks that masks, or discounts that say the same, lie in [0, 1].

    Args:
        key: of the array.
        masks: [N], finite.
        path: the file, for messages.

    Raises:
        InputError: with the first row at fault.
    """
    inside = (masks >= 0) & (masks <= 1)
    if not inside.all():
        row = np.argmin(inside)
        raise InputError(f"{path}: {key} is {masks[row]} at row {row}, outside 0 to 1; repair that episode")


def check_transitions(dataset: Dataset, path: Path | str) -> None:
    """Checks that there is something to learn from.

    Args:
        dataset: in either storage.
        path: the file, for messages.

    Raises:
        InputError: when no row is followed by another of its episode.
    """
    if dataset.valid is not None and not dataset.valid.any():
        raise InputError(
            f"{path}: its {len(dataset.valid)} rows hold no transition: each is the last of an episode; "
            "fetch or collect it again"
        )


def _check_layout(dataset: Dataset, arrays: Mapping[str, np.ndarray], path: Path | str) -> None:
    """Raises unless the arrays have one length and the dtypes that `Dataset` gives them."""
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
                f"{path}: {key} is {array.dtype} of shape {array.shape} where {dtype} with "
                f"{dimensions} axes is expected; is it a file of this source?"
            )
    observations = arrays["observations"]
    if observations.dtype not in (np.float32, np.uint8) or observations.ndim < 2:
        raise InputError(
            f"{path}: observations is {observations.dtype} of shape {observations.shape} where float32 or "
            "uint8 of shape [rows, ...] is expected; is it a file of this source?"
        )
    if "next_observations" in arrays:
        check_successors(observations, arrays["next_observations"], path)
    for key in ("observations", "actions"):
        if 0 in arrays[key].shape:
            raise InputError(
                f"{path}: {key} has shape {arrays[key].shape}, rows without a number: fetch or make it again"
            )


def check_successors(observations: np.ndarray, following: Any, path: Path | str) -> None:
    """Checks that next observations are of the form of observations.

    Args:
        observations: [N, ...].
        following: next_observations, an array or what h5py offers.
        path: the file, for messages.

    Raises:
        InputError: when their shapes or kinds differ.
    """
    kinds = [array.dtype == np.uint8 for array in (observations, following)]
    if following.shape != observations.shape or kinds[0] != kinds[1]:
        raise InputError(
            f"{path}: next_observations is {following.dtype} of shape {following.shape} where observations "
            f"is {observations.dtype} of shape {observations.shape}: fetch or make the file again"
        )


def _within_bounds(dataset: Dataset, path: Path | str, clip: bool) -> Dataset:
    """Raises with the first action outside its bounds, or clips them all."""
    actions = dataset.actions
    if dataset.num_actions:
        low, high = np.array(0), np.array(dataset.num_actions - 1)
        inside = (actions >= low) & (actions <= high)
        advice = "check the number of actions"
    else:
        low, high = dataset.action_low, dataset.action_high
        if low.shape != actions.shape[1:] or high.shape != low.shape:
            raise InputError(
                f"{path}: actions has {actions.shape[1]} dimensions where its bounds have {len(low)}"
            )
        if not (np.isfinite(low).all() and np.isfinite(high).all()):
            raise InputError(f"{path}: actions are bounded by {low} and {high}, which must be finite")
        inside = (actions >= low - BOUND_TOLERANCE) & (actions <= high + BOUND_TOLERANCE)
        advice = "clip them with --data.clip_actions, or rescale the actions of the file"
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
        f"{path}: actions is {actions[row, *place]} at row {row}, outside the bounds {low[*place]} to "
        f"{high[*place]}; {advice}"
    )
