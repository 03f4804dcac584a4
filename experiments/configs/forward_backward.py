r"""Forward-backward representations (Touati, Ollivier 2021, arXiv:2103.07945).

The defaults are the settings of TD-JEPA's study for OGBench.
`_zero_shot.py` describes the presets; what was run:

pointmaze
    python -m experiments.zero_shot --agent=forward_backward:pointmaze --num_seeds=5 --steps=15000 \
      --dataset=ogbench/pointmaze-medium-navigate-v0 --workdir=runs/zero_shot
    hardware: most of a CPU core; 65 minutes; five seeds, success over the five tasks 0.32 (0.16 to 0.48;
    tasks 0.40, 0.72, 0.00, 0.12, 0.34), where an agent trained for the first task has 1.00. What fails
    stands in corners of walls
"""

import functools

from experiments.configs import _zero_shot
from valuelab.agents.zero_shot import ZeroShotConfig
from valuelab.agents.zero_shot import zero_shot as make_agent
from valuelab.critics.forward_backward import ForwardBackwardConfig

__all__ = ["PRESETS", "Config", "make_agent"]

Config = functools.partial(ZeroShotConfig, ForwardBackwardConfig())

PRESETS = _zero_shot.presets(Config())
