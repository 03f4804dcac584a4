"""Wraps an agent so that it learns from randomly shifted images, and acts on images as they are.

With a given probability all images of a batch are shifted, each by a random number of pixels up or down and
left or right; new pixels repeat the edge. The images of a transition (its observation, its successor, its
goals) have one common shift, as in OGBench's agents, or independent shifts, as in DrQ. Of observations of
several parts only the images are shifted.

Inside `normalized` it shifts images from which the mean image was subtracted, so a background that is the
same in all images does not move.

Source: Park et al. 2025, arXiv:2410.20092; Yarats et al. 2021, arXiv:2107.09645, section 3.1, with whole
pixels.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from valuelab.configuration import Settings, setting
from valuelab.errors import InputError
from valuelab.observation_parts import is_image
from valuelab.ops.images import shift
from valuelab.types import Agent, Array, Key, Metrics, Spec, TrainState, Transitions

_STREAM = 0x5817F7
"""Differs from the steps with which agents fold their keys."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImageShift(Settings):
    """How images of a batch are moved at random."""

    pixels: int = setting(
        0, "[0, inf)", "Largest move in each direction, in pixels; 0 leaves images where they are."
    )
    probability: float = setting(1.0, "[0, 1]", "Probability in [0, 1] that the images of a batch move.")
    together: bool = setting(
        True, help="Move all images of a transition alike; otherwise each moves its own way."
    )


def shifted(agent: Agent, config: ImageShift, spec: Spec) -> Agent:
    """Wraps an agent so that it learns from shifted images.

    Args:
        agent: an agent of images; its state holds a TrainState, whose key and step give the random key.
        config: the shifts.
        spec: the spec of the data.

    Returns:
        The wrapped agent; the agent itself if config.pixels is 0.

    Raises:
        InputError: when observations are not images, or are smaller than the shift.
    """
    if config.pixels == 0:
        return agent
    shapes = [part.shape for part in spec.observation_parts if is_image(part)] or [spec.observation_shape]
    for shape in shapes:
        if len(shape) != 3:
            raise InputError(
                f"data.image_shift.pixels is {config.pixels}, but observations of shape {shape} "
                "are not images: leave it out"
            )
        height, width, _ = shape
        if config.pixels >= min(height, width):
            raise InputError(
                f"data.image_shift.pixels is {config.pixels}, but images have {height} x {width} pixels: "
                f"give less than {min(height, width)}"
            )

    def update(state: Any, batch: Transitions) -> tuple[Any, Metrics]:
        parts = jax.tree.leaves(state, is_leaf=lambda part: isinstance(part, TrainState))
        part = next((part for part in parts if isinstance(part, TrainState)), None)
        if part is None:
            raise InputError(
                "data.image_shift draws from the key of a TrainState, but the agent's state holds none: "
                "leave it out"
            )
        key = jax.random.fold_in(jax.random.fold_in(part.key, _STREAM), part.step)
        return agent.update(state, shift_batch(key, batch, config))

    return agent._replace(update=update)


def shift_batch(key: Key, batch: Transitions, config: ImageShift) -> Transitions:
    """The batch with shifted images, including those of segments [B, H, ...].

    Args:
        key: random key.
        batch: transitions with images.
        config: the shifts.
    """
    whether_key, steps_key = jax.random.split(key)
    whether = jax.random.bernoulli(whether_key, config.probability).astype(jnp.int32)

    def draw(key: Key, count: int) -> Array:
        return whether * jax.random.randint(key, (count, 2), -config.pixels, config.pixels + 1)

    def shift_images(own_key: Key, images: Array) -> Array:
        flat = images.reshape(-1, *images.shape[-3:])
        if config.together:
            steps = jnp.repeat(draw(steps_key, len(images)), len(flat) // len(images), axis=0)
        else:
            steps = draw(own_key, len(flat))
        return shift(flat, steps).reshape(images.shape)

    def shift_all(number: int, observations: Any) -> Any:
        own_key = jax.random.fold_in(steps_key, number)
        if not isinstance(observations, Mapping):
            return None if observations is None else shift_images(own_key, observations)
        axes = batch.observations  # segments have one more
        return {
            name: shift_images(jax.random.fold_in(own_key, index), part) if axes[name].ndim == 4 else part
            for index, (name, part) in enumerate(sorted(observations.items()))
        }

    segments = batch.segments
    return batch._replace(
        observations=shift_all(0, batch.observations),
        next_observations=shift_all(1, batch.next_observations),
        goals=shift_all(2, batch.goals),
        policy_goals=shift_all(3, batch.policy_goals),
        futures=shift_all(4, batch.futures),
        segments=segments and segments._replace(observations=shift_all(5, segments.observations)),
        subgoals=shift_all(6, batch.subgoals),
        policy_subgoals=shift_all(7, batch.policy_subgoals),
    )
