"""Episodes and transitions that a dataset holds more than once."""

import numpy as np

from valuelab.data import storage
from valuelab.types import Dataset

_FACTOR = np.uint64(0x9E3779B97F4A7C15)  # 2⁶⁴ / golden ratio, an odd number with well-mixed bits


def copies(dataset: Dataset, rows: np.ndarray, lengths: np.ndarray) -> dict[str, int]:
    """Counts episodes and transitions that repeat earlier ones bit for bit.

    Args:
        dataset: the dataset.
        rows: [M], the row of each transition.
        lengths: [E], the number of transitions of each episode.

    Returns:
        The report:

        - episodes: the number of episodes that repeat all observations and actions of an earlier one.
        - transitions: the number of transitions in other episodes that repeat the observation and action of
          an earlier one.
    """
    pieces = zip(storage.pieces(dataset, rows), storage.pieces(dataset, rows, "actions"), strict=True)
    hashes = np.concatenate([_hashes(*pair) for pair in pieces])
    starts = np.cumsum(lengths) - lengths
    places = (np.arange(len(rows)) - np.repeat(starts, lengths)).astype(np.uint64)
    whole = np.add.reduceat(_mixed(hashes + places * _FACTOR), starts)
    first = np.zeros(len(lengths), bool)
    first[np.unique(whole, return_index=True)[1]] = True
    others = hashes[np.repeat(first, lengths)]
    return {
        "episodes": len(lengths) - int(first.sum()),
        "transitions": len(others) - len(np.unique(others)),
    }


def _hashes(*arrays: np.ndarray) -> np.ndarray:
    """Hashes [P] uint64 of the bytes in each row of arrays [P, ...]; different rows rarely collide."""
    columns = [np.ascontiguousarray(array).view(np.uint8) for array in arrays]
    data = np.concatenate(columns, axis=1)
    words = np.pad(data, ((0, 0), (0, -data.shape[1] % 8))).view(np.uint64)
    hashes = np.zeros(len(words), np.uint64)
    for word in np.ascontiguousarray(words.T):
        hashes = _mixed(hashes ^ word)
    return hashes


def _mixed(hashes: np.ndarray) -> np.ndarray:
    """Spreads every bit over all bits; a bijection."""
    hashes = hashes * _FACTOR
    return (hashes ^ (hashes >> np.uint64(32))) * _FACTOR
