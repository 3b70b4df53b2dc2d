"""Whole networks, converted by Larq Compute Engine, on its own interpreter and on ours."""

import numpy as np
import pytest

from larq_seresnet.edge import Interpreter

tf = pytest.importorskip("tensorflow")
lce = pytest.importorskip("larq_compute_engine")


def network(images: np.ndarray, **options) -> bytes:
    from larq_seresnet import models

    model = models.SEResNet14Bin(**options)
    for layer in model.submodules:  # the statistics of a new network give astronomic logits
        if isinstance(layer, tf.keras.layers.BatchNormalization):
            layer.momentum = 0.0
    for _ in range(3):
        model(images, training=True)
    return lce.convert_keras_model(model)


@pytest.mark.parametrize(
    "options",
    [
        {"activations": "binary", "width": 16},
        {"activations": "binary", "width": 24, "gate": None, "fmb": False},
        {"activations": "float", "width": 8},
    ],
    ids=["binary", "binary-odd-width", "weights-only"],
)
def test_a_network_agrees_with_lce(library, lce_interpreter, options):
    images = np.random.default_rng(0).integers(0, 256, (24, 32, 32, 3)).astype(np.float32)
    file = network(images, **options)
    expected = lce_interpreter(file, use_indirect_bgemm=True).predict(images)
    for threads in (1, 2):
        result = Interpreter(file, threads).predict(images)
        np.testing.assert_allclose(result, expected, atol=1e-5)
