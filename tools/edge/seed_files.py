"""Small files that between them use every operator and option that fuzzing starts from."""

import functools
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from tools.edge.lce_files import RELU, VALID, Conv, Graph, pack, words
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


def one(name: str, inputs: list, outputs: list, made: Any = None, dtype: str = "float32") -> bytes:
    """A file of one operator; inputs are constants, shapes, or types with shapes."""
    graph = Graph()
    scale = {"scale": 0.5} if dtype in ("int8", "uint8") else {}
    variables: list[int] = []

    def tensor(what: Any) -> int:
        if isinstance(what, np.ndarray):
            return graph.constant(what)
        if what and what[0] == "variable":
            variables.append(graph.tensor(what[1]))
            graph.graph.tensors[-1].isVariable = True
            return variables[-1]
        if what and isinstance(what[0], str):
            return graph.tensor(what[1], what[0])
        return graph.tensor(what, dtype, **scale)

    given, results = [tensor(what) for what in inputs], [tensor(what) for what in outputs]
    if isinstance(made, dict):
        graph.custom(name, given, results[0], made)
    else:
        graph.builtin(name, given, results[0], made)
    graph.graph.operators[-1].outputs = np.array(results, np.int32)
    fed = [i for i, what in zip(given, inputs, strict=True) if not isinstance(what, np.ndarray)]
    return graph.finish([i for i in fed if i not in variables], results)


