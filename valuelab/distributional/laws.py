"""What a law is: the distribution of a return, held in some way, read as atoms and backed up.

A Bellman backup takes laws of what may follow to the law of r + γ G'. Whatever holds laws can do so by
reading them as atoms, of which the backup makes others, and projecting these into a law again
(`by_projection`).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from valuelab.types import Array

Laws = Any
"""A pytree of arrays with any leading axes [...], such as [S, C]: one law each."""


class Atoms(NamedTuple):
    """Laws as finite mixtures of Dirac distributions.

    Attributes:
        values: [..., n, m].
        probabilities: [..., n].
    """

    values: Array
    probabilities: Array


class Chosen(NamedTuple):
    """The successors of chosen actions: K outcomes, each split among J stocks.

    Attributes:
        places: [S, K, J, C] int32, of the successors among the N = S' C' laws.
        weights: [S, K, J, C], their probabilities.
        actions: [S, C] int32.
    """

    places: Array
    weights: Array
    actions: Array


class Representation(NamedTuple):
    """A way to hold laws; every function works on any leading axes, in the dtype of its inputs.

    Attributes:
        name: "categorical", "quantile" or "exact".
        size: the number of atoms of a law; None where it grows.
        reward_dim: the number m of components of the returns; None: any.
        law_of: (values [..., m]) -> laws of the deterministic returns.
        atoms: (laws) -> Atoms.
        project: (values [..., k, m], probabilities [..., k]) -> (laws, outside [...]), the mass beyond the
            support, which was clamped to its edge.
        wasserstein: (laws, laws) -> [...], the 1-Wasserstein distance; for m > 1 an upper bound of it.
        cramer: (laws, laws) -> [...], the l2 distance of cumulative distribution functions; for m > 1 of
            those along the lexicographic order.
        plan: (rewards [S, A, K, m], γ) -> what `backup` needs of them, made once for many sweeps.
        backup: (laws [N], plan, Chosen) -> (laws [S, C], outside [S, C]): the projected law of r + γ G'.
    """

    name: str
    size: int | None
    reward_dim: int | None
    law_of: Callable[[Array], Laws]
    atoms: Callable[[Laws], Atoms]
    project: Callable[[Array, Array], tuple[Laws, Array]]
    wasserstein: Callable[[Laws, Laws], Array]
    cramer: Callable[[Laws, Laws], Array]
    plan: Callable[[Array, float], Any]
    backup: Callable[[Laws, Any, Chosen], tuple[Laws, Array]]


def look_ahead(atoms: Atoms, rewards: Array, discount: Array | float, places: Array, weights: Array) -> Atoms:
    """The law of r + γ G', as it is before projection.

    Args:
        atoms: [N], of the returns G' that may follow.
        rewards: [..., K, m].
        discount: γ.
        places: [..., K, J] int32, among the N.
        weights: [..., K, J], probabilities.

    Returns:
        [...], with K J n atoms.
    """
    values = rewards[..., None, None, :] + discount * atoms.values[places]
    probabilities = weights[..., None] * atoms.probabilities[places]
    shape = places.shape[:-2]
    return Atoms(values.reshape(*shape, -1, values.shape[-1]), probabilities.reshape(*shape, -1))


def by_projection(
    atoms: Callable[[Laws], Atoms], project: Callable[[Array, Array], tuple[Laws, Array]]
) -> dict[str, Callable]:
    """How laws are backed up where there is no faster way: all atoms, projected, one state after the other.

    Args:
        atoms: of a `Representation`.
        project: of the same.

    Returns:
        Its `plan` and `backup`.
    """

    def backup(laws, plan, chosen):
        rewards, discount = plan
        known = atoms(laws)

        def of_state(state):
            rewards, places, weights, actions = state
            places, weights = jnp.moveaxis(places, -1, 0), jnp.moveaxis(weights, -1, 0)
            return project(*look_ahead(known, rewards[actions], discount, places, weights))

        return jax.lax.map(of_state, (rewards, *chosen))

    return {"plan": lambda rewards, discount: (rewards, discount), "backup": backup}


def merge(atoms: Atoms) -> Atoms:
    """The same laws with equal atoms made one, and only as many as the law with most needs; on the host.

    Args:
        atoms: [...], n atoms each.

    Returns:
        [...], at most n + 1 atoms each; atoms that differ by rounding alone are one.
    """
    values, probabilities = np.asarray(atoms.values), np.asarray(atoms.probabilities)
    *leading, count, dim = values.shape
    probabilities = probabilities.reshape(-1, count)
    points = values.reshape(-1, dim)
    # Numbers that agree to all but the last few digits get the same key.
    unit = 1024 * np.finfo(values.dtype).eps * max(1.0, np.abs(points).max())
    _, keys = np.unique(np.round(points / unit), axis=0, return_inverse=True)
    keys = np.where(probabilities > 0, keys.reshape(-1, count), -1)
    order = np.argsort(keys, axis=1, kind="stable")
    keys = np.take_along_axis(keys, order, 1)
    groups = np.cumsum(np.diff(keys, axis=1, prepend=keys[:, :1]) > 0, axis=1)
    rows = np.arange(len(keys))[:, None]
    merged = np.zeros((len(keys), int(groups.max()) + 1), probabilities.dtype)
    np.add.at(merged, (rows, groups), np.take_along_axis(probabilities, order, 1))
    kept = np.zeros((*merged.shape, dim), values.dtype)
    kept[rows, groups] = values.reshape(-1, count, dim)[rows, order]
    return Atoms(jnp.asarray(kept.reshape(*leading, -1, dim)), jnp.asarray(merged.reshape(*leading, -1)))
