"""95 % bootstrap intervals of scores, for one run and for methods on a benchmark, and tables of them.

For one run (`mean_interval`, `interquartile_mean_interval`) the bootstrap is hierarchical. To resample scores
[M, T, E] of M seeds on T tasks in E episodes, M seeds are drawn with replacement; for each of them and each
task, E episodes are drawn with replacement. Tasks are not resampled: they are the benchmark, not a sample.
The interval spans the 2.5th to the 97.5th percentile of the resampled statistics.

Share of intervals that contain the true mean, in 2000 simulated runs of normal scores (4000 in the first
line):

    100 seeds of 5 episodes, seeds vary 10 times as much as episodes      0.94
    40 seeds of 20 episodes, seeds vary 5 times as much                   0.93
    10 seeds of 20 episodes, seeds vary 5 times as much                   0.92
    4 seeds of 20 episodes, seeds vary 5 times as much                    0.83
    4, 10 or 40 seeds of 20 episodes, seeds do not vary                   0.98 to 0.99
    one seed of 20 or 50 episodes; true mean of that policy               0.93, 0.94

The coverage is right for many seeds, too low for few seeds (M draws from M seeds vary too little), and too
high where seeds do not vary (the noise of episodes counts at both levels). With one seed the interval holds
for that policy only; it does not show the variation over training seeds.

For a benchmark (`aggregates`, `performance_profile`, `probability_of_improvement`, `curve`) scores [M, T] are
means over episodes, so they include the noise of episodes. The bootstrap is stratified: seeds are drawn
within each task, so every score must come from a separate training run. (If one run plays all tasks, its
scores are correlated: give the mean over its tasks, [M, 1].) M - 1 of M seeds are drawn, so that resamples
vary as much as samples do (Rao and Wu 1988). The interval is the estimate ± t standard errors, with the
degrees of freedom of Welch and Satterthwaite; for the mean of one task it is Student's interval. Share of
intervals that contain the true value in 1000 simulated benchmarks, for 4, 5, 8 and 10 seeds; the last two
lines are plain percentiles of M draws (800 benchmarks):

    normal scores           mean                     interquartile mean         median over tasks
    1 task                  0.95 0.94 0.95 0.96      0.96 0.97 0.95 0.97        (the mean)
    5 tasks                 0.96 0.95 0.96 0.96      0.96 0.96 0.97 0.96        0.93 0.93 0.94 0.94
    10 tasks                0.97 0.97 0.96 0.95      0.96 0.95 0.94 0.95        0.95 0.96 0.94 0.93
    1 task, percentiles     0.82 0.82 0.88 0.88      0.89 0.88 0.94 0.93
    5 tasks, percentiles    0.88 0.90 0.92 0.93      0.88 0.91 0.92 0.92        0.82 0.85 0.90 0.89

Stretched percentiles reach 0.92 to 0.95 for the mean of one task. The studentised bootstrap reaches 0.95, but
its intervals are ten times as wide for 4 seeds. Success rates of 50 episodes around 0.5 are covered like
normal scores. No method reaches 0.95 where a few scores do not show the spread of all scores (250 to 800
benchmarks):

    success around 0.9, mean of 1 task                            0.90 to 0.91; 5 or 10 tasks: 0.93 to 0.96
    log-normal scores, mean of 1 task                             0.80 to 0.84; 5 tasks: 0.89 to 0.91
    runs that succeed (0.8) or fail, 1 task, 5 seeds              0.62, because often all scores are equal
    an optimality gap in one run of 25, 1 task                    0.18 to 0.40; 5 or 10 tasks: 0.63 to 0.78
    performance profile, 1 task, 1 run of 10 above or below       0.31 to 0.64; 5 or 10 tasks: 0.88 to 0.97
    probability of improvement, 1 task                            0.89 to 0.95; 5 or 10 tasks: 0.95 to 0.98

If all scores are equal, or all scores of one method exceed all of another, the interval is a single point
and too narrow.
"""

import math
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import rich.table
import scipy.stats

