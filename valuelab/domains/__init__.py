"""dm_control's domains as in ExoRL: simulators, and the rewards of all their tasks.

A domain is a body in an environment. Its tasks differ only in their rewards, which are functions of a few
named quantities of the state, such as the height of the torso. So logged states without rewards can be
labelled for any task. The packages data and environments both use this package, which also holds the names of
D4RL's datasets.
"""

from valuelab.domains.names import EXPLORERS, Name, known_names, parse
from valuelab.domains.simulator import DOMAINS, EPISODE_STEPS, Domain, Simulator, images, rewards

__all__ = [
    "DOMAINS",
    "EPISODE_STEPS",
    "EXPLORERS",
    "Domain",
    "Name",
    "Simulator",
    "images",
    "known_names",
    "parse",
    "rewards",
]
