"""Order of values: whether the values that a critic predicts rise along a trajectory.

The value-order correlation of a trajectory is the rank correlation of its values with time: 1 if they rise at
each step, -1 if they fall at each step, and 0 on average if their order is random. It needs no rewards and no
scale of values.

Trajectories have different lengths. So the values of K trajectories are one array [N], trajectory after
trajectory, with their numbers of observations [K]. All functions are NumPy on the host, in float64.

Source: value-order correlation of Ma et al. 2024 (arXiv:2411.04549).
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from valuelab.ops.advantage import advantage_weights

SHORTEST = 3
"""The smallest number of observations of a trajectory with an order: with two, chance alone gives 1 or -1."""
WEIGHT_MAX = 100.0
"""The largest weight of a transition relative to one whose progress is 0; IQL's bound."""


class Moments(NamedTuple):
    """Sums of products of relative ranks r and times u in each trajectory, about their means.

        r_t = rank_t / T,   u_t = t / T

    All are 0 in trajectories without an order: those with fewer than SHORTEST observations, those whose
    values are all equal, and those with a value that is NaN.

    Attributes:
        covariances: Σ (r - mean r) (u - mean u), [..., K].
        of_ranks: Σ (r - mean r)², [..., K].
        of_times: Σ (u - mean u)², [..., K].
    """

    covariances: np.ndarray
    of_ranks: np.ndarray
    of_times: np.ndarray


