"""Changes training images at random: what comes out depends on the images and a seed alone."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import tensorflow as tf

Flip = Literal["none", "horizontal", "both"]
_GROUPS = 8  # of a batch, each of which TrivialAugment changes in another way


@dataclass(frozen=True)
class Augmentation:
    """How images are changed.

    Attributes:
        flip: Mirror every second image, left to right, or in both directions.
        padding: Black pixels on each side, before an image is cropped at random to its size.
        cutout: Side of a square around a random pixel that is made black (DeVries, Taylor,
            arXiv:1708.04552).
        color_jitter: By which share brightness, contrast and saturation change at most.
        trivial: One of many changes, of random strength (TrivialAugment, Mueller and Hutter,
            arXiv:2103.10158; here an eighth of a batch gets the same kind of change).
    """

    flip: Flip = "none"
    padding: int = 4
    cutout: int = 0
    color_jitter: float = 0.0
    trivial: bool = False

    def prepare(
        self, channels: int, batch_size: int, share: slice
    ) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
        """The function that changes the part of a batch that one of several workers has.

        Args:
            channels: Of the images.
            batch_size: Of all workers together.
            share: Which of the whole batch's images are this worker's.

        Returns:
            From images (images, height, width, channels) uint8 and the batch's seed, two integers,
            to such images.
        """
        changes = _changes(channels) if self.trivial else []  # layers make variables: no graph may

        def augment(images: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
            if changes:
                images = _trivial(images, changes, _fold(seed, 3 + share.start))
            if self.color_jitter:
                shape = [batch_size, 2]
                seeds = tf.random.stateless_uniform(shape, _fold(seed, 2), None, None, tf.int32)
                images = _jittered(images, self.color_jitter, seeds[share])
            images = self._cropped(
                images, tf.random.stateless_uniform([3, batch_size], seed)[:, share]
            )
            if self.flip == "both":
                random = tf.random.stateless_uniform([batch_size], _fold(seed, 4))[share]
                images = tf.where(random[:, None, None, None] < 0.5, images[:, ::-1], images)
            if self.cutout:
                images = _cut_out(images, self.cutout, _centers(images, batch_size, seed)[:, share])
            return images

        return augment

    def _cropped(self, images: tf.Tensor, random: tf.Tensor) -> tf.Tensor:
        _, height, width, _ = images.shape
        border = [(0, 0), (self.padding, self.padding), (self.padding, self.padding), (0, 0)]
        top, left = tf.unstack(tf.cast(random[:2] * (2 * self.padding + 1), tf.int32))
        rows = top[:, None] + tf.range(height)
        columns = left[:, None] + tf.range(width)
        if self.flip != "none":
            columns = tf.where(random[2, :, None] < 0.5, columns[:, ::-1], columns)
        chosen = tf.gather(tf.pad(images, border), rows, axis=1, batch_dims=1)
        return tf.gather(chosen, columns, axis=2, batch_dims=1)


def _fold(seed: tf.Tensor, number: int) -> tf.Tensor:
    return tf.random.experimental.stateless_fold_in(seed, number)


def _centers(images: tf.Tensor, batch_size: int, seed: tf.Tensor) -> tf.Tensor:
    """Rows and columns of random pixels, (2, batch, 1)."""
    shape, seed = [2, batch_size, 1], _fold(seed, 1)
    height, width = images.shape[1:3]
    rows = tf.random.stateless_uniform(shape, seed, maxval=height, dtype=tf.int32)[0]
    columns = tf.random.stateless_uniform(shape, seed, maxval=width, dtype=tf.int32)[1]
    return tf.stack([rows, columns])


def _cut_out(images: tf.Tensor, length: int, centers: tf.Tensor) -> tf.Tensor:
    """Blacken a square in each image; part of it may lie outside."""
    starts = centers - length // 2
    rows, columns = (
        (tf.range(size) >= start) & (tf.range(size) < start + length)
        for size, start in zip(images.shape[1:3], tf.unstack(starts), strict=True)
    )
    inside = rows[:, :, None, None] & columns[:, None, :, None]
    return tf.where(inside, tf.zeros_like(images), images)


def _jittered(images: tf.Tensor, strength: float, seeds: tf.Tensor) -> tf.Tensor:
    low, high = 1 - strength, 1 + strength

    def jitter(item: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
        image, seed = item
        image = tf.cast(image, tf.float32) / 255
        image = tf.image.stateless_random_brightness(image, strength, seed)
        image = tf.image.stateless_random_contrast(image, low, high, _fold(seed, 1))
        if image.shape[-1] == 3:
            image = tf.image.stateless_random_saturation(image, low, high, _fold(seed, 2))
        return image

    jittered = tf.map_fn(jitter, (images, seeds), fn_output_signature=tf.float32)
    return _as_pixels(255 * jittered)


def _trivial(images: tf.Tensor, changes: Sequence[Any], seed: tf.Tensor) -> tf.Tensor:
    groups = min(_GROUPS, images.shape[0])
    kinds = tf.random.stateless_uniform([groups], seed, 0, len(changes) + 1, tf.int32)
    bounds = [images.shape[0] * i // groups for i in range(groups + 1)]
    results = []
    for i in range(groups):
        part = tf.cast(images[bounds[i] : bounds[i + 1]], tf.float32)
        branches = [partial(_changed, change, part, _fold(seed, i)) for change in changes]
        results.append(tf.switch_case(kinds[i], [*branches, lambda part=part: part]))
    return tf.ensure_shape(_as_pixels(tf.concat(results, axis=0)), images.shape)


def _changes(channels: int) -> Sequence[Any]:
    """Keras's layers for TrivialAugment's wide space of changes."""
    import keras  # version 3, whose layers take seeds

    layers = keras.layers
    pixels = {"value_range": (0, 255)}
    black = {"fill_mode": "constant"}
    colors = [layers.RandomColorDegeneration(0.99, **pixels)] if channels == 3 else []
    return [
        layers.RandomShear(0.99, 0, **black),
        layers.RandomShear(0, 0.99, **black),
        layers.RandomTranslation(0, 0.3, **black),
        layers.RandomTranslation(0.3, 0, **black),
        layers.RandomRotation(135 / 360, **black),
        layers.RandomBrightness(0.99, **pixels),
        layers.RandomContrast(0.99, **pixels),
        layers.RandomSharpness(0.99, **pixels),
        layers.RandomPosterization(2, **pixels),
        layers.Solarization(0, 1, **pixels),
        layers.AutoContrast(**pixels),
        layers.Equalization(**pixels),
        *colors,
    ]


def _changed(layer: Any, images: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    chosen = layer.get_random_transformation(images, training=True, seed=_seeds(seed))
    changed = layer.transform_images(images, chosen, training=True)
    return tf.ensure_shape(tf.cast(changed, tf.float32), images.shape)


def _seeds(seed: tf.Tensor) -> Any:
    """Seeds for a layer of Keras 3, all of which follow from one."""
    import keras

    class Seeds(keras.random.SeedGenerator):
        def __init__(self) -> None:
            self._given = 0

        def next(self, ordered: bool = True) -> tf.Tensor:
            self._given += 1
            return _fold(seed, self._given)

    return Seeds()


def _as_pixels(values: tf.Tensor) -> tf.Tensor:
    return tf.cast(tf.clip_by_value(tf.round(values), 0, 255), tf.uint8)
