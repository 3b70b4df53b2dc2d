"""Models within models, such as `tf.keras.Sequential([resizing, body, dense])`, made flat."""

import inspect
from collections.abc import Collection, Iterator
from typing import Any

from larq_seresnet._tensorflow import tf


def flat(model: tf.keras.Model, without: Collection[str] = ()) -> tf.keras.Model:
    """The same network without models in it: their layers stand where they stood.

    A layer keeps its name, unless another one has it: then the name of its model is put in front,
    "body_dense".

    Args:
        model: A functional or sequential model; it stays as it is.
        without: Names of layers of one input to leave out, whose input stands for their output.

    Returns:
        A functional model of its own layers, with the same weights, not compiled; `model` itself
        if there is no model in it, and nothing to leave out.

    Raises:
        ValueError: The model is neither, or not built.
    """
    if not model.inputs:
        raise ValueError(
            "the model's input shape is not known: build it; wrap a subclassed model, "
            "tf.keras.Model(inputs, model(inputs))"
        )
    if not without and not any(map(_is_nested, model.layers)):
        return model
    return _Copy(model, without).result()


def calls(model: tf.keras.Model) -> Iterator[Any]:
    """Keras's nodes, each of which is a call of a layer, in an order to compute them in."""
    for depth in sorted(model._nodes_by_depth, reverse=True):
        yield from model._nodes_by_depth[depth]


def _is_nested(layer: tf.keras.layers.Layer) -> bool:
    return getattr(layer, "_is_graph_network", False)  # no model that one's own code calls


class _Copy:
    def __init__(self, model: tf.keras.Model, without: Collection[str]) -> None:
        self._model = model
        self._without = without
        self._names = {layer.name for layer in model.layers}
        self._copies: dict[tf.keras.layers.Layer, tf.keras.layers.Layer] = {}

    def result(self) -> tf.keras.Model:
        inputs = [
            tf.keras.Input(x.shape[1:], x.shape[0], x._keras_history.layer.name, x.dtype)
            for x in self._model.inputs
        ]
        outputs = self._call(self._model, inputs)
        for layer, copy in self._copies.items():
            copy.set_weights(layer.get_weights())
        return tf.keras.Model(inputs, outputs, name=self._model.name)

    def _call(self, model: tf.keras.Model, inputs: list[Any], training: Any = None) -> list[Any]:
        """What a model makes of other inputs, layer by layer."""
        values = {id(x): value for x, value in zip(model.inputs, inputs, strict=True)}
        for node in calls(model):
            if node.is_input:
                continue
            args, kwargs = tf.nest.map_structure(
                lambda x: values.get(id(x), x), (node.call_args, node.call_kwargs)
            )
            layer = node.layer
            if training is not None and "training" in inspect.signature(layer.call).parameters:
                kwargs = {**kwargs, "training": training}
            if layer.name in self._without:
                results = args
            elif _is_nested(layer):
                results = self._call(layer, tf.nest.flatten(args), kwargs.get("training"))
            else:
                results = self._copy(layer, model)(*args, **kwargs)
            outputs = zip(tf.nest.flatten(node.outputs), tf.nest.flatten(results), strict=True)
            values.update((id(x), value) for x, value in outputs)
        return [values[id(x)] for x in model.outputs]

    def _copy(self, layer: tf.keras.layers.Layer, owner: tf.keras.Model) -> tf.keras.layers.Layer:
        if layer not in self._copies:
            name = layer.name
            while owner is not self._model and name in self._names:
                name = f"{owner.name}_{name}"
            self._names.add(name)
            self._copies[layer] = type(layer).from_config({**layer.get_config(), "name": name})
        return self._copies[layer]
