r"""HILP's features (Park, Kreiman, Levine 2024, arXiv:2402.15567) with universal successor features.

The defaults are the settings of TD-JEPA's study for OGBench.
`_zero_shot.py` describes the presets; none was run.
"""

import functools

from experiments.configs import _zero_shot
from valuelab.agents.zero_shot import ZeroShotConfig
from valuelab.agents.zero_shot import zero_shot as make_agent
from valuelab.critics.successor_features import SuccessorFeaturesConfig
from valuelab.representations.hilp import HILPConfig

__all__ = ["PRESETS", "Config", "make_agent"]

Config = functools.partial(
    ZeroShotConfig, SuccessorFeaturesConfig(representation=HILPConfig(expectile=0.5)), whiten_goals=True
)

PRESETS = _zero_shot.presets(Config())
