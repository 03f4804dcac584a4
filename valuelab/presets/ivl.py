r"""Implicit V-learning: IQL without Q, an expectile of V alone; OGBench's GCIVL (arXiv:2410.20092).

With goals the policy weights an action by V(s', g) - V(s, g). The defaults are OGBench's, for all of its sets
with goals. Runs and scores:

pointmaze_goals, cube_goals
    python -m experiments.benchmark --suite=goals_small --only=gcivl --workdir=runs/goals_small
pointmaze_navigate, antmaze_stitch, ...: OGBench's study; see `_goals.py`
    python -m experiments.train --agent=ivl:antmaze_navigate --num_seeds=8 \
      --dataset=ogbench/antmaze-large-navigate-v0 --workdir=runs/antmaze
    hardware: one GPU; not run
"""

import dataclasses
from typing import Any

from valuelab.agents.composed import ComposedConfig
from valuelab.agents.composed import composed as make_agent
from valuelab.configuration import setting
from valuelab.critics.implicit_state_value import ImplicitStateValueConfig
from valuelab.policies.awr import AWRConfig
from valuelab.presets import _goals
from valuelab.presets._groups import merged

__all__ = ["PRESETS", "Config", "make_agent"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(ComposedConfig):
    """Hyperparameters of implicit V-learning."""

    critic: Any = setting(ImplicitStateValueConfig())
    policy: Any = setting(AWRConfig(**_goals.POLICY, inverse_temperature=10.0))


PRESETS = merged(
    _goals.presets(
        discount="agent.critic.discount",
        powderworld={"agent.policy.inverse_temperature": 3.0},
    ),
    _goals.small({}, {}, {}),
)
