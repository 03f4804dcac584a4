"""Objectives: golden numbers, properties, refusals, and starts of episodes."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from valuelab.distributional import counterexamples, functionals, objectives, properties, starts, stock_grids
from valuelab.distributional.return_distributions import Atoms
from valuelab.distributional.solvers import Solution
from valuelab.errors import InputError

# A return of -2, 1, 4 with probabilities 1/4, 1/2, 1/4.
VALUES = jnp.array([[-2.0], [4.0], [1.0]])
PROBABILITIES = jnp.array([0.25, 0.25, 0.5])


def value(objective):
    """The reported value of this return: K(c₀ + G), or the measure of G."""
    start = objective.start
    if isinstance(start, objectives.FixedStart):
        values = start.stock(objective.parameters)[None] + VALUES
        return objective.functional(objective.parameters, values, PROBABILITIES)
    return start.measure(objective.parameters, VALUES, PROBABILITIES)


@pytest.mark.parametrize(
    ("objective", "expected"),
    [
        (objectives.expectation(), 1.0),  # -2/4 + 1/2 + 4/4
        (objectives.lower_cvar(0.5), -0.5),  # the worse half: -2 and 1 in equal parts
        (objectives.lower_cvar(0.1), -2.0),
        (objectives.lower_cvar(1.0), 1.0),
        (objectives.upper_cvar(0.5), 2.5),  # 4 and 1 in equal parts
        (objectives.upper_cvar(1.0), 1.0),
        (objectives.mean_cvar(0.5, weight=0.2), -0.2),  # 0.2·1 + 0.8·(-0.5)
        (objectives.target_return(2.0), -2.0),  # -(4/4 + 1/2 + 2/4)
        (objectives.homeostatic([2.0], norm=math.inf), -2.0),
        (objectives.homeostatic([2.0], power=2, weights=[3.0]), -49.5),  # -9·(16/4 + 1/2 + 4/4)
        (objectives.satisficing(1.0), 0.75),
        (objectives.satisficing(1.1), 0.25),
        (objectives.value_at_risk(0.0), -2.0),  # the worst return
        (objectives.value_at_risk(0.25), 1.0),  # P(G ≥ 1) = 3/4
        (objectives.value_at_risk(0.2), -2.0),
        (objectives.value_at_risk(0.75), 4.0),
        (objectives.entropic(-1.0), -math.log(math.exp(2) / 4 + math.exp(-1) / 2 + math.exp(-4) / 4)),
        (objectives.entropic(0.5), 2 * math.log(math.exp(-1) / 4 + math.exp(0.5) / 2 + math.exp(2) / 4)),
        (objectives.mean_variance(0.5), -1.25),  # 1 - (9/4 + 9/4)/2
        # 0.9·(-1.75) + 0.1·(-1), both at c₀ = -2: E|G - 2| = 2, E[G - 2] = -1.
        (objectives.weighted_sum(objectives.target_return(2.0), objectives.expectation(), 0.1), -1.9),
    ],
    ids=lambda part: getattr(part, "name", None),
)
def test_golden_numbers(objective, expected):
    np.testing.assert_allclose(value(objective), expected, rtol=1e-5)


def test_norms_of_vector_returns():
    # (3, -4) from its target, with weights (1, 2): (3, 8) has norms 11, √73 and 8.
    points = jnp.array([[[3.0, -4.0]]])
    for norm, expected in ((1, 11), (2, math.sqrt(73)), (math.inf, 8)):
        objective = objectives.homeostatic([0.0, 0.0], norm, weights=[1, 2])
        np.testing.assert_allclose(
            objective.functional(objective.parameters, points, jnp.ones((1, 1))), -expected
        )


def test_spectral_is_the_mixture_of_its_tails():
    objective = objectives.spectral([0.5, 1.0], [0.25, 0.75])
    values = jnp.repeat(VALUES, 2, axis=-1)
    # 0.25·(-0.5) + 0.75·1
    np.testing.assert_allclose(
        objective.start.measure(objective.parameters, values, PROBABILITIES), 0.625, rtol=1e-6
    )


def test_entropic_value_at_risk_of_a_coin():
    """EVaR is the least mean of all q with KL(q, p) ≤ -log τ. For a coin of 0 and 1 that is q = ¼ where

    -log τ = ¼ log ½ + ¾ log 1½, and the certain 0 for τ ≤ ½.
    """
    with jax.enable_x64(True):
        values, probabilities = jnp.array([[0.0], [1.0], [9.0]]), jnp.array([0.5, 0.5, 0.0])
        for tau, expected in ((2**0.25 / 1.5**0.75, 0.25), (0.5, 0), (0.1, 0)):
            objective = objectives.entropic_value_at_risk(tau)
            found = objective.functional(objective.parameters, values, probabilities)
            np.testing.assert_allclose(found, expected, atol=1e-9)


SEARCHED = [
    objectives.lower_cvar(0.3),
    objectives.upper_cvar(0.3),
    objectives.mean_cvar(0.3, 0.4),
    objectives.spectral([0.3, 0.8], [0.4, 0.6]),
    objectives.value_at_risk(0.3),
]


@pytest.mark.parametrize("objective", SEARCHED, ids=lambda objective: objective.name)
def test_the_measure_is_the_optimum_of_the_dual(objective):
    """max_c { -c + E f(c + G) / τ } over stocks that include the quantiles; the minimum for upper CVaR."""
    dim = objective.properties.reward_dim
    grid = stock_grids.StockGrid((np.arange(-5.0, 4.0),) * dim).stocks
    values = jnp.repeat(VALUES, dim, axis=-1)
    shifted = grid[:, None] + values[None]
    distributions = jnp.broadcast_to(PROBABILITIES, shifted.shape[:-1])
    scores = objective.functional(objective.parameters, shifted, distributions)
    duals = objective.start.dual(objective.parameters, grid, scores)
    measure = objective.start.measure(objective.parameters, values, PROBABILITIES)
    np.testing.assert_allclose(duals.min() if objective.start.minimized else duals.max(), measure, rtol=1e-5)


def test_objectives_are_vmapped_over_their_parameters():
    levels = jnp.array([0.1, 0.5, 1.0])
    expected = [value(objectives.lower_cvar(float(level))) for level in levels]
    made_inside = jax.vmap(lambda level: value(objectives.lower_cvar(level)))(levels)
    np.testing.assert_allclose(made_inside, expected, rtol=1e-6)
    stacked = jax.vmap(value)(objectives.lower_cvar(np.asarray(levels)))
    np.testing.assert_allclose(stacked, expected, rtol=1e-6)
    assert jax.tree.leaves(objectives.homeostatic([1.0, 2.0])) != []


def test_equal_objectives_share_what_is_compiled():
    traced = []

    @jax.jit
    def score(objective):
        traced.append(objective.name)
        return value(objective)

    for target in (1.0, 2.0):
        score(objectives.homeostatic([target], norm=1))
        score(objectives.weighted_sum(objectives.target_return(target), objectives.expectation(), 0.5))
    assert len(traced) == 2


# Refusals.


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: objectives.lower_cvar(0.0), "tau is 0; it must be a level in (0, 1]"),
        (lambda: objectives.upper_cvar(1.5), "tau is 1.5"),
        (lambda: objectives.lower_cvar([0.5, 2.0]), "tau[1] is 2"),
        (lambda: objectives.entropic_value_at_risk(1.0), "tau is 1; it must be a level in (0, 1)"),
        (lambda: objectives.value_at_risk(1.0), "tau is 1; it must be a level in [0, 1)"),
        (lambda: objectives.mean_cvar(math.nan, 0.5), "tau is nan"),
        (lambda: objectives.mean_cvar(0.5, -0.1), "weight is -0.1; it must be in [0, 1]"),
        (lambda: objectives.target_return(math.nan), "target is nan; it must be finite"),
        (lambda: objectives.target_return("three"), "target is 'three'"),
        (lambda: objectives.homeostatic([0.0, math.inf]), "target[1] is inf"),
        (lambda: objectives.homeostatic([0.0], norm=3), "norm is 3; it must be 1, 2 or inf"),
        (
            lambda: objectives.homeostatic([0.0, 0.0], weights=[1, -1]),
            "weights[1] is -1; it must be positive",
        ),
        (lambda: objectives.homeostatic([0.0, 0.0], weights=[1]), "weights have shape (1,)"),
        (lambda: objectives.homeostatic([0.0], power=0), "power is 0"),
        (lambda: objectives.spectral([0.5], [0.5, 0.5]), "taus have shape (1,), but weights have shape (2,)"),
        (lambda: objectives.spectral([0.5, 1.0], [0.5, 0.6]), "the sum of weights is 1.1; it must be 1"),
        (lambda: objectives.entropic(0.0), "risk is 0; it must be finite and not 0"),
        (
            lambda: properties.Properties(gamma_indifferent=False, degree=1.0),
            "degree is 1, but gamma_indifferent is False",
        ),
        (
            lambda: objectives.with_parameters(objectives.lower_cvar(0.5), tau=2.0),
            "tau is 2; it must be a level in (0, 1]",
        ),
        (
            lambda: objectives.with_parameters(objectives.lower_cvar(0.5), target=2.0),
            "unknown parameter of objective cvar 'target'",
        ),
        (
            lambda: objectives.with_parameters(objectives.homeostatic([1.0, 2.0]), target=[1.0]),
            "target of objective homeostatic has shape (1,); give shape (2,)",
        ),
        (lambda: objectives.make("cvarr", tau=0.1), "unknown objective 'cvarr': did you mean 'cvar'?"),
        (lambda: objectives.make("cvar"), "objective cvar needs tau"),
        (
            lambda: objectives.make("cvar", tua=0.1),
            "unknown parameter of objective cvar 'tua': did you mean 'tau'?",
        ),
        (
            lambda: objectives.weighted_sum(objectives.lower_cvar(0.1), objectives.expectation(), 0.5),
            "cvar and expectation cannot be added",
        ),
        (
            lambda: objectives.weighted_sum(
                objectives.homeostatic([0.0, 0.0]), objectives.expectation(), 0.5
            ),
            "homeostatic takes 2 reward components, but expectation takes 1",
        ),
        (
            lambda: objectives.check(objectives.homeostatic([0.0, 0.0]), 1.0, 3, 1),
            "homeostatic takes 2 reward components, but the MDP has 1",
        ),
    ],
)
def test_what_cannot_be_used_is_named(make, message):
    with pytest.raises(InputError) as error:
        make()
    assert message in str(error.value)
    assert "\n" not in str(error.value)


SOUND = [
    *(objectives.expectation(), objectives.lower_cvar(0.1), objectives.upper_cvar(0.1)),
    *(objectives.mean_cvar(0.1, 0.5), objectives.target_return(1.0), objectives.homeostatic([1.0])),
]


@pytest.mark.parametrize("objective", SOUND, ids=lambda objective: objective.name)
def test_homogeneous_lipschitz_utilities_are_sound_everywhere(objective):
    for discount, horizon in ((1.0, 5), (0.9, 5), (0.9, None)):
        objectives.check(objective, discount, horizon, 1)


@pytest.mark.parametrize(
    ("objective", "discount", "horizon", "missing"),
    [
        (objectives.mean_variance(1.0), 1.0, 3, "mixture-indifference"),
        (objectives.entropic_value_at_risk(0.5), 1.0, 3, "mixture-indifference"),
        (objectives.entropic(1.0), 0.9, None, "gamma-indifference"),
        (objectives.entropic(1.0), 0.9, 3, None),
        (objectives.value_at_risk(0.1), 0.9, None, "Lipschitz continuity"),
        (objectives.entropic(1.0), 1.0, 3, None),
        (objectives.satisficing(1.0), 0.9, None, "Lipschitz continuity"),
        (objectives.satisficing(1.0), 0.9, 3, None),
        (objectives.homeostatic([1.0], power=2), 0.9, None, "Lipschitz continuity"),
        (objectives.homeostatic([1.0], power=2), 0.9, 3, None),
        # Parts of degrees 0 and 1: sound in finite horizons.
        (
            objectives.weighted_sum(objectives.satisficing(1.0), objectives.expectation(), 0.1),
            *(0.9, None, "gamma-indifference"),
        ),
        (
            objectives.weighted_sum(objectives.target_return(1.0), objectives.expectation(), 0.1),
            0.9,
            None,
            None,
        ),
    ],
)
def test_the_property_that_fails_is_named(objective, discount, horizon, missing):
    reason = objectives.unsound_reason(objective, discount, horizon, 1)
    if missing is None:
        assert reason is None
    else:
        assert missing in reason
        with pytest.raises(InputError, match=f"{objective.name} lacks {missing}"):
            objectives.check(objective, discount, horizon, 1)


# Properties by tests.


def of_return(function):
    return lambda parameters, points: function(points[..., 0])


@pytest.mark.parametrize(
    ("utility", "degree", "lipschitz"),
    [
        (functionals.shortfall, 1, 1),
        (functionals.minus_absolute, 1, 1),
        (functionals.reached, 0, math.inf),
        (counterexamples.capped, None, 1),
        (functionals.minus_distance(2.0, (1.0, 1.0), 2.0), 2, math.inf),
        # Caps far from 1, where f is linear up to the cap.
        (of_return(lambda x: jnp.minimum(x, 50)), None, 1),
        (of_return(lambda x: jnp.minimum(x, 5e5)), None, 1),
        # A constant changes no order.
        (of_return(lambda x: jnp.minimum(x, 0) + 1000), 1, 1),
        (of_return(lambda x: jnp.where(x >= 0, 3.0, 2.0)), 0, math.inf),
        (of_return(jnp.zeros_like), 1, 0),
        # Infinitely steep at 0, at 3, at the axes of R², or far away.
        (of_return(lambda x: jnp.sign(x) * jnp.abs(x) ** 0.88), 0.88, math.inf),
        (of_return(lambda x: jnp.cbrt(x)), 1 / 3, math.inf),
        (of_return(lambda x: jnp.abs(x - 3) ** 0.88), None, math.inf),
        (lambda parameters, points: -jnp.sqrt(jnp.abs(jnp.prod(points, -1))), 1, math.inf),
        (of_return(lambda x: x + jnp.exp(x / 1e5)), None, math.inf),
        (of_return(jnp.sqrt), None, math.inf),  # not a number below 0
        (of_return(jnp.tanh), None, 1),
    ],
)
def test_properties_of_utilities_are_found_at_all_magnitudes(utility, degree, lipschitz):
    dim = 2 if utility(None, jnp.ones((5, 2))).ndim == 1 and _needs_two(utility) else 1
    found = properties.of_utility(utility, reward_dim=dim)
    assert found.mixture_indifferent
    assert found.gamma_indifferent == (degree is not None)
    assert found.degree == (degree if degree is None else pytest.approx(degree, abs=1e-12))
    np.testing.assert_allclose(found.lipschitz, lipschitz, rtol=1e-6)


def _needs_two(utility):
    """Whether a utility depends on the second component."""
    points = jnp.array([[1.0, 0.5], [1.0, 2.0]])
    one, two = utility(None, points)
    return bool(one != two)


@pytest.mark.slow
def test_tests_find_what_general_functionals_lack():
    variance = properties.of_functional(functionals.mean_variance, {"weight": 0.1})
    assert not variance.mixture_indifferent
    entropic = properties.of_functional(functionals.entropic, {"risk": -0.5})
    assert entropic.mixture_indifferent
    assert not entropic.gamma_indifferent


def cubed(parameters, points):
    return points[..., 0] ** 3


def test_objectives_of_ones_own():
    objective = objectives.expected_utility(cubed, properties.of_utility(cubed), stock=[1.0], name="cubed")
    assert objective.properties.degree == 3
    np.testing.assert_allclose(value(objective), -0.25 + 125 / 4 + 8 / 2)
    assert "Lipschitz" in objectives.unsound_reason(objective, 0.9, None, 1)
    general = objectives.general(
        functionals.mean_variance,
        objectives.mean_variance(1.0).properties,
        stock=[0.0],
        name="own",
        weight=0.5,
    )
    np.testing.assert_allclose(value(general), -1.25)


# Starts.


CERTAIN, RARE, SPREAD = [1.0] * 12, [6.0] + [0.0] * 11, [0.0, 2.0, 4.0] * 4
"""Returns in twelve equally likely cases: 1; 6 with probability 1/12; or 0, 2 and 4 with 1/3 each."""


def solved(objective, returns, points):
    """The solution at some stocks of a state whose policies have given returns; the best distributions."""
    grid = stock_grids.from_points(points)
    distributions = Atoms(jnp.asarray(returns)[..., None], jnp.full((len(returns), 12), 1 / 12))
    shifted = grid.stocks[:, None, None] + distributions.values[None]
    each = jnp.broadcast_to(distributions.probabilities[None], shifted.shape[:-1])
    scores = objective.functional(objective.parameters, shifted, each)
    best = scores.argmax(1)
    values, none = scores.max(1)[None], jnp.zeros((1, grid.size))
    low, high = (jnp.full((1, 1), bound) for bound in (np.min(returns), np.max(returns)))
    solution = Solution(None, values, None, grid, 0, 0.0, none, {}, none, None, low, high)
    return solution, jax.tree.map(lambda leaf: leaf[best][None], distributions)


def test_lower_cvar_starts_from_minus_the_quantile():
    # The worst third of 0, 2, 4 is 0, less than 1. The mean is 2, more than 1, with first stock -4.
    solution, _ = solved(objectives.lower_cvar(1.0), [CERTAIN, SPREAD], [-4, -3, -2, -1, 0])
    averse = starts.choose(solution, objectives.lower_cvar(1 / 3), aligned=True)
    np.testing.assert_allclose(
        [averse.values[0], averse.stocks[0, 0], averse.errors[0]], [1, -1, 0], atol=1e-6
    )
    neutral = starts.choose(solution, objectives.lower_cvar(1.0), aligned=True)
    np.testing.assert_allclose([neutral.values[0], neutral.stocks[0, 0]], [2, -4], atol=1e-6)


def test_a_coarse_grid_shows_in_the_error():
    objective = objectives.lower_cvar(1 / 3)
    solution, _ = solved(objective, [CERTAIN, SPREAD], [-4, -1.5, 0])
    start = starts.choose(solution, objective)
    assert start.values[0] < 0.99
    assert start.values[0] + start.errors[0] >= 1


def test_upper_cvar_may_need_a_draw():
    """The best sixth of two policies: the return 1, or 6 with probability 1/12.

    Alone they are worth 1 and 6·6/12 = 3. With 1 drawn by chance p, the best sixth holds (1 - p)/12 of 6
    and the rest in ones, as far as p suffices: 3 (1 - p) + 6 min(p, 1/12 + p/12), greatest at p = 1/11, where
    it is 36/11. The duals 6 (c + 1) - c and 6 (c + 6)/12 - c meet there, at c = -6/11.
    """
    objective, optimum = objectives.upper_cvar(1 / 6), 36 / 11
    solution, distributions = solved(objective, [CERTAIN, RARE], [-5, -1, 0])
    start = starts.choose(solution, objective, distributions)
    np.testing.assert_allclose([start.values[0], start.alone[0]], [optimum, 3], rtol=1e-5)
    np.testing.assert_allclose([start.chances[0], start.pivots[0, 0]], [1 / 11, -6 / 11], rtol=1e-3)
    assert (start.stocks[0, 0] <= -1, start.other_stocks[0, 0]) == (
        True,
        0,
    )  # below the pivot the gamble for 6 is best
    np.testing.assert_allclose(start.errors[0], 3.5 - optimum, rtol=1e-4)  # 1 + 6·5/12 = 3.5 at c = -1
    without = starts.choose(solution, objective)
    assert optimum <= without.values[0] <= optimum + without.errors[0]
    assert np.isnan(without.alone[0])
    # With the pivot as a point of the grid the error bound is 0.
    solution, distributions = solved(objective, [CERTAIN, RARE], [-5, -1, -6 / 11, 0])
    np.testing.assert_allclose(starts.choose(solution, objective, distributions).errors[0], 0, atol=1e-5)


def test_a_given_stock_between_points_is_interpolated():
    # E|c + G| of 0, 2, 4: 2 at c = -3, 2/3·2 = 4/3 at c = -2: halfway, less |c|, plus |c|.
    objective = objectives.target_return(2.5)
    solution, _ = solved(objective, [SPREAD], [-3, -2])
    start = starts.choose(solution, objective)
    np.testing.assert_allclose(start.values, -(5 / 3 + 4 / 3) / 2, rtol=1e-6)
    assert abs(start.values[0] + 1.5) <= start.errors[0]  # E|G - 2.5| = (2.5 + 0.5 + 1.5) / 3
    np.testing.assert_allclose(starts.choose(solution, objectives.target_return(2.0)).errors, 0, atol=1e-6)


def test_infinite_errors_of_stocks_without_weight_do_not_count():
    objective = objectives.target_return(2.0)
    solution, _ = solved(objective, [SPREAD], [-3, -2])
    for index, error in [(0, 0.0), (1, math.inf)]:  # the error of stock -3, without weight, or of -2
        errors = solution.errors.at[0, index].set(math.inf)
        assert starts.choose(solution._replace(errors=errors), objective).errors[0] == error


@pytest.mark.parametrize(
    ("objective", "points", "message"),
    [
        # The best returns are 0 to 4, so that the quantile may be any of these.
        (
            objectives.lower_cvar(1.0),
            [-1, 0],
            "goes from -1 to 0, but in state 0 the first stock of cvar may",
        ),
        (objectives.upper_cvar(0.5), [-1, 0], "the first stock of upper_cvar may go from -4 to 0: solve on"),
        (objectives.target_return(5.0), [-4, 0], "the first stock of target may go from -5 to -5"),
    ],
)
def test_a_grid_without_the_best_first_stock_is_refused(objective, points, message):
    """On the grid {-1, 0} the greatest dual of the mean is 1 + E min(G - 1, 0) = 1 - 1/3, not 2.

    The best half of 0, 2, 4 is (4/3 + 2/6)/(1/2) = 10/3, and E|G - 5| = (5 + 3 + 1)/3. The errors hold also
    inside jit, where nothing is refused.
    """
    solution, _ = solved(objective, [SPREAD], points)
    with pytest.raises(InputError, match=message):
        starts.choose(solution, objective)
    within = jax.jit(
        lambda: starts.choose(solution, objective)
    )()  # errors hold also where nothing is refused
    optimum = {"cvar": 2.0, "upper_cvar": 4 / 3 + 2, "target": -3.0}[objective.name]
    assert within.values[0] - within.errors[0] <= optimum <= within.values[0] + within.errors[0]


def test_one_solution_serves_all_levels_at_once():
    solution, _ = solved(objectives.lower_cvar(1.0), [CERTAIN, SPREAD], [-4, -3, -2, -1, 0])
    levels = jnp.array([0.25, 0.5, 1.0])
    values = jax.vmap(lambda level: starts.choose(solution, objectives.lower_cvar(level)).values[0])(levels)
    # The worst half of 0, 2, 4 is (0/3 + 2/6)/(1/2) = 2/3.
    np.testing.assert_allclose(values, [1, 1, 2], rtol=1e-6)


def test_the_window_of_first_stocks():
    low, high = np.array([[-2.0], [0.0]]), np.array([[1.0], [3.0]])
    assert starts.first_stock_range(objectives.lower_cvar(0.1), low, high) == (-3, 2)
    assert starts.first_stock_range(objectives.target_return(1.5), low, high) == (-1.5, -1.5)


def test_repeated_rewards():
    mdp = objectives.repeat_rewards(counterexamples.stock_needed().mdp, 3)
    assert mdp.rewards.shape[-1] == 3
    np.testing.assert_array_equal(mdp.rewards[..., 0], mdp.rewards[..., 2])
