"""How few bits hold a kernel, and that it comes back exactly."""

import json

import larq as lq
import numpy as np
import pytest
import tensorflow as tf

from larq_seresnet.convert import codes, convert, converters, graph, run_conversion
from larq_seresnet.convert.pack import pack
from larq_seresnet.edge import Interpreter
from larq_seresnet.edge.model_file import ModelFile
from larq_seresnet.edge.unpack import unpack_constants

TARGETS = ("lce", "litert")
RNG = np.random.default_rng(0)
layers = tf.keras.layers


def _of(values, shape, axis=0):
    """A kernel of these values, each channel with its own scale, some of them negative."""
    scale = RNG.normal(size=shape[axis]).astype(np.float32)
    kernel = RNG.choice(np.float32(values), size=shape)
    return np.moveaxis(np.moveaxis(kernel, axis, -1) * scale, -1, axis)


def _of_tables(count, shape):
    """A kernel whose channels have their own few values, on no grid."""
    tables = RNG.normal(size=(shape[0], count)).astype(np.float32)
    chosen = RNG.integers(count, size=(shape[0], int(np.prod(shape[1:]))))
    return np.take_along_axis(tables, chosen, axis=1).reshape(shape)


SHAPE = (16, 3, 3, 32)
KERNELS = {
    "signs": (_of([-1, 1], SHAPE), 1),
    "0 and 1": (np.abs(_of([0, 1], SHAPE)), 1),
    "ternary": (_of([-1, 0, 1], SHAPE), 2),
    "four levels": (_of([-3, -1, 1, 3], SHAPE), 2),
    "DoReFa of two bits": (_of(2 * np.float32([0, 1, 2, 3]) / np.float32(3) - 1, SHAPE), 2),
    "seven levels": (_of(range(-3, 4), SHAPE), 4),
    "sixteen levels": (_of(range(-8, 8), SHAPE), 4),
    "two values": (_of_tables(2, SHAPE), 1),
    "four values": (_of_tables(4, SHAPE), 2),
    "sixteen values": (_of_tables(16, SHAPE), 4),
    "powers of two": (_of([-1, -0.5, -0.25, 0, 0.25, 0.5, 1], SHAPE), 4),
    "a byte": (_of(range(-127, 128), (16, 3, 3, 320)), 8),
    "rows that fill no byte": (_of([-1, 0, 1], (7, 3, 3, 5)), 2),
    "values in rows that fill no byte": (_of_tables(3, (7, 3, 3, 15)), 2),
    "one channel": (_of_tables(3, (1, 3, 3, 333)), 2),
    "seventeen values": (_of_tables(17, SHAPE), None),
    "any values": (RNG.normal(size=SHAPE).astype(np.float32), None),
}


@pytest.mark.parametrize("kind", KERNELS)
def test_the_fewest_bits_are_found(kind):
    kernel, bits = KERNELS[kind]
    code, _ = codes.encode(kernel, 0)
    assert (code.bits if code else None) == bits


def _network(kernel):
    """A graph of one convolution of this kernel."""
    image = graph.Tensor(graph.TensorType.FLOAT32, (1, 8, 8, kernel.shape[3]))
    result = graph.Tensor(graph.TensorType.FLOAT32, (1, 6, 6, kernel.shape[0]))
    inputs = [image, graph.Tensor.constant(kernel), None]
    convolution = graph.Operator.builtin("CONV_2D", inputs, result, strideH=1, strideW=1, padding=1)
    return graph.Graph([image], [result], [convolution])


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("kind", KERNELS)
def test_a_kernel_is_restored_exactly(restored, kind, target):
    kernel, bits = KERNELS[kind]
    work = _network(kernel)
    (stored,) = pack(work, target)
    assert stored.bits == bits or (stored.bits, bits) == (32, None)
    assert stored.elements == kernel.size
    assert np.array_equal(restored(work), kernel)


def test_a_kernel_that_something_else_reads_is_left_alone():
    kernel = np.ones(SHAPE, np.float32)  # which float16 holds exactly
    work = _network(kernel)
    result = graph.Tensor(graph.TensorType.FLOAT32, SHAPE)
    work.operators.append(graph.Operator.builtin("ABS", [work.operators[0].inputs[1]], result))
    work.outputs.append(result)
    (stored,) = pack(work, "litert")
    assert (stored.bits, stored.nbytes) == (32, kernel.nbytes)


@pytest.fixture
def restored():
    """The kernel that the device's runtime has when it has loaded a graph's file."""
    from larq_seresnet.convert import writer

    def load(work):
        file = ModelFile(unpack_constants(ModelFile(writer.to_bytes(work))).data)
        (main,) = file.subgraphs
        (convolution,) = main.operators
        return file.constant(main.tensors[convolution.inputs[1]])

    return load


