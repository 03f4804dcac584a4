"""HIQL finds the way to goals in a chain, from a random walk."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from valuelab.agents.composed import ComposedConfig, composed
from valuelab.critics.implicit_state_value import ImplicitStateValueConfig
from valuelab.data.sampling import GoalRelabelling, goals
from valuelab.policies.hierarchical import HierarchicalConfig
from valuelab.types import Dataset, GoalConditioned, Spec

STATES, LENGTH = 9, 50


@pytest.mark.slow
def test_walks_to_goals_in_a_chain():
    """The sign of an action is a step left or right; most actions lead towards the goal."""
    random = np.random.default_rng(0)
    actions = random.uniform(-1, 1, (200, LENGTH)).astype(np.float32)
    states = np.zeros((200, LENGTH + 1), int)
    states[:, 0] = random.integers(0, STATES, 200)
    for step in range(LENGTH):
        states[:, step + 1] = np.clip(states[:, step] + np.sign(actions[:, step]), 0, STATES - 1)
    one_hot = np.eye(STATES, dtype=np.float32)
    dataset = Dataset(
        name="chain",
        observations=one_hot[states[:, :-1].ravel()],
        next_observations=one_hot[states[:, 1:].ravel()],
        actions=actions.reshape(-1, 1),
        rewards=np.zeros(actions.size, np.float32),
        masks=np.ones(actions.size, np.float32),
        terminals=np.tile(np.arange(LENGTH) == LENGTH - 1, 200),
        action_low=-np.ones(1, np.float32),
        action_high=np.ones(1, np.float32),
        goal_conditioned=True,
    )
    sampler = goals(dataset, 128, GoalRelabelling(discount=0.9, subgoal_steps=3))
    arrays = jax.tree.map(jnp.asarray, sampler.arrays)
    spec = Spec((STATES,), "float32", 1, 0, -1.0, 0.0, goal_conditioned=True)
    network = {"hidden_dims": (32, 32), "learning_rate": 2e-3}
    critic = ImplicitStateValueConfig(
        **network,
        expectile=0.9,
        discount=0.9,
        target_rate=0.05,
        representation_dim=4,
    )
    policy = HierarchicalConfig(**network, low_inverse_temperature=3.0, high_inverse_temperature=3.0)
    agent = composed(ComposedConfig(critic=critic, policy=policy), spec)
    starts, ends = map(np.ravel, np.meshgrid(range(STATES), range(STATES)))
    seen = GoalConditioned(one_hot[starts], one_hot[ends])

    @jax.jit
    def learn(key):
        def body(step, state):
            batch = sampler.sample(arrays, jax.random.fold_in(key, step))
            return agent.update(state, batch)[0]

        first = agent.init(key, sampler.sample(arrays, key))
        state = jax.lax.fori_loop(0, 2000, body, first)
        return agent.act(state, seen, key, 0.0)[:, 0], agent.value(state, seen)

    chosen, values = learn(jax.random.key(0))
    away = starts != ends
    right = np.sign(chosen) == np.sign(ends - starts)
    assert np.mean(right[away]) > 0.9
    distances = np.abs(starts - ends)
    assert np.corrcoef(values, distances)[0, 1] < -0.9
