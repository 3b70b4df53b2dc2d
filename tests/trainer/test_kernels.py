"""The fused kernels against TensorFlow's own operators, and the fused network against Keras's."""

import numpy as np
import pytest
import tensorflow as tf

from larq_seresnet.models import SEResNet14, SEResNet14Bin
from training import kernels
from training.trainer.fused import fused

SHAPES = [
    (3, 4, 4, 16),
    (2, 5, 3, 3),
    (2, 2, 2, 64),
    (2, 3, 3, 128),
]  # also such that fill no lanes
CLOSE = {"float32": {"rtol": 1e-5, "atol": 1e-4}, "bfloat16": {"rtol": 0.02, "atol": 0.06}}


@pytest.fixture(autouse=True)
def _compiled():
    try:
        kernels.library()
    except kernels.UnavailableError as error:
        pytest.skip(str(error))


def draw(shape, dtype="float32"):
    return tf.cast(tf.random.normal(shape, seed=1), dtype)


def gradients(function, inputs):
    """The results of a function, and the gradients of a weighted sum of them."""
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        results = tf.nest.flatten(function(*inputs))
        loss = tf.add_n(
            [
                tf.reduce_sum(
                    tf.cast(result, tf.float32) * tf.random.stateless_normal(result.shape, (0, i))
                )
                for i, result in enumerate(results)
            ]
        )
    return [*results, *tape.gradient(loss, inputs)]


def assert_same(ours, theirs, dtype):
    for our, their in zip(ours, theirs, strict=True):
        assert our.dtype == their.dtype
        np.testing.assert_allclose(
            tf.cast(our, tf.float32), tf.cast(their, tf.float32), **CLOSE[dtype]
        )


