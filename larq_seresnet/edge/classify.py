"""The command `classify`."""

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from larq_seresnet.edge.errors import ModelError, one_line, printable
from larq_seresnet.edge.images import ImageError, load_image
from larq_seresnet.edge.interpreter import Interpreter
from larq_seresnet.edge.tensors import dequantize


@dataclass(frozen=True)
class Classify:
    """Print the most likely classes of images.

    An image that cannot be read is reported and does not stop the others; the exit status is then
    1.
    """

    model: str = field(metadata={"help": "a .tflite file"})
    images: list[str] = field(
        metadata={"help": "a PNG, JPEG, BMP, GIF or WebP file of any size", "many": True}
    )
    top: int = field(default=3, metadata={"help": "how many classes to print"})
    threads: int = field(default=1, metadata={"help": "CPU threads"})
    json: bool = field(default=False, metadata={"help": "print JSON"})

    def run(self) -> int:
        """Returns the exit status."""
        if self.top < 1:
            raise ValueError("--top must be at least 1")
        classifier = _Classifier(Interpreter(self.model, self.threads), self.top)
        results, failed = [], False
        for path in self.images:
            try:
                best = classifier.classify(Path(path))
            except (ImageError, OSError) as error:
                print(f"error: {one_line(error)}", file=sys.stderr)
                failed = True
                continue
            results.append({"image": path, "classes": best})
            if not self.json:
                classes = ", ".join(_text(entry) for entry in best)
                print(f"{path}: {classes}")
        if self.json:
            print(json.dumps(results, indent=2))
        return 1 if failed else 0


def _text(entry: dict[str, Any]) -> str:
    name = f"class {entry['class']}" if entry["label"] is None else printable(entry["label"])
    if entry["score"] is None:
        return f"{name} not a finite number"
    return f"{name} {entry['score']:{'.1%' if entry['is_probability'] else '.4g'}}"


class _Classifier:
    def __init__(self, interpreter: Interpreter, top: int) -> None:
        self.interpreter = interpreter
        self.top = top
        if len(interpreter.inputs) != 1 or len(interpreter.outputs) != 1:
            raise ModelError("the model is no image classifier: it has several inputs or outputs")
        self.input, self.output = interpreter.inputs[0], interpreter.outputs[0]
        shape = self.input.shape
        if len(shape) != 4 or shape[0] not in (-1, 1) or shape[3] not in (1, 3) or -1 in shape[1:]:
            raise ModelError(f"the model is no image classifier: its input has shape {shape}")
        for info in (self.input, self.output):
            if info.dtype.kind not in "fiu":
                raise ModelError(f"the model is no image classifier: it has {info.dtype} values")
        if self.input.dtype.kind != "f" and not self.input.is_quantized:
            limits = np.iinfo(self.input.dtype)
            low, high = interpreter.input_range
            if low < limits.min or high > limits.max:
                raise ModelError(
                    f"the model's input is {limits.dtype} without a scale, which cannot hold "
                    f"pixels from {low} to {high}"
                )
        if sum(size > 1 for size in self.output.shape) > 1:
            raise ModelError(
                f"the model is no image classifier: its output has shape {self.output.shape}"
            )
        if self.input.dtype.kind == "f" and "input_range" not in interpreter.metadata:
            print(
                "warning: the file does not tell which values it takes for black and white: 0 and "
                "255 are tried (larq_seresnet.convert writes them down: --input-range)",
                file=sys.stderr,
            )

    def classify(self, path: Path) -> list[dict[str, Any]]:
        _, height, width, channels = self.input.shape
        low, high = self.interpreter.input_range
        image = load_image(path, height, width, channels).astype(np.float32)
        pixels = low + image * ((high - low) / 255)
        if self.input.dtype.kind != "f" and not self.input.is_quantized:  # it takes plain pixels
            pixels = np.rint(pixels).astype(self.input.dtype)
        output = self.interpreter.predict(pixels[np.newaxis])
        scores = np.asarray(dequantize(output, self.output), np.float64).ravel()
        labels = self.interpreter.labels
        if labels and len(labels) != len(scores):
            raise ModelError(f"the file has {len(labels)} labels for {len(scores)} classes")
        is_probability = bool((scores >= 0).all() and abs(scores.sum() - 1) < 0.02)
        return [
            {
                "class": int(index),
                "label": labels[index] if labels else None,
                "score": float(scores[index]) if np.isfinite(scores[index]) else None,
                "is_probability": is_probability,
            }
            for index in np.argsort(-scores, kind="stable")[: self.top]
        ]
