"""One table of all agents against the contracts that the training loop and its users rely on.

A new agent adds a row to AGENTS (and, for its fields, to FLIPS) and gets every test.
"""

import dataclasses
import functools
import json
import re
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import onnxruntime
import optax
import pytest

from valuelab import configuration, observation_parts
from valuelab.agents.actor_critic import actor_critic
from valuelab.agents.behaviour_cloning import behaviour_cloning
from valuelab.agents.composed import ComposedConfig, composed
from valuelab.agents.eta_network import EtaNetworkConfig, eta_network
from valuelab.agents.iql import IQLConfig, iql
from valuelab.agents.normalized import normalized
from valuelab.agents.zero_shot import ZeroShotConfig, zero_shot
from valuelab.critics.auxiliary import ContrastiveAuxiliaryConfig
from valuelab.critics.conservative import ConservativeConfig
from valuelab.critics.contrastive import ContrastiveConfig
from valuelab.critics.expectile import ExpectileConfig, expectile_critic
from valuelab.critics.flow import FlowCriticConfig
from valuelab.critics.forward_backward import ForwardBackwardConfig
from valuelab.critics.gumbel import GumbelConfig
from valuelab.critics.implicit_quantile import ImplicitQuantileConfig
from valuelab.critics.implicit_state_value import ImplicitStateValueConfig
from valuelab.critics.implicit_value import ImplicitValueConfig
from valuelab.critics.quasimetric import QuasimetricConfig
from valuelab.critics.successor_features import SuccessorFeaturesConfig
from valuelab.critics.task_conditioned import TaskConditionedConfig
from valuelab.critics.td_jepa import TDJEPAConfig
from valuelab.critics.temporal_difference import TemporalDifferenceConfig
from valuelab.errors import InputError
from valuelab.evaluation.metrics import WORDS
from valuelab.feature_learners.byol import BYOLConfig
from valuelab.feature_learners.encoders import EncoderConfig, SpreadConfig
from valuelab.feature_learners.goals import GoalValueConfig
from valuelab.feature_learners.hilp import HILPConfig
from valuelab.feature_learners.icvf import ICVFConfig
from valuelab.feature_learners.laplacian import LaplacianConfig
from valuelab.feature_learners.observed import ObservedConfig
from valuelab.feature_learners.rldp import RLDPConfig
from valuelab.ops.zero_shot import on_sphere
from valuelab.policies.awr import AWRConfig, WeightedConfig
from valuelab.policies.best_of_flow import BestOfFlowConfig
from valuelab.policies.continuous import TaskPolicyConfig
from valuelab.policies.ddpg_bc import DDPGBCConfig
from valuelab.policies.hierarchical import HierarchicalConfig
from valuelab.policies.noisy import NoisyConfig
from valuelab.policies.one_step_flow import OneStepFlowConfig
from valuelab.policies.parametric import ParametricConfig
from valuelab.policies.rebrac import ReBRACConfig
from valuelab.policies.sac import SACConfig
from valuelab.runs import flags
from valuelab.runs.trained import TrainedRun
from valuelab.types import (
    Agent,
    Augmented,
    GoalConditioned,
    MakeAgent,
    Normalization,
    ObservationPart,
    Policy,
    Segments,
    Spec,
    Transitions,
)

CONTINUOUS = Spec((3,), "float32", 2, 0, -1.0, 1.0, num_updates=100)
DISCRETE = Spec((3,), "float32", 0, 4, -1.0, 1.0, num_updates=100)
GOALS = Spec((3,), "float32", 2, 0, -1.0, 0.0, goal_conditioned=True, num_updates=100)
DISCRETE_GOALS = dataclasses.replace(GOALS, action_dim=0, num_actions=4)
IMAGES = Spec((16, 16, 2), "uint8", 2, 0, -1.0, 1.0, num_updates=100)
SMALL = {"hidden_dims": (4,)}
FLOW = {**SMALL, "num_steps": 1}
LATENTS = {**SMALL, "latent_dim": 8, "group_size": 4}
MEAN_CVAR = {"objective": "mean_cvar", "tau": 0.25, "weight": 0.5}
SPECTRAL = {"objective": "spectral", "taus": (0.25, 1.0), "weights": (0.5, 0.5), "stock_points": 3}
PREDICTOR = {"predictor_dims": (8,)}
UNENCODED = PREDICTOR | {"state_dims": (), "state_dim": 0}
ENCODER = {"hidden_dims": (8,), "dim": 4}
ENCODINGS = {"state_dim": 3, "policy_sees": "encodings"}


class Row(NamedTuple):
    """An agent in the table.

    Attributes:
        make_agent: builds it.
        config: small enough for tests.
        spec: of the data it gets here.
        chain: overrides with which it learns the five-state chain; None where that makes no sense.
        tolerance: of the chain's values.
    """

    make_agent: MakeAgent
    config: Any
    spec: Spec
    chain: dict[str, Any] | None = None
    tolerance: float = 0.06


WIDE = (16, 16)
LEARN_COMPOSED = {
    "critic.hidden_dims": WIDE,
    "policy.hidden_dims": WIDE,
    "critic.discount": 0.9,
    "critic.learning_rate": 1e-3,
    "critic.target_rate": 0.05,
    "policy.learning_rate": 1e-3,
}
LEARN_CHAIN = {"expectile": 0.98, "target_rate": 0.05, "learning_rate": 1e-3, "discount": 0.9}
LEARN_CHAIN |= {"hidden_dims": WIDE}


def iql_config(**settings: Any) -> IQLConfig:
    """A small config of IQL with some settings by their short names."""
    return configuration.override(IQLConfig(), SMALL | settings)


