"""Finite Markov decision processes on the host: building, loading, checking, and bounds of their returns.

Transitions and rewards are random together: action a in state s has K possible outcomes, and each outcome is
a probability, a next state and a reward vector. The solvers take the same named tuple with traced leaves.
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
"""The largest difference from 1 of the sum of a row of probabilities; files in float32 come close to it."""

_TOLERANCE, _MAX_SWEEPS = 1e-9, 100_000
"""The distance from the fixed point, relative to the greatest bound, at which the iteration of return bounds
stops, and its largest number of sweeps."""

_UNREADABLE = (OSError, EOFError, RuntimeError, ValueError, zipfile.BadZipFile, zlib.error)
"""The exceptions that numpy raises for a broken file."""

_FORMATS = {
    "transitions": ("transitions", "rewards"),
    "next_states": ("next_states", "rewards", "probabilities"),
}
"""The arrays of a file, by the array that tells the two formats apart; both may have "terminal", too."""


class MDP(NamedTuple):
    """A finite MDP with S states, A actions, K outcomes of each state and action, and rewards in R^m.

    Attributes:
        probabilities: [S, A, K] floats, each row sums to one; 0 where a state and action have fewer outcomes.
        next_states: [S, A, K] int32.
        rewards: [S, A, K, m] floats; usually m = 1.
        terminal: [S] bool, the absorbing states: every action stays there with reward 0.
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
        The MDP in float64, where K is the length of the longest list.

    Raises:
        InputError: as `validate`.
    """
    num_states, num_actions = len(outcomes), len(outcomes[0]) if len(outcomes) else 0
    if not num_actions or not any(row for state in outcomes for row in state):
        raise InputError(
            f"outcomes has {num_states} states and no outcome; give a list of (probability, next state, "
            "reward) for each state and action"
        )
    for state, actions in enumerate(outcomes):
        if len(actions) > num_actions or (len(actions) < num_actions and any(actions)):
            raise InputError(
                f"outcomes[{state}] has {len(actions)} actions, but outcomes[0] has {num_actions}; give a "
                "list for each action"
            )
        for action, row in enumerate(actions):
            for index, entry in enumerate(row):
                if len(entry) != len(("probability", "next state", "reward")):
                    raise InputError(
                        f"outcomes[{state}][{action}][{index}] is {entry!r}; give (probability, next "
                        "state, reward)"
                    )
                kinds = [np.asarray(part).dtype.kind for part in entry]
                if kinds[0] not in "fiu" or kinds[1] not in "iu" or kinds[2] not in "fiu":
                    raise InputError(
                        f"outcomes[{state}][{action}][{index}] is {entry!r}; give a probability, the whole "
                        "number of a state and a reward in numbers"
                    )
    _check_terminal(terminal, num_states)
    width = max(len(row) for state in outcomes for row in state)
    dims = {np.size(reward) for state in outcomes for row in state for _, _, reward in row}
    if len(dims) > 1:
        raise InputError(
            f"rewards of outcomes have {' and '.join(map(str, sorted(dims)))} components; give one number "
            "for each outcome, or equally many components"
        )
    (dim,) = dims
    probabilities = np.zeros((num_states, num_actions, width))
    next_states = np.zeros((num_states, num_actions, width), np.int32)
    rewards = np.zeros((num_states, num_actions, width, dim))
    for state, actions in enumerate(outcomes):
        for action, row in enumerate(actions):
            for outcome, (probability, successor, reward) in enumerate(row):
                probabilities[state, action, outcome] = probability
                next_states[state, action, outcome] = successor
                rewards[state, action, outcome] = reward
    mdp = _absorb(
        MDP(probabilities=probabilities, next_states=next_states, rewards=rewards, terminal=terminal)
    )
    validate(mdp, 1.0)
    return mdp


def from_dense(transitions: np.ndarray, rewards: np.ndarray, terminal: np.ndarray | None = None) -> MDP:
    """An MDP from an array of transition probabilities.

    Args:
        transitions: [S, A, S], the probability of each next state; rows of terminal states may be zero.
        rewards: [S, A, S] or [S, A, S, m], the reward of each transition; rewards of terminal states are
            ignored.
        terminal: [S] bool; None: the states that no action leaves and that give no reward.

    Returns:
        The MDP in float64, where K is the largest number of possible successors.

    Raises:
        InputError: when shapes disagree, a row does not sum to one, a probability is negative or a number is
            not finite; the message names the array, the index and the value.

    Example:
        >>> import numpy as np, valuelab as vl
        >>> transitions, rewards = np.zeros((2, 2, 1, 2))
        >>> transitions[0, 0], rewards[0, 0] = [0.5, 0.5], [1, 0]
        >>> mdp = vl.make_mdp(transitions, rewards, terminal=np.array([False, True]))
        >>> mdp.num_states, mdp.num_actions
        (2, 1)
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
            f"rewards has shape {rewards.shape}; give {shape} or {(*shape, 'm')}, which match transitions"
        )
    _check_terminal(terminal, states)
    terminal = None if terminal is None else np.asarray(terminal)
    rewards = rewards.reshape(*transitions.shape, -1).astype(float)
    empty = False if terminal is None else terminal[:, None] & ~transitions.any(-1)
    _check_rows("transitions", transitions, empty)
    # Possible successors come first, in the order of their numbers. The first K are kept.
    order = np.argsort(transitions == 0, axis=-1, kind="stable")
    order = order[..., : max(1, np.count_nonzero(transitions, axis=-1).max())]
    probabilities = np.take_along_axis(transitions.astype(float), order, -1)
    probabilities /= np.where(empty, 1.0, probabilities.sum(-1))[..., None]
    rewards = np.where(probabilities[..., None] > 0, np.take_along_axis(rewards, order[..., None], 2), 0.0)
    return _absorb(
        MDP(
            probabilities=probabilities,
            next_states=order.astype(np.int32),
            rewards=rewards,
            terminal=terminal,
        )
    )


