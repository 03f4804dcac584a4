"""ONNX models from JAX functions: one node, or a few, for each primitive that acting functions use.

`RULES` has the nodes of primitives. `REPLACEMENTS` has the primitives that are first written with simpler
ones, such as JAX's random numbers. The batch is the only size that may vary.
"""

import functools
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core

from valuelab.errors import InputError, require
from valuelab.runs.jaxprs import Simplified, is_static

OPSET, IR_VERSION = 18, 8
"""Versions of ONNX's operators and of its file format, which onnxruntime reads from 1.14 on."""
BATCH = "batch"
"""The name of the size that may vary."""


def make_model(
    flat: Simplified, inputs: Sequence[str], outputs: Sequence[str], batch: Any, metadata: Mapping[str, str]
) -> Any:
    """The ONNX model of a function.

    Args:
        flat: the function, simplified with `REPLACEMENTS`; its first argument has the batch as first axis.
        inputs: names of its arguments. Those that the outputs do not depend on are not inputs of the model.
        outputs: names of its outputs.
        batch: the symbolic size of the batch, as in the shapes of the arguments.
        metadata: texts to keep in the file.

    Returns:
        An onnx.ModelProto.

    Raises:
        InputError: when the function uses a primitive that has no rule; it names the primitive.
    """
    onnx = require("onnx", "export")
    graph = _Graph(onnx, batch, inputs[0])
    arguments = {
        variable: name
        for variable, name, used in zip(flat.jaxpr.invars, inputs, flat.used, strict=True)
        if used
    }
    tensors = {variable: _Tensor(name, variable.aval.shape) for variable, name in arguments.items()}
    for variable, value in zip(flat.jaxpr.constvars, flat.constants, strict=True):
        tensors[variable] = graph.constant(value)

    def read(atom: Any) -> _Tensor:
        if isinstance(atom, core.Literal):
            return graph.constant(np.asarray(atom.val, atom.aval.dtype))  # type: ignore[attr-defined]
        return tensors[atom]

    for equation in flat.jaxpr.eqns:
        name = equation.primitive.name
        if name not in RULES:
            raise unsupported(f"the primitive {name}")
        operation = Operation(
            params=equation.params,
            inputs=[atom.aval for atom in equation.invars],
            output=equation.outvars[0].aval,
        )
        made = RULES[name](graph, operation, *map(read, equation.invars))
        tensors.update(zip(equation.outvars, made if isinstance(made, list) else [made], strict=True))
    for name, atom in zip(outputs, flat.jaxpr.outvars, strict=True):
        whole = graph.whole(read(atom), atom.aval)
        graph.nodes.append(onnx.helper.make_node("Identity", [whole.name], [name]))

    def declare(name: str, aval: Any) -> Any:
        shape = [int(size) if is_static([size]) else BATCH for size in aval.shape]
        return onnx.helper.make_tensor_value_info(name, graph.kind(aval.dtype), shape)

    nodes = graph.needed(outputs)
    model = onnx.helper.make_model(
        onnx.helper.make_graph(
            nodes,
            "policy",
            [declare(name, variable.aval) for variable, name in arguments.items()],
            [declare(name, atom.aval) for name, atom in zip(outputs, flat.jaxpr.outvars, strict=True)],
            graph.initializers({name for node in nodes for name in node.input}),
        ),
        producer_name="valuelab",
        opset_imports=[onnx.helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
    )
    onnx.helper.set_model_props(model, dict(metadata))
    onnx.checker.check_model(model)
    return model


def unsupported(what: str) -> InputError:
    """The error for a function that cannot be written as ONNX."""
    return InputError(f"the policy uses {what}, which has no form in ONNX here: export a .jax file")


class Operation(NamedTuple):
    """One operation of a jaxpr.

    Attributes:
        params: its parameters.
        inputs: shapes and dtypes of its inputs.
        output: shape and dtype of its first output.
    """

    params: dict[str, Any]
    inputs: list[Any]
    output: Any

    @property
    def shape(self) -> tuple[Any, ...]:
        """The shape of its output."""
        return self.output.shape

    @property
    def dtype(self) -> np.dtype:
        """The dtype of its output."""
        return self.output.dtype


class _Tensor(NamedTuple):
    """A tensor of the model; its shape may have axes of size 1 that the jaxpr's array repeats."""

    name: str
    shape: tuple[Any, ...]


class _Graph:
    """Nodes and constants of a model in the making. Equal nodes are made once."""

    def __init__(self, onnx: Any, batch: Any, first_input: str):
        self.onnx, self.batch, self.first_input = onnx, batch, first_input
        self.nodes: list[Any] = []
        self.constants: dict[Any, tuple[str, np.ndarray]] = {}
        self.made: dict[Any, list[str]] = {}

    def kind(self, dtype: Any) -> int:
        """ONNX's number of a dtype."""
        if jnp.issubdtype(dtype, jax.dtypes.extended):
            dtype = np.uint32  # a random key
        return self.onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))

    def constant(self, value: Any) -> _Tensor:
        """A constant; keys are given by their numbers."""
        if jnp.issubdtype(jnp.result_type(value), jax.dtypes.extended):
            value = jax.random.key_data(value)
        array = np.asarray(value)
        identity = array.dtype.str, array.shape, array.tobytes()
        name, _ = self.constants.setdefault(identity, (f"constant_{len(self.constants)}", array))
        return _Tensor(name, array.shape)

    def integers(self, *values: int) -> str:
        """A constant vector of int64, as ONNX takes shapes and axes."""
        return self.constant(np.asarray(values, np.int64)).name

    def add(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """The output of a node."""
        return self.outputs(kind, 1, *inputs, **attributes)[0]

    def outputs(self, kind: str, count: int, *inputs: str, **attributes: Any) -> list[str]:
        """The outputs of a node that has several."""
        identity = kind, inputs, repr(sorted(attributes.items()))
        if identity not in self.made:
            names = [f"{kind.lower()}_{len(self.made)}_{number}" for number in range(count)]
            self.nodes.append(self.onnx.helper.make_node(kind, list(inputs), names, **attributes))
            self.made[identity] = names
        return self.made[identity]

    def cast(self, name: str, dtype: Any) -> str:
        return self.add("Cast", name, to=self.kind(dtype))

    def sizes(self, shape: Sequence[Any]) -> str:
        """A shape as a vector of int64, with the size of the batch at run time."""
        if is_static(shape):
            return self.integers(*shape)
        current = self.add("Shape", self.first_input, start=0, end=1)
        parts = []
        for size in shape:
            if is_static([size]):
                parts.append(self.integers(size))
                continue
            factor = size // self.batch
            if not is_static([factor]) or factor * self.batch != size:
                raise unsupported(f"an axis of size {size}")
            parts.append(current if factor == 1 else self.add("Mul", current, self.integers(factor)))
        return self.add("Concat", *parts, axis=0) if len(parts) > 1 else parts[0]

    def reshape(self, name: str, shape: Sequence[Any]) -> _Tensor:
        """A tensor of another shape; ONNX finds a single varying size from the number of elements."""
        sizes = [size if is_static([size]) else -1 for size in shape]
        target = self.integers(*sizes) if sizes.count(-1) == 1 else self.sizes(shape)
        return _Tensor(self.add("Reshape", name, target), tuple(shape))

    def whole(self, tensor: _Tensor, aval: Any) -> _Tensor:
        """A tensor with all the rows and columns that the jaxpr's array has."""
        if tensor.shape[: len(aval.shape)] == tuple(aval.shape):
            return tensor
        return _Tensor(self.add("Expand", tensor.name, self.sizes(aval.shape)), tuple(aval.shape))

    def needed(self, outputs: Sequence[str]) -> list[Any]:
        """The nodes that outputs depend on."""
        names, kept = set(outputs), []
        for node in reversed(self.nodes):
            if not names.isdisjoint(node.output):
                kept.append(node)
                names.update(node.input)
        return kept[::-1]

    def initializers(self, used: Collection[str]) -> list[Any]:
        """The constants of these names, as a model holds them."""
        return [
            self.onnx.numpy_helper.from_array(array, name)
            for name, array in self.constants.values()
            if name in used
        ]


Rule = Callable[..., _Tensor | list[_Tensor]]
"""(graph, operation, input tensors) -> the output tensor, or a list of several."""


def _elementwise(make: Callable[..., str]) -> Rule:
    """A rule whose inputs may keep axes of size 1; make: (graph, operation, names) -> name."""

    def rule(graph: _Graph, operation: Operation, *tensors: _Tensor) -> _Tensor:
        rank = len(operation.shape)
        aligned = [
            each if len(each.shape) in (0, rank) else graph.whole(each, aval)
            for each, aval in zip(tensors, operation.inputs, strict=True)
        ]
        columns = zip(*(each.shape for each in aligned if each.shape), strict=True)
        shape = tuple(next((size for size in sizes if not _is_one(size)), 1) for sizes in columns)
        return _Tensor(make(graph, operation, *(each.name for each in aligned)), shape)

    return rule


def _is_one(size: Any) -> bool:
    return is_static([size]) and size == 1


def _node(kind: str) -> Rule:
    return _elementwise(lambda graph, operation, *names: graph.add(kind, *names))


def _arithmetic(kind: str) -> Rule:
    """Of numbers; ONNX has no sums of uint32, which wrap around: they are computed with int64."""

    def make(graph: _Graph, operation: Operation, *names: str) -> str:
        if operation.dtype != np.uint32:
            return graph.add(kind, *names)
        return graph.cast(graph.add(kind, *(graph.cast(name, np.int64) for name in names)), np.uint32)

    return _elementwise(make)


def _comparison(kind: str) -> Rule:
    def make(graph: _Graph, operation: Operation, *names: str) -> str:
        if operation.inputs[0].dtype in (np.uint32, np.uint8):
            names = tuple(graph.cast(name, np.int64) for name in names)
        if operation.inputs[0].dtype == np.bool_ and kind != "Equal":
            names = tuple(graph.cast(name, np.int32) for name in names)
        return graph.add(kind, *names)

    return _elementwise(make)


def _logical(of_bools: str, of_integers: str) -> Rule:
    def make(graph: _Graph, operation: Operation, *names: str) -> str:
        return graph.add(of_bools if operation.dtype == np.bool_ else of_integers, *names)

    return _elementwise(make)


def _shift(direction: str) -> Rule:
    return _elementwise(lambda graph, operation, *names: graph.add("BitShift", *names, direction=direction))


def _select(graph: _Graph, operation: Operation, which: str, *cases: str) -> str:
    if len(cases) != 2 or operation.inputs[0].dtype != np.bool_:
        raise unsupported(f"a selection among {len(cases)} arrays")
    if operation.dtype != np.bool_:
        return graph.add("Where", which, cases[1], cases[0])
    first, second = (graph.cast(each, np.int32) for each in cases)
    return graph.cast(graph.add("Where", which, second, first), np.bool_)


def _remainder(graph: _Graph, operation: Operation, *names: str) -> str:
    return graph.add("Mod", *names, fmod=1)


def _broadcast(graph: _Graph, operation: Operation, tensor: _Tensor, *sizes: _Tensor) -> _Tensor:
    """Only the axes of size 1 are made; `_Graph.whole` repeats them where that is needed."""
    shape: list[Any] = [1] * len(operation.shape)
    for axis, size in zip(operation.params["broadcast_dimensions"], tensor.shape, strict=True):
        shape[axis] = size
    return tensor if tuple(shape) == tensor.shape else graph.reshape(tensor.name, shape)


def _whole_inputs(make: Callable[..., str]) -> Rule:
    """A rule whose inputs have all their rows and columns; make: (graph, operation, names) -> name."""

    def rule(graph: _Graph, operation: Operation, *tensors: _Tensor) -> _Tensor:
        names = [graph.whole(each, aval).name for each, aval in zip(tensors, operation.inputs, strict=True)]
        return _Tensor(make(graph, operation, *names), tuple(operation.shape))

    return rule


def _reshape(graph: _Graph, operation: Operation, name: str) -> str:
    return graph.reshape(name, operation.shape).name


def _transpose(graph: _Graph, operation: Operation, name: str) -> str:
    return graph.add("Transpose", name, perm=list(operation.params["permutation"]))


def _concatenate(graph: _Graph, operation: Operation, *names: str) -> str:
    return graph.add("Concat", *names, axis=operation.params["dimension"])


def _stack(graph: _Graph, operation: Operation, *names: str) -> str:
    axis = operation.params["axis"]
    rows = [graph.add("Unsqueeze", name, graph.integers(axis)) for name in names]
    return graph.add("Concat", *rows, axis=axis)


def _cut(
    graph: _Graph, name: str, shape: Sequence[Any], starts: Any, limits: Any, strides: Any = None
) -> str:
    """A part of an array; axes that are kept whole may be of any size."""
    strides = strides or [1] * len(shape)
    axes = [
        axis
        for axis, size in enumerate(shape)
        if not (starts[axis] == 0 and limits[axis] == size and strides[axis] == 1)
    ]
    if not axes:
        return name
    if not is_static([limits[axis] for axis in axes]):
        raise unsupported("a part of the batch")
    parts = (graph.integers(*(values[axis] for axis in axes)) for values in (starts, limits))
    return graph.add(
        "Slice", name, *parts, graph.integers(*axes), graph.integers(*(strides[axis] for axis in axes))
    )


def _slice(graph: _Graph, operation: Operation, name: str) -> str:
    params = operation.params
    shape = operation.inputs[0].shape
    return _cut(graph, name, shape, params["start_indices"], params["limit_indices"], params["strides"])


def _pad(graph: _Graph, operation: Operation, name: str, value: str) -> str:
    shape, config = operation.inputs[0].shape, operation.params["padding_config"]
    if any(inside for _, _, inside in config):
        raise unsupported("padding between elements")
    starts = [max(-low, 0) for low, _, _ in config]
    limits = [size + min(high, 0) for size, (_, high, _) in zip(shape, config, strict=True)]
    name = _cut(graph, name, shape, starts, limits)
    around = [max(low, 0) for low, _, _ in config] + [max(high, 0) for _, high, _ in config]
    return graph.add("Pad", name, graph.integers(*around), value) if any(around) else name


def _dot(graph: _Graph, operation: Operation, left: str, right: str) -> str:
    (left_sums, right_sums), (left_batch, right_batch) = operation.params["dimension_numbers"]
    left_rank, right_rank = (len(each.shape) for each in operation.inputs)
    is_product = not left_batch and left_rank > 1 and right_rank == 2
    if is_product and tuple(left_sums) == (left_rank - 1,) and tuple(right_sums) == (0,):
        return graph.add("MatMul", left, right)
    letters = iter("abcdefghijklmnopqrstuvwxyz")
    left_letters = [next(letters) for _ in range(left_rank)]
    right_letters = [next(letters) for _ in range(right_rank)]
    for ours, theirs in ((left_sums, right_sums), (left_batch, right_batch)):
        for axis, other in zip(ours, theirs, strict=True):
            right_letters[other] = left_letters[axis]
    outputs = [left_letters[axis] for axis in left_batch]
    outputs += [each for axis, each in enumerate(left_letters) if axis not in (*left_sums, *left_batch)]
    outputs += [each for axis, each in enumerate(right_letters) if axis not in (*right_sums, *right_batch)]
    equation = f"{''.join(left_letters)},{''.join(right_letters)}->{''.join(outputs)}"
    return graph.add("Einsum", left, right, equation=equation)


def _convolution(graph: _Graph, operation: Operation, images: str, kernel: str) -> str:
    params = operation.params
    numbers = params["dimension_numbers"]
    if any(each != 1 for each in params["lhs_dilation"]) or params["batch_group_count"] != 1:
        raise unsupported("a transposed convolution")
    images = graph.add("Transpose", images, perm=list(numbers.lhs_spec))
    kernel = graph.add("Transpose", kernel, perm=list(numbers.rhs_spec))
    lows, highs = zip(*params["padding"], strict=True)
    outputs = graph.add(
        "Conv",
        images,
        kernel,
        strides=list(params["window_strides"]),
        dilations=list(params["rhs_dilation"]),
        group=params["feature_group_count"],
        pads=[*lows, *highs],
    )
    return graph.add("Transpose", outputs, perm=[int(axis) for axis in np.argsort(numbers.out_spec)])


def _reduction(kind: str) -> Rule:
    def make(graph: _Graph, operation: Operation, name: str) -> str:
        axes = graph.integers(*operation.params["axes"])
        if operation.dtype != np.bool_:
            return graph.add(kind, name, axes, keepdims=0)
        return graph.cast(graph.add(kind, graph.cast(name, np.int32), axes, keepdims=0), np.bool_)

    return _whole_inputs(make)


def _extreme(kind: str) -> Rule:
    def make(graph: _Graph, operation: Operation, name: str) -> str:
        (axis,) = operation.params["axes"]
        return graph.cast(graph.add(kind, name, axis=axis, keepdims=0), operation.dtype)

    return _whole_inputs(make)


def _iota(graph: _Graph, operation: Operation) -> _Tensor:
    """0, 1, 2, ... along one axis."""
    axis, size = operation.params["dimension"], operation.shape[operation.params["dimension"]]
    shape = [1] * len(operation.shape)
    shape[axis] = size
    if is_static([size]):
        return graph.constant(np.arange(size).astype(operation.dtype).reshape(shape))
    zero, one = (graph.constant(np.asarray(number, np.int64)).name for number in (0, 1))
    end = graph.add("Squeeze", graph.sizes([size]), graph.integers(0))
    return graph.reshape(graph.cast(graph.add("Range", zero, end, one), operation.dtype), shape)


def _gather(graph: _Graph, operation: Operation, values: str, places: str) -> str:
    """Elements or rows by their numbers along one or several axes, as `jnp.take` and indexing with arrays.

    Numbers outside an axis, which JAX clips or answers with NaN, are errors in ONNX runtimes.
    """
    numbers, widths = operation.params["dimension_numbers"], operation.params["slice_sizes"]
    shape, index_shape = operation.inputs[0].shape, operation.inputs[1].shape[:-1]
    shared = list(numbers.operand_batching_dims)
    columns = [
        column
        for column, axis in enumerate(numbers.start_index_map)
        if axis in numbers.collapsed_slice_dims or widths[axis] != shape[axis]
    ]  # a window as wide as its axis has one place
    axes = [numbers.start_index_map[column] for column in columns]
    rest = [axis for axis in range(len(shape)) if axis not in (*shared, *axes)]
    if any(widths[axis] != (shape[axis] if axis in rest else 1) for axis in range(len(shape))):
        raise unsupported("a gather of windows")
    if len(columns) < len(numbers.start_index_map):
        places = graph.add("Gather", places, graph.integers(*columns), axis=-1)
    if operation.params["mode"] == jax.lax.GatherScatterMode.CLIP:
        last = graph.constant(np.asarray([shape[axis] - 1 for axis in axes], np.int32)).name
        first = graph.constant(np.asarray(0, np.int32)).name
        places = graph.add("Min", graph.add("Max", places, first), last)
    order = [*shared, *axes, *rest]
    if order != sorted(order):
        values = graph.add("Transpose", values, perm=order)
    if len(axes) == 1 and not shared:
        found = graph.add("Gather", values, graph.add("Squeeze", places, graph.integers(-1)), axis=0)
    else:
        numbered = (
            _iota_along(graph, axis, (*index_shape, 1)) for axis in numbers.start_indices_batching_dims
        )
        places = graph.add("Concat", *numbered, graph.cast(places, np.int64), axis=-1)
        found = graph.add("GatherND", values, places)
    windows = [axis for axis in range(len(shape)) if axis not in (*shared, *numbers.collapsed_slice_dims)]
    current = [axis for axis in range(len(operation.shape)) if axis not in numbers.offset_dims]
    current += [at for at, axis in zip(numbers.offset_dims, windows, strict=True) if axis in rest]
    if current != sorted(current):
        found = graph.add("Transpose", found, perm=[int(axis) for axis in np.argsort(current)])
    return graph.reshape(found, operation.shape).name if len(current) < len(operation.shape) else found


def _iota_along(graph: _Graph, axis: int, shape: Sequence[Any]) -> str:
    """An int64 array whose elements are their place along one axis."""
    aval = jax.ShapeDtypeStruct(shape, np.int32)
    tensor = _iota(graph, Operation({"dimension": int(axis)}, [], aval))
    return graph.cast(graph.whole(tensor, aval).name, np.int64)


def _dynamic_slice(graph: _Graph, operation: Operation, name: str, *starts: str) -> str:
    """A window whose place is computed, moved into the array where it would leave it."""
    axes = [
        axis
        for axis, (size, width) in enumerate(zip(operation.inputs[0].shape, operation.shape, strict=True))
        if size != width
    ]
    if not axes:
        return name
    shape = operation.inputs[0].shape
    if not is_static([shape[axis] for axis in axes]):
        raise unsupported("a part of the batch")
    places = [graph.reshape(graph.cast(starts[axis], np.int64), [1]).name for axis in axes]
    begins = graph.add("Concat", *places, axis=0)
    begins = graph.add("Max", begins, graph.integers(0))
    begins = graph.add("Min", begins, graph.integers(*(shape[axis] - operation.shape[axis] for axis in axes)))
    ends = graph.add("Add", begins, graph.integers(*(operation.shape[axis] for axis in axes)))
    return graph.add("Slice", name, begins, ends, graph.integers(*axes))


def _reverse(graph: _Graph, operation: Operation, name: str) -> str:
    axes = operation.params["dimensions"]
    starts, ends, steps = (
        graph.integers(*(value,) * len(axes)) for value in (-1, np.iinfo(np.int64).min, -1)
    )
    return graph.add("Slice", name, starts, ends, graph.integers(*axes), steps)


def _round(graph: _Graph, operation: Operation, name: str) -> str:
    if operation.params["rounding_method"] != jax.lax.RoundingMethod.TO_NEAREST_EVEN:
        raise unsupported("rounding of halves away from zero")
    return graph.add("Round", name)


def _sort(graph: _Graph, operation: Operation, *tensors: _Tensor) -> list[_Tensor]:
    """All arrays in the ascending order of the first one; of equal elements the first comes first."""
    axis = operation.params["dimension"]
    if operation.params["num_keys"] != 1 or not is_static([operation.shape[axis]]):
        raise unsupported("a sort by several arrays")
    names = [graph.whole(each, aval).name for each, aval in zip(tensors, operation.inputs, strict=True)]
    size = graph.integers(operation.shape[axis])
    ordered, order = graph.outputs("TopK", 2, names[0], size, axis=axis, largest=0, sorted=1)
    others = [graph.add("GatherElements", name, order, axis=axis) for name in names[1:]]
    return [_Tensor(name, tuple(operation.shape)) for name in (ordered, *others)]


def _cumulative_sum(graph: _Graph, operation: Operation, name: str) -> str:
    axis = graph.constant(np.asarray(operation.params["axis"], np.int64)).name
    return graph.add("CumSum", name, axis, reverse=int(operation.params["reverse"]))


def _batch_size(graph: _Graph, operation: Operation) -> _Tensor:
    size = graph.add("Squeeze", graph.sizes([operation.params["dim"]]), graph.integers(0))
    return _Tensor(graph.cast(size, operation.dtype), ())


RULES: dict[str, Rule] = {
    **{
        primitive: _node(kind)
        for primitive, kind in {
            "abs": "Abs",
            "ceil": "Ceil",
            "copy": "Identity",
            "copy_p": "Identity",
            "cos": "Cos",
            "erf": "Erf",
            "exp": "Exp",
            "floor": "Floor",
            "log": "Log",
            "logistic": "Sigmoid",
            "neg": "Neg",
            "pow": "Pow",
            "sign": "Sign",
            "sin": "Sin",
            "sqrt": "Sqrt",
            "stop_gradient": "Identity",
            "tanh": "Tanh",
        }.items()
    },
    **{
        primitive: _arithmetic(kind)
        for primitive, kind in {
            "add": "Add",
            "sub": "Sub",
            "mul": "Mul",
            "div": "Div",
            "max": "Max",
            "min": "Min",
        }.items()
    },
    **{
        primitive: _comparison(kind)
        for primitive, kind in {
            "eq": "Equal",
            "lt": "Less",
            "le": "LessOrEqual",
            "gt": "Greater",
            "ge": "GreaterOrEqual",
        }.items()
    },
    **{
        primitive: _reduction(kind)
        for primitive, kind in {
            "reduce_and": "ReduceMin",
            "reduce_max": "ReduceMax",
            "reduce_min": "ReduceMin",
            "reduce_or": "ReduceMax",
            "reduce_prod": "ReduceProd",
            "reduce_sum": "ReduceSum",
        }.items()
    },
    "and": _logical("And", "BitwiseAnd"),
    "argmax": _extreme("ArgMax"),
    "argmin": _extreme("ArgMin"),
    "broadcast_in_dim": _broadcast,
    "concatenate": _whole_inputs(_concatenate),
    "conv_general_dilated": _whole_inputs(_convolution),
    "convert_element_type": _elementwise(lambda graph, operation, name: graph.cast(name, operation.dtype)),
    "cumsum": _whole_inputs(_cumulative_sum),
    "dim_as_value": _batch_size,
    "dot_general": _whole_inputs(_dot),
    "dynamic_slice": _whole_inputs(_dynamic_slice),
    "gather": _whole_inputs(_gather),
    "iota": _iota,
    "not": _logical("Not", "BitwiseNot"),
    "or": _logical("Or", "BitwiseOr"),
    "pad": _whole_inputs(_pad),
    "random_unwrap": _whole_inputs(lambda graph, operation, name: name),
    "random_wrap": _whole_inputs(lambda graph, operation, name: name),
    "rem": _elementwise(_remainder),
    "reshape": _whole_inputs(_reshape),
    "rev": _whole_inputs(_reverse),
    "round": _elementwise(_round),
    "select_n": _elementwise(_select),
    "shift_left": _shift("LEFT"),
    "shift_right_logical": _shift("RIGHT"),
    "sort": _sort,
    "slice": _whole_inputs(_slice),
    "squeeze": _whole_inputs(
        lambda graph, operation, name: graph.add(
            "Squeeze", name, graph.integers(*operation.params["dimensions"])
        )
    ),
    "stack": _whole_inputs(_stack),
    "tile": _whole_inputs(
        lambda graph, operation, name: graph.add("Tile", name, graph.integers(*operation.params["reps"]))
    ),
    "transpose": _whole_inputs(_transpose),
    "xor": _logical("Xor", "BitwiseXor"),
}
"""Primitive -> its nodes."""


# Primitives that are written with simpler ones.


def _threefry(key: Any, number: Any) -> tuple[Any, Any]:
    """The hash of the counters (0, number), uint32 [keys..., rest...], under random keys [keys...].

    Source: Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3", Threefry-2x32 with 20 rounds.
    """
    if str(jax.random.key_impl(key)) not in ("fry", "threefry2x32"):
        raise unsupported(f"random keys of {jax.random.key_impl(key)}")
    words = jax.random.key_data(key).reshape(*key.shape, *(1,) * (number.ndim - key.ndim), 2)
    keys = words[..., 0], words[..., 1], words[..., 0] ^ words[..., 1] ^ np.uint32(0x1BD11BDA)
    left, right = jnp.zeros_like(number) + keys[0], number + keys[1]
    rotations = (13, 15, 26, 6), (17, 29, 16, 24)
    for group in range(5):
        for rotation in rotations[group % 2]:
            left = left + right
            right = (right << np.uint32(rotation)) | (right >> np.uint32(32 - rotation))
            right = left ^ right
        left = left + keys[(group + 1) % 3]
        right = right + keys[(group + 2) % 3] + np.uint32(group + 1)
    return left, right


def _places(shape: Sequence[Any]) -> Any:
    """The number of each element of an array, in uint32."""
    number = jnp.zeros(shape, jnp.uint32)
    for axis in range(len(shape)):
        scale = math.prod(shape[axis + 1 :])
        if not is_static([scale]):
            raise unsupported("random numbers whose batch is not the first axis")
        number = number + np.uint32(scale) * jax.lax.broadcasted_iota(jnp.uint32, shape, axis)
    return number


def _random_bits(key: Any, *, bit_width: int, shape: Sequence[Any]) -> Any:
    if bit_width != 32 or not jax.config.jax_threefry_partitionable:  # type: ignore[attr-defined]
        raise unsupported(f"random numbers of {bit_width} bits, or jax_threefry_partitionable=False")
    high, low = _threefry(key, _numbered(key, shape))
    return high ^ low


def _random_split(key: Any, *, shape: Sequence[Any]) -> Any:
    return _new_keys(key, _numbered(key, shape))


def _random_fold_in(key: Any, number: Any) -> Any:
    return _new_keys(key, jnp.broadcast_to(number, key.shape).astype(jnp.uint32))


def _new_keys(key: Any, number: Any) -> Any:
    return jax.random.wrap_key_data(jnp.stack(_threefry(key, number), axis=-1))


def _numbered(key: Any, shape: Sequence[Any]) -> Any:
    """The numbers of the elements of an array for each key, uint32 [keys..., shape...]."""
    number = jnp.expand_dims(_places(shape), range(key.ndim))
    return jnp.broadcast_to(number, (*key.shape, *shape))


def _log1p(x: Any, **_: Any) -> Any:
    """Log(1 + x), with the rounding error of 1 + x divided out (Kahan)."""
    total = 1 + x
    return jnp.where(total == 1, x, jnp.log(total) * (x / jnp.where(total == 1, 1, total - 1)))


_CENTRAL = (
    2.81022636e-08,
    3.43273939e-07,
    -3.5233877e-06,
    -4.39150654e-06,
    0.00021858087,
    -0.00125372503,
    -0.00417768164,
    0.246640727,
    1.50140941,
)
_TAILS = (
    -0.000200214257,
    0.000100950558,
    0.00134934322,
    -0.00367342844,
    0.00573950773,
    -0.0076224613,
    0.00943887047,
    1.00167406,
    2.83297682,
)


def _erf_inv(x: Any) -> Any:
    """The inverse of erf in (-1, 1), in float32.

    Source: Giles 2010, "Approximating the erfinv function", listing 5.
    """
    w = -_log1p(-x * x)
    central, tails = (
        functools.reduce(lambda total, factor: total * place + np.float32(factor), factors, jnp.zeros_like(x))
        for factors, place in ((_CENTRAL, w - 2.5), (_TAILS, jnp.sqrt(w) - 3))
    )
    return x * jnp.where(w < 5, central, tails)


def _integer_pow(x: Any, *, y: int) -> Any:
    if y < 0:
        return 1 / _integer_pow(x, y=-y)
    return functools.reduce(lambda product, _: product * x, range(y - 1), x) if y else jnp.ones_like(x)


def _float_of_bits(bits: Any, *, new_dtype: Any) -> Any:
    """The float32 that has these bits; the number must be normal, as JAX's random numbers in [1, 2) are."""
    if bits.dtype != jnp.uint32 or new_dtype != jnp.float32:
        raise unsupported(f"the bits of {bits.dtype} as {new_dtype}")
    sign = 1 - 2 * (bits >> np.uint32(31)).astype(jnp.float32)
    exponent = ((bits >> np.uint32(23)) & np.uint32(255)).astype(jnp.float32) - 127
    fraction = (bits & np.uint32(0x7FFFFF)).astype(jnp.float32) * np.float32(2.0**-23)
    return sign * (1 + fraction) * jnp.power(np.float32(2), exponent)


REPLACEMENTS: dict[str, Callable[..., Any]] = {
    "bitcast_convert_type": _float_of_bits,
    "clamp": lambda low, x, high: jnp.minimum(jnp.maximum(x, low), high),
    "erf_inv": _erf_inv,
    "erfc": lambda x: 1 - jax.lax.erf(x),
    "exp2": lambda x, **_: jnp.power(np.float32(2), x),
    "expm1": lambda x, **_: jnp.exp(x) - 1,
    "integer_pow": _integer_pow,
    "is_finite": lambda x: jnp.abs(x) < jnp.inf,
    "log1p": _log1p,
    "ne": lambda x, y: ~(x == y),
    "random_bits": _random_bits,
    "random_fold_in": _random_fold_in,
    "random_split": _random_split,
    "rsqrt": lambda x, **_: 1 / jnp.sqrt(x),
    "split": lambda x, *, sizes, axis: [
        jax.lax.slice_in_dim(x, end - size, end, axis=axis)
        for size, end in zip(sizes, np.cumsum(sizes).tolist(), strict=True)
    ],
    "square": lambda x: x * x,
    "tan": lambda x, **_: jnp.sin(x) / jnp.cos(x),
}
"""Primitive -> (inputs, its parameters by keyword) -> its outputs, from simpler primitives."""