from valuelab.errors import InputError

_LEVEL = 0.95


def mean_interval(scores: np.ndarray, *, resamples: int = 2000, seed: int = 0) -> dict[str, Any]:
    """The mean score and its interval.

    Args:
        scores: [M, E] scores of M training seeds in E episodes, or [M, T, E] on T tasks.
        resamples: number of bootstrap resamples.
        seed: random seed of the bootstrap.

    Returns:
        "mean", "ci_low" and "ci_high", floats, and "per_seed", a list of M means; ready for JSON.
    """
    estimate, low, high = _bootstrap(scores, lambda runs: runs.mean((-2, -1)), resamples, seed)
    per_seed = [float(mean) for mean in np.reshape(scores, (len(scores), -1)).mean(1)]
    return {"mean": estimate, "ci_low": low, "ci_high": high, "per_seed": per_seed}


def interquartile_mean_interval(
    scores: np.ndarray, *, resamples: int = 2000, seed: int = 0
) -> dict[str, float]:
    """The interquartile mean over seeds and tasks, and its interval; robust against a few outlier runs.

    It is the mean of the middle half of the M x T mean scores of all seeds on all tasks.

    Args:
        scores: [M, T, E].
        resamples: number of bootstrap resamples.
        seed: random seed of the bootstrap.

    Returns:
        "interquartile_mean", "ci_low" and "ci_high".
    """

    def interquartile_mean(runs: np.ndarray) -> np.ndarray:
        return scipy.stats.trim_mean(runs.reshape(*runs.shape[:-2], -1), 0.25, axis=-1)

    estimate, low, high = _bootstrap(scores, interquartile_mean, resamples, seed)
    return {"interquartile_mean": estimate, "ci_low": low, "ci_high": high}


def pooled_interval(
    sums: Sequence[np.ndarray],
    statistic: Callable[..., np.ndarray],
    *,
    resamples: int = 2000,
    seed: int = 0,
) -> dict[str, float]:
    """A statistic of sums over seeds and episodes, such as a ratio of two sums, and its interval.

    Args:
        sums: arrays [M, E], the contributions of M seeds in E episodes to each sum.
        statistic: sums, arrays [B], one for each of `sums` -> [B].
        resamples: number of bootstrap resamples.
        seed: random seed of the bootstrap.

    Returns:
        "mean" (the statistic), "ci_low" and "ci_high". Episodes are drawn jointly for all sums.
    """
    arrays = np.asarray(sums, np.float64)
    _, members, episodes = arrays.shape
    rng = np.random.default_rng(seed)
    totals = np.empty((resamples, len(arrays)))
    for total in totals:
        drawn = rng.integers(members, size=(members, 1))
        total[:] = arrays[:, drawn, rng.integers(episodes, size=(members, episodes))].sum((1, 2))
    tail = (1 - _LEVEL) / 2
    low, high = np.nanquantile(statistic(*totals.T), [tail, 1 - tail])
    estimate = statistic(*arrays.sum((1, 2))[:, None])[0]
    return {"mean": float(estimate), "ci_low": float(low), "ci_high": float(high)}


def _bootstrap(
    scores: np.ndarray, statistic: Callable[[np.ndarray], np.ndarray], resamples: int, seed: int
) -> tuple[float, float, float]:
    """A statistic of mean scores [..., M, T], and the two ends of its interval."""
    scores = np.asarray(scores, np.float64)
    scores = scores.reshape(scores.shape[0], -1, scores.shape[-1])
    members, tasks, episodes = scores.shape
    rng = np.random.default_rng(seed)
    runs = np.empty((resamples, members, tasks))
    for resample in runs:  # one at a time, because all at once need gigabytes
        drawn = rng.integers(members, size=(members, 1, 1))
        within = rng.integers(episodes, size=scores.shape)
        resample[:] = scores[drawn, np.arange(tasks)[:, None], within].mean(-1)
    tail = (1 - _LEVEL) / 2
    low, high = np.quantile(statistic(runs), [tail, 1 - tail])
    return float(statistic(scores.mean(-1))), float(low), float(high)


