"""Representations of return distributions: categorical, quantile, or exact finite mixtures of atoms.

Each is a `return_distributions.DistributionRepresentation`: a few functions on arrays of distributions.
"""

import functools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from valuelab.distributional import cells, stock_grids
from valuelab.distributional.return_distributions import (
    Atoms,
    DistributionRepresentation,
    flatten_atoms,
    with_projected_backups,
)
from valuelab.errors import InputError
from valuelab.types import Array


def categorical(*supports: Sequence[float] | np.ndarray) -> DistributionRepresentation:
    """Probabilities of the points of a fixed support.

    Projection splits every atom among the neighbouring points, linearly in the distance. It keeps the mass,
    and the mean of atoms inside the support. Source: Bellemare et al. (2023), chapter 5; for m > 1 its
    product.

    Args:
        *supports: the strictly rising points of each of the m components; the support is their product.

    Returns:
        The representation. Distributions are [..., n]: cumulative probabilities for m = 1, else
        probabilities.

    Raises:
        InputError: when points do not rise, are not finite or are fewer than two.
    """
    grid = stock_grids.from_points(*supports, name="support")
    for dimension, points in enumerate(grid.points):
        if len(points) < 2:
            raise InputError(f"support, dimension {dimension} has 1 point; give at least 2")
    return _product(grid) if len(supports) > 1 else _cumulative(grid)


def _cumulative(grid: stock_grids.StockGrid) -> DistributionRepresentation:
    """The categorical representation for m = 1: cumulative sums of the probabilities of `_product`."""
    points, widths = grid.points[0], np.diff(grid.points[0])
    product = _product(grid)

    def project(values: Array, probabilities: Array) -> tuple[Array, Array]:
        distributions, outside = product.project(values, probabilities)
        return jnp.cumsum(distributions, axis=-1), outside

    def atoms(distributions: Array) -> Atoms:
        # By rounding, cumulative sums may decrease a little.
        steps = jnp.diff(distributions, axis=-1, prepend=jnp.zeros_like(distributions[..., :1]))
        return product.atoms(jnp.maximum(steps, 0))

    def flat_atoms(distributions: Array) -> Atoms:
        return product.flat_atoms(atoms(distributions).probabilities)

    def distance(order: int, first: Array, second: Array) -> Array:
        flow = jnp.abs(first - second)[..., :-1] ** order
        return (flow @ jnp.asarray(widths, first.dtype)) ** (1 / order)

    return product._replace(
        deterministic=lambda values: jnp.cumsum(product.deterministic(values), axis=-1),
        atoms=atoms,
        flat_atoms=flat_atoms,
        project=project,
        wasserstein=functools.partial(distance, 1),
        cramer=functools.partial(distance, 2),
        prepare=functools.partial(cells.make_cells, points),
        backup=cells.backup,
    )


def _product(grid: stock_grids.StockGrid) -> DistributionRepresentation:
    """The categorical representation for any m, held as probabilities."""
    dim = len(grid.points)
    support = np.stack([axis.ravel() for axis in np.meshgrid(*grid.points, indexing="ij")], axis=-1)

    def project(values: Array, probabilities: Array) -> tuple[Array, Array]:
        indices, weights, outside = stock_grids.neighbours(grid, values)
        # XLA scatters several times faster into one flat array of all distributions.
        rows = probabilities.shape[:-1]
        first = grid.size * jnp.arange(math.prod(rows), dtype=jnp.int32).reshape(*rows, 1)
        distributions = jnp.zeros(math.prod(rows) * grid.size, probabilities.dtype)
        for index, weight in zip(indices, weights, strict=True):
            distributions = distributions.at[(first + index).ravel()].add(
                (probabilities * weight).ravel(), mode="promise_in_bounds"
            )
        return distributions.reshape(*rows, grid.size), (probabilities * outside).sum(-1)

    def atoms(distributions: Array) -> Atoms:
        values = jnp.broadcast_to(jnp.asarray(support, distributions.dtype), (*distributions.shape, dim))
        return Atoms(values=values, probabilities=distributions)

    def flat_atoms(distributions: Array) -> Atoms:
        return Atoms(
            values=jnp.asarray(support, distributions.dtype)[None],
            probabilities=distributions.reshape(-1, grid.size),
        )

    def distance(order: int, first: Array, second: Array) -> Array:
        return _path_distance(jnp.asarray(support, first.dtype), first - second, order)

    return with_projected_backups(
        DistributionRepresentation(
            name="categorical",
            size=grid.size,
            reward_dim=dim,
            deterministic=lambda values: project(values[..., None, :], jnp.ones_like(values[..., :1]))[0],
            atoms=atoms,
            flat_atoms=flat_atoms,
            project=project,
            wasserstein=functools.partial(distance, 1),
            cramer=functools.partial(distance, 2),
        )
    )


