"""Prunes a trained network at several thresholds and trains it on: `python -m training.pruning`.

For each threshold it removes the channels that are on for fewer than this share of the training
images, measures the errors, trains on for a few epochs and measures errors and files again. The
control is the unpruned network, trained on in the same way. What is done is skipped, so that the
same command goes on after any interruption. `python -m training.report` makes a section of it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from larq_seresnet import attention, sources
from larq_seresnet.architecture import Architecture
from larq_seresnet.convert import run_conversion
from larq_seresnet.convert.conversion import TARGETS
from larq_seresnet.convert.converters import run_converter
from larq_seresnet.convert.keras_models import in_float32
from larq_seresnet.prune.removal import remove
from larq_seresnet.prune.selection import choose
from training import UserError, flags
from training.command import ending
from training.experiments.records import read_json, write_json
from training.flags import flag
from training.trainer import data, fit
from training.trainer.config import Config


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

    def __post_init__(self) -> None:
        if not all(0 <= p <= 1 for p in self.thresholds):
            raise ValueError(f"--thresholds must be from 0 to 1, not {self.thresholds}")
        Config(**self.tuning)  # what is wrong with the rest, it says

    @property
    def tuning(self) -> dict[str, Any]:
        """How networks are trained on."""
        return {x: getattr(self, x) for x in ("epochs", "learning_rate", "seed", "data_dir")}


def work(config: PruningConfig) -> None:
    """Prune, train on and measure whatever is not done.

    Raises:
        UserError: Something outside of this program is in the way.
        KeyboardInterrupt: Ctrl-C or SIGTERM; it can be resumed.
    """
    if not (config.run / "results.json").exists():
        raise UserError(f"--run {config.run} is no finished run: it has no results.json")
    source = sources.load(str(config.run))
    name, architecture = str(source.dataset), Architecture.of(source.model)
    if architecture.gate != "sigmoid" or not architecture.fmb:
        raise UserError(f"--run {config.run} has no 0/1 gates: it was not trained with --fmb")
    dataset = data.load(name, config.data_dir)
    results = config.results / config.run.name
    for folder in (results, config.runs):
        folder.mkdir(parents=True, exist_ok=True)
    thresholds = {"unpruned": None, **{f"{p:g}": p for p in config.thresholds}}
    files = {label: results / f"{label}.json" for label in thresholds}
    starts = {k: config.runs / f"{config.run.name}_pruned-{k}.keras" for k in thresholds}
    if left := [label for label in thresholds if not files[label].exists()]:
        print("looking at the gates on the training images", flush=True)
        seen = attention.observe(source.model, dataset.train[0])
    for label in left:
        row = _prune(config, source.model, seen, thresholds[label], starts[label], dataset)
        print(f"threshold {label}: {row['test_error_before']} % test error", flush=True)
        write_json(files[label], row)
    for label, threshold in thresholds.items():
        row = read_json(files[label])
        for key in ("epochs", "learning_rate"):
            if row[key] != config.tuning[key]:
                raise UserError(
                    f"{files[label]} is of --{key.replace('_', '-')} {row[key]}, not "
                    f"{config.tuning[key]}: take other --runs and --results, or the same flags"
                )
        if "test_error" in row or not (threshold is None or any(row["removed"])):
            continue
        print(f"\nthreshold {label}: training on", flush=True)
        run = Config(
            **architecture.hyperparameters,
            **config.tuning,
            dataset=name,
            start_from=str(starts[label]),
            out=starts[label].with_suffix(""),
        )
        row |= fit.fit(run)
        tf.keras.mixed_precision.set_global_policy("float32")
        tuned = tf.keras.models.load_model(run.folder / "model.keras", compile=False)
        write_json(files[label], row | _sizes(tuned, dataset))


def _prune(
    config: PruningConfig,
    model: tf.keras.Model,
    seen: list[attention.Observation],
    threshold: float | None,
    start: Path,
    dataset: data.Data,
) -> dict[str, Any]:
    """Prune, save what is left as `start`, and measure errors and files."""
    choices = [] if threshold is None else [choose(module, threshold) for module in seen]
    pruned = remove(model, choices) if choices else model
    pruned.save(start)
    errors, _ = fit.evaluate(pruned, dataset)
    return {
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


def _sizes(model: tf.keras.Model, dataset: data.Data) -> dict[str, int]:
    """Bytes of the verified files, and of the float32 file of the same network."""
    images = dataset.test[0][:500].astype(np.float32)
    return {
        "weights": model.count_params(),
        **{f"{t}_bytes": len(run_conversion(model, t, images=images).file) for t in TARGETS},
        "float32_bytes": len(run_converter(in_float32(model), "litert")),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command."""
    config = flags.parse(PruningConfig, "python -m training.pruning", __doc__, arguments)
    with ending("training.pruning", "the same command goes on where it was"):
        work(config)
    print(f"done: {config.results / config.run.name}; now: python -m training.report")
