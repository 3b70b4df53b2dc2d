"""Whole networks, converted by Larq Compute Engine, on its own interpreter and on ours."""

import numpy as np
import pytest

from larq_seresnet.edge import Interpreter
from larq_seresnet.edge.model_file import ModelFile
from larq_seresnet.edge.unpack import unpack_constants

tf = pytest.importorskip("tensorflow")
lce = pytest.importorskip("larq_compute_engine")


def unpacked(content: bytes) -> bytes:
    return unpack_constants(ModelFile(content)).data


def build(images: np.ndarray, **options):
    from larq_seresnet import models

    model = models.SEResNet14Bin(**options)
    for layer in model.submodules:  # the statistics of a new network give astronomic logits
        if isinstance(layer, tf.keras.layers.BatchNormalization):
            layer.momentum = 0.0
    for _ in range(3):
        model(images, training=True)
    return model


@pytest.mark.parametrize(
    "options",
    [
        {"activations": "binary", "width": 16},
        pytest.param(
            {"activations": "binary", "width": 24, "gate": None, "fmb": False},
            marks=pytest.mark.slow,
        ),
        pytest.param(
            {"activations": "binary", "float_attention": True, "width": 16}, marks=pytest.mark.slow
        ),
        {"activations": "float", "width": 8},
    ],
    ids=["binary", "binary-without-se", "binary-with-float-se", "weights-only"],
)
def test_a_network_agrees_with_lce(library, lce_interpreter, options):
    images = np.random.default_rng(0).integers(0, 256, (24, 32, 32, 3)).astype(np.float32)
    file = lce.convert_keras_model(build(images, **options))
    expected = lce_interpreter(file, use_indirect_bgemm=True).predict(images)
    for threads in (1, 2):
        result = Interpreter(file, threads).predict(images)
        np.testing.assert_allclose(result, expected, atol=1e-5)


def test_an_int8_network_agrees_with_lce(library, lce_interpreter):
    import larq as lq

    binary = {"input_quantizer": "ste_sign", "kernel_quantizer": "ste_sign", "use_bias": False}
    images = tf.keras.Input((16, 16, 3))
    x = tf.keras.layers.Conv2D(32, 3)(images)
    x = tf.keras.layers.BatchNormalization()(x)
    for _ in range(2):
        y = lq.layers.QuantConv2D(32, 3, padding="same", pad_values=1.0, **binary)(x)
        x = tf.keras.layers.BatchNormalization()(y) + x
    x = tf.keras.layers.GlobalAveragePooling2D()(x)
    model = tf.keras.Model(images, tf.keras.layers.Dense(10)(x))
    file = lce.convert_keras_model(
        model,
        inference_input_type=tf.int8,
        inference_output_type=tf.int8,
        experimental_default_int8_range=(-3.0, 3.0),
    )
    x = np.random.default_rng(0).integers(-128, 128, (8, 16, 16, 3)).astype(np.int8)
    result = Interpreter(file).predict(x)
    expected = lce_interpreter(file, use_indirect_bgemm=True).predict(x)
    # Float kernels of the two runtimes round a value to the next integer differently.
    assert result.dtype == np.int8
    assert np.abs(result.astype(int) - expected).max() <= 1


@pytest.mark.parametrize("target", ["lce", "litert"])
def test_all_that_our_converter_packs_is_unpacked_on_loading(library, target):
    from larq_seresnet.convert import convert

    images = np.random.default_rng(0).integers(0, 256, (16, 32, 32, 3)).astype(np.float32)
    model = build(images, width=8)
    file = convert(model, target=target)
    loaded = ModelFile(unpacked(file))
    for operator in loaded.subgraphs[0].operators:
        tensors = [loaded.subgraphs[0].tensors[i] for i in operator.inputs]
        assert any(loaded.constant(tensor) is None for tensor in tensors), operator.name
        assert not operator.name.startswith("Lce")
    expected = model.predict(images, verbose=0)
    np.testing.assert_allclose(Interpreter(file).predict(images), expected, atol=1e-4)
