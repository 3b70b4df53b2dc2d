"""Puts finished runs' networks into `larq_seresnet/weights/`, where `weights="cifar10"` finds them.

    python -m training.export runs/best runs/best_fully_binary

The file is named by network and data set, and replaces an older one. Its error on the test split is
measured on the network that the builder makes of the file, in float32. The table in
`larq_seresnet/weights/README.md` is written from all files there.
"""

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

import tensorflow as tf

from larq_seresnet import datasets, models, pretrained, sources
from larq_seresnet.files import write_atomically
from training import UserError
from training.command import ending
from training.tables import markdown
from training.trainer import data
from training.trainer.run_folder import training_command


def export(run: Path) -> Path:
    """Write the weights of a finished run; returns the file's path.

    Raises:
        UserError: The run is not finished; or its network is pruned, which no builder makes, or
            takes images of another shape than the data set's.
    """
    if not (run / "results.json").exists():
        raise UserError(f"{run} is no finished run: it has no results.json")
    source = sources.load(str(run))
    dataset = source.metadata["dataset"]
    if dataset not in data.SOURCES:
        raise UserError(f"{run}: nothing is known about data set {dataset!r}")
    if source.model.input_shape[1:] != data.SOURCES[dataset].shape:
        raise UserError(f"{run} cannot be exported: its images have another shape than {dataset}'s")
    metadata = {
        "dataset": dataset,
        "labels": source.metadata["labels"],
        "images": json.loads((run / "config.json").read_text())["data"],
        "training": training_command(run),
        "licence": data.SOURCES[dataset].licence,
    }
    with tempfile.TemporaryDirectory() as folder:
        draft = Path(folder) / f"{run.name}.npz"
        pretrained.save(draft, source.model, metadata)
        try:
            model = build(draft)
        except ValueError as error:
            raise UserError(f"{run} cannot be exported: {error}") from error
        print(f"{run}: classifying the test images", flush=True)
        metadata["test_error"] = round(top1_error(model, dataset), 2)
        path = pretrained.FOLDER / f"{model.name}-{dataset}.npz"
        pretrained.save(path, model, metadata)
    return path


def build(path: Path) -> tf.keras.Model:
    """The network of a file of weights.

    Raises:
        ValueError: It is pruned.
    """
    found = pretrained.load(path).architecture
    return getattr(models, found.builder)(**found.variant, weights=path)


def top1_error(model: tf.keras.Model, dataset: str, data_dir: str | Path | None = None) -> float:
    """Top-1 error on the data set's test split, in percent."""
    images, labels = data.load(dataset, data_dir).test
    probabilities = model.predict(images, batch_size=data.EVALUATION_BATCH, verbose=0)
    return datasets.top1_error(probabilities, labels)


def table() -> str:
    """The README of the folder of weights."""
    files = {path: pretrained.load(path) for path in sorted(pretrained.FOLDER.glob("*.npz"))}
    rows = [
        (
            path.name,
            f"`{trained.call}`",
            trained.metadata["dataset"],
            f"{trained.metadata['images']['train']:,}",
            f"{trained.metadata['test_error']:.2f} % of {trained.metadata['images']['test']:,}",
            f"{path.stat().st_size:,}",
        )
        for path, trained in files.items()
    ]
    header = ["file", "network", "data", "training images:"]
    header += ["top-1 error on the test split:", "bytes:"]
    datasets = sorted({trained.metadata["dataset"] for trained in files.values()})
    lines = [
        "# Pretrained weights",
        "",
        markdown(header, rows),
        "",
        "1-bit kernels are stored as bits, all else as float32; `larq_seresnet/pretrained.py` "
        "describes the format. Errors are those of the files, computed in float32. The table is "
        "written by `python -m training.export`.",
        "",
        "## Licences",
        "",
        "The code that made the weights is under the Apache License 2.0. Their data have terms of "
        "their own, which may extend to the weights:",
        "",
        *(f"- {data.SOURCES[name].licence}" for name in datasets),
        "",
        "## How each was made",
        "",
        "```sh",
        *(trained.metadata["training"] for trained in files.values()),
        "python -m training.export RUN...",
        "```",
    ]
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> None:
    """Export runs."""
    parser = argparse.ArgumentParser(prog="python -m training.export", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("runs", nargs="*", type=Path, metavar="RUN", help="a finished run's folder")
    args = parser.parse_args(arguments)
    with ending("training.export", "the runs that were named as written are exported"):
        try:
            for run in args.runs:
                path = export(run)
                print(f"wrote {path}: {path.stat().st_size:,} bytes", flush=True)
        finally:
            write_atomically(pretrained.FOLDER / "README.md", table().encode())
