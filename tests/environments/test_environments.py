"""Environments by dataset name: observations, tasks, scores and seeds."""

import numpy as np
import pytest

from valuelab import environments, errors
from valuelab.environments import frames


def first_steps(environment, seed, options, actions):
    """Observations of a reset and a few steps, with the goal where there is one."""
    first, info = environment.reset(seed=seed, options=options)
    rest = [environment.step(action)[0] for action in actions]
    return np.stack([first, *rest]), info.get("goal")


def test_ogbench_singletask_has_one_task_scored_by_success():
    environment = environments.make("ogbench/pointmaze-medium-navigate-singletask-task3-v0")
    assert environment.name == "pointmaze-medium-singletask-task3-v0"
    assert (environment.tasks, environment.metric) == ({"default": None}, "success")
    assert not environment.goal_conditioned
    assert (environment.score(-200.0, True), environment.score(-1000.0, False)) == (1.0, 0.0)


def test_ogbench_rewards_of_a_maze_are_minus_one_until_the_last_step():
    maze = environments.make("ogbench/pointmaze-medium-navigate-singletask-v0").make()
    maze.reset(seed=0)
    goal = maze.unwrapped.cur_goal_xy
    maze.unwrapped.set_xy(goal + np.array([1.1, 0.0]))
    rewards, done = [], False
    while not done:
        _, reward, done, _, info = maze.step(np.array([-1.0, 0.0], np.float32))
        rewards.append((reward, info["success"]))
    # Success is checked before the action: the step that enters the goal costs 1, and the next step ends.
    assert rewards == [(-1.0, 0.0)] * (len(rewards) - 1) + [(0.0, 1.0)]


@pytest.mark.parametrize(
    ("name", "environment"),
    [
        ("cube-quadruple-play-100m-v0", "cube-quadruple-v0"),
        ("humanoidmaze-giant-navigate-100m-v0", "humanoidmaze-giant-v0"),
        ("puzzle-4x5-play-100m-singletask-task2-v0", "puzzle-4x5-singletask-task2-v0"),
    ],
)
def test_large_sets_of_ogbench_have_the_environment_of_the_small(name, environment):
    assert environments.make(f"ogbench/{name}").name == environment


def test_ogbench_goal_conditioned_has_five_goals():
    environment = environments.make("ogbench/pointmaze-medium-stitch-v0")
    assert environment.goal_conditioned
    assert list(environment.tasks) == ["task1", "task2", "task3", "task4", "task5"]
    maze = environment.make()
    goals = [maze.reset(seed=0, options=options)[1]["goal"] for options in environment.tasks.values()]
    assert np.shape(goals) == (5, 2)
    assert len(np.unique(np.round(goals), axis=0)) == 5


@pytest.mark.parametrize(
    ("stem", "rewards"),
    [("pointmaze-medium-navigate", {4: -1, 1: -1}), ("cube-double-play", {4: -2, 1: -1})],
)
def test_ogbench_single_tasks_are_played_in_one_environment(stem, rewards):
    """Rewards equal those of the task's own environment, where goals do not move."""
    together = environments.with_rewards(f"ogbench/{stem}-v0")
    assert list(together.tasks) == [f"task{number}" for number in range(1, 6)]
    assert (together.metric, together.goal_conditioned) == ("success", False)
    shared = together.make()
    for number in (4, 1):
        alone = environments.make(f"ogbench/{stem}-singletask-task{number}-v0").make()
        options = together.tasks[f"task{number}"]
        np.testing.assert_array_equal(shared.reset(seed=3, options=options)[0], alone.reset(seed=3)[0])
        for _ in range(3):
            action = np.full(alone.action_space.shape, 0.5, np.float32)
            stepped = shared.step(action)
            for ours, theirs in zip(stepped[:4], alone.step(action)[:4], strict=True):
                np.testing.assert_array_equal(ours, theirs)
            assert stepped[1] == rewards[number]
    if "maze" in stem:
        np.testing.assert_array_equal(shared.unwrapped.cur_goal_xy, shared.unwrapped.ij_to_xy((6, 6)))


@pytest.mark.parametrize(
    "name",
    [
        "ogbench/pointmaze-medium-navigate-v0",
        "ogbench/pointmaze-teleport-navigate-v0",
        "ogbench/antmaze-medium-navigate-singletask-v0",
        "ogbench/powderworld-easy-play-v0",
        "d4rl/antmaze-umaze-v2",
        "d4rl/hopper-medium-v2",
        "d4rl/pen-human-v1",
        "d4rl/maze2d-umaze-v1",
        "d4rl/kitchen-mixed-v0",
    ],
)
def test_an_episode_depends_on_its_seed_alone(name):
    environment = environments.make(name)
    one, other = environment.make(), environment.make()
    rng = np.random.default_rng(0)
    space = one.action_space
    actions = [
        rng.integers(space.n) if space.shape == () else rng.uniform(-1, 1, space.shape).astype(np.float32)
        for _ in range(6)
    ]
    options = next(iter(environment.tasks.values()))
    observed, goal = first_steps(one, 7, options, actions)
    first_steps(other, 1, options, actions)  # other episodes before the same seed
    again, same_goal = first_steps(other, 7, options, actions)
    np.testing.assert_array_equal(observed, again)
    np.testing.assert_array_equal(goal, same_goal)
    assert not np.array_equal(observed, first_steps(one, 8, options, actions)[0])


