"""What a `.tflite` file holds: operators, tensors, constants and metadata."""

import json
import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from larq_seresnet.edge.errors import ModelError
from larq_seresnet.edge.flatbuffer import Table
from larq_seresnet.edge.operators import BUILTIN_OPERATORS

LCE_OPERATORS = ("LceQuantize", "LceDequantize", "LceBconv2d", "LceBMaxPool2d")
METADATA_NAME = "larq_seresnet"

# Numbers of the tensor types in TensorFlow Lite's schema; those packed below a byte have no dtype.
_TYPE_NAMES = """
float32 float16 int32 uint8 int64 string bool int16 complex64 int8 float64 complex128 uint64
resource variant uint32 uint16 int4 bfloat16 int2 uint4 float8_e4m3fn float8_e5m2
"""
TENSOR_TYPES = tuple(_TYPE_NAMES.split())
_NUMPY_TYPES = frozenset(TENSOR_TYPES[:17]) - {"string", "resource", "variant"}

# Far more than any network has; bounds the work that a small hostile file can ask for.
_MAX_SUBGRAPHS, _MAX_TABLES = 1000, 1_000_000


class ModelFields:
    """Field numbers of the schema's Model table."""

    VERSION, OPERATOR_CODES, SUBGRAPHS, DESCRIPTION, BUFFERS = range(5)
    METADATA_BUFFER, METADATA, SIGNATURES, EXTERNAL_GROUPS, EXTERNAL_BUFFERS = range(5, 10)


class SubgraphFields:
    """Field numbers of the schema's SubGraph table."""

    TENSORS, INPUTS, OUTPUTS, OPERATORS, NAME = range(5)


class TensorFields:
    """Field numbers of the schema's Tensor table."""

    SHAPE, TYPE, BUFFER, NAME, QUANTIZATION, IS_VARIABLE, SPARSITY, SHAPE_SIGNATURE = range(8)
    HAS_RANK, VARIANT_TENSORS = range(8, 10)


@dataclass(frozen=True)
class Tensor:
    """A tensor's declaration; `buffer` indexes the model's buffers, and 0 stands for none."""

    name: str
    shape: tuple[int, ...]
    type: str
    buffer: int
    is_variable: bool
    table: Table

    @property
    def dtype(self) -> np.dtype | None:
        """The numpy type of its elements, or None where numpy has none."""
        return np.dtype(self.type) if self.type in _NUMPY_TYPES else None


@dataclass(frozen=True)
class Operator:
    """A node; `inputs` and `outputs` index the subgraph's tensors, and -1 is an input left out."""

    name: str
    is_custom: bool
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: Table | None
    table: Table


@dataclass(frozen=True)
class Subgraph:
    """A graph of operators, in the order in which they run."""

    tensors: list[Tensor]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    operators: list[Operator]
    table: Table


