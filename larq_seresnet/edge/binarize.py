"""Finds binary convolutions in files that have builtin operators only (target `litert`).

There the signs of activations are a comparison that chooses between 1 and -1, and the binary
convolution is a float one with a filter of 1 and -1, padded with 1 where it is padded. Both become
Larq Compute Engine's operators, which the native delegate runs: as sums of integers are exact in
float32, results are equal to the last bit. The sign of NaN alone is another one.
"""

from dataclasses import dataclass

import numpy as np

from larq_seresnet.edge.flexbuffer import write_numbers
from larq_seresnet.edge.model_file import ModelFile, Operator, Subgraph
from larq_seresnet.edge.rewrite import Added, Folded, Replacement
from larq_seresnet.edge.unpack import Unpacked

_LARGEST_SUM = 1 << 22  # a float32 is exact up to there, and far beyond
_SAME, _VALID = 0, 1


def binarize(unpacked: Unpacked) -> ModelFile:
    """The model with binary convolutions, where there are any.

    Args:
        unpacked: A model whose constant subgraphs are constants; `checks.check` has seen it.
    """
    model = unpacked.model
    return unpacked.rewritten([_Search(model, graph).run() for graph in model.subgraphs])


@dataclass(frozen=True)
class _Layer:
    """A convolution of signs: its filters (output channels first), bias and options."""

    filters: np.ndarray
    bias: np.ndarray
    options: dict[str, int]


