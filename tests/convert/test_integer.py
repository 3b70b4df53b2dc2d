import json

import larq as lq
import numpy as np
import pytest
import tensorflow as tf

from larq_seresnet.convert import convert, graph, run_conversion, runners
from larq_seresnet.convert.__main__ import main
from larq_seresnet.convert.converters import run_converter
from larq_seresnet.edge import Interpreter


@pytest.fixture
def converted(network, pictures):
    return run_conversion(
        network(fmb=True),
        "litert",
        activations="int8",
        examples=pictures[:50],
        images=pictures,
        metadata={"labels": list("0123456789")},
    )


def test_a_bit_holds_each_weight(converted):
    assert len(converted.kernels) == 28
    assert {kernel.bits for kernel in converted.kernels if kernel.elements > 300} == {1}
    assert len(converted.file) < len(converted.unpacked) / 2


def test_the_device_computes_to_the_bit_what_the_converter_wrote(converted, pictures, network):
    expected = run_converter(network(fmb=True), "int8", pictures[:50])

    found = Interpreter(converted.file).predict(pictures)

    np.testing.assert_array_equal(found, Interpreter(expected).predict(pictures))


def test_the_stock_interpreter_runs_it(converted, pictures):
    (stock,) = runners.run(converted.file, "litert", [pictures])
    ours = Interpreter(converted.file).predict(pictures)
    assert (stock.argmax(axis=1) == ours.argmax(axis=1)).mean() > 0.9


def test_what_it_changes_is_in_the_file(converted, pictures, network):
    facts = json.loads(graph.parse(converted.file).metadata["larq_seresnet"])
    change = facts["activations"]
    assert change["type"] == "int8"
    assert change["images"] == len(pictures)
    assert 0 < change["mean"] < 0.3
    found = Interpreter(converted.file).predict(pictures)
    expected = network(fmb=True).predict(pictures, verbose=0)
    assert np.abs(found - expected).mean() < 0.05
    assert facts["labels"] == list("0123456789")
    assert facts["input_range"] == [0, 255]


def test_kernels_of_three_values_take_two_bits(pictures):
    ternary = lq.layers.QuantConv2D(32, 3, kernel_quantizer="ste_tern", input_shape=(32, 32, 3))
    model = tf.keras.Sequential(
        [
            tf.keras.layers.Rescaling(1 / 255, input_shape=(32, 32, 3)),
            ternary,
            tf.keras.layers.GlobalAveragePooling2D(),
            tf.keras.layers.Dense(10),
        ]
    )
    file = run_conversion(model, "litert", activations="int8", examples=pictures, images=pictures)
    assert [kernel.bits for kernel in file.kernels] == [2, 8]


def test_what_it_cannot_do_is_refused(network, pictures):
    with pytest.raises(ValueError, match="for the target litert and inputs of float32"):
        convert(network(), "lce", activations="int8", examples=pictures)
    for further in ({"input_type": "uint8"}, {"float_weights": "int8"}):
        with pytest.raises(ValueError, match="for the target litert and inputs of float32"):
            convert(network(), "litert", activations="int8", examples=pictures, **further)
    with pytest.raises(ValueError, match="activations must be one of int8"):
        convert(network(), "litert", activations="int4")
    with pytest.raises(ValueError, match="which it was trained on is not known"):
        convert(network(), "litert", activations="int8")
    with pytest.raises(ValueError, match="do not fit inputs of"):
        convert(network(), "litert", activations="int8", examples=pictures[:, :16])
    with pytest.raises(ValueError, match="not finite"):
        convert(network(), "litert", activations="int8", examples=pictures * np.nan)
    with pytest.raises(ValueError, match="examples are for activations"):
        convert(network(), "litert", examples=pictures)
    with pytest.raises(ValueError, match="lce_check is for the target lce"):
        convert(network(), "litert", lce_check=False)
    loop = tf.keras.Sequential([tf.keras.layers.LSTM(4, input_shape=(32, 3))])
    with pytest.raises(ValueError, match=r"build lstm.* with unroll=True"):
        convert(loop, "litert", activations="int8", examples=pictures[:, 0])
    dense = tf.keras.Sequential([tf.keras.layers.Dense(4, input_shape=(9,))])
    with pytest.raises(ValueError, match=r"images do not fit inputs of \(9,\)"):
        convert(dense, "litert", activations="int8", metadata={"dataset": "digits"})
    binary = network(activations="binary")
    with pytest.raises(ValueError, match="int8 is for float activations"):
        convert(binary, "litert", activations="int8", examples=pictures)


def test_the_command(network, tmp_path, capsys):
    network().save(tmp_path / "model.keras")
    common = [str(tmp_path / "model.keras"), "--target", "litert", "--activations", "int8"]
    file = tmp_path / "model.tflite"

    assert main([*common, "--out", str(file)]) != 0
    assert not file.exists()
    assert main([*common, "--out", str(file), "--examples", "digits", "--report"]) == 0
    assert "activations of int8 change the outputs by" in capsys.readouterr().out
    assert Interpreter(file).metadata["activations"]["type"] == "int8"
