"""Writes a graph as the smallest `.tflite` file that says the same.

At one bit a weight the graph is most of what can be saved: names, signatures and defaults are left
out, and everything that is equal (buffers, shapes, lists of inputs, options, whole tensors) is
stored once and referred to from wherever it is needed, as flatbuffers allow.
"""

from collections.abc import Callable, Sequence
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from larq_seresnet.convert.graph import Builtin, Graph, Operator, Tensor

_ALIGNMENT = 16  # of constants, as the schema asks for
_SCHEMA_VERSION = 3


def to_bytes(graph: Graph) -> bytes:
    """Serialize the graph."""
    return _Writer(graph).file()


class _Writer:
    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._builder = flatbuffers.Builder(1 << 20)
        self._written: dict[Any, int] = {}

    def file(self) -> bytes:
        graph, builder = self._graph, self._builder
        versions = {op.name: 1 for op in graph.operators}
        for op in graph.operators:
            versions[op.name] = max(versions[op.name], op.version)
        kinds = [(op.name, versions[op.name]) for op in graph.operators]
        # The operator code 0 is a default, which takes no bytes: the most frequent one gets it.
        codes = sorted(set(kinds), key=lambda kind: (-kinds.count(kind), kind))

        index: dict[Tensor, int] = {}
        stored: dict[Any, Tensor] = {}
        for tensor in graph.tensors():
            key = (tensor.type, tensor.shape, _content(tensor)) if _content(tensor) else tensor
            stored.setdefault(key, tensor)
            index[tensor] = list(stored).index(key)
        contents = [b"", *graph.metadata.values()]
        contents += sorted({_content(t) for t in stored.values()}, key=lambda c: (-len(c), c))
        numbers = {content: i for i, content in enumerate(dict.fromkeys(contents))}
        buffers = [self._buffer(content) for content in numbers]
        metadata = {name: numbers[content] for name, content in graph.metadata.items()}

        tensor_list = [self._tensor(t, numbers[_content(t)]) for t in stored.values()]
        operator_list = [
            self._operator(op, index, codes.index(kind))
            for op, kind in zip(graph.operators, kinds, strict=True)
        ]
        inputs = self._integers([index[t] for t in graph.inputs])
        outputs = self._integers([index[t] for t in graph.outputs])
        tensor_vector = self._offsets(tensor_list)
        operator_vector = self._offsets(operator_list)
        schema.SubGraphStart(builder)
        schema.SubGraphAddTensors(builder, tensor_vector)
        schema.SubGraphAddInputs(builder, inputs)
        schema.SubGraphAddOutputs(builder, outputs)
        schema.SubGraphAddOperators(builder, operator_vector)
        subgraphs = self._offsets([schema.SubGraphEnd(builder)])
        code_vector = self._offsets([self._code(*kind) for kind in codes])
        buffer_vector = self._offsets(buffers)
        entries = self._offsets([self._metadata(*entry) for entry in metadata.items()])

        schema.ModelStart(builder)
        schema.ModelAddVersion(builder, _SCHEMA_VERSION)
        schema.ModelAddOperatorCodes(builder, code_vector)
        schema.ModelAddSubgraphs(builder, subgraphs)
        schema.ModelAddBuffers(builder, buffer_vector)
        if metadata:
            schema.ModelAddMetadata(builder, entries)
        builder.Finish(schema.ModelEnd(builder), b"TFL3")
        return bytes(builder.Output())

    def _once(self, key: Any, write: Callable[[], int]) -> int:
        if key not in self._written:
            self._written[key] = write()
        return self._written[key]

    def _integers(self, values: Sequence[int]) -> int:
        key = ("integers", *values)
        return self._once(
            key, lambda: self._builder.CreateNumpyVector(np.asarray(values, np.int32))
        )

    def _offsets(self, offsets: Sequence[int]) -> int:
        self._builder.StartVector(4, len(offsets), 4)
        for offset in reversed(offsets):
            self._builder.PrependUOffsetTRelative(offset)
        return self._builder.EndVector()

    def _buffer(self, content: bytes) -> int:
        # Directly before its content the table fills the alignment's gap.
        data = None
        if content:
            self._builder.StartVector(1, len(content), _ALIGNMENT)
            self._builder.head -= len(content)
            self._builder.Bytes[self._builder.head : self._builder.head + len(content)] = content
            data = self._builder.EndVector()
        schema.BufferStart(self._builder)
        if data:
            schema.BufferAddData(self._builder, data)
        return schema.BufferEnd(self._builder)

    def _tensor(self, tensor: Tensor, buffer: int) -> int:
        shape = self._integers(tensor.shape) if tensor.shape else None
        quantization = tensor.quantization

        def write() -> int:
            packed = quantization.Pack(self._builder) if quantization is not None else None
            schema.TensorStart(self._builder)
            if shape is not None:
                schema.TensorAddShape(self._builder, shape)
            if packed is not None:
                schema.TensorAddQuantization(self._builder, packed)
            schema.TensorAddBuffer(self._builder, buffer)
            schema.TensorAddType(self._builder, tensor.type)
            return schema.TensorEnd(self._builder)

        return self._once(("tensor", shape, tensor.type, buffer, id(quantization)), write)

    def _operator(self, operator: Operator, index: dict[Tensor, int], code: int) -> int:
        inputs = self._integers([-1 if t is None else index[t] for t in operator.inputs])
        outputs = self._integers([index[t] for t in operator.outputs])
        builtin = custom = None
        kind = schema.BuiltinOptions.NONE
        if isinstance(operator.options, bytes):
            custom = self._custom_options(operator.options)
        elif operator.options is not None and not _says_nothing(operator):
            kind = getattr(schema.BuiltinOptions, type(operator.options).__name__[:-1])
            builtin = self._options(operator.options)
        builder = self._builder
        schema.OperatorStart(builder)
        schema.OperatorAddInputs(builder, inputs)
        schema.OperatorAddOutputs(builder, outputs)
        if builtin is not None:
            schema.OperatorAddBuiltinOptions(builder, builtin)
        if custom is not None:
            schema.OperatorAddCustomOptions(builder, custom)
        schema.OperatorAddOpcodeIndex(builder, code)
        schema.OperatorAddBuiltinOptionsType(builder, kind)
        return schema.OperatorEnd(builder)

    def _options(self, options: Any) -> int:
        if isinstance(options, schema.ReshapeOptionsT):
            shape = self._integers(options.newShape)  # its output's shape, which is written already

            def write() -> int:
                schema.ReshapeOptionsStart(self._builder)
                schema.ReshapeOptionsAddNewShape(self._builder, shape)
                return schema.ReshapeOptionsEnd(self._builder)
        else:

            def write() -> int:
                return options.Pack(self._builder)

        return self._once((type(options).__name__, _fields(options)), write)

    def _custom_options(self, options: bytes) -> int:
        return self._once(("custom", options), lambda: self._builder.CreateByteVector(options))

    def _code(self, name: str, version: int) -> int:
        builtin = getattr(Builtin, name, Builtin.CUSTOM)
        custom = self._builder.CreateString(name) if builtin == Builtin.CUSTOM else None
        schema.OperatorCodeStart(self._builder)
        if custom is not None:
            schema.OperatorCodeAddCustomCode(self._builder, custom)
        schema.OperatorCodeAddVersion(self._builder, version)
        # Readers take the larger one of the byte and of the integer that came when codes ran out.
        if builtin < Builtin.PLACEHOLDER_FOR_GREATER_OP_CODES:
            schema.OperatorCodeAddDeprecatedBuiltinCode(self._builder, builtin)
        else:
            schema.OperatorCodeAddBuiltinCode(self._builder, builtin)
            schema.OperatorCodeAddDeprecatedBuiltinCode(
                self._builder, Builtin.PLACEHOLDER_FOR_GREATER_OP_CODES
            )
        return schema.OperatorCodeEnd(self._builder)

    def _metadata(self, name: str, buffer: int) -> int:
        text = self._builder.CreateString(name)
        schema.MetadataStart(self._builder)
        schema.MetadataAddName(self._builder, text)
        schema.MetadataAddBuffer(self._builder, buffer)
        return schema.MetadataEnd(self._builder)


def _content(tensor: Tensor) -> bytes:
    return b"" if tensor.data is None else tensor.data.tobytes()


# These operators' options are the defaults where they are missing, for every TFLite version.
_OPTIONAL = {"ADD", "BROADCAST_TO", "CAST", "GATHER", "GREATER_EQUAL", "MUL", "SELECT_V2", "SUB"}


def _says_nothing(operator: Operator) -> bool:
    options = operator.options
    return operator.name in _OPTIONAL and _fields(options) == _fields(type(options)())


def _fields(options: Any) -> tuple[Any, ...]:
    return tuple((key, repr(value)) for key, value in sorted(vars(options).items()))
