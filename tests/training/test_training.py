"""Tests of the loop: what may change the result of a run, and what must not."""

import functools
import os
import pty
import signal
import subprocess
import sys
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import assert_close, assert_same_bits, linear_agent, make_sampler, without_speed

from valuelab.errors import InputError
from valuelab.training import Checkpoints, Interrupted, NonFiniteError, loop, make_mesh
from valuelab.training.experience import offline

STEPS = 23


def train(**settings):
    given = {"agent": linear_agent(), "experience": make_sampler(), "steps": STEPS, "log_every": 5}
    given |= {"mesh": make_mesh(1, 8, (1, 1)), "show_progress": False}
    return loop.train(**(given | settings))


@functools.cache
def straight():
    """The run without interruptions."""
    return train()


@functools.cache
def evaluated():
    """The same run, evaluated every fourth update."""
    return train(eval_every=4, evaluate=stop_at(None, kill))


@pytest.fixture
def checkpoints(tmp_path):
    with_facts = Checkpoints(tmp_path / "checkpoints", {"facts": 1})
    yield with_facts
    with_facts.close()


class Killed(Exception):
    pass


def stop_at(step, by):
    """An evaluation that is interrupted at one step."""

    def evaluate(states, now):
        if now == step:
            by()
        return {"score": np.zeros(1)}

    return evaluate


def kill():
    raise Killed


# Resuming.


@pytest.mark.parametrize("step", [4, 12, 20, STEPS])
def test_a_killed_run_goes_on_to_the_same_bits(checkpoints, step):
    settings = {"checkpoint_every": 3, "eval_every": 4, "checkpoints": checkpoints}
    rows = []
    with pytest.raises(Killed):
        train(evaluate=stop_at(step, kill), write=rows.extend, **settings)

    def rewind(saved, _):
        assert saved == step  # a step is saved before it is evaluated
        return rows[-1]["step"] if rows else 0

    resumed = train(evaluate=stop_at(None, kill), write=rows.extend, on_resume=rewind, **settings)
    assert_same_bits(evaluated().states, resumed.states)
    assert without_speed(rows) == without_speed(evaluated().rows)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("step", [5, 10])
def test_a_signal_saves_and_the_same_call_goes_on(checkpoints, number, step):
    """Step 10 is a checkpoint anyway: on a request to stop at this step the run must not save it twice."""
    settings = {"eval_every": 5, "checkpoint_every": 10, "checkpoints": checkpoints}

    def stop_here():
        assert checkpoints.latest_step() == step
        signal.raise_signal(number)
        raise AssertionError("the evaluation goes on")

    ask, rows = stop_at(step, stop_here), []
    with pytest.raises(Interrupted, match=f"stopped after update {step} of {STEPS}"):
        train(evaluate=ask, write=rows.extend, **settings)
    assert checkpoints.latest_step() == step
    resumed = train(evaluate=stop_at(None, kill), write=rows.extend, **settings)
    assert_same_bits(straight().states, resumed.states)
    assert [row["step"] for row in rows] == [5, 10, 15, 20, STEPS]


ON_A_TERMINAL = """
import fcntl, sys, termios

fcntl.ioctl(0, termios.TIOCSCTTY, 0)
sys.path.insert(0, "tests")
from valuelab.runs import train
from helpers import linear_agent, make_sampler
from valuelab.training import loop

train.main((None, None), lambda *_: loop.train(linear_agent(), make_sampler(), steps=10**9))
"""


def test_a_terminal_that_closes_stops_a_run_as_ctrl_c_does():
    ours, theirs = pty.openpty()
    command = [sys.executable, "-c", ON_A_TERMINAL]
    with subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
    ) as process:
        os.close(theirs)
        shown = b""
        while b"updates/s" not in shown:
            shown += os.read(ours, 1000)
        os.close(ours)
        assert process.wait(60) == 130


def test_a_signal_right_after_resuming_saves_nothing_twice(checkpoints):
    def ask(step, _):
        signal.raise_signal(signal.SIGTERM)
        return step

    settings = {"checkpoint_every": 10, "eval_every": 20, "checkpoints": checkpoints}
    with pytest.raises(Killed):
        train(evaluate=stop_at(20, kill), **settings)
    for _ in range(2):
        with pytest.raises(Interrupted, match="stopped after update 20 of"):
            train(on_resume=ask, **settings)
    assert_same_bits(straight().states, train(**settings).states)


