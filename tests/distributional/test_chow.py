"""CVaR by levels instead of stocks: correct for a given policy, but as an optimisation an upper bound."""

import itertools

import jax
import numpy as np
import pytest

from experiments.studies.risk.methods import random_problem
from valuelab.distributional import chow, counterexamples, histories, objectives, oracle
from valuelab.distributional.mdps import from_outcomes
from valuelab.errors import InputError

LEVELS = np.linspace(0, 1, 65)
"""All sums of the probabilities of two steps, multiples of 1/8: in between the recursion is linear."""


@pytest.fixture(scope="module")
def many():
    """MDPs of two steps, in a list and stacked."""
    rng = np.random.default_rng(0)
    mdps = [random_problem(rng).mdp for _ in range(60)]
    return mdps, jax.tree.map(lambda *leaves: np.stack(leaves), *mdps)


def tails(distributions):
    """CVaR of distributions at all levels except 0, [N, 64], by sums over sorted atoms."""
    order = np.argsort(distributions.support[:, 0])
    values, probabilities = distributions.support[order, 0], distributions.probabilities[:, order]
    below = probabilities.cumsum(1) - probabilities
    taken = np.clip(LEVELS[None, 1:, None] - below[:, None], 0, probabilities[:, None])
    return taken @ values / LEVELS[1:]


def test_claims_are_never_less_than_the_optimum_and_often_more(many):
    mdps, stacked = many
    with jax.enable_x64(True):
        claims = jax.jit(jax.vmap(lambda mdp: chow.value_iteration(mdp, LEVELS, discount=1.0).values))(
            stacked
        )
    optima = np.stack([tails(oracle.history_distributions(mdp, 1.0, 2)[0]).max(0) for mdp in mdps])
    gaps = np.asarray(claims)[:, 0] - optima
    assert gaps.min() > -1e-9
    assert np.mean(gaps.max(1) > 0.01) > 0.05


def followed(mdp, solution, discount, tau, max_steps=10):
    """The return distribution of the recursion's policy, from state 0 at level τ."""

    def policy(states, memories):
        actions, levels = chow.act(mdp, solution, discount, states, memories[:, 0])
        return actions, levels[..., None]

    return histories.return_distribution(mdp, discount, 0, np.array([tau]), policy, max_steps)


def test_a_given_policy_is_evaluated_exactly(many):
    mdps, stacked = many
    policies = np.pad(np.array(list(itertools.product((0, 1), repeat=3))), [(0, 0), (0, 1)])

    @jax.jit
    def evaluate(mdp, policy):
        return chow.policy_evaluation(mdp, policy, LEVELS, discount=1.0).values[0]

    with jax.enable_x64(True):
        found = jax.vmap(jax.vmap(evaluate, (0, None)), (None, 0))(stacked, policies)
    for policy, values in zip(policies, found, strict=True):
        distributions = [
            histories.return_distribution(
                mdp, 1.0, 0, np.zeros(0), lambda s, m, policy=policy: (policy[s], np.zeros((len(s), 2, 0))), 3
            )
            for mdp in mdps[:10]
        ]
        np.testing.assert_allclose(
            values[:10], np.concatenate([tails(distribution) for distribution in distributions]), atol=1e-9
        )


def test_counterexample_claims_too_much_and_acts_worse_than_stock():
    """The docstring of the counterexample derives the numbers.

    Of ½ the coin's bad side gets ½·⅜, for up to there its slope is -2, and its good side, of slope 0, the
    rest.
    """
    example = counterexamples.level_instead_of_stock()
    with jax.enable_x64(True):
        solution = chow.value_iteration(example.mdp, LEVELS, discount=1.0)
        action, levels = chow.act(example.mdp, solution, 1.0, np.array([0]), np.array([0.5]))
        found = followed(example.mdp, solution, 1.0, 0.5)
    assert int(action[0]) == 1
    np.testing.assert_allclose(levels, [[5 / 8, 3 / 8]])
    half = list(LEVELS).index(0.5) - 1
    assert (
        np.asarray(solution.values)[0, half] == pytest.approx(example.recursion_value) == pytest.approx(-0.75)
    )
    optimum = tails(oracle.history_distributions(example.mdp, 1.0, 2)[0])[:, half].max()
    assert optimum == pytest.approx(example.optimum) == pytest.approx(-1.0)
    assert tails(found)[0, half] == pytest.approx(-1.5)


