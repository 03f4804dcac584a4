r"""TD-JEPA (Bagatella et al. 2025, arXiv:2510.00739).

The defaults are the settings of TD-JEPA's study for OGBench.
`_zero_shot.py` describes the presets; what was run:

pointmaze
    python -m experiments.zero_shot --agent=td_jepa:pointmaze --num_seeds=5 --steps=15000 \
      --dataset=ogbench/pointmaze-medium-navigate-v0 --workdir=runs/zero_shot
    hardware: most of a CPU core; 75 minutes; five seeds, success over the five tasks 0.19 (0.04 to 0.39;
    tasks 0.00, 0.56, 0.00, 0.00, 0.40); with --steps=10000 0.07 (0.02 to 0.12; 0.36 in the second), where
    IQL trained for each task alone has 0.75, 0.70, 0.00, 0.00, 0.00 (suite zero_shot_oracle) and
    iql:pointmaze_goals 0.44 with 0.00 in the third and fourth. Rewards are found where they are, and values
    fall along the free ways; what fails stands in corners of walls (the third task's goal lies behind two
    blocks that touch). The data never come within a metre of walls (python -m experiments.inspect_dataset).
    Less cloning helps (bc_weight 0.01; with 0.03 and 0.1, and 128 units a layer, 0.04 and 0.00 after 8,000
    updates of one seed), and so do deep encodings and fast targets (0.06 without)
    python -m experiments.studies.adapt --encoder=runs/zero_shot --agent=iql:pointmaze --num_seeds=4 \
      --steps=20000 \
      --dataset=ogbench/pointmaze-medium-navigate-singletask-v0 --data.normalize_observations \
      --eval_every=4000 --eval_episodes=20 --workdir=runs/adaptation
    hardware: half of a CPU core; 28 minutes. Encodings of the first seed, after 10,000 updates and frozen, do
    not help IQL: over five evaluations it has 0.12 (0.03 to 0.20) from them and 0.70 (0.60 to 0.79) from
    observations, in the end 0.50 (two seeds of four) and 1.00. Observations are two positions here, so there
    is little to encode; published are gains from images and many joints
cube_small
    python -m experiments.zero_shot --agent=td_jepa:cube_small --num_seeds=5 --steps=6000 \
      --dataset=ogbench/cube-single-play-v0 --workdir=runs/zero_shot_cube
    hardware: most of a CPU core; 34 minutes, a tenth of the preset's updates; five seeds, success 0.00 (0.00
    to 0.02). IQL trained for each task alone has 0.39 after 12,000 updates (suite zero_shot_oracle)
walker_small
    python -m experiments.zero_shot --agent=td_jepa:walker_small --dataset=exorl/walker-noise --steps=3000 \
      --agent.critic.policy_sees=observations --eval_episodes=2 --workdir=runs/walker
    hardware: a CPU core shared with much other work; 8 minutes; 50 episodes of noise and a seventh of the
    preset's updates; ONE seed, 2 episodes: return 78 (stand 221, walk 35, run 34, flip 23)
pixels_small
    python -m experiments.collect --dataset=exorl/point_mass_maze-rnd --episodes=30
    python -m experiments.zero_shot --agent=td_jepa:pixels_small --num_seeds=2 --steps=4000 \
      --eval_every=2000 --dataset=exorl/point_mass_maze-rnd@32:16 --reward=lower_left.py:lower_left \
      --workdir=runs/pixels
    with, in lower_left.py, def lower_left(states): the exponential of -|p + 0.25|² / 0.1², where p is
    states["qpos"] (the exploration never reached the domain's own goals but the first)
    hardware: a CPU core; 47 minutes, and 5 to render images before; TWO seeds, 2 episodes each: return 326
    (426 and 225) of 1,000 after 2,000 updates, 0.07 (0.07 and 0.06) after 4,000. Episodes of the data have
    168 on average, an agent of 50 updates 0.00. After 4,000 updates features still explain 0.98 of the
    reward's variance (first seed), but values are too high in a corner where episodes start; meanwhile their
    effective rank fell from 21 to 14, which a larger orthonormality cured in the maze of pointmaze
"""

import dataclasses
from typing import Any

from valuelab.agents.zero_shot import ZeroShotConfig
from valuelab.agents.zero_shot import zero_shot as make_agent
from valuelab.configuration import setting
from valuelab.critics.td_jepa import TDJEPAConfig
from valuelab.presets import _zero_shot
from valuelab.presets._groups import merged

__all__ = ["PRESETS", "Config", "make_agent"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(ZeroShotConfig):
    """Hyperparameters of TD-JEPA."""

    critic: Any = setting(TDJEPAConfig())


PRESETS = merged(_zero_shot.EVERY, _zero_shot.TD_JEPA)
