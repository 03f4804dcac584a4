"""RLDP (Jajoo, Sikchi et al. 2026, arXiv:2603.15857): latent dynamics, and densities of future states.

The defaults are the settings of TD-JEPA's study for OGBench. `_zero_shot_study.py` and `_zero_shot.py`
describe the presets. None has been run.
"""

import dataclasses
from typing import Any

from valuelab.agents.zero_shot import ZeroShotConfig
from valuelab.agents.zero_shot import zero_shot as make_agent
from valuelab.configuration import setting
from valuelab.critics.successor_features import SuccessorFeaturesConfig
from valuelab.feature_learners.rldp import RLDPConfig
from valuelab.presets import _zero_shot, _zero_shot_study
from valuelab.presets._groups import merged

__all__ = ["PRESETS", "Config", "make_agent"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(ZeroShotConfig):
    """Hyperparameters of RLDP."""

    critic: Any = setting(
        SuccessorFeaturesConfig(feature_learner=RLDPConfig(orthonormality=0.01), loss="measures")
    )
    policy: Any = setting(_zero_shot_study.POLICY)


PRESETS = merged(_zero_shot.EVERY, _zero_shot.FEATURE_LEARNERS, _zero_shot.RLDP)
