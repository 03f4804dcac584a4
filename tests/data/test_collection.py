"""Collecting: reproducible for any number of processes, resumable at any moment, errors in one line."""

import dataclasses
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from helpers import ROOT

from valuelab import files
from valuelab.data import collection
from valuelab.data.collection import manipulation, pointmaze
from valuelab.data.collection.recipe import play_episode
from valuelab.errors import InputError

NAME = "ogbench/pointmaze-medium-stitch-v0"
SETTINGS = {"episodes": 40, "val_episodes": 3, "seed": 5}


@pytest.fixture(scope="module")
def collected(tmp_path_factory) -> pathlib.Path:
    """A small dataset, collected by two processes without interruption."""
    return collection.collect(NAME, tmp_path_factory.mktemp("collected"), **SETTINGS, processes=2)


def load(path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as file:
        return dict(file)


def validation(path: pathlib.Path) -> pathlib.Path:
    return path.with_name(path.name.replace(".npz", "-val.npz"))


def start(data_dir: pathlib.Path, **settings: int) -> subprocess.Popen:
    """Runs the command in a new process group, until the first episodes are finished."""
    flags = {"dataset": NAME, "data_dir": data_dir, **SETTINGS, "processes": 2, **settings}
    process = subprocess.Popen(
        [
            *("env", "--default-signal=INT"),  # a shell's background jobs and their children ignore SIGINT
            *(sys.executable, "-m", "experiments.collect"),
            *(f"--{flag}={value}" for flag, value in flags.items()),
        ],
        cwd=pathlib.Path(__file__).parents[2],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    parts = collection.parts_folder(NAME, data_dir)
    while len(list(parts.glob("train-*.npz"))) < 2:
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.005)
    return process


def ends(group: int) -> bool:
    """Whether all processes of a group end within 20 s."""
    deadline = time.monotonic() + 20.0
    while time.monotonic() < deadline:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.02)
    return False


