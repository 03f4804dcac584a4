"""The training loop, one for every agent.

All members of a population (seeds crossed with hyperparameters) train in one program: batches are drawn
and updates done inside one jitted loop, on data that lies on the devices, over a (seed, data) mesh. So are
steps in an environment, where the agent learns from what it does (`training.experience`). The host only
hears of it at events: log rows, evaluations, checkpoints.

Random streams are separate and named: a member's parameters and updates, its batches and its evaluations
draw from different keys, and batch t depends on nothing but the member's seed, t and what it has met. So
evaluating or saving more often changes nothing, and a run that was interrupted goes on to the same bits.
"""

import contextlib
import functools
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from jax.experimental import multihost_utils
from jax.sharding import Mesh, PartitionSpec

from valuelab.configuration import Population
from valuelab.errors import InputError
from valuelab.training import mesh as meshes
from valuelab.training.checkpoints import Checkpoints
from valuelab.training.experience import Experience, offline
from valuelab.training.logs import Row
from valuelab.training.progress import Progress
from valuelab.types import Agent, Array, Key, Sampler

Build = Callable[[Mapping[str, Array]], Agent]
Result = TypeVar("Result")
Evaluate = Callable[[Any, int], Mapping[str, np.ndarray]]
STREAMS = ("agent", "data", "environment")
NEVER = np.iinfo(np.int32).max
FIRST_SLICE = 16
"""Updates in the first call of the training program, while its speed is unknown."""
SLICE_SECONDS = 2.0
"""About how long later calls take."""


class NonFiniteError(InputError):
    """A metric or a parameter became NaN or infinite."""


class Interrupted(Exception):
    """Training was stopped from outside (Ctrl-C, SIGTERM, SIGHUP), at an update after which all was saved."""


class Throughput(NamedTuple):
    """Where the time went.

    Attributes:
        updates_per_second: of all members together, without compilation and evaluation.
        compile_seconds: tracing and compiling the training program.
        train_seconds: updates.
        eval_seconds: evaluations.
    """

    updates_per_second: float
    compile_seconds: float
    train_seconds: float
    eval_seconds: float


class Run(NamedTuple):
    """What training leaves.

    Attributes:
        states: the agents' states, members as leading axis, whole on this host.
        rows: the log: a dict an event and member, with "step" and (where there are several) "seed".
        throughput: where the time went.
    """

    states: Any
    rows: list[Row]
    throughput: Throughput

    def member(self, index: int) -> Any:
        """The state of one member, as `Agent.act` takes it."""
        return jax.tree.map(lambda leaf: leaf[index], self.states)


class Tally(NamedTuple):
    """What the device keeps of the metrics since the last log row.

    Attributes:
        updates: [M] int32, how many.
        sums: metric name to [M] sums over the updates.
        first_nonfinite: metric name to [M] the first update that made it NaN or infinite, NEVER if none.
    """

    updates: Array
    sums: dict[str, Array]
    first_nonfinite: dict[str, Array]


class Progression(NamedTuple):
    """What training carries on and checkpoints save.

    Attributes:
        states: the agents' states, members as leading axis.
        experience: what collecting carries, likewise: simulations, replay buffers; () with a dataset.
        tally: of the metrics.
    """

    states: Any
    experience: Any
    tally: Tally


class Program(NamedTuple):
    """The jitted functions of a run.

    Attributes:
        init: (hyperparameters, keys, arrays) -> Progression.
        advance: (progression, hyperparameters, keys, arrays, start, stop) -> Progression after the updates
            start .. stop - 1; donates the one it is given.
        clear: (tally) -> an empty Tally.
        finite: (states) -> [M], whether all floating leaves of each member's state are finite.
    """

    init: Any
    advance: Any
    clear: Any
    finite: Any


def _stream(key: Key, name: str) -> Key:
    return jax.random.fold_in(key, STREAMS.index(name))


