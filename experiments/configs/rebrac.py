r"""ReBRAC: two plain critics, and a policy held near the data twice (Tarasov et al. 2023, arXiv:2305.09836).

The weights must be tuned for each dataset; those of humanoidmaze_medium are of FQL's study. What each preset
was run on, and its score:

pointmaze, cube_small
    hardware: two CPU cores; not run
humanoidmaze_medium
    hardware: one GPU; not run
"""

import functools

from experiments.configs import _ogbench
from valuelab.agents.composed import ComposedConfig
from valuelab.agents.composed import composed as make_agent
from valuelab.critics.temporal_difference import TemporalDifferenceConfig
from valuelab.policies.rebrac import ReBRACConfig

__all__ = ["PRESETS", "Config", "make_agent"]

Config = functools.partial(ComposedConfig, TemporalDifferenceConfig(aggregation="min"), ReBRACConfig())

_SMALL = {"agent.policy.bc_weight": 0.1, "agent.policy.target_weight": 0.01}
_HUMANOID = {
    "agent.critic.discount": 0.995,
    "agent.policy.bc_weight": 0.01,
    "agent.policy.target_weight": 0.01,
}

PRESETS = {
    **{name: settings | _SMALL for name, settings in _ogbench.small(Config()).items()},
    "humanoidmaze_medium": _HUMANOID,
}
