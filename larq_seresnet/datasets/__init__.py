"""Data sets: raw uint8 pixels, split once and for all.

    data = load("cifar10")                       # of `tensorflow_datasets`
    data = load("photos/", size=(64, 64))        # a folder for each class, of pictures of any size
    data = load("labels.csv", size=(64, 64))     # pictures that lie elsewhere

The networks standardize by themselves, so nothing here touches the pixels' scale.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from larq_seresnet.datasets import catalogue, own
from larq_seresnet.datasets.data import SPLITS as SPLITS
from larq_seresnet.datasets.data import Data, Shape
from larq_seresnet.datasets.data import Source as Source
from larq_seresnet.datasets.data import Split as Split
from larq_seresnet.datasets.data import top1_error as top1_error
from larq_seresnet.datasets.known import SOURCES, load_digits
from larq_seresnet.edge.images import fit_image
from larq_seresnet.errors import UserError

# Those of the known data sets, as `tensorflow_datasets` calls them.
_KNOWN_SPLITS = {"train": "train[:90%]", "validation": "train[90%:]", "test": "test"}


def load(
    name: str | Path,
    data_dir: str | Path | None = None,
    *,
    size: tuple[int, int] | None = None,
    grey: bool = False,
    cache: bool = True,
    cache_dir: str | Path | None = None,
    strict: bool = False,
) -> Data:
    """Load a data set; one of `tensorflow_datasets` is downloaded where it is missing.

    The known ones are in memory. Other pictures are decoded once, to a cache on disk.

    Args:
        name: "digits", a data set of `tensorflow_datasets` ("mnist:3.*.*"), or the path of a
            folder or CSV file (`listing.Listing`).
        data_dir: Where `tensorflow_datasets` keeps its data; by default `TFDS_DATA_DIR`, or
            `~/tensorflow_datasets`.
        size: Height and width, to which images are made to fit (`edge.images.fit_image`); by
            default the data set's own, or 32 by 32 where it has none.
        grey: Whether the images get one channel.
        cache: Whether to keep decoded pictures; else they are decoded whenever they are needed.
        cache_dir: Where; by default `~/.cache/larq-seresnet`.
        strict: Whether a picture that cannot be read is an error.

    Raises:
        UserError: The data are missing and cannot be downloaded, or damaged, or too few.
    """
    name = str(name)
    if name in SOURCES:
        train, validation, test = (read(name, split, data_dir=data_dir) for split in SPLITS)
        return _fitted(Data(SOURCES[name], train, validation, test), size, grey)
    found = own.find(name, data_dir)
    height_and_width = size or (found.shape or own.DEFAULT_SHAPE)[:2]
    shape = (*height_and_width, 1 if grey else found.channels)
    return own.load(name, found, shape, cache=cache, cache_dir=cache_dir, strict=strict)


def read(
    name: str,
    split: str = "test",
    count: int | None = None,
    *,
    shape: Shape | None = None,
    data_dir: str | Path | None = None,
    download: bool = True,
) -> tuple[np.ndarray, np.ndarray]:
    """Read a split of a data set, or its beginning, into memory.

    Args:
        name: As for `load`.
        split: One of `SPLITS`.
        count: Only the first so many images.
        shape: Height, width and channels to fit the images to; by default their own.
        data_dir: As in `load`.
        download: Whether to, where the data set is not there.

    Returns:
        Images (n, height, width, channels) uint8, and labels (n,).

    Raises:
        UserError: Unknown `split`; or the data are missing, or damaged.
    """
    if split not in SPLITS:
        raise UserError(f"split must be one of {', '.join(SPLITS)}, not {split!r}")
    if name not in SOURCES:
        return own.read(own.find(name, data_dir, download=download), split, count, shape)
    if name == "digits":
        images, labels = load_digits()[split]
        images, labels = images[:count], labels[:count]
    else:
        builder = catalogue.builder(name, data_dir, download=download)
        with catalogue.reported(name, data_dir):
            images, labels = _read_known(builder, split, count)
    return _fit_all(images, shape or images.shape[1:]), labels


def load_images(
    name: str, split: str = "test", count: int | None = None, shape: Shape | None = None
) -> np.ndarray:
    """The images alone of a data set that is on disk, as `read` gives them."""
    return read(name, split, count, shape=shape, download=False)[0]


def display_name(name: str) -> str:
    """A data set's name for others, without the folders that it lies in."""
    return Path(name).name if name not in SOURCES and Path(name).expanduser().exists() else name


def _read_known(builder: Any, split: str, count: int | None) -> tuple[np.ndarray, np.ndarray]:
    import tensorflow_datasets as tfds

    examples = builder.as_dataset(split=_KNOWN_SPLITS[split], as_supervised=True)
    batches = list(tfds.as_numpy(examples.take(-1 if count is None else count).batch(1000)))
    images, labels = (np.concatenate(parts) for parts in zip(*batches, strict=True))
    return images, labels


def _fitted(data: Data, size: tuple[int, int] | None, grey: bool) -> Data:
    """A data set in memory with images of another shape."""
    own_shape = data.source.shape
    shape = (*(size or own_shape[:2]), 1 if grey else own_shape[2])
    if shape == own_shape:
        return data
    train, validation, test = (
        (_fit_all(images, shape), labels)
        for images, labels in (data.train, data.validation, data.test)
    )
    mean, variance = train[0].mean(axis=(0, 1, 2)), train[0].var(axis=(0, 1, 2))
    source = replace(data.source, mean=tuple(mean), variance=tuple(variance), shape=shape)
    return replace(data, source=source, train=train, validation=validation, test=test)


def _fit_all(images: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    if images.shape[1:] == shape:
        return images
    return np.stack([fit_image(image, *shape) for image in images])
