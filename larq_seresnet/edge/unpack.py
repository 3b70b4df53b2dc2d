"""Computes the constant parts of a graph once, when a file is loaded.

Files with packed weights hold bits, and a few operators that turn them into the +1 and -1 that a
convolution multiplies with. Left in the graph, these run at each inference, and the convolution,
whose filter is then no constant, is not taken by XNNPACK, the fast float kernels. So every operator
of a small set whose inputs are constants is evaluated here, and replaced by its result.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from larq_seresnet.edge.errors import ModelError
from larq_seresnet.edge.flatbuffer import Table
from larq_seresnet.edge.model_file import ModelFile, Subgraph
from larq_seresnet.edge.rewrite import Folded, rewrite, write

# A packed bit becomes a float of 32, in up to eight steps, and a network has at least one byte of
# bits for each; the floor is for small files. Only a hostile file asks for more.
_GROWTH, _FLOOR = 256, 64 << 20

_Values = list[np.ndarray]
# Takes the inputs, the options and the first output's shape; gives the output, or several.
_Evaluator = Callable[[_Values, "Table | None", tuple[int, ...]], "np.ndarray | _Values"]


class _UnsupportedError(Exception):
    """The operator is left in the graph, for the runtime to evaluate."""


@dataclass(frozen=True)
class Unpacked:
    """A model whose constant subgraphs are constants, not written yet.

    Attributes:
        origin: The model as it is in the file.
        folded: What of it is replaced.
        operators: The names of the operators that are left, in all subgraphs.
    """

    origin: ModelFile
    folded: list[Folded]
    operators: list[str]

    @property
    def is_changed(self) -> bool:
        """Whether anything is replaced."""
        return any(part.removed for part in self.folded)

    @cached_property
    def model(self) -> ModelFile:
        """The model with the constants; its bytes are still the old ones."""
        if not self.is_changed:
            return self.origin
        removed, values = zip(*((part.removed, part.values) for part in self.folded), strict=True)
        return self.origin.with_constants(removed, values)

    @property
    def data(self) -> bytes:
        """The bytes of a `.tflite` file."""
        return write(self.origin, self.folded)[0] if self.is_changed else self.origin.data

    def rewritten(self, further: list[Folded]) -> ModelFile:
        """The model in which more is replaced; `further` numbers the operators of `model`."""
        graphs = zip(self.origin.subgraphs, self.folded, further, strict=True)
        folded = [_both(graph, first, second) for graph, first, second in graphs]
        is_changed = any(part.removed for part in folded)
        return rewrite(self.origin, folded) if is_changed else self.origin


def unpack_constants(model: ModelFile, main: int = 0, max_bytes: int | None = None) -> Unpacked:
    """Replaces constant subgraphs by their values.

    Args:
        model: Any model; one without constant subgraphs stays as it is.
        main: The subgraph that is to be run, if it is not the first.
        max_bytes: How much memory all results may take, those included that are left to the
            runtime; by default 64 MiB, or 256 times the file's size if that is more.

    Raises:
        ModelError: The constants need more than that.
    """
    if max_bytes is None:
        max_bytes = max(_FLOOR, _GROWTH * len(model.data))
    left = max_bytes

    def take(size: int) -> None:
        nonlocal left
        left -= size
        if left < 0:
            raise ModelError(
                f"unpacking the file's constants takes over {max_bytes >> 20:,} MiB; "
                "max_unpacked_bytes allows more"
            )

    folded = [_fold(model, subgraph, take) for subgraph in model.subgraphs]
    operators = [
        operator.name
        for subgraph, part in zip(model.subgraphs, folded, strict=True)
        for i, operator in enumerate(subgraph.operators)
        if i not in part.removed
    ]
    if main:
        model = rewrite(model, folded, main)
        folded = [Folded() for _ in folded]
    return Unpacked(model, folded, operators)


def _both(graph: Subgraph, first: Folded, second: Folded) -> Folded:
    """Two replacements, of which the second knows the operators that the first left."""
    left = [number for number in range(len(graph.operators)) if number not in first.removed]
    removed = first.removed | {left[number] for number in second.removed}
    added = {left[number]: operator for number, operator in second.added.items()}
    used = set(graph.outputs).union(*(operator.inputs for operator in added.values()))
    for number, operator in enumerate(graph.operators):
        if number not in removed:
            used.update(operator.inputs)
    values = {index: value for index, value in first.values.items() if index in used}
    return Folded(removed, values, added, second.new)


def _fold(model: ModelFile, subgraph: Subgraph, take: Callable[[int], None]) -> Folded:
    """Which operators of a subgraph can go, and the constants that take their place."""
    values: dict[int, np.ndarray] = {}
    removed: set[int] = set()
    known = {index for index, tensor in enumerate(subgraph.tensors) if tensor.is_constant}
    last_use = {index: i for i, op in enumerate(subgraph.operators) for index in op.inputs}
    kept = set(subgraph.outputs)
    for i, operator in enumerate(subgraph.operators):
        given = {index for index in operator.inputs if index >= 0}
        if not given or not known >= given:
            kept.update(operator.inputs)
            continue
        known.update(operator.outputs)
        take(sum(subgraph.tensors[index].nbytes for index in operator.outputs))
        results = _evaluate(model, subgraph, i, values)
        if results is None:
            kept.update(operator.inputs)
        else:
            removed.add(i)
            values.update(zip(operator.outputs, results, strict=True))
        for index in operator.inputs:
            if last_use[index] == i and index not in kept:
                values.pop(index, None)
    return Folded(removed, {index: value for index, value in values.items() if index in kept})


def _evaluate(
    model: ModelFile, subgraph: Subgraph, number: int, values: dict[int, np.ndarray]
) -> _Values | None:
    """The outputs of an operator, or None where it is left to the runtime."""
    operator = subgraph.operators[number]
    evaluate = _EVALUATORS.get(operator.name)
    outputs = [subgraph.tensors[index] for index in operator.outputs]
    inputs = []
    for index in operator.inputs:
        constant = model.constant(subgraph.tensors[index]) if index >= 0 else None
        value = values.get(index, constant)
        inputs += [] if value is None else [value]
    if (
        evaluate is None
        or operator.is_custom != (operator.name == "LceDequantize")
        or len(inputs) < len(operator.inputs)
        or not outputs
        or not all(tensor.dtype and tensor.shape and tensor.nbytes for tensor in outputs)
    ):
        return None
    try:
        results = evaluate(inputs, operator.options, outputs[0].shape)
    except (_UnsupportedError, ArithmeticError, IndexError, MemoryError, TypeError, ValueError):
        return None  # what numpy refuses is the runtime's to judge
    results = results if isinstance(results, list) else [results]
    if operator.name == "CAST":
        results = [results[0].astype(outputs[0].dtype)]
    declared = [(output.shape, output.dtype) for output in outputs]
    is_as_declared = [(result.shape, result.dtype) for result in results] == declared
    return results if is_as_declared else None


def _require_no_activation(options: Table | None, field: int = 0) -> None:
    if options and options.number(field, "<b"):
        raise _UnsupportedError


def _broadcast(operation: Callable[..., np.ndarray]) -> _Evaluator:
    def evaluate(values: _Values, options: Table | None, shape: tuple[int, ...]) -> np.ndarray:
        _require_no_activation(options)
        a, b = values
        if a.dtype != np.float32 or np.broadcast_shapes(a.shape, b.shape) != shape:
            raise _UnsupportedError
        return operation(a, b)

    return evaluate


def _lce_dequantize(values: _Values, _options: Table | None, shape: tuple[int, ...]) -> np.ndarray:
    (words,) = values
    if words.dtype != np.int32 or words.shape != (*shape[:-1], -(-shape[-1] // 32)):
        raise _UnsupportedError
    bits = np.unpackbits(np.ascontiguousarray(words).view(np.uint8), axis=-1, bitorder="little")
    return np.float32(1) - np.float32(2) * bits[..., : shape[-1]]


def _gather(values: _Values, options: Table | None, shape: tuple[int, ...]) -> np.ndarray:
    table, indices = values
    if indices.dtype.kind not in "iu":
        raise _UnsupportedError
    axis = options.number(0) if options else 0
    if options and options.number(1):
        return _gather_rows(table, indices, axis, options.number(1))
    axis = axis + table.ndim if axis < 0 else axis
    if table.shape[:axis] + indices.shape + table.shape[axis + 1 :] != shape:
        raise _UnsupportedError
    if indices.size and (indices.min() < 0 or indices.max() >= table.shape[axis]):
        raise _UnsupportedError
    return np.take(table, indices, axis=axis)


def _gather_rows(table: np.ndarray, indices: np.ndarray, axis: int, batches: int) -> np.ndarray:
    """Each row has a table of its own."""
    if (axis, batches, table.ndim, indices.ndim) != (1, 1, 2, 2) or len(table) != len(indices):
        raise _UnsupportedError
    if indices.size and (indices.min() < 0 or indices.max() >= table.shape[1]):
        raise _UnsupportedError
    return np.take_along_axis(table, indices, axis=1)


def _reshape(values: _Values, _options: Table | None, shape: tuple[int, ...]) -> np.ndarray:
    return values[0].reshape(shape)  # the runtime checks the requested shape against the same


def _transpose(values: _Values, _options: Table | None, _shape: tuple[int, ...]) -> np.ndarray:
    value, order = values
    return np.transpose(value, order.tolist())


def _slice(values: _Values, _options: Table | None, _shape: tuple[int, ...]) -> np.ndarray:
    value, begin, size = (v.tolist() if i else v for i, v in enumerate(values))
    if len(begin) != value.ndim or len(size) != value.ndim or min(begin) < 0:
        raise _UnsupportedError
    return value[
        tuple(slice(b, None if s == -1 else b + s) for b, s in zip(begin, size, strict=True))
    ]


def _concatenation(values: _Values, options: Table | None, _shape: tuple[int, ...]) -> np.ndarray:
    _require_no_activation(options, 1)
    return np.concatenate(values, axis=options.number(0) if options else 0)


def _broadcast_to(values: _Values, _options: Table | None, shape: tuple[int, ...]) -> np.ndarray:
    value, wanted = values
    if tuple(wanted.tolist()) != shape:
        raise _UnsupportedError
    return np.broadcast_to(value, shape)


def _split(values: _Values, options: Table | None, _shape: tuple[int, ...]) -> _Values:
    axis, value = values
    count = options.number(0) if options else 0
    if count > value.shape[axis.item()]:
        raise _UnsupportedError
    return np.split(value, count, axis=int(axis.item()))


def _split_v(values: _Values, _options: Table | None, _shape: tuple[int, ...]) -> _Values:
    value, sizes, axis = values
    if sizes.ndim != 1 or sizes.min() < 0 or sizes.sum(dtype=np.int64) != value.shape[axis.item()]:
        raise _UnsupportedError
    return np.split(value, np.cumsum(sizes)[:-1].tolist(), axis=int(axis.item()))


def _dequantize(values: _Values, _options: Table | None, _shape: tuple[int, ...]) -> np.ndarray:
    if values[0].dtype != np.float16:
        raise _UnsupportedError  # integers have a scale
    return values[0].astype(np.float32)


def _cast(values: _Values, _options: Table | None, _shape: tuple[int, ...]) -> np.ndarray:
    if values[0].dtype.kind not in "iub":
        raise _UnsupportedError  # conversions of floats can overflow
    return values[0]


_EVALUATORS: dict[str, _Evaluator] = {
    "ADD": _broadcast(np.add),
    "BROADCAST_TO": _broadcast_to,
    "CAST": _cast,
    "CONCATENATION": _concatenation,
    "DEQUANTIZE": _dequantize,
    "EXPAND_DIMS": _reshape,
    "GATHER": _gather,
    "LceDequantize": _lce_dequantize,
    "MUL": _broadcast(np.multiply),
    "RESHAPE": _reshape,
    "SLICE": _slice,
    "SPLIT": _split,
    "SPLIT_V": _split_v,
    "SQUEEZE": _reshape,
    "SUB": _broadcast(np.subtract),
    "TRANSPOSE": _transpose,
}
