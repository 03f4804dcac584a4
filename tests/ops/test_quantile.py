"""Golden numbers and properties of quantile regression, energy distances and stocks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from valuelab.ops import quantile
from valuelab.ops.quantile import energy_loss, midpoints, quantile_huber_loss
from valuelab.ops.stock import next_stock


def test_midpoints_golden():
    np.testing.assert_allclose(midpoints(4), [0.125, 0.375, 0.625, 0.875])


def test_quantile_huber_loss_golden():
    # Levels 1/4 and 3/4, predictions 0 and 1, targets -0.5 and 2; κ = 1, so L(u) = u²/2 or |u| - 1/2.
    # Prediction 0: u = -0.5 -> 3/4 · 1/8, u = 2 -> 1/4 · 3/2; sum 0.09375 + 0.375 = 0.46875.
    # Prediction 1: u = -1.5 -> 1/4 · 1,   u = 1 -> 3/4 · 1/2; sum 0.25 + 0.375 = 0.625.
    # Mean over targets: (0.46875 + 0.625) / 2 = 0.546875.
    predictions, targets = jnp.array([[0.0, 1.0]]), jnp.array([[-0.5, 2.0]])
    np.testing.assert_allclose(quantile_huber_loss(predictions, targets, 1.0), [0.546875])
    # κ = 0: (3/4 · 1/2 + 1/4 · 2 + 1/4 · 3/2 + 3/4 · 1) / 2 = (0.375 + 0.5 + 0.375 + 0.75) / 2 = 1.
    np.testing.assert_allclose(quantile_huber_loss(predictions, targets, 0.0), [1.0])


def test_plain_quantile_gradient_is_share_below_minus_level():
    # Of targets 1, 2, 3, 4: none below 0.5, three below 3.5; levels 1/4 and 3/4. 0 - 1/4, 3/4 - 3/4.
    targets = jnp.array([[1.0, 2.0, 3.0, 4.0]])
    loss = lambda predictions, kappa: quantile_huber_loss(predictions, targets, kappa).sum()  # noqa: E731
    np.testing.assert_allclose(jax.grad(loss)(jnp.array([[0.5, 3.5]]), 0.0), [[-0.25, 0.0]], atol=1e-7)


def test_one_prediction_and_large_kappa_give_half_the_square():
    # The level is 1/2: ½ u² / 2κ, and κ = 100 is never reached: u = 1 and 3 give (1 + 9) / 2 / 400.
    loss = quantile_huber_loss(jnp.zeros((1, 1)), jnp.array([[1.0, 3.0]]), 100.0)
    np.testing.assert_allclose(loss, [10 / 2 / 400], rtol=1e-6)


def test_energy_loss_golden():
    # x = (0, 0), (3, 4); y = (0, 0) twice: mean ‖x - y‖ = 2.5, mean ‖x - x'‖ = 10 / 4: 2 · 2.5 - 2.5.
    ones = jnp.array([[[0.0, 0.0], [3.0, 4.0]]])
    np.testing.assert_allclose(energy_loss(ones, jnp.zeros((1, 2, 2))), [2.5])


def test_energy_distance_is_zero_between_equals_and_its_gradient_finite():
    particles = jnp.asarray(np.random.default_rng(0).normal(size=(2, 5, 3)), jnp.float32)
    distances = energy_loss(particles, particles)
    # 2 mean ‖x - y‖ - mean ‖x - x'‖ with y = x is mean ‖x - x'‖, which the energy distance takes off.
    spread = jnp.linalg.norm(particles[:, :, None] - particles[:, None], axis=-1).mean(axis=(1, 2))
    np.testing.assert_allclose(distances, spread, rtol=1e-6)
    gradient = jax.grad(lambda ones: energy_loss(ones, particles).sum())(particles)
    np.testing.assert_allclose(gradient, np.zeros((2, 5, 3)), atol=1e-6)


@pytest.mark.parametrize("loss", [lambda x, y: quantile_huber_loss(x[..., 0], y[..., 0], 0.5), energy_loss])
def test_no_gradient_flows_into_targets(loss):
    ones, others = jnp.ones((1, 3, 1)), jnp.zeros((1, 4, 1))
    assert not jnp.any(jax.grad(lambda targets: loss(ones, targets).sum())(others))
    with pytest.raises(AssertionError):
        loss(ones, jnp.zeros((2, 4, 1)))


def test_next_stock_keeps_the_return_of_the_episode():
    # c = 1, r = 2, γ = 0.5: c' = 6; and c_0 + G_0 = γᵗ (c_t + G_t): 1 + (2 + 0.5 · 4) = 5 = 0.5 · (6 + 4).
    stocks = next_stock(jnp.array([[1.0]]), jnp.array([[2.0]]), 0.5)
    np.testing.assert_allclose(stocks, [[6.0]])
    assert 0.5 * (stocks[0, 0] + 4) == 1 + 2 + 0.5 * 4
    with pytest.raises(AssertionError):
        next_stock(jnp.zeros((2, 1)), jnp.zeros(2), 0.5)


@pytest.mark.parametrize("loss", [lambda x, y: quantile_huber_loss(x[..., 0], y[..., 0], 0.5), energy_loss])
def test_gradients_match_finite_differences(loss):
    ones, others = np.random.default_rng(0).normal(size=(2, 3, 6, 2)).astype(np.float32)
    check_grads(lambda predictions: loss(predictions, others), (ones,), order=1, modes=["rev"], eps=1e-2)


def test_other_platforms_sum_the_same_pairs():
    ones, others = np.random.default_rng(0).normal(size=(2, 3, 6, 2)).astype(np.float32)
    sums = [
        way(quantile._distance_term, ones, others, ())
        for way in (quantile._one_by_one, quantile._all_at_once)
    ]
    jax.tree.map(lambda one, other: np.testing.assert_allclose(one, other, rtol=1e-5), *sums)
