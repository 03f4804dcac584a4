"""Finite MDPs and stock grids: building, refusals, bounds of returns, and reachable stocks."""

import itertools

import jax
import numpy as np
import pytest

from valuelab.distributional import mdps, stock_grids
from valuelab.errors import InputError


def dense():
    """Two states and a terminal one; in state 0, action 0 either stays (reward 0) or moves on (reward 1)."""
    transitions = np.zeros((3, 2, 3))
    transitions[0] = [[0.5, 0.5, 0], [0, 0, 1]]
    transitions[1] = [[0, 1, 0], [0, 0.25, 0.75]]
    transitions[2] = [[0, 0, 1], [0, 0, 1]]
    rewards = np.arange(18.0).reshape(3, 2, 3)
    rewards[2] = 0
    return transitions, rewards


def random_mdp(seed, dim=1):
    """Three states, two actions and two outcomes each; some outcomes have probability 0."""
    random = np.random.default_rng(seed)
    probabilities = random.dirichlet([1.0, 1.0], size=(3, 2))
    probabilities[random.random((3, 2)) < 0.3] = [1, 0]
    next_states = random.integers(0, 3, (3, 2, 2)).astype(np.int32)
    return mdps.MDP(probabilities, next_states, random.normal(size=(3, 2, 2, dim)), np.zeros(3, bool))


def all_returns(mdp, state, discount, steps):
    """The returns of all paths of positive probability: [n, m]."""
    if steps == 0:
        return [np.zeros(mdp.reward_dim)]
    return [
        mdp.rewards[state, action, outcome] + discount * rest
        for action, outcome in itertools.product(*map(range, mdp.probabilities.shape[1:]))
        if mdp.probabilities[state, action, outcome] > 0
        for rest in all_returns(mdp, mdp.next_states[state, action, outcome], discount, steps - 1)
    ]


def test_dense_matrices_become_lists_of_outcomes():
    mdp = mdps.from_dense(*dense())
    assert mdp.probabilities.shape == (3, 2, 2)  # no pair has more than two successors
    np.testing.assert_array_equal(mdp.probabilities[0], [[0.5, 0.5], [1, 0]])
    np.testing.assert_array_equal(mdp.next_states[:2, :, 0], [[0, 2], [1, 1]])
    np.testing.assert_array_equal(mdp.rewards[0, 0, :, 0], [0, 1])
    np.testing.assert_array_equal(mdp.rewards[1, 1, :, 0], [10, 11])
    assert mdp.rewards[0, 1, 1, 0] == 0  # never happens
    np.testing.assert_array_equal(mdp.terminal, [False, False, True])
    assert (mdp.num_states, mdp.num_actions, mdp.reward_dim) == (3, 2, 1)
    mdps.validate(mdp, 1.0)


def test_rewards_may_be_random_for_one_successor(tmp_path):
    """State 0 leads to state 1 with a reward of 1 or 3."""
    arrays = {
        "next_states": np.array([[[1, 1]], [[0, 0]]]),
        "rewards": np.array([[[1.0, 3.0]], [[0.0, 0.0]]]),
        "probabilities": np.array([[[0.25, 0.75]], [[0.0, 0.0]]]),
        "terminal": np.array([False, True]),
    }
    expected = mdps.from_outcomes([[[(0.25, 1, 1.0), (0.75, 1, 3.0)]], [[]]], arrays["terminal"])
    np.savez(tmp_path / "mdp.npz", **arrays)
    jax.tree.map(np.testing.assert_array_equal, mdps.load(tmp_path / "mdp.npz"), expected)
    for name, value, message in [
        (
            "next_states",
            np.array([[[1, 2]], [[0, 0]]]),
            r"next_states\[0, 0, 1\] is 2; give a state from 0 to 1",
        ),
        ("next_states", np.zeros((2, 1)), r"next_states has dtype float64 and shape \(2, 1\); give integers"),
        ("rewards", np.zeros((2, 1)), r"rewards has shape \(2, 1\); give \(2, 1, 2\) or"),
        ("probabilities", np.array([[[0.5, 0.6]], [[1, 0]]]), r"probabilities\[0, 0\] sums to 1.1, not 1"),
        ("terminal", np.zeros(2), r"terminal has shape \(2,\) and dtype float64"),
    ]:
        np.savez(tmp_path / "bad.npz", **arrays | {name: value})
        with pytest.raises(InputError, match=f"bad.npz: {message}"):
            mdps.load(tmp_path / "bad.npz")
    np.savez(tmp_path / "bad.npz", next_states=arrays["next_states"], rewards=arrays["rewards"])
    with pytest.raises(
        InputError, match=r"bad.npz: probabilities is missing; the file has next_states, rewards"
    ):
        mdps.load(tmp_path / "bad.npz")


