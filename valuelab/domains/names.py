"""The names of ExoRL's datasets: DOMAIN-EXPLORER, DOMAIN-EXPLORER-TASK, with @PIXELS and :EPISODES."""

from typing import NamedTuple

from valuelab import errors
from valuelab.domains.tasks import TASKS

EXPLORERS = (
    *("aps", "diayn", "disagreement", "icm", "icm_apt", "proto", "random", "rnd", "smm"),  # published
    "noise",  # collected here
)
"""What explored the domain. "rnd" is published, and can be collected here too."""

_LEAST_PIXELS = 16
"""Fewer leave nothing of an image after the convolutions."""


class Name(NamedTuple):
    """What a name says.

    Attributes:
        domain: a key of TASKS.
        explorer: the folder of its episodes.
        task: a task of the domain, whose rewards the dataset has; empty where it has those that were logged.
        pixels: height and width of images, which stand for observations; 0 where states do.
        episodes: how many of its first episodes are meant; None where the name leaves that open.
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
    """Takes a name apart.

    Args:
        name: such as "walker-rnd", "point_mass_maze-proto-reach_top_left" or "walker-rnd-run@64:1000".

    Raises:
        InputError: for an unknown domain or task, or another form.
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
            f"dataset exorl/{name} ends in {count!r}; after the colon stands how many episodes are read, "
            f"such as exorl/{sized}:1000"
        )
    if "@" in name and not (pixels.isdecimal() and int(pixels) >= _LEAST_PIXELS):
        raise errors.InputError(
            f"dataset exorl/{name}: after the @ stands the height and width of its images, at least "
            f"{_LEAST_PIXELS}, such as exorl/{words}@64"
        )
    return Name(domain, explorer, task, int(pixels or 0), int(count) if count else None)
