"""One call that solves an MDP for an objective: exactly where that is feasible, else on a fine grid.

    1. Values. In a finite horizon with scalar rewards the grids hold all stocks that can be reached from the
       first ones, which is exact. For sums of integers without discount the grid holds the integers. Else the
       grid is uniform, and finer than one for distributions could be, since values need no atoms. In an
       infinite horizon the extreme returns come from actions that an optimal policy does not take, so a
       second, finer grid spans the returns that the optimal policy can have.
    2. First stocks, by the objective's rule.
    3. Return distributions from these first stocks: exact ones on a grid that contains them, else those of
       simulated episodes of the policy. If a representation or a grid is given, they are held by this
       representation, at all stocks of a grid.

If K is not an expected utility, the values come from the distributions, in a single pass.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from valuelab.distributional import (
    checks,
    distribution_representations,
    entropic,
    episodes,
    exact,
    functionals,
    mdps,
    objectives,
    shortest_paths,
    solvers,
    starts,
    stock_grids,
)
from valuelab.distributional.bellman import SolverSetting
from valuelab.distributional.mdps import MDP
from valuelab.distributional.objectives import Objective, SearchedStart
from valuelab.distributional.return_distributions import Atoms, DistributionRepresentation, merge_equal_atoms
from valuelab.distributional.solvers import Solution
from valuelab.distributional.starts import Start
from valuelab.distributional.stock_grids import StockGrid
from valuelab.errors import InputError, unknown
from valuelab.types import Array

_MAX_SWEEP_SIZE = 20_000_000
"""The largest number of entries of a sweep: successors of states, actions and stocks, or atoms."""

_MAX_TOTAL_SIZE = 1_000_000_000
"""The largest number of entries of all sweeps of an infinite horizon."""

_MAX_STOCKS, _MAX_ATOMS = 20_001, 801
"""Finer grids do not visibly change figures and results."""

_WIDE_STOCKS = 1001
"""The largest size of the first grid in an infinite horizon, which spans all returns."""

_MAX_RETURNS = 20_000
"""The largest number of distinct returns of exact distributions."""

_MAX_OUTCOMES = 100_000
"""The largest number of outcomes, summed over stages, that are followed one by one."""

_MAX_FOLLOWED = 100_000_000
"""The largest number of starts, states and returns, multiplied, for which episodes are followed."""

_VALUE_PRECISION, _DISTRIBUTION_PRECISION = 1e-9, 1e-6
"""Sweeps for values and for distributions stop at these changes, relative to the greatest return."""

_MAX_SIMULATED, _EPISODES = 100_000_000, (1000, 10_000)
"""The largest number of steps of all simulated episodes, and the numbers of episodes of a start."""

_MAX_ROUNDS = 20
"""The largest number of rounds of solving for further stocks, to find the minimum of upper CVaR's dual."""

_FIRST_STEPS, _MAX_STEPS, _ENDLESS_PRECISION = 16, 4096, 1e-7
"""Without discount or horizon: the first and the last number of steps, and the difference of the bounds of
the optimum at which solving stops, relative to the greatest value."""

Grids = StockGrid | list[StockGrid]


class _Choices(NamedTuple):
    """The arguments of `solve` that choose the grid and the representation; None where they are not given."""

    representation: str | None
    atoms: int | None
    stocks: int | None
    stock_low: Sequence[float] | None
    stock_high: Sequence[float] | None


class _Problem(NamedTuple):
    """An MDP and objectives, with the range of returns.

    Attributes:
        mdp: the MDP.
        dial: what is maximised: objectives that differ in the parameters of their starts alone.
        discount: γ.
        horizon: number of steps, or None.
        steps: the horizon, or the length of the longest episode if there is no horizon and γ = 1; None:
            infinite.
        allow_unsound: whether to solve where the theory does not hold.
        low: [S, m], least returns.
        high: [S, m], greatest returns.
        choices: of the grid and the representation.
        start_state: the state in which episodes begin; None: any.
        reached: [S], whether episodes can visit the state.
        endless: whether γ = 1 and some episodes have no longest length, see `shortest_paths`.
        final: [S], added to an expected utility after the last step; None: nothing.
        bounded: whether errors are bounded in an infinite horizon.
    """

    mdp: MDP
    dial: tuple[Objective, ...]
    discount: float
    horizon: int | None
    steps: int | None
    allow_unsound: bool
    low: np.ndarray
    high: np.ndarray
    choices: _Choices
    start_state: int | None
    reached: np.ndarray
    endless: bool = False
    final: np.ndarray | None = None
    bounded: bool = True

    @property
    def objective(self) -> Objective:
        """One objective of the dial; they share the functional and its properties."""
        return self.dial[0]

    @property
    def minimized(self) -> bool:
        """Whether the value is the minimum of a dual."""
        return isinstance(self.objective.start, SearchedStart) and self.objective.start.minimized

    @property
    def first(self) -> np.ndarray:
        """The given first stocks [n, m], or the corners of the box that contains the best ones."""
        corners = [starts.first_stock_range(objective, self.low, self.high) for objective in self.dial]
        return np.unique(np.concatenate(corners).reshape(-1, self.mdp.reward_dim), axis=0)

    @property
    def successors(self) -> int:
        """The number of successors of one stock, over all states, actions and outcomes."""
        return self.mdp.probabilities.size * 2**self.mdp.reward_dim

    @property
    def by_atoms(self) -> bool:
        """Whether K is read from return distributions."""
        return self._setting.factor(self.objective) is None

    @property
    def unrolled(self) -> bool:
        """Whether stocks that matter are γ⁻ᵗ times those of the first step."""
        return self._setting.unrolled(self.objective)

    @property
    def _setting(self) -> SolverSetting:
        return SolverSetting(
            representation=None, discount=self.discount, infinite=self.steps is None, optimal=True
        )

    def iterate(self, grids: Grids, representation: DistributionRepresentation | None) -> Solution:
        """Solves the problem on given grids by value iteration."""
        precision = _VALUE_PRECISION if representation is None else _DISTRIBUTION_PRECISION
        scale = float(np.maximum(np.abs(self.low), np.abs(self.high)).max())
        if self.steps is not None and self.unrolled and isinstance(grids, StockGrid):
            grids = [stock_grids.scaled(grids, self.discount**-step) for step in range(self.steps + 1)]
        first = self.first
        checks.check_degree(
            self.objective,
            self.discount,
            grids,
            first.min(0) + self.low.min(0),
            first.max(0) + self.high.max(0),
        )
        return solvers.value_iteration(
            self.mdp,
            self.objective,
            discount=self.discount,
            horizon=self.steps,
            representation=representation,
            stocks=grids,
            tolerance=precision * max(scale, 1e-6),
            allow_unsound=self.allow_unsound,
            final=self.final,
            bounds=self.bounded,
        )


