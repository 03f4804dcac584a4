import h5py
import numpy as np
import pytest

from valuelab import data
from valuelab.data import download, normalization
from valuelab.data.sources import d4rl
from valuelab.errors import InputError


def write_file(path, rows, terminated=(), timed_out=None, next_observations=None, **changes):
    """A file whose observation, action and reward at row i are (i, -i), i / 100 and i.

    Without stored successors, each terminal row is followed by a start 100 away.
    """
    numbers = np.arange(rows)
    starts = 100 * np.searchsorted(terminated, numbers) * (next_observations is None)
    arrays = {
        "observations": np.stack([numbers + starts, -numbers], axis=1).astype(np.float64),
        "actions": (numbers / 100).astype(np.float32)[:, None],
        "rewards": numbers.astype(np.float32),
        "terminals": np.isin(numbers, terminated),
        "infos/qpos": np.zeros((rows, 3)),
        "infos/goal": np.zeros((rows, 2)),
        "metadata/algorithm": np.bytes_("SAC"),
    }
    if timed_out is not None:
        arrays["timeouts"] = np.isin(numbers, timed_out)
    if next_observations is not None:
        arrays["next_observations"] = np.asarray(next_observations, np.float32)
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for key, array in {**arrays, **changes}.items():
            if array is not None:
                file[key] = array
    return path


def rows_of(dataset):
    """The fields that identify a transition: reward, mask, successor, and whether its episode ends."""
    return list(
        zip(
            dataset.rewards.tolist(),
            dataset.masks.tolist(),
            dataset.next_observations[:, 0].tolist(),
            dataset.terminals.tolist(),
            strict=True,
        )
    )


def test_timeouts_without_stored_successors(tmp_path):
    # Row 2 is terminal: it is kept with mask 0, and its own observation is its successor. Row 5 times out
    # and row 7 is the last of the file: they have no successor, are dropped and end their episodes.
    path = write_file(tmp_path / "antmaze.hdf5", 8, terminated=[2], timed_out=[5])
    dataset = data.load(str(path))
    assert rows_of(dataset) == [
        (0, 1, 1, False),
        (1, 1, 2, False),
        (2, 0, 2, True),
        (3, 1, 104, False),
        (4, 1, 105, True),
        (6, 1, 107, True),
    ]
    assert dataset.name == str(path)
    assert dataset.observations.dtype == np.float32
    np.testing.assert_array_equal(dataset.action_low, [-1])


def test_stored_successors(tmp_path):
    # As in v2 locomotion: successors at terminals and timeouts are stored, so nothing is dropped.
    following = np.arange(1, 9) + np.where(np.isin(np.arange(8), [2, 5, 7]), 0.5, 0.0)
    path = write_file(
        tmp_path / "d4rl" / "hopper-medium-v2.hdf5",
        8,
        terminated=[2],
        timed_out=[5],
        next_observations=np.stack([following, -following], axis=1),
    )
    dataset = data.load("d4rl/hopper-medium-v2", tmp_path)
    assert path.exists()
    assert dataset.name == "d4rl/hopper-medium-v2"
    assert rows_of(dataset) == [
        (0, 1, 1, False),
        (1, 1, 2, False),
        (2, 0, 3.5, True),
        (3, 1, 4, False),
        (4, 1, 5, False),
        (5, 1, 6.5, True),
        (6, 1, 7, False),
        (7, 1, 8.5, True),
    ]


def test_an_episode_ends_where_observations_jump(tmp_path):
    following = np.array([1, 2, 9, 4, 5], np.float32)  # row 2 leads to 9, but row 3 starts at 3
    path = write_file(
        tmp_path / "own.hdf5", 5, timed_out=[4], next_observations=np.stack([following, -following], axis=1)
    )
    dataset = data.load(str(path))
    np.testing.assert_array_equal(dataset.terminals, [0, 0, 1, 0, 1])
    np.testing.assert_array_equal(dataset.next_observations[:, 0], following)


