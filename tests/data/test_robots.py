"""Datasets of robots: robomimic's HDF5 files, and LeRobot's folders of parquet files and videos."""

import dataclasses
import fractions
import io
import json

import av
import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from valuelab import data
from valuelab.data import images
from valuelab.errors import InputError
from valuelab.observation_parts import unpack
from valuelab.runs import flags, own_rewards

LENGTHS = (4, 6, 5)
FPS = 10
SIZE = 32
CAMERA = "observation.images.top"


def grays(episode):
    """The gray level of each image of an episode; all its pixels have it."""
    return 20 * episode + 10 * np.arange(LENGTHS[episode]) + 40


def pictures(episode, size=SIZE):
    levels = grays(episode).astype(np.uint8)
    return np.broadcast_to(levels[:, None, None, None], (len(levels), size, size, 3))


# robomimic.


def write_demonstrations(path, image=True, following=True, masks=None, **changes):
    with h5py.File(path, "w") as file:
        for number, length in enumerate(LENGTHS):
            demo = file.create_group(
                f"data/demo_{number * 5}"
            )  # demo_5 and demo_10, which text sorts otherwise
            places = number + np.arange(length + 1) / 10
            observations = {"joints": np.stack([places, -places], axis=1), "gripper": places}
            if image:
                observations["camera"] = np.concatenate([pictures(number), pictures(number)[-1:]])
            for key, rows in observations.items():
                demo[f"obs/{key}"] = rows[:-1]
                if following:
                    demo[f"next_obs/{key}"] = rows[1:]
            demo["actions"] = np.full((length, 2), number / 4)
            demo["rewards"] = np.arange(length, dtype=float)
            demo["dones"] = np.arange(length) >= length - 1 - (number == 1)
        for key, value in changes.items():
            del file[f"data/demo_0/{key}"]
            if value is not None:
                file[f"data/demo_0/{key}"] = value
        for key, numbers in (masks or {}).items():
            file[f"mask/{key}"] = np.array([f"demo_{5 * number}".encode() for number in numbers])
    return str(path)


def test_demonstrations_without_images_become_vectors(tmp_path):
    dataset = data.load(write_demonstrations(tmp_path / "low.hdf5", image=False))
    assert len(dataset.rewards) == sum(LENGTHS)
    np.testing.assert_allclose(dataset.observations[4], [1.0, 1.0, -1.0])  # gripper, joints
    ends = np.cumsum(LENGTHS) - 1
    np.testing.assert_array_equal(np.flatnonzero(dataset.terminals), ends)
    np.testing.assert_array_equal(np.flatnonzero(dataset.masks == 0), [3, 8, 9, 14])  # demo_5 is done early
    np.testing.assert_allclose(dataset.next_observations[ends[1]], [1.6, 1.6, -1.6], rtol=1e-6)
    assert data.goal_conditioned("own.hdf5") is False


def test_demonstrations_with_images_keep_their_parts(tmp_path):
    path = write_demonstrations(tmp_path / "image.hdf5")
    dataset = data.load(path, compact=True, image_size=(8,))
    assert [part.name for part in dataset.observation_parts] == ["camera", "gripper", "joints"]
    parts = unpack(dataset.observations, dataset.observation_parts)
    assert parts["camera"].shape == (sum(LENGTHS) + 3, 8, 8, 3)
    assert parts["camera"][:4, 0, 0, 0].tolist() == grays(0).tolist()
    alone = data.load(path, observation_keys=["camera"])
    assert (alone.observations.shape, alone.observation_parts) == ((15, SIZE, SIZE, 3), ())
    chosen = data.load(path, observation_keys=["joints,gripper"])  # as a flag gives them
    np.testing.assert_allclose(chosen.observations[4], [1.0, -1.0, 1.0])


def test_without_next_observations_a_step_that_is_not_done_is_dropped(tmp_path):
    path = write_demonstrations(tmp_path / "own.h5", image=False, following=False, dones=np.zeros(4))
    dataset = data.load(path)
    assert len(dataset.rewards) == sum(LENGTHS) - 1


