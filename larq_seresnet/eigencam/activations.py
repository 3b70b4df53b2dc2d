"""The activations of one layer of a Keras model."""

import difflib

import numpy as np

from larq_seresnet._tensorflow import tf
from larq_seresnet.attention import check_images
from larq_seresnet.nested import flat


class Activations:
    """Computes a layer's feature maps from images.

    Args:
        model: Any functional or sequential model of one input, also with models in it.
        layer: The layer's name; `None`: the last one with feature maps.

    Raises:
        ValueError: There is no such layer, or its output is no feature map.
    """

    def __init__(self, model: tf.keras.Model, layer: str | None) -> None:
        if len(model.inputs or ()) != 1:
            raise ValueError("the model must have one input, whose shape is known")
        model = flat(model)
        maps = {one.name: one.output for one in model.layers if _is_feature_map(one)}
        if layer is None and maps:
            layer = list(maps)[-1]
        if layer not in maps:
            names = [one.name for one in model.layers]
            if layer in names:
                raise ValueError(
                    f"the output of layer {layer!r} is no feature map "
                    "(batch, rows, columns, channels)"
                )
            near = difflib.get_close_matches(str(layer), maps, n=3) or list(maps)[-5:]
            raise ValueError(
                f"the model has no layer {layer!r}; layers with feature maps are, for instance, "
                f"{', '.join(near)}"
            )
        self.layer = layer
        self._model = tf.keras.Model(model.inputs, maps[layer])

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Feature maps (images, rows, columns, channels), float32."""
        check_images(self._model, images)
        maps = self._model(tf.constant(images, tf.float32), training=False)
        return tf.cast(maps, tf.float32).numpy()


def _is_feature_map(layer: tf.keras.layers.Layer) -> bool:
    if isinstance(layer, tf.keras.layers.InputLayer):
        return False
    shape = getattr(layer.output, "shape", ()) if len(layer.inbound_nodes) == 1 else ()
    return len(shape) == 4
