"""The project's networks, in all variants, for both targets.

Conversion verifies every file itself; here other images than those it saw are compared again.
"""

import numpy as np
import pytest
import tensorflow as tf

from larq_seresnet.callbacks import FMBSchedule
from larq_seresnet.convert import convert, run_conversion

TARGETS = ("lce", "litert")
ACTIVATIONS = {"LOGISTIC", "TANH", "RELU_N1_TO_1", "MINIMUM", "MAXIMUM"}


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("activations", ["float", "binary"])
@pytest.mark.parametrize("fmb", [True, False])
@pytest.mark.parametrize(
    "gate", ["sigmoid", "tanh", pytest.param("hard_tanh", marks=pytest.mark.slow)]
)
def test_every_gate_for_both_targets(
    network, pictures, agrees, operators, gate, fmb, activations, target, sizes
):
    model = network(gate=gate, fmb=fmb, activations=activations)
    file = convert(model, target, images=pictures[:100])
    agrees(file, model, target, pictures[100:], deviating=1 if activations == "binary" else 0)
    found = operators(file)
    soft = not fmb and gate != "hard_tanh"  # which is fused into the operator before it
    assert bool(ACTIVATIONS.intersection(found)) == soft
    assert sizes(file).other_weights == 0
    if target == "litert":
        assert not any(name.startswith("Lce") for name in found)
    elif activations == "binary":
        assert found["LceBconv2d"] == 24


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("activations", ["float", "binary"])
@pytest.mark.parametrize(
    "arguments",
    [
        {"width": 6, "reduction": 2},
        pytest.param({"width": 5}, marks=pytest.mark.slow),
        {"width": 9, "reduction": 3, "gate": "tanh"},
        {"width": 6, "attention_scale": True},
        pytest.param({"width": 6, "attention_scale": True, "fmb": False}, marks=pytest.mark.slow),
        pytest.param({"width": 20, "classes": 7}, marks=pytest.mark.slow),
        {"gate": None, "fmb": False},
    ],
    ids=str,
)
def test_odd_widths_reductions_and_no_attention(
    network, pictures, agrees, arguments, activations, target, sizes
):
    model = network(activations=activations, **arguments)
    file = convert(model, target, images=pictures[:100])
    agrees(file, model, target, pictures[100:], deviating=1 if activations == "binary" else 0)
    assert sizes(file).other_weights < 600  # kernels of a few bytes are not worth unpacking


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("activations", ["float", "binary"])
def test_negative_batch_norm_scales(network, pictures, agrees, activations, target):
    model = network(activations=activations, negative=0.3)
    file = convert(model, target, images=pictures[:100])
    agrees(file, model, target, pictures[100:], deviating=1 if activations == "binary" else 0)


@pytest.mark.parametrize("target", TARGETS)
def test_model_trained_in_bfloat16(network, pictures, agrees, target):
    tf.keras.mixed_precision.set_global_policy("mixed_bfloat16")
    model = network()
    tf.keras.mixed_precision.set_global_policy("float32")
    reference = network()
    reference.set_weights(model.get_weights())
    agrees(convert(model, target, images=pictures[:100]), reference, target, pictures[100:])


def test_gates_that_the_schedule_made_soft_are_exported_soft(network, pictures, operators):
    model = network(fmb=True)
    schedule = FMBSchedule(epochs=1)
    schedule.set_model(model)
    schedule.on_epoch_begin(1)
    assert operators(convert(model, "litert", images=pictures))["LOGISTIC"] == 6


def test_the_scale_of_binarized_gates_is_not_in_the_file(network, pictures):
    plain, scaled = network(width=4), network(width=4, attention_scale=True)
    scaled.set_weights(plain.get_weights())
    assert convert(scaled, "litert", images=pictures) == convert(plain, "litert", images=pictures)


@pytest.mark.parametrize("target", TARGETS)
def test_uint8_images(network, pictures, agrees, target):
    model = network()
    conversion = run_conversion(model, target, input_type="uint8", images=pictures)
    agrees(conversion.file, model, target, pictures)
    assert conversion.verification.images == len(pictures)


def test_the_model_is_left_as_it_is(network, pictures):
    model = network()
    config, weights = model.get_config(), model.get_weights()
    convert(model, "lce", images=pictures)
    assert model.get_config() == config
    assert all(map(np.array_equal, model.get_weights(), weights))


def test_float32_networks_keep_their_weights(calibrated, pictures, agrees, sizes):
    from larq_seresnet.models import SEResNet14

    model = calibrated(SEResNet14(width=4, fmb=True))
    file = convert(model, "litert", images=pictures)
    agrees(file, model, "litert", pictures)
    assert sizes(file).packed_weights == 0


@pytest.mark.parametrize("target", TARGETS)
def test_the_same_model_gives_the_same_file(network, pictures, target):
    model = network()
    assert convert(model, target, images=pictures) == convert(model, target, images=pictures)
