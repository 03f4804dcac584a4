"""Policies as files that act without valuelab: `jax.export` (.jax) and ONNX (.onnx)."""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
from jax.extend import core

from valuelab import files
from valuelab.errors import InputError, one_line, require
from valuelab.runs import onnx_models
from valuelab.runs.jaxprs import Simplified, simplified
from valuelab.runs.outputs import write_json

SUFFIXES = (".jax", ".onnx")
PLATFORMS = ("cpu", "cuda", "tpu")
"""The platforms that a .jax file runs on."""
SEED = "seed"
"""The input that random actions depend on: uint32 [2], which should differ in each call."""
METADATA = "valuelab"
"""The key of the description in an ONNX file's metadata."""


class Port(NamedTuple):
    """An input or an output of a file.

    Attributes:
        name: its name in the file.
        shape: its shape without the axis of the batch.
        dtype: its dtype.
        about: its meaning and units.
        low: least values, where they are bounded.
        high: greatest values, likewise.
    """

    name: str
    shape: tuple[int, ...]
    dtype: Any
    about: str
    low: Any = None
    high: Any = None

    def described(self) -> dict[str, Any]:
        """The entry of the description."""
        shape = list(self.shape) if self.name == SEED else [onnx_models.BATCH, *self.shape]
        entry = {"name": self.name, "shape": shape, "dtype": np.dtype(self.dtype).name, "about": self.about}
        bounds = {"low": self.low, "high": self.high}
        return entry | {name: bound for name, bound in bounds.items() if bound is not None}


SEED_PORT = Port(SEED, (2,), np.uint32, "seed of the random actions: two numbers, different in each call")


def write(
    path: str | os.PathLike[str],
    function: Callable[..., tuple[Any, ...]],
    inputs: list[Port],
    outputs: list[Port],
    facts: dict[str, Any],
) -> dict[str, Any]:
    """Writes a file of a policy; a .jax file gets its description beside it, in a file with .json added.

    Args:
        path: the file, which ends in .jax or .onnx. An existing one is replaced.
        function: arrays [B, ...] in the order of `inputs`, and last the seed, -> the outputs, [B, ...].
        inputs: its inputs but the seed, of which the first is the observation.
        outputs: its outputs.
        facts: what else the description says.

    Returns:
        The description.

    Raises:
        InputError: when the path ends otherwise or cannot be written, or the function cannot be exported.
    """
    path = files.local_path("path", path)
    if path.suffix not in SUFFIXES:
        raise InputError(f"path is {path}, but must end in {' or '.join(SUFFIXES)}: give such a name")
    if path.is_dir():
        raise InputError(f"path is {path}, which is a folder: give the name of a file")
    (batch,) = jax.export.symbolic_shape(onnx_models.BATCH)
    arguments = {
        port.name: jax.ShapeDtypeStruct(port.shape if port.name == SEED else (batch, *port.shape), port.dtype)
        for port in (*inputs, SEED_PORT)
    }
    names = [port.name for port in outputs]
    with one_line("the policy cannot be exported", "its agent must act by JAX functions alone"):
        flat = simplified(
            _for_any_batch(function, arguments),
            list(arguments.values()),
            onnx_models.REPLACEMENTS if path.suffix == ".onnx" else None,
        )
        flat = flat._replace(used=(True, *flat.used[1:]))  # the size of the batch is that of the observations
        used = [port for port, is_used in zip((*inputs, SEED_PORT), flat.used, strict=True) if is_used]
        ports = {"inputs": used, "outputs": outputs}
        listed = {name: [port.described() for port in each] for name, each in ports.items()}
        description = files.json_values(facts | listed)
        if path.suffix == ".jax":
            content = _jax_program(flat, arguments, names)
        else:
            metadata = {METADATA: files.to_json(description)}
            model = onnx_models.make_model(flat, list(arguments), names, batch, metadata)
            content = model.SerializeToString()
    with one_line(f"{path} cannot be written", "give another path"):
        path.parent.mkdir(parents=True, exist_ok=True)
        with files.replacing(path) as file:
            file.write(content)
        if path.suffix == ".jax":
            write_json(path.with_name(f"{path.name}.json"), description)
    return description


def _for_any_batch(
    function: Callable[..., tuple[Any, ...]], arguments: Mapping[str, jax.ShapeDtypeStruct]
) -> Callable[..., tuple[Any, ...]]:
    """A function that can be traced with a batch of unknown size.

    A function that needs a number, as `len` does, is mapped over the rows of the batch. Row i of the batch
    then has the seed (seed[0] + i, seed[1]).
    """
    try:
        jax.eval_shape(function, *arguments.values())
    except Exception:  # whatever the code of an agent raises for a symbolic size
        pass
    else:
        return function

    def of_row(*row: Any) -> tuple[Any, ...]:
        *arrays, seed = row
        return jax.tree.map(lambda output: output[0], function(*(array[None] for array in arrays), seed))

    def over_rows(*given: Any) -> tuple[Any, ...]:
        *arrays, seed = given
        numbers = jnp.arange(arrays[0].shape[0], dtype=jnp.uint32)[:, None]
        seeds = seed[None] + numbers * jnp.asarray([[1, 0]], jnp.uint32)
        return jax.vmap(of_row)(*arrays, seeds)

    return over_rows


def _jax_program(
    flat: Simplified, arguments: Mapping[str, jax.ShapeDtypeStruct], outputs: Sequence[str]
) -> bytes:
    """The content of a .jax file: a function of its used inputs by keyword, which returns a dict."""
    require("flatbuffers", "export")
    whole = core.jaxpr_as_fun(core.ClosedJaxpr(flat.jaxpr, flat.constants))

    def act(**given: Any) -> dict[str, Any]:
        return dict(zip(outputs, whole(*(given.get(name) for name in arguments)), strict=True))

    used = {name: each for (name, each), is_used in zip(arguments.items(), flat.used, strict=True) if is_used}
    return bytes(jax.export.export(jax.jit(act), platforms=PLATFORMS)(**used).serialize())
