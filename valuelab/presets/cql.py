r"""Conservative Q-learning (Kumar et al. 2020, arXiv:2006.04779) with SAC's policy.

The defaults are the authors' settings for D4RL locomotion, without the Lagrange multiplier. There are three
differences to the authors' code. Its policy clones the data in the first 40,000 updates; here it does not.
Its log σ lies in [-20, 2], here in [-5, 2]. Its AntMaze rewards are 4 (r - 0.5), here r - 1 as in IQL. Runs
and scores:

pointmaze
    python -m experiments.train --agent=cql:pointmaze \
      --dataset=ogbench/pointmaze-medium-navigate-singletask-v0 --workdir=runs/cql
    hardware: one CPU core; 9 minutes; one seed, with which the settings were chosen. Success 1.00 (132 steps
    on average) after 20,000 updates, and 0.00 after 5,000 and 15,000. Three other seeds have 0.00 after
    10,000 updates; they were not trained further. With networks of 128 units, no layer norm and num_sampled 4
    it is 0.00 at each evaluation, for conservative_weight 0.3 and 3
d4rl_locomotion, d4rl_antmaze
    python -m experiments.train --agent=cql:d4rl_locomotion --num_seeds=4 \
      --dataset=d4rl/halfcheetah-medium-v2 --workdir=runs/halfcheetah
    hardware: one GPU; not run
"""

import dataclasses
from typing import Any

from valuelab.agents.composed import ComposedConfig
from valuelab.agents.composed import composed as make_agent
from valuelab.configuration import setting
from valuelab.critics.conservative import ConservativeConfig
from valuelab.policies.sac import SACConfig

__all__ = ["PRESETS", "Config", "make_agent"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(ComposedConfig):
    """Hyperparameters of conservative Q-learning."""

    critic: Any = setting(ConservativeConfig())
    policy: Any = setting(
        SACConfig(hidden_dims=(256, 256, 256), target_entropy=-1.0, charges_entropy=False, learning_rate=1e-4)
    )


PRESETS = {
    "pointmaze": {
        "agent.critic.hidden_dims": (256, 256),
        "agent.critic.activation": "gelu",
        "agent.critic.layer_norm": True,
        "agent.critic.num_sampled": 2,
        "agent.critic.conservative_weight": 0.1,
        "agent.critic.learning_rate": 1e-3,
        "agent.critic.target_rate": 0.02,
        "agent.policy.hidden_dims": (128, 128),
        "agent.policy.learning_rate": 1e-3,
        "data.normalize_observations": True,
        "batch_size": 128,
        "steps": 20_000,
        "eval_every": 10_000,
    },
    "d4rl_locomotion": {"eval_episodes": 10},
    "d4rl_antmaze": {"agent.critic.lagrange": True, "data.rewards": "d4rl_antmaze", "eval_episodes": 100},
}
