"""Solvers against the enumeration of all deterministic history-dependent policies."""

import functools

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from valuelab.distributional import (
    counterexamples,
    defaults,
    distribution_representations,
    objectives,
    oracle,
    solvers,
    starts,
    stock_grids,
)
from valuelab.distributional.mdps import from_outcomes
from valuelab.errors import InputError

STATES, ACTIONS, OUTCOMES, HORIZON = 3, 2, 2, 3
GREATEST = 2
"""The greatest absolute reward. Rewards are integers, so returns are integers, or multiples of ¼ at γ = ½."""


def random_mdp(rng, dim=1):
    """A random MDP with integer rewards; in half of all cases its last state is terminal."""
    shape = STATES, ACTIONS, OUTCOMES
    outcomes = zip(
        rng.dirichlet(np.ones(OUTCOMES), size=shape[:2]).reshape(-1, OUTCOMES),
        rng.integers(STATES, size=shape).reshape(-1, OUTCOMES),
        rng.integers(-GREATEST, GREATEST + 1, size=(*shape, dim)).astype(float).reshape(-1, OUTCOMES, dim),
        strict=True,
    )
    rows = [list(zip(*outcome, strict=True)) for outcome in outcomes]
    actions = [rows[start : start + ACTIONS] for start in range(0, len(rows), ACTIONS)]
    terminal = np.zeros(STATES, bool)
    terminal[-1] = rng.random() < 0.5
    return from_outcomes(actions, terminal)


def whole_grids(discount, dim=1):
    """Grids of one shape for all these MDPs, with every stock that can follow minus a possible return."""
    step, reach, grids = discount ** (HORIZON - 1), 0.0, []
    for stage in range(HORIZON):
        reach += GREATEST * discount**stage
    for _ in range(HORIZON + 1):
        grids.append(np.arange(-reach, reach + step / 2, step))
        reach, step = (reach + GREATEST) / discount, step / discount
    return [stock_grids.StockGrid((points,) * dim) for points in grids]


@functools.partial(jax.jit, static_argnames=("discount", "dim", "exact"))
def solve(mdp, objective, discount, dim=1, exact=False):
    """The optimum from every state."""
    solution = solvers.value_iteration(
        mdp,
        objective,
        discount=discount,
        horizon=HORIZON,
        representation=distribution_representations.exact() if exact else None,
        stocks=whole_grids(discount, dim),
    )
    return starts.choose(solution, objective, aligned=True)


def optima(mdp, objective, discount):
    return [
        oracle.best(objective, distributions)
        for distributions in oracle.history_distributions(mdp, discount, HORIZON)
    ]


SCALAR = {
    "expectation": lambda rng: objectives.expectation(),
    "cvar": lambda rng: objectives.lower_cvar(rng.uniform(0.01, 1)),
    "mean_cvar": lambda rng: objectives.mean_cvar(rng.uniform(0.01, 1), rng.uniform()),
    "target": lambda rng: objectives.target_return(float(rng.integers(-3, 4))),
    "satisficing": lambda rng: objectives.satisficing(float(rng.integers(-3, 4))),
    "var": lambda rng: objectives.value_at_risk(rng.uniform(0, 0.99)),
    "entropic": lambda rng: objectives.entropic(rng.choice([-1, 1]) * rng.uniform(0.1, 2)),
    # Utilities without a degree.
    "target and satisficing": lambda rng: objectives.weighted_sum(
        objectives.target_return(float(rng.integers(-3, 4))), objectives.satisficing(0.0), rng.uniform()
    ),
    "target, then expectation": lambda rng: objectives.weighted_sum(
        objectives.target_return(float(rng.integers(-3, 4))), objectives.expectation(), rng.uniform()
    ),
}
VECTOR = {
    "homeostatic, norm 1": lambda rng: objectives.homeostatic(rng.integers(-1, 2, size=2), norm=1),
    "homeostatic, norm 2": lambda rng: objectives.homeostatic(rng.integers(-1, 2, size=2)),
    "homeostatic, norm inf": lambda rng: objectives.homeostatic(
        rng.integers(-1, 2, size=2), norm=np.inf, weights=[1, 3]
    ),
    "homeostatic, squared": lambda rng: objectives.homeostatic(rng.integers(-1, 2, size=2), power=2),
}
"""Applications with random parameters; upper CVaR and spectral risk have separate tests below."""


