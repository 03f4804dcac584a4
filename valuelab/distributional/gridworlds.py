"""Gridworlds in which the return distribution matters, similar to the experiments of Pires et al. (2025).

An agent moves among the cells of a map, and the letter of the cell where it arrives decides the reward. All
gridworlds are stationary: where there is a deadline, the time is part of the state. So one policy of state
and stock can be optimal, as a deep agent needs. Rewards are integers where γ = 1: then stocks stay on the
integers, and solutions on integer grids are exact.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from valuelab.distributional import mdps, objectives
from valuelab.errors import unknown

_MOVES = {"up": (-1, 0), "right": (0, 1), "down": (1, 0), "left": (0, -1), "stay": (0, 0)}

Cell = tuple[int, int]


class State(NamedTuple):
    """A state of an episode; states are numbered in the order of these fields.

    Attributes:
        time: steps since the start, 0 where there is no deadline.
        cell: row and column.
        ended: whether the episode is over.
    """

    time: int
    cell: Cell
    ended: bool


class CellOutcome(NamedTuple):
    """A possible outcome of arriving in a cell.

    Attributes:
        probability: of this outcome among those of the cell.
        reward: [m].
        ends: whether it ends the episode.
    """

    probability: float
    reward: tuple[int, ...]
    ends: bool = False

    def __str__(self) -> str:
        reward = ", ".join(f"{part:+d}" if part else "0" for part in self.reward)
        return reward + (f" ({self.probability:.0%})" if self.probability < 1 else "")


class Layout(NamedTuple):
    """What is needed to draw a gridworld.

    Attributes:
        walls: [rows, columns] bool.
        places: [S, 2], row and column of each state.
        times: [S], steps since the start; all 0 where the time is not part of the state.
        actions: [A] names.
        moves: [A, 2], in rows and columns.
        labels: (row, column) -> the text to write into the cell.
    """

    walls: np.ndarray
    places: np.ndarray
    times: np.ndarray
    actions: tuple[str, ...]
    moves: np.ndarray
    labels: Mapping[tuple[int, int], str]


class Gridworld(NamedTuple):
    """A gridworld: an MDP and an objective.

    Attributes:
        name: a key of `GRIDWORLDS`.
        summary: one sentence for people.
        mdp: the MDP, in float64.
        discount: γ.
        horizon: number of steps after which every episode has ended; None: infinite.
        start_state: the state in which episodes begin.
        objective: the default objective.
        settings: values of the objective's first parameter that are interesting to compare, including the
            default.
        stock_low: [m], the least stock that matters in episodes with these settings. The best actions at
            lower stocks are the same as at this one.
        stock_high: [m], the greatest stock that matters.
        max_episode_steps: simulated episodes are cut after this number of steps, never within the horizon.
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


