"""Images of data sets that are on disk, or come with scikit-learn."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from larq_seresnet._tensorflow import tf

SPLITS = {"train": "train[:90%]", "validation": "train[90%:]", "test": "test"}
"""The project's splits, as `tensorflow_datasets` calls them."""

Split = tuple[np.ndarray, np.ndarray]  # images (n, height, width, 3) uint8, labels (n,) int64


def load_images(name: str, split: str = "test", count: int | None = None) -> np.ndarray:
    """Load images of a data set.

    Args:
        name: "digits", or a data set of `tensorflow_datasets` in `TFDS_DATA_DIR`.
        split: One of `SPLITS`.
        count: Only the first so many.

    Returns:
        Raw pixels (images, height, width, channels), uint8.

    Raises:
        ValueError: Unknown `split`, or the data set is not there.
    """
    if split not in SPLITS:
        raise ValueError(f"split must be one of {', '.join(SPLITS)}, not {split!r}")
    if name == "digits":
        return load_digits()[split][0][:count]
    try:
        import tensorflow_datasets as tfds

        builder = tfds.builder(name)
        examples = builder.as_dataset(split=SPLITS[split])
        examples = examples.take(-1 if count is None else count).batch(1000)
        return np.concatenate([batch["image"] for batch in tfds.as_numpy(examples)])
    except (ImportError, AssertionError, ValueError, KeyError, OSError) as error:
        raise ValueError(
            f"the images of data set {name!r} are not there: point TFDS_DATA_DIR to a folder of "
            "tensorflow_datasets that has it"
        ) from error


def known_dataset(model: str, metadata: Mapping[str, Any], dataset: str | None) -> str:
    """`dataset`, or else the one that the model's metadata say it was trained on.

    Raises:
        ValueError: Neither says one.
    """
    found = dataset or metadata.get("dataset")
    if not found:
        raise ValueError(f"which images {model} was trained on is not known: say --dataset")
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
