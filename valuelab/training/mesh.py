"""Where arrays lie: a mesh of devices with a seed axis and a data axis.

Members of a population (seeds, swept hyperparameters) are spread over the seed axis, batches and dataset
rows over the data axis; parameters are replicated along it. The same code runs on one device, on many,
and on several hosts.
"""

import functools
import math
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from valuelab.errors import InputError

SEED, DATA = "seed", "data"


def make_mesh(num_members: int, batch_size: int, shape: tuple[int, ...] | None = None) -> Mesh:
    """Lays out all devices, of all hosts, as (seed, data).

    Args:
        num_members: members of the population; a multiple of the seed axis.
        batch_size: a multiple of the data axis.
        shape: (seed, data) sizes whose product is at most the number of devices, or that number where
            there are several hosts; None takes every device, as many along the seed axis as divide both
            the devices and the members.

    Returns:
        The mesh.

    Raises:
        InputError: when the shape does not fit the devices, the members or the batch.
    """
    num_devices = jax.device_count()
    if shape is None:
        seed_size = math.gcd(num_devices, num_members)
        shape = (seed_size, num_devices // seed_size)
    seed_size, data_size = shape
    if seed_size < 1 or data_size < 1 or seed_size * data_size > num_devices:
        raise InputError(
            f"mesh {seed_size},{data_size} does not fit {num_devices} device(s): "
            "give --mesh=SEED,DATA with a product of at most that"
        )
    if jax.process_count() > 1 and seed_size * data_size < num_devices:
        raise InputError(
            f"mesh {seed_size},{data_size} leaves devices of some hosts out: "
            f"give --mesh=SEED,DATA with a product of {num_devices}"
        )
    if num_members % seed_size:
        raise InputError(
            f"num_seeds gives {num_members} member(s), not divisible by the seed axis of {seed_size}: "
            f"train a multiple of {seed_size}, or give --mesh=1,{num_devices}"
        )
    if batch_size % data_size:
        raise InputError(
            f"batch_size {batch_size} is not divisible by the data axis of {data_size} device(s): "
            f"take a multiple of {data_size}, or give --mesh=SEED,DATA with a data axis that divides it"
        )
    devices = np.array(jax.devices()[: seed_size * data_size]).reshape(shape)
    return Mesh(devices, (SEED, DATA), axis_types=(AxisType.Auto, AxisType.Auto))


def by_member(mesh: Mesh) -> NamedSharding:
    """The sharding of arrays with members as leading axis."""
    return NamedSharding(mesh, PartitionSpec(SEED))


def replicated(mesh: Mesh) -> NamedSharding:
    """The sharding of arrays that every device holds whole."""
    return NamedSharding(mesh, PartitionSpec())


def _put(array: np.ndarray, sharding: NamedSharding) -> jax.Array:
    """Puts a host array, the same on every host, on the devices; each host hands over its own shards."""
    return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])


def place_members(tree: Any, mesh: Mesh) -> Any:
    """Puts host arrays with members as leading axis on the devices."""
    return jax.tree.map(lambda array: _put(np.asarray(array), by_member(mesh)), tree)


def place_rows(tree: Any, mesh: Mesh) -> Any:
    """Puts host arrays with dataset rows as leading axis on the devices, sharded over the data axis.

    Rows are padded at the end with copies of the last one where they do not divide evenly.
    """
    data_size = mesh.shape[DATA]
    sharding = NamedSharding(mesh, PartitionSpec(DATA))

    def place(array: np.ndarray) -> jax.Array:
        if padding := -len(array) % data_size:
            array = np.concatenate([array, np.repeat(array[-1:], padding, axis=0)])
        return _put(array, sharding)

    return jax.tree.map(place, tree)


@functools.cache
def _gather(mesh: Mesh) -> Any:
    """A jitted copy to every device."""
    return jax.jit(lambda tree: tree, out_shardings=replicated(mesh))


def fetch(tree: Any, mesh: Mesh) -> Any:
    """Copies arrays, wherever their shards lie, to arrays that this host alone holds, whole."""
    return jax.tree.map(lambda array: array.addressable_data(0), _gather(mesh)(tree))
