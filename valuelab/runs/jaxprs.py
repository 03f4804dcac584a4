"""Jaxprs made simple: what a file of a policy computes, without the functions that JAX calls on the way.

`simplified` inlines inner functions, computes constants, and removes what cannot change the result. A policy
whose noise is multiplied by 0 then needs no random numbers.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core

INNER = {
    "jit": "jaxpr",
    "pjit": "jaxpr",
    "closed_call": "call_jaxpr",
    "core_call": "call_jaxpr",
    "custom_jvp_call": "call_jaxpr",
    "custom_vjp_call": "call_jaxpr",
    "remat2": "jaxpr",
    "checkpoint": "jaxpr",
}
"""Primitives that call a jaxpr -> the name of the parameter that holds it."""
MOST_FOLDED = 1 << 16
"""The largest number of elements of a computed constant that is larger than the numbers it comes from."""

Replacements = dict[str, Callable[..., Any]]
"""Name of a primitive -> (inputs, parameters of the primitive by keyword) -> its outputs by simpler ones."""


class Simplified(NamedTuple):
    """A function as one list of operations.

    Attributes:
        jaxpr: the operations, without constants that are inputs.
        constants: the values of `jaxpr.constvars`.
        used: for each argument of the function, whether the outputs depend on it.
    """

    jaxpr: Any
    constants: Sequence[Any]
    used: tuple[bool, ...]


class _Filled(NamedTuple):
    """An array of one value whose shape depends on the size of the batch."""

    value: Any
    aval: Any

    def array(self) -> Any:
        return jnp.full(self.aval.shape, self.value, self.aval.dtype)


def simplified(
    function: Callable[..., Any], arguments: Sequence[jax.ShapeDtypeStruct], replacements: Replacements | None
) -> Simplified:
    """The operations of a function that its outputs depend on.

    Args:
        function: (arrays) -> a tuple of arrays.
        arguments: the shapes and dtypes of its arguments; sizes may be symbolic.
        replacements: by which primitives are replaced; None keeps all primitives, and loops as loops. With
            replacements, loops of a known length are unrolled.
    """
    whole = jax.make_jaxpr(function)(*arguments)
    interpreter = _Interpreter(replacements)

    def again(*inputs: Any) -> list[Any]:
        return [_array(value) for value in interpreter.run(whole.jaxpr, whole.consts, inputs)]

    closed = jax.make_jaxpr(again)(*arguments)
    jaxpr = closed.jaxpr
    needed = {each for each in jaxpr.outvars if _is_variable(each)}
    kept = []
    for equation in reversed(jaxpr.eqns):
        if equation.effects or not needed.isdisjoint(equation.outvars):
            kept.append(equation)
            needed.update(each for each in equation.invars if _is_variable(each))
    constants = [pair for pair in zip(jaxpr.constvars, closed.consts, strict=True) if pair[0] in needed]
    return Simplified(
        jaxpr=jaxpr.replace(eqns=kept[::-1], constvars=[variable for variable, _ in constants]),
        constants=[value for _, value in constants],
        used=tuple(each in needed for each in jaxpr.invars),
    )


def is_static(shape: Sequence[Any]) -> bool:
    """Whether no size depends on the size of the batch."""
    return all(isinstance(size, int | np.integer) for size in shape)


class _Interpreter:
    """Evaluates jaxprs on constants, tracers and arrays of one value."""

    def __init__(self, replacements: Replacements | None):
        self.replacements = replacements or {}
        self.unrolls = replacements is not None
        self.nonnegative: dict[int, Any] = {}  # by id; the values are kept so that ids stay theirs

    def run(self, jaxpr: Any, constants: Sequence[Any], inputs: Sequence[Any]) -> list[Any]:
        """The outputs of a jaxpr."""
        known = dict(zip((*jaxpr.constvars, *jaxpr.invars), (*constants, *inputs), strict=True))

        def read(atom: Any) -> Any:
            return known[atom] if _is_variable(atom) else atom.val

        for equation in jaxpr.eqns:
            outputs = self._apply(equation, [read(atom) for atom in equation.invars])
            known.update(zip(equation.outvars, outputs, strict=True))
        return [read(atom) for atom in jaxpr.outvars]

    def _apply(self, equation: Any, values: list[Any]) -> list[Any]:
        name, params = equation.primitive.name, equation.params
        if name in INNER:
            inner = params[INNER[name]]
            return self.run(getattr(inner, "jaxpr", inner), getattr(inner, "consts", ()), values)
        if self._is_constant(equation, values):
            with jax.ensure_compile_time_eval():
                return _bind(equation, values)
        if name == "scan" and self.unrolls:
            return self._unrolled(params, values)
        if name == "cond" and _is_known(values[0]):
            chosen = params["branches"][int(np.clip(values[0], 0, len(params["branches"]) - 1))]
            return self.run(chosen.jaxpr, chosen.consts, values[1:])
        shortened = self._shortened(name, params, equation.outvars[0].aval, values)
        if shortened is not None:
            return [shortened]
        arrays = [_array(value) for value in values]
        if name in self.replacements:
            made = jax.make_jaxpr(lambda *given: self.replacements[name](*given, **params))(*arrays)
            return self.run(made.jaxpr, made.consts, arrays)
        outputs = _bind(equation, arrays)
        if name == "max" and any(_is_known(value) and np.all(np.asarray(value) >= 0) for value in values):
            self.nonnegative[id(outputs[0])] = outputs[0]
        return outputs

    def _is_constant(self, equation: Any, values: list[Any]) -> bool:
        """Whether the outputs of an operation are constants that are not much larger than its inputs."""
        shapes = [each.aval.shape for each in equation.outvars]
        if equation.effects or equation.primitive.name == "dim_as_value":  # the size of the batch
            return False
        if not all(map(_is_known, values)) or not all(map(is_static, shapes)):
            return False
        size = sum(int(np.prod(shape)) for shape in shapes)
        return size <= max(MOST_FOLDED, sum(np.size(value) for value in values))

    def _shortened(self, name: str, params: Any, aval: Any, values: list[Any]) -> Any:
        """The output of an operation that needs no computation; None for others."""

        def filled(value: Any) -> Any:
            return np.full(aval.shape, value, aval.dtype) if is_static(aval.shape) else _Filled(value, aval)

        if name == "mul" and any(map(_is_zero, values)):
            return filled(0)
        if name in ("add", "sub"):
            for kept, other in (values, values[::-1])[: 2 if name == "add" else 1]:
                if _is_zero(other) and np.shape(kept) == aval.shape and kept.dtype == aval.dtype:
                    return kept
        if name in ("broadcast_in_dim", "reshape", "convert_element_type"):
            (value, *_) = values
            if isinstance(value, _Filled):
                return filled(np.asarray(value.value).astype(aval.dtype))
            if _is_known(value) and np.size(value) == 1 and not is_static(aval.shape):
                return filled(np.asarray(value).reshape(()))
        for relation, low, high in (("lt", 0, 1), ("gt", 1, 0)):
            if name == relation and id(values[low]) in self.nonnegative and _is_zero(values[high]):
                return filled(False)
        if name == "select_n" and isinstance(values[0], _Filled):
            return values[1 + int(values[0].value)]
        if name == "gather" and _is_known(values[1]) and np.ndim(values[1]) == 1:
            return _window(params, _array(values[0]), np.asarray(values[1]))
        return None

    def _unrolled(self, params: Any, values: list[Any]) -> list[Any]:
        """The outputs of a loop whose length is known."""
        numbers, carried = params["num_consts"], params["num_carry"]
        shared, carry = values[:numbers], values[numbers : numbers + carried]
        rows = [_array(value) for value in values[numbers + carried :]]
        body, results = params["jaxpr"], []
        order = range(params["length"])
        for step in reversed(order) if params["reverse"] else order:
            each = [_row(row, step) for row in rows]
            outputs = self.run(body.jaxpr, body.consts, [*shared, *carry, *each])
            carry = outputs[:carried]
            results.append(outputs[carried:])
        if params["reverse"]:
            results.reverse()
        return [*carry, *(_stacked(column) for column in zip(*results, strict=True))]


def _window(params: Any, array: Any, starts: np.ndarray) -> Any:
    """The slice that a gather takes at one known place, as for x[:, 2:5]; None where it leaves the array."""
    numbers, widths = params["dimension_numbers"], params["slice_sizes"]
    firsts = dict(zip(numbers.start_index_map, starts.tolist(), strict=True))
    for axis, first in firsts.items():
        if not is_static([array.shape[axis]]) or not 0 <= first <= array.shape[axis] - widths[axis]:
            return None
    begins = [firsts.get(axis, 0) for axis in range(array.ndim)]
    window = jax.lax.slice(
        array, begins, [first + width for first, width in zip(begins, widths, strict=True)]
    )
    return jax.lax.squeeze(window, numbers.collapsed_slice_dims)


def _row(rows: Any, number: int) -> Any:
    if _is_known(rows):
        return np.asarray(rows)[number]
    return jax.lax.index_in_dim(rows, number, keepdims=False)


def _stacked(values: Sequence[Any]) -> Any:
    if all(map(_is_known, values)):
        return np.stack(values)
    return jnp.stack([_array(value) for value in values])


def _bind(equation: Any, values: list[Any]) -> list[Any]:
    outputs = equation.primitive.bind(*values, **equation.params)
    return list(outputs) if equation.primitive.multiple_results else [outputs]


def _is_variable(atom: Any) -> bool:
    return not isinstance(atom, core.Literal)


def _is_known(value: Any) -> bool:
    return not isinstance(value, jax.core.Tracer | _Filled)


def _is_zero(value: Any) -> bool:
    if isinstance(value, _Filled):
        return not value.value
    if not _is_known(value) or jnp.issubdtype(jnp.result_type(value), jax.dtypes.extended):
        return False
    return not np.any(np.asarray(value))


def _array(value: Any) -> Any:
    return value.array() if isinstance(value, _Filled) else value
