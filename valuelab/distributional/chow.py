"""CVaR value iteration on levels instead of stocks, after Chow et al. (2015), for comparison with stocks.

The level y of CVaR is carried along in place of the stock. By duality the mean of the worst fraction y is a
mean under the worst perturbation ξ of the probabilities, with 0 ≤ ξ ≤ 1/y and E ξ = 1. After outcome k the
level is z_k = y ξ_k. Let T(s, y) = y V(s, y), the sum over the worst fraction y. Then

    T(s, y) = max_a min_z Σ_k p_k [r_k z_k + γ T(s'_k, z_k)],   0 ≤ z_k ≤ 1,  Σ_k p_k z_k = y.

T(s, ·) is convex, and linear between the points of a grid of levels. So the inner problem is separable and
convex. It is solved exactly by spending y on the steepest descents first: the slopes of all T(s'_k, ·) are
the atoms of a distribution, and the minimum is the sum over the worst fraction y of their mixture.

For a given policy of states alone the recursion is correct. As an optimisation it is not: it chooses the best
action after the adversary has spent y, as if the policy knew z_k, but no adversary spends the return of ONE
policy in this way. The claimed value is an upper bound of the optimum, and the policy may not reach it
(`counterexamples.level_instead_of_stock`). Linear interpolation can only increase the claimed value.

Sources: Chow, Tamar, Mannor, Pavone 2015, "Risk-Sensitive and Robust Decision-Making", theorems 3 and 4 and
section 4; Hau, Delage, Ghavamzadeh, Petrik 2023, arXiv:2304.12477, on why it fails.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from valuelab.distributional import mdps
from valuelab.distributional.mdps import MDP
from valuelab.errors import InputError
from valuelab.types import Array


class Solution(NamedTuple):
    """The result of the recursion.

    Attributes:
        levels: [Y + 1] from 0 to 1.
        tails: [S, Y + 1], T(s, y).
        sweeps: the number of sweeps.
        distance: the greatest change of T in the last sweep.
    """

    levels: Array
    tails: Array
    sweeps: Array
    distance: Array

    @property
    def values(self) -> Array:
        """[S, Y], V(s, y), the claimed CVaR at all levels except 0."""
        return self.tails[:, 1:] / self.levels[None, 1:]


def value_iteration(
    mdp: MDP,
    levels: np.ndarray,
    *,
    discount: float,
    tolerance: float = 1e-9,
    max_sweeps: int = 10_000,
) -> Solution:
    """The fixed point of the recursion. The function is pure and may be vmapped over the leaves of the MDP.

    Args:
        mdp: with rewards [S, A, K, 1].
        levels: [Y + 1], rising from 0 to 1.
        discount: γ in (0, 1].
        tolerance: the change of T at which to stop.
        max_sweeps: the largest number of sweeps; after H sweeps values are those of H steps.

    Returns:
        The solution.

    Raises:
        InputError: for an invalid MDP or discount, rewards that are vectors, or levels that do not rise from
            0 to 1.
    """
    _check(mdp, levels, discount)
    return _solve(mdp, jnp.asarray(levels), None, discount, tolerance, max_sweeps)


def policy_evaluation(
    mdp: MDP,
    policy: Array,
    levels: np.ndarray,
    *,
    discount: float,
    tolerance: float = 1e-9,
    max_sweeps: int = 10_000,
) -> Solution:
    """The CVaR of a policy of states alone, at all levels.

    Args:
        mdp: with rewards [S, A, K, 1].
        policy: int actions [S].
        levels: [Y + 1], rising from 0 to 1.
        discount: γ in (0, 1].
        tolerance: the change of T at which to stop.
        max_sweeps: the largest number of sweeps.

    Returns:
        The solution.

    Raises:
        InputError: as `value_iteration`.
    """
    _check(mdp, levels, discount)
    return _solve(mdp, jnp.asarray(levels), jnp.asarray(policy), discount, tolerance, max_sweeps)


@jax.jit
def act(mdp: MDP, solution: Solution, discount: Array, states: Array, levels: Array) -> tuple[Array, Array]:
    """The policy of the recursion: greedy at (s, y), and after outcome k at level z_k.

    Where several outcomes have equal slopes, y is spent on the first; in theory every such choice is equally
    good. At levels below the first positive level of the grid, it acts as at this level.

    Args:
        mdp: the MDP.
        solution: of `value_iteration`.
        discount: γ.
        states: [n] ints.
        levels: [n] in [0, 1].

    Returns:
        Actions [n] int32, and the next levels [n, K].
    """
    atoms, shares = (array[states] for array in _look_ahead(mdp, solution.levels, solution.tails, discount))
    at = jnp.maximum(levels, solution.levels[1])
    actions = _first_best(jax.vmap(_worst)(atoms, shares, at[:, None])[..., 0])
    atoms, shares = (
        jnp.take_along_axis(array, actions[:, None, None, None], axis=1)[:, 0] for array in (atoms, shares)
    )
    chances = jnp.asarray(mdp.probabilities)[states, actions]
    spent = jax.vmap(_spend)(atoms, shares, levels)
    return actions, jnp.where(chances > 0, spent / jnp.where(chances > 0, chances, 1), 0)


@jax.jit
def _solve(
    mdp: MDP, levels: Array, policy: Array | None, discount: Array, tolerance: Array, max_sweeps: Array
) -> Solution:
    def sweep(solution: Solution) -> Solution:
        tails = jax.vmap(_worst, (0, 0, None))(
            *_look_ahead(mdp, levels, solution.tails, discount), levels
        )  # [S, A, Y + 1]
        if policy is None:
            tails = jnp.max(tails, axis=1)
        else:
            tails = jnp.take_along_axis(tails, policy[:, None, None], axis=1)[:, 0]
        distance = jnp.max(jnp.abs(tails - solution.tails))
        return Solution(levels=levels, tails=tails, sweeps=solution.sweeps + 1, distance=distance)

    def go_on(solution: Solution) -> Array:
        return (solution.distance > tolerance) & (solution.sweeps < max_sweeps)

    start = Solution(
        levels=levels,
        tails=jnp.zeros((mdp.num_states, len(levels)), levels.dtype),
        sweeps=jnp.int32(0),
        distance=jnp.asarray(jnp.inf, levels.dtype),
    )
    return jax.lax.while_loop(go_on, sweep, start)


def _look_ahead(mdp: MDP, levels: Array, tails: Array, discount: Array) -> tuple[Array, Array]:
    """The distributions of the slopes of T after each action: atoms and their shares [S, A, K, Y]."""
    widths = jnp.diff(levels)
    slopes = jnp.diff(tails) / widths[None]
    atoms = jnp.asarray(mdp.rewards) + discount * slopes[jnp.asarray(mdp.next_states)]
    return atoms, jnp.asarray(mdp.probabilities)[..., None] * widths[None, None, None]


def _worst(atoms: Array, shares: Array, levels: Array) -> Array:
    """The sums over the worst fractions [Y] of each action's distribution: atoms [A, K, Y] to [A, Y]."""

    def of_action(atoms: Array, shares: Array) -> Array:
        order = jnp.argsort(atoms, axis=None)
        atoms, shares = atoms.ravel()[order], shares.ravel()[order]
        ends, sums = (jnp.append(0, jnp.cumsum(part)) for part in (shares, shares * atoms))
        return jnp.interp(levels, ends, sums)

    return jax.vmap(of_action)(atoms, shares)