def test_states_that_episodes_can_visit():
    """State 0 leads to 1, 1 to the terminal state 2 with probability 0 or to itself; 3 leads everywhere."""
    rows = [[[(1.0, 1, 1.0)]], [[(1.0, 1, 0.0), (0.0, 2, 0.0)]], [[]], [[(0.5, 0, 1.0), (0.5, 2, 0.0)]]]
    mdp = mdps.from_outcomes(rows, np.array([False, False, True, False]))
    for state, expected in enumerate(([0, 1], [1], [2], [0, 1, 2, 3])):
        np.testing.assert_array_equal(np.flatnonzero(mdps.reachable_states(mdp, state)), expected)
    ended = mdps.end_in(mdp, np.arange(4) == 3)
    np.testing.assert_array_equal(ended.terminal, [False, False, True, True])
    assert not ended.rewards[3].any()
    mdps.validate(ended, 1.0)


@pytest.mark.parametrize(
    ("outcomes", "message"),
    [
        ([], "outcomes has 0 states and no outcome; give a list of"),
        (
            [[[(0.5, 0, [1.0, 2.0]), (0.5, 0, 0.0)]]],
            "rewards of outcomes have 1 and 2 components; give one number for each outcome",
        ),
        ([[]], "outcomes has 1 states and no outcome"),
        (
            [[[(1.0, 0.5, 0.0)]]],
            r"outcomes\[0\]\[0\]\[0\] is \(1.0, 0.5, 0.0\); give a probability, the whole",
        ),
        (
            [[[(1.0, 0, 0.0)], [(1.0, 0, 0.0)]], [[(1.0, 0, 0.0)]]],
            r"outcomes\[1\] has 1 actions, but outcomes\[0\] has 2",
        ),
        ([[[(1.0, 0)]]], r"outcomes\[0\]\[0\]\[0\] is \(1.0, 0\); give \(probability, next state, reward\)"),
    ],
)
def test_bad_lists_of_outcomes_are_refused(outcomes, message):
    with pytest.raises(InputError, match=message):
        mdps.from_outcomes(outcomes)


def test_terminal_states_may_have_empty_rows_and_give_nothing():
    transitions, rewards = dense()
    transitions[1], rewards[1] = 0, 7
    mdp = mdps.from_dense(transitions, np.stack([rewards, -rewards], -1), np.array([False, True, True]))
    np.testing.assert_array_equal(mdp.probabilities[1], [[1, 0], [1, 0]])
    np.testing.assert_array_equal(mdp.next_states[1, :, 0], [1, 1])
    assert not mdp.rewards[1].any()
    np.testing.assert_array_equal(mdp.rewards[0, 0, 1], [1, -1])


@pytest.mark.parametrize(
    ("array", "index", "value", "message"),
    [
        ("transitions", (1, 1, 2), 0.7, r"transitions\[1, 1\] sums to 0.95, not 1; normalise"),
        ("transitions", (0, 1, 0), -0.5, r"transitions\[0, 1, 0\] is -0.5; a probability cannot be negative"),
        ("transitions", (0, 0, 0), np.nan, r"transitions\[0, 0, 0\] is nan; every entry must be a finite"),
        ("rewards", (2, 1, 0), np.inf, r"rewards\[2, 1, 0\] is inf; every entry must be a finite number"),
        ("transitions", ..., np.zeros((3, 2, 2)), r"transitions has shape \(3, 2, 2\); give \[S, A, S\]"),
        ("transitions", ..., np.float64(3), r"transitions has shape \(\); give \[S, A, S\]"),
        (
            "rewards",
            ...,
            np.zeros((3, 2)),
            r"rewards has shape \(3, 2\); give \(3, 2, 3\) or \(3, 2, 3, 'm'\)",
        ),
        ("rewards", ..., np.full((3, 2, 3), "a"), "rewards has dtype <U1; give floats"),
        (
            "terminal",
            ...,
            np.zeros(2, bool),
            r"terminal has shape \(2,\) and dtype bool; give \(3,\) and bool",
        ),
        ("terminal", ..., np.zeros(3), r"terminal has shape \(3,\) and dtype float64; give \(3,\) and bool"),
    ],
)
def test_bad_matrices_are_refused_by_index_and_value(array, index, value, message, tmp_path):
    transitions, rewards = dense()
    arrays = {"transitions": transitions, "rewards": rewards, "terminal": np.array([False, False, True])}
    if index is ...:
        arrays[array] = value
    else:
        arrays[array][index] = value
    with pytest.raises(InputError, match=f"^{message}"):
        mdps.from_dense(**arrays)
    np.savez(tmp_path / "mdp.npz", **arrays)
    with pytest.raises(InputError, match=f"mdp.npz: {message}"):
        mdps.load(tmp_path / "mdp.npz")