def from_arrays(
    next_states: np.ndarray,
    rewards: np.ndarray,
    probabilities: np.ndarray,
    terminal: np.ndarray | None = None,
) -> MDP:
    """An MDP from arrays of outcomes; rewards may be random for one successor.

    Args:
        next_states: [S, A, K] integers, the next state of each outcome.
        rewards: [S, A, K] or [S, A, K, m], the reward of each outcome.
        probabilities: [S, A, K], of each outcome; 0 where a state and action have fewer outcomes.
        terminal: [S] bool; None: the states that no action leaves and that give no reward. Rows of terminal
            states are ignored.

    Returns:
        The MDP in float64.

    Raises:
        InputError: when shapes disagree, and as `validate`.
    """
    next_states, rewards, probabilities = map(np.asarray, (next_states, rewards, probabilities))
    _check_numbers("probabilities", probabilities)
    _check_numbers("rewards", rewards)
    shape = probabilities.shape
    if len(shape) != 3 or not probabilities.size:
        raise InputError(f"probabilities has shape {shape}; give [S, A, K] with S, A and K at least 1")
    if next_states.shape != shape or next_states.dtype.kind not in "iu":
        raise InputError(
            f"next_states has dtype {next_states.dtype} and shape {next_states.shape}; give integers of "
            f"shape {shape}, as probabilities"
        )
    if rewards.ndim not in (3, 4) or rewards.shape[:3] != shape or not rewards.size:
        raise InputError(f"rewards has shape {rewards.shape}; give {shape} or {(*shape, 'm')}")
    _check_terminal(terminal, shape[0])
    mdp = _absorb(
        MDP(
            probabilities=probabilities.astype(float),
            next_states=next_states,
            rewards=rewards.reshape(*shape, -1).astype(float),
            terminal=terminal,
        )
    )
    validate(mdp, 1.0)
    return mdp._replace(probabilities=mdp.probabilities / mdp.probabilities.sum(-1, keepdims=True))


def _check_terminal(terminal: Any, num_states: int) -> None:
    """Refuses an array that does not mark terminal states."""
    if terminal is not None and (np.shape(terminal) != (num_states,) or np.asarray(terminal).dtype != bool):
        raise InputError(
            f"terminal has shape {np.shape(terminal)} and dtype {np.asarray(terminal).dtype}; give "
            f"({num_states},) and bool"
        )


