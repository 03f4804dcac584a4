r"""Forward-backward representations (Touati, Ollivier 2021, arXiv:2103.07945).

The defaults are the settings of TD-JEPA's study for OGBench. What each preset was run on, and its score:

pointmaze, cube_small
    hardware: two CPU cores; not run
antmaze, manipulation: the published size
    hardware: one GPU; not run
"""

import functools

from experiments.configs import _zero_shot
from valuelab.agents.zero_shot import ZeroShotConfig
from valuelab.agents.zero_shot import zero_shot as make_agent
from valuelab.critics.forward_backward import ForwardBackwardConfig

__all__ = ["PRESETS", "Config", "make_agent"]

Config = functools.partial(ZeroShotConfig, ForwardBackwardConfig())

PRESETS = _zero_shot.presets(Config())
