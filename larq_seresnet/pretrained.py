"""Trained networks in small files: those in `larq_seresnet/weights/`, which the wheel holds.

    model = larq_seresnet.models.SEResNet14Bin(weights="cifar10")
    labels = larq_seresnet.pretrained.load("seresnet14_bin-cifar10").metadata["labels"]

A file is named by network and data set, and is a NumPy archive (`.npz`, no pickles) of

    metadata  a JSON object, UTF-8: what builds the network, what it was trained on and how, and
              "weights": name, shape and bits, 1 or 32, of each weight, in the model's order, and
              the "sha256" of the rest
    bits      the 1-bit kernels, one after the other, 8 to a byte: 1 is +1, 0 is -1
    values    the other weights, one after the other, float32

Of a 1-bit kernel the sign alone is stored, which is all that the network computes with: its latent
weights are +1 and -1 when it is loaded, and fine-tuning starts from there.
"""

import hashlib
import io
import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from larq_seresnet import console
from larq_seresnet._tensorflow import tf
from larq_seresnet.architecture import Architecture
from larq_seresnet.files import write_atomically

FOLDER = Path(__file__).parent / "weights"


@dataclass(frozen=True)
class Pretrained:
    """Trained weights, with what they belong to; `models.build` makes a network of them.

    Attributes:
        name: Of the file, for messages.
        architecture: Of their network.
        weights: In the order of the model's.
        metadata: "dataset", "labels", "images" (how many, of each split), "test_error" (top-1, in
            percent, float32), "training" (the command) and "licence" (of the data); empty where
            `.keras` files are read.
    """

    name: str
    architecture: Architecture
    weights: Sequence[np.ndarray]
    metadata: Mapping[str, Any]

    @property
    def call(self) -> str:
        """What one writes to get the network, for one of the package's own files."""
        arguments = {**self.architecture.variant, "weights": self.metadata["dataset"]}
        shown = ", ".join(f"{name}={value!r}" for name, value in arguments.items())
        return f"{self.architecture.builder}({shown})".replace("'", '"')


def names() -> list[str]:
    """The names of the files in the package: `Architecture.name`, a hyphen, the data set's name."""
    return sorted(path.stem for path in FOLDER.glob("*.npz"))


def load(weights: str | Path, network: str = "seresnet14_bin") -> Pretrained:
    """Read trained weights.

    Args:
        weights: One of `names()`, or the part after the hyphen, a data set's name; or the path of
            such a file, or of a network that Keras saved.
        network: The part before the hyphen.

    Raises:
        ValueError: There are no weights of this name.
        OSError: The file is missing or damaged, or holds no network of this package.
    """
    for name in (f"{network}-{weights}", weights):
        if name in names():
            return _read(FOLDER / f"{name}.npz")
    path = Path(weights)
    if not path.exists() and not path.suffix and path.name == weights:
        raise ValueError(
            f"there are no weights {weights!r} for {network}, only: "
            f"{', '.join(names()) or 'none yet'}; or give the path of a .npz or .keras file"
        )
    return _read(path) if path.suffix == ".npz" else _read_keras(path)


def save(path: Path, model: tf.keras.Model, metadata: Mapping[str, Any]) -> None:
    """Write a network's weights and metadata (see `Pretrained`) to a `.npz` file.

    Raises:
        ValueError: The model is no network of this package.
    """
    architecture = Architecture.of(model)
    one_bit = [_is_one_bit(weight) for weight in model.weights]
    arrays = list(zip(one_bit, model.get_weights(), strict=True))
    # A latent weight of 0 counts as +1, as in `ste_sign`.
    signs = [array.ravel() >= 0 for bit, array in arrays if bit]
    others = [array.ravel() for bit, array in arrays if not bit]
    bits = np.packbits(np.concatenate([np.zeros(0, bool), *signs]))
    values = np.concatenate([np.zeros(0), *others]).astype("<f4")
    facts = {
        "builder": architecture.builder,
        "arguments": architecture.arguments,
        **metadata,
        "weights": [
            {"name": weight.name, "shape": list(array.shape), "bits": 1 if bit else 32}
            for weight, (bit, array) in zip(model.weights, arrays, strict=True)
        ],
    }
    facts["sha256"] = _checksum(facts, bits, values)
    text = np.frombuffer(json.dumps(facts).encode(), np.uint8)
    file = io.BytesIO()
    np.savez_compressed(file, metadata=text, bits=bits, values=values)
    write_atomically(path, file.getvalue())


def _is_one_bit(weight: tf.Variable) -> bool:
    return getattr(getattr(weight, "quantizer", None), "precision", 32) == 1


def _read(path: Path) -> Pretrained:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            facts = json.loads(archive["metadata"].tobytes())
            bits, values = archive["bits"], archive["values"]
        if facts.pop("sha256") != _checksum(facts, bits, values):
            raise ValueError("its checksum is another")
        parts = {1: 2 * np.unpackbits(bits).astype(np.float32) - 1, 32: values}
        weights = []
        for entry in facts.pop("weights"):
            size = math.prod(entry["shape"])
            taken, parts[entry["bits"]] = np.split(parts[entry["bits"]], [size])
            weights.append(taken.reshape(entry["shape"]))
        architecture = Architecture.from_arguments(facts.pop("builder"), facts.pop("arguments"))
    except FileNotFoundError:
        raise
    except Exception as error:  # whatever a damaged file makes NumPy and zipfile raise
        raise OSError(f"{path} is no readable file of weights, or damaged: {error}") from error
    return Pretrained(path.stem, architecture, weights, facts)


def _read_keras(path: Path) -> Pretrained:
    try:
        model = tf.keras.models.load_model(path, compile=False)
        architecture = Architecture.of(model)
    except Exception as error:  # whatever a damaged file makes Keras raise
        raise OSError(f"{path} is no readable .keras file of these networks: {error}") from error
    return Pretrained(path.name, architecture, model.get_weights(), {})


def _checksum(facts: Mapping[str, Any], bits: np.ndarray, values: np.ndarray) -> str:
    text = json.dumps(facts, sort_keys=True).encode()
    return hashlib.sha256(text + bits.tobytes() + values.tobytes()).hexdigest()


def table() -> str:
    """What there is, in lines: how to get each network, its error, and the bytes of its weights."""
    rows = [("network", "top-1 error (%)", "kB", "FMB", "test images")]
    for name in names():
        trained = load(name)
        facts = trained.metadata
        rows.append(
            (
                trained.call,
                f"{facts['test_error']:.2f}",
                f"{(FOLDER / f'{name}.npz').stat().st_size / 1000:.0f}",
                "yes" if trained.architecture.fmb else "no",
                f"{facts['images']['test']:,} of {facts['dataset']}",
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command `python -m larq_seresnet.pretrained`; returns the exit status."""
    parser = console.parser("pretrained", "Lists the pretrained networks.")
    return console.run_command(parser, lambda _: print(table()), arguments)


if __name__ == "__main__":
    sys.exit(main())
