"""Maths of images."""

import chex
import jax
import jax.numpy as jnp

from valuelab.types import Array


def shift(images: Array, by: Array) -> Array:
    """Images moved by whole pixels, each its own way; what comes into sight repeats the edge.

    Args:
        images: [B, H, W, C], of any dtype.
        by: [B, 2] int, rows and columns by which what is seen lies further on.

    Returns:
        [B, H, W, C].
    """
    chex.assert_rank([images, by], [4, 2])
    _, height, width, _ = images.shape

    def moved(image: Array, steps: Array) -> Array:
        rows, columns = (
            jnp.clip(jnp.arange(length) + step, 0, length - 1)
            for length, step in zip((height, width), steps, strict=True)
        )
        return image[rows[:, None], columns[None]]

    return jax.vmap(moved)(images, by)
