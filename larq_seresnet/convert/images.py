"""Images to verify files with."""

import contextlib
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from larq_seresnet._tensorflow import tf
from larq_seresnet.convert import pixels
from larq_seresnet.datasets import display_name, load_images
from larq_seresnet.errors import ConversionError, UserError

_COUNT = 500  # of large images fewer: of as many pixels as so many of 64x64, but at least 100
_EQUAL = 1e-6  # below it, noise is the same all over the image but for rounding


def verification_images(
    model: tf.keras.Model,
    images: np.ndarray | Sequence[np.ndarray] | None = None,
    *,
    dataset: str | None = None,
    input_range: pixels.Range = pixels.BYTES,
) -> tuple[list[np.ndarray], str]:
    """One array for each of the model's inputs, and where they come from.

    Those that are not given have pixels of `input_range`.

    Raises:
        ConversionError: The given images do not fit the model.
    """
    shapes = [tuple(tensor.shape[1:]) for tensor in model.inputs]
    if images is not None:
        given = [np.asarray(x) for x in ([images] if hasattr(images, "shape") else images)]
        if [x.shape[1:] for x in given] != shapes or not all(map(len, given)):
            found = ", ".join(str(x.shape) for x in given)
            raise ConversionError(f"images of shape {found} do not fit inputs of {shapes}")
        return given, "given"
    arrays, origin = _images(model, shapes, dataset)
    return [pixels.from_bytes(x, input_range) for x in arrays], origin


def _images(
    model: tf.keras.Model, shapes: list[Any], dataset: str | None
) -> tuple[list[np.ndarray], str]:
    count = max(100, min(_COUNT, _COUNT * 64 * 64 * 3 // max(map(math.prod, shapes))))
    with contextlib.suppress(UserError):  # it is not on disk
        if dataset and pixels.are_images(model):
            return [load_images(dataset, count=count, shape=shapes[0])], display_name(dataset)
        test = load_images("cifar10", count=count)
        if [test.shape[1:]] == shapes:
            return [test], "cifar10"
    arrays = [_synthetic((count, *shape), seed) for seed, shape in enumerate(shapes)]
    words = [x.input_dim for x in model.submodules if isinstance(x, tf.keras.layers.Embedding)]
    return [np.floor(x * (min([256, *words]) / 256)) for x in arrays], "synthetic"


def _synthetic(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """Blurred noise, pixels 0 to 255: neighbours resemble each other as in photographs."""
    noise = np.random.default_rng(seed).normal(size=shape)
    for axis in range(1, noise.ndim - 1):
        noise = np.sum([np.roll(noise, shift, axis) for shift in range(-2, 3)], axis=0)
    spread = noise.std(axis=tuple(range(1, noise.ndim)), keepdims=True)
    spread = np.where(spread > _EQUAL, spread, 1)
    return np.clip(np.rint(128 + 64 * noise / spread), 0, 255).astype(np.float32)
