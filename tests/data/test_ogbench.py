import sys

import numpy as np
import pytest

from valuelab import data, environments
from valuelab.data import download
from valuelab.data.sources import ogbench
from valuelab.errors import InputError

NAMES = {
    "pointmaze-medium-navigate-v0": "pointmaze-medium-navigate-v0",
    "pointmaze-medium-navigate-singletask-v0": "pointmaze-medium-navigate-v0",
    "pointmaze-medium-navigate-singletask-task3-v0": "pointmaze-medium-navigate-v0",
    "cube-single-play-singletask-v0": "cube-single-play-v0",
    "cube-single-play-singletask-task2-v0": "cube-single-play-v0",
}


def write_file(folder, name, **changes):
    """A file of two episodes of three rows, in the published layout."""
    rng = np.random.default_rng(0)
    arrays = {
        "observations": rng.normal(size=(6, 2)).astype(np.float32),
        "actions": rng.uniform(-1, 1, size=(6, 2)).astype(np.float32),
        "terminals": np.array([0, 0, 1, 0, 0, 1], bool),
        "qpos": rng.normal(size=(6, 2)).astype(np.float32),
        "qvel": rng.normal(size=(6, 2)).astype(np.float32),
        **changes,
    }
    path = folder / "ogbench" / f"{name}.npz"
    path.parent.mkdir(exist_ok=True)
    np.savez_compressed(path, **{key: array for key, array in arrays.items() if array is not None})
    return path


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_equals_ogbench_on_its_own_file(name, shared_data, monkeypatch):
    import ogbench as reference

    path = str(shared_data / "ogbench" / f"{NAMES[name]}-val.npz")
    # Both splits use the smaller file: the code that reads them is the same.
    monkeypatch.setattr(reference.utils, "load_dataset", _val_once(reference.utils.load_dataset))
    _, expected, _ = reference.make_env_and_datasets(name, dataset_path=path.replace("-val.npz", ".npz"))
    _, expected_compact, _ = reference.make_env_and_datasets(
        name, dataset_path=path.replace("-val.npz", ".npz"), compact_dataset=True
    )

    full = data.load(f"ogbench/{name}", shared_data, split="val")
    for key, array in expected.items():
        assert getattr(full, key).dtype == (bool if key == "terminals" else array.dtype)
        np.testing.assert_array_equal(getattr(full, key), array, err_msg=key)
    assert full.goal_conditioned == ("rewards" not in expected)

    compact = data.load(f"ogbench/{name}", shared_data, split="val", compact=True)
    np.testing.assert_array_equal(compact.valid, expected_compact["valids"])
    for key in expected_compact.keys() - {"valids", "terminals"}:
        np.testing.assert_array_equal(getattr(compact, key), expected_compact[key], err_msg=key)


def _val_once(load_dataset):
    def load_val(path, **kwargs):
        return load_dataset(path if path.endswith("-val.npz") else path.replace(".npz", "-val.npz"), **kwargs)

    return load_val


def test_compact_storage_holds_the_same_transitions(shared_data):
    name = "ogbench/cube-single-play-singletask-v0"
    full = data.load(name, shared_data, split="val")
    compact = data.load(name, shared_data, split="val", compact=True)
    rows = np.flatnonzero(compact.valid)
    for key in ("observations", "actions", "rewards", "masks"):
        np.testing.assert_array_equal(getattr(compact, key)[rows], getattr(full, key))
    np.testing.assert_array_equal(compact.observations[rows + 1], full.next_observations)
    assert compact.next_observations is None


def test_goal_conditioned_names_need_no_simulator(tmp_path, monkeypatch):
    write_file(tmp_path, "pointmaze-medium-navigate-v0")
    monkeypatch.setitem(sys.modules, "ogbench", None)
    dataset = data.load("ogbench/pointmaze-medium-navigate-v0", tmp_path)
    assert dataset.goal_conditioned
    assert not dataset.rewards.any()
    assert dataset.masks.all()
    np.testing.assert_array_equal(dataset.action_low, [-1, -1])
    np.testing.assert_array_equal(dataset.action_high, [1, 1])