def test_filter_keys_are_splits(tmp_path):
    path = write_demonstrations(tmp_path / "own.hdf5", image=False, masks={"train": [2, 0], "valid": [1]})
    assert np.flatnonzero(data.load(path).terminals).tolist() == [3, 8]
    assert len(data.load(path, split="val").rewards) == LENGTHS[1]
    with pytest.raises(InputError, match="unknown split 'val'"):
        data.load(write_demonstrations(tmp_path / "other.hdf5"), split="val")


@pytest.mark.parametrize(
    ("changes", "settings", "message"),
    [
        ({}, {"observation_keys": ["joint"]}, "unknown observation key 'joint': did you mean 'joints'"),
        ({}, {"image_size": (64,)}, r"obs/camera: data.image_size is \(64,\), but images are 32 x 32"),
        ({"obs": None}, {}, "data/demo_0 has no obs: extract observations with robomimic's"),
        ({"actions": np.full((4, 2), 2.0)}, {}, "episode 0: actions is 2 at row 0, outside the bounds"),
        (
            {"actions": np.zeros((2, 2))},
            {},
            "data/demo_0/obs/camera has 4 rows, but data/demo_0/actions has 2",
        ),
    ],
)
def test_demonstrations_at_fault_are_named(tmp_path, changes, settings, message):
    path = write_demonstrations(tmp_path / "own.hdf5", **changes)
    with pytest.raises(InputError, match=message) as caught:
        data.load(path, **settings)
    assert path in str(caught.value) or "observation key" in message


def test_a_reward_of_the_user_gets_the_parts_of_observations(tmp_path):
    path = write_demonstrations(tmp_path / "own.hdf5")
    config = dataclasses.replace(flags.DEFAULTS, dataset=path, reward="mine.py:reach")

    def reach(arrays):
        assert arrays["observations"]["camera"].shape == (15, SIZE, SIZE, 3)
        return arrays["next_observations"]["joints"][:, 0] - arrays["actions"][:, 0]

    for compact in (False, True):
        dataset = own_rewards.labelled(config, data.load(path, compact=compact), reach)
        rewards = dataset.rewards if dataset.valid is None else dataset.rewards[dataset.valid]
        np.testing.assert_allclose(rewards[3:6], [0.4, 1.1 - 0.25, 1.2 - 0.25], rtol=1e-6)


def test_other_sources_have_no_observation_keys(tmp_path):
    with pytest.raises(InputError, match=r"data.observation_keys is for datasets of robomimic and LeRobot"):
        data.load("d4rl/hopper-medium-v2", tmp_path, observation_keys=["a"])


# LeRobot.


def write_video(path, frames):
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=FPS, options={"g": "2", "qscale": "1"})
        stream.width = stream.height = SIZE
        stream.pix_fmt, stream.time_base = "yuv420p", fractions.Fraction(1, FPS)
        for image in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(image))))
        container.mux(stream.encode())


def encoded(image):
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="image2pipe") as container:
        stream = container.add_stream("png", rate=1)
        stream.width = stream.height = SIZE
        stream.pix_fmt = "rgb24"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(image))))
        container.mux(stream.encode())
    return {"bytes": buffer.getvalue(), "path": None}


def rows(number, kind, rewards):
    length = LENGTHS[number]
    states = (number + np.arange(length)[:, None] / 10 * [1, -1]).astype(np.float32)
    columns = {
        "observation.state": pa.FixedSizeListArray.from_arrays(states.reshape(-1), 2),
        "action": pa.array((30 * states).tolist(), pa.list_(pa.float32())),  # degrees
        "episode_index": pa.array([number] * length),
        "frame_index": pa.array(range(length)),
        "next.done": pa.array([step == length - 1 and number < 2 for step in range(length)]),
    }
    if rewards:
        columns["next.reward"] = pa.array(np.arange(length, dtype=np.float32))
    if kind == "image":
        columns[CAMERA] = pa.array([encoded(image) for image in pictures(number)])
    return pa.table(columns)


