"""What a user can choose from: agents and their presets, datasets, environments and others."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from valuelab import data, environments
from valuelab.distributional import gridworlds, objectives
from valuelab.errors import InputError, unknown
from valuelab.runs import flags
from valuelab.training import topologies

KINDS = ("agents", "presets", "datasets", "environments", "objectives", "gridworlds", "topologies")
"""What `entries` knows."""


def entries(kind: str, name: str = "") -> dict[str, str]:
    """The names of one kind, with a line about each; the line is empty where there is none.

    Args:
        kind: one of KINDS.
        name: for "presets" the agent, for "datasets" the source and for "environments" the family whose names
            are listed; empty for all.

    Returns:
        Name -> line.

    Raises:
        InputError: when the kind or the name is unknown.
    """
    if kind not in KINDS:
        raise unknown("list", kind, KINDS)
    if kind in ("datasets", "environments"):
        known = data.known_names() if kind == "datasets" else environments.known_names()
        if name and name not in known:
            raise unknown("source" if kind == "datasets" else "family", name, known)
        sources = [name] if name else list(known)
        return {f"{source}/{each}": "" for source in sources for each in known[source]}
    if kind == "presets":
        return {
            f"{agent}:{preset}": line
            for agent in ([name] if name else flags.known_agents())
            for preset, line in flags.presets_in_a_line(agent).items()
        }
    if name:
        raise InputError(f"list {kind} takes no further name: leave out {name!r}")
    if kind == "agents":
        return flags.agents_in_a_line()
    if kind == "topologies":
        return dict.fromkeys(topologies.names(), "")
    return in_a_line(objectives.REGISTRY if kind == "objectives" else gridworlds.GRIDWORLDS)


def in_a_line(functions: Mapping[str, Callable[..., Any]]) -> dict[str, str]:
    """Name -> the first line of the docstring, for functions by name."""
    return {name: (inspect.getdoc(function) or "").partition("\n")[0] for name, function in functions.items()}