def reachable_states(mdp: MDP, start_state: int) -> np.ndarray:
    """The states [S] bool that episodes from a start state can visit.

    Raises:
        InputError: for a start state that the MDP does not have.
    """
    if not (isinstance(start_state, int | np.integer) and 0 <= start_state < mdp.num_states):
        raise InputError(f"start_state is {start_state!r}; give a state from 0 to {mdp.num_states - 1}")
    reached = np.arange(mdp.num_states) == start_state
    possible = np.asarray(mdp.probabilities) > 0
    while True:
        leaving = reached & ~np.asarray(mdp.terminal)
        found = reached.copy()
        found[np.asarray(mdp.next_states)[leaving][possible[leaving]]] = True
        if (found == reached).all():
            return reached
        reached = found


def end_in(mdp: MDP, states: np.ndarray) -> MDP:
    """The MDP in which episodes end in further states [S] bool; states keep their numbers."""
    return _absorb(mdp._replace(terminal=np.asarray(mdp.terminal) | states))


def _absorb(mdp: MDP) -> MDP:
    """Makes terminal states absorbing, and finds them first if they are not given."""
    own = np.arange(mdp.num_states, dtype=np.int32)[:, None, None]
    if mdp.terminal is not None:
        mdp = mdp._replace(terminal=np.asarray(mdp.terminal))
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
            "terminal" [S] bool: see `from_dense`. Or, for random rewards, with "next_states" [S, A, K],
            "rewards" [S, A, K] or [S, A, K, m], "probabilities" [S, A, K] and, optionally, "terminal": see
            `from_arrays`.

    Returns:
        The MDP.

    Raises:
        InputError: when the file cannot be read, lacks an array, has an unknown array, or contains what
            these functions refuse; the message begins with the path.
    """
    path = pathlib.Path(path)
    try:
        with open_npz(path) as file:
            arrays = dict(file)
    except FileNotFoundError:
        raise InputError(
            f"{path}: the file does not exist; give an .npz with transitions and rewards"
        ) from None
    except InputError:
        raise
    except _UNREADABLE as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"{path}: not a readable .npz ({reason}); write it again with numpy.savez"
        ) from error
    dense = "next_states" not in arrays and "probabilities" not in arrays
    needed = _FORMATS["transitions" if dense else "next_states"]
    for name in arrays:
        if name not in (*needed, "terminal"):
            raise unknown(f"array in {path}", name, (*needed, "terminal"))
    for name in needed:
        if name not in arrays:
            raise InputError(
                f"{path}: {name} is missing; the file has {', '.join(arrays) or 'no arrays'}: add {name}"
            )
    try:
        return from_dense(**arrays) if dense else from_arrays(**arrays)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def validate(mdp: MDP, discount: float) -> None:
    """Refuses an invalid MDP or discount.

    Args:
        mdp: host arrays.
        discount: γ.

    Raises:
        InputError: when rows do not sum to one, probabilities are negative, rewards are not finite, next
            states are out of range or γ is outside (0, 1]; the message names the array, the index and the
            value.
    """
    if np.asarray(discount).dtype.kind not in "fiu" or not 0 < discount <= 1:
        raise InputError(f"discount is {discount}; give a number in (0, 1]")
    probabilities, next_states, rewards, _ = (np.asarray(leaf) for leaf in mdp)
    _check_numbers("probabilities", probabilities)
    _check_numbers("rewards", rewards)
    _check_rows("probabilities", probabilities)
    if (index := _first((next_states < 0) | (next_states >= mdp.num_states))) is not None:
        raise InputError(
            f"next_states{list(index)} is {next_states[index]}; give a state from 0 to {mdp.num_states - 1}"
        )


def _first(wrong: np.ndarray) -> tuple[int, ...] | None:
    """The index of the first True, or None."""
    return tuple(int(part) for part in np.argwhere(wrong)[0]) if wrong.any() else None


def _check_numbers(name: str, array: np.ndarray) -> None:
    """Refuses arrays that contain anything other than finite real numbers."""
    if array.dtype.kind not in "fiu":
        raise InputError(f"{name} has dtype {array.dtype}; give floats")
    if (index := _first(~np.isfinite(array))) is not None:
        raise InputError(f"{name}{list(index)} is {array[index]}; every entry must be a finite number")


def _check_rows(name: str, probabilities: np.ndarray, empty: np.ndarray | bool = False) -> None:
    """Refuses rows that are not a probability distribution, except rows that may be empty."""
    if (index := _first(probabilities < 0)) is not None:
        raise InputError(f"{name}{list(index)} is {probabilities[index]}; a probability cannot be negative")
    sums = probabilities.sum(-1, dtype=float)
    if (index := _first(~empty & (np.abs(sums - 1) > _ROUNDING))) is not None:
        raise InputError(
            f"{name}{list(index)} sums to {sums[index]:.9g}, not 1; normalise the row, or mark "
            f"state {index[0]} as terminal if its episodes end"
        )


def return_bounds(
    mdp: MDP, discount: float, horizon: int | None = None, or_fewer: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """The least and the greatest return from each state, over all policies and all outcomes.

        low(s) = min over a and outcomes (s', r) of positive probability of r + γ low(s')

    Args:
        mdp: host arrays.
        discount: γ in (0, 1].
        horizon: number of steps; None: infinite.
        or_fewer: whether returns of fewer steps than a finite horizon count as well, down to 0 steps.

    Returns:
        low [S, m] and high [S, m]; -inf and inf where sums of rewards grow without bound (only if γ = 1). In
        an infinite horizon they are always bounds; they are tight unless γ is so close to 1 that the largest
        number of sweeps is too small.
    """
    high = _least_returns(mdp._replace(rewards=-np.asarray(mdp.rewards)), discount, horizon, or_fewer)
    return _least_returns(mdp, discount, horizon, or_fewer), -high + 0.0  # never -0


def _least_returns(mdp: MDP, discount: float, horizon: int | None, or_fewer: bool) -> np.ndarray:
    """[S, m], the lower half of `return_bounds`."""
    probabilities, next_states, rewards, terminal = (np.asarray(leaf) for leaf in mdp)
    possible = probabilities[..., None] > 0

    def sweep(low: np.ndarray) -> np.ndarray:
        return np.where(possible, rewards + discount * low[next_states], np.inf).min((1, 2))

    low = np.zeros((mdp.num_states, mdp.reward_dim))
    if horizon is not None:
        least = low
        for _ in range(horizon):
            low = sweep(low)
            least = np.minimum(least, low)
        return least if or_fewer else low
    if discount < 1:
        worst = np.where(possible, rewards, 0.0).min((0, 1, 2)) / (1 - discount)
        low = np.where(terminal[:, None], 0.0, worst)
    else:
        # The least sum over all beginnings of a path, as in shortest-path algorithms. A state whose sum still
        # decreases after S sweeps reaches a cycle of negative sum, and its least return is -inf.
        for _ in range(mdp.num_states):
            low = np.minimum(low, sweep(low))
        low = np.where(sweep(low) < low, -np.inf, low)
        for _ in range(mdp.num_states):
            low = np.minimum(low, sweep(low))
    # Sweeps from below the fixed point only increase, so the result is a bound after any number of sweeps.
    tolerance = (
        _TOLERANCE * (1 - discount) * np.abs(low, where=np.isfinite(low), out=np.zeros_like(low)).max()
    )
    for _ in range(_MAX_SWEEPS):
        before, low = low, sweep(low)
        if np.allclose(low, before, rtol=0.0, atol=tolerance):
            break
    return low


def episode_bound(mdp: MDP) -> int | None:
    """The number of steps after which every episode has ended, whatever actions it took.

    Args:
        mdp: host arrays.

    Returns:
        The length of the longest path through nonterminal states; None if they contain a cycle.
    """
    possible, terminal = np.asarray(mdp.probabilities) > 0, np.asarray(mdp.terminal)
    steps = np.zeros(mdp.num_states, int)
    for _ in range(mdp.num_states + 1):
        before = steps
        steps = np.where(terminal, 0, 1 + np.where(possible, steps[mdp.next_states], 0).max((1, 2)))
        if (steps == before).all():
            return int(steps.max())
    return None