def compare(make, discount, count):
    """The solver's optimum and the oracle's on many random MDPs, each with its own parameters."""
    rng = np.random.default_rng(2)
    made = [make(rng) for _ in range(count)]
    dim = made[0].properties.reward_dim
    mdps = [random_mdp(rng, dim) for _ in range(count)]
    with jax.enable_x64(True):
        many_mdps, many_objectives = (
            jax.tree.map(lambda *leaves: np.stack(leaves), *each) for each in (mdps, made)
        )
        start = jax.vmap(
            lambda mdp, objective: solve(mdp, objective, discount, dim, exact=objective.utility is None)
        )(many_mdps, many_objectives)
    best = [optima(mdp, objective, discount) for mdp, objective in zip(mdps, made, strict=True)]
    np.testing.assert_allclose(start.values, best, atol=1e-6)
    np.testing.assert_array_less(start.errors, 1e-6)


# Fast: one compiled program for each of two objectives serves all MDPs, levels and targets.


@hypothesis.settings(max_examples=30, deadline=None, database=None, derandomize=True)
@hypothesis.given(seed=st.integers(0, 2**32 - 1), tau=st.floats(0.01, 1.0))
def test_cvar_is_that_of_the_best_policy_of_all(seed, tau):
    mdp, objective = random_mdp(np.random.default_rng(seed)), objectives.lower_cvar(tau)
    with jax.enable_x64(True):
        start = solve(mdp, objective, 0.5)
    np.testing.assert_allclose(start.values, optima(mdp, objective, 0.5), atol=1e-9)
    np.testing.assert_array_equal(start.errors, 0)


@pytest.mark.slow
def test_history_is_worth_something():
    """Otherwise these tests could not detect a missing stock."""
    rng, worse = np.random.default_rng(0), 0
    for mdp in [random_mdp(rng) for _ in range(10)]:
        sets = oracle.history_distributions(mdp, 1.0, HORIZON), oracle.markov_distributions(mdp, 1.0, HORIZON)
        history, markov = (
            [oracle.best(objectives.target_return(1.0), distributions) for distributions in each]
            for each in sets
        )
        worse += any(np.greater(history, np.add(markov, 1e-6)))
    assert worse > 2


@pytest.mark.slow
@pytest.mark.parametrize("name", SCALAR)
def test_every_application_reaches_the_optimum_of_all_policies(name):
    compare(SCALAR[name], 1.0, 200)


@pytest.mark.slow
@pytest.mark.parametrize("name", SCALAR)
def test_so_it_does_when_discounted(name):
    compare(SCALAR[name], 0.5, 200)


@pytest.mark.slow
@pytest.mark.parametrize("name", VECTOR)
def test_so_it_does_for_vector_rewards(name):
    compare(VECTOR[name], 0.5, 20)


