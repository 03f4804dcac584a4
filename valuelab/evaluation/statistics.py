"""Scores with 95 % bootstrap intervals: of one run, and of methods on a benchmark; tables of them.

Of one run (`mean_interval`, `interquartile_mean_interval`) the bootstrap is hierarchical. To resample scores
[M, T, E] of M seeds on T tasks in E episodes, M seeds are drawn with replacement; of each seed drawn, and
within each task, E episodes are drawn with replacement. Tasks are never resampled: they are the benchmark,
not a sample. The interval spans the 2.5th to the 97.5th percentile of the resampled statistics.

How often the interval holds the true mean, in 2000 simulated runs of normal scores (4000 in the first line):
    100 seeds of 5 episodes, seeds differ 10 times as much as episodes    0.94
    40 seeds of 20 episodes, seeds differ 5 times as much                 0.93
    10 seeds, likewise                                                    0.92
    4 seeds, likewise                                                     0.83
    4, 10 or 40 seeds of 20 episodes that do not differ at all            0.98 to 0.99
    one seed of 20 or 50 episodes, the mean being that policy's own       0.93, 0.94
So it is right for many seeds, too narrow for few (M draws from M seeds vary too little), and too wide where
seeds are alike (the episodes' noise counts at both levels). With one seed it speaks of that one policy, and
says nothing of what another training seed would give.

Of a benchmark (`aggregates`, `performance_profile`, `probability_of_improvement`, `curve`) scores [M, T] are
means over episodes, so that what episodes add is in them already, and the bootstrap is stratified: seeds are
drawn within each task, so every score must come from a training run of its own. (Where all tasks are played
by one run, whose scores rise and fall together, give the mean over its tasks, [M, 1].) M - 1 of M seeds are
drawn, which makes resamples vary as much as samples do (Rao and Wu 1988), and the interval is the estimate
and t standard errors to either side, with as many degrees of freedom as Welch and Satterthwaite give; for the
mean of one task it is Student's interval. How often it holds the true value in 1000 simulated benchmarks, for
4, 5, 8 and 10 seeds, beside plain percentiles of M draws (800 benchmarks):

    normal scores           mean                     interquartile mean         median over tasks
    1 task                  0.95 0.94 0.95 0.96      0.96 0.97 0.95 0.97        (the mean)
    5 tasks                 0.96 0.95 0.96 0.96      0.96 0.96 0.97 0.96        0.93 0.93 0.94 0.94
    10 tasks                0.97 0.97 0.96 0.95      0.96 0.95 0.94 0.95        0.95 0.96 0.94 0.93
    1 task, percentiles     0.82 0.82 0.88 0.88      0.89 0.88 0.94 0.93
    5 tasks, percentiles    0.88 0.90 0.92 0.93      0.88 0.91 0.92 0.92        0.82 0.85 0.90 0.89

Stretched percentiles reach 0.92 to 0.95 for the mean of one task; the studentised bootstrap 0.95, ten times
as wide for 4 seeds. Success rates of 50 episodes around 0.5 are covered as normal scores are. In 250 to 800
benchmarks 0.95 is not reached, whatever the method, where a few scores do not show how much others differ:

    success around 0.9, mean of 1 task                            0.90 to 0.91; of 5 or 10, 0.93 to 0.96
    log-normal scores, mean of 1 task                             0.80 to 0.84; of 5, 0.89 to 0.91
    runs that succeed (0.8) or fail, 1 task, 5 seeds              0.62, for often all are alike
    an optimality gap that one run in 25 has, 1 task              0.18 to 0.40; of 5 or 10, 0.63 to 0.78
    performance profile, 1 task, 1 run in 10 above or below       0.31 to 0.64; of 5 or 10, 0.88 to 0.97
    probability of improvement, 1 task                            0.89 to 0.95; of 5 or 10, 0.95 to 0.98

Where all scores are alike, or one method's all above another's, the interval is a point and claims too much.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import rich.table
import scipy.stats

from valuelab.errors import InputError

_LEVEL = 0.95


def mean_interval(scores: np.ndarray, *, resamples: int = 2000, seed: int = 0) -> dict[str, Any]:
    """The mean score with its interval.

    Args:
        scores: [M, E] scores of M training seeds in E episodes, or [M, T, E] on T tasks.
        resamples: number of bootstrap resamples.
        seed: of the resampling.

    Returns:
        "mean", "ci_low" and "ci_high", floats, and "per_seed", a list of M means; ready for JSON.
    """
    estimate, low, high = _bootstrap(scores, lambda runs: runs.mean((-2, -1)), resamples, seed)
    per_seed = [float(mean) for mean in np.reshape(scores, (len(scores), -1)).mean(1)]
    return {"mean": estimate, "ci_low": low, "ci_high": high, "per_seed": per_seed}


def interquartile_mean_interval(
    scores: np.ndarray, *, resamples: int = 2000, seed: int = 0
) -> dict[str, float]:
    """The interquartile mean across tasks with its interval: less moved by a few very good or bad runs.

    The mean of the middle half of the M x T mean scores of all seeds on all tasks.

    Args:
        scores: [M, T, E].
        resamples: number of bootstrap resamples.
        seed: of the resampling.

    Returns:
        "interquartile_mean", "ci_low" and "ci_high".
    """

    def interquartile_mean(runs: np.ndarray) -> np.ndarray:
        return scipy.stats.trim_mean(runs.reshape(*runs.shape[:-2], -1), 0.25, axis=-1)

    estimate, low, high = _bootstrap(scores, interquartile_mean, resamples, seed)
    return {"interquartile_mean": estimate, "ci_low": low, "ci_high": high}


def _bootstrap(
    scores: np.ndarray, statistic: Callable[[np.ndarray], np.ndarray], resamples: int, seed: int
) -> tuple[float, float, float]:
    """The statistic of mean scores [..., M, T], and the ends of its interval."""
    scores = np.asarray(scores, np.float64)
    scores = scores.reshape(scores.shape[0], -1, scores.shape[-1])
    members, tasks, episodes = scores.shape
    rng = np.random.default_rng(seed)
    runs = np.empty((resamples, members, tasks))
    for resample in runs:  # one at a time: all at once would fill gigabytes
        drawn = rng.integers(members, size=(members, 1, 1))
        within = rng.integers(episodes, size=scores.shape)
        resample[:] = scores[drawn, np.arange(tasks)[:, None], within].mean(-1)
    tail = (1 - _LEVEL) / 2
    low, high = np.quantile(statistic(runs), [tail, 1 - tail])
    return float(statistic(scores.mean(-1))), float(low), float(high)


def difference(first: np.ndarray, second: np.ndarray) -> dict[str, Any]:
    """Mean of one sample [M] less that of another [M'], with its 95 % bootstrap interval.

    Returns:
        "mean", "ci_low", "ci_high" and "sign": 1 or -1 where the interval leaves out 0, else 0.
    """

    def statistic(first: np.ndarray, second: np.ndarray, axis: int) -> np.ndarray:
        return first.mean(axis) - second.mean(axis)

    mean = float(first.mean() - second.mean())
    if min(len(first), len(second)) < 2:
        return {"mean": mean, "ci_low": None, "ci_high": None, "sign": 0}
    drawn = scipy.stats.bootstrap((first, second), statistic, method="percentile", random_state=0)
    low, high = map(float, drawn.confidence_interval)
    return {"mean": mean, "ci_low": low, "ci_high": high, "sign": int(low > 0) - int(high < 0)}


# Of benchmarks: one method in M runs of each of T tasks, after Agarwal et al. 2021 (arXiv:2108.13264).


def aggregates(
    scores: np.ndarray,
    *,
    optimal: float = 1.0,
    bounds: tuple[float, float] = (-math.inf, math.inf),
    resamples: int = 2000,
    seed: int = 0,
) -> dict[str, dict[str, float]]:
    """What one method reaches on a benchmark, in four numbers.

        mean                  of all M x T scores
        median                over tasks of the mean over seeds
        interquartile mean    of the middle half of all M x T scores
        optimality gap        mean of max(optimal - score, 0): what is missing, where more counts no more

    Args:
        scores: [M, T] means over episodes of M seeds on T tasks, every score from a training run of its own.
        optimal: the score that is as good as needed.
        bounds: least and greatest possible score; ends of intervals are held within.
        resamples: number of bootstrap resamples.
        seed: of the resampling.

    Returns:
        "mean", "median", "interquartile_mean" and "optimality_gap", each with "value", "ci_low" and
        "ci_high". With one seed the ends are NaN, for nothing is known of what another would give.

    Raises:
        InputError: when scores are not [M, T], empty, or not finite.
    """
    scores = _checked("scores", scores, "[M, T]")
    weights = _draw_seeds(scores.shape, resamples, np.random.default_rng(seed))
    gaps = np.maximum(optimal - scores, 0.0)
    gap_bounds = max(optimal - bounds[1], 0.0), max(optimal - bounds[0], 0.0)
    found = {}
    for name, statistic, values, ends in (
        ("mean", _mean, scores, bounds),
        ("median", _median, scores, bounds),
        ("interquartile_mean", _interquartile_mean, scores, bounds),
        ("optimality_gap", _mean, gaps, gap_bounds),
    ):
        estimate = statistic(values, np.ones((1, *values.shape)))
        low, high = _interval(estimate, statistic(values, weights)[:, None], [weights], ends)
        found[name] = {"value": float(estimate[0]), "ci_low": float(low[0]), "ci_high": float(high[0])}
    return found


def performance_profile(
    scores: np.ndarray, thresholds: np.ndarray, *, resamples: int = 2000, seed: int = 0
) -> dict[str, list[float]]:
    """The share of all runs on all tasks whose score is above each threshold, with pointwise intervals.

    Args:
        scores: [M, T], as for `aggregates`.
        thresholds: [K].
        resamples: number of bootstrap resamples.
        seed: of the resampling.

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
    """The mean at each of S evaluations, with pointwise intervals; all S share their resamples.

    Args:
        scores: [S, M, T], at each evaluation as for `aggregates`.
        bounds: least and greatest possible score; ends of intervals are held within.
        resamples: number of bootstrap resamples.
        seed: of the resampling.

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
    """How likely a run of one method beats a run of another on the same task, on average over tasks.

        mean over tasks of P(X > Y) + ½ P(X = Y),   the Mann-Whitney U statistic over M M'

    Args:
        first: [M, T] scores X of one method, as for `aggregates`.
        second: [M', T] scores Y of the other.
        resamples: number of bootstrap resamples.
        seed: of the resampling.

    Returns:
        "mean", "ci_low" and "ci_high".

    Raises:
        InputError: when scores are not [M, T], empty, not finite, or of different numbers of tasks.
    """
    first, second = _checked("first", first, "[M, T]"), _checked("second", second, "[M, T]")
    if first.shape[1] != second.shape[1]:
        raise InputError(
            f"first has scores on {first.shape[1]} tasks and second on {second.shape[1]}: "
            "give those on the same tasks"
        )
    rng = np.random.default_rng(seed)
    drawn = [_draw_seeds(scores.shape, resamples, rng) for scores in (first, second)]
    wins = 0.5 * (1.0 + np.sign(first[:, None] - second[None]))  # [M, M', T]
    beaten = np.einsum("bmt,mnt->bnt", drawn[0], wins)
    resampled = np.sum(beaten * drawn[1], (1, 2)) / (drawn[0].sum((1, 2)) * drawn[1][:, :, 0].sum(1))
    low, high = _interval(wins.mean(keepdims=True)[0, 0], resampled[:, None], drawn, (0.0, 1.0))
    return {"mean": float(wins.mean()), "ci_low": float(low[0]), "ci_high": float(high[0])}


def _checked(name: str, scores: np.ndarray, form: str) -> np.ndarray:
    """Scores as float64, of as many axes as the form, such as "[M, T]", has letters."""
    scores = np.asarray(scores, np.float64)
    if scores.ndim != form.count(",") + 1 or not scores.size:
        raise InputError(f"{name} has shape {list(scores.shape)}; it must be {form}, and none of them 0")
    if not np.isfinite(scores).all():
        place = np.argwhere(~np.isfinite(scores))[0].tolist()
        raise InputError(f"{name} is {scores[tuple(place)]} at {place}: leave out runs that have no score")
    return scores


def _draw_seeds(shape: tuple[int, ...], resamples: int, rng: np.random.Generator) -> np.ndarray:
    """How often each seed is drawn, [B, M, T]: within each of T tasks, M - 1 of its M with replacement.

    With one fewer the resampled means vary as much as means of M do, not by a factor 1 - 1/M less.
    """
    seeds, tasks = shape
    draws = rng.multinomial(max(seeds - 1, 1), np.full(seeds, 1 / seeds), size=(resamples, tasks))
    return draws.swapaxes(1, 2).astype(np.float64)


def _mean(scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Means of [M, T] by weights [B, M, T], [B]; of [K, M, T], [B, K]."""
    return np.tensordot(weights, scores, ((1, 2), (-2, -1))) / weights[0].sum()


def _median(scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Medians over tasks of means over seeds, [B], of [M, T] by weights [B, M, T]."""
    return np.median(np.einsum("bmt,mt->bt", weights, scores) / weights[0, :, 0].sum(), axis=-1)


def _interquartile_mean(scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Means of the middle half, [B], of [M, T] by weights [B, M, T].

    Of n scores n // 4 are left out at either end, as by scipy.stats.trim_mean; of weights the same share.
    """
    order = np.argsort(scores, axis=None)
    ranked = weights.reshape(len(weights), -1)[:, order]
    total = ranked[0].sum()
    left_out = total * (scores.size // 4) / scores.size
    kept = np.diff(np.clip(ranked.cumsum(-1), left_out, total - left_out), axis=-1, prepend=left_out)
    return kept @ scores.ravel()[order] / (total - 2 * left_out)


def _mean_intervals(
    scores: np.ndarray, bounds: tuple[float, float], resamples: int, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Means of [K, M, T] over seeds and tasks, and the ends of their intervals: [K] each."""
    weights = _draw_seeds(scores.shape[1:], resamples, np.random.default_rng(seed))
    estimate = scores.mean((1, 2))
    return estimate, *_interval(estimate, _mean(scores, weights), [weights], bounds)


def _interval(
    estimate: np.ndarray, resampled: np.ndarray, drawn: Sequence[np.ndarray], bounds: tuple[float, float]
) -> tuple[np.ndarray, np.ndarray]:
    """The ends of the intervals of K statistics: estimate ± t(f) x bootstrap standard error.

        f = (Σ v)² / Σ v² / (M - 1),   v = Σ cov(statistic, times drawn)² M / (M - 1) over the seeds of a task

    v is what a task's seeds bring to the statistic's variance, to first order; for a mean, its variance over
    seeds over M T². f is then the number of degrees of freedom of Welch and Satterthwaite.

    Args:
        estimate: [K].
        resampled: [B, K].
        drawn: for each sample, how often its seeds were drawn, [B, M, T].
        bounds: what the statistics cannot go beyond.

    Returns:
        Low and high ends [K]; NaN where a sample has one seed.
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


# Words and tables.


def table(
    metric: str,
    rows: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]],
    total: Mapping[str, Any] | None = None,
) -> rich.table.Table:
    """What is shown at the end of a run: a row a seed, and one for all; or of a sweep a row a setting.

    Args:
        metric: the score's name.
        rows: what each was trained with (such as {"seed": 0} or {"agent.expectile": 0.9}; the same names for
            all), and its `mean_interval`.
        total: the `mean_interval` of all seeds. None where rows are settings: these are not pooled, and the
            best come first.

    Returns:
        The table, for rich to print.
    """
    names, seeds = list(rows[0][0]), len((total or rows[0][1])["per_seed"])
    of = "episodes of one seed" if seeds == 1 else "episodes; all: over seeds" if total else f"{seeds} seeds"
    shown = rich.table.Table(*names, f"{metric} (95 % interval over {of})", show_footer=total is not None)
    for settings, interval in rows if total else sorted(rows, key=_rank):
        shown.add_row(*[f"{settings[name]}" for name in names], in_words(interval))
    for column in shown.columns:
        column.justify = "right"
    if total:
        shown.columns[0].footer, shown.columns[-1].footer = "all", in_words(total)
    return shown


def _rank(row: tuple[Mapping[str, Any], Mapping[str, Any]]) -> tuple[bool, float]:
    """Sorts settings: the best first, and last those without a finite score."""
    mean = row[1]["mean"]
    known = mean is not None and math.isfinite(mean)
    return not known, -mean if known else 0.0


def in_words(interval: Mapping[str, float], form: str = ".3f") -> str:
    """An interval as 0.960 (0.930 to 0.985).

    Args:
        interval: a mean and its ends, as `mean_interval` gives them, or a value and its ends, as
            `aggregates` does; where there are no ends, the estimate stands alone. JSON has None for NaN.
        form: of each number, as format() takes it.
    """
    low, high = interval["ci_low"], interval["ci_high"]
    value = interval["value" if "value" in interval else "mean"]
    estimate = format(math.nan if value is None else value, form)
    known = low is not None and math.isfinite(low)
    return f"{estimate} ({low:{form}} to {high:{form}})" if known else estimate
