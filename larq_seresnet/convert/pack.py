"""Stores kernels of few values as bits.

`codes` tells how few bits hold a kernel (batch norm is folded into it); operators of the graph
restore it exactly. Element i of a byte or a word is in its lowest bits but i, as in Larq Compute
Engine; a bit of 1 is -1.

Every operator costs about 50 bytes, so kernels of equal shape are unpacked and scaled as one, and
those of equal levels looked up as one:

    lce, signs: bits -> LceDequantize (-> RESHAPE) -> MUL by the scales -> SPLIT -> kernels
    others: bytes -> CAST -> GATHER from a table -> SPLIT_V -> RESHAPE -> MUL -> SPLIT -> kernels

Where channels have tables of their own, GATHER stands for MUL. Multiples of 8 bits are cast, and
what float16 holds exactly is dequantized, as TensorFlow Lite calls it.

Kernels of int8 are restored as int8, without scales, which are theirs as quantized tensors.

All of it depends on constants only: whoever loads the file may compute it once.
"""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from flatbuffers import flexbuffers

from larq_seresnet.convert.codes import Code, encode, encode_integers
from larq_seresnet.convert.graph import Graph, Operator, Tensor, TensorType

# Operators with a kernel, and the axis of its output channels.
_CHANNEL_AXIS = {
    "CONV_2D": 0,
    "FULLY_CONNECTED": 0,
    "TRANSPOSE_CONV": 0,
    "DEPTHWISE_CONV_2D": -1,
    "CONV_3D": -1,
}
_KERNEL, _BIAS = 1, 2
OVERHEAD = 200  # bytes that unpacking one more group takes, at most
_RESHAPE = 60  # bytes
_WORTH_MERGING = 4  # vectors
_HAS_BATCHES = 5  # the version of GATHER that looks up each row in a table of its own


@dataclass(frozen=True)
class Kernel:
    """What a layer's kernel was stored as.

    Attributes:
        name: The converter's name of what the layer computes.
        operator: What reads it.
        elements: How many it has.
        bits: Of each element; 32 is float32.
        nbytes: What it takes, with its scales or tables.
        why: Why it does not take less; empty where it takes a bit.
    """

    name: str
    operator: str
    elements: int
    bits: int
    nbytes: int
    why: str


@dataclass(eq=False)
class _Group:
    """Kernels that are unpacked together, one above the other along the first axis.

    Attributes:
        kernels: The tensors.
        code: That of all of them.
        axis: Of the output channels; kernels of which it is the last have a group of their own.
    """

    kernels: list[Tensor]
    code: Code
    axis: int


def pack(
    graph: Graph, target: str, steps: Mapping[Tensor, np.ndarray] | None = None
) -> list[Kernel]:
    """Replace all kernels that are smaller packed, in place; tells what became of each.

    Args:
        graph: Its kernels are constants, float32 or int8.
        target: "lce" or "litert".
        steps: Of kernels that are multiples of known ones, for each channel.
    """
    layers = {
        body: f"{operator.outputs[0].name};"
        for part in graph.parts()
        for operator in part.operators
        for body in operator.bodies.values()
    }
    return [
        replace(kernel, name=layers.get(part, "") + kernel.name)
        for part in graph.parts()
        for kernel in _pack(part, target, steps or {})
    ]


def _pack(graph: Graph, target: str, steps: Mapping[Tensor, np.ndarray]) -> list[Kernel]:
    groups, kernels = _groups(graph, steps)
    streams = defaultdict(list)
    for group in groups:
        code = group.code
        if target == "lce" and code.is_signs:
            _unpack_signs(graph, group)
        elif code.bits == 8:
            _unpack_bytes(graph, group)
        else:
            kind = group.kernels[0].type
            streams[code.bits, code.levels, code.table is None, kind].append(group)
    for stream in streams.values():
        _unpack(graph, stream)
    for tensor in graph.tensors():
        if _is_half(tensor) and _kernel_axis(tensor, graph.consumers(tensor)) is not None:
            _unpack_half(graph, tensor)
    _merge_vectors(graph)
    return kernels


def float_kernels(graph: Graph) -> dict[Tensor, int]:
    """The kernels that no code holds, and the axes of their output channels."""
    axes = {tensor: _kernel_axis(tensor, uses) for tensor, uses in _readers(graph).items()}
    return {
        tensor: axis
        for tensor, axis in axes.items()
        if axis is not None
        and tensor.type == TensorType.FLOAT32
        and encode(np.asarray(tensor.data), axis)[0] is None
    }


