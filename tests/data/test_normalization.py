import dataclasses
import json

import numpy as np
import pytest

from valuelab.agents.normalized import normalize
from valuelab.data import normalization, storage
from valuelab.errors import InputError
from valuelab.types import Dataset, Normalization, Transitions


def compact_dataset(**changes) -> Dataset:
    # Episodes of two transitions and one transition. The row after each holds its final observation; its
    # other entries are not used.
    terminals = np.array([0, 0, 1, 0, 1], bool)
    return dataclasses.replace(
        Dataset(
            name="made up",
            observations=np.array([[0, 5], [2, 5], [100, 5], [4, 5], [100, 5]], np.float32),
            actions=np.zeros((5, 1), np.float32),
            rewards=np.array([1, 2, 50, -1, 50], np.float32),
            masks=np.ones(5, np.float32),
            terminals=terminals,
            valid=~terminals,
            action_low=-np.ones(1, np.float32),
            action_high=np.ones(1, np.float32),
        ),
        **changes,
    )


@pytest.fixture(params=["compact", "full"])
def dataset(request):
    return compact_dataset() if request.param == "compact" else storage.full(compact_dataset())


def test_observations(dataset):
    # Over the transitions' observations 0, 2, 4: mean 2, variance (4 + 0 + 4) / 3. The second dimension does
    # not vary, so its standard deviation is the floor.
    fitted = normalization.fit(dataset, observations=True, rewards="none")
    np.testing.assert_allclose(fitted.observation_mean, [2, 5])
    np.testing.assert_allclose(fitted.observation_std, [np.sqrt(8 / 3), 1e-3], rtol=1e-6)
    assert fitted.observation_std.dtype == np.float32
    assert fitted.action_low is None
    assert fitted.reward_scale == 1
    assert normalization.fit(dataset, observations=False, rewards="none") == Normalization()


def test_many_pieces_give_the_moments_of_the_whole():
    observations = np.random.default_rng(0).normal(3, 2, size=(200_000, 3)).astype(np.float32)
    terminals = np.arange(200_000) % 1000 == 999
    dataset = compact_dataset(observations=observations, terminals=terminals, valid=~terminals)
    fitted = normalization.fit(dataset, observations=True, rewards="none")
    np.testing.assert_allclose(
        fitted.observation_mean, observations[~terminals].mean(0, np.float64), rtol=1e-6
    )
    np.testing.assert_allclose(fitted.observation_std, observations[~terminals].std(0, np.float64), rtol=1e-6)


def test_images_lose_their_static_background():
    # Grey levels of two pixels and one channel, of the transitions 0, 1 and 3: (7, 0), (7, 30), (7, 60). The
    # mean image is (7, 30); the variance over both pixels is (0 + (900 + 0 + 900) / 3) / 2 = 300.
    images = np.array([[7, 0], [7, 30], [200, 200], [7, 60], [200, 200]], np.uint8).reshape(5, 1, 2, 1)
    fitted = normalization.fit(compact_dataset(observations=images), observations=True, rewards="none")
    np.testing.assert_allclose(fitted.observation_mean, [[[7], [30]]])
    np.testing.assert_allclose(fitted.observation_std, [[[np.sqrt(300)]]], rtol=1e-6)
    stacked = normalization.of_frames(fitted, 3)
    assert stacked.observation_mean.shape == (1, 2, 3)
    assert stacked.observation_std.shape == (1, 1, 3)
    frames, zeros = np.concatenate([images[:2]] * 3, axis=-1), np.zeros(2, np.float32)
    batch = Transitions(frames, np.zeros((2, 1), np.float32), zeros, zeros, frames)
    normalized = normalize(batch, stacked).observations
    np.testing.assert_allclose(normalized[:, 0, 0], np.zeros((2, 3)))
    np.testing.assert_allclose(
        normalized[:, 0, 1], [[-np.sqrt(3)] * 3, [0] * 3], rtol=1e-6
    )  # (0 - 30) / √300


def test_reward_rules(dataset):
    # Returns are 1 + 2 = 3 and -1, so the scale is 1000 / (3 - -1) = 250.
    np.testing.assert_allclose(normalization.returns(dataset), [3, -1])
    locomotion = normalization.fit(dataset, observations=False, rewards="d4rl_locomotion")
    assert (locomotion.reward_scale, locomotion.reward_shift) == (250, 0)
    antmaze = normalization.fit(dataset, observations=False, rewards="d4rl_antmaze")
    assert (antmaze.reward_scale, antmaze.reward_shift) == (1, -1)


