"""The activations of one layer of a Keras model."""

import difflib
from collections.abc import Iterator

import numpy as np

from larq_seresnet._tensorflow import tf
from larq_seresnet.attention import check_images
from larq_seresnet.nested import flat


def feature_maps(
    model: tf.keras.Model, layer: str | None, images: np.ndarray, batch_size: int
) -> Iterator[np.ndarray]:
    """A layer's feature maps (images, rows, columns, channels), float32, batch by batch.

    Raises:
        ValueError: There is no such layer, its output is no feature map, or the images do not fit.
    """
    if len(model.inputs or ()) != 1:
        raise ValueError("the model must have one input, whose shape is known")
    model = flat(model)
    maps = {one.name: one.output for one in model.layers if _is_feature_map(one)}
    if not maps:
        raise ValueError("no layer's output is a feature map (batch, rows, columns, channels)")
    layer = layer or list(maps)[-1]
    if layer not in maps:
        if layer in [one.name for one in model.layers]:
            raise ValueError(
                f"the output of layer {layer!r} is no feature map (batch, rows, columns, channels)"
            )
        near = difflib.get_close_matches(layer, maps, n=3) or list(maps)[-5:]
        raise ValueError(
            f"the model has no layer {layer!r}; layers with feature maps are, for instance, "
            f"{', '.join(near)}"
        )
    check_images(model, images)
    part = tf.keras.Model(model.inputs, maps[layer])
    for start in range(0, len(images), batch_size):
        batch = tf.constant(images[start : start + batch_size], tf.float32)
        yield tf.cast(part(batch, training=False), tf.float32).numpy()


def _is_feature_map(layer: tf.keras.layers.Layer) -> bool:
    if isinstance(layer, tf.keras.layers.InputLayer) or len(layer.inbound_nodes) != 1:
        return False
    return len(getattr(layer.output, "shape", ())) == 4
