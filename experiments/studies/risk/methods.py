"""Methods that optimise CVaR in finite MDPs, and the exact CVaR that each of them reaches.

    stocks      value iteration on states and stocks: the optimum over all policies
    levels      the recursion of Chow et al. (2015): the CVaR that it claims, and what its policy reaches
    greedy      distributional value iteration that is greedy in CVaR at every state, without a stock
    mean        value iteration for the mean, the limit of QR-DQN

Whatever a method claims, its policy is measured by its exact return distribution.
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

LEVEL_GRID = np.linspace(0, 1, 1025)
"""The levels of the recursion. They include all sums of probabilities of the counter-example and of random
MDPs, so the recursion is exact there."""

STOCK, LEVEL_CLAIMED, LEVEL_REACHED, GREEDY, MEAN = (
    "stocks",
    "levels, as claimed",
    "levels, as reached",
    "greedy in CVaR, no stock",
    "greedy in the mean",
)


class RiskProblem(NamedTuple):
    """An MDP in which the methods optimise CVaR, and the grid on which stocks are solved.

    Attributes:
        mdp: the MDP.
        discount: γ.
        start: the first state of episodes.
        grid: the stocks.
        max_steps: number of steps after which an episode is cut.
    """

    mdp: MDP
    discount: float
    start: int
    grid: StockGrid
    max_steps: int = 200

    def solve(self, objective: Objective, grid: StockGrid | None = None, **options: Any) -> solvers.Solution:
        """Value iteration on a grid of stocks; on the problem's own grid if None."""
        return solvers.value_iteration(
            self.mdp,
            objective,
            discount=self.discount,
            stocks=self.grid if grid is None else grid,
            tolerance=1e-9,
            **options,
        )

    def follow(self, policy: Policy, memory: Sequence[float] | np.ndarray = ()) -> oracle.DistributionSet:
        """The return distribution of a policy that starts with this memory."""
        return histories.return_distribution(
            self.mdp, self.discount, self.start, np.asarray(memory), policy, self.max_steps
        )


# Policies, in the form that `histories` follows.


def by_state(problem: RiskProblem, actions: np.ndarray) -> Policy:
    """The policy that takes actions [S] and has no memory."""
    outcomes = problem.mdp.probabilities.shape[-1]
    return lambda states, memories: (actions[states], np.zeros((len(states), outcomes, 0)))


