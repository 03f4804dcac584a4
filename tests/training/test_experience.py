"""Tests of acting inside the loop: stored rows, drawn batches, and resuming to the same bits."""

import contextlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import assert_close, assert_same_bits, without_speed

from valuelab.errors import InputError
from valuelab.networks import learning
from valuelab.training import Checkpoints, loop, make_mesh, replay
from valuelab.training.experience import Interaction, blank, online
from valuelab.types import Agent, Augmented, Memory, Outcomes, Spec, VectorEnvironment

LENGTHS = (3, 5)
"""Lane i ends an episode after LENGTHS[i] steps: lane 0 terminates, lane 1 reaches a time limit."""


def counters(frames=1):
    """Two lanes that count steps: lane i shows [i, episode, step], rewards are the step's number.

    With frames, an observation is the stack of the last ones, as an image of 1 x 3 pixels.
    """
    lanes, limits = jnp.arange(2), jnp.array(LENGTHS)

    def show(episode, step):
        numbers = jnp.stack([lanes, episode, step], axis=1)
        if frames == 1:
            return numbers.astype(jnp.float32)
        steps = step[:, None] - jnp.arange(frames - 1, -1, -1)[None]  # oldest first
        stacked = jnp.broadcast_to(numbers[:, None, :, None], (2, 1, 3, frames)).astype(jnp.int32)
        stacked = stacked.at[:, 0, 2].set(steps)
        return jnp.where(steps[:, None, None] >= 0, stacked + 1, 0).astype(jnp.uint8)

    def reset(key):
        zeros = jnp.zeros(2, jnp.int32)
        return (zeros, zeros, zeros > 0), show(zeros, zeros)

    def step(simulation, actions):
        episode, count, ended = simulation
        episode, count = episode + ended, jnp.where(ended, 0, count + 1)
        over = count == limits
        outcomes = Outcomes(
            observations=show(episode, count),
            rewards=jnp.where(ended, 0.0, count),
            terminated=over & (lanes == 0),
            truncated=over & (lanes == 1),
        )
        return (episode, count, over), outcomes

    shape, dtype = ((3,), "float32") if frames == 1 else ((1, 3, frames), "uint8")
    spec = Spec(shape, dtype, action_dim=0, num_actions=4, reward_min=0.0, reward_max=5.0)
    return VectorEnvironment("counters", spec, 2, 5, reset, step, frames)


def summing_agent(memory=None):
    """Fits rewards linearly and acts at random; its metrics show its memory at its last action."""
    optimizer = optax.sgd(0.01)

    def init(key, example):
        params = {"w": jnp.zeros(example.observations.shape[1:])}
        return learning.start(key, params, params, optimizer.init(params))

    def update(state, batch):
        def loss(params):
            errors = jnp.tensordot(batch.observations, params["w"], batch.observations.ndim - 1)
            return jnp.mean(jnp.square(errors - batch.rewards)), {}

        params, opt_state, metrics = learning.gradient_step(loss, optimizer, state.params, state.opt_state)
        return state._replace(params=params, opt_state=opt_state, step=state.step + 1), metrics

    def act(state, observations, key, temperature):
        seen = observations.memory if isinstance(observations, Augmented) else observations
        return jax.random.randint(key, (len(seen),), 0, 4)

    return Agent(init, update, act, memory=memory)


def sum_of_rewards():
    """A memory that starts at 100 and adds rewards: its value follows from the observations of a lane."""
    return Memory(
        commands={},
        draw=lambda state, observations, key: jnp.full(len(observations), 100.0),
        choose=lambda state, observations, commands: commands[:, 0],
        update=lambda memory, rewards: memory + rewards,
        discount=1.0,
        score=lambda command, first, returns: returns,
    )


SETTINGS = Interaction(num_environments=2, capacity=40, warmup_steps=12, update_to_data=0.25)


def filled(frames=1, capacity=40, steps=30, memory=None):
    """A buffer and its lanes after a number of steps; those of one update are not warmup."""
    settings = Interaction(num_environments=2, capacity=capacity, warmup_steps=steps - 4, update_to_data=0.25)
    experience = online(counters(frames), 64, settings)
    agent = summing_agent(memory)
    state = jax.jit(agent.init)(jax.random.key(0), blank(counters(frames).spec, 1))

    def fill(key):
        carry = experience.init((), agent, state, key)
        return experience.collect(carry, agent, state, 0, key)[0]

    return experience, jax.jit(fill)(jax.random.key(1))


# What is stored and drawn.


