"""Decodes pictures once, and keeps them on disk as raw pixels.

A folder of the cache belongs to one data set at one size:

    index.jsonl  a line on what it was made from, one for each batch of pictures, and a last one
    pixels       those of all pictures that could be read, one after the other

Each line is written after its pixels: what was cut off goes on after the last line.
"""

import concurrent.futures
import hashlib
import io
import itertools
import json
import threading
import weakref
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import filelock
import numpy as np

from larq_seresnet.console import Progress
from larq_seresnet.datasets.data import Example, Shape
from larq_seresnet.errors import UserError

_BATCH = 256
_FORMAT = 1  # of the files, and of how pictures are decoded


@dataclass
class Index:
    """What is known of decoded pictures.

    Attributes:
        names: Of those that could be read, in the order of their pixels.
        labels: The names of their classes.
        splits: Which each belongs to.
        digests: Of their pixels.
        sums: Over the pixels of the training pictures: of the values and of their squares, by
            channel.
        seen: How many pictures were looked at.
        skipped: Names of those that could not be read, and why.
    """

    names: list[str] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    splits: list[str] = field(default_factory=list)
    digests: list[str] = field(default_factory=list)
    sums: np.ndarray | int = 0
    seen: int = 0
    skipped: list[tuple[str, str]] = field(default_factory=list)

    def add(self, line: dict[str, Any]) -> None:
        """Add the pictures of a line of the file."""
        for key in ("names", "labels", "splits", "digests"):
            getattr(self, key).extend(line[key])
        self.skipped.extend((name, reason) for name, reason in line["skipped"])
        self.sums = self.sums + np.array(line["sums"], np.int64)
        self.seen += line["seen"]

    def repeated(self) -> list[tuple[str, str]]:
        """Pairs of names of pictures in different splits that are equal, pixel by pixel."""
        first: dict[str, int] = {}
        pairs = []
        for number, digest in enumerate(self.digests):
            other = first.setdefault(digest, number)
            if self.splits[other] != self.splits[number]:
                pairs.append((self.names[other], self.names[number]))
        return pairs


