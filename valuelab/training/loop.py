"""The training loop, one for every agent.

All members of a population (seeds crossed with hyperparameters) train in one program: batches are drawn
and updates done inside one jitted loop, on data that lies on the devices, over a (seed, data) mesh. If the
data are streamed, the host gathers the same batches in advance (`training.feeding`). An agent
that learns online also steps its environments inside this loop (`training.experience`). The host reads
results only at events: log rows, evaluations, checkpoints.

Random streams are separate and named: a member's parameters and updates, its batches and its evaluations
draw from different keys. Batch t depends only on the member's seed, on t and on the transitions collected so
far. So evaluating or saving more often changes nothing, and an interrupted run resumes to the same bits.
"""

import contextlib
import functools
import math
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent import futures
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from jax.experimental import multihost_utils
from jax.sharding import Mesh, PartitionSpec

from valuelab import files, platforms, workers
from valuelab.configuration import Population
from valuelab.errors import InputError
from valuelab.training import feeding
from valuelab.training import mesh as meshes
from valuelab.training.checkpoints import Checkpoints, leaf_name
from valuelab.training.experience import Experience, offline
from valuelab.training.logs import Row
from valuelab.training.progress import Progress
from valuelab.types import STEPPED, Agent, Array, Augmented, Key, Sampler

Build = Callable[[Mapping[str, Array]], Agent]
Result = TypeVar("Result")
Evaluate = Callable[[Any, int], Mapping[str, np.ndarray]]
STREAMS = ("agent", "data", "environment")
NEVER = np.iinfo(np.int32).max
FIRST_SLICE = 16
"""Number of updates in the first call of the training program, whose speed is not known yet."""
SLICE_SECONDS = 2.0
"""Approximate duration of each later call."""
LONGEST_BLOCK = {"cpu": 1, "gpu": 500, "tpu": 500}
"""Largest number of updates in a block, by platform."""


class NonFiniteError(InputError):
    """A metric or a parameter became NaN or infinite."""


class Interrupted(BaseException):
    """Ctrl-C, SIGTERM or SIGHUP stopped training, after the state was saved.

    Like KeyboardInterrupt it is not an Exception: code that handles the failures of a simulator lets it pass.
    """


class Throughput(NamedTuple):
    """Speed and durations of a run.

    Attributes:
        updates_per_second: updates of all members, without compilation and evaluation.
        compile_seconds: time to trace and compile the training program.
        train_seconds: time of updates.
        eval_seconds: time of evaluations.
    """

    updates_per_second: float
    compile_seconds: float
    train_seconds: float
    eval_seconds: float


class Run(NamedTuple):
    """The result of training.

    Attributes:
        states: the agents' states with members as leading axis, complete on this host.
        rows: the log: one dict for each event and member, with "step" and, if there are several, "seed".
        throughput: speed and durations.
    """

    states: Any
    rows: list[Row]
    throughput: Throughput

    def member(self, index: int) -> Any:
        """The state of one member, for `Agent.act`."""
        return jax.tree.map(lambda leaf: leaf[index], self.states)


class Tally(NamedTuple):
    """Metrics accumulated on the device since the last log row.

    Attributes:
        updates: [M] int32, the number of updates.
        sums: metric name to [M], sums over these updates.
        first_nonfinite: metric name to [M], the first update at which the metric was NaN or infinite; NEVER
            if there is none.
    """

    updates: Array
    sums: dict[str, Array]
    first_nonfinite: dict[str, Array]


def row_means(tally: Tally) -> dict[str, np.ndarray]:
    """The mean of each metric over the updates of a tally on the host, metric name to [M].

    Metrics of a group that skips updates, see `types.Metrics`, are means over its steps; NaN without a step.
    """
    means = {}
    for name, sums in tally.sums.items():
        group, _, last = name.rpartition("/")
        steps = tally.updates if last == STEPPED else tally.sums.get(f"{group}/{STEPPED}", tally.updates)
        means[name] = np.divide(sums, steps, out=np.full(np.shape(sums), np.nan), where=np.asarray(steps) > 0)
    return means


