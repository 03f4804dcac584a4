"""The solvers against classic dynamic programming, the oracle, their own bounds, and bad input."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from valuelab.distributional import (
    cells,
    defaults,
    distribution_representations,
    entropic,
    episodes,
    mdps,
    objectives,
    oracle,
    properties,
    return_distributions,
    shortest_paths,
    solvers,
    starts,
    stock_grids,
)
from valuelab.errors import InputError

DISCOUNT = 0.8
HORIZON = 3
INTEGERS = np.arange(-6.0, 7)
"""Returns, and stocks from -6 to 6, of three rewards from -2 to 2."""


@pytest.fixture(autouse=True)
def double_precision():
    with jax.enable_x64(True):
        yield


def random_mdp(seed, states=3, actions=2, outcomes=2, whole=False):
    """A random MDP with stochastic rewards in [-2, 2]."""
    random = np.random.default_rng(seed)
    shape = (states, actions, outcomes)
    rewards = random.integers(-2, 3, (*shape, 1)) if whole else random.uniform(-2, 2, (*shape, 1))
    return mdps.MDP(
        random.dirichlet(np.ones(outcomes), (states, actions)),
        random.integers(0, states, shape).astype(np.int32),
        rewards.astype(float),
        np.zeros(states, bool),
    )


def batch(count, **settings):
    return jax.tree.map(
        lambda *leaves: np.stack(leaves), *(random_mdp(seed, **settings) for seed in range(count))
    )


def chain():
    """State 0 leads to 1, and 1 to the terminal state 2; each step gives 1."""
    return mdps.from_outcomes([[[(1.0, 1, 1.0)]], [[(1.0, 2, 1.0)]], [[]]], np.array([False, False, True]))


# Returns lie in [-10, 10]; a spacing of 0.5 is less than every maximum of |reward|.
GRID = stock_grids.uniform([-10], [10], [41])
SUPPORT = distribution_representations.categorical(np.linspace(-10, 10, 41))
endless = functools.partial(
    solvers.value_iteration, discount=DISCOUNT, representation=SUPPORT, stocks=GRID, tolerance=1e-9
)
values_of = functools.partial(solvers.value_iteration, discount=DISCOUNT, representation=None)
whole_numbers = functools.partial(
    solvers.value_iteration,
    discount=1.0,
    horizon=HORIZON,
    representation=distribution_representations.categorical(INTEGERS),
    stocks=stock_grids.from_points(INTEGERS),
)


@pytest.mark.slow
def test_expectation_is_classic_value_iteration_at_every_stock():
    problem = random_mdp(0)
    classic = np.zeros(3)
    for _ in range(200):
        after = problem.rewards[..., 0] + DISCOUNT * classic[problem.next_states]
        classic = (problem.probabilities * after).sum(2).max(1)
    solution = endless(problem, objectives.expectation())
    expected = GRID.points[0] + classic[:, None]
    np.testing.assert_allclose(solution.values, expected, atol=1e-6)
    assert np.abs(solution.values - expected).max() <= solution.error_bound < 1e-6
    atoms = SUPPORT.atoms(solution.distributions)
    means = (atoms.values[..., 0] * atoms.probabilities).sum(-1)
    np.testing.assert_allclose(means, np.broadcast_to(classic[:, None], means.shape), atol=1e-6)
    np.testing.assert_array_equal(solution.off_grid_mass, 0)


@pytest.mark.slow
def test_policy_iteration_finds_what_value_iteration_finds():
    problem, objective = random_mdp(1), objectives.lower_cvar(0.3)
    greedy = endless(problem, objective)
    settings = {"discount": DISCOUNT, "representation": SUPPORT, "stocks": GRID, "tolerance": 1e-9}
    improved = solvers.policy_iteration(problem, objective, **settings)
    np.testing.assert_array_equal(improved.policy, greedy.policy)
    np.testing.assert_allclose(improved.values, greedy.values, atol=1e-7)
    np.testing.assert_allclose(improved.distributions, greedy.distributions, atol=1e-7)
    np.testing.assert_allclose(improved.errors, greedy.errors, atol=1e-6)
    evaluated = solvers.policy_evaluation(problem, greedy.policy, objective, **settings, distance="cramer")
    np.testing.assert_allclose(evaluated.values, greedy.values, atol=1e-7)
    assert evaluated.distance <= 1e-9


@pytest.mark.slow
def test_errors_bound_the_distance_from_the_policys_value():
    # The distribution of a policy that draws stocks off the grid is exact except for projection. On a fine
    # support, projection adds less than 0.01, and K of it is within the bound of the value.
    objective, held = (
        objectives.lower_cvar(0.3),
        distribution_representations.categorical(np.linspace(-10, 10, 1001)),
    )
    settings = {"discount": DISCOUNT, "representation": held, "stocks": GRID}
    policy = np.random.default_rng(10).integers(0, 2, (3, 41))
    solution = solvers.policy_evaluation(random_mdp(1), policy, objective, **settings)
    values, probabilities = held.atoms(solution.distributions)
    read = objective.functional(objective.parameters, GRID.stocks[None, :, None] + values, probabilities)
    assert (np.abs(read - solution.values) <= solution.errors + 0.01).all()


OBJECTIVES = {
    "cvar": objectives.lower_cvar(0.3),
    "target": objectives.target_return(1),
    "satisficing": objectives.satisficing(2),
    "entropic": objectives.entropic(-0.7),
}


@pytest.mark.parametrize("name", [pytest.param("target", marks=pytest.mark.slow), "entropic"])
def test_integers_without_discount_are_exact(name):
    problem, objective = random_mdp(2, whole=True), OBJECTIVES[name]
    solution = whole_numbers(problem, objective)
    start = starts.choose(solution, objective)
    best = [oracle.best(objective, found) for found in oracle.history_distributions(problem, 1.0, HORIZON)]
    np.testing.assert_allclose(start.values, best, atol=1e-12)
    np.testing.assert_allclose(start.errors, 0, atol=1e-12)
    first = int(np.flatnonzero(start.stocks[0] == INTEGERS)[0])
    np.testing.assert_array_equal(np.asarray(solution.off_grid_mass)[:, first], 0)
    assert len(solution.policy) == solution.sweeps == HORIZON


@pytest.mark.slow
def test_policy_iteration_in_a_finite_horizon():
    problem, objective = random_mdp(2, whole=True), OBJECTIVES["target"]
    improved = solvers.policy_iteration(problem, objective, **whole_numbers.keywords)
    greedy = whole_numbers(problem, objective)
    np.testing.assert_allclose(improved.values, greedy.values, atol=1e-12)
    for one, other in zip(improved.policy, greedy.policy, strict=True):
        np.testing.assert_array_equal(one, other)


def test_more_reward_is_more_stock():
    # A reward that is 1 greater in each of three steps makes the return 3 greater.
    problem, objective = random_mdp(3, whole=True), OBJECTIVES["target"]
    richer = problem._replace(rewards=problem.rewards + 1)
    plain, shifted = whole_numbers(problem, objective), whole_numbers(richer, objective)
    inside = slice(6, -3)  # c + 3 + G with c in [0, 3], on the grid whatever happens
    np.testing.assert_allclose(shifted.values[:, inside], plain.values[:, 9:], atol=1e-12)


@pytest.mark.slow
def test_a_batch_equals_its_mdps_one_by_one():
    levels = np.array([0.2, 0.5, 0.9])

    def solve(problem, tau):
        solution = endless(problem, objectives.lower_cvar(tau))
        return solution.values, solution.distributions, solution.policy, solution.errors

    together = jax.vmap(solve)(batch(3), levels)
    for index, tau in enumerate(levels):
        alone = solve(random_mdp(index), tau)
        for one, other in zip(alone, together, strict=True):
            np.testing.assert_allclose(one, other[index], atol=1e-7)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cvar", "target"])
def test_errors_bound_the_distance_from_the_optimum(name):
    """Coarse grids, one of them too small; a fine grid gives the optimum within its smaller bound."""
    problems, objective = batch(6), OBJECTIVES[name]

    @jax.jit
    def solve(grid):
        solution = jax.vmap(lambda problem: values_of(problem, objective, stocks=grid))(problems)
        return solution.values, solution.errors

    fine_grid = stock_grids.uniform([-10], [10], [2001])
    fine, fine_errors = map(np.asarray, solve(fine_grid))
    assert fine_errors.max() < 0.2
    for low, high in [(-10, 10), (-2, 3)]:
        grid = stock_grids.uniform([low], [high], [21])
        coarse, errors = solve(grid)
        at = np.searchsorted(fine_grid.points[0], grid.points[0] - 1e-9)
        assert (np.abs(coarse - fine[..., at]) <= errors + fine_errors[..., at]).all()


def test_errors_hold_the_optimum_of_histories():
    objective = OBJECTIVES["target"]
    grid = stock_grids.uniform([-7], [8], [31])  # -1, the first stock, is a point of it
    for seed in range(3):
        problem = random_mdp(seed)
        solution = values_of(problem, objective, stocks=grid, horizon=HORIZON)
        start = starts.choose(solution, objective)
        best = [
            oracle.best(objective, found)
            for found in oracle.history_distributions(problem, DISCOUNT, HORIZON)
        ]
        assert (np.abs(start.values - np.array(best)) <= start.errors + 1e-12).all()
        assert 0 < start.errors.max() < 1


def test_what_is_worse_for_certain_makes_no_errors():
    # State 0 gives 1 for certain, or -7 and then ±8. At stock 0 the second choice leads to -8.75, off the
    # grid, and its value is below -4 whatever the error there. The value of the first choice is -1.
    risk = [(0.5, 2, 8.0), (0.5, 2, -8.0)]
    rows = [[[(1.0, 2, 1.0)], [(1.0, 1, -7.0)]], [risk, risk], [[], []]]
    problem = mdps.from_outcomes(rows, np.array([False, False, True]))
    solution = values_of(problem, OBJECTIVES["target"], stocks=stock_grids.uniform([-10], [10], [5]))
    assert solution.values[0, 2] == pytest.approx(-1)
    assert solution.errors[0, 2] < 1e-9
    assert solution.errors[0].max() > 0.1  # from 5 on it is better to lose 7


def test_mass_that_leaves_is_told():
    problem, objective = random_mdp(4), OBJECTIVES["cvar"]
    small = values_of(problem, objective, stocks=stock_grids.uniform([-1], [1], [41]))
    assert 0 < small.off_grid_mass.max() <= 1
    assert values_of(problem, objective, stocks=GRID).off_grid_mass.max() == 0
    # Beyond the grid c + G has one sign, so f is linear there, and clamping changes nothing.
    low, high = mdps.return_bounds(problem, DISCOUNT)
    tight = stock_grids.uniform([-high.max()], [-low.min()], [41])
    assert values_of(problem, objective, stocks=tight).off_grid_mass.max() == 0


@pytest.mark.slow
def test_mass_beyond_the_support_is_told():
    # A reward of 2 where the support ends at 1.
    twice = chain()._replace(rewards=chain().rewards * 2)
    narrow = distribution_representations.categorical(np.linspace(-1, 1, 5))
    settings = {
        "discount": 1.0,
        "horizon": 1,
        "representation": narrow,
        "stocks": stock_grids.from_points([0.0]),
    }
    solution = solvers.value_iteration(twice, objectives.expectation(), **settings)
    np.testing.assert_array_equal(solution.off_grid_mass[:, 0], [1, 1, 0])


def test_where_projection_loses_nothing_is_known_of_other_functionals():
    # Returns of ½ do not lie on the grid of integers.
    problem = random_mdp(2, whole=True)
    halves = problem._replace(rewards=problem.rewards / 2)
    assert np.isinf(whole_numbers(halves, OBJECTIVES["entropic"]).error_bound)


@pytest.mark.slow
def test_what_cannot_be_optimised_is_refused_or_marked():
    problem, objective = random_mdp(4), OBJECTIVES["satisficing"]
    with pytest.raises(InputError, match="Lipschitz continuity"):
        values_of(problem, objective, stocks=GRID)
    solution = values_of(problem, objective, stocks=GRID, allow_unsound=True)
    assert "Lipschitz continuity" in solution.unsound
    assert np.isinf(solution.error_bound)


def test_noise_does_not_choose_between_equal_actions():
    problem = random_mdp(5, actions=1)
    noisy = jax.tree.map(lambda leaf: leaf.repeat(2, axis=1) if leaf.ndim > 1 else leaf, problem)
    noisy.rewards[:, 1] *= 1 + 1e-15
    solution = values_of(noisy, OBJECTIVES["cvar"], stocks=GRID)
    np.testing.assert_array_equal(solution.policy, 0)


def test_episodes_that_end_need_no_horizon():
    grid = stock_grids.from_points(np.arange(-3.0, 4))
    settings = {"discount": 1.0, "stocks": grid, "representation": None}
    solution = solvers.value_iteration(chain(), objectives.target_return(2), **settings)
    assert solution.policy.shape == (3, 7)
    # -|c + G| with G = 2, 1 and 0 from the three states.
    expected = -np.abs(grid.points[0] + np.array([2, 1, 0])[:, None])
    np.testing.assert_allclose(solution.values, expected, atol=1e-12)


@pytest.mark.parametrize(
    ("points", "discount"),
    [
        (np.array([-3, -2.5, -1, 0, 0.25, 0.5, 3]), 0.9),
        pytest.param(np.array([-3, -2.5, -1, 0, 0.25, 0.5, 3]), 0.45, marks=pytest.mark.slow),
        pytest.param(np.linspace(-3, 3, 7), 1.0, marks=pytest.mark.slow),
    ],
    ids=["uneven", "short-sighted", "undiscounted"],
)
def test_backups_by_cells_are_projections_of_atoms(points, discount):
    random = np.random.default_rng(6)
    held = distribution_representations.categorical(points)
    known = jnp.asarray(random.dirichlet(np.ones(7), 6).cumsum(-1))
    chosen = return_distributions.Successors(
        jnp.asarray(random.integers(0, 6, (3, 2, 2, 4)), jnp.int32),
        jnp.asarray(np.moveaxis(random.dirichlet(np.ones(4), (3, 4)).reshape(3, 4, 2, 2), 1, -1)),
        jnp.asarray(random.integers(0, 2, (3, 4)), jnp.int32),
    )
    rewards = jnp.asarray(random.uniform(-4, 4, (3, 2, 2, 1)))
    slow = return_distributions.with_projected_backups(held)

    @jax.jit
    def both(known, rewards, chosen):
        by_cells = cells.backup(known, cells.make_cells(points, rewards, discount), chosen)
        return by_cells, slow.backup(known, slow.prepare(rewards, discount), chosen)

    found, expected = both(known, rewards, chosen)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-12)
    assert expected[1].max() > 0


def test_merging_equal_atoms_keeps_distributions():
    values = np.array([[0.1 + 0.2, 0.3, 1.0, 5.0], [2.0, 1.0, 2.0, 1.0]])[..., None]
    merged = return_distributions.merge_equal_atoms(
        return_distributions.Atoms(values, np.array([[0.25, 0.25, 0.5, 0.0], [0.1, 0.2, 0.3, 0.4]]))
    )
    kept = merged.probabilities > 0
    np.testing.assert_allclose(merged.values[..., 0][kept], [0.3, 1, 1, 2])
    np.testing.assert_allclose(merged.probabilities[kept], [0.5, 0.5, 0.6, 0.4])


def test_solve_is_exact_where_it_can_be():
    problem = random_mdp(7, states=2)
    objective = objectives.lower_cvar(0.35)
    solved = defaults.solve(problem, objective, discount=0.9, horizon=2)
    best = [oracle.best(objective, found) for found in oracle.history_distributions(problem, 0.9, 2)]
    np.testing.assert_allclose(solved.start.values, best, atol=1e-9)
    assert solved.exact
    assert solved.start.errors.max() < 1e-9
    np.testing.assert_array_equal(solved.off_grid_mass, 0)
    # The distributions from the first stocks have the reported values.
    for state, stock in enumerate(solved.start.stocks[:, 0]):
        place = int(np.abs(solved.solution.stocks.points[0] - stock).argmin())
        distribution = solved.atoms.values[state, place], solved.atoms.probabilities[state, place]
        np.testing.assert_allclose(
            objective.start.measure(objective.parameters, *distribution), best[state], atol=1e-9
        )


def gamble():
    """0.5 for certain, or by halves 3 or a move to state 1, which gives 0, or -2 (0.1) or 0.6 (0.9)."""
    risky, next_risk = [(0.5, 1, 0.0), (0.5, 2, 3.0)], [(0.1, 2, -2.0), (0.9, 2, 0.6)]
    rows = [[[(1.0, 2, 0.5)], risky], [[(1.0, 2, 0.0)], next_risk], [[], []]]
    return mdps.from_outcomes(rows, np.array([False, False, True]))


@pytest.mark.parametrize("make", [objectives.lower_cvar, objectives.upper_cvar])
def test_one_solve_serves_every_level(make):
    """Level 0.05 begins with few stocks; at level 1, the mean, 0.5 · 3 + 0.5 · 0.34 = 1.67 is best."""
    solved, levels = defaults.solve(gamble(), make(0.05), discount=1.0), (0.3, 0.6, 1.0)
    if make is objectives.lower_cvar:
        with pytest.raises(InputError, match=r"goes from -0.5 to 0, but in state 0 .* may go from -3 to 2"):
            starts.choose(solved.solution, make(1.0))
    ways = oracle.history_distributions(gamble(), 1.0, 2)
    for level, at in zip(levels, solved.at_each([{"tau": level} for level in levels]), strict=True):
        best = [oracle.best(make(level), distributions) for distributions in ways]
        np.testing.assert_allclose(at.start.values, best, atol=1e-9)
        assert at.exact
        assert at.objective.parameters["tau"] == level
    np.testing.assert_allclose(solved.at(tau=1.0).start.values, [1.67, 0.34, 0], atol=1e-12)


def test_another_target_is_solved_again():
    """Target 0.5 is hit for certain; target 0.6 is missed by 0.1; 1.2 by 0.7, or by (1.8 + 1.2) / 2."""
    solved = defaults.solve(gamble(), objectives.target_return(0.5), discount=1.0)
    with pytest.raises(InputError, match=r"the first stock of target may go from -1.2 to -1.2"):
        starts.choose(solved.solution, objectives.target_return(1.2))
    values = [each.start.values[0] for each in solved.at_each([{"target": 0.6}, {"target": 1.2}])]
    np.testing.assert_allclose([solved.start.values[0], *values], [0, -0.1, -0.7], atol=1e-12)


def test_a_target_from_which_episodes_leave_the_grid_is_solved_again():
    """-3, then 3 or -3, misses 6 by 6; the grid for target 0 holds the stock -6, but not -6 - 3."""
    transitions, rewards = np.zeros((3, 2, 3)), np.zeros((3, 2, 3, 2))
    transitions[[0, 1], :, [1, 2]] = 1
    rewards[0, :, :, 0], rewards[1, :, :, 0], rewards[:2, :, :, 1] = -3, np.array([3, -3])[:, None], 1
    mdp = mdps.from_dense(transitions, rewards, terminal=np.array([False, False, True]))
    solved = defaults.solve(mdp, objectives.homeostatic([0.0, 2.0]), discount=1.0)
    again = solved.at(target=[6.0, 2.0])
    assert [-6, -2] in solved.values.solution.stocks.stocks.tolist()
    assert (again.start.values[0], again.start.errors[0], again.exact) == (-6, 0, True)


def test_the_policy_of_a_solution_is_followed():
    """Simulated returns have the probabilities of the exact distribution, and c₀ + G = γᵀ c_T."""
    solved = defaults.solve(gamble(), objectives.lower_cvar(1.0), discount=0.9, start_state=0)
    played = solved.simulate(4000, jax.random.key(0))
    assert (played.states.shape, played.actions.shape) == ((4000, 3), (4000, 2))
    np.testing.assert_allclose(
        0.81 * played.stocks[:, -1], solved.start.stocks[0] + played.returns, atol=1e-12
    )
    place = int(np.abs(solved.solution.stocks.points[0] - solved.start.stocks[0]).argmin())
    values, chances = solved.atoms.values[0, place, :, 0], solved.atoms.probabilities[0, place]
    assert chances.sum() == pytest.approx(1)
    for value, chance in zip(values, chances, strict=True):  # within five standard errors
        share = np.isclose(played.returns[:, 0], value).mean()
        assert abs(share - chance) <= 5 * np.sqrt(chance * (1 - chance) / 4000)
    # Both steps gamble; each step has a grid of its own.
    assert solved.act(0, solved.start.stocks[0, 0]) == 1
    assert (played.actions[played.states[:, 1] == 1, 1] == 1).all()
    again = solved.act(played.states[:, 1], played.stocks[:, 1], step=1)
    np.testing.assert_array_equal(again, played.actions[:, 1])
    assert [grid.size for grid in solved.solution.later] == [solved.solution.policy[1].shape[1]]


def test_a_draw_of_first_stocks_is_simulated():
    """In expectation the best half of returns is as good as the value, with its draw."""
    solved = defaults.solve(gamble(), objectives.upper_cvar(0.6), discount=1.0)
    returns = np.sort(solved.simulate(20_000, jax.random.key(1), state=0).returns[:, 0])
    np.testing.assert_allclose(returns[-12_000:].mean(), solved.start.values[0], atol=0.05)


def delayed(gain):
    """A step without reward, then 45 for certain, or by halves 0 or a gain."""
    rows = [[[(1.0, 1, 0.0)]] * 2, [[(1.0, 2, 45.0)], [(0.5, 2, 0.0), (0.5, 2, gain)]], [[], []]]
    return mdps.from_outcomes(rows, np.array([False, False, True]))


def cap(most):
    return objectives.expected_utility(
        _capped, properties.Properties(lipschitz=1.0, degree=1.0), stock=[0.0], name="capped", most=most
    )


def _capped(parameters, points):
    return jnp.minimum(points[..., 0], parameters["most"])


def test_a_wrong_degree_is_refused_at_the_stocks_of_the_mdp():
    """f(x) = min(x, 50) with γ = 0.5: half of 100 or 0 has the mean 25, more than the certain 22.5.

    But the recursion for degree 1 compares min(45, 50) with min(100, 50) / 2 at the second step.
    """
    with pytest.raises(
        InputError, match=r"say degree 1, but from stock 90 to 0.5 times this stock it goes to 45"
    ):
        defaults.solve(delayed(100.0), cap(50.0), discount=0.5, horizon=2)
    # No return exceeds a cap of 5000, so that f is linear.
    solved = defaults.solve(delayed(100.0), cap(5000.0), discount=0.5, horizon=2)
    np.testing.assert_allclose(solved.start.values, [25, 50, 0], atol=1e-12)


def test_a_constant_changes_nothing_but_the_value():
    """f(x) = x + 3, and episodes of different lengths: 1 at once, or 4 a step later with γ = 0.5."""
    rows = [[[(1.0, 2, 1.0)], [(1.0, 1, 0.0)]], [[(1.0, 2, 4.0)]] * 2, [[], []]]
    problem = mdps.from_outcomes(rows, np.array([False, False, True]))
    objective = objectives.of_function(lambda returns: returns + 3, problem, 0.5, 2, name="shifted")
    assert objective.properties.degree == 1
    solved = defaults.solve(problem, objective, discount=0.5)
    np.testing.assert_allclose(solved.start.values, [5, 7, 3], atol=1e-12)
    coarse = values_of(
        problem, objective, discount=0.5, horizon=2, stocks=stock_grids.uniform([-9], [9], [5])
    )
    start = starts.choose(coarse, objective)
    np.testing.assert_allclose(start.values, [5, 7, 3], atol=1e-9)
    assert start.errors.max() < 1e-9


@pytest.mark.slow
def test_a_coarse_grid_does_not_exceed_the_greatest_utility():
    """f(x) = min(x, 5): 4 for certain, or 1 or 9 by halves, (1 + 5) / 2."""
    rows = [[[(1.0, 1, 4.0)], [(0.5, 1, 1.0), (0.5, 1, 9.0)]], [[], []]]
    problem = mdps.from_outcomes(rows, np.array([False, True]))
    objective = objectives.of_function(
        lambda returns: jnp.minimum(returns, 5), problem, 1.0, 1, name="capped"
    )
    assert (objective.properties.degree, objective.properties.gamma_indifferent) == (None, False)
    solved = defaults.solve(problem, objective, discount=1.0, stocks=16)
    assert abs(solved.start.values[0] - 4) <= solved.start.errors[0] + 1e-12
    assert solved.values.solution.values.max() <= 5


def test_grids_of_standard_sizes_give_the_same_stocks_and_weights():
    grid = stock_grids.from_points(np.sort(np.random.default_rng(0).normal(size=65)))
    longer, values = stock_grids.padded(grid, np.arange(2 * 65).reshape(2, 65))
    assert (longer.size, values.shape) == (stock_grids.standard_size(65), (2, 72))
    (points,) = grid.points
    stocks = np.concatenate([points, (points[1:] + points[:-1]) / 2, [-9, 9]])[:, None]
    for one, other in zip(stock_grids.locate(grid, stocks), stock_grids.locate(longer, stocks), strict=True):
        np.testing.assert_array_equal(one, other)
    nearest = stock_grids.nearest(longer, stocks)
    np.testing.assert_array_equal(values[1, nearest], 65 + stock_grids.nearest(grid, stocks))


def test_unknown_errors_are_infinite():
    """The squared distance is not Lipschitz continuous, and stocks lie between the points of the grid."""
    problem = random_mdp(0)._replace(rewards=np.random.default_rng(0).normal(size=(3, 2, 2, 2)))
    objective = objectives.homeostatic([1.0, 2.0], power=2)
    solution = values_of(
        problem, objective, discount=0.5, horizon=2, stocks=stock_grids.uniform([-4, -4], [2, 2], [4, 4])
    )
    assert np.isinf(solution.errors).any()
    assert not np.isnan(starts.choose(solution, objective).errors).any()


@pytest.mark.slow
def test_states_that_episodes_do_not_visit_do_not_matter():
    """State 2 gives 10⁸; from state 0 episodes visit 0 and 1."""
    rows = [[[(1.0, 1, 1.0)]], [[(0.5, 1, 0.3), (0.5, 1, 0.2)]], [[(1.0, 1, 1e8)]]]
    problem = mdps.from_outcomes(rows)
    solved = defaults.solve(problem, objectives.expectation(), discount=0.5, start_state=0, stocks=5)
    np.testing.assert_allclose(solved.start.values, [1.25, 0.5, np.nan], atol=1e-6)
    assert solved.start.errors.max() < 1e-6


LIMITED = functools.partial(values_of, random_mdp(8), objective=objectives.expectation())


def evaluate(policy):
    return solvers.policy_evaluation(
        random_mdp(8), policy, objectives.expectation(), discount=DISCOUNT, representation=None, stocks=GRID
    )


@functools.cache
def certain():
    return defaults.solve(chain(), objectives.expectation(), discount=1.0)


BAD = {
    "loop": (
        lambda: values_of(random_mdp(8, states=1), objectives.expectation(), stocks=GRID, discount=1.0),
        "discount 1 without a horizon needs episodes that end, but an episode can visit state 0 again",
    ),
    "tolerance": (lambda: LIMITED(stocks=GRID, tolerance=0.0), "tolerance is 0.0; give a positive"),
    "horizon": (
        lambda: LIMITED(stocks=GRID, horizon=0),
        "horizon is 0; give a whole number of at least one step",
    ),
    "distance": (lambda: LIMITED(stocks=GRID, distance="cramér"), "unknown distance 'cramér'"),
    "discount": (lambda: LIMITED(stocks=GRID, discount=1.5), "discount is 1.5"),
    "grid": (
        lambda: LIMITED(stocks=stock_grids.uniform([0, 0], [1, 1], [2, 2])),
        "stock grid has 2 dimension.* but rewards have 1",
    ),
    "grids": (lambda: LIMITED(stocks=[GRID, GRID], horizon=3), "2 stock grids for 4 stages"),
    "support": (
        lambda: LIMITED(
            stocks=GRID, representation=distribution_representations.categorical([-1.0, 1], [0.0, 1])
        ),
        "categorical representation has 2 component.* but rewards have 1",
    ),
    "atoms": (
        lambda: LIMITED(
            stocks=GRID, representation=distribution_representations.categorical(np.linspace(-10, 10, 5))
        ),
        "5 atoms from -10 to 10 lie further apart than the greatest reward 1.9.*; give at least 1[12]",
    ),
    "endless atoms": (
        lambda: LIMITED(stocks=GRID, representation=distribution_representations.exact()),
        "give a horizon",
    ),
    "no distributions": (
        lambda: values_of(random_mdp(8), objectives.entropic(1.0), stocks=GRID, discount=1.0, horizon=2),
        "entropic is read from return distributions here, but representation is None; give a representation",
    ),
    "policy's shape": (
        lambda: evaluate(np.zeros((3, 40), int)),
        r"policy has dtype int64 and shape \(3, 40\); give integers of shape \(3, 41\)",
    ),
    "policy's action": (
        lambda: evaluate(np.where(np.arange(41) == 7, 2, np.zeros((3, 1), int))),
        r"policy\[0, 7\] is 2; actions go from 0 to 1",
    ),
    "representation": (
        lambda: defaults.solve(chain(), objectives.expectation(), discount=1.0, representation="gaussian"),
        "unknown representation 'gaussian'",
    ),
    "half a step": (
        lambda: defaults.solve(chain(), objectives.expectation(), discount=1.0, horizon=2.5),
        "horizon is 2.5; give a whole number of at least one step",
    ),
    "atoms of a distribution": (
        lambda: defaults.solve(chain(), objectives.expectation(), discount=1.0, atoms=2.5),
        "atoms is 2.5; give a whole number of at least 2",
    ),
    "stocks": (
        lambda: defaults.solve(chain(), objectives.expectation(), discount=1.0, stocks=0),
        "stocks is 0; give a whole number of at least 1",
    ),
    "discount in words": (
        lambda: defaults.solve(chain(), objectives.expectation(), discount="0.9"),
        r"discount is 0.9; give a number in \(0, 1\]",
    ),
    "stock_low": (
        lambda: defaults.solve(chain(), objectives.expectation(), discount=1.0, stock_low=[5.0]),
        r"stock_low is \[5.0\], but stocks is None; give the size",
    ),
    "stock_high": (
        lambda: defaults.solve(
            chain(), objectives.expectation(), discount=1.0, stocks=3, stock_low=5, stock_high=-5
        ),
        "stock_low is .5.., but stock_high is .-5..; give a higher stock_high",
    ),
    "no MDP": (
        lambda: defaults.solve({}, objectives.expectation(), discount=1.0),
        "mdp is of type dict; give an MDP",
    ),
    "no stock": (lambda: certain().act(0, np.nan), "stock is nan; give finite numbers"),
    "half a step later": (lambda: certain().act(0, 0.0, 0.5), "step is 0.5; give a step from 0 to 1"),
    "levels": (
        lambda: defaults.solve(chain(), objectives.lower_cvar([0.1, 0.2]), discount=1.0),
        r"tau of objective cvar is \[0.1, 0.2\]; a solver takes one value at a time",
    ),
    "targets": (
        lambda: LIMITED(stocks=GRID, objective=objectives.target_return([1.0, 2.0])),
        r"target of objective target is \[1.0, 2.0\]; a solver takes one",
    ),
    "objective's name": (
        lambda: defaults.solve(chain(), "cvar", discount=1.0),
        "objective is 'cvar'; give one of valuelab.distributional.objectives",
    ),
    "state of an action": (
        lambda: certain().act(3, 0.0),
        "state is 3; give whole numbers from 0 to 2",
    ),
    "stock of an action": (lambda: certain().act([0, 1], 0.0), r"stock has shape \(\), but state has shape"),
    "step of an action": (lambda: certain().act(0, 0.0, 2), "step is 2; give a step from 0 to 1"),
    "no start state": (
        lambda: certain().simulate(9, jax.random.key(0)),
        "state is None, and solve was called",
    ),
    "no episode": (
        lambda: certain().simulate(0, jax.random.key(0), state=0),
        "num_episodes is 0; give at least 1",
    ),
    "no decisions": (
        lambda: defaults.solve(
            mdps.end_in(chain(), np.ones(3, bool)), objectives.expectation(), discount=1.0
        ),
        "terminal is True for all of the 3 states",
    ),
    "start state": (
        lambda: defaults.solve(chain(), objectives.expectation(), discount=1.0, start_state=3),
        "start_state is 3; give a state from 0 to 2",
    ),
    "a start state for evar": (
        lambda: defaults.solve(chain(), objectives.entropic_value_at_risk(0.5), discount=1.0),
        "start_state is None, but the risk level of evar depends on it; give a start state",
    ),
    "no proper policy": (
        lambda: defaults.solve(random_mdp(8), objectives.expectation(), discount=1.0),
        "needs a policy that ends episodes, but from state 0 no terminal state can be reached; give",
    ),
    "endless rewards": (
        lambda: defaults.solve(road(wait=1.0), objectives.expectation(), discount=1.0),
        "episodes can collect positive rewards again and again; give a horizon or a discount below 1",
    ),
    "endless ways to a target": (
        lambda: defaults.solve(road(), objectives.target_return(-9.0), discount=1.0),
        "episodes can collect rewards, which .* again and again; give a horizon or a discount below 1",
    ),
    "waiting is best": (
        lambda: defaults.solve(road(wait=0.0), objectives.expectation(), discount=1.0),
        "after 64 steps the optimum is known only within 2, because .* may never end",
    ),
    "window": (
        lambda: defaults.solve(
            chain(), objectives.target_return(9.0), discount=1.0, stocks=3, stock_high=[0.0], stock_low=[-1.0]
        ),
        "the stock grid goes from -1 to 0, but in state 0 the first stock of target may go from -9 to -9",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name):
    call, message = BAD[name]
    with pytest.raises(InputError, match=message):
        call()


@pytest.mark.parametrize(
    "name",
    [
        "cvar",
        pytest.param("upper_cvar", marks=pytest.mark.slow),
        "mean_cvar",
        "target",
        "satisficing",
        "entropic",
        "var",
    ],
)
def test_solve_equals_the_oracle(name):
    parameters = {
        "cvar": {"tau": 0.2},
        "upper_cvar": {"tau": 0.3},
        "mean_cvar": {"tau": 0.1, "weight": 0.5},
        "target": {"target": 0.7},
        "satisficing": {"target": 0.4},
        "entropic": {"risk": 0.8},
        "var": {"tau": 0.3},
    }
    objective = objectives.make(name, **parameters[name])
    for seed, discount in [(0, 1.0), (1, 0.7)]:
        problem = random_mdp(seed)
        solved = defaults.solve(problem, objective, discount=discount, horizon=HORIZON)
        best = [
            oracle.best(objective, found)
            for found in oracle.history_distributions(problem, discount, HORIZON)
        ]
        assert (np.abs(solved.start.values - best) <= solved.start.errors + 1e-9).all()
        np.testing.assert_allclose(solved.start.values, best, atol=1e-9)


@pytest.mark.parametrize("name", ["cvar", "var"])
def test_solve_equals_the_oracle_at_horizon_4(name):
    """Without discount; one of two actions is certain, so that 1806 distributions can be reached."""
    problem, objective = random_mdp(3), objectives.make(name, tau=0.3)
    problem.probabilities[:, 0] = [1, 0]
    solved = defaults.solve(problem, objective, discount=1.0, horizon=4)
    best = [oracle.best(objective, found) for found in oracle.history_distributions(problem, 1.0, 4)]
    np.testing.assert_allclose(solved.start.values, best, atol=1e-9)
    assert solved.exact


def test_value_at_risk_by_hand():
    """In `gamble`: 3, -2 or 0.6, or 3 or 0, or 0.5 for certain, of 0.5, 0.05 and 0.45.

    3 is reached with probability 0.5; going on, 0.6 with 0.95. So the level 0.05 gives 0.6, 0.5 gives 3, and
    less than 0.05 the certain 0.5.
    """
    solved = defaults.solve(gamble(), objectives.value_at_risk(0.0), discount=1.0)
    values = [solved.at(tau=tau).start.values[0] for tau in (0.04, 0.05, 0.45, 0.5)]
    np.testing.assert_allclose([solved.start.values[0], *values], [0.5, 0.5, 0.6, 0.6, 3], atol=1e-12)
    first, other = solved.at(tau=0.05), solved.at(tau=0.5)
    np.testing.assert_allclose([first.start.stocks[0, 0], other.start.stocks[0, 0]], [-0.6, -3])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["entropic", "capped"])
def test_grids_of_undiscounted_stocks(name):
    """Objectives without gamma-indifference on a grid, which has the same shape at every step."""
    problem = random_mdp(1)
    objective = objectives.entropic(-1.0)
    if name == "capped":
        objective = objectives.of_function(lambda returns: jnp.minimum(returns, 1), problem, 0.7, HORIZON)
    solved = defaults.solve(problem, objective, discount=0.7, horizon=HORIZON, stocks=101)
    ways = oracle.history_distributions(problem, 0.7, HORIZON)
    best = [oracle.best(objective, found) for found in ways]
    np.testing.assert_allclose(solved.start.values, best, atol=0.01)
    assert (np.abs(solved.start.values - best) <= solved.start.errors).all()
    assert max(solved.off_grid_mass.max(), solved.distribution_off_grid_mass.max()) < 1e-9


@pytest.mark.parametrize("discount", [1.0, 0.7])
def test_entropic_value_at_risk_equals_the_oracle(discount):
    """From every state its own level of risk is best. The policy's return distribution has the value."""
    problem, objective = random_mdp(1), objectives.entropic_value_at_risk(0.5)
    ways = oracle.history_distributions(problem, discount, HORIZON)
    for state in (0, 1):
        best = oracle.best(objective, ways[state])
        solved = defaults.solve(problem, objective, discount=discount, horizon=HORIZON, start_state=state)
        assert abs(solved.start.values[state] - best) <= solved.start.errors[state] + 1e-9
        assert np.isnan(solved.start.values[2])
        np.testing.assert_allclose(solved.start.errors, 0, atol=1e-5)
        values, probabilities = (leaf[0] for leaf in solved.first_distributions([state]))
        attained = objective.functional(objective.parameters, values, probabilities)
        np.testing.assert_allclose(attained, best, atol=1e-5)
    other = solved.at(tau=0.1).start.values[1]
    assert other == pytest.approx(oracle.best(objectives.entropic_value_at_risk(0.1), ways[1]), abs=1e-5)


