"""Return distributions: how solvers hold them, read them as atoms, and back them up.

A Bellman backup takes the distributions of the returns G' that may follow to the distribution of r + γ G'.
A representation that can be read as atoms, and onto which atoms can be projected, needs nothing else: the
backup moves the atoms and projects the result (`with_projected_backups`).
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from valuelab.types import Array

_MAX_BATCH = 1 << 26
"""The largest number of numbers of the states that an accelerator works on at a time."""

ReturnDistributions = Any
"""A pytree of arrays with any leading axes [...], such as [S, C]: one distribution each."""


class Atoms(NamedTuple):
    """Distributions as finite mixtures of Dirac distributions, on the device or on the host.

    Attributes:
        values: [..., n, m].
        probabilities: [..., n].
    """

    values: Any
    probabilities: Any


class Successors(NamedTuple):
    """The successors of chosen actions: K outcomes, each split among J stocks.

    Attributes:
        indices: [S, K, J, C] int32, of the successors among the N = S' C' distributions.
        weights: [S, K, J, C], their probabilities.
        actions: [S, C] int32.
    """

    indices: Array
    weights: Array
    actions: Array


def _not_implemented(*_: Any) -> Any:
    raise NotImplementedError("this distribution representation has no backups: see with_projected_backups")


class DistributionRepresentation(NamedTuple):
    """A way to hold distributions. Every function works on any leading axes, in the dtype of its inputs.

    Attributes:
        name: "categorical", "quantile" or "exact".
        size: the number of atoms of a distribution; None where it grows.
        reward_dim: the number m of components of the returns; None: any.
        deterministic: (returns [..., m]) -> the distributions of these deterministic returns.
        atoms: (distributions) -> Atoms.
        flat_atoms: (distributions) -> Atoms in one axis [N], for `look_ahead`; [1, n, m] values where all
            distributions share them.
        project: (values [..., k, m], probabilities [..., k]) -> (distributions, outside [...]). `outside` is
            the mass beyond the support, which projection clamps to the edge of the support.
        wasserstein: (distributions, distributions) -> [...], the 1-Wasserstein distance; for m > 1 an upper
            bound of it.
        cramer: (distributions, distributions) -> [...], the l2 distance of cumulative distribution functions;
            for m > 1 of those along the lexicographic order.
        prepare: (rewards [S, A, K, m], γ) -> the tables that `backup` needs, made once for many sweeps.
        backup: (distributions [N], tables, Successors) -> (distributions [S, C], outside [S, C]): the
            projected distribution of r + γ G'.
    """

    name: str
    size: int | None
    reward_dim: int | None
    deterministic: Callable[[Array], ReturnDistributions]
    atoms: Callable[[ReturnDistributions], Atoms]
    flat_atoms: Callable[[ReturnDistributions], Atoms]
    project: Callable[[Array, Array], tuple[ReturnDistributions, Array]]
    wasserstein: Callable[[ReturnDistributions, ReturnDistributions], Array]
    cramer: Callable[[ReturnDistributions, ReturnDistributions], Array]
    prepare: Callable[[Array, float], Any] = _not_implemented
    backup: Callable[[ReturnDistributions, Any, Successors], tuple[ReturnDistributions, Array]] = (
        _not_implemented
    )


def flatten_atoms(atoms: Atoms) -> Atoms:
    """Atoms [...] as atoms [N]."""
    values, probabilities = atoms
    return Atoms(
        values=values.reshape(-1, *values.shape[-2:]),
        probabilities=probabilities.reshape(-1, probabilities.shape[-1]),
    )


def look_ahead(atoms: Atoms, rewards: Any, discount: float, indices: Any, weights: Any) -> Atoms:
    """The distribution of r + γ G' before projection.

    Args:
        atoms: [N], of the returns G' that may follow, as `flat_atoms` of a representation gives them.
        rewards: [..., K, m].
        discount: γ.
        indices: [..., K, J] int32, among the N.
        weights: [..., K, J], probabilities.

    Returns:
        [...], with K J n atoms. Where all distributions share their values there are K n atoms, and the
        values have the leading axes of rewards.
    """
    if len(atoms.values) == 1:
        neighbours = range(indices.shape[-1])
        values = rewards[..., None, :] + discount * jnp.expand_dims(atoms.values[0], range(rewards.ndim - 1))
        rows = (weights[..., j, None] * atoms.probabilities[indices[..., j]] for j in neighbours)
        probabilities = functools.reduce(jnp.add, rows)
    else:
        values = rewards[..., None, None, :] + discount * atoms.values[indices]
        probabilities = weights[..., None] * atoms.probabilities[indices]
    dim = rewards.shape[-1]
    leading = values.shape[: rewards.ndim - 2]
    return Atoms(
        values=values.reshape(*leading, -1, dim),
        probabilities=probabilities.reshape(*indices.shape[:-2], -1),
    )


def map_states(function: Callable[[Any], Any], states: Any, size: int) -> Any:
    """A function of each state, [S, ...] to [S, ...].

    CPUs work on one state after the other, whose numbers fit in their caches. Accelerators, which would wait
    for every single state, work on as many as fit in memory.

    Args:
        function: of one state.
        states: arrays [S, ...].
        size: the number of numbers that the function makes of one state.
    """
    batch = 1 if jax.default_backend() == "cpu" else max(1, _MAX_BATCH // size)
    return jax.lax.map(function, states, batch_size=None if batch == 1 else batch)


def with_projected_backups(representation: DistributionRepresentation) -> DistributionRepresentation:
    """Adds backups that move all atoms and project them.

    Use it where a representation has no faster backup.

    Args:
        representation: without backups.

    Returns:
        The same representation with backups.
    """

    def backup(
        distributions: ReturnDistributions, tables: tuple[Array, float], successors: Successors
    ) -> tuple[ReturnDistributions, Array]:
        rewards, discount = tables
        atoms = representation.flat_atoms(distributions)

        def of_state(state):
            rewards, indices, weights, actions = state
            indices, weights = jnp.moveaxis(indices, -1, 0), jnp.moveaxis(weights, -1, 0)
            return representation.project(*look_ahead(atoms, rewards[actions], discount, indices, weights))

        size = successors.indices[0].size * atoms.values.shape[-2]
        return map_states(of_state, (rewards, *successors), size)

    return representation._replace(prepare=lambda rewards, discount: (rewards, discount), backup=backup)


def merge_equal_atoms(atoms: Atoms) -> Atoms:
    """Merges equal atoms, and keeps as many as the distribution with most atoms needs; on the host.

    Args:
        atoms: [...], n atoms each.

    Returns:
        [...], at most n + 1 atoms each. Atoms that differ by rounding alone count as equal.
    """
    values, probabilities = np.asarray(atoms.values), np.asarray(atoms.probabilities)
    *leading, count, dim = values.shape
    probabilities = probabilities.reshape(-1, count)
    points = values.reshape(-1, dim)
    # Numbers that differ in the last few digits alone get the same rank.
    apart = 1024 * np.finfo(values.dtype).eps * max(1.0, np.abs(points).max())
    keys = np.zeros(len(points), int)
    for component in points.T:
        distinct, index = np.unique(component, return_inverse=True)
        ranks = np.append(0, np.cumsum(np.diff(distinct) > apart))
        keys = keys * len(ranks) + ranks[index]
    keys = np.where(probabilities > 0, keys.reshape(-1, count), -1)
    order = np.argsort(keys, axis=1, kind="stable")
    keys = np.take_along_axis(keys, order, 1)
    groups = np.cumsum(np.diff(keys, axis=1, prepend=keys[:, :1]) > 0, axis=1)
    rows = np.arange(len(keys))[:, None]
    merged = np.zeros((len(keys), int(groups.max()) + 1), probabilities.dtype)
    np.add.at(merged, (rows, groups), np.take_along_axis(probabilities, order, 1))
    kept = np.zeros((*merged.shape, dim), values.dtype)
    kept[rows, groups] = values.reshape(-1, count, dim)[rows, order]
    return Atoms(
        values=kept.reshape(*leading, -1, dim),
        probabilities=merged.reshape(*leading, -1),
    )