def test_a_signal_between_two_events_keeps_what_the_next_row_is_the_mean_of(checkpoints, monkeypatch):
    """Stopped after one slice, between two rows of the log."""
    monkeypatch.setattr(loop, "FIRST_SLICE", 2)
    rows = []
    for _ in range(2):  # the request is seen after the first slice: 2, then 4
        with monkeypatch.context() as asking, pytest.raises(Interrupted):
            train(checkpoints=checkpoints, write=rows.extend, on_resume=ask_after_one_slice(asking))
    monkeypatch.undo()
    assert checkpoints.latest_step() == 4
    assert rows == []
    resumed = train(checkpoints=checkpoints, write=rows.extend)
    assert_same_bits(straight().states, resumed.states)
    assert without_speed(rows) == without_speed(straight().rows)


def ask_after_one_slice(monkeypatch):
    def on_resume(*_):
        wait = jax.block_until_ready

        def wait_and_ask(tree):
            signal.raise_signal(signal.SIGTERM)
            return wait(tree)

        monkeypatch.setattr(jax, "block_until_ready", wait_and_ask)
        return 0

    return on_resume


def test_a_second_ctrl_c_stops_at_once():
    def twice():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        train(on_resume=lambda *_: twice())
    assert signal.getsignal(signal.SIGINT) is before


def test_a_finished_run_is_given_back_from_its_last_checkpoint(checkpoints):
    train(checkpoints=checkpoints)
    again = train(checkpoints=checkpoints, evaluate=stop_at(STEPS, kill), on_resume=lambda step, _: step)
    assert_same_bits(straight().states, again.states)
    assert again.rows == []
    assert again.throughput.updates_per_second == 0


def test_rows_that_were_lost_are_told(checkpoints, caplog):
    settings = {"checkpoint_every": 12, "checkpoints": checkpoints, "eval_every": 11}
    with pytest.raises(Killed):
        train(evaluate=stop_at(22, kill), **settings)
    checkpoints._manager.delete(22)
    with pytest.raises(Killed):
        train(evaluate=stop_at(22, kill), on_resume=lambda *_: 11, **settings)
    assert caplog.text == ""
    checkpoints._manager.delete(22)
    train(on_resume=lambda *_: 5, **settings)
    assert "the log ends at update 5 instead of 11: rows were lost" in caplog.text


# What must not change results.


@pytest.mark.parametrize(
    "intervals",
    [
        {"log_every": 1},
        {"log_every": 100, "eval_every": 2},
        {"log_every": 7, "eval_every": 5, "checkpoint_every": 3},
    ],
)
def test_looking_at_a_run_more_often_changes_no_bit(checkpoints, intervals):
    watched = train(checkpoints=checkpoints, evaluate=stop_at(None, kill), **intervals)
    assert_same_bits(straight().states, watched.states)


def test_where_slices_end_changes_no_bit(monkeypatch):
    monkeypatch.setattr(loop, "FIRST_SLICE", 1)
    monkeypatch.setattr(loop, "SLICE_SECONDS", 0.0)
    sliced = train()
    assert_same_bits(straight().states, sliced.states)
    assert without_speed(straight().rows) == without_speed(sliced.rows)


def in_blocks(monkeypatch):
    """Lets runs on CPUs use blocks of up to 3 updates, as runs on accelerators use longer ones."""
    monkeypatch.setattr(loop, "LONGEST_BLOCK", {"cpu": 3})


@pytest.mark.parametrize("log_every", [5, 6])
def test_blocks_change_no_bit(checkpoints, monkeypatch, log_every):
    """With 5 updates between rows, blocks of 3 leave a rest; with 6 they do not."""
    straight = train(log_every=log_every)
    in_blocks(monkeypatch)
    rows = []
    settings = {"checkpoints": checkpoints, "write": rows.extend, "log_every": log_every}
    with monkeypatch.context() as asking, pytest.raises(Interrupted):
        train(on_resume=ask_after_one_slice(asking), **settings)
    assert 0 < checkpoints.latest_step() < STEPS
    in_blocks(monkeypatch)
    assert_same_bits(straight.states, train(**settings).states)
    assert without_speed(rows) == without_speed(straight.rows)


