"""What a `.tflite` file holds: operators, tensors, constants, signatures and metadata."""

import math
import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from larq_seresnet.edge.errors import ModelError
from larq_seresnet.edge.flatbuffer import Source, Table
from larq_seresnet.edge.operators import BUILTIN_OPERATORS

LCE_OPERATORS = ("LceQuantize", "LceDequantize", "LceBconv2d", "LceBMaxPool2d")
NATIVE_OPERATORS = frozenset({*LCE_OPERATORS, "EdgeBconv2d", "EdgeElementwise", "EdgeMean"})
"""What the native delegate runs: Larq Compute Engine's operators, and what `fuse` makes of them."""

METADATA_NAME = "larq_seresnet"

# Numbers of the tensor types in TensorFlow Lite's schema; those packed below a byte have no dtype.
_TYPE_NAMES = """
float32 float16 int32 uint8 int64 string bool int16 complex64 int8 float64 complex128 uint64
resource variant uint32 uint16 int4 bfloat16 int2 uint4 float8_e4m3fn float8_e5m2
"""
TENSOR_TYPES = tuple(_TYPE_NAMES.split())
_DTYPES = {
    name: np.dtype(name)
    for name in TENSOR_TYPES[:17]
    if name not in ("string", "resource", "variant")
}

# Far more than any network has; a subgraph costs the runtime much more than its bytes.
_MAX_SUBGRAPHS, _MAX_RANK, _MAX_METADATA_DEPTH = 1000, 32, 20
# Pixel values beyond this are no pixels, and their differences are still float32 numbers.
_MAX_PIXEL = 1e6
_NONE = np.empty(0)

_Buffer = tuple[Table, np.ndarray]


class ModelFields:
    """Field numbers of the schema's Model table."""

    VERSION, OPERATOR_CODES, SUBGRAPHS, DESCRIPTION, BUFFERS = range(5)
    METADATA_BUFFER, METADATA, SIGNATURES = range(5, 8)


class SubgraphFields:
    """Field numbers of the schema's SubGraph table."""

    TENSORS, INPUTS, OUTPUTS, OPERATORS, NAME = range(5)


class TensorFields:
    """Field numbers of the schema's Tensor table."""

    SHAPE, TYPE, BUFFER, NAME, QUANTIZATION, IS_VARIABLE, SPARSITY, SHAPE_SIGNATURE = range(8)
    HAS_RANK, VARIANT_TENSORS, EXTERNAL_BUFFER = range(8, 11)


@dataclass(frozen=True)
class Tensor:
    """A tensor's declaration.

    Attributes:
        shape: Its sizes; where one is free, what it starts out with.
        signature: The shape with -1 for sizes that are free.
        type: A name of `TENSOR_TYPES`.
        buffer: Indexes the model's buffers.
        is_constant: Whether the file holds its value.
        is_variable: Whether it keeps its value from one inference to the next.
        scales: For integers that stand for real numbers, `real = scale * (integer - zero_point)`:
            none, one, or one for each channel.
        zero_points: As many.
    """

    shape: tuple[int, ...]
    signature: tuple[int, ...]
    type: str
    buffer: int
    is_constant: bool
    is_variable: bool
    scales: np.ndarray
    zero_points: np.ndarray
    table: Table

    @property
    def name(self) -> str:
        """Its name, as the file has it: to be escaped where it is printed."""
        return self.table.text(TensorFields.NAME)

    @property
    def dtype(self) -> np.dtype | None:
        """The numpy type of its elements, or None where numpy has none."""
        return _DTYPES.get(self.type)

    @property
    def nbytes(self) -> int:
        """The size of its value."""
        return math.prod(self.shape) * (self.dtype.itemsize if self.dtype else 1)


@dataclass(frozen=True)
class Operator:
    """A node; `inputs` and `outputs` index the subgraph's tensors, and -1 is an input left out."""

    name: str
    is_custom: bool
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    intermediates: tuple[int, ...]
    table: Table

    @property
    def options(self) -> Table | None:
        """What a builtin operator is configured with."""
        return self.table.table(4)

    @property
    def custom_options(self) -> bytes:
        """What a custom operator is configured with."""
        return self.table.vector(5, "<u1").tobytes()


