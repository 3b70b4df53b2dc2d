"""Makes the files in `tflite_models/` of trained networks, and the table beside them.

    python -m training.zoo seresnet14_bin-cifar10 runs/cifar10_no-fmb

converts each, pretrained weights or a finished run, for both targets (float networks for `litert`
alone, since Larq Compute Engine adds nothing to them), pretrained ones with 1-bit weights and float
activations with activations of int8 too, and evaluates the files on the whole test
split, each with its target's own interpreter and with `larq_seresnet.edge`, which runs on devices.
`tflite_models/models.json` holds what was measured; the table in `tflite_models/README.md` is
written from it. Files of other networks stay as they are.
"""

import argparse
import hashlib
import itertools
import json
import logging
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from larq_seresnet import datasets, sources
from larq_seresnet.architecture import Architecture
from larq_seresnet.convert import graph, run_conversion, runners
from larq_seresnet.convert.converters import run_converter
from larq_seresnet.edge import Interpreter
from larq_seresnet.files import write_atomically
from training import UserError
from training.command import ending
from training.tables import markdown
from training.trainer import data
from training.trainer.run_folder import training_command

FOLDER = Path(__file__).parents[2] / "tflite_models"
FIRST_IMAGES = 100  # whose classes are stored, to test the files with

Entry = dict[str, Any]

log = logging.getLogger(__name__)


def add(name: str, folder: Path = FOLDER) -> list[Entry]:
    """Convert and evaluate a network for its targets, and write the files.

    Args:
        name: Of pretrained weights, or a finished run's folder.
        folder: Where to write.

    Raises:
        UserError: The run is not finished, or has no data set that can be evaluated.
        ConversionError: It cannot be converted.
    """
    run = Path(name)
    if run.is_dir() and not (run / "results.json").exists():
        raise UserError(f"{run} is no finished run: it has no results.json")
    source = sources.load(name)
    dataset = source.dataset
    if dataset not in data.SOURCES:
        raise UserError(f"{name}: nothing is known about data set {dataset!r}")
    training, shown = source.metadata.get("training"), name
    if run.is_dir():
        training, shown = training_command(run), f"runs/{run.name}"
    images, labels = data.load(dataset).test
    architecture = Architecture.of(source.model)
    kinds: list[tuple[str, str | None]] = [("litert", None)]
    if architecture.model == "binary":
        kinds.insert(0, ("lce", None))
        if not run.is_dir() and architecture.activations == "float":
            kinds.append(("litert", "int8"))
    pixels = images.astype(np.float32)
    entries = []
    for target, activations in kinds:
        kind = f"{target}_{activations}" if activations else target
        log.info("%s, %s: converting", run.name, kind)
        conversion = run_conversion(
            source.model,
            target,
            activations=activations,
            dataset=dataset,
            metadata=source.metadata,
        )
        log.info("%s, %s: classifying %d test images", run.name, kind, len(labels))
        (probabilities,) = runners.run(conversion.file, target, [pixels])
        on_device = Interpreter(conversion.file).predict(pixels)
        file = f"{run.name.replace('-', '_')}_{kind}.tflite"
        write_atomically(folder / file, conversion.file)
        operators = Counter(operator.name for operator in graph.parse(conversion.file).operators)
        entries.append(
            {
                "file": file,
                "target": target,
                "dataset": dataset,
                "test_error": round(datasets.top1_error(probabilities, labels), 2),
                "edge_test_error": round(datasets.top1_error(on_device, labels), 2),
                "test_images": len(labels),
                "keras_test_error": source.metadata["test_error"],
                "bytes": len(conversion.file),
                "float32_bytes": len(run_converter(conversion.model, "litert")),
                "operators": dict(sorted(operators.items())),
                "sha256": hashlib.sha256(conversion.file).hexdigest(),
                "first_classes": probabilities[:FIRST_IMAGES].argmax(axis=1).tolist(),
                "training": training,
                "conversion": f"python -m larq_seresnet.convert {shown} --target {target} "
                f"{f'--activations {activations} ' if activations else ''}"
                f"--out tflite_models/{file}",
            }
        )
    return entries


def load(folder: Path = FOLDER) -> list[Entry]:
    """What is known of the files."""
    path = folder / "models.json"
    return json.loads(path.read_text()) if path.exists() else []


def save(entries: Sequence[Entry], folder: Path = FOLDER) -> None:
    """Write `models.json` and the table."""
    content = json.dumps(list(entries), indent=1) + "\n"
    write_atomically(folder / "models.json", content.encode())
    write_atomically(folder / "README.md", table(entries).encode())


def table(entries: Sequence[Entry]) -> str:
    """The README of the folder."""
    names = sorted({entry["dataset"] for entry in entries})
    header = ["file", "data", "error on the test split:", "by `larq_seresnet.edge`:", "bytes:"]
    header += ["smaller than float32:", "operators:"]
    rows = [
        (
            f"[{entry['file']}]({entry['file']})",
            entry["dataset"],
            f"{entry['test_error']:.2f} % of {entry['test_images']:,}",
            f"{entry['edge_test_error']:.2f} %",
            f"{entry['bytes']:,}",
            f"{entry['float32_bytes'] / entry['bytes']:.1f} times",
            sum(entry["operators"].values()),
        )
        for entry in entries
    ]
    lines = [
        "# Deployable networks",
        "",
        "Input: raw pixels 0 to 255, float32, (1, 32, 32, 3). Output: probabilities. Labels and "
        "configuration are in each file's metadata. `lce` files need Larq Compute Engine's "
        "operators (Larq Compute Engine, or `larq_seresnet.edge`); `litert` files run on any "
        "stock TFLite or LiteRT, those with `int8` in integer arithmetic.",
        "",
        markdown(header, rows),
    ]
    lines += [
        "",
        "Errors are of the files themselves, each run by its target's interpreter (Larq Compute "
        "Engine's, `ai-edge-litert`'s) and by the one for devices. The float32 file is what "
        "TensorFlow Lite's converter makes of the same network. The table is written by "
        "`python -m training.zoo`.",
        "",
        "## Data",
        "",
        *(f"- {data.SOURCES[name].licence}" for name in names),
        "",
        "## How each was made",
    ]
    for entry in entries:
        operators = ", ".join(f"{count} {name}" for name, count in entry["operators"].items())
        lines += [
            "",
            f"### {entry['file']}",
            "",
            "```sh",
            entry["training"],
            entry["conversion"],
            "```",
            f"sha256 `{entry['sha256']}`  ",
            f"operators: {operators}",
        ]
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> None:
    """Add networks to the folder."""
    parser = argparse.ArgumentParser(prog="python -m training.zoo", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        "networks", nargs="*", metavar="NETWORK", help="pretrained weights, or a finished run"
    )
    args = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr, force=True)
    logging.getLogger("absl").setLevel(logging.ERROR)
    with ending("training.zoo", "the networks that were finished are in the table"):
        FOLDER.mkdir(exist_ok=True)
        entries = {entry["file"]: entry for entry in load()}
        for added in itertools.chain([[]], map(add, args.networks)):
            entries |= {entry["file"]: entry for entry in added}
            save([entries[name] for name in sorted(entries)])
