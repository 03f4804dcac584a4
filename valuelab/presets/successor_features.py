"""Universal successor features (Borsa et al. 2019, arXiv:1812.07626) of given features, without an encoder.

The features are the entries of the observation and a constant 1. --agent.critic.feature_learner.columns=0,1
selects some of the entries. Exactly the rewards that are linear in the features can be represented.
The encoder of states and the policy are those of TD-JEPA's study, which does not have this agent.
`_zero_shot_study.py` and `_zero_shot.py` describe the presets. None has been run.
"""

import dataclasses
from typing import Any

from valuelab.agents.zero_shot import ZeroShotConfig
from valuelab.agents.zero_shot import zero_shot as make_agent
from valuelab.configuration import setting
from valuelab.critics.successor_features import SuccessorFeaturesConfig
from valuelab.feature_learners.observed import ObservedConfig
from valuelab.presets import _zero_shot, _zero_shot_study

__all__ = ["PRESETS", "Config", "make_agent"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(ZeroShotConfig):
    """Hyperparameters of successor features."""

    critic: Any = setting(SuccessorFeaturesConfig(feature_learner=ObservedConfig()))
    policy: Any = setting(_zero_shot_study.POLICY)
    whiten_goals: bool = True


PRESETS = _zero_shot.STATES