def test_where_the_worst_return_counts_the_certain_reward_is_best():
    """In `gamble`, no level up to ½ is worth the risk of the return 0 or less: EVaR is the certain 0.5."""
    best = entropic.best_risk(gamble(), 0.5, 0, 1.0, 2)
    assert best.value == pytest.approx(0.5, abs=1e-12)
    assert 0 < best.error < 1e-6
    np.testing.assert_allclose(
        entropic.certainty_equivalents(gamble(), np.array([best.scale]), 1.0, 2), [[0.5, 0, 0]], atol=1e-9
    )


def test_certainty_equivalents_need_no_stock():
    problem, scales = random_mdp(1), np.array([0.0, 0.5, np.inf])
    found = entropic.certainty_equivalents(problem, scales, 0.7, HORIZON)
    ways = oracle.history_distributions(problem, 0.7, HORIZON)
    same = objectives.value_at_risk(0.0), objectives.entropic(-2.0), objectives.expectation()
    for values, objective in zip(found, same, strict=True):
        np.testing.assert_allclose(values, [oracle.best(objective, each) for each in ways], atol=1e-9)


def road(wait=-1.0, walk=-1.0, goal=0.0):
    """State 0 may be left for certain with -3; by halves, and with the goal's reward, by walking; or kept."""
    walking = [(0.5, 1, walk + goal), (0.5, 0, walk)]
    return mdps.from_outcomes(
        [[[(1.0, 0, wait)], walking, [(1.0, 1, -3.0)]], [[]] * 3], np.array([0, 1], bool)
    )


