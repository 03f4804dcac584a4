r"""FQL with implicit quantiles: the whole law of the return, learnt by the quantile Huber loss.

Source: Dabney et al. 2018, arXiv:1806.06923. What each preset was run on, and its score:

pointmaze, cube_small
    hardware: two CPU cores; not run
OGBench's ten default tasks, such as --agent=fql_iqn:antmaze_large
    hardware: one GPU; not run
"""

import functools

from experiments.configs import _ogbench
from valuelab.agents.composed import ComposedConfig
from valuelab.agents.composed import composed as make_agent
from valuelab.critics.implicit_quantile import ImplicitQuantileConfig
from valuelab.policies.one_step_flow import OneStepFlowConfig

__all__ = ["PRESETS", "Config", "make_agent"]

Config = functools.partial(ComposedConfig, ImplicitQuantileConfig(), OneStepFlowConfig())

PRESETS = _ogbench.presets(Config())
