"""ExoRL: the explored domain of a dataset in dm_control, with its tasks."""

from valuelab import domains, types
from valuelab.environments import dmc


def known_names() -> list[str]:
    """The names of ExoRL's datasets."""
    return domains.known_names()


def make(name: str) -> types.Environment:
    """The environment of an ExoRL dataset.

    Args:
        name: the dataset, such as "walker-rnd" for all tasks or "walker-rnd-run" for one task.

    Returns:
        The environment with metric "return".

    Raises:
        InputError: when the domain or the task is unknown.
    """
    domain, _, task, pixels, _ = domains.parse(name)
    tasks = {"default": task} if task else {known: known for known in dmc.tasks_of(domain)}
    return dmc.environment(domain, domain, tasks, pixels)