def test_shortest_paths_by_hand():
    """Walking takes T steps with P(T ≥ k) = 2¹⁻ᵏ, 2 on average.

    The worst quarter are T ≥ 3 with a mean of 4, and leaving at once is better. Of the worst 0.6, 0.5 are
    T ≥ 2 with a mean of 3, and 0.1 are T = 1: -(0.5 · 3 + 0.1) / 0.6. Leaving later is never better.
    """
    solved = defaults.solve(road(), objectives.lower_cvar(0.25), discount=1.0)
    several = [solved, *solved.at_each([{"tau": 0.6}, {"tau": 1.0}])]
    values = [each.start.values[0] for each in several]
    np.testing.assert_allclose(values, [-3, -1.6 / 0.6, -2], atol=1e-6)
    assert (
        np.abs(np.subtract(values, [-3, -1.6 / 0.6, -2])) <= [e.start.errors[0] + 1e-12 for e in several]
    ).all()
    # A reward of 1 at the goal, and a cost of 0.1 for each of two steps on average.
    solved = defaults.solve(road(-0.1, -0.1, 1.0), objectives.expectation(), discount=1.0)
    np.testing.assert_allclose(solved.start.values, [0.8, 0], atol=1e-6)
    # E min(-T, -2) = -(2 · ½ + Σ k 2⁻ᵏ over k ≥ 2) = -(1 + 1.5).
    capped = objectives.of_function(
        lambda returns: jnp.minimum(returns, -2), road(), 1.0, None, name="capped"
    )
    solved = defaults.solve(road(), capped, discount=1.0)
    np.testing.assert_allclose(solved.start.values, [-2.5, -2], atol=1e-6)
    np.testing.assert_array_equal(shortest_paths.proper_policy(road())[:1], 2)


