"""What is joined on loading gives what the operators one by one give."""

import numpy as np
import pytest

from larq_seresnet.edge import Interpreter, ModelError
from larq_seresnet.edge.fuse import fuse
from larq_seresnet.edge.model_file import ModelFile
from tests.edge.running import available_kernels, invoke, load
from tools.edge.lce_files import NONE, RELU, VALID, Conv, Graph, pack, words
from tools.edge.seed_files import gated_block, ints, ones, options

RANDOM = np.random.default_rng(0)


def names(file: bytes) -> list[str]:
    return [operator.name for operator in ModelFile(file).subgraphs[0].operators]


def outputs(library, file: bytes, x: np.ndarray, threads: int = 1, kernels: str = "") -> list:
    interpreter = load(library, file, threads, kernels)
    invoke(interpreter, x)
    return [interpreter.get_tensor(d["index"]) for d in interpreter.get_output_details()]


def test_a_block_becomes_six_operators():
    fused = fuse(ModelFile(gated_block()))
    expected = ["LceQuantize", "EdgeBconv2d", "EdgeBconv2d", "EdgeMean", "EdgeElementwise"]
    assert names(fused) == [*expected, "LceBconv2d", "EdgeBconv2d", "EdgeElementwise"]


@pytest.mark.parametrize(
    ("channels", "size", "fields"),
    [
        (16, (8, 8), {"activation": RELU}),
        (16, (5, 7), {"kernel": (2, 3)}),
        (16, (5, 7), {"kernel": (5, 1), "dilation": (2, 1)}),
        (7, (9, 4), {"pad_values": 0}),
        (24, (6, 6), {}),
        (32, (3, 5), {"kernel": (3, 3), "dilation": (2, 2)}),
        (64, (6, 6), {"groups": 2}),
        (100, (4, 4), {"pad_values": 0}),
    ],
)
@pytest.mark.parametrize("batch", [1, 3])
def test_a_block_is_equal_to_the_last_bit(library, channels, size, fields, batch):
    """Sums of the gate's average are cut otherwise; here its signs are the same."""
    file = gated_block(channels, size, batch, **fields)
    x = RANDOM.normal(0, 3, (batch, *size, channels)).astype(np.float32)
    expected = outputs(library, file, x)
    fused = fuse(ModelFile(file))
    assert "ADD" not in names(fused)
    for kernels in available_kernels(library):
        for threads in (1, 3):
            for ours, theirs in zip(
                outputs(library, fused, x, threads, kernels), expected, strict=True
            ):
                assert np.array_equal(ours, theirs)


@pytest.mark.parametrize("threads", [2, 5])
def test_threads_share_what_is_joined(library, threads):
    file = fuse(ModelFile(gated_block(64, (40, 40), 2)))
    x = RANDOM.normal(0, 3, (2, 40, 40, 64)).astype(np.float32)
    for one, several in zip(
        outputs(library, file, x, 1, "portable"),
        outputs(library, file, x, threads, "portable"),
        strict=True,
    ):
        assert np.array_equal(one, several)


def test_the_average_keeps_its_bound(library):
    """(n / 4 + 4) * 2^-24 times the mean of the magnitudes, of n pixels."""
    for kernels in available_kernels(library):
        for size, channels in [((1, 1), 3), ((7, 9), 20), ((32, 32), 16), ((61, 67), 35)]:
            graph = Graph()
            x, y = graph.tensor((2, *size, channels)), graph.tensor((2, 1, 1, channels))
            graph.custom("EdgeMean", [x], y)
            values = RANDOM.normal(1, 5, (2, *size, channels)).astype(np.float32)
            result = invoke(load(library, graph.finish([x], [y]), kernels=kernels), values)
            exact = values.astype(np.float64).mean((1, 2), keepdims=True)
            magnitude = np.abs(values.astype(np.float64)).mean((1, 2), keepdims=True)
            bound = (size[0] * size[1] / 4 + 4) * 2.0**-24 * magnitude
            assert (np.abs(result - exact) <= bound).all()


