"""What a solved problem leaves behind: result.json, arrays, pictures, a table."""

import functools
import math
import pathlib
from typing import Any, NamedTuple, cast

import jax
import numpy as np

from valuelab import files
from valuelab.distributional import (
    distribution_representations,
    mdps,
    objectives,
    solvers,
    starts,
    stock_grids,
)
from valuelab.distributional.defaults import SolvedMDP
from valuelab.distributional.gridworlds import Gridworld
from valuelab.distributional.objectives import Objective, SearchedStart
from valuelab.distributional.starts import Start

LEVELS = np.union1d(np.geomspace(0.01, 0.1, 9), np.linspace(0.1, 1, 19))
"""Of CVaR, on trade-off curves."""
MOST_TARGETS = 41
"""On trade-off curves, and in pictures of exact solutions the first stocks."""
MEASURES = {"cvar": "CVaR", "upper_cvar": "upper CVaR", "mean_cvar": "mean-CVaR", "spectral": "spectral"}
"""Names in pictures, of objectives that measure the return distribution itself."""


class Task(NamedTuple):
    """What is asked.

    Attributes:
        name: of the problem, or of the file.
        mdp: the MDP.
        objective: what is maximised.
        discount: γ.
        horizon: number of steps; None: infinite.
        start_state: the state that pictures tell of.
        problem: the gridworld; None for a file.
    """

    name: str
    mdp: mdps.MDP
    objective: Objective
    discount: float
    horizon: int | None
    start_state: int
    problem: Gridworld | None


def describe(task: Task) -> str:
    """A task in a few words, such as "risk_averse, cvar (tau = 0.1)"."""
    words = [f"{name} = {in_words(value)}" for name, value in task.objective.parameters.items()]
    return f"{task.name}, {task.objective.name}" + (f" ({', '.join(words)})" if words else "")


def in_words(value: Any) -> str:
    """One number or several, shortly."""
    numbers = [f"{part + 0.0:.4g}" for part in np.atleast_1d(value).tolist()]  # never -0
    return numbers[0] if len(numbers) == 1 else f"({', '.join(numbers)})"


# Numbers.


def summarize(task: Task, solved: SolvedMDP) -> dict[str, Any]:
    """What result.json says of a solution; see docs/distributional.md."""
    start, solution = solved.start, solved.solution
    num_states, num_actions, outcomes = np.shape(task.mdp.probabilities)
    result = {
        "objective": task.objective.name,
        "parameters": task.objective.parameters,
        "discount": task.discount,
        "horizon": task.horizon,
        "start_values": start.values + 0.0,  # never -0
        "start_stocks": _scalars(np.asarray(start.stocks)) + 0.0,
        "sweeps": solved.sweeps,
        "error_bound": np.max(start.errors),
        "off_grid_mass": np.max(solved.off_grid_mass),
        "unsound": solution.unsound,
        "exact": solved.exact,
        "sizes": {
            "states": num_states,
            "actions": num_actions,
            "outcomes": outcomes,
            "reward_components": task.mdp.reward_dim,
            "stocks": solution.stocks.size,
            "atoms": np.shape(solved.atoms.probabilities)[-1],
        },
    }
    if isinstance(task.objective.start, SearchedStart) and task.objective.start.minimized:
        # The start values are attained by beginning, with these chances, with the other stocks instead.
        others = {
            "chances": start.chances,
            "other_stocks": _scalars(np.asarray(start.other_stocks)),
            "alone": start.alone,
        }
        result["draw"] = others
    return result


def _scalars(vectors: np.ndarray) -> np.ndarray:
    """[S] where vectors are [S, 1], else as they are."""
    return vectors[:, 0] if vectors.shape[1] == 1 else vectors


def save(path: pathlib.Path, solved: SolvedMDP) -> None:
    """Saves everything about all stocks of the grid.

    Args:
        path: an .npz, which gets stocks [C, m], values [S, C], policy [S, C] (of a finite horizon policy_0,
            policy_1, ... by step), atoms [S, C, n, m] and probabilities [S, C, n] of return distributions; an
            axis along which these are the same has length 1.
        solved: what was found.
    """
    solution = solved.solution
    if isinstance(solution.policy, tuple):
        policies = {f"policy_{step}": policy for step, policy in enumerate(solution.policy)}
    else:
        policies = {"policy": solution.policy}
    with files.replacing(path) as file:
        np.savez_compressed(
            file,
            allow_pickle=False,
            stocks=np.asarray(solution.stocks.stocks),
            values=solution.values,
            atoms=_shortened(np.asarray(solved.atoms.values)),
            probabilities=_shortened(np.asarray(solved.atoms.probabilities)),
            **policies,
        )


