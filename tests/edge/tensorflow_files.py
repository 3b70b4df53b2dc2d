"""Small models converted by TensorFlow's converter, of kinds that people run on a Pi.

`larq_seresnet` comes before TensorFlow, for which it chooses Keras 2: conftest.py imports it.
"""

import tempfile
from collections.abc import Callable

import numpy as np
import tensorflow as tf

layers = tf.keras.layers


class _Wave(tf.Module):
    """Scores of a waveform of any length."""

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="waveform")])
    def __call__(self, waveform):
        return {"scores": tf.stack([tf.reduce_mean(waveform), tf.reduce_max(waveform)])}


class _Code(tf.Module):
    """Two functions in a file."""

    @tf.function(input_signature=[tf.TensorSpec([None, 3], tf.float32)])
    def encode(self, x):
        return {"code": x * 2.0}

    @tf.function(input_signature=[tf.TensorSpec([None, 3], tf.float32)])
    def decode(self, x):
        return {"plain": x / 2.0}


class _Counter(tf.Module):
    """Adds up what it is given, in a variable."""

    def __init__(self) -> None:
        self.total = tf.Variable([0.0])

    @tf.function(input_signature=[tf.TensorSpec([1], tf.float32)])
    def add(self, x):
        return {"total": self.total.assign_add(x)}


def _keras(model, configure: Callable | None = None) -> bytes:
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    if configure:
        configure(converter)
    return converter.convert()


def _saved(module: tf.Module, **signatures) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        tf.saved_model.save(module, folder, signatures=signatures)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        converter.experimental_enable_resource_variables = True
        return converter.convert()


def _full_integer(kind) -> Callable:
    def configure(converter) -> None:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        examples = np.random.default_rng(0).uniform(0, 1, (20, 1, 8, 8, 3)).astype(np.float32)
        converter.representative_dataset = lambda: ([x] for x in examples)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = kind

    return configure


def files() -> dict[str, bytes]:
    """The files by name."""
    tf.keras.utils.set_random_seed(0)
    sequence = tf.keras.Input(batch_shape=(1, 6, 5))
    lstm = tf.keras.Model(sequence, layers.Dense(3)(layers.LSTM(8)(sequence)))
    points = tf.keras.Input((3,))
    centred = tf.keras.Model(points, points - tf.reduce_mean(points, axis=0))
    image = tf.keras.Input((8, 8, 3))
    flat = layers.Flatten()(layers.Conv2D(4, 3, activation="relu")(image))
    classifier = tf.keras.Model(image, layers.Dense(3)(flat))
    four = tf.keras.Input(batch_shape=(4, 3))
    code, counter, wave = _Code(), _Counter(), _Wave()
    return {
        "lstm": _keras(lstm),
        "centred": _keras(centred),
        "float": _keras(classifier),
        "int8": _keras(classifier, _full_integer(tf.int8)),
        "uint8": _keras(classifier, _full_integer(tf.uint8)),
        "four": _keras(tf.keras.Model(four, layers.Dense(2)(four))),
        "signatures": _saved(code, encode=code.encode, decode=code.decode),
        "counter": _saved(counter, add=counter.add),
        "wave": _saved(wave, serving_default=wave.__call__),
    }
