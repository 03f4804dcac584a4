"""Small MDPs that show why each refused class of objectives is refused, and why stock is needed at all.

Each is worked out by hand in its docstring; the tests compare with the oracle and with what the solver finds
when it is told to go on regardless.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp

from valuelab.distributional import objectives
from valuelab.distributional.functionals import Parameters
from valuelab.distributional.mdp import MDP, from_outcomes
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
        missing: the property that the objective lacks there, as refusals name it.
        optimum: the greatest value over all policies.
        found: what the greedy recursion finds instead.
    """

    mdp: MDP
    discount: float
    horizon: int | None
    objective: Objective
    missing: str
    optimum: float
    found: float


_END = [[(1.0, 2, 0.0)]] * 2
"""State 2, where the episodes of all these MDPs end, with two actions."""


def mixture() -> Counterexample:
    """Mean less 0.15 times variance: a coin gives 10, or else a choice between 0 and a gamble of 0 and 20.

    The choice by itself is 0 against 10 - 0.15·100 = -5: the recursion takes 0, in all 5 - 0.15·25 = 1.25.
    But next to 10 the gamble hardly adds variance: 10 - 0.15·50 = 2.5.
    """
    mdp = from_outcomes(
        [
            [[(0.5, 2, 10.0), (0.5, 1, 0.0)]] * 2,
            [[(1.0, 2, 0.0)], [(0.5, 2, 0.0), (0.5, 2, 20.0)]],
            _END,
        ]
    )
    return Counterexample(mdp, 1.0, 2, objectives.mean_variance(0.15), "mixture-indifference", 2.5, 1.25)


def _delayed_choice(sure: float, gamble: float) -> MDP:
    """A step without reward, then a choice between a sure reward and a coin's gamble of it or nothing."""
    return from_outcomes(
        [
            [[(1.0, 1, 0.0)]] * 2,
            [[(1.0, 2, sure)], [(0.5, 2, 0.0), (0.5, 2, gamble)]],
            _END,
        ]
    )


def exponential() -> Counterexample:
    """Exponential utility at β = -1 and γ = 0.5: a step, then 0.9 or a gamble of 0 and 4.

    There and then the gamble is worth -log(½ + ½e⁻⁴) = 0.675, less than 0.9; the recursion gets 0.45. Seen
    from the start, at half the size, it is worth -log(½ + ½e⁻²) = 0.566.
    """
    optimum = float(-jnp.log(0.5 + 0.5 * jnp.exp(-2.0)))
    mdp = _delayed_choice(sure=0.9, gamble=4.0)
    return Counterexample(mdp, 0.5, 2, objectives.entropic(-1.0), "gamma-indifference", optimum, 0.45)


def capped(parameters: Parameters, points: Array) -> Array:
    """f(x) = min(x, 1), which is not homogeneous."""
    return jnp.minimum(points[..., 0], 1)


def cap() -> Counterexample:
    """f(x) = min(x, 1) at γ = 0.5: a step, then 0.9 or a gamble of 0 and 2.

    There and then the gamble is worth ½·1, less than 0.9; the recursion gets 0.45. Seen from the start, at
    half the size, the cap does not bind: 0.5.
    """
    properties = Properties(gamma_indifferent=False, lipschitz=1.0)
    objective = objectives.expected_utility(capped, properties, stock=[0.0], name="capped")
    mdp = _delayed_choice(sure=0.9, gamble=2.0)
    return Counterexample(mdp, 0.5, 2, objective, "gamma-indifference", 0.5, 0.45)


def satisficing() -> Counterexample:
    """The probability of a return of 2 at γ = 0.5: a chance of 0.1 of it at once, or 1 at every step.

    1 + ½ + ¼ + ... = 2, with certainty. But the return of any number n of steps is 2 - 2¹⁻ⁿ, too little:
    however many sweeps, the recursion takes the chance of 0.1 (until floats take the sum for 2).
    """
    mdp = from_outcomes(
        [
            [[(0.1, 2, 2.0), (0.9, 2, 0.0)], [(1.0, 1, 1.0)]],
            [[(1.0, 1, 1.0)]] * 2,
            _END,
        ]
    )
    return Counterexample(mdp, 0.5, None, objectives.satisficing(2.0), "Lipschitz continuity", 1.0, 0.1)


def stock_needed() -> Counterexample:
    """CVaR at τ = 0.5, where policies that know but the state are strictly worse (`found`).

    A coin gives 0 or 4, then either nothing more or a gamble of -2 and 5. Never to gamble leaves 0 or 4, and
    always to gamble -2, 2, 5 or 9: the worse half means 0 both times. To gamble only after 0, which is what
    the stock tells, leaves -2, 4, 4 or 5: the worse half means 1. After 4 alone: 0.
    """
    mdp = from_outcomes(
        [
            [[(0.5, 1, 0.0), (0.5, 1, 4.0)]] * 2,
            [[(1.0, 2, 0.0)], [(0.5, 2, -2.0), (0.5, 2, 5.0)]],
            _END,
        ]
    )
    return Counterexample(mdp, 1.0, 2, objectives.lower_cvar(0.5), "stock", 1.0, 0.0)


def level_instead_of_stock() -> Counterexample:
    """CVaR at τ = 0.5, where a recursion on levels (`chow`) claims too much (`found`) and acts worse for it.

    One may decline for -1, or toss a coin that gives 0 or leads to a choice of two gambles: -6 or 6 with
    chances ¼ and ¾, or -2 or 8 with chances ¾ and ¼. With either of them the worse half of what can happen
    adds up to -6·⅛ = -2·⅜ = -¾, a mean of -1.5: it is best to decline.

    Sums over the worst fraction z of the two gambles are -6z, from z = ¼ on 6z - 3, and -2z, from z = ¾ on
    8z - 7.5. The recursion takes the greater one at each z BEFORE the adversary settles how much of the level
    the coin's bad side gets: that is z = ⅜, where both are -¾, and by ½·(-¾) / ½ it claims -0.75 for the
    coin. So it tosses it, and gets -1.5.
    """
    mdp = from_outcomes(
        [
            [[(1.0, 2, -1.0)], [(0.5, 2, 0.0), (0.5, 1, 0.0)]],
            [[(0.25, 2, -6.0), (0.75, 2, 6.0)], [(0.75, 2, -2.0), (0.25, 2, 8.0)]],
            _END,
        ]
    )
    return Counterexample(mdp, 1.0, 2, objectives.lower_cvar(0.5), "stock", -1.0, -0.75)


REFUSED: dict[str, Callable[[], Counterexample]] = {
    "mixture": mixture,
    "exponential": exponential,
    "cap": cap,
    "satisficing": satisficing,
}
"""One for each class of objectives that the solvers refuse."""