class Progression(NamedTuple):
    """The whole state of training, which checkpoints save; members are the leading axis.

    Attributes:
        states: the agents' states.
        experience: the carry of `Experience`: simulations and replay buffers; () for a dataset.
        tally: the accumulated metrics.
    """

    states: Any
    experience: Any
    tally: Tally


class Program(NamedTuple):
    """The jitted functions of a run.

    Attributes:
        init: (hyperparameters, keys, arrays, initial=None) -> Progression; `initial` as in `train`.
        advance: (progression, hyperparameters, keys, arrays, start, blocks, length, chunk=()) -> Progression
            after the updates start .. start + blocks · length - 1; `length`, the number of updates in a
            block, is static; donates its first argument. `chunk` holds the batches of these updates if the
            host gathers them: see `training.feeding`.
        clear: (tally) -> an empty Tally.
        finite: (states) -> [M], whether all floating leaves of each member's state are finite.
    """

    init: Any
    advance: Any
    clear: Any
    finite: Any


def block_length(mesh: Mesh, *intervals: int, most: int = NEVER) -> int:
    """The number of updates in a block, the loop of the training program whose length XLA knows.

    An accelerator runs a loop of known length without asking the host after each update, and can keep it as
    one graph. A CPU gains nothing from it.

    Args:
        mesh: the devices.
        intervals: numbers of updates between events of the run; 0 for events that do not occur.
        most: an upper bound.

    Returns:
        The largest common divisor of the intervals that is at most the platform's longest block. If it is
        less than half of what would fit, the blocks do not divide the intervals: the updates that are left
        before an event are then blocks of one update.
    """
    longest = LONGEST_BLOCK[mesh.devices.flat[0].platform]
    longest = min(longest, most, *(interval for interval in intervals if interval))
    common = math.gcd(*intervals)
    divisor = max(length for length in range(1, longest + 1) if common % length == 0)
    return divisor if 2 * divisor >= longest else longest


class Advance(NamedTuple):
    """The compiled training program of a run.

    Attributes:
        run: (progression, start, blocks, chunk) -> the progression after the updates from start to
            start + blocks · length - 1, not yet ready; donates its first argument.
        compiled: what XLA compiled, for all members or for one.
    """

    run: Callable[[Progression, int, int, Any], Progression]
    compiled: jax.stages.Compiled


def _stream(key: Key, name: str) -> Key:
    return jax.random.fold_in(key, STREAMS.index(name))


def batch_key(seed: Array, step: Array) -> Key:
    """The key with which a member draws the batch of an update."""
    return jax.random.fold_in(_stream(jax.random.key(seed), "data"), step)


