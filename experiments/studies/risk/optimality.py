"""How near D-eta-N comes to the exact optimum of a gridworld.

What a network reaches is found in two ways. For each setting (a risk level, a target) the agent chooses the
first stock and plays episodes, whose returns the objective measures. For each first stock c of a grid, its
greedy actions at all states and stocks of the grid are a tabular policy, of which E f(c + G) is solved.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from valuelab.agents import command_objectives
from valuelab.agents.eta_network import EtaNetworkConfig, atoms_of_actions, return_atoms
from valuelab.distributional import solvers, starts, stock_grids
from valuelab.distributional.gridworlds import Gridworld
from valuelab.distributional.mdps import MDP
from valuelab.distributional.solvers import Solution
from valuelab.distributional.stock_grids import StockGrid
from valuelab.environments import tabular
from valuelab.types import Agent, Array, Augmented, Key, Memory, Spec, VectorEnvironment

WITHIN = 0.05
"""The gap that counts as having reached the optimum."""

BATCHES = 20
"""Into which episodes are divided for the standard error of a measure."""

_LEAST_GAIN = 0.05
_POINTS = 500
"""Stocks in one unit of discounted return, for solving."""
_TESTED = 37
"""First stocks that are told of, where there are more."""


class Networks(NamedTuple):
    """What a gridworld was learnt with.

    Attributes:
        config: hyperparameters.
        spec: of the gridworld.
        agent: made of these.
        states: a trained one for each seed.
    """

    config: EtaNetworkConfig
    spec: Spec
    agent: Agent
    states: list[Any]

    @property
    def memory(self) -> Memory:
        """What the agent carries through an episode."""
        assert self.agent.memory is not None
        return self.agent.memory


class AtStocks(NamedTuple):
    """E f(c + G) from the start state at C first stocks.

    Attributes:
        stocks: [C, m].
        optimum: [C].
        errors: [C], bounds of |optimum - the true one|.
        random: [C], of uniformly random actions.
        reached: [M, C], by each seed.
        predicted: [M, C], what each seed's network expects.
    """

    stocks: np.ndarray
    optimum: np.ndarray
    errors: np.ndarray
    random: np.ndarray
    reached: np.ndarray
    predicted: np.ndarray


class AtSettings(NamedTuple):
    """The objective from the start state at X settings.

    Attributes:
        names: X.
        optimum: [X].
        errors: [X], bounds of |optimum - the true one|.
        random: [X], of uniformly random actions.
        reached: [M, X], by each seed.
        standard_errors: [M, X] of `reached`, for it is measured in episodes.
        stocks: [M, X, m], the first ones that were chosen.
        predicted: [M, X, N, m], atoms of the return distribution that each seed's network predicts.
        returns: [M, X, E, m], those of the episodes.
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
    """How far from the optimum policies are, in units of what can be gained over random actions.

        (optimum - reached) / (optimum - random)

    0 is the best policy, and 1 one that has learnt nothing. Where next to nothing can be gained (less than a
    twentieth of the most that can be gained in any of the C cases) it is relative to that twentieth.

    Args:
        optimum: [C].
        reached: [M, C].
        random: [C].

    Returns:
        [M, C].
    """
    gain = optimum - random
    return (optimum[None] - reached) / np.maximum(gain, _LEAST_GAIN * gain.max())[None]


class Table(NamedTuple):
    """A gridworld as a table of states and stocks, solved.

    Attributes:
        problem: the gridworld.
        grid: of C stocks, those that networks tell apart.
        best: the optimum, in float64.
    """

    problem: Gridworld
    grid: StockGrid
    best: Solution

    def worth(self, mdp: MDP, actions: np.ndarray) -> np.ndarray:
        """E f(c + G) from the start under a policy [S, C], for each first stock, [C]."""
        problem = self.problem
        policy = actions if problem.horizon is None else [actions] * problem.horizon
        with jax.enable_x64(True):
            evaluated = solvers.policy_evaluation(
                mdp, policy, problem.objective, **_settings(problem, self.grid)
            )
            return np.asarray(evaluated.values[problem.start_state])


