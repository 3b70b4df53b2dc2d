"""Puts finished runs' networks into `larq_seresnet/weights/`, where `weights="cifar10"` finds them.

    python -m training.export runs/best runs/best_fully_binary

The file is named by network and data set, and replaces an older one. Its error on the test split is
measured on the network that the builder makes of the file, in float32. The table in
`larq_seresnet/weights/README.md` is written from all files there.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import tensorflow as tf

from larq_seresnet import models, pretrained, sources
from larq_seresnet.files import write_atomically
from training import UserError
from training.trainer import data
from training.trainer.run_folder import training_command


def export(run: Path) -> Path:
    """Write the weights of a finished run; returns the file's path.

    Raises:
        UserError: The run is not finished, or its network is not what a builder makes by default,
            which is the one that `weights="..."` means.
        ConversionError: The run's files are damaged.
    """
    if not (run / "results.json").exists():
        raise UserError(f"{run} is no finished run: it has no results.json")
    source = sources.load(str(run))
    dataset = source.metadata["dataset"]
    if dataset not in data.SOURCES:
        raise UserError(f"{run}: nothing is known about data set {dataset!r}")
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
            raise UserError(f"{run} is not the builder's default network: {error}") from error
        print(f"{run}: classifying the test images", flush=True)
        metadata["test_error"] = round(top1_error(model, dataset), 2)
        path = pretrained.FOLDER / f"{model.name}-{dataset}.npz"
        pretrained.save(path, model, metadata)
    return path


def build(path: Path) -> tf.keras.Model:
    """The network of a file of weights, from its builder's default arguments.

    Raises:
        ValueError: The file's network is another.
    """
    trained = pretrained.load(path)
    chosen = {key: trained.arguments[key] for key in ("activations",) if key in trained.arguments}
    return getattr(models, trained.builder)(**chosen, weights=path)


def top1_error(model: tf.keras.Model, dataset: str, data_dir: str | Path | None = None) -> float:
    """Top-1 error on the data set's test split, in percent."""
    images, labels = data.load(dataset, data_dir).test
    probabilities = model.predict(images, batch_size=data.EVALUATION_BATCH, verbose=0)
    return data.top1_error(probabilities, labels)


def table() -> str:
    """The README of the folder of weights."""
    files = {path: pretrained.load(path) for path in sorted(pretrained.FOLDER.glob("*.npz"))}
    lines = [
        "# Pretrained weights",
        "",
        "| file | network | data | training images | top-1 error on the test split | bytes |",
        "|---|---|---|---:|---:|---:|",
    ]
    for path, trained in files.items():
        facts = trained.metadata
        lines.append(
            f"| {path.name} | `{_call(trained)}` | {facts['dataset']} "
            f"| {facts['images']['train']:,} | {facts['test_error']:.2f} % of "
            f"{facts['images']['test']:,} | {path.stat().st_size:,} |"
        )
    datasets = sorted({trained.metadata["dataset"] for trained in files.values()})
    lines += [
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


def _call(trained: pretrained.Pretrained) -> str:
    activations = trained.arguments.get("activations", "float")
    chosen = "" if activations == "float" else f'activations="{activations}", '
    return f'{trained.builder}({chosen}weights="{trained.metadata["dataset"]}")'


def main(arguments: Sequence[str] | None = None) -> int:
    """Export runs; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m training.export", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("runs", nargs="*", type=Path, metavar="RUN", help="a finished run's folder")
    args = parser.parse_args(arguments)
    try:
        for run in args.runs:
            path = export(run)
            print(f"wrote {path}: {path.stat().st_size:,} bytes", flush=True)
        write_atomically(pretrained.FOLDER / "README.md", table().encode())
    except (UserError, ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
