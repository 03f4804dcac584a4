"""Compiles programs for devices that are only described, and tells what they need and what bounds them."""

import functools
import hashlib
import math
import re
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from valuelab.errors import InputError, words
from valuelab.training import compiled_programs, feeding, throughput
from valuelab.training import mesh as meshes
from valuelab.training.experience import Experience
from valuelab.training.loop import Build, Progression, batch_key, block_length, make_program
from valuelab.training.throughput import LOG_EVERY
from valuelab.training.topologies import Accelerator
from valuelab.types import Array, Key, Outcomes, VectorEnvironment

MICROSECONDS_PER_KERNEL = 2.5
"""The time that a GPU takes for a small kernel, from one launch to the next (2 to 3 microseconds)."""


class Memory(NamedTuple):
    """Bytes on one device.

    Attributes:
        arguments: data, states and replay buffers.
        temporaries: intermediate results.
        outputs: results that do not take the place of an argument.
        program: the code.
        capacity: the memory of the device.
    """

    arguments: int
    temporaries: int
    outputs: int
    program: int
    capacity: int

    @property
    def total(self) -> int:
        """Bytes in use while the program runs."""
        return self.arguments + self.temporaries + self.outputs + self.program

    @property
    def fits(self) -> bool:
        """Whether the device's memory is large enough."""
        return self.total <= self.capacity


class Report(NamedTuple):
    """What a compiled program does in one update of all members, on one device.

    Attributes:
        memory: bytes in use.
        flop: floating-point operations of matrix products and convolutions.
        loop: kernels, collectives and bytes.
        compile_seconds: time to compile.
        seconds: the least time of an update for each resource: "flop", "bytes", "kernels", "interconnect".
        updates_per_second: of all members together, as if only the slowest resource took time.
        bound_by: the slowest resource.
    """

    memory: Memory
    flop: float
    loop: compiled_programs.Loop
    compile_seconds: float
    seconds: dict[str, float]
    updates_per_second: float
    bound_by: str

    def to_json(self) -> dict[str, Any]:
        """The report as nested values."""
        loop = self.loop
        return {
            "memory": {**self.memory._asdict(), "total": self.memory.total, "fits": self.memory.fits},
            "flop": self.flop,
            "bytes": loop.bytes,
            "kernels": {**loop.kernels, "with_collectives": loop.launches},
            "collectives": {kind: each._asdict() for kind, each in loop.collectives.items()},
            "trip_count": loop.trip_count,
            "seconds": self.seconds,
            "updates_per_second": self.updates_per_second,
            "bound_by": self.bound_by,
            "compile_seconds": self.compile_seconds,
        }


class Lowered(NamedTuple):
    """A program, ready to be compiled.

    Attributes:
        lowered: the program.
        flop: floating-point operations of matrix products and convolutions in an update on one device.
        depth: the number of loops, one in the other, down to that of updates.
        num_devices: number of devices that share its work.
        num_members: number of members that an iteration of its loop updates.
        arguments: kind of argument -> bytes on one device.
    """

    lowered: jax.stages.Lowered
    flop: float
    depth: int
    num_devices: int
    num_members: int
    arguments: dict[str, float]

    @property
    def digest(self) -> str:
        """A checksum of the program: equal programs compile to equal ones, with the same versions of XLA."""
        return hashlib.sha256(self.lowered.as_text().encode()).hexdigest()


def lower(
    traced: Any, num_devices: int = 1, num_members: int = 1, block: int = 1, **arguments: Any
) -> Lowered:
    """Lowers a traced program whose work several devices share.

    Args:
        traced: what `jax.jit(...).trace(...)` returns.
        num_devices: number of devices.
        num_members: number of members that an iteration of its loop updates.
        block: number of iterations of its inner loop; 1 if it has only one loop.
        arguments: kind of argument -> arrays, or their shapes.
    """
    return Lowered(
        lowered=traced.lower(),
        flop=throughput.product_flop(traced.jaxpr.jaxpr) / block / num_devices,
        depth=compiled_programs.depth(block),
        num_devices=num_devices,
        num_members=num_members,
        arguments={name: _bytes_on_device(part) for name, part in arguments.items()},
    )