def _spend(atoms: Array, shares: Array, level: Array) -> Array:
    """The part of a level that goes to each outcome, [K], of a distribution with atoms [K, Y]."""
    order = jnp.argsort(atoms, axis=None)
    ranked = shares.ravel()[order]
    taken = jnp.clip(level - (jnp.cumsum(ranked) - ranked), 0, ranked)
    return jnp.zeros_like(taken).at[order].set(taken).reshape(atoms.shape).sum(axis=1)


def _first_best(scores: Array) -> Array:
    """The first of the actions [..., A] that is best within rounding, int32."""
    best = jnp.max(scores, axis=-1, keepdims=True)
    rounding = 64 * jnp.finfo(scores.dtype).eps * (1 + jnp.abs(best))
    return jnp.argmax(scores >= best - rounding, axis=-1).astype(jnp.int32)


def _check(mdp: MDP, levels: Any, discount: float) -> None:
    """Refuses what `value_iteration` refuses."""
    if not any(isinstance(leaf, jax.core.Tracer) for leaf in mdp):
        mdps.validate(mdp, discount)
    if mdp.reward_dim != 1:
        raise InputError(f"rewards have {mdp.reward_dim} components, but CVaR needs 1; give scalar rewards")
    levels = np.asarray(levels)
    if (
        levels.ndim != 1
        or len(levels) < 2
        or levels[0] != 0
        or levels[-1] != 1
        or (np.diff(levels) <= 0).any()
    ):
        raise InputError(
            f"levels are {np.array2string(levels, threshold=4)}; give points that rise from 0 to 1"
        )
