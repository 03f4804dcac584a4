"""Datasets that are named by their path: files and folders of the user."""

import os

from valuelab.domains.d4rl import SUFFIXES as HDF5

SUFFIXES = (*HDF5, ".npz")
"""The suffixes of files."""


LEROBOT_INFO = "meta/info.json"
"""The file in the folder of a dataset of LeRobot that describes it."""


def is_path(dataset: str) -> bool:
    """Whether the name of a dataset is the path of a file, or of a folder of LeRobot."""
    return dataset.endswith(SUFFIXES) or is_lerobot(dataset)


def is_lerobot(dataset: str) -> bool:
    """Whether the name of a dataset is the path of a folder of LeRobot."""
    return os.path.isfile(os.path.join(os.path.expanduser(dataset), LEROBOT_INFO))
