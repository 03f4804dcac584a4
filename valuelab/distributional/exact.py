"""Exact solutions of finite horizons on the host: every stock that an episode reaches is a grid point.

No stock has to be split then. At stage t the stock c stands for γᵗ c, the first stock plus the discounted
rewards so far. So for an expected utility, V_t(s, c) = E f(γᵗ (c + G)) obeys the recursion

    V_H(s, c) = f(γᴴ c),    V_t(s, c) = max over a of Σ p V_{t+1}(s', (c + r) / γ)

for every f, homogeneous or not. Return distributions are those of the chosen policy. Its episodes are
followed from every state and stock of the first stage. An episode that ends at step t with stock c_t has the
return G = γᵗ c_t - c₀. Any other K is read from the return distributions of all actions, which are therefore
computed at every stage.

Only the objective's own functions are compiled.

Source: Pires et al. 2025 (arXiv:2501.13028), section 3.
"""

import itertools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from valuelab.distributional import checks
from valuelab.distributional.bellman import ROUNDING, SolverSetting
from valuelab.distributional.mdps import MDP
from valuelab.distributional.objectives import Objective
from valuelab.distributional.return_distributions import Atoms, flatten_atoms, look_ahead, merge_equal_atoms
from valuelab.distributional.stock_grids import StockGrid

MAX_SIZE = 40_000_000
"""The largest number of successors of all states, actions, outcomes and stocks, summed over stages."""

_SAME = 1e-11
"""A stock counts as a grid point if their relative difference is at most this."""


class ExactSolution(NamedTuple):
    """The solution of a finite horizon.

    Attributes:
        values: [S, C], K of the distribution of c + G at the first stage.
        distributions: of G at the first stage, [S, C]; None without a representation.
        greedy: int32 actions [S, C] of every stage.
    """

    values: Any
    distributions: Atoms | None
    greedy: list[Any]


class _Stages(NamedTuple):
    """An MDP on the stocks of every stage.

    Attributes:
        mdp: host arrays.
        discount: γ.
        points: [C], the stocks of every stage.
        rewards: [S, A, K], the index of each reward among the R distinct rewards.
        links: [R, C] of every stage but the last: the index of the stock (c + r) / γ at the next stage; C' if
            it is not among the C' stocks of this stage.
    """

    mdp: MDP
    discount: float
    points: list[np.ndarray]
    rewards: np.ndarray
    links: list[np.ndarray]


def solve(
    setting: SolverSetting,
    mdp: MDP,
    objective: Objective,
    grids: Sequence[StockGrid],
    policies: Sequence[Any] | None,
    final: Any | None = None,
) -> ExactSolution | None:
    """Solves a finite horizon.

    Args:
        setting: static arguments.
        mdp: the MDP.
        objective: what is maximised.
        grids: of the stages 0 to H.
        policies: actions [S, C] to follow at every stage; None: the greedy actions.
        final: [S], added to an expected utility after the last step; None: nothing.

    Returns:
        The solution; None where the grids lack a stock that an episode reaches, the distributions are not
        exact, or the problem is large, has vector rewards or is traced.
    """
    representation = setting.representation
    size = math.prod(mdp.probabilities.shape) * sum(grid.size for grid in grids)
    if checks.is_traced((mdp, objective, grids, policies, final)) or mdp.reward_dim > 1 or size > MAX_SIZE:
        return None
    if representation is not None and representation.name != "exact":
        return None
    stages = _link(MDP(*map(np.asarray, mdp)), setting.discount, grids)
    possible = _possible(stages.mdp)
    if (stages.links[0][stages.rewards[possible]] == len(stages.points[1])).any():
        return None
    policies = None if policies is None else list(map(np.asarray, policies))
    with jax.enable_x64(True):
        values, atoms, greedy = _backward(stages, objective, policies, final)
    if np.isnan(values).any():
        return None
    if atoms is None and representation is not None:
        atoms = _follow(stages, policies or greedy)
    return ExactSolution(
        values=values, distributions=None if representation is None else atoms, greedy=greedy
    )


def _link(mdp: MDP, discount: float, grids: Sequence[StockGrid]) -> _Stages:
    """Finds the next stock of every stock and reward."""
    rewards, index = np.unique(mdp.rewards[..., 0], return_inverse=True)
    points = [np.asarray(grid.points[0], float) for grid in grids]
    links = []
    for here, after in itertools.pairwise(points):
        reached = (here + rewards[:, None]) / discount
        nearest = np.searchsorted((after[1:] + after[:-1]) / 2, reached)
        same = np.abs(after[nearest] - reached) <= _SAME * np.maximum(1, np.abs(reached))
        links.append(np.where(same, nearest, len(after)))
    return _Stages(
        mdp=mdp,
        discount=discount,
        points=points,
        rewards=index.reshape(mdp.probabilities.shape),
        links=links,
    )


def _possible(mdp: MDP) -> np.ndarray:
    """[S, A, K], the outcomes that can occur before an episode ends."""
    return (mdp.probabilities > 0) & ~mdp.terminal[:, None, None]


