"""Tests of factorisations under vmap: they are right and never batched, which could hang jaxlib."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from valuelab.ops import factorizations

MATRICES = jax.random.normal(jax.random.key(0), (2, 3, 6, 4))
SYMMETRIC = MATRICES @ MATRICES.mT
OF_MATRICES = {
    "singular_values": (factorizations.singular_values, MATRICES),
    "singular_vectors": (factorizations.singular_vectors, MATRICES),
    "eigenvalues": (factorizations.eigenvalues, SYMMETRIC),
    "symmetric_pseudoinverse": (factorizations.symmetric_pseudoinverse, SYMMETRIC),
    "solve": (
        lambda matrix: factorizations.solve(matrix, matrix[:, :2]),
        SYMMETRIC + jnp.eye(6)[None, None],
    ),
    "orthogonal": (
        lambda key: factorizations.orthogonal(key, (6, 4)),
        jax.random.split(jax.random.key(1), (2, 3)),
    ),
}


@pytest.mark.parametrize("name", OF_MATRICES)
def test_batches_are_done_one_matrix_after_the_other(name):
    function, batch = OF_MATRICES[name]
    batched = jax.jit(jax.vmap(jax.vmap(function)))
    calls = re.findall(
        r"custom_call @lapack_\w+\(.*?: \(tensor<([\dx]+)xf32>", batched.lower(batch).as_text()
    )
    assert calls
    assert all(shape.count("x") == 1 for shape in calls), calls
    for member, alone in zip(
        jax.tree.leaves(batched(batch)), jax.tree.leaves(function(batch[1, 2])), strict=True
    ):
        np.testing.assert_array_equal(member[1, 2], alone)


def test_orthogonal_matrices():
    for shape in ((6, 4), (4, 6), (5, 5)):
        matrix = factorizations.orthogonal(jax.random.key(0), shape)
        product = matrix.T @ matrix if shape[0] >= shape[1] else matrix @ matrix.T
        np.testing.assert_allclose(product, np.eye(min(shape)), atol=1e-5)


def test_what_is_factorised_comes_back():
    matrix, symmetric = MATRICES[0, 0], SYMMETRIC[0, 0]
    left, sizes, right = factorizations.singular_vectors(matrix)
    np.testing.assert_allclose(left * sizes[None] @ right, matrix, atol=1e-5)
    np.testing.assert_allclose(factorizations.singular_values(matrix), sizes, rtol=1e-5)
    # The greatest four eigenvalues of M Mᵀ are the squares of these; the other two are 0.
    expected = jnp.concatenate([jnp.square(sizes), jnp.zeros(2)])
    np.testing.assert_allclose(factorizations.eigenvalues(symmetric), expected, atol=1e-4)
    regular = symmetric + jnp.eye(6)
    np.testing.assert_allclose(factorizations.solve(regular, regular @ matrix), matrix, atol=1e-4)
    inverse = factorizations.symmetric_pseudoinverse(symmetric)
    np.testing.assert_allclose(symmetric @ inverse @ symmetric, symmetric, atol=1e-4)
