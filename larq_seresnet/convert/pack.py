"""Stores binary kernels as bits.

A kernel that holds only +s and -s per output channel (batch norm is folded into s) becomes packed
sign bits and one scale per channel, from which operators of the graph restore it exactly. Bit 1
is -1, and bit i of a byte or a word is element i, as in Larq Compute Engine.

Every operator costs about 50 bytes, so kernels of equal shape are unpacked and scaled as one:

    lce:    bits -> LceDequantize (-> RESHAPE) -> MUL by the scales -> SPLIT -> kernels
    litert: bytes -> CAST -> GATHER from a table -> SPLIT_V -> RESHAPE -> MUL -> SPLIT -> kernels

All of it depends on constants only: whoever loads the file may compute it once.
"""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from larq_seresnet.convert.graph import Graph, Operator, Tensor, TensorType, values

# Operators with a kernel, and the axis of its output channels.
_CHANNEL_AXIS = {"CONV_2D": 0, "FULLY_CONNECTED": 0, "TRANSPOSE_CONV": 0, "DEPTHWISE_CONV_2D": -1}
_KERNEL, _BIAS = 1, 2
_OVERHEAD = 200  # bytes that unpacking one more group takes, at most
_RESHAPE = 60  # bytes
_WORTH_MERGING = 4  # vectors


@dataclass(eq=False)
class _Kernel:
    """A binary kernel: `tensor` is sign * scale, channels along the first or last axis."""

    tensor: Tensor
    sign: np.ndarray
    scale: np.ndarray


@dataclass(eq=False)
class _Group:
    """Kernels that are unpacked together, one above the other along the first axis."""

    kernels: list[_Kernel]

    @property
    def negative(self) -> np.ndarray:
        """Which elements are negative."""
        return np.concatenate([kernel.sign < 0 for kernel in self.kernels])

    @property
    def scale(self) -> np.ndarray:
        """What the signs are multiplied by: it broadcasts to their shape."""
        if len(self.kernels) == 1:
            return self.kernels[0].scale
        return np.concatenate([kernel.scale for kernel in self.kernels])


def pack(graph: Graph, target: str) -> None:
    """Replace all binary kernels that are smaller packed, in place.

    Args:
        graph: Its kernels are float32 constants.
        target: "lce" or "litert".
    """
    groups = _groups(graph)
    unpack = {"lce": _unpack_lce, "litert": _unpack_litert}[target]
    unpack(graph, groups)
    _merge_vectors(graph)


def _groups(graph: Graph) -> list[_Group]:
    """The binary kernels that are smaller packed."""
    found = defaultdict(list)
    for tensor in graph.tensors():
        axis = _kernel_axis(graph, tensor)
        kernel = None if axis is None else _binary_kernel(tensor, axis)
        if kernel is not None:
            unscaled = bool((kernel.scale == 1).all())
            found[(tensor.shape[1:], unscaled) if axis == 0 else tensor].append(kernel)
    groups = [_Group(kernels) for kernels in found.values()]
    return [group for group in groups if _saves(group)]


def _kernel_axis(graph: Graph, tensor: Tensor) -> int | None:
    """The axis of the output channels, where this is a float kernel and nothing else."""
    if tensor.data is None or tensor.type != TensorType.FLOAT32 or tensor.data.ndim < 2:
        return None
    uses = list(graph.consumers(tensor))
    axes = {_CHANNEL_AXIS.get(operator.name) for operator, _ in uses}
    only_kernel = all(position == _KERNEL for _, position in uses)
    return axes.pop() if len(axes) == 1 and only_kernel else None


def _binary_kernel(tensor: Tensor, axis: int) -> _Kernel | None:
    data = np.asarray(tensor.data)
    others = tuple(i for i in range(data.ndim) if i != axis % data.ndim)
    magnitude = np.abs(data)
    scale = magnitude.max(axis=others, keepdims=True)
    if not (magnitude == scale).all():
        return None
    return _Kernel(tensor, np.where(np.signbit(data), -1, 1), scale)


def _saves(group: _Group) -> bool:
    floats = 4 * group.negative.size
    scales = 0 if (group.scale == 1).all() else group.scale.nbytes
    return group.negative.size // 8 + scales + _OVERHEAD < floats


def _unpack_lce(graph: Graph, groups: Sequence[_Group]) -> None:
    for group in groups:
        negative = group.negative
        flat = negative.reshape(1, -1)
        padded, dense = _words(negative), _words(flat)
        if padded.nbytes <= dense.nbytes + _RESHAPE:
            packed, shape = padded, negative.shape
        else:
            packed, shape = dense, flat.shape
        bits = Tensor(TensorType.FLOAT32, shape)
        operators = [Operator("LceDequantize", [Tensor.constant(packed)], [bits], b"")]
        if bits.shape != negative.shape:
            operators.append(_reshape(bits, Tensor(TensorType.FLOAT32, negative.shape)))
        _restore(graph, group, operators)