class ModelFile:
    """A `.tflite` file, read and checked.

    Args:
        data: The file's bytes.

    Raises:
        ModelError: The bytes are not a TensorFlow Lite model, or contradict themselves.
    """

    def __init__(self, data: bytes) -> None:
        if data[4:8] != b"TFL3":
            raise ModelError("this is not a TensorFlow Lite model")
        self.data = data
        self.table = Table.root(data)
        self.buffer_tables = self.table.tables(ModelFields.BUFFERS)
        self.buffers = [table.vector(0, "<u1") for table in self.buffer_tables]
        codes = self.table.tables(ModelFields.OPERATOR_CODES)
        self._operator_names = [_operator_name(code) for code in codes]
        subgraphs = self.table.tables(ModelFields.SUBGRAPHS)
        if not 1 <= len(subgraphs) <= _MAX_SUBGRAPHS:
            raise ModelError(f"the file has {len(subgraphs)} subgraphs")
        self._tables_left = _MAX_TABLES
        self.subgraphs = [self._read_subgraph(table) for table in subgraphs]

    @property
    def stores_data_outside(self) -> bool:
        """Whether constants lie behind or beside the FlatBuffer (files of over 2 GB)."""
        fields = (ModelFields.EXTERNAL_GROUPS, ModelFields.EXTERNAL_BUFFERS)
        return any(self.table.where(field) for field in fields) or any(
            table.number(1, "<Q") for table in self.buffer_tables
        )

    def constant(self, tensor: Tensor) -> np.ndarray | None:
        """A constant tensor's value; None where it is none, or of a type that numpy lacks."""
        data = self.buffers[tensor.buffer]
        sparse = tensor.table.where(TensorFields.SPARSITY)
        if not len(data) or tensor.is_variable or tensor.dtype is None or sparse:
            return None
        return data.view(tensor.dtype).reshape(tensor.shape)

    @cached_property
    def metadata(self) -> dict[str, Any]:
        """What this project's converter wrote about the model; empty for files of other origin."""
        for entry in self.table.tables(ModelFields.METADATA):
            if entry.text(0) == METADATA_NAME:
                index = entry.number(1, "<I")
                if index >= len(self.buffers):
                    raise ModelError("the file is damaged: its metadata are missing")
                return _parse_metadata(self.buffers[index].tobytes())
        return {}

    def _read_subgraph(self, table: Table) -> Subgraph:
        tensors = [self._read_tensor(t) for t in self._count(table, SubgraphFields.TENSORS)]
        operators = [self._read_operator(t) for t in self._count(table, SubgraphFields.OPERATORS)]
        subgraph = Subgraph(
            tensors=tensors,
            inputs=tuple(table.vector(SubgraphFields.INPUTS, "<i4").tolist()),
            outputs=tuple(table.vector(SubgraphFields.OUTPUTS, "<i4").tolist()),
            operators=operators,
            table=table,
        )
        _check_indices(subgraph)
        return subgraph

    def _count(self, table: Table, field: int) -> list[Table]:
        tables = table.tables(field)
        self._tables_left -= len(tables)
        if self._tables_left < 0:
            raise ModelError("the file declares too many tensors or operators")
        return tables

    def _read_tensor(self, table: Table) -> Tensor:
        type_number = table.number(TensorFields.TYPE, "<B")
        if type_number >= len(TENSOR_TYPES):
            raise ModelError(f"a tensor has the unknown type {type_number}")
        tensor = Tensor(
            name=table.text(TensorFields.NAME),
            shape=tuple(table.vector(TensorFields.SHAPE, "<i4").tolist()),
            type=TENSOR_TYPES[type_number],
            buffer=table.number(TensorFields.BUFFER, "<I"),
            is_variable=bool(table.number(TensorFields.IS_VARIABLE, "<B")),
            table=table,
        )
        if tensor.buffer >= len(self.buffers):
            raise ModelError(f"tensor '{tensor.name}' has no buffer")
        if min(tensor.shape, default=0) < 0:
            raise ModelError(f"tensor '{tensor.name}' has a negative size")
        size = len(self.buffers[tensor.buffer])
        sparse = table.where(TensorFields.SPARSITY)
        if size and tensor.dtype and not tensor.is_variable and not sparse:
            needed = math.prod(tensor.shape) * tensor.dtype.itemsize
            if size != needed:
                raise ModelError(f"tensor '{tensor.name}' has {size} bytes instead of {needed}")
        return tensor

    def _read_operator(self, table: Table) -> Operator:
        code = table.number(0, "<I")
        if code >= len(self._operator_names):
            raise ModelError("the file is damaged: an operator is of no kind")
        name, is_custom = self._operator_names[code]
        return Operator(
            name=name,
            is_custom=is_custom,
            inputs=tuple(table.vector(1, "<i4").tolist()),
            outputs=tuple(table.vector(2, "<i4").tolist()),
            options=table.table(4),
            table=table,
        )


def _operator_name(code: Table) -> tuple[str, bool]:
    # Codes above 127 did not fit the first version's byte, so newer files have two fields.
    number = max(code.number(0, "<b"), code.number(3, "<i"))
    if not 0 <= number < len(BUILTIN_OPERATORS):
        raise ModelError(f"the file uses operator {number}, which is newer than this program")
    name = BUILTIN_OPERATORS[number]
    return (code.text(1), True) if name == "CUSTOM" else (name, False)


def _check_indices(subgraph: Subgraph) -> None:
    count = len(subgraph.tensors)
    required = [*subgraph.inputs, *subgraph.outputs]
    optional: list[int] = []
    for operator in subgraph.operators:
        # Runtimes crash where a builtin operator lacks an input that it needs. Optional are the
        # biases of layers, which come third, and most inputs of recurrent layers.
        is_recurrent = operator.name.endswith(("LSTM", "RNN", "SVDF"))
        needed = 0 if operator.is_custom or is_recurrent else 2
        required += [*operator.inputs[:needed], *operator.outputs]
        optional += operator.inputs[needed:]
    if any(not 0 <= i < count for i in required) or any(not -1 <= i < count for i in optional):
        raise ModelError("the file is damaged: an operator's tensor is missing")


def _parse_metadata(text: bytes) -> dict[str, Any]:
    try:
        metadata = json.loads(text.decode())
    except (ValueError, RecursionError) as error:
        raise ModelError(f"the file's metadata are not valid JSON: {error}") from None
    if not isinstance(metadata, dict):
        raise ModelError("the file's metadata are not a JSON object")
    labels = metadata.get("labels", [])
    if not (isinstance(labels, list) and all(isinstance(label, str) for label in labels)):
        raise ModelError("the labels in the file's metadata are not a list of strings")
    limits = metadata.get("input_range", [0, 255])
    if not (
        isinstance(limits, list)
        and len(limits) == 2
        and all(isinstance(limit, int | float) and math.isfinite(limit) for limit in limits)
        and limits[0] < limits[1]
    ):
        raise ModelError("the input range in the file's metadata is not a pair of numbers")
    return metadata