def difference(first: np.ndarray, second: np.ndarray) -> dict[str, Any]:
    """The mean of one sample [M] minus the mean of another [M'], and its 95 % bootstrap interval.

    Returns:
        "mean", "ci_low", "ci_high" and "sign": 1 or -1 if the interval excludes 0, else 0.
    """

    def statistic(first: np.ndarray, second: np.ndarray, axis: int) -> np.ndarray:
        return first.mean(axis) - second.mean(axis)

    mean = float(first.mean() - second.mean())
    if min(len(first), len(second)) < 2:
        return {"mean": mean, "ci_low": None, "ci_high": None, "sign": 0}
    drawn = scipy.stats.bootstrap((first, second), statistic, method="percentile", random_state=0)
    low, high = map(float, drawn.confidence_interval)
    return {"mean": mean, "ci_low": low, "ci_high": high, "sign": int(low > 0) - int(high < 0)}


# Benchmarks: one method in M runs on each of T tasks, after Agarwal et al. 2021 (arXiv:2108.13264).


def aggregates(
    scores: np.ndarray,
    *,
    optimal: float = 1.0,
    bounds: tuple[float, float] = (-math.inf, math.inf),
    resamples: int = 2000,
    seed: int = 0,
) -> dict[str, dict[str, float]]:
    """Four aggregate scores of one method on a benchmark.

        mean                  of all M x T scores
        median                over tasks of the mean over seeds
        interquartile mean    of the middle half of all M x T scores
        optimality gap        mean of max(optimal - score, 0)

    Args:
        scores: [M, T], means over episodes of M seeds on T tasks, every score from a separate training run.
        optimal: the score beyond which the optimality gap is 0.
        bounds: least and greatest possible score; ends of intervals are clipped to them.
        resamples: number of bootstrap resamples.
        seed: random seed of the bootstrap.

    Returns:
        "mean", "median", "interquartile_mean" and "optimality_gap", each with "value", "ci_low" and
        "ci_high". With one seed the ends are NaN, because the variation over seeds is unknown.

    Raises:
        InputError: when scores are not [M, T], empty, or not finite.
    """
    scores = _checked("scores", scores, "[M, T]")
    weights = _draw_seeds(scores.shape, resamples, np.random.default_rng(seed))
    gaps = np.maximum(optimal - scores, 0.0)
    gap_bounds = max(optimal - bounds[1], 0.0), max(optimal - bounds[0], 0.0)
    intervals = {}
    for name, statistic, values, ends in (
        ("mean", _mean, scores, bounds),
        ("median", _median, scores, bounds),
        ("interquartile_mean", _interquartile_mean, scores, bounds),
        ("optimality_gap", _mean, gaps, gap_bounds),
    ):
        estimate = statistic(values, np.ones((1, *values.shape)))
        low, high = _interval(estimate, statistic(values, weights)[:, None], [weights], ends)
        intervals[name] = {"value": float(estimate[0]), "ci_low": float(low[0]), "ci_high": float(high[0])}
    return intervals


def performance_profile(
    scores: np.ndarray, thresholds: np.ndarray, *, resamples: int = 2000, seed: int = 0
) -> dict[str, list[float]]:
    """The share of runs, over all tasks, whose score is above each threshold, with pointwise intervals.

    Args:
        scores: [M, T], as for `aggregates`.
        thresholds: [K].
        resamples: number of bootstrap resamples.
        seed: random seed of the bootstrap.

    Returns:
        "share", "ci_low" and "ci_high", lists of K.

    Raises:
        InputError: when scores are not [M, T], empty, or not finite.
    """
    above = _checked("scores", scores, "[M, T]") > np.asarray(thresholds)[:, None, None]
    share, low, high = _mean_intervals(above.astype(np.float64), (0.0, 1.0), resamples, seed)
    return {"share": share.tolist(), "ci_low": low.tolist(), "ci_high": high.tolist()}


