"""What is trained on: a data set's images, augmented batch by batch."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import tensorflow as tf

from larq_seresnet import datasets
from larq_seresnet.datasets import Data, Split
from larq_seresnet.datasets import top1_error as top1_error
from training.experiments.pasted import CANVASES, paste_digits, paste_svhn

EVALUATION_BATCH = 500

SOURCES = {
    **datasets.SOURCES,
    "pasted_digits": replace(
        datasets.SOURCES["digits"],
        mean=(93.3,) * 3,
        variance=(1577.0,) * 3,
        size=CANVASES["pasted_digits"].size,
    ),
    "pasted_svhn": replace(
        datasets.SOURCES["svhn_cropped"],
        mean=(88.1, 88.2, 89.5),
        variance=(1263.0,) * 3,
        size=CANVASES["pasted_svhn"].size,
    ),
}
"""The package's, and those that only experiments use."""


def load(name: str, data_dir: str | Path | None = None) -> Data:
    """Load a data set into memory, as `datasets.load` does.

    Args:
        name: One of `SOURCES`.
        data_dir: Where `tensorflow_datasets` keeps its data.

    Raises:
        UserError: The data are missing and cannot be downloaded, or damaged.
    """
    if name not in CANVASES:
        return datasets.load(name, data_dir)
    if name == "pasted_digits":
        splits, boxes = paste_digits()
    else:
        whole = datasets.load("svhn_cropped", data_dir)
        splits, boxes = paste_svhn({split: getattr(whole, split) for split in datasets.SPLITS})
    return Data(SOURCES[name], **splits, test_boxes=boxes)


def training_batches(
    split: Split,
    *,
    batch_size: int,
    seed: int,
    epochs: range,
    flip: bool,
    padding: int = 4,
    cutout: int = 0,
    worker: int = 0,
    workers: int = 1,
) -> tf.data.Dataset:
    """Shuffled and augmented batches of whole epochs, one after the other.

    Every image gets `padding` pixels of black on each side and is cropped at random, and mirrored
    at random where `flip`.
    A square of `cutout` pixels around a random pixel is black (DeVries, Taylor, arXiv:1708.04552).
    Order and augmentation depend on `seed` and the epoch's number alone, so that a resumed run
    sees what the uninterrupted one would have seen. The last, incomplete batch of an epoch is
    dropped: other images each time.

    Where several workers share each batch, this is the share of the one with number `worker`.

    Returns:
        `len(epochs) * (len(images) // batch_size)` batches (images uint8, the split's labels), of
        `batch_size // workers` images.
    """
    images, labels = split
    size = images.shape[1]
    border = [(0, 0), (padding, padding), (padding, padding), (0, 0)]
    padded = tf.constant(np.pad(images, border))
    targets = tf.constant(labels)
    pixels = tf.range(size)
    share = slice(worker * batch_size // workers, (worker + 1) * batch_size // workers)

    def epoch_batches(epoch: tf.Tensor) -> tf.data.Dataset:
        epoch_seed = tf.random.experimental.stateless_fold_in([seed, 0], epoch)
        order = tf.random.experimental.stateless_shuffle(tf.range(len(labels)), epoch_seed)

        def batch(step: tf.Tensor, indices: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            batch_seed = tf.random.experimental.stateless_fold_in(epoch_seed, step)
            random = tf.random.stateless_uniform([3, batch_size], batch_seed)
            random, indices = random[:, share], indices[share]
            top, left = tf.unstack(tf.cast(random[:2] * (2 * padding + 1), tf.int32))
            rows = top[:, None] + pixels
            columns = left[:, None] + pixels
            if flip:
                columns = tf.where(random[2, :, None] < 0.5, columns[:, ::-1], columns)
            chosen = tf.gather(tf.gather(padded, indices), rows, axis=1, batch_dims=1)
            chosen = tf.gather(chosen, columns, axis=2, batch_dims=1)
            if cutout:
                centers = _centers(batch_size, size, batch_seed)[:, share]
                chosen = _cut_out(chosen, cutout, centers)
            return chosen, tf.gather(targets, indices)

        indices = tf.data.Dataset.from_tensor_slices(order).batch(batch_size, drop_remainder=True)
        return indices.enumerate().map(batch, num_parallel_calls=tf.data.AUTOTUNE)

    epoch_numbers = tf.data.Dataset.range(epochs.start, epochs.stop)
    return epoch_numbers.flat_map(epoch_batches).prefetch(tf.data.AUTOTUNE)


def _centers(batch: int, size: int, seed: tf.Tensor) -> tf.Tensor:
    seed = tf.random.experimental.stateless_fold_in(seed, 1)
    return tf.random.stateless_uniform([2, batch, 1], seed, maxval=size, dtype=tf.int32)


def _cut_out(images: tf.Tensor, length: int, centers: tf.Tensor) -> tf.Tensor:
    """Blacken a square in each image; part of it may lie outside."""
    starts = centers - length // 2
    pixels = tf.range(images.shape[1])
    rows, columns = tf.unstack((pixels >= starts) & (pixels < starts + length))
    inside = rows[:, :, None, None] & columns[:, None, :, None]
    return tf.where(inside, tf.zeros_like(images), images)


def evaluation_batches(split: Split) -> tf.data.Dataset:
    """The split as it is, in order, in batches (images uint8, the split's labels)."""
    return tf.data.Dataset.from_tensor_slices(split).batch(EVALUATION_BATCH).prefetch(1)