def test_shortest_paths_are_those_of_the_best_stationary_policy():
    """For the mean: the best of all stationary policies, each by a system of linear equations."""
    problem = random_mdp(5)._replace(terminal=np.arange(3) == 2)
    problem.probabilities[:] = 0.5
    problem.next_states[..., 0], problem.next_states[2], problem.rewards[2] = 2, 2, 0
    values = []
    for policy in itertools.product(range(2), repeat=2):
        rows = np.arange(2), np.array(policy)
        onward = np.zeros((2, 2))
        for state, after in enumerate(problem.next_states[rows][:, 1]):
            onward[state, after : after + 1] = 0.5 if after < 2 else 0
        mean = problem.rewards[rows][..., 0].mean(1)
        values.append(np.linalg.solve(np.eye(2) - onward, mean))
    solved = defaults.solve(problem, objectives.expectation(), discount=1.0)
    np.testing.assert_allclose(solved.start.values[:2], np.max(values, axis=0), atol=1e-6)


@pytest.mark.parametrize("discount", [1.0, 0.9])
def test_a_policys_returns_are_the_same_forwards_and_backwards(discount):
    """Exact return distributions: episodes followed for one objective, backed up for the other."""
    problem, random = random_mdp(11), np.random.default_rng(12)
    problem = problem._replace(terminal=np.arange(3) == 2)
    for leaf in (problem.rewards, problem.next_states):
        leaf[2] = 0 if leaf is problem.rewards else 2
    grids = stock_grids.reachable(problem, [-1.0, 0.5], discount, HORIZON)
    policy = [random.integers(0, 2, (3, grid.size)) for grid in grids[:-1]]
    forwards, backwards = (
        solvers.policy_evaluation(
            problem,
            policy,
            objective,
            discount=discount,
            horizon=HORIZON,
            representation=distribution_representations.exact(),
            stocks=grids,
        )
        for objective in (objectives.expectation(), objectives.mean_variance(1.0))
    )
    values, probabilities = forwards.distributions
    means = (values[..., 0] * probabilities).sum(-1)
    np.testing.assert_allclose(grids[0].points[0] + means, forwards.values, atol=1e-12)
    assert probabilities.shape[-1] >= 4
    for place in np.ndindex(probabilities.shape[:2]):
        one, other = (
            (atoms.values[place][kept, 0], atoms.probabilities[place][kept])
            for atoms in (forwards.distributions, backwards.distributions)
            for kept in [atoms.probabilities[place] > 0]
        )
        np.testing.assert_allclose(one, other, atol=1e-12)


