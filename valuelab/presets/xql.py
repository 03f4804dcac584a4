r"""Extreme Q-learning (Garg et al. 2023, arXiv:2301.02328): IQL with a soft maximum instead of an expectile.

The defaults are the authors' settings for D4RL locomotion that all datasets share (mujoco_consistent.sh). The
authors normalise the hidden layers of V before their activation; here they are normalised after it. Runs and
scores:

pointmaze
    python -m experiments.train --agent=xql:pointmaze --seed=1 --num_seeds=4 \
      --dataset=ogbench/pointmaze-medium-navigate-singletask-v0 --workdir=runs/xql
    hardware: two CPU cores; 6 minutes. Success, four seeds: 0.75 (0.25 to 1.00; seeds 1.00, 1.00, 0.00,
    1.00); 1.00 with each seed after 10,000 updates. The settings were chosen with seed 0, where temperature
    0.1 had 0.00, 0.30, 0.00 and 1.00 after 5,000, 10,000, 15,000 and 20,000 updates, and temperature 1.0 with
    inverse_temperature 10 had 0.00 at each evaluation
d4rl_locomotion, d4rl_antmaze
    python -m experiments.train --agent=xql:d4rl_locomotion --num_seeds=4 \
      --dataset=d4rl/halfcheetah-medium-v2 --workdir=runs/halfcheetah
    hardware: one GPU; not run
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
