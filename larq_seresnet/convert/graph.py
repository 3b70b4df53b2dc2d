"""A `.tflite` graph in memory: operators that hold tensors, constants as arrays.

The schema's own objects refer to tensors and buffers by index, which every rewrite would have to
renumber. Here an operator holds its tensors, and `writer.to_bytes` numbers what is still in use.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from larq_seresnet.convert.errors import ConversionError

Builtin = schema.BuiltinOperator
TensorType = schema.TensorType

_NAMES = {code: name for name, code in vars(Builtin).items() if not name.startswith("_")}
_DTYPES: dict[int, Any] = {
    TensorType.FLOAT32: np.float32,
    TensorType.FLOAT16: np.float16,
    TensorType.INT32: np.int32,
    TensorType.INT64: np.int64,
    TensorType.INT16: np.int16,
    TensorType.INT8: np.int8,
    TensorType.UINT8: np.uint8,
    TensorType.BOOL: np.bool_,
}
_TYPES = {np.dtype(dtype): code for code, dtype in _DTYPES.items()}


@dataclass(eq=False)
class Tensor:
    """An edge of the graph.

    Attributes:
        type: `TensorType`.
        shape: Its shape in the file.
        data: The values of a constant, `None` for what an operator computes.
        quantization: The schema's parameters; `None` for float and integer tensors.
    """

    type: int
    shape: tuple[int, ...]
    data: np.ndarray | None = None
    quantization: Any = None

    @classmethod
    def constant(cls, values: Any) -> "Tensor":
        """A constant of the array's type and shape."""
        array = np.asarray(values)
        return cls(_TYPES[array.dtype], array.shape, array)


def values(tensor: Tensor | None) -> np.ndarray | None:
    """A constant's values; `None` for what is no constant, or is not there."""
    return None if tensor is None else tensor.data


def is_constant(tensor: Tensor | None, *choices: float) -> bool:
    """Whether this is a constant of one element, which is one of these."""
    data = values(tensor)
    return data is not None and data.size == 1 and data.item() in choices


@dataclass(eq=False)
class Operator:
    """A node of the graph.

    Attributes:
        name: "CONV_2D", or a custom operator's name, as "LceBconv2d".
        inputs: `None` where an optional input is left out.
        outputs: Its results.
        options: The schema's options object (`Conv2DOptionsT`), the bytes of a custom operator's
            options, or `None`.
        version: The operator's version in the file.
    """

    name: str
    inputs: list[Tensor | None]
    outputs: list[Tensor]
    options: Any = None
    version: int = 1

    @property
    def is_custom(self) -> bool:
        """Whether the name is no builtin operator's."""
        return not hasattr(Builtin, self.name)


@dataclass(eq=False)
class Graph:
    """Operators in the order of execution."""

    inputs: list[Tensor]
    outputs: list[Tensor]
    operators: list[Operator]
    metadata: dict[str, bytes] = field(default_factory=dict)

    def tensors(self) -> list[Tensor]:
        """All tensors in use, the graph's inputs first."""
        found = dict.fromkeys(self.inputs)
        for operator in self.operators:
            found.update(dict.fromkeys(t for t in operator.inputs if t is not None))
            found.update(dict.fromkeys(operator.outputs))
        found.update(dict.fromkeys(self.outputs))
        return list(found)

    def producer(self, tensor: Tensor | None) -> Operator | None:
        """The operator that computes this tensor."""
        return next((op for op in self.operators if tensor in op.outputs), None)

    def consumers(self, tensor: Tensor) -> Iterator[tuple[Operator, int]]:
        """The operators that read this tensor, and as which input."""
        for operator in self.operators:
            for position, source in enumerate(operator.inputs):
                if source is tensor:
                    yield operator, position

    def replace(self, old: Tensor, new: Tensor) -> None:
        """Let all that reads `old` read `new`."""
        for operator in self.operators:
            operator.inputs = [new if t is old else t for t in operator.inputs]
        self.outputs = [new if t is old else t for t in self.outputs]

    def prune(self) -> None:
        """Remove the operators whose results nothing needs."""
        needed = set(self.outputs)
        kept = []
        for operator in reversed(self.operators):
            if needed.intersection(operator.outputs):
                kept.append(operator)
                needed.update(t for t in operator.inputs if t is not None)
        self.operators = kept[::-1]


def parse(file: bytes) -> Graph:
    """Read a `.tflite` file.

    Raises:
        ConversionError: The file is corrupted, or has control flow, which this project's graphs
            never have.
    """
    if len(file) < 8 or file[4:8] != b"TFL3":
        raise ConversionError("this is no .tflite file")
    try:
        return _graph(schema.ModelT.InitFromPackedBuf(file, 0))
    except ConversionError:
        raise
    except Exception as error:  # whatever the offsets of a corrupted file lead to
        raise ConversionError(f"the .tflite file is corrupted: {error}") from error


def _graph(model: Any) -> Graph:
    if len(model.subgraphs) != 1:
        raise ConversionError("models with control flow (several subgraphs) cannot be converted")
    subgraph = model.subgraphs[0]
    tensors = [_tensor(tensor, model.buffers) for tensor in subgraph.tensors]
    operators = []
    for packed in subgraph.operators:
        code = model.operatorCodes[packed.opcodeIndex]
        builtin = max(code.builtinCode, code.deprecatedBuiltinCode)
        custom = builtin == Builtin.CUSTOM
        operators.append(
            Operator(
                code.customCode.decode() if custom else _NAMES[builtin],
                [tensors[i] if i >= 0 else None for i in packed.inputs],
                [tensors[i] for i in packed.outputs],
                _bytes(packed.customOptions) if custom else packed.builtinOptions,
                code.version,
            )
        )
    return Graph(
        [tensors[i] for i in subgraph.inputs],
        [tensors[i] for i in subgraph.outputs],
        operators,
        {
            entry.name.decode(): _bytes(model.buffers[entry.buffer].data)
            for entry in model.metadata or []
        },
    )


def _tensor(packed: Any, buffers: list[Any]) -> Tensor:
    shape = tuple(int(size) for size in packed.shape) if packed.shape is not None else ()
    tensor = Tensor(packed.type, shape)
    if packed.quantization is not None and packed.quantization.scale is not None:
        tensor.quantization = packed.quantization
    data = buffers[packed.buffer].data
    if data is not None and len(data):
        if packed.type not in _DTYPES:
            raise ConversionError(f"constants of TensorType {packed.type} cannot be converted")
        tensor.data = np.frombuffer(_bytes(data), _DTYPES[packed.type]).reshape(shape)
    return tensor


def _bytes(data: Any) -> bytes:
    return b"" if data is None else np.asarray(data, np.uint8).tobytes()