AGENTS = {
    "iql": Row(iql, iql_config(), CONTINUOUS, LEARN_CHAIN),
    "iql-ddpg_bc": Row(iql, iql_config(extraction="ddpg_bc"), CONTINUOUS, LEARN_CHAIN | {"bc_weight": 0.1}),
    "iql-deterministic": Row(
        iql, iql_config(policy="deterministic", layer_norm=True, dropout_rate=0.1), CONTINUOUS
    ),
    "iql-discrete": Row(iql, iql_config(), DISCRETE, LEARN_CHAIN),
    "iql-goals": Row(iql, iql_config(policy_schedule="constant"), GOALS),
    "hiql": Row(
        composed,
        ComposedConfig(
            critic=ImplicitStateValueConfig(**SMALL, representation_dim=3), policy=HierarchicalConfig(**SMALL)
        ),
        GOALS,
    ),
    "hiql-discrete": Row(
        composed,
        ComposedConfig(
            critic=ImplicitStateValueConfig(**SMALL, representation_dim=3, cloning_gradient=True),
            policy=HierarchicalConfig(**SMALL),
        ),
        dataclasses.replace(DISCRETE, goal_conditioned=True),
    ),
    "ivl-goals": Row(
        composed,
        ComposedConfig(
            critic=ImplicitStateValueConfig(**SMALL, representation_dim=3), policy=AWRConfig(**SMALL)
        ),
        GOALS,
    ),
    "ivl": Row(
        composed,
        ComposedConfig(critic=ImplicitStateValueConfig(**SMALL), policy=AWRConfig(**SMALL)),
        CONTINUOUS,
        LEARN_COMPOSED | {"critic.expectile": 0.98},
    ),
    "ivl-discrete": Row(
        composed,
        ComposedConfig(critic=ImplicitStateValueConfig(**SMALL), policy=AWRConfig(**SMALL)),
        DISCRETE,
        LEARN_COMPOSED | {"critic.expectile": 0.98},
    ),
    "xql": Row(
        composed,
        ComposedConfig(critic=GumbelConfig(**SMALL), policy=AWRConfig(**SMALL)),
        CONTINUOUS,
        LEARN_COMPOSED | {"critic.temperature": 0.02, "critic.exponent_max": 60.0},
        # V lies β log 2 below the better of two equally frequent actions, at every state on the way.
        tolerance=0.08,
    ),
    "cql": Row(
        composed,
        ComposedConfig(critic=ConservativeConfig(**SMALL, num_sampled=2), policy=SACConfig(**SMALL)),
        CONTINUOUS,
    ),
    "cql-goals": Row(
        composed,
        ComposedConfig(
            critic=ConservativeConfig(**SMALL, num_sampled=2, lagrange=True), policy=SACConfig(**SMALL)
        ),
        GOALS,
    ),
    "iql-auxiliary": Row(
        composed,
        ComposedConfig(
            critic=ExpectileConfig(**SMALL),
            policy=AWRConfig(**SMALL),
            auxiliary=ContrastiveAuxiliaryConfig(**SMALL),
        ),
        CONTINUOUS,
    ),
    "floq-auxiliary-goals": Row(
        composed,
        ComposedConfig(
            critic=FlowCriticConfig(**FLOW, num_draws=3),
            policy=OneStepFlowConfig(**FLOW),
            auxiliary=ContrastiveAuxiliaryConfig(**SMALL, loss="binary"),
        ),
        GOALS,
    ),
    "crl": Row(
        composed,
        ComposedConfig(critic=ContrastiveConfig(**SMALL, latent_dim=4), policy=DDPGBCConfig(**SMALL)),
        GOALS,
    ),
    "crl-symmetric": Row(
        composed,
        ComposedConfig(
            critic=ContrastiveConfig(**SMALL, latent_dim=4, loss="symmetric"), policy=DDPGBCConfig(**SMALL)
        ),
        GOALS,
    ),
    "crl-awr": Row(
        composed,
        ComposedConfig(
            critic=ContrastiveConfig(**SMALL, latent_dim=4, state_value=True), policy=AWRConfig(**SMALL)
        ),
        GOALS,
    ),
    "crl-awr-discrete": Row(
        composed,
        ComposedConfig(
            critic=ContrastiveConfig(**SMALL, latent_dim=4, state_value=True), policy=AWRConfig(**SMALL)
        ),
        DISCRETE_GOALS,
    ),
    "bc": Row(behaviour_cloning, ParametricConfig(**SMALL), CONTINUOUS),
    "bc-discrete": Row(behaviour_cloning, ParametricConfig(**SMALL), DISCRETE),
    "bc-goals": Row(behaviour_cloning, ParametricConfig(**SMALL), GOALS),
    "eta_network": Row(eta_network, EtaNetworkConfig(**SMALL, num_atoms=4), DISCRETE),
    "eta_network-plain": Row(
        eta_network,
        EtaNetworkConfig(**SMALL, num_atoms=4, objective="expectation", augmented=False, stock_edits=1),
        DISCRETE,
        {"discount": 0.9, "stock_low": -1.0, "stock_high": 0.0, "learning_rate": 3e-3, "target_period": 50}
        | {"hidden_dims": WIDE},
    ),
    "eta_network-spectral": Row(eta_network, EtaNetworkConfig(**SMALL, **SPECTRAL, num_atoms=4), DISCRETE),
    "fql": Row(
        composed,
        ComposedConfig(critic=TemporalDifferenceConfig(**SMALL), policy=OneStepFlowConfig(**FLOW)),
        CONTINUOUS,
        LEARN_COMPOSED | {"policy.bc_weight": 0.1, "policy.num_steps": 4},
    ),
    "floq": Row(
        composed,
        ComposedConfig(critic=FlowCriticConfig(**FLOW, num_draws=3), policy=OneStepFlowConfig(**FLOW)),
        CONTINUOUS,
        LEARN_COMPOSED
        | {"critic.num_draws": 2, "critic.num_steps": 2}
        | {"policy.bc_weight": 0.02, "policy.learning_rate": 3e-3, "policy.num_steps": 4},
        # A field of 16 units makes of the step in the action a slope, which overshoots at its ends.
        tolerance=0.15,
    ),
    "sac": Row(
        composed,
        ComposedConfig(critic=TemporalDifferenceConfig(**SMALL), policy=SACConfig(**SMALL)),
        CONTINUOUS,
    ),
    "expectile-best_of": Row(
        composed, ComposedConfig(critic=ExpectileConfig(**SMALL), policy=BestOfFlowConfig(**FLOW)), CONTINUOUS
    ),
    "quantiles-ddpg_bc": Row(
        composed,
        ComposedConfig(critic=ImplicitQuantileConfig(**SMALL), policy=DDPGBCConfig(**SMALL)),
        CONTINUOUS,
    ),
    "qrl-discrete": Row(
        composed,
        ComposedConfig(critic=QuasimetricConfig(**LATENTS), policy=AWRConfig(**SMALL)),
        DISCRETE_GOALS,
    ),
    "qrl": Row(
        composed, ComposedConfig(critic=QuasimetricConfig(**LATENTS), policy=DDPGBCConfig(**SMALL)), GOALS
    ),
    "qrl-mrn": Row(
        composed,
        ComposedConfig(
            critic=QuasimetricConfig(**LATENTS, quasimetric="mrn", dynamics=False), policy=AWRConfig(**SMALL)
        ),
        GOALS,
    ),
    "noisy": Row(
        composed,
        ComposedConfig(critic=TemporalDifferenceConfig(**SMALL), policy=NoisyConfig(**SMALL)),
        CONTINUOUS,
    ),
    "categorical-rebrac": Row(
        composed,
        ComposedConfig(
            critic=TemporalDifferenceConfig(**SMALL, loss="categorical"), policy=ReBRACConfig(**SMALL)
        ),
        CONTINUOUS,
    ),
}
AGENTS |= {
    f"zero_shot-{name}": Row(
        zero_shot, ZeroShotConfig(critic=critic, policy=OneStepFlowConfig(**FLOW)), CONTINUOUS
    )
    for name, critic in {
        "td_jepa": TDJEPAConfig(**PREDICTOR, state_dims=(8,), task_dims=(8,), state_dim=3, task_dim=4),
        "symmetric": TDJEPAConfig(**PREDICTOR, task_dims=(8,), task_dim=4, symmetric=True),
        "forward_backward": ForwardBackwardConfig(**UNENCODED, task_dims=(8,), task_dim=4),
        "icvf": SuccessorFeaturesConfig(
            **UNENCODED, feature_learner=ICVFConfig(**ENCODER, state_dims=(8,), intent_dims=(8,))
        ),
        "hilp": SuccessorFeaturesConfig(
            **UNENCODED, feature_learner=HILPConfig(**ENCODER), loss="values", center=True
        ),
        "laplacian": SuccessorFeaturesConfig(**UNENCODED, feature_learner=LaplacianConfig(**ENCODER)),
        "byol": SuccessorFeaturesConfig(
            **UNENCODED, feature_learner=BYOLConfig(**ENCODER, predictor_dims=(8,), ahead="geometric")
        ),
        "rldp": SuccessorFeaturesConfig(
            **UNENCODED,
            feature_learner=RLDPConfig(**ENCODER, dynamics_dims=(8,), horizon=2),
            loss="measures",
        ),
        "observed": SuccessorFeaturesConfig(**UNENCODED, feature_learner=ObservedConfig()),
    }.items()
}
VARIANTS = AGENTS.keys() - {
    *("iql", "iql-ddpg_bc", "iql-discrete", "iql-goals", "eta_network", "xql", "cql"),
    *("hiql", "crl", "qrl"),
}
"""Rows that share all but a little with another: their contracts are tested with the slow tests."""
FAMILIES = {"iql", "eta_network"}
"""One row each: what needs a program of its own is tested with the slow tests for the others."""