def test_simulated_episodes_keep_their_own_stock():
    # A coin gives 1 or -1. Then the policy gambles for 2 or -2, which count half, if the nearest stock of the
    # grid is -2. From stock 0 the coin leads to the stocks 2 and -2, from stock 1 to 4, which lies beyond the
    # grid, and to 0.
    coin, gamble = (
        [(0.5, state, float(size)), (0.5, state, -float(size))] for state, size in ((1, 1), (2, 2))
    )
    problem = mdps.from_outcomes(
        [[coin, coin], [[(1.0, 2, 0.0)], gamble], [[], []]], np.array([False, False, True])
    )
    policy = np.array([[0, 0, 0], [1, 0, 0], [0, 0, 0]])
    grid = stock_grids.from_points([-2, 0, 2])
    found = episodes.distributions(
        problem, policy, grid, np.array([0, 0]), np.array([[0.0], [1.0]]), discount=0.5
    )
    for returns, expected in zip(found.values, ({-2: 0.25, 0: 0.25, 1: 0.5}, {-1: 0.5, 1: 0.5}), strict=True):
        points, counts = np.unique(returns, return_counts=True)
        np.testing.assert_allclose(points, list(expected))
        np.testing.assert_allclose(counts / counts.sum(), list(expected.values()), atol=0.02)