def test_a_return_may_end_with_the_first_mask_of_0(dataset):
    rewards, masks = np.array([1, 2, 50, -1, 50], np.float32), np.array([0, 1, 1, 1, 1], np.float32)
    masked = dataclasses.replace(compact_dataset(), rewards=rewards, masks=masks)
    for stored in (masked, storage.full(masked)):
        np.testing.assert_allclose(normalization.returns(stored, until_masked=True), [1, -1])
    np.testing.assert_allclose(normalization.returns(dataset, until_masked=True), [3, -1])


FAMILIES = {
    "d4rl_locomotion": [
        *("d4rl/hopper-medium-v2", "rlds/d4rl/hopper-medium-v2", "rlds/d4rl_mujoco_hopper"),
        *("rlds/d4rl_mujoco_walker2d/v2-medium", "rlds/d4rl_mujoco_ant/v0-mixed/1.2.0"),
        *("/path/hopper-medium-v2.hdf5", "halfcheetah-own.h5", "rlds/ant-own"),
    ],
    "d4rl_antmaze": [
        *("d4rl/antmaze-umaze-v2", "rlds/d4rl/antmaze-umaze-v2", "rlds/d4rl_antmaze/umaze-v2"),
        *("minari/D4RL/antmaze/umaze-v1", "rlds/minari/D4RL/antmaze/umaze-v1", "~/antmaze-umaze-v2.hdf5"),
    ],
    "": [
        *("", "d4rl/pen-human-v1", "ogbench/antmaze-medium-navigate-v0", "rlds/d4rl_adroit_pen/v1-human"),
        *("rlds/ogbench/antmaze-medium-navigate-v0", "/d4rl/hopper/own.hdf5", "minari/mujoco/hopper/x-v0"),
    ],
}


def test_names_give_the_families_of_d4rl():
    families = {
        family: [normalization.d4rl_family(name) for name in names] for family, names in FAMILIES.items()
    }
    assert families == {family: [family] * len(names) for family, names in FAMILIES.items()}


def test_spec(dataset):
    # Rewards 2, 1, -1 become 250 r: final rows do not count.
    fitted = normalization.fit(dataset, observations=False, rewards="d4rl_locomotion")
    spec = normalization.make_spec(dataset, fitted, num_updates=7)
    assert (spec.reward_min, spec.reward_max) == (-250, 500)
    assert spec.observation_shape == (2,)
    assert spec.observation_dtype == "float32"
    assert (spec.action_dim, spec.num_actions, spec.num_updates) == (1, 0, 7)
    assert not spec.goal_conditioned

    goals = dataclasses.replace(dataset, goal_conditioned=True)
    spec = normalization.make_spec(goals, Normalization())
    assert (spec.reward_min, spec.reward_max, spec.goal_conditioned) == (-1, 0, True)
    spec = normalization.make_spec(goals, Normalization(), negative_rewards=False)
    assert (spec.reward_min, spec.reward_max) == (0, 1)

    discrete = dataclasses.replace(dataset, actions=dataset.actions[:, 0].astype(np.int32), num_actions=3)
    spec = normalization.make_spec(discrete, Normalization())
    assert (spec.action_dim, spec.num_actions, spec.discrete) == (0, 3, True)


def test_actions_with_other_bounds():
    fitted = normalization.fit(
        compact_dataset(action_high=np.full(1, 2, np.float32)), observations=False, rewards="none"
    )
    np.testing.assert_array_equal(fitted.action_low, [-1])
    np.testing.assert_array_equal(fitted.action_high, [2])


def test_json(dataset):
    wide = dataclasses.replace(dataset, action_high=np.full(1, 2, np.float32))
    for fitted in (normalization.fit(wide, observations=True, rewards="d4rl_antmaze"), Normalization()):
        back = normalization.from_json(json.loads(json.dumps(normalization.to_json(fitted))))
        for left, right in zip(back, fitted, strict=True):
            np.testing.assert_array_equal(left, right)
            assert getattr(left, "dtype", None) == getattr(right, "dtype", None)


def test_what_cannot_be_fitted():
    with pytest.raises(
        InputError, match="unknown reward rule 'd4rl_locomotive': did you mean 'd4rl_locomotion'"
    ):
        normalization.fit(compact_dataset(), observations=False, rewards="d4rl_locomotive")
    with pytest.raises(InputError, match=r"made up has returns that are all 0; give --data.rewards=none"):
        normalization.fit(
            compact_dataset(rewards=np.zeros(5, np.float32)), observations=False, rewards="d4rl_locomotion"
        )
    one = compact_dataset(terminals=np.arange(5) == 4, valid=np.arange(5) < 4)
    with pytest.raises(InputError, match=r"made up has one episode; give --data.rewards=none"):
        normalization.fit(one, observations=False, rewards="d4rl_locomotion")
    with pytest.raises(InputError, match=r"rewards of made up come from goals; give --data.rewards=none"):
        normalization.fit(compact_dataset(goal_conditioned=True), observations=False, rewards="d4rl_antmaze")
