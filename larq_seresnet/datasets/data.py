"""What a data set is: pixels, labels, and what is known of both."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

SPLITS = ("train", "validation", "test")
"""What is learned from, what decisions are made on, and what final figures come from."""

Shape = tuple[int, int, int]  # height, width, channels


@dataclass(frozen=True)
class Example:
    """A picture that is there to be decoded.

    Attributes:
        name: For people.
        label: Of its class.
        split: One of `SPLITS`.
        decode: Gives its pixels, or raises an `OSError` or `ValueError`.
    """

    name: str
    label: str
    split: str
    decode: Callable[[], np.ndarray]


class Pixels:
    """Images that need not be in memory: indexed by slices and arrays of numbers, as arrays are.

    Args:
        read: Gives the images of these numbers, (n, height, width, channels) uint8.
        numbers: Of all images that there are, as `read` takes them.
        shape: Of an image.
    """

    dtype = np.dtype(np.uint8)

    def __init__(
        self, read: Callable[[np.ndarray], np.ndarray], numbers: np.ndarray, shape: Shape
    ) -> None:
        self._read = read
        self._numbers = numbers
        self.shape = (len(numbers), *shape)

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, chosen: Any) -> np.ndarray:
        numbers = np.asarray(self._numbers[chosen])
        images = self._read(numbers.ravel())
        return images if numbers.ndim else images[0]

    def first(self, count: int) -> "Pixels":
        """The first so many images, not read yet."""
        return Pixels(self._read, self._numbers[:count], self.shape[1:])

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self[number] for number in range(len(self)))


# Images (n, height, width, channels) uint8, an array or `Pixels`, and their labels (n,).
Split = tuple[Any, np.ndarray]


@dataclass(frozen=True)
class Source:
    """What is known of a data set.

    Attributes:
        labels: The classes' names.
        mean: Per-channel mean of the raw pixels of the training split.
        variance: Per-channel variance of the raw pixels of the training split.
        flip: Whether an image's mirror image is as good as the image.
        licence: Of the images, and so of networks trained on them; empty where it is not known.
        url: Where `tensorflow_datasets` downloads it from; empty where no download is needed.
        shape: Height, width and channels of the images.
    """

    labels: tuple[str, ...]
    mean: tuple[float, ...]
    variance: tuple[float, ...]
    flip: bool = True
    licence: str = ""
    url: str = ""
    shape: Shape = (32, 32, 3)


@dataclass(frozen=True)
class Data:
    """A loaded data set.

    Attributes:
        source: Its labels and statistics.
        train: What the network learns from.
        validation: The same in every run: for every decision.
        test: For curves and final figures only.
        test_boxes: Where what was pasted is in the test images: top, left, bottom and right in
            pixels, (images, 4). None where nothing was.
        test_names: Of the test images; empty where they have none.
        fingerprint: Changes with the pictures; empty where these cannot change.
        skipped: Names of pictures that cannot be read, and why.
    """

    source: Source
    train: Split
    validation: Split
    test: Split
    test_boxes: np.ndarray | None = None
    test_names: tuple[str, ...] = ()
    fingerprint: str = ""
    skipped: tuple[tuple[str, str], ...] = ()


def top1_error(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """How many images of a hundred get another class than theirs: (n, classes) and (n,)."""
    return float(100 * np.mean(probabilities.argmax(axis=1) != labels))