def operators() -> list[bytes]:
    image, maps = (1, 4, 4, 2), options("Pool2D", strideH=2, strideW=2, filterHeight=2, filterWidth=2)
    resize = ("ResizeBilinear", "ResizeNearestNeighbor")
    index, whole = ("int32", (2,)), options("Reshape", newShape=ints(2, 6))
    return [
        one("GATHER", [(4, 3), ints(3, 0)], [(2, 3)], options("Gather")),
        one("GATHER", [(4, 3), index], [(2, 3)], options("Gather")),
        one("GATHER_ND", [(4, 3), ints([3, 0], [0, 2])], [(2,)]),
        one("SCATTER_ND", [ints([3], [0]), (2, 3), ints(4, 3)], [(4, 3)]),
        one("SEGMENT_SUM", [(4, 3), ints(0, 0, 1, 2)], [(3, 3)]),
        one("UNSORTED_SEGMENT_SUM", [(4, 3), ints(0, 2, 1, 1), number(3)], [(3, 3)]),
        one("REVERSE_SEQUENCE", [(4, 3), ints(1, 2, 3, 3)], [(4, 3)], options("ReverseSequence", seqDim=1)),
        one("REVERSE_V2", [(4, 3), ints(1)], [(4, 3)]),
        one("ONE_HOT", [index, number(3), ones(), ones()], [(2, 3)], options("OneHot", axis=-1)),
        one("PAD", [(2, 3), ints([1, 1], [0, 2])], [(4, 5)]),
        one("PADV2", [(2, 3), ints([1, 1], [0, 2]), ones(1)], [(4, 5)]),
        one("MIRROR_PAD", [(2, 3), ints([1, 1], [0, 2])], [(4, 5)], options("MirrorPad")),
        one("TILE", [(2, 3), ints(2, 1)], [(4, 3)]),
        one("SLICE", [(4, 3), ints(1, 0), ints(2, -1)], [(2, 3)]),
        one("STRIDED_SLICE", [(4, 3), ints(0, 0), ints(4, 3), ints(2, 1)], [(2, 3)], options("StridedSlice")),
        one("DYNAMIC_UPDATE_SLICE", [(4, 3), ones(2, 3), ints(1, 0)], [(4, 3)]),
        one("BROADCAST_TO", [(1, 3), ints(4, 3)], [(4, 3)]),
        one("RESHAPE", [(4, 3), ints(2, 6)], [(2, 6)], whole),
        one("SQUEEZE", [(4, 1, 3)], [(4, 3)], options("Squeeze", squeezeDims=ints(1))),
        one("EXPAND_DIMS", [(4, 3), ints(1)], [(4, 1, 3)]),
        one("TRANSPOSE", [(4, 3, 2), ints(2, 0, 1)], [(2, 4, 3)]),
        one("SPLIT", [number(0), (4, 3)], [(2, 3), (2, 3)], options("Split", numSplits=2)),
        one("SPLIT_V", [(4, 3), ints(1, 3), number(0)], [(1, 3), (3, 3)], options("SplitV", numSplits=2)),
        one("UNPACK", [(2, 3)], [(3,), (3,)], options("Unpack", num=2)),
        one("PACK", [(3,), ones(3)], [(2, 3)], options("Pack", valuesCount=2)),
        one("CONCATENATION", [(4, 3), ones(4, 2)], [(4, 5)], options("Concatenation", axis=1)),
        one("TOPK_V2", [(4, 3), number(2)], [(4, 2), ("int32", (4, 2))]),
        one("ARG_MAX", [(4, 3), ints(1)], [("int32", (4,))], options("ArgMax", outputType=2)),
        one("CUMSUM", [(4, 3), number(1)], [(4, 3)], options("Cumsum")),
        one("SUM", [(4, 3), ints(1)], [(4,)], options("Reducer")),
        one("SPACE_TO_BATCH_ND", [image, ints(2, 2), ints([0, 0], [0, 0])], [(4, 2, 2, 2)]),
        one("BATCH_TO_SPACE_ND", [(4, 2, 2, 2), ints(2, 2), ints([0, 0], [0, 0])], [image]),
        one("SPACE_TO_DEPTH", [image], [(1, 2, 2, 8)], options("SpaceToDepth", blockSize=2)),
        one("DEPTH_TO_SPACE", [(1, 2, 2, 8)], [image], options("DepthToSpace", blockSize=2)),
        *(one(n, [image, ints(8, 8)], [(1, 8, 8, 2)], options(o)) for n, o in zip(("RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR"), resize, strict=True)),
        *(one(f"{kind}_POOL_2D", [image], [(1, 2, 2, 2)], maps) for kind in ("MAX", "AVERAGE", "L2")),
        one("CONV_2D", [image, ones(3, 3, 3, 2), ones(3)], [(1, 4, 4, 3)], conv_options()),
        one("CONV_2D", [image, (3, 3, 3, 2), ones(3)], [(1, 4, 4, 3)], conv_options()),
        one("TRANSPOSE_CONV", [ints(1, 4, 4, 3), ones(3, 2, 2, 2), (1, 2, 2, 2)], [(1, 4, 4, 3)], options("TransposeConv", strideH=2, strideW=2)),
        one("CONV_3D", [(1, 3, 4, 4, 2), ones(2, 2, 2, 2, 3)], [(1, 3, 4, 4, 3)], options("Conv3D", strideD=1, strideH=1, strideW=1)),
        one("FULLY_CONNECTED", [(2, 4), ones(3, 4), ones(3)], [(2, 3)], options("FullyConnected")),
        one("BATCH_MATMUL", [(2, 3, 4), ones(2, 4, 5)], [(2, 3, 5)], options("BatchMatMul")),
        one("SOFTMAX", [(2, 4)], [(2, 4)], options("Softmax", beta=1.0)),
        one("L2_NORMALIZATION", [(2, 4)], [(2, 4)], options("L2Norm")),
        one("LOCAL_RESPONSE_NORMALIZATION", [image], [image], options("LocalResponseNormalization", radius=2)),
        one("PRELU", [image, ones(1, 1, 2)], [image]),
        one("SELECT_V2", [("bool", (4, 1)), (4, 3), ones(1, 3)], [(4, 3)]),
        one("WHERE", [("bool", (4, 3))], [("int64", (0, 2))]),
        one("SPARSE_TO_DENSE", [ints(1, 3), ints(5), ones(2), ones()], [(5,)]),
        one("FILL", [ints(2, 3), ()], [(2, 3)]),
        one("RANGE", [number(0), number(4), ("int32", ())], [("int32", (0,))]),
        one("MATRIX_DIAG", [(2, 3)], [(2, 3, 3)]),
        one("MATRIX_SET_DIAG", [(3, 3), ones(3)], [(3, 3)]),
        one("BUCKETIZE", [(4,)], [("int32", (4,))], options("Bucketize", boundaries=[0.0, 1.0])),
        one("EMBEDDING_LOOKUP", [index, ones(4, 3)], [(2, 3)]),
        one("UNIQUE", [(4,)], [(0,), ("int32", (4,))], options("Unique", idxOutType=2)),
        one("NON_MAX_SUPPRESSION_V4", [(3, 4), (3,), number(2), ones(), ones()], [("int32", (2,)), ("int32", ())]),
        one("MULTINOMIAL", [(2, 3), number(4)], [("int64", (2, 4))], options("Random", seed=1)),
        one("RFFT2D", [(1, 4, 4), ints(4, 4)], [("complex64", (1, 4, 3))]),
        one("SVDF", [(1, 3), ones(4, 3), ones(4, 2), ones(2), ("variable", (1, 8))], [(1, 2)], options("SVDF", rank=2)),
        one("AudioSpectrogram", [(64, 1)], [(1, 4, 9)], {"window_size": 16, "stride": 16, "magnitude_squared": True}),
        one("Mfcc", [(1, 4, 9), ints(8000)], [(1, 4, 5)], {"upper_frequency_limit": 4000, "lower_frequency_limit": 20, "filterbank_channel_count": 6, "dct_coefficient_count": 5}),
        one("TFLite_Detection_PostProcess", [(1, 4, 4), (1, 4, 3), ones(4, 4)], [(1, 2, 4), (1, 2), (1, 2), (1,)], {"max_detections": 2, "max_classes_per_detection": 1, "num_classes": 2, "nms_score_threshold": 0.1, "nms_iou_threshold": 0.5, "y_scale": 10.0, "x_scale": 10.0, "h_scale": 5.0, "w_scale": 5.0}),
    ]


