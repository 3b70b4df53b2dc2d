"""The native delegate against Larq Compute Engine and against the operators' definitions."""

import itertools

import numpy as np
import pytest

from tests.edge import reference
from tests.edge.running import available_kernels, invoke, load
from tools.edge.lce_files import SAME, VALID, Conv, Graph, grid, pack, words

# Larq Compute Engine's interpreter takes one layer at a time: this keeps the grid's run short.
LCE_KERNELS = [{"use_indirect_bgemm": True}, {}]


def test_every_layer_of_the_grid_equals_lce_to_the_last_bit(library, lce_interpreter):
    different = []
    for case in grid():
        file, x = case.file(), case.example()
        ours = invoke(load(library, file), x)
        # Its default kernel has no groups.
        for kernel in LCE_KERNELS[: 1 if case.groups > 1 else 2]:
            theirs = lce_interpreter(file, **kernel).predict(x)
            if not np.array_equal(ours, theirs):
                different.append((case, kernel))
    assert not different


@pytest.mark.parametrize("output", ["float32", "int8", "bits"])
def test_layers_follow_their_definition(library, output):
    for case in grid():
        if case.output != output:
            continue
        x = case.example()
        ours = invoke(load(library, case.file()), x)
        # Rounding may turn a value at the middle between two integers the other way.
        atol = 1 if output == "int8" else reference.rounding(case)
        np.testing.assert_allclose(ours, reference.run(case, x), atol=atol, err_msg=str(case))


def test_every_instruction_set_gives_the_same_bits(library):
    names = available_kernels(library)
    assert "portable" in names
    cases = grid()[::5]
    for case in [*cases, Conv(channels=4096), Conv(channels=64, size=(33, 31), filters=100)]:
        file, x = case.file(), case.example()
        results = [invoke(load(library, file, kernels=name), x) for name in names]
        assert all(np.array_equal(result, results[0]) for result in results), case


@pytest.mark.parametrize("threads", [2, 3, 7])
def test_threads_give_the_same_bits(library, threads):
    # Small layers use one thread; the portable kernels' idea of small is the smallest.
    for case, kernels in [
        (Conv(size=(40, 40), pad_values=0), "portable"),
        (Conv(size=(40, 40), channels=256, filters=250, output="bits"), "portable"),
        (Conv(size=(5, 5), channels=512, filters=256), "portable"),
        (Conv(size=(64, 64), kernel=(1, 1), output="int8", channels=320), "portable"),
        (Conv(size=(64, 64), channels=256, filters=250), ""),
    ]:
        file, x = case.file(), case.example()
        one, several = load(library, file), load(library, file, threads, kernels)
        expected = invoke(one, x)
        for _ in range(3):
            assert np.array_equal(invoke(several, x), expected)


@pytest.mark.parametrize("output", ["float32", "int8", "bits"])
def test_a_batch_equals_its_examples(library, output):
    case = Conv(channels=70, filters=37, output=output)
    interpreter = load(library, case.file())
    x = np.concatenate([Conv(channels=70, seed=seed).example() for seed in range(5)])
    batch = invoke(interpreter, x)
    assert batch.shape == (5, 8, 8, 37)
    for i in range(5):  # also: the interpreter can be resized again
        assert np.array_equal(batch[i : i + 1], invoke(interpreter, x[i : i + 1]))


def test_a_filter_larger_than_the_image(library):
    # Larq Compute Engine 0.16 forgets part of the zero padding here; the definition is clear.
    for padding in (0, 1):
        case = Conv(size=(2, 3), kernel=(5, 5), pad_values=padding)
        x = case.example()
        ours = invoke(load(library, case.file()), x)
        np.testing.assert_allclose(ours, reference.run(case, x), atol=reference.rounding(case))


def quantize_file(shape, dtype, **quantization):
    graph = Graph()
    x = graph.tensor(shape, dtype, **quantization)
    packed = graph.tensor((*shape[:-1], words(shape[-1])), "int32")
    graph.custom("LceQuantize", [x], packed)
    return graph, x, packed


@pytest.mark.parametrize("shape", [(1,), (5, 31), (2, 3, 32), (1, 4, 4, 100), (1, 2, 2, 2, 64)])
@pytest.mark.parametrize("kernels", ["portable", "avx2", "avx512", "neon"])
def test_quantize_takes_signs(library, shape, kernels):
    if kernels not in available_kernels(library):
        pytest.skip(f"this CPU has no {kernels}")
    graph, x, packed = quantize_file(shape, "float32")
    values = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    values.flat[:5] = [0.0, -0.0, -np.inf, np.nan, -1e-45][: values.size]
    result = invoke(load(library, graph.finish([x], [packed]), kernels=kernels), values)
    assert np.array_equal(result, pack(reference.signs(values)))


