"""What width 16 and 64 take: the operators and the bytes, as they were when this was written."""

import larq as lq
import pytest
import tensorflow as tf

from larq_seresnet.convert import convert, run_conversion
from larq_seresnet.convert.report import as_table, compare_sizes

SE = {"CAST": 6, "GREATER_EQUAL": 6, "MEAN": 7, "SOFTMAX": 1, "SUB": 1}
UNPACK_LITERT = {"BROADCAST_TO": 2, "CONCATENATION": 1, "GATHER": 1}
OPERATORS = {
    ("float", "lce"): {
        **SE,
        "ADD": 6,
        "CONV_2D": 15,
        "FULLY_CONNECTED": 13,
        "LceDequantize": 10,
        "MUL": 14,
        "RESHAPE": 4,
        "SPLIT": 4,
        "SPLIT_V": 3,
    },
    ("float", "litert"): {
        **SE,
        **UNPACK_LITERT,
        "ADD": 6,
        "CAST": 8,
        "CONV_2D": 15,
        "FULLY_CONNECTED": 13,
        "MUL": 14,
        "RESHAPE": 11,
        "SPLIT": 4,
        "SPLIT_V": 4,
    },
    ("binary", "lce"): {
        **SE,
        "ADD": 33,
        "AVERAGE_POOL_2D": 2,
        "CONV_2D": 1,
        "DIV": 1,
        "FULLY_CONNECTED": 3,
        "LceBconv2d": 24,
        "LceDequantize": 4,
        "LceQuantize": 18,
        "MUL": 22,
        "RESHAPE": 2,
        "SPLIT_V": 1,
    },
    ("binary", "litert"): {
        **SE,
        **UNPACK_LITERT,
        "ADD": 39,
        "AVERAGE_POOL_2D": 2,
        "CAST": 8,
        "CONV_2D": 13,
        "DIV": 1,
        "FULLY_CONNECTED": 15,
        "GREATER_EQUAL": 30,
        "MUL": 28,
        "PADV2": 12,
        "RESHAPE": 9,
        "SELECT_V2": 24,
        "SPLIT": 2,
        "SPLIT_V": 6,
    },
}
KIB = {
    ("float", "lce", 16): 36.1,
    ("float", "litert", 16): 36.5,
    ("binary", "lce", 16): 43.4,
    ("binary", "litert", 16): 44.7,
    ("float", "lce", 64): 405.5,
    ("float", "litert", 64): 406.1,
    ("binary", "lce", 64): 418.2,
}
SLOW = [pytest.param(*key, marks=pytest.mark.slow) for key in KIB if key[2] == 64]


@pytest.mark.parametrize(
    ("activations", "target", "width"), [*(key for key in KIB if key[2] == 16), *SLOW]
)
def test_bytes_and_operators(network, pictures, operators, activations, target, width):
    model = network(width=width, activations=activations)
    conversion = run_conversion(model, target, images=pictures)
    assert len(conversion.file) / 1024 == pytest.approx(KIB[activations, target, width], rel=0.005)
    found = operators(conversion.file)
    expected = OPERATORS[activations, target]
    if width == 64:  # whole words of 32 channels need no reshaping
        found["RESHAPE"] = expected["RESHAPE"]
    assert found == expected


@pytest.mark.parametrize("target", ["lce", "litert"])
@pytest.mark.parametrize("activations", ["float", "binary"])
def test_report_accounts_for_every_byte(network, pictures, activations, target, sizes):
    model = network(width=16, activations=activations)
    conversion = run_conversion(model, target, images=pictures)
    weights = sum(x.shape.num_elements() for x in model.weights if "kernel" in x.name)
    assert sum(kernel.elements for kernel in conversion.kernels) == weights
    found = sizes(conversion.file)
    *kinds, total = vars(found).values()
    assert sum(kinds) == total == len(conversion.file)
    # 195,600 binary weights; LCE's words of 32 bits are half empty at 16 channels.
    assert 195_600 / 8 <= found.packed_weights <= 195_600 / 8 * 1.08
    assert found.other_weights == 0
    unpacked = sizes(conversion.unpacked)
    assert sum(list(vars(unpacked).values())[:-1]) == len(conversion.unpacked)


def test_biases_of_one_length_are_no_tables(pictures, sizes):
    model = tf.keras.Sequential([tf.keras.Input((32, 32, 3))])
    for value in range(4):
        bias = tf.keras.initializers.RandomNormal(seed=value)
        model.add(lq.layers.QuantConv2D(16, 3, kernel_quantizer="ste_sign", bias_initializer=bias))
    assert sizes(convert(model, "litert", images=pictures[:9])).batch_norm == 4 * 16 * 4


def test_comparison_with_other_files(network, pictures):
    conversion = run_conversion(network(width=16), "lce", images=pictures)
    comparison = compare_sizes(conversion, "lce")
    assert comparison.file.total < comparison.dynamic_range_int8 / 6
    assert comparison.dynamic_range_int8 < comparison.float32 / 3
    assert comparison.lce == len(conversion.unpacked)
    assert comparison.larq_summary < comparison.file.total
    table = as_table(comparison)
    assert f"{comparison.file.packed_weights:,}" in table
    assert f"{comparison.float32:,}" in table


def test_the_report_of_a_model_that_larqs_summary_does_not_take(pictures):
    model = tf.keras.Sequential(
        [
            tf.keras.Input((32, 32, 3)),
            lq.layers.QuantConv2D(8, 3, kernel_quantizer=lambda x: lq.math.sign(x)),
        ]
    )
    comparison = compare_sizes(run_conversion(model, "litert", images=pictures[:9]), "litert")
    assert comparison.larq_summary is None
    assert "Larq's summary" not in as_table(comparison)
