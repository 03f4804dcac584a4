"""How return distributions are held: categorical, quantile, or exact finite mixtures of atoms.

Each is a `laws.Representation`: a few functions on arrays of laws.
"""

import functools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from valuelab.distributional import cells, stocks
from valuelab.distributional.laws import Atoms, Representation, by_projection, in_one_axis
from valuelab.errors import InputError
from valuelab.types import Array


def categorical(*supports: Sequence[float] | np.ndarray) -> Representation:
    """Probabilities of the points of a fixed support.

    Projection splits every atom among its neighbours in proportion to nearness: it keeps the mass, and the
    mean of what lies inside. Source: Bellemare et al. (2023), chapter 5, and for m > 1 its product.

    Args:
        *supports: for each of the m components, the strictly rising points; the support is their product.

    Returns:
        The representation; laws are [..., n], cumulative probabilities for m = 1 and probabilities else.

    Raises:
        InputError: when points do not rise, are not finite or are fewer than two.
    """
    grid = stocks.from_points(*supports, name="support")
    for dimension, points in enumerate(grid.points):
        if len(points) < 2:
            raise InputError(f"support, dimension {dimension}: 1 point; give at least 2")
    return _product(grid) if len(supports) > 1 else _cumulative(grid)


def _cumulative(grid: stocks.StockGrid) -> Representation:
    """Categorical for m = 1: the numbers of `_product`, summed up."""
    points, widths = grid.points[0], np.diff(grid.points[0])
    product = _product(grid)

    def project(values: Array, probabilities: Array) -> tuple[Array, Array]:
        laws, outside = product.project(values, probabilities)
        return jnp.cumsum(laws, axis=-1), outside

    def atoms(laws: Array) -> Atoms:
        # Rounding may leave sums that do not rise.
        return product.atoms(jnp.maximum(jnp.diff(laws, axis=-1, prepend=jnp.zeros_like(laws[..., :1])), 0))

    def known(laws: Array) -> Atoms:
        return product.known(atoms(laws).probabilities)

    def distance(order: int, first: Array, second: Array) -> Array:
        flow = jnp.abs(first - second)[..., :-1] ** order
        return (flow @ jnp.asarray(widths, first.dtype)) ** (1 / order)

    return product._replace(
        law_of=lambda values: jnp.cumsum(product.law_of(values), axis=-1),
        atoms=atoms,
        known=known,
        project=project,
        wasserstein=functools.partial(distance, 1),
        cramer=functools.partial(distance, 2),
        plan=functools.partial(cells.plan, points),
        backup=cells.backup,
    )


def _product(grid: stocks.StockGrid) -> Representation:
    """Categorical for any m, held as probabilities."""
    dim = len(grid.points)
    support = np.stack([axis.ravel() for axis in np.meshgrid(*grid.points, indexing="ij")], axis=-1)

    def project(values: Array, probabilities: Array) -> tuple[Array, Array]:
        indices, weights, outside = stocks.neighbours(grid, values)
        # All laws as one array: XLA scatters into that fastest, several times so.
        rows = probabilities.shape[:-1]
        first = grid.size * jnp.arange(math.prod(rows), dtype=jnp.int32).reshape(*rows, 1)
        laws = jnp.zeros(math.prod(rows) * grid.size, probabilities.dtype)
        for index, weight in zip(indices, weights, strict=True):
            laws = laws.at[(first + index).ravel()].add(
                (probabilities * weight).ravel(), mode="promise_in_bounds"
            )
        return laws.reshape(*rows, grid.size), (probabilities * outside).sum(-1)

    def atoms(laws: Array) -> Atoms:
        return Atoms(jnp.broadcast_to(jnp.asarray(support, laws.dtype), (*laws.shape, dim)), laws)

    def known(laws: Array) -> Atoms:
        return Atoms(jnp.asarray(support, laws.dtype)[None], laws.reshape(-1, grid.size))

    def distance(order: int, first: Array, second: Array) -> Array:
        return _path_distance(jnp.asarray(support, first.dtype), first - second, order)

    return by_projection(
        Representation(
            name="categorical",
            size=grid.size,
            reward_dim=dim,
            law_of=lambda values: project(values[..., None, :], jnp.ones_like(values[..., :1]))[0],
            atoms=atoms,
            known=known,
            project=project,
            wasserstein=functools.partial(distance, 1),
            cramer=functools.partial(distance, 2),
        )
    )


