"""Finds the model that SOURCE on the command line stands for."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from larq_seresnet import models, pretrained
from larq_seresnet._tensorflow import tf
from larq_seresnet.architecture import Architecture
from larq_seresnet.console import silence
from larq_seresnet.datasets import display_name, load_images
from larq_seresnet.edge.errors import one_line
from larq_seresnet.errors import UserError


@dataclass(frozen=True)
class Source:
    """A model with what is known about it.

    Attributes:
        model: As it was saved.
        dataset: What it was trained on, as `datasets.load` takes it; `None`: that is not known.
        metadata: For the file: labels, data set, test error, configuration; of
            pretrained weights also how they were trained, and the licence of their data.
    """

    model: tf.keras.Model
    dataset: str | None
    metadata: dict[str, Any]


def load(source: str, network: str = "seresnet14_bin") -> Source:
    """Load a run folder of `training.fit`, a saved model, or pretrained weights.

    Args:
        source: A path, or a name of `pretrained.load`.
        network: Which network is meant by the name of a data set.

    Raises:
        UserError: There is no such thing, or it cannot be read.
    """
    path = Path(source)
    if (path / "config.json").exists():
        return _run(path)
    if path.is_dir() and not (path / "saved_model.pb").exists():
        raise UserError(f"{source} is no run folder: it has no config.json")
    if path.exists() and path.suffix != ".npz":
        return Source(_saved_model(path), None, {})
    try:
        trained = pretrained.load(source, network)
    except (OSError, ValueError) as error:
        raise UserError(
            f"{source!r} is neither a run folder, a saved model nor a pretrained network: {error}"
        ) from error
    model = models.build(trained.architecture, trained.weights)
    metadata = {**trained.metadata, "config": trained.architecture.summary}
    return Source(model, metadata.get("dataset"), metadata)


def load_with_images(
    source: str, dataset: str | None, split: str, count: int | None
) -> tuple[tf.keras.Model, str, np.ndarray]:
    """A model, a data set's name, and the first `count` images of a split of it.

    Args:
        source: As in `load`.
        dataset: `None`: the one that the model was trained on.
        split: One of `datasets.SPLITS`.
        count: `None`: all images.

    Raises:
        UserError: What the model was trained on is not known, or its images are not on disk.
    """
    found = load(source)
    dataset = dataset or found.dataset
    if not dataset:
        raise UserError(f"which images {source} was trained on is not known: say --dataset")
    shapes = [tuple(x.shape[1:]) for x in found.model.inputs or ()]
    fixed = len(shapes) == 1 and len(shapes[0]) == 3 and None not in shapes[0]
    with silence():
        images = load_images(dataset, split, count, shapes[0] if fixed else None)
        return found.model, dataset, images


def _run(folder: Path) -> Source:
    try:
        run = json.loads((folder / "config.json").read_text())
        dataset = run["config"].get("dataset")
        results = folder / "results.json"
        measured = json.loads(results.read_text()) if results.exists() else {}
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise UserError(f"{folder}: its config.json or results.json is damaged") from error
    if not (folder / "model.keras").exists():
        raise UserError(f"{folder} has no model.keras yet: the training is not finished")
    model = _saved_model(folder / "model.keras")
    metadata = {
        "labels": run.get("labels", []),
        "dataset": display_name(dataset) if dataset else None,
        "config": Architecture.of(model).summary,
    }
    if "test_error" in measured:
        metadata["test_error"] = measured["test_error"]
    return Source(model, dataset, metadata)


def _saved_model(path: Path) -> tf.keras.Model:
    try:
        model = tf.keras.models.load_model(path, compile=False)
    except Exception as error:  # Keras raises whatever a damaged file's contents lead to
        raise UserError(f"{path} is no readable model of Keras 2: {one_line(error)}") from error
    if not isinstance(model, tf.keras.Model):
        raise UserError(f"{path} has functions alone, as model.export writes it: use model.save")
    return model
