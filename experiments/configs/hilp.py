r"""HILP's features (Park, Kreiman, Levine 2024, arXiv:2402.15567) with universal successor features.

The defaults are the settings of TD-JEPA's study for OGBench.
`_zero_shot.py` describes the presets; what was run:

pointmaze
    python -m experiments.zero_shot --agent=hilp:pointmaze --num_seeds=5 --steps=10000 \
      --dataset=ogbench/pointmaze-medium-navigate-v0 --workdir=runs/zero_shot
    hardware: two thirds of a CPU core; 50 minutes; five seeds, success 0.00, in all tasks. The features are a
    map of the maze, which is all that they vary by (eigenvalues of their second moment from 1,000 to 0.0001),
    and the reward of a goal lies in directions beneath the errors of the values. So it is without whitened
    goals and with expectile 0.95 (five seeds), and with critic.loss=values (one seed, 5,000 updates); tasks
    E[ψ (r - E r)] in place of least squares' bring the one without whitening to 0.14 (tasks 0.50, 0.20 and
    nothing; two episodes of five seeds), so what it has learnt is not wrong, but elsewhere
"""

import functools

from experiments.configs import _zero_shot
from valuelab.agents.zero_shot import ZeroShotConfig
from valuelab.agents.zero_shot import zero_shot as make_agent
from valuelab.critics.successor_features import SuccessorFeaturesConfig
from valuelab.representations.hilp import HILPConfig

__all__ = ["PRESETS", "Config", "make_agent"]

Config = functools.partial(
    ZeroShotConfig,
    SuccessorFeaturesConfig(representation=HILPConfig(expectile=0.5), loss="values", center=True),
    whiten_goals=True,
)

PRESETS = _zero_shot.presets(Config())