def solve(problem: Gridworld, low: float, high: float) -> Table:
    """Solves a gridworld on a grid of stocks a unit apart, which is exact for γ = 1, else on a fine one.

    Args:
        problem: with whole rewards where γ = 1.
        low: least stock, of each component.
        high: greatest stock, likewise.
    """
    dim, per_unit = problem.mdp.reward_dim, 1 if problem.discount == 1 else _POINTS
    grid = stock_grids.uniform([low] * dim, [high] * dim, [round((high - low) * per_unit) + 1] * dim)
    with jax.enable_x64(True):
        best = solvers.value_iteration(problem.mdp, problem.objective, **_settings(problem, grid))
    return Table(problem, grid, best)


def _settings(problem: Gridworld, grid: StockGrid) -> dict[str, Any]:
    settings = {"discount": problem.discount, "horizon": problem.horizon, "stocks": grid}
    return settings | {"representation": None, "tolerance": 1e-6}


# Stocks: greedy actions as a tabular policy.


def at_stocks(table: Table, networks: Networks) -> AtStocks:
    """What is reached from the first stocks at which the optimum is known well enough to tell.

    Args:
        table: the gridworld.
        networks: trained in it.
    """
    mdp, start = table.problem.mdp, table.problem.start_state
    points = np.asarray(table.grid.stocks, np.float32)

    @jax.jit
    def look(state: Any) -> tuple[Array, Array]:
        """Greedy actions [S, C] and expected values [S, C]."""

        def at(observation: Array) -> tuple[Array, Array]:
            seen = Augmented(jnp.tile(observation, (len(points), 1)), points)
            return networks.agent.act(state, seen, jax.random.key(0), 0.0), networks.agent.value(state, seen)

        return jax.lax.map(at, jnp.eye(mdp.num_states))

    looks = [jax.tree.map(np.asarray, look(state)) for state in networks.states]
    optimum, errors = np.asarray(table.best.values[start]), np.asarray(table.best.errors[start])
    random = table.worth(with_random_actions(mdp), np.zeros((mdp.num_states, len(points)), int))
    reached = np.stack([table.worth(mdp, actions) for actions, _ in looks])
    predicted = np.stack([expected[start] for _, expected in looks])
    told = np.flatnonzero(errors <= WITHIN * (optimum - random).max())
    if mdp.reward_dim == 1:
        told = told[:: max(1, len(told) // _TESTED)]
    every = (optimum, errors, random, reached, predicted)
    return AtStocks(points[told], *(array[..., told] for array in every))


def with_random_actions(mdp: MDP) -> MDP:
    """The MDP with one action alone, which is any of its actions with equal probability."""
    states, actions, outcomes, dim = mdp.rewards.shape
    flat = (states, 1, actions * outcomes)
    return mdp._replace(
        probabilities=mdp.probabilities.reshape(flat) / actions,
        next_states=mdp.next_states.reshape(flat),
        rewards=mdp.rewards.reshape(*flat, dim),
    )


# Settings: episodes.


def at_settings(table: Table, networks: Networks, episodes: int) -> AtSettings:
    """What is reached where the agent chooses the first stock.

    Args:
        table: the gridworld.
        networks: trained in it.
        episodes: E, a multiple of BATCHES, that each seed plays for each setting.
    """
    problem, agent, family = table.problem, networks.agent, networks.config.objective
    network = return_atoms(networks.config, networks.spec)
    follow = follow_commands(problem, agent, episodes)
    first_seen = _first_seen(problem)
    blind = tabular.simulate(problem._replace(mdp=with_random_actions(problem.mdp)), episodes)

    @jax.jit
    def of_seed(state: Any, command: Array, key: Key) -> tuple[Array, Array, Array]:
        """The first stock [m], the atoms [N, m] expected from there, and returns [E, m]."""
        held, returns = follow(state, command, key)
        atoms = network.apply(state.params, first_seen, held[:, None])
        first_actions = agent.act(state, Augmented(first_seen, held), key, 0.0)
        return held[0], atoms_of_actions(atoms, first_actions[:, None])[0, 0], returns

    @jax.jit
    def of_random(key: Key) -> Array:
        held = jnp.zeros((1, problem.mdp.reward_dim))
        return play(blind, lambda seen, _: jnp.zeros(len(seen), jnp.int32), networks.memory, held, key)

    @jax.jit
    def measure(command: Array, returns: Array) -> Array:
        """The objective of E equally likely returns [..., E, m], [...]."""
        return command_objectives.value_as_start(command_objectives.objective_of(family, command), returns)

    def compare(number: int, command: np.ndarray) -> tuple[np.ndarray, ...]:
        with jax.enable_x64(True):
            start = starts.choose(table.best, command_objectives.objective_of(family, command))
        key = jax.random.fold_in(jax.random.key(1), number)
        played = [
            of_seed(state, command, jax.random.fold_in(key, seed))
            for seed, state in enumerate(networks.states)
        ]
        first, predicted, returns = (np.stack(parts) for parts in zip(*played, strict=True))
        batches = measure(command, returns.reshape(len(returns), BATCHES, -1, returns.shape[-1]))
        spread = np.std(batches, axis=1, ddof=1) / np.sqrt(BATCHES)
        exact = (np.asarray(part[problem.start_state]) for part in (start.values, start.errors))
        return (
            *exact,
            measure(command, random_returns),
            measure(command, returns),
            spread,
            first,
            predicted,
            returns,
        )

    random_returns = of_random(jax.random.key(0))
    compared = [compare(*numbered) for numbered in enumerate(networks.memory.commands.values())]
    optimum, errors, random, *of_seeds = zip(*compared, strict=True)
    return AtSettings(
        list(networks.memory.commands),
        *map(np.array, (optimum, errors, random)),
        *(np.stack(column, axis=1) for column in of_seeds),
    )


def follow_commands(
    problem: Gridworld, agent: Agent, episodes: int
) -> Callable[[Any, Array, Key], tuple[Array, Array]]:
    """What greedy episodes of an agent bring that is asked for something.

    Args:
        problem: a gridworld.
        agent: with stocks for its memory.
        episodes: E.

    Returns:
        (state, command [k], key) -> the first stock that the agent chooses, [1, m], and the discounted
        returns of the episodes, [E, m]; for use inside jit.
    """
    environment, memory = tabular.simulate(problem, episodes), agent.memory
    assert memory is not None
    first_seen = _first_seen(problem)

    def follow(state: Any, command: Array, key: Key) -> tuple[Array, Array]:
        def greedy(observations: Array, held: Array) -> Array:
            return agent.act(state, Augmented(observations, held), key, 0.0)

        held = memory.choose(state, first_seen, command[None])
        return held, play(environment, greedy, memory, held, key)

    return follow


def _first_seen(problem: Gridworld) -> Array:
    """The observation that episodes begin with, [1, S]."""
    return jnp.eye(problem.mdp.num_states)[problem.start_state][None]


def play(
    environment: VectorEnvironment,
    act: Callable[[Array, Array], Array],
    memory: Memory,
    held: Array,
    key: Key,
) -> Array:
    """An episode in each of E environments at once, on the device.

    Args:
        environment: of E.
        act: (observations [E, ...], stocks [E, m]) -> actions [E].
        memory: of the agent, which carries stocks.
        held: [1, m], the first stock.
        key: random.

    Returns:
        [E, m], the discounted returns.
    """
    held = jnp.tile(held, (environment.num_environments, 1))

    def goes_on(carry: _Episodes) -> Array:
        return ~jnp.all(carry.ended)

    def step(carry: _Episodes) -> _Episodes:
        simulation, outcomes = environment.step(carry.simulation, act(carry.observations, carry.held))
        rewards = jnp.where(carry.ended[:, None], 0, outcomes.rewards.reshape(held.shape))
        return _Episodes(
            simulation,
            outcomes.observations,
            memory.update(carry.held, rewards),
            carry.returns + carry.weight * rewards,
            carry.weight * memory.discount,
            carry.ended | outcomes.terminated | outcomes.truncated,
        )

    simulation, observations = environment.reset(key)
    ended = jnp.zeros(len(held), bool)
    begun = _Episodes(simulation, observations, held, jnp.zeros_like(held), jnp.ones(()), ended)
    return jax.lax.while_loop(goes_on, step, begun).returns


class _Episodes(NamedTuple):
    """E episodes under way; `weight` is γᵗ."""

    simulation: Any
    observations: Array
    held: Array
    returns: Array
    weight: Array
    ended: Array