def test_rows_are_stored_as_compact_datasets_are():
    _, (lanes, stored) = filled(capacity=60, steps=30)
    assert int(stored.written) == 15
    rows = jax.tree.map(lambda leaf: np.asarray(leaf)[:15], stored.rows)
    # Lane 0: states 0 1 2, the final one, then the next episode: three transitions, then a row without one.
    np.testing.assert_array_equal(rows.observations[:8, 0, 2], [0, 1, 2, 3, 0, 1, 2, 3])
    np.testing.assert_array_equal(rows.observations[:8, 0, 1], [0, 0, 0, 0, 1, 1, 1, 1])
    np.testing.assert_array_equal(rows.valid[:8, 0], [1, 1, 1, 0] * 2)
    np.testing.assert_array_equal(rows.rewards[:8, 0], [1, 2, 3, 0] * 2)
    np.testing.assert_array_equal(rows.masks[:8, 0], [1, 1, 0, 1] * 2)
    # Lane 1 is cut by its time limit: the mask stays 1.
    np.testing.assert_array_equal(rows.valid[:6, 1], [1, 1, 1, 1, 1, 0])
    np.testing.assert_array_equal(rows.masks[:6, 1], np.ones(6))
    np.testing.assert_array_equal(lanes.last_returns, [6, 15])  # 1 + 2 + 3, 1 + ... + 5
    np.testing.assert_array_equal(lanes.last_lengths, [3, 5])


@pytest.mark.parametrize("frames", [1, 3])
@pytest.mark.parametrize("capacity", [24, 200])  # the ring is full, or not
def test_batches_are_transitions(frames, capacity):
    experience, carry = filled(frames, capacity, steps=24)
    carry = jax.jit(lambda carry: experience.collect(carry, summing_agent(), (), 1, jax.random.key(2)))(
        carry
    )[0]
    batch = experience.sample((), carry, jax.random.key(3))
    assert batch.observations.dtype == (jnp.float32 if frames == 1 else jnp.uint8)
    state, after = (
        (np.asarray(observations, int) if frames == 1 else np.asarray(observations, int)[:, 0, :, -1] - 1)
        for observations in (batch.observations, batch.next_observations)
    )
    lane, step = state[:, 0], state[:, 2]
    np.testing.assert_array_equal(after[:, :2], state[:, :2])  # the same lane and episode
    np.testing.assert_array_equal(after[:, 2], step + 1)
    np.testing.assert_array_equal(batch.rewards, step + 1)
    np.testing.assert_array_equal(batch.masks, ~((lane == 0) & (step + 1 == LENGTHS[0])))
    assert {(0, 0), (0, 2), (1, 0), (1, 4)} <= set(zip(lane.tolist(), step.tolist(), strict=True))
    if frames > 1:
        episode = jnp.asarray(state[:, 1])
        for observations, steps in ((batch.observations, step), (batch.next_observations, step + 1)):
            expected = steps[:, None] - np.arange(frames - 1, -1, -1) + 1
            np.testing.assert_array_equal(observations[:, 0, 2], np.maximum(expected, 0))
            past = np.where(expected > 0, np.asarray(episode)[:, None] + 1, 0)
            np.testing.assert_array_equal(observations[:, 0, 1], past)


def test_draws_are_uniform_over_transitions():
    """Lane 0 has 3 transitions in 4 rows, lane 1 has 5 in 6: all are equally likely within their lane."""
    _, (_, stored) = filled(capacity=400, steps=2 * 121)
    batch = jax.jit(lambda key: replay.sample(stored, key, 40_000, 1))(jax.random.key(0))
    lane, step = np.asarray(batch.observations)[:, [0, 2]].astype(int).T
    counts = np.array([np.sum((lane == 0) & (step == number)) for number in range(3)])
    # Four standard deviations of a count with mean 20000 * 0.95 / 3 are 260; the last transition replaces
    # four misses, which have probability 0.2⁴.
    np.testing.assert_allclose(counts, counts.mean(), atol=330)


def test_memory_follows_the_episode():
    _, (lanes, _) = filled(memory=sum_of_rewards(), steps=30)
    step = np.asarray(lanes.observations)[:, 2]
    np.testing.assert_array_equal(lanes.memory, 100 + step * (step + 1) / 2)


@pytest.mark.parametrize(
    ("update_to_data", "expected"), [(0.25, [2] * 8), (0.2, [2, 3] * 4), (1, [0, 1] * 4), (4, [0] * 7 + [1])]
)
def test_steps_per_update(update_to_data, expected):
    """Vector steps of two environments before each update: 1 / (2 · update_to_data) on average."""
    experience = online(
        counters(),
        4,
        Interaction(num_environments=2, capacity=40, warmup_steps=12, update_to_data=update_to_data),
    )
    taken = [experience.environment_steps(update) for update in range(9)]
    assert taken[0] == 0  # the warmup comes with the first update
    np.testing.assert_array_equal(np.diff([12, *taken[1:]]) / 2, expected)


