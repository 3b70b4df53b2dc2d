"""A `.tflite` is untrusted input: what is wrong with it is told, and nothing crashes."""

import dataclasses
import gc
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from larq_seresnet.edge import Interpreter, ModelError
from tools.edge.lce_files import RELU, SAME, VALID, Conv, Graph, pack, words

ROOT = Path(__file__).parents[2]


class Layer:
    """A Conv whose parts a test replaces by wrong ones."""

    def __init__(self, case: Conv) -> None:
        self.case = case
        self.options: dict | bytes = case.options()
        self.filters = pack(case.weights())
        self.multiplier, self.bias = case.affine()
        self.thresholds = case.thresholds()
        self.input_shape = (1, *case.size, words(case.channels))
        self.input_type = "int32"
        self.output_type = {"bits": "int32"}.get(case.output, case.output)
        self.quantization = {"scale": 1.0} if case.output == "int8" else {}
        self.constant_filters = True
        self.inputs: list[int] | None = None
        self.outputs = 1

    def file(self) -> bytes:
        graph = Graph()
        x = graph.tensor(self.input_shape, self.input_type)
        output_channels = (
            words(self.case.filters) if self.output_type == "int32" else self.case.filters
        )
        y = graph.tensor(
            (1, *self.case.output_size(), output_channels), self.output_type, **self.quantization
        )
        if self.constant_filters:
            filters = graph.constant(self.filters)
        else:
            filters = graph.tensor(self.filters.shape, "int32")
        affine = [graph.constant(self.multiplier), graph.constant(self.bias)]
        inputs = [x, filters, *affine, graph.constant(self.thresholds)]
        if self.inputs is not None:
            inputs = [inputs[i] if i >= 0 else -1 for i in self.inputs]
        graph.custom("LceBconv2d", inputs, y, self.options)
        if self.outputs == 2:
            spare = graph.tensor((1,))
            graph.graph.operators[-1].outputs = np.array([y, spare], np.int32)
        return graph.finish([x] if self.constant_filters else [x, filters], [y])


def refuse(file: bytes, message: str) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        Interpreter(file)
    assert "\n" not in str(caught.value)


CASE = Conv(channels=40, filters=20, size=(6, 6))


def test_the_undamaged_layer_is_fine(library):
    assert Interpreter(Layer(CASE).file()).outputs[0].shape == (1, 6, 6, 20)


@pytest.mark.parametrize("key", CASE.options())
def test_a_missing_option(library, key):
    layer = Layer(CASE)
    del layer.options[key]
    refuse(layer.file(), "LceBconv2d: the options are malformed or incomplete")


@pytest.mark.parametrize("key", CASE.options())
@pytest.mark.parametrize("value", [-1, 2**31 - 1, -(2**31), 2**40, "3", 1.5, [1], None])
def test_an_option_out_of_range(library, key, value):
    layer = Layer(CASE)
    layer.options[key] = value
    refuse(layer.file(), "LceBconv2d: ")


@pytest.mark.parametrize("key", ["stride_height", "stride_width", "channels_in"])
def test_an_option_that_is_zero(library, key):
    layer = Layer(CASE)
    layer.options[key] = 0
    refuse(layer.file(), "LceBconv2d: ")