class _Values(NamedTuple):
    """The values of a problem.

    Attributes:
        solution: values and policy; return distributions only if values come from them.
        exact: whether the grid of the solution makes no error.
        aligned: whether the grid contains -g for every possible return g.
    """

    solution: Solution
    exact: bool
    aligned: bool


class SolvedMDP(NamedTuple):
    """The solution of an MDP for an objective, in float64 on the host.

    Attributes:
        start: the objective's optimum from every state, a bound of its error, and the first stocks. The
            optimum is nan in states that episodes from the given start state do not visit.
        solution: values, policy and, unless they are simulated, distributions, on a grid that contains the
            first stocks. For other first stocks use `at`.
        atoms: the return distributions [S, C] as atoms; None where they are simulated.
        off_grid_mass: [S], of the episodes from the first stocks, on the grid that `start` was computed on.
        distribution_off_grid_mass: [S], the same on the grid and the support of `solution`: a bound of the
            probability that is wrong in the return distributions.
        sweeps: the number of sweeps for the values.
        exact: whether `start` differs from the optimum only by rounding.
        objective: what is maximised.
        values: the solution that `start` was computed on; its grid may be finer than that of `solution`.
        problem: what `at` needs to solve again.
    """

    start: Start
    solution: Solution
    atoms: Atoms | None
    off_grid_mass: np.ndarray
    distribution_off_grid_mass: np.ndarray
    sweeps: int
    exact: bool
    objective: Objective
    values: _Values
    problem: _Problem

    def at(self, **parameters: Any) -> "SolvedMDP":
        """The solution for other parameters of the objective, such as `tau=0.5` or `target=3.0`.

        Values on a grid that contains the new first stock are used again; else the MDP is solved again.

        Args:
            **parameters: the parameters of the objective that change.

        Returns:
            The solution.

        Raises:
            InputError: for a parameter that the objective does not have, or an invalid value.

        Example:
            >>> import numpy as np, valuelab as vl
            >>> transitions, rewards = np.zeros((2, 2, 2, 2))
            >>> transitions[0, :, 1] = 1
            >>> rewards[0, :, 1] = [1, 2]
            >>> mdp = vl.make_mdp(transitions, rewards, terminal=np.array([False, True]))
            >>> solved = vl.solve(mdp, "target", target=5, discount=1.0)
            >>> [float(each.start.values[0]) for each in (solved, solved.at(target=1.5))]
            [-3.0, -0.5]
        """
        return self.at_each([parameters])[0]

    def at_each(self, settings: Sequence[Mapping[str, Any]], bounds: bool = True) -> "list[SolvedMDP]":
        """As `at` for each of several settings. They share one solution if only their starts differ.

        Args:
            settings: the parameters that change, for each solution.
            bounds: whether errors and off-grid mass are bounded where the MDP is solved again in an infinite
                horizon; otherwise they are infinite and 1, and solving takes much less time.
        """
        dial = tuple(objectives.with_parameters(self.objective, **setting) for setting in settings)
        only_starts = all(setting.keys() <= set(self.objective.start.parameters) for setting in settings)
        with jax.enable_x64(True):
            problem = self.problem._replace(bounded=bounds)
            if only_starts and not problem.endless:
                return _solve(problem._replace(dial=dial), self.values)
            if only_starts:
                return _solve_endless(problem._replace(dial=dial))
            return [_solve_one(problem._replace(dial=(objective,))) for objective in dial]

    def first_distributions(self, states: Any) -> Atoms:
        """The return distributions from N states at their first stocks, or at the draw of two.

        Where they are simulated, an episode keeps its own stock, and acts as at the nearest grid point.

        Args:
            states: [N], the states in which episodes begin.

        Returns:
            Values [N, n, m] and probabilities [N, n], some of them 0. Simulated distributions are the same at
            every call.
        """
        start, problem, rows = self.start, self.problem, np.asarray(states)
        with jax.enable_x64(True):
            if self.atoms is not None:
                parts = []
                for stocks, chances in (
                    (start.stocks, 1 - start.chances),
                    (start.other_stocks, start.chances),
                ):
                    indices, weights, _ = map(np.asarray, _locate(self.solution.stocks, stocks[rows]))
                    weights = weights * chances[rows, None]
                    parts += [
                        Atoms(
                            values=self.atoms.values[rows, index],
                            probabilities=weight[:, None] * self.atoms.probabilities[rows, index],
                        )
                        for index, weight in zip(indices.T, weights.T, strict=True)
                    ]
                return jax.tree.map(lambda *leaves: np.concatenate(leaves, axis=1), *parts)
            steps = episodes.num_steps(problem.discount, problem.steps)
            count = int(np.clip(_MAX_SIMULATED / (steps * problem.mdp.num_states), *_EPISODES))
            policy = self.solution.policy
            grid, policy = stock_grids.padded(
                self.solution.stocks, np.stack(policy) if isinstance(policy, tuple) else policy
            )
            returns = []
            for state in states:
                drawn = np.arange(count)[:, None] < np.round(start.chances[state] * count)
                returns.append(
                    episodes.simulate(
                        problem.mdp,
                        policy,
                        grid,
                        np.full(count, state),
                        np.where(drawn, start.other_stocks[state], start.stocks[state]),
                        jax.random.key(0),
                        discount=problem.discount,
                        steps=steps,
                    )
                )
            values = np.stack(returns)
            return merge_equal_atoms(Atoms(values=values, probabilities=np.full(values.shape[:2], 1 / count)))

    def act(self, state: Any, stock: Any, step: int = 0) -> np.ndarray:
        """The actions of the policy, which acts as at the nearest stock of the grid of this step.

        Args:
            state: [...] int, the states.
            stock: [...] for scalar rewards, or [..., m].
            step: the number of steps since the start; it matters only in a finite horizon.

        Returns:
            The actions [...] int32.

        Raises:
            InputError: for a state that the MDP does not have, stocks of another shape, or a step that the
                horizon does not have.
        """
        states, stocks = np.asarray(state), np.asarray(stock, float)
        num_states, dim = self.problem.mdp.num_states, self.problem.mdp.reward_dim
        if dim == 1 and stocks.shape == states.shape:
            stocks = stocks[..., None]
        if stocks.shape != (*states.shape, dim):
            raise InputError(
                f"stock has shape {stocks.shape}, but state has shape {states.shape}; give "
                f"{dim} number(s) for each state"
            )
        if states.dtype.kind not in "iu" or ((states < 0) | (states >= num_states)).any():
            raise InputError(f"state is {state}; give whole numbers from 0 to {num_states - 1}")
        if not np.isfinite(stocks).all():
            raise InputError(f"stock is {stock}; give finite numbers")
        horizon = self.problem.steps
        if not checks.is_whole(step) or step < 0 or (horizon is not None and step >= horizon):
            last = "" if horizon is None else f" to {horizon - 1}"
            raise InputError(f"step is {step}; give a step from 0{last or ' on'}")
        grid, policy = self.solution.stage(step)
        return np.asarray(policy)[states, stock_grids.nearest(grid, stocks)]

    def simulate(self, num_episodes: int, key: Array, state: int | None = None) -> episodes.Episodes:
        """Simulates episodes of the policy from the first stock, or from the draw of two.

        Args:
            num_episodes: E.
            key: of the outcomes, from `jax.random.key`.
            state: the state in which episodes begin; None: the start state that `solve` was given.

        Returns:
            States, stocks, actions, rewards and returns of the episodes. Infinite episodes are cut where
            discounting leaves 10⁻⁴ of a reward.

        Raises:
            InputError: for a number of episodes below 1, or where no start state is known.
        """
        problem, start = self.problem, self.start
        state = problem.start_state if state is None else state
        if state is None:
            raise InputError("state is None, and solve was called without start_state; give one of them")
        mdps.reachable_states(problem.mdp, state)
        if np.isnan(start.values[state]):
            raise InputError(
                f"state is {state}, which episodes from start_state do not visit; solve it first"
            )
        if num_episodes < 1:
            raise InputError(f"num_episodes is {num_episodes}; give at least 1")
        rng = np.random.default_rng(np.asarray(jax.random.key_data(key)))
        drawn = rng.uniform(size=(num_episodes, 1)) < start.chances[state]
        return episodes.follow(
            problem.mdp,
            self.act,
            np.full(num_episodes, state),
            np.where(drawn, start.other_stocks[state], start.stocks[state]),
            rng,
            discount=problem.discount,
            steps=episodes.num_steps(problem.discount, problem.steps),
        )

    def possible_returns(self) -> np.ndarray | None:
        """All returns that can occur from any state in a finite horizon, if there are not too many."""
        return _possible_returns(self.problem)