def each(names, quick):
    return pytest.mark.parametrize(
        "name", [name if name in quick else pytest.param(name, marks=pytest.mark.slow) for name in names]
    )


each_agent = each(AGENTS, AGENTS.keys() - VARIANTS)


def example_batch(spec: Spec, seed: int = 0, size: int = 32) -> Transitions:
    random = np.random.default_rng(seed)

    def observations():
        if parts := spec.observation_parts:
            drawn = {
                part.name: random.integers(0, 256, (size, *part.shape), np.uint8)
                if observation_parts.is_image(part)
                else random.normal(size=(size, *part.shape))
                for part in parts
            }
            return observation_parts.pack(drawn, parts, "batch")
        shape = (size, *spec.observation_shape)
        if spec.observation_dtype == "uint8":
            return random.integers(0, 256, shape).astype(np.uint8)
        return random.normal(size=shape).astype(np.float32)

    if spec.discrete:
        actions = random.integers(0, spec.num_actions, size).astype(np.int32)
    else:
        actions = random.uniform(-1, 1, (size, spec.action_dim)).astype(np.float32)
    return Transitions(
        observations=observations(),
        actions=actions,
        rewards=random.uniform(spec.reward_min, spec.reward_max, size).astype(np.float32),
        masks=(random.random(size) > 0.1).astype(np.float32),
        next_observations=observations(),
        goals=observations() if spec.goal_conditioned else None,
        policy_goals=observations() if spec.goal_conditioned else None,
        next_actions=np.roll(actions, 1, axis=0),
        futures=observations(),
        segments=Segments(
            np.repeat(actions[:, None], 3, axis=1),
            np.stack([observations() for _ in range(3)], axis=1),
            (np.arange(3)[None] <= random.integers(0, 3, (size, 1))).astype(np.float32),
        ),
        subgoals=observations() if spec.goal_conditioned else None,
        policy_subgoals=observations() if spec.goal_conditioned else None,
    )


def observe(batch: Transitions):
    """What act and value take for a batch, of an agent without memory."""
    if batch.goals is None:
        return batch.observations
    return GoalConditioned(batch.observations, batch.goals)


def recall(agent: Agent, state: Any, batch: Transitions):
    """What act and value take for a batch; an agent with a memory has been given its last command.

    A zero-shot agent has been given the states as goals.
    """
    if agent.features:
        return Augmented(batch.observations, on_sphere(agent.features(state, batch.observations)))
    if agent.memory is None:
        return observe(batch)
    command = list(agent.memory.commands.values())[-1]
    commands = jnp.repeat(command[None], len(batch.observations), axis=0)
    return Augmented(batch.observations, agent.memory.choose(state, batch.observations, commands))


@functools.cache
def build(name: str):
    """An agent with its functions jitted, shared by all tests, and its first state."""
    row = AGENTS[name]
    agent = row.make_agent(row.config, row.spec)
    agent = agent._replace(update=jax.jit(agent.update), act=jax.jit(agent.act))
    if agent.value:
        agent = agent._replace(value=jax.jit(agent.value))
    if agent.memory:
        agent = agent._replace(memory=agent.memory._replace(choose=jax.jit(agent.memory.choose)))
    return row, agent, jax.jit(agent.init)(jax.random.key(0), example_batch(row.spec, size=1))


def of_images(spec: Spec) -> Spec:
    """Such data, but for their observations."""
    return dataclasses.replace(
        spec, observation_shape=IMAGES.observation_shape, observation_dtype=IMAGES.observation_dtype
    )


def of_parts(spec: Spec) -> Spec:
    """Such data, but with an image and a vector as observations."""
    parts = (
        ObservationPart("image", IMAGES.observation_shape, "uint8"),
        ObservationPart("state", (3,), "float32"),
    )
    shape = (observation_parts.packed_size(parts),)
    return dataclasses.replace(
        spec, observation_shape=shape, observation_dtype="uint8", observation_parts=parts
    )


def shapes(tree):
    return jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), tree)


@each_agent
def test_update_keeps_shapes_and_compiles_once(name):
    row, agent, state = build(name)
    new_state, metrics = agent.update(state, example_batch(row.spec, 1))
    assert shapes(new_state) == shapes(state)
    new_state, metrics = agent.update(new_state, example_batch(row.spec, 2))
    assert agent.update._cache_size() == 1
    assert all(metric.shape == () and np.isfinite(metric) for metric in metrics.values())
    assert not metrics.keys() - WORDS.keys()  # evaluation/metrics.py needs words for each of them


@each_agent
def test_state_may_be_donated(name):
    """No two leaves share a buffer, neither at the start nor after an update."""
    row, agent, state = build(name)
    for some_state in (state, agent.update(state, example_batch(row.spec))[0]):
        leaves = [leaf for leaf in jax.tree.leaves(some_state) if leaf.dtype == jnp.float32]
        pointers = {leaf.unsafe_buffer_pointer() for leaf in leaves}
        assert len(pointers) == len(leaves)


@each_agent
def test_update_is_pure(name):
    row, agent, state = build(name)
    batch = example_batch(row.spec)
    first, second = agent.update(state, batch), agent.update(state, batch)
    jax.tree.map(np.testing.assert_array_equal, first[1], second[1])


