"""Heat maps on images."""

import numpy as np
from matplotlib import colormaps

from larq_seresnet._tensorflow import tf

_SIDE = 256  # pixels that a picture has at least
_STRENGTH = 0.65  # how much of the image the hottest place hides


def upsample(heatmaps: np.ndarray, height: int, width: int) -> np.ndarray:
    """Heat maps (images, rows, columns) in the images' size, bilinearly, float32."""
    return tf.image.resize(heatmaps[..., None], (height, width))[..., 0].numpy()


def rectify(heatmap: np.ndarray) -> np.ndarray:
    """A heat map from 0 to 1: what is negative is 0, what is highest 1."""
    heatmap = np.maximum(heatmap, 0)
    return heatmap / max(float(heatmap.max()), np.finfo(np.float32).tiny)


def overlay(image: np.ndarray, heatmap: np.ndarray) -> np.ndarray:
    """Show a heat map on its image.

    Args:
        image: Raw pixels (height, width, 3 or 1), 0 to 255.
        heatmap: Signed, (rows, columns).

    Returns:
        Pixels (height, width, 3), uint8, where small images are enlarged by a whole number.
    """
    factor = max(1, -(-_SIDE // min(image.shape[:2])))
    large = image.repeat(factor, axis=0).repeat(factor, axis=1).astype(np.float32)
    heat = upsample(rectify(heatmap)[None], *large.shape[:2])[0]
    colours = 255 * colormaps["inferno"](heat)[..., :3]
    weight = _STRENGTH * heat[..., None]
    return np.rint((1 - weight) * large + weight * colours).astype(np.uint8)
