"""Recurrent layers around binary convolutions, as for keywords and gestures: loops in the file."""

import json

import larq as lq
import numpy as np
import pytest
import tensorflow as tf

from larq_seresnet.convert import (
    ConversionError,
    convert,
    graph,
    keras_models,
    run_conversion,
    writer,
)
from larq_seresnet.convert import __main__ as command
from larq_seresnet.edge import Interpreter

TARGETS = ("lce", "litert")
layers = tf.keras.layers
BINARY = {"kernel_quantizer": "ste_sign", "kernel_constraint": "weight_clip", "use_bias": False}
RECURRENT = {
    "LSTM": lambda: layers.LSTM(24, name="recurrent"),
    "GRU": lambda: layers.GRU(24, name="recurrent"),
    "a sequence": lambda: layers.LSTM(24, return_sequences=True, name="recurrent"),
    "both directions": lambda: layers.Bidirectional(layers.GRU(24), name="recurrent"),
    "simple": lambda: layers.SimpleRNN(24, name="recurrent"),
    "unrolled": lambda: layers.GRU(24, unroll=True, name="recurrent"),
}


def _keywords(recurrent):
    """Spectra in time, binary convolutions, a recurrent layer."""
    return tf.keras.Sequential(
        [
            layers.Input((20, 10, 4)),
            lq.layers.QuantConv2D(32, 3, padding="same", pad_values=1.0, name="first", **BINARY),
            layers.BatchNormalization(),
            lq.layers.QuantConv2D(32, 3, padding="same", input_quantizer="ste_sign", **BINARY),
            layers.BatchNormalization(),
            layers.Reshape((20, 320)),
            recurrent,
            layers.Dense(5, name="last"),
        ]
    )


def _gestures():
    """A binary network on each picture of a film, and what follows from them in time."""
    picture = tf.keras.Sequential(
        [
            layers.Input((12, 12, 3)),
            lq.layers.QuantConv2D(32, 3, **BINARY),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.GlobalAveragePooling2D(),
        ]
    )
    films = layers.Input((6, 12, 12, 3))
    x = layers.LSTM(16, name="recurrent")(layers.TimeDistributed(picture)(films))
    return tf.keras.Model(films, layers.Dense(4, name="last")(x))


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("kind", RECURRENT)
def test_a_recurrent_network_computes_what_keras_computes(kind, target):
    model = _keywords(RECURRENT[kind]())
    images = np.random.default_rng(0).normal(size=(100, 20, 10, 4)).astype(np.float32)
    conversion = run_conversion(model, target, images=images)
    assert len(conversion.graph.parts()) == {"unrolled": 1, "both directions": 5}.get(kind, 3)
    expected = model.predict(images, verbose=0)
    found = Interpreter(conversion.file).predict(images)
    differ = np.abs(found - expected).reshape(len(images), -1).max(axis=1) > 1e-4
    assert differ.sum() <= 1  # at a sign that rounding turned
    kernels = [keras_models.layer_name(model, kernel.name) for kernel in conversion.kernels]
    assert {"first", "recurrent", "last"} <= set(kernels)


@pytest.mark.parametrize("target", TARGETS)
def test_a_network_of_films(target):
    model = _gestures()
    images = np.random.default_rng(0).normal(size=(20, 6, 12, 12, 3)).astype(np.float32)
    file = run_conversion(model, target, images=images).file
    expected = model.predict(images, verbose=0)
    np.testing.assert_allclose(Interpreter(file).predict(images), expected, atol=1e-5)


@pytest.mark.parametrize("kind", ["float16", "int8"])
def test_the_weights_in_a_loop_are_rounded_too(kind):
    images = np.random.default_rng(0).normal(size=(20, 20, 10, 4)).astype(np.float32)
    model = _keywords(RECURRENT["LSTM"]())
    conversion = run_conversion(model, "litert", images=images, float_weights=kind)
    bits = {
        kernel.bits
        for kernel in conversion.kernels
        if keras_models.layer_name(model, kernel.name) == "recurrent"
    }
    assert bits == {{"float16": 16, "int8": 8}[kind]}
    assert conversion.change.largest < 0.1


def test_writing_what_was_read_changes_nothing():
    images = np.random.default_rng(0).normal(size=(9, 20, 10, 4)).astype(np.float32)
    file = run_conversion(_keywords(RECURRENT["a sequence"]()), "litert", images=images).file
    assert writer.to_bytes(graph.parse(file)) == file


def _loop_upon_loop():
    return tf.keras.Sequential(
        [
            layers.Input((20, 10)),
            lq.layers.QuantConv1D(32, 3, **BINARY),
            layers.LSTM(8, return_sequences=True, name="lower"),
            layers.Bidirectional(layers.GRU(8), name="upper"),
        ]
    )


def test_loops_that_lce_does_not_take_are_named_and_reported_without(tmp_path, capfd):
    model = _loop_upon_loop()
    with pytest.raises(ConversionError, match=r"\(it .*: build lower, .* for litert\)") as error:
        convert(model, "lce")
    assert len(str(error.value).splitlines()) == 1
    model.save(tmp_path / "model.keras")
    file = tmp_path / "model.tflite"
    arguments = [str(tmp_path / "model.keras"), "--target", "litert", "--out", str(file)]
    assert command.main([*arguments, "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["lce"] is None
    images = np.random.default_rng(0).normal(size=(9, 20, 10)).astype(np.float32)
    expected = model.predict(images, verbose=0)
    np.testing.assert_allclose(Interpreter(file).predict(images), expected, atol=1e-5)


@pytest.mark.parametrize("target", TARGETS)
def test_a_layer_that_keeps_its_state_is_named(target):
    model = tf.keras.Sequential(
        [layers.Input((20, 10), batch_size=1), layers.GRU(8, stateful=True, name="memory")]
    )
    with pytest.raises(ConversionError, match=r"memory keeps its state .* stateful=False"):
        convert(model, target)
