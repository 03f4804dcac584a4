"""Finite Markov decision processes: how they are built, read, checked and bounded, on the host.

Transitions and rewards are stochastic together: taking action a in state s has K possible outcomes, each a
probability, a next state and a reward vector. The solvers take the same named tuple with traced leaves.
"""

import pathlib
import zipfile
import zlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from valuelab.arrays import open_npz
from valuelab.errors import InputError, unknown

_ROUNDING = 1e-6
"""How far from one the probabilities of a row may sum; float32 files come near it."""

_TIGHT, _MOST_SWEEPS = 1e-9, 100_000
"""How near the fixed point, relative to the greatest bound, return bounds come, and when they give up."""

_UNREADABLE = (OSError, EOFError, RuntimeError, ValueError, zipfile.BadZipFile, zlib.error)
"""What a broken file makes numpy raise."""

_ARRAYS = ("transitions", "rewards", "terminal")


class MDP(NamedTuple):
    """A finite MDP of S states, A actions and K outcomes of each pair, with rewards in R^m.

    Attributes:
        probabilities: [S, A, K] floats, each row sums to one; 0 where a pair has fewer outcomes.
        next_states: [S, A, K] int32.
        rewards: [S, A, K, m] floats; m = 1 is usual.
        terminal: [S] bool: absorbing states, whose outcomes are themselves with reward 0.
    """

    probabilities: Any
    next_states: Any
    rewards: Any
    terminal: Any

    @property
    def num_states(self) -> int:
        """S."""
        return self.probabilities.shape[-3]

    @property
    def num_actions(self) -> int:
        """A."""
        return self.probabilities.shape[-2]

    @property
    def reward_dim(self) -> int:
        """The number m of components of a reward."""
        return self.rewards.shape[-1]


Outcome = tuple[float, int, Any]
"""(probability, next state, reward: a number or [m])."""


def from_outcomes(outcomes: Sequence[Sequence[Sequence[Outcome]]], terminal: np.ndarray | None = None) -> MDP:
    """An MDP from lists of outcomes.

    Args:
        outcomes: outcomes[s][a] lists the outcomes of action a in state s; the lists of terminal states are
            ignored and may be empty.
        terminal: [S] bool; None: the states that no action leaves and that give no reward.

    Returns:
        The MDP, K being the length of the longest list, in float64.

    Raises:
        InputError: as `validate`.
    """
    num_states, num_actions = len(outcomes), len(outcomes[0])
    width = max(len(row) for state in outcomes for row in state)
    dim = max(np.size(reward) for state in outcomes for row in state for _, _, reward in row)
    probabilities = np.zeros((num_states, num_actions, width))
    next_states = np.zeros((num_states, num_actions, width), np.int32)
    rewards = np.zeros((num_states, num_actions, width, dim))
    for state, actions in enumerate(outcomes):
        for action, row in enumerate(actions):
            for place, (probability, successor, reward) in enumerate(row):
                probabilities[state, action, place] = probability
                next_states[state, action, place] = successor
                rewards[state, action, place] = reward
    mdp = _absorb(MDP(probabilities, next_states, rewards, terminal))
    validate(mdp, 1.0)
    return mdp


