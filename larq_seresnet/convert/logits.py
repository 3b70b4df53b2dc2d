"""Outputs in front of a last softmax or sigmoid, behind which differences can vanish."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from larq_seresnet._tensorflow import tf
from larq_seresnet.convert import keras_models
from larq_seresnet.convert.graph import Graph, Tensor
from larq_seresnet.nested import calls

_FUNCTIONS = {
    "SOFTMAX": (tf.keras.activations.softmax, tf.nn.softmax),
    "LOGISTIC": (tf.keras.activations.sigmoid, tf.nn.sigmoid),
}
# Layers whose activation is the last that they compute.
_ACTIVATED = (
    tf.keras.layers.Dense,
    tf.keras.layers.Conv1D,
    tf.keras.layers.Conv2D,
    tf.keras.layers.Conv3D,
)


class Logits:
    """What of a model and of its graphs is compared, where both end in the same function.

    Args:
        model: Functional or sequential.
        graph: What a converter made of it.
    """

    def __init__(self, model: tf.keras.Model, graph: Graph) -> None:
        self._model = model
        used = {id(x) for node in calls(model) for x in tf.nest.flatten(node.keras_inputs)}
        self._tensors: list[Any] = []
        self._activated: list[tf.keras.layers.Layer] = []
        self._functions: list[str] = []  # TFLite's names; empty where none is left out
        for output, result in zip(model.outputs, graph.outputs, strict=True):
            layer, index, _ = output._keras_history
            node = layer._inbound_nodes[index]
            function = _function(layer)
            shared = isinstance(layer, _ACTIVATED) and any(
                id(x) in used for other in layer._inbound_nodes for x in _outputs(other)
            )
            if not function or shared or not graph.producer(result, function):
                self._tensors.append(output)
                self._functions.append("")
                continue
            self._functions.append(function)
            if isinstance(layer, _ACTIVATED):
                self._activated.append(layer)
                self._tensors.append(output)
            else:
                self._tensors.append(tf.nest.flatten(node.keras_inputs)[0])

    def of_model(self, images: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Of all images, which are an array (images, ...) for each input."""
        with _linear(self._activated):
            return keras_models.values(self._model, self._tensors, images)

    def of_graph(self, graph: Graph) -> list[Tensor]:
        """The graph's tensors that hold them."""
        found = []
        for output, function in zip(graph.outputs, self._functions, strict=True):
            producer = graph.producer(output, function) if function else None
            found.append((producer and producer.inputs[0]) or output)
        return found


def _function(layer: tf.keras.layers.Layer) -> str:
    if isinstance(layer, tf.keras.layers.Softmax):
        return "SOFTMAX"
    if isinstance(layer, (*_ACTIVATED, tf.keras.layers.Activation)):
        applied = layer.activation
    else:  # an operation, or a Lambda
        applied = getattr(layer, "function", None)
    return next((name for name, known in _FUNCTIONS.items() if applied in known), "")


def _outputs(node: Any) -> list[Any]:
    return tf.nest.flatten(node.outputs)


@contextlib.contextmanager
def _linear(layers: Sequence[tf.keras.layers.Layer]) -> Iterator[None]:
    """Leave out the layers' activations."""
    activations = [layer.activation for layer in layers]
    try:
        for layer in layers:
            layer.activation = tf.keras.activations.linear
        yield
    finally:
        for layer, activation in zip(layers, activations, strict=True):
            layer.activation = activation