def make_program(build: Build, experience: Experience, mesh: Mesh) -> Program:
    """Builds the jitted functions of a run.

    On accelerators and on several devices all members step together, under vmap. On a single CPU device
    they take turns, each with all updates of a call: a core gains nothing from products in batches, and
    XLA transposes more in them (for one member a fifth slower).

    Args:
        build: hyperparameters of one member (traced scalars) -> its agent.
        experience: where batches come from.
        mesh: (seed, data).

    Returns:
        The program.
    """
    by_member = meshes.by_member(mesh)
    batch_sharding = jax.sharding.NamedSharding(mesh, PartitionSpec(meshes.DATA))
    take_turns = mesh.size == 1 and mesh.devices.flat[0].platform == "cpu"

    def over_members(function: Callable[..., Any]) -> Callable[..., Any]:
        if take_turns:
            return lambda *members: jax.lax.map(lambda member: function(*member), members)
        return jax.vmap(function, spmd_axis_name=meshes.SEED)

    def clear(metrics: Mapping[str, Array]) -> Tally:
        return Tally(
            jnp.zeros((), jnp.int32),
            {name: jnp.zeros(()) for name in metrics},
            {name: jnp.asarray(NEVER) for name in metrics},
        )

    def update(agent: Agent, key: Key, arrays: Any) -> Callable[..., tuple[Any, Any, dict[str, Array]]]:
        """(step, state, carry) -> (state, carry, metrics) of one member: acting, a batch, and learning."""
        data_key, environment_key = _stream(key, "data"), _stream(key, "environment")

        def one_update(step: Array, state: Any, carry: Any) -> tuple[Any, Any, dict[str, Array]]:
            collect_key = jax.random.fold_in(environment_key, step)
            carry, collected = experience.collect(carry, agent, state, step, collect_key)
            batch = experience.sample(arrays, carry, jax.random.fold_in(data_key, step))
            batch = jax.lax.with_sharding_constraint(batch, batch_sharding)
            state, learnt = agent.update(state, batch)
            return state, carry, learnt | collected

        return one_update

    def init(hyperparameters: Mapping[str, Array], keys: Key, arrays: Any) -> Progression:
        def init_member(hyperparameters: Mapping[str, Array], key: Key) -> Progression:
            agent = build(hyperparameters)
            example = experience.example(arrays, _stream(key, "data"))
            state = agent.init(_stream(key, "agent"), jax.tree.map(lambda leaf: leaf[:1], example))
            carry = experience.init(arrays, agent, state, _stream(key, "environment"))
            metrics = jax.eval_shape(update(agent, key, arrays), jnp.int32(0), state, carry)[2]
            return Progression(state, carry, clear(metrics))

        return over_members(init_member)(hyperparameters, keys)

    def advance(
        progression: Progression,
        hyperparameters: Mapping[str, Array],
        keys: Key,
        arrays: Any,
        start: Array,
        stop: Array,
    ) -> Progression:
        def advance_member(
            progression: Progression, hyperparameters: Mapping[str, Array], key: Key
        ) -> Progression:
            one_update = update(build(hyperparameters), key, arrays)

            def body(step: Array, progression: Progression) -> Progression:
                state, carry, metrics = one_update(step, progression.states, progression.experience)
                updates, sums, first_nonfinite = progression.tally

                def note(metric: Array, first: Array) -> Array:
                    return jnp.where(~jnp.isfinite(metric) & (first == NEVER), step + 1, first)

                sums = jax.tree.map(jnp.add, sums, metrics)
                tally = Tally(updates + 1, sums, jax.tree.map(note, metrics, first_nonfinite))
                return Progression(state, carry, tally)

            return jax.lax.fori_loop(start, stop, body, progression)

        return over_members(advance_member)(progression, hyperparameters, keys)

    def is_finite(state: Any) -> Array:
        floats = [leaf for leaf in jax.tree.leaves(state) if jnp.issubdtype(leaf.dtype, jnp.floating)]
        return jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in floats]))

    return Program(
        init=jax.jit(init, out_shardings=by_member),
        advance=jax.jit(advance, donate_argnums=0, out_shardings=by_member),
        clear=jax.jit(jax.vmap(lambda tally: clear(tally.sums)), out_shardings=by_member),
        finite=jax.jit(jax.vmap(is_finite), out_shardings=meshes.replicated(mesh)),
    )


