"""Tests of the diagnostics of critics, each on an example with a known answer."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from valuelab.critics.auxiliary import ContrastiveAuxiliaryConfig, contrastive_auxiliary
from valuelab.critics.expectile import ExpectileConfig, expectile_critic
from valuelab.critics.flow import FlowCriticConfig, flow_critic
from valuelab.critics.temporal_difference import TemporalDifferenceConfig, temporal_difference_critic
from valuelab.evaluation import diagnostics
from valuelab.evaluation.diagnostics import Rows
from valuelab.networks.mlp import LAYERS, MLP, ensemble, hidden_layers
from valuelab.ops import features, recovery
from valuelab.ops.flow import integrate, trajectory
from valuelab.ops.returns import monte_carlo_returns
from valuelab.types import Spec, Transitions

SPEC = Spec((3,), "float32", 2, 0, reward_min=-1.0, reward_max=0.0)
RANDOM = np.random.default_rng(0)


def numbers(*shape):
    return RANDOM.normal(size=shape).astype(np.float32)


# Features.


@pytest.mark.parametrize(
    ("matrix", "rank"),
    [
        (np.diag([1.0, 1.0, 0.0]), 2),  # half of the mass each
        (np.outer([1.0, 2.0, 3.0], [4.0, 5.0, 6.0]), 1),
        (np.diag([99.5, 0.5, 0.0]), 1),  # 0.995 of the mass is enough
        (np.diag([98.5, 1.5, 0.0]), 2),  # 0.985 is not
        (np.zeros((3, 3)), 0),
    ],
)
def test_effective_rank_golden(matrix, rank):
    assert jax.jit(features.effective_rank)(matrix.astype(np.float32)) == rank


def test_dormant_fraction_golden():
    # Mean activities 2, 0.1, 0 and 1.9 with mean 1: one is at most 0.025, and two are at most 0.11.
    units = jnp.array([[4.0, 0.1, 0.0, -1.9], [0.0, -0.1, 0.0, 1.9]])
    assert features.dormant_fraction(units) == 0.25
    assert features.dormant_fraction(units, threshold=0.11) == 0.5
    assert features.dormant_fraction(jnp.zeros((3, 2))) == 1.0


def test_norms_golden():
    assert features.feature_norm(jnp.array([[3.0, 4.0], [0.0, 1.0]])) == 3.0  # (5 + 1) / 2
    layer = {"kernel": jnp.full((2, 2), 2.0), "bias": jnp.array([0.0, 3.0])}
    tree = {"q": {"params": {"Dense_0": layer}}, "value": {"params": {"Dense_0": {"bias": jnp.ones(4)}}}}
    assert features.norms(tree) == {"q/Dense_0": 5.0, "value/Dense_0": 2.0}  # √(4 · 4 + 9), √4


def test_mean_gradients_of_several_optimisers_keep_their_names():
    adam = optax.adam(1e-3)
    params = {"w": jnp.ones(2)}
    _, state = adam.update({"w": jnp.full(2, 3.0)}, adam.init(params), params)
    means = diagnostics.mean_gradients({"critic": {"q": state, "value": state}, "auxiliary": state})
    expected = {"w": jnp.full(2, 0.3)}
    chex.assert_trees_all_close(means, {"critic": {"q": expected, "value": expected}, "auxiliary": expected})


def test_drift_ignores_what_the_next_layer_can_undo():
    drift = jax.jit(features.feature_drift)
    earlier = numbers(40, 3)
    rotation = np.linalg.qr(numbers(3, 3))[0]
    moved = 7 * earlier @ rotation + 5
    np.testing.assert_allclose(drift(earlier, moved), 0, atol=1e-5)
    # Centred columns that are orthogonal have no direction in common.
    one, other = np.array([[1.0, -1, 1, -1], [1, 1, -1, -1]], np.float32)[:, :, None]
    np.testing.assert_allclose(drift(one, other), 1, atol=1e-6)
    # Half: X is one of the two columns of Y. ‖XᵀY‖² = 16, ‖XᵀX‖ = 4, ‖YᵀY‖ = 4 √2.
    both = np.concatenate([one, other], axis=1)
    np.testing.assert_allclose(drift(one, both), 1 - 1 / np.sqrt(2), rtol=1e-5)


def test_refit_error_golden():
    refit_error = jax.jit(features.refit_error)
    inputs, all_rows = numbers(60, 4), np.ones(60, np.float32)
    linear = inputs @ numbers(4) + 3
    np.testing.assert_allclose(refit_error(inputs, linear, all_rows), 0, atol=1e-6)
    # Features without information: the prediction is the mean of the first half, 0. The others, 1 ± 1, have
    # squared errors 0² + 2², and 1² + 1² around their own mean.
    targets = np.array([-1, 1] * 15 + [0, 2] * 15, np.float32)
    np.testing.assert_allclose(refit_error(np.ones_like(inputs), targets, all_rows), 2, rtol=1e-5)
    # Rows of weight 0 count neither in the fit nor in the test.
    spoilt, weights = np.array(linear), np.array(all_rows)
    spoilt[[3, 50]], weights[[3, 50]] = 100, 0
    np.testing.assert_allclose(refit_error(inputs, spoilt, weights), 0, atol=1e-6)
    assert np.isnan(refit_error(inputs, linear, 0 * all_rows))


# Returns.


def test_monte_carlo_returns_golden():
    # γ = 1/2. Terminated: 4, 2 + 4/2, 1 + 4/2. Cut: 3 and 1 + 3/2, which lack 1/2 and 1/4 of a value.
    rewards, masks = jnp.array([1.0, 2, 4, 1, 3]), jnp.array([1.0, 1, 0, 1, 1])
    ends = jnp.array([False, False, True, False, True])
    returns, missing = jax.jit(monte_carlo_returns)(rewards, masks, ends, 0.5)
    np.testing.assert_allclose(returns, [3, 4, 4, 2.5, 3])
    np.testing.assert_allclose(missing, [0, 0, 0, 0.25, 0.5])


def test_value_error_golden():
    # For known returns q - G is 1 and 3, and both increase together.
    error = diagnostics.value_error(jnp.array([1.0, 5, 9]), jnp.array([0.0, 2, 0]), jnp.array([1.0, 1, 0]))
    np.testing.assert_allclose([error["bias"], error["rmse"], error["correlation"]], [2, np.sqrt(5), 1])


# Order.


def test_order_and_success_of_known_values():
    lengths = np.full(8, 4)
    rising, falling = np.arange(4.0), -np.arange(4.0)
    successes = np.arange(8) < 4
    told = np.concatenate([rising] * 4 + [falling] * 4)
    values = np.stack([told, np.zeros(32)])
    found = diagnostics.diagnose_order(values, lengths, successes)
    np.testing.assert_allclose(found.correlations[0], [1] * 4 + [-1] * 4)
    np.testing.assert_allclose(found.report["mean"], [0, np.nan])
    np.testing.assert_allclose(found.report["pooled"], [0, np.nan])
    np.testing.assert_array_equal(found.report["without_order"], [0, 8])
    assert {name: numbers[0] for name, numbers in found.report["success"].items()} == {
        "threshold": 0.0,  # halfway between the final values 3 and -3
        "precision": 1.0,
        "recall": 1.0,
        "auc": 1.0,
    }
    assert found.report["success"]["auc"][1] == 0.5  # equal values tell nothing
    assert "success" not in diagnostics.diagnose_order(values, lengths, np.arange(8) < 1).report
    assert diagnostics.order_intervals(found.moments) == {}  # one member has no order anywhere
    first = diagnostics.order_intervals(type(found.moments)(*(each[:1] for each in found.moments)))
    assert first["mean"]["mean"] == pytest.approx(0)
    assert -1 <= first["pooled"]["ci_low"] < 0 < first["pooled"]["ci_high"] <= 1


# Flows.


def cone(c, end):
    """The field whose slope is -c / (1 - t)."""
    return lambda z, t: c * (end - z) / (1 - t)


def test_recovery_golden():
    start = jnp.array([[-1.0, 0.0, 2.0]])

    @jax.jit
    def curves(start):
        return (
            recovery.recovery_curve(cone(1.0, 4.0), start, 4, 0.5),
            recovery.recovery_curve(lambda z, t: 3 + 0 * z, start, 4, -0.5),
            recovery.recovery_curve(cone(0.5, 4.0), start, 2, 1.0),
        )

    contracting, constant, slower = curves(start)
    np.testing.assert_allclose(contracting, 0, atol=1e-6)
    np.testing.assert_allclose(constant, 1, rtol=1e-6)
    # Π_{j ≥ k} (1 - c / (K - j)) for c = 1/2: 1/2 before the last of two steps, 3/4 · 1/2 before both.
    np.testing.assert_allclose(slower, [3 / 8, 1 / 2], rtol=1e-5)


def test_read_outs_and_slopes_golden():
    start = jnp.array([1.0, 2.0])

    @jax.jit
    def look(start):
        ends = recovery.read_out_sweep(lambda z, t: z, start, (1, 2, 4))
        times, slopes = recovery.slopes(lambda z, t: z, start, 4)
        rates = (
            recovery.conic_rate(times, slopes),
            recovery.conic_rate(*recovery.slopes(cone(0.7, 5.0), start, 8)),
        )
        return ends, times, slopes, rates

    ends, times, slopes, rates = look(start)
    # dz/dt = z: (1 + 1/K)^K times as much after K steps; its slope is 1, which is not a cone.
    np.testing.assert_allclose(ends, np.outer([2, 1.5**2, 1.25**4], start), rtol=1e-5)
    np.testing.assert_allclose(times, [0, 0.25, 0.5, 0.75])
    np.testing.assert_allclose(slopes, 1)
    # -E (1 - t) = -(1 + 3/4 + 2/4 + 1/4) / 4; and the c of a cone.
    np.testing.assert_allclose(rates, [-0.625, 0.7], rtol=1e-5)


def test_a_flow_can_be_handed_over():
    def early(z, t):
        return jnp.full_like(z, -8.0)

    def late(z, t):
        return z * t

    start = jnp.array([1.0, 3.0])
    ends = [recovery.integrate_two_fields(early, late, start, 4, steps, "euler") for steps in (0, 4)]
    np.testing.assert_allclose(ends[0], integrate(late, start, 4), rtol=1e-6)
    np.testing.assert_allclose(ends[1], start - 8, rtol=1e-6)
    # One step of the early field, then those at t = 1/4, 1/2, 3/4: (z - 2) · 17/16 · 9/8 · 19/16.
    np.testing.assert_allclose(
        recovery.integrate_two_fields(early, late, start, 4, 1, "euler"),
        (start - 2) * 17 * 9 * 19 / 2048,
        rtol=1e-6,
    )


# Critics.


def test_silent_units_are_seen_before_the_norm_and_features_after_it():
    network = ensemble(MLP, 2)((3, 3), layer_norm=True, block_depth=1)
    inputs = numbers(5, 4)
    params = jax.jit(network.init)(jax.random.key(0), inputs)
    params["params"]["Dense_0"]["bias"] = np.array([[-100, 50, 100]] * 2, np.float32)  # relu gives 0
    outputs, variables = jax.jit(lambda params: network.apply(params, inputs, mutable=LAYERS))(params)
    layers = hidden_layers(variables)
    assert list(layers) == ["layer_1", "layer_2"]
    assert all(layer.features.shape == layer.units.shape == (2, 5, 1, 3) for layer in layers.values())
    np.testing.assert_array_equal(layers["layer_1"].units[..., 0], 0)
    assert np.all(np.asarray(layers["layer_1"].features[..., 0]) != 0)
    np.testing.assert_array_equal(layers["layer_2"].features[:, :, 0], outputs)


def start(critic, size=16):
    """A state of a critic, and a batch."""
    batch = Transitions(numbers(size, 3), numbers(size, 2), numbers(size), np.ones(size), numbers(size, 3))
    return jax.jit(critic.init)(jax.random.key(0), batch), batch


def test_a_plain_critic_shows_what_q_is_read_from():
    critic = temporal_difference_critic(TemporalDifferenceConfig(hidden_dims=(8, 4)), SPEC)
    state, batch = start(critic)
    pairs = batch.observations, batch.actions
    q, shown = jax.jit(
        lambda state: (
            critic.estimates(state).q(*pairs),
            critic.diagnostics.layers(state, *pairs, jax.random.key(1)),
        )
    )(state)
    assert shown["layer_1"].units.shape == (2, 16, 1, 8)
    output = state.params["params"]["StateValue_0"]["Dense_0"]
    values = np.einsum("ebpw,ewi->eb", shown["layer_2"].features, output["kernel"]) + output["bias"]
    np.testing.assert_allclose(values.mean(0), q, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_a_flow_critic_shows_its_flow_and_what_its_ends_are_read_from():
    config = FlowCriticConfig(hidden_dims=(8,), num_draws=3, num_steps=2, discount=0.5)
    critic = flow_critic(config, SPEC)
    state, batch = start(critic)
    key = jax.random.key(1)

    @jax.jit
    def look(state):
        noise = critic.diagnostics.flow.start(key, 16)
        velocity = critic.diagnostics.flow.velocity(state, batch.observations, batch.actions)
        ends = trajectory(velocity, noise, critic.diagnostics.flow.num_steps, critic.diagnostics.flow.solver)[
            -1
        ]
        return noise, ends, critic.diagnostics.layers(state, batch.observations, batch.actions, key)

    noise, ends, shown = look(state)
    assert noise.shape == (2, 16, 3)
    np.testing.assert_array_equal(noise[0], noise[1])
    assert shown["layer_1"].features.shape == (2, 16, 6, 8)  # in two steps of three draws
    # Euler: z(1) = z(0) + mean over steps of w·φ + b.
    output = state.params["field"]["params"]["output_layer"]
    velocities = np.einsum("ebpw,ewi->ebp", shown["layer_1"].features, output["kernel"])
    read = noise.mean(2) + velocities.mean(2) + output["bias"]
    np.testing.assert_allclose(ends.mean(2), read, rtol=1e-4, atol=1e-5)


def test_a_critic_that_shows_nothing_is_looked_at_all_the_same():
    critic = temporal_difference_critic(TemporalDifferenceConfig(hidden_dims=(8, 4)), SPEC)
    critic = critic._replace(diagnostics=None)
    state, batch = start(critic)
    rows = Rows(batch.observations, batch.actions, jnp.zeros(16), jnp.ones(16))
    key = jax.random.key(1)
    diagnosis = jax.jit(lambda state: diagnostics.diagnose(critic, state, rows, key))(state)
    assert diagnosis.report.keys() == {"weight_norms", "gradient_norms", "q"}
    assert diagnostics.compare(diagnosis, diagnosis) == {}
    assert np.isnan(diagnosis.report["q"]["rmse"])  # no return is known


def test_a_critic_with_an_auxiliary_loss_shows_the_gradients_of_both():
    auxiliary = contrastive_auxiliary(ContrastiveAuxiliaryConfig(hidden_dims=(8,)), SPEC)
    critic = auxiliary(expectile_critic(ExpectileConfig(hidden_dims=(8,)), SPEC))
    batch = Transitions(numbers(6, 3), numbers(6, 2), numbers(6), np.ones(6, np.float32), numbers(6, 3))
    rows = Rows(batch.observations, batch.actions, batch.rewards, jnp.zeros(6))

    def report(key):
        return diagnostics.diagnose(critic, critic.init(key, batch), rows, key).report

    found = jax.eval_shape(report, jax.random.key(0))
    layers = found["weight_norms"].keys()
    own = {layer for layer in layers if layer.startswith("critic/")}
    assert {layer.split("/")[1] for layer in own} == {"q", "value"}
    assert found["gradient_norms"].keys() == own | {f"auxiliary/{layer}" for layer in layers}
