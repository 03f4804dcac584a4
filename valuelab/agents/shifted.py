"""An agent that learns from images that are moved a little at random, and acts on images as they are.

With a probability, all images of a batch are moved, each by up to so many pixels up or down, left or right;
what comes into sight repeats the edge. The images of a transition (its observation, its successor, its goals)
move together, as OGBench's agents have it, or each its own way, as DrQ has it.

Inside `normalized` it moves what is left when the mean image is taken away, so that what stands still in all
images does not move.

Source: Park et al. 2025, arXiv:2410.20092; Yarats et al. 2021, arXiv:2107.09645, section 3.1, with whole
pixels.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from valuelab.configuration import check_ranges
from valuelab.errors import InputError
from valuelab.ops.images import shift
from valuelab.types import Agent, Array, Key, Metrics, Spec, TrainState, Transitions

_STREAM = 0x5817F7
"""Far from the steps by which parts split their keys."""


@dataclasses.dataclass(frozen=True)
class ImageShift:
    """How images of a batch are moved at random.

    Attributes:
        pixels: by which they move at most, in each direction; 0 leaves them where they are.
        probability: in [0, 1], of a batch that its images move.
        together: whether all images of a transition move alike; else each moves its own way.
    """

    pixels: int = 0
    probability: float = 1.0
    together: bool = True

    def __post_init__(self) -> None:
        check_ranges(self, pixels="[0, inf)", probability="[0, 1]")


def shifted(agent: Agent, config: ImageShift, spec: Spec) -> Agent:
    """Wraps an agent so that it learns from moved images.

    Args:
        agent: of images; its state holds a TrainState, from whose key and step the moves are drawn.
        config: how they move.
        spec: of the data.

    Returns:
        The agent itself where nothing moves.

    Raises:
        InputError: when observations are no images, or too small to move so far.
    """
    if config.pixels == 0:
        return agent
    if len(spec.observation_shape) != 3:
        raise InputError(
            f"data.image_shift.pixels is {config.pixels}, and observations of shape {spec.observation_shape} "
            "are no images: leave it out"
        )
    height, width, _ = spec.observation_shape
    if config.pixels >= min(height, width):
        raise InputError(
            f"data.image_shift.pixels is {config.pixels}, and images have {height} x {width} pixels: "
            f"give less than {min(height, width)}"
        )

    def update(state: Any, batch: Transitions) -> tuple[Any, Metrics]:
        parts = jax.tree.leaves(state, is_leaf=lambda part: isinstance(part, TrainState))
        part = next((part for part in parts if isinstance(part, TrainState)), None)
        if part is None:
            raise InputError("images are moved by the key of a TrainState, and the agent's state holds none")
        key = jax.random.fold_in(jax.random.fold_in(part.key, _STREAM), part.step)
        return agent.update(state, moved(key, batch, config))

    return agent._replace(update=update)


def moved(key: Key, batch: Transitions, config: ImageShift) -> Transitions:
    """The batch with its images moved; segments [B, H, ...] too.

    Args:
        key: random.
        batch: of images.
        config: how they move.
    """
    whether_key, steps_key = jax.random.split(key)
    whether = jax.random.bernoulli(whether_key, config.probability).astype(jnp.int32)

    def draw(key: Key, count: int) -> Array:
        return whether * jax.random.randint(key, (count, 2), -config.pixels, config.pixels + 1)

    def move(number: int, images: Array | None) -> Any:
        if images is None:
            return None
        flat = images.reshape(-1, *images.shape[-3:])
        if config.together:
            steps = jnp.repeat(draw(steps_key, len(images)), len(flat) // len(images), axis=0)
        else:
            steps = draw(jax.random.fold_in(steps_key, number), len(flat))
        return shift(flat, steps).reshape(images.shape)

    segments = batch.segments
    return batch._replace(
        observations=move(0, batch.observations),
        next_observations=move(1, batch.next_observations),
        goals=move(2, batch.goals),
        policy_goals=move(3, batch.policy_goals),
        futures=move(4, batch.futures),
        segments=segments and segments._replace(observations=move(5, segments.observations)),
    )
