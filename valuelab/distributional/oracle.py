"""The ground truth on small MDPs: what every deterministic policy achieves, by enumeration.

Nothing here knows of stocks, grids or projections. Policies may look at the whole history, so what follows
one outcome is chosen apart from what follows another: the laws achievable from a state are all mixtures, over
the outcomes of an action, of laws achievable from where they lead.
"""

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.optimize

from valuelab.distributional.mdp import MDP
from valuelab.distributional.objectives import At, Objective
from valuelab.errors import InputError
from valuelab.types import Array

LONGEST, MOST = 5, 50_000
"""The longest horizon, and the most laws from a state or Markov policies, that are enumerated."""

_DECIMALS = 10
"""Returns, and probabilities, that agree in so many decimals are one."""


class Laws(NamedTuple):
    """Laws of the return from one state, on one support.

    Attributes:
        support: [n, m].
        probabilities: [N, n], a law a row, none twice.
    """

    support: np.ndarray
    probabilities: np.ndarray


def history_laws(mdp: MDP, discount: float, horizon: int, most: int = MOST) -> list[Laws]:
    """What deterministic policies achieve that know the whole history.

        L_h(s) = ∪_a { Σ_k p_k · law of r_k + γ G_k : G_k ∈ L_{h-1}(s'_k) },   L_0 = { 0 }

    Args:
        mdp: host arrays.
        discount: γ in (0, 1].
        horizon: number of steps, at most 5.
        most: of laws of a state.

    Returns:
        The laws from each state as a start.

    Raises:
        InputError: for a longer horizon, or more laws: it names their number.
    """
    if not 0 <= horizon <= LONGEST:
        raise InputError(f"horizon is {horizon}; policies are enumerated for 0 to {LONGEST} steps")
    laws = [_nothing(mdp)] * mdp.num_states
    for _ in range(horizon):
        following, laws = laws, list(laws)
        for state in _free_states(mdp):
            ahead = [
                _look_ahead(mdp, state, action, following, discount, most)
                for action in range(mdp.num_actions)
            ]
            laws[state] = _together(ahead)
    return laws


def markov_laws(mdp: MDP, discount: float, horizon: int, most: int = MOST) -> list[Laws]:
    """What deterministic policies achieve that know but state and step; as `history_laws`, at any horizon."""
    states = _free_states(mdp)
    count = mdp.num_actions ** (len(states) * horizon)
    if count > most:
        raise InputError(
            f"there are {count} Markov policies, more than {most}; give a smaller MDP or horizon"
        )
    found: list[list[Laws]] = [[] for _ in range(mdp.num_states)]
    for actions in itertools.product(range(mdp.num_actions), repeat=len(states) * horizon):
        laws = [_nothing(mdp)] * mdp.num_states
        for choices in np.reshape(actions, (horizon, len(states))):
            following, laws = laws, list(laws)
            for state, action in zip(states, choices, strict=True):
                laws[state] = _look_ahead(mdp, state, action, following, discount, most)
        for of_state, law in zip(found, laws, strict=True):
            of_state.append(law)
    return [_together(laws) for laws in found]


def best(objective: Objective, laws: Laws) -> float:
    """The greatest value of an objective over laws, and over draws between them.

    Draws matter where the measure is concave in mixtures, as upper CVaR is: there it is the linear program

        max Σᵢ qᵢ xᵢ   over   τ q ≤ w·P,  Σ q = 1,  Σ w = 1,  q, w ≥ 0

    of choosing the draw w and which part q of the law w·P on the support x is its best fraction τ.

    Args:
        objective: any.
        laws: from one state.

    Returns:
        The optimum.
    """
    start = objective.start
    if not isinstance(start, At) and start.mixed:
        return _best_draw(laws, float(objective.parameters["tau"]))
    support, probabilities = laws
    # Sizes are rounded up to powers of two, so that many MDPs share what is compiled.
    count, size = (1 << (length - 1).bit_length() for length in probabilities.shape)
    support = np.pad(support, [(0, size - len(support)), (0, 0)])
    probabilities = np.pad(probabilities, [(0, 0), (0, size - probabilities.shape[1])])
    probabilities = np.pad(probabilities, [(0, count - len(probabilities)), (0, 0)], mode="edge")
    with jax.enable_x64(True):
        return float(_greatest(objective, support, probabilities))


