"""Images are excused where rounding turned a sign, and nowhere else."""

import larq as lq
import numpy as np
import pytest
import tensorflow as tf

from larq_seresnet import models
from larq_seresnet.convert import (
    conversion,
    converters,
    exact,
    fold,
    graph,
    keras_models,
    pixels,
    signs,
    verify,
)

TARGETS = ("lce", "litert")
AGREE = np.array([False, True, True])


def _sums(*shape):
    return np.random.default_rng(0).normal(size=(3, *shape)).astype(np.float32)


def _excused(sums, found, quantizer=lambda z: z >= 0):
    return signs.excused([quantizer] * len(sums), sums, found, AGREE)


def test_a_sign_of_a_sum_that_is_zero_but_for_rounding():
    first, second = _sums(4, 4, 5), _sums(2, 2, 5)
    first[0, 1, 2, 3] = 1e-6
    found = [first >= 0, second >= 0]
    found[0][0, 1, 2, 3] = False
    found[1][0] ^= True  # what follows may be anything
    assert _excused([first, second], found) == 1


def test_signs_of_other_sums_excuse_nothing():
    first, second = _sums(4, 4, 5), _sums(2, 2, 5)
    first[0, 1, 2, 3] = 1e-6
    first[0, 0, 0, 0] = 0.5
    found = [first >= 0, second >= 0]
    found[0][0, 1, 2, 3] = found[0][0, 0, 0, 0] = False
    assert _excused([first, second], found) == 0


def test_an_image_without_other_signs_is_not_excused():
    sums = _sums(4, 4, 5)
    assert _excused([sums], [sums >= 0]) == 0


def test_channels_that_are_turned_round_in_all_images():
    sums = _sums(4, 4, 40)
    sums[0, 1, 2, 3] = 1e-6
    found = sums >= 0
    found[0, 1, 2, 3] = False
    found[..., 7] ^= True
    assert _excused([sums], [found]) == 1
    negative = np.pad(~found, [(0, 0)] * 3 + [(0, 24)])
    words = np.packbits(negative, axis=-1, bitorder="little").view(np.int32)
    assert _excused([sums], [words]) == 1


def test_a_value_next_to_the_threshold_of_a_quantizer_of_more_bits():
    def quantizer(z):
        return np.rint(3 * np.clip(z, 0, 1))

    sums = np.abs(_sums(4, 4, 5))
    sums[0, 1, 2, 3] = 0.5 + 1e-7
    found = quantizer(sums)
    found[0, 1, 2, 3] = 1
    assert _excused([sums], [found], quantizer) == 1
    found[0, 1, 2, 3] = 3  # the next but one
    assert _excused([sums], [found], quantizer) == 0


def _residual(quantizer="ste_sign"):
    """Sums that are no whole numbers, as those of residual networks."""
    image = x = tf.keras.Input((12, 12, 32))
    for _ in range(3):
        y = lq.layers.QuantConv2D(
            32, 3, padding="same", input_quantizer=quantizer, kernel_quantizer="ste_sign"
        )(x)
        x = tf.keras.layers.Add()([x, tf.keras.layers.BatchNormalization()(y)])
    x = tf.keras.layers.GlobalAveragePooling2D()(x)
    return tf.keras.Model(image, tf.keras.layers.Dense(5)(x))


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("quantizer", ["ste_sign", "dorefa_quantizer"])
def test_all_quantizers_are_found_in_the_file(target, quantizer):
    model = _residual(quantizer)
    work = graph.parse(converters.run_converter(model, target))
    fold.fold(work)
    exact.keep_signs(work, [], keras_models.norms(model))
    pairs = signs.quantized(work, model)
    assert len(pairs) == len(verify._decisions(work, *signs.DECIDES)) == 3


@pytest.mark.parametrize("target", TARGETS)
def test_a_wrong_kernel_is_not_excused(target):
    model = _residual()
    images = np.random.default_rng(0).normal(size=(50, 12, 12, 32)).astype(np.float32)
    work = graph.parse(converters.run_converter(model, target))
    fold.fold(work)
    reference = verify.Reference(model, [images], target, [images], work)
    assert reference.compare(work)[0].passes(binary_activations=True)
    readers = [op for op in work.operators if op.name in ("CONV_2D", "LceBconv2d")]
    kernel = readers[1].inputs[1]
    wrong = kernel.data.copy()
    wrong[0] = ~wrong[0] if target == "lce" else -wrong[0]
    kernel.data = wrong
    found = reference.compare(work)[0]
    assert found.excused == 0
    assert not found.passes(binary_activations=True)


def test_excused_images_do_not_count_but_for_more_than_half():
    def passes(deviating, excused):
        found = verify.Verification(100, deviating, 0, 1e-6, signs=50_000, excused=excused)
        return found.passes(binary_activations=True)

    assert passes(1, 0)
    assert not passes(2, 0)
    assert passes(2, 2)
    assert passes(9, 8)
    assert not passes(9, 7)
    assert passes(50, 50)
    assert not passes(51, 51)


def test_where_rounding_alone_decides_the_error_tells_what_to_do():
    model = models.SEResNet14Bin(blocks=(1,), activations="binary")
    for layer in model._flatten_layers():
        if isinstance(layer, tf.keras.layers.BatchNormalization):
            layer.moving_mean.assign(layer.moving_mean + 0.1)  # as though it had seen images
    rounded = verify.Verification(images=10, deviating=9, ties=0, error=0, signs=1000, excused=9)
    assert "rounding alone turns signs" in conversion._hint(model, rounded, pixels.BYTES)
    wrong = verify.Verification(images=10, deviating=9, ties=0, error=0, signs=1000, excused=1)
    assert conversion._hint(model, wrong, pixels.BYTES) == ""
