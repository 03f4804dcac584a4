"""ExoRL's episode files: reading, refused faults, environments, and collecting."""

import numpy as np
import pytest

from valuelab import data, domains, environments
from valuelab.data.collection import exploration
from valuelab.data.sources import exorl
from valuelab.errors import InputError
from valuelab.runs import random_network_distillation

T = 4


def write_episode(data_dir, number=0, domain="walker", explorer="rnd", **changes):
    """An episode of T steps. In row t all observations are t + 100 n, and the reward is t."""
    facts, rows = domains.DOMAINS[domain], np.arange(T + 1)[:, None]
    arrays = {
        "observation": np.tile(rows + 100 * number, facts.observation_dim).astype(np.float32),
        "action": np.tile(rows / 10, facts.action_dim).astype(np.float32),
        "reward": rows.astype(np.float32),
        "discount": np.ones((T + 1, 1), np.float32),
        "physics": np.tile(rows / 10, sum(facts.sizes)),
    }
    path = data_dir / "exorl" / domain / explorer / "buffer" / f"episode_{number:06d}_{T}.npz"
    path.parent.mkdir(parents=True, exist_ok=True)
    kept = {key: array for key, array in (arrays | changes).items() if array is not None}
    np.savez_compressed(path, **kept)
    return path


def test_rows_become_transitions(tmp_path):
    for number in range(2):
        write_episode(tmp_path, number)
    compact = data.load("exorl/walker-rnd", tmp_path, compact=True)
    assert compact.name == "exorl/walker-rnd"
    np.testing.assert_array_equal(np.flatnonzero(compact.terminals), [T, 2 * T + 1])
    full = data.load("exorl/walker-rnd", tmp_path)
    # Row t holds the action that led from observation t - 1 to observation t.
    np.testing.assert_array_equal(full.observations[:, 0], [0, 1, 2, 3, 100, 101, 102, 103])
    np.testing.assert_array_equal(full.next_observations[:, 5], [1, 2, 3, 4, 101, 102, 103, 104])
    np.testing.assert_allclose(full.actions[:, 5], [0.1, 0.2, 0.3, 0.4] * 2, rtol=1e-6)
    np.testing.assert_array_equal(full.rewards, [1, 2, 3, 4] * 2)
    np.testing.assert_array_equal(full.masks, np.ones(2 * T))
    np.testing.assert_array_equal(full.terminals, [0, 0, 0, 1] * 2)
    assert (full.observations.dtype, full.actions.shape) == (np.float32, (2 * T, 6))
    np.testing.assert_array_equal(full.action_high, np.ones(6))
    assert not full.goal_conditioned


def test_actions_of_all_episodes_are_clipped_together(tmp_path, caplog):
    for number in range(2):
        write_episode(tmp_path, number, action=np.full((T + 1, 6), 1.5))
    dataset = data.load("exorl/walker-rnd", tmp_path, clip_actions=True)
    assert dataset.actions.max() == 1
    assert caplog.text.count("clipped") == 1


def test_how_many_episodes_are_read(tmp_path, monkeypatch, caplog):
    for number in range(3):
        write_episode(tmp_path, number)
    assert len(data.load("exorl/walker-rnd:2", tmp_path).rewards) == 2 * T
    with pytest.raises(InputError, match=r"exorl/walker-rnd:9 needs 9 episodes, but .*buffer holds 3"):
        data.load("exorl/walker-rnd:9", tmp_path)
    monkeypatch.setattr(exorl, "DEFAULT_EPISODES", 1)
    assert len(data.load("exorl/walker-rnd", tmp_path).rewards) == T
    assert "reading the first 1 of 3 episodes; exorl/walker-rnd:3 reads all of them" in caplog.text


def test_a_tasks_rewards_and_the_states_that_they_are_of(tmp_path):
    write_episode(tmp_path)
    states = exorl.read_states("walker-rnd", tmp_path)
    assert {key: array.shape for key, array in states.items()} == {
        "observations": (T + 1, 24),
        "terminals": (T + 1,),
        "qpos": (T + 1, 9),
        "qvel": (T + 1, 9),
    }
    labels = exorl.task_rewards("walker-rnd", states)
    assert set(labels) == {"stand", "walk", "run", "flip"}
    assert np.ptp(labels["run"]) > 0.01
    dataset = data.load("exorl/walker-rnd-run", tmp_path)
    np.testing.assert_allclose(dataset.rewards, labels["run"][1:], rtol=1e-6)
    assert [exorl.has_task(name) for name in ("walker-rnd", "walker-rnd-run")] == [False, True]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"physics": None}, "key 'physics' is missing; the file has action, discount, observation, reward"),
        ({"reward": np.zeros((T, 1))}, f"reward has {T} rows, but observation has {T + 1}"),
        ({"action": np.full((T + 1, 6), np.nan)}, "action is nan at row 0, but must be finite"),
        ({"action": np.full((T + 1, 6), 1.5)}, "actions is 1.5 at row 0, outside the bounds -1 to 1"),
        ({"action": np.zeros((T + 1, 12))}, r"action has shape \(5, 12\), but walker has \[rows, 6\]"),
        ({"observation": np.zeros((T + 1, 9, 84, 84), np.uint8)}, "observation has shape .* not images"),
        ({"observation": np.array([{}] * 5)}, "cannot be read"),
        ({"discount": np.full((T + 1, 1), 2.0)}, "masks is 2.0 at row 0, outside 0 to 1"),
        ({"physics": np.full((T + 1, 18), np.inf)}, "physics is inf at row 0, but must be finite"),
    ],
)
def test_wrong_contents(changes, message, tmp_path):
    path = write_episode(tmp_path, **changes)
    with pytest.raises(InputError, match=f"{path}.*{message}") as caught:
        data.load("exorl/walker-rnd", tmp_path)
    assert "\n" not in str(caught.value)


