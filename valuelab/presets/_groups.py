"""How presets are put together from groups of settings. An agent names the groups that fit it."""

from collections.abc import Iterable, Mapping
from typing import Any

Group = Mapping[str, Mapping[str, Any]]
"""Preset to settings."""


def merged(*groups: Group) -> dict[str, dict[str, Any]]:
    """The presets of several groups; of one preset's settings, those of later groups count."""
    presets: dict[str, dict[str, Any]] = {}
    for group in groups:
        for preset, settings in group.items():
            presets[preset] = {**presets.get(preset, {}), **settings}
    return presets


def each(presets: Iterable[str], settings: Mapping[str, Any]) -> Group:
    """A group that gives several presets the same settings."""
    return dict.fromkeys(presets, settings)