def train(
    agent: Agent | Build,
    experience: Sampler | Experience,
    *,
    steps: int,
    seeds: Sequence[int] = (0,),
    hyperparameters: Mapping[str, np.ndarray] | None = None,
    mesh: Mesh | None = None,
    log_every: int = 1000,
    eval_every: int = 0,
    checkpoint_every: int = 0,
    evaluate: Evaluate | None = None,
    write: Callable[[list[Row]], None] | None = None,
    checkpoints: Checkpoints | None = None,
    on_resume: Callable[[int], int] | None = None,
    show_progress: bool = True,
) -> Run:
    """Trains a population of agents.

    Args:
        agent: an agent, or a function that builds one from the hyperparameters of a member.
        experience: the data and how batches are drawn from it, or what is met in an environment.
        steps: number of updates, positive.
        seeds: [M], a seed for each member.
        hyperparameters: name to [M] values, given to `agent` where it is a function.
        mesh: devices; None takes all of them.
        log_every: updates between log rows.
        eval_every: updates between evaluations; 0 evaluates at the end alone.
        checkpoint_every: updates between checkpoints; 0 saves before evaluations alone.
        evaluate: (states [M, ...], step) -> name to [M] scores; called on the first host alone. When the run
            is asked to stop meanwhile, `Interrupted` is raised in it, and the next session evaluates again.
        write: takes the log rows of each event.
        checkpoints: where states are saved, and found when the run was interrupted.
        on_resume: called with the step from which the run goes on, before it does; returns the step of the
            last row that the log keeps, 0 for none. On the first host alone.
        show_progress: whether to show a progress bar.

    Returns:
        The final states, the log and the throughput.

    Raises:
        InputError: for steps or intervals that are not positive, or a mesh that does not fit.
            An environment on the host that fails raises its own, with its name and the reason.
        NonFiniteError: when a metric or a parameter is NaN or infinite; nothing of it is saved.
        Interrupted: after Ctrl-C, SIGTERM or SIGHUP, once the state is saved.
    """
    if steps < 1:
        raise InputError(f"steps is {steps}; it must be positive")
    intervals = (log_every, eval_every, checkpoint_every)
    if log_every < 1 or min(intervals) < 0:
        raise InputError(
            f"log_every {log_every}, eval_every {eval_every} and checkpoint_every {checkpoint_every} "
            "must be positive (0 for the last two: only at the end)"
        )
    swept = {name: np.asarray(values, np.float32) for name, values in (hyperparameters or {}).items()}
    population = Population(np.asarray(seeds, np.uint32), swept)
    members = [population.settings(index) if population.size > 1 else {} for index in range(population.size)]
    if isinstance(experience, Sampler):
        experience = offline(experience)
    mesh = mesh or meshes.make_mesh(len(seeds), experience.batch_size)
    build: Build = (lambda _: agent) if isinstance(agent, Agent) else agent
    program = make_program(build, experience, mesh)

    arrays = meshes.place_rows(experience.arrays, mesh)
    fixed = meshes.place_members(swept, mesh)
    keys = jax.jit(jax.vmap(jax.random.key), out_shardings=meshes.by_member(mesh))(
        meshes.place_members(population.seeds, mesh)
    )

    rows: list[Row] = []
    step, train_seconds, eval_seconds = 0, 0.0, 0.0
    slice_updates = FIRST_SLICE
    with _stop_requests() as stop, Progress(steps, show_progress) as progress:
        started = time.perf_counter()
        with _told_of(experience):
            progression = jax.block_until_ready(program.init(fixed, keys, arrays))
        bounds = np.int32(0), np.int32(steps)
        advance = program.advance.lower(progression, fixed, keys, arrays, *bounds).compile()
        compile_seconds = time.perf_counter() - started

        row_seconds, logged = 0.0, 0  # what training took since the last row; the step of that row
        if checkpoints and (found := checkpoints.restore(progression)):
            step, progression = found
            row_seconds = checkpoints.facts(step).get("row_seconds", 0.0)
            logged = step - int(np.asarray(meshes.fetch(progression.tally.updates, mesh))[0])
        kept = _of_first_host(on_resume(step) if on_resume else logged)
        if kept == step > logged:  # all was done of this step
            progression = progression._replace(tally=program.clear(progression.tally))
            row_seconds, logged = 0.0, step
        elif kept != logged:
            logging.warning("the log ends at update %d, and should at %d: rows were lost", kept, logged)
        progress.begin(step)
        first_step = step
        interrupted = False
        while logged < steps and not interrupted:
            if not (step > logged and _has_row(step, steps, log_every, eval_every)):
                event = min([steps, *(_next_multiple(step, every) for every in intervals if every)])
                while step < event and not (interrupted := stop.is_requested()):
                    # Slices are short enough for Ctrl-C and the bar. Where they end changes no bit; several
                    # hosts would have to agree on it.
                    end = min(event, step + slice_updates) if jax.process_count() == 1 else event
                    started = time.perf_counter()
                    with _told_of(experience):
                        progression = advance(progression, fixed, keys, arrays, np.int32(step), np.int32(end))
                        jax.block_until_ready(progression)
                    seconds = time.perf_counter() - started
                    train_seconds += seconds
                    row_seconds += seconds
                    slice_updates = max(1, int((end - step) / seconds * SLICE_SECONDS))
                    progress.update(end, (end - step) * len(seeds) / seconds)
                    step = end
            tally = jax.tree.map(np.asarray, meshes.fetch(progression.tally, mesh))
            finite = np.asarray(program.finite(progression.states))
            _check_finite(tally, finite, members, step, checkpoints, experience)

            evaluates = step == steps or bool(eval_every and step % eval_every == 0)
            # Before the row and the evaluation, which a run that ends in between makes again.
            due = evaluates or (checkpoint_every and step % checkpoint_every == 0)
            if checkpoints and (due or interrupted):
                checkpoints.save(step, progression, row_seconds=row_seconds)
            if step > logged and _has_row(step, steps, log_every, eval_every):
                metrics = {name: sums / tally.updates for name, sums in tally.sums.items()}
                if evaluates:
                    started = time.perf_counter()
                    local_states = meshes.fetch(progression.states, mesh)
                    scores: Mapping[str, np.ndarray] | None = {}
                    if evaluate:
                        scores = stop.unless_requested(functools.partial(evaluate, local_states, step))
                    interrupted = bool(_of_first_host(scores is None))
                    if interrupted or scores is None:
                        break
                    metrics |= {f"eval/{name}": values for name, values in scores.items()}
                    eval_seconds += time.perf_counter() - started
                speed = (step - logged) * len(seeds) / row_seconds
                row_seconds, logged = 0.0, step
                taken = experience.environment_steps(step)
                met = {"environment_steps": taken} if taken else {}
                event_rows = [
                    {"step": step, **member, **met, "updates_per_second": speed}
                    | {name: float(values[index]) for name, values in metrics.items()}
                    for index, member in enumerate(members)
                ]
                rows += event_rows
                if write:
                    write(event_rows)
                progress.report(step, metrics, population)
                progression = progression._replace(tally=program.clear(progression.tally))
    if interrupted:
        raise Interrupted(f"stopped after update {step} of {steps}")
    updates = (steps - first_step) * len(seeds)
    throughput = Throughput(
        updates / train_seconds if updates else 0.0, compile_seconds, train_seconds, eval_seconds
    )
    return Run(meshes.fetch(progression.states, mesh), rows, throughput)


