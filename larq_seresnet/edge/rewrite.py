"""Writes a model in which operators are replaced by constants.

A FlatBuffers offset only points forward. So nothing of the old file needs to be understood beyond
what changes: the new tables (model, subgraphs, replaced tensors) come first, refer to the old
tables behind them, which stay as they are, and the constants come last.
"""

import struct
from dataclasses import dataclass

import numpy as np

from larq_seresnet.edge.flatbuffer import Table
from larq_seresnet.edge.model_file import ModelFields, ModelFile, SubgraphFields, TensorFields

_ALIGNMENT = 64  # the schema asks for 16; kernels like whole cache lines


@dataclass(frozen=True)
class _Old:
    """A position in the old file."""

    position: int


@dataclass(frozen=True)
class _Constant:
    """A constant's vector at the end of the new file, by its number."""

    number: int


class _Item:
    """A new table, or a vector of offsets; both end in references to what lies behind them."""

    def __init__(self) -> None:
        self.position = 0

    def size(self) -> int:
        raise NotImplementedError

    def write(self, image: bytearray, locate: "_Locate") -> None:
        raise NotImplementedError


class _NewTable(_Item):
    def __init__(self, fields: "dict[int, int | _Item | _Old | _Constant | None]") -> None:
        super().__init__()
        self.fields = {number: value for number, value in fields.items() if value is not None}
        count = max(self.fields, default=-1) + 1
        self.vtable_size = 4 + 2 * count + (2 * count) % 4

    def size(self) -> int:
        return self.vtable_size + 4 + 4 * len(self.fields)

    def write(self, image: bytearray, locate: "_Locate") -> None:
        table = self.position + self.vtable_size
        inline = 4 + 4 * len(self.fields)
        struct.pack_into("<HH", image, self.position, self.vtable_size, inline)
        struct.pack_into("<i", image, table, self.vtable_size)
        for slot, (number, value) in enumerate(sorted(self.fields.items())):
            offset = 4 + 4 * slot
            struct.pack_into("<H", image, self.position + 4 + 2 * number, offset)
            place = table + offset
            number_or_offset = value if isinstance(value, int) else locate(value) - place
            struct.pack_into("<I", image, place, number_or_offset & 0xFFFFFFFF)

    def target(self) -> int:
        return self.position + self.vtable_size


class _OffsetVector(_Item):
    def __init__(self, entries: "list[_Item | _Old]") -> None:
        super().__init__()
        self.entries = entries

    def size(self) -> int:
        return 4 + 4 * len(self.entries)

    def write(self, image: bytearray, locate: "_Locate") -> None:
        struct.pack_into("<I", image, self.position, len(self.entries))
        for i, entry in enumerate(self.entries):
            place = self.position + 4 + 4 * i
            struct.pack_into("<I", image, place, locate(entry) - place)


class _Locate:
    """Where a reference points to in the new file."""

    def __init__(self, old_start: int, constant_starts: list[int]) -> None:
        self.old_start = old_start
        self.constant_starts = constant_starts

    def __call__(self, reference: "_Item | _Old | _Constant") -> int:
        if isinstance(reference, _Old):
            return self.old_start + reference.position
        if isinstance(reference, _Constant):
            return self.constant_starts[reference.number]
        return reference.target() if isinstance(reference, _NewTable) else reference.position


def _align(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT


def _kept(table: Table, *fields: int) -> "dict[int, _Old | None]":
    """Offset fields whose targets stay where they are."""
    targets = {field: table.target(field) for field in fields}
    return {field: None if t is None else _Old(t) for field, t in targets.items()}


def replace_by_constants(
    model: ModelFile, folded: list[tuple[set[int], dict[int, np.ndarray]]]
) -> bytes:
    """The model without some operators, and with constants for some tensors.

    Args:
        model: The model.
        folded: For each subgraph, the indices of the operators to leave out, and the values of
            tensors by their index.
    """
    constants: list[np.ndarray] = []
    buffers: list[_Item | _Old] = [_Old(table.position) for table in model.buffer_tables]
    subgraphs: list[_Item | _Old] = []
    graph_items: list[_Item] = []
    for subgraph, (removed, values) in zip(model.subgraphs, folded, strict=True):
        tensors: list[_Item | _Old] = []
        new_tensors: list[_Item] = []
        for index, tensor in enumerate(subgraph.tensors):
            if index not in values:
                tensors.append(_Old(tensor.table.position))
                continue
            tensor_fields = _kept(
                tensor.table,
                TensorFields.SHAPE,
                TensorFields.NAME,
                TensorFields.QUANTIZATION,
            )
            new = _NewTable(
                {
                    **tensor_fields,
                    TensorFields.TYPE: tensor.table.number(TensorFields.TYPE, "<B"),
                    TensorFields.BUFFER: len(buffers),
                    TensorFields.HAS_RANK: 1,
                }
            )
            buffers.append(_NewTable({0: _Constant(len(constants))}))
            constants.append(values[index])
            tensors.append(new)
            new_tensors.append(new)
        operators: list[_Item | _Old] = [
            _Old(operator.table.position)
            for i, operator in enumerate(subgraph.operators)
            if i not in removed
        ]
        tensor_vector, operator_vector = _OffsetVector(tensors), _OffsetVector(operators)
        subgraph_fields = _kept(
            subgraph.table, SubgraphFields.INPUTS, SubgraphFields.OUTPUTS, SubgraphFields.NAME
        )
        subgraphs.append(
            _NewTable(
                {
                    **subgraph_fields,
                    SubgraphFields.TENSORS: tensor_vector,
                    SubgraphFields.OPERATORS: operator_vector,
                }
            )
        )
        graph_items += [tensor_vector, operator_vector, *new_tensors]
    buffer_vector, subgraph_vector = _OffsetVector(buffers), _OffsetVector(subgraphs)
    root = _NewTable(
        {
            ModelFields.VERSION: model.table.number(ModelFields.VERSION, "<I"),
            **_kept(
                model.table,
                ModelFields.OPERATOR_CODES,
                ModelFields.DESCRIPTION,
                ModelFields.METADATA_BUFFER,
                ModelFields.METADATA,
                ModelFields.SIGNATURES,
            ),
            ModelFields.SUBGRAPHS: subgraph_vector,
            ModelFields.BUFFERS: buffer_vector,
        }
    )
    new_subgraphs = [item for item in subgraphs if isinstance(item, _Item)]
    new_buffers = [item for item in buffers if isinstance(item, _Item)]
    # A table or vector comes before what it refers to.
    ordered = [root, subgraph_vector, *new_subgraphs, *graph_items, buffer_vector, *new_buffers]
    return _assemble(root, ordered, model.data, constants)


def _assemble(
    root: _NewTable, items: list[_Item], old: bytes, constants: list[np.ndarray]
) -> bytes:
    position = 8  # behind the root's offset and the file's identifier
    for item in items:
        item.position = position
        position += item.size()
    old_start = _align(position)
    position = old_start + len(old)
    starts = []
    for constant in constants:
        position = _align(position + 4)
        starts.append(position - 4)  # the vector's length stands before its aligned data
        position += constant.nbytes

    image = bytearray(position)
    struct.pack_into("<I4s", image, 0, root.target(), b"TFL3")
    locate = _Locate(old_start, starts)
    for item in items:
        item.write(image, locate)
    image[old_start : old_start + len(old)] = old
    for start, constant in zip(starts, constants, strict=True):
        struct.pack_into("<I", image, start, constant.nbytes)
        image[start + 4 : start + 4 + constant.nbytes] = np.ascontiguousarray(constant).tobytes()
    return bytes(image)
