"""FQL with a critic of nine layers in residual blocks: the effect of depth and width only.

Source: floq's paper, arXiv:2509.06863. antmaze_giant and humanoidmaze_large are its published commands for
this baseline: two blocks of four layers, and four blocks of two. The other presets have floq's own settings
for their task and two blocks of four layers. There are presets for OGBench's ten default tasks, for five from
images, and for two CPU cores (pointmaze, cube_small). None has been run.
"""

import dataclasses
from typing import Any

from valuelab.agents.composed import ComposedConfig
from valuelab.agents.composed import composed as make_agent
from valuelab.configuration import setting
from valuelab.critics.temporal_difference import TemporalDifferenceConfig
from valuelab.policies.one_step_flow import OneStepFlowConfig
from valuelab.presets import _ogbench
from valuelab.presets._groups import each, merged

__all__ = ["PRESETS", "Config", "make_agent"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(ComposedConfig):
    """Hyperparameters of FQL with residual blocks."""

    critic: Any = setting(TemporalDifferenceConfig(hidden_dims=(512,) * 9, block_depth=4))
    policy: Any = setting(OneStepFlowConfig())


PRESETS = merged(
    _ogbench.FLOQ,
    {"humanoidmaze_large": {"agent.critic.block_depth": 2}},
    each(_ogbench.SMALL, {"agent.critic.block_depth": 1}),
)
