"""Models that are no SE-ResNets."""

import larq as lq
import numpy as np
import pytest
import tensorflow as tf

from larq_seresnet.convert import ConversionError, convert
from larq_seresnet.layers import FMB

TARGETS = ("lce", "litert")
KERNEL = {"kernel_quantizer": "ste_sign", "kernel_constraint": "weight_clip"}
BINARY = {"input_quantizer": "ste_sign", **KERNEL}


def _vgg(filters, dense):
    """The network of Larq's CIFAR-10 tutorial."""
    layers = [
        lq.layers.QuantConv2D(filters, 3, use_bias=False, input_shape=(32, 32, 3), **KERNEL),
        tf.keras.layers.BatchNormalization(scale=False),
    ]
    for factor, pool in ((1, True), (2, False), (2, True), (4, False), (4, True)):
        layers.append(
            lq.layers.QuantConv2D(factor * filters, 3, padding="same", use_bias=False, **BINARY)
        )
        if pool:
            layers.append(tf.keras.layers.MaxPool2D(2))
        layers.append(tf.keras.layers.BatchNormalization(scale=False))
    layers.append(tf.keras.layers.Flatten())
    for units in (dense, dense, 10):
        layers.append(lq.layers.QuantDense(units, use_bias=False, **BINARY))
        layers.append(tf.keras.layers.BatchNormalization(scale=False))
    layers.append(tf.keras.layers.Activation("softmax"))
    return tf.keras.Sequential(layers)


def _calibrate(model, images):
    for layer in model.layers:
        if isinstance(layer, tf.keras.layers.BatchNormalization):
            layer.momentum = 0.0
    model(images, training=True)
    return model


@pytest.mark.parametrize("target", TARGETS)
def test_larqs_tutorial_network(pictures, agrees, target, sizes):
    model = _calibrate(_vgg(filters=16, dense=64), pictures)
    file = convert(model, target, images=pictures)
    agrees(file, model, target, pictures, deviating=1)
    assert sizes(file).other_weights == 0
    assert len(file) < model.count_params() / 8 + 20_000


@pytest.mark.parametrize("target", TARGETS)
def test_fmb_behind_an_activation_layer(pictures, agrees, operators, target):
    images = tf.keras.Input((32, 32, 3))
    x = lq.layers.QuantConv2D(24, 3, strides=2, activation="relu", **KERNEL)(images)
    gate = tf.keras.layers.GlobalAveragePooling2D(keepdims=True)(x)
    gate = lq.layers.QuantConv2D(24, 1, use_bias=False, **KERNEL)(gate)
    gate = FMB("tanh")(tf.keras.layers.Activation("tanh")(gate))
    x = tf.keras.layers.Multiply()([x, gate])
    x = tf.keras.layers.Flatten()(x)
    model = tf.keras.Model(images, lq.layers.QuantDense(10, activation="softmax", **KERNEL)(x))
    file = convert(model, target, images=pictures)
    agrees(file, model, target, pictures)
    assert "TANH" not in operators(file)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("channels", [1, 5, 32, 33])
def test_kernels_of_any_shape_are_restored_exactly(operators, channels, target):
    model = tf.keras.Sequential(
        [
            lq.layers.QuantConv2D(
                7, (3, 5), input_shape=(12, 12, channels), kernel_quantizer="magnitude_aware_sign"
            ),
            lq.layers.QuantDepthwiseConv2D(3, depthwise_quantizer="ste_sign"),
            lq.layers.QuantConv2D(40, 3, **KERNEL),
            lq.layers.QuantConv2D(40, 3, padding="same", **KERNEL),
            tf.keras.layers.Flatten(),
            lq.layers.QuantDense(33, **KERNEL),
        ]
    )
    images = np.random.default_rng(0).normal(size=(20, 12, 12, channels)).astype(np.float32)
    file = convert(model, target, images=images)
    assert ("LceDequantize" if target == "lce" else "GATHER") in operators(file)


@pytest.mark.parametrize("target", TARGETS)
def test_several_inputs_and_outputs(target, sizes):
    a, b = tf.keras.Input((16, 16, 8)), tf.keras.Input((16, 16, 8))
    x = lq.layers.QuantConv2D(32, 3, **KERNEL)(tf.keras.layers.Concatenate()([a, b]))
    y = lq.layers.QuantDense(10, activation="softmax", **KERNEL)(tf.keras.layers.Flatten()(x))
    model = tf.keras.Model([a, b], [x, y])
    images = [np.random.default_rng(i).uniform(0, 255, (5, 16, 16, 8)) for i in range(2)]
    file = convert(model, target, images=[x.astype(np.float32) for x in images])
    assert sizes(file).packed_weights > 0


def test_subclassed_model(pictures, sizes):
    class Network(tf.keras.Model):
        def __init__(self):
            super().__init__()
            self.conv = lq.layers.QuantConv2D(64, 3, **KERNEL)
            self.pool = tf.keras.layers.GlobalAveragePooling2D()

        def call(self, x):
            return self.pool(self.conv(x))

    model = Network()
    with pytest.raises(ConversionError, match="wrap a subclassed model"):
        convert(model, "litert", images=pictures)
    images = tf.keras.Input((32, 32, 3))
    wrapped = tf.keras.Model(images, model(images))
    assert sizes(convert(wrapped, "litert", images=pictures)).packed_weights


@pytest.mark.parametrize("target", TARGETS)
def test_what_the_converter_refuses_is_said_in_one_line(target):
    images = tf.keras.Input((8, 8, 1))
    model = tf.keras.Model(images, tf.linalg.inv(tf.squeeze(images, -1)))
    noise = np.random.default_rng(0).normal(size=(4, 8, 8, 1)).astype(np.float32)
    with pytest.raises(ConversionError, match=r"cannot (convert|run)") as error:
        convert(model, target, images=noise)
    assert len(str(error.value).splitlines()) == 1


def test_unknown_input_size():
    images = tf.keras.Input((None, None, 3))
    model = tf.keras.Model(images, tf.keras.layers.Conv2D(4, 3)(images))
    with pytest.raises(ConversionError, match="input shape must be known"):
        convert(model, "lce")
