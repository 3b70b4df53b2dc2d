"""Undoes what Larq Compute Engine gets wrong where a map is smaller than the kernel.

Its binary convolutions pad with bits, which stand for +1, and subtract afterwards what zeros would
not have given. On maps that are narrower or lower than the kernel, as at the end of residual
networks of small images, it subtracts the wrong numbers (version 0.16, all sizes tried). So there
the file pads with ones and subtracts the right ones itself: one number for each pixel and channel,
which is less than the kernel. These are whole numbers, and the difference is exact.
"""

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from flatbuffers import flexbuffers

from larq_seresnet.convert.graph import Graph, Operator, Tensor, TensorType

_SAME = schema.Padding.SAME
_ONES = 1


def mend_padding(graph: Graph) -> None:
    """Mend all such convolutions, in place."""
    graph.rewrite(_mend, "LceBconv2d")


def _mend(graph: Graph, operator: Operator) -> None:
    options = flexbuffers.Loads(operator.options)
    words, kernel, scale = operator.inputs[0], operator.constant(1), operator.constant(2)
    result = operator.outputs[0]
    if words is None or kernel is None or scale is None or result.type != TensorType.FLOAT32:
        return
    if options["padding"] != _SAME or options["pad_values"] == _ONES:
        return
    axes = [
        _Axis(size, taps, options[f"stride_{name}"], options[f"dilation_{name}_factor"], count)
        for name, size, taps, count in zip(
            ("height", "width"), words.shape[1:3], kernel.shape[1:3], result.shape[1:3], strict=True
        )
    ]
    if not any(axis.is_narrow for axis in axes):
        return
    rows, columns = (axis.inside() for axis in axes)
    padded = ~(rows[:, None, :, None] & columns[None, :, None, :])  # of each pixel which taps
    bits = np.unpackbits(np.ascontiguousarray(kernel).view(np.uint8), axis=-1, bitorder="little")
    channels = options["channels_in"] * kernel.shape[-1] // words.shape[-1]
    taps = channels - 2 * bits[..., :channels].sum(axis=-1, dtype=np.int64)
    ones = np.einsum("yxhw,ohw->yxo", padded, taps)[None]
    operator.options = bytes(flexbuffers.Dumps({**options, "pad_values": _ONES}))
    given = result.like()
    operator.outputs = [given]
    difference = Tensor.constant((ones * scale).astype(np.float32))
    position = graph.operators.index(operator) + 1
    graph.operators.insert(position, Operator.builtin("SUB", [given, difference], result))


class _Axis:
    """Where a window lies, along the height or the width."""

    def __init__(self, size: int, taps: int, stride: int, dilation: int, count: int) -> None:
        self._size, self._taps, self._dilation = size, taps, dilation
        reach = (taps - 1) * dilation + 1
        before = max(0, (count - 1) * stride + reach - size) // 2
        self._starts = np.arange(count) * stride - before
        self.is_narrow = size < reach

    def inside(self) -> np.ndarray:
        """Which taps of each window lie in the map: (windows, taps)."""
        positions = self._starts[:, None] + np.arange(self._taps) * self._dilation
        return (positions >= 0) & (positions < self._size)
