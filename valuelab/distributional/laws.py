"""What a law is: the distribution of a return, held in some way, read as atoms and backed up.

A Bellman backup takes laws of what may follow to the law of r + γ G'. Whatever holds laws can do so by
reading them as atoms, of which the backup makes others, and projecting these into a law again
(`by_projection`).
"""

import functools
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


def _not_made(*_: Any) -> Any:
    raise NotImplementedError("a representation without backups: see by_projection")


class Representation(NamedTuple):
    """A way to hold laws; every function works on any leading axes, in the dtype of its inputs.

    Attributes:
        name: "categorical", "quantile" or "exact".
        size: the number of atoms of a law; None where it grows.
        reward_dim: the number m of components of the returns; None: any.
        law_of: (values [..., m]) -> laws of the deterministic returns.
        atoms: (laws) -> Atoms.
        known: (laws) -> Atoms in one axis [N], for `look_ahead`; where all laws share values, these are
            [1, n, m].
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
    known: Callable[[Laws], Atoms]
    project: Callable[[Array, Array], tuple[Laws, Array]]
    wasserstein: Callable[[Laws, Laws], Array]
    cramer: Callable[[Laws, Laws], Array]
    plan: Callable[[Array, float], Any] = _not_made
    backup: Callable[[Laws, Any, Chosen], tuple[Laws, Array]] = _not_made


def in_one_axis(atoms: Atoms) -> Atoms:
    """Atoms [...] as atoms [N]."""
    values, probabilities = atoms
    return Atoms(values.reshape(-1, *values.shape[-2:]), probabilities.reshape(-1, probabilities.shape[-1]))


def look_ahead(atoms: Atoms, rewards: Array, discount: float, places: Array, weights: Array) -> Atoms:
    """The law of r + γ G', as it is before projection.

    Args:
        atoms: [N], of the returns G' that may follow, as a representation's `known` gives them.
        rewards: [..., K, m].
        discount: γ.
        places: [..., K, J] int32, among the N.
        weights: [..., K, J], probabilities.

    Returns:
        [...], with K J n atoms; with K n where all laws have the same, whose values have the leading axes of
        rewards then.
    """
    if len(atoms.values) == 1:
        neighbours = range(places.shape[-1])
        values = rewards[..., None, :] + discount * jnp.expand_dims(atoms.values[0], range(rewards.ndim - 1))
        rows = (weights[..., j, None] * atoms.probabilities[places[..., j]] for j in neighbours)
        probabilities = functools.reduce(jnp.add, rows)
    else:
        values = rewards[..., None, None, :] + discount * atoms.values[places]
        probabilities = weights[..., None] * atoms.probabilities[places]
    dim = rewards.shape[-1]
    leading = values.shape[: rewards.ndim - 2]
    return Atoms(values.reshape(*leading, -1, dim), probabilities.reshape(*places.shape[:-2], -1))


def by_projection(representation: Representation) -> Representation:
    """With backups as they are where there is no faster way: all atoms, projected, one state after the other.

    Args:
        representation: without backups.

    Returns:
        The same with them.
    """

    def backup(laws: Laws, plan: tuple[Array, float], chosen: Chosen) -> tuple[Laws, Array]:
        rewards, discount = plan
        known = representation.known(laws)

        def of_state(state):
            rewards, places, weights, actions = state
            places, weights = jnp.moveaxis(places, -1, 0), jnp.moveaxis(weights, -1, 0)
            return representation.project(*look_ahead(known, rewards[actions], discount, places, weights))

        return jax.lax.map(of_state, (rewards, *chosen))

    return representation._replace(plan=lambda rewards, discount: (rewards, discount), backup=backup)


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
