"""Measures the speed of training relative to the speed of matrix products on the same machine.

The speed of a shared machine varies from second to second, so updates and matrix products are timed in turn
and compared within each round.
"""

import functools
import math
import statistics
import time
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import jaxprs_in_params

from valuelab.observation_parts import pack
from valuelab.training import mesh as meshes
from valuelab.training.experience import Experience, offline
from valuelab.training.loop import block_length, compiled_advance, make_program
from valuelab.types import Agent, Sampler, Segments, Spec, Transitions

TIMINGS = 5
"""Number of timings of updates, and of products, in one round."""
SLICE_SECONDS = 0.4
"""Approximate duration of the updates of one timing."""
HORIZON = 10
"""Number of steps in the segments of random data."""
LOG_EVERY = 1000
"""Number of updates between log rows of the run whose program is timed."""


class Measurement(NamedTuple):
    """Speed of an agent's training loop; medians over rounds.

    Attributes:
        updates_per_second: sum over all members.
        flop_per_update: floating-point operations of one member's update, as XLA counts them.
        flop_per_second: updates_per_second x flop_per_update.
        matmul_peak: flop/s of a square float32 matrix product, summed over all devices.
        share_of_peak: median over rounds of flop_per_second over matmul_peak in the same round.
        compile_seconds: time to trace and compile the training program.
        environment_steps_per_second: sum over all members; 0 if batches come from a dataset.
    """

    updates_per_second: float
    flop_per_update: float
    flop_per_second: float
    matmul_peak: float
    share_of_peak: float
    compile_seconds: float
    environment_steps_per_second: float = 0.0


def synthetic_sampler(
    spec: Spec, batch_size: int, num_rows: int = 100_000, shapes_only: bool = False
) -> Sampler:
    """A sampler of random data with the shapes of a spec: speed depends only on shapes.

    Its batches have the fields of those of `sampling.transitions`, or of `sampling.goals` if the spec has
    goals. XLA removes the fields that an agent does not use.

    Args:
        spec: shapes and kind of actions.
        batch_size: B.
        num_rows: number of rows of the dataset.
        shapes_only: whether its arrays are only described, for programs that are compiled and not run.

    Returns:
        A sampler of batches of B transitions.
    """
    random, count = np.random.default_rng(0), 1 if shapes_only else num_rows

    def observations() -> Any:
        if parts := spec.observation_parts:
            drawn = {
                part.name: random.integers(0, 256, (count, *part.shape), np.uint8)
                if part.dtype == "uint8"
                else random.standard_normal((count, *part.shape), np.float32)
                for part in parts
            }
            return pack(drawn, parts, "observations")
        if spec.observation_dtype == "uint8":
            return random.integers(0, 256, (count, *spec.observation_shape), np.uint8)
        return random.standard_normal((count, *spec.observation_shape), np.float32)

    actions: Any = random.integers(0, max(1, spec.num_actions), count, np.int32)
    if not spec.discrete:
        actions = random.uniform(-1, 1, (count, spec.action_dim)).astype(np.float32)
    rewards: Any = random.standard_normal(count, np.float32)
    rows = Transitions(
        observations=observations(),
        actions=actions,
        rewards=rewards,
        masks=np.ones_like(rewards),
        next_observations=observations(),
        goals=observations() if spec.goal_conditioned else None,
        policy_goals=observations() if spec.goal_conditioned else None,
        subgoals=observations() if spec.goal_conditioned else None,
        policy_subgoals=observations() if spec.goal_conditioned else None,
    )
    if shapes_only:
        rows = jax.tree.map(lambda row: jax.ShapeDtypeStruct((num_rows, *row.shape[1:]), row.dtype), rows)

    def gather(rows: Transitions, numbers: Any) -> Transitions:
        batch = jax.tree.map(lambda column: column[numbers], rows)
        if spec.goal_conditioned:
            return batch
        following = (numbers[:, None] + np.arange(HORIZON)[None]) % num_rows
        segments = Segments(
            actions=rows.actions[following],
            observations=rows.next_observations[following],
            masks=jnp.ones(following.shape),
        )
        return batch._replace(
            next_actions=segments.actions[:, 1], futures=segments.observations[:, -1], segments=segments
        )

    return Sampler(
        arrays=rows,
        draw=lambda rows, key: jax.random.randint(key, (batch_size,), 0, num_rows),
        gather=gather,
        batch_size=batch_size,
        num_transitions=num_rows,
    )


