"""A flow critic of the return distribution: each noise draw bootstraps from its own end, not from the mean.

Source: the ablation of arXiv:2603.04333. The presets are floq's, for OGBench's ten default tasks, for five
from images, and for two CPU cores (pointmaze, cube_small). None has been run.
"""

import dataclasses
from typing import Any

from valuelab.agents.composed import ComposedConfig
from valuelab.agents.composed import composed as make_agent
from valuelab.configuration import setting
from valuelab.critics.flow import FlowCriticConfig
from valuelab.policies.one_step_flow import OneStepFlowConfig
from valuelab.presets import _ogbench
from valuelab.presets._groups import merged

__all__ = ["PRESETS", "Config", "make_agent"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(ComposedConfig):
    """Hyperparameters of the distributional flow."""

    critic: Any = setting(FlowCriticConfig(target="distributional"))
    policy: Any = setting(OneStepFlowConfig())


PRESETS = merged(_ogbench.FLOQ, _ogbench.FIELDS, _ogbench.SMALL_FLOWS)
