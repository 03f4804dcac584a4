"""Maths of zero-shot agents: losses of features and successor measures, and inference of tasks.

A task is a vector z that stands for a reward. Encodings and tasks lie on the sphere of radius √d, so
that their components have the same scale for every d.
"""

import chex
import jax
import jax.numpy as jnp

from valuelab.ops.factorizations import solve, symmetric_pseudoinverse
from valuelab.types import Array, Key


def on_sphere(vectors: Array) -> Array:
    """√d x / ‖x‖ along the last axis, of length d; 0 stays 0, with gradient 0.

    Args:
        vectors: [..., d].

    Returns:
        [..., d].
    """
    squares = jnp.sum(jnp.square(vectors), axis=-1, keepdims=True)
    # The maximum keeps the gradient finite at 0.
    return vectors * jnp.sqrt(vectors.shape[-1] / jnp.maximum(squares, 1e-12))


def uniform_tasks(key: Key, count: int, dim: int) -> Array:
    """Tasks drawn uniformly from the sphere of radius √d, [count, d]."""
    return on_sphere(jax.random.normal(key, (count, dim)))


def mixed_tasks(key: Key, goals: Array, goal_share: Array | float) -> Array:
    """Tasks of which a random share is to reach a goal; the others are uniform on the sphere.

    Args:
        key: random key.
        goals: [B, d], encodings of goals, of any length.
        goal_share: probability in [0, 1] that a task is to reach its goal.

    Returns:
        [B, d], on the sphere.

    Source: Touati, Rapin, Ollivier 2023 (arXiv:2209.14935).
    """
    chex.assert_rank(goals, 2)
    choice_key, uniform_key = jax.random.split(key)
    of_goal = jax.random.uniform(choice_key, (len(goals), 1)) < goal_share
    return jnp.where(of_goal, on_sphere(goals), uniform_tasks(uniform_key, *goals.shape))


def whitened(vectors: Array, moment: Array) -> Array:
    """Vectors times the inverse of a second moment: x (C + 1e-6 I)⁻¹.

    If C is the second moment of ψ in the data and x = ψ(g), the result has the direction of the task that
    least squares infers from the reward of being at g.

    Args:
        vectors: x, [B, d].
        moment: C, [d, d].

    Returns:
        [B, d].

    Source: the code of Bagatella et al. 2025 (arXiv:2510.00739).
    """
    return solve(moment + 1e-6 * jnp.eye(len(moment)), vectors.T).T


def orthonormality_loss(features: Array) -> Array:
    """The distance between the second moment of features and the identity, up to a constant.

        L = ½ mean_{i≠j} (φ_iᵀφ_j)² - mean_i φ_iᵀφ_i

    Its expectation is ½ ‖E φφᵀ - I‖² - d/2, which is least where E φφᵀ = I. It prevents features from
    collapsing to a single vector.

    Args:
        features: [B, d] of B > 1 independent draws.

    Returns:
        A scalar.

    Source: Touati, Ollivier 2021 (arXiv:2103.07945), where it regularises B.
    """
    chex.assert_rank(features, 2)
    own = jnp.sum(jnp.square(features), axis=-1)  # φ_iᵀφ_i
    count = len(features)
    # ‖ΦΦᵀ‖ = ‖ΦᵀΦ‖, and the latter product is smaller: [d, d], not [B, B].
    others = jnp.sum(jnp.square(features.T @ features)) - jnp.sum(jnp.square(own))
    return 0.5 * others / (count * (count - 1)) - jnp.sum(own) / count


def successor_measure_loss(measures: Array, next_measures: Array, discounts: Array) -> Array:
    """The temporal-difference loss of the density of future states, at the B successors of a batch.

        L = ½ mean_{i≠j} (M_ij - γ_i M̄_ij)² - mean_i M_ii

    M_ij estimates the discounted density, relative to the data, of reaching the successor of transition j
    after transition i.

    Args:
        measures: [B, B], M_ij = F(s_i, a_i)ᵀB(s'_j).
        next_measures: [B, B], M̄_ij = F̄(s'_i, a'_i)ᵀB̄(s'_j), stop-gradiented.
        discounts: [B], γ, or 0 where the episode ended.

    Returns:
        A scalar.

    Source: Touati, Ollivier 2021 (arXiv:2103.07945), algorithm 1.
    """
    chex.assert_rank([measures, next_measures, discounts], [2, 2, 1])
    differences = measures - discounts[:, None] * jax.lax.stop_gradient(next_measures)
    count = len(measures)
    own = jnp.eye(count, dtype=bool)  # a mask: the gradient of a diagonal that is read is a scatter
    squares = jnp.sum(jnp.square(jnp.where(own, 0, differences)))
    return 0.5 * squares / (count * (count - 1)) - jnp.sum(jnp.where(own, measures, 0)) / count


