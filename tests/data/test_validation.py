import dataclasses
from pathlib import Path

import h5py
import numpy as np
import pytest

from valuelab.arrays import open_npz
from valuelab.data import storage, validation
from valuelab.data.validation import validate
from valuelab.errors import InputError
from valuelab.types import Dataset


def dataset(**changes) -> Dataset:
    rows = 5
    return dataclasses.replace(
        Dataset(
            name="made up",
            observations=np.zeros((rows, 2), np.float32),
            actions=np.zeros((rows, 3), np.float32),
            rewards=np.zeros(rows, np.float32),
            masks=np.ones(rows, np.float32),
            terminals=np.array([0, 1, 0, 0, 1], bool),
            next_observations=np.zeros((rows, 2), np.float32),
            action_low=-np.ones(3, np.float32),
            action_high=np.ones(3, np.float32),
        ),
        **changes,
    )


def with_value(shape, row, value):
    array = np.zeros(shape, np.float32)
    array[row] = value
    return array


def test_returns_what_is_sound():
    sound = dataset()
    assert validate(sound, "file") is sound


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"rewards": np.zeros(4, np.float32)},
            "file: rewards has 4 rows, but observations has 5; row 4 is missing",
        ),
        (
            {"observations": with_value((5, 2), 3, np.nan)},
            r"file: observations is nan at row 3, but must be finite",
        ),
        (
            {"next_observations": with_value((5, 2), 2, np.inf)},
            "file: next_observations is .* at row 2, but must be finite",
        ),
        ({"rewards": with_value(5, 4, -np.inf)}, "file: rewards is -inf at row 4, but must be finite"),
        (
            {"actions": with_value((5, 3), 2, 1.1)},
            r"file: actions is 1.1.* at row 2, outside the bounds -1 to 1",
        ),
        ({"action_low": np.zeros(2, np.float32)}, "file: actions has 3 dimensions, but its bounds have 2"),
        ({"rewards": np.zeros(5)}, r"file: rewards is float64 of shape \(5,\), but float32 with 1 axes"),
        (
            {"actions": np.zeros(5, np.float32)},
            r"file: actions is float32 of shape \(5,\), but float32 with 2 axes",
        ),
        (
            {"observations": np.zeros((5, 2))},
            "file: observations is float64 of shape .*, but float32 or uint8",
        ),
        ({"num_actions": 4}, "file: actions is float32 of shape .*, but int32 with 1 axes is expected"),
        (
            {"num_actions": 3, "actions": np.array([0, 1, 2, 3, 0], np.int32)},
            "file: actions is 3 at row 3, outside the bounds 0 to 2",
        ),
        ({"masks": with_value(5, 2, 1.5)}, "file: masks is 1.5 at row 2, outside 0 to 1"),
        ({"masks": with_value(5, 1, -1)}, "file: masks is -1.0 at row 1, outside 0 to 1"),
        ({"next_observations": None, "valid": np.zeros(5, bool)}, "file: its 5 rows hold no transition"),
        ({"valid": np.ones(5)}, r"file: valid is float64 of shape \(5,\), but bool"),
        (
            {"next_observations": np.zeros((5, 1), np.float32)},
            r"file: next_observations is float32 of shape \(5, 1\), but observations is float32 of shape",
        ),
        (
            {"observations": np.zeros((5, 0), np.float32), "next_observations": None},
            r"file: observations has shape \(5, 0\), so its rows are empty",
        ),
        ({"action_high": np.ones(1, np.float32)}, "file: actions has 3 dimensions, but its bounds have 3"),
    ],
)
def test_names_file_key_and_first_row(changes, message):
    with pytest.raises(InputError, match=message) as caught:
        validate(dataset(**changes), "file")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("dtype", "stored", "message"),
    [
        ("uint8", np.array([0, 255, 300], np.uint16), "k is 300 at row 2, but a number that uint8 holds"),
        ("int32", np.array([1, 2**32 + 1], np.int64), "k is 4294967297 at row 1, but .* int32 holds is"),
        ("float32", np.array([[0, 1], [0, -1e300]]), r"k is -1e\+300 at row 1, but .* float32 holds"),
        ("bool", np.array([0, 1, 0.5]), "k is 0.5 at row 2, but 0 or 1 is expected"),
        ("bool", np.array([0, 255], np.uint8), "k is 255 at row 1, but 0 or 1 is expected"),
    ],
)
@pytest.mark.parametrize("suffix", ["npz", "hdf5"])
def test_casts_do_not_change_values(suffix, dtype, stored, message, tmp_path, monkeypatch):
    monkeypatch.setattr(validation, "_PIECE_BYTES", 1)  # one row per piece
    path = tmp_path / f"file.{suffix}"
    if suffix == "npz":
        np.savez(path, k=stored, sound=stored[:1])
        opened = open_npz(path)
    else:
        opened = h5py.File(path, "w")
        opened["k"], opened["sound"] = stored, stored[:1]
        opened.flush()
    with opened as arrays:
        sound = validation.read_array(arrays, "sound", dtype, path)
        with pytest.raises(InputError, match=f"^{path}: {message}"):
            validation.read_array(arrays, "k", dtype, path)
    assert sound.dtype == dtype
    np.testing.assert_array_equal(sound, stored[:1])


def test_episodes_of_unequal_lengths_or_other_shapes():
    episode = {key: np.zeros((3, 2), np.float32) for key in ("observations", "actions")}
    for changed, message in (
        (np.zeros((2, 2), np.float32), "file: episode 1: actions has 2 rows, but observations has 3"),
        (np.zeros((3, 1), np.float32), r"file: episode 1: actions is float32 of shape \(3, 1\), but the"),
        (np.zeros((3, 2)), "file: episode 1: actions is float64 of shape .*, but the first episode has"),
    ):
        with pytest.raises(InputError, match=message):
            storage.from_episodes("name", [episode, episode | {"actions": changed}], Path("file"))


def test_actions_out_of_bounds_are_clipped_on_demand(caplog):
    actions = with_value((5, 3), 2, [1.25, -1.5, 0.5])
    clipped = validate(dataset(actions=actions), "file", clip_actions=True)
    np.testing.assert_array_equal(clipped.actions, with_value((5, 3), 2, [1, -1, 0.5]))
    assert "file: clipped 2 of 15 action values to their bounds, by 0.5 at most" in caplog.text
    with pytest.raises(InputError, match=r"actions is 3 at row 3, .*; check the number of actions"):
        validate(
            dataset(num_actions=3, actions=np.array([0, 1, 2, 3, 0], np.int32)), "file", clip_actions=True
        )


def test_rounding_to_float32_is_not_a_fault():
    actions = np.full((5, 3), 0.1, np.float64).astype(np.float32)
    rounded = dataset(actions=actions, action_high=np.full(3, 0.1, np.float32) - np.float32(1e-6))
    assert validate(rounded, "file") is rounded