@each_agent
def test_act_gives_valid_actions(name):
    row, agent, state = build(name)
    batch = example_batch(row.spec)
    given = recall(agent, state, batch)
    sampled = agent.act(state, given, jax.random.key(1), 1.0)
    likely = [agent.act(state, given, jax.random.key(seed), 0.0) for seed in (1, 2)]
    np.testing.assert_array_equal(*likely)
    assert sampled.shape == batch.actions.shape
    assert sampled.dtype == batch.actions.dtype
    if row.spec.discrete:
        assert sampled.min() >= 0
        assert sampled.max() < row.spec.num_actions
    else:
        assert jnp.abs(sampled).max() <= 1
    assert agent.act._cache_size() == 1


@each([name for name in AGENTS if not name.startswith("bc")], AGENTS.keys() - VARIANTS)
def test_value_gives_a_number_each(name):
    row, agent, state = build(name)
    assert agent.value(state, recall(agent, state, example_batch(row.spec))).shape == (32,)


@each(AGENTS, FAMILIES)
def test_numeric_fields_may_be_traced(name):
    """None decides in Python what an agent is; that they mean the same then, the next test shows."""
    row = AGENTS[name]
    agent = row.make_agent(row.config, row.spec)
    state = jax.eval_shape(agent.init, jax.random.key(0), example_batch(row.spec, size=1))
    metrics = jax.eval_shape(
        lambda values, state: two_updates(row, state)(values), numbers(row.config), state
    )
    assert metrics
    assert all(metric.shape == (2,) for metric in metrics.values())


@each(["iql", "eta_network", "fql", "zero_shot-td_jepa"], FAMILIES)
def test_a_population_equals_its_members(name):
    """An agent built from traced fields learns as one from constants."""
    row, _, state = build(name)
    values, metrics = numbers(row.config), two_updates(row, state)
    alone = jax.jit(lambda: metrics(values))()
    population = jax.jit(jax.vmap(metrics))({name: jnp.full(2, value) for name, value in values.items()})
    for name, metric in alone.items():
        np.testing.assert_allclose(population[name], jnp.stack([metric, metric]), rtol=2e-3, atol=1e-5)


def two_updates(row, state):
    """From numeric fields of a row's config to the metrics of two updates."""
    batch = example_batch(row.spec)

    def metrics(values):
        agent = row.make_agent(configuration.replace(row.config, values), row.spec)
        return jax.lax.scan(lambda state, _: agent.update(state, batch), state, length=2)[1]

    return metrics


NOT_FROM_IMAGES = (
    "plain",
    "deterministic",
    "discrete",
    "bc-goals",
    "cql-goals",
    "symmetric",
    "crl-awr",
    "observed",
    "spectral",
)
"""Ends of rows that cannot, or that add nothing to another."""


@each([name for name in AGENTS if not name.endswith(NOT_FROM_IMAGES)], {"fql"})
@pytest.mark.parametrize("data", [of_images, of_parts])
def test_learns_from_images(name, data):
    """Every encoder changes, and what is made of images, alone or among parts, depends on them."""
    row, spec = AGENTS[name], data(AGENTS[name].spec)
    known = configuration.fields(row.config)
    changes = {field: "drq" for field in known if field.endswith("encoder")}
    if name.startswith("zero_shot"):
        changes = {f"critic.{field}": value for field, value in ENCODINGS.items()}
    agent = row.make_agent(configuration.replace(row.config, changes), spec)
    agent = normalized(agent, Normalization(), spec.observation_parts)

    @jax.jit
    def learn(batch):
        start = agent.init(jax.random.key(0), batch)
        end, metrics = jax.lax.scan(lambda state, _: agent.update(state, batch), start, length=2)
        given = recall(agent, end, batch)
        seen = agent.value(end, given) if agent.value else agent.act(end, given, jax.random.key(0), 0.0)
        return start, end, metrics, seen, agent.act(end, given, jax.random.key(1), 1.0)

    batch = example_batch(spec, size=8)
    start, end, metrics, seen, actions = learn(batch)
    assert all(np.isfinite(metric).all() for metric in metrics.values())
    assert (actions.shape, actions.dtype) == (batch.actions.shape, batch.actions.dtype)
    assert np.ptp(np.asarray(seen), axis=0).max() > 0
    encoders = 0
    for (path, before), after in zip(jax.tree.leaves_with_path(start), jax.tree.leaves(end), strict=True):
        place = jax.tree_util.keystr(path)
        if re.search(r"\.params\b.*(encoder|Convolutions|DrQ).*kernel", place):
            encoders += 1
            assert not np.array_equal(before, after), place
    assert encoders