def write_lerobot(folder, version, kind="video", rewards=True, **changes):
    """Three episodes in the layout of a version; in version 3 the first two share their files."""
    features = {
        "observation.state": {"dtype": "float32", "shape": [2], "names": ["x", "y"]},
        CAMERA: {"dtype": kind, "shape": [SIZE, SIZE, 3], "names": ["height", "width", "channels"]},
        "action": {"dtype": "float32", "shape": [2], "names": None},
        "next.done": {"dtype": "bool", "shape": [1], "names": None},
        "task": {"dtype": "string", "shape": [1], "names": None},
    }
    if rewards:
        features["next.reward"] = {"dtype": "float32", "shape": [1], "names": None}
    if kind == "none":
        del features[CAMERA]
    info = {
        "codebase_version": version,
        "total_episodes": len(LENGTHS),
        "total_tasks": 1,
        "chunks_size": 2,
        "fps": FPS,
        "splits": {"train": "0:2", "val": "2:3"},
        "features": features,
    }
    tables = [rows(number, kind, rewards) for number in range(len(LENGTHS))]
    if version.startswith("v2"):
        info |= {
            "data_path": "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
            "video_path": "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4",
        }
        for number, table in enumerate(tables):
            path = folder / f"data/chunk-{number // 2:03d}/episode_{number:06d}.parquet"
            path.parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(table, path)
            if kind == "video":
                place = folder / f"videos/chunk-{number // 2:03d}/{CAMERA}/episode_{number:06d}.mp4"
                write_video(place, pictures(number))
    else:
        info |= {
            "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
            "video_path": "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4",
        }
        files, episodes = [[0, 1], [2]], []
        for file, numbers in enumerate(files):
            path = folder / f"data/chunk-000/file-{file:03d}.parquet"
            path.parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(pa.concat_tables([tables[number] for number in numbers]), path)
            start = 0.0
            for number in numbers:
                place = {"chunk_index": 0, "file_index": file, "from_timestamp": start}
                episodes.append(
                    {"episode_index": number}
                    | {f"videos/{CAMERA}/{key}": value for key, value in place.items()}
                )
                start += LENGTHS[number] / FPS
            if kind == "video":
                frames = np.concatenate([pictures(number) for number in numbers])
                write_video(folder / f"videos/{CAMERA}/chunk-000/file-{file:03d}.mp4", frames)
        path = folder / "meta/episodes/chunk-000/file-000.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_pylist(episodes), path)
    path = folder / "meta/info.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(info | changes))
    return str(folder)


@pytest.mark.parametrize("version", ["v2.1", "v3.0"])
@pytest.mark.parametrize("kind", ["video", "image"])
def test_both_versions_hold_the_same_episodes(tmp_path, version, kind, capsys):
    name = write_lerobot(tmp_path / "robot", version, kind)
    dataset = data.load(name, image_size=(16, 8), compact=True)
    assert f"{name}: 10 rows of images from 1 cameras take" in capsys.readouterr().out
    assert [part.name for part in dataset.observation_parts] == [CAMERA, "observation.state"]
    parts = unpack(dataset.observations, dataset.observation_parts)
    # Both episodes are done, so their last step is kept and its own observation takes the successor's place.
    assert parts[CAMERA].shape == (sum(LENGTHS[:2]) + 2, 16, 8, 3)
    levels = np.concatenate([[*grays(number), grays(number)[-1]] for number in range(2)])
    assert np.abs(parts[CAMERA].astype(int) - levels[:, None, None, None]).max() <= 4
    np.testing.assert_allclose(parts["observation.state"][5:7], [[1, 1], [1.1, 0.9]], rtol=1e-6)
    assert np.flatnonzero((dataset.masks == 0) & dataset.valid).tolist() == [3, 10]
    np.testing.assert_allclose(dataset.action_low, [0, -9], atol=1e-5)  # of all episodes, in degrees
    np.testing.assert_allclose(dataset.action_high, [72, 60], rtol=1e-6)
    assert dataset.rewards[dataset.valid].tolist() == [*range(4), *range(6)]


def test_a_single_row_that_was_cut_is_left_out(tmp_path, caplog):
    name = write_lerobot(tmp_path / "robot", "v2.1", "none", splits={"train": "0:3"})
    path = tmp_path / "robot/data/chunk-001/episode_000002.parquet"
    pq.write_table(pq.read_table(path).slice(0, 1), path)
    dataset = data.load(name)
    assert dataset.observations.shape == (sum(LENGTHS[:2]), 2)
    assert "1 episodes have a single row and were cut" in caplog.text


