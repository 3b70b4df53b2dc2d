"""The data sets: raw uint8 pixels in memory, split once and for all, and augmented batch by batch.

The networks standardize by themselves, so nothing here touches the pixels' scale.
"""

import contextlib
import os
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf

from larq_seresnet.datasets import SPLITS, Split, load_digits
from larq_seresnet.models import CIFAR10_MEAN, CIFAR10_VARIANCE
from training import UserError
from training.experiments.pasted import CANVASES, paste_digits, paste_svhn

EVALUATION_BATCH = 500


@dataclass(frozen=True)
class Source:
    """What is known of a data set before it is loaded.

    Attributes:
        labels: The classes' names.
        mean: Per-channel mean of the raw pixels of the training split.
        variance: Per-channel variance of the raw pixels of the training split.
        flip: Whether an image's mirror image is as good as the image.
        licence: Of the images, and so of networks trained on them.
        url: Where `tensorflow_datasets` downloads it from; empty where no download is needed.
        size: Height and width of the images.
    """

    labels: tuple[str, ...]
    mean: tuple[float, ...]
    variance: tuple[float, ...]
    flip: bool
    licence: str
    url: str = ""
    size: int = 32


_DIGITS = tuple("0123456789")
_DIGITS_LICENCE = (
    "[Optical Recognition of Handwritten Digits]"
    "(https://archive.ics.uci.edu/dataset/80): CC BY 4.0 (Alpaydin and Kaynak, 1998)"
)
_SVHN_URL = "http://ufldl.stanford.edu/housenumbers/"
_SVHN_LICENCE = f"[SVHN]({_SVHN_URL}): for non-commercial use only (Netzer et al., 2011)"

SOURCES = {
    "cifar10": Source(
        labels=(
            "airplane",
            "automobile",
            "bird",
            "cat",
            "deer",
            "dog",
            "frog",
            "horse",
            "ship",
            "truck",
        ),
        mean=CIFAR10_MEAN,
        variance=CIFAR10_VARIANCE,
        flip=True,
        licence="[CIFAR-10](https://www.cs.toronto.edu/~kriz/cifar.html): its authors state no "
        "licence and ask for a citation (Krizhevsky, 2009)",
        url="https://www.cs.toronto.edu/~kriz/cifar.html",
    ),
    "svhn_cropped": Source(
        labels=_DIGITS,
        mean=(112.7, 114.0, 121.2),
        variance=(2576.0, 2647.0, 2540.0),
        flip=False,
        licence=_SVHN_LICENCE,
        url=_SVHN_URL,
    ),
    "digits": Source(
        labels=_DIGITS,
        mean=(77.8,) * 3,
        variance=(6819.0,) * 3,
        flip=False,
        licence=_DIGITS_LICENCE,
    ),
    "pasted_digits": Source(
        labels=_DIGITS,
        mean=(93.3,) * 3,
        variance=(1577.0,) * 3,
        flip=False,
        licence=_DIGITS_LICENCE,
        size=CANVASES["pasted_digits"].size,
    ),
    "pasted_svhn": Source(
        labels=_DIGITS,
        mean=(88.1, 88.2, 89.5),
        variance=(1263.0,) * 3,
        flip=False,
        licence=_SVHN_LICENCE,
        url=_SVHN_URL,
        size=CANVASES["pasted_svhn"].size,
    ),
}


@dataclass(frozen=True)
class Data:
    """A loaded data set.

    Attributes:
        source: Its labels and statistics.
        train: What the network learns from, 90 % of the training data.
        validation: The other 10 %, the same in every run: for every decision.
        test: For curves and final figures only.
        test_boxes: Where what was pasted is in the test images: top, left, bottom and right in
            pixels, (images, 4). None where nothing was.
    """

    source: Source
    train: Split
    validation: Split
    test: Split
    test_boxes: np.ndarray | None = None


def top1_error(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """How many images of a hundred get another class than theirs: (n, classes) and (n,)."""
    return float(100 * np.mean(probabilities.argmax(axis=1) != labels))


def load(name: str, data_dir: str | Path | None = None) -> Data:
    """Load a data set into memory.

    Args:
        name: One of `SOURCES`.
        data_dir: Where `tensorflow_datasets` keeps its data; by default `TFDS_DATA_DIR`, or
            `~/tensorflow_datasets`.

    Raises:
        UserError: The data are missing and cannot be downloaded, or damaged.
    """
    boxes = None
    if name == "digits":
        splits = load_digits()
    elif name == "pasted_digits":
        splits, boxes = paste_digits()
    elif name == "pasted_svhn":
        splits, boxes = paste_svhn(_load_tfds("svhn_cropped", data_dir))
    else:
        splits = _load_tfds(name, data_dir)
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


def _load_tfds(name: str, data_dir: str | Path | None) -> dict[str, Split]:
    import tensorflow_datasets as tfds

    place = Path(data_dir or os.environ.get("TFDS_DATA_DIR", "~/tensorflow_datasets")).expanduser()
    advice = (
        "prepare it with tensorflow_datasets and point TFDS_DATA_DIR or --data-dir there, "
        "or take --dataset digits, which needs no download"
    )
    try:
        builder = tfds.builder(name, data_dir=str(place))
        if not builder.is_prepared():
            _require_reachable(SOURCES[name].url)
            builder.download_and_prepare()
        splits = builder.as_dataset(split=list(SPLITS.values()), batch_size=-1, as_supervised=True)
    except (OSError, tfds.download.DownloadError) as error:
        raise UserError(
            f"data set {name} is not in {place} and cannot be downloaded "
            f"({_first_line(error)}): {advice}"
        ) from error
    except Exception as error:  # whatever a damaged file makes the parsers raise
        raise UserError(
            f"data set {name} in {place} cannot be read ({_first_line(error)}): "
            f"delete {place / name}, then {advice}"
        ) from error
    arrays = [(images.numpy(), labels.numpy()) for images, labels in splits]
    return dict(zip(SPLITS, arrays, strict=True))


def _require_reachable(url: str) -> None:
    """Fail at once where the download would retry for minutes.

    Raises:
        OSError: No connection.
    """
    request = urllib.request.Request(url, method="HEAD")
    with contextlib.suppress(urllib.error.HTTPError):  # it answers
        urllib.request.urlopen(request, timeout=10).close()


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
