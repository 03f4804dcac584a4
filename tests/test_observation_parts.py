"""Packed observations: exact to the bit, on the host and inside jit, and faults in one line."""

import jax
import numpy as np
import pytest

from valuelab import observation_parts
from valuelab.errors import InputError
from valuelab.types import ObservationPart

IMAGE, STATE, WRIST = (
    ObservationPart("image", (4, 5, 3), "uint8"),
    ObservationPart("state", (3,), "float32"),
    ObservationPart("wrist", (2, 2, 1), "float32"),
)


def values(parts, lead, seed=0):
    """Random values of parts, among them every kind of float: NaN, infinite, -0 and denormal."""
    random = np.random.default_rng(seed)
    made = {}
    for part in parts:
        shape = (*lead, *part.shape)
        if part.dtype == "uint8":
            made[part.name] = random.integers(0, 256, shape, np.uint8)
        else:
            numbers = random.integers(0, 2**32, shape, np.uint32).view(np.float32)
            numbers.reshape(-1)[:4] = [np.nan, -np.inf, -0.0, 1e-45][: numbers.size]
            made[part.name] = numbers
    return made


@pytest.mark.parametrize("lead", [(), (6,), (2, 3)])
@pytest.mark.parametrize("parts", [(IMAGE, STATE), (STATE,), (STATE, WRIST), (IMAGE, STATE, WRIST)])
def test_unpack_inverts_pack_to_the_bit(parts, lead):
    given = values(parts, lead)
    packed = observation_parts.pack(given, parts, "observation")
    assert packed.shape == (*lead, observation_parts.packed_size(parts))
    assert packed.dtype == np.uint8
    on_host = observation_parts.unpack(packed, parts)
    in_jit = jax.jit(lambda bytes: observation_parts.unpack(bytes, parts))(packed)
    for part in parts:
        wanted = given[part.name].tobytes()
        assert on_host[part.name].tobytes() == wanted
        assert np.asarray(in_jit[part.name]).tobytes() == wanted
        assert in_jit[part.name].shape == (*lead, *part.shape)
        assert in_jit[part.name].dtype == part.dtype
        assert np.shares_memory(on_host[part.name], packed), "no copy on the host"


def test_joined_observations_are_joined_part_by_part():
    parts = (IMAGE, STATE)
    first, second = (values(parts, (6,), seed) for seed in (0, 1))
    joined = np.concatenate([observation_parts.pack(each, parts, "") for each in (first, second)], -1)
    for array in (joined, jax.numpy.asarray(joined)):
        for name, part in observation_parts.unpack(array, parts).items():
            wanted = np.concatenate([first[name], second[name]], axis=-1)
            assert np.asarray(part).tobytes() == wanted.tobytes()
            assert part.shape == wanted.shape


def test_join_sorts_parts_and_leaves_vectors_one_vector():
    images = np.zeros((7, 4, 5, 3), np.uint8)
    numbers = np.arange(7)
    packed, parts = observation_parts.join({"robot": {"speed": numbers}, "camera": images}, "mine")
    assert [part.name for part in parts] == ["camera", "robot/speed"]
    assert packed.shape == (7, 64)
    assert observation_parts.unpack(packed, parts)["robot/speed"][:, 0].tolist() == numbers.tolist()
    vectors, parts = observation_parts.join({"b": numbers, "a": np.ones((7, 2))}, "mine")
    assert parts == ()
    assert vectors[3].tolist() == [3, 1, 1]
    assert vectors.dtype == np.float32


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"image": np.zeros((4, 5, 3), np.uint8)}, "observation has no part 'state': give image, state"),
        (
            {"image": np.zeros((4, 5, 3), np.uint8), "state": np.zeros(3), "x": 1},
            "observation has the unknown part 'x': give image, state",
        ),
        (
            {"image": np.zeros((4, 5), np.uint8), "state": np.zeros(3)},
            r"observation\['image'\] has shape \(4, 5\), but this part has \(4, 5, 3\): give this",
        ),
        (
            {"image": np.zeros((4, 5, 3)), "state": np.zeros(3)},
            r"observation\['image'\] is float64, but this part is uint8: convert it",
        ),
        (
            {"image": np.zeros((2, 4, 5, 3), np.uint8), "state": np.zeros(3)},
            r"observation\['state'\] has shape \(3,\), but observation\['image'\] has the leading axes",
        ),
    ],
)
def test_a_faulty_part_is_named(given, message):
    with pytest.raises(InputError, match=message):
        observation_parts.pack(given, (IMAGE, STATE), "observation")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "mine: observations is an empty dictionary"),
        ({"a": np.zeros((7, 4, 5))}, r"mine: observations\['a'\] has shape \(7, 4, 5\), but images need"),
        ({"a": np.zeros(7), "b": np.zeros(6)}, r"different numbers of rows \(a 7, b 6\)"),
        ({"a": {0: np.zeros(7)}}, "observations has the key 0: give texts"),
        ({"a": np.array(["x"])}, r"observations\['a'\] is <U1, but real numbers"),
    ],
)
def test_arrays_that_are_no_parts_are_refused(given, message):
    with pytest.raises(InputError, match=message):
        observation_parts.join(given, "mine")
