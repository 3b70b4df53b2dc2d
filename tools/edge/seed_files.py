"""Small files that fuzzing starts from: networks, layers, and operators one by one."""

import contextlib
import functools
from collections.abc import Iterator
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from larq_seresnet.edge.fuse import fuse
from larq_seresnet.edge.model_file import ModelFile
from tools.edge.lce_files import NONE, RELU, VALID, Conv, Graph, pack, words
from tools.edge.packed_files import classifier, conv_options, packed_conv


def options(name: str, **fields: Any) -> Any:
    made = getattr(schema, f"{name}OptionsT")()
    for field, value in fields.items():
        assert hasattr(made, field)
        setattr(made, field, value)
    return made


def ints(*values: Any) -> np.ndarray:
    return np.array(values, np.int32)


def number(value: int) -> np.ndarray:
    return np.array(value, np.int32)


def ones(*shape: int) -> np.ndarray:
    return np.ones(shape, np.float32)


def one(name: str, inputs: list, outputs: list, kind: str = "", **fields: Any) -> bytes:
    """A file of one operator; inputs are constants, shapes, or types with shapes."""
    graph = Graph()

    def tensor(what: Any) -> int:
        if isinstance(what, np.ndarray):
            return graph.constant(what)
        if what and what[0] == "variable":
            index = graph.tensor(what[1])
            graph.graph.tensors[index].isVariable = True
            return index
        return (
            graph.tensor(what[1], what[0])
            if what and isinstance(what[0], str)
            else graph.tensor(what)
        )

    given, results = [tensor(what) for what in inputs], [tensor(what) for what in outputs]
    if name.isupper():
        graph.builtin(name, given, results[0], options(kind, **fields) if kind else None)
    else:
        graph.custom(name, given, results[0], fields)
    graph.graph.operators[-1].outputs = np.array(results, np.int32)
    tensors = graph.graph.tensors
    return graph.finish(
        [i for i in given if not tensors[i].buffer and not tensors[i].isVariable], results
    )


