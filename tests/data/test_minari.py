import os
import pathlib
import shutil

import gymnasium
import h5py
import minari
import numpy as np
import pytest
from gymnasium import spaces

from valuelab import data
from valuelab.errors import InputError


def create(folder, dataset_id, observation_space, action_space, lengths, ends, monkeypatch):
    """Writes a Minari dataset from Minari's buffers, and returns the buffers."""
    from minari.data_collector import EpisodeBuffer

    monkeypatch.setenv("MINARI_DATASETS_PATH", str(folder / "minari"))
    observation_space.seed(0)
    action_space.seed(0)
    buffers = []
    for number, (length, end) in enumerate(zip(lengths, ends, strict=True)):
        observations = [observation_space.sample() for _ in range(length + 1)]
        if isinstance(observation_space, spaces.Dict):
            observations = {key: np.stack([step[key] for step in observations]) for key in observation_space}
        else:
            observations = np.stack(observations)
        last = np.arange(length) == length - 1
        buffers.append(
            EpisodeBuffer(
                id=number,
                observations=observations,
                actions=np.stack([action_space.sample() for _ in range(length)]),
                rewards=np.arange(length, dtype=np.float64) + 10 * number,
                terminations=last if end == "termination" else np.zeros(length, bool),
                truncations=last if end == "truncation" else np.zeros(length, bool),
            )
        )
    with pytest.warns(UserWarning, match="env_spec is None|is set to None|is None"):
        minari.create_dataset_from_buffers(
            dataset_id=dataset_id,
            buffer=buffers,
            observation_space=observation_space,
            action_space=action_space,
        )
    monkeypatch.delenv("MINARI_DATASETS_PATH")
    return buffers


def test_terminations_are_distinguished_from_truncations(tmp_path, monkeypatch):
    box, actions = spaces.Box(-1, 1, (3,), np.float64), spaces.Box(-2, 2, (2,), np.float32)
    buffers = create(
        tmp_path, "family/made-up-v0", box, actions, [3, 2], ["termination", "truncation"], monkeypatch
    )

    dataset = data.load("minari/family/made-up-v0", tmp_path)
    np.testing.assert_array_equal(dataset.rewards, [0, 1, 2, 10, 11])
    np.testing.assert_array_equal(dataset.masks, [1, 1, 0, 1, 1])
    np.testing.assert_array_equal(dataset.terminals, [0, 0, 1, 0, 1])
    expected = np.concatenate([buffer.observations[1:] for buffer in buffers]).astype(np.float32)
    np.testing.assert_array_equal(dataset.next_observations, expected)
    np.testing.assert_array_equal(dataset.actions, np.concatenate([buffer.actions for buffer in buffers]))
    np.testing.assert_array_equal(dataset.action_high, [2, 2])
    assert dataset.observations.dtype == dataset.rewards.dtype == np.float32

    compact = data.load("minari/family/made-up-v0", tmp_path, compact=True)
    np.testing.assert_array_equal(compact.valid, [1, 1, 1, 0, 1, 1, 0])
    np.testing.assert_array_equal(compact.observations[compact.valid], dataset.observations)


def test_goal_observations_are_joined_as_gymnasium_joins_them(tmp_path, monkeypatch):
    boxes = {"observation": 3, "achieved_goal": 2, "desired_goal": 2}
    space = spaces.Dict({key: spaces.Box(-1, 1, (size,), np.float64) for key, size in boxes.items()})
    actions = spaces.Discrete(4)
    (buffer,) = create(tmp_path, "goals-v0", space, actions, [3], ["truncation"], monkeypatch)

    dataset = data.load("minari/goals-v0", tmp_path)
    for row in range(3):
        step = {key: array[row] for key, array in buffer.observations.items()}
        expected = gymnasium.spaces.flatten(space, step).astype(np.float32)
        np.testing.assert_array_equal(dataset.observations[row], expected)
    assert dataset.num_actions == 4
    assert dataset.actions.dtype == np.int32
    np.testing.assert_array_equal(dataset.actions, buffer.actions)


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (spaces.Box(-np.inf, np.inf, (1,)), "the action space .* is unbounded"),
        (spaces.MultiBinary(2), r"the action space is MultiBinary\(2\), but must be"),
    ],
)
def test_action_spaces_that_cannot_be_used(space, message, tmp_path, monkeypatch):
    create(tmp_path, "odd-v0", spaces.Box(-1, 1, (3,)), space, [2], ["truncation"], monkeypatch)
    with pytest.raises(InputError, match=message):
        data.load("minari/odd-v0", tmp_path)