def test_special_numbers_are_as_in_tensorflow_lite(library):
    special = np.float32([0, -0.0, 1e-45, -1e-45, 3e38, -3e38, np.inf, -np.inf, np.nan, 1, -1])
    graph = Graph()
    shape = (1, 11, 11, 16)
    x, gate = graph.tensor(shape), graph.tensor((1, 1, 1, 16))
    scaled = graph.builtin("MUL", [x, gate], graph.tensor(shape), options("Mul"))
    relu = options("Add", fusedActivationFunction=RELU)
    added = graph.builtin("ADD", [scaled, x], graph.tensor(shape), relu)
    packed = graph.custom("LceQuantize", [added], graph.tensor((*shape[:3], 1), "int32"))
    file = graph.finish([x, gate], [added, packed])
    fused = fuse(ModelFile(file))
    assert names(fused) == ["EdgeElementwise"]
    values = np.resize(special, shape)
    gates = np.float32([0, 1] * 8).reshape(1, 1, 1, 16)
    results = []
    for content in (file, fused):
        interpreter = load(library, content)
        interpreter.allocate_tensors()
        for details, value in zip(interpreter.get_input_details(), (values, gates), strict=True):
            interpreter.set_tensor(details["index"], value)
        interpreter.invoke()
        results.append(
            [interpreter.get_tensor(d["index"]) for d in interpreter.get_output_details()]
        )
    (theirs, _), (ours, signs) = results
    known = ~np.isnan(theirs)
    finite = np.isfinite(theirs)  # XNNPACK takes the smallest numbers for 0
    np.testing.assert_allclose(ours[finite], theirs[finite], rtol=0, atol=2.0**-126)
    assert np.array_equal(ours[known & ~finite], theirs[known & ~finite])
    assert np.array_equal(signs, pack(np.where(ours < 0, -1, 1)))


def conv_file(follow, channels: int = 32, outputs: int = 1, **fields) -> bytes:
    """A float convolution on bits, and what `follow(graph, y)` puts behind it."""
    conv = Conv(channels=channels, filters=channels, **fields)
    graph = Graph()
    x = graph.tensor((1, *conv.size, words(channels)), "int32")
    affine = [graph.constant(value) for value in conv.affine()]
    y = graph.tensor((1, *conv.output_size(), channels))
    inputs = [x, graph.constant(pack(conv.weights())), *affine, -1]
    graph.custom("LceBconv2d", inputs, y, conv.options())
    return graph.finish([x], follow(graph, y))


def builtin(graph: Graph, name: str, x: int, other, activation: int = NONE) -> int:
    shape = tuple(graph.graph.tensors[x].shape)
    operand = graph.constant(other) if isinstance(other, np.ndarray) else other
    made = options(name.title(), fusedActivationFunction=activation)
    return graph.builtin(name, [x, operand], graph.tensor(shape), made)


@pytest.mark.parametrize(
    "follow",
    [
        lambda g, y: [builtin(g, "ADD", y, ones(1))],
        lambda g, y: [builtin(g, "ADD", y, ones(8, 8, 32))],
        lambda g, y: [builtin(g, "ADD", y, ones(32), 3)],
        lambda g, y: [builtin(g, "ADD", y, y)],
        lambda g, y: [builtin(g, "SUB", y, ones(32))],
        lambda g, y: [y, builtin(g, "ADD", y, ones(32))],
        lambda g, y: [builtin(g, "ADD", y, ones(32)), builtin(g, "MUL", y, ones(32))],
    ],
    ids=["scalar", "whole", "relu6", "itself", "difference", "output", "two readers"],
)
def test_what_is_none_of_ours_stays(follow):
    file = conv_file(follow)
    assert fuse(ModelFile(file)) == file


def test_an_order_that_is_not_ours_is_kept(library):
    """The multiplication comes first: the addition, and what follows, stay apart."""

    def follow(graph: Graph, y: int) -> list[int]:
        constant = RANDOM.normal(size=32).astype(np.float32)
        return [builtin(graph, "ADD", builtin(graph, "MUL", y, constant), constant)]

    file = conv_file(follow)
    fused = fuse(ModelFile(file))
    assert names(fused) == ["EdgeBconv2d", "ADD"]
    x = RANDOM.integers(-(2**31), 2**31, (1, 8, 8, 1)).astype(np.int32)
    assert np.array_equal(*(invoke(load(library, f), x) for f in (file, fused)))


