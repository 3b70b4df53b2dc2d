"""Keeps the signs of activations what they are in Keras.

A binary activation turns round where rounding carries a value over 0, and with it a weight's whole
contribution. With some 100,000 signs an image, the converters' rewrites turn one in a percent of
the images of a small network, and in a tenth of those of a wide one. They fold batch norm into
sums of +1 and -1, which are exact without it; and they multiply by reciprocals. Here both are
undone. The constants are the same ones, and cost no more bytes.
"""

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from flatbuffers import flexbuffers

from larq_seresnet.convert.fold import is_constant
from larq_seresnet.convert.graph import Graph, Operator, Tensor, TensorType

_CLOSE = 1e-5
_READS_ONE_PIXEL = ("LceBconv2d", "FULLY_CONNECTED")


@dataclass(frozen=True)
class Constants:
    """What a converter has computed with, before it did.

    Attributes:
        divisors: By what the model's `Normalization` layers divide.
        norms: Its batch norms as (shift, scale), in double precision: (x + shift) * scale.
    """

    divisors: Sequence[np.ndarray]
    norms: Sequence[tuple[np.ndarray, np.ndarray]]

    def norm(self, bias: np.ndarray, scale: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The shift and the scale that were folded into x * scale + bias.

        The bias was rounded to multiples of its own size: a shift computed from it is off by what
        turns signs. So the batch norm that it came from is looked for.
        """
        for shift, factor in self.norms:
            if factor.shape == scale.shape and np.allclose(np.abs(factor), np.abs(scale), _CLOSE):
                shift, factor = shift * np.sign(factor) * np.sign(scale), np.abs(factor)
                if np.allclose(shift * scale, bias, _CLOSE, _CLOSE * np.abs(bias).max()):
                    return shift, factor * np.sign(scale)
        return bias.astype(np.float64) / scale, scale


def keep_signs(graph: Graph, constants: Constants) -> None:
    """Apply all rewrites, in place.

    Args:
        graph: As `fold` leaves it.
        constants: Of the Keras model.
    """
    for operator in list(graph.operators):
        _sum(graph, operator, constants)
        _binary_sum(graph, operator, constants)
        _divide(operator, constants)
    for operator in list(graph.operators):
        _norm(graph, operator)
    graph.prune()


def _sum(graph: Graph, operator: Operator, constants: Constants) -> None:
    """sum(s * x) + b is (sum(x) + b / s) * s."""
    if operator.name not in ("CONV_2D", "FULLY_CONNECTED") or len(operator.inputs) < 3:
        return
    x, kernel, bias = operator.inputs
    if kernel is None or kernel.data is None or bias is None or bias.data is None:
        return
    magnitude = np.abs(kernel.data)
    scale = magnitude.max(axis=tuple(range(1, kernel.data.ndim)))
    aligned = scale.reshape(-1, *[1] * (kernel.data.ndim - 1))
    if (scale == 1).all() or not scale.all() or not (magnitude == aligned).all():
        return
    shift, scale = constants.norm(bias.data, scale)
    # A bias within the operator would be rounded with each of the sum's terms.
    none = Tensor.constant(np.zeros_like(bias.data)) if operator.name == "CONV_2D" else None
    operator.inputs = [x, Tensor.constant(np.sign(kernel.data)), none]
    activation = operator.options.fusedActivationFunction
    if activation:
        operator.options = copy(operator.options)
        operator.options.fusedActivationFunction = schema.ActivationFunctionType.NONE
    product = _then(graph, operator, ("ADD", shift), ("MUL", scale))
    product.options.fusedActivationFunction = activation


def _binary_sum(graph: Graph, operator: Operator, constants: Constants) -> None:
    """The same for LCE's convolutions, which compute K * s + b - 2 * s * popcount.

    They need a scale and a bias for each channel: a constant of ones serves as both, and the 1 is
    taken off the shift again. (Sums are integers: that is exact.)
    """
    if operator.name != "LceBconv2d" or operator.outputs[0].type != TensorType.FLOAT32:
        return
    x, kernel, scale, bias, thresholds = operator.inputs
    if scale is None or scale.data is None or bias is None or bias.data is None:
        return
    options = flexbuffers.Loads(operator.options)
    if options["fused_activation_function"] or not scale.data.all():
        return
    ones = Tensor.constant(np.ones_like(scale.data))
    if (scale.data == 1).all() and not bias.data.any():
        if _compare_with_one(graph, operator):
            operator.inputs = [x, kernel, ones, ones, thresholds]
        return
    operator.inputs = [x, kernel, ones, ones, thresholds]
    shift, factor = constants.norm(bias.data, scale.data)
    _then(graph, operator, ("ADD", shift - 1), ("MUL", factor))


def _compare_with_one(graph: Graph, operator: Operator) -> bool:
    """Let the comparison with 0 that reads these sums compare with 1, if that is all that does."""
    readers = [reader for reader, _ in graph.consumers(operator.outputs[0])]
    if [reader.name for reader in readers] != ["GREATER_EQUAL"]:
        return False
    (comparison,) = readers
    if operator.outputs[0] in graph.outputs or not is_constant(comparison.inputs[1], 0):
        return False
    comparison.inputs = [comparison.inputs[0], Tensor.constant(np.float32(1))]
    return True


def _then(graph: Graph, operator: Operator, *steps: tuple[str, np.ndarray]) -> Operator:
    """Let these operators, each with its constant, make the operator's result of what it gives."""
    result = operator.outputs[0]
    current = Tensor(result.type, result.shape)
    operator.outputs = [current]
    position = graph.operators.index(operator)
    for name, constant in steps:
        following = Tensor(result.type, result.shape)
        inputs: list[Tensor | None] = [current, Tensor.constant(constant.astype(np.float32))]
        options = {"ADD": schema.AddOptionsT, "MUL": schema.MulOptionsT}[name]()
        position += 1
        graph.operators.insert(position, Operator(name, inputs, [following], options))
        current = following
    graph.operators[position].outputs = [result]
    return graph.operators[position]


def _divide(operator: Operator, constants: Constants) -> None:
    """x * (1 / d) is x / d."""
    if operator.name != "MUL" or operator.inputs[1] is None or operator.inputs[1].data is None:
        return
    factor = operator.inputs[1].data
    for divisor in constants.divisors:
        if divisor.size == factor.size and np.array_equal(1 / divisor.ravel(), factor.ravel()):
            operator.name, operator.options = "DIV", schema.DivOptionsT()
            operator.inputs = [
                operator.inputs[0],
                Tensor.constant(divisor.reshape(factor.shape)),
            ]


def _norm(graph: Graph, operator: Operator) -> None:
    """The sign of a * x + b is the sign of x + b / a, turned round where a is negative.

    Turned signs are turned back in the kernel that reads them.
    """
    if operator.name not in ("LceQuantize", "GREATER_EQUAL") or _is_sign_of_more(graph, operator):
        return
    shift = graph.producer(operator.inputs[0])
    scale = graph.producer(shift.inputs[0]) if shift is not None and shift.name == "ADD" else None
    if shift is None or scale is None or scale.name != "MUL":
        return
    b, a = shift.inputs[1], scale.inputs[1]
    if b is None or b.data is None or a is None or a.data is None or not a.data.all():
        return
    if a.data.ndim != 1 or a.shape != b.shape:
        return
    if any(len(list(graph.consumers(op.outputs[0]))) > 1 for op in (shift, scale)):
        return
    turned = a.data < 0
    if turned.any() and not _turn(graph, operator, turned):
        return
    shift.inputs = [scale.inputs[0], Tensor.constant(b.data / a.data)]


def _is_sign_of_more(graph: Graph, operator: Operator) -> bool:
    """Whether this compares with anything but 0."""
    return len(operator.inputs) > 1 and not is_constant(operator.inputs[1], 0)


def _turn(graph: Graph, operator: Operator, turned: np.ndarray) -> bool:
    """Negate the kernels' weights for these input channels, where all that follows are kernels."""
    if operator.name == "GREATER_EQUAL":
        choices = [reader for reader, _ in graph.consumers(operator.outputs[0])]
        if [choice.name for choice in choices] != ["SELECT_V2"] or not _is_binary(
            graph, choices[0].outputs[0]
        ):
            return False
        operator = choices[0]
    readers = [reader for reader, _ in graph.consumers(operator.outputs[0])]
    kernels = [reader.inputs[1] for reader in readers if reader.name in _READS_ONE_PIXEL]
    if len(kernels) < len(readers) or any(k is None or k.data is None for k in kernels):
        return False
    if any(k.data.size // k.shape[0] != k.shape[-1] for k in kernels):  # type: ignore[union-attr]
        return False  # padding would be turned as well
    for reader in readers:
        kernel = reader.inputs[1].data  # type: ignore[union-attr]
        if kernel.dtype == np.int32:  # type: ignore[union-attr]
            padded = np.pad(turned, (0, -turned.size % 32))
            words = np.packbits(padded, bitorder="little").view("<i4")
            reader.inputs[1] = Tensor.constant(kernel ^ words)  # type: ignore[operator]
        else:
            reader.inputs[1] = Tensor.constant(np.where(turned, -kernel, kernel))  # type: ignore
    return True


def _is_binary(graph: Graph, tensor: Tensor | None) -> bool:
    """Whether all values are +1 or -1."""
    producer = graph.producer(tensor)
    if producer is None:
        return False
    if producer.name == "PADV2":
        value = producer.inputs[2]
        return _is_binary(graph, producer.inputs[0]) and is_constant(value, 1, -1)
    return producer.name == "SELECT_V2" and all(
        is_constant(t, 1, -1) for t in producer.inputs[1:]
    )


