"""Environments to evaluate in, by the name of the dataset that was learnt from."""

from valuelab import errors, types
from valuelab.environments import d4rl, gymnasium, minari, ogbench

_FAMILIES = {"d4rl": d4rl.make, "gymnasium": gymnasium.make, "minari": minari.make, "ogbench": ogbench.make}


def make(dataset_name: str) -> types.Environment:
    """The environment that belongs to a dataset, with the tasks and the score of its benchmark.

    Args:
        dataset_name: "ogbench/NAME", "d4rl/NAME", "minari/ID", "rlds/" and one of these for a set that
            was converted, or "gymnasium/ID" for a plain environment.

    Returns:
        The environment; nothing is created before its `make` is called.

    Raises:
        InputError: when the family or the name in it is unknown; the message names the nearest.
    """
    family, _, name = dataset_name.removeprefix("rlds/").partition("/")
    if family not in _FAMILIES or not name:
        raise errors.unknown(
            "environment", dataset_name, [f"{known}/{name or 'NAME'}" for known in _FAMILIES]
        )
    return _FAMILIES[family](name)


__all__ = ["make"]