def test_accelerators_work_on_several_states_at_a_time(monkeypatch):
    states = np.arange(12.0).reshape(6, 2)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    monkeypatch.setattr(return_distributions, "_MAX_BATCH", 8)
    found = return_distributions.map_states(lambda state: state.sum(), states, 2)  # four at a time, then two
    np.testing.assert_array_equal(found, states.sum(1))


def test_stocks_that_the_grids_lack_are_split():
    grids = [stock_grids.from_points([-1.5, -0.25])] * 3
    solution = values_of(chain(), objectives.target_return(1), stocks=grids, horizon=2, discount=1.0)
    assert solution.error_bound > 0
    exact = values_of(
        chain(),
        objectives.target_return(1),
        stocks=stock_grids.reachable(chain(), [-1.5, -0.25], 1.0, 2),
        horizon=2,
        discount=1.0,
    )
    np.testing.assert_array_equal(exact.values, [[-0.5, -1.75], [-0.5, -0.75], [-1.5, -0.25]])
    np.testing.assert_array_equal(exact.errors, 0)


def test_a_long_horizon_is_solved_exactly():
    coin = [(0.5, 0, 1.0), (0.5, 1, -1.0)]
    problem = mdps.from_outcomes([[coin, [(1.0, 1, 0.0)]], [[(1.0, 0, 0.0)], coin]])
    solved = defaults.solve(problem, objectives.lower_cvar(1.0), discount=1.0, horizon=300)
    classic = np.zeros(2)
    for _ in range(300):
        after = problem.rewards[..., 0] + classic[problem.next_states]
        classic = (problem.probabilities * after).sum(2).max(1)
    assert solved.exact
    np.testing.assert_allclose(solved.start.values, classic, atol=1e-9)
    np.testing.assert_allclose(solved.atoms.probabilities.sum(-1), 1, atol=1e-12)


