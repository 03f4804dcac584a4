"""What a compiled program does: pure functions of its text.

XLA prints a program as computations of instructions (HLO). The training loop is a `while` whose body is one
update; another one around it runs blocks of updates. Each fusion, product, copy and other instruction of the
body that computes is one kernel. On a GPU the host launches it. Inner loops count as often as they run.
"""

import collections
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from valuelab.errors import InputError

KINDS = ("products", "fusions", "copies", "other")
"""The kinds of kernels, without collectives."""
COLLECTIVES = (
    *("all-reduce", "all-gather", "reduce-scatter", "all-to-all"),
    *("collective-permute", "collective-broadcast", "ragged-all-to-all"),
)

_FREE = frozenset(
    (
        *("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "partition-id"),
        *("replica-id", "add-dependency", "opt-barrier", "domain", "iota"),
    )
)
"""Instructions that only name what exists already."""
_SLICES = ("gather", "dynamic-slice")
_BITS = {"pred": 8, "token": 0, "s4": 4, "u4": 4}
_HEAD = re.compile(r"(ENTRY )?%?([\w.\-]+) (?:\(.*\) -> .*)?\{$")
_ASSIGNMENT = re.compile(r"\s+(?:ROOT )?%?([\w.\-]+) = (.*)$")
_SHAPE = re.compile(r"([a-z]\w*)\[([\d,]*)\](?:\{([^{}]*)\})?")
_NAME = re.compile(r"%([\w.\-]+)")


class Instruction(NamedTuple):
    """An instruction of a program.

    Attributes:
        name: its name, unique in the program.
        shape: the text of its result's shape; that of several results is in parentheses.
        opcode: such as "fusion".
        operands: the names of its operands.
        attributes: the rest of its line.
    """

    name: str
    shape: str
    opcode: str
    operands: tuple[str, ...]
    attributes: str


class Collective(NamedTuple):
    """The collectives of one kind in an update.

    Attributes:
        number: how many run.
        bytes: the size of their results on one device.
        sent: bytes that one device sends, if they run along a ring.
    """

    number: int
    bytes: float
    sent: float


class Loop(NamedTuple):
    """One iteration of a loop of a program: one update of all members on one device.

    Attributes:
        kernels: kind -> number; the kinds are KINDS.
        collectives: kind -> Collective; the kinds are those of COLLECTIVES that occur.
        bytes: bytes that kernels read from the device's memory and write to it.
        trip_count: number of iterations; None if XLA does not know it.
    """

    kernels: dict[str, int]
    collectives: dict[str, Collective]
    bytes: float
    trip_count: int | None

    @property
    def launches(self) -> int:
        """The number of kernels, with collectives."""
        return sum(self.kernels.values()) + sum(each.number for each in self.collectives.values())


class Kernel(NamedTuple):
    """A kernel of an update.

    Attributes:
        kind: one of KINDS or of COLLECTIVES.
        times: how often it runs in an update.
        instruction: its instruction.
        computation: the name of the computation that holds it.
    """

    kind: str
    times: int
    instruction: Instruction
    computation: str


class Program:
    """A parsed program.

    Attributes:
        computations: name -> its instructions by name, in order.
        entry: the name of the computation that runs first.
        instructions: name -> instruction, of all computations.
    """

    def __init__(self, text: str):
        """Parses the text of a compiled program, as `Compiled.as_text` returns it."""
        self.computations: dict[str, dict[str, Instruction]] = {}
        self.entry = ""
        current: dict[str, Instruction] = {}
        for line in text.splitlines():
            if head := _HEAD.match(line):
                current = self.computations.setdefault(head[2], {})
                self.entry = head[2] if head[1] else self.entry
            elif assignment := _ASSIGNMENT.match(line):
                current[assignment[1]] = _instruction(*assignment.groups())
        self.instructions = {
            name: each for inside in self.computations.values() for name, each in inside.items()
        }
        if not self.entry:
            raise InputError("the text is not that of a compiled program: it has no ENTRY computation")

    def kernels(self, computation: str, times: int = 1) -> Iterator[Kernel]:
        """The kernels of a computation, with those of its calls, inner loops and largest branches."""
        for instruction in self.computations[computation].values():
            opcode, text = instruction.opcode, instruction.attributes
            if opcode in _FREE or opcode.endswith(("-done", "-update")):
                continue
            if opcode == "while":
                yield from self.iteration(instruction, times * (self.trip_count(instruction) or 1))
            elif opcode == "call":
                yield from self.kernels(_attribute(text, "to_apply"), times)
            elif opcode == "conditional":
                branches = (list(self.kernels(branch, times)) for branch in _branches(text))
                yield from max(branches, key=len)
            elif kind := self._kind(instruction):
                yield Kernel(kind, times, instruction, computation)

    def iteration(self, loop: Instruction, times: int = 1) -> Iterator[Kernel]:
        """The kernels of one iteration; the condition is computed only if the number of them is unknown."""
        yield from self.kernels(_attribute(loop.attributes, "body"), times)
        if self.trip_count(loop) is None:
            yield from self.kernels(_attribute(loop.attributes, "condition"), times)

    def trip_count(self, loop: Instruction) -> int | None:
        """The number of iterations of a loop; None if XLA does not know it.

        The text for a GPU names it. In that for a TPU, a loop continues while a counter, which JAX raises by
        one, is less than a constant.
        """
        if known := re.search(r'"known_trip_count":\{"n":"(\d+)"', loop.attributes):
            return int(known[1])
        condition = self.computations[_attribute(loop.attributes, "condition")]
        *_, last = condition.values()
        if last.opcode != "compare" or "direction=LT" not in last.attributes:
            return None
        counter, bound = (condition[name] for name in last.operands)
        index = re.search(r"index=(\d+)", counter.attributes)
        if not index or bound.opcode != "constant":
            return None
        start = self.instructions[self.instructions[loop.operands[0]].operands[int(index[1])]]
        while start.opcode in ("copy", "copy-done", "copy-start", "bitcast"):
            start = self.instructions[start.operands[0]]
        return int(bound.attributes) - int(start.attributes) if start.opcode == "constant" else None

    def loops(self, computation: str) -> Iterator[Instruction]:
        """The loops of a computation and of its calls, without inner loops."""
        for instruction in self.computations[computation].values():
            if instruction.opcode == "while":
                yield instruction
            elif instruction.opcode == "call":
                yield from self.loops(_attribute(instruction.attributes, "to_apply"))

    def _kind(self, instruction: Instruction) -> str | None:
        """The kind of kernel that an instruction is; None for single numbers, which no kernel computes."""
        opcode, text = instruction.opcode, instruction.attributes
        if opcode == "async-start":
            started = self.computations[_attribute(text, "calls")].values()
            return next(
                (kind for each in started if each.opcode not in _FREE and (kind := self._kind(each))), None
            )
        opcode = opcode.removesuffix("-start")
        if opcode in COLLECTIVES:
            return opcode
        if opcode == "fusion":
            return "products" if self._multiplies(_attribute(text, "calls")) else "fusions"
        if opcode in ("dot", "convolution", "ragged-dot"):
            return "products"
        if opcode == "custom-call":
            is_product = re.search(r'custom_call_target="[^"]*(gemm|matmul|conv|cudnn|cublas)', text)
            return "products" if is_product else "other"
        if opcode == "copy":
            return "copies"
        # A TPU's scalar unit computes single numbers; on a GPU all arithmetic is in fusions.
        is_array = any(dimensions.strip("1,") for _, dimensions, _ in _SHAPE.findall(instruction.shape))
        return "other" if is_array else None

    def _multiplies(self, computation: str) -> bool:
        """Whether a fused computation, or one fused in it, multiplies matrices."""
        return any(
            each.opcode in ("dot", "convolution", "ragged-dot")
            or (each.opcode == "fusion" and self._multiplies(_attribute(each.attributes, "calls")))
            for each in self.computations[computation].values()
        )

    def kernel_bytes(self, kernel: Kernel) -> float:
        """Bytes that a kernel reads from the device's memory and writes to it.

        Of an array from which it takes slices only the slices count, and of an array that it updates in place
        only the update. Arrays that XLA places in on-chip memory do not count.
        """
        instruction, around = kernel.instruction, self.computations[kernel.computation]
        operands = [around[name] for name in instruction.operands if name in around]
        if instruction.opcode in _SLICES:
            return 2 * size(instruction.shape) + sum(size(each.shape) for each in operands[1:])
        if instruction.opcode == "dynamic-update-slice":
            return 2 * size(operands[1].shape)
        written = size(instruction.shape)
        if instruction.opcode != "fusion":
            return written + sum(size(each.shape) for each in operands)
        inside = self.computations[_attribute(instruction.attributes, "calls")]
        users = collections.defaultdict(list)
        for each in inside.values():
            for name in each.operands:
                users[name].append(each)
        read = 0.0
        parameters = [each for each in inside.values() if each.opcode == "parameter"]
        for parameter in parameters:
            operand = operands[int(re.sub(r"\D.*", "", parameter.attributes) or 0)]
            whole, uses = size(operand.shape), _uses(parameter, users)
            if uses and all(each.opcode in _SLICES and each.operands[0] in names for each, names in uses):
                read += min(whole, sum(size(each.shape) for each, _ in uses))
            elif uses and all(
                each.opcode == "dynamic-update-slice" and each.operands[0] in names for each, names in uses
            ):
                updates = sum(size(inside[each.operands[1]].shape) for each, _ in uses)
                written += min(0, updates - whole)  # the result is the operand, of which this part changes
            else:
                read += whole
        return read + written


def _uses(
    instruction: Instruction, users: Mapping[str, Sequence[Instruction]]
) -> list[tuple[Instruction, frozenset[str]]]:
    """The instructions that use a value, also through bitcasts, each with the names that the value has."""
    names, found, left = {instruction.name}, [], [instruction.name]
    while left:
        for user in users.get(left.pop(), ()):
            if user.opcode == "bitcast":
                names.add(user.name)
                left.append(user.name)
            else:
                found.append(user)
    return [(user, frozenset(names)) for user in found]


def depth(block: int) -> int:
    """The number of loops down to that of updates, for blocks of so many: XLA removes a loop of one round."""
    return 1 if block == 1 else 2


def loop(text: str, depth: int = 1) -> Loop:
    """One iteration of the largest loop of a program, or of the largest loop in that.

    Args:
        text: the program, as `Compiled.as_text` returns it.
        depth: the number of loops, each in the one before, down to the one whose iteration is an update.

    Raises:
        InputError: when the program has no loop.
    """
    program = Program(text)
    around = program.entry
    for _ in range(depth):
        loops = [(each, list(program.iteration(each))) for each in program.loops(around)]
        if not loops:
            raise InputError("the compiled program has no loop of updates: it is not a training program")
        largest, kernels = max(loops, key=lambda pair: sum(kernel.times for kernel in pair[1]))
        around = _attribute(largest.attributes, "body")
    counted = collections.Counter[str]()
    collectives: dict[str, Collective] = {}
    moved = 0.0
    for kernel in kernels:
        if kernel.kind in COLLECTIVES:
            before = collectives.get(kernel.kind, Collective(0, 0.0, 0.0))
            payload, sent = _traffic(program, kernel)
            collectives[kernel.kind] = Collective(
                number=before.number + kernel.times,
                bytes=before.bytes + kernel.times * payload,
                sent=before.sent + kernel.times * sent,
            )
        else:
            counted[kernel.kind] += kernel.times
            moved += kernel.times * program.kernel_bytes(kernel)
    return Loop(
        kernels={kind: counted[kind] for kind in KINDS},
        collectives=dict(sorted(collectives.items())),
        bytes=moved,
        trip_count=program.trip_count(largest),
    )


def size(shape: str, on_chip: bool = False) -> float:
    """Bytes of an array, or of several, without padding.

    Args:
        shape: as in the text, such as "(f32[2,3]{1,0}, s32[])".
        on_chip: whether arrays in on-chip memory count (layouts with S(1) and more).
    """
    total = 0.0
    for dtype, dimensions, layout in _SHAPE.findall(shape):
        if on_chip or not re.search(r"S\([1-9]", layout):
            bits = _BITS.get(dtype) or int(re.sub(r"^\D+", "", dtype.partition("e")[0] or dtype) or 0)
            total += bits / 8 * math.prod(map(int, filter(None, dimensions.split(","))))
    return total


def _traffic(program: Program, kernel: Kernel) -> tuple[float, float]:
    """The size of a collective's result on a device, and the bytes that the device sends along a ring.

        all-reduce 2 (n - 1) / n · size,   all-gather and all-to-all (n - 1) / n · size,
        reduce-scatter (n - 1) · size,   others size

    where n is the number of devices of a group.
    """
    instruction = kernel.instruction
    result = instruction.shape
    around = program.computations[kernel.computation].values()
    for each in around:  # the result of a collective in two parts is that of its second one
        if each.opcode.endswith("-done") and instruction.name in each.operands:
            result = each.shape
    if instruction.opcode == "async-start":
        inside = program.computations[_attribute(instruction.attributes, "calls")].values()
        instruction = next(each for each in inside if each.opcode in COLLECTIVES)
    payload = size(result, on_chip=True)
    count = _group(instruction.attributes)
    factors = {
        "all-reduce": 2 * (count - 1) / count,
        "all-gather": (count - 1) / count,
        "all-to-all": (count - 1) / count,
        "reduce-scatter": count - 1,
    }
    return payload, factors.get(kernel.kind, 1.0) * payload


def _group(attributes: str) -> int:
    """The number of devices that take part in a collective together; 1 if it is not given."""
    if listed := re.search(r"replica_groups=\{\{([\d,]*)\}", attributes):
        return len(listed[1].split(","))
    if grid := re.search(r"replica_groups=\[\d+,(\d+)\]", attributes):
        return int(grid[1])
    if named := re.search(r"replica_groups=mesh\[([^\]]*)\][^{]*\{([^}]*)\}", attributes):
        sizes = dict(re.findall(r"'([^']*)'=(\d+)", named[1]))
        return math.prod(int(sizes[axis]) for axis in re.findall(r"'([^']*)'", named[2]))
    return 1


def _instruction(name: str, text: str) -> Instruction:
    """Parses what follows the equals sign of a line."""
    end = _closing(text, 0) + 1 if text.startswith("(") else text.index(" ")
    shape, rest = text[:end], text[end:].lstrip()
    opcode, _, _ = rest.partition("(")
    start = len(opcode)
    end = _closing(rest, start)
    inside = rest[start + 1 : end]
    # A parameter has its number in the place of operands, a constant its value.
    attributes = inside if opcode.strip() in ("parameter", "constant") else rest[end + 1 :]
    return Instruction(name, shape, opcode.strip(), tuple(_NAME.findall(inside)), attributes)


def _closing(text: str, start: int) -> int:
    """The index of the parenthesis that closes the one at `start`."""
    depth = 0
    for match in re.finditer(r"[()]", text[start:]):
        depth += 1 if match[0] == "(" else -1
        if depth == 0:
            return start + match.start()
    return len(text)


def _attribute(attributes: str, name: str) -> str:
    """The computation that an attribute names."""
    found = re.search(rf"\b{name}=%?([\w.\-]+)", attributes)
    if not found:
        raise InputError(f"an instruction of the compiled program has no {name}: {attributes[:80]}")
    return found[1]


def _branches(attributes: str) -> list[str]:
    """The computations of a conditional's branches."""
    if listed := re.search(r"branch_computations=\{([^}]*)\}", attributes):
        return _NAME.findall(listed[1]) or listed[1].split(", ")
    return [_attribute(attributes, f"{side}_computation") for side in ("true", "false")]