# For every field of a config: another value, and what else must be set for the field to matter. What a class
# inherits may stand with the class that it inherits it from. Of a float, which is traced, any value will do.
FLIPS: dict[type, dict[str, Any]] = {
    ZeroShotConfig: {
        "goal_share": (1.0, {}),
        "later_goals": (0.5, {}),
        "whiten_goals": (True, {}),
        "moment_rate": (0.5, {}),
    },
    TaskConditionedConfig: {
        "predictor_dims": ((4,), {}),
        "state_dims": ((4,), {"state_dim": 3}),
        "state_dim": (5, {}),
        "policy_sees": ("encodings", {"state_dim": 4}),
        "ensemble_size": (3, {}),
        "pessimism": (0.5, {}),
        "target_pessimism": (0.5, {}),
        "discount": (0.5, {}),
        "learning_rate": (1e-2, {}),
        "feature_learning_rate": (1e-2, {}),
        "target_rate": (0.5, {}),
    },
    TDJEPAConfig: {
        "state_dims": ((4,), {}),
        "task_dims": ((4,), {}),
        "state_dim": (4, {}),
        "task_dim": (3, {}),
        "state_orthonormality": (0.0, {}),
        "task_orthonormality": (0.0, {}),
        "symmetric": (True, {}),
        "target": ("monte_carlo", {}),
    },
    ForwardBackwardConfig: {
        "task_dims": ((4,), {}),
        "task_dim": (3, {}),
        "orthonormality": (0.0, {}),
    },
    SuccessorFeaturesConfig: {
        "loss": ("features", {"loss": "values"}),
        "center": (True, {}),
        "differences": (True, {}),
    },
    EncoderConfig: {"hidden_dims": ((16,), {}), "dim": (3, {}), "normalize": (False, {})},
    SpreadConfig: {"orthonormality": (0.0, {})},
    GoalValueConfig: {"expectile": (0.6, {}), "discount": (0.5, {}), "random_goals": (0.5, {})},
    HILPConfig: {"normalize": (True, {}), "num_values": (1, {}), "goal_tasks": ("differences", {})},
    ICVFConfig: {
        "state_dims": ((4,), {}),
        "intent_dims": ((4,), {}),
        "num_values": (1, {}),
        "same_goals": (0.2, {}),
    },
    LaplacianConfig: {},
    BYOLConfig: {"predictor_dims": ((4,), {}), "num_predictors": (1, {}), "ahead": ("next", {})},
    RLDPConfig: {"dynamics_dims": ((4,), {}), "num_predictors": (3, {}), "horizon": (3, {})},
    ObservedConfig: {"columns": ((0, 2), {}), "constant": (False, {})},
    IQLConfig: {},
    WeightedConfig: {"weight_max": (0.5, {})},
    AWRConfig: {"inverse_temperature": (1.0, {})},
    HierarchicalConfig: {"low_inverse_temperature": (1.0, {}), "high_inverse_temperature": (1.0, {})},
    GumbelConfig: {
        "value_layer_norm": (False, {}),
        "temperature": (1.0, {}),
        "exponent_max": (1.0, {}),
        "huber": (1.0, {}),
    },
    ConservativeConfig: {
        "conservative_weight": (1.0, {}),
        "num_sampled": (3, {}),
        "temperature": (2.0, {}),
        "lagrange": (True, {}),
        "target_gap": (1.0, {"lagrange": True}),
    },
    EtaNetworkConfig: {
        "encoder": ("drq", {"encoder": "impala_small"}),
        "objective": ("upper_cvar", {}),
        "tau": (0.5, MEAN_CVAR),
        "weight": (0.25, MEAN_CVAR),
        "taus": ((0.5, 1.0), SPECTRAL),
        "weights": ((0.25, 0.75), SPECTRAL),
        "risk": (-1.0, {"objective": "entropic", "risk": 1.0, "discount": 1.0}),
        "norm": ("1", {"objective": "homeostatic", "commands": (1.0,)}),
        "power": (2.0, {"objective": "homeostatic", "commands": (1.0,)}),
        "commands": ((2.0,), {"objective": "target", "commands": (1.0,)}),
        "mean_weight": (1.0, {}),
        "jump_width": (9.0, {"objective": "satisficing", "commands": (1.0,)}),
        "augmented": (False, {"commands": (0.5,)}),
        "stock_low": (-5.0, {}),
        "stock_high": (5.0, {}),
        "stock_edits": (2, {}),
        "stock_points": (4, {}),
        "num_atoms": (8, {}),
        "num_targets": (2, {}),
        "hidden_dims": ((16,), {}),
        "layer_norm": (True, {"hidden_dims": (8, 8)}),
        "huber": (1.0, {}),
        "discount": (0.5, {}),
        "learning_rate": (1e-2, {}),
        "learning_rate_schedule": ("constant", {}),
        "target_period": (1, {}),
        "epsilon_start": (0.5, {}),
        "epsilon_end": (0.5, {}),
        "epsilon_updates": (10, {}),
    },
    TemporalDifferenceConfig: {
        "encoder": ("drq", {}),
        "hidden_dims": ((16,), {}),
        "activation": ("relu", {}),
        "layer_norm": (False, {}),
        "block_depth": (1, {"hidden_dims": (8, 8)}),
        "ensemble_size": (3, {}),
        "target_members": (1, {}),
        "aggregation": ("min", {}),
        "q_aggregation": ("min", {}),
        "loss": ("categorical", {}),
        "num_bins": (20, {"loss": "categorical"}),
        "bin_width": (2.0, {"loss": "categorical"}),
        "discount": (0.5, {}),
        "learning_rate": (1e-2, {}),
        "target_rate": (0.5, {}),
    },
    FlowCriticConfig: {
        "encoder": ("drq", {}),
        "hidden_dims": ((16,), {}),
        "activation": ("relu", {}),
        "layer_norm": (False, {}),
        "field_hidden_dims": ((16,), {}),
        "block_depth": (1, {"hidden_dims": (8, 8)}),
        "ensemble_size": (3, {}),
        "aggregation": ("min_of_means", {"aggregation": "min"}),
        "next_actions": ("shared", {}),
        "num_draws": (2, {}),
        "num_steps": (2, {}),
        "solver": ("midpoint", {}),
        "integration_dtype": ("bfloat16", {}),
        "coverage": (0.5, {}),
        "target": ("distributional", {}),
        "supervision": ("value", {}),
        "times": ("zero", {}),
        "value_embedding": ("scalar", {}),
        "num_bins": (20, {}),
        "bin_width": (2.0, {}),
        "time_embedding": ("cosine", {"time_embedding": "fourier"}),
        "time_size": (8, {"time_embedding": "fourier"}),
        "time_scale": (2.0, {"time_embedding": "fourier"}),
        "time_fastest": (4.0, {"time_embedding": "fourier"}),
        "discount": (0.5, {}),
        "learning_rate": (1e-2, {}),
        "target_rate": (0.5, {}),
    },
    QuasimetricConfig: {
        "encoder": ("drq", {}),
        "hidden_dims": ((16,), {}),
        "activation": ("relu", {}),
        "layer_norm": (False, {}),
        "quasimetric": ("mrn", {}),
        "latent_dim": (16, {}),
        "group_size": (2, {}),
        "offset": (15.0, {}),
        "softness": (10.0, {}),
        "margin": (0.1, {}),
        "dynamics": (False, {}),
        "learning_rate": (1e-2, {}),
    },
    ImplicitQuantileConfig: {
        "encoder": ("drq", {}),
        "hidden_dims": ((16,), {}),
        "activation": ("relu", {}),
        "layer_norm": (False, {}),
        "ensemble_size": (3, {}),
        "aggregation": ("min", {}),
        "num_levels": (4, {}),
        "num_target_levels": (4, {}),
        "num_read_levels": (4, {}),
        "num_waves": (16, {}),
        "huber": (0.1, {}),
        "discount": (0.5, {}),
        "learning_rate": (1e-2, {}),
        "target_rate": (0.5, {}),
    },
    ImplicitValueConfig: {
        "encoder": ("drq", {}),
        "hidden_dims": ((16,), {}),
        "activation": ("gelu", {}),
        "layer_norm": (True, {}),
        "ensemble_size": (3, {}),
        "discount": (0.5, {}),
        "learning_rate": (1e-2, {}),
        "target_rate": (0.5, {}),
    },
    ExpectileConfig: {"expectile": (0.9, {})},
    ImplicitStateValueConfig: {
        "encoder": ("drq", {}),
        "hidden_dims": ((16,), {}),
        "activation": ("relu", {}),
        "layer_norm": (False, {}),
        "ensemble_size": (3, {}),
        "expectile": (0.7, {}),
        "representation_dim": (2, {}),
        "cloning_gradient": (True, {}),
        "discount": (0.5, {}),
        "learning_rate": (1e-2, {}),
        "target_rate": (0.5, {}),
    },
    ContrastiveAuxiliaryConfig: {
        "encoder": ("drq", {}),
        "hidden_dims": ((16,), {}),
        "activation": ("relu", {}),
        "layer_norm": (False, {}),
        "latent_dim": (8, {}),
        "loss": ("binary", {}),
        "logsumexp_weight": (1.0, {}),
        "weight": (1.0, {}),
        "learning_rate": (1e-2, {}),
    },
    ContrastiveConfig: {
        "encoder": ("drq", {}),
        "hidden_dims": ((16,), {}),
        "activation": ("relu", {}),
        "layer_norm": (False, {}),
        "latent_dim": (8, {}),
        "ensemble_size": (3, {}),
        "loss": ("symmetric", {}),
        "logsumexp_weight": (1.0, {"loss": "symmetric"}),
        "state_value": (True, {}),
        "learning_rate": (1e-2, {}),
    },
    ParametricConfig: {
        "encoder": ("drq", {}),
        "hidden_dims": ((16,), {}),
        "activation": ("gelu", {}),
        "final_scale": (0.01, {}),
        "mean": ("clip", {}),
        "distribution": ("deterministic", {}),
        "learn_std": (False, {}),
        "dropout_rate": (0.5, {}),
        "learning_rate": (1e-2, {}),
        "learning_rate_schedule": ("cosine", {"learning_rate_schedule": "constant"}),
    },
    DDPGBCConfig: {"bc_weight": (3.0, {})},
    OneStepFlowConfig: {
        "encoder": ("drq", {}),
        "hidden_dims": ((16,), {}),
        "activation": ("relu", {}),
        "num_steps": (2, {}),
        "bc_weight": (1.0, {}),
        "normalize_q": (True, {}),
        "learning_rate": (1e-2, {}),
        "field_hidden_dims": ((16,), {}),
        "field_learning_rate": (1e-2, {}),
    },
    NoisyConfig: {
        "encoder": ("drq", {}),
        "hidden_dims": ((16,), {}),
        "activation": ("gelu", {}),
        "final_scale": (0.01, {}),
        "noise": (0.5, {}),
        "noise_max": (0.01, {}),
        "bc_weight": (1.0, {}),
        "normalize_q": (True, {}),
        "learning_rate": (1e-2, {}),
    },
    TaskPolicyConfig: {"task_embedding": (True, {})},
    BestOfFlowConfig: {
        "encoder": ("drq", {}),
        "hidden_dims": ((16,), {}),
        "activation": ("relu", {}),
        "num_steps": (2, {}),
        "num_candidates": (4, {}),
        "learning_rate": (1e-2, {}),
    },
    ReBRACConfig: {
        "encoder": ("drq", {}),
        "hidden_dims": ((16,), {}),
        "activation": ("gelu", {}),
        "final_scale": (0.01, {}),
        "bc_weight": (1.0, {}),
        "target_weight": (1.0, {}),
        "target_noise": (0.0, {}),
        "target_noise_max": (0.01, {}),
        "target_rate": (0.5, {}),
        "period": (1, {}),
        "learning_rate": (1e-2, {}),
    },
    SACConfig: {
        "encoder": ("drq", {}),
        "hidden_dims": ((16,), {}),
        "activation": ("gelu", {}),
        "final_scale": (0.01, {}),
        "target_entropy": (1.0, {}),
        "initial_alpha": (0.1, {}),
        "charges_entropy": (False, {}),
        "log_std_min": (-1.0, {}),
        "period": (2, {}),
        "learning_rate": (1e-2, {}),
    },
}