def test_episodes_without_timeouts_are_cut_at_the_step_limit(tmp_path):
    # pen lasts 100 steps: rows 0-99 time out, 100-149 end in a terminal, 150-249 time out again.
    write_file(tmp_path / "d4rl" / "pen-human-v0.hdf5", 260, terminated=[149], actions=np.zeros((260, 1)))
    compact = data.load("d4rl/pen-human-v0", tmp_path, compact=True)
    starts = np.concatenate([[0], np.flatnonzero(compact.terminals)[:-1] + 1])
    np.testing.assert_array_equal(compact.observations[starts, 0], [0, 100, 250, 350])
    full = data.load("d4rl/pen-human-v0", tmp_path)
    assert len(full.rewards) == 99 + 50 + 99 + 9


def walks(random, starts, length=50):
    """Smooth paths [E, length + 1, 2] from each start, 0.1 per step, straight or curved."""
    turns = np.cumsum(random.normal(0, 0.3, (len(starts), length)), axis=1)
    steps = 0.1 * np.stack([np.cos(turns), np.sin(turns)], axis=-1)
    return np.concatenate([starts[:, None], starts[:, None] + np.cumsum(steps, axis=1)], axis=1)


@pytest.mark.parametrize("stored", ["none", "true", "next row's"])
def test_trajectories_go_on_after_the_terminals_of_antmaze(stored, tmp_path):
    # Rows 20 to 24 and 40 of each path are near its goal. The last row of each path times out.
    random = np.random.default_rng(0)
    paths = walks(random, random.uniform(0, 20, (6, 2)))
    observations, following = (rows.reshape(-1, 2) for rows in (paths[:, :-1], paths[:, 1:]))
    place = np.arange(300) % 50
    near = np.isin(place, [20, 21, 22, 23, 24, 40])
    given = {
        "none": None,
        "true": following,
        "next row's": np.roll(observations, -1, axis=0),
    }[stored]
    path = write_file(
        tmp_path / "own.hdf5",
        300,
        next_observations=given,
        observations=observations,
        terminals=near,
        timeouts=place == 49,
        actions=np.zeros((300, 1)),
    )
    dataset = data.load(str(path))
    assert dataset.terminals.sum() == 6
    kept = np.ones(300, bool) if stored != "none" else place < 49
    np.testing.assert_array_equal(dataset.masks, 1 - near[kept])
    inside = place[kept] < 49
    np.testing.assert_allclose(dataset.next_observations[inside], following[kept][inside], rtol=1e-6)


@pytest.mark.parametrize("timed_out", [None, ()])
def test_episodes_end_at_the_terminals_of_locomotion(timed_out, tmp_path):
    # All episodes start near one state, as walkers do after a fall.
    random = np.random.default_rng(0)
    paths = walks(random, random.uniform(0, 0.1, (6, 2)))
    last = np.arange(300) % 50 == 49
    path = write_file(
        tmp_path / "own.hdf5",
        300,
        timed_out=timed_out,
        observations=paths[:, :-1].reshape(-1, 2),
        actions=np.zeros((300, 1)),
        terminals=last,
    )
    dataset = data.load(str(path))
    np.testing.assert_array_equal(dataset.terminals, last)
    np.testing.assert_array_equal(dataset.masks, 1 - last)
    np.testing.assert_array_equal(dataset.next_observations[last], dataset.observations[last])


def test_a_file_without_ends_is_one_episode(tmp_path, caplog):
    path = write_file(tmp_path / "own.h5", 8, timed_out=())  # names that end in .h5 are read too
    dataset = data.load(str(path))
    np.testing.assert_array_equal(dataset.terminals, np.arange(7) == 6)
    assert (
        f"{path}: neither terminals nor timeouts marks an end, so its 8 rows are read as one" in caplog.text
    )
    caplog.clear()
    data.load(str(write_file(path, 8, timed_out=[7])))
    assert not caplog.text


@pytest.mark.parametrize("name", ["maze2d-umaze-v1", "kitchen-partial-v0"])
def test_layouts_of_maze2d_and_kitchen(name, tmp_path):
    # Maze2D times out where a goal is reached, and never terminates. Kitchen terminates after each
    # demonstration; infos holds its number.
    maze = name.startswith("maze2d")
    ends = {"timed_out": [3, 9]} if maze else {"terminated": [3, 9]}
    infos = {} if maze else {"infos/qpos": None, "infos/goal": None, "infos": np.repeat([0, 1], [4, 6])}
    write_file(tmp_path / "d4rl" / f"{name}.hdf5", 10, **ends, **infos)
    dataset = data.load(f"d4rl/{name}", tmp_path)
    np.testing.assert_array_equal(dataset.rewards[dataset.terminals], [2, 8] if maze else [3, 9])
    assert (dataset.masks == 0).sum() == (0 if maze else 2)


