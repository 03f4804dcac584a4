"""FQL with implicit quantiles: the quantile Huber loss learns the whole return distribution.

Source: Dabney et al. 2018, arXiv:1806.06923. The settings are those of floq's released baseline; its command
is known for antmaze_giant only. The other presets have the settings of floq's commands for their task.
docs/algorithms/fql_iqn.md lists how the critic differs from that baseline. Runs and scores:

pointmaze, cube_small
    python -m experiments.benchmark --suite=cpu_small --only=fql_iqn --workdir=runs/cpu_small
    hardware: one CPU core each; 63 minutes for 8,000 updates and 20 minutes for 4,000, with 4 levels
    instead of 8. Success, four seeds: 0.41 (0.11 to 0.76; seeds 0.20, 0.06, 0.92, 0.46; FQL has 0.12 after
    10,000 updates) and 0.00
OGBench's ten default tasks, such as --agent=fql_iqn:antmaze_large, and five from images, visual_...
    hardware: one GPU; not run
"""

import dataclasses
from typing import Any

from valuelab.agents.composed import ComposedConfig
from valuelab.agents.composed import composed as make_agent
from valuelab.configuration import setting
from valuelab.critics.implicit_quantile import ImplicitQuantileConfig
from valuelab.policies.one_step_flow import OneStepFlowConfig
from valuelab.presets import _ogbench

__all__ = ["PRESETS", "Config", "make_agent"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(ComposedConfig):
    """Hyperparameters of FQL with implicit quantiles."""

    critic: Any = setting(ImplicitQuantileConfig())
    policy: Any = setting(OneStepFlowConfig())


PRESETS = _ogbench.FLOQ
