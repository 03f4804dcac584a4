"""Implicit V-learning finds the number of steps to goals."""

import jax
import numpy as np

from valuelab.critics.implicit_state_value import ImplicitStateValueConfig, implicit_state_value_critic
from valuelab.types import Spec, Transitions

STATES, DISCOUNT = 5, 0.9


def test_values_are_discounted_numbers_of_steps():
    """In a chain with moves left and right, V(s, g) = -(1 - γ^k) / (1 - γ) with k = |s - g|."""
    config = ImplicitStateValueConfig(
        hidden_dims=(64,), expectile=0.99, discount=DISCOUNT, learning_rate=3e-3, target_rate=0.1
    )
    spec = Spec((STATES,), "float32", 1, 0, -1.0, 0.0, goal_conditioned=True)
    critic = implicit_state_value_critic(config, spec)

    # Every state with every goal and both moves; each pair has its own input, so V is almost a table.
    states, goals, moves = map(np.ravel, np.meshgrid(range(STATES), range(STATES), [-1, 1]))
    reached = (states == goals).astype(np.float32)
    successors = np.clip(states + moves, 0, STATES - 1)
    pairs = np.eye(STATES**2, dtype=np.float32)
    batch = Transitions(
        observations=pairs[STATES * states + goals],
        actions=np.float32(moves)[:, None],
        rewards=reached - 1,
        masks=1 - reached,
        next_observations=pairs[STATES * successors + goals],
    )

    @jax.jit
    def learn(key):
        def body(_, state):
            return critic.average_targets(critic.update(state, batch, None)[0])

        estimates = critic.estimates(jax.lax.fori_loop(0, 2000, body, critic.init(key, batch)))
        return estimates.value(batch.observations), estimates.advantage(batch)

    def expected(states):
        return -(1 - DISCOUNT ** np.abs(states - goals)) / (1 - DISCOUNT)

    values, advantages = learn(jax.random.key(0))
    np.testing.assert_allclose(values, expected(states), atol=0.08)
    # The rewards of the batch play no part.
    np.testing.assert_allclose(advantages, expected(successors) - expected(states), atol=0.08)