def test_numpys_global_generator_is_unchanged():
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    environments.make("ogbench/pointmaze-medium-navigate-singletask-v0").make().reset(seed=3)
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002


def test_plain_gymnasium_scores_returns():
    environment = environments.make("gymnasium/CartPole-v1")
    assert (environment.metric, environment.score(12.0, False)) == ("return", 12.0)
    assert environment.make().reset(seed=0)[0].shape == (4,)


def test_gymnasium_environments_of_other_packages():
    environment = environments.make("gymnasium/gymnasium_robotics:PointMaze_UMaze-v3")
    # Achieved goal, desired goal, then position and velocity, two coordinates each.
    assert environment.make().reset(seed=0)[0].shape == (8,)
    assert environments.vector("gymnasium/PointMaze_UMaze-v3", 1).spec.action_dim == 2
    arm = environments.make("gymnasium/FetchReach-v4", environment_kwargs={"reward_type": "dense"}).make()
    assert arm.reset(seed=0)[0].shape == (16,)
    assert -1 < arm.step(np.zeros(4, np.float32))[1] < 0


OWN = """
import gymnasium
import numpy as np

class Point(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(-9, 9, (2,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, size=1.0, noise=0.0):
        self.size, self.noise = size, noise

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place = self.np_random.uniform(-self.size, self.size, 2)
        return self.place.astype(np.float32), {}

    def step(self, action):
        self.place[action] += 0.5 + self.noise * np.random.normal()
        if self.place[0] > 8:
            raise ValueError("out of\\nreach")
        return self.place.astype(np.float32), float(self.place[0]), False, False, {}

def make(**settings):
    return gymnasium.wrappers.TimeLimit(Point(**settings), 4)

gymnasium.register("Mine-v0", Point, max_episode_steps=9)
"""


