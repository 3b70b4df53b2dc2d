"""Writes small `.tflite` files, operator by operator.

LiteRT ships TensorFlow Lite's schema as Python classes; tests use it to write what no converter
would, and to check the package's own reader and writer against it.
"""

import itertools
from dataclasses import dataclass, field
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from flatbuffers import flexbuffers

TYPES = {"float32": 0, "int32": 2, "uint8": 3, "int64": 4, "string": 5, "bool": 6}
TYPES |= {"complex64": 8, "int8": 9, "resource": 13, "int4": 17, "bfloat16": 18}
SAME, VALID = 0, 1
NONE, RELU, RELU_N1_TO_1, RELU6 = range(4)


@dataclass
class Graph:
    """A model under construction; methods give the index of a new tensor."""

    model: Any = field(default_factory=schema.ModelT)

    def __post_init__(self) -> None:
        self.graph = schema.SubGraphT()
        self.graph.tensors, self.graph.inputs, self.graph.outputs = [], [], []
        self.graph.operators = []
        self.model.version = 3
        self.model.subgraphs = [self.graph]
        self.model.operatorCodes = []
        self.model.buffers = [schema.BufferT()]
        self.model.metadata = []

    def buffer(self, data: bytes) -> int:
        entry = schema.BufferT()
        entry.data = np.frombuffer(data, np.uint8)
        self.model.buffers.append(entry)
        return len(self.model.buffers) - 1

    def tensor(
        self,
        shape: tuple[int, ...],
        dtype: str = "float32",
        data: bytes | None = None,
        scale: float | None = None,
        zero_point: int = 0,
        signature: tuple[int, ...] | None = None,
    ) -> int:
        entry = schema.TensorT()
        entry.name = f"t{len(self.graph.tensors)}"
        entry.shape = np.array(shape, np.int32)
        entry.type = TYPES[dtype]
        entry.buffer = 0 if data is None else self.buffer(data)
        entry.hasRank = True
        if signature is not None:
            entry.shapeSignature = np.array(signature, np.int32)
        if scale is not None:
            entry.quantization = schema.QuantizationParametersT()
            entry.quantization.scale = np.array([scale], np.float32)
            entry.quantization.zeroPoint = np.array([zero_point], np.int64)
        self.graph.tensors.append(entry)
        return len(self.graph.tensors) - 1

    def constant(self, value: np.ndarray) -> int:
        return self.tensor(value.shape, value.dtype.name, value.tobytes())

    def _code(self, builtin: int, custom: str | None = None) -> int:
        for i, code in enumerate(self.model.operatorCodes):
            if (code.builtinCode, code.customCode) == (builtin, custom):
                return i
        code = schema.OperatorCodeT()
        code.builtinCode, code.customCode = builtin, custom
        code.version = 2 if builtin == schema.BuiltinOperator.BROADCAST_TO else 1
        code.deprecatedBuiltinCode = min(builtin, 127)
        self.model.operatorCodes.append(code)
        return len(self.model.operatorCodes) - 1

    def custom(
        self, name: str, inputs: list[int], output: int, options: dict | bytes | None = None
    ) -> int:
        op = schema.OperatorT()
        op.opcodeIndex = self._code(schema.BuiltinOperator.CUSTOM, name)
        op.inputs, op.outputs = np.array(inputs, np.int32), np.array([output], np.int32)
        if options is not None:
            data = options if isinstance(options, bytes) else bytes(flexbuffers.Dumps(options))
            op.customOptions = np.frombuffer(data, np.uint8)
        self.graph.operators.append(op)
        return output

    def builtin(self, name: str, inputs: list[int], output: int, options: Any = None) -> int:
        op = schema.OperatorT()
        op.opcodeIndex = self._code(getattr(schema.BuiltinOperator, name))
        op.inputs, op.outputs = np.array(inputs, np.int32), np.array([output], np.int32)
        if options is not None:
            kind = type(options).__name__.removesuffix("T")
            op.builtinOptionsType = getattr(schema.BuiltinOptions, kind)
            op.builtinOptions = options
        self.graph.operators.append(op)
        return output

    def metadata(self, name: str, content: bytes) -> None:
        entry = schema.MetadataT()
        entry.name, entry.buffer = name, self.buffer(content)
        self.model.metadata.append(entry)

    def finish(self, inputs: list[int], outputs: list[int]) -> bytes:
        self.graph.inputs, self.graph.outputs = inputs, outputs
        builder = flatbuffers.Builder(1024)
        builder.Finish(self.model.Pack(builder), b"TFL3")
        return bytes(builder.Output())