def solve(
    mdp: MDP,
    objective: Objective,
    *,
    discount: float,
    horizon: int | None = None,
    start_state: int | None = None,
    representation: str | None = None,
    atoms: int | None = None,
    stocks: int | None = None,
    stock_low: Sequence[float] | None = None,
    stock_high: Sequence[float] | None = None,
    allow_unsound: bool = False,
) -> SolvedMDP:
    """Solves an MDP. Chooses the grids and the representation that are not given.

    Args:
        mdp: host arrays.
        objective: what is maximised.
        discount: γ in (0, 1].
        horizon: number of steps; None: the length of the longest episode if all episodes end, else infinite.
            Without discount, a proper policy must exist then: `shortest_paths`.
        start_state: the state in which episodes begin; only the states that they can visit are solved. None:
            all states are solved. EVaR needs a start state.
        representation: of return distributions, "exact", "categorical" or "quantile"; None: exact if they are
            small enough, else categorical.
        atoms: the number of atoms of a distribution along each component; None: chosen.
        stocks: the number of points of a uniform grid along each component, on which everything is solved;
            None: grids are chosen.
        stock_low: [m], the least stock of this grid.
        stock_high: [m], its greatest stock.
        allow_unsound: whether to solve where the theory does not hold, and mark the solution.

    Returns:
        The solution.

    Raises:
        InputError: as `solvers.value_iteration`, and when the value of a state is not a number.
    """
    if representation not in (None, "exact", "categorical", "quantile"):
        raise unknown("representation", representation, ("exact", "categorical", "quantile"))
    if not isinstance(mdp, MDP):
        raise InputError(f"mdp is of type {type(mdp).__name__}; give an MDP, such as make_mdp makes")
    checks.check_objective(objective, mdp.reward_dim)
    for name, size, least in (("atoms", atoms, 2), ("stocks", stocks, 1)):
        if size is not None and not (checks.is_whole(size) and size >= least):
            raise InputError(f"{name} is {size!r}; give a whole number of at least {least}")
    for name, end in (("stock_low", stock_low), ("stock_high", stock_high)):
        if end is not None and stocks is None:
            raise InputError(f"{name} is {end}, but stocks is None; give the size of the stock grid, too")
        if end is not None and np.asarray(end).dtype.kind not in "fiu":
            raise InputError(f"{name} is {end!r}; give numbers")
    with jax.enable_x64(True):
        mdps.validate(mdp, discount)
        reached = np.ones(mdp.num_states, bool)
        if start_state is not None:
            reached = mdps.reachable_states(mdp, start_state)
            mdp = mdps.end_in(mdp, ~reached)
        if horizon is None and discount < 1:
            # If every episode ends, the length of the longest episode serves as horizon.
            horizon = mdps.episode_bound(mdp) or None
        theory = objective if not _is_evar(objective) else objectives.entropic(-1.0)
        endless = horizon is None and discount == 1 and mdps.episode_bound(mdp) is None
        if endless:
            if reason := objectives.unsound_reason(theory, discount, None, mdp.reward_dim):
                raise InputError(f"{reason}; give a horizon")
            steps, (low, high) = None, np.zeros((2, mdp.num_states, mdp.reward_dim))
        else:
            _, steps = checks.check_problem(mdp, theory, discount, horizon, allow_unsound)
            low, high = _ranges(mdp, discount, steps)
        problem = _Problem(
            mdp=mdp,
            dial=(objective,),
            discount=discount,
            horizon=horizon,
            steps=steps,
            allow_unsound=allow_unsound,
            low=low,
            high=high,
            choices=_Choices(
                representation=representation,
                atoms=atoms,
                stocks=stocks,
                stock_low=stock_low,
                stock_high=stock_high,
            ),
            start_state=start_state,
            reached=reached,
            endless=endless,
        )
        return _solve_one(problem)


