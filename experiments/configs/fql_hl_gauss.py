r"""FQL with a critic that classifies: values as histograms (HL-Gauss).

Source: Farebrother et al. 2024, arXiv:2403.03950. What each preset was run on, and its score:

pointmaze, cube_small
    hardware: two CPU cores; not run
OGBench's ten default tasks, such as --agent=fql_hl_gauss:antmaze_large
    hardware: one GPU; not run
"""

import functools

from experiments.configs import _ogbench
from valuelab.agents.composed import ComposedConfig
from valuelab.agents.composed import composed as make_agent
from valuelab.critics.temporal_difference import TemporalDifferenceConfig
from valuelab.policies.one_step_flow import OneStepFlowConfig

__all__ = ["PRESETS", "Config", "make_agent"]

Config = functools.partial(ComposedConfig, TemporalDifferenceConfig(loss="categorical"), OneStepFlowConfig())

PRESETS = _ogbench.presets(Config())
