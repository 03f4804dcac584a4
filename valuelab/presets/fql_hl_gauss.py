"""FQL with a critic that classifies: values are means of histograms (HL-Gauss).

Source: Farebrother et al. 2024, arXiv:2403.03950. The presets are FQL's. Runs and scores:

pointmaze, cube_small
    python -m experiments.benchmark --suite=cpu_small --only=fql_hl_gauss --workdir=runs/cpu_small
    hardware: one CPU core each; 42 minutes each for 20,000 updates, two thirds and one third of the presets'.
    Success, four seeds: 0.49 (0.04 to 0.95; seeds 0.96, 0.08, 0.92, 0.00; FQL's seeds 0.66 to 0.98) and 0.17
    (0.06 to 0.28; FQL 0.11)
OGBench's ten default tasks, such as --agent=fql_hl_gauss:antmaze_large, and five from images, visual_...
    hardware: one GPU; not run
"""

import dataclasses
from typing import Any

from valuelab.agents.composed import ComposedConfig
from valuelab.agents.composed import composed as make_agent
from valuelab.configuration import setting
from valuelab.critics.temporal_difference import TemporalDifferenceConfig
from valuelab.policies.one_step_flow import OneStepFlowConfig
from valuelab.presets import _ogbench

__all__ = ["PRESETS", "Config", "make_agent"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(ComposedConfig):
    """Hyperparameters of FQL with a critic that classifies."""

    critic: Any = setting(TemporalDifferenceConfig(loss="categorical"))
    policy: Any = setting(OneStepFlowConfig())


PRESETS = _ogbench.FQL