def make_program(build: Build, experience: Experience, mesh: Mesh) -> Program:
    """Builds the jitted functions of a run.

    They are traced for the platform of the mesh.

    On accelerators and on several devices vmap updates all members at once. On a single CPU device vmap is
    slower, because XLA adds transpositions to batched products: there members take turns in a program, and
    `compiled_advance` runs a program for each member.

    Args:
        build: hyperparameters of one member (traced scalars) -> its agent.
        experience: the source of batches.
        mesh: (seed, data).

    Returns:
        The jitted functions.
    """
    by_member = meshes.by_member(mesh)
    batch_sharding = jax.sharding.NamedSharding(mesh, PartitionSpec(meshes.DATA))
    platform = mesh.devices.flat[0].platform

    def over_members(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*members: Any) -> Any:
            if len(jax.tree.leaves(members)[0]) == 1:
                alone = jax.tree.map(lambda leaf: leaf[0], members)
                return jax.tree.map(lambda leaf: leaf[None], function(*alone))
            if _is_one_cpu(mesh):
                return jax.lax.map(lambda member: function(*member), members)
            return jax.vmap(function, spmd_axis_name=meshes.SEED)(*members)

        return call

    def clear(metrics: Mapping[str, Array]) -> Tally:
        return Tally(
            updates=jnp.zeros((), jnp.int32),
            sums={name: jnp.zeros(()) for name in metrics},
            first_nonfinite={name: jnp.asarray(NEVER) for name in metrics},
        )

    def update(
        agent: Agent, key: Key, arrays: Any, chunk: Any
    ) -> Callable[..., tuple[Any, Any, dict[str, Array]]]:
        """(step, state, carry) -> (state, carry, metrics) of one member: collect, draw a batch, update."""
        data_key, environment_key = _stream(key, "data"), _stream(key, "environment")

        def one_update(step: Array, state: Any, carry: Any) -> tuple[Any, Any, dict[str, Array]]:
            collect_key = jax.random.fold_in(environment_key, step)
            carry, collected = experience.collect(carry, agent, state, step, collect_key)
            if experience.host:
                batch = feeding.batch_of(chunk, step, experience.example(arrays, data_key))
            else:
                batch = experience.sample(arrays, carry, jax.random.fold_in(data_key, step))
            batch = jax.lax.with_sharding_constraint(batch, batch_sharding)
            state, metrics = agent.update(state, batch)
            return state, carry, metrics | collected

        return one_update

    def init(
        hyperparameters: Mapping[str, Array],
        keys: Key,
        arrays: Any,
        initial: Mapping[str, Array] | None = None,
    ) -> Progression:
        def init_member(
            hyperparameters: Mapping[str, Array], key: Key, initial: Mapping[str, Array] | None
        ) -> Progression:
            agent = build(hyperparameters)
            example = experience.example(arrays, _stream(key, "data"))
            state = agent.init(_stream(key, "agent"), jax.tree.map(lambda leaf: leaf[:1], example))
            state = with_leaves(state, initial or {})
            carry = experience.init(arrays, agent, state, _stream(key, "environment"))
            chunk = jax.tree.map(lambda leaf: leaf[None], example) if experience.host else ()
            metrics = jax.eval_shape(update(agent, key, arrays, chunk), jnp.int32(0), state, carry)[2]
            return Progression(states=state, experience=carry, tally=clear(metrics))

        with platforms.tracing_for(platform):
            return over_members(init_member)(hyperparameters, keys, initial)

    def advance(
        progression: Progression,
        hyperparameters: Mapping[str, Array],
        keys: Key,
        arrays: Any,
        start: Array,
        blocks: Array,
        length: int,
        chunk: Any = (),
    ) -> Progression:
        def advance_member(
            progression: Progression, hyperparameters: Mapping[str, Array], key: Key, chunk: Any
        ) -> Progression:
            one_update = update(build(hyperparameters), key, arrays, chunk)

            def body(step: Array, carried: Any) -> Any:
                state, carry, counts = carried
                state, carry, metrics = one_update(step, state, carry)
                return state, carry, _counted(counts, _packed(metrics), step)

            def block(number: Array, carried: Any) -> Any:
                first = start + number * length
                return jax.lax.fori_loop(
                    0, length, lambda index, carried: body(first + index, carried), carried
                )

            state, carry, tally = progression
            counts = _Counts(
                updates=tally.updates,
                sums=_packed(tally.sums),
                first_nonfinite=_packed(tally.first_nonfinite),
            )
            state, carry, counts = jax.lax.fori_loop(0, blocks, block, (state, carry, counts))
            tally = Tally(
                updates=counts.updates,
                sums=_unpacked(counts.sums, tally.sums),
                first_nonfinite=_unpacked(counts.first_nonfinite, tally.sums),
            )
            return Progression(states=state, experience=carry, tally=tally)

        with platforms.tracing_for(platform):
            return over_members(advance_member)(progression, hyperparameters, keys, chunk)

    def is_finite(state: Any) -> Array:
        floats = [leaf for leaf in jax.tree.leaves(state) if jnp.issubdtype(leaf.dtype, jnp.floating)]
        return jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in floats]))

    return Program(
        init=jax.jit(init, out_shardings=by_member),
        advance=jax.jit(advance, donate_argnums=0, static_argnames="length", out_shardings=by_member),
        clear=jax.jit(jax.vmap(lambda tally: clear(tally.sums)), out_shardings=by_member),
        finite=jax.jit(jax.vmap(is_finite), out_shardings=meshes.replicated(mesh)),
    )


