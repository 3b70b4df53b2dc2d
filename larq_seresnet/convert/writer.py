"""Writes a graph as the smallest `.tflite` file that says the same.

At one bit a weight the graph is most of what can be saved: defaults and the names of inner tensors
are left out, and everything that is equal (buffers, shapes, lists of inputs, options, whole
tensors) is stored once and referred to from wherever it is needed, as flatbuffers allow.
"""

from collections.abc import Callable, Sequence
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from larq_seresnet.convert.graph import Builtin, Graph, Operator, Tensor

_ALIGNMENT = 16  # of constants, as the schema asks for
_SCHEMA_VERSION = 3
_SIGNATURE = "serving_default"  # as TensorFlow calls it
# These operators' options are the defaults where they are missing, for every TFLite version.
_OPTIONAL = {"ADD", "BROADCAST_TO", "CAST", "GATHER", "GREATER_EQUAL", "MUL", "SELECT_V2", "SUB"}


def to_bytes(graph: Graph) -> bytes:
    """Serialize the graph."""
    return _Writer().file(graph)


class _Writer:
    def __init__(self) -> None:
        self._builder = flatbuffers.Builder(1 << 20)
        self._written: dict[Any, int] = {}

    def file(self, graph: Graph) -> bytes:
        parts = graph.parts()
        contents = {tensor: _content(tensor) for part in parts for tensor in part.tensors()}
        every = [op for part in parts for op in part.operators]
        versions: dict[str, int] = {}
        for op in every:
            versions[op.name] = max(versions.get(op.name, 1), op.version)
        names = [op.name for op in every]
        # The operator code 0 is a default, which takes no bytes: the most frequent one gets it.
        codes = sorted(versions, key=lambda name: (-names.count(name), name))
        sizes = sorted(contents.values(), key=lambda content: (-len(content), content))
        ordered = dict.fromkeys([b"", *graph.metadata.values(), *sizes])
        buffers = {content: i for i, content in enumerate(ordered)}
        written = [self._buffer(content) for content in buffers]
        indices = [_numbered(part, contents) for part in parts]
        subgraphs = []
        for part, index in zip(parts, indices, strict=True):
            named = dict(zip(part.outputs, part.output_names, strict=False))
            named.update(zip(part.inputs, part.input_names, strict=False))
            stored = {number: tensor for tensor, number in reversed(index.items())}
            tensors = [
                self._tensor(tensor, buffers[contents[tensor]], named.get(tensor))
                for _, tensor in sorted(stored.items(), key=lambda item: item[0])
            ]
            operators = [
                self._operator(op, index, codes.index(op.name), parts) for op in part.operators
            ]
            inputs = self._integers([index[tensor] for tensor in part.inputs])
            outputs = self._integers([index[tensor] for tensor in part.outputs])
            subgraphs.append(
                self._table(
                    "SubGraph",
                    Tensors=self._offsets(tensors),
                    Inputs=inputs,
                    Outputs=outputs,
                    Operators=self._offsets(operators),
                )
            )
        together = self._offsets(subgraphs)
        model = self._table(
            "Model",
            Version=_SCHEMA_VERSION,
            OperatorCodes=self._offsets([self._code(name, versions[name]) for name in codes]),
            Subgraphs=together,
            Buffers=self._offsets(written),
            Metadata=self._metadata(graph.metadata, buffers),
            SignatureDefs=self._signature(graph, indices[0]),
        )
        self._builder.Finish(model, b"TFL3")
        return bytes(self._builder.Output())

    def _table(self, name: str, **fields: int | None) -> int:
        """Write a table of the schema, with the fields that are there, in this order."""
        getattr(schema, f"{name}Start")(self._builder)
        for field, value in fields.items():
            if value is not None:
                getattr(schema, f"{name}Add{field}")(self._builder, value)
        return getattr(schema, f"{name}End")(self._builder)

    def _once(self, key: Any, write: Callable[[], int]) -> int:
        if key not in self._written:
            self._written[key] = write()
        return self._written[key]

    def _integers(self, values: Sequence[int]) -> int:
        array = np.asarray(values, np.int32)
        return self._once(("integers", *values), lambda: self._builder.CreateNumpyVector(array))

    def _offsets(self, offsets: Sequence[int]) -> int:
        self._builder.StartVector(4, len(offsets), 4)
        for offset in reversed(offsets):
            self._builder.PrependUOffsetTRelative(offset)
        return self._builder.EndVector()

    def _buffer(self, content: bytes) -> int:
        # Directly before its content the table fills the alignment's gap.
        data = None
        if content:
            self._builder.Prep(_ALIGNMENT, len(content))
            data = self._builder.CreateByteVector(content)
        return self._table("Buffer", Data=data)

    def _text(self, text: str) -> int:
        return self._once(("text", text), lambda: self._builder.CreateString(text))

    def _tensor(self, tensor: Tensor, buffer: int, name: str | None) -> int:
        shape = self._integers(tensor.shape) if tensor.shape else None
        signature = self._integers(tensor.signature) if tensor.signature else None
        quantization = self._quantization(tensor.quantization) if tensor.quantization else None

        def write() -> int:
            text = None if name is None else self._text(name)
            return self._table(
                "Tensor",
                Shape=shape,
                Name=text,
                Quantization=quantization,
                Buffer=buffer,
                Type=tensor.type,
                ShapeSignature=signature,
            )

        key = ("tensor", shape, signature, tensor.type, buffer, quantization, name)
        return self._once(key, write)

    def _quantization(self, packed: Any) -> int:
        """What integers mean; the ranges that the converter saw are left out."""
        scales = np.asarray(packed.scale, "<f4")
        zero_points = np.zeros(len(scales)) if packed.zeroPoint is None else packed.zeroPoint

        def vector(values: np.ndarray) -> int:
            key = ("vector", values.dtype, values.tobytes())
            return self._once(key, lambda: self._builder.CreateNumpyVector(values))

        scale, zero_point = vector(scales), vector(np.asarray(zero_points, "<i8"))
        axis = packed.quantizedDimension
        return self._once(
            ("quantization", scale, zero_point, axis),
            lambda: self._table(
                "QuantizationParameters",
                Scale=scale,
                ZeroPoint=zero_point,
                QuantizedDimension=axis or None,
            ),
        )

    def _operator(
        self, operator: Operator, index: dict[Tensor, int], code: int, parts: Sequence[Graph]
    ) -> int:
        inputs = self._integers([-1 if t is None else index[t] for t in operator.inputs])
        outputs = self._integers([index[t] for t in operator.outputs])
        options = operator.options
        for field, body in operator.bodies.items():
            setattr(options, field, parts.index(body))
        builtin = custom = None
        kind = schema.BuiltinOptions.NONE
        if isinstance(options, bytes):
            custom = self._once(options, lambda: self._builder.CreateByteVector(options))
        elif options is not None and not _says_nothing(operator):
            kind = getattr(schema.BuiltinOptions, type(options).__name__[:-1])
            builtin = self._options(options)
        return self._table(
            "Operator",
            Inputs=inputs,
            Outputs=outputs,
            BuiltinOptions=builtin,
            CustomOptions=custom,
            OpcodeIndex=code,
            BuiltinOptionsType=kind,
        )

    def _options(self, options: Any) -> int:
        if isinstance(options, schema.ReshapeOptionsT):
            shape = self._integers(options.newShape)  # its output's shape, which is written already
            return self._once((shape,), lambda: self._table("ReshapeOptions", NewShape=shape))
        fields = repr(sorted(vars(options).items()))  # of which some are arrays
        return self._once((type(options), fields), lambda: options.Pack(self._builder))

    def _code(self, name: str, version: int) -> int:
        builtin = getattr(Builtin, name, Builtin.CUSTOM)
        # Readers take the larger one of the byte and of the integer that came when codes ran out.
        fits = builtin < Builtin.PLACEHOLDER_FOR_GREATER_OP_CODES
        return self._table(
            "OperatorCode",
            CustomCode=self._builder.CreateString(name) if builtin == Builtin.CUSTOM else None,
            Version=version,
            BuiltinCode=None if fits else builtin,
            DeprecatedBuiltinCode=min(builtin, Builtin.PLACEHOLDER_FOR_GREATER_OP_CODES),
        )

    def _signature(self, graph: Graph, index: dict[Tensor, int]) -> int | None:
        """The names of inputs and outputs, in their order."""
        if not graph.input_names:
            return None

        def entries(names: Sequence[str], tensors: Sequence[Tensor]) -> int:
            tables = [
                self._table("TensorMap", Name=self._text(name), TensorIndex=index[tensor])
                for name, tensor in zip(names, tensors, strict=True)
            ]
            return self._offsets(tables)

        table = self._table(
            "SignatureDef",
            Inputs=entries(graph.input_names, graph.inputs),
            Outputs=entries(graph.output_names, graph.outputs),
            SignatureKey=self._text(_SIGNATURE),
        )
        return self._offsets([table])

    def _metadata(self, metadata: dict[str, bytes], buffers: dict[bytes, int]) -> int | None:
        entries = [
            self._table("Metadata", Name=self._builder.CreateString(name), Buffer=buffers[content])
            for name, content in metadata.items()
        ]
        return self._offsets(entries) if entries else None


def _numbered(graph: Graph, contents: dict[Tensor, bytes]) -> dict[Tensor, int]:
    """The numbers of a graph's tensors; equal constants are one."""
    numbers: dict[Any, int] = {}
    index = {}
    for tensor in graph.tensors():
        content = contents[tensor]
        key = (tensor.type, tensor.shape, content, tensor.quantization) if content else tensor
        index[tensor] = numbers.setdefault(key, len(numbers))
    return index


def _content(tensor: Tensor) -> bytes:
    return b"" if tensor.data is None else tensor.data.tobytes()


def _says_nothing(operator: Operator) -> bool:
    options = operator.options
    return operator.name in _OPTIONAL and vars(options) == vars(type(options)())