def operators() -> list[bytes]:
    image, small, index = (1, 4, 4, 2), (1, 2, 2, 2), ("int32", (2,))
    window = {"strideH": 2, "strideW": 2, "filterHeight": 2, "filterWidth": 2}
    step = {"strideH": 1, "strideW": 1}
    zeros = ints([0, 0], [0, 0])
    detect = {"max_detections": 2, "max_classes_per_detection": 1, "num_classes": 2}
    detect |= {"nms_score_threshold": 0.1, "nms_iou_threshold": 0.5}
    detect |= {f"{axis}_scale": 5.0 for axis in "yxhw"}
    mfcc = {"upper_frequency_limit": 4000, "lower_frequency_limit": 20}
    mfcc |= {"filterbank_channel_count": 6, "dct_coefficient_count": 5}
    found = [(1, 2, 4), (1, 2), (1, 2), (1,)]
    return [
        one("GATHER", [(4, 3), ints(3, 0)], [(2, 3)], "Gather"),
        one("GATHER", [(4, 3), index], [(2, 3)], "Gather"),
        one("GATHER_ND", [(4, 3), ints([3, 0], [0, 2])], [(2,)]),
        one("SCATTER_ND", [ints([3], [0]), (2, 3), ints(4, 3)], [(4, 3)]),
        one("SEGMENT_SUM", [(4, 3), ints(0, 0, 1, 2)], [(3, 3)]),
        one("UNSORTED_SEGMENT_SUM", [(4, 3), ints(0, 2, 1, 1), number(3)], [(3, 3)]),
        one("REVERSE_SEQUENCE", [(4, 3), ints(1, 2, 3, 3)], [(4, 3)], "ReverseSequence", seqDim=1),
        one("REVERSE_V2", [(4, 3), ints(1)], [(4, 3)]),
        one("ONE_HOT", [index, number(3), ones(), ones()], [(2, 3)], "OneHot", axis=-1),
        one("PAD", [(2, 3), ints([1, 1], [0, 2])], [(4, 5)]),
        one("PADV2", [(2, 3), ints([1, 1], [0, 2]), ones(1)], [(4, 5)]),
        one("MIRROR_PAD", [(2, 3), ints([1, 1], [0, 2])], [(4, 5)], "MirrorPad"),
        one("TILE", [(2, 3), ints(2, 1)], [(4, 3)]),
        one("SLICE", [(4, 3), ints(1, 0), ints(2, -1)], [(2, 3)]),
        one(
            "STRIDED_SLICE", [(4, 3), ints(0, 0), ints(4, 3), ints(2, 1)], [(2, 3)], "StridedSlice"
        ),
        one("DYNAMIC_UPDATE_SLICE", [(4, 3), ones(2, 3), ints(1, 0)], [(4, 3)]),
        one("BROADCAST_TO", [(1, 3), ints(4, 3)], [(4, 3)]),
        one("RESHAPE", [(4, 3), ints(2, 6)], [(2, 6)], "Reshape", newShape=ints(2, 6)),
        one("SQUEEZE", [(4, 1, 3)], [(4, 3)], "Squeeze", squeezeDims=ints(1)),
        one("EXPAND_DIMS", [(4, 3), ints(1)], [(4, 1, 3)]),
        one("TRANSPOSE", [(4, 3, 2), ints(2, 0, 1)], [(2, 4, 3)]),
        one("SPLIT", [number(0), (4, 3)], [(2, 3), (2, 3)], "Split", numSplits=2),
        one("SPLIT_V", [(4, 3), ints(1, 3), number(0)], [(1, 3), (3, 3)], "SplitV", numSplits=2),
        one("UNPACK", [(2, 3)], [(3,), (3,)], "Unpack", num=2),
        one("PACK", [(3,), ones(3)], [(2, 3)], "Pack", valuesCount=2),
        one("CONCATENATION", [(4, 3), ones(4, 2)], [(4, 5)], "Concatenation", axis=1),
        one("TOPK_V2", [(4, 3), number(2)], [(4, 2), ("int32", (4, 2))]),
        one("ARG_MAX", [(4, 3), ints(1)], [("int32", (4,))], "ArgMax", outputType=2),
        one("CUMSUM", [(4, 3), number(1)], [(4, 3)], "Cumsum"),
        one("SUM", [(4, 3), ints(1)], [(4,)], "Reducer"),
        one("SPACE_TO_BATCH_ND", [image, ints(2, 2), zeros], [(4, 2, 2, 2)]),
        one("BATCH_TO_SPACE_ND", [(4, 2, 2, 2), ints(2, 2), zeros], [image]),
        one("SPACE_TO_DEPTH", [image], [(1, 2, 2, 8)], "SpaceToDepth", blockSize=2),
        one("DEPTH_TO_SPACE", [(1, 2, 2, 8)], [image], "DepthToSpace", blockSize=2),
        one("RESIZE_BILINEAR", [small, ints(4, 4)], [image], "ResizeBilinear"),
        one("RESIZE_NEAREST_NEIGHBOR", [small, ints(4, 4)], [image], "ResizeNearestNeighbor"),
        *(
            one(f"{n}_POOL_2D", [image], [small], "Pool2D", **window)
            for n in ("MAX", "AVERAGE", "L2")
        ),
        one("CONV_2D", [image, ones(2, 3, 3, 2), ones(2)], [image], "Conv2D", **step),
        one("CONV_2D", [image, (2, 3, 3, 2), ones(2)], [image], "Conv2D", **step),
        one(
            "TRANSPOSE_CONV",
            [ints(*image), ones(2, 2, 2, 2), small],
            [image],
            "TransposeConv",
            strideH=2,
            strideW=2,
        ),
        one(
            "CONV_3D",
            [(1, *image), ones(1, 2, 2, 2, 2)],
            [(1, *image)],
            "Conv3D",
            strideD=1,
            **step,
        ),
        one("FULLY_CONNECTED", [(2, 4), ones(3, 4), ones(3)], [(2, 3)], "FullyConnected"),
        one("BATCH_MATMUL", [(2, 3, 4), ones(2, 4, 5)], [(2, 3, 5)], "BatchMatMul"),
        one("SOFTMAX", [(2, 4)], [(2, 4)], "Softmax", beta=1.0),
        one("L2_NORMALIZATION", [(2, 4)], [(2, 4)], "L2Norm"),
        one(
            "LOCAL_RESPONSE_NORMALIZATION", [image], [image], "LocalResponseNormalization", radius=2
        ),
        one("PRELU", [image, ones(1, 1, 2)], [image]),
        one("SELECT_V2", [("bool", (4, 1)), (4, 3), ones(1, 3)], [(4, 3)]),
        one("WHERE", [("bool", (4, 3))], [("int64", (0, 2))]),
        one("SPARSE_TO_DENSE", [ints(1, 3), ints(5), ones(2), ones()], [(5,)]),
        one("FILL", [ints(2, 3), ()], [(2, 3)]),
        one("RANGE", [number(0), number(4), ("int32", ())], [("int32", (0,))]),
        one("MATRIX_DIAG", [(2, 3)], [(2, 3, 3)]),
        one("MATRIX_SET_DIAG", [(3, 3), ones(3)], [(3, 3)]),
        one("BUCKETIZE", [(4,)], [("int32", (4,))], "Bucketize", boundaries=[0.0, 1.0]),
        one("EMBEDDING_LOOKUP", [index, ones(4, 3)], [(2, 3)]),
        one("UNIQUE", [(4,)], [(0,), ("int32", (4,))], "Unique", idxOutType=2),
        one(
            "NON_MAX_SUPPRESSION_V4",
            [(3, 4), (3,), number(2), ones(), ones()],
            [index, ("int32", ())],
        ),
        one("MULTINOMIAL", [(2, 3), number(4)], [("int64", (2, 4))], "Random", seed=1),
        one("RFFT2D", [(1, 4, 4), ints(4, 4)], [("complex64", (1, 4, 3))]),
        one(
            "SVDF",
            [(1, 3), ones(4, 3), ones(4, 2), ones(2), ("variable", (1, 8))],
            [(1, 2)],
            "SVDF",
            rank=2,
        ),
        one("AudioSpectrogram", [(64, 1)], [(1, 4, 9)], window_size=16, stride=16),
        one("Mfcc", [(1, 4, 9), ints(8000)], [(1, 4, 5)], **mfcc),
        one("TFLite_Detection_PostProcess", [(1, 4, 4), (1, 4, 3), ones(4, 4)], found, **detect),
    ]