def wrong_files() -> dict[str, bytes]:
    """Fused operators that contradict themselves."""
    made = {}

    def add(name: str, operator: str, inputs: list, results: list, content: bytes) -> None:
        graph = Graph()
        given = [
            graph.constant(i) if isinstance(i, np.ndarray) else graph.tensor(*i) for i in inputs
        ]
        after = [graph.tensor(*result) for result in results]
        graph.custom(operator, given, after[0], content)
        graph.graph.operators[0].outputs = np.array(after, np.int32)
        free = [i for i, value in zip(given, inputs, strict=True) if isinstance(value, tuple)]
        made[name] = graph.finish(free, after)

    image, bits = (1, 4, 4, 32), (1, 4, 4, 1)
    x, y = (image, "float32"), (image, "float32")
    shift, scale, gate, residual, step, to_float, to_bits = 1, 2, 4, 8, 16, 64, 128
    for name, flags, operand in [
        ("short shift", shift, ones(31)),
        ("long scale", scale, ones(33)),
        ("shift that is no constant", shift, ((32,), "float32")),
        ("whole numbers", shift, ints(*range(32))),
        ("gate of another image", gate, ((2, 1, 1, 32), "float32")),
        ("gate with rows", gate, ((1, 4, 1, 32), "float32")),
        ("narrow gate", gate, ((1, 1, 1, 16), "float32")),
        ("flat gate", gate, ((1, 32), "float32")),
        ("small residual", residual, ((1, 4, 3, 32), "float32")),
        ("residual of another rank", residual, ((4, 4, 32), "float32")),
        ("residual of bytes", residual, (image, "int8")),
        ("several steps", step, ones(32)),
    ]:
        add(name, "EdgeElementwise", [x, operand], [y], bytes([flags | to_float]))
    add("no options", "EdgeElementwise", [x], [y], b"")
    add("no output", "EdgeElementwise", [x], [y], bytes([0]))
    add("an output less", "EdgeElementwise", [x], [y], bytes([to_float | to_bits]))
    add("an input more", "EdgeElementwise", [x, ones(32)], [y], bytes([to_float]))
    add("bits as floats", "EdgeElementwise", [x], [y], bytes([to_bits]))
    add("floats as bits", "EdgeElementwise", [x], [(bits, "int32")], bytes([to_float]))
    add("input of bytes", "EdgeElementwise", [(image, "int8")], [y], bytes([to_float]))
    add("a scalar", "EdgeElementwise", [((), "float32")], [((), "float32")], bytes([to_float]))
    add("average of rows", "EdgeMean", [((4, 4, 32), "float32")], [((1, 32), "float32")], b"")
    add("average in three", "EdgeMean", [x], [((1, 1, 32), "float32")], b"")
    add("average of bytes", "EdgeMean", [(image, "int8")], [((1, 32), "int8")], b"")
    conv = Conv(channels=32, filters=32, size=(4, 4), kernel=(1, 1))
    inputs = [(bits, "int32"), pack(conv.weights()), *conv.affine()]
    add("a convolution without options", "EdgeBconv2d", [*inputs, ones(32)], [y], bytes([64]))
    return made


@pytest.mark.parametrize("name", wrong_files())
def test_fused_operators_of_a_file_are_checked(library, name):
    with pytest.raises(ModelError, match=r"EdgeElementwise|EdgeMean|EdgeBconv2d"):
        Interpreter(wrong_files()[name])


@pytest.mark.parametrize("channels", [16, 64])
@pytest.mark.parametrize("dilation", [(1, 10**8), (20_000, 20_000)])
def test_windows_that_reach_far_out_of_the_image_are_refused(library, channels, dilation):
    file = Conv(channels=channels, kernel=(3, 3), dilation=dilation).file()
    with pytest.raises(ModelError, match="the padded input is too large"):
        Interpreter(file)


def test_a_batch_whose_size_is_free(library):
    shape, free = (1, 4, 4, 16), (-1, 4, 4, 16)
    graph = Graph()
    x, y, z = (graph.tensor(shape, signature=free) for _ in range(3))
    graph.builtin("MUL", [x, graph.constant(ones(16) * 3)], y, options("Mul"))
    graph.builtin("ADD", [y, x], z, options("Add"))
    packed = graph.custom("LceQuantize", [z], graph.tensor((1, 4, 4, 1), "int32"))
    file = graph.finish([x], [z, packed])
    assert names(fuse(ModelFile(file))) == ["EdgeElementwise"]
    values = RANDOM.normal(size=(5, 4, 4, 16)).astype(np.float32)
    total, signs = Interpreter(file).predict(values)
    assert np.array_equal(total, values * np.float32(3) + values)
    assert np.array_equal(signs, pack(np.where(total < 0, -1, 1)))


@pytest.mark.parametrize("padding", [VALID, 0])
@pytest.mark.parametrize("kernel", [(2, 2), (3, 3), (4, 1), (5, 3)])
@pytest.mark.parametrize("channels", [1, 15, 16])
def test_few_channels_share_words(library, lce_interpreter, channels, kernel, padding):
    """Two rows of pixels lie in a word where there are at most 16 channels."""
    for stride in ((1, 1), (2, 2), (3, 1)):
        for pad_values in (0, 1):
            case = Conv(
                channels=channels, filters=20, size=(9, 10), kernel=kernel, stride=stride,
                padding=padding, pad_values=pad_values,
            )  # fmt: skip
            file, x = case.file(), case.example()
            expected = lce_interpreter(file, use_indirect_bgemm=True).predict(x)
            for kernels in available_kernels(library):
                assert np.array_equal(invoke(load(library, file, kernels=kernels), x), expected)