@pytest.fixture(scope="module")
def solved():
    """Two MDPs side by side, at γ = ½: two certain rewards; a choice, then another."""
    end = 4
    mdp = from_outcomes(
        [
            [[(1.0, 1, 3.0)]] * 2,
            [[(1.0, end, -4.0)]] * 2,
            [[(0.1, 2, 0.0), (0.9, 3, 1.0)], [(1.0, 3, 0.5)]],
            [[(0.5, end, 1.0), (0.5, end, 3.0)], [(1.0, end, 1.9)]],
            [[(1.0, end, 0.0)]] * 2,
        ]
    )
    with jax.enable_x64(True):
        return np.asarray(chow.value_iteration(mdp, LEVELS, discount=0.5).values)


def test_certain_returns_are_worth_the_same_at_every_level(solved):
    """3 - ½·4 = 1."""
    np.testing.assert_allclose(solved[[0, 1, 4]], np.array([[1.0], [-4.0], [0.0]]) * np.ones((1, 64)))


def test_level_one_is_the_greatest_mean(solved):
    """At y = 1 the adversary has no choice, and this is value iteration.

    v(3) = 2; v(2) = 0.1·½·v(2) + 0.9·(1 + ½·2), more than 0.5 + ½·2.
    """
    np.testing.assert_allclose(solved[[2, 3], -1], [1.8 / 0.95, 2.0], rtol=1e-8)


@pytest.mark.parametrize("levels", [[0, 1, 0.5], [0.1, 1], [0, 0.5], [0], [0, 0.5, 0.5, 1]])
def test_levels_rise_from_zero_to_one(levels, many):
    with pytest.raises(InputError, match=r"levels are .*; give points that rise from 0 to 1"):
        chow.value_iteration(many[0][0], np.array(levels, float), discount=1.0)


def test_bad_input(many):
    with pytest.raises(InputError, match=r"discount is 1\.5; give a number in \(0, 1\]"):
        chow.value_iteration(many[0][0], LEVELS, discount=1.5)
    vector = objectives.repeat_rewards(many[0][0], 2)
    with pytest.raises(InputError, match="rewards have 2 components, but CVaR needs 1; give scalar rewards"):
        chow.value_iteration(vector, LEVELS, discount=1.0)


# Following histories.


def walk(limit):
    """A coin of 0 or 1 at every step; a quarter of the 1s end the episode."""
    mdp = from_outcomes([[[(0.5, 0, 0.0), (0.25, 0, 1.0), (0.25, 1, 1.0)]], [[(1.0, 1, 0.0)]]])
    still = lambda states, memories: (np.zeros(len(states), int), np.zeros((len(states), 3, 0)))  # noqa: E731
    return histories.return_distribution(mdp, 0.5, 0, np.zeros(0), still, max_steps=2, max_histories=limit)


def test_histories_are_followed_until_episodes_end_or_are_cut():
    """A step gives 0, 1, or 1 and the end (¼). The second step counts half: returns are 0, ½, 1 and 1½."""
    distribution = walk(limit=2)
    np.testing.assert_array_equal(distribution.support[:, 0], [0, 0.5, 1, 1.5])
    # 0 then 0: ½·½; 0 then 1: ½·½; the end, or 1 then 0: ¼ + ¼·½; 1 then 1: ¼·½.
    np.testing.assert_allclose(distribution.probabilities, [[0.25, 0.25, 0.375, 0.125]])


def test_too_many_histories():
    with pytest.raises(
        InputError, match="2 histories after 1 steps, but max_histories is 1: simulate episodes"
    ):
        walk(limit=1)