def by_stock(problem: RiskProblem, solution: solvers.Solution) -> Policy:
    """The policy of a solution on states and stocks, which looks up the grid point nearest to the stock."""
    actions = np.asarray(solution.policy).reshape(len(solution.values), *problem.grid.shape)

    def policy(states: np.ndarray, stock: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        nearest = [
            np.abs(points[None] - stock[:, [axis]]).argmin(1)
            for axis, points in enumerate(problem.grid.points)
        ]
        chosen = actions[states, *nearest]
        return chosen, (stock[:, None] + problem.mdp.rewards[states, chosen]) / problem.discount

    return policy


def by_level(problem: RiskProblem, solution: chow.Solution) -> Policy:
    """The policy of the recursion on levels, whose memory is the level."""

    def policy(states: np.ndarray, levels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        actions, after = chow.act(problem.mdp, solution, problem.discount, states, levels[:, 0])
        return np.asarray(actions), np.asarray(after)[..., None]

    return policy


def follow_optimum(
    problem: RiskProblem, solution: solvers.Solution, objective: Objective
) -> oracle.DistributionSet:
    """The return distribution of a solution's policy from the best first stock of the problem's grid.

    The distribution is that of the policy, whatever stock it starts with. So a better stock outside the grid
    would make the policy better, but no number wrong.
    """
    ends = [np.array([points[end] for points in problem.grid.points]) for end in (0, -1)]
    low, high = np.maximum(solution.low, -ends[1]), np.minimum(solution.high, -ends[0])
    within = solution._replace(low=low, high=high)
    first = np.asarray(starts.choose(within, objective).stocks)[problem.start]
    return problem.follow(by_stock(problem, solution), first)


# Comparisons.


def cvar(distribution: oracle.DistributionSet, tau: float) -> float:
    """CVaR at level tau of the return distribution of a policy."""
    return oracle.best(objectives.lower_cvar(tau), distribution)


def greedy_cvar(tau: float) -> Objective:
    """CVaR of the remaining return, without a stock; dynamic programming is not sound for this functional."""
    return objectives.general(
        functionals.lower_cvar,
        Properties(mixture_indifferent=False),
        stock=[0.0],
        name="greedy in CVaR",
        tau=tau,
    )


def compare(problem: RiskProblem, taus: Iterable[float]) -> dict[str, list[float]]:
    """Solves a problem by each method; method -> CVaR reached (or claimed) at each level."""
    by_method: dict[str, list[float]] = {
        name: [] for name in (STOCK, LEVEL_CLAIMED, LEVEL_REACHED, GREEDY, MEAN)
    }
    one_stock = stock_grids.uniform([0.0], [0.0], [1])

    with jax.enable_x64(True):
        with_stocks = problem.solve(objectives.lower_cvar(1.0), representation=None)
        with_levels = chow.value_iteration(problem.mdp, LEVEL_GRID, discount=problem.discount)
        claimed = np.asarray(with_levels.tails)[problem.start]
        mean = problem.solve(objectives.expectation(), one_stock, representation=None)
        of_mean = problem.follow(by_state(problem, np.asarray(mean.policy)[:, 0]))
        for tau in taus:
            best = follow_optimum(problem, with_stocks, objectives.lower_cvar(tau))
            by_method[STOCK].append(cvar(best, tau))
            by_method[LEVEL_CLAIMED].append(float(np.interp(tau, LEVEL_GRID, claimed) / tau))
            by_method[LEVEL_REACHED].append(cvar(problem.follow(by_level(problem, with_levels), [tau]), tau))
            greedy = problem.solve(
                greedy_cvar(tau),
                one_stock,
                representation=distribution_representations.quantile(256),
                allow_unsound=True,
                max_sweeps=1000,
            )
            by_method[GREEDY].append(
                cvar(problem.follow(by_state(problem, np.asarray(greedy.policy)[:, 0])), tau)
            )
            by_method[MEAN].append(cvar(of_mean, tau))
    return by_method


def counterexample() -> RiskProblem:
    """The MDP in which levels fail; its probabilities and returns lie on the grids, so all is exact."""
    example = counterexamples.level_instead_of_stock()
    return RiskProblem(example.mdp, example.discount, 0, stock_grids.uniform([-8.0], [6.0], [15]))


def random_problem(rng: np.random.Generator) -> RiskProblem:
    """A random MDP of two steps; the rewards are integers and the probabilities multiples of 1/8."""
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
    return RiskProblem(mdp, 1.0, 0, stock_grids.uniform([-8.0], [8.0], [17]))


def gridworld_problem(gridworld: gridworlds.Gridworld, spacing: float, copies: int = 1) -> RiskProblem:
    """A gridworld with a uniform grid of stocks, in `copies` equal components."""
    low, high = gridworld.stock_low.item(), gridworld.stock_high.item()
    size = round((high - low) / spacing) + 1
    grid = stock_grids.uniform([low] * copies, [high] * copies, [size] * copies)
    mdp = objectives.repeat_rewards(gridworld.mdp, copies)
    return RiskProblem(mdp, gridworld.discount, gridworld.start_state, grid)


def dial(
    problem: RiskProblem, tau: float, weights: Iterable[float], objective_of: Callable[[float], Objective]
) -> list[dict[str, float]]:
    """Mean and CVaR of the policies that are optimal for mixtures of the two.

    Args:
        problem: the MDP, with as many reward components as the objective takes.
        tau: level of CVaR.
        weights: weights of the mean.
        objective_of: weight of the mean -> objective.

    Returns:
        "weight", "mean" and "cvar" for each weight.
    """
    rows = []
    with jax.enable_x64(True):
        for weight in weights:
            objective = objective_of(weight)
            solution = problem.solve(objective, representation=None)
            best = follow_optimum(problem, solution, objective)
            rows.append({"weight": float(weight), "mean": cvar(best, 1.0), "cvar": cvar(best, tau)})
    return rows