def _next_multiple(step: int, every: int) -> int:
    return (step // every + 1) * every


def _has_row(step: int, steps: int, log_every: int, eval_every: int) -> bool:
    """Whether the log has a row of a step."""
    return step == steps or step % log_every == 0 or bool(eval_every and step % eval_every == 0)


def _of_first_host(value: int) -> int:
    """What the first host says, on all of them."""
    if jax.process_count() == 1:
        return value
    return int(multihost_utils.broadcast_one_to_all(np.int32(value)))


@contextlib.contextmanager
def _told_of(experience: Experience) -> Iterator[None]:
    """Raises why an environment on the host failed, in place of JAX's word that something did."""
    try:
        yield
    except (jax.errors.JaxRuntimeError, ValueError) as error:  # a callback's failure is either
        if experience.environment and (failure := experience.environment.failure()):
            raise failure from error
        raise


def _check_finite(
    tally: Tally,
    finite: np.ndarray,
    members: Sequence[Row],
    step: int,
    checkpoints: Checkpoints | None,
    experience: Experience,
) -> None:
    """Raises NonFiniteError naming the first bad update, what was bad in it, and where to go back to."""
    first_bad = {name: int(steps.min()) for name, steps in tally.first_nonfinite.items()}
    # What was met in an environment comes before what was learnt from it.
    name = min(first_bad, key=lambda name: (first_bad[name], not name.startswith("online/")))
    sources = ["the data"] if jax.tree.leaves(experience.arrays) else []
    if experience.environment:
        sources.append(f"the observations and rewards of {experience.environment.name}")
    advice = f"lower the learning rate, or look at {' and '.join(sources)}"
    if first_bad[name] != NEVER:
        index = int(tally.first_nonfinite[name].argmin())
        what = f"{name} is not finite at update {first_bad[name]}"
        if name.startswith("online/"):
            advice = f"look at the agent's actions, and at {sources[-1]}"
    elif not finite.all():
        index = int(finite.argmin())
        what = f"the state is not finite after update {step}"
    else:
        return
    member = ", ".join(f"{key} {value}" for key, value in members[index].items())
    last = checkpoints.latest_step() if checkpoints else None
    kept = f"; the last good checkpoint is of step {last}" if last is not None else ""
    raise NonFiniteError(f"{what}{f' ({member})' if member else ''}{kept}: {advice}")


class _Stop:
    """Whether somebody has asked the run to stop. A second Ctrl-C stops it at once."""

    def __init__(self) -> None:
        self._requested = threading.Event()
        self._raises = False

    def __call__(self, signal_number: int, frame: Any) -> None:
        """Asks; a handler of signals."""
        del frame
        if self._requested.is_set() and signal_number == signal.SIGINT:
            raise KeyboardInterrupt
        self._requested.set()
        if self._raises:
            raise Interrupted("stopped while it was evaluated")

    def is_requested(self) -> bool:
        """On several hosts a request to one is a request to all."""
        if jax.process_count() == 1:
            return self._requested.is_set()
        return bool(np.any(multihost_utils.process_allgather(np.array(self._requested.is_set()))))

    def unless_requested(self, do: Callable[[], Result]) -> Result | None:
        """What a function returns; none, as soon as this host is asked to stop."""
        try:
            self._raises = True
            if self._requested.is_set():
                return None
            return do()
        except Interrupted:
            return None
        finally:
            self._raises = False


@contextlib.contextmanager
def _stop_requests() -> Iterator[_Stop]:
    """Turns the first Ctrl-C, SIGTERM or SIGHUP into a request.

    Outside the main thread, where Python takes no signals, there are no requests. A process that was told to
    ignore SIGHUP, as by nohup, goes on when its terminal closes.
    """
    stop = _Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    numbers = [signal.SIGINT, signal.SIGTERM]
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    previous = {number: signal.signal(number, stop) for number in numbers}
    try:
        yield stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