@jax.jit
def _greatest(objective: Objective, support: Array, probabilities: Array) -> Array:
    start, first, score = objective.start, jnp.zeros(support.shape[-1]), objective.functional
    if isinstance(start, At):
        first = start.stock(objective.parameters)
    else:
        score = start.measure
    values = jnp.broadcast_to(first[None] + support, (*probabilities.shape, len(first)))
    return score(objective.parameters, values, probabilities).max()


def _best_draw(laws: Laws, tau: float) -> float:
    count, size = laws.probabilities.shape
    gain = np.concatenate([laws.support[:, 0], np.zeros(count)])
    within = np.concatenate([tau * np.eye(size), -laws.probabilities.T], axis=1)
    whole = np.repeat(np.eye(2), [size, count], axis=1)
    solution = scipy.optimize.linprog(-gain, within, np.zeros(size), whole, np.ones(2))
    return float(-solution.fun)


def _free_states(mdp: MDP) -> list[int]:
    return np.flatnonzero(~np.asarray(mdp.terminal)).tolist()


def _nothing(mdp: MDP) -> Laws:
    """The return 0."""
    return Laws(np.zeros((1, mdp.reward_dim)), np.ones((1, 1)))


def _look_ahead(
    mdp: MDP, state: int, action: int, following: Sequence[Laws], discount: float, most: int
) -> Laws:
    """All mixtures over the outcomes of one action."""
    outcomes: dict[tuple[int, bytes], float] = {}
    chances, next_states, rewards = (np.asarray(leaf)[state, action] for leaf in mdp[:3])
    for chance, next_state, reward in zip(chances, next_states, rewards, strict=True):
        if chance > 0:  # equal outcomes are one history
            outcome = int(next_state), np.asarray(reward, float).tobytes()
            outcomes[outcome] = outcomes.get(outcome, 0.0) + float(chance)
    count = math.prod(len(following[next_state].probabilities) for next_state, _ in outcomes)
    if count > most:
        raise InputError(
            f"action {action} in state {state} leads to {count} laws, more than {most}; "
            "give a smaller MDP or horizon"
        )
    parts = _on_one_support(
        [
            Laws(np.frombuffer(reward) + discount * support, chance * probabilities)
            for (next_state, reward), chance in outcomes.items()
            for support, probabilities in [following[next_state]]
        ]
    )
    mixtures = np.zeros((1, parts[0].support.shape[0]))
    for part in parts:
        mixtures = (mixtures[:, None] + part.probabilities).reshape(-1, mixtures.shape[-1])
    return Laws(parts[0].support, mixtures)


def _together(sets: Sequence[Laws]) -> Laws:
    """The union of several sets of laws."""
    parts = _on_one_support(sets)
    rows = np.concatenate([part.probabilities for part in parts])
    _, firsts = np.unique(rows.round(_DECIMALS), axis=0, return_index=True)
    return Laws(parts[0].support, rows[firsts])


def _on_one_support(sets: Sequence[Laws]) -> list[Laws]:
    """The same laws, all on the union of the supports."""
    points = np.concatenate([laws.support for laws in sets])
    _, firsts, places = np.unique(points.round(_DECIMALS), axis=0, return_index=True, return_inverse=True)
    ends = np.cumsum([len(laws.support) for laws in sets])[:-1]
    moved = []
    for laws, columns in zip(sets, np.split(places.ravel(), ends), strict=True):
        probabilities = np.zeros((len(laws.probabilities), len(firsts)))
        np.add.at(probabilities.T, columns, laws.probabilities.T)
        moved.append(Laws(points[firsts], probabilities))
    return moved
