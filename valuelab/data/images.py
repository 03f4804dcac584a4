"""Smaller images, for datasets whose cameras see more than networks need."""

from collections.abc import Sequence

import numpy as np

from valuelab.errors import InputError


def target_size(stored: Sequence[int], size: Sequence[int], where: str) -> tuple[int, int]:
    """The height and width of images after resizing.

    Args:
        stored: height and width of the stored images.
        size: () to keep them, (s,) for height and width s, or (height, width).
        where: the dataset and the images, for messages.

    Raises:
        InputError: for other sizes, or a size larger than the stored one.
    """
    height, width = stored
    if not size:
        return height, width
    target = (size[0], size[0]) if len(size) == 1 else tuple(size)
    if len(target) != 2 or not (0 < target[0] <= height and 0 < target[1] <= width):
        raise InputError(
            f"{where}: data.image_size is {tuple(size)}, but images are {height} x {width}: give one or two "
            "numbers that are not larger"
        )
    return target


def resized(images: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Images whose pixels are the averages of the areas that they cover.

    Args:
        images: [N, H, W, C] uint8.
        size: new height and width, at most H and W.

    Returns:
        [N, height, width, C] uint8, rounded; the same array where the size is unchanged.
    """
    if images.shape[1:3] == size:
        return images
    rows, columns = (_averages(old, new) for old, new in zip(images.shape[1:3], size, strict=True))
    small = np.empty((len(images), *size, images.shape[3]), np.uint8)
    for number, image in enumerate(images):  # one by one, which saves a copy of all in float32
        averaged = np.tensordot(rows, image.astype(np.float32), axes=1)  # [height, W, C]
        small[number] = np.rint(np.einsum("yxc,wx->ywc", averaged, columns, optimize=True))
    return small


def _averages(old: int, new: int) -> np.ndarray:
    """The matrix [new, old] that averages `old` pixels over `new` equal intervals."""
    edges = np.arange(new + 1) * old / new
    pixels = np.arange(old)
    overlap = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    return (np.maximum(overlap, 0) * new / old).astype(np.float32)
