"""The study of the order of values: its episodes, and how its filter is judged. test_documents runs it."""

import numpy as np
import pytest

from experiments.studies import value_order
from experiments.studies.value_order import MixtureConfig, SeedResult
from valuelab.data import storage
from valuelab.evaluation import statistics


def test_episodes_end_at_the_goal_or_after_the_largest_number_of_steps():
    scene = value_order.make_scene()
    config = MixtureConfig(episodes=6, max_steps=60)
    mixture = value_order.collect(config, 3, scene)
    assert mixture.are_good.sum() == 3
    dataset, (_, goal) = storage.full(mixture.dataset), value_order.goal_of(scene)
    ends = storage.are_last(dataset)
    arrive = np.linalg.norm(dataset.next_observations - goal, axis=1) <= 1  # OGBench's tolerance
    np.testing.assert_array_equal(dataset.rewards, arrive - 1.0)
    np.testing.assert_array_equal(dataset.masks, 1.0 - arrive)
    assert ends[arrive].all()
    lengths = np.diff(np.flatnonzero(ends), prepend=-1)
    assert (lengths[~arrive[ends]] == 60).all()
    again = value_order.collect(config, 3, scene)
    np.testing.assert_array_equal(again.dataset.observations, mixture.dataset.observations)
    world = value_order.evaluation(scene)
    assert len(world.tasks) == 25  # of 26 free cells


def test_the_filter_is_judged_over_seeds():
    orders = np.array([0.9, 0.6, 0.7, -0.2, np.nan])
    are_good = np.array([True, True, False, False, False])
    seed = SeedResult(dict.fromkeys(value_order.METHODS, 0.5), orders, orders >= 0.5, are_good)
    judged = value_order.judge([seed, seed], MixtureConfig())
    means = {name: interval["mean"] for name, interval in judged.items()}
    assert means == pytest.approx(
        {
            "kept": 3 / 5,
            "precision": 2 / 3,
            "recall": 1,
            "auc": 5 / 6,
            "order_of_good": 0.75,
            "order_of_noisy": 0.25,
        }
    )
    success = statistics.mean_interval(np.array([[0.5], [0.7]]))
    figure = value_order.draw([seed, seed], dict.fromkeys(value_order.METHODS, success), MixtureConfig())
    assert all(axes.get_xlabel() and axes.get_ylabel() for axes in figure.axes)
