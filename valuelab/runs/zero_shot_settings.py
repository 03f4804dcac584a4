"""The settings of runs of zero-shot agents."""

import dataclasses

from valuelab.configuration import RunConfig, setting

HORIZON = 10
"""The number of steps of the segments in a batch, for agents that learn from segments."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ZeroShotRunConfig(RunConfig):
    """The settings of a zero-shot run."""

    labels: int = setting(10_000, "[1, inf)", "Number of states of the dataset whose rewards specify a task.")
    reward: str = setting(
        "", help="Your own reward, FILE.py:FUNCTION; empty for the tasks of the dataset's environment."
    )
