"""The user's own pictures: found, decoded, checked and split."""

import hashlib
import logging
import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from larq_seresnet.datasets import catalogue
from larq_seresnet.datasets.data import SPLITS, Data, Example, Pixels, Shape, Source, Split
from larq_seresnet.datasets.known import SOURCES
from larq_seresnet.datasets.listing import Listing
from larq_seresnet.datasets.store import Index, Store
from larq_seresnet.edge.errors import printable
from larq_seresnet.errors import UserError
from larq_seresnet.files import cache_folder

DEFAULT_SHAPE: Shape = (32, 32, 3)
_NAMED = 5  # pictures in a message

log = logging.getLogger(__name__)


def find(
    name: str, data_dir: str | Path | None, *, download: bool = True
) -> Listing | catalogue.Labelled:
    """The pictures of a folder, a CSV file or a data set of `tensorflow_datasets`.

    Raises:
        UserError: There is nothing of that name, or it cannot be read.
    """
    place = place_of(name)
    if place is not None:
        return Listing(place)
    return catalogue.Labelled(name, data_dir, download=download)


def place_of(name: str) -> Path | None:
    """The folder or CSV file that a data set's name stands for; None for one of a catalogue.

    Raises:
        UserError: It can only be a path, and there is nothing.
    """
    path = Path(name).expanduser()
    if name in SOURCES:
        return None
    if path.is_dir() or (path.is_file() and path.suffix.lower() == ".csv"):
        return path
    if path.is_file():
        raise UserError(f"{name} is no folder of pictures and no CSV file")
    if name.startswith(("/", ".", "~")) or name.endswith(("/", ".csv")):
        raise UserError(f"there is no folder or file {name}")
    return None


def load(
    name: str,
    found: Listing | catalogue.Labelled,
    shape: Shape,
    *,
    cache: bool,
    cache_dir: str | Path | None,
    strict: bool,
) -> Data:
    """Decode pictures, and check that a network can be trained on them.

    Arguments and errors are those of `datasets.load`.
    """
    if not cache and not isinstance(found, Listing):
        raise UserError(f"--no-cache needs pictures in files, and {name} has none")
    if len(found.labels) < 2:
        raise UserError(f"{name} has one class, {found.labels[0]}: a classifier needs two")
    folder = _cache_folder(cache_dir, name, shape, cache)
    store = Store(folder, shape, found.fingerprint, keeps_pixels=cache)
    store.fill(lambda start: found.examples(start, shape), found.count)
    skipped = [*found.skipped, *store.index.skipped]
    if strict and skipped:
        raise UserError("--strict: {}: {}".format(*map(printable, skipped[0])))
    _check(name, store.index, found.labels, skipped)
    read_pixels = store.read if cache else _Decoder(found.examples(0, shape), store.index, shape)
    return _data(found, shape, store.index, read_pixels, skipped)


def read(
    found: Listing | catalogue.Labelled, split: str, count: int | None, shape: Shape | None
) -> tuple[np.ndarray, np.ndarray]:
    """The first pictures of a split, straight from their files, and their labels.

    Arguments and errors are those of `datasets.read`.
    """
    shape = shape or found.shape or DEFAULT_SHAPE
    images: list[np.ndarray] = []
    labels: list[int] = []
    for example in found.examples(0, shape):
        if len(images) == count:
            break
        if example.split == split:
            try:
                images.append(example.decode())
            except (OSError, ValueError):
                continue  # as in training
            labels.append(found.labels.index(example.label))
    if not images:
        raise UserError(f"there is no picture in the {split} split")
    return np.stack(images), np.array(labels, np.int64)


class _Decoder:
    """Reads pictures whenever they are needed."""

    def __init__(self, examples: Iterable[Example], index: Index, shape: Shape) -> None:
        known = set(index.names)
        self._examples = [example for example in examples if example.name in known]
        self._shape = shape
        self._pool = ThreadPoolExecutor()

    def __call__(self, numbers: np.ndarray) -> np.ndarray:
        images = list(self._pool.map(self._decode, numbers))
        return np.stack(images) if images else np.empty((0, *self._shape), np.uint8)

    def _decode(self, number: int) -> np.ndarray:
        example = self._examples[number]
        try:
            return example.decode()
        except (OSError, ValueError) as error:
            raise UserError(f"{printable(example.name)} cannot be read any more") from error


def _data(
    found: Listing | catalogue.Labelled,
    shape: Shape,
    index: Index,
    read_pixels: Callable[[np.ndarray], np.ndarray],
    skipped: Sequence[tuple[str, str]],
) -> Data:
    numbers = {label: number for number, label in enumerate(found.labels)}
    targets = np.array([numbers[label] for label in index.labels], np.int64)
    splits = np.array(index.splits)
    train, validation, test = (np.flatnonzero(splits == split) for split in SPLITS)
    count = len(train) * shape[0] * shape[1]
    mean, square = np.asarray(index.sums, np.float64) / count
    variance = np.maximum(square - mean**2, 1)  # pictures of one color have none
    source = Source(
        found.labels,
        tuple(mean.round(1).tolist()),
        tuple(variance.round().tolist()),
        shape=shape,
    )

    def part(which: np.ndarray) -> Split:
        return Pixels(read_pixels, which, shape), targets[which]

    return Data(
        source,
        part(train),
        part(validation),
        part(test),
        test_names=tuple(index.names[number] for number in test),
        fingerprint=found.fingerprint,
        skipped=tuple(skipped),
    )


def _check(
    name: str, index: Index, labels: Sequence[str], skipped: Sequence[tuple[str, str]]
) -> None:
    """Say what is missing, repeated or left out.

    Raises:
        UserError: It cannot be trained on.
    """
    if skipped:
        _warn("skipped", [f"{printable(file)} ({reason})" for file, reason in skipped])
    if repeated := index.repeated():
        pairs = [f"{printable(a)} = {printable(b)}" for a, b in repeated]
        _warn("equal pictures in two splits, which makes errors look smaller", pairs)
    counts = {split: Counter[str]() for split in SPLITS}
    for label, split in zip(index.labels, index.splits, strict=True):
        counts[split][label] += 1
    for label in labels:
        total = sum(count[label] for count in counts.values())
        if total < 2 or not counts["train"][label]:
            raise UserError(
                f"{name}: class {printable(label)} has {total} picture{'s' * (total != 1)} that "
                f"can be read, {counts['train'][label]} of them to train on: add some, or remove it"
            )
    for split in SPLITS[1:]:
        if not counts[split]:
            raise UserError(
                f"{name} has too few pictures to draw a {split} split from: add some, or put some "
                f"into a folder {split}/ beside train/"
            )
        if missing := [printable(label) for label in labels if not counts[split][label]]:
            _warn(f"classes without a picture in the {split} split", missing)


def _warn(what: str, names: Sequence[str]) -> None:
    more = f", and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    log.warning("%s (%d): %s%s", what, len(names), ", ".join(names[:_NAMED]), more)


def _cache_folder(
    cache_dir: str | Path | None, name: str, shape: Shape, keeps_pixels: bool
) -> Path:
    place = place_of(name)
    where = str(place.resolve()) if place else name
    code = hashlib.sha256(os.fsencode(where)).hexdigest()[:12]
    stem = "".join(c if c.isalnum() else "-" for c in (place or Path(name)).name)[:40]
    parts = [stem, code, "x".join(map(str, shape)), *([] if keeps_pixels else ["index"])]
    return cache_folder(cache_dir) / "_".join(parts)
