"""Checks of the metrics of a run at its end, as its agent declares them."""

from collections.abc import Mapping, Sequence
from typing import Any

from valuelab.errors import MOST_LISTED
from valuelab.evaluation.learning_curves import settings_text
from valuelab.types import MetricCheck


def warnings(
    checks: Sequence[MetricCheck], rows: Sequence[Mapping[str, Any]], members: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """The checks that failed, for result.json.

    Args:
        checks: the checks of the agent.
        rows: metrics.jsonl, of all sessions.
        members: the settings of each member. Its rows contain them, except in a run of one member.

    Returns:
        For each check that failed in some member: "metric"; "members", the settings of these members; "text",
        one line. A member without a number of the metric passes.
    """
    found = []
    for check in checks:
        lowest = _lowest(check.metric, rows, members)
        failed = [member for member, number in enumerate(lowest) if number >= check.below]
        if failed:
            where = _where(failed, members)
            least = min(lowest[member] for member in failed)
            fact = f"{check.metric} never fell below {check.below:g}{where} (lowest {least:.3g})"
            found.append(
                {
                    "metric": check.metric,
                    "members": [dict(members[member]) for member in failed],
                    "text": f"{fact}: {check.meaning}",
                }
            )
    return found


def _lowest(
    metric: str, rows: Sequence[Mapping[str, Any]], members: Sequence[Mapping[str, Any]]
) -> list[float]:
    """The lowest number of a metric in the rows of each member; -inf without a number."""
    numbers: dict[tuple[Any, ...], list[float]] = {tuple(member.values()): [] for member in members}
    for row in rows:
        if row.get(metric) is not None:
            # Rows of a run of one member do not name it.
            numbers[tuple(row.get(name, value) for name, value in members[0].items())].append(row[metric])
    return [min(mine, default=float("-inf")) for mine in numbers.values()]


def _where(failed: Sequence[int], members: Sequence[Mapping[str, Any]]) -> str:
    """Such as " in 2 of 4 seeds", for each setting of a sweep; empty for a run of one member."""
    if len(members) == 1:
        return ""
    counts: dict[str, list[int]] = {}
    for member, settings in enumerate(members):
        swept = {name: value for name, value in settings.items() if name != "seed"}
        count = counts.setdefault(settings_text(swept), [0, 0])
        count[0] += member in failed
        count[1] += 1
    places = [
        f"{count} of {seeds} seed{'s' if seeds > 1 else ''}" + (f" of {setting}" if setting else "")
        for setting, (count, seeds) in counts.items()
        if count
    ]
    if len(places) > MOST_LISTED:
        places = [*places[:MOST_LISTED], f"seeds of {len(places) - MOST_LISTED} more settings"]
    return f" in {', '.join(places)}"
