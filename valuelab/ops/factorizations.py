"""Matrix factorisations that run one after another, even under `jax.vmap`.

On CPUs, jaxlib 0.10 gives the matrices of a batch to a pool with one thread for each core, and waits for them
inside one of these threads. If as many batches wait as there are threads (on two cores: the weights of two
layers of an ensemble), no thread is left to do the work and the program hangs.
"""

import jax
import jax.numpy as jnp

from valuelab.types import Array, Key


def orthogonal(key: Key, shape: tuple[int, int], dtype: jnp.dtype = jnp.float32) -> Array:
    """A random matrix with orthonormal rows or columns, whichever are fewer; an initializer for flax.

    Args:
        key: random key.
        shape: numbers of rows and columns.
        dtype: the dtype of the matrix.

    Returns:
        [rows, columns].
    """
    draw = jax.nn.initializers.orthogonal()
    return jax.custom_batching.sequential_vmap(lambda key: draw(key, shape, dtype))(key)


def relu_orthogonal(key: Key, shape: tuple[int, int], dtype: jnp.dtype = jnp.float32) -> Array:
    """√2 times `orthogonal`: relu units then keep the size of their inputs; an initializer for flax."""
    return jnp.sqrt(jnp.asarray(2, dtype)) * orthogonal(key, shape, dtype)


@jax.custom_batching.sequential_vmap
def singular_values(matrix: Array) -> Array:
    """The singular values of a matrix [N, D] in descending order, [min(N, D)]."""
    return jnp.linalg.svd(matrix, compute_uv=False)


@jax.custom_batching.sequential_vmap
def singular_vectors(matrix: Array) -> tuple[Array, Array, Array]:
    """U, σ and Vᵀ of a matrix [N, D] = U diag(σ) Vᵀ, with K = min(N, D): [N, K], [K] and [K, D]."""
    return tuple(jnp.linalg.svd(matrix, full_matrices=False))  # type: ignore[return-value]


@jax.custom_batching.sequential_vmap
def eigenvalues(matrix: Array) -> Array:
    """The eigenvalues of a symmetric matrix [D, D] in descending order, [D]."""
    return jnp.linalg.eigvalsh(matrix)[::-1]


@jax.custom_batching.sequential_vmap
def symmetric_pseudoinverse(matrix: Array) -> Array:
    """The pseudoinverse of a symmetric matrix [D, D]; eigenvalues below 1e-6 of the largest count as 0."""
    return jnp.linalg.pinv(matrix, rtol=1e-6, hermitian=True)


@jax.custom_batching.sequential_vmap
def solve(matrix: Array, right: Array) -> Array:
    """X [D, N] with A X = B, for a square matrix A [D, D] and B [D, N]."""
    return jnp.linalg.solve(matrix, right)