def from_dense(transitions: np.ndarray, rewards: np.ndarray, terminal: np.ndarray | None = None) -> MDP:
    """An MDP from a matrix of transitions.

    Args:
        transitions: [S, A, S], the probability of each next state; rows of terminal states may be zero.
        rewards: [S, A, S] or [S, A, S, m], the reward of each transition; what terminal states would give
            is ignored.
        terminal: [S] bool; None: the states that no action leaves and that give no reward.

    Returns:
        The MDP, K being the largest number of possible successors, in float64.

    Raises:
        InputError: when shapes disagree, a row does not sum to one, or a number is negative or not finite;
            it names the array, the index and the value.
    """
    transitions, rewards = np.asarray(transitions), np.asarray(rewards)
    _check_numbers("transitions", transitions)
    _check_numbers("rewards", rewards)
    states, actions = transitions.shape[0] if transitions.ndim else 0, transitions.shape[1:2]
    if transitions.ndim != 3 or transitions.shape[2] != states or not transitions.size:
        raise InputError(f"transitions has shape {transitions.shape}; give [S, A, S] with S and A at least 1")
    if rewards.ndim not in (3, 4) or rewards.shape[:3] != transitions.shape or not rewards.size:
        shape = (states, *actions, states)
        raise InputError(
            f"rewards has shape {rewards.shape}; give {shape} or {(*shape, 'm')} as transitions has"
        )
    if terminal is not None:
        terminal = np.asarray(terminal)
        if terminal.shape != (states,) or terminal.dtype != bool:
            raise InputError(
                f"terminal has shape {terminal.shape} and dtype {terminal.dtype}; give ({states},) and bool"
            )
    rewards = rewards.reshape(*transitions.shape, -1).astype(float)
    empty = False if terminal is None else terminal[:, None] & ~transitions.any(-1)
    _check_rows("transitions", transitions, empty)
    # Successors that can occur come first, in the order of their numbers; K of them are kept.
    order = np.argsort(transitions == 0, axis=-1, kind="stable")
    order = order[..., : max(1, np.count_nonzero(transitions, axis=-1).max())]
    probabilities = np.take_along_axis(transitions.astype(float), order, -1)
    probabilities /= np.where(empty, 1.0, probabilities.sum(-1))[..., None]
    rewards = np.where(probabilities[..., None] > 0, np.take_along_axis(rewards, order[..., None], 2), 0.0)
    return _absorb(MDP(probabilities, order.astype(np.int32), rewards, terminal))


def _absorb(mdp: MDP) -> MDP:
    """Finds the terminal states where they are not given, and makes them absorbing."""
    own = np.arange(mdp.num_states, dtype=np.int32)[:, None, None]
    if mdp.terminal is None:
        stays = (mdp.probabilities == 0) | ((mdp.next_states == own) & ~mdp.rewards.any(-1))
        mdp = mdp._replace(terminal=stays.all((1, 2)))
    terminal = mdp.terminal[:, None, None]
    first = np.arange(mdp.probabilities.shape[2])[None, None] == 0
    return MDP(
        probabilities=np.where(terminal, first.astype(float), mdp.probabilities),
        next_states=np.where(terminal, own, mdp.next_states).astype(np.int32),
        rewards=np.where(terminal[..., None], 0.0, mdp.rewards),
        terminal=mdp.terminal,
    )


def load(path: str | pathlib.Path) -> MDP:
    """Reads an MDP from a file.

    Args:
        path: an .npz with "transitions" [S, A, S], "rewards" [S, A, S] or [S, A, S, m] and, optionally,
            "terminal" [S] bool: see `from_dense`.

    Returns:
        The MDP.

    Raises:
        InputError: when the file cannot be read, lacks an array, has one that is not known, or holds what
            `from_dense` refuses; it begins with the path.
    """
    path = pathlib.Path(path)
    try:
        with open_npz(path) as file:
            arrays = dict(file)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; give an .npz with transitions and rewards") from None
    except InputError:
        raise
    except _UNREADABLE as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"{path}: not a readable .npz ({reason}); write it again with numpy.savez"
        ) from error
    for name in arrays:
        if name not in _ARRAYS:
            raise unknown(f"array in {path}", name, _ARRAYS)
    for name in _ARRAYS[:2]:
        if name not in arrays:
            raise InputError(f"{path}: {name} is missing; it has {', '.join(arrays) or 'no arrays'}")
    try:
        return from_dense(**arrays)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def validate(mdp: MDP, discount: float) -> None:
    """Refuses what is no MDP, or no discount.

    Args:
        mdp: host arrays.
        discount: γ.

    Raises:
        InputError: when rows do not sum to one, probabilities are negative, rewards are not finite, next
            states are out of range or γ is outside (0, 1]; it names the array, the index and the value.
    """
    if not 0 < discount <= 1:
        raise InputError(f"discount is {discount}; give one in (0, 1]")
    probabilities, next_states, rewards, _ = (np.asarray(leaf) for leaf in mdp)
    _check_numbers("probabilities", probabilities)
    _check_numbers("rewards", rewards)
    _check_rows("probabilities", probabilities)
    if (index := _first((next_states < 0) | (next_states >= mdp.num_states))) is not None:
        raise InputError(
            f"next_states{list(index)} is {next_states[index]}; states go from 0 to {mdp.num_states - 1}"
        )