def squared_distance(predictions: Array, targets: Array) -> Array:
    """The squared error of E ensemble members, summed over d and averaged over members and batch.

    Args:
        predictions: [E, B, d].
        targets: [B, d], stop-gradiented.

    Returns:
        A scalar.
    """
    chex.assert_rank([predictions, targets], [3, 2])
    errors = predictions - jax.lax.stop_gradient(targets)[None]
    return jnp.mean(jnp.sum(jnp.square(errors), axis=-1))


def pessimistic(estimates: Array, pessimism: Array | float) -> Array:
    """The mean of an ensemble's estimates minus their mean distance.

        mean_e x_e - λ mean_{e<e'} |x_e - x_e'|

    Args:
        estimates: x, [E, ...].
        pessimism: λ; with E = 2 and λ = 0.5 the result is the minimum.

    Returns:
        [...]; the mean alone if E = 1.
    """
    count = len(estimates)
    mean = jnp.mean(estimates, axis=0)
    if count == 1 or is_zero(pessimism):
        return mean
    gaps = jnp.sum(jnp.abs(estimates[:, None] - estimates[None]), axis=(0, 1)) / (count * (count - 1))
    return mean - pessimism * gaps


def is_zero(value: Array | float) -> bool:
    """Whether a setting is the number 0, and not a traced array: then its term adds no computation."""
    return isinstance(value, int | float) and value == 0


def pessimistic_along(estimates: Array, tasks: Array, pessimism: Array | float) -> Array:
    """The mean of an ensemble's vectors, shifted along z so that its product with z is pessimistic.

        y = F̄ - λ mean_{e<e'} |(F_e - F_e')ᵀz| z / ‖z‖²,   so that yᵀz = pessimistic(F_eᵀz)

    Pessimism in each component separately would lower every component, whatever its sign in z.

    Args:
        estimates: F_e, [E, B, d].
        tasks: z, [B, d]; the mean is not shifted where z = 0.
        pessimism: λ.

    Returns:
        [B, d].
    """
    chex.assert_rank([estimates, tasks], [3, 2])
    mean = jnp.mean(estimates, axis=0)
    if is_zero(pessimism):
        return mean
    values = jnp.sum(estimates * tasks[None], axis=-1)
    shortfall = jnp.sum(mean * tasks, axis=-1) - pessimistic(values, pessimism)
    squares = jnp.sum(jnp.square(tasks), axis=-1, keepdims=True)
    return mean - shortfall[:, None] * tasks / jnp.maximum(squares, 1e-12)


def mean_tasks(features: Array, rewards: Array) -> Array:
    """The tasks of forward-backward representations for given rewards of N states.

        z = E[r(s) B(s)],   scaled to the sphere

    M(s, a; s') = F(s, a)ᵀB(s') is the density of future states relative to the data. So for every B

        Q(s, a) = E[M(s, a; s') r(s')] = F(s, a)ᵀ E[r(s') B(s')],   s' from the data

    Least squares has the same direction only if the second moment of B is a multiple of the identity.

    Args:
        features: B, [N, d], of states drawn from the data.
        rewards: r, [T, N], for T tasks.

    Returns:
        [T, d], on the sphere.

    Source: Touati, Ollivier 2021 (arXiv:2103.07945).
    """
    chex.assert_rank([features, rewards], 2)
    return on_sphere(rewards @ features / len(features))


def infer_tasks(features: Array, rewards: Array) -> Array:
    """The tasks whose rewards ψ(s)ᵀz are nearest to given rewards of N states: least squares.

        z = argmin_z Σ_n (ψ(s_n)ᵀz - r_n)²,   scaled to the sphere

    It is exact, up to its length, if rewards are in the span of the features. If there are several solutions
    it is the shortest.

    Args:
        features: ψ, [N, d].
        rewards: r, [T, N], for T tasks.

    Returns:
        [T, d], on the sphere.

    Source: Bagatella et al. 2025 (arXiv:2510.00739).
    """
    chex.assert_rank([features, rewards], 2)
    moments = features.T @ features / len(features)
    products = features.T @ rewards.T / len(features)
    # The matrix is d x d, because N is large. The result is 0 in directions without features.
    return on_sphere((symmetric_pseudoinverse(moments) @ products).T)
