"""The names of ExoRL's datasets: DOMAIN-EXPLORER, DOMAIN-EXPLORER-TASK, with @PIXELS and :EPISODES."""

from typing import NamedTuple

from valuelab import errors
from valuelab.domains.tasks import TASKS

EXPLORERS = (
    *("aps", "diayn", "disagreement", "icm", "icm_apt", "proto", "random", "rnd", "smm"),  # published
    "noise",  # collected here
)
"""The exploration methods. "rnd" is published, and can be collected here too."""

_MIN_PIXELS = 16
"""The smallest image size; the convolutions of the encoders reduce smaller images to nothing."""


class Name(NamedTuple):
    """The parts of a name.

    Attributes:
        domain: a key of TASKS.
        explorer: the exploration method, which is the folder of its episodes.
        task: the task of the domain whose rewards the dataset has; empty for the logged rewards.
        pixels: height and width of image observations; 0 for vectors.
        episodes: the number of first episodes to read; None where the name does not state it.
    """

    domain: str
    explorer: str
    task: str
    pixels: int
    episodes: int | None


def known_names() -> list[str]:
    """All names without @PIXELS and :EPISODES."""
    return [
        f"{domain}-{explorer}{task}"
        for domain, tasks in TASKS.items()
        for explorer in EXPLORERS
        for task in ("", *(f"-{task}" for task in tasks))
    ]


def parse(name: str) -> Name:
    """Splits a name into its parts.

    Args:
        name: such as "walker-rnd", "point_mass_maze-proto-reach_top_left" or "walker-rnd-run@64:1000".

    Raises:
        InputError: for an unknown domain or task, or another format.
    """
    sized, _, count = name.partition(":")
    words, _, pixels = sized.partition("@")
    domain, _, rest = words.partition("-")
    explorer, _, task = rest.partition("-")
    if domain not in TASKS:
        raise errors.unknown("ExoRL domain", domain, TASKS)
    if not explorer:
        raise errors.unknown("ExoRL dataset", name, [f"{domain}-{known}" for known in EXPLORERS])
    if task and task not in TASKS[domain]:
        raise errors.unknown(f"task of {domain}", task, TASKS[domain])
    if ":" in name and not (count.isdecimal() and int(count)):
        raise errors.InputError(
            f"dataset exorl/{name} ends in {count!r}: give the number of episodes after the colon, such as "
            f"exorl/{sized}:1000"
        )
    if "@" in name and not (pixels.isdecimal() and int(pixels) >= _MIN_PIXELS):
        raise errors.InputError(
            f"dataset exorl/{name} has {pixels!r} after the @: give the height and width of its images, at "
            f"least {_MIN_PIXELS}, such as exorl/{words}@64"
        )
    return Name(domain, explorer, task, int(pixels or 0), int(count) if count else None)
