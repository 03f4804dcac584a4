"""Small MDPs that show why each refused class of objectives is refused, and why a stock is needed.

The docstring of each derives the numbers by hand. Tests compare them with the oracle, and with the result of
the solver with allow_unsound=True.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp

from valuelab.distributional import objectives
from valuelab.distributional.functionals import Parameters
from valuelab.distributional.mdps import MDP, from_outcomes
from valuelab.distributional.objectives import Objective
from valuelab.distributional.properties import Properties
from valuelab.types import Array


class Counterexample(NamedTuple):
    """An objective in an MDP, from state 0.

    Attributes:
        mdp: the MDP.
        discount: γ.
        horizon: number of steps; None if infinite.
        objective: what is maximised.
        missing_property: the property that the objective lacks, as refusals name it.
        optimum: the greatest value over all policies.
        recursion_value: the value that the recursion finds instead; for the examples of `NEEDS_HORIZON` that
            of infinite horizons, where the stock alone does not say at which step it is.
    """

    mdp: MDP
    discount: float
    horizon: int | None
    objective: Objective
    missing_property: str
    optimum: float
    recursion_value: float


_END = [[(1.0, 2, 0.0)]] * 2
"""State 2, where the episodes of all these MDPs end, with two actions."""


def mixture() -> Counterexample:
    """Mean minus 0.15 variance: a coin gives 10, or leads to a choice between 0 and a gamble of 0 and 20.

    Alone, the choice is between 0 and 10 - 0.15·100 = -5. So the recursion takes 0, and the value of the
    whole is 5 - 0.15·25 = 1.25. But together with the coin's 10 the gamble hardly adds variance:
    10 - 0.15·50 = 2.5.
    """
    mdp = from_outcomes(
        [
            [[(0.5, 2, 10.0), (0.5, 1, 0.0)]] * 2,
            [[(1.0, 2, 0.0)], [(0.5, 2, 0.0), (0.5, 2, 20.0)]],
            _END,
        ]
    )
    return Counterexample(
        mdp=mdp,
        discount=1.0,
        horizon=2,
        objective=objectives.mean_variance(0.15),
        missing_property="mixture-indifference",
        optimum=2.5,
        recursion_value=1.25,
    )


def _delayed_choice(sure: float, gamble: float) -> MDP:
    """A step without reward, then a choice between a sure reward and a gamble: 0 or a reward, each with ½."""
    return from_outcomes(
        [
            [[(1.0, 1, 0.0)]] * 2,
            [[(1.0, 2, sure)], [(0.5, 2, 0.0), (0.5, 2, gamble)]],
            _END,
        ]
    )


def exponential() -> Counterexample:
    """Exponential utility at β = -1 and γ = 0.5: a step, then 0.9 or a gamble of 0 and 4.

    In state 1 the value of the gamble is -log(½ + ½e⁻⁴) = 0.675, less than 0.9, so the recursion gets 0.45.
    From the start, where rewards count half, the value of the gamble is -log(½ + ½e⁻²) = 0.56622.
    """
    optimum = float(-jnp.log(0.5 + 0.5 * jnp.exp(-2.0)))
    mdp = _delayed_choice(sure=0.9, gamble=4.0)
    return Counterexample(
        mdp=mdp,
        discount=0.5,
        horizon=2,
        objective=objectives.entropic(-1.0),
        missing_property="gamma-indifference",
        optimum=optimum,
        recursion_value=0.45,
    )


def capped(parameters: Parameters, points: Array) -> Array:
    """f(x) = min(x, 1), which is not homogeneous."""
    return jnp.minimum(points[..., 0], 1)


def cap() -> Counterexample:
    """f(x) = min(x, 1) at γ = 0.5: a step, then 0.9 or a gamble of 0 and 2.

    In state 1 the value of the gamble is ½·1, less than 0.9, so the recursion gets 0.45. From the start,
    where rewards count half, the gamble does not exceed the cap: 0.5.
    """
    properties = Properties(gamma_indifferent=False, lipschitz=1.0)
    objective = objectives.expected_utility(capped, properties, stock=[0.0], name="capped")
    mdp = _delayed_choice(sure=0.9, gamble=2.0)
    return Counterexample(
        mdp=mdp,
        discount=0.5,
        horizon=2,
        objective=objective,
        missing_property="gamma-indifference",
        optimum=0.5,
        recursion_value=0.45,
    )


def satisficing() -> Counterexample:
    """The probability of a return of 2 at γ = 0.5: 2 at once with probability 0.1, or 1 at every step.

    1 + ½ + ¼ + ... = 2, with certainty. But the return of any number n of steps is 2 - 2¹⁻ⁿ, too little. So
    after any number of sweeps the recursion takes the probability of 0.1 (until floats round the sum to 2).
    """
    mdp = from_outcomes(
        [
            [[(0.1, 2, 2.0), (0.9, 2, 0.0)], [(1.0, 1, 1.0)]],
            [[(1.0, 1, 1.0)]] * 2,
            _END,
        ]
    )
    return Counterexample(
        mdp=mdp,
        discount=0.5,
        horizon=None,
        objective=objectives.satisficing(2.0),
        missing_property="Lipschitz continuity",
        optimum=1.0,
        recursion_value=0.1,
    )


def stock_needed() -> Counterexample:
    """CVaR at τ = 0.5, where policies of the state alone are strictly worse (`recursion_value`).

    A coin gives 0 or 4, then there is a choice between nothing more and a gamble of -2 and 5. Never gambling
    returns 0 or 4, and always gambling returns -2, 2, 5 or 9: the mean of the worse half is 0 both times. The
    stock tells what the coin gave. Gambling only after 0 returns -2, 4, 4 or 5, and the mean of the worse
    half is 1. Gambling only after 4 gives 0.
    """
    mdp = from_outcomes(
        [
            [[(0.5, 1, 0.0), (0.5, 1, 4.0)]] * 2,
            [[(1.0, 2, 0.0)], [(0.5, 2, -2.0), (0.5, 2, 5.0)]],
            _END,
        ]
    )
    return Counterexample(
        mdp=mdp,
        discount=1.0,
        horizon=2,
        objective=objectives.lower_cvar(0.5),
        missing_property="stock",
        optimum=1.0,
        recursion_value=0.0,
    )


def level_instead_of_stock() -> Counterexample:
    """CVaR at τ = 0.5, where a recursion on levels (`chow`) claims too much (`recursion_value`).

    The agent may decline and get -1, or toss a coin that gives 0 or leads to a choice of two gambles: -6 or 6
    with probabilities ¼ and ¾, or -2 or 8 with probabilities ¾ and ¼. With either gamble the sum over the
    worse half of the returns is -6·⅛ = -2·⅜ = -¾, a mean of -1.5: it is best to decline.

    The sum over the worst fraction z of the first gamble is -6z, and 6z - 3 from z = ¼ on. That of the second
    gamble is -2z, and 8z - 7.5 from z = ¾ on. The recursion takes the greater sum at each z BEFORE the
    adversary chooses how much of the level goes to the coin's bad side. The adversary chooses z = ⅜, where
    both sums are -¾, and the recursion claims ½·(-¾) / ½ = -0.75 for the coin. So it tosses the coin, and
    gets -1.5.
    """
    mdp = from_outcomes(
        [
            [[(1.0, 2, -1.0)], [(0.5, 2, 0.0), (0.5, 1, 0.0)]],
            [[(0.25, 2, -6.0), (0.75, 2, 6.0)], [(0.75, 2, -2.0), (0.25, 2, 8.0)]],
            _END,
        ]
    )
    return Counterexample(
        mdp=mdp,
        discount=1.0,
        horizon=2,
        objective=objectives.lower_cvar(0.5),
        missing_property="stock",
        optimum=-1.0,
        recursion_value=-0.75,
    )


REFUSED: dict[str, Callable[[], Counterexample]] = {
    "mixture": mixture,
    "satisficing": satisficing,
}
"""One counterexample for each class of objectives that the solvers refuse."""

NEEDS_HORIZON: dict[str, Callable[[], Counterexample]] = {"exponential": exponential, "cap": cap}
"""Objectives without gamma-indifference. They are refused without a horizon, and solved exactly with one."""
