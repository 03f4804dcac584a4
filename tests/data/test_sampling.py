import dataclasses

import jax
import numpy as np
import pytest
from scipy import stats

from valuelab.data import sampling, storage
from valuelab.data.sampling import GoalDistribution, GoalRelabelling
from valuelab.errors import InputError
from valuelab.types import Dataset

LENGTHS = (40, 1, 25, 300)
"""The number of transitions of each trajectory."""


def compact_dataset(lengths) -> Dataset:
    """Row i has observation (trajectory, step) and reward i."""
    trajectories = np.repeat(np.arange(len(lengths)), np.array(lengths) + 1)
    steps = np.concatenate([np.arange(length + 1) for length in lengths])
    terminals = np.concatenate([np.arange(length + 1) == length for length in lengths])
    rows = len(steps)
    return Dataset(
        name="made up",
        observations=np.stack([trajectories, steps], axis=1).astype(np.float32),
        actions=np.linspace(-1, 1, rows, dtype=np.float32)[:, None],
        rewards=np.arange(rows, dtype=np.float32),
        masks=(np.arange(rows) % 3 > 0).astype(np.float32),
        terminals=terminals,
        valid=~terminals,
    )


COMPACT = compact_dataset(LENGTHS)
FULL = storage.full(COMPACT)


@pytest.fixture(params=["compact", "full"])
def dataset(request):
    return COMPACT if request.param == "compact" else FULL


def draw(sampler, seed=0):
    return jax.device_get(jax.jit(sampler.sample)(sampler.arrays, jax.random.key(seed)))


def test_transitions_are_rows_of_the_dataset(dataset):
    batch = draw(sampling.transitions(dataset, 2000))
    rows = batch.rewards.astype(int)
    assert COMPACT.valid[rows].all()
    np.testing.assert_array_equal(batch.observations, COMPACT.observations[rows])
    np.testing.assert_array_equal(batch.next_observations, COMPACT.observations[rows + 1])
    np.testing.assert_array_equal(batch.actions, COMPACT.actions[rows])
    np.testing.assert_array_equal(batch.masks, COMPACT.masks[rows])
    assert batch.goals is None


def test_transitions_are_uniform(dataset):
    batch = draw(sampling.transitions(dataset, 100_000))
    counts = np.bincount(batch.rewards.astype(int), minlength=len(COMPACT.rewards))[COMPACT.valid]
    assert stats.chisquare(counts).pvalue > 1e-3


def test_weights_are_the_probabilities_of_transitions(dataset):
    weights = np.ones(sum(LENGTHS))
    weights[:40], weights[40], weights[41:66] = 0, 300, 2
    for sampler in (
        sampling.transitions(dataset, 20_000, weights=weights),
        sampling.goals(dataset, 20_000, GoalRelabelling(), weights=weights),
    ):
        batch = sampler.sample(sampler.arrays, jax.random.key(0))
        trajectories = np.asarray(batch.observations[:, 0])
        shares = [np.mean(trajectories == number) for number in range(4)]
        np.testing.assert_allclose(shares, np.array([0, 300, 50, 300]) / 650, atol=0.015)
        assert shares[0] == 0


@pytest.mark.parametrize(
    "make", [sampling.transitions, lambda *rest: sampling.goals(*rest, GoalRelabelling())]
)
def test_compact_and_full_storage_give_the_same_batches(make):
    compact, full = draw(make(COMPACT, 2000)), draw(make(FULL, 2000))
    jax.tree.map(np.testing.assert_array_equal, compact, full)


def test_observations_along_trajectories_are_those_of_both_storages():
    chosen = np.array([1, 2])
    for number, dataset in enumerate((COMPACT, FULL)):
        places = storage.trajectories(dataset, chosen)
        np.testing.assert_array_equal(places.lengths, [2, 26])
        along = storage.observations_at(dataset, places, np.arange(28))
        np.testing.assert_array_equal(along, COMPACT.observations[41:69])
        finals = storage.observations_at(dataset, places, places.lasts)
        np.testing.assert_array_equal(finals[:3], [[1, 1], [1, 1], [2, 25]])
        kept = storage.with_trajectories(dataset, np.isin(np.arange(4), chosen))
        np.testing.assert_array_equal(kept.rewards, dataset.rewards[(41, 40)[number] : (69, 66)[number]])
        np.testing.assert_array_equal(
            storage.full(kept).observations, COMPACT.observations[[41, *range(43, 68)]]
        )