def _backward(
    stages: _Stages, objective: Objective, policies: list[np.ndarray] | None, final: np.ndarray | None
) -> tuple[np.ndarray, Atoms | None, list[np.ndarray]]:
    """The recursion from the last stage to the first.

    Args:
        stages: the problem.
        objective: what is maximised.
        policies: actions [S, C] to follow at every stage; None: the greedy actions.
        final: [S], added after the last step.

    Returns:
        Values [S, C] at the first stage, NaN where an episode reaches a stock that the grids lack;
        distributions [S, C] if K is read from them; and the greedy actions [S, C] of every stage.
    """
    mdp, possible = stages.mdp, _possible(stages.mdp)[..., None]
    probabilities, next_states = mdp.probabilities[..., None], mdp.next_states[..., None]
    scales = stages.discount ** np.arange(len(stages.points))
    stocks = np.concatenate([scale * points for scale, points in zip(scales, stages.points, strict=True)])
    ends = np.cumsum([len(points) for points in stages.points])[:-1]
    certain = np.split(_measure(objective, stocks[:, None, None], np.ones((len(stocks), 1))), ends)
    values, atoms, ahead = np.tile(certain[-1], (mdp.num_states, 1)), None, None
    if final is not None:
        values = values + final[:, None]
    if objective.utility is None:
        atoms = Atoms(values=np.zeros((*values.shape, 1, 1)), probabilities=np.ones((*values.shape, 1)))
    greedy: list[np.ndarray] = []
    for stage in reversed(range(len(stages.links))):
        reached = stages.links[stage][stages.rewards]
        successors = np.append(values, np.full_like(values[:, :1], np.nan), axis=1)[next_states, reached]
        if atoms is None:
            scores = np.where(possible, probabilities * successors, 0).sum(2)
        else:
            # A stock that the next grid lacks is replaced by its last stock, and the score is set to NaN.
            indices = next_states * values.shape[1] + np.minimum(reached, values.shape[1] - 1)
            ahead = look_ahead(
                flatten_atoms(atoms),
                mdp.rewards[:, :, None],
                stages.discount,
                np.moveaxis(indices, -1, 2)[..., None],
                np.moveaxis(np.broadcast_to(probabilities, indices.shape), -1, 2)[..., None],
            )
            held = stages.points[stage][:, None, None]
            scores = _measure(objective, scales[stage] * (held + ahead.values), ahead.probabilities)
            scores = np.where((possible & np.isnan(successors)).any(2), np.nan, scores)
        scores = np.where(mdp.terminal[:, None, None], certain[stage], scores)
        # The first action that is best within rounding, as in `bellman.sweep`.
        best = scores.max(1)
        rounding = ROUNDING * np.finfo(float).eps * np.abs(scores[np.isfinite(scores)]).max(initial=0)
        greedy.insert(0, np.argmax(scores >= best[:, None] - rounding, axis=1).astype(np.int32))
        actions = greedy[0] if policies is None else policies[stage]
        values = best if policies is None else np.take_along_axis(scores, actions[:, None], 1)[:, 0]
        if ahead is not None:
            rows = np.arange(mdp.num_states)[:, None], actions, np.arange(values.shape[1])
            atoms = merge_equal_atoms(
                Atoms(values=ahead.values[rows], probabilities=ahead.probabilities[rows])
            )
    return values, atoms, greedy


def _measure(objective: Objective, values: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """K of distributions [...], on the host.

    The numbers of distributions and atoms are rounded up to powers of two, so that a few compiled programs
    serve all stages.
    """
    *leading, count = probabilities.shape
    rows = math.prod(leading)
    more = [(0, (1 << (size - 1).bit_length()) - size) for size in (rows, count)]
    values = np.pad(values.reshape(rows, count, -1), [*more, (0, 0)], "edge")
    probabilities = np.pad(probabilities.reshape(rows, count), more)
    scores = jax.jit(objective.functional)(objective.parameters, values, probabilities)
    return np.asarray(scores)[:rows].reshape(leading)


def _follow(stages: _Stages, policies: list[np.ndarray]) -> Atoms:
    """The return distributions [S, C] of a policy at the first stage.

    Args:
        stages: the problem.
        policies: actions [S, C] of every stage.

    Returns:
        The distributions, in rising order of their values.
    """
    mdp, first = stages.mdp, stages.points[0]
    starts = np.arange(mdp.num_states * len(first))
    states, stocks = np.divmod(starts, len(first))
    chances: np.ndarray = np.ones(len(starts))
    begun, ended = first[stocks], []
    for stage, points in enumerate(stages.points):
        over = mdp.terminal[states] | (stage == len(stages.links))
        returns = stages.discount**stage * points[stocks[over]] - begun[starts[over]]
        ended.append((starts[over], returns, chances[over]))
        starts, states, stocks, chances = (array[~over] for array in (starts, states, stocks, chances))
        if not starts.size:
            break
        chosen = states, policies[stage][states, stocks]
        chances = chances[:, None] * mdp.probabilities[chosen]
        # Equal states and stocks of one start are merged.
        shape = begun.size, mdp.num_states, len(stages.points[stage + 1]) + 1
        keys = np.ravel_multi_index(
            (
                np.broadcast_to(starts[:, None], chances.shape),
                mdp.next_states[chosen],
                stages.links[stage][stages.rewards[chosen], stocks[:, None]],
            ),
            shape,
        )
        keys, merged = np.unique(keys[chances > 0], return_inverse=True)
        chances = np.bincount(merged, chances[chances > 0]).astype(float)
        starts, states, stocks = np.unravel_index(keys, shape)
    rows, returns, chances = (np.concatenate(parts) for parts in zip(*ended, strict=True))
    order = np.lexsort((returns, rows))
    rows, returns, chances = rows[order], returns[order], chances[order]
    counts = np.bincount(rows)
    columns = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
    values, probabilities = np.zeros((2, begun.size, counts.max()))
    values[rows, columns], probabilities[rows, columns] = returns, chances
    leading = mdp.num_states, len(first)
    return merge_equal_atoms(
        Atoms(values=values.reshape(*leading, -1, 1), probabilities=probabilities.reshape(*leading, -1))
    )