def _groups(graph: Graph, steps: Mapping[Tensor, np.ndarray]) -> tuple[list[_Group], list[Kernel]]:
    """The kernels that are smaller packed; and of all kernels what they are stored as."""
    found: dict[Any, list[tuple[Tensor, Code, int]]] = defaultdict(list)
    known: dict[Tensor, tuple[Code | None, str]] = {}
    readers = _readers(graph)
    for tensor, uses in readers.items():
        axis = _kernel_axis(tensor, uses)
        if axis is None:
            continue
        values = np.asarray(tensor.data)
        if tensor.type == TensorType.INT8:
            code, most = encode_integers(values), len(np.unique(values))
        else:
            code, most = encode(values, axis, steps.get(tensor))
        known[tensor] = code, f"{most:,} values in a channel"
        if code:
            are_ones = code.scale is not None and bool((code.scale == 1).all())
            levels = code.levels, code.table is None, tensor.type
            shared = (tensor.shape[1:], code.bits, *levels, are_ones)
            found[shared if axis == 0 else tensor].append((tensor, code, axis))
    groups = []
    for members in found.values():
        kernels, codes, axes = zip(*members, strict=True)
        group = _Group(list(kernels), _joined(codes), axes[0])
        if group.code.nbytes + OVERHEAD < sum(kernel.data.nbytes for kernel in kernels):
            groups.append(group)
        else:
            why = "unpacking it takes more than it saves"
            known.update((kernel, (None, why)) for kernel in kernels)
    return groups, [kernel for tensor in readers if (kernel := _described(tensor, readers, known))]


def _readers(graph: Graph) -> dict[Tensor, list[tuple[Operator, int]]]:
    """The constants, and what reads them as which input."""
    readers = defaultdict(list)
    for operator in graph.operators:
        for position, tensor in enumerate(operator.inputs):
            if tensor is not None and tensor.data is not None:
                readers[tensor].append((operator, position))
    return readers


def _kernel_axis(tensor: Tensor, uses: Sequence[tuple[Operator, int]]) -> int | None:
    """The axis of the output channels, where this is a kernel and nothing else."""
    if tensor.type not in (TensorType.FLOAT32, TensorType.INT8) or len(tensor.shape) < 2:
        return None
    axes = {_CHANNEL_AXIS.get(operator.name) for operator, _ in uses}
    only_kernel = all(position == _KERNEL for _, position in uses)
    return axes.pop() if len(axes) == 1 and only_kernel else None


def _described(
    tensor: Tensor,
    readers: dict[Tensor, list[tuple[Operator, int]]],
    known: dict[Tensor, tuple[Code | None, str]],
) -> Kernel | None:
    """What a constant is stored as, if it is a kernel."""
    uses = [operator for operator, position in readers[tensor] if position == _KERNEL]
    operator = next((op for op in uses if op.name in (*_CHANNEL_AXIS, "LceBconv2d")), None)
    if operator is None or tensor.data is None:
        return None
    name, data = operator.outputs[0].name, tensor.data
    if operator.name == "LceBconv2d":
        channels = flexbuffers.Loads(operator.options)["channels_in"]
        elements = data.size * channels // -(-channels // 32)  # of words that channels fill
        return Kernel(binary_name(operator), operator.name, elements, 1, data.nbytes, "")
    code, why = known.get(tensor, (None, "something else reads it, too"))
    bits, nbytes = (code.bits, code.nbytes) if code else (8 * data.itemsize, data.nbytes)
    if tensor in known and not code and _is_half(tensor):
        bits, nbytes = 16, data.nbytes // 2
    if code and code.table is not None:
        why += ", off the grid of one step"
    return Kernel(name, operator.name, data.size, bits, nbytes, why if bits > 1 else "")


def binary_name(operator: Operator) -> str:
    """What LCE calls a binary convolution: its result has the next layer's name, if that is binary.

    But what it reads is the result of its own quantizer.
    """
    return operator.inputs[0].name if operator.inputs[0] else ""


def _joined(codes: Sequence[Code]) -> Code:
    """One code for several kernels, one above the other."""
    first = codes[0]
    together = np.concatenate([code.codes for code in codes])
    if first.table is not None:
        return replace(first, codes=together, table=np.concatenate([c.table for c in codes]))
    if first.scale is None:
        return replace(first, codes=together)
    scale: np.ndarray | None = np.concatenate([code.scale for code in codes])
    if scale is not None and np.ptp(scale) == 0:
        scale = None if scale.flat[0] == 1 else scale.ravel()[:1].reshape([1] * scale.ndim)
    return replace(first, codes=together, scale=scale)


