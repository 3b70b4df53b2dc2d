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

from larq_seresnet.convert.graph import Graph, Operator, Tensor, TensorType

# Operators with a kernel, and the axis of its output channels.
_CHANNEL_AXIS = {"CONV_2D": 0, "FULLY_CONNECTED": 0, "TRANSPOSE_CONV": 0, "DEPTHWISE_CONV_2D": -1}
_KERNEL, _BIAS = 1, 2
_OVERHEAD = 200  # bytes that unpacking one more group takes, at most
_RESHAPE = 60  # bytes
_WORTH_MERGING = 4  # vectors


@dataclass(eq=False)
class _Group:
    """Kernels that are unpacked together, one above the other along the first axis.

    Attributes:
        kernels: The tensors.
        negative: Which of their elements are negative.
        scale: What the signs are multiplied by; it broadcasts to their shape.
    """

    kernels: list[Tensor]
    negative: np.ndarray
    scale: np.ndarray


def pack(graph: Graph, target: str) -> None:
    """Replace all binary kernels that are smaller packed, in place.

    Args:
        graph: Its kernels are float32 constants.
        target: "lce" or "litert".
    """
    {"lce": _unpack_lce, "litert": _unpack_litert}[target](graph, _groups(graph))
    _merge_vectors(graph)


def _groups(graph: Graph) -> list[_Group]:
    """The binary kernels that are smaller packed."""
    found = defaultdict(list)
    for tensor in graph.tensors():
        axis = _kernel_axis(graph, tensor)
        data = np.asarray(tensor.data)
        scale = None if axis is None else _scale(data, axis)
        if scale is not None:
            shared = (tensor.shape[1:], bool((scale == 1).all()))
            found[shared if axis == 0 else tensor].append((tensor, np.signbit(data), scale))
    groups = []
    for members in found.values():
        kernels, signs, scales = zip(*members, strict=True)
        negative, scale = np.concatenate(signs), np.concatenate(scales)
        if np.ptp(scale) == 0:
            scale = scale.ravel()[:1].reshape([1] * scale.ndim)
        scale_bytes = 0 if (scale == 1).all() else scale.nbytes
        if negative.size // 8 + scale_bytes + _OVERHEAD < 4 * negative.size:
            groups.append(_Group(list(kernels), negative, scale))
    return groups


def _kernel_axis(graph: Graph, tensor: Tensor) -> int | None:
    """The axis of the output channels, where this is a float kernel and nothing else."""
    if tensor.data is None or tensor.type != TensorType.FLOAT32 or tensor.data.ndim < 2:
        return None
    uses = graph.consumers(tensor)
    axes = {_CHANNEL_AXIS.get(operator.name) for operator, _ in uses}
    only_kernel = all(position == _KERNEL for _, position in uses)
    return axes.pop() if len(axes) == 1 and only_kernel else None


def _scale(kernel: np.ndarray, axis: int) -> np.ndarray | None:
    """The magnitude of each output channel, where it is the same for all elements."""
    magnitude = np.abs(kernel)
    others = tuple(i for i in range(kernel.ndim) if i != axis % kernel.ndim)
    scale = magnitude.max(axis=others, keepdims=True)
    return scale if (magnitude == scale).all() else None


def _unpack_lce(graph: Graph, groups: Sequence[_Group]) -> None:
    for group in groups:
        flat = group.negative.reshape(1, -1)
        padded, dense = _words(group.negative), _words(flat)
        signs = Tensor(TensorType.FLOAT32, group.negative.shape)
        operators = []
        if padded.nbytes <= dense.nbytes + _RESHAPE:
            operators.append(Operator("LceDequantize", [Tensor.constant(padded)], [signs], b""))
        else:
            bits = Tensor(TensorType.FLOAT32, flat.shape)
            operators.append(Operator("LceDequantize", [Tensor.constant(dense)], [bits], b""))
            operators.append(_reshape(bits, signs))
        _restore(graph, group, signs, operators)


def _words(negative: np.ndarray) -> np.ndarray:
    """The last axis packed into 32-bit words."""
    padding = [(0, 0)] * (negative.ndim - 1) + [(0, -negative.shape[-1] % 32)]
    return np.packbits(np.pad(negative, padding), axis=-1, bitorder="little").view("<i4")


def _unpack_litert(graph: Graph, groups: Sequence[_Group]) -> None:
    if not groups:
        return
    filled = [_whole_bytes(group.negative) for group in groups]
    packed = [np.packbits(negative, bitorder="little") for negative in filled]
    indices = Tensor.constant(np.concatenate(packed))
    positions = Tensor(TensorType.INT32, indices.shape)
    bits = Tensor(TensorType.FLOAT32, (*indices.shape, 8))
    table, operators = _table()
    operators += [
        Operator.builtin("CAST", [indices], positions),
        Operator.builtin("GATHER", [table, positions], bits),
    ]
    parts, split = _split(bits, [content.size for content in packed])
    graph.operators[:0] = operators + split
    for group, part, negative in zip(groups, parts, filled, strict=True):
        signs = Tensor(TensorType.FLOAT32, negative.shape)
        _restore(graph, group, signs, [_reshape(part, signs)])


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
    operators = [
        Operator.builtin("BROADCAST_TO", [Tensor.constant(signs[None]), size], low),
        Operator.builtin("BROADCAST_TO", [Tensor.constant(signs[:, None]), size], high),
        Operator.builtin("CONCATENATION", [low, high], both, axis=2),
        _reshape(both, rows),
        Operator.builtin("CAST", [rows], table),
    ]
    for operator in operators[:2]:
        operator.version = 2  # the first one for INT8
    return table, operators


def _restore(graph: Graph, group: _Group, signs: Tensor, operators: list[Operator]) -> None:
    """Make kernels of the signs that the operators give, before their first use."""
    rows, scale = [kernel.shape[0] for kernel in group.kernels], group.scale
    filler = signs.shape[0] - sum(rows)
    if filler:
        rows.append(filler)
        if len(scale) > 1:
            scale = np.pad(scale, [(0, filler)] + [(0, 0)] * (scale.ndim - 1), constant_values=1)
    if (scale != 1).any():
        scaled = signs.like()
        operators.append(Operator.builtin("MUL", [signs, Tensor.constant(scale)], scaled))
        signs = scaled
    parts, split = _split(signs, rows)
    readers = {operator for kernel in group.kernels for operator, _ in graph.consumers(kernel)}
    first = min(map(graph.operators.index, readers))
    graph.operators[first:first] = operators + split
    for kernel, part in zip(group.kernels, parts, strict=False):
        graph.replace(kernel, part)


def _reshape(source: Tensor, result: Tensor) -> Operator:
    return Operator.builtin("RESHAPE", [source], result, newShape=result.shape)


def _split(source: Tensor, sizes: Sequence[int]) -> tuple[list[Tensor], list[Operator]]:
    """Cut a tensor along its first axis."""
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