def compiled_advance(
    program: Program,
    progression: Progression,
    hyperparameters: Mapping[str, Array],
    keys: Key,
    arrays: Any,
    length: int,
    mesh: Mesh,
    chunk: Any = (),
    compiler_options: Mapping[str, Any] | None = None,
) -> Advance:
    """Compiles the training program of a run.

    On a single CPU device members run side by side, each in a program of its own: one member's products are
    too small to occupy all cores. Then a member's bits do not depend on the other members.

    Args:
        program: the functions of the run.
        progression: has the shapes of the run.
        hyperparameters: name to [M].
        keys: [M].
        arrays: those of the experience, on the devices.
        length: the number of updates in a block.
        mesh: the devices.
        chunk: the shapes of the batches that the host feeds, [M, ...]; () for none.
        compiler_options: XLA's flags for this program, without the dashes.

    Returns:
        The compiled program.
    """
    members = len(keys)

    def compiled(chunk: Any, *inputs: Any) -> Any:
        bounds = np.int32(0), np.int32(1)
        lowered = program.advance.lower(*inputs, arrays, *bounds, length=length, chunk=chunk)
        return lowered.compile(compiler_options)

    if members == 1 or not _is_one_cpu(mesh):
        together = compiled(chunk, progression, hyperparameters, keys)
        return Advance(
            run=lambda progression, start, blocks, chunk: together(
                progression, hyperparameters, keys, arrays, np.int32(start), np.int32(blocks), chunk=chunk
            ),
            compiled=together,
        )

    inputs = [meshes.take_member((hyperparameters, keys), index, mesh) for index in range(members)]
    shapes = jax.eval_shape(lambda chunk: jax.tree.map(lambda leaf: leaf[:1], chunk), chunk)
    single = compiled(shapes, meshes.take_member(progression, 0, mesh), *inputs[0])
    take, put = meshes.compiled_member_functions((progression, chunk), progression, mesh)

    def advance(progression: Progression, start: int, blocks: int, chunk: Any) -> Progression:
        one_at_a_time = threading.Lock()

        def advance_member(index: int) -> None:
            nonlocal progression
            with one_at_a_time:
                member, fed = take((progression, chunk), np.int32(index))
            bounds = np.int32(start), np.int32(blocks)
            member = jax.block_until_ready(single(member, *inputs[index], arrays, *bounds, chunk=fed))
            with one_at_a_time:  # at once: memory holds a second copy of only those members that now train
                progression = put(progression, member, np.int32(index))

        with futures.ThreadPoolExecutor(len(workers.available_cores())) as threads:
            list(threads.map(advance_member, range(members)))  # raises what a member raises
        return progression

    return Advance(run=advance, compiled=single)


def _is_one_cpu(mesh: Mesh) -> bool:
    return mesh.size == 1 and mesh.devices.flat[0].platform == "cpu"


class _Counts(NamedTuple):
    """A tally of K metrics as arrays: an accelerator then counts all metrics in one kernel.

    Attributes:
        updates: int32 scalar.
        sums: [K].
        first_nonfinite: int32 [K].
    """

    updates: Array
    sums: Array
    first_nonfinite: Array


def _counted(counts: _Counts, metrics: Array, step: Array) -> _Counts:
    """The counts after update `step` with metrics [K]."""
    bad = ~jnp.isfinite(metrics) & (counts.first_nonfinite == NEVER)
    return _Counts(
        updates=counts.updates + 1,
        sums=counts.sums + metrics,
        first_nonfinite=jnp.where(bad, step + 1, counts.first_nonfinite),
    )


def _packed(scalars: Mapping[str, Array]) -> Array:
    """The values of K names as an array [K], in the order of the names."""
    return jnp.stack([scalars[name] for name in sorted(scalars)]) if scalars else jnp.zeros(0)


def _unpacked(values: Array, names: Iterable[str]) -> dict[str, Array]:
    """Name to value; the inverse of `_packed`."""
    return dict(zip(sorted(names), values, strict=True))


