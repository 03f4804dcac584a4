"""The placement of arrays on a mesh of devices with a seed axis and a data axis.

Members of a population (seeds, swept hyperparameters) are sharded over the seed axis. Batches and dataset
rows are sharded over the data axis; parameters are replicated along it. The same code runs on one device,
on many, and on several hosts.
"""

import functools
import math
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from valuelab.errors import InputError

SEED, DATA = "seed", "data"


def make_mesh(
    num_members: int,
    batch_size: int,
    shape: tuple[int, ...] | None = None,
    devices: Sequence[jax.Device] | None = None,
) -> Mesh:
    """Arranges devices as (seed, data).

    Args:
        num_members: number of members of the population; a multiple of the seed axis.
        batch_size: a multiple of the data axis.
        shape: sizes (seed, data). Their product is at most the number of devices; with several hosts it must
            equal that number. None uses every device; the seed axis is then the greatest common divisor of
            the numbers of devices and members.
        devices: the devices; None for those of all hosts.

    Returns:
        The mesh.

    Raises:
        InputError: when the shape does not fit the devices, the members or the batch.
    """
    devices = jax.devices() if devices is None else devices
    num_devices = len(devices)
    if shape is None:
        seed_size = math.gcd(num_devices, num_members)
        shape = (seed_size, num_devices // seed_size)
    seed_size, data_size = shape
    if seed_size < 1 or data_size < 1 or seed_size * data_size > num_devices:
        raise InputError(
            f"mesh {seed_size},{data_size} does not fit {num_devices} device(s): "
            f"give --mesh=SEED,DATA with a product of at most {num_devices}"
        )
    if jax.process_count() > 1 and seed_size * data_size < num_devices:
        raise InputError(
            f"mesh {seed_size},{data_size} does not use all {num_devices} devices of the hosts: "
            f"give --mesh=SEED,DATA with a product of {num_devices}"
        )
    if num_members % seed_size:
        raise InputError(
            f"the {num_members} member(s) are not divisible by the seed axis of {seed_size}: "
            f"choose num_seeds so that they are, or give --mesh=1,{num_devices}"
        )
    if batch_size % data_size:
        raise InputError(
            f"batch_size {batch_size} is not divisible by the data axis of {data_size} device(s): "
            f"give a multiple of {data_size}, or --mesh=SEED,DATA with a data axis that divides it"
        )
    used = np.array(devices[: seed_size * data_size]).reshape(shape)
    return Mesh(used, (SEED, DATA), axis_types=(AxisType.Auto, AxisType.Auto))


def by_member(mesh: Mesh) -> NamedSharding:
    """The sharding of arrays with members as leading axis."""
    return NamedSharding(mesh, PartitionSpec(SEED))


def replicated(mesh: Mesh) -> NamedSharding:
    """The sharding of arrays of which every device holds a full copy."""
    return NamedSharding(mesh, PartitionSpec())


def _put(array: np.ndarray, sharding: NamedSharding) -> jax.Array:
    """Puts a host array, equal on all hosts, on the devices; each host provides the shards of its devices."""
    return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])


def place_members(tree: Any, mesh: Mesh) -> Any:
    """Puts host arrays with members as leading axis on the devices."""
    return jax.tree.map(lambda array: _put(np.asarray(array), by_member(mesh)), tree)


def place_rows(tree: Any, mesh: Mesh) -> Any:
    """Puts host arrays with dataset rows as leading axis on the devices, sharded over the data axis.

    If the number of rows is not a multiple of the data axis, copies of the last row are appended.
    """
    data_size = mesh.shape[DATA]
    sharding = NamedSharding(mesh, PartitionSpec(DATA))

    def place(array: np.ndarray) -> jax.Array:
        if padding := -len(array) % data_size:
            array = np.concatenate([array, np.repeat(array[-1:], padding, axis=0)])
        return _put(array, sharding)

    return jax.tree.map(place, tree)


def take_member(tree: Any, index: int, mesh: Mesh) -> Any:
    """A copy of one member of arrays with members as leading axis, which keep this axis with length 1."""
    return _member_functions(mesh)[0](tree, np.int32(index))


def compiled_member_functions(taken: Any, written: Any, mesh: Mesh) -> tuple[Any, Any]:
    """Compiles two functions of a member's index, an int32, for arrays with members as leading axis.

    Args:
        taken: the arrays of which members are taken, or their shapes.
        written: the arrays into which members are written, or their shapes.
        mesh: (seed, data).

    Returns:
        (taken, index) -> a copy of a member, which keeps the leading axis with length 1; and (written,
        member, index) -> the arrays with this member, written in place: it donates its first argument.
    """
    take, put = _member_functions(mesh)
    index = np.int32(0)
    member = jax.eval_shape(take, written, index)
    return take.lower(taken, index).compile(), put.lower(written, member, index).compile()


@functools.cache
def _member_functions(mesh: Mesh) -> tuple[Any, Any]:
    def take(tree: Any, index: jax.Array) -> Any:
        return jax.tree.map(lambda leaf: jax.lax.dynamic_slice_in_dim(leaf, index, 1), tree)

    def put(tree: Any, member: Any, index: jax.Array) -> Any:
        def write(leaf: jax.Array, part: jax.Array) -> jax.Array:
            return jax.lax.dynamic_update_slice_in_dim(leaf, part, index, 0)

        return jax.tree.map(write, tree, member)

    sharding = by_member(mesh)
    return jax.jit(take, out_shardings=sharding), jax.jit(put, donate_argnums=0, out_shardings=sharding)


@functools.cache
def _gather(mesh: Mesh) -> Any:
    """A jitted copy to every device."""
    return jax.jit(lambda tree: tree, out_shardings=replicated(mesh))


def fetch(tree: Any, mesh: Mesh) -> Any:
    """Copies sharded arrays to complete arrays on one device of this host."""
    return jax.tree.map(lambda array: array.addressable_data(0), _gather(mesh)(tree))