@pytest.mark.slow
def test_spectral_risk_has_a_stock_for_every_level():
    rng = np.random.default_rng(0)
    with jax.enable_x64(True):
        for mdp in [objectives.repeat_rewards(random_mdp(rng), 2) for _ in range(10)]:
            weight = rng.uniform()
            objective = objectives.spectral(rng.uniform(0.05, 1, size=2), [weight, 1 - weight])
            start = solve(mdp, objective, 1.0, dim=2)
            np.testing.assert_allclose(start.values, optima(mdp, objective, 1.0), atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("discount", [0.9, 0.37])
def test_reachable_stocks_make_any_discount_exact(discount):
    rng = np.random.default_rng(1)
    for mdp in [random_mdp(rng)]:
        distributions = oracle.history_distributions(mdp, discount, HORIZON)
        for objective in (objectives.lower_cvar(rng.uniform(0.05, 1)), objectives.target_return(0.7)):
            returns = np.concatenate([each.support[:, 0] for each in distributions])
            first = -returns if isinstance(objective.start, objectives.SearchedStart) else [-0.7]
            with jax.enable_x64(True):
                solution = solvers.value_iteration(
                    mdp,
                    objective,
                    discount=discount,
                    horizon=HORIZON,
                    representation=None,
                    stocks=stock_grids.reachable(mdp, first, discount, HORIZON),
                )
                start = starts.choose(solution, objective, aligned=True)
            np.testing.assert_allclose(
                start.values, [oracle.best(objective, each) for each in distributions], atol=1e-6
            )


@functools.partial(jax.jit, static_argnames="discount")
def solve_with(mdp, objective, offsets, discount=1.0):
    """As `solve`, with further stocks at the given offsets above each integer, and with draws."""
    whole = jnp.arange(-12.0, 13.0)
    grid = stock_grids.StockGrid((jnp.sort((whole[:, None] + offsets[None]).ravel()),))
    solution = solvers.value_iteration(
        mdp,
        objective,
        discount=discount,
        horizon=HORIZON,
        representation=distribution_representations.exact(),
        stocks=grid,
    )
    distributions = distribution_representations.exact().atoms(solution.distributions)
    return starts.choose(solution, objective, distributions)


@pytest.mark.slow
def test_upper_cvar_is_that_of_the_best_draw():
    """Solving for the pivots as stocks, too, and again for the next ones, closes the gap."""
    rng, drawn = np.random.default_rng(4), 0
    for mdp in [random_mdp(rng) for _ in range(10)]:
        objective = objectives.upper_cvar(rng.uniform(0.05, 0.6))
        best = np.array(optima(mdp, objective, 1.0))
        pivots = np.array([0.25, 0.5, 0.75])
        for _ in range(8):
            with jax.enable_x64(True):
                start = jax.tree.map(np.asarray, solve_with(mdp, objective, np.append(0.0, pivots)))
            assert (start.values <= best + 1e-9).all()
            assert (start.alone <= start.values).all()
            assert (best <= start.values + start.errors + 1e-9).all()
            if start.errors.max() < 1e-7:
                break
            # Pivots that are equal to a grid point or to each other are replaced by another number.
            found = np.unique(np.round(np.mod(start.pivots[:, 0], 1), 12) % 1)
            found = found[found > 0]
            pivots = np.append(found, rng.uniform(size=3 - len(found)))
        np.testing.assert_allclose(start.values, best, atol=1e-6)
        drawn += (start.chances > 1e-6).any()
    assert drawn > 0


# Counterexamples.


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if counterexamples.REFUSED[name]().horizon else pytest.mark.slow)
        for name in counterexamples.REFUSED
    ],
)
def test_refused_objectives_would_miss_the_optimum(name):
    example = counterexamples.REFUSED[name]()
    first = np.asarray(example.objective.start.stock(example.objective.parameters), float)
    setting = {"discount": example.discount, "horizon": example.horizon}
    if example.horizon is None:
        setting |= {
            "representation": distribution_representations.quantile(10),
            "stocks": stock_grids.from_points(first),
        }
    else:
        grids = stock_grids.reachable(example.mdp, first, example.discount, example.horizon)
        setting |= {"representation": distribution_representations.exact(), "stocks": grids}
    with jax.enable_x64(True):
        with pytest.raises(InputError, match=example.missing_property):
            solvers.value_iteration(example.mdp, example.objective, **setting)
        solution = solvers.value_iteration(example.mdp, example.objective, **setting, allow_unsound=True)
        start = starts.choose(solution, example.objective)
    assert example.missing_property in solution.unsound
    np.testing.assert_allclose(start.values[0], example.recursion_value, atol=1e-6)
    assert example.recursion_value < example.optimum
    if example.horizon is not None:
        distributions = oracle.history_distributions(example.mdp, example.discount, example.horizon)
        np.testing.assert_allclose(
            oracle.best(example.objective, distributions[0]), example.optimum, atol=1e-6
        )


def test_the_limit_that_satisficing_misses():
    """Rewards of 1 forever return 2; every finite number of steps returns less."""
    example = counterexamples.satisficing()
    returns = sum(example.discount**step for step in range(60))
    np.testing.assert_allclose(returns, 2, atol=1e-12)


