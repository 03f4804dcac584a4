r"""FQL: a plain twin critic, and a one-step flow policy (Park, Li, Levine 2025, arXiv:2502.02538).

The defaults are the paper's settings for OGBench. What each preset was run on, and its score:

pointmaze
    python -m experiments.train --agent=fql:pointmaze --num_seeds=4 \
      --dataset=ogbench/pointmaze-medium-navigate-singletask-v0 --workdir=runs/pointmaze
    hardware: two CPU cores; not run as it stands. Four seeds with bc_weight 0.3, evaluated without noise:
    values rise to the goal, and the first seed's episodes run straight towards it, but get stuck at a corner
    or stop beyond it (success 0.00). With bc_weight 3 the policy hardly leaves the data's (0.00)
cube_small
    hardware: two CPU cores; not run
OGBench's ten default tasks, such as --agent=fql:antmaze_large
    hardware: one GPU; not run
"""

import functools

from experiments.configs import _ogbench
from valuelab.agents.composed import ComposedConfig
from valuelab.agents.composed import composed as make_agent
from valuelab.critics.temporal_difference import TemporalDifferenceConfig
from valuelab.policies.one_step_flow import OneStepFlowConfig

__all__ = ["PRESETS", "Config", "make_agent"]

Config = functools.partial(ComposedConfig, TemporalDifferenceConfig(), OneStepFlowConfig())

PRESETS = _ogbench.presets(Config())
