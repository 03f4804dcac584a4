r"""TD-JEPA (Bagatella et al. 2025, arXiv:2510.00739).

The defaults are the settings of TD-JEPA's study for OGBench. `_zero_shot_study.py` and `_zero_shot.py`
describe the presets. Runs and scores:

pointmaze
    python -m experiments.zero_shot --agent=td_jepa:pointmaze --num_seeds=5 --steps=15000 --pairs=200 \
      --dataset=ogbench/pointmaze-medium-navigate-v0 --workdir=runs/zero_shot
    hardware: one CPU core, shared with other work; 40 minutes. Pairs by detour, five seeds: 0.71 (0.63 to
    0.77) below 1.15, 0.53 (0.45 to 0.61) below 1.5, 0.46 (0.38 to 0.54) above; walking straight at the goal
    has 0.86, 0.10, 0.00. Success over the five tasks: 0.14 (0.03 to 0.27; tasks 0.00, 0.12, 0.00, 0.18,
    0.40). IQL trained for each task separately has 0.75, 0.70, 0.00, 0.00,
    0.00 (suite zero_shot_oracle). With half of the tasks from goals (--agent.goal_share=0.5) one seed had
    0.66, 0.24, 0.07 after 8,000 updates, on other pairs
    python -m experiments.studies.adapt --encoder=runs/zero_shot --agent=iql:pointmaze --num_seeds=4 \
      --steps=20000 \
      --dataset=ogbench/pointmaze-medium-navigate-singletask-v0 --data.normalize_observations \
      --eval_every=4000 --eval_episodes=20 --workdir=runs/adaptation
    hardware: half of a CPU core; 28 minutes. The encodings are of a run with earlier settings
    (--agent.goal_share=0.5 --agent.later_goals=0). Frozen encodings of the first seed after 10,000 updates do
    not help IQL. The mean over five evaluations is 0.12 (0.03 to 0.20) from encodings and 0.70 (0.60 to 0.79)
    from observations; the last evaluations are 0.50 (two of four seeds) and 1.00. Observations are two
    positions here. The paper reports gains from images and from robots with many joints
cube_small
    python -m experiments.zero_shot --agent=td_jepa:cube_small --num_seeds=5 --steps=6000 \
      --dataset=ogbench/cube-single-play-v0 --workdir=runs/zero_shot_cube
    hardware: one CPU core; 34 minutes; a tenth of the preset's updates. Success, five seeds: 0.00 (0.00 to
    0.02). IQL trained for each task separately has 0.39 after 12,000 updates (suite zero_shot_oracle)
walker_small
    python -m experiments.zero_shot --agent=td_jepa:walker_small --dataset=exorl/walker-noise --steps=3000 \
      --agent.critic.policy_sees=observations --eval_episodes=2 --workdir=runs/walker
    hardware: one CPU core; 8 minutes; 50 episodes of noise, and a seventh of the preset's updates; one seed
    of 2 episodes. Return 78 (stand 221, walk 35, run 34, flip 23)
pixels_small
    python -m experiments.collect --dataset=exorl/point_mass_maze-rnd --episodes=30
    python -m experiments.zero_shot --agent=td_jepa:pixels_small --num_seeds=2 --steps=4000 \
      --eval_every=2000 --dataset=exorl/point_mass_maze-rnd@32:16 --reward=lower_left.py:lower_left \
      --workdir=runs/pixels
    The file lower_left.py defines def lower_left(states): the exponential of -|p + 0.25|² / 0.1², where p is
    states["qpos"]. (The exploration reached only the first of the domain's own goals.)
    hardware: one CPU core; 47 minutes, and 5 minutes to render the images; two seeds of 2 episodes. Return
    of 1,000: 326 (426 and 225) after 2,000 updates, 0.07 (0.07 and 0.06) after 4,000. The episodes of the
    data have a mean of 168, an agent of 50 updates has 0.00. After 4,000 updates the features still explain
    0.98 of the reward's variance (first seed), but values are too high in a corner where episodes start.
    The effective rank fell from 21 to 14; in the preset pointmaze a larger weight of orthonormality
    prevents this
"""

import dataclasses
from typing import Any

from valuelab.agents.zero_shot import ZeroShotConfig
from valuelab.agents.zero_shot import zero_shot as make_agent
from valuelab.configuration import setting
from valuelab.critics.td_jepa import TDJEPAConfig
from valuelab.presets import _zero_shot, _zero_shot_study
from valuelab.presets._groups import merged

__all__ = ["PRESETS", "Config", "make_agent"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(ZeroShotConfig):
    """Hyperparameters of TD-JEPA."""

    critic: Any = setting(TDJEPAConfig())
    policy: Any = setting(_zero_shot_study.POLICY)
    whiten_goals: bool = True


PRESETS = merged(_zero_shot.EVERY, _zero_shot.TD_JEPA)
