"""The curves of a run from its log rows: means over seeds for each setting, and the ranking of settings."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from valuelab.evaluation import metrics, statistics

Points = dict[float, float]
"""The numbers of one member by update."""
Series = dict[str, dict[str, list[Points]]]
"""Metric -> setting as text -> the members with this setting."""


class MeanCurve(NamedTuple):
    """The mean of a metric over the M seeds of one setting.

    Attributes:
        steps: [S], the updates at which all seeds have a number.
        mean: [S].
        low: [S], the lower ends of the 95 % bootstrap intervals over seeds; NaN with one seed.
        high: [S], the upper ends.
    """

    steps: np.ndarray
    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray


class Ranked(NamedTuple):
    """A setting in the ranking of a sweep.

    Attributes:
        setting: as text.
        rank: 1 for the best; settings with equal scores have the same rank. 0 without evaluation.
        score: the mean over seeds at the last evaluation; NaN if it is missing.
    """

    setting: str
    rank: int
    score: float


def series(rows: Sequence[Mapping[str, Any]], member_fields: Sequence[str] = ("seed",)) -> Series:
    """The finite numbers in rows of metrics.jsonl; metrics without a finite number are left out.

    A member whose numbers of a metric are all missing, null or NaN, is in the list without points.

    Args:
        rows: see `plots.curves`.
        member_fields: the fields that identify a member; all but "seed" identify its setting.
    """
    found: dict[str, dict[str, dict[Any, Points]]] = {}
    for row in rows:
        setting = settings_text({field: row.get(field) for field in member_fields if field != "seed"})
        for name in row.keys() - {"step", "seed", *member_fields}:
            number = row[name]
            if number is None or isinstance(number, int | float):
                points = found.setdefault(name, {}).setdefault(setting, {}).setdefault(row.get("seed"), {})
                if number is not None and math.isfinite(number):
                    points[row["step"]] = number
    return {
        name: {setting: list(members.values()) for setting, members in settings.items()}
        for name, settings in found.items()
        if any(points for members in settings.values() for points in members.values())
    }


def mean_curve(members: Sequence[Points], intervals: bool = True) -> MeanCurve:
    """The mean over the members of a setting, with intervals if they are asked for and M > 1.

    The mean exists only at updates that all members have, because a run may still be in progress.
    """
    steps = sorted(set.intersection(*(set(points) for points in members)))
    numbers = np.array([[points[step] for step in steps] for points in members], float)
    low = high = np.full(len(steps), np.nan)
    if intervals and len(members) > 1 and steps:
        found = [statistics.mean_interval(column[:, None]) for column in numbers.T]
        low, high = (np.array([each[end] for each in found]) for end in ("ci_low", "ci_high"))
    return MeanCurve(steps=np.array(steps), mean=numbers.mean(0), low=low, high=high)


def rank(found: Series) -> list[Ranked]:
    """The settings of a run, the best mean score over seeds first, those without a score last.

    The scores are those of the last evaluation. Scores of different settings are never pooled. Without
    evaluation the settings keep their order, with rank 0.
    """
    settings = list(dict.fromkeys(setting for by_setting in found.values() for setting in by_setting))
    score = metrics.score_of(found)
    if not score:
        return [Ranked(setting, 0, math.nan) for setting in settings]
    last = max(step for members in found[score].values() for points in members for step in points)
    means = {}
    for setting in settings:
        finals = [points.get(last, math.nan) for points in found[score].get(setting, [{}])]
        means[setting] = float(np.mean(finals))
    ordered = sorted(settings, key=lambda setting: statistics.rank_key(means[setting]))
    keys = [statistics.rank_key(means[setting]) for setting in ordered]
    return [
        Ranked(setting, 1 + keys.index(key), means[setting])
        for setting, key in zip(ordered, keys, strict=True)
    ]


def spans_decades(found: Mapping[str, Sequence[Points]]) -> bool:
    """Whether the numbers of a metric are positive and their largest is 100 times their smallest or more."""
    numbers = [value for members in found.values() for points in members for value in points.values()]
    return min(numbers) > 0 and max(numbers) >= 100 * min(numbers)


def settings_text(settings: Mapping[str, Any]) -> str:
    """A member's settings as text for plots, without the common prefix "agent."."""
    return ", ".join(f"{name.removeprefix('agent.')}={value}" for name, value in settings.items())
