"""The conservative critic: its loss in numpy at random parameters, and what its samples are."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from valuelab.agents.composed import ComposedConfig, composed
from valuelab.critics.conservative import ConservativeConfig, conservative_critic
from valuelab.ops.conservative import conservative_gap
from valuelab.policies.sac import SACConfig
from valuelab.types import NextActions, PolicyView, Spec, Transitions

SPEC = Spec((3,), "float32", 2, 0, -1.0, 1.0)
LOG_PROB = -1.3


def test_the_gap_is_that_of_the_equation():
    random = np.random.default_rng(0)
    q_values, sampled = random.normal(size=(2, 5)), random.normal(size=(2, 5, 7))
    log_probs = random.normal(size=(5, 7))
    expected = 2.0 * np.log(np.sum(np.exp((sampled - log_probs) / 2.0), axis=2)) - q_values
    given = (jnp.asarray(array, jnp.float32) for array in (q_values, sampled, log_probs))
    np.testing.assert_allclose(conservative_gap(*given, 2.0), expected, rtol=1e-5)


def test_equal_values_give_a_gap_of_the_volume_of_actions():
    # Σ_j exp(q) / p with p = 1/4 over [-1, 1]²: T log(K 4 e^q) - q = log(4 K) at T = 1.
    gap = conservative_gap(jnp.full((1, 1), 3.0), jnp.full((1, 1, 6), 3.0), jnp.full((1, 6), -np.log(4)), 1.0)
    np.testing.assert_allclose(gap, np.log(24), rtol=1e-6)


@pytest.mark.parametrize("lagrange", [False, True])
def test_the_loss_is_that_of_the_equations(lagrange):
    random = np.random.default_rng(1)

    def numbers(*shape):
        return random.normal(size=shape).astype(np.float32)

    batch = Transitions(
        observations=numbers(4, 3),
        actions=np.tanh(numbers(4, 2)),
        rewards=numbers(4),
        masks=np.float32([1, 0, 1, 1]),
        next_observations=numbers(4, 3),
    )
    following = NextActions(actions=np.tanh(numbers(4, 2)), costs=np.abs(numbers(4)))
    view = PolicyView(
        look_ahead=lambda batch, key: following,
        sample=lambda observations, key: (observations[:, :2] / 3, jnp.full(len(observations), LOG_PROB)),
    )
    settings = {"conservative_weight": 2.0, "temperature": 0.7, "discount": 0.9, "target_gap": 1.5}
    config = ConservativeConfig(hidden_dims=(8,), num_sampled=3, lagrange=lagrange, **settings)
    critic = conservative_critic(config, SPEC)
    state = critic.init(jax.random.key(0), batch)
    # Targets have parameters of their own; biases are not 0.
    params, targets = (jax.tree.map(lambda leaf: numbers(*leaf.shape), state.params["q"]) for _ in range(2))
    state = state._replace(params=state.params | {"q": params}, target_params={"q": targets})
    if lagrange:
        state = state._replace(params=state.params | {"log_multiplier": jnp.float32(0.4)})
    _, metrics = jax.jit(lambda state: critic.update(state, batch, view))(state)

    def q(params, observations, actions):
        """[2, B] of one hidden layer with relu."""
        first, last = (
            params["params"]["StateValue_0"]["MLP_0"]["Dense_0"],
            params["params"]["StateValue_0"]["Dense_0"],
        )
        inputs = np.concatenate([observations, actions], axis=1)
        hidden = np.maximum(np.einsum("bi,eio->ebo", inputs, first["kernel"]) + first["bias"][:, None], 0)
        return (np.einsum("ebi,eio->ebo", hidden, last["kernel"]) + last["bias"][:, None])[..., 0]

    next_values = q(targets, batch.next_observations, following.actions).min(axis=0) - following.costs
    errors = q(params, batch.observations, batch.actions) - (batch.rewards + 0.9 * batch.masks * next_values)
    sample_key = jax.random.split(jax.random.fold_in(state.key, 0), 3)[2]
    uniform = jax.random.uniform(jax.random.split(sample_key, 3)[0], (4, 3, 2), minval=-1, maxval=1)
    exponents = []
    for number in range(3):
        exponents += [
            q(params, batch.observations, uniform[:, number]) - np.log(1 / 4),
            q(params, batch.observations, batch.observations[:, :2] / 3) - LOG_PROB,
            q(params, batch.observations, batch.next_observations[:, :2] / 3) - LOG_PROB,
        ]
    soft_maximum = 0.7 * np.log(np.sum(np.exp(np.stack(exponents) / 0.7), axis=0))
    gaps = np.mean(soft_maximum - q(params, batch.observations, batch.actions), axis=1)
    penalty = np.sum(2.0 * gaps)
    if lagrange:
        excess = np.sum(2.0 * gaps - 1.5)
        penalty = np.exp(0.4) * (excess - excess / 2)
        np.testing.assert_allclose(metrics["q_multiplier"], np.exp(0.4), rtol=1e-5)
    np.testing.assert_allclose(metrics["q_gap"], np.mean(gaps), rtol=1e-4)
    np.testing.assert_allclose(metrics["q_loss"], np.sum(np.mean(errors**2, axis=1)) + penalty, rtol=1e-4)


def test_the_multiplier_grows_while_the_gap_is_too_large():
    for target_gap, grows in ((0.0, True), (1000.0, False)):
        agent = composed(
            ComposedConfig(
                critic=ConservativeConfig(hidden_dims=(8,), lagrange=True, target_gap=target_gap),
                policy=SACConfig(hidden_dims=(8,)),
            ),
            SPEC,
        )
        zeros = np.zeros((4, 3), np.float32)
        batch = Transitions(zeros, zeros[:, :2], zeros[:, 0], zeros[:, 0] + 1, zeros)
        start = agent.init(jax.random.key(0), batch)
        end, _ = jax.jit(agent.update)(start, batch)
        assert (end.critic.params["log_multiplier"] > 0) == grows
