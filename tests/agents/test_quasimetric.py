"""The quasimetric critic against exact distances in a graph."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from valuelab.agents.composed import ComposedConfig, composed
from valuelab.critics.quasimetric import QuasimetricConfig, quasimetric_critic
from valuelab.errors import InputError
from valuelab.policies.ddpg_bc import DDPGBCConfig
from valuelab.types import Spec, Transitions

SIZE = 6
SPEC = Spec((SIZE,), "float32", 0, 2, -1.0, 0.0, goal_conditioned=True)
SUCCESSORS = np.stack([(np.arange(SIZE) + 1) % SIZE, np.arange(SIZE)], axis=1)
"""The next states in a ring, [SIZE, 2]: action 0 goes on, action 1 stays where it is, or goes back."""
SUCCESSORS[[2, 4], 1] = [1, 2]
MARGIN = 0.0025
"""A mean squared excess that lets each step be 5 % too long."""


def shortest_paths() -> np.ndarray:
    """The number of steps from each state to each other one, [SIZE, SIZE]."""
    lengths = np.where(np.eye(SIZE), 0, np.inf)
    for _ in range(SIZE):
        lengths = np.minimum(lengths, 1 + lengths[SUCCESSORS].min(1))
    return lengths


def every_pair() -> Transitions:
    """Each pair of a state and a goal in one row; each transition in three rows."""
    states, goals = (part.ravel() for part in np.mgrid[:SIZE, :SIZE])
    actions = (states + goals) % 2
    one_hot = np.eye(SIZE, dtype=np.float32)
    return Transitions(
        observations=np.concatenate([one_hot[states], one_hot[goals]], axis=1),
        actions=actions.astype(np.int32),
        rewards=np.zeros(len(states), np.float32),
        masks=np.ones(len(states), np.float32),
        next_observations=np.concatenate([one_hot[SUCCESSORS[states, actions]], one_hot[goals]], axis=1),
    )


def learnt(kind: str, batch: Transitions, updates: int = 1500) -> tuple[np.ndarray, np.ndarray]:
    """After training on a batch, -V of all pairs, [SIZE, SIZE], and -Q for each action, [2, SIZE, SIZE]."""
    config = QuasimetricConfig(
        **{"quasimetric": kind, "hidden_dims": (32,), "layer_norm": False, "activation": "relu"},
        **{"latent_dim": 128 if kind == "iqe" else 32, "group_size": 4, "learning_rate": 3e-3},
        **{"offset": 20.0, "softness": 5.0, "margin": MARGIN},
    )
    critic = quasimetric_critic(config, SPEC)

    @jax.jit
    def learn(key):
        state = critic.init(key, batch)
        state = jax.lax.fori_loop(0, updates, lambda _, state: critic.update(state, batch, None)[0], state)
        estimates = critic.estimates(state)
        actions = jnp.zeros(SIZE**2, jnp.int32)
        q_values = [estimates.q(batch.observations, actions + action) for action in (0, 1)]
        return -estimates.value(batch.observations), -jnp.stack(q_values)

    distances, after = learn(jax.random.key(0))
    return distances.reshape(SIZE, SIZE), after.reshape(2, SIZE, SIZE)


@pytest.mark.parametrize("kind", [pytest.param("iqe", marks=pytest.mark.slow), "mrn"])
def test_distances_are_the_lengths_of_shortest_paths(kind):
    """The margin allows 5 % more, and the mean may hide 10 % in one step; predicted latents add an error."""
    lengths = shortest_paths()
    assert lengths.max() == 5
    assert (lengths != lengths.T).any()
    distances, after = learnt(kind, every_pair())
    np.testing.assert_allclose(distances, lengths, rtol=0.1, atol=0.1)
    np.testing.assert_allclose(after, lengths[SUCCESSORS].swapaxes(0, 1), rtol=0.1, atol=0.5)


def test_without_the_constraint_distances_are_too_long():
    """Transitions that lead nowhere constrain nothing."""
    batch = every_pair()
    distances, _ = learnt("mrn", batch._replace(next_observations=batch.observations), updates=500)
    assert (distances > 2 * shortest_paths())[~np.eye(SIZE, dtype=bool)].all()


def test_data_without_goals_are_refused():
    with pytest.raises(InputError, match="critic quasimetric needs goals, but the data have rewards instead"):
        quasimetric_critic(QuasimetricConfig(), Spec((3,), "float32", 2, 0, -1.0, 0.0))


def test_policies_that_need_q_need_the_dynamics():
    spec = Spec((3,), "float32", 2, 0, -1.0, 0.0, goal_conditioned=True)
    config = ComposedConfig(critic=QuasimetricConfig(dynamics=False), policy=DDPGBCConfig())
    with pytest.raises(InputError, match="needs q, q_gradient and critic 'quasimetric' offers only"):
        composed(config, spec)