def test_a_script_that_worker_processes_cannot_import_gets_an_explanation(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "from valuelab.data import collection\n"
        f"collection.collect({NAME!r}, {str(tmp_path)!r}, episodes=1, val_episodes=1, processes=1)\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False, cwd=ROOT)
    assert "call this function under `if __name__ == '__main__':`" in done.stderr.splitlines()[-1]


def test_published_layout(collected):
    arrays = load(collected)
    rows = 40 * 201
    assert {key: (str(array.dtype), array.shape) for key, array in arrays.items()} == {
        "observations": ("float32", (rows, 2)),
        "actions": ("float32", (rows, 2)),
        "terminals": ("bool", (rows,)),
        "qpos": ("float32", (rows, 2)),
        "qvel": ("float32", (rows, 2)),
    }
    np.testing.assert_array_equal(np.flatnonzero(arrays["terminals"]), np.arange(1, 41) * 201 - 1)
    assert np.abs(arrays["actions"]).max() == 1.0
    assert len(load(validation(collected))["actions"]) == 3 * 201
    assert not collection.parts_folder(NAME, collected.parents[1]).exists()


def test_ogbench_reads_what_was_collected(collected):
    ogbench = pytest.importorskip("ogbench", reason="reads with ogbench itself")
    _, train, val = ogbench.make_env_and_datasets(
        "pointmaze-medium-stitch-singletask-v0", dataset_path=str(collected)
    )
    assert train["observations"].shape == (40 * 200, 2)
    assert val["rewards"].shape == (3 * 200,)


def test_the_number_of_processes_changes_nothing(collected, tmp_path):
    alone = collection.collect(NAME, tmp_path, **SETTINGS, processes=1)
    assert alone.read_bytes() == collected.read_bytes()
    assert validation(alone).read_bytes() == validation(collected).read_bytes()


def test_another_seed_and_split_give_other_episodes(collected):
    recipe = collection.RECIPES["pointmaze-medium-stitch-v0"]
    player = recipe.make_player()
    played = [
        play_episode(recipe, player, seed, split, episode)["actions"]
        for seed, split, episode in ((5, "train", 0), (6, "train", 0), (5, "val", 0), (5, "train", 1))
    ]
    np.testing.assert_array_equal(played[0], load(collected)["actions"][:201])
    assert all(not np.array_equal(played[0], other) for other in played[1:])


@pytest.mark.slow
def test_killed_it_leaves_no_process_and_goes_on_with_nothing_repeated(collected, tmp_path):
    process = start(tmp_path)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert ends(process.pid)
    # A mark in a finished episode shows that it is not played again.
    marked = min(collection.parts_folder(NAME, tmp_path).glob("train-*.npz"))
    arrays = load(marked)
    np.savez_compressed(marked, **arrays | {"actions": np.zeros_like(arrays["actions"])})
    resumed = load(collection.collect(NAME, tmp_path, **SETTINGS, processes=2))
    expected = load(collected)
    expected["actions"].reshape(40, 201, 2)[int(marked.stem[-5:])] = 0.0
    for key, array in expected.items():
        np.testing.assert_array_equal(resumed[key], array, err_msg=key)


@pytest.mark.slow
def test_ctrl_c_says_how_to_go_on(tmp_path):
    process = start(tmp_path, episodes=5000)  # enough that the test interrupts it in time
    os.killpg(process.pid, signal.SIGINT)
    message = process.communicate(timeout=30)[1]
    assert process.returncode == 130
    assert "stopped; finished episodes are kept in" in message
    assert "Traceback" not in message
    assert len(list(collection.parts_folder(NAME, tmp_path).glob("train-*.npz"))) >= 2
    assert ends(process.pid)


def test_parts_with_other_settings_are_refused(tmp_path):
    parts = collection.parts_folder(NAME, tmp_path)
    with collection.claimed(parts, {"dataset": NAME, "seed": 0}):
        pass
    with pytest.raises(InputError, match=r"seed=0, not 1: give the same settings .* or delete the folder"):
        collection.claimed(parts, {"dataset": NAME, "seed": 1}).__enter__()
    with collection.claimed(parts, {"dataset": NAME, "seed": 0}):
        pass


def test_two_do_not_collect_into_one_folder(tmp_path):
    parts = collection.parts_folder(NAME, tmp_path)
    parts.mkdir(parents=True)
    with (
        files.locked(parts),
        pytest.raises(InputError, match=r"\.parts is in use by process \d+ on .*: wait"),
    ):
        collection.collect(NAME, tmp_path, episodes=1, processes=1)


def test_what_is_there_is_kept(collected, tmp_path):
    before = collected.stat().st_mtime_ns
    assert collection.collect(NAME, collected.parents[1], episodes=7) == collected
    assert collected.stat().st_mtime_ns == before
    # Completes one split, as after a kill between the splits.
    copy = collection.target(NAME, tmp_path)
    copy.parent.mkdir()
    shutil.copy(collected, copy)
    collection.collect(NAME, tmp_path, **SETTINGS, processes=1)
    assert validation(copy).read_bytes() == validation(collected).read_bytes()


def test_the_command_says_that_it_is_done(collected):
    command = [sys.executable, "-m", "experiments.collect", f"--dataset={NAME}"]
    done = subprocess.run(
        [*command, f"--data_dir={collected.parents[1]}"],
        cwd=pathlib.Path(__file__).parents[2],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0
    assert "nothing to do" in done.stdout
    assert "with 40 episodes" in done.stdout


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("ogbench/pointmaze-medium-navigat-v0", "did you mean 'ogbench/pointmaze-medium-navigate-v0'"),
        ("ogbench/antmaze-large-navigate-v0", "low-level policies do not ship .* download https://"),
        ("ogbench/visual-cube-single-play-v0", "rendering its images takes too long"),
        ("d4rl/hopper-medium-v2", "give a name ogbench/NAME, which comes with scripted oracles"),
    ],
)
def test_names_that_cannot_be_collected(tmp_path, name, message):
    with pytest.raises(InputError, match=message):
        collection.collect(name, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("field", "value"), [("episodes", 0), ("val_episodes", 0), ("seed", -1), ("processes", 0)]
)
def test_numbers_out_of_range(tmp_path, field, value):
    with pytest.raises(InputError, match=rf"{field} is {value}, but must be at least \d"):
        collection.collect(NAME, tmp_path, **{field: value})


def test_a_place_that_cannot_be_written(tmp_path):
    place = tmp_path / "file"
    place.write_text("in the way")
    with pytest.raises(InputError, match=r"cannot write to .* run the same command again"):
        collection.collect(NAME, place)