def _shortened(array: np.ndarray) -> np.ndarray:
    """An array whose first two axes have length 1 where it is the same along them."""
    array = array[:1] if (array == array[:1]).all() else array
    return array[:, :1] if (array == array[:, :1]).all() else array


# Return distributions from the start.


def first_distribution(solved: SolvedMDP, start: Start, state: int) -> tuple[np.ndarray, np.ndarray]:
    """The return distribution at the first stock, or at the draw of two, that a start names.

    Args:
        solved: what was found.
        start: of one state.
        state: which one.

    Returns:
        values [k, m] and probabilities [k].
    """
    values, probabilities = [], []
    for first, chances in ((start.stocks, 1 - start.chances), (start.other_stocks, start.chances)):
        indices, weights, _ = map(np.asarray, _locate(solved.solution.stocks, first[0]))
        for index, weight in zip(indices, weights * float(chances[0]), strict=True):
            values.append(np.asarray(solved.atoms.values)[state, index])
            probabilities.append(weight * np.asarray(solved.atoms.probabilities)[state, index])
    return np.concatenate(values), np.concatenate(probabilities)


def grid_value(task: Task, solved: SolvedMDP) -> float | None:
    """The value of the start state at its first stock on the grid of the saved solution.

    The start values of result.json are solved on a finer grid. The value is None for objectives that search
    for their first stock, because their start value is not a value at a stock.
    """
    if isinstance(task.objective.start, SearchedStart):
        return None
    first = np.asarray(solved.start.stocks)[task.start_state]
    indices, weights, _ = map(np.asarray, _locate(solved.solution.stocks, first))
    return float(np.asarray(solved.solution.values)[task.start_state, indices] @ weights)


def measure(objective: Objective, values: np.ndarray, probabilities: np.ndarray) -> float:
    """What an objective like CVaR says of a distribution: values [k, m], probabilities [k]."""
    return float(_measure(objective.start, objective.parameters, values, probabilities))


_locate = jax.jit(stock_grids.locate)


@functools.partial(jax.jit, static_argnames="start")
def _measure(start: SearchedStart, parameters: Any, values: jax.Array, probabilities: jax.Array) -> jax.Array:
    return start.measure(parameters, values, probabilities)


def quantile(values: np.ndarray, probabilities: np.ndarray, level: float) -> float:
    """The least value that is not exceeded with a probability of at least `level`."""
    order = np.argsort(values)
    place = int(np.searchsorted(np.cumsum(probabilities[order]), level - 1e-9))
    return float(values[order][min(place, len(order) - 1)])


def with_more_stocks(task: Task, solved: SolvedMDP) -> SolvedMDP:
    """The same, but where only the first stocks were solved, solved exactly for others that matter, too."""
    if solved.solution.stocks.size > task.mdp.num_states or task.mdp.reward_dim > 1:
        return solved
    steps = task.horizon or mdps.episode_bound(task.mdp)
    if steps is None:
        return solved
    follow = functools.partial(stock_grids.reachable, task.mdp, discount=task.discount, horizon=steps)
    sums = [task.discount**step * grid.points[0] for step, grid in enumerate(follow([0.0]))]
    returns = np.unique(np.concatenate(sums).round(9))
    if len(returns) > MOST_TARGETS:
        returns = np.linspace(returns[0], returns[-1], MOST_TARGETS)
    held = distribution_representations.exact()
    solution = solvers.value_iteration(
        task.mdp,
        task.objective,
        discount=task.discount,
        horizon=task.horizon,
        representation=held,
        stocks=follow(np.append(-returns, solved.start.stocks)),
        allow_unsound=True,
    )
    return solved._replace(solution=solution, atoms=held.atoms(solution.distributions))


def choose_again(task: Task, solved: SolvedMDP, **parameters: float) -> Start:
    """How episodes begin in the start state for other parameters of the objective: the same solution holds.

    Returns:
        The start of this one state.
    """
    here = slice(task.start_state, task.start_state + 1)
    one = solved.solution._replace(values=solved.solution.values[here], errors=solved.solution.errors[here])
    distributions = jax.tree.map(lambda leaf: leaf[here], solved.atoms)
    return starts.choose(one, objectives.make(task.objective.name, **parameters), distributions)


# Pictures.


