r"""Soft actor-critic (Haarnoja et al. 2018, arXiv:1812.05905), and RLPD (Ball et al. 2023, arXiv:2302.02948).

The defaults are those of the table in appendix D of arXiv:1812.05905. Runs and scores:

pendulum
    python -m experiments.train --agent=sac:pendulum --workdir=runs/pendulum
    hardware: two CPU cores; one minute; one seed of 20 episodes. Return -167 (-205 to -132); -163 after 5,000
    updates, -134 after 10,000; -1338 while acting in the first 1,000 updates
rlpd: half of each batch from the dataset; the settings of RLPD's command for AntMaze
    python -m experiments.train --agent=sac:rlpd --num_seeds=4 \
      --dataset=ogbench/antmaze-large-navigate-singletask-v0 --workdir=runs/rlpd
    hardware: one GPU; not run. Ten critics with layer norm, which are updated 20 times for each step in the
    environment and of the policy. RLPD normalises their layers before the activation; valuelab normalises
    them after it
humanoidmaze_medium: RLPD as in FQL's study, by its published command; one update for each step
    python -m experiments.train --agent=sac:humanoidmaze_medium --num_seeds=4 \
      --dataset=ogbench/humanoidmaze-medium-navigate-singletask-v0 --workdir=runs/rlpd_humanoid
    hardware: one GPU; not run
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
            hidden_dims=(256, 256),
            activation="relu",
            layer_norm=False,
            aggregation="min",
            q_aggregation="min",
        )
    )
    policy: Any = setting(SACConfig(target_entropy=-1.0, log_std_min=-20.0))


_WIDE = (512, 512, 512, 512)


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
        "agent.critic.hidden_dims": (256, 256, 256),
        "agent.critic.layer_norm": True,
        "agent.critic.ensemble_size": 10,
        "agent.critic.target_members": 1,
        "agent.critic.q_aggregation": "mean",
        "agent.policy.hidden_dims": (256, 256, 256),
        "agent.policy.target_entropy": -0.5,
        "agent.policy.charges_entropy": False,
        "agent.policy.period": 20,
        "interaction.num_environments": 1,
        "interaction.capacity": 300_000,
        "interaction.warmup_steps": 5_000,
        "interaction.update_to_data": 20.0,
        "interaction.dataset_share": 0.5,
        "online_steps": 5_900_000,
    },
    "humanoidmaze_medium": {
        "agent.critic.hidden_dims": _WIDE,
        "agent.critic.activation": "gelu",
        "agent.critic.layer_norm": True,
        "agent.critic.q_aggregation": "mean",
        "agent.critic.discount": 0.995,
        "agent.policy.hidden_dims": _WIDE,
        "agent.policy.activation": "gelu",
        "agent.policy.final_scale": 0.01,
        "agent.policy.log_std_min": -5.0,
        "agent.policy.target_entropy": -0.5,
        "agent.policy.charges_entropy": False,
        "interaction.num_environments": 1,
        "interaction.capacity": 1_000_000,
        "interaction.warmup_steps": 2,
        "interaction.update_to_data": 1.0,
        "interaction.dataset_share": 0.5,
        "online_steps": 1_000_000,
    },
}