def _classifier(quantizer):
    model = tf.keras.Sequential(
        [
            layers.Input((12, 12, 16)),
            lq.layers.QuantConv2D(32, 3, kernel_quantizer=quantizer, use_bias=False),
            layers.BatchNormalization(),
            lq.layers.QuantDepthwiseConv2D(7, depthwise_quantizer=quantizer),
            lq.layers.QuantConv2D(32, 3, kernel_quantizer=quantizer),
            layers.Flatten(),
            layers.Dense(10),
        ]
    )
    batch_norm = model.layers[1]
    gamma = RNG.choice([-1, 1], 32) * RNG.uniform(0.5, 2, 32)
    batch_norm.set_weights([gamma, *RNG.normal(size=(2, 32)), RNG.uniform(1, 60, 32)])
    return model


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(
    ("quantizer", "bits"),
    [
        ("ste_sign", 1),
        ("ste_heaviside", 1),
        ("ste_tern", 2),
        (lq.quantizers.SteTern(ternary_weight_networks=True), 2),
        (lq.quantizers.DoReFa(2, mode="weights"), 2),
        (lq.quantizers.DoReFa(4, mode="weights"), 4),
    ],
)
def test_larqs_quantizers_take_what_they_should(quantizer, bits, target):
    model = _classifier(quantizer)
    images = RNG.normal(size=(8, 12, 12, 16)).astype(np.float32)
    conversion = run_conversion(model, target, images=images)
    stored = {kernel.operator: kernel for kernel in conversion.kernels}
    assert stored["CONV_2D"].bits == bits
    assert stored["DEPTHWISE_CONV_2D"].bits == bits
    assert stored["FULLY_CONNECTED"].bits == 32
    expected = model.predict(images, verbose=0)
    found = Interpreter(conversion.file).predict(images)
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


LAYERS = {
    "3-D": ((6, 8, 8, 16), lambda q: lq.layers.QuantConv3D(24, 3, kernel_quantizer=q)),
    "1-D": ((30, 16), lambda q: lq.layers.QuantConv1D(32, 5, kernel_quantizer=q)),
    "dense": ((64,), lambda q: lq.layers.QuantDense(99, kernel_quantizer=q)),
    "transposed": (
        (8, 8, 16),
        lambda q: lq.layers.QuantConv2DTranspose(32, 3, strides=2, kernel_quantizer=q),
    ),
    "separable": (
        (12, 12, 16),
        lambda q: lq.layers.QuantSeparableConv2D(
            64, 5, depthwise_quantizer=q, pointwise_quantizer=q
        ),
    ),
    "grouped": ((12, 12, 32), lambda q: lq.layers.QuantConv2D(64, 3, groups=4, kernel_quantizer=q)),
    "grouped, of one pixel": (
        (12, 12, 64),
        lambda q: lq.layers.QuantConv2D(64, 1, groups=2, kernel_quantizer=q),
    ),
    "dilated": (
        (16, 16, 16),
        lambda q: lq.layers.QuantConv2D(64, 3, dilation_rate=2, kernel_quantizer=q),
    ),
}


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(
    ("quantizer", "bits"),
    [("ste_sign", 1), ("ste_tern", 2), (lq.quantizers.DoReFa(2, mode="weights"), 2)],
)
@pytest.mark.parametrize("kind", LAYERS)
def test_kernels_of_every_kind_of_layer(kind, quantizer, bits, target):
    shape, layer = LAYERS[kind]
    model = tf.keras.Sequential([layers.Input(shape), layer(quantizer)])
    images = RNG.normal(size=(5, *shape)).astype(np.float32)
    conversion = run_conversion(model, target, images=images)
    assert {kernel.bits for kernel in conversion.kernels} == {bits}
    expected = model.predict(images, verbose=0)
    found = Interpreter(conversion.file).predict(images)
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("target", TARGETS)
def test_ternary_weights_and_binary_activations_keep_their_signs(target):
    arguments = {"kernel_quantizer": "ste_tern", "input_quantizer": "ste_sign"}
    model = tf.keras.Sequential(
        [
            layers.Input((12, 12, 16)),
            lq.layers.QuantConv2D(32, 3, use_bias=False, **arguments),
            layers.BatchNormalization(),
            lq.layers.QuantConv2D(32, 3, **arguments),
            layers.Flatten(),
            layers.Dense(10),
        ]
    )
    images = RNG.normal(size=(200, 12, 12, 16)).astype(np.float32)
    facts = graph.parse(convert(model, target, images=images)).metadata["larq_seresnet"]
    assert json.loads(facts)["deviating_images"] <= 2


@pytest.mark.parametrize("target", TARGETS)
def test_a_kernel_is_quantized_once_and_not_by_the_file(target):
    """Converters do not compute a quantizer's operators in front of large kernels."""
    seen = []

    def scaled_sign(x):  # as larq-zoo's DoReFaNet has it
        seen.append(tf.executing_eagerly())
        return lq.math.sign(x) * tf.reduce_mean(tf.abs(x))

    layer = lq.layers.QuantDense(300, kernel_quantizer=scaled_sign, use_bias=False)
    model = tf.keras.Sequential([layers.Input((200,)), layer])
    quantizer, expected = layer.kernel.quantizer, np.abs(layer.kernel.numpy()).mean()
    seen.clear()
    work = graph.parse(converters.run_converter(model, target))
    assert seen == [True]
    assert [operator.name for operator in work.operators] == ["FULLY_CONNECTED"]
    found = np.unique(work.operators[0].constant(1))
    np.testing.assert_allclose(found, [-expected, expected], rtol=1e-6)
    assert layer.kernel.quantizer is quantizer
