"""Networks for pictures of other sizes: both targets' files, on the device's interpreter."""

import json

import numpy as np
import pytest
import tensorflow as tf

from larq_seresnet import models
from larq_seresnet.architecture import Architecture
from larq_seresnet.convert import conversion, graph, run_conversion
from larq_seresnet.convert.images import verification_images
from larq_seresnet.edge import Interpreter

KINDS = {
    "float": {"model": "float"},
    "1-bit": {"fmb": True},
    "no attention": {"gate": "none"},
    "fully binary": {"activations": "binary", "fmb": True},
    "float attention": {"activations": "binary", "float_attention": True, "fmb": True},
}
LABELS = ["cat", "dog", "neither"]
CASES = [
    ((64, 64, 3), 1),
    ((64, 64, 3), 2),
    ((96, 96, 1), 2),
    ((96, 96, 1), 4),
    ((33, 32, 1), 1),
    ((45, 71, 3), 4),
    ((224, 131, 3), 2),
]
QUICK = ("fully binary", (45, 71, 3), 4)


@pytest.mark.parametrize("target", ["lce", "litert"])
@pytest.mark.parametrize(
    ("kind", "shape", "stem"),
    [
        pytest.param(kind, *case, marks=() if (kind, *case) == QUICK else pytest.mark.slow)
        for kind in KINDS
        for case in CASES
    ],
)
def test_the_devices_interpreter_computes_what_keras_computes(
    calibrated, kind, shape, stem, target
):
    statistics = {"mean": [128] * shape[2], "variance": [4000] * shape[2]}
    architecture = Architecture(
        width=8, blocks=(1, 1), classes=3, input_shape=shape, stem=stem, **statistics, **KINDS[kind]
    )
    model = models.build(architecture)
    (images,), _ = verification_images(model)
    calibrated(model, images=images[:20])
    found = run_conversion(model, target, images=images[:100], metadata={"labels": LABELS})

    probabilities = Interpreter(found.file).predict(images[:100])

    differences = np.abs(probabilities - model.predict(images[:100], verbose=0)).max(axis=1)
    assert (differences > 1e-4).sum() <= found.verification.deviating + found.verification.ties
    facts = json.loads(graph.parse(found.file).metadata[conversion.METADATA])
    assert (facts["labels"], facts["input_shape"]) == (LABELS, list(shape))


def test_large_images_are_verified_on_fewer():
    def count(*shape):
        model = models.SEResNet14Bin(width=1, blocks=(1,), input_shape=shape)
        (images,), _ = verification_images(model, dataset="no such data")
        return len(images)

    assert (count(64, 64, 3), count(96, 96, 3), count(224, 224, 3)) == (500, 222, 100)


@pytest.mark.parametrize("shape", [(), (1,), (5, 1), (5, 5, 1)])
def test_small_inputs_have_many_values(shape):
    given = tf.keras.Input(shape)
    (images,), _ = verification_images(tf.keras.Model(given, given + 1))
    assert len(np.unique(images)) > 20