def test_blocks_divide_the_intervals_where_they_can(monkeypatch):
    monkeypatch.setattr(loop, "LONGEST_BLOCK", {"cpu": 500})
    mesh = make_mesh(1, 8, (1, 1))
    assert loop.block_length(mesh, 1000, 5000, 0) == 500
    assert loop.block_length(mesh, 12, 0, 18) == 6
    assert loop.block_length(mesh, 1) == 1
    assert loop.block_length(mesh, 997) == 500  # prime: 497 updates are left before each row
    assert loop.block_length(mesh, 15, 7) == 7


def test_xla_knows_the_length_of_a_block():
    program, progression, inputs = compiled()
    text = program.advance.lower(progression, *inputs, length=5).compile().as_text()
    assert '"known_trip_count":{"n":"5"}' in text


def test_rows_hold_the_means_over_the_updates_since_the_row_before():
    """Computed by hand from runs that log every update."""
    singly = train(log_every=1).rows
    for row, first in zip(straight().rows, range(0, STEPS, 5), strict=True):
        updates = singly[first : row["step"]]
        for name in ("loss", "noise", "gradient_norm"):
            assert row[name] == pytest.approx(np.mean([update[name] for update in updates]), rel=1e-5)


def test_a_member_of_four_seeds_equals_a_run_of_its_own():
    together = train(seeds=[3, 4, 5, 6])
    for index, seed in ((0, 3), (3, 6)):
        alone = train(seeds=[seed])
        assert_close(together.member(index), alone.member(0))
        ours = [row for row in together.rows if row["seed"] == seed]
        for row, other in zip(ours, alone.rows, strict=True):
            assert row["step"] == other["step"]
            assert row["loss"] == pytest.approx(other["loss"], rel=1e-4)
    assert not np.allclose(together.states.params["w"][0], together.states.params["w"][1], rtol=0.01)


def test_members_on_one_cpu_have_the_bits_of_runs_alone(monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity")  # as on macOS
    together = train(seeds=[3, 4], mesh=make_mesh(2, 8, (1, 1)))
    for index, seed in enumerate((3, 4)):
        alone = train(seeds=[seed], mesh=make_mesh(1, 8, (1, 1)))
        assert_same_bits(together.member(index), alone.member(0))


def test_a_member_of_a_sweep_equals_a_run_with_its_value():
    rates = np.array([0.01, 0.1, 0.3], np.float32)
    swept = train(
        agent=lambda values: linear_agent(values["agent.learning_rate"]),
        seeds=[0, 0, 0],
        hyperparameters={"agent.learning_rate": rates},
    )
    for index, rate in ((0, 0.01), (2, 0.3)):
        assert_close(swept.member(index), train(agent=linear_agent(float(rate))).member(0))
    last = [row for row in swept.rows if row["step"] == STEPS]
    assert [row["agent.learning_rate"] for row in last] == [0.01, 0.1, 0.3]


# One program.


def test_intervals_that_do_not_divide_compile_nothing_anew():
    def count_traces(**settings):
        traces, agent = [], linear_agent()

        def update(state, batch):
            traces.append(None)
            return agent.update(state, batch)

        train(agent=agent._replace(update=update), **settings)
        return len(traces)

    intervals = {"log_every": 7, "eval_every": 5, "evaluate": lambda *_: {"score": [0.0]}}
    assert count_traces(**intervals) == count_traces(log_every=STEPS)


def test_states_are_donated():
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # JAX warns of donated buffers that were not usable
        program, progression, inputs = compiled()
        advanced = program.advance(progression, *inputs, length=5)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(progression))
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves((advanced, inputs)))


def test_nothing_goes_to_the_host_while_updates_run():
    program, progression, inputs = compiled()
    text = program.advance.lower(progression, *inputs, length=5).as_text()
    assert not any(word in text for word in ("callback", "infeed", "outfeed", "send", "recv"))
    with jax.transfer_guard("disallow"):
        jax.block_until_ready(program.advance(progression, *inputs, length=5))


