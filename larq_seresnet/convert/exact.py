"""Keeps the signs of activations what they are in Keras.

A binary activation turns round where rounding carries a value over 0, and with it a weight's whole
contribution. With some 100,000 signs an image, the converters' rewrites turn one in a percent of
the images of a small network, and in a tenth of those of a wide one. They fold batch norm into
sums of +1 and -1, which are exact without it; and they multiply by reciprocals. Here both are
undone. The constants are the same ones, and cost no more bytes.
"""

from collections.abc import Sequence
from functools import partial
from typing import TypeAlias

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from flatbuffers import flexbuffers

from larq_seresnet.convert.graph import Graph, Operator, Tensor, TensorType, is_constant

Norms: TypeAlias = Sequence[tuple[np.ndarray, np.ndarray]]
"""A model's batch norms as (shift, scale): (x + shift) * scale; the shifts in float64."""

_CLOSE = 1e-5
_RELU = schema.ActivationFunctionType.RELU
_EXACT = (schema.ActivationFunctionType.NONE, _RELU)  # of sums of +1 and -1
_READS_ONE_PIXEL = ("LceBconv2d", "FULLY_CONNECTED")


def keep_signs(graph: Graph, divisors: Sequence[np.ndarray], norms: Norms) -> None:
    """Apply all rewrites, in place.

    Args:
        graph: As `fold` leaves it.
        divisors: By what the Keras model's `Normalization` layers divide.
        norms: The Keras model's.
    """
    graph.rewrite(partial(_sum, norms, {}), "CONV_2D", "FULLY_CONNECTED")
    graph.rewrite(partial(_rectified_sum, norms), "CONV_2D")
    graph.rewrite(partial(_binary_sum, norms), "LceBconv2d")
    graph.rewrite(partial(_divide, divisors), "MUL")
    graph.rewrite(_norm, "LceQuantize", "GREATER_EQUAL")


