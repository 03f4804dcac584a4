"""experiments.inspect_dataset: the numbers of a dataset, its faults, the picture, and the program."""

import dataclasses
import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from absl import flags as absl_flags

from valuelab.benchmark import report
from valuelab.configuration import DEFAULT_DATA_DIR
from valuelab.data import coverage, faults, inspection, normalization, storage
from valuelab.errors import InputError
from valuelab.evaluation import inspection_plots
from valuelab.evaluation.plots import Maze
from valuelab.runs import dataset_inspection, flags, inputs
from valuelab.types import Dataset

ROOT = pathlib.Path(__file__).resolve().parents[2]
EPISODES, ROWS = 20, 11
"""The size of a dataset without faults; the last row of each episode only ends it."""


def sound(**changes) -> Dataset:
    """A dataset of random numbers in compact storage, without faults apart from the changed fields."""
    random, size = np.random.default_rng(0), EPISODES * ROWS
    terminals = changes.pop("terminals", np.arange(size) % ROWS == ROWS - 1)
    made = Dataset(
        name="made up",
        observations=random.normal(size=(size, 3)).astype(np.float32),
        actions=random.uniform(-1, 1, (size, 2)).astype(np.float32),
        rewards=random.normal(size=size).astype(np.float32),
        masks=np.ones(size, np.float32),
        terminals=terminals,
        valid=~terminals,
        action_low=-np.ones(2, np.float32),
        action_high=np.ones(2, np.float32),
    )
    return dataclasses.replace(made, **changes)


def changed(name, function):
    """The sound dataset with one of its arrays changed in place."""
    array = getattr(sound(), name).copy()
    function(array)
    return sound(**{name: array})


def write_hdf5(path, **changes):
    """Four episodes of five random steps as D4RL stores them; the second ends in a terminal state."""
    h5py = pytest.importorskip("h5py")
    random, numbers = np.random.default_rng(0), np.arange(20)
    arrays = {
        "observations": random.normal(size=(20, 3)).astype(np.float32),
        "actions": random.uniform(-1, 1, (20, 2)).astype(np.float32),
        "rewards": random.normal(size=20).astype(np.float32),
        "terminals": numbers == 9,
        "timeouts": (numbers % 5 == 4) & (numbers != 9),
    }
    with h5py.File(path, "w") as file:
        for key, array in (arrays | changes).items():
            file[key] = array
    return path


def command(*words):
    """Runs a command line."""
    config = dataset_inspection.parse(["inspect", *map(str, words)], absl_flags.FlagValues())
    return dataset_inspection.run(config)


@pytest.fixture(scope="module")
def walk():
    """Two episodes, of two and three transitions, small enough to count by hand."""
    terminals = np.array([0, 0, 1, 0, 0, 0, 1], bool)
    return Dataset(
        name="walk",
        observations=np.array([[0, 0], [1, 0], [2, 0], [0, 4], [1, 4], [2, 4], [3, 4]], np.float32),
        actions=np.array([[1], [0.5], [0], [-1], [0], [1], [0]], np.float32),
        rewards=np.array([0, 1, 9, 0, 0, 1, 9], np.float32),
        masks=np.array([1, 0, 1, 1, 1, 1, 0], np.float32),
        terminals=terminals,
        valid=~terminals,
        action_low=-np.ones(1, np.float32),
        action_high=np.ones(1, np.float32),
    )


def test_numbers_of_a_walk(walk):
    found = inspection.inspect(walk)
    assert (found["name"], found["rows"], found["transitions"]) == ("walk", 7, 5)
    episodes = found["episodes"]
    assert {name: episodes[name] for name in ("count", "terminated", "cut", "one_step")} == {
        "count": 2,
        "terminated": 1,
        "cut": 1,
        "one_step": 0,
    }
    length = [episodes["length"][name] for name in ("min", "median", "max")]
    assert length == [2, 2.5, 3]
    assert (found["returns"]["mean"], found["returns"]["std"]) == (1, 0)
    rewards = found["rewards"]
    assert rewards["values"] == [{"value": 0, "share": 0.6}, {"value": 1, "share": 0.4}]
    assert (rewards["nonzero"], rewards["distinct"]) == (0.4, 2)
    assert rewards["best"] == {"count": 2, "share": 0.4, "episodes": 2, "at_ends": 2}
    assert found["masks"] == {"zeros": 1, "zeros_inside": 0}
    actions = found["actions"]
    numbers = [actions[name][0] for name in ("min", "max", "mean", "at_low", "at_high")]
    np.testing.assert_allclose(numbers, [-1, 1, 0.3, 0.2, 0.4])
    assert [*np.flatnonzero(actions["histogram"][0])] == [0, 20, 30, 39]
    observations = found["observations"]
    np.testing.assert_array_equal([observations["min"], observations["max"]], [[0, 0], [2, 4]])
    np.testing.assert_allclose(observations["mean"], [0.8, 2.4])
    np.testing.assert_allclose(np.square(observations["std"]), [0.56, 3.84])
    # The correlation is ρ = 0.48 / √(0.56 · 3.84). The ratio of eigenvalues 1 ± ρ is 2 / (1 + ρ²).
    np.testing.assert_allclose(found["coverage"]["effective_dimension"], 2 / (1 + 0.48**2 / (0.56 * 3.84)))
    assert found["coverage"]["plane"]["counts"].sum() == 5
    # An observation takes 8 bytes; action, reward and mask take 4 each; terminal and valid take 1 each.
    assert found["memory"] == {"full": 5 * 29, "compact": 7 * 22}
    assert found["copies"] == {"episodes": 0, "transitions": 0}


