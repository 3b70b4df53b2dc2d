"""Prunes a trained network at several thresholds and trains it on: `python -m training.pruning`.

For each threshold it removes the channels that are on for fewer than this share of the training
images, measures the errors, trains on for a few epochs and measures errors and files again. The
control is the unpruned network, trained on in the same way. What is done is skipped, so that the
same command goes on after any interruption. `python -m training.report` makes a section of it.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from larq_seresnet import attention
from larq_seresnet.convert import run_conversion
from larq_seresnet.convert.conversion import TARGETS
from larq_seresnet.convert.converters import run_converter
from larq_seresnet.convert.keras_models import in_float32
from larq_seresnet.files import write_atomically
from larq_seresnet.prune.removal import remove
from larq_seresnet.prune.selection import choose
from training import UserError, flags
from training.command import ending
from training.flags import flag
from training.trainer import data, fit
from training.trainer.config import Config

_ARCHITECTURE = ("model", "activations", "width", "reduction", "gate", "fmb", "gradient", "dataset")


@dataclass(frozen=True)
class PruningConfig:
    """What `python -m training.pruning` is told; each field is a flag."""

    run: Path = flag(Path("runs/cifar10_fmb"), "folder of a finished run with --fmb")
    thresholds: tuple[float, ...] = flag(
        (0.0, 1e-6, 0.01, 0.1, 0.5),
        "remove channels that are on for fewer than this share of the training images; 0: only "
        "without loss",
    )
    epochs: int = flag(2, "to train on for")
    learning_rate: float = flag(1e-3, "the highest of the one-cycle schedule")
    seed: int = flag(0, "of the order of the images and their augmentation")
    data_dir: str | None = flag(
        None, "folder of tensorflow_datasets (default: TFDS_DATA_DIR or ~/tensorflow_datasets)"
    )
    runs: Path = flag(Path("runs/pruning"), "folder of the pruned networks and their runs")
    results: Path = flag(Path("training/results/pruning"), "folder of the results, to keep")


def work(config: PruningConfig) -> None:
    """Prune, train on and measure whatever is not done.

    Raises:
        UserError: Something outside of this program is in the way.
        KeyboardInterrupt: Ctrl-C or SIGTERM; it can be resumed.
    """
    if not (config.run / "results.json").exists():
        raise UserError(f"--run {config.run} is no finished run: it has no results.json")
    results = config.results / config.run.name
    results.mkdir(parents=True, exist_ok=True)
    settings = json.loads((config.run / "config.json").read_text())["config"]
    dataset = data.load(settings["dataset"], config.data_dir)
    labels = {"unpruned": None, **{f"{p:g}": p for p in config.thresholds}}
    left = {k: v for k, v in labels.items() if not (results / f"{k}.json").exists()}
    if left:
        _prune(config, left, dataset)
    for label in labels:
        file = results / f"{label}.json"
        row = json.loads(file.read_text())
        if "test_error" not in row and (label == "unpruned" or any(row["removed"])):
            print(f"\nthreshold {label}: training on", flush=True)
            row.update(_train_on(config, settings, dataset, label))
            _write(file, row)


def _prune(config: PruningConfig, labels: dict[str, float | None], dataset: data.Data) -> None:
    """Prune at these thresholds, and measure errors and files."""
    model = tf.keras.models.load_model(config.run / "model.keras", compile=False)
    print("looking at the gates on the training images", flush=True)
    seen = attention.observe(model, dataset.train[0])
    for label, threshold in labels.items():
        choices = [] if threshold is None else [choose(module, threshold) for module in seen]
        pruned = remove(model, choices) if choices else model
        start = _start(config, label)
        start.parent.mkdir(parents=True, exist_ok=True)
        pruned.save(start)
        errors = fit.final_errors(pruned, dataset)
        print(f"threshold {label}: {errors}", flush=True)
        row = {
            "run": config.run.name,
            "threshold": threshold,
            "epochs": config.epochs,
            "learning_rate": config.learning_rate,
            "training_images": len(dataset.train[1]),
            "channels": [module.is_on.shape[1] for module in seen],
            "never_on": [int((~module.is_on.any(axis=0)).sum()) for module in seen],
            "removed": [int(choice.removed.sum()) for choice in choices],
            "images_with_changed_gates": [choice.changed for choice in choices],
            **{f"{name}_before": error for name, error in errors.items()},
            **_sizes(pruned, dataset),
        }
        _write(config.results / config.run.name / f"{label}.json", row)


def _start(config: PruningConfig, label: str) -> Path:
    """The pruned network's file."""
    return config.runs / f"{config.run.name}_pruned-{label}.keras"


def _train_on(
    config: PruningConfig, settings: dict[str, Any], dataset: data.Data, label: str
) -> dict[str, Any]:
    """Errors and sizes after training on."""
    start = _start(config, label)
    run = Config(
        **{key: settings[key] for key in _ARCHITECTURE if key in settings},
        epochs=config.epochs,
        learning_rate=config.learning_rate,
        seed=config.seed,
        data_dir=config.data_dir,
        start_from=str(start),
        out=start.with_suffix(""),
    )
    errors = fit.fit(run)
    tf.keras.mixed_precision.set_global_policy("float32")
    tuned = tf.keras.models.load_model(run.folder / "model.keras", compile=False)
    return {**errors, **_sizes(tuned, dataset)}


def _sizes(model: tf.keras.Model, dataset: data.Data) -> dict[str, int]:
    """Bytes of the verified files, and of the float32 file of the same network."""
    images = dataset.test[0][:500].astype(np.float32)
    return {
        "weights": model.count_params(),
        **{f"{t}_bytes": len(run_conversion(model, t, images=images).file) for t in TARGETS},
        "float32_bytes": len(run_converter(in_float32(model), "litert")),
    }


def _write(file: Path, row: dict[str, Any]) -> None:
    write_atomically(file, f"{json.dumps(row)}\n".encode())


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command."""
    config = flags.parse(PruningConfig, "python -m training.pruning", __doc__, arguments)
    stopped = "the same command goes on where it was"
    with ending("training.pruning", stopped):
        work(config)
    print(f"done: {config.results / config.run.name}; now: python -m training.report")


if __name__ == "__main__":
    main()