def ranks(values: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """The rank of each value in its trajectory, from 1 on; equal values share the mean of their ranks.

    Args:
        values: [N].
        lengths: [K], the number of observations of each trajectory; their sum is N.

    Returns:
        [N].
    """
    values, lengths = np.asarray(values), np.asarray(lengths)
    trajectories = np.repeat(np.arange(len(lengths)), lengths)
    order = np.lexsort((values, trajectories))
    is_new = np.ones(len(order), bool)  # where a group of equal values begins
    is_new[1:] = (np.diff(trajectories[order]) != 0) | (values[order[1:]] != values[order[:-1]])
    begins = np.flatnonzero(is_new)
    ends = np.append(begins[1:], len(order))
    of_groups = (begins + ends + 1) / 2  # the mean of begin + 1, ..., end
    found = np.empty(len(order))
    found[order] = of_groups[np.cumsum(is_new) - 1]
    return found - (np.cumsum(lengths) - lengths)[trajectories]


def moments(values: np.ndarray, lengths: np.ndarray) -> Moments:
    """The moments of ranks and times of each trajectory; arguments as of `ranks`."""
    lengths = np.asarray(lengths)
    trajectories = np.repeat(np.arange(len(lengths)), lengths)
    size = lengths[trajectories]
    middle = (size + 1) / 2
    from_start = np.arange(len(trajectories)) - (np.cumsum(lengths) - lengths)[trajectories]
    relative_ranks = (ranks(values, lengths) - middle) / size
    times = (from_start + 1 - middle) / size

    def total(products: np.ndarray) -> np.ndarray:
        return np.bincount(trajectories, products, minlength=len(lengths))

    sums = [total(relative_ranks * times), total(relative_ranks**2), total(times**2)]
    has_order = (lengths >= SHORTEST) & (sums[1] > 1e-9) & (total(np.isnan(values)) == 0)
    return Moments(*(np.where(has_order, each, 0.0) for each in sums))


def correlation(sums: Moments) -> np.ndarray:
    """The correlation of ranks with times from their moments; NaN where there is no order."""
    scale = np.sqrt(sums.of_ranks * sums.of_times)
    return np.divide(sums.covariances, scale, out=np.full(np.shape(scale), np.nan), where=scale > 0)


def value_order(values: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """The value-order correlation of each trajectory: Spearman's rank correlation of its values with time.

        ρ = Σ (r - mean r) (u - mean u) / sqrt(Σ (r - mean r)² Σ (u - mean u)²)

    Args:
        values: [N], V(s_t) for the observations of all trajectories.
        lengths: [K], the number of observations of each trajectory; their sum is N.

    Returns:
        ρ in [-1, 1], [K]; NaN for a trajectory with fewer than SHORTEST observations, with equal values, or
        with a value that is NaN.
    """
    return correlation(moments(values, lengths))


def pooled(sums: Moments) -> Moments:
    """The moments of all trajectories together, whose `correlation` is the pooled order.

        ρ = Σ_k cov_k / sqrt(Σ_k var r_k Σ_k var u_k)

    It is the correlation within trajectories: differences between trajectories do not count. Each trajectory
    counts about in proportion to its length, and one without an order does not count.

    Args:
        sums: arrays [..., K].

    Returns:
        Arrays [...].
    """
    return Moments(*(np.sum(each, axis=-1) for each in sums))


def progress(values: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """The progress V(s_{t+1}) - V(s_t) of each transition; arguments as of `ranks`.

    Returns:
        [N - K], transition after transition.
    """
    inside = np.ones(len(values), bool)
    inside[np.cumsum(lengths) - 1] = False  # the last observations of trajectories
    return np.diff(values, append=0.0)[inside]


def progress_weights(progress: np.ndarray, inverse_temperature: float) -> np.ndarray:
    """Weights of transitions for regression on their actions, by their progress.

        w = min(exp(β Δ / σ), w_max),   Δ = V(s') - V(s)

    σ is the standard deviation of Δ over all transitions, so that β does not depend on the scale of values.
    These are the weights of advantage-weighted regression where progress is the advantage.

    Args:
        progress: Δ, [M].
        inverse_temperature: β ≥ 0; 0 gives weights of 1.

    Returns:
        [M], in (0, WEIGHT_MAX]; ones if all progress is equal.
    """
    scale = np.std(progress)
    standardized = jnp.asarray(progress / scale if scale > 0 else np.zeros_like(progress), jnp.float32)
    return np.asarray(advantage_weights(standardized, inverse_temperature, WEIGHT_MAX))


class Detection(NamedTuple):
    """How well a threshold on a score tells successes.

    Attributes:
        threshold: a trajectory counts as a success if its score is at least this.
        precision: share of successes among those that count; NaN if none counts.
        recall: share of the successes that count.
        auc: the probability that a success has a higher score than a failure, a tie counting one half.
    """

    threshold: float
    precision: float
    recall: float
    auc: float


def detect(scores: np.ndarray, successes: np.ndarray, labelled: np.ndarray) -> Detection:
    """Success detection: a threshold is chosen on labelled trajectories, and judged on the others.

    The threshold is halfway between two successive scores, where recall minus the share of failures that
    count is largest (Youden's index). The lowest one is taken among equals.

    Args:
        scores: [K], such as the final value of each trajectory.
        successes: [K] bool.
        labelled: [K] bool, the trajectories on which the threshold is chosen.

    Raises:
        ValueError: when the labelled trajectories or the others lack successes or failures.
    """
    scores, successes, labelled = (np.asarray(each) for each in (scores, successes, labelled))
    for part in (labelled, ~labelled):
        if len(np.unique(successes[part])) < 2:
            raise ValueError("both parts need successes and failures")
    known, is_success = scores[labelled], successes[labelled]
    levels = np.unique(known)
    thresholds = np.append(levels[:1], (levels[1:] + levels[:-1]) / 2)
    counts = known >= thresholds[:, None]
    index = counts[:, is_success].mean(1) - counts[:, ~is_success].mean(1)
    return judge(scores[~labelled], successes[~labelled], float(thresholds[np.argmax(index)]))


def judge(scores: np.ndarray, successes: np.ndarray, threshold: float) -> Detection:
    """How well a threshold tells successes.

    Args:
        scores: [K].
        successes: [K] bool, with at least one success and one failure.
        threshold: a trajectory counts as a success if its score is at least this.
    """
    counted = scores >= threshold
    wins, losses = np.sum(successes), np.sum(~successes)
    rank_sum = np.sum(ranks(scores, np.array([len(scores)]))[successes])
    return Detection(
        threshold=threshold,
        precision=float(np.mean(successes[counted])) if counted.any() else float("nan"),
        recall=float(np.mean(counted[successes])),
        auc=float((rank_sum - wins * (wins + 1) / 2) / (wins * losses)),
    )