@pytest.mark.parametrize("zero_point", [-128, -3, 0, 127])
@pytest.mark.parametrize("kernels", ["portable", "avx2", "avx512", "neon"])
def test_quantize_int8_compares_with_the_zero_point(library, zero_point, kernels):
    if kernels not in available_kernels(library):
        pytest.skip(f"this CPU has no {kernels}")
    shape = (1, 3, 70)
    graph, x, packed = quantize_file(shape, "int8", scale=0.5, zero_point=zero_point)
    values = np.random.default_rng(0).integers(-128, 128, shape).astype(np.int8)
    result = invoke(load(library, graph.finish([x], [packed]), kernels=kernels), values)
    assert np.array_equal(result, pack(reference.signs(values.astype(int), zero_point)))


def test_quantize_bool_takes_true_for_plus_one(library):
    graph, x, packed = quantize_file((2, 40), "bool")
    values = np.random.default_rng(0).integers(0, 2, (2, 40)).astype(bool)
    result = invoke(load(library, graph.finish([x], [packed])), values)
    assert np.array_equal(result, pack(np.where(values, 1.0, -1.0)))


@pytest.mark.parametrize("dtype", ["float32", "int8"])
@pytest.mark.parametrize("channels", [1, 32, 75])
def test_dequantize_equals_lce(library, lce_interpreter, dtype, channels):
    graph, x, packed = quantize_file((1, 3, 3, channels), "float32")
    quantization = {"scale": 0.3, "zero_point": 4} if dtype == "int8" else {}
    y = graph.tensor((1, 3, 3, channels), dtype, **quantization)
    graph.custom("LceDequantize", [packed], y)
    file = graph.finish([x], [y])
    values = np.random.default_rng(0).normal(size=(1, 3, 3, channels)).astype(np.float32)
    ours = invoke(load(library, file), values)
    assert np.array_equal(ours, lce_interpreter(file).predict(values))
    if dtype == "float32":
        assert np.array_equal(ours, reference.signs(values))


@pytest.mark.parametrize("padding", [SAME, VALID])
@pytest.mark.parametrize("window", [(2, 2), (3, 2), (1, 1)])
@pytest.mark.parametrize("stride", [(1, 1), (2, 2), (1, 3)])
def test_max_pool_equals_lce(library, lce_interpreter, padding, window, stride):
    height, width, channels = 9, 8, 40
    graph, x, packed = quantize_file((1, height, width, channels), "float32")
    sizes = [
        -(-n // s) if padding == SAME else (n - k) // s + 1
        for n, k, s in zip((height, width), window, stride, strict=True)
    ]
    pooled = graph.tensor((1, *sizes, words(channels)), "int32")
    options = {
        "filter_height": window[0],
        "filter_width": window[1],
        "stride_height": stride[0],
        "stride_width": stride[1],
        "padding": padding,
    }
    graph.custom("LceBMaxPool2d", [packed], pooled, options)
    y = graph.tensor((1, *sizes, channels))
    graph.custom("LceDequantize", [pooled], y)
    file = graph.finish([x], [y])
    values = np.random.default_rng(0).normal(size=(1, height, width, channels)).astype(np.float32)
    ours = invoke(load(library, file), values)
    assert np.array_equal(ours, lce_interpreter(file).predict(values))


def test_a_constant_is_dequantized_once(library):
    """Its result is a constant too: not computed at an inference, and not in the arena."""
    weights = np.random.default_rng(0).choice([-1.0, 1.0], (64, 3, 3, 50))
    graph = Graph()
    y = graph.tensor(weights.shape)
    graph.custom("LceDequantize", [graph.constant(pack(weights))], y)
    x, total = graph.tensor((1, 1, 1, 50)), graph.tensor(weights.shape)
    graph.builtin("ADD", [x, y], total)
    interpreter = load(library, graph.finish([x], [total, y]))
    zeros = np.zeros((1, 1, 1, 50), np.float32)
    for _ in range(2):
        assert np.array_equal(invoke(interpreter, zeros), weights)
    constant = interpreter.tensor(interpreter.get_output_details()[1]["index"])
    assert np.array_equal(constant(), weights)
    constant()[0, 0, 0, 0] = 7  # would be overwritten if it were computed again
    assert invoke(interpreter, zeros)[0, 0, 0, 0] == 7


def test_int8_rounds_half_away_from_zero(library):
    # Sums are even; multiplied by 0.25 they end in .5 as often as not.
    case = Conv(channels=32, filters=16, kernel=(1, 1), output="int8")
    graph = Graph()
    x = graph.tensor((1, 8, 8, 32))
    packed = graph.tensor((1, 8, 8, 1), "int32")
    graph.custom("LceQuantize", [x], packed)
    constants = [np.full(16, 0.25, np.float32), np.zeros(16, np.float32)]
    y = graph.tensor((1, 8, 8, 16), "int8", scale=1.0)
    inputs = [packed, graph.constant(pack(case.weights())), *map(graph.constant, constants), -1]
    graph.custom("LceBconv2d", inputs, y, case.options())
    file = graph.finish([x], [y])
    values = case.example()
    exact = reference.convolve(reference.signs(values), case) * 0.25
    expected = np.sign(exact) * np.floor(np.abs(exact) + 0.5)
    assert (np.abs(exact) % 1 == 0.5).any()
    for kernels, threads in itertools.product(available_kernels(library), (1, 2)):
        result = invoke(load(library, file, threads, kernels), values)
        assert np.array_equal(result, expected)
