import os
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

import larq_seresnet
from larq_seresnet.convert import graph, report, runners


@pytest.fixture(scope="session")
def pictures():
    """120 real images where CIFAR-10 is on disk, else blurred noise: raw pixels, float32."""
    if Path(os.environ.get("TFDS_DATA_DIR", "."), "cifar10").is_dir():
        import tensorflow_datasets as tfds

        batch = tfds.load("cifar10", split="test[:120]", batch_size=-1, download=False)
        return batch["image"].numpy().astype(np.float32)
    noise = np.random.default_rng(0).normal(size=(120, 32, 32, 3))
    for axis in (1, 2):
        noise = sum(np.roll(noise, shift, axis) for shift in range(-2, 3))
    return np.clip(np.rint(128 + 13 * noise), 0, 255).astype(np.float32)


@pytest.fixture
def calibrated(pictures):
    """Gives a model batch norm statistics of real images, and batch norms that all differ."""

    def calibrate(model, negative=0.0, images=pictures[:60]):
        rng = np.random.default_rng(0)
        for layer in model.submodules:
            if isinstance(layer, tf.keras.layers.BatchNormalization):
                gamma = rng.uniform(0.5, 1.5, layer.gamma.shape)
                gamma *= np.where(rng.uniform(size=gamma.shape) < negative, -1, 1)
                layer.gamma.assign(gamma)
                layer.beta.assign(rng.normal(0, 0.2, layer.beta.shape))
                layer.momentum = 0.0
        model(images[:, : model.input_shape[1], : model.input_shape[2]], training=True)
        return model

    return calibrate


@pytest.fixture
def network(calibrated):
    """A small, calibrated SEResNet14Bin, of the same weights whichever tests ran before."""

    def build(**arguments):
        tf.keras.utils.set_random_seed(0)
        negative = arguments.pop("negative", 0.0)
        return calibrated(larq_seresnet.models.SEResNet14Bin(**{"width": 8, **arguments}), negative)

    return build


@pytest.fixture
def agrees():
    """Asserts that a file's probabilities are the model's, but for a few of the images."""

    def check(file, model, target, images, deviating=0):
        (found,) = runners.run(file, target, [images])
        differences = np.abs(found - model.predict(images, verbose=0)).max(axis=1)
        assert np.sum(differences > 1e-4) <= deviating

    return check


@pytest.fixture
def operators():
    """How often a file has each operator."""

    def count(file):
        names = [operator.name for operator in graph.parse(file).operators]
        return {name: names.count(name) for name in sorted(set(names))}

    return count


@pytest.fixture
def sizes():
    """Where a file's bytes are, read off the file."""
    return lambda file: report.sizes(graph.parse(file), len(file))
