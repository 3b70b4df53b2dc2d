"""Data sets of `tensorflow_datasets`: what they hold, and where."""

import contextlib
import os
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from larq_seresnet.datasets.data import Example, Shape
from larq_seresnet.datasets.known import SOURCES
from larq_seresnet.datasets.listing import draw_split
from larq_seresnet.edge.images import fit_image
from larq_seresnet.errors import UserError


def builder(name: str, data_dir: str | Path | None, *, download: bool = True) -> Any:
    """The builder of a data set that is on disk, downloaded if need be.

    Args:
        name: As `tensorflow_datasets` has it: "mnist", "mnist:3.*.*", "name/config:1.0.0".
        data_dir: Where the data lie; by default `TFDS_DATA_DIR`, or `~/tensorflow_datasets`.
        download: Whether to, where the data set is not there.

    Raises:
        UserError: There is no such data set, or it cannot be downloaded.
    """
    import tensorflow_datasets as tfds

    with reported(name, data_dir):
        found = tfds.builder(name, data_dir=str(folder(data_dir)))
        if not found.is_prepared():
            if not download:
                raise OSError("it was not prepared")
            if name in SOURCES:
                require_reachable(SOURCES[name].url)
            found.download_and_prepare()
        return found


def folder(data_dir: str | Path | None) -> Path:
    """Where `tensorflow_datasets` keeps its data."""
    return Path(data_dir or os.environ.get("TFDS_DATA_DIR", "~/tensorflow_datasets")).expanduser()


@contextmanager
def reported(name: str, data_dir: str | Path | None) -> Iterator[None]:
    """Turn what goes wrong inside into a `UserError` with advice."""
    import tensorflow_datasets as tfds

    place = folder(data_dir)
    advice = (
        "prepare it with tensorflow_datasets and point TFDS_DATA_DIR or --data-dir there, "
        "or take --dataset digits, which needs no download"
    )
    try:
        yield
    except UserError:
        raise
    except (OSError, tfds.download.DownloadError, tfds.core.DatasetNotFoundError) as error:
        raise UserError(
            f"{name} is no folder, and no data set of that name is in {place} or can be downloaded "
            f"({_first_line(error)}): {advice}"
        ) from error
    except Exception as error:  # whatever a damaged file makes the parsers raise
        raise UserError(
            f"data set {name} in {place} cannot be read ({_first_line(error)}): "
            f"delete {place / name}, then {advice}"
        ) from error


class Labelled:
    """The images of a data set, each with a label and a split.

    Its own splits are taken; what it has no validation or test split for is drawn from its training
    split, as `listing.draw_split` does with the examples' ids.

    Args:
        name: As for `builder`.
        data_dir: As for `builder`.
        download: As for `builder`.

    Attributes:
        labels: The names of its classes.
        count: How many images.
        shape: Of its images, where they all have one; else None.
        channels: Of its images.
        skipped: Nothing.
        fingerprint: Changes with its version.

    Raises:
        UserError: As for `builder`; or it has no image, no label or no training split.
    """

    skipped: tuple[tuple[str, str], ...] = ()

    def __init__(
        self, name: str, data_dir: str | Path | None = None, *, download: bool = True
    ) -> None:
        import tensorflow_datasets as tfds

        self._place = name, data_dir
        self._builder = builder(name, data_dir, download=download)
        info = self._builder.info
        features = info.features
        kinds = {"image": tfds.features.Image, "label": tfds.features.ClassLabel}
        preferred = info.supervised_keys or ()
        keys = {}
        for role, kind in kinds.items():
            matching = [key for key in features if isinstance(features[key], kind)]
            matching.sort(key=lambda key: key not in preferred)
            if not matching:
                raise UserError(
                    f"data set {name} has no {role}, only: {', '.join(features)}; "
                    "a classifier needs one image and one label"
                )
            keys[role] = matching[0]
        named = {
            {"valid": "validation", "val": "validation"}.get(key, key): key for key in info.splits
        }
        self._splits = {k: named[k] for k in ("train", "validation", "test") if k in named}
        if "train" not in self._splits:
            raise UserError(f"data set {name} has no split named train, only: {', '.join(named)}")
        self._image, self._label = keys["image"], keys["label"]
        label = features[self._label]
        self.labels = tuple(label.int2str(i) for i in range(label.num_classes))
        shape = features[self._image].shape
        self.shape: Shape | None = None if None in shape else tuple(shape)
        self.channels = 1 if shape[-1] == 1 else 3
        self.fingerprint = f"{info.full_name} {sorted(self._splits)}"
        self.count = sum(info.splits[key].num_examples for key in self._splits.values())

    def examples(self, start: int, shape: Shape) -> Iterator[Example]:
        """The examples from one number on, always in the same order.

        Raises:
            UserError: The data are damaged.
        """
        with reported(*self._place):
            yield from self._examples(start, shape)

    def _examples(self, start: int, shape: Shape) -> Iterator[Example]:
        import tensorflow_datasets as tfds

        missing = [name for name in ("validation", "test") if name not in self._splits]
        for split, key in self._splits.items():
            size = self._builder.info.splits[key].num_examples
            if start >= size:
                start -= size
                continue
            config = tfds.ReadConfig(add_tfds_id=True, interleave_cycle_length=1)
            stored = self._builder.as_dataset(split=key, read_config=config).skip(start)
            start = 0
            for entry in tfds.as_numpy(stored):
                name = entry["tfds_id"].decode()
                chosen = draw_split(name, missing) if split == "train" else split
                number = entry[self._label]
                fit = _Fit(entry[self._image], shape)
                decode: Callable[[], np.ndarray] = fit if number >= 0 else _without_label
                yield Example(name, self.labels[number], chosen, decode)


class _Fit:
    """An image of any size that is to be made to fit."""

    def __init__(self, image: np.ndarray, shape: Shape) -> None:
        self._image = image
        self._shape = shape

    def __call__(self) -> np.ndarray:
        image = self._image
        return fit_image(image[..., 0] if image.shape[-1] == 1 else image, *self._shape)


def _without_label() -> np.ndarray:
    raise ValueError("it has no label")  # which `tensorflow_datasets` writes as -1


def require_reachable(url: str) -> None:
    """Fail at once where the download would retry for minutes.

    Raises:
        OSError: No connection.
    """
    request = urllib.request.Request(url, method="HEAD")
    with contextlib.suppress(urllib.error.HTTPError):  # it answers
        urllib.request.urlopen(request, timeout=10).close()


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
