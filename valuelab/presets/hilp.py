"""HILP's features (Park, Kreiman, Levine 2024, arXiv:2402.15567) with universal successor features.

The defaults are the settings of TD-JEPA's study for OGBench. `_zero_shot_study.py` and `_zero_shot.py`
describe the presets. In those for CPUs successor features learn by the loss of values, as in HILP's code.
These runs were made with goals in OGBench's shares (current, later and other states), and not with the
present ones. Runs and scores:

pointmaze
    python -m experiments.zero_shot --agent=hilp:pointmaze --num_seeds=5 --steps=10000 \
      --dataset=ogbench/pointmaze-medium-navigate-v0 --workdir=runs/zero_shot
    hardware: one CPU core; 32 minutes. Success 0.00 for five seeds on all tasks. Rewards are inferred
    correctly. But the features are a map of the maze: nearly all their variance lies in two directions
    (eigenvalues of their second moment from 900 to 0.002), rewards of goals lie in the other directions,
    and the errors of the values in those two are larger than such a reward. Tasks by ridge regression with
    the mean eigenvalue as penalty gave two seeds 0.20 (0.50 on the first two tasks, two episodes each); a
    hundredth of that penalty gave 0.00. Features with their mean and the loss of features gave 0.00 (five
    seeds)
cube_small
    python -m experiments.zero_shot --agent=hilp:cube_small --num_seeds=5 --steps=6000 \
      --dataset=ogbench/cube-single-play-v0 --workdir=runs/zero_shot_cube
    hardware: one CPU core; 31 minutes; a tenth of the preset's updates. Success 0.00 for five seeds on all
    tasks
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