@pytest.mark.parametrize(
    "make", [sampling.transitions, lambda *rest: sampling.goals(*rest, GoalRelabelling())]
)
def test_rows_added_for_even_shards_are_never_drawn(make, dataset):
    sampler = make(dataset, 5000)
    padded = {
        key: np.concatenate([array, np.full_like(array[:7], 77)]) for key, array in sampler.arrays.items()
    }
    jax.tree.map(np.testing.assert_array_equal, draw(sampler._replace(arrays=padded)), draw(sampler))


def test_second_batch_does_not_recompile(dataset):
    sampler = sampling.goals(dataset, 32, GoalRelabelling())
    sample = jax.jit(sampler.sample)
    for seed in range(3):
        sample(sampler.arrays, jax.random.key(seed))
    assert sample._cache_size() == 1


def relabelled(distribution, dataset, batch_size=100_000, discount=0.9):
    relabelling = GoalRelabelling(value=distribution, policy=distribution, discount=discount)
    return draw(sampling.goals(dataset, batch_size, relabelling))


def test_shares_of_the_kinds_of_goals(dataset):
    # For the first steps of the long trajectory, later goals are never cut. Of the 0.3 random goals, a share
    # of 1 / 366 is the transition itself, and 66 / 366 are in the other trajectories.
    batch = relabelled(GoalDistribution(p_current=0.2, p_trajectory=0.5, geometric=True), dataset)
    own = (batch.goals == batch.observations).all(axis=1)
    other = batch.goals[:, 0] != batch.observations[:, 0]
    early = (batch.observations[:, 0] == 3) & (batch.observations[:, 1] < 100)
    assert np.mean(own[early]) == pytest.approx(0.2 + 0.3 / 366, abs=0.006)
    assert np.mean(other[early]) == pytest.approx(0.3 * 66 / 366, abs=0.004)


def test_trajectory_goals_lie_ahead_and_never_leave_it(dataset):
    for geometric in (True, False):
        batch = relabelled(GoalDistribution(p_current=0.0, p_trajectory=1.0, geometric=geometric), dataset)
        np.testing.assert_array_equal(batch.goals[:, 0], batch.observations[:, 0])
        last = np.array(LENGTHS)[batch.observations[:, 0].astype(int)] - 1
        ahead = batch.goals[:, 1] - batch.observations[:, 1]
        at_end = batch.observations[:, 1] == last
        assert (ahead[~at_end] >= 1).all()
        assert (ahead[at_end] == 0).all()
        assert (batch.goals[:, 1] <= last).all()


def steps_from_the_first(distribution):
    """The shares of goals 1, 2 ... 11 steps ahead of the first of twelve transitions."""
    batch = relabelled(distribution, compact_dataset([12]))
    ahead = batch.goals[batch.observations[:, 1] == 0, 1].astype(int)
    return np.bincount(ahead, minlength=12)[1:]


def test_steps_to_geometric_goals():
    # P(k) = 0.1 0.9^(k-1); the last of the eleven has the remaining probability 0.9^10.
    counts = steps_from_the_first(GoalDistribution(p_current=0.0, p_trajectory=1.0, geometric=True))
    probabilities = 0.1 * 0.9 ** np.arange(11)
    probabilities[-1] = 0.9**10
    assert stats.chisquare(counts, probabilities * counts.sum()).pvalue > 1e-3


def test_steps_to_uniform_goals():
    counts = steps_from_the_first(GoalDistribution(p_current=0.0, p_trajectory=1.0, geometric=False))
    assert stats.chisquare(counts).pvalue > 1e-3


def test_steps_to_rounded_goals():
    # A uniform distance in [1, 11] is rounded: half of a step is nearest to 1, and half of a step to 11.
    counts = steps_from_the_first(
        GoalDistribution(p_current=0.0, p_trajectory=1.0, geometric=False, rounded=True)
    )
    probabilities = np.array([0.5, *[1.0] * 9, 0.5]) / 10
    assert stats.chisquare(counts, probabilities * counts.sum()).pvalue > 1e-3
    with pytest.raises(InputError, match=r"^rounded and geometric are both True"):
        GoalDistribution(p_current=0.0, p_trajectory=1.0, geometric=True, rounded=True)


