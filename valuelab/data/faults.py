"""Faults of a dataset, found in the report of `inspection.inspect`.

Each fault is one line that names the field, the numbers and what to do. A fault is a property that is rarely
intended. Properties that differ between sound datasets are numbers of the report, not faults.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

MAX_SATURATED = 0.5
"""The largest share of transitions in which an action dimension may be at one of its bounds."""
MIN_USED = 0.05
"""The smallest share of the interval between their bounds that actions should use."""
MAX_ONE_STEP = 0.01
"""The largest share of episodes that may have a single step."""
MAX_COPIES = 0.01
"""The largest share of transitions that may repeat earlier ones."""
MAX_SCALE_RATIO = 100.0
"""The largest ratio between the standard deviations of two observation dimensions."""
MAX_RETURN_DISTANCE = 20.0
"""The largest distance of a return from the interquartile range, in units of that range."""
MAX_RETURN_VARIANCE = 0.5
"""The largest share of the variance of all returns that one episode may contribute."""

_MAX_LISTED = 8
"""The largest number of ranges that a message lists."""

Report = Mapping[str, Any]


def find(report: Report) -> list[str]:
    """The faults of a dataset.

    Args:
        report: the result of `inspection.inspect`.

    Returns:
        One line per fault; empty where there are none.
    """
    checks = (_episodes, _copies, _rewards, _returns, _masks, _actions, _observations, _jumps)
    return [line for check in checks for line in check(report)]


def _episodes(report: Report) -> Iterator[str]:
    """Missing ends of episodes, or too many of them."""
    count, one_step = report["episodes"]["count"], report["episodes"]["one_step"]
    if count == 1:
        yield (
            f"episodes: all {report['transitions']:,} transitions are one episode; if there are several "
            "episodes, mark the last row of each in terminals or timeouts"
        )
    if one_step > MAX_ONE_STEP * count:
        yield (
            f"episodes: {one_step:,} of {count:,} have a single step; check that terminals and timeouts mark "
            "only the last row of each episode"
        )


def _copies(report: Report) -> Iterator[str]:
    """Episodes and transitions that occur twice."""
    if report["actions"]["number"]:  # with discrete actions, small environments repeat transitions by nature
        return
    copies, count, transitions = report["copies"], report["episodes"]["count"], report["transitions"]
    if copies["episodes"]:
        yield (
            f"episodes: {copies['episodes']:,} of {count:,} repeat an earlier one in all observations and "
            "actions; remove the copies: they count twice, and leak into validation data"
        )
    if copies["transitions"] > MAX_COPIES * transitions:
        yield (
            f"observations and actions: {copies['transitions']:,} of {transitions:,} transitions repeat an "
            "earlier one bit for bit; check that nothing was written twice"
        )


def _rewards(report: Report) -> Iterator[str]:
    """Rewards that are all equal."""
    rewards = report["rewards"]
    if rewards and rewards["distinct"] == 1:
        yield (
            f"rewards: all {report['transitions']:,} are {rewards['min']:g}, so nothing can be learned from "
            "them; use data that reach the goal, another task, or a method that needs no rewards"
        )


def _returns(report: Report) -> Iterator[str]:
    """A return far from all others, which determines the scale of values; rare successes are not faults."""
    if not report["returns"] or report["rewards"]["values"]:
        return
    least, low, high, most, mean, std = (
        report["returns"][name] for name in ("min", "q25", "q75", "max", "mean", "std")
    )
    squares = report["episodes"]["count"] * std**2
    for name, value, distance in (("least", least, low - least), ("greatest", most, most - high)):
        dominant = (value - mean) ** 2 > MAX_RETURN_VARIANCE * squares
        if dominant and distance > MAX_RETURN_DISTANCE * (high - low):
            yield (
                f"returns: the {name}, {value:.4g}, contributes {(value - mean) ** 2 / squares:.0%} of their "
                f"variance; half of the returns lie between {low:.4g} and {high:.4g}; check the rewards of "
                "that episode"
            )


def _masks(report: Report) -> Iterator[str]:
    """Goals that end their episodes, but are recorded as time limits."""
    rewards = report["rewards"]
    if not rewards or rewards["distinct"] != 2 or report["masks"]["zeros"]:
        return
    best = rewards["best"]
    if best["count"] == best["at_ends"] > 1:
        yield (
            f"masks: all {best['count']:,} rewards of {rewards['max']:g} end their episode, but no mask is "
            "0, so values bootstrap past the goal; mark these rows in terminals, not in timeouts"
        )


def _actions(report: Report) -> Iterator[str]:
    """Actions that are never taken, hardly vary or are at their bounds."""
    actions = report["actions"]
    if actions["number"]:
        unused = np.flatnonzero(actions["shares"] == 0)
        if len(unused):
            yield (
                f"actions: {len(unused)} of {actions['number']} are never taken ({listed(unused)}), so the "
                "data say nothing about their values; choose a method that stays close to the data"
            )
        return
    used = (actions["max"] - actions["min"]) / np.maximum(actions["high"] - actions["low"], 1e-12)
    at_bounds = actions["at_low"] + actions["at_high"]
    constant = np.flatnonzero(used == 0)
    narrow = np.flatnonzero((used > 0) & (used < MIN_USED))
    saturated = np.flatnonzero((used > 0) & (at_bounds > MAX_SATURATED))
    if len(constant):
        yield (
            f"actions: {len(constant)} of {len(used)} dimensions never change ({listed(constant)}); leave "
            "them out, or collect data in which they change"
        )
    if len(narrow):
        yield (
            f"actions: {len(narrow)} of {len(used)} dimensions ({listed(narrow)}) use at most "
            f"{used[narrow].max():.1%} of the interval between their bounds; rescale actions to the bounds"
        )
    if len(saturated):
        yield (
            f"actions: {len(saturated)} of {len(used)} dimensions ({listed(saturated)}) are at a bound in up "
            f"to {at_bounds[saturated].max():.0%} of transitions; check that nothing was clipped: the "
            "density of a squashed policy is not finite there"
        )


def _observations(report: Report) -> Iterator[str]:
    """Dimensions that never change, or whose scales differ greatly; images without content."""
    observations = report["observations"]
    if "parts" in observations:
        for name, part in observations["parts"].items():
            lines = _observations({"observations": part})
            yield from (line.replace("observations", f"observations[{name!r}]", 1) for line in lines)
        return
    if observations["images"]:
        yield from _images(observations)
        return
    constant, std = observations["constant"], observations["std"]
    if len(constant):
        yield (
            f"observations: {len(constant)} of {len(std)} dimensions never change ({listed(constant)}); "
            "leave them out: networks cannot learn about other values there"
        )
    varying = np.flatnonzero(std > 0)
    if not len(varying):
        return
    least, most = varying[std[varying].argmin()], varying[std[varying].argmax()]
    if std[most] > MAX_SCALE_RATIO * std[least]:
        yield (
            f"observations: standard deviations lie between {std[least]:.2g} (dimension {least}) and "
            f"{std[most]:.2g} (dimension {most}), a ratio of {std[most] / std[least]:,.0f}; try "
            "--data.normalize_observations"
        )


def _jumps(report: Report) -> Iterator[str]:
    """Steps that lead from one episode into another."""
    jumps = report["jumps"]
    if len(jumps["rows"]):
        longest = jumps["moves"].argmax()
        yield (
            f"observations: {len(jumps['rows'])} steps are far longer than the rest, from rows "
            f"{listed(jumps['rows'])}; in one, dimension {jumps['dimensions'][longest]} moves by "
            f"{jumps['moves'][longest]:.3g}; mark these rows as ends of episodes, unless the environment has "
            "such jumps"
        )


def _images(observations: Report) -> Iterator[str]:
    """Images without content."""
    if observations["min"] == observations["max"]:
        yield (
            f"observations: all pixels of {observations['sampled']:,} images are {observations['min']}; "
            "check the camera"
        )
    elif observations["max"] <= 1:
        yield (
            "observations: no pixel is above 1; if images were scaled to [0, 1], store them as 0 to 255: "
            "encoders scale them"
        )


def listed(numbers: np.ndarray) -> str:
    """Ascending integers [K] as text, such as "0, 3 to 7"."""
    runs = np.split(numbers, np.flatnonzero(np.diff(numbers) > 1) + 1)
    words = [f"{run[0]} to {run[-1]}" if len(run) > 2 else ", ".join(map(str, run)) for run in runs]
    more = len(words) - _MAX_LISTED
    return ", ".join(words if more <= 0 else [*words[:_MAX_LISTED], f"and {more} more"])