@pytest.mark.parametrize("dtype", CLOSE)
@pytest.mark.parametrize("rectify", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_channel_sums(shape, rectify, dtype):
    def ours(x):
        return kernels.channel_sums(x, rectify=rectify)

    def reference(x):
        values = tf.cast(tf.nn.relu(x) if rectify else x, tf.float32)
        return tf.reduce_sum(tf.stack([values, values**2]), axis=(2, 3)), tf.identity(x)

    inputs = [draw(shape, dtype)]
    assert_same(gradients(ours, inputs), gradients(reference, inputs), dtype)


@tf.custom_gradient
def sign(x):
    return tf.where(x >= 0, tf.ones_like(x), -tf.ones_like(x)), lambda upstream: tf.where(
        tf.abs(x) <= 1, upstream, tf.zeros_like(upstream)
    )


OPTIONS = [
    {},
    {"relu": True},
    {"copies": 2},
    {"relu": True, "copies": 2},
    {"padding": (1, 1, 1, 1)},
    {"relu": True, "padding": (0, 1, 0, 2)},
    {"rectify": True},
    {"rectify": True, "relu": True, "copies": 2},
    {"rectify": True, "padding": (1, 1, 1, 1)},
]


@pytest.mark.parametrize("dtype", CLOSE)
@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("add", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_scale_shift(shape, add, options, dtype):
    def ours(x, scale, shift, *shortcuts):
        return kernels.scale_shift(x, scale, shift, shortcuts, **options)

    def reference(x, scale, shift, *shortcuts):
        x = tf.nn.relu(x) if options.get("rectify") else x
        y = tf.cast(x, tf.float32) * scale[:, None, None] + shift[:, None, None]
        for shortcut in shortcuts:
            y += tf.cast(shortcut, tf.float32)
        y = tf.cast(tf.nn.relu(y) if options.get("relu") else y, dtype)
        results = [tf.identity(y) for _ in range(options.get("copies", 1))]
        if padding := options.get("padding"):
            frame = [(0, 0), padding[:2], padding[2:], (0, 0)]
            results.append(tf.pad(sign(y), frame, constant_values=1))
        return results

    channels = (shape[0], shape[-1])
    inputs = [draw(shape, dtype), draw(channels), draw(channels), *[draw(shape, dtype)] * add]
    assert_same(gradients(ours, inputs), gradients(reference, inputs), dtype)


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize(
    ("shape", "outputs"),
    [((3, 5, 7, 16), 32), ((2, 10, 6, 32), 16), ((5, 8, 8, 64), 64), ((1, 3, 3, 16), 48)],
)
def test_conv2d(shape, outputs, padding):
    inputs = [draw(shape), draw((3, 3, shape[-1], outputs))]
    ours = gradients(lambda x, kernel: kernels.conv2d(x, kernel, (1, 1), padding), inputs)
    theirs = gradients(lambda x, kernel: tf.nn.conv2d(x, kernel, 1, padding), inputs)
    for our, their in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(our, their, rtol=0, atol=3e-6 * np.abs(their).max())


def test_sums_of_signs_are_exact():
    x, kernel = sign(draw((4, 9, 9, 64))), sign(draw((3, 3, 64, 32)))
    ours, theirs = kernels.conv2d(x, kernel, (1, 1), "SAME"), tf.nn.conv2d(x, kernel, 1, "SAME")
    np.testing.assert_array_equal(ours, theirs)


def test_other_convolutions_are_tensorflows():
    for x, kernel, stride in [
        (draw((2, 5, 5, 3)), draw((3, 3, 3, 16)), 1),
        (draw((2, 5, 5, 16)), draw((3, 3, 16, 16)), 2),
        (draw((2, 5, 5, 16)), draw((1, 1, 16, 16)), 1),
        (draw((2, 5, 5, 16), "bfloat16"), draw((3, 3, 16, 16), "bfloat16"), 1),
    ]:
        ours = kernels.conv2d(x, kernel, (stride, stride), "SAME")
        assert_same([ours], [tf.nn.conv2d(x, kernel, stride, "SAME")], ours.dtype.name)


def test_a_wrong_shape_is_an_error():
    x, channels = draw((2, 4, 4, 3)), draw((2, 3))
    with pytest.raises(tf.errors.InvalidArgumentError, match="scale and shift"):
        kernels.scale_shift(x, draw((2, 4)), draw((2, 4)))
    with pytest.raises(tf.errors.InvalidArgumentError, match="shortcut"):
        kernels.scale_shift(x, channels, channels, [draw((2, 4, 4, 4))])
    with pytest.raises(tf.errors.InvalidArgumentError, match="with the channels of x"):
        kernels.conv2d(draw((2, 4, 4, 32)), draw((3, 3, 16, 16)), (1, 1), "SAME")
    with pytest.raises(tf.errors.InvalidArgumentError, match="as large as the kernel"):
        kernels.conv2d(draw((2, 4, 2, 16)), draw((3, 3, 16, 16)), (1, 1), "VALID")


ODD = {"input_shape": (19, 26, 1), "mean": (128,), "variance": (4000,)}
NETWORKS = {
    "float": (SEResNet14, {}, "probabilities"),
    "weights-only": (SEResNet14Bin, {"fmb": False}, "probabilities"),
    "fmb": (SEResNet14Bin, {"gate": "tanh"}, "probabilities"),
    "no attention": (SEResNet14Bin, {"fmb": False, "gate": None}, "probabilities"),
    # Rounding turns single signs round, after which deeper layers see other inputs.
    "fully binary": (SEResNet14Bin, {"activations": "binary"}, "block1_add2"),
    "float attention": (
        SEResNet14Bin,
        {"activations": "binary", "float_attention": True},
        "block1_add2",
    ),
    "wide": (SEResNet14Bin, {"width": 16}, "probabilities"),
    "wide, fully binary": (SEResNet14Bin, {"width": 16, "activations": "binary"}, "block1_add1"),
    "max pool": (SEResNet14Bin, {"stem": 4, **ODD}, "probabilities"),
    "max pool, fully binary": (
        SEResNet14Bin,
        {"stem": 4, "activations": "binary", **ODD},
        "block1_add2",
    ),
}


@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("name", NETWORKS)
def test_the_fused_network_learns_the_same(name, shards):
    builder, arguments, last = NETWORKS[name]
    tf.keras.utils.set_random_seed(0)
    model = builder(**{"width": 4, "input_shape": (8, 8, 3), **arguments})
    model = tf.keras.Model(model.input, model.get_layer(last).output)
    shape = (16, *model.input_shape[1:])
    images = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    start = model.get_weights()
    results = []
    for network in (model, fused(model, shards)):
        model.set_weights(start)
        with tf.GradientTape() as tape:
            outputs = network(images, training=True)
            loss = tf.reduce_sum(outputs * tf.random.stateless_normal(outputs.shape, (0, 1)))
        learned = tape.gradient(loss, model.trainable_variables)
        moved = [variable.numpy() for variable in model.non_trainable_variables]
        results.append([outputs, *learned, *moved, network(images, training=False)])
        assert len(network.trainable_variables) == len(learned)
    for ours, theirs in zip(*results, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-3 * np.abs(ours).max() + 1e-5)


def test_the_fused_network_computes_in_bfloat16():
    tf.keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        model = SEResNet14Bin(width=16, input_shape=(8, 8, 3))
    finally:
        tf.keras.mixed_precision.set_global_policy("float32")
    images = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3)).astype(np.uint8)
    np.testing.assert_allclose(fused(model)(images), model(images), atol=0.05)


def test_a_batch_may_be_smaller_than_the_number_of_shards():
    model = SEResNet14Bin(width=4, input_shape=(8, 8, 3))
    images = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3)).astype(np.uint8)
    ours, theirs = fused(model, 4)(images), model(images)
    np.testing.assert_allclose(ours, theirs, atol=1e-4)


def test_every_normalization_and_convolution_of_the_network_is_fused():
    model = SEResNet14Bin(width=2, input_shape=(8, 8, 3), activations="binary")
    kinds = {type(layer).__name__ for layer in fused(model).layers}
    assert not kinds & {"BatchNormalization", "SqueezeExcite", "Add", "QuantConv2D"}


def test_frozen_normalizations_keep_their_statistics():
    model = SEResNet14Bin(width=2, input_shape=(8, 8, 3))
    model.get_layer("bn").trainable = False
    before = model.get_layer("bn").get_weights()
    fused(model)(draw((4, 8, 8, 3)), training=True)
    assert all(map(np.array_equal, before, model.get_layer("bn").get_weights()))


def test_without_a_compiler_the_reason_is_given(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("CXX", "/no/such/compiler")
    with pytest.raises(kernels.UnavailableError, match="compiler"):
        kernels.library.__wrapped__()


def test_a_failing_compiler_leaves_nothing(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("CXX", "false")
    with pytest.raises(kernels.UnavailableError, match="failed"):
        kernels.library.__wrapped__()
    assert not list((tmp_path / "larq-seresnet").iterdir())
