r"""FQL: a plain twin critic with a one-step flow policy (Park, Li, Levine 2025, arXiv:2502.02538).

The defaults are those of FQL's released code. The presets of OGBench's tasks, also those from images, are its
published commands. Runs and scores:

pointmaze
    python -m experiments.train --agent=fql:pointmaze --num_seeds=4 \
      --dataset=ogbench/pointmaze-medium-navigate-singletask-v0 --workdir=runs/pointmaze
    hardware: half of a CPU core; 44 minutes. Success 0.71 (0.61 to 0.80; seeds 0.82, 0.72, 0.62, 0.68);
    0.12 after 10,000 updates, 0.80 after 20,000. With a critic of two layers of 128 it is 0.00: values
    increase beyond the goal, up to 8 where rewards allow at most 0. The minimum of two such critics, and
    bc_weight 3, do not help (0.00)
cube_small
    python -m experiments.train --agent=fql:cube_small --num_seeds=4 \
      --dataset=ogbench/cube-single-play-singletask-v0 --workdir=runs/cube
    hardware: one CPU core; 36 minutes. Success 0.54 (0.38 to 0.70; seeds 0.78, 0.52, 0.54, 0.32); after
    15,000, 30,000 and 45,000 updates 0.05, 0.41 and 0.48. In the suite cpu_small it is 0.11 (0.02 to 0.21)
    after 20,000 updates. Published at full size, a million updates: 0.96
OGBench's ten default tasks, such as --agent=fql:antmaze_large, and five from images, visual_...
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
    """Hyperparameters of FQL."""

    critic: Any = setting(TemporalDifferenceConfig())
    policy: Any = setting(OneStepFlowConfig())


PRESETS = _ogbench.FQL
