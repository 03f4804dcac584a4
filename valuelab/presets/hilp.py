r"""HILP's features (Park, Kreiman, Levine 2024, arXiv:2402.15567) with universal successor features.

The defaults are the settings of TD-JEPA's study for OGBench; features are less their mean, and successor
features learn by the loss of values, as HILP's authors have both.
`_zero_shot.py` describes the presets; what was run:

pointmaze
    python -m experiments.zero_shot --agent=hilp:pointmaze --num_seeds=5 --steps=10000 \
      --dataset=ogbench/pointmaze-medium-navigate-v0 --workdir=runs/zero_shot
    hardware: most of a CPU core; 32 minutes; five seeds, success 0.00, in all tasks. Rewards are found where
    they are. But the features are a map of the maze, nearly all of whose spread lies in two directions
    (eigenvalues of their second moment from 900 to 0.002), rewards of goals lie in the others, and values err
    by more in those two than such a reward is worth. Tasks by ridge regression, its penalty the mean
    eigenvalue, brought two seeds to 0.20 (0.50 in the first two tasks; two episodes of each), a hundredth of
    it to 0.00. With features as they are and the loss of features: five seeds, 0.00
cube_small
    python -m experiments.zero_shot --agent=hilp:cube_small --num_seeds=5 --steps=6000 \
      --dataset=ogbench/cube-single-play-v0 --workdir=runs/zero_shot_cube
    hardware: most of a CPU core; 31 minutes, a tenth of the preset's updates; five seeds, success 0.00 in all
    tasks
"""

import dataclasses
from typing import Any

from valuelab.agents.zero_shot import ZeroShotConfig
from valuelab.agents.zero_shot import zero_shot as make_agent
from valuelab.configuration import setting
from valuelab.critics.successor_features import SuccessorFeaturesConfig
from valuelab.presets import _zero_shot
from valuelab.presets._groups import merged
from valuelab.representations.hilp import HILPConfig

__all__ = ["PRESETS", "Config", "make_agent"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(ZeroShotConfig):
    """Hyperparameters of HILP."""

    critic: Any = setting(
        SuccessorFeaturesConfig(representation=HILPConfig(expectile=0.5), loss="values", center=True)
    )
    whiten_goals: bool = True


PRESETS = merged(_zero_shot.EVERY, _zero_shot.REPRESENTATIONS)