@pytest.mark.parametrize("level", ["easy", "medium", "hard"])
def test_discrete_actions_and_pixels(level, tmp_path):
    rng = np.random.default_rng(0)
    write_file(
        tmp_path,
        f"powderworld-{level}-play-v0",
        observations=rng.integers(0, 256, (6, 4, 4, 6), np.uint8),
        actions=np.array([0, 5, 1, 2, 3, 4], np.int64),  # not all actions that exist
        qpos=None,
        qvel=None,
    )
    dataset = data.load(f"ogbench/powderworld-{level}-play-v0", tmp_path)
    assert dataset.observations.dtype == np.uint8
    assert dataset.actions.dtype == np.int32
    assert dataset.actions.shape == (4,)
    import ogbench

    environment = ogbench.make_env_and_datasets(f"powderworld-{level}-play-v0", env_only=True)
    assert dataset.num_actions == environment.action_space.n
    assert dataset.action_low.shape == (0,)


def test_files_of_a_large_set_are_joined(tmp_path):
    name = "cube-double-play-100m-v0"
    folder = tmp_path / "ogbench" / name
    with pytest.raises(
        InputError,
        match=f"{folder} has no cube-double-play-v0-000.npz or other file of split 'train': download",
    ):
        data.load(f"ogbench/{name}", tmp_path)
    for number, row in (("002", 2), ("000", 0), ("000-val", 7)):
        observations = np.full((6, 2), row, np.float32)
        written = write_file(tmp_path, f"cube-double-play-v0-{number}", observations=observations)
        folder.mkdir(exist_ok=True)
        written.rename(folder / written.name)
    dataset = data.load(f"ogbench/{name}", tmp_path, compact=True)
    np.testing.assert_array_equal(dataset.observations[:, 0], np.repeat([0, 2], 6))
    np.testing.assert_array_equal(dataset.terminals, [0, 0, 1, 0, 0, 1] * 2)
    np.testing.assert_array_equal(dataset.valid, ~dataset.terminals)
    assert dataset.name == f"ogbench/{name}"
    np.testing.assert_array_equal(ogbench.read_states(name, tmp_path)["observations"], dataset.observations)
    assert data.load(f"ogbench/{name}", tmp_path, split="val").observations[0, 0] == 7


def test_tasks_of_images_and_of_large_sets_are_those_of_states(tmp_path, monkeypatch):
    random = np.random.default_rng(0)
    images, places = random.integers(0, 256, (6, 4, 4, 3), np.uint8), random.normal(size=(6, 28))
    places[:, :3] *= 0.1
    states = {"qpos": places, "actions": np.zeros((6, 5), np.float32)}
    write_file(tmp_path, "visual-cube-double-play-v0", observations=images, **states)
    written = write_file(tmp_path, "cube-double-play-v0-000", **states)
    write_file(tmp_path, "cube-double-play-v0", **states)
    (tmp_path / "ogbench" / "cube-double-play-100m-v0").mkdir()
    written.rename(tmp_path / "ogbench" / "cube-double-play-100m-v0" / written.name)

    def refuse(*arguments, **settings):
        raise AssertionError("nothing is to be rendered")

    monkeypatch.setattr("mujoco.Renderer", refuse)
    rewards = [
        data.load(f"ogbench/{stem}-singletask-task2-v0", tmp_path).rewards
        for stem in ("cube-double-play", "visual-cube-double-play", "cube-double-play-100m")
    ]
    np.testing.assert_array_equal(rewards[1], rewards[0])
    np.testing.assert_array_equal(rewards[2], rewards[0])


def test_known_names_are_those_of_the_package():
    names = ogbench.known_names()
    assert len(names) == len(set(names))
    for name in (
        *NAMES,
        "antmaze-large-explore-v0",
        "visual-puzzle-4x5-noisy-v0",
        "powderworld-hard-play-v0",
        "cube-double-play-100m-v0",
        "humanoidmaze-giant-navigate-100m-singletask-task3-v0",
    ):
        assert name in names
    assert "cube-single-play-100m-v0" not in names
    assert environments.make("ogbench/cube-double-play-100m-v0").name == "cube-double-v0"
    assert "pointmaze-medium-v0" not in names


@pytest.mark.parametrize(
    "name", ["pointmaze-medium-navigat-v0", "pointmaze-medium-navigate-singletask-task9-v0"]
)
def test_unknown_name(name, tmp_path):
    write_file(tmp_path, "pointmaze-medium-navigate-v0")
    with pytest.raises(
        InputError, match=f"unknown OGBench dataset '{name}': did you mean 'pointmaze-medium-nav"
    ) as caught:
        data.load(f"ogbench/{name}", tmp_path)
    assert len(str(caught.value)) < 2000