def test_subgoals_are_k_steps_later_and_not_beyond_goals_of_the_trajectory(dataset):
    mixed = GoalDistribution(p_current=0.2, p_trajectory=0.4, geometric=False)
    relabelling = GoalRelabelling(policy=mixed, subgoal_steps=10)
    batch = draw(sampling.goals(dataset, 20_000, relabelling))
    plain = draw(sampling.goals(dataset, 20_000, dataclasses.replace(relabelling, subgoal_steps=0)))
    np.testing.assert_array_equal(batch.policy_goals, plain.policy_goals)
    trajectories, steps = batch.observations.astype(int).T
    later = np.minimum(steps + 10, np.array(LENGTHS)[trajectories] - 1)
    np.testing.assert_array_equal(batch.subgoals, np.stack([trajectories, later], axis=1))
    np.testing.assert_array_equal(batch.policy_subgoals[:, 0], trajectories)
    reached, goal_steps = batch.policy_subgoals[:, 1], batch.policy_goals[:, 1]
    elsewhere = batch.policy_goals[:, 0] != trajectories
    np.testing.assert_array_equal(reached[elsewhere], later[elsewhere])
    near = ~elsewhere & (goal_steps >= steps) & (reached != later)
    np.testing.assert_array_equal(reached[near], goal_steps[near])
    assert near.mean() > 0.2
    assert (reached >= steps).all()
    with pytest.raises(
        InputError, match="subgoal_steps is 300, but the longest trajectory of made up has 300"
    ):
        sampling.goals(dataset, 4, GoalRelabelling(subgoal_steps=300))


def test_rewards_and_masks_follow_success(dataset):
    batch = draw(sampling.goals(dataset, 20_000, GoalRelabelling()))
    success = (batch.goals == batch.observations).all(axis=1)
    assert 0.15 < success.mean() < 0.3
    np.testing.assert_array_equal(batch.rewards, success - 1.0)
    np.testing.assert_array_equal(batch.masks, 1.0 - success)
    positive = draw(sampling.goals(dataset, 20_000, GoalRelabelling(negative_rewards=False)))
    np.testing.assert_array_equal(positive.rewards, success)
    np.testing.assert_array_equal(positive.masks, batch.masks)


def test_value_and_policy_goals_are_drawn_apart(dataset):
    batch = draw(sampling.goals(dataset, 1000, GoalRelabelling()))
    assert (batch.goals != batch.policy_goals).any(axis=1).mean() > 0.5
    np.testing.assert_array_equal(batch.policy_goals[:, 0], batch.observations[:, 0])


@pytest.mark.parametrize("goal_conditioned", [True, False])
def test_example_has_the_shapes_of_a_batch(goal_conditioned, dataset):
    discrete = dataclasses.replace(
        dataset,
        actions=dataset.actions[:, 0].astype(np.int32),
        observations=dataset.observations.astype(np.uint8),
    )
    for each in (dataset, discrete):
        sampler = (
            sampling.goals(each, 8, GoalRelabelling()) if goal_conditioned else sampling.transitions(each, 8)
        )
        example, batch = sampling.example(sampler), draw(sampler)
        assert jax.tree.structure(example) == jax.tree.structure(batch)
        jax.tree.map(
            lambda left, right: np.testing.assert_equal((left.shape, left.dtype), (right.shape, right.dtype)),
            example,
            batch,
        )


def test_frames_are_the_observations_before_and_stay_in_their_trajectory():
    batch = draw(sampling.transitions(COMPACT, 512, num_frames=3))
    for observations in (batch.observations, batch.next_observations):
        trajectories, steps = np.moveaxis(observations.reshape(-1, 3, 2), -1, 0)
        np.testing.assert_array_equal(trajectories, trajectories[:, -1:].repeat(3, axis=1))
        np.testing.assert_array_equal(steps, np.maximum(steps[:, -1:] - np.array([2, 1, 0]), 0))
    np.testing.assert_array_equal(batch.next_observations[:, :4], batch.observations[:, 2:])


def test_a_goal_in_frames_is_one_observation():
    dataset = COMPACT
    batch = draw(sampling.goals(dataset, 64, GoalRelabelling(), num_frames=2))
    old, new = np.split(np.asarray(batch.goals), 2, axis=1)
    np.testing.assert_array_equal(old, new)
    assert batch.goals.shape == batch.observations.shape


def test_numbers_out_of_range():
    for batch_size in (0, -1):
        with pytest.raises(InputError, match=f"batch_size is {batch_size}: give a positive number"):
            sampling.transitions(FULL, batch_size)
    with pytest.raises(
        InputError, match=r"p_current is 0.6 and p_trajectory is 0.5, but they must be probabilities"
    ):
        GoalDistribution(p_current=0.6, p_trajectory=0.5, geometric=True)
    with pytest.raises(InputError, match=r"discount of the goal relabelling is 1.0, but must lie in"):
        GoalRelabelling(discount=1.0)
    with pytest.raises(InputError, match=r"discount of the goal relabelling is missing: give the agent's d"):
        sampling.goals(FULL, 1, GoalRelabelling(discount=None))
    with pytest.raises(InputError, match="num_frames is 0: give a positive number"):
        sampling.transitions(FULL, 1, num_frames=0)
    with pytest.raises(InputError, match=r"num_frames > 1 needs compact storage: set data\.compact"):
        sampling.transitions(FULL, 1, num_frames=2)
