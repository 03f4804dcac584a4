"""Flow matching and soft histograms: golden numbers and properties."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from valuelab.ops.categorical import bin_edges, expected_value, hl_gauss
from valuelab.ops.flow import fourier_embedding, integrate, interpolate, trajectory

SOLVERS = ("euler", "midpoint", "heun")


def test_interpolate_golden():
    # A quarter of the way from 2 to 10: 0.75 · 2 + 0.25 · 10.
    points = interpolate(jnp.array([2.0, 2.0, 2.0]), jnp.full(3, 10.0), jnp.array([0.0, 0.25, 1.0]))
    np.testing.assert_allclose(points, [2, 4, 10])


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("num_steps", [1, 3, 8])
def test_a_straight_field_ends_at_the_data_in_any_number_of_steps(solver, num_steps):
    # On the line from z(0) to y the velocity (y - z) / (1 - t) is y - z(0) throughout.
    noise, data = jnp.array([-3.0, 0.5]), jnp.array([1.0, 7.0])
    constant = integrate(lambda values, time: data - noise, noise, num_steps, solver)
    np.testing.assert_allclose(constant, data, rtol=1e-6)
    if solver != "heun":
        conic = integrate(lambda values, time: (data - values) / (1 - time), noise, num_steps, solver)
        np.testing.assert_allclose(conic, data, rtol=1e-5)


def test_steps_of_a_linear_field_golden():
    # dz/dt = z from 1 in two steps of 1/2: Euler 1.5² = 2.25; midpoint and Heun (1 + 1/2 + 1/8)² = 2.640625.
    ends = [float(integrate(lambda values, time: values, jnp.ones(()), 2, solver)) for solver in SOLVERS]
    np.testing.assert_allclose(ends, [2.25, 2.640625, 2.640625], rtol=1e-6)


@pytest.mark.parametrize(("solver", "order"), [("euler", 1), ("midpoint", 2), ("heun", 2)])
def test_errors_fall_at_the_order_of_the_solver(solver, order):
    # dz/dt = z t from 1 ends at exp(1/2).
    errors = [
        abs(float(integrate(lambda values, time: values * time, jnp.ones(()), steps, solver)) - np.exp(0.5))
        for steps in (8, 16)
    ]
    np.testing.assert_allclose(np.log2(errors[0] / errors[1]), order, atol=0.2)


def test_a_trajectory_holds_start_and_end():
    points = trajectory(lambda values, time: 2 * time * jnp.ones(3), jnp.zeros(3), 4)
    # Euler: z(k/4) = Σ_{i<k} 2 (i/4) / 4 = k (k - 1) / 16.
    np.testing.assert_allclose(points[:, 0], [0, 0, 2 / 16, 6 / 16, 12 / 16], rtol=1e-6)
    np.testing.assert_allclose(points[-1], integrate(lambda _, time: 2 * time * jnp.ones(3), jnp.zeros(3), 4))


@pytest.mark.parametrize("solver", SOLVERS)
def test_gradients_through_the_integration_match_finite_differences(solver):
    def end(slope):
        return integrate(lambda values, time: slope * jnp.sin(values) + time, jnp.array(0.3), 5, solver)

    difference = (end(0.7 + 1e-2) - end(0.7 - 1e-2)) / 2e-2
    np.testing.assert_allclose(jax.jacfwd(end)(0.7), difference, rtol=1e-3)


def test_fourier_embedding_starts_at_sine_0_and_cosine_1():
    # Four waves: a vector of norm 2 has sines and cosines of amplitude 1.
    embedded = fourier_embedding(jnp.array([0.0, 0.25, 1.0]), 8, norm=2.0)
    assert embedded.shape == (3, 8)
    np.testing.assert_allclose(embedded[0], [0] * 4 + [1] * 4, atol=1e-7)
    # The slowest wave has a quarter of a period: sine and cosine of π/8 at t = 1/4, of π/2 at t = 1.
    np.testing.assert_allclose(
        embedded[1:, [0, 4]], [[np.sin(np.pi / 8), np.cos(np.pi / 8)], [1, 0]], atol=1e-6
    )
    # The two fastest of four waves up to 16 have 4 and 16 periods: 17/16 and 17/4 of a period at t = 17/64.
    np.testing.assert_allclose(
        fourier_embedding(jnp.array(17 / 64), 8, fastest=16.0, norm=2.0)[np.array([2, 3, 6, 7])],
        [np.sin(np.pi / 8), 1, np.cos(np.pi / 8), 0],
        atol=1e-5,
    )


def test_fourier_embedding_has_the_norm_that_is_asked_for():
    embedded = fourier_embedding(jnp.linspace(0, 1, 7), 16, fastest=5.0, norm=0.3)
    np.testing.assert_allclose(jnp.linalg.norm(embedded, axis=-1), 0.3, rtol=1e-5)


def test_hl_gauss_golden():
    # σ = 1 bin around the middle edge of four: masses Φ(-1) - Φ(-2) and Φ(0) - Φ(-1), normalised.
    outer, inner = 0.135905122, 0.341344746
    histogram = hl_gauss(jnp.array(0.0), bin_edges(-2.0, 2.0, 4), 1.0)
    expected = np.array([outer, inner, inner, outer]) / (2 * (outer + inner))
    np.testing.assert_allclose(histogram, expected, rtol=1e-5)


@pytest.mark.parametrize("width", [0.75, 16.0])
def test_histograms_keep_the_mass_and_rise_with_the_value(width):
    edges = bin_edges(-5.0, 3.0, 50)
    values = jnp.linspace(-7, 5, 41)  # beyond the edges too
    histograms = hl_gauss(values, edges, width)
    np.testing.assert_allclose(histograms.sum(-1), 1, rtol=1e-5)
    assert np.all(histograms >= 0)
    assert np.all(np.diff(expected_value(histograms, edges)) > -1e-5)


def test_narrow_histograms_have_the_value_as_mean():
    edges = bin_edges(0.0, 10.0, 100)
    values = jnp.array([2.0, 5.03, 7.77])
    np.testing.assert_allclose(expected_value(hl_gauss(values, edges, 0.75), edges), values, atol=1e-3)