class _Search:
    """The search in one subgraph."""

    def __init__(self, model: ModelFile, graph: Subgraph) -> None:
        self._model, self._graph = model, graph
        self._tensors, self._operators = graph.tensors, graph.operators
        self._readers = graph.readers()
        self._folded = Folded()

    def run(self) -> Folded:
        for number, operator in enumerate(self._operators):
            if operator.name == "GREATER_EQUAL" and not operator.is_custom:
                self._replace(number, operator)
        return self._folded

    def _replace(self, number: int, comparison: Operator) -> None:
        """Replaces a comparison with 0 that chooses between 1 and -1, and what convolves that."""
        x, zero = comparison.inputs
        select, signs = self._select(comparison)
        if select is None or not self._is(zero, 0) or not self._is_image(x, signs):
            return
        layers, removed = {}, {number, select}
        for reader in self._readers[signs]:
            pad = self._operators[reader] if self._operators[reader].name == "PADV2" else None
            if pad and (pad.is_custom or pad.outputs[0] in self._graph.outputs):
                return
            removed.add(reader)
            for place in self._readers[pad.outputs[0]] if pad else [reader]:
                layer = self._layer(x, signs, pad, self._operators[place])
                if layer is None:
                    return
                layers[place] = layer
        if not layers:
            return
        *image, channels = self._tensors[x].shape
        packed = self._new((*image, -(-channels // 32)), None)
        self._folded.removed.update(removed, layers)
        self._folded.added[number] = Replacement("LceQuantize", (x,), (packed,))
        for place, layer in layers.items():
            constants = np.ones(len(layer.bias), np.float32), layer.bias
            inputs = [self._new(c.shape, c) for c in (_packed(layer.filters), *constants)]
            self._folded.added[place] = Replacement(
                "LceBconv2d",
                (packed, *inputs, -1),
                self._operators[place].outputs,
                write_numbers(layer.options),
            )

    def _select(self, comparison: Operator) -> tuple[int | None, int]:
        """The number of the operator that makes 1 and -1 of a comparison, and its result."""
        (condition,) = comparison.outputs
        readers = self._readers[condition]
        if len(readers) != 1 or condition in self._graph.outputs:
            return None, -1
        operator = self._operators[readers[0]]
        is_sign = operator.name == "SELECT_V2" and not operator.is_custom
        if (
            not is_sign
            or not self._is(operator.inputs[1], 1)
            or not self._is(operator.inputs[2], -1)
        ):
            return None, -1
        return readers[0], operator.outputs[0]

    def _layer(self, x: int, signs: int, pad: Operator | None, operator: Operator) -> _Layer | None:
        """A convolution of these signs; None where it is none that is binary."""
        options = operator.options
        is_conv, is_dense = operator.name == "CONV_2D", operator.name == "FULLY_CONNECTED"
        source = pad.outputs[0] if pad else signs
        if operator.is_custom or len(operator.outputs) != 1:
            return None
        if not (is_conv or is_dense) or options is None or operator.inputs[0] != source:
            return None
        filters = self._float(operator.inputs[1])
        result, image = self._tensors[operator.outputs[0]], self._tensors[x]
        if filters is None or len(result.shape) != 4 or result.type != "float32":
            return None
        if is_dense:
            if image.shape[1:3] != (1, 1) or result.shape[1:3] != (1, 1) or options.number(1, "<b"):
                return None
            filters = filters[:, None, None] if filters.ndim == 2 else filters
        if filters.ndim != 4 or filters.shape[-1] != image.shape[-1]:
            return None
        bias = np.zeros(len(filters), np.float32)
        if operator.inputs[2:] not in ((), (-1,)):
            given = self._float(operator.inputs[2])
            if given is None or given.shape != bias.shape:
                return None
            bias = given
        activation = options.number(0 if is_dense else 3, "<b")
        ones = np.count_nonzero(filters == 1) + np.count_nonzero(filters == -1)
        is_exact = ones == filters.size and (np.rint(bias) == bias).all()
        if not is_exact or filters[0].size + np.abs(bias).max() > _LARGEST_SUM:
            return None
        if activation not in (0, 1) or (activation and bias.any()):  # it comes before the bias
            return None
        steps = [options.number(f, "<i", d) for f, d in ((2, 0), (1, 0), (5, 1), (4, 1))]
        steps = [1] * 4 if is_dense else steps
        padding = self._padding(
            image.signature, filters.shape[1:3], steps, pad, options.number(0, "<b")
        )
        padding = _VALID if is_dense and not pad else padding
        if padding is None:
            return None
        names = ("stride_height", "stride_width", "dilation_height_factor", "dilation_width_factor")
        return _Layer(filters, bias, {
            **dict(zip(names, steps, strict=True)), "channels_in": filters.shape[-1],
            "fused_activation_function": activation, "pad_values": 1, "padding": padding,
        })  # fmt: skip

    def _padding(
        self,
        sizes: tuple[int, ...],
        kernel: tuple[int, ...],
        steps: list[int],
        pad: Operator | None,
        padding: int,
    ) -> int | None:
        """How LceBconv2d is to pad with 1; None where it cannot."""
        if not pad:
            return _VALID if padding == _VALID else None
        amounts = self._model.constant(self._tensors[pad.inputs[1]]) if pad.inputs[1] >= 0 else None
        if (
            padding != _VALID
            or not self._is(pad.inputs[2], 1)
            or amounts is None
            or -1 in sizes[1:]
        ):
            return None
        wanted = [(0, 0), *map(_same, sizes[1:3], kernel, steps[:2], steps[2:]), (0, 0)]
        return _SAME if amounts.tolist() == [list(pair) for pair in wanted] else None

    def _is_image(self, x: int, signs: int) -> bool:
        a, b = self._tensors[x], self._tensors[signs]
        is_float = a.type == b.type == "float32"
        return is_float and len(a.shape) == 4 and 0 not in a.shape and (
            (a.shape, a.signature) == (b.shape, b.signature)
            and not a.is_constant
            and signs not in self._graph.outputs
        )  # fmt: skip

    def _is(self, index: int, number: float) -> bool:
        value = self._float(index)
        return value is not None and value.size == 1 and value.item() == number

    def _float(self, index: int) -> np.ndarray | None:
        tensor = self._tensors[index] if index >= 0 else None
        return self._model.constant(tensor) if tensor and tensor.type == "float32" else None

    def _new(self, shape: tuple[int, ...], value: np.ndarray | None) -> int:
        dtype = "int32" if value is None else value.dtype.name
        self._folded.new.append(Added(shape, dtype, value))
        return len(self._tensors) + len(self._folded.new) - 1


def _same(size: int, kernel: int, stride: int, dilation: int) -> tuple[int, int]:
    """What SAME padding puts before and behind an axis."""
    total = max(0, (-(-size // max(1, stride)) - 1) * stride + (kernel - 1) * dilation + 1 - size)
    return total // 2, total - total // 2


def _packed(filters: np.ndarray) -> np.ndarray:
    """Signs along the last axis as words of 32, a set bit for -1."""
    *rest, channels = filters.shape
    bits = np.zeros((*rest, -(-channels // 32) * 32), bool)
    np.less(filters, 0, out=bits[..., :channels])
    return np.packbits(bits, axis=-1, bitorder="little").view("<i4")