def from_map(
    rows: Sequence[str],
    cell_outcomes: Mapping[str, Sequence[CellOutcome]],
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
        cell_outcomes: letter -> the possible outcomes of arriving in such a cell; their rewards are added to
            the reward of the step.
        actions: names of `_MOVES`; a move into a wall or out of the map leaves the agent where it is.
        step: [m], the reward of every step.
        drift: rows and columns by which every step moves the agent in addition to its action.
        slip: probability that the action is replaced by one drawn uniformly from all.
        deadline: number of steps after which episodes end; the time is then part of the state.

    Returns:
        The MDP of the reachable states, the start state, and the layout.
    """
    letters = np.array([list(row) for row in rows])
    no_reward = (CellOutcome(probability=1.0, reward=(0,) * len(step)),)

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
            for outcome in cell_outcomes.get(letters[cell], no_reward):
                successor = State(time=time, cell=cell, ended=outcome.ends or time == deadline)
                reward = tuple(np.add(step, outcome.reward).tolist())
                chances[successor, reward] += chance * outcome.probability
        return {outcome: chance for outcome, chance in chances.items() if chance > 0}

    row, column = np.argwhere(letters == "S")[0]
    start = State(time=0, cell=(int(row), int(column)), ended=False)
    table: dict[State, list[dict[tuple[State, tuple[int, ...]], float]]] = {}
    new = {start}
    while new:
        table |= {state: [outcomes(state, action) for action in actions] for state in new}
        new = {after for state in new for row in table[state] for after, _ in row} - table.keys()
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
        letter: "\n".join(str(outcome) for outcome in row if any(outcome.reward)) or "exit"
        for letter, row in cell_outcomes.items()
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


def _always(reward: tuple[int, ...], ends: bool = False) -> list[CellOutcome]:
    """A reward that every arrival gives."""
    return [CellOutcome(probability=1.0, reward=reward, ends=ends)]


def _sometimes(probability: float, reward: tuple[int, ...], ends: bool = False) -> list[CellOutcome]:
    """A reward that an arrival gives with some probability."""
    return [
        CellOutcome(probability=probability, reward=reward, ends=ends),
        CellOutcome(probability=1 - probability, reward=(0,) * len(reward)),
    ]


def _stock_range(mdp: mdps.MDP, start: int, first: np.ndarray, horizon: int) -> tuple[np.ndarray, np.ndarray]:
    """The least and greatest stocks [m] that episodes with first stocks [n, m] can reach, for γ = 1."""
    low, high = zip(*(mdps.return_bounds(mdp, 1.0, steps) for steps in range(horizon + 1)), strict=True)
    return (
        first.min(0) + np.min([bound[start] for bound in low], axis=0),
        first.max(0) + np.max([bound[start] for bound in high], axis=0),
    )


def risk_averse() -> Gridworld:
    """Three hazards on the short way, from rare and severe to frequent and mild; a detour avoids each."""
    mdp, start, layout = from_map(
        [
            "###...###",
            "S.a.b.c.G",
            "#...#...#",
        ],
        {
            "a": _sometimes(0.01, (-10,)),
            "b": _sometimes(0.05, (-6,)),
            "c": _sometimes(0.25, (-4,)),
            "G": _always((0,), ends=True),
        },
        actions=("up", "right", "down", "left"),
        step=(-1,),
    )
    settings = (0.05, 0.1, 0.25, 0.5, 0.75, 1.0)
    return Gridworld(
        name="risk_averse",
        summary="a detour around each hazard costs two steps: the level of CVaR decides which detours are "
        "worth it, and after a hazard has struck, none is",
        mdp=mdp,
        discount=0.95,
        horizon=None,
        start_state=start,
        objective=objectives.lower_cvar(settings[0]),
        settings=settings,
        # From a stock of 0 or less every total is negative. From 14 the total is positive with all detours.
        stock_low=np.array([-4.0]),
        stock_high=np.array([14.0]),
        max_episode_steps=100,
        layout=layout,
    )


def risk_seeking() -> Gridworld:
    """A certain exit, a gamble nearby, and a more extreme gamble far away; every step costs 1."""
    mdp, start, layout = from_map(
        [
            "b...",
            "##.#",
            "aS.G",
        ],
        {
            "a": _sometimes(0.25, (7,), ends=True),
            "b": _sometimes(0.08, (16,), ends=True),
            "G": _always((6,), ends=True),
        },
        actions=("up", "right", "down", "left"),
        step=(-1,),
    )
    settings = (0.1, 0.2, 0.5, 0.6, 1.0)
    return Gridworld(
        name="risk_seeking",
        summary="an agent that counts only the best returns gambles until it wins, and after losses it goes "
        "to the more extreme gamble",
        mdp=mdp,
        discount=0.95,
        horizon=None,
        start_state=start,
        objective=objectives.upper_cvar(settings[0]),
        settings=settings,
        # From -16 no prize makes the total positive, and from 20 = 1 / (1 - γ) no costs make it negative.
        stock_low=np.array([-16.0]),
        stock_high=np.array([20.0]),
        max_episode_steps=100,
        layout=layout,
    )


def target() -> Gridworld:
    """A river moves the agent one column a step, past rewards of both signs; their sum has a target."""
    mdp, start, layout = from_map(
        [
            "..2..5..3",
            ".1..c.4.a",
            "S..3..b.2",
            ".a..2.1..",
            "..d..7..b",
        ],
        {letter: _always((int(letter),)) for letter in "123457"}
        | {letter: _always((-1 - "abcd".index(letter),)) for letter in "abcd"},
        actions=("up", "stay", "down"),
        step=(0,),
        drift=(0, 1),
        slip=0.1,
        deadline=8,
    )
    settings = (8, -4, 0, 4, 12)
    low, high = _stock_range(mdp, start, -np.array(settings, float)[:, None], horizon=8)
    return Gridworld(
        name="target",
        summary="one policy of state and stock reaches any target return, as closely as slips allow",
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


def homeostasis() -> Gridworld:
    """Food in one corner, and sometimes water in the other; every step costs one unit of both."""
    mdp, start, layout = from_map(
        [
            "F..W",
            "..S.",
            "#..#",
        ],
        {"F": _always((2, 0)), "W": _sometimes(0.75, (0, 2))},
        actions=("up", "right", "down", "left", "stay"),
        step=(-1, -1),
        deadline=8,
    )
    settings = ((-4, -4), (-8, 4), (4, -8), (-6, 0))
    low, high = _stock_range(mdp, start, -np.array(settings, float), horizon=8)
    return Gridworld(
        name="homeostasis",
        summary="two needs at once: the reserves at the start decide how long to stay in each corner, and "
        "when to cross",
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


def satisficing() -> Gridworld:
    """A descent past small certain gains, even gambles and unlikely large gains, towards a target sum."""
    mdp, start, layout = from_map(
        [
            ".lhl.lhl",
            ".hlslhsl",
            "Ssshshss",
            ".shhsshh",
            ".slshlss",
        ],
        {"s": _always((1,)), "h": _sometimes(0.5, (3,)), "l": _sometimes(0.15, (8,))},
        actions=("up", "stay", "down"),
        step=(0,),
        drift=(0, 1),
        deadline=7,
    )
    settings = (12, 8, 10, 16, 20)
    return Gridworld(
        name="satisficing",
        summary="an agent that is ahead plays safe, and one that is behind must gamble",
        mdp=mdp,
        discount=1.0,
        horizon=7,
        start_state=start,
        objective=objectives.satisficing(settings[0]),
        settings=settings,
        # Gains are never negative: a stock of 0 or more has reached the target already.
        stock_low=np.array([-20.0]),
        stock_high=np.array([0.0]),
        max_episode_steps=7,
        layout=layout,
    )


GRIDWORLDS: dict[str, Callable[[], Gridworld]] = {
    make_one.__name__: make_one for make_one in (risk_averse, risk_seeking, target, homeostasis, satisficing)
}


def make(name: str) -> Gridworld:
    """Makes a gridworld by name.

    Raises:
        InputError: for an unknown name.
    """
    if name not in GRIDWORLDS:
        raise unknown("gridworld", name, GRIDWORLDS)
    return GRIDWORLDS[name]()
