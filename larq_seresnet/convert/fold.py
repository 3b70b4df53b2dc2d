"""Rewrites that leave the outputs as they are and make the graph smaller and cheaper.

Batch norm is folded by the converters. What is left are the binarizations: FMB compares the gate's
activation with its threshold, which is z >= 0 of the pre-activation, since all gates are monotone
with act(0) = threshold. So the activation goes, and 0/1 gates become a cast.
"""

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from larq_seresnet.convert.graph import (
    Graph,
    Operator,
    Tensor,
    TensorType,
    is_constant,
    values,
)

# Monotone activations, with their value at 0.
_VALUE_AT_ZERO = {"LOGISTIC": 0.5, "TANH": 0.0, "RELU_N1_TO_1": 0.0}

_KEEPS_DIMENSIONS = 5  # the version of FULLY_CONNECTED that can give (batch, 1, 1, channels)


def fold(graph: Graph) -> None:
    """Apply all rewrites, in place."""
    for rewrite in (_clip, _sign, _comparison, _quantize, _select, _dense, _scale):
        for operator in list(graph.operators):
            rewrite(graph, operator)
        graph.prune()


def _clip(graph: Graph, operator: Operator) -> None:
    """A clip to [-1, 1] is one operator: hard tanh."""
    for outer, inner in (("MAXIMUM", "MINIMUM"), ("MINIMUM", "MAXIMUM")):
        bounds = {"MAXIMUM": -1.0, "MINIMUM": 1.0}
        x = _argument(operator, outer, bounds[outer])
        source = graph.producer(x)
        z = _argument(source, inner, bounds[inner]) if source else None
        if z is not None:
            _become(operator, "RELU_N1_TO_1", [z])


def _sign(graph: Graph, operator: Operator) -> None:
    """Larq's sign(sign(x) + 0.1), which is 1 at 0, is a comparison with 0 and a choice."""
    if operator.name != "SIGN":
        return
    shift = graph.producer(operator.inputs[0])
    if shift is None or shift.name != "ADD":
        return
    x, constant = shift.inputs
    first = graph.producer(x)
    shifted_by = values(constant)
    if first is None or first.name != "SIGN" or shifted_by is None or shifted_by.size != 1:
        return
    if not 0 < shifted_by.item() < 1:
        return
    positive = Tensor(TensorType.BOOL, operator.outputs[0].shape)
    comparison = Operator(
        "GREATER_EQUAL",
        [first.inputs[0], Tensor.constant(np.float32(0))],
        [positive],
        schema.GreaterEqualOptionsT(),
    )
    graph.operators.insert(graph.operators.index(operator), comparison)
    one, minus_one = (Tensor.constant(np.float32(value)) for value in (1, -1))
    _become(operator, "SELECT_V2", [positive, one, minus_one], schema.SelectV2OptionsT())


def _comparison(graph: Graph, operator: Operator) -> None:
    """act(z) >= act(0) is z >= 0."""
    if operator.name != "GREATER_EQUAL":
        return
    activation = graph.producer(operator.inputs[0])
    if activation is None or activation.name not in _VALUE_AT_ZERO:
        return
    if is_constant(operator.inputs[1], _VALUE_AT_ZERO[activation.name]):
        operator.inputs = [activation.inputs[0], Tensor.constant(np.float32(0))]


def _quantize(graph: Graph, operator: Operator) -> None:
    """The sign of act(z) is the sign of z, where act(0) = 0."""
    if operator.name != "LceQuantize":
        return
    activation = graph.producer(operator.inputs[0])
    if activation is not None and _VALUE_AT_ZERO.get(activation.name) == 0:
        operator.inputs = list(activation.inputs)


def _select(graph: Graph, operator: Operator) -> None:
    """A choice between 1 and 0 is a cast."""
    if operator.name not in ("SELECT", "SELECT_V2"):
        return
    condition, high, low = operator.inputs
    if condition is None or condition.shape != operator.outputs[0].shape:
        return
    if is_constant(high, 1) and is_constant(low, 0):
        _become(operator, "CAST", [condition], schema.CastOptionsT())


def _dense(graph: Graph, operator: Operator) -> None:
    """A 1x1 convolution is a dense layer of all pixels, which needs no bias."""
    if operator.name != "CONV_2D":
        return
    x, kernel, bias = operator.inputs
    weights, shift = values(kernel), values(bias)
    if x is None or kernel is None or weights is None or kernel.quantization is not None:
        return
    strides = (operator.options.strideH, operator.options.strideW)
    if kernel.shape[1:3] != (1, 1) or (strides != (1, 1) and x.shape[1:3] != (1, 1)):
        return
    matrix = Tensor.constant(weights.reshape(kernel.shape[0], kernel.shape[3]))
    if shift is not None and not shift.any():
        bias = None
    options = schema.FullyConnectedOptionsT()
    options.fusedActivationFunction = operator.options.fusedActivationFunction
    options.keepNumDims = True
    _become(operator, "FULLY_CONNECTED", [x, matrix, bias], options)
    operator.version = _KEEPS_DIMENSIONS


def _scale(graph: Graph, operator: Operator) -> None:
    """The sign of s * z is the sign of z, where s > 0: kernels of +s and -s become +1 and -1."""
    if operator.name == "GREATER_EQUAL" and not is_constant(operator.inputs[1], 0):
        return
    if operator.name not in ("GREATER_EQUAL", "LceQuantize"):
        return
    z = operator.inputs[0]
    dense = graph.producer(z)
    if z is None or z in graph.outputs or len(list(graph.consumers(z))) > 1:
        return
    if dense is None or dense.name != "FULLY_CONNECTED" or any(dense.inputs[2:]):
        return
    kernel = values(dense.inputs[1])
    if kernel is None or not kernel.all():
        return
    magnitude = np.abs(kernel)
    if (magnitude == magnitude[:, :1]).all():
        dense.inputs[1] = Tensor.constant(np.sign(kernel))


def accept_uint8(graph: Graph) -> None:
    """Let the graph take uint8 images, and cast them itself, in place."""
    for i, image in enumerate(graph.inputs):
        graph.inputs[i] = Tensor(TensorType.UINT8, image.shape)
        cast = Operator("CAST", [graph.inputs[i]], [image], schema.CastOptionsT())
        graph.operators.insert(0, cast)


def _argument(operator: Operator | None, name: str, constant: float) -> Tensor | None:
    """The x where the operator is name(x, constant) or name(constant, x)."""
    if operator is None or operator.name != name:
        return None
    for x, other in (operator.inputs, operator.inputs[::-1]):
        if is_constant(other, constant):
            return x
    return None


def _become(
    operator: Operator, name: str, inputs: list[Tensor | None], options: object = None
) -> None:
    operator.name, operator.inputs, operator.options, operator.version = name, inputs, options, 1
