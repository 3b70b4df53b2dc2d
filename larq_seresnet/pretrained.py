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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from larq_seresnet._tensorflow import tf
from larq_seresnet.files import write_atomically
from larq_seresnet.layers import SqueezeExcite

FOLDER = Path(__file__).parent / "weights"

# They change how a network learns, or which images it takes, but not what its weights compute.
_FREE = {"gradient", "input_shape"}
_FREE_WITH_FMB = _FREE | {"attention_scale"}  # FMB looks at signs alone


@dataclass(frozen=True)
class Pretrained:
    """Trained weights, with what builds their network.

    Attributes:
        name: Of the file, for messages.
        builder: "SEResNet14" or "SEResNet14Bin".
        arguments: The builder's.
        weights: In the order of the model's.
        metadata: "dataset", "labels", "images" (how many, of each split), "test_error" (top-1, in
            percent, float32), "training" (the command) and "licence" (of the data); empty where
            `.keras` files are read.
    """

    name: str
    builder: str
    arguments: Mapping[str, Any]
    weights: Sequence[np.ndarray]
    metadata: Mapping[str, Any]

    def model(self) -> tf.keras.Model:
        """Build the network, under the global precision policy."""
        from larq_seresnet import models  # which imports this module

        model = getattr(models, self.builder)(**self.arguments)
        model.set_weights(self.weights)
        return model

    def give_to(self, model: tf.keras.Model) -> None:
        """Set a model's weights.

        Raises:
            ValueError: It is another network.
        """
        builder, arguments = describe(model)
        if builder != self.builder:
            raise ValueError(f"the weights {self.name} are those of {self.builder}, not {builder}")
        free = _FREE_WITH_FMB if arguments["fmb"] else _FREE
        for name, value in self.arguments.items():
            if name not in free and arguments[name] != value:
                raise ValueError(
                    f"{name}={arguments[name]!r} contradicts the weights {self.name}, "
                    f"which have {name}={value!r}"
                )
        model.set_weights(self.weights)


def names(network: str = "*") -> list[str]:
    """The names of the files in the package, of all networks or of one, such as "seresnet14"."""
    return sorted(path.stem for path in FOLDER.glob(f"{network}-*.npz"))


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
        known = ", ".join(name.partition("-")[2] for name in names(network)) or "none yet"
        raise ValueError(
            f"there are no weights {weights!r} for {network}, only: {known}; "
            "or give the path of a .npz or .keras file"
        )
    return _read(path) if path.suffix == ".npz" else _read_keras(path)


def save(path: Path, model: tf.keras.Model, metadata: Mapping[str, Any]) -> None:
    """Write a network's weights and metadata (see `Pretrained`) to a `.npz` file.

    Raises:
        ValueError: The model is no network of this package.
    """
    builder, arguments = describe(model)
    one_bit = [_is_one_bit(weight) for weight in model.weights]
    arrays = list(zip(one_bit, model.get_weights(), strict=True))
    # A latent weight of 0 counts as +1, as in `ste_sign`.
    signs = [array.ravel() >= 0 for bit, array in arrays if bit]
    others = [array.ravel() for bit, array in arrays if not bit]
    bits = np.packbits(np.concatenate([np.zeros(0, bool), *signs]))
    values = np.concatenate([np.zeros(0), *others]).astype("<f4")
    facts = {
        "builder": builder,
        "arguments": arguments,
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


def describe(model: tf.keras.Model) -> tuple[str, dict[str, Any]]:
    """The builder's name, and the arguments with which it builds the same network.

    Raises:
        ValueError: The model is no network of this package.
    """
    try:
        first, block, dense, standardize = (
            model.get_layer(name) for name in ("conv", "block1_conv1", "dense", "standardize")
        )
        statistics = standardize.get_config()
        attention = next((x for x in model.layers if isinstance(x, SqueezeExcite)), None)
        arguments = {
            "width": first.filters,
            "reduction": attention.reduction if attention else 1,
            "gate": attention.gate if attention else None,
            "attention_scale": attention.scale if attention else False,
            "fmb": attention.fmb.enabled if attention else False,
            "gradient": attention.fmb.gradient if attention else "ste",
            "classes": dense.units,
            "input_shape": list(model.input_shape[1:]),
            "mean": [float(value) for value in statistics["mean"]],
            "variance": [float(value) for value in statistics["variance"]],
        }
        if not first.kernel_quantizer:
            return "SEResNet14", arguments
        activations = "binary" if block.input_quantizer else "float"
        return "SEResNet14Bin", {"activations": activations, **arguments}
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError("the model is no SEResNet14 and no SEResNet14Bin") from error


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
        builder, arguments = facts.pop("builder"), facts.pop("arguments")
    except FileNotFoundError:
        raise
    except Exception as error:  # whatever a damaged file makes NumPy and zipfile raise
        raise OSError(f"{path} is no readable file of weights, or damaged: {error}") from error
    return Pretrained(path.stem, builder, arguments, weights, facts)


def _read_keras(path: Path) -> Pretrained:
    try:
        model = tf.keras.models.load_model(path, compile=False)
        builder, arguments = describe(model)
    except Exception as error:  # whatever a damaged file makes Keras raise
        raise OSError(f"{path} is no readable .keras file of these networks: {error}") from error
    return Pretrained(path.name, builder, arguments, model.get_weights(), {})


def _checksum(facts: Mapping[str, Any], bits: np.ndarray, values: np.ndarray) -> str:
    text = json.dumps(facts, sort_keys=True).encode()
    return hashlib.sha256(text + bits.tobytes() + values.tobytes()).hexdigest()
