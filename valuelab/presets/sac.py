"""Soft actor-critic (Haarnoja et al. 2018, arXiv:1812.05905), and RLPD (Ball et al. 2023, arXiv:2302.02948).

The defaults are SAC's. Runs and scores:

pendulum
    python -m experiments.train --agent=sac:pendulum --workdir=runs/pendulum
    hardware: two CPU cores; one minute; one seed of 20 episodes. Return -159 (-194 to -126); -169 after 5,000
    updates, -144 after 10,000; -1341 while acting in the first 1,000 updates
rlpd: SAC with ten critics with layer norm, 20 updates per step, and half of each batch from the dataset
    python -m experiments.train --agent=sac:rlpd --num_seeds=4 \
      --dataset=ogbench/antmaze-large-navigate-singletask-v0 --workdir=runs/rlpd
    hardware: one GPU; not run. The paper updates the policy once in 20 updates of the critics; valuelab
    updates it each time
"""

import dataclasses
from typing import Any

from valuelab.agents.composed import ComposedConfig
from valuelab.agents.composed import composed as make_agent
from valuelab.configuration import setting
from valuelab.critics.temporal_difference import TemporalDifferenceConfig
from valuelab.policies.sac import SACConfig

__all__ = ["PRESETS", "Config", "make_agent"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(ComposedConfig):
    """Hyperparameters of SAC."""

    critic: Any = setting(
        TemporalDifferenceConfig(
            hidden_dims=(256, 256), activation="relu", layer_norm=False, aggregation="min"
        )
    )
    policy: Any = setting(SACConfig(target_entropy=-1.0))


PRESETS = {
    "pendulum": {
        "agent.critic.hidden_dims": (64, 64),
        "agent.critic.learning_rate": 1e-3,
        "agent.policy.hidden_dims": (64, 64),
        "agent.policy.learning_rate": 1e-3,
        "environment": "gymnasium/Pendulum-v1",
        "interaction.num_environments": 4,
        "interaction.capacity": 50_000,
        "interaction.warmup_steps": 1_000,
        "interaction.update_to_data": 1.0,
        "batch_size": 128,
        "steps": 20_000,
        "eval_every": 5_000,
        "eval_episodes": 20,
    },
    "rlpd": {
        "agent.critic.layer_norm": True,
        "agent.critic.ensemble_size": 10,
        "agent.critic.target_members": 2,
        "agent.policy.target_entropy": -0.5,
        "agent.policy.charges_entropy": False,
        "interaction.num_environments": 1,
        "interaction.capacity": 300_000,
        "interaction.warmup_steps": 5_000,
        "interaction.update_to_data": 20.0,
        "interaction.dataset_share": 0.5,
        "online_steps": 5_000_000,
    },
}