def test_unknown_split(tmp_path):
    with pytest.raises(InputError, match="unknown split 'test'; known: train, val"):
        data.load("ogbench/pointmaze-medium-navigate-v0", tmp_path, split="test")


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        (
            "cube-double-noisy-singletask-v0",
            "python -m experiments.collect --dataset=ogbench/cube-double-noisy-v0 --data_dir={}",
        ),
        ("antmaze-giant-navigate-v0", "download http://127.0.0.1:9/antmaze-giant-navigate-v0.npz by hand"),
    ],
)
def test_out_of_reach(name, advice, tmp_path, monkeypatch):
    # No server listens on port 9, so the connection is refused at once.
    monkeypatch.setattr("ogbench.utils.DATASET_URL", "http://127.0.0.1:9")
    with pytest.raises(
        InputError, match=r"^.*\.npz does not exist, and http://127.0.0.1:9/.* cannot be downloaded"
    ) as caught:
        data.load(f"ogbench/{name}", tmp_path)
    assert advice.format(tmp_path) in str(caught.value)


def test_missing_file_is_downloaded(tmp_path, monkeypatch):
    published = write_file(tmp_path, "pointmaze-medium-navigate-v0")
    monkeypatch.setattr(
        download, "fetch", lambda url, path, check, otherwise: path.write_bytes(published.read_bytes())
    )
    dataset = data.load("ogbench/pointmaze-medium-navigate-v0", tmp_path, split="val")
    assert len(dataset.rewards) == 4


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"actions": None}, "key 'actions' is missing; the file has observations, qpos, qvel, terminals"),
        (
            {"observations": np.zeros((5, 2), np.float32)},
            "actions has 6 rows, but observations has 5; row 5 is",
        ),
        ({"observations": np.zeros((0, 2), np.float32)}, "observations has no rows: the dataset is empty"),
        (
            {"observations": np.full((6, 2), "a")},
            "observations is <U1 of shape .*, but rows of float32 are expected",
        ),
        (
            {"observations": np.zeros(6, np.float32)},
            r"observations is float32 of shape \(6,\), but float32 or",
        ),
        ({"actions": np.array(1.0)}, r"actions is float64 of shape \(\), but rows of float32 are expected"),
        (
            {"terminals": np.zeros(6, bool)},
            r"terminals has no episode end at its last row 5 \(no row is an end\)",
        ),
        (
            {"terminals": np.array([0, 1, 0, 0, 0, 0], bool)},
            r"terminals has no episode end at its last row 5 \(the last end is row 1\)",
        ),
        ({"terminals": np.array([0, 0, 2, 0, 0, 1])}, "terminals is 2 at row 2, but 0 or 1 is expected"),
        ({"terminals": np.ones(6, bool)}, "its 6 rows hold no transition"),
    ],
)
def test_wrong_contents(changes, message, tmp_path):
    path = write_file(tmp_path, "pointmaze-medium-navigate-v0", **changes)
    with pytest.raises(InputError, match=f"{path}: {message}") as caught:
        data.load("ogbench/pointmaze-medium-navigate-v0", tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("qpos", "message"),
    [
        (np.array([[0, 0], [0, np.nan]] + [[0, 0]] * 4), "qpos is nan at row 1, but must be finite"),
        (np.zeros((4, 2)), "qpos has 4 rows, but .* has 6"),
    ],
)
def test_states_that_determine_rewards_are_checked(qpos, message, tmp_path):
    path = write_file(tmp_path, "pointmaze-medium-navigate-v0", qpos=qpos)
    with pytest.raises(InputError, match=f"{path}: {message}"):
        data.load("ogbench/pointmaze-medium-navigate-singletask-v0", tmp_path)
    with pytest.raises(InputError, match=f"{path}: {message}"):
        ogbench.read_states("pointmaze-medium-navigate-v0", tmp_path)


def test_truncated_file(tmp_path):
    path = write_file(tmp_path, "pointmaze-medium-navigate-v0")
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(
        InputError, match=rf"{path} cannot be read \(.*\): it is truncated, corrupt or of another"
    ):
        data.load("ogbench/pointmaze-medium-navigate-v0", tmp_path)


def test_corrupt_file(tmp_path):
    path = write_file(tmp_path, "pointmaze-medium-navigate-v0")
    contents = bytearray(path.read_bytes())
    contents[120:160] = bytes(40)
    path.write_bytes(contents)
    with pytest.raises(InputError, match=f"{path} cannot be read"):
        data.load("ogbench/pointmaze-medium-navigate-v0", tmp_path)


def test_pickles_are_not_opened(tmp_path):
    path = write_file(tmp_path, "pointmaze-medium-navigate-v0", actions=np.array([{}] * 6, object))
    with pytest.raises(InputError, match=f"{path} cannot be read .*allow_pickle=False"):
        data.load("ogbench/pointmaze-medium-navigate-v0", tmp_path)
