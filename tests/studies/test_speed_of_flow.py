"""bfloat16 integration changes floq's update little, and the operations of an update are counted right."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest

from experiments.studies.speed import flow
from experiments.studies.speed.flow import FlowSpeedConfig
from valuelab import configuration
from valuelab.critics.flow import FlowCriticConfig
from valuelab.errors import InputError
from valuelab.policies.one_step_flow import OneStepFlowConfig
from valuelab.training import throughput
from valuelab.types import Agent, Spec

CONFIG = FlowSpeedConfig(
    critic=FlowCriticConfig(hidden_dims=(16, 16), num_draws=2, num_steps=3, num_bins=10, time_size=4),
    policy=OneStepFlowConfig(hidden_dims=(8,), num_steps=2),
    observation_dim=3,
    action_dim=2,
    batch_size=8,
)
SPEC = Spec((3,), "float32", 2, 0, reward_min=-1.0, reward_max=0.0)


AGENTS = flow.make_agents(CONFIG, SPEC)
CRITICS = {name: agent.critic for name, agent in AGENTS.items()}


@pytest.fixture(scope="module")
def batch():
    sampler = throughput.synthetic_sampler(SPEC, CONFIG.batch_size, num_rows=32)
    return sampler.sample(jax.tree.map(jnp.asarray, sampler.arrays), jax.random.key(0))


@pytest.fixture(scope="module")
def state(batch):
    return jax.jit(CRITICS["float32"].init)(jax.random.key(1), batch)


def test_bfloat16_integrations_move_q_a_little(batch, state):
    # bfloat16 has eight bits: each of the few roundings on the way to a velocity takes up to 2^-9 of it, and
    # Q is a mean over draws and steps of velocities of about its own spread.
    assert 0 < flow.effect_on_q(CRITICS, state, batch) < 0.02


@pytest.mark.parametrize(("form", "halved"), [("float32", False), ("bfloat16", True)])
def test_only_integrations_are_in_bfloat16(batch, state, form, halved):
    # By default no number is of another dtype than float32, so nothing changes by a bit; the velocity, and
    # with it z, is float32 either way.
    def velocities(state):
        along = CRITICS[form].diagnostics.flow.velocity(state, batch.observations, batch.actions)
        return along(jnp.ones((2, 8, 2)), 0.5)

    program = jax.make_jaxpr(velocities)(state)
    assert ("bf16" in str(program)) == halved
    assert program.out_avals[0].dtype == jnp.float32


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
def test_both_forms_are_measured(monkeypatch):
    monkeypatch.setattr(throughput, "TIMINGS", 1)
    monkeypatch.setattr(throughput, "SLICE_SECONDS", 0.01)
    report = flow.measure(dataclasses.replace(CONFIG, rounds=1, updates=2, num_steps=(2, 8)))
    assert set(report["forms"]) == set(AGENTS)
    assert all(form["updates_per_second"] > 0 for form in report["forms"].values())
    apart = {name: form["distance_to_float32"] for name, form in report["forms"].items()}
    assert apart["float32"] == {"parameters": 0, "gradients": 0}
    assert 1e-5 < apart["bfloat16"]["gradients"] < 0.1
    assert all(0 < effect < 0.02 for effect in report["effect_of_bfloat16_on_q_by_updates"].values())
    few, many = report["temporary_bytes_by_num_steps"].values()
    assert many <= 1.01 * few
