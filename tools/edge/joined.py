"""Compares the shipped files with what is joined on loading, and without.

    TFDS_DATA_DIR=FOLDER python tools/edge/joined.py --images 2000 --json FILE

runs test images through both and prints in how many any probability differs, and the largest
difference. Without, it is the same runtime on the file with nothing but its weights unpacked.
"""

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
sys.path.insert(0, str(Path(__file__).parents[2]))

from larq_seresnet.edge import Interpreter, interpreter
from larq_seresnet.edge.model_file import ModelFile

MODELS = Path(__file__).parents[2] / "tflite_models"


def predict(path: Path, images: np.ndarray, *, joined: bool) -> np.ndarray:
    """The probabilities of each image."""
    kept = interpreter.fuse, interpreter.binarize
    if not joined:
        interpreter.fuse = lambda model: model.data
        interpreter.binarize = lambda unpacked: ModelFile(unpacked.data)
    try:
        return Interpreter(path).predict(images)
    finally:
        interpreter.fuse, interpreter.binarize = kept


def test_images(name: str, count: int) -> np.ndarray:
    """The first images of a data set's test part."""
    import tensorflow_datasets as tfds

    examples = tfds.as_numpy(tfds.load(name, split=f"test[:{count}]", download=False))
    return np.stack([example["image"] for example in examples]).astype(np.float32)


def main() -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--json", type=Path, help="write the numbers to this file")
    arguments = parser.parse_args()
    rows: list[dict[str, Any]] = []
    print("| file | images | that differ | largest difference |\n|---|---|---|---|")
    for data_set in ("cifar10", "svhn_cropped"):
        images = test_images(data_set, arguments.images)
        for path in sorted(MODELS.glob(f"seresnet14_*_{data_set}_*.tflite")):
            with_it, without = (predict(path, images, joined=joined) for joined in (True, False))
            differ = int((with_it != without).any(axis=1).sum())
            largest = float(np.abs(with_it - without).max())
            rows.append(
                {"file": path.name, "images": len(images), "differ": differ, "largest": largest}
            )
            print(f"| {path.name} | {len(images)} | {differ} | {largest:.2g} |", flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
