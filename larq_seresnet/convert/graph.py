"""A `.tflite` graph in memory: operators that hold tensors, constants as arrays.

The schema's own objects refer to tensors and buffers by index, which every rewrite would have to
renumber. Here an operator holds its tensors, and `writer.to_bytes` numbers what is still in use.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from larq_seresnet.errors import ConversionError

Builtin = schema.BuiltinOperator
TensorType = schema.TensorType

_NAMES = {code: name for name, code in vars(Builtin).items() if not name.startswith("_")}
_DTYPES = {
    getattr(TensorType, name.upper()): np.dtype(name)
    for name in ("float32", "float16", "int64", "int32", "int16", "int8", "uint8", "bool")
}
# What numbers the graphs that an operator runs.
_BODIES = {
    "WHILE": ("condSubgraphIndex", "bodySubgraphIndex"),
    "IF": ("thenSubgraphIndex", "elseSubgraphIndex"),
}
_TYPES = {dtype: code for code, dtype in _DTYPES.items()}


@dataclass(eq=False)
class Tensor:
    """An edge of the graph.

    Attributes:
        type: `TensorType`.
        shape: Its shape in the file.
        data: The values of a constant, `None` for what an operator computes.
        quantization: The schema's parameters; `None` for float and integer tensors.
        name: What the converter calls it: "network/layer/Conv2D", several of them where it fused
            layers. The file names inputs and outputs only, as the graph does.
        signature: The shape with -1 for sizes that only running tells, if there are any.
    """

    type: int
    shape: tuple[int, ...]
    data: np.ndarray | None = None
    quantization: Any = None
    name: str = ""
    signature: tuple[int, ...] = ()

    @classmethod
    def constant(cls, values: Any) -> "Tensor":
        """A constant of the array's type and shape."""
        array = np.asarray(values)
        return cls(_TYPES[array.dtype], array.shape, array)

    def like(self) -> "Tensor":
        """Another tensor of this type, shape and name, which an operator computes."""
        return Tensor(self.type, self.shape, name=self.name, signature=self.signature)


def is_constant(tensor: Tensor | None, *choices: float) -> bool:
    """Whether this is a constant of one element, which is one of these."""
    data = None if tensor is None else tensor.data
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
        bodies: The graphs that a loop or a choice runs, by the fields of its options that number
            them in the file.
    """

    name: str
    inputs: list[Tensor | None]
    outputs: list[Tensor]
    options: Any = None
    version: int = 1
    bodies: dict[str, "Graph"] = field(default_factory=dict)

    @classmethod
    def builtin(
        cls, name: str, inputs: Sequence[Tensor | None], *outputs: Tensor, **options: Any
    ) -> "Operator":
        """A builtin operator with these fields of its options."""
        operator = cls(name, [], list(outputs))
        operator.become(name, inputs, **options)
        return operator

    def become(self, name: str, inputs: Sequence[Tensor | None], **options: Any) -> None:
        """Compute the same results as another builtin operator, in place."""
        self.name, self.inputs, self.version = name, list(inputs), 1
        # The options of SPLIT_V are SplitVOptionsT; some operators have none.
        kind = getattr(schema, name.title().replace("_", "") + "OptionsT", None)
        self.options = kind and kind(**options)

    def constant(self, position: int) -> np.ndarray | None:
        """The values of an input; `None` where it is no constant, or left out."""
        tensor = self.inputs[position] if position < len(self.inputs) else None
        return None if tensor is None else tensor.data


@dataclass(eq=False)
class Graph:
    """Operators in the order of execution.

    Attributes:
        inputs: What it takes.
        outputs: What it gives.
        operators: How.
        metadata: Of the file, by name.
        input_names: Of the signature: one for each input, or none where there is no signature.
        output_names: One for each output.
    """

    inputs: list[Tensor]
    outputs: list[Tensor]
    operators: list[Operator]
    metadata: dict[str, bytes] = field(default_factory=dict)
    input_names: list[str] = field(default_factory=list)
    output_names: list[str] = field(default_factory=list)

    def tensors(self) -> list[Tensor]:
        """All tensors in use, the graph's inputs first."""
        used: list[Tensor | None] = [*self.inputs]
        for operator in self.operators:
            used += [*operator.inputs, *operator.outputs]
        return [tensor for tensor in dict.fromkeys([*used, *self.outputs]) if tensor is not None]

    def parts(self) -> list["Graph"]:
        """This graph, and those that its operators run."""
        found = [self]
        for part in found:
            bodies = [body for operator in part.operators for body in operator.bodies.values()]
            found += [body for body in dict.fromkeys(bodies) if body not in found]
        return found

    def producer(self, tensor: Tensor | None, *names: str) -> Operator | None:
        """The operator that computes this tensor, if it has one of these names, where given."""
        found = next((op for op in self.operators if tensor in op.outputs), None)
        return found if found is None or not names or found.name in names else None

    def consumers(self, tensor: Tensor | None) -> list[tuple[Operator, int]]:
        """The operators that read this tensor, and as which input."""
        return [
            (operator, position)
            for operator in self.operators
            for position, source in enumerate(operator.inputs)
            if source is tensor
        ]

    def replace(self, old: Tensor, new: Tensor) -> None:
        """Let all that reads `old` read `new`."""
        for operator in self.operators:
            operator.inputs = [new if t is old else t for t in operator.inputs]
        self.outputs = [new if t is old else t for t in self.outputs]

    def constant_part(self) -> "Graph":
        """What reads constants only: a graph of its own, which gives what the others read of it.

        But for DEQUANTIZE, which interpreters do once themselves.
        """
        computed: set[Tensor | None] = set(self.inputs)
        operators = []
        for operator in self.operators:
            if operator.name == "DEQUANTIZE" or computed.intersection(operator.inputs):
                computed.update(operator.outputs)
            else:
                operators.append(operator)
        read = {t for op in self.operators if op not in operators for t in op.inputs}
        results = [t for op in operators for t in op.outputs if t in read or t in self.outputs]
        return Graph([], results, operators)

    def rewrite(self, change: Callable[["Graph", Operator], None], *names: str) -> None:
        """Let `change` look at every operator of these names; remove what nothing needs then."""
        for operator in list(self.operators):
            if operator.name in names:
                change(self, operator)
        needed: set[Tensor | None] = set(self.outputs)
        kept = []
        for operator in reversed(self.operators):
            if needed.intersection(operator.outputs):
                kept.append(operator)
                needed.update(operator.inputs)
        self.operators = kept[::-1]


