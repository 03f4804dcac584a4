r"""HILP's features (Park, Kreiman, Levine 2024, arXiv:2402.15567) with universal successor features.

The defaults are the settings of TD-JEPA's study for OGBench. `_zero_shot_study.py` and `_zero_shot.py`
describe the presets. In those for CPUs, except `pointmaze`, successor features learn by the loss of values,
as in HILP's code. Runs and scores:

pointmaze
    python -m experiments.zero_shot --agent=hilp:pointmaze --num_seeds=5 --steps=10000 \
      --pairs=200 --dataset=ogbench/pointmaze-medium-navigate-v0 --workdir=runs/zero_shot
    hardware: one CPU core, shared with other work; 36 minutes. Pairs by detour, five seeds, with tasks
    renewed at each step: 0.92 (0.89 to 0.95) below 1.15, 0.53 (0.47 to 0.58) below 1.5, 0.20 (0.15 to 0.24)
    above; walking straight at the goal has 0.86, 0.10, 0.00. The five tasks have 0.00: there one task,
    inferred from labelled states, holds for a whole episode
"""

import dataclasses
from typing import Any

from valuelab.agents.zero_shot import ZeroShotConfig
from valuelab.agents.zero_shot import zero_shot as make_agent
from valuelab.configuration import setting
from valuelab.critics.successor_features import SuccessorFeaturesConfig
from valuelab.feature_learners.hilp import HILPConfig
from valuelab.presets import _zero_shot, _zero_shot_study
from valuelab.presets._groups import merged

__all__ = ["PRESETS", "Config", "make_agent"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(ZeroShotConfig):
    """Hyperparameters of HILP."""

    critic: Any = setting(SuccessorFeaturesConfig(feature_learner=HILPConfig(), center=True))
    policy: Any = setting(_zero_shot_study.POLICY)
    whiten_goals: bool = True


PRESETS = merged(_zero_shot.EVERY, _zero_shot.FEATURE_LEARNERS, _zero_shot.HILP)