@pytest.mark.parametrize("config_class", FLIPS)
def test_every_field_has_an_entry(config_class):
    known = configuration.fields(config_class())
    entries = {name for base in config_class.__mro__ for name in FLIPS.get(base, {})}
    assert entries == {name for name in known if "." not in name}


def numbers(config) -> dict[str, float]:
    """The fields that may be traced, by dotted name; not a discount of 1, which some objectives need."""
    known = configuration.fields(config)
    traced = {name: field.value for name, field in known.items() if field.annotation is float}
    return {name: value for name, value in traced.items() if (name, value) != ("discount", 1.0)}


def configs(config):
    """A config, and the configs in it."""
    yield config
    for field in dataclasses.fields(config):
        if dataclasses.is_dataclass(part := getattr(config, field.name)):
            yield from configs(part)


def parts(config) -> dict[type, str]:
    """The classes whose fields a config has, and what stands before their names."""
    found = {}
    for field in dataclasses.fields(config):
        part = getattr(config, field.name)
        if dataclasses.is_dataclass(part):
            found |= {config_class: f"{field.name}.{path}" for config_class, path in parts(part).items()}
    return found | dict.fromkeys(type(config).__mro__, "")


@functools.cache
def program(make_agent, spec, config):
    """What three updates and an action after them compute, without what has no part in it.

    As text, and the names of the numeric fields that have a part.
    """
    batch, values = example_batch(spec), numbers(config)

    @jax.jit
    def learn(values):
        agent = make_agent(configuration.replace(config, values), spec)
        state = agent.init(jax.random.key(0), batch)
        state, metrics = jax.lax.scan(lambda state, _: agent.update(state, batch), state, length=3)
        given = recall(agent, state, batch)
        return metrics, given, agent.act(state, given, jax.random.key(0), 1.0)

    lowered = learn.lower(values)
    # Arguments that compute nothing are not arguments of the lowered program.
    (arguments,) = re.findall(r"func public @main\((.*)\) ->", lowered.as_text(debug_info=True))
    return lowered.as_text(), set(re.findall(r"values\['(.*?)'\]", arguments))


def is_dead(make_agent, spec, base, field, value) -> bool:
    """Whether a field changes nothing; of a number it is enough to see that its value goes nowhere."""
    if field in numbers(base):
        return field not in program(make_agent, spec, base)[1]
    changed = configuration.replace(base, {field: value})
    return program(make_agent, spec, base)[0] == program(make_agent, spec, changed)[0]


def dead_knobs(config_class):
    """The fields of a config that change nothing."""
    having = [row for row in AGENTS.values() if config_class in parts(row.config)]
    if config_class is TaskPolicyConfig:
        having = [row for row in having if row.make_agent is zero_shot]
    # A row of the class itself comes before rows of classes that inherit from it.
    row = next((row for row in having if config_class in map(type, configs(row.config))), having[0])
    for field, (value, setting) in FLIPS[config_class].items():
        spec = of_images(row.spec) if field == "encoder" else row.spec
        prefix = parts(row.config)[config_class]
        base = configuration.replace(row.config, {prefix + name: chosen for name, chosen in setting.items()})
        if is_dead(row.make_agent, spec, base, prefix + field, value):
            yield field


@pytest.mark.parametrize(
    "config_class",
    [
        # It has fields of all kinds.
        pytest.param(known, marks=() if known is ImplicitValueConfig else pytest.mark.slow)
        for known in FLIPS
    ],
)
def test_no_dead_knobs(config_class):
    assert list(dead_knobs(config_class)) == []


def test_a_dead_knob_is_found():
    def blind(config, spec):
        fixed = {"critic.discount": 0.9, "critic.layer_norm": False}
        return iql(configuration.replace(config, fixed), spec)

    for field, value in {"critic.discount": 0.5, "critic.layer_norm": True}.items():
        assert is_dead(blind, CONTINUOUS, iql_config(), field, value)
        assert not is_dead(iql, CONTINUOUS, iql_config(), field, value)


# A chain of five states with a known value function.