def test_files_are_read_as_they_were_written(tmp_path):
    transitions, rewards = dense()
    np.savez(tmp_path / "mdp.npz", transitions=transitions.astype(np.float32), rewards=rewards)
    jax.tree.map(np.testing.assert_array_equal, mdps.load(tmp_path / "mdp.npz"), mdps.from_dense(*dense()))


def test_unreadable_files_are_refused(tmp_path):
    path = tmp_path / "mdp.npz"
    with pytest.raises(InputError, match=r"mdp.npz: the file does not exist"):
        mdps.load(path)
    path.write_bytes(b"no archive")
    with pytest.raises(InputError, match=r"mdp.npz: not a readable .npz"):
        mdps.load(path)
    with path.open("wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(InputError, match=r"mdp.npz: not a readable .npz"):
        mdps.load(path)
    np.savez_compressed(path, transitions=np.arange(1000.0))
    path.write_bytes(path.read_bytes().replace(b"\x00", b"\x01"))
    with pytest.raises(InputError, match=r"mdp.npz: not a readable .npz"):
        mdps.load(path)
    np.savez(path, transitions=np.array([None]), rewards=np.zeros(1))
    with pytest.raises(InputError, match=r"mdp.npz: not a readable .npz \(Object arrays"):
        mdps.load(path)
    np.savez(path, transitions=np.zeros(1))
    with pytest.raises(
        InputError, match=r"mdp.npz: rewards is missing; the file has transitions: add rewards"
    ):
        mdps.load(path)
    np.savez(path, transition=np.zeros(1), rewards=np.zeros(1))
    with pytest.raises(
        InputError, match=r"unknown array in .*mdp.npz 'transition': did you mean 'transitions'"
    ):
        mdps.load(path)


def test_mdps_built_by_hand_are_validated_too():
    mdp = mdps.from_dense(*dense())
    for discount in (0.0, 1.5, -1.0, np.nan):
        with pytest.raises(InputError, match=rf"discount is {discount}; give a number in \(0, 1\]"):
            mdps.validate(mdp, discount)
    mdp.next_states[1, 1, 0] = 3
    with pytest.raises(InputError, match=r"next_states\[1, 1, 0\] is 3; give a state from 0 to 2"):
        mdps.validate(mdp, 1.0)
    with pytest.raises(InputError, match=r"probabilities\[0, 0\] sums to 0.9, not 1"):
        mdps.from_outcomes([[[(0.5, 0, 1.0), (0.4, 1, 1.0)]], [[]]], np.array([False, True]))


@pytest.mark.parametrize("seed", range(3))
def test_return_bounds_of_a_finite_horizon_are_those_of_all_paths(seed):
    mdp = random_mdp(seed, dim=2)
    low, high = mdps.return_bounds(mdp, 0.9, 4)
    for state in range(3):
        returns = np.array(all_returns(mdp, state, 0.9, 4))
        np.testing.assert_allclose(low[state], returns.min(0), rtol=1e-12)
        np.testing.assert_allclose(high[state], returns.max(0), rtol=1e-12)


def test_return_bounds_of_an_infinite_horizon():
    mdp = mdps.from_dense(*dense())
    low, high = mdps.return_bounds(mdp, 0.9)
    # State 1 can stay with reward 7 or 10 forever: 10 / (1 - 0.9) = 100. At worst it gets 11 once and ends,
    # state 0 stays with reward 0; at best state 0 gains 1 and then 0.9 * 100.
    np.testing.assert_allclose(high[:, 0], [91, 100, 0], rtol=1e-8)
    assert (high[:, 0] >= [91, 100, 0]).all()
    np.testing.assert_allclose(low[:, 0], [0, 11, 0], atol=1e-6)
    low, high = mdps.return_bounds(mdp, 1.0)
    np.testing.assert_array_equal(high[:, 0], [np.inf, np.inf, 0])
    np.testing.assert_array_equal(low[:, 0], [0, 11, 0])
    # If all paths end, the horizon does not matter.
    ends = mdps.from_outcomes([[[(0.5, 1, -1.0), (0.5, 2, 5.0)]], [[(1.0, 2, -2.0)]], [[]]])
    for horizon in (None, 2, 3):
        low, high = mdps.return_bounds(ends, 1.0, horizon)
        np.testing.assert_array_equal((low[:, 0], high[:, 0]), [(-3, -2, 0), (5, -2, 0)])


def test_episodes_are_bounded_unless_there_is_a_cycle():
    ends = mdps.from_outcomes([[[(0.5, 1, 0.0), (0.5, 2, 0.0)]], [[(1.0, 2, -2.0)]], [[]]])
    assert mdps.episode_bound(ends) == 2
    assert mdps.episode_bound(mdps.from_dense(*dense())) is None
    # A cycle of probability 0 does not count.
    assert mdps.episode_bound(mdps.from_outcomes([[[(1.0, 1, 1.0), (0.0, 0, 1.0)]], [[]]])) == 1


# Stocks.


def locate(grid, points):
    return jax.jit(lambda points: stock_grids.locate(grid, points))(points)


def test_stocks_are_split_among_their_neighbours():
    grid = stock_grids.from_points([0.0, 1.0, 3.0], [-1.0, 1.0])
    assert (grid.shape, grid.size) == ((3, 2), 6)
    np.testing.assert_array_equal(grid.stocks[:3], [[0, -1], [0, 1], [1, -1]])
    # 2 is half way from 1 to 3, 0.5 three quarters of the way from -1 to 1; points are row * 2 + column.
    indices, weights, outside = locate(grid, np.array([[2.0, 0.5], [0.0, 5.0]], np.float32))
    np.testing.assert_array_equal(indices, [[2, 3, 4, 5], [0, 1, 2, 3]])
    np.testing.assert_allclose(weights, [[0.125, 0.375, 0.125, 0.375], [0, 1, 0, 0]])
    np.testing.assert_array_equal(outside, [False, True])


def test_even_spacing_changes_speed_alone():
    points = np.linspace(-1.7, 2.3, 14)
    values = np.random.default_rng(0).uniform(-2, 3, (50, 1))
    with jax.enable_x64(True):
        even = locate(stock_grids.from_points(points), values)
        other = jax.jit(stock_grids.locate)(stock_grids.StockGrid((points,)), values)  # points are traced
        assert even[1].dtype == np.float64
        jax.tree.map(lambda one, two: np.testing.assert_allclose(one, two, atol=1e-12), even, other)
        kept = (points[even[0]] * even[1]).sum(-1)
        np.testing.assert_allclose(kept, values[:, 0].clip(-1.7, 2.3), rtol=1e-12)
        np.testing.assert_array_equal(even[2], np.abs(values[:, 0] - 0.3) > 2)
        # A grid of one point takes all stocks, and reports those outside.
        _, weights, outside = locate(stock_grids.from_points([0.5]), np.array([[0.5], [0.6]]))
        np.testing.assert_array_equal(weights.sum(-1), [1, 1])
        np.testing.assert_array_equal(outside, [False, True])


def test_invalid_stock_grids_are_refused():
    with pytest.raises(
        InputError, match=r"stock grid, dimension 1: point 2 is 1.0; points must be finite and"
    ):
        stock_grids.from_points([0.0], [0.0, 2.0, 1.0])
    with pytest.raises(InputError, match="stock grid, dimension 0: point 1 is nan"):
        stock_grids.from_points([0.0, np.nan])
    with pytest.raises(
        InputError, match=r"stock grid, dimension 0: shape is \(0,\); give one or more points"
    ):
        stock_grids.from_points([])
    with pytest.raises(InputError, match="stock grid, dimension 0: size is 0; give at least 1"):
        stock_grids.uniform([0.0], [1.0], [0])
    with pytest.raises(
        InputError, match=r"stock grid, dimension 0: point 1 is 0.0; points must be finite and rise"
    ):
        stock_grids.uniform([0.0], [0.0], [3])
    np.testing.assert_array_equal(stock_grids.uniform([0.0], [1.0], [3]).points[0], [0, 0.5, 1])


def test_reachable_stocks_are_those_of_all_paths():
    mdp = random_mdp(1)
    grids = stock_grids.reachable(mdp, [0.0, -1.0], 0.8, 3)
    np.testing.assert_array_equal(grids[0].points[0], [-1, 0])
    returns = [gain for state in range(3) for gain in np.ravel(all_returns(mdp, state, 0.8, 3))]
    # c_0 + G = γ³ c_3 for the return G of three steps.
    expected = np.unique(np.round([(stock + gain) / 0.8**3 for stock in (0, -1) for gain in returns], 9))
    np.testing.assert_allclose(grids[3].points[0], expected, atol=1e-8)


def test_reachable_stocks_end_with_the_episodes_and_do_not_explode():
    ends = mdps.from_outcomes([[[(0.5, 1, -1.0), (0.5, 1, 5.0)]], [[]]])
    grids = stock_grids.reachable(ends, [0.0], 1.0, 3)
    np.testing.assert_array_equal([grid.points[0] for grid in grids[1:]], [[-1, 5]] * 3)
    with pytest.raises(
        InputError, match="10 stocks can be reached at stage 1, but the limit is 9; give a stock grid"
    ):
        stock_grids.reachable(random_mdp(0), [0.0], 1.0, 3, limit=9)
    with pytest.raises(InputError, match="rewards have 2 components, but reachable stocks need 1"):
        stock_grids.reachable(random_mdp(0, dim=2), [0.0], 1.0, 3)
