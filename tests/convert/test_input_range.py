"""Which values a model takes for black and white: in Keras, in the file, on the device."""

import json
import logging

import larq as lq
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from larq_seresnet.convert import __main__ as command
from larq_seresnet.convert import convert, graph, pixels
from larq_seresnet.edge.__main__ import main as edge

layers = tf.keras.layers
RANGES = [(0, 1), (-1, 1), (0, 255), (-2.5, 4)]


def _model(*first, channels=1):
    """A classifier whose outputs change when its pixels do, in any range."""
    return tf.keras.Sequential(
        [
            layers.Input((12, 12, channels)),
            *first,
            lq.layers.QuantConv2D(16, 3, kernel_quantizer="ste_sign", use_bias=False),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.Flatten(),
            layers.Dense(5, activation="softmax"),
        ]
    )


def _facts(file):
    return json.loads(graph.parse(file).metadata["larq_seresnet"])


@pytest.mark.parametrize("input_type", ["float32", "uint8"])
@pytest.mark.parametrize("target", ["lce", "litert"])
@pytest.mark.parametrize("limits", RANGES)
def test_the_device_gives_what_keras_gives(tmp_path, capsys, limits, target, input_type):
    low, high = limits
    model = _model(layers.BatchNormalization())
    model.layers[0].moving_mean.assign([(low + high) / 2])
    model.layers[0].moving_variance.assign([((high - low) / 4) ** 2])
    model.save(tmp_path / "model.keras")
    file = str(tmp_path / "model.tflite")
    arguments = [str(tmp_path / "model.keras"), "--target", target, "--out", file]
    arguments += ["--input-range", *map(str, limits), "--input", input_type]
    assert command.main(arguments) == 0

    images = np.random.default_rng(0).integers(0, 256, (9, 12, 12, 1), np.uint8)
    for number, image in enumerate(images):
        Image.fromarray(image[..., 0]).save(tmp_path / f"{number}.png")
    capsys.readouterr()
    paths = [str(tmp_path / f"{number}.png") for number in range(len(images))]
    assert edge(["classify", file, *paths, "--top", "5", "--json"]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    expected = model(low + images / 255 * (high - low)).numpy()
    for result, scores in zip(json.loads(printed.out), expected, strict=True):
        found = {entry["class"]: entry["score"] for entry in result["classes"]}
        np.testing.assert_allclose([found[i] for i in range(5)], scores, atol=1e-5)


@pytest.mark.parametrize(
    ("first", "limits"),
    [
        ((), None),
        ([layers.Rescaling(1 / 255)], (0, 255)),
        ([layers.Rescaling(1 / 256)], (0, 255)),
        ([layers.Rescaling(1 / 127.5, -1)], (0, 255)),
        ([layers.Rescaling(2, -1)], (0, 1)),
        ([layers.Rescaling(1 / 255), layers.Rescaling(2, -1)], (0, 255)),
        ([layers.Rescaling(7)], None),
        ([layers.Normalization(mean=[120, 110, 100], variance=[3600, 3500, 4000])], (0, 255)),
        ([layers.Normalization(mean=[0.48, 0.45, 0.4], variance=[0.05, 0.06, 0.07])], (0, 1)),
        ([layers.Normalization(mean=[-0.05, 0.1, 0.02], variance=[0.25, 0.25, 0.3])], (-1, 1)),
        ([layers.Normalization(mean=[-40], variance=[400])], None),  # decibels
        ([layers.Resizing(10, 10), layers.RandomFlip(), layers.Rescaling(1 / 255)], (0, 255)),
        ([layers.BatchNormalization(name="first")], None),  # of an untrained network
        ([layers.Lambda(lambda x: x / 255)], (0, 255)),
        ([layers.Lambda(lambda x: x[..., ::-1] - [103.9, 116.8, 123.7])], (0, 255)),
        ([layers.ZeroPadding2D(), layers.Rescaling(1 / 255)], None),
    ],
)
def test_a_networks_own_normalization_tells_its_range(first, limits):
    assert pixels.of_normalization(_model(*first, channels=3)) == limits


def test_only_what_all_of_the_network_reads_tells_a_range():
    image = layers.Input((8, 8, 3))
    scaled = layers.Rescaling(1 / 255)(image)
    assert pixels.of_normalization(tf.keras.Model(image, layers.Add()([image, scaled]))) is None
    inputs = layers.Input((8, 8, 3)), layers.Input((8, 8, 3))
    alike = [layers.Rescaling(1 / 255)(x) for x in inputs]
    assert pixels.of_normalization(tf.keras.Model(inputs, layers.Add()(alike))) == (0, 255)
    other = [layers.Rescaling(2, -1)(inputs[0]), alike[1]]
    assert pixels.of_normalization(tf.keras.Model(inputs, layers.Add()(other))) is None


def test_what_the_network_tells_is_in_the_file():
    assert _facts(convert(_model(layers.Rescaling(2, -1)), "litert"))["input_range"] == [0, 1]
    file = convert(_model(layers.Rescaling(2, -1)), "litert", input_type="uint8")
    assert _facts(file)["input_range"] == [0, 255]  # it takes bytes
    file = convert(_model(), "litert", metadata={"input_range": [-1, 1]})
    assert _facts(file)["input_range"] == [-1, 1]


def test_an_unknown_range_is_said(caplog):
    with caplog.at_level(logging.WARNING):
        file = convert(_model(), "litert")
    assert "input_range" not in _facts(file)
    (record,) = [r for r in caplog.records if r.name.startswith("larq_seresnet")]
    assert "--input-range LOW HIGH" in record.message


def test_a_range_that_contradicts_the_network_is_said(caplog):
    with caplog.at_level(logging.WARNING):
        file = convert(_model(layers.Rescaling(1 / 255)), "litert", input_range=(0, 1))
    assert _facts(file)["input_range"] == [0, 1]
    assert "of pixels from 0 to 255, not 0 to 1" in caplog.text


def test_what_is_no_image_needs_no_range(caplog):
    with caplog.at_level(logging.WARNING):
        convert(tf.keras.Sequential([layers.Input((9,)), layers.Dense(3)]), "litert")
    assert "--input-range" not in caplog.text


@pytest.mark.parametrize("limits", [["1", "0"], ["0", "nan"], ["0", "inf"], ["3", "3"]])
def test_no_range_is_one_line(tmp_path, capfd, limits):
    _model().save(tmp_path / "model.keras")
    arguments = [str(tmp_path / "model.keras"), "--target", "litert"]
    arguments += ["--out", str(tmp_path / "model.tflite"), "--input-range", *limits]
    assert command.main(arguments) == 1
    assert "error: the input range must be two numbers" in capfd.readouterr().err
    assert not (tmp_path / "model.tflite").exists()


def test_bytes_without_a_range_are_refused(tmp_path, capfd):
    _model().save(tmp_path / "model.keras")
    arguments = [str(tmp_path / "model.keras"), "--target", "litert", "--input", "uint8"]
    assert command.main([*arguments, "--out", str(tmp_path / "model.tflite")]) == 1
    errors = [x for x in capfd.readouterr().err.splitlines() if x.startswith("error")]
    assert len(errors) == 1
    assert "--input-range" in errors[0]
    assert not (tmp_path / "model.tflite").exists()