def chain_batch(spec: Spec, random: np.random.Generator, size: int = 128) -> Transitions:
    """Uniform states 0 to 4 and moves left or right; reward 1 and the end on going right from state 4.

    Continuous actions are uniform in [-1, 1], and their mean decides: where data hold only the ends, what
    critics make of the actions between is not theirs to know.
    """
    states = random.integers(0, 5, size)
    if spec.discrete:
        actions = random.integers(0, 2, size).astype(np.int32)
        right = actions
    else:
        actions = random.uniform(-1, 1, (size, spec.action_dim)).astype(np.float32)
        right = (actions.mean(1) > 0).astype(int)
    successors = np.clip(states + 2 * right - 1, 0, 4)
    done = (states == 4) & (right == 1)
    one_hot = np.eye(5, dtype=np.float32)
    return Transitions(
        one_hot[states], actions, done.astype(np.float32), 1 - done.astype(np.float32), one_hot[successors]
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, row in AGENTS.items() if row.chain])
def test_learns_a_five_state_chain(name):
    row = AGENTS[name]
    actions = {"num_actions": 2} if row.spec.discrete else {"action_dim": 1}
    spec = dataclasses.replace(row.spec, observation_shape=(5,), reward_min=0.0, num_updates=3000, **actions)
    agent = row.make_agent(configuration.replace(row.config, row.chain), spec)
    random = np.random.default_rng(0)
    batches = [chain_batch(spec, random) for _ in range(100)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *batches)

    states = batches[0]._replace(observations=np.eye(5, dtype=np.float32))

    @jax.jit
    def learn(key):
        def body(step, state):
            return agent.update(state, jax.tree.map(lambda leaf: leaf[step % 100], stacked))[0]

        state = jax.lax.fori_loop(0, 3000, body, agent.init(key, batches[0]))
        given = recall(agent, state, states)
        return agent.value(state, given), agent.act(state, given, key, 0.0)

    values, chosen = learn(jax.random.key(0))
    # V*(s) = γ^(4 - s): right all the way. The 0.98 expectile of two equally frequent actions lies 2 % of
    # their gap below the better one, at every state on the way.
    np.testing.assert_allclose(values, 0.9 ** np.arange(4, -1, -1), atol=row.tolerance)
    assert (chosen.reshape(5) > 0).all()


# Composition and normalisation.


def test_an_impossible_pair_is_refused_by_name():
    with pytest.raises(
        InputError, match="policy 'ddpg_bc' needs q_gradient and critic 'expectile' offers only"
    ):
        iql(iql_config(extraction="ddpg_bc"), DISCRETE)
    with pytest.raises(
        InputError, match="critic 'conservative' needs log_probs and policy 'rebrac' does not"
    ):
        composed(ComposedConfig(critic=ConservativeConfig(), policy=ReBRACConfig()), CONTINUOUS)
    with pytest.raises(InputError, match="critic conservative needs continuous actions"):
        composed(AGENTS["cql"].config, DISCRETE)
    with pytest.raises(InputError, match=r"critic.representation_dim is 3, but the data have no goals"):
        composed(AGENTS["ivl-goals"].config, CONTINUOUS)
    crl = AGENTS["crl"].config
    with pytest.raises(InputError, match="the contrastive critic learns from goals, but the data have none"):
        composed(crl, CONTINUOUS)
    with pytest.raises(InputError, match=r"needs advantage and critic 'contrastive \(state_value=False\)'"):
        composed(dataclasses.replace(crl, policy=AWRConfig()), GOALS)
    hiql, ivl = AGENTS["hiql"].config, AGENTS["ivl"].config
    for refused, spec, message in (
        (dataclasses.replace(ivl, policy=hiql.policy), CONTINUOUS, "hierarchical needs goals, but the data"),
        (dataclasses.replace(ivl, policy=hiql.policy), GOALS, "hierarchical needs representations of goals"),
        (dataclasses.replace(hiql, policy=OneStepFlowConfig()), GOALS, "'one_step_flow' needs q, q_gradient"),
        (
            configuration.replace(hiql, {"critic.cloning_gradient": True} | {"critic.representation_dim": 0}),
            GOALS,
            "critic.cloning_gradient is True, but critic.representation_dim is 0",
        ),
        (
            dataclasses.replace(AGENTS["hiql-discrete"].config, policy=ivl.policy),
            GOALS,
            "critic.cloning_gradient is True, but policy 'awr' does not see representations",
        ),
    ):
        with pytest.raises(InputError, match=message):
            composed(refused, spec)
    with pytest.raises(InputError, match=r"policy rebrac needs .*: use agent iql or fql"):
        composed(AGENTS["categorical-rebrac"].config, GOALS)


def test_negatives_need_a_second_transition():
    row, agent, state = build("crl")
    with pytest.raises(InputError, match="batch_size is 1, but a contrastive loss takes the goals"):
        agent.update(state, example_batch(row.spec, size=1))


def test_a_hierarchical_policy_needs_subgoals():
    row, agent, state = build("hiql")
    batch = example_batch(row.spec)._replace(subgoals=None, policy_subgoals=None)
    with pytest.raises(InputError, match=r"needs subgoals, .*: give data.goals.subgoal_steps, such as 25"):
        jax.eval_shape(agent.update, state, batch)


def test_cosine_schedule_needs_the_length_of_the_run():
    with pytest.raises(
        InputError, match=r"the learning rate's schedule is 'cosine', but spec.num_updates is 0"
    ):
        iql(IQLConfig(), dataclasses.replace(CONTINUOUS, num_updates=0))


def test_the_policy_sees_new_parameters_and_old_targets():
    seen = {}
    config = ExpectileConfig(hidden_dims=(8,), discount=0.9, learning_rate=0.1, target_rate=1.0)
    critic = expectile_critic(config, CONTINUOUS)

    def noted_estimates(state):
        seen.setdefault("state", state)
        return critic.estimates(state)

    noted = critic._replace(estimates=noted_estimates)
    policy = Policy(
        name="none",
        needs=frozenset(),
        init=lambda key, example: (),
        update=lambda state, batch, estimates: (state, {}),
        sample=None,
    )
    agent = actor_critic(noted, policy)

    @jax.jit
    def states():
        start = agent.init(jax.random.key(0), example_batch(CONTINUOUS, size=1))
        end, _ = agent.update(start, example_batch(CONTINUOUS))
        return start, end, seen["state"]

    start, end, seen_state = states()
    jax.tree.map(np.testing.assert_array_equal, seen_state.params, end.critic.params)
    jax.tree.map(np.testing.assert_array_equal, seen_state.target_params, start.critic.target_params)
    # With a target rate of 1 the average is the new critic itself.
    jax.tree.map(np.testing.assert_array_equal, end.critic.target_params["q"], end.critic.params["q"])


