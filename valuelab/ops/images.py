"""Transformations of images."""

import chex
import jax
import jax.numpy as jnp

from valuelab.types import Array


def shift(images: Array, by: Array) -> Array:
    """Shifts each image by its own number of whole pixels; new pixels repeat the edge.

        y[i, j] = x[clip(i + by_0), clip(j + by_1)]

    Args:
        images: x, [B, H, W, C], of any dtype.
        by: [B, 2] int, numbers of rows and columns.

    Returns:
        [B, H, W, C].
    """
    chex.assert_rank([images, by], [4, 2])
    _, height, width, _ = images.shape

    def shift_one(image: Array, steps: Array) -> Array:
        rows, columns = (
            jnp.clip(jnp.arange(length) + step, 0, length - 1)
            for length, step in zip((height, width), steps, strict=True)
        )
        return image[rows[:, None], columns[None]]

    return jax.vmap(shift_one)(images, by)