def network() -> bytes:
    """A block: two binary convolutions with bits between them, a gate, a shortcut; then a pool."""
    first = Conv(channels=32, filters=32, size=(6, 6), output="bits")
    second = Conv(channels=32, filters=32, size=(6, 6), seed=5)
    graph = Graph()
    shape, bits = (1, 6, 6, 32), (1, 6, 6, 1)
    x, packed, between = graph.tensor(shape), graph.tensor(bits, "int32"), graph.tensor(bits, "int32")
    graph.custom("LceQuantize", [x], packed)
    filters = [graph.constant(pack(conv.weights())) for conv in (first, second)]
    thresholds = graph.constant(first.thresholds())
    graph.custom("LceBconv2d", [packed, filters[0], -1, -1, thresholds], between, first.options())
    y = graph.tensor(shape)
    affine = [graph.constant(value) for value in second.affine()]
    graph.custom("LceBconv2d", [between, filters[1], *affine, -1], y, second.options())
    mean, gate = graph.tensor((1, 32)), [graph.tensor((1, 32)), graph.tensor((1, 32))]
    graph.builtin("MEAN", [y, graph.constant(ints(1, 2))], mean, options("Reducer"))
    dense = [mean, graph.constant(ones(32, 32)), graph.constant(ones(32))]
    graph.builtin("FULLY_CONNECTED", dense, gate[0], options("FullyConnected"))
    graph.builtin("LOGISTIC", [gate[0]], gate[1])
    shaped = graph.tensor((1, 1, 1, 32))
    graph.builtin("RESHAPE", [gate[1], graph.constant(ints(1, 1, 1, 32))], shaped, options("Reshape"))
    scaled = graph.builtin("MUL", [y, shaped], graph.tensor(shape), options("Mul"))
    added = graph.builtin("ADD", [scaled, x], graph.tensor(shape), options("Add"))
    return graph.finish([x], [pool(graph, added, shape)])