def curve(
    scores: np.ndarray,
    *,
    bounds: tuple[float, float] = (-math.inf, math.inf),
    resamples: int = 2000,
    seed: int = 0,
) -> dict[str, list[float]]:
    """The mean at each of S evaluations, with pointwise intervals from the same resamples.

    Args:
        scores: [S, M, T], for each evaluation as in `aggregates`.
        bounds: least and greatest possible score; ends of intervals are clipped to them.
        resamples: number of bootstrap resamples.
        seed: random seed of the bootstrap.

    Returns:
        "mean", "ci_low" and "ci_high", lists of S.

    Raises:
        InputError: when scores are not [S, M, T], empty, or not finite.
    """
    mean, low, high = _mean_intervals(_checked("scores", scores, "[S, M, T]"), bounds, resamples, seed)
    return {"mean": mean.tolist(), "ci_low": low.tolist(), "ci_high": high.tolist()}


def probability_of_improvement(
    first: np.ndarray, second: np.ndarray, *, resamples: int = 2000, seed: int = 0
) -> dict[str, float]:
    """The probability that a run of one method scores more than a run of another, averaged over tasks.

        mean over tasks of P(X > Y) + ½ P(X = Y),   the Mann-Whitney U statistic over M M'

    Args:
        first: [M, T] scores X of one method, as for `aggregates`.
        second: [M', T] scores Y of the other.
        resamples: number of bootstrap resamples.
        seed: random seed of the bootstrap.

    Returns:
        "mean", "ci_low" and "ci_high".

    Raises:
        InputError: when scores are not [M, T], empty, not finite, or of different numbers of tasks.
    """
    first, second = _checked("first", first, "[M, T]"), _checked("second", second, "[M, T]")
    if first.shape[1] != second.shape[1]:
        raise InputError(
            f"first has scores on {first.shape[1]} tasks, but second on {second.shape[1]}: "
            "give scores on the same tasks"
        )
    rng = np.random.default_rng(seed)
    drawn = [_draw_seeds(scores.shape, resamples, rng) for scores in (first, second)]
    wins = 0.5 * (1.0 + np.sign(first[:, None] - second[None]))  # [M, M', T]
    beaten = np.einsum("bmt,mnt->bnt", drawn[0], wins)
    resampled = np.sum(beaten * drawn[1], (1, 2)) / (drawn[0].sum((1, 2)) * drawn[1][:, :, 0].sum(1))
    low, high = _interval(wins.mean(keepdims=True)[0, 0], resampled[:, None], drawn, (0.0, 1.0))
    return {"mean": float(wins.mean()), "ci_low": float(low[0]), "ci_high": float(high[0])}


def _checked(name: str, scores: np.ndarray, form: str) -> np.ndarray:
    """Scores as float64; raises unless they are finite and have the axes of `form`, such as "[M, T]"."""
    scores = np.asarray(scores, np.float64)
    if scores.ndim != form.count(",") + 1 or not scores.size:
        raise InputError(f"{name} has shape {list(scores.shape)}, but must be {form} without an empty axis")
    if not np.isfinite(scores).all():
        place = np.argwhere(~np.isfinite(scores))[0].tolist()
        raise InputError(f"{name} is {scores[tuple(place)]} at {place}: leave out runs without a score")
    return scores


def _draw_seeds(shape: tuple[int, ...], resamples: int, rng: np.random.Generator) -> np.ndarray:
    """The number of times each seed is drawn, [B, M, T]: M - 1 draws with replacement in each of T tasks.

    With M - 1 draws the resampled means have the variance of means of M; with M draws it is 1 - 1/M of that.
    """
    seeds, tasks = shape
    draws = rng.multinomial(max(seeds - 1, 1), np.full(seeds, 1 / seeds), size=(resamples, tasks))
    return draws.swapaxes(1, 2).astype(np.float64)


