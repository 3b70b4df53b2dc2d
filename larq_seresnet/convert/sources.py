"""Finds the model that SOURCE on the command line stands for."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import larq_seresnet.models
from larq_seresnet._tensorflow import tf
from larq_seresnet.convert.errors import ConversionError

# Of a run's configuration, what tells which network this is.
_ARCHITECTURE = (
    "model",
    "activations",
    "width",
    "reduction",
    "gate",
    "fmb",
    "fmb_epochs",
    "gradient",
)


@dataclass(frozen=True)
class Source:
    """A model with what is known about it.

    Attributes:
        model: As it was saved.
        metadata: For the file: labels, data set, test error and configuration, where known.
    """

    model: tf.keras.Model
    metadata: dict[str, Any]


def load(source: str) -> Source:
    """Load a run folder of `training.fit`, a saved model, or a pretrained network by its name.

    Raises:
        ConversionError: There is no such thing, or it cannot be read.
    """
    path = Path(source)
    if (path / "config.json").exists():
        return _run(path)
    if path.is_dir() and not (path / "saved_model.pb").exists():
        raise ConversionError(f"{source} is no run folder: it has no config.json")
    if path.exists():
        return Source(_saved_model(path), {})
    try:
        model = larq_seresnet.models.SEResNet14Bin(weights=source)
    except (OSError, ValueError) as error:
        raise ConversionError(
            f"{source!r} is neither a run folder, a saved model nor a pretrained network"
        ) from error
    return Source(model, {"dataset": source})


def _run(folder: Path) -> Source:
    try:
        run = json.loads((folder / "config.json").read_text())
        config = run["config"]
        results = folder / "results.json"
        measured = json.loads(results.read_text()) if results.exists() else {}
    except (OSError, ValueError, KeyError) as error:
        raise ConversionError(f"{folder}: its config.json or results.json is damaged") from error
    if not (folder / "model.keras").exists():
        raise ConversionError(f"{folder} has no model.keras yet: the training is not finished")
    metadata = {
        "labels": run.get("labels", []),
        "dataset": config.get("dataset"),
        "config": {key: config[key] for key in _ARCHITECTURE if config.get(key) is not None},
    }
    if "test_error" in measured:
        metadata["test_error"] = measured["test_error"]
    return Source(_saved_model(folder / "model.keras"), metadata)


def _saved_model(path: Path) -> tf.keras.Model:
    try:
        return tf.keras.models.load_model(path, compile=False)
    except Exception as error:  # Keras raises whatever a damaged file's contents lead to
        raise ConversionError(f"{path} is no readable Keras model") from error
