"""Gumbel regression: equations in numpy, and the value that it leads to."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from valuelab.ops.gumbel import gumbel_loss


@pytest.mark.parametrize(("temperature", "shift"), [(0.5, 0.0), (2.0, 0.0), (1.0, -40.0), (0.1, 3.0)])
def test_loss_and_gradient_are_those_of_the_equations(temperature, shift):
    random = np.random.default_rng(0)
    errors = (random.normal(size=64) + shift).astype(np.float32)
    z = errors.astype(np.float64) / temperature
    kept = np.minimum(z, 7.0)
    scale = np.exp(-max(kept.max(), -1.0))
    loss = scale * (np.exp(kept) - kept - 1)
    slope = np.where(z < 7.0, scale * (np.exp(kept) - 1) / temperature, 0.0)
    np.testing.assert_allclose(gumbel_loss(errors, temperature, 7.0), loss, rtol=2e-5, atol=1e-6)
    gradient = jax.grad(lambda errors: jnp.sum(gumbel_loss(errors, temperature, 7.0)))(errors)
    np.testing.assert_allclose(gradient, slope, rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("temperature", [0.3, 1.0, 5.0])
def test_the_minimiser_is_a_log_sum_exp(temperature):
    q = np.random.default_rng(1).normal(size=32).astype(np.float32)
    best = temperature * np.log(np.mean(np.exp(q.astype(np.float64) / temperature)))

    def mean_loss(value):
        return jnp.mean(gumbel_loss(q - value, temperature, 50.0))

    assert abs(jax.grad(mean_loss)(best)) < 1e-6
    assert jax.grad(mean_loss)(best + 0.1) > 0 > jax.grad(mean_loss)(best - 0.1)


def test_large_errors_stay_finite():
    errors = np.float32([-1e6, 0.0, 1e6])
    loss, gradient = jax.value_and_grad(lambda errors: jnp.sum(gumbel_loss(errors, 0.1, 7.0)))(errors)
    assert np.isfinite(loss)
    assert np.isfinite(gradient).all()
