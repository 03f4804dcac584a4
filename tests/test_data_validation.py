import dataclasses

import numpy as np
import pytest

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
            "file: rewards has 4 rows where observations has 5; row 4 is the first",
        ),
        (
            {"observations": with_value((5, 2), 3, np.nan)},
            r"file: observations is nan at row 3, not finite",
        ),
        (
            {"next_observations": with_value((5, 2), 2, np.inf)},
            "file: next_observations is .* at row 2, not finite",
        ),
        ({"rewards": with_value(5, 4, -np.inf)}, "file: rewards is -inf at row 4, not finite"),
        (
            {"actions": with_value((5, 3), 2, 1.1)},
            r"file: actions is 1.1.* at row 2, outside the bounds -1.0 to 1.0",
        ),
        ({"action_low": np.zeros(2, np.float32)}, "file: actions has 3 dimensions where its bounds have 2"),
        ({"rewards": np.zeros(5)}, r"file: rewards is float64 of shape \(5,\) where float32 with 1 axes"),
        (
            {"actions": np.zeros(5, np.float32)},
            r"file: actions is float32 of shape \(5,\) where float32 with 2 axes",
        ),
        (
            {"observations": np.zeros((5, 2))},
            "file: observations is float64 of shape .* where float32 or uint8",
        ),
        ({"num_actions": 4}, "file: actions is float32 of shape .* where int32 with 1 axes is expected"),
        (
            {"num_actions": 3, "actions": np.array([0, 1, 2, 3, 0], np.int32)},
            "file: actions is 3 at row 3, outside the bounds 0 to 2",
        ),
    ],
)
def test_names_file_key_and_first_row(changes, message):
    with pytest.raises(InputError, match=message) as caught:
        validate(dataset(**changes), "file")
    assert "\n" not in str(caught.value)


def test_actions_out_of_bounds_are_clipped_on_demand(caplog):
    actions = with_value((5, 3), 2, [1.25, -1.5, 0.5])
    clipped = validate(dataset(actions=actions), "file", clip_actions=True)
    np.testing.assert_array_equal(clipped.actions, with_value((5, 3), 2, [1, -1, 0.5]))
    assert "file: clipped 2 of 15 action values to their bounds, by 0.5 at most" in caplog.text
    with pytest.raises(InputError, match=r"actions is 3 at row 3, .*; check the number of actions"):
        validate(
            dataset(num_actions=3, actions=np.array([0, 1, 2, 3, 0], np.int32)), "file", clip_actions=True
        )


def test_rounding_to_float32_is_no_fault():
    actions = np.full((5, 3), 0.1, np.float64).astype(np.float32)
    rounded = dataset(actions=actions, action_high=np.full(3, 0.1, np.float32) - np.float32(1e-6))
    assert validate(rounded, "file") is rounded
