"""The distance of D-eta-N from the exact optimum of a gridworld.

A network is evaluated in two ways. For each command (a risk level, a target), the agent chooses the first
stock and plays episodes, and the objective measures their returns. For each first stock c of a grid, the
greedy actions at all states and stocks of the grid are a tabular policy, whose E f(c + G) is solved exactly.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.studies.risk import episodes
from experiments.studies.risk.networks import TrainedNetworks
from valuelab.agents import command_objectives
from valuelab.agents.eta_network import atoms_of_actions, return_atoms
from valuelab.distributional import solvers, starts, stock_grids
from valuelab.distributional.gridworlds import Gridworld
from valuelab.distributional.mdps import MDP
from valuelab.distributional.solvers import Solution
from valuelab.distributional.stock_grids import StockGrid
from valuelab.environments import tabular
from valuelab.types import Array, Augmented, Key

WITHIN = 0.05
"""The gap that counts as having reached the optimum."""

BATCHES = 20
"""The number of groups of episodes from which the standard error of a measure is estimated."""

_LEAST_GAIN = 0.05
_POINTS = 500
"""Stocks per unit of return with which a discounted gridworld is solved."""
_TESTED = 37
"""If a grid has more first stocks, about this many of them are reported."""


class StockResults(NamedTuple):
    """E f(c + G) from the start state for C first stocks and M seeds.

    Attributes:
        stocks: [C, m].
        optimum: [C].
        errors: [C], bounds of |optimum - true optimum|.
        random: [C], with uniformly random actions.
        reached: [M, C], with the network of each seed.
        predicted: [M, C], predicted by the network of each seed.
    """

    stocks: np.ndarray
    optimum: np.ndarray
    errors: np.ndarray
    random: np.ndarray
    reached: np.ndarray
    predicted: np.ndarray


class CommandResults(NamedTuple):
    """The objective from the start state for X commands and M seeds.

    Attributes:
        names: X names of commands.
        optimum: [X].
        errors: [X], bounds of |optimum - true optimum|.
        random: [X], with uniformly random actions.
        reached: [M, X], with the network of each seed.
        standard_errors: [M, X], of `reached`, which is measured in episodes.
        stocks: [M, X, m], the first stocks that the networks chose.
        predicted: [M, X, N, m], atoms of the return distribution that the network of each seed predicts.
        returns: [M, X, E, m], returns of the episodes.
    """

    names: list[str]
    optimum: np.ndarray
    errors: np.ndarray
    random: np.ndarray
    reached: np.ndarray
    standard_errors: np.ndarray
    stocks: np.ndarray
    predicted: np.ndarray
    returns: np.ndarray


def gaps(optimum: np.ndarray, reached: np.ndarray, random: np.ndarray) -> np.ndarray:
    """The distances of policies from the optimum, relative to the gain of the optimum over random actions.

        (optimum - reached) / (optimum - random)

    0 is the optimum and 1 is no better than random actions. Where the gain is less than a twentieth of the
    largest gain of the C cases, the distance is relative to that twentieth.

    Args:
        optimum: [C].
        reached: [M, C].
        random: [C].

    Returns:
        [M, C].
    """
    gain = optimum - random
    return (optimum[None] - reached) / np.maximum(gain, _LEAST_GAIN * gain.max())[None]


class SolvedGridworld(NamedTuple):
    """The exact solution of a gridworld on states and stocks.

    Attributes:
        gridworld: the gridworld.
        grid: C stocks.
        optimum: the solution, in float64.
    """

    gridworld: Gridworld
    grid: StockGrid
    optimum: Solution

    def policy_values(self, mdp: MDP, actions: np.ndarray) -> np.ndarray:
        """E f(c + G) from the start state in an MDP under a policy [S, C], for each first stock, [C]."""
        gridworld = self.gridworld
        policy = actions if gridworld.horizon is None else [actions] * gridworld.horizon
        with jax.enable_x64(True):
            evaluated = solvers.policy_evaluation(
                mdp, policy, gridworld.objective, **_solver_options(gridworld, self.grid)
            )
            return np.asarray(evaluated.values[gridworld.start_state])


def solve(gridworld: Gridworld, low: float, high: float) -> SolvedGridworld:
    """Solves a gridworld on a grid of stocks: one per unit for γ = 1, which is exact, else a fine grid.

    Args:
        gridworld: with integer rewards if γ = 1.
        low: smallest stock of each component.
        high: largest stock of each component.
    """
    dim, per_unit = gridworld.mdp.reward_dim, 1 if gridworld.discount == 1 else _POINTS
    grid = stock_grids.uniform([low] * dim, [high] * dim, [round((high - low) * per_unit) + 1] * dim)
    with jax.enable_x64(True):
        optimum = solvers.value_iteration(
            gridworld.mdp, gridworld.objective, **_solver_options(gridworld, grid)
        )
    return SolvedGridworld(gridworld, grid, optimum)


def _solver_options(gridworld: Gridworld, grid: StockGrid) -> dict[str, Any]:
    options = {"discount": gridworld.discount, "horizon": gridworld.horizon, "stocks": grid}
    return options | {"representation": None, "tolerance": 1e-6}


def evaluate_stocks(solved: SolvedGridworld, networks: TrainedNetworks) -> StockResults:
    """Evaluates the greedy actions of networks as tabular policies.

    Args:
        solved: the gridworld.
        networks: the networks.

    Returns:
        The results at first stocks where the error of the optimum is at most WITHIN times the largest gain
        over random actions.
    """
    mdp, start = solved.gridworld.mdp, solved.gridworld.start_state
    points = np.asarray(solved.grid.stocks, np.float32)

    @jax.jit
    def tabulate(state: Any) -> tuple[Array, Array]:
        """Greedy actions [S, C] and predicted values [S, C]."""

        def at_state(observation: Array) -> tuple[Array, Array]:
            augmented = Augmented(jnp.tile(observation, (len(points), 1)), points)
            actions = networks.agent.act(state, augmented, jax.random.key(0), 0.0)
            return actions, networks.agent.value(state, augmented)

        return jax.lax.map(at_state, jnp.eye(mdp.num_states))

    tables = [jax.tree.map(np.asarray, tabulate(state)) for state in networks.states]
    optimum, errors = np.asarray(solved.optimum.values[start]), np.asarray(solved.optimum.errors[start])
    random = solved.policy_values(with_random_actions(mdp), np.zeros((mdp.num_states, len(points)), int))
    reached = np.stack([solved.policy_values(mdp, actions) for actions, _ in tables])
    predicted = np.stack([values[start] for _, values in tables])
    known = np.flatnonzero(errors <= WITHIN * (optimum - random).max())
    if mdp.reward_dim == 1:
        known = known[:: max(1, len(known) // _TESTED)]
    return StockResults(
        stocks=points[known],
        optimum=optimum[known],
        errors=errors[known],
        random=random[known],
        reached=reached[:, known],
        predicted=predicted[:, known],
    )


def with_random_actions(mdp: MDP) -> MDP:
    """The MDP with a single action, which draws one of the MDP's actions uniformly at random."""
    states, actions, outcomes, dim = mdp.rewards.shape
    flat = (states, 1, actions * outcomes)
    return mdp._replace(
        probabilities=mdp.probabilities.reshape(flat) / actions,
        next_states=mdp.next_states.reshape(flat),
        rewards=mdp.rewards.reshape(*flat, dim),
    )