def compiled():
    """The functions of a run and their arguments, on the device."""
    mesh = make_mesh(2, 8, (2, 4))
    program = loop.make_program(lambda _: linear_agent(), offline(make_sampler()), mesh)
    arrays = loop.meshes.place_rows(make_sampler().arrays, mesh)
    keys = jax.device_put(jax.vmap(jax.random.key)(jnp.arange(2)), loop.meshes.by_member(mesh))
    bounds = [jax.device_put(np.int32(bound), loop.meshes.replicated(mesh)) for bound in (0, 2)]
    return program, program.init({}, keys, arrays), ({}, keys, arrays, *bounds)


def test_states_given_to_an_evaluation_may_be_kept():
    kept = []

    def keep(states, step):
        kept.append(states)
        return {}

    train(evaluate=keep, eval_every=10)
    assert [int(states.step[0]) for states in kept] == [10, 20, STEPS]


# Errors.


def poisoned(at_update, part):
    """The linear agent; its metric or its state becomes NaN at an update, counted from 1."""
    agent = linear_agent()

    def update(state, batch):
        state, metrics = agent.update(state, batch)
        bad = jnp.where(state.step == at_update, jnp.nan, 0.0)
        if part == "metric":
            return state, metrics | {"noise": metrics["noise"] + bad}
        return state._replace(
            target_params=jax.tree.map(lambda leaf: leaf + bad, state.target_params)
        ), metrics

    return agent._replace(update=update)


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ("metric", "^noise is not finite at update 17; the last good checkpoint is that of step 15: lower"),
        (
            "state",
            "^the state is not finite after update 18; the last good checkpoint is that of step 15: lower",
        ),
    ],
)
def test_a_nan_stops_the_run_and_is_not_saved(checkpoints, part, message):
    with pytest.raises(NonFiniteError, match=message) as caught:
        train(agent=poisoned(17, part), log_every=6, checkpoint_every=5, checkpoints=checkpoints)
    assert "\n" not in str(caught.value)
    assert checkpoints.latest_step() == 15


def test_a_nan_names_its_member(checkpoints):
    """Only the member with the learning rate 1e30 overflows."""
    with pytest.raises(NonFiniteError, match=r"is not finite at update \d+ \(agent.x 1e\+30, seed 7\): "):
        train(
            agent=lambda values: linear_agent(values["agent.x"]),
            seeds=[7, 7],
            hyperparameters={"agent.x": np.array([0.1, 1e30])},
        )


def test_a_nan_in_the_data_stops_the_run():
    sampler = make_sampler()
    sampler.arrays["rewards"][11] = np.nan
    with pytest.raises(
        NonFiniteError, match=r"^gradient_norm is not finite at update \d+: lower .* the data$"
    ):
        train(experience=sampler)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": 0}, "steps is 0, but must be positive"),
        ({"log_every": 0}, "log_every 0, eval_every 0 and checkpoint_every 0 must be positive"),
        ({"eval_every": -1}, "eval_every -1"),
        ({"checkpoint_every": -1}, "checkpoint_every -1"),
        (
            {"mesh": None, "experience": make_sampler(6)},
            "batch_size 6 is not divisible by the data axis of 8",
        ),
    ],
)
def test_settings_that_cannot_be_used_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        train(**settings)


def test_metrics_of_skipped_steps_do_not_count():
    sums = {
        "loss": [6.0, 6.0],
        "critic/q": [3.0, 9.0],
        "policy/q": [4.0, 0.0],  # the policy of the first member took two steps, that of the second none
        "policy/stepped": [2.0, 0.0],
    }
    sums = {name: np.float32(values) for name, values in sums.items()}
    means = loop.row_means(loop.Tally(updates=np.int32([3, 3]), sums=sums, first_nonfinite={}))
    np.testing.assert_allclose(means["loss"], [2, 2])
    np.testing.assert_allclose(means["critic/q"], [1, 3])
    np.testing.assert_allclose(means["policy/q"], [2, np.nan])
    np.testing.assert_allclose(means["policy/stepped"], [2 / 3, 0])