@pytest.mark.parametrize("length", [0, 1, 2, 3, 10, 50, -1])
def test_options_that_are_cut_off(library, length):
    from flatbuffers import flexbuffers

    layer = Layer(CASE)
    layer.options = bytes(flexbuffers.Dumps(CASE.options()))[:length]
    refuse(layer.file(), "LceBconv2d: the options are malformed")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"inputs": [0, 1, 2, 3]}, "wrong number of inputs"),
        ({"inputs": [0, 1, 2, 3, 4, 4]}, "wrong number of inputs"),
        ({"outputs": 2}, "wrong number of outputs"),
        ({"inputs": [-1, 1, 2, 3, 4]}, "the input tensor is missing"),
        ({"inputs": [0, -1, 2, 3, 4]}, "the filter tensor is missing"),
        ({"inputs": [0, 1, -1, 3, 4]}, "the multiplier tensor is missing"),
        ({"inputs": [0, 1, 2, -1, 4]}, "the bias tensor is missing"),
        ({"inputs": [2, 1, 2, 3, 4]}, "the input tensor has type 1"),
        ({"input_type": "float32"}, "the input tensor has type 1"),
        ({"input_shape": (1, 6, 2)}, "the input tensor has 3 dimensions"),
        ({"input_shape": (1, 6, 6, 3)}, "40 input channels do not fit"),
        ({"input_shape": (1, 0, 6, 2)}, "size of zero"),
        (
            {"input_shape": (1, 2**30, 2**30, 2)},
            r"sizes are not positive or too large|needs [0-9,]+ MiB",
        ),
        ({"filters": np.zeros((20, 3, 3), np.int32)}, "the filter tensor has 3 dimensions"),
        ({"filters": np.zeros((20, 3, 3, 2), np.float32)}, "the filter tensor has type 1"),
        ({"filters": np.zeros((20, 3, 3, 3), np.int32)}, "do not divide"),
        ({"filters": np.zeros((20, 0, 3, 2), np.int32)}, "the filter tensor"),
        ({"constant_filters": False}, "the filter tensor is not a constant"),
        ({"multiplier": np.zeros(19, np.float32)}, "19 multipliers"),
        ({"bias": np.zeros(21, np.float32)}, "21 biases"),
        ({"bias": np.zeros((20, 1), np.float32)}, "the bias tensor has 2 dimensions"),
        ({"bias": np.zeros(20, np.int32)}, "the bias tensor has type 2"),
        ({"output_type": "uint8"}, "the output tensor has type"),
        ({"output_type": "int8", "quantization": {"scale": 0.0}}, "scale is not a positive"),
        ({"output_type": "int8", "quantization": {"scale": np.nan}}, "scale is not a positive"),
        ({"output_type": "int32", "thresholds": np.zeros(5, np.int32)}, "5 thresholds"),
        ({"output_type": "int32", "inputs": [0, 1, 2, 3, -1]}, "thresholds tensor is missing"),
    ],
)
def test_tensors_that_do_not_fit(library, change, message):
    layer = Layer(CASE)
    for name, value in change.items():
        setattr(layer, name, value)
    refuse(layer.file(), message)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"activation": RELU}, "cannot be fused with zero padding"),
        ({"output": "int8"}, "zero padding needs float32 output"),
        ({"output": "bits"}, "zero padding needs float32 output"),
    ],
)
def test_what_lce_does_not_define_either(library, change, message):
    case = dataclasses.replace(CASE, padding=SAME, pad_values=0, **change)
    refuse(Layer(case).file(), message)


def test_a_window_that_does_not_fit(library):
    case = dataclasses.replace(CASE, padding=VALID, kernel=(3, 3))
    layer = Layer(case)
    layer.options["dilation_height_factor"] = 3
    refuse(layer.file(), "out of range")


@pytest.mark.parametrize("value", [0, -1, 2**31 - 1, None])
@pytest.mark.parametrize("key", ["filter_height", "stride_width", "padding"])
def test_a_pool_with_wrong_options(library, key, value):
    graph = Graph()
    x, y = graph.tensor((1, 4, 4, 2), "int32"), graph.tensor((1, 2, 2, 2), "int32")
    options = {f"{k}_{a}": 2 for k in ("filter", "stride") for a in ("height", "width")}
    options |= {"padding": VALID, key: value}
    if value is None:
        del options[key]
    graph.custom("LceBMaxPool2d", [x], y, options)
    file = graph.finish([x], [y])
    if (key, value) == ("padding", 0):
        Interpreter(file)
    else:
        refuse(file, "LceBMaxPool2d: ")


