"""HIQL: one value, and a policy of two levels on representations of subgoals (Park et al. 2023, 2307.11949).

The defaults are OGBench's (Park et al. 2025, arXiv:2410.20092), with subgoals 25 steps ahead. From images
OGBench also sets agent.critic.cloning_gradient. Runs and scores:

pointmaze_goals, cube_goals
    python -m experiments.benchmark --suite=goals_small --only=hiql --workdir=runs/goals_small
"""

import dataclasses
from typing import Any

from valuelab.agents.composed import ComposedConfig
from valuelab.agents.composed import composed as make_agent
from valuelab.configuration import setting
from valuelab.critics.implicit_state_value import ImplicitStateValueConfig
from valuelab.policies.hierarchical import HierarchicalConfig
from valuelab.presets import _goals

__all__ = ["PRESETS", "SETTINGS", "Config", "make_agent"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(ComposedConfig):
    """Hyperparameters of HIQL."""

    critic: Any = setting(ImplicitStateValueConfig(expectile=0.7, representation_dim=10))
    policy: Any = setting(HierarchicalConfig(**_goals.POLICY))


SETTINGS = {"data.goals.subgoal_steps": 25}

PRESETS = _goals.small({}, {}, {"data.goals.subgoal_steps": 10})