@pytest.fixture(scope="module")
def own_folder(tmp_path_factory):
    """A folder with a module of the user."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "own_point.py").write_text(OWN)
    (folder / "own_broken.py").write_text("import os\nimport absent_module\n")
    (folder / "own_empty.py").write_text("NAME = 3\n")
    return folder


@pytest.mark.parametrize(
    ("name", "kwargs", "steps"),
    [
        ("own_point:Mine-v0", {"size": 0.0}, 9),
        ("gymnasium/own_point:Mine-v0", {"size": 0.0}, 9),
        ("own_point.py:Mine-v0", {"size": 0.0, "render_mode": None}, 9),
        ("./own_point.py:Point", {"size": 0.0, "max_episode_steps": 3}, 3),
        ("own_point:make", {"size": 0.0}, 4),
    ],
)
def test_an_environment_of_the_user(own_folder, monkeypatch, name, kwargs, steps):
    monkeypatch.chdir(own_folder)
    environment = environments.make(name, environment_kwargs=kwargs).make()
    np.testing.assert_array_equal(environment.reset(seed=0)[0], np.zeros(2))
    assert [environment.step(0)[3] for _ in range(steps)] == [False] * (steps - 1) + [True]
    environment.close()


def test_an_environment_that_does_not_repeat_itself(own_folder, monkeypatch):
    monkeypatch.chdir(own_folder)
    noisy = environments.vector("own_point:Mine-v0", 1, environment_kwargs={"noise": 1})
    message = "resume is not exact: observations after step 1 of own_point:Mine-v0 differ"
    assert noisy.inexact_resume.startswith(message)
    assert not environments.vector("own_point:Mine-v0", 1).inexact_resume


@pytest.mark.parametrize(
    ("name", "kwargs", "message"),
    [
        ("own_point:Poin", {}, "^unknown environment of own_point 'Poin': did you mean 'Point'"),
        (
            "own_empty.py:Mine",
            {},
            r"own_empty.py registers no environment and defines no .* gymnasium.register",
        ),
        (
            "own_point.py",
            {},
            "^environment is own_point.py, which is a file: add .* as in own_point.py:NAME$",
        ),
        ("own_broken:X-v0", {}, r"'absent_module', .*own_broken.py, line 2\): install or correct it$"),
        ("absent.py:X-v0", {}, "^environment absent.py:X-v0: the file absent.py does not exist: correct"),
        ("own_point:make", {"sise": 1}, "cannot be made|unknown argument of own_point:make .* 'sise'"),
        (
            "own_point:Point",
            {"sise": 1},
            "^unknown argument of own_point:Point .* 'sise': did you mean 'size'",
        ),
        ("dmc/walker_run", {"a": 1}, r"environment_kwargs is {'a': 1}, but walker_run takes no keyword"),
        ("own_point:Point", {}, "has no max_episode_steps, .* --environment_kwargs='{\"max_episode_steps"),
        ("own_point:Mine-v0", {"size": 99}, r"\(ValueError: out of reach, .*own_point.py, line 20\): corr"),
    ],
)
def test_faults_of_the_users_environment_are_one_line(own_folder, monkeypatch, name, kwargs, message):
    monkeypatch.chdir(own_folder)

    def use():
        environments.make(name, environment_kwargs=kwargs).make()
        environments.vector(name, 9, environment_kwargs=kwargs)

    with pytest.raises(errors.InputError, match=message) as raised:
        use()
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("ogbnch/cube-single-play-v0", "did you mean 'ogbench/cube-single-play-v0'"),
        ("ogbench", "unknown environment 'ogbench'"),
        (
            "pointmaze-medium-navigate-singletask-v0",
            r"known source: did you mean 'ogbench/pointmaze-medium-nav",
        ),
        ("hopper-medium-v2", r"known source: did you mean 'd4rl/hopper-medium-v2'\?"),
        ("CartPole-v1", r"known source: did you mean 'gymnasium/CartPole-v1'\?"),
        ("walker_run", r"known source: did you mean 'dmc/walker_run'\?"),
        ("nothing-v1", r"known source: write SOURCE/NAME, such as gymnasium/CartPole-v1, ogbench/pointmaze-"),
        ("ogbench/pointmaze-medum-navigate-v0", "did you mean 'pointmaze-medium-v0'"),
        ("ogbench/CartPole-random-v1", "unknown OGBench environment 'CartPole-v1'"),
        ("ogbench/pointmaze-medium-singletask-v0", "^ogbench/pointmaze-medium-singletask-v0 names an env"),
        ("d4rl/hopper", "unknown D4RL dataset 'hopper': did you mean 'hopper-"),
        ("d4rl/hopper-mediun-v2", "unknown D4RL dataset .*: did you mean 'hopper-medium-v2'"),
        ("d4rl/pen-human-v3", "unknown D4RL dataset .*: did you mean 'pen-human-v"),
        ("d4rl/maze2d-umaze-dense-v0", "did you mean 'maze2d-umaze-dense-v1'"),
        (
            "folder/hopper-medium-v2.hdf5",
            "^folder/hopper.* does not name an environment: give one, such as --environm",
        ),
        ("rlds/own", "^rlds/own does not name an environment: give one"),
        ("rlds/d4rl_mujoco_hopper", "^rlds/d4rl_mujoco_hopper does not name an environment: give one"),
        ("gymnasium/cartpole-V1", "did you mean 'CartPole-v1'"),
        ("gymnasium/CartPol-v1", "did you mean 'CartPole-v1'"),
        ("gymnasium/Plug/In-v1", "For your own, name its module or file too, as in my_package:NAME"),
        ("gymnasium/no_such_package:In-v1", "no_such_package cannot be imported .*: install or correct it"),
        ("gymnasium/..:CartPole-v1", r"\.\. is neither a module nor a file that ends in .py: correct it"),
        (
            "gymnasium/no-module:In-v1",
            r"no-module is neither a module nor a file that ends in .py: correct it",
        ),
        ("gymnasium/gymnasium_robotics:PointMaze_UMaz-v3", "did you mean 'PointMaze_UMaze-v3'"),
    ],
)
def test_unknown_names_name_the_nearest(name, message):
    with pytest.raises(errors.InputError, match=message) as raised:
        environments.make(name)
    assert "\n" not in str(raised.value)


def test_environments_that_step_without_processes_refuse_them():
    with pytest.raises(
        errors.InputError, match=r"^interaction\.processes is true, but the environments of grid"
    ):
        environments.vector("gridworld/target", 2, in_processes=True)


def test_a_converted_dataset_is_evaluated_where_its_source_is():
    assert environments.make("rlds/ogbench/cube-single-play-v0").name == "cube-single-v0"
    assert environments.make("rlds/d4rl/kitchen-mixed-v0").name == "kitchen-mixed"
    assert environments.make("rlds/d4rl_mujoco_hopper/v2-medium").name == "hopper"
    assert environments.make("rlds/d4rl_mujoco_ant/v0-mixed/1.2.0").name == "ant"
    assert environments.make("rlds/d4rl_adroit_pen/v1-human").name == "pen"
    assert environments.make("rlds/d4rl_antmaze/umaze-diverse-v2").name == "antmaze-umaze"


def test_joined_frames_are_those_of_the_sampler():
    environment = environments.make("gymnasium/CartPole-v1")
    joined = frames.joined(environment, 3).make()
    single = environment.make()
    (first, _), (start, _) = single.reset(seed=0), joined.reset(seed=0)
    np.testing.assert_array_equal(start, np.tile(first, 3))
    assert start in joined.observation_space
    singles = [first] * 3
    for action in (0, 1, 1, 0):
        singles.append(single.step(action)[0])
        observation, reward, *_ = joined.step(action)
        np.testing.assert_array_equal(observation, np.concatenate(singles[-3:]))
        assert reward == 1
    assert frames.joined(environment, 1) is environment
