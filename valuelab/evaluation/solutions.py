"""What a solved problem leaves behind: result.json, arrays, pictures, a table."""

import functools
import math
import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import jax
import numpy as np

from valuelab import files
from valuelab.distributional import mdps, solvers, stock_grids
from valuelab.distributional.defaults import SolvedMDP
from valuelab.distributional.gridworlds import Gridworld
from valuelab.distributional.objectives import Objective, SearchedStart

LEVELS = np.union1d(np.geomspace(0.01, 0.1, 9), np.linspace(0.1, 1, 19))
"""Of CVaR, on trade-off curves."""
MOST_TARGETS = 41
"""On trade-off curves, and in pictures of exact solutions the first stocks."""
MOST_COLUMNS = 800
"""On maps of policies."""
MEASURES = {
    "cvar": "CVaR",
    "upper_cvar": "upper CVaR",
    "mean_cvar": "mean-CVaR",
    "spectral": "spectral",
    "var": "VaR",
}
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
    """What result.json says of a solution; see docs/guides/distributional.md."""
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
        "distribution_off_grid_mass": np.max(solved.distribution_off_grid_mass),
        "unsound": solution.unsound,
        "exact": solved.exact,
        "sizes": {
            "states": num_states,
            "actions": num_actions,
            "outcomes": outcomes,
            "reward_components": task.mdp.reward_dim,
            "stocks": solution.stocks.size,
            "atoms": None if solved.atoms is None else np.shape(solved.atoms.probabilities)[-1],
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
        path: an .npz; docs/guides/distributional.md describes its arrays.
        solved: what was found.
    """
    solution, atoms = solved.solution, solved.atoms
    if atoms is None:
        of_states = solved.first_distributions(range(len(solution.values)))
        atoms = jax.tree.map(lambda leaf: leaf[:, None], of_states)
    if isinstance(solution.policy, tuple):
        policies: dict[str, Any] = {}
        for step in range(len(solution.policy)):
            grid, policy = solution.stage(step)
            policies |= {f"stocks_{step}": np.asarray(grid.stocks), f"policy_{step}": policy}
    else:
        policies = {"policy": solution.policy}
    with files.replacing(path) as file:
        np.savez_compressed(
            file,
            allow_pickle=False,
            discount=solved.problem.discount,
            start_stocks=solved.start.stocks,
            other_stocks=solved.start.other_stocks,
            chances=solved.start.chances,
            stocks=np.asarray(solution.stocks.stocks),
            values=solution.values,
            atoms=_shortened(np.asarray(atoms.values)),
            probabilities=_shortened(np.asarray(atoms.probabilities)),
            **policies,
        )


def _shortened(array: np.ndarray) -> np.ndarray:
    """An array whose first two axes have length 1 where it is the same along them."""
    array = array[:1] if (array == array[:1]).all() else array
    return array[:, :1] if (array == array[:, :1]).all() else array


# Return distributions from the start.


def first_distribution(solved: SolvedMDP, state: int) -> tuple[np.ndarray, np.ndarray]:
    """The return distribution from a state at its first stock, or at the draw of two.

    Args:
        solved: the solution.
        state: the state in which episodes begin.

    Returns:
        values [k, m] and probabilities [k], none of them 0.
    """
    values, probabilities = (leaf[0] for leaf in solved.first_distributions([state]))
    return values[probabilities > 0], probabilities[probabilities > 0]


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


def _measures(objective: Objective, distributions: Sequence[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """As `measure` for each of D distributions, [D], at once: atoms without probability fill up the short."""
    size = max(len(probabilities) for _, probabilities in distributions)

    def stacked(parts: Sequence[np.ndarray], mode: Any) -> np.ndarray:
        missing = [[(0, size - len(part)), *[(0, 0)] * (part.ndim - 1)] for part in parts]
        return np.stack([np.pad(*each, mode) for each in zip(parts, missing, strict=True)])

    given_values, given_probabilities = zip(*distributions, strict=True)
    values, probabilities = stacked(given_values, "edge"), stacked(given_probabilities, "constant")
    return np.asarray(_measure(objective.start, objective.parameters, values, probabilities))


_locate = jax.jit(stock_grids.locate)


@functools.partial(jax.jit, static_argnames="start")
def _measure(start: SearchedStart, parameters: Any, values: jax.Array, probabilities: jax.Array) -> jax.Array:
    return start.measure(parameters, values, probabilities)


def quantile(values: np.ndarray, probabilities: np.ndarray, level: float) -> float:
    """The least value that is not exceeded with a probability of at least `level`."""
    order = np.argsort(values)
    place = int(np.searchsorted(np.cumsum(probabilities[order]), level - 1e-9))
    return float(values[order][min(place, len(order) - 1)])


def shown_policy(task: Task, solved: SolvedMDP, dial: Sequence[SolvedMDP]) -> solvers.Solution:
    """The solution whose first policy is drawn, on a grid of the first stocks and of others that matter.

    Exact grids contain no other first stock than the given one. There the dial brings further ones.
    """
    start, returns = task.objective.start, solved.possible_returns()
    if solved.values.solution.stocks.size == 1 and start.parameters == ("stock",) and returns is not None:
        stocks = -returns[:: -(-len(returns) // MOST_TARGETS)]
        dial = solved.at_each(
            [{"stock": [stock]} for stock in (*stocks, *solved.start.stocks[0])], bounds=False
        )
    return (dial[0] if dial else solved).values.solution


def make_dial(task: Task, solved: SolvedMDP) -> list[SolvedMDP]:
    """The solutions for other levels, or other targets, in rising order; the given one is among them."""
    objective, state = task.objective, task.start_state
    if objective.start.parameters == ("tau",):
        levels = np.union1d(LEVELS, objective.parameters["tau"])
        levels = levels[levels < 1] if objective.name == "var" else levels
        return solved.at_each([{"tau": level} for level in levels], bounds=False)
    if objective.start.parameters != ("target",) or task.mdp.reward_dim > 1:
        return []
    met, _ = first_distribution(solved, state)
    margin = 0.1 * (met.max() - met.min())
    low, high = solved.values.solution.low[state, 0], solved.values.solution.high[state, 0]
    targets = solved.possible_returns()
    if targets is None:
        targets = np.linspace(max(low, met.min() - margin), min(high, met.max() + margin), MOST_TARGETS)
    targets = targets[:: -(-len(targets) // MOST_TARGETS)]
    return solved.at_each(
        [{"target": target} for target in np.union1d(targets, objective.parameters["target"])], bounds=False
    )


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
    if solved.atoms is None:
        asked += "; simulated episodes"
    elif not solved.exact:  # projection widens distributions: their tails are longer than the true ones
        asked += f"; distributions held by {np.shape(solved.atoms.probabilities)[-1]} atoms"
    with jax.enable_x64(True):
        dial = make_dial(task, solved)
        draw_policy = _draw_arrows if task.problem else _draw_map
        draw_policy(plots, task, solved, shown_policy(task, solved, dial), workdir / "policy.png")
        title = f"Return from state {task.start_state} of {asked}"
        shown = _shown_distributions(plots, task, solved, dial)
        plots.distributions(shown, title=title, path=workdir / "distributions.png")
        if dial:
            curves = _level_curves if name in MEASURES else _target_curves
            title = f"One solution, many answers: {asked}"
            plots.tradeoff(curves(plots, task, dial), title=title, path=workdir / "tradeoff.png")


def _first_policy(solution: solvers.Solution) -> np.ndarray:
    """The actions [S, C] of the first step."""
    policy = solution.policy
    return np.asarray(policy[0] if isinstance(policy, tuple) else policy)


def _draw_map(
    plots: Any, task: Task, solved: SolvedMDP, solution: solvers.Solution, path: pathlib.Path
) -> None:
    """Where stocks are vectors, along their first component and through the first stock in the others."""
    all_stocks, first = np.asarray(solution.stocks.stocks), np.asarray(solved.start.stocks)
    distances = np.abs(all_stocks[:, 1:] - first[task.start_state, 1:]).sum(1)
    row = np.flatnonzero(distances == distances.min())
    row = row[:: -(-len(row) // MOST_COLUMNS)]
    finite = isinstance(solution.policy, tuple)
    plots.policy_map(
        _first_policy(solution)[:, row],
        all_stocks[row, 0],
        terminal=np.asarray(task.mdp.terminal),
        start_stocks=first[:, 0],
        title=describe(task) + ("; the first step" if finite else ""),
        path=path,
    )


def _draw_arrows(
    plots: Any, task: Task, solved: SolvedMDP, solution: solvers.Solution, path: pathlib.Path
) -> None:
    """Arrows at several stocks; a cell that is met at several times is drawn as it is met first."""
    problem = cast(Gridworld, task.problem)
    layout, grid = problem.layout, solution.stocks
    all_stocks, policy = np.asarray(grid.stocks), _first_policy(solution)
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
        note="Where several actions are equally good, the arrow shows the first: it may point into a wall.",
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


def _shown_distributions(plots: Any, task: Task, solved: SolvedMDP, dial: Sequence[SolvedMDP]) -> list[Any]:
    """The return distribution from the start state, component by component; for CVaR also at τ = 1."""
    objective, parameters = task.objective, task.objective.parameters
    shown = [("", solved)]
    if objective.name in ("cvar", "upper_cvar"):
        shown = [(f"τ = {parameters['tau']:g}", solved), ("τ = 1, risk-neutral", dial[-1])]
    shown_distributions = []
    for what, begun in shown:
        values, probabilities = first_distribution(begun, task.start_state)
        copies = objective.name == "spectral"
        for component in range(1 if copies else values.shape[1]):
            of = f"component {component + 1}" if task.mdp.reward_dim > 1 and not copies else ""
            stock = f"first stock c₀ = {in_words(begun.start.stocks[task.start_state])}"
            returns = values[:, component]
            marks, tail = {}, None
            if "target" in parameters:
                marks["target"] = float(np.atleast_1d(parameters["target"])[component])
            if objective.name in MEASURES:  # more accurate than the distributions, where it is the optimum
                optimum = float(solved.start.values[task.start_state])
                found = optimum if begun is solved else measure(objective, values, probabilities)
                by_level = objective.start.parameters == ("tau",)
                at = f" at τ = {parameters['tau']:g}:" if by_level else ""
                marks[MEASURES[objective.name] + at] = found
            marks["mean"] = float(probabilities @ returns)
            if objective.name == "cvar":
                tail = (-math.inf, quantile(returns, probabilities, parameters["tau"]))
            elif objective.name == "upper_cvar":
                tail = (quantile(returns, probabilities, 1 - parameters["tau"]), math.inf)
            elif objective.name == "satisficing":
                tail = (marks["target"], math.inf)
            elif objective.name == "var":
                tail = (found, math.inf)
            label = ", ".join(filter(None, [of, what, stock]))
            shown_distributions.append(plots.ReturnDistribution(label, returns, probabilities, marks, tail))
    return shown_distributions


def _level_curves(plots: Any, task: Task, dial: Sequence[SolvedMDP]) -> list[Any]:
    """CVaR or VaR over levels, and the mean and that at the given level of the policies for all levels."""
    objective, tau = task.objective, task.objective.parameters["tau"]
    levels = np.array([solved.objective.parameters["tau"] for solved in dial])
    distributions = [first_distribution(solved, task.start_state) for solved in dial]
    values = np.array([solved.start.values[task.start_state] for solved in dial])
    means = np.array([probabilities @ points[:, 0] for points, probabilities in distributions])
    measures = _measures(objective, distributions)
    asked = {f"τ = {tau:g}, as asked": int(np.searchsorted(levels, tau))}
    if objective.name == "var":
        measured, at_tau, ends = (
            "return reached with probability 1 - τ",
            f"return reached with probability {1 - tau:g}",
            asked,
        )
    else:
        tail = "worst" if objective.name == "cvar" else "best"
        measured, at_tau = (f"mean of the {tail} {level} of returns" for level in ("τ", f"{tau:g}"))
        ends = asked | {"τ = 1, risk-neutral": len(levels) - 1}
    return [
        plots.Curve(levels, values, "level τ", measured, asked, logarithmic=levels[0] > 0),
        plots.Curve(measures, means, at_tau, "mean return", ends),
    ]


def _target_curves(plots: Any, task: Task, dial: Sequence[SolvedMDP]) -> list[Any]:
    """The value and the returns over targets."""
    objective, state = task.objective, task.start_state
    asked = float(np.squeeze(objective.parameters["target"]))
    targets = np.array([float(np.squeeze(solved.objective.parameters["target"])) for solved in dial])
    distributions = [first_distribution(solved, state) for solved in dial]
    values = np.array([solved.start.values[state] for solved in dial])
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
