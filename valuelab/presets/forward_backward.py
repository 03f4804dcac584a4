r"""Forward-backward representations (Touati, Ollivier 2021, arXiv:2103.07945).

The defaults are the settings of TD-JEPA's study for OGBench. `_zero_shot_study.py` and `_zero_shot.py`
describe the presets. Runs and scores:

pointmaze
    python -m experiments.zero_shot --agent=forward_backward:pointmaze --num_seeds=5 --steps=15000 \
      --pairs=200 --dataset=ogbench/pointmaze-medium-navigate-v0 --workdir=runs/zero_shot
    hardware: one CPU core, shared with other work; 56 minutes. Pairs by detour, five seeds: 0.72 (0.65 to
    0.78) below 1.15, 0.59 (0.52 to 0.67) below 1.5, 0.50 (0.41 to 0.58) above; walking straight at the goal
    has 0.86, 0.10, 0.00. Success over the five tasks: 0.22 (0.08 to 0.35; tasks 0.10, 0.66, 0.00, 0.12,
    0.20). With half of the tasks from goals (--agent.goal_share=0.5) and 10,000 updates, the pairs had 0.68,
    0.48, 0.29: it often stopped next to the goal. IQL trained for each task separately has 0.75, 0.70, 0.00,
    0.00, 0.00
cube_small
    python -m experiments.zero_shot --agent=forward_backward:cube_small --num_seeds=5 --steps=6000 \
      --dataset=ogbench/cube-single-play-v0 --workdir=runs/zero_shot_cube
    hardware: one CPU core; 30 minutes; a tenth of the preset's updates. Success, five seeds: 0.00
walker_small
    python -m experiments.collect --dataset=exorl/walker-noise --episode_steps=100 --episodes=3000
    python -m experiments.zero_shot --agent=forward_backward:walker_small --dataset=exorl/walker-noise \
      --sweep=agent.critic.orthonormality=0.1,1,10 --steps=10000 --eval_episodes=2 \
      --agent.critic.predictor_dims=128 --agent.critic.task_dims=128,128 --agent.critic.task_dim=32 \
      --agent.policy.hidden_dims=128,128 --workdir=runs/walker
    hardware: part of a CPU core; 5 minutes; one seed of 2 episodes. Return with 0.1, 1 and 10: stand 82, 313,
    258; walk 24, 18, 22; run 17, 50, 11; flip 67, 18, 61. The data have 212, 56, 38 and 72 per 1,000 steps
pixels_small
    python -m experiments.zero_shot --agent=forward_backward:pixels_small --num_seeds=2 --steps=4000 \
      --eval_every=2000 --dataset=exorl/point_mass_maze-rnd@32:16 --reward=lower_left.py:lower_left \
      --workdir=runs/pixels
    hardware: one CPU core; 42 minutes; data and reward as in td_jepa.py; two seeds of 2 episodes. Return of
    1,000: 296 (162 and 429) after 2,000 updates, 92 (184 and 0.08) after 4,000
"""

import dataclasses
from typing import Any

from valuelab.agents.zero_shot import ZeroShotConfig
from valuelab.agents.zero_shot import zero_shot as make_agent
from valuelab.configuration import setting
from valuelab.critics.forward_backward import ForwardBackwardConfig
from valuelab.presets import _zero_shot, _zero_shot_study
from valuelab.presets._groups import merged

__all__ = ["PRESETS", "Config", "make_agent"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(ZeroShotConfig):
    """Hyperparameters of forward-backward representations."""

    critic: Any = setting(ForwardBackwardConfig(orthonormality=100.0))
    policy: Any = setting(_zero_shot_study.POLICY)


PRESETS = merged(_zero_shot.EVERY, _zero_shot.FORWARD_BACKWARD)
