"""Outputs of all kinds are compared as strictly as logits are."""

import numpy as np
import pytest
import tensorflow as tf

from larq_seresnet.convert import ConversionError, conversion, convert
from larq_seresnet.convert.graph import parse
from larq_seresnet.edge import Interpreter

LAYERS = tf.keras.layers


def one_output(last):
    images = tf.keras.Input((6, 6, 3))
    return tf.keras.Model(images, last(LAYERS.Dense(5)(LAYERS.Flatten()(images))))


def activated(activation):
    return lambda logits: LAYERS.Dense(4, activation=activation)(logits)


def read_again(function):
    def last(logits):
        output = LAYERS.Dense(4, activation="softmax")(logits)
        return [output, function(output)]

    return last


def two_calls(layer):
    pair = tf.keras.Input((6, 6, 3)), tf.keras.Input((6, 6, 3))
    dense = LAYERS.Dense(3)
    return tf.keras.Model(pair, [layer(dense(LAYERS.Flatten()(x))) for x in pair])


def distance():
    pair = tf.keras.Input((6, 6, 3)), tf.keras.Input((6, 6, 3))
    dense = LAYERS.Dense(3)
    cosine = LAYERS.Dot(1, normalize=True)([dense(LAYERS.Flatten()(x)) for x in pair])
    return tf.keras.Model(pair, 1.0 - cosine)


MODELS = {
    "function": lambda: one_output(activated(tf.nn.softmax)),
    "operation": lambda: one_output(tf.nn.softmax),
    "lambda": lambda: one_output(LAYERS.Lambda(tf.nn.softmax)),
    "activation": lambda: one_output(LAYERS.Activation(tf.nn.softmax)),
    "masked": lambda: one_output(lambda logits: LAYERS.Softmax()(logits, mask=logits > 0)),
    "sigmoid": lambda: one_output(activated("sigmoid")),
    "one number": lambda: one_output(LAYERS.Dense(1)),
    "truth": lambda: one_output(lambda logits: logits > 0),
    "with its class": lambda: one_output(read_again(lambda x: tf.argmax(x, -1))),
    "with what reads it": lambda: one_output(read_again(LAYERS.Dense(2))),
    "twice": lambda: one_output(read_again(lambda x: x)),
    "another axis": lambda: tf.keras.Sequential(
        [LAYERS.Conv2D(4, 3, input_shape=(6, 6, 3)), LAYERS.Softmax(axis=1)]
    ),
    "a loop": lambda: tf.keras.Sequential(
        [LAYERS.Reshape((6, 18), input_shape=(6, 6, 3)), LAYERS.SimpleRNN(4, activation="softmax")]
    ),
    "a layer for two": lambda: two_calls(LAYERS.Softmax()),
    "a dense layer for two": lambda: two_calls(LAYERS.Dense(4, activation="softmax")),
    "distance": distance,
    "words": lambda: tf.keras.Sequential(
        [
            LAYERS.Embedding(50, 8, input_length=10),
            LAYERS.GlobalAveragePooling1D(),
            LAYERS.Dense(3, activation="softmax"),
        ]
    ),
}


@pytest.mark.parametrize("kind", MODELS)
def test_outputs_of_this_kind(kind):
    tf.keras.utils.set_random_seed(0)
    model = MODELS[kind]()
    file = convert(model, "litert")

    inputs = [np.random.default_rng(1).integers(0, 50, (9, *x.shape[1:])) for x in model.inputs]
    inputs = [x.astype(np.float32) for x in inputs]
    expected = tf.nest.flatten(model.predict(inputs, verbose=0))
    found = tf.nest.flatten(Interpreter(file).predict(inputs if len(inputs) > 1 else inputs[0]))
    for a, b in zip(expected, found, strict=True):
        np.testing.assert_allclose(np.asarray(b, float), np.asarray(a, float), atol=1e-4)


@pytest.mark.parametrize("kind", ["sigmoid", "one number", "distance"])
def test_a_wrong_kernel_is_found(kind, monkeypatch):
    def broken(file):
        work = parse(file)
        kernel = next(op.inputs[1] for op in work.operators if op.name == "FULLY_CONNECTED")
        kernel.data = kernel.data * np.where(np.arange(kernel.shape[0]) == 0, 1.01, 1)[:, None]
        kernel.data = kernel.data.astype(np.float32)
        return work

    monkeypatch.setattr(conversion, "parse", broken)
    with pytest.raises(ConversionError, match="does not compute what the model computes"):
        convert(MODELS[kind](), "litert")


def test_inputs_that_are_swapped_are_found(monkeypatch):
    def broken(file):
        work = parse(file)
        work.inputs.reverse()
        return work

    pair = tf.keras.Input((6, 6, 3)), tf.keras.Input((6, 6, 3))
    both = LAYERS.Concatenate()([LAYERS.Flatten()(x) for x in pair])
    model = tf.keras.Model(pair, LAYERS.Dense(3)(both))
    convert(model, "litert")
    monkeypatch.setattr(conversion, "parse", broken)
    with pytest.raises(ConversionError, match="does not compute what the model computes"):
        convert(model, "litert")


def test_what_cannot_be_compared_is_said():
    images = tf.keras.Input((6, 6, 3))
    with pytest.raises(ConversionError, match="one number for all images"):
        convert(tf.keras.Model(images, tf.reduce_mean(images)), "litert")
    with pytest.raises(ConversionError, match=r"not a model of Keras 2, but a builtins\.str"):
        convert("model.keras", "litert")
    huge = one_output(LAYERS.Activation("exponential"))
    with pytest.raises(ConversionError, match=r"not finite .*--input-range"):
        convert(huge, "litert")
    gelu = tf.keras.Sequential([LAYERS.Conv2D(4, 3, activation="gelu", input_shape=(6, 6, 3))])
    with pytest.raises(ConversionError, match=r"no interpreter knows \(Erfc\): the target litert"):
        convert(gelu, "lce")
