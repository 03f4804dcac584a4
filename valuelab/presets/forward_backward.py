"""Forward-backward representations (Touati, Ollivier 2021, arXiv:2103.07945).

The defaults are the settings of TD-JEPA's study for OGBench. `_zero_shot_study.py` and `_zero_shot.py`
describe the presets. Runs and scores:

pointmaze
    python -m experiments.zero_shot --agent=forward_backward:pointmaze --num_seeds=5 --steps=15000 \
      --dataset=ogbench/pointmaze-medium-navigate-v0 --workdir=runs/zero_shot
    hardware: one CPU core; 65 minutes. Success over the five tasks, five seeds: 0.32 (0.16 to 0.48; tasks
    0.40, 0.72, 0.00, 0.12, 0.34). With --steps=10000 it is 0.24 (0.21 to 0.28; tasks 0.80, 0.32, 0.00,
    0.00, 0.10). IQL trained for each task separately has 0.75, 0.70, 0.00, 0.00, 0.00. Walking straight at
    the goal has 1, 1, 0, 0, 0 (--pairs): values are nearly Euclidean, and the critic, not the policy, sticks
    where the straight line does
cube_small
    python -m experiments.zero_shot --agent=forward_backward:cube_small --num_seeds=5 --steps=6000 \
      --dataset=ogbench/cube-single-play-v0 --workdir=runs/zero_shot_cube
    hardware: one CPU core; 30 minutes; a tenth of the preset's updates. Success, five seeds: 0.00
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
