"""Domains of dm_control: rewards of states, compared with dm_control's tasks and with values by hand."""

import importlib

import numpy as np
import pytest

from valuelab import domains
from valuelab.domains import tasks
from valuelab.errors import InputError

dm_control = pytest.importorskip("dm_control", reason="the domains are dm_control's")


def visited(domain, count=60):
    """The states of an episode of random actions, and their simulator."""
    simulator, random = domains.Simulator(domain), np.random.default_rng(0)
    simulator.reset(0)
    states = []
    for _ in range(count):
        simulator.step(random.uniform(-1, 1, simulator.domain.action_dim))
        states.append(simulator.state())
    positions, velocities, _ = np.split(np.stack(states), np.cumsum(simulator.domain.sizes)[:2], axis=1)
    return (
        simulator,
        positions,
        3 * velocities,
    )  # faster than with random actions, so that speeds affect rewards


@pytest.mark.parametrize(
    ("domain", "names"),
    [("walker", ("stand", "walk", "run")), ("cheetah", ("run",)), ("quadruped", ("walk", "run"))],
)
def test_rewards_are_those_of_dm_controls_tasks(domain, names):
    _, positions, velocities = visited(domain)
    rewards = domains.rewards(domain, positions, velocities, names)
    suite = importlib.import_module(f"dm_control.suite.{domain}")
    for name in names:
        theirs = getattr(suite, name)()
        expected = []
        for state in zip(positions, velocities, strict=True):
            with theirs.physics.reset_context():
                theirs.physics.data.qpos[:], theirs.physics.data.qvel[:] = state
            expected.append(theirs.task.get_reward(theirs.physics))
        assert np.ptp(expected) > 0.01
        np.testing.assert_allclose(rewards[name], expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("domain", domains.DOMAINS)
def test_labels_equal_the_rewards_of_the_simulator(domain):
    simulator, random = domains.Simulator(domain), np.random.default_rng(1)
    simulator.reset(3)
    states, given = [], []
    for step in range(12):
        action = random.uniform(-1, 1, simulator.domain.action_dim) * (step != 11)
        simulator.step(action)
        states.append(simulator.state())
        given.append([simulator.reward(task) for task in simulator.domain.tasks])
    assert len(states[0]) == sum(simulator.domain.sizes)
    positions, velocities, _ = np.split(np.stack(states), np.cumsum(simulator.domain.sizes)[:2], axis=1)
    labels = np.stack(list(domains.rewards(domain, positions, velocities).values()), axis=1)
    # A fifth of the maze's rewards is for small controls, which states do not hold; they count as 0.
    rows = slice(-1, None) if domain == "point_mass_maze" else slice(None)
    np.testing.assert_allclose(labels[rows], np.array(given)[rows], rtol=0, atol=1e-9)


def test_rewards_by_hand():
    # Height 0.9 is half of the margin 0.6 below its goal: 0.1^(1/4) = 0.562341; upside down: (3 · 0.562341) /
    # 4.
    walker = {"height": 0.9, "upright": -1.0, "speed": 0.5, "spin": 2.5}
    stand = 3 * 0.1**0.25 / 4
    # walk: 0.5 m/s below 1 is one margin, which gives 0.5. run: 7.5 below 8 with margin 4 gives
    # 1 - 0.5 · 7.5 / 4 = 0.0625. flip: half-way to 5.
    for task, moving in (("walk", 0.5), ("run", 0.0625), ("flip", 0.5)):
        assert reward("walker", task, walker) == pytest.approx(stand * (5 * moving + 1) / 6)
    assert reward("walker", "stand", walker) == pytest.approx(stand)
    cheetah = {"speed": -4.0, "spin": 3.0}
    expected = {"run": 0.0, "run_backward": 0.4, "flip": 0.6, "flip_backward": 0.0}
    assert {task: reward("cheetah", task, cheetah) for task in expected} == pytest.approx(expected)
    # Lying on its side gives 0.5; a quantity of 0 multiplies this by a half.
    quadruped = {"height": 0.5, "upright": 0.0, "speed": 0.0}
    expected = {"stand": 0.5, "walk": 0.25, "run": 0.25, "jump": 0.375}
    assert {task: reward("quadruped", task, quadruped) for task in expected} == pytest.approx(expected)
    # One radius beyond the target's edge gives 0.1; full control, 1 - 1² = 0, takes away a fifth of it.
    maze = {"position": np.array([0.15 + 0.03, 0.15]), "control": np.ones(2)}
    assert reward("point_mass_maze", "reach_top_right", maze) == pytest.approx(0.1 * 4 / 5)
    maze = {"position": np.array([0.15, -0.15]), "control": np.array([0.5, 0.0])}
    assert reward("point_mass_maze", "reach_bottom_right", maze) == pytest.approx((4 + 0.875) / 5)


def reward(domain, task, quantities) -> float:
    return float(tasks.TASKS[domain][task]({name: np.array(value) for name, value in quantities.items()}))


def test_walls_of_the_maze_are_where_exorl_has_them():
    simulator = domains.Simulator("point_mass_maze")
    starts = np.stack([simulator.reset(seed)[:2] for seed in range(50)])
    assert (starts[:, 0] >= -0.29).all()
    assert (starts[:, 0] <= -0.15).all()
    assert (starts[:, 1] >= 0.15).all()
    assert (starts[:, 1] <= 0.29).all()
    for start, action, end in (
        ([-0.2, 0.1], (1, 0), -0.03),  # the bar along y is 0.04 thick, and the mass 0.02
        ([-0.2, 0.25], (1, 0), 0.29),  # next to the bar the path is free
        ([-0.1, -0.2], (0, 1), -0.03),  # the bar along x
    ):
        simulator.reset(0)
        simulator.place(np.array(start), np.zeros(2))
        for _ in range(400):
            simulator.step(np.array(action, float))
        assert simulator.state()[:2][np.argmax(action)] == pytest.approx(end, abs=0.004)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("wlker-rnd", "unknown ExoRL domain 'wlker': did you mean 'walker'"),
        ("walker", "unknown ExoRL dataset 'walker'"),
        ("walker-rnd-rum", "unknown task of walker 'rum': did you mean 'run'"),
        ("walker-rnd:many", "dataset exorl/walker-rnd:many ends in 'many': .*exorl/walker-rnd:1000"),
        ("walker-rnd:0", "ends in '0'"),
    ],
)
def test_invalid_names_are_refused(name, message):
    with pytest.raises(InputError, match=message):
        domains.parse(name)


def test_names():
    assert domains.parse("point_mass_maze-icm_apt-reach_top_left:30") == (
        "point_mass_maze",
        "icm_apt",
        "reach_top_left",
        0,
        30,
    )
    assert domains.parse("walker-rnd") == ("walker", "rnd", "", 0, None)


def test_names_of_images():
    assert domains.parse("walker-rnd-run@64:10") == ("walker", "rnd", "run", 64, 10)
    for size in ("", "8", "big"):
        with pytest.raises(InputError, match="after the @: give the height and width of its images"):
            domains.parse(f"walker-rnd@{size}")
