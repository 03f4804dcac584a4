"""What is wrong with a dataset, told from the report of `inspection.inspect`.

Every problem is one line that names the field, the numbers and what to do. A line is only for what is rarely
meant to be so: what differs between sound datasets is a number of the report, and no problem.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

MOST_SATURATED = 0.5
"""Share of transitions that may have an action dimension at one of its bounds."""
LEAST_USED = 0.05
"""Share of the way between their bounds that actions should use."""
MOST_ONE_STEP, MOST_COPIES = 0.01, 0.01
"""Share of episodes that may have one step, and of transitions that may repeat others."""
WIDEST_SCALES = 100.0
"""How many times the least standard deviation of the observations may go into the greatest."""
FARTHEST_RETURN = 20.0
"""How far a return may lie from the middle half of them, in units of its width, ..."""
MOST_VARIANCE = 0.5
"""... if that episode alone makes so much of their variance."""

_MOST_LISTED = 8

Report = Mapping[str, Any]


def find(report: Report) -> list[str]:
    """The problems of a dataset.

    Args:
        report: what `inspection.inspect` returned.

    Returns:
        A line each; empty where there are none.
    """
    checks = (_episodes, _copies, _rewards, _returns, _masks, _actions, _observations, _jumps)
    return [line for check in checks for line in check(report)]


def _episodes(report: Report) -> Iterator[str]:
    """Ends of episodes that are lost, or too many."""
    count, one_step = report["episodes"]["count"], report["episodes"]["one_step"]
    if count == 1:
        yield (
            f"episodes: all {report['transitions']:,} transitions are one episode; if they are of several, "
            "mark the last row of each in terminals or timeouts"
        )
    if one_step > MOST_ONE_STEP * count:
        yield (
            f"episodes: {one_step:,} of {count:,} have a single step; check that terminals and timeouts mark "
            "the last row of each episode alone"
        )


def _copies(report: Report) -> Iterator[str]:
    """What stands there twice. Discrete actions in simple worlds lead to the same places again."""
    if report["actions"]["number"]:
        return
    copies, count, transitions = report["copies"], report["episodes"]["count"], report["transitions"]
    if copies["episodes"]:
        yield (
            f"episodes: {copies['episodes']:,} of {count:,} repeat an earlier one, all observations and "
            "actions; drop the copies, which count twice and leak into validation"
        )
    if copies["transitions"] > MOST_COPIES * transitions:
        yield (
            f"observations and actions: {copies['transitions']:,} of {transitions:,} transitions repeat an "
            "earlier one to the last bit; check that nothing was written twice"
        )


def _rewards(report: Report) -> Iterator[str]:
    """Rewards that teach nothing."""
    rewards = report["rewards"]
    if rewards and rewards["distinct"] == 1:
        yield (
            f"rewards: all {report['transitions']:,} are {rewards['min']:g}, so they teach nothing; take "
            "data that reach the goal, another task, or a method that needs no rewards"
        )


def _returns(report: Report) -> Iterator[str]:
    """A return far from all others, which decides the scale of values; not where a few are successes."""
    if not report["returns"] or report["rewards"]["values"]:
        return
    least, low, high, most, mean, std = (
        report["returns"][name] for name in ("min", "q25", "q75", "max", "mean", "std")
    )
    squares = report["episodes"]["count"] * std**2
    for name, value, distance in (("least", least, low - least), ("greatest", most, most - high)):
        alone = (value - mean) ** 2 > MOST_VARIANCE * squares
        if alone and distance > FARTHEST_RETURN * (high - low):
            yield (
                f"returns: the {name}, {value:.4g}, makes {(value - mean) ** 2 / squares:.0%} of their "
                f"variance alone; half of them lie between {low:.4g} and {high:.4g}, so look at the rewards "
                "of that episode"
            )


def _masks(report: Report) -> Iterator[str]:
    """Goals that end their episodes, recorded as if a time limit did."""
    rewards = report["rewards"]
    if not rewards or rewards["distinct"] != 2 or report["masks"]["zeros"]:
        return
    best = rewards["best"]
    if best["count"] == best["at_ends"] > 1:
        yield (
            f"masks: all {best['count']:,} rewards of {rewards['max']:g} end their episode, yet no mask is "
            "0: values go on past the goal; mark these rows in terminals, not in timeouts"
        )


def _actions(report: Report) -> Iterator[str]:
    """Actions that are never taken, hardly vary or stand at their bounds."""
    actions = report["actions"]
    if actions["number"]:
        unused = np.flatnonzero(actions["shares"] == 0)
        if len(unused):
            yield (
                f"actions: {len(unused)} of {actions['number']} are never taken ({listed(unused)}), and "
                "nothing is known of their values; choose a method that stays with the data"
            )
        return
    used = (actions["max"] - actions["min"]) / np.maximum(actions["high"] - actions["low"], 1e-12)
    at_bounds = actions["at_low"] + actions["at_high"]
    constant = np.flatnonzero(used == 0)
    narrow = np.flatnonzero((used > 0) & (used < LEAST_USED))
    saturated = np.flatnonzero((used > 0) & (at_bounds > MOST_SATURATED))
    if len(constant):
        yield (
            f"actions: {len(constant)} of {len(used)} dimensions never change ({listed(constant)}); leave "
            "them out, or collect data in which they do"
        )
    if len(narrow):
        yield (
            f"actions: {len(narrow)} of {len(used)} dimensions ({listed(narrow)}) use at most "
            f"{used[narrow].max():.1%} of the way between their bounds; rescale actions to the bounds"
        )
    if len(saturated):
        yield (
            f"actions: {len(saturated)} of {len(used)} dimensions ({listed(saturated)}) are at a bound in up "
            f"to {at_bounds[saturated].max():.0%} of transitions; check that nothing was clipped: squashed "
            "policies have no finite density there"
        )


def _observations(report: Report) -> Iterator[str]:
    """Dimensions that carry nothing, or whose scales are far apart; images without contents."""
    observations = report["observations"]
    if observations["images"]:
        yield from _images(observations)
        return
    constant, std = observations["constant"], observations["std"]
    if len(constant):
        yield (
            f"observations: {len(constant)} of {len(std)} dimensions never change ({listed(constant)}); "
            "leave them out, for networks learn nothing of other values there"
        )
    varying = np.flatnonzero(std > 0)
    if not len(varying):
        return
    least, most = varying[std[varying].argmin()], varying[std[varying].argmax()]
    if std[most] > WIDEST_SCALES * std[least]:
        yield (
            f"observations: standard deviations lie between {std[least]:.2g} (dimension {least}) and "
            f"{std[most]:.2g} (dimension {most}), {std[most] / std[least]:,.0f} times as much; try "
            "--data.normalize_observations"
        )


def _jumps(report: Report) -> Iterator[str]:
    """Steps that are none, but lead from one episode into another."""
    jumps = report["jumps"]
    if len(jumps["rows"]):
        longest = jumps["moves"].argmax()
        yield (
            f"observations: {len(jumps['rows'])} steps are far longer than the rest, from rows "
            f"{listed(jumps['rows'])}; in one, dimension {jumps['dimensions'][longest]} moves by "
            f"{jumps['moves'][longest]:.3g}; mark these rows as ends of episodes, unless the world jumps so"
        )


def _images(observations: Report) -> Iterator[str]:
    """Images without contents."""
    if observations["min"] == observations["max"]:
        yield (
            f"observations: all pixels of {observations['sampled']:,} images are {observations['min']}; "
            "check the camera"
        )
    elif observations["max"] <= 1:
        yield (
            "observations: no pixel is above 1; if images were scaled to [0, 1], store them as 0 to 255, "
            "which encoders scale"
        )


def listed(numbers: np.ndarray) -> str:
    """Ascending whole numbers [K] in words, such as "0, 3 to 7"."""
    runs = np.split(numbers, np.flatnonzero(np.diff(numbers) > 1) + 1)
    words = [f"{run[0]} to {run[-1]}" if len(run) > 2 else ", ".join(map(str, run)) for run in runs]
    more = len(words) - _MOST_LISTED
    return ", ".join(words if more <= 0 else [*words[:_MOST_LISTED], f"and {more} more"])
