"""D4RL's tasks: sizes, starts, goals and ends, and the scores of random actions, which D4RL measured too."""

import numpy as np
import pytest

from valuelab import environments
from valuelab.domains.d4rl import FILES
from valuelab.environments import d4rl

EPISODES = {
    **{"halfcheetah": 20, "walker2d": 100, "pen": 50, "hammer": 15, "door": 15, "relocate": 15},
    **{"antmaze-umaze": 2, "antmaze-medium": 2, "antmaze-large": 2},
    **{"maze2d-umaze": 50, "maze2d-medium": 40, "maze2d-large": 30},
    **{"maze2d-umaze-dense": 50, "maze2d-medium-dense": 40, "maze2d-large-dense": 30},
}
"""Tasks whose reference is the return of random actions."""
REFERENCES_OF_SOMETHING_ELSE = {
    *("ant", "hopper", "maze2d-open", "maze2d-open-dense"),
    *("kitchen-complete", "kitchen-partial", "kitchen-mixed"),
}
REFERENCE_EPISODES = 100  # in D4RL's script


def random_returns(task, episodes, steps=None, starts=lambda observation: True):
    """Returns of uniformly random actions: of whole episodes, or of a number of steps."""
    name = next(name for name in FILES if d4rl.make(name).name == task)
    simulator = environments.make(f"d4rl/{name}").make()
    rng = np.random.default_rng(0)
    space = simulator.action_space
    returns = []
    seed = 0
    while len(returns) < episodes:
        observation, _ = simulator.reset(seed=seed)
        seed += 1
        if not starts(observation):
            continue
        rewards, ended = [], False
        while not ended if steps is None else len(rewards) < steps:
            action = rng.uniform(space.low, space.high).astype(np.float32)
            _, reward, terminated, truncated, _ = simulator.step(action)
            rewards.append(reward)
            ended = terminated or truncated
        returns.append(sum(rewards))
    return np.array(returns)


def assert_same_mean(returns, reference, reference_episodes=REFERENCE_EPISODES):
    """The reference, a sample mean, lies in an interval that holds with 95 % for all tasks together."""
    spread = np.std(returns, ddof=1) * np.sqrt(1 / len(returns) + 1 / reference_episodes)
    # Each of 15 tasks exceeds it with probability at most 0.05 / 15: 2.9 standard deviations.
    assert abs(np.mean(returns) - reference) <= 2.9 * spread


def test_every_task_is_compared_with_its_reference():
    assert EPISODES.keys() | REFERENCES_OF_SOMETHING_ELSE == d4rl.REFERENCE_RETURNS.keys()


@pytest.mark.parametrize("task", EPISODES)
def test_random_actions_score_0(task):
    assert_same_mean(random_returns(task, EPISODES[task]), d4rl.REFERENCE_RETURNS[task].random)


def test_the_reference_of_ant_is_of_1000_steps_whatever_ends():
    reference = d4rl.REFERENCE_RETURNS["ant"].random
    assert_same_mean(random_returns("ant", 6, steps=1000), reference)
    # An episode that ends where the ant has fallen has a smaller cost.
    assert np.mean(random_returns("ant", 10)) > reference + 200


def test_random_actions_in_hopper_return_what_they_do_in_the_data_of_d4rl():
    # hopper-random-v1: 45,264 episodes with a mean return of 18.307. The reference is -20.3.
    assert_same_mean(random_returns("hopper", 100), 18.307, reference_episodes=45_264)


@pytest.mark.parametrize("task", ["maze2d-open", "maze2d-open-dense"])
def test_the_reference_of_the_open_maze_is_of_50_steps_from_elsewhere(task):
    def away(observation):
        return np.linalg.norm(observation[:2] - (2, 3)) > 0.5

    returns = random_returns(task, 200, steps=50, starts=away)
    reference = d4rl.REFERENCE_RETURNS[task].random
    if task.endswith("dense"):
        assert_same_mean(returns, reference)
    else:  # about one step at the goal in a hundred episodes, too few for an interval
        assert np.mean(returns) < 0.1
        assert reference < 0.1


@pytest.mark.slow
def test_random_actions_do_little_in_the_kitchen():
    # In 100 episodes they completed 5 of 400 subtasks.
    returns = random_returns("kitchen-complete", 10)
    assert np.mean(returns) <= 0.3


@pytest.mark.parametrize(
    ("name", "size", "actions", "steps"),
    [
        ("halfcheetah-medium-v2", 17, 6, 1000),
        ("hopper-medium-replay-v2", 11, 3, 1000),
        ("walker2d-expert-v0", 17, 6, 1000),
        ("ant-random-v2", 111, 8, 1000),
        ("antmaze-umaze-diverse-v2", 29, 8, 700),
        ("antmaze-large-play-v2", 29, 8, 1000),
        ("pen-human-v1", 45, 24, 100),
        ("hammer-cloned-v1", 46, 26, 200),
        ("door-expert-v0", 39, 28, 200),
        ("relocate-human-v0", 39, 30, 200),
        ("maze2d-open-dense-v0", 4, 2, 150),
        ("maze2d-umaze-v1", 4, 2, 300),
        ("maze2d-medium-v1", 4, 2, 600),
        ("maze2d-large-dense-v1", 4, 2, 800),
        ("kitchen-complete-v0", 60, 9, 280),
    ],
)
def test_d4rl_sizes(name, size, actions, steps):
    environment = environments.make(f"d4rl/{name}").make()
    observation, _ = environment.reset(seed=0)
    assert observation.shape == environment.observation_space.shape == (size,)
    assert environment.action_space.shape == (actions,)
    limit = environment
    while not hasattr(limit, "_max_episode_steps"):
        limit = limit.env
    assert limit._max_episode_steps == steps


