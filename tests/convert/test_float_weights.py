"""Kernels that are not quantized, in two bytes or one."""

import json

import larq as lq
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter as StockInterpreter

from larq_seresnet.convert import __main__ as command
from larq_seresnet.convert import convert, graph, pack, rounding, run_conversion
from larq_seresnet.edge import Interpreter

TARGETS = ("lce", "litert")
KINDS = ("float16", "int8")
BYTES = {None: 4, "float16": 2, "int8": 1}
layers = tf.keras.layers


def _network(quantizer=None):
    """Float at its ends, binary in between."""
    return tf.keras.Sequential(
        [
            layers.Input((16, 16, 3)),
            layers.Rescaling(1 / 255),
            layers.Conv2D(32, 5, name="first"),
            layers.BatchNormalization(),
            layers.DepthwiseConv2D(5),
            lq.layers.QuantConv2D(
                32, 3, kernel_quantizer="ste_sign", input_quantizer=quantizer, use_bias=False
            ),
            layers.BatchNormalization(),
            layers.Flatten(),
            layers.Dense(10, activation="softmax", name="last"),
        ]
    )


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (100, 16, 16, 3)).astype(np.float32)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("quantizer", [None, "ste_sign"])
def test_a_file_gets_smaller_and_its_change_is_told(images, kind, target, quantizer):
    model = _network(quantizer)
    plain = run_conversion(model, target, images=images)
    conversion = run_conversion(model, target, images=images, float_weights=kind)
    count = {kernel.name: kernel.elements for kernel in conversion.kernels if kernel.bits > 1}
    saved = sum(count.values()) * (4 - BYTES[kind])
    assert len(plain.file) - len(conversion.file) == pytest.approx(saved, rel=0.1)
    assert {kernel.bits for kernel in conversion.kernels} == {1, 8 * BYTES[kind]}

    expected = model.predict(images, verbose=0)
    found = Interpreter(conversion.file).predict(images)
    facts = json.loads(graph.parse(conversion.file).metadata["larq_seresnet"])["float_weights"]
    assert facts["type"] == kind
    assert facts["images"] == len(images)
    assert facts["other_class"] == (found.argmax(1) != expected.argmax(1)).sum()
    assert 0 < facts["mean"] <= facts["largest"]
    if quantizer is None:
        assert facts["largest"] < {"float16": 1e-2, "int8": 1e-1}[kind]
        assert np.abs(found - expected).max() < facts["largest"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_stock_interpreter_runs_it(images, kind):
    file = convert(_network(), "litert", images=images, float_weights=kind)
    network = StockInterpreter(model_content=file)
    network.allocate_tensors()
    network.set_tensor(network.get_input_details()[0]["index"], images[:1])
    network.invoke()
    found = network.get_tensor(network.get_output_details()[0]["index"])
    np.testing.assert_allclose(found, Interpreter(file).predict(images[:1]), atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_rounding_is_the_closest_there_is(kind):
    kernel = np.random.default_rng(0).normal(size=(8, 3, 3, 64)).astype(np.float32)
    kernel[3] = 0
    work, tensor = _graph(kernel)
    rounding.round_kernels(work, kind)
    half_step = np.abs(kernel).max(axis=(1, 2, 3), keepdims=True) / 254
    if kind == "float16":
        half_step = np.abs(kernel) * 2**-11 + 1e-7
    assert (np.abs(tensor.data - kernel) <= half_step * 1.001).all()
    assert (np.abs(tensor.data - kernel) > 0).any()


def test_what_float16_cannot_hold_stays_float32():
    kernel = np.full((8, 3, 3, 64), 1e6, np.float32) * np.random.default_rng(0).uniform(size=64)
    work, tensor = _graph(kernel.astype(np.float32))
    rounding.round_kernels(work, "float16")
    assert np.array_equal(tensor.data, kernel.astype(np.float32))
    assert pack.pack(work, "litert")[0].bits == 32


def _graph(kernel):
    image = graph.Tensor(graph.TensorType.FLOAT32, (1, 8, 8, kernel.shape[3]))
    result = graph.Tensor(graph.TensorType.FLOAT32, (1, 6, 6, kernel.shape[0]))
    tensor = graph.Tensor.constant(kernel)
    convolution = graph.Operator.builtin("CONV_2D", [image, tensor, None], result)
    return graph.Graph([image], [result], [convolution]), tensor


def test_the_command_tells_the_change(tmp_path, capfd):
    _network().save(tmp_path / "model.keras")
    arguments = [str(tmp_path / "model.keras"), "--target", "litert", "--report"]
    arguments += ["--out", str(tmp_path / "model.tflite"), "--float-weights", "int8"]
    assert command.main(arguments) == 0
    printed = capfd.readouterr()
    assert "images change their class" in printed.err
    assert "rounded weights change the outputs by" in printed.out
    assert "8  2,400       first (CONV_2D): " in printed.out
