"""Keras model in, verified `.tflite` file out."""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import larq_seresnet
from larq_seresnet._tensorflow import lq, tf
from larq_seresnet.convert import converters, exact, fold, graph, keras_models, writer
from larq_seresnet.convert.errors import ConversionError
from larq_seresnet.convert.images import verification_images
from larq_seresnet.convert.pack import pack
from larq_seresnet.convert.runners import run
from larq_seresnet.convert.verify import Reference, Verification

TARGETS = ("lce", "litert")
INPUT_TYPES = ("float32", "uint8")
METADATA = "larq_seresnet"  # the name of the file's metadata entry, a JSON object

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Conversion:
    """A verified file, and what it came from.

    Attributes:
        file: The `.tflite` file.
        unpacked: What the target's own converter wrote.
        model: The Keras model, in float32.
        verification: How the file compares with the model.
        metadata: What the file says about itself.
    """

    file: bytes
    unpacked: bytes
    model: tf.keras.Model
    verification: Verification
    metadata: dict[str, Any]


def convert(
    model: tf.keras.Model,
    target: str = "lce",
    *,
    input_type: str = "float32",
    images: np.ndarray | Sequence[np.ndarray] | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> bytes:
    """Convert a Keras model to a `.tflite` file that holds 1 bit a binary weight.

    The file is run against the model on images and given only if it computes the same: with float
    activations within 1e-4 of the largest logit on every image; with binary activations, where
    rounding flips signs, up to 1 % of the images may deviate (more of large ones, see `verify`).
    Their number is in the metadata.

    Example:
        >>> file = convert(larq_seresnet.models.SEResNet14Bin(weights="cifar10"), "litert")
        >>> pathlib.Path("cifar10.tflite").write_bytes(file)

    Args:
        model: A functional or sequential model that the target's converter takes; it is left as it
            is. Mixed precision is undone.
        target: "lce" for Larq Compute Engine, "litert" for any stock TFLite or LiteRT.
        input_type: "float32" or "uint8": of the file's images, 0 to 255 in both cases.
        images: To verify with, (images, height, width, channels), or a list of one array for each
            input. By default CIFAR-10's test images where they fit and are on disk, otherwise
            synthetic ones.
        metadata: What else the file should say about itself, JSON values: "labels", "dataset" ...

    Raises:
        ConversionError: The model cannot be converted, or its file computes something else; the
            message names the stage after which the outputs differ first.
        ValueError: Unknown `target` or `input_type`.
    """
    return run_conversion(
        model, target, input_type=input_type, images=images, metadata=metadata
    ).file


def run_conversion(
    model: tf.keras.Model,
    target: str,
    *,
    input_type: str = "float32",
    images: np.ndarray | Sequence[np.ndarray] | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> Conversion:
    """`convert`, with all that is known about the file."""
    for name, value, values in (
        ("target", target, TARGETS),
        ("input_type", input_type, INPUT_TYPES),
    ):
        if value not in values:
            raise ValueError(f"{name} must be one of {', '.join(values)}, not {value!r}")
    model = keras_models.in_float32(model)
    binary = _has_binary_activations(model)
    log.info("converting with %s's converter", converters.NAMES[target])
    stages = _stages(model, target, input_type, binary)

    images, kind = verification_images(model, images, dataset=(metadata or {}).get("dataset"))
    log.info("verifying on %d %s images", len(images[0]), kind)
    reference = Reference(model, images, target)
    verification = reference.compare(stages["packing"])
    log.info("%s", verification)
    if not verification.passes(binary):
        stage = next(
            (name for name, file in stages.items() if not reference.compare(file).passes(binary)),
            "packing",
        )
        raise ConversionError(
            f"the file does not compute what the model computes ({verification}); the outputs "
            f"first differ after: {stage}"
        )

    facts = {
        "target": target,
        "version": larq_seresnet.__version__,
        "input_range": [0, 255],
        "input_shape": [int(size) for size in model.inputs[0].shape[1:]],
        **(metadata or {}),
        **_verified(verification, binary, kind),
    }
    final = graph.parse(stages["packing"])
    final.metadata = {METADATA: json.dumps(facts, separators=(",", ":")).encode()}
    file = writer.to_bytes(final)
    few = [x[:10] for x in images]
    outputs = zip(run(file, target, few), run(stages["packing"], target, few), strict=True)
    if not all(np.array_equal(with_metadata, without) for with_metadata, without in outputs):
        raise ConversionError("the file's outputs change with its metadata")
    return Conversion(file, stages[converters.NAMES[target]], model, verification, facts)


def _stages(model: tf.keras.Model, target: str, input_type: str, binary: bool) -> dict[str, bytes]:
    """The file after each stage, by the stage's name."""
    converted = converters.run_converter(model, target)
    work = graph.parse(converted)
    work.metadata.clear()
    fold.fold(work)
    if binary:
        exact.keep_signs(
            work, exact.Constants(keras_models.divisors(model), keras_models.norms(model))
        )
    if input_type == "uint8":
        fold.accept_uint8(work)
    folded = writer.to_bytes(work)
    pack(work, target)
    return {
        converters.NAMES[target]: converted,
        "folding": folded,
        "packing": writer.to_bytes(work),
    }


def _has_binary_activations(model: tf.keras.Model) -> bool:
    return any(
        getattr(module, "input_quantizer", None) is not None
        or isinstance(getattr(module, "activation", None), lq.quantizers.Quantizer)
        for module in model.submodules
    )


def _verified(verification: Verification, binary: bool, kind: str) -> dict[str, Any]:
    facts: dict[str, Any] = {"verified_images": verification.images, "verified_on": kind}
    if binary or verification.deviating:
        facts["deviating_images"] = verification.deviating
    if verification.ties:
        facts["tie_images"] = verification.ties
    return facts
