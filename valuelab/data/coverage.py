"""The coverage of the observation space by a dataset."""

from typing import Any

import numpy as np

from valuelab.data import storage
from valuelab.types import Dataset

BINS = 40
"""The number of bins of each histogram along each axis."""
CELL_BINS = 4
"""The number of bins of a maze's occupancy along each side of a cell."""


def of_plane(sample: np.ndarray, standardized: bool) -> dict[str, Any]:
    """The effective dimension of observations, and their density in a plane.

    Args:
        sample: [S, D], a sample of the observations.
        standardized: whether to divide each dimension by its standard deviation first, so that units do not
            matter.

    Returns:
        The report:

        - sampled: S.
        - effective_dimension: the participation ratio (Σ λ)² / Σ λ² of the eigenvalues λ of the covariance;
          it is n where n eigenvalues are equal and the others are 0.
        - plane: axes, the names of two directions; edges, two arrays [BINS + 1]; counts [BINS, BINS]. The
          directions are the two dimensions where D is 2, else the first two principal components. The plane
          is None where fewer than two dimensions vary.
    """
    varying = sample[:, sample.min(0) < sample.max(0)].astype(np.float64)
    if varying.shape[1] == 0:
        return {"sampled": len(sample), "effective_dimension": 0.0, "plane": None}
    centred = varying - varying.mean(0)
    if standardized:
        centred /= centred.std(0)
    wide = centred.shape[1] > len(
        centred
    )  # the Gram matrix of the rows has the same nonzero eigenvalues, and is smaller
    eigenvalues, vectors = np.linalg.eigh(centred @ centred.T if wide else centred.T @ centred)
    eigenvalues = np.maximum(eigenvalues, 0)  # rounding can make them negative
    coverage = {
        "sampled": len(sample),
        "effective_dimension": eigenvalues.sum() ** 2 / np.square(eigenvalues).sum(),
        "plane": None,
    }
    if varying.shape[1] == 1:
        return coverage
    if sample.shape[1] == 2:
        positions, axes = varying, ["observation 0", "observation 1"]
    else:
        first = slice(-1, -3, -1)
        positions = vectors[:, first] * np.sqrt(eigenvalues[first]) if wide else centred @ vectors[:, first]
        shares = eigenvalues[first] / eigenvalues.sum()
        axes = [f"component {rank} ({share:.0%})" for rank, share in enumerate(shares, 1)]
    counts, *edges = np.histogram2d(positions[:, 0], positions[:, 1], BINS)
    return coverage | {"plane": {"axes": axes, "edges": edges, "counts": counts.astype(np.int64)}}


def of_maze(dataset: Dataset, walls: np.ndarray, extent: tuple[float, float, float, float]) -> dict[str, Any]:
    """The cells of a maze that were visited.

    Args:
        dataset: the dataset; the first two numbers of an observation are the position, in metres.
        walls: [rows, columns] bool, the first row at the bottom.
        extent: left, right, bottom and top of the maze, metres.

    Returns:
        free_cells and visited_cells, their numbers; counts [CELL_BINS rows, CELL_BINS columns], the number
        of observations in each bin.
    """
    left, right, bottom, top = extent
    rows = storage.transition_rows(dataset)
    shape = tuple(CELL_BINS * side for side in walls.shape)
    counts = sum(
        np.histogram2d(each[:, 1], each[:, 0], shape, ((bottom, top), (left, right)))[0].astype(np.int64)
        for each in storage.pieces(dataset, rows)
    )
    visited = counts.reshape(len(walls), CELL_BINS, -1, CELL_BINS).any((1, 3))
    return {
        "free_cells": np.count_nonzero(~walls),
        "visited_cells": np.count_nonzero(visited & ~walls),
        "counts": counts,
    }