@functools.cache
def quantile(size: int) -> Representation:
    """The midpoint quantiles, at levels (2i - 1) / 2n for i = 1..n; laws are [..., n], rising.

    Projection takes the atoms' quantiles, which is nearest in the 1-Wasserstein distance. Source: Dabney et
    al. (2018), Lemma 2. m = 1.

    Args:
        size: n.

    Returns:
        The representation.

    Raises:
        InputError: when n is less than 1.
    """
    if size < 1:
        raise InputError(f"quantile representation: {size} atoms; give at least 1")
    levels = (np.arange(size) + 0.5) / size

    def project(values: Array, probabilities: Array) -> tuple[Array, Array]:
        values, probabilities = _sorted(values, probabilities)
        cumulative = jnp.cumsum(probabilities, axis=-1)
        search = functools.partial(jnp.searchsorted, v=jnp.asarray(levels, values.dtype))
        shape = cumulative.shape
        places = jax.vmap(search)(cumulative.reshape(-1, shape[-1])).reshape(*shape[:-1], size)
        laws = jnp.take_along_axis(values[..., 0], jnp.minimum(places, shape[-1] - 1), axis=-1)
        return laws, jnp.zeros(shape[:-1], values.dtype)

    def atoms(laws: Array) -> Atoms:
        return Atoms(laws[..., None], jnp.full_like(laws, 1 / size))

    return by_projection(
        Representation(
            name="quantile",
            size=size,
            reward_dim=1,
            law_of=lambda values: jnp.broadcast_to(values, (*values.shape[:-1], size)),
            atoms=atoms,
            known=lambda laws: in_one_axis(atoms(laws)),
            project=project,
            wasserstein=lambda first, second: jnp.abs(first - second).mean(-1),
            cramer=lambda first, second: _atoms_distance(2, atoms(first), atoms(second)),
        )
    )


@functools.cache
def exact() -> Representation:
    """All atoms as they are: nothing is lost, and laws grow with every step; for small finite horizons.

    Returns:
        The representation; its laws are `Atoms`.
    """

    def project(values: Array, probabilities: Array) -> tuple[Atoms, Array]:
        return Atoms(values, probabilities), jnp.zeros(probabilities.shape[:-1], values.dtype)

    def atoms(laws: Atoms) -> Atoms:
        return laws

    return by_projection(
        Representation(
            name="exact",
            size=None,
            reward_dim=None,
            law_of=lambda values: Atoms(values[..., None, :], jnp.ones_like(values[..., :1])),
            atoms=atoms,
            known=lambda laws: in_one_axis(atoms(laws)),
            project=project,
            wasserstein=functools.partial(_atoms_distance, 1),
            cramer=functools.partial(_atoms_distance, 2),
        )
    )


def _sorted(values: Array, probabilities: Array) -> tuple[Array, Array]:
    """Atoms in lexicographic order."""
    dim = values.shape[-1]
    columns = [values[..., component] for component in range(dim)]
    *columns, probabilities = jax.lax.sort([*columns, probabilities], num_keys=dim)
    return jnp.stack(columns, axis=-1), probabilities


def _atoms_distance(order: int, first: Atoms, second: Atoms) -> Array:
    values = jnp.concatenate([first.values, second.values], axis=-2)
    difference = jnp.concatenate([first.probabilities, -second.probabilities], axis=-1)
    return _path_distance(*_sorted(values, difference), order)


def _path_distance(values: Array, difference: Array, order: int) -> Array:
    """A distance of two laws on common atoms, by carrying mass along the path through all atoms.

        (sum over i of |F(x_i) - F'(x_i)|^p · ||x_{i+1} - x_i||)^(1/p)

    For m = 1 this is the 1-Wasserstein distance (p = 1) or the Cramér distance (p = 2). For m > 1 carrying
    mass along a path is one plan of transport among others, so p = 1 gives an upper bound.

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
