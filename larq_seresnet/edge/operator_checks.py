"""Operators that crash a runtime, or make it read beyond a tensor, where a file says nonsense."""

import math

import numpy as np

from larq_seresnet.edge.errors import ModelError
from larq_seresnet.edge.model_file import ModelFile, Operator, Subgraph, Tensor

_ARITHMETIC = {"ADD", "SUB", "SQUARED_DIFFERENCE"}
_COMPARISONS = {"EQUAL", "NOT_EQUAL", "LESS", "LESS_EQUAL", "GREATER", "GREATER_EQUAL"}
# These kernels take the scale of 8-bit and 16-bit integers for granted.
_NEED_SCALE = _ARITHMETIC | _COMPARISONS | {"EXP", "LOG", "RSQRT", "SQRT", "BATCH_MATMUL"}
_NEED_SCALE |= {"CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "FULLY_CONNECTED", "SVDF"}
_NEED_SCALE |= {"UNIDIRECTIONAL_SEQUENCE_LSTM", "BIDIRECTIONAL_SEQUENCE_LSTM", "LSTM"}
# Which input holds indices, by the operator: into the first axis of which other input.
_INDICES = {"GATHER": (1, 0), "EMBEDDING_LOOKUP": (0, 1)}
# Which input holds axes, of which other input.
_AXES = {"SPLIT": (0, 1), "SPLIT_V": (2, 0), "EXPAND_DIMS": (1, 0)}
for _name in ("ARG_MAX", "ARG_MIN", "CUMSUM", "MEAN", "REVERSE_V2", "SUM", "TRANSPOSE"):
    _AXES[_name] = (1, 0)
for _name in ("ALL", "ANY", "MAX", "MIN", "PROD"):
    _AXES[f"REDUCE_{_name}"] = (1, 0)
# Which input holds the output's shape, or its middle two sizes.
_SHAPES = {"BROADCAST_TO": 1, "FILL": 0, "SCATTER_ND": 2, "SPARSE_TO_DENSE": 1}
_SIZES = {"RESIZE_BILINEAR": 1, "RESIZE_NEAREST_NEIGHBOR": 1}
_POOLS = {"AVERAGE_POOL_2D", "L2_POOL_2D", "MAX_POOL_2D"}
_LARGEST_WINDOW = 1 << 15


def check_operator(file: ModelFile, subgraph: Subgraph, operator: Operator) -> None:
    """Refuses constants, options and scales that the operator's kernels do not check.

    Raises:
        ModelError: Says what is wrong.
    """
    if operator.is_custom:
        return
    inputs = [subgraph.tensors[i] if i >= 0 else None for i in operator.inputs]
    outputs = [subgraph.tensors[i] for i in operator.outputs]
    if operator.name in _NEED_SCALE:
        intermediates = [subgraph.tensors[i] for i in operator.intermediates if i >= 0]
        _check_scales(operator, [t for t in (*inputs, *outputs, *intermediates) if t])
    problem = _wrong_constant(file, operator, inputs, outputs) or _wrong_option(operator)
    if problem:
        raise ModelError(f"{operator.name} has {problem}")


def _check_scales(operator: Operator, tensors: list[Tensor]) -> None:
    integers = [t for t in tensors if t.type in ("int4", "int8", "uint8", "int16")]
    # 16-bit integers may be added as they are.
    if operator.name == "ADD" and all(t.type == "int16" and not len(t.scales) for t in integers):
        return
    if not all(len(tensor.scales) for tensor in integers):
        raise ModelError(f"{operator.name} has integers without a scale")
    scales = [float(tensor.scales[0]) for tensor in integers]
    if operator.name in _ARITHMETIC and len(scales) > 1:
        # Kernels shift their terms by 15 bits, and differences by 7 before they square them.
        largest, result = 2 * max(scales[:-1]), scales[-1]
        least = largest**2 / 2**14 if operator.name == "SQUARED_DIFFERENCE" else largest / 2**15
        fine = all(0 < scale < math.inf for scale in scales) and least < result
    elif operator.name in _COMPARISONS:
        fine = all(0 < scale < 1 for scale in scales)
    else:
        fine = all(0 <= scale < math.inf for scale in scales)
    if not fine:
        raise ModelError(f"{operator.name} has integers whose scales are out of range")


def _wrong_constant(
    file: ModelFile, operator: Operator, inputs: list[Tensor | None], outputs: list[Tensor]
) -> str | None:
    def constant(number: int) -> np.ndarray | None:
        tensor = inputs[number] if number < len(inputs) else None
        value = file.constant(tensor) if tensor else None
        return value if value is not None and value.dtype.kind in "iu" and value.size else None

    for rules, what in ((_INDICES, "an index"), (_AXES, "an axis")):
        if operator.name not in rules:
            continue
        number, other = rules[operator.name]
        values, table = constant(number), inputs[other] if other < len(inputs) else None
        if values is None or table is None or -1 in table.signature:
            continue
        low, high = -len(table.shape), len(table.shape)
        if rules is _INDICES:
            options = operator.options
            axis = options.number(0) if options and operator.name == "GATHER" else 0
            if not low <= axis < high:
                return "an axis out of range"
            low, high = 0, table.shape[axis]
        elif operator.name == "EXPAND_DIMS":
            low, high = low - 1, high + 1
        if values.min() < low or values.max() >= high:
            return f"{what} out of range"
    name = operator.name
    if (name in _SHAPES or name in _SIZES) and outputs and -1 not in outputs[0].signature:
        values = constant(_SHAPES.get(name, 1))
        shape = outputs[0].shape if name in _SHAPES else outputs[0].shape[1:3]
        if values is not None and tuple(values.ravel().tolist()) != shape:
            return "an output of another shape than it declares"
    return None


def _wrong_option(operator: Operator) -> str | None:
    options = operator.options
    if options and operator.name in _POOLS:
        sizes = [options.number(field) for field in range(1, 5)]  # the strides and the filter's
        if not all(1 <= size <= _LARGEST_WINDOW for size in sizes):
            return "a window out of range"
    if options and operator.name == "LOCAL_RESPONSE_NORMALIZATION":
        return None if 0 <= options.number(0) <= _LARGEST_WINDOW else "a radius out of range"
    return None