@pytest.mark.parametrize(
    ("maze", "corner", "shape"),
    [("umaze", (0, 8), (5, 5)), ("medium-play", (20, 20), (8, 8)), ("large-diverse", (32, 24), (9, 12))],
)
def test_antmaze_start_and_goal_are_d4rls(maze, corner, shape):
    # Cells are 4 apart and cell (1, 1) is the origin, so cell (row, column) lies at 4 (column - 1, row - 1).
    environment = environments.make(f"d4rl/antmaze-{maze}-v2").make()
    starts, goals = [], []
    for seed in range(20):
        observation, _ = environment.reset(seed=seed)
        starts.append(observation[:2])
        goals.append(environment.unwrapped.cur_goal_xy)
    assert environment.unwrapped.maze_map.shape == shape
    assert np.max(np.abs(starts)) <= 0.1  # only the ant's reset noise
    offsets = np.array(goals) - corner
    assert offsets.min() >= 0
    assert offsets.max() <= 1.5
    assert offsets.std() > 0.1


def test_antmaze_ends_at_the_goal_with_reward_one():
    environment = environments.make("d4rl/antmaze-medium-diverse-v2").make()
    environment.reset(seed=0)
    environment.unwrapped.set_xy(environment.unwrapped.cur_goal_xy)
    _, reward, terminated, _, info = environment.step(np.zeros(8, np.float32))
    assert (reward, terminated, info["success"]) == (1.0, True, 1.0)


def test_d4rl_scores_put_random_at_0_and_expert_at_100():
    hopper = environments.make("d4rl/hopper-medium-v2")
    assert hopper.metric == "normalized_score"
    assert hopper.score(-20.272305, False) == 0
    assert hopper.score(3234.3, False) == 100
    # 100 (1500 + 20.272305) / (3234.3 + 20.272305) = 152027.2305 / 3254.572305
    assert hopper.score(1500.0, False) == pytest.approx(46.71189, abs=1e-5)
    assert environments.make("d4rl/antmaze-large-play-v2").score(1.0, True) == 100


def test_pen_ends_when_the_pen_has_fallen():
    environment = environments.make("d4rl/pen-human-v1").make()
    height = environment.unwrapped.data.body("Object").xpos
    rng = np.random.default_rng(0)
    dropped = 0
    for seed in range(5):
        environment.reset(seed=seed)
        terminated = truncated = False
        while not (terminated or truncated):
            assert height[2] >= 0.075
            _, _, terminated, truncated, _ = environment.step(rng.uniform(-1, 1, 24))
        assert terminated == (height[2] < 0.075)
        dropped += terminated
    assert dropped


def test_walls_of_maze2d_lie_where_d4rl_has_them():
    # Walls end half a cell from their centre, which is 1 for row 0 and 3 for row 2. The ball's origin is 1.2
    # and its radius 0.1: 1.5 + 0.1 - 1.2 = 0.4 and 2.5 - 0.1 - 1.2 = 1.2.
    environment = environments.make("d4rl/maze2d-umaze-v1").make()
    environment.reset(seed=0)
    for push, limit in ((-1, 0.4), (1, 1.2)):
        environment.unwrapped.set_state(np.array([1.0, 1.0]), np.zeros(2))
        for _ in range(100):
            observation = environment.step(np.array([push, 0.0], np.float32))[0]
        np.testing.assert_allclose(observation[:2], [limit, 1], atol=0.02)


@pytest.mark.parametrize(("maze", "goal"), [("umaze", (1, 1)), ("medium", (6, 6)), ("large", (7, 9))])
def test_maze2d_rewards_each_step_near_the_goal(maze, goal):
    sparse = environments.make(f"d4rl/maze2d-{maze}-v1").make()
    dense = environments.make(f"d4rl/maze2d-{maze}-dense-v1").make()
    for distance, reward in ((0.0, 1.0), (0.49, 1.0), (0.51, 0.0)):
        for environment, expected in ((sparse, reward), (dense, np.exp(-distance))):
            environment.reset(seed=0)
            environment.unwrapped.set_state(
                np.array([goal[0] - distance / 2**0.5, goal[1] - distance / 2**0.5]), np.zeros(2)
            )
            _, given, terminated, _, info = environment.step(np.zeros(2, np.float32))
            assert given == pytest.approx(expected)
            assert (terminated, info["success"]) == (False, bool(reward))


def test_kitchen_rewards_each_thing_once_and_ends_with_the_last():
    environment = environments.make("d4rl/kitchen-mixed-v0").make()
    observation, _ = environment.reset(seed=0)
    state = environment.unwrapped.data.qpos
    # A tenth of the sensors' noise: 0.1 for joints, at least 0.0005 for objects.
    assert 0 < np.abs(observation[:9] - state[:9]).max() <= 0.01
    assert 0 < np.abs(observation[11:17] - state[11:17]).max() <= 0.00005
    goal = observation[30:]
    np.testing.assert_array_equal(np.flatnonzero(goal), [11, 12, 17, 18, 22, 23, 24, 25, 26, 29])

    def put(where):
        changed = state.copy()
        changed[where] = goal[where]
        environment.unwrapped.set_state(changed, np.zeros(29))
        return environment.step(np.zeros(9, np.float32))[1:3]

    assert put([22]) == (1, False)
    assert put([22]) == (0, False)
    assert put([11, 12, 17, 18, *range(23, 30)]) == (3, True)