# The loop.


def train(**settings):
    given = {"agent": summing_agent(sum_of_rewards()), "experience": online(counters(), 8, SETTINGS)}
    given |= {"steps": 11, "log_every": 4, "mesh": make_mesh(1, 8, (1, 1)), "show_progress": False}
    return loop.train(**(given | settings))


@pytest.mark.parametrize("field", ["rewards", "observations"])
def test_what_is_not_finite_stops_a_run_before_it_is_saved(field, tmp_path):
    environment = counters()

    def step(simulation, actions):
        simulation, outcomes = environment.step(simulation, actions)
        met = getattr(outcomes, field)
        episode = simulation[0].reshape(-1, *[1] * (met.ndim - 1))
        return simulation, outcomes._replace(**{field: jnp.where(episode == 2, jnp.nan, met)})

    broken = online(environment._replace(step=step), 8, SETTINGS)
    with contextlib.closing(Checkpoints(tmp_path, {})) as checkpoints:
        with pytest.raises(
            loop.NonFiniteError, match=r"online/return is not finite at update \d+.*: check the"
        ):
            train(experience=broken, checkpoints=checkpoints)
        assert checkpoints.latest_step() is None


def test_a_long_past_fault_is_not_forgotten():
    experience, (lanes, replay) = filled()
    faulty = lanes._replace(returns=lanes.returns.at[0].set(jnp.nan), ended=jnp.ones(2, bool))
    state = summing_agent().init(jax.random.key(0), blank(counters().spec, 1))
    collected = experience.collect((faulty, replay), summing_agent(), state, 1, jax.random.key(1))
    assert jnp.isnan(collected[1]["online/return"])


@pytest.mark.parametrize("actions", [jnp.zeros(2), jnp.zeros(1, jnp.int32), jnp.zeros((2, 1), jnp.int32)])
def test_actions_of_another_form_are_refused(actions):
    agent = summing_agent()._replace(act=lambda *_: actions)
    with pytest.raises(InputError, match=r"the agent's actions are .*, but counters takes integers \[2\]"):
        train(agent=agent)


def test_an_interrupted_run_goes_on_to_the_same_bits(tmp_path):
    def stop(states, step):
        raise KeyboardInterrupt

    straight, rows = train(), []
    with contextlib.closing(Checkpoints(tmp_path / "checkpoints", {})) as checkpoints:
        with pytest.raises(KeyboardInterrupt):
            train(checkpoints=checkpoints, evaluate=stop, eval_every=6, write=rows.extend)
        resumed = train(checkpoints=checkpoints, write=rows.extend)
    assert_same_bits(resumed.states, straight.states)
    assert without_speed(rows) == without_speed(straight.rows)
    assert straight.rows[-1]["environment_steps"] == 12 + 11 * 4


@pytest.mark.slow
def test_seeds_and_devices_do_not_change_a_member():
    one = train()
    many = train(seeds=[0, 1], mesh=make_mesh(2, 8, (2, 2)))
    assert_close(many.member(0), one.member(0))
    assert [row["online/length"] for row in many.rows if row["seed"] == 0] == [
        row["online/length"] for row in one.rows
    ]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"warmup_steps": 3}, "warmup_steps is 3, but must be at least 4 "),
        ({"capacity": 10}, "warmup_steps is 12, but must .* at most the capacity 10"),
        ({"update_to_data": 0}, r"update_to_data is 0; it must lie in \[0.0001, 10000\]"),
        ({"dataset_share": -0.1}, r"dataset_share is -0.1; it must lie in \[0, 1\]"),
        ({"num_environments": 0}, r"num_environments is 0; it must lie in \[1, inf\)"),
    ],
)
def test_settings_that_cannot_be(settings, message):
    given = {"num_environments": 2, "capacity": 40, "warmup_steps": 12, "update_to_data": 0.25}
    with pytest.raises(InputError, match=message):
        Interaction(**(given | settings))


def test_a_buffer_must_hold_a_stack():
    with pytest.raises(InputError, match=r"too few steps for each of 2 environments: give more than 6"):
        online(
            counters(frames=3),
            4,
            Interaction(num_environments=2, capacity=6, warmup_steps=6, update_to_data=0.25),
        )