@pytest.mark.parametrize("goal_conditioned", [False, True])
def test_both_storages_hold_the_same(goal_conditioned):
    compact = sound(goal_conditioned=goal_conditioned)
    one, other = inspection.inspect(compact), inspection.inspect(storage.full(compact))
    assert (one.pop("rows"), other.pop("rows")) == (EPISODES * ROWS, EPISODES * (ROWS - 1))
    np.testing.assert_equal(one, other)


def test_copies_of_episodes_and_of_other_transitions(walk):
    twice = {
        name: np.concatenate([getattr(walk, name)] * 2)
        for name in ("observations", "actions", "rewards", "masks", "terminals", "valid")
    }
    assert inspection.inspect(dataclasses.replace(walk, **twice))["copies"] == {
        "episodes": 2,
        "transitions": 0,
    }
    twice["actions"][8] = 0.25  # the copy of the first episode differs in its second step
    found = inspection.inspect(dataclasses.replace(walk, **twice))
    assert found["copies"] == {"episodes": 1, "transitions": 1}


def test_the_plane_is_the_same_from_few_images_as_from_many():
    sample = np.random.default_rng(0).integers(0, 256, (6, 9), np.uint8)
    eigenvalues = np.linalg.eigvalsh(np.cov(sample.T))
    expected = eigenvalues.sum() ** 2 / np.square(eigenvalues).sum()
    few = coverage.of_plane(sample, standardized=False)
    many = coverage.of_plane(np.concatenate([sample, sample]), standardized=False)
    np.testing.assert_allclose([few["effective_dimension"], many["effective_dimension"]], expected)
    assert few["plane"]["axes"] == many["plane"]["axes"]


def test_cells_of_a_maze(walk):
    walls = np.array([[0, 0, 0], [1, 0, 1], [0, 0, 0]], bool)
    found = coverage.of_maze(walk, walls, (-1.0, 5.0, -1.0, 5.0))  # cells of 2 metres
    assert (found["free_cells"], found["visited_cells"]) == (7, 4)
    assert found["counts"].shape == (12, 12)
    assert found["counts"].sum() == 5
    assert found["counts"][2, 2] == 1  # (0, 0) is the centre of the first cell


def test_an_agent_sees_what_was_normalised():
    dataset = changed("observations", lambda array: array.__imul__(np.float32([1, 1, 1e4])))
    fitted = normalization.fit(dataset, observations=True, rewards="d4rl_antmaze")
    found = inspection.inspect(inspection.normalized(dataset, fitted))
    np.testing.assert_allclose(found["observations"]["std"], 1, rtol=1e-5)
    np.testing.assert_allclose(found["rewards"]["mean"], dataset.rewards[dataset.valid].mean() - 1, rtol=1e-5)
    assert faults.find(found) == []


def set_rewards(rewards):
    rewards[:] = 0
    rewards[ROWS - 2 :: ROWS] = 1


def repeat_steps(array):
    array[5::ROWS] = array[4::ROWS]


def jump_away(array):
    array[:] = np.cumsum(0.01 * array, axis=0)  # one walk without resets
    array[90:] += 5
    array[150:] -= 3