def test_what_is_missing(tmp_path):
    with pytest.raises(InputError, match=r"download https://.*/exorl/walker/rnd.zip .* experiments.collect"):
        data.load("exorl/walker-rnd", tmp_path)
    with pytest.raises(InputError, match="unknown explorer 'rdn': did you mean 'rnd'"):
        data.load("exorl/walker-rdn", tmp_path)
    with pytest.raises(InputError, match="unknown split 'val'"):
        data.load("exorl/walker-rnd", tmp_path, split="val")
    path = write_episode(tmp_path)
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(InputError, match=f"{path} cannot be read"):
        data.load("exorl/walker-rnd", tmp_path)


# Environments.


@pytest.mark.parametrize("name", ["exorl/quadruped-rnd", "exorl/point_mass_maze-noise"])
def test_an_episode_depends_on_its_seed_alone(name):
    environment = environments.make(name)
    one, other = environment.make(), environment.make()
    actions = np.random.default_rng(0).uniform(-1, 1, (5, *one.action_space.shape)).astype(np.float32)

    def play(gym, seed, task):
        first, _ = gym.reset(seed=seed, options=environment.tasks[task])
        steps = [gym.step(action) for action in actions]
        assert first.dtype == np.float32
        assert gym.observation_space.contains(steps[-1][0])
        return np.stack([first, *(step[0] for step in steps)]), [step[1] for step in steps]

    names = list(environment.tasks)
    observed, rewards = play(one, 7, names[0])
    play(other, 1, names[0])  # other episodes before the same seed
    np.testing.assert_array_equal(play(other, 7, names[0])[0], observed)
    assert not np.array_equal(play(one, 8, names[0])[0], observed)
    # Tasks of a domain differ only in their rewards.
    again, others = play(one, 7, names[1])
    np.testing.assert_array_equal(again, observed)
    assert others != rewards


@pytest.mark.parametrize("action", [np.full(2, np.nan), np.zeros(1), 0.0])
def test_explorers_act_by_finite_numbers(action):
    with pytest.raises(
        InputError, match=r"explorer's action is .* at step 0 of the episode of seed 3, but must be 2"
    ):
        exploration.play(domains.Simulator("point_mass_maze"), lambda observation: action, 3)


def test_environments_by_name():
    environment = environments.make("exorl/walker-rnd:100")
    assert list(environment.tasks) == ["stand", "walk", "run", "flip"]
    assert (environment.metric, environment.score(712.0, False)) == ("return", 712.0)
    assert environments.make("exorl/walker-rnd-run").tasks == {"default": {"task": "run"}}
    gym = environments.make("dmc/cheetah_run_backward").make()
    gym.reset(seed=0)
    ends = []
    for _ in range(1000):
        _, reward, terminated, truncated, _ = gym.step(np.zeros(6, np.float32))
        ends.append(truncated)
        assert 0 <= reward <= 1
        assert not terminated
    assert ends.index(True) == 999
    with pytest.raises(InputError, match=r"unknown dm_control task 'walker_rum'.*walker_run"):
        environments.make("dmc/walker_rum")


# Collecting.