def _unfolded(norms: Norms, bias: np.ndarray, scale: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The shift and the scale that were folded into x * scale + bias.

    The bias was rounded to multiples of its own size: a shift computed from it is off by what
    turns signs. So the batch norm that it came from is looked for.
    """
    for shift, factor in norms:
        if factor.shape == scale.shape and np.allclose(np.abs(factor), np.abs(scale), _CLOSE):
            shift, factor = shift * np.sign(factor) * np.sign(scale), np.abs(factor)
            if np.allclose(shift * scale, bias, _CLOSE, _CLOSE * np.abs(bias).max()):
                return shift, factor * np.sign(scale)
    return bias.astype(np.float64) / scale, scale


def _sum(
    norms: Norms, signs: dict[Tensor | None, Tensor], graph: Graph, operator: Operator
) -> None:
    """sum(s * x) + b is (sum(x) + b / s) * s; layers that are called twice keep one kernel."""
    kernel, bias = operator.constant(1), operator.constant(2)
    if kernel is None or bias is None:
        return
    magnitude = np.abs(kernel)
    scale = magnitude.max(axis=tuple(range(1, kernel.ndim)), keepdims=True)
    is_ternary = ((magnitude == scale) | (magnitude == 0)).all()
    if (scale == 1).all() or not scale.all() or not is_ternary:
        return
    # A bias within the operator would be rounded with each of the sum's terms.
    none = Tensor.constant(np.zeros_like(bias)) if operator.name == "CONV_2D" else None
    sign = signs.setdefault(operator.inputs[1], Tensor.constant(np.sign(kernel)))
    operator.inputs = [operator.inputs[0], sign, none]
    activation = operator.options.fusedActivationFunction
    operator.options.fusedActivationFunction = schema.ActivationFunctionType.NONE
    _then(graph, operator, *_unfolded(norms, bias, scale.ravel()), activation)


def _rectified_sum(norms: Norms, graph: Graph, operator: Operator) -> None:
    """The same where batch norm stands alone, since a ReLU comes before it."""
    if operator.options.fusedActivationFunction != _RELU:
        return
    product = _only_reader(graph, operator, "MUL")
    total = _only_reader(graph, product, "ADD") if product else None
    if not product or not total:
        return
    scale, bias = product.constant(1), total.constant(1)
    if scale is None or bias is None or scale.shape != bias.shape or not scale.all():
        return
    shift, factor = map(_float32, _unfolded(norms, bias, scale))
    activation = total.options.fusedActivationFunction
    product.become("ADD", [product.inputs[0], shift])
    total.become("MUL", [total.inputs[0], factor], fusedActivationFunction=activation)


def _binary_sum(norms: Norms, graph: Graph, operator: Operator) -> None:
    """The same for LCE's convolutions: ReLU, if any, and then K * s + b - 2 * s * popcount.

    They need a scale and a bias for each channel: a constant of ones serves as both, and the 1 is
    taken off the shift again. (Sums are integers: that is exact.)
    """
    scale, bias = operator.constant(2), operator.constant(3)
    activation = flexbuffers.Loads(operator.options)["fused_activation_function"]
    if operator.outputs[0].type != TensorType.FLOAT32 or activation not in _EXACT:
        return
    if scale is None or bias is None or not scale.all():
        return
    if (scale != 1).any() or bias.any():
        shift, factor = _unfolded(norms, bias, scale)
        _then(graph, operator, shift - 1, factor)
    else:  # the comparison with 0 becomes one with 1, if that is all that reads these sums
        comparison = _only_reader(graph, operator, "GREATER_EQUAL")
        if not comparison or operator.outputs[0] in graph.outputs:
            return
        if not is_constant(comparison.inputs[1], 0):
            return
        comparison.inputs[1] = Tensor.constant(np.float32(1))
    ones = Tensor.constant(np.ones_like(scale))
    operator.inputs[2:4] = [ones, ones]


def _divide(divisors: Sequence[np.ndarray], graph: Graph, operator: Operator) -> None:
    """Restore x / d where x * (1 / d) stands."""
    factor = operator.constant(1)
    for divisor in divisors:
        if factor is not None and np.array_equal(1 / divisor.ravel(), factor.ravel()):
            divided_by = Tensor.constant(divisor.reshape(factor.shape))
            operator.become("DIV", [operator.inputs[0], divided_by])
            return


def _norm(graph: Graph, operator: Operator) -> None:
    """The sign of a * x + b is the sign of x + b / a, turned round where a is negative.

    Turned signs are turned back in the kernels that read them.
    """
    if operator.name == "GREATER_EQUAL" and not is_constant(operator.inputs[1], 0):
        return
    shift = graph.producer(operator.inputs[0], "ADD")
    scale = graph.producer(shift.inputs[0], "MUL") if shift else None
    if not shift or not scale:
        return
    if any(len(graph.consumers(step.outputs[0])) > 1 for step in (shift, scale)):
        return
    a, b = scale.constant(1), shift.constant(1)
    if a is None or b is None or a.ndim != 1 or a.shape != b.shape or not a.all():
        return
    rectified = shift.options.fusedActivationFunction == _RELU  # all its signs are +1
    if (a < 0).any() and (rectified or not _turn(graph, operator, a < 0)):
        return
    shift.inputs = [scale.inputs[0], Tensor.constant(b / a)]


def _turn(graph: Graph, operator: Operator, turned: np.ndarray) -> bool:
    """Negate the weights of these input channels, if all that reads the signs are 1x1 kernels."""
    signs = operator.outputs[0]
    if operator.name == "GREATER_EQUAL":
        choice = _only_reader(graph, operator, "SELECT_V2")
        if not choice or not all(is_constant(value, 1, -1) for value in choice.inputs[1:]):
            return False
        signs = choice.outputs[0]
    words = np.packbits(np.pad(turned, (0, -turned.size % 32)), bitorder="little").view("<i4")
    kernels = []
    readers = [reader for reader, _ in graph.consumers(signs)]
    for reader in readers:
        kernel = reader.constant(1) if reader.name in _READS_ONE_PIXEL else None
        if kernel is None or not kernel[0].size == kernel.shape[-1] == signs.shape[-1]:
            return False  # a larger kernel reads padding, which would be turned as well
        packed = kernel.dtype == np.int32
        kernels.append(kernel ^ words if packed else np.where(turned, -kernel, kernel))
    for reader, kernel in zip(readers, kernels, strict=True):
        reader.inputs[1] = Tensor.constant(kernel)
    return True


def _then(
    graph: Graph, operator: Operator, shift: np.ndarray, scale: np.ndarray, activation: int = 0
) -> None:
    """Let the operator's result be act((what it gives + shift) * scale)."""
    result = operator.outputs[0]
    given, shifted = result.like(), result.like()
    operator.outputs = [given]
    add = Operator.builtin("ADD", [given, _float32(shift)], shifted)
    multiply = Operator.builtin("MUL", [shifted, _float32(scale)], result)
    multiply.options.fusedActivationFunction = activation
    position = graph.operators.index(operator) + 1
    graph.operators[position:position] = [add, multiply]


def _only_reader(graph: Graph, operator: Operator, name: str) -> Operator | None:
    """The operator that reads another's result, if it is the only one, and of that name."""
    readers = [reader for reader, _ in graph.consumers(operator.outputs[0])]
    return readers[0] if [reader.name for reader in readers] == [name] else None


def _float32(values: np.ndarray) -> Tensor:
    return Tensor.constant(values.astype(np.float32))