def with_leaves(tree: Any, leaves: Mapping[str, Any]) -> Any:
    """A tree with some of its leaves replaced, by dotted name."""
    return jax.tree_util.tree_map_with_path(lambda path, leaf: leaves.get(leaf_name(path), leaf), tree)


def state_shapes(build: Build, experience: Experience, hyperparameters: Mapping[str, Any]) -> Any:
    """The state of an agent, with shapes and dtypes in place of arrays; arguments as in `update_program`."""

    def init(hyperparameters: Any, key: Key, arrays: Any) -> Any:
        example = experience.example(arrays, key)
        return build(hyperparameters).init(key, jax.tree.map(lambda leaf: leaf[:1], example))

    return jax.eval_shape(init, hyperparameters, jax.random.key(0), experience.arrays)


def update_program(build: Build, experience: Experience, hyperparameters: Mapping[str, Any]) -> str:
    """The program of an update as text, with acting if the agent learns online, to compare two agents.

    Args:
        build: hyperparameters of one member -> its agent.
        experience: the source of batches.
        hyperparameters: those of one member.

    Returns:
        The text; agents with the same text learn the same from the same state and data.
    """

    def update(hyperparameters: Any, key: Key, arrays: Any) -> Any:
        agent, batch = build(hyperparameters), experience.example(arrays, key)
        state = agent.init(key, jax.tree.map(lambda leaf: leaf[:1], batch))
        actions: Any = ()
        if experience.environment:
            observations: Any = batch.observations
            if agent.memory:
                memory = agent.memory.draw(state, observations, key)
                observations = Augmented(observations=observations, memory=memory)
            actions = agent.act(state, observations, key, 1.0)
        return agent.update(state, batch), actions

    return str(jax.jit(update).lower(hyperparameters, jax.random.key(0), experience.arrays).as_text())


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
    initial: Mapping[str, np.ndarray] | None = None,
    on_resume: Callable[[int, Any], int] | None = None,
    log_extent: Callable[[], Any] | None = None,
    show_progress: bool = True,
) -> Run:
    """Trains a population of agents.

    Args:
        agent: an agent, or a function that builds one from the hyperparameters of a member.
        experience: the source of batches: a sampler of a dataset, or an environment to learn in.
        steps: number of updates, positive.
        seeds: [M], the seed of each member.
        hyperparameters: name to [M] values, given to `agent` if it is a function.
        mesh: the devices; None for all devices.
        log_every: updates between log rows.
        eval_every: updates between evaluations; 0 evaluates only at the end.
        checkpoint_every: updates between checkpoints; 0 saves only before evaluations.
        evaluate: (states [M, ...], step) -> name to [M] scores; called only on the first host. A request to
            stop raises `Interrupted` inside it; the resumed run evaluates again.
        write: (rows of one event) -> None, writes them to the log.
        checkpoints: saves states; an interrupted run resumes from its newest checkpoint.
        initial: dotted names of leaves of the agents' states to values [M, ...], which take the place of
            those of `agent.init` at the beginning of the run.
        on_resume: (step of the checkpoint, 0 if none; what `log_extent` gave for it, None if nothing) -> step
            of the last row that the log keeps, 0 if none. Called before the first update, only on the first
            host, so it must not communicate with other hosts.
        log_extent: () -> the content of the log, JSON-safe; saved with each checkpoint as "log". Called only
            on the first host.
        show_progress: whether to show a progress bar.

    Returns:
        The final states, the log and the throughput.

    Raises:
        InputError: when steps or intervals are not positive, the mesh does not fit, or an environment on the
            host fails; the message then names the environment and the reason.
        NonFiniteError: when a metric or a parameter is NaN or infinite; that state is not saved.
        Interrupted: after Ctrl-C, SIGTERM or SIGHUP, once the state is saved.
    """
    if steps < 1:
        raise InputError(f"steps is {steps}, but must be positive")
    intervals = (log_every, eval_every, checkpoint_every)
    if log_every < 1 or min(intervals) < 0:
        raise InputError(
            f"log_every {log_every}, eval_every {eval_every} and checkpoint_every {checkpoint_every} "
            "must be positive (the last two may be 0: only at the end)"
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
    fixed, placed = meshes.place_members(swept, mesh), meshes.place_members(initial or {}, mesh)
    keys = jax.jit(jax.vmap(jax.random.key), out_shardings=meshes.by_member(mesh))(
        meshes.place_members(population.seeds, mesh)
    )

    rows: list[Row] = []
    step, train_seconds, eval_seconds = 0, 0.0, 0.0
    slice_updates = FIRST_SLICE
    length_for = functools.partial(block_length, mesh, *intervals)
    with (
        _stop_requests() as stop,
        Progress(steps, show_progress) as progress,
        feeding.feeding(
            experience.host, build, swept, population.seeds, batch_key, mesh, steps, length_for
        ) as feeder,
    ):
        started = time.perf_counter()
        with _environment_failures(experience):
            progression = jax.block_until_ready(program.init(fixed, keys, arrays, placed))
        length, chunk = (feeder.block, feeder.shapes) if feeder else (length_for(), ())
        advance = functools.cache(
            lambda length: compiled_advance(program, progression, fixed, keys, arrays, length, mesh, chunk)
        )
        advance(length)
        compile_seconds = time.perf_counter() - started

        row_seconds, logged = 0.0, 0  # duration of training since the last row; step of that row
        saved_extent = None
        if checkpoints and (restored := checkpoints.restore(progression)):
            step, progression = restored
            facts = checkpoints.facts(step)  # read together by all hosts
            row_seconds, saved_extent = facts.get("row_seconds", 0.0), facts.get("log")
            logged = step - int(np.asarray(meshes.fetch(progression.tally.updates, mesh))[0])
        kept = _of_first_host(on_resume(step, saved_extent) if on_resume else logged)
        if kept == step > logged:  # the log has the row of this step already
            progression = progression._replace(tally=program.clear(progression.tally))
            row_seconds, logged = 0.0, step
        elif kept != logged:
            logging.warning("the log ends at update %d instead of %d: rows were lost", kept, logged)
        progress.begin(step)
        first_step = step
        interrupted = False
        while logged < steps and not interrupted:
            if not (step > logged and _has_row(step, steps, log_every, eval_every)):
                event = min([steps, *(_next_multiple(step, every) for every in intervals if every)])
                while step < event and not (interrupted := stop.is_requested()):
                    # Short slices keep Ctrl-C and the progress bar responsive. Their length does not change
                    # results: they consist of whole blocks. Several hosts would have to agree on it, so they
                    # use whole events.
                    limit = min(event, feeder.end(step)) if feeder else event
                    block = length if limit - step >= length else 1
                    blocks = (limit - step) // block
                    if jax.process_count() == 1:
                        blocks = min(blocks, max(1, slice_updates // block))
                    end = step + blocks * block
                    started = time.perf_counter()
                    run_blocks = advance(block).run
                    compile_seconds += time.perf_counter() - started
                    started = time.perf_counter()
                    if feeder:
                        chunk = feeder.chunk(step)
                    with _environment_failures(experience):
                        progression = jax.block_until_ready(run_blocks(progression, step, blocks, chunk))
                    seconds = time.perf_counter() - started
                    train_seconds += seconds
                    row_seconds += seconds
                    slice_updates = max(1, int((end - step) / seconds * SLICE_SECONDS))
                    progress.update(end, (end - step) * len(seeds) / seconds)
                    step = end
            tally = jax.tree.map(np.asarray, meshes.fetch(progression.tally, mesh))
            finite = np.asarray(program.finite(progression.states))
            _check_finite(tally, finite, members, step, checkpoints, experience)

            evaluates = has_evaluation(step, steps, eval_every)
            # Saved before the row and the evaluation: a run that is killed in between makes both again.
            due = evaluates or (checkpoint_every and step % checkpoint_every == 0)
            if checkpoints and (due or interrupted):
                extent = {"log": log_extent()} if log_extent else {}
                checkpoints.save(step, progression, row_seconds=row_seconds, **extent)
            if step > logged and _has_row(step, steps, log_every, eval_every):
                metrics = row_means(tally)
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
                collected = {"environment_steps": taken} if taken else {}
                event_rows = [
                    {"step": step, **member, **collected, "updates_per_second": speed}
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
        updates_per_second=updates / train_seconds if updates else 0.0,
        compile_seconds=compile_seconds,
        train_seconds=train_seconds,
        eval_seconds=eval_seconds,
    )
    return Run(states=meshes.fetch(progression.states, mesh), rows=rows, throughput=throughput)


def _next_multiple(step: int, every: int) -> int:
    return (step // every + 1) * every


def has_evaluation(step: int, steps: int, eval_every: int) -> bool:
    """Whether a run of so many steps evaluates after a step."""
    return step == steps or bool(eval_every and step % eval_every == 0)


def _has_row(step: int, steps: int, log_every: int, eval_every: int) -> bool:
    """Whether the log of a run of so many steps has a row for a step."""
    return step % log_every == 0 or has_evaluation(step, steps, eval_every)


def _of_first_host(value: int) -> int:
    """The first host's value, on all hosts."""
    if jax.process_count() == 1:
        return value
    return int(multihost_utils.broadcast_one_to_all(np.int32(value)))


@contextlib.contextmanager
def _environment_failures(experience: Experience) -> Iterator[None]:
    """Raises the error of an environment on the host in place of JAX's error about a failed callback."""
    try:
        yield
    except (jax.errors.JaxRuntimeError, ValueError) as error:  # JAX raises either for a failed callback
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
    """Raises NonFiniteError with the first bad update, its metric, its member, and the last checkpoint."""
    first_bad = {name: int(steps.min()) for name, steps in tally.first_nonfinite.items()}
    # In one update the environment is stepped before the agent learns: its metrics are named first.
    name = min(first_bad, key=lambda name: (first_bad[name], not name.startswith("online/")))
    suspects = ["the data"] if jax.tree.leaves(experience.data) else []
    if experience.environment:
        suspects.append(f"the observations and rewards of {experience.environment.name}")
    advice = f"lower the learning rate, or check {' and '.join(suspects)}"
    if first_bad[name] != NEVER:
        index = int(tally.first_nonfinite[name].argmin())
        what = f"{name} is not finite at update {first_bad[name]}"
        if name.startswith("online/"):
            advice = f"check the agent's actions and {suspects[-1]}"
    elif not finite.all():
        index = int(finite.argmin())
        what = f"the state is not finite after update {step}"
    else:
        return
    member = ", ".join(f"{key} {value}" for key, value in members[index].items())
    last = checkpoints.latest_step() if checkpoints else None
    kept = f"; the last good checkpoint is that of step {last}" if last is not None else ""
    raise NonFiniteError(f"{what}{f' ({member})' if member else ''}{kept}: {advice}")


class _Stop:
    """Whether a signal has requested a stop. A second Ctrl-C stops the run at once."""

    def __init__(self) -> None:
        self._requested = threading.Event()
        self._raises = False

    def __call__(self, signal_number: int, frame: Any) -> None:
        """Requests a stop; a handler of signals."""
        del frame
        if signal_number == getattr(signal, "SIGHUP", None):
            files.leave_closed_terminal()
        if self._requested.is_set() and signal_number == signal.SIGINT:
            raise KeyboardInterrupt
        self._requested.set()
        if self._raises:
            raise Interrupted("stopped during an evaluation")

    def is_requested(self) -> bool:
        """Whether any host has received a request to stop."""
        if jax.process_count() == 1:
            return self._requested.is_set()
        return bool(np.any(multihost_utils.process_allgather(np.array(self._requested.is_set()))))

    def unless_requested(self, do: Callable[[], Result]) -> Result | None:
        """Calls a function and returns its result; ends it and returns None on a request to stop."""
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
    """Turns the first Ctrl-C, SIGTERM or SIGHUP into a request to stop.

    Outside the main thread there are no requests, because Python handles signals only in the main thread.
    A process that ignores SIGHUP (nohup) continues when its terminal closes.
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