@dataclass(frozen=True)
class Subgraph:
    """A graph of operators, in the order in which they run."""

    tensors: list[Tensor]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    operators: list[Operator]
    table: Table

    def readers(self) -> Mapping[int, list[int]]:
        """The numbers of the operators that read each tensor; of others none."""
        found: dict[int, list[int]] = defaultdict(list)
        for number, operator in enumerate(self.operators):
            for index in operator.inputs:
                found[index].append(number)
        return found


@dataclass(frozen=True)
class Signature:
    """One of the functions that a file offers: the names of a subgraph's inputs and outputs."""

    key: str
    subgraph: int
    inputs: list[tuple[int, str]]
    outputs: list[tuple[int, str]]


def read_file(path: str | os.PathLike[str]) -> bytes:
    """A model's bytes.

    Raises:
        ModelError: The path is of something without an end, like a device.
        OSError: The file cannot be read.
    """
    if Path(path).exists() and not (Path(path).is_file() or Path(path).is_dir()):
        raise ModelError(f"{path} is not a regular file")
    return Path(path).read_bytes()


class ModelFile:
    """A `.tflite` file, read and checked as far as it can be without looking at the operators.

    Args:
        data: The file's bytes.
        origin: The model that these were written from by `rewrite`, if they were: what they have of
            it is not read again.
        start: Where the bytes of `origin` begin.

    Raises:
        ModelError: The bytes are not a TensorFlow Lite model, or contradict themselves.
    """

    def __init__(self, data: bytes, origin: "ModelFile | None" = None, start: int = 0) -> None:
        if data[4:8] != b"TFL3":
            raise ModelError("this is not a TensorFlow Lite model")
        self.data = data
        self._source = Source(data)
        self._starts = {self._source: 0}  # of the bytes that tables were read from
        self._known_buffers: dict[int, _Buffer] = {}
        self._known_tensors: dict[int, Tensor] = {}
        self._known_operators: dict[int, Operator] = {}
        if origin:
            self._starts |= {source: start + other for source, other in origin._starts.items()}
            self._known_buffers = {
                self.place(table): (table, value) for table, value in origin._buffers
            }
            for graph in origin.subgraphs:
                self._known_tensors |= {self.place(t.table): t for t in graph.tensors}
                self._known_operators |= {self.place(o.table): o for o in graph.operators}
        self.table = Table(self._source, int.from_bytes(data[:4], "little"))
        self._buffers: list[_Buffer] = [
            self._known_buffers.get(position) or self._read_buffer(position)
            for position in self.table.positions(ModelFields.BUFFERS)
        ]
        self.buffers = [value for _, value in self._buffers]
        codes = self.table.tables(ModelFields.OPERATOR_CODES)
        self._operator_names = [_operator_name(code) for code in codes]
        subgraphs = self.table.tables(ModelFields.SUBGRAPHS)
        if not 1 <= len(subgraphs) <= _MAX_SUBGRAPHS:
            raise ModelError(f"the file has {len(subgraphs)} subgraphs")
        self.subgraphs: list[Subgraph] = [self._read_subgraph(table) for table in subgraphs]
        signatures = self.table.tables(ModelFields.SIGNATURES)
        self.signatures = [self._read_signature(table) for table in signatures]

    def place(self, table: Table) -> int:
        """The position of a table in this file's bytes."""
        return self._starts[table.source] + table.position

    @property
    def buffer_places(self) -> list[int]:
        """The positions of the buffers' tables."""
        return [self.place(table) for table, _ in self._buffers]

    def constant(self, tensor: Tensor) -> np.ndarray | None:
        """A constant tensor's value; None where it is none, or of a type that numpy lacks."""
        if not tensor.is_constant or tensor.dtype is None:
            return None
        return self.buffers[tensor.buffer].view(tensor.dtype).reshape(tensor.shape)

    def with_constants(
        self, removed: Sequence[set[int]], values: Sequence[dict[int, np.ndarray]]
    ) -> "ModelFile":
        """This model without some operators of each subgraph, and with constants for some tensors.

        Its bytes stay as they are.
        """
        model = copy(self)
        model.buffers = list(self.buffers)
        model.subgraphs = []
        for graph, gone, known in zip(self.subgraphs, removed, values, strict=True):
            tensors = list(graph.tensors)
            for index, value in known.items():
                tensors[index] = replace(
                    tensors[index],
                    signature=tensors[index].shape,
                    buffer=len(model.buffers),
                    is_constant=True,
                    is_variable=False,
                )
                model.buffers.append(np.ascontiguousarray(value).reshape(-1).view(np.uint8))
            left = [op for i, op in enumerate(graph.operators) if i not in gone]
            model.subgraphs.append(replace(graph, tensors=tensors, operators=left))
        return model

    def signature(self, key: str | None) -> Signature:
        """The signature of that key, or by default the one that runtimes run.

        Raises:
            ValueError: There is none of that key.
        """
        if key is None:
            main = (signature for signature in self.signatures if not signature.subgraph)
            return next(main, Signature("", 0, [], []))
        for signature in self.signatures:
            if signature.key == key:
                return signature
        keys = ", ".join(signature.key for signature in self.signatures)
        raise ValueError(f"the file has no signature '{key}', but: {keys or 'none'}")

    @cached_property
    def metadata(self) -> dict[str, Any]:
        """What this project's converter wrote about the model; empty for files of other origin."""
        found: dict[str, Any] = {}
        for entry in self.table.tables(ModelFields.METADATA):
            index = entry.number(1, "<I")
            if index >= len(self.buffers):
                raise ModelError("the file is damaged: its metadata are missing")
            self._source.visit(self.buffers[index].nbytes)  # the runtime copies them
            if entry.text(0) == METADATA_NAME and not found:
                found = _parse_metadata(self.buffers[index].tobytes())
        return found

    def _read_subgraph(self, table: Table) -> Subgraph:
        table.visit_text(SubgraphFields.NAME)
        return Subgraph(
            tensors=[
                self._known_tensors.get(position) or self._read_tensor(position)
                for position in table.positions(SubgraphFields.TENSORS)
            ],
            inputs=table.integers(SubgraphFields.INPUTS),
            outputs=table.integers(SubgraphFields.OUTPUTS),
            operators=[
                self._known_operators.get(position) or self._read_operator(position)
                for position in table.positions(SubgraphFields.OPERATORS)
            ],
            table=table,
        )

    def _read_buffer(self, position: int) -> _Buffer:
        table = Table(self._source, position)
        if table.number(1, "<Q"):
            raise ModelError("constants behind the FlatBuffer (over 2 GB) are not supported")
        return table, table.vector(0, "<u1")

    def _read_tensor(self, position: int) -> Tensor:
        table = Table(self._source, position)
        type_number = table.number(TensorFields.TYPE, "<B")
        if type_number >= len(TENSOR_TYPES):
            raise ModelError(f"a tensor has the unknown type {type_number}")
        buffer = table.number(TensorFields.BUFFER, "<I")
        if buffer >= len(self.buffers):
            raise ModelError("a tensor has no buffer")
        table.visit_text(TensorFields.NAME)
        shape = table.integers(TensorFields.SHAPE)
        signature = table.integers(TensorFields.SHAPE_SIGNATURE)
        quantization = table.table(TensorFields.QUANTIZATION)
        size = len(self.buffers[buffer]) if buffer else 0
        is_variable = bool(table.number(TensorFields.IS_VARIABLE, "<B"))
        tensor = Tensor(
            shape=shape,
            signature=signature if len(signature) == len(shape) else shape,
            type=TENSOR_TYPES[type_number],
            buffer=buffer,
            is_constant=size > 0 and not is_variable,
            is_variable=is_variable,
            scales=quantization.visit(2, "<f4") if quantization else _NONE,
            zero_points=quantization.visit(3, "<i8") if quantization else _NONE,
            table=table,
        )
        problem = ""
        if len(shape) > _MAX_RANK:
            problem = f"has {len(shape)} dimensions"
        elif min(shape, default=0) < 0 or min(signature, default=0) < -1:
            problem = "has a negative size"
        elif table.where(TensorFields.SPARSITY) or table.where(TensorFields.EXTERNAL_BUFFER):
            problem = "is sparse or outside of the file, which is not supported"
        elif tensor.is_constant and tensor.dtype and size != tensor.nbytes:
            problem = f"has {size} bytes instead of {tensor.nbytes}"
        elif tensor.is_constant and tensor.type == "string" and not self._are_strings(tensor):
            problem = "is not laid out as strings"
        if problem:
            raise ModelError(f"tensor '{tensor.name}' {problem}")
        return tensor

    def _are_strings(self, tensor: Tensor) -> bool:
        """Whether a constant tells how many strings it has, where each begins and the last ends."""
        data, count = self.buffers[tensor.buffer], math.prod(tensor.shape)
        head = data[: 4 * count + 8]
        self._source.visit(head.nbytes)
        if len(head) < 4 * count + 8:
            return False
        number, *places = head.view("<i4").tolist()
        is_inside = len(head) <= places[0] and places[-1] <= len(data)
        return number == count and places == sorted(places) and is_inside

    def _read_operator(self, position: int) -> Operator:
        table = Table(self._source, position)
        code = table.number(0, "<I")
        if code >= len(self._operator_names):
            raise ModelError("the file is damaged: an operator is of no kind")
        name, is_custom = self._operator_names[code]
        if table.number(9, "<Q"):
            raise ModelError("options behind the FlatBuffer (over 2 GB) are not supported")
        return Operator(
            name=name,
            is_custom=is_custom,
            inputs=table.integers(1),
            outputs=table.integers(2),
            intermediates=table.integers(8),
            table=table,
        )

    def _read_signature(self, table: Table) -> Signature:
        inputs, outputs = (
            [(entry.number(1, "<I"), entry.text(0)) for entry in table.tables(field)]
            for field in (0, 1)
        )
        signature = Signature(table.text(2), table.number(4, "<I"), inputs, outputs)
        if signature.subgraph >= len(self.subgraphs):
            raise ModelError(f"the file is damaged: signature '{signature.key}' has no subgraph")
        graph = self.subgraphs[signature.subgraph]
        for entries, tensors in ((inputs, set(graph.inputs)), (outputs, set(graph.outputs))):
            if any(index not in tensors for index, _ in entries):
                raise ModelError(
                    f"the file is damaged: signature '{signature.key}' names a tensor that is no "
                    "input or output"
                )
        return signature


