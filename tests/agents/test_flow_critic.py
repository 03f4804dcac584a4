"""Flow critics with fields whose weights are given: how targets are made, and whether a field uses z."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from valuelab.critics.flow import FlowCriticConfig, flow_critic
from valuelab.errors import InputError
from valuelab.types import NextActions, PolicyView, Spec, Transitions

SPEC = Spec((1,), "float32", action_dim=1, num_actions=0, reward_min=-1.0, reward_max=0.0)
DISCOUNT, WIDTH, MIDDLE = 0.9, 5.0, -2.5
"""Values lie in [-10, 0], and noise z(0) in the upper half of them."""
PLAIN = {"hidden_dims": (1,), "layer_norm": False, "activation": "relu", "value_embedding": "scalar"}
SETTINGS = PLAIN | {"time_embedding": "cosine", "coverage": 0.5, "discount": DISCOUNT, "num_steps": 1}
BATCH_SIZE = 2**16
STILL = NextActions(actions=jnp.zeros((BATCH_SIZE, 1)), costs=jnp.zeros(BATCH_SIZE))


def field(value=0.0, output=0.0, bias=0.0):
    """The weights of v = output · relu(value · x) + bias, with x = (z + 10.1) / 10.2."""
    return {
        "state_layer": {"kernel": np.zeros((2, 1)), "bias": np.zeros(1)},
        "value_layer": {"kernel": np.array([[value]])},
        "time_layer": {"kernel": np.zeros((1, 1))},
        "output_layer": {"kernel": np.array([[output]]), "bias": np.array([bias])},
    }


def towards(end):
    """A field that heads from z at t = 0 to this end."""
    return field(value=1.0, output=-10.2, bias=end + 10.1)


def metrics(fields, rewards, masks=1.0, look_ahead=lambda batch, key: STILL, compiled=jax.jit, **settings):
    """The metrics of one update of a critic with these fields, which are its target fields too."""
    batch = Transitions(
        observations=jnp.zeros((BATCH_SIZE, 1)),
        actions=jnp.full((BATCH_SIZE, 1), 0.5),
        rewards=jnp.broadcast_to(rewards, BATCH_SIZE),
        masks=jnp.broadcast_to(masks, BATCH_SIZE),
        next_observations=jnp.zeros((BATCH_SIZE, 1)),
    )
    critic = flow_critic(FlowCriticConfig(**SETTINGS | {"ensemble_size": len(fields)} | settings), SPEC)
    state = critic.init(jax.random.key(0), batch)
    params = jax.tree.map(lambda *leaves: np.float32(leaves), *fields)
    params = jax.tree.map(lambda leaf, new: leaf.at[:].set(new), state.params["field"], {"params": params})
    state = state._replace(params=state.params | {"field": params}, target_params={"field": params})
    return compiled(lambda state, batch: critic.update(state, batch, PolicyView(look_ahead))[1])(state, batch)


@pytest.mark.parametrize(
    "settings",
    [
        {"num_draws": 2},
        {"num_draws": 1, "num_steps": 3, "aggregation": "min"},
        {"num_draws": 3, "target": "distributional", "times": "zero"},
    ],
)
def test_the_blind_ratio_of_a_field_that_ignores_z_is_1(settings):
    # The field is 0, which is best for these rewards: then y and z(0) have the same mean.
    masks = np.arange(BATCH_SIZE) % 2
    ratio = metrics([field()] * 2, MIDDLE * (1 - DISCOUNT * masks), masks, **settings)["field_blind_ratio"]
    np.testing.assert_allclose(ratio, 1, atol=0.015)


def test_the_blind_ratio_of_a_field_that_uses_z_is_near_0():
    fields = [towards(-4.0)] * 2
    assert metrics(fields, -0.4, times="zero", num_draws=2)["field_blind_ratio"] < 1e-6


def test_supervision_by_value_has_no_blind_ratio():
    shapes = functools.partial(functools.partial, jax.eval_shape)  # computes nothing
    assert "field_blind_ratio" not in metrics([field()], 0.0, compiled=shapes, supervision="value")
    assert not flow_critic(FlowCriticConfig(supervision="value"), SPEC).checks


@pytest.mark.parametrize(
    ("aggregation", "value"),
    [
        ("mean", MIDDLE),
        # |z(0) - E z(0)| has the mean w / 4 in one draw, and w / 6 in the mean of two draws.
        ("min", MIDDLE - WIDTH / 8),
        ("min_of_means", MIDDLE - WIDTH / 12),
    ],
)
def test_the_minimum_is_of_each_draw_or_of_means(aggregation, value):
    # One field leaves noise where it is, the other carries all noise to the middle of its range.
    fields = [field(), towards(MIDDLE)]
    target = metrics(fields, 0.0, num_draws=2, aggregation=aggregation)["field_target_mean"]
    np.testing.assert_allclose(target, DISCOUNT * value, atol=0.015)


@pytest.mark.parametrize(("next_actions", "averaged"), [("each_draw", 4), ("shared", 1)])
def test_draws_have_costs_of_their_own_or_share_one(next_actions, averaged):
    """The same of next actions is in test_parity."""

    def look_ahead(batch, key):
        return STILL._replace(costs=WIDTH * (jax.random.uniform(key, (BATCH_SIZE,)) - 0.5))

    # Targets vary as much through the costs as through z(0).
    rewards, settings = MIDDLE * (1 - DISCOUNT), {"num_draws": 4, "next_actions": next_actions}
    ratio = metrics([field()], rewards, look_ahead=look_ahead, **settings)
    variance = DISCOUNT**2 / 4
    expected = (1 + variance + DISCOUNT**2 / averaged) / (1 + variance)
    np.testing.assert_allclose(ratio["field_blind_ratio"], expected, rtol=0.015)


def test_the_field_may_be_shallower_than_the_distilled_critic():
    config = FlowCriticConfig(hidden_dims=(6, 5, 4), field_hidden_dims=(3, 3), block_depth=1, num_draws=1)
    batch = Transitions(*(jnp.zeros(shape) for shape in ((1, 1), (1, 1), 1, 1, (1, 1))))
    params = jax.eval_shape(flow_critic(config, SPEC).init, jax.random.key(0), batch).params
    widths = {
        name: {leaf.shape[-1] for path, leaf in flatten_dict(part).items() if path[-1] == "kernel"}
        for name, part in params.items()
    }
    assert widths == {"field": {3, 1}, "distilled": {6, 5, 4, 1}}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"hidden_dims": (8, 4), "block_depth": 1}, r"hidden_dims is \(8, 4\).*block_depth=0"),
        ({"field_hidden_dims": (8, 4), "block_depth": 1}, r"field_hidden_dims is \(8, 4\).*block_depth=0"),
        ({"target": "distributional", "aggregation": "min_of_means"}, "choose aggregation 'min' or 'mean'"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        FlowCriticConfig(**settings)
