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

from larq_seresnet.convert.graph import (
    Graph,
    Operator,
    Tensor,
    TensorType,
    is_constant,
    values,
)

_CLOSE = 1e-5
# Of sums of +1 and -1.
_EXACT = (schema.ActivationFunctionType.NONE, schema.ActivationFunctionType.RELU)
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
        _rectified_sum(graph, operator, constants)
        _binary_sum(graph, operator, constants)
        _divide(operator, constants)
    for operator in list(graph.operators):
        _norm(graph, operator)
    graph.prune()


def _sum(graph: Graph, operator: Operator, constants: Constants) -> None:
    """sum(s * x) + b is (sum(x) + b / s) * s."""
    if operator.name not in ("CONV_2D", "FULLY_CONNECTED") or len(operator.inputs) < 3:
        return
    kernel, bias = values(operator.inputs[1]), values(operator.inputs[2])
    if kernel is None or bias is None:
        return
    magnitude = np.abs(kernel)
    scale = magnitude.max(axis=tuple(range(1, kernel.ndim)))
    aligned = scale.reshape(-1, *[1] * (kernel.ndim - 1))
    if (scale == 1).all() or not scale.all() or not (magnitude == aligned).all():
        return
    shift, scale = constants.norm(bias, scale)
    # A bias within the operator would be rounded with each of the sum's terms.
    none = Tensor.constant(np.zeros_like(bias)) if operator.name == "CONV_2D" else None
    operator.inputs = [operator.inputs[0], Tensor.constant(np.sign(kernel)), none]
    activation = operator.options.fusedActivationFunction
    operator.options = copy(operator.options)
    operator.options.fusedActivationFunction = schema.ActivationFunctionType.NONE
    product = _then(graph, operator, ("ADD", shift), ("MUL", scale))
    product.options.fusedActivationFunction = activation


def _rectified_sum(graph: Graph, operator: Operator, constants: Constants) -> None:
    """The same where batch norm stands alone, since a ReLU comes before it."""
    rectifies = schema.ActivationFunctionType.RELU
    if operator.name != "CONV_2D" or operator.options.fusedActivationFunction != rectifies:
        return
    product = _only_reader(graph, operator, "MUL")
    total = _only_reader(graph, product, "ADD") if product else None
    if product is None or total is None:
        return
    scale, bias = values(product.inputs[1]), values(total.inputs[1])
    if scale is None or bias is None or scale.shape != bias.shape or not scale.all():
        return
    shift, scale = constants.norm(bias, scale)
    activation = total.options.fusedActivationFunction
    product.name, product.options = "ADD", schema.AddOptionsT()
    total.name, total.options = "MUL", schema.MulOptionsT()
    total.options.fusedActivationFunction = activation
    for step, constant in ((product, shift), (total, scale)):
        step.inputs = [step.inputs[0], Tensor.constant(constant.astype(np.float32))]


def _only_reader(graph: Graph, operator: Operator, name: str) -> Operator | None:
    """The operator that reads another's result, if it is the only one, and of that name."""
    readers = [reader for reader, _ in graph.consumers(operator.outputs[0])]
    return readers[0] if [reader.name for reader in readers] == [name] else None


def _binary_sum(graph: Graph, operator: Operator, constants: Constants) -> None:
    """The same for LCE's convolutions: ReLU, if any, and then K * s + b - 2 * s * popcount.

    They need a scale and a bias for each channel: a constant of ones serves as both, and the 1 is
    taken off the shift again. (Sums are integers: that is exact.)
    """
    if operator.name != "LceBconv2d" or operator.outputs[0].type != TensorType.FLOAT32:
        return
    x, kernel, _, _, thresholds = operator.inputs
    scale, bias = values(operator.inputs[2]), values(operator.inputs[3])
    activation = flexbuffers.Loads(operator.options)["fused_activation_function"]
    if scale is None or bias is None or activation not in _EXACT or not scale.all():
        return
    ones = Tensor.constant(np.ones_like(scale))
    if (scale == 1).all() and not bias.any():
        if _compare_with_one(graph, operator):
            operator.inputs = [x, kernel, ones, ones, thresholds]
        return
    operator.inputs = [x, kernel, ones, ones, thresholds]
    shift, factor = constants.norm(bias, scale)
    _then(graph, operator, ("ADD", shift - 1), ("MUL", factor))


def _compare_with_one(graph: Graph, operator: Operator) -> bool:
    """Let the comparison with 0 that reads these sums compare with 1, if that is all that does."""
    comparison = _only_reader(graph, operator, "GREATER_EQUAL")
    if (
        comparison is None
        or operator.outputs[0] in graph.outputs
        or not is_constant(comparison.inputs[1], 0)
    ):
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
    """Restore x / d where x * (1 / d) stands."""
    if operator.name != "MUL":
        return
    x, factor = operator.inputs[0], values(operator.inputs[1])
    for divisor in constants.divisors:
        if factor is not None and np.array_equal(1 / divisor.ravel(), factor.ravel()):
            operator.name, operator.options = "DIV", schema.DivOptionsT()
            operator.inputs = [x, Tensor.constant(divisor.reshape(factor.shape))]
            return


def _norm(graph: Graph, operator: Operator) -> None:
    """The sign of a * x + b is the sign of x + b / a, turned round where a is negative.

    Turned signs are turned back in the kernels that read them.
    """
    if operator.name not in ("LceQuantize", "GREATER_EQUAL"):
        return
    if len(operator.inputs) > 1 and not is_constant(operator.inputs[1], 0):
        return
    shift = graph.producer(operator.inputs[0])
    scale = graph.producer(shift.inputs[0]) if shift is not None and shift.name == "ADD" else None
    if shift is None or scale is None or scale.name != "MUL":
        return
    if any(len(list(graph.consumers(op.outputs[0]))) > 1 for op in (shift, scale)):
        return
    b, a = values(shift.inputs[1]), values(scale.inputs[1])
    if b is None or a is None or a.ndim != 1 or a.shape != b.shape or not a.all():
        return
    turned = a < 0
    if turned.any() and not _turn(graph, operator, turned):
        return
    shift.inputs = [scale.inputs[0], Tensor.constant(b / a)]


def _turn(graph: Graph, operator: Operator, turned: np.ndarray) -> bool:
    """Negate the weights of these input channels, if all that reads the signs are 1x1 kernels."""
    readers = [reader for reader, _ in graph.consumers(operator.outputs[0])]
    if operator.name == "GREATER_EQUAL":
        if len(readers) != 1 or not _is_binary(graph, readers[0].outputs[0]):
            return False
        readers = [reader for reader, _ in graph.consumers(readers[0].outputs[0])]
    padded = np.pad(turned, (0, -turned.size % 32))
    words = np.packbits(padded, bitorder="little").view("<i4")
    kernels = []
    for reader in readers:
        kernel = values(reader.inputs[1]) if reader.name in _READS_ONE_PIXEL else None
        if kernel is None or kernel[0].size != kernel.shape[-1]:
            return False  # a larger kernel reads padding, which would be turned as well
        packed = kernel.dtype == np.int32
        kernels.append(kernel ^ words if packed else np.where(turned, -kernel, kernel))
    for reader, kernel in zip(readers, kernels, strict=True):
        reader.inputs[1] = Tensor.constant(kernel)
    return True


def _is_binary(graph: Graph, tensor: Tensor) -> bool:
    """Whether all values are +1 or -1."""
    producer = graph.producer(tensor)
    return (
        producer is not None
        and producer.name == "SELECT_V2"
        and all(is_constant(choice, 1, -1) for choice in producer.inputs[1:])
    )
