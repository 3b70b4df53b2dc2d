"""Files with packed weights and float activations, as this project's converter writes them."""

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from tools.edge.lce_files import Graph, pack

TARGETS = ("lce", "litert")


def _signs_of_lce(graph: Graph, weights: np.ndarray) -> int:
    signs = graph.tensor(weights.shape)
    return graph.custom("LceDequantize", [graph.constant(pack(weights))], signs)


def _signs_of_litert(graph: Graph, weights: np.ndarray) -> int:
    flat = weights.ravel()
    packed = np.packbits(flat < 0)
    cast = schema.CastOptionsT()
    cast.inDataType, cast.outDataType = 3, 2
    indices = graph.tensor(packed.shape, "int32")
    graph.builtin("CAST", [graph.constant(packed)], indices, cast)
    bits = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1)
    table = 1 - 2 * bits.astype(np.float32)
    rows = graph.tensor((len(packed), 8))
    graph.builtin("GATHER", [graph.constant(table), indices], rows, schema.GatherOptionsT())
    if len(packed) * 8 != flat.size:  # cut off the padding of the last byte
        vector, cut = graph.tensor((len(packed) * 8,)), graph.tensor((flat.size,))
        graph.builtin("RESHAPE", [rows, graph.constant(np.array([-1], np.int32))], vector)
        begin, size = np.array([0], np.int32), np.array([flat.size], np.int32)
        graph.builtin("SLICE", [vector, *map(graph.constant, (begin, size))], cut)
        rows = cut
    signs = graph.tensor(weights.shape)
    shape = graph.constant(np.array(weights.shape, np.int32))
    return graph.builtin("RESHAPE", [rows, shape], signs)


def conv_options(padding: int = 0, stride: int = 1) -> schema.Conv2DOptionsT:
    options = schema.Conv2DOptionsT()
    options.padding, options.strideH, options.strideW = padding, stride, stride
    options.dilationHFactor = options.dilationWFactor = 1
    return options


def packed_conv(
    target: str,
    *,
    channels: int = 3,
    filters: int = 8,
    size: int = 16,
    kernel: int = 3,
    dynamic_batch: bool = False,
    scaled: bool = True,
    metadata: bytes | None = None,
) -> tuple[bytes, bytes]:
    """A convolution with packed weights, and the same with float weights."""
    random = np.random.default_rng(0)
    weights = random.choice([-1.0, 1.0], (filters, kernel, kernel, channels)).astype(np.float32)
    scales = random.uniform(0.5, 2, (filters, 1, 1, 1)).astype(np.float32)
    if not scaled:
        scales[:] = 1
    bias = random.normal(0, 1, filters).astype(np.float32)
    files = []
    for packed in (True, False):
        graph = Graph()
        signature = (-1, size, size, channels) if dynamic_batch else None
        x = graph.tensor((1, size, size, channels), signature=signature)
        if packed:
            signs = {"lce": _signs_of_lce, "litert": _signs_of_litert}[target](graph, weights)
            kernel_tensor = signs
            if scaled:
                kernel_tensor = graph.tensor(weights.shape)
                inputs = [signs, graph.constant(scales)]
                graph.builtin("MUL", inputs, kernel_tensor, schema.MulOptionsT())
        else:
            kernel_tensor = graph.constant(weights * scales)
        y = graph.tensor(
            (1, size, size, filters),
            signature=(-1, size, size, filters) if dynamic_batch else None,
        )
        graph.builtin("CONV_2D", [x, kernel_tensor, graph.constant(bias)], y, conv_options())
        if metadata is not None:
            graph.metadata("larq_seresnet", metadata)
        files.append(graph.finish([x], [y]))
    return files[0], files[1]


def classifier(metadata: bytes | None = None, *, integer: bool = False, size: int = 4) -> bytes:
    """Scores of three classes: the sums of the red, green and blue pixels."""
    graph = Graph()
    dtype, quantization = (
        ("int8", {"scale": 1.0, "zero_point": -128})
        if integer
        else (
            "float32",
            {},
        )
    )
    x = graph.tensor((1, size, size, 3), dtype, **quantization)
    y = graph.tensor((1, 3), dtype, **({"scale": 1.0, "zero_point": -128} if integer else {}))
    axes = graph.constant(np.array([1, 2], np.int32))
    options = schema.ReducerOptionsT()
    options.keepDims = False
    graph.builtin("MEAN", [x, axes], y, options)
    if metadata is not None:
        graph.metadata("larq_seresnet", metadata)
    return graph.finish([x], [y])