def _first(wrong: np.ndarray) -> tuple[int, ...] | None:
    """The index of the first True, or None."""
    return tuple(int(part) for part in np.argwhere(wrong)[0]) if wrong.any() else None


def _check_numbers(name: str, array: np.ndarray) -> None:
    """Refuses arrays of anything but finite real numbers."""
    if array.dtype.kind not in "fiu":
        raise InputError(f"{name} has dtype {array.dtype}; give floats")
    if (index := _first(~np.isfinite(array))) is not None:
        raise InputError(f"{name}{list(index)} is {array[index]}; every entry must be a finite number")


def _check_rows(name: str, probabilities: np.ndarray, empty: np.ndarray | bool = False) -> None:
    """Refuses rows that are no probability distribution, apart from those that may be empty."""
    if (index := _first(probabilities < 0)) is not None:
        raise InputError(f"{name}{list(index)} is {probabilities[index]}; a probability cannot be negative")
    sums = probabilities.sum(-1, dtype=float)
    if (index := _first(~empty & (np.abs(sums - 1) > _ROUNDING))) is not None:
        raise InputError(
            f"{name}{list(index)} sums to {sums[index]:.9g}, not 1; normalise the row, or mark "
            f"state {index[0]} as terminal if its episodes end"
        )


def return_bounds(mdp: MDP, discount: float, horizon: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """The least and the greatest return of each state, over all policies and all chance.

        low(s) = min over a and outcomes (s', r) of positive probability of r + γ low(s')

    Args:
        mdp: host arrays.
        discount: γ in (0, 1].
        horizon: number of steps; None: infinite.

    Returns:
        low [S, m] and high [S, m]; -inf and inf where sums of rewards grow without bound (γ = 1 alone). In an
        infinite horizon they are true bounds, and tight unless γ is so near to one that sweeps give up.
    """
    high = _least_returns(mdp._replace(rewards=-np.asarray(mdp.rewards)), discount, horizon)
    return _least_returns(mdp, discount, horizon), -high + 0.0  # never -0


def _least_returns(mdp: MDP, discount: float, horizon: int | None) -> np.ndarray:
    """[S, m], the lower half of `return_bounds`."""
    probabilities, next_states, rewards, terminal = (np.asarray(leaf) for leaf in mdp)
    possible = probabilities[..., None] > 0

    def sweep(low: np.ndarray) -> np.ndarray:
        return np.where(possible, rewards + discount * low[next_states], np.inf).min((1, 2))

    low = np.zeros((mdp.num_states, mdp.reward_dim))
    if horizon is not None:
        for _ in range(horizon):
            low = sweep(low)
        return low
    if discount < 1:
        worst = np.where(possible, rewards, 0.0).min((0, 1, 2)) / (1 - discount)
        low = np.where(terminal[:, None], 0.0, worst)
    else:
        # The least sum of any beginning of a path, as shortest paths are found. What still falls after S
        # sweeps meets a cycle that falls forever, and so do all states that can reach one.
        for _ in range(mdp.num_states):
            low = np.minimum(low, sweep(low))
        low = np.where(sweep(low) < low, -np.inf, low)
        for _ in range(mdp.num_states):
            low = np.minimum(low, sweep(low))
    # From below the fixed point sweeps can only rise: wherever they stop, this is a bound.
    tolerance = _TIGHT * (1 - discount) * np.abs(low, where=np.isfinite(low), out=np.zeros_like(low)).max()
    for _ in range(_MOST_SWEEPS):
        before, low = low, sweep(low)
        if np.allclose(low, before, rtol=0.0, atol=tolerance):
            break
    return low


def episode_bound(mdp: MDP) -> int | None:
    """The number of steps after which every episode has ended, whatever was done in it.

    Args:
        mdp: host arrays.

    Returns:
        The length of the longest path through nonterminal states; None where there is a cycle of them.
    """
    possible, terminal = np.asarray(mdp.probabilities) > 0, np.asarray(mdp.terminal)
    steps = np.zeros(mdp.num_states, int)
    for _ in range(mdp.num_states + 1):
        before = steps
        steps = np.where(terminal, 0, 1 + np.where(possible, steps[mdp.next_states], 0).max((1, 2)))
        if (steps == before).all():
            return int(steps.max())
    return None
