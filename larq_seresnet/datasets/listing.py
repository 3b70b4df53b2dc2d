"""Finds pictures: in folders, one for each class, or by the rows of a CSV file."""

import csv
import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from larq_seresnet.datasets.data import SPLITS, Example, Shape
from larq_seresnet.edge.errors import printable
from larq_seresnet.edge.images import ImageError, load_image
from larq_seresnet.errors import UserError

_SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "test": "test",
    "testing": "test",
}
_SHARE = 0.1  # of the pictures, for each split that has to be drawn


@dataclass(frozen=True)
class Picture:
    """A file that may be a picture.

    Attributes:
        name: Its path as users know it: from the folder, or as the CSV file has it.
        path: Where it lies.
        label: The name of its class.
        split: One of `SPLITS`, or empty where it is to be drawn.
    """

    name: str
    path: Path
    label: str
    split: str = ""


class Listing:
    """All pictures of a folder or a CSV file, in an order that mixes the classes.

    A folder has a sub-folder for each class; or `train`, and where there is a split of its own
    `validation` (or `val`) and `test`, with these in it. A CSV file has the columns `path`, `label`
    and, where it likes, `split`; its paths start from its folder.

    Splits that are missing are drawn from the training pictures by a hash of each one's name, a
    tenth for each: adding pictures moves no other from one split to another.

    Attributes:
        labels: The names of the classes.
        count: How many files may be pictures.
        shape: None: the pictures may be of any size.
        channels: Of most.
        skipped: What lies there and is left out, and why.
        fingerprint: Changes with the pictures' names, sizes, times, labels and splits.

    Raises:
        UserError: There are none, or the place cannot be read.
    """

    shape = None
    channels = 3

    def __init__(self, place: Path) -> None:
        self.skipped: list[tuple[str, str]] = []
        try:
            found = list(_from_csv(place) if place.is_file() else _from_folder(place, self.skipped))
        except UnicodeDecodeError as error:
            raise UserError(f"{place} is no text in UTF-8: save it as such") from error
        except (OSError, csv.Error) as error:
            raise UserError(f"{place} cannot be read: {error}") from error
        drawn = [name for name in SPLITS[1:] if not any(x.split == name for x in found)]
        self._pictures, facts = [], []
        for picture in sorted(found, key=lambda x: (_hash(x.name), x.name)):
            if not picture.split or (picture.split == "train" and drawn):
                picture = replace(picture, split=draw_split(picture.name, drawn))
            try:
                status = picture.path.stat()
            except OSError as error:
                self.skipped.append((picture.name, error.strerror or "it cannot be read"))
                continue
            self._pictures.append(picture)
            what = (picture.name, picture.label, picture.split)
            facts.append((*what, status.st_size, status.st_mtime_ns))
        if not self._pictures:
            raise UserError(f"{place} has no pictures{_reason(self.skipped)}")
        self.labels = class_names(picture.label for picture in self._pictures)
        self.count = len(self._pictures)
        self.fingerprint = hashlib.sha256(repr(sorted(facts)).encode()).hexdigest()

    def examples(self, start: int, shape: Shape) -> Iterator[Example]:
        """The pictures from one number on, always in the same order."""
        for picture in self._pictures[start:]:
            yield Example(picture.name, picture.label, picture.split, _Decode(picture.path, shape))


class _Decode:
    """Reads a picture, with a reason alone where that fails."""

    def __init__(self, path: Path, shape: Shape) -> None:
        self._path = path
        self._shape = shape

    def __call__(self) -> np.ndarray:
        try:
            return load_image(self._path, *self._shape)
        except ImageError as error:
            raise ValueError(str(error).removeprefix(f"{self._path}: ")) from None


def draw_split(name: str, splits: list[str]) -> str:
    """A tenth of all names for each of the splits, and "train" for the others; always the same."""
    number = int(_hash(name)[:13], 16) / 16**13
    return splits[int(number / _SHARE)] if number < _SHARE * len(splits) else "train"


def class_names(labels: Iterator[str]) -> tuple[str, ...]:
    """The classes in order: numbers by their values, other names by the alphabet."""
    names = set(labels)
    numbers = all(name.isdecimal() for name in names)
    return tuple(sorted(names, key=lambda name: (int(name), name) if numbers else (0, name)))