def test_broken_folder(tmp_path, monkeypatch):
    box = spaces.Box(-1, 1, (1,))
    create(tmp_path, "broken-v0", box, box, [2], ["truncation"], monkeypatch)
    (file,) = (tmp_path / "minari").glob("broken-v0/data/*.hdf5")
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(InputError, match=r"minari/broken-v0/data cannot be read \(.*truncated"):
        data.load("minari/broken-v0", tmp_path)


@pytest.mark.parametrize(
    ("key", "values", "message"),
    [
        ("rewards", np.zeros(1), "rewards has 1 rows, but observations after the first has 2"),
        ("observations", np.zeros((3, 2)), r"observations has shape \(3, 2\), but metadata.json states"),
        ("rewards", np.array([0, 1e300]), r"rewards is 1e\+300 at row 1, but a number that float32 holds"),
        ("terminations", np.array([0, 2]), "terminations is 2 at row 1, but 0 or 1 is expected"),
    ],
)
def test_wrong_contents(key, values, message, tmp_path, monkeypatch):
    box = spaces.Box(-1, 1, (1,))
    create(tmp_path, "wrong-v0", box, box, [2], ["truncation"], monkeypatch)
    path = tmp_path / "minari" / "wrong-v0" / "data"
    with h5py.File(path / "main_data.hdf5", "a") as file:
        del file[f"episode_0/{key}"]
        file[f"episode_0/{key}"] = values
    with pytest.raises(InputError, match=f"^{path}: episode 0: {message}"):
        data.load("minari/wrong-v0", tmp_path)


def test_missing_dataset(tmp_path, monkeypatch):
    box = spaces.Box(-1, 1, (1,))
    create(tmp_path, "here-v0", box, box, [2], ["truncation"], monkeypatch)

    def refuse(dataset_id):
        raise ConnectionError("no route\nto host")

    monkeypatch.setattr(minari, "download_dataset", refuse)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(
        InputError, match=r"there-v0 .* cannot be downloaded \(.*Connection refused.*\): check"
    ):
        data.load("minari/there-v0", tmp_path)
    monkeypatch.setenv("MINARI_REMOTE", "gcp://elsewhere")
    with pytest.raises(
        InputError,
        match=r"Minari dataset .*/there-v0 does not exist \(local datasets: here-v0\) .*no route to host",
    ):
        data.load("minari/there-v0", tmp_path)
    with pytest.raises(InputError, match="unknown split 'val'"):
        data.load("minari/here-v0", tmp_path, split="val")


def test_download_goes_to_the_data_folder(tmp_path, monkeypatch):
    box = spaces.Box(-1, 1, (1,))

    def download(dataset_id):
        folder = pathlib.Path(os.environ["MINARI_DATASETS_PATH"])
        assert folder.parent == root  # on the same disk, but not at the final path
        with monkeypatch.context() as context:
            create(folder, dataset_id, box, box, [2], ["truncation"], context)
        (folder / "minari" / dataset_id).replace(folder / dataset_id)
        if dataset_id == "broken-v0":
            raise OSError("no room")
        if dataset_id == "raced-v0":  # another process was faster
            shutil.copytree(folder / dataset_id, root / dataset_id)

    root = tmp_path / "minari"
    monkeypatch.setattr(minari, "download_dataset", download)
    monkeypatch.setenv("MINARI_REMOTE", "gcp://elsewhere")
    for name in ("fetched-v0", "raced-v0"):
        assert len(data.load(f"minari/{name}", tmp_path).rewards) == 2
    with pytest.raises(InputError, match=r"cannot be downloaded \(no room\)"):
        data.load("minari/broken-v0", tmp_path)
    assert sorted(path.name for path in root.iterdir()) == ["fetched-v0", "raced-v0"]


def test_numbers_out_of_other_files_are_refused(tmp_path, monkeypatch):
    box = spaces.Box(-1, 1, (1,))
    create(tmp_path, "led-v0", box, box, [2], ["truncation"], monkeypatch)
    path = tmp_path / "minari" / "led-v0" / "data" / "main_data.hdf5"
    (tmp_path / "secret").write_bytes(bytes(24))
    with h5py.File(path, "a") as file:
        del file["episode_0/observations"]
        there = [(tmp_path / "secret", 0, 24)]
        file["episode_0"].create_dataset("observations", (3, 1), "f8", external=there)
    with pytest.raises(InputError, match="^" + f"{path}: episode_0/observations has its values in another"):
        data.load("minari/led-v0", tmp_path)
