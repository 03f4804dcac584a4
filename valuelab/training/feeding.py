"""Batches that the host gathers while the devices train, for data larger than a device.

A chunk holds the batches of U successive updates of all members. Chunk c holds those of the updates c U to
(c + 1) U - 1 whenever training starts or stops, and each batch is drawn with the key that the training loop
uses for data on the device. So streamed batches have the same bits, and resuming needs no saved position.

The host draws numbers of rows with JAX on its CPU, and gathers the rows with NumPy. Each host gathers only
what its devices hold: their members, and their share of each batch. Threads make the next chunks meanwhile.
"""

import concurrent.futures
import contextlib
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from valuelab.errors import InputError
from valuelab.training import mesh as meshes
from valuelab.types import Agent, Array, Key, Sampler, Transitions

CHUNK_BYTES = 1 << 24
"""The size of a device's part of a chunk, unless a single batch is larger."""
MOST_UPDATES = 512
"""The largest number of updates of a chunk."""
AHEAD = 3
"""The number of chunks after the current one that are made in advance, each by a thread."""


class Feeder:
    """Makes the chunks of a run.

    Attributes:
        updates: U, the number of updates of a chunk, a multiple of `block`.
        block: the number of updates of a block of the training program.
        shapes: the shapes, dtypes and shardings of a chunk.
    """

    def __init__(
        self,
        sampler: Sampler,
        needed: tuple[bool, ...],
        seeds: np.ndarray,
        key_of: Any,
        mesh: Mesh,
        steps: int,
        block_for: Callable[..., int],
    ):
        """Takes the run; nothing is gathered yet.

        Args:
            sampler: the sampler, with arrays on the host, in memory or memory-mapped.
            needed: for each leaf of what it draws, whether the updates need it; see `needed_leaves`.
            seeds: [M] uint32, the seeds of the members.
            key_of: (seed, update) -> the key of a batch.
            mesh: (seed, data).
            steps: number of updates of the run.
            block_for: (most=the largest number of updates of a chunk) -> the length of a block.
        """
        self._sampler, self._needed, self._mesh, self._steps = sampler, needed, mesh, steps
        self._seeds = seeds
        self._chunks: dict[int, concurrent.futures.Future[Transitions]] = {}
        self._pool = concurrent.futures.ThreadPoolExecutor(AHEAD, "feeding")
        self._cpu = _host_device()
        drawn = jax.eval_shape(sampler.draw, sampler.arrays, jax.random.key(0))
        leaves, structure = jax.tree.flatten(sampler.arrays)
        read = _kept(sampler.draw, sampler.arrays, jax.random.key(0))[: len(leaves)]
        index = [leaf if is_read else None for leaf, is_read in zip(leaves, read, strict=True)]
        self._index = jax.device_put(index, self._cpu)

        def draw(index: Any, seeds: Array, updates: Array) -> Any:
            arrays = jax.tree.unflatten(structure, index)

            def draw_one(seed: Array, update: Array) -> Any:
                return self._keep(sampler.draw(arrays, key_of(seed, update)))

            return jax.vmap(lambda seed: jax.vmap(lambda update: draw_one(seed, update))(updates))(seeds)

        self._draw = jax.jit(draw)
        batch = jax.eval_shape(
            lambda arrays, drawn: sampler.gather(arrays, self._keep(drawn)), sampler.arrays, drawn
        )
        size = sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(batch))
        per_device = len(seeds) * size // mesh.size
        most = max(1, min(MOST_UPDATES, CHUNK_BYTES // max(1, per_device)))
        self.block = block_for(most=most)
        self.updates = most // self.block * self.block
        self._sharding = NamedSharding(mesh, PartitionSpec(meshes.SEED, None, meshes.DATA))
        self.shapes = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(
                (len(seeds), self.updates, *leaf.shape), leaf.dtype, sharding=self._sharding
            ),
            batch,
        )

    def end(self, step: int) -> int:
        """The first update after the chunk of an update."""
        return (step // self.updates + 1) * self.updates

    def chunk(self, step: int) -> Transitions:
        """The chunk of an update.

        Args:
            step: number of the update.

        Returns:
            Transitions [M, U, B, ...], None for fields that the updates do not need. The batch of update
            `step` is at `step` modulo U.
        """
        number = step // self.updates
        last = min(number + AHEAD, (self._steps - 1) // self.updates)
        for other in self._chunks.keys() - set(range(number, last + 1)):
            del self._chunks[other]
        for each in range(number, last + 1):
            if each not in self._chunks:
                self._chunks[each] = self._pool.submit(self._make, each)
        return self._chunks[number].result()

    def close(self) -> None:
        """Ends the threads."""
        self._pool.shutdown(cancel_futures=True)

    def part(self, number: int, members: slice, share: slice) -> Transitions:
        """The part of a chunk that one device holds, in NumPy.

        Args:
            number: number of the chunk.
            members: the members.
            share: the rows of each batch.

        Returns:
            Transitions [members, U, share, ...].
        """
        return self._gather(self._rows(number, members), share)

    def _rows(self, number: int, members: slice) -> Any:
        """What the batches of some members are gathered from, [members, U, B]."""
        updates = np.arange(self.updates, dtype=np.int32) + number * self.updates
        seeds, updates = jax.device_put((self._seeds[members], updates), self._cpu)
        return jax.device_get(self._draw(self._index, seeds, updates))

    def _gather(self, drawn: Any, share: slice) -> Transitions:
        rows = jax.tree.map(lambda leaf: leaf[:, :, share], drawn)
        return self._sampler.gather(self._sampler.arrays, rows)

    def _make(self, number: int) -> Transitions:
        """The chunk of this host's devices."""
        shape = (len(self._seeds), self.updates, self._sampler.batch_size)
        drawn: dict[tuple[int, int, int], Any] = {}
        parts = []
        for device, index in self._sharding.addressable_devices_indices_map(shape).items():
            assert index is not None
            members, _, share = index
            place = members.indices(len(self._seeds))
            if place not in drawn:
                drawn[place] = self._rows(number, members)
            parts.append(jax.device_put(self._gather(drawn[place], share), device))

        def whole(shape: jax.ShapeDtypeStruct, *parts: jax.Array) -> jax.Array:
            return jax.make_array_from_single_device_arrays(shape.shape, self._sharding, list(parts))

        return jax.block_until_ready(jax.tree.map(whole, self.shapes, *parts))

    def _keep(self, drawn: Any) -> Any:
        """What was drawn, with None for the leaves that no update needs."""
        leaves, structure = jax.tree.flatten(drawn)
        pairs = zip(leaves, self._needed, strict=True)
        return jax.tree.unflatten(structure, [leaf if is_needed else None for leaf, is_needed in pairs])


@contextlib.contextmanager
def feeding(
    sampler: Sampler | None,
    build: Callable[[Mapping[str, Any]], Agent],
    hyperparameters: Mapping[str, np.ndarray],
    seeds: np.ndarray,
    key_of: Callable[[Array, Array], Key],
    mesh: Mesh,
    steps: int,
    block_for: Callable[..., int],
) -> Iterator[Feeder | None]:
    """Feeds a run; None if no sampler is given, because its data are on the devices.

    Args:
        sampler: the sampler of data on the host.
        build: hyperparameters of one member -> its agent.
        hyperparameters: name to [M] values.
        seeds: [M] uint32.
        key_of: (seed, update) -> the key of a batch.
        mesh: (seed, data).
        steps: number of updates of the run.
        block_for: as for `Feeder`.

    Yields:
        The feeder.
    """
    if sampler is None:
        yield None
        return
    agent = build({name: values[0] for name, values in hyperparameters.items()})
    feeder = Feeder(sampler, needed_leaves(agent, sampler), seeds, key_of, mesh, steps, block_for)
    try:
        yield feeder
    finally:
        feeder.close()


def needed_leaves(agent: Agent, sampler: Sampler) -> tuple[bool, ...]:
    """For each leaf of what a sampler draws, whether an update of the agent depends on it."""
    key = jax.random.key(0)
    drawn = jax.eval_shape(sampler.draw, sampler.arrays, key)

    def init(arrays: Any, key: Key) -> Any:
        return agent.init(key, jax.tree.map(lambda leaf: leaf[:1], sampler.sample(arrays, key)))

    state = jax.eval_shape(init, sampler.arrays, key)

    def update(drawn: Any, arrays: Any, state: Any) -> Any:
        return agent.update(state, sampler.gather(arrays, drawn))

    return _kept(update, drawn, sampler.arrays, state)[: len(jax.tree.leaves(drawn))]


def batch_of(chunk: Transitions, step: Array, example: Transitions) -> Transitions:
    """The batch [B, ...] of an update in one member's chunk [U, B, ...].

    Fields that the chunk does not have are zeros in the shapes of `example`; XLA removes them.
    """
    updates = len(jax.tree.leaves(chunk)[0])

    def completed(example: Any, given: Any) -> Any:
        if given is None:
            return example
        if isinstance(example, tuple):
            return type(example)(*map(completed, example, given))
        return jax.lax.dynamic_index_in_dim(given, step % updates, keepdims=False)

    return completed(example, chunk)


def _kept(function: Callable[..., Any], *arguments: Any) -> tuple[bool, ...]:
    """For each leaf of the arguments, whether the outputs of a function depend on it."""
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), arguments)
    kept = jax.export.export(jax.jit(function))(*shapes).module_kept_var_idx
    return tuple(number in kept for number in range(len(jax.tree.leaves(shapes))))


def _host_device() -> jax.Device:
    """The CPU of this host as a device of JAX."""
    try:
        return jax.local_devices(backend="cpu")[0]
    except RuntimeError as error:
        raise InputError(
            "data.stream draws batches on the host, but JAX has no CPU device: add cpu to the variable "
            "JAX_PLATFORMS, such as JAX_PLATFORMS=cuda,cpu"
        ) from error
