r"""RLDP's features (Jajoo, Sikchi et al. 2026, arXiv:2603.15857) with universal successor features.

The networks are those of TD-JEPA's study for OGBench.
`_zero_shot.py` describes the presets; none was run.
"""

import functools

from valuelab.agents.zero_shot import ZeroShotConfig
from valuelab.agents.zero_shot import zero_shot as make_agent
from valuelab.critics.successor_features import SuccessorFeaturesConfig
from valuelab.presets import _zero_shot
from valuelab.representations.rldp import RLDPConfig

__all__ = ["PRESETS", "Config", "make_agent"]

Config = functools.partial(ZeroShotConfig, SuccessorFeaturesConfig(representation=RLDPConfig()))

PRESETS = _zero_shot.presets(Config())
