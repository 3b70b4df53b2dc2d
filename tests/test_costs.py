import larq as lq
import pytest
import tensorflow as tf

from larq_seresnet.costs import Costs, costs, summary
from larq_seresnet.models import SEResNet14Bin

layers = tf.keras.layers
KERNEL = {"kernel_quantizer": "ste_sign", "padding": "same", "use_bias": False}
# Of the network below: 3x3 kernels over 4x4 positions, and the dense layer.
FIRST, SECOND, DENSE = 9 * 2 * 8 * 16, 9 * 8 * 8 * 16, 8 * 2
# 1-bit kernels, a scale and a shift for each of 8 channels, dense layer with bias.
BYTES = (9 * 2 * 8 + 9 * 8 * 8) // 8 + 2 * 8 * 4 + (8 * 2 + 2) * 4
MAP = 4 * 4 * 8 * 4  # of 8 channels, float32
BITS = 4 * 4 * 4  # the same as bits, in words of 32 channels


def tiny(*, shortcut):
    images = tf.keras.Input((4, 4, 2))
    x = lq.layers.QuantConv2D(8, 3, **KERNEL)(images)
    x = layers.ReLU()(layers.BatchNormalization()(x))
    y = lq.layers.QuantConv2D(8, 3, input_quantizer="ste_sign", pad_values=1.0, **KERNEL)(x)
    x = layers.Add()([x, y]) if shortcut else y
    return tf.keras.Model(images, layers.Dense(2)(layers.GlobalAveragePooling2D()(x)))


@pytest.mark.parametrize(
    ("shortcut", "activations"),
    [
        (True, 3 * MAP),  # both terms of the addition, and their sum
        (False, 4 * 4 * 2 * 4 + MAP),  # the image and what the first convolution makes of it
    ],
)
def test_a_tiny_network(shortcut, activations):
    expected = Costs(FIRST + SECOND + DENSE, SECOND, BYTES, activations)

    assert costs(tiny(shortcut=shortcut)) == expected


def test_what_is_read_as_bits_and_as_floats_is_there_twice():
    x = images = tf.keras.Input((4, 4, 8))
    y = lq.layers.QuantConv2D(2, 3, input_quantizer="ste_sign", pad_values=1.0, **KERNEL)(x)
    z = layers.GlobalAveragePooling2D()(x)

    assert costs(tf.keras.Model(images, [y, z])).activation_bytes == MAP + BITS + MAP // 4 + 8 * 4


def test_the_attention_counts():
    with_gates = costs(SEResNet14Bin(width=4, blocks=(1,), activations="binary"))
    without = costs(SEResNet14Bin(width=4, blocks=(1,), activations="binary", gate=None, fmb=False))

    assert with_gates.binary_multiply_adds - without.binary_multiply_adds == 2 * 4 * 4


def test_a_model_within_a_model():
    body = SEResNet14Bin(width=4, blocks=(1,))
    outer = tf.keras.Sequential([layers.Rescaling(1.0, input_shape=(32, 32, 3)), body])

    assert costs(outer) == costs(body)


def test_the_summary():
    lines = []
    model = SEResNet14Bin()
    summary(model, lines.append)

    table, facts = lines
    (row,) = [line for line in table.splitlines() if "block1_se" in line]
    assert row.split()[-3:-1] == ["512", "64.00"]  # multiply-adds, KiB
    assert "192.00 at most" in table
    assert "28.29 KiB" in facts
    assert "192.00 KiB" in facts


def test_inputs_of_unknown_size():
    model = tf.keras.Sequential([layers.Conv2D(2, 3, input_shape=(None, None, 3))])
    with pytest.raises(ValueError, match="input shape is not known: build it"):
        costs(tf.keras.Sequential([layers.Dense(3)]))
    with pytest.raises(ValueError, match="size of the model's inputs is not known"):
        costs(model)