def _unpack_signs(graph: Graph, group: _Group) -> None:
    negative = group.code.codes
    padded, dense = _words(negative), _words(negative.reshape(1, -1))
    signs = Tensor(TensorType.FLOAT32, negative.shape)
    operators = []
    if padded.nbytes <= dense.nbytes + _RESHAPE:
        operators.append(Operator("LceDequantize", [Tensor.constant(padded)], [signs], b""))
    else:
        bits = Tensor(TensorType.FLOAT32, (1, negative.size))
        operators.append(Operator("LceDequantize", [Tensor.constant(dense)], [bits], b""))
        operators.append(_reshape(bits, signs))
    _restore(graph, group, signs, operators)


def _words(negative: np.ndarray) -> np.ndarray:
    """The last axis packed into 32-bit words."""
    padding = [(0, 0)] * (negative.ndim - 1) + [(0, -negative.shape[-1] % 32)]
    return np.packbits(np.pad(negative, padding), axis=-1, bitorder="little").view("<i4")


def _unpack_bytes(graph: Graph, group: _Group) -> None:
    multiples = Tensor.constant(np.array(group.code.levels, np.int8)[group.code.codes])
    values = Tensor(TensorType.FLOAT32, multiples.shape)
    _restore(graph, group, values, [Operator.builtin("CAST", [multiples], values)])


def _is_half(tensor: Tensor) -> bool:
    """Whether this is worth storing in float16, exactly."""
    data = tensor.data
    if data is None or data.dtype != np.float32 or data.nbytes // 2 <= OVERHEAD:
        return False
    with np.errstate(over="ignore"):
        return bool((data.astype(np.float16) == data).all())


def _unpack_half(graph: Graph, kernel: Tensor) -> None:
    half = Tensor.constant(np.asarray(kernel.data).astype(np.float16))
    restored = kernel.like()
    first = min(graph.operators.index(operator) for operator, _ in graph.consumers(kernel))
    graph.operators.insert(first, Operator.builtin("DEQUANTIZE", [half], restored))
    graph.replace(kernel, restored)