def flop_per_update(agent: Agent, example: Transitions) -> float:
    """Floating-point operations of one update, as XLA counts them in the optimised CPU program.

    Always uses the CPU program: XLA merges common subexpressions in it and calls no vendor library whose
    operations it would not count. XLA counts one iteration of each loop; the matrix products of the other
    iterations are added.
    """
    with jax.default_device(jax.local_devices(backend="cpu")[0]):
        example = jax.tree.map(jnp.asarray, example)
        state = jax.jit(agent.init)(jax.random.key(0), example)
        traced = jax.jit(agent.update).trace(state, example)
        analysis = traced.lower().compile().cost_analysis()
    jaxpr = traced.jaxpr.jaxpr
    more = product_flop(jaxpr) - product_flop(jaxpr, all_iterations=False)
    return float(analysis["flops"]) + more  # type: ignore[index]


def product_flop(jaxpr: Any, all_iterations: bool = True) -> int:
    """Floating-point operations of a program's matrix products and convolutions.

    Args:
        jaxpr: the program.
        all_iterations: whether all iterations of its loops count, or one. A loop whose length is not known
            when the program is traced counts once in both cases.
    """
    total = 0
    for equation in jaxpr.eqns:
        if equation.primitive in (jax.lax.dot_general_p, jax.lax.conv_general_dilated_p):
            left, right = (variable.aval.shape for variable in equation.invars[:2])
            numbers = equation.params["dimension_numbers"]
            if equation.primitive is jax.lax.dot_general_p:
                summed = math.prod(left[axis] for axis in numbers[0][0])
            else:
                summed = math.prod(right) // right[numbers.rhs_spec[0]]
            total += 2 * math.prod(equation.outvars[0].aval.shape) * summed
        iterations = equation.params.get("length", 1) if all_iterations else 1
        parts = jaxprs_in_params(equation.params)
        total += iterations * sum(product_flop(part, all_iterations) for part in parts)
    return total


def measure(
    agent: Agent, source: Sampler | Experience, *, num_seeds: int = 1, rounds: int = 7
) -> Measurement:
    """Times one agent's training loop and the matrix product in turn; see `compare`."""
    return compare({"": agent}, source, num_seeds=num_seeds, rounds=rounds)[""]


def compare(
    agents: Mapping[str, Agent], source: Sampler | Experience, *, num_seeds: int = 1, rounds: int = 7
) -> dict[str, Measurement]:
    """Times the training loops of several agents and the matrix product in turn.

    In each round each is timed `TIMINGS` times, and the best timing counts.

    Args:
        agents: name to agent.
        source: the source of batches.
        num_seeds: number of members in one training program.
        rounds: number of rounds.

    Returns:
        Name to Measurement.
    """
    experience = offline(source) if isinstance(source, Sampler) else source
    mesh = meshes.make_mesh(num_seeds, experience.batch_size)
    loops = {name: make_loop(agent, experience, num_seeds, mesh) for name, agent in agents.items()}
    blocks = {name: choose_blocks(loop, SLICE_SECONDS) for name, loop in loops.items()}
    updates = {name: blocks[name] * loop.length for name, loop in loops.items()}

    def updates_per_second(name: str) -> float:
        return updates[name] * num_seeds / _seconds(loops[name], blocks[name])

    timers = [functools.partial(updates_per_second, name) for name in loops] + [_matmul_timer(mesh)]
    *speeds, peaks = zip(*(_best_in_turn(timers) for _ in range(rounds)), strict=True)

    measured = {}
    example = experience.example(experience.arrays, jax.random.key(0))
    for (name, loop), by_round in zip(loops.items(), speeds, strict=True):
        flop = flop_per_update(agents[name], example)
        speed = statistics.median(by_round)
        shares = (flop * speed / peak for speed, peak in zip(by_round, peaks, strict=True))
        taken = experience.environment_steps(loop.length + updates[name])
        taken -= experience.environment_steps(loop.length)
        measured[name] = Measurement(
            updates_per_second=speed,
            flop_per_update=flop,
            flop_per_second=flop * speed,
            matmul_peak=statistics.median(peaks),
            share_of_peak=statistics.median(shares),
            compile_seconds=loop.compile_seconds,
            environment_steps_per_second=speed * taken / updates[name],
        )
    return measured