@pytest.mark.slow
def test_solve_without_end_keeps_its_promise(monkeypatch):
    monkeypatch.setattr(defaults, "_MAX_TOTAL_SIZE", 50_000_000)
    problem = random_mdp(9, states=5)
    for objective in (objectives.lower_cvar(0.1), objectives.target_return(0.5)):
        solved = defaults.solve(problem, objective, discount=0.9)
        span = np.ptp(np.stack(mdps.return_bounds(problem, 0.9)))
        assert solved.start.errors.max() < 3e-3 * span
        np.testing.assert_array_equal(solved.off_grid_mass, 0)


@pytest.mark.slow
def test_returns_that_nobody_would_meet_do_not_coarsen_grids(monkeypatch):
    monkeypatch.setattr(defaults, "_MAX_TOTAL_SIZE", 5_000_000)
    # Staying gives -1 forever, a return of -10. Leaving gives 1 or -1, and grids end close to these.
    staying, leaving = [(1.0, 0, -1.0)], [(0.5, 1, 1.0), (0.5, 1, -1.0)]
    problem = mdps.from_outcomes([[staying, leaving], [[], []]], np.array([False, True]))
    solved = defaults.solve(problem, objectives.lower_cvar(0.75), discount=0.9)
    # The worst 0.75 contain -1 with 0.5 and 1 with 0.25: (-0.5 + 0.25) / 0.75.
    np.testing.assert_allclose(solved.start.values, [-1 / 3, 0], atol=1e-3)
    assert solved.start.errors.max() < 2e-3
    (points,) = solved.solution.stocks.points
    assert np.diff(points[np.abs(points) < 1]).max() < 2e-3
    assert solved.atoms is None
    # Leaving at once gives 1 or -1, by halves.
    values, probabilities = (leaf[0] for leaf in solved.first_distributions([0]))
    np.testing.assert_allclose(probabilities[values[:, 0] == -1].sum(), 0.5, atol=0.02)
    np.testing.assert_allclose(probabilities[values[:, 0] == 1].sum(), 0.5, atol=0.02)