def test_states_alone_and_the_other_split(tmp_path, caplog):
    folder = tmp_path / "lerobot" / "me" / "robot"
    write_lerobot(folder, "v3.0", rewards=False)
    dataset = data.load("lerobot/me/robot", tmp_path, split="val", observation_keys=["observation.state"])
    assert (dataset.observations.shape, dataset.observation_parts) == ((LENGTHS[2] - 1, 2), ())  # it was cut
    assert np.all(dataset.rewards == 0)
    assert "has no next.reward: rewards are set to 0" in caplog.text
    with pytest.raises(
        InputError, match=r"lerobot/me/other has no meta/info.json: .* hf download me/other --repo"
    ):
        data.load("lerobot/me/other", tmp_path)
    with pytest.raises(InputError, match=r"lerobot/robot has no organization: write lerobot/ORG/NAME"):
        data.load("lerobot/robot", tmp_path)


@pytest.mark.parametrize(
    ("changes", "settings", "message"),
    [
        ({"codebase_version": "v1.6"}, {}, "codebase_version is 'v1.6', but versions 2.0 to 3.0"),
        ({}, {"split": "test"}, "unknown split 'test'"),
        ({}, {"observation_keys": ["observation.image"]}, "unknown observation key 'observation.image'"),
        ({"video_path": "../{episode_index}.mp4"}, {}, r"names the file '../0.mp4', which is outside"),
        ({"features": {"observation.state": {"dtype": "float32", "shape": [2]}}}, {}, "'action' is missing"),
    ],
)
def test_folders_at_fault_are_one_line(tmp_path, changes, settings, message):
    name = write_lerobot(tmp_path / "robot", "v2.1", **changes)
    with pytest.raises(InputError, match=message) as caught:
        data.load(name, **settings)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("version", "fps"), [("v2.1", 20), ("v2.1", 5), ("v3.0", 5), ("v3.0", 3)])
def test_images_at_other_times_than_their_rows_are_refused(tmp_path, version, fps):
    name = write_lerobot(tmp_path / "robot", version, fps=fps)
    with pytest.raises(
        InputError, match=r"mp4: a frame is at .* by the \d+ frames a second of meta/info.json"
    ):
        data.load(name)


def test_episodes_that_are_missing_or_there_twice_are_said(tmp_path, caplog):
    name = write_lerobot(tmp_path / "robot", "v3.0", "none", total_episodes=4)
    data.load(name)
    assert "has 3 episodes, but its meta/info.json states 4: the others are missing" in caplog.text
    first = tmp_path / "robot/data/chunk-000/file-000.parquet"
    first.with_name("file-002.parquet").write_bytes(first.read_bytes())
    with pytest.raises(InputError, match=r"file-002.parquet: episode 0 is there a second time: download"):
        data.load(name)


def test_a_short_or_missing_video_is_named(tmp_path):
    name = write_lerobot(tmp_path / "robot", "v2.1")
    video = tmp_path / f"robot/videos/chunk-000/{CAMERA}/episode_000001.mp4"
    write_video(video, pictures(0))
    with pytest.raises(InputError, match=r"episode 1: observation.images.top has 4 images, but .* 6 rows"):
        data.load(name)
    video.unlink()
    with pytest.raises(InputError, match=r"episode_000001.mp4 cannot be read"):
        data.load(name)


# Images.


def test_pixels_are_averages_of_areas():
    image = np.array([[0, 10, 20], [30, 40, 50], [60, 70, 80]], np.uint8)[None, :, :, None]
    assert images.resized(image, (1, 1)).reshape(-1).tolist() == [40]
    # The left half of a row is its first pixel and half of its second: (0 + 5) / 1.5 = 3.3.
    assert images.resized(image, (3, 2))[0, 0, :, 0].tolist() == [3, 17]
    assert images.resized(image, (3, 3)) is image
    even = np.arange(64, dtype=np.uint8).reshape(1, 8, 8, 1)
    blocks = even.reshape(4, 2, 4, 2).mean((1, 3))
    np.testing.assert_array_equal(images.resized(even, (4, 4))[0, :, :, 0], np.rint(blocks))
