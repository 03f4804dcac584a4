"""Gridworlds in which the law of the return matters, in the spirit of the experiments of Pires et al. (2025).

An agent moves among the cells of a map; the letter of the cell where it arrives decides the reward. All are
stationary: where there is a deadline, the time or the progress is part of the state, so that one policy of
state and stock can be optimal, as a deep agent needs. Rewards are integers where γ = 1: then stocks stay on
the integers, and solutions on integer grids are exact.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from valuelab.distributional import mdp as mdps
from valuelab.distributional import objectives
from valuelab.errors import unknown

_MOVES = {"up": (-1, 0), "right": (0, 1), "down": (1, 0), "left": (0, -1), "stay": (0, 0)}

Cell = tuple[int, int]


class State(NamedTuple):
    """Where an episode is; states are numbered in this order.

    Attributes:
        time: steps since the start, 0 where there is no deadline.
        cell: row and column.
        ended: whether the episode is over.
    """

    time: int
    cell: Cell
    ended: bool


class Prize(NamedTuple):
    """What can come of arriving in a cell.

    Attributes:
        probability: of this prize among those of the cell.
        reward: [m].
        ends: whether the episode ends with it.
    """

    probability: float
    reward: tuple[int, ...]
    ends: bool = False

    def __str__(self) -> str:
        reward = ", ".join(f"{part:+d}" if part else "0" for part in self.reward)
        return reward + (f" ({self.probability:.0%})" if self.probability < 1 else "")


class Layout(NamedTuple):
    """How a gridworld is drawn.

    Attributes:
        walls: [rows, columns] bool.
        places: [S, 2], row and column of each state.
        times: [S], steps since the start; 0 everywhere where the time is not part of the state.
        actions: [A] names.
        moves: [A, 2], in rows and columns.
        labels: (row, column) -> what to write into the cell.
    """

    walls: np.ndarray
    places: np.ndarray
    times: np.ndarray
    actions: tuple[str, ...]
    moves: np.ndarray
    labels: Mapping[tuple[int, int], str]


class Problem(NamedTuple):
    """An MDP with what is asked in it.

    Attributes:
        name: a key of `PROBLEMS`.
        summary: one sentence for people.
        mdp: the MDP, in float64.
        discount: γ.
        horizon: number of steps after which every episode has ended; None: infinite.
        start_state: where episodes begin.
        objective: what is asked by default.
        settings: of the objective's first parameter, the values worth comparing, the default among them.
        stock_low: [m], the least stock that matters in episodes of these settings: what lies below is as good
            as it.
        stock_high: [m], the greatest, likewise.
        max_episode_steps: when a simulation is cut; never within the horizon.
        layout: for drawing.
    """

    name: str
    summary: str
    mdp: mdps.MDP
    discount: float
    horizon: int | None
    start_state: int
    objective: objectives.Objective
    settings: tuple
    stock_low: np.ndarray
    stock_high: np.ndarray
    max_episode_steps: int
    layout: Layout


def _gridworld(
    rows: Sequence[str],
    prizes: Mapping[str, Sequence[Prize]],
    *,
    actions: Sequence[str],
    step: tuple[int, ...],
    drift: Cell = (0, 0),
    slip: float = 0.0,
    deadline: int | None = None,
) -> tuple[mdps.MDP, int, Layout]:
    """An MDP from a map, in which "#" is a wall and "S" the start.

    Args:
        rows: the map.
        prizes: letter -> what arriving in such a cell can give, besides the reward of the step.
        actions: names of `_MOVES`; to move into a wall or out of the map is to stay.
        step: [m], the reward of every step.
        drift: rows and columns by which every step moves on, whatever is done.
        slip: probability that the action is replaced by one drawn uniformly from all.
        deadline: number of steps after which episodes end, the time being part of the state.

    Returns:
        The MDP of the states that can be reached, the start state, and the layout.
    """
    letters = np.array([list(row) for row in rows])
    nothing = (Prize(1.0, (0,) * len(step)),)

    def arrive(cell: Cell, action: str) -> Cell:
        row, column = cell[0] + drift[0], cell[1] + drift[1]
        there = (row + _MOVES[action][0], column + _MOVES[action][1])
        inside = 0 <= there[0] < letters.shape[0] and 0 <= there[1] < letters.shape[1]
        return there if inside and letters[there] != "#" else (row, column)

    def outcomes(state: State, action: str) -> dict[tuple[State, tuple[int, ...]], float]:
        chances: dict[tuple[State, tuple[int, ...]], float] = defaultdict(float)
        time = state.time + (deadline is not None)
        for moved in () if state.ended else actions:
            cell = arrive(state.cell, moved)
            chance = slip / len(actions) + (1 - slip) * (moved == action)
            for prize in prizes.get(letters[cell], nothing):
                successor = State(time, cell, prize.ends or time == deadline)
                chances[successor, tuple(np.add(step, prize.reward).tolist())] += chance * prize.probability
        return {outcome: chance for outcome, chance in chances.items() if chance > 0}

    row, column = np.argwhere(letters == "S")[0]
    start = State(0, (int(row), int(column)), False)
    table: dict[State, list[dict[tuple[State, tuple[int, ...]], float]]] = {}
    unseen = {start}
    while unseen:
        table |= {state: [outcomes(state, action) for action in actions] for state in unseen}
        unseen = {after for state in unseen for row in table[state] for after, _ in row} - table.keys()
    states = sorted(table)
    number = {state: index for index, state in enumerate(states)}
    mdp = mdps.from_outcomes(
        [
            [
                [(chance, number[after], reward) for (after, reward), chance in row.items()]
                for row in table[state]
            ]
            for state in states
        ],
        np.array([state.ended for state in states]),
    )
    texts = {"S": "start"} | {
        letter: "\n".join(str(prize) for prize in row if any(prize.reward)) or "exit"
        for letter, row in prizes.items()
    }
    layout = Layout(
        walls=letters == "#",
        places=np.array([state.cell for state in states]),
        times=np.array([state.time for state in states]),
        actions=tuple(actions),
        moves=np.array([_MOVES[action] for action in actions]) + drift,
        labels={place: text for place, letter in np.ndenumerate(letters) if (text := texts.get(letter))},
    )
    return mdp, number[start], layout


def _chance(probability: float, reward: tuple[int, ...], ends: bool = False) -> list[Prize]:
    """A reward that comes by chance, or nothing."""
    return [Prize(probability, reward, ends), Prize(1 - probability, (0,) * len(reward))]


def _stock_range(mdp: mdps.MDP, start: int, first: np.ndarray, horizon: int) -> tuple[np.ndarray, np.ndarray]:
    """[m] and [m], between which stocks stay for γ = 1: the first ones [n, m] and all sums of rewards."""
    low, high = zip(*(mdps.return_bounds(mdp, 1.0, steps) for steps in range(horizon + 1)), strict=True)
    return (
        first.min(0) + np.min([bound[start] for bound in low], axis=0),
        first.max(0) + np.max([bound[start] for bound in high], axis=0),
    )


def risk_averse() -> Problem:
    """Three hazards on the short way, from rare and grave to frequent and mild, each with its own detour."""
    mdp, start, layout = _gridworld(
        [
            "###...###",
            "S.a.b.c.G",
            "#...#...#",
        ],
        {
            "a": _chance(0.01, (-10,)),
            "b": _chance(0.05, (-6,)),
            "c": _chance(0.25, (-4,)),
            "G": [Prize(1.0, (0,), ends=True)],
        },
        actions=("up", "right", "down", "left"),
        step=(-1,),
    )
    settings = (0.05, 0.1, 0.25, 0.5, 0.75, 1.0)
    return Problem(
        name="risk_averse",
        summary="each detour round a hazard costs two steps: which are worth it depends on the level of CVaR "
        "and, once a hazard has struck, none is",
        mdp=mdp,
        discount=0.95,
        horizon=None,
        start_state=start,
        objective=objectives.lower_cvar(settings[0]),
        settings=settings,
        # From 0 downwards the stock can no longer be made good, and at 14 all detours together leave some.
        stock_low=np.array([-4.0]),
        stock_high=np.array([14.0]),
        max_episode_steps=100,
        layout=layout,
    )


def risk_seeking() -> Problem:
    """A sure exit, a fair chance nearby, a long shot far off; every step, and every stake, costs 1."""
    mdp, start, layout = _gridworld(
        [
            "b...",
            "##.#",
            "aS.G",
        ],
        {
            "a": _chance(0.25, (7,), ends=True),
            "b": _chance(0.08, (16,), ends=True),
            "G": [Prize(1.0, (6,), ends=True)],
        },
        actions=("up", "right", "down", "left"),
        step=(-1,),
    )
    settings = (0.1, 0.2, 0.5, 0.6, 1.0)
    return Problem(
        name="risk_seeking",
        summary="who looks at the best returns alone plays on until a prize is won, and after losses goes to "
        "the long shot",
        mdp=mdp,
        discount=0.95,
        horizon=None,
        start_state=start,
        objective=objectives.upper_cvar(settings[0]),
        settings=settings,
        # From -16 no prize leads above 0, and from 20 = 1 / (1 - γ) no losses lead below.
        stock_low=np.array([-16.0]),
        stock_high=np.array([20.0]),
        max_episode_steps=100,
        layout=layout,
    )


def target() -> Problem:
    """A river that carries on one column a step, past rewards of both signs; which to take makes the sum."""
    mdp, start, layout = _gridworld(
        [
            "..2..5..3",
            ".1..c.4.a",
            "S..3..b.2",
            ".a..2.1..",
            "..d..7..b",
        ],
        {letter: [Prize(1.0, (int(letter),))] for letter in "123457"}
        | {letter: [Prize(1.0, (-1 - "abcd".index(letter),))] for letter in "abcd"},
        actions=("up", "stay", "down"),
        step=(0,),
        drift=(0, 1),
        slip=0.1,
        deadline=8,
    )
    settings = (8, -4, 0, 4, 12)
    low, high = _stock_range(mdp, start, -np.array(settings, float)[:, None], horizon=8)
    return Problem(
        name="target",
        summary="one policy of state and stock brings home whichever return is asked for, as near as slips "
        "allow",
        mdp=mdp,
        discount=1.0,
        horizon=8,
        start_state=start,
        objective=objectives.target_return(settings[0]),
        settings=settings,
        stock_low=low,
        stock_high=high,
        max_episode_steps=8,
        layout=layout,
    )


def homeostasis() -> Problem:
    """Food in one corner, water, that is not always there, in the other; every step costs one of both."""
    mdp, start, layout = _gridworld(
        [
            "F..W",
            "..S.",
            "#..#",
        ],
        {"F": [Prize(1.0, (2, 0))], "W": _chance(0.75, (0, 2))},
        actions=("up", "right", "down", "left", "stay"),
        step=(-1, -1),
        deadline=8,
    )
    settings = ((-4, -4), (-8, 4), (4, -8), (-6, 0))
    low, high = _stock_range(mdp, start, -np.array(settings, float), horizon=8)
    return Problem(
        name="homeostasis",
        summary="two needs at once: the reserves at the start decide how long to stay where, and when to "
        "cross",
        mdp=mdp,
        discount=1.0,
        horizon=8,
        start_state=start,
        objective=objectives.homeostatic(settings[0]),
        settings=settings,
        stock_low=low,
        stock_high=high,
        max_episode_steps=8,
        layout=layout,
    )


def satisficing() -> Problem:
    """A descent among small sure gains, even chances and long shots, towards a sum that is enough."""
    mdp, start, layout = _gridworld(
        [
            ".lhl.lhl",
            ".hlslhsl",
            "Ssshshss",
            ".shhsshh",
            ".slshlss",
        ],
        {"s": [Prize(1.0, (1,))], "h": _chance(0.5, (3,)), "l": _chance(0.15, (8,))},
        actions=("up", "stay", "down"),
        step=(0,),
        drift=(0, 1),
        deadline=7,
    )
    settings = (12, 8, 10, 16, 20)
    return Problem(
        name="satisficing",
        summary="whoever is ahead of the plan plays safe, whoever is behind must gamble",
        mdp=mdp,
        discount=1.0,
        horizon=7,
        start_state=start,
        objective=objectives.satisficing(settings[0]),
        settings=settings,
        # Gains are never negative: from 0 upwards it is enough already.
        stock_low=np.array([-20.0]),
        stock_high=np.array([0.0]),
        max_episode_steps=7,
        layout=layout,
    )


PROBLEMS: dict[str, Callable[[], Problem]] = {
    problem.__name__: problem for problem in (risk_averse, risk_seeking, target, homeostasis, satisficing)
}


def make(name: str) -> Problem:
    """A problem by name.

    Raises:
        InputError: for an unknown name.
    """
    if name not in PROBLEMS:
        raise unknown("problem", name, PROBLEMS)
    return PROBLEMS[name]()
