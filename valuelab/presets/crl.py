r"""Contrastive RL (Eysenbach et al. 2022, arXiv:2206.07568): a goal is likely or not to come later.

The defaults are OGBench's settings for states (agents/crl.py; Park et al. 2025, arXiv:2410.20092). Its
batches have 1,024 transitions (--batch_size=1024). Discrete actions need advantage-weighted regression:
--agent.policy=awr --agent.critic.state_value=True. The discount is --data.goals.discount. Runs:

pointmaze_goals
    python -m experiments.train --agent=crl:pointmaze_goals --num_seeds=4 \
      --dataset=ogbench/pointmaze-medium-navigate-v0 --workdir=runs/crl_goals
    hardware: two CPU cores; not run
"""

import dataclasses
from typing import Any

from valuelab.agents.composed import ComposedConfig
from valuelab.agents.composed import composed as make_agent
from valuelab.configuration import setting
from valuelab.critics.contrastive import ContrastiveConfig
from valuelab.policies.ddpg_bc import DDPGBCConfig
from valuelab.presets import _goals

__all__ = ["PRESETS", "SETTINGS", "Config", "make_agent"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(ComposedConfig):
    """Hyperparameters of contrastive RL."""

    critic: Any = setting(ContrastiveConfig())
    policy: Any = setting(DDPGBCConfig(**_goals.POLICY, bc_weight=0.1))


# Every goal of the critic is a later state, and the geometric distribution makes Q the occupancy's.
SETTINGS = {
    "data.goals.value.p_current": 0.0,
    "data.goals.value.p_trajectory": 1.0,
    "data.goals.value.geometric": True,
}

PRESETS = {
    "pointmaze_goals": {
        "agent.critic.hidden_dims": (256, 256),
        "agent.critic.latent_dim": 64,
        "agent.policy.hidden_dims": (256, 256),
        "agent.policy.bc_weight": 0.03,
        "data.normalize_observations": True,
        "steps": 50_000,
        "eval_every": 25_000,
        "eval_episodes": 10,
    },
}
