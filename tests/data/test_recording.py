"""Recording the transitions of a policy as a dataset."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from valuelab import environments
from valuelab.data import normalization, recording, storage
from valuelab.distributional import gridworlds
from valuelab.errors import InputError

STEPS, DOWN = 20, 2


def straight_down(observations, key):
    return jnp.full(len(observations), DOWN)


@pytest.fixture(scope="module")
def dataset():
    """Three environments in the river: episodes take 8 steps, and one more step restarts them."""
    return recording.record(
        environments.vector("gridworld/target", 3), straight_down, STEPS, jax.random.key(0)
    )


def test_steps_that_begin_episodes_are_not_transitions(dataset):
    # Of 20 steps of each environment, steps 8 and 17 begin an episode; the third one is cut after 2 steps.
    assert len(dataset.rewards) == 3 * 18
    ends = np.flatnonzero(dataset.terminals[:18])
    assert ends.tolist() == [7, 15, 17]
    assert dataset.masks[:18].tolist() == [0.0 if row in (7, 15) else 1.0 for row in range(18)]
    np.testing.assert_array_equal(storage.trajectory_ends(dataset)[:18], [7] * 8 + [15] * 8 + [17] * 2)


def test_transitions_are_those_of_the_world(dataset):
    mdp = gridworlds.target().mdp
    before, after = dataset.observations.argmax(1), dataset.next_observations.argmax(1)
    possible = (
        (mdp.next_states[before, dataset.actions] == after[:, None])
        & (mdp.rewards[before, dataset.actions, :, 0] == dataset.rewards[:, None])
        & (mdp.probabilities[before, dataset.actions] > 0)
    )
    assert possible.any(1).all()
    assert (dataset.actions == DOWN).all()
    follows = ~dataset.terminals[:-1]
    np.testing.assert_array_equal(after[:-1][follows], before[1:][follows])


def test_the_spec_states_what_agents_need(dataset):
    spec = normalization.make_spec(dataset, normalization.IDENTITY, 7)
    assert (spec.num_actions, spec.observation_shape, spec.num_updates) == (
        3,
        (gridworlds.target().mdp.num_states,),
        7,
    )


def test_vector_rewards_are_refused():
    with pytest.raises(InputError, match="rewards"):
        recording.record(environments.vector("gridworld/homeostasis", 2), straight_down, 3, jax.random.key(0))