def pool(graph: Graph, x: int, shape: tuple[int, ...]) -> int:
    batch, height, width, channels = shape
    packed = graph.tensor((*shape[:-1], words(channels)), "int32")
    half = (batch, height // 2, width // 2)
    pooled = graph.tensor((*half, words(channels)), "int32")
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
    shape, scale = (1, 4, 4, 8), {"scale": 0.5, "zero_point": 3}

    def constant(*sizes: int) -> int:
        return graph.tensor(sizes, "int8", bytes(int(np.prod(sizes))), scale=0.1)

    def result(*sizes: int) -> int:
        return graph.tensor(sizes, "int8", **scale)

    bias = graph.tensor((8,), "int32", bytes(32), scale=0.05)
    x = result(*shape)
    y = graph.builtin("CONV_2D", [x, constant(8, 3, 3, 8), bias], result(*shape), conv_options())
    depthwise = options("DepthwiseConv2D", strideH=1, strideW=1, depthMultiplier=1, dilationHFactor=1, dilationWFactor=1)
    z = graph.builtin("DEPTHWISE_CONV_2D", [y, constant(1, 3, 3, 8), bias], result(*shape), depthwise)
    z = graph.builtin("ADD", [z, x], result(*shape), options("Add"))
    windows = options("Pool2D", strideH=4, strideW=4, filterHeight=4, filterWidth=4)
    z = graph.builtin("AVERAGE_POOL_2D", [z], result(1, 1, 1, 8), windows)
    z = graph.builtin("FULLY_CONNECTED", [z, constant(8, 8), bias], result(1, 8), options("FullyConnected"))
    y = graph.tensor((1, 8), "int8", scale=1 / 256, zero_point=-128)
    return graph.finish([x], [graph.builtin("SOFTMAX", [z], y, options("Softmax", beta=1.0))])


def _branch(graph: Graph, operator: str, *, condition: bool = False) -> None:
    """A further subgraph with a number in and out."""
    main = graph.graph
    graph.graph = schema.SubGraphT()
    graph.graph.tensors, graph.graph.operators = [], []
    x = graph.tensor((1,))
    y = graph.tensor((1,), "bool" if condition else "float32")
    graph.builtin(operator, [x, graph.constant(ones(1))], y, options(operator.title()))
    graph.graph.inputs, graph.graph.outputs = [x], [y]
    graph.model.subgraphs.append(graph.graph)
    graph.graph = main


def branches(operator: str) -> bytes:
    """Control flow: IF, or WHILE."""
    graph = Graph()
    condition, x, y = graph.tensor((1,), "bool"), graph.tensor((1,)), graph.tensor((1,))
    if operator == "IF":
        _branch(graph, "ADD")
        _branch(graph, "MUL")
        graph.builtin("IF", [condition, x], y, options("If", thenSubgraphIndex=1, elseSubgraphIndex=2))
        return graph.finish([condition, x], [y])
    _branch(graph, "LESS", condition=True)
    _branch(graph, "ADD")
    graph.builtin("WHILE", [x], y, options("While", condSubgraphIndex=1, bodySubgraphIndex=2))
    return graph.finish([x], [y])


def variables() -> bytes:
    """A counter, whose initial value a subgraph sets once."""
    graph = Graph()
    x, y, z = (graph.tensor((1,)) for _ in range(3))
    handle = options("VarHandle", sharedName="counter", container="")
    main = graph.graph
    graph.graph = schema.SubGraphT()
    graph.graph.tensors, graph.graph.operators = [], []
    there = graph.builtin("VAR_HANDLE", [], graph.tensor((), "resource"), handle)
    graph.builtin("ASSIGN_VARIABLE", [there, graph.constant(ones(1))], 0)
    graph.graph.operators[-1].outputs = ints()
    graph.graph.inputs, graph.graph.outputs = [], []
    graph.model.subgraphs.append(graph.graph)
    graph.graph = main
    graph.builtin("CALL_ONCE", [], 0, options("CallOnce", initSubgraphIndex=1))
    graph.graph.operators[-1].outputs = ints()
    here = graph.builtin("VAR_HANDLE", [], graph.tensor((), "resource"), handle)
    graph.builtin("READ_VARIABLE", [here], y)
    graph.builtin("ADD", [x, y], z, options("Add"))
    graph.builtin("ASSIGN_VARIABLE", [here, z], 0)
    graph.graph.operators[-1].outputs = ints()
    return graph.finish([x], [z])


def signatures() -> bytes:
    """Two functions, each of a subgraph."""
    graph = Graph()
    _branch(graph, "MUL")
    x, y = graph.tensor((1,)), graph.tensor((1,))
    graph.builtin("ADD", [x, x], y, options("Add"))
    graph.model.signatureDefs = []
    for number, key in enumerate(("add", "mul")):
        entry = schema.SignatureDefT()
        entry.signatureKey, entry.subgraphIndex = key, number
        inner = (x, y) if number == 0 else (0, 2)
        inner = inner if number == 0 else tuple([*map(int, (graph.model.subgraphs[1].inputs[0], graph.model.subgraphs[1].outputs[0]))])
        entry.inputs, entry.outputs = [], []
        for entries, name, index in ((entry.inputs, "x", inner[0]), (entry.outputs, "y", inner[1])):
            item = schema.TensorMapT()
            item.name, item.tensorIndex = name, index
            entries.append(item)
        graph.model.signatureDefs.append(entry)
    return graph.finish([x], [y])


def strings() -> bytes:
    """Labels that an index chooses from."""
    graph = Graph()
    text = [b"cat", b"dog", b"fish"]
    ends = np.cumsum([4 * (len(text) + 2), *map(len, text)])
    labels = graph.tensor((3,), "string", ints(3, *ends).tobytes() + b"".join(text))
    x, y = graph.tensor((2,), "int32"), graph.tensor((2,), "string")
    graph.builtin("GATHER", [labels, x], y, options("Gather"))
    return graph.finish([x], [y])


@functools.lru_cache(maxsize=None)
def seeds() -> tuple[list[bytes], ...]:
    """Networks, single layers, and single operators."""
    small = {"size": (5, 5), "filters": 20}
    composed = [network(), pooling(), integers(), branches("IF"), branches("WHILE"), variables(), signatures(), strings()]
    layers = [
        Conv(channels=40, **small),
        Conv(channels=40, pad_values=0, **small),
        Conv(channels=64, groups=2, padding=VALID, output="bits", **small),
        Conv(channels=33, output="int8", input="int8", activation=RELU, **small),
        Conv(channels=32, kernel=(1, 1), stride=(2, 2), dilation=(3, 1), **small),
    ]
    packed = [
        packed_conv("lce", metadata=b'{"labels": ["a", "b"], "input_range": [0, 255]}')[0],
        packed_conv("litert", channels=5, dynamic_batch=True)[0],
        classifier(b'{"labels": ["a", "b", "c"]}'),
        classifier(integer=True),
    ]
    return composed, [*(layer.file() for layer in layers), *packed], operators()
