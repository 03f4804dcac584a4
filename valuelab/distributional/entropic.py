"""Entropic risk and EVaR without stocks: risk levels that follow the discount take their place.

With x = -1 / β > 0, the certainty equivalent of risk-averse exponential utility is

    CE_x(G) = -x log E exp(-G / x),   from the least return at x = 0 to the mean at x = ∞.

It splits into steps, because CE_x(r + γ G') = CE_x over the outcomes of r + γ CE_{x / γ}(G'):

    V_H = 0,    V_t(s) = max over a of CE_{x / γᵗ} of r + γ V_{t+1}(s').

EVaR is the greatest CE_x with a penalty, so the maxima over policies and over x can be exchanged:

    EVaR_τ(G) = max over x ≥ 0 of CE_x(G) + x log τ.

CE_x rises with x. So CE_b + a log τ bounds the values at all x from a to b, and intervals are divided until
no bound lies above the best value found.

Source: Hau, Petrik and Ghavamzadeh 2023, "Entropic risk optimization in discounted MDPs" (AISTATS).
"""

from typing import NamedTuple

import numpy as np

from valuelab.distributional.mdps import MDP

_PRECISION, _MAX_POINTS, _PARTS = 1e-7, 4000, 4
"""The difference from the optimum at which the search stops, relative to the range of values; the largest
number of points x; and the number of parts into which an interval is divided."""

_FIRST_POINTS = 32
"""The number of intervals at the beginning."""


class BestRisk(NamedTuple):
    """The risk level of EVaR.

    Attributes:
        value: the optimum of EVaR.
        error: a bound of its error.
        scale: x > 0; the policy that is best for exponential utility with β = -1 / x attains the optimum
            within this error.
    """

    value: float
    error: float
    scale: float


def certainty_equivalents(mdp: MDP, scales: np.ndarray, discount: float, horizon: int) -> np.ndarray:
    """The optimum of CE_x from every state.

    Args:
        mdp: host arrays, m = 1.
        scales: [B], x ≥ 0; infinity is the mean.
        discount: γ in (0, 1].
        horizon: number of steps.

    Returns:
        [B, S].
    """
    possible, values = mdp.probabilities > 0, np.zeros((len(scales), mdp.num_states))
    for step in reversed(range(horizon)):
        ahead = mdp.rewards[..., 0] + discount * values[:, mdp.next_states]
        least = np.where(possible, ahead, np.inf).min(-1, keepdims=True)
        above, scale = np.where(possible, ahead - least, 0), (scales / discount**step)[:, None, None]
        with np.errstate(divide="ignore", invalid="ignore"):
            shrunk = -np.expm1(-above / scale[..., None])  # 1 - exp(-above / x), accurate for large x
            gained = -scale * np.log1p(-(mdp.probabilities * shrunk).sum(-1))
        gained = np.where(
            scale == 0, 0, np.where(np.isinf(scale), (mdp.probabilities * above).sum(-1), gained)
        )
        values = np.where(mdp.terminal, 0, (least[..., 0] + gained).max(-1))
    return values


def best_risk(mdp: MDP, tau: float, state: int, discount: float, horizon: int) -> BestRisk:
    """The risk level of EVaR from one state.

    Args:
        mdp: host arrays, m = 1.
        tau: level in (0, 1).
        state: in which episodes begin.
        discount: γ.
        horizon: number of steps.

    Returns:
        The best level.
    """

    def equivalents(scales: np.ndarray) -> np.ndarray:
        return certainty_equivalents(mdp, scales, discount, horizon)[:, state]

    least, mean = equivalents(np.array([0.0, np.inf]))
    # Beyond this x even the mean with its penalty is below the least return at x = 0.
    last = (mean - least) / -np.log(tau)
    enough = _PRECISION * (mean - least)
    if enough == 0:
        return BestRisk(value=float(least), error=0.0, scale=1.0)
    scales = last * np.linspace(0, 1, _FIRST_POINTS + 1) ** 2
    found = equivalents(scales)
    while True:
        values = found + scales * np.log(tau)
        bounds = found[1:] + scales[:-1] * np.log(tau)
        best, open_ = values.max(), np.flatnonzero(bounds > values.max() + enough)
        if not open_.size or len(scales) + open_.size * (_PARTS - 1) > _MAX_POINTS:
            break
        parts = np.arange(1, _PARTS) / _PARTS
        more = (scales[open_, None] + parts * (scales[open_ + 1] - scales[open_])[:, None]).ravel()
        scales, found = np.append(scales, more), np.append(found, equivalents(more))
        order = np.argsort(scales)
        scales, found = scales[order], found[order]
    # Where x = 0 is best, the policy for a small x loses at most the penalty.
    scale = max(float(scales[values.argmax()]), enough / -np.log(tau))
    error = max(0.0, float(bounds.max() - best)) + enough
    return BestRisk(value=float(best), error=float(error), scale=float(scale))
