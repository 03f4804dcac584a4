"""Checks of metrics at the end of a run: which members fail, and what is said."""

from valuelab.evaluation.metric_checks import warnings
from valuelab.types import MetricCheck

CHECK = MetricCheck(metric="critic/ratio", level=1.0, below=0.9, meaning="try more")


def rows(member, *numbers):
    return [member | {"step": step, "critic/ratio": number} for step, number in enumerate(numbers)]


def test_one_member_that_never_falls_is_a_warning():
    member = {"agent.lr": 0.1, "seed": 3}
    found = warnings([CHECK], rows({}, 1.2, 0.95, None, 1.0), [member])
    text = "critic/ratio never fell below 0.9 (lowest 0.95): try more"
    assert found == [{"metric": "critic/ratio", "members": [member], "text": text}]
    assert warnings([CHECK], rows({}, 1.2, 0.89, 1.0), [member]) == []


def test_seeds_are_counted_for_each_setting():
    members = [{"agent.lr": rate, "seed": seed} for rate in (0.1, 0.2, 0.3) for seed in (0, 1)]
    falling = (False, True, True, True, False, False)
    log = [row for member, falls in zip(members, falling, strict=True) for row in rows(member, 1, 1 - falls)]
    (found,) = warnings([CHECK], log, members)
    assert found["members"] == [members[0], *members[4:]]
    assert "below 0.9 in 1 of 2 seeds of lr=0.1, 2 of 2 seeds of lr=0.3 (lowest 1)" in found["text"]


def test_without_numbers_nothing_is_said():
    assert warnings([CHECK], [{"seed": 0, "step": 1, "loss": 1.0}], [{"seed": 0}]) == []
    assert warnings([], rows({"seed": 0}, 1.0), [{"seed": 0}]) == []