def _unpack(graph: Graph, groups: Sequence[_Group]) -> None:
    """Groups of the same levels, all with tables or none."""
    code = groups[0].code
    filled = [_whole_bytes(group.code) for group in groups]
    packed = [_bytes(codes, code.bits) for codes in filled]
    indices = Tensor.constant(np.concatenate(packed))
    positions = Tensor(TensorType.INT32, indices.shape)
    kind = groups[0].kernels[0].type if code.table is None else TensorType.INT32
    values = Tensor(kind, (*indices.shape, 8 // code.bits))
    table, operators = _table(code, kind)
    operators += [
        Operator.builtin("CAST", [indices], positions),
        Operator.builtin("GATHER", [table, positions], values),
    ]
    parts, split = _split(values, [content.size for content in packed])
    graph.operators[:0] = operators + split
    for group, part, codes in zip(groups, parts, filled, strict=True):
        shaped = Tensor(kind, codes.shape)
        _restore(graph, group, shaped, [_reshape(part, shaped)])


def _whole_bytes(code: Code) -> np.ndarray:
    """As many rows more as fill the last byte."""
    codes, each = code.codes, 8 // code.bits
    rows = each // math.gcd(each, codes[0].size)
    return np.pad(codes, [(0, -len(codes) % rows)] + [(0, 0)] * (codes.ndim - 1))


def _bytes(codes: np.ndarray, bits: int) -> np.ndarray:
    """Codes of some bits, the first in the lowest."""
    each = codes.reshape(-1, 8 // bits) << np.arange(0, 8, bits, np.uint8)
    return np.bitwise_or.reduce(each, axis=1).astype(np.uint8)


def _table(code: Code, kind: int) -> tuple[Tensor, list[Operator]]:
    """The levels that each byte holds, put together from those of the two half bytes."""
    levels = np.zeros(2**code.bits, np.int8)
    levels[: len(code.levels)] = code.levels
    half = levels[np.arange(16)[:, None] >> np.arange(0, 4, code.bits) & 2**code.bits - 1]
    each = half.shape[1]
    size = Tensor.constant(np.array([16, 16, each], np.int32))
    low, high = (Tensor(TensorType.INT8, (16, 16, each)) for _ in range(2))
    both = Tensor(TensorType.INT8, (16, 16, 2 * each))
    rows = Tensor(TensorType.INT8, (256, 2 * each))
    table = Tensor(kind, rows.shape)
    operators = [
        Operator.builtin("BROADCAST_TO", [Tensor.constant(half[None]), size], low),
        Operator.builtin("BROADCAST_TO", [Tensor.constant(half[:, None]), size], high),
        Operator.builtin("CONCATENATION", [low, high], both, axis=2),
        _reshape(both, rows),
    ]
    for operator in operators[:2]:
        operator.version = 2  # the first one for INT8
    if kind == TensorType.INT8:
        return rows, operators
    return table, [*operators, Operator.builtin("CAST", [rows], table)]


def _restore(graph: Graph, group: _Group, values: Tensor, operators: list[Operator]) -> None:
    """Make kernels of the levels that the operators give, before their first use."""
    kernels, scale = group.kernels, group.code.scale
    filler = values.shape[0] - len(group.code.codes)
    if group.code.table is not None:
        values = _look_up(group, values, operators)
    elif scale is not None:
        scaled = values.like()
        factors = Tensor.constant(_extended(scale, filler) if len(scale) > 1 else scale)
        operators.append(Operator.builtin("MUL", [values, factors], scaled))
        values = scaled
    rows = [kernel.shape[0] for kernel in kernels]
    parts, split = _split(values, [*rows, values.shape[0] - sum(rows)])
    readers = {operator for kernel in kernels for operator, _ in graph.consumers(kernel)}
    first = min(map(graph.operators.index, readers))
    graph.operators[first:first] = operators + split
    for kernel, part in zip(kernels, parts, strict=False):
        part.quantization = kernel.quantization
        graph.replace(kernel, part)


def _look_up(group: _Group, levels: Tensor, operators: list[Operator]) -> Tensor:
    """The values of tables of which each row has its own, as kernels one above the other."""
    codes, table = group.code.codes, group.code.table
    assert table is not None
    rows = Tensor.constant(_extended(table, levels.shape[0] - len(codes)))
    values = Tensor(TensorType.FLOAT32, levels.shape)
    options = {"axis": 1, "batchDims": 1}
    operators.append(Operator.builtin("GATHER", [rows, levels], values, **options))
    operators[-1].version = _HAS_BATCHES
    kernel = group.kernels[0]
    if group.axis == 0:
        shaped = Tensor(TensorType.FLOAT32, (levels.shape[0], *kernel.shape[1:]))
    else:
        (values, *_), split = _split(values, [len(table), levels.shape[0] - len(table)])
        turned = Tensor(TensorType.FLOAT32, values.shape[::-1])
        order = Tensor.constant(np.array([1, 0], np.int32))
        operators += [*split, Operator.builtin("TRANSPOSE", [values, order], turned)]
        values, shaped = turned, kernel.like()
    operators.append(_reshape(values, shaped))
    return shaped


def _extended(rows: np.ndarray, count: int) -> np.ndarray:
    """So many rows of ones more."""
    return np.pad(rows, [(0, count)] + [(0, 0)] * (rows.ndim - 1), constant_values=1)


def _reshape(source: Tensor, result: Tensor) -> Operator:
    return Operator.builtin("RESHAPE", [source], result, newShape=result.shape)


def _split(source: Tensor, sizes: Sequence[int]) -> tuple[list[Tensor], list[Operator]]:
    """Cut a tensor along its first axis; parts of size 0 are left out."""
    sizes = [size for size in sizes if size]
    if len(sizes) == 1:
        return [source], []
    axis = Tensor.constant(np.int32(0))
    parts = [Tensor(source.type, (size, *source.shape[1:])) for size in sizes]
    name, inputs = "SPLIT", [axis, source]
    if len(set(sizes)) > 1:
        name, inputs = "SPLIT_V", [source, Tensor.constant(np.array(sizes, np.int32)), axis]
    return parts, [Operator.builtin(name, inputs, *parts, numSplits=len(sizes))]


def _merge_vectors(graph: Graph) -> None:
    """Keep the float vectors (biases, scales and shifts of batch norm) in one constant."""
    vectors = [tensor for tensor in graph.tensors() if _may_be_computed(graph, tensor)]
    if len(vectors) < _WORTH_MERGING:
        return
    together = Tensor.constant(np.concatenate([vector.data for vector in vectors]))
    parts, split = _split(together, [vector.shape[0] for vector in vectors])
    for vector, part in zip(vectors, parts, strict=True):
        graph.replace(vector, part)
    graph.operators[:0] = split


def _may_be_computed(graph: Graph, tensor: Tensor) -> bool:
    """Whether no operator that reads this vector profits from its being a constant."""
    if tensor.data is None or tensor.type != TensorType.FLOAT32 or tensor.data.ndim != 1:
        return False
    return all(
        operator.name in ("MUL", "ADD", "SUB")
        or (
            position == _BIAS
            and operator.name in _CHANNEL_AXIS
            and operator.constant(_KERNEL) is None
        )
        for operator, position in graph.consumers(tensor)
    )
