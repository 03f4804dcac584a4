"""The order of IQL's update, pinned against a second implementation written out step by step."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from valuelab import configuration
from valuelab.agents.iql import IQLConfig, iql
from valuelab.critics.expectile import ExpectileConfig
from valuelab.policies.awr import AWRConfig
from valuelab.types import Spec, Transitions

SPEC = Spec((3,), "float32", 2, 0, 0.0, 1.0, num_updates=100)
CONFIG = IQLConfig(
    critic=ExpectileConfig(
        hidden_dims=(8,), expectile=0.8, target_rate=0.1, learning_rate=0.01, discount=0.9
    ),
    policy=AWRConfig(
        hidden_dims=(8,), inverse_temperature=2.0, learning_rate=0.01, learning_rate_schedule="cosine"
    ),
)


def example_batch(seed: int, size: int = 16) -> Transitions:
    random = np.random.default_rng(seed)
    return Transitions(
        observations=random.normal(size=(size, 3)).astype(np.float32),
        actions=random.uniform(-1, 1, (size, 2)).astype(np.float32),
        rewards=random.normal(size=size).astype(np.float32),
        masks=(random.random(size) > 0.2).astype(np.float32),
        next_observations=random.normal(size=(size, 3)).astype(np.float32),
    )


# The reference: linear algebra on plain dictionaries, Adam from its paper, the steps in a list.


def network(weights, inputs):
    hidden = jnp.maximum(inputs @ weights["w1"] + weights["b1"][None], 0)
    return hidden @ weights["w2"] + weights["b2"][None]


def adam(weights, gradients, moments, time, rate):
    first, second = moments
    first = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, first, gradients)
    second = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g**2, second, gradients)
    new = jax.tree.map(
        lambda w, m, v: w - rate * (m / (1 - 0.9**time)) / (jnp.sqrt(v / (1 - 0.999**time)) + 1e-8),
        weights,
        first,
        second,
    )
    return new, (first, second)


def reference_update(weights, target, moments, time, batch, order):
    """One update; `order` says which Q and V the policy sees and where the target average stands."""
    s, a, r, mask, s_next = batch[:5]
    sa = jnp.concatenate([s, a], axis=1)
    old = weights

    def twin(critics):
        return [network(critic, sa)[:, 0] for critic in critics]

    def value_loss(v):
        error = jnp.minimum(*twin(target)) - network(v, s)[:, 0]
        return jnp.mean(jnp.where(error > 0, 0.8, 0.2) * error**2)

    def critic_loss(critics, v):
        y = r + 0.9 * mask * network(v, s_next)[:, 0]
        return sum(jnp.mean((y - q) ** 2) for q in twin(critics))

    def policy_loss(policy, critics, v):
        weight = jnp.minimum(jnp.exp(2.0 * (jnp.minimum(*twin(critics)) - network(v, s)[:, 0])), 100.0)
        std = jnp.exp(policy["log_std"])[None]
        mean = jnp.tanh(network(policy["net"], s))
        log_prob = jnp.sum(-0.5 * ((a - mean) / std) ** 2 - jnp.log(std) - 0.5 * jnp.log(2 * jnp.pi), axis=1)
        return -jnp.mean(weight * log_prob)

    def step(name, loss, rate, *args):
        new, moments_ = adam(weights[name], jax.grad(loss)(weights[name], *args), moments[name], time, rate)
        return {**weights, name: new}, {**moments, name: moments_}

    def average(critics):
        return jax.tree.map(lambda new, slow: 0.1 * new + 0.9 * slow, critics, target)

    cosine = 0.01 * 0.5 * (1 + np.cos(np.pi * (time - 1) / 100))
    if order == "average first":
        target = average(weights["q"])
    weights, moments = step("v", value_loss, 0.01)
    v_seen = old["v"] if order == "old value" else weights["v"]
    q_seen = weights["q"] if order == "online critic" else target
    weights, moments = step("pi", policy_loss, cosine, q_seen, v_seen)
    weights, moments = step("q", critic_loss, 0.01, v_seen)
    if order != "average first":
        target = average(old["q"] if order == "average old" else weights["q"])
    return weights, target, moments


def to_reference(params, member=None):
    """The agent's parameters as the reference's dictionaries."""
    leaves = jax.tree.leaves_with_path(params)
    pick = (lambda x: x) if member is None else (lambda x: x[member])
    found = {jax.tree_util.keystr(path): pick(leaf) for path, leaf in leaves}
    kernels = [leaf for path, leaf in found.items() if "kernel" in path]
    biases = [leaf for path, leaf in found.items() if "bias" in path]
    # The hidden layer is the one with as many outputs as the other has inputs.
    (w1, b1), (w2, b2) = sorted(zip(kernels, biases, strict=True), key=lambda layer: -layer[0].shape[1])
    return {"w1": w1, "b1": b1, "w2": w2, "b2": b2}


def reference_state(state):
    weights = {
        "v": to_reference(state.critic.params["value"]),
        "q": [to_reference(state.critic.params["q"], member) for member in range(2)],
        "pi": {
            "net": to_reference(state.policy.params),
            "log_std": state.policy.params["params"]["log_std"],
        },
    }
    target = [to_reference(state.critic.target_params["q"], member) for member in range(2)]
    return weights, target


@functools.cache
def ours():
    """The agent's states before, between and after two updates."""
    agent = iql(CONFIG, SPEC)
    states = [jax.jit(agent.init)(jax.random.key(0), example_batch(0, 1))]
    update = jax.jit(agent.update)
    for time in (1, 2):
        states.append(update(states[-1], example_batch(time))[0])
    return states


def two_updates(order):
    weights, target = reference_state(ours()[0])
    zeros = jax.tree.map(jnp.zeros_like, weights)
    moments = {name: (zeros[name], zeros[name]) for name in weights}
    step = jax.jit(reference_update, static_argnames=("time", "order"))
    for time in (1, 2):
        weights, target, moments = step(weights, target, moments, time, example_batch(time), order)
    return jax.tree.leaves(reference_state(ours()[-1])), jax.tree.leaves((weights, target))


def test_two_updates_equal_the_reference_order():
    for ours, theirs in zip(*two_updates("reference"), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=2e-5)


@pytest.mark.parametrize("order", ["average first", "old value", "online critic", "average old"])
def test_other_published_orders_are_told_apart(order):
    ours, theirs = two_updates(order)
    assert max(float(jnp.max(jnp.abs(a - b))) for a, b in zip(ours, theirs, strict=True)) > 1e-3


def test_weights_of_actions_better_than_the_value_are_greater():
    """exp(β A) is above 1 where the advantage A is, and below it where an action is worse."""
    agent = iql(configuration.replace(CONFIG, {"policy.weight_max": 1e6}), SPEC)
    state = jax.jit(agent.init)(jax.random.key(0), example_batch(0, 1))
    update = jax.jit(agent.update)
    found = []
    for row in range(16):
        one = jax.tree.map(lambda leaf, row=row: leaf[row : row + 1], example_batch(1))
        metrics = update(state, one)[1]
        found.append((metrics["policy/advantage"], metrics["policy/weight"]))
    advantages, weights = np.array(sorted(found)).T
    assert advantages[0] < 0 < advantages[-1]
    assert np.all(np.diff(weights) > 0)
    np.testing.assert_array_equal(weights > 1, advantages > 0)
