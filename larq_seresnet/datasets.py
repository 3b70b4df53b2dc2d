"""Data sets: raw uint8 pixels in memory, split once and for all.

The networks standardize by themselves, so nothing here touches the pixels' scale.
"""

import contextlib
import os
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from larq_seresnet._tensorflow import tf
from larq_seresnet.architecture import CIFAR10_MEAN, CIFAR10_VARIANCE
from larq_seresnet.errors import UserError

SPLITS = {"train": "train[:90%]", "validation": "train[90%:]", "test": "test"}
"""The project's splits, as `tensorflow_datasets` calls them."""

Split = tuple[np.ndarray, np.ndarray]  # images (n, height, width, channels) uint8, labels (n,)


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
    """Load a data set into memory; one of `tensorflow_datasets` is downloaded where it is missing.

    Args:
        name: One of `SOURCES`.
        data_dir: Where `tensorflow_datasets` keeps its data; by default `TFDS_DATA_DIR`, or
            `~/tensorflow_datasets`.

    Raises:
        UserError: The data are missing and cannot be downloaded, or damaged.
    """
    train, validation, test = (read(name, split, data_dir=data_dir) for split in SPLITS)
    return Data(SOURCES[name], train, validation, test)


def read(
    name: str,
    split: str = "test",
    count: int | None = None,
    *,
    data_dir: str | Path | None = None,
    download: bool = True,
) -> Split:
    """Read a split of a data set.

    Args:
        name: "digits", or a data set of `tensorflow_datasets`.
        split: One of `SPLITS`.
        count: Only the first so many images.
        data_dir: As in `load`.
        download: Whether to, where the data set is not there.

    Raises:
        UserError: Unknown `split`; or the data are missing, or damaged.
    """
    if split not in SPLITS:
        raise UserError(f"split must be one of {', '.join(SPLITS)}, not {split!r}")
    if name == "digits":
        images, labels = load_digits()[split]
        return images[:count], labels[:count]
    import tensorflow_datasets as tfds

    place = Path(data_dir or os.environ.get("TFDS_DATA_DIR", "~/tensorflow_datasets")).expanduser()
    advice = (
        "prepare it with tensorflow_datasets and point TFDS_DATA_DIR or --data-dir there, "
        "or take --dataset digits, which needs no download"
    )
    try:
        builder = tfds.builder(name, data_dir=str(place))
        if not builder.is_prepared():
            if not download:
                raise OSError("it was not prepared")
            _require_reachable(SOURCES[name].url)
            builder.download_and_prepare()
        examples = builder.as_dataset(split=SPLITS[split], as_supervised=True)
        examples = examples.take(-1 if count is None else count).batch(1000)
        batches = list(tfds.as_numpy(examples))
        images, labels = (np.concatenate(parts) for parts in zip(*batches, strict=True))
        return images, labels
    except (OSError, tfds.download.DownloadError, tfds.core.DatasetNotFoundError) as error:
        raise UserError(
            f"data set {name} is not in {place} and cannot be downloaded "
            f"({_first_line(error)}): {advice}"
        ) from error
    except Exception as error:  # whatever a damaged file makes the parsers raise
        raise UserError(
            f"data set {name} in {place} cannot be read ({_first_line(error)}): "
            f"delete {place / name}, then {advice}"
        ) from error


def load_images(name: str, split: str = "test", count: int | None = None) -> np.ndarray:
    """The images alone of a data set that is on disk, as `read` gives them."""
    return read(name, split, count, download=False)[0]


def known_dataset(model: str, metadata: Mapping[str, Any], dataset: str | None) -> str:
    """`dataset`, or else the one that the model's metadata say it was trained on.

    Raises:
        UserError: Neither says one.
    """
    found = dataset or metadata.get("dataset")
    if not found:
        raise UserError(f"which images {model} was trained on is not known: say --dataset")
    return found


def load_digits(size: int = 32) -> dict[str, Split]:
    """scikit-learn's 1,797 handwritten digits of 8x8 pixels, enlarged to `size` pixels, as RGB."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = tf.image.resize(digits.images[..., None] * (255 / 16), (size, size)).numpy()
    images = np.repeat(images.round().astype(np.uint8), 3, axis=-1)
    labels = digits.target.astype(np.int64)
    order = np.random.default_rng(0).permutation(len(labels))
    test, validation, train = np.split(order, [360, 360 + 144])
    parts = {"train": train, "validation": validation, "test": test}
    return {name: (images[part], labels[part]) for name, part in parts.items()}


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