def _operator_name(code: Table) -> tuple[str, bool]:
    # Codes above 127 did not fit the first version's byte, so newer files have two fields.
    number = max(code.number(0, "<b"), code.number(3, "<i"))
    if not 0 <= number < len(BUILTIN_OPERATORS):
        raise ModelError(f"the file uses operator {number}, which is newer than this program")
    name = BUILTIN_OPERATORS[number]
    return (code.text(1), True) if name == "CUSTOM" else (name, False)


def _parse_metadata(text: bytes) -> dict[str, Any]:
    import json  # only files of this project have metadata

    try:
        # NaN and infinity are no JSON, and could not be printed as such.
        metadata = json.loads(text.decode(), parse_float=_finite, parse_constant=_finite)
    except (ValueError, RecursionError) as error:
        raise ModelError(f"the file's metadata are not valid JSON: {error}") from None
    if not isinstance(metadata, dict):
        raise ModelError("the file's metadata are not a JSON object")
    if _depth(metadata) >= _MAX_METADATA_DEPTH:
        raise ModelError("the file's metadata are nested too deeply")
    labels = metadata.get("labels", [])
    if not (isinstance(labels, list) and all(isinstance(label, str) for label in labels)):
        raise ModelError("the labels in the file's metadata are not a list of strings")
    limits = metadata.get("input_range", [0, 255])
    if not (
        isinstance(limits, list)
        and len(limits) == 2
        and all(type(limit) in (int, float) and abs(limit) <= _MAX_PIXEL for limit in limits)
        and limits[0] < limits[1]
    ):
        raise ModelError("the input range in the file's metadata is not a pair of pixel values")
    return metadata


def _finite(text: str) -> float:
    if not math.isfinite(float(text)):
        raise ValueError(f"{text} is not a finite number")
    return float(text)


def _depth(value: Any, limit: int = _MAX_METADATA_DEPTH) -> int:
    """How deeply lists and objects are nested, up to a limit."""
    children = value.values() if isinstance(value, dict) else value
    if not isinstance(value, dict | list) or not limit:
        return 0
    return 1 + max((_depth(child, limit - 1) for child in children), default=0)