def _ranges(mdp: MDP, discount: float, steps: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Least and greatest returns [S, m] over any number of steps up to the horizon."""
    low, high = mdps.return_bounds(mdp, discount, steps, or_fewer=True)
    return np.minimum(low, 0), np.maximum(high, 0)


def _on_host(tree: Any) -> Any:
    """The same pytree with numpy arrays."""
    return jax.tree.map(lambda leaf: np.asarray(leaf) if isinstance(leaf, jax.Array) else leaf, tree)


def _solve(problem: _Problem, known: _Values | None = None) -> list[SolvedMDP]:
    """Solves a problem for each objective of its dial, in the three steps of the module docstring.

    Args:
        problem: the problem.
        known: values for another dial, which are used again where they serve this one.

    Returns:
        One solution for each objective; they share their arrays except for the starts.
    """
    fixed = _fixed_grid(problem)
    returns = _possible_returns(problem) if fixed is None else None
    if problem.by_atoms:
        grids, representation, is_exact = _for_distributions(problem, fixed, problem.first, returns)
        solution = problem.iterate(grids, representation)
        values = _Values(solution=solution, exact=is_exact, aligned=True)
        begun = [starts.choose(solution, objective, aligned=True) for objective in problem.dial]
        return _assemble(problem, begun, values, solution, representation)
    refines = problem.steps is None and problem.mdp.reward_dim == 1 and fixed is None
    if known is not None and _serves(problem, known, fixed):
        values = known
    else:
        # Bounds of what is solved again on a finer grid are not needed.
        values = _find_values(problem._replace(bounded=problem.bounded and not refines), fixed, returns)
    begun, narrow = _choose(problem, values), problem
    if refines:
        pivots = np.concatenate([start.pivots for start in begun], axis=1)
        narrow = _narrow_returns(problem, values.solution, pivots)
        fine = _uniform_grid(narrow, min(_MAX_STOCKS, _sweep_limit(problem) / problem.successors))
        grid = _union(values.solution.stocks, fine)
        values = values._replace(solution=_on_host(problem.iterate(grid, None)))
        begun = _choose(problem, values)
    minimized = problem.minimized
    first = np.concatenate([start.pivots for start in begun])
    if minimized:
        # The draw is between the distributions of stocks on both sides of the pivot.
        points = np.asarray(values.solution.stocks.points[0])
        sides = np.searchsorted(points, first[:, :1]) + np.arange(-1, 2)
        first = np.append(first, points[np.clip(sides, 0, len(points) - 1)].reshape(-1, 1), axis=0)
    grids, representation, is_exact = _for_distributions(narrow, fixed, np.unique(first, axis=0), returns)
    chosen = fixed is not None or problem.choices.representation or problem.choices.atoms
    simulated = not (is_exact or values.exact or chosen or problem.unrolled)
    if simulated and not minimized:
        return _assemble(problem, begun, values, values.solution, None)
    solution = narrow.iterate(grids, representation)
    if minimized:
        atoms = representation.atoms(solution.distributions)
        for index, (objective, start) in enumerate(zip(problem.dial, begun, strict=True)):
            drawn = starts.choose(solution, objective, distributions=atoms, aligned=values.aligned)
            begun[index] = drawn._replace(values=start.values, errors=start.errors, pivots=start.pivots)
    if simulated:
        return _assemble(problem, begun, values, values.solution, None)
    return _assemble(problem, begun, values, solution, representation)


def _solve_one(problem: _Problem) -> SolvedMDP:
    """Solves a problem for one objective."""
    if _is_evar(problem.objective):
        return _solve_evar(problem)
    return (_solve_endless if problem.endless else _solve)(problem)[0]


def _is_evar(objective: Objective) -> bool:
    return objective.functional is functionals.entropic_value_at_risk


def _solve_evar(problem: _Problem) -> SolvedMDP:
    """Solves for the exponential utility that is best for EVaR from the start state.

    Raises:
        InputError: without a start state, or without a horizon.
    """
    objective, state = problem.objective, problem.start_state
    if state is None:
        raise InputError("start_state is None, but the risk level of evar depends on it; give a start state")
    if problem.steps is None:
        raise InputError("horizon is None, but evar needs finite episodes; give a horizon")
    tau = float(objective.parameters["tau"])
    best = entropic.best_risk(problem.mdp, tau, state, problem.discount, problem.steps)
    solved = _solve(problem._replace(dial=(objectives.entropic(-1 / best.scale),)))[0]
    values: Any = np.where(np.arange(problem.mdp.num_states) == state, best.value, np.nan)
    errors: Any = np.full_like(values, best.error)
    solution = solved.solution
    return solved._replace(
        start=solved.start._replace(values=values, alone=values, errors=errors),
        solution=solution._replace(values=solution.values + best.scale * math.log(tau)),
        exact=False,
        objective=objective,
        problem=problem,
    )


def _solve_endless(problem: _Problem) -> list[SolvedMDP]:
    """Solves for more and more steps, until two bounds of the optimum agree: see `shortest_paths`.

    Raises:
        InputError: when no proper policy exists, returns are not bounded, or the bounds do not agree.
    """
    mdp, objective = problem.mdp, problem.objective
    if objective.utility is None:
        raise InputError(
            f"discount 1 without a horizon needs an expected utility, but {objective.name} is not one; "
            "give a horizon"
        )
    steepest, steps, before = objective.properties.lipschitz, _FIRST_STEPS, math.inf
    loss, gain = (steepest * part for part in shortest_paths.remainders(mdp, _rises(objective, mdp)))
    while True:
        low, high = _ranges(mdp, 1.0, steps)
        below, above = (
            problem._replace(steps=steps, low=low, high=high, final=final) for final in (-loss, gain)
        )
        values = [
            _find_values(bound, _fixed_grid(bound), _possible_returns(bound)) for bound in (below, above)
        ]
        optima = [
            np.stack([start.values for start in _choose(bound, found)])[:, problem.reached]
            for bound, found in zip((below, above), values, strict=True)
        ]
        gap = float((optima[1] - optima[0]).max())
        if gap <= _ENDLESS_PRECISION * max(float(loss.max()), float(np.abs(optima[0]).max())):
            break
        if 2 * steps > _MAX_STEPS or (gap > before / 2 and steps > 2 * _FIRST_STEPS):
            raise InputError(
                f"discount is 1 without a horizon, but after {steps} steps the optimum is known only within "
                f"{gap:.3g}, because nearly best policies may never end their episodes; give a horizon"
            )
        steps, before = 2 * steps, gap
    return [
        solved._replace(start=solved.start._replace(errors=solved.start.errors + max(gap, 0)), exact=False)
        for solved in _solve(below, values[0])
    ]


def _rises(objective: Objective, mdp: MDP) -> bool:
    """Whether a utility of scalars never falls as its argument rises, at points of many magnitudes."""
    if objective.utility is None or mdp.reward_dim > 1:
        return False
    positions = np.abs(mdp.rewards).max() * np.geomspace(1e-3, 1e6, 2000)
    points = jnp.concatenate([-positions[::-1], jnp.zeros(1), positions])
    values = np.asarray(objective.utility(objective.parameters, points[:, None]))
    return bool((np.diff(values) >= -1e-12 * np.abs(values[1:])).all())


def _serves(problem: _Problem, known: _Values, fixed: StockGrid | None) -> bool:
    """Whether known values have the accuracy that solving again for the objectives of the dial would give."""
    grid = known.solution.stocks
    if fixed is not None:
        return all(map(np.array_equal, fixed.points, grid.points))
    if isinstance(problem.objective.start, SearchedStart):
        return known.exact or (problem.steps is None and problem.mdp.reward_dim == 1)  # narrowed again
    if not known.exact:
        return False
    columns = zip(problem.first.T, grid.points, strict=True)
    if not all(np.isin(column, points).all() for column, points in columns):
        return False
    # Episodes from a stock of the grid may leave it, which the errors say.
    errors = np.asarray(known.solution.errors)[:, stock_grids.nearest(grid, problem.first)]
    return _is_rounding(problem, errors)


def _find_values(problem: _Problem, fixed: StockGrid | None, returns: np.ndarray | None) -> _Values:
    """The values on the given grid, else on one that holds all reachable stocks or is uniform."""
    grids, is_exact = _for_values(problem, fixed, returns)
    return _Values(
        solution=_on_host(problem.iterate(grids, None)),
        exact=is_exact,
        aligned=is_exact and returns is not None,
    )


def _choose(problem: _Problem, values: _Values) -> list[Start]:
    """The start of every objective of the dial."""
    begun = [
        _on_host(starts.choose(values.solution, objective, aligned=values.aligned))
        for objective in problem.dial
    ]
    if not (problem.minimized and values.aligned):
        return begun
    return [
        _minimize_dual(problem, objective, values.solution, start)
        for objective, start in zip(problem.dial, begun, strict=True)
    ]


def _minimize_dual(problem: _Problem, objective: Objective, value_solution: Solution, start: Start) -> Start:
    """The start at the minimum of a dual, which may lie between two stocks of an aligned grid.

    The dual is convex and piecewise linear, because it is a maximum of such functions. So around its minimum
    two lines bound it from below: those through the two nearest points on either side. The next stock to
    solve for is where the lines meet. If the dual equals the lines there, it has its minimum there.
    """
    search = objective.start
    assert isinstance(search, SearchedStart)

    def duals(solution: Solution) -> np.ndarray:
        points = np.broadcast_to(solution.stocks.stocks, (*solution.values.shape, 1))
        return np.asarray(jax.jit(search.dual)(objective.parameters, points, solution.values))

    num_states = problem.mdp.num_states
    points = np.tile(np.asarray(value_solution.stocks.points[0]), (num_states, 1))
    values = duals(value_solution)
    pivots, least, bounds = np.zeros(num_states), values.min(1), np.zeros(num_states)
    for _ in range(_MAX_ROUNDS):
        meetings = np.array([_meetings(*curve) for curve in zip(points, values, strict=True)])
        pivots, bounds = points[np.arange(num_states), values.argmin(1)], meetings[:, :, 1].min(1)
        least = values.min(1)
        if _is_rounding(problem, least - bounds):
            break
        grids = _reachable_grids(problem, meetings[:, :, 0].ravel())
        if grids is None:
            break
        more = problem.iterate(grids, None)
        at = np.searchsorted(np.asarray(more.stocks.points[0]) + 1e-12, meetings[:, :, 0])
        at = np.minimum(at, more.stocks.size - 1)
        points = np.concatenate([points, np.asarray(more.stocks.points[0])[at]], axis=1)
        values = np.concatenate([values, np.take_along_axis(duals(more), at, 1)], axis=1)
        order = np.argsort(points, axis=1)
        points, values = np.take_along_axis(points, order, 1), np.take_along_axis(values, order, 1)
    gaps = np.maximum(least - bounds, 0)
    return _on_host(start)._replace(values=least, errors=gaps, pivots=pivots[:, None])


def _meetings(points: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Where lines that bound a convex curve from below meet, on either side of its minimum, [2, 2]."""
    points, index = np.unique(points, return_index=True)
    values, place = values[index], int(np.argmin(values[index]))
    meets = []
    for left in (place - 1, place):
        # The lines through points left - 1 and left, and left + 1 and left + 2; horizontal beyond the ends.
        ends = []
        for near, far in ((left, left - 1), (left + 1, left + 2)):
            inside = 0 <= near < len(points) and 0 <= far < len(points)
            slope = (values[near] - values[far]) / (points[near] - points[far]) if inside else 0.0
            near = min(max(near, 0), len(points) - 1)
            ends.append((points[near], values[near], slope))
        (x, y, rise), (u, v, fall) = ends
        apart = rise - fall
        at = x if apart == 0 else np.clip((v - y + rise * x - fall * u) / apart, x, u)
        meets.append((at, max(y + rise * (at - x), v + fall * (at - u)) if apart else min(y, v)))
    return np.array(meets)


def _is_rounding(problem: _Problem, errors: Any) -> bool:
    """Whether errors are as small as rounding."""
    greatest = max(np.abs(problem.low).max(), np.abs(problem.high).max())
    return bool(np.asarray(errors).max() <= _VALUE_PRECISION * greatest)


def _assemble(
    problem: _Problem,
    begun: Sequence[Start],
    values: _Values,
    solution: Solution,
    representation: DistributionRepresentation | None,
) -> list[SolvedMDP]:
    """The result for each start; without a representation its distributions are simulated.

    Raises:
        InputError: when the value of a state is not a number.
    """
    atoms = None if representation is None else _on_host(representation.atoms(solution.distributions))
    solution, values = _on_host((solution, values))
    results = []
    for objective, start in zip(problem.dial, _on_host(begun), strict=True):
        undefined = np.flatnonzero(np.isnan(start.values))
        if len(undefined):
            raise InputError(
                f"objective {objective.name} is not a number in state {undefined[0]}: make it finite at all "
                f"sums of rewards from {problem.low.min():.4g} to {problem.high.max():.4g}"
            )
        # Simulated episodes lose no mass.
        drawn = [
            _mass_at(solution, first) * (atoms is not None) for first in (start.stocks, start.other_stocks)
        ]
        results.append(
            SolvedMDP(
                start=start._replace(values=np.where(problem.reached, start.values, np.nan)),
                solution=solution,
                atoms=atoms,
                off_grid_mass=_mass_at(values.solution, start.pivots),
                distribution_off_grid_mass=np.maximum(*drawn),
                sweeps=int(values.solution.sweeps),
                exact=values.exact and _is_rounding(problem, start.errors),
                objective=objective,
                values=values,
                problem=problem,
            )
        )
    return results


def _mass_at(solution: Solution, first: np.ndarray) -> np.ndarray:
    """The off-grid mass [S] at the grid points nearest to first stocks [S, m]."""
    nearest = stock_grids.nearest(solution.stocks, first)
    return np.asarray(solution.off_grid_mass)[np.arange(len(nearest)), nearest]


_locate = jax.jit(stock_grids.locate)


# Grids.


def _fixed_grid(problem: _Problem) -> StockGrid | None:
    """The uniform grid that the arguments of `solve` describe; None if they give no size."""
    _, _, size, low, high = problem.choices
    if size is None:
        return None
    box = _stock_range(problem)
    dim = problem.mdp.reward_dim
    ends = [
        np.atleast_1d(np.asarray(default if given is None else given, float))
        for given, default in zip((low, high), box, strict=True)
    ]
    if any(len(end) != dim for end in ends):
        raise InputError(f"stock_low and stock_high are {low} and {high}; give {dim} number(s) each")
    if (ends[0] > ends[1]).any() or (size > 1 and (ends[0] == ends[1]).any()):
        raise InputError(f"stock_low is {ends[0]}, but stock_high is {ends[1]}; give a higher stock_high")
    return stock_grids.uniform(ends[0].tolist(), ends[1].tolist(), [size] * dim)


def _stock_range(problem: _Problem) -> tuple[np.ndarray, np.ndarray]:
    """The least and greatest stocks [m] that matter.

    For m = 1 and f of degree 0 or 1, they are the stocks where c + G may have either sign. Else all reachable
    stocks matter. In an infinite horizon stocks grow without bound, and the range covers the
    nearer ones.
    """
    first = problem.first.min(0), problem.first.max(0)
    low, high = -problem.high.max(0), -problem.low.min(0)
    known = problem.objective.utility is not None and problem.objective.properties.degree in (0, 1)
    if problem.mdp.reward_dim > 1 or not known:
        furthest = 2.0 if problem.steps is None else problem.discount ** -float(problem.steps)
        furthest = 1.0 if problem.unrolled else furthest
        low, high = (furthest * np.asarray(ends) for ends in (first[0] - high, first[1] - low))
    return np.minimum(low, first[0]), np.maximum(high, first[1])


def _for_values(problem: _Problem, fixed: StockGrid | None, returns: np.ndarray | None) -> tuple[Grids, bool]:
    """The grids for values alone, and whether they are exact."""
    if fixed is not None:
        return fixed, False
    first: np.ndarray | None = problem.first
    if isinstance(problem.objective.start, SearchedStart):
        first = None if returns is None else -returns
    reachable = None if first is None else _reachable_grids(problem, first)
    if (grids := reachable or _integer_grid(problem, _MAX_SWEEP_SIZE // problem.successors)) is not None:
        return grids, True
    dim = problem.mdp.reward_dim
    max_stocks = _WIDE_STOCKS if problem.steps is None and dim == 1 else _MAX_STOCKS
    size = min(max_stocks, (_sweep_limit(problem) / problem.successors) ** (1 / dim))
    return _uniform_grid(problem, size), False


def _sweep_limit(problem: _Problem, precision: float = _VALUE_PRECISION) -> int:
    """The largest number of entries of a sweep."""
    if problem.steps is not None:
        return _MAX_SWEEP_SIZE
    return min(_MAX_SWEEP_SIZE, _MAX_TOTAL_SIZE // _num_sweeps(problem, precision))


def _num_sweeps(problem: _Problem, precision: float) -> int:
    """The number of sweeps of an infinite horizon after which discounting leaves `precision` of the start."""
    return math.ceil(math.log(precision) / math.log(problem.discount))


def _narrow_returns(problem: _Problem, found: Solution, first: np.ndarray) -> _Problem:
    """The problem with the approximate range of returns of optimal episodes.

    Args:
        problem: the problem.
        found: its solution on a wide grid.
        first: [S, n], the first stocks.

    Returns:
        The problem; its range is that of the returns to come at all times of optimal episodes from the first
        stocks.
    """
    mdp, points = problem.mdp, np.asarray(found.stocks.points[0])
    rows, policy = np.arange(mdp.num_states)[:, None], np.asarray(found.policy)
    between = (points[1:] + points[:-1]) / 2
    rewards, next_states = mdp.rewards[rows, policy, :, 0], mdp.next_states[rows, policy]
    nearest = np.searchsorted(between, (points[:, None] + rewards) / problem.discount)
    possible = (mdp.probabilities[rows, policy] > 0) & ~mdp.terminal[:, None, None]
    visited = np.zeros(policy.shape, bool)
    states, at = np.repeat(rows, first.shape[1]), np.searchsorted(between, first).ravel()
    while len(states):
        visited[states, at] = True
        arriving = np.zeros_like(visited)
        chances = possible[states, at]
        arriving[next_states[states, at][chances], nearest[states, at][chances]] = True
        states, at = np.nonzero(arriving & ~visited)
    # Only visited states and stocks matter, and only visited ones follow them.
    places = np.nonzero(visited)
    index = np.cumsum(visited).reshape(visited.shape) - 1
    rewards, possible = rewards[places], possible[places]
    after, ends = index[next_states[places], nearest[places]], ~possible.any(1)
    low, high = np.zeros((2, len(rewards)))
    cell = np.diff(points).max()
    for _ in range(_num_sweeps(problem, _DISTRIBUTION_PRECISION)):
        before = low, high
        least, most = (rewards + problem.discount * bound[after] for bound in before)
        low = np.where(ends, 0, np.where(possible, least, np.inf).min(1))
        high = np.where(ends, 0, np.where(possible, most, -np.inf).max(1))
        if max(np.abs(low - before[0]).max(), np.abs(high - before[1]).max()) < 1e-6 * cell:
            break
    # One more cell on either side: no stock this far away was best on the wide grid.
    least, greatest = np.zeros((2, mdp.num_states))
    np.minimum.at(least, places[0], low)
    np.maximum.at(greatest, places[0], high)
    return problem._replace(low=least[:, None] - cell, high=greatest[:, None] + cell)


def _union(wide: StockGrid, fine: StockGrid) -> StockGrid:
    """The points of a fine grid, and those of a wide grid around it."""
    (points,), (inside,) = wide.points, fine.points
    around = points[(points < inside[0]) | (points > inside[-1])]
    return stock_grids.from_points(np.sort(np.append(around, inside)))


def _for_distributions(
    problem: _Problem, fixed: StockGrid | None, first: np.ndarray, returns: np.ndarray | None
) -> tuple[Grids, DistributionRepresentation, bool]:
    """Grids that contain the first stocks, a distribution representation, and whether both are exact."""
    dim, pairs = problem.mdp.reward_dim, problem.mdp.num_states * problem.mdp.num_actions
    name, size, *_ = problem.choices
    if name in (None, "exact") and size is None and fixed is None:
        atoms = 1 if returns is None else len(returns)
        # Distributions at all stages if K is read from them, else those of the starts and first stocks.
        followed = len(first) * problem.mdp.num_states**2 * atoms
        if name == "exact" or (returns is not None and (problem.by_atoms or followed <= _MAX_FOLLOWED)):
            reachable = _reachable_grids(problem, first, atoms if problem.by_atoms else 1)
            if reachable is not None:
                return reachable, distribution_representations.exact(), True
    if name == "exact":
        grid = fixed or _integer_grid(problem, _MAX_SWEEP_SIZE // pairs) or _uniform_grid(problem, 101, first)
        return grid, distribution_representations.exact(), False
    sweep_limit = _sweep_limit(problem, _DISTRIBUTION_PRECISION)
    share = (sweep_limit / pairs) ** (0.5 / dim)
    needed = max(3, *(_min_atoms(problem, component) for component in range(dim)))
    atoms = size or int(min(_MAX_ATOMS, max(share, needed)))
    representation: DistributionRepresentation
    integers = _integer_grid(problem, _MAX_SWEEP_SIZE // (pairs * max(1, atoms**dim)))
    if name == "quantile":
        representation = distribution_representations.quantile(atoms)
    elif integers is not None and size is None:
        representation = distribution_representations.categorical(
            *(
                np.arange(low, high + 1)
                for low, high in zip(problem.low.min(0), problem.high.max(0), strict=True)
            )
        )
        return fixed or integers, representation, fixed is None
    else:
        representation = distribution_representations.categorical(
            *(
                _multiples(low, high, atoms)
                for low, high in zip(problem.low.min(0), problem.high.max(0), strict=True)
            )
        )
    stocks = min(_MAX_ATOMS, (sweep_limit / pairs) ** (1 / dim) / atoms)
    return fixed or _uniform_grid(problem, max(11, stocks), first), representation, False


def _min_atoms(problem: _Problem, component: int) -> int:
    """The number of atoms at which neighbouring atoms are no further apart than the greatest reward."""
    span = problem.high[:, component].max() - problem.low[:, component].min()
    reward = np.abs(problem.mdp.rewards[..., component]).max()
    return 3 if reward == 0 else math.ceil(span / reward) + 3


def _multiples(low: float, high: float, size: float) -> np.ndarray:
    """About `size` multiples of one number, with 0 among them, that cover the interval from low to high."""
    step = (high - low) / (size - 1) or 1.0
    return step * np.arange(math.floor(low / step - 1e-9), math.ceil(high / step + 1e-9) + 1)


def _uniform_grid(problem: _Problem, size: float, first: np.ndarray | None = None) -> StockGrid:
    """A uniform grid over the stocks that matter, with 0 and the first stocks among its points."""
    if first is None:
        first = problem.first
    axes = []
    for component, (low, high) in enumerate(zip(*_stock_range(problem), strict=True)):
        points = _multiples(low, high, max(3, int(size)))
        points = np.append(points, first[:, component])
        axes.append(stock_grids.distinct(points, (points[1] - points[0]) * 1e-6))
    return stock_grids.from_points(*axes)


def _integer_grid(problem: _Problem, max_size: int) -> StockGrid | None:
    """All integers in the range that matters, if stocks are always integers and there are not too many."""
    box = np.stack(_stock_range(problem))
    whole = problem.discount == 1 and np.isfinite(box).all() and problem.steps is not None
    parts = problem.mdp.rewards, problem.first
    if not whole or not all(np.array_equal(part, np.round(part)) for part in parts):
        return None
    sizes = box[1] - box[0] + 1
    if np.prod(sizes) > max_size:
        return None
    return stock_grids.uniform(box[0].tolist(), box[1].tolist(), sizes.astype(int).tolist())


def _reachable_grids(problem: _Problem, first: np.ndarray, atoms: int = 1) -> list[StockGrid] | None:
    """The grids of all stocks that can be reached from the first ones, if there are not too many.

    Args:
        problem: the problem.
        first: the first stocks.
        atoms: the number of numbers for each successor of a state and stock.

    Returns:
        The grids of all stages, or None.
    """
    mdp, steps = problem.mdp, problem.steps
    max_stocks = exact.MAX_SIZE // (mdp.probabilities.size * atoms)
    if steps is None or mdp.reward_dim != 1 or mdp.probabilities.size * steps > _MAX_OUTCOMES:
        return None
    try:
        grids = stock_grids.reachable(mdp, first, problem.discount, steps, limit=max_stocks)
    except InputError:
        return None
    return grids if sum(grid.size for grid in grids) <= max_stocks else None


def _possible_returns(problem: _Problem) -> np.ndarray | None:
    """All returns that can occur from any state, if there are not too many."""
    mdp, steps = problem.mdp, problem.steps
    if steps is None or mdp.reward_dim != 1 or mdp.probabilities.size * steps > _MAX_OUTCOMES:
        return None
    returns = [np.zeros(1)] * mdp.num_states
    outcomes = np.argwhere((mdp.probabilities > 0) & ~mdp.terminal[:, None, None])
    for _ in range(steps):
        before, found = returns, [[np.zeros(1)] if ends else [] for ends in mdp.terminal]
        for state, action, outcome in outcomes:
            after = before[mdp.next_states[state, action, outcome]]
            found[state].append(mdp.rewards[state, action, outcome, 0] + problem.discount * after)
        if sum(part.size for parts in found for part in parts) > 50 * _MAX_RETURNS:
            return None
        returns = [stock_grids.distinct(np.concatenate(parts)) for parts in found]
        if max(map(len, returns)) > _MAX_RETURNS:
            return None
    return stock_grids.distinct(np.concatenate(returns))