def test_without_stock_cvar_is_worse():
    example = counterexamples.stock_needed()
    distributions = oracle.history_distributions(example.mdp, example.discount, example.horizon)
    markov = oracle.markov_distributions(example.mdp, example.discount, example.horizon)
    assert oracle.best(example.objective, distributions[0]) == pytest.approx(example.optimum)
    assert oracle.best(example.objective, markov[0]) == pytest.approx(example.recursion_value)
    with jax.enable_x64(True):
        solution = solvers.value_iteration(
            example.mdp,
            example.objective,
            discount=example.discount,
            horizon=example.horizon,
            representation=None,
            stocks=stock_grids.uniform([-9.0], [9.0], [19]),
        )
        start = starts.choose(solution, example.objective, aligned=True)
    np.testing.assert_allclose(start.values[0], example.optimum)
    # The first stock is minus the 0.5-quantile, and the policy gambles after 0 and not after 4.
    after = solution.policy[1][1]
    places = np.searchsorted(solution.stocks.points[0], np.asarray(start.stocks)[0, 0] + np.array([0, 4]))
    np.testing.assert_array_equal(after[places], [1, 0])


@pytest.mark.parametrize("name", counterexamples.NEEDS_HORIZON)
def test_with_a_horizon_no_discount_reverses_an_order(name):
    """0.56622 for exponential utility, 0.5 for the cap; the docstrings of the examples derive both."""
    example = counterexamples.NEEDS_HORIZON[name]()
    solved = defaults.solve(example.mdp, example.objective, discount=example.discount, horizon=2)
    distributions = oracle.history_distributions(example.mdp, example.discount, 2)
    assert solved.exact
    assert solved.start.values[0] == pytest.approx(example.optimum, abs=1e-6)
    assert oracle.best(example.objective, distributions[0]) == pytest.approx(example.optimum, abs=1e-6)
    # The same in a compiled program, which takes the general path of the solver.
    first = np.asarray(example.objective.start.stock(example.objective.parameters), float)
    grids = stock_grids.reachable(example.mdp, first, example.discount, 2)
    with jax.enable_x64(True):
        solve_traced = jax.jit(
            lambda objective: (
                solvers.value_iteration(
                    example.mdp,
                    objective,
                    discount=example.discount,
                    horizon=2,
                    representation=distribution_representations.exact(),
                    stocks=grids,
                ).values
            )
        )
        values = solve_traced(example.objective)[0]
    np.testing.assert_allclose(values, example.optimum, atol=1e-6)
    with pytest.raises(InputError, match="lacks gamma-indifference, which infinite horizons need"):
        solvers.value_iteration(
            example.mdp, example.objective, discount=0.5, representation=None, stocks=grids[0]
        )


@pytest.mark.slow
@pytest.mark.parametrize("name", counterexamples.NEEDS_HORIZON)
def test_without_a_horizon_discounting_reverses_orders(name):
    """The recursion of infinite horizons finds 0.45 twice: all episodes stay at stock 0 up to the choice."""
    example = counterexamples.NEEDS_HORIZON[name]()
    with jax.enable_x64(True):
        solution = solvers.value_iteration(
            example.mdp,
            example.objective,
            discount=example.discount,
            representation=distribution_representations.quantile(10),
            stocks=stock_grids.from_points([0.0]),
            allow_unsound=True,
        )
    np.testing.assert_allclose(solution.values[0, 0], example.recursion_value, atol=1e-6)


# The oracle.


def test_the_oracle_counts_distributions_by_hand():
    """Twice a coin of 0 and 1, or ½: 2·2 distributions after the coin, 2 after ½, one of them twice."""
    mdp = from_outcomes([[[(0.5, 0, 0.0), (0.5, 0, 1.0)], [(1.0, 0, 0.5)]]])
    support, probabilities = oracle.history_distributions(mdp, 1.0, 2)[0]
    np.testing.assert_array_equal(support[:, 0], [0, 0.5, 1, 1.5, 2])
    expected = [
        [0, 0, 1, 0, 0],  # sure, sure
        [0, 0.5, 0, 0.5, 0],  # sure and coin; and coin, then sure
        [0, 0.5, 0.25, 0, 0.25],  # coin; sure after 0, coin after 1
        [0.25, 0, 0.25, 0.5, 0],
        [0.25, 0, 0.5, 0, 0.25],
    ]
    np.testing.assert_array_equal(probabilities, expected)
    # A policy of state and step alone does not distinguish 0 from 1.
    assert len(oracle.markov_distributions(mdp, 1.0, 2)[0].probabilities) == 3