def draw(task: Task, solved: SolvedMDP, workdir: pathlib.Path) -> None:
    """Draws policy.png, distributions.png and, where one solution answers many questions, tradeoff.png.

    Args:
        task: what was asked.
        solved: what was found.
        workdir: where the pictures go.

    Raises:
        InputError: when matplotlib is missing.
    """
    from valuelab.evaluation import distributional_plots as plots  # takes as long to import as all the rest

    asked, name = describe(task), task.objective.name
    if not solved.exact:  # projection widens distributions: their tails are longer than the true ones
        asked += f"; distributions held by {np.shape(solved.atoms.probabilities)[-1]} atoms"
    with jax.enable_x64(True):
        solved = with_more_stocks(task, solved)
        draw_policy = _draw_arrows if task.problem else _draw_map
        draw_policy(plots, task, solved, workdir / "policy.png")
        title = f"Return from state {task.start_state} of {asked}"
        plots.distributions(
            _shown_distributions(plots, task, solved), title=title, path=workdir / "distributions.png"
        )
        curves = {"cvar": _level_curves, "upper_cvar": _level_curves, "target": _target_curves}
        curves["satisficing"] = _target_curves
        if name in curves:
            title = f"One solution, many answers: {asked}"
            plots.tradeoff(curves[name](plots, task, solved), title=title, path=workdir / "tradeoff.png")


def _first_policy(solved: SolvedMDP) -> np.ndarray:
    """The actions [S, C] of the first step."""
    policy = solved.solution.policy
    return np.asarray(policy[0] if isinstance(policy, tuple) else policy)


def _draw_map(plots: Any, task: Task, solved: SolvedMDP, path: pathlib.Path) -> None:
    """Where stocks are vectors, along their first component and through the first stock in the others."""
    all_stocks, first = np.asarray(solved.solution.stocks.stocks), np.asarray(solved.start.stocks)
    distances = np.abs(all_stocks[:, 1:] - first[task.start_state, 1:]).sum(1)
    row = np.flatnonzero(distances == distances.min())
    finite = isinstance(solved.solution.policy, tuple)
    plots.policy_map(
        _first_policy(solved)[:, row],
        all_stocks[row, 0],
        terminal=np.asarray(task.mdp.terminal),
        start_stocks=first[:, 0],
        title=describe(task) + ("; the first step" if finite else ""),
        path=path,
    )


def _draw_arrows(plots: Any, task: Task, solved: SolvedMDP, path: pathlib.Path) -> None:
    """Arrows at several stocks; a cell that is met at several times is drawn as it is met first."""
    solution, problem = solved.solution, cast(Gridworld, task.problem)
    layout, grid = problem.layout, solution.stocks
    all_stocks, policy = np.asarray(grid.stocks), _first_policy(solved)
    low, high = (np.resize(ends, len(grid.points)) for ends in (problem.stock_low, problem.stock_high))
    wanted = _spread(low, high, np.asarray(solved.start.stocks)[task.start_state])
    nearest = [
        np.abs(points - column[:, None]).argmin(1)
        for points, column in zip(grid.points, wanted.T, strict=True)
    ]
    panels = {}
    for place in np.ravel_multi_index(nearest, grid.shape):
        is_first = np.array_equal(all_stocks[place], np.asarray(solved.start.stocks)[task.start_state])
        panels[f"c = {in_words(all_stocks[place])}" + (", the first stock" if is_first else "")] = place
    _, cells = np.unique(layout.places, axis=0, return_index=True)
    plots.policy_arrows(
        layout.walls,
        layout.places[cells],
        layout.moves,
        {name: policy[cells, place] for name, place in panels.items()},
        values={name: np.asarray(solution.values)[cells, place] for name, place in panels.items()},
        value_label="E f(c + G)" if task.objective.utility else "K(distribution of c + G)",
        cell_labels=layout.labels,
        terminal=np.asarray(task.mdp.terminal)[cells],
        title=describe(task),
        path=path,
    )


def _spread(low: np.ndarray, high: np.ndarray, first: np.ndarray) -> np.ndarray:
    """Six stocks [6, m] evenly apart in a box of one or two dimensions; one makes way for the first stock."""
    counts = {1: (6,), 2: (2, 3)}.get(len(low), (1,) * len(low))
    axes = [
        least + (greatest - least) * (np.arange(count) + 0.5) / count
        for least, greatest, count in zip(low, high, counts, strict=True)
    ]
    wanted = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, len(low))
    wanted[np.abs((wanted - first) / (high - low)).sum(1).argmin()] = first
    return wanted


