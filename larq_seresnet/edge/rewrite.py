"""Writes a model in which operators are replaced, by constants or by others.

A FlatBuffers offset only points forward. So nothing of the old file needs to be understood beyond
what changes: the new tables (model, subgraphs, replaced tensors) come first, refer to the old
tables behind them, which stay as they are, and the constants come last.
"""

from dataclasses import dataclass, field

import numpy as np

from larq_seresnet.edge.flatbuffer import Table, Writer
from larq_seresnet.edge.model_file import (
    TENSOR_TYPES,
    ModelFields,
    ModelFile,
    SubgraphFields,
    TensorFields,
)
from larq_seresnet.edge.operators import BUILTIN_OPERATORS

_CUSTOM = BUILTIN_OPERATORS.index("CUSTOM")


@dataclass(frozen=True)
class Replacement:
    """A custom operator in place of others."""

    name: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: bytes = b""


@dataclass(frozen=True)
class Added:
    """A tensor that is added behind the others: a constant, or what a new operator computes."""

    shape: tuple[int, ...]
    dtype: str
    value: np.ndarray | None = None


@dataclass(frozen=True)
class Folded:
    """What of a subgraph is replaced.

    Attributes:
        removed: The numbers of the operators that go.
        values: Tensors that get a value.
        added: Operators in the places of some that go.
        new: Further tensors.
    """

    removed: set[int] = field(default_factory=set)
    values: dict[int, np.ndarray] = field(default_factory=dict)
    added: dict[int, Replacement] = field(default_factory=dict)
    new: list[Added] = field(default_factory=list)


def rewrite(model: ModelFile, folded: list[Folded], main: int = 0) -> ModelFile:
    """The model without some operators, and with constants for some tensors; see `write`."""
    data, start = write(model, folded, main)
    return ModelFile(data, model, start)


def write(model: ModelFile, folded: list[Folded], main: int = 0) -> tuple[bytes, int]:
    """The bytes of the changed model, and where the old ones are in them.

    Args:
        model: The model.
        folded: What to replace in each subgraph.
        main: The subgraph that becomes the first one, which runtimes run. It changes places with
            the first, and the signatures, which refer to subgraphs, are left out.
    """
    writer = Writer()
    constants = [
        {index: writer.data(value) for index, value in part.values.items()} for part in folded
    ]
    old = writer.put(model.data)

    def kept(table: Table, *fields: int) -> dict[int, int | None]:
        """Offset fields whose targets stay where they are."""
        targets = {field: table.target(field) for field in fields}
        start = model.place(table) - table.position
        return {field: None if t is None else old - start - t for field, t in targets.items()}

    buffers = [old - place for place in model.buffer_places]
    codes = [old - position for position in model.table.positions(ModelFields.OPERATOR_CODES)]
    code_of = {}
    for name in sorted({new.name for part in folded for new in part.added.values()}):
        code_of[name] = len(codes)
        # The number of a custom operator, in the field of the first version and in today's.
        codes.append(writer.table({0: _CUSTOM, 2: 1, 3: _CUSTOM}, {1: writer.text(name)}))
    subgraphs = []
    for subgraph, part, data in zip(model.subgraphs, folded, constants, strict=True):
        if not part.removed:
            subgraphs.append(old - model.place(subgraph.table))
            continue
        tensors = [old - model.place(tensor.table) for tensor in subgraph.tensors]
        for index, place in data.items():
            table = subgraph.tensors[index].table
            numbers = {
                TensorFields.TYPE: table.number(TensorFields.TYPE, "<B"),
                TensorFields.BUFFER: len(buffers),
                TensorFields.HAS_RANK: 1,
            }
            fields = TensorFields.SHAPE, TensorFields.NAME, TensorFields.QUANTIZATION
            tensors[index] = writer.table(numbers, kept(table, *fields))
            buffers.append(writer.table({}, {0: place}))
        for tensor in part.new:
            numbers = {
                TensorFields.TYPE: TENSOR_TYPES.index(tensor.dtype),
                TensorFields.HAS_RANK: 1,
            }
            if tensor.value is not None:
                numbers[TensorFields.BUFFER] = len(buffers)
                buffers.append(writer.table({}, {0: writer.data(tensor.value)}))
            shape = {TensorFields.SHAPE: writer.integers(tensor.shape)}
            tensors.append(writer.table(numbers, shape))
        operators = []
        for i, operator in enumerate(subgraph.operators):
            if i in part.added:
                operators.append(_operator(writer, part.added[i], code_of))
            elif i not in part.removed:
                operators.append(old - model.place(operator.table))
        targets = {
            **kept(
                subgraph.table, SubgraphFields.INPUTS, SubgraphFields.OUTPUTS, SubgraphFields.NAME
            ),
            SubgraphFields.TENSORS: writer.offsets(tensors),
            SubgraphFields.OPERATORS: writer.offsets(operators),
        }
        subgraphs.append(writer.table({}, targets))
    subgraphs[0], subgraphs[main] = subgraphs[main], subgraphs[0]
    targets = {
        **kept(
            model.table,
            ModelFields.DESCRIPTION,
            ModelFields.METADATA_BUFFER,
            ModelFields.METADATA,
            *([] if main else [ModelFields.SIGNATURES]),
        ),
        ModelFields.OPERATOR_CODES: writer.offsets(codes),
        ModelFields.SUBGRAPHS: writer.offsets(subgraphs),
        ModelFields.BUFFERS: writer.offsets(buffers),
    }
    version = {ModelFields.VERSION: model.table.number(ModelFields.VERSION, "<I")}
    content = writer.finish(writer.table(version, targets), b"TFL3")
    return content, len(content) - old


def _operator(writer: Writer, new: Replacement, code_of: dict[str, int]) -> int:
    targets = {
        1: writer.integers(new.inputs),
        2: writer.integers(new.outputs),
        5: writer.data(np.frombuffer(new.options, np.uint8)),
    }
    return writer.table({0: code_of[new.name]}, targets)
