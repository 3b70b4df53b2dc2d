"""Operators that crash a runtime, or make it read beyond a tensor, where a file says nonsense."""

import math
from collections.abc import Callable, Iterable

import numpy as np

from larq_seresnet.edge.errors import ModelError
from larq_seresnet.edge.flexbuffer import read_numbers
from larq_seresnet.edge.model_file import ModelFile, Operator, Subgraph, Tensor
from larq_seresnet.edge.operators import KEEP_TYPE, MAKE_FLOATS, OPERATOR_FORMS, TAKE_TEXT

_ARITHMETIC = {"ADD", "SUB", "SQUARED_DIFFERENCE"}
_COMPARISONS = {"EQUAL", "NOT_EQUAL", "LESS", "LESS_EQUAL", "GREATER", "GREATER_EQUAL"}
# These kernels take the scale of 8-bit and 16-bit integers for granted.
_NEED_SCALE = _ARITHMETIC | _COMPARISONS | {"EXP", "LOG", "RSQRT", "SQRT", "BATCH_MATMUL"}
_NEED_SCALE |= {"CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "FULLY_CONNECTED", "SVDF"}
_NEED_SCALE |= {"UNIDIRECTIONAL_SEQUENCE_LSTM", "BIDIRECTIONAL_SEQUENCE_LSTM", "LSTM"}
# These kernels take all other types for float32, whatever their size.
_DIAGONALS = {"MATRIX_DIAG", "MATRIX_SET_DIAG"}
_DIAGONAL_TYPES = {"float32", "int8", "int16", "int32", "int64", "uint8"}
# Custom operators that runtimes have themselves.
_CUSTOM = {"AudioSpectrogram", "Mfcc", "NumericVerify", "TFLite_Detection_PostProcess"}
# These kernels make a handle of their output, whatever the file says it is.
_MAKE_HANDLES = {"HASHTABLE", "VAR_HANDLE"}
# Which input holds axes, of which other input.
_REDUCTIONS = {"MEAN", "SUM", *(f"REDUCE_{name}" for name in ("ALL", "ANY", "MAX", "MIN", "PROD"))}
_AXES = {"SPLIT": (0, 1), "SPLIT_V": (2, 0), "EXPAND_DIMS": (1, 0)}
for _name in ("ARG_MAX", "ARG_MIN", "CUMSUM", "REVERSE_V2", "TRANSPOSE", *_REDUCTIONS):
    _AXES[_name] = (1, 0)
_POOLS = {"AVERAGE_POOL_2D", "L2_POOL_2D", "MAX_POOL_2D"}
_LARGEST_SCALE = 2.0**100  # kernels multiply scales by other numbers, in float32
# Which options in the schema's union are an operator's.
_OPTIONS = {"GATHER": 23, "LOCAL_RESPONSE_NORMALIZATION": 13, "ONE_HOT": 61, "SPLIT": 35}
_OPTIONS |= {"REVERSE_SEQUENCE": 87, "SPLIT_V": 79, "UNPACK": 64, **dict.fromkeys(_POOLS, 5)}
_LARGEST_OPTION = 1 << 20
_LARGEST_WINDOW = 1 << 15


def check_operator(file: ModelFile, subgraph: Subgraph, operator: Operator) -> None:
    """Refuses constants, options and scales that the operator's kernels do not check.

    Raises:
        ModelError: Says what is wrong.
    """
    if operator.is_custom:
        if operator.name in _CUSTOM:
            numbers = read_numbers(operator.custom_options).values()
            if not all(0 <= number <= _LARGEST_OPTION for number in numbers):
                raise ModelError(f"{operator.name} has an option out of range")
        return
    node = _Node(file, subgraph, operator)
    for find in (_wrong_number, _wrong_scale, _wrong_type, _wrong_constant, _wrong_option):
        problem = find(node)
        if problem:
            raise ModelError(f"{operator.name} has {problem}")


class _UnknownError(Exception):
    """The value or the shape is known only when the model runs."""


class _Node:
    """An operator with its tensors."""

    def __init__(self, file: ModelFile, subgraph: Subgraph, operator: Operator) -> None:
        tensors = subgraph.tensors
        self.name = operator.name
        self.inputs = [tensors[i] if i >= 0 else None for i in operator.inputs]
        self.outputs = [tensors[i] for i in operator.outputs]
        self.intermediates = [tensors[i] for i in operator.intermediates if i >= 0]
        self._constant, self._operator = file.constant, operator

    def option(self, field: int) -> int:
        """A number of the operator's options; runtimes do not look at those of another one."""
        kind = self._operator.table.number(3, "<B")
        options = self._operator.options if kind == _OPTIONS[self.name] else None
        return options.number(field) if options else 0

    def values(self, number: int) -> np.ndarray:
        """The integers of a constant input, where sums and products of two do not overflow."""
        tensor = self.inputs[number] if number < len(self.inputs) else None
        value = self._constant(tensor) if tensor else None
        if value is None or value.dtype.kind not in "iu" or not value.size:
            raise _UnknownError
        return np.clip(value.astype(np.int64), -(2**31), 2**31)

    def shape(self, number: int) -> list[int]:
        """The shape of an input."""
        return _fixed_shape(self.inputs[number] if number < len(self.inputs) else None)

    def result(self) -> list[int]:
        """The shape that is declared for the output."""
        return _fixed_shape(self.outputs[0] if self.outputs else None)


def _fixed_shape(tensor: Tensor | None) -> list[int]:
    if tensor is None or -1 in tensor.signature:
        raise _UnknownError
    return list(tensor.shape)


def _wrong_number(node: _Node) -> str | None:
    given = len(node.inputs), len(node.outputs)
    if given != OPERATOR_FORMS.get(node.name, given):
        return f"{given[0]} inputs and {given[1]} outputs"
    if node.name in ("SPLIT", "SPLIT_V", "UNPACK") and node.option(0) != len(node.outputs):
        return f"{len(node.outputs)} outputs instead of {node.option(0)}"
    if node.name == "DEPTHWISE_CONV_2D" and node.inputs[2:] in ([], [None]):
        return "no bias" if node.outputs and node.outputs[0].type != "float32" else None
    return None


def _wrong_type(node: _Node) -> str | None:
    types = {tensor.type for tensor in (*node.inputs, *node.outputs) if tensor}
    others = sorted(types & {"string", "resource", "variant"})
    if others and node.name not in TAKE_TEXT:
        return f"a tensor of type {others[0]}"
    made = "bool" if node.name in _COMPARISONS else "resource"
    if node.name in _COMPARISONS | _MAKE_HANDLES and node.outputs and node.outputs[0].type != made:
        return f"an output of type {node.outputs[0].type}"
    if node.name in _DIAGONALS and types - _DIAGONAL_TYPES:
        return f"a tensor of type {min(types - _DIAGONAL_TYPES)}"
    if node.name in KEEP_TYPE and node.inputs and node.inputs[0] and node.outputs:
        made = node.outputs[0].type
        return None if made == node.inputs[0].type else f"an output of type {made}"
    return _narrow_output(node)


def _narrow_output(node: _Node) -> str | None:
    """The kernel would write beyond the output's end."""
    if not node.outputs or len(node.inputs) <= MAKE_FLOATS.get(node.name, len(node.inputs)):
        return None
    given, made = node.inputs[MAKE_FLOATS[node.name]], node.outputs[0]
    if given is None or given.type == made.type:
        return None
    is_wide = given.dtype and made.dtype and given.dtype.itemsize <= made.dtype.itemsize
    return None if is_wide and given.type != "float32" else f"an output of type {made.type}"


def _wrong_scale(node: _Node) -> str | None:
    if node.name not in _NEED_SCALE:
        return None
    tensors = [t for t in (*node.inputs, *node.outputs, *node.intermediates) if t]
    integers = [t for t in tensors if t.type in ("int4", "int8", "uint8", "int16")]
    # 16-bit integers may be added as they are.
    if node.name == "ADD" and all(t.type == "int16" and not len(t.scales) for t in integers):
        return None
    if not all(len(tensor.scales) for tensor in integers):
        return "integers without a scale"
    if node.name in _ARITHMETIC | _COMPARISONS and any(len(t.scales) > 1 for t in integers):
        return "integers with several scales"
    scales = [float(scale) for tensor in integers for scale in tensor.scales]
    if node.name in _ARITHMETIC and len(scales) > 1:
        # Kernels shift their terms by 15 bits, and differences by 7 before they square them.
        largest, result = 2 * max(scales[:-1]), scales[-1]
        least = largest**2 / 2**14 if node.name == "SQUARED_DIFFERENCE" else largest / 2**15
        fine = all(1 / _LARGEST_SCALE < s < _LARGEST_SCALE for s in scales) and least < result
    elif node.name in _COMPARISONS:
        fine = all(0 < scale < 1 for scale in scales)
    else:
        fine = all(0 <= scale < math.inf for scale in scales)
    return None if fine else "integers whose scales are out of range"


def _wrong_constant(node: _Node) -> str | None:
    for find in (_wrong_axis, _wrong_index, _wrong_result):
        try:
            problem = find(node)
        except _UnknownError:
            if find is _wrong_index and node.name == "REVERSE_SEQUENCE":
                return "lengths that are not constant, which runtimes do not check"
        except IndexError:
            return "an axis out of range"
        except (ArithmeticError, TypeError, ValueError):
            return "a constant that does not fit its tensors"
        else:
            if problem:
                return problem
    return None


def _wrong_axis(node: _Node) -> str | None:
    if node.name not in _AXES:
        return None
    number, other = _AXES[node.name]
    if node.name not in {*_REDUCTIONS, "TRANSPOSE"} and 0 in node.shape(number):
        return "no axis"
    axes, rank = node.values(number), len(node.shape(other)) + (node.name == "EXPAND_DIMS")
    fine = axes.size <= rank and (axes >= -rank).all() and (axes < rank).all()
    return None if fine else "an axis out of range"


def _wrong_index(node: _Node) -> str | None:
    if node.name not in _INDICES:
        return None
    indices, limits = _INDICES[node.name](node)
    return None if (indices >= 0).all() and (indices < limits).all() else "an index out of range"


# Constant indices, and what they are below: one number, or one for each of the last axis.
_INDICES: dict[str, Callable[[_Node], tuple[np.ndarray, int | list[int]]]] = {
    "EMBEDDING_LOOKUP": lambda n: (n.values(0), n.shape(1)[0]),
    "GATHER": lambda n: (n.values(1), n.shape(0)[n.option(0)]),
    "GATHER_ND": lambda n: (n.values(1), n.shape(0)[: n.shape(1)[-1]]),
    "REVERSE_SEQUENCE": lambda n: (n.values(1), n.shape(0)[n.option(0)] + 1),
    "SCATTER_ND": lambda n: (n.values(0), n.values(2).tolist()[: n.shape(0)[-1]]),
    "SEGMENT_SUM": lambda n: (n.values(1), n.values(1)[-1] + 1),
}


def _wrong_result(node: _Node) -> str | None:
    if node.name not in _RESULTS:
        return None
    fits = [*_RESULTS[node.name](node)] == node.result()
    return None if fits else "an output of another shape than it declares"


def _padded(node: _Node) -> list[int]:
    pairs = zip(node.shape(0), node.values(1).tolist(), strict=True)
    return [before + size + after for size, (before, after) in pairs]


def _resized(node: _Node) -> list[int]:
    batch, _, _, channels = node.shape(0)
    return [batch, *node.values(1).tolist(), channels]


def _one_hot(node: _Node) -> list[int]:
    shape, axis = node.shape(0), node.option(0)
    shape.insert(len(shape) if axis == -1 else axis, node.values(1).item())
    return shape


def _batches(node: _Node) -> list[int]:
    """What SPACE_TO_BATCH_ND makes of an image."""
    batch, *sizes = node.shape(0)
    blocks, pads = node.values(1).tolist(), node.values(2).sum(axis=1).tolist()
    rows = [(s + p) // b for s, b, p in zip(sizes, blocks, pads, strict=False)]
    return [batch * math.prod(blocks), *rows, *sizes[len(blocks) :]]


def _spaces(node: _Node) -> list[int]:
    """What BATCH_TO_SPACE_ND makes of it."""
    batch, *sizes = node.shape(0)
    blocks, cuts = node.values(1).tolist(), node.values(2).sum(axis=1).tolist()
    rows = [s * b - c for s, b, c in zip(sizes, blocks, cuts, strict=False)]
    return [batch // math.prod(blocks), *rows, *sizes[len(blocks) :]]


# The shape that constants give the output: the runtime would reserve and fill what they say.
_RESULTS: dict[str, Callable[[_Node], Iterable[int]]] = {
    "BATCH_TO_SPACE_ND": _spaces,
    "BROADCAST_TO": lambda n: n.values(1).tolist(),
    "FILL": lambda n: n.values(0).tolist(),
    "MULTINOMIAL": lambda n: [n.shape(0)[0], n.values(1).item()],
    "NON_MAX_SUPPRESSION_V4": lambda n: [n.values(2).item()],
    "NON_MAX_SUPPRESSION_V5": lambda n: [n.values(2).item()],
    "ONE_HOT": _one_hot,
    "RANDOM_STANDARD_NORMAL": lambda n: n.values(0).tolist(),
    "RANDOM_UNIFORM": lambda n: n.values(0).tolist(),
    "RANGE": lambda n: [len(range(*(n.values(i).item() for i in range(3))))],
    "RESHAPE": lambda n: [
        d if w == -1 else w for w, d in zip(n.values(1).tolist(), n.result(), strict=True)
    ],
    "RFFT2D": lambda n: [*n.shape(0)[:-2], n.values(1)[0], n.values(1)[1] // 2 + 1],
    "SCATTER_ND": lambda n: n.values(2).tolist(),
    "SEGMENT_SUM": lambda n: [n.values(1)[-1] + 1, *n.shape(0)[1:]],
    "SPACE_TO_BATCH_ND": _batches,
    "SPARSE_TO_DENSE": lambda n: n.values(1).ravel().tolist(),
    "TILE": lambda n: (np.array(n.shape(0)) * n.values(1)).tolist(),
    "TRANSPOSE_CONV": lambda n: n.values(0).tolist(),
}
for _name in ("MIRROR_PAD", "PAD", "PADV2"):
    _RESULTS[_name] = _padded
for _name in ("RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR"):
    _RESULTS[_name] = _resized
for _name in ("MAX", "MIN", "PROD", "SUM"):
    _RESULTS[f"UNSORTED_SEGMENT_{_name}"] = lambda n: [
        n.values(2).item(),
        *n.shape(0)[len(n.shape(1)) :],
    ]


def _wrong_option(node: _Node) -> str | None:
    if node.name in _POOLS:
        sizes = [node.option(field) for field in range(1, 5)]  # the strides and the filter's
        return None if all(1 <= s <= _LARGEST_WINDOW for s in sizes) else "a window out of range"
    if node.name == "LOCAL_RESPONSE_NORMALIZATION":
        return None if 0 <= node.option(0) <= _LARGEST_WINDOW else "a radius out of range"
    return None