def _shown_distributions(plots: Any, task: Task, solved: SolvedMDP) -> list[Any]:
    """The return distribution from the start state, component by component; for CVaR also at τ = 1."""
    objective, parameters = task.objective, task.objective.parameters
    start = jax.tree.map(lambda leaf: leaf[task.start_state : task.start_state + 1], solved.start)
    shown = [("", start)]
    if objective.name in ("cvar", "upper_cvar"):
        shown = [(f"τ = {parameters['tau']:g}", start)]
        shown.append(("τ = 1, risk-neutral", choose_again(task, solved, tau=1.0)))
    shown_distributions = []
    for what, begun in shown:
        values, probabilities = first_distribution(solved, begun, task.start_state)
        copies = objective.name == "spectral"
        for component in range(1 if copies else values.shape[1]):
            of = f"component {component + 1}" if task.mdp.reward_dim > 1 and not copies else ""
            stock = f"first stock c₀ = {in_words(begun.stocks[0])}"
            returns = values[:, component]
            marks, tail = {}, None
            if "target" in parameters:
                marks["target"] = float(np.atleast_1d(parameters["target"])[component])
            if objective.name in MEASURES:  # more accurate than the distributions, where it is the optimum
                optimum = float(solved.start.values[task.start_state])
                found = optimum if begun is start else measure(objective, values, probabilities)
                at = f" at τ = {parameters['tau']:g}:" if objective.name in ("cvar", "upper_cvar") else ""
                marks[MEASURES[objective.name] + at] = found
            marks["mean"] = float(probabilities @ returns)
            if objective.name == "cvar":
                tail = (-math.inf, quantile(returns, probabilities, parameters["tau"]))
            elif objective.name == "upper_cvar":
                tail = (quantile(returns, probabilities, 1 - parameters["tau"]), math.inf)
            elif objective.name == "satisficing":
                tail = (marks["target"], math.inf)
            label = ", ".join(filter(None, [of, what, stock]))
            shown_distributions.append(plots.ReturnDistribution(label, returns, probabilities, marks, tail))
    return shown_distributions


def _level_curves(plots: Any, task: Task, solved: SolvedMDP) -> list[Any]:
    """CVaR over levels, and what each level costs in the mean and in the CVaR that was asked for."""
    objective, tau = task.objective, task.objective.parameters["tau"]
    levels = np.unique(np.append(LEVELS, tau))
    begun = [choose_again(task, solved, tau=float(level)) for level in levels]
    distributions = [first_distribution(solved, start, task.start_state) for start in begun]
    values = np.array([float(start.values[0]) for start in begun])
    means = np.array([probabilities @ points[:, 0] for points, probabilities in distributions])
    measures = np.array([measure(objective, *distribution) for distribution in distributions])
    tail = "worst" if objective.name == "cvar" else "best"
    asked = {f"τ = {tau:g}, as asked": int(np.searchsorted(levels, tau))}
    ends = asked | {"τ = 1, risk-neutral": len(levels) - 1}
    return [
        plots.Curve(levels, values, "level τ", f"mean of the {tail} τ of returns", asked, logarithmic=True),
        plots.Curve(measures, means, f"mean of the {tail} {tau:g} of returns", "mean return", ends),
    ]


def _target_curves(plots: Any, task: Task, solved: SolvedMDP) -> list[Any]:
    """What comes of other targets."""
    objective, state = task.objective, task.start_state
    asked = float(objective.parameters["target"])
    met = np.asarray(solved.atoms.values)[state][np.asarray(solved.atoms.probabilities)[state] > 1e-9]
    margin = 0.1 * (met.max() - met.min())
    targets = np.unique(-np.asarray(solved.solution.stocks.points[0]))
    targets = targets[(targets >= met.min() - margin) & (targets <= met.max() + margin)]
    targets = np.unique(np.append(targets[:: -(-len(targets) // MOST_TARGETS) or 1], asked))
    begun = [choose_again(task, solved, target=float(target)) for target in targets]
    distributions = [first_distribution(solved, start, state) for start in begun]
    values = np.array([float(start.values[0]) for start in begun])
    means = np.array([probabilities @ points[:, 0] for points, probabilities in distributions])
    low, high = (
        np.array([quantile(points[:, 0], p, level) for points, p in distributions]) for level in (0.1, 0.9)
    )
    reached = objective.name == "satisficing"
    return [
        plots.Curve(
            targets,
            values if reached else -values,
            "target return",
            "probability of reaching it" if reached else "mean distance from it",
            {f"target {asked:g}, as asked": int(np.searchsorted(targets, asked))},
        ),
        plots.Curve(
            targets,
            means,
            "target return",
            "return",
            band=(low, high),
            band_label="10 to 90 % of returns; line: mean",
            diagonal="return = target",
        ),
    ]