def parse(file: bytes) -> Graph:
    """Read a `.tflite` file.

    Raises:
        ConversionError: The file is corrupted, or has other control flow than loops and choices.
    """
    if len(file) < 8 or file[4:8] != b"TFL3":
        raise ConversionError("this is no .tflite file")
    try:
        return _graph(schema.ModelT.InitFromPackedBuf(file))
    except ConversionError:
        raise
    except Exception as error:  # whatever the offsets of a corrupted file lead to
        raise ConversionError(f"the .tflite file is corrupted: {error}") from error


def _graph(model: Any) -> Graph:
    contents = [_bytes(buffer.data) for buffer in model.buffers]
    graphs = [_subgraph(subgraph, model, contents) for subgraph in model.subgraphs]
    for graph in graphs:
        for operator in graph.operators:
            for name in _BODIES.get(operator.name, ()):
                operator.bodies[name] = graphs[getattr(operator.options, name)]
    main, subgraph = graphs[0], model.subgraphs[0]
    if len(main.parts()) != len(graphs):
        raise ConversionError("control flow other than loops and choices cannot be converted")
    main.metadata = {e.name.decode(): contents[e.buffer] for e in model.metadata or []}
    signature = next(iter(model.signatureDefs or []), None)
    if signature:
        main.input_names = _names(signature.inputs, subgraph.inputs)
        main.output_names = _names(signature.outputs, subgraph.outputs)
    return main


def _subgraph(subgraph: Any, model: Any, contents: Sequence[bytes]) -> Graph:
    tensors = [_tensor(tensor, contents[tensor.buffer]) for tensor in subgraph.tensors]
    return Graph(
        [tensors[i] for i in subgraph.inputs],
        [tensors[i] for i in subgraph.outputs],
        [_operator(op, model.operatorCodes[op.opcodeIndex], tensors) for op in subgraph.operators],
    )


def _names(entries: Any, indices: Any) -> list[str]:
    """A signature's names of tensors, in the order of these indices."""
    waiting = list(entries or [])
    names = []
    for index in indices:  # which may come twice
        entry = next(entry for entry in waiting if entry.tensorIndex == index)
        waiting.remove(entry)
        names.append(entry.name.decode())
    return names


def _tensor(packed: Any, content: bytes) -> Tensor:
    shape = tuple(map(int, () if packed.shape is None else packed.shape))
    tensor = Tensor(packed.type, shape, name=(packed.name or b"").decode())
    if packed.shapeSignature is not None:
        tensor.signature = tuple(map(int, packed.shapeSignature))
    if packed.quantization is not None and packed.quantization.scale is not None:
        tensor.quantization = packed.quantization
    if content:
        if packed.type not in _DTYPES:
            raise ConversionError(f"constants of TensorType {packed.type} cannot be converted")
        tensor.data = np.frombuffer(content, _DTYPES[packed.type]).reshape(shape)
    return tensor


def _operator(packed: Any, code: Any, tensors: list[Tensor]) -> Operator:
    name, options = _NAMES[max(code.builtinCode, code.deprecatedBuiltinCode)], packed.builtinOptions
    if name == "CUSTOM":
        name, options = code.customCode.decode(), _bytes(packed.customOptions)
    inputs = [tensors[i] if i >= 0 else None for i in packed.inputs]
    return Operator(name, inputs, [tensors[i] for i in packed.outputs], options, code.version)


def _bytes(data: Any) -> bytes:
    return b"" if data is None else np.asarray(data, np.uint8).tobytes()