def evaluate_commands(
    solved: SolvedGridworld, networks: TrainedNetworks, num_episodes: int
) -> CommandResults:
    """Evaluates networks in episodes whose first stock the agent chooses.

    Args:
        solved: the gridworld.
        networks: the networks.
        num_episodes: number of episodes E of each seed for each command, a multiple of BATCHES.
    """
    gridworld, agent = solved.gridworld, networks.agent
    family = command_objectives.family_of(networks.config)
    network = return_atoms(networks.config, networks.spec)
    follow = episodes.follow_commands(gridworld, agent, num_episodes)
    start = episodes.first_observation(gridworld)
    with_one_action = gridworld._replace(mdp=with_random_actions(gridworld.mdp))
    random_environment = tabular.simulate(with_one_action, num_episodes)

    @jax.jit
    def of_seed(state: Any, command: Array, key: Key) -> tuple[Array, Array, Array]:
        """The first stock [m], the atoms predicted from there [N, m], and the returns [E, m]."""
        first_stock, returns = follow(state, command, key)
        atoms = network.apply(state.params, start, first_stock[:, None])
        first_actions = agent.act(state, Augmented(start, first_stock), key, 0.0)
        return first_stock[0], atoms_of_actions(atoms, first_actions[:, None])[0, 0], returns

    @jax.jit
    def of_random_actions(key: Key) -> Array:
        first_stock = jnp.zeros((1, gridworld.mdp.reward_dim))

        def only_action(observations: Array, stocks: Array) -> Array:
            return jnp.zeros(len(observations), jnp.int32)

        return episodes.play(random_environment, only_action, networks.memory, first_stock, key)

    @jax.jit
    def measure(command: Array, returns: Array) -> Array:
        """The objective of E equally likely returns [..., E, m], [...]."""
        return command_objectives.value_as_start(command_objectives.objective_of(family, command), returns)

    def evaluate(number: int, command: np.ndarray) -> tuple[np.ndarray, ...]:
        """The fields of CommandResults, except the names, for one command."""
        with jax.enable_x64(True):
            best = starts.choose(solved.optimum, command_objectives.objective_of(family, command))
        key = jax.random.fold_in(jax.random.key(1), number)
        played = [
            of_seed(state, command, jax.random.fold_in(key, seed))
            for seed, state in enumerate(networks.states)
        ]
        first_stocks, predicted, returns = (np.stack(parts) for parts in zip(*played, strict=True))
        batches = measure(command, returns.reshape(len(returns), BATCHES, -1, returns.shape[-1]))
        return (
            np.asarray(best.values[gridworld.start_state]),
            np.asarray(best.errors[gridworld.start_state]),
            measure(command, random_returns),
            measure(command, returns),
            np.std(batches, axis=1, ddof=1) / np.sqrt(BATCHES),
            first_stocks,
            predicted,
            returns,
        )

    random_returns = of_random_actions(jax.random.key(0))
    commands = networks.memory.commands
    results = [evaluate(number, command) for number, command in enumerate(commands.values())]
    optimum, errors, random, *of_seeds = zip(*results, strict=True)
    return CommandResults(
        list(commands),
        *map(np.array, (optimum, errors, random)),
        *(np.stack(column, axis=1) for column in of_seeds),
    )