@pytest.mark.parametrize("stored", [False, True])
def test_images_stay_images(stored, tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (9, 4, 4, 3), np.uint8)
    path = write_file(
        tmp_path / "own.hdf5", 8, timed_out=[3, 7], observations=images[:8], terminals=np.zeros(8, bool)
    )
    if stored:
        with h5py.File(path, "a") as file:
            file["next_observations"] = images[1:]
    dataset = data.load(str(path))
    assert dataset.observations.dtype == dataset.next_observations.dtype == np.uint8
    np.testing.assert_array_equal(dataset.next_observations[:3], images[1:4])
    np.testing.assert_array_equal(dataset.next_observations[-1], images[8 if stored else 7])


def test_compact_storage_holds_the_same_transitions(tmp_path):
    path = write_file(tmp_path / "own.hdf5", 8, terminated=[2], timed_out=[5])
    full, compact = data.load(str(path)), data.load(str(path), compact=True)
    rows = np.flatnonzero(compact.valid)
    for key in ("observations", "actions", "rewards", "masks"):
        np.testing.assert_array_equal(getattr(compact, key)[rows], getattr(full, key))
    np.testing.assert_array_equal(compact.observations[rows + 1], full.next_observations)


def test_columns_of_early_files(tmp_path):
    path = write_file(
        tmp_path / "own.hdf5",
        4,
        rewards=np.ones((4, 1)),
        terminals=np.array([[0], [1], [0], [0]]),
        timeouts=np.array([[0], [0], [0], [1]]),
    )
    dataset = data.load(str(path))
    np.testing.assert_array_equal(dataset.masks, [1, 0, 1])


def test_locomotion_rewards_span_1000(tmp_path):
    # Returns: 0 + 1 + 2 = 3 and 3 + 4 = 7 (row 5 is dropped), so the scale is 1000 / (7 - 3) = 250.
    path = write_file(tmp_path / "own.hdf5", 6, terminated=[2], timed_out=[5])
    dataset = data.load(str(path))
    np.testing.assert_allclose(normalization.returns(dataset), [3, 7])
    assert normalization.fit(dataset, observations=False, rewards="d4rl_locomotion").reward_scale == 250


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"rewards": None},
            "key 'rewards' is missing; the file has actions, infos, metadata, observations, terminals, time",
        ),
        ({"rewards": np.zeros(3)}, "rewards has 3 rows, but observations has 4"),
        ({"timeouts": np.zeros(3)}, "timeouts has 3 rows, but observations has 4"),
        ({"next_observations": np.zeros((3, 2))}, "next_observations has 3 rows, but observations has 4"),
        (
            {"next_observations": np.array([[0, 0], [0, 0], [np.nan, 0], [0, 0]])},
            "next_observations is nan at row 2, but must be finite",
        ),
        ({"rewards": np.array([0, np.inf, 0, 0])}, "rewards is inf at row 1, but must be finite"),
        (
            {"actions": np.array([[0.0], [0.5], [1.5], [0.0]])},
            "actions is 1.5 at row 2, outside the bounds -1 to 1; clip them with --data.clip_actions",
        ),
        (
            {"observations": None, "observations/state": np.zeros((4, 2))},
            "observations is a Group, but rows of",
        ),
        ({"observations": np.zeros((0, 2))}, "observations has no rows: the dataset is empty"),
        ({"terminals": np.array([0, 2, 0, 0])}, "terminals is 2 at row 1, but 0 or 1 is expected"),
        ({"timeouts": np.array([0, 0, 0.5, 0])}, "timeouts is 0.5 at row 2, but 0 or 1 is expected"),
        ({"terminals": np.zeros((4, 2))}, r"terminals has shape \(4, 2\), but \[rows\] is expected"),
        (
            {"next_observations": np.zeros((4, 1))},
            r"next_observations is float32 of shape \(4, 1\), but observations is float32 of shape \(4, 2\)",
        ),
    ],
)
def test_wrong_contents(changes, message, tmp_path):
    path = write_file(tmp_path / "own.hdf5", 4, timed_out=[3], **changes)
    with pytest.raises(InputError, match=f"{path}: {message}") as caught:
        data.load(str(path))
    assert "\n" not in str(caught.value)


