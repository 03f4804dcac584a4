r"""ReBRAC: two plain critics, with cloning in critic and policy (Tarasov et al. 2023, arXiv:2305.09836).

The defaults are those of FQL's study, but the weights, 0 there, must be tuned for each dataset.
humanoidmaze_medium and visual_cube_single are its published commands. The weights of cube_small are those of
visual_cube_single. The policy of the small presets has relu, and a last layer that is not scaled. Runs and
scores:

pointmaze
    python -m experiments.train --agent=rebrac:pointmaze --num_seeds=4 --steps=20000 --eval_every=10000 \
      --dataset=ogbench/pointmaze-medium-navigate-singletask-v0 --workdir=runs/rebrac
    hardware: one CPU core; 22 minutes. Success, four seeds: 1.00 (all 1.00), and 1.00, 0.00, 0.00, 1.00 after
    10,000 updates. With a step of the policy in each update and the mean of both critics for it, success is
    0.52 (seeds 0.06, 1.00, 1.00, 0.00)
cube_small
    python -m experiments.train --agent=rebrac:cube_small --num_seeds=4 --steps=20000 --eval_episodes=25 \
      --dataset=ogbench/cube-single-play-singletask-v0 --workdir=runs/rebrac_cube
    hardware: one CPU core; 17 minutes. Success 0.04 (0.00 to 0.11; seeds 0.04, 0.12, 0.00, 0.00), and 0.02
    after 10,000 updates. With a step of the policy in each update, and with the mean of both critics for the
    policy, it is 0.20. Published at full size, a million updates: 0.91 over five tasks
humanoidmaze_medium, visual_cube_single
    hardware: one GPU; not run
"""

import dataclasses
from typing import Any

from valuelab.agents.composed import ComposedConfig
from valuelab.agents.composed import composed as make_agent
from valuelab.configuration import setting
from valuelab.critics.temporal_difference import TemporalDifferenceConfig
from valuelab.policies.rebrac import ReBRACConfig
from valuelab.presets import _ogbench
from valuelab.presets._groups import merged

__all__ = ["PRESETS", "Config", "make_agent"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(ComposedConfig):
    """Hyperparameters of ReBRAC."""

    critic: Any = setting(TemporalDifferenceConfig(aggregation="min", q_aggregation="min"))
    policy: Any = setting(ReBRACConfig(activation="gelu", final_scale=0.01))


_POLICY = {"agent.policy.activation": "relu", "agent.policy.final_scale": 1.0}
_SMALL = {
    "pointmaze": {
        **_POLICY,
        "agent.policy.bc_weight": 0.003,
        "agent.policy.target_weight": 0.01,
        "agent.policy.target_rate": 0.02,  # as the critic's
    },
    "cube_small": {**_POLICY, "agent.policy.bc_weight": 1.0, "agent.policy.target_weight": 0.0},
}
_HUMANOID = {
    "agent.critic.discount": 0.995,
    "agent.policy.bc_weight": 0.01,
    "agent.policy.target_weight": 0.01,
}

PRESETS = {
    **merged(_ogbench.SMALL, _SMALL),
    "humanoidmaze_medium": _HUMANOID,
    "visual_cube_single": {
        **_ogbench.COMPOSED_IMAGES,
        "agent.policy.bc_weight": 1.0,
        "agent.policy.target_weight": 0.0,
    },
}