def described(tree: Any, sharding: NamedSharding) -> Any:
    """The shapes of arrays that lie on devices as a sharding says."""
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(jnp.shape(leaf), leaf.dtype, sharding=sharding), tree
    )


def described_rows(tree: Any, mesh: Mesh) -> Any:
    """The shapes of the arrays of `meshes.place_rows`."""
    data_size = mesh.shape[meshes.DATA]

    def row_shape(array: Any) -> jax.ShapeDtypeStruct:
        rows = -(-array.shape[0] // data_size) * data_size
        return jax.ShapeDtypeStruct((rows, *array.shape[1:]), array.dtype, sharding=sharding)

    sharding = NamedSharding(mesh, PartitionSpec(meshes.DATA))
    return jax.tree.map(row_shape, tree)


def lower_training(
    build: Build,
    experience: Experience,
    mesh: Mesh,
    num_members: int = 1,
    hyperparameters: Mapping[str, np.ndarray] | None = None,
    intervals: Sequence[int] = (LOG_EVERY,),
) -> Lowered:
    """The training program of `loop.train` for the devices of a mesh.

    Args:
        build: hyperparameters of one member -> its agent.
        experience: the source of batches; not with an environment on the host, see `on_device`.
        mesh: the devices, which may be only described.
        num_members: M.
        hyperparameters: name to [M] values.
        intervals: numbers of updates between events of the run, see `loop.block_length`.
    """
    by_member, step = meshes.by_member(mesh), jax.ShapeDtypeStruct((), np.int32)
    program = make_program(build, experience, mesh)
    values = {name: np.asarray(each, np.float32) for name, each in (hyperparameters or {}).items()}
    swept = described(values, by_member)
    keys = described(jax.eval_shape(jax.vmap(jax.random.key), np.arange(num_members)), by_member)
    arrays = described_rows(experience.arrays, mesh)
    progression: Progression = described(jax.eval_shape(program.init, swept, keys, arrays), by_member)
    seeds = np.arange(num_members, dtype=np.uint32)
    length_for = functools.partial(block_length, mesh, *intervals)
    with feeding.feeding(experience.host, build, values, seeds, batch_key, mesh, 1, length_for) as feeder:
        length, chunk = (feeder.block, feeder.shapes) if feeder else (length_for(), ())
    traced = program.advance.trace(progression, swept, keys, arrays, step, step, length, chunk)
    parts = {"data": (arrays, chunk), "states": progression.states, "replay buffers": progression.experience}
    return lower(traced, mesh.size, num_members, length, **parts)


def _bytes_on_device(tree: Any) -> float:
    """Bytes of the part of arrays that one device holds."""
    shards = ((leaf.sharding.shard_shape(leaf.shape), leaf.dtype) for leaf in jax.tree.leaves(tree))
    return float(sum(math.prod(shape) * dtype.itemsize for shape, dtype in shards))


def on_device(environment: VectorEnvironment) -> VectorEnvironment:
    """An environment whose program can be compiled anywhere.

    JAX compiles calls of a simulator on the host only where the device is. In its place come random outcomes
    of the same shapes, drawn on the device; the calls and their transfers are then not counted. Environments
    that are computed on the device stay as they are.
    """

    def step(keys: Key, actions: Array) -> tuple[Key, Outcomes]:
        del actions
        key, *draws = jax.random.split(keys, 5)
        rewards = (count, spec.reward_dim) if spec.reward_dim > 1 else (count,)
        ended = [jax.random.bernoulli(draw, 0.01, (count,)) for draw in draws[:2]]
        return key, Outcomes(
            observations=observations(draws[2]),
            rewards=jax.random.normal(draws[3], rewards),
            terminated=ended[0],
            truncated=ended[1],
        )

    def observations(key: Key) -> Array:
        shape = (count, *spec.observation_shape)
        if spec.observation_dtype == "uint8":
            return jax.random.bits(key, shape, jnp.uint8)
        return jax.random.normal(key, shape)

    spec, count = environment.spec, environment.num_environments
    simulation, _ = jax.eval_shape(environment.reset, jax.random.key(0))
    actions = jnp.zeros(count, jnp.int32) if spec.discrete else jnp.zeros((count, spec.action_dim))
    if "callback" not in str(jax.make_jaxpr(environment.step)(simulation, actions)):
        return environment
    return environment._replace(reset=lambda key: (key, observations(key)), step=step)


def compile_and_report(
    program: Lowered, accelerator: Accelerator, microseconds_per_kernel: float = MICROSECONDS_PER_KERNEL
) -> tuple[Report, str]:
    """Compiles a program and reports on it.

    Args:
        program: the program.
        accelerator: the kind of device for which it was lowered.
        microseconds_per_kernel: time from one kernel to the next. It counts on GPUs, where the host launches
            each kernel.

    Returns:
        The report and the text of the compiled program.

    Raises:
        InputError: when XLA finds that the program needs more memory than the device has.
    """
    started = time.perf_counter()
    try:
        compiled = program.lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        text = words(error)
        if "RESOURCE_EXHAUSTED" not in text:
            raise
        raise InputError(_too_large(program, accelerator, _missing_memory(text), 0.0)) from error
    compile_seconds = time.perf_counter() - started
    hlo, sizes = compiled.as_text() or "", compiled.memory_analysis()
    assert sizes  # XLA has it for TPUs and GPUs
    loop = compiled_programs.loop(hlo, program.depth)
    memory = Memory(
        arguments=sizes.argument_size_in_bytes,
        temporaries=sizes.temp_size_in_bytes,
        outputs=sizes.output_size_in_bytes - sizes.alias_size_in_bytes,
        program=sizes.generated_code_size_in_bytes,
        capacity=accelerator.memory,
    )
    launches = loop.launches if accelerator.platform == "gpu" else 0
    seconds = {
        "flop": program.flop / accelerator.flop_per_second,
        "bytes": loop.bytes / accelerator.memory_bandwidth,
        "kernels": launches * microseconds_per_kernel * 1e-6,
        "interconnect": sum(each.sent for each in loop.collectives.values())
        / accelerator.interconnect_bandwidth,
    }
    slowest = max(seconds, key=lambda name: seconds[name])
    report = Report(
        memory=memory,
        flop=program.flop,
        loop=loop,
        compile_seconds=compile_seconds,
        seconds=seconds,
        updates_per_second=program.num_members / seconds[slowest] if seconds[slowest] else math.inf,
        bound_by=slowest,
    )
    return report, hlo


def check_fits(program: Lowered, accelerator: Accelerator, memory: Memory) -> None:
    """Refuses a program that needs more memory than the device has.

    Raises:
        InputError: with the missing bytes, and the settings that make it smaller.
    """
    if not memory.fits:
        missing = (
            f"it needs {memory.total / 1e9:.1f} GB, {(memory.total - memory.capacity) / 1e9:.1f} GB more"
        )
        raise InputError(_too_large(program, accelerator, missing, memory.temporaries))


def _missing_memory(message: str) -> str:
    """The amounts in XLA's message, which names the needed and then the available memory."""
    units = {unit: 1024**power for power, unit in enumerate("KMGT", start=1)}
    amounts = [float(number) * units[unit] for number, unit in re.findall(r"([\d.]+)([KMGT])\b", message)]
    if len(amounts) < 2:
        return message
    needed, available = amounts[:2]
    return f"it needs {needed / 1e9:.1f} GB, {(needed - available) / 1e9:.1f} GB more than are free"


def _too_large(program: Lowered, accelerator: Accelerator, amounts: str, temporaries: float) -> str:
    """The line about a program that does not fit, with advice about its largest part."""
    parts = program.arguments | {"intermediate results": temporaries}
    largest = max(parts, key=lambda name: parts[name])
    advice = {
        "data": "give a mesh with a larger data axis, or a smaller dataset",
        "states": "give fewer seeds, a mesh with a larger seed axis, or smaller networks",
        "replay buffers": "lower interaction.capacity, or give fewer seeds",
        "intermediate results": "lower batch_size, or give a mesh with a larger data axis",
    }
    return (
        f"the program does not fit the {accelerator.memory / 1e9:.1f} GB of a device: {amounts}. Its largest "
        f"known part is the {largest} ({parts[largest] / 1e9:.1f} GB): {advice[largest]}"
    )
