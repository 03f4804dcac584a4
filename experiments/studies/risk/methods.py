"""Ways to optimise CVaR in finite MDPs, and what each of them reaches, exactly.

    stocks      the optimum over all policies
    levels      the recursion of Chow et al. (2015): what it claims, and what its policy reaches
    greedy      distributional value iteration greedy in CVaR at every state, without a stock
    mean        value iteration, what QR-DQN tends to

Whatever a method believes, its policy is measured by its return distribution.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from valuelab.distributional import (
    chow,
    counterexamples,
    distribution_representations,
    functionals,
    gridworlds,
    histories,
    objectives,
    oracle,
    solvers,
    starts,
    stock_grids,
)
from valuelab.distributional.histories import Policy
from valuelab.distributional.mdps import MDP, from_outcomes
from valuelab.distributional.objectives import Objective
from valuelab.distributional.properties import Properties
from valuelab.distributional.stock_grids import StockGrid

LEVELS = np.linspace(0, 1, 1025)
"""Among them the sums of all chances in the counter-example and in random MDPs, where they are exact."""

STOCK, CLAIM, LEVEL, GREEDY, MEAN = (
    "stocks",
    "levels, as claimed",
    "levels, as reached",
    "greedy in CVaR, no stock",
    "greedy in the mean",
)


class Task(NamedTuple):
    """An MDP to optimise CVaR in, and how.

    Attributes:
        mdp: the MDP.
        discount: γ.
        start: the state that episodes begin in.
        grid: of stocks.
        max_steps: when episodes are cut.
    """

    mdp: MDP
    discount: float
    start: int
    grid: StockGrid
    max_steps: int = 200

    def follow(self, policy: Policy, memory: Sequence[float] | np.ndarray = ()) -> oracle.DistributionSet:
        """The return distribution of a policy."""
        return histories.return_distribution(
            self.mdp, self.discount, self.start, np.asarray(memory), policy, self.max_steps
        )


# Policies, as `histories` follows them.


def by_state(task: Task, actions: np.ndarray) -> Policy:
    """Actions [S] of a policy without memory."""
    outcomes = task.mdp.probabilities.shape[-1]
    return lambda states, memories: (actions[states], np.zeros((len(states), outcomes, 0)))


def by_stock(task: Task, solution: solvers.Solution) -> Policy:
    """The policy of a solution, at the point of the grid next to the stock."""
    actions = np.asarray(solution.policy).reshape(len(solution.values), *task.grid.shape)

    def policy(states: np.ndarray, held: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        nearest = [
            np.abs(points[None] - held[:, [axis]]).argmin(1) for axis, points in enumerate(task.grid.points)
        ]
        chosen = actions[states, *nearest]
        return chosen, (held[:, None] + task.mdp.rewards[states, chosen]) / task.discount

    return policy


def by_level(task: Task, solution: chow.Solution) -> Policy:
    """The policy that the recursion on levels finds."""

    def policy(states: np.ndarray, levels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        actions, after = chow.act(task.mdp, solution, task.discount, states, levels[:, 0])
        return np.asarray(actions), np.asarray(after)[..., None]

    return policy


# Comparisons.


def tail(distribution: oracle.DistributionSet, tau: float) -> float:
    """CVaR of the return distribution of a policy."""
    return oracle.best(objectives.lower_cvar(tau), distribution)


def greedy_cvar(tau: float) -> Objective:
    """CVaR as a functional of what follows, which has no need of a stock and no right to one policy."""
    return objectives.general(
        functionals.lower_cvar,
        Properties(mixture_indifferent=False),
        stock=[0.0],
        name="greedy in CVaR",
        tau=tau,
    )


def compare(task: Task, taus: Iterable[float]) -> dict[str, list[float]]:
    """CVaR by method, at each level."""
    found: dict[str, list[float]] = {name: [] for name in (STOCK, CLAIM, LEVEL, GREEDY, MEAN)}
    nowhere = stock_grids.uniform([0.0], [0.0], [1])

    def solve(objective: Objective, grid: StockGrid, **options: Any) -> solvers.Solution:
        return solvers.value_iteration(
            task.mdp, objective, discount=task.discount, stocks=grid, tolerance=1e-9, **options
        )

    with jax.enable_x64(True):
        with_stocks = solve(objectives.lower_cvar(1.0), task.grid, representation=None)
        with_levels = chow.value_iteration(task.mdp, LEVELS, discount=task.discount)
        claimed = np.asarray(with_levels.tails)[task.start]
        mean = solve(objectives.expectation(), nowhere, representation=None)
        of_mean = task.follow(by_state(task, np.asarray(mean.policy)[:, 0]))
        for tau in taus:
            first = np.asarray(starts.choose(with_stocks, objectives.lower_cvar(tau)).stocks)[task.start]
            found[STOCK].append(tail(task.follow(by_stock(task, with_stocks), first), tau))
            found[CLAIM].append(float(np.interp(tau, LEVELS, claimed) / tau))
            found[LEVEL].append(tail(task.follow(by_level(task, with_levels), [tau]), tau))
            greedy = solve(
                greedy_cvar(tau),
                nowhere,
                representation=distribution_representations.quantile(256),
                allow_unsound=True,
                max_sweeps=1000,
            )
            found[GREEDY].append(tail(task.follow(by_state(task, np.asarray(greedy.policy)[:, 0])), tau))
            found[MEAN].append(tail(of_mean, tau))
    return found


def counterexample() -> Task:
    """Where levels fail, with chances and returns that its grids hold."""
    example = counterexamples.level_instead_of_stock()
    return Task(example.mdp, example.discount, 0, stock_grids.uniform([-8.0], [6.0], [15]))


def random_task(rng: np.random.Generator) -> Task:
    """A step, then another from one of two states; whole rewards, chances that are multiples of 1/8."""
    successors = [(1, 2), (3, 3), (3, 3), (3, 3)]
    chances = rng.integers(1, 8, size=(4, 2)) / 8
    rewards = rng.integers(-4, 5, size=(4, 2, 2)).astype(float)
    outcomes = [
        [
            [(chance, after[0], gained[0]), (1 - chance, after[1], gained[1])]
            for chance, gained in zip(chances[state], rewards[state], strict=True)
        ]
        for state, after in enumerate(successors)
    ]
    mdp = from_outcomes(outcomes, np.array([False, False, False, True]))
    return Task(mdp, 1.0, 0, stock_grids.uniform([-8.0], [8.0], [17]))


def gridworld(problem: gridworlds.Gridworld, spacing: float, copies: int = 1) -> Task:
    """A problem with a grid of stocks so far apart, in one or several equal components."""
    low, high = problem.stock_low.item(), problem.stock_high.item()
    size = round((high - low) / spacing) + 1
    grid = stock_grids.uniform([low] * copies, [high] * copies, [size] * copies)
    mdp = objectives.repeat_rewards(problem.mdp, copies)
    return Task(mdp, problem.discount, problem.start_state, grid)


def dial(
    task: Task, tau: float, weights: Iterable[float], objective_of: Callable[[float], Objective]
) -> list[dict[str, float]]:
    """What optima between CVaR and the mean reach of both.

    Args:
        task: with as many components as the objective takes.
        tau: level of CVaR.
        weights: of the mean.
        objective_of: weight of the mean to objective.

    Returns:
        For each weight "weight", "mean" and "cvar".
    """
    rows = []
    with jax.enable_x64(True):
        for weight in weights:
            objective = objective_of(weight)
            solution = solvers.value_iteration(
                task.mdp,
                objective,
                discount=task.discount,
                representation=None,
                stocks=task.grid,
                tolerance=1e-9,
            )
            first = np.asarray(starts.choose(solution, objective).stocks)[task.start]
            distribution = task.follow(by_stock(task, solution), first)
            rows.append(
                {
                    "weight": float(weight),
                    "mean": tail(distribution, 1.0),
                    "cvar": tail(distribution, tau),
                }
            )
    return rows
