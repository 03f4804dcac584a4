"""Images moved at random: by how much, how often, and what moves together."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from valuelab.agents.shifted import ImageShift, shift_batch, shifted
from valuelab.errors import InputError
from valuelab.networks import learning
from valuelab.types import Agent, Segments, Spec, Transitions

SIDE, PIXELS, SIZE = 9, 2, 64
IMAGES = Spec((SIDE, SIDE, 1), "uint8", 1, 0, 0.0, 1.0)


def batch() -> Transitions:
    """The same image everywhere, each of whose pixels tells its row and column."""
    rows, columns = np.mgrid[:SIDE, :SIDE]
    image = (16 * rows + columns).astype(np.uint8)[..., None]
    images = np.repeat(image[None], SIZE, axis=0)
    zeros = np.zeros(SIZE, np.float32)
    segments = Segments(zeros[:, None], np.stack([images] * 2, axis=1), zeros[:, None])
    names = ("observations", "next_observations", "goals", "policy_goals", "subgoals", "policy_subgoals")
    return Transitions(
        actions=zeros[:, None],
        rewards=zeros,
        masks=zeros,
        futures=images,
        segments=segments,
        **dict.fromkeys(names, images),
    )


def all_steps(config):
    """By how much observations, successors, goals, subgoals, futures and segments moved, [9, SIZE, 2]."""
    found = jax.jit(shift_batch, static_argnums=2)(jax.random.key(0), batch(), config)
    assert found.observations.dtype == jnp.uint8
    parts = (*found[:1], *found[4:9], found.futures, *jnp.moveaxis(found.segments.observations, 1, 0))
    images = np.stack(parts)[..., 0].astype(int)
    middle = images[..., SIDE // 2, SIDE // 2]
    steps = np.stack([middle // 16, middle % 16], axis=-1) - SIDE // 2
    places = np.clip(np.arange(SIDE) + steps[..., None], 0, SIDE - 1)
    np.testing.assert_array_equal(images, 16 * places[..., 0, :, None] + places[..., 1, None, :])
    return steps


def test_images_of_a_transition_move_together_or_each_its_own_way():
    together = all_steps(ImageShift(pixels=PIXELS))
    apart = all_steps(ImageShift(pixels=PIXELS, together=False))
    np.testing.assert_array_equal(together, np.broadcast_to(together[:1], together.shape))
    assert all((apart[0] != other).any() for other in apart[1:])
    for steps in (together[0], *apart):
        # All of the 25 shifts have the same chance: 64 draws miss one of five in a direction hardly ever.
        assert {tuple(np.unique(steps[:, axis])) for axis in (0, 1)} == {(-2, -1, 0, 1, 2)}
        assert len(np.unique(steps, axis=0)) > 15


def test_a_batch_moves_with_the_probability_asked_for():
    def moves(key):
        config = ImageShift(pixels=PIXELS, probability=0.25)
        return jnp.any(shift_batch(key, batch(), config).observations != batch().observations)

    shares = jax.jit(jax.vmap(moves))(jax.random.split(jax.random.key(0), 200))
    assert 0.15 < shares.mean() < 0.35  # three standard errors


def test_an_agent_learns_from_moved_images_and_acts_on_others():
    def init(key, example):
        return {"part": learning.start(key, {}, {}, ())}

    def update(state, batch):
        part = state["part"]
        return {"part": part._replace(step=part.step + 1)}, {"seen": batch.observations}

    agent = Agent(init, update, act=lambda state, observations, key, temperature: observations)
    wrapped = shifted(agent, ImageShift(pixels=PIXELS), IMAGES)
    state = wrapped.init(jax.random.key(0), batch())
    after, first = wrapped.update(state, batch())
    _, again = wrapped.update(state, batch())
    _, second = wrapped.update(after, batch())
    np.testing.assert_array_equal(first["seen"], again["seen"])
    assert not np.array_equal(first["seen"], second["seen"])
    assert wrapped.act is agent.act
    assert shifted(agent, ImageShift(), IMAGES) is agent


def test_what_cannot_be_moved_is_refused():
    agent = Agent(lambda key, example: (), lambda state, batch: (state, {}), None)
    with pytest.raises(InputError, match=r"pixels is 9, but images have 9 x 12 pixels: give less than 9$"):
        shifted(agent, ImageShift(pixels=9), Spec((9, 12, 3), "uint8", 1, 0, 0.0, 1.0))
    with pytest.raises(InputError, match=r"data.image_shift.pixels is 2, but observations of shape \(3,\)"):
        shifted(agent, ImageShift(pixels=PIXELS), Spec((3,), "float32", 1, 0, 0.0, 1.0))
    with pytest.raises(InputError, match="the agent's state holds none"):
        shifted(agent, ImageShift(pixels=PIXELS), IMAGES).update((), batch())
