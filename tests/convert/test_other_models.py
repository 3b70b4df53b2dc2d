"""Models that are no SE-ResNets."""

import larq as lq
import numpy as np
import pytest
import tensorflow as tf

from larq_seresnet.convert import ConversionError, convert, fold, graph
from larq_seresnet.convert import __main__ as command
from larq_seresnet.edge import Interpreter
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
    with pytest.raises(ConversionError, match=r"cannot convert|no interpreter knows") as error:
        convert(model, target, images=noise)
    assert len(str(error.value).splitlines()) == 1


def test_unknown_input_size():
    images = tf.keras.Input((None, None, 3))
    for x in (images, tf.keras.layers.Rescaling(1 / 255)(images)):
        model = tf.keras.Model(images, tf.keras.layers.Conv2D(4, 3)(x))
        with pytest.raises(ConversionError, match="input shape must be known"):
            convert(model, "lce")


@pytest.fixture
def grouped():
    """Two grouped binary convolutions, which LCE converts and does not run."""
    layers = [
        lq.layers.QuantConv2D(
            64, 3, padding="same", pad_values=1.0, groups=2, use_bias=False, name=name, **BINARY
        )
        for name in ("left", "right")
    ]
    return tf.keras.Sequential(
        [
            tf.keras.Input((8, 8, 64)),
            layers[0],
            tf.keras.layers.BatchNormalization(),
            layers[1],
            tf.keras.layers.Flatten(),
            tf.keras.layers.Dense(5),
        ]
    )


def test_grouped_binary_convolutions_are_for_this_projects_runtime(grouped, tmp_path, capfd):
    with pytest.raises(
        ConversionError, match=r"grouped .*\(left, right\).* --no-lce-check"
    ) as error:
        convert(grouped, "lce")
    assert len(str(error.value).splitlines()) == 1

    grouped.save(tmp_path / "model.keras")
    file = tmp_path / "model.tflite"
    arguments = [str(tmp_path / "model.keras"), "--target", "lce", "--out", str(file)]
    assert command.main(arguments) == 1
    assert "--no-lce-check" in capfd.readouterr().err
    assert not file.exists()
    assert command.main([*arguments, "--no-lce-check"]) == 0
    network = Interpreter(file)
    assert network.metadata["verified_with"] == "larq_seresnet.edge"
    images = np.random.default_rng(0).normal(size=(9, 8, 8, 64)).astype(np.float32)
    expected = grouped.predict(images, verbose=0)
    np.testing.assert_allclose(network.predict(images), expected, rtol=1e-4, atol=1e-4)


def agrees_though_batch_norm_turns_signs_round(channels, layers, target, **options):
    model = tf.keras.Sequential(
        [
            tf.keras.Input((8, 8, channels)),
            tf.keras.layers.BatchNormalization(),
            *layers,
            tf.keras.layers.Flatten(),
            tf.keras.layers.Dense(5),
        ]
    )
    rng = np.random.default_rng(0)
    model.layers[0].gamma.assign(np.where(np.arange(channels) % 3, 1.0, -1.0))
    model.layers[0].moving_mean.assign(rng.normal(size=channels))
    images = rng.normal(size=(20, 8, 8, channels)).astype(np.float32)
    found = Interpreter(convert(model, target, images=images, **options)).predict(images)
    np.testing.assert_allclose(found, model.predict(images, verbose=0), rtol=1e-4, atol=1e-4)


def test_groups_that_read_one_pixel_of_what_batch_norm_turns_round():
    grouped = lq.layers.QuantConv2D(64, 1, groups=2, use_bias=False, **BINARY)
    agrees_though_batch_norm_turns_signs_round(64, [grouped], "lce", lce_check=False)


@pytest.mark.parametrize("target", TARGETS)
def test_signs_of_what_is_rectified_are_not_turned_round(target):
    conv = lq.layers.QuantConv2D(64, 1, use_bias=False, **BINARY)
    agrees_though_batch_norm_turns_signs_round(32, [tf.keras.layers.ReLU(), conv], target)


def test_without_lces_interpreter_a_file_is_verified_all_the_same(network, pictures, monkeypatch):
    def broken(work):
        genuine(work)
        convolution = next(op for op in work.operators if op.name == "LceBconv2d")
        kernel = convolution.inputs[1]
        convolution.inputs[1] = graph.Tensor.constant(~kernel.data)

    genuine = fold.fold
    model = network(activations="binary")
    convert(model, "lce", images=pictures, lce_check=False)
    monkeypatch.setattr(fold, "fold", broken)
    with pytest.raises(ConversionError, match="does not compute"):
        convert(model, "lce", images=pictures, lce_check=False)


@pytest.mark.parametrize(
    ("size", "kernel", "arguments"),
    [
        ((1, 1), 3, {}),
        ((2, 2), 3, {}),
        ((2, 2), 3, {"strides": 2}),
        ((4, 3), 5, {}),
        ((2, 9), (3, 5), {}),
        ((3, 3), 3, {"dilation_rate": 2}),
        ((3, 3), 3, {}),  # which LCE does right
    ],
)
def test_maps_smaller_than_the_kernel(operators, size, kernel, arguments):
    """LCE's own files of these are wrong (0.16)."""
    model = tf.keras.Sequential(
        [
            tf.keras.Input((*size, 40)),
            lq.layers.QuantConv2D(
                32, kernel, padding="same", use_bias=False, **arguments, **BINARY
            ),
            tf.keras.layers.BatchNormalization(),
        ]
    )
    gamma, beta, mean, variance = np.random.default_rng(0).uniform(0.5, 2, (4, 32))
    model.layers[-1].set_weights([gamma, beta, mean, variance])
    images = np.random.default_rng(1).normal(size=(9, *size, 40)).astype(np.float32)
    file = convert(model, "lce", images=images)
    expected = model.predict(images, verbose=0)
    np.testing.assert_allclose(Interpreter(file).predict(images), expected, rtol=1e-5, atol=1e-4)
    assert operators(file)["LceBconv2d"] == 1
    assert ("SUB" in operators(file)) == (size != (3, 3) or bool(arguments))


@pytest.mark.parametrize("target", TARGETS)
def test_layers_that_are_called_twice_are_stored_once(target):
    layers = [
        lq.layers.QuantConv2D(64, 3, use_bias=False, **KERNEL),
        tf.keras.layers.BatchNormalization(),
        lq.layers.QuantConv2D(64, 3, use_bias=False, **BINARY),
        tf.keras.layers.GlobalAveragePooling2D(),
    ]
    sizes = []
    for count in (1, 2):
        inputs = outputs = [tf.keras.Input((8, 8, 64)) for _ in range(count)]
        for layer in layers:
            outputs = [layer(x) for x in outputs]
        sizes.append(len(convert(tf.keras.Model(inputs, outputs), target)))
    assert sizes[1] - sizes[0] < 64 * 64 * 9 / 8  # a kernel's bits
