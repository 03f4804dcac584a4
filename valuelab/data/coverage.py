"""How the observations of a dataset fill their space."""

from typing import Any

import numpy as np

from valuelab.data import storage
from valuelab.types import Dataset

BINS = 40
"""Of each histogram, along each side."""
CELL_BINS = 4
"""Of the occupancy of a maze, along each side of a cell."""


def of_plane(sample: np.ndarray, standardized: bool) -> dict[str, Any]:
    """How observations fill their space.

    Args:
        sample: [S, D], some of them.
        standardized: whether dimensions are divided by their standard deviations first, so that their units
            do not count.

    Returns:
        sampled S; effective_dimension, the participation ratio (Σ λ)² / Σ λ² of the eigenvalues λ of their
        covariance, which n equal ones make n; and plane: axes, the names of two directions; edges, two arrays
        [BINS + 1]; counts [BINS, BINS]. The plane of two dimensions is theirs, of more that of the first two
        principal components. It is None where fewer than two dimensions vary.
    """
    varying = sample[:, sample.min(0) < sample.max(0)].astype(np.float64)
    if varying.shape[1] == 0:
        return {"sampled": len(sample), "effective_dimension": 0.0, "plane": None}
    centred = varying - varying.mean(0)
    if standardized:
        centred /= centred.std(0)
    wide = centred.shape[1] > len(centred)  # then the products of rows have the same eigenvalues
    eigenvalues, vectors = np.linalg.eigh(centred @ centred.T if wide else centred.T @ centred)
    eigenvalues = np.maximum(eigenvalues, 0)  # but for rounding
    found = {
        "sampled": len(sample),
        "effective_dimension": eigenvalues.sum() ** 2 / np.square(eigenvalues).sum(),
        "plane": None,
    }
    if varying.shape[1] == 1:
        return found
    if sample.shape[1] == 2:
        places, axes = varying, ["observation 0", "observation 1"]
    else:
        first = slice(-1, -3, -1)
        places = vectors[:, first] * np.sqrt(eigenvalues[first]) if wide else centred @ vectors[:, first]
        shares = eigenvalues[first] / eigenvalues.sum()
        axes = [f"component {place} ({share:.0%})" for place, share in enumerate(shares, 1)]
    counts, *edges = np.histogram2d(places[:, 0], places[:, 1], BINS)
    return found | {"plane": {"axes": axes, "edges": edges, "counts": counts.astype(np.int64)}}


def of_maze(dataset: Dataset, walls: np.ndarray, extent: tuple[float, float, float, float]) -> dict[str, Any]:
    """How much of a maze was visited; the first two numbers of an observation are the place.

    Args:
        dataset: the dataset, its observations in metres.
        walls: [rows, columns] bool, the first row at the bottom.
        extent: left, right, bottom and top, metres.

    Returns:
        free_cells, visited_cells, and counts [CELL_BINS rows, CELL_BINS columns] of observations.
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