def test_equal_outcomes_are_one_history():
    mdp = from_outcomes([[[(0.5, 0, 1.0), (0.5, 0, 1.0)], [(1.0, 0, 0.0)]]])
    assert len(oracle.history_distributions(mdp, 0.5, 2)[0].probabilities) == 4


def test_the_oracle_refuses_what_it_cannot_enumerate():
    mdp = random_mdp(np.random.default_rng(0))
    with pytest.raises(InputError, match="horizon is 6; give 0 to 5 steps"):
        oracle.history_distributions(mdp, 1.0, 6)
    with pytest.raises(
        InputError, match=r"action \d in state \d leads to \d+ return distributions, but max_count is 10;"
    ):
        oracle.history_distributions(mdp, 1.0, 3, max_count=10)
    with pytest.raises(InputError, match="there are 64 Markov policies, but max_count is 10"):
        oracle.markov_distributions(mdp._replace(terminal=np.zeros(3, bool)), 1.0, 2, max_count=10)


def test_the_best_draw_is_no_worse_than_any():
    """Against a lattice of draws of two distributions, and all b: see `test_upper_cvar_may_need_a_draw`."""
    distributions = oracle.DistributionSet(
        np.array([[0.0], [1.0], [6.0]]), np.array([[0, 1, 0], [11 / 12, 0, 1 / 12]])
    )
    assert oracle.best(objectives.upper_cvar(1 / 6), distributions) == pytest.approx(36 / 11)


# Representations.


def rate(sizes, errors):
    """The slope of errors over sizes, both on a logarithmic scale."""
    return scipy.stats.linregress(np.log(sizes), np.log(errors)).slope


def certainty_equivalent(distributions):
    """-log E exp(-G), [S]."""
    return -np.log(np.sum(distributions.probabilities * np.exp(-distributions.values[..., 0]), axis=-1))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "sizes", "smooth"),
    [
        # Splitting an atom keeps its mean: W₁ falls like the spacing, smooth functionals like its square.
        (
            lambda size: distribution_representations.categorical(np.linspace(-10, 10, size)),
            [16, 32, 64, 128, 256],
            -2,
        ),
        # Midpoints of n equal parts: W₁ falls like 1/n, and smooth functionals at least as fast.
        (distribution_representations.quantile, [4, 8, 16, 32, 64], -1),
    ],
    ids=["categorical", "quantile"],
)
def test_laws_converge_as_atoms_grow(make, sizes, smooth):
    """Slopes of -1 for W₁, and of -2 or -1 at most for a certainty equivalent, to within 0.3."""
    rng = np.random.default_rng(0)

    def outcomes():
        parts = rng.dirichlet([1, 1]), rng.integers(STATES, size=2), rng.uniform(-2, 2, size=2)
        return list(zip(*parts, strict=True))

    rows = [[outcomes() for _ in range(ACTIONS)] for _ in range(STATES)]
    mdp = from_outcomes(rows, np.zeros(STATES, bool))

    def distributions_of(representation):
        with jax.enable_x64(True):
            solution = solvers.value_iteration(
                mdp,
                objectives.expectation(),
                discount=0.9,
                horizon=6,
                representation=representation,
                stocks=stock_grids.from_points([0.0]),
            )
            return jax.tree.map(
                lambda leaf: np.asarray(leaf)[:, 0], representation.atoms(solution.distributions)
            )

    exact = distributions_of(distribution_representations.exact())
    distances, errors = [], []
    for size in sizes:
        distributions = distributions_of(make(size))
        of_states = zip(
            distributions.values, exact.values, distributions.probabilities, exact.probabilities, strict=True
        )
        apart = [
            scipy.stats.wasserstein_distance(one[:, 0], two[:, 0], *weights)
            for one, two, *weights in of_states
        ]
        distances.append(np.mean(apart))
        errors.append(np.abs(certainty_equivalent(distributions) - certainty_equivalent(exact)).mean())
    assert rate(sizes, distances) == pytest.approx(-1, abs=0.3)
    assert rate(sizes, errors) < smooth + 0.3