def test_a_file_without_a_transition(tmp_path):
    path = write_file(tmp_path / "own.hdf5", 1)
    with pytest.raises(InputError, match=f"{path}: its 1 rows hold no transition"):
        data.load(str(path))


def test_truncated_file(tmp_path):
    path = write_file(tmp_path / "own.hdf5", 4, timed_out=[3])
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(InputError, match=rf"{path} cannot be read \(.*truncated file.*; repair it, or"):
        data.load(str(path))


def test_names(tmp_path, monkeypatch):
    with pytest.raises(
        InputError, match="unknown D4RL dataset 'hoper-medium-v2': did you mean 'hopper-medium-v2'"
    ):
        data.load("d4rl/hoper-medium-v2", tmp_path)
    with pytest.raises(InputError, match=r"nowhere/own.hdf5 does not exist: give the path"):
        data.load("nowhere/own.hdf5")
    with pytest.raises(InputError, match="unknown split 'val'; known: train"):
        data.load("d4rl/hopper-medium-v2", tmp_path, split="val")
    monkeypatch.setattr(d4rl, "URL", "http://127.0.0.1:9")  # no server listens there
    with pytest.raises(
        InputError, match=r"cannot be downloaded .*: download http://.*/hopper_medium-v2.hdf5 by hand"
    ):
        data.load("d4rl/hopper-medium-v2", tmp_path)


def test_published_files():
    # Names and files as in D4RL's infos.py and its environments.
    files = {name: url.removeprefix(f"{d4rl.URL}/") for name, url in d4rl.published().items()}
    assert files["halfcheetah-medium-expert-v2"] == "gym_mujoco_v2/halfcheetah_medium_expert-v2.hdf5"
    assert files["hopper-medium-replay-v0"] == "gym_mujoco/hopper_mixed.hdf5"
    assert files["walker2d-medium-replay-v0"] == "gym_mujoco/walker_mixed.hdf5"
    assert files["walker2d-medium-expert-v0"] == "gym_mujoco/walker2d_medium_expert.hdf5"
    assert files["antmaze-large-play-v2"] == (
        "ant_maze_v2/Ant_maze_hardest-maze_noisy_multistart_True_multigoal_False_sparse_fixed.hdf5"
    )
    assert files["antmaze-umaze-v0"] == (
        "ant_maze_new/Ant_maze_u-maze_noisy_multistart_False_multigoal_False_sparse.hdf5"
    )
    assert files["maze2d-large-dense-v1"] == "maze2d/maze2d-large-dense-v1.hdf5"
    assert files["pen-cloned-v0"] == "hand_dapg/pen-demos-v0-bc-combined.hdf5"
    assert files["door-human-v1"] == "hand_dapg_v1/door-human-v1.hdf5"


def test_downloads_are_compared_with_published_digests(tmp_path, monkeypatch):
    digests = {}

    def fetch(url, path, check, otherwise, sha256):
        digests[path.stem] = sha256
        write_file(path, 4, timed_out=[3])

    monkeypatch.setattr(download, "fetch", fetch)
    (tmp_path / "d4rl").mkdir()
    for name in ("hopper-medium-v2", "maze2d-open-v0"):
        data.load(f"d4rl/{name}", tmp_path)
    # The list of TensorFlow Datasets, which has none for Maze2D.
    digest = "5bdf1bc4a713c82941de44633df669b36c89850b652a25985166796d25cf71a0"
    assert digests == {"hopper-medium-v2": [digest], "maze2d-open-v0": []}
    files = [line.split()[1] for line in d4rl.DIGESTS.read_text().splitlines()]
    assert len(files) == len(set(files)) == 98
    assert {f"{d4rl.URL}/{file}" for file in files} <= set(d4rl.published().values())
    assert d4rl.URL.startswith("https://")
