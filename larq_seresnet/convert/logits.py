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
        read = {id(x) for node in calls(model) for x in tf.nest.flatten(node.keras_inputs)}
        self._tensors: list[Any] = []
        self._activated: list[tf.keras.layers.Layer] = []
        self._functions: list[str] = []  # TFLite's names; empty where none is left out
        for output, result in zip(model.outputs, graph.outputs, strict=True):
            layer, index, _ = output._keras_history
            function = _function(layer)
            is_activated = isinstance(layer, _ACTIVATED)
            given = tf.nest.flatten([node.outputs for node in layer._inbound_nodes])
            if is_activated and any(id(x) in read for x in given):
                function = ""  # without it, what else is computed would change
            applied_to = tf.nest.flatten(layer._inbound_nodes[index].keras_inputs)
            if not graph.producer(result, function) or len(applied_to) > 1:  # a mask, too
                function = ""
            if function and is_activated:
                self._activated.append(layer)
            elif function:
                (output,) = applied_to
            self._tensors.append(output)
            self._functions.append(function)

    def of_model(self, images: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Of all images, which are an array (images, ...) for each input."""
        with _linear(self._activated):
            return keras_models.values(self._model, self._tensors, images)

    def of_graph(self, graph: Graph) -> list[Tensor]:
        """The graph's tensors that hold them."""
        found = []
        for output, function in zip(graph.outputs, self._functions, strict=True):
            last = graph.producer(output, function)
            found.append((last and last.inputs[0]) or output)
        return found


def _function(layer: tf.keras.layers.Layer) -> str:
    if isinstance(layer, tf.keras.layers.Softmax):
        return "SOFTMAX"
    if isinstance(layer, (*_ACTIVATED, tf.keras.layers.Activation)):
        applied = layer.activation
    else:  # an operation, or a Lambda
        applied = getattr(layer, "function", None)
    return next((name for name, known in _FUNCTIONS.items() if applied in known), "")


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