def _mean(scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Means with weights [B, M, T]: [B] for scores [M, T], or [B, K] for scores [K, M, T]."""
    return np.tensordot(weights, scores, ((1, 2), (-2, -1))) / weights[0].sum()


def _median(scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Medians over tasks of means over seeds of scores [M, T] with weights [B, M, T]: [B]."""
    return np.median(np.einsum("bmt,mt->bt", weights, scores) / weights[0, :, 0].sum(), axis=-1)


def _interquartile_mean(scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Means of the middle half of scores [M, T] with weights [B, M, T]: [B].

    Like scipy.stats.trim_mean it cuts n // 4 of n scores at either end, here the same share of the weight.
    """
    order = np.argsort(scores, axis=None)
    ranked = weights.reshape(len(weights), -1)[:, order]
    total = ranked[0].sum()
    cut = total * (scores.size // 4) / scores.size
    kept = np.diff(np.clip(ranked.cumsum(-1), cut, total - cut), axis=-1, prepend=cut)
    return kept @ scores.ravel()[order] / (total - 2 * cut)


def _mean_intervals(
    scores: np.ndarray, bounds: tuple[float, float], resamples: int, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Means of scores [K, M, T] over seeds and tasks, and the ends of their intervals: [K] each."""
    weights = _draw_seeds(scores.shape[1:], resamples, np.random.default_rng(seed))
    estimate = scores.mean((1, 2))
    return estimate, *_interval(estimate, _mean(scores, weights), [weights], bounds)


def _interval(
    estimate: np.ndarray, resampled: np.ndarray, drawn: Sequence[np.ndarray], bounds: tuple[float, float]
) -> tuple[np.ndarray, np.ndarray]:
    """The ends of the intervals of K statistics: estimate ± t(f) x bootstrap standard error.

        f = (Σ v)² / Σ v² / (M - 1),   v = Σ cov(statistic, times drawn)² M / (M - 1) over the seeds of a task

    v is the contribution of a task's seeds to the statistic's variance, to first order; for a mean it is the
    variance over seeds divided by M T². f is the number of degrees of freedom of Welch and Satterthwaite.

    Args:
        estimate: [K].
        resampled: [B, K].
        drawn: for each sample [B, M, T], the number of times each seed was drawn.
        bounds: least and greatest possible value of the statistics.

    Returns:
        Low and high ends [K]; NaN if a sample has one seed.
    """
    if min(weights.shape[1] for weights in drawn) < 2:
        return np.full_like(estimate, math.nan), np.full_like(estimate, math.nan)
    deviations = resampled - resampled.mean(0)
    parts, squares = np.zeros((2, len(estimate)))
    for weights in drawn:
        seeds = weights.shape[1]
        covariances = np.tensordot(deviations, weights, (0, 0)) / len(deviations)
        variances = np.sum(covariances**2, 1) * seeds / (seeds - 1)  # [K, T]
        parts += variances.sum(-1)
        squares += np.sum(variances**2, -1) / (seeds - 1)
    freedom = np.divide(parts**2, squares, out=np.ones_like(parts), where=squares > 0)
    half = scipy.stats.t.ppf((1 + _LEVEL) / 2, freedom) * deviations.std(0)
    return np.clip(estimate - half, *bounds), np.clip(estimate + half, *bounds)


# Text and tables.


Row = tuple[Mapping[str, Any], Mapping[str, Any]]
"""Settings, such as {"seed": 0} or {"agent.expectile": 0.9}, and their `mean_interval`."""


def table(metric: str, rows: Sequence[Row], total: Mapping[str, Any] | None = None) -> rich.table.Table:
    """The table at the end of a run: one row for each seed and one for all, or one for each swept setting.

    Args:
        metric: the name of the score.
        rows: settings, with the same names in all rows, and their intervals.
        total: the `mean_interval` of all seeds. None if rows are swept settings: they are not pooled, and the
            best comes first.

    Returns:
        The table, for rich to print.
    """
    seeds = len((total or rows[0][1])["per_seed"])
    of = "episodes of one seed" if seeds == 1 else "episodes; all: over seeds" if total else f"{seeds} seeds"
    if total is None:
        rows = sorted(rows, key=lambda row: rank_key(row[1]["mean"]))
    shown = [(settings, {metric: interval}) for settings, interval in rows]
    return _intervals_table(shown, of, {metric: total} if total else None)


def tasks_table(
    rows: Sequence[tuple[Mapping[str, Any], Mapping[str, Mapping[str, Any]]]],
    total: Mapping[str, Mapping[str, Any]] | None = None,
    references: Mapping[str, Sequence[float]] = types.MappingProxyType({}),
) -> rich.table.Table:
    """The table of the tasks or commands of a run: one row for each, and one for their mean if it is given.

    Args:
        rows: labels, such as {"task": "task1"} or {"agent.expectile": 0.9, "command": "tau=0.1"}, and the
            `mean_interval` of each metric.
        total: the `mean_interval` of each metric over all tasks; None if their mean has no meaning.
        references: name of a reference -> its score in each row.

    Returns:
        The table, for rich to print.
    """
    seeds = len(next(iter(rows[0][1].values()))["per_seed"])
    of = "episodes of one seed" if seeds == 1 else f"{seeds} seeds"
    return _intervals_table(rows, of, total, references)


def _intervals_table(
    rows: Sequence[tuple[Mapping[str, Any], Mapping[str, Mapping[str, Any]]]],
    of: str,
    total: Mapping[str, Mapping[str, Any]] | None,
    references: Mapping[str, Sequence[float]] = types.MappingProxyType({}),
) -> rich.table.Table:
    """A table of labels, of the intervals of metrics and of references, with a footer for the total."""
    labels, intervals = rows[0]
    names = [f"{metric} (95 % interval over {of})" for metric in intervals]
    shown = rich.table.Table(*labels, *names, *references, show_footer=total is not None)
    for number, (own, found) in enumerate(rows):
        scores = (f"{scores[number]:.3f}" for scores in references.values())
        shown.add_row(*map(str, own.values()), *map(interval_text, found.values()), *scores)
    for column in shown.columns:
        column.justify = "right"
        column.overflow = "fold"
    if total:
        shown.columns[0].footer = "all"
        means = [interval_text(total[metric]) for metric in intervals]
        means += [f"{np.mean(scores):.3f}" for scores in references.values()]
        for column, mean in zip(shown.columns[len(labels) :], means, strict=True):
            column.footer = mean
    return shown


def best(rows: Sequence[Row]) -> tuple[list[Row], int]:
    """The rows with the highest mean, and the number of others whose intervals overlap the first one's.

    There are several only if their means are equal, and none if no mean is finite.
    """
    finite = [row for row in rows if not rank_key(row[1]["mean"])[0]]
    ranked = sorted(finite, key=lambda row: rank_key(row[1]["mean"]))
    first = [row for row in ranked if row[1]["mean"] == ranked[0][1]["mean"]]
    others = ranked[len(first) :]
    return first, sum(row[1]["ci_high"] >= first[0][1]["ci_low"] for row in others)


def rank_key(mean: float | None) -> tuple[bool, float]:
    """A key that sorts mean scores: the best first, those that are missing or not finite last."""
    known = mean is not None and math.isfinite(mean)
    return not known, -float(mean or 0.0) if known else 0.0


def interval_text(interval: Mapping[str, float], form: str = ".3f") -> str:
    """An interval as text, such as 0.960 (0.930 to 0.985); the estimate alone if the ends are unknown.

    Args:
        interval: "mean" or "value", "ci_low" and "ci_high", from `mean_interval` or `aggregates`. Unknown
            numbers are NaN, or None if they were read from JSON.
        form: the format of each number, for format().
    """
    low, high = interval["ci_low"], interval["ci_high"]
    value = interval["value" if "value" in interval else "mean"]
    estimate = format(math.nan if value is None else value, form)
    known = low is not None and math.isfinite(low)
    return f"{estimate} ({low:{form}} to {high:{form}})" if known else estimate
