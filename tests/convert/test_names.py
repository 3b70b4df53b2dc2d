"""Names of inputs and outputs, in Keras's order."""

import larq as lq
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert import interpreter as litert

from larq_seresnet.convert import convert
from larq_seresnet.edge import Interpreter

TARGETS = ("lce", "litert")
INPUTS = ("zebra", "aardvark", "mule")  # against the alphabet
OUTPUTS = ("steer", "brake", "gas")


def _inputs():
    return [tf.keras.Input((8, 8, 3), name=name) for name in INPUTS]


def _branches(inputs):
    """Networks that give different values for the same image."""
    for x, name in zip(inputs, OUTPUTS, strict=True):
        y = lq.layers.QuantConv2D(4, 3, kernel_quantizer="ste_sign", use_bias=False)(x)
        yield tf.keras.layers.Dense(5, name=name)(tf.keras.layers.Flatten()(y))


@pytest.fixture
def images():
    return [np.random.default_rng(i).uniform(0, 255, (3, 8, 8, 3)).astype("f4") for i in range(3)]


def _of_lists():
    inputs = _inputs()
    return tf.keras.Model(inputs, list(_branches(inputs)))


def _of_dicts():
    inputs = _inputs()
    outputs = zip(("right", "left", "up"), _branches(inputs), strict=True)
    return tf.keras.Model(dict(zip(("z", "a", "m"), inputs, strict=True)), dict(outputs))


def _given_twice():
    inputs = _inputs()
    steer, brake, gas = _branches(inputs)
    return tf.keras.Model(inputs, [gas, steer, gas, brake, inputs[0]])


def _nested():
    inputs = _inputs()
    body = _of_lists()
    tops = [tf.keras.layers.Dense(2, name=f"top_{name}") for name in "zab"]
    return tf.keras.Model(inputs, [top(y) for top, y in zip(tops, body(inputs), strict=True)])


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(
    ("build", "inputs", "outputs"),
    [
        (_of_lists, INPUTS, OUTPUTS),
        (_of_dicts, ("a", "m", "z"), ("left", "right", "up")),  # as Keras sorts them
        (_given_twice, INPUTS, ("gas", "steer", "gas_1", "brake", "zebra")),
        (_nested, INPUTS, ("top_z", "top_a", "top_b")),
    ],
)
def test_a_file_has_the_names_of_keras_in_its_order(images, build, inputs, outputs, target):
    model = build()
    network = Interpreter(convert(model, target))
    assert network.signatures == ["serving_default"]
    assert tuple(info.name for info in network.inputs) == inputs
    assert tuple(info.name for info in network.outputs) == outputs
    found = network.predict(dict(zip(inputs, images, strict=True)))
    for y, expected in zip(found, tf.nest.flatten(model(images)), strict=True):
        np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-2)


def test_a_stock_interpreter_finds_the_names(images):
    model = _of_lists()
    network = litert.Interpreter(model_content=convert(model, "litert"))
    assert [detail["name"] for detail in network.get_input_details()] == list(INPUTS)
    run = network.get_signature_runner("serving_default")
    found = run(**{name: x[:1] for name, x in zip(INPUTS, images, strict=True)})
    for name, expected in zip(OUTPUTS, model([x[:1] for x in images]), strict=True):
        np.testing.assert_allclose(found[name], expected, rtol=1e-4, atol=1e-2)


@pytest.mark.parametrize("target", TARGETS)
def test_one_input_and_output_have_names_too(target):
    model = tf.keras.Sequential(
        [tf.keras.Input((8, 8, 3), name="photo"), tf.keras.layers.Conv2D(4, 3, name="maps")]
    )
    network = Interpreter(convert(model, target, input_type="uint8", input_range=(0, 1)))
    assert ([i.name for i in network.inputs], [o.name for o in network.outputs]) == (
        ["photo"],
        ["maps"],
    )
