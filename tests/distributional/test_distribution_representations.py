"""Representations of return distributions: what projections keep, and distances of distributions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
import scipy.stats

from valuelab.distributional import distribution_representations, return_distributions
from valuelab.errors import InputError

EVEN = distribution_representations.categorical(np.linspace(-2, 2, 9))
UNEVEN = distribution_representations.categorical([-2.0, -1.0, 0.5, 0.75, 2.0])
PRODUCT = distribution_representations.categorical([-2.0, 0.0, 2.0], np.linspace(-2, 2, 5))
QUANTILE = distribution_representations.quantile(4)
EXACT = distribution_representations.exact()


def atoms(seed, count=6, dim=1, spread=1.9, leading=(3,)):
    """Random atoms, within [-spread, spread]."""
    random = np.random.default_rng(seed)
    values = random.uniform(-spread, spread, (*leading, count, dim))
    return values, random.dirichlet(np.ones(count), size=leading)


def project(representation, values, probabilities):
    """Distributions and outside mass; compiled once for each representation and shape."""
    return jax.jit(representation.project)(jnp.asarray(values), jnp.asarray(probabilities))


def of_row(distributions, row):
    """One of several distributions."""
    return jax.tree.map(lambda leaf: np.asarray(leaf[row]), distributions)


def exact_distance(first, second):
    """The 1-Wasserstein distance of two distributions in R^m, by linear programming."""
    costs = np.linalg.norm(first.values[:, None] - second.values[None], axis=-1)
    rows, columns = costs.shape
    sums = np.concatenate([np.kron(np.eye(rows), np.ones(columns)), np.kron(np.ones(rows), np.eye(columns))])
    given = np.concatenate([first.probabilities, second.probabilities])
    return scipy.optimize.linprog(costs.ravel(), A_eq=sums, b_eq=given).fun


def test_categorical_projection_splits_between_neighbours():
    # -0.3 lies 0.7 above -1 in a cell of length 1.5: shares 0.8 / 1.5 and 0.7 / 1.5. 5 is clamped.
    distributions, outside = project(UNEVEN, jnp.array([[-0.3], [5.0], [0.75]]), jnp.array([0.3, 0.5, 0.2]))
    values, probabilities = UNEVEN.atoms(distributions)
    np.testing.assert_array_equal(values[:, 0], [-2, -1, 0.5, 0.75, 2])
    np.testing.assert_allclose(probabilities, [0, 0.16, 0.14, 0.2, 0.5], atol=1e-6)
    assert float(outside) == 0.5
    certain = UNEVEN.atoms(UNEVEN.deterministic(jnp.array([0.5])))
    np.testing.assert_array_equal(certain.probabilities, [0, 0, 1, 0, 0])


@pytest.mark.parametrize(
    ("representation", "dim"), [(EVEN, 1), (UNEVEN, 1), (PRODUCT, 2)], ids=["even", "uneven", "product"]
)
def test_categorical_projection_keeps_mass_and_mean(representation, dim):
    with jax.enable_x64(True):
        values, probabilities = atoms(0, dim=dim)
        distributions, outside = project(representation, values, probabilities)
        assert distributions.shape == (3, representation.size)
        assert distributions.dtype == np.float64
        points, shares = representation.atoms(distributions)
        np.testing.assert_allclose(shares.sum(-1), 1, rtol=1e-12)
        np.testing.assert_allclose(
            (points * shares[..., None]).sum(-2), (values * probabilities[..., None]).sum(-2), atol=1e-12
        )
        np.testing.assert_array_equal(outside, 0)
        # Atoms outside are clamped, and their mass is returned.
        values, probabilities = atoms(1, dim=dim, spread=4)
        distributions, outside = project(representation, values, probabilities)
        np.testing.assert_allclose(representation.atoms(distributions).probabilities.sum(-1), 1, rtol=1e-12)
        beyond = (np.abs(values) > 2).any(-1)
        np.testing.assert_allclose(outside, (probabilities * beyond).sum(-1), rtol=1e-12)
        clamped, _ = project(representation, values.clip(-2, 2), probabilities)
        np.testing.assert_allclose(clamped, distributions, atol=1e-12)


def test_projection_of_a_projection_changes_nothing():
    for representation, dim in ((UNEVEN, 1), (PRODUCT, 2), (QUANTILE, 1)):
        values, probabilities = atoms(2, dim=dim)
        once, _ = project(representation, values, probabilities)
        twice, outside = project(representation, *representation.atoms(once))
        jax.tree.map(lambda one, two: np.testing.assert_allclose(one, two, atol=1e-6), once, twice)
        assert float(jnp.abs(outside).max()) == 0


def test_projection_works_under_vmap_and_keeps_float32():
    for representation, dim in ((EVEN, 1), (PRODUCT, 2), (QUANTILE, 1)):
        values, probabilities = atoms(3, dim=dim, leading=(2, 3))
        distributions, outside = project(representation, values, probabilities)
        assert (distributions.dtype, outside.dtype) == (np.float32, np.float32)
        assert outside.shape == (2, 3)
        mapped, _ = jax.jit(jax.vmap(jax.vmap(representation.project)))(
            *map(jnp.asarray, (values, probabilities))
        )
        np.testing.assert_allclose(mapped, distributions, atol=1e-7)


def test_integer_returns_stay_exact_on_integer_supports():
    representation = distribution_representations.categorical(np.arange(-300.0, 301.0))
    values = jnp.arange(-300.0, 301.0)[:, None]
    distributions = representation.atoms(jax.jit(representation.deterministic)(values))
    np.testing.assert_array_equal(distributions.probabilities, np.eye(601))


def test_quantiles_are_those_at_midpoints():
    # Levels 1/8, 3/8, 5/8, 7/8; the cumulative probabilities of the rising atoms are 0.2, 0.5, 0.6, 1.
    values = jnp.array([[3.0], [-1.0], [0.0], [1.0]])
    distributions, outside = project(QUANTILE, values, jnp.array([0.4, 0.2, 0.3, 0.1]))
    np.testing.assert_array_equal(distributions, [-1, 0, 3, 3])
    assert float(outside) == 0
    points, probabilities = QUANTILE.atoms(distributions)
    np.testing.assert_array_equal(points[:, 0], distributions)
    np.testing.assert_array_equal(probabilities, [0.25] * 4)
    np.testing.assert_array_equal(QUANTILE.deterministic(jnp.array([[2.0]])), [[2, 2, 2, 2]])


def test_quantile_projection_is_nearest():
    values, probabilities = atoms(4, count=8, leading=())
    distributions, _ = project(QUANTILE, values, probabilities)

    def distance(candidate):
        return scipy.stats.wasserstein_distance(candidate, values[:, 0], None, probabilities)

    others = np.asarray(distributions) + np.random.default_rng(0).normal(0, 0.2, (100, 4))
    assert distance(distributions) <= min(map(distance, others)) + 1e-6


def test_exact_distributions_are_their_atoms():
    distributions, outside = project(EXACT, jnp.array([[1.0], [0.0]]), jnp.array([0.25, 0.75]))
    np.testing.assert_array_equal(distributions.values, [[1], [0]])
    assert float(outside) == 0
    assert EXACT.atoms(distributions) is distributions
    np.testing.assert_array_equal(EXACT.deterministic(jnp.array([[1.0, 2.0]])).values, [[[1, 2]]])


@pytest.mark.parametrize(
    "representation", [UNEVEN, QUANTILE, EXACT], ids=["categorical", "quantile", "exact"]
)
def test_distances_for_one_component_are_exact(representation):
    first, second = (project(representation, *atoms(seed))[0] for seed in (5, 6))
    wasserstein, cramer = jax.jit(representation.wasserstein), jax.jit(representation.cramer)
    distances = zip(wasserstein(first, second), cramer(first, second), strict=True)
    for row, (transported, difference) in enumerate(distances):
        one, other = (representation.atoms(of_row(distributions, row)) for distributions in (first, second))
        arguments = (one.values[:, 0], other.values[:, 0], one.probabilities, other.probabilities)
        np.testing.assert_allclose(transported, scipy.stats.wasserstein_distance(*arguments), rtol=1e-5)
        # scipy's energy distance is sqrt(2) times the l2 distance of cumulative distribution functions.
        expected = scipy.stats.energy_distance(*arguments) / np.sqrt(2)
        np.testing.assert_allclose(difference, expected, rtol=1e-5)
    np.testing.assert_array_equal(wasserstein(first, first), 0)
    np.testing.assert_array_equal(cramer(first, first), 0)


def test_distances_for_several_components_are_upper_bounds():
    for representation in (PRODUCT, EXACT):
        first, second = (project(representation, *atoms(seed, dim=2))[0] for seed in (7, 8))
        wasserstein = jax.jit(representation.wasserstein)
        for row, bound in enumerate(wasserstein(first, second)):
            distributions = (
                representation.atoms(of_row(distributions, row)) for distributions in (first, second)
            )
            assert exact_distance(*distributions) <= bound + 1e-6
        np.testing.assert_array_equal(wasserstein(first, first), 0)
    # For two Dirac distributions the distances are exact.
    here, there = (EXACT.deterministic(jnp.array(value)) for value in ([0.0, 0.0], [3.0, 4.0]))
    assert float(EXACT.wasserstein(here, there)) == 5.0


def test_projections_converge_as_supports_grow():
    """The categorical projection is at most half a spacing away, the quantile one at most spread / 2n."""
    distribution = return_distributions.Atoms(*atoms(9, count=50, leading=()))
    for size in (11, 41):
        for representation, bound in (
            (distribution_representations.categorical(np.linspace(-2, 2, size)), 0.5 * 4 / (size - 1)),
            (distribution_representations.quantile(size), 3.8 / (2 * size)),
        ):
            values, probabilities = representation.atoms(project(representation, *distribution)[0])
            distance = scipy.stats.wasserstein_distance(
                values[:, 0], distribution.values[:, 0], probabilities, distribution.probabilities
            )
            assert distance <= bound + 1e-6


def test_invalid_representations_are_refused():
    with pytest.raises(InputError, match="support, dimension 1 has 1 point; give at least 2"):
        distribution_representations.categorical([0.0, 1.0], [0.0])
    with pytest.raises(
        InputError, match=r"support, dimension 0: point 1 is 0.0; points must be finite and rise"
    ):
        distribution_representations.categorical([1.0, 0.0])
    with pytest.raises(
        InputError, match="a quantile representation with 0 atoms is not possible; give at least 1"
    ):
        distribution_representations.quantile(0)