def test_published_sizes():
    # From OGBench's commands: a million steps for most datasets, three or five million for larger tasks.
    steps = {name: recipe.episodes * recipe.episode_length for name, recipe in collection.RECIPES.items()}
    assert len(steps) == 8 + 8 + 2 + 8 + 3
    assert steps["pointmaze-medium-navigate-v0"] == 1_001_000
    assert steps["pointmaze-giant-navigate-v0"] == 500 * 2001
    assert steps["pointmaze-teleport-stitch-v0"] == 5000 * 201
    assert steps["cube-triple-noisy-v0"] == 3000 * 1001
    assert steps["puzzle-4x6-play-v0"] == 5000 * 1001
    assert steps["powderworld-medium-play-v0"] == 3000 * 1001


def test_maze_cells():
    # #####
    # #..##
    # ##.##
    # ##.##
    # #####   (1, 2) is a corner and (3, 2) an end; (2, 2) lies inside a straight corridor.
    maze = np.ones((5, 5), int)
    maze[1, 1] = maze[1, 2] = maze[2, 2] = maze[3, 2] = 0
    assert pointmaze.free_cells(maze) == [(1, 1), (1, 2), (2, 2), (3, 2)]
    assert pointmaze.junctions(maze) == [(1, 1), (1, 2), (3, 2)]
    assert pointmaze.cells_at_distance(maze, (1, 1), 3) == [(3, 2)]
    assert pointmaze.cells_at_distance(maze, (1, 1), 4) == []


def test_cube_stays_reachable():
    qpos = np.zeros((4, 25))
    assert manipulation.cube_stays_reachable(qpos)
    qpos[2, 15:17] = -0.31, 0.07  # in the drawer
    assert manipulation.cube_stays_reachable(qpos)
    qpos[2, 16] = 0.02  # on the floor next to the drawer
    assert not manipulation.cube_stays_reachable(qpos)
    qpos[2, 15:17] = 0.29, 0.07
    assert not manipulation.cube_stays_reachable(qpos)


@pytest.mark.parametrize(
    "name",
    [
        "pointmaze-teleport-navigate-v0",
        pytest.param("cube-double-play-v0", marks=pytest.mark.slow),
        pytest.param("scene-noisy-v0", marks=pytest.mark.slow),
        pytest.param("puzzle-3x3-noisy-v0", marks=pytest.mark.slow),
        "powderworld-hard-play-v0",
    ],
)
def test_an_episode_depends_on_its_seed_alone(name):
    # Scene is the difficult case: its closed-loop oracles observe targets that an earlier episode has set.
    recipe = dataclasses.replace(collection.RECIPES[name], episode_length=90)
    used = recipe.make_player()
    for episode in range(3):
        play_episode(recipe, used, 1, "train", episode)
    fresh = recipe.make_player()
    for episode in (4, 7):
        one, other = (play_episode(recipe, player, 0, "train", episode) for player in (used, fresh))
        for key in recipe.dtypes:
            np.testing.assert_array_equal(one[key], other[key], err_msg=f"{episode} {key}")
        assert len(one["actions"]) == 90


@pytest.mark.parametrize(
    ("name", "rows"),
    [
        ("scene-play-v0", {"observations": (40,), "actions": (5,), "qpos": (25,), "button_states": (2,)}),
        ("puzzle-4x5-play-v0", {"observations": (99,), "actions": (5,), "button_states": (20,)}),
        ("powderworld-easy-play-v0", {"observations": (32, 32, 6), "actions": (), "terminals": ()}),
    ],
)
def test_rows_of_other_families(name, rows):
    recipe = dataclasses.replace(collection.RECIPES[name], episode_length=12)
    arrays = play_episode(recipe, recipe.make_player(), 0, "train", 0)
    assert {key: arrays[key].shape[1:] for key in rows} == rows
    assert {key: array.dtype for key, array in arrays.items()} == recipe.dtypes
    np.testing.assert_array_equal(np.flatnonzero(arrays["terminals"]), [11])


def test_strokes_of_powder_take_three_steps():
    recipe = dataclasses.replace(collection.RECIPES["powderworld-easy-play-v0"], episode_length=300)
    actions = play_episode(recipe, recipe.make_player(), 0, "train", 0)["actions"].reshape(-1, 3)
    assert set(actions[:, 0]) == {0, 1}  # plant or stone
    assert set(actions[:, 1:].flat) == set(range(8))
