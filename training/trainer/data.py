"""What is trained on: a data set's images, augmented batch by batch."""

import contextlib
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import tensorflow as tf

from larq_seresnet import datasets
from larq_seresnet.datasets import Data, Split
from larq_seresnet.datasets import top1_error as top1_error
from larq_seresnet.datasets.data import Pixels
from training import UserError
from training.trainer.augmentation import Augmentation
from training.trainer.pasted import CANVASES, paste_digits, paste_svhn

EVALUATION_BATCH = 500

SOURCES = {
    **datasets.SOURCES,
    "pasted_digits": replace(
        datasets.SOURCES["digits"],
        mean=(93.3,) * 3,
        variance=(1577.0,) * 3,
        shape=(*(CANVASES["pasted_digits"].size,) * 2, 3),
    ),
    "pasted_svhn": replace(
        datasets.SOURCES["svhn_cropped"],
        mean=(88.1, 88.2, 89.5),
        variance=(1263.0,) * 3,
        shape=(*(CANVASES["pasted_svhn"].size,) * 2, 3),
    ),
}
"""The package's, and those that only experiments use."""


def load(name: str, data_dir: Any = None, **options: Any) -> Data:
    """Load a data set, as `datasets.load` does, or one of those that only experiments use.

    Args:
        name: One of `SOURCES`, or what `datasets.load` takes.
        data_dir: Where `tensorflow_datasets` keeps its data.
        **options: As for `datasets.load`.

    Raises:
        UserError: The data are missing and cannot be downloaded, or damaged.
    """
    if name not in CANVASES:
        return datasets.load(name, data_dir, **options)
    if options.get("size") or options.get("grey"):
        raise UserError(f"{name} has a size and colors of its own: leave out --size and --grey")
    if name == "pasted_digits":
        splits, boxes = paste_digits()
    else:
        whole = datasets.load("svhn_cropped", data_dir)
        splits, boxes = paste_svhn({split: getattr(whole, split) for split in datasets.SPLITS})
    return Data(
        SOURCES[name], splits["train"], splits["validation"], splits["test"], test_boxes=boxes
    )


def training_batches(
    split: Split,
    augmentation: Augmentation,
    *,
    batch_size: int,
    seed: int,
    epochs: range,
    distinct: int = 0,
    worker: int = 0,
    workers: int = 1,
) -> tf.data.Dataset:
    """Shuffled and augmented batches of whole epochs, one after the other.

    Order and augmentation depend on `seed` and the epoch's number alone, so that a resumed run
    sees what the uninterrupted one would have seen. The last, incomplete batch of an epoch is
    dropped: other images each time.

    After `distinct` epochs, if that is not 0, the same batches come again.

    Where several workers share each batch, this is the share of the one with number `worker`.

    Returns:
        `len(epochs) * (len(images) // batch_size)` batches (images uint8, the split's labels), of
        `batch_size // workers` images.
    """
    images, labels = split
    targets = tf.constant(labels)
    share = slice(worker * batch_size // workers, (worker + 1) * batch_size // workers)
    augment = augmentation.prepare(images.shape[-1], batch_size, share)

    def epoch_batches(epoch: tf.Tensor) -> tf.data.Dataset:
        epoch_seed = tf.random.experimental.stateless_fold_in([seed, 0], epoch)
        order = tf.random.experimental.stateless_shuffle(tf.range(len(labels)), epoch_seed)

        def batch(step: tf.Tensor, indices: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            batch_seed = tf.random.experimental.stateless_fold_in(epoch_seed, step)
            indices = indices[share]
            return augment(_pixels(images, indices), batch_seed), tf.gather(targets, indices)

        indices = tf.data.Dataset.from_tensor_slices(order).batch(batch_size, drop_remainder=True)
        return indices.enumerate().map(batch, num_parallel_calls=tf.data.AUTOTUNE)

    epoch_numbers = tf.data.Dataset.range(epochs.start, epochs.stop)
    if distinct:
        epoch_numbers = epoch_numbers.map(lambda epoch: epoch % distinct)
    return epoch_numbers.flat_map(epoch_batches).prefetch(tf.data.AUTOTUNE)


def first(split: Split, count: int) -> Split:
    """The first images of a split, which are not read where they are on disk."""
    images, labels = split
    return images.first(count) if isinstance(images, Pixels) else images[:count], labels[:count]


def evaluation_batches(split: Split) -> tf.data.Dataset:
    """The split as it is, in order, in batches (images uint8, the split's labels)."""
    images, labels = split
    numbers = tf.data.Dataset.from_tensor_slices((np.arange(len(labels)), labels))
    batches = numbers.batch(EVALUATION_BATCH)
    return batches.map(lambda chosen, labels: (_pixels(images, chosen), labels)).prefetch(1)


@contextlib.contextmanager
def in_one_line() -> Iterator[None]:
    """Give back what TensorFlow makes of a `UserError` while it reads images.

    Raises:
        UserError: As it was raised there.
    """
    try:
        yield
    except tf.errors.OpError as error:
        found = re.search(r"UserError: (.+)", str(error.message))
        if not found:
            raise
        raise UserError(found[1]) from error


def _pixels(images: Any, numbers: tf.Tensor) -> tf.Tensor:
    """The images of these numbers, wherever they lie."""
    # Stateless: what is read does not change, so that TensorFlow may read ahead.
    chosen = tf.numpy_function(lambda i: images[i], [numbers], tf.uint8, stateful=False)
    return tf.ensure_shape(chosen, (*numbers.shape, *images.shape[1:]))