def network() -> bytes:
    """A block: two binary convolutions with bits between them, a gate, a shortcut; then a pool."""
    first = Conv(channels=32, filters=32, size=(6, 6), output="bits")
    second = Conv(channels=32, filters=32, size=(6, 6), seed=5)
    graph = Graph()
    shape, bits = (1, 6, 6, 32), (1, 6, 6, 1)
    x, packed, between = graph.tensor(shape), *(graph.tensor(bits, "int32") for _ in range(2))
    y, mean, dense, gate = (graph.tensor(s) for s in (shape, (1, 32), (1, 32), (1, 32)))
    graph.custom("LceQuantize", [x], packed)
    filters = [graph.constant(pack(conv.weights())) for conv in (first, second)]
    thresholds = graph.constant(first.thresholds())
    graph.custom("LceBconv2d", [packed, filters[0], -1, -1, thresholds], between, first.options())
    affine = [graph.constant(value) for value in second.affine()]
    graph.custom("LceBconv2d", [between, filters[1], *affine, -1], y, second.options())
    graph.builtin("MEAN", [y, graph.constant(ints(1, 2))], mean, options("Reducer"))
    weights = [graph.constant(value) for value in (ones(32, 32), ones(32))]
    graph.builtin("FULLY_CONNECTED", [mean, *weights], dense, options("FullyConnected"))
    graph.builtin("LOGISTIC", [dense], gate)
    shaped, sizes = graph.tensor((1, 1, 1, 32)), graph.constant(ints(1, 1, 1, 32))
    graph.builtin("RESHAPE", [gate, sizes], shaped, options("Reshape"))
    scaled = graph.builtin("MUL", [y, shaped], graph.tensor(shape), options("Mul"))
    added = graph.builtin("ADD", [scaled, x], graph.tensor(shape), options("Add"))
    return graph.finish([x], [pool(graph, added, shape)])