class Store:
    """The decoded pictures in a folder of the cache, for as long as the process lives.

    Args:
        folder: Of the cache.
        shape: Of each picture.
        fingerprint: Of what is decoded; a folder of another one is made anew.
        keeps_pixels: Whether to write them to disk.

    Attributes:
        index: What is known of the pictures, once it is filled.
    """

    def __init__(
        self,
        folder: Path,
        shape: Shape,
        fingerprint: str,
        *,
        keeps_pixels: bool = True,
    ) -> None:
        self.index = Index()
        self._folder = folder
        self._shape = shape
        self._size = int(np.prod(shape))
        self._head = {
            "format": _FORMAT,
            "fingerprint": fingerprint,
            "shape": list(shape),
            "pixels": keeps_pixels,
        }
        self._lines: list[str] = []
        self._lock = threading.Lock()
        self._pixels: io.FileIO | None = None

    def __getstate__(self) -> dict[str, Any]:
        """For another process, which opens the file itself."""
        return {**self.__dict__, "_lock": None, "_pixels": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _lock=threading.Lock())
        if self._head["pixels"]:
            self._open()

    def _open(self) -> None:
        self._pixels = (self._folder / "pixels").open("rb", buffering=0)
        weakref.finalize(self, self._pixels.close)

    def fill(self, examples: Callable[[int], Iterable[Example]], total: int) -> None:
        """Decode what is not there yet.

        Args:
            examples: Gives the examples from one number on, always in the same order.
            total: How many there are.

        Raises:
            UserError: The folder cannot be written.
        """
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with filelock.FileLock(self._folder / ".lock"):
                if not self._read_index():
                    self._decode(examples, total)
            if self._head["pixels"]:
                self._open()
        except OSError as error:
            raise UserError(
                f"the cache of decoded pictures, {self._folder}, cannot be written ({error}): "
                f"say --cache-dir{', or --no-cache' if self._head['pixels'] else ''}"
            ) from error

    def read(self, numbers: np.ndarray) -> np.ndarray:
        """The pixels of the pictures of these numbers, in the order of the index."""
        assert self._pixels is not None
        images = np.empty((len(numbers), *self._shape), np.uint8)
        with self._lock:
            for image, number in zip(images, numbers, strict=True):
                self._pixels.seek(int(number) * self._size)
                if self._pixels.readinto(memoryview(image).cast("B")) != self._size:
                    raise UserError(f"{self._folder} is damaged: delete it")
        return images

    def _read_index(self) -> bool:
        """Take over what is there; returns whether that is all."""
        self.index, self._lines = Index(), [json.dumps(self._head)]
        try:
            head, *lines = (self._folder / "index.jsonl").read_text().splitlines()
            if head != self._lines[0]:
                return False
            for line in lines:
                content = json.loads(line)
                if "complete" in content:
                    return self._kept == (self._folder / "pixels").stat().st_size
                self.index.add(content)
                self._lines.append(line)
        except (OSError, ValueError, KeyError, TypeError):
            pass  # cut off in the middle of a line: what comes before counts
        return False

    @property
    def _kept(self) -> int:
        """How many bytes of pixels belong to the index."""
        return len(self.index.names) * self._size if self._head["pixels"] else 0

    def _decode(self, examples: Callable[[int], Iterable[Example]], total: int) -> None:
        pixels, index = self._folder / "pixels", self._folder / "index.jsonl"
        if not pixels.exists() or pixels.stat().st_size < self._kept or not self.index.seen:
            self.index, self._lines = Index(), self._lines[:1]
            pixels.unlink(missing_ok=True)  # another process may still read the old one
        index.write_text("\n".join(self._lines) + "\n")
        with (
            pixels.open("ab") as pixel_file,
            index.open("a") as index_file,
            Progress("pictures decoded:") as progress,
            concurrent.futures.ThreadPoolExecutor() as pool,
        ):
            pixel_file.truncate(self._kept)
            remaining = iter(examples(self.index.seen))
            while batch := list(itertools.islice(remaining, _BATCH)):
                line, images = _decoded(batch, list(pool.map(_try, batch)))
                if self._head["pixels"]:
                    pixel_file.write(images)
                    pixel_file.flush()
                index_file.write(json.dumps(line) + "\n")
                index_file.flush()
                self.index.add(line)
                progress(self.index.seen, total)
            index_file.write(json.dumps({"complete": True}) + "\n")


def _try(example: Example) -> np.ndarray | str:
    """The pixels, or why there are none."""
    try:
        return example.decode()
    except (OSError, ValueError) as error:
        return error.strerror or str(error) if isinstance(error, OSError) else str(error)


def _decoded(
    batch: Sequence[Example], results: Sequence[np.ndarray | str]
) -> tuple[dict[str, Any], bytes]:
    """The index's line of a batch, and the pixels of what could be read."""
    found = [
        (example, image)
        for example, image in zip(batch, results, strict=True)
        if isinstance(image, np.ndarray)
    ]
    learned = [image for example, image in found if example.split == "train"]
    line = {
        "seen": len(batch),
        "names": [example.name for example, _ in found],
        "labels": [example.label for example, _ in found],
        "splits": [example.split for example, _ in found],
        "digests": [
            hashlib.blake2b(image.tobytes(), digest_size=8).hexdigest() for _, image in found
        ],
        "sums": _sums(learned),
        "skipped": [
            [example.name, result]
            for example, result in zip(batch, results, strict=True)
            if isinstance(result, str)
        ],
    }
    return line, b"".join(image.tobytes() for _, image in found)


def _sums(images: Sequence[np.ndarray]) -> list[list[int]] | int:
    """Of the values and of their squares, by channel."""
    if not images:
        return 0
    values = np.stack(images).astype(np.int64)
    return [(values**power).sum(axis=(0, 1, 2)).tolist() for power in (1, 2)]
