"""Follows the channels of a network's tensors from layer to layer.

Tensors whose channels correspond, one to one, form a group: a residual stream with all that is
added to it, or what is between a convolution and the attention after it. Putting a group's channels
into another order changes nothing if every layer that writes or reads the group does the same.
"""

from typing import Any, TypeAlias

from larq_seresnet._tensorflow import tf
from larq_seresnet.layers import SqueezeExcite

Layer: TypeAlias = tf.keras.layers.Layer

_KEEPING = (
    tf.keras.layers.Activation,
    tf.keras.layers.Add,
    tf.keras.layers.AveragePooling2D,
    tf.keras.layers.BatchNormalization,
    tf.keras.layers.Dropout,
    tf.keras.layers.GlobalAveragePooling2D,
    tf.keras.layers.MaxPooling2D,
    tf.keras.layers.ReLU,
)


def mixes(layer: Layer) -> bool:
    """Whether a layer makes new channels of all those of its input, with a kernel (..., in, out).

    Larq's layers are subclasses of Keras's.
    """
    if isinstance(layer, tf.keras.layers.Dense):
        return True
    transposed = isinstance(layer, tf.keras.layers.Conv2DTranspose)
    return isinstance(layer, tf.keras.layers.Conv2D) and layer.groups == 1 and not transposed


class Channels:
    """The groups of a functional model.

    Raises:
        ValueError: A layer is used more than once.
    """

    def __init__(self, model: tf.keras.Model) -> None:
        self._model = model
        self._parents: dict[int, int] = {}
        for layer in model.layers:
            if len(layer.inbound_nodes) != 1:
                raise ValueError(f"layer {layer.name!r} is used more than once")
            if not mixes(layer) and not isinstance(layer, SqueezeExcite):
                for tensor in tf.nest.flatten([layer.input, layer.output]):
                    self._parents[self.of(tensor)] = self.of(tf.nest.flatten(layer.output)[0])

    def of(self, tensor: Any) -> int:
        """The number of the tensor's group."""
        group = id(tensor)
        while self._parents.setdefault(group, group) != group:
            group = self._parents[group]
        return group

    def check(self, group: int) -> None:
        """Refuse a group whose channels cannot change.

        Raises:
            ValueError: They are the model's input or output, or go through a layer that may not
                treat all channels alike.
        """
        if group in map(self.of, [*self._model.inputs, *self._model.outputs]):
            raise ValueError("channels of the model's input or output cannot be pruned")
        for layer in self._model.layers:
            known = mixes(layer) or isinstance(layer, (*_KEEPING, SqueezeExcite))
            touched = map(self.of, tf.nest.flatten([layer.input, layer.output]))
            if not known and group in touched:
                raise ValueError(
                    f"channels cannot be followed through layer {layer.name!r} "
                    f"({type(layer).__name__})"
                )

    def readers(self, group: int) -> list[Layer]:
        """The layers that make something else of the group."""
        return [
            layer
            for layer in self._model.layers
            if (mixes(layer) or isinstance(layer, SqueezeExcite)) and self.of(layer.input) == group
        ]