def gated_block(
    channels: int = 32, size: tuple[int, int] = (6, 6), batch: int = 1, **fields: Any
) -> bytes:
    """A block of the fully binary network, as this project's converter writes it.

    Batch norm stands apart from both convolutions, the gate is computed from bits and is 0 or 1,
    and signs are taken of both sums.

    Args:
        channels: As many in as out.
        size: Height and width.
        batch: How many images.
        fields: Of the convolutions.
    """
    random = np.random.default_rng(channels)
    graph = Graph()
    shape, small = (batch, *size, channels), (batch, 1, 1, channels)
    bits, few = (*shape[:-1], words(channels)), (*small[:-1], words(channels))

    def norm(tensor: int, sizes: tuple[int, ...]) -> int:
        for name in ("ADD", "MUL"):
            constant = graph.constant(random.normal(0, 2, channels).astype(np.float32))
            tensor = graph.builtin(
                name, [tensor, constant], graph.tensor(sizes), options(name.title())
            )
        return tensor

    def signs(tensor: int, sizes: tuple[int, ...]) -> int:
        return graph.custom("LceQuantize", [tensor], graph.tensor(sizes, "int32"))

    def convolve(conv: Conv, tensor: int, sizes: tuple[int, ...]) -> int:
        filters = graph.constant(pack(conv.weights()))
        if conv.output == "bits":
            inputs, y = [-1, -1, graph.constant(conv.thresholds())], graph.tensor(few, "int32")
        else:
            inputs, y = [*map(graph.constant, conv.affine()), -1], graph.tensor(sizes)
        return graph.custom("LceBconv2d", [tensor, filters, *inputs], y, conv.options())

    x = graph.tensor(shape)
    convs = [
        Conv(channels=channels, filters=channels, size=size, seed=seed, **fields) for seed in (1, 2)
    ]
    total = norm(convolve(convs[0], signs(x, bits), shape), shape)
    total = graph.builtin("ADD", [total, x], graph.tensor(shape), options("Add"))
    features = norm(convolve(convs[1], signs(total, bits), shape), shape)
    axes = graph.constant(ints(1, 2))
    gate = graph.builtin(
        "MEAN", [features, axes], graph.tensor(small), options("Reducer", keepDims=True)
    )
    shift = graph.constant(random.normal(0, 2, channels).astype(np.float32))
    gate = graph.builtin("ADD", [gate, shift], graph.tensor(small), options("Add"))
    gate = signs(gate, few)
    for output in ("bits", "float32"):
        conv = Conv(channels=channels, filters=channels, size=(1, 1), kernel=(1, 1), output=output)
        gate = convolve(conv, gate, small)
    threshold = graph.constant(np.float32(1))
    gate = graph.builtin("GREATER_EQUAL", [gate, threshold], graph.tensor(small, "bool"))
    gate = graph.builtin("CAST", [gate], graph.tensor(small), options("Cast", inDataType=6))
    scaled = graph.builtin("MUL", [features, gate], graph.tensor(shape), options("Mul"))
    relu = options("Add", fusedActivationFunction=RELU)
    result = graph.builtin("ADD", [total, scaled], graph.tensor(shape), relu)
    return graph.finish([x], [result, signs(result, bits)])


