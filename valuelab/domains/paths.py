"""Datasets that are named by their path: files and folders of the user."""

from valuelab.domains.d4rl import SUFFIXES as HDF5

SUFFIXES = (*HDF5, ".npz")
"""The suffixes of files."""


def is_path(dataset: str) -> bool:
    """Whether the name of a dataset is the path of a file."""
    return dataset.endswith(SUFFIXES)