@pytest.mark.parametrize("slows_targets", [True, False])
def test_a_policy_with_a_period_steps_in_the_last_of_so_many_updates(slows_targets):
    critic = expectile_critic(ExpectileConfig(hidden_dims=(4,), learning_rate=0.1), CONTINUOUS)
    policy = Policy(
        name="counting",
        needs=frozenset(),
        init=lambda key, example: jnp.zeros(()),
        update=lambda state, batch, estimates: (state + 1, {"loss": state + 5}),
        sample=None,
        period=3,
        slows_targets=slows_targets,
    )
    agent = actor_critic(critic, policy)

    def one_update(state, _):
        new, metrics = agent.update(state, example_batch(CONTINUOUS))
        moved = [
            jnp.any(optax.tree.norm(optax.tree.sub(getattr(new.critic, name), getattr(state.critic, name))))
            for name in ("params", "target_params")
        ]
        return new, (new.policy, metrics["policy/stepped"], metrics["policy/loss"], *moved)

    @jax.jit
    @jax.vmap  # as members are trained side by side
    def learn(key):
        state = agent.init(key, example_batch(CONTINUOUS, size=1))
        return jax.lax.scan(one_update, state, length=7)[1]

    for steps, stepped, losses, critic_moved, targets_moved in zip(
        *learn(jax.random.split(jax.random.key(0), 2)), strict=True
    ):
        np.testing.assert_array_equal(steps, [0, 0, 1, 1, 1, 2, 2])
        np.testing.assert_array_equal(stepped, [0, 0, 1, 0, 0, 1, 0])
        np.testing.assert_array_equal(losses, [0, 0, 5, 0, 0, 6, 0])
        assert critic_moved.all()
        np.testing.assert_array_equal(targets_moved, stepped if slows_targets else np.ones(7))


@pytest.mark.slow
@pytest.mark.parametrize(
    "spec",
    [pytest.param(CONTINUOUS, id="plain"), pytest.param(GOALS, id="goals")],
)
def test_normalized_agent_equals_the_agent_on_normalised_data(spec):
    random = np.random.default_rng(1)
    mean, std = random.normal(size=3).astype(np.float32), random.uniform(1, 2, 3).astype(np.float32)
    low, high = np.float32([-2, 0]), np.float32([2, 5])
    agent = iql(iql_config(), spec)
    wrapped = normalized(agent, Normalization(mean, std, low, high, 10.0, -1.0))
    seen = example_batch(spec)

    def raw(observations):
        return None if observations is None else observations * std + mean

    given = Transitions(
        raw(seen.observations),
        low + (seen.actions + 1) / 2 * (high - low),
        (seen.rewards + 1) / 10,
        seen.masks,
        raw(seen.next_observations),
        raw(seen.goals),
        raw(seen.policy_goals),
        next_actions=low + (seen.next_actions + 1) / 2 * (high - low),
    )
    inner, inner_metrics = jax.jit(agent.update)(agent.init(jax.random.key(0), seen), seen)
    outer, outer_metrics = jax.jit(wrapped.update)(wrapped.init(jax.random.key(0), given), given)
    for name, metric in inner_metrics.items():
        np.testing.assert_allclose(metric, outer_metrics[name], rtol=1e-4, atol=1e-5)
    key = jax.random.key(2)
    actions = np.asarray(agent.act(inner, observe(seen), key, 1.0))
    np.testing.assert_allclose(
        wrapped.act(outer, observe(given), key, 1.0), low + (actions + 1) / 2 * (high - low), atol=1e-4
    )
    np.testing.assert_allclose(
        wrapped.value(outer, observe(given)), agent.value(inner, observe(seen)), atol=1e-4
    )


# Files of policies.

BOUNDS = Normalization(
    np.full(3, 0.5, np.float32), np.full(3, 2, np.float32), np.float32([-2, 0]), np.float32([2, 5])
)
EXPORTED = AGENTS | {
    "images-drq": Row(iql, iql_config(encoder="drq"), IMAGES),
    "images-impala_small": Row(behaviour_cloning, ParametricConfig(**SMALL), IMAGES),
}
FIRST_EXPORTED = {
    *("iql", "bc-goals", "iql-discrete", "sac", "expectile-best_of", "fql", "categorical-rebrac"),
    *("zero_shot-td_jepa", "eta_network", "hiql", *(EXPORTED.keys() - AGENTS.keys())),
}
"""One row for each kind of policy, and for what stands in front of it."""


@each(EXPORTED, FIRST_EXPORTED)
def test_an_onnx_file_acts_as_the_agent(name, tmp_path):
    """With the same observations, goals, tasks, stocks and seeds, alone and in batches."""
    row, batch = EXPORTED[name], example_batch(EXPORTED[name].spec, size=5)
    normalization = BOUNDS if row.spec in (CONTINUOUS, GOALS) else Normalization()
    agent = normalized(row.make_agent(row.config, row.spec), normalization)
    run = TrainedRun(
        workdir=None,
        config=dataclasses.replace(flags.DEFAULTS, agent=row.config, agent_name=name),
        members=configuration.Population(seeds=np.zeros(1, np.uint32), hyperparameters={}),
        build=lambda hyperparameters: agent,
        spec=row.spec,
        normalization=normalization,
        step=0,
        states=jax.tree.map(lambda leaf: leaf[None], jax.jit(agent.init)(jax.random.key(0), batch)),
        rows=[],
        result=None,
    )
    key = jax.random.key(3)
    given = {"observation": batch.observations, "goal": batch.goals, "seed": jax.random.key_data(key)}
    seen = observe(batch)
    if agent.memory:
        command = next(iter(agent.memory.commands.values()))
        commands = np.stack([command] * 5)
        first_stock = jax.jit(agent.memory.choose)(run.state(), batch.observations, commands)
        given["stock"] = np.linspace(-3, 3, first_stock.size, dtype=np.float32).reshape(first_stock.shape)
        seen = Augmented(batch.observations, given["stock"])
    if agent.features:
        random = np.random.default_rng(0)
        given["task"] = random.normal(size=(5, run.task_dim)).astype(np.float32)
        seen = Augmented(batch.observations, given["task"])
    for temperature in (0.0, 1.0):
        first = next(iter(agent.memory.commands)) if agent.memory else None
        description = run.export(tmp_path / "policy.onnx", command=first, temperature=temperature)
        names = [port["name"] for port in description["inputs"]]
        assert temperature or "seed" not in names
        session = onnxruntime.InferenceSession(tmp_path / "policy.onnx")
        assert json.loads(session.get_modelmeta().custom_metadata_map["valuelab"]) == description
        inputs = {each: np.asarray(given[each]) for each in names}
        outputs = session.run(None, inputs)
        expected = np.asarray(jax.jit(agent.act)(run.state(), seen, key, temperature))
        if not row.spec.discrete:
            interface = run.interface
            expected = np.clip(expected, interface.action_low, interface.action_high)
        np.testing.assert_allclose(outputs[0], expected, atol=1e-5)
        if agent.memory:
            np.testing.assert_allclose(outputs[1], first_stock, atol=1e-5)
        alone = {each: array if each == "seed" else array[:1] for each, array in inputs.items()}
        np.testing.assert_allclose(session.run(None, alone)[0], outputs[0][:1], atol=1e-5)
