r"""Extreme Q-learning (Garg et al. 2023, arXiv:2301.02328): IQL with a soft maximum, not an expectile.

The defaults are the authors' settings for D4RL locomotion that all datasets share (mujoco_consistent.sh).
What each preset was run on, and its score:

pointmaze
    python -m experiments.train --agent=xql:pointmaze \
      --dataset=ogbench/pointmaze-medium-navigate-singletask-v0 --workdir=runs/xql
    hardware: one CPU core, shared with other work; 2 minutes; one seed, 20 episodes: success 1.00, after
    5,000, 10,000 and 15,000 updates 0.00, 1.00 and 0.00. With temperature 0.1 it is 0.00, 0.30, 0.00 and
    1.00; with temperature 1.0 and inverse_temperature 10 it is 0.00 throughout
d4rl_locomotion, d4rl_antmaze
    python -m experiments.train --agent=xql:d4rl_locomotion --num_seeds=4 \
      --dataset=d4rl/halfcheetah-medium-v2 --workdir=runs/halfcheetah
    hardware: one GPU; not run. The authors normalise the hidden layers of V before their activation, here
    layers are normalised after it
"""

import dataclasses
from typing import Any

from valuelab.agents.composed import ComposedConfig
from valuelab.agents.composed import composed as make_agent
from valuelab.configuration import setting
from valuelab.critics.gumbel import GumbelConfig
from valuelab.policies.awr import AWRConfig

__all__ = ["PRESETS", "Config", "make_agent"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(ComposedConfig):
    """Hyperparameters of extreme Q-learning."""

    critic: Any = setting(GumbelConfig())
    policy: Any = setting(AWRConfig(learning_rate_schedule="cosine"))


PRESETS = {
    "pointmaze": {
        "agent.critic.hidden_dims": (128, 128),
        "agent.critic.temperature": 0.3,
        "agent.critic.value_layer_norm": False,
        "agent.critic.target_rate": 0.02,
        "agent.policy.hidden_dims": (128, 128),
        "agent.policy.inverse_temperature": 5.0,
        "agent.policy.learning_rate_schedule": "constant",
        "data.normalize_observations": True,
        "steps": 20_000,
        "eval_every": 10_000,
    },
    "d4rl_locomotion": {"data.rewards": "d4rl_locomotion", "eval_episodes": 10},
    "d4rl_antmaze": {
        "agent.critic.temperature": 0.6,
        "agent.policy.inverse_temperature": 10.0,
        "agent.policy.learning_rate_schedule": "constant",
        "data.rewards": "d4rl_antmaze",
        "eval_episodes": 100,
    },
}