def words(channels: int) -> int:
    return -(-channels // 32)


def pack(signs: np.ndarray) -> np.ndarray:
    """+1 and -1 along the last axis as Larq Compute Engine's words."""
    missing = -signs.shape[-1] % 32
    bits = np.pad(signs < 0, [(0, 0)] * (signs.ndim - 1) + [(0, missing)])
    return np.packbits(bits, axis=-1, bitorder="little").view(np.int32)


@dataclass(frozen=True)
class Conv:
    """A layer of the grid: the options of LceBconv2d and the shapes around it."""

    channels: int = 64
    filters: int = 64
    size: tuple[int, int] = (8, 8)
    kernel: tuple[int, int] = (3, 3)
    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    padding: int = SAME
    pad_values: int = 1
    groups: int = 1
    activation: int = NONE
    output: str = "float32"  # or "int8", or "bits"
    input: str = "float32"  # or "int8"
    batch: int = 1
    seed: int = 0

    def is_defined(self) -> bool:
        """Larq Compute Engine takes zero padding only with plain float output."""
        zero_padding = self.padding == SAME and self.pad_values == 0
        return not zero_padding or (self.output == "float32" and self.activation == NONE)

    def output_size(self) -> tuple[int, int]:
        spans = [(k - 1) * d + 1 for k, d in zip(self.kernel, self.dilation, strict=True)]
        if self.padding == SAME:
            spans = [1, 1]
        sizes = zip(self.size, spans, self.stride, strict=True)
        height, width = ((n - span) // s + 1 for n, span, s in sizes)
        return height, width

    def weights(self) -> np.ndarray:
        random = np.random.default_rng(self.seed)
        shape = (self.filters, *self.kernel, self.channels // self.groups)
        return random.choice([-1.0, 1.0], shape).astype(np.float32)

    def affine(self) -> tuple[np.ndarray, np.ndarray]:
        random = np.random.default_rng(self.seed + 1)
        multiplier = random.normal(0, 1, self.filters).astype(np.float32)
        return multiplier, random.normal(0, 3, self.filters).astype(np.float32)

    def thresholds(self) -> np.ndarray:
        random = np.random.default_rng(self.seed + 2)
        factors = self.kernel[0] * self.kernel[1] * self.channels // self.groups
        return random.integers(factors // 2 - 4, factors // 2 + 5, self.filters).astype(np.int32)

    def options(self) -> dict[str, int]:
        return {
            "channels_in": self.channels,
            "dilation_height_factor": self.dilation[0],
            "dilation_width_factor": self.dilation[1],
            "fused_activation_function": self.activation,
            "pad_values": self.pad_values,
            "padding": self.padding,
            "stride_height": self.stride[0],
            "stride_width": self.stride[1],
        }

    def example(self) -> np.ndarray:
        random = np.random.default_rng(self.seed + 3)
        shape = (self.batch, *self.size, self.channels)
        if self.input == "int8":
            return random.integers(-128, 128, shape).astype(np.int8)
        return random.normal(0, 1, shape).astype(np.float32)

    def file(self) -> bytes:
        """LceQuantize -> LceBconv2d (-> LceDequantize, where the output is packed)."""
        graph = Graph()
        shape = (self.batch, *self.size, self.channels)
        quantization = {"scale": 0.1, "zero_point": 3} if self.input == "int8" else {}
        x = graph.tensor(shape, self.input, **quantization)
        packed = graph.tensor((*shape[:-1], words(self.channels)), "int32")
        graph.custom("LceQuantize", [x], packed)
        filters = graph.constant(pack(self.weights()))
        out_shape = (self.batch, *self.output_size(), self.filters)
        if self.output == "bits":
            inputs = [packed, filters, -1, -1, graph.constant(self.thresholds())]
            bits = graph.tensor((*out_shape[:-1], words(self.filters)), "int32")
            graph.custom("LceBconv2d", inputs, bits, self.options())
            y = graph.tensor(out_shape)
            graph.custom("LceDequantize", [bits], y)
        else:
            affine = [graph.constant(a) for a in self.affine()]
            quantization = {"scale": 0.7, "zero_point": -5} if self.output == "int8" else {}
            y = graph.tensor(out_shape, self.output, **quantization)
            graph.custom("LceBconv2d", [packed, filters, *affine, -1], y, self.options())
        return graph.finish([x], [y])


def grid() -> list[Conv]:
    """Layers that between them use every option in combination with every other."""
    shapes = [
        {"channels": 3, "filters": 5},
        {"channels": 32, "filters": 16},
        {"channels": 70, "filters": 37},
        {"channels": 256, "filters": 48},
        {"channels": 64, "filters": 34, "groups": 2},
        {"channels": 128, "filters": 64, "groups": 4},
    ]
    windows = [
        {"kernel": (1, 1)},
        {"kernel": (3, 3)},
        {"kernel": (3, 3), "stride": (2, 2)},
        {"kernel": (2, 5), "stride": (1, 3)},
        {"kernel": (3, 3), "dilation": (2, 3)},
        {"kernel": (3, 2), "dilation": (2, 1), "stride": (2, 1)},
        {"kernel": (7, 7), "stride": (4, 4)},
    ]
    paddings = [
        {"padding": SAME, "pad_values": 1},
        {"padding": SAME, "pad_values": 0},
        {"padding": VALID, "pad_values": 0},
    ]
    outputs = [
        {"output": "float32", "activation": activation}
        for activation in (NONE, RELU, RELU_N1_TO_1, RELU6)
    ]
    outputs += [{"output": "int8"}, {"output": "int8", "activation": RELU}, {"output": "bits"}]
    cases = [
        Conv(size=(13, 11), seed=seed, **shape, **window, **padding, **output)
        for seed, (shape, window, padding, output) in enumerate(
            itertools.product(shapes, windows, paddings, outputs)
        )
    ]
    return [case for case in cases if case.is_defined()]
