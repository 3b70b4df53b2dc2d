"""EigenCAM: where in an image a layer's activations vary most."""

from typing import Any

import numpy as np


def eigencam(
    model: Any, images: np.ndarray, layer: str | None = None, batch_size: int = 100
) -> np.ndarray:
    """Heat maps of a layer, one an image (Muhammad and Yeasin, arXiv:2008.00299).

    A layer's activations are a vector of channels at each of its positions. The heat map is their
    first principal component over the positions of one image: the projection on the direction in
    which they vary most. No class and no gradient is involved.

    The activations are centred, so that a heat map has mean 0. A principal component has no sign of
    its own: here it is positive where the activations, summed over the channels, are higher.

    Example:
        >>> heatmaps = eigencam(model, images, "block4_relu2")  # (images, 16, 16)

    Args:
        model: Any Keras model of one input, images. Layers of models in it count as its own.
        images: What the model takes, (images, height, width, channels).
        layer: Name of a layer whose output is (batch, rows, columns, channels); by default the
            last such one.
        batch_size: Images at a time.

    Returns:
        Signed heat maps, float32 (images, rows, columns).

    Raises:
        ValueError: There is no such layer, its output is no feature map, or the images do not fit.
    """
    from larq_seresnet.eigencam.activations import feature_maps

    return np.concatenate(
        [principal_component(maps) for maps in feature_maps(model, layer, images, batch_size)]
    )


def principal_component(features: np.ndarray) -> np.ndarray:
    """The first principal component over the positions.

    Args:
        features: (images, rows, columns, channels).

    Returns:
        (images, rows, columns), float32; zeros where nothing varies.
    """
    images, rows, columns, channels = features.shape
    vectors = features.reshape(images, rows * columns, channels).astype(np.float64)
    vectors -= vectors.mean(axis=1, keepdims=True)
    covariance = vectors.swapaxes(1, 2) @ vectors
    direction = np.linalg.eigh(covariance)[1][:, :, -1:]  # of the largest eigenvalue
    direction *= np.where(direction.sum(axis=1, keepdims=True) < 0, -1, 1)
    return (vectors @ direction).reshape(images, rows, columns).astype(np.float32)