def same(size: int, kernel: int, stride: int, dilation: int) -> tuple[int, int]:
    """What SAME padding puts before and behind an axis."""
    total = max(0, (-(-size // stride) - 1) * stride + (kernel - 1) * dilation + 1 - size)
    return total // 2, total - total // 2


def signs(graph: Graph, x: int, threshold: float = 0, high: float = 1, low: float = -1) -> int:
    """A tensor's signs, of builtin operators."""
    shape = tuple(graph.graph.tensors[x].shape)
    above = graph.tensor(shape, "bool")
    graph.builtin("GREATER_EQUAL", [x, graph.constant(np.float32(threshold))], above)
    values = [graph.constant(np.float32(value)) for value in (high, low)]
    return graph.builtin("SELECT_V2", [above, *values], graph.tensor(shape))


def binary_layer(
    size: tuple[int, int] = (6, 5),
    channels: int = 20,
    kernel: tuple[int, int] = (3, 3),
    stride: tuple[int, int] = (1, 1),
    dilation: tuple[int, int] = (1, 1),
    activation: int = NONE,
    bias: float = 0,
    pads: list[tuple[int, int]] | None = None,
    padding: int = VALID,
    weight: float = 1,
    outside: float | None = 1,
    scaled: bool = False,
    **sign: float,
) -> bytes:
    """A convolution of signs of builtin operators alone, as the converter writes it.

    Args:
        size: Of the input, and so on: of the convolution.
        channels: Of the input; 18 come out.
        kernel: See `size`.
        stride: See `size`.
        dilation: See `size`.
        activation: See `size`.
        bias: See `size`.
        pads: What comes before and behind each axis, by default as SAME does it.
        padding: The convolution's own.
        weight: What weights are that are not -1.
        outside: The padding's value; None leaves it out.
        scaled: Whether a factor for each channel follows.
        sign: Of `signs`.
    """
    random, filters = np.random.default_rng(0), 18
    graph = Graph()
    x = graph.tensor((1, *size, channels))
    y, sizes = signs(graph, x, **sign), size
    if outside is not None:
        amounts = pads or [same(*axis) for axis in zip(size, kernel, stride, dilation, strict=True)]
        sizes = [n + sum(amount) for n, amount in zip(size, amounts, strict=True)]
        constants = graph.constant(ints((0, 0), *amounts, (0, 0))), np.float32(outside)
        inputs = [y, constants[0], graph.constant(constants[1])]
        y = graph.builtin("PADV2", inputs, graph.tensor((1, *sizes, channels)), options("PadV2"))
    spans = [
        (k - 1) * d + 1 if padding == VALID else 1 for k, d in zip(kernel, dilation, strict=True)
    ]
    axes = zip(sizes, spans, stride, strict=True)
    weights = random.choice([-1, weight], (filters, *kernel, channels)).astype(np.float32)
    steps = {"strideH": stride[0], "strideW": stride[1]}
    steps |= {"dilationHFactor": dilation[0], "dilationWFactor": dilation[1]}
    made = options("Conv2D", padding=padding, fusedActivationFunction=activation, **steps)
    constants = [weights, np.full(filters, bias, np.float32)]
    shape = (1, *((n - span) // s + 1 for n, span, s in axes), filters)
    result = graph.tensor(shape)
    graph.builtin("CONV_2D", [y, *map(graph.constant, constants)], result, made)
    if scaled:
        factors = graph.constant(random.normal(size=filters).astype(np.float32))
        like = graph.tensor(shape)
        result = graph.builtin("MUL", [result, factors], like, options("Mul"))
    return graph.finish([x], [result])


def pool(graph: Graph, x: int, shape: tuple[int, ...]) -> int:
    batch, height, width, channels = shape
    half, depth = (batch, height // 2, width // 2), words(channels)
    packed = graph.tensor((*shape[:-1], depth), "int32")
    pooled = graph.tensor((*half, depth), "int32")
    windows = {f"{k}_{a}": 2 for k in ("filter", "stride") for a in ("height", "width")}
    graph.custom("LceQuantize", [x], packed)
    graph.custom("LceBMaxPool2d", [packed], pooled, {**windows, "padding": 0})
    return graph.custom("LceDequantize", [pooled], graph.tensor((*half, channels)))


def pooling() -> bytes:
    graph = Graph()
    x = graph.tensor((1, 6, 6, 40))
    return graph.finish([x], [pool(graph, x, (1, 6, 6, 40))])


def integers() -> bytes:
    """An int8 network: convolution, depthwise, shortcut, pool, dense layer, softmax."""
    graph = Graph()
    shape = (1, 4, 4, 8)

    def constant(*sizes: int) -> int:
        return graph.tensor(sizes, "int8", bytes(int(np.prod(sizes))), scale=0.1)

    def result(*sizes: int) -> int:
        return graph.tensor(sizes, "int8", scale=0.5, zero_point=3)

    x, y, z, added, mean, dense = (
        result(*sizes) for sizes in (shape, shape, shape, shape, (1, 1, 1, 8), (1, 8))
    )
    bias = graph.tensor((8,), "int32", bytes(32), scale=0.05)
    graph.builtin("CONV_2D", [x, constant(8, 3, 3, 8), bias], y, conv_options())
    step = {"strideH": 1, "strideW": 1, "dilationHFactor": 1, "dilationWFactor": 1}
    depthwise = options("DepthwiseConv2D", depthMultiplier=1, **step)
    graph.builtin("DEPTHWISE_CONV_2D", [y, constant(1, 3, 3, 8), bias], z, depthwise)
    graph.builtin("ADD", [z, x], added, options("Add"))
    windows = options("Pool2D", strideH=4, strideW=4, filterHeight=4, filterWidth=4)
    graph.builtin("AVERAGE_POOL_2D", [added], mean, windows)
    graph.builtin("FULLY_CONNECTED", [mean, constant(8, 8), bias], dense, options("FullyConnected"))
    y = graph.tensor((1, 8), "int8", scale=1 / 256, zero_point=-128)
    return graph.finish([x], [graph.builtin("SOFTMAX", [dense], y, options("Softmax", beta=1.0))])


@contextlib.contextmanager
def subgraph(graph: Graph) -> Iterator[schema.SubGraphT]:
    """Within it, tensors and operators go to a further subgraph."""
    main, graph.graph = graph.graph, schema.SubGraphT()
    graph.graph.tensors, graph.graph.operators = [], []
    graph.graph.inputs, graph.graph.outputs = [], []
    graph.model.subgraphs.append(graph.graph)
    yield graph.graph
    graph.graph = main


def branch(graph: Graph, operator: str, output: str = "float32") -> None:
    """A number and 1: what comes out."""
    with subgraph(graph) as inner:
        x, y = graph.tensor((1,)), graph.tensor((1,), output)
        graph.builtin(operator, [x, graph.constant(ones(1))], y, options(operator.title()))
        inner.inputs, inner.outputs = [x], [y]


def choice() -> bytes:
    graph = Graph()
    condition, x, y = graph.tensor((1,), "bool"), graph.tensor((1,)), graph.tensor((1,))
    branch(graph, "ADD")
    branch(graph, "MUL")
    made = options("If", thenSubgraphIndex=1, elseSubgraphIndex=2)
    return graph.finish([condition, x], [graph.builtin("IF", [condition, x], y, made)])


def loop() -> bytes:
    graph = Graph()
    x, y = graph.tensor((1,)), graph.tensor((1,))
    branch(graph, "LESS", "bool")
    branch(graph, "ADD")
    made = options("While", condSubgraphIndex=1, bodySubgraphIndex=2)
    return graph.finish([x], [graph.builtin("WHILE", [x], y, made)])


def variables() -> bytes:
    """A counter, whose initial value a subgraph sets once."""
    graph = Graph()
    x, y, z = (graph.tensor((1,)) for _ in range(3))

    def without_output(name: str, inputs: list[int], made: Any = None) -> None:
        graph.builtin(name, inputs, 0, made)
        graph.graph.operators[-1].outputs = ints()

    def handle() -> int:
        made = options("VarHandle", sharedName="counter", container="")
        return graph.builtin("VAR_HANDLE", [], graph.tensor((), "resource"), made)

    with subgraph(graph):
        without_output("ASSIGN_VARIABLE", [handle(), graph.constant(ones(1))])
    without_output("CALL_ONCE", [], options("CallOnce", initSubgraphIndex=1))
    here = handle()
    graph.builtin("READ_VARIABLE", [here], y)
    graph.builtin("ADD", [x, y], z, options("Add"))
    without_output("ASSIGN_VARIABLE", [here, z])
    return graph.finish([x], [z])


def signatures() -> bytes:
    """Two functions, each of a subgraph."""

    def entry(name: str, index: int) -> schema.TensorMapT:
        made = schema.TensorMapT()
        made.name, made.tensorIndex = name, index
        return made

    graph = Graph()
    branch(graph, "MUL")
    x, y = graph.tensor((1,)), graph.tensor((1,))
    graph.builtin("ADD", [x, x], y, options("Add"))
    graph.graph.inputs, graph.graph.outputs = [x], [y]
    graph.model.signatureDefs = []
    for number, inner in enumerate(graph.model.subgraphs):
        made = schema.SignatureDefT()
        made.signatureKey, made.subgraphIndex = f"function{number}", number
        made.inputs = [entry("x", inner.inputs[0])]
        made.outputs = [entry("y", inner.outputs[0])]
        graph.model.signatureDefs.append(made)
    return graph.finish([x], [y])


def strings() -> bytes:
    """Labels that an index chooses from."""
    graph = Graph()
    text = [b"cat", b"dog", b"fish"]
    places = np.cumsum([4 * (len(text) + 2), *map(len, text)])
    content = ints(len(text), *places).tobytes() + b"".join(text)
    labels, x = graph.tensor((3,), "string", content), graph.tensor((2,), "int32")
    y = graph.tensor((2,), "string")
    return graph.finish([x], [graph.builtin("GATHER", [labels, x], y, options("Gather"))])


def layers() -> list[bytes]:
    small = {"size": (5, 5), "filters": 20}
    cases = [
        Conv(channels=40, **small),
        Conv(channels=40, pad_values=0, **small),
        Conv(channels=64, groups=2, padding=VALID, output="bits", **small),
        Conv(channels=33, output="int8", input="int8", activation=RELU, **small),
        Conv(channels=32, kernel=(1, 1), stride=(2, 2), dilation=(3, 1), **small),
    ]
    return [
        *(case.file() for case in cases),
        fuse(ModelFile(gated_block())),
        fuse(ModelFile(gated_block(channels=16, size=(5, 3), pad_values=0))),
        binary_layer(activation=RELU),
        binary_layer(stride=(2, 2), channels=16, bias=3),
        binary_layer(scaled=True),
        packed_conv("lce", metadata=b'{"labels": ["a", "b"], "input_range": [0, 255]}')[0],
        packed_conv("litert", channels=5, dynamic_batch=True)[0],
        classifier(b'{"labels": ["a", "b", "c"]}'),
        classifier(integer=True),
    ]


@functools.cache
def seeds() -> tuple[list[bytes], ...]:
    """Networks, single layers, and single operators."""
    made = (network, gated_block, pooling, integers, choice, loop, variables, signatures, strings)
    return [make() for make in made], layers(), operators()
