"""Order of values: trajectories of known order, and success detection."""

import numpy as np
import pytest
import scipy.stats

from valuelab.ops import order


def test_known_orders():
    rising, falling = [0.0, 1.0, 5.0, 6.0], [3.0, 2.0, -1.0]
    values = np.array([*rising, *falling, 2.0, 2.0, 2.0, 0.0, 1.0])
    lengths = np.array([4, 3, 3, 2])
    found = order.value_order(values, lengths)
    np.testing.assert_allclose(found[:2], [1, -1])
    assert np.isnan(found[2:]).all()  # equal values, and too few of them
    # Within trajectories: (n² - 1) / (12 n) of each sums to the weights 1.25 / 4 and 2 / 9.
    sums = order.moments(values, lengths)
    pooled = order.correlation(order.pooled(sums))
    weights = np.array([5 / 16, 2 / 9])
    assert pooled == pytest.approx((weights[0] - weights[1]) / weights.sum())
    assert np.isnan(order.correlation(order.pooled(order.moments(values[7:], lengths[2:]))))


def test_values_that_are_not_numbers_have_no_order():
    values = np.array([1.0, 2.0, np.nan, 1.0, 2.0, 3.0, *[np.inf] * 3, -np.inf, 0.0, np.inf])
    found = order.value_order(values, np.array([3, 3, 3, 3]))
    np.testing.assert_allclose(found, [np.nan, 1, np.nan, 1])
    assert np.isnan(order.value_order(np.full(4, np.nan), np.array([4]))).all()


def test_the_order_is_spearmans_also_with_ties():
    random = np.random.default_rng(0)
    lengths = random.integers(3, 12, 40)
    values = random.integers(0, 5, lengths.sum()).astype(float)  # many ties
    expected = [
        scipy.stats.spearmanr(part, np.arange(len(part))).statistic
        for part in np.split(values, np.cumsum(lengths)[:-1])
    ]
    np.testing.assert_allclose(order.value_order(values, lengths), expected)
    expected_ranks = [scipy.stats.rankdata(part) for part in np.split(values, np.cumsum(lengths)[:-1])]
    np.testing.assert_allclose(order.ranks(values, lengths), np.concatenate(expected_ranks))


def test_random_orders_have_mean_zero_and_the_known_variance():
    length, count = 9, 20_000
    values = np.random.default_rng(0).random(length * count)
    found = order.value_order(values, np.full(count, length))
    variance = 1 / (length - 1)  # of Spearman's correlation of a random permutation
    assert abs(found.mean()) < 4 * np.sqrt(variance / count)
    assert found.var() == pytest.approx(variance, rel=0.05)


def test_progress_and_its_weights():
    values, lengths = np.array([0.0, 2.0, 1.0, 5.0, 9.0]), np.array([3, 2])
    steps = order.progress(values, lengths)
    np.testing.assert_allclose(steps, [2, -1, 4])
    weights = order.progress_weights(steps, 0.5)
    np.testing.assert_allclose(weights, np.exp(0.5 * steps / steps.std()), rtol=1e-5)
    np.testing.assert_allclose(order.progress_weights(steps, 1e3)[[0, 2]], order.WEIGHT_MAX, rtol=1e-5)
    np.testing.assert_array_equal(order.progress_weights(np.ones(2), 3.0), [1, 1])


def test_success_is_detected_by_a_threshold_of_other_trajectories():
    scores = np.array([0.0, 1.0, 3.0, 4.0, 0.5, 2.5, 1.0, 3.0])
    successes = np.array([0, 0, 1, 1, 0, 0, 1, 1], bool)
    labelled = np.arange(8) < 4
    found = order.detect(scores, successes, labelled)
    # The threshold 2 lies between 1 and 3. Of the others 2.5 and 3 count; 3 of 4 pairs are in order.
    assert found == order.Detection(threshold=2.0, precision=0.5, recall=0.5, auc=0.75)
    with pytest.raises(ValueError, match="both parts need successes and failures"):
        order.detect(scores, successes, successes)