def _hash(name: str) -> str:
    return hashlib.sha256(os.fsencode(name)).hexdigest()


def _reason(skipped: list[tuple[str, str]]) -> str:
    return f": {printable(skipped[0][0])}: {skipped[0][1]}" if skipped else ""


def _from_folder(root: Path, skipped: list[tuple[str, str]]) -> Iterator[Picture]:
    folders = _folders(root)
    splits = {path: _SPLIT_NAMES[x] for path in folders if (x := path.name.lower()) in _SPLIT_NAMES}
    # A class may be called "train" or "test": splits have classes in them, at least "train" (test
    # pictures without labels lie loose), and nothing beside them that could be a class of its own,
    # unless there are several.
    in_train = [x for path, split in splits.items() if split == "train" for x in _folders(path)]
    if in_train and (len(splits) > 1 or len(folders) == 1):
        classes = [(split, path) for above, split in splits.items() for path in _folders(above)]
        places = [root, *splits]
        others = [path.name for path in folders if path not in splits]
        skipped += [(name, f"it is none of {', '.join(SPLITS)}") for name in others]
    else:
        classes = [("", path) for path in folders]
        places = [root]
    for place in places:
        for path in sorted(place.iterdir()):
            if not path.is_dir() and not path.name.startswith("."):
                name = path.relative_to(root).as_posix()
                skipped.append((name, "it lies in no class's folder"))
    for split, folder in classes:
        label = folder.name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
        paths = list(_files(folder, (root,), root, skipped))
        if not paths:
            skipped.append((folder.relative_to(root).as_posix(), "it holds no file"))
        for path in paths:
            yield Picture(path.relative_to(root).as_posix(), path, label, split)


def _folders(folder: Path) -> list[Path]:
    return sorted(x for x in folder.iterdir() if x.is_dir() and not x.name.startswith("."))


def _files(
    folder: Path, above: tuple[Path, ...], root: Path, skipped: list[tuple[str, str]]
) -> Iterator[Path]:
    """All files below a folder that are not hidden; links are followed, but not in circles."""
    name = folder.relative_to(root).as_posix()
    try:
        if any(folder.samefile(path) for path in above):
            skipped.append((name, "the link leads in a circle"))
            return
        entries = sorted(folder.iterdir())
    except OSError as error:
        skipped.append((name, error.strerror or "it cannot be read"))
        return
    for path in entries:
        if path.name.startswith("."):
            continue
        if path.is_dir():
            yield from _files(path, (*above, folder), root, skipped)
        else:
            yield path


def _from_csv(file: Path) -> Iterator[Picture]:
    with file.open(newline="", encoding="utf-8-sig") as lines:
        first = lines.readline()
        lines.seek(0)
        delimiter = next((x for x in ",;\t" if x in first), ",")  # spreadsheets write all three
        reader = csv.DictReader(lines, delimiter=delimiter)
        reader.fieldnames = [name.strip().lower() for name in reader.fieldnames or ()]
        missing = {"path", "label"} - set(reader.fieldnames)
        if missing:
            raise UserError(
                f"{file} has no column {' and no column '.join(sorted(missing))}: its first line "
                "must name the columns path, label and, where it likes, split"
            )
        seen = set()
        for row in reader:
            if not any(row.values()):
                continue
            picture = _row(row, file, reader.line_num)
            if picture.name in seen:
                raise UserError(f"{file}, line {reader.line_num}: {row['path']} is there twice")
            seen.add(picture.name)
            yield picture


def _row(row: Mapping[str, str | None], file: Path, number: int) -> Picture:
    path, label = (row["path"] or "").strip(), (row["label"] or "").strip()
    if not path or not label:
        raise UserError(f"{file}, line {number}: it needs a path and a label")
    split = (row.get("split") or "").strip().lower()
    if split and split not in _SPLIT_NAMES:
        raise UserError(
            f"{file}, line {number}: split must be one of {', '.join(SPLITS)}, or empty, "
            f"not {split!r}"
        )
    return Picture(path, file.parent / path, label, _SPLIT_NAMES.get(split, ""))