@pytest.mark.parametrize(
    ("input_", "output", "message"),
    [
        (((1, 4), "int32", {}), ((1, 1), "int32", {}), "the input tensor has type 2"),
        (((1, 4), "float32", {}), ((1, 1), "float32", {}), "the output tensor has type 1"),
        (((), "float32", {}), ((), "int32", {}), "shape is not supported"),
        (((1,) * 9, "float32", {}), ((1,) * 9, "int32", {}), "shape is not supported"),
        (((1, 0), "float32", {}), ((1, 0), "int32", {}), "size of zero"),
        (
            ((1, 4), "int8", {"scale": 1.0, "zero_point": 128}),
            ((1, 1), "int32", {}),
            "zero point",
        ),
    ],
)
def test_quantize_with_wrong_tensors(library, input_, output, message):
    graph = Graph()
    x, y = (graph.tensor(shape, dtype, **q) for shape, dtype, q in (input_, output))
    graph.custom("LceQuantize", [x], y)
    refuse(graph.finish([x], [y]), message)


@pytest.mark.parametrize(
    ("input_", "output", "message"),
    [
        (((1, 1), "float32", {}), ((1, 4), "float32", {}), "the input tensor has type 1"),
        (((1, 1), "int32", {}), ((1, 4), "int32", {}), "the output tensor has type 2"),
        (((1, 1), "int32", {}), ((1, 33), "float32", {}), "33 channels do not fit"),
        (((1, 2), "int32", {}), ((1, 32), "float32", {}), "32 channels do not fit"),
        (((1, 1), "int32", {}), ((4,), "float32", {}), "shapes are not supported"),
        (((1, 1), "int32", {}), ((1, 4), "int8", {"scale": 0.0}), "scale"),
        (
            ((1, 1), "int32", {}),
            ((1, 4), "int8", {"scale": 1.0, "zero_point": -129}),
            "zero point",
        ),
    ],
)
def test_dequantize_with_wrong_tensors(library, input_, output, message):
    graph = Graph()
    x, y = (graph.tensor(shape, dtype, **q) for shape, dtype, q in (input_, output))
    graph.custom("LceDequantize", [x], y)
    refuse(graph.finish([x], [y]), message)


def test_a_file_that_is_cut_off_anywhere(library):
    file = CASE.file()
    for length in range(0, len(file) - 1, 7):
        with pytest.raises(ModelError):
            Interpreter(file[:length])


@pytest.mark.parametrize("content", [b"", b"TFL3", b"\0\0\0\0TFL3", b"\xff" * 100, b"x" * 5000])
def test_a_file_that_is_something_else(content):
    with pytest.raises(ModelError):
        Interpreter(content)


def fuzz(*arguments: str) -> None:
    if not shutil.which("gcc"):
        pytest.skip("needs gcc with AddressSanitizer")
    command = [sys.executable, str(ROOT / "tools/edge/fuzz.py"), "--sanitize", *arguments]
    result = subprocess.run(command, capture_output=True, text=True)
    print(result.stdout)  # the seed of the day, and which files did what
    assert result.returncode == 0, result.stdout + result.stderr


def test_wrong_files():
    fuzz("--files", "300", "--seed", "1")


@pytest.mark.slow
def test_thousands_of_wrong_files():
    fuzz("--files", "8000", "--jobs", "2")


def resident_kib() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))


def grown_kib() -> int:
    """By how much a thousand loads make this process larger."""
    case = Conv(channels=256, filters=256, pad_values=0)  # 74 KB of filters, copied twice
    file, x = case.file(), case.example()

    def load_and_drop() -> None:
        Interpreter(file, threads=2).predict(x)

    for _ in range(50):
        load_and_drop()
    gc.collect()
    before = resident_kib()
    for _ in range(1000):
        load_and_drop()
    gc.collect()
    return resident_kib() - before


def test_a_thousand_loads_leak_nothing(library):
    # In a process of its own: what other tests have left in this one varies by as much.
    code = f"from {__name__} import grown_kib; print(grown_kib())"
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True
    )
    assert int(result.stdout) < 3000  # a leak of the filters alone would be 74,000 KiB
