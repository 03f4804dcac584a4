"""dm_control's domains as ExoRL has them: simulators, and the rewards of all their tasks.

A domain is a body in a world; its tasks differ in their rewards alone, which are functions of a few named
quantities of the state, such as the height of the torso. So states that were logged without rewards can be
labelled for any task. The data and environments parts both stand on this one, which also holds the names of
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