RANDOM = np.random.default_rng(1)
SIZE = EPISODES * ROWS
FAULTS = {
    "observations: 2 steps are far longer than the rest, from rows 89, 149; in one, dimension": (
        changed("observations", jump_away)
    ),
    "episodes: all 219 transitions are one": sound(terminals=np.arange(SIZE) == SIZE - 1),
    "episodes: 110 of 110 have a single step": sound(terminals=np.arange(SIZE) % 2 == 1),
    "episodes: 1 of 20 repeat an earlier one": sound(
        observations=np.concatenate([sound().observations[:ROWS], sound().observations[:-ROWS]]),
        actions=np.concatenate([sound().actions[:ROWS], sound().actions[:-ROWS]]),
    ),
    "observations and actions: 20 of 200 transitions repeat": sound(
        observations=changed("observations", repeat_steps).observations,
        actions=changed("actions", repeat_steps).actions,
    ),
    "observations: 1 of 3 dimensions never change (1)": changed(
        "observations", lambda array: array[:, 1].fill(3)
    ),
    "observations: standard deviations lie between": changed(
        "observations", lambda array: array[:, 2].__imul__(1e4)
    ),
    "observations: all pixels of 200 images are 7": sound(observations=np.full((SIZE, 4, 4, 3), 7, np.uint8)),
    "observations: no pixel is above 1": sound(observations=RANDOM.integers(0, 2, (SIZE, 4, 4, 3), np.uint8)),
    "rewards: all 200 are 0, so nothing can be learned": sound(rewards=np.zeros(SIZE, np.float32)),
    "returns: the greatest, 1e+05, contributes 95% of their variance": changed(
        "rewards", lambda array: array.__setitem__(3, 1e5)
    ),
    "returns: the least, -1e+05, contributes 95% of their variance": changed(
        "rewards", lambda array: array.__setitem__(3, -1e5)
    ),
    "masks: all 20 rewards of 1 end their episode": changed("rewards", set_rewards),
    "actions: 1 of 2 dimensions never change (0)": changed("actions", lambda array: array[:, 0].fill(0.5)),
    "actions: 1 of 2 dimensions (1) use at most 1.0%": changed(
        "actions", lambda array: array[:, 1].__imul__(0.01)
    ),
    "actions: 2 of 2 dimensions (0, 1) are at a bound in up to 100%": changed(
        "actions", lambda array: np.sign(array, out=array)
    ),
    "actions: 2 of 6 are never taken (1, 5)": sound(
        actions=RANDOM.choice([0, 2, 3, 4], SIZE).astype(np.int32),
        num_actions=6,
        action_low=np.zeros(0, np.float32),
        action_high=np.zeros(0, np.float32),
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_one_line_and_brings_no_other(fault):
    (line,) = faults.find(inspection.inspect(FAULTS[fault]))
    assert line.startswith(fault)
    assert "\n" not in line


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"goal_conditioned": True, "rewards": np.zeros(SIZE, np.float32)},  # computed in training
        {  # the same few states and actions again and again, as in a gridworld
            "observations": RANDOM.integers(0, 2, (SIZE, 3)).astype(np.float32),
            "actions": RANDOM.integers(0, 2, SIZE).astype(np.int32),
            "num_actions": 2,
        },
        {"rewards": (np.arange(SIZE) == 3).astype(np.float32)},  # a rare success inside an episode
        {
            "rewards": np.where(np.arange(SIZE) % 50 == 3, np.float32(1e3), sound().rewards)
        },  # or in some episodes
    ],
)
def test_sound_datasets_have_no_fault(changes):
    assert faults.find(inspection.inspect(sound(**changes))) == []


def test_numbers_in_words():
    assert faults.listed(np.array([0, 2, 3, 5, 6, 7, 8])) == "0, 2, 3, 5 to 8"
    assert faults.listed(np.arange(0, 40, 2)).endswith("12, 14, and 12 more")


def test_a_picture_of_every_kind():
    def titles(dataset, scene=None, **parts):
        figure = inspection_plots.inspection(inspection.inspect(dataset) | parts, scene)
        return {panel.get_title().partition(",")[0] for panel in figure.axes} - {""}

    vectors = {"episode lengths", "returns of episodes", "rewards", "actions", "observations", "coverage"}
    assert titles(sound()) == vectors
    images = FAULTS["observations: no pixel is above 1"]
    assert titles(images) == vectors - {"observations"} | {"intensities of pixels"}
    assert titles(FAULTS["actions: 2 of 6 are never taken (1, 5)"]) == vectors
    flat = sound(goal_conditioned=True, observations=np.zeros((SIZE, 1), np.float32))
    assert titles(flat) == {"episode lengths", "actions", "observations"}
    maze = Maze(np.zeros((3, 3), bool), (-6.0, 6.0, -6.0, 6.0), 4.0, np.zeros(3), None, None)
    visited = coverage.of_maze(sound(), maze.walls, maze.extent)
    names = titles(sound(), maze, maze=visited)
    assert names == vectors - {"coverage"} | {f"{visited['visited_cells']} of 9 free cells visited"}


def test_the_program_prints_and_leaves_everything(tmp_path, capsys):
    path, folder = write_hdf5(tmp_path / "mine.hdf5"), tmp_path / "out"
    found = command(path, "--workdir", folder)
    printed = capsys.readouterr().out
    assert "4; 1 end in a terminal state, 3 are cut" in printed
    assert "faults found: none" in printed

    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    saved = json.loads((folder / "dataset.json").read_text(), parse_constant=refuse)
    assert saved["settings"]["dataset"] == str(path)
    assert saved.keys() == found.keys() | {"settings"}
    assert saved["episodes"]["count"] == 4
    assert (folder / "dataset.png").read_bytes().startswith(b"\x89PNG")