def _best_in_turn(timers: Sequence[Callable[[], float]]) -> list[float]:
    """The best of `TIMINGS` timings of each timer, taken in turn."""
    timings = [[timer() for timer in timers] for _ in range(TIMINGS)]
    return [max(by_timer) for by_timer in zip(*timings, strict=True)]


class Loop(NamedTuple):
    """An agent's compiled training loop.

    Attributes:
        run: (count) -> None; runs so many blocks of updates of each member and returns when they are done.
        length: number of updates of each member in a block.
        compile_seconds: time to trace and compile.
        compiled: the training program.
    """

    run: Callable[[int], None]
    length: int
    compile_seconds: float
    compiled: jax.stages.Compiled


def make_loop(
    agent: Agent,
    experience: Experience,
    num_seeds: int,
    mesh: jax.sharding.Mesh | None = None,
    compiler_options: Mapping[str, Any] = types.MappingProxyType({}),
) -> Loop:
    """Compiles the program with which `training.loop.train` trains an agent, and runs its first block.

    Args:
        agent: the agent.
        experience: the source of batches.
        num_seeds: number of members.
        mesh: the devices; None for all devices.
        compiler_options: XLA's flags for this program, without the dashes.

    Returns:
        The loop.
    """
    mesh = mesh or meshes.make_mesh(num_seeds, experience.batch_size)
    program = make_program(lambda _: agent, experience, mesh)
    arrays = meshes.place_rows(experience.arrays, mesh)
    keys = jax.vmap(jax.random.key)(jnp.arange(num_seeds))
    keys = jax.device_put(keys, meshes.by_member(mesh))

    length = block_length(mesh, LOG_EVERY)
    started = time.perf_counter()
    progression = program.init({}, keys, arrays)
    advance = compiled_advance(
        program, progression, {}, keys, arrays, length, mesh, compiler_options=dict(compiler_options)
    )
    compile_seconds = time.perf_counter() - started
    # The first block is not timed: the steps that first fill the replay buffer come before it.
    progression = jax.block_until_ready(advance.run(progression, 0, 1, ()))

    def run(blocks: int) -> None:
        nonlocal progression
        progression = jax.block_until_ready(advance.run(progression, length, blocks, ()))

    return Loop(run=run, length=length, compile_seconds=compile_seconds, compiled=advance.compiled)


def choose_blocks(loop: Loop, seconds: float) -> int:
    """The number of blocks that take about so long. The speed of a few differs from that of many."""
    blocks = 1
    for _ in range(3):
        blocks = max(1, int(blocks * seconds / _seconds(loop, blocks)))
    return blocks


def _seconds(loop: Loop, blocks: int) -> float:
    started = time.perf_counter()
    loop.run(blocks)
    return time.perf_counter() - started


def _matmul_timer(mesh: jax.sharding.Mesh) -> Callable[[], float]:
    """A function that times one square float32 product on every device of the mesh at once, in flop/s."""
    size = 2048 if mesh.devices.flat[0].platform == "cpu" else 8192
    matrices = jax.device_put(
        np.random.default_rng(0).standard_normal((mesh.size, size, size), np.float32),
        jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec((meshes.SEED, meshes.DATA))),
    )
    product = jax.jit(lambda matrices: matrices @ matrices)
    jax.block_until_ready(product(matrices))

    def flop_per_second() -> float:
        started = time.perf_counter()
        jax.block_until_ready(product(matrices))
        return mesh.size * 2 * size**3 / (time.perf_counter() - started)

    return flop_per_second