def files(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.npz"))}


def test_exploring_by_noise_goes_on_where_it_was_stopped(tmp_path):
    name, explorer = "point_mass_maze-noise", exploration.noise("point_mass_maze")
    folder = exploration.collect(name, tmp_path / "one", explorer, episodes=2, seed=3)
    expected = files(folder)
    assert list(expected) == ["episode_000000_1000.npz", "episode_000001_1000.npz"]
    exploration.collect(name, tmp_path / "other", explorer, episodes=1, seed=3)
    assert files(exploration.collect(name, tmp_path / "other", explorer, episodes=2, seed=3)) == expected
    with pytest.raises(InputError, match=r"seed=3, not 4: give the same settings"):
        exploration.collect(name, tmp_path / "one", explorer, episodes=2, seed=4)
    with np.load(folder / "episode_000001_1000.npz", allow_pickle=False) as file:
        assert {key: (file[key].dtype.name, file[key].shape) for key in file} == {
            "observation": ("float32", (1001, 4)),
            "action": ("float32", (1001, 2)),
            "reward": ("float32", (1001, 1)),
            "discount": ("float32", (1001, 1)),
            "physics": ("float64", (1001, 4)),
        }
        actions = file["action"][1:].astype(float)
    assert np.abs(actions).max() == 1
    assert 0.7 < np.corrcoef(actions[:-1, 0], actions[1:, 0])[0, 1] < 0.95  # correlated over time
    dataset = data.load(f"exorl/{name}", tmp_path / "one")
    assert len(dataset.rewards) == 2000


def test_short_episodes_that_start_anywhere(tmp_path):
    name, explorer = "point_mass_maze-noise", exploration.noise("point_mass_maze")
    folder = exploration.collect(name, tmp_path, explorer, episodes=40, seed=3, steps=2, anywhere=True)
    starts = []
    for file in sorted(folder.glob("*.npz")):
        episode = exorl.read_episode(file, "point_mass_maze")
        assert file.name.endswith("_2.npz")
        assert episode["observations"].shape == (3, 4)
        np.testing.assert_allclose(episode["observations"][0], [*episode["qpos"][0], 0, 0], rtol=1e-6)
        starts.append(episode["qpos"][0])
    x, y = np.array(starts).T
    assert {(0, 0), (0, 1), (1, 0), (1, 1)} == set(zip(x > 0, y > 0, strict=True))  # all quarters
    assert (np.abs(starts) <= 0.29).all()
    assert not ((np.abs(starts).max(1) < 0.19) & (np.abs(starts).min(1) < 0.03)).any()  # no start in a wall
    with pytest.raises(
        InputError, match=r"episode_steps=2, not None; anywhere=True, not None: give the same"
    ):
        exploration.collect(name, tmp_path, explorer, episodes=41, seed=3)
    for changes, message in (
        ({"steps": 1001}, r"steps is 1001, but must lie in \[2, 1000\]"),
        ({"anywhere": True}, "episodes of walker start in random poses already: leave out --anywhere"),
    ):
        with pytest.raises(InputError, match=message):
            exploration.collect("walker-noise", tmp_path, exploration.noise("walker"), 1, 0, **changes)


def test_episodes_that_were_published_are_left_alone(tmp_path):
    path = write_episode(tmp_path)
    before = path.read_bytes()
    with pytest.raises(InputError, match="holds episodes that were not collected here"):
        exploration.collect("walker-rnd", tmp_path, exploration.noise("walker"), episodes=2, seed=0)
    with pytest.raises(InputError, match="episodes is 0, but must be at least 1"):
        exploration.collect("walker-rnd", tmp_path, exploration.noise("walker"), episodes=0, seed=0)
    assert path.read_bytes() == before


@pytest.mark.slow
def test_exploring_by_distillation_goes_on_where_it_was_stopped(tmp_path):
    def collect(folder, episodes):
        # A new explorer each time, as in a new process.
        explorer = random_network_distillation.explorer("point_mass_maze", 0, num_updates=5, batch_size=16)
        return exploration.collect("point_mass_maze-rnd", folder, explorer, episodes, seed=0)

    expected = files(collect(tmp_path / "one", 3))
    collect(tmp_path / "other", 1)
    assert files(collect(tmp_path / "other", 3)) == expected


@pytest.mark.slow
def test_images_are_rendered_once_and_seen_by_the_environment(tmp_path, monkeypatch):
    try:
        domains.Simulator("point_mass_maze").image(16)
    except InputError as error:
        pytest.skip(str(error))
    random = np.random.default_rng(0)
    states = np.concatenate([random.uniform(-0.28, -0.1, (T + 1, 2)), np.zeros((T + 1, 2))], axis=1)
    path = write_episode(tmp_path, domain="point_mass_maze", explorer="noise", physics=states)
    dataset = data.load("exorl/point_mass_maze-noise@32", tmp_path, compact=True)
    assert (dataset.observations.shape, dataset.observations.dtype) == ((T + 1, 32, 32, 3), np.uint8)
    assert len(np.unique(dataset.observations.reshape(T + 1, -1), axis=0)) == T + 1  # the mass moves
    monkeypatch.setattr(domains, "images", None)
    again = data.load("exorl/point_mass_maze-noise@32", tmp_path, compact=True)
    np.testing.assert_array_equal(again.observations, dataset.observations)
    labelled = exorl.read_states("point_mass_maze-noise@32", tmp_path)
    np.testing.assert_array_equal(labelled["observations"], dataset.observations)
    np.savez(path.parents[1] / "pixels32" / path.name, images=dataset.observations[:2])
    with pytest.raises(InputError, match="delete the file to render it again"):
        data.load("exorl/point_mass_maze-noise@32", tmp_path)
    environment = environments.make("exorl/point_mass_maze-noise@32").make()
    first, _ = environment.reset(seed=0)
    assert first in environment.observation_space
    assert environment.step(np.ones(2))[0].shape == (32, 32, 3)