def test_without_a_workdir_nothing_is_left(tmp_path, capsys):
    path = write_hdf5(tmp_path / "mine.hdf5", rewards=np.zeros(20, np.float32))
    command(path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["mine.hdf5"]
    assert "faults found:\nrewards: all" in capsys.readouterr().out


def test_settings_of_a_run_show_what_its_agent_sees(tmp_path):
    path = write_hdf5(tmp_path / "mine.hdf5")
    plain, scaled = command(path), command(path, "--data.rewards=d4rl_locomotion")
    span = plain["returns"]["max"] - plain["returns"]["min"]
    np.testing.assert_allclose(scaled["returns"]["max"], plain["returns"]["max"] * 1000 / span, rtol=1e-5)


def test_scores_are_those_of_d4rl():
    score = dataset_inspection.find_score("d4rl/hopper-medium-v2")
    np.testing.assert_allclose(score(np.array([-20.272305, 3234.3])), [0, 100])
    assert dataset_inspection.find_score("d4rl/kitchen-partial-v0")(1.0) == 25
    assert dataset_inspection.find_score("rlds/d4rl_antmaze/umaze-v2")(1.0) == 100
    assert dataset_inspection.find_score("ogbench/cube-single-play-v0") is None


def test_mazes_are_found_by_name():
    pytest.importorskip("ogbench")
    places = sound(observations=np.zeros((SIZE, 2), np.float32))
    maze = dataset_inspection.find_maze("ogbench/pointmaze-medium-navigate-v0", places)
    assert maze.walls.shape == (8, 8)
    assert maze.start is None
    assert maze.goal is None
    assert dataset_inspection.find_maze("ogbench/cube-single-play-v0", places) is None
    # Rows of D4RL's mazes are the first coordinate; walls are shifted by -0.2 from their cells.
    maze = dataset_inspection.find_maze("d4rl/maze2d-large-v1", places)
    assert maze.walls.shape == (12, 9)
    np.testing.assert_allclose(maze.extent, (-0.7, 8.3, -0.7, 11.3))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "no dataset is given"),
        (("nowhere.hdf5",), "nowhere.hdf5 does not exist"),
        (("ogbnech/x",), "unknown data source 'ogbnech': did you mean 'ogbench'"),
        (("a/b", "c/d"), "argument 'c/d' does not belong to a flag"),
        (("a/b", "--dataset=c/d"), "dataset is given twice: 'c/d' and 'a/b'"),
        (("a/b", "--data.reward=none"), "unknown flag 'data.reward': did you mean 'data.rewards'"),
        (("a/b", "--data.rewards=best"), "unknown value of data.rewards 'best'"),
    ],
)
def test_what_cannot_be_used_is_one_line(words, message):
    with pytest.raises(InputError, match=message) as caught:
        command(*words)
    assert "\n" not in str(caught.value)


def test_an_argument_without_a_name_may_be_anywhere():
    config = report.parse(
        ["report", "--workdir", "out", "runs/suite", "--readme=a.md"], absl_flags.FlagValues()
    )
    assert (config.source, config.workdir, config.readme) == (("runs/suite",), "out", "a.md")


def test_a_faulty_dataset_ends_the_program_with_status_2(tmp_path):
    path = write_hdf5(tmp_path / "mine.hdf5", actions=np.full((20, 2), 3, np.float32))
    line = [
        sys.executable,
        "-m",
        "experiments.inspect_dataset",
        str(path),
    ]
    done = subprocess.run(line, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {path}: actions is 3 at row 0, outside the bounds")
    assert done.stderr.count("\n") == 1


def test_actions_are_clipped_where_the_settings_say_so(tmp_path):
    path = write_hdf5(tmp_path / "mine.hdf5", actions=np.full((20, 2), 3, np.float32))
    np.testing.assert_array_equal(command(path, "--data.clip_actions")["actions"]["max"], [1, 1])
    config = flags.RunConfig(dataset=str(path), data=flags.DataConfig())
    with pytest.raises(InputError, match=r"clip them with --data\.clip_actions"):
        inputs.read_dataset(config)
    clipped = dataclasses.replace(config, data=flags.DataConfig(clip_actions=True))
    assert inputs.read_dataset(clipped).actions.max() == 1


@pytest.mark.parametrize(
    "dataset", ["own.npz", "own.hdf5", "lerobot/lerobot/pusht", "ogbench/cube-single-play-v0"]
)
def test_the_next_command_does_not_evaluate_where_no_environment_is_known(dataset):
    (command,) = dataset_inspection.next_steps(dataset, DEFAULT_DATA_DIR)
    assert ("--eval_episodes=0" in command) == (not dataset.startswith("ogbench/"))