def _words(negative: np.ndarray) -> np.ndarray:
    """The last axis packed into 32-bit words."""
    padding = [(0, 0)] * (negative.ndim - 1) + [(0, -negative.shape[-1] % 32)]
    return np.packbits(np.pad(negative, padding), axis=-1, bitorder="little").view("<i4")


def _unpack_litert(graph: Graph, groups: Sequence[_Group]) -> None:
    if not groups:
        return
    filled = [_whole_bytes(group.negative) for group in groups]
    packed = [np.packbits(negative.ravel(), bitorder="little") for negative in filled]
    table, operators = _table()
    indices = Tensor.constant(np.concatenate(packed))
    positions = Tensor(TensorType.INT32, indices.shape)
    bits = Tensor(TensorType.FLOAT32, (*indices.shape, 8))
    operators += [
        Operator("CAST", [indices], [positions], schema.CastOptionsT()),
        Operator("GATHER", [table, positions], [bits], schema.GatherOptionsT()),
    ]
    parts, split = _split(bits, [content.size for content in packed])
    graph.operators[:0] = operators + split
    for group, part, negative in zip(groups, parts, filled, strict=True):
        _restore(graph, group, [_reshape(part, Tensor(TensorType.FLOAT32, negative.shape))])


def _whole_bytes(negative: np.ndarray) -> np.ndarray:
    """As many rows more as fill the last byte."""
    rows = 8 // math.gcd(8, negative[0].size)
    return np.pad(negative, [(0, -len(negative) % rows)] + [(0, 0)] * (negative.ndim - 1))


def _table() -> tuple[Tensor, list[Operator]]:
    """The eight values of each byte, (256, 8), put together from those of the two half bytes."""
    half = np.arange(16)[:, None] >> np.arange(4) & 1
    signs = (1 - 2 * half).astype(np.int8)
    size = Tensor.constant(np.array([16, 16, 4], np.int32))
    low, high = (Tensor(TensorType.INT8, (16, 16, 4)) for _ in range(2))
    both = Tensor(TensorType.INT8, (16, 16, 8))
    rows = Tensor(TensorType.INT8, (256, 8))
    table = Tensor(TensorType.FLOAT32, (256, 8))
    concatenation = schema.ConcatenationOptionsT()
    concatenation.axis = 2
    return table, [
        Operator("BROADCAST_TO", [Tensor.constant(signs[None]), size], [low], version=2),
        Operator("BROADCAST_TO", [Tensor.constant(signs[:, None]), size], [high], version=2),
        Operator("CONCATENATION", [low, high], [both], concatenation),
        _reshape(both, rows),
        Operator("CAST", [rows], [table], schema.CastOptionsT()),
    ]


def _restore(graph: Graph, group: _Group, operators: list[Operator]) -> None:
    """Make kernels of the signs that the last operator gives, before their first use."""
    kernels = [kernel.tensor for kernel in group.kernels]
    (signs,) = operators[-1].outputs
    rows, scale = [kernel.shape[0] for kernel in kernels], group.scale
    filler = signs.shape[0] - sum(rows)
    if filler:
        rows.append(filler)
        if len(scale) > 1:
            scale = np.concatenate([scale, np.ones((filler, *scale.shape[1:]), np.float32)])
    if (scale != 1).any():
        scaled = Tensor(TensorType.FLOAT32, signs.shape)
        inputs: list[Tensor | None] = [signs, Tensor.constant(scale)]
        operators.append(Operator("MUL", inputs, [scaled], schema.MulOptionsT()))
        signs = scaled
    parts, split = _split(signs, rows)
    operators += split
    uses = [graph.operators.index(op) for kernel in kernels for op, _ in graph.consumers(kernel)]
    graph.operators[min(uses) : min(uses)] = operators
    for kernel, part in zip(kernels, parts, strict=False):
        graph.replace(kernel, part)


def _reshape(source: Tensor, result: Tensor) -> Operator:
    options = schema.ReshapeOptionsT()
    options.newShape = result.shape
    return Operator("RESHAPE", [source], [result], options)


def _split(source: Tensor, sizes: Sequence[int]) -> tuple[list[Tensor], list[Operator]]:
    """Cut a tensor along its first axis."""
    if len(sizes) == 1:
        return [source], []
    axis = Tensor.constant(np.int32(0))
    parts = [Tensor(source.type, (size, *source.shape[1:])) for size in sizes]
    options = schema.SplitOptionsT() if len(set(sizes)) == 1 else schema.SplitVOptionsT()
    options.numSplits = len(sizes)
    if len(set(sizes)) == 1:
        return parts, [Operator("SPLIT", [axis, source], list(parts), options)]
    lengths = Tensor.constant(np.array(sizes, np.int32))
    return parts, [Operator("SPLIT_V", [source, lengths, axis], list(parts), options)]


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
            and values(operator.inputs[_KERNEL]) is None
        )
        for operator, position in graph.consumers(tensor)
    )
