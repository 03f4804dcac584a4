r"""BYOL's latent prediction (Grill et al. 2020, arXiv:2006.07733) with universal successor features.

The defaults are the settings of TD-JEPA's study for OGBench.
`_zero_shot.py` describes the presets; none was run.
"""

import functools

from valuelab.agents.zero_shot import ZeroShotConfig
from valuelab.agents.zero_shot import zero_shot as make_agent
from valuelab.critics.successor_features import SuccessorFeaturesConfig
from valuelab.presets import _zero_shot
from valuelab.representations.byol import BYOLConfig

__all__ = ["PRESETS", "Config", "make_agent"]

Config = functools.partial(
    ZeroShotConfig, SuccessorFeaturesConfig(representation=BYOLConfig()), whiten_goals=True
)

PRESETS = _zero_shot.presets(Config())
