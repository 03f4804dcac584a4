r"""QRL: a quasimetric critic with a policy that follows its dynamics (Wang et al. 2023, arXiv:2304.01203).

The defaults are those of OGBench (agents/qrl.py of github.com/seohongpark/ogbench): DDPG+BC, and value goals
from anywhere in the data. For AWR, and so for discrete actions, add --agent.policy=awr
--agent.critic.dynamics=False. The data must have goals. Runs and scores:

pointmaze_goals, cube_goals
    python -m experiments.benchmark --suite=goals_small --only=qrl --workdir=runs/goals_small
pointmaze_navigate, antmaze_stitch, ...: OGBench's study; see `_goals.py`
    python -m experiments.train --agent=qrl:antmaze_navigate --num_seeds=8 \
      --dataset=ogbench/antmaze-large-navigate-v0 --workdir=runs/antmaze
    hardware: one GPU; not run
"""

import dataclasses
from typing import Any

from valuelab.agents.composed import ComposedConfig
from valuelab.agents.composed import composed as make_agent
from valuelab.configuration import setting
from valuelab.critics.quasimetric import QuasimetricConfig
from valuelab.policies.ddpg_bc import DDPGBCConfig
from valuelab.presets import _goals
from valuelab.presets._groups import merged

__all__ = ["PRESETS", "SETTINGS", "Config", "make_agent"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(ComposedConfig):
    """Hyperparameters of QRL."""

    critic: Any = setting(QuasimetricConfig())
    policy: Any = setting(DDPGBCConfig(**_goals.POLICY, bc_weight=0.003))


SETTINGS = {"data.goals.value.p_current": 0.0, "data.goals.value.p_trajectory": 0.0}

PRESETS = merged(
    _goals.presets(
        powderworld={**_goals.AWR, "agent.critic.dynamics": False},
    ),
    _goals.tuned(
        "agent.policy.bc_weight",
        {
            **{"pointmaze": 0.0003, "antmaze": 0.003, "antmaze_explore": 0.001, "humanoidmaze": 0.001},
            **{"antsoccer": 0.003, "manipulation_play": 0.3, "manipulation_noisy": 0.03},
        },
    ),
    _goals.small(
        {"agent.critic.latent_dim": 64},
        {"agent.policy.bc_weight": 0.0003},
        {"agent.policy.bc_weight": 0.3},
        target_rate=False,
    ),
)
