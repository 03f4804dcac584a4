r"""QRL: a quasimetric critic with a policy that follows its dynamics (Wang et al. 2023, arXiv:2304.01203).

The defaults are those of OGBench (agents/qrl.py of github.com/seohongpark/ogbench): DDPG+BC, batches of 1024,
value goals from anywhere in the data. For AWR, and so for discrete actions, add `--agent.policy=awr
--agent.critic.dynamics=False`. The data must have goals. Runs and scores:

pointmaze_goals
    python -m experiments.train --agent=qrl:pointmaze_goals --num_seeds=4 \
      --dataset=ogbench/pointmaze-medium-navigate-v0 --workdir=runs/qrl
    hardware: two CPU cores; not run
"""

import dataclasses
from typing import Any

from valuelab.agents.composed import ComposedConfig
from valuelab.agents.composed import composed as make_agent
from valuelab.configuration import setting
from valuelab.critics.quasimetric import QuasimetricConfig
from valuelab.policies.ddpg_bc import DDPGBCConfig

__all__ = ["PRESETS", "SETTINGS", "Config", "make_agent"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(ComposedConfig):
    """Hyperparameters of QRL."""

    critic: Any = setting(QuasimetricConfig())
    policy: Any = setting(
        DDPGBCConfig(
            hidden_dims=(512, 512, 512),
            activation="gelu",
            mean="clip",
            final_scale=0.01,
            learn_std=False,
            bc_weight=0.003,
        )
    )


SETTINGS = {
    "batch_size": 1024,
    "data.goals.value.p_current": 0.0,
    "data.goals.value.p_trajectory": 0.0,
    "data.goals.policy.rounded": True,
}

PRESETS = {
    "pointmaze_goals": {
        "agent.critic.hidden_dims": (256, 256),
        "agent.critic.latent_dim": 128,
        "agent.policy.hidden_dims": (256, 256),
        "agent.policy.bc_weight": 0.0003,
        "data.normalize_observations": True,
        "batch_size": 256,
        "steps": 50_000,
        "eval_every": 25_000,
        "eval_episodes": 10,
    },
}
