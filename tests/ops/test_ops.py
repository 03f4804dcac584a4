"""Golden numbers and properties of the pure maths."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from valuelab.ops.advantage import advantage_weights
from valuelab.ops.expectile import expectile_loss
from valuelab.ops.returns import bootstrapped_target

expectiles = st.floats(0.0078125, 0.9921875, width=32)
numbers = st.lists(st.floats(-100, 100, width=32), min_size=1, max_size=20).map(np.float32)


def test_expectile_loss_golden():
    # τ = 0.9: u = 2 -> 0.9 · 4 = 3.6; u = -2 -> |0.9 - 1| · 4 = 0.4; u = 0 -> 0.
    np.testing.assert_allclose(expectile_loss(jnp.array([2.0, -2.0, 0.0]), 0.9), [3.6, 0.4, 0.0], rtol=1e-6)


def test_expectile_loss_gradient_golden():
    # dL/du = 2 |τ - 1(u < 0)| u: u = 3 -> 2 · 0.7 · 3 = 4.2; u = -3 -> 2 · 0.3 · -3 = -1.8.
    gradient = jax.vmap(jax.grad(lambda error: expectile_loss(error, 0.7)))(jnp.array([3.0, -3.0]))
    np.testing.assert_allclose(gradient, [4.2, -1.8], rtol=1e-6)


@given(numbers)
def test_expectile_one_half_is_half_the_square(errors):
    # XLA rounds numbers below 1e-38 to 0, numpy does not.
    np.testing.assert_allclose(expectile_loss(errors, 0.5), 0.5 * errors**2, rtol=1e-6, atol=1e-37)


@given(numbers, expectiles)
def test_expectile_loss_mirrors(errors, expectile):
    np.testing.assert_allclose(
        expectile_loss(errors, expectile),
        expectile_loss(-errors, 1 - np.float32(expectile)),
        rtol=1e-3,
        atol=1e-6,
    )


@pytest.mark.parametrize("expectile", [0.1, 0.5, 0.9])
def test_expectile_of_two_points(expectile):
    # The minimiser v of Σ L_τ(x - v) over x in {0, 1}: τ (1 - v) = (1 - τ) v, hence v = τ.
    loss = lambda value: jnp.sum(expectile_loss(jnp.array([0.0, 1.0]) - value, expectile))  # noqa: E731
    assert abs(jax.grad(loss)(expectile)) < 1e-6


def test_advantage_weights_golden():
    # β = 3: exp(0) = 1, exp(3 ln 2 / 3) = 2, exp(3 · 10) is bounded by 100.
    advantages = jnp.array([0.0, np.log(2) / 3, 10.0])
    np.testing.assert_allclose(advantage_weights(advantages, 3.0, 100.0), [1, 2, 100], rtol=1e-5)


def test_advantage_weights_of_huge_advantages_are_finite():
    weights, gradient = jax.value_and_grad(lambda a: advantage_weights(a, 10.0, 100.0).sum())(
        jnp.full(1, 1e30)
    )
    assert np.isfinite(weights)
    assert np.isfinite(gradient).all()


def test_bootstrapped_target_golden():
    # 1 + 0.9 · 1 · 10 = 10; at a true end 1 + 0.9 · 0 · 10 = 1.
    target = bootstrapped_target(jnp.ones(2), jnp.array([1.0, 0.0]), jnp.full(2, 10.0), 0.9)
    np.testing.assert_allclose(target, [10, 1], rtol=1e-6)


def test_shapes_are_checked():
    with pytest.raises(AssertionError):
        bootstrapped_target(jnp.ones(2), jnp.ones(3), jnp.ones(2), 0.9)
