"""IFQL: IQL's critic with the best of 32 actions of a flow (Park, Li, Levine 2025, arXiv:2502.02538).

The defaults are those of FQL's released code. It has commands for this baseline on humanoidmaze_medium and
visual_cube_single. They set only the discount and the images, and so do the other presets of OGBench's tasks.
The critic of the small presets has relu instead of GELU, because it learns faster: with GELU, success in the
maze is 0.00 after 10,000 updates and 0.96 after 20,000. Runs and scores:

pointmaze, cube_small
    python -m experiments.benchmark --suite=cpu_small --only=ifql --workdir=runs/cpu_small
    hardware: one CPU core each; 34 and 24 minutes for 20,000 updates, two thirds and one third of the
    presets'. Success, four seeds: 1.00 (all 1.00; 0.73 after 10,000 updates) and 0.10 (0.02 to 0.20), where
    IQL with its own policy has 0.60
OGBench's ten default tasks, such as --agent=ifql:antmaze_large, and five from images, visual_...
    hardware: one GPU; not run
"""

import dataclasses
from typing import Any

from valuelab.agents.composed import ComposedConfig
from valuelab.agents.composed import composed as make_agent
from valuelab.configuration import setting
from valuelab.critics.expectile import ExpectileConfig
from valuelab.policies.best_of_flow import BestOfFlowConfig
from valuelab.presets import _ogbench
from valuelab.presets._groups import each, merged

__all__ = ["PRESETS", "Config", "make_agent"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(ComposedConfig):
    """Hyperparameters of IFQL."""

    critic: Any = setting(
        ExpectileConfig(hidden_dims=(512, 512, 512, 512), activation="gelu", layer_norm=True, expectile=0.9)
    )
    policy: Any = setting(BestOfFlowConfig())


PRESETS = merged(
    _ogbench.TASKS,
    _ogbench.VISUAL,
    _ogbench.SMALL,
    _ogbench.SMALL_FLOW_POLICIES,
    each(_ogbench.SMALL, {"agent.critic.activation": "relu"}),
)