@functools.cache
def quantile(size: int) -> DistributionRepresentation:
    """The midpoint quantiles, at levels (2i - 1) / 2n for i = 1..n, for m = 1.

    Distributions are [..., n], rising. Projection takes the quantiles of the atoms, which minimises the
    1-Wasserstein distance. Source: Dabney et al. (2018), Lemma 2.

    Args:
        size: n.

    Returns:
        The representation.

    Raises:
        InputError: when n is less than 1.
    """
    if size < 1:
        raise InputError(f"a quantile representation with {size} atoms is not possible; give at least 1")
    levels = (np.arange(size) + 0.5) / size

    def project(values: Array, probabilities: Array) -> tuple[Array, Array]:
        values, probabilities = _sorted(values, probabilities)
        cumulative = jnp.cumsum(probabilities, axis=-1)
        search = functools.partial(jnp.searchsorted, v=jnp.asarray(levels, values.dtype))
        shape = cumulative.shape
        indices = jax.vmap(search)(cumulative.reshape(-1, shape[-1])).reshape(*shape[:-1], size)
        distributions = jnp.take_along_axis(values[..., 0], jnp.minimum(indices, shape[-1] - 1), axis=-1)
        return distributions, jnp.zeros(shape[:-1], values.dtype)

    def atoms(distributions: Array) -> Atoms:
        return Atoms(values=distributions[..., None], probabilities=jnp.full_like(distributions, 1 / size))

    return with_projected_backups(
        DistributionRepresentation(
            name="quantile",
            size=size,
            reward_dim=1,
            deterministic=lambda values: jnp.broadcast_to(values, (*values.shape[:-1], size)),
            atoms=atoms,
            flat_atoms=lambda distributions: flatten_atoms(atoms(distributions)),
            project=project,
            wasserstein=lambda first, second: jnp.abs(first - second).mean(-1),
            cramer=lambda first, second: _atoms_distance(2, atoms(first), atoms(second)),
        )
    )


@functools.cache
def exact() -> DistributionRepresentation:
    """All atoms, without projection. Distributions grow with every step: for small finite horizons.

    Returns:
        The representation. Its distributions are `Atoms`.
    """

    def project(values: Array, probabilities: Array) -> tuple[Atoms, Array]:
        atoms = Atoms(values=values, probabilities=probabilities)
        return atoms, jnp.zeros(probabilities.shape[:-1], values.dtype)

    def atoms(distributions: Atoms) -> Atoms:
        return distributions

    return with_projected_backups(
        DistributionRepresentation(
            name="exact",
            size=None,
            reward_dim=None,
            deterministic=lambda values: Atoms(
                values=values[..., None, :], probabilities=jnp.ones_like(values[..., :1])
            ),
            atoms=atoms,
            flat_atoms=lambda distributions: flatten_atoms(atoms(distributions)),
            project=project,
            wasserstein=functools.partial(_atoms_distance, 1),
            cramer=functools.partial(_atoms_distance, 2),
        )
    )


def _sorted(values: Array, probabilities: Array) -> tuple[Array, Array]:
    """The atoms in lexicographic order of their values."""
    dim = values.shape[-1]
    columns = [values[..., component] for component in range(dim)]
    *columns, probabilities = jax.lax.sort([*columns, probabilities], num_keys=dim)
    return jnp.stack(columns, axis=-1), probabilities


def _atoms_distance(order: int, first: Atoms, second: Atoms) -> Array:
    """The `_path_distance` of two distributions whose atoms may differ."""
    values = jnp.concatenate([first.values, second.values], axis=-2)
    difference = jnp.concatenate([first.probabilities, -second.probabilities], axis=-1)
    return _path_distance(*_sorted(values, difference), order)


def _path_distance(values: Array, difference: Array, order: int) -> Array:
    """A distance of two distributions on common atoms: mass is moved along the path through all atoms.

        (sum over i of |F(x_i) - F'(x_i)|^p · ||x_{i+1} - x_i||)^(1/p)

    For m = 1 this is the 1-Wasserstein distance (p = 1) or the Cramér distance (p = 2). For m > 1 moving mass
    along a path is one transport plan among others, so p = 1 gives an upper bound.

    Args:
        values: [..., n, m] or [n, m], in lexicographic order.
        difference: [..., n], the difference of the probabilities.
        order: p.

    Returns:
        [...].
    """
    flow = jnp.abs(jnp.cumsum(difference, axis=-1)[..., :-1])
    step = jnp.linalg.norm(jnp.diff(values, axis=-2), axis=-1)
    return (flow**order * jnp.broadcast_to(step, flow.shape)).sum(-1) ** (1 / order)
