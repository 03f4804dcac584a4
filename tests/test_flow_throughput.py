"""The forms of floq's update that are timed against each other are the same maths, and are counted right."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest

from experiments import flow_throughput
from experiments.flow_throughput import FlowThroughputConfig
from valuelab import configuration
from valuelab.critics.flow import FlowCriticConfig, flow_critic
from valuelab.errors import InputError
from valuelab.policies.one_step_flow import OneStepFlowConfig
from valuelab.training import throughput
from valuelab.types import Agent, Spec

CONFIG = FlowThroughputConfig(
    FlowCriticConfig(hidden_dims=(16, 16), num_draws=2, num_steps=3, num_bins=10, time_size=4),
    OneStepFlowConfig(hidden_dims=(8,), num_steps=2),
    observation_dim=3,
    action_dim=2,
    batch_size=8,
)
SPEC = Spec((3,), "float32", 2, 0, reward_min=-1.0, reward_max=0.0)


@pytest.fixture(scope="module")
def batch():
    sampler = throughput.synthetic_sampler(SPEC, CONFIG.batch_size, num_rows=32)
    return sampler.sample(jax.tree.map(jnp.asarray, sampler.arrays), jax.random.key(0))


def test_the_straightforward_form_makes_the_same_update(batch):
    # The first layer is summed in another order, and so are the norms: rounding of float32, through three
    # steps and a gradient. Adam divides gradients by their size, which makes more of what is lost in those
    # near 0: of their own, parameters move by 3e-4.
    agents = flow_throughput.make_agents(CONFIG, SPEC)
    state = jax.jit(agents["shared"].init)(jax.random.key(1), batch)
    after, other = (jax.jit(agents[form].update)(state, batch)[0] for form in ("shared", "straightforward"))
    apart = flow_throughput.distance(after, other)
    assert 0 < apart["gradients"] < 1e-5
    assert apart["parameters"] < 3e-5


def test_the_reembedding_form_starts_with_the_same_parameters(batch):
    shapes = [
        jax.tree.map(jnp.shape, jax.eval_shape(agent.init, jax.random.key(1), batch))
        for agent in flow_throughput.make_agents(CONFIG, SPEC).values()
    ]
    assert all(shape == shapes[0] for shape in shapes)


def test_bfloat16_integrations_move_q_a_little(batch):
    # bfloat16 has eight bits: each of the few roundings on the way to a velocity takes up to 2^-9 of it, and
    # Q is a mean over draws and steps of velocities of about its own spread.
    critics = {
        dtype: flow_critic(dataclasses.replace(CONFIG.critic, integration_dtype=name), SPEC)
        for dtype, name in (("shared", "float32"), ("bfloat16", "bfloat16"))
    }
    state = critics["shared"].init(jax.random.key(1), batch)
    assert 0 < flow_throughput.effect_on_q(critics, state, batch) < 0.02


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_only_integrations_are_in_bfloat16(batch, dtype):
    # Where float32 is asked for no operation is of another dtype, so nothing changes by a bit; parameters and
    # the optimiser's state are float32 either way.
    critic = flow_critic(dataclasses.replace(CONFIG.critic, integration_dtype=dtype), SPEC)
    state = jax.eval_shape(critic.init, jax.random.key(1), batch)

    def integrated(state):
        return critic.flow.velocity(state, batch.observations, batch.actions)(jnp.ones((2, 8, 2)), 0.5)

    program = jax.make_jaxpr(integrated)(state)
    assert ("bf16" in str(program)) == (dtype == "bfloat16")
    assert program.out_avals[0].dtype == jnp.float32
    assert {leaf.dtype for leaf in jax.tree.leaves((state.params, state.target_params))} == {jnp.float32}


def test_an_integration_in_another_dtype_is_refused():
    with pytest.raises(InputError, match=r"integration_dtype.*float16"):
        configuration.override(FlowCriticConfig(), {"integration_dtype": "float16"})


def test_products_of_all_rounds_of_a_loop_are_counted(batch):
    # Five products of 16³ multiplications and additions, of which XLA counts one.
    def update(state, batch):
        return jax.lax.fori_loop(0, 5, lambda _, matrix: matrix @ state / 16, state), {}

    agent = Agent(init=lambda key, batch: jax.random.normal(key, (16, 16)), update=update, act=None)
    products = 5 * 2 * 16**3
    assert products <= throughput.flop_per_update(agent, batch) < 1.1 * products


@pytest.mark.slow
def test_all_is_measured():
    config = dataclasses.replace(CONFIG, rounds=1, updates=2, num_steps=(2, 8))
    report = flow_throughput.measure(config)
    assert set(report["forms"]) == {"shared", "bfloat16", "reembedded", "straightforward"}
    for form in report["forms"].values():
        assert form["updates_per_second"] > 0
    assert report["forms"]["shared"]["distance_to_shared"] == {"parameters": 0, "gradients": 0}
    few, many = report["temporary_bytes_by_num_steps"].values()
    assert many == few
