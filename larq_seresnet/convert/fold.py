"""Rewrites that leave the outputs as they are and make the graph smaller and cheaper.

Batch norm is folded by the converters. What is left are the binarizations: FMB compares the gate's
activation with its threshold, which is z >= 0 of the pre-activation, since all gates are monotone
with act(0) = threshold. So the activation goes, and 0/1 gates become a cast.
"""

import numpy as np

from larq_seresnet.convert.graph import Graph, Operator, Tensor, TensorType, is_constant

# Monotone activations, with their value at 0.
_VALUE_AT_ZERO = {"LOGISTIC": 0.5, "TANH": 0.0, "RELU_N1_TO_1": 0.0}

_KEEPS_DIMENSIONS = 5  # the version of FULLY_CONNECTED that can give (batch, 1, 1, channels)


def fold(graph: Graph) -> None:
    """Apply all rewrites, in place."""
    graph.rewrite(_clip, "MAXIMUM", "MINIMUM")
    graph.rewrite(_sign, "SIGN")
    graph.rewrite(_threshold, "GREATER_EQUAL", "LceQuantize")
    graph.rewrite(_select, "SELECT", "SELECT_V2")
    graph.rewrite(_dense, "CONV_2D")
    graph.rewrite(_scale, "GREATER_EQUAL", "LceQuantize")


def _clip(graph: Graph, operator: Operator) -> None:
    """A clip to [-1, 1] is one operator: hard tanh."""
    other = {"MAXIMUM": "MINIMUM", "MINIMUM": "MAXIMUM"}[operator.name]
    inner = graph.producer(_bounded(operator), other)
    z = _bounded(inner) if inner else None
    if z:
        operator.become("RELU_N1_TO_1", [z])


def _bounded(operator: Operator) -> Tensor | None:
    """The x of max(x, -1) or min(x, 1), in either order."""
    bound = {"MAXIMUM": -1, "MINIMUM": 1}[operator.name]
    for x, other in (operator.inputs, operator.inputs[::-1]):
        if is_constant(other, bound):
            return x
    return None


def _sign(graph: Graph, operator: Operator) -> None:
    """Larq's sign(sign(x) + 0.1), which is 1 at 0, is a comparison with 0 and a choice."""
    shift = graph.producer(operator.inputs[0], "ADD")
    first = graph.producer(shift.inputs[0], "SIGN") if shift else None
    amount = shift.constant(1) if shift else None
    if not first or amount is None or amount.size != 1 or not 0 < amount.item() < 1:
        return
    zero, one, minus_one = (Tensor.constant(np.float32(value)) for value in (0, 1, -1))
    positive = Tensor(TensorType.BOOL, operator.outputs[0].shape)
    comparison = Operator.builtin("GREATER_EQUAL", [first.inputs[0], zero], positive)
    graph.operators.insert(graph.operators.index(operator), comparison)
    operator.become("SELECT_V2", [positive, one, minus_one])


def _threshold(graph: Graph, operator: Operator) -> None:
    """act(z) >= act(0) is z >= 0; the sign of act(z) is the sign of z, where act(0) = 0."""
    activation = graph.producer(operator.inputs[0], *_VALUE_AT_ZERO)
    if not activation:
        return
    at_zero = _VALUE_AT_ZERO[activation.name]
    if operator.name == "LceQuantize" and at_zero == 0:
        operator.inputs = [activation.inputs[0]]
    if operator.name == "GREATER_EQUAL" and is_constant(operator.inputs[1], at_zero):
        operator.inputs = [activation.inputs[0], Tensor.constant(np.float32(0))]


def _select(graph: Graph, operator: Operator) -> None:
    """A choice between 1 and 0 is a cast."""
    condition, high, low = operator.inputs
    same_shape = condition and condition.shape == operator.outputs[0].shape
    if same_shape and is_constant(high, 1) and is_constant(low, 0):
        operator.become("CAST", [condition])


def _dense(graph: Graph, operator: Operator) -> None:
    """A 1x1 convolution is a dense layer of all pixels, which needs no bias."""
    x, kernel, bias = operator.inputs
    if not x or not kernel or kernel.data is None or kernel.quantization is not None:
        return
    strides = (operator.options.strideH, operator.options.strideW)
    if kernel.shape[1:3] != (1, 1) or (strides != (1, 1) and x.shape[1:3] != (1, 1)):
        return
    if x.shape[3:] > kernel.shape[3:]:  # it is grouped
        return
    if bias and bias.data is not None and not bias.data.any():
        bias = None
    matrix = Tensor.constant(kernel.data.reshape(kernel.shape[0], kernel.shape[3]))
    activation = operator.options.fusedActivationFunction
    operator.become(
        "FULLY_CONNECTED", [x, matrix, bias], fusedActivationFunction=activation, keepNumDims=True
    )
    operator.version = _KEEPS_DIMENSIONS


def _scale(graph: Graph, operator: Operator) -> None:
    """The sign of s * z is the sign of z, where s > 0: kernels of +s and -s become +1 and -1.

    And s * z + b >= 0 is z >= -b / s, where these are one number for all channels.
    """
    if operator.name == "GREATER_EQUAL" and not is_constant(operator.inputs[1], 0):
        return
    z = operator.inputs[0]
    dense = graph.producer(z, "FULLY_CONNECTED")
    if not dense or z in graph.outputs or len(graph.consumers(z)) > 1:
        return
    kernel, bias = dense.constant(1), dense.constant(2)
    if kernel is None or not kernel.all():
        return
    magnitude = np.abs(kernel)
    if (magnitude != magnitude[:, :1]).any() or (bias is None and any(dense.inputs[2:])):
        return
    if bias is not None:
        shift = bias / magnitude[:, 0]
        if np.ptp(shift) > np.abs(shift).max() * 1e-6:
            return
        if operator.name == "GREATER_EQUAL":
            operator.inputs[1] = Tensor.constant(-shift[0])
            dense.inputs[2] = None
        else:
            dense.inputs[2] = Tensor.constant(shift)
    dense.inputs[1] = Tensor.constant(np.sign(kernel))


def accept_uint8(graph: Graph, low: float, high: float) -> None:
    """Let the graph take uint8 images, and bring them to the range from `low` to `high` itself."""
    constants = {"MUL": (high - low) / 255, "ADD": low}
    needed = [(name, x) for name, x in constants.items() if x != (name == "MUL")]
    for i, image in enumerate(graph.inputs):
        graph.inputs[i] = Tensor(TensorType.UINT8, image.shape)
        steps = [image.like() for _ in needed] + [image]
        operators = [Operator.builtin("CAST", [graph.inputs[i]], steps[0])]
        for (name, x), source, result in zip(needed, steps, steps[1:], strict=False):
            constant = Tensor.constant(np.float32(x))
            operators.append(Operator.builtin(name, [source, constant], result))
        graph.operators[:0] = operators
