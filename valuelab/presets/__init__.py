"""The agents that `--agent=NAME` knows: one file each, with its `Config`, `make_agent` and `PRESETS`."""

from valuelab.presets._descriptions import DESCRIPTIONS

__all__ = ["DESCRIPTIONS"]
