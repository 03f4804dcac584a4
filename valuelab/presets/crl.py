r"""Contrastive RL (Eysenbach et al. 2022, arXiv:2206.07568): a goal is likely or not to come later.

The defaults are OGBench's settings for states (agents/crl.py; Park et al. 2025, arXiv:2410.20092). Its
batches have 1,024 transitions (--batch_size=1024). Discrete actions need advantage-weighted regression:
--agent.policy=awr --agent.critic.state_value=True. The discount is --data.goals.discount. Runs:

pointmaze_goals, cube_goals
    python -m experiments.benchmark --suite=goals_small --only=crl --workdir=runs/goals_small
pointmaze_navigate, antmaze_stitch, ...: OGBench's study; see `_goals.py`
    python -m experiments.train --agent=crl:antmaze_navigate --num_seeds=8 \
      --dataset=ogbench/antmaze-large-navigate-v0 --workdir=runs/antmaze
    hardware: one GPU; not run
"""

import dataclasses
from typing import Any

from valuelab.agents.composed import ComposedConfig
from valuelab.agents.composed import composed as make_agent
from valuelab.configuration import setting
from valuelab.critics.contrastive import ContrastiveConfig
from valuelab.policies.ddpg_bc import DDPGBCConfig
from valuelab.presets import _goals
from valuelab.presets._groups import merged

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

PRESETS = merged(
    _goals.presets(
        powderworld={**_goals.AWR, "agent.critic.state_value": True},
        discount="data.goals.discount",
    ),
    _goals.tuned(
        "agent.policy.bc_weight",
        {
            **{"pointmaze": 0.03, "antmaze": 0.1, "antmaze_explore": 0.003, "humanoidmaze": 0.1},
            **{"antsoccer": 0.3, "manipulation_play": 3.0, "manipulation_noisy": 0.1},
        },
    ),
    _goals.small(
        {"agent.critic.latent_dim": 64},
        {"agent.policy.bc_weight": 0.03},
        {"agent.policy.bc_weight": 3.0},
        target_rate=False,
    ),
)
