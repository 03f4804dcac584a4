"""BYOL-γ (Lawson, Hugessen et al. 2025, arXiv:2506.10137) with universal successor features.

The defaults are the settings of TD-JEPA's study for OGBench. `_zero_shot_study.py` and `_zero_shot.py`
describe the presets. None has been run.
"""

import dataclasses
from typing import Any

from valuelab.agents.zero_shot import ZeroShotConfig
from valuelab.agents.zero_shot import zero_shot as make_agent
from valuelab.configuration import setting
from valuelab.critics.successor_features import SuccessorFeaturesConfig
from valuelab.feature_learners.byol import BYOLConfig
from valuelab.presets import _zero_shot, _zero_shot_study
from valuelab.presets._groups import merged

__all__ = ["PRESETS", "Config", "make_agent"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(ZeroShotConfig):
    """Hyperparameters of BYOL-γ."""

    critic: Any = setting(SuccessorFeaturesConfig(feature_learner=BYOLConfig(ahead="geometric")))
    policy: Any = setting(_zero_shot_study.POLICY)
    whiten_goals: bool = True


PRESETS = merged(_zero_shot.EVERY, _zero_shot.FEATURE_LEARNERS, _zero_shot.BYOL)
