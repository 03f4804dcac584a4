r"""HIQL: one value, and a policy that chooses subgoals and actions (Park et al. 2023, arXiv:2307.11949).

The defaults are those of OGBench (Park et al. 2025, arXiv:2410.20092), with subgoals 25 steps ahead. Runs and
scores:

pointmaze_goals, cube_goals
    python -m experiments.benchmark --suite=goals_small --only=hiql --workdir=runs/goals_small
pointmaze_navigate, antmaze_stitch, ...: OGBench's study; see `_goals.py`
    python -m experiments.train --agent=hiql:antmaze_navigate --num_seeds=8 \
      --dataset=ogbench/antmaze-large-navigate-v0 --workdir=runs/antmaze
    hardware: one GPU; not run
"""

import dataclasses
from typing import Any

from valuelab.agents.composed import ComposedConfig
from valuelab.agents.composed import composed as make_agent
from valuelab.configuration import setting
from valuelab.critics.implicit_state_value import ImplicitStateValueConfig
from valuelab.policies.hierarchical import HierarchicalConfig
from valuelab.presets import _goals
from valuelab.presets._groups import merged

__all__ = ["PRESETS", "SETTINGS", "Config", "make_agent"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(ComposedConfig):
    """Hyperparameters of HIQL."""

    critic: Any = setting(ImplicitStateValueConfig(expectile=0.7, representation_dim=10))
    policy: Any = setting(HierarchicalConfig(**_goals.POLICY))


SETTINGS = {"data.goals.subgoal_steps": 25}

PRESETS = merged(
    _goals.presets(
        images={**_goals.ENCODERS, "agent.critic.cloning_gradient": True},
        discount="agent.critic.discount",
    ),
    _goals.tuned("data.goals.subgoal_steps", {"humanoidmaze": 100, "manipulation": 10, "powderworld": 10}),
    _goals.tuned("agent.policy.low_inverse_temperature", {"antmaze_explore": 10.0}),
    _goals.tuned("agent.policy.high_inverse_temperature", {"antmaze_explore": 10.0}),
    _goals.small({}, {}, {"data.goals.subgoal_steps": 10}),
)
