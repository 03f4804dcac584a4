"""Implicit V-learning: IQL's expectile on V alone, without Q; OGBench's GCIVL (Park et al. 2025, 2410.20092).

With goals the policy weights an action by V(s', g) - V(s, g). The defaults are OGBench's, for all of its sets
with goals. Runs and scores:

pointmaze_goals
    python -m experiments.train --agent=ivl:pointmaze_goals --num_seeds=4 \
      --dataset=ogbench/pointmaze-medium-navigate-v0 --workdir=runs/ivl
    hardware: two CPU cores; not run
"""

import dataclasses
from typing import Any

from valuelab.agents.composed import ComposedConfig
from valuelab.agents.composed import composed as make_agent
from valuelab.configuration import setting
from valuelab.critics.implicit_state_value import ImplicitStateValueConfig
from valuelab.policies.awr import AWRConfig

__all__ = ["PRESETS", "Config", "make_agent"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(ComposedConfig):
    """Hyperparameters of implicit V-learning."""

    critic: Any = setting(ImplicitStateValueConfig())
    policy: Any = setting(
        AWRConfig(
            hidden_dims=(512, 512, 512),
            activation="gelu",
            mean="clip",
            final_scale=0.01,
            learn_std=False,
            inverse_temperature=10.0,
        )
    )


PRESETS = {
    "pointmaze_goals": {
        "agent.critic.hidden_dims": (256, 256),
        "agent.critic.target_rate": 0.02,
        "agent.policy.hidden_dims": (256, 256),
        "data.normalize_observations": True,
        "steps": 50_000,
        "eval_every": 25_000,
        "eval_episodes": 10,
    },
}
