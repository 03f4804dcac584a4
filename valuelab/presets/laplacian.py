r"""Laplacian features (Wu, Tucker, Nachum 2019, arXiv:1810.04586) with universal successor features.

The defaults are the settings of TD-JEPA's study for OGBench.
`_zero_shot.py` describes the presets; none was run.
"""

import functools

from valuelab.agents.zero_shot import ZeroShotConfig
from valuelab.agents.zero_shot import zero_shot as make_agent
from valuelab.critics.successor_features import SuccessorFeaturesConfig
from valuelab.presets import _zero_shot
from valuelab.representations.laplacian import LaplacianConfig

__all__ = ["PRESETS", "Config", "make_agent"]

Config = functools.partial(
    ZeroShotConfig, SuccessorFeaturesConfig(representation=LaplacianConfig()), whiten_goals=True
)

PRESETS = _zero_shot.presets(Config())
